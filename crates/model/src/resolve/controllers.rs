//! Resolving controllers: rules 1 to 5 of [`vusb_1`](super::vusb_1). Other profiles use parts of
//! them.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU8;

use super::{Placed, Refused, RequestedItem, alternatives, not_implemented};
use crate::address::Index;
use crate::capabilities::Capabilities;
use crate::hardware::{Controller, Hardware, Item, article};
use crate::models::{Companion, ControllerType, Model, RootPorts};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::remedy::{Reason, Remedy};
use crate::spec::{ControllerSpec, Spec};

/// The default number of ports: that of libxl's proposal of 2014.
pub(super) const DEFAULT_PORTS: u8 = 16;

/// What placing controllers and devices depends on: the capabilities, the remaining slots, the
/// profile's default number of ports, and the reserved controller.
pub(super) struct Context<'a> {
    pub(super) capabilities: &'a Capabilities,
    /// How many more emulated controllers can be added; `None` if there is no known limit.
    free_slots: Option<usize>,
    /// The number of ports of a controller whose spec does not give one. It is clamped to what the
    /// model can have.
    default_ports: fn(Model) -> u8,
    /// The ports of a controller whose spec requests no number, if the profile's hypervisor gives
    /// the model other ports than QEMU does.
    own_ports: fn(Model) -> Option<RootPorts>,
    /// The name of the controller that only gets devices that request one of its ports: no device
    /// is placed on it automatically.
    pub(super) reserved: Option<&'static str>,
}

impl<'a> Context<'a> {
    /// With the default number of ports of `vusb-1`.
    pub(super) fn new(capabilities: &'a Capabilities) -> Context<'a> {
        let free_slots = capabilities.slots.as_ref().map(|slots| slots.free);
        Context {
            capabilities,
            free_slots,
            default_ports: |_| DEFAULT_PORTS,
            own_ports: |_| None,
            reserved: None,
        }
    }

    /// The same context, in which the controller of this name only gets the devices that request a
    /// port of it.
    pub(super) fn with_reserved(mut self, name: &'static str) -> Context<'a> {
        self.reserved = Some(name);
        self
    }

    /// The same context with another default number of ports.
    pub(super) fn with_default_ports(mut self, default_ports: fn(Model) -> u8) -> Context<'a> {
        self.default_ports = default_ports;
        self
    }

    /// The same context, in which models have other ports than in QEMU.
    pub(super) fn with_own_ports(mut self, ports: fn(Model) -> Option<RootPorts>) -> Context<'a> {
        self.own_ports = ports;
        self
    }

    /// Takes the slot that a new controller of `model` needs.
    pub(super) fn take_slot(&mut self, model: Model) -> Result<(), Refusal> {
        if model.controller_type() == ControllerType::Pv {
            return Ok(());
        }
        let Some(free) = self.free_slots.as_mut() else {
            return Ok(());
        };
        if let Some(left) = free.checked_sub(1) {
            *free = left;
            return Ok(());
        }
        let what = format!("adding {} {model}", article(model.name()));
        let slots = self.capabilities.slots.as_ref();
        let why = slots.map(|slots| slots.reason.clone()).unwrap_or_default();
        Err(not_implemented(what, self.capabilities, why))
    }
}

/// What is decided for a controller, except its index, name, backend domain and PCI address.
pub(super) struct Decided {
    pub(super) model: Model,
    pub(super) ports: RootPorts,
    pub(super) companions: Vec<Companion>,
}

