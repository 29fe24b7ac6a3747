//! What libvirt's driver for Xen fills in (with libxl 4.17). [`Xen`] is the entry point.
//!
//! 1. **Controllers** are pv: xenusb1 and xenusb2 (libvirt's qusb1 and qusb2), xenusb2 by default,
//!    with 8 ports by default.
//! 2. **Default controllers**: a guest without a controller and with `n` host devices gets `n / 8`
//!    xenusb2, rounded up. A running guest gets one when a host device finds no free port.
//! 3. **Host devices** are the only devices on them: libxl puts each on the lowest free port of the
//!    first controller that has one. (libvirt passes no guest address to libxl. A requested one is
//!    kept, because vusb can use it.)
//! 4. **Mice and tablets** of an HVM guest are on the UHCI of its device model (`-usb -usbdevice
//!    tablet`): a piix3-uhci at the lowest free index. QEMU plugs a hub into the last free port
//!    before it plugs in another device (`usb_claim_port` in its `hw/usb/bus.c`).
//! 5. libvirt supports no other kinds on Xen. Hubs of an HVM guest (QEMU adds them) and unknown
//!    devices of other tools are kept.

use super::Platform;
use super::controllers::add_one;
use super::devices::Placement;
use super::messages::LibvirtSays as _;
use crate::address::{Address, Index, PortPath};
use crate::capabilities::Capabilities;
use crate::device::{Hub, Kind};
use crate::guest::Virtualization;
use crate::hardware::{Controller, Hardware, PciAddress, article};
use crate::models::{ControllerType, Model};
use crate::refusal::Refusal;
use crate::resolve::controllers::{Decided, check_available, decide_model, decide_ports};
use crate::resolve::{Refused, not_implemented};
use crate::spec::{ControllerSpec, DeviceSpec, Spec};
use crate::speed::SpeedSet;

/// The default number of ports of a pv controller (libvirt's `libxl/libxl_conf.c`).
const DEFAULT_PORTS: u8 = 8;

/// The model of the device model's UHCI: the one of the PIIX3 of QEMU's `pc`.
const DEVICE_MODEL_UHCI: Model = Model::Piix3Uhci;

/// A Xen guest.
pub(super) struct Xen<'a> {
    pub(super) capabilities: &'a Capabilities,
}

impl Platform for Xen<'_> {
    /// Rule 2, for a guest that is not running.
    fn default_controllers(
        &self,
        base: &Hardware,
        spec: &Spec,
        _indexes: &[Index],
    ) -> Vec<ControllerSpec> {
        let base_has_pv = base.controllers().any(|it| is_pv(&it));
        if base_has_pv || !spec.controllers.is_empty() {
            return Vec::new();
        }
        let is_host = |kind: &Kind| matches!(kind, Kind::Host(_));
        let hosts = spec.devices.iter().filter(|device| is_host(&device.kind)).count();
        let free = Index::all().filter(|index| base.controller(*index).is_none());
        free.take(hosts.div_ceil(usize::from(DEFAULT_PORTS))).map(pv_controller).collect()
    }

    /// Rule 1.
    fn decide(&self, spec: &ControllerSpec) -> Result<Option<Decided>, Refused> {
        let is_open =
            spec.model.is_none() && spec.usbversion.is_none() && spec.controller_type.is_none();
        let model = if is_open { Model::Xenusb2 } else { decide_model(spec, self.capabilities)? };
        // The spec of a whole guest also contains the UHCI of the device model.
        if !matches!(model, Model::Xenusb1 | Model::Xenusb2 | DEVICE_MODEL_UHCI) {
            let what = format!("{} {model} controller", article(model.name()));
            let why = "libvirt supports only xenusb1 and xenusb2 on Xen";
            return Err(
                not_implemented(what, self.capabilities, why).libvirt_says("unsupported usb model")
            );
        }
        let ports = decide_ports(spec, model, DEFAULT_PORTS)?;
        let companions = spec.companions.clone().unwrap_or_default();
        Ok(Some(Decided { model, ports, companions }))
    }

    fn check_available(&self, spec: &ControllerSpec, model: Model) -> Result<(), Refused> {
        Ok(check_available(spec, model, self.capabilities)?)
    }

    fn pci_address(
        &mut self,
        _controller: &Controller,
        requested: Option<PciAddress>,
    ) -> Result<Option<PciAddress>, Refused> {
        Ok(requested)
    }

    fn default_devices(&self, _has: &dyn Fn(fn(&Kind) -> bool) -> bool) -> Vec<Kind> {
        Vec::new()
    }

    fn adds_hubs(&self) -> bool {
        false
    }

    /// A controller may still be added for the device.
    fn check_without_controller(&self, _kind: &Kind) -> Result<(), Refused> {
        Ok(())
    }

    /// Rules 3 to 5.
    fn controller_for(
        &mut self,
        device: &DeviceSpec,
        bus: Option<Index>,
        placement: &mut Placement<'_, '_, '_>,
    ) -> Result<Option<Index>, Refused> {
        match family(&device.kind, self.capabilities)? {
            Family::Pv if bus.is_some() || device.port.is_some() => Ok(bus),
            Family::Pv => self.pv_bus(&device.kind, placement).map(Some),
            Family::DeviceModel => self.device_model_bus(device, bus, placement).map(Some),
        }
    }
}

