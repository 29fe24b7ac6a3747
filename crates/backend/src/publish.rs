//! What the backend tells of itself: that it is there, and which devices it could lend.
//!
//! It stands in the one folder that every domain may write to, `data`, so that a toolstack in another domain can read it.

use std::collections::BTreeMap;

use vusb_host::HostDevice;
use vusb_xen::DomId;
use vusb_xen::store::{Error, Nodes};

/// The layout of what is published.
const VERSION: &str = "1";
/// The longest answer to a ping.
const PING: usize = 64;

/// What is published at present.
#[derive(Debug)]
pub struct Published {
    folder: String,
    nodes: BTreeMap<String, String>,
}

/// Where it stands.
pub fn folder(us: DomId) -> String {
    format!("/local/domain/{us}/data/vusb-backend")
}

impl Published {
    /// Removes what an earlier backend left, and says that this one is there.
    ///
    /// # Errors
    /// The store's.
    pub fn begin(nodes: &mut impl Nodes, us: DomId) -> Result<Published, Error> {
        let folder = folder(us);
        nodes.remove(&folder)?;
        nodes.write(&format!("{folder}/version"), VERSION)?;
        Ok(Published { folder, nodes: BTreeMap::new() })
    }

    /// Says which devices there are now.
    ///
    /// # Errors
    /// The store's.
    pub fn update(&mut self, nodes: &mut impl Nodes, devices: &[HostDevice]) -> Result<(), Error> {
        let now: BTreeMap<String, String> = devices.iter().flat_map(describe).collect();
        for name in self.nodes.keys().filter(|name| !now.contains_key(*name)) {
            nodes.remove(&format!("{}/{name}", self.folder))?;
        }
        for (name, value) in &now {
            if self.nodes.get(name) != Some(value) {
                nodes.write(&format!("{}/{name}", self.folder), value)?;
            }
        }
        self.nodes = now;
        Ok(())
    }

    /// Answers a ping, if there is one.
    ///
    /// # Errors
    /// The store's.
    pub fn answer(&self, nodes: &mut impl Nodes) -> Result<(), Error> {
        let Some(ping) =
            nodes.read(&format!("{}/ping", self.folder))?.filter(|it| it.len() <= PING)
        else {
            return Ok(());
        };
        let pong = format!("{}/pong", self.folder);
        if nodes.read(&pong)?.as_deref() != Some(&ping) {
            nodes.write(&pong, &ping)?;
        }
        Ok(())
    }

    /// Says no more that a backend is there.
    ///
    /// # Errors
    /// The store's.
    pub fn end(self, nodes: &mut impl Nodes) -> Result<(), Error> {
        nodes.remove(&self.folder)
    }

    /// What to watch for pings.
    pub fn ping(&self) -> String {
        format!("{}/ping", self.folder)
    }
}

/// A device's nodes. The folder of a device is listed with an empty value, so that it goes with the device.
fn describe(device: &HostDevice) -> Vec<(String, String)> {
    let mut nodes = vec![(String::new(), String::new())];
    let mut add = |name: &str, value: String| nodes.push((format!("/{name}"), value));
    let class = if device.class == 0 {
        device.interfaces.first().map_or(0, |it| it.class)
    } else {
        device.class
    };
    add("id", device.id.to_string());
    add("address", device.at.to_string());
    add("class", format!("{class:02x}"));
    if let Some(serial) = &device.serial {
        add("serial", serial.clone());
    }
    if let Some(speed) = device.speed {
        add("speed", speed.to_string());
    }
    let speeds: Vec<String> = device.speeds.iter().map(|it| it.to_string()).collect();
    add("speeds", speeds.join(" "));
    for (name, words) in [("manufacturer", &device.manufacturer), ("product", &device.product)] {
        if let Some(words) = words {
            add(name, words.clone());
        }
    }
    if let Some(reason) = device.protection.first() {
        add("protection", reason.to_string());
    }
    // A dot cannot stand in the name of a node.
    let place = device.bus_id.to_string().replace('.', "_");
    nodes.into_iter().map(|(name, value)| (format!("device/{place}{name}"), value)).collect()
}
