//! How vusb interprets a libvirt domain, compared with a real libvirt.
//!
//! ```text
//!   XML ─┬─▶ libvirtd: define ─▶ dumpxml ─────────────▶ controllers and addresses ─┬─ equal
//!        │                   └─▶ domxml-to-native ─▶ -device …  ───────────────────┼─┬─ equal
//!        └─▶ vusb plan --json ─────────────────────────────────────────────────────┘ │
//!            vusb qemu-args ─────────────────────────────────────────────────────────┘
//! ```
//!
//! libvirt comes from Debian. Only the tests in `live` start guests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod cases;
mod guide;
mod libvirt_view;
mod live;
mod vusb_view;

use std::collections::BTreeMap;

use serde_json::Value;
use vusb_rig::Libvirt;

use cases::Case;

/// A controller: index, model, number of ports if specified, and the first port of each companion
/// by model.
type Controller = (u64, String, Option<u64>, BTreeMap<String, u64>);

/// A device: what it is, its bus and its port.
type Device = (String, u64, String);

/// The hardware of a domain, as vusb or libvirt interprets it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hardware {
    controllers: Vec<Controller>,
    devices: Vec<Device>,
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn vusb_interprets_a_domain_as_libvirt_does() {
    let libvirt = Libvirt::start().unwrap();
    eprintln!("libvirt {}", libvirt.version().unwrap());
    let mut wrong = Vec::new();
    for case in cases::ACCEPTED {
        let xml = case.xml();
        if let Err(error) = libvirt.define(&xml) {
            wrong.push(format!("{}: {error}", case.name));
            continue;
        }
        let theirs = libvirt_view::hardware(&libvirt.dump_xml(cases::DOMAIN).unwrap());
        match vusb_view::hardware(&xml) {
            Ok(ours) if ours == theirs => {}
            ours => wrong.push(format!("{}:\n  libvirt {theirs:?}\n  vusb    {ours:?}", case.name)),
        }
        libvirt.undefine(cases::DOMAIN).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn every_architecture_gets_the_controllers_that_libvirt_adds() {
    let libvirt = Libvirt::start().unwrap();
    let mut wrong = Vec::new();
    for ((arch, machine), given) in
        cases::MACHINES.iter().flat_map(|it| cases::GIVEN.map(|given| (*it, given)))
    {
        let xml = cases::xml(arch, machine, given);
        let ours = vusb_view::hardware(&xml);
        let defined = libvirt.define(&xml);
        let agree = match (&defined, &ours) {
            (Ok(()), Ok(ours)) => {
                libvirt_view::hardware(&libvirt.dump_xml(cases::DOMAIN).unwrap()) == *ours
            }
            // libvirt finds some errors only when it starts the guest.
            (Ok(()), Err(_)) => libvirt.qemu_command_line(cases::DOMAIN).is_err(),
            (Err(_), ours) => ours.is_err(),
        };
        if !agree {
            let theirs = defined.as_ref().map(|()| libvirt.dump_xml(cases::DOMAIN).unwrap());
            wrong.push(format!("{arch} {machine} {given}:\n  libvirt {theirs:?}\n  vusb {ours:?}"));
        }
        if defined.is_ok() {
            libvirt.undefine(cases::DOMAIN).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn vusb_refuses_what_libvirt_refuses() {
    let libvirt = Libvirt::start().unwrap();
    for Case { name, .. } in cases::REFUSED {
        eprintln!("{name}");
    }
    for case in cases::REFUSED {
        let xml = case.xml();
        let theirs = libvirt.define(&xml).and_then(|()| {
            let output = libvirt.qemu_command_line(cases::DOMAIN).map(drop);
            libvirt.undefine(cases::DOMAIN)?;
            output
        });
        assert!(theirs.is_err(), "{}: libvirt accepts it", case.name);
        let ours = vusb_view::hardware(&xml).expect_err(case.name);
        assert!(ours.contains("-->"), "{}: no position is shown:\n{ours}", case.name);
        eprintln!("{}\n  libvirt: {}\n{ours}", case.name, theirs.unwrap_err());
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn qemu_is_started_as_libvirt_would_start_it() {
    let libvirt = Libvirt::start().unwrap();
    let mut wrong = Vec::new();
    for case in cases::ACCEPTED.iter().filter(|case| case.starts) {
        let native =
            libvirt.define(&case.xml()).and_then(|()| libvirt.qemu_command_line(cases::DOMAIN));
        let native = match native {
            Ok(native) => native,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                let _ = libvirt.undefine(cases::DOMAIN);
                continue;
            }
        };
        // A defined domain has the PCI addresses that libvirt assigned.
        let theirs = libvirt_view::usb_devices(&native);
        let ours = vusb_view::usb_devices(&libvirt.dump_xml(cases::DOMAIN).unwrap());
        libvirt.undefine(cases::DOMAIN).unwrap();
        let show = |all: &[Value]| {
            let lines: Vec<String> = all.iter().map(|it| format!("\n    {it}")).collect();
            lines.concat()
        };
        match ours {
            Ok(ours) if ours == theirs => {}
            Ok(ours) => {
                let (theirs, ours) = (show(&theirs), show(&ours));
                wrong.push(format!("{}:\n  libvirt{theirs}\n  vusb{ours}", case.name));
            }
            Err(error) => wrong.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The back end of a sound card that names none: the first one, or the one that libvirt adds.
#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn a_sound_card_has_the_back_end_that_libvirt_gives_it() {
    let libvirt = Libvirt::start().unwrap();
    for elements in
        ["", "<graphics type='vnc'/>", "<graphics type='vnc'/><audio id='3' type='oss'/>"]
    {
        let card = "<controller type='usb' model='qemu-xhci'/><sound model='usb'/>";
        let xml = cases::xml("x86_64", "q35", &format!("{card}{elements}"));
        libvirt.define(&xml).unwrap();
        let line = libvirt.qemu_command_line(cases::DOMAIN).unwrap();
        libvirt.undefine(cases::DOMAIN).unwrap();
        let theirs = libvirt_view::audio_back_ends(&line);
        assert_eq!(vusb_view::audio_back_ends(&xml).unwrap(), theirs, "{elements}");
    }
    // libvirt starts neither of these.
    for elements in [
        "<sound model='usb'/><graphics type='sdl'/>",
        "<sound model='usb'><audio id='2'/></sound><audio id='1' type='none'/>",
    ] {
        let controller = "<controller type='usb' model='qemu-xhci'/>";
        let xml = cases::xml("x86_64", "q35", &format!("{controller}{elements}"));
        let theirs = libvirt.define(&xml).and_then(|()| {
            let line = libvirt.qemu_command_line(cases::DOMAIN);
            libvirt.undefine(cases::DOMAIN)?;
            line
        });
        assert!(theirs.is_err(), "{elements}: libvirt starts it: {theirs:?}");
        let ours = vusb_view::audio_back_ends(&xml).unwrap_err();
        assert!(ours.contains("audio back end"), "{ours}");
    }
}

/// Configurations for xl. libvirt's driver for Xen does not support the emulated controllers of an
/// HVM guest.
const XL: [&str; 2] = [
    "name = 'pv1'\ntype = 'pv'\nmemory = 256\nkernel = '/boot/vmlinuz'\n\
     usbctrl = [ 'type=qusb,version=2,ports=4' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=3,controller=0,port=1' ]\n",
    "name = 'pvh1'\ntype = 'pvh'\nmemory = 256\nkernel = '/boot/vmlinuz'\n\
     usbctrl = [ '', 'version=1' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=3', 'type=hostdev,hostbus=2,hostaddr=5' ]\n",
];

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn libvirt_reads_a_converted_domain_as_the_same_hardware() {
    let libvirt = Libvirt::start().unwrap();
    for text in XL {
        let xml = vusb_view::converted("guest.cfg", text, "libvirt");
        libvirt.validate(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
        let back = vusb_view::converted("guest.xml", &xml, "xl");
        let digests = [("a.cfg", text), ("b.xml", &xml), ("c.cfg", &back)];
        let [first, second, third] = digests.map(|(name, text)| vusb_view::digest(name, text));
        assert!(first == second && second == third, "{text}\n{xml}\n{back}");
    }
}
