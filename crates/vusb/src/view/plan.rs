//! The controllers and devices of a plan, which need not exist yet.

use serde::{Deserialize, Serialize};
use vusb_model::address::{Address, Index};
use vusb_model::hardware::{Controller, Device, PciAddress};
use vusb_model::models::{Companion, ControllerType, Model, UsbVersion};
use vusb_model::name::Name;

/// A controller of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedController {
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
    /// The number of USB 2 ports, for an xHCI that does not have as many USB 3 ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usb2ports: Option<u8>,
    /// The number of USB 3 ports, in the same case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usb3ports: Option<u8>,
    /// Its companions.
    pub companions: Vec<CompanionView>,
    /// The domain whose devices it carries, if that is not domain 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Its PCI address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciAddress>,
    /// Its devices, hubs before the devices behind them.
    pub devices: Vec<PlannedDevice>,
}

/// A device of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedDevice {
    /// `bus` and `port`.
    #[serde(flatten)]
    pub address: Address,
    /// `name`, `kind`, and the fields of that kind.
    #[serde(flatten)]
    pub device: Device,
}

impl From<&Controller> for PlannedController {
    fn from(it: &Controller) -> PlannedController {
        let separate = |count: u8| (!it.ports.are_uniform(it.model)).then_some(count);
        let bus = it.index;
        let devices = it.devices().map(|(port, device)| PlannedDevice {
            address: Address { bus, port },
            device: device.clone(),
        });
        PlannedController {
            index: it.index,
            name: it.name.clone(),
            controller_type: it.model.controller_type(),
            model: it.model,
            usbversion: it.model.usbversion(),
            ports: it.ports.count(),
            usb2ports: separate(it.ports.usb2()),
            usb3ports: separate(it.ports.usb3()),
            companions: it.companions.iter().map(CompanionView::from).collect(),
            backend: it.backend.clone(),
            pci: it.pci.clone(),
            devices: devices.collect(),
        }
    }
}

/// A companion of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompanionView {
    /// Its model, and how many of the controller's ports come before its own two.
    #[serde(flatten)]
    pub companion: Companion,
    /// Its PCI function in the controller's slot.
    pub function: u8,
}

impl From<&Companion> for CompanionView {
    fn from(companion: &Companion) -> CompanionView {
        CompanionView { companion: *companion, function: companion.model.function() }
    }
}
