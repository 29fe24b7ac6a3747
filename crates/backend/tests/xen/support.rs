//! A Xen machine with `vusb` and `vusb-backend` in its dom0, a stick, and a guest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use vusb_rig::xen::{XenGuest, XenHost, XenHostBuilder};

/// Emulated Xen on a busy machine is slow.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);
/// Vendor and product of QEMU's stick and tablet.
pub(crate) const STICK: &str = "46f4:0001";
pub(crate) const TABLET: &str = "0627:0001";

/// The machine.
pub(crate) struct Scene {
    pub(crate) host: XenHost,
    pub(crate) guest: XenGuest,
    _folder: tempfile::TempDir,
}

/// The path of a program that was built together with the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_vusb-backend")).with_file_name(name);
    assert!(
        path.exists(),
        "{} does not exist: build it with `cargo build --workspace`",
        path.display()
    );
    path
}

impl Scene {
    /// A stick of this many MiB in dom0, a backend that runs as an unprivileged user, and a PV
    /// guest without USB.
    pub(crate) fn new(mib: usize) -> Scene {
        Scene::with(mib, XenHostBuilder::ready_guest)
    }

    /// The same on a machine that `describe` configures, and that has a guest from the start.
    pub(crate) fn with(
        mib: usize,
        describe: impl FnOnce(XenHostBuilder) -> XenHostBuilder,
    ) -> Scene {
        let scene = Scene::without_backend(mib, describe);
        scene.dom0("echo 'vusb:x:990:990::/nonexistent:/bin/false' >>/etc/passwd");
        scene.start_backend();
        scene
    }

    /// The same without a running backend, and without a user for it.
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
        self.host.wait_until("[ -b /dev/sda ]", TIMEOUT).unwrap();
    }

    pub(crate) fn start_backend(&self) {
        self.dom0(
            "setsid vusb-backend -v --user vusb </dev/null >>/var/log/backend.log 2>&1 & true",
        );
        self.wait_for_backend();
    }

    /// Waits until a backend is running.
    pub(crate) fn wait_for_backend(&self) {
        self.host
            .wait_until("xenstore-exists /local/domain/0/data/vusb-backend/version", TIMEOUT)
            .unwrap();
    }

    /// The log of the backend, including one that systemd has started.
    fn log(&self) -> String {
        self.host.sh("cat /var/log/*backend.log", TIMEOUT).unwrap().text
    }

    /// Runs a command in dom0, which must succeed.
    pub(crate) fn dom0(&self, command: &str) -> String {
        eprintln!("dom0# {command}");
        let output = self.host.sh(command, TIMEOUT).unwrap().ok();
        output.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Runs `vusb` in dom0. Returns its output and exit code.
    pub(crate) fn vusb(&self, arguments: &str) -> (String, i32) {
        eprintln!("dom0# vusb {arguments}");
        let output = self.host.sh(&format!("vusb {arguments}"), TIMEOUT).unwrap();
        (output.text, output.code)
    }

    /// Runs `vusb`, which must succeed. Returns its last line of output.
    pub(crate) fn vusb_ok(&self, arguments: &str) -> String {
        let (output, code) = self.vusb(arguments);
        assert_eq!(code, 0, "vusb {arguments}: {output}\n{}", self.log());
        output.lines().last().unwrap_or_default().to_owned()
    }

    /// The output of `vusb list --json` for a guest.
    pub(crate) fn list(&self, domain: &str) -> Value {
        let (text, code) = self.vusb(&format!("list {domain} --json"));
        assert_eq!(code, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Runs a command in the guest, which must succeed.
    pub(crate) fn in_guest(&self, command: &str) -> String {
        eprintln!("guest# {command}");
        self.guest.sh(command, TIMEOUT).unwrap().ok().unwrap()
    }

    /// Waits until a condition holds in the guest.
    pub(crate) fn wait_in_guest(&self, condition: &str) {
        eprintln!("guest, until {condition}");
        self.guest.wait_until(condition, TIMEOUT).unwrap();
    }

    /// Waits until a condition holds in dom0.
    pub(crate) fn wait_in_dom0(&self, condition: &str) {
        eprintln!("dom0, until {condition}");
        self.host.wait_until(condition, TIMEOUT).unwrap();
    }

    /// The contents of xenstore, without nodes that change by themselves.
    pub(crate) fn store(&self) -> Vec<String> {
        let all = self.host.xenstore().unwrap();
        let changes =
            |line: &&str| line.contains("/data/vusb-backend") || line.contains("/stats = ");
        let lines = all.lines().filter(|line| !changes(line));
        lines.map(str::to_owned).collect()
    }

    /// The checksum of the stick, read in dom0.
    pub(crate) fn stick_checksum(&self) -> String {
        checksum(&self.dom0("sha256sum /dev/sda")).to_owned()
    }
}

/// Waits until a guest has a disk, reads all of it past the cache, and returns its checksum.
pub(crate) fn disk_checksum(guest: &XenGuest) -> String {
    eprintln!("guest, reads its disk");
    guest.wait_until("[ -b /dev/sd? ]", TIMEOUT).unwrap();
    let read = "echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/sd?";
    checksum(&guest.sh(read, TIMEOUT).unwrap().ok().unwrap()).to_owned()
}

/// The checksum in the output of `sha256sum`: its first word.
pub(crate) fn checksum(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}
