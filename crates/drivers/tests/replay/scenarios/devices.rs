//! Devices from a command line.

use vusb_model::device::Kind;
use vusb_model::selector::Selector;

use super::{Scenario, X86, scenarios};
use crate::stage::{Stage, expect, hardware, lines, states};

/// Host devices that QEMU looks for. None of them is plugged in.
pub(crate) const HOST_DEVICES: Scenario = Scenario {
    name: "pc-host-devices",
    arguments: &[
        "-machine",
        "pc",
        "-nodefaults",
        "-device",
        "qemu-xhci,p2=8,p3=8",
        "-device",
        "usb-host,vendorid=0x0781,productid=0x5581",
        "-device",
        "usb-host,hostbus=1,hostport=2",
        "-device",
        "usb-host,vendorid=0x0781",
        "-device",
        "usb-host,vendorid=0x1d6b,productid=0x0104,id=vusb-stick",
        "-device",
        "usb-tablet",
    ],
    kind: X86,
    script: host_devices,
};

scenarios! {
    hubs_behind_hubs = Scenario {
        name: "pc-hubs",
        arguments: &[
            "-machine", "pc", "-nodefaults", "-device", "qemu-xhci",
            "-device", "usb-hub,port=2",
            "-device", "usb-hub,port=2.1,ports=4",
            "-device", "usb-hub,port=2.1.3",
            "-device", "usb-kbd,port=2.1.3.8",
            "-device", "usb-mouse,port=2.1.2",
            "-device", "usb-hub,port=2.2",
            "-device", "usb-tablet,port=1",
        ],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &[
                "0 hci0 qemu-xhci 4/4",
                "0:1 tablet0 tablet:usbversion=2",
                "0:2 hub0 hub",
                "0:2.1 hub1 hub:ports=4",
                "0:2.1.2 mouse0 mouse:usbversion=2",
                "0:2.1.3 hub2 hub",
                "0:2.1.3.8 keyboard0 keyboard:usbversion=2",
                "0:2.2 hub3 hub",
            ]);
        },
    };
    disks_of_every_form = Scenario {
        name: "pc-storage",
        arguments: &[
            "-machine", "pc", "-nodefaults", "-device", "qemu-xhci,p2=10,p3=10",
            "-drive", "if=none,id=d0,file=DIR/stick.img,format=raw",
            "-device", "usb-storage,drive=d0",
            "-blockdev", "driver=file,filename=DIR/disk.qcow2,node-name=f1,read-only=on",
            "-blockdev", "driver=qcow2,file=f1,node-name=n1,read-only=on",
            "-device", "usb-storage,drive=n1,id=second",
            "-blockdev", "driver=file,filename=DIR/stick,, the second.img,node-name=f2,read-only=on",
            "-device", "usb-storage,drive=f2",
            "-blockdev", "driver=null-co,node-name=n3,size=1048576,read-zeroes=on",
            "-device", "usb-storage,drive=n3",
            "-blockdev", "driver=null-co,node-name=n4,size=1048576,read-zeroes=on",
            "-device", "usb-bot,id=bot", "-device", "scsi-hd,drive=n4,bus=bot.0",
            "-device", "usb-uas",
        ],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            let (raw, qcow2, third) =
                (stage.path("stick.img"), stage.path("disk.qcow2"), stage.path("stick, the second.img"));
            expect(&observed.hardware, &[
                "0 hci0 qemu-xhci 10/10",
                &format!("0:1 storage0 storage:{raw}"),
                &format!("0:2 second storage:{qcow2},readonly"),
                // A file without a format is raw.
                &format!("0:3 storage1 storage:{third},readonly"),
                // What cannot be described is shown by QEMU's name.
                "0:4 other0 other:usb-storage",
                "0:5 bot other:usb-bot",
                "0:6 other1 other:usb-uas",
            ]);
        },
    };
    streams_of_every_form = Scenario {
        name: "pc-streams",
        arguments: &[
            "-machine", "pc", "-nodefaults", "-device", "qemu-xhci,p2=15,p3=15",
            "-chardev", "pty,id=c0", "-device", "usb-serial,chardev=c0,always-plugged=on",
            "-chardev", "null,id=c1", "-device", "usb-serial,chardev=c1",
            "-chardev", "file,id=c2,path=DIR/log", "-device", "usb-serial,chardev=c2",
            "-chardev", "socket,id=c3,path=DIR/near,,1,server=on,wait=off", "-device", "usb-serial,chardev=c3",
            "-chardev", "socket,id=c4,path=DIR/far", "-device", "usb-serial,chardev=c4",
            "-chardev", "socket,id=c5,host=127.0.0.1,port=47101,server=on,wait=off", "-device", "usb-redir,chardev=c5",
            "-chardev", "socket,id=c6,host=::1,port=47102,server=on,wait=off", "-device", "usb-redir,chardev=c6",
            "-chardev", "socket,id=c7,host=127.0.0.1,port=47109", "-device", "usb-serial,chardev=c7",
            "-chardev", "socket,id=c8,path=DIR/redir,server=on,wait=off", "-device", "usb-redir,chardev=c8,id=own",
            "-chardev", "stdio,id=c9", "-device", "usb-serial,chardev=c9",
        ],
        kind: X86,
        script: streams,
    };
    host_devices_that_are_absent = HOST_DEVICES;
    every_other_kind = Scenario {
        name: "pc-other-kinds",
        arguments: &[
            "-machine", "pc", "-nodefaults", "-device", "qemu-xhci,p2=15,p3=15",
            "-audiodev", "none,id=snd", "-device", "usb-audio,audiodev=snd",
            "-netdev", "user,id=n0", "-device", "usb-net,netdev=n0,mac=52:54:00:00:00:01",
            "-device", "usb-net,mac=52:54:00:00:00:02",
            "-netdev", "user,id=vusb-net7", "-device", "usb-net,id=vusb-net7,netdev=vusb-net7,mac=52:54:00:00:00:03",
            "-device", "usb-mtp,rootdir=DIR",
            "-device", "usb-mtp,rootdir=DIR,readonly=off",
            "-device", "usb-ccid,id=reader",
            "-device", "usb-wacom-tablet",
            "-device", "usb-kbd,usb_version=1",
            "-device", "usb-mouse,usb_version=1,id=rodent",
            "-device", "usb-tablet,usb_version=1",
        ],
        kind: X86,
        script: |stage| {
            let folder = stage.path("");
            let folder = folder.trim_end_matches('/');
            let observed = stage.observe();
            expect(&observed.hardware, &[
                "0 hci0 qemu-xhci 15/15",
                "0:1 audio0 audio:snd",
                "0:2 net0 net:id:n0,mac=52:54:00:00:00:01",
                "0:3 net1 net:none,mac=52:54:00:00:00:02",
                "0:4 net7 net:user,mac=52:54:00:00:00:03",
                &format!("0:5 mtp0 mtp:{folder}"),
                &format!("0:6 mtp1 mtp:{folder},writable"),
                "0:7 reader ccid",
                "0:8 other0 other:usb-wacom-tablet",
                "0:9 keyboard0 keyboard",
                "0:10 rodent mouse",
                "0:11 tablet0 tablet",
            ]);
            assert_eq!(observed.ours.iter().map(ToString::to_string).collect::<Vec<_>>(), ["net7"]);
        },
    };
    ids_of_vusb = Scenario {
        name: "pc-own-ids",
        arguments: &[
            "-machine", "pc", "-nodefaults",
            "-device", "qemu-xhci,id=vusb-3x8x4-front,p2=8,p3=4",
            "-device", "usb-ehci,id=vusb-1-back",
            "-device", "nec-usb-xhci,id=vusb-0x15-hci0,p2=15,p3=15",
            // An id of vusb for an index that is taken: the lowest free index.
            "-device", "piix3-usb-uhci,id=vusb-1-twice",
            "-device", "usb-mouse,id=vusb-rodent,bus=vusb-3x8x4-front.0,port=2",
            "-device", "usb-kbd,id=vusb-keys,bus=vusb-1-back.0,port=4",
        ],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &[
                "0 hci0 nec-xhci 15/15",
                "1 back ehci 6/0",
                "1:4 keys keyboard:usbversion=2",
                "2 twice piix3-uhci 2/0",
                "3 front qemu-xhci 8/4",
                "3:2 rodent mouse:usbversion=2",
            ]);
            let ours: Vec<String> = observed.ours.iter().map(ToString::to_string).collect();
            assert_eq!(ours, ["back", "front", "hci0", "keys", "rodent", "twice"]);
        },
    };
    ids_of_libvirt_and_libxl = Scenario {
        name: "pc-aliases",
        arguments: &[
            "-machine", "pc", "-nodefaults",
            "-device", "usb-ehci,id=usb7",
            "-device", "piix3-usb-uhci",
            "-device", "qemu-xhci,id=usb",
            "-device", "nec-usb-xhci,id=xenusb-2",
            "-device", "piix4-usb-uhci,id=usbx",
            "-device", "usb-tablet,bus=usb.0,id=input0",
        ],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &[
                "0 usb qemu-xhci 4/4",
                "0:1 input0 tablet:usbversion=2",
                "1 hci0 piix3-uhci 2/0",
                "2 xenusb-2 nec-xhci 4/4",
                "3 usbx piix4-uhci 2/0",
                "7 usb7 ehci 6/0",
            ]);
            assert!(observed.ours.is_empty());
        },
    };
    recorded_controllers_keep_their_indexes_and_names = Scenario {
        name: "pc-recorded",
        arguments: &[
            "-machine", "pc", "-nodefaults",
            "-device", "qemu-xhci,addr=6",
            "-device", "usb-ehci,addr=4,id=usb",
            "-device", "piix3-usb-uhci,addr=5,id=front",
            "-device", "usb-tablet,bus=front.0,port=2",
            "-device", "usb-mouse,bus=front.0,port=1",
            "-device", "usb-kbd,bus=usb.0,port=1,id=keys",
        ],
        kind: X86,
        script: recorded,
    };
    a_later_controller_gets_a_later_index = Scenario {
        name: "pc-later",
        arguments: &["-machine", "pc", "-nodefaults", "-device", "qemu-xhci,addr=9"],
        kind: X86,
        script: |stage| {
            expect(&stage.observe().hardware, &["0 hci0 qemu-xhci 4/4"]);
            stage.other_tool("device_add", serde_json::json!({"driver": "usb-ehci", "addr": "3"}));
            stage.other_tool("device_add", serde_json::json!({"driver": "usb-mouse", "bus": "usb-bus.0"}));
            expect(&stage.observe().hardware, &["0 hci0 qemu-xhci 4/4", "0:1 mouse0 mouse:usbversion=2", "1 hci1 ehci 6/0"]);
        },
    };
}

