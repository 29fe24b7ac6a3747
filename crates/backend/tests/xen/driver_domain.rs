//! A driver domain: a guest that exports its USB devices to another guest.

use vusb_rig::xen::modules;

use crate::support::{Scene, TIMEOUT, checksum, disk_checksum, program};

/// The stick that the driver domain creates for itself.
const GADGET: &str = "1d6b:0104";

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_driver_domain_exports_its_stick() {
    let scene = Scene::new(1);
    let modules: Vec<&str> = modules::GUEST.iter().chain(modules::DRIVER_DOMAIN).copied().collect();
    // The initial file system is limited to half of the memory, and an unstripped program is large.
    let driver = scene.host.new_guest("usbvm").memory_mib(512).modules(&modules);
    let driver = driver.binary(&program("vusb-backend")).unwrap().start().unwrap();
    let inside = |command: &str| driver.sh(command, TIMEOUT).unwrap().ok().unwrap();
    inside(modules::GADGET_STICK);
    driver.wait_until("[ -b /dev/sda ]", TIMEOUT).unwrap();
    let in_driver_domain = checksum(&inside("sha256sum /gadget.img")).to_owned();
    let before = scene.store();

    // The backend does not run yet.
    let (output, code) = scene.vusb("host list --backend usbvm");
    assert_eq!(code, 7, "{output}");
    inside("setsid vusb-backend </dev/null >>/backend.log 2>&1 & true");
    let there_is = "xenstore-exists /local/domain/$(xl domid usbvm)/data/vusb-backend/version";
    scene.wait_in_dom0(there_is);
    let (output, code) = scene.vusb("host list --backend usbvm");
    assert_eq!((code, output.contains(GADGET)), (0, true), "{output}");

    assert_eq!(scene.vusb_ok("controller add xen:u1 --backend usbvm"), "pv0");
    assert_eq!(scene.vusb_ok(&format!("device add xen:u1 {GADGET} --controller pv0")), "pv0:1");
    assert_eq!(disk_checksum(&scene.guest), in_driver_domain);
    let listed = scene.list("xen:u1");
    assert_eq!(listed["controllers"][0]["backend"], "usbvm", "{listed}");

    scene.vusb_ok(&format!("device remove xen:u1 {GADGET}"));
    driver.wait_until("[ -b /dev/sda ]", TIMEOUT).unwrap();
    scene.vusb_ok("controller remove xen:u1 pv0");
    let without_status = |all: Vec<String>| -> Vec<String> {
        all.into_iter().filter(|line| !line.contains("/data")).collect()
    };
    assert_eq!(without_status(scene.store()), without_status(before));

    // The driver domain is destroyed while in use: its controller is reported as broken, and can be
    // removed.
    scene.vusb_ok("controller add xen:u1 --backend usbvm");
    scene.vusb_ok(&format!("device add xen:u1 {GADGET} --controller pv0"));
    driver.destroy().unwrap();
    let (output, code) = scene.vusb("list xen:u1");
    assert_eq!((code, output.contains("gone")), (0, true), "{output}");
    scene.vusb_ok("controller remove xen:u1 pv0 --force");
    assert!(!scene.host.xenstore().unwrap().contains("/vusb/"), "nothing is left");
}
