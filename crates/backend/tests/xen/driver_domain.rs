//! A guest that lends its own USB devices to another guest.

use vusb_rig::xen::modules;

use crate::support::{PATIENCE, Scene, disk_of, program, sum};

/// The stick that the driver domain makes for itself.
const GADGET: &str = "1d6b:0104";

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_driver_domain_lends_its_stick() {
    let scene = Scene::new(1);
    let modules: Vec<&str> = modules::GUEST.iter().chain(modules::DRIVER_DOMAIN).copied().collect();
    // Its first file system is half of its memory, and a program that is not stripped is large.
    let driver = scene.host.new_guest("usbvm").memory_mib(512).modules(&modules);
    let driver = driver.binary(&program("vusb-backend")).unwrap().start().unwrap();
    let inside = |command: &str| driver.sh(command, PATIENCE).unwrap().ok().unwrap();
    inside(modules::GADGET_STICK);
    driver.wait_until("[ -b /dev/sda ]", PATIENCE).unwrap();
    let there = sum(&inside("sha256sum /gadget.img")).to_owned();
    let before = scene.store();

    // No backend yet, and what to do.
    let (said, code) = scene.vusb("host list --backend usbvm");
    assert_eq!(code, 7, "{said}");
    inside("setsid vusb-backend </dev/null >>/backend.log 2>&1 & true");
    let there_is = "xenstore-exists /local/domain/$(xl domid usbvm)/data/vusb-backend/version";
    scene.dom0_until(there_is);
    let (said, code) = scene.vusb("host list --backend usbvm");
    assert_eq!((code, said.contains(GADGET)), (0, true), "{said}");

    assert_eq!(scene.does("controller add xen:u1 --backend usbvm"), "pv0");
    assert_eq!(scene.does(&format!("device add xen:u1 {GADGET} --controller pv0")), "pv0:1");
    assert_eq!(disk_of(&scene.guest), there);
    let listed = scene.list("xen:u1");
    assert_eq!(listed["controllers"][0]["backend"], "usbvm", "{listed}");

    scene.does(&format!("device remove xen:u1 {GADGET}"));
    driver.wait_until("[ -b /dev/sda ]", PATIENCE).unwrap();
    scene.does("controller remove xen:u1 pv0");
    let without_status = |all: Vec<String>| -> Vec<String> {
        all.into_iter().filter(|line| !line.contains("/data")).collect()
    };
    assert_eq!(without_status(scene.store()), without_status(before));

    // The driver domain dies in use: what it served is known to be broken, and can be taken away.
    scene.does("controller add xen:u1 --backend usbvm");
    scene.does(&format!("device add xen:u1 {GADGET} --controller pv0"));
    driver.destroy().unwrap();
    let (said, code) = scene.vusb("list xen:u1");
    assert_eq!((code, said.contains("gone")), (0, true), "{said}");
    scene.does("controller remove xen:u1 pv0 --force");
    assert!(!scene.host.xenstore().unwrap().contains("/vusb/"), "nothing is left");
}
