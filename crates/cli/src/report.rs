//! The result of a change, in words and as JSON.

use std::io;

use vusb::view::{AppliedAllView, AppliedState, AppliedView, ErrorView};
use vusb::{Chosen, Note, Outcome};
use vusb_interface::hints;

use crate::remedy;
use crate::screen::Screen;

/// What the command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Add an item: its location is the result.
    Add,
    /// Remove an item.
    Remove,
    /// Move a device: its new location is the result.
    Move,
    /// Make a domain match a spec or its record.
    Apply,
    /// Take the host devices out.
    Suspend,
    /// Put the host devices back.
    Resume,
}

/// Prints what was done, or would be done.
pub(crate) fn outcome(screen: Screen, verb: Verb, outcome: &Outcome) -> io::Result<()> {
    let mut outcome = outcome.clone();
    hints::fill_outcome(&mut outcome);
    let outcome = &outcome;
    if screen.json {
        return screen.json(outcome);
    }
    notes(screen, outcome, "");
    lifted_holds(screen, outcome);
    if outcome.dry_run {
        return steps(screen, outcome);
    }
    for step in &outcome.steps {
        screen.detail(&step.to_string());
    }
    for device in &outcome.devices {
        item(screen, verb, &device.chosen, device.already)?;
    }
    match &outcome.chosen {
        Some(chosen) => item(screen, verb, chosen, outcome.already)?,
        None if outcome.devices.is_empty() => screen.note(&summary(verb, outcome)),
        None => {}
    }
    Ok(())
}

/// Prints which devices the daemon no longer holds back.
fn lifted_holds(screen: Screen, outcome: &Outcome) {
    if outcome.lifted_holds.is_empty() {
        return;
    }
    let ports: Vec<String> = outcome.lifted_holds.iter().map(ToString::to_string).collect();
    let lifts = if outcome.dry_run { "would lift" } else { "lifted" };
    screen.note(&format!(
        "{}: {lifts} the hold on what was detached by hand: {}",
        outcome.domain,
        ports.join(", ")
    ));
}

/// What was done to several items, in one line.
fn summary(verb: Verb, outcome: &Outcome) -> String {
    let domain = &outcome.domain;
    match (verb, outcome.already) {
        (Verb::Suspend, true) => format!("{domain} is already suspended"),
        (Verb::Suspend, false) => format!("{domain}: suspended"),
        (Verb::Resume, true) => format!("{domain} is not suspended"),
        (Verb::Resume, false) => format!("{domain}: resumed"),
        _ => count(outcome),
    }
}

/// Prints what was done to one item.
fn item(screen: Screen, verb: Verb, chosen: &Chosen, already: bool) -> io::Result<()> {
    match verb {
        Verb::Add | Verb::Move => {
            screen.result(&chosen.to_string())?;
            if already {
                let what = if verb == Verb::Add { "already exists" } else { "is already there" };
                screen.note(&format!("{} {what}", described(chosen)));
            }
        }
        // A note already reports that the item was gone.
        Verb::Remove if already => {}
        Verb::Remove => screen.note(&format!("removed {}", described(chosen))),
        Verb::Apply | Verb::Suspend | Verb::Resume => {}
    }
    Ok(())
}

/// Prints the notes, and what to do about devices that could not be restored, after `prefix`.
fn notes(screen: Screen, outcome: &Outcome, prefix: &str) {
    for note in &outcome.notes {
        // What could not be restored is printed as an error below.
        if !matches!(note, Note::NotRestored { .. }) {
            screen.note(&format!("{prefix}{}", remedy::note(note)));
        }
    }
    for it in &outcome.not_restored {
        let what = format!("{} ({}) is not restored: {}", it.name, it.at, it.error.message);
        error(screen, &it.error, &what, prefix);
    }
}

/// Prints a failure that does not end the command, with what to do about it.
fn error(screen: Screen, error: &ErrorView, what: &str, prefix: &str) {
    screen.error(&format!("{prefix}error: {what}"));
    let remedies = error.remedies.iter().map(remedy::sentence);
    for hint in error.hints.iter().cloned().chain(remedies) {
        screen.error(&format!("{prefix}hint: {hint}"));
    }
}

/// Prints what was restored in each domain, or would be.
pub(crate) fn all(screen: Screen, view: &AppliedAllView) -> io::Result<()> {
    let mut view = view.clone();
    hints::fill_all(&mut view);
    let view = &view;
    if screen.json {
        return screen.json(view);
    }
    if view.domains.is_empty() {
        screen.note("no domain has a record yet");
    }
    view.domains.iter().try_for_each(|it| restored_domain(screen, it))
}

fn restored_domain(screen: Screen, it: &AppliedView) -> io::Result<()> {
    let prefix = format!("{}: ", it.domain);
    if let Some(failed) = &it.error {
        error(screen, failed, &failed.message, &prefix);
    }
    let Some(outcome) = &it.outcome else {
        if it.state == AppliedState::Gone {
            screen.detail(&format!("{prefix}its guest does not run"));
        }
        return Ok(());
    };
    notes(screen, outcome, &prefix);
    for step in &outcome.steps {
        let text = format!("{prefix}{step}");
        if outcome.dry_run {
            screen.result(&crate::safe::line(&text))?;
        } else {
            screen.detail(&text);
        }
    }
    if !outcome.dry_run || outcome.steps.is_empty() {
        screen.note(&count(outcome));
    }
    Ok(())
}

/// Prints the steps of a dry run, one on each line.
fn steps(screen: Screen, outcome: &Outcome) -> io::Result<()> {
    if outcome.steps.is_empty() && outcome.lifted_holds.is_empty() {
        let what = outcome.chosen.as_ref().map_or_else(|| outcome.domain.clone(), described);
        screen.note(&format!("{what}: nothing to do"));
    }
    // Each step stays on one line, whatever it contains.
    outcome.steps.iter().try_for_each(|step| {
        let text = step.to_string();
        screen.result(&crate::safe::line(&text))
    })
}

fn count(outcome: &Outcome) -> String {
    match outcome.steps.len() {
        0 => format!("{}: nothing to do", outcome.domain),
        1 => format!("{}: 1 step taken", outcome.domain),
        steps => format!("{}: {steps} steps taken", outcome.domain),
    }
}

/// `hci0`, or `hci0:1 (stick)`.
fn described(chosen: &Chosen) -> String {
    match chosen.port {
        None => chosen.name.to_string(),
        Some(_) => format!("{} ({})", chosen.location, chosen.name),
    }
}
