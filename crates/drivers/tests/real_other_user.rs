//! The QEMU driver on a real QEMU that runs as another user, or in a root directory of its own: it
//! cannot open what this user can.
//!
//! The QEMUs are started by root, and change the user (`-runas`) or the root directory (`-chroot`).
//! They run without an operating system: QEMU only closes a removed descriptor while the guest
//! runs.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vusb_drivers::qemu::Qemu;
use vusb_drivers::{Driver, Error};
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;
use vusb_model::spec::{DeviceSpec, Spec};
use vusb_rig::BareQemu;

const XHCI: [&str; 5] = ["-machine", "pc", "-nodefaults", "-device", "qemu-xhci,id=vusb-0x15-hci0"];

fn start(more: &[&str]) -> BareQemu {
    let qemu = BareQemu::start(XHCI.iter().chain(more)).unwrap();
    qemu.qmp("cont", json!({})).unwrap();
    qemu
}

fn connect(qemu: &BareQemu) -> Qemu {
    Qemu::at(qemu.qmp_socket(), Duration::from_secs(60))
}

/// An image that only root may open.
fn image(folder: &Path, name: &str, size: u64) -> String {
    let path = folder.join(name);
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Adds a device. Returns the hardware that was observed then.
fn add(qemu: &BareQemu, device: &str) -> Result<Hardware, Error> {
    let mut driver = connect(qemu);
    let base = driver.observe(&Hardware::new()).unwrap().hardware;
    let spec = Spec { devices: vec![DeviceSpec::new(device.parse().unwrap())], ..Spec::default() };
    let wanted = resolve(&base, &spec, &driver.capabilities(None).unwrap()).unwrap().hardware;
    let steps = diff(&base, &wanted);
    driver.check(&steps).unwrap();
    steps.iter().try_for_each(|step| driver.perform(step))?;
    drop(driver);
    Ok(connect(qemu).observe(&Hardware::new()).unwrap().hardware)
}

fn remove_all(qemu: &BareQemu) {
    let mut driver = connect(qemu);
    let observed = driver.observe(&Hardware::new()).unwrap().hardware;
    let devices: Vec<_> = observed.devices().map(|(at, it)| (at, it.clone())).collect();
    for (at, device) in devices {
        driver.perform(&Step::Unplug(at, device)).unwrap();
    }
}

fn sets(qemu: &BareQemu) -> Vec<Value> {
    qemu.qmp("query-fdsets", json!({})).unwrap().as_array().unwrap().clone()
}

fn nodes(qemu: &BareQemu) -> usize {
    qemu.qmp("query-named-block-nodes", json!({})).unwrap().as_array().unwrap().len()
}

fn kinds(hardware: &Hardware) -> Vec<String> {
    hardware.devices().map(|(_, device)| device.kind.to_string()).collect()
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_qemu_of_another_user_is_passed_an_image_that_it_may_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "disk.img", 1 << 20);
    let cd = image(folder.path(), "cd.iso", 1 << 20);
    let qemu = start(&["-runas", "nobody", "-sandbox", "on"]);
    let (disk, cd) = (format!("storage:{disk}"), format!("storage:{cd},media=cdrom"));

    // Without a record, the listing has the path of this machine.
    assert_eq!(kinds(&add(&qemu, &disk).unwrap()), std::slice::from_ref(&disk));
    assert_eq!(kinds(&add(&qemu, &cd).unwrap()), [disk, cd]);
    assert_eq!(sets(&qemu).len(), 2);

    // Nothing is left in QEMU after their removal.
    remove_all(&qemu);
    assert_eq!((sets(&qemu), nodes(&qemu)), (Vec::new(), 0));
}

