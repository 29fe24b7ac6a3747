//! Errors: what happened, its kind, and what the caller can do.
//!
//! An error's text says what happened and why. [`Error::advice`] is what only a person can do;
//! [`Error::remedies`] is what a program can do as well. User interfaces put these values into
//! words. [`Error::exit_code`] is the kind of an error, and the exit code of a command that fails
//! with it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vusb_drivers::AddressError;
use vusb_host::{HostError, NodeError, SelectError};
use vusb_model::diff::Step;
use vusb_model::list::few;
use vusb_model::name::Name;
use vusb_model::refusal::{Category, Refusal};
use vusb_model::remedy::Remedy;
use vusb_model::resolve::Refused;
use vusb_model::rules::RuleName;
use vusb_model::selector::{BusId, Selector};

use crate::advice::Advice;

/// The kind of a result, and the exit code of a command that ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or nothing had to be done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The request is invalid.
    Usage = 2,
    /// Something that the request names does not exist.
    NotFound = 3,
    /// Something is in use, claimed or locked.
    Busy = 4,
    /// Refused by policy, always or without force.
    Policy = 5,
    /// No free port, or none that supports the speed.
    NoRoom = 6,
    /// The hypervisor cannot be reached.
    Unreachable = 7,
    /// It took too long.
    TimedOut = 8,
    /// This hypervisor cannot do it.
    NotImplemented = 9,
}

impl ExitCode {
    /// The exit code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of several results: the one that all failures have in common, or
    /// [`ExitCode::Failed`]; [`ExitCode::Done`] if there is no failure.
    pub fn of_all(kinds: impl IntoIterator<Item = ExitCode>) -> ExitCode {
        let mut failures = kinds.into_iter().filter(|it| *it != ExitCode::Done);
        let Some(first) = failures.next() else { return ExitCode::Done };
        if failures.all(|it| it == first) { first } else { ExitCode::Failed }
    }

