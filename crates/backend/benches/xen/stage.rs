//! The Xen machine: a stick, a serial adapter and a tablet in dom0, and a guest with one controller
//! of QEMU's backend and one of vusb-backend.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use vusb_rig::Shell;
use vusb_rig::xen::{XenGuest, XenHost, XenHostBuilder};

/// The limit for each command and each wait. Xen runs under software emulation, which is slow.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);
/// The guest's configuration for a controller of QEMU's backend, with index 0.
const QUSB: &str = "usbctrl = ['type=qusb,version=2,ports=4']";
/// The size of each stick.
const STICK_BYTES: usize = 64 << 20;

/// Who uses a device, and through which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// dom0 itself.
    Dom0,
    /// The guest, through QEMU.
    Qusb,
    /// The guest, through vusb-backend.
    Vusb,
}

/// A device that dom0 can use or export to the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// Its port on the guest's controller.
    port: u8,
    /// Its vendor and product.
    vendor_product: &'static str,
    /// Its driver in dom0.
    driver: &'static str,
    /// The node that its driver creates in dom0 or in the guest.
    pub(crate) node: &'static str,
}

/// QEMU's USB stick.
pub(crate) const STICK: Device =
    Device { port: 1, vendor_product: "46f4:0001", driver: "usb-storage", node: "/dev/sda" };
/// QEMU's serial adapter, whose other end echoes what it receives.
pub(crate) const SERIAL: Device =
    Device { port: 2, vendor_product: "0403:6001", driver: "ftdi_sio", node: "/dev/ttyUSB0" };
/// QEMU's tablet.
pub(crate) const TABLET: Device =
    Device { port: 3, vendor_product: "0627:0001", driver: "usbhid", node: "/dev/hidraw0" };

