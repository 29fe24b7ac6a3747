//! `vusb-backend`: exports USB devices of this domain to guests of a Xen host over PVUSB.
//!
//! ```text
//!   main ── opener   the privileged part: opens device files and does nothing else
//!     └─── supervisor   one thread: xenstore, uevents; decides with `phase`, announces itself
//!            │          with `announcement`
//!            ├─── lister   enumerates devices, which may block for seconds
//!            └─── controller   one thread per controller: epoll
//!                   └─── engine   rings, ports, transfers: all decisions, no I/O
//!                          ├─ guest   the guest's memory and rings
//!                          └─ device_jobs   devices: open, configure, release; own threads
//! ```
//!
//! `docs/xenstore.md` describes the nodes in xenstore, which `vusb_xen::usb` defines and `nodes`
//! reads.

#![forbid(unsafe_code)]

pub mod announcement;
pub mod controller;
pub mod counters;
pub mod device_jobs;
pub mod engine;
pub mod guest;
pub mod lister;
pub mod nodes;
pub mod opener;
pub mod penalty;
pub mod phase;
pub mod polling;
pub mod supervisor;
