//! One port of a controller, and the device in it.
//!
//! ```text
//!            wanted            opened                     not wanted any more, or unplugged
//!   Empty ──────────▶ Opening ────────▶ Lent ─────────────────────▶ Leaving ──▶ GivingBack ──▶ Empty
//!     ▲                 │  │                                         transfers     drivers
//!     │ not wanted      │  └─▶ Refused                               come to        take it
//!     └──── Absent ◀────┘                                            their end        back
//!              │ ▲ plugged in: Opening
//!              └─┘
//! ```
//!
//! Whatever is wanted meanwhile is looked at when the port is `Empty`, `Absent` or `Refused`.

use std::collections::{BTreeMap, VecDeque};

use vusb_usbif::urb::{Kind, Ticket, Transfer};

use super::flight::Flight;
use super::job::Chosen;
use super::offer::Offer;
use super::queue::{Item, Merging, Queue};
use crate::nodes::Want;

/// A port.
pub(super) struct Slot<U> {
    /// What the toolstack wants in it.
    pub(super) wanted: Option<Want>,
    /// What is in it.
    pub(super) state: State<U>,
    /// Something was plugged in while a job was looking: if the job has not found the device, it may be there now.
    pub(super) look_again: bool,
}

/// What is in a port.
pub(super) enum State<U> {
    /// Nothing.
    Empty,
    /// A job looks for this device.
    Opening(Want),
    /// The wanted device is not plugged in.
    Absent(Want),
    /// The wanted device is not lent.
    Refused(Want),
    /// A device.
    Lent(Box<Lent<U>>),
    /// A job gives the device back.
    GivingBack,
}

impl<U> Slot<U> {
    pub(super) const fn new() -> Slot<U> {
        Slot { wanted: None, state: State::Empty, look_again: false }
    }

    pub(super) fn lent(&mut self) -> Option<&mut Lent<U>> {
        match &mut self.state {
            State::Lent(lent) => Some(lent),
            _ => None,
        }
    }
}

/// A request of the guest that was not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) transfer: Transfer,
    /// Which of the controller's requests it is, in the order of the ring.
    pub(super) number: u64,
    /// The guest wants it cancelled.
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
        // An isochronous transfer has no end that could be short, whatever the guest says of it.
        self.transfer.short_not_ok && !matches!(self.transfer.kind, Kind::Isochronous(_))
    }
}

/// A device that the guest has.
pub(super) struct Lent<U> {
    pub(super) usb: U,
    pub(super) want: Want,
    pub(super) offer: Offer,
    /// The guest's address for it.
    pub(super) address: Option<u8>,
    /// The configuration that the guest has chosen; 0 before.
    pub(super) configuration: u8,
    /// The configuration that the device is in.
    pub(super) active: Chosen,
    /// Control requests, which are done one after the other.
    pub(super) control: VecDeque<Pending>,
    /// The control request that the device or a job is at.
    pub(super) current: Option<Control>,
    /// Endpoints by their address.
    pub(super) endpoints: BTreeMap<u8, Queue<Pending>>,
    /// Transfers that the device has, by their token.
    pub(super) flights: Vec<(u64, Flight)>,
    /// Transfers to discard as soon as no job is at the device.
    pub(super) discards: Vec<u64>,
    /// A job is at the device: nothing else may touch it.
    pub(super) busy: bool,
    /// The device is to be given back.
    pub(super) leaving: bool,
    /// The device was unplugged.
    pub(super) gone: bool,
    /// Memory was short: try again.
    pub(super) starved: bool,
}

/// What becomes of the control request at hand.
pub(super) enum Control {
    /// The device has it.
    AtDevice,
    /// A job does it; what changes if it ends well.
    AtJob(Box<Pending>, Change),
}

/// What a job changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Address(u8),
    Configuration(Chosen),
}

impl<U> Lent<U> {
    pub(super) fn new(usb: U, want: Want, offer: Offer) -> Lent<U> {
        let active = offer.active();
        Lent {
            usb,
            want,
            offer,
            active,
            address: None,
            configuration: 0,
            control: VecDeque::new(),
            current: None,
            endpoints: BTreeMap::new(),
            flights: Vec::new(),
            discards: Vec::new(),
            busy: false,
            leaving: false,
            gone: false,
            starved: false,
        }
    }

    /// The configuration whose interfaces are taken.
    pub(super) fn taken(&self) -> Chosen {
        let none = Chosen { value: 0, interfaces: Vec::new() };
        if self.configuration > 0 { self.active.clone() } else { none }
    }

    /// The queue of an endpoint.
    pub(super) fn endpoint(&mut self, address: u8) -> &mut Queue<Pending> {
        self.endpoints
            .entry(address)
            .or_insert_with(|| Queue::new(merging(&self.offer, self.configuration, address)))
    }

    /// The guest has chosen a configuration: other settings, other packets. What waits goes on under them, behind what the device has.
    pub(super) fn configured(&mut self, value: u8) {
        self.configuration = value;
        for (address, queue) in &mut self.endpoints {
            queue.merge(merging(&self.offer, value, *address));
        }
    }

    /// Takes a request out that the device does not have yet.
    pub(super) fn take_waiting(&mut self, id: u16) -> Option<Pending> {
        let is = |it: &Pending| it.ticket.id() == id;
        if let Some(at) = self.control.iter().position(is) {
            return self.control.remove(at);
        }
        self.endpoints.values_mut().find_map(|queue| queue.take(is))
    }

    /// Marks a request that the device has; its token, if it has it.
    pub(super) fn mark_unlinked(&mut self, id: u16) -> Option<u64> {
        self.flights.iter_mut().find_map(|(token, flight)| {
            let item = flight.items_mut().find(|it| it.ticket.id() == id)?;
            item.unlinked = true;
            Some(*token)
        })
    }

    /// Takes out all that the device does not have.
    pub(super) fn drain_waiting(&mut self) -> Vec<Pending> {
        let mut all: Vec<Pending> = self.control.drain(..).collect();
        self.endpoints.values_mut().for_each(|queue| all.extend(queue.clear()));
        all
    }
}

/// How requests of an endpoint may be put together. What the guest calls them does not count: for an endpoint of another kind the kernel takes none.
fn merging(offer: &Offer, configuration: u8, endpoint: u8) -> Merging {
    match offer.bulk_packet(configuration, endpoint) {
        None => Merging::Never,
        Some(packet) if endpoint & 0x80 != 0 => Merging::Reads(packet),
        Some(packet) => Merging::Writes(packet),
    }
}
