//! What is not given away without force.

use std::fs;
use std::path::PathBuf;

use vusb_host::Protection;

use crate::support::{Gadget, Machine, write};

fn mounted(device: &str, mountpoint: &str) -> Protection {
    Protection::MountedDisk { device: device.to_owned(), mountpoint: mountpoint.to_owned() }
}

fn swapped(device: &str) -> Protection {
    let device = device.to_owned();
    Protection::SwapDisk { device }
}

/// A machine with a stick at 1-4 that has the disk sdb with one partition: the folders of both.
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
    let reasons = [
        Protection::Hub,
        mounted("sdb1", "/media/stick"),
        swapped("sdb2"),
        Protection::UnknownDisk { device: "sdb".to_owned(), file: "/proc/swaps" },
        Protection::OnlyNetworkCard { interface: "eth0".to_owned() },
        Protection::OnlyKeyboard,
    ];
    let sentences = reasons.map(|reason| reason.to_string());
    assert_eq!(
        sentences,
        [
            "it is a hub: give the devices behind it instead",
            "its disk sdb1 holds what is mounted on /media/stick: unmount that first",
            "its disk sdb2 is used as swap: run swapoff first",
            "whether its disk sdb is in use cannot be told: /proc/swaps cannot be read",
            "it is the only network card of this machine (eth0)",
            "it is the only keyboard of this machine",
        ]
    );
}

