//! xl's configuration as a [`ConfigFormat`].

use vusb_model::address::Index;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;
use vusb_model::resolve::libxl::BOOT_BUS;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::format::{ConfigFormat, HostNaming};
use crate::recognize::assignments;

/// xl's configuration, `xl.cfg(5)`.
#[derive(Clone, Copy, Debug)]
pub struct Xl;

/// Keys by which a text is recognized: those that describe a guest and that no other format has
/// outside of its tables.
const KEYS: [&str; 23] = [
    "name",
    "uuid",
    "type",
    "builder",
    "memory",
    "maxmem",
    "vcpus",
    "maxvcpus",
    "kernel",
    "ramdisk",
    "bootloader",
    "firmware",
    "device_model_version",
    "disk",
    "vif",
    "pci",
    "usb",
    "usbdevice",
    "usbversion",
    "usbctrl",
    "usbdev",
    "spice",
    "spiceusbredirection",
];

impl ConfigFormat for Xl {
    fn name(&self) -> &'static str {
        "xl"
    }

    fn title(&self) -> &'static str {
        "xl's configuration"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["cfg"]
    }

    fn recognizes(&self, text: &str) -> bool {
        assignments(text).any(|(key, _)| KEYS.contains(&key))
    }

    fn profile(&self) -> Profile {
        Profile::Libxl
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::AddressOnly
    }

    fn hypervisors(&self) -> &'static [Hypervisor] {
        &[Hypervisor::Xen]
    }

    fn boot_index(&self) -> Option<Index> {
        Some(BOOT_BUS)
    }

    fn hypervisor(&self, _guest: &Guest) -> &'static str {
        "xl"
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
