//! However a stream is split into chunks, decoding does not panic, and returns the same messages
//! and the same error as decoding the whole stream at once.
//!
//! The input consists of chunk lengths and the stream: byte 0 is their number, and each of the
//! following bytes is one length. The limits are small, so that the fuzzer reaches them.
//!
//! ```text
//! cd crates/qmp && RUSTC_BOOTSTRAP=1 cargo fuzz run decoder -- -max_total_time=60 -dict=fuzz/qmp.dict
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_qmp::codec::{Decoder, Limits, Message};
use vusb_qmp::DecodeError;

const LIMITS: Limits = Limits { bytes: 256, marks: 64 };

/// All messages, the error, and whether a message is incomplete.
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
