//! Devices that are hard to tell apart: alike, or with another id after a replug; and one that
//! fails beside nine that work.

use serde_json::json;
use vusb_rig::nested::INNER_QMP;

use crate::machine::Machine;

impl Machine {
    /// Plugs in a device without a serial number of its own, in this port.
    fn plug_plain(&self, driver: &str, id: &str, port: &str) {
        self.outer.plug(json!({ "driver": driver, "id": id, "port": port })).unwrap();
    }

    /// A disk of these contents, `disk` or `other`. The serial number is always the same.
    fn plug_alike(&self, id: &str, drive: &str, port: &str) {
        let device = json!({
            "driver": "usb-storage", "id": id, "drive": drive, "port": port, "serial": "SAME"
        });
        self.outer.plug(device).unwrap();
        let there = format!(
            "for i in /sys/bus/usb/devices/2-{port}/2-{port}:1.0/host*/target*/*/block/sd?; do \
             [ -e $i ] && exit 0; done; exit 1"
        );
        self.wait_until(&format!("({there})"));
    }

    fn unplug_from(&self, id: &str, bus_id: &str) {
        self.outer.unplug(id).unwrap();
        self.wait_until(&format!("! ls -d /sys/bus/usb/devices/{bus_id}"));
    }

    /// How many host devices QEMU itself has.
    fn in_qemu(&self) -> usize {
        let tree = self.sh("rig-qmp /run/inner-spare.qmp human-monitor-command \
             '{\"command-line\": \"info qtree\"}'");
        tree.matches("dev: usb-host").count()
    }
}

/// Alike devices have the same ids and the same serial number: only the port tells them apart. So a
/// device goes to the place in the guest that the device of its port was given.
#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn alike_devices_that_are_swapped_and_a_device_that_returns_with_another_id() {
    let machine = Machine::new();
    let domain = format!("qemu:{INNER_QMP}");
    machine.plug_alike("one", "disk", "1");
    machine.plug_alike("two", "other", "6");
    machine.sh(&format!("vusb device add {domain} 2-1 --name left"));
    machine.sh(&format!("vusb device add {domain} 2-6 --name right"));
    machine.wait_until_guest_reads('a');
    machine.wait_until_guest_reads('b');
    let before = machine.placed();

    machine.unplug_from("one", "2-1");
    machine.unplug_from("two", "2-6");
    machine.plug_alike("one", "disk", "6");
    machine.plug_alike("two", "other", "1");
    machine.wait_for_attached(2);
    assert_eq!(machine.placed(), before);
    assert_eq!(machine.in_qemu(), 2, "{}", machine.log());
    machine.wait_until_guest_reads('a');
    machine.wait_until_guest_reads('b');

    // The stick on the right is taken from the guest: only the left port is the guest's now.
    machine.sh(&format!("vusb device remove {domain} right"));
    machine.unplug_from("one", "2-6");
    machine.unplug_from("two", "2-1");
    machine.plug_alike("one", "disk", "1");
    machine.plug_alike("two", "other", "6");
    machine.wait_for_attached(1);
    machine.wait_until_guest_reads('a');
    assert_eq!(machine.in_qemu(), 1, "{}", machine.log());

    // In its firmware loader, a device has another id. Here a tablet becomes one of another maker.
    machine.plug_plain("usb-tablet", "pad", "3");
    machine.wait_until("ls -d /sys/bus/usb/devices/1-3:1.0");
    let spec = format!(
        "driver = \"{domain}\"\n[[device]]\nname = \"left\"\nhost = \"2-1\"\n\
         [[device]]\nname = \"pad\"\nhost = \"1-3\"\nalso = [\"056a:0000\"]\n"
    );
    machine.sh(&format!("cat >/tmp/spec.toml <<'END'\n{spec}END\nvusb apply /tmp/spec.toml"));
    machine.wait_for_attached(2);
    let ids = |machine: &Machine| machine.sh("cat /sys/bus/usb/devices/1-3/idVendor");
    for (driver, vendor) in [("usb-wacom-tablet", "056a"), ("usb-tablet", "0627")] {
        machine.unplug_from("pad", "1-3");
        machine.wait_for_attached(1);
        machine.plug_plain(driver, "pad", "3");
        machine.wait_for_attached(2);
        assert_eq!(ids(&machine).trim(), vendor);
        assert_eq!(machine.in_qemu(), 2, "{}", machine.log());
    }
    // Another device in that port is not the guest's.
    machine.unplug_from("pad", "1-3");
    machine.plug_plain("usb-audio", "pad", "3");
    machine.wait_until("ls -d /sys/bus/usb/devices/1-3:1.0");
    machine.sh("vusbd --reload /run/vusb/io.github.vusb.Manager");
    machine.wait_for_attached(1);
    let plugs = machine.sh("grep -c ' plug pad' /tmp/vusbd.log");
    assert_eq!(plugs.trim(), "2", "{}", machine.log());
}

/// Ten devices of one guest. QEMU cannot open one of them.
#[test]
#[ignore = "boots a machine with a guest inside; run by cargo xtask test"]
fn a_device_that_fails_keeps_no_other_away() {
    let machine = Machine::new();
    machine.kill_daemon();
    for (id, port) in [("hub", "4"), ("hub8", "4.8")] {
        machine.plug_plain("usb-hub", id, port);
        machine.wait_until(&format!("ls -d /sys/bus/usb/devices/1-{port}:1.0"));
        // A suspended hub of QEMU can miss a plug.
        machine.sh(&format!("echo on > /sys/bus/usb/devices/1-{port}/power/control"));
    }
    let own = (1..=7).map(|port| format!("4.{port}"));
    let ports: Vec<String> = own.chain((1..=3).map(|port| format!("4.8.{port}"))).collect();
    for (number, port) in ports.iter().enumerate() {
        machine.plug_plain("usb-tablet", &format!("pad{number}"), port);
    }
    for port in &ports {
        machine.wait_until(&format!("ls -d /sys/bus/usb/devices/1-{port}:1.0"));
    }
    let node = machine.sh("cd /sys/bus/usb/devices/1-4.1; \
         printf '/dev/bus/usb/%03d/%03d' $(cat busnum) $(cat devnum)");
    machine.sh(&format!("udevadm settle 2>/dev/null; ls {node} && mv {node} /tmp/node"));
    machine.start_daemon();
    machine.wait_for_attached(9);
    let took = machine.sh(
        "awk '/ ready/ { at = $1 } / plug / { n++; if (n == 9) print $1 - at }' /tmp/vusbd.log",
    );
    println!("nine devices {} s after vusbd was ready", took.trim());
    machine.wait_until("grep -q 'failed several times in a row' /tmp/vusbd.log");
    assert_eq!(machine.in_qemu(), 9, "{}", machine.log());
    // The tenth device is tried again, and is attached once its node is back.
    machine.sh(&format!("mv /tmp/node {node}"));
    machine.wait_for_attached(10);
}
