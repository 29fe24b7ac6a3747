//! Any text is a VMX file or causes an error with a position. An empty edit changes nothing, and
//! USB can be turned off.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::{ConfigFormat as _, Vmx};
use vusb_formats::config::Edit;

fuzz_target!(|text: &str| {
    match Vmx.read(text, "fuzz.vmx") {
        Ok(_) => {
            assert_eq!(Vmx.edit(text, &[]).as_deref(), Ok(text));
            let none = Vmx.edit(text, &[Edit::NoUsb]).expect("USB can be turned off in any file");
            assert!(Vmx.read(&none, "edited.vmx").expect("an edited text can be read").controllers.is_empty());
        }
        Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
    }
});
