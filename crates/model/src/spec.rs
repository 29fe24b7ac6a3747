//! What is requested. A spec may leave nearly everything open.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::{Index, PortPath};
use crate::device::Kind;
use crate::hardware::{Controller, Hardware, PciAddress};
use crate::models::{Companion, ControllerType, Model, UsbVersion};
use crate::name::{Name, NameError};
use crate::profile::Profile;

/// Requested controllers and devices. As JSON, what is left open is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// The rules that fill what the spec leaves open.
    pub profile: Profile,
    /// The domain's name: two domains with the same spec get network cards with different
    /// addresses, and a restarted domain gets the same ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Name>,
    /// What identifies a domain without a name, such as how it is reached (`qemu:/run/vm1.sock`).
    /// Used only if there is no `domain`; without either, two domains with the same spec get the
    /// same addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Disables USB, including what the profile adds by default: libvirt's model `none`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// The controllers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<ControllerSpec>,
    /// The devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceSpec>,
}

/// A requested controller. All of it may be left open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControllerSpec {
    /// Its index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<Index>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Its type; `None` is auto.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub controller_type: Option<ControllerType>,
    /// Its USB version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usbversion: Option<UsbVersion>,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// Its number of ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u8>,
    /// For an xHCI whose numbers of USB 2 and USB 3 ports differ: both numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separate_ports: Option<(u8, u8)>,
    /// Its companions; `None` leaves them to the profile. `vusb-1` gives an ICH9 EHCI the whole
    /// group and every other model none; `libvirt` gives the group only to a request without a
    /// model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub companions: Option<Vec<Companion>>,
    /// For a companion that is listed as a controller, as in libvirt's XML (`<master startport=>`):
    /// the number of ports of its EHCI that precede its own. Its index is that of its EHCI. For
    /// profile `libvirt` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_port: Option<u8>,
    /// For pv, its backend domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Its PCI address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciAddress>,
}

/// A requested device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// The controller to plug it into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<ControllerRef>,
    /// The port to plug it into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortPath>,
}

impl DeviceSpec {
    /// A device of this kind, with everything else open.
    pub const fn new(kind: Kind) -> DeviceSpec {
        DeviceSpec { name: None, kind, controller: None, port: None }
    }
}

/// A reference to a controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControllerRef {
    /// By name.
    Name(Name),
    /// By index.
    Index(Index),
}

impl FromStr for ControllerRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(index) => Ok(ControllerRef::Index(index)),
            Err(_) => text.parse().map(ControllerRef::Name),
        }
    }
}

impl fmt::Display for ControllerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControllerRef::Name(name) => write!(f, "{name}"),
            ControllerRef::Index(index) => write!(f, "{index}"),
        }
    }
}

impl From<&Controller> for ControllerSpec {
    /// The spec that leaves nothing open: it resolves to exactly this controller.
    fn from(controller: &Controller) -> Self {
        let ports = controller.ports;
        ControllerSpec {
            index: Some(controller.index),
            name: Some(controller.name.clone()),
            controller_type: Some(controller.model.controller_type()),
            usbversion: Some(controller.model.usbversion()),
            model: Some(controller.model),
            ports: Some(ports.count()),
            separate_ports: (!ports.are_uniform(controller.model))
                .then_some((ports.usb2(), ports.usb3())),
            companions: Some(controller.companions.clone()),
            first_port: None,
            backend: controller.backend.clone(),
            pci: controller.pci.clone(),
        }
    }
}

impl From<&Hardware> for Spec {
    /// The spec that leaves nothing open: it resolves to exactly this hardware.
    fn from(hardware: &Hardware) -> Self {
        let devices = hardware.devices().map(|(address, device)| DeviceSpec {
            name: Some(device.name.clone()),
            kind: device.kind.clone(),
            controller: Some(ControllerRef::Index(address.bus)),
            port: Some(address.port),
        });
        Spec {
            controllers: hardware.controllers().map(ControllerSpec::from).collect(),
            devices: devices.collect(),
            ..Spec::default()
        }
    }
}
