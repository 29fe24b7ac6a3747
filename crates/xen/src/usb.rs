//! The xenstore contract between `vusb`, `vusb-backend` and libxl: every path, key and value that
//! two of them share. `docs/xenstore.md` describes it, and a test compares that page with
//! [`LAYOUT`].
//!
//! ```text
//!   toolstack (vusb, libxl)                               backend (vusb-backend)
//!      NewController          ──▶ libxl's folder            ControllerConfig::parse ◀─┐
//!      LibxlController::parse ◀──     │                                               │
//!                             ──▶ backend's folder ───────────────────────────────────┘
//!      PortStatus, Counters   ◀──     │            ◀────── PortStatus, Counters, State
//!                             ──▶ frontend's folder ──▶ guest's driver ──▶ Rings::parse
//!      ExportedDevice::parse  ◀── announcement     ◀────── ExportedDevice::entries
//! ```
//!
//! Types that are written have `entries`, a list of keys and values relative to a folder (a new
//! controller has such a list for each of its folders). Types that are read have `parse`, which
//! takes a function that reads a key of that folder. Nothing here does I/O.
//!
//! `parse` accepts only what `entries` writes: numbers are strict decimal, and ports lie in 1 to
//! [`MAX_PORTS`]. Texts are returned unchanged: a caller that displays them must make them
//! printable.

mod announcement;
mod controller;
mod counters;
#[cfg(feature = "fake")]
pub mod fake;
mod key;
mod paths;
mod port;
mod rings;

pub use announcement::{ExportedDevice, LAYOUT_VERSION, MAX_PING_BYTES};
pub use controller::{
    BadNode, ControllerConfig, EmulatedController, LibxlController, NewController, Service,
};
pub use counters::Counters;
pub use key::{Entry, Folder, FolderLayout, Key, LAYOUT};
pub use paths::{
    BackendKind, ControllerId, ControllerPaths, DOMAINS, announcement, backend_root, domain,
    domain_name, domain_type, domain_vm, exported_device, exported_devices, libxl_controllers,
    parse_bus_id_folder,
};
pub use port::{DeviceIdentity, PortLabel, PortStatus, RequestedDevice};
pub use rings::Rings;

/// The highest number of ports that a controller can have (`USBIF_MAX_PORTNR` in Xen's `usbif.h`).
pub const MAX_PORTS: u8 = 31;

/// The most characters of a value that a message quotes. A value may be as long as a message to
/// xenstore, and a message that quotes it whole would not fit into one.
const MAX_QUOTED: usize = 64;

/// A value as a message quotes it: its start, with control characters escaped.
fn quoted(value: &str) -> String {
    let mut text: String = value.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if value.chars().nth(MAX_QUOTED).is_some() {
        text.push('…');
    }
    text
}
