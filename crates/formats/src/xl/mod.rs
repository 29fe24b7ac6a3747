//! xl's configuration, `xl.cfg(5)`.
//!
//! ```text
//!   text ──grammar──▶ settings ──read──▶ libxl's structures ──libxl::meaning──▶ Config
//!     ▲                  │                (the same for JSON)
//!     └──────edit────────┘
//! ```
//!
//! | key | says |
//! |---|---|
//! | `usbctrl` | a list of controllers: type, version, ports |
//! | `usbdev` | a list of host devices: hostbus, hostaddr, controller, port |
//! | `usb`, `usbdevice` | QEMU's own UHCI, and what is on it: tablet, mouse, keyboard, host:VENDOR:PRODUCT, host:BUS.ADDRESS |
//! | `usbversion`, `spiceusbredirection` | QEMU's own controller of that version, and how many redirected devices are on it |
//! | `name`, `uuid`, `type`, `builder`, `memory`, `vcpus`, `spice` | the guest |
//!
//! What xl reads wrongly, or passes over, is read as xl does and warned about; what it refuses is refused, with its own sentence beside ours. Keys that are
//! not in the table are none of this project's business.

mod edit;
mod entry;
mod grammar;
mod number;
mod read;
mod settings;
mod write;

use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;

use crate::config::{Config, Edit, Unsayable, Written};
use crate::error::FormatError;
use crate::libxl::{self, meaning};

/// Reads a configuration.
pub(crate) fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let usb = read::usb(text).map_err(|problem| problem.in_text(text, origin))?;
    meaning::config(usb, text, origin)
}

/// The text with these changes.
pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Unsayable> {
    let mut cfg = edit::Cfg(text.to_owned());
    libxl::edit::edit(&mut cfg, edits)?;
    Ok(cfg.0)
}

/// A whole configuration.
pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Written {
    write::write(guest, hardware)
}
