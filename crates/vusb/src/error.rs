//! Everything that can go wrong, each with what sort of failure it is and what to do about it.
//!
//! An error's text says what happened and why; [`Error::hints`] says what to do where the text does not;
//! [`Error::exit_code`] sorts it into the ten codes that a command ends with.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use vusb_formats::Format;
use vusb_host::{HostError, SelectError};
use vusb_model::diff::Step;
use vusb_model::refusal::{Category, Refusal};
use vusb_model::resolve::Refused;
use vusb_model::selector::Selector;

/// What sort of end it is: what a script looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or already so.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The request makes no sense.
    Usage = 2,
    /// What it names is not there.
    NotFound = 3,
    /// Something else is in the way, or holds it.
    Busy = 4,
    /// Not allowed without force, or never.
    Policy = 5,
    /// No free port, or none that takes the speed.
    NoRoom = 6,
    /// The hypervisor cannot be reached.
    Unreachable = 7,
    /// It took too long.
    TimedOut = 8,
    /// This hypervisor, or this build, cannot do it.
    NotImplemented = 9,
}

impl ExitCode {
    /// The number that a process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// A step that could not be taken back.
#[derive(Debug)]
pub struct NotUndone {
    /// The step that is still in effect.
    pub step: Step,
    /// Why it could not be taken back.
    pub why: String,
}

impl fmt::Display for NotUndone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.why)
    }
}

/// Why something was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request makes no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: Option<String>,
    },
    /// No domain is called so, or several are.
    #[error("{}", domain_text(.asked, .known, *.several, .damaged))]
    NoSuchDomain {
        /// What was asked for.
        asked: String,
        /// The domains that are known, or the several that are called so.
        known: Vec<String>,
        /// Whether several are called so.
        several: bool,
        /// The records that cannot be understood: one of them may be its.
        damaged: Vec<PathBuf>,
    },
    /// The domain has no such device.
    #[error("{domain} has no device {asked}: {}", known_text(.known))]
    NoSuchDevice {
        /// The domain.
        domain: String,
        /// What was asked for.
        asked: String,
        /// The devices that it has, each as `name (place)`.
        known: Vec<String>,
    },
    /// Devices are plugged in behind the hub.
    #[error("{hub} is a hub with devices behind it ({devices})")]
    HubInUse {
        /// The hub.
        hub: String,
        /// The names of the devices.
        devices: String,
    },
    /// This build cannot do it.
    #[error("{what}: {why}")]
    NotImplemented {
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
    },
    /// The model refuses it; nothing was touched.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The hypervisor could not do it, before anything was changed.
    #[error(transparent)]
    Driver(#[from] vusb_drivers::Error),
    /// A step failed, and those before it were taken back, or could not be.
    #[error("{}", failed_text(.step, .cause, .undone, .not_undone))]
    Failed {
        /// The step that failed.
        step: Box<Step>,
        /// Why.
        #[source]
        cause: Box<Error>,
        /// The steps that had been taken and were taken back.
        undone: Vec<Step>,
        /// The steps that had been taken and could not be taken back: they are still in effect.
        not_undone: Vec<NotUndone>,
    },
    /// The selector names no device of this machine, or several.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The selector names no device of a backend domain.
    #[error(
        "no USB device of the backend domain {domain} is `{selector}`: plug it in there, or see `vusb host list --backend {domain}` for what there is"
    )]
    AbsentThere {
        /// What was asked for.
        selector: Selector,
        /// The domain.
        domain: String,
    },
    /// The devices of this machine cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The host device is a hub: it is never given away, by force or not.
    #[error("{device} is a hub, and no hypervisor passes a hub on")]
    HostHub {
        /// The hub.
        device: String,
    },
    /// This machine needs the device.
    #[error("{device} is protected: {}", reasons.join("; "))]
    Protected {
        /// The device.
        device: String,
        /// Why.
        reasons: Vec<String>,
    },
    /// The image is not what it is said to be, and reading it so may be a trap.
    #[error(
        "{} is to be given as a raw disk, but it begins like a qcow2 image: the guest would see the container, not its content",
        path.display()
    )]
    LooksLikeQcow2 {
        /// The image.
        path: PathBuf,
    },
    /// Another domain has it.
    #[error("{what} is held by {holder}{}", gone_text(.gone))]
    Claimed {
        /// What is asked for.
        what: String,
        /// The domain that has it.
        holder: String,
        /// The command that makes it free.
        free: String,
        /// Why the holder cannot be reached, if it cannot: it holds the device all the same.
        gone: Option<String>,
    },
    /// The spec calls the domain otherwise than it is called.
    #[error("{domain} is {name}, and the spec is for {asked}")]
    OtherName {
        /// The domain's address.
        domain: String,
        /// What it is called.
        name: String,
        /// What the spec calls it.
        asked: String,
    },
    /// A file or folder that is to be given is not there.
    #[error("there is no {}", path.display())]
    NoSuchFile {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder that is to be given is something else.
    #[error("{} is {is}, and {wanted} is needed", path.display())]
    WrongFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        is: &'static str,
        /// What is needed.
        wanted: &'static str,
    },
    /// Another command works on the same thing, and did not finish in time.
    #[error("{what} is busy: {} has been at work on it for longer than {} s", holder_text(*.pid), .waited.as_secs_f32())]
    Busy {
        /// The domain, or the claims.
        what: String,
        /// The process that holds the lock, as it says.
        pid: Option<u32>,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `lock`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record cannot be understood. It is never overwritten.
    #[error("the record {} cannot be understood: {why}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A format cannot say all that is to be written in it.
    #[error("the format {to} cannot say it: {}", lost.join("; "))]
    Lossy {
        /// The format.
        to: Format,
        /// What it cannot say, each a sentence.
        lost: Vec<String>,
    },
    /// A spec cannot be understood.
    #[error("{message}")]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong and where, in several lines.
        message: String,
    },
}

