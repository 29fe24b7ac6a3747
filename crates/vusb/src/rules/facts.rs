//! The facts about a host device that rules can test.

use std::collections::BTreeMap;

use vusb_host::{Host, HostDevice};
use vusb_model::rules::{DeviceFacts, InterfacePattern};

/// The facts about a device that is plugged into this machine. `recorded` is empty: the caller
/// knows which domains were given the device.
pub fn facts(host: &Host, device: &HostDevice) -> DeviceFacts {
    let names = [device.vendor_name(), device.product_name()];
    let names: Vec<_> = names.into_iter().flatten().collect();
    let interface = |it: &vusb_host::Interface| {
        let (class, subclass, protocol) = it.class_triple();
        InterfacePattern::exact(class, subclass, protocol)
    };
    let mut protected: BTreeMap<_, String> = BTreeMap::new();
    for reason in &device.protection {
        protected.entry(reason.kind()).or_insert_with(|| reason.to_string());
    }
    DeviceFacts {
        id: Some(device.id),
        serial: device.serial.clone(),
        port: Some(device.bus_id.clone()),
        path: device.path.clone(),
        interfaces: Some(device.interfaces.iter().map(interface).collect()),
        text: Some(names.join(" ")),
        removable: Some(host.removable(device)),
        protected,
        recorded: Vec::new(),
    }
}
