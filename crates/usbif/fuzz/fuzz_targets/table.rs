//! Parses arbitrary packet tables: each accepted packet lies within the data, and together they are
//! at most as long as the data.
//!
//! An input consists of the number of packets, the length of the data (16 bits each), and the
//! table.
//!
//! ```text
//! cd crates/usbif && RUSTC_BOOTSTRAP=1 cargo fuzz run table -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_usbif::iso::{self, Packets};

fuzz_target!(|input: &[u8]| {
    let Some(([a, b, c, d], table)) = input.split_first_chunk() else { return };
    let packets = u16::from_le_bytes([*a, *b]);
    let data = usize::from(u16::from_le_bytes([*c, *d])) + 1;
    let Ok(parsed) = Packets::parse(table, packets, data) else { return };

    assert_eq!(parsed.as_slice().len(), usize::from(packets));
    let mut total = 0;
    for (index, packet) in parsed.as_slice().iter().enumerate() {
        let range = packet.range();
        assert!(range.start <= range.end && range.end <= data);
        total += range.len();
        let result = iso::result_range(index);
        assert_eq!(result.len(), iso::RESULT_BYTES);
        assert!(result.end <= table.len());
    }
    assert!(total <= data);
});
