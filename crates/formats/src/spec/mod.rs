//! This project's own spec, in TOML.
//!
//! ```toml
//! profile = "vusb-1"                # the rules that fill in what is left open
//! domain = "web1"                   # the guest's name
//! driver = "qemu:/run/web1.qmp"     # the running guest
//!
//! [[controller]]                    # every key is optional
//! usbversion = 3
//!
//! [[device]]
//! host = "0781:5581"                # a device of this machine, with any selector
//! controller = "hci0"               # by name or by index
//! port = "1"
//! name = "stick"
//!
//! [[device]]
//! kind = "storage"                  # or an emulated device
//! file = "stick.img"
//!
//! [[device]]
//! device = "storage:a.img,readonly" # or the short form
//! ```
//!
//! | table | keys |
//! |---|---|
//! | `controller` | `name`, `index`, `type` (`auto`, `pv`, `emulated`), `usbversion` (1, 2, 3), `model`, `ports`, `usb2ports` and `usb3ports` (an xHCI with different numbers of both), `companions` (`"none"`, or a list of `{ model, first_port }`), `backend`, `pci` (`"pci.0/04.0"`) |
//! | `device` | `name`, `controller`, `port`, and one of `host`, `kind`, `device` |
//! | with `host` | `also`: the other ids that the device may have when it returns to its port (`["0483:df11"]`); `required`: whether its absence is a failure (`true`) |
//! | of kind `storage` | `file`, `format` (`raw`, `qcow2`), `readonly`, `media` (`disk`, `cdrom`), `serial`, `removable` |
//! | `tablet`, `mouse`, `keyboard` | `usbversion` (1, 2) |
//! | `hub` | `ports` (1 to 8) |
//! | `serial`, `redir` | `chardev` |
//! | `audio` | `audiodev` |
//! | `net` | `backend`, `mac` |
//! | `mtp` | `dir`, `writable` |
//! | `ccid` | none |
//! | `other` | `driver`: a device that another tool plugged in; it can be described, but not requested |
//!
//! Any other key is an error, so that a misspelt key is not silently ignored. Paths are passed on
//! as written: the reader decides what they are relative to.

mod controller;
mod device;
mod write;

use toml::de::DeTable;
use vusb_model::profile::Profile;
use vusb_model::spec::Spec;

use crate::config::{Field, ItemSource};
use crate::error::{FormatError, Problem};
use crate::fields::Fields;
use crate::length;
pub use write::write;
pub(crate) use write::{controller_text, device_text};

/// A parsed spec file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecFile {
    /// The requested hardware.
    pub spec: Spec,
    /// The address of the running domain: `qemu:/run/web1.qmp`, `xen:web1`. Passed on as written.
    pub driver: Option<String>,
}

/// The top-level keys.
const KEYS: [&str; 5] = ["profile", "domain", "driver", "controller", "device"];

/// Parses a spec. `origin` is the name of the text in errors: the name of the file.
///
/// # Errors
/// It is too long, has too many tables, is not TOML, or is not a valid spec. The first mistake is
/// shown.
pub fn read(text: &str, origin: &str) -> Result<SpecFile, FormatError> {
    parse(text).map_err(|problem| problem.in_text(text, origin))
}

fn parse(text: &str) -> Result<SpecFile, Problem> {
    parse_with_sources(text).map(|parsed| parsed.file)
}

/// A parsed spec file, with the sources of its items.
pub(crate) struct ParsedSpec {
    pub(crate) file: SpecFile,
    pub(crate) controllers: Vec<ItemSource>,
    pub(crate) devices: Vec<ItemSource>,
}

/// The keys for the fields of a controller.
const CONTROLLER_FIELDS: [(&str, Field); 7] = [
    ("model", Field::Model),
    ("usbversion", Field::Model),
    ("type", Field::Model),
    ("companions", Field::Model),
    ("ports", Field::Ports),
    ("usb2ports", Field::Ports),
    ("index", Field::Index),
];

/// The keys for the fields of a device.
const DEVICE_FIELDS: [(&str, Field); 5] = [
    ("controller", Field::Controller),
    ("port", Field::Port),
    ("host", Field::What),
    ("kind", Field::What),
    ("device", Field::What),
];

/// The maximum number of tables. Each takes more than a kilobyte in memory, and three bytes of text
/// can make one. Four thousand full controllers have two thirds of this.
const MAX_TABLES: usize = 100_000;

/// An upper bound for the number of tables in a text: the headers, the inline tables, and the dots
/// of keys. These characters also count within strings.
fn tables(text: &str) -> usize {
    let (mut tables, mut dots, mut begins_line) = (0, 0, true);
    for byte in text.bytes() {
        match byte {
            b' ' | b'\t' => continue,
            b'[' if begins_line => tables += 1,
            b'{' => (tables, dots) = (tables + 1, 0),
            b'.' => dots += 1,
            // The end of a key or of a header.
            b'=' | b']' => (tables, dots) = (tables + dots, 0),
            b',' | b'\n' => dots = 0,
            _ => {}
        }
        begins_line = byte == b'\n';
    }
    tables
}

pub(crate) fn parse_with_sources(text: &str) -> Result<ParsedSpec, Problem> {
    length::check(text, "a spec")?;
    if tables(text) > MAX_TABLES {
        let what = format!("there are more than {MAX_TABLES} tables; no spec has this many");
        return Err(Problem::new(0..0, what).help("is it a spec?"));
    }
    let table = DeTable::parse(text).map_err(|error| {
        Problem::new(error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()))
    })?;
    let mut fields = Fields::new(table.get_ref(), table.span());
    let profile = fields.parse::<Profile>("profile")?.unwrap_or_default();
    let domain = fields.parse("domain")?;
    let driver = fields.text("driver")?;
    let controllers = fields.tables("controller")?;
    let controller_sources = controllers.iter().map(|it| it.source(&CONTROLLER_FIELDS)).collect();
    let controllers = controllers.into_iter().map(controller::read);
    let controllers = controllers.collect::<Result<_, Problem>>()?;
    let devices = fields.tables("device")?;
    let device_sources = devices.iter().map(|it| it.source(&DEVICE_FIELDS)).collect();
    let devices = devices.into_iter().map(device::read);
    let devices = devices.collect::<Result<_, Problem>>()?;
    fields.finish("a spec", &KEYS)?;
    let spec = Spec { profile, domain, controllers, devices, ..Spec::default() };
    let file = SpecFile { spec, driver };
    Ok(ParsedSpec { file, controllers: controller_sources, devices: device_sources })
}
