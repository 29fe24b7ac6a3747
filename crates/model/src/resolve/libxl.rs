//! What libxl of Xen 4.17 fills in.
//!
//! ```text
//!   usbctrl = [ .., .. ]          index 0, 1, ..: the position in the list   for usbdev
//!   usb, usbdevice, usbversion,   index 4095: the boot controller            for tablets and redirected
//!     spiceusbredirection                                                      devices
//! ```
//!
//! The boot controller is the one that QEMU is started with. These two families are independent: a
//! `usbdev` is never on the boot controller, and a tablet never on one of `usbctrl`. libxl only
//! numbers the controllers of `usbctrl`. The boot controller has the highest index ([`BOOT_BUS`]),
//! so that a controller that is added to the list later gets the same number as from libxl, and no
//! other index changes.
//!
//! # The rules
//!
//! The rules for `usbctrl` and `usbdev` are those of `libxl__device_usbctrl_setdefault`,
//! `libxl__device_nextid` and `libxl__device_usbdev_setdefault`. The rules for the boot controller
//! are those of `libxl_dm.c` and of QEMU's `usb_claim_port`.
//!
//! 1. **Type** auto: pv for a PV and a PVH guest, emulated for an HVM guest. **Version**: 2 unless
//!    requested otherwise.
//! 2. **Model**: {1, 2} are {xenusb1, xenusb2} for pv; {1, 2, 3} are {piix3-uhci, ehci, nec-xhci}
//!    for emulated. There are no others.
//! 3. **Ports**: 8 unless requested otherwise, if the model has a choice; piix3-uhci has 2 and ehci
//!    6.
//! 4. **Index**: one more than the highest.
//! 5. **A host device without a controller** goes to the first controller with a free port,
//!    whatever its speed; if there is none, a controller of type auto is added. Controllers of
//!    another backend domain do not count. **Without a port**: the lowest free one. Devices are
//!    placed in the order of the spec: a device without a port may get the port that a later device
//!    requests, which is then refused.
//! 6. **The boot controller** is added for the first device that needs it: piix3-uhci (`-usb`) for
//!    a tablet, mouse or keyboard, the ICH9 group (`usbversion=2`) for a redirected device. The two
//!    exclude each other.
//! 7. **Tablets, mice and keyboards** can run at high speed (`usbversion=2`): that is QEMU's
//!    default, and libxl does not change it.
//! 8. **A device on the boot controller without a port** gets the first free one. If only one port
//!    is free, QEMU plugs a hub into it, and the device goes behind the hub.
//!
//! # Differences from libxl
//!
//! * A port that does not exist and a speed that the controller does not support are refused here;
//!   with libxl the guest fails to start.
//! * A port can be requested without its controller if there is only one controller.

use std::collections::HashSet;
use std::num::NonZeroU8;

use super::controllers::{Context, FreeNames};
use super::{Placed, Refused, RequestedItem, Resolved, controllers, devices, duplicates, existing};
use crate::address::{Address, Index, PortPath};
use crate::capabilities::Capabilities;
use crate::device::{Chardev, Hub, Kind, Redir, UniqueResource};
use crate::guest::Virtualization;
use crate::hardware::{Controller, Hardware, Item, PciAddress, article};
use crate::models::{
    Companion, ControllerType, ICH9_EHCI_FUNCTION, Model, QEMU_XHCI_PORTS, UsbVersion,
};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::remedy::{Reason, Remedy};
use crate::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

/// The index of the boot controller, which QEMU is started with: the one of the keys `usb`,
/// `usbdevice`, `usbversion` and `spiceusbredirection`.
pub const BOOT_BUS: Index = Index::MAX;

/// The default number of ports of a controller of `usbctrl`, if its model has a choice.
pub const DEFAULT_PORTS: u8 = 8;

/// The model of a controller of `usbctrl`, by its type and version.
pub const fn model(controller_type: ControllerType, version: UsbVersion) -> Model {
    match (controller_type, version) {
        (ControllerType::Emulated, UsbVersion::V2) => Model::Ehci,
        _ => Model::for_version(controller_type, version),
    }
}

