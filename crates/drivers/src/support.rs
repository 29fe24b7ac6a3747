//! What this machine's hypervisors can do with each controller model. No guest is needed.

use std::collections::BTreeMap;
use std::fmt;

use vusb_model::capabilities::Support;
use vusb_model::models::Model;

/// Whether a hypervisor can be used on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can be used. Contains a short description, such as its version.
    Available(String),
    /// It is not installed or does not run. Contains which of these, such as `not installed`.
    Absent(String),
    /// It is installed but does not work. Contains a short description and the reason.
    Unusable(String),
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Availability::Available(words)
        | Availability::Absent(words)
        | Availability::Unusable(words)) = self;
        f.write_str(words)
    }
}

/// What one hypervisor of this machine can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Whether it can be used.
    pub availability: Availability,
    /// What it can do with each model; empty if that is unknown.
    pub models: BTreeMap<Model, Support>,
}

impl Survey {
    /// A hypervisor that cannot be asked.
    pub(crate) fn without_models(availability: Availability) -> Survey {
        Survey { availability, models: BTreeMap::new() }
    }
}

/// What a hypervisor can do with a model on any machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// What the hypervisor calls it, or how a guest gets it; `None` if guests cannot have it.
    pub name: Option<String>,
    /// Whether a running guest can be given it; `None` if versions differ.
    pub hot: Option<bool>,
}
