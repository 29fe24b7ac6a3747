//! The codec: how each form of message is decoded, and that no stream of bytes can break it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use vusb_qmp::codec::{Decoder, MAX_DEPTH, encode};
use vusb_qmp::{DecodeError, ErrorClass, Event, Greeting, Limits, Message, Version};

/// The result of decoding some chunks: messages, error, and whether a message is incomplete.
fn decode(chunks: &[&[u8]], limits: Limits) -> (Vec<Message>, Option<DecodeError>, bool) {
    let mut decoder = Decoder::with_limits(limits);
    let mut messages = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error), false),
            }
        }
    }
    (messages, None, decoder.is_partial())
}

/// The one message in `text`.
fn one(text: &str) -> Message {
    let (mut messages, error, partial) = decode(&[text.as_bytes()], Limits::default());
    assert_eq!((messages.len(), error, partial), (1, None, false), "in {text}");
    messages.remove(0)
}

fn error_of(text: &[u8], limits: Limits) -> DecodeError {
    decode(&[text], limits).1.expect("no error")
}

#[test]
fn the_greeting_of_qemu_7_2_is_decoded() {
    let greeting = one(r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7},
            "package": "Debian 1:7.2+dfsg-7+deb12u18"}, "capabilities": ["oob", "brand-new", 5]}}"#);
    let version =
        Version { major: 7, minor: 2, micro: 22, package: "Debian 1:7.2+dfsg-7+deb12u18".into() };
    assert_eq!(version.to_string(), "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)");
    let capabilities = vec!["oob".to_owned(), "brand-new".to_owned()];
    assert_eq!(greeting, Message::Greeting(Greeting { version, capabilities }));
}

