//! Real guests under QEMU, for the tests and the demonstration of vusb.
//!
//! Everything comes from Debian's packages and runs on software emulation (TCG). So a machine
//! without KVM and without USB hardware can show that a real kernel sees the hardware that vusb
//! attached.
//!
//! ```text
//!   packages   the packages that this machine needs (apt-get install, only missing ones)
//!      │
//!   kernel     Debian's kernel, unpacked into the cache, never installed
//!      │
//!   image      an initramfs: busybox, the USB drivers, a shell agent on the second serial port
//!      │
//!   guest      QEMU + kernel + image: `guest.sh("cat /sys/bus/usb/devices/*/product")`
//!      │
//!   nested     a guest with its own USB devices that runs vusb and a second QEMU inside
//!
//!   xen        real Xen: dom0 with its own USB devices, and guests of each kind
//!
//!   bare_qemu  QEMU without a guest, for tests that only need its monitor
//!   qemus      other versions of QEMU, in addition to the installed one
//!   libvirt    a real libvirtd and virsh, to compare configurations with; its guests never run
//!   toolchain  the Rust toolchain of a Debian release
//!   container  systemd of a Debian release as the first process of a container
//!
//!   bundle     programs of this machine with everything that they need in a guest
//!   guide      the pages for users of another tool, and the commands on them
//!   libvusb    the C library as it is installed
//!   json_page  the page that documents the JSON of each command
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `VUSB_RIG_CACHE` | directory that keeps kernel and images between runs; default `rig` in cargo's target directory |
//! | `VUSB_QEMU` | the QEMU to run; default `qemu-system-x86_64` |
//! | `VUSB_RIG_KEEP` | if set, the directories of runs (consoles, sockets) are not deleted |
//!
//! The cache may be deleted at any time. Times on an idle machine with 2 cores:
//!
//! | | first time | afterwards |
//! |---|---|---|
//! | a QEMU without a guest | | 0.1 s |
//! | a guest, until its shell responds | 8 s | 2 s (`pc` and `q35`) |
//! | a stick in that guest, until it is readable | | 1 s more |
//! | a machine with a nested guest | 75 s | 4 s |
//! | a device of that machine, until the nested guest sees it | | 2 s |
//!
//! A busy machine needs two or three times as long, so choose generous limits.

#![forbid(unsafe_code)]

pub mod agent;
pub mod bare_qemu;
pub mod bundle;
pub mod cache;
pub mod command;
pub mod container;
pub mod cpio;
mod debian;
pub mod error;
pub mod guest;
pub mod guide;
pub mod image;
pub mod json_page;
pub mod kernel;
pub mod libvirt;
pub mod libvusb;
pub mod monitor;
pub mod nested;
pub mod packages;
pub mod process;
pub mod qemus;
pub mod shell;
mod snapshot;
pub mod sysfs;
pub mod systemd;
pub mod toolchain;
pub mod xen;

pub use bare_qemu::BareQemu;
pub use container::Container;
pub use error::{Error, Result};
pub use guest::{Guest, GuestBuilder};
pub use guide::Guide;
pub use libvirt::Libvirt;
pub use nested::NestedHost;
pub use process::Qemu;
pub use shell::Shell;
pub use systemd::Systemd;
pub use xen::{XenGuest, XenHost};