    /// A word for the kind, for scripts: `not-found`.
    pub const fn word(self) -> &'static str {
        match self {
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
}

/// A step that could not be undone.
#[derive(Clone, Debug, PartialEq)]
pub struct NotUndone {
    /// The step, which is still in effect.
    pub step: Step,
    /// Why it could not be undone.
    pub why: String,
}

impl fmt::Display for NotUndone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.why)
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is invalid.
    #[error("{problem}")]
    Usage {
        /// What is wrong with it.
        problem: String,
        /// What a person can do instead.
        advice: Option<Advice>,
        /// What the caller can do instead.
        remedies: Vec<Remedy>,
    },
    /// No domain has this name, or several do.
    #[error("{}", domain_text(.requested, .known, *.several, .damaged))]
    NoSuchDomain {
        /// The requested name.
        requested: String,
        /// The known domains, or those that share the name.
        known: Vec<String>,
        /// Whether several domains have the name.
        several: bool,
        /// Records that cannot be read; the domain's may be among them.
        damaged: Vec<PathBuf>,
        /// The forms of addresses: `qemu:SOCKET`.
        addresses: Vec<String>,
    },
    /// The domain has no such device.
    #[error("{domain} has no device {requested}: {}", known_text(.known))]
    NoSuchDevice {
        /// The domain.
        domain: String,
        /// The requested device.
        requested: String,
        /// The domain's devices, each as `name (location)`.
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
    /// The request is impossible. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The driver failed before this call began its own steps, or it refused all of them at once.
    /// If this call was finishing an interrupted change, the next call continues with that change.
    #[error(transparent)]
    Driver(#[from] vusb_drivers::Error),
    /// A step failed, or the call was cancelled or its deadline passed; the steps before it were
    /// undone, as far as possible.
    #[error("{}", failed_text(.step, .cause, *.unknown, .undone, .not_undone, .unrecorded.as_deref()))]
    Failed {
        /// The step that failed; if none did, the one at which the call stopped.
        step: Box<Step>,
        /// Why.
        #[source]
        cause: Box<Error>,
        /// Whether it is unknown if the failed step is in effect, because the hypervisor does not
        /// reply. The next call finds out, and undoes it.
        unknown: bool,
        /// The steps that were undone.
        undone: Vec<Step>,
        /// The steps that could not be undone and are still in effect.
        not_undone: Vec<NotUndone>,
        /// Why the result of the undo could not be recorded, if it could not.
        unrecorded: Option<Box<Error>>,
    },
    /// All steps were taken and are in effect, but could not be recorded. The next call records
    /// them.
    #[error("{}, but that could not be recorded: {cause}", effects_text(.steps))]
    NotRecorded {
        /// The steps.
        steps: Vec<Step>,
        /// Why they could not be recorded.
        #[source]
        cause: Box<Error>,
    },
    /// The caller cancelled the call.
    #[error("cancelled")]
    Cancelled,
    /// The deadline of the whole call has passed.
    #[error("the deadline of the whole command has passed")]
    DeadlineExceeded,
    /// The selector matches no device of this machine, or it matches several devices.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The selector matches no device of a backend domain.
    #[error("no USB device of the backend domain {domain} is `{selector}`: plug it in there")]
    AbsentInBackend {
        /// The selector.
        selector: Selector,
        /// The backend domain.
        domain: String,
    },
    /// The devices of this machine cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A node in `/dev` does not lead to a host device.
    #[error(transparent)]
    Node(NodeError),
    /// The host device is a hub, which is never attached to a guest.
    #[error("{device} is a hub, and no hypervisor passes hubs through")]
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
    /// A rule of this machine denies the domain the device.
    #[error("{device} may not be given to {domain}: the rule `{rule}` denies it{}", file_text(.file))]
    DeniedByRule {
        /// The device.
        device: String,
        /// The port that it is plugged into.
        port: BusId,
        /// The domain.
        domain: String,
        /// The rule.
        rule: RuleName,
        /// The file of the rule and the line there, if it is from a file.
        file: Option<String>,
        /// Whether force cannot override it.
        is_final: bool,
    },
    /// Rule files have mistakes.
    #[error("{}", mistakes.join("\n\n"))]
    Rules {
        /// The mistakes, each in one or several lines.
        mistakes: Vec<String>,
    },
    /// Something that vusb does not manage uses the host device, or may take it.
    #[error("{device} is in use by {by}")]
    InUse {
        /// The device.
        device: String,
        /// Who uses it, for people: programs, another machine, or a guest, for instance one whose
        /// configuration or command line names it.
        by: String,
    },
    /// The device is to be moved, but another tool created it.
    #[error(
        "{device} of {domain} was created by another tool, and could not be restored exactly if the \
         move failed"
    )]
    OtherTools {
        /// The device's name.
        device: Name,
        /// The domain.
        domain: String,
    },
    /// An image that is declared raw begins or ends like an image of another format: it is one, or
    /// a guest has written that into its disk.
    #[error(
        "{} is to be attached as a raw disk but is marked as a {format} image: either it is one, and the guest would see the container, \
         or a guest has written this mark into its raw disk",
        path.display()
    )]
    ForeignHeader {
        /// The image.
        path: PathBuf,
        /// The format: `qcow2`, `VMDK`.
        format: &'static str,
    },
    /// An image that is declared raw has the file name extension of a format that vusb does not
    /// support.
    #[error(
        "{} is to be attached as a raw disk, and its name ends in {ending}: vusb attaches raw and qcow2 images",
        path.display()
    )]
    UnknownImage {
        /// The image.
        path: PathBuf,
        /// The extension: `.vmdk`.
        ending: &'static str,
    },
    /// An image refers to files that are not beside it.
    #[error("{} refers to files that are not beside it: {}", path.display(), few(refers))]
    RefersElsewhere {
        /// The image.
        path: PathBuf,
        /// The files and what would be done with them, or why it is unknown what the image refers
        /// to.
        refers: Vec<String>,
    },
    /// A device is to be replaced or moved, and could not be restored if a later step failed.
    #[error("{device} is to be replaced, and could not be restored if that failed: {why}")]
    NotRestorable {
        /// The device's name.
        device: Name,
        /// Why it could not be restored.
        why: String,
    },
    /// Another domain holds the device or image.
    #[error("{what} is held by {holder}{}{}", holder_gone_text(.gone), recorded_text(.recorded))]
    Claimed {
        /// The requested device or image.
        what: String,
        /// The domain that holds it, with the device's name and location there.
        holder: String,
        /// That domain's name or address.
        domain: String,
        /// The device's name there.
        device: Name,
        /// Why the holder is unreachable, if its guest has ended. It still holds the device.
        gone: Option<String>,
        /// The requesting domain and the device's name there, if its record has the device too: the
        /// holder got it after the guest of that domain had ended.
        recorded: Option<(String, Name)>,
    },
    /// A claim cannot be used.
    #[error("the claim {} cannot be used: {why}", path.display())]
    Claim {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Other users can replace files in one of vusb's folders.
    #[error("the folder {} is not safe to use: {why}", path.display())]
    UnsafeFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A device that is plugged in is not the one that the domain was given: another one has its
    /// port, or matches its selector.
    #[error("{found} at {port} is not {device}, which was given as {given}")]
    OtherDevice {
        /// The device's name in the domain.
        device: Name,
        /// What the domain was given: ids and serial number, or else the selector.
        given: String,
        /// What is plugged in: ids and serial number.
        found: String,
        /// The port that it is plugged into.
        port: BusId,
    },
    /// Several devices of the domain match.
    #[error("{domain} has several devices that match {requested}: {}", few(matching))]
    AmbiguousDevice {
        /// The domain.
        domain: String,
        /// The requested device.
        requested: String,
        /// The devices, each as `name (location)`.
        matching: Vec<String>,
    },
    /// The spec and the domain have different names.
    #[error("{domain} is named {name}, and the spec is for {requested}")]
    OtherName {
        /// The domain's address.
        domain: String,
        /// Its name.
        name: String,
        /// The name in the spec.
        requested: String,
    },
    /// Another domain has the name.
    #[error("{domain} is already named {name}{}", ended_text(*.gone))]
    NameInUse {
        /// The name.
        name: Name,
        /// The address of the domain that has it.
        domain: String,
        /// Whether that domain's guest has ended.
        gone: bool,
    },
    /// There is no record of the domain.
    #[error("there is no record of {domain}")]
    NoRecord {
        /// The domain's address.
        domain: String,
    },
    /// The domain already has a record.
    #[error("{domain} already has a record")]
    RecordExists {
        /// The domain's address.
        domain: String,
    },
    /// A file is not an exported record.
    #[error("{} is not an exported record: {why}", path.display())]
    NotExported {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The guest of a record that is to be deleted may still run.
    #[error("{domain} {}", runs_text(.why))]
    StillRuns {
        /// The domain's name or address.
        domain: String,
        /// Why it is unknown whether it runs; `None` if it runs.
        why: Option<String>,
    },
    /// A file or folder does not exist.
    #[error("{} does not exist", path.display())]
    NoSuchFile {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder is of the wrong type.
    #[error("{} is {is}; {needed} is needed", path.display())]
    WrongFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        is: &'static str,
        /// What is needed.
        needed: &'static str,
    },
    /// The format of a file is unknown.
    #[error("{}: the format is not recognized; the formats are {}", path.display(), known.join(", "))]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The names of the known formats.
        known: Vec<String>,
    },
    /// A lock could not be taken in time, or the hypervisor did not reply while another command
    /// held the lock.
    #[error("timed out after {} s waiting for {what} ({})", .waited.as_secs_f32(), lock_holder_text(*.pid))]
    Busy {
        /// The lock: `the lock of qemu:/run/web1.qmp`, `the claims lock` (of a state directory) or
        /// `the lock of all claims` (of the machine).
        what: String,
        /// The process that holds it, if known.
        pid: Option<u32>,
        /// How long the call waited.
        waited: Duration,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `lock`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A record cannot be parsed. It is never overwritten.
    #[error("the record {} is damaged: {why}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A format cannot express everything that is to be written in it.
    #[error("the format {to} cannot express: {}", lost.join("; "))]
    Lossy {
        /// The format.
        to: String,
        /// What it cannot express, each a sentence.
        lost: Vec<String>,
        /// What the caller can do.
        remedies: Vec<Remedy>,
    },
    /// Guests of this scheme, or of all registered schemes, are not started with arguments.
    #[error("{} are not started with command line arguments", guests_text(.scheme))]
    NoStartArguments {
        /// The scheme; `None` if no registered scheme has such guests.
        scheme: Option<String>,
    },
    /// There is no such scheme; its guests cannot be watched; it needs folders and none are
    /// specified; or folders are specified and it does not use any.
    #[error("guests of `{scheme}` cannot be watched, or only in specified folders")]
    NotWatchable {
        /// The scheme.
        scheme: String,
    },
    /// A config cannot be parsed.
    #[error("{message}")]
    Spec {
        /// The file, or what the text is called.
        origin: String,
        /// What is wrong and where, in several lines.
        message: String,
        /// What the caller can do.
        remedies: Vec<Remedy>,
    },
}

impl Error {
    /// An invalid request.
    pub(crate) fn usage(problem: impl Into<String>, advice: Advice) -> Error {
        Error::Usage { problem: problem.into(), advice: Some(advice), remedies: Vec::new() }
    }

    /// A failed access to `path`.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { doing, path: path.into(), source }
    }

    /// Whether its text shows a position in a file, in several lines.
    pub const fn shows_source(&self) -> bool {
        matches!(
            self,
            Error::Spec { .. }
                | Error::Rules { .. }
                | Error::Driver(vusb_drivers::Error::Text { .. })
        )
    }

    /// Its kind.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Error::Usage { .. }
            | Error::WrongFile { .. }
            | Error::NotExported { .. }
            | Error::UnknownFormat { .. }
            | Error::Spec { .. }
            | Error::Rules { .. }
            | Error::AmbiguousDevice { .. }
            | Error::Select(SelectError::Ambiguous { .. }) => ExitCode::Usage,
            Error::NoSuchDomain { .. }
            | Error::Node(_)
            | Error::NoSuchDevice { .. }
            | Error::NoRecord { .. }
            | Error::AbsentInBackend { .. }
            | Error::NoSuchFile { .. }
            | Error::Select(SelectError::Absent { .. }) => ExitCode::NotFound,
            Error::Lossy { .. } | Error::NoStartArguments { .. } | Error::NotWatchable { .. } => {
                ExitCode::NotImplemented
            }
            Error::Refused(refused) => of_category(refused.category()),
            Error::Driver(error) => of_driver(error),
            Error::Failed { cause, .. } | Error::NotRecorded { cause, .. } => cause.exit_code(),
            Error::HostHub { .. }
            | Error::Protected { .. }
            | Error::OtherTools { .. }
            | Error::NotRestorable { .. }
            | Error::DeniedByRule { .. }
            | Error::ForeignHeader { .. }
            | Error::UnknownImage { .. }
            | Error::RefersElsewhere { .. } => ExitCode::Policy,
            Error::Claimed { .. }
            | Error::Busy { .. }
            | Error::InUse { .. }
            | Error::HubInUse { .. }
            | Error::OtherDevice { .. }
            | Error::OtherName { .. }
            | Error::NameInUse { .. }
            | Error::RecordExists { .. }
            | Error::StillRuns { .. } => ExitCode::Busy,
            Error::DeadlineExceeded => ExitCode::TimedOut,
            Error::Cancelled
            | Error::Host(_)
            | Error::Io { .. }
            | Error::Record { .. }
            | Error::UnsafeFolder { .. }
            | Error::Claim { .. } => ExitCode::Failed,
        }
    }

    /// What a person can do. Empty if the error's text or [`Error::remedies`] already cover it.
    pub fn advice(&self) -> Vec<Advice> {
        match self {
            Error::Usage { advice, .. } => advice.iter().cloned().collect(),
            Error::NoSuchDomain { addresses, .. } => {
                vec![Advice::NameDomain { addresses: addresses.clone() }]
            }
            Error::NoSuchDevice { .. } => vec![Advice::NameDevice],
            Error::Failed { cause, not_undone, .. } => {
                let left = (!not_undone.is_empty()).then_some(Advice::CheckDomain);
                cause.advice().into_iter().chain(left).collect()
            }
            Error::NotRecorded { .. } => vec![Advice::RemoveCause],
            Error::Select(SelectError::Absent { .. }) => vec![Advice::PlugIn],
            Error::Node(NodeError::NotUsb { path }) => {
                vec![Advice::UseStorage { path: path.clone() }]
            }
            Error::HubInUse { .. } => vec![Advice::RemoveDevicesBehindHub],
            Error::NotRestorable { device, .. } => {
                vec![Advice::RemoveFirst { device: device.clone() }]
            }
            Error::InUse { .. } => vec![Advice::EndUse],
            Error::OtherDevice { device, found, .. } => {
                vec![Advice::ReplaceDevice { device: device.clone(), found: found.clone() }]
            }
            Error::AmbiguousDevice { .. } => vec![Advice::NameDeviceUniquely],
            Error::HostHub { .. } => vec![Advice::AttachDevicesBehindHub],
            Error::ForeignHeader { format, .. } => {
                vec![Advice::DistrustHeader { format: (*format).to_owned() }, Advice::ConvertToRaw]
            }
            Error::UnknownImage { .. } => vec![Advice::ConvertToRaw],
            Error::RefersElsewhere { .. } => vec![Advice::CheckImage],
            Error::OtherName { .. } => vec![Advice::CorrectSpec],
            Error::NotExported { .. } => vec![Advice::NameExportedRecord],
            Error::NameInUse { .. } => vec![Advice::ChooseAnotherName],
            Error::Busy { .. } => vec![Advice::WaitForProcess],
            Error::Claim { .. } => vec![Advice::DeleteClaim],
            Error::UnsafeFolder { .. } => vec![Advice::UseSafeFolder],
            Error::Record { .. } => vec![Advice::RepairRecord],
            _ => Vec::new(),
        }
    }

    /// What the caller can do, as values.
    pub fn remedies(&self) -> Vec<Remedy> {
        match self {
            Error::Usage { remedies, .. }
            | Error::Lossy { remedies, .. }
            | Error::Spec { remedies, .. } => remedies.clone(),
            Error::NoSuchDomain { .. } => vec![Remedy::ListDomain],
            Error::Refused(refused) => refused.remedies(),
            Error::Driver(error) => error.remedies().to_vec(),
            Error::Failed { cause, not_undone, .. } => {
                let mut remedies = cause.remedies();
                if !not_undone.is_empty() && !remedies.contains(&Remedy::ListDomain) {
                    remedies.push(Remedy::ListDomain);
                }
                remedies
            }
            Error::Select(error) => error.remedies(),
            Error::Node(_) => vec![Remedy::ListHost { backend: None }],
            Error::AbsentInBackend { domain, .. } => {
                vec![Remedy::ListHost { backend: Some(domain.clone()) }]
            }
            Error::HubInUse { .. }
            | Error::Protected { .. }
            | Error::OtherTools { .. }
            | Error::InUse { .. }
            | Error::NotRestorable { .. }
            | Error::ForeignHeader { .. }
            | Error::UnknownImage { .. }
            | Error::RefersElsewhere { .. }
            | Error::OtherName { .. }
            | Error::RecordExists { .. }
            | Error::StillRuns { .. } => vec![Remedy::Force],
            Error::DeniedByRule { port, domain, is_final, .. } => {
                let explain = Remedy::Explain { device: port.clone(), domain: domain.clone() };
                let force = (!is_final).then_some(Remedy::Force);
                std::iter::once(explain).chain(force).collect()
            }
            Error::NoRecord { .. } => vec![Remedy::ListDomains],
            Error::NameInUse { domain, gone, .. } => {
                let rename = Remedy::RenameDomain { domain: domain.clone() };
                let forget = gone.then(|| Remedy::ForgetDomain { domain: domain.clone() });
                forget.into_iter().chain([rename]).collect()
            }
            Error::Claimed { domain, device, gone, recorded, .. } => {
                let remove = |domain: &String, device: &Name, forget| Remedy::RemoveDevice {
                    domain: domain.clone(),
                    device: device.clone(),
                    forget,
                };
                let own = recorded.iter().map(|(domain, device)| remove(domain, device, false));
                std::iter::once(remove(domain, device, gone.is_some())).chain(own).collect()
            }
            Error::Busy { .. } | Error::DeadlineExceeded => vec![Remedy::MoreTime],
            _ => Vec::new(),
        }
    }

    /// The error's text without the failed step, for a message that already names the step.
    pub(crate) fn without_step(&self) -> String {
        match self {
            Error::Driver(vusb_drivers::Error::Failed { why, .. }) => why.to_string(),
            other => other.to_string(),
        }
    }

    /// Whether it is unknown if the hypervisor took the step.
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
        vusb_drivers::Error::Denied { .. } => ExitCode::Policy,
        vusb_drivers::Error::Busy { .. } | vusb_drivers::Error::Locked { .. } => ExitCode::Busy,
        vusb_drivers::Error::TimedOut { .. } => ExitCode::TimedOut,
        vusb_drivers::Error::NotImplemented { .. } => ExitCode::NotImplemented,
        vusb_drivers::Error::Missing { .. } => ExitCode::NotFound,
        vusb_drivers::Error::WrongSpeed { .. } => ExitCode::NoRoom,
        vusb_drivers::Error::Text { category: Some(category), .. } => of_category(*category),
        vusb_drivers::Error::Text { category: None, .. } => ExitCode::Usage,
        _ => ExitCode::Failed,
    }
}

