//! Views of domains and of this machine. Each serializes to the JSON that the command prints, and
//! can be read back from it.
//!
//! ```json
//! {"api":1,"domain":"web1","address":"qemu:/run/web1.qmp","state":"running","suspended":false,
//!  "profile":"vusb-1","controllers":[{"index":0,"name":"hci0","type":"emulated",
//!  "model":"qemu-xhci","usbversion":3,"ports":15,"origin":"vusb","state":"present","devices":[{"port":"1",
//!  "name":"stick","kind":"host","selector":"0781:5581","state":"attached","origin":"vusb"}]}],"foreign":[],"notes":[]}
//! ```
//!
//! A key is never removed and never changes its meaning while `api` is 1; new ones may be added.

pub(crate) mod api;
pub(crate) mod as_selector;
pub(crate) mod error;
pub(crate) mod models;
pub(crate) mod plan;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vusb_drivers::Counters;
use vusb_host::{HostDevice, Process, UsedBy};
use vusb_model::address::{Index, PortPath};
use vusb_model::device::Kind;
use vusb_model::hardware::PciAddress;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::selector::{BusAddress, BusId, Selector, Traits, UsbId};
use vusb_model::speed::Speed;

use crate::error::ExitCode;
use crate::note::{self, Note};
use crate::outcome::Outcome;

pub use self::api::API;
pub use self::error::{ErrorView, FailedView, NotUndoneView};
pub use self::models::{
    AvailabilityView, Can, GivableView, GuestModelsView, ModelView, ModelsView, PortsView,
};
pub use self::plan::{CompanionView, PlannedController, PlannedDevice};

/// A domain's USB hardware.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainView {
    /// The version of the layout.
    pub api: u32,
    /// The domain's name, or its address if it has none.
    pub domain: String,
    /// Its address: `qemu:/run/web1.qmp`.
    pub address: String,
    /// Whether its guest runs.
    #[serde(default)]
    pub state: DomainState,
    /// Whether its host devices were taken out until it is resumed.
    #[serde(default)]
    pub suspended: bool,
    /// The profile that its hardware is resolved with.
    pub profile: Profile,
    /// The controllers, by index.
    pub controllers: Vec<ControllerView>,
    /// USB controllers that have no model.
    pub foreign: Vec<ForeignView>,
    /// What else the caller should know.
    #[serde(with = "note::with_text")]
    pub notes: Vec<Note>,
}

/// Whether the guest of a domain runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainState {
    /// It runs.
    Running,
    /// It has ended.
    Gone,
    /// The domain is the config file of a guest that does not run.
    File,
    /// It does not run, and its tool stores what it starts with.
    Off,
    /// It cannot be asked at the moment.
    #[default]
    Unknown,
}

impl fmt::Display for DomainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DomainState::Running => "running",
            DomainState::Gone => "gone",
            DomainState::File => "file",
            DomainState::Off => "off",
            DomainState::Unknown => "unknown",
        })
    }
}

/// A controller with its devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Its USB version.
    pub usbversion: UsbVersion,
    /// Its number of ports.
    pub ports: u8,
    /// Its companions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<CompanionView>,
    /// The domain whose devices it carries, if that is not domain 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Its PCI address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciAddress>,
    /// Who created it.
    pub origin: Creator,
    /// Whether the guest has it.
    pub state: ControllerState,
    /// What it has carried so far, for controllers that count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<CountersView>,
    /// Its devices, hubs before the devices behind them.
    pub devices: Vec<DeviceView>,
}

/// What a controller has carried since the guest connected to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersView {
    /// Transfers that the guest requested.
    pub requests: u64,
    /// Bytes from devices to the guest.
    pub bytes_in: u64,
    /// Bytes from the guest to devices.
    pub bytes_out: u64,
    /// Transfers that failed.
    pub errors: u64,
    /// Transfers in flight.
    pub in_flight: u64,
}

