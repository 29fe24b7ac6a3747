//! `vusb-backend`: carries USB devices of this domain to the guests of a Xen host, over PVUSB.
//!
//! ```text
//!   main ── opener   root's part: opens devices, nothing else
//!     └─── supervisor   one thread: xenstore, uevents; decides with `phase`, tells of itself with `publish`
//!            ├─── lister   looks for devices, which may take long
//!            └─── controller   a thread for each: epoll
//!                   └─── engine   rings, ports, transfers: decides, without I/O of its own
//!                          ├─ guest   the guest's memory and rings
//!                          └─ lend    devices: opened, configured, given back, on threads of their own
//! ```
//!
//! `docs/xenstore.md` has what stands in xenstore, and `nodes` reads it.

#![forbid(unsafe_code)]

pub mod controller;
pub mod counters;
pub mod engine;
pub mod guest;
pub mod lend;
pub mod lister;
pub mod nodes;
pub mod opener;
pub mod phase;
pub mod publish;
pub mod supervisor;
