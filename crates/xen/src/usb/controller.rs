//! A controller as the toolstack writes it, as it is read back from libxl's folder, and as the
//! backend reads it.

use std::collections::BTreeMap;

use thiserror::Error;
use vusb_model::address::Index;
use vusb_model::name::Name;

use super::key::{Entry, Key};
use super::paths::{ControllerId, ControllerPaths};
use super::port::RequestedDevice;
use super::{MAX_PORTS, quoted};
use crate::State;
use crate::domain::strict_decimal;

/// libxl's words for a controller's type.
mod types {
    pub(super) const PV: &str = "pv";
    pub(super) const QUSB: &str = "qusb";
    pub(super) const DEVICE_MODEL: &str = "devicemodel";
}

/// A paravirtual controller to create.
#[derive(Clone, Copy, Debug)]
pub struct NewController<'a> {
    /// Its folders.
    pub paths: &'a ControllerPaths,
    /// USB version: 1 or 2.
    pub usb_version: u8,
    /// Number of ports: 1 to [`MAX_PORTS`].
    pub ports: u8,
    /// vusb's name for it.
    pub name: &'a Name,
    /// vusb's index of it.
    pub index: Index,
}

impl NewController<'_> {
    /// The nodes of libxl's folder.
    pub fn libxl_entries(&self) -> Vec<Entry> {
        let mut entries = vec![
            (Key::Frontend, self.paths.frontend().to_string()),
            (Key::Backend, self.paths.backend().to_string()),
        ];
        entries.extend(self.shared_entries());
        entries.push((Key::Name, self.name.to_string()));
        entries.extend(index_entry(self.index, self.paths.id.devid));
        entries
    }

    /// The nodes of the guest's folder.
    pub fn frontend_entries(&self) -> Vec<Entry> {
        vec![
            (Key::Backend, self.paths.backend().to_string()),
            (Key::BackendId, self.paths.backend.to_string()),
            (Key::State, State::Initialising.to_string()),
        ]
    }

    /// The nodes of the backend's folder.
    pub fn backend_entries(&self) -> Vec<Entry> {
        let mut entries = vec![(Key::Frontend, self.paths.frontend().to_string())];
        entries.extend(self.shared_entries());
        entries
    }

    /// What libxl writes into its own folder and the backend's.
    fn shared_entries(&self) -> Vec<Entry> {
        let mut entries = vec![
            (Key::FrontendId, self.paths.id.guest.to_string()),
            (Key::Online, "1".to_owned()),
            (Key::State, State::Initialising.to_string()),
            (Key::Type, types::PV.to_owned()),
            (Key::UsbVer, self.usb_version.to_string()),
        ];
        entries.extend(empty_ports(self.ports));
        entries
    }
}

/// An emulated controller to add to libxl's list.
#[derive(Clone, Copy, Debug)]
pub struct EmulatedController {
    /// The controller.
    pub id: ControllerId,
    /// USB version: 1, 2 or 3.
    pub usb_version: u8,
    /// Number of ports.
    pub ports: u8,
    /// vusb's index of it.
    pub index: Index,
}

impl EmulatedController {
    /// The nodes of libxl's folder.
    pub fn libxl_entries(&self) -> Vec<Entry> {
        let mut entries = vec![
            (Key::Type, types::DEVICE_MODEL.to_owned()),
            (Key::UsbVer, self.usb_version.to_string()),
        ];
        entries.extend(empty_ports(self.ports));
        entries.extend(index_entry(self.index, self.id.devid));
        entries
    }
}

fn empty_ports(ports: u8) -> impl Iterator<Item = Entry> {
    let count = [(Key::NumPorts, ports.to_string()), (Key::Ports, String::new())];
    count.into_iter().chain((1..=ports).map(|port| (Key::Port(port), String::new())))
}

/// Omitted if the index equals libxl's number. They differ only if another tool took that number
/// first.
fn index_entry(index: Index, devid: u32) -> Option<Entry> {
    (u32::from(index.get()) != devid).then(|| (Key::Index, index.to_string()))
}

/// Who serves a controller in libxl's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// A vusb-backend (libxl's type `pv`).
    Pv(ControllerPaths),
    /// A QEMU, by the same protocol (libxl's type `qusb`).
    Qusb(ControllerPaths),
    /// The guest's device model: an emulated controller.
    DeviceModel,
    /// A type that is not known, or a paravirtual one whose backend's path is not the path that
    /// libxl uses.
    Unknown(String),
}

