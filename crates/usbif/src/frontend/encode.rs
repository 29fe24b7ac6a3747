//! Encodes requests as `xen-hcd` does: over the previous contents of the buffer, without clearing
//! the unused parts.

use crate::urb::pipe::{
    ADDRESS_SHIFT, BULK, CONTROL, ENDPOINT_SHIFT, IN, INTERRUPT, ISOCHRONOUS, TYPE_SHIFT, UNLINK,
};
use crate::urb::{Direction, Kind, RequestWords, SHORT_NOT_OK, Segments, Transfer};

/// Writes a transfer with this id into `words`.
pub fn encode_submit(words: &mut RequestWords, id: u16, transfer: &Transfer) {
    let data = transfer.data.as_slice().len();
    words.0[0] = u32::from(id) | (data as u32) << 16;
    words.0[1] = pipe(transfer);
    let flags = if transfer.short_not_ok { SHORT_NOT_OK } else { 0 };
    // `buffer_length` has 16 bits: 65536 becomes 0.
    words.0[2] = flags | (transfer.data.len_bytes() as u32) << 16;
    match transfer.kind {
        Kind::Control(setup) => {
            let [a, b, c, d, e, f, g, h] = setup.to_bytes();
            words.0[3] = u32::from_le_bytes([a, b, c, d]);
            words.0[4] = u32::from_le_bytes([e, f, g, h]);
        }
        Kind::Bulk => {}
        Kind::Interrupt { interval } => {
            words.0[3] = words.0[3] & 0xffff_0000 | u32::from(interval);
        }
        Kind::Isochronous(iso) => {
            let segments = iso.descriptors.as_slice().len();
            words.0[3] = u32::from(iso.interval) | u32::from(iso.start_frame) << 16;
            words.0[4] = u32::from(iso.packets) | (segments as u32) << 16;
            encode_segments(words, data, &iso.descriptors);
        }
    }
    encode_segments(words, 0, &transfer.data);
}

/// Writes an unlink of `target` into `words`, on the same pipe as `transfer`.
pub fn encode_unlink(words: &mut RequestWords, id: u16, target: u16, transfer: &Transfer) {
    words.0[0] = words.0[0] & 0xffff_0000 | u32::from(id);
    words.0[1] = pipe(transfer) | UNLINK;
    words.0[3] = words.0[3] & 0xffff_0000 | u32::from(target);
}

/// The pipe word of a transfer: type, port, address, endpoint and direction.
fn pipe(transfer: &Transfer) -> u32 {
    let kind = match transfer.kind {
        Kind::Isochronous(_) => ISOCHRONOUS,
        Kind::Interrupt { .. } => INTERRUPT,
        Kind::Control(_) => CONTROL,
        Kind::Bulk => BULK,
    };
    let direction = if transfer.direction == Direction::In { IN } else { 0 };
    u32::from(transfer.port.number())
        | direction
        | u32::from(transfer.address) << ADDRESS_SHIFT
        | u32::from(transfer.endpoint) << ENDPOINT_SHIFT
        | kind << TYPE_SHIFT
}

/// Writes segments into the segment slots from `first` on. Segments that do not fit are omitted.
fn encode_segments(words: &mut RequestWords, first: usize, segments: &Segments) {
    let pairs = words.0.split_at_mut(5).1.chunks_exact_mut(2);
    for (pair, segment) in pairs.skip(first).zip(segments.as_slice()) {
        let range = u32::from(segment.offset) | u32::from(segment.length) << 16;
        pair.copy_from_slice(&[segment.gref, range]);
    }
}
