//! Any text is a QEMU command line or causes an error with a position.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_formats::{ConfigFormat as _, QemuArgs};

fuzz_target!(|text: &str| {
    let expanded = QemuArgs.expanded(text.to_owned(), &|_| Some("[machine]\n usb = \"on\"\n".to_owned()));
    for text in [text, expanded.as_str()] {
        match QemuArgs.read(text, "fuzz.args") {
            Ok(config) => assert!(config.spec.devices.is_empty()),
            Err(error) => assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty()),
        }
    }
});