/// Whether a controller of this model can be in `usbctrl`.
pub const fn fits_usbctrl(model: Model) -> bool {
    matches!(
        model,
        Model::Piix3Uhci | Model::Ehci | Model::NecXhci | Model::Xenusb1 | Model::Xenusb2
    )
}

/// The boot controller for `usb=1` (`None`) or for a `usbversion`. Its PCI address is known except
/// for versions 1 and 3: QEMU's `-usb` is function 2 of the PIIX3, and libxl puts the ICH9 group
/// into slot 0x1d.
pub fn boot_controller(version: Option<UsbVersion>) -> ControllerSpec {
    let pci = |slot, function| Some(PciAddress { bus: "pci.0".to_owned(), slot, function });
    let (model, pci) = match version {
        None => (Model::Piix3Uhci, pci(1, 2)),
        Some(UsbVersion::V1) => (Model::Piix3Uhci, None),
        Some(UsbVersion::V2) => (Model::Ich9Ehci1, pci(0x1d, ICH9_EHCI_FUNCTION)),
        Some(UsbVersion::V3) => (Model::NecXhci, None),
    };
    ControllerSpec { index: Some(BOOT_BUS), model: Some(model), pci, ..ControllerSpec::default() }
}

/// libxl's message for the same refusal, so that users can search for it.
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
    resolve_all(base, spec, capabilities).map_err(|refused| with_note(refused, spec.devices.len()))
}

fn resolve_all(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    duplicates::check(spec)?;
    let filled = fill_all(base, &spec.controllers, capabilities.guest.virtualization)?;
    let mut hardware = base.clone();
    hardware.reserve(spec.controllers.len() + spec.devices.len());
    let mut context = Context::new(capabilities);
    let mut names = FreeNames::new(spec);
    let controllers = controllers::place(base, &mut hardware, &filled, &mut context, &mut names)?;

    let mut chooser = PortChooser::new(base, hardware, capabilities.guest.virtualization);
    for (number, device) in spec.devices.iter().enumerate() {
        let refused = |refusal| Refused::of(RequestedItem::Device(number), refusal);
        chooser.choose(&with_qemu_speed(device), &mut context, &mut names).map_err(refused)?;
    }
    let PortChooser { hardware, mut chosen, hubs, added, .. } = chooser;
    let count = chosen.len();
    chosen.extend(hubs);
    let explicit = Spec { devices: chosen, ..spec.clone() };
    let mut placement = devices::Placement::new(base, hardware, &explicit, context, names);
    let placed = placement.place_all()?;
    let (hardware, _) = placement.finish();
    let (devices, hubs) = placed.split_at_checked(count).unwrap_or((&placed, &[]));
    Ok(Resolved {
        hardware,
        controllers,
        devices: devices.to_vec(),
        added,
        added_devices: hubs.iter().map(|hub: &Placed<Address>| hub.address).collect(),
    })
}

/// The device with the speed that QEMU gives it: rule 7.
fn with_qemu_speed(device: &DeviceSpec) -> DeviceSpec {
    let mut device = device.clone();
    if let Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) = &mut device.kind {
        input.usbversion = UsbVersion::V2;
    }
    device
}

/// A refusal with libxl's message. `requested` is the number of requested devices: the refusal of
/// an added device is not caused by a part of the spec.
fn with_note(refused: Refused, requested: usize) -> Refused {
    let Refused { mut refusal, item, .. } = refused;
    let mut note = sentence(&refusal).map(|sentence| format!("xl says: {sentence}"));
    if let Refusal::WrongSpeed { alternatives, .. } = &mut refusal {
        // Leaving the controller out does not help: rule 5 may add one that does not support the
        // device either.
        alternatives.retain(|it| *it == Remedy::UseVersion { usbversion: UsbVersion::V3 });
        note = Some("libxl does not check speeds: QEMU would refuse the device".to_owned());
    }
    let requested_only = |item: &RequestedItem| !matches!(item, RequestedItem::Device(number) if *number >= requested);
    Refused { refusal, item: item.filter(requested_only), note: note.map(String::into_boxed_str) }
}

fn not_by_libxl(what: String, why: impl Into<Reason>) -> Refusal {
    Refusal::NotImplemented { what, by: "libxl".to_owned(), why: why.into() }
}

