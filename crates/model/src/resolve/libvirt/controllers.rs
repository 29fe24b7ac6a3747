//! Deciding on controllers: rules 1 to 7.

use std::collections::{BTreeMap, HashSet};

use super::machine::{self, Machine};
use super::names::Names;
use super::{pci, xen};
use crate::address::Index;
use crate::capabilities::Capabilities;
use crate::guest::Hypervisor;
use crate::hardware::{Controller, Hardware, Item, article};
use crate::models::{Companion, CompanionModel, ControllerType, Model, QEMU_XHCI_PORTS};
use crate::refusal::Refusal;
use crate::resolve::controllers::{Decided, Slots, already, available, decide_model, decide_ports};
use crate::resolve::{Asked, Refused, Settled, not_implemented};
use crate::spec::{ControllerSpec, Spec};

/// What a spec's controllers come to.
pub(super) struct Controllers {
    /// For each controller of the spec, in its order, where it is. A companion is where its EHCI is; what is no controller to
    /// libvirt is where the hardware has none.
    pub(super) settled: Vec<Settled<Index>>,
    /// Those that nobody asked for.
    pub(super) added: Vec<Index>,
}

/// The controllers of a spec at one index, by their place in the spec.
#[derive(Default)]
struct Group<'a> {
    /// The one that is a bus, with its place if it is asked for.
    bus: Option<(Option<usize>, &'a ControllerSpec, Decided)>,
    companions: Vec<(usize, &'a ControllerSpec, Companion)>,
}

/// Decides on all controllers of a spec, and on those that the guest has by itself, and adds them to the hardware.
pub(super) fn settle(
    base: &Hardware,
    hardware: &mut Hardware,
    spec: &Spec,
    slots: &mut Slots<'_>,
    names: &mut Names<'_>,
) -> Result<Controllers, Refused> {
    if spec.disabled {
        return nothing(base, spec);
    }
    let capabilities = slots.capabilities;
    let indexes = indexes(base, &spec.controllers)?;
    let mut settled: Vec<Settled<Index>> =
        indexes.iter().map(|at| Settled { at: *at, already: false }).collect();
    let mut groups = groups(base, &spec.controllers, &mut settled, capabilities)?;
    has_a_bus(base, &groups)?;

    let defaults = defaults(base, spec, &indexes, capabilities);
    let mut added = Vec::new();
    for default in &defaults {
        let at = default.index.unwrap_or(Index::ZERO);
        if let Some(decided) = decide(default, capabilities)? {
            groups.entry(at).or_default().bus = Some((None, default, decided));
            added.push(at);
        }
    }
    let mut places = pci::Places::new(&capabilities.guest, base, spec);
    for (at, group) in groups {
        add(hardware, at, group, &mut places, slots, names)?;
    }
    Ok(Controllers { settled, added })
}

/// A guest that is to have no USB.
fn nothing(base: &Hardware, spec: &Spec) -> Result<Controllers, Refused> {
    let refusal = |what: String| {
        Refusal::UsbDisabled { what }
            .libvirt_says("Can't add another USB controller: USB is disabled for this domain")
    };
    if !spec.controllers.is_empty() {
        return Err(Refused::of(Asked::Controller(0), refusal("another controller".to_owned())));
    }
    if let Some(there) = base.controllers().next() {
        return Err(refusal(there.describe()).into());
    }
    Ok(Controllers { settled: Vec::new(), added: Vec::new() })
}

/// Rule 4, and its like for Xen.
fn defaults(
    base: &Hardware,
    spec: &Spec,
    indexes: &[Index],
    capabilities: &Capabilities,
) -> Vec<ControllerSpec> {
    if capabilities.running {
        return Vec::new();
    }
    if capabilities.guest.hypervisor == Hypervisor::Xen {
        return xen::default_controllers(base, spec);
    }
    if base.controller(Index::ZERO).is_some() || indexes.contains(&Index::ZERO) {
        return Vec::new();
    }
    let machine = Machine::of(&capabilities.guest);
    let model = machine.default_controller(capabilities);
    let companions = (model == Some(Some(Model::Ich9Ehci1))).then(|| Companion::GROUP.to_vec());
    model
        .map(|model| ControllerSpec {
            index: Some(Index::ZERO),
            model,
            companions,
            ..ControllerSpec::default()
        })
        .into_iter()
        .collect()
}

/// Rule 1: the order in which the indexes that are left open are filled.
fn order(specs: &[ControllerSpec]) -> Vec<usize> {
    // What says no index stays behind the highest that was said before it.
    let mut highest = None;
    let mut keys: Vec<(Option<Index>, bool, usize)> = Vec::with_capacity(specs.len());
    for (number, spec) in specs.iter().enumerate() {
        highest = highest.max(spec.index);
        let behind = spec.index.is_none() || is_companion(spec);
        keys.push((spec.index.or(highest), behind, number));
    }
    keys.sort_unstable();
    keys.into_iter().map(|(.., number)| number).collect()
}

/// Rule 2: the index of each.
fn indexes(base: &Hardware, specs: &[ControllerSpec]) -> Result<Vec<Index>, Refused> {
    let said = specs.iter().filter_map(|spec| spec.index);
    let mut taken: HashSet<Index> = base.controllers().map(|it| it.index).chain(said).collect();
    let mut models: HashSet<(Index, Option<Model>)> =
        specs.iter().filter_map(|spec| Some((spec.index?, spec.model))).collect();
    let mut free = Index::all();
    let mut before: Option<Index> = None;
    let mut indexes = vec![Index::ZERO; specs.len()];
    for number in order(specs) {
        let (Some(spec), Some(slot)) = (specs.get(number), indexes.get_mut(number)) else {
            continue;
        };
        let joined =
            || before.filter(|index| is_ich9(spec) && !models.contains(&(*index, spec.model)));
        let known = spec.index.or_else(|| named(base, spec)).or_else(joined);
        let index = known.or_else(|| free.find(|index| !taken.contains(index)));
        let refusal = || Refused::of(Asked::Controller(number), Refusal::NoIndex);
        *slot = index.ok_or_else(refusal)?;
        taken.insert(*slot);
        models.insert((*slot, spec.model));
        before = is_ich9(spec).then_some(*slot);
    }
    Ok(indexes)
}

/// The index of the controller of the base that the spec names.
fn named(base: &Hardware, spec: &ControllerSpec) -> Option<Index> {
    match base.named(spec.name.as_ref()?)? {
        Item::Controller(index) => Some(index),
        Item::Device(_) => None,
    }
}

const fn is_ich9(spec: &ControllerSpec) -> bool {
    matches!(spec.model, Some(Model::Ich9Ehci1)) || companion_model(spec).is_some()
}

/// Rule 3: whether it is a companion and no bus.
const fn is_companion(spec: &ControllerSpec) -> bool {
    spec.first_port.is_some() || companion_model(spec).is_some()
}

const fn companion_model(spec: &ControllerSpec) -> Option<CompanionModel> {
    match spec.model {
        Some(Model::Ich9Uhci1) => Some(CompanionModel::Ich9Uhci1),
        Some(Model::Ich9Uhci2) => Some(CompanionModel::Ich9Uhci2),
        Some(Model::Ich9Uhci3) => Some(CompanionModel::Ich9Uhci3),
        _ => None,
    }
}

/// The companion that a spec says.
fn companion(spec: &ControllerSpec) -> Result<Companion, Refusal> {
    let Some(model) = companion_model(spec) else {
        let model = spec.model.unwrap_or(Model::Piix3Uhci);
        let why = "only ich9-uhci1, ich9-uhci2 and ich9-uhci3 serve the ports of an EHCI";
        return Err(Refusal::Companions { model, why });
    };
    let usual = Companion::GROUP.iter().find(|usual| usual.model == model);
    let first_port = spec.first_port.or(usual.map(|usual| usual.first_port)).unwrap_or(0);
    Ok(Companion { model, first_port })
}

/// What is new of a spec, by index. What the base has already is marked in `settled`.
fn groups<'a>(
    base: &Hardware,
    specs: &'a [ControllerSpec],
    settled: &mut [Settled<Index>],
    capabilities: &Capabilities,
) -> Result<BTreeMap<Index, Group<'a>>, Refused> {
    let mut groups: BTreeMap<Index, Group<'a>> = BTreeMap::new();
    let mut meant = HashSet::new();
    for ((number, spec), slot) in specs.iter().enumerate().zip(settled) {
        let refused = |refusal| Refused::of(Asked::Controller(number), refusal);
        let there = base.controller(slot.at);
        // A UHCI of the ICH9 that stands alone is no companion where another tool has made it so.
        let alone = there.is_some_and(|there| Some(there.model) == spec.model);
        if is_companion(spec) && !alone {
            let companion = companion(spec).map_err(refused)?;
            match there {
                Some(there) => {
                    serves_there(there, companion).map_err(refused)?;
                    slot.already = true;
                }
                None => {
                    groups.entry(slot.at).or_default().companions.push((number, spec, companion));
                }
            }
            continue;
        }
        // Whoever names one that is there, and no model, means that one.
        let known = there.filter(|_| spec.model.is_none() && spec.usbversion.is_none());
        let known = known.map(|there| ControllerSpec { model: Some(there.model), ..spec.clone() });
        let decided = decide(known.as_ref().unwrap_or(spec), capabilities).map_err(refused)?;
        let Some(decided) = decided else { continue };
        let found = already(base, spec, &decided).map_err(|refusal| match refusal {
            in_use @ Refusal::IndexInUse { .. } => refused(duplicate(in_use, slot.at)),
            other => refused(other),
        })?;
        if found.is_some() {
            if !meant.insert(slot.at) {
                return Err(refused(twice(slot.at)));
            }
            slot.already = true;
            continue;
        }
        let group = groups.entry(slot.at).or_default();
        if group.bus.replace((Some(number), spec, decided)).is_some() {
            return Err(refused(twice(slot.at)));
        }
    }
    Ok(groups)
}