/// Decides on all controllers of a spec and adds them to the hardware.
pub(super) fn place(
    base: &Hardware,
    hardware: &mut Hardware,
    specs: &[ControllerSpec],
    context: &mut Context<'_>,
    names: &mut FreeNames<'_>,
) -> Result<Vec<Placed<Index>>, Refused> {
    let unplaced = Placed { address: Index::ZERO, existing: false };
    let mut placed = vec![unplaced; specs.len()];
    let mut matched = HashSet::new();
    // Controllers that request an index or a name come before those that get the next free one.
    for explicit in [true, false] {
        for (number, (spec, result)) in specs.iter().zip(&mut placed).enumerate() {
            if (spec.index.is_some() || spec.name.is_some()) != explicit {
                continue;
            }
            let refused = |refusal| Refused::of(RequestedItem::Controller(number), refusal);
            *result = place_one(hardware, spec, context, names).map_err(refused)?;
            // An earlier entry of this spec already requested the controller (one by its name, the
            // other by its index), or added it.
            let is_duplicate =
                !matched.insert(result.address) || base.controller(result.address).is_none();
            if result.existing && is_duplicate {
                let name = hardware.controller(result.address).map(|it| it.name.to_string());
                let what = format!("controller {}", name.unwrap_or_default());
                return Err(refused(Refusal::Duplicate { what }));
            }
        }
    }
    Ok(placed)
}

/// Adds the controller of rule 7, for a device that does not fit on any existing one.
pub(super) fn add_default(
    hardware: &mut Hardware,
    context: &mut Context<'_>,
    names: &mut FreeNames<'_>,
) -> Result<Index, Refusal> {
    place_one(hardware, &ControllerSpec::default(), context, names).map(|placed| placed.address)
}

/// Adds one controller, unless the hardware already has it.
pub(super) fn place_one(
    hardware: &mut Hardware,
    spec: &ControllerSpec,
    context: &mut Context<'_>,
    names: &mut FreeNames<'_>,
) -> Result<Placed<Index>, Refusal> {
    let decided = decide(spec, context)?;
    if let Some(address) = find_existing(hardware, spec, &decided)? {
        return Ok(Placed { address, existing: true });
    }
    check_available(spec, decided.model, context.capabilities)?;
    context.take_slot(decided.model)?;
    let index = match spec.index {
        Some(index) => index,
        None => names.lowest_index(hardware)?,
    };
    let name = spec
        .name
        .clone()
        .unwrap_or_else(|| names.controller_name(hardware, decided.model.controller_type()));
    let mut controller = Controller::new(index, name, decided.model, decided.ports);
    controller.companions = decided.companions;
    controller.backend.clone_from(&spec.backend);
    controller.pci.clone_from(&spec.pci);
    hardware.add_controller(controller)?;
    Ok(Placed { address: index, existing: false })
}

/// Model, ports and companions: rules 2, 3 and 4.
fn decide(spec: &ControllerSpec, context: &Context<'_>) -> Result<Decided, Refusal> {
    let model = decide_model(spec, context.capabilities)?;
    if spec.backend.is_some() && model.controller_type() == ControllerType::Emulated {
        return Err(Refusal::BackendOfEmulated { model });
    }
    let companions = match (&spec.companions, model) {
        (Some(companions), _) => companions.clone(),
        (None, Model::Ich9Ehci1) => Companion::GROUP.to_vec(),
        (None, _) => Vec::new(),
    };
    let own = (context.own_ports)(model).filter(|ports| takes_own_ports(spec, model, *ports));
    let default = (context.default_ports)(model);
    let ports = own.map_or_else(|| decide_ports(spec, model, default), Ok)?;
    Ok(Decided { model, ports, companions })
}

/// Whether a spec leaves the number of ports open, or requests the number that the profile's
/// hypervisor gives the model. A number of ports of an xHCI is that of both kinds.
fn takes_own_ports(spec: &ControllerSpec, model: Model, own: RootPorts) -> bool {
    spec.separate_ports.is_none()
        && spec.ports.is_none_or(|ports| ports == own.count() && own.are_uniform(model))
}

/// Rule 2.
pub(super) fn decide_model(
    spec: &ControllerSpec,
    capabilities: &Capabilities,
) -> Result<Model, Refusal> {
    let Some(model) = spec.model else {
        let controller_type = spec.controller_type.unwrap_or(capabilities.default_type);
        return Ok(match (spec.usbversion, controller_type) {
            (Some(version), controller_type) => Model::for_version(controller_type, version),
            (None, ControllerType::Pv) => Model::Xenusb2,
            (None, ControllerType::Emulated) => Model::QemuXhci,
        });
    };
    let other_type = spec.controller_type.filter(|requested| *requested != model.controller_type());
    if let Some(requested) = other_type {
        return Err(Refusal::TypeAndModel { requested, model });
    }
    let other_version = spec.usbversion.filter(|version| *version != model.usbversion());
    if let Some(requested) = other_version {
        return Err(Refusal::VersionAndModel { requested, model });
    }
    Ok(model)
}

