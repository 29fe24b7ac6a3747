//! QEMU command lines.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use vusb_formats::config::Config;
use vusb_formats::{ConfigFormat as _, Libvirt, QemuArgs};
use vusb_model::device::{Audio, Chardev, ImageFormat, Kind, Mtp, Other, Serial, Storage};
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;

fn read(text: &str) -> Config {
    QemuArgs.read(text, "start.sh").unwrap_or_else(|error| panic!("{error}"))
}

/// Every device as `hci0:1 mouse`.
fn devices(hardware: &Hardware) -> Vec<String> {
    hardware.devices().map(|(at, it)| format!("{} {}", hardware.location(at), it.kind)).collect()
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(|it| it.brief().to_owned()).collect()
}

#[test]
fn a_script_becomes_the_hardware_that_qemu_would_have() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/web1.args");
    let config = read(&fs::read_to_string(path).unwrap());
    assert_eq!(
        devices(&config.fixed),
        [
            "hci0:1 tablet:usbversion=2",
            "hci0:2 storage:/srv/my stick.img",
            "fast:1 keyboard:usbversion=2",
        ]
    );
    let guest = &config.guest;
    assert_eq!((guest.name.as_deref(), guest.machine.as_deref()), (Some("web1"), Some("q35")));
    assert_eq!((guest.memory_kib, guest.vcpus), (Some(2 << 20), Some(2)));
    assert_eq!(warnings(&config), [""; 0]);
}

#[test]
fn back_ends_are_found_by_their_ids() {
    let config = read(
        "-usb -device qemu-xhci,id=x -blockdev driver=file,node-name=f,filename=/a.img -blockdev qcow2,node-name=q,file=f,read-only=on \
         -device usb-storage,drive=q,bus=x.0 -chardev socket,id=c,path=/run/s,server=on,wait=off -device usb-serial,chardev=c \
         -chardev spicevmc,id=r,name=usbredir -device usb-redir,chardev=r -netdev user,id=n -device usb-net,netdev=n \
         -device usb-host,hostbus=1,hostport=4.2,bus=usb-bus.0 -device usb-mtp,rootdir=/srv,port=8.1,bus=x.0",
    );
    assert_eq!(
        devices(&config.fixed),
        [
            "hci0:1 host:1-4.2",
            "x:1 storage:/a.img,format=qcow2,readonly",
            "x:2 serial:unix:/run/s,server",
            "x:3 redir:spicevmc",
            "x:4 hub",
            "x:4.1 net",
        ]
    );
    // Port 8.1 does not exist.
    assert_eq!(warnings(&config).len(), 1, "{:?}", warnings(&config));
}

#[test]
fn values_that_look_like_options_are_values() {
    let config = read(
        "-device qemu-xhci,id=x,p2=8 -drive if=none,id=d,file=/a,,readonly,format=raw \
         -device usb-storage,drive=d,serial=S,,1 -drive if=none,id=e,file=/b,,media=cdrom,format=raw \
         -device usb-storage,drive=e -device usb-mtp,rootdir=/x,,writable \
         -chardev file,id=f,path=/log,,server -device usb-serial,chardev=f \
         -chardev socket,id=s,path=/run/a,,server -device usb-serial,chardev=s \
         -device usb-audio,audiodev=a:b",
    );
    let kinds: Vec<Kind> = config.fixed.devices().map(|(_, it)| it.kind.clone()).collect();
    let serial = |chardev| Kind::Serial(Serial { chardev });
    assert_eq!(
        kinds,
        [
            // The model has no serial number with a comma.
            Kind::Other(Other { driver: "usb-storage".to_owned() }),
            Kind::Storage(Storage::new("/b,media=cdrom", ImageFormat::Raw)),
            Kind::Mtp(Mtp { dir: "/x,writable".to_owned(), writable: false }),
            serial(Chardev::File("/log,server".to_owned())),
            serial(Chardev::Unix { path: "/run/a,server".to_owned(), server: false }),
            Kind::Audio(Audio { audiodev: Some("a:b".to_owned()) }),
        ]
    );
}