fn twice(index: Index) -> Refusal {
    duplicate(Refusal::Twice { what: format!("index {index}") }, index)
}

/// libvirt says it when it gives addresses.
fn duplicate(refusal: Refusal, index: Index) -> Refusal {
    refusal.libvirt_says(format!("Duplicate USB controllers with index {index}"))
}

/// Whether the EHCI of the base has this companion. It gets no new one: what is there stays as it is.
fn serves_there(there: &Controller, companion: Companion) -> Result<(), Refusal> {
    if there.companions.contains(&companion) {
        return Ok(());
    }
    let why = "the controller at its index is there already, and stays as it is";
    Err(Refusal::Companions { model: companion.model.model(), why })
}

/// A guest whose controllers are companions alone: libvirt refuses it at parse.
fn has_a_bus(base: &Hardware, groups: &BTreeMap<Index, Group<'_>>) -> Result<(), Refused> {
    if base.controllers().len() > 0 || groups.values().any(|group| group.bus.is_some()) {
        return Ok(());
    }
    let orphan = groups.iter().find_map(|(at, group)| Some((*at, group.companions.first()?)));
    match orphan {
        None => Ok(()),
        Some((at, (number, _, companion))) => {
            let refusal = no_ehci(*companion, at, "No master USB controller specified");
            Err(Refused::of(Asked::Controller(*number), refusal))
        }
    }
}

