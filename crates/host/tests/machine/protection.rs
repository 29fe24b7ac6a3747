//! Devices that this machine needs for itself.

use std::fs;
use std::path::PathBuf;

use vusb_host::{DiskHolder, Interface, NetworkRole, Process, Protection};

use crate::support::gadget::{configuration, device, setting};
use crate::support::{Gadget, Machine, write};

fn mounted(device: &str, mountpoint: &str) -> Protection {
    Protection::MountedDisk { device: device.to_owned(), mountpoint: mountpoint.to_owned() }
}

fn swapped(device: &str) -> Protection {
    let device = device.to_owned();
    Protection::SwapDisk { device }
}

fn held(device: &str, holder: DiskHolder) -> Protection {
    let device = device.to_owned();
    Protection::HeldDisk { device, holder }
}

fn unknown_disk(device: Option<&str>, file: &str) -> Protection {
    Protection::UnknownDisk { device: device.map(str::to_owned), file: file.to_owned() }
}

fn unknown_card(interface: Option<&str>, file: &str) -> Protection {
    Protection::UnknownNetworkCard {
        interface: interface.map(str::to_owned),
        file: file.to_owned(),
    }
}

/// A machine with a stick at 1-4 that has the disk sdb with one partition, and the directories of
/// both.
fn with_stick() -> (Machine, PathBuf, PathBuf) {
    let machine = Machine::new();
    let stick = machine.plug("1-4", &Gadget::stick());
    let scsi = stick.join("1-4:1.0/host6/target6:0:0/6:0:0:0");
    let disk = machine.disk(&scsi, "sdb", "8:16");
    let partition = machine.partition(&disk, "sdb1", "8:17");
    (machine, disk, partition)
}

#[test]
fn each_reason_is_a_sentence() {
    let process = |pid: u32| Process { pid, name: "qemu".to_owned() };
    let reasons = [
        Protection::Hub,
        Protection::Unauthorized,
        mounted("sdb1", "/media/stick"),
        Protection::MountedElsewhere {
            device: "sdb1".to_owned(),
            mountpoint: "/data".to_owned(),
            process: process(7),
        },
        swapped("sdb2"),
        held("sdb1", DiskHolder::Encrypted("secret (dm-0)".to_owned())),
        Protection::BusyDisk { device: "sdb".to_owned(), content: None, openers: vec![] },
        Protection::BusyDisk {
            device: "sdb".to_owned(),
            content: Some("zfs_member".to_owned()),
            openers: (1..=7).map(process).collect(),
        },
        unknown_disk(Some("sdb"), "/proc/swaps"),
        unknown_disk(None, "/sys/class/block"),
        Protection::HeldFile(DiskHolder::Loop("loop0".to_owned())),
        Protection::SwapFile,
        Protection::UnknownStorage { file: "/proc/swaps".to_owned() },
        Protection::DefaultRoute { interface: "eth0".to_owned(), via: None },
        Protection::DefaultRoute { interface: "eth0".to_owned(), via: Some("br0".to_owned()) },
        Protection::OnlyNetworkCard { interface: "eth0".to_owned() },
        unknown_card(Some("eth0"), "/proc/net/route"),
        unknown_card(None, "/sys/class/net"),
        Protection::OnlyKeyboard,
        Protection::BluetoothKeyboard { keyboard: "K380".to_owned() },
        Protection::UnknownKeyboard { file: "/sys/class/input".to_owned() },
    ];
    let sentences = reasons.map(|reason| reason.to_string());
    assert_eq!(
        sentences,
        [
            "it is a hub: give the devices behind it instead",
            "this machine has not authorized it (USBGuard, or `authorized` in sysfs): allow it \
             there first",
            "the disk sdb1 is mounted on /media/stick: unmount it first",
            "the disk sdb1 is mounted on /data in the mount namespace of qemu (pid 7): unmount it \
             there first",
            "the disk sdb2 is used as swap: run swapoff first",
            "the disk sdb1 is used by the encrypted volume secret (dm-0): close it first",
            "the disk sdb is in use: the kernel refuses exclusive access",
            "the disk sdb is in use: the kernel refuses exclusive access (it contains zfs_member); \
             opened by qemu (pid 1), qemu (pid 2), qemu (pid 3), qemu (pid 4), qemu (pid 5) and 2 more",
            "cannot determine whether the disk sdb is in use: /proc/swaps is unreadable",
            "cannot determine whether it has a disk in use: /sys/class/block is unreadable",
            "it is used by the loop device loop0: detach it first",
            "it is used as swap: run swapoff first",
            "cannot determine whether this machine uses it: /proc/swaps is unreadable",
            "the default route goes through its network card eth0",
            "the default route goes through its network card eth0 (by br0)",
            "it is the only network card of this machine (eth0)",
            "cannot determine whether its network card eth0 is in use: /proc/net/route is unreadable",
            "cannot determine whether it has a network card in use: /sys/class/net is unreadable",
            "it is the only keyboard of this machine",
            "the only keyboard of this machine (K380) is connected by Bluetooth",
            "cannot determine whether this machine needs it as a keyboard: /sys/class/input is \
             unreadable",
        ]
    );
}

