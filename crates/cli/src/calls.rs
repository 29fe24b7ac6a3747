//! Carries out commands through the daemon or through the library, with the same result.
//!
//! [`Command::method`](crate::arguments::Command::method) is the table of what the daemon does.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vusb::drivers::When;
use vusb::model::device::Kind;
use vusb::model::rules::Domain;
use vusb::model::spec::{ControllerRef, ControllerSpec, DeviceSpec};
use vusb::rules::{EffectsView, ExplainView, Explained};
use vusb::view::{AllView, DomainView, HostView};
use vusb::{Destination, DeviceRef, GuestConfig, Options, Outcome, Plan};

use crate::live::last_known::{ANSWER_LIMIT, LastKnown};
use crate::manager::Manager;
use crate::run::{Cli, Result, WAITS_PER_COMMAND};

/// How much longer the daemon may take than the command itself would.
const GRACE: Duration = Duration::from_secs(5);

impl Cli {
    /// The daemon, unless the domain is a file: the daemon does not edit files.
    fn manager_of(&self, domain: &str) -> Option<&Manager> {
        let parsed = self.context.registry().parse(domain, Path::new("."));
        let is_file = matches!(parsed, Ok(Some(it)) if !it.scheme.has_records());
        self.manager.as_ref().filter(|_| !is_file)
    }

