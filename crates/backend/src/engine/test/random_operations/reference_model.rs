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
    unanswered: BTreeMap<u16, Sent>,
    /// The data that was transferred, by port and endpoint, and then by the request's number.
    transferred: BTreeMap<(u8, u8), BTreeMap<u32, Transferred>>,
    next_number: u32,
}

/// A request that was sent.
#[derive(Clone, Copy)]
enum Sent {
    Unlink,
    /// `endpoint` is `None` if the data of the request is not checked.
    Transfer {
        number: u32,
        port: u8,
        endpoint: Option<u8>,
    },
}

/// The data that a request transferred.
struct Transferred {
    /// The length that the backend reported.
    bytes: usize,
    /// That much of the request's memory.
    data: Vec<u8>,
}

/// The data that the guest writes with the request of this number.
pub(super) fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let start = number as usize * 7919;
    stream(start..start + bytes)
}

/// Checks that no read was submitted to endpoint 0x81 while a short-not-ok read was in flight.
fn check_short_not_ok(in_flight: &[(u64, InFlight)]) {
    // The token, and whether the read is short-not-ok.
    let read = |(token, transfer): &(u64, InFlight)| match transfer {
        InFlight::Data { endpoint: 0x81, items, .. } => {
            Some((*token, items.iter().any(|it| it.transfer.short_not_ok)))
        }
        _ => None,
    };
    let mut reads: Vec<_> = in_flight.iter().filter_map(read).collect();
    // Tokens ascend, so the newest read is last. Only that one may be short-not-ok.
    reads.sort_unstable();
    reads.pop();
    assert!(reads.iter().all(|it| !it.1), "a read was submitted behind a short-not-ok read");
}

impl Model {
    /// The number of the next request.
    pub(super) const fn number(&self) -> u32 {
        self.next_number
    }

    pub(super) fn sent(&mut self, id: u16, port: u8, endpoint: Option<u8>) {
        let transfer = Sent::Transfer { number: self.next_number, port, endpoint };
        self.next_number += 1;
        assert!(self.unanswered.insert(id, transfer).is_none());
    }

    pub(super) fn unlink_sent(&mut self, id: u16) {
        assert!(self.unanswered.insert(id, Sent::Unlink).is_none());
    }

    /// The ids of all transfers that are not answered.
    pub(super) fn transfers(&self) -> Vec<u16> {
        let unanswered = self.unanswered.iter();
        unanswered.filter(|it| matches!(it.1, Sent::Transfer { .. })).map(|it| *it.0).collect()
    }

    /// The guest reads the responses. Records the transferred data.
    pub(super) fn read_replies(&mut self, world: &mut World) {
        for (id, status, bytes) in world.replies() {
            match self.unanswered.remove(&id).unwrap() {
                Sent::Unlink => assert_eq!((status, bytes), (Status::Ok, 0)),
                Sent::Transfer { number, port, endpoint: Some(endpoint) } => {
                    let (bytes, mut data) = (bytes as usize, world.data(id).to_vec());
                    let rest = data.split_off(bytes);
                    if endpoint & 0x80 != 0 {
                        assert!(is_blank(&rest), "more data written than reported");
                    }
                    let all = self.transferred.entry((port, endpoint)).or_default();
                    all.insert(number, Transferred { bytes, data });
                }
                Sent::Transfer { .. } => {}
            }
        }
    }

    /// Whether all requests are answered.
    pub(super) fn is_empty(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Checks the invariants after a round.
    pub(super) fn check(&self, world: &World) {
        let engine = &world.engine;
        assert!(engine.unanswered.len() <= 16);
        assert!(engine.port_events.len() <= 2 * engine.slots.len());
        assert!(engine.jobs.is_empty() && engine.status_changes.is_empty());
        for job in &world.jobs {
            if matches!(job.work, Work::Release(..)) {
                let released = job.port.number();
                let is_for_port = |id: &u16| match self.unanswered[id] {
                    Sent::Transfer { port, .. } => port == released,
                    Sent::Unlink => false,
                };
                assert!(
                    !engine.unanswered.iter().any(is_for_port),
                    "released with unanswered requests"
                );
            }
        }
        for slot in &engine.slots {
            if let State::Exported(exported) = &slot.state {
                assert!(exported.in_flight.len() <= 16 && exported.deferred_discards.len() <= 16);
                check_short_not_ok(&exported.in_flight);
            }
        }
    }

    /// Final checks: all requests are answered, all grants are revoked, and the data of each
    /// endpoint arrived completely and in the order of the requests.
    pub(super) fn check_final_state(&self, world: &World, ports: u8) {
        assert!(self.unanswered.is_empty(), "a request is not answered");
        assert_eq!((world.engine.unanswered.len(), world.memory.granted()), (0, 0));
        for port in 1..=ports {
            let streams = world.streams(port);
            // The device records both directions of endpoint 0 at address 0.
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

    /// Joins what `bytes` returns for each answered request of an endpoint, in the order of the
    /// requests.
    fn in_order(
        &self,
        port: u8,
        endpoint: u8,
        bytes: impl Fn(u32, &Transferred) -> Vec<u8>,
    ) -> Vec<u8> {
        let all = self.transferred.get(&(port, endpoint)).into_iter().flatten();
        all.map(|(number, it)| bytes(*number, it)).collect::<Vec<_>>().concat()
    }
}
