//! What is shown of domains and of this machine, in the layout of the JSON that the command prints.
//!
//! ```json
//! {"api":1,"domain":"web1","profile":"vusb-1","controllers":[{"index":0,"name":"hci0","type":"emulated",
//!  "model":"qemu-xhci","usbversion":3,"ports":15,"origin":"vusb","state":"present","devices":[{"port":"1",
//!  "name":"stick","kind":"host","selector":"0781:5581","state":"attached","origin":"vusb"}]}],"foreign":[],"notes":[]}
//! ```
//!
//! A field is never taken away or given another meaning while `api` is 1; new ones may come.

use std::fmt;

use serde::Serialize;
use vusb_drivers::Counters;
use vusb_host::HostDevice;
use vusb_model::address::{Index, PortPath};
use vusb_model::device::Kind;
use vusb_model::hardware::PciAddress;
use vusb_model::models::{Companion, ControllerType, Model, UsbVersion};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::selector::{BusAddress, BusId, UsbId};
use vusb_model::speed::Speed;

pub use crate::models::{
    Can, CanView, HereView, LibxlView, ModelView, ModelsView, NamesView, PortsView, PresenceView,
};

/// The version of the layout.
pub const API: u32 = 1;

/// A domain's USB hardware.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DomainView {
    /// The version of the layout.
    pub api: u32,
    /// The domain's name, or its address where it has none.
    pub domain: String,
    /// Its address: `qemu:/run/web1.qmp`.
    pub address: String,
    /// The profile that its record was made with.
    pub profile: Profile,
    /// The controllers, by index.
    pub controllers: Vec<ControllerView>,
    /// USB controllers that there is no model for.
    pub foreign: Vec<ForeignView>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// A controller, with what is on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControllerView {
    /// Its index.
    pub index: Index,
    /// Its name.
    pub name: Name,
    /// Emulated or pv.
    #[serde(rename = "type")]
    pub controller_type: ControllerType,
    /// Its model.
    pub model: Model,
    /// Its generation of USB.
    pub usbversion: UsbVersion,
    /// How many ports it has.
    pub ports: u8,
    /// Its companions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<CompanionView>,
    /// The domain whose devices it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Where it sits on PCI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciAddress>,
    /// Who made it.
    pub origin: Origin,
    /// Whether the guest has it.
    pub state: ControllerState,
    /// What it has carried so far, where that is counted: pv controllers that a vusb-backend serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<CountersView>,
    /// What is on it, hubs before what is behind them.
    pub devices: Vec<DeviceView>,
}

/// A companion of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CompanionView {
    /// What it is, and how many of the controller's ports come before its own two.
    #[serde(flatten)]
    pub companion: Companion,
    /// The PCI function that it has in the controller's slot.
    pub function: u8,
}

impl From<&Companion> for CompanionView {
    fn from(companion: &Companion) -> CompanionView {
        CompanionView { companion: *companion, function: companion.model.function() }
    }
}

/// What a controller has carried since the guest connected to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CountersView {
    /// Transfers that the guest asked for.
    pub requests: u64,
    /// Bytes that devices sent to the guest.
    pub bytes_in: u64,
    /// Bytes that the guest sent to devices.
    pub bytes_out: u64,
    /// Transfers that failed.
    pub errors: u64,
    /// Transfers that have not ended yet.
    pub in_flight: u64,
}

impl From<&Counters> for CountersView {
    fn from(it: &Counters) -> CountersView {
        let Counters { requests, bytes_in, bytes_out, errors, in_flight } = *it;
        CountersView { requests, bytes_in, bytes_out, errors, in_flight }
    }
}

/// A device in a domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceView {
    /// Its port.
    pub port: PortPath,
    /// Its name.
    pub name: Name,
    /// What it is: `kind`, and the fields of that kind.
    #[serde(flatten)]
    pub kind: Kind,
    /// Whether the guest sees it.
    pub state: State,
    /// Who plugged it in.
    pub origin: Origin,
}

