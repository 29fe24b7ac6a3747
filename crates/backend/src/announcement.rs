//! What the backend publishes about itself: that it runs, and which devices its machine has.
//!
//! It is in `data`, the one folder of a domain that every other domain may read and write, so that
//! a toolstack in another domain can read it.

use std::collections::BTreeMap;

use vusb_host::HostDevice;
use vusb_xen::DomId;
use vusb_xen::store::{Error, Nodes};
use vusb_xen::usb::{
    ExportedDevice, Folder, Key, LAYOUT_VERSION, MAX_PING_BYTES, announcement, exported_device,
};

use crate::nodes::text;

/// The announcement, as it is in xenstore now.
#[derive(Debug)]
pub struct Announcement {
    us: DomId,
    folder: Folder,
    /// Whether the folder is there.
    published: bool,
    /// The nodes of all devices, by path.
    nodes: BTreeMap<String, String>,
}

impl Announcement {
    /// The announcement of this backend, not published yet.
    pub fn new(us: DomId) -> Announcement {
        Announcement { us, folder: announcement(us), published: false, nodes: BTreeMap::new() }
    }

    /// Announces this backend, unless that is done already, and removes the announcement of an
    /// earlier one.
    ///
    /// # Errors
    /// A node cannot be written.
    pub fn publish(&mut self, nodes: &mut impl Nodes) -> Result<(), Error> {
        if !self.published {
            nodes.remove(self.folder.as_str())?;
            nodes.write(&self.folder.node(Key::Version), LAYOUT_VERSION)?;
            self.published = true;
        }
        Ok(())
    }

    /// Updates the list of devices. If a call fails, the next one continues where it stopped.
    ///
    /// # Errors
    /// A node cannot be written.
    pub fn update(&mut self, nodes: &mut impl Nodes, devices: &[HostDevice]) -> Result<(), Error> {
        self.publish(nodes)?;
        let now: BTreeMap<String, String> =
            devices.iter().flat_map(|device| describe(self.us, device)).collect();
        let gone: Vec<String> =
            self.nodes.keys().filter(|path| !now.contains_key(*path)).cloned().collect();
        for path in gone {
            nodes.remove(&path)?;
            self.nodes.remove(&path);
        }
        for (path, value) in now {
            if self.nodes.get(&path) != Some(&value) {
                nodes.write(&path, &value)?;
                self.nodes.insert(path, value);
            }
        }
        Ok(())
    }

    /// Answers a ping, if there is one. It comes from another domain and may contain anything: if
    /// it is too long or not text, it is ignored.
    ///
    /// # Errors
    /// A node cannot be read or written.
    pub fn answer_ping(&self, nodes: &mut impl Nodes) -> Result<(), Error> {
        let ping = text(nodes, &self.ping_node())?;
        let Some(ping) = ping.filter(|it| (1..=MAX_PING_BYTES).contains(&it.len())) else {
            return Ok(());
        };
        let pong = self.folder.node(Key::Pong);
        if text(nodes, &pong)?.as_deref() != Some(&ping) {
            nodes.write(&pong, &ping)?;
        }
        Ok(())
    }

    /// Removes the announcement.
    ///
    /// # Errors
    /// A node cannot be removed.
    pub fn withdraw(&mut self, nodes: &mut impl Nodes) -> Result<(), Error> {
        nodes.remove(self.folder.as_str())?;
        self.published = false;
        self.nodes.clear();
        Ok(())
    }

    /// The node to watch for pings.
    pub fn ping_node(&self) -> String {
        self.folder.node(Key::Ping)
    }
}

/// A device's folder and nodes by path. The folder is included so that it is removed with the
/// device.
fn describe(us: DomId, device: &HostDevice) -> Vec<(String, String)> {
    let first_interface = || device.interfaces.first().map_or(0, |it| it.class);
    let exported = ExportedDevice {
        bus_id: device.bus_id.clone(),
        address: device.bus_address,
        id: device.id,
        serial: device.serial.clone(),
        speed: device.speed,
        speeds: device.speeds,
        class: if device.class == 0 { first_interface() } else { device.class },
        manufacturer: device.manufacturer.clone(),
        product: device.product.clone(),
        protection: device.protection.first().map(ToString::to_string),
    };
    let folder = exported_device(us, &device.bus_id);
    let nodes = exported.entries().into_iter().map(|(key, value)| (folder.node(key), value));
    [(folder.to_string(), String::new())].into_iter().chain(nodes).collect()
}

