//! Any text is a device tree with hardware in it that is sound, or none: a guest's devices and the host's put strings of their
//! own into what QEMU prints.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| vusb_drivers::qemu::fuzzing::tree(text));