/// A USB controller that there is no model for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignView {
    /// What the hypervisor calls it.
    pub driver: String,
    /// The hypervisor's id for it; empty if it has none.
    pub id: String,
    /// What is on it.
    pub devices: Vec<ForeignDeviceView>,
}

/// A device on such a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignDeviceView {
    /// Its port.
    pub port: String,
    /// What the hypervisor calls it.
    pub driver: String,
}

/// Who made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// vusb did.
    Vusb,
    /// The hypervisor's command line, or another tool.
    Other,
}

/// Whether a guest has a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ControllerState {
    /// It does.
    Present,
    /// It is recorded, and the guest does not have it.
    Missing,
    /// It does, and the controller carries nothing any more: it has to be made anew.
    Broken,
    /// It is recorded, and the guest cannot be asked at the moment.
    Unknown,
}

impl fmt::Display for ControllerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ControllerState::Present => "present",
            ControllerState::Missing => "missing",
            ControllerState::Broken => "broken",
            ControllerState::Unknown => "unknown",
        })
    }
}

/// Whether a guest sees a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    Attached,
    /// The device has its port, and the thing behind it is not there.
    Absent,
    /// The guest was told of it and has not taken it yet.
    Offered,
    /// The guest does not run: it has the device when it is started.
    Configured,
    /// It is recorded, and the guest does not have it: a restart, or another tool, took it away.
    Missing,
    /// It is recorded, and the guest cannot be asked at the moment.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Attached => "attached",
            State::Absent => "absent",
            State::Offered => "offered",
            State::Configured => "configured",
            State::Missing => "missing",
            State::Unknown => "unknown",
        })
    }
}

/// All domains that have a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AllView {
    /// The version of the layout.
    pub api: u32,
    /// The domains that can be shown, by name.
    pub domains: Vec<DomainView>,
    /// Those that cannot: they are unreachable, or their records are damaged.
    pub unreachable: Vec<UnreachableView>,
}

/// A domain that cannot be shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnreachableView {
    /// The domain's name or address, or the file of its record.
    pub domain: String,
    /// Why.
    pub why: String,
    /// The host devices that it holds all the same.
    pub holds: Vec<String>,
    /// What is recorded of it; missing where nobody serves the domain, and unknown where somebody does.
    pub controllers: Vec<ControllerView>,
}

/// The USB devices of this machine, or of a backend domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostView {
    /// The version of the layout.
    pub api: u32,
    /// The backend domain, if it is not this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The devices, by bus and port.
    pub devices: Vec<HostDeviceView>,
    /// What else a person should know: records that cannot be read.
    pub notes: Vec<String>,
}

/// A USB device of this machine. Its strings come from the device and are safe to show, but not to believe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostDeviceView {
    /// Bus and port chain.
    pub busid: BusId,
    /// Bus and address of this plug.
    #[serde(serialize_with = "as_text")]
    pub at: BusAddress,
    /// Vendor and product.
    #[serde(serialize_with = "as_text")]
    pub id: UsbId,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// The speed it runs at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Its reboot-proof path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether it is a hub.
    pub hub: bool,
    /// Why it is not given away without force.
    #[serde(rename = "protected")]
    pub protection: Vec<String>,
    /// The domain that has it, as its record says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderView>,
}

/// Who has a host device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HolderView {
    /// The domain.
    pub domain: String,
    /// The device's name there.
    pub name: Name,
    /// Its place there: `hci0:1`.
    pub at: String,
}

fn as_text<T: fmt::Display, S: serde::Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

impl HostDeviceView {
    /// What is shown of `device`, which is kept for the reasons in `protection`, and which `holder` has.
    pub(crate) fn new(
        device: &HostDevice,
        protection: Vec<String>,
        holder: Option<HolderView>,
    ) -> HostDeviceView {
        HostDeviceView {
            busid: device.bus_id.clone(),
            at: device.at,
            id: device.id,
            serial: device.serial.clone(),
            vendor: device.vendor_name().map(|name| name.into_owned()),
            product: device.product_name().map(|name| name.into_owned()),
            speed: device.speed,
            path: device.path.as_ref().map(ToString::to_string),
            hub: device.is_hub,
            protection,
            holder,
        }
    }
}