fn domain_text(requested: &str, known: &[String], several: bool, damaged: &[PathBuf]) -> String {
    let text = match (several, known) {
        (true, _) => format!("several domains are named {requested}: {}", few(known)),
        (false, []) => format!("there is no domain {requested}: no domain is known by name"),
        (false, _) => {
            format!("there is no domain {requested}: the known domains are {}", few(known))
        }
    };
    if damaged.is_empty() || several {
        return text;
    }
    let damaged: Vec<String> = damaged.iter().map(|it| it.display().to_string()).collect();
    format!("{text}; its record may be one of those that are damaged: {}", few(&damaged))
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", few(known)) }
}

fn holder_gone_text(gone: &Option<String>) -> String {
    gone.as_ref()
        .map(|why| format!(", which is unreachable ({why}) but still holds the claim"))
        .unwrap_or_default()
}

fn recorded_text(recorded: &Option<(String, Name)>) -> String {
    recorded
        .as_ref()
        .map(|(domain, device)| format!(", and is recorded for {domain} (as {device}) too"))
        .unwrap_or_default()
}

fn file_text(file: &Option<String>) -> String {
    file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default()
}

fn guests_text(scheme: &Option<String>) -> String {
    scheme.as_ref().map_or_else(|| "guests".to_owned(), |scheme| format!("guests of `{scheme}`"))
}

