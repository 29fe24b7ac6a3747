//! The environment of a test, in a temporary folder: simulated guests, their records, and a machine
//! with a simulated sysfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use vusb::model::digest::Digest;
use vusb::model::hardware::Hardware;
use vusb::model::spec::ControllerRef;
use vusb::model::spec::{ControllerSpec, DeviceSpec};
use vusb::view::{AllView, DomainView, HostView};
use vusb::{
    Context, Destination, DeviceRef, DomainAddress, Error, GuestConfig, Host, Note, Options,
    Outcome, Plan, Registry, StartOptions, StateDir,
};

/// The library, with the options that each call gets.
#[derive(Clone)]
pub(crate) struct Vusb {
    pub(crate) context: Context,
    pub(crate) options: Options,
}

impl Vusb {
    pub(crate) fn with_options(&self, options: Options) -> Vusb {
        Vusb { options, ..self.clone() }
    }

    pub(crate) fn domain(&self, text: &str) -> Result<DomainAddress, Error> {
        self.context.domain(text, &self.options)
    }

    pub(crate) fn read(&self, path: &Path) -> Result<GuestConfig, Error> {
        self.context.read_config(path)
    }

    pub(crate) fn controller_add(
        &self,
        domain: &DomainAddress,
        spec: &ControllerSpec,
    ) -> Result<Outcome, Error> {
        self.context.controller_add(domain, spec, &self.options)
    }

    pub(crate) fn controller_remove(
        &self,
        domain: &DomainAddress,
        controller: &ControllerRef,
    ) -> Result<Outcome, Error> {
        self.context.controller_remove(domain, controller, &self.options)
    }

    pub(crate) fn device_add(
        &self,
        domain: &DomainAddress,
        spec: &DeviceSpec,
    ) -> Result<Outcome, Error> {
        self.context.device_add(domain, spec, &self.options)
    }

    pub(crate) fn device_remove(
        &self,
        domain: &DomainAddress,
        device: &DeviceRef,
    ) -> Result<Outcome, Error> {
        self.context.device_remove(domain, device, &self.options)
    }

    pub(crate) fn device_move(
        &self,
        domain: &DomainAddress,
        device: &DeviceRef,
        port: &str,
    ) -> Result<Outcome, Error> {
        let to = Destination { controller: None, port: port.parse().ok() };
        self.context.device_move(domain, device, &to, &self.options)
    }

    pub(crate) fn list(&self, domain: &DomainAddress) -> Result<DomainView, Error> {
        self.context.list(domain, &self.options)
    }

    pub(crate) fn list_all(&self) -> Result<AllView, Error> {
        self.context.list_all(&self.options)
    }

    pub(crate) fn plan(&self, config: &GuestConfig) -> Result<Plan, Error> {
        let options = Options { dry_run: true, ..self.options.clone() };
        self.context.apply(config, &options)
    }

    pub(crate) fn plan_start(&self, config: &GuestConfig) -> Result<Plan, Error> {
        self.context.plan_start(config, &self.options)
    }

    pub(crate) fn apply(&self, config: &GuestConfig) -> Result<Outcome, Error> {
        self.context.apply(config, &self.options).map(|plan| plan.outcome)
    }

    pub(crate) fn restore(&self, domain: &DomainAddress) -> Result<Outcome, Error> {
        self.context.restore(domain, &self.options)
    }

    pub(crate) fn hardware(&self, domain: &DomainAddress) -> Result<Hardware, Error> {
        self.context.hardware(domain, &self.options)
    }

    pub(crate) fn digest(&self, domain: &DomainAddress) -> Result<Digest, Error> {
        self.context.digest(domain, false, &self.options)
    }

    pub(crate) fn host_list(&self) -> Result<HostView, Error> {
        self.context.host_list(None, &self.options)
    }

    pub(crate) fn host_list_of(&self, backend: &str) -> Result<HostView, Error> {
        self.context.host_list(Some(backend), &self.options)
    }

