//! What came of a change, in words and as JSON.

use std::io;

use serde::Serialize;
use vusb::model::address::{Address, Index};
use vusb::model::diff::Step;
use vusb::model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb::model::models::{ControllerType, Model, UsbVersion};
use vusb::model::name::Name;
use vusb::view::{API, CompanionView};
use vusb::{Chosen, Outcome, OutcomeView};

use crate::screen::Screen;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Something was to be added: its place is the result.
    Add,
    /// Something was to be removed.
    Remove,
    /// A domain was to be made what it should be.
    Apply,
}

/// Tells what was done, or would be.
pub(crate) fn outcome(screen: Screen, verb: Verb, outcome: &Outcome) -> io::Result<()> {
    if screen.json {
        return screen.json(&OutcomeView::from(outcome));
    }
    for name in &outcome.added_controllers {
        screen.note(&added(outcome, name));
    }
    for note in &outcome.notes {
        screen.note(note);
    }
    if outcome.dry_run {
        return steps(screen, outcome);
    }
    for step in &outcome.steps {
        screen.detail(&step.to_string());
    }
    match (verb, &outcome.at) {
        (Verb::Add, Some(at)) => {
            screen.result(&at.to_string())?;
            if outcome.already {
                screen.note(&format!("{} is already so", described(at)));
            }
        }
        // That it was gone already is among the notes then.
        (Verb::Remove, Some(_)) if outcome.already => {}
        (Verb::Remove, Some(at)) => screen.note(&format!("removed {}", described(at))),
        _ => screen.note(&count(outcome)),
    }
    Ok(())
}

/// The steps that would be taken, one a line: just as they would be told when they are taken.
fn steps(screen: Screen, outcome: &Outcome) -> io::Result<()> {
    if outcome.steps.is_empty() {
        screen.note(&match &outcome.at {
            Some(at) => format!("{} is already so: there is nothing to do", described(at)),
            None => format!("{} is already so: there is nothing to do", outcome.domain),
        });
    }
    // Each is one line, whatever is in it.
    outcome.steps.iter().try_for_each(|step| {
        let text = step.to_string();
        screen.result(&crate::safe::line(&text))
    })
}

fn count(outcome: &Outcome) -> String {
    match outcome.steps.len() {
        0 => format!("{} is already so", outcome.domain),
        1 => format!("{}: 1 step taken", outcome.domain),
        steps => format!("{}: {steps} steps taken", outcome.domain),
    }
}

/// `hci0`, or `hci0:1 (stick)`.
fn described(at: &Chosen) -> String {
    match at {
        Chosen::Controller { name, .. } => name.to_string(),
        Chosen::Device { place, name, .. } => format!("{place} ({name})"),
    }
}

/// That a controller comes that nobody asked for, and why.
fn added(outcome: &Outcome, name: &Name) -> String {
    let all = || outcome.hardware.controllers();
    let what = all()
        .find(|it| it.name == *name)
        .map_or_else(String::new, |it| format!(" ({}, {} ports)", it.model, it.ports.count()));
    let verb = if outcome.dry_run { "would add" } else { "added" };
    let of = all().find(|it| it.name == *name).map(|it| it.model.controller_type());
    let removes = |step: &Step| matches!(step, Step::RemoveController(_));
    let others = || all().filter(|it| !outcome.added_controllers.contains(&it.name));
    let why = match of {
        Some(of) if others().any(|it| it.model.controller_type() == of) => {
            format!("no other {of} one takes the device")
        }
        Some(of) if others().next().is_some() => format!("the guest had no {of} one"),
        _ if outcome.steps.iter().any(removes) => "none stays that takes the device".to_owned(),
        _ => "the guest had none".to_owned(),
    };
    format!("{verb} controller {name}{what}: {why}")
}

/// A plan as JSON: the outcome, and the hardware that it leads to.
#[derive(Serialize)]
pub(crate) struct PlanView<'a> {
    api: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    /// Whether it is for a guest that is yet to be started.
    fresh: bool,
    already: bool,
    dry_run: bool,
    added_controllers: &'a [Name],
    steps: Vec<String>,
    notes: &'a [String],
    controllers: Vec<PlannedController<'a>>,
}

#[derive(Serialize)]
struct PlannedController<'a> {
    index: Index,
    name: &'a Name,
    #[serde(rename = "type")]
    controller_type: ControllerType,
    model: Model,
    usbversion: UsbVersion,
    ports: u8,
    /// For an xHCI whose halves differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    usb2ports: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usb3ports: Option<u8>,
    companions: Vec<CompanionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pci: Option<&'a PciAddress>,
    devices: Vec<PlannedDevice<'a>>,
}

#[derive(Serialize)]
struct PlannedDevice<'a> {
    #[serde(flatten)]
    address: Address,
    #[serde(flatten)]
    device: &'a Device,
}

impl<'a> PlanView<'a> {
    /// The plan that `outcome` is; `fresh` if it is for a guest that is yet to be started, which may have no name.
    pub(crate) fn new(outcome: &'a Outcome, fresh: bool) -> PlanView<'a> {
        PlanView {
            api: API,
            domain: Some(outcome.domain.as_str()).filter(|name| !name.is_empty()),
            fresh,
            already: outcome.already,
            dry_run: outcome.dry_run,
            added_controllers: &outcome.added_controllers,
            steps: outcome.steps.iter().map(Step::to_string).collect(),
            notes: &outcome.notes,
            controllers: planned(&outcome.hardware),
        }
    }
}

fn planned(hardware: &Hardware) -> Vec<PlannedController<'_>> {
    hardware.controllers().map(PlannedController::from).collect()
}

impl<'a> From<&'a Controller> for PlannedController<'a> {
    fn from(it: &'a Controller) -> PlannedController<'a> {
        let half = |count: u8| (!it.ports.are_plain(it.model)).then_some(count);
        let bus = it.index;
        let devices = it
            .devices()
            .map(|(port, device)| PlannedDevice { address: Address { bus, port }, device });
        PlannedController {
            index: it.index,
            name: &it.name,
            controller_type: it.model.controller_type(),
            model: it.model,
            usbversion: it.model.usbversion(),
            ports: it.ports.count(),
            usb2ports: half(it.ports.usb2()),
            usb3ports: half(it.ports.usb3()),
            companions: it.companions.iter().map(CompanionView::from).collect(),
            backend: it.backend.as_deref(),
            pci: it.pci.as_ref(),
            devices: devices.collect(),
        }
    }
}
