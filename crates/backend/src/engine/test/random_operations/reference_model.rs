//! An independent model of the guest's requests and their results.

use std::collections::BTreeMap;

use vusb_usbif::urb::Status;

use super::super::super::in_flight::InFlight;
use super::super::super::{State, Work};
use super::super::device::stream;
use super::super::memory::is_blank;
use super::super::world::World;

#[derive(Default)]
pub(super) struct Model {
    /// Unanswered requests, by their id in the ring. A request counts as answered when the guest
    /// has read the response.
    open: BTreeMap<u16, Entry>,
    /// By port and endpoint, in the order of the requests: the data that was transferred.
    moved: BTreeMap<(u8, u8), BTreeMap<u32, Moved>>,
    next: u32,
}

#[derive(Clone, Copy)]
enum Entry {
    Unlink,
    /// Its number, its port, and its endpoint if it uses one of the device's streams.
    Transfer(u32, u8, Option<u8>),
}

struct Moved {
    bytes: usize,
    data: Vec<u8>,
}

/// The data that the guest writes with its request of this number.
pub(super) fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let start = number as usize * 7919;
    stream(start..start + bytes)
}

/// Checks that no later read of the endpoint is in flight together with one that is short-not-ok.
fn check_trains(flights: &[(u64, InFlight)]) {
    let reads = |it: &(u64, InFlight)| match &it.1 {
        InFlight::Data { endpoint: 0x81, items, .. } => {
            Some((it.0, items.iter().any(|it| it.transfer.short_not_ok)))
        }
        _ => None,
    };
    let mut reads: Vec<_> = flights.iter().filter_map(reads).collect();
    reads.sort_unstable();
    reads.pop();
    assert!(reads.iter().all(|it| !it.1), "a read follows a train");
}

impl Model {
    /// The number of the next request.
    pub(super) const fn number(&self) -> u32 {
        self.next
    }

    pub(super) fn sent(&mut self, id: u16, port: u8, endpoint: Option<u8>) {
        let entry = Entry::Transfer(self.next, port, endpoint);
        self.next += 1;
        assert!(self.open.insert(id, entry).is_none());
    }

    pub(super) fn unlink_sent(&mut self, id: u16) {
        assert!(self.open.insert(id, Entry::Unlink).is_none());
    }

    /// The ids of all transfers that are not answered.
    pub(super) fn transfers(&self) -> Vec<u16> {
        let open = self.open.iter();
        open.filter(|it| matches!(it.1, Entry::Transfer(..))).map(|it| *it.0).collect()
    }

    /// The guest reads the responses.
    pub(super) fn read_replies(&mut self, world: &mut World) {
        for (id, status, bytes) in world.replies() {
            match self.open.remove(&id).unwrap() {
                Entry::Unlink => assert_eq!((status, bytes), (Status::Ok, 0)),
                Entry::Transfer(number, port, Some(endpoint)) => {
                    let (bytes, mut data) = (bytes as usize, world.data(id).to_vec());
                    let behind = data.split_off(bytes);
                    if endpoint & 0x80 != 0 {
                        assert!(is_blank(&behind), "more data written than reported");
                    }
                    let all = self.moved.entry((port, endpoint)).or_default();
                    all.insert(number, Moved { bytes, data });
                }
                Entry::Transfer(..) => {}
            }
        }
    }

    /// Whether all requests are answered.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Checks the invariants after a round.
    pub(super) fn check(&self, world: &World) {
        let engine = &world.engine;
        assert!(engine.unanswered.len() <= 16);
        assert!(engine.port_events.len() <= 2 * engine.slots.len());
        assert!(engine.jobs.is_empty() && engine.status_changes.is_empty());
        for job in &world.jobs {
            if matches!(job.work, Work::Release(..)) {
                let port = job.port.number();
                let ours =
                    |it: &u16| matches!(self.open[it], Entry::Transfer(_, p, _) if p == port);
                assert!(!engine.unanswered.iter().any(ours), "released with unanswered requests");
            }
        }
        for slot in &engine.slots {
            if let State::Exported(exported) = &slot.state {
                assert!(exported.in_flight.len() <= 16 && exported.deferred_discards.len() <= 16);
                check_trains(&exported.in_flight);
            }
        }
    }

    /// Final checks: all requests are answered, and the data of each endpoint arrived completely
    /// and in the order of the requests.
    pub(super) fn check_final_state(&self, world: &World, ports: u8) {
        assert!(self.open.is_empty(), "a request is not answered");
        assert_eq!((world.engine.unanswered.len(), world.memory.granted()), (0, 0));
        for port in 1..=ports {
            let streams = world.streams(port);
            // Endpoint 0 has one address for both directions.
            for (endpoint, address) in [(0x80, 0), (0x81, 0x81), (0x83, 0x83)] {
                let sent = stream(0..streams.of(address).sent);
                let received = self.in_order(port, endpoint, |_, it| it.data.clone());
                assert!(received == sent, "port {port}, endpoint {endpoint:#x}: read");
            }
            for endpoint in [0x00, 0x02] {
                let received = streams.of(endpoint).received;
                let written = self.in_order(port, endpoint, |number, it| payload(number, it.bytes));
                assert!(written == received, "port {port}, endpoint {endpoint:#x}: written");
            }
        }
    }

    fn in_order(&self, port: u8, endpoint: u8, bytes: impl Fn(u32, &Moved) -> Vec<u8>) -> Vec<u8> {
        let all = self.moved.get(&(port, endpoint)).into_iter().flatten();
        all.map(|(number, it)| bytes(*number, it)).collect::<Vec<_>>().concat()
    }
}
