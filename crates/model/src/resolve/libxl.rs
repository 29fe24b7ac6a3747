//! What libxl of Xen 4.17 fills in.
//!
//! ```text
//!   usbctrl = [ .., .. ]          index 0, 1, ..: the place in the list      usbdev goes here
//!   usb, usbdevice, usbversion,   index 4095: one controller that            tablets and redirected devices
//!     spiceusbredirection           QEMU is started with                       go here
//! ```
//!
//! These two families do not know about each other: no `usbdev` ever lands on QEMU's own controller, and no tablet on one of `usbctrl`. libxl
//! numbers the first family alone. The other has the last index there is ([`QEMUS_OWN`]), so that a controller that comes to the list
//! later takes the next number, as libxl would give it, and moves nothing.
//!
//! # The rules
//!
//! libxl's are those of `libxl__device_usbctrl_setdefault`, `libxl__device_nextid` and `libxl__device_usbdev_setdefault`; of QEMU's own
//! controller those of `libxl_dm.c` and of QEMU's `usb_claim_port`.
//!
//! 1. **Type** auto: pv for a PV and a PVH guest, emulated for an HVM guest. **Version**: 2 unless said.
//! 2. **Model**: {1, 2} are {xenusb1, xenusb2} for pv; {1, 2, 3} are {piix3-uhci, ehci, nec-xhci} for emulated. There are no others.
//! 3. **Ports**: 8 unless said, for those that can have more or less; piix3-uhci has 2 and ehci 6.
//! 4. **Index**: one more than the last.
//! 5. **A host device without a controller** goes to the first controller with a free port, whatever its speed; if there is none, a controller
//!    of type auto is added. Controllers of another backend domain do not count. **Without a port**: the lowest free one. In the order of the
//!    spec: what is given a port by itself is in the way of what asks for that port later.
//! 6. **QEMU's own controller** comes with the first device that wants one: piix3-uhci (`-usb`) for a tablet, mouse or keyboard, the ICH9
//!    group (`usbversion=2`) for a redirected device. The two exclude each other.
//! 7. **Tablets, mice and keyboards** can run at high speed (`usbversion=2`): QEMU makes them so, and libxl does not tell it otherwise.
//! 8. **A device on it without a port** gets the first free one. When a single port is left, QEMU plugs a hub in there and the device goes
//!    behind it.
//!
//! Where this is stricter than libxl: a port that does not exist and a speed that the controller does not take are refused here, while libxl
//! finds out when the guest is started. A port may be asked for without its controller where there is only one.

use std::collections::HashSet;
use std::num::NonZeroU8;

use super::{Asked, Refused, Resolved, Settled, already, controllers, devices, twice};
use crate::address::{Address, Index, PortPath};
use crate::capabilities::Capabilities;
use crate::device::{Chardev, Hub, Identity, Kind, Redir};
use crate::guest::Virtualization;
use crate::hardware::{Controller, Hardware, Item, PciAddress, article};
use crate::models::{
    Companion, ControllerType, ICH9_EHCI_FUNCTION, Model, QEMU_XHCI_PORTS, UsbVersion,
};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

/// The index of the controller that QEMU is started with: that of the keys `usb`, `usbdevice`, `usbversion` and `spiceusbredirection`.
pub const QEMUS_OWN: Index = Index::MAX;

/// How many ports a controller of `usbctrl` has unless said, where its model leaves a choice.
pub const DEFAULT_PORTS: u8 = 8;

/// The model of a controller of `usbctrl`, for its type and version.
pub const fn model(kind: ControllerType, version: UsbVersion) -> Model {
    match (kind, version) {
        (ControllerType::Emulated, UsbVersion::V2) => Model::Ehci,
        _ => Model::of_version(kind, version),
    }
}

/// Whether a controller of this model can be in `usbctrl`.
pub const fn is_in_usbctrl(model: Model) -> bool {
    matches!(
        model,
        Model::Piix3Uhci | Model::Ehci | Model::NecXhci | Model::Xenusb1 | Model::Xenusb2
    )
}