/// The ports that the spec requests, or else `default` ports, clamped to what the model can have.
pub(super) fn decide_ports(
    spec: &ControllerSpec,
    model: Model,
    default: u8,
) -> Result<RootPorts, Refusal> {
    let supported = model.port_range();
    let requested = spec.ports.unwrap_or(default.clamp(*supported.start(), *supported.end()));
    let refusal = Refusal::PortCount { model, requested, supported: supported.clone() };
    if let Some((usb2, usb3)) = spec.separate_ports {
        if !model.is_xhci() {
            return Err(Refusal::SeparatePorts { model });
        }
        let fits = |ports: &RootPorts| {
            supported.contains(&ports.count())
                && spec.ports.is_none_or(|requested| requested == ports.count())
        };
        return RootPorts::xhci(usb2, usb3).filter(fits).ok_or(refusal);
    }
    match NonZeroU8::new(requested).filter(|ports| supported.contains(&ports.get())) {
        Some(ports) => Ok(RootPorts::uniform(model, ports)),
        None => Err(refusal),
    }
}

/// Checks that a controller of this model can be added.
pub(super) fn check_available(
    spec: &ControllerSpec,
    model: Model,
    capabilities: &Capabilities,
) -> Result<(), Refusal> {
    if model == Model::Xenusb3 {
        let why = "the PVUSB protocol (usbif.h) has no version 3; xenusb2 carries SuperSpeed devices as high-speed ones";
        let remedy = Remedy::UseModel { model: Model::Xenusb2, ports: None };
        let is_possible = capabilities.check_model(Model::Xenusb2).is_ok();
        let why = Reason::from(why);
        let why = if is_possible { why.remedy(remedy) } else { why };
        return Err(not_implemented(format!("a {model} controller"), capabilities, why));
    }
    capabilities.check_model(model).map_err(|why| {
        let what = match (spec.model, spec.usbversion, spec.controller_type) {
            (None, Some(version), _) => format!("a USB {version} controller ({model})"),
            (None, None, Some(requested)) => {
                format!("{} {requested} controller ({model})", article(&requested.to_string()))
            }
            _ => format!("{} {model} controller", article(model.name())),
        };
        let by_type = spec.model.is_none() && spec.usbversion.is_none();
        let remedies = alternatives(model, spec.usbversion, by_type, capabilities);
        not_implemented(what, capabilities, Reason { text: why, remedies })
    })
}

/// The existing controller with the requested index or name.
///
/// # Errors
/// The controller or device with that index or name does not match the request.
pub(super) fn find_existing(
    hardware: &Hardware,
    spec: &ControllerSpec,
    decided: &Decided,
) -> Result<Option<Index>, Refusal> {
    let named = match spec.name.as_ref().and_then(|name| Some((name, hardware.named(name)?))) {
        Some((_, Item::Controller(index))) => hardware.controller(index),
        Some((name, Item::Device(_))) => return Err(name_in_use(hardware, name)),
        None => None,
    };
    let indexed = spec.index.and_then(|index| hardware.controller(index));
    let Some(existing) = named.or(indexed) else {
        return Ok(None);
    };
    let fits = matches_request(existing, spec, decided)
        && spec.name.as_ref().is_none_or(|name| *name == existing.name)
        && spec.index.is_none_or(|index| index == existing.index);
    match (fits, named) {
        (true, _) => Ok(Some(existing.index)),
        (false, Some(named)) => Err(name_in_use(hardware, &named.name)),
        (false, None) => {
            Err(Refusal::IndexInUse { index: existing.index.get(), by: existing.describe() })
        }
    }
}

