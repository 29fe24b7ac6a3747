//! Guests that start with their USB hardware.

use vusb_rig::{BareQemu, Guest};

use crate::support::{Terminal, WAIT_LIMIT, boot, noise, sees, wait_for};

/// An ICH9 group for slow devices, and an xHCI for fast ones.
const SPEC: &str = r#"
domain = "cold"
[[controller]]
usbversion = 2
[[controller]]
usbversion = 3
ports = 4
[[device]]
kind = "mouse"
controller = "hci0"
port = "3"
[[device]]
kind = "storage"
file = "stick.img"
controller = 1
"#;

fn arguments(t: &Terminal, words: &str) -> Vec<String> {
    let answer: serde_json::Value =
        serde_json::from_str(&t.vusb(&format!("qemu-args {words} --json")).ok()).unwrap();
    self::words(&answer)
}

/// QEMU's arguments in the output of `qemu-args --json`.
pub(crate) fn words(answer: &serde_json::Value) -> Vec<String> {
    let list = answer.get("arguments").unwrap_or(answer);
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_full_speed_device_on_an_ich9_group() {
    let t = Terminal::new();
    let sum = t.write("stick.img", &noise(5));
    t.write("cold.toml", SPEC.as_bytes());
    for machine in ["pc", "q35"] {
        let guest = boot(&t, Guest::builder().machine(machine).args(arguments(&t, "cold.toml")));
        wait_for(&guest, 2);
        guest.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
        assert!(
            guest.sh("sha256sum /dev/sda", WAIT_LIMIT).unwrap().ok().unwrap().starts_with(&sum)
        );
        // The mouse is a full-speed device on a companion: port 3 of the EHCI is port 1 of the
        // second companion.
        let tree = guest.usb_tree().unwrap();
        let mouse = tree.iter().find(|device| device.name == "QEMU USB Mouse").unwrap();
        assert_eq!(mouse.speed, "12");
        let pci = guest.pci_tree().unwrap();
        let controller =
            pci.iter().find(|device| Some(device.address.as_str()) == mouse.controller()).unwrap();
        assert_eq!(controller.driver.as_deref(), Some("uhci_hcd"), "{}", controller.address);
        assert!(controller.address.ends_with(":1d.1"), "{}", controller.address);

        // The running guest has the planned hardware.
        assert_eq!(t.vusb("digest qemu:g.qmp").ok(), t.vusb("digest cold.toml").ok());
        let list = t.list("qemu:g.qmp");
        let names = ["/controllers/0/name", "/controllers/1/name", "/controllers/1/devices/0/name"];
        assert_eq!(
            names.map(|path| list.pointer(path).unwrap().as_str().unwrap()),
            ["hci0", "hci1", "storage0"]
        );
        assert_eq!(list["controllers"][0]["companions"].as_array().unwrap().len(), 3, "{list}");
    }
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn applying_the_spec_of_a_cold_start_changes_nothing() {
    let t = Terminal::new();
    t.write("stick.img", &noise(6));
    let guest = Guest::builder().args({
        t.write("cold.toml", SPEC.as_bytes());
        arguments(&t, "cold.toml")
    });
    let guest = boot(&t, guest);
    let socket = t.path("g.qmp");
    t.write("cold.toml", format!("driver = \"qemu:{}\"\n{SPEC}", socket.display()).as_bytes());
    assert_eq!(t.vusb("plan cold.toml").ok(), "");
    let ran = t.vusb("apply cold.toml");
    assert!(ran.err.contains("nothing to do"), "{}", ran.err);
    let _ = ran.ok();

    // A device is added to the file, which is one step, and is removed again.
    t.write(
        "cold.toml",
        format!("driver = \"qemu:{}\"\n{SPEC}\n[[device]]\nkind = \"tablet\"\n", socket.display())
            .as_bytes(),
    );
    let plan = t.vusb("plan cold.toml").ok();
    assert_eq!(plan.lines().count(), 1, "{plan}");
    let _ = t.vusb("apply cold.toml").ok();
    wait_for(&guest, 3);
    assert_eq!(sees(&guest).len(), 3);
    // The domain also has the name of its spec.
    assert_eq!(t.vusb("digest cold").ok(), t.vusb("digest qemu:g.qmp").ok());
    t.write("cold.toml", format!("driver = \"qemu:{}\"\n{SPEC}", socket.display()).as_bytes());
    let _ = t.vusb("apply cold.toml").ok();
    assert_eq!(t.vusb("plan cold.toml").ok(), "");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn spare_slots_on_q35() {
    let t = Terminal::new();
    t.write("none.toml", b"domain = \"none\"\n");
    let q35 = ["-machine", "q35", "-nodefaults"].map(str::to_owned);
    let bare = BareQemu::start(q35.clone()).unwrap();
    t.name(bare.qmp_socket(), "bare");
    let error = t.vusb("controller add qemu:bare.qmp").failed(6);
    assert!(error.contains("pcie-root-port") && error.contains("--spare-slots"), "{error}");

    let spare =
        BareQemu::start(q35.into_iter().chain(arguments(&t, "none.toml --spare-slots 1"))).unwrap();
    t.name(spare.qmp_socket(), "spare");
    assert_eq!(t.vusb("controller add qemu:spare.qmp").ok(), "hci0");
    let _ = t.vusb("controller add qemu:spare.qmp").failed(6);
}

/// A libvirt domain with this many tablets on one UHCI of two ports.
fn domain(tablets: usize) -> String {
    let inputs = "    <input type='tablet' bus='usb'/>\n".repeat(tablets);
    format!(
        "<domain type='qemu'>\n  <name>web1</name>\n  <memory unit='MiB'>256</memory>\n  <os>\n    \
         <type arch='x86_64' machine='pc'>hvm</type>\n  </os>\n  <devices>\n    \
         <controller type='usb' index='0' model='piix3-uhci'/>\n{inputs}  </devices>\n</domain>\n"
    )
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_libvirt_domain_starts_as_planned() {
    let t = Terminal::new();
    t.write("web1.xml", domain(16).as_bytes());
    let guest = boot(&t, Guest::builder().machine("pc").args(arguments(&t, "web1.xml")));
    // A UHCI, its root hub, three hubs for more ports, and all tablets behind them.
    guest
        .wait_until(
            "[ $(cat /sys/bus/usb/devices/*/product | grep -c 'QEMU USB Tablet') = 16 ]",
            WAIT_LIMIT,
        )
        .unwrap();
    let tree = guest.usb_tree().unwrap();
    let hubs: Vec<&str> =
        tree.iter().filter(|it| it.name == "QEMU USB Hub").map(|it| it.path.as_str()).collect();
    assert_eq!(hubs, ["1-1", "1-1.1", "1-2"]);
    assert!(tree.iter().any(|it| it.path == "1-2.1" && it.name == "QEMU USB Tablet"), "{tree:?}");
    assert_eq!(t.vusb("digest qemu:g.qmp").ok(), t.vusb("digest web1.xml").ok());
    let (running, planned) = (t.list("qemu:g.qmp"), t.list("web1.xml"));
    let places = |list: &serde_json::Value| -> Vec<String> {
        let devices = list["controllers"][0]["devices"].as_array().unwrap().iter();
        devices.map(|it| format!("{} {}", it["port"], it["kind"])).collect()
    };
    assert_eq!(places(&running), places(&planned));
    assert_eq!(places(&planned).len(), 19);
}