/// The machine.
pub(crate) struct Stage {
    pub(crate) host: XenHost,
    pub(crate) guest: XenGuest,
    folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let images = ["stick", "second"].map(|name| folder.path().join(format!("{name}.img")));
        let pattern = (0u32..).map(|n| n.wrapping_mul(2_654_435_761) ^ (n >> 7));
        let data: Vec<u8> = pattern.take(STICK_BYTES / 4).flat_map(u32::to_le_bytes).collect();
        images.iter().for_each(|image| std::fs::write(image, &data).unwrap());
        let host = XenHost::builder().drive("stick", &images[0]).drive("second", &images[1]);
        let stage = Stage::start(host, folder);
        stage.plug_all(&stage.folder.path().join("echo.sock"));
        stage.serve();
        stage
    }

    /// A machine whose clock counts instructions. Its only device is a stick on a null drive, whose
    /// I/O takes no time.
    pub(crate) fn with_virtual_clock() -> Stage {
        let host = XenHost::builder().virtual_clock().null_drive("stick", STICK_BYTES as u64);
        let stage = Stage::start(host, tempfile::tempdir().unwrap());
        stage.plug_stick();
        stage.serve();
        stage
    }

    fn start(host: XenHostBuilder, folder: tempfile::TempDir) -> Stage {
        let programs = ["vusb", "vusb-backend", "rig-measure"].map(program);
        let [vusb, backend, measure] = &programs;
        let host = host.binary(vusb).binary(backend).binary(measure).start().unwrap();
        let guest = host.new_guest("u1").config(QUSB).binary(measure).unwrap().start().unwrap();
        Stage { host, guest, folder }
    }

    /// Starts vusb-backend, with arguments from `VUSB_BENCH_BACKEND`, and adds a controller.
    fn serve(&self) {
        let arguments = std::env::var("VUSB_BENCH_BACKEND").unwrap_or_default();
        self.dom0(&format!(
            "setsid vusb-backend {arguments} </dev/null >>/var/log/backend.log 2>&1 & true"
        ));
        let is_running = "xenstore-exists /local/domain/0/data/vusb-backend/version";
        self.host.wait_until(is_running, TIMEOUT).unwrap();
        self.dom0("vusb controller add xen:u1 --name ours");
    }

    fn plug_stick(&self) {
        let stick = json!({ "driver": "usb-storage", "id": "stick", "drive": "stick" });
        self.host.plug(stick).unwrap();
        self.host.wait_until(&format!("[ -e {} ]", STICK.node), TIMEOUT).unwrap();
    }

    fn plug_all(&self, socket: &Path) {
        echo(socket);
        let address = json!({ "type": "unix", "data": { "path": socket } });
        let backend = json!({ "type": "socket", "data": { "addr": address, "server": false } });
        let qemu = self.host.qemu();
        qemu.qmp("chardev-add", json!({ "id": "echo", "backend": backend })).unwrap();
        self.plug_stick();
        self.host
            .plug(json!({ "driver": "usb-serial", "id": "serial", "chardev": "echo" }))
            .unwrap();
        self.host.plug(json!({ "driver": "usb-tablet", "id": "tablet" })).unwrap();
        for device in [SERIAL, TABLET] {
            self.host.wait_until(&format!("[ -e {} ]", device.node), TIMEOUT).unwrap();
        }
    }

    /// Attaches a device to the guest. Returns the time from the command until the guest has the
    /// device node. With [`Side::Dom0`], waits until dom0's driver is bound and returns zero.
    pub(crate) fn attach(&self, side: Side, device: Device) -> Duration {
        let has_driver = |it: &vusb_rig::sysfs::GuestUsbDevice| it.drivers == [device.driver];
        let in_dom0 = self.host.wait_for_usb(has_driver, TIMEOUT).unwrap();
        let command = match side {
            Side::Dom0 => return Duration::ZERO,
            Side::Qusb => {
                format!(
                    "xl usbdev-attach u1 hostbus={} hostaddr={} controller=0 port={}",
                    in_dom0.bus, in_dom0.address, device.port
                )
            }
            Side::Vusb => {
                format!(
                    "vusb device add xen:u1 {} --controller ours --port {}",
                    device.vendor_product, device.port
                )
            }
        };
        std::thread::scope(|scope| {
            let poll = format!("until [ -e {} ]; do usleep 2000; done", device.node);
            let guest = scope.spawn(move || {
                self.guest.sh(&poll, TIMEOUT).unwrap().ok().unwrap();
                Instant::now()
            });
            // Gives the guest's shell time to start polling.
            std::thread::sleep(Duration::from_secs(1));
            let begin = Instant::now();
            self.dom0(&command);
            guest.join().unwrap() - begin
        })
    }

    /// Detaches a device, and waits until dom0 can use it again.
    pub(crate) fn detach(&self, side: Side, device: Device) {
        match side {
            Side::Dom0 => return,
            Side::Qusb => self.dom0(&format!("xl usbdev-detach u1 0 {}", device.port)),
            Side::Vusb => {
                self.dom0(&format!("vusb device remove xen:u1 {}", device.vendor_product))
            }
        };
        let gone = format!("[ ! -e {} ]", device.node);
        self.guest.wait_until(&gone, TIMEOUT).unwrap();
        let present = format!("[ -e {} ]", device.node);
        self.host.wait_until(&present, TIMEOUT).unwrap();
    }

    /// Starts a second guest. Each of the two guests gets a stick through vusb-backend.
    pub(crate) fn start_second_guest(&self) -> XenGuest {
        let name = "rig-measure";
        let guest = self.host.new_guest("u2").binary(&program(name)).unwrap().start().unwrap();
        self.host
            .plug(json!({ "driver": "usb-storage", "id": "second", "drive": "second" }))
            .unwrap();
        self.host.wait_until("[ -b /dev/sdb ]", TIMEOUT).unwrap();
        let sticks = self.host.usb_tree().unwrap();
        let mut sticks = sticks.iter().filter(|it| it.drivers == [STICK.driver]);
        for domain in ["u1", "u2"] {
            let path = &sticks.next().unwrap().path;
            self.dom0(&format!("vusb device add xen:{domain} {path}"));
        }
        self.guest.wait_until("[ -b /dev/sda ]", TIMEOUT).unwrap();
        guest.wait_until("[ -b /dev/sda ]", TIMEOUT).unwrap();
        guest
    }

    /// The shell of the machine that uses the device.
    pub(crate) fn shell(&self, side: Side) -> &Shell {
        if side == Side::Dom0 { &self.host } else { &self.guest }
    }

    /// Runs a command in dom0, which must succeed.
    pub(crate) fn dom0(&self, command: &str) -> String {
        self.host.sh(command, TIMEOUT).unwrap().ok().unwrap()
    }

    /// The backend's process ID; `None` if dom0 uses the device itself.
    pub(crate) fn process(&self, side: Side) -> Option<String> {
        let command = match side {
            Side::Dom0 => return None,
            Side::Qusb => "xenstore-read /local/domain/$(xl domid u1)/image/device-model-pid",
            Side::Vusb => "pidof vusb-backend",
        };
        Some(self.dom0(command).trim().to_owned())
    }
}

/// The path of a program that was built together with this one.
fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_vusb-backend")).with_file_name(name);
    assert!(path.exists(), "{} does not exist: run `cargo xtask bench xen`", path.display());
    path
}

/// Listens on a Unix socket, accepts one connection, and echoes what it receives.
fn echo(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 512];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            stream.write_all(&bytes[..count]).unwrap();
        }
    });
}
