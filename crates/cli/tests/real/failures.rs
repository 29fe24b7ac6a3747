//! Failures on a real QEMU: each has a clear message and the right exit code, and leaves a record
//! that matches the guest.

use std::time::{Duration, Instant};

use vusb_rig::{BareQemu, Guest};

use crate::support::{Terminal, WAIT_LIMIT, boot, wait_for};

fn bare(t: &Terminal, more: &[&str]) -> BareQemu {
    let qemu = BareQemu::start(["-machine", "pc", "-nodefaults"].iter().chain(more)).unwrap();
    t.name(qemu.qmp_socket(), "g");
    qemu
}

/// The names of all devices that are listed as attached.
fn attached(t: &Terminal) -> Vec<String> {
    let list = t.list("qemu:g.qmp");
    let controllers = list["controllers"].as_array().unwrap().iter();
    let devices = controllers.flat_map(|controller| controller["devices"].as_array().unwrap());
    let attached = devices.filter(|device| device["state"] == "attached");
    attached.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn impossible_requests_are_refused() {
    let t = Terminal::new();
    let _qemu = bare(&t, &["-device", "usb-ehci,id=fast"]);
    for (words, code, expected) in [
        (
            "device add qemu:g.qmp mouse --controller fast",
            6,
            vec!["full speed", "high speed only", "xHCI"],
        ),
        ("controller add qemu:g.qmp --usbversion 2", 9, vec!["ICH9", "--model ehci", "qemu-args"]),
        ("controller add qemu:g.qmp --model piix3-uhci --ports 3", 2, vec!["exactly 2"]),
        ("controller add qemu:g.qmp --type pv", 9, vec!["xenusb2", "paravirtual"]),
        ("controller add qemu:g.qmp --model xenusb3", 9, vec!["usbif", "xenusb2"]),
        ("controller add qemu:g.qmp --model pci-ohci", 9, vec!["hot add OHCI"]),
        ("controller add qemu:g.qmp --name fast --model nec-xhci", 4, vec!["fast", "ehci"]),
        ("device add qemu:g.qmp storage:nowhere.img", 3, vec!["nowhere.img"]),
        ("device add qemu:g.qmp 1234:5678", 3, vec!["1234:5678"]),
        ("device add qemu:g.qmp mouse --controller hci7", 3, vec!["hci7", "fast"]),
        (
            "device add qemu:g.qmp storage:real.img --controller fast --port 9",
            3,
            vec!["ports 1 to 6"],
        ),
        ("device remove qemu:g.qmp nothing", 3, vec!["nothing"]),
        ("controller remove qemu:g.qmp nothing", 3, vec!["nothing"]),
        ("device add qemu:g.qmp moose", 2, vec!["moose", "storage:FILE"]),
    ] {
        t.write("real.img", b"stick");
        let error = t.vusb(words).failed(code);
        for part in expected {
            assert!(error.contains(part), "{words}: {error}");
        }
    }
    assert_eq!(t.list("qemu:g.qmp")["controllers"].as_array().unwrap().len(), 1);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_full_controller_and_a_port_in_use() {
    let t = Terminal::new();
    let _qemu =
        bare(&t, &["-device", "piix3-usb-uhci,id=old", "-device", "usb-tablet,bus=old.0,port=2"]);
    let error = t.vusb("device add qemu:g.qmp mouse --controller old --port 2").failed(4);
    assert!(error.contains("in use by") && error.contains("tablet"), "{error}");
    assert_eq!(t.vusb("device add qemu:g.qmp mouse --controller old").ok(), "old:1");
    let error = t.vusb("device add qemu:g.qmp keyboard --controller old").failed(6);
    assert!(error.contains("full"), "{error}");
    // Without a controller in the request, one is found or added.
    assert_eq!(t.vusb("device add qemu:g.qmp keyboard").ok(), "hci0:1");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_missing_qemu_and_one_that_has_ended() {
    let t = Terminal::new();
    let error = t.vusb("list qemu:nowhere.qmp").failed(7);
    assert!(error.contains("-qmp unix:"), "{error}");

    let qemu = bare(&t, &[]);
    let _ = t.vusb("device add qemu:g.qmp mouse --name m").ok();
    qemu.kill();
    let error = t.vusb("device add qemu:g.qmp tablet").failed(7);
    assert!(error.contains("no program listens") || error.contains("does not exist"), "{error}");
    // The record still contains what the guest should have.
    let record = t.vusb("list --json").ok();
    assert!(record.contains("\"m\""), "{record}");
    // Unwanted items can be removed from it.
    let _ = t.vusb("device remove qemu:g.qmp m").failed(7);
    let _ = t.vusb("device remove qemu:g.qmp m --force").ok();
    assert!(!t.vusb("list --json").ok().contains("\"m\""));
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn another_program_holds_the_monitor() {
    let t = Terminal::new();
    let qemu = bare(&t, &[]);
    let holder = std::os::unix::net::UnixStream::connect(qemu.qmp_socket()).unwrap();
    let start = Instant::now();
    let error = t.vusb("list qemu:g.qmp --timeout 1").failed(4);
    assert!(error.contains("monitor"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(holder);
    let _ = t.vusb("list qemu:g.qmp").ok();
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn twenty_commands_at_the_same_moment() {
    let t = Terminal::new();
    let _qemu = bare(&t, &[]);
    let all: Vec<_> = (0..20)
        .map(|n| {
            t.command(&format!("device add qemu:g.qmp mouse --name m{n} --timeout 60"))
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut places: Vec<String> = all
        .into_iter()
        .map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 20, "{places:?}");
    assert_eq!(attached(&t).len(), 20);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_command_killed_at_any_moment() {
    let t = Terminal::new();
    let qemu = bare(&t, &[]);
    for n in 0u32..40 {
        let file = format!("stick{n}.img");
        t.write(&file, &[0; 4096]);
        let mut child = t
            .command(&format!("device add qemu:g.qmp storage:{file} --name s{n}"))
            .spawn()
            .unwrap();
        // The kills range from before the command starts to after it has ended.
        std::thread::sleep(Duration::from_micros(u64::from(n) * 700));
        let _ = child.kill();
        let _ = child.wait();
    }
    // The next command recovers, and then does its own work.
    let _ = t.vusb("device add qemu:g.qmp mouse --name last").ok();
    let listed = attached(&t);
    assert!(listed.contains(&"last".to_owned()), "{listed:?}");
    // The devices listed as attached are exactly those that QEMU has.
    let tree =
        qemu.qmp("human-monitor-command", serde_json::json!({"command-line": "info usb"})).unwrap();
    assert_eq!(tree.as_str().unwrap().matches("ID: vusb-").count(), listed.len(), "{tree}");
    // All of them can be removed.
    for name in listed {
        let _ = t.vusb(&format!("device remove qemu:g.qmp {name}")).ok();
    }
    assert_eq!(
        qemu.qmp("query-named-block-nodes", serde_json::json!({})).unwrap(),
        serde_json::json!([])
    );
}

/// The back ends of vusb that QEMU has, whether or not their devices exist.
fn backends(qemu: &BareQemu) -> Vec<String> {
    let strings = |list: serde_json::Value, key: &str| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|it| it[key].as_str().unwrap().to_owned()).collect()
    };
    let none = || serde_json::json!({});
    let mut all = strings(qemu.qmp("query-named-block-nodes", none()).unwrap(), "node-name");
    all.extend(strings(qemu.qmp("query-chardev", none()).unwrap(), "label"));
    let info = serde_json::json!({"command-line": "info network"});
    let info = qemu.qmp("human-monitor-command", info).unwrap();
    all.extend(info.as_str().unwrap().split([' ', ':']).map(str::to_owned));
    all.retain(|it| it.starts_with("vusb-"));
    all
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_removal_killed_at_any_moment_leaves_no_back_end() {
    let t = Terminal::new();
    let qemu = bare(&t, &["-device", "qemu-xhci,id=hci"]);
    t.write("a.img", &[0; 4096]);
    let devices = ["storage:a.img", "serial:unix:a.sock,server", "net"];
    for n in 0u32..60 {
        let device = devices[n as usize % devices.len()];
        let _ = t.vusb(&format!("device add qemu:g.qmp {device} --name gone")).ok();
        let mut child = t.command("device remove qemu:g.qmp gone").spawn().unwrap();
        // The kills range from before the command starts to after it has ended.
        std::thread::sleep(Duration::from_micros(u64::from(n) * 400));
        let _ = child.kill();
        let _ = child.wait();
        let _ = t.vusb("device add qemu:g.qmp mouse --name next").ok();
        if attached(&t).contains(&"gone".to_owned()) {
            let _ = t.vusb("device remove qemu:g.qmp gone").ok();
        }
        assert_eq!(backends(&qemu), [""; 0], "{device}, kill {n}");
    }
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn removing_a_device_that_another_client_took_out_removes_its_back_end() {
    let t = Terminal::new();
    let qemu = bare(&t, &["-device", "qemu-xhci,id=hci"]);
    t.write("a.img", &[0; 4096]);
    for device in ["storage:a.img", "serial:unix:a.sock,server", "net"] {
        let _ = t.vusb(&format!("device add qemu:g.qmp {device} --name gone")).ok();
        qemu.qmp("device_del", serde_json::json!({"id": "vusb-gone"})).unwrap();
        let is_gone = |data: &serde_json::Value| data["device"] == "vusb-gone";
        qemu.wait_event("DEVICE_DELETED", is_gone, Duration::from_secs(30)).unwrap();
        assert_ne!(backends(&qemu), [""; 0], "{device}");
        let _ = t.vusb("device remove qemu:g.qmp gone").ok();
        assert_eq!(backends(&qemu), [""; 0], "{device}");
    }
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_guest_that_does_not_release_a_device() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    let _ = t.vusb("controller add qemu:g.qmp").ok();
    guest.wait_until("[ -e /sys/bus/usb/devices/usb1 ]", WAIT_LIMIT).unwrap();
    // A paused guest cannot release a PCI device: that is an error before anything is changed.
    guest.qemu().qmp("stop", serde_json::json!({})).unwrap();
    let error = t.vusb("controller remove qemu:g.qmp hci0 --timeout 1").failed(1);
    assert!(error.contains("paused"), "{error}");
    assert_eq!(t.list("qemu:g.qmp")["controllers"][0]["name"], "hci0");
    guest.qemu().qmp("cont", serde_json::json!({})).unwrap();
    let _ = t.vusb("controller remove qemu:g.qmp hci0 --timeout 60").ok();
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_device_removed_while_the_guest_reads() {
    let t = Terminal::new();
    let guest = boot(&t, Guest::builder());
    std::fs::File::create(t.path("big.img")).unwrap().set_len(1 << 30).unwrap();
    let _ = t.vusb("device add qemu:g.qmp storage:big.img --name big").ok();
    guest.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
    let _ =
        guest.sh("dd if=/dev/sda of=/dev/null bs=64k >/tmp/dd 2>&1 & sleep 1", WAIT_LIMIT).unwrap();
    let _ = t.vusb("device remove qemu:g.qmp big").ok();
    wait_for(&guest, 0);
    // The port and the image are free again.
    assert_eq!(t.vusb("device add qemu:g.qmp storage:big.img --name big").ok(), "hci0:1");
    guest.wait_until("[ -b /dev/sd[ab] ]", WAIT_LIMIT).unwrap();
}
