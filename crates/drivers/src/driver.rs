//! The trait of all drivers, and its results.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use thiserror::Error;
use vusb_formats::HostNaming;
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::Capabilities;
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::refusal::Category;
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::selector::BusAddress;
use vusb_model::spec::Spec;

use crate::identity::GuestIdentity;

/// A domain's hypervisor.
pub trait Driver: Send {
    /// What the guest has now, whoever created it.
    ///
    /// `recorded` is the recorded hardware of the domain, empty if there is no record: a controller
    /// or device that still exists keeps its recorded index and name. A new one gets the lowest
    /// free index; its name comes from the hypervisor's ID for it, or is the default.
    ///
    /// # Errors
    /// The hypervisor cannot be reached, does not reply in time, or its reply is unexpected.
    fn observe(&mut self, recorded: &Hardware) -> Result<Observed, Error>;

    /// What this guest can be given. With `needed`, a driver may assume support instead of querying
    /// it, if [`Driver::check`] queries it before the steps for that spec are taken: a query takes
    /// time, and most requests are for what every hypervisor has. Without `needed`, everything is
    /// queried.
    ///
    /// # Errors
    /// As [`Driver::observe`].
    fn capabilities(&mut self, needed: Option<&Spec>) -> Result<Capabilities, Error>;

    /// Checks that the driver can take these steps, as far as that can be known without taking
    /// them. Changes nothing. To be called after [`Driver::observe`].
    ///
    /// # Errors
    /// Why the first step that it cannot take is refused: mostly [`Error::NotImplemented`] or
    /// [`Error::Missing`]. As [`Driver::observe`], if the hypervisor has to be asked.
    fn check(&mut self, steps: &[Step]) -> Result<(), Error>;

    /// Takes one step and waits for its end: an item is added once the hypervisor has it, and
    /// removed once the guest has released it. To be called after [`Driver::observe`].
    ///
    /// # Errors
    /// The step was not taken and the hardware is as before, unless [`Error::is_uncertain`].
    fn perform(&mut self, step: &Step) -> Result<(), Error>;

    /// Why the device, which vusb manages, could not be plugged in again exactly as it is now;
    /// `None` if it could. To be called after [`Driver::observe`].
    fn not_restorable(&self, device: &Device) -> Option<String> {
        let _ = device;
        None
    }

    /// Removes the back ends (an open image, a listening socket) that these devices of vusb have
    /// left in the hypervisor. The guest no longer has the devices: an interrupted step or another
    /// client removed them. A back end that does not exist is not an error. To be called after
    /// [`Driver::observe`].
    ///
    /// # Errors
    /// One of them cannot be removed, or the hypervisor does not reply.
    fn remove_backends(&mut self, devices: &[Device]) -> Result<(), Error> {
        let _ = devices;
        Ok(())
    }

    /// How to take several steps at once. `None` if the driver takes them one by one. To be called
    /// after [`Driver::observe`].
    fn all_at_once(&mut self) -> Option<&mut dyn AllAtOnce> {
        None
    }

    /// The profile of the domain's own tool, if it has one. To be called after [`Driver::observe`].
    fn profile(&self) -> Option<Profile> {
        None
    }

    /// The guest's name in its own tool, for a domain without a recorded name. To be called after
    /// [`Driver::observe`].
    fn guest_name(&self) -> Option<String> {
        None
    }

    /// Which guest this is, whatever address was used. `None` if it cannot be told apart from
    /// others. To be called after [`Driver::observe`].
    fn identity(&mut self) -> Option<GuestIdentity> {
        None
    }

    /// How the domain's own tool names host devices.
    fn host_naming(&self) -> HostNaming {
        HostNaming::Durable
    }

    /// The canonical name of the backend domain that `requested` names, as [`Driver::observe`]
    /// returns it; `None` is this machine. To be called after [`Driver::observe`].
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such domain; or as [`Driver::observe`].
    fn backend(&mut self, requested: &str) -> Result<Option<String>, Error> {
        Ok(Some(requested.to_owned()))
    }
}

/// A driver that takes several steps as one change, such as the edit of a file.
pub trait AllAtOnce {
    /// Takes all of these steps, or none of them. To be called after [`Driver::observe`].
    ///
    /// # Errors
    /// None of the steps was taken.
    fn perform_all(&mut self, steps: &[Step]) -> Result<(), Error>;
}

/// The observed hardware of a guest, with its state.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The hardware.
    pub hardware: Hardware,
    /// The names of the controllers and devices that vusb created, rather than the hypervisor's
    /// command line or another tool.
    pub ours: BTreeSet<Name>,
    /// The states of devices. Devices without an entry are attached.
    pub states: BTreeMap<Address, DeviceState>,
    /// The bus and address that host devices had when they were attached.
    pub given: BTreeMap<Address, BusAddress>,
    /// The terminals of this machine that are the other end of a serial adapter: `/dev/pts/3`.
    pub terminals: BTreeMap<Address, String>,
    /// USB controllers that have no model. They are listed and not touched.
    pub foreign: Vec<Foreign>,
    /// The disconnected controllers, each with the reason. They have to be recreated.
    pub broken: BTreeMap<Index, String>,
    /// The traffic of each controller that counts it.
    pub counters: BTreeMap<Index, Counters>,
    /// Further notes for the user, each a sentence.
    pub notes: Vec<String>,
    /// The controllers that the guest does not have before its next start.
    pub configured: BTreeSet<Index>,
    /// Whether the guest does not run. Its hardware is then what it starts with.
    pub off: bool,
}