#[cfg(test)]
mod tests {
    use vusb_host::Interface;
    use vusb_model::selector::BusAddress;
    use vusb_model::speed::{Speed, SpeedSet};
    use vusb_xen::store::fake::Xenstored;

    use super::*;

    const ROOT: &str = "/local/domain/0/data/vusb-backend";

    fn device() -> HostDevice {
        let interface = Interface { number: 0, class: 8, subclass: 6, protocol: 80, driver: None };
        HostDevice {
            bus_id: "1-4.2".parse().unwrap(),
            bus_address: BusAddress { bus: 3, address: 14 },
            id: vusb_model::selector::UsbId { vendor: 0x0781, product: 0x5581 },
            serial: Some("4C53".to_owned()),
            manufacturer: None,
            product: Some("Ultra".to_owned()),
            speed: Some(Speed::High),
            speeds: SpeedSet::of(&[Speed::Full, Speed::High]),
            class: 0,
            configuration: Some(1),
            interfaces: vec![interface],
            path: None,
            protection: Vec::new(),
            used_by: None,
            is_authorized: true,
            is_hub: false,
        }
    }

    #[test]
    fn devices_are_listed_while_they_are_plugged_in() {
        let xenstored = Xenstored::start();
        let mut store = xenstored.client();
        xenstored.write(&format!("{ROOT}/device/9-9/id"), "left by an earlier backend");
        let mut announcement = Announcement::new(DomId::ZERO);
        announcement.publish(&mut store).unwrap();
        let alone = xenstored.tree();
        assert_eq!(
            alone.into_iter().collect::<Vec<_>>(),
            [(format!("{ROOT}/version"), "1".into())]
        );

        announcement.update(&mut store, &[device()]).unwrap();
        let folder = exported_device(DomId::ZERO, &device().bus_id);
        let read = ExportedDevice::parse(device().bus_id, |key| store.read(&folder.node(key)));
        let read = read.unwrap().unwrap();
        assert_eq!((read.id, read.address, read.class), (device().id, device().bus_address, 8));
        assert_eq!((read.serial, read.manufacturer), (device().serial, None));

        // Only what has changed is written.
        store.watch(&format!("{ROOT}/device"), "").unwrap();
        store.next_event(std::time::Duration::from_secs(5)).unwrap();
        let changed = HostDevice { serial: None, class: 3, ..device() };
        announcement.update(&mut store, &[changed]).unwrap();
        let mut events = Vec::new();
        while let Some(event) = store.next_event(std::time::Duration::from_millis(100)).unwrap() {
            events.push(event.path);
        }
        assert_eq!(events, [format!("{folder}/serial"), format!("{folder}/class")]);
        assert_eq!(store.read(&folder.node(Key::Class)).unwrap().as_deref(), Some("03"));

        announcement.update(&mut store, &[]).unwrap();
        assert!(store.list(&format!("{ROOT}/device")).unwrap().is_empty());
        announcement.withdraw(&mut store).unwrap();
        assert!(!store.exists(ROOT).unwrap());
    }

    #[test]
    fn a_ping_is_answered_with_its_own_text() {
        let xenstored = Xenstored::start();
        let mut store = xenstored.client();
        let announcement = Announcement::new(DomId::ZERO);
        assert_eq!(announcement.ping_node(), format!("{ROOT}/ping"));
        announcement.answer_ping(&mut store).unwrap();
        let pong = format!("{ROOT}/pong");
        assert_eq!(store.read(&pong).unwrap(), None);
        for ping in ["one", "two", &"x".repeat(64)] {
            store.write(&announcement.ping_node(), ping).unwrap();
            announcement.answer_ping(&mut store).unwrap();
            assert_eq!(store.read(&pong).unwrap().as_deref(), Some(ping));
        }
        for ping in [&b"y".repeat(65)[..], &[0xff, 0xfe], b""] {
            store.write_bytes(&announcement.ping_node(), ping).unwrap();
            announcement.answer_ping(&mut store).unwrap();
        }
        assert_eq!(store.read(&pong).unwrap().as_deref(), Some("x".repeat(64).as_str()));
    }
}
