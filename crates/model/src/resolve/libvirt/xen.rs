//! What libvirt's driver for Xen fills in (libxl 4.17 behind it).
//!
//! 1. **Controllers** are pv: xenusb1 and xenusb2 (libvirt's qusb1 and qusb2), xenusb2 if the model is left open, with 8 ports
//!    unless said.
//! 2. **A default**: a guest without a controller and with `n` host devices gets `n / 8` xenusb2, rounded up. One that runs
//!    gets one when a host device finds no free port.
//! 3. **Host devices** alone go there: libxl puts each on the lowest free port of the first controller that has one. (libvirt
//!    hands no guest address to libxl. What says one is kept there all the same: vusb can do it.)
//! 4. **Mice and tablets** of an HVM guest are on the UHCI of its device model (`-usb -usbdevice tablet`): a piix3-uhci at the
//!    lowest free index. QEMU gives its last free port to a hub when something is plugged in (`usb_claim_port` in its
//!    `hw/usb/bus.c`).
//! 5. All other kinds libvirt cannot have on Xen.

use super::controllers::add_one;
use super::devices::Placing;
use crate::address::{Address, Index, PortPath};
use crate::capabilities::Capabilities;
use crate::device::{Hub, Kind};
use crate::guest::Virtualization;
use crate::hardware::{Controller, Hardware, article};
use crate::models::{ControllerType, Model};
use crate::refusal::Refusal;
use crate::resolve::controllers::{Decided, decide_model, decide_ports};
use crate::resolve::not_implemented;
use crate::spec::{ControllerSpec, DeviceSpec, Spec};
use crate::speed::SpeedSet;

/// How many ports a pv controller has unless said (libvirt's `libxl/libxl_conf.c`).
const PORTS: u8 = 8;

/// Rule 2, for a guest that does not run.
pub(super) fn default_controllers(base: &Hardware, spec: &Spec) -> Vec<ControllerSpec> {
    let base_has = base.controllers().any(|it| is_pv(&it));
    if base_has || !spec.controllers.is_empty() {
        return Vec::new();
    }
    let is_host = |kind: &Kind| matches!(kind, Kind::Host(_));
    let hosts = spec.devices.iter().filter(|device| is_host(&device.kind)).count();
    let free = Index::all().filter(|index| base.controller(*index).is_none());
    free.take(hosts.div_ceil(usize::from(PORTS))).map(default_controller).collect()
}

fn is_pv(controller: &&Controller) -> bool {
    controller.model.controller_type() == ControllerType::Pv
}

/// The controller that is added.
fn default_controller(index: Index) -> ControllerSpec {
    ControllerSpec { index: Some(index), model: Some(Model::Xenusb2), ..ControllerSpec::default() }
}

/// Rule 1.
pub(super) fn decide(
    spec: &ControllerSpec,
    capabilities: &Capabilities,
) -> Result<Decided, Refusal> {
    let says_nothing =
        spec.model.is_none() && spec.usbversion.is_none() && spec.controller_type.is_none();
    let model = if says_nothing { Model::Xenusb2 } else { decide_model(spec, capabilities)? };
    // The device model's own, by rule 4, is said by whoever says all of a guest anew.
    if !matches!(model, Model::Xenusb1 | Model::Xenusb2 | DEVICE_MODELS) {
        let name = model.name();
        let what = format!("{} {name} controller", article(name));
        let why = "libvirt has xenusb1 and xenusb2 alone on Xen".to_owned();
        return Err(
            not_implemented(what, capabilities, why, None).libvirt_says("unsupported usb model")
        );
    }
    let ports = decide_ports(spec, model, PORTS)?;
    Ok(Decided { model, ports, companions: spec.companions.clone().unwrap_or_default() })
}

/// The model of the device model's UHCI: the one of the PIIX3 of QEMU's `pc`.
const DEVICE_MODELS: Model = Model::Piix3Uhci;

/// What a kind of device goes to.
enum Home {
    /// A pv controller.
    Pv,
    /// The UHCI of the device model.
    DeviceModel,
}

