//! What the guest has asked for, and what it got.

use std::collections::BTreeMap;

use vusb_usbif::urb::Status;

use super::super::super::flight::Flight;
use super::super::super::{State, Work};
use super::super::device::stream;
use super::super::memory::is_blank;
use super::super::world::World;

#[derive(Default)]
pub(super) struct Books {
    /// By the ring's number: what is not answered, as far as the guest has looked.
    open: BTreeMap<u16, Entry>,
    /// By endpoint of a port, and in the order of asking: how many bytes were moved, and those that were read.
    moved: BTreeMap<(u8, u8), BTreeMap<u32, Moved>>,
    next: u32,
}

#[derive(Clone, Copy)]
enum Entry {
    Unlink,
    /// Its number, port, and endpoint if bytes go through one of the device's streams.
    Transfer(u32, u8, Option<u8>),
}

struct Moved {
    bytes: usize,
    data: Vec<u8>,
}

/// What the guest writes with its request of this number.
pub(super) fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let start = number as usize * 7919;
    stream(start..start + bytes)
}

/// While a read that nothing may follow is with the device, so is no later one.
fn check_trains(flights: &[(u64, Flight)]) {
    let reads = |it: &(u64, Flight)| match &it.1 {
        Flight::Data { endpoint: 0x81, items, .. } => {
            Some((it.0, items.iter().any(|it| it.transfer.short_not_ok)))
        }
        _ => None,
    };
    let mut reads: Vec<_> = flights.iter().filter_map(reads).collect();
    reads.sort_unstable();
    reads.pop();
    assert!(reads.iter().all(|it| !it.1), "read behind a train");
}

impl Books {
    /// The number of the next request.
    pub(super) const fn number(&self) -> u32 {
        self.next
    }

    pub(super) fn asked(&mut self, id: u16, port: u8, endpoint: Option<u8>) {
        let entry = Entry::Transfer(self.next, port, endpoint);
        self.next += 1;
        assert!(self.open.insert(id, entry).is_none());
    }

    pub(super) fn unlinked(&mut self, id: u16) {
        assert!(self.open.insert(id, Entry::Unlink).is_none());
    }

    /// The ring's numbers of all transfers that are not answered.
    pub(super) fn transfers(&self) -> Vec<u16> {
        let open = self.open.iter();
        open.filter(|it| matches!(it.1, Entry::Transfer(..))).map(|it| *it.0).collect()
    }

    /// The guest looks at what is answered.
    pub(super) fn look(&mut self, world: &mut World) {
        for (id, status, bytes) in world.replies() {
            match self.open.remove(&id).unwrap() {
                Entry::Unlink => assert_eq!((status, bytes), (Status::Ok, 0)),
                Entry::Transfer(number, port, Some(endpoint)) => {
                    let (bytes, mut data) = (bytes as usize, world.data(id).to_vec());
                    let behind = data.split_off(bytes);
                    if endpoint & 0x80 != 0 {
                        assert!(is_blank(&behind), "more than it says");
                    }
                    let all = self.moved.entry((port, endpoint)).or_default();
                    all.insert(number, Moved { bytes, data });
                }
                Entry::Transfer(..) => {}
            }
        }
    }

    /// Whether all is answered, as far as the guest has looked.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// After each round.
    pub(super) fn check(&self, world: &World) {
        let engine = &world.engine;
        assert!(engine.ids.len() <= 16);
        assert!(engine.tell.len() <= 2 * engine.slots.len());
        assert!(engine.jobs.is_empty() && engine.notices.is_empty());
        for job in &world.jobs {
            if matches!(job.work, Work::GiveBack(..)) {
                let port = job.port.number();
                let ours =
                    |it: &u16| matches!(self.open[it], Entry::Transfer(_, p, _) if p == port);
                assert!(!engine.ids.iter().any(ours), "given back with requests unanswered");
            }
        }
        for slot in &engine.slots {
            if let State::Lent(lent) = &slot.state {
                assert!(lent.flights.len() <= 16 && lent.discards.len() <= 16);
                check_trains(&lent.flights);
            }
        }
    }

    /// In the end: all is answered, and what came out of each endpoint is what went in, in the order of asking.
    pub(super) fn close(&self, world: &World, ports: u8) {
        assert!(self.open.is_empty(), "not answered");
        assert_eq!((world.engine.ids.len(), world.memory.granted()), (0, 0));
        for port in 1..=ports {
            let streams = world.streams(port);
            // Endpoint 0 goes both ways under one address.
            for (endpoint, address) in [(0x80, 0), (0x81, 0x81), (0x83, 0x83)] {
                let sent = stream(0..streams.of(address).sent);
                let got = self.in_order(port, endpoint, |_, it| it.data.clone());
                assert!(got == sent, "port {port}, endpoint {endpoint:#x}: read");
            }
            for endpoint in [0x00, 0x02] {
                let taken = streams.of(endpoint).taken;
                let given = self.in_order(port, endpoint, |number, it| payload(number, it.bytes));
                assert!(given == taken, "port {port}, endpoint {endpoint:#x}: written");
            }
        }
    }

    fn in_order(&self, port: u8, endpoint: u8, bytes: impl Fn(u32, &Moved) -> Vec<u8>) -> Vec<u8> {
        let all = self.moved.get(&(port, endpoint)).into_iter().flatten();
        all.map(|(number, it)| bytes(*number, it)).collect::<Vec<_>>().concat()
    }
}
