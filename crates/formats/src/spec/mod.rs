//! This project's own spec, in TOML.
//!
//! ```toml
//! profile = "vusb-1"                # the rules that fill what is left open
//! domain = "web1"                   # what the guest is called
//! driver = "qemu:/run/web1.qmp"     # where it is
//!
//! [[controller]]                    # every key may be left out
//! usbversion = 3
//!
//! [[device]]
//! host = "0781:5581"                # a device of this machine, by any selector
//! controller = "hci0"               # by name or by index
//! port = "1"
//! name = "stick"
//!
//! [[device]]
//! kind = "storage"                  # or a device that the hypervisor makes up
//! file = "stick.img"
//!
//! [[device]]
//! device = "storage:a.img,readonly" # or the short form of the command line
//! ```
//!
//! | table | keys |
//! |---|---|
//! | `controller` | `name`, `index`, `type` (`auto`, `pv`, `emulated`), `usbversion` (1, 2, 3), `model`, `ports`, `usb2ports` and `usb3ports` (an xHCI whose halves differ), `companions` (`"none"`, or a list of `{ model, first_port }`), `backend`, `pci` (`"pci.0/04.0"`) |
//! | `device` | `name`, `controller`, `port`, and one of `host`, `kind`, `device` |
//! | of kind `storage` | `file`, `format` (`raw`, `qcow2`), `readonly` |
//! | `tablet`, `mouse`, `keyboard` | `usbversion` (1, 2) |
//! | `hub` | `ports` (1 to 8) |
//! | `serial`, `redir` | `chardev` |
//! | `audio` | `audiodev` |
//! | `net` | `backend`, `mac` |
//! | `mtp` | `dir`, `writable` |
//! | `ccid` | none |
//! | `other` | `driver`: what another tool plugged in; it can be told that it is there, and not asked for |
//!
//! What is not in the table is an error, so that a misspelt key is never a wish that nobody hears. Paths are handed on as
//! they are written: what they are relative to is the reader's business.

mod controller;
mod device;
mod fields;
mod write;

use toml::de::DeTable;
use vusb_model::profile::Profile;
use vusb_model::spec::Spec;

use crate::config::{Field, Place};
use crate::error::{FormatError, Problem};
use fields::Fields;
pub use write::write;
pub(crate) use write::{controller_text, device_text};

/// The longest text that is read, in bytes: 16 MiB. Four thousand full controllers take a tenth of it.
pub const MAX_BYTES: usize = 16 << 20;

/// What a spec file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecFile {
    /// What is asked for.
    pub spec: Spec,
    /// Where the domain is: `qemu:/run/web1.qmp`, `xen:web1`. Handed on as it is written.
    pub driver: Option<String>,
}

/// The keys of the file itself.
const KEYS: [&str; 5] = ["profile", "domain", "driver", "controller", "device"];

/// Reads a spec. `origin` is what the text is called in errors: the file's name.
///
/// # Errors
/// It is no TOML, or it says what no spec can say. The first mistake is shown.
pub fn read(text: &str, origin: &str) -> Result<SpecFile, FormatError> {
    parse(text).map_err(|problem| problem.in_text(text, origin))
}

fn parse(text: &str) -> Result<SpecFile, Problem> {
    parse_with_places(text).map(|said| said.file)
}

/// What a spec says, and where.
pub(crate) struct Said {
    pub(crate) file: SpecFile,
    pub(crate) controllers: Vec<Place>,
    pub(crate) devices: Vec<Place>,
}

/// Which key says which value of a controller.
const CONTROLLER_FIELDS: [(&str, Field); 7] = [
    ("model", Field::Model),
    ("usbversion", Field::Model),
    ("type", Field::Model),
    ("companions", Field::Model),
    ("ports", Field::Ports),
    ("usb2ports", Field::Ports),
    ("index", Field::Index),
];

/// Which key says which value of a device.
const DEVICE_FIELDS: [(&str, Field); 5] = [
    ("controller", Field::Controller),
    ("port", Field::Port),
    ("host", Field::What),
    ("kind", Field::What),
    ("device", Field::What),
];

pub(crate) fn parse_with_places(text: &str) -> Result<Said, Problem> {
    if text.len() > MAX_BYTES {
        let what = format!("this is {} bytes long, and a spec is 16 MiB at the most", text.len());
        return Err(Problem::new(0..0, what).help("is it a spec?"));
    }
    let table = DeTable::parse(text).map_err(|error| {
        Problem::new(error.span().unwrap_or(0..0), format!("this is no TOML: {}", error.message()))
    })?;
    let mut fields = Fields::new(table.get_ref(), table.span());
    let profile = fields.parse::<Profile>("profile")?.unwrap_or_default();
    let domain = fields.parse("domain")?;
    let driver = fields.text("driver")?;
    let controllers = fields.tables("controller")?;
    let controller_places = controllers.iter().map(|it| it.place(&CONTROLLER_FIELDS)).collect();
    let controllers = controllers.into_iter().map(controller::read);
    let controllers = controllers.collect::<Result<_, Problem>>()?;
    let devices = fields.tables("device")?;
    let device_places = devices.iter().map(|it| it.place(&DEVICE_FIELDS)).collect();
    let devices = devices.into_iter().map(device::read);
    let devices = devices.collect::<Result<_, Problem>>()?;
    fields.finish("a spec", &KEYS)?;
    let spec = Spec { profile, domain, controllers, devices, ..Spec::default() };
    let file = SpecFile { spec, driver };
    Ok(Said { file, controllers: controller_places, devices: device_places })
}
