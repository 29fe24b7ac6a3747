//! Bytes on the wire, derived from the offsets in `usbif.h` and not from this crate's code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use vusb_usbif::frontend::{encode_submit, encode_unlink};
use vusb_usbif::urb::{
    Direction, Isochronous, Kind, Request, RequestWords, Response, Ring, Segment, Segments, Setup,
    Status, Transfer,
};
use vusb_usbif::{MemoryPage, Notify, Page, Port, Speed, connect, iso};

/// A slot of zeros, with these bytes at these offsets.
fn slot(parts: &[(usize, &[u8])]) -> RequestWords {
    let mut bytes = [0; 148];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    RequestWords::from_bytes(&bytes)
}

fn segments(list: &[(u32, u16, u16)]) -> Segments {
    let list: Vec<_> =
        list.iter().map(|&(gref, offset, length)| Segment { gref, offset, length }).collect();
    Segments::new(&list).unwrap()
}

/// The words decode to this transfer, and this transfer encodes to these words.
#[track_caller]
fn assert_encoding(words: RequestWords, transfer: Transfer) {
    assert_eq!(Request::decode(&words), Request::Submit(transfer));
    let mut written = RequestWords([0; 37]);
    encode_submit(&mut written, words.id(), &transfer);
    assert_eq!(written.to_bytes(), words.to_bytes());
}

#[test]
fn get_descriptor() {
    let words = slot(&[
        (0, &[7, 0, 1, 0]),                                 // id 7, one segment
        (4, &[0x83, 0x05, 0x00, 0x80]), // port 3, IN, address 5, endpoint 0, control
        (8, &[0, 0, 18, 0]),            // 18 bytes
        (12, &[0x80, 0x06, 0x00, 0x01, 0, 0, 18, 0]), // GET_DESCRIPTOR(device)
        (20, &[0x2a, 0x01, 0x00, 0x00, 0xc0, 0x0f, 18, 0]), // gref 298, offset 4032, length 18
    ]);
    assert_eq!(words.id(), 7);
    assert_encoding(
        words,
        Transfer {
            port: Port::new(3).unwrap(),
            address: 5,
            endpoint: 0,
            direction: Direction::In,
            kind: Kind::Control(Setup {
                request_type: 0x80,
                request: 6,
                value: 0x0100,
                index: 0,
                length: 18,
            }),
            short_not_ok: false,
            data: segments(&[(298, 4032, 18)]),
        },
    );
}

#[test]
fn bulk_of_64_kib_has_buffer_length_0() {
    let mut list = Vec::new();
    for gref in 100_u32..116 {
        list.extend_from_slice(&gref.to_le_bytes());
        list.extend_from_slice(&[0, 0, 0x00, 0x10]); // offset 0, length 4096
    }
    let words = slot(&[
        (0, &[15, 0, 16, 0]),           // id 15, 16 segments
        (4, &[0x9f, 0x7f, 0x01, 0xc0]), // port 31, IN, address 127, endpoint 2, bulk
        (8, &[1, 0, 0, 0]),             // SHORT_NOT_OK; 65536 does not fit into 16 bits
        (20, &list),
    ]);
    let pages: Vec<_> = (100..116).map(|gref| (gref, 0, 4096)).collect();
    let transfer = Transfer {
        port: Port::MAX,
        address: 127,
        endpoint: 2,
        direction: Direction::In,
        kind: Kind::Bulk,
        short_not_ok: true,
        data: segments(&pages),
    };
    assert_eq!(transfer.len_bytes(), 65536);
    assert_encoding(words, transfer);
}

#[test]
fn interrupt() {
    let words = slot(&[
        (0, &[2, 0, 1, 0]),
        (4, &[0x81, 0x81, 0x07, 0x40]), // port 1, IN, address 1, endpoint 15, interrupt
        (8, &[0, 0, 8, 0]),
        (12, &[10, 0]), // interval
        (20, &[9, 0, 0, 0, 0x10, 0, 8, 0]),
    ]);
    assert_encoding(
        words,
        Transfer {
            port: Port::MIN,
            address: 1,
            endpoint: 15,
            direction: Direction::In,
            kind: Kind::Interrupt { interval: 10 },
            short_not_ok: false,
            data: segments(&[(9, 16, 8)]),
        },
    );
}

