//! libxl's JSON as a [`ConfigFormat`].

use vusb_model::address::Index;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;
use vusb_model::resolve::libxl::BOOT_BUS;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::format::{ConfigFormat, HostNaming};
use crate::recognize::trimmed;

/// libxl's JSON, as `xl list -l` prints it.
#[derive(Clone, Copy, Debug)]
pub struct LibxlJson;

/// Keys of `libxl_domain_config` by which a text is recognized.
const KEYS: [&str; 4] = ["\"c_info\"", "\"b_info\"", "\"usbctrls\"", "\"usbdevs\""];

impl ConfigFormat for LibxlJson {
    fn name(&self) -> &'static str {
        "json"
    }

    fn title(&self) -> &'static str {
        "libxl's JSON"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn recognizes(&self, text: &str) -> bool {
        let text = trimmed(text);
        let object = trimmed(text.strip_prefix('[').unwrap_or(text));
        object.starts_with('{') && KEYS.iter().any(|key| object.contains(key))
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
