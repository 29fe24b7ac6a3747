//! This project's spec as a [`ConfigFormat`].

use vusb_model::capabilities::Capabilities;
use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::format::{ConfigFormat, HostNaming};
use crate::recognize::{assignments, trimmed};

/// This project's spec, in TOML.
#[derive(Clone, Copy, Debug)]
pub struct VusbSpec;

impl ConfigFormat for VusbSpec {
    fn name(&self) -> &'static str {
        "vusb"
    }

    fn title(&self) -> &'static str {
        "a spec"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["toml"]
    }

    fn recognizes(&self, text: &str) -> bool {
        let own = |(key, value): (&str, &str)| match key {
            "profile" | "domain" | "driver" => value.starts_with(['"', '\'']),
            "controller" | "device" => value.starts_with('['),
            _ => false,
        };
        assignments(text).any(own) || trimmed(text).lines().any(is_header)
    }

    fn profile(&self) -> Profile {
        Profile::Vusb1
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::Durable
    }

    fn names_running_domain(&self) -> bool {
        true
    }

    fn hypervisor(&self, _guest: &Guest) -> &'static str {
        "any hypervisor"
    }

    /// Everything: a spec is not for one hypervisor.
    fn capabilities(&self, guest: &Guest) -> Capabilities {
        Capabilities {
            hypervisor: self.hypervisor(guest).to_owned(),
            guest: guest.clone(),
            ..Capabilities::everything()
        }
    }

    fn read(&self, text: &str, origin: &str) -> Result<Config, FormatError> {
        super::read(text, origin)
    }

    fn edit(&self, text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
        super::edit(text, edits)
    }

    fn write(&self, guest: &Guest, hardware: &Hardware) -> Generated {
        super::write(guest, hardware)
    }
}

/// Whether a line is the header of a controller or a device.
fn is_header(line: &str) -> bool {
    let inner = line.trim_start().strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
    inner.is_some_and(|(name, _)| matches!(name.trim(), "controller" | "device"))
}
