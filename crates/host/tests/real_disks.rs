//! Disks that a real kernel uses: loop devices with filesystems and swap on them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vusb_host::{DiskHolder, Host, Protection};

/// Whether this process may make loop devices. `cargo xtask test` also runs without that.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("skipped: this test needs root");
    }
    root
}

/// Runs a command and returns its output.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device on a file of 16 MiB. It is removed, with its mounts and swap, when dropped.
struct Disk {
    folder: TempDir,
    node: String,
}

impl Disk {
    fn new() -> Disk {
        let folder = TempDir::new().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(folder.path().join("mnt")).unwrap();
        let node = run("losetup", &["--find", "--show", image.to_str().unwrap()]);
        Disk { folder, node }
    }

    fn name(&self) -> &str {
        self.node.strip_prefix("/dev/").unwrap()
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image").canonicalize().unwrap()
    }

    fn mountpoint(&self) -> String {
        self.folder.path().join("mnt").to_str().unwrap().to_owned()
    }

    fn protection(&self) -> Vec<Protection> {
        Host::system().storage_protection(Path::new(&self.node))
    }

    /// Opens the node exclusively, as users of a disk inside the kernel do.
    fn exclusively(&self) -> File {
        let exclusive = rustix::fs::OFlags::EXCL.bits().try_into().unwrap();
        File::options().read(true).custom_flags(exclusive).open(&self.node).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for (program, argument) in [("umount", self.mountpoint()), ("swapoff", self.node.clone())] {
            let _ = Command::new(program).arg(argument).stderr(Stdio::null()).status();
        }
        let _ = Command::new("losetup").args(["--detach", &self.node]).status();
    }
}

/// A process that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root; run by cargo xtask test"]
fn a_disk_is_protected_while_it_is_mounted() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    run("mkfs.ext4", &["-q", &disk.node]);
    assert_eq!(disk.protection(), []);
    run("mount", &[&disk.node, &disk.mountpoint()]);
    let (device, mountpoint) = (disk.name().to_owned(), disk.mountpoint());
    assert_eq!(disk.protection(), [Protection::MountedDisk { device, mountpoint }]);
    run("umount", &[&disk.mountpoint()]);
    assert_eq!(disk.protection(), []);
}

#[test]
#[ignore = "needs root; run by cargo xtask test"]
fn a_disk_is_protected_while_it_is_mounted_in_another_namespace() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    run("mkfs.ext4", &["-q", &disk.node]);
    let script = format!("mount {} {} && echo mounted && exec cat", disk.node, disk.mountpoint());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).stdin(Stdio::piped());
    let process = Process(command.stdout(Stdio::null()).spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(10);
    let reasons = loop {
        let reasons = disk.protection();
        let is_mounted = matches!(&reasons[..], [Protection::MountedElsewhere { .. }]);
        if is_mounted || Instant::now() > end {
            break reasons;
        }
    };
    let [Protection::MountedElsewhere { mountpoint, process: seen, .. }] = &reasons[..] else {
        panic!("{reasons:?}");
    };
    assert_eq!((mountpoint, seen.pid), (&disk.mountpoint(), process.0.id()));
    drop(process);
    // The kernel unmounts it after the last process has ended.
    while !disk.protection().is_empty() {
        assert!(Instant::now() < end, "{:?}", disk.protection());
    }
}

#[test]
#[ignore = "needs root; run by cargo xtask test"]
fn a_disk_is_protected_while_it_is_swap() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    run("mkswap", &[&disk.node]);
    run("swapon", &[&disk.node]);
    let device = disk.name().to_owned();
    assert_eq!(disk.protection(), [Protection::SwapDisk { device }]);
    run("swapoff", &[&disk.node]);
    assert_eq!(disk.protection(), []);
}

#[test]
#[ignore = "needs root; run by cargo xtask test"]
fn a_disk_and_its_image_are_protected_while_a_loop_device_is_on_them() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    let above = run("losetup", &["--find", "--show", &disk.node]);
    let reasons = disk.protection();
    let of_image = Host::system().storage_protection(&disk.image());
    run("losetup", &["--detach", &above]);
    let holder = DiskHolder::Loop(above.strip_prefix("/dev/").unwrap().to_owned());
    assert_eq!(reasons, [Protection::HeldDisk { device: disk.name().to_owned(), holder }]);
    assert_eq!(of_image, [Protection::HeldFile(DiskHolder::Loop(disk.name().to_owned()))]);
    assert_eq!(disk.protection(), []);
}

#[test]
#[ignore = "needs root; run by cargo xtask test"]
fn the_kernel_reports_a_use_that_no_list_shows() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    let user = disk.exclusively();
    let reasons = disk.protection();
    let [Protection::BusyDisk { device, openers, .. }] = &reasons[..] else {
        panic!("{reasons:?}");
    };
    assert_eq!(device, disk.name());
    assert!(openers.iter().any(|it| it.pid == std::process::id()), "{openers:?}");
    drop(user);
    assert_eq!(disk.protection(), []);
}

/// A machine in a directory with a stick at 1-4. Its disk has the number and node of a real one.
fn machine(disk: &Disk) -> TempDir {
    let root = TempDir::new().unwrap();
    let stick = root.path().join("sys/devices/pci0000:00/0000:00:14.0/usb1/1-4");
    let block = stick.join("1-4:1.0/block").join(disk.name());
    fs::create_dir_all(&block).unwrap();
    for (file, content) in
        [("idVendor", "0781"), ("idProduct", "5581"), ("busnum", "1"), ("devnum", "4")]
    {
        fs::write(stick.join(file), format!("{content}\n")).unwrap();
    }
    let number = fs::read_to_string(format!("/sys/class/block/{}/dev", disk.name())).unwrap();
    fs::write(block.join("dev"), &number).unwrap();
    for (list, name, dir) in
        [("sys/bus/usb/devices", "1-4", &stick), ("sys/class/block", disk.name(), &block)]
    {
        fs::create_dir_all(root.path().join(list)).unwrap();
        symlink(dir, root.path().join(list).join(name)).unwrap();
    }
    for file in ["proc/self/mountinfo", "proc/swaps"] {
        fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
        fs::write(root.path().join(file), "").unwrap();
    }
    fs::create_dir(root.path().join("dev")).unwrap();
    let (major, minor) = number.trim().split_once(':').unwrap();
    let node = root.path().join("dev").join(disk.name());
    run("mknod", &[node.to_str().unwrap(), "b", major, minor]);
    root
}

#[test]
#[ignore = "needs root; run by cargo xtask test"]
fn the_disk_of_a_usb_device_is_checked_too() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    let root = machine(&disk);
    let host = Host::new(root.path());
    let stick = &host.devices().unwrap()[0];
    assert_eq!(stick.protection, []);
    assert_eq!(host.exclusive_use(stick), []);
    let user = disk.exclusively();
    assert!(matches!(&host.exclusive_use(stick)[..], [Protection::BusyDisk { .. }]));
    // A node of another disk is not opened.
    let number = root.path().join("sys/class/block").join(disk.name()).join("dev");
    fs::write(number, "8:16\n").unwrap();
    assert_eq!(host.exclusive_use(stick), []);
    drop(user);
}
