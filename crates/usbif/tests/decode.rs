//! Decoding of valid and invalid requests, and of requests with garbage in unused fields.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use vusb_usbif::Port;
use vusb_usbif::frontend::encode_submit;
use vusb_usbif::iso::{BadTable, Packets};
use vusb_usbif::urb::{
    Chunk, Direction, Invalid, Isochronous, Kind, Request, RequestWords, Segment, SegmentError,
    Segments, Setup, StandardRequest, Status, Transfer,
};

const IN: u32 = 1 << 7;
const CONTROL: u32 = 2 << 30;
const INTERRUPT: u32 = 1 << 30;
const ISOCHRONOUS: u32 = 0;
const BULK: u32 = 3 << 30;
const ENDPOINT_1: u32 = 1 << 15;

/// A request of `segments` whole pages on port 1 with these pipe bits and these two words of `u`.
fn request(pipe: u32, segments: u32, u: [u32; 2]) -> RequestWords {
    let mut words = [0; 37];
    words[0] = segments << 16;
    words[1] = 1 | pipe;
    words[3] = u[0];
    words[4] = u[1];
    for page in words[5..].chunks_exact_mut(2) {
        page[1] = 4096 << 16;
    }
    RequestWords(words)
}

#[track_caller]
fn submit(words: RequestWords) -> Transfer {
    match Request::decode(&words) {
        Request::Submit(transfer) => transfer,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn invalid(words: RequestWords) -> Invalid {
    match Request::decode(&words) {
        Request::Invalid(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_port_except_0_is_valid() {
    for port in 1..=31 {
        let mut words = request(BULK | ENDPOINT_1, 0, [0; 2]);
        words.0[1] = words.0[1] & !0x1f | port;
        assert_eq!(u32::from(submit(words).port.number()), port);
        words.0[1] &= !0x1f;
        assert_eq!(invalid(words), Invalid::PortZero);
    }
    assert!(Port::new(0).is_err());
    assert!(Port::new(32).is_err());
}

#[test]
fn every_address_and_endpoint_is_valid() {
    for address in 0..128 {
        for endpoint in 1..16 {
            let transfer = submit(request(BULK | address << 8 | endpoint << 15, 0, [0; 2]));
            assert_eq!(
                (u32::from(transfer.address), u32::from(transfer.endpoint)),
                (address, endpoint)
            );
        }
    }
}

#[test]
fn endpoint_0_is_for_control_only() {
    for kind in [BULK, INTERRUPT, ISOCHRONOUS] {
        assert_eq!(invalid(request(kind, 0, [0; 2])), Invalid::EndpointZero);
    }
    // The endpoint of a control pipe is ignored.
    assert_eq!(submit(request(CONTROL | ENDPOINT_1, 0, [0; 2])).endpoint, 0);
}

#[test]
fn unused_bits_are_ignored() {
    let mut words = request(BULK | ENDPOINT_1 | IN, 1, [0; 2]);
    let plain = submit(words);
    words.0[1] |= 1 << 6 | 0x7ff << 19;
    words.0[2] = 0xffff_fffe;
    words.0[3..5].fill(u32::MAX);
    words.0[7..].fill(u32::MAX);
    assert_eq!(submit(words), plain);
    words.0[2] = 1;
    assert!(submit(words).short_not_ok);

    let mut interrupt = request(INTERRUPT | ENDPOINT_1, 0, [u32::MAX, u32::MAX]);
    interrupt.0[5..].fill(u32::MAX);
    assert_eq!(submit(interrupt).kind, Kind::Interrupt { interval: u16::MAX });

    // Only the target of an unlink is used: not even its port or its segments have to be valid.
    let unlink = RequestWords([u32::MAX; 37]);
    assert_eq!(Request::decode(&unlink), Request::Unlink { target: u16::MAX });
}

#[test]
fn a_request_has_at_most_sixteen_segments() {
    assert_eq!(submit(request(BULK | ENDPOINT_1, 16, [0; 2])).data.len_bytes(), 65536);
    let many = |data, descriptors| Invalid::TooManySegments { data, descriptors };
    assert_eq!(invalid(request(BULK | ENDPOINT_1, 17, [0; 2])), many(17, 0));
    assert_eq!(invalid(request(BULK | ENDPOINT_1, 0xffff, [0; 2])), many(0xffff, 0));
    let isochronous = |data, descriptors: u32| {
        request(ISOCHRONOUS | ENDPOINT_1, data, [0, descriptors << 16 | 1])
    };
    assert_eq!(submit(isochronous(15, 1)).data.len_bytes(), 15 * 4096);
    assert_eq!(invalid(isochronous(16, 1)), many(16, 1));
    assert_eq!(invalid(isochronous(0xffff, 0xffff)), many(0xffff, 0xffff));
}

#[test]
fn segments_lie_within_their_pages() {
    for (offset, length, good) in [
        (0, 4096, true),
        (4096, 0, true),
        (4095, 1, true),
        (1, 4096, false),
        (0, 4097, false),
        (4097, 0, false),
        (0xffff, 0xffff, false),
    ] {
        let mut words = request(BULK | ENDPOINT_1, 2, [0; 2]);
        words.0[8] = u32::from(offset) | u32::from(length) << 16;
        let error = Invalid::Segment(SegmentError::OverEnd { index: 1, offset, length });
        match Request::decode(&words) {
            Request::Submit(_) => assert!(good, "{offset}+{length}"),
            other => assert_eq!((other, good), (Request::Invalid(error), false)),
        }
    }
}

#[test]
fn a_data_stage_needs_enough_memory() {
    let setup = |request_type: u32, length: u32| [request_type, length << 16];
    let control = |pipe, segments, u| request(CONTROL | pipe, segments, u);
    // Without data, either direction of the pipe is valid.
    assert_eq!(submit(control(0, 0, setup(0x80, 0))).len_bytes(), 0);
    assert_eq!(submit(control(IN, 0, setup(0, 0))).len_bytes(), 0);
    // More memory than data.
    assert_eq!(submit(control(IN, 2, setup(0x80, 18))).len_bytes(), 18);
    assert_eq!(submit(control(IN, 16, setup(0x80, 0xffff))).len_bytes(), 0xffff);
    // Less memory than data.
    assert_eq!(
        invalid(control(IN, 1, setup(0x80, 4097))),
        Invalid::ControlTooShort { length: 4097, room: 4096 }
    );
    // The setup packet determines the direction; memory granted read-only cannot be written to.
    assert_eq!(submit(control(IN, 1, setup(0, 8))).direction, Direction::Out);
    assert_eq!(invalid(control(0, 1, setup(0x80, 8))), Invalid::ControlDirection);
}

#[test]
fn packets_need_a_table() {
    let isochronous = |data, packets: u32, segments: u32| {
        request(ISOCHRONOUS | ENDPOINT_1 | IN, data, [0, segments << 16 | packets])
    };
    assert_eq!(invalid(isochronous(1, 0, 1)), Invalid::NoPackets);
    assert_eq!(invalid(isochronous(1, 129, 1)), Invalid::TooManyPackets(129));
    assert_eq!(invalid(isochronous(1, 1, 0)), Invalid::DescriptorsTooShort { packets: 1, room: 0 });
    let mut short = isochronous(1, 128, 1);
    short.0[8] = 2047 << 16;
    assert_eq!(invalid(short), Invalid::DescriptorsTooShort { packets: 128, room: 2047 });
    short.0[8] = 2048 << 16;
    assert!(matches!(
        submit(short).kind,
        Kind::Isochronous(Isochronous { packets: 128, descriptors, .. })
            if descriptors.len_bytes() == 2048
    ));
    // For a transfer without data, xen-hcd sends a number of packets, but no table.
    let Kind::Isochronous(nothing) = submit(isochronous(0, 8, 0)).kind else { panic!() };
    assert_eq!((nothing.packets, nothing.descriptors), (0, Segments::NONE));
}

#[test]
fn invalid_packet_tables_are_rejected() {
    let table = |packets: &[(u32, u32)]| {
        let words = packets.iter().flat_map(|&(offset, length)| [offset, length, 0, 0]);
        words.flat_map(u32::to_le_bytes).collect::<Vec<_>>()
    };
    let parse = |packets: &[(u32, u32)], data| {
        Packets::parse(&table(packets), packets.len() as u16, data).map(|_| ())
    };
    assert_eq!(parse(&[(0, 100), (100, 0), (100, 50)], 150), Ok(()));
    assert_eq!(parse(&[(50, 100), (0, 50)], 150), Ok(()), "in any order");
    let over = |index, offset, length| BadTable::OverEnd { index, offset, length, data: 150 };
    assert_eq!(parse(&[(0, 1), (149, 2)], 150), Err(over(1, 149, 2)));
    assert_eq!(parse(&[(u32::MAX, 2)], 150), Err(over(0, u32::MAX, 2)));
    assert_eq!(parse(&[(u32::MAX, u32::MAX)], 150), Err(over(0, u32::MAX, u32::MAX)));
    assert_eq!(parse(&[(0, 100), (0, 51)], 150), Err(BadTable::Overlap { data: 150 }));
    assert_eq!(Packets::parse(&[0; 31], 2, 0), Err(BadTable::TooShort { packets: 2, bytes: 31 }));
    assert_eq!(Packets::parse(&[0; 4096], 129, 0), Err(BadTable::TooManyPackets(129)));
    assert_eq!(Packets::parse(&[0; 2048], 128, 0).unwrap().as_slice().len(), 128);
}

#[test]
fn chunks_end_at_page_boundaries() {
    let list = [(1, 4000, 96), (2, 0, 4096), (3, 7, 0), (4, 5, 10)]
        .map(|(gref, offset, length)| Segment { gref, offset, length });
    let segments = Segments::new(&list).unwrap();
    let chunks = |range| segments.chunks(range).collect::<Vec<_>>();
    let chunk = |at, gref, offset, length| Chunk { at, gref, offset, length };
    assert_eq!(
        chunks(0..4202),
        [chunk(0, 1, 4000, 96), chunk(96, 2, 0, 4096), chunk(4192, 4, 5, 10)]
    );
    assert_eq!(chunks(95..97), [chunk(95, 1, 4095, 1), chunk(96, 2, 0, 1)]);
    assert_eq!(chunks(4195..9999), [chunk(4195, 4, 8, 7)]);
    assert_eq!(chunks(50..50), []);
    assert_eq!(chunks(4202..usize::MAX), []);
}

#[test]
fn the_standard_requests_that_a_backend_has_to_recognize() {
    let setup = |bytes| Setup::from_bytes(bytes).standard();
    for address in [0, 127, 128, 65535_u16] {
        let [low, high] = address.to_le_bytes();
        assert_eq!(
            setup([0x00, 5, low, high, 0, 0, 0, 0]),
            Some(StandardRequest::SetAddress { address })
        );
    }
    assert_eq!(
        setup([0x00, 9, 1, 0, 0, 0, 0, 0]),
        Some(StandardRequest::SetConfiguration { value: 1 })
    );
    assert_eq!(
        setup([0x01, 11, 3, 0, 2, 0, 0, 0]),
        Some(StandardRequest::SetInterface { interface: 2, alternate: 3 })
    );
    assert_eq!(
        setup([0x02, 1, 0, 0, 0x81, 0, 0, 0]),
        Some(StandardRequest::ClearHalt { endpoint: 0x81 })
    );
    assert_eq!(
        setup([0x80, 6, 2, 3, 0x09, 0x04, 255, 0]),
        Some(StandardRequest::GetDescriptor { kind: 3, index: 2, language: 0x0409 })
    );
    // Class and vendor requests with the same numbers, another feature, SET_DESCRIPTOR.
    for other in [
        [0x21, 9, 1, 0, 0, 0, 0, 0],
        [0x40, 5, 1, 0, 0, 0, 0, 0],
        [0x00, 1, 1, 0, 0, 0, 0, 0],
        [0x02, 1, 1, 0, 0x81, 0, 0, 0],
        [0x81, 6, 0, 0x22, 0, 0, 64, 0],
        [0x00, 7, 0, 1, 0, 0, 0, 0],
    ] {
        assert_eq!(setup(other), None, "{other:?}");
    }
    let bytes = [0x80, 6, 2, 3, 0x09, 0x04, 255, 1];
    assert_eq!(Setup::from_bytes(bytes).to_bytes(), bytes);
}

#[test]
fn statuses_are_numbers_that_the_guest_understands() {
    let wire: Vec<_> = Status::ALL.iter().map(|status| status.wire()).collect();
    assert_eq!(wire, [0, -19, -22, -32, -71, -75, -108]);
    for status in Status::ALL {
        assert_eq!(Status::from_wire(status.wire()), status);
    }
    assert_eq!(Status::from_wire(1), Status::Shutdown);
}

/// The previous contents of the buffer do not affect the next request, whatever its type.
#[test]
fn a_buffer_can_be_reused() {
    let data = Segments::new(&[Segment { gref: 1, offset: 0, length: 8 }]).unwrap();
    let table = Segments::new(&[Segment { gref: 2, offset: 8, length: 16 }]).unwrap();
    let setup = Setup { request_type: 0x21, request: 9, value: 0, index: 0, length: 8 };
    let isochronous = Isochronous { interval: 1, start_frame: 0, packets: 1, descriptors: table };
    let kinds = [
        (Kind::Control(setup), 0),
        (Kind::Bulk, 1),
        (Kind::Interrupt { interval: 3 }, 1),
        (Kind::Isochronous(isochronous), 1),
    ];
    for before in [0, u32::MAX] {
        for (kind, endpoint) in kinds {
            let mut words = RequestWords([before; 37]);
            let transfer = Transfer {
                port: Port::MIN,
                address: 1,
                endpoint,
                direction: Direction::Out,
                kind,
                short_not_ok: false,
                data,
            };
            encode_submit(&mut words, 3, &transfer);
            assert_eq!(submit(words), transfer);
        }
    }
}
