//! USB for virtual machines: what the command `vusb` does, for programs.
//!
//! ```no_run
//! use vusb::{Host, StateDir, Vusb};
//! use vusb::model::spec::DeviceSpec;
//!
//! # fn main() -> Result<(), vusb::Error> {
//! let vusb = Vusb::new(StateDir::default(), Host::system());
//! let web1 = vusb.domain("qemu:/run/web1.qmp")?;
//! let outcome = vusb.device_add(&web1, &DeviceSpec::new("storage:stick.img".parse().unwrap()))?;
//! if let Some(at) = outcome.at {
//!     println!("{at}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # One way through the house
//!
//! ```text
//!  lock ─▶ record ─▶ observe ─▶ recover ─▶ resolve ─▶ diff ─▶ check ─▶ claims ─▶ save intent ─▶ perform ─▶ observe ─▶ save
//!                                                               │ dry run ends here    one at a time,
//!                                                                                      undo on failure
//! ```
//!
//! The library prints nothing, ends no process and looks at the environment in [`StateDir::default`] alone.

#![forbid(unsafe_code)]

mod apply;
mod claims;
mod connect;
mod controllers;
mod convert;
mod device_ref;
mod devices;
mod domain;
mod error;
mod files;
mod hosts;
mod listing;
mod lock;
mod matching;
mod merge;
mod models;
mod outcome;
mod pending;
mod perform;
mod record;
mod recover;
mod session;
mod state;
pub mod view;
mod vusb;
mod wanted;

pub use convert::Converted;
pub use device_ref::DeviceRef;
pub use domain::DomainId;
pub use error::{Error, ExitCode, NotUndone};
pub use outcome::{Chosen, Outcome, OutcomeView};
pub use state::{Settings, StateDir};
pub use vusb::Vusb;
pub use vusb_drivers::qemu::ArgumentOptions;
pub use vusb_formats::Format;
pub use vusb_host::Host;
pub use vusb_model as model;
pub use wanted::Wanted;