    pub(crate) fn qemu_args(&self, config: &GuestConfig) -> Result<Vec<String>, Error> {
        let start = StartOptions::default();
        let started = self.context.start_arguments(Some("qemu"), config, &start, &self.options)?;
        Ok(started.arguments)
    }
}

/// Notes as sentences.
pub(crate) fn texts(notes: &[Note]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Sandbox {
        // In memory if possible: each saved record is synced to disk.
        let memory = Path::new("/dev/shm");
        let in_memory = tempfile::tempdir_in(memory).ok();
        let sandbox = Sandbox { dir: in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap()) };
        fs::create_dir_all(sandbox.at("machine/sys/bus/usb/devices")).unwrap();
        fs::create_dir_all(sandbox.at("machine/sys/devices/pci0000:00/0000:00:14.0/usb1")).unwrap();
        let pci = sandbox.at("machine/sys/devices/pci0000:00/0000:00:14.0/subsystem");
        symlink("../../../bus/pci", pci).unwrap();
        fs::create_dir_all(sandbox.at("machine/proc")).unwrap();
        sandbox.file("machine/proc/swaps", "");
        sandbox
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The library, as a command run in this folder uses it.
    pub(crate) fn vusb(&self) -> Vusb {
        library(self.path(), Duration::from_secs(5))
    }

    pub(crate) fn forced(&self) -> Vusb {
        let vusb = self.vusb();
        vusb.with_options(Options { force: true, ..vusb.options.clone() })
    }

    pub(crate) fn dry(&self) -> Vusb {
        let vusb = self.vusb();
        vusb.with_options(Options { dry_run: true, ..vusb.options.clone() })
    }

    pub(crate) fn guest(&self, name: &str) -> DomainAddress {
        self.vusb().domain(&format!("sim:{name}.sim")).unwrap()
    }

    /// The content of a simulated guest's file, or that of a new guest if it does not exist.
    pub(crate) fn sim(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.at(&format!("{name}.sim"))).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_else(|_| json!({"sim": 1, "hardware": []}))
    }

    /// Sets a field in the file of a simulated guest.
    pub(crate) fn set(&self, name: &str, field: &str, value: Value) {
        let path = self.at(&format!("{name}.sim"));
        let mut sim: Value = fs::read_to_string(&path).map_or_else(
            |_| json!({"sim": 1, "hardware": []}),
            |text| serde_json::from_str(&text).unwrap(),
        );
        sim[field] = value;
        fs::write(&path, sim.to_string()).unwrap();
    }

    /// Sets the faults of a guest, as pairs of a step and a fault.
    pub(crate) fn faults(&self, name: &str, faults: &[(&str, &str)]) {
        let fault = |(step, fault): &(&str, &str)| json!({"step": step, "fault": fault});
        self.set(name, "faults", faults.iter().map(fault).collect());
    }

    /// Restarts the guest: it loses everything that was added while it ran.
    pub(crate) fn restart(&self, name: &str) {
        self.set(name, "hardware", json!([]));
    }

    /// The paths of the records, sorted.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.at("state")) else { return Vec::new() };
        let paths = entries.map(|it| it.unwrap().path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|it| it.extension().is_some_and(|it| it == "json")).collect();
        paths.sort();
        paths
    }

    /// The path of the file with this extension beside the record of the guest `web`.
    pub(crate) fn state_file(&self, extension: &str) -> PathBuf {
        let mut records = self.records().into_iter();
        let is_of_web = |path: &PathBuf| {
            path.file_name().is_some_and(|it| it.to_str().unwrap().starts_with("sim-web.sim-"))
        };
        records.find(is_of_web).unwrap().with_extension(extension)
    }

    /// The newer one of a guest's record and its intent, as JSON.
    pub(crate) fn record(&self, name: &str) -> Value {
        self.find_record(name).unwrap()
    }

    /// As [`Sandbox::record`]. `None` if the guest has neither.
    pub(crate) fn find_record(&self, name: &str) -> Option<Value> {
        let stem = format!("sim-{name}.sim-");
        let entries = fs::read_dir(self.at("state")).unwrap().map(|it| it.unwrap().path());
        let is_of_guest = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&stem) && (name.ends_with(".json") || name.ends_with(".intent"))
        };
        let read = |path: PathBuf| -> Value {
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
        };
        entries.filter(is_of_guest).map(read).max_by_key(|it| it["change"].as_u64())
    }

    /// The content of every file in the sandbox, to check that nothing was changed.
    pub(crate) fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        let mut unread = vec![self.path().to_owned()];
        while let Some(dir) = unread.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match (path.is_symlink(), path.is_dir()) {
                    (false, true) => unread.push(path),
                    (false, false) => all.push((path.clone(), fs::read(&path).unwrap())),
                    _ => {}
                }
            }
        }
        all.sort();
        all
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.at(name), content).unwrap();
        self.at(name)
    }

    /// A spec for the guest `name`.
    pub(crate) fn spec(&self, name: &str, text: &str) -> GuestConfig {
        let text = format!("domain = \"{name}\"\ndriver = \"sim:{name}.sim\"\n{text}");
        self.vusb().read(&self.file(&format!("{name}.toml"), &text)).unwrap()
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

    /// Changes the speed of the device in port `1-{port}`, in Mbit/s.
    pub(crate) fn speed(&self, port: u8, mbits: &str) {
        let dir = self.at(&format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        fs::write(dir.join("speed"), mbits).unwrap();
    }

    /// Sets whether this machine's kernel may use the device in port `1-{port}`.
    pub(crate) fn authorize(&self, port: u8, authorized: bool) {
        let dir = self.at(&format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        fs::write(dir.join("authorized"), u8::from(authorized).to_string()).unwrap();
    }

    /// Changes the device class of the device in port `1-{port}`.
    pub(crate) fn class(&self, port: u8, class: &str) {
        let dir = self.at(&format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        fs::write(dir.join("bDeviceClass"), class).unwrap();
    }

    /// Makes the device in port `1-{port}` a keyboard. It is protected while it is the only one.
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

    /// Puts the device in port `1-{port}` into the state before the kernel configures it. Its
    /// descriptors have one interface, with this class, subclass and protocol.
    pub(crate) fn unconfigured(&self, port: u8, class: [u8; 3]) {
        let dir = self.at(&format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"));
        let [class, subclass, protocol] = class;
        let mut descriptors = vec![18, 1, 0, 2, 0, 0, 0, 64, 0x81, 0x07, 0x81, 0x55];
        descriptors.extend([0, 1, 1, 2, 3, 1]);
        descriptors.extend([9, 2, 18, 0, 1, 1, 0, 0x80, 50]);
        descriptors.extend([9, 4, 0, 0, 0, class, subclass, protocol, 0]);
        fs::write(dir.join("descriptors"), descriptors).unwrap();
        fs::write(dir.join("bConfigurationValue"), "\n").unwrap();
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

    /// The guest's USB hardware in one line: `hci0[1 stick attached; 2 hub0 missing]`.
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

/// The library for the sandbox in `folder`.
pub(crate) fn library(folder: &Path, wait: Duration) -> Vusb {
    library_with(folder, wait, |host| Registry::builtin(host.into()))
}

/// As [`library`], with the drivers that `registry` returns.
pub(crate) fn library_with(
    folder: &Path,
    wait: Duration,
    registry: impl FnOnce(Host) -> Registry,
) -> Vusb {
    let host = Host::new(folder.join("machine"));
    let registry = registry(host.clone());
    Vusb {
        context: Context::new(StateDir::new(folder.join("state")), host, registry),
        options: Options { wait, folder: Some(folder.to_owned()), ..Options::default() },
    }
}

/// The location that was chosen for the requested item: `hci0:1`.
pub(crate) fn at(outcome: &Outcome) -> String {
    outcome.chosen.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The steps, as sentences.
pub(crate) fn steps(outcome: &Outcome) -> Vec<String> {
    outcome.steps.iter().map(ToString::to_string).collect()
}

/// A spec of a controller of this model.
pub(crate) fn model(name: &str) -> ControllerSpec {
    ControllerSpec { model: Some(name.parse().unwrap()), ..ControllerSpec::default() }
}