/// The controller of `usb=1` (`None`) or of `usbversion`. Where it sits is known but for versions 1 and 3: QEMU's `-usb` is function 2 of the
/// PIIX3, and libxl puts the ICH9 group into slot 0x1d.
pub fn qemus_own(version: Option<UsbVersion>) -> ControllerSpec {
    let pci = |slot, function| Some(PciAddress { bus: "pci.0".to_owned(), slot, function });
    let (model, pci) = match version {
        None => (Model::Piix3Uhci, pci(1, 2)),
        Some(UsbVersion::V1) => (Model::Piix3Uhci, None),
        Some(UsbVersion::V2) => (Model::Ich9Ehci1, pci(0x1d, ICH9_EHCI_FUNCTION)),
        Some(UsbVersion::V3) => (Model::NecXhci, None),
    };
    ControllerSpec { index: Some(QEMUS_OWN), model: Some(model), pci, ..ControllerSpec::default() }
}

/// What libxl says for the same refusal, for those who search for it.
pub const fn sentence(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::PortCount { model, .. } => match model {
            Model::Xenusb1 | Model::Xenusb2 => {
                "Number of ports for USB controller is limited to 31"
            }
            Model::Piix3Uhci => "Number of ports for USB controller of version 1 is always 2",
            Model::Ehci => "Number of ports for USB controller of version 2 is always 6",
            Model::NecXhci => "Number of ports for USB controller of version 3 is limited to 15",
            _ => return None,
        },
        Refusal::PortWithoutController { .. } => {
            "USB controller must be specified if you specify port"
        }
        Refusal::PortInUse { .. } => "The controller port isn't available",
        Refusal::Full { .. } => "No available port under specified controller",
        Refusal::AlreadyPlugged { .. } => "USB device already attached to a domain",
        Refusal::IndexInUse { .. } => "device already exists in xenstore",
        _ => return None,
    })
}

pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    twice::check(spec)?;
    let asked = fill_all(base, &spec.controllers, capabilities.guest.virtualization)?;
    let mut hardware = base.clone();
    hardware.reserve(spec.controllers.len() + spec.devices.len());
    let mut slots = controllers::Slots::new(capabilities);
    let mut free = controllers::Free::new(spec);
    let controllers = controllers::settle(base, &mut hardware, &asked, &mut slots, &mut free)?;

    let mut places = Places::new(base, hardware, capabilities.guest.virtualization);
    for (number, device) in spec.devices.iter().enumerate() {
        let refused = |refusal| Refused::of(Asked::Device(number), refusal);
        places.place(&as_qemu_makes_it(device), &mut slots, &mut free).map_err(refused)?;
    }
    let Places { hardware, mut placed, hubs, added, .. } = places;
    let count = placed.len();
    placed.extend(hubs);
    let explicit = Spec { devices: placed, ..spec.clone() };
    let mut placing = devices::Placing::new(base, hardware, &explicit, slots, free);
    let settled = placing.settle().map_err(|refused| of_libxl(refused, count))?;
    let (hardware, _) = placing.finish();
    let (devices, hubs) = settled.split_at_checked(count).unwrap_or((&settled, &[]));
    Ok(Resolved {
        hardware,
        controllers,
        devices: devices.to_vec(),
        added,
        added_devices: hubs.iter().map(|hub: &Settled<Address>| hub.at).collect(),
    })
}

/// The device that QEMU makes of it: rule 7.
fn as_qemu_makes_it(device: &DeviceSpec) -> DeviceSpec {
    let mut device = device.clone();
    if let Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) = &mut device.kind {
        input.usbversion = UsbVersion::V2;
    }
    device
}

/// A refusal in the words of this profile. Of a device that nobody asked for (there are `asked` others) nobody is to blame.
fn of_libxl(refused: Refused, asked: usize) -> Refused {
    let Refused { mut refusal, asked: part } = refused;
    if let Refusal::WrongSpeed { remedy, .. } = &mut refusal {
        "a controller of type devicemodel and version 3 takes every speed; libxl itself does not compare speeds, and would find out when QEMU \
         refuses the device"
            .clone_into(remedy);
    }
    let part = part.filter(|part| !matches!(part, Asked::Device(number) if *number >= asked));
    Refused { refusal, asked: part }
}

fn not_by_libxl(what: String, why: &str, instead: Option<&str>) -> Refusal {
    Refusal::NotImplemented {
        what,
        by: "libxl".to_owned(),
        why: why.to_owned(),
        instead: instead.map(str::to_owned),
    }
}