#[test]
fn each_user_of_a_disk_has_a_sentence() {
    let name = || "x".to_owned();
    let users = [
        DiskHolder::Encrypted(name()),
        DiskHolder::Lvm(name()),
        DiskHolder::DeviceMapper(name()),
        DiskHolder::Raid(name()),
        DiskHolder::Loop(name()),
        DiskHolder::Zram(name()),
        DiskHolder::Bcache,
        DiskHolder::Zfs(name()),
        DiskHolder::Filesystem("btrfs"),
        DiskHolder::XenGuest(5),
        DiskHolder::Other(name()),
    ];
    assert_eq!(
        users.map(|it| it.to_string()),
        [
            "the encrypted volume x: close it first",
            "the LVM volume x: deactivate it first",
            "the device-mapper volume x: remove it first",
            "the RAID array x: stop it first",
            "the loop device x: detach it first",
            "x, which writes back to it: reset it first",
            "bcache: stop it first",
            "the ZFS pool x: export it first",
            "a mounted btrfs filesystem: unmount it first",
            "the Xen guest with the ID 5",
            "the block device x",
        ]
    );
}

#[test]
fn a_device_that_is_not_authorized_is_protected() {
    let machine = Machine::new();
    let dir = machine.plug("1-4", &Gadget::stick().unauthorized());
    assert!(!machine.device("1-4").is_authorized);
    assert_eq!(machine.protection("1-4"), [Protection::Unauthorized]);
    // A kernel without the attribute authorizes every device.
    fs::remove_file(dir.join("authorized")).unwrap();
    assert!(machine.device("1-4").is_authorized);
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn a_stick_that_is_not_in_use_is_not_protected() {
    let (machine, ..) = with_stick();
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn a_mounted_partition_protects_its_stick_and_no_other() {
    let (machine, ..) = with_stick();
    let other = machine.plug("1-5", &Gadget::stick());
    machine.disk(&other, "sdc", "8:32");
    machine.mount("8:17", "/dev/sdb1", r"/media/my\040stick");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/media/my stick")]);
    assert_eq!(machine.protection("1-5"), []);
}

#[test]
fn a_disk_that_is_mounted_without_partitions_is_protected() {
    let (machine, ..) = with_stick();
    machine.mount("8:16", "/dev/sdb", "/mnt");
    assert_eq!(machine.protection("1-4"), [mounted("sdb", "/mnt")]);
}

#[test]
fn the_device_number_identifies_a_mount_with_another_name() {
    let (machine, ..) = with_stick();
    machine.mount("8:17", "/dev/root", "/boot");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/boot")]);
}

#[test]
fn a_filesystem_on_lvm_protects_the_disk() {
    let (machine, _, partition) = with_stick();
    let root = machine.stacked("dm-0", "253:0", &[&partition]);
    write(&root.join("dm/name"), "vg-root\n");
    machine.stacked("dm-1", "253:1", &[&partition]);
    machine.mount("253:0", "/dev/mapper/vg-root", "/srv");
    machine.mount("253:1", "/dev/mapper/vg-home", "/home");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/home"), mounted("sdb1", "/srv")]);
}

#[test]
fn a_filesystem_on_a_partition_of_an_array_protects_the_disk() {
    let (machine, disk, _) = with_stick();
    let sda = machine.path("sys/devices/pci0000:00/0000:00:17.0/block/sda");
    let raid = machine.stacked("md0", "9:0", &[&disk, &sda]);
    let part = machine.partition(&raid, "md0p1", "259:0");
    machine.stacked("dm-0", "253:0", &[&part]);
    let array = DiskHolder::Raid("md0".to_owned());
    assert_eq!(machine.protection("1-4"), [held("sdb", array)]);
    machine.mount("253:0", "/dev/mapper/secret", "/secret");
    assert_eq!(machine.protection("1-4"), [mounted("sdb", "/secret")]);
}

#[test]
fn a_mounted_loop_device_on_the_stick_protects_it() {
    let (machine, ..) = with_stick();
    let virtual_dir = machine.device_dir("virtual", None);
    let loop0 = machine.disk(&virtual_dir, "loop0", "7:0");
    write(&loop0.join("loop/backing_file"), "/dev/sdb1\n");
    machine.mount("7:0", "/dev/loop0", "/mnt/image");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/mnt/image")]);
}

#[test]
fn the_second_disk_of_a_mounted_btrfs_is_protected() {
    let (machine, ..) = with_stick();
    for member in ["sda", "sdb1"] {
        let target = machine.path("sys/class/block").join(member);
        let target = fs::canonicalize(target).unwrap();
        machine.link("sys/fs/btrfs/8f6a/devices", member, &target);
    }
    machine.mount("0:45", "/dev/sda", "/data");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/data")]);
}

#[test]
fn an_opened_luks_volume_protects_the_disk() {
    let (machine, _, partition) = with_stick();
    let volume = machine.stacked("dm-0", "253:0", &[&partition]);
    write(&volume.join("dm/name"), "secret\n");
    write(&volume.join("dm/uuid"), "CRYPT-LUKS2-8f6a-secret\n");
    let secret = DiskHolder::Encrypted("secret (dm-0)".to_owned());
    assert_eq!(machine.protection("1-4"), [held("sdb1", secret)]);
    // A mount on top is reported instead.
    machine.mount("253:0", "/dev/mapper/secret", "/secret");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/secret")]);
}

#[test]
fn each_kind_of_holder_is_named() {
    let name = |text: &str| text.to_owned();
    for (node, number, files, holder) in [
        (
            "dm-1",
            "253:1",
            &[("dm/name", "vg-root"), ("dm/uuid", "LVM-abc")][..],
            DiskHolder::Lvm(name("vg-root (dm-1)")),
        ),
        (
            "dm-2",
            "253:2",
            &[("dm/name", "mpatha"), ("dm/uuid", "mpath-3600")],
            DiskHolder::DeviceMapper(name("mpatha (dm-2)")),
        ),
        ("md127", "9:127", &[("md/level", "raid1")], DiskHolder::Raid(name("md127"))),
        ("data", "9:1", &[("md/level", "raid1")], DiskHolder::Raid(name("data"))),
        ("bcache0", "252:0", &[], DiskHolder::Bcache),
        ("drbd0", "147:0", &[], DiskHolder::Other(name("drbd0"))),
    ] {
        let (machine, _, partition) = with_stick();
        let dir = machine.stacked(node, number, &[&partition]);
        for (file, content) in files {
            write(&dir.join(file), format!("{content}\n"));
        }
        assert_eq!(machine.protection("1-4"), [held("sdb1", holder)], "{node}");
    }
}

#[test]
fn a_loop_device_that_is_not_mounted_uses_the_disk_too() {
    let (machine, ..) = with_stick();
    let virtual_dir = machine.device_dir("virtual", None);
    let loop0 = machine.disk(&virtual_dir, "loop0", "7:0");
    write(&loop0.join("loop/backing_file"), "/dev/sdb1\n");
    let holder = DiskHolder::Loop("loop0".to_owned());
    assert_eq!(machine.protection("1-4"), [held("sdb1", holder)]);
}

#[test]
fn zram_that_writes_back_to_a_disk_protects_it() {
    let (machine, ..) = with_stick();
    let zram = machine.disk(&machine.device_dir("virtual", None), "zram0", "252:0");
    write(&zram.join("backing_dev"), "none\n");
    assert_eq!(machine.protection("1-4"), []);
    write(&zram.join("backing_dev"), "/dev/sdb1\n");
    assert_eq!(machine.protection("1-4"), [held("sdb1", DiskHolder::Zram("zram0".to_owned()))]);
}

#[test]
fn a_cache_of_bcache_is_protected_although_it_has_no_holder() {
    let (machine, _, partition) = with_stick();
    fs::create_dir(partition.join("bcache")).unwrap();
    assert_eq!(machine.protection("1-4"), [held("sdb1", DiskHolder::Bcache)]);
}

#[test]
fn a_member_of_an_imported_zfs_pool_is_protected() {
    let (machine, ..) = with_stick();
    machine.write("run/udev/data/b8:17", "I:1\nE:ID_FS_LABEL=tank\nE:ID_FS_TYPE=zfs_member\n");
    assert_eq!(machine.protection("1-4"), [], "no pool is imported");
    machine.write("proc/spl/kstat/zfs/arcstats", "");
    machine.write("proc/spl/kstat/zfs/other/io", "");
    assert_eq!(machine.protection("1-4"), [], "another pool is imported");
    machine.write("proc/spl/kstat/zfs/tank/io", "");
    assert_eq!(machine.protection("1-4"), [held("sdb1", DiskHolder::Zfs("tank".to_owned()))]);
}

#[test]
fn the_disk_of_a_xen_guest_is_protected() {
    let (machine, ..) = with_stick();
    // The numbers are hexadecimal.
    machine.write("sys/bus/xen-backend/devices/vbd-5-51712/physical_device", "8:11\n");
    assert_eq!(machine.protection("1-4"), [held("sdb1", DiskHolder::XenGuest(5))]);
}

#[test]
fn a_member_of_a_btrfs_is_protected_although_no_mount_is_visible() {
    let (machine, _, partition) = with_stick();
    machine.link("sys/fs/btrfs/8f6a/devices", "sdb1", &partition);
    assert_eq!(machine.protection("1-4"), [held("sdb1", DiskHolder::Filesystem("btrfs"))]);
}

#[test]
fn a_member_of_a_bcachefs_is_protected() {
    let (machine, _, partition) = with_stick();
    machine.link("sys/fs/bcachefs/8f6a/dev-0", "block", &partition);
    assert_eq!(machine.protection("1-4"), [held("sdb1", DiskHolder::Filesystem("bcachefs"))]);
}

#[test]
fn a_mount_in_another_namespace_protects_the_disk() {
    let (machine, ..) = with_stick();
    let line = "36 35 8:17 / /data rw - vfat /dev/sdb1 rw\n";
    machine.process(1, "init", "1", "");
    machine.process(70, "bash", "1", "");
    machine.process(71, "postgres", "2", line);
    machine.process(72, "postgres", "2", line);
    let reasons = machine.protection("1-4");
    let process = Process { pid: 71, name: "postgres".to_owned() };
    let (device, mountpoint) = ("sdb1".to_owned(), "/data".to_owned());
    assert_eq!(reasons, [Protection::MountedElsewhere { device, mountpoint, process }]);
    // A mount that this process or process 1 sees is reported instead.
    machine.mount("8:17", "/dev/sdb1", "/mnt");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/mnt")]);
}

#[test]
fn a_mount_in_a_namespace_that_is_hidden_protects_the_disk() {
    let (machine, ..) = with_stick();
    // A process of another user: its namespace is hidden, but its list of mounts is readable.
    machine.write("proc/71/mountinfo", "36 35 8:17 / /data rw - vfat /dev/sdb1 rw\n");
    let process = Process { pid: 71, name: String::new() };
    let (device, mountpoint) = ("sdb1".to_owned(), "/data".to_owned());
    let expected = Protection::MountedElsewhere { device, mountpoint, process };
    assert_eq!(machine.protection("1-4"), [expected]);
}

#[test]
fn swap_on_the_stick_protects_it() {
    let (machine, ..) = with_stick();
    machine.swap("/dev/sdb1");
    assert_eq!(machine.protection("1-4"), [swapped("sdb1")]);
}

#[test]
fn swap_on_lvm_protects_the_disk() {
    let (machine, _, partition) = with_stick();
    let dm = machine.stacked("dm-3", "253:3", &[&partition]);
    write(&dm.join("dm/name"), "vg-swap\n");
    machine.swap("/dev/dm-3");
    assert_eq!(machine.protection("1-4"), [swapped("sdb1")]);
}

#[test]
fn mounts_of_process_1_count_too() {
    let (machine, ..) = with_stick();
    machine.write("proc/1/mountinfo", "36 35 8:17 / /media/host rw - vfat /dev/sdb1 rw\n");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/media/host")]);
}

#[test]
fn proc_mounts_is_the_fallback() {
    let (machine, ..) = with_stick();
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    machine.write("proc/mounts", "/dev/sdb1 /mnt vfat rw 0 0\n");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/mnt")]);
}

#[test]
fn disks_are_protected_if_the_mounts_are_unknown() {
    let (machine, ..) = with_stick();
    machine.plug("1-5", &Gadget::new(1, 2));
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    assert_eq!(machine.protection("1-4"), [unknown_disk(Some("sdb"), "/proc/self/mountinfo")]);
    assert_eq!(machine.protection("1-5"), []);
}

#[test]
fn a_list_of_mounts_over_the_limit_is_unknown() {
    let (machine, ..) = with_stick();
    machine.mount("8:17", "/dev/sdb1", "/mnt");
    let list = machine.path("proc/self/mountinfo");
    fs::File::options().write(true).open(list).unwrap().set_len(33 << 20).unwrap();
    assert!(matches!(machine.protection("1-4").as_slice(), [Protection::UnknownDisk { .. }]));
}

#[test]
fn disks_are_protected_if_swap_is_unknown() {
    let (machine, ..) = with_stick();
    machine.make_unreadable("proc/swaps");
    assert_eq!(machine.protection("1-4"), [unknown_disk(Some("sdb"), "/proc/swaps")]);
    // Where proc only shows processes, it has no list of swap, and no other list either.
    fs::remove_dir(machine.path("proc/swaps")).unwrap();
    assert_eq!(machine.protection("1-4"), [unknown_disk(Some("sdb"), "/proc/swaps")]);
}

#[test]
fn a_list_of_another_namespace_over_the_limit_is_unknown() {
    for (file, named) in
        [("proc/1/mountinfo", "/proc/1/mountinfo"), ("proc/71/mountinfo", "/proc/PID/mountinfo")]
    {
        let (machine, ..) = with_stick();
        machine.write(file, "");
        let list = fs::File::options().write(true).open(machine.path(file)).unwrap();
        list.set_len(65 << 20).unwrap();
        assert_eq!(machine.protection("1-4"), [unknown_disk(Some("sdb"), named)]);
    }
}

#[test]
fn disks_are_protected_if_their_users_are_unreadable() {
    for file in [
        "sys/class/block/sdb/dev",
        "sys/class/block/sdb1/holders",
        "sys/class/block/loop0/loop/backing_file",
        "sys/class/block/dm-0/dm/name",
        "sys/fs/btrfs",
        "sys/fs/bcachefs",
        "proc/spl/kstat/zfs",
        "sys/bus/xen-backend/devices",
    ] {
        let (machine, ..) = with_stick();
        machine.plug("1-5", &Gadget::new(1, 2));
        let loop0 = machine.disk(&machine.device_dir("virtual", None), "loop0", "7:0");
        write(&loop0.join("loop/backing_file"), "/image\n");
        let mapped = machine.stacked("dm-0", "253:0", &[]);
        write(&mapped.join("dm/name"), "mapped\n");
        assert_eq!(machine.protection("1-4"), []);
        match machine.path(file).exists() {
            true => machine.make_unreadable(file),
            // A directory that is a file is unreadable.
            false => machine.write(file, ""),
        }
        let reasons = machine.protection("1-4");
        assert!(
            matches!(&reasons[..], [Protection::UnknownDisk { device: Some(_), .. }]),
            "{file}: {reasons:?}"
        );
        assert_eq!(machine.protection("1-5"), [], "{file}");
    }
}

#[test]
fn any_device_is_protected_if_it_is_unknown_what_it_is_for() {
    let keyboards = Protection::UnknownKeyboard { file: "/sys/class/input".to_owned() };
    for (class, reason) in [
        ("sys/class/block", unknown_disk(None, "/sys/class/block")),
        ("sys/class/net", unknown_card(None, "/sys/class/net")),
        ("sys/class/input", keyboards),
    ] {
        let machine = Machine::new();
        machine.plug("1-5", &Gadget::new(1, 2));
        assert_eq!(machine.protection("1-5"), []);
        machine.make_unreadable(class);
        assert_eq!(machine.protection("1-5"), [reason]);
    }
}

#[test]
fn a_device_is_not_authorized_if_that_is_unreadable() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::stick());
    machine.make_unreadable("sys/bus/usb/devices/1-4/authorized");
    assert_eq!(machine.protection("1-4"), [Protection::Unauthorized]);
}

