//! Compares how vusb reads command lines with what a real QEMU makes of them, according to `info
//! usb`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use vusb_rig::BareQemu;

use crate::support::Terminal;

/// Machines with USB on PCI.
const PCI: [&str; 4] = ["pc", "q35", "pc-i440fx-3.1", "pc-q35-4.2"];

/// Options that each of these machines is started with.
const WITH_PCI: [&str; 16] = [
    "-usb -device usb-mouse -device usb-kbd -device usb-tablet",
    "-usb -device usb-mouse -device qemu-xhci -device usb-kbd",
    "-usb -device qemu-xhci -device usb-kbd -usbdevice tablet -usbdevice mouse",
    "-device qemu-xhci,id=a -device nec-usb-xhci,id=b -device usb-kbd -device usb-mouse,bus=a.0",
    "-device piix3-usb-uhci -device usb-mouse -device usb-mouse -device usb-mouse -device usb-mouse",
    "-device qemu-xhci,p2=2,p3=2 -device usb-hub -device usb-mouse -device usb-mouse -device usb-mouse",
    "-global qemu-xhci.p2=2 -global driver=qemu-xhci,property=p3,value=1 -device qemu-xhci -device usb-mouse -device usb-mouse",
    "-device piix3-usb-uhci,id=x -device usb-hub,port=1 -device usb-mouse,port=1.3 -device usb-mouse",
    r#"-usb -device {"driver":"qemu-xhci","id":"x"} -device usb-kbd -device {"driver":"usb-mouse","bus":"x.0","port":"3"}"#,
    "-device usb-ehci -device usb-mouse -device usb-mouse -device usb-mouse -device usb-mouse -device usb-mouse -device usb-mouse",
    "-device pci-ohci,num-ports=5 -device usb-mouse -device usb-mouse -device usb-mouse -device usb-mouse -device usb-mouse",
    "-device ich9-usb-ehci1,id=e,addr=1c.7,multifunction=on -device ich9-usb-uhci1,masterbus=e.0,firstport=0,addr=1c.0,multifunction=on -device usb-mouse -device usb-hub -device usb-kbd",
    "-device piix4-usb-uhci -device usb-hub,ports=2 -device usb-hub -device usb-hub -device usb-mouse -device usb-mouse",
    "-device qemu-xhci -chardev null,id=c -device usb-serial,chardev=c -device usb-ccid -device usb-wacom-tablet -netdev user,id=n -device usb-net,netdev=n",
    "-device nec-usb-xhci,id=x -set device.x.p2=3 -device usb-tablet,usb_version=1 -device usb-kbd,id=keys,port=3",
    "-device pci-bridge,id=br,chassis_nr=1 -device qemu-xhci,bus=br,addr=2,id=far -device piix3-usb-uhci,id=near -device usb-mouse -device usb-kbd,bus=far.0",
];

/// Options for a machine without PCI.
const WITHOUT_PCI: [(&str, &str); 6] = [
    ("microvm", "-usb -device usb-mouse"),
    ("microvm,usb=on", "-device usb-mouse -usbdevice keyboard -device usb-tablet -device usb-kbd"),
    (
        "microvm",
        "-usb -device usb-hub -device usb-mouse,port=1.2 -device usb-kbd -device usb-mouse",
    ),
    ("microvm", "-display none"),
    ("isapc", "-usb"),
    ("isapc", "-display none"),
];

/// A word in single quotes.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A device of `info usb` as `BUS PORT PRODUCT`.
fn of_qemu(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("Device ")?;
    let (bus, rest) = rest.split_once('.')?;
    let (_, rest) = rest.split_once("Port ")?;
    let (port, rest) = rest.split_once(',')?;
    let (_, product) = rest.split_once("Product ")?;
    let product = product.split(", ID").next()?;
    Some(format!("{bus} {port} {product}"))
}

