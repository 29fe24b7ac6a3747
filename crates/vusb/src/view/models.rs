//! The controller models, and what can be done with each: on this machine, and for a guest.
//!
//! ```json
//! {"name":"ehci","type":"emulated","usbversion":2,"ports":{"least":6,"most":6},"speeds":["high"],"qemu":"usb-ehci","hot":true,
//!  "xen":"device model, version 2","xen_hot":true,"names":{"qemu":"usb-ehci","libxl":{"type":"devicemodel","version":2},
//!  "libvirt":"ehci","vmware":"ehci.present","virtualbox":"EHCI"},"here":{"qemu":"hot","xen":null}}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vusb_model::capabilities::Support;
use vusb_model::models::{ControllerType, UsbVersion};
use vusb_model::naming::NamesView;
use vusb_model::speed::SpeedSet;

/// All models, and the hypervisors of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelsView {
    /// The version of the layout.
    pub api: u32,
    /// The hypervisors of this machine, by scheme.
    pub here: BTreeMap<String, AvailabilityView>,
    /// The models, in the order of their table.
    pub models: Vec<ModelView>,
}

/// Whether a hypervisor can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailabilityView {
    /// Its name: `QEMU`.
    pub title: String,
    /// Whether it is installed and replies.
    pub there: bool,
    /// In a few words: `QEMU 7.2.22, /usr/bin/qemu-system-x86_64`, or `not installed`, or why it
    /// does not reply.
    pub what: String,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelView {
    /// The canonical name.
    pub name: String,
    /// Other names that are read as this model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Emulated or pv.
    #[serde(rename = "type")]
    pub controller_type: ControllerType,
    /// The USB version.
    pub usbversion: UsbVersion,
    /// The numbers of ports that it can have.
    pub ports: PortsView,
    /// The speeds that it takes, with the companions that it comes with.
    pub speeds: SpeedSet,
    /// Two keys for each hypervisor. `SCHEME` is its name for the model, or how a guest gets one;
    /// null if its guests cannot have one. `hot` for QEMU, `SCHEME_hot` for others, is whether one
    /// can be added to a running guest; null if versions differ.
    #[serde(flatten)]
    pub hypervisors: BTreeMap<String, Value>,
    /// Its name in each tool.
    pub names: NamesView,
    /// What can be done with it on this machine, by scheme; null if the hypervisor cannot be asked.
    pub here: BTreeMap<String, Option<Can>>,
}

/// The numbers of ports that a model can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsView {
    /// At least.
    pub least: u8,
    /// At most.
    pub most: u8,
}

/// What a hypervisor can do with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
            Support::Hot | Support::EmulatedOnly { .. } => Can::Hot,
            Support::Cold { .. } => Can::Cold,
            Support::Unsupported { .. } => Can::No,
        }
    }
}

/// What a guest can be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestModelsView {
    /// The version of the layout.
    pub api: u32,
    /// The domain's name, or its address if it has none.
    pub domain: String,
    /// Its address.
    pub address: String,
    /// Whether it runs. Otherwise nothing can be given to it now.
    pub running: bool,
    /// The controller models, in the order of their table.
    pub controllers: Vec<GivableView>,
    /// The kinds of devices.
    pub devices: Vec<GivableView>,
}

/// A controller model or a kind of device, and when a guest can be given one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivableView {
    /// Its name: `qemu-xhci`, `tablet`.
    pub name: String,
    /// Whether the guest can be given one while it runs.
    pub live: bool,
    /// Whether the guest can have one from its next start.
    pub next_start: bool,
    /// Why not, if one of them is not possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
