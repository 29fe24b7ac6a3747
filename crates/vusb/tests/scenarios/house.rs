//! A machine in a temporary folder: simulated guests, records, and USB devices in a made-up sysfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use vusb::model::spec::{ControllerSpec, DeviceSpec};
use vusb::{DomainId, Error, Host, Outcome, Settings, StateDir, Vusb, Wanted};

pub(crate) struct House {
    dir: tempfile::TempDir,
}

impl House {
    pub(crate) fn new() -> House {
        // In memory where that can be: every record that is saved waits for the disk.
        let memory = Path::new("/dev/shm");
        let in_memory = tempfile::tempdir_in(memory).ok();
        let house = House { dir: in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap()) };
        fs::create_dir_all(house.at("machine/sys/bus/usb/devices")).unwrap();
        fs::create_dir_all(house.at("machine/sys/devices/pci0000:00/0000:00:14.0/usb1")).unwrap();
        let pci = house.at("machine/sys/devices/pci0000:00/0000:00:14.0/subsystem");
        symlink("../../../bus/pci", pci).unwrap();
        house
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The library, as a command would use it that was started in this folder.
    pub(crate) fn vusb(&self) -> Vusb {
        library(self.path(), Duration::from_secs(5))
    }

    pub(crate) fn forced(&self) -> Vusb {
        let settings = Settings { force: true, ..self.vusb().settings().clone() };
        self.vusb().with_settings(settings)
    }

    pub(crate) fn dry(&self) -> Vusb {
        let settings = Settings { dry_run: true, ..self.vusb().settings().clone() };
        self.vusb().with_settings(settings)
    }

    pub(crate) fn guest(&self, name: &str) -> DomainId {
        self.vusb().domain(&format!("sim:{name}.sim")).unwrap()
    }

