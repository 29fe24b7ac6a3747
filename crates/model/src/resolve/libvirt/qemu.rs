//! What libvirt's driver for QEMU fills in: rules 4 to 9.

use super::Platform;
use super::devices::Placement;
use super::machine::{DefaultModel, Machine};
use super::messages::{self, LibvirtSays as _};
use super::pci::PciSlots;
use crate::address::Index;
use crate::capabilities::Capabilities;
use crate::device::{Input, Kind};
use crate::hardware::{Controller, Hardware, PciAddress, article};
use crate::models::{Companion, ControllerType, Model, QEMU_XHCI_PORTS, UsbVersion};
use crate::refusal::Refusal;
use crate::resolve::controllers::{Decided, check_available, decide_model, decide_ports};
use crate::resolve::{Refused, not_implemented};
use crate::spec::{ControllerSpec, DeviceSpec, Spec};

/// A QEMU guest.
pub(super) struct Qemu<'a> {
    capabilities: &'a Capabilities,
    machine: Machine<'a>,
    pci_slots: PciSlots,
}

impl<'a> Qemu<'a> {
    pub(super) fn new(capabilities: &'a Capabilities, base: &Hardware, spec: &Spec) -> Qemu<'a> {
        let machine = Machine::of(&capabilities.guest);
        Qemu { capabilities, machine, pci_slots: PciSlots::new(base, spec) }
    }

    /// Rule 5. `None` if libvirt does not treat the entry as a controller.
    fn decide_model(&self, spec: &ControllerSpec) -> Result<Option<Model>, Refused> {
        let is_open = spec.model.is_none() && spec.usbversion.is_none();
        if !is_open || spec.controller_type == Some(ControllerType::Pv) {
            return Ok(Some(decide_model(spec, self.capabilities)?));
        }
        match self.machine.default_model(spec.pci.is_some(), self.capabilities) {
            DefaultModel::Model(model) => Ok(Some(model)),
            DefaultModel::NoController => Ok(None),
            DefaultModel::Unknown => {
                let machine = self.machine.describe();
                let why = format!("{machine} has no default USB controller; specify a model");
                let what = "a controller without a model".to_owned();
                Err(not_implemented(what, self.capabilities, why)
                    .libvirt_says("no model provided for USB controller"))
            }
        }
    }
}

impl Platform for Qemu<'_> {
    /// Rule 4.
    fn default_controllers(
        &self,
        base: &Hardware,
        _spec: &Spec,
        indexes: &[Index],
    ) -> Vec<ControllerSpec> {
        if base.controller(Index::ZERO).is_some() || indexes.contains(&Index::ZERO) {
            return Vec::new();
        }
        let Some(model) = self.machine.default_controller(self.capabilities) else {
            return Vec::new();
        };
        let companions = (model == Some(Model::Ich9Ehci1)).then(|| Companion::GROUP.to_vec());
        let index = Some(Index::ZERO);
        vec![ControllerSpec { index, model, companions, ..ControllerSpec::default() }]
    }

    /// Rules 5 and 6.
    fn decide(&self, spec: &ControllerSpec) -> Result<Option<Decided>, Refused> {
        let Some(model) = self.decide_model(spec)? else { return Ok(None) };
        if model.controller_type() == ControllerType::Pv {
            let what = format!("{} {model}", article(model.name()));
            return Err(not_implemented(what, self.capabilities, "QEMU has no paravirtual USB")
                .libvirt_says(
                    "USB controller model type 'qusb1' or 'qusb2' is not supported in kvm",
                ));
        }
        if spec.backend.is_some() {
            return Err(Refusal::BackendOfEmulated { model }.into());
        }
        if model.is_xhci() && spec.ports == Some(0) {
            return Ok(None);
        }
        let ports = decide_ports(spec, model, QEMU_XHCI_PORTS)
            .map_err(|refusal| port_count(model, refusal))?;
        let companions = match (&spec.companions, spec.model, model) {
            (Some(companions), ..) => companions.clone(),
            // A request by version means a controller that supports all speeds of that version.
            (None, None, Model::Ich9Ehci1) => Companion::GROUP.to_vec(),
            (None, ..) => Vec::new(),
        };
        Ok(Some(Decided { model, ports, companions }))
    }

    fn check_available(&self, spec: &ControllerSpec, model: Model) -> Result<(), Refused> {
        if !self.machine.has_pci() {
            let what = format!("{} {model} controller", article(model.name()));
            let why = format!("{} has no PCI bus", self.machine.describe());
            return Err(not_implemented(what, self.capabilities, why)
                .libvirt_says("XML error: No PCI buses available"));
        }
        check_available(spec, model, self.capabilities).map_err(|refusal| {
            refusal.libvirt_says(format!(
                "USB controller model '{model}' not supported in this QEMU binary"
            ))
        })
    }

    /// Rule 7.
    fn pci_address(
        &mut self,
        controller: &Controller,
        requested: Option<PciAddress>,
    ) -> Result<Option<PciAddress>, Refused> {
        self.pci_slots.address(self.machine, controller, requested)
    }

    /// Rule 8.
    fn default_devices(&self, has: &dyn Fn(fn(&Kind) -> bool) -> bool) -> Vec<Kind> {
        if !self.machine.has_usb_keyboard() || !self.capabilities.guest.graphics {
            return Vec::new();
        }
        // QEMU's default version.
        let input = Input { usbversion: UsbVersion::V2 };
        let keyboard =
            (!has(|kind| matches!(kind, Kind::Keyboard(_)))).then_some(Kind::Keyboard(input));
        let mouse = (!has(|kind| matches!(kind, Kind::Mouse(_) | Kind::Tablet(_))))
            .then_some(Kind::Mouse(input));
        keyboard.into_iter().chain(mouse).collect()
    }

    /// Rule 9.
    fn adds_hubs(&self) -> bool {
        !self.capabilities.running
    }

    fn check_without_controller(&self, kind: &Kind) -> Result<(), Refused> {
        Err(messages::no_controller(kind, self.machine.describe()))
    }

    fn controller_for(
        &mut self,
        _device: &DeviceSpec,
        bus: Option<Index>,
        _placement: &mut Placement<'_, '_, '_>,
    ) -> Result<Option<Index>, Refused> {
        Ok(bus)
    }
}

/// The refusal of a number of ports: for an xHCI at parse, for all others at start.
fn port_count(model: Model, refusal: Refusal) -> Refused {
    match refusal {
        Refusal::PortCount { .. } if model.is_xhci() => refusal.libvirt_says(format!(
            "'{model}' controller only supports up to '{}' ports",
            model.port_range().end()
        )),
        Refusal::PortCount { .. } => refusal.libvirt_says(format!(
            "usb controller type '{model}' doesn't support 'ports' with this QEMU binary"
        )),
        other => other.into(),
    }
}
