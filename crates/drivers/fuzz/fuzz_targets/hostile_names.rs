//! Host devices with product strings of any 31 bytes neither hide a device nor move one, unless
//! QEMU's device tree and its object model are found to contradict each other.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vusb_drivers::qemu::fuzzing::hostile(data).unwrap());
