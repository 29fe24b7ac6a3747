//! QEMU's monitor protocol, QMP: a codec without I/O, and a blocking client on top of it.
//!
//! Most callers want [`Client`]:
//!
//! ```no_run
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use serde_json::json;
//! use vusb_qmp::{Client, Deadline, Error};
//!
//! let mut qemu = Client::connect(Path::new("/run/web1.qmp"), Deadline::after(Duration::from_secs(5)))?;
//! println!("QEMU {}", qemu.greeting().version);
//!
//! let deadline = Deadline::after(Duration::from_secs(10));
//! match qemu.execute("device_del", json!({"id": "stick"}), deadline) {
//!     Ok(_) => qemu.wait_event(deadline, |event| {
//!         (event.name == "DEVICE_DELETED" && event.data["device"] == "stick").then_some(())
//!     })?,
//!     Err(Error::Command(refusal)) => eprintln!("{}", refusal.desc),
//!     Err(lost) => return Err(lost),
//! }
//! # Ok::<(), Error>(())
//! ```
//!
//! [`codec`] is for callers with their own event loop, for tests, and for fuzzing.
//!
//! The specification is QEMU's `docs/interop/qmp-spec.rst`. In addition:
//! * Payloads are [`serde_json::Value`]; integers stay integers. Query the features of a QEMU with
//!   `query-qmp-schema`; do not derive them from its version.
//! * Unknown events, fields and error classes are data, not errors.
//! * The peer is not trusted: sizes, nesting, queues and waits are bounded.

#![forbid(unsafe_code)]

mod client;
pub mod codec;
mod connection;
mod deadline;
mod error;
mod events;
mod message;

pub use client::Client;
pub use codec::{ErrorClass, Event, Greeting, Limits, Message, Version};
pub use deadline::Deadline;
pub use error::{CommandError, DecodeError, Error};
pub use events::{MAX_EVENT_BYTES, MAX_EVENTS};
