//! Random interleavings of a guest and a backend. Each step is checked against an independent
//! model.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use vusb_usbif::connect::{self, Posted};
use vusb_usbif::frontend::{Answered, ConnectRing, Event, NotSent, UrbRing};
use vusb_usbif::urb::{
    Direction, Isochronous, Kind, Request, Response, Ring, Segment, Segments, Setup, Status,
    Ticket, Transfer,
};
use vusb_usbif::{MemoryPage, Notify, Port, Speed};

#[derive(Debug, Clone)]
enum Op {
    Submit {
        kind: u8,
        pages: u16,
    },
    Unlink(usize),
    Next(u8),
    Complete(usize),
    Publish,
    BackRearm,
    /// The backend is awake.
    BackPark,
    Take(u8),
    FrontRearm,
    /// The device is unplugged: everything in flight ends.
    Detach,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u8..4, 1_u16..=15).prop_map(|(kind, pages)| Op::Submit { kind, pages }),
        2 => any::<usize>().prop_map(Op::Unlink),
        4 => (1_u8..20).prop_map(Op::Next),
        5 => any::<usize>().prop_map(Op::Complete),
        3 => Just(Op::Publish),
        2 => Just(Op::BackRearm),
        1 => Just(Op::BackPark),
        3 => (1_u8..20).prop_map(Op::Take),
        2 => Just(Op::FrontRearm),
        1 => Just(Op::Detach),
    ]
}

/// What the guest has sent.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are sixteen of them")]
enum Sent {
    Transfer(Transfer),
    Unlink(u16),
}

struct World {
    front: UrbRing<Arc<MemoryPage>>,
    back: Ring<Arc<MemoryPage>>,
    /// By id: what was sent, and a mark that the response must carry.
    sent: HashMap<u16, (Sent, u16)>,
    /// Sent, but not read by the backend; in order.
    waiting: VecDeque<u16>,
    /// Read by the backend, but not answered.
    tickets: Vec<(Ticket, u16)>,
    /// Answered, but not published; in order.
    answered: VecDeque<u16>,
    /// Published, but not taken by the guest; in order.
    published: VecDeque<u16>,
    /// Whether the guest has asked to be woken, and has not been woken since.
    front_sleeps: bool,
    /// The same for the backend.
    back_sleeps: bool,
    /// The mark of the next request.
    mark: u16,
}

impl World {
    fn new() -> Self {
        let page = Arc::new(MemoryPage::new());
        Self {
            front: UrbRing::new(page.clone()),
            back: Ring::new(page),
            sent: HashMap::new(),
            waiting: VecDeque::new(),
            tickets: Vec::new(),
            answered: VecDeque::new(),
            published: VecDeque::new(),
            front_sleeps: true,
            back_sleeps: true,
            mark: 0,
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Submit { kind, pages } => {
                let transfer = transfer(kind, pages, self.mark);
                let pushed = self.front.submit(&transfer).map(|p| (p.id, p.notify));
                self.note_sent(pushed, Sent::Transfer(transfer));
            }
            Op::Unlink(which) => self.unlink(which),
            Op::Next(count) => (0..count).for_each(|_| self.next()),
            Op::Complete(which) if !self.tickets.is_empty() => {
                self.answer(which % self.tickets.len());
            }
            Op::Complete(_) => {}
            Op::Publish => self.publish(),
            Op::BackRearm => {
                let more = self.back.rearm();
                assert_eq!(more, !self.waiting.is_empty());
                self.back_sleeps |= !more;
            }
            Op::BackPark => {
                self.back.park();
                self.back_sleeps = false;
                assert_eq!(self.back.has_request(), !self.waiting.is_empty());
            }
            Op::Take(count) => (0..count).for_each(|_| self.take()),
            Op::FrontRearm => {
                let more = self.front.rearm();
                assert_eq!(more, !self.published.is_empty());
                self.front_sleeps |= !more;
            }
            Op::Detach => (0..self.tickets.len()).for_each(|_| self.answer(0)),
        }
        assert_eq!(self.back.in_flight() as usize, self.tickets.len());
        assert_eq!(self.front.in_flight() as usize, self.sent.len());
    }

    /// Records the result of sending a request.
    fn note_sent(&mut self, pushed: Result<(u16, Notify), NotSent>, what: Sent) {
        let Ok((id, notify)) = pushed else {
            assert_eq!((pushed, self.sent.len()), (Err(NotSent::Full), 16));
            return;
        };
        assert_eq!(self.sent.insert(id, (what, self.mark)), None, "an id is used twice");
        self.waiting.push_back(id);
        assert_eq!(notify.is_due(), self.back_sleeps);
        self.back_sleeps = false;
        self.mark += 1;
    }

    fn unlink(&mut self, which: usize) {
        let mut transfers: Vec<u16> = self
            .sent
            .iter()
            .filter(|(_, (sent, _))| matches!(sent, Sent::Transfer(_)))
            .map(|(id, _)| *id)
            .collect();
        transfers.sort_unstable();
        if transfers.is_empty() {
            assert_eq!(self.front.unlink(0), Err(NotSent::NotInFlight(0)));
            return;
        }
        let target = transfers[which % transfers.len()];
        let pushed = self.front.unlink(target).map(|p| (p.id, p.notify));
        self.note_sent(pushed, Sent::Unlink(target));
    }

