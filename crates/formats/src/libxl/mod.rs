//! libxl's JSON, as `xl list -l` prints it; and what both of xl's formats have in common: libxl's own structures.
//!
//! ```text
//!   xl.cfg ──xl::read──┐                                  ┌──edit──▶ xl::edit, change: the text
//!                      ├──▶ usb ──meaning──▶ Config       │
//!   JSON ────read──────┘                        edits, hardware ──say──▶ words
//! ```

mod change;
pub(crate) mod edit;
mod json;
pub(crate) mod meaning;
mod read;
pub(crate) mod say;
pub(crate) mod usb;

use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;

use crate::config::{Config, Edit, Unsayable, Written};
use crate::error::FormatError;

/// Reads a configuration.
pub(crate) fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let usb = read::usb(text).map_err(|problem| problem.in_text(text, origin))?;
    meaning::config(usb, text, origin)
}

/// The text with these changes.
pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Unsayable> {
    let mut json = change::Json(text.to_owned());
    edit::edit(&mut json, edits)?;
    Ok(json.0)
}

/// A whole configuration.
pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Written {
    change::write(guest, hardware)
}
