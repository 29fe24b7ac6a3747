//! `vusbd`: gives guests their USB devices back automatically, and follows the rules.
//!
//! ```text
//!   uevents ─────────┐                                        ┌─▶ worker of web1 ─▶ vusb (the library)
//!   guests ──────────┼─▶ messages ─▶ Daemon ─▶ Reconciler ─▶──┼─▶ worker of web2 ─▶
//!   records, signals ┘       ▲                   (pure)       └─▶ …
//!                            └────────────── results ◀───────────────┘
//! ```
//!
//! Other programs call it over Varlink: `vusb-interface` describes the interface.
//!
//! [`reconcile`] decides what is to be done; it is pure. [`daemon`] carries it out: each source of
//! events is a thread that waits, and each piece of work for a domain has a thread; [`slots`]
//! limits their number. So a guest that does not reply delays no other guest. No source of events
//! is polled, and no monitor of a guest is held: the library opens it for one change.

#![forbid(unsafe_code)]

mod api;
mod atomic_file;
mod connections;
pub mod daemon;
mod events;
mod guest_watches;
mod hangup;
mod held;
mod machine;
mod methods;
mod metrics;
mod polkit;
mod question_command;
pub mod reconcile;
pub mod request;
mod rights;
mod scan_times;
mod shared;
pub mod slots;
mod timestamp;
mod udev_rules;
mod worker;
