//! USB for virtual machines: the library behind the command `vusb`.
//!
//! ```no_run
//! use vusb::model::spec::DeviceSpec;
//! use vusb::{Context, Host, Options, StateDir};
//!
//! # fn main() -> Result<(), vusb::Error> {
//! let context = Context::with_builtin_drivers(StateDir::new("/var/lib/vusb"), Host::system());
//! let options = Options::default();
//! let web1 = context.domain("qemu:/run/web1.qmp", &options)?;
//! let stick = DeviceSpec::new("storage:stick.img".parse().unwrap());
//! let outcome = context.device_add(&web1, &stick, &options)?;
//! if let Some(chosen) = outcome.chosen {
//!     println!("{chosen}"); // hci0:1
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Context`] is made once and shared by threads. Each call takes [`Options`]: limits, a dry
//! run, an observer, a way to cancel. Results, notes, steps and remedies are values that serialize
//! and deserialize; user interfaces choose the words.
//!
//! # The course of a call
//!
//! ```text
//!  lock ─▶ record ─▶ observe ─▶ recover ─▶ resolve ─▶ diff ─▶ check
//!                                                               │
//!                                                               ▼
//!     save ◀─ observe ◀─ perform ◀─ claim ◀─ save intent ◀─ look for rivals
//!                 one step at a time,                    a dry run only takes
//!                 undone on failure                      the steps in memory
//! ```
//!
//! The library prints nothing, reads no environment variables, and has no global state. It names no
//! hypervisor: drivers and formats are registered ([`Registry`]).

#![forbid(unsafe_code)]

mod address;
mod advice;
mod apply;
mod assignments;
mod availability;
mod backend_domain;
mod call;
mod claim_files;
mod claim_keys;
mod claims;
mod command_lines;
mod context;
mod controllers;
mod convert;
mod device_list;
mod device_ref;
mod devices;
mod domains;
mod error;
mod files;
mod guest_config;
mod host_devices;
mod host_identity;
mod image;
mod index;
mod inventory;
mod listing;
mod lock;
mod lookup;
mod matching;
mod models;
mod moving;
mod names;
mod nearest;
mod note;
mod options;
mod outcome;
mod own_files;
mod pending;
mod perform;
mod permission;
mod record;
mod recorded;
mod recover;
mod restore;
pub mod rules;
mod session;
mod speeds;
mod state;
mod step;
mod transfer;
mod verbs;
pub mod view;

pub use address::DomainAddress;
pub use advice::Advice;
pub use assignments::{Assigned, AssignedDomain, AssignedIdentity, Assignment, Assignments};
pub use context::Context;
pub use convert::{ConversionTarget, Converted, StartArguments};
pub use device_list::DeviceList;
pub use device_ref::DeviceRef;
pub use error::{Error, ExitCode, NotUndone};
pub use guest_config::GuestConfig;
pub use moving::Destination;
pub use note::{Note, Recovery, WhyAdded, WhyRemoved};
pub use options::{Cancel, Observer, Options, Progress};
pub use outcome::{Chosen, DeviceOutcome, NotRestored, Outcome, Plan};
pub use recorded::RecordedDomain;
pub use state::StateDir;
pub use step::{DescribedStep, StepView};
pub use vusb_drivers as drivers;
pub use vusb_drivers::{GuestEvent, GuestWatch, Registry, StartOptions, WatchOptions};
pub use vusb_formats as formats;
pub use vusb_formats::Format;
pub use vusb_host::Host;
pub use vusb_model as model;
