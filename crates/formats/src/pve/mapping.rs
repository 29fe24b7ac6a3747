//! The USB devices that a Proxmox VE cluster has names for, `/etc/pve/mapping/usb.cfg`.
//!
//! ```text
//! zigbee
//!     description Zigbee stick
//!     map id=10c4:ea60,node=pve1,path=1-2.1
//!     map id=10c4:ea60,node=pve2
//! ```
//!
//! A name has one device on each node. The facts are those of pve-guest-common's
//! `PVE/Mapping/USB.pm`.

use std::fmt;

use vusb_model::selector::{BusId, Selector, UsbId};

/// The device that a mapping names on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedDevice {
    /// Its vendor and product.
    pub id: UsbId,
    /// Its port, if the mapping names one.
    pub port: Option<BusId>,
}

impl MappedDevice {
    /// What Proxmox VE gives to the guest: the device at the port, or else any with this id.
    pub fn selector(&self) -> Selector {
        match &self.port {
            Some(port) => Selector::Port(port.clone()),
            None => Selector::Id { id: self.id, serial: None },
        }
    }
}

/// Why a mapping names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingError {
    /// The cluster does not have it.
    Unknown,
    /// It has no device on this node.
    NotHere,
    /// It has several devices on this node, which Proxmox VE refuses.
    Several,
    /// Its entry for this node cannot be read.
    Invalid,
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MappingError::Unknown => {
                "the cluster has no mapping of this name; `pvesh get /cluster/mapping/usb` lists them"
            }
            MappingError::NotHere => "the mapping has no device on this node",
            MappingError::Several => {
                "the mapping has several devices on this node, and Proxmox VE permits one"
            }
            MappingError::Invalid => "the mapping's entry for this node has no valid id and path",
        })
    }
}

impl std::error::Error for MappingError {}

/// The device that the mapping `name` of this text has on a node.
///
/// # Errors
/// See [`MappingError`].
pub fn mapped_device(text: &str, name: &str, node: &str) -> Result<MappedDevice, MappingError> {
    let (mut is_known, mut is_wanted) = (false, false);
    let mut found = None;
    for line in text.lines().filter(|it| !it.trim().is_empty() && !it.starts_with('#')) {
        if !line.starts_with([' ', '\t']) {
            is_wanted = line.trim() == name;
            is_known |= is_wanted;
            continue;
        }
        let entry = line.trim().strip_prefix("map").filter(|it| it.starts_with([' ', '\t']));
        let Some(entry) = entry.filter(|_| is_wanted) else { continue };
        let value = |key: &str| {
            let mut all = entry.trim().split(',').filter_map(|it| it.split_once('='));
            all.find(|(it, _)| *it == key).map(|(_, value)| value)
        };
        if value("node") == Some(node)
            && found.replace(device(value("id"), value("path"))).is_some()
        {
            return Err(MappingError::Several);
        }
    }
    match found {
        Some(Some(device)) => Ok(device),
        Some(None) => Err(MappingError::Invalid),
        None if is_known => Err(MappingError::NotHere),
        None => Err(MappingError::Unknown),
    }
}

/// `None` if a value is missing or invalid. The path is optional.
fn device(id: Option<&str>, path: Option<&str>) -> Option<MappedDevice> {
    let id: UsbId = id?.to_ascii_lowercase().replace("0x", "").parse().ok()?;
    let port = path.map(str::parse::<BusId>).transpose().ok()?;
    Some(MappedDevice { id, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# of the cluster\nzigbee\n\tdescription a, b=c\n\tmap id=10c4:ea60,node=pve1,path=1-2.1\n\
                        \tmap id=10C4:EA60,node=pve2\n\ntwo\n  map node=pve1,id=0781:5581\n  map id=0781:5590,node=pve1\n\
                        bad\n\tmap id=xyz,node=pve1\n\tmap id=0781:5581,node=pve2,path=x\n";

    #[test]
    fn a_mapping_names_one_device_on_each_node() {
        let of = |name: &str, node: &str| mapped_device(TEXT, name, node);
        let text = |name: &str, node: &str| of(name, node).unwrap().selector().to_string();
        assert_eq!(text("zigbee", "pve1"), "1-2.1");
        assert_eq!(text("zigbee", "pve2"), "10c4:ea60");
        assert_eq!(of("zigbee", "pve3"), Err(MappingError::NotHere));
        assert_eq!(of("two", "pve1"), Err(MappingError::Several));
        assert_eq!(of("bad", "pve1"), Err(MappingError::Invalid));
        assert_eq!(of("bad", "pve2"), Err(MappingError::Invalid));
        assert_eq!(of("zig", "pve1"), Err(MappingError::Unknown));
        assert_eq!(mapped_device("", "zigbee", "pve1"), Err(MappingError::Unknown));
    }
}
