//! What a driver can do: what resolving a spec needs to know of a hypervisor.

use std::collections::BTreeMap;

use crate::guest::Guest;
use crate::models::{ControllerType, Model};

/// Whether something can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// At any time.
    Hot,
    /// In a guest that is being started, not in one that runs.
    Cold {
        /// Why not in one that runs.
        why: String,
    },
    /// At any time, on emulated controllers: for a kind of device that a paravirtual protocol does not carry.
    Emulated {
        /// Why not on pv ones.
        why: String,
    },
    /// Never.
    No {
        /// Why not.
        why: String,
    },
}

/// How many more emulated controllers the guest has room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// How many.
    pub free: usize,
    /// What to tell a person who needs more: why there are none, and what gives the guest some.
    pub remedy: String,
}

/// What a domain's driver can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Who says so, for sentences: `QEMU 7.2.22 (machine pc)`.
    pub hypervisor: String,
    /// What type `auto` means for this guest.
    pub default_type: ControllerType,
    /// Whether the guest runs, so that only what is [`Support::Hot`] can be had.
    pub running: bool,
    /// What it can do with each model. A model that is not named cannot be had.
    pub models: BTreeMap<Model, Support>,
    /// What it can do with each kind of device, by [`crate::device::Kind::word`]. A kind that is not named cannot be had.
    pub kinds: BTreeMap<&'static str, Support>,
    /// How many more emulated controllers there is room for; `None` is no limit that is known.
    pub slots: Option<Slots>,
    /// What machine the guest is, where that decides what a profile fills in.
    pub guest: Guest,
}

impl Capabilities {
    /// Whether the model can be had, and if not, why.
    pub fn model(&self, model: Model) -> Result<(), String> {
        self.answer(self.models.get(&model))
    }

    /// Whether the kind of device can be had on some controller, and if not, why.
    pub fn kind(&self, word: &str) -> Result<(), String> {
        self.answer(self.kinds.get(word))
    }

    /// Whether the kind of device can be had on a controller of this type, and if not, why.
    pub fn kind_on(&self, word: &str, controller: ControllerType) -> Result<(), String> {
        match (controller, self.kinds.get(word)) {
            (ControllerType::Pv, Some(Support::Emulated { why })) => Err(why.clone()),
            _ => self.kind(word),
        }
    }

    fn answer(&self, support: Option<&Support>) -> Result<(), String> {
        match support {
            Some(Support::Hot | Support::Emulated { .. }) => Ok(()),
            Some(Support::Cold { .. }) if !self.running => Ok(()),
            Some(Support::Cold { why } | Support::No { why }) => Err(why.clone()),
            None => Err("it does not have this".to_owned()),
        }
    }
}

/// The words of all kinds of devices that can be asked for.
pub const KINDS: [&str; 12] = [
    "host", "storage", "tablet", "mouse", "keyboard", "hub", "serial", "audio", "net", "mtp",
    "ccid", "redir",
];

impl Capabilities {
    /// A hypervisor that can do everything at any time: what a spec is resolved for when no domain is in play.
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
