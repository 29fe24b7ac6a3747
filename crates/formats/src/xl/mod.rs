//! xl's configuration, `xl.cfg(5)`.
//!
//! ```text
//!   text ──grammar──▶ settings ──read──▶ libxl's structures ──libxl::interpret──▶ Config
//!     ▲                  │                (shared with JSON)
//!     └──────edit────────┘
//! ```
//!
//! | key | content |
//! |---|---|
//! | `usbctrl` | a list of controllers: type, version, ports |
//! | `usbdev` | a list of host devices: hostbus, hostaddr, controller, port |
//! | `usb`, `usbdevice` | QEMU's boot UHCI controller, and its devices: tablet, mouse, keyboard, host:VENDOR:PRODUCT, host:BUS.ADDRESS |
//! | `usbversion`, `spiceusbredirection` | QEMU's boot controller of that version, and the number of redirected devices on it |
//! | `name`, `uuid`, `type`, `builder`, `memory`, `vcpus`, `spice` | the guest |
//!
//! What xl misreads or ignores is read as xl reads it, with a warning. What it rejects is rejected,
//! and the error quotes xl's own message. Keys that are not in the table are never touched.

mod edit;
mod entry;
mod format;
mod grammar;
mod number;
mod read;
mod settings;
mod write;

use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::libxl::{self, interpret};

pub use format::Xl;

/// Reads a configuration.
fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let usb = read::usb(text).map_err(|problem| problem.in_text(text, origin))?;
    interpret::interpret(usb, text, origin)
}

/// Applies edits to a text.
fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    let mut cfg = edit::Cfg(text.to_owned());
    libxl::edit::edit(&mut cfg, edits)?;
    Ok(cfg.0)
}

/// Generates a whole configuration.
fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    write::write(guest, hardware)
}
