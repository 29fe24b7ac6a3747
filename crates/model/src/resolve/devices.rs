//! Deciding on devices: rules 5 to 9.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::controllers::{Free, Slots, add_default};
use super::room::{Among, May, Room};
use super::{Asked, Refused, Settled, already, not_implemented};
use crate::address::{Address, Index};
use crate::device::{Identity, Kind, Mac};
use crate::hardware::{Device, Hardware, wrong_speed};
use crate::models::ControllerType;
use crate::profile::Profile;
use crate::refusal::Refusal;
use crate::spec::{ControllerRef, DeviceSpec, Spec};
use crate::speed::SpeedSet;

/// Below this many pv controllers, a device gets one of its own.
const PV_OWN: usize = 8;

/// The work of placing a spec's devices.
pub(super) struct Placing<'a> {
    base: &'a Hardware,
    hardware: Hardware,
    spec: &'a Spec,
    /// What of the base was asked for already.
    meant: HashSet<Address>,
    slots: Slots<'a>,
    room: Room,
    /// Where the things are that there is only one of.
    present: HashMap<Identity<'a>, Address>,
    free: Free<'a>,
    added: Vec<Index>,
}

impl<'a> Placing<'a> {
    /// `hardware` is `base` with the controllers of the spec.
    pub(super) fn new(
        base: &'a Hardware,
        hardware: Hardware,
        spec: &'a Spec,
        slots: Slots<'a>,
        free: Free<'a>,
    ) -> Placing<'a> {
        let identity =
            |(address, device): (Address, &'a Device)| Some((device.kind.identity()?, address));
        Placing {
            room: Room::new(&hardware),
            present: base.devices().filter_map(identity).collect(),
            base,
            hardware,
            spec,
            meant: HashSet::new(),
            slots,
            free,
            added: Vec::new(),
        }
    }

    /// The hardware, and the controllers that were added on the way.
    pub(super) fn finish(self) -> (Hardware, Vec<Index>) {
        (self.hardware, self.added)
    }

    /// Places all devices, in the order of rule 6. The answers are in the order of the spec.
    pub(super) fn settle(&mut self) -> Result<Vec<Settled<Address>>, Refused> {
        let spec = self.spec;
        let mut settled = vec![None; spec.devices.len()];
        let mut wait = Vec::new();
        let mut order: Vec<usize> = (0..spec.devices.len()).collect();
        order.sort_by_key(|number| spec.devices.get(*number).map(turn));
        for number in order {
            let Some(device) = spec.devices.get(number) else { continue };
            if turn(device).0 == Turn::Rest && !wait.is_empty() {
                self.waiting(&mut wait, &mut settled)?;
            }
            let answer = self.one(device);
            // The hub that it wants to be behind may be one that has no port yet.
            if matches!(answer, Err(Refusal::NoHub { .. })) {
                wait.push(number);
            } else if let Some(slot) = settled.get_mut(number) {
                let refused = |refusal| Refused::of(Asked::Device(number), refusal);
                *slot = Some(answer.map_err(refused)?);
            }
        }
        self.waiting(&mut wait, &mut settled)?;
        Ok(settled.into_iter().flatten().collect())
    }

    /// Places the devices that waited for a hub.
    fn waiting(
        &mut self,
        wait: &mut Vec<usize>,
        settled: &mut [Option<Settled<Address>>],
    ) -> Result<(), Refused> {
        let spec = self.spec;
        for number in wait.drain(..) {
            if let (Some(device), Some(slot)) = (spec.devices.get(number), settled.get_mut(number))
            {
                let refused = |refusal| Refused::of(Asked::Device(number), refusal);
                *slot = Some(self.one(device).map_err(refused)?);
            }
        }
        Ok(())
    }