/// The image in the new root has the same path and another size.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_qemu_with_another_root_gets_the_image_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "disk.img", 3 << 20);
    let jail = folder.path().join("jail");
    let inside = jail.join(folder.path().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    image(&inside, "disk.img", 1 << 20);
    let qemu = start(&["-runas", "nobody", "-chroot", jail.to_str().unwrap()]);

    let disk = format!("storage:{disk}");
    assert_eq!(kinds(&add(&qemu, &disk).unwrap()), [disk]);
    let blocks = qemu.qmp("query-named-block-nodes", json!({})).unwrap();
    assert_eq!(blocks[0]["image"]["virtual-size"], 3 << 20);
    remove_all(&qemu);
    assert_eq!((sets(&qemu), nodes(&qemu)), (Vec::new(), 0));
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_refused_image_leaves_no_open_file_in_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "disk.img", 1 << 20);
    fs::write(&disk, "not a qcow2 image").unwrap();
    let qemu = start(&["-runas", "nobody"]);
    let error = add(&qemu, &format!("storage:{disk},format=qcow2")).unwrap_err();
    assert!(error.to_string().contains("not in qcow2 format"), "{error}");
    assert_eq!((sets(&qemu), nodes(&qemu)), (Vec::new(), 0));

    // What an interrupted command left is replaced: here the device was removed, and nothing else.
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let kind = format!("storage:{disk}");
    assert_eq!(kinds(&add(&qemu, &kind).unwrap()), std::slice::from_ref(&kind));
    let (first, first_nodes) = (sets(&qemu), nodes(&qemu));
    qemu.qmp("device_del", json!({"id": "vusb-storage0"})).unwrap();
    let is_gone = |data: &Value| data["device"] == "vusb-storage0";
    qemu.wait_event("DEVICE_DELETED", is_gone, Duration::from_secs(60)).unwrap();
    assert_eq!(kinds(&add(&qemu, &kind).unwrap()), [kind]);
    let second = sets(&qemu);
    assert_eq!(second[0]["fds"][0]["opaque"], format!("vusb-storage0 {disk}"));
    assert_eq!((first.len(), second.len(), nodes(&qemu)), (1, 1, first_nodes));
}

/// The image was replaced by a link to a file that only root may open. QEMU's user may have done
/// that.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_link_in_the_place_of_an_image_is_not_passed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = image(folder.path(), "secret", 1 << 20);
    let path = folder.path().join("disk.img");
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    let kind = format!("storage:{}", path.display());
    let why = format!("{} is a symbolic link", path.display());
    let jail = folder.path().join("jail");
    // In the other root, the path is a file that QEMU could open.
    let inside = jail.join(folder.path().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    let own = image(&inside, "disk.img", 1 << 20);
    fs::set_permissions(own, fs::Permissions::from_mode(0o666)).unwrap();
    for (chroot, expected) in [(false, "ermission denied"), (true, "another root directory")] {
        let more = ["-runas", "nobody", "-chroot", jail.to_str().unwrap()];
        let qemu = start(&more[..if chroot { 4 } else { 2 }]);
        let error = add(&qemu, &kind).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&why), "{error}");
        assert_eq!((sets(&qemu), nodes(&qemu)), (Vec::new(), 0));
    }
}

/// QEMU would resolve the name of the backing file against the folder of its open files.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn an_image_with_a_backing_file_is_refused_with_both_reasons() {
    let folder = tempfile::tempdir().unwrap();
    image(folder.path(), "base.img", 1 << 20);
    let top = folder.path().join("top.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.img"])
        .arg(&top)
        .status();
    assert!(made.unwrap().success());
    let qemu = start(&["-runas", "nobody"]);
    let error = add(&qemu, &format!("storage:{}", top.display())).unwrap_err().to_string();
    let why = format!("{} refers to another file", top.display());
    assert!(error.contains("ermission denied") && error.contains(&why), "{error}");
    assert_eq!((sets(&qemu), nodes(&qemu)), (Vec::new(), 0));
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn an_image_in_a_folder_of_another_user_is_refused_with_both_reasons() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1001), None).unwrap();
    let image = image(&theirs, "stick.img", 1 << 20);
    fs::set_permissions(&image, fs::Permissions::from_mode(0o644)).unwrap();
    let qemu = start(&["-runas", "nobody"]);
    let not_passed = format!("{} belongs to user 1001, so another user", theirs.display());
    for (mode, denied) in [
        (0o700, format!("{} (owner 1001, group 0, mode 0700)", theirs.display())),
        (0o755, format!("{image} (owner 0, group 0, mode 0644)")),
    ] {
        fs::set_permissions(&theirs, fs::Permissions::from_mode(mode)).unwrap();
        let error = add(&qemu, &format!("storage:{image}")).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains("it runs as user 65534, which may not open"), "{error}");
        assert!(error.contains(&denied) && error.contains(&not_passed), "{error}");
    }
    // QEMU itself may read it.
    let kind = format!("storage:{image},readonly");
    assert_eq!(kinds(&add(&qemu, &kind).unwrap()), [kind]);
    assert_eq!(sets(&qemu), Vec::<Value>::new());
}
