//! `vusb` and `vusb-backend` on a real Xen: commands in dom0, and their effect in the guest's
//! kernel.
//!
//! The tests are slow because Xen runs under software emulation. `cargo xtask test` runs them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod audio;
mod config_files;
mod driver_domain;
mod guest_kinds;
mod guide;
mod hostile;
mod refusals;
mod scenarios;
mod soak;
mod support;
mod systemd_unit;