/// QEMU's product name of a device of `vusb list`.
fn product(device: &Value) -> &'static str {
    match (device["kind"].as_str().unwrap(), device["driver"].as_str().unwrap_or_default()) {
        ("mouse", _) => "QEMU USB Mouse",
        ("tablet", _) => "QEMU USB Tablet",
        ("keyboard", _) => "QEMU USB Keyboard",
        ("hub", _) => "QEMU USB Hub",
        ("serial", _) => "QEMU USB Serial",
        ("ccid", _) => "QEMU USB CCID",
        ("net", _) => "QEMU USB Network Interface",
        ("other", "usb-wacom-tablet") => "QEMU PenPartner Tablet",
        other => panic!("{other:?}"),
    }
}

/// Every device of a list as `BUS PORT PRODUCT`.
fn of_vusb(list: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for (bus, controller) in list["controllers"].as_array().unwrap().iter().enumerate() {
        for device in controller["devices"].as_array().unwrap() {
            let port = device["port"].as_str().unwrap();
            all.push(format!("{bus} {port} {}", product(device)));
        }
    }
    all.sort();
    all
}

fn compare(t: &Terminal, machine: &str, options: &str) {
    let words: Vec<&str> = options.split(' ').collect();
    let mut script =
        format!("#!/bin/sh\n# -device usb-mouse\nexec qemu-system-x86_64 -M {machine}");
    for word in &words {
        let newline = if word.starts_with('-') { "\\\n " } else { "" };
        let _ = write!(script, " {newline}{}", quoted(word));
    }
    t.write("start.sh", script.as_bytes());
    let read = t.vusb("list start.sh --from qemu-args --json").ok();
    let read: Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["notes"], json!([]), "{machine} {options}");

    let arguments = ["-M", machine, "-nodefaults"].into_iter().chain(words);
    let qemu = BareQemu::start(arguments).unwrap_or_else(|error| panic!("{options}: {error}"));
    let info = json!({"command-line": "info usb"});
    let info = qemu.qmp("human-monitor-command", info).unwrap();
    let mut expected: Vec<String> = info.as_str().unwrap().lines().filter_map(of_qemu).collect();
    expected.sort();
    assert_eq!(of_vusb(&read), expected, "{machine} {options}");
    // vusb observes the same hardware in the running QEMU.
    t.name(qemu.qmp_socket(), "g");
    let digest = |what: &str| t.vusb(what).ok();
    // QEMU numbers the network cards without an address, and an OHCI does not show its ports.
    if !options.contains("num-ports") && !options.contains("usb-net") {
        assert_eq!(
            digest("digest start.sh --from qemu-args"),
            digest("digest qemu:g.qmp"),
            "{machine} {options}"
        );
    }
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn devices_are_where_qemu_puts_them() {
    let t = Terminal::new();
    for machine in PCI {
        for options in WITH_PCI {
            compare(&t, machine, options);
        }
    }
    for (machine, options) in WITHOUT_PCI {
        compare(&t, machine, options);
    }
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn the_arguments_of_a_running_qemu_are_a_command_line() {
    let t = Terminal::new();
    let options = ["-M", "q35", "-usb", "-device", "usb-mouse", "-name", "web1"];
    let qemu = BareQemu::start(options).unwrap();
    let list = t.vusb(&format!("list /proc/{}/cmdline --from qemu-args", qemu.pid())).ok();
    assert!(list.contains("ich9-ehci1 + companions") && list.contains("mouse0"), "{list}");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_running_qemu_has_the_name_of_its_command_line() {
    let t = Terminal::new();
    let name = format!("web-{}", std::process::id());
    let option = format!("guest={name},debug-threads=on");
    let options = ["-M", "q35", "-nodefaults", "-device", "qemu-xhci,id=x", "-name", &option];
    let qemu = BareQemu::start(options).unwrap();
    let list = t.list(&name);
    assert_eq!(list["domain"], *name);
    assert_eq!(list["address"], format!("qemu:{}", qemu.qmp_socket().display()));
    assert_eq!(t.vusb(&format!("device add {name} mouse")).ok(), "x:1");
    // Its record has the name too.
    let domains = t.vusb("domain list").ok();
    assert!(domains.contains(&name), "{domains}");
    let error = t.vusb("list web-nobody").failed(3);
    assert!(error.contains(&format!("{name} (qemu:")), "{error}");
}
