//! The version of the JSON.

/// The version of the layout.
pub const API: u32 = 1;