/// All controllers, with everything that libxl fills in: rules 1 to 4.
fn fill_all(
    base: &Hardware,
    specs: &[ControllerSpec],
    guest: Virtualization,
) -> Result<Vec<ControllerSpec>, Refused> {
    let indexes = base.controllers().map(|controller| controller.index);
    let requested = specs.iter().filter_map(|spec| spec.index);
    let last = indexes.chain(requested).filter(|index| *index != BOOT_BUS).max();
    let mut next = last.map_or(0, |last| last.get() + 1);
    let mut fill_one = |spec: &ControllerSpec| {
        let existing = [
            spec.index.and_then(|index| base.controller(index)),
            spec.name.as_ref().and_then(|name| controller_named(base, name)),
        ];
        if existing.iter().flatten().next().is_some() {
            return Ok(request_for_existing(spec, guest));
        }
        let mut filled = fill(spec, guest)?;
        if filled.index.is_none() {
            filled.index = Index::new(next).filter(|index| *index != BOOT_BUS);
            filled.index.ok_or(Refusal::NoIndex)?;
            next += 1;
        }
        Ok(filled)
    };
    let numbered = specs.iter().enumerate();
    numbered
        .map(|(number, spec)| {
            fill_one(spec)
                .map_err(|refusal| Refused::of(RequestedItem::Controller(number), refusal))
        })
        .collect()
}

fn controller_named<'a>(hardware: &'a Hardware, name: &Name) -> Option<&'a Controller> {
    match hardware.named(name)? {
        Item::Controller(index) => hardware.controller(index),
        Item::Device(_) => None,
    }
}

/// The request for a controller that the guest already has: its version is translated to this
/// profile's model, and everything else stays open.
fn request_for_existing(spec: &ControllerSpec, guest: Virtualization) -> ControllerSpec {
    let controller_type = spec.controller_type.unwrap_or(default_type(guest));
    let by_version = spec
        .usbversion
        .filter(|_| spec.index != Some(BOOT_BUS))
        .map(|version| model(controller_type, version));
    ControllerSpec { model: spec.model.or(by_version), ..spec.clone() }
}

const fn default_type(guest: Virtualization) -> ControllerType {
    match guest {
        Virtualization::Hvm => ControllerType::Emulated,
        Virtualization::Pv | Virtualization::Pvh => ControllerType::Pv,
    }
}

/// One controller, with everything that libxl fills in except the index of one of `usbctrl`.
fn fill(spec: &ControllerSpec, guest: Virtualization) -> Result<ControllerSpec, Refusal> {
    let controller_type = spec.controller_type.unwrap_or(default_type(guest));
    let version = spec.usbversion.unwrap_or(UsbVersion::V2);
    let is_boot = spec.index == Some(BOOT_BUS) || spec.model == Some(Model::Ich9Ehci1);
    let model = match (spec.model, is_boot) {
        (Some(model), _) => model,
        (None, true) => Model::for_version(ControllerType::Emulated, version),
        (None, false) => model(controller_type, version),
    };
    let what = || format!("{} {model} controller", article(model.name()));
    if model.controller_type() == ControllerType::Emulated && guest != Virtualization::Hvm {
        return Err(not_by_libxl(
            what(),
            Reason::from(
                "a PV or PVH guest has no emulated machine; libxl accepts it and fails later",
            )
            .remedy(Remedy::UseType { controller_type: ControllerType::Pv }),
        ));
    }
    let (default, companions) = match (is_boot, model) {
        (true, Model::Piix3Uhci) => (2, Vec::new()),
        (true, Model::Ich9Ehci1) => (6, Companion::GROUP.to_vec()),
        (true, Model::NecXhci) => (QEMU_XHCI_PORTS, Vec::new()),
        // xenusb3 is refused later, with a better reason, by the check of what is available.
        (false, Model::Xenusb3) => (DEFAULT_PORTS, Vec::new()),
        (false, model) if fits_usbctrl(model) => {
            let can = model.port_range();
            (DEFAULT_PORTS.clamp(*can.start(), *can.end()), Vec::new())
        }
        _ => {
            let why = "it supports only piix3-uhci, ehci, nec-xhci, xenusb1 and xenusb2, and at boot also the whole ICH9 group";
            return Err(not_by_libxl(what(), why));
        }
    };
    if spec.companions.as_ref().is_some_and(|requested| *requested != companions) {
        let what = format!("{} with these companions", what());
        let why = "an ehci has none, and an ich9-ehci1 has all three (usbversion=2)";
        return Err(not_by_libxl(what, why));
    }
    if is_boot && spec.index.is_some_and(|index| index != BOOT_BUS) {
        let why = "the controller that QEMU is started with always has index 4095";
        return Err(not_by_libxl(format!("{} at this index", what()), why));
    }
    let ports = spec.ports.unwrap_or(default);
    if is_boot && ports != default {
        let can = default..=default;
        return Err(Refusal::PortCount { model, requested: ports, supported: can });
    }
    if spec.separate_ports.is_some_and(|halves| halves != (ports, ports)) {
        let what = format!("{} whose USB 2 and USB 3 ports differ", what());
        return Err(not_by_libxl(what, "it gives an xHCI as many USB 2 as USB 3 ports"));
    }
    Ok(ControllerSpec {
        index: if is_boot { Some(BOOT_BUS) } else { spec.index },
        model: Some(model),
        ports: Some(ports),
        separate_ports: None,
        ..spec.clone()
    })
}

