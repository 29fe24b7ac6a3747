//! VirtualBox's machine settings as a [`ConfigFormat`].

use std::collections::BTreeMap;

use vusb_model::capabilities::{Capabilities, KINDS, Support};
use vusb_model::device::Kind;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::profile::Profile;

use super::PREVIOUS;
use crate::config::{Config, Edit, Generated, Inexpressible};
use crate::error::FormatError;
use crate::format::{ConfigFormat, HostNaming, ToolProcesses, capabilities};
use crate::recognize::root_element;

/// VirtualBox's machine settings.
#[derive(Clone, Copy, Debug)]
pub struct Vbox;

impl ConfigFormat for Vbox {
    fn name(&self) -> &'static str {
        "vbox"
    }

    fn title(&self) -> &'static str {
        "VirtualBox's machine settings"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["vbox", PREVIOUS]
    }

    fn recognizes(&self, text: &str) -> bool {
        root_element(text) == Some("VirtualBox")
            && text.contains("http://www.virtualbox.org/")
            && text.contains("<Machine")
    }

    fn profile(&self) -> Profile {
        Profile::Vbox
    }

    fn host_naming(&self) -> HostNaming {
        HostNaming::Id
    }

    fn has_ports_for(&self, _kind: &Kind) -> bool {
        false
    }

    fn hypervisors(&self) -> &'static [Hypervisor] {
        &[Hypervisor::VirtualBox]
    }

    fn hypervisor(&self, _guest: &Guest) -> &'static str {
        "VirtualBox"
    }

    fn capabilities(&self, guest: &Guest) -> Capabilities {
        let unsupported = |why: &str| Support::Unsupported { why: why.to_owned() };
        let model = |model: Model| match model.virtualbox_ports() {
            Some(_) => Support::Hot,
            None => unsupported("its controllers are an OHCI, an EHCI and an xHCI"),
        };
        let kind = |kind| match kind {
            "host" | "tablet" | "mouse" | "keyboard" => Support::Hot,
            _ => {
                unsupported("its USB devices are a tablet or a mouse, a keyboard, and host devices")
            }
        };
        let models = Model::ALL.into_iter().map(|it| (it, model(it)));
        let kinds = KINDS.into_iter().map(|it| (it, kind(it)));
        Capabilities {
            models: models.collect::<BTreeMap<_, _>>(),
            kinds: kinds.collect::<BTreeMap<_, _>>(),
            ..capabilities(self.hypervisor(guest), guest)
        }
    }

    fn processes(&self, text: &str) -> Option<ToolProcesses> {
        super::processes(text)
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
