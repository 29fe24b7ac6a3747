//! Any text is a rule file or causes an error with a position.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::rules::read;

fuzz_target!(|text: &str| {
    match read(text, "fuzz.toml") {
        Ok(file) => assert_eq!(file.rules.len(), file.names.len()),
        Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
    }
});
