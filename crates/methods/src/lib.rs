//! The methods of the interface, carried out through the library: parameters in, values out.
//!
//! ```text
//!   vusbd   ── a message of Varlink ──┐
//!                                     ├─▶ carry_out ─▶ Context (the library) ─▶ Answer or Failure
//!   libvusb ── vusb_call ─────────────┘
//! ```
//!
//! `vusb-interface` describes the names, keys and errors, which are those of
//! `io.github.vusb.Manager`. The methods about the daemon's own state are
//! not here, nor is `GetAccess`, whose answer depends on who serves the interface. `queries` has
//! the methods that change nothing, and `changes` the others.

#![forbid(unsafe_code)]

mod changes;
mod parameters;
mod queries;

use std::time::Instant;

use serde_json::{Value, json};
use vusb::model::selector::BusId;
use vusb::rules::{EffectsView, ExplainView};
use vusb::view::ErrorView;
use vusb::{Context, DomainAddress, Error, ExitCode, Options};
use vusb_interface as interface;

pub use parameters::{CallOptions, Parameters};

/// How many single waits a whole call may take, as for the command `vusb`.
const WAITS_PER_CALL: u32 = 30;

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One reply.
    One(Value),
    /// Several replies.
    Several(Vec<Value>),
}

/// An error of Varlink.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The full name of the error.
    pub name: String,
    /// Its parameters.
    pub parameters: Value,
}

impl Failure {
    /// An error of the interface without hints.
    pub fn own(kind: ExitCode, message: String) -> Failure {
        let name = interface::full(interface::error_name(kind));
        Failure { name, parameters: json!({ "message": message, "hints": [] }) }
    }

    /// A parameter is missing, unknown or invalid.
    pub fn invalid_parameter(parameter: &str) -> Failure {
        let name = "org.varlink.service.InvalidParameter".to_owned();
        Failure { name, parameters: json!({ "parameter": parameter }) }
    }

    /// The caller may not do this.
    pub fn permission_denied() -> Failure {
        let name = "org.varlink.service.PermissionDenied".to_owned();
        Failure { name, parameters: json!({}) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let (mut view, lines) = (ErrorView::from(&error), error.shows_source());
        interface::hints::fill(&mut view);
        if let Error::Rules { mistakes } = error {
            let name = interface::full(interface::INVALID_RULES);
            return Failure {
                name,
                parameters: json!({ "mistakes": mistakes, "lines": lines, "view": view }),
            };
        }
        let name = interface::full(interface::error_name(view.kind));
        let (message, hints) = (&view.message, &view.hints);
        let parameters =
            json!({ "message": message, "hints": hints, "lines": lines, "view": view });
        Failure { name, parameters }
    }
}

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// This process itself. It may also name config files as domains.
    Program,
    /// Another process that may do everything. It cannot name config files: this process may be
    /// able to read files that the caller cannot.
    Superuser,
    /// Another process that may attach and detach devices of this machine, for domains that are
    /// known, and without force.
    Group,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// The library.
    pub context: Context,
    /// Who makes the call.
    pub caller: Caller,
    /// Defaults for the call's own options. A call cannot turn off a dry run or `force` of the
    /// defaults. Without a deadline, the whole call may take thirty single waits.
    pub defaults: Options,
}

impl Call {
    /// How the call is carried out.
    ///
    /// # Errors
    /// The caller wants to override something and may not.
    pub fn options(&self, wanted: &CallOptions) -> Result<Options, Failure> {
        if wanted.force && self.caller == Caller::Group {
            return Err(Failure::permission_denied());
        }
        let defaults = &self.defaults;
        let wait = wanted.wait.unwrap_or(defaults.wait);
        let end = || Instant::now().checked_add(wait.saturating_mul(WAITS_PER_CALL));
        Ok(Options {
            wait,
            deadline: defaults.deadline.or_else(end),
            dry_run: wanted.dry_run || defaults.dry_run,
            force: wanted.force || defaults.force,
            when: wanted.when.unwrap_or(defaults.when),
            folder: wanted.folder.clone().or_else(|| defaults.folder.clone()),
            ..defaults.clone()
        })
    }

    /// The domain that a text names. A member of the group can only name domains that are known.
    ///
    /// # Errors
    /// There is no such domain, or it is a config file and the caller is another process.
    pub fn domain(&self, text: &str, options: &Options) -> Result<DomainAddress, Failure> {
        if self.caller == Caller::Group {
            let known = self.context.named_domains(options)?;
            // This is checked before anything is opened.
            let is_known = known.iter().any(|it| it.answers_to(text));
            if !is_known {
                let message = format!("no domain {text} has a record or runs");
                return Err(Failure::own(ExitCode::NotFound, message));
            }
        }
        let domain = self.context.domain(text, options)?;
        if domain.has_record() || self.caller == Caller::Program {
            return Ok(domain);
        }
        let message = format!("{text} is a file, and vusbd only works on domains");
        Err(Failure::own(ExitCode::Usage, message))
    }
}