fn no_ehci(companion: Companion, index: Index, says: &str) -> Refusal {
    Refusal::NoEhci { model: companion.model.model(), index: index.get() }.libvirt_says(says)
}

/// Model, ports and companions of what is no companion itself: rules 5 and 6. `None` for what is no controller to libvirt.
fn decide(spec: &ControllerSpec, capabilities: &Capabilities) -> Result<Option<Decided>, Refusal> {
    if capabilities.guest.hypervisor == Hypervisor::Xen {
        return xen::decide(spec, capabilities).map(Some);
    }
    let Some(model) = model(spec, capabilities)? else { return Ok(None) };
    if model.controller_type() == ControllerType::Pv {
        let (name, why) = (model.name(), "QEMU has no paravirtual USB".to_owned());
        let refusal = not_implemented(format!("{} {name}", article(name)), capabilities, why, None);
        return Err(refusal
            .libvirt_says("USB controller model type 'qusb1' or 'qusb2' is not supported in kvm"));
    }
    if spec.backend.is_some() {
        return Err(Refusal::BackendOfEmulated { model });
    }
    if model.is_xhci() && spec.ports == Some(0) {
        return Ok(None);
    }
    let ports =
        decide_ports(spec, model, QEMU_XHCI_PORTS).map_err(|refusal| ports_of(model, refusal))?;
    let companions = match (&spec.companions, spec.model, model) {
        (Some(companions), ..) => companions.clone(),
        // Whoever says a version and no model wants what takes all of its speeds.
        (None, None, Model::Ich9Ehci1) => Companion::GROUP.to_vec(),
        (None, ..) => Vec::new(),
    };
    Ok(Some(Decided { model, ports, companions }))
}

