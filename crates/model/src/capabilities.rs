//! The abilities of a hypervisor that resolving a spec depends on.

use std::collections::BTreeMap;

use crate::guest::Guest;
use crate::models::{ControllerType, Model};
use crate::remedy::Reason;

/// Whether the hypervisor supports something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// At any time.
    Hot,
    /// Only in a guest that is being started: not by hotplug.
    Cold {
        /// Why not by hotplug.
        why: String,
    },
    /// At any time, but only on emulated controllers: for a kind of device that a paravirtual
    /// protocol does not carry.
    EmulatedOnly {
        /// Why not on pv ones.
        why: String,
    },
    /// Never.
    Unsupported {
        /// Why not.
        why: String,
    },
}

/// The remaining slots for emulated controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The number of free slots.
    pub free: usize,
    /// Why there are no more, and how the guest gets more.
    pub reason: Reason,
}

/// What a domain's driver can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The hypervisor's name, for messages: `QEMU 7.2.22 (machine pc)`.
    pub hypervisor: String,
    /// What type `auto` means for this guest.
    pub default_type: ControllerType,
    /// Whether the guest is running, so that nothing with [`Support::Cold`] can be added.
    pub running: bool,
    /// The support for each model. A missing model is not supported.
    pub models: BTreeMap<Model, Support>,
    /// The support for each kind of device, by [`crate::device::Kind::name`]. A missing kind is not
    /// supported.
    pub kinds: BTreeMap<&'static str, Support>,
    /// The remaining slots for emulated controllers; `None` if there is no known limit.
    pub slots: Option<Slots>,
    /// The properties of the guest that a profile depends on.
    pub guest: Guest,
}

impl Capabilities {
    /// Checks that a controller of this model can be added.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check_model(&self, model: Model) -> Result<(), String> {
        self.check(self.models.get(&model))
    }

    /// Checks that a device of this kind can be added to some controller.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check_kind(&self, kind: &str) -> Result<(), String> {
        self.check(self.kinds.get(kind))
    }

    /// Checks that a device of this kind can be added to a controller of this type.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check_kind_on(&self, kind: &str, controller: ControllerType) -> Result<(), String> {
        match (controller, self.kinds.get(kind)) {
            (ControllerType::Pv, Some(Support::EmulatedOnly { why })) => Err(why.clone()),
            _ => self.check_kind(kind),
        }
    }

    fn check(&self, support: Option<&Support>) -> Result<(), String> {
        match support {
            Some(Support::Hot | Support::EmulatedOnly { .. }) => Ok(()),
            Some(Support::Cold { .. }) if !self.running => Ok(()),
            Some(Support::Cold { why } | Support::Unsupported { why }) => Err(why.clone()),
            None => Err("it does not have this".to_owned()),
        }
    }
}

/// The names of all kinds of devices that can be requested.
pub const KINDS: [&str; 12] = [
    "host", "storage", "tablet", "mouse", "keyboard", "hub", "serial", "audio", "net", "mtp",
    "ccid", "redir",
];

impl Capabilities {
    /// A hypervisor that supports everything at any time: for a spec that is resolved without a
    /// domain.
    pub fn everything() -> Capabilities {
        Capabilities {
            hypervisor: "any hypervisor".to_owned(),
            default_type: ControllerType::Emulated,
            running: false,
            models: Model::ALL.into_iter().map(|model| (model, Support::Hot)).collect(),
            kinds: KINDS.into_iter().map(|kind| (kind, Support::Hot)).collect(),
            slots: None,
            guest: Guest::default(),
        }
    }
}