impl Error {
    /// A usage error.
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Usage { what: what.into(), hint: Some(hint.into()) }
    }

    /// A failed access to `path`.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { doing, path: path.into(), source }
    }

    /// Whether its text is several lines: a place in a file is shown.
    pub const fn shows_a_place(&self) -> bool {
        matches!(self, Error::Spec { .. } | Error::Driver(vusb_drivers::Error::Text { .. }))
    }

    /// What sort of failure it is.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Error::Usage { .. } | Error::WrongFile { .. } | Error::Spec { .. } => ExitCode::Usage,
            Error::NoSuchDomain { .. }
            | Error::NoSuchDevice { .. }
            | Error::AbsentThere { .. }
            | Error::NoSuchFile { .. } => ExitCode::NotFound,
            Error::NotImplemented { .. } | Error::Lossy { .. } => ExitCode::NotImplemented,
            Error::Refused(refusal) => of_category(refusal.category()),
            Error::Driver(error) => of_driver(error),
            Error::Failed { cause, .. } => cause.exit_code(),
            Error::Select(SelectError::Absent { .. }) => ExitCode::NotFound,
            Error::Select(SelectError::Ambiguous { .. }) => ExitCode::Usage,
            Error::HostHub { .. } | Error::Protected { .. } | Error::LooksLikeQcow2 { .. } => {
                ExitCode::Policy
            }
            Error::Claimed { .. }
            | Error::Busy { .. }
            | Error::HubInUse { .. }
            | Error::OtherName { .. } => ExitCode::Busy,
            Error::Host(_) | Error::Io { .. } | Error::Record { .. } => ExitCode::Failed,
        }
    }

    /// What one can do, as sentences; empty where the error's text says it already.
    pub fn hints(&self) -> Vec<String> {
        let one = |hint: &str| vec![hint.to_owned()];
        match self {
            Error::Usage { hint, .. } => hint.iter().cloned().collect(),
            Error::NoSuchDomain { .. } => one(
                "name a domain as qemu:SOCKET or xen:NAME, by its file (.toml, .xml, .cfg, .json, .vmx), or by the name in a spec that was applied; `vusb list` shows those that are known",
            ),
            Error::NoSuchDevice { .. } => {
                one("name a device by its name, by its selector, or by its port as CONTROLLER:PORT")
            }
            Error::Failed { cause, not_undone, .. } => {
                let mut hints = cause.hints();
                if !not_undone.is_empty() {
                    hints.push(
                        "look at what is there now with `vusb list`, and remove what should not be"
                            .to_owned(),
                    );
                }
                hints
            }
            Error::HubInUse { .. } => {
                one("remove those first, or do it with --force to remove all of them")
            }
            Error::HostHub { .. } => one("give the devices behind it instead"),
            Error::Lossy { .. } => one("if the guest can do without, do it with --lossy"),
            Error::Protected { .. } => one("if you are sure, do it with --force"),
            Error::LooksLikeQcow2 { path } => vec![format!(
                "say storage:{},format=qcow2; if the guest is to see the container, do it with --force",
                path.display()
            )],
            Error::Claimed { free, .. } => vec![format!("make it free with `{free}`")],
            Error::OtherName { name, asked, .. } => vec![format!(
                "mend `driver` or `domain` in the spec; if it is {name} that is to be called {asked} from now on, do it with --force"
            )],
            Error::Busy { .. } => {
                one("wait for that command to end, or give this one more --timeout")
            }
            Error::Record { .. } => one(
                "mend the file, or move it away to forget what vusb recorded: the guest's hardware does not change by that, \
                 but what was vusb's own counts as another tool's from then on",
            ),
            Error::NotImplemented { .. }
            | Error::Refused(_)
            | Error::Driver(_)
            | Error::Select(_)
            | Error::AbsentThere { .. }
            | Error::Host(_)
            | Error::NoSuchFile { .. }
            | Error::WrongFile { .. }
            | Error::Io { .. }
            | Error::Spec { .. } => Vec::new(),
        }
    }

    /// The error beside a step that is named already: a refusal says only why.
    pub(crate) fn beside_its_step(&self) -> String {
        match self {
            Error::Driver(vusb_drivers::Error::Failed { why, .. }) => why.clone(),
            other => other.to_string(),
        }
    }

    /// Whether it is not known if the hypervisor did what it was asked to.
    pub(crate) const fn is_uncertain(&self) -> bool {
        matches!(self, Error::Driver(error) if error.is_uncertain())
    }
}

