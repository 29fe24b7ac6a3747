//! Configurations of guests: text to model and back, and edits that keep the rest of a text as it
//! is.
//!
//! | module | format |
//! |---|---|
//! | [`spec`], `vusb` | this project's own spec, in TOML |
//! | [`libvirt`] | libvirt's domain XML |
//! | `xl` | xl's configuration, `xl.cfg(5)` |
//! | `libxl` | libxl's JSON, as `xl list -l` prints it |
//! | `vmx` | VMware's configuration |
//! | `vbox` | VirtualBox's machine settings |
//! | [`pve`] | Proxmox VE's configuration |
//! | `qemu_args` | QEMU command lines, which are only read |
//!
//! Each implements [`ConfigFormat`]: it reads a text into a [`Config`](config::Config), edits a
//! text, and generates one. [`Formats`] is the list of those that a program knows. To add a format,
//! implement the trait in a module of its own and add one line to [`Formats::builtin`]; another
//! crate passes its type to [`Formats::register`].
//!
//! [`rules`] reads rule files: what a host device is for.
//!
//! Texts are passed in and returned: nothing here opens a file. They come from people and from
//! other tools, and may contain anything. A text that cannot be read results in a [`FormatError`],
//! which shows the line.

#![forbid(unsafe_code)]

pub mod config;
mod error;
mod fields;
mod format;
mod length;
pub mod libvirt;
mod libxl;
pub mod pve;
mod qemu_args;
pub mod raw_bytes;
mod recognize;
mod registry;
pub mod rules;
pub mod spec;
pub mod splice;
mod vbox;
mod vmx;
mod vusb;
mod xl;
mod xml;

pub use error::{FormatError, Problem};
pub use format::{ConfigFormat, Format, HeldBy, HostNaming, ToolProcesses, capabilities};
pub use length::MAX_BYTES;
pub use libvirt::Libvirt;
pub use libxl::LibxlJson;
pub use pve::Pve;
pub use qemu_args::{PassedThrough, QemuArgs, may_pass_through, passed_through};
pub use registry::Formats;
pub use vbox::Vbox;
pub use vmx::Vmx;
pub use vusb::VusbSpec;
pub use xl::Xl;
