//! Why a request is refused. A refusal is decided before anything is changed.

use std::ops::RangeInclusive;

use thiserror::Error;

use crate::address::PortPath;
use crate::device::HUB_PORTS;
use crate::list::few;
use crate::models::{ControllerType, Model, UsbVersion};
use crate::name::Name;
use crate::remedy::{Reason, Remedy};
use crate::speed::{Speed, SpeedSet};

/// The category of a refusal: what an exit code or the caller's next move depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// The request contradicts itself or is incomplete, or no domain can satisfy it.
    Usage,
    /// It names something that does not exist.
    NotFound,
    /// It conflicts with something that exists.
    Busy,
    /// There is no free port or slot, or none that supports the speed.
    NoRoom,
    /// This hypervisor cannot do it.
    NotImplemented,
}

/// A refusal. Its text says what happened and why. [`Refusal::remedies`] lists what the caller can
/// do about it, unless the text already says so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The model cannot have this number of ports.
    #[error("{model} cannot have {requested} ports: it has {}", ports_text(.supported))]
    PortCount {
        /// The model.
        model: Model,
        /// The number that was requested.
        requested: u8,
        /// The numbers that the model can have.
        supported: RangeInclusive<u8>,
    },
    /// Separate numbers of USB 2 and USB 3 ports, for a model that has only one kind of port.
    #[error(
        "{model} has no separate USB 2 and USB 3 ports: only an xHCI does; give one number of ports instead"
    )]
    SeparatePorts {
        /// The model.
        model: Model,
    },
    /// A hub cannot have this number of ports.
    #[error("a hub cannot have {requested} ports: it has 1 to {HUB_PORTS}")]
    HubPorts {
        /// The number that was requested.
        requested: u8,
    },
    /// Type and model contradict each other.
    #[error("{model} is {}, not {requested}; leave one of the two out", model.controller_type())]
    TypeAndModel {
        /// The type that was requested.
        requested: ControllerType,
        /// The model that was requested.
        model: Model,
    },
    /// Version and model contradict each other.
    #[error(
        "{model} is a USB {} controller, not USB {requested}; leave one of the two out",
        model.usbversion()
    )]
    VersionAndModel {
        /// The version that was requested.
        requested: UsbVersion,
        /// The model that was requested.
        model: Model,
    },
    /// An emulated controller with a backend domain.
    #[error(
        "only a pv controller has a backend domain, and {model} is emulated; leave the backend out or request type pv"
    )]
    BackendOfEmulated {
        /// The model.
        model: Model,
    },
    /// Companions for a model that has none, companions whose ports do not exist or are served
    /// already, or companions that cannot belong to the EHCI at their index.
    #[error("{model} cannot have these companions: {why}")]
    Companions {
        /// The model.
        model: Model,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A port without its controller, where the controller is not obvious.
    #[error("port {port} needs a controller: the domain has {count} controllers")]
    PortWithoutController {
        /// The port.
        port: PortPath,
        /// The number of controllers.
        count: usize,
    },
    /// A spec that uses a name, an index, a port or a device twice.
    #[error("{what} is requested twice; leave one of the two out or change it")]
    Duplicate {
        /// What occurs twice.
        what: String,
    },
    /// A kind of device that cannot be requested.
    #[error(
        "`{driver}` cannot be requested: such a device is only shown where another tool plugged it in"
    )]
    NotRequestable {
        /// The hypervisor's name for it.
        driver: String,
    },
    /// There is no controller with this name or index.
    #[error("there is no controller {requested}: {}", existing_text(.existing))]
    NoSuchController {
        /// The name or index that was requested.
        requested: String,
        /// The controllers that exist.
        existing: Vec<Name>,
    },
    /// The controller or hub does not have this port.
    #[error("there is no port {port} on {controller}: {on} has ports 1 to {ports}")]
    NoSuchPort {
        /// The controller.
        controller: Name,
        /// The port.
        port: PortPath,
        /// The controller or hub that lacks it.
        on: String,
        /// The number of ports that the controller or hub has.
        ports: u8,
    },
    /// A port path goes through something that is not a hub.
    #[error(
        "there is no hub at port {hub} of {controller}, so there is no port {port}; plug a hub in there first"
    )]
    NoHub {
        /// The controller.
        controller: Name,
        /// The port that the hub would have to be at.
        hub: PortPath,
        /// The port that was requested.
        port: PortPath,
    },
    /// Something else is plugged in at the port.
    #[error(
        "port {port} of {controller} is in use by {by}; use another port or remove that device first"
    )]
    PortInUse {
        /// The controller.
        controller: Name,
        /// The port.
        port: PortPath,
        /// The device at the port.
        by: String,
    },
    /// The name belongs to something else.
    #[error("the name {name} is taken: it is {by}; choose another name or remove that first")]
    NameInUse {
        /// The name.
        name: Name,
        /// What has the name.
        by: String,
    },
    /// The index belongs to another controller.
    #[error("index {index} is taken: it is {by}; choose another index or remove that first")]
    IndexInUse {
        /// The index.
        index: u16,
        /// The controller that has it.
        by: String,
    },
    /// The domain already has this device, at another port or with other properties than requested,
    /// or the same request contains it twice.
    #[error("{device} is already plugged in, at {location}; remove it there first")]
    AlreadyPlugged {
        /// The device.
        device: String,
        /// Its port.
        location: String,
    },
    /// A controller with devices on it.
    #[error(
        "{controller} has devices plugged in ({devices}); remove them first, or remove the controller together with them"
    )]
    NotEmpty {
        /// The controller.
        controller: Name,
        /// The devices.
        devices: String,
    },
    /// All ports of the controller are in use.
    #[error(
        "{controller} ({model}) is full: all of its {ports} ports are in use; remove a device, plug in a hub in place of \
         one, or leave the controller out: one is chosen or added"
    )]
    Full {
        /// The controller.
        controller: Name,
        /// Its model.
        model: Model,
        /// The number of its ports, those of hubs included.
        ports: usize,
    },
    /// The port does not support the device's speed.
    #[error(
        "{device} is {speed} speed, and {location} supports {supported} speed only; {}",
        fitting_text(*.speed, .fitting)
    )]
    WrongSpeed {
        /// The device, with its article.
        device: String,
        /// The speeds that it can run at.
        speed: SpeedSet,
        /// The port or controller.
        location: String,
        /// The speeds that the port or controller supports.
        supported: SpeedSet,
        /// The controllers of the domain that support the device's speed.
        fitting: Vec<Name>,
        /// What to request instead.
        alternatives: Vec<Remedy>,
    },
    /// A companion without its EHCI.
    #[error(
        "{model} serves slow devices on the ports of an EHCI, and there is none at index {index}; add an ich9-ehci1 at \
         index {index}, or leave the companion out"
    )]
    NoEhci {
        /// The companion's model.
        model: Model,
        /// Its index, which must be that of its EHCI.
        index: u16,
    },
    /// A PCI address that this controller cannot have.
    #[error(
        "{model} at index {index} cannot be at PCI address {requested}: {why}; leave the address out"
    )]
    PciAddress {
        /// The model.
        model: Model,
        /// The controller's index.
        index: u16,
        /// The address that was requested.
        requested: String,
        /// Why the controller cannot be there.
        why: &'static str,
    },
    /// A controller or device, for a guest whose USB is disabled.
    #[error(
        "{what} cannot be added: a controller of model none disables the guest's USB; leave one of the two out"
    )]
    UsbDisabled {
        /// What was requested, with its article.
        what: String,
    },
    /// A device, for a guest that has no controller and gets none by default.
    #[error(
        "{what} needs a USB controller, and the guest has none: {guest} gets none by default; add one"
    )]
    NoController {
        /// What was requested, with its article.
        what: String,
        /// The guest's machine, with its article.
        guest: String,
    },
    /// All ports are in use, of one controller or of all.
    #[error(
        "there is no free port: all {ports} ports of {scope} are in use; add a controller, or remove a device"
    )]
    NoPort {
        /// What has no free port: `usb1 and its hubs`.
        scope: String,
        /// The number of ports, those of hubs included.
        ports: usize,
    },
    /// All indexes are taken.
    #[error("there is no free index: the domain has a controller at every index from 0 to 4095")]
    NoIndex,
    /// A controller is needed, and the guest has no slot for it.
    #[error("{what}: {why}")]
    NoSlot {
        /// What there is no slot for and, if a device needs the controller, why those that exist do
        /// not do.
        what: String,
        /// Why there is no slot, and how the guest gets more.
        why: Reason,
    },
    /// The hypervisor cannot do it.
    #[error("{what}: not implemented by {by}: {why}")]
    NotImplemented {
        /// What was requested.
        what: String,
        /// The hypervisor, with machine and version where they matter.
        by: String,
        /// Why it cannot, and what the caller can do.
        why: Reason,
    },
}

