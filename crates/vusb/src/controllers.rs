//! Adding and removing controllers.

use std::collections::BTreeSet;

use vusb_model::address::Index;
use vusb_model::hardware::{Hardware, Item};
use vusb_model::name::Name;
use vusb_model::refusal::Refusal;
use vusb_model::spec::{ControllerRef, ControllerSpec, Spec};

use crate::domain::DomainId;
use crate::error::Error;
use crate::outcome::{Chosen, Outcome};
use crate::session::{Change, Session};
use crate::vusb::Vusb;

pub(crate) fn add(vusb: &Vusb, domain: &DomainId, spec: &ControllerSpec) -> Result<Outcome, Error> {
    let mut session = Session::open(vusb, domain)?;
    let asked =
        Spec { profile: session.profile(), controllers: vec![spec.clone()], ..Spec::default() };
    let resolved = session.resolve(&asked)?;
    let Some(settled) = resolved.controllers.first() else {
        return Err(Refusal::NoIndex.into());
    };
    let mut missing = session.missing.clone();
    let was_missing = missing.controllers.remove(&settled.at);
    let mut managed = session.managed.clone();
    let chosen = chosen(&resolved.hardware, settled.at);
    if !settled.already {
        managed.extend(chosen.as_ref().map(|(_, name)| name.clone()));
    }
    if let Some((_, name)) = &chosen {
        session.record.added.remove(name);
    }
    let already = settled.already && !was_missing;
    let steps = session.commit(Change {
        target: resolved.hardware,
        missing,
        managed,
        renew: BTreeSet::new(),
        rebuild: BTreeSet::new(),
    })?;
    let at = chosen.map(|(index, name)| Chosen::Controller { index, name });
    Ok(session.outcome(steps, already, at))
}

pub(crate) fn remove(
    vusb: &Vusb,
    domain: &DomainId,
    asked: &ControllerRef,
) -> Result<Outcome, Error> {
    let mut session = Session::open(vusb, domain)?;
    let index = find(&session.base, asked)?;
    let Some(controller) = session.base.controller(index) else {
        return Err(Refusal::NoIndex.into());
    };
    let name = controller.name.clone();
    let devices: Vec<&str> = controller.devices().map(|(_, it)| it.name.as_str()).collect();
    if !devices.is_empty() && !vusb.settings.force {
        let devices = devices.join(", ");
        return Err(Refusal::NotEmpty { controller: name, devices }.into());
    }
    let gone = session.missing.controllers.contains(&index);
    if gone {
        session.note(format!("{name} was gone already"));
    }
    let mut target = session.base.clone();
    target.remove_controller(index);
    let mut missing = session.missing.clone();
    missing.keep_to(&target);
    let managed = session.managed.clone();
    let steps = session.commit(Change {
        target,
        missing,
        managed,
        renew: BTreeSet::new(),
        rebuild: BTreeSet::new(),
    })?;
    Ok(session.outcome(steps, gone, Some(Chosen::Controller { index, name })))
}

fn chosen(hardware: &Hardware, index: Index) -> Option<(Index, Name)> {
    Some((index, hardware.controller(index)?.name.clone()))
}

/// The controller that is meant.
pub(crate) fn find(hardware: &Hardware, asked: &ControllerRef) -> Result<Index, Refusal> {
    let index = match asked {
        ControllerRef::Index(index) => hardware.controller(*index).map(|it| it.index),
        ControllerRef::Name(name) => match hardware.named(name) {
            Some(Item::Controller(index)) => Some(index),
            _ => None,
        },
    };
    index.ok_or_else(|| Refusal::NoSuchController {
        asked: asked.to_string(),
        known: hardware.controllers().map(|it| it.name.clone()).collect(),
    })
}