/// Where devices of a kind are: rules 3 to 5.
fn home(kind: &Kind, capabilities: &Capabilities) -> Result<Home, Refusal> {
    let hvm = capabilities.guest.virtualization == Virtualization::Hvm;
    let (why, says) = match kind {
        Kind::Host(_) | Kind::Other(_) => return Ok(Home::Pv),
        Kind::Mouse(_) | Kind::Tablet(_) | Kind::Hub(_) if hvm => return Ok(Home::DeviceModel),
        Kind::Keyboard(_) if hvm => {
            ("libvirt has mice and tablets alone on USB on Xen", Some("Unknown input device type"))
        }
        Kind::Mouse(_) | Kind::Tablet(_) | Kind::Keyboard(_) => {
            ("a guest without a device model has no emulated devices", None)
        }
        _ => ("libvirt has host devices alone on Xen, and mice and tablets for HVM guests", None),
    };
    let what = format!("a device of kind {}", kind.word());
    let refusal = not_implemented(what, capabilities, why.to_owned(), None);
    Err(match says {
        Some(says) => refusal.libvirt_says(says),
        None => refusal,
    })
}

/// The UHCI of the device model: the one of the PIIX3 of QEMU's `pc`.
fn device_models_controller(index: Index) -> ControllerSpec {
    ControllerSpec { index: Some(index), model: Some(DEVICE_MODELS), ..ControllerSpec::default() }
}

/// Whether this is the last free port, so that QEMU plugs a hub in before anything else.
fn is_last_port(controller: &Controller, at: Address) -> bool {
    let hubs = controller.devices().map(|(_, device)| usize::from(device.kind.hub_ports()));
    let ports = usize::from(controller.ports.count()) + hubs.sum::<usize>();
    at.port.depth() < PortPath::MAX_DEPTH && ports == controller.devices().len() + 1
}

impl Placing<'_, '_, '_> {
    /// The controller of a device of a Xen guest, with room on it. `bus` is the one that it says.
    pub(super) fn home(
        &mut self,
        device: &DeviceSpec,
        bus: Option<Index>,
    ) -> Result<Option<Index>, Refusal> {
        match home(&device.kind, self.slots.capabilities)? {
            Home::Pv if bus.is_some() || device.port.is_some() => Ok(bus),
            Home::Pv => self.pv_home(&device.kind).map(Some),
            Home::DeviceModel => self.emulated_home(device, bus).map(Some),
        }
    }

    /// The first pv controller with a free port; a guest that runs gets one more if there is none. What carries another domain's
    /// devices is for no host device of this one.
    fn pv_home(&mut self, kind: &Kind) -> Result<Index, Refusal> {
        let carries = |it: &&Controller| it.backend.is_none() || !matches!(kind, Kind::Host(_));
        let pv = self.hardware.controllers().filter(is_pv).filter(carries);
        let found =
            pv.map(|it| it.index).find(|index| self.room.lowest(*index, SpeedSet::ALL).is_some());
        match found {
            Some(index) => Ok(index),
            None if self.slots.capabilities.running => self.add_controller(default_controller),
            None => Err(self.full(None)),
        }
    }

    /// The UHCI of the device model, with QEMU's hub at its last free port.
    fn emulated_home(&mut self, device: &DeviceSpec, bus: Option<Index>) -> Result<Index, Refusal> {
        let own = self.hardware.controllers().find(|it| it.model == DEVICE_MODELS);
        let bus = match bus.or(own.map(|controller| controller.index)) {
            Some(bus) => bus,
            None => self.add_controller(device_models_controller)?,
        };
        let goes_anywhere = device.port.is_none() && device.kind.hub_ports() == 0;
        let lowest = self.room.lowest(bus, SpeedSet::ALL).map(|port| Address { bus, port });
        if let Some(at) = lowest.filter(|_| goes_anywhere)
            && self.hardware.controller(bus).is_some_and(|it| is_last_port(it, at))
        {
            let hub = Kind::Hub(Hub::default());
            let name = self.names.device(self.hardware, &hub);
            self.plug(at, name, hub)?;
            self.added.push(at);
        }
        Ok(bus)
    }

    /// Adds a controller at the lowest free index.
    fn add_controller(&mut self, spec: fn(Index) -> ControllerSpec) -> Result<Index, Refusal> {
        let free = Index::all().find(|index| self.hardware.controller(*index).is_none());
        let at = free.ok_or(Refusal::NoIndex)?;
        add_one(self.hardware, &spec(at), self.slots, self.names)?;
        if let Some(controller) = self.hardware.controller(at) {
            self.room.add_controller(controller);
        }
        self.controllers.push(at);
        Ok(at)
    }
}
