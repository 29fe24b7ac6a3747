//! One driver for each hypervisor: it says what is there, and takes one step at a time.
//!
//! ```text
//!            ┌───────────── Driver ─────────────┐
//!  observe ──▶ hardware, states, what is ours    │
//!  capabilities ──▶ what can be had              │  qemu: a running QEMU, over its QMP socket
//!  check(steps) ──▶ or a refusal, nothing touched│  sim:  a simulated hypervisor in a file
//!  perform(step) ──▶ done, or what went wrong    │  xenctl: a guest of Xen, by way of xenstore and its device model
//!  perform_all(steps) ──▶ likewise, where all    │  configfile: a guest that does not run, by its file
//!            │           can be done at once     │
//!            └──────────────────────────────────┘
//! ```
//!
//! A driver decides nothing: what to do comes from [`vusb_model`]. It keeps no state beyond a connection; what must be
//! remembered between two commands is the caller's to keep, and is handed to [`Driver::observe`].

#![forbid(unsafe_code)]

pub mod configfile;
mod driver;
pub mod machine;
pub mod qemu;
pub mod sim;
pub mod xenctl;

pub use driver::{Counters, DeviceState, Driver, Error, Foreign, Observed};