#[test]
fn a_stick_that_nobody_uses_is_free() {
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
fn a_disk_that_is_mounted_without_partitions() {
    let (machine, ..) = with_stick();
    machine.mount("8:16", "/dev/sdb", "/mnt");
    assert_eq!(machine.protection("1-4"), [mounted("sdb", "/mnt")]);
}

#[test]
fn the_device_number_tells_even_when_the_name_does_not() {
    let (machine, ..) = with_stick();
    machine.mount("8:17", "/dev/root", "/boot");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/boot")]);
}

#[test]
fn a_filesystem_on_lvm() {
    let (machine, _, partition) = with_stick();
    let root = machine.stacked("dm-0", "253:0", &[&partition]);
    write(&root.join("dm/name"), "vg-root\n");
    machine.stacked("dm-1", "253:1", &[&partition]);
    machine.mount("253:0", "/dev/mapper/vg-root", "/srv");
    machine.mount("253:1", "/dev/mapper/vg-home", "/home");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/home"), mounted("sdb1", "/srv")]);
}

#[test]
fn a_filesystem_on_a_partition_of_a_raid_below_luks() {
    let (machine, disk, _) = with_stick();
    let sda = machine.path("sys/devices/pci0000:00/0000:00:17.0/block/sda");
    let raid = machine.stacked("md0", "9:0", &[&disk, &sda]);
    let part = machine.partition(&raid, "md0p1", "259:0");
    machine.stacked("dm-0", "253:0", &[&part]);
    assert_eq!(machine.protection("1-4"), []);
    machine.mount("253:0", "/dev/mapper/secret", "/secret");
    assert_eq!(machine.protection("1-4"), [mounted("sdb", "/secret")]);
}

#[test]
fn a_loop_device_on_the_stick() {
    let (machine, ..) = with_stick();
    let virtual_dir = machine.device_dir("virtual", None);
    let loop0 = machine.disk(&virtual_dir, "loop0", "7:0");
    write(&loop0.join("loop/backing_file"), "/dev/sdb1\n");
    machine.mount("7:0", "/dev/loop0", "/mnt/image");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/mnt/image")]);
}

#[test]
fn the_second_disk_of_a_btrfs() {
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
fn swap_on_the_stick() {
    let (machine, ..) = with_stick();
    machine.swap("/dev/sdb1");
    assert_eq!(machine.protection("1-4"), [swapped("sdb1")]);
}

#[test]
fn swap_on_lvm() {
    let (machine, _, partition) = with_stick();
    let dm = machine.stacked("dm-3", "253:3", &[&partition]);
    write(&dm.join("dm/name"), "vg-swap\n");
    machine.swap("/dev/dm-3");
    assert_eq!(machine.protection("1-4"), [swapped("sdb1")]);
}

#[test]
fn what_the_first_process_sees_counts_too() {
    let (machine, ..) = with_stick();
    machine.write("proc/1/mountinfo", "36 35 8:17 / /media/host rw - vfat /dev/sdb1 rw\n");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/media/host")]);
}

#[test]
fn the_old_list_of_mounts_will_do() {
    let (machine, ..) = with_stick();
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    machine.write("proc/mounts", "/dev/sdb1 /mnt vfat rw 0 0\n");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/mnt")]);
}

#[test]
fn where_nothing_tells_what_is_mounted_disks_are_protected_and_the_rest_is_not() {
    let (machine, ..) = with_stick();
    machine.plug("1-5", &Gadget::new(1, 2));
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    assert_eq!(
        machine.protection("1-4"),
        [Protection::UnknownDisk { device: "sdb".to_owned(), file: "/proc/self/mountinfo" }]
    );
    assert_eq!(machine.protection("1-5"), []);
}

#[test]
fn a_list_of_mounts_that_is_too_long_to_read_is_not_half_read() {
    let (machine, ..) = with_stick();
    machine.mount("8:17", "/dev/sdb1", "/mnt");
    let list = machine.path("proc/self/mountinfo");
    fs::File::options().write(true).open(list).unwrap().set_len(33 << 20).unwrap();
    assert!(matches!(machine.protection("1-4").as_slice(), [Protection::UnknownDisk { .. }]));
}

#[test]
fn where_nothing_tells_what_is_swapped_to_disks_are_protected() {
    let (machine, ..) = with_stick();
    fs::remove_file(machine.path("proc/swaps")).unwrap();
    fs::create_dir(machine.path("proc/swaps")).unwrap();
    assert_eq!(
        machine.protection("1-4"),
        [Protection::UnknownDisk { device: "sdb".to_owned(), file: "/proc/swaps" }]
    );
}

#[test]
fn two_unknown_device_numbers_are_not_the_same() {
    let (machine, disk, _) = with_stick();
    fs::remove_file(disk.join("dev")).unwrap();
    fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    machine.write("proc/mounts", "/dev/sda1 / ext4 rw 0 0\n");
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn a_slash_in_the_name_of_a_disk() {
    let (machine, _, partition) = with_stick();
    machine.stacked("vault!data", "240:0", &[&partition]);
    machine.mount("0:50", "/dev/vault/data", "/data");
    assert_eq!(machine.protection("1-4"), [mounted("sdb1", "/data")]);
}

#[test]
fn a_kernel_without_swap_is_no_reason() {
    let (machine, ..) = with_stick();
    fs::remove_file(machine.path("proc/swaps")).unwrap();
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn partitions_are_found_without_the_class_of_block_devices() {
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
fn ports_1_and_10_are_not_beneath_each_other() {
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
fn the_only_network_card_is_protected_whatever_else_there_is_without_a_card() {
    let machine = Machine::headless();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "enx00e04c680001");
    machine.net_without_card("virbr0", "1");
    machine.net_without_card("wg0", "65534");
    assert_eq!(machine.protection("1-2"), only_card("enx00e04c680001"));
}

#[test]
fn a_network_card_beside_another_is_free() {
    let machine = Machine::new();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "enx00e04c680001");
    assert_eq!(machine.protection("1-2"), []);
}

#[test]
fn two_usb_network_cards_stand_in_for_each_other() {
    let machine = Machine::headless();
    for (bus_id, name) in [("1-2", "usb0"), ("1-3", "usb1")] {
        let card = machine.plug(bus_id, &Gadget::network());
        machine.card(&card.join(format!("{bus_id}:1.0")), name);
    }
    assert_eq!(machine.protection("1-2"), []);
    assert_eq!(machine.protection("1-3"), []);
}

#[test]
fn two_functions_of_one_device_do_not() {
    let machine = Machine::headless();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "usb0");
    machine.card(&card.join("1-2:1.1"), "usb1");
    assert_eq!(machine.protection("1-2"), only_card("usb0"));
}

#[test]
fn a_guests_end_and_a_can_bus_are_no_network_cards() {
    let machine = Machine::headless();
    let card = machine.plug("1-2", &Gadget::network());
    machine.card(&card.join("1-2:1.0"), "usb0");
    machine.card(&machine.device_dir("vif-1-0", Some("xen-backend")), "vif1.0");
    let can = machine.card(&machine.device_dir("pci0000:00/0000:00:1a.0", Some("pci")), "can0");
    write(&can.join("type"), "280\n");
    assert_eq!(machine.protection("1-2"), only_card("usb0"));
}

/// Plugs a keyboard in, with its driver's input device.
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
fn a_keyboard_beside_the_built_in_one_is_free() {
    let machine = Machine::new();
    plug_keyboard(&machine, "1-3", "input7");
    assert_eq!(machine.protection("1-3"), []);
}

#[test]
fn two_usb_keyboards_stand_in_for_each_other() {
    let machine = Machine::headless();
    plug_keyboard(&machine, "1-3", "input7");
    plug_keyboard(&machine, "1-4", "input8");
    assert_eq!(machine.protection("1-3"), []);
    assert_eq!(machine.protection("1-4"), []);
}

#[test]
fn buttons_and_programs_are_no_keyboards() {
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
fn a_keyboard_without_a_driver_counts_and_one_that_a_guest_has_does_not() {
    let machine = Machine::headless();
    let keyboard = |driver| Gadget::new(0x046d, 0xc31c).interface(3, 1, 1, driver);
    machine.plug("1-1", &keyboard(None));
    machine.plug("1-2", &keyboard(Some("usbfs")));
    plug_keyboard(&machine, "1-3", "input7");
    assert_eq!(machine.protection("1-2"), []);
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
    // There is one that works.
    assert_eq!(machine.protection("1-1"), []);
}

#[test]
fn the_last_keyboard_is_no_longer_protected_once_a_guest_has_it() {
    let machine = Machine::headless();
    machine.plug("1-1", &Gadget::new(0x046d, 0xc31c).interface(3, 1, 1, Some("usbfs")));
    machine.plug("1-2", &Gadget::new(0x046d, 0xc31c).interface(3, 1, 1, None));
    assert_eq!(machine.protection("1-1"), []);
    assert_eq!(machine.protection("1-2"), [Protection::OnlyKeyboard]);
}

#[test]
fn a_receiver_whose_keys_show_only_in_its_input_device() {
    let machine = Machine::headless();
    let receiver = Gadget::new(0x046d, 0xc52b).interface(3, 0, 0, Some("usbhid"));
    let dir = machine.plug("1-3", &receiver);
    assert_eq!(machine.protection("1-3"), []);
    machine.keyboard(&dir.join("1-3:1.0"), "input7");
    assert_eq!(machine.protection("1-3"), [Protection::OnlyKeyboard]);
}
