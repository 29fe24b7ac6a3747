//! Deciding on controllers: rules 1 to 5.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU8;

use super::{Asked, Refused, Settled, instead_of, not_implemented};
use crate::address::Index;
use crate::capabilities::Capabilities;
use crate::guest::Hypervisor;
use crate::hardware::{Controller, Hardware, Item, article};
use crate::models::{Companion, ControllerType, Model, RootPorts};
use crate::name::Name;
use crate::refusal::Refusal;
use crate::spec::{ControllerSpec, Spec};

/// How many ports a controller has unless said: the default of libxl's proposal of 2014.
const DEFAULT_PORTS: u8 = 16;

/// How many ports VMware's xHCI has (with both halves, since hardware version 11): its guests cannot have another number.
pub const VMWARE_XHCI_PORTS: u8 = 4;

/// The capabilities, and how many more emulated controllers may be added under them.
pub(super) struct Slots<'a> {
    pub(super) capabilities: &'a Capabilities,
    free: Option<usize>,
}

impl<'a> Slots<'a> {
    pub(super) fn new(capabilities: &'a Capabilities) -> Slots<'a> {
        Slots { capabilities, free: capabilities.slots.as_ref().map(|slots| slots.free) }
    }

    /// Takes the slot that a new controller of `model` needs.
    pub(super) fn take(&mut self, model: Model) -> Result<(), Refusal> {
        if model.controller_type() == ControllerType::Pv {
            return Ok(());
        }
        let Some(free) = self.free.as_mut() else {
            return Ok(());
        };
        if let Some(left) = free.checked_sub(1) {
            *free = left;
            return Ok(());
        }
        let why =
            self.capabilities.slots.as_ref().map(|slots| slots.remedy.clone()).unwrap_or_default();
        Err(not_implemented(
            format!("adding {} {model}", article(model.name())),
            self.capabilities,
            why,
            None,
        ))
    }
}

/// What a controller spec comes to, but for index and name.
pub(super) struct Decided {
    pub(super) model: Model,
    pub(super) ports: RootPorts,
    pub(super) companions: Vec<Companion>,
}

/// Decides on all controllers of a spec and adds them to the hardware.
pub(super) fn settle(
    base: &Hardware,
    hardware: &mut Hardware,
    specs: &[ControllerSpec],
    slots: &mut Slots<'_>,
    free: &mut Free<'_>,
) -> Result<Vec<Settled<Index>>, Refused> {
    let nowhere = Settled { at: Index::ZERO, already: false };
    let mut settled = vec![nowhere; specs.len()];
    let mut meant = HashSet::new();
    // What claims an index or a name comes before what takes the next that is free.
    for claims in [true, false] {
        for (number, (spec, slot)) in specs.iter().zip(&mut settled).enumerate() {
            let refused = |refusal| Refused::of(Asked::Controller(number), refusal);
            if (spec.index.is_some() || spec.name.is_some()) == claims {
                *slot = one(hardware, spec, slots, free).map_err(refused)?;
                // One that this spec has just added, or named by its name and by its index.
                let twice = !meant.insert(slot.at) || base.controller(slot.at).is_none();
                if slot.already && twice {
                    let what = hardware.controller(slot.at).map(|it| it.name.to_string());
                    let what = format!("controller {}", what.unwrap_or_default());
                    return Err(refused(Refusal::Twice { what }));
                }
            }
        }
    }
    Ok(settled)
}

/// Adds the controller that rule 7 wants for a device nobody has a port for.
pub(super) fn add_default(
    hardware: &mut Hardware,
    slots: &mut Slots<'_>,
    free: &mut Free<'_>,
) -> Result<Index, Refusal> {
    one(hardware, &ControllerSpec::default(), slots, free).map(|settled| settled.at)
}

/// Adds one controller, unless the hardware has it.
pub(super) fn one(
    hardware: &mut Hardware,
    spec: &ControllerSpec,
    slots: &mut Slots<'_>,
    free: &mut Free<'_>,
) -> Result<Settled<Index>, Refusal> {
    let decided = decide(spec, slots.capabilities)?;
    if let Some(at) = already(hardware, spec, &decided)? {
        return Ok(Settled { at, already: true });
    }
    available(spec, decided.model, slots.capabilities)?;
    slots.take(decided.model)?;
    let index = match spec.index {
        Some(index) => index,
        None => free.lowest(hardware)?,
    };
    let name = spec
        .name
        .clone()
        .unwrap_or_else(|| free.controller_name(hardware, decided.model.controller_type()));
    let mut controller = Controller::new(index, name, decided.model, decided.ports);
    controller.companions = decided.companions;
    controller.backend.clone_from(&spec.backend);
    controller.pci.clone_from(&spec.pci);
    hardware.add_controller(controller)?;
    Ok(Settled { at: index, already: false })
}

/// Model, ports and companions: rules 2, 3 and 4.
fn decide(spec: &ControllerSpec, capabilities: &Capabilities) -> Result<Decided, Refusal> {
    let model = decide_model(spec, capabilities)?;
    if spec.backend.is_some() && model.controller_type() == ControllerType::Emulated {
        return Err(Refusal::BackendOfEmulated { model });
    }
    let companions = match (&spec.companions, model) {
        (Some(companions), _) => companions.clone(),
        (None, Model::Ich9Ehci1) => Companion::GROUP.to_vec(),
        (None, _) => Vec::new(),
    };
    let default = match capabilities.guest.hypervisor {
        Hypervisor::Vmware if model.is_xhci() => VMWARE_XHCI_PORTS,
        _ => DEFAULT_PORTS,
    };
    Ok(Decided { model, ports: decide_ports(spec, model, default)?, companions })
}

pub(super) fn decide_model(
    spec: &ControllerSpec,
    capabilities: &Capabilities,
) -> Result<Model, Refusal> {
    let Some(model) = spec.model else {
        let kind = spec.controller_type.unwrap_or(capabilities.default_type);
        return Ok(match (spec.usbversion, kind) {
            (Some(version), kind) => Model::of_version(kind, version),
            (None, ControllerType::Pv) => Model::Xenusb2,
            (None, ControllerType::Emulated) => Model::QemuXhci,
        });
    };
    if let Some(asked) = spec.controller_type.filter(|asked| *asked != model.controller_type()) {
        return Err(Refusal::TypeAndModel { asked, model });
    }
    if let Some(asked) = spec.usbversion.filter(|asked| *asked != model.usbversion()) {
        return Err(Refusal::VersionAndModel { asked, model });
    }
    Ok(model)
}

/// The ports that the spec says, or `default` of them, cut to what the model has.
pub(super) fn decide_ports(
    spec: &ControllerSpec,
    model: Model,
    default: u8,
) -> Result<RootPorts, Refusal> {
    let can = model.port_range();
    let asked = spec.ports.unwrap_or(default.clamp(*can.start(), *can.end()));
    let refusal = Refusal::PortCount { model, asked, can: can.clone() };
    if let Some((usb2, usb3)) = spec.halves {
        if !model.is_xhci() {
            return Err(Refusal::Halves { model });
        }
        let fits = |ports: &RootPorts| {
            can.contains(&ports.count()) && spec.ports.is_none_or(|asked| asked == ports.count())
        };
        return RootPorts::xhci(usb2, usb3).filter(fits).ok_or(refusal);
    }
    match NonZeroU8::new(asked).filter(|asked| can.contains(&asked.get())) {
        Some(ports) => Ok(RootPorts::of(model, ports)),
        None => Err(refusal),
    }
}

/// Whether the hypervisor can have the model.
pub(super) fn available(
    spec: &ControllerSpec,
    model: Model,
    capabilities: &Capabilities,
) -> Result<(), Refusal> {
    if model == Model::Xenusb3 {
        let why = "the PVUSB protocol (usbif.h) has no version 3".to_owned();
        let instead = "xenusb2 carries SuperSpeed devices as high-speed ones".to_owned();
        return Err(not_implemented(
            format!("a {model} controller"),
            capabilities,
            why,
            Some(instead),
        ));
    }
    capabilities.model(model).map_err(|why| {
        let asked = match (spec.model, spec.usbversion, spec.controller_type) {
            (None, Some(version), _) => format!("a USB {version} controller ({model})"),
            (None, None, Some(kind)) => {
                format!("{} {kind} controller ({model})", article(&kind.to_string()))
            }
            _ => format!("{} {model} controller", article(model.name())),
        };
        let by_type = spec.model.is_none() && spec.usbversion.is_none();
        let instead = instead_of(model, spec.usbversion, by_type, capabilities);
        not_implemented(asked, capabilities, why, instead)
    })
}

/// Which controller of the hardware the spec means, if it claims the index or name of one that is there.
pub(super) fn already(
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
    let Some(there) = named.or(indexed) else {
        return Ok(None);
    };
    let fits = satisfies(there, spec, decided)
        && spec.name.as_ref().is_none_or(|name| *name == there.name)
        && spec.index.is_none_or(|index| index == there.index);
    match (fits, named) {
        (true, _) => Ok(Some(there.index)),
        (false, Some(named)) => Err(name_in_use(hardware, &named.name)),
        (false, None) => {
            Err(Refusal::IndexInUse { index: there.index.get(), by: there.describe() })
        }
    }
}

fn name_in_use(hardware: &Hardware, name: &Name) -> Refusal {
    Refusal::NameInUse { name: name.clone(), by: hardware.describe(name).unwrap_or_default() }
}

/// Whether a controller is what the spec asks for. What the spec leaves open fits anything, so that asking again for
/// `hci0` is answered with the `hci0` that is there.
fn satisfies(there: &Controller, spec: &ControllerSpec, decided: &Decided) -> bool {
    let says_model = spec.model.is_some() || spec.usbversion.is_some();
    let says_ports = spec.ports.is_some() || spec.halves.is_some();
    spec.controller_type.is_none_or(|kind| kind == there.model.controller_type())
        && (!says_model || there.model == decided.model)
        && (!says_ports || there.ports == decided.ports)
        && spec.companions.as_ref().is_none_or(|companions| *companions == there.companions)
        && (spec.backend.is_none() || spec.backend == there.backend)
        && (spec.pci.is_none() || there.pci.is_none() || spec.pci == there.pci)
}

/// Finds the lowest free index and number again and again without counting from 0 each time. Only used while the
/// hardware grows.
///
/// What the spec claims for one of its entries is not free for another: else an entry that leaves its name open could
/// take the very name that a later one asks for, and the two would be taken for one.
pub(super) struct Free<'a> {
    names: HashSet<&'a Name>,
    indexes: HashSet<Index>,
    index: u16,
    emulated: u32,
    pv: u32,
    devices: BTreeMap<&'static str, u32>,
}

