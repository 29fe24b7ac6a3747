//! Moves, several devices in one command, and terminals, on a real QEMU that runs no guest.

use std::os::unix::fs::FileTypeExt as _;

use vusb_rig::BareQemu;

use crate::support::{Terminal, noise};

fn bare(t: &Terminal, more: &[&str]) -> BareQemu {
    let qemu = BareQemu::start(["-machine", "pc", "-nodefaults"].iter().chain(more)).unwrap();
    t.name(qemu.qmp_socket(), "g");
    qemu
}

/// The location, the name and the state of each device.
fn devices(t: &Terminal) -> Vec<String> {
    let list = t.vusb("device list qemu:g.qmp --json").ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let text = |device: &serde_json::Value, key: &str| device[key].as_str().unwrap().to_owned();
    let all = list["devices"].as_array().unwrap().iter();
    all.map(|it| ["at", "name", "state"].map(|key| text(it, key)).join(" ")).collect()
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn devices_move_between_ports_and_controllers() {
    let t = Terminal::new();
    let qemu = bare(&t, &[]);
    t.write("stick.img", &noise(1));
    let added = t.vusb("device add qemu:g.qmp storage:stick.img tablet hub").ok();
    // A hub comes first, since others may need its ports.
    assert_eq!(added, "hci0:2\nhci0:3\nhci0:1");
    assert_eq!(t.vusb("device add qemu:g.qmp mouse --port 1.2").ok(), "hci0:1.2");
    assert_eq!(t.vusb("controller add qemu:g.qmp --usbversion 1").ok(), "hci1");
    assert_eq!(t.vusb("device move qemu:g.qmp storage0 --port 9").ok(), "hci0:9");
    assert_eq!(t.vusb("device move qemu:g.qmp tablet0 --controller hci1").ok(), "hci1:1");
    assert_eq!(t.vusb("device move qemu:g.qmp hub0 --port 5").ok(), "hci0:5");
    let expected = [
        "hci0:5 hub0 attached",
        "hci0:5.2 mouse0 attached",
        "hci0:9 storage0 attached",
        "hci1:1 tablet0 attached",
    ];
    assert_eq!(devices(&t), expected);
    let usb = qemu.qmp("human-monitor-command", serde_json::json!({"command-line": "info usb"}));
    let usb = usb.unwrap().to_string();
    for line in ["Port 5.2, Speed 12 Mb/s, Product QEMU USB Mouse", "Port 9, Speed 5000 Mb/s"] {
        assert!(usb.contains(line), "{line}: {usb}");
    }
    let _ = t.vusb("device remove qemu:g.qmp hub0 mouse0 storage0 tablet0").ok();
    assert_eq!(devices(&t), [""; 0]);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_move_that_qemu_refuses_is_undone() {
    let t = Terminal::new();
    // This controller has one port less than others of its model.
    let _qemu = bare(&t, &["-device", "pci-ohci,id=short,num-ports=2"]);
    t.write("stick.img", &noise(1));
    assert_eq!(t.vusb("device add qemu:g.qmp tablet --port 2").ok(), "short:2");
    let error = t.vusb("device move qemu:g.qmp tablet0 --port 3").failed(1);
    assert!(error.contains("undone: unplug tablet0"), "{error}");
    assert_eq!(devices(&t), ["short:2 tablet0 attached"]);
    // Either all devices are added or none.
    let error = t.vusb("device add qemu:g.qmp mouse storage:none.img").failed(3);
    assert!(error.contains("none.img"), "{error}");
    assert_eq!(devices(&t), ["short:2 tablet0 attached"]);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn the_terminal_of_a_serial_adapter_is_shown() {
    let t = Terminal::new();
    let _qemu = bare(&t, &[]);
    let added = t.vusb("device add qemu:g.qmp serial:pty");
    let (_, rest) = added.err.split_once("serial0 is connected to ").unwrap();
    let path = rest.lines().next().unwrap().to_owned();
    assert!(std::fs::metadata(&path).unwrap().file_type().is_char_device(), "{path}");
    assert_eq!(added.ok(), "hci0:1");
    let list = t.list("qemu:g.qmp");
    assert_eq!(list["controllers"][0]["devices"][0]["terminal"], path);
    assert!(t.vusb("list qemu:g.qmp").ok().contains(&format!("pty {path}")));
    assert!(t.vusb("list qemu:g.qmp --tree").ok().contains(&format!("serial pty {path}")));
    // The terminal is also shown for a guest that another tool started.
    let _other = bare(&t, &["-usb", "-chardev", "pty,id=c", "-device", "usb-serial,chardev=c"]);
    let list = t.list("qemu:g.qmp");
    let terminal = list["controllers"][1]["devices"][0]["terminal"].as_str();
    assert!(terminal.is_some_and(|it| it.starts_with("/dev/pts/")), "{list}");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_guest_is_started_with_the_hardware_of_another() {
    let t = Terminal::new();
    let first = bare(&t, &[]);
    t.write("stick.img", &noise(1));
    let _ = t.vusb("controller add qemu:g.qmp --usbversion 3 --ports 6").ok();
    let _ = t.vusb("device add qemu:g.qmp storage:stick.img tablet").ok();
    let digest = t.vusb("digest qemu:g.qmp --pci").ok();
    let arguments: serde_json::Value =
        serde_json::from_str(&t.vusb("qemu-args qemu:g.qmp --json").ok()).unwrap();
    drop(first);
    let arguments: Vec<&str> =
        arguments["arguments"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let _second = bare(&t, &arguments);
    assert_eq!(t.vusb("digest qemu:g.qmp --pci").ok(), digest);
}
