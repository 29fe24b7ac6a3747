//! Guests that run: real QEMUs with Proxmox VE's arguments, and a stand-in for `qm`.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use vusb_drivers::{Error, GuestEvent, Scheme as _, WatchOptions};
use vusb_formats::{ConfigFormat as _, Pve};
use vusb_model::capabilities::Capabilities;
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;
use vusb_qmp::{Client, Deadline};
use vusb_rig::BareQemu;

use super::node::{LINUX, Node, by_name, lines, wanted};

/// The arguments of every guest with an i440fx machine.
const PC: [&str; 10] = [
    "-machine",
    "type=pc",
    "-nodefaults",
    "-device",
    "pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e",
    "-device",
    "pci-bridge,id=pci.2,chassis_nr=2,bus=pci.0,addr=0x1f",
    "-device",
    "piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2",
    "-S",
];
const TABLET: [&str; 2] = ["-device", "usb-tablet,id=tablet,bus=uhci.0,port=1"];
const XHCI: [&str; 2] = ["-device", "qemu-xhci,p2=15,p3=15,id=xhci,bus=pci.1,addr=0x1b"];

/// `pve-usb.cfg`.
const EHCI: [&str; 8] = [
    "-device",
    "ich9-usb-ehci1,id=ehci,addr=1d.7,multifunction=on",
    "-device",
    "ich9-usb-uhci1,id=uhci-1,addr=1d.0,multifunction=on,masterbus=ehci.0,firstport=0",
    "-device",
    "ich9-usb-uhci2,id=uhci-2,addr=1d.1,multifunction=on,masterbus=ehci.0,firstport=2",
    "-device",
    "ich9-usb-uhci3,id=uhci-3,addr=1d.2,multifunction=on,masterbus=ehci.0,firstport=4",
];
const NEC: [&str; 2] = ["-device", "nec-usb-xhci,id=xhci,bus=pci.1,addr=0x1b"];
const Q35_TABLET: [&str; 2] = ["-device", "usb-tablet,id=tablet,bus=ehci.0,port=1"];

/// `pve-q35-4.0.cfg`, as far as it is about USB and the bridges.
const Q35: [&str; 29] = [
    "-machine",
    "type=q35",
    "-nodefaults",
    "-device",
    "ich9-usb-ehci1,id=ehci,multifunction=on,bus=pcie.0,addr=1d.7",
    "-device",
    "ich9-usb-uhci1,id=uhci-1,multifunction=on,bus=pcie.0,addr=1d.0,masterbus=ehci.0,firstport=0",
    "-device",
    "ich9-usb-uhci2,id=uhci-2,multifunction=on,bus=pcie.0,addr=1d.1,masterbus=ehci.0,firstport=2",
    "-device",
    "ich9-usb-uhci3,id=uhci-3,multifunction=on,bus=pcie.0,addr=1d.2,masterbus=ehci.0,firstport=4",
    "-device",
    "ich9-usb-ehci2,id=ehci-2,multifunction=on,bus=pcie.0,addr=1a.7",
    "-device",
    "ich9-usb-uhci4,id=uhci-4,multifunction=on,bus=pcie.0,addr=1a.0,masterbus=ehci-2.0,firstport=0",
    "-device",
    "ich9-usb-uhci5,id=uhci-5,multifunction=on,bus=pcie.0,addr=1a.1,masterbus=ehci-2.0,firstport=2",
    "-device",
    "ich9-usb-uhci6,id=uhci-6,multifunction=on,bus=pcie.0,addr=1a.2,masterbus=ehci-2.0,firstport=4",
    "-device",
    "i82801b11-bridge,id=pcidmi,bus=pcie.0,addr=1e.0",
    "-device",
    "pci-bridge,id=pci.0,bus=pcidmi,addr=1.0,chassis_nr=1",
    "-device",
    "pci-bridge,id=pci.1,bus=pcidmi,addr=2.0,chassis_nr=2",
    "-device",
    "pci-bridge,id=pci.2,bus=pcidmi,addr=3.0,chassis_nr=3",
    "-device",
    "pci-bridge,id=pci.3,bus=pcidmi,addr=4.0,chassis_nr=4",
];

/// A node whose guest 100 runs.
fn start(config: &str, arguments: &[&[&str]]) -> (Node, BareQemu) {
    let node = Node::new(config);
    let qemu = BareQemu::start(arguments.concat()).unwrap();
    symlink(qemu.qmp_socket(), node.root().join("var/run/qemu-server/100.qmp")).unwrap();
    (node, qemu)
}

