//! Arbitrary messages from the kernel's socket: no panic, and no device that the message does not
//! name.
//!
//! ```text
//! cd crates/host && mkdir -p fuzz/corpus/uevent
//! RUSTC_BOOTSTRAP=1 cargo fuzz run uevent fuzz/corpus/uevent fuzz/uevents -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_host::uevent::{Event, parse};

fuzz_target!(|input: &[u8]| {
    if let Some(Event::Device { bus_id, .. }) = parse(input) {
        let end = format!("/{bus_id}\0");
        assert!(input.windows(end.len()).any(|it| it == end.as_bytes()));
    }
});
