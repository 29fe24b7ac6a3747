//! VMware's configuration as a [`ConfigFormat`].

use vusb_model::device::Kind;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;

use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::format::{ConfigFormat, HostNaming};
use crate::recognize::assignments;

/// VMware's configuration, VMX.
#[derive(Clone, Copy, Debug)]
pub struct Vmx;

/// Keys by which a text is recognized, in lower case.
const KEYS: [&str; 5] = [".encoding", "config.version", "displayname", "guestos", "uuid.bios"];

/// Prefixes of further such keys. A colon is followed by the number of an item: `usb:0.present`.
const PREFIXES: [&str; 10] = [
    "virtualhw.",
    "usb.",
    "usb:",
    "ehci.",
    "ehci:",
    "usb_xhci.",
    "usb_xhci:",
    "keyboard.vusb.",
    "svga.",
    "pcibridge0.",
];

impl ConfigFormat for Vmx {
    fn name(&self) -> &'static str {
        "vmx"
    }

    fn title(&self) -> &'static str {
        "VMware's configuration"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["vmx"]
    }

    fn recognizes(&self, text: &str) -> bool {
        assignments(text).any(|(key, _)| {
            let key = key.to_ascii_lowercase();
            KEYS.contains(&key.as_str()) || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        })
    }

    fn profile(&self) -> Profile {
        Profile::Vmx
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::KeepsSelector
    }

    fn has_ports_for(&self, kind: &Kind) -> bool {
        !matches!(kind, Kind::Host(_) | Kind::Keyboard(_))
    }

    fn hypervisors(&self) -> &'static [Hypervisor] {
        &[Hypervisor::Vmware]
    }

    fn hypervisor(&self, _guest: &Guest) -> &'static str {
        "VMware"
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
