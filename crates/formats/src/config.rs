//! A configuration as it was read, in whichever format, and changes to its text.
//!
//! ```text
//!   text ──read──▶ Config: guest, spec, sources ──resolve──▶ hardware
//!     └────edit(text, changes)────▶ text            refusal ──show──▶ line and caret
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::name::Name;
use vusb_model::refusal::Refusal;
use vusb_model::remedy::Reason;
use vusb_model::resolve::{Refused, RequestedItem, Resolved};
use vusb_model::spec::Spec;

use crate::error::{FormatError, Problem};
use crate::qemu_args::add_arguments;

/// A guest and its USB hardware, as a configuration specifies them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The guest.
    pub guest: Guest,
    /// Its USB hardware. What the text leaves open is left open. The profile is that of the
    /// format's tool.
    pub spec: Spec,
    /// The address of the running domain that the text is for: a spec's `driver`. Only a format
    /// with [`names_running_domain`](crate::ConfigFormat::names_running_domain) has it.
    pub driver: Option<String>,
    /// The source of each controller of the spec, in the same order.
    pub controllers: Vec<ItemSource>,
    /// The source of each device of the spec, in the same order.
    pub devices: Vec<ItemSource>,
    /// Hardware for which the text leaves nothing open. The spec does not contain it.
    pub fixed: Hardware,
    /// Arguments that the format's tool passes to QEMU after its own. The spec does not contain
    /// what they add, either.
    pub arguments: Vec<String>,
    /// Parts of the text that a guest would lack if it were started without the format's tool.
    pub unsupported: Vec<FormatError>,
    /// Parts of the text that probably do not mean what was intended.
    pub warnings: Vec<FormatError>,
}

/// The position of a controller or a device in the text, and its properties that the model does not
/// have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemSource {
    /// The whole item, in bytes of the text.
    pub span: Range<usize>,
    /// Single values, as far as their positions are known.
    pub fields: BTreeMap<Field, Range<usize>>,
    /// Properties of QEMU's `-device`, and of its back end, that the model does not have.
    pub properties: Vec<(&'static str, Property)>,
    /// Other properties, in words: `added by libvirt for the smart card`.
    pub remarks: Vec<String>,
    /// Settings of the format's tool that the model does not have, in words: `boot order 1`.
    /// Another format loses them.
    pub settings: Vec<String>,
    /// Whether the format's tool does not start the guest while this host device is not plugged in.
    pub required_at_start: bool,
}

/// A value of a controller or a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// A controller's model or version.
    Model,
    /// The number of ports of a controller.
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

/// What to do about a part of a text that vusb does not support.
pub(crate) const UNSUPPORTED_ADVICE: &str =
    "start the guest with the tool that the file belongs to, or remove this part";

/// Options of the block nodes of a disk start with this in [`ItemSource::properties`].
pub const OF_BLOCK_NODE: &str = "blockdev.";

/// Options of the character device of a device start with this in [`ItemSource::properties`].
pub const OF_CHARDEV: &str = "chardev.";

/// The number of the back end of a sound card that names none, in [`ItemSource::properties`].
pub const AUDIO_NUMBER: &str = "audiodev.number";

/// The driver of a sound card's `-audiodev` in [`ItemSource::properties`].
pub const AUDIO_DRIVER: &str = "audiodev.driver";

/// The property of a PCI device in QEMU whose slot has more than one function.
pub const MULTIFUNCTION: &str = "multifunction";

/// The value of a QEMU property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// A string.
    Text(String),
    /// A number.
    Number(u64),
    /// True or false.
    Flag(bool),
}

