//! Adding and removing controllers.

use vusb_model::address::Index;
use vusb_model::hardware::{Hardware, Item};
use vusb_model::list::few;
use vusb_model::name::Name;
use vusb_model::refusal::Refusal;
use vusb_model::spec::{ControllerRef, ControllerSpec, Spec};

use crate::address::DomainAddress;
use crate::call::Call;
use crate::error::Error;
use crate::inventory::{Key, Origin};
use crate::note::{Note, WhyAdded};
use crate::outcome::{Chosen, Outcome};
use crate::session::{Change, Open};

pub(crate) fn add(
    call: &Call<'_>,
    domain: &DomainAddress,
    spec: &ControllerSpec,
) -> Result<Outcome, Error> {
    let mut open = Open::begin(call, domain)?;
    let request =
        Spec { profile: open.profile(), controllers: vec![spec.clone()], ..Spec::default() };
    let resolved = open.resolve(&request)?;
    let placed = resolved.controllers.first().copied().ok_or(Refusal::NoIndex)?;
    let mut target = open.inventory().with_hardware(resolved.hardware);
    let chosen = Chosen::controller(target.hardware(), placed.address);
    let facts = target.facts_mut(Key::Controller(placed.address));
    let already = placed.existing && !facts.missing;
    facts.missing = false;
    if !placed.existing || facts.origin == Origin::OnDemand {
        facts.origin = Origin::Hand;
    }
    let committed = open.plan(Change::to(target))?.commit()?;
    Ok(Outcome { already, chosen, ..committed.outcome() })
}

pub(crate) fn remove(
    call: &Call<'_>,
    domain: &DomainAddress,
    requested: &ControllerRef,
) -> Result<Outcome, Error> {
    let mut open = Open::begin(call, domain)?;
    let index = find(open.hardware(), requested)?;
    let controller = open.hardware().controller(index).ok_or(Refusal::NoIndex)?;
    let name = controller.name.clone();
    let devices: Vec<&str> = controller.devices().map(|(_, it)| it.name.as_str()).collect();
    if !devices.is_empty() && !call.is_forced() {
        let devices = few(&devices);
        return Err(Refusal::NotEmpty { controller: name, devices }.into());
    }
    let chosen = Chosen::controller(open.hardware(), index);
    let already = open.inventory().is_missing(Key::Controller(index));
    if already {
        open.note(Note::AlreadyGone { name });
    }
    let mut target = open.inventory().clone();
    target.change(|hardware| {
        hardware.remove_controller(index);
    });
    let committed = open.plan(Change::to(target))?.commit()?;
    Ok(Outcome { already, chosen, ..committed.outcome() })
}

/// The controller with this name or index.
pub(crate) fn find(hardware: &Hardware, requested: &ControllerRef) -> Result<Index, Refusal> {
    let index = match requested {
        ControllerRef::Index(index) => hardware.controller(*index).map(|it| it.index),
        ControllerRef::Name(name) => match hardware.named(name) {
            Some(Item::Controller(index)) => Some(index),
            _ => None,
        },
    };
    index.ok_or_else(|| Refusal::NoSuchController {
        requested: requested.to_string(),
        existing: hardware.controllers().map(|it| it.name.clone()).collect(),
    })
}

/// A note for each controller that was added on demand. `hardware` is what the domain has
/// afterwards; `removes` is whether the same change removes other controllers.
pub(crate) fn added_notes(
    hardware: &Hardware,
    added: &[Name],
    removes: bool,
    dry_run: bool,
) -> Vec<Note> {
    let is_new = |name: &Name| added.contains(name);
    let controllers = || hardware.controllers();
    let others = || controllers().filter(|it| !is_new(&it.name));
    let new = controllers().filter(|it| is_new(&it.name));
    new.map(|it| {
        let controller_type = it.model.controller_type();
        let reason = if others().any(|it| it.model.controller_type() == controller_type) {
            WhyAdded::NoneFits { controller_type }
        } else if others().next().is_some() {
            WhyAdded::NoneOfType { controller_type }
        } else if removes {
            WhyAdded::NoneStays
        } else {
            WhyAdded::NoController
        };
        let (name, model, ports) = (it.name.clone(), it.model, it.ports.count());
        Note::ControllerAdded { name, model, ports, reason, dry_run }
    })
    .collect()
}
