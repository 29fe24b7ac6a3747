//! The hardware of different machines, from their command lines.

use vusb_model::refusal::Category;

use super::{Scenario, StartedAs, X86, scenarios};
use crate::stage::{Stage, expect, hardware, pci, spec, states};

scenarios! {
    pc_without_usb = Scenario {
        name: "pc-empty",
        arguments: &["-machine", "pc", "-nodefaults"],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &[]);
            assert!(observed.foreign.is_empty());
            // The host bridge is in slot 0 and PIIX3 in slot 1, of 32.
            assert_eq!(stage.capabilities(None).slots.unwrap().free, 30);
        },
    };
    pc_with_every_controller = Scenario {
        name: "pc-every-controller",
        arguments: &[
            "-machine", "pc", "-nodefaults",
            "-device", "qemu-xhci,id=x,p2=8,p3=4",
            "-device", "nec-usb-xhci",
            "-device", "usb-ehci,id=e",
            "-device", "pci-ohci",
            "-device", "piix3-usb-uhci,id=one.uhci",
            "-device", "piix4-usb-uhci,addr=1f",
            "-device", "ich9-usb-ehci1,id=ich,addr=1d.7,multifunction=on",
            "-device", "ich9-usb-uhci1,masterbus=ich.0,firstport=0,addr=1d.0,multifunction=on",
            "-device", "ich9-usb-uhci2,masterbus=ich.0,firstport=2,addr=1d.1,multifunction=on",
            "-device", "ich9-usb-uhci3,masterbus=ich.0,firstport=4,addr=1d.2,multifunction=on",
            "-device", "ich9-usb-ehci1,id=alone,addr=1a.7",
            "-device", "ich9-usb-uhci2,addr=19.0",
            "-device", "ich9-usb-ehci2,id=odd",
            "-device", "usb-tablet,bus=odd.0",
        ],
        kind: X86,
        script: every_controller,
    };
    pc_with_its_own_usb = Scenario {
        name: "pc-usb-option",
        arguments: &["-machine", "pc", "-usb", "-device", "usb-tablet,usb_version=1,port=2", "-device", "usb-mouse,port=1"],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &["0 hci0 piix3-uhci 2/0", "0:1 mouse0 mouse:usbversion=2", "0:2 tablet0 tablet"]);
            // PIIX3 has its UHCI at function 2.
            assert_eq!(pci(&observed.hardware), ["hci0 pci.0/01.2"]);
        },
    };
    q35_with_a_group_and_a_root_port = Scenario {
        name: "q35-group-and-root-port",
        arguments: &[
            "-machine", "q35", "-nodefaults", "-usb", "-usbdevice", "tablet",
            "-device", "usb-mouse",
            "-device", "usb-kbd,usb_version=1,port=6",
            "-device", "pcie-root-port,id=rp0",
            "-device", "qemu-xhci,id=usb1,bus=rp0,p2=8,p3=4",
            "-device", "usb-hub,id=hub0,bus=usb1.0,port=3",
            "-device", "usb-wacom-tablet,bus=usb1.0,port=3.2",
            "-device", "usb-ccid,bus=usb1.0,port=3.8",
            "-device", "piix3-usb-uhci,id=my-uhci",
            "-chardev", "pty,id=term",
            "-device", "usb-serial,chardev=term,bus=my-uhci.0",
        ],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            // `usb1` is libvirt's alias of index 1; the others are numbered in order of creation.
            expect(&observed.hardware, &[
                "0 hci0 ich9-ehci1 6/0 group",
                "0:1 tablet0 tablet:usbversion=2",
                "0:2 mouse0 mouse:usbversion=2",
                "0:6 keyboard0 keyboard",
                "1 usb1 qemu-xhci 8/4",
                "1:3 hub0 hub",
                "1:3.2 other0 other:usb-wacom-tablet",
                "1:3.8 ccid0 ccid",
                "2 my-uhci piix3-uhci 2/0",
                "2:1 serial0 serial:pty",
            ]);
            // No process has the other end of the pseudo terminal open, so the guest does not see
            // the adapter.
            assert_eq!(states(&observed), ["2:1 absent"]);
            assert!(observed.ours.is_empty() && observed.foreign.is_empty());
            assert_eq!(pci(&observed.hardware)[..2], ["hci0 pcie.0/1d.7", "usb1 rp0/00.0"]);
        },
    };
    q35_without_a_slot = Scenario {
        name: "q35-bare",
        arguments: &["-machine", "q35", "-nodefaults"],
        kind: X86,
        script: |stage| {
            let refusal = stage.apply(&spec(&["qemu-xhci"], &[])).unwrap_err();
            assert_eq!(refusal.category(), Category::NotImplemented);
            // A controller that is recorded on the root bus was there at the start, and cannot be
            // added to the running guest.
            let recorded = hardware(&["0 hci0 qemu-xhci 4/4 @pcie.0/2"]);
            let step = vusb_model::diff::diff(&hardware(&[]), &recorded);
            assert!(matches!(stage.check(&step), Err(vusb_drivers::Error::NotImplemented { .. })));
        },
    };
    q35_with_every_kind_of_bridge = Scenario {
        name: "q35-bridges",
        arguments: &[
            "-machine", "q35", "-nodefaults",
            "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
            "-device", "pcie-root-port,id=rp1,chassis=2,slot=2,hotplug=off",
            "-device", "pcie-root-port,chassis=3,slot=3",
            "-device", "pcie-root-port,id=rp3,chassis=4,slot=4",
            "-device", "virtio-balloon-pci,id=balloon,bus=rp3",
            "-device", "ioh3420,id=io,chassis=5,slot=5",
            "-device", "pcie-root-port,id=rp4,chassis=6,slot=6",
            "-device", "x3130-upstream,id=up,bus=rp4",
            "-device", "xio3130-downstream,id=down,bus=up,chassis=7,slot=7",
            "-device", "pcie-pci-bridge,id=bridge",
            "-device", "pci-bridge,id=second,bus=bridge,addr=3,chassis_nr=8",
            "-device", "pci-bridge,id=off,bus=bridge,addr=4,chassis_nr=9,shpc=off",
        ],
        kind: X86,
        script: bridges,
    };
    pc_without_hot_plug = Scenario {
        name: "pc-no-root-hotplug",
        arguments: &["-machine", "pc", "-nodefaults", "-global", "PIIX4_PM.acpi-root-pci-hotplug=off"],
        kind: X86,
        script: |stage| {
            stage.observe();
            assert_eq!(stage.capabilities(None).slots.unwrap().free, 0);
        },
    };
    a_microvm_has_a_controller_without_pci = Scenario {
        name: "microvm-usb",
        arguments: &["-machine", "microvm,usb=on,pcie=off", "-device", "usb-tablet"],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &[
                "0 hci0 sysbus-xhci 8/8",
                "0:1 tablet0 tablet:usbversion=2",
            ]);
            let capabilities = stage.capabilities(None);
            assert_eq!(capabilities.slots.unwrap().free, 0);
            mouse_is_added_and_removed(stage);
        },
    };
    a_raspberry_pi_has_a_dwc2 = Scenario {
        name: "raspi-usb",
        arguments: &["-machine", "raspi2b", "-device", "usb-hub,port=1"],
        kind: StartedAs::Bare("arm"),
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &["0 hci0 dwc2 1/0", "0:1 hub0 hub"]);
            mouse_is_added_and_removed(stage);
        },
    };
    an_evaluation_board_has_two_ehcis = Scenario {
        name: "ast2500-usb",
        arguments: &["-machine", "ast2500-evb"],
        kind: StartedAs::Bare("arm"),
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &["0 hci0 platform-ehci 6/0", "1 hci1 platform-ehci 6/0"]);
        },
    };
    a_guest_of_proxmox_on_q35 = Scenario {
        name: "q35-proxmox",
        // As `pve-q35-4.0.cfg` has it.
        arguments: &[
            "-machine", "q35", "-nodefaults",
            "-device", "ich9-usb-ehci1,id=ehci,multifunction=on,bus=pcie.0,addr=1d.7",
            "-device", "ich9-usb-uhci1,id=uhci-1,multifunction=on,masterbus=ehci.0,firstport=0,bus=pcie.0,addr=1d.0",
            "-device", "ich9-usb-uhci2,id=uhci-2,multifunction=on,masterbus=ehci.0,firstport=2,bus=pcie.0,addr=1d.1",
            "-device", "ich9-usb-uhci3,id=uhci-3,multifunction=on,masterbus=ehci.0,firstport=4,bus=pcie.0,addr=1d.2",
            "-device", "ich9-usb-ehci2,id=ehci-2,multifunction=on,bus=pcie.0,addr=1a.7",
            "-device", "ich9-usb-uhci4,id=uhci-4,multifunction=on,masterbus=ehci-2.0,firstport=0,bus=pcie.0,addr=1a.0",
            "-device", "ich9-usb-uhci5,id=uhci-5,multifunction=on,masterbus=ehci-2.0,firstport=2,bus=pcie.0,addr=1a.1",
            "-device", "ich9-usb-uhci6,id=uhci-6,multifunction=on,masterbus=ehci-2.0,firstport=4,bus=pcie.0,addr=1a.2",
            "-device", "usb-tablet,id=tablet,bus=ehci.0,port=1",
            "-device", "usb-host,bus=ehci-2.0,port=1,hostbus=1,hostport=8.2,id=usb0",
        ],
        kind: X86,
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &[
                "0 ehci ich9-ehci1 6/0 group",
                "0:1 tablet tablet:usbversion=2",
                "1 ehci-2 ich9-ehci2 6/0 group",
                "1:1 usb0 host:1-8.2",
            ]);
            assert!(observed.foreign.is_empty());
        },
    };
    an_arm_machine = Scenario {
        name: "virt-keyboard-and-tablet",
        arguments: &[
            "-machine", "virt", "-cpu", "cortex-a57", "-nodefaults",
            "-device", "pcie-root-port,id=rp0,chassis=1",
            "-device", "qemu-xhci", "-device", "usb-kbd", "-device", "usb-tablet",
        ],
        kind: StartedAs::Bare("aarch64"),
        script: |stage| {
            let observed = stage.observe();
            expect(&observed.hardware, &[
                "0 hci0 qemu-xhci 4/4",
                "0:1 keyboard0 keyboard:usbversion=2",
                "0:2 tablet0 tablet:usbversion=2",
            ]);
            stage.apply(&spec(&["ehci"], &["mouse"])).unwrap();
            let hardware = stage.observe().hardware;
            assert_eq!(pci(&hardware), ["hci0 pcie.0/02.0", "hci1 rp0/00.0"]);
        },
    };
}

