//! A refusal, and what of a spec it is about.

use std::fmt;

use crate::refusal::{Category, Refusal};

/// Which part of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A controller, by its place in [`Spec::controllers`](crate::spec::Spec::controllers).
    Controller(usize),
    /// A device, by its place in [`Spec::devices`](crate::spec::Spec::devices).
    Device(usize),
}

/// Why a spec cannot be, and which part of it is to blame: whoever read it from a text can point there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// Which part; `None` if it is none alone.
    pub asked: Option<Asked>,
}

impl Refused {
    /// A refusal of this part of the spec.
    pub const fn of(asked: Asked, refusal: Refusal) -> Refused {
        Refused { refusal, asked: Some(asked) }
    }

    /// What sort of refusal it is.
    pub fn category(&self) -> Category {
        self.refusal.category()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)
    }
}

impl std::error::Error for Refused {}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, asked: None }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        refused.refusal
    }
}
