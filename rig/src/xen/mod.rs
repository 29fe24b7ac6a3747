//! Real Xen: the hypervisor under QEMU's software emulation, a dom0 with USB devices, and guests.
//!
//! ```text
//!   this machine
//!   ├─ test ────────────────────────────────────────┐ host.sh(), host.plug(), guest.sh()
//!   └─ QEMU: Xen                                     │
//!        ├─ dom0: Debian's kernel, xenstored, xl     │ /dev/vport0p1: its agent
//!        │    ├─ the programs under test             │
//!        │    ├─ /dev/bus/usb/001/002                │
//!        │    └─ xen-relay: a guest's console ── /dev/vport0p2..
//!        ├─ u1: the same kernel with xen-hcd         │ hvc0: its agent
//!        └─ u2: ...
//! ```
//!
//! A device plugged with QEMU's monitor is a real plug for dom0's kernel: uevents, sysfs, device
//! nodes. Xen keeps the first serial port for its own console, so dom0 has its agent on a virtio
//! port. A guest's only line is its console; dom0 relays it to a virtio port of its own, so that a
//! guest has a [`Shell`](crate::Shell) like any other, and several can be busy at once.
//!
//! `xl` is part of the rig here, not what is tested.

mod emulator;
mod guest;
mod host;
mod image;
mod lines;
pub mod modules;
pub mod packages;
mod systemd;
mod transfers;

pub use emulator::lost_a_guest;
pub use guest::{GuestKind, XenGuest, XenGuestBuilder};
pub use host::{READY_GUEST, XenHost, XenHostBuilder};
