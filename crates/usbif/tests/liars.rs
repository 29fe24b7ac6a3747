//! Guests that break the rules, and backends that do: the first are found out by the rings, the second by
//! the frontend that the other tests rely on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use vusb_usbif::connect::{self, Posted};
use vusb_usbif::front::{ConnectRing, UrbRing, Violation};
use vusb_usbif::urb::{
    Direction, Kind, RequestWords, Response, Ring, Segments, Status, Ticket, Transfer,
};
use vusb_usbif::{Broken, MemoryPage, Notify, Page, Port, Speed};

const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;

#[track_caller]
fn ticket<P: Page>(ring: &mut Ring<P>) -> Ticket {
    ring.next().unwrap().expect("a request").0
}

#[test]
fn more_requests_than_slots() {
    let page = MemoryPage::new();
    let mut ring = Ring::new(&page);
    page.store(REQ_PROD, 17);
    let broken = Broken::Overrun { announced: 17, answered: 0, slots: 16 };
    assert_eq!(ring.next().unwrap_err(), broken);
    // There is no way back.
    page.store(REQ_PROD, 1);
    assert_eq!(ring.next().unwrap_err(), broken);
    assert!(ring.rearm(), "nobody goes to sleep on it");
}

#[test]
fn requests_that_are_taken_back() {
    let page = MemoryPage::new();
    let mut ring = Ring::new(&page);
    page.store(REQ_PROD, 3);
    let _tickets = [ticket(&mut ring), ticket(&mut ring)];
    page.store(REQ_PROD, 1);
    assert!(ring.rearm());
    assert_eq!(ring.next().unwrap_err(), Broken::Backwards { announced: 1, consumed: 2 });
}

/// It sends on as fast as it is answered, without having been shown an answer.
#[test]
fn a_guest_that_never_ends() {
    let page = MemoryPage::new();
    let mut ring = Ring::new(&page);
    for sent in 1..=16 {
        page.store(REQ_PROD, sent);
        let ticket = ticket(&mut ring);
        ring.respond(ticket, Response::done(0)).unwrap();
    }
    page.store(REQ_PROD, 17);
    assert!(ring.next().is_err());
}

#[test]
fn sixteen_in_flight_and_no_more() {
    let page = MemoryPage::new();
    let mut ring = Ring::new(&page);
    page.store(REQ_PROD, 16);
    let tickets: Vec<_> = (0..16).map(|_| ticket(&mut ring)).collect();
    assert_eq!(ring.in_flight(), 16);
    assert_eq!(ring.next().unwrap(), None);
    assert!(!ring.rearm());
    for ticket in tickets {
        ring.respond(ticket, Response::done(0)).unwrap();
    }
    assert_eq!(ring.in_flight(), 0);
    assert_eq!(ring.publish(), Notify::NotDue, "nobody set rsp_event");
}

#[test]
fn tickets_of_the_connection_before() {
    let page = MemoryPage::new();
    page.store(REQ_PROD, 1);
    page.store(16, 7);
    let mut before = Ring::new(&page);
    let old = ticket(&mut before);
    let mut now = Ring::new(&page);
    let new = ticket(&mut now);
    assert_eq!(now.respond(old, Response::done(0)).unwrap_err().id, 7);
    assert_eq!(now.in_flight(), 1);
    now.respond(new, Response::done(0)).unwrap();
}

#[test]
fn blank_requests_that_cannot_be() {
    for (announced, next, good) in
        [(512, 0, true), (513, 0, false), (u32::MAX, 1, false), (0, 1, false), (513, 1, true)]
    {
        let page = MemoryPage::new();
        page.store(REQ_PROD, 1);
        let mut ring = connect::Ring::new(&page);
        if next == 1 {
            assert!(matches!(ring.post(Port::MIN, Speed::Low), Ok(Posted::Sent(_))));
        }
        page.store(REQ_PROD, announced);
        assert_eq!(ring.post(Port::MIN, Speed::Low).is_ok(), good, "{announced}");
        page.store(REQ_PROD, next + 2);
        assert_eq!(ring.post(Port::MIN, Speed::Low).is_ok(), good, "there is no way back");
    }
}

/// A guest with one transfer in flight, number 0, without data.
fn front(page: &MemoryPage) -> UrbRing<&MemoryPage> {
    let mut front = UrbRing::new(page);
    let nothing = Transfer {
        port: Port::MIN,
        address: 0,
        endpoint: 1,
        direction: Direction::In,
        kind: Kind::Bulk,
        short_not_ok: false,
        data: Segments::NONE,
    };
    assert_eq!(front.submit(&nothing).unwrap().id, 0);
    front
}

#[test]
fn the_frontend_finds_out_a_bad_response() {
    for (words, expected) in [
        ([16, 0, 0, 0], Violation::UnknownId { id: 16 }),
        ([1, 0, 0, 0], Violation::NotInFlight { id: 1 }),
        ([0, 0, 1, 0], Violation::Length { id: 0, actual: 1, length: 0 }),
        ([0, 0, u32::MAX, 0], Violation::Length { id: 0, actual: -1, length: 0 }),
    ] {
        let page = MemoryPage::new();
        let mut front = front(&page);
        for (word, value) in words.into_iter().enumerate() {
            page.store(16 + word, value);
        }
        page.store(RSP_PROD, 1);
        assert_eq!(front.take(), Err(expected));
    }
    let page = MemoryPage::new();
    let mut front = front(&page);
    page.store(RSP_PROD, 2);
    assert_eq!(front.take(), Err(Violation::Index { announced: 2, consumed: 0, sent: 1 }));
}

#[test]
fn the_frontend_finds_out_a_second_response() {
    let page = MemoryPage::new();
    let mut front = front(&page);
    let _ = front.push_raw(&RequestWords([0; 37]));
    // Both slots hold a response of zeros: to number 0, done.
    page.store(16 + 1, 0);
    page.store(RSP_PROD, 2);
    assert_eq!(front.take().unwrap().unwrap().status, Status::Ok);
    assert_eq!(front.take(), Err(Violation::NotInFlight { id: 0 }));
}

#[test]
fn the_frontend_finds_out_a_bad_event() {
    for (word, good) in
        [(0x0301_0000_u32, true), (0x0300_0000, false), (0x0320_0000, false), (0x0401_0000, false)]
    {
        let page = MemoryPage::new();
        let mut front = ConnectRing::new(&page);
        assert!(front.fill().is_due());
        page.store(16, word);
        page.store(RSP_PROD, 1);
        assert_eq!(front.take().is_ok(), good, "{word:#x}");
    }
}

#[test]
fn raw_words_reach_the_backend() {
    let page = MemoryPage::new();
    let mut front = UrbRing::new(&page);
    let mut back = Ring::new(&page);
    let words = RequestWords(std::array::from_fn(|word| word as u32 | 0x20));
    assert!(front.push_raw(&words).is_due());
    assert_eq!(ticket(&mut back).id(), 0x20);
    front.page().store(REQ_PROD, 99);
    assert!(back.next().is_err());
}
