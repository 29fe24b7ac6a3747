//! Proxmox VE's configuration: what a guest gets, and lossless edits.
//!
//! The expected arguments were written by hand from qemu-server's `PVE/QemuServer/USB.pm`, not with
//! this crate. `crates/drivers/tests/pve` starts a real QEMU with such arguments.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use vusb_formats::config::{Config, Edit};
use vusb_formats::{ConfigFormat as _, Pve, pve::usb_arguments};
use vusb_model::address::Address;
use vusb_model::capabilities::Capabilities;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::profile::Profile;
use vusb_model::resolve::resolve;

/// As `qm create` of Proxmox VE 9 writes it.
const LINUX: &str = "\
boot: order=scsi0
cores: 2
cpu: x86-64-v2-AES
memory: 2048
meta: creation-qemu=10.0.2,ctime=1756000000
name: web1
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0
ostype: l26
scsi0: local-lvm:vm-100-disk-0,size=8G
scsihw: virtio-scsi-single
smbios1: uuid=8d2f9d53-8d67-4b2f-a1ba-2a2b62a0a7c5
sockets: 2
usb0: host=0781:5581
usb3: host=1-4.2,usb3=1
vmgenid: 0e8b52b1-6a3e-4f3c-8ad8-d2f4a7a0d3f8
";

fn read(text: &str) -> Config {
    Pve.read(text, "100.conf").unwrap()
}

fn hardware(text: &str) -> Hardware {
    let config = read(text);
    let capabilities = Pve.capabilities(&config.guest);
    resolve(&Hardware::new(), &config.spec, &capabilities).unwrap().hardware
}

/// `INDEX NAME MODEL PORTS`, and `INDEX:PORT NAME KIND`.
fn lines(hardware: &Hardware) -> Vec<String> {
    let mut lines = Vec::new();
    for it in hardware.controllers() {
        let companions = if it.companions.is_empty() { "" } else { " group" };
        lines.push(format!(
            "{} {} {} {}{companions}",
            it.index,
            it.name,
            it.model,
            it.ports.count()
        ));
        for (port, device) in it.devices() {
            lines.push(format!("{}:{port} {} {}", it.index, device.name, device.kind));
        }
    }
    lines
}

fn usb_devices(text: &str) -> Vec<String> {
    let devices = usb_arguments(text).into_iter().filter(|it| it.starts_with("usb-"));
    devices.collect()
}

#[test]
fn a_current_guest_has_its_devices_on_a_qemu_xhci() {
    assert_eq!(
        lines(&hardware(LINUX)),
        [
            "0 uhci piix3-uhci 2",
            "0:1 tablet tablet:usbversion=2",
            "1 xhci qemu-xhci 15",
            "1:1 usb0 host:0781:5581",
            "1:4 usb3 host:1-4.2",
        ]
    );
    assert_eq!(
        usb_arguments(LINUX),
        [
            "-device",
            "pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e",
            "-device",
            "pci-bridge,id=pci.2,chassis_nr=2,bus=pci.0,addr=0x1f",
            "-device",
            "piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2",
            "-device",
            "qemu-xhci,p2=15,p3=15,id=xhci,bus=pci.1,addr=0x1b",
            "-device",
            "usb-tablet,id=tablet,bus=uhci.0,port=1",
            "-device",
            "usb-host,bus=xhci.0,port=1,vendorid=0x0781,productid=0x5581,id=usb0",
            "-device",
            "usb-host,bus=xhci.0,port=4,hostbus=1,hostport=4.2,id=usb3",
        ]
    );
    let guest = read(LINUX).guest;
    let expected = Guest {
        name: Some("web1".to_owned()),
        uuid: Some("8d2f9d53-8d67-4b2f-a1ba-2a2b62a0a7c5".to_owned()),
        arch: Some("x86_64".to_owned()),
        os: Some("l26".to_owned()),
        graphics: true,
        memory_kib: Some(2048 << 10),
        vcpus: Some(4),
        ..Guest::default()
    };
    assert_eq!(guest, expected);
    assert_eq!(read(LINUX).spec.profile, Profile::Pve1);
    assert_eq!(read(LINUX).warnings, []);
}

