//! Whatever a SuperSpeed device says of itself: no panic, and what is shown is whole, no longer, and the same when it is shown again.
//! What is tried is the input as it is, and each configuration in it.
//!
//! ```text
//! cd crates/host && mkdir -p fuzz/corpus/high_speed
//! RUSTC_BOOTSTRAP=1 cargo fuzz run high_speed fuzz/corpus/high_speed fuzz/seeds -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_host::descriptors::as_high_speed;

fn holds(raw: &[u8]) {
    let Some(shown) = as_high_speed(raw) else { return };
    assert!(shown.len() <= raw.len());
    assert_eq!(as_high_speed(&shown).as_deref(), Some(&shown[..]));
    if shown[1] == 2 {
        assert_eq!(usize::from(u16::from_le_bytes([shown[2], shown[3]])), shown.len());
    }
}

fuzz_target!(|input: &[u8]| {
    holds(input);
    // As a device descriptor with configurations behind it.
    let Some((device, mut rest)) = input.split_at_checked(18) else { return };
    holds(device);
    while let [_, _, low, high, ..] = *rest {
        let total = usize::from(u16::from_le_bytes([low, high]));
        let Some((configuration, behind)) = rest.split_at_checked(total.max(1)) else { break };
        holds(configuration);
        rest = behind;
    }
});