    fn one(&mut self, spec: &'a DeviceSpec) -> Result<Settled<Address>, Refusal> {
        if let Some(at) = self.already(spec)? {
            // What was just added is no "already so", and one thing is not two.
            if self.base.device(at).is_none() || !self.meant.insert(at) {
                return Err(self.twice(spec, at));
            }
            return Ok(Settled { at, already: true });
        }
        self.available(&spec.kind)?;
        let at = self.place(spec)?;
        self.fits_type(&spec.kind, at.bus)?;
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => self.free.device_name(&self.hardware, spec.kind.word()),
        };
        let kind = with_mac(&spec.kind, self.spec, at);
        self.hardware.plug(at, Device { name, kind })?;
        if spec.name.is_none() {
            self.free.used_device_name(spec.kind.word());
        }
        self.room.take(at, &spec.kind);
        if let Some(identity) = spec.kind.identity() {
            self.present.insert(identity, at);
        }
        Ok(Settled { at, already: false })
    }

    /// Where the device is, if the domain has it.
    fn already(&self, spec: &DeviceSpec) -> Result<Option<Address>, Refusal> {
        let controller =
            spec.controller.as_ref().map(|controller| self.controller(controller)).transpose()?;
        already::device(spec, controller, &self.hardware, self.base, &self.present)
    }

    /// The refusal of something that this same spec has asked for.
    fn twice(&self, spec: &DeviceSpec, at: Address) -> Refusal {
        match spec.kind.identity() {
            Some(_) => Refusal::AlreadyPlugged {
                device: spec.kind.to_string(),
                at: format!("{}, by this very request", self.hardware.place(at)),
            },
            None => Refusal::Twice { what: format!("port {}", self.hardware.place(at)) },
        }
    }

    fn available(&self, kind: &Kind) -> Result<(), Refusal> {
        if let Kind::Other(other) = kind {
            // Another tool's configuration may have one, and this tool's profile places it.
            if self.spec.profile != Profile::Vusb1 {
                return Ok(());
            }
            return Err(Refusal::NotAskable { driver: other.driver.clone() });
        }
        let capabilities = self.slots.capabilities;
        capabilities.kind(kind.word()).map_err(|why| {
            not_implemented(format!("a device of kind {}", kind.word()), capabilities, why, None)
        })
    }

    /// Whether a controller of that type can have the kind.
    fn fits_type(&self, kind: &Kind, bus: Index) -> Result<(), Refusal> {
        let Some(controller) = self.hardware.controller(bus) else { return Ok(()) };
        if matches!(kind, Kind::Other(_)) {
            return Ok(());
        }
        let capabilities = self.slots.capabilities;
        capabilities.kind_on(kind.word(), controller.model.controller_type()).map_err(|why| {
            let (name, model) = (&controller.name, controller.model);
            let what = format!("a device of kind {} on {name} ({model})", kind.word());
            let emulated = capabilities.kind_on(kind.word(), ControllerType::Emulated).is_ok();
            let instead =
                emulated.then(|| "leave the controller out, or name an emulated one".to_owned());
            not_implemented(what, capabilities, why, instead)
        })
    }

    fn controller(&self, asked: &ControllerRef) -> Result<Index, Refusal> {
        already::controller(asked, &self.hardware)
    }

    /// Rules 7 and 8.
    fn place(&mut self, spec: &DeviceSpec) -> Result<Address, Refusal> {
        let only = || {
            let mut all = self.hardware.controllers();
            all.next().filter(|_| all.next().is_none()).map(|controller| controller.index)
        };
        match (&spec.controller, spec.port) {
            (Some(controller), Some(port)) => {
                Ok(Address { bus: self.controller(controller)?, port })
            }
            (None, Some(port)) => match only() {
                Some(bus) => Ok(Address { bus, port }),
                None => Err(Refusal::PortWithoutController {
                    port,
                    count: self.hardware.controllers().len(),
                }),
            },
            (Some(controller), None) => self.place_on(self.controller(controller)?, &spec.kind),
            (None, None) => self.place_anywhere(&spec.kind),
        }
    }

    fn place_on(&self, bus: Index, kind: &Kind) -> Result<Address, Refusal> {
        let [native, possible] = wanted(kind);
        let port = self.room.lowest(bus, native).or_else(|| self.room.lowest(bus, possible));
        if let Some(port) = port {
            return Ok(Address { bus, port });
        }
        let Some(controller) = self.hardware.controller(bus) else {
            return Err(Refusal::NoIndex);
        };
        if self.room.has_any(bus) {
            let place = format!("{} ({})", controller.name, controller.model);
            return Err(wrong_speed(&self.hardware, kind, place, controller.takes()));
        }
        let behind_hubs: usize =
            controller.devices().map(|(_, device)| usize::from(device.kind.hub_ports())).sum();
        let ports = usize::from(controller.ports.count()) + behind_hubs;
        Err(Refusal::Full { controller: controller.name.clone(), model: controller.model, ports })
    }

    fn place_anywhere(&mut self, kind: &Kind) -> Result<Address, Refusal> {
        let [native, possible] = wanted(kind);
        let capabilities = self.slots.capabilities;
        let may = May {
            pv: capabilities.kind_on(kind.word(), ControllerType::Pv).is_ok(),
            elsewhere: !matches!(kind, Kind::Host(_)),
        };
        for speeds in [native, possible] {
            if let Some(at) = self.room.first(Among::Open, speeds, may) {
                return Ok(at);
            }
        }
        let own = capabilities.default_type == ControllerType::Pv && self.room.pv < PV_OWN;
        if !own {
            for speeds in [native, possible] {
                if let Some(at) = self.room.first(Among::Shared, speeds, may) {
                    return Ok(at);
                }
            }
        }
        let bus = add_default(&mut self.hardware, &mut self.slots, &mut self.free)?;
        self.added.push(bus);
        if let Some(controller) = self.hardware.controller(bus) {
            self.room.add_controller(controller);
        }
        self.place_on(bus, kind)
    }
}

/// When it is a device's turn: rule 6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// It says where it goes.
    Explicit,
    /// A hub that goes anywhere.
    Hub,
    /// All others.
    Rest,
}

/// A device's turn, and its depth, for hubs come before what is behind them.
fn turn(spec: &DeviceSpec) -> (Turn, usize) {
    match spec.port {
        Some(port) => (Turn::Explicit, port.depth()),
        None if spec.kind.hub_ports() > 0 => (Turn::Hub, 0),
        None => (Turn::Rest, 0),
    }
}

/// The speeds to look for, first and second. What is not known fits any port.
fn wanted(kind: &Kind) -> [SpeedSet; 2] {
    match kind.speeds() {
        Some(speeds) => [speeds.native.into(), speeds.possible],
        None => [SpeedSet::ALL; 2],
    }
}

/// Rule 9. The first three bytes are QEMU's (52:54:00, locally administered); the other three are the first of a SHA-256.
pub(super) fn with_mac(kind: &Kind, spec: &Spec, at: Address) -> Kind {
    let mut kind = kind.clone();
    if let Kind::Net(net) = &mut kind {
        // A name has no colon, so that no address is ever taken for one.
        let domain = match (&spec.domain, &spec.address) {
            (Some(name), _) => name.to_string(),
            (None, Some(address)) => format!("address:{address}"),
            (None, None) => String::new(),
        };
        let hash: [u8; 32] = Sha256::digest(format!("vusb-1 net {domain} {at}").as_bytes()).into();
        let [a, b, c, ..] = hash;
        net.mac.get_or_insert(Mac([0x52, 0x54, 0x00, a, b, c]));
    }
    kind
}
