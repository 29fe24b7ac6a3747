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
//! A device that is plugged with QEMU's monitor is a real hotplug for dom0's kernel, with uevents,
//! sysfs and device nodes. Xen uses the first serial port for its own console, so dom0's agent is
//! on a virtio port. A Xen guest only has a console. dom0 relays each console to a separate
//! virtio port, so every guest has a [`Shell`](crate::Shell) like any other, and several can be
//! used at once.
//!
//! `xl` is part of the rig here and not under test.

mod emulator;
mod guest;
mod host;
mod image;
mod lines;
pub mod modules;
pub mod packages;
mod retry;
mod systemd;
mod transfers;

pub use emulator::is_guest_lost;
pub use guest::{GuestKind, XenGuest, XenGuestBuilder};
pub use host::{READY_GUEST, XenHost, XenHostBuilder};
pub use retry::run_with_retry;
