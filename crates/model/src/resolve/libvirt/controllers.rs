//! Resolving controllers: rules 1 to 3, and what is the same on all platforms.

use std::collections::{BTreeMap, HashSet};

use super::messages::LibvirtSays as _;
use super::names::Names;
use super::{Platform, pci};
use crate::address::Index;
use crate::hardware::{Controller, Hardware, Item};
use crate::models::{Companion, CompanionModel, Model};
use crate::refusal::Refusal;
use crate::resolve::controllers::{Context, Decided, find_existing};
use crate::resolve::{Placed, Refused, RequestedItem};
use crate::spec::{ControllerSpec, Spec};

/// The controllers of a spec, resolved.
pub(super) struct Controllers {
    /// The index of each controller of the spec, in the order of the spec. A companion has the
    /// index of its EHCI. An entry that libvirt does not treat as a controller has an index at
    /// which the hardware has no controller.
    pub(super) placed: Vec<Placed<Index>>,
    /// Those that were added without a request.
    pub(super) added: Vec<Index>,
}

/// The controllers of a spec at one index, by their position in the spec.
#[derive(Default)]
struct Group<'a> {
    /// The controller that has its own bus, with its position if it was requested.
    main: Option<(Option<usize>, &'a ControllerSpec, Decided)>,
    companions: Vec<(usize, &'a ControllerSpec, Companion)>,
}

/// Decides on all controllers of a spec and on the default ones, and adds them to the hardware.
pub(super) fn place(
    base: &Hardware,
    hardware: &mut Hardware,
    spec: &Spec,
    platform: &mut dyn Platform,
    context: &mut Context<'_>,
    names: &mut Names<'_>,
) -> Result<Controllers, Refused> {
    if spec.disabled {
        return check_disabled(base, spec);
    }
    let indexes = assign_indexes(base, &spec.controllers)?;
    let mut placed: Vec<Placed<Index>> =
        indexes.iter().map(|index| Placed { address: *index, existing: false }).collect();
    let mut groups = new_groups(base, &spec.controllers, &mut placed, platform)?;
    check_any_bus(base, &groups)?;

    let defaults = match context.capabilities.running {
        true => Vec::new(),
        false => platform.default_controllers(base, spec, &indexes),
    };
    let mut added = Vec::new();
    for default in &defaults {
        let index = default.index.unwrap_or(Index::ZERO);
        if let Some(decided) = platform.decide(default)? {
            groups.entry(index).or_default().main = Some((None, default, decided));
            added.push(index);
        }
    }
    for (index, group) in groups {
        add_group(hardware, index, group, platform, context, names)?;
    }
    Ok(Controllers { placed, added })
}

/// A guest whose USB is disabled cannot have a controller.
fn check_disabled(base: &Hardware, spec: &Spec) -> Result<Controllers, Refused> {
    let refusal = |what: String| {
        Refusal::UsbDisabled { what }
            .libvirt_says("Can't add another USB controller: USB is disabled for this domain")
    };
    if !spec.controllers.is_empty() {
        let refused = refusal("another controller".to_owned());
        return Err(refused.because_of(RequestedItem::Controller(0)));
    }
    if let Some(existing) = base.controllers().next() {
        return Err(refusal(existing.describe()));
    }
    Ok(Controllers { placed: Vec::new(), added: Vec::new() })
}

/// Rule 1: the order in which open indexes are assigned.
fn order(specs: &[ControllerSpec]) -> Vec<usize> {
    // A controller without an index follows the highest index before it in the spec.
    let mut highest = None;
    let mut keys: Vec<(Option<Index>, bool, usize)> = Vec::with_capacity(specs.len());
    for (number, spec) in specs.iter().enumerate() {
        highest = highest.max(spec.index);
        let follows = spec.index.is_none() || is_companion(spec);
        keys.push((spec.index.or(highest), follows, number));
    }
    keys.sort_unstable();
    keys.into_iter().map(|(.., number)| number).collect()
}

/// Rule 2: the index of each controller.
fn assign_indexes(base: &Hardware, specs: &[ControllerSpec]) -> Result<Vec<Index>, Refused> {
    let requested = specs.iter().filter_map(|spec| spec.index);
    let mut taken: HashSet<Index> =
        base.controllers().map(|it| it.index).chain(requested).collect();
    let mut models: HashSet<(Index, Option<Model>)> =
        specs.iter().filter_map(|spec| Some((spec.index?, spec.model))).collect();
    let mut candidates = Index::all();
    // The index of the previous controller, if that is an ICH9 one.
    let mut group: Option<Index> = None;
    let mut indexes = vec![Index::ZERO; specs.len()];
    for number in order(specs) {
        let (Some(spec), Some(slot)) = (specs.get(number), indexes.get_mut(number)) else {
            continue;
        };
        let joined =
            || group.filter(|index| is_ich9(spec) && !models.contains(&(*index, spec.model)));
        let known = spec.index.or_else(|| named(base, spec)).or_else(joined);
        let index = known.or_else(|| candidates.find(|index| !taken.contains(index)));
        let refused = || Refused::of(RequestedItem::Controller(number), Refusal::NoIndex);
        *slot = index.ok_or_else(refused)?;
        taken.insert(*slot);
        models.insert((*slot, spec.model));
        group = is_ich9(spec).then_some(*slot);
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

/// Rule 3: whether it is a companion, which has no bus of its own.
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

/// The companion that a spec describes.
fn companion(spec: &ControllerSpec) -> Result<Companion, Refusal> {
    let Some(model) = companion_model(spec) else {
        let model = spec.model.unwrap_or(Model::Piix3Uhci);
        let why = "only ich9-uhci1, ich9-uhci2 and ich9-uhci3 serve the ports of an EHCI";
        return Err(Refusal::Companions { model, why });
    };
    let default = Companion::GROUP.iter().find(|default| default.model == model);
    let first_port = spec.first_port.or(default.map(|default| default.first_port)).unwrap_or(0);
    Ok(Companion { model, first_port })
}

/// The new controllers of a spec, by index. Those that the base has are marked as existing in
/// `placed`.
fn new_groups<'a>(
    base: &Hardware,
    specs: &'a [ControllerSpec],
    placed: &mut [Placed<Index>],
    platform: &dyn Platform,
) -> Result<BTreeMap<Index, Group<'a>>, Refused> {
    let mut groups: BTreeMap<Index, Group<'a>> = BTreeMap::new();
    let mut matched = HashSet::new();
    for ((number, spec), slot) in specs.iter().enumerate().zip(placed) {
        let item = RequestedItem::Controller(number);
        let index = slot.address;
        let existing = base.controller(index);
        // An ICH9 UHCI that another tool created as a standalone controller is not a companion.
        let standalone = existing.is_some_and(|existing| Some(existing.model) == spec.model);
        if is_companion(spec) && !standalone {
            let companion = companion(spec).map_err(|refusal| Refused::of(item, refusal))?;
            match existing {
                Some(existing) => {
                    check_serves(existing, companion)
                        .map_err(|refusal| Refused::of(item, refusal))?;
                    slot.existing = true;
                }
                None => {
                    groups.entry(index).or_default().companions.push((number, spec, companion));
                }
            }
            continue;
        }
        // A request without a model means the existing controller at that index, whatever its
        // model.
        let known = existing.filter(|_| spec.model.is_none() && spec.usbversion.is_none());
        let known = known.map(|known| ControllerSpec { model: Some(known.model), ..spec.clone() });
        let decided = platform
            .decide(known.as_ref().unwrap_or(spec))
            .map_err(|refused| refused.because_of(item))?;
        let Some(decided) = decided else { continue };
        let found = find_existing(base, spec, &decided).map_err(|refusal| match refusal {
            in_use @ Refusal::IndexInUse { .. } => duplicate(in_use, index).because_of(item),
            other => Refused::of(item, other),
        })?;
        let again = if found.is_some() {
            slot.existing = true;
            !matched.insert(index)
        } else {
            let main = Some((Some(number), spec, decided));
            std::mem::replace(&mut groups.entry(index).or_default().main, main).is_some()
        };
        if again {
            let refusal = Refusal::Duplicate { what: format!("index {index}") };
            return Err(duplicate(refusal, index).because_of(item));
        }
    }
    Ok(groups)
}

/// A duplicate index. libvirt reports it when it assigns addresses.
fn duplicate(refusal: Refusal, index: Index) -> Refused {
    refusal.libvirt_says(format!("Duplicate USB controllers with index {index}"))
}

/// Checks that the EHCI of the base has this companion. It gets no new companion, because the base
/// is not changed.
fn check_serves(existing: &Controller, companion: Companion) -> Result<(), Refusal> {
    if existing.companions.contains(&companion) {
        return Ok(());
    }
    let why = "the controller at its index already exists and is not changed";
    Err(Refusal::Companions { model: companion.model.model(), why })
}

/// Refuses a guest whose only controllers are companions, as libvirt does at parse.
fn check_any_bus(base: &Hardware, groups: &BTreeMap<Index, Group<'_>>) -> Result<(), Refused> {
    if base.controllers().len() > 0 || groups.values().any(|group| group.main.is_some()) {
        return Ok(());
    }
    let orphan = groups.iter().find_map(|(index, group)| Some((*index, group.companions.first()?)));
    match orphan {
        None => Ok(()),
        Some((index, (number, _, companion))) => {
            let refused = no_ehci(*companion, index, "No master USB controller specified");
            Err(refused.because_of(RequestedItem::Controller(*number)))
        }
    }
}

fn no_ehci(companion: Companion, index: Index, message: &str) -> Refused {
    Refusal::NoEhci { model: companion.model.model(), index: index.get() }.libvirt_says(message)
}

/// Adds a controller without a request.
pub(super) fn add_one(
    hardware: &mut Hardware,
    spec: &ControllerSpec,
    platform: &mut dyn Platform,
    context: &mut Context<'_>,
    names: &mut Names<'_>,
) -> Result<(), Refused> {
    let Some(decided) = platform.decide(spec)? else { return Ok(()) };
    let group = Group { main: Some((None, spec, decided)), companions: Vec::new() };
    let index = spec.index.unwrap_or(Index::ZERO);
    add_group(hardware, index, group, platform, context, names)
}

/// Adds the controllers at one index.
fn add_group(
    hardware: &mut Hardware,
    index: Index,
    group: Group<'_>,
    platform: &mut dyn Platform,
    context: &mut Context<'_>,
    names: &mut Names<'_>,
) -> Result<(), Refused> {
    let Some((number, spec, decided)) = group.main else {
        return match group.companions.first() {
            Some((number, _, companion)) => {
                let refused = no_ehci(*companion, index, "masterbus not found");
                Err(refused.because_of(RequestedItem::Controller(*number)))
            }
            None => Ok(()),
        };
    };
    let item = number.map(RequestedItem::Controller);
    let because = |refused: Refused| refused.because_of(item);
    platform.check_available(spec, decided.model).map_err(because)?;
    context.take_slot(decided.model).map_err(Refused::from).map_err(because)?;
    let mut companions = decided.companions;
    companions.extend(group.companions.iter().map(|(.., companion)| *companion));
    companions.sort_by_key(|companion| companion.first_port);
    let members: Vec<(RequestedItem, &ControllerSpec)> = group
        .companions
        .iter()
        .map(|(number, spec, _)| (RequestedItem::Controller(*number), *spec))
        .collect();
    let name = spec.name.clone().unwrap_or_else(|| names.controller(hardware, index));
    let mut controller = Controller::new(index, name, decided.model, decided.ports);
    controller.companions = companions;
    controller.backend.clone_from(&spec.backend);
    let requested = pci::group_address(spec, &members)?;
    controller.pci = platform.pci_address(&controller, requested).map_err(because)?;
    hardware.add_controller(controller).map_err(|refusal| {
        let companion = members.first().map(|(item, _)| *item);
        let of_companions = matches!(refusal, Refusal::Companions { .. });
        Refused::from(refusal).because_of(companion.filter(|_| of_companions).or(item))
    })
}