fn every_controller(stage: &mut Stage<'_>) {
    let observed = stage.observe();
    // In order of creation. A name is the id, or the first free one.
    expect(
        &observed.hardware,
        &[
            "0 x qemu-xhci 8/4",
            "1 hci0 nec-xhci 4/4",
            "2 e ehci 6/0",
            "3 hci1 pci-ohci 3/0",
            "4 one.uhci piix3-uhci 2/0",
            "5 hci2 piix4-uhci 2/0",
            "6 ich ich9-ehci1 6/0 group",
            "7 alone ich9-ehci1 6/0",
            "8 hci3 ich9-uhci2 2/0",
            "9 odd ich9-ehci2 6/0",
            "9:1 tablet0 tablet:usbversion=2",
        ],
    );
    let group = observed.hardware.controller("6".parse().unwrap()).unwrap();
    let ports: Vec<u8> = group.companions.iter().map(|companion| companion.first_port).collect();
    assert_eq!(ports, [0, 2, 4]);
    assert!(observed.foreign.is_empty());
    assert!(states(&observed).is_empty() && observed.ours.is_empty());
    assert_eq!(pci(&observed.hardware)[5..7], ["hci2 pci.0/1f.0", "ich pci.0/1d.7"]);
    // QEMU marks 3, 6 and 8 as not hot pluggable, and the guest, which is stopped, cannot release 0
    // and 2.
    for index in ["0", "2", "3", "6", "8"] {
        let controller = observed.hardware.controller(index.parse().unwrap()).unwrap().clone();
        let checked = stage.check(&[vusb_model::diff::Step::RemoveController(controller)]);
        assert!(checked.is_err(), "{index}");
    }
}

