//! The methods of the interface, as the daemon answers them.
//!
//! [`answer`] decides whether the caller may call the method. Methods about the daemon's own state
//! are carried out here, and all others by `vusb-methods`.

use std::sync::mpsc::channel;

use serde_json::json;
use vusb::model::device::{HostRef, Kind};
use vusb::model::selector::{BusId, Selector};
use vusb::model::spec::DeviceSpec;
use vusb::rules::PastView;
use vusb::{Cancel, DomainAddress, ExitCode, Options};
use vusb_interface::{self as interface, Access, Method};
use vusb_methods::{Answer, CallOptions, Caller, Failure, Parameters, carry_out, without_null};

use crate::events::Event;
use crate::rights::Rights;
use crate::shared::{Message, Shared};

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) rights: Rights,
    /// Cancels the call when the caller disconnects.
    pub(crate) cancel: Cancel,
    pub(crate) method: Method,
}

impl Call<'_> {
    /// The same call for `vusb-methods`, with the rules in force.
    fn library_call(&self) -> vusb_methods::Call {
        let caller = match self.rights {
            Rights::All => Caller::Superuser,
            Rights::Group | Rights::None => Caller::Group,
        };
        let (folder, cancel) = (Some("/".into()), self.cancel.clone());
        let defaults = Options { folder, cancel, ..Options::default() };
        vusb_methods::Call { context: self.shared.context(), caller, defaults }
    }
}

/// Whether a caller with these rights may call the method at all.
pub(crate) const fn may_call(rights: Rights, method: Method) -> bool {
    match method.access {
        Access::Anyone => true,
        Access::Group | Access::GroupForHostDevices => !matches!(rights, Rights::None),
        Access::Superuser => matches!(rights, Rights::All),
    }
}

/// Carries out a method. `Watch` is not carried out here, because it never ends.
pub(crate) fn answer(call: &Call<'_>, parameters: Parameters) -> Result<Answer, Failure> {
    if !may_call(call.rights, call.method) {
        return Err(Failure::permission_denied());
    }
    match call.method.name {
        "GetAccess" => access(call, &parameters),
        "Metrics" => metrics(call, &parameters),
        "Answer" => answer_question(call, parameters),
        "Reload" => reload(call, &parameters),
        "Explain" => explain(call, parameters),
        "DescribeEffects" => describe_effects(call, parameters),
        "Resume" => resume(call, parameters),
        "LiftHolds" => lift_holds(call, parameters),
        other => carry_out(&call.library_call(), other, parameters),
    }
}

fn access(call: &Call<'_>, parameters: &Parameters) -> Result<Answer, Failure> {
    parameters.finish()?;
    let access = match call.rights {
        Rights::All => "all",
        Rights::Group => "group",
        Rights::None => "none",
    };
    let methods = interface::METHODS.into_iter().filter(|it| may_call(call.rights, *it));
    let methods: Vec<&str> = methods.map(|it| it.name).collect();
    Ok(Answer::One(json!({ "access": access, "methods": methods })))
}

fn metrics(call: &Call<'_>, parameters: &Parameters) -> Result<Answer, Failure> {
    parameters.finish()?;
    Ok(Answer::One(json!({ "text": call.shared.metrics.text() })))
}

/// Reads the rules again, and waits until the loop has done so.
fn reload(call: &Call<'_>, parameters: &Parameters) -> Result<Answer, Failure> {
    parameters.finish()?;
    let (reply, done) = channel();
    let ended = || Failure::own(ExitCode::Failed, "vusbd is shutting down".to_owned());
    call.shared.sender.send(Message::Reload { reply: Some(reply) }).map_err(|_| ended())?;
    let loaded = done.recv().map_err(|_| ended())??;
    let (rules, files) = (loaded.set.rules.len(), loaded.files.len());
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok(Answer::One(json!({ "rules": rules, "files": files, "warnings": warnings })))
}

/// Adds the state of the device in the daemon, and what the daemon has done with it.
fn explain(call: &Call<'_>, parameters: Parameters) -> Result<Answer, Failure> {
    vusb_methods::explain(&call.library_call(), parameters, |view| {
        let Some(plug) = view.device.as_ref().map(|it| it.at) else { return };
        view.state = call.shared.state(plug).map(str::to_owned);
        let past = call.shared.events.about(&plug.to_string()).into_iter();
        view.history = past.map(past_view).collect();
    })
}

