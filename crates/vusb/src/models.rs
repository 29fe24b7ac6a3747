//! The controller models: what each is, what it is called everywhere, and what this machine's hypervisors can do with it.
//!
//! ```json
//! {"name":"ehci","type":"emulated","usbversion":2,"ports":{"least":6,"most":6},"speeds":["high"],"qemu":"usb-ehci","hot":true,
//!  "xen":"device model, version 2","xen_hot":true,"names":{"qemu":"usb-ehci","libxl":{"type":"devicemodel","version":2},
//!  "libvirt":"ehci","vmware":"ehci.present","virtualbox":"EHCI"},"here":{"qemu":"hot","xen":null}}
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use vusb_drivers::machine::{self, Presence};
use vusb_drivers::{qemu, xenctl};
use vusb_model::borders;
use vusb_model::capabilities::Support;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::speed::SpeedSet;

use crate::connect;
use crate::view::API;
use crate::vusb::Vusb;

/// How long each of this machine's hypervisors is waited for at the most: QEMU 7.2 takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// All models, and who is here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelsView {
    /// The version of the layout.
    pub api: u32,
    /// The hypervisors of this machine.
    pub here: HereView,
    /// The models, in the order of their table.
    pub models: Vec<ModelView>,
}

/// The hypervisors of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HereView {
    /// The QEMU that is installed.
    pub qemu: PresenceView,
    /// Xen.
    pub xen: PresenceView,
}

/// Whether a hypervisor is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PresenceView {
    /// Whether it is there and answers.
    pub there: bool,
    /// In a few words: `QEMU 7.2.22, /usr/bin/qemu-system-x86_64`, or `not installed`, or why it does not answer.
    pub what: String,
}

/// What is known of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelView {
    /// The canonical name.
    pub name: &'static str,
    /// Other names that are read as this model.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    pub aliases: &'static [&'static str],
    /// Emulated or pv.
    #[serde(rename = "type")]
    pub controller_type: ControllerType,
    /// The generation of USB.
    pub usbversion: UsbVersion,
    /// How many ports it can have.
    pub ports: PortsView,
    /// The speeds that it takes, with the companions that it comes with.
    pub speeds: SpeedSet,
    /// What QEMU calls it; `None` if it does not have it.
    pub qemu: Option<&'static str>,
    /// Whether any QEMU can add it to a running guest; `None` where that differs between them.
    pub hot: Option<bool>,
    /// How a Xen guest gets it, in words; `None` if it cannot.
    pub xen: Option<String>,
    /// Whether a Xen guest that runs can be given it, as [`ModelView::hot`].
    pub xen_hot: Option<bool>,
    /// What it is called at each border.
    pub names: NamesView,
    /// What can be done with it on this machine.
    pub here: CanView,
}

/// How many ports a model can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortsView {
    /// At the least.
    pub least: u8,
    /// At the most.
    pub most: u8,
}

/// A model's names. `None` where a hypervisor does not have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamesView {
    /// QEMU's device.
    pub qemu: Option<&'static str>,
    /// What an xl configuration says.
    pub libxl: Option<LibxlView>,
    /// libvirt's model.
    pub libvirt: Option<&'static str>,
    /// VMware's key.
    pub vmware: Option<String>,
    /// VirtualBox's type of controller.
    pub virtualbox: Option<&'static str>,
}

/// libxl's type and version of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LibxlView {
    /// `devicemodel` or `pv`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// 1, 2 or 3.
    pub version: UsbVersion,
}

/// What this machine's hypervisors can do with a model; `None` where there is none to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CanView {
    /// QEMU.
    pub qemu: Option<Can>,
    /// Xen.
    pub xen: Option<Can>,
}

/// What a hypervisor can do with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Can {
    /// Give it to a guest at any time.
    Hot,
    /// Start a guest with it.
    Cold,
    /// Neither.
    No,
}

impl Can {
    /// The word: `hot`, `cold` or `no`.
    pub const fn word(self) -> &'static str {
        match self {
            Can::Hot => "hot",
            Can::Cold => "cold",
            Can::No => "no",
        }
    }
}

impl From<&Support> for Can {
    fn from(support: &Support) -> Can {
        match support {
            Support::Hot | Support::Emulated { .. } => Can::Hot,
            Support::Cold { .. } => Can::Cold,
            Support::No { .. } => Can::No,
        }
    }
}

/// The models, and what this machine's hypervisors say of each. Whoever is not there or does not answer is no error.
pub(crate) fn models(vusb: &Vusb) -> ModelsView {
    let limit = vusb.settings.timeout.min(PATIENCE);
    let offers = machine::offers(vusb.host.root(), &connect::reach(vusb), limit);
    let can = |models: &BTreeMap<Model, Support>, model| models.get(&model).map(Can::from);
    let here = |model| CanView {
        qemu: can(&offers.qemu_models, model),
        xen: can(&offers.xen_models, model),
    };
    ModelsView {
        api: API,
        here: HereView { qemu: presence(&offers.qemu), xen: presence(&offers.xen) },
        models: Model::ALL.into_iter().map(|model| view(model, here(model))).collect(),
    }
}

fn presence(presence: &Presence) -> PresenceView {
    let there = matches!(presence, Presence::There(_));
    PresenceView { there, what: presence.to_string() }
}

fn view(model: Model, here: CanView) -> ModelView {
    let range = model.port_range();
    let names = borders::names(model);
    // As it comes unless it is asked for otherwise: with its companions.
    let companions = match model {
        Model::Ich9Ehci1 => Model::Ich9Uhci1.takes(),
        _ => SpeedSet::NONE,
    };
    // A part of a south bridge that new QEMUs let nobody add, and old ones did.
    let hot = (model != Model::Vt82c686bUhci).then(|| qemu::hot(model));
    ModelView {
        name: model.name(),
        aliases: model.aliases(),
        controller_type: model.controller_type(),
        usbversion: model.usbversion(),
        ports: PortsView { least: *range.start(), most: *range.end() },
        speeds: model.takes().or(companions),
        qemu: names.qemu,
        hot,
        xen: xenctl::way(model).map(|way| way.to_string()),
        xen_hot: match xenctl::way(model) {
            Some(xenctl::Way::Pvusb) => Some(true),
            _ => hot,
        },
        names: NamesView {
            qemu: names.qemu,
            libxl: names.libxl.map(|kind| LibxlView { kind, version: model.usbversion() }),
            libvirt: names.libvirt,
            vmware: names.vmware.map(|key| format!("{key}.present")),
            virtualbox: names.virtualbox,
        },
        here,
    }
}
