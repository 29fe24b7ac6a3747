//! The command on real guests: what a person types, what it answers, and what the guest's own kernel sees.
//!
//! Each module is a story. They boot guests under software emulation, so they are slow, and `cargo xtask test` runs them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod cold;
mod hot;
mod kinds;
mod passthrough;
mod support;
mod trouble;
mod versions;
