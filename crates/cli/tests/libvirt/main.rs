//! What vusb makes of a libvirt domain, beside what a real libvirt makes of it.
//!
//! ```text
//!   XML ─┬─▶ libvirtd: define ─▶ dumpxml ─────────────▶ controllers and addresses ─┬─ equal
//!        │                   └─▶ domxml-to-native ─▶ -device …  ───────────────────┼─┬─ equal
//!        └─▶ vusb plan --json ─────────────────────────────────────────────────────┘ │
//!            vusb qemu-args ─────────────────────────────────────────────────────────┘
//! ```
//!
//! libvirt is Debian's, and no guest is started.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod cases;
mod guide;
mod ours;
mod theirs;

use std::collections::BTreeMap;

use serde_json::Value;
use vusb_rig::Libvirt;

use cases::Case;

/// A controller: index, model, ports where they are said, and the first ports of its companions by model.
type Controller = (u64, String, Option<u64>, BTreeMap<String, u64>);

/// A device: what it is, bus and port.
type Device = (String, u64, String);

/// What one of the two makes of a domain.
#[derive(Debug, Default, PartialEq, Eq)]
struct Made {
    controllers: Vec<Controller>,
    devices: Vec<Device>,
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn vusb_makes_of_a_domain_what_libvirt_makes_of_it() {
    let libvirt = Libvirt::start().unwrap();
    eprintln!("libvirt {}", libvirt.version().unwrap());
    let mut wrong = Vec::new();
    for case in cases::ACCEPTED {
        let xml = case.xml();
        if let Err(error) = libvirt.define(&xml) {
            wrong.push(format!("{}: {error}", case.name));
            continue;
        }
        let theirs = theirs::made(&libvirt.dump(cases::DOMAIN).unwrap());
        match ours::made(&xml) {
            Ok(ours) if ours == theirs => {}
            ours => wrong.push(format!("{}:\n  libvirt {theirs:?}\n  vusb    {ours:?}", case.name)),
        }
        libvirt.undefine(cases::DOMAIN).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn every_architecture_has_the_controllers_that_libvirt_gives_it() {
    let libvirt = Libvirt::start().unwrap();
    let mut wrong = Vec::new();
    for ((arch, machine), given) in
        cases::MACHINES.iter().flat_map(|it| cases::GIVEN.map(|given| (*it, given)))
    {
        let xml = cases::xml(arch, machine, given);
        let ours = ours::made(&xml);
        let defined = libvirt.define(&xml);
        let agree = match (&defined, &ours) {
            (Ok(()), Ok(ours)) => theirs::made(&libvirt.dump(cases::DOMAIN).unwrap()) == *ours,
            // libvirt sometimes finds out only when it starts the guest.
            (Ok(()), Err(_)) => libvirt.native(cases::DOMAIN).is_err(),
            (Err(_), ours) => ours.is_err(),
        };
        if !agree {
            let theirs = defined.as_ref().map(|()| libvirt.dump(cases::DOMAIN).unwrap());
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
            let said = libvirt.native(cases::DOMAIN).map(drop);
            libvirt.undefine(cases::DOMAIN)?;
            said
        });
        assert!(theirs.is_err(), "{}: libvirt takes it", case.name);
        let ours = ours::made(&xml).expect_err(case.name);
        assert!(ours.contains("-->"), "{}: no place is shown:\n{ours}", case.name);
        eprintln!("{}\n  libvirt: {}\n{ours}", case.name, theirs.unwrap_err());
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn qemu_is_started_as_libvirt_would_start_it() {
    let libvirt = Libvirt::start().unwrap();
    let mut wrong = Vec::new();
    for case in cases::ACCEPTED.iter().filter(|case| case.starts) {
        let native = libvirt.define(&case.xml()).and_then(|()| libvirt.native(cases::DOMAIN));
        let native = match native {
            Ok(native) => native,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        // What is defined has PCI addresses, which libvirt gave it.
        let theirs = theirs::usb_devices(&native);
        let ours = ours::usb_devices(&libvirt.dump(cases::DOMAIN).unwrap());
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

/// What people have written down for xl: of an HVM guest's emulated controllers libvirt's driver for Xen knows nothing.
const XL: [&str; 2] = [
    "name = 'pv1'\ntype = 'pv'\nmemory = 256\nkernel = '/boot/vmlinuz'\n\
     usbctrl = [ 'type=qusb,version=2,ports=4' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=3,controller=0,port=1' ]\n",
    "name = 'pvh1'\ntype = 'pvh'\nmemory = 256\nkernel = '/boot/vmlinuz'\n\
     usbctrl = [ '', 'version=1' ]\nusbdev = [ 'type=hostdev,hostbus=1,hostaddr=3', 'type=hostdev,hostbus=2,hostaddr=5' ]\n",
];

#[test]
#[ignore = "runs libvirt's tools; run by cargo xtask test"]
fn what_is_converted_is_what_libvirt_reads_and_means_the_same() {
    let libvirt = Libvirt::start().unwrap();
    for text in XL {
        let there = ours::converted("guest.cfg", text, "libvirt");
        libvirt.validate(&there).unwrap_or_else(|error| panic!("{error}\n{there}"));
        let back = ours::converted("guest.xml", &there, "xl");
        let digests = [("a.cfg", text), ("b.xml", &there), ("c.cfg", &back)];
        let [first, second, third] = digests.map(|(name, text)| ours::digest(name, text));
        assert!(first == second && second == third, "{text}\n{there}\n{back}");
    }
}