/// The version of the machine and the operating system decide.
#[test]
fn which_guests_are_current() {
    for (text, is_current) in [
        ("ostype: l26", true),
        ("", false),
        ("ostype: l24", false),
        ("ostype: other", false),
        ("ostype: win7", false),
        ("ostype: win11", false),
        ("ostype: win11\nmeta: creation-qemu=9.0.2", false),
        ("ostype: win11\nmeta: creation-qemu=9.1.0,ctime=1", true),
        ("ostype: win8\nmachine: pc-i440fx-7.1", true),
        ("ostype: win10\nmachine: pc-q35-10.0+pve1", true),
        ("ostype: wvista\nmachine: pc-q35-10.0+pve1", false),
        ("ostype: l26\nmachine: pc-i440fx-7.0", false),
        ("ostype: l26\nmachine: pc-i440fx-7.10", true),
        ("ostype: l26\nmachine: q35,viommu=intel", true),
        ("ostype: l26\nmachine: type=pc-q35-6.2", false),
    ] {
        let arguments = usb_arguments(&format!("{text}\nusb0: host=0781:5581\n")).join(" ");
        assert_eq!(arguments.contains("qemu-xhci"), is_current, "{text}");
    }
}

/// Proxmox VE leaves the ports to QEMU, and also the bus of a device without usb3. What QEMU does
/// was observed on a real one.
#[test]
fn the_devices_of_an_old_guest_are_where_qemu_puts_them() {
    let old = "ostype: l26\nmachine: pc-i440fx-7.0\nusb0: host=0781:5581\nusb1: host=1-4,usb3=1\nusb2: spice\n";
    assert_eq!(
        usb_devices(old),
        [
            "usb-tablet,id=tablet,bus=uhci.0,port=1",
            "usb-host,vendorid=0x0781,productid=0x5581,id=usb0",
            "usb-host,bus=xhci.0,hostbus=1,hostport=4,id=usb1",
            "usb-redir,chardev=usbredirchardev2,id=usbredirdev2,bus=ehci.0",
        ]
    );
    assert_eq!(
        lines(&hardware(old)),
        [
            "0 uhci piix3-uhci 2",
            "0:1 tablet tablet:usbversion=2",
            "1 ehci ich9-ehci1 6 group",
            "1:1 usb0 host:0781:5581",
            "1:2 usb2 redir:spicevmc",
            "2 xhci nec-xhci 4",
            "2:1 usb1 host:1-4",
        ]
    );
    let error = Pve.edit(old, &[add("host:0951:1666", "usb2", 3).edit()]).unwrap_err();
    assert!(
        error.why.text.contains("leaves the ports of this guest's devices to QEMU"),
        "{error:?}"
    );
}

#[test]
fn q35_and_arm() {
    let q35 = "machine: q35\nostype: l26\nusb13: spice\nvga: qxl\n";
    assert_eq!(
        lines(&hardware(q35)),
        [
            "0 ehci ich9-ehci1 6 group",
            "1 ehci-2 ich9-ehci2 6 group",
            "2 xhci qemu-xhci 15",
            "2:14 usb13 redir:spicevmc",
        ]
    );
    let arm = "arch: aarch64\nostype: l26\nusb0: host=0x0781:0x5581\n";
    assert_eq!(
        lines(&hardware(arm)),
        [
            "0 ehci ehci 6",
            "0:1 tablet tablet:usbversion=2",
            "0:2 keyboard keyboard:usbversion=2",
            "1 xhci qemu-xhci 15",
            "1:1 usb0 host:0781:5581",
        ]
    );
}

#[test]
fn the_tablet_depends_on_the_screen() {
    for (text, has) in [
        ("", true),
        ("vga: std", true),
        ("vga: type=qxl2,memory=64", false),
        ("vga: serial0", false),
        ("vga: none", true),
        ("tablet: 0", false),
        ("tablet: 1\nvga: qxl", true),
    ] {
        assert_eq!(usb_arguments(text).join(" ").contains("usb-tablet"), has, "{text}");
    }
}

/// A guest that does not run starts with what is pending. Snapshots do not matter.
#[test]
fn pending_changes_count_and_snapshots_do_not() {
    let text = "#my: note\nostype: l26\nusb0: host=0781:5581\nusb1: host=0951:1666\n\n[PENDING]\n\
                delete: usb0,!net0\nusb1: host=1-2\nusb4: spice\n\n[before]\nusb7: host=1-9\nsnaptime: 1\n";
    assert_eq!(
        usb_devices(text)[1..],
        [
            "usb-host,bus=xhci.0,port=2,hostbus=1,hostport=2,id=usb1",
            "usb-redir,chardev=usbredirchardev4,id=usbredirdev4,bus=xhci.0,port=5",
        ]
    );
}