impl Xen<'_> {
    /// The first pv controller with a free port; a running guest gets one more if there is none. A
    /// host device of this domain cannot be on a controller of another backend domain.
    fn pv_bus(
        &mut self,
        kind: &Kind,
        placement: &mut Placement<'_, '_, '_>,
    ) -> Result<Index, Refused> {
        let fits = |it: &&Controller| it.backend.is_none() || !matches!(kind, Kind::Host(_));
        let pv = placement.hardware.controllers().filter(is_pv).filter(fits);
        let has_port = |index: &Index| placement.ports.lowest(*index, SpeedSet::ALL).is_some();
        let found = pv.map(|it| it.index).find(has_port);
        match found {
            Some(index) => Ok(index),
            None if self.capabilities.running => self.add_controller(pv_controller, placement),
            None => Err(placement.full(None)),
        }
    }

    /// The UHCI of the device model, with QEMU's hub at its last free port.
    fn device_model_bus(
        &mut self,
        device: &DeviceSpec,
        bus: Option<Index>,
        placement: &mut Placement<'_, '_, '_>,
    ) -> Result<Index, Refused> {
        let existing = placement.hardware.controllers().find(|it| it.model == DEVICE_MODEL_UHCI);
        let bus = match bus.or(existing.map(|controller| controller.index)) {
            Some(bus) => bus,
            None => self.add_controller(device_model_uhci, placement)?,
        };
        let is_open = device.port.is_none() && device.kind.hub_ports() == 0;
        let lowest = placement.ports.lowest(bus, SpeedSet::ALL).map(|port| Address { bus, port });
        let is_last = |at: &Address| {
            let controller = placement.hardware.controller(bus);
            controller.is_some_and(|controller| is_last_port(controller, *at))
        };
        if let Some(at) = lowest.filter(|at| is_open && is_last(at)) {
            let hub = Kind::Hub(Hub::default());
            let name = placement.names.device(placement.hardware, &hub);
            placement.plug(at, name, hub)?;
            placement.added.push(at);
        }
        Ok(bus)
    }

    /// Adds a controller at the lowest free index.
    fn add_controller(
        &mut self,
        spec: fn(Index) -> ControllerSpec,
        placement: &mut Placement<'_, '_, '_>,
    ) -> Result<Index, Refused> {
        let free = Index::all().find(|index| placement.hardware.controller(*index).is_none());
        let index = free.ok_or(Refusal::NoIndex)?;
        add_one(placement.hardware, &spec(index), self, placement.context, placement.names)?;
        if let Some(controller) = placement.hardware.controller(index) {
            placement.ports.add_controller(controller);
        }
        placement.controllers.push(index);
        Ok(index)
    }
}

fn is_pv(controller: &&Controller) -> bool {
    controller.model.controller_type() == ControllerType::Pv
}

/// A default pv controller.
fn pv_controller(index: Index) -> ControllerSpec {
    ControllerSpec { index: Some(index), model: Some(Model::Xenusb2), ..ControllerSpec::default() }
}

/// The UHCI of the device model.
fn device_model_uhci(index: Index) -> ControllerSpec {
    let model = Some(DEVICE_MODEL_UHCI);
    ControllerSpec { index: Some(index), model, ..ControllerSpec::default() }
}

/// The controllers that a kind of device belongs on.
enum Family {
    /// A pv controller.
    Pv,
    /// The UHCI of the device model.
    DeviceModel,
}

/// Rules 3 to 5.
fn family(kind: &Kind, capabilities: &Capabilities) -> Result<Family, Refused> {
    let hvm = capabilities.guest.virtualization == Virtualization::Hvm;
    let (why, message) = match kind {
        Kind::Host(_) | Kind::Other(_) => return Ok(Family::Pv),
        Kind::Mouse(_) | Kind::Tablet(_) | Kind::Hub(_) if hvm => return Ok(Family::DeviceModel),
        Kind::Keyboard(_) if hvm => (
            "libvirt supports only mice and tablets on USB on Xen",
            Some("Unknown input device type"),
        ),
        Kind::Mouse(_) | Kind::Tablet(_) | Kind::Keyboard(_) => {
            ("a guest without a device model has no emulated devices", None)
        }
        _ => {
            let why =
                "libvirt supports only host devices on Xen, and mice and tablets for HVM guests";
            (why, None)
        }
    };
    let what = format!("a device of kind {}", kind.name());
    let refusal = not_implemented(what, capabilities, why);
    Err(match message {
        Some(message) => refusal.libvirt_says(message),
        None => refusal.into(),
    })
}

/// Whether this is the last free port: QEMU plugs a hub in there before anything else.
fn is_last_port(controller: &Controller, at: Address) -> bool {
    let hubs = controller.devices().map(|(_, device)| usize::from(device.kind.hub_ports()));
    let ports = usize::from(controller.ports.count()) + hubs.sum::<usize>();
    at.port.depth() < PortPath::MAX_DEPTH && ports == controller.devices().len() + 1
}