/// One change to a text. A number refers to a controller or device by its position in the spec that
/// was read from the text.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit<'a> {
    /// Add a controller, with everything decided.
    AddController(&'a Controller),
    /// Add a device at this address, with everything decided.
    AddDevice(Address, &'a Device),
    /// Remove a controller.
    RemoveController(usize),
    /// Remove a device.
    RemoveDevice(usize),
    /// Specify everything about a controller, because what the text leaves open would now be filled
    /// differently.
    PinController(usize, &'a Controller),
    /// Specify the address of a device, for the same reason.
    PinDevice(usize, Address),
    /// Turn USB off, so that the format's tool does not add hardware by itself.
    NoUsb,
}

/// What a format cannot express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inexpressible {
    /// What: `the port of hci0`, `a companion without the other two`.
    pub what: String,
    /// Why, and what the caller can do.
    pub why: Reason,
}

/// The stems of the default names of controllers (`hci0`, `pv0`).
pub(crate) const CONTROLLER_STEMS: [&str; 2] = ["hci", "pv"];

/// Refuses a name that a user has chosen in a format that has no names: the name would be lost.
/// Accepts a default name, which consists of one of the `stems` and a number.
pub(crate) fn refuse_chosen_name(
    name: &Name,
    stems: &[&str],
    format: &str,
) -> Result<(), Inexpressible> {
    let is_default = stems.iter().any(|stem| {
        let number = name.as_str().strip_prefix(stem).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    if is_default {
        return Ok(());
    }
    let what = format!("the name {name}");
    Err(Inexpressible { what, why: format!("{format} has no names; leave it out").into() })
}

/// A generated configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// What the text does not express.
    pub lost: Vec<Inexpressible>,
}

impl Config {
    /// Adds everything that the spec does not contain to the hardware that the spec was resolved
    /// to. Returns the addresses of the devices that the arguments add.
    pub fn complete(&self, hardware: &mut Hardware) -> Vec<Address> {
        for controller in self.fixed.controllers() {
            // A text with fixed hardware has an empty spec, so nothing is in the way.
            let _ = hardware.add_controller(controller.clone());
        }
        if self.arguments.is_empty() {
            return Vec::new();
        }
        add_arguments(&self.arguments, hardware)
    }

    /// The refusal to start a guest with a device or a setting that vusb does not support, shown at
    /// the part of the `text` that defines it. `None` if everything is supported.
    pub fn unsupported_part(
        &self,
        resolved: &Resolved,
        text: &str,
        origin: &str,
    ) -> Option<FormatError> {
        let mut sources = self.devices.iter().zip(&resolved.devices);
        let device = sources.find_map(|(source, placed)| {
            let device = resolved.hardware.device(placed.address)?;
            let Kind::Other(other) = &device.kind else { return None };
            let why = source.remarks.join("; ");
            let what = format!("vusb does not support {} ({}): {why}", device.name, other.driver);
            Some(
                Problem::new(source.span.clone(), what)
                    .help(UNSUPPORTED_ADVICE)
                    .in_text(text, origin),
            )
        });
        device.or_else(|| self.unsupported.first().cloned())
    }

    /// A refusal of the spec, shown at the part of the `text` that causes it. `None` if no single
    /// part does.
    pub fn show(&self, refused: &Refused, text: &str, origin: &str) -> Option<FormatError> {
        let source = match refused.item? {
            RequestedItem::Controller(number) => self.controllers.get(number)?,
            RequestedItem::Device(number) => self.devices.get(number)?,
        };
        let fields = fields_of(&refused.refusal);
        let span = fields.iter().find_map(|field| source.fields.get(field)).unwrap_or(&source.span);
        let problem = Problem::new(span.clone(), refused.refusal.to_string());
        let problem = match &refused.note {
            Some(note) => problem.help(&**note),
            None => problem,
        };
        Some(problem.in_text(text, origin))
    }
}

/// The values that a refusal is about, the most relevant one first.
const fn fields_of(refusal: &Refusal) -> &'static [Field] {
    match refusal {
        Refusal::PortCount { .. } | Refusal::SeparatePorts { .. } => &[Field::Ports],
        Refusal::NoSuchController { .. } => &[Field::Controller],
        Refusal::IndexInUse { .. } | Refusal::NoEhci { .. } => &[Field::Index],
        Refusal::Duplicate { .. } => &[Field::Port, Field::Index],
        Refusal::NoSuchPort { .. }
        | Refusal::NoHub { .. }
        | Refusal::PortInUse { .. }
        | Refusal::PortWithoutController { .. } => &[Field::Port, Field::Controller],
        Refusal::WrongSpeed { .. } | Refusal::Full { .. } | Refusal::NoPort { .. } => {
            &[Field::Port, Field::Controller, Field::What]
        }
        Refusal::HubPorts { .. }
        | Refusal::NotRequestable { .. }
        | Refusal::AlreadyPlugged { .. } => &[Field::What],
        Refusal::NotImplemented { .. }
        | Refusal::TypeAndModel { .. }
        | Refusal::VersionAndModel { .. }
        | Refusal::BackendOfEmulated { .. }
        | Refusal::Companions { .. } => &[Field::Model],
        _ => &[],
    }
}
