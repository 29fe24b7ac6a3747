//! The free ports, stored so that the time to find the next one does not grow with the size of the
//! hardware.
//!
//! For each pool and each set of speeds that has been looked up, there is a set of the controllers
//! that may have a free port for those speeds. A controller leaves that set when it turns out to
//! have none, and returns when a hub is plugged into it (a pv controller, when any device is).
//! Ports are never freed. So a controller is searched without success at most once per set, and
//! once more each time that it returns.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use crate::address::{Address, Index, PortPath};
use crate::device::{HUB_SPEEDS, Kind};
use crate::hardware::{Controller, Hardware};
use crate::models::ControllerType;
use crate::speed::{Speed, SpeedSet};

/// The free ports of a domain.
pub(super) struct PortAllocator {
    ports: BTreeMap<Index, FreePorts>,
    /// Controllers that can take a device without being shared.
    open: BusSets,
    /// pv controllers with devices on them.
    shared: BusSets,
    /// The number of pv controllers.
    pub(super) pv: usize,
}

/// The controllers that may have a free port, by [`SpeedSet::ordinal`]; `None` until the first
/// lookup.
type BusSets = [Option<BTreeSet<Index>>; SpeedSet::COUNT];

/// The free ports of a controller. Bit N of a mask is port N + 1.
struct FreePorts {
    pv: bool,
    /// Whether it has a backend domain other than 0.
    other_backend: bool,
    /// Whether it is a pv controller with devices on it.
    shared: bool,
    /// Its own free ports.
    root: u32,
    /// Its own ports that support a speed, by speed.
    by_speed: [u32; 4],
    /// The free ports of its hubs, without the hubs that have none. Paths sort depth first.
    hubs: BTreeMap<PortPath, u32>,
}

/// Which controllers are candidates for a device that requests none.
#[derive(Clone, Copy)]
pub(super) struct Candidates {
    /// Whether pv controllers are candidates.
    pub(super) pv: bool,
    /// Whether controllers of other backend domains are candidates.
    pub(super) other_backends: bool,
}

impl Candidates {
    const fn include(self, ports: &FreePorts) -> bool {
        (self.pv || !ports.pv) && (self.other_backends || !ports.other_backend)
    }
}

/// Which controllers to search: those that can take a device without being shared, or the pv
/// controllers with devices on them.
#[derive(Clone, Copy)]
pub(super) enum Pool {
    Open,
    Shared,
}

impl PortAllocator {
    pub(super) fn new(hardware: &Hardware) -> PortAllocator {
        let mut allocator = PortAllocator {
            ports: BTreeMap::new(),
            open: Default::default(),
            shared: Default::default(),
            pv: 0,
        };
        for controller in hardware.controllers() {
            allocator.add_controller(controller);
            for (port, device) in controller.devices() {
                allocator.take(Address { bus: controller.index, port }, &device.kind);
            }
        }
        allocator
    }

    /// Adds a controller, without the devices on it.
    pub(super) fn add_controller(&mut self, controller: &Controller) {
        let pv = controller.model.controller_type() == ControllerType::Pv;
        let mut ports = FreePorts {
            pv,
            other_backend: controller.backend.is_some(),
            shared: false,
            root: 0,
            by_speed: [0; 4],
            hubs: BTreeMap::new(),
        };
        // No model has more than 31 ports.
        for port in 1..=controller.ports.count().min(31) {
            let bit = 1 << (port - 1);
            ports.root |= bit;
            for (speed, mask) in Speed::ALL.into_iter().zip(&mut ports.by_speed) {
                if controller.root_port_speeds(port).contains(speed) {
                    *mask |= bit;
                }
            }
        }
        self.ports.insert(controller.index, ports);
        self.pv += usize::from(pv);
        self.offer(controller.index, Pool::Open);
    }

    /// Leaves the ports of a controller to the devices that request them.
    pub(super) fn withhold(&mut self, index: Index) {
        self.ports.remove(&index);
        for set in self.open.iter_mut().chain(&mut self.shared).flatten() {
            set.remove(&index);
        }
    }

    /// Records that a device of this kind was plugged in at `address`.
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
            self.offer(address.bus, Pool::Shared);
        } else if is_hub {
            self.offer(address.bus, Pool::Open);
        }
    }

    /// The first controller by index with a free port that supports one of these speeds, and that
    /// port.
    pub(super) fn first(
        &mut self,
        pool: Pool,
        speeds: SpeedSet,
        candidates: Candidates,
    ) -> Option<Address> {
        let sets = match pool {
            Pool::Open => &mut self.open,
            Pool::Shared => &mut self.shared,
        };
        let in_pool = |ports: &FreePorts| ports.shared == matches!(pool, Pool::Shared);
        let set = sets.get_mut(speeds.ordinal())?.get_or_insert_with(|| {
            self.ports.iter().filter(|(_, ports)| in_pool(ports)).map(|(bus, _)| *bus).collect()
        });
        let mut full = Vec::new();
        let found = set.iter().find_map(|bus| {
            let ports = self.ports.get(bus)?;
            if !candidates.include(ports) {
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

    /// The lowest free port of one controller that supports one of these speeds.
    pub(super) fn lowest(&self, bus: Index, speeds: SpeedSet) -> Option<PortPath> {
        self.ports.get(&bus)?.lowest(speeds)
    }

    /// Whether the controller has a free port.
    pub(super) fn has_any(&self, bus: Index) -> bool {
        self.lowest(bus, SpeedSet::ALL).is_some()
    }

    fn offer(&mut self, bus: Index, pool: Pool) {
        let sets = match pool {
            Pool::Open => &mut self.open,
            Pool::Shared => &mut self.shared,
        };
        for set in sets.iter_mut().flatten() {
            set.insert(bus);
        }
    }
}

impl FreePorts {
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

    /// Adds a hub's ports, unless the hub is so deep that nothing can be behind it. Returns whether
    /// there are new ports.
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
            .zip(self.by_speed)
            .filter(|(speed, _)| speeds.contains(*speed))
            .fold(0, |all, (_, mask)| all | mask);
        if let Some(port) = lowest_bit(self.root & fitting) {
            return Some(PortPath::root(port));
        }
        if speeds.intersection(HUB_SPEEDS).is_empty() {
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