/// All controllers with what libxl fills in: rules 1 to 4.
fn fill_all(
    base: &Hardware,
    specs: &[ControllerSpec],
    guest: Virtualization,
) -> Result<Vec<ControllerSpec>, Refused> {
    let indexes = base.controllers().map(|controller| controller.index);
    let said = specs.iter().filter_map(|spec| spec.index);
    let last = indexes.chain(said).filter(|index| *index != QEMUS_OWN).max();
    let mut next = last.map_or(0, |last| last.get() + 1);
    let mut fill_one = |spec: &ControllerSpec| {
        let there = [
            spec.index.and_then(|index| base.controller(index)),
            spec.name.as_ref().and_then(|name| controller_named(base, name)),
        ];
        if there.iter().flatten().next().is_some() {
            return Ok(asked_again(spec, guest));
        }
        let mut filled = fill(spec, guest)?;
        if filled.index.is_none() {
            filled.index = Index::new(next).filter(|index| *index != QEMUS_OWN);
            filled.index.ok_or(Refusal::NoIndex)?;
            next += 1;
        }
        Ok(filled)
    };
    let numbered = specs.iter().enumerate();
    numbered
        .map(|(number, spec)| {
            fill_one(spec).map_err(|refusal| Refused::of(Asked::Controller(number), refusal))
        })
        .collect()
}

fn controller_named<'a>(hardware: &'a Hardware, name: &Name) -> Option<&'a Controller> {
    match hardware.named(name)? {
        Item::Controller(index) => hardware.controller(index),
        Item::Device(_) => None,
    }
}

/// What was asked for, of a controller that is there: the version is a model of this profile, all else stays open.
fn asked_again(spec: &ControllerSpec, guest: Virtualization) -> ControllerSpec {
    let kind = spec.controller_type.unwrap_or(default_type(guest));
    let by_version = spec
        .usbversion
        .filter(|_| spec.index != Some(QEMUS_OWN))
        .map(|version| model(kind, version));
    ControllerSpec { model: spec.model.or(by_version), ..spec.clone() }
}

const fn default_type(guest: Virtualization) -> ControllerType {
    match guest {
        Virtualization::Hvm => ControllerType::Emulated,
        Virtualization::Pv | Virtualization::Pvh => ControllerType::Pv,
    }
}

/// One controller with what libxl fills in, but for its index.
fn fill(spec: &ControllerSpec, guest: Virtualization) -> Result<ControllerSpec, Refusal> {
    let kind = spec.controller_type.unwrap_or(default_type(guest));
    let version = spec.usbversion.unwrap_or(UsbVersion::V2);
    let own = spec.index == Some(QEMUS_OWN) || spec.model == Some(Model::Ich9Ehci1);
    let model = match (spec.model, own) {
        (Some(model), _) => model,
        (None, true) => Model::of_version(ControllerType::Emulated, version),
        (None, false) => model(kind, version),
    };
    let what = || format!("{} {model} controller", article(model.name()));
    if model.controller_type() == ControllerType::Emulated && guest != Virtualization::Hvm {
        return Err(not_by_libxl(
            what(),
            "a PV or PVH guest has no emulated machine; libxl takes it and fails later",
            Some("what can be had: --type pv"),
        ));
    }
    let (default, companions) = match (own, model) {
        (true, Model::Piix3Uhci) => (2, Vec::new()),
        (true, Model::Ich9Ehci1) => (6, Companion::GROUP.to_vec()),
        (true, Model::NecXhci) => (QEMU_XHCI_PORTS, Vec::new()),
        // xenusb3 is refused for what it is, when it comes to whether it can be had.
        (false, Model::Xenusb3) => (DEFAULT_PORTS, Vec::new()),
        (false, model) if is_in_usbctrl(model) => {
            let can = model.port_range();
            (DEFAULT_PORTS.clamp(*can.start(), *can.end()), Vec::new())
        }
        _ => {
            let why = "it knows piix3-uhci, ehci, nec-xhci, xenusb1 and xenusb2, and at boot alone the whole ICH9 group";
            return Err(not_by_libxl(what(), why, None));
        }
    };
    if spec.companions.as_ref().is_some_and(|asked| *asked != companions) {
        let what = format!("{} with these companions", what());
        let why = "an ehci has none, and an ich9-ehci1 has all three (usbversion=2)";
        return Err(not_by_libxl(what, why, None));
    }
    if own && spec.index.is_some_and(|index| index != QEMUS_OWN) {
        let why = "the controller that QEMU is started with has the last index";
        return Err(not_by_libxl(format!("{} at this index", what()), why, None));
    }
    let ports = spec.ports.unwrap_or(default);
    if own && ports != default {
        let can = default..=default;
        return Err(Refusal::PortCount { model, asked: ports, can });
    }
    if spec.halves.is_some_and(|halves| halves != (ports, ports)) {
        let what = format!("{} whose USB 2 and USB 3 ports differ", what());
        return Err(not_by_libxl(what, "it gives both halves as many ports", None));
    }
    Ok(ControllerSpec {
        index: if own { Some(QEMUS_OWN) } else { spec.index },
        model: Some(model),
        ports: Some(ports),
        halves: None,
        companions: Some(companions),
        ..spec.clone()
    })
}