impl From<&Counters> for CountersView {
    fn from(it: &Counters) -> CountersView {
        let Counters { requests, bytes_in, bytes_out, errors, in_flight } = *it;
        CountersView { requests, bytes_in, bytes_out, errors, in_flight }
    }
}

/// A device of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its port.
    pub port: PortPath,
    /// Its name.
    pub name: Name,
    /// `kind`, and the fields of that kind.
    #[serde(flatten)]
    pub kind: Kind,
    /// Whether the guest sees it.
    pub state: State,
    /// Who attached it.
    pub origin: Creator,
    /// The terminal of this machine that is the other end of a serial adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
}

impl DeviceView {
    /// The device of this machine behind this device of a domain: the one that the domain holds
    /// according to [`HostDeviceView::holder`], or the only one that its selector matches. `None`
    /// if it is not plugged in, or is no device of this machine.
    pub fn host_device<'a>(
        &self,
        domain: &str,
        plugged: &'a [HostDeviceView],
    ) -> Option<&'a HostDeviceView> {
        let Kind::Host(host) = &self.kind else { return None };
        let is_held = |here: &&HostDeviceView| {
            here.holder.as_ref().is_some_and(|by| by.domain == domain && by.name == self.name)
        };
        if let Some(held) = plugged.iter().find(is_held) {
            return Some(held);
        }
        let mut matching = plugged.iter().filter(|here| here.matches(&host.selector));
        let only = matching.next().filter(|_| matching.next().is_none());
        only.filter(|_| self.state != State::Absent)
    }
}

/// A USB controller that has no model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignView {
    /// The hypervisor's name for its type.
    pub driver: String,
    /// The hypervisor's ID for it; empty if it has none.
    pub id: String,
    /// Its devices.
    pub devices: Vec<ForeignDeviceView>,
}

/// A device on such a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignDeviceView {
    /// Its port.
    pub port: String,
    /// The hypervisor's name for its type.
    pub driver: String,
}

/// Who created an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Creator {
    /// vusb.
    Vusb,
    /// The hypervisor's command line, or another tool.
    Other,
}

/// Whether a guest has a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControllerState {
    /// The guest has it.
    Present,
    /// It is recorded, and the guest does not have it.
    Missing,
    /// It is disconnected and has to be recreated.
    Broken,
    /// It is recorded, and the guest cannot be asked at the moment.
    Unknown,
    /// The guest has it after its next start.
    Configured,
}

impl fmt::Display for ControllerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ControllerState::Present => "present",
            ControllerState::Missing => "missing",
            ControllerState::Broken => "broken",
            ControllerState::Unknown => "unknown",
            ControllerState::Configured => "configured",
        })
    }
}

/// Whether a guest sees a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The guest sees it.
    Attached,
    /// It has its port, but the host device or the peer behind it is not there.
    Absent,
    /// The guest was notified of it and has not taken it yet.
    Offered,
    /// The guest has it after its next start.
    Configured,
    /// It is recorded, and the guest does not have it: a restart or another tool removed it.
    Missing,
    /// It was taken out, and returns when the domain is resumed.
    Suspended,
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
            State::Suspended => "suspended",
            State::Unknown => "unknown",
        })
    }
}

/// The controllers of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControllersView {
    /// The version of the layout.
    pub api: u32,
    /// As in [`DomainView`].
    pub domain: String,
    /// As in [`DomainView`].
    pub address: String,
    /// The controllers; their `devices` are empty.
    pub controllers: Vec<ControllerView>,
}

/// The devices of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevicesView {
    /// The version of the layout.
    pub api: u32,
    /// As in [`DomainView`].
    pub domain: String,
    /// As in [`DomainView`].
    pub address: String,
    /// The devices, with their controllers.
    pub devices: Vec<LocatedDevice>,
}

/// A device with its controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocatedDevice {
    /// Its location: `hci0:1`.
    pub at: String,
    /// The controller's index.
    pub bus: Index,
    /// The controller's name.
    pub controller: Name,
    /// The device.
    #[serde(flatten)]
    pub device: DeviceView,
}

