//! Any text is a VMX file or an error that shows a place in it; no change leaves it as it is, and without USB it has none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::Format;
use vusb_formats::config::Edit;

fuzz_target!(|text: &str| {
    match Format::Vmx.read(text, "fuzz.vmx") {
        Ok(_) => {
            assert_eq!(Format::Vmx.edit(text, &[]).as_deref(), Ok(text));
            let none = Format::Vmx.edit(text, &[Edit::NoUsb]).expect("any file can go without USB");
            assert!(Format::Vmx.read(&none, "edited.vmx").expect("it can be read").controllers.is_empty());
        }
        Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
    }
});
