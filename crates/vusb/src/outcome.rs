//! What an operation came to.

use std::fmt;

use serde::Serialize;
use vusb_model::address::{Address, Index};
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;

use crate::view::API;

/// What was done, or would be done in a dry run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The domain, as a person knows it.
    pub domain: String,
    /// The steps that were taken, or would be, in their order.
    pub steps: Vec<Step>,
    /// Whether it was so already, and nothing had to be done for what was asked.
    pub already: bool,
    /// Whether nothing was done because it was only asked what would be.
    pub dry_run: bool,
    /// What was chosen for that which was asked; `None` where many things were asked at once.
    pub at: Option<Chosen>,
    /// The controllers that nobody asked for and that a device needed.
    pub added_controllers: Vec<Name>,
    /// What else a person should know, each a sentence.
    pub notes: Vec<String>,
    /// The hardware afterwards, as it is recorded.
    pub hardware: Hardware,
}

/// Where something that was asked for is, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// A controller.
    Controller {
        /// Its index.
        index: Index,
        /// Its name.
        name: Name,
    },
    /// A device.
    Device {
        /// Where it is.
        address: Address,
        /// The same with the controller's name: `hci0:1`.
        place: String,
        /// Its name.
        name: Name,
    },
}

impl fmt::Display for Chosen {
    /// `hci0` for a controller, `hci0:1` for a device: what `add` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chosen::Controller { name, .. } => write!(f, "{name}"),
            Chosen::Device { place, .. } => f.write_str(place),
        }
    }
}

/// An [`Outcome`] as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeView {
    /// The version of this layout.
    pub api: u32,
    /// The domain.
    pub domain: String,
    /// Whether it was so already.
    pub already: bool,
    /// Whether nothing was done because it was only asked what would be.
    pub dry_run: bool,
    /// The name of what was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Where it is: `hci0` or `hci0:1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The controllers that were added on the way.
    pub added_controllers: Vec<Name>,
    /// The steps, as sentences.
    pub steps: Vec<String>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl From<&Outcome> for OutcomeView {
    fn from(outcome: &Outcome) -> Self {
        let name = outcome.at.as_ref().map(|chosen| match chosen {
            Chosen::Controller { name, .. } | Chosen::Device { name, .. } => name.clone(),
        });
        OutcomeView {
            api: API,
            domain: outcome.domain.clone(),
            already: outcome.already,
            dry_run: outcome.dry_run,
            name,
            at: outcome.at.as_ref().map(Chosen::to_string),
            added_controllers: outcome.added_controllers.clone(),
            steps: outcome.steps.iter().map(Step::to_string).collect(),
            notes: outcome.notes.clone(),
        }
    }
}
