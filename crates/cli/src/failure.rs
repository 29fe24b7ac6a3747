//! How a command fails: the message, the hints, the exit code, and the same as JSON.

use std::io;

use serde::Serialize;
use vusb::view::{API, ErrorView};
use vusb::{Error, ExitCode};
use vusb_interface::hints;

use crate::screen::{Screen, print_to_stderr};
use crate::{remedy, safe};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error.
    Vusb(Error),
    /// The result could not be written.
    Output(io::Error),
    /// The command line is invalid. The text is clap's message.
    Usage(String),
    /// An argument is invalid in a way that clap cannot see.
    Argument {
        /// What is wrong.
        problem: String,
        /// What to do instead.
        hint: String,
    },
    /// The daemon refused the call, or cannot be reached.
    Daemon {
        /// The error.
        error: Box<ErrorView>,
        /// Whether the message shows lines of a file.
        shows_source: bool,
    },
    /// An argument to be printed for a shell contains a control character.
    ControlCharacter,
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

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Vusb(error) => error.exit_code(),
            Failure::Output(_) => ExitCode::Failed,
            Failure::Daemon { error, .. } => error.kind,
            Failure::Usage(_) | Failure::Argument { .. } | Failure::ControlCharacter => {
                ExitCode::Usage
            }
        }
    }

    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Failure::Vusb(error) => {
                let (advice, remedies) = (error.advice(), error.remedies());
                let advice = advice.iter().map(|it| hints::sentence(it).into_owned());
                advice.chain(remedies.iter().map(remedy::sentence)).collect()
            }
            Failure::Argument { hint, .. } => vec![hint.clone()],
            Failure::ControlCharacter => {
                vec!["use --json, or correct the path in the spec that contains it".to_owned()]
            }
            Failure::Daemon { error, .. } => {
                let mut error = (**error).clone();
                hints::fill(&mut error);
                let remedies = error.remedies.iter().map(remedy::sentence);
                error.hints.into_iter().chain(remedies).collect()
            }
            // The message itself names the help.
            Failure::Output(_) | Failure::Usage(_) => Vec::new(),
        }
    }

    /// What happened, without the word `error`.
    pub(crate) fn message(&self) -> String {
        let text = match self {
            Failure::Vusb(error) => error.to_string(),
            Failure::Output(error) => format!("cannot write the result: {error}"),
            Failure::Usage(text) => text.clone(),
            Failure::Argument { problem, .. } => problem.clone(),
            Failure::Daemon { error, .. } => error.message.clone(),
            Failure::ControlCharacter => {
                "an argument contains a control character, which is not safe in a shell".to_owned()
            }
        };
        // A message that shows a line of a file already begins with `error: `.
        text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
    }

    /// The message for people: one line, unless it shows a line of a file.
    fn human_message(&self) -> String {
        let message = self.message();
        match self {
            Failure::Vusb(error) if error.shows_source() => {
                format!("error: {}", safe::lines(&message))
            }
            Failure::Usage(_) | Failure::Daemon { shows_source: true, .. } => {
                format!("error: {}", safe::lines(&message))
            }
            _ => format!("error: {}", safe::line(&message)),
        }
    }

    /// The message for programs: without clap's advice on how to read its help.
    fn plain_message(&self) -> String {
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
        let kind = self.exit_code();
        let (message, hints) = (self.plain_message(), self.hints());
        let error = match self {
            Failure::Vusb(error) => ErrorView { message, hints, ..ErrorView::from(error) },
            Failure::Daemon { error, .. } => ErrorView { message, hints, ..(**error).clone() },
            _ => ErrorView::new(kind, message, hints),
        };
        FailureView { api: API, error }
    }

    /// Prints what happened, why, and what to do; returns the exit code.
    pub(crate) fn report(&self, json: bool) -> std::process::ExitCode {
        let screen = Screen { json, quiet: false, verbose: false };
        if !json || screen.json(&self.view()).is_err() {
            print_to_stderr(&self.human_message());
            for hint in self.hints() {
                print_to_stderr(&format!("hint: {}", safe::line(&hint)));
            }
        }
        self.exit_code().code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_hint() {
        let problem = "the guest sends \"\u{1b}[2J\nhint: run this\"".to_owned();
        let error = Error::Usage { problem, advice: None, remedies: Vec::new() };
        let human_message = Failure::Vusb(error).human_message();
        assert_eq!(human_message, "error: the guest sends \"\\u{1b}[2J\\nhint: run this\"");
    }

    #[test]
    fn a_program_gets_no_advice_on_reading_the_help() {
        let text = "error: unexpected argument '-x' found\n\nUsage: vusb\n\nFor more information, try '--help'.\n";
        let failure = Failure::Usage(text.to_owned());
        assert_eq!(failure.view().error.message, "unexpected argument '-x' found");
        assert!(failure.human_message().ends_with("try '--help'."));
    }

    #[test]
    fn a_line_of_a_file_keeps_its_shape() {
        let message = "error: `usbversion` is 1, 2 or 3, not 4\n --> a.toml:3:14\n".to_owned();
        let origin = "a.toml".to_owned();
        let failure = Failure::Vusb(Error::Spec { origin, message, remedies: Vec::new() });
        assert_eq!(
            failure.human_message(),
            "error: `usbversion` is 1, 2 or 3, not 4\n --> a.toml:3:14"
        );
        assert!(failure.view().error.message.starts_with("`usbversion`"));
    }
}
