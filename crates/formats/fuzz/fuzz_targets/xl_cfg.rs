//! Any text is a configuration of xl's or an error that shows a place in it; what is read is resolved or refused, and any of its
//! devices can be taken out, or it is said why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::Format;
use vusb_formats::config::Edit;

fuzz_target!(|text: &str| {
    match Format::Xl.read(text, "fuzz.cfg") {
        Ok(config) => {
            for number in 0..config.spec.devices.len().min(4) {
                if let Ok(edited) = Format::Xl.edit(text, &[Edit::RemoveDevice(number)]) {
                    let left = Format::Xl.read(&edited, "edited.cfg").expect("what was edited is read");
                    assert_eq!(left.spec.devices.len() + 1, config.spec.devices.len());
                }
            }
        }
        Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
    }
});
