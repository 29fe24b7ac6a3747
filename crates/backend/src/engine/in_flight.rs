//! Transfers in flight: how they are built from requests, and how their results become responses.
//!
//! ```text
//!   requests ─prepare─▶ Urb + InFlight ─submit─▶ device
//!            (writes: copy in)
//!   device ─reap─▶ Completion + InFlight ─finish─▶ answers
//!                                        (reads: copy out)
//! ```

use vusb_host::usbfs::{
    Buffer, Completion, Flags, Kind as UsbKind, Packet as UsbPacket, Status as UsbStatus, Urb,
};
use vusb_usbif::iso::{self, PacketResult, Packets};
use vusb_usbif::urb::{Direction, Isochronous, Kind, Response, Segments, Setup, Status};

use super::control_policy;
use super::port::Pending;
use super::queue::{Item as _, split_bytes};
use super::usb::{BadMemory, Memory, Piece};

/// Length of a setup packet in bytes.
const SETUP: usize = 8;
/// Bit 7 of an endpoint address: from the device to the host.
pub(super) const IN: u8 = 0x80;

/// A submitted transfer, with the requests that it carries out.
#[derive(Debug)]
pub(super) enum InFlight {
    /// A control request.
    Control(Pending, Setup),
    /// Requests of one bulk or interrupt endpoint, and whether the endpoint is blocked until it is
    /// done.
    Data { endpoint: u8, items: Vec<Pending>, blocks_endpoint: bool },
    /// An isochronous request, and its packets as the guest laid them out.
    Iso(Pending, Isochronous, Box<Packets>),
}

