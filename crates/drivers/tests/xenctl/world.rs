//! A simulated machine with the PV guest web1 (id 5), and USB devices in a made-up sysfs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use vusb_drivers::xenctl::{Xen, XenAccess};
use vusb_drivers::{Driver, Observed};
use vusb_host::Host;
use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Model, RootPorts};
use vusb_model::selector::{BusAddress, Selector};
use vusb_xen::DomId;
use vusb_xen::usb::ExportedDevice;
use vusb_xen::usb::fake::{Behaviour, Machine};

/// The folders of web1's controller 0.
pub(crate) const LIBXL: &str = "/libxl/5/device/vusb/0";
pub(crate) const FRONTEND: &str = "/local/domain/5/device/vusb/0";
pub(crate) const BACKEND: &str = "/local/domain/0/backend/vusb/5/0";

/// A limit that no working guest reaches.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// A limit for what does not happen.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) machine: Machine,
}

impl World {
    pub(crate) fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        for path in ["sys/bus/usb/devices", "sys/devices/pci0000:00/0000:00:14.0/usb1", "qmp"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let pci = folder.path().join("sys/devices/pci0000:00/0000:00:14.0/subsystem");
        symlink("../../../bus/pci", pci).unwrap();
        let machine = Machine::start();
        machine.add_guest(domain(5), "web1", "pv");
        World { folder, machine }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Plugs a high-speed device into port `1-{port}` of this machine; its address is 10 + `port`.
    pub(crate) fn plug_in(&self, port: u8, id: &str, serial: &str) {
        let folder = self.path(&format!("sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        fs::create_dir_all(&folder).unwrap();
        let (vendor, product) = id.split_once(':').unwrap();
        for (name, text) in [
            ("busnum", "1"),
            ("devnum", &(10 + port).to_string()),
            ("idVendor", vendor),
            ("idProduct", product),
            ("serial", serial),
            ("speed", "480"),
            ("bDeviceClass", "00"),
        ] {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
        let target = format!("../../../devices/pci0000:00/0000:00:14.0/usb1/1-{port}");
        symlink(target, self.path(&format!("sys/bus/usb/devices/1-{port}"))).unwrap();
    }

    pub(crate) fn access(&self) -> XenAccess {
        XenAccess {
            xenstored: Some(self.machine.xenstored().socket().to_owned()),
            qmp: self.path("qmp"),
            host: Host::new(self.folder.path()),
        }
    }

    pub(crate) fn guest(&self, name: &str, limit: Duration) -> Xen {
        Xen::at(name, &self.access(), limit, false)
    }

    /// The driver of web1, which has been observed.
    pub(crate) fn web1(&self, limit: Duration) -> Xen {
        observed(self.guest("web1", limit))
    }

    /// As [`World::web1`], with removals forced.
    pub(crate) fn forced(&self, limit: Duration) -> Xen {
        observed(Xen::at("web1", &self.access(), limit, true))
    }

    /// What web1 has, without a record.
    pub(crate) fn observe(&self) -> Observed {
        self.guest("web1", LONG).observe(&Hardware::new()).unwrap()
    }

    /// Adds a controller with 4 ports.
    pub(crate) fn add_controller(&self, index: u16, name: &str) {
        self.web1(LONG).perform(&add(&controller(index, name))).unwrap();
    }

    pub(crate) fn behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.machine.behaviour());
    }

    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        self.machine.tree()
    }

    pub(crate) fn node(&self, path: &str) -> Option<String> {
        self.machine.node(path)
    }

    pub(crate) fn write(&self, path: &str, value: &str) {
        self.machine.xenstored().write(path, value);
    }

    pub(crate) fn write_all(&self, folder: &str, nodes: &[(&str, &str)]) {
        for (name, value) in nodes {
            self.write(&format!("{folder}/{name}"), value);
        }
    }

    pub(crate) fn remove(&self, path: &str) {
        self.machine.xenstored().remove(path);
    }

    /// Waits until a node has this value, or with `None` until it does not exist.
    pub(crate) fn until(&self, path: &str, value: Option<&str>) {
        let end = std::time::Instant::now() + LONG;
        while self.node(path).as_deref() != value {
            assert!(std::time::Instant::now() < end, "{path} is not {value:?}: {:#?}", self.tree());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a node exists.
    pub(crate) fn until_exists(&self, path: &str) {
        let end = std::time::Instant::now() + LONG;
        while self.node(path).is_none() {
            assert!(std::time::Instant::now() < end, "there is no {path}: {:#?}", self.tree());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn observed(mut xen: Xen) -> Xen {
    xen.observe(&Hardware::new()).unwrap();
    xen
}

pub(crate) fn domain(id: u16) -> DomId {
    DomId::new(id).unwrap()
}

pub(crate) fn index(number: u16) -> Index {
    Index::new(number).unwrap()
}

/// A controller of the model xenusb2 with 4 ports.
pub(crate) fn controller(index_: u16, name: &str) -> Controller {
    controller_of(index_, name, Model::Xenusb2, 4)
}

pub(crate) fn controller_of(number: u16, name: &str, model: Model, ports: u8) -> Controller {
    let ports = RootPorts::uniform(model, ports.try_into().unwrap());
    Controller::new(index(number), name.parse().unwrap(), model, ports)
}

pub(crate) fn add(controller: &Controller) -> Step {
    Step::AddController(controller.clone())
}

pub(crate) fn remove(controller: &Controller) -> Step {
    Step::RemoveController(controller.clone())
}

pub(crate) fn at(bus: u16, port: u8) -> Address {
    Address { bus: index(bus), port: PortPath::root(port.try_into().unwrap()) }
}

/// The host device `selector`, which is plugged in at this address of bus 1.
pub(crate) fn host(name: &str, selector: &str, address: Option<u8>) -> Device {
    let bus_address = address.map(|address| BusAddress { bus: 1, address });
    let selector: Selector = selector.parse().unwrap();
    let host = HostRef { bus_address, ..HostRef::new(selector) };
    Device { name: name.parse().unwrap(), kind: Kind::Host(host) }
}

/// The device that [`World::plug_in`] puts into port 1-4.
pub(crate) fn stick() -> Device {
    host("stick", "0781:5581", Some(14))
}

pub(crate) fn exported(bus_id: &str, id: &str, address: &str) -> ExportedDevice {
    let Ok(Selector::Id { id, .. }) = id.parse() else { panic!("{id}") };
    let Ok(Selector::Address(address)) = address.parse() else { panic!("{address}") };
    ExportedDevice {
        bus_id: bus_id.parse().unwrap(),
        address,
        id,
        serial: Some("AB12".to_owned()),
        speed: None,
        speeds: vusb_model::speed::SpeedSet::NONE,
        class: 8,
        manufacturer: None,
        product: None,
        protection: None,
    }
}
