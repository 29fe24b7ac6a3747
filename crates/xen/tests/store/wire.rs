//! Encoding and decoding messages.

use proptest::prelude::*;
use vusb_xen::store::wire::{DecodeError, Decoder, HEADER_BYTES, Kind, MAX_PAYLOAD, Message};

fn message() -> impl Strategy<Value = Message> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (kind, any::<u32>(), any::<u32>(), payload).prop_map(|(kind, request, transaction, payload)| {
        Message { kind, request, transaction, payload }
    })
}

/// All messages of a stream that arrives in chunks of these lengths, and the error that ends it.
fn decode(stream: &[u8], cuts: &[usize]) -> (Vec<Message>, Option<DecodeError>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    let mut left = stream;
    let mut cuts = cuts.iter();
    while !left.is_empty() {
        let length = cuts.next().map_or(left.len(), |length| (*length).clamp(1, left.len()));
        decoder.feed(&left[..length]);
        left = &left[length..];
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

proptest! {
    #[test]
    fn encoded_messages_are_decoded_from_chunks_of_any_size(
        messages in prop::collection::vec(message(), 0..8),
        cuts in prop::collection::vec(1_usize..64, 0..64),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| message.encode().unwrap()).collect();
        prop_assert_eq!(decode(&stream, &cuts), (messages, None));
    }

    #[test]
    fn the_size_of_chunks_does_not_change_the_result(
        stream in prop::collection::vec(prop_oneof![3 => 0_u8..24, 1 => any::<u8>()], 0..600),
        cuts in prop::collection::vec(1_usize..64, 0..64),
    ) {
        prop_assert_eq!(decode(&stream, &cuts), decode(&stream, &[]));
    }
}

#[test]
fn the_layout_is_that_of_xs_wire_h() {
    let message =
        Message { kind: Kind::Read, request: 1, transaction: 2, payload: b"/a\0".to_vec() };
    let bytes = [2_u32, 1, 2, 3].map(u32::to_ne_bytes).concat();
    assert_eq!(message.encode().unwrap(), [&bytes[..], b"/a\0"].concat());
}

#[test]
fn the_length_of_a_message_is_limited() {
    let long = |bytes| Message {
        kind: Kind::Write,
        request: 1,
        transaction: 0,
        payload: vec![b'x'; bytes],
    };
    let whole = long(MAX_PAYLOAD).encode().unwrap();
    assert_eq!(whole.len(), HEADER_BYTES + MAX_PAYLOAD);
    assert_eq!(decode(&whole, &[]).0.len(), 1);
    assert!(long(MAX_PAYLOAD + 1).encode().is_err());
    let header = [11_u32, 1, 0, 4097].map(u32::to_ne_bytes).concat();
    assert_eq!(decode(&header, &[]).1, Some(DecodeError::Length(4097)));
    let header = [99_u32, 1, 0, 0].map(u32::to_ne_bytes).concat();
    assert_eq!(decode(&header, &[]).1, Some(DecodeError::Type(99)));
}
