//! Arbitrary descriptors of a SuperSpeed device: no panic, and the converted ones are complete, not
//! longer, and unchanged by a second conversion. Converts the input as a whole and each
//! configuration in it.
//!
//! ```text
//! cd crates/host && mkdir -p fuzz/corpus/high_speed
//! RUSTC_BOOTSTRAP=1 cargo fuzz run high_speed fuzz/corpus/high_speed fuzz/seeds -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_host::descriptors::as_high_speed;

fn check(raw: &[u8]) {
    let Some(converted) = as_high_speed(raw) else { return };
    assert!(converted.len() <= raw.len());
    assert_eq!(as_high_speed(&converted).as_deref(), Some(&converted[..]));
    if converted[1] == 2 {
        let total = u16::from_le_bytes([converted[2], converted[3]]);
        assert_eq!(usize::from(total), converted.len());
    }
}

fuzz_target!(|input: &[u8]| {
    check(input);
    // As a device descriptor followed by configurations.
    let Some((device, mut rest)) = input.split_at_checked(18) else { return };
    check(device);
    while let [_, _, low, high, ..] = *rest {
        let total = usize::from(u16::from_le_bytes([low, high]));
        let Some((configuration, following)) = rest.split_at_checked(total.max(1)) else { break };
        check(configuration);
        rest = following;
    }
});