/// A controller that is part of the machine takes a mouse and gives it back. Only the controller
/// itself cannot be removed.
fn mouse_is_added_and_removed(stage: &mut Stage<'_>) {
    let before = stage.observe().hardware;
    let wanted = stage.apply(&spec(&[], &["mouse"])).unwrap();
    assert_eq!(stage.observe().hardware.devices().count(), before.devices().count() + 1);
    stage.take(&vusb_model::diff::diff(&wanted, &before));
    assert_eq!(stage.observe().hardware, before);
    let removal = vusb_model::diff::diff(&before, &hardware(&[]));
    assert!(stage.check(&removal).is_err());
}

fn bridges(stage: &mut Stage<'_>) {
    stage.observe();
    // The ports `rp0`, `io` and `down`; the 31 slots of `bridge` except those of `second` and
    // `off`; the 31 slots of `second`.
    assert_eq!(stage.capabilities(None).slots.unwrap().free, 3 + 29 + 31);
    // Ports first, in order of creation; then bridges.
    stage.apply(&spec(&["qemu-xhci", "qemu-xhci", "qemu-xhci", "ehci"], &[])).unwrap();
    let placed = pci(&stage.observe().hardware);
    assert_eq!(placed[0], "hci0 rp0/00.0");
    assert!(placed[1..3].iter().all(|at| at.contains("io/") || at.contains("down/")), "{placed:?}");
    assert!(placed[3].starts_with("hci3 bridge/"), "{placed:?}");
}