fn ports_text(supported: &RangeInclusive<u8>) -> String {
    match (supported.start(), supported.end()) {
        (only, same) if only == same => format!("exactly {only}"),
        (least, most) => format!("{least} to {most}"),
    }
}

fn existing_text(existing: &[Name]) -> String {
    match existing {
        [] => "the domain has no USB controller; add one first, or leave the controller out and one is added".to_owned(),
        names => format!("the domain has {}", few(names)),
    }
}

fn fitting_text(speed: SpeedSet, fitting: &[Name]) -> String {
    let models = if speed.has_slow() {
        "a UHCI, an OHCI, an ICH9 group or an xHCI supports it"
    } else if speed.contains(Speed::High) {
        "an EHCI or an xHCI supports it"
    } else {
        "an xHCI supports it"
    };
    match fitting {
        [] => models.to_owned(),
        [one] => format!("{models}, and so does {one} of this domain"),
        several => format!("{models}, and so do {} of this domain", few(several)),
    }
}

impl Refusal {
    /// What the caller can do about it. Empty if the text already says it.
    pub fn remedies(&self) -> Vec<Remedy> {
        match self {
            Refusal::NotImplemented { why, .. } | Refusal::NoSlot { why, .. } => {
                why.remedies.clone()
            }
            Refusal::WrongSpeed { alternatives, .. } => alternatives.clone(),
            Refusal::NotEmpty { .. } => vec![Remedy::Force],
            _ => Vec::new(),
        }
    }

    /// Its category.
    pub const fn category(&self) -> Category {
        match self {
            Refusal::PortCount { .. }
            | Refusal::SeparatePorts { .. }
            | Refusal::HubPorts { .. }
            | Refusal::TypeAndModel { .. }
            | Refusal::VersionAndModel { .. }
            | Refusal::BackendOfEmulated { .. }
            | Refusal::Companions { .. }
            | Refusal::PortWithoutController { .. }
            | Refusal::Duplicate { .. }
            | Refusal::PciAddress { .. }
            | Refusal::UsbDisabled { .. }
            | Refusal::NotRequestable { .. } => Category::Usage,
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
            | Refusal::NoSlot { .. }
            | Refusal::NoIndex => Category::NoRoom,
            Refusal::NotImplemented { .. } => Category::NotImplemented,
        }
    }
}
