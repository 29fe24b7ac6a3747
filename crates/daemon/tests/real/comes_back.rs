//! Devices that belong to a guest come back.

use serde_json::json;
use vusb_rig::nested::{INNER_QMP, INNER_XHCI};

use crate::machine::Machine;

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn real_devices_come_back_to_a_real_guest() {
    let machine = Machine::new();
    let domain = format!("qemu:{INNER_QMP}");

    // A stick that a person gives to the guest comes back, in the same port.
    machine.plug_stick("1");
    machine.wait_until("[ -b /dev/sda ]");
    machine.sh(&format!("vusb device add {domain} 46f4:0001:4C530001 --name stick"));
    machine.wait_until_guest_reads('a');
    for _ in 0..3 {
        machine.outer.unplug("stick").unwrap();
        machine.wait_until("! ls -d /sys/bus/usb/devices/2-1");
        machine.plug_stick("1");
        machine.wait_for_attached(1);
        machine.wait_until_guest_reads('a');
    }

    // It also comes back in another port, because it was given by its serial number.
    machine.outer.unplug("stick").unwrap();
    machine.wait_until("! ls -d /sys/bus/usb/devices/2-1");
    machine.plug_stick("6");
    machine.wait_for_attached(1);
    machine.wait_until_guest_reads('a');

    // A stick that only differs in its serial number stays with this machine, even in the old port.
    let other = json!({
        "driver": "usb-storage", "id": "other", "drive": "other", "port": "1", "serial": "4C530002"
    });
    machine.outer.plug(other).unwrap();
    machine.wait_until(
        "(for i in /dev/sd?; do [ $(dd if=$i bs=1 count=1 2>/dev/null) = b ] && exit 0; done; exit 1)",
    );
    assert_eq!(machine.attached(), 1, "{}", machine.log());

    // A hub with three devices: all of them by one rule, and the hub itself never.
    machine.outer.plug(json!({ "driver": "usb-hub", "id": "hub", "port": "4" })).unwrap();
    for (number, driver) in ["usb-tablet", "usb-tablet", "usb-mouse"].iter().enumerate() {
        let port = format!("4.{}", number + 1);
        let device = json!({ "driver": driver, "id": format!("desk{number}"), "port": port });
        machine.outer.plug(device).unwrap();
    }
    machine.wait_for_attached(4);

    // The daemon is killed, and misses a replug.
    machine.kill_daemon();
    machine.outer.unplug("stick").unwrap();
    machine.plug_stick("6");
    machine.start_daemon();
    machine.wait_for_attached(4);
    machine.wait_until_guest_reads('a');

    // The guest is killed and started again.
    machine.outer.kill_inner().unwrap();
    machine.outer.start_inner("pc", &format!("{INNER_XHCI} -S")).unwrap();
    machine.wait_for_attached(4);

    // The metrics are written a few seconds later.
    machine.wait_until("grep -q '^vusb_attach_seconds_count' /tmp/metrics");
    eprintln!("{}", machine.sh("grep '^vusb_attach' /tmp/metrics"));
}

/// What a restart of this machine leaves: the records. The folder `/run` is empty, the boot has
/// another ID, the kernel has given the stick another address, and no guest runs.
fn reboot(machine: &Machine) {
    machine.kill_daemon();
    machine.outer.kill_inner().unwrap();
    machine.outer.unplug("stick").unwrap();
    machine.sh("rm -rf /run/vusb /run/udev/rules.d /tmp/metrics; random=/proc/sys/kernel/random; \
         before=$(cat $random/boot_id); mkdir /tmp/boot-$$; \
         printf '00000000-0000-4000-8000-%012d\\n' $$ >/tmp/boot-$$/boot_id; \
         mount -o bind /tmp/boot-$$ $random; [ $(cat $random/boot_id) != $before ]");
    machine.plug_stick("1");
}

#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn what_was_given_comes_back_after_a_reboot_of_the_machine() {
    let machine = Machine::new();
    let domain = format!("qemu:{INNER_QMP}");
    machine.plug_stick("1");
    machine.wait_until("[ -b /dev/sda ]");
    machine.sh(&format!("vusb device add {domain} 46f4:0001:4C530001 --name stick"));
    machine.sh(&format!("vusb device add {domain} tablet"));
    machine.wait_until_guest_reads('a');
    let before = machine.placed();

    // The daemon starts first, as at boot.
    reboot(&machine);
    machine.start_daemon();
    machine.outer.start_inner("pc", &format!("{INNER_XHCI} -S")).unwrap();
    machine.wait_for_attached(2);
    assert_eq!(machine.placed(), before);

    // The guest starts first.
    reboot(&machine);
    machine.outer.start_inner("pc", &format!("{INNER_XHCI} -S")).unwrap();
    machine.start_daemon();
    machine.wait_for_attached(2);
    assert_eq!(machine.placed(), before);
}