#[test]
fn two_unknown_device_numbers_are_not_equal() {
    let (machine, disk, _) = with_stick();
    fs::remove_file(disk.join("dev")).unwrap();
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    machine.write("proc/mounts", "/dev/sda1 / ext4 rw 0 0\n");
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn a_disk_with_a_slash_in_its_name_is_found() {
    let (machine, _, partition) = with_stick();
    machine.stacked("vault!data", "240:0", &[&partition]);
    machine.mount("0:50", "/dev/vault/data", "/data");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/data")]);
}

#[test]
fn a_kernel_without_swap_protects_nothing() {
    let (machine, ..) = with_stick();
    fs::remove_file(machine.path("proc/swaps")).unwrap();
    machine.write("proc/filesystems", "");
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn partitions_are_found_without_the_block_class() {
    let (machine, disk, _) = with_stick();
    fs::remove_dir_all(machine.path("sys/class/block")).unwrap();
    machine.link("sys/block", "sdb", &disk);
    machine.mount("8:17", "/dev/sdb1", "/mnt");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/mnt")]);
}

#[test]
fn a_disk_behind_a_hub_protects_the_hub_too() {
    let machine = Machine::new();
    machine.plug("1-4", &Gadget::hub());
    let stick = machine.plug("1-4.2", &Gadget::stick());
    machine.disk(&stick, "sdb", "8:16");
    machine.mount("8:16", "/dev/sdb", "/mnt");
    assert_eq!(machine.protection("1-4.2"), [mounted("sdb", "/mnt")]);
    assert_eq!(machine.protection("1-4"), [Protection::Hub, mounted("sdb", "/mnt")]);
}

#[test]
fn port_10_is_not_below_port_1() {
    let machine = Machine::new();
    machine.plug("1-1", &Gadget::stick());
    let tenth = machine.plug("1-10", &Gadget::stick());
    machine.disk(&tenth, "sdb", "8:16");
    machine.mount("8:16", "/dev/sdb", "/mnt");
    assert_eq!(machine.protection("1-1"), []);
    assert_eq!(machine.protection("1-10"), [mounted("sdb", "/mnt")]);
}

fn only_card(interface: &str) -> [Protection; 1] {
    [Protection::OnlyNetworkCard { interface: interface.to_owned() }]
}

#[test]
fn the_only_network_card_is_protected_despite_virtual_interfaces() {
    let machine = Machine::headless();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "enx00e04c680001");
    machine.net_without_card("virbr0", "1");
    machine.net_without_card("wg0", "65534");
    assert_eq!(machine.protection("1-2"), only_card("enx00e04c680001"));
}

#[test]
fn one_of_two_network_cards_is_not_protected() {
    let machine = Machine::new();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "enx00e04c680001");
    assert_eq!(machine.protection("1-2"), []);
}

