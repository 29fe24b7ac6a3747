//! Guests and backends that break the protocol. The rings detect malicious guests. The test
//! frontend detects malicious backends, and the other tests rely on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use vusb_usbif::connect::{self, Posted};
use vusb_usbif::frontend::{ConnectRing, UrbRing, Violation};
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
fn more_requests_than_slots_are_detected() {
    let page = MemoryPage::new();
    let mut ring = Ring::new(&page);
    page.store(REQ_PROD, 17);
    let broken = Broken::Overrun { announced: 17, answered: 0, slots: 16 };
    assert_eq!(ring.next().unwrap_err(), broken);
    // A broken ring stays broken.
    page.store(REQ_PROD, 1);
    assert_eq!(ring.next().unwrap_err(), broken);
    assert!(ring.rearm(), "the backend does not sleep on a broken ring");
}

#[test]
fn an_index_that_goes_back_is_detected() {
    let page = MemoryPage::new();
    let mut ring = Ring::new(&page);
    page.store(REQ_PROD, 3);
    let _tickets = [ticket(&mut ring), ticket(&mut ring)];
    page.store(REQ_PROD, 1);
    assert!(ring.rearm());
    assert_eq!(ring.next().unwrap_err(), Broken::Backwards { announced: 1, consumed: 2 });
}

/// The guest sends a request for each response that is written, before the response is published.
#[test]
fn a_guest_cannot_keep_the_backend_reading_forever() {
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
fn at_most_sixteen_requests_are_in_flight() {
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
    assert_eq!(ring.publish(), Notify::NotDue, "rsp_event was not set");
}

#[test]
fn tickets_of_a_previous_connection_are_rejected() {
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
fn impossible_credit_is_detected() {
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
        assert_eq!(ring.post(Port::MIN, Speed::Low).is_ok(), good, "a broken ring stays broken");
    }
}

/// A guest with one transfer in flight, with id 0 and without data.
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
fn the_frontend_detects_an_invalid_response() {
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
fn the_frontend_detects_a_second_response() {
    let page = MemoryPage::new();
    let mut front = front(&page);
    let _ = front.push_raw(&RequestWords([0; 37]));
    // Both slots contain a response of zeros: success, for id 0.
    page.store(16 + 1, 0);
    page.store(RSP_PROD, 2);
    assert_eq!(front.take().unwrap().unwrap().status, Status::Ok);
    assert_eq!(front.take(), Err(Violation::NotInFlight { id: 0 }));
}

#[test]
fn the_frontend_detects_an_invalid_event() {
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