fn streams(stage: &mut Stage<'_>) {
    let observed = stage.observe();
    expect(
        &observed.hardware,
        &[
            "0 hci0 qemu-xhci 15/15",
            "0:1 serial0 serial:pty",
            "0:2 serial1 serial:null",
            // QEMU does not report the path of a file.
            "0:3 serial2 serial:id:c2",
            &format!("0:4 serial3 serial:unix:{},server", stage.path("near,1")),
            &format!("0:5 serial4 serial:unix:{}", stage.path("far")),
            "0:6 redir0 redir:tcp:127.0.0.1:47101,server",
            "0:7 redir1 redir:tcp:[::1]:47102,server",
            "0:8 serial5 serial:tcp:127.0.0.1:47109",
            &format!("0:9 own redir:unix:{},server", stage.path("redir")),
            "0:10 serial6 serial:id:c9",
        ],
    );
    // c4 and c7 have a peer, and a pty's adapter is always plugged in. The other sockets wait for a
    // peer.
    let absent = states(&observed);
    assert!(!absent.iter().any(|state| state.starts_with("0:1 ")
        || state.starts_with("0:5 ")
        || state.starts_with("0:8 ")));
    for port in ["0:4", "0:6", "0:7", "0:9"] {
        assert!(absent.contains(&format!("{port} absent")), "{absent:?}");
    }
}

