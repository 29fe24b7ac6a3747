//! The backend and the command on real Xen: what a person types in dom0, and what the guest's own kernel sees.
//!
//! Slow, for Xen runs under software emulation; `cargo xtask test` runs them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod driver_domain;
mod files;
mod guide;
mod hostile;
mod kinds;
mod mistakes;
mod packaged;
mod soak;
mod sound;
mod stories;
mod support;