/// The hardware that the configuration results in.
fn configured(config: &str) -> Hardware {
    let config = Pve.read(config, "100.conf").unwrap();
    let capabilities = Pve.capabilities(&config.guest);
    resolve(&Hardware::new(), &config.spec, &capabilities).unwrap().hardware
}

/// The hardware that is read from a configuration is what a real QEMU has.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_configuration_results_in_what_qemu_has() {
    let host = |rest: &str| ["-device".to_owned(), format!("usb-host,{rest}")];
    let all: Vec<String> = (0..14)
        .flat_map(|n| {
            host(&format!("bus=xhci.0,port={},hostbus=1,hostport={},id=usb{n}", n + 1, n + 1))
        })
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let fourteen: String = (0..14).map(|n| format!("usb{n}: host=1-{}\n", n + 1)).collect();
    let old = "machine: pc-i440fx-7.0\n";
    let cases: [(String, Vec<&[&str]>); 7] = [
        (LINUX.to_owned(), vec![&PC, &TABLET]),
        (
            format!("{LINUX}usb0: host=0781:5581\ntablet: 0\n"),
            vec![
                &PC,
                &XHCI,
                &["-device", "usb-host,bus=xhci.0,port=1,vendorid=0x0781,productid=0x5581,id=usb0"],
            ],
        ),
        (format!("{LINUX}{fourteen}"), vec![&PC, &XHCI, &TABLET, &all]),
        (
            format!("{LINUX}{old}usb0: host=0781:5581\n"),
            vec![
                &PC,
                &EHCI,
                &TABLET,
                &["-device", "usb-host,vendorid=0x0781,productid=0x5581,id=usb0"],
            ],
        ),
        (
            format!("{LINUX}{old}usb0: host=1-1\nusb1: host=1-2,usb3=1\nusb2: host=1-3\n"),
            vec![
                &PC,
                &EHCI,
                &NEC,
                &TABLET,
                &[
                    "-device",
                    "usb-host,hostbus=1,hostport=1,id=usb0",
                    "-device",
                    "usb-host,bus=xhci.0,hostbus=1,hostport=2,id=usb1",
                    "-device",
                    "usb-host,hostbus=1,hostport=3,id=usb2",
                ],
            ],
        ),
        (
            format!("{LINUX}machine: q35\nusb13: host=1-4.2\n"),
            vec![
                &Q35,
                &XHCI,
                &Q35_TABLET,
                &["-device", "usb-host,bus=xhci.0,port=14,hostbus=1,hostport=4.2,id=usb13"],
            ],
        ),
        (
            format!(
                "{LINUX}machine: pc-q35-7.0\nusb0: host=1-1\nusb1: host=1-2,usb3=1\nusb2: host=1-3\n"
            ),
            vec![
                &Q35,
                &NEC,
                &Q35_TABLET,
                &[
                    "-device",
                    "usb-host,hostbus=1,hostport=1,id=usb0",
                    "-device",
                    "usb-host,bus=xhci.0,hostbus=1,hostport=2,id=usb1",
                    "-device",
                    "usb-host,hostbus=1,hostport=3,id=usb2",
                ],
            ],
        ),
    ];
    for (config, arguments) in cases {
        let (node, _qemu) = start(&config, &arguments);
        let observed = node.open(false).observe(&Hardware::new()).unwrap();
        assert!(!observed.off);
        assert_eq!(by_name(&observed.hardware), by_name(&configured(&config)), "{config}");
        assert!(observed.ours.is_empty() && observed.foreign.is_empty());
    }
}

