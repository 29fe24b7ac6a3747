//! A refusal together with the part of the spec that causes it.

use std::fmt;

use crate::capabilities::Capabilities;
use crate::refusal::{Category, Refusal};
use crate::remedy::Remedy;

/// A part of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedItem {
    /// A controller, by its position in [`Spec::controllers`](crate::spec::Spec::controllers).
    Controller(usize),
    /// A device, by its position in [`Spec::devices`](crate::spec::Spec::devices).
    Device(usize),
}

/// Why a spec is refused, and which part of it is the cause, so that an error can point at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The refusal itself.
    pub refusal: Refusal,
    /// The part that causes it; `None` if no single part does.
    pub item: Option<RequestedItem>,
    /// The profile's note: the message with which the profile's own tool refuses the same request,
    /// so that users can search for it, or how that tool behaves instead.
    pub note: Option<Box<str>>,
}

impl Refused {
    /// A refusal because of this part of the spec.
    pub const fn of(item: RequestedItem, refusal: Refusal) -> Refused {
        Refused { refusal, item: Some(item), note: None }
    }

    /// The same refusal, because of this part of the spec unless another part is already known to
    /// be the cause.
    #[must_use]
    pub fn because_of(mut self, item: impl Into<Option<RequestedItem>>) -> Refused {
        self.item = self.item.or(item.into());
        self
    }

    /// The same refusal with the profile's note.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Box<str>>) -> Refused {
        self.note = Some(note.into());
        self
    }

    /// The same refusal, but as [`Refusal::NoSlot`] if its cause is that the guest has no slot for
    /// a requested controller. In the profiles' frozen results it is [`Refusal::NotImplemented`].
    #[must_use]
    pub fn report_missing_slot(mut self, capabilities: &Capabilities) -> Refused {
        let text = |what: String| format!("{what}: the guest has no free slot");
        self.refusal = super::without_slot(self.refusal, capabilities, text);
        self
    }

    /// The refusal's category.
    pub const fn category(&self) -> Category {
        self.refusal.category()
    }

    /// What the caller can do about it.
    pub fn remedies(&self) -> Vec<Remedy> {
        self.refusal.remedies()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.note {
            None => write!(f, "{}", self.refusal),
            Some(note) => write!(f, "{} ({note})", self.refusal),
        }
    }
}

impl std::error::Error for Refused {}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, item: None, note: None }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        refused.refusal
    }
}
