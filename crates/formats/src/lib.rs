//! Text to model and back.
//!
//! | module | format |
//! |---|---|
//! | [`spec`] | this project's own spec, in TOML |
//! | [`libvirt`] | libvirt's domain XML |
//! | `xl` | xl's configuration, `xl.cfg(5)` |
//! | `libxl` | libxl's JSON, as `xl list -l` prints it |
//! | `vmx` | VMware's configuration |
//!
//! A [`Format`] reads a text into a [`Config`](config::Config), edits a text and writes one anew.
//!
//! All of it works on text that is handed in and handed back: nothing here opens a file. Text comes from people and from
//! other tools and may be anything; what cannot be read is answered with a [`FormatError`] that shows the place.

#![forbid(unsafe_code)]

pub mod config;
mod error;
mod format;
pub mod libvirt;
mod libxl;
pub mod spec;
mod splice;
mod vmx;
mod vusb;
mod xl;

pub use error::FormatError;
pub use format::Format;