/// The work of finding a place for each device: rules 5 to 8.
struct Places<'a> {
    base: &'a Hardware,
    /// What the base has that there is only one of.
    present: HashSet<Identity<'a>>,
    guest: Virtualization,
    /// The base, with the controllers that were asked for and added.
    hardware: Hardware,
    /// The ports that are in use or given away.
    taken: HashSet<Address>,
    /// No controller below this index has a free port.
    from: Index,
    /// The devices of the spec with their places, in its order.
    placed: Vec<DeviceSpec>,
    /// The hubs that QEMU adds.
    hubs: Vec<DeviceSpec>,
    /// The controllers that were added for a device.
    added: Vec<Index>,
}

impl<'a> Places<'a> {
    fn new(base: &'a Hardware, hardware: Hardware, guest: Virtualization) -> Places<'a> {
        Places {
            base,
            present: base.devices().filter_map(|(_, device)| device.kind.identity()).collect(),
            guest,
            taken: hardware.devices().map(|(at, _)| at).collect(),
            hardware,
            from: Index::ZERO,
            placed: Vec::new(),
            hubs: Vec::new(),
            added: Vec::new(),
        }
    }

    fn place(
        &mut self,
        device: &DeviceSpec,
        slots: &mut controllers::Slots<'_>,
        free: &mut controllers::Free<'_>,
    ) -> Result<(), Refusal> {
        if self.is_there(device) {
            self.placed.push(device.clone());
            return Ok(());
        }
        let bus = match &device.controller {
            Some(controller) => Some(self.controller(controller)?),
            None => self.only(device)?,
        };
        let own = match bus {
            Some(bus) => bus == QEMUS_OWN,
            None => !matches!(device.kind, Kind::Host(_)),
        };
        if own {
            self.fits_own(device)?;
        } else {
            self.fits_usbctrl(device, bus)?;
        }
        let mut add = |spec: &ControllerSpec, hardware: &mut Hardware| {
            controllers::one(hardware, spec, slots, free).map(|settled| settled.at)
        };
        let at = match (bus, device.port) {
            (Some(bus), Some(port)) => Address { bus, port },
            (Some(QEMUS_OWN), None) => self.next_of_own()?,
            (None, _) if own => {
                if self.hardware.controller(QEMUS_OWN).is_none() {
                    let version = matches!(device.kind, Kind::Redir(_)).then_some(UsbVersion::V2);
                    let filled = fill(&qemus_own(version), self.guest)?;
                    self.added.push(add(&filled, &mut self.hardware)?);
                }
                self.next_of_own()?
            }
            (Some(bus), None) => self.lowest(bus).ok_or_else(|| self.full(bus))?,
            (None, _) => match self.first() {
                Some(at) => at,
                None => {
                    let filled = fill_all(&self.hardware, &[ControllerSpec::default()], self.guest)
                        .map_err(Refusal::from)?;
                    for spec in &filled {
                        self.added.push(add(spec, &mut self.hardware)?);
                    }
                    self.first().ok_or(Refusal::NoIndex)?
                }
            },
        };
        self.take(device, at)
    }

    /// Takes the port for the device.
    fn take(&mut self, device: &DeviceSpec, at: Address) -> Result<(), Refusal> {
        // What the base has there is found when the device is plugged in.
        let by_base = self.base.device(at).is_some();
        if !self.taken.insert(at) && !by_base {
            let name = self.hardware.controller(at.bus).map(|controller| controller.name.clone());
            let before = self.placed.iter().find(|other| {
                other.port == Some(at.port)
                    && other.controller == Some(ControllerRef::Index(at.bus))
            });
            return Err(match (name, before) {
                (Some(controller), Some(before)) => Refusal::PortInUse {
                    controller,
                    port: at.port,
                    by: format!("{}, which leaves its port open and came to this one", before.kind),
                },
                _ => Refusal::Twice { what: format!("port {at}") },
            });
        }
        self.placed.push(DeviceSpec {
            controller: Some(ControllerRef::Index(at.bus)),
            port: Some(at.port),
            ..device.clone()
        });
        Ok(())
    }

    /// Whether the base has the device: by its name, as the only one of its sort, or on the port that it asks for.
    fn is_there(&self, device: &DeviceSpec) -> bool {
        let named = device.name.as_ref().is_some_and(|name| self.hardware.named(name).is_some());
        let same = device.kind.identity().is_some_and(|identity| self.present.contains(&identity));
        let bus = device.controller.as_ref().and_then(|asked| self.controller(asked).ok());
        let at = bus.zip(device.port).map(|(bus, port)| Address { bus, port });
        let there = at.and_then(|at| self.base.device(at));
        named || same || there.is_some_and(|there| there.kind.satisfies(&device.kind))
    }

    fn controller(&self, asked: &ControllerRef) -> Result<Index, Refusal> {
        already::controller(asked, &self.hardware)
    }

    /// The controller of a port that is asked for without one: the only one of its family.
    fn only(&self, device: &DeviceSpec) -> Result<Option<Index>, Refusal> {
        let Some(port) = device.port else { return Ok(None) };
        let own = !matches!(device.kind, Kind::Host(_));
        let mut family = self.hardware.controllers().map(|it| it.index);
        let mut family = family.by_ref().filter(|index| (*index == QEMUS_OWN) == own);
        match (family.next(), family.next()) {
            (Some(only), None) => Ok(Some(only)),
            _ => {
                let count = self.hardware.controllers().len();
                Err(Refusal::PortWithoutController { port, count })
            }
        }
    }

    /// Whether QEMU can be started with the device on its own controller.
    fn fits_own(&self, device: &DeviceSpec) -> Result<(), Refusal> {
        let what = || format!("a device of kind {}", device.kind.word());
        let known =
            "it has host devices, tablets, mice, keyboards, and devices redirected over SPICE";
        let redirected = match &device.kind {
            Kind::Redir(Redir { chardev: Chardev::Spicevmc }) => true,
            Kind::Tablet(_)
            | Kind::Mouse(_)
            | Kind::Keyboard(_)
            | Kind::Host(_)
            | Kind::Other(_) => false,
            // As QEMU has plugged it in by itself.
            Kind::Hub(_) if device.port.is_some() => return Ok(()),
            _ => return Err(not_by_libxl(what(), known, None)),
        };
        if self.guest != Virtualization::Hvm {
            let why = "`usbdevice` and `spiceusbredirection` are for HVM guests";
            return Err(not_by_libxl(what(), why, None));
        }
        let there = self.hardware.controller(QEMUS_OWN);
        let by_version = there.map(|own| own.model != Model::Piix3Uhci);
        let by_pci = there.is_some_and(|own| own.pci == qemus_own(None).pci);
        let other = |kind: &Kind| match kind {
            Kind::Hub(_) => false,
            kind => matches!(kind, Kind::Redir(_)) != redirected,
        };
        let mixed = there.is_some_and(|own| own.devices().any(|(_, there)| other(&there.kind)))
            || self.placed.iter().any(|placed| {
                placed.controller == Some(ControllerRef::Index(QEMUS_OWN)) && other(&placed.kind)
            });
        if mixed || (redirected && by_pci) || (!redirected && by_version == Some(true)) {
            let why = "`usb` and `usbdevice` exclude `usbversion` and `spiceusbredirection` (libxl: usbversion and/or usbredirection cannot \
                       be enabled with usb and/or usbdevice parameters)";
            return Err(not_by_libxl(format!("{} beside what is there", what()), why, None));
        }
        Ok(())
    }

    /// Whether `usbdev` can say the device.
    fn fits_usbctrl(&self, device: &DeviceSpec, bus: Option<Index>) -> Result<(), Refusal> {
        if !matches!(device.kind, Kind::Host(_)) {
            let what = format!("a device of kind {} on this controller", device.kind.word());
            let why = "`usbdev` knows host devices alone";
            let instead = "leave the controller out: tablets, mice and keyboards go to the controller that QEMU is started with";
            return Err(not_by_libxl(what, why, Some(instead)));
        }
        let elsewhere = |bus| self.hardware.controller(bus).is_some_and(|it| it.backend.is_some());
        if bus.is_some_and(elsewhere) {
            return Err(not_by_libxl(
                "a device on a controller of another backend domain".to_owned(),
                "libxl: Don't support adding USB device from non-Dom0 backend",
                None,
            ));
        }
        Ok(())
    }

    /// The first port that is free on any controller of `usbctrl`: rule 5.
    fn first(&mut self) -> Option<Address> {
        let counts = |it: &&Controller| {
            it.backend.is_none() && it.index != QEMUS_OWN && it.index >= self.from
        };
        let mut open = self.hardware.controllers().filter(counts);
        let found = open.find_map(|controller| self.lowest(controller.index));
        if let Some(at) = found {
            self.from = at.bus;
        }
        found
    }

    /// The lowest port of the controller itself that is free.
    fn lowest(&self, bus: Index) -> Option<Address> {
        let ports = self.hardware.controller(bus)?.ports.count();
        let root = (1..=ports).filter_map(NonZeroU8::new).map(PortPath::root);
        root.map(|port| Address { bus, port }).find(|at| !self.taken.contains(at))
    }

    fn full(&self, bus: Index) -> Refusal {
        match self.hardware.controller(bus) {
            Some(controller) => Refusal::Full {
                controller: controller.name.clone(),
                model: controller.model,
                ports: usize::from(controller.ports.count()),
            },
            None => Refusal::NoIndex,
        }
    }

    /// The port that QEMU gives the next device on its own controller, and the hub that it adds on the way: rule 8.
    fn next_of_own(&mut self) -> Result<Address, Refusal> {
        let mut free = self.free_of_own();
        if let [hub] = free.as_slice() {
            let hub = *hub;
            self.taken.insert(Address { bus: QEMUS_OWN, port: hub });
            self.hubs.push(DeviceSpec {
                controller: Some(ControllerRef::Index(QEMUS_OWN)),
                port: Some(hub),
                ..DeviceSpec::new(Kind::Hub(Hub::default()))
            });
            free = self.free_of_own();
        }
        let port = *free.first().ok_or_else(|| self.full(QEMUS_OWN))?;
        Ok(Address { bus: QEMUS_OWN, port })
    }

    /// The free ports of QEMU's own controller, in the order in which QEMU gives them away: as they came to be.
    fn free_of_own(&self) -> Vec<PortPath> {
        let Some(own) = self.hardware.controller(QEMUS_OWN) else { return Vec::new() };
        let there = own.devices().filter(|(_, it)| it.kind.hub_ports() > 0).map(|(port, _)| port);
        let asked = self.placed.iter().chain(&self.hubs).filter(|placed| {
            placed.kind.hub_ports() > 0
                && placed.controller == Some(ControllerRef::Index(QEMUS_OWN))
        });
        let mut hubs: Vec<PortPath> = there.chain(asked.filter_map(|placed| placed.port)).collect();
        hubs.sort_by_key(|hub| (hub.depth(), *hub));
        hubs.dedup();
        let ports = |count: u8| (1..=count).filter_map(NonZeroU8::new);
        let root = ports(own.ports.count()).map(PortPath::root);
        let behind = hubs
            .into_iter()
            .flat_map(|hub| ports(Hub::default().ports).filter_map(move |port| hub.child(port)));
        root.chain(behind)
            .filter(|port| !self.taken.contains(&Address { bus: QEMUS_OWN, port: *port }))
            .collect()
    }
}