/// A controller's traffic since the guest connected to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transfers that the guest requested.
    pub requests: u64,
    /// Bytes from devices to the guest.
    pub bytes_in: u64,
    /// Bytes from the guest to devices.
    pub bytes_out: u64,
    /// Transfers that failed.
    pub errors: u64,
    /// Transfers in flight.
    pub in_flight: u64,
}

/// Whether the guest sees the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// The guest sees it.
    Attached,
    /// It has its port, but nothing is behind it: the host device is unplugged, or a redirection
    /// has no peer.
    Absent,
    /// The guest was notified of it and has not taken it yet.
    Offered,
    /// The guest does not have it before its next start.
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

/// A USB controller that has no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The hypervisor's name for its type.
    pub driver: String,
    /// The hypervisor's ID for it; empty if it has none.
    pub id: String,
    /// Its devices: the port and the hypervisor's name of each.
    pub devices: Vec<(String, String)>,
}

/// Why a driver failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The hypervisor cannot be reached, or the connection was lost.
    #[error("cannot reach {domain}: {why}")]
    Unreachable {
        /// The domain, as it was addressed.
        domain: String,
        /// Why.
        why: Reason,
        /// Whether a step was under way, so that it may have been taken.
        midway: bool,
    },
    /// The hypervisor does not let this user do it.
    #[error("no access to {domain}: {why}")]
    Denied {
        /// The domain, as it was addressed.
        domain: String,
        /// Why.
        why: Reason,
    },
    /// Another program uses the hypervisor's interface, which serves one program at a time.
    #[error("{domain} is busy: {why}")]
    Busy {
        /// The domain, as it was addressed.
        domain: String,
        /// Who uses it, and what to do.
        why: Reason,
    },
    /// Another process has locked a file that the step needs.
    #[error("{what} failed: {why}")]
    Locked {
        /// What was tried.
        what: String,
        /// The response, and who has locked the file.
        why: Reason,
    },
    /// The hypervisor or the guest did not respond in time.
    #[error("{what} timed out after {} s: {why}", .limit.as_secs_f32())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The limit.
        limit: Duration,
        /// The likely reason.
        why: Reason,
    },
    /// This hypervisor cannot do it.
    #[error("{what}: not implemented by {by}: {why}")]
    NotImplemented {
        /// What was requested.
        what: String,
        /// The hypervisor.
        by: String,
        /// Why it cannot.
        why: Reason,
    },
    /// The controller does not accept the device at any of the speeds that are possible here.
    #[error("{what} does not fit: {why}")]
    WrongSpeed {
        /// The device.
        what: String,
        /// Why.
        why: Reason,
    },
    /// Something that the step needs is missing.
    #[error("{what} is not there: {why}")]
    Missing {
        /// What is missing.
        what: String,
        /// Why.
        why: Reason,
    },
    /// The hypervisor or the guest refused.
    #[error("{what} failed: {why}")]
    Failed {
        /// What was tried.
        what: String,
        /// The response.
        why: Reason,
    },
    /// A configuration cannot be parsed, or asks for something impossible.
    #[error("{message}")]
    Text {
        /// What is wrong and where. May have several lines.
        message: String,
        /// The category of the refusal; `None` if the text cannot be parsed.
        category: Option<Category>,
        /// What the caller can do about it.
        remedies: Vec<Remedy>,
    },
    /// The hypervisor's response is unexpected.
    #[error("unexpected response from {domain}: {why}")]
    Confused {
        /// The domain.
        domain: String,
        /// What is unexpected.
        why: Reason,
    },
}

impl Error {
    /// What the caller can do about it.
    pub fn remedies(&self) -> &[Remedy] {
        match self {
            Error::Unreachable { why, .. }
            | Error::Denied { why, .. }
            | Error::Busy { why, .. }
            | Error::Locked { why, .. }
            | Error::TimedOut { why, .. }
            | Error::NotImplemented { why, .. }
            | Error::WrongSpeed { why, .. }
            | Error::Missing { why, .. }
            | Error::Failed { why, .. }
            | Error::Confused { why, .. } => &why.remedies,
            Error::Text { remedies, .. } => remedies,
        }
    }

    /// Whether the step may have been taken, or may still be taken: the domain has to be observed.
    pub const fn is_uncertain(&self) -> bool {
        matches!(self, Error::TimedOut { .. } | Error::Unreachable { midway: true, .. })
    }
}