#[test]
fn a_success_is_decoded() {
    let value = json!({"enabled": true});
    assert_eq!(
        one(r#"{"return": {"enabled": true}, "id": 3, "brand-new": null}"#),
        Message::Return { id: Some(json!(3)), value }
    );
    assert_eq!(one(r#"{"return": []}"#), Message::Return { id: None, value: json!([]) });
}

#[test]
fn a_failure_is_decoded_with_its_class() {
    let classes = [
        ("GenericError", ErrorClass::GenericError),
        ("CommandNotFound", ErrorClass::CommandNotFound),
        ("DeviceNotActive", ErrorClass::DeviceNotActive),
        ("DeviceNotFound", ErrorClass::DeviceNotFound),
        ("KVMMissingCap", ErrorClass::KvmMissingCap),
        ("BrandNew", ErrorClass::Other("BrandNew".into())),
    ];
    for (name, class) in classes {
        assert_eq!(class.as_str(), name);
        let text = json!({"error": {"class": name, "desc": "no", "x": 1}, "id": 1}).to_string();
        assert_eq!(one(&text), Message::Error { id: Some(json!(1)), class, desc: "no".into() });
    }
}

#[test]
fn a_failure_without_a_description_shows_the_whole_error() {
    let desc = r#"{"code":5}"#.to_owned();
    assert_eq!(
        one(r#"{"error": {"code": 5}}"#),
        Message::Error { id: None, class: ErrorClass::Other(String::new()), desc }
    );
}

#[test]
fn an_unknown_event_is_decoded() {
    let event = one(r#"{"event": "BRAND_NEW", "data": {"x": 1}, "new": [],
            "timestamp": {"seconds": 1700000000, "microseconds": 999999}}"#);
    let timestamp = Some(Duration::new(1_700_000_000, 999_999_000));
    let data = json!({"x": 1});
    assert_eq!(event, Message::Event(Event { name: "BRAND_NEW".into(), data, timestamp }));
}

#[test]
fn an_event_without_data_and_without_a_time_is_decoded() {
    let event = Event { name: "STOP".into(), data: Value::Null, timestamp: None };
    for timestamp in [
        r#"{"seconds": -1, "microseconds": -1}"#,
        r#"{"seconds": 1, "microseconds": 1000000}"#,
        r#"{"seconds": 1, "microseconds": 4294967297}"#,
        r#""now""#,
    ] {
        let text = format!(r#"{{"event": "STOP", "timestamp": {timestamp}}}"#);
        assert_eq!(one(&text), Message::Event(event.clone()));
    }
}

#[test]
fn messages_of_unknown_form_are_kept_unchanged() {
    for value in [
        json!({}),
        json!([1, [2]]),
        json!({"id": 1}),
        json!({"event": 5, "data": {}}),
        json!({"QMP": {"version": "none"}}),
        json!({"execute": "stop", "id": 9}),
    ] {
        assert_eq!(one(&value.to_string()), Message::Unknown(value));
    }
}

#[test]
fn integers_stay_integers() {
    let message = one(r#"{"return": [18446744073709551615, -9223372036854775808, 0, 1.5]}"#);
    let Message::Return { value, .. } = message else { panic!("{message:?}") };
    assert_eq!(value[0].as_u64(), Some(u64::MAX));
    assert_eq!(value[1].as_i64(), Some(i64::MIN));
    assert_eq!(value[2].as_u64(), Some(0));
    assert_eq!(value[3].as_f64(), Some(1.5));
}

#[test]
fn brackets_and_quotes_in_strings_are_text() {
    let value = json!({"}{][": "\"}\\", "\\\"": ["\\\\", "{\n"]});
    let text = json!({"return": value}).to_string();
    assert_eq!(one(&text), Message::Return { id: None, value });
}

#[test]
fn messages_need_no_separator_and_may_contain_line_feeds() {
    let text = "\r\n {\"return\":1}{\"return\":2}\n\n{\r\n  \"return\":\t3\r\n}\r\n";
    let (messages, error, partial) = decode(&[text.as_bytes()], Limits::default());
    let returns = [1, 2, 3].map(|n| Message::Return { id: None, value: json!(n) });
    assert_eq!((messages, error, partial), (returns.to_vec(), None, false));
}

#[test]
fn an_incomplete_message_is_not_returned() {
    for half in ["{", "{\"return\": \"", "{\"return\": \"\\", "[[1]"] {
        assert_eq!(decode(&[half.as_bytes()], Limits::default()), (vec![], None, true));
    }
    assert!(!decode(&[b"{}\n "], Limits::default()).2);
}

#[test]
fn another_program_s_greeting_is_refused_at_its_first_byte() {
    let error = error_of(b"QEMU 7.2.22 monitor - type 'help'", Limits::default());
    assert_eq!(error, DecodeError::NotJson { found: b'Q' });
    assert!(error.to_string().contains("byte 0x51 (`Q`)"), "{error}");
    assert!(error.to_string().contains("not `-monitor`"), "{error}");
    assert_eq!(error_of(b"\xff{}", Limits::default()), DecodeError::NotJson { found: 0xff });
    assert_eq!(error_of(b"{}5", Limits::default()), DecodeError::NotJson { found: b'5' });
}

#[test]
fn matching_brackets_do_not_make_a_message_json() {
    for text in ["{]", "{{}}", "{\"a\" 1}", "[1,]", "{\"return\": \u{1}}", "[\"\n\"]", "[1e999]"] {
        let error = error_of(text.as_bytes(), Limits::default());
        assert!(matches!(error, DecodeError::Malformed { .. }), "{text}: {error:?}");
    }
    assert!(matches!(error_of(b"[\"\xff\"]", Limits::default()), DecodeError::Malformed { .. }));
}

#[test]
fn the_first_error_is_returned_again() {
    let mut decoder = Decoder::new();
    decoder.feed(b"{\"return\": 1} x");
    assert!(decoder.next_message().unwrap().is_some());
    assert_eq!(decoder.next_message(), Err(DecodeError::NotJson { found: b'x' }));
    decoder.feed(b"{\"return\": 2}");
    assert_eq!(decoder.next_message(), Err(DecodeError::NotJson { found: b'x' }));
}

#[test]
fn the_nesting_of_a_message_is_limited() {
    let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let (messages, error, _) = decode(&[&nested(MAX_DEPTH)], Limits::default());
    assert_eq!((messages.len(), error), (1, None));
    let too_deep = DecodeError::TooDeep { limit: MAX_DEPTH };
    assert_eq!(error_of(&nested(MAX_DEPTH + 1), Limits::default()), too_deep);
    assert_eq!(error_of(&b"[".repeat(10_000_000), Limits::default()), too_deep);
}

#[test]
fn the_size_of_a_message_is_limited() {
    let limits = Limits { bytes: 20, ..Limits::default() };
    let message = br#"{"return": "345678"}"#;
    assert_eq!(message.len(), 20);
    // The limit is for each message, not for the stream. White space between messages is not
    // counted.
    let stream = [&message[..], &[b' '; 100], &message[..]].concat();
    let (messages, error, _) = decode(&[&stream], limits);
    assert_eq!((messages.len(), error), (2, None));

    let longer = br#"{"return": "3456789"}"#;
    assert_eq!(error_of(longer, limits), DecodeError::TooLarge { limit: 20 });
}

#[test]
fn an_endless_message_ends_in_an_error() {
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let mut decoder = Decoder::with_limits(limits);
    decoder.feed(b"{\"return\": \"");
    let mut fed = 0;
    let error = loop {
        assert!(fed <= 2 << 20, "no error after 2 MiB");
        decoder.feed(&[b'a'; 4096]);
        fed += 4096;
        if let Err(error) = decoder.next_message() {
            break error;
        }
    };
    assert_eq!(error, DecodeError::TooLarge { limit: 1 << 20 });
}

#[test]
fn an_endless_list_of_small_values_is_rejected_early() {
    let limits = Limits { marks: 1000, ..Limits::default() };
    let zeros = |count: usize| format!("[{}0]", "0,".repeat(count - 1)).into_bytes();
    assert_eq!(decode(&[&zeros(1000)], limits).0.len(), 1);
    assert_eq!(error_of(&zeros(1001), limits), DecodeError::TooManyValues { limit: 1000 });
    // Each message is counted from zero.
    assert_eq!(decode(&[&zeros(1000), &zeros(1000)], limits).0.len(), 2);
}

#[test]
fn eight_megabytes_in_small_chunks_are_decoded_in_linear_time() {
    let text = json!({"return": "x".repeat(8 << 20)}).to_string();
    let start = std::time::Instant::now();
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(16).collect();
    assert_eq!(decode(&chunks, Limits::default()).0.len(), 1);
    // Half a million feeds: a scan from the start for each would take hours.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn the_size_of_a_message_is_that_of_its_json() {
    let mut decoder = Decoder::new();
    decoder.feed(b"  {\"return\":1}\r\n{}");
    decoder.next_message().unwrap();
    assert_eq!(decoder.last_message_bytes(), 12);
    decoder.next_message().unwrap();
    assert_eq!(decoder.last_message_bytes(), 2);
}

#[test]
fn a_command_is_one_line() {
    let bytes = encode(7, "device_del", &json!({"id": "a\nb"}));
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value, json!({"execute": "device_del", "arguments": {"id": "a\nb"}, "id": 7}));

    let value: Value = serde_json::from_slice(&encode(8, "stop", &Value::Null)).unwrap();
    assert_eq!(value, json!({"execute": "stop", "id": 8}));
}

/// Any JSON, as deep as real payloads. Without floats, because they may be rounded.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        r#"[\\"{}\[\],:]{0,8}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Text that is mostly QMP, sometimes damaged.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let message = prop_oneof![
        (any_json(), any::<u64>())
            .prop_map(|(value, id)| json!({"return": value, "id": id}).to_string()),
        any_json().prop_map(|data| json!({"event": "E", "data": data}).to_string()),
        any_json().prop_map(|value| format!("{:#}", json!({"other": value}))),
        any::<String>().prop_map(|desc| json!({"error": {"desc": desc}}).to_string()),
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just(""), Just(" \t")];
    let part = prop_oneof![
        20 => (message, end).prop_map(|(message, end)| (message + end).into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => r#"[\\"{}\[\],: ]{0,8}"#.prop_map(String::into_bytes),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// `bytes` split at the given positions.
fn split<'a>(bytes: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut positions: Vec<usize> = at.iter().map(|at| at.index(bytes.len() + 1)).collect();
    positions.sort_unstable();
    let mut chunks = Vec::new();
    let mut rest = bytes;
    let mut done = 0;
    for position in positions {
        let (chunk, after) = rest.split_at(position - done);
        chunks.push(chunk);
        (rest, done) = (after, position);
    }
    chunks.push(rest);
    chunks
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_how_the_stream_is_split(
        stream in any_stream(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let limits = Limits { bytes: 200, marks: 20 };
        let (whole, chunks) = ([&stream[..]], split(&stream, &at));
        prop_assert_eq!(decode(&whole, limits), decode(&chunks, limits));
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        let limits = Limits::default();
        prop_assert_eq!(decode(&whole, limits), decode(&single, limits));
    }

    #[test]
    fn any_command_can_be_decoded(id: u64, command: String, arguments in any_json()) {
        let bytes = encode(id, &command, &arguments);
        let mut expected = json!({"execute": command, "id": id});
        if !arguments.is_null() {
            expected["arguments"] = arguments;
        }
        let (messages, error, partial) = decode(&[&bytes], Limits::default());
        prop_assert_eq!(messages, vec![Message::Unknown(expected)]);
        prop_assert_eq!((error, partial), (None, false));
    }

    #[test]
    fn any_answer_and_any_event_is_decoded_exactly(value in any_json(), id in any_json()) {
        let text = json!({"return": value, "id": id}).to_string();
        prop_assert_eq!(one(&text), Message::Return { id: Some(id), value: value.clone() });
        let text = json!({"event": "E", "data": value}).to_string();
        let event = Event { name: "E".into(), data: value, timestamp: None };
        prop_assert_eq!(one(&text), Message::Event(event));
    }

    #[test]
    fn random_bytes_never_panic(stream in prop::collection::vec(any::<u8>(), 0..300)) {
        decode(&[&stream], Limits { bytes: 100, marks: 10 });
    }

    #[test]
    fn random_brackets_and_quotes_never_panic(stream in r#"[\\"{}\[\],:0 ]{0,300}"#) {
        decode(&[stream.as_bytes()], Limits { bytes: 100, marks: 10 });
    }
}