    /// Calls a method that replies with a view.
    fn ask<T: DeserializeOwned>(
        &self,
        manager: &Manager,
        method: &str,
        mut parameters: Value,
        options: &Options,
    ) -> Result<T> {
        let milliseconds = u64::try_from(options.wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let folder = options.folder.clone().or_else(|| std::env::current_dir().ok());
        if let Some(parameters) = parameters.as_object_mut() {
            parameters.retain(|_, value| !value.is_null());
            let options = json!({
                "dryRun": options.dry_run,
                "force": options.force,
                "waitMilliseconds": milliseconds,
                "when": match options.when {
                    When::Now => Some("now"),
                    When::Next => Some("next"),
                    When::NowAndNext => None,
                },
                "folder": folder,
                "allowInteractiveAuthentication": std::io::stdin().is_terminal(),
            });
            parameters.insert("options".to_owned(), options);
        }
        let limit = options.wait.saturating_mul(WAITS_PER_COMMAND).saturating_add(GRACE);
        manager.view(method, parameters, limit)
    }

    pub(crate) fn add_controller(&self, domain: &str, spec: &ControllerSpec) -> Result<Outcome> {
        let Some(manager) = self.manager_of(domain) else {
            return Ok(self.context.controller_add(&self.domain(domain)?, spec, &self.options)?);
        };
        let parameters = json!({
            "domain": domain,
            "name": spec.name,
            "type": spec.controller_type.map(|it| it.to_string()),
            "usbVersion": spec.usbversion.map(|it| it.to_string()),
            "model": spec.model.map(|it| it.to_string()),
            "ports": spec.ports,
            "index": spec.index,
            "backend": spec.backend,
        });
        self.ask(manager, "AddController", parameters, &self.options)
    }

    pub(crate) fn remove_controller(
        &self,
        domain: &str,
        controller: &ControllerRef,
        options: &Options,
    ) -> Result<Outcome> {
        let Some(manager) = self.manager_of(domain) else {
            let domain = self.domain(domain)?;
            return Ok(self.context.controller_remove(&domain, controller, options)?);
        };
        let parameters = json!({ "domain": domain, "controller": controller.to_string() });
        self.ask(manager, "RemoveController", parameters, options)
    }

    pub(crate) fn add_devices(
        &self,
        domain: &str,
        specs: &[DeviceSpec],
        options: &Options,
    ) -> Result<Outcome> {
        let Some(manager) = self.manager_of(domain) else {
            return Ok(self.context.device_add_all(&self.domain(domain)?, specs, options)?);
        };
        let when_there = options.accept_absent;
        let required = specs.iter().any(|it| matches!(&it.kind, Kind::Host(it) if it.required));
        if let [spec] = specs {
            let parameters = json!({
                "domain": domain,
                "device": spec.kind.to_string(),
                "controller": spec.controller.as_ref().map(ToString::to_string),
                "port": spec.port.map(|it| it.to_string()),
                "name": spec.name,
                "whenThere": when_there,
                "required": required,
            });
            return self.ask(manager, "AddDevice", parameters, options);
        }
        let devices: Vec<String> = specs.iter().map(|it| it.kind.to_string()).collect();
        let controller = specs.first().and_then(|it| it.controller.as_ref());
        let parameters = json!({
            "domain": domain,
            "devices": devices,
            "controller": controller.map(ToString::to_string),
            "whenThere": when_there,
            "required": required,
        });
        self.ask(manager, "AddDevices", parameters, options)
    }

    pub(crate) fn remove_devices(
        &self,
        domain: &str,
        devices: &[DeviceRef],
        options: &Options,
    ) -> Result<Outcome> {
        let Some(manager) = self.manager_of(domain) else {
            return Ok(self.context.device_remove_all(&self.domain(domain)?, devices, options)?);
        };
        let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let parameters = json!({ "domain": domain, "devices": devices });
        self.ask(manager, "RemoveDevices", parameters, options)
    }

    pub(crate) fn move_device(
        &self,
        domain: &str,
        device: &DeviceRef,
        to: &Destination,
        options: &Options,
    ) -> Result<Outcome> {
        let Some(manager) = self.manager_of(domain) else {
            return Ok(self.context.device_move(&self.domain(domain)?, device, to, options)?);
        };
        let parameters = json!({
            "domain": domain,
            "device": device.to_string(),
            "controller": to.controller.as_ref().map(ToString::to_string),
            "port": to.port.map(|it| it.to_string()),
        });
        self.ask(manager, "MoveDevice", parameters, options)
    }

    pub(crate) fn describe(&self, domain: &str) -> Result<DomainView> {
        match self.manager_of(domain) {
            Some(it) => self.ask(it, "Describe", json!({ "domain": domain }), &self.options),
            None => Ok(self.context.list(&self.domain(domain)?, &self.options)?),
        }
    }

    pub(crate) fn describe_all(&self) -> Result<AllView> {
        self.describe_all_with(&self.options)
    }

    /// All domains for a live view, with what was last known of those that do not answer; and
    /// whether some may answer later.
    pub(crate) fn describe_all_live(&self, known: &mut LastKnown) -> Result<(AllView, bool)> {
        let wait = self.options.wait.min(ANSWER_LIMIT);
        let mut view = self.describe_all_with(&Options { wait, ..self.options.clone() })?;
        let may_answer = known.complete(&mut view, SystemTime::now());
        Ok((view, may_answer))
    }

    fn describe_all_with(&self, options: &Options) -> Result<AllView> {
        match &self.manager {
            Some(manager) => self.ask(manager, "Describe", json!({}), options),
            None => Ok(self.context.list_all(options)?),
        }
    }

    pub(crate) fn host_view(&self, backend: Option<&str>) -> Result<HostView> {
        match (&self.manager, backend) {
            (Some(it), None) => self.ask(it, "DescribeHost", json!({}), &self.options),
            _ => Ok(self.context.host_list(backend, &self.options)?),
        }
    }

    /// What the rules mean for each device of this machine.
    pub(crate) fn effects(&self) -> Result<EffectsView> {
        match &self.manager {
            Some(it) => self.ask(it, "DescribeEffects", json!({}), &self.options),
            None => Ok(self.context.effects(&self.options)?),
        }
    }

    pub(crate) fn explain_device(
        &self,
        explained: &Explained,
        domain: Option<&str>,
    ) -> Result<ExplainView> {
        match (&self.manager, explained) {
            (Some(manager), Explained::Device(device)) => {
                let parameters = json!({ "device": device.to_string(), "domain": domain });
                self.ask(manager, "Explain", parameters, &self.options)
            }
            _ => Ok(self.context.explain(explained, domain, &self.options)?),
        }
    }

    /// Applies a spec, or plans it in a dry run.
    pub(crate) fn apply_spec(
        &self,
        path: &Path,
        config: &GuestConfig,
        options: &Options,
    ) -> Result<Plan> {
        // The daemon only applies specs, and only if they name their domain.
        let is_served = config.format().names_running_domain() && config.driver().is_some();
        let Some(manager) = self.manager.as_ref().filter(|_| is_served) else {
            return Ok(self.context.apply(config, options)?);
        };
        let parameters = json!({
            "spec": config.text(),
            "origin": path.display().to_string(),
            "prune": options.prune,
        });
        let folder = Some(config.folder().to_owned());
        let options = Options { folder, ..options.clone() };
        self.ask(manager, "Apply", parameters, &options)
    }

    /// Has the daemon restore what is recorded for a domain. `None` if the daemon is not used for
    /// it.
    pub(crate) fn restore_by_daemon(
        &self,
        domain: &str,
        options: &Options,
    ) -> Result<Option<Outcome>> {
        let Some(manager) = self.manager_of(domain) else { return Ok(None) };
        self.ask(manager, "Apply", json!({ "domain": domain }), options).map(Some)
    }

    pub(crate) fn suspend_domain(&self, domain: &str) -> Result<Outcome> {
        match self.manager_of(domain) {
            Some(it) => self.ask(it, "Suspend", json!({ "domain": domain }), &self.options),
            None => Ok(self.context.suspend(&self.domain(domain)?, &self.options)?),
        }
    }

    pub(crate) fn resume_domain(&self, domain: &str, options: &Options) -> Result<Outcome> {
        match self.manager_of(domain) {
            Some(it) => self.ask(it, "Resume", json!({ "domain": domain }), options),
            None => Ok(self.context.resume(&self.domain(domain)?, options)?),
        }
    }

    /// Whether a text is the name or the address of a domain.
    pub(crate) fn is_domain(&self, text: &str) -> bool {
        match &self.manager {
            Some(manager) => manager
                .domains()
                .is_ok_and(|all: Vec<Domain>| all.iter().any(|it| it.answers_to(text))),
            None => self.domain(text).is_ok(),
        }
    }
}
