//! A machine in a temporary directory: as much of sysfs and proc as a test needs.
//!
//! ```text
//! let machine = Machine::new();                       a PC with one xHCI controller: buses 1 (USB 2) and 2 (USB 3)
//! let stick = machine.plug("1-4", &Gadget::stick());  its directory in sysfs
//! let sdb = machine.disk(&stick, "sdb", "8:16");      the disk that its driver creates
//! machine.mount("8:16", "/dev/sdb", "/media/stick");
//! machine.devices()                                   the devices as the crate reads them
//! ```

pub(crate) mod gadget;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vusb_host::{Host, HostDevice, Protection};

pub(crate) use gadget::Gadget;

/// The controller of the machine.
const XHCI: &str = "pci0000:00/0000:00:14.0";

pub(crate) struct Machine {
    root: TempDir,
}

impl Machine {
    /// A PC: an xHCI controller with the buses 1 and 2, a disk with the root filesystem, a network
    /// card, a keyboard.
    pub(crate) fn new() -> Machine {
        let machine = Machine::headless();
        machine.keyboard(&machine.device_dir("platform/i8042/serio0", Some("serio")), "input3");
        machine.card(&machine.device_dir("pci0000:00/0000:00:19.0", Some("pci")), "eth0");
        machine
    }

    /// The same without a keyboard and a network card.
    pub(crate) fn headless() -> Machine {
        let machine = Machine::without_usb();
        fs::create_dir_all(machine.path("sys/bus/usb/devices")).unwrap();
        machine.device_dir("pci0000:00", None);
        machine.device_dir(XHCI, Some("pci"));
        machine.bus(1, XHCI);
        machine.bus(2, XHCI);
        let sata = machine.device_dir("pci0000:00/0000:00:17.0", Some("pci"));
        machine.disk(&sata, "sda", "8:0");
        machine.mount("8:1", "/dev/sda1", "/");
        machine
    }

    /// A machine whose kernel has no USB.
    pub(crate) fn without_usb() -> Machine {
        let machine = Machine { root: TempDir::new().unwrap() };
        machine.write("proc/self/mountinfo", "");
        machine.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        machine.write("proc/net/route", "Iface\tDestination\tGateway\tFlags\n");
        machine.net_without_card("lo", "772");
        machine
    }

    pub(crate) fn host(&self) -> Host {
        Host::new(self.root.path())
    }

    pub(crate) fn devices(&self) -> Vec<HostDevice> {
        self.host().devices().unwrap()
    }

    /// The device at `bus_id`.
    pub(crate) fn device(&self, bus_id: &str) -> HostDevice {
        let devices = self.devices();
        let found = devices.into_iter().find(|device| device.bus_id.to_string() == bus_id);
        found.unwrap()
    }

