//! A machine with a simulated tree of devices, guests of simulated hypervisors, and the daemon.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vusb::model::spec::DeviceSpec;
use vusb::view::State;
use vusb::{Context, DeviceRef, Host, Options, StateDir};

/// How long a condition may take to come true.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// A machine, guests, records, rules, and the daemon.
pub(crate) struct Machine {
    dir: TempDir,
    pub(crate) context: Context,
    pub(crate) daemon: Option<Child>,
    listens: bool,
    log: Option<Receiver<String>>,
    plugs: u16,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in [
            "machine/sys/bus/usb/devices",
            "machine/sys/bus/pci",
            "machine/sys/devices/pci0000:00/0000:00:14.0/usb1",
            "machine/proc/self",
            "guests",
            "rules",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let pci = at("machine/sys/devices/pci0000:00/0000:00:14.0/subsystem");
        // Relative links, as in sysfs.
        symlink("../../../bus/pci", pci).unwrap();
        fs::write(at("machine/proc/self/mountinfo"), "").unwrap();
        fs::write(at("machine/proc/swaps"), "").unwrap();
        let host = Host::new(at("machine"));
        let context = Context::with_builtin_drivers(StateDir::new(at("state")), host)
            .with_rules_in(vec![at("rules")]);
        Machine { dir, context, daemon: None, listens: false, log: None, plugs: 1 }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Makes the daemon accept calls at `socket`.
    pub(crate) fn listen(&mut self) {
        self.listens = true;
    }

    /// The command that starts the daemon, without a socket.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vusbd"));
        command.env_clear().stdin(Stdio::null()).stderr(Stdio::piped());
        // As in the unit.
        command.env("MALLOC_ARENA_MAX", "2");
        command.arg("--state-dir").arg(self.at("state"));
        command.arg("--rules").arg(self.at("rules"));
        command.arg("--host-root").arg(self.at("machine"));
        for scheme in ["sim", "qemu"] {
            let folder = self.at("guests");
            command.arg("--guests").arg(format!("{scheme}:{}", folder.display()));
        }
        command
    }

    pub(crate) fn start(&mut self) {
        let mut command = self.command();
        if self.listens {
            command.arg("--listen").arg(self.at("socket"));
        }
        self.start_as(command);
    }

    /// Starts the daemon by this command.
    pub(crate) fn start_as(&mut self, mut command: Command) {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut daemon = command.spawn().unwrap();
        let (sender, receiver) = channel();
        let lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        (self.daemon, self.log) = (Some(daemon), Some(receiver));
        self.wait_for_log("ready");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().unwrap();
        kill_process(Pid::from_child(daemon), signal).unwrap();
    }

