//! The codec: how messages and values are encoded, and that no stream of bytes can break it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use vusb_libvirt::codec::{DecodeError, Decoder, MAX_MESSAGE, Message, MessageType, Status};
use vusb_libvirt::protocol::{self, Domain, Event, Lifecycle, RemoteError, Uuid, procedure};
use vusb_libvirt::xdr::{MAX_STRING, Reader, Writer};

/// All messages in some chunks, the error, and whether a message is incomplete.
fn decode<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<DecodeError>, bool) {
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

fn web1() -> Domain {
    let uuid = Uuid::parse("2f529084-7866-48ed-afc4-ec721375d888").unwrap();
    Domain { name: "web1".to_owned(), uuid, id: 7 }
}

/// The first bytes that libvirt's own client sends.
#[test]
fn a_call_is_laid_out_as_libvirt_expects_it() {
    let bytes = Message::call(protocol::REMOTE, procedure::AUTH_LIST, 1, Vec::new()).encode();
    let expected = [
        0, 0, 0, 28, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0, 0, 66, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        0,
    ];
    assert_eq!(bytes.unwrap(), expected);
}

#[test]
fn values_are_padded_to_four_bytes() {
    let bytes =
        Writer::new().string("web1x").option(Some(7), Writer::i32).option(None, Writer::i32);
    let bytes = bytes.into_bytes();
    assert_eq!(bytes, b"\0\0\0\x05web1x\0\0\0\0\0\0\x01\0\0\0\x07\0\0\0\0");
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.string("it").unwrap(), "web1x");
    assert_eq!(reader.option("it", |it| it.i32("it")), Ok(Some(7)));
    assert_eq!(reader.option("it", |it| it.i32("it")), Ok(None));
    assert_eq!(reader.u32("it"), Err(DecodeError::Short { what: "it" }));
}

#[test]
fn lengths_are_bounded_before_memory_is_allocated() {
    for length in [0, 27, u32::try_from(MAX_MESSAGE).unwrap() + 1, u32::MAX] {
        let (_, error, _) = decode([&length.to_be_bytes()[..]]);
        assert_eq!(error, Some(DecodeError::Length { found: length }));
    }
    let long = u32::try_from(MAX_STRING).unwrap() + 1;
    let bytes = Writer::new().u32(long).into_bytes();
    assert!(matches!(Reader::new(&bytes).string("it"), Err(DecodeError::TooLong { .. })));
    let bytes = Writer::new().u32(u32::MAX).into_bytes();
    assert!(matches!(
        Domain::read_list(&mut Reader::new(&bytes)),
        Err(DecodeError::TooLong { .. })
    ));
    // A list that claims many items and has none.
    let bytes = Writer::new().u32(16_384).into_bytes();
    assert!(matches!(Domain::read_list(&mut Reader::new(&bytes)), Err(DecodeError::Short { .. })));
}

#[test]
fn an_unknown_header_is_an_error_before_the_payload_has_arrived() {
    let mut bytes = Message::call(protocol::REMOTE, 1, 1, vec![0; 100]).encode().unwrap();
    bytes.truncate(28);
    bytes[19] = 9;
    assert_eq!(decode([&bytes[..]]).1, Some(DecodeError::Type { found: 9 }));
    bytes[19] = 1;
    bytes[27] = 3;
    assert_eq!(decode([&bytes[..]]).1, Some(DecodeError::Status { found: 3 }));
}

#[test]
fn an_error_keeps_libvirts_message() {
    let text = "Domain not found: no domain with matching name 'web9'";
    let bytes = Writer::new().i32(42).i32(10).option(Some(text), |it, text| it.string(text));
    // What follows in a real error is not read.
    let bytes = bytes.i32(2).option(None::<i32>, Writer::i32).into_bytes();
    let error = RemoteError::read(&mut Reader::new(&bytes)).unwrap();
    assert_eq!((error.code, error.domain, error.to_string().as_str()), (42, 10, text));
    let bytes = Writer::new().i32(7).i32(0).u32(0).into_bytes();
    let error = RemoteError::read(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(error.message, "error 7");
}

#[test]
fn events_of_each_kind_are_read() {
    let head = || web1().write(Writer::new().i32(3));
    let lifecycle = head().i32(2).i32(0).into_bytes();
    assert_eq!(
        Event::read(procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE, &lifecycle),
        Ok(Some(Event::Lifecycle { domain: web1(), event: Lifecycle::Started, detail: 0 }))
    );
    let device = head().string("ua-stick").into_bytes();
    let alias = "ua-stick".to_owned();
    assert_eq!(
        Event::read(procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED, &device),
        Ok(Some(Event::DeviceRemoved { domain: web1(), alias }))
    );
    assert_eq!(Event::read(9999, &device), Ok(None));
    assert!(Event::read(procedure::DOMAIN_EVENT_CALLBACK_DEVICE_ADDED, &device[..9]).is_err());
}

#[test]
fn uuids_have_their_usual_form() {
    let text = "2f529084-7866-48ed-afc4-ec721375d888";
    assert_eq!(Uuid::parse(text).unwrap().to_string(), text);
    assert_eq!(Uuid::parse(&text.to_uppercase()), Uuid::parse(text));
    for wrong in [
        "",
        "web1",
        "2f529084-7866-48ed-afc4-ec721375d88",
        "2f5290847866-48ed-afc4-ec721375d888-",
        "+f529084-7866-48ed-afc4-ec721375d888",
        "2f529084-7866-48ed-afc4-ec721375d88\u{e9}",
    ] {
        assert_eq!(Uuid::parse(wrong), None, "{wrong}");
    }
}

fn message() -> impl Strategy<Value = Message> {
    let kind =
        prop_oneof![Just(MessageType::Call), Just(MessageType::Reply), Just(MessageType::Event)];
    let status = prop_oneof![Just(Status::Ok), Just(Status::Error)];
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (any::<u32>(), any::<i32>(), kind, any::<u32>(), status, payload).prop_map(
        |(program, procedure, kind, serial, status, payload)| Message {
            program,
            version: 1,
            procedure,
            kind,
            serial,
            status,
            payload,
        },
    )
}

proptest! {
    #[test]
    fn messages_are_decoded_however_the_stream_is_split(
        messages in prop::collection::vec(message(), 1..6),
        size in 1_usize..64,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|it| it.encode().unwrap()).collect();
        prop_assert_eq!(decode(bytes.chunks(size)), (messages, None, false));
    }

    #[test]
    fn no_bytes_break_the_decoder(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        size in 1_usize..64,
    ) {
        prop_assert_eq!(decode(bytes.chunks(size)), decode([&bytes[..]]));
    }

    #[test]
    fn no_payload_breaks_a_reader(
        payload in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..300),
        number in prop_oneof![Just(318), Just(333), Just(354), Just(362), Just(367), any::<i32>()],
    ) {
        let reader = || Reader::new(&payload);
        let _ = Event::read(number, &payload);
        let _ = RemoteError::read(&mut reader());
        let _ = Domain::read_list(&mut reader());
        let _ = protocol::read_auth_types(&mut reader());
        let _ = reader().string("it");
    }

    #[test]
    fn domains_are_read_back(name in ".{0,40}", uuid in any::<[u8; 16]>(), id in any::<i32>()) {
        let domain = Domain { name, uuid: Uuid(uuid), id };
        let bytes = domain.write(Writer::new()).into_bytes();
        prop_assert_eq!(Domain::read(&mut Reader::new(&bytes)), Ok(domain.clone()));
        prop_assert_eq!(Uuid::parse(&domain.uuid.to_string()), Some(domain.uuid));
    }
}
