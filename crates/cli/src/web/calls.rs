//! Carries out the requests of the page as the commands do, never with `--force`.

use serde::Deserialize;
use serde_json::{Value, json};
use vusb::model::device::{HostRef, Kind, KindError};
use vusb::model::selector::{Selector, SelectorError};
use vusb::model::spec::DeviceSpec;
use vusb::rules::Explained;

use crate::arguments::GlobalOptions;
use crate::failure::Failure;
use crate::run::{Cli, Result, required_daemon};
use crate::tables;

/// The emulated devices that the page offers: those that need no resource of this machine.
const INPUTS: [&str; 3] = ["tablet", "mouse", "keyboard"];

/// A request of the page.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum PageRequest {
    /// What the rules mean for a device.
    Explain { device: String },
    /// Attach a device of this machine, or one of [`INPUTS`].
    Attach { device: String, domain: String },
    /// Detach a device, by its name or location in the domain.
    Detach { device: String, domain: String },
    /// Answer a question of the daemon.
    Answer { question: u64, domain: String, remember: bool },
}

impl PageRequest {
    pub(super) const fn changes(&self) -> bool {
        !matches!(self, PageRequest::Explain { .. })
    }

    /// Carries out the request. The result goes to the page.
    pub(super) fn carry_out(&self, cli: &Cli, global: &GlobalOptions) -> Result<Value> {
        match self {
            PageRequest::Explain { device } => {
                let view = cli.explain_device(&Explained::Device(selector(device)?), None)?;
                Ok(json!({ "text": tables::explained(&view), "view": view }))
            }
            PageRequest::Attach { device, domain } => {
                let kind = if INPUTS.contains(&device.as_str()) {
                    device.parse().map_err(|error: KindError| Failure::Usage(error.to_string()))?
                } else {
                    Kind::Host(HostRef::new(selector(device)?))
                };
                let spec = DeviceSpec::new(kind);
                let outcome = cli.add_devices(domain, &[spec], &cli.options)?;
                Ok(json!({ "already": outcome.already, "outcome": outcome }))
            }
            PageRequest::Detach { device, domain } => {
                let device = device.parse()?;
                let outcome = cli.remove_devices(domain, &[device], &cli.options)?;
                Ok(json!({ "already": outcome.already, "outcome": outcome }))
            }
            PageRequest::Answer { question, domain, remember } => {
                let at = required_daemon(global)?.answer(*question, domain, *remember)?;
                Ok(json!({ "at": at }))
            }
        }
    }
}

fn selector(text: &str) -> Result<Selector> {
    text.parse().map_err(|error: SelectorError| Failure::Usage(error.to_string()))
}