#[test]
fn one_of_two_usb_network_cards_is_not_protected() {
    let machine = Machine::headless();
    for (bus_id, name) in [("1-2", "usb0"), ("1-3", "usb1")] {
        let card = machine.plug(bus_id, &Gadget::network());
        machine.card(&card.join(format!("{bus_id}:1.0")), name);
    }
    assert_eq!(machine.protection("1-2"), []);
    assert_eq!(machine.protection("1-3"), []);
}

#[test]
fn two_network_functions_of_one_device_are_protected() {
    let machine = Machine::headless();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "usb0");
    machine.card(&card.join("1-2:1.1"), "usb1");
    assert_eq!(machine.protection("1-2"), only_card("usb0"));
}

#[test]
fn a_xen_backend_and_a_can_bus_are_not_network_cards() {
    let machine = Machine::headless();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "usb0");
    machine.card(&machine.device_dir("vif-1-0", Some("xen-backend")), "vif1.0");
    let can = machine.card(&machine.device_dir("pci0000:00/0000:00:1a.0", Some("pci")), "can0");
    write(&can.join("type"), "280\n");
    assert_eq!(machine.protection("1-2"), only_card("usb0"));
}

fn routed(interface: &str, via: Option<&str>) -> [Protection; 1] {
    let via = via.map(str::to_owned);
    [Protection::DefaultRoute { interface: interface.to_owned(), via }]
}

