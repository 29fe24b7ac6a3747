//! The guest itself: what its configuration contains besides USB. Its machine determines which USB
//! hardware a profile fills in; its name, memory and processors are kept when a configuration is
//! converted.

use std::fmt;

/// A guest, as its configuration describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its name in the configuration of its own tool.
    pub name: Option<String>,
    /// Its UUID, as its own tool writes it.
    pub uuid: Option<String>,
    /// Its hypervisor.
    pub hypervisor: Hypervisor,
    /// How it is virtualized.
    pub virtualization: Virtualization,
    /// Its processor's architecture, by libvirt's name (`virArch`): `x86_64`, `aarch64`, `ppc64`.
    /// `None` is x86_64.
    pub arch: Option<String>,
    /// Its machine, by QEMU's name: `pc-i440fx-7.2`, `q35`, `virt`. `None` is the hypervisor's
    /// default.
    pub machine: Option<String>,
    /// Its operating system, by the name that its tool has for it: Proxmox VE's `l26` or `win10`.
    /// `None` if its tool has no such names, or it is not set.
    pub os: Option<String>,
    /// Whether it has a screen: some machines then have a keyboard and a mouse by default.
    pub graphics: bool,
    /// Its memory in KiB.
    pub memory_kib: Option<u64>,
    /// Its number of processors.
    pub vcpus: Option<u32>,
}

/// A hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hypervisor {
    /// QEMU, with or without KVM.
    #[default]
    Qemu,
    /// Xen.
    Xen,
    /// VMware.
    Vmware,
    /// VirtualBox.
    VirtualBox,
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hypervisor::Qemu => "QEMU",
            Hypervisor::Xen => "Xen",
            Hypervisor::Vmware => "VMware",
            Hypervisor::VirtualBox => "VirtualBox",
        })
    }
}

/// How a guest is virtualized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Virtualization {
    /// A full machine with emulated devices.
    #[default]
    Hvm,
    /// Xen's paravirtual guest.
    Pv,
    /// Xen's hardware-assisted guest without emulated devices.
    Pvh,
}

impl Guest {
    /// Its architecture; `x86_64` by default.
    pub fn arch(&self) -> &str {
        self.arch.as_deref().unwrap_or("x86_64")
    }
}