#[test]
fn what_proxmox_ignores_is_reported() {
    let text = "ostype: l26\nusb0: host=781:5581\nusb1: mapping=zigbee,host=1-2\nusb14: host=1-2\nUSB2: host=1-2\n\
                usb3: SPICE\nusb4: host=1-2,usb2=1\nusb5:\n";
    let config = read(text);
    let briefs: Vec<&str> = config.warnings.iter().map(|it| it.brief()).collect();
    assert_eq!(
        briefs,
        [
            "100.conf:5:1: this is not `KEY: VALUE`",
            "100.conf:8:1: this is not `KEY: VALUE`",
            "100.conf:2:7: usb0 names `781:5581`: a device is VENDOR:PRODUCT (0781:5581) or BUS-PORT (1-4.2)",
            "100.conf:3:7: usb1 has both host and mapping",
            "100.conf:6:7: usb3 has to be `spice` in lower case: a guest with this does not start",
            "100.conf:7:7: usb4 has no option `usb2`",
            "100.conf:4:8: there is no usb14: the last one is usb13",
        ]
    );
    assert_eq!(config.spec.devices.len(), 1);
}

#[test]
fn arguments_and_mappings_are_listed() {
    let text = "args: -device usb-mouse,id=m,bus=uhci.0 -device 'qemu-xhci,id=own,bus=pci.2,addr=0x19' -device usb-kbd,bus=no.0\n\
                ostype: l26\nusb0: mapping=zigbee\n";
    assert_eq!(
        lines(&hardware(text)),
        [
            "0 uhci piix3-uhci 2",
            "0:1 tablet tablet:usbversion=2",
            "0:2 hub0 hub",
            "0:2.1 m mouse:usbversion=2",
            "1 xhci qemu-xhci 15",
            "1:1 usb0 other:usb-host",
            "2 own qemu-xhci 4",
        ]
    );
    let config = read(text);
    assert!(
        config
            .devices
            .iter()
            .any(|it| it.remarks == ["the cluster's mapping zigbee decides which device it is"])
    );
    assert_eq!(config.warnings.len(), 1);
    assert!(
        config.warnings[0].brief().starts_with("100.conf:1:7: QEMU does not start with this: ")
    );
}

/// A device and where it is added.
struct Added(Address, Device);

impl Added {
    fn edit(&self) -> Edit<'_> {
        Edit::AddDevice(self.0, &self.1)
    }
}

fn add(kind: &str, name: &str, port: u8) -> Added {
    let at = Address { bus: "1".parse().unwrap(), port: port.to_string().parse().unwrap() };
    Added(at, Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() })
}

