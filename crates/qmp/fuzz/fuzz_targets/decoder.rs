//! Whatever the peer sends, however the socket cuts it: no panic, and the same messages and the same
//! error as when it comes in one piece.
//!
//! Each input is the cuts, then the stream: byte 0 is the number of cuts, each of the following bytes
//! the length of a chunk. Limits are small, so that the fuzzer finds them.
//!
//! ```text
//! cd crates/qmp && RUSTC_BOOTSTRAP=1 cargo fuzz run decoder -- -max_total_time=60 -dict=fuzz/qmp.dict
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_qmp::codec::{Decoder, Limits, Message};
use vusb_qmp::DecodeError;

const LIMITS: Limits = Limits { bytes: 256, marks: 64 };

/// All messages, the error that ended them, and whether one was left half in.
type Outcome = (Vec<Message>, Option<DecodeError>, bool);

fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::with_limits(LIMITS);
    let mut messages = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    assert!(decoder.last_message_bytes() <= LIMITS.bytes);
                    messages.push(message);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_message(), Err(error.clone()));
                    return (messages, Some(error), false);
                }
            }
        }
    }
    (messages, None, decoder.is_partial())
}

fuzz_target!(|input: &[u8]| {
    let Some((count, rest)) = input.split_first() else { return };
    let (cuts, stream) = rest.split_at(usize::from(*count).min(rest.len()));

    let mut left = stream;
    let mut lengths = cuts.iter();
    let chunks = std::iter::from_fn(|| {
        if left.is_empty() {
            return None;
        }
        let length = lengths.next().map_or(left.len(), |length| usize::from(*length));
        let (chunk, after) = left.split_at(length.min(left.len()));
        left = after;
        Some(chunk)
    });
    assert_eq!(decode(chunks), decode(std::iter::once(stream)));
});