    /// The file of a simulated guest.
    pub(crate) fn sim(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.at(&format!("{name}.sim"))).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_else(|_| json!({"sim": 1, "hardware": []}))
    }

    /// Changes the file of a simulated guest, behind everybody's back.
    pub(crate) fn set(&self, name: &str, field: &str, value: Value) {
        let path = self.at(&format!("{name}.sim"));
        let mut sim: Value = fs::read_to_string(&path).map_or_else(
            |_| json!({"sim": 1, "hardware": []}),
            |text| serde_json::from_str(&text).unwrap(),
        );
        sim[field] = value;
        fs::write(&path, sim.to_string()).unwrap();
    }

    /// What goes wrong in a guest from now on: pairs of a step and a fault.
    pub(crate) fn faults(&self, name: &str, faults: &[(&str, &str)]) {
        let fault = |(step, fault): &(&str, &str)| json!({"step": step, "fault": fault});
        self.set(name, "faults", faults.iter().map(fault).collect());
    }

    /// The guest starts again: all that was plugged in while it ran is gone.
    pub(crate) fn restart(&self, name: &str) {
        self.set(name, "hardware", json!([]));
    }

    /// The files of the records.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.at("state")) else { return Vec::new() };
        let paths = entries.map(|it| it.unwrap().path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|it| it.extension().is_some_and(|it| it == "json")).collect();
        paths.sort();
        paths
    }

    /// The record of a guest: with what is under way, if something is.
    pub(crate) fn record(&self, name: &str) -> Value {
        let stem = format!("sim-{name}.sim-");
        let entries = fs::read_dir(self.at("state")).unwrap().map(|it| it.unwrap().path());
        let is_its = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&stem) && (name.ends_with(".json") || name.ends_with(".intent"))
        };
        let read = |path: PathBuf| -> Value {
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
        };
        entries.filter(is_its).map(read).max_by_key(|it| it["change"].as_u64()).unwrap()
    }

    /// Everything in every file of the records and the guests, to see that nothing was touched.
    pub(crate) fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        let mut open = vec![self.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match (path.is_symlink(), path.is_dir()) {
                    (false, true) => open.push(path),
                    (false, false) => all.push((path.clone(), fs::read(&path).unwrap())),
                    _ => {}
                }
            }
        }
        all.sort();
        all
    }

    /// A file of the house.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.at(name), content).unwrap();
        self.at(name)
    }

    /// A spec for the guest `name`.
    pub(crate) fn spec(&self, name: &str, text: &str) -> Wanted {
        let text = format!("domain = \"{name}\"\ndriver = \"sim:{name}.sim\"\n{text}");
        Wanted::read(&self.file(&format!("{name}.toml"), &text)).unwrap()
    }

    /// Plugs a high-speed device into port `1-{port}` of this machine.
    pub(crate) fn plug(&self, port: u8, id: &str, serial: &str) {
        let dir = self.at(&format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        fs::create_dir_all(&dir).unwrap();
        let (vendor, product) = id.split_once(':').unwrap();
        let address = (10 + port).to_string();
        for (name, text) in [
            ("busnum", "1"),
            ("devnum", address.as_str()),
            ("idVendor", vendor),
            ("idProduct", product),
            ("serial", serial),
            ("speed", "480"),
            ("bDeviceClass", "00"),
        ] {
            fs::write(dir.join(name), format!("{text}\n")).unwrap();
        }
        let target = format!("../../../devices/pci0000:00/0000:00:14.0/usb1/1-{port}");
        let link = self.at(&format!("machine/sys/bus/usb/devices/1-{port}"));
        if !link.exists() {
            symlink(target, link).unwrap();
        }
    }

    /// Makes the device in port `1-{port}` something else: a hub, or a keyboard.
    pub(crate) fn class(&self, port: u8, class: &str) {
        let dir = self.at(&format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        fs::write(dir.join("bDeviceClass"), class).unwrap();
    }

    /// Makes the device in port `1-{port}` this machine's only keyboard.
    pub(crate) fn keyboard(&self, port: u8) {
        let dir = self.at(&format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        let interface = dir.join(format!("1-{port}:1.0"));
        fs::create_dir_all(&interface).unwrap();
        for (name, text) in [
            ("bInterfaceNumber", "00"),
            ("bInterfaceClass", "03"),
            ("bInterfaceSubClass", "01"),
            ("bInterfaceProtocol", "01"),
        ] {
            fs::write(interface.join(name), text).unwrap();
        }
    }

    pub(crate) fn unplug(&self, port: u8) {
        let dir = format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}");
        fs::remove_dir_all(self.at(&dir)).unwrap();
        fs::remove_file(self.at(&format!("machine/sys/bus/usb/devices/1-{port}"))).unwrap();
    }

    /// `device add`.
    pub(crate) fn add(&self, name: &str, device: &str) -> Result<Outcome, Error> {
        self.vusb().device_add(&self.guest(name), &DeviceSpec::new(device.parse().unwrap()))
    }

    /// `device remove`.
    pub(crate) fn remove(&self, name: &str, device: &str) -> Result<Outcome, Error> {
        self.vusb().device_remove(&self.guest(name), &device.parse()?)
    }

    /// The guest's USB in a few words: `hci0[1 stick attached; 2 hub0 missing]`.
    pub(crate) fn shows(&self, name: &str) -> String {
        let view = self.vusb().list(&self.guest(name)).unwrap();
        let controllers = view.controllers.iter().map(|controller| {
            let devices = controller.devices.iter();
            let devices = devices.map(|it| format!("{} {} {}", it.port, it.name, it.state));
            let missing = json!(controller.state) == json!("missing");
            let missing = if missing { " missing" } else { "" };
            format!("{}{missing}[{}]", controller.name, devices.collect::<Vec<_>>().join("; "))
        });
        controllers.collect::<Vec<_>>().join(" ")
    }
}

/// The library on the house in `folder`.
pub(crate) fn library(folder: &Path, timeout: Duration) -> Vusb {
    let settings = Settings { timeout, folder: Some(folder.to_owned()), ..Settings::default() };
    Vusb::new(StateDir::new(folder.join("state")), Host::new(folder.join("machine")))
        .with_settings(settings)
}

/// What was chosen: `hci0:1`.
pub(crate) fn at(outcome: &Outcome) -> String {
    outcome.at.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The steps, as sentences.
pub(crate) fn steps(outcome: &Outcome) -> Vec<String> {
    outcome.steps.iter().map(ToString::to_string).collect()
}

/// A controller of this model.
pub(crate) fn model(name: &str) -> ControllerSpec {
    ControllerSpec { model: Some(name.parse().unwrap()), ..ControllerSpec::default() }
}
