//! The driver for Proxmox VE on a folder tree like that of a node, with a stand-in for `qm`.
//!
//! The guests of the `#[ignore]`d tests are real QEMUs with the arguments that Proxmox VE gives
//! them, written by hand from qemu-server's `PVE/QemuServer.pm`, `PVE/QemuServer/USB.pm` and
//! `PVE/QemuServer/PCI.pm`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod node;
mod running;

use std::fs;
use std::time::Duration;

use vusb_drivers::{DeviceState, Error, Scheme as _};
use vusb_model::diff::diff;
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;

use node::{LINUX, Node, lines, wanted};

#[test]
fn a_guest_that_does_not_run_is_observed_in_its_configuration() {
    let node = Node::new(LINUX);
    let mut driver = node.open(true);
    let observed = driver.observe(&Hardware::new()).unwrap();
    assert!(observed.off);
    assert_eq!(driver.profile(), Some(Profile::Pve1));
    assert_eq!(driver.guest_name().as_deref(), Some("web1"));
    assert_eq!(driver.identity(), None);
    assert!(observed.states.values().all(|it| *it == DeviceState::Configured));
    let hardware = wanted(&mut *driver, &observed.hardware, &["host:1-7"]).unwrap();
    let steps = diff(&observed.hardware, &hardware);
    driver.check(&steps).unwrap();
    driver.all_at_once().unwrap().perform_all(&steps).unwrap();
    assert_eq!(node.config(), format!("{LINUX}usb0: host=1-7\n"));
    let now = driver.observe(&Hardware::new()).unwrap();
    assert_eq!(
        lines(&now.hardware)[2..],
        ["1 xhci qemu-xhci 15/15".to_owned(), "1:1 usb0 host:1-7".to_owned()]
    );
    // The controller is removed with its last device.
    let steps = diff(&now.hardware, &observed.hardware);
    driver.check(&steps).unwrap();
    driver.all_at_once().unwrap().perform_all(&steps).unwrap();
    assert_eq!(node.config(), LINUX);
}

#[test]
fn the_last_device_can_be_removed_without_naming_its_controller() {
    let node = Node::new(&format!("{LINUX}usb3: host=1-7,usb3=1\n"));
    let mut driver = node.open(true);
    let mut hardware = driver.observe(&Hardware::new()).unwrap().hardware;
    let before = hardware.clone();
    let (at, _) = before.devices().find(|(_, it)| it.name.as_str() == "usb3").unwrap();
    hardware.unplug(at);
    let steps = diff(&before, &hardware);
    assert_eq!(steps.len(), 1);
    driver.check(&steps).unwrap();
    driver.all_at_once().unwrap().perform_all(&steps).unwrap();
    assert_eq!(node.config(), LINUX);
}

#[test]
fn other_hardware_is_refused_for_a_guest_that_does_not_run() {
    let node = Node::new(LINUX);
    let mut driver = node.open(true);
    let observed = driver.observe(&Hardware::new()).unwrap();
    let hardware = wanted(&mut *driver, &observed.hardware, &["storage:a.img"]).unwrap();
    let error = driver.check(&diff(&observed.hardware, &hardware)).unwrap_err();
    assert!(matches!(&error, Error::NotImplemented { .. }), "{error}");
    assert!(error.to_string().contains("add it while the guest runs"), "{error}");
    assert_eq!(node.config(), LINUX);
}

#[test]
fn an_unknown_guest_is_missing() {
    let node = Node::new(LINUX);
    fs::remove_file(node.config_path()).unwrap();
    let error = node.open(true).observe(&Hardware::new()).unwrap_err();
    assert!(matches!(&error, Error::Missing { .. }), "{error}");
    assert!(error.to_string().contains("this node has no guest 100"), "{error}");
    assert!(node.scheme().is_gone("100", &error));
}

#[test]
fn a_guest_that_proxmox_has_locked_is_only_listed() {
    let node = Node::new(&format!("lock: backup\n{LINUX}"));
    assert!(node.open(false).observe(&Hardware::new()).unwrap().off);
    let error = node.open(true).observe(&Hardware::new()).unwrap_err();
    assert!(matches!(&error, Error::Busy { .. }), "{error}");
    assert!(error.to_string().contains("locked it (backup)"), "{error}");
}

#[test]
fn a_change_waits_for_the_lock_of_qm() {
    let node = Node::new(LINUX);
    let held = node.hold_lock();
    let begin = std::time::Instant::now();
    let mut driver = node.open_with(true, Duration::from_millis(60));
    let error = driver.observe(&Hardware::new()).unwrap_err();
    assert!(matches!(&error, Error::Busy { .. }), "{error}");
    assert!(begin.elapsed() >= Duration::from_millis(60));
    // Reading needs no lock.
    node.open(false).observe(&Hardware::new()).unwrap();
    drop(held);
    driver.observe(&Hardware::new()).unwrap();
    assert!(node.is_locked(), "until the driver is dropped");
    drop(driver);
    assert!(!node.is_locked());
}
