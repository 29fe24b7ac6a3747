//! Drivers: one for each hypervisor, which observes a guest and takes one step at a time.
//!
//! ```text
//!  Registry ──▶ Scheme ──open──▶ Driver
//!                                  observe      ──▶ hardware, states, which items vusb created
//!                                  capabilities ──▶ what the guest can be given
//!                                  check(steps) ──▶ a refusal, with nothing changed
//!                                  perform(step), or all_at_once().perform_all(steps)
//! ```
//!
//! | module | scheme | domain |
//! |---|---|---|
//! | [`qemu`] | `qemu:SOCKET` | a running QEMU, over its QMP socket |
//! | [`libvirt`] | `libvirt:NAME` | a libvirt domain, running or not, over its daemon's RPC |
//! | [`pve`] | `pve:VMID` | a Proxmox VE guest, running or not |
//! | [`xenctl`] | `xen:NAME` | a running Xen guest, over xenstore and its device model |
//! | [`sim`] | `sim:FILE` | a simulated hypervisor in a file |
//! | [`configfile`] | `FILE` | a guest that does not run, by its config file |
//!
//! A driver decides nothing: what to do comes from [`vusb_model`]. It keeps no state beyond a
//! connection: what has to be remembered between two commands is kept by the caller and passed to
//! [`Driver::observe`].

#![forbid(unsafe_code)]

pub mod configfile;
mod driver;
mod identity;
pub mod libvirt;
mod limits;
mod locations;
mod path;
pub mod pve;
pub mod qemu;
mod registry;
mod scheme;
pub mod sim;
mod support;
pub mod text;
pub mod watch;
pub mod xenctl;

pub use driver::{AllAtOnce, Counters, DeviceState, Driver, Error, Foreign, Observed};
pub use identity::{GuestIdentity, Process};
pub use limits::Limits;
pub use locations::Locations;
pub use registry::{Parsed, Registry};
pub use scheme::{
    AddressError, BackendDevice, BackendDomains, ConfiguredGuest, GuestEvent, GuestOwner,
    GuestWatch, OpenOptions, RunningGuest, Scheme, Start, StartOptions, WatchOptions, When,
};
pub use support::{Availability, ModelFacts, Survey};
