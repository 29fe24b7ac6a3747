//! Which ports are free, kept so that the next place is found in a time that does not grow with what is there.
//!
//! For each set of speeds that was ever looked for there is a set of the controllers that may have a free port for it. A
//! controller leaves a set when it is found to have none, and comes back when a hub is plugged into it; ports are only
//! ever taken, so that each controller is looked at in vain at most once a set and hub.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use crate::address::{Address, Index, PortPath};
use crate::device::{HUB_TAKES, Kind};
use crate::hardware::{Controller, Hardware};
use crate::models::ControllerType;
use crate::speed::{Speed, SpeedSet};

/// The free ports of a domain.
pub(super) struct Room {
    ports: BTreeMap<Index, Ports>,
    /// Controllers that a device may be put on at any time.
    open: Candidates,
    /// pv controllers with devices on them.
    shared: Candidates,
    /// How many pv controllers there are.
    pub(super) pv: usize,
}

/// The controllers that may have a free port, by [`SpeedSet::ordinal`]; `None` until it is first looked for.
type Candidates = [Option<BTreeSet<Index>>; SpeedSet::COUNT];

/// The free ports of a controller. Bit N of a mask is port N + 1.
struct Ports {
    pv: bool,
    /// Whether its devices are another domain's.
    elsewhere: bool,
    /// Whether it is a pv controller with devices on it.
    shared: bool,
    /// Its own free ports.
    root: u32,
    /// Its own ports that take a speed, by speed.
    takes: [u32; 4],
    /// The free ports of its hubs; a hub without any is left out. Paths order depth first.
    hubs: BTreeMap<PortPath, u32>,
}

/// Which controllers a device may be put on that nobody has named.
#[derive(Clone, Copy)]
pub(super) struct May {
    /// Whether pv controllers are among them.
    pub(super) pv: bool,
    /// Whether those are among them that carry another domain's devices.
    pub(super) elsewhere: bool,
}

impl May {
    const fn be_on(self, ports: &Ports) -> bool {
        (self.pv || !ports.pv) && (self.elsewhere || !ports.elsewhere)
    }
}

/// Whether to look at controllers that are free to take a device, or at pv controllers that would be shared.
#[derive(Clone, Copy)]
pub(super) enum Among {
    Open,
    Shared,
}

impl Room {
    pub(super) fn new(hardware: &Hardware) -> Room {
        let mut room = Room {
            ports: BTreeMap::new(),
            open: Default::default(),
            shared: Default::default(),
            pv: 0,
        };
        for controller in hardware.controllers() {
            room.add_controller(controller);
            for (port, device) in controller.devices() {
                room.take(Address { bus: controller.index, port }, &device.kind);
            }
        }
        room
    }

    /// Takes note of a controller with nothing on it.
    pub(super) fn add_controller(&mut self, controller: &Controller) {
        let pv = controller.model.controller_type() == ControllerType::Pv;
        let (elsewhere, hubs) = (controller.backend.is_some(), BTreeMap::new());
        let mut ports = Ports { pv, elsewhere, shared: false, root: 0, takes: [0; 4], hubs };
        // 31 is the most that any model has.
        for port in 1..=controller.ports.count().min(31) {
            let bit = 1 << (port - 1);
            ports.root |= bit;
            for (speed, mask) in Speed::ALL.into_iter().zip(&mut ports.takes) {
                if controller.root_takes(port).contains(speed) {
                    *mask |= bit;
                }
            }
        }
        self.ports.insert(controller.index, ports);
        self.pv += usize::from(pv);
        self.offer(controller.index, Among::Open);
    }

    /// Takes note that a device of this kind was plugged in there.
    pub(super) fn take(&mut self, address: Address, kind: &Kind) {
        let Some(ports) = self.ports.get_mut(&address.bus) else {
            return;
        };
        ports.take(address.port);
        let is_hub = ports.add_hub(address.port, kind.hub_ports());
        if ports.pv {
            ports.shared = true;
            for set in self.open.iter_mut().flatten() {
                set.remove(&address.bus);
            }
            self.offer(address.bus, Among::Shared);
        } else if is_hub {
            self.offer(address.bus, Among::Open);
        }
    }

    /// The first controller by index with a free port that takes one of these speeds, and that port.
    pub(super) fn first(&mut self, among: Among, speeds: SpeedSet, may: May) -> Option<Address> {
        let sets = match among {
            Among::Open => &mut self.open,
            Among::Shared => &mut self.shared,
        };
        let wanted = |ports: &Ports| ports.shared == matches!(among, Among::Shared);
        let set = sets.get_mut(speeds.ordinal())?.get_or_insert_with(|| {
            self.ports.iter().filter(|(_, ports)| wanted(ports)).map(|(bus, _)| *bus).collect()
        });
        let mut full = Vec::new();
        let found = set.iter().find_map(|bus| {
            let ports = self.ports.get(bus)?;
            if !may.be_on(ports) {
                return None;
            }
            let port = ports.lowest(speeds);
            full.extend(port.is_none().then_some(*bus));
            Some(Address { bus: *bus, port: port? })
        });
        for bus in full {
            set.remove(&bus);
        }
        found
    }

    /// The lowest free port of one controller that takes one of these speeds.
    pub(super) fn lowest(&self, bus: Index, speeds: SpeedSet) -> Option<PortPath> {
        self.ports.get(&bus)?.lowest(speeds)
    }

    /// Whether the controller has any free port.
    pub(super) fn has_any(&self, bus: Index) -> bool {
        self.lowest(bus, SpeedSet::ALL).is_some()
    }

    fn offer(&mut self, bus: Index, among: Among) {
        let sets = match among {
            Among::Open => &mut self.open,
            Among::Shared => &mut self.shared,
        };
        for set in sets.iter_mut().flatten() {
            set.insert(bus);
        }
    }
}

impl Ports {
    fn take(&mut self, port: PortPath) {
        let bit = 1u32.checked_shl(u32::from(port.port().saturating_sub(1))).unwrap_or(0);
        match port.parent() {
            None => self.root &= !bit,
            Some(hub) => {
                if let Some(free) = self.hubs.get_mut(&hub) {
                    *free &= !bit;
                    if *free == 0 {
                        self.hubs.remove(&hub);
                    }
                }
            }
        }
    }

    /// Takes note of a hub, unless it is so deep that nothing can be behind it. Whether there are new ports.
    fn add_hub(&mut self, at: PortPath, ports: u8) -> bool {
        let new = ports > 0 && at.depth() < PortPath::MAX_DEPTH;
        if new {
            let mask = 1u32.checked_shl(u32::from(ports)).map_or(u32::MAX, |bit| bit - 1);
            self.hubs.insert(at, mask);
        }
        new
    }

    fn lowest(&self, speeds: SpeedSet) -> Option<PortPath> {
        let fitting = Speed::ALL
            .into_iter()
            .zip(self.takes)
            .filter(|(speed, _)| speeds.contains(*speed))
            .fold(0, |all, (_, mask)| all | mask);
        if let Some(port) = lowest_bit(self.root & fitting) {
            return Some(PortPath::root(port));
        }
        if speeds.and(HUB_TAKES).is_empty() {
            return None;
        }
        let (hub, free) = self.hubs.first_key_value()?;
        hub.child(lowest_bit(*free)?)
    }
}

/// The port of the lowest bit that is set.
fn lowest_bit(mask: u32) -> Option<NonZeroU8> {
    let port = u8::try_from(mask.trailing_zeros()).ok()?.checked_add(1)?;
    NonZeroU8::new(port).filter(|_| mask != 0)
}