/// vusb adds its devices to controllers of its own, in slots that Proxmox VE does not use, and
/// never to Proxmox VE's xHCI.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn vusb_uses_controllers_and_slots_of_its_own() {
    let config = format!("{LINUX}usb0: host=0781:5581\n");
    let device = ["-device", "usb-host,bus=xhci.0,port=1,vendorid=0x0781,productid=0x5581,id=usb0"];
    for machine in [&PC[..], &Q35[..]] {
        let (node, qemu) = start(&config, &[machine, &XHCI, &device]);
        let mut driver = node.open(true);
        let mut base = driver.observe(&Hardware::new()).unwrap().hardware;
        for number in 0..2 {
            let kinds = ["mouse", "keyboard", "tablet", "hub"];
            let mut hardware =
                wanted(&mut *driver, &base, &kinds[number * 2..number * 2 + 2]).unwrap();
            let name = format!("own{number}");
            let spec: vusb_model::spec::ControllerSpec = vusb_model::spec::ControllerSpec {
                name: Some(name.parse().unwrap()),
                ..Default::default()
            };
            let spec = vusb_model::spec::Spec { controllers: vec![spec], ..Default::default() };
            let capabilities = driver.capabilities(Some(&spec)).unwrap();
            hardware = resolve(&hardware, &spec, &capabilities).unwrap().hardware;
            let steps = diff(&base, &hardware);
            driver.check(&steps).unwrap();
            for step in &steps {
                driver.perform(step).unwrap_or_else(|error| panic!("{step}: {error}"));
            }
            base = driver.observe(&hardware).unwrap().hardware;
            assert_eq!(lines(&base), lines(&hardware));
        }
        let own: Vec<String> = base
            .controllers()
            .filter(|it| it.name.as_str().starts_with("own"))
            .map(|it| it.pci.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(own, ["pci.2/19.0", "pci.2/1a.0"]);
        let xhci = base.controllers().find(|it| it.name.as_str() == "xhci").unwrap();
        assert_eq!(xhci.devices().count(), 1);
        // The monitor is free between two calls.
        let deadline = Deadline::after(Duration::from_secs(5));
        Client::connect(qemu.qmp_socket(), deadline).unwrap();
    }
}

