//! The model of a guest's USB hardware.
//!
//! ```text
//! spec ──resolve(profile, capabilities)──▶ hardware ──diff(observed)──▶ steps
//! ```
//!
//! Pure and deterministic: no clock, no socket, no file. [`resolve`](resolve::resolve) decides
//! everything that a [`Spec`](spec::Spec) leaves open, [`diff`](diff::diff) lists the steps from
//! one [`Hardware`](hardware::Hardware) to another, and [`digest`](digest::digest) tells whether a
//! guest could distinguish two of them.
//!
//! ```
//! use vusb_model::capabilities::Capabilities;
//! use vusb_model::hardware::Hardware;
//! use vusb_model::resolve::resolve;
//! use vusb_model::spec::{DeviceSpec, Spec};
//!
//! let spec = Spec { devices: vec![DeviceSpec::new("tablet".parse()?)], ..Spec::default() };
//! let resolved = resolve(&Hardware::new(), &spec, &Capabilities::everything())?;
//! assert_eq!(resolved.hardware.location(resolved.devices[0].address), "hci0:1");
//! assert_eq!(resolved.added.len(), 1); // the guest had no controller
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod address;
pub mod capabilities;
pub mod device;
pub mod diff;
pub mod digest;
pub mod guest;
pub mod hardware;
pub mod list;
pub mod models;
pub mod name;
pub mod naming;
pub mod profile;
pub mod refusal;
pub mod remedy;
pub mod resolve;
pub mod rules;
pub mod selector;
pub mod spec;
pub mod speed;
