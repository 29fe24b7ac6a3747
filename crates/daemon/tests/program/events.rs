//! Devices that are plugged in and unplugged, and guests that start and end.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use vusb::model::device::Kind;
use vusb::model::spec::DeviceSpec;
use vusb::view::State;
use vusb::{DomainAddress, Options};

use crate::machine::{Machine, WAIT_LIMIT};

const STICK: &str = "host:0781:5581";

#[test]
fn what_a_guest_was_given_comes_back_after_its_restart() {
    let mut machine = Machine::new();
    machine.plug_stick("1-4");
    machine.boot("web1");
    machine.add("web1", STICK);
    machine.add("web1", "tablet");
    machine.start();
    machine.power_off("web1");
    machine.wait_for_log("the guest has ended");
    machine.boot("web1");
    machine.wait_until("web1", &[STICK, "tablet"]);
    // A guest that starts while the daemon does not run also gets its devices back.
    machine.kill();
    machine.power_off("web1");
    machine.boot("web1");
    assert_eq!(machine.attached("web1"), [""; 0]);
    machine.start();
    machine.wait_until("web1", &[STICK, "tablet"]);
}

#[test]
fn what_a_guest_was_given_comes_back_after_a_replug() {
    let mut machine = Machine::new();
    machine.plug_stick("1-4");
    machine.boot("web1");
    machine.add("web1", STICK);
    machine.start();
    for _ in 0..3 {
        machine.unplug("1-4");
        machine.request_scan();
        machine.wait_until("web1", &[]);
        machine.plug_stick("1-4");
        machine.request_scan();
        machine.wait_until("web1", &[STICK]);
    }
    // Another device in the same port is not the guest's.
    machine.unplug("1-4");
    machine.plug("1-4", "1209:0001", ["ff", "00", "00"]);
    machine.request_scan();
    machine.wait_until("web1", &[]);
}

/// On a machine with udev, a device is attached when udev has processed it, which the daemon
/// notices by itself.
#[test]
fn a_new_device_waits_for_udev() {
    let mut machine = Machine::new();
    machine.start_udev();
    machine.sticks_belong_to("web1");
    machine.boot("web1");
    machine.start();
    // udev never processes the first device, which is then used as it is.
    machine.plug_stick("1-4");
    let begun = Instant::now();
    machine.request_scan();
    machine.wait_for_log("rules loaded");
    assert_eq!(machine.attached("web1"), [""; 0]);
    let [first, second] = [4, 5].map(|port| format!("host:pci-0000:00:14.0-usb-0:{port}"));
    machine.wait_until("web1", &[&first]);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    machine.plug_stick("1-5");
    let begun = Instant::now();
    machine.request_scan();
    machine.wait_for_log("rules loaded");
    machine.udev_processes_the_last();
    machine.wait_until("web1", &[&first, &second]);
    println!("attached {:?} after the plug", begun.elapsed());
    // A device that was used as it is stays there when the devices are read again.
    machine.remove("web1", "pci-0000:00:14.0-usb-0:4");
    machine.wait_for_log("detached by hand");
    for _ in 0..2 {
        machine.request_scan();
        machine.wait_for_log("rules loaded");
    }
    assert_eq!(machine.attached("web1"), [second]);
}

