//! How a command fails: the sentence, the hints, the exit code, and the same as JSON.

use std::io;

use serde::Serialize;
use vusb::model::diff::Step;
use vusb::{Error, ExitCode};

use crate::safe;
use crate::screen::{Screen, complain};

/// Why a command did not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library says so.
    Vusb(Error),
    /// The result could not be written.
    Output(io::Error),
    /// The command line makes no sense: clap's own words.
    Usage(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Vusb(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

#[derive(Serialize)]
struct FailureView {
    api: u32,
    error: ErrorView,
}

#[derive(Serialize)]
struct ErrorView {
    code: u8,
    kind: &'static str,
    message: String,
    hints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<FailedView>,
}

/// How far a change got that failed halfway.
#[derive(Serialize)]
struct FailedView {
    step: String,
    undone: Vec<String>,
    not_undone: Vec<NotUndoneView>,
}

#[derive(Serialize)]
struct NotUndoneView {
    step: String,
    why: String,
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Vusb(error) => error.exit_code(),
            Failure::Output(_) => ExitCode::Failed,
            Failure::Usage(_) => ExitCode::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Failure::Vusb(error) => error.hints(),
            // The text itself says where the help is.
            Failure::Output(_) | Failure::Usage(_) => Vec::new(),
        }
    }

    /// What happened, without the word `error`.
    fn message(&self) -> String {
        let text = match self {
            Failure::Vusb(error) => error.to_string(),
            Failure::Output(error) => format!("the result cannot be written: {error}"),
            Failure::Usage(text) => text.clone(),
        };
        // What points at a place in a text brings the word along.
        text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
    }

    /// The message for a person. All are one line, but for those that point at a place in a text.
    fn shown(&self) -> String {
        let message = self.message();
        match self {
            Failure::Vusb(error) if error.shows_a_place() => {
                format!("error: {}", safe::lines(&message))
            }
            Failure::Usage(_) => format!("error: {}", safe::lines(&message)),
            _ => format!("error: {}", safe::line(&message)),
        }
    }

    /// The message for a program: without what clap says on how to read its help.
    fn told(&self) -> String {
        let message = self.message();
        let advice = ["\n\nUsage:", "\n\nFor more information"];
        let end = advice.iter().filter_map(|it| message.find(it)).min();
        match self {
            Failure::Usage(_) => {
                message.get(..end.unwrap_or(message.len())).unwrap_or(&message).to_owned()
            }
            _ => message,
        }
    }

    fn view(&self) -> FailureView {
        let failed = match self {
            Failure::Vusb(Error::Failed { step, undone, not_undone, .. }) => Some(FailedView {
                step: step.to_string(),
                undone: undone.iter().map(Step::to_string).collect(),
                not_undone: not_undone
                    .iter()
                    .map(|it| NotUndoneView { step: it.step.to_string(), why: it.why.clone() })
                    .collect(),
            }),
            _ => None,
        };
        FailureView {
            api: vusb::view::API,
            error: ErrorView {
                code: self.exit_code().code(),
                kind: kind(self.exit_code()),
                message: self.told(),
                hints: self.hints(),
                failed,
            },
        }
    }

    /// Says what happened, why, and what to do; returns what the process ends with.
    pub(crate) fn report(&self, json: bool) -> std::process::ExitCode {
        let screen = Screen { json, quiet: false, verbose: false };
        if !json || screen.json(&self.view()).is_err() {
            complain(&self.shown());
            for hint in self.hints() {
                complain(&format!("hint: {}", safe::line(&hint)));
            }
        }
        self.exit_code().code().into()
    }
}

/// The word for an exit code: stable, for scripts.
const fn kind(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Done => "done",
        ExitCode::Failed => "failed",
        ExitCode::Usage => "usage",
        ExitCode::NotFound => "not-found",
        ExitCode::Busy => "busy",
        ExitCode::Policy => "policy",
        ExitCode::NoRoom => "no-room",
        ExitCode::Unreachable => "unreachable",
        ExitCode::TimedOut => "timed-out",
        ExitCode::NotImplemented => "not-implemented",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_hint() {
        let what = "the guest says \"\u{1b}[2J\nhint: run this\"".to_owned();
        let failure = Failure::Vusb(Error::Usage { what, hint: None });
        assert_eq!(failure.shown(), "error: the guest says \"\\u{1b}[2J\\nhint: run this\"");
    }

    #[test]
    fn a_program_is_not_told_how_to_read_the_help() {
        let text = "error: unexpected argument '-x' found\n\nUsage: vusb\n\nFor more information, try '--help'.\n";
        let failure = Failure::Usage(text.to_owned());
        assert_eq!(failure.view().error.message, "unexpected argument '-x' found");
        assert!(failure.shown().ends_with("try '--help'."));
    }

    #[test]
    fn a_place_in_a_text_keeps_its_lines() {
        let message = "error: `usbversion` is 1, 2 or 3, not 4\n --> a.toml:3:14\n".to_owned();
        let failure = Failure::Vusb(Error::Spec { path: "a.toml".into(), message });
        assert_eq!(failure.shown(), "error: `usbversion` is 1, 2 or 3, not 4\n --> a.toml:3:14");
        assert!(failure.view().error.message.starts_with("`usbversion`"));
    }
}
