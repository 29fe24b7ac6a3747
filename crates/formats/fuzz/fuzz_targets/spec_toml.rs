//! Any text is a spec or causes an error with a position. A spec that is written reads back
//! unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::spec::{read, write};

fuzz_target!(|text: &str| {
    match read(text, "fuzz.toml") {
        Ok(file) => assert_eq!(read(&write(&file), "written.toml"), Ok(file)),
        Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
    }
});
