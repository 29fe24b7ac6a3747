//! libvirt's domain XML as a [`ConfigFormat`].

use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::format::{ConfigFormat, HostNaming};
use crate::recognize::root_element;

/// libvirt's domain XML: as `virsh dumpxml` prints it or as a person writes it, for running and for
/// stopped guests.
#[derive(Clone, Copy, Debug)]
pub struct Libvirt;

impl ConfigFormat for Libvirt {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn title(&self) -> &'static str {
        "libvirt's domain XML"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["xml"]
    }

    fn recognizes(&self, text: &str) -> bool {
        root_element(text) == Some("domain")
    }

    fn profile(&self) -> Profile {
        Profile::Libvirt
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::AddressKept
    }

    fn argument_style(&self) -> Option<&'static str> {
        Some("libvirt")
    }

    fn hypervisors(&self) -> &'static [Hypervisor] {
        &[Hypervisor::Qemu, Hypervisor::Xen]
    }

    fn hypervisor(&self, guest: &Guest) -> &'static str {
        match guest.hypervisor {
            Hypervisor::Xen => "libvirt on Xen",
            Hypervisor::Qemu | Hypervisor::Vmware | Hypervisor::VirtualBox => "libvirt on QEMU",
        }
    }

    fn read(&self, text: &str, origin: &str) -> Result<Config, FormatError> {
        super::read(text, origin)
    }

    fn edit(&self, text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
        super::edit(text, edits)
    }

    fn write(&self, guest: &Guest, hardware: &Hardware) -> Generated {
        super::write(guest, hardware)
    }
}