    /// Waits until the daemon logs a line with this text.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let end = Instant::now() + WAIT_LIMIT;
        let mut seen = Vec::new();
        let log = self.log.as_ref().unwrap();
        while let Ok(line) = log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("`{text}` is not logged: {seen:#?}");
    }

    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Plugs in a device with one interface; the kernel gives it the next address.
    pub(crate) fn plug(&mut self, port: &str, id: &str, interface: [&str; 3]) {
        self.plugs += 1;
        let dir = self.folder_of(port);
        let interface_dir = dir.join(format!("{port}:1.0"));
        fs::create_dir_all(&interface_dir).unwrap();
        let (vendor, product) = id.split_once(':').unwrap();
        // A bus has 127 addresses, which the kernel gives in turn.
        let (bus, address) = (self.plugs / 127 + 1, (self.plugs % 127 + 1).to_string());
        for (name, value) in [
            ("busnum", bus.to_string().as_str()),
            ("devnum", address.as_str()),
            ("bDeviceClass", "00"),
            ("speed", "480"),
            ("idVendor", vendor),
            ("idProduct", product),
        ] {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
        let [class, subclass, protocol] = interface;
        for (name, value) in [
            ("bInterfaceNumber", "00"),
            ("bInterfaceClass", class),
            ("bInterfaceSubClass", subclass),
            ("bInterfaceProtocol", protocol),
        ] {
            fs::write(interface_dir.join(name), format!("{value}\n")).unwrap();
        }
        let bus = port.split('-').next().unwrap();
        let target = format!("../../../devices/pci0000:00/0000:00:14.0/usb{bus}/{port}");
        symlink(target, self.at("machine/sys/bus/usb/devices").join(port)).unwrap();
    }

    pub(crate) fn plug_stick(&mut self, port: &str) {
        self.plug(port, "0781:5581", ["08", "06", "50"]);
    }

    pub(crate) fn unplug(&self, port: &str) {
        fs::remove_file(self.at("machine/sys/bus/usb/devices").join(port)).unwrap();
        fs::remove_dir_all(self.folder_of(port)).unwrap();
    }

    /// All buses belong to one controller.
    fn folder_of(&self, port: &str) -> PathBuf {
        let bus = format!("usb{}", port.split('-').next().unwrap());
        self.at("machine/sys/devices/pci0000:00/0000:00:14.0").join(bus).join(port)
    }

    /// Restarts the machine: only the records and the rules of vusb are left. Before this call, the
    /// test has to stop the daemon and to remove all guests and devices.
    pub(crate) fn reboot(&mut self) {
        assert!(self.daemon.is_none());
        let run = self.at("machine/run");
        if run.exists() {
            fs::remove_dir_all(run).unwrap();
        }
        let id = self.at("machine/proc/sys/kernel/random/boot_id");
        fs::create_dir_all(id.parent().unwrap()).unwrap();
        self.plugs += 20;
        fs::write(id, format!("boot-{}\n", self.plugs)).unwrap();
    }

    /// Starts udev, as far as the daemon can tell.
    pub(crate) fn start_udev(&self) {
        fs::create_dir_all(self.at("machine/run/udev/data")).unwrap();
        fs::write(self.at("machine/run/udev/control"), "").unwrap();
    }

    /// udev has processed the device that was plugged in last: it replaces its file about it.
    pub(crate) fn udev_processes_the_last(&self) {
        let data = self.at("machine/run/udev/data");
        let minor = self.plugs / 127 * 128 + self.plugs % 127;
        fs::write(data.join(".#new"), "I:1\nG:systemd\n").unwrap();
        fs::rename(data.join(".#new"), data.join(format!("c189:{minor}"))).unwrap();
    }

    /// The descriptors of the daemon for watching folders, each with the number of its watches.
    pub(crate) fn inotify_watches(&self) -> Vec<usize> {
        let folder = format!("/proc/{}/fdinfo", self.daemon.as_ref().unwrap().id());
        let infos = fs::read_dir(folder).unwrap();
        let infos = infos.filter_map(|it| fs::read_to_string(it.unwrap().path()).ok());
        let watches = infos.map(|it| it.lines().filter(|it| it.starts_with("inotify ")).count());
        watches.filter(|it| *it > 0).collect()
    }

    /// Makes the daemon read the devices. On a real machine, the kernel sends an event.
    pub(crate) fn request_scan(&self) {
        self.signal(Signal::HUP);
    }

    pub(crate) fn address(&self, guest: &str) -> String {
        format!("sim:{}", self.at("guests").join(guest).display())
    }

    pub(crate) fn boot(&self, guest: &str) {
        fs::write(self.at("guests").join(guest), r#"{"sim":1}"#).unwrap();
    }

    pub(crate) fn power_off(&self, guest: &str) {
        fs::remove_file(self.at("guests").join(guest)).unwrap();
    }

    pub(crate) fn write_rules(&self, text: &str) {
        fs::write(self.at("rules/10.toml"), text).unwrap();
    }

    /// Writes a rule that attaches every stick to this guest.
    pub(crate) fn sticks_belong_to(&self, guest: &str) {
        let domain = self.address(guest);
        self.write_rules(&format!(
            "[[rule]]\nname = \"sticks\"\nhas = \"storage\"\nattach = \"{domain}\"\n"
        ));
    }

    pub(crate) fn add(&self, guest: &str, device: &str) {
        let options = Options::default();
        let domain = self.context.domain(&self.address(guest), &options).unwrap();
        let spec = DeviceSpec::new(device.parse().unwrap());
        self.context.device_add(&domain, &spec, &options).unwrap();
    }

    pub(crate) fn remove(&self, guest: &str, device: &str) {
        let options = Options::default();
        let domain = self.context.domain(&self.address(guest), &options).unwrap();
        let device: DeviceRef = device.parse().unwrap();
        self.context.device_remove(&domain, &device, &options).unwrap();
    }

    /// The devices that the guest sees.
    pub(crate) fn attached(&self, guest: &str) -> Vec<String> {
        let options = Options::default();
        let domain = self.context.domain(&self.address(guest), &options).unwrap();
        let view = self.context.list(&domain, &options).unwrap();
        let devices = view.controllers.iter().flat_map(|it| &it.devices);
        let attached = devices.filter(|it| it.state == State::Attached);
        attached.map(|it| it.kind.to_string()).collect()
    }

    /// The devices of the guest, with their controllers and ports.
    pub(crate) fn places(&self, guest: &str) -> Vec<String> {
        let options = Options::default();
        let domain = self.context.domain(&self.address(guest), &options).unwrap();
        let view = self.context.list(&domain, &options).unwrap();
        let of = |it: &vusb::view::ControllerView| -> Vec<String> {
            let place = |device: &vusb::view::DeviceView| {
                format!("{} at {}:{}", device.name, it.name, device.port)
            };
            it.devices.iter().map(place).collect()
        };
        view.controllers.iter().flat_map(of).collect()
    }

    /// Waits until the guest sees exactly these devices.
    #[track_caller]
    pub(crate) fn wait_until(&self, guest: &str, devices: &[&str]) {
        let end = Instant::now() + WAIT_LIMIT;
        loop {
            let mut attached = self.attached(guest);
            attached.sort();
            if attached == devices {
                return;
            }
            if Instant::now() > end {
                let log: Vec<String> = self.log.as_ref().unwrap().try_iter().collect();
                panic!("{guest} has {attached:?}, not {devices:?}: {log:#?}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