    fn next(&mut self) {
        let Some((ticket, request)) = self.back.next().unwrap() else {
            assert_eq!(self.waiting, []);
            return;
        };
        let id = self.waiting.pop_front().unwrap();
        assert_eq!(ticket.id(), id);
        let (sent, mark) = self.sent[&id];
        match request {
            Request::Submit(transfer) => assert_eq!(Sent::Transfer(transfer), sent),
            Request::Unlink { target } => assert_eq!(Sent::Unlink(target), sent),
            Request::Invalid(reason) => panic!("{reason}"),
        }
        self.tickets.push((ticket, mark));
    }

    fn answer(&mut self, which: usize) {
        let (ticket, mark) = self.tickets.remove(which);
        self.answered.push_back(ticket.id());
        let response = Response { start_frame: mark, ..Response::failed(Status::NoDevice) };
        self.back.respond(ticket, response).unwrap();
    }

    fn publish(&mut self) {
        let due = !self.answered.is_empty() && self.front_sleeps;
        assert_eq!(self.back.publish().is_due(), due);
        self.front_sleeps &= !due;
        self.published.append(&mut self.answered);
    }

    fn take(&mut self) {
        let Some(answer) = self.front.take().unwrap() else {
            assert_eq!(self.published, []);
            return;
        };
        assert_eq!(self.published.pop_front(), Some(answer.id));
        let (sent, mark) = self.sent.remove(&answer.id).unwrap();
        assert_eq!(answer.start_frame, mark);
        let to = match sent {
            Sent::Transfer(_) => Answered::Transfer,
            Sent::Unlink(target) => Answered::Unlink { target },
        };
        assert_eq!((answer.to, answer.status), (to, Status::NoDevice));
    }
}

/// A transfer of some pages, of one of the four types.
fn transfer(kind: u8, pages: u16, mark: u16) -> Transfer {
    let gref = u32::from(mark) << 8;
    let list: Vec<_> = (0..pages)
        .map(|page| Segment { gref: gref + u32::from(page), offset: page, length: 4000 })
        .collect();
    let data = Segments::new(&list).unwrap();
    let table = [Segment { gref: gref + 99, offset: 8, length: 128 }];
    let descriptors = Segments::new(&table).unwrap();
    let kind = match kind {
        0 => Kind::Bulk,
        1 => Kind::Interrupt { interval: mark },
        2 => Kind::Isochronous(Isochronous {
            interval: 1,
            start_frame: mark,
            packets: 8,
            descriptors,
        }),
        _ => {
            Kind::Control(Setup { request_type: 0xc0, value: mark, length: 9, ..Setup::default() })
        }
    };
    Transfer {
        port: Port::new((mark % 31) as u8 + 1).unwrap(),
        address: (mark % 128) as u8,
        endpoint: if matches!(kind, Kind::Control(_)) { 0 } else { 1 },
        direction: Direction::In,
        kind,
        short_not_ok: mark % 2 == 0,
        data,
    }
}

proptest! {
    /// No request and no response is lost, duplicated or changed, and each side is woken if and
    /// only if it is asleep and there is something for it.
    #[test]
    fn requests_are_answered_exactly_once(ops in prop::collection::vec(op(), 1..400)) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
        for op in [Op::Next(16), Op::Detach, Op::Publish, Op::Take(16)] {
            world.step(&op);
        }
        prop_assert_eq!(world.sent, HashMap::new());
    }

    /// Events arrive unchanged and in order, as many as there is credit for, well beyond 512.
    #[test]
    fn events_consume_credit(rounds in prop::collection::vec((0_u32..600, 0_u32..600), 1..12)) {
        let page = MemoryPage::new();
        let mut front = ConnectRing::new(&page);
        prop_assert!(front.fill().is_due(), "the backend is woken until it asks not to be");
        let mut back = connect::Ring::new(&page);
        let mut posted = VecDeque::new();
        let mut front_sleeps = true;
        for (post, take) in rounds {
            for number in 0..post {
                let event = event(number);
                match back.post(event.port, event.speed).unwrap() {
                    Posted::Sent(notify) => {
                        prop_assert_eq!(notify.is_due(), front_sleeps);
                        front_sleeps = false;
                        posted.push_back(event);
                    }
                    Posted::NoCredit => {
                        prop_assert_eq!(posted.len(), 512);
                        prop_assert!(!back.rearm());
                    }
                }
            }
            let starved = posted.len() == 512 && back.post(Port::MIN, Speed::Low) == Ok(Posted::NoCredit);
            prop_assert_eq!(starved, posted.len() == 512);
            if starved {
                prop_assert!(!back.rearm());
            }
            for _ in 0..take {
                prop_assert_eq!(front.take().unwrap(), posted.pop_front());
            }
            prop_assert_eq!(front.push().is_due(), starved && take > 0);
            let more = front.rearm();
            prop_assert_eq!(more, !posted.is_empty());
            front_sleeps |= !more;
        }
    }
}

fn event(number: u32) -> Event {
    Event {
        port: Port::new((number % 31) as u8 + 1).unwrap(),
        speed: Speed::from_wire((number % 4) as u8).unwrap(),
    }
}