/// Two packets, of 192 and 180 bytes; the table's second descriptor straddles two pages.
#[test]
fn isochronous_with_a_table_over_two_pages() {
    let words = slot(&[
        (0, &[4, 0, 1, 0]),                      // id 4, one segment of data
        (4, &[0x02, 0x03, 0x01, 0x00]),          // port 2, OUT, address 3, endpoint 2, isochronous
        (8, &[0, 0, 0x74, 0x01]),                // 372 bytes
        (12, &[8, 0, 0x34, 0x12, 2, 0, 2, 0]),   // interval 8, frame 0x1234, 2 packets, 2 segments
        (20, &[50, 0, 0, 0, 0, 0, 0x74, 0x01]),  // data: gref 50, offset 0, 372 bytes
        (28, &[51, 0, 0, 0, 0xe8, 0x0f, 24, 0]), // table: gref 51, offset 4072, 24 bytes
        (36, &[52, 0, 0, 0, 0, 0, 8, 0]),        // table: gref 52, offset 0, 8 bytes
    ]);
    let descriptors = segments(&[(51, 4072, 24), (52, 0, 8)]);
    let isochronous = Isochronous { interval: 8, start_frame: 0x1234, packets: 2, descriptors };
    assert_encoding(
        words,
        Transfer {
            port: Port::new(2).unwrap(),
            address: 3,
            endpoint: 2,
            direction: Direction::Out,
            kind: Kind::Isochronous(isochronous),
            short_not_ok: false,
            data: segments(&[(50, 0, 372)]),
        },
    );

    let table = [
        [0, 0, 0, 0, 192, 0, 0, 0, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee],
        [192, 0, 0, 0, 180, 0, 0, 0, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee],
    ]
    .concat();
    let packets = iso::Packets::parse(&table, isochronous.packets, 372).unwrap();
    let ranges: Vec<_> = packets.as_slice().iter().map(iso::Packet::range).collect();
    assert_eq!(ranges, [0..192, 192..372]);

    // The result of packet 0 is in page 51, at byte 8 of the table; that of packet 1 is in page 52.
    let ranges_of = |packet| {
        let chunks = descriptors.chunks(iso::result_range(packet));
        chunks.map(|chunk| (chunk.at, chunk.gref, chunk.offset, chunk.length)).collect::<Vec<_>>()
    };
    assert_eq!(ranges_of(0), [(8, 51, 4080, 8)]);
    assert_eq!(ranges_of(1), [(24, 52, 0, 8)]);
    let failed = iso::PacketResult { actual_length: 0x0102, status: -18 };
    assert_eq!(iso::result_bytes(failed), [2, 1, 0, 0, 0xee, 0xff, 0xff, 0xff]);
}

#[test]
fn unlink() {
    let words = slot(&[
        (0, &[9, 0]),
        (4, &[0xa3, 0x05, 0x01, 0xc0]), // port 3, unlink, IN, address 5, endpoint 2, bulk
        (12, &[4, 0]),
    ]);
    assert_eq!(Request::decode(&words), Request::Unlink { target: 4 });

    let target = Transfer {
        port: Port::new(3).unwrap(),
        address: 5,
        endpoint: 2,
        direction: Direction::In,
        kind: Kind::Bulk,
        short_not_ok: false,
        data: Segments::NONE,
    };
    let mut written = RequestWords([0; 37]);
    encode_unlink(&mut written, 9, 4, &target);
    assert_eq!(written.to_bytes(), words.to_bytes());
}

/// The bytes of the page from word `first` on.
fn bytes<const N: usize>(page: &MemoryPage, first: usize) -> [u8; N] {
    std::array::from_fn(|byte| page.load(first + byte / 4).to_le_bytes()[byte % 4])
}

#[test]
fn a_response_takes_the_next_slot() {
    let page = MemoryPage::new();
    page.store(0, 2); // req_prod
    page.store(3, 2); // rsp_event
    page.store(16, 0x0001_0005); // slot 0: id 5
    page.store(16 + 37, 0x0001_0003); // slot 1: id 3
    let mut ring = Ring::new(&page);
    let (first, _) = ring.next().unwrap().unwrap();
    let (second, _) = ring.next().unwrap().unwrap();

    let response = Response {
        status: Status::IoError,
        actual_length: 1023,
        error_count: 2,
        start_frame: 0x0777,
    };
    ring.respond(second, response).unwrap();
    assert_eq!(ring.publish(), Notify::NotDue);
    ring.respond(first, Response::done(65536)).unwrap();
    assert_eq!(page.load(2), 1);
    assert_eq!(ring.publish(), Notify::Due);
    assert_eq!(page.load(2), 2);

    assert_eq!(
        bytes(&page, 16),
        [3, 0, 0x77, 0x07, 0xb9, 0xff, 0xff, 0xff, 0xff, 0x03, 0, 0, 2, 0, 0, 0]
    );
    assert_eq!(bytes(&page, 16 + 37), [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn sleeping_asks_for_the_next_request() {
    let page = MemoryPage::new();
    page.store(1, 1); // req_event, as the frontend sets it up
    let mut ring = Ring::new(&page);
    page.store(0, 1);
    assert!(ring.rearm());
    assert_eq!(page.load(1), 1, "a request is there, so no event was requested");
    let _ticket = ring.next().unwrap().unwrap();
    assert!(!ring.rearm());
    assert_eq!(page.load(1), 2);
}

#[test]
fn a_connection_event() {
    let page = MemoryPage::new();
    page.store(0, 512);
    page.store(3, 1);
    page.store(16, 0xdead_0102); // id 0x0102, and two unused bytes
    page.store(17, 1);
    let mut ring = connect::Ring::new(&page);
    let port = Port::new(31).unwrap();
    assert_eq!(ring.post(port, Speed::High), Ok(connect::Posted::Sent(Notify::Due)));
    assert_eq!(ring.post(port, Speed::None), Ok(connect::Posted::Sent(Notify::NotDue)));
    assert_eq!(bytes(&page, 16), [0x02, 0x01, 31, 3, 1, 0, 31, 0]);
    assert_eq!((page.load(1), page.load(2)), (0, 2), "req_event is not changed");
}
