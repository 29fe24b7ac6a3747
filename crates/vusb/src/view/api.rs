//! The version of the JSON layout.

/// The current version, which is the value of the key `api`.
pub const API: u32 = 1;
