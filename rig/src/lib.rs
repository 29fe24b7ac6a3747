//! Real guests under QEMU, for the tests and the demonstration of vusb.
//!
//! Everything comes from Debian's packages and runs on plain software emulation (TCG), so that a
//! machine without KVM and without USB hardware can show that a real kernel sees the hardware that
//! vusb gave it.
//!
//! ```text
//!   packages   what must be on this machine (apt-get install, only what is missing)
//!      │
//!   kernel     Debian's kernel, unpacked into the cache, never installed
//!      │
//!   image      an initramfs: busybox, the USB drivers, a shell agent on the second serial port
//!      │
//!   guest      QEMU + kernel + image: `guest.sh("cat /sys/bus/usb/devices/*/product")`
//!      │
//!   outer      a guest with USB devices of its own that runs vusb and a second QEMU inside
//!
//!   xen        real Xen: dom0 with USB devices of its own, and guests of each kind
//!
//!   bare       QEMU without a guest, for tests that need only its monitor
//!   qemus      other versions of QEMU, side by side with the installed one
//!
//!   guide      the pages for people who come from another tool, and the commands on them
//!   libvirt    a real libvirtd and virsh, without guests: what another tool makes of a configuration
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `VUSB_RIG_CACHE` | folder that keeps kernel and images between runs; default `target/rig` |
//! | `VUSB_QEMU` | the QEMU to run; default `qemu-system-x86_64` |
//! | `VUSB_RIG_KEEP` | if set, run folders (consoles, sockets) are not deleted |
//!
//! The cache may be deleted at any time. On an idle machine with 2 cores it takes:
//!
//! | | first time | from then on |
//! |---|---|---|
//! | a QEMU without a guest | | 0.1 s |
//! | a guest, until its shell answers | 8 s | 2 s (`pc` and `q35` alike) |
//! | a stick in that guest, until it can be read | | 1 s more |
//! | a machine with a guest inside | 75 s | 4 s |
//! | a device of that machine, until the guest inside sees it | | 2 s |
//!
//! A busy machine needs two or three times that: be generous with limits.

#![forbid(unsafe_code)]

pub mod agent;
pub mod bare;
pub mod cache;
pub mod command;
pub mod cpio;
pub mod error;
pub mod guest;
pub mod guide;
pub mod image;
pub mod kernel;
pub mod libvirt;
pub mod monitor;
pub mod outer;
pub mod packages;
pub mod parcel;
pub mod process;
pub mod qemus;
pub mod shell;
mod snapshot;
pub mod sysfs;
pub mod xen;

pub use bare::BareQemu;
pub use error::{Error, Result};
pub use guest::{Guest, GuestBuilder};
pub use guide::Guide;
pub use libvirt::Libvirt;
pub use outer::Outer;
pub use process::Qemu;
pub use shell::Shell;
pub use xen::{XenGuest, XenHost};