impl DomainView {
    /// The controllers without their devices.
    pub fn into_controllers(self) -> ControllersView {
        let DomainView { api, domain, address, controllers, .. } = self;
        let bare = |it: ControllerView| ControllerView { devices: Vec::new(), ..it };
        let controllers = controllers.into_iter().map(bare).collect();
        ControllersView { api, domain, address, controllers }
    }

    /// The devices with their controllers.
    pub fn into_devices(self) -> DevicesView {
        let DomainView { api, domain, address, controllers, .. } = self;
        let located = |it: ControllerView| {
            let (bus, controller) = (it.index, it.name);
            it.devices.into_iter().map(move |device| LocatedDevice {
                at: format!("{controller}:{}", device.port),
                bus,
                controller: controller.clone(),
                device,
            })
        };
        let devices = controllers.into_iter().flat_map(located).collect();
        DevicesView { api, domain, address, devices }
    }
}

/// All domains that have a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllView {
    /// The version of the layout.
    pub api: u32,
    /// The domains that could be listed, by name.
    pub domains: Vec<DomainView>,
    /// Those that could not: they are unreachable, or their records are damaged.
    pub unreachable: Vec<UnreachableView>,
    /// The guests that run on this machine without a record.
    pub unrecorded: Vec<RunningView>,
}

/// The domains that have a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainsView {
    /// The version of the layout.
    pub api: u32,
    /// The domains, by name.
    pub domains: Vec<RecordedView>,
    /// The records that cannot be read.
    pub damaged: Vec<DamagedView>,
}

/// A domain that has a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedView {
    /// The domain's name, or its address if it has none.
    pub domain: String,
    /// Its address.
    pub address: String,
    /// Whether its guest runs.
    pub state: DomainState,
    /// Why it is not known to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether its host devices were taken out until it is resumed.
    pub suspended: bool,
    /// The profile that its hardware is resolved with.
    pub profile: Profile,
    /// The number of controllers that it has or should have.
    pub controllers: usize,
    /// The number of devices that it has or should have.
    pub devices: usize,
    /// The host devices and images that it has claimed, as they are written on the command line.
    pub claims: Vec<String>,
}

/// A record for another machine. Its layout is that of the file of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportView {
    /// The version of the layout.
    pub api: u32,
    /// The record.
    pub record: serde_json::Map<String, serde_json::Value>,
}

/// The result of restoring every record whose guest runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppliedAllView {
    /// The version of the layout.
    pub api: u32,
    /// Whether this is a dry run.
    pub dry_run: bool,
    /// The recorded domains, by name.
    pub domains: Vec<AppliedView>,
}

impl AppliedAllView {
    /// The kind of the result: [`ExitCode::Done`], or the kind of the failures.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::of_all(self.domains.iter().map(|it| match (&it.outcome, &it.error) {
            (_, Some(error)) => error.kind,
            (Some(outcome), None) => outcome.exit_code(),
            (None, None) => ExitCode::Done,
        }))
    }
}

/// What restoring the record of a domain did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppliedView {
    /// The domain's name or address, or the file of its record.
    pub domain: String,
    /// Its address, or the file of its record.
    pub address: String,
    /// What was done.
    pub state: AppliedState,
    /// What was done in detail; `None` if the guest does not run or it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
}

/// What restoring the record of a domain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppliedState {
    /// Something was restored.
    Done,
    /// Nothing was missing that could be there.
    Already,
    /// Some devices could not be restored.
    Incomplete,
    /// The guest does not run.
    Gone,
    /// It failed.
    Failed,
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedView {
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// A guest that runs on this machine and has no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningView {
    /// Its address. `None` if none reaches it: a QEMU without a QMP socket for clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its name in its own tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The hypervisor: `QEMU`.
    pub hypervisor: String,
    /// The process ID of a QEMU, or the domain ID of a Xen guest.
    pub id: u32,
    /// The tool that started it, if it can be recognized: `libvirt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// The host devices that its command line names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_devices: Vec<Selector>,
}

