//! Proxmox VE's configuration as a [`ConfigFormat`].

use vusb_model::capabilities::{Capabilities, Support};
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::models::Model;
use vusb_model::profile::Profile;
use vusb_model::resolve::pve_1;

use super::document::{Document, Section};
use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::format::{ConfigFormat, HostNaming, capabilities};
use crate::recognize::trimmed;

/// Proxmox VE's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Pve;

/// Keys that no other format has. Nearly every guest has one of them.
const KEYS: [&str; 8] =
    ["ostype", "scsihw", "vmgenid", "smbios1", "bootdisk", "sockets", "balloon", "onboot"];

impl ConfigFormat for Pve {
    fn name(&self) -> &'static str {
        "pve"
    }

    fn title(&self) -> &'static str {
        "Proxmox VE's configuration"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["conf"]
    }

    fn recognizes(&self, text: &str) -> bool {
        let starts_otherwise = trimmed(text).starts_with(['<', '{', '[']);
        !starts_otherwise && {
            let entries = Document::read(text).entries;
            let mut current = entries.iter().filter(|it| it.section == Section::Current);
            current.any(|it| KEYS.contains(&it.key))
        }
    }

    fn profile(&self) -> Profile {
        Profile::Pve1
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::IdOrPort
    }

    fn comes_with_devices(&self, controller: &Controller) -> bool {
        controller.name.as_str() == pve_1::CONTROLLER
    }

    fn hypervisors(&self) -> &'static [Hypervisor] {
        &[Hypervisor::Qemu]
    }

    fn hypervisor(&self, _guest: &Guest) -> &'static str {
        "Proxmox VE"
    }

    /// The models of QEMU, those on Proxmox VE's own command line for q35, and those that `args`
    /// may add.
    fn capabilities(&self, guest: &Guest) -> Capabilities {
        let mut capabilities = capabilities(self.hypervisor(guest), guest);
        let built_in = [
            Model::Ich9Ehci2,
            Model::Ich9Uhci4,
            Model::Ich9Uhci5,
            Model::Ich9Uhci6,
            Model::SysbusXhci,
            Model::OtherUsb,
        ];
        capabilities.models.extend(built_in.map(|model| (model, Support::Hot)));
        capabilities
    }

    fn read(&self, text: &str, origin: &str) -> Result<Config, FormatError> {
        super::read(text, origin)
    }

    fn edit(&self, text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
        super::edit::edit(text, edits)
    }

    fn write(&self, guest: &Guest, hardware: &Hardware) -> Generated {
        super::write::write(guest, hardware)
    }
}
