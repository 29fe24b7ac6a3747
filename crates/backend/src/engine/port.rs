//! One port of a controller, and the device in it.
//!
//! ```text
//!                                              request
//!                                             withdrawn,
//!         requested          opened          or unplugged
//!   Empty ────────▶ Opening ───────▶ Exported ───────────▶ Exported ─────▶ Releasing ──▶ Empty
//!     ▲              │  │                                  (detaching:     (a job rebinds the
//!     │ request      │  └──▶ Refused                        transfers end)  host's drivers)
//!     │ withdrawn    │
//!     └─── Absent ◀──┘
//!            │
//!            └─▶ Opening again when a device is plugged in or changed
//! ```
//!
//! The requests are the toolstack's. `Refused` ends as `Absent` does. A request that arrives while
//! the port is `Opening` or `Releasing` takes effect when the job has ended. If another device is
//! requested while one is `Exported`, the exported one is detached first.

use std::collections::{BTreeMap, VecDeque};

use vusb_usbif::urb::{Direction, Kind, Ticket, Transfer};

use super::guest_view::GuestView;
use super::in_flight::InFlight;
use super::job::Configuration;
use super::queue::{Item, Merging, Queue, Rest};
use super::train::{self, Train};
use vusb_xen::usb::RequestedDevice;

/// A port.
pub(super) struct Slot<U> {
    /// The device that the toolstack requests for the port.
    pub(super) requested: Option<RequestedDevice>,
    /// The state of the port.
    pub(super) state: State<U>,
    /// A device was plugged in or changed while a job was opening the requested one. If that job
    /// fails, another job is started.
    pub(super) rescan: bool,
}

/// The state of a port.
pub(super) enum State<U> {
    /// No device.
    Empty,
    /// A job is finding and opening this device.
    Opening(RequestedDevice),
    /// The requested device is not plugged in.
    Absent(RequestedDevice),
    /// The requested device cannot be exported.
    Refused(RequestedDevice),
    /// The guest has the device.
    Exported(Box<Exported<U>>),
    /// A job is returning the device to the host's drivers.
    Releasing,
}

impl<U> Slot<U> {
    pub(super) const fn new() -> Slot<U> {
        Slot { requested: None, state: State::Empty, rescan: false }
    }

    pub(super) fn exported(&mut self) -> Option<&mut Exported<U>> {
        match &mut self.state {
            State::Exported(device) => Some(device),
            _ => None,
        }
    }
}

/// A request of the guest that has not been answered.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    /// Boxed because it is about 300 bytes long, and is moved from queue to queue.
    pub(super) transfer: Box<Transfer>,
    /// The position of the request in the sequence of all requests of the controller.
    pub(super) number: u64,
    /// The guest has cancelled it.
    pub(super) unlinked: bool,
}

impl Item for Pending {
    fn number(&self) -> u64 {
        self.number
    }

    fn length(&self) -> usize {
        self.transfer.len_bytes()
    }

    fn short_not_ok(&self) -> bool {
        // An isochronous transfer cannot end short, so the flag has no meaning there.
        self.transfer.short_not_ok && !matches!(self.transfer.kind, Kind::Isochronous(_))
    }
}

/// A device that is exported to the guest.
pub(super) struct Exported<U> {
    pub(super) usb: U,
    pub(super) requested: RequestedDevice,
    pub(super) view: GuestView,
    /// The address that the guest gave the device.
    pub(super) address: Option<u8>,
    /// The configuration that the guest has selected; 0 for none.
    pub(super) configuration: u8,
    /// The configuration that the device actually has.
    pub(super) active: Configuration,
    /// Waiting control requests. They are executed one at a time.
    pub(super) control_queue: VecDeque<Pending>,
    /// The control request in progress.
    pub(super) current_control: Option<CurrentControl>,
    /// Waiting requests, by endpoint address.
    pub(super) endpoints: BTreeMap<u8, Queue<Pending>>,
    /// The endpoint and the train of the last mass storage command.
    pub(super) train: Option<(u8, Train)>,
    /// Submitted transfers, with their tokens.
    pub(super) in_flight: Vec<(u64, InFlight)>,
    /// Tokens of transfers to discard when the running job has ended.
    pub(super) deferred_discards: Vec<u64>,
    /// A job is working on the device: nothing else may touch it.
    pub(super) job_running: bool,
    /// The device is being detached.
    pub(super) detaching: bool,
    /// The device was unplugged.
    pub(super) unplugged: bool,
    /// There was no memory for a transfer: retry.
    pub(super) starved: bool,
}

/// Who is executing the current control request.
pub(super) enum CurrentControl {
    /// The device: it was submitted as a transfer.
    Submitted,
    /// A job. The change is applied if the job succeeds.
    InJob(Box<Pending>, Change),
}

/// What a successful job changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Address(u8),
    Configuration(Configuration),
}

