//! libxl's JSON, as `xl list -l` prints it, and what it shares with `xl.cfg`: libxl's own
//! structures.
//!
//! ```text
//!   xl.cfg ──xl::read──┐                                  ┌──edit──▶ EditableText: xl::edit, json_edit
//!                      ├──▶ structs ──interpret──▶ Config │
//!   JSON ────read──────┘                         edits, hardware ──express──▶ entries of libxl's lists
//! ```

pub(crate) mod edit;
pub(crate) mod express;
mod format;
pub(crate) mod interpret;
mod json;
mod json_edit;
mod read;
pub(crate) mod structs;

use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;

pub use format::LibxlJson;

/// Reads a configuration.
fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let usb = read::usb(text).map_err(|problem| problem.in_text(text, origin))?;
    interpret::interpret(usb, text, origin)
}

/// Applies edits to a text.
fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    let mut json = json_edit::Json(text.to_owned());
    edit::edit(&mut json, edits)?;
    Ok(json.0)
}

/// Generates a whole configuration.
fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    json_edit::write(guest, hardware)
}