/// Carries out a method. `Resume` lifts no holds on devices that were detached by hand: only the
/// daemon knows them.
///
/// # Errors
/// Those of the interface. [`ExitCode::NotImplemented`]: the method is about the state of a daemon,
/// is `GetAccess`, or does not exist.
pub fn carry_out(call: &Call, method: &str, parameters: Parameters) -> Result<Answer, Failure> {
    match method {
        "ListDomains" => queries::list_domains(call, &parameters),
        "Describe" => queries::describe(call, parameters),
        "DescribeHost" => queries::describe_host(call, parameters),
        "ListDevices" => queries::list_devices(call, &parameters),
        "ListRules" => queries::list_rules(call, &parameters),
        "CheckRules" => queries::check_rules(parameters),
        "Explain" => explain(call, parameters, |_| {}),
        "DescribeEffects" => describe_effects(call, parameters, |_| {}),
        "AddController" => changes::add_controller(call, parameters),
        "RemoveController" => changes::remove_controller(call, parameters),
        "AddDevice" => changes::add_device(call, parameters),
        "AddDevices" => changes::add_devices(call, parameters),
        "RemoveDevice" => changes::remove_device(call, parameters),
        "RemoveDevices" => changes::remove_devices(call, parameters),
        "MoveDevice" => changes::move_device(call, parameters),
        "Plan" => changes::plan(call, parameters),
        "Apply" => changes::apply(call, parameters),
        "Suspend" => changes::suspend(call, parameters),
        "Resume" => resume(call, parameters, |_, _| Vec::new()),
        _ => {
            let message =
                format!("{method} is about the state of vusbd, and this call did not go to vusbd");
            Err(Failure::own(ExitCode::NotImplemented, message))
        }
    }
}

/// Carries out `Explain`. `complete` adds what only a daemon knows.
///
/// # Errors
/// As [`carry_out`].
pub fn explain(
    call: &Call,
    parameters: Parameters,
    complete: impl FnOnce(&mut ExplainView),
) -> Result<Answer, Failure> {
    let mut view = queries::explain(call, parameters)?;
    complete(&mut view);
    Ok(Answer::One(queries::explanation(&view)))
}

/// Carries out `DescribeEffects`. `complete` adds what only a daemon knows.
///
/// # Errors
/// As [`carry_out`].
pub fn describe_effects(
    call: &Call,
    parameters: Parameters,
    complete: impl FnOnce(&mut EffectsView),
) -> Result<Answer, Failure> {
    let mut view = queries::describe_effects(call, parameters)?;
    complete(&mut view);
    Ok(Answer::One(json!({ "view": view })))
}

/// Carries out `Resume`. Then `lift_holds` lets the devices of the domain come back that were
/// detached by hand, and returns their ports. If its second argument is true, it is a dry run.
///
/// # Errors
/// As [`carry_out`].
pub fn resume(
    call: &Call,
    parameters: Parameters,
    lift_holds: impl FnOnce(&DomainAddress, bool) -> Vec<BusId>,
) -> Result<Answer, Failure> {
    changes::resume(call, parameters, lift_holds)
}

/// An object without the keys whose value is null.
pub fn without_null(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use vusb::{Host, StateDir};

    use super::*;

    fn call(dir: &std::path::Path, caller: Caller) -> Call {
        let state = StateDir::new(dir.join("state"));
        let context = Context::with_builtin_drivers(state, Host::new(dir))
            .with_claims_in(dir.join("claims"))
            .with_rules_in(Vec::new());
        let defaults = Options { folder: Some(dir.to_owned()), ..Options::default() };
        Call { context, caller, defaults }
    }

    fn carried_out(call: &Call, method: &str, parameters: Value) -> Result<Answer, ExitCode> {
        carry_out(call, method, Parameters::new(Some(parameters)))
            .map_err(|failure| interface::error_kind(&failure.name))
    }

    #[test]
    fn a_dry_run_of_the_caller_cannot_be_turned_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut call = call(dir.path(), Caller::Program);
        call.defaults.dry_run = true;
        let parameters = json!({ "domain": "sim:vm", "options": { "dryRun": false } });
        let Ok(Answer::One(reply)) = carried_out(&call, "AddController", parameters) else {
            panic!()
        };
        assert_eq!((&reply["at"], &reply["view"]["dry_run"]), (&json!("hci0"), &json!(true)));
        assert!(!dir.path().join("vm").exists());
    }

    #[test]
    fn only_the_program_itself_may_name_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vm.toml"), "").unwrap();
        let parameters = json!({ "domain": "vm.toml" });
        let described =
            carried_out(&call(dir.path(), Caller::Program), "Describe", parameters.clone());
        assert!(described.is_ok(), "{described:?}");
        let superuser = call(dir.path(), Caller::Superuser);
        assert_eq!(carried_out(&superuser, "Describe", parameters.clone()), Err(ExitCode::Usage));
        let member = call(dir.path(), Caller::Group);
        assert_eq!(carried_out(&member, "Describe", parameters), Err(ExitCode::NotFound));
    }

    #[test]
    fn methods_about_a_daemon_are_not_implemented() {
        let dir = tempfile::tempdir().unwrap();
        for method in ["Answer", "LiftHolds", "Metrics", "Reload", "Watch", "GetAccess"] {
            let result = carried_out(&call(dir.path(), Caller::Program), method, json!({}));
            assert_eq!(result, Err(ExitCode::NotImplemented), "{method}");
        }
    }
}