fn edited(text: &str, edits: &[Edit<'_>]) -> String {
    Pve.edit(text, edits).unwrap()
}

#[test]
fn a_new_line_goes_where_qm_would_write_it() {
    let new = add("host:1-7", "usb10", 11);
    // qm sorts by bytes: usb10 before usb3.
    let expected = LINUX.replace("usb3: ", "usb10: host=1-7\nusb3: ");
    assert_eq!(edited(LINUX, &[new.edit()]), expected);
    let spice = add("redir:spicevmc", "usb0", 1);
    assert_eq!(
        edited("#note\nostype: l26\n\n[s1]\n", &[spice.edit()]),
        "#note\nostype: l26\nusb0: spice\n\n[s1]\n"
    );
}

#[test]
fn removing_a_device_changes_no_other_line() {
    let number = |text: &str, name: &str| {
        let config = read(text);
        let is_it = |it: &vusb_model::spec::DeviceSpec| it.name.as_ref().unwrap().as_str() == name;
        config.spec.devices.iter().position(is_it).unwrap()
    };
    let without = LINUX.replace("usb0: host=0781:5581\n", "");
    assert_eq!(edited(LINUX, &[Edit::RemoveDevice(number(LINUX, "usb0"))]), without);
    let tablet = edited(LINUX, &[Edit::RemoveDevice(number(LINUX, "tablet"))]);
    assert_eq!(tablet, LINUX.replace("usb0:", "tablet: 0\nusb0:"));
    // Its pending change is removed too, and the snapshot stays.
    let text = "ostype: l26\nusb1: host=1-2\n\n[PENDING]\ndelete: net0 usb2\nusb1: host=1-3\n\n[old]\nusb1: host=1-4\n";
    let removed = edited(text, &[Edit::RemoveDevice(number(text, "usb1"))]);
    assert_eq!(removed, "ostype: l26\n\n[PENDING]\ndelete: net0 usb2\n\n[old]\nusb1: host=1-4\n");
    let new = add("host:1-7", "usb2", 3);
    let added = edited(text, &[new.edit()]);
    assert_eq!(
        added,
        text.replace("usb1: host=1-2\n", "usb1: host=1-2\nusb2: host=1-7\n").replace(" usb2", "")
    );
}

#[test]
fn line_endings_are_kept_and_a_missing_last_one_is_added() {
    let new = add("host:1-7", "usb2", 3);
    assert_eq!(edited("ostype: l26", &[new.edit()]), "ostype: l26\nusb2: host=1-7\n");
    assert_eq!(
        edited("ostype: l26\r\nvga: std\r\n", &[new.edit()]),
        "ostype: l26\r\nusb2: host=1-7\r\nvga: std\r\n"
    );
}

#[test]
fn what_the_file_cannot_express_is_refused() {
    for (kind, port, why) in [
        ("storage:a.img", 2, "only has host devices"),
        ("host:0781:5581:4C53", 2, "by vendor and product (0781:5581) or by bus and port"),
        ("host:1-7", 15, "only ports 1 to 14 of xhci"),
    ] {
        let new = add(kind, "x", port);
        let error = Pve.edit(LINUX, &[new.edit()]).unwrap_err();
        assert!(error.why.text.contains(why), "{kind}: {error:?}");
    }
    let error = Pve.edit(LINUX, &[Edit::NoUsb]).unwrap_err();
    assert!(error.why.text.contains("gives a USB controller to every guest"), "{error:?}");
    assert!(Pve.edit(LINUX, &[Edit::RemoveController(0)]).is_err());
}

#[test]
fn a_written_text_is_read_as_the_same_hardware() {
    let config = read(LINUX);
    let hardware = hardware(LINUX);
    let written = Pve.write(&config.guest, &hardware);
    assert_eq!(written.lost, []);
    assert_eq!(lines(&self::hardware(&written.text)), lines(&hardware));
    assert_eq!(
        written.text,
        "cores: 4\nmemory: 2048\nname: web1\nostype: l26\nsmbios1: uuid=8d2f9d53-8d67-4b2f-a1ba-2a2b62a0a7c5\n\
         usb0: host=0781:5581\nusb3: host=1-4.2\n"
    );
}

#[test]
fn hardware_that_proxmox_does_not_have_is_reported_as_lost() {
    let text = "[[controller]]\nmodel = \"nec-xhci\"\n[[device]]\ndevice = \"storage:a.img\"\n[[device]]\nhost = \"1-2\"\n";
    let config = vusb_formats::VusbSpec.read(text, "a.toml").unwrap();
    let resolved = resolve(&Hardware::new(), &config.spec, &Capabilities::everything()).unwrap();
    let written = Pve.write(&config.guest, &resolved.hardware);
    assert_eq!(written.text, "ostype: l26\ntablet: 0\nusb0: host=1-2\n");
    let lost: Vec<&str> = written.lost.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(lost.len(), 3, "{lost:?}");
    assert!(lost[0].starts_with("storage0 (storage:a.img)"), "{lost:?}");
    assert!(lost[1].starts_with("the port of host0"), "{lost:?}");
    assert!(lost[2].contains("nec-xhci"), "{lost:?}");
}

proptest! {
    /// Any text can be read, and an empty edit changes nothing.
    #[test]
    fn any_text(text in "(?s).{0,200}") {
        let _ = Pve.read(&text, "x.conf");
        prop_assert_eq!(Pve.edit(&text, &[]).unwrap(), text);
    }

    /// Lines that look right, in any order and section.
    #[test]
    fn any_lines(lines in proptest::collection::vec(
        "(usb[0-9]{1,2}: (host=)?([0-9]-[1-4](\\.[1-4])?|0781:558[0-9]|spice|mapping=ab)(,usb3=[01])?|tablet: [01]|ostype: (l26|win7|win11)\
         |machine: (q35|pc-i440fx-[67]\\.[01])|delete: usb[0-3]|\\[(PENDING|snap1)\\]|#.{0,5}|args: -device usb-(mouse|hub|kbd)|arch: aarch64|)", 0..12)) {
        let text = lines.join("\n");
        let config = Pve.read(&text, "x.conf").unwrap();
        let capabilities = Pve.capabilities(&config.guest);
        let resolved = resolve(&Hardware::new(), &config.spec, &capabilities);
        prop_assert!(resolved.is_ok(), "{:?}", resolved);
        // Every device with its own line can be removed, and does not come back.
        for (number, device) in config.spec.devices.iter().enumerate() {
            let name = device.name.clone().unwrap();
            let Ok(edited) = Pve.edit(&text, &[Edit::RemoveDevice(number)]) else { continue };
            let after = Pve.read(&edited, "x.conf").unwrap();
            prop_assert!(after.spec.devices.iter().all(|it| it.name.as_ref() != Some(&name)), "{}", edited);
        }
    }
}
