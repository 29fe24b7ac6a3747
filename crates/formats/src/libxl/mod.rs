//! libxl's JSON, as `xl list -l` prints it; and what xl's two formats have in common: libxl's own structures.

pub(crate) mod edit;
pub(crate) mod meaning;
pub(crate) mod say;
pub(crate) mod usb;

use vusb_model::guest::Guest;
use vusb_model::hardware::Hardware;

use crate::config::{Config, Edit, Unsayable, Written};
use crate::error::{FormatError, Problem};

fn not_yet() -> String {
    "not in this build yet".to_owned()
}

pub(crate) fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    Err(Problem::new(0..0, not_yet()).in_text(text, origin))
}

pub(crate) fn edit(_: &str, _: &[Edit<'_>]) -> Result<String, Unsayable> {
    Err(Unsayable { what: "this format".to_owned(), why: not_yet() })
}

pub(crate) fn write(_: &Guest, _: &Hardware) -> Written {
    let lost = vec![Unsayable { what: "this format".to_owned(), why: not_yet() }];
    Written { text: String::new(), lost }
}
