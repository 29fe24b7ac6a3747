//! What of a guest, beyond its USB, decides which USB it has: the machine that it is.

use std::fmt;

/// A guest, as its configuration describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// Its name, as its own tool has it.
    pub name: Option<String>,
    /// Its UUID, as its own tool writes it.
    pub uuid: Option<String>,
    /// Whose guest it is.
    pub hypervisor: Hypervisor,
    /// How it is virtualized.
    pub virtualization: Virtualization,
    /// Its processor's architecture, by libvirt's name (`virArch`): `x86_64`, `aarch64`, `ppc64`. `None` is x86_64.
    pub arch: Option<String>,
    /// Its machine, by QEMU's name: `pc-i440fx-7.2`, `q35`, `virt`. `None` is the hypervisor's default.
    pub machine: Option<String>,
    /// Whether it has a screen: some machines have a keyboard and a mouse then.
    pub graphics: bool,
    /// Its memory in KiB.
    pub memory_kib: Option<u64>,
    /// How many processors it has.
    pub vcpus: Option<u32>,
}

/// Whose guest it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hypervisor {
    /// QEMU, with or without KVM.
    #[default]
    Qemu,
    /// Xen.
    Xen,
    /// VMware.
    Vmware,
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hypervisor::Qemu => "QEMU",
            Hypervisor::Xen => "Xen",
            Hypervisor::Vmware => "VMware",
        })
    }
}

/// How a guest is virtualized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Virtualization {
    /// A whole machine with emulated devices.
    #[default]
    Hvm,
    /// Xen's paravirtual guest.
    Pv,
    /// Xen's hardware-assisted guest without emulated devices.
    Pvh,
}

impl Guest {
    /// Its architecture: `x86_64` unless said.
    pub fn arch(&self) -> &str {
        self.arch.as_deref().unwrap_or("x86_64")
    }
}