/// A machine with another network card, and one at 1-2 with the interface usb0.
fn with_network_card() -> (Machine, PathBuf) {
    let machine = Machine::new();
    let dir = machine.plug("1-2", &Gadget::network());
    let card = machine.card(&dir.join("1-2:1.0"), "usb0");
    (machine, card)
}

#[test]
fn the_card_with_the_default_route_is_protected() {
    let (machine, _) = with_network_card();
    machine.default_route("eth0");
    assert_eq!(machine.protection("1-2"), []);
    machine.default_route("usb0");
    assert_eq!(machine.protection("1-2"), routed("usb0", None));
}

#[test]
fn the_card_with_the_default_route_of_ipv6_is_protected() {
    let (machine, _) = with_network_card();
    let zero = "0".repeat(32);
    let route = format!("{zero} 00 {zero} 00 {zero} 00000400 1 0 00000003     usb0\n");
    machine.write("proc/net/ipv6_route", route);
    assert_eq!(machine.protection("1-2"), routed("usb0", None));
}

#[test]
fn a_card_that_is_up_is_protected_if_the_routes_are_unknown() {
    for file in ["proc/net/route", "proc/net/ipv6_route"] {
        let (machine, card) = with_network_card();
        machine.plug("1-5", &Gadget::new(1, 2));
        machine.make_unreadable(file);
        let unknown = [unknown_card(Some("usb0"), &format!("/{file}"))];
        assert_eq!(machine.protection("1-2"), unknown);
        write(&card.join("flags"), "0x1003\n");
        assert_eq!(machine.protection("1-2"), unknown);
        write(&card.join("flags"), "0x1002\n");
        assert_eq!(machine.protection("1-2"), []);
        assert_eq!(machine.protection("1-5"), []);
    }
    let (machine, _) = with_network_card();
    fs::remove_file(machine.path("proc/net/route")).unwrap();
    assert_eq!(machine.protection("1-2"), [unknown_card(Some("usb0"), "/proc/net/route")]);
}