impl InFlight {
    pub(super) fn items_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        let (one, many) = match self {
            InFlight::Control(item, _) | InFlight::Iso(item, ..) => (Some(item), None),
            InFlight::Data { items, .. } => (None, Some(items.iter_mut())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn into_items(self) -> Vec<Pending> {
        match self {
            InFlight::Control(item, _) | InFlight::Iso(item, ..) => vec![item],
            InFlight::Data { items, .. } => items,
        }
    }
}

/// A request and its response.
pub(super) type Answer = (Pending, Response);

/// The result of a completed transfer.
#[derive(Default)]
pub(super) struct Finished {
    /// The answers, in the order of the requests.
    pub(super) answers: Vec<Answer>,
    /// Requests that were cancelled only because they were merged with a cancelled one. They have
    /// to be submitted again.
    pub(super) resubmit: Vec<Pending>,
    /// The transfer was a read that succeeded and ended short.
    pub(super) ended_short: bool,
}

/// A list of pieces of the guest's memory, kept to avoid an allocation per transfer.
#[derive(Default)]
pub(super) struct Scratch {
    pieces: Vec<Piece>,
}

impl Scratch {
    /// Adds the bytes `range` of a transfer's memory. In the buffer, they start at `at`.
    fn add(&mut self, segments: &Segments, range: std::ops::Range<usize>, at: usize) {
        let start = range.start;
        self.pieces.extend(segments.chunks(range).map(|chunk| Piece {
            gref: chunk.gref,
            offset: chunk.offset,
            length: chunk.length,
            buffer_offset: at + (chunk.at - start),
        }));
    }

    fn read<M: Memory>(&mut self, memory: &mut M, into: &mut [u8]) -> Result<(), BadMemory> {
        let result = if self.pieces.is_empty() { Ok(()) } else { memory.read(&self.pieces, into) };
        self.pieces.clear();
        result
    }

    fn write<M: Memory>(&mut self, memory: &mut M, from: &[u8]) -> Result<(), BadMemory> {
        let result = if self.pieces.is_empty() { Ok(()) } else { memory.write(&self.pieces, from) };
        self.pieces.clear();
        result
    }
}

/// The buffer size of a control request in bytes.
pub(super) fn control_bytes(setup: &Setup) -> usize {
    SETUP + usize::from(setup.length)
}

/// Builds the transfer for a control request. `None` if the buffer is too small.
pub(super) fn prepare_control<M: Memory>(
    item: &Pending,
    setup: &Setup,
    mut buffer: Buffer,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Option<Urb>, BadMemory> {
    if buffer.set_len(control_bytes(setup)).is_err() {
        return Ok(None);
    }
    let Some((head, data)) = buffer.data_mut().split_at_mut_checked(SETUP) else { return Ok(None) };
    head.copy_from_slice(&setup.to_bytes());
    if control_policy::has_out_data(setup) {
        scratch.add(&item.transfer.data, 0..usize::from(setup.length), 0);
        scratch.read(memory, data)?;
    }
    Ok(Some(Urb { kind: UsbKind::Control, endpoint: 0, flags: Flags::default(), buffer }))
}

/// Builds the transfer for requests of one bulk or interrupt endpoint, which all have the same
/// direction. `None` if the buffer is too small.
pub(super) fn prepare_data<M: Memory>(
    endpoint: u8,
    items: &[Pending],
    mut buffer: Buffer,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Option<Urb>, BadMemory> {
    let total: usize = items.iter().map(super::queue::Item::length).sum();
    let first = items.first().and_then(|it| it.transfer.data.as_slice().first());
    let offset = first.map_or(0, |it| usize::from(it.offset));
    // If the data has the same offset in its page here and in the guest, each page takes one copy
    // instead of two.
    if buffer.set_range(offset, total).is_err() && buffer.set_len(total).is_err() {
        return Ok(None);
    }
    if endpoint & IN == 0 {
        let mut at = 0;
        for item in items {
            scratch.add(&item.transfer.data, 0..item.length(), at);
            at += item.length();
        }
        scratch.read(memory, buffer.data_mut())?;
    }
    let bulk = items.iter().all(|it| it.transfer.kind == Kind::Bulk);
    let kind = if bulk { UsbKind::Bulk } else { UsbKind::Interrupt };
    Ok(Some(Urb { kind, endpoint, flags: Flags::default(), buffer }))
}

/// Reads the packet table of an isochronous request. It is copied out of the guest's memory only
/// once, so the guest cannot change it after it was checked. `None` if the table is invalid.
pub(super) fn iso_packets<M: Memory>(
    item: &Pending,
    iso: &Isochronous,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Option<Box<Packets>>, BadMemory> {
    let mut table = [0; iso::MAX_PACKETS * iso::DESCRIPTOR_BYTES];
    let length = usize::from(iso.packets) * iso::DESCRIPTOR_BYTES;
    let Some(table) = table.get_mut(..length) else { return Ok(None) };
    scratch.add(&iso.descriptors, 0..length, 0);
    scratch.read(memory, table)?;
    Ok(Packets::parse(table, iso.packets, item.transfer.data.len_bytes()).ok().map(Box::new))
}

/// Builds the transfer for an isochronous request. usbfs expects the packets back to back, without
/// the gaps that the guest may leave between them. `None` if the buffer is too small.
pub(super) fn prepare_iso<M: Memory>(
    endpoint: u8,
    item: &Pending,
    packets: &Packets,
    mut buffer: Buffer,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Option<Urb>, BadMemory> {
    let lengths = packets.as_slice().iter().map(|it| it.length);
    let total: usize = lengths.clone().map(|it| it as usize).sum();
    if buffer.set_len(total).is_err() {
        return Ok(None);
    }
    if endpoint & IN == 0 {
        let mut at = 0;
        for packet in packets.as_slice() {
            scratch.add(&item.transfer.data, packet.range(), at);
            at += packet.length as usize;
        }
        scratch.read(memory, buffer.data_mut())?;
    }
    let kind = UsbKind::Iso(lengths.map(UsbPacket::new).collect());
    let flags = Flags { iso_asap: true, ..Flags::default() };
    Ok(Some(Urb { kind, endpoint, flags, buffer }))
}

/// Computes the answers to a completed transfer. Data that was read is copied to the guest first.
pub(super) fn finish<M: Memory>(
    transfer: InFlight,
    done: &Completion,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Finished, BadMemory> {
    match transfer {
        InFlight::Control(item, setup) => finish_control(item, &setup, done, memory, scratch),
        InFlight::Data { endpoint, items, .. } => {
            finish_data(endpoint, items, done, memory, scratch)
        }
        InFlight::Iso(item, iso, packets) => {
            finish_iso(item, &iso, &packets, done, memory, scratch)
        }
    }
}

fn finish_control<M: Memory>(
    item: Pending,
    setup: &Setup,
    done: &Completion,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Finished, BadMemory> {
    let actual = done.actual_length.min(usize::from(setup.length));
    if setup.direction() == Direction::In {
        scratch.add(&item.transfer.data, 0..actual, SETUP);
        scratch.write(memory, done.buffer.data())?;
    }
    let answer = response(status(done.status), actual);
    Ok(Finished { answers: vec![(item, answer)], ..Finished::default() })
}

fn finish_data<M: Memory>(
    endpoint: u8,
    items: Vec<Pending>,
    done: &Completion,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Finished, BadMemory> {
    let parts: Vec<usize> =
        split_bytes(items.iter().map(super::queue::Item::length), done.actual_length).collect();
    if endpoint & IN != 0 {
        let mut at = 0;
        for (item, part) in items.iter().zip(&parts) {
            scratch.add(&item.transfer.data, 0..*part, at);
            at += part;
        }
        scratch.write(memory, done.buffer.data())?;
    }
    let failed = !matches!(done.status, UsbStatus::Ok | UsbStatus::ShortRead);
    let cancelled = done.status == UsbStatus::Cancelled;
    let last = items.len().saturating_sub(1);
    let is_whole = done.actual_length >= items.iter().map(super::queue::Item::length).sum();
    let mut finished =
        Finished { ended_short: endpoint & IN != 0 && !failed && !is_whole, ..Finished::default() };
    for (index, (item, part)) in items.into_iter().zip(parts).enumerate() {
        // Requests that were completed before the failure succeed. The failure belongs to the
        // request in which it happened, and to all later ones.
        let good = part == item.length()
            && (part > 0 || !failed)
            && !(is_whole && failed && index == last);
        let answer = match () {
            () if !failed || good => response(Status::Ok, part),
            () if cancelled && !item.unlinked && part == 0 => {
                finished.resubmit.push(item);
                continue;
            }
            // Cancelled together with another request, with some data moved. It ends short, because
            // the data cannot be read again.
            () if cancelled && !item.unlinked => response(Status::Ok, part),
            () => response(status(done.status), part),
        };
        finished.answers.push((item, answer));
    }
    Ok(finished)
}

fn finish_iso<M: Memory>(
    item: Pending,
    iso: &Isochronous,
    packets: &Packets,
    done: &Completion,
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<Finished, BadMemory> {
    let results = packets.as_slice().iter().zip(&done.packets);
    if item.transfer.direction == Direction::In {
        let mut at = 0;
        for (packet, result) in results.clone() {
            let moved = result.actual_length.min(packet.length) as usize;
            let start = packet.range().start;
            scratch.add(&item.transfer.data, start..start + moved, at);
            at += packet.length as usize;
        }
        scratch.write(memory, done.buffer.data())?;
    }
    let mut bytes = Vec::with_capacity(packets.as_slice().len() * iso::RESULT_BYTES);
    let mut total = 0;
    for (index, (packet, result)) in results.enumerate() {
        let actual_length = result.actual_length.min(packet.length);
        total += actual_length;
        scratch.add(&iso.descriptors, iso::result_range(index), bytes.len());
        bytes.extend(iso::result_bytes(PacketResult {
            actual_length,
            status: result.status.errno(),
        }));
    }
    scratch.write(memory, &bytes)?;
    let status = match done.status {
        // Some packets failed. The table shows which.
        UsbStatus::Other(_) => Status::Ok,
        other => status(other),
    };
    let answer = Response { error_count: done.error_count, ..response(status, total as usize) };
    Ok(Finished { answers: vec![(item, answer)], ..Finished::default() })
}

/// Copies an answer that was produced without the device into the guest's memory.
pub(super) fn write_answer<M: Memory>(
    item: &Pending,
    bytes: &[u8],
    memory: &mut M,
    scratch: &mut Scratch,
) -> Result<(), BadMemory> {
    scratch.add(&item.transfer.data, 0..bytes.len(), 0);
    scratch.write(memory, bytes)
}

/// A response without isochronous fields.
pub(super) fn response(status: Status, actual: usize) -> Response {
    let actual_length = u32::try_from(actual).unwrap_or(u32::MAX);
    Response { status, actual_length, error_count: 0, start_frame: 0 }
}

/// Translates a usbfs status into one that the guest understands.
fn status(status: UsbStatus) -> Status {
    match status {
        UsbStatus::Ok | UsbStatus::ShortRead => Status::Ok,
        UsbStatus::Stalled => Status::Stall,
        UsbStatus::Overflow => Status::Babble,
        UsbStatus::Gone => Status::NoDevice,
        // Not `Shutdown`: Linux would take it to mean "never submit again".
        UsbStatus::Cancelled | UsbStatus::Protocol(_) | UsbStatus::Other(_) => Status::IoError,
    }
}