#[test]
fn what_qemu_refuses_is_a_warning_with_its_position() {
    let config = read("-usb -device usb-mouse,port=3 \\\n -device usb-kbd,bus=x.0 -usbdevice fax");
    let expected = [
        "start.sh:2:37: QEMU does not start with this: the device is unknown",
        "start.sh:1:14: QEMU does not start with this: usb-bus.0 has no free port 3",
        "start.sh:2:10: QEMU does not start with this: there is no USB bus x.0",
    ];
    assert_eq!(warnings(&config), expected);
    assert!(QemuArgs.read("echo -usb", "start.sh").is_err());
}

#[test]
fn ports_of_libvirt_do_not_depend_on_arguments_that_bypass_it() {
    let xml = |arguments: &str| {
        format!(
            "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>a</name><os><type machine='q35'>hvm</type></os>\
             <devices><controller type='usb' index='0' model='qemu-xhci'/><input type='tablet' bus='usb'/></devices>\
             <qemu:commandline>{arguments}</qemu:commandline></domain>"
        )
    };
    let hardware = |arguments: &str| {
        let config = Libvirt.read(&xml(arguments), "a.xml").unwrap();
        let capabilities = Libvirt.capabilities(&config.guest);
        let mut hardware = resolve(&Hardware::new(), &config.spec, &capabilities).unwrap().hardware;
        let added = config.complete(&mut hardware);
        (devices(&hardware), added.len())
    };
    let argument = |value: &str| format!("<qemu:arg value='-device'/><qemu:arg value='{value}'/>");
    let tablet = "usb:1 tablet:usbversion=2".to_owned();
    assert_eq!(hardware(""), (vec![tablet.clone()], 0));
    let mouse = hardware(&argument("usb-mouse"));
    assert_eq!(mouse, (vec![tablet.clone(), "usb:2 mouse:usbversion=2".to_owned()], 1));
    // QEMU would refuse the mouse, because the port is in use by the tablet.
    assert_eq!(hardware(&argument("usb-mouse,bus=usb.0,port=1")), (vec![tablet.clone()], 0));
    // A device on another controller takes none of libvirt's ports.
    let own = argument("qemu-xhci,id=x") + &argument("usb-mouse");
    assert_eq!(hardware(&own), (vec![tablet], 0));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = QemuArgs.read(&text, "start.sh");
        let _ = QemuArgs.recognizes(&text);
    }

    #[test]
    fn any_devices_are_placed_or_refused(
        devices in prop::collection::vec(
            "(usb-(mouse|hub|kbd|storage|ehci)|qemu-xhci|pci-ohci|piix3-usb-uhci|ich9-usb-uhci1)(,(bus|port|id|p2|ports|masterbus|firstport)=[a0-9.]{1,4}){0,3}",
            0..40,
        ),
    ) {
        let words = devices.iter().map(|it| format!("-device {it}")).collect::<Vec<_>>();
        let config = read(&format!("kvm -usb {}", words.join(" \\\n ")));
        let placed = config.fixed.devices().count() + config.fixed.controllers().count();
        // QEMU may add hubs.
        prop_assert!(placed + config.warnings.len() <= 2 * devices.len() + 1);
    }

    #[test]
    fn words_are_those_of_a_shell(word in "[-a-z0-9 '\"\\\\=#;|&<>()]{1,12}", plain in "[a-z'\"\\\\ ]{1,12}") {
        let quoted = format!("'{}'", word.replace('\'', "'\\''"));
        let config = read(&format!("kvm -S -uuid {quoted}"));
        prop_assert_eq!(config.guest.uuid.as_deref(), Some(word.as_str()));
        // What a shell accepts without more quotes.
        let output = Command::new("sh").arg("-c").arg(format!("printf '%s\\n' {plain}x")).output().unwrap();
        if output.status.success() && !output.stdout.contains(&b'\\') {
            let by_shell = String::from_utf8(output.stdout).unwrap();
            let config = read(&format!("kvm -S -uuid {plain}x"));
            let first = by_shell.lines().next().unwrap_or_default().to_owned();
            prop_assert_eq!(config.guest.uuid, Some(first));
        }
    }
}