#[test]
fn a_card_is_protected_if_its_use_is_unreadable() {
    for file in ["sys/class/net/usb0/device/subsystem", "sys/class/net/usb0/master"] {
        let (machine, _) = with_network_card();
        machine.make_unreadable(file);
        assert_eq!(machine.protection("1-2").len(), 1, "{file}");
    }
    // An interface of which it is unknown whether it has hardware.
    let (machine, card) = with_network_card();
    fs::remove_file(card.join("device")).unwrap();
    std::os::unix::fs::symlink("device", card.join("device")).unwrap();
    assert!(matches!(
        &machine.protection("1-2")[..],
        [Protection::UnknownNetworkCard { interface: Some(_), .. }]
    ));
}

#[test]
fn an_attribute_of_the_class_is_not_an_interface() {
    let (machine, _) = with_network_card();
    machine.write("sys/class/net/bonding_masters", "bond0\n");
    assert_eq!(machine.protection("1-2"), []);
}

#[test]
fn a_card_below_the_default_route_is_protected() {
    let (machine, _) = with_network_card();
    for name in ["bond0", "bond0.5", "br0"] {
        machine.net_without_card(name, "1");
    }
    machine.net_on_top("bond0", "usb0", true);
    machine.net_on_top("bond0.5", "bond0", false);
    machine.net_on_top("br0", "bond0.5", true);
    machine.default_route("br0");
    assert_eq!(machine.protection("1-2"), routed("usb0", Some("br0")));
}

#[test]
fn a_card_below_another_interface_is_protected() {
    for (folder, as_master, role, sentence) in [
        ("bridge", true, NetworkRole::BridgePort, "a port of the bridge upper0"),
        ("bonding", true, NetworkRole::BondMember, "a member of the bond upper0"),
        ("other", true, NetworkRole::Member, "a member of upper0"),
        ("other", false, NetworkRole::Below, "below upper0"),
    ] {
        let (machine, _) = with_network_card();
        let upper = machine.net_without_card("upper0", "1");
        fs::create_dir(upper.join(folder)).unwrap();
        machine.net_on_top("upper0", "usb0", as_master);
        let reasons = machine.protection("1-2");
        let (interface, upper) = ("usb0".to_owned(), "upper0".to_owned());
        assert_eq!(reasons, [Protection::UsedNetworkCard { interface, role, upper }]);
        let sentence = format!("its network card usb0 is {sentence}: take it out first");
        assert_eq!(reasons[0].to_string(), sentence);
    }
}

#[test]
fn interfaces_on_top_of_each_other_terminate() {
    let (machine, _) = with_network_card();
    machine.net_without_card("a", "1");
    machine.net_on_top("a", "usb0", false);
    machine.net_on_top("usb0", "a", false);
    assert!(matches!(machine.protection("1-2")[..], [Protection::UsedNetworkCard { .. }]));
}

/// Plugs in a keyboard with the input device of its driver.
fn plug_keyboard(machine: &Machine, bus_id: &str, input: &str) {
    let dir = machine.plug(bus_id, &Gadget::keyboard());
    let hid = dir.join(format!("{bus_id}:1.0/0003:046D:C31C.0001"));
    machine.keyboard(&hid, input);
}

#[test]
fn the_only_keyboard_is_protected() {
    let machine = Machine::headless();
    plug_keyboard(&machine, "1-3", "input7");
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
}

#[test]
fn a_keyboard_is_not_protected_if_there_is_a_built_in_one() {
    let machine = Machine::new();
    plug_keyboard(&machine, "1-3", "input7");
    assert_eq!(machine.protection("1-3"), []);
}