    /// Why the device at `bus_id` is protected.
    pub(crate) fn protection(&self, bus_id: &str) -> Vec<Protection> {
        self.device(bus_id).protection
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.path(path), content);
    }

    /// Makes a file or directory unreadable, for root too: one becomes the other.
    pub(crate) fn make_unreadable(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
            write(&path, "");
        } else {
            let _ = fs::remove_file(&path);
            fs::create_dir_all(&path).unwrap();
        }
    }

    /// A directory below `sys/devices`; with a subsystem if it is a device.
    pub(crate) fn device_dir(&self, path: &str, subsystem: Option<&str>) -> PathBuf {
        let dir = self.path("sys/devices").join(path);
        fs::create_dir_all(&dir).unwrap();
        if let Some(subsystem) = subsystem {
            symlink(self.path("sys/bus").join(subsystem), dir.join("subsystem")).unwrap();
        }
        dir
    }

    /// A bus of a controller, with its root hub.
    pub(crate) fn bus(&self, number: u16, controller: &str) {
        let name = format!("usb{number}");
        let hub = self.device_dir(&format!("{controller}/{name}"), Some("usb"));
        Gadget::new(0x1d6b, 2).class(9).write(&hub, &name, number, 1);
        self.link("sys/bus/usb/devices", &name, &hub);
        let interface = format!("{number}-0:1.0");
        fs::create_dir_all(hub.join(&interface)).unwrap();
        self.link("sys/bus/usb/devices", &interface, &hub.join(&interface));
    }

    /// Plugs in a device. `1-4.2` is bus 1, a hub in port 4, and port 2 of that hub. Addresses
    /// increase with every plug.
    pub(crate) fn plug(&self, bus_id: &str, gadget: &Gadget) -> PathBuf {
        let (bus, chain) = bus_id.split_once('-').unwrap();
        let list = self.path("sys/bus/usb/devices");
        let mut dir = list.join(format!("usb{bus}")).canonicalize().unwrap();
        let mut name = format!("{bus}-");
        for port in chain.split('.') {
            let dot = if name.ends_with('-') { "" } else { "." };
            name = format!("{name}{dot}{port}");
            dir.push(&name);
        }
        fs::create_dir_all(&dir).unwrap();
        let address = fs::read_dir(&list).unwrap().count();
        gadget.write(&dir, bus_id, bus.parse().unwrap(), address);
        symlink(self.path("sys/bus/usb"), dir.join("subsystem")).unwrap();
        self.link("sys/bus/usb/devices", bus_id, &dir);
        dir
    }

    /// A disk on `parent`: `sdb` with the device number `8:16`.
    pub(crate) fn disk(&self, parent: &Path, name: &str, number: &str) -> PathBuf {
        let dir = parent.join("block").join(name);
        write(&dir.join("dev"), format!("{number}\n"));
        fs::create_dir_all(dir.join("holders")).unwrap();
        self.link("sys/class/block", name, &dir);
        dir
    }

    /// A partition of the disk with the directory `disk`.
    pub(crate) fn partition(&self, disk: &Path, name: &str, number: &str) -> PathBuf {
        let dir = disk.join(name);
        write(&dir.join("dev"), format!("{number}\n"));
        fs::create_dir_all(dir.join("holders")).unwrap();
        self.link("sys/class/block", name, &dir);
        dir
    }

    /// A block device on top of others, such as `dm-0`.
    pub(crate) fn stacked(&self, name: &str, number: &str, on: &[&Path]) -> PathBuf {
        let dir = self.disk(&self.device_dir("virtual", None), name, number);
        for below in on {
            symlink(&dir, below.join("holders").join(name)).unwrap();
        }
        dir
    }

    /// Mounts the filesystem with the device number `number`.
    pub(crate) fn mount(&self, number: &str, source: &str, mountpoint: &str) {
        let line = format!("36 35 {number} / {mountpoint} rw shared:1 - ext4 {source} rw\n");
        self.append("proc/self/mountinfo", &line);
    }

    /// A process in the mount namespace `namespace`, where `mountinfo` is mounted.
    pub(crate) fn process(&self, pid: u32, name: &str, namespace: &str, mountinfo: &str) {
        let dir = self.path("proc").join(pid.to_string());
        write(&dir.join("comm"), format!("{name}\n"));
        write(&dir.join("mountinfo"), mountinfo);
        fs::create_dir_all(dir.join("ns")).unwrap();
        symlink(format!("mnt:[{namespace}]"), dir.join("ns/mnt")).unwrap();
        symlink("/", dir.join("root")).unwrap();
    }

    /// A file that a process has open.
    pub(crate) fn open_file(&self, pid: u32, name: &str, fd: u32, file: &str) {
        let dir = self.path("proc").join(pid.to_string());
        write(&dir.join("comm"), format!("{name}\n"));
        fs::create_dir_all(dir.join("fd")).unwrap();
        symlink(file, dir.join("fd").join(fd.to_string())).unwrap();
    }

    /// A default route through an interface.
    pub(crate) fn default_route(&self, interface: &str) {
        let line = format!("{interface}\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n");
        self.append("proc/net/route", &line);
    }

    /// Puts the interface `upper` on top of `lower`, as a bridge or bond with `as_master`.
    pub(crate) fn net_on_top(&self, upper: &str, lower: &str, as_master: bool) {
        let class = self.path("sys/class/net");
        let lower = class.join(lower).canonicalize().unwrap();
        let upper_dir = class.join(upper).canonicalize().unwrap();
        symlink(&upper_dir, lower.join(format!("upper_{upper}"))).unwrap();
        if as_master {
            symlink(&upper_dir, lower.join("master")).unwrap();
        }
    }

    pub(crate) fn swap(&self, file: &str) {
        let line = format!("{file}                               partition\t8388604\t0\t-2\n");
        self.append("proc/swaps", &line);
    }

    /// A network card on `parent`.
    pub(crate) fn card(&self, parent: &Path, name: &str) -> PathBuf {
        let dir = parent.join("net").join(name);
        write(&dir.join("type"), "1\n");
        symlink(parent, dir.join("device")).unwrap();
        self.link("sys/class/net", name, &dir);
        dir
    }

    /// A network interface without a card, such as a bridge (type 1) or loopback (type 772).
    pub(crate) fn net_without_card(&self, name: &str, kind: &str) -> PathBuf {
        let dir = self.path("sys/devices/virtual/net").join(name);
        write(&dir.join("type"), format!("{kind}\n"));
        self.link("sys/class/net", name, &dir);
        dir
    }

    /// An input device on `parent` with all the keys of a keyboard.
    pub(crate) fn keyboard(&self, parent: &Path, name: &str) -> PathBuf {
        let keys = "402000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe";
        self.input(parent, name, keys)
    }

    /// An input device on `parent` with some keys.
    pub(crate) fn input(&self, parent: &Path, name: &str, keys: &str) -> PathBuf {
        let dir = parent.join("input").join(name);
        write(&dir.join("capabilities/key"), format!("{keys}\n"));
        self.link("sys/class/input", name, &dir);
        dir
    }

    fn append(&self, path: &str, text: &str) {
        let mut content = fs::read_to_string(self.path(path)).unwrap_or_default();
        content.push_str(text);
        self.write(path, content);
    }

    /// A link `name` in the directory `list`, relative like those of sysfs.
    pub(crate) fn link(&self, list: &str, name: &str, target: &Path) {
        let up = "../".repeat(list.split('/').count());
        let target = target.strip_prefix(self.path("")).unwrap();
        fs::create_dir_all(self.path(list)).unwrap();
        symlink(Path::new(&up).join(target), self.path(list).join(name)).unwrap();
    }
}

/// Writes a file and creates its parent directories.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