fn name_in_use(hardware: &Hardware, name: &Name) -> Refusal {
    Refusal::NameInUse { name: name.clone(), by: hardware.describe(name).unwrap_or_default() }
}

/// Whether a controller matches the request. Properties that the spec leaves open match anything,
/// so that requesting `hci0` again finds the existing `hci0`.
fn matches_request(controller: &Controller, spec: &ControllerSpec, decided: &Decided) -> bool {
    let has_model = spec.model.is_some() || spec.usbversion.is_some();
    let has_ports = spec.ports.is_some() || spec.separate_ports.is_some();
    spec.controller_type.is_none_or(|requested| requested == controller.model.controller_type())
        && (!has_model || controller.model == decided.model)
        && (!has_ports || controller.ports == decided.ports)
        && spec.companions.as_ref().is_none_or(|companions| *companions == controller.companions)
        && (spec.backend.is_none() || spec.backend == controller.backend)
        && (spec.pci.is_none() || controller.pci.is_none() || spec.pci == controller.pci)
}

/// Finds the lowest free index and the lowest free names without counting from 0 each time. Only
/// valid while nothing is removed from the hardware.
///
/// An index or name that one entry of the spec requests is not free for any other entry. Otherwise
/// an entry without a name could get the name that a later entry requests, and the later entry
/// would then match the earlier one's item instead of adding its own.
pub(super) struct FreeNames<'a> {
    /// The names that the spec requests: none of them is free.
    requested_names: HashSet<&'a Name>,
    /// The indexes that the spec requests: none of them is free.
    requested_indexes: HashSet<Index>,
    /// No index below this one is free.
    next_index: u16,
    /// No `hciN` with a lower number is free.
    next_emulated: u32,
    /// No `pvN` with a lower number is free.
    next_pv: u32,
    /// No name of a device of this kind with a lower number is free.
    next_device: BTreeMap<&'static str, u32>,
}

impl<'a> FreeNames<'a> {
    pub(super) fn new(spec: &'a Spec) -> FreeNames<'a> {
        let controllers = spec.controllers.iter().filter_map(|spec| spec.name.as_ref());
        let devices = spec.devices.iter().filter_map(|spec| spec.name.as_ref());
        FreeNames {
            requested_names: controllers.chain(devices).collect(),
            requested_indexes: spec.controllers.iter().filter_map(|spec| spec.index).collect(),
            next_index: 0,
            next_emulated: 0,
            next_pv: 0,
            next_device: BTreeMap::new(),
        }
    }

    fn lowest_index(&mut self, hardware: &Hardware) -> Result<Index, Refusal> {
        loop {
            let index = Index::new(self.next_index).ok_or(Refusal::NoIndex)?;
            if hardware.controller(index).is_none() && !self.requested_indexes.contains(&index) {
                return Ok(index);
            }
            self.next_index += 1;
        }
    }

    fn controller_name(&mut self, hardware: &Hardware, controller_type: ControllerType) -> Name {
        let (stem, number) = match controller_type {
            ControllerType::Emulated => ("hci", &mut self.next_emulated),
            ControllerType::Pv => ("pv", &mut self.next_pv),
        };
        next_name(&self.requested_names, hardware, stem, number)
    }

    /// The next free name for a device of this kind. It stays free until
    /// [`FreeNames::device_name_used`].
    pub(super) fn device_name(&mut self, hardware: &Hardware, kind: &'static str) -> Name {
        next_name(&self.requested_names, hardware, kind, self.next_device.entry(kind).or_default())
    }

    /// Records that a device has the name that was last found for its kind.
    pub(super) fn device_name_used(&mut self, kind: &'static str) {
        *self.next_device.entry(kind).or_default() += 1;
    }
}

/// The first free name with `number` or a higher number. Sets `number` to the number of that name.
pub(super) fn next_name(
    requested: &HashSet<&Name>,
    hardware: &Hardware,
    stem: &'static str,
    number: &mut u32,
) -> Name {
    loop {
        let name = Name::numbered(stem, *number);
        if hardware.named(&name).is_none() && !requested.contains(&name) {
            return name;
        }
        *number += 1;
    }
}
