//! libvirt's domain XML.
//!
//! ```text
//!   text ──bounds──xml──▶ tree ──domain──▶ guest, controllers, devices, each with its element
//!     └──────────────────────────edit──▶ text with a few places changed
//!   hardware ──element──▶ elements ──write──▶ a whole domain
//! ```
//!
//! | module | room for |
//! |---|---|
//! | `bounds` | what no domain has: sizes, depths, a document type |
//! | `xml`, `numbers`, `names`, `address` | the tree, and how libvirt writes numbers, names and places |
//! | `guest`, `controller`, `device` | what each element says |
//! | `domain` | all of it in order |
//! | `element` | elements to write, in the style of what is around them |
//! | `edit`, `write` | the two ways to write them |
//!
//! What the XML leaves open is left open: libvirt's own rules fill it, in `vusb_model::resolve::libvirt`.

mod address;
mod bounds;
mod controller;
mod device;
mod domain;
mod edit;
mod element;
mod guest;
mod names;
mod numbers;
mod write;
mod xml;

use vusb_model::name::Name;

use crate::config::Config;
use crate::error::FormatError;
use domain::Domain;
use names::{Alias, alias_of};

pub use address::root_bus;
pub(crate) use edit::edit;
pub(crate) use write::write;

/// Reads a domain: what `virsh dumpxml` prints, what a person wrote, of a guest that runs or not.
pub(crate) fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let document = xml::parse(text).map_err(|problem| problem.in_text(text, origin))?;
    let domain = Domain::read(document.root_element());
    let mut domain = domain.map_err(|problem| problem.in_text(text, origin))?;
    let warnings = std::mem::take(&mut domain.warnings);
    let warnings = warnings.into_iter().map(|problem| problem.in_text(text, origin)).collect();
    Ok(Config { warnings, ..domain.into_config() })
}

/// The alias that says a name, which is QEMU's id then; `None` where libvirt gives an alias of its own choice.
pub fn alias(name: &Name) -> Option<String> {
    match alias_of(name) {
        Alias::Own(alias) => Some(alias),
        Alias::Automatic | Alias::Impossible => None,
    }
}
