//! Carries out work through the library.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tracing::debug;
use vusb::model::device::{HostRef, Kind};
use vusb::model::rules::{At, RuleName};
use vusb::model::selector::Selector;
use vusb::model::spec::DeviceSpec;
use vusb::{Context, DeviceList, DomainAddress, Error, Note, Options, Outcome};

use crate::events::Event;
use crate::reconcile::{Part, Plug, Task, Work};
use crate::shared::Shared;

/// The result of a piece of work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkResult {
    /// Whether nothing is left to do.
    pub(crate) succeeded: bool,
    /// Whether something was changed: the guest may have had everything already.
    pub(crate) changed: bool,
    /// The other domain that has the device, if the work failed because of that.
    pub(crate) holder: Option<String>,
}

/// Carries out a piece of work, and logs the result. `devices` are those of this machine.
pub(crate) fn carry_out(
    shared: &Shared,
    devices: Arc<DeviceList>,
    work: &Work,
    options: &Options,
) -> WorkResult {
    let port = match work.part {
        Part::Device(plug) => devices.iter().find(|it| it.bus_address == plug),
        Part::Emulated => None,
    };
    let log = Log { shared, work, port: port.map(|it| it.bus_id.to_string()) };
    let context = &shared.context().with_known_devices(devices);
    let begun = Instant::now();
    let done = context.domain(&work.domain, options).and_then(|domain| match &work.task {
        Task::Restore { devices } => restore(context, &domain, devices, options),
        Task::Attach { plug, rule, at } => attach(context, &domain, *plug, rule, at, options),
    });
    match done {
        Ok(outcome) => report(&log, &outcome, begun),
        Err(error) => {
            let task = task(&work.task);
            log.add("failed", format!("cannot {task}: {error}"));
            let holder = match error {
                Error::Claimed { domain, gone: None, .. } => Some(domain),
                _ => None,
            };
            WorkResult { holder, ..WorkResult::default() }
        }
    }
}

fn restore(
    context: &Context,
    domain: &DomainAddress,
    devices: &BTreeSet<String>,
    options: &Options,
) -> Result<Outcome, Error> {
    let wanted = |name: &vusb::model::name::Name| devices.contains(name.as_str());
    context.restore_devices(domain, &wanted, options)
}

fn attach(
    context: &Context,
    domain: &DomainAddress,
    plug: Plug,
    rule: &RuleName,
    at: &Option<At>,
    options: &Options,
) -> Result<Outcome, Error> {
    debug!(domain = domain.as_str(), %plug, %rule, "attaching");
    // The device is selected by its address, so that another device in the same port is not
    // mistaken for it. The record stores the path of the port.
    let device = Kind::Host(HostRef::new(Selector::Address(plug)));
    let spec = DeviceSpec {
        controller: at.as_ref().map(|at| at.controller.clone()),
        port: at.as_ref().and_then(|at| at.port),
        ..DeviceSpec::new(device)
    };
    let options = Options { by_rule: true, ..options.clone() };
    context.device_add(domain, &spec, &options)
}

/// Logs what was done.
fn report(log: &Log<'_>, done: &Outcome, begun: Instant) -> WorkResult {
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    for step in &done.steps {
        debug!(domain = log.work.domain, milliseconds, "{step}");
        log.add("attached", step.to_string());
    }
    let mut succeeded = true;
    for note in &done.notes {
        // A device that is not plugged in has no such note, even if it is required: plugging it in
        // causes an event.
        if let Note::NotRestored { name, why } = note {
            log.add("failed", format!("cannot restore {name}: {why}"));
            succeeded = false;
        }
    }
    WorkResult { succeeded, changed: !done.steps.is_empty(), holder: None }
}

/// Adds events about a piece of work.
struct Log<'a> {
    shared: &'a Shared,
    work: &'a Work,
    /// The port of its device.
    port: Option<String>,
}

impl Log<'_> {
    fn add(&self, event: &str, text: String) {
        let address = match self.work.part {
            Part::Device(plug) => Some(plug.to_string()),
            Part::Emulated => None,
        };
        let (domain, port) = (Some(self.work.domain.clone()), self.port.clone());
        self.shared.events.add(Event { domain, port, address, ..Event::new(event, text) });
    }
}

fn task(task: &Task) -> String {
    match task {
        Task::Restore { devices } if devices.is_empty() => "restore the controllers".to_owned(),
        Task::Restore { devices } => {
            let names: Vec<&str> = devices.iter().map(String::as_str).collect();
            format!("restore {}", names.join(", "))
        }
        Task::Attach { plug, rule, .. } => format!("attach {plug} by the rule {rule}"),
    }
}
