//! Sizes, offsets and numbers, compared with Xen's own headers. Needs a C compiler and libxen-dev:
//!
//! ```text
//! cargo test -p vusb-usbif --test xen_headers -- --ignored
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use vusb_usbif::frontend::{ConnectRing, UrbRing, encode_submit, encode_unlink};
use vusb_usbif::urb::{
    self, Direction, Isochronous, Kind, Request, RequestWords, Response, Segment, Segments, Setup,
    Status, Transfer,
};
use vusb_usbif::{MemoryPage, PAGE_BYTES, Page, Port, Speed, connect};

/// Evaluates C expressions by compiling and running a program that prints them.
fn c_numbers(expressions: &[&str]) -> Vec<i64> {
    let prints: String =
        expressions.iter().map(|e| format!("printf(\"%lld\\n\", (long long)({e}));\n")).collect();
    let source = format!(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n\
         #include <xen/xen.h>\n#include <xen/io/ring.h>\n#include <xen/io/usbif.h>\n\
         #define REQ(f) offsetof(struct usbif_urb_request, f)\n\
         #define RSP(f) offsetof(struct usbif_urb_response, f)\n\
         #define CON(f) offsetof(struct usbif_conn_response, f)\n\
         #define URBS(f) offsetof(struct usbif_urb_sring, f)\n\
         #define CONS(f) offsetof(struct usbif_conn_sring, f)\n\
         int main(void) {{\n{prints}return 0; }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let (file, program) = (folder.path().join("numbers.c"), folder.path().join("numbers"));
    std::fs::write(&file, source).unwrap();
    let compiled = Command::new("cc").arg(&file).arg("-o").arg(&program).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&program).output().unwrap();
    assert!(ran.status.success());
    String::from_utf8(ran.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[track_caller]
fn same(pairs: &[(&str, i64)]) {
    let expressions: Vec<_> = pairs.iter().map(|(expression, _)| *expression).collect();
    let numbers = c_numbers(&expressions);
    assert_eq!(numbers.len(), pairs.len());
    for ((expression, ours), theirs) in pairs.iter().zip(numbers) {
        assert_eq!(*ours, theirs, "{expression}");
    }
}

#[test]
#[ignore = "needs cc and libxen-dev"]
fn sizes_and_numbers() {
    same(&[
        ("sizeof(struct usbif_urb_request)", urb::REQUEST_BYTES as i64),
        ("sizeof(union usbif_urb_sring_entry)", urb::REQUEST_BYTES as i64),
        ("sizeof(struct usbif_urb_response)", urb::RESPONSE_WORDS as i64 * 4),
        ("sizeof(union usbif_conn_sring_entry)", 4),
        ("sizeof(struct usbif_conn_response)", 4),
        ("__CONST_RING_SIZE(usbif_urb, 4096)", urb::RING_SLOTS.into()),
        ("__CONST_RING_SIZE(usbif_conn, 4096)", connect::RING_SLOTS.into()),
        ("__RING_SIZE((struct usbif_urb_sring *)0, 4096)", urb::RING_SLOTS.into()),
        ("__RING_SIZE((struct usbif_conn_sring *)0, 4096)", connect::RING_SLOTS.into()),
        ("USBIF_RING_SIZE", PAGE_BYTES as i64),
        ("USBIF_MAX_SEGMENTS_PER_REQUEST", urb::MAX_SEGMENTS as i64),
        ("USBIF_MAX_PORTNR", Port::MAX.number().into()),
        ("USBIF_STATUS_OK", Status::Ok.wire().into()),
        ("USBIF_STATUS_NODEV", Status::NoDevice.wire().into()),
        ("USBIF_STATUS_INVAL", Status::Invalid.wire().into()),
        ("USBIF_STATUS_STALL", Status::Stall.wire().into()),
        ("USBIF_STATUS_IOERROR", Status::IoError.wire().into()),
        ("USBIF_STATUS_BABBLE", Status::Babble.wire().into()),
        ("USBIF_STATUS_SHUTDOWN", Status::Shutdown.wire().into()),
        ("USBIF_SPEED_NONE", Speed::None.wire().into()),
        ("USBIF_SPEED_LOW", Speed::Low.wire().into()),
        ("USBIF_SPEED_FULL", Speed::Full.wire().into()),
        ("USBIF_SPEED_HIGH", Speed::High.wire().into()),
    ]);
}

/// The offset of the first byte that is not zero.
fn first(bytes: &[u8]) -> i64 {
    bytes.iter().position(|byte| *byte != 0).expect("something was written") as i64
}

/// The offset at which two encoded requests first differ: the offset of the field that differs.
fn field_offset(id: u16, transfer: &Transfer, other_id: u16, other: &Transfer) -> i64 {
    let written = |id, transfer| {
        let mut words = RequestWords([0; urb::REQUEST_WORDS]);
        encode_submit(&mut words, id, transfer);
        words.to_bytes()
    };
    let (one, two) = (written(id, transfer), written(other_id, other));
    let differing: Vec<u8> = one.iter().zip(two).map(|(a, b)| a ^ b).collect();
    first(&differing)
}

const PLAIN: Transfer = Transfer {
    port: Port::MIN,
    address: 0,
    endpoint: 1,
    direction: Direction::Out,
    kind: Kind::Bulk,
    short_not_ok: false,
    data: Segments::NONE,
};

fn isochronous(interval: u16, start_frame: u16, packets: u16, segments: usize) -> Transfer {
    let descriptors = Segments::new(&vec![Segment::default(); segments]).unwrap();
    let kind = Kind::Isochronous(Isochronous { interval, start_frame, packets, descriptors });
    Transfer { kind, ..PLAIN }
}

fn data(list: &[Segment]) -> Transfer {
    Transfer { data: Segments::new(list).unwrap(), ..PLAIN }
}

#[test]
#[ignore = "needs cc and libxen-dev"]
fn offsets_in_a_request() {
    let control = |setup| Transfer { kind: Kind::Control(setup), ..PLAIN };
    let interrupt = |interval| Transfer { kind: Kind::Interrupt { interval }, ..PLAIN };
    let segment = |gref, offset, length| Segment { gref, offset, length };
    let short = Transfer { short_not_ok: true, ..PLAIN };
    let elsewhere = Transfer { port: Port::MAX, ..PLAIN };
    let none = isochronous(0, 0, 0, 0);
    let empty = data(&[segment(0, 0, 0)]);
    let (last, blank) = ([Segment::default(); 16], [Segment::default(); 16]);
    let mut last = last;
    last[15].gref = 1;
    let setup = Setup { request_type: 1, ..Setup::default() };
    same(&[
        ("REQ(id)", field_offset(1, &PLAIN, 2, &PLAIN)),
        ("REQ(nr_buffer_segs)", field_offset(0, &empty, 0, &PLAIN)),
        ("REQ(pipe)", field_offset(0, &elsewhere, 0, &PLAIN)),
        ("REQ(transfer_flags)", field_offset(0, &short, 0, &PLAIN)),
        ("REQ(buffer_length)", field_offset(0, &data(&[segment(0, 0, 1)]), 0, &empty)),
        ("REQ(u.ctrl)", field_offset(0, &control(setup), 0, &control(Setup::default()))),
        ("REQ(u.intr.interval)", field_offset(0, &interrupt(1), 0, &interrupt(0))),
        ("REQ(u.isoc.interval)", field_offset(0, &isochronous(1, 0, 0, 0), 0, &none)),
        ("REQ(u.isoc.start_frame)", field_offset(0, &isochronous(0, 1, 0, 0), 0, &none)),
        ("REQ(u.isoc.number_of_packets)", field_offset(0, &isochronous(0, 0, 1, 0), 0, &none)),
        ("REQ(u.isoc.nr_frame_desc_segs)", field_offset(0, &isochronous(0, 0, 0, 1), 0, &none)),
        ("REQ(seg[0].gref)", field_offset(0, &data(&[segment(1, 0, 0)]), 0, &empty)),
        ("REQ(seg[0].offset)", field_offset(0, &data(&[segment(0, 1, 0)]), 0, &empty)),
        ("REQ(seg[15].gref)", field_offset(0, &data(&last), 0, &data(&blank))),
    ]);

    // A segment's length also changes `buffer_length`, which comes first, so it is checked
    // separately.
    let mut words = RequestWords([0; urb::REQUEST_WORDS]);
    encode_submit(&mut words, 0, &data(&[segment(0, 0, 1)]));
    let seg = first(&words.to_bytes()[20..]) + 20;
    let mut words = RequestWords([0; urb::REQUEST_WORDS]);
    encode_unlink(&mut words, 0, 1, &PLAIN);
    words.0[1] = 0;
    same(&[
        ("REQ(seg[0].length)", seg),
        ("REQ(u.unlink.unlink_id)", first(&words.to_bytes())),
        ("USBIF_SHORT_NOT_OK", i64::from(short_flag())),
    ]);
}

fn short_flag() -> u32 {
    let mut words = RequestWords([0; urb::REQUEST_WORDS]);
    encode_submit(&mut words, 0, &Transfer { short_not_ok: true, ..PLAIN });
    words.0[2]
}

/// Xen's macros read our pipe word correctly.
#[test]
#[ignore = "needs cc and libxen-dev"]
fn pipes() {
    let kinds = [
        Kind::Bulk,
        Kind::Interrupt { interval: 0 },
        Kind::Control(Setup { request_type: 0x80, ..Setup::default() }),
        isochronous(0, 0, 0, 0).kind,
    ];
    let macros = ["bulk", "int", "ctrl", "isoc"];
    for (kind, its) in kinds.into_iter().zip(macros) {
        let transfer = Transfer {
            port: Port::new(21).unwrap(),
            address: 85,
            endpoint: 10,
            direction: Direction::In,
            kind,
            ..PLAIN
        };
        let mut words = RequestWords([0; urb::REQUEST_WORDS]);
        encode_submit(&mut words, 0, &transfer);
        let pipe = words.0[1];
        encode_unlink(&mut words, 0, 0, &transfer);
        assert!(matches!(Request::decode(&words), Request::Unlink { .. }));
        same(&[
            (&format!("usbif_pipeportnum({pipe}u)"), 21),
            (&format!("usbif_pipedevice({pipe}u)"), 85),
            (&format!("usbif_pipeendpoint({pipe}u)"), 10),
            (&format!("!!usbif_pipein({pipe}u)"), 1),
            (&format!("!!usbif_pipeunlink({pipe}u)"), 0),
            (&format!("usbif_pipe{its}({pipe}u)"), 1),
            (&format!("usbif_setunlink_pipe({pipe}u)"), words.0[1].into()),
        ]);
    }
}

/// The byte offset of `value` in a page, which must contain it exactly once.
fn find(page: &MemoryPage, value: u32) -> i64 {
    let mut words = (0..1024).filter(|word| page.load(*word) == value);
    let word = words.next().expect("written");
    assert_eq!(words.next(), None, "the value occurs twice");
    word as i64 * 4
}

#[test]
#[ignore = "needs cc and libxen-dev"]
fn offsets_in_a_page() {
    // Five requests and three responses. The backend has read all requests and waits for the sixth.
    let page = MemoryPage::new();
    let mut front = UrbRing::new(&page);
    let mut back = urb::Ring::new(&page);
    for _ in 0..5 {
        let _ = front.submit(&PLAIN).unwrap();
    }
    for number in 0..3 {
        let (ticket, _) = back.next().unwrap().unwrap();
        let response = Response {
            status: Status::Ok,
            actual_length: 0x0100_0001 + number,
            error_count: 0x0200_0001 + number,
            start_frame: 0x300,
        };
        back.respond(ticket, response).unwrap();
    }
    let _ = back.publish();
    let (_first, _second) = (back.next().unwrap(), back.next().unwrap());
    assert!(!back.rearm());
    let head = [page.load(0), page.load(1), page.load(2), page.load(3)];
    assert_eq!(head, [5, 6, 3, 1]);
    let slot = |number: i64| 64 + number * urb::REQUEST_BYTES as i64;
    same(&[
        ("URBS(req_prod)", 0),
        ("URBS(req_event)", 4),
        ("URBS(rsp_prod)", 8),
        ("URBS(rsp_event)", 12),
        ("CONS(rsp_event)", 12),
        ("URBS(ring[0])", slot(0)),
        ("URBS(ring[15])", slot(15)),
        ("URBS(ring[1]) + RSP(actual_length)", find(&page, 0x0100_0002)),
        ("URBS(ring[2]) + RSP(error_count)", find(&page, 0x0200_0003)),
        ("URBS(ring[2]) + RSP(id)", find(&page, 0x0300_0002)),
        ("RSP(start_frame)", 2),
        ("RSP(status)", 4),
    ]);

    let page = MemoryPage::new();
    let mut front = ConnectRing::new(&page);
    let _ = front.fill();
    let mut back = connect::Ring::new(&page);
    let _ = back.post(Port::new(9).unwrap(), Speed::None).unwrap();
    let _ = back.post(Port::new(9).unwrap(), Speed::High).unwrap();
    same(&[
        ("CONS(ring[1])", find(&page, 0x0309_0001)),
        ("CONS(ring[511])", find(&page, 511)),
        ("CON(portnum)", 2),
        ("CON(speed)", 3),
    ]);
}
