//! What a driver registers: an address scheme.
//!
//! ```text
//!  "qemu:/run/web1.qmp" ──parse──▶ operand ──canonical──▶ operand ──open──▶ Driver
//!                                                            │              └──identity──▶ which guest it is
//!                                                            │ what the record is filed under
//!                                                            └──is_gone(error)──▶ whether the guest has ended
//! ```
//!
//! The library above the drivers knows schemes by this trait only. To add a hypervisor, implement
//! [`Scheme`] and [`Driver`], and register the scheme ([`Registry`](crate::Registry)).

use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use vusb_formats::config::Config;
use vusb_host::{Host, HostDevice};
use vusb_model::models::Model;
use vusb_model::resolve::Resolved;
use vusb_model::selector::Selector;

use crate::driver::{Driver, Error};
use crate::identity::GuestIdentity;
use crate::limits::Limits;
use crate::support::{ModelFacts, Survey};

/// A guest that runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningGuest {
    /// The operand of its address; `None` if no address reaches it: a QEMU without a QMP socket.
    pub operand: Option<String>,
    /// Its name in its own tool.
    pub name: Option<String>,
    /// The tool that started it, if it can be recognized: `libvirt`.
    pub manager: Option<&'static str>,
    /// Which guest it is, as [`Driver::identity`].
    pub identity: Option<GuestIdentity>,
    /// Its UUID, as its manager and its hypervisor both know it: a guest that another scheme also
    /// lists is listed once.
    pub uuid: Option<String>,
    /// Its number: the process ID of a QEMU, the domain ID on Xen, the ID of a domain of libvirt.
    /// 0 if it is unknown.
    pub process: u32,
    /// The USB devices of this machine that its command line names; empty if it has none. The guest
    /// takes any device that matches, even one that is plugged in later. Devices that were detached
    /// since its start are still in the list.
    pub host_devices: Vec<Selector>,
    /// The block devices that its command line names as disks: paths below `/dev`.
    pub disks: Vec<PathBuf>,
    /// The owner of its process, who chose the command line: not every owner is trusted.
    pub owner: GuestOwner,
}

/// A running guest whose tool knows what it has of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredGuest {
    /// The guest, with what its configuration names instead of its command line.
    pub guest: RunningGuest,
    /// Whether that is all it has. Otherwise a part of the configuration could not be read, and
    /// what the command line names counts too.
    pub is_complete: bool,
}

/// The owner of a guest's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestOwner {
    /// The superuser, or a system account with which the machine's own tools run guests.
    System,
    /// Another user, by number.
    User(u32),
    /// Unknown, or a process with the rights of several users: a program that a user has started
    /// with the rights of another one. The user who started it has chosen the command line.
    Unknown,
}

/// An address scheme: how domains are named and opened.
pub trait Scheme: Send + Sync + fmt::Debug {
    /// The word before the colon: `qemu`. Unique in a registry.
    fn name(&self) -> &'static str;

