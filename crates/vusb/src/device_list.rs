//! The USB devices of a machine at one moment, with an index by the place of their port.

use std::collections::HashMap;
use std::ops::Deref;

use vusb_host::HostDevice;

use crate::host_identity::port_key;

/// The USB devices of a machine at one moment. It dereferences to all of them, in their order.
#[derive(Clone, Debug, Default)]
pub struct DeviceList {
    devices: Vec<HostDevice>,
    /// The positions of the devices at each place. The two buses of one xHCI have the same paths,
    /// so there may be two.
    by_place: HashMap<String, Vec<usize>>,
}

impl DeviceList {
    /// The devices at the place, in their order.
    pub(crate) fn at_place(&self, place: &str) -> impl Iterator<Item = &HostDevice> {
        let positions = self.by_place.get(place).into_iter().flatten();
        positions.filter_map(|it| self.devices.get(*it))
    }
}

impl From<Vec<HostDevice>> for DeviceList {
    fn from(devices: Vec<HostDevice>) -> DeviceList {
        let mut by_place: HashMap<String, Vec<usize>> = HashMap::new();
        for (position, device) in devices.iter().enumerate() {
            by_place.entry(port_key(device)).or_default().push(position);
        }
        DeviceList { devices, by_place }
    }
}

impl Deref for DeviceList {
    type Target = [HostDevice];

    fn deref(&self) -> &[HostDevice] {
        &self.devices
    }
}