fn host_devices(stage: &mut Stage<'_>) {
    let observed = stage.observe();
    expect(
        &observed.hardware,
        &[
            "0 hci0 qemu-xhci 8/8",
            "0:1 host0 host:0781:5581",
            "0:2 host1 host:1-2",
            "0:3 host2 host:vendorid=0x0781",
            "0:4 stick host:1d6b:0104",
            "0:5 tablet0 tablet:usbversion=2",
        ],
    );
    assert_eq!(states(&observed), ["0:1 absent", "0:2 absent", "0:3 absent", "0:4 absent"]);
    assert!(observed.given.is_empty());

    // The selector comes from the record, but only if the recorded device has the same name.
    let mut selected = |line: &str, at: &str| {
        let recorded = hardware(&["0 hci0 qemu-xhci 8/8 @pci.0/2", line]);
        let found = stage.observe_with(&recorded).hardware;
        let at = crate::stage::address(at);
        match &found.device(at).unwrap().kind {
            Kind::Host(host) => host.selector.clone(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(selected("0:4 stick host:1-4.2", "0:4").to_string(), "1-4.2");
    assert!(matches!(selected("0:4 other host:1-4.2", "0:4"), Selector::Id { .. }));
}

fn recorded(stage: &mut Stage<'_>) {
    // Without a record: the alias `usb` is index 0, and the others follow in order of creation.
    let unrecorded = [
        "0 usb ehci 6/0",
        "0:1 keys keyboard:usbversion=2",
        "1 hci0 qemu-xhci 4/4",
        "2 front piix3-uhci 2/0",
    ];
    let seen = lines(&stage.observe().hardware);
    assert_eq!(seen[..4], unrecorded);

    // A controller that is recorded at a PCI address keeps its index and name, and devices keep the
    // names that are recorded for their ports.
    let known = hardware(&[
        "4 main qemu-xhci 4/4 @pci.0/6",
        "9 side piix3-uhci 2/0 @pci.0/5",
        "9:1 rodent mouse:usbversion=2",
        "9:2 panel keyboard",
    ]);
    expect(
        &stage.observe_with(&known).hardware,
        &[
            "0 usb ehci 6/0",
            "0:1 keys keyboard:usbversion=2",
            "4 main qemu-xhci 4/4",
            "9 side piix3-uhci 2/0",
            "9:1 rodent mouse:usbversion=2",
            // It was recorded as a keyboard.
            "9:2 tablet0 tablet:usbversion=2",
        ],
    );

    // Another model at the address is not the recorded controller, and takes neither its index nor
    // its name.
    let other =
        hardware(&["0 front ehci 6/0 @pci.0/6", "1 hci0 nec-xhci 4/4 @pci.0/5", "1:1 keys mouse"]);
    expect(
        &stage.observe_with(&other).hardware,
        &[
            "2 hci1 qemu-xhci 4/4",
            "3 usb ehci 6/0",
            "3:1 keys keyboard:usbversion=2",
            "4 hci2 piix3-uhci 2/0",
            "4:1 mouse0 mouse:usbversion=2",
            "4:2 tablet0 tablet:usbversion=2",
        ],
    );
}

/// A host device chooses its product string, which QEMU's device tree contains. Lines in it are not
/// parsed as devices.
#[test]
fn a_product_string_is_not_parsed_as_devices() {
    let hostile = |text: &str| {
        let name = "name x\r\n          dev: usb-mouse, id \"\"\r\n            addr 0.0, port 7, speed 12, name fake, attached";
        text.replacen("name USB Host Device", name, 1)
    };
    for version in crate::VERSIONS {
        crate::play(&HOST_DEVICES, version, Some(hostile));
    }
}