/// A controller in libxl's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibxlController {
    /// Who serves it.
    pub service: Service,
    /// USB version.
    pub usb_version: Option<u8>,
    /// Number of ports, at most [`MAX_PORTS`]; 0 if it is missing.
    pub ports: u8,
    /// vusb's index, if that is not libxl's number.
    pub index: Option<Index>,
    /// vusb's name; `None` if another tool created it.
    pub name: Option<Name>,
}

impl LibxlController {
    /// Reads libxl's folder; `None` if there is none.
    ///
    /// # Errors
    /// The errors of `read`.
    pub fn parse<E>(
        id: ControllerId,
        mut read: impl FnMut(Key) -> Result<Option<String>, E>,
    ) -> Result<Option<LibxlController>, E> {
        let Some(kind) = read(Key::Type)? else { return Ok(None) };
        let backend = read(Key::Backend)?;
        let paths = || ControllerPaths::parse(id, backend.as_deref()?);
        let service = match kind.as_str() {
            types::PV => paths().map(Service::Pv),
            types::QUSB => paths().map(Service::Qusb),
            types::DEVICE_MODEL => Some(Service::DeviceModel),
            _ => None,
        };
        Ok(Some(LibxlController {
            service: service.unwrap_or(Service::Unknown(kind)),
            usb_version: small(read(Key::UsbVer)?),
            ports: small(read(Key::NumPorts)?).unwrap_or(0).min(MAX_PORTS),
            index: read(Key::Index)?.and_then(|it| it.parse().ok()),
            name: read(Key::Name)?.and_then(|it| it.parse().ok()),
        }))
    }
}

fn small(text: Option<String>) -> Option<u8> {
    strict_decimal(&text?).and_then(|it| u8::try_from(it).ok())
}

/// What the backend must serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// USB version: 1 or 2.
    pub usb_version: u8,
    /// Number of ports: 1 to [`MAX_PORTS`].
    pub ports: u8,
    /// The devices that are requested, by port.
    pub requested: BTreeMap<u8, RequestedDevice>,
    /// Ports whose nodes are malformed, and why.
    pub invalid: BTreeMap<u8, String>,
}

/// A node with a value that the backend cannot serve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{key}` is `{}`: {why}", quoted(value))]
pub struct BadNode {
    /// The node.
    pub key: Key,
    /// Its value.
    pub value: String,
    /// What it must be.
    pub why: &'static str,
}

impl ControllerConfig {
    /// Reads the backend's folder.
    ///
    /// # Errors
    /// The outer error is that of `read`. The inner one is a controller that cannot be served at
    /// all; a malformed port does not cause it.
    pub fn parse<E>(
        mut read: impl FnMut(Key) -> Result<Option<String>, E>,
    ) -> Result<Result<ControllerConfig, BadNode>, E> {
        let mut number = |key, range: std::ops::RangeInclusive<u8>, why| {
            let value = read(key)?.unwrap_or_default();
            let number = small(Some(value.clone())).filter(|it| range.contains(it));
            Ok::<_, E>(number.ok_or(BadNode { key, value, why }))
        };
        let usb_version = number(Key::UsbVer, 1..=2, "it must be 1 or 2")?;
        let ports = number(Key::NumPorts, 1..=MAX_PORTS, "it must be 1 to 31")?;
        let (usb_version, ports) = match (usb_version, ports) {
            (Ok(usb_version), Ok(ports)) => (usb_version, ports),
            (Err(bad), _) | (_, Err(bad)) => return Ok(Err(bad)),
        };
        let (mut requested, mut invalid) = (BTreeMap::new(), BTreeMap::new());
        for port in 1..=ports {
            let Some(bus_id) = read(Key::Port(port))?.filter(|it| !it.is_empty()) else { continue };
            let identity = read(Key::Device(port))?.filter(|it| !it.is_empty());
            match RequestedDevice::parse(&bus_id, identity.as_deref()) {
                Ok(device) => drop(requested.insert(port, device)),
                Err(why) => drop(invalid.insert(port, why)),
            }
        }
        Ok(Ok(ControllerConfig { usb_version, ports, requested, invalid }))
    }
}
