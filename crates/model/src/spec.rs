//! What a person asks for. It may leave nearly everything open.

use std::fmt;
use std::str::FromStr;

use crate::address::{Index, PortPath};
use crate::device::Kind;
use crate::hardware::{Controller, Hardware, PciAddress};
use crate::models::{Companion, ControllerType, Model, UsbVersion};
use crate::name::{Name, NameError};
use crate::profile::Profile;

/// Controllers and devices that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The rules that fill what is left open.
    pub profile: Profile,
    /// The domain's name: two domains with the same spec get network cards with different addresses, and one that is started
    /// again with the spec gets the same.
    pub domain: Option<Name>,
    /// What tells a domain without a name from all others, such as how it is reached (`qemu:/run/vm1.sock`). It counts only where
    /// there is no `domain`; without either, two domains with the same spec have the same addresses.
    pub address: Option<String>,
    /// The guest is to have no USB at all, not even what its profile gives by itself: libvirt's model `none`.
    pub disabled: bool,
    /// The controllers.
    pub controllers: Vec<ControllerSpec>,
    /// The devices.
    pub devices: Vec<DeviceSpec>,
}

/// A controller that is asked for. All of it may be left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerSpec {
    /// Its index.
    pub index: Option<Index>,
    /// Its name.
    pub name: Option<Name>,
    /// Its type; `None` is auto.
    pub controller_type: Option<ControllerType>,
    /// Its generation of USB.
    pub usbversion: Option<UsbVersion>,
    /// Its model.
    pub model: Option<Model>,
    /// How many ports it has.
    pub ports: Option<u8>,
    /// For an xHCI whose halves differ: how many ports have a USB 2 half, and how many a USB 3 half.
    pub halves: Option<(u8, u8)>,
    /// Its companions; `None` is the whole group for an ICH9 EHCI, and none for every other model.
    pub companions: Option<Vec<Companion>>,
    /// For a companion that is said as a controller of its own, as libvirt says it (`<master startport=>`): how many ports of its EHCI
    /// come before its own. Its index is its EHCI's. For profile `libvirt` alone.
    pub first_port: Option<u8>,
    /// For pv, the domain whose devices it carries.
    pub backend: Option<String>,
    /// Where it sits on PCI.
    pub pci: Option<PciAddress>,
}

/// A device that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its name.
    pub name: Option<Name>,
    /// What it is.
    pub kind: Kind,
    /// The controller to plug it into.
    pub controller: Option<ControllerRef>,
    /// The port to plug it into.
    pub port: Option<PortPath>,
}

impl DeviceSpec {
    /// A device of this kind, all else left open.
    pub const fn new(kind: Kind) -> DeviceSpec {
        DeviceSpec { name: None, kind, controller: None, port: None }
    }
}

/// How a person names a controller: by name or by index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// The spec that leaves nothing open: it resolves to this very controller.
    fn from(controller: &Controller) -> Self {
        let ports = controller.ports;
        ControllerSpec {
            index: Some(controller.index),
            name: Some(controller.name.clone()),
            controller_type: Some(controller.model.controller_type()),
            usbversion: Some(controller.model.usbversion()),
            model: Some(controller.model),
            ports: Some(ports.count()),
            halves: (!ports.are_plain(controller.model)).then_some((ports.usb2(), ports.usb3())),
            companions: Some(controller.companions.clone()),
            first_port: None,
            backend: controller.backend.clone(),
            pci: controller.pci.clone(),
        }
    }
}

impl From<&Hardware> for Spec {
    /// The spec that leaves nothing open: it resolves to this very hardware.
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
