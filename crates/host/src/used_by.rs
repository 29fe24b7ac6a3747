//! Who uses a device instead of this machine's own drivers.
//!
//! The kernel shows it: while a program uses an interface, the interface is bound to the driver
//! `usbfs`, whatever started the program. proc shows which process has the device's node open, as
//! far as this process may see that.

use std::cell::OnceCell;
use std::fmt;
use std::path::Path;

use vusb_model::list::few;

use crate::device::HostDevice;
use crate::process::{OpenNodes, Process};
use crate::sysfs;

/// Who uses a device instead of this machine's own drivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsedBy {
    /// Programs, such as a hypervisor: those that have its node open. Empty if this process may not
    /// see them, or they run in a container of their own.
    Programs(Vec<Process>),
    /// Another machine, over USB/IP.
    OtherMachine,
    /// A Xen guest, through the kernel's own backend.
    XenGuest,
}

impl UsedBy {
    /// The processes, as far as they are known.
    pub fn processes(&self) -> &[Process] {
        match self {
            UsedBy::Programs(processes) => processes,
            UsedBy::OtherMachine | UsedBy::XenGuest => &[],
        }
    }

    /// The use that a driver stands for, if it is bound to a device or an interface. `None` for a
    /// driver that makes the device available on this machine.
    pub(crate) fn from_driver(driver: &str) -> Option<UsedBy> {
        match driver {
            "usbfs" => Some(UsedBy::Programs(Vec::new())),
            "usbip-host" => Some(UsedBy::OtherMachine),
            "usbback" => Some(UsedBy::XenGuest),
            _ => None,
        }
    }
}

impl fmt::Display for UsedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsedBy::Programs(processes) if processes.is_empty() => f.write_str("a program"),
            UsedBy::Programs(processes) => f.write_str(&few(processes)),
            UsedBy::OtherMachine => f.write_str("another machine (usbip)"),
            UsedBy::XenGuest => f.write_str("a Xen guest (usbback)"),
        }
    }
}

/// Finds out who uses devices. The open files of all processes are only read if a program uses a
/// device.
pub(crate) struct Users<'a> {
    root: &'a Path,
    open: OnceCell<OpenNodes>,
}

impl Users<'_> {
    pub(crate) const fn of(root: &Path) -> Users<'_> {
        Users { root, open: OnceCell::new() }
    }

    /// Who uses the device with the directory `dir`.
    pub(crate) fn find(&self, device: &HostDevice, dir: &Path) -> Option<UsedBy> {
        // USB/IP binds to the device itself, all others to its interfaces.
        let own = sysfs::link_name(dir, "driver");
        let of_interfaces = device.interfaces.iter().filter_map(|it| it.driver.as_deref());
        match own.as_deref().into_iter().chain(of_interfaces).find_map(UsedBy::from_driver)? {
            UsedBy::Programs(_) => {
                let open = self.open.get_or_init(|| OpenNodes::read(self.root));
                Some(UsedBy::Programs(open.openers(&device.node().to_string_lossy())))
            }
            other => Some(other),
        }
    }
}
