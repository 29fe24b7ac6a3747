//! Why something that was asked for cannot be, found out before anything is touched.

use std::ops::RangeInclusive;

use thiserror::Error;

use crate::address::PortPath;
use crate::device::HUB_PORTS;
use crate::models::{ControllerType, Model, UsbVersion};
use crate::name::Name;
use crate::speed::SpeedSet;

/// What sort of refusal it is: what an exit code or a caller's next move depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// It could never be, on any domain: the request contradicts itself.
    Usage,
    /// It names something that is not there.
    NotFound,
    /// Something else is in the way.
    Busy,
    /// There is no free port, or none that takes the speed.
    NoRoom,
    /// This hypervisor cannot do it, now or ever.
    NotImplemented,
}

/// A refusal, with what one can do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The model cannot have so many ports.
    #[error("{model} cannot have {asked} ports: it has {}", ports_text(.can))]
    PortCount {
        /// The model.
        model: Model,
        /// How many were asked for.
        asked: u8,
        /// How many it can have.
        can: RangeInclusive<u8>,
    },
    /// USB 2 and USB 3 ports that are counted apart, for a model that has one kind of port.
    #[error(
        "only an xHCI has USB 2 and USB 3 ports that are counted apart, and {model} is none; say how many ports it has instead"
    )]
    Halves {
        /// The model.
        model: Model,
    },
    /// A hub cannot have so many ports.
    #[error("a hub cannot have {asked} ports: it has 1 to {HUB_PORTS}")]
    HubPorts {
        /// How many were asked for.
        asked: u8,
    },
    /// Type and model contradict each other.
    #[error("{model} is {}, not {asked}; leave one of the two out", model.controller_type())]
    TypeAndModel {
        /// The type that was asked for.
        asked: ControllerType,
        /// The model that was asked for.
        model: Model,
    },
    /// Version and model contradict each other.
    #[error("{model} is a USB {} controller, not USB {asked}; leave one of the two out", model.usbversion())]
    VersionAndModel {
        /// The version that was asked for.
        asked: UsbVersion,
        /// The model that was asked for.
        model: Model,
    },
    /// An emulated controller with a backend domain.
    #[error(
        "only a pv controller has a backend domain, and {model} is emulated; leave the backend out or ask for type pv"
    )]
    BackendOfEmulated {
        /// The model.
        model: Model,
    },
    /// Companions for a model that has none, or companions that serve ports that are not there or are served already.
    #[error("{model} cannot have these companions: {why}")]
    Companions {
        /// The model.
        model: Model,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A port without the controller that it is on.
    #[error("say which controller port {port} is on: the domain has {count} controllers")]
    PortWithoutController {
        /// The port.
        port: PortPath,
        /// How many controllers there are.
        count: usize,
    },
    /// A name, an index or a port that a spec says for two things.
    #[error("{what} is asked for twice; leave one of the two out, or give it another")]
    Twice {
        /// What is said twice.
        what: String,
    },
    /// A kind of device that nobody can ask for.
    #[error(
        "`{driver}` is not a device that can be asked for: it is only shown where another tool plugged one in"
    )]
    NotAskable {
        /// What the hypervisor calls it.
        driver: String,
    },
    /// No controller of that name or index.
    #[error("there is no controller {asked}: {}", known_text(.known))]
    NoSuchController {
        /// What was asked for.
        asked: String,
        /// The controllers that there are.
        known: Vec<Name>,
    },
    /// The controller or hub has no such port.
    #[error("there is no port {port} on {controller}: {on} has ports 1 to {ports}")]
    NoSuchPort {
        /// The controller.
        controller: Name,
        /// The port.
        port: PortPath,
        /// The controller or hub that lacks it.
        on: String,
        /// How many ports that has.
        ports: u8,
    },
    /// A port path goes through something that is no hub.
    #[error(
        "there is no hub at port {hub} of {controller}, so there is no port {port}; plug a hub in there first"
    )]
    NoHub {
        /// The controller.
        controller: Name,
        /// Where the hub would have to be.
        hub: PortPath,
        /// The port that was asked for.
        port: PortPath,
    },
    /// Something else is plugged in there.
    #[error(
        "port {port} of {controller} is in use by {by}; take another port or remove that first"
    )]
    PortInUse {
        /// The controller.
        controller: Name,
        /// The port.
        port: PortPath,
        /// What is there.
        by: String,
    },
    /// The name is something else's.
    #[error("the name {name} is taken: it is {by}; choose another name or remove that first")]
    NameInUse {
        /// The name.
        name: Name,
        /// What has it.
        by: String,
    },
    /// The index is another controller's.
    #[error("index {index} is taken: it is {by}; choose another index or remove that first")]
    IndexInUse {
        /// The index.
        index: u16,
        /// What has it.
        by: String,
    },
    /// The domain has this very thing, elsewhere than asked for.
    #[error("{device} is plugged in already, at {at}; remove it there first")]
    AlreadyPlugged {
        /// The device.
        device: String,
        /// Where it is.
        at: String,
    },
    /// A controller with devices on it.
    #[error(
        "{controller} has devices plugged in ({devices}); remove them first, or remove the controller by force with all that is on it"
    )]
    NotEmpty {
        /// The controller.
        controller: Name,
        /// The devices.
        devices: String,
    },
    /// All ports of the controller are taken.
    #[error(
        "{controller} ({model}) is full: all of its {ports} ports are in use; remove a device, plug in a hub in place of one, or leave the \
             controller out and one is found or added"
    )]
    Full {
        /// The controller.
        controller: Name,
        /// Its model.
        model: Model,
        /// How many ports it has, hubs' ports included.
        ports: usize,
    },
    /// The port does not take the device's speed.
    #[error("{device} is {speed} speed, and {place} takes {takes} speed only; {remedy}")]
    WrongSpeed {
        /// The device, with its article.
        device: String,
        /// The speeds it can run at.
        speed: SpeedSet,
        /// The port or controller.
        place: String,
        /// What that takes.
        takes: SpeedSet,
        /// What would take the device.
        remedy: String,
    },
    /// A companion whose EHCI is missing.
    #[error(
        "{model} serves slow devices on the ports of an EHCI, and there is none at index {index}; add an ich9-ehci1 at index {index}, or leave \
         the companion out"
    )]
    NoEhci {
        /// The companion's model.
        model: Model,
        /// Its index, which is to be its EHCI's.
        index: u16,
    },
    /// A PCI address that this controller cannot have.
    #[error(
        "{model} at index {index} cannot be at PCI address {asked}: {why}; leave the address out"
    )]
    PciPlace {
        /// The model.
        model: Model,
        /// The controller's index.
        index: u16,
        /// The address that was asked for.
        asked: String,
        /// Why not there.
        why: &'static str,
    },
    /// Something on USB, for a guest that is to have none.
    #[error(
        "{what} cannot be had: the guest is to have no USB, for it has a controller of model none; leave out one of the two"
    )]
    UsbDisabled {
        /// What was asked for, with its article.
        what: String,
    },
    /// A device, for a guest that has no controller and gets none by itself.
    #[error(
        "{what} needs a USB controller, and the guest has none: {guest} gets none by itself; add one"
    )]
    NoController {
        /// What was asked for, with its article.
        what: String,
        /// The guest's machine, with its article.
        guest: String,
    },
    /// All ports are taken, of one controller or of all.
    #[error(
        "there is no free port: all {ports} ports of {of} are in use; add a controller, or remove a device"
    )]
    NoPort {
        /// What has no free port: `usb1 and its hubs`.
        of: String,
        /// How many ports there are, hubs' ports included.
        ports: usize,
    },
    /// What libvirt refuses too, with its own sentence: people search for that.
    #[error("{refusal} (libvirt says: {says})")]
    AsLibvirt {
        /// The refusal.
        refusal: Box<Refusal>,
        /// libvirt's sentence.
        says: String,
    },
    /// All indexes are taken.
    #[error(
        "the domain has a controller at every index from 0 to 4095: there is no room for another"
    )]
    NoIndex,
    /// The hypervisor cannot do it.
    #[error("{what}: not implemented by {by}: {why}{}", instead_text(.instead))]
    NotImplemented {
        /// What was asked for.
        what: String,
        /// The hypervisor, with machine and version where that matters.
        by: String,
        /// Why it cannot.
        why: String,
        /// What can be had in its place.
        instead: Option<String>,
    },
}

