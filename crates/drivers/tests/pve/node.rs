//! A node: a folder tree like that of Proxmox VE.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use vusb_drivers::pve::PveScheme;
use vusb_drivers::{Driver, Limits, OpenOptions as Options, Scheme, When};
use vusb_host::Host;
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;
use vusb_model::refusal::Refusal;
use vusb_model::resolve::resolve;
use vusb_model::spec::{DeviceSpec, Spec};

/// A Linux guest without USB devices.
pub(crate) const LINUX: &str = "cores: 1\nmemory: 64\nname: web1\nostype: l26\n";

/// A node. Its folders are removed when it is dropped.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    host: Host,
}

impl Node {
    /// A node with guest 100, which has this configuration.
    pub(crate) fn new(config: &str) -> Node {
        let dir = tempfile::tempdir().unwrap();
        for folder in [
            "etc/pve/qemu-server",
            "var/run/qemu-server",
            "var/lock/qemu-server",
            "usr/sbin",
            "sys/bus/usb/devices",
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let host = Host::new(dir.path());
        let node = Node { dir, host };
        fs::write(node.config_path(), config).unwrap();
        node
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.root().join("etc/pve/qemu-server/100.conf")
    }

    pub(crate) fn config(&self) -> String {
        fs::read_to_string(self.config_path()).unwrap()
    }

    pub(crate) fn scheme(&self) -> PveScheme {
        PveScheme::new(self.root())
    }

    pub(crate) fn open(&self, changes: bool) -> Box<dyn Driver> {
        self.open_with(changes, Duration::from_secs(20))
    }

    pub(crate) fn open_with(&self, changes: bool, limit: Duration) -> Box<dyn Driver> {
        let (limits, host) = (Limits::from(limit), &self.host);
        let options = Options { limits, force: false, changes, when: When::default(), host };
        self.scheme().open("100", &options).unwrap()
    }

    fn lock_file(&self) -> File {
        let path = self.root().join("var/lock/qemu-server/lock-100.conf");
        OpenOptions::new().append(true).create(true).open(path).unwrap()
    }

    /// Takes the lock, as `qm` does.
    pub(crate) fn hold_lock(&self) -> File {
        let file = self.lock_file();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        file
    }

    pub(crate) fn is_locked(&self) -> bool {
        flock(self.lock_file(), FlockOperation::NonBlockingLockExclusive).is_err()
    }
}

/// The hardware with these devices, by the rules of `pve-1`.
pub(crate) fn wanted(
    driver: &mut dyn Driver,
    base: &Hardware,
    devices: &[&str],
) -> Result<Hardware, Refusal> {
    let devices = devices.iter().map(|it| DeviceSpec::new(it.parse().unwrap())).collect();
    let spec = Spec { profile: Profile::Pve1, devices, ..Spec::default() };
    let capabilities = driver.capabilities(Some(&spec)).unwrap();
    Ok(resolve(base, &spec, &capabilities).map_err(|it| it.refusal)?.hardware)
}

/// Lines such as `0 hci0 qemu-xhci 8/4` for controllers and `0:1 tablet0 tablet` for devices.
pub(crate) fn lines(hardware: &Hardware) -> Vec<String> {
    let mut lines = Vec::new();
    for it in hardware.controllers() {
        let (usb2, usb3) = (it.ports.usb2(), it.ports.usb3());
        lines.push(format!("{} {} {} {usb2}/{usb3}", it.index, it.name, it.model));
        for (port, device) in it.devices() {
            lines.push(format!("{}:{port} {} {}", it.index, device.name, device.kind));
        }
    }
    lines
}

/// The same lines, sorted, with the names of the controllers instead of their indexes: QEMU lists
/// controllers behind a bridge first, and the guest does not see the index.
pub(crate) fn by_name(hardware: &Hardware) -> Vec<String> {
    let mut lines = Vec::new();
    for it in hardware.controllers() {
        let (usb2, usb3) = (it.ports.usb2(), it.ports.usb3());
        lines.push(format!("{} {} {usb2}/{usb3}", it.name, it.model));
        for (port, device) in it.devices() {
            lines.push(format!("{}:{port} {} {}", it.name, device.name, device.kind));
        }
    }
    lines.sort();
    lines
}