impl<'a> Free<'a> {
    pub(super) fn new(spec: &'a Spec) -> Free<'a> {
        let controllers = spec.controllers.iter().filter_map(|spec| spec.name.as_ref());
        let devices = spec.devices.iter().filter_map(|spec| spec.name.as_ref());
        Free {
            names: controllers.chain(devices).collect(),
            indexes: spec.controllers.iter().filter_map(|spec| spec.index).collect(),
            index: 0,
            emulated: 0,
            pv: 0,
            devices: BTreeMap::new(),
        }
    }

    fn lowest(&mut self, hardware: &Hardware) -> Result<Index, Refusal> {
        loop {
            let index = Index::new(self.index).ok_or(Refusal::NoIndex)?;
            if hardware.controller(index).is_none() && !self.indexes.contains(&index) {
                return Ok(index);
            }
            self.index += 1;
        }
    }

    fn controller_name(&mut self, hardware: &Hardware, kind: ControllerType) -> Name {
        let (stem, number) = match kind {
            ControllerType::Emulated => ("hci", &mut self.emulated),
            ControllerType::Pv => ("pv", &mut self.pv),
        };
        next_name(&self.names, hardware, stem, number)
    }

    /// The name for a device of the kind `word`. It stays free until [`Free::used_device_name`] says that it is not.
    pub(super) fn device_name(&mut self, hardware: &Hardware, word: &'static str) -> Name {
        next_name(&self.names, hardware, word, self.devices.entry(word).or_default())
    }

    /// Takes note that a device has the name that was last found for its kind.
    pub(super) fn used_device_name(&mut self, word: &'static str) {
        *self.devices.entry(word).or_default() += 1;
    }
}

/// The first name from `number` on that is free, and leaves `number` at it.
pub(super) fn next_name(
    claimed: &HashSet<&Name>,
    hardware: &Hardware,
    stem: &'static str,
    number: &mut u32,
) -> Name {
    loop {
        let name = Name::numbered(stem, *number);
        if hardware.named(&name).is_none() && !claimed.contains(&name) {
            return name;
        }
        *number += 1;
    }
}
