//! Any text is a file of VirtualBox or causes an error with a position. An empty edit changes
//! nothing. If the machine has no saved state, USB can be turned off unless the file is of an old
//! version and incomplete.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::{ConfigFormat as _, Vbox};
use vusb_formats::config::Edit;

fuzz_target!(|text: &str| {
    match Vbox.read(text, "fuzz.vbox") {
        Ok(_) => {
            assert_eq!(Vbox.edit(text, &[]).as_deref(), Ok(text));
            if let Ok(none) = Vbox.edit(text, &[Edit::NoUsb]) {
                assert!(Vbox.read(&none, "edited.vbox").expect("an edited text can be read").controllers.is_empty());
            }
        }
        Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
    }
});
