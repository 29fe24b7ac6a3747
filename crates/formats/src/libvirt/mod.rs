//! libvirt's domain XML.
//!
//! ```text
//!   text ──xml──▶ tree ──domain──▶ guest, controllers, devices, each with its element
//!     └───────────────────────────edit──▶ the same text with a few changes
//!   hardware ──express──▶ elements ──write──▶ a whole domain
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `xml`, `numbers`, `names`, `address` | the tree, and how libvirt writes numbers, names and addresses |
//! | `guest`, `controller`, `device` | what each element means |
//! | `domain` | the whole domain |
//! | `all_devices` | what concerns all devices of a domain: unique names and addresses |
//! | `console` | the serial port that libvirt adds for a console |
//! | `express` | hardware as elements |
//! | `edit`, `write` | the two ways to write |
//! | `device_element` | the element of one device |
//! | `passed_through` | what a running domain has of this machine |
//!
//! What the XML leaves open stays open in the spec. libvirt's rules, which fill it, are in
//! `vusb_model::resolve::libvirt`.

mod address;
mod all_devices;
mod console;
mod controller;
mod device;
mod device_element;
mod domain;
mod edit;
mod express;
mod format;
mod guest;
mod names;
mod numbers;
mod passed_through;
mod write;
pub(crate) mod xml;

use vusb_model::name::Name;

use crate::config::Config;
use crate::error::FormatError;
use crate::xml::element;
use domain::Domain;
use names::{Alias, alias_of};

pub use address::root_bus;
pub use device_element::{HostSource, device_element};
use edit::edit;
pub use format::Libvirt;
pub use passed_through::passed_through;
use write::write;

/// Reads a domain. See [`ConfigFormat::read`](crate::ConfigFormat::read).
fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let document = xml::parse(text).map_err(|problem| problem.in_text(text, origin))?;
    let domain = Domain::read(document.root_element());
    let mut domain = domain.map_err(|problem| problem.in_text(text, origin))?;
    let warnings = std::mem::take(&mut domain.warnings);
    let warnings =
        warnings.into_iter().map(|problem| problem.warning().in_text(text, origin)).collect();
    let unsupported = std::mem::take(&mut domain.unsupported);
    let unsupported =
        unsupported.into_iter().map(|problem| problem.in_text(text, origin)).collect();
    Ok(Config { warnings, unsupported, ..domain.into_config() })
}

/// The alias that stands for a name, and that QEMU gets as the id. `None` if libvirt assigns the
/// alias.
pub fn alias(name: &Name) -> Option<String> {
    match alias_of(name) {
        Alias::User(alias) => Some(alias),
        Alias::Automatic | Alias::Impossible => None,
    }
}
