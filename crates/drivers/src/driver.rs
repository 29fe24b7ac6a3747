//! The trait that all drivers have in common, and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use thiserror::Error;
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::refusal::Category;
use vusb_model::selector::BusAddress;
use vusb_model::spec::Spec;

/// A domain's hypervisor.
pub trait Driver {
    /// What the guest has at this moment, whoever gave it.
    ///
    /// `recorded` is what was recorded of the domain (or nothing): a controller or device that is still there keeps the
    /// index and the name that it has in the record. What is new gets the lowest free index, and its name from the
    /// hypervisor's id for it or as the default would be.
    ///
    /// # Errors
    /// The hypervisor cannot be reached, does not answer in time, or answers what cannot be understood.
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error>;

    /// What this guest can be given. With `needed`, a driver may take for granted what it would have to ask about, as long as
    /// [`Driver::check`] asks before the steps that come of that spec are taken: a question takes time, and most requests are for
    /// what every hypervisor has. Without, everything is asked.
    ///
    /// # Errors
    /// As [`Driver::observe`].
    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error>;

    /// Finds out whether the driver knows how to take these steps, as far as that can be known without taking them. Nothing
    /// is touched. To be called after [`Driver::observe`].
    ///
    /// # Errors
    /// [`Error::NotImplemented`] or [`Error::Missing`] for the first step that it does not.
    fn check(&mut self, steps: &[Step]) -> Result<(), Error>;

    /// Takes one step and waits until it is done: added means that the hypervisor has it, removed means that the guest has
    /// let go of it. To be called after [`Driver::observe`].
    ///
    /// # Errors
    /// The step was not taken; the hardware is as before, unless the error says that this is not known
    /// ([`Error::is_uncertain`]).
    fn perform(&mut self, step: &Step) -> Result<(), Error>;

    /// Takes all of these steps at once, where the driver can: all are taken, or none is. `None` where it takes them one by one.
    fn perform_all(&mut self, steps: &[Step]) -> Option<Result<(), Error>> {
        let _ = steps;
        None
    }

    /// The rules by which the domain's own tool fills what is left open, where it has any. To be called after [`Driver::observe`].
    fn profile(&self) -> Option<Profile> {
        None
    }

    /// What the domain's own tool calls it, where a record does not say it. To be called after [`Driver::observe`].
    fn called(&self) -> Option<String> {
        None
    }

    /// The backend domain that `asked` names, as [`Driver::observe`] says it; `None` is domain 0. To be called after that.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such domain.
    fn backend(&mut self, asked: &str) -> Result<Option<String>, Error> {
        Ok(Some(asked.to_owned()))
    }
}

/// What a guest has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The hardware.
    pub hardware: Hardware,
    /// What was made by vusb, and not by the command line or another tool: names of controllers and devices.
    pub ours: BTreeSet<Name>,
    /// The state of each device. One that is not named is attached.
    pub states: BTreeMap<Address, DeviceState>,
    /// For a host device, where it was plugged in when it was given to the guest.
    pub given: BTreeMap<Address, BusAddress>,
    /// USB controllers that vusb has no model for: they are shown and left alone.
    pub foreign: Vec<Foreign>,
    /// The controllers that are there and carry nothing any more, each with the reason: they have to be made anew.
    pub broken: BTreeMap<Index, String>,
    /// What a controller has carried so far, where that is counted.
    pub counters: BTreeMap<Index, Counters>,
    /// What else a person should know, each a sentence.
    pub notes: Vec<String>,
}

/// What a controller has carried since the guest connected to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transfers that the guest asked for.
    pub requests: u64,
    /// Bytes that devices sent to the guest.
    pub bytes_in: u64,
    /// Bytes that the guest sent to devices.
    pub bytes_out: u64,
    /// Transfers that failed.
    pub errors: u64,
    /// Transfers that have not ended yet.
    pub in_flight: u64,
}

impl Counters {
    /// Reads `requests=N bytes-in=N bytes-out=N errors=N in-flight=N`. What is not known is passed over; `None` if one of these is not
    /// there.
    pub(crate) fn parse(text: &str) -> Option<Counters> {
        let value = |key: &str| {
            let mut words = text.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
        };
        Some(Counters {
            requests: value("requests")?,
            bytes_in: value("bytes-in")?,
            bytes_out: value("bytes-out")?,
            errors: value("errors")?,
            in_flight: value("in-flight")?,
        })
    }
}

/// Whether the guest sees the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It does.
    Attached,
    /// It does not: the device has its port, but the thing behind it is not there (an unplugged host device, a redirection
    /// that nobody is connected to).
    Absent,
    /// It was told of the device, and has not taken it yet.
    Offered,
    /// It does not run: it will, when it is started.
    Configured,
}

impl fmt::Display for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceState::Attached => "attached",
            DeviceState::Absent => "absent",
            DeviceState::Offered => "offered",
            DeviceState::Configured => "configured",
        })
    }
}

/// A USB controller that vusb has no model for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What the hypervisor calls it.
    pub driver: String,
    /// The hypervisor's id for it; empty if it has none.
    pub id: String,
    /// What is plugged into it: port and the hypervisor's name for each.
    pub devices: Vec<(String, String)>,
}

/// Why a driver did not do what it was told.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The hypervisor cannot be reached, or went away.
    #[error("{domain} cannot be reached: {why}")]
    Unreachable {
        /// The domain, as the user named it.
        domain: String,
        /// Why, and what to do.
        why: String,
        /// Whether it went away in the middle of a step, so that the step may have been taken.
        midway: bool,
    },
    /// The hypervisor, or the guest, did not do it in time.
    #[error("{what} took longer than {} s: {why}", .limit.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// Why that may be, and what to do.
        why: String,
    },
    /// This hypervisor cannot do it.
    #[error("{what}: not implemented by {by}: {why}")]
    NotImplemented {
        /// What was asked for.
        what: String,
        /// The hypervisor.
        by: String,
        /// Why it cannot, and what to do.
        why: String,
    },
    /// The controller does not take the device at any speed that it can be had at here.
    #[error("{what} does not fit: {why}")]
    WrongSpeed {
        /// The device.
        what: String,
        /// Why, and what would take it.
        why: String,
    },
    /// Something that the step needs is not there.
    #[error("{what} is not there: {why}")]
    Missing {
        /// What is missing.
        what: String,
        /// Why, and what to do.
        why: String,
    },
    /// The hypervisor or the guest said no.
    #[error("{what} failed: {why}")]
    Failed {
        /// What was tried.
        what: String,
        /// What was answered.
        why: String,
    },
    /// A configuration cannot be read, or says what cannot be.
    #[error("{message}")]
    Text {
        /// What is wrong and where, in several lines.
        message: String,
        /// What sort of refusal it is, if it is one; else the text itself is wrong.
        category: Option<Category>,
    },
    /// The hypervisor says what cannot be understood.
    #[error("{domain} says what cannot be understood: {why}")]
    Confused {
        /// The domain.
        domain: String,
        /// What it says.
        why: String,
    },
}

impl Error {
    /// Whether the step may have been taken all the same, now or later, so that one must look.
    pub const fn is_uncertain(&self) -> bool {
        matches!(self, Error::TimedOut { .. } | Error::Unreachable { midway: true, .. })
    }
}