const fn of_category(category: Category) -> ExitCode {
    match category {
        Category::Usage => ExitCode::Usage,
        Category::NotFound => ExitCode::NotFound,
        Category::Busy => ExitCode::Busy,
        Category::NoRoom => ExitCode::NoRoom,
        Category::NotImplemented => ExitCode::NotImplemented,
    }
}

const fn of_driver(error: &vusb_drivers::Error) -> ExitCode {
    match error {
        vusb_drivers::Error::Unreachable { .. } => ExitCode::Unreachable,
        vusb_drivers::Error::TimedOut { .. } => ExitCode::TimedOut,
        vusb_drivers::Error::NotImplemented { .. } => ExitCode::NotImplemented,
        vusb_drivers::Error::Missing { .. } => ExitCode::NotFound,
        vusb_drivers::Error::WrongSpeed { .. } => ExitCode::NoRoom,
        vusb_drivers::Error::Text { category: Some(category), .. } => of_category(*category),
        vusb_drivers::Error::Text { category: None, .. } => ExitCode::Usage,
        _ => ExitCode::Failed,
    }
}

fn domain_text(asked: &str, known: &[String], several: bool, damaged: &[PathBuf]) -> String {
    let list = known.join(", ");
    let text = match (several, known) {
        (true, _) => format!("several domains are called {asked}: {list}"),
        (false, []) => format!("there is no domain {asked}: no domain is known by name yet"),
        (false, _) => format!("there is no domain {asked}: the domains that are known are {list}"),
    };
    if damaged.is_empty() || several {
        return text;
    }
    let damaged: Vec<String> = damaged.iter().map(|it| it.display().to_string()).collect();
    format!("{text}; or its record is one that cannot be understood: {}", damaged.join(", "))
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) }
}

fn gone_text(gone: &Option<String>) -> String {
    gone.as_ref()
        .map(|why| format!(", which cannot be reached ({why}) and holds it all the same"))
        .unwrap_or_default()
}

fn holder_text(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another command".to_owned(),
        |pid| format!("another command (process {pid})"),
    )
}

fn failed_text(step: &Step, cause: &Error, undone: &[Step], not_undone: &[NotUndone]) -> String {
    let mut text = format!("could not {step}: {}", cause.beside_its_step());
    if !undone.is_empty() {
        let undone: Vec<String> = undone.iter().map(Step::to_string).collect();
        text += &format!("; taken back: {}", undone.join(", "));
    }
    if !not_undone.is_empty() {
        let left: Vec<String> = not_undone.iter().map(NotUndone::to_string).collect();
        text += &format!("; could not be taken back, and is still so: {}", left.join(", "));
    }
    text
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        Error::Refused(refused.refusal)
    }
}