    /// The hypervisor's name for people: `QEMU`.
    fn title(&self) -> &'static str {
        self.name()
    }

    /// The form of an address, for messages: `qemu:SOCKET`.
    fn syntax(&self) -> &'static str;

    /// The operand in `text`, if `text` is an address of this scheme: what follows the colon.
    fn operand<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.strip_prefix(self.name())?.strip_prefix(':')
    }

    /// The address as a user writes it. The inverse of [`Scheme::operand`].
    fn address(&self, operand: &str) -> String {
        format!("{}:{operand}", self.name())
    }

    /// Whether `text`, an address without a scheme, certainly names a domain of this scheme: it is
    /// the path of a QMP socket. Relative paths are relative to `folder`.
    fn is_bare_address(&self, text: &str, folder: &Path) -> bool {
        let _ = (text, folder);
        false
    }

    /// Checks an operand and makes it absolute. Relative paths are relative to `folder`. The
    /// hypervisor is not asked.
    ///
    /// # Errors
    /// The operand cannot name a domain of this scheme.
    fn parse(&self, operand: &str, folder: &Path) -> Result<String, AddressError>;

    /// The operand that stays the same when the guest restarts. Records are filed under it.
    ///
    /// # Errors
    /// The hypervisor is needed for this and cannot be reached, or has no such guest.
    fn canonical(&self, operand: &str, limits: &Limits) -> Result<String, Error> {
        let _ = limits;
        Ok(operand.to_owned())
    }

    /// Opens the driver of a domain. The hypervisor may be connected to later, when it is first
    /// asked something.
    ///
    /// # Errors
    /// The domain cannot be reached.
    fn open(&self, operand: &str, options: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error>;

    /// Whether `error`, from an attempt to reach the domain, means that its guest has ended. If the
    /// hypervisor does not reply, the guest may still run.
    fn is_gone(&self, operand: &str, error: &Error) -> bool;

    /// The operand whose lock protects the domain: the same for all names of one file.
    fn lock_operand(&self, operand: &str) -> String {
        operand.to_owned()
    }

    /// Whether vusb keeps records of these domains. A config file is its own record.
    fn has_records(&self) -> bool {
        true
    }

    /// Whether the hypervisor's tool stores configurations beside the running guests, so that a
    /// change can be for one of the two ([`OpenOptions::when`]).
    fn stores_configurations(&self) -> bool {
        false
    }

    /// Access to the devices of backend domains, where the hypervisor has such domains. Elsewhere a
    /// controller's backend has no meaning, and all devices are those of this machine.
    fn backends(&self) -> Option<&dyn BackendDomains> {
        None
    }

    /// The name of the process that opens this machine's devices for all guests of the scheme, if
    /// there is one, as the kernel shows it (`/proc/PID/comm`). What it has open is covered by
    /// vusb's own records.
    fn device_server(&self) -> Option<&'static str> {
        None
    }

    /// What is installed on this machine, below `root`. At most `limit` is spent. `None` for a
    /// scheme that is not a hypervisor of this machine.
    fn survey(&self, root: &Path, limit: Duration) -> Option<Survey> {
        let _ = (root, limit);
        None
    }

    /// The guests that run on this machine, below `root`, whether vusb knows them or not. At most
    /// `limit` is spent. Empty if there is no such hypervisor, or if it has no such list. The
    /// devices on the command lines may be missing: [`Scheme::named_by_command_lines`] has them.
    ///
    /// # Errors
    /// There is such a hypervisor, but it cannot be asked.
    fn running(&self, root: &Path, limit: Duration) -> Result<Vec<RunningGuest>, Error> {
        let _ = (root, limit);
        Ok(Vec::new())
    }

    /// The guests below `root` whose command lines name devices of this machine, whoever started
    /// them. Neither a guest nor a daemon is asked.
    fn named_by_command_lines(&self, root: &Path) -> Vec<RunningGuest> {
        let _ = root;
        Vec::new()
    }

    /// The host device that a name of the hypervisor's own tool stands for on this machine:
    /// `mapping:zigbee`. `None` if `text` has not the form of such a name, or if the tool is not on
    /// this machine.
    ///
    /// # Errors
    /// The tool has no such name, or no device for it here.
    fn named_host_device(&self, text: &str, host: &Host) -> Option<Result<Selector, Error>> {
        let _ = (text, host);
        None
    }

    /// The running guests of a tool that knows what each of them has now, including what was
    /// attached since its start, with the devices of this machine that their configurations name.
    /// A guest without such devices is in the list too: what its command line names, it has no
    /// longer. At most `limit` is spent. Their `process` is 0 if it is unknown. It is never that of
    /// a user who could not have started the guest: any user can start a process with the arguments
    /// of a guest.
    ///
    /// # Errors
    /// There is such a tool, but it cannot be asked.
    fn named_by_configurations(
        &self,
        root: &Path,
        limit: Duration,
    ) -> Result<Vec<ConfiguredGuest>, Error> {
        let _ = (root, limit);
        Ok(Vec::new())
    }

    /// What the hypervisor can do with a model wherever it is installed. `None` as in
    /// [`Scheme::survey`].
    fn model_facts(&self, model: Model) -> Option<ModelFacts> {
        let _ = model;
        None
    }

    /// The JSON key of [`ModelFacts::hot`] in a list of models.
    fn hot_key(&self) -> String {
        format!("{}_hot", self.name())
    }

    /// The command line arguments that start a guest with this hardware. `None` if guests are not
    /// started that way.
    fn start_arguments(
        &self,
        start: &Start<'_>,
        options: &StartOptions,
    ) -> Option<Result<Vec<String>, Error>> {
        let _ = (start, options);
        None
    }

    /// Starts watching for guests that start and end. No guest is disturbed: no monitor is held.
    /// `None` if this scheme's guests cannot be watched, if it needs folders and `options` name
    /// none, or if `options` name folders and its guests are in none.
    ///
    /// # Errors
    /// The hypervisor or a folder cannot be watched.
    fn watch(&self, options: &WatchOptions) -> Result<Option<Box<dyn GuestWatch>>, Error> {
        let _ = options;
        Ok(None)
    }
}

/// What a driver is opened with.
#[derive(Clone, Debug)]
pub struct OpenOptions<'a> {
    /// How long to wait.
    pub limits: Limits,
    /// Whether to proceed without the guest's consent.
    pub force: bool,
    /// Whether the domain will be changed. A driver whose domain can be changed by several callers
    /// at once keeps the others out until it is dropped.
    pub changes: bool,
    /// When changes take effect.
    pub when: When,
    /// The machine whose USB devices are attached.
    pub host: &'a Host,
}

