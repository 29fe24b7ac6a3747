//! Assembling hardware from any text does not panic. QEMU's output contains strings from devices of
//! the guest and of the host.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| vusb_drivers::qemu::fuzzing::tree(text));