/// The model, or `None` for what is no controller to libvirt.
fn model(spec: &ControllerSpec, capabilities: &Capabilities) -> Result<Option<Model>, Refusal> {
    let says_nothing = spec.model.is_none() && spec.usbversion.is_none();
    if !says_nothing || spec.controller_type == Some(ControllerType::Pv) {
        return decide_model(spec, capabilities).map(Some);
    }
    let machine = Machine::of(&capabilities.guest);
    match machine.open_model(spec.pci.is_some(), capabilities) {
        machine::Decided::Model(model) => Ok(Some(model)),
        machine::Decided::NoController => Ok(None),
        machine::Decided::Unknown => {
            let why = format!("{} has no USB controller to take for it", machine.describe());
            let instead = Some("say which model it is to be".to_owned());
            let what = "a controller without a model".to_owned();
            Err(not_implemented(what, capabilities, why, instead)
                .libvirt_says("no model provided for USB controller"))
        }
    }
}

/// The refusal of a number of ports: of an xHCI libvirt says it at parse, of all others at start.
fn ports_of(model: Model, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::PortCount { .. } if model.is_xhci() => refusal.libvirt_says(format!(
            "'{model}' controller only supports up to '{}' ports",
            model.port_range().end()
        )),
        Refusal::PortCount { .. } => refusal.libvirt_says(format!(
            "usb controller type '{model}' doesn't support 'ports' with this QEMU binary"
        )),
        other => other,
    }
}

/// Adds a controller that nobody asked for.
pub(super) fn add_one(
    hardware: &mut Hardware,
    spec: &ControllerSpec,
    slots: &mut Slots<'_>,
    names: &mut Names<'_>,
) -> Result<(), Refusal> {
    let capabilities = slots.capabilities;
    let Some(decided) = decide(spec, capabilities)? else { return Ok(()) };
    let mut places = pci::Places::new(&capabilities.guest, hardware, &Spec::default());
    let group = Group { bus: Some((None, spec, decided)), companions: Vec::new() };
    let at = spec.index.unwrap_or(Index::ZERO);
    Ok(add(hardware, at, group, &mut places, slots, names)?)
}

/// Adds what there is at one index.
fn add(
    hardware: &mut Hardware,
    at: Index,
    group: Group<'_>,
    places: &mut pci::Places<'_>,
    slots: &mut Slots<'_>,
    names: &mut Names<'_>,
) -> Result<(), Refused> {
    let first = group.companions.first().map(|(number, ..)| Asked::Controller(*number));
    let Some((asked, spec, decided)) = group.bus else {
        return match group.companions.first() {
            Some((number, _, companion)) => {
                let refusal = no_ehci(*companion, at, "masterbus not found");
                Err(Refused::of(Asked::Controller(*number), refusal))
            }
            None => Ok(()),
        };
    };
    let asked = asked.map(Asked::Controller);
    let refused = |refusal| Refused { refusal, asked };
    can_be_had(spec, decided.model, slots).map_err(refused)?;
    let mut companions = decided.companions;
    companions.extend(group.companions.iter().map(|(.., companion)| *companion));
    companions.sort_by_key(|companion| companion.first_port);
    let members: Vec<(Asked, &ControllerSpec)> = group
        .companions
        .iter()
        .map(|(number, spec, _)| (Asked::Controller(*number), *spec))
        .collect();
    let name = spec.name.clone().unwrap_or_else(|| names.controller(hardware, at));
    let mut controller = Controller::new(at, name, decided.model, decided.ports);
    controller.companions = companions;
    controller.backend.clone_from(&spec.backend);
    controller.pci = places.place(&controller, spec, asked, &members)?;
    hardware.add_controller(controller).map_err(|refusal| {
        let of_companions = matches!(refusal, Refusal::Companions { .. });
        Refused { refusal, asked: first.filter(|_| of_companions).or(asked) }
    })
}

/// Whether the guest can have one more of that model.
fn can_be_had(spec: &ControllerSpec, model: Model, slots: &mut Slots<'_>) -> Result<(), Refusal> {
    let capabilities = slots.capabilities;
    if capabilities.guest.hypervisor == Hypervisor::Xen {
        available(spec, model, capabilities)?;
        return slots.take(model);
    }
    let machine = Machine::of(&capabilities.guest);
    if !machine.has_pci() {
        let (name, why) = (model.name(), format!("{} has no PCI bus", machine.describe()));
        let what = format!("{} {name} controller", article(name));
        return Err(not_implemented(what, capabilities, why, None)
            .libvirt_says("XML error: No PCI buses available"));
    }
    available(spec, model, capabilities).map_err(|refusal| {
        refusal.libvirt_says(format!(
            "USB controller model '{model}' not supported in this QEMU binary"
        ))
    })?;
    slots.take(model)
}
