//! An example: a hypervisor and a file format that this crate adds to vusb.
//!
//! ```
//! use std::sync::Arc;
//!
//! use vusb::drivers::Registry;
//! use vusb::{Context, Host, StateDir};
//! use vusb_extension::{ShelfFormat, ShelfScheme};
//!
//! let host = Host::system();
//! let mut registry = Registry::builtin(host.clone().into());
//! registry.register(Arc::new(ShelfScheme::default()));
//! registry.register_format(ShelfFormat);
//! let context = Context::new(StateDir::new("/var/lib/vusb"), host, registry);
//! # let _ = context;
//! ```
//!
//! The hypervisor is a shelf of guests in memory, `shelf:NAME`. The format is a list of devices in
//! a file with the extension `.shelf`. The tests use both through the library, like any other
//! domain. Nothing outside this crate mentions them.

#![forbid(unsafe_code)]

mod driver;
mod format;

pub use driver::{Shelf, ShelfScheme};
pub use format::ShelfFormat;