/// A folder that no record names any more is no longer watched, and one that comes back is.
#[test]
fn folders_are_watched_as_long_as_a_domain_needs_them() {
    let mut machine = Machine::new();
    let far = machine.at("far");
    fs::create_dir(&far).unwrap();
    let domain = |machine: &Machine| {
        let address = format!("sim:{}", far.join("web1").display());
        machine.context.domain(&address, &Options::default()).unwrap()
    };
    let give_tablet = |machine: &Machine| {
        fs::write(far.join("web1"), r#"{"sim":1}"#).unwrap();
        let tablet = DeviceSpec::new("tablet".parse().unwrap());
        machine.context.device_add(&domain(machine), &tablet, &Options::default()).unwrap();
    };
    let has_tablet = |machine: &Machine| {
        let view = machine.context.list(&domain(machine), &Options::default()).unwrap();
        view.controllers.iter().flat_map(|it| &it.devices).any(|it| it.state == State::Attached)
    };
    let wait = |machine: &Machine, condition: &dyn Fn(&Machine) -> bool| {
        let end = Instant::now() + WAIT_LIMIT;
        while !condition(machine) {
            assert!(Instant::now() < end, "{:?}", machine.inotify_watches());
            std::thread::yield_now();
        }
    };
    machine.start();
    let before = machine.inotify_watches();
    for _ in 0..2 {
        give_tablet(&machine);
        wait(&machine, &|it| it.inotify_watches().iter().sum::<usize>() > before.iter().sum());
        assert_eq!(machine.inotify_watches().len(), before.len());
        // The folder goes, and comes back with the guest.
        fs::remove_dir_all(&far).unwrap();
        machine.wait_for_log("the guest has ended");
        fs::create_dir(&far).unwrap();
        fs::write(far.join("web1"), r#"{"sim":1}"#).unwrap();
        wait(&machine, &has_tablet);
        fs::remove_file(far.join("web1")).unwrap();
        machine.wait_for_log("the guest has ended");
        let options = Options { force: true, ..Options::default() };
        machine.context.domain_forget(&domain(&machine), &options).unwrap();
        wait(&machine, &|it| it.inotify_watches() == before);
    }
}

/// Somebody removes the folder of the records, and it is restored from a backup.
#[test]
fn a_folder_of_records_that_comes_back_is_watched_again() {
    let mut machine = Machine::new();
    machine.boot("web1");
    machine.add("web1", "tablet");
    machine.start();
    let (state, backup) = (machine.at("state"), machine.at("backup"));
    fs::rename(&state, &backup).unwrap();
    machine.power_off("web1");
    machine.wait_for_log("the guest has ended");
    machine.boot("web1");
    machine.wait_for_log("the guest has started");
    // The daemon may have made the folder for a lock.
    fs::create_dir_all(&state).unwrap();
    for file in fs::read_dir(&backup).unwrap().map(Result::unwrap) {
        if file.path().extension().is_some_and(|it| it == "json") {
            fs::rename(file.path(), state.join(file.file_name())).unwrap();
        }
    }
    machine.wait_until("web1", &["tablet"]);
}

#[test]
fn rules_attach_what_is_plugged_in_and_a_bad_file_changes_nothing() {
    let mut machine = Machine::new();
    machine.write_rules(
        "[[rule]]\nname = \"printers\"\nonly = \"printer\"\nattach = \"SIM\"\n\
         [[rule]]\nname = \"else\"\nask = \"*\"\n"
            .replace("SIM", &machine.address("work"))
            .as_str(),
    );
    machine.boot("work");
    machine.start();
    machine.plug("1-1", "03f0:0c17", ["07", "01", "02"]);
    machine.plug("1-2", "0781:5581", ["08", "06", "50"]);
    machine.request_scan();
    let path = "host:pci-0000:00:14.0-usb-0:1";
    machine.wait_until("work", &[path]);
    machine.wait_for_log("who gets the device at");
    machine.write_rules("[[rule]]\nname = \"printers\"\n");
    machine.request_scan();
    machine.wait_for_log("the rules are not changed");
    // The guest is started again, and the old rules are still in force.
    machine.power_off("work");
    machine.wait_for_log("the guest has ended");
    machine.boot("work");
    machine.wait_until("work", &[path]);
}

#[test]
fn what_is_detached_by_hand_stays_detached_until_it_is_plugged_in_again() {
    let mut machine = Machine::new();
    machine.sticks_belong_to("work");
    machine.boot("work");
    machine.plug_stick("1-4");
    machine.start();
    let path = "host:pci-0000:00:14.0-usb-0:4";
    machine.wait_until("work", &[path]);
    machine.remove("work", "pci-0000:00:14.0-usb-0:4");
    machine.wait_for_log("detached by hand");
    machine.request_scan();
    machine.wait_for_log("rules loaded");
    assert_eq!(machine.attached("work"), [""; 0]);
    machine.unplug("1-4");
    machine.plug_stick("1-4");
    machine.request_scan();
    machine.wait_until("work", &[path]);
}

#[test]
fn a_device_that_fails_does_not_keep_the_others_away() {
    let mut machine = Machine::new();
    machine.boot("web1");
    for port in 1..=5 {
        machine.plug(&format!("1-{port}"), &format!("0781:000{port}"), ["08", "06", "50"]);
        machine.add("web1", &format!("host:0781:000{port}"));
    }
    machine.power_off("web1");
    // The hypervisor refuses one of them each time.
    let refused = r#"{"sim":1,"faults":[{"step":"plug host0 ","nth":0,"fault":"fail"}]}"#;
    fs::write(machine.at("guests/web1"), refused).unwrap();
    machine.start();
    machine.wait_until(
        "web1",
        &["host:0781:0002", "host:0781:0003", "host:0781:0004", "host:0781:0005"],
    );
    machine.wait_for_log("failed several times in a row");
}

#[test]
fn an_emulated_device_that_fails_does_not_keep_the_others_away() {
    restores_all_but_the_mouse(
        r#"{"sim":1,"faults":[{"step":"plug mouse0 ","nth":0,"fault":"fail"}]}"#,
    );
}

/// The guest was started with another version of the hypervisor.
#[test]
fn an_emulated_device_that_is_not_implemented_does_not_keep_the_others_away() {
    restores_all_but_the_mouse(r#"{"sim":1,"kinds":{"mouse":"no"}}"#);
}

/// The emulated devices of a guest are restored together, as long as the hypervisor takes them. A
/// hub comes before what is behind it.
fn restores_all_but_the_mouse(guest: &str) {
    let mut machine = Machine::new();
    machine.boot("web1");
    for device in ["audio", "tablet", "mouse", "hub", "keyboard"] {
        machine.add("web1", device);
    }
    let options = Options::default();
    let domain = machine.context.domain(&machine.address("web1"), &options).unwrap();
    let ccid = DeviceSpec { port: Some("4.1".parse().unwrap()), ..DeviceSpec::new(Kind::Ccid) };
    machine.context.device_add(&domain, &ccid, &options).unwrap();
    let places = machine.places("web1");
    machine.power_off("web1");
    fs::write(machine.at("guests/web1"), guest).unwrap();
    machine.start();
    machine.wait_until("web1", &["audio", "ccid", "hub", "keyboard", "tablet"]);
    machine.wait_for_log("cannot restore mouse0: ");
    machine.wait_for_log("failed several times in a row");
    assert_eq!(machine.places("web1"), places);
}

/// A QEMU that is stopped before its first instruction, and ends with the test.
struct Qemu(Child);

impl Qemu {
    fn start(machine: &Machine, guest: &str) -> Qemu {
        let socket = machine.at("guests").join(format!("{guest}.qmp"));
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-S", "-nodefaults", "-machine", "q35", "-display", "none"]);
        command.args(["-device", "qemu-xhci,id=usb,addr=4,p2=15,p3=15"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Qemu(command.spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The domain of a real QEMU, with a disk and a tablet that were given to it.
fn real_guest(machine: &Machine) -> (Qemu, DomainAddress) {
    fs::write(machine.at("stick.img"), "\0".repeat(1 << 20)).unwrap();
    let qemu = Qemu::start(machine, "web1");
    let socket = machine.at("guests/web1.qmp");
    let end = Instant::now() + WAIT_LIMIT;
    // QEMU creates the socket before it listens on it.
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < end, "QEMU does not listen on {}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    let options = Options::default();
    let address = format!("qemu:{}", socket.display());
    let domain = machine.context.domain(&address, &options).unwrap();
    let image = format!("storage:{}", machine.at("stick.img").display());
    for device in [&image, "tablet"] {
        let spec = DeviceSpec::new(device.parse().unwrap());
        machine.context.device_add(&domain, &spec, &options).unwrap();
    }
    (qemu, domain)
}

/// Waits until QEMU has both devices.
fn wait_until_restored(machine: &Machine, domain: &DomainAddress) {
    let (begun, options) = (Instant::now(), Options::default());
    let attached_count = || {
        let view = machine.context.list(domain, &options).ok()?;
        let devices = view.controllers.iter().flat_map(|it| &it.devices);
        Some(devices.filter(|it| it.state == State::Attached).count())
    };
    while attached_count() != Some(2) {
        assert!(begun.elapsed() < WAIT_LIMIT, "{:?}", machine.context.list(domain, &options));
        // The monitor serves one client at a time, and that should be the daemon.
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "starts QEMU; run by cargo xtask test"]
fn a_real_qemu_that_is_killed_and_started_again_gets_its_devices_back() {
    let mut machine = Machine::new();
    let (qemu, domain) = real_guest(&machine);
    let before = machine.context.digest(&domain, true, &Options::default()).unwrap();
    machine.start();
    qemu.kill();
    machine.wait_for_log("the guest has ended");
    let begun = Instant::now();
    let _qemu = Qemu::start(&machine, "web1");
    wait_until_restored(&machine, &domain);
    println!("restored {} ms after the start of QEMU", begun.elapsed().as_millis());
    assert_eq!(machine.context.digest(&domain, true, &Options::default()).unwrap(), before);
}

/// QEMU refuses one of ten disks, because another process has locked its image.
#[test]
#[ignore = "starts QEMU; run by cargo xtask test"]
fn nine_disks_of_a_real_qemu_come_back_beside_one_that_it_refuses() {
    let mut machine = Machine::new();
    let (qemu, domain) = real_guest(&machine);
    let image = |number: u8| machine.at(&format!("{number}.img"));
    for number in 0..10 {
        fs::write(image(number), "\0".repeat(1 << 20)).unwrap();
        let device = format!("storage:{}", image(number).display());
        let spec = DeviceSpec::new(device.parse().unwrap());
        machine.context.device_add(&domain, &spec, &Options::default()).unwrap();
    }
    qemu.kill();
    let locked = fs::File::options().read(true).write(true).open(image(3)).unwrap();
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::fcntl_lock(&locked, lock).unwrap();
    machine.start();
    let _qemu = Qemu::start(&machine, "web1");
    machine.wait_for_log("the guest has started");
    let begun = Instant::now();
    // Nine of the ten disks, and the disk and the tablet of `real_guest`.
    for _ in 0..11 {
        machine.wait_for_log("action=\"attached\"");
    }
    println!("eleven of twelve devices after {} ms", begun.elapsed().as_millis());
    machine.wait_for_log("failed several times in a row");
    let view = machine.context.list(&domain, &Options::default()).unwrap();
    let states: Vec<State> =
        view.controllers.iter().flat_map(|it| &it.devices).map(|it| it.state).collect();
    assert_eq!(states.iter().filter(|it| **it == State::Attached).count(), 11, "{states:?}");
    // `vusb apply` does not wait for the daemon's retry delay.
    drop(locked);
    let restored = machine.context.restore(&domain, &Options::default()).unwrap();
    assert!(restored.not_restored.is_empty(), "{restored:?}");
}

/// At whatever moment the daemon is killed, the guest gets back all the hardware that it had.
#[test]
#[ignore = "starts QEMU; run by cargo xtask test"]
fn a_daemon_that_is_killed_while_it_restores_a_real_qemu_continues() {
    let mut machine = Machine::new();
    let (mut qemu, domain) = real_guest(&machine);
    let before = machine.context.digest(&domain, true, &Options::default()).unwrap();
    for number in 0..12 {
        machine.start();
        qemu.kill();
        machine.wait_for_log("the guest has ended");
        qemu = Qemu::start(&machine, "web1");
        std::thread::sleep(Duration::from_millis(20) * number);
        machine.kill();
        machine.start();
        wait_until_restored(&machine, &domain);
        assert_eq!(machine.context.digest(&domain, true, &Options::default()).unwrap(), before);
        machine.kill();
    }
}

/// After a downgrade. What this version does not know is kept if it may be ignored, and otherwise
/// the record is left alone and reported.
#[test]
fn records_of_a_newer_version_lose_nothing() {
    let mut machine = Machine::new();
    machine.plug_stick("1-4");
    for guest in ["web1", "web2"] {
        machine.boot(guest);
        machine.add(guest, "tablet");
    }
    machine.add("web1", STICK);
    let (state, guests) = (machine.at("state"), machine.at("guests"));
    let record_of = |guest: &str| {
        let files = fs::read_dir(&state).unwrap().map(|it| it.unwrap().path());
        let mut records = files.filter(|it| it.extension().is_some_and(|it| it == "json"));
        let address = format!("sim:{}", guests.join(guest).display());
        let path = records.find(|it| fs::read_to_string(it).unwrap().contains(&address)).unwrap();
        (fs::read_to_string(&path).unwrap(), path)
    };
    let (text, path) = record_of("web1");
    fs::write(path, text.replacen('{', "{\"colour\": \"blue\",", 1)).unwrap();
    machine.start();
    let (text, path) = record_of("web2");
    let newer = text.replacen("\"vusb\": 1", "\"vusb\": 2", 1);
    assert_ne!(newer, text);
    fs::write(&path, &newer).unwrap();
    machine.wait_for_log("its layout is version 2");
    machine.power_off("web1");
    machine.wait_for_log("the guest has ended");
    machine.boot("web1");
    machine.wait_until("web1", &[STICK, "tablet"]);
    assert!(record_of("web1").0.contains("\"colour\": \"blue\""));
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn the_daemon_exits_on_sigterm() {
    let mut machine = Machine::new();
    machine.start();
    machine.signal(Signal::TERM);
    let status = machine.daemon.take().unwrap().wait().unwrap();
    assert!(status.success(), "{status}");
}

/// vusbd tells udev which devices belong to guests, whether they are plugged in or not.
#[test]
fn udev_is_told_what_belongs_to_guests() {
    let mut machine = Machine::new();
    fs::create_dir_all(machine.at("machine/run/udev")).unwrap();
    machine.plug_stick("1-4");
    machine.boot("web1");
    machine.add("web1", STICK);
    machine.add("web1", "tablet");
    machine.start();
    machine.wait_until("web1", &[STICK, "tablet"]);
    let file = machine.at("machine/run/udev/rules.d/71-vusb-guests.rules");
    let lines = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter(|it| !it.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = "ACTION!=\"remove\", SUBSYSTEM==\"usb\", ENV{DEVTYPE}==\"usb_device\", \
                    DEVPATH==\"*/0000:00:14.0/usb*/*-4\", ATTR{idVendor}==\"0781\", \
                    ATTR{idProduct}==\"5581\", ENV{VUSB_GUEST}=\"1\"";
    assert_eq!(lines(), [expected]);
    // The device still belongs to the guest while it is not plugged in.
    machine.unplug("1-4");
    machine.request_scan();
    machine.wait_until("web1", &["tablet"]);
    assert_eq!(lines(), [expected]);
    machine.remove("web1", "pci-0000:00:14.0-usb-0:4");
    let end = Instant::now() + WAIT_LIMIT;
    while !lines().is_empty() {
        assert!(Instant::now() < end, "{:?}", lines());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// After a restart of the machine, a guest has what a person gave it at the same places, whether
/// the daemon or the guest starts first. The kernel may number the buses in another order.
#[test]
fn what_was_given_comes_back_after_a_reboot() {
    let mut machine = Machine::new();
    machine.plug_stick("1-4");
    machine.boot("web1");
    machine.add("web1", "pci-0000:00:14.0-usb-0:4");
    machine.add("web1", "tablet");
    machine.start();
    let given = ["host:pci-0000:00:14.0-usb-0:4", "tablet"];
    machine.wait_until("web1", &given);
    let places = machine.places("web1");
    for (unplugged, plugged, daemon_first) in [("1-4", "2-4", true), ("2-4", "1-4", false)] {
        machine.kill();
        machine.power_off("web1");
        machine.unplug(unplugged);
        machine.reboot();
        machine.plug_stick(plugged);
        if daemon_first {
            machine.start();
        }
        machine.boot("web1");
        if !daemon_first {
            machine.start();
        }
        machine.wait_until("web1", &given);
        assert_eq!(machine.places("web1"), places);
    }
}

/// A guest starts without a device that it requires, but with all others. The absence is reported,
/// and the device is attached when it is plugged in.
#[test]
fn a_guest_runs_without_a_device_that_it_requires() {
    let mut machine = Machine::new();
    machine.plug("1-4", "0781:5581", ["08", "06", "50"]);
    machine.plug("1-5", "0529:0001", ["ff", "00", "00"]);
    machine.boot("web1");
    machine.add("web1", STICK);
    let mut dongle = DeviceSpec::new("host:0529:0001".parse().unwrap());
    let Kind::Host(host) = &mut dongle.kind else { panic!("{dongle:?}") };
    host.required = true;
    let options = Options::default();
    let domain = machine.context.domain(&machine.address("web1"), &options).unwrap();
    machine.context.device_add(&domain, &dongle, &options).unwrap();
    machine.power_off("web1");
    machine.unplug("1-5");
    machine.start();
    machine.boot("web1");
    machine.wait_for_log("host1 is required and not plugged in");
    machine.wait_until("web1", &[STICK]);
    machine.plug("1-5", "0529:0001", ["ff", "00", "00"]);
    machine.request_scan();
    machine.wait_until("web1", &["host:0529:0001", STICK]);
    // `vusb apply` fails while a required device is absent.
    machine.unplug("1-5");
    machine.request_scan();
    machine.wait_for_log("host1 is required and not plugged in");
    let restored = machine.context.restore(&domain, &options).unwrap();
    let names: Vec<&str> = restored.not_restored.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["host1"], "{restored:?}");
    assert_eq!(restored.exit_code(), vusb::ExitCode::NotFound);
}