impl<U> Exported<U> {
    pub(super) fn new(usb: U, requested: RequestedDevice, view: GuestView) -> Exported<U> {
        let active = view.initial_configuration();
        Exported {
            usb,
            requested,
            view,
            active,
            address: None,
            configuration: 0,
            control_queue: VecDeque::new(),
            current_control: None,
            endpoints: BTreeMap::new(),
            train: None,
            in_flight: Vec::new(),
            deferred_discards: Vec::new(),
            job_running: false,
            detaching: false,
            unplugged: false,
            starved: false,
        }
    }

    /// The configuration whose interfaces are claimed; configuration 0 if none are.
    pub(super) fn claimed(&self) -> Configuration {
        let none = Configuration { value: 0, interfaces: Vec::new() };
        if self.configuration > 0 { self.active.clone() } else { none }
    }

    /// The queue of an endpoint.
    pub(super) fn endpoint(&mut self, address: u8) -> &mut Queue<Pending> {
        self.endpoints
            .entry(address)
            .or_insert_with(|| Queue::new(merging(&self.view, self.configuration, address)))
    }

    /// If the bytes that are sent to an endpoint are a command block, records the train that it
    /// announces.
    pub(super) fn note_command(&mut self, endpoint: u8, bytes: &[u8]) {
        let Some((direction, length)) = train::announced(bytes) else { return };
        let data_endpoint =
            |direction| self.view.mass_storage_endpoint(self.configuration, endpoint, direction);
        let in_endpoint = data_endpoint(Direction::In);
        self.train = data_endpoint(direction).map(|endpoint| (endpoint, Train::new(length)));
        // Reads that arrive from now on belong to this command, whatever its direction is.
        if let Some(queue) = in_endpoint.and_then(|endpoint| self.endpoints.get_mut(&endpoint)) {
            queue.begin_train();
        }
    }

    /// A short packet has ended the reads of an endpoint. If they carry the data of a mass storage
    /// command, it is known whether the guest is going to request more of that data.
    pub(super) fn end_train(&mut self, endpoint: u8) {
        let train = self.train.take_if(|it| it.0 == endpoint);
        let rest = match train {
            Some((_, train)) if train.is_submitted() => Rest::None,
            Some(_) => Rest::UntilOther,
            None => Rest::Waiting,
        };
        self.endpoint(endpoint).end_train(rest);
    }

    /// Whether the waiting requests of a train are only its beginning, and the guest is about to
    /// send the rest. The guest can add `free` requests to its ring.
    pub(super) fn awaits_train(&self, free: usize) -> bool {
        let Some((endpoint, train)) = self.train else { return false };
        let usable = !self.job_running && !self.detaching && !self.starved;
        let open = self.endpoints.get(&endpoint).and_then(Queue::open_batch);
        usable
            && open.is_some_and(|it| train.is_worth_waiting(it.requests, it.bytes, it.limit, free))
    }

    /// The train of this endpoint, if there is one.
    pub(super) fn train_of(&mut self, endpoint: u8) -> Option<&mut Train> {
        self.train.as_mut().filter(|it| it.0 == endpoint).map(|it| &mut it.1)
    }

    /// Records the configuration that the guest has selected. Its packet sizes may differ, so
    /// waiting requests are merged by the new sizes. Transfers that are in flight do not change.
    pub(super) fn set_configuration(&mut self, value: u8) {
        self.configuration = value;
        for (address, queue) in &mut self.endpoints {
            queue.set_merging(merging(&self.view, value, *address));
        }
    }

    /// Removes the request with this id, if it is still waiting.
    pub(super) fn take_waiting(&mut self, id: u16) -> Option<Pending> {
        let has_id = |it: &Pending| it.ticket.id() == id;
        if let Some(at) = self.control_queue.iter().position(has_id) {
            return self.control_queue.remove(at);
        }
        self.endpoints.values_mut().find_map(|queue| queue.take(has_id))
    }

    /// Marks a submitted request as cancelled. Returns the token of its transfer.
    pub(super) fn mark_unlinked(&mut self, id: u16) -> Option<u64> {
        self.in_flight.iter_mut().find_map(|(token, transfer)| {
            let item = transfer.items_mut().find(|it| it.ticket.id() == id)?;
            item.unlinked = true;
            Some(*token)
        })
    }

    /// Removes all waiting requests.
    pub(super) fn drain_waiting(&mut self) -> Vec<Pending> {
        let mut all: Vec<Pending> = self.control_queue.drain(..).collect();
        self.endpoints.values_mut().for_each(|queue| all.extend(queue.drain()));
        all
    }
}

/// How requests of an endpoint may be merged. Only the type of the endpoint in the device's
/// descriptors counts, not the transfer type that the guest claims: the kernel rejects transfers
/// that do not match the endpoint.
fn merging(view: &GuestView, configuration: u8, endpoint: u8) -> Merging {
    match view.bulk_packet_size(configuration, endpoint) {
        None => Merging::Never,
        Some(packet) if endpoint & 0x80 != 0 => Merging::Reads(packet),
        Some(packet) => Merging::Writes(packet),
    }
}
