//! Rules: what the devices of this machine are for.
//!
//! ```text
//!   /usr/lib/vusb/rules.d/*.toml ─┐  load   ┌─ check: may a person give this device to this domain?
//!   /etc/vusb/rules.d/*.toml ─────┴────────▶┤
//!                                           └─ explain: what happens with it, and why
//! ```
//!
//! [`vusb_model::rules`] makes the decisions. Each call reads the files once, unless the context
//! was given loaded rules. If a file has a mistake, no host device is attached without force,
//! because a rule that denies it may be in that file.

mod explain;
mod facts;
pub(crate) mod load;
pub(crate) mod permission;
mod view;

use std::path::Path;

pub use explain::Explained;
pub(crate) use explain::{effects, explain, named_domains};
pub use facts::facts;
pub use load::{LoadedRules, check_text, load};
pub use view::{EffectView, EffectsView, ExplainView, PastView, RuleView, RulesView};

use crate::error::Error;

/// The text of another tool's rule file.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn text_of(path: &Path) -> Result<String, Error> {
    crate::guest_config::text(path)
}
