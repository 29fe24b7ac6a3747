//! A Xen machine with `vusb` and `vusb-backend` in its dom0, a stick, and a guest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use vusb_rig::xen::{XenGuest, XenHost, XenHostBuilder};

/// Emulated Xen on a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// QEMU's stick and tablet.
pub(crate) const STICK: &str = "46f4:0001";
pub(crate) const TABLET: &str = "0627:0001";

/// The machine.
pub(crate) struct Scene {
    pub(crate) host: XenHost,
    pub(crate) guest: XenGuest,
    _folder: tempfile::TempDir,
}

/// A program that was built with the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_vusb-backend")).with_file_name(name);
    assert!(path.exists(), "{} is not there: `cargo build --workspace` makes it", path.display());
    path
}

impl Scene {
    /// A stick of so many MiB in dom0, a backend that serves as an unprivileged user, and a PV guest without USB.
    pub(crate) fn new(mib: usize) -> Scene {
        Scene::with(mib, XenHostBuilder::ready_guest)
    }

    /// The same on another machine, which has a guest from the start.
    pub(crate) fn with(
        mib: usize,
        describe: impl FnOnce(XenHostBuilder) -> XenHostBuilder,
    ) -> Scene {
        let scene = Scene::without_backend(mib, describe);
        scene.dom0("echo 'vusb:x:990:990::/nonexistent:/bin/false' >>/etc/passwd");
        scene.start_backend();
        scene
    }

    /// The same before the backend is started, and without a user for it.
    pub(crate) fn without_backend(
        mib: usize,
        describe: impl FnOnce(XenHostBuilder) -> XenHostBuilder,
    ) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("stick.img");
        let words = (0u32..).map(|n| n.wrapping_mul(2_654_435_761) ^ (n >> 7));
        let data: Vec<u8> = words.take(mib << 18).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&image, data).unwrap();
        let builder = describe(XenHost::builder()).drive("stick", &image);
        let host =
            builder.binary(&program("vusb")).binary(&program("vusb-backend")).start().unwrap();
        let guest = host.ready_guest().unwrap();
        let scene = Scene { host, guest, _folder: folder };
        scene.plug_stick();
        scene
    }

    pub(crate) fn plug_stick(&self) {
        self.host
            .plug(json!({ "driver": "usb-storage", "id": "stick", "drive": "stick", "port": "1" }))
            .unwrap();
        self.host.wait_until("[ -b /dev/sda ]", PATIENCE).unwrap();
    }

    pub(crate) fn start_backend(&self) {
        self.dom0(
            "setsid vusb-backend -v --user vusb </dev/null >>/var/log/backend.log 2>&1 & true",
        );
        self.backend_serves();
    }

    /// Waits until a backend serves.
    pub(crate) fn backend_serves(&self) {
        self.host
            .wait_until("xenstore-exists /local/domain/0/data/vusb-backend/version", PATIENCE)
            .unwrap();
    }

    /// What the backend has said, also one that systemd has started.
    fn log(&self) -> String {
        self.host.sh("cat /var/log/*backend.log", PATIENCE).unwrap().text
    }

    /// Runs a command in dom0 that has to succeed.
    pub(crate) fn dom0(&self, command: &str) -> String {
        eprintln!("dom0# {command}");
        let output = self.host.sh(command, PATIENCE).unwrap().ok();
        output.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Runs `vusb` in dom0: what it printed, and its exit code.
    pub(crate) fn vusb(&self, arguments: &str) -> (String, i32) {
        eprintln!("dom0# vusb {arguments}");
        let output = self.host.sh(&format!("vusb {arguments}"), PATIENCE).unwrap();
        (output.text, output.code)
    }

    /// Runs `vusb`, which has to succeed: what it printed last.
    pub(crate) fn does(&self, arguments: &str) -> String {
        let (said, code) = self.vusb(arguments);
        assert_eq!(code, 0, "vusb {arguments}: {said}\n{}", self.log());
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// What `vusb list --json` says of a guest.
    pub(crate) fn list(&self, domain: &str) -> Value {
        let (text, code) = self.vusb(&format!("list {domain} --json"));
        assert_eq!(code, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Runs a command in the guest that has to succeed.
    pub(crate) fn in_guest(&self, command: &str) -> String {
        eprintln!("guest# {command}");
        self.guest.sh(command, PATIENCE).unwrap().ok().unwrap()
    }

    /// Waits until something is so in the guest.
    pub(crate) fn guest_until(&self, condition: &str) {
        eprintln!("guest, until {condition}");
        self.guest.wait_until(condition, PATIENCE).unwrap();
    }

    /// Waits until something is so in dom0.
    pub(crate) fn dom0_until(&self, condition: &str) {
        eprintln!("dom0, until {condition}");
        self.host.wait_until(condition, PATIENCE).unwrap();
    }

    /// The store, without what changes by itself.
    pub(crate) fn store(&self) -> Vec<String> {
        let all = self.host.xenstore().unwrap();
        let changes =
            |line: &&str| line.contains("/data/vusb-backend") || line.contains("/stats = ");
        let lines = all.lines().filter(|line| !changes(line));
        lines.map(str::to_owned).collect()
    }

    /// The checksum of the stick, read in dom0.
    pub(crate) fn sum_of_stick(&self) -> String {
        sum(&self.dom0("sha256sum /dev/sda")).to_owned()
    }
}

/// Waits until a guest has a disk, reads all of it past the cache, and returns its checksum.
pub(crate) fn disk_of(guest: &XenGuest) -> String {
    eprintln!("guest, reads its disk");
    guest.wait_until("[ -b /dev/sd? ]", PATIENCE).unwrap();
    let read = "echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/sd?";
    sum(&guest.sh(read, PATIENCE).unwrap().ok().unwrap()).to_owned()
}

/// The first word: of `sha256sum`, the sum.
pub(crate) fn sum(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}
