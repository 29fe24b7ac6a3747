//! Decodes 148 arbitrary bytes, and checks the invariants of valid requests.
//!
//! ```text
//! cd crates/usbif && RUSTC_BOOTSTRAP=1 cargo fuzz run request -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use vusb_usbif::frontend::encode_submit;
use vusb_usbif::iso;
use vusb_usbif::urb::{Kind, REQUEST_BYTES, Request, RequestWords, Segments, Transfer};

/// Chunks are in order, without gaps, within their pages, and complete.
fn check_segments(segments: &Segments, from: usize, to: usize) {
    let total = segments.len_bytes();
    assert!(total <= 65536);
    let (from, to) = (from.min(total), to.min(total));
    let mut at = from;
    for chunk in segments.chunks(from..to) {
        assert_eq!(chunk.at, at);
        assert!(chunk.length > 0);
        assert!(usize::from(chunk.offset) + usize::from(chunk.length) <= 4096);
        at += usize::from(chunk.length);
    }
    assert_eq!(at, from.max(to));
}

fn check(words: &RequestWords, transfer: &Transfer, cuts: (usize, usize)) {
    assert!((1..=31).contains(&transfer.port.number()));
    assert!(transfer.address < 128 && transfer.endpoint < 16);
    assert!(transfer.len_bytes() <= transfer.data.len_bytes());
    check_segments(&transfer.data, cuts.0, cuts.1);
    let mut segments = transfer.data.as_slice().len();
    if let Kind::Isochronous(isochronous) = &transfer.kind {
        segments += isochronous.descriptors.as_slice().len();
        let packets = usize::from(isochronous.packets);
        assert!(packets <= iso::MAX_PACKETS);
        assert!(packets * iso::DESCRIPTOR_BYTES <= isochronous.descriptors.len_bytes());
        check_segments(&isochronous.descriptors, cuts.0, cuts.1);
    }
    assert!(segments <= 16);
    assert_eq!(matches!(transfer.kind, Kind::Control(_)), transfer.endpoint == 0);

    // Encoded into the same words or into others, it decodes to the same transfer.
    for mut buffer in [*words, RequestWords([0; 37]), RequestWords([u32::MAX; 37])] {
        encode_submit(&mut buffer, words.id(), transfer);
        assert_eq!(buffer.id(), words.id());
        assert_eq!(Request::decode(&buffer), Request::Submit(*transfer));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((bytes, rest)) = input.split_first_chunk::<REQUEST_BYTES>() else { return };
    let words = RequestWords::from_bytes(bytes);
    assert_eq!(&words.to_bytes(), bytes);
    let cut = |at: usize| rest.get(at).map_or(0, |byte| usize::from(*byte) * 257);
    match Request::decode(&words) {
        Request::Submit(transfer) => check(&words, &transfer, (cut(0), cut(1))),
        Request::Unlink { .. } => {}
        Request::Invalid(reason) => assert!(!reason.to_string().is_empty()),
    }
});
