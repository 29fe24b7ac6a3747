//! A guest's configuration as it was read, in whichever format; and changes to its text.
//!
//! ```text
//!   text ──read──▶ Config: guest, spec, places ──resolve──▶ hardware
//!     └────edit(text, changes)────▶ text           what was refused ──show──▶ line and caret
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::address::Address;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device};
use vusb_model::profile::Profile;
use vusb_model::refusal::Refusal;
use vusb_model::resolve::{Asked, Refused, libxl};
use vusb_model::spec::Spec;

use crate::error::{FormatError, Problem};

/// What a configuration says of a guest and its USB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The guest.
    pub guest: Guest,
    /// Its USB, with what the text leaves open left open. Its profile is that of the tool whose format it is.
    pub spec: Spec,
    /// The running domain that it is for: a spec's `driver`. No other format says one.
    pub driver: Option<String>,
    /// Where each controller of the spec is said, in its order.
    pub controllers: Vec<Place>,
    /// Where each device of the spec is said, in its order; and what else is said of it.
    pub devices: Vec<Place>,
    /// What a person should know, each with its place shown: where the text most likely means something else than it says.
    pub warnings: Vec<FormatError>,
}

/// Where something is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// All of it, in bytes of the text.
    pub span: Range<usize>,
    /// The values of which it is known where each is.
    pub fields: BTreeMap<Field, Range<usize>>,
    /// What the format says of it beyond the model, for whoever hands it to QEMU: properties of `-device`.
    pub properties: Vec<(&'static str, Property)>,
    /// What the format says of it beyond the model, in words for a person: `startupPolicy optional`.
    pub remarks: Vec<String>,
}

/// A value of a controller or a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// A controller's model or version.
    Model,
    /// How many ports a controller has.
    Ports,
    /// A controller's index.
    Index,
    /// The controller that a device is on.
    Controller,
    /// The port that a device is on.
    Port,
    /// What a device is.
    What,
}

/// The value of a property of QEMU's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// True or false.
    Flag(bool),
}

/// One change to a text. Controllers and devices that are there are named by their place in the spec that was read from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit<'a> {
    /// Say one controller more, with everything decided.
    AddController(&'a Controller),
    /// Say one device more, with everything decided.
    AddDevice(Address, &'a Device),
    /// Say this controller no more.
    RemoveController(usize),
    /// Say this device no more.
    RemoveDevice(usize),
    /// Say all that this controller is, where the text leaves something open that would now be decided otherwise.
    PinController(usize, &'a Controller),
    /// Likewise where this device is.
    PinDevice(usize, Address),
    /// Say that there is no USB at all: what the format fills in by itself is not wanted.
    NoUsb,
}

/// What a format cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsayable {
    /// What: `the port of hci0`, `a companion without the other two`.
    pub what: String,
    /// Why, and what can be done.
    pub why: String,
}

/// A configuration that was written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The text.
    pub text: String,
    /// What it does not say.
    pub lost: Vec<Unsayable>,
}

impl Config {
    /// A refusal of the spec, shown at the place in the `text` that is to blame. `None` if no place is.
    pub fn show(&self, refused: &Refused, text: &str, origin: &str) -> Option<FormatError> {
        let place = match refused.asked? {
            Asked::Controller(number) => self.controllers.get(number)?,
            Asked::Device(number) => self.devices.get(number)?,
        };
        let fields = fields_of(refused.refusal.plain());
        let span = fields.iter().find_map(|field| place.fields.get(field)).unwrap_or(&place.span);
        let problem = Problem::new(span.clone(), refused.to_string());
        let sentence = match self.spec.profile {
            Profile::Libxl => libxl::sentence(&refused.refusal),
            _ => None,
        };
        let problem = match sentence {
            Some(sentence) => problem.help(format!("xl says: {sentence}")),
            None => problem,
        };
        Some(problem.in_text(text, origin))
    }
}

/// The values that a refusal is about, the one to point at first.
const fn fields_of(refusal: &Refusal) -> &'static [Field] {
    match refusal {
        Refusal::PortCount { .. } | Refusal::Halves { .. } => &[Field::Ports],
        Refusal::NoSuchController { .. } => &[Field::Controller],
        Refusal::IndexInUse { .. } | Refusal::NoEhci { .. } => &[Field::Index],
        Refusal::Twice { .. } => &[Field::Port, Field::Index],
        Refusal::NoSuchPort { .. }
        | Refusal::NoHub { .. }
        | Refusal::PortInUse { .. }
        | Refusal::PortWithoutController { .. } => &[Field::Port, Field::Controller],
        Refusal::WrongSpeed { .. } | Refusal::Full { .. } | Refusal::NoPort { .. } => {
            &[Field::Port, Field::Controller, Field::What]
        }
        Refusal::HubPorts { .. } | Refusal::NotAskable { .. } | Refusal::AlreadyPlugged { .. } => {
            &[Field::What]
        }
        Refusal::NotImplemented { .. }
        | Refusal::TypeAndModel { .. }
        | Refusal::VersionAndModel { .. }
        | Refusal::BackendOfEmulated { .. }
        | Refusal::Companions { .. } => &[Field::Model],
        _ => &[],
    }
}