const fn ended_text(gone: bool) -> &'static str {
    if gone { ", and its guest has ended" } else { "" }
}

fn runs_text(why: &Option<String>) -> String {
    why.as_ref().map_or_else(|| "is running".to_owned(), |why| format!("may be running: {why}"))
}

fn lock_holder_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "held by another process".to_owned(), |pid| format!("held by pid {pid}"))
}

/// The effects of steps: `stick is plugged in, mouse is unplugged`.
fn effects_text(steps: &[Step]) -> String {
    let effect = |step: &Step| match step {
        Step::AddController(it) => format!("controller {} is added", it.name),
        Step::RemoveController(it) => format!("controller {} is removed", it.name),
        Step::Plug(_, it) => format!("{} is plugged in", it.name),
        Step::Unplug(_, it) => format!("{} is unplugged", it.name),
    };
    few(&steps.iter().map(effect).collect::<Vec<_>>())
}

/// The text of [`Error::Failed`].
fn failed_text(
    step: &Step,
    cause: &Error,
    unknown: bool,
    undone: &[Step],
    not_undone: &[NotUndone],
    unrecorded: Option<&Error>,
) -> String {
    let mut text = match cause {
        // No step failed: the caller cancelled the call.
        Error::Cancelled => cause.to_string(),
        _ => format!("could not {step}: {}", cause.without_step()),
    };
    if unknown {
        text +=
            "; it is unknown whether that step is in effect: the next command undoes it if it is";
    }
    if !undone.is_empty() {
        let undone: Vec<String> = undone.iter().map(Step::to_string).collect();
        text += &format!("; undone: {}", undone.join(", "));
    }
    if !not_undone.is_empty() {
        let left: Vec<String> = not_undone.iter().map(NotUndone::to_string).collect();
        text += &format!("; could not be undone and is still in effect: {}", left.join(", "));
    }
    if let Some(why) = unrecorded {
        text += &format!("; that could not be recorded: {why}");
    }
    text
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal.into())
    }
}

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Error {
        match error {
            NodeError::Host(error) => Error::Host(error),
            error => Error::Node(error),
        }
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Error {
        Error::usage(error.problem, Advice::Write { form: error.expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_shows_five_and_a_count() {
        let names: Vec<String> = (0..9).map(|it| format!("web{it}")).collect();
        assert_eq!(few(&names[..5]), "web0, web1, web2, web3, web4");
        assert_eq!(few(&names), "web0, web1, web2, web3, web4 and 4 more");
    }

    #[test]
    fn several_results_have_the_kind_that_all_failures_have_in_common() {
        use ExitCode::{Busy, Done, Failed, Policy};
        for (kinds, expected) in [
            (&[][..], Done),
            (&[Done, Done], Done),
            (&[Done, Busy], Busy),
            (&[Busy, Done, Busy], Busy),
            (&[Busy, Policy], Failed),
        ] {
            assert_eq!(ExitCode::of_all(kinds.iter().copied()), expected, "{kinds:?}");
        }
    }
}
