//! Any text is an xl configuration or causes an error with a position. Removing any device gives a
//! text that can be read, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::{ConfigFormat as _, Xl};
use vusb_formats::config::Edit;

fuzz_target!(|text: &str| {
    match Xl.read(text, "fuzz.cfg") {
        Ok(config) => {
            for number in 0..config.spec.devices.len().min(4) {
                if let Ok(edited) = Xl.edit(text, &[Edit::RemoveDevice(number)]) {
                    let left = Xl.read(&edited, "edited.cfg").expect("an edited text can be read");
                    assert_eq!(left.spec.devices.len() + 1, config.spec.devices.len());
                }
            }
        }
        Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
    }
});
