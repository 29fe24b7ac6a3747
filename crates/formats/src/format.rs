//! The trait of a format, and a handle to a format.
//!
//! A format is a type that implements [`ConfigFormat`]. Each format of this crate does so in the
//! file `format.rs` of its module. Other crates add theirs to a [`Formats`](crate::Formats) at run
//! time.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use vusb_model::address::Index;
use vusb_model::capabilities::{Capabilities, Support};
use vusb_model::device::{HostRef, Kind};
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::models::{ControllerType, Model};
use vusb_model::profile::Profile;
use vusb_model::selector::Selector;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;

/// A format of configurations: how to read, edit and write it, and what it can express.
pub trait ConfigFormat: Send + Sync + fmt::Debug {
    /// The name, which is unique and short enough for a command line: `libvirt`, `xl`.
    fn name(&self) -> &'static str;

    /// The format in words: "libvirt's domain XML".
    fn title(&self) -> &'static str;

    /// The file name extensions that imply this format, without the dot and in lower case.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether `text` looks like this format. Used for texts without a file name, and for files
    /// whose name does not imply a format. The check is cheap and looks for what only this format
    /// has: a root element, a key, a table. A match does not imply that the text can be read.
    fn recognizes(&self, text: &str) -> bool;

    /// The profile that fills what a text leaves open, unless the text itself names another.
    fn profile(&self) -> Profile;

    /// How the format names host devices.
    fn host_naming(&self) -> HostNaming;

    /// Whether the format specifies the port of a device of this kind. If not, the hypervisor
    /// chooses one when the guest starts.
    fn has_ports_for(&self, _kind: &Kind) -> bool {
        true
    }

    /// Whether the format's tool adds this controller with the first device on it, and removes it
    /// with the last one.
    fn comes_with_devices(&self, _controller: &Controller) -> bool {
        false
    }

    /// Whether a text can name the running domain that it is for ([`Config::driver`]). If not, it
    /// always describes a guest that does not run.
    fn names_running_domain(&self) -> bool {
        false
    }

    /// The tool whose style is used for QEMU's arguments when a guest is started with this kind of
    /// configuration. `None` is this project's own style.
    fn argument_style(&self) -> Option<&'static str> {
        None
    }

    /// The hypervisors on which the format's tool starts guests. The first is the usual one.
    fn hypervisors(&self) -> &'static [Hypervisor] {
        &[Hypervisor::Qemu, Hypervisor::Xen, Hypervisor::Vmware, Hypervisor::VirtualBox]
    }

    /// The index of the controller that a guest is started with, if the format numbers the others
    /// without it. No controller gets this index by counting.
    fn boot_index(&self) -> Option<Index> {
        None
    }

    /// The tool or hypervisor that starts a guest with this kind of configuration, for messages:
    /// "libvirt on QEMU".
    fn hypervisor(&self, guest: &Guest) -> &'static str;

    /// The capabilities of a guest with this kind of configuration. The format's tool is not
    /// queried, because the file may be for another machine.
    fn capabilities(&self, guest: &Guest) -> Capabilities {
        capabilities(self.hypervisor(guest), guest)
    }

    /// Reads a configuration. `origin` is the name of the text in errors: its file name.
    ///
    /// # Errors
    /// The text is not in this format, or describes a guest that cannot exist. The error shows the
    /// first mistake.
    fn read(&self, text: &str, origin: &str) -> Result<Config, FormatError>;

    /// The text with the content of the files that it includes in place of their names. `load` gets
    /// a name as it is written in the text, and returns the content of that file; if it returns
    /// `None`, the name stays. The result is the text to [`read`](ConfigFormat::read).
    fn expanded(&self, text: String, load: &dyn Fn(&str) -> Option<String>) -> String {
        let _ = load;
        text
    }

    /// Applies changes to a text, in order. All other bytes stay as they are. The positions in
    /// `edits` are those in the spec that [`ConfigFormat::read`] returns for `text`.
    ///
    /// # Errors
    /// The format cannot express a change, the text cannot be read, or it has no item at a
    /// position.
    fn edit(&self, text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible>;

    /// The processes of the format's tool that would overwrite an edit of this text. `None` if the
    /// tool has no such processes, or the text cannot be read.
    fn processes(&self, _text: &str) -> Option<ToolProcesses> {
        None
    }

    /// Generates a whole configuration with this hardware, and lists what the format cannot
    /// express.
    fn write(&self, guest: &Guest, hardware: &Hardware) -> Generated;
}

/// Processes of a format's tool that have a configuration in memory: an edit of the file has no
/// effect on them, and they overwrite it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolProcesses {
    /// The programs that run guests.
    pub runners: &'static [&'static str],
    /// What names the guest on the command line of such a program: its name and its UUID.
    pub guest: Vec<String>,
    /// The program that has the configurations of all guests of its user in memory.
    pub service: &'static str,
}