/// A domain that could not be listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnreachableView {
    /// The domain's name or address, or the file of its record.
    pub domain: String,
    /// Why.
    pub why: String,
    /// The host devices that it still holds.
    pub holds: Vec<String>,
    /// The controllers of its record, in the state `missing` if the guest has ended, `unknown`
    /// otherwise.
    pub controllers: Vec<ControllerView>,
}

/// The USB devices of this machine, or of a backend domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// The version of the layout.
    pub api: u32,
    /// The backend domain; `None` is this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The devices, by bus and port.
    pub devices: Vec<HostDeviceView>,
    /// What else the caller should know.
    #[serde(with = "note::with_text")]
    pub notes: Vec<Note>,
}

/// A USB device of this machine or of a backend domain. Its strings come from the device: they are
/// safe to print, but not trustworthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDeviceView {
    /// Bus and port chain.
    pub busid: BusId,
    /// Bus and address, which are valid until the device is unplugged.
    #[serde(with = "as_selector")]
    pub at: BusAddress,
    /// Vendor and product.
    pub id: UsbId,
    /// Its serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The vendor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The product's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// The speed that it runs at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Its reboot-proof port path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Who uses it instead of this machine's own drivers, or may take it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
    /// The programs that use it, as far as this process may see them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessView>,
    /// Whether it is a hub.
    pub hub: bool,
    /// Whether this machine lets drivers and programs use it.
    #[serde(default = "default_authorized")]
    pub authorized: bool,
    /// Why it may not be attached without force.
    #[serde(rename = "protected")]
    pub protection: Vec<String>,
    /// The domain that holds it, according to the records and the claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderView>,
}

/// A process of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessView {
    /// Its process ID.
    pub pid: u32,
    /// Its name, at most 15 characters. The process chooses it. For a guest that a configuration or
    /// a command line shows, the name of its hypervisor instead.
    pub name: String,
}

impl From<&Process> for ProcessView {
    fn from(Process { pid, name }: &Process) -> ProcessView {
        ProcessView { pid: *pid, name: name.clone() }
    }
}

/// The holder of a host device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    /// The domain.
    pub domain: String,
    /// The device's name there.
    pub name: Name,
    /// Its location there: `hci0:1`.
    pub at: String,
}

/// The value of `authorized` where the key is missing: versions before it did not list unauthorized
/// devices.
const fn default_authorized() -> bool {
    true
}

impl HostDeviceView {
    /// Whether a selector matches this device.
    pub fn matches(&self, selector: &Selector) -> bool {
        selector.matches(&Traits {
            id: self.id,
            serial: self.serial.as_deref(),
            port: &self.busid,
            address: self.at,
            path: self.path.as_deref(),
        })
    }

    pub(crate) fn new(
        device: &HostDevice,
        protection: Vec<String>,
        holder: Option<HolderView>,
    ) -> HostDeviceView {
        let processes = device.used_by.as_ref().map_or(&[][..], UsedBy::processes);
        HostDeviceView {
            busid: device.bus_id.clone(),
            at: device.bus_address,
            id: device.id,
            serial: device.serial.clone(),
            vendor: device.vendor_name().map(|name| name.into_owned()),
            product: device.product_name().map(|name| name.into_owned()),
            speed: device.speed,
            path: device.path.as_ref().map(ToString::to_string),
            used_by: device.used_by.as_ref().map(ToString::to_string),
            processes: processes.iter().map(ProcessView::from).collect(),
            hub: device.is_hub,
            authorized: device.is_authorized,
            protection,
            holder,
        }
    }
}

/// A hash of what a guest can see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestView {
    /// The version of the layout.
    pub api: u32,
    /// The hash, in hexadecimal.
    pub digest: String,
    /// Whether it includes the PCI addresses of controllers.
    pub pci: bool,
}

/// Command line arguments that start a guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArgumentsView {
    /// The version of the layout.
    pub api: u32,
    /// The arguments.
    pub arguments: Vec<String>,
    /// What else the caller should know.
    #[serde(with = "note::with_text")]
    pub notes: Vec<Note>,
}
