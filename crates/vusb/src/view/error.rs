//! An error as JSON.

use serde::{Deserialize, Serialize};
use vusb_model::remedy::Remedy;

use crate::advice::Advice;
use crate::error::{Error, ExitCode, NotUndone};
use crate::step::DescribedStep;

/// An error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorView {
    /// The exit code.
    pub code: u8,
    /// The kind of the error. `code` is its number.
    pub kind: ExitCode,
    /// What happened and why.
    pub message: String,
    /// What to do, as sentences. A user interface fills them in; the library leaves them empty.
    pub hints: Vec<String>,
    /// What a person can do, as values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
    /// What the caller can do, as values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
    /// For a failed change, how far it got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedView>,
    /// The steps that are in effect although they could not be recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_effect: Vec<DescribedStep>,
}

impl ErrorView {
    /// An error without further details.
    pub fn new(kind: ExitCode, message: String, hints: Vec<String>) -> ErrorView {
        ErrorView {
            code: kind.code(),
            kind,
            message,
            hints,
            advice: Vec::new(),
            remedies: Vec::new(),
            failed: None,
            in_effect: Vec::new(),
        }
    }
}

/// How far a change got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedView {
    /// The step that failed.
    pub step: DescribedStep,
    /// Whether it is unknown if that step is in effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The earlier steps that were undone.
    pub undone: Vec<DescribedStep>,
    /// The earlier steps that could not be undone and are still in effect.
    pub not_undone: Vec<NotUndoneView>,
    /// Why the result could not be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<String>,
}

/// A step that is still in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotUndoneView {
    /// The step.
    pub step: DescribedStep,
    /// Why it could not be undone.
    pub why: String,
}

impl From<&Error> for ErrorView {
    fn from(error: &Error) -> ErrorView {
        let kind = error.exit_code();
        let not_undone = |it: &NotUndone| NotUndoneView {
            step: DescribedStep::from(&it.step),
            why: it.why.clone(),
        };
        let failed = match error {
            Error::Failed { step, unknown, undone, not_undone: left, unrecorded, .. } => {
                Some(FailedView {
                    step: DescribedStep::from(step.as_ref()),
                    unknown: *unknown,
                    undone: undone.iter().map(DescribedStep::from).collect(),
                    not_undone: left.iter().map(not_undone).collect(),
                    unrecorded: unrecorded.as_ref().map(ToString::to_string),
                })
            }
            _ => None,
        };
        let in_effect = match error {
            Error::NotRecorded { steps, .. } => steps.iter().map(DescribedStep::from).collect(),
            _ => Vec::new(),
        };
        ErrorView {
            advice: error.advice(),
            remedies: error.remedies(),
            failed,
            in_effect,
            ..ErrorView::new(kind, error.to_string(), Vec::new())
        }
    }
}
