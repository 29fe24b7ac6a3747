//! However a stream is split into chunks, decoding does not panic, and returns the same messages
//! and the same error as decoding the whole stream at once. No payload makes a reader panic.
//!
//! The input consists of chunk lengths and the stream: byte 0 is their number, and each of the
//! following bytes is one length.
//!
//! ```text
//! cd crates/libvirt && RUSTC_BOOTSTRAP=1 cargo fuzz run decoder -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_libvirt::DecodeError;
use vusb_libvirt::codec::{Decoder, Message};
use vusb_libvirt::protocol::{self, Domain, Event, RemoteError};
use vusb_libvirt::xdr::Reader;

/// All messages, the error, and whether a message is incomplete.
type Outcome = (Vec<Message>, Option<DecodeError>, bool);

fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
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
    let whole = decode(std::iter::once(stream));
    assert_eq!(decode(chunks), whole);
    for message in whole.0 {
        let reader = || Reader::new(&message.payload);
        let _ = Event::read(message.procedure, &message.payload);
        let _ = RemoteError::read(&mut reader());
        let _ = Domain::read_list(&mut reader());
        let _ = protocol::read_auth_types(&mut reader());
        let _ = reader().string("a string");
        assert!(message.encode().is_some());
    }
});