#[test]
fn one_of_two_usb_keyboards_is_not_protected() {
    let machine = Machine::headless();
    plug_keyboard(&machine, "1-3", "input7");
    plug_keyboard(&machine, "1-4", "input8");
    assert_eq!(machine.protection("1-3"), []);
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn buttons_remote_controls_and_virtual_keyboards_do_not_count() {
    let machine = Machine::headless();
    plug_keyboard(&machine, "1-3", "input7");
    let acpi = machine.device_dir("LNXSYSTM:00/LNXPWRBN:00", Some("acpi"));
    machine.input(&acpi, "input0", "10000000000000 0");
    let remote = machine.device_dir("pci0000:00/0000:00:1b.0/rc/rc0", Some("rc"));
    machine.input(&remote, "input1", "3e000000 7fe");
    machine.keyboard(&machine.device_dir("virtual", None), "input9");
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
}

#[test]
fn a_mouse_that_reports_keys_is_not_a_substitute() {
    let machine = Machine::headless();
    plug_keyboard(&machine, "1-3", "input7");
    // A receiver of a mouse, whose input device has the keys of a keyboard and moves a pointer.
    let receiver = Gadget::new(0x046d, 0xc52b).interface(3, 0, 0, Some("usbhid"));
    let dir = machine.plug("1-4", &receiver);
    let mouse = machine.keyboard(&dir.join("1-4:1.0/0003:046D:405E.0002"), "input8");
    write(&mouse.join("capabilities/rel"), "1943\n");
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
    assert_eq!(machine.protection("1-4"), []);
    // A plain mouse is not a keyboard either.
    let dir = machine.plug("1-5", &Gadget::new(0x046d, 0xc077).interface(3, 1, 2, Some("usbhid")));
    machine.input(&dir.join("1-5:1.0"), "input9", "70000 0 0 0 0");
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
    // A keyboard that does not move a pointer is a substitute.
    plug_keyboard(&machine, "1-6", "input10");
    assert_eq!(machine.protection("1-3"), []);
}

#[test]
fn a_keyboard_without_a_driver_counts_and_a_passed_through_one_does_not() {
    let machine = Machine::headless();
    let keyboard = |driver| Gadget::new(0x046d, 0xc31c).interface(3, 1, 1, driver);
    machine.plug("1-1", &keyboard(None));
    machine.plug("1-2", &keyboard(Some("usbfs")));
    plug_keyboard(&machine, "1-3", "input7");
    assert_eq!(machine.protection("1-2"), []);
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
    // Another one works.
    assert_eq!(machine.protection("1-1"), []);
}

#[test]
fn a_keyboard_is_not_protected_once_it_is_passed_through() {
    let machine = Machine::headless();
    machine.plug("1-1", &Gadget::new(0x046d, 0xc31c).interface(3, 1, 1, Some("usbfs")));
    machine.plug("1-2", &Gadget::new(0x046d, 0xc31c).interface(3, 1, 1, None));
    assert_eq!(machine.protection("1-1"), []);
    assert_eq!(machine.protection("1-2"), [Protection::OnlyKeyboard]);
}

#[test]
fn a_keyboard_is_protected_if_it_is_unknown_whether_another_one_works() {
    for file in ["capabilities/key", "capabilities/rel"] {
        let machine = Machine::new();
        plug_keyboard(&machine, "1-3", "input7");
        let of_mouse = Gadget::new(0x046d, 0xc077).interface(3, 1, 2, Some("usbhid"));
        machine.plug("1-5", &of_mouse);
        assert_eq!(machine.protection("1-3"), []);
        let file = format!("sys/class/input/input3/{file}");
        machine.make_unreadable(&file);
        let reasons = machine.protection("1-3");
        let is_protected =
            matches!(&reasons[..], [Protection::UnknownKeyboard { .. } | Protection::OnlyKeyboard]);
        assert!(is_protected, "{file}: {reasons:?}");
        assert_eq!(machine.protection("1-5"), [], "{file}");
    }
}

#[test]
fn an_adapter_is_protected_if_it_is_unknown_how_a_keyboard_is_connected() {
    let machine = Machine::headless();
    pair_keyboard(&machine);
    machine.plug("1-5", &Gadget::bluetooth());
    machine.make_unreadable("sys/class/input/input21/id/bustype");
    assert!(matches!(&machine.protection("1-5")[..], [Protection::UnknownKeyboard { .. }]));
}

/// The kernel announces a device before it configures it. A udev rule may run `vusb` then.
#[test]
fn a_device_that_is_not_configured_yet_is_judged_by_its_descriptors() {
    let machine = Machine::headless();
    machine.plug("1-3", &Gadget::keyboard().unconfigured());
    machine.plug("1-4", &Gadget::stick().unconfigured());
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
    assert_eq!(machine.protection("1-4"), []);
    let triples = |port| {
        let interfaces = machine.device(port).interfaces;
        interfaces.iter().map(Interface::class_triple).collect::<Vec<_>>()
    };
    assert_eq!(triples("1-4"), [(8, 6, 0x50)]);
    for port in ["1-3", "1-4"] {
        assert!(machine.host().is_settling(&machine.device(port)));
        assert_eq!(machine.device(port).configuration, None);
    }

    // The kernel's choice is unknown: each configuration counts.
    let keyboard = setting(0, 0, (3, 1, 1), &[]);
    let modem = setting(0, 0, (255, 0, 0), &[]);
    let both = [configuration(1, 1, &[modem]), configuration(2, 1, &[keyboard])];
    let composite = Gadget::new(0x046d, 0xc31c).descriptors(device(0x046d, 0xc31c, &both));
    machine.plug("1-5", &composite.clone().unconfigured());
    assert_eq!(machine.protection("1-5"), [Protection::OnlyKeyboard]);
    assert_eq!(triples("1-5"), [(255, 0, 0), (3, 1, 1)]);
    // Once it is known, that one counts, even if its interfaces are missing.
    machine.plug("1-6", &composite);
    assert_eq!(triples("1-6"), [(255, 0, 0)]);
    assert!(!machine.host().is_settling(&machine.device("1-6")));
}

#[test]
fn interfaces_before_the_fault_in_malformed_descriptors_count() {
    let machine = Machine::headless();
    let mut bytes = Gadget::keyboard().to_bytes();
    bytes.extend([0, 0, 1]);
    machine.plug("1-3", &Gadget::keyboard().descriptors(bytes).unconfigured());
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
    let hub = Gadget::hub().class(0).unconfigured();
    machine.plug("1-4", &hub);
    assert_eq!(machine.protection("1-4"), [Protection::Hub]);
}

#[test]
fn a_bluetooth_adapter_that_is_not_configured_yet_is_protected() {
    let machine = Machine::headless();
    pair_keyboard(&machine);
    machine.plug("1-3", &Gadget::bluetooth().unconfigured());
    let keyboard = "Keyboard K380".to_owned();
    assert_eq!(machine.protection("1-3"), [Protection::BluetoothKeyboard { keyboard }]);
}

#[test]
fn a_device_that_is_not_authorized_is_not_waited_for() {
    let machine = Machine::new();
    let dir = machine.plug("1-4", &Gadget::stick().unauthorized());
    let stick = machine.device("1-4");
    assert!(!machine.host().is_settling(&stick));
    // Nor is a device without the attribute, whose configuration is unknown.
    fs::remove_file(dir.join("bConfigurationValue")).unwrap();
    write(&dir.join("authorized"), "1");
    assert!(!machine.host().is_settling(&machine.device("1-4")));
    write(&dir.join("bConfigurationValue"), "\n");
    assert!(machine.host().is_settling(&machine.device("1-4")));
    write(&dir.join("devnum"), "99");
    assert!(!machine.host().is_settling(&stick), "another device is there");
}

#[test]
fn a_receiver_is_recognized_by_its_input_device() {
    let machine = Machine::headless();
    let receiver = Gadget::new(0x046d, 0xc52b).interface(3, 0, 0, Some("usbhid"));
    let dir = machine.plug("1-3", &receiver);
    assert_eq!(machine.protection("1-3"), []);
    machine.keyboard(&dir.join("1-3:1.0"), "input7");
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
}

/// An input device of BlueZ: it is not below the adapter.
fn pair_keyboard(machine: &Machine) {
    let uhid = machine.device_dir("virtual/misc/uhid/0005:046D:B342.0008", Some("hid"));
    let input = machine.keyboard(&uhid, "input21");
    write(&input.join("id/bustype"), "0005\n");
    write(&input.join("name"), "Keyboard K380\n");
}

#[test]
fn the_adapter_of_the_only_bluetooth_keyboard_is_protected() {
    let machine = Machine::headless();
    machine.plug("1-5", &Gadget::bluetooth());
    assert_eq!(machine.protection("1-5"), []);
    pair_keyboard(&machine);
    let keyboard = "Keyboard K380".to_owned();
    assert_eq!(machine.protection("1-5"), [Protection::BluetoothKeyboard { keyboard }]);
    // The Bluetooth keyboard counts, so a second keyboard can be given away.
    machine.plug("1-1", &Gadget::keyboard());
    assert_eq!(machine.protection("1-1"), []);
}

#[test]
fn the_adapter_is_not_protected_if_another_keyboard_works() {
    let machine = Machine::new();
    machine.plug("1-5", &Gadget::bluetooth());
    pair_keyboard(&machine);
    assert_eq!(machine.protection("1-5"), []);
}

#[test]
fn a_bluetooth_keyboard_that_the_kernel_runs_is_below_its_adapter() {
    let machine = Machine::headless();
    let adapter = machine.plug("1-5", &Gadget::bluetooth());
    machine.plug("1-6", &Gadget::bluetooth());
    let hid = adapter.join("1-5:1.0/bluetooth/hci0/hci0:256/0005:046D:B342.0007");
    let input = machine.keyboard(&hid, "input20");
    write(&input.join("name"), "Keyboard K380\n");
    let keyboard = "Keyboard K380".to_owned();
    assert_eq!(machine.protection("1-5"), [Protection::BluetoothKeyboard { keyboard }]);
    assert_eq!(machine.protection("1-6"), []);
}

#[test]
fn an_image_that_this_machine_uses_is_protected() {
    let (machine, ..) = with_stick();
    let image = machine.path("stick.img");
    write(&image, "");
    let host = machine.host();
    assert_eq!(host.storage_protection(&image), []);
    let loop0 = machine.disk(&machine.device_dir("virtual", None), "loop0", "7:0");
    write(&loop0.join("loop/backing_file"), format!("{}\n", image.display()));
    let by_loop = Protection::HeldFile(DiskHolder::Loop("loop0".to_owned()));
    assert_eq!(host.storage_protection(&image), std::slice::from_ref(&by_loop));
    machine.swap(image.to_str().unwrap());
    assert_eq!(host.storage_protection(&image), [by_loop, Protection::SwapFile]);
    assert_eq!(host.storage_protection(&machine.path("other.img")), []);
}

#[test]
fn an_image_is_protected_if_its_users_are_unreadable() {
    for file in ["proc/swaps", "sys/class/block"] {
        let (machine, ..) = with_stick();
        machine.write("stick.img", "");
        machine.make_unreadable(file);
        let expected = Protection::UnknownStorage { file: format!("/{file}") };
        assert_eq!(machine.host().storage_protection(&machine.path("stick.img")), [expected]);
    }
}