fn ports_text(can: &RangeInclusive<u8>) -> String {
    match (can.start(), can.end()) {
        (one, same) if one == same => format!("exactly {one}"),
        (least, most) => format!("{least} to {most}"),
    }
}

fn known_text(known: &[Name]) -> String {
    match known {
        [] => "the domain has no USB controller; add one first, or leave the controller out and one is added".to_owned(),
        names => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            format!("the domain has {}", names.join(", "))
        }
    }
}

fn instead_text(instead: &Option<String>) -> String {
    instead.as_ref().map(|instead| format!("; {instead}")).unwrap_or_default()
}

impl Refusal {
    /// The refusal itself, without another tool's sentence.
    pub fn plain(&self) -> &Refusal {
        match self {
            Refusal::AsLibvirt { refusal, .. } => refusal.plain(),
            other => other,
        }
    }

    /// The same refusal, with libvirt's sentence for it.
    pub(crate) fn libvirt_says(self, says: impl Into<String>) -> Refusal {
        Refusal::AsLibvirt { refusal: Box::new(self), says: says.into() }
    }

    /// What sort of refusal it is.
    pub fn category(&self) -> Category {
        match self.plain() {
            Refusal::PortCount { .. }
            | Refusal::Halves { .. }
            | Refusal::HubPorts { .. }
            | Refusal::TypeAndModel { .. }
            | Refusal::VersionAndModel { .. }
            | Refusal::BackendOfEmulated { .. }
            | Refusal::Companions { .. }
            | Refusal::PortWithoutController { .. }
            | Refusal::Twice { .. }
            | Refusal::PciPlace { .. }
            | Refusal::UsbDisabled { .. }
            // There is a plain refusal behind it, and that has its own category.
            | Refusal::AsLibvirt { .. }
            | Refusal::NotAskable { .. } => Category::Usage,
            Refusal::NoSuchController { .. }
            | Refusal::NoSuchPort { .. }
            | Refusal::NoHub { .. }
            | Refusal::NoEhci { .. }
            | Refusal::NoController { .. } => Category::NotFound,
            Refusal::PortInUse { .. }
            | Refusal::NameInUse { .. }
            | Refusal::IndexInUse { .. }
            | Refusal::AlreadyPlugged { .. }
            | Refusal::NotEmpty { .. } => Category::Busy,
            Refusal::Full { .. }
            | Refusal::WrongSpeed { .. }
            | Refusal::NoPort { .. }
            | Refusal::NoIndex => Category::NoRoom,
            Refusal::NotImplemented { .. } => Category::NotImplemented,
        }
    }
}