/// `qm` reports success even if QEMU refuses a device, because it does not check.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_host_device_is_added_and_removed_by_qm() {
    let (node, _qemu) = start(LINUX, &[&PC, &TABLET]);
    install_qm(&node, "");
    let mut driver = node.open(true);
    let before = driver.observe(&Hardware::new()).unwrap().hardware;
    let hardware = wanted(&mut *driver, &before, &["host:0781:5581", "host:1-4"]).unwrap();
    let steps = diff(&before, &hardware);
    driver.check(&steps).unwrap();
    for step in &steps {
        driver.perform(step).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
    let now = driver.observe(&hardware).unwrap();
    assert_eq!(lines(&now.hardware), lines(&hardware));
    assert!(now.ours.is_empty(), "they belong to Proxmox VE");
    assert_eq!(node.config(), format!("{LINUX}usb0: host=0781:5581\nusb1: host=1-4\n"));
    assert!(node.is_locked(), "taken again after qm");
    let steps = diff(&now.hardware, &before);
    driver.check(&steps).unwrap();
    for step in &steps {
        driver.perform(step).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
    assert_eq!(node.config(), LINUX);
    drop(driver);

    install_qm(&node, "refused");
    let mut driver = node.open(true);
    let before = driver.observe(&Hardware::new()).unwrap().hardware;
    let hardware = wanted(&mut *driver, &before, &["host:0781:5581"]).unwrap();
    let steps = diff(&before, &hardware);
    driver.check(&steps).unwrap();
    let errors: Vec<Error> = steps.iter().filter_map(|step| driver.perform(step).err()).collect();
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert!(
        error.to_string().contains("qm reported success, but QEMU does not have the device"),
        "{error}"
    );
    // The change is undone, so that the next start does not include the device.
    assert_eq!(node.config(), LINUX);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn changes_that_a_running_guest_cannot_take_are_refused() {
    let (node, _qemu) = start(&format!("{LINUX}hotplug: disk\n"), &[&PC, &TABLET, &XHCI]);
    let mut driver = node.open(true);
    let before = driver.observe(&Hardware::new()).unwrap().hardware;
    let refusal = |driver: &mut dyn vusb_drivers::Driver, steps: &[Step]| {
        driver.check(steps).unwrap_err().to_string()
    };
    let hardware = wanted(&mut *driver, &before, &["host:0781:5581"]).unwrap();
    let error = refusal(&mut *driver, &diff(&before, &hardware));
    assert!(error.contains("its option `hotplug` does not include `usb`"), "{error}");
    let mut spec = vusb_model::spec::DeviceSpec::new("mouse".parse().unwrap());
    spec.controller = Some("xhci".parse().unwrap());
    spec.port = Some("3".parse().unwrap());
    let spec = vusb_model::spec::Spec { devices: vec![spec], ..Default::default() };
    let hardware = resolve(&before, &spec, &Capabilities::everything()).unwrap().hardware;
    let error = refusal(&mut *driver, &diff(&before, &hardware));
    assert!(error.contains("this controller is for usb0 to usb13"), "{error}");
    // There is no qm on this node.
    fs::write(node.config_path(), LINUX).unwrap();
    let before = driver.observe(&Hardware::new()).unwrap().hardware;
    let hardware = wanted(&mut *driver, &before, &["host:0781:5581"]).unwrap();
    let error = driver.check(&diff(&before, &hardware)).unwrap_err();
    assert!(matches!(&error, Error::Missing { .. }), "{error}");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_guest_that_starts_and_ends_is_reported() {
    let node = Node::new(LINUX);
    let mut watch = node.scheme().watch(&WatchOptions::default()).unwrap().unwrap();
    assert_eq!(watch.running().unwrap(), [""; 0]);
    let folder = node.root().join("var/run/qemu-server");
    let monitor =
        format!("socket,id=qmp,path={},server=on,wait=off", folder.join("100.qmp").display());
    let agent =
        format!("socket,id=qga,path={},server=on,wait=off", folder.join("100.qga").display());
    let arguments = ["-chardev", &monitor, "-mon", "chardev=qmp,mode=control", "-chardev", &agent];
    let qemu = BareQemu::start(PC.iter().chain(&arguments).copied()).unwrap();
    let limit = Duration::from_secs(20);
    assert_eq!(watch.wait(limit).unwrap(), [GuestEvent::Started("100".to_owned())]);
    drop(qemu);
    assert_eq!(watch.wait(limit).unwrap(), [GuestEvent::Ended("100".to_owned())]);
}

/// The variables that pass the arguments to the stand-in.
const ROOT: &str = "VUSB_TEST_PVE_ROOT";
const ARGUMENTS: &str = "VUSB_TEST_PVE_ARGUMENTS";
const FAULT: &str = "VUSB_TEST_PVE_FAULT";

/// Installs a program `qm` in the tree. It runs this test program, with its arguments in variables.
fn install_qm(node: &Node, fault: &str) {
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n{ROOT}='{}' {ARGUMENTS}=\"$*\" {FAULT}='{fault}' exec '{}' --ignored --exact running::stand_in >/dev/null\n",
        node.root().display(),
        own.display()
    );
    let path = node.root().join("usr/sbin/qm");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// `qm set VMID -usbN VALUE` and `qm set VMID --delete usbN`, as `vmconfig_hotplug_pending` in
/// `PVE/QemuServer.pm` does them on a running guest. It ignores QEMU's answers.
#[test]
#[ignore = "run by other tests in place of qm"]
fn stand_in() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let root = Path::new(&root);
    let lock = root.join("var/lock/qemu-server/lock-100.conf");
    let lock = OpenOptions::new().append(true).create(true).open(lock).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("vusb has released the lock");
    let arguments = std::env::var(ARGUMENTS).unwrap();
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let path = root.join("etc/pve/qemu-server/100.conf");
    let text = fs::read_to_string(&path).unwrap();
    let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
    let monitor = root.join("var/run/qemu-server/100.qmp");
    let run = |line: String| {
        let deadline = Deadline::after(Duration::from_secs(5));
        let mut client = Client::connect(&monitor, deadline).unwrap();
        let command = json!({"command-line": line});
        client.execute("human-monitor-command", command, deadline).unwrap_or_default()
    };
    match arguments[..] {
        ["set", "100", option, value] if option.starts_with("-usb") => {
            let key = option.trim_start_matches('-');
            all.retain(|line| !line.starts_with(&format!("{key}:")));
            all.push(format!("{key}: {value}"));
            all.sort();
            let port = key[3..].parse::<u8>().unwrap() + 1;
            let host = value.strip_prefix("host=").unwrap();
            let condition = match host.split_once(':') {
                Some((vendor, product)) => format!("vendorid=0x{vendor},productid=0x{product}"),
                None => {
                    let (bus, port) = host.split_once('-').unwrap();
                    format!("hostbus={bus},hostport={port}")
                }
            };
            let bus = if std::env::var(FAULT).unwrap() == "refused" { "none.0" } else { "xhci.0" };
            run("device_add qemu-xhci,p2=15,p3=15,id=xhci,bus=pci.1,addr=0x1b".to_owned());
            run(format!("device_add usb-host,bus={bus},port={port},{condition},id={key}"));
        }
        ["set", "100", "--delete", key] => {
            all.retain(|line| !line.starts_with(&format!("{key}:")));
            run(format!("device_del {key}"));
            if !all.iter().any(|line| line.starts_with("usb")) {
                run("device_del xhci".to_owned());
            }
        }
        _ => panic!("{arguments:?}"),
    }
    fs::write(&path, all.join("\n") + "\n").unwrap();
}
