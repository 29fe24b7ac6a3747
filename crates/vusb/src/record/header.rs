//! The part of a record that is about the domain as a whole.

use serde::{Deserialize, Serialize};
use vusb_model::name::Name;
use vusb_model::profile::Profile;

/// What a record says about the domain as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The name, if the domain has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Name>,
    /// The profile that the hardware is resolved with.
    #[serde(default)]
    pub(crate) profile: Profile,
    /// Whether its host devices were taken out until it is resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) suspended: bool,
}