/// When a change takes effect, for a domain whose tool stores configurations beside the running
/// guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// In the guest, if it runs, and in what it starts with.
    #[default]
    NowAndNext,
    /// Only in the running guest: the change is gone after the next start.
    Now,
    /// Only at the next start.
    Next,
}

/// The USB devices of backend domains.
pub trait BackendDomains {
    /// The backend domain that `requested` names, as it is recorded. `None` is this machine.
    ///
    /// # Errors
    /// There is no such domain, or the hypervisor cannot be asked.
    fn resolve(&self, requested: &str, limits: &Limits) -> Result<Option<String>, Error>;

    /// The devices that the domain could export.
    ///
    /// # Errors
    /// As [`BackendDomains::resolve`]; or no backend answers in the domain.
    fn devices(&self, backend: &str, limits: &Limits) -> Result<Vec<BackendDevice>, Error>;
}

/// A device that a backend domain could export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendDevice {
    /// The device. Its port in that domain is known, but not its reboot-proof path.
    pub device: HostDevice,
    /// Why it should not be exported, in that domain's words.
    pub protection: Option<String>,
}

/// A guest that is yet to be started.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The resolved hardware.
    pub resolved: &'a Resolved,
    /// The file that it was resolved from, with what that specifies beyond the model.
    pub config: &'a Config,
    /// The tool whose style the arguments are written in, as its format names it
    /// ([`ConfigFormat::argument_style`](vusb_formats::ConfigFormat::argument_style)).
    pub style: Option<&'a str>,
}

/// Options for the arguments that start a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// How many empty hot-plug slots to add for controllers that come later.
    pub spare_slots: u8,
    /// Refuse if a host device is not plugged in, instead of starting the guest without it.
    pub strict: bool,
}

/// What is watched for guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// The folders of the guests' sockets or files, for schemes that need them. A folder need not
    /// exist yet. Empty: the scheme's default, if it has one.
    pub folders: Vec<PathBuf>,
    /// Folders to watch in addition, until [`GuestWatch::set_further_folders`] replaces them. A
    /// scheme whose guests are in no folders ignores them.
    pub further: Vec<PathBuf>,
    /// How long to wait for each reply of a hypervisor that has to be asked.
    pub reply_limit: Duration,
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions {
            folders: Vec::new(),
            further: Vec::new(),
            reply_limit: Duration::from_secs(10),
        }
    }
}

/// Reports guests that start and end.
///
/// Events are relative to the last call of [`running`](GuestWatch::running). Before the first,
/// every guest that runs already is reported as started.
///
/// A program with an event loop polls the descriptor for reading and calls
/// [`wait`](GuestWatch::wait) with a limit of zero when it is readable. It is also readable when
/// an event is queued or a retry is due, so that no timer is needed. It stays the same for as long
/// as the watch exists. Becoming readable does not imply that there is an event.
pub trait GuestWatch: AsFd + Send {
    /// The guests that run now, by canonical address operand, sorted. Queued events are dropped:
    /// the answer includes them.
    ///
    /// # Errors
    /// The hypervisor cannot be asked. The watch remains usable: call again later.
    fn running(&mut self) -> Result<Vec<String>, Error>;

    /// Waits until a guest has started or ended, at most `limit`. Returns the events since the
    /// last call in order; empty after a time-out.
    ///
    /// # Errors
    /// As [`GuestWatch::running`]. The next calls try to recover; when one does, it returns
    /// [`GuestEvent::Rescan`].
    fn wait(&mut self, limit: Duration) -> Result<Vec<GuestEvent>, Error>;

    /// Replaces the folders of [`WatchOptions::further`]. Guests in a new folder are reported as
    /// started. Guests in a folder that is no longer watched may still run, so they are not
    /// reported as ended: [`running`](GuestWatch::running) no longer has them. Does nothing if the
    /// scheme's guests are in no folders.
    ///
    /// # Errors
    /// A folder cannot be watched. The others are.
    fn set_further_folders(&mut self, folders: &[PathBuf]) -> Result<(), Error> {
        let _ = folders;
        Ok(())
    }
}

/// A guest started or ended.
///
/// A guest that is replaced by another with the same operand is reported as ended and then as
/// started, also when both happened between two calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEvent {
    /// The guest with this operand can be reached.
    Started(String),
    /// The guest with this operand has ended.
    Ended(String),
    /// Events were lost: call [`GuestWatch::running`] and compare. Always the last of its list.
    Rescan,
}

/// Why a text is not an address of its scheme.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}; write {expected}")]
pub struct AddressError {
    /// What is wrong.
    pub problem: String,
    /// What to write instead: `xen:NAME or xen:ID, as `xl list` shows them`.
    pub expected: String,
}
