//! Disks and CD drives: what the guest's kernel sees of them, block devices of this machine as
//! their content, and why QEMU refuses an image.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use vusb_rig::{BareQemu, Guest};

use crate::cold::words;
use crate::support::{Terminal, WAIT_LIMIT, boot, noise, sees, wait_for};

/// A removable disk and a CD drive, each with a serial number.
const SPEC: &str = r#"
domain = "disks"
[[controller]]
ports = 4
[[device]]
device = "storage:stick.img,serial=SN 1,removable=on"
[[device]]
kind = "storage"
file = "disc.iso"
media = "cdrom"
serial = "CD-1"
"#;

/// Asserts that the guest sees the two devices of [`SPEC`].
fn sees_both(guest: &Guest, stick: &str, disc: &str) {
    wait_for(guest, 2);
    guest.wait_until("[ -b /dev/sda ] && [ -b /dev/sr0 ]", WAIT_LIMIT).unwrap();
    let all = sees(guest);
    let is = |line: &str| all.iter().any(|seen| seen.ends_with(line));
    assert!(is("QEMU USB HARDDRIVE usb-storage"), "{all:#?}");
    let read = |command: &str| guest.sh(command, WAIT_LIMIT).unwrap().ok().unwrap();
    assert!(read("sha256sum /dev/sda").starts_with(stick));
    assert!(read("sha256sum /dev/sr0").starts_with(disc));
    assert_eq!(read("cat /sys/block/sda/removable /sys/block/sr0/removable"), "1\n1\n");
    // Type 5 is a CD drive (SPC-3, 6.4.2).
    assert_eq!(read("cat /sys/block/sda/device/type /sys/block/sr0/device/type"), "0\n5\n");
    // Linux does not ask a USB disk for the SCSI page with the serial number.
    assert_eq!(
        read("cat /sys/bus/usb/devices/2-1/serial /sys/bus/usb/devices/2-2/serial"),
        "SN 1\nCD-1\n"
    );
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_guest_sees_a_cd_drive_and_serial_numbers() {
    let t = Terminal::new();
    let (stick, disc) = (t.write("stick.img", &noise(21)), t.write("disc.iso", &noise(22)));
    t.write("disks.toml", SPEC.as_bytes());
    let guest = boot(&t, Guest::builder());
    let _ = t.vusb("device add qemu:g.qmp storage:stick.img,removable=on --name stick").ok();
    let without = t.vusb("digest qemu:g.qmp").ok();
    let _ = t.vusb("device remove qemu:g.qmp stick").ok();
    let _ = t.vusb("controller remove qemu:g.qmp hci0").ok();
    let _ = t.vusb("controller add qemu:g.qmp --ports 4").ok();
    let mut add = t.command("device add qemu:g.qmp");
    let added = add.arg("storage:stick.img,serial=SN 1,removable=on").output().unwrap();
    assert!(added.status.success(), "{added:?}");
    let cd = "device add qemu:g.qmp storage:disc.iso,media=cdrom,serial=CD-1 --name cd";
    assert_eq!(t.vusb(cd).ok(), "hci0:2");
    sees_both(&guest, &stick, &disc);
    let digest = t.vusb("digest qemu:g.qmp").ok();
    assert_eq!(digest, t.vusb("digest disks.toml").ok());
    assert_ne!(digest, without);
    let again = t.vusb(cd);
    assert!(again.err.contains("already"), "{again:?}");
    let _ = t.vusb("device remove qemu:g.qmp cd").ok();
    wait_for(&guest, 1);
    // Its back end was removed too.
    assert_eq!(t.vusb(cd).ok(), "hci0:2");
    wait_for(&guest, 2);

    // A guest that starts with the devices sees the same. The first guest ends, so that its images
    // are free.
    drop(guest);
    let answer = t.vusb("qemu-args disks.toml --json").ok();
    let cold = boot(&t, Guest::builder().args(words(&serde_json::from_str(&answer).unwrap())));
    sees_both(&cold, &stick, &disc);
    assert_eq!(t.vusb("digest qemu:g.qmp").ok(), digest);
}

/// A loop device; detached when dropped.
struct Loop(String);

impl Loop {
    /// `None` if this machine has no free loop device.
    fn of(file: &Path) -> Option<Loop> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let node = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        (made.status.success() && Path::new(&node).exists()).then_some(Loop(node))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn a_guest_gets_a_block_device_of_this_machine() {
    let t = Terminal::new();
    let sum = t.write("block.img", &noise(23));
    let Some(node) = Loop::of(&t.path("block.img")) else {
        eprintln!("skipped: this machine has no loop device");
        return;
    };
    let node = &node.0;
    let guest = boot(&t, Guest::builder());
    assert_eq!(
        t.vusb(&format!("device add qemu:g.qmp storage:{node} --name block")).ok(),
        "hci0:1"
    );
    assert_eq!(
        t.vusb(&format!("device add qemu:g.qmp storage:{node} --name block")).ok(),
        "hci0:1"
    );
    wait_for(&guest, 1);
    guest.wait_until("[ -b /dev/sda ]", WAIT_LIMIT).unwrap();
    let read = |command: &str| guest.sh(command, WAIT_LIMIT).unwrap().ok().unwrap();
    assert!(read("sha256sum /dev/sda").starts_with(&sum));
    // The block device gets what the guest writes.
    let _ = read("printf vusb | dd of=/dev/sda conv=notrunc,fsync 2>/dev/null");
    assert_eq!(&std::fs::read(node).unwrap()[..4], b"vusb");
    let _ = t.vusb("device remove qemu:g.qmp block").ok();
    wait_for(&guest, 0);
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_locked_image_is_refused_with_the_holder() {
    let t = Terminal::new();
    t.write("stick.img", &noise(24));
    let image = t.path("stick.img");
    let other = format!("driver=file,node-name=other,filename={}", image.display());
    let disk = ["-device", "virtio-blk-pci,drive=other"];
    let holder = ["-machine", "pc", "-nodefaults", "-blockdev", &other];
    let holder = BareQemu::start(holder.into_iter().chain(disk)).unwrap();
    let qemu = BareQemu::start(["-machine", "pc", "-nodefaults"]).unwrap();
    t.name(qemu.qmp_socket(), "g");
    let error = t.vusb("device add qemu:g.qmp storage:stick.img").failed(4);
    assert!(error.contains("lock"), "{error}");
    assert!(error.contains(&format!("(pid {})", holder.pid())), "{error}");
}

#[test]
#[ignore = "needs QEMU and root; run by cargo xtask test"]
fn an_image_that_qemu_may_not_open_is_refused_with_the_reason() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start a QEMU as another user");
        return;
    }
    let t = Terminal::new();
    let set_mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(&t.path(""), 0o755);
    // vusb could open it, but the owner of the folder decides which file it is.
    let theirs = t.path("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1001), None).unwrap();
    let image = theirs.join("stick.img");
    std::fs::write(&image, noise(25)).unwrap();
    set_mode(&image, 0o644);
    let qemu = BareQemu::start(["-machine", "pc", "-nodefaults", "-runas", "nobody"]).unwrap();
    t.name(qemu.qmp_socket(), "g");
    let theirs = theirs.to_str().unwrap();
    set_mode(theirs.as_ref(), 0o700);
    let error = t.vusb("device add qemu:g.qmp storage:theirs/stick.img").failed(1);
    assert!(error.contains("it runs as user 65534, which may not open"), "{error}");
    assert!(error.contains(&format!("{theirs} (owner 1001, group 0, mode 0700)")), "{error}");
    assert!(error.contains(&format!("{theirs} belongs to user 1001, so another user")), "{error}");
    set_mode(theirs.as_ref(), 0o755);
    let error = t.vusb("device add qemu:g.qmp storage:theirs/stick.img").failed(1);
    assert!(error.contains("stick.img (owner 0, group 0, mode 0644)"), "{error}");
    let _ = t.vusb("device add qemu:g.qmp storage:theirs/stick.img,readonly").ok();
}

/// A backing file beside the image is reported, and one elsewhere is refused.
#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn the_backing_file_of_an_image_is_shown() {
    let t = Terminal::new();
    t.write("base.img", &noise(26));
    let create = |name: &str, backing: &Path| {
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([backing, &t.path(name)])
            .status();
        assert!(made.unwrap().success());
    };
    create("top.qcow2", Path::new("base.img"));
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    elsewhere.as_file().set_len(1 << 20).unwrap();
    create("far.qcow2", elsewhere.path());
    let qemu = BareQemu::start(["-machine", "pc", "-nodefaults"]).unwrap();
    t.name(qemu.qmp_socket(), "g");
    let added = t.vusb("device add qemu:g.qmp storage:top.qcow2 --name top");
    assert!(added.err.contains("the image of top also uses "), "{added:?}");
    assert!(added.err.contains("/base.img"), "{added:?}");
    assert_eq!(added.ok(), "hci0:1");
    let error = t.vusb("device add qemu:g.qmp storage:far.qcow2").failed(5);
    assert!(error.contains(elsewhere.path().to_str().unwrap()), "{error}");
    let _ = t.vusb("device add qemu:g.qmp storage:far.qcow2 --force").ok();
    // The backing file is claimed: another guest may not write to it.
    let other = BareQemu::start(["-machine", "pc", "-nodefaults"]).unwrap();
    t.name(other.qmp_socket(), "h");
    let error = t.vusb("device add qemu:h.qmp storage:base.img").failed(4);
    assert!(error.contains("is held by"), "{error}");
}