/// Why a process of a format's tool would overwrite an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// It runs the guest.
    Guest,
    /// It is the tool's service.
    Service,
}

impl ToolProcesses {
    /// What a process with this command line has to do with the configuration; `None` if nothing.
    /// The first argument is the program.
    pub fn held_by(&self, arguments: &[&str]) -> Option<HeldBy> {
        let (program, arguments) = arguments.split_first()?;
        let program = program.rsplit('/').next().unwrap_or_default();
        if program == self.service {
            return Some(HeldBy::Service);
        }
        let is_guest = |argument: &&str| {
            let value = argument.rsplit_once('=').map_or(*argument, |(_, value)| value);
            let value = value.trim_matches(['{', '}']);
            self.guest.iter().any(|guest| guest.eq_ignore_ascii_case(value))
        };
        let runs = self.runners.contains(&program) && arguments.iter().any(is_guest);
        runs.then_some(HeldBy::Guest)
    }
}

/// How a format names host devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostNaming {
    /// By any selector. The most durable one replaces the one that was written.
    Durable,
    /// By any selector. A new device gets the most durable one; those in the file are kept as
    /// written.
    KeepsSelector,
    /// As [`HostNaming::KeepsSelector`], but an address stays an address: the format has no durable
    /// name that means the same.
    AddressKept,
    /// Only by vendor and product, with or without a serial number. Kept as requested.
    Id,
    /// Only by bus and address.
    AddressOnly,
    /// By vendor and product, or by bus and port, whichever was requested.
    IdOrPort,
}

impl HostNaming {
    /// The selector for a new device, which the caller requested as `requested` and which is
    /// plugged in as `found`.
    pub fn selector(self, requested: &Selector, found: &HostRef) -> Selector {
        match (self, found.bus_address, requested) {
            (HostNaming::AddressOnly, Some(at), _) => Selector::Address(at),
            (HostNaming::AddressKept, _, Selector::Address(at)) => Selector::Address(*at),
            (HostNaming::Id, _, Selector::Id { .. }) => requested.clone(),
            (HostNaming::IdOrPort, _, Selector::Id { serial: None, .. } | Selector::Port(_)) => {
                requested.clone()
            }
            _ => found.selector.clone(),
        }
    }

    /// Whether the selectors in a file are kept as written.
    pub fn keeps_written(self) -> bool {
        self != HostNaming::Durable
    }
}

/// The capabilities that follow from a guest's hypervisor and type. `hypervisor` is its name in
/// messages.
///
/// Paravirtual controllers need Xen, and Xen's PV and PVH guests have no others.
pub fn capabilities(hypervisor: &str, guest: &Guest) -> Capabilities {
    let emulated = match (guest.hypervisor, guest.virtualization) {
        (Hypervisor::Xen, Virtualization::Pv | Virtualization::Pvh) => {
            Err("a guest of this type has no emulated controllers")
        }
        _ => Ok(()),
    };
    let pv = match guest.hypervisor {
        Hypervisor::Xen => Ok(()),
        Hypervisor::Qemu => Err("QEMU has no paravirtual USB"),
        Hypervisor::Vmware => Err("VMware has no paravirtual USB"),
        Hypervisor::VirtualBox => Err("VirtualBox has no paravirtual USB"),
    };
    let support = |model: Model| {
        let can = match model.controller_type() {
            ControllerType::Emulated => emulated,
            ControllerType::Pv => pv,
        };
        can.map_or_else(|why| Support::Unsupported { why: why.into() }, |()| Support::Hot)
    };
    let default_type = match emulated {
        Ok(()) => ControllerType::Emulated,
        Err(_) => ControllerType::Pv,
    };
    Capabilities {
        hypervisor: hypervisor.to_owned(),
        default_type,
        running: false,
        models: Model::ALL.into_iter().map(|model| (model, support(model))).collect(),
        guest: guest.clone(),
        ..Capabilities::everything()
    }
}

/// A handle to a format. Cheap to clone; two are equal if their names are.
#[derive(Clone)]
pub struct Format(Arc<dyn ConfigFormat>);

impl Format {
    /// A handle to this format.
    pub fn new(format: impl ConfigFormat + 'static) -> Format {
        Format(Arc::new(format))
    }
}

impl Deref for Format {
    type Target = dyn ConfigFormat;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Display for Format {
    /// The name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.name())
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

impl PartialOrd for Format {
    fn partial_cmp(&self, other: &Format) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Format {
    fn cmp(&self, other: &Format) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl Hash for Format {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}