/// Adds the state of each device in the daemon, and the question that is asked about it.
fn describe_effects(call: &Call<'_>, parameters: Parameters) -> Result<Answer, Failure> {
    vusb_methods::describe_effects(&call.library_call(), parameters, |view| {
        for device in &mut view.devices {
            device.state = call.shared.state(device.at).map(str::to_owned);
            let past = call.shared.events.about(&device.at.to_string());
            let question = past.iter().rev().find(|it| it.event == "question");
            // The event of a question is added before the states are updated, and a caller may ask
            // in between.
            let is_last = past.last().is_some_and(|it| it.event == "question");
            let is_asked = match device.state.as_deref() {
                Some("asking") => true,
                Some("unused") | None => is_last,
                _ => false,
            };
            if is_asked {
                device.question = question.map(|it| it.number);
            }
        }
    })
}

fn past_view(event: Event) -> PastView {
    let Event { number, time, event, domain, text, .. } = event;
    PastView { number, time, event, domain, text }
}

fn resume(call: &Call<'_>, parameters: Parameters) -> Result<Answer, Failure> {
    vusb_methods::resume(&call.library_call(), parameters, |domain, dry_run| {
        release_held(call, Some(domain), dry_run)
    })
}

fn lift_holds(call: &Call<'_>, mut parameters: Parameters) -> Result<Answer, Failure> {
    let domain = parameters.optional("domain")?;
    parameters.finish()?;
    let library = call.library_call();
    let options = library.options(&CallOptions::default())?;
    let domain = domain.map(|text| library.domain(&text, &options)).transpose()?;
    let ports = release_held(call, domain.as_ref(), false);
    Ok(Answer::One(json!({ "ports": ports })))
}

/// Lets devices come back that were detached by hand: those of one domain, or of all. Returns their
/// ports.
fn release_held(call: &Call<'_>, domain: Option<&DomainAddress>, dry_run: bool) -> Vec<BusId> {
    let domain = domain.map(DomainAddress::to_string);
    let (reply, ports) = channel();
    // If one of these fails, the loop has ended, and the daemon is shutting down.
    let _ = call.shared.sender.send(Message::LiftHolds { domain, dry_run, reply });
    ports.recv().unwrap_or_default()
}

fn answer_question(call: &Call<'_>, mut parameters: Parameters) -> Result<Answer, Failure> {
    let question = parameters.number("question")?;
    let question = question.ok_or_else(|| Failure::invalid_parameter("question"))?;
    let text = parameters.text("domain")?;
    let remember = parameters.boolean("remember")?;
    parameters.finish()?;
    let asked = call.shared.events.get(question).filter(|it| it.event == "question");
    // The device is selected by its address, so that another device in the same port is not
    // mistaken for it.
    let device = asked.as_ref().and_then(|it| it.address.as_ref()?.parse::<Selector>().ok());
    let Some(device) = device else {
        let message = format!("there is no question with the number {question}");
        return Err(Failure::own(ExitCode::NotFound, message));
    };
    let choices = asked.and_then(|it| it.domains).unwrap_or_default();
    let library = call.library_call();
    let options = library.options(&CallOptions::default())?;
    let options = Options { by_rule: !remember, ..options };
    // Only a domain that the question names is accepted. It may be a guest without a record.
    let address = library.context.domain(&text, &options)?;
    if !choices.iter().any(|it| *it == text || *it == address.as_str()) {
        let message = format!("{text} is not among {}", choices.join(", "));
        return Err(Failure::own(ExitCode::Policy, message));
    }
    let spec = DeviceSpec::new(Kind::Host(HostRef::new(device)));
    let outcome = library.context.device_add(&address, &spec, &options)?;
    let at = outcome.chosen.as_ref().map(ToString::to_string);
    Ok(Answer::One(without_null(json!({ "at": at }))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// Each method, for each kind of caller: root, the daemon's own user, a member of the group by
    /// its first group and by the list of members, and everyone else.
    #[test]
    fn who_may_call_what() {
        let users = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n";
        let groups = "vusb:x:990:alice\n";
        let rights = |uid, gid| Rights::of_user(uid, gid, 500, users, groups);
        let privileged = [rights(0, 0), rights(500, 500)];
        let members = [rights(1000, 1000), rights(1002, 990)];
        let others = [rights(1001, 1001), rights(65534, 65534)];
        for method in interface::METHODS {
            let may = |all: &[Rights]| all.iter().map(|it| may_call(*it, method)).collect();
            let found: [Vec<bool>; 3] = [may(&privileged), may(&members), may(&others)];
            let expected = match method.name {
                "GetAccess" => [true, true, true],
                "AddController" | "RemoveController" | "MoveDevice" | "Plan" | "Apply"
                | "Suspend" | "Resume" | "Reload" => [true, false, false],
                _ => [true, true, false],
            };
            assert_eq!(found, expected.map(|it| vec![it, it]), "{}", method.name);
        }
    }
}
