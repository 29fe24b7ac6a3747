//! QEMU's command lines: shell scripts, the arguments of a process, and what libvirt's
//! `<qemu:commandline>` passes on.
//!
//! ```text
//!   text ──words──▶ options ──▶ machine's own controllers, -usbdevice, -device ──▶ buses ──▶ hardware
//!                                                                 QEMU chooses bus and port
//! ```
//!
//! QEMU creates the controllers of the machine first, then the devices of `-usbdevice`, then those
//! of `-device` in their order, and then those of `-device` in JSON (`qemu_create_cli_devices` in
//! its `system/vl.c`). This order decides everything, so a command line results in hardware
//! ([`Config::fixed`](crate::config::Config::fixed)), not in a spec that leaves something open.
//!
//! A command line can only be read.

mod buses;
mod device;
mod format;
mod hardware;
mod kinds;
mod machine;
mod options;
mod passed_through;
mod readconfig;
mod words;

pub use format::QemuArgs;
pub(crate) use hardware::{add_arguments, hardware_of_words};
pub use passed_through::{PassedThrough, may_pass_through, passed_through};
pub(crate) use words::{Word, qemu as shell_words};