/// Chooses a port for each device: rules 5 to 8.
struct PortChooser<'a> {
    base: &'a Hardware,
    /// The identities of the base's devices.
    identities: HashSet<UniqueResource<'a>>,
    guest: Virtualization,
    /// The base, with the requested and added controllers.
    hardware: Hardware,
    /// The ports that are in use or already chosen.
    taken: HashSet<Address>,
    /// No controller of `usbctrl` below this index has a free port for a device of this domain.
    first_open: Index,
    /// The devices of the spec with their ports, in the order of the spec.
    chosen: Vec<DeviceSpec>,
    /// The hubs that QEMU adds.
    hubs: Vec<DeviceSpec>,
    /// The controllers that were added because a device needs them.
    added: Vec<Index>,
}

impl<'a> PortChooser<'a> {
    fn new(base: &'a Hardware, hardware: Hardware, guest: Virtualization) -> PortChooser<'a> {
        PortChooser {
            base,
            identities: base
                .devices()
                .filter_map(|(_, device)| device.kind.unique_resource())
                .collect(),
            guest,
            taken: hardware.devices().map(|(at, _)| at).collect(),
            hardware,
            first_open: Index::ZERO,
            chosen: Vec::new(),
            hubs: Vec::new(),
            added: Vec::new(),
        }
    }

    /// Chooses the port of one device, and adds a controller for it if necessary.
    fn choose(
        &mut self,
        device: &DeviceSpec,
        context: &mut Context<'_>,
        names: &mut FreeNames<'_>,
    ) -> Result<(), Refusal> {
        if self.is_existing(device) {
            self.chosen.push(device.clone());
            return Ok(());
        }
        let bus = match &device.controller {
            Some(controller) => Some(self.controller(controller)?),
            None => self.only_controller(device)?,
        };
        let is_boot = match bus {
            Some(bus) => bus == BOOT_BUS,
            None => !matches!(device.kind, Kind::Host(_)),
        };
        if is_boot {
            self.check_boot(device)?;
        } else {
            self.check_usbctrl(device, bus)?;
        }
        let mut add = |spec: &ControllerSpec, hardware: &mut Hardware| {
            controllers::place_one(hardware, spec, context, names).map(|placed| placed.address)
        };
        let at = match (bus, device.port) {
            (Some(bus), Some(port)) => Address { bus, port },
            (Some(BOOT_BUS), None) => self.next_boot_port()?,
            (None, _) if is_boot => {
                if self.hardware.controller(BOOT_BUS).is_none() {
                    let version = matches!(device.kind, Kind::Redir(_)).then_some(UsbVersion::V2);
                    let filled = fill(&boot_controller(version), self.guest)?;
                    self.added.push(add(&filled, &mut self.hardware)?);
                }
                self.next_boot_port()?
            }
            (Some(bus), None) => self.lowest_port(bus).ok_or_else(|| self.full(bus))?,
            (None, _) => match self.first_port() {
                Some(at) => at,
                None => {
                    let filled = fill_all(&self.hardware, &[ControllerSpec::default()], self.guest)
                        .map_err(Refusal::from)?;
                    for spec in &filled {
                        self.added.push(add(spec, &mut self.hardware)?);
                    }
                    self.first_port().ok_or(Refusal::NoIndex)?
                }
            },
        };
        self.take(device, at)
    }

    /// Takes the port for the device.
    fn take(&mut self, device: &DeviceSpec, at: Address) -> Result<(), Refusal> {
        // A conflict with a device of the base is refused later, when the device is plugged in.
        let by_base = self.base.device(at).is_some();
        if !self.taken.insert(at) && !by_base {
            let name = self.hardware.controller(at.bus).map(|controller| controller.name.clone());
            let earlier = self.chosen.iter().find(|other| {
                other.port == Some(at.port)
                    && other.controller == Some(ControllerRef::Index(at.bus))
            });
            return Err(match (name, earlier) {
                (Some(controller), Some(earlier)) => Refusal::PortInUse {
                    controller,
                    port: at.port,
                    by: format!("{}, which requests no port and got this one", earlier.kind),
                },
                _ => Refusal::Duplicate { what: format!("port {at}") },
            });
        }
        self.chosen.push(DeviceSpec {
            controller: Some(ControllerRef::Index(at.bus)),
            port: Some(at.port),
            ..device.clone()
        });
        Ok(())
    }

    /// Whether the base has the device: by name, by identity, or at the requested port.
    fn is_existing(&self, device: &DeviceSpec) -> bool {
        let named = device.name.as_ref().is_some_and(|name| self.hardware.named(name).is_some());
        let same = device
            .kind
            .unique_resource()
            .is_some_and(|identity| self.identities.contains(&identity));
        let bus = device.controller.as_ref().and_then(|it| self.controller(it).ok());
        let at = bus.zip(device.port).map(|(bus, port)| Address { bus, port });
        let at_port = at.and_then(|at| self.base.device(at));
        named || same || at_port.is_some_and(|it| it.kind.matches_request(&device.kind))
    }

    fn controller(&self, requested: &ControllerRef) -> Result<Index, Refusal> {
        existing::controller(requested, &self.hardware)
    }

    /// For a device with a port but without a controller: the only controller of its family.
    fn only_controller(&self, device: &DeviceSpec) -> Result<Option<Index>, Refusal> {
        let Some(port) = device.port else { return Ok(None) };
        let is_boot = !matches!(device.kind, Kind::Host(_));
        let mut family = self.hardware.controllers().map(|it| it.index);
        let mut family = family.by_ref().filter(|index| (*index == BOOT_BUS) == is_boot);
        match (family.next(), family.next()) {
            (Some(only), None) => Ok(Some(only)),
            _ => {
                let count = self.hardware.controllers().len();
                Err(Refusal::PortWithoutController { port, count })
            }
        }
    }

    /// Checks that QEMU can be started with the device on the boot controller.
    fn check_boot(&self, device: &DeviceSpec) -> Result<(), Refusal> {
        let what = || format!("a device of kind {}", device.kind.name());
        let supported =
            "it supports only host devices, tablets, mice, keyboards and SPICE redirection";
        let redirected = match &device.kind {
            Kind::Redir(Redir { chardev: Chardev::Spicevmc }) => true,
            Kind::Tablet(_)
            | Kind::Mouse(_)
            | Kind::Keyboard(_)
            | Kind::Host(_)
            | Kind::Other(_) => false,
            // A hub that QEMU added itself.
            Kind::Hub(_) if device.port.is_some() => return Ok(()),
            _ => return Err(not_by_libxl(what(), supported)),
        };
        if self.guest != Virtualization::Hvm {
            let why = "`usbdevice` and `spiceusbredirection` are for HVM guests";
            return Err(not_by_libxl(what(), why));
        }
        let boot = self.hardware.controller(BOOT_BUS);
        let by_usbversion = boot.is_some_and(|it| it.model != Model::Piix3Uhci);
        let by_usb = boot.is_some_and(|it| it.pci == boot_controller(None).pci);
        let excluded = |kind: &Kind| match kind {
            Kind::Hub(_) => false,
            kind => matches!(kind, Kind::Redir(_)) != redirected,
        };
        let mixed = boot.is_some_and(|boot| boot.devices().any(|(_, it)| excluded(&it.kind)))
            || self.chosen.iter().any(|it| {
                it.controller == Some(ControllerRef::Index(BOOT_BUS)) && excluded(&it.kind)
            });
        if mixed || (redirected && by_usb) || (!redirected && by_usbversion) {
            let why = "`usb` and `usbdevice` exclude `usbversion` and `spiceusbredirection` (libxl: usbversion and/or usbredirection cannot \
                       be enabled with usb and/or usbdevice parameters)";
            return Err(not_by_libxl(format!("{} in this configuration", what()), why));
        }
        Ok(())
    }

    /// Checks that `usbdev` can express the device.
    fn check_usbctrl(&self, device: &DeviceSpec, bus: Option<Index>) -> Result<(), Refusal> {
        if !matches!(device.kind, Kind::Host(_)) {
            let what = format!("a device of kind {} on this controller", device.kind.name());
            let why = Reason::from(
                "`usbdev` supports host devices only; tablets, mice and keyboards belong on the controller that QEMU is started with",
            );
            return Err(not_by_libxl(what, why.remedy(Remedy::OmitController)));
        }
        let elsewhere = |bus| self.hardware.controller(bus).is_some_and(|it| it.backend.is_some());
        if bus.is_some_and(elsewhere) {
            return Err(not_by_libxl(
                "a device on a controller of another backend domain".to_owned(),
                "libxl: Don't support adding USB device from non-Dom0 backend",
            ));
        }
        Ok(())
    }

    /// The first free port on any controller of `usbctrl`: rule 5.
    fn first_port(&mut self) -> Option<Address> {
        let is_candidate = |it: &&Controller| {
            it.backend.is_none() && it.index != BOOT_BUS && it.index >= self.first_open
        };
        let mut candidates = self.hardware.controllers().filter(is_candidate);
        let found = candidates.find_map(|controller| self.lowest_port(controller.index));
        if let Some(at) = found {
            self.first_open = at.bus;
        }
        found
    }

    /// The lowest free port of the controller itself.
    fn lowest_port(&self, bus: Index) -> Option<Address> {
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

    /// The port of the boot controller that QEMU gives to the next device. Adds the hub that QEMU
    /// adds for it: rule 8.
    fn next_boot_port(&mut self) -> Result<Address, Refusal> {
        let mut free = self.free_boot_ports();
        if let [hub] = free.as_slice() {
            let hub = *hub;
            self.taken.insert(Address { bus: BOOT_BUS, port: hub });
            self.hubs.push(DeviceSpec {
                controller: Some(ControllerRef::Index(BOOT_BUS)),
                port: Some(hub),
                ..DeviceSpec::new(Kind::Hub(Hub::default()))
            });
            free = self.free_boot_ports();
        }
        let port = *free.first().ok_or_else(|| self.full(BOOT_BUS))?;
        Ok(Address { bus: BOOT_BUS, port })
    }

    /// The free ports of the boot controller, in the order in which QEMU allocates them: the oldest
    /// first.
    fn free_boot_ports(&self) -> Vec<PortPath> {
        let Some(boot) = self.hardware.controller(BOOT_BUS) else { return Vec::new() };
        let existing =
            boot.devices().filter(|(_, it)| it.kind.hub_ports() > 0).map(|(port, _)| port);
        let new = self.chosen.iter().chain(&self.hubs).filter(|it| {
            it.kind.hub_ports() > 0 && it.controller == Some(ControllerRef::Index(BOOT_BUS))
        });
        let mut hubs: Vec<PortPath> = existing.chain(new.filter_map(|it| it.port)).collect();
        hubs.sort_by_key(|hub| (hub.depth(), *hub));
        hubs.dedup();
        let ports = |count: u8| (1..=count).filter_map(NonZeroU8::new);
        let root = ports(boot.ports.count()).map(PortPath::root);
        let behind = hubs
            .into_iter()
            .flat_map(|hub| ports(Hub::default().ports).filter_map(move |port| hub.child(port)));
        root.chain(behind)
            .filter(|port| !self.taken.contains(&Address { bus: BOOT_BUS, port: *port }))
            .collect()
    }
}
