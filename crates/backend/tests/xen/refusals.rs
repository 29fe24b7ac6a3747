//! Commands that are refused: the message, the exit code, and that nothing is left behind.

use serde_json::json;

use crate::support::{STICK, Scene, TIMEOUT};

/// Bus ids of the devices.
const KEYBOARD: &str = "1-4";
const TABLET: &str = "1-5";

struct Refusals<'a> {
    scene: &'a Scene,
    before: Vec<String>,
}

impl Refusals<'_> {
    fn refuses(&self, arguments: &str, code: i32, words: &str) {
        let (output, ended) = self.scene.vusb(arguments);
        assert_eq!(ended, code, "vusb {arguments}: {output}");
        assert!(output.contains(words), "vusb {arguments}: {output}");
        assert_eq!(self.scene.store(), self.before, "vusb {arguments}");
    }
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn refused_commands_explain_why_and_leave_nothing_behind() {
    let scene = Scene::new(1);
    let plug = |device| scene.host.plug(device).unwrap();
    plug(json!({ "driver": "usb-hub", "id": "hub", "port": "3" }));
    plug(json!({ "driver": "usb-kbd", "id": "kbd", "port": "4" }));
    plug(json!({ "driver": "usb-tablet", "id": "tablet", "port": "5" }));
    let has = |id: &str| format!("grep -q {id} /sys/bus/usb/devices/*/idProduct");
    scene.wait_in_dom0(&format!("{} && [ $(ls /dev/input/event* | wc -l) -ge 2 ]", has("55aa")));

    // Without the machine's own keyboard, the USB keyboard is the only one.
    scene.dom0("echo i8042 >/sys/bus/platform/drivers/i8042/unbind");

    let checker = Refusals { scene: &scene, before: scene.store() };
    checker.refuses("controller add xen:nobody", 3, "nobody");
    checker.refuses("controller add xen:77", 3, "77");
    checker.refuses("controller add xen:u1 --backend nobody", 3, "nobody");
    checker.refuses("controller add xen:u1 --backend u1", 7, "no vusb-backend answers");
    checker.refuses("device add xen:u1 1234:5678", 3, "1234:5678");
    checker.refuses("device add xen:u1 tablet", 9, "PVUSB");
    checker.refuses("controller add xen:u1 --usbversion 3 --type pv", 9, "xenusb3");
    checker.refuses("controller add xen:u1 --ports 32", 2, "31");
    checker.refuses("device add xen:u1 0409:55aa", 5, "hub");
    // QEMU's keyboard and tablet have the same vendor and product.
    checker.refuses("device add xen:u1 0627:0001", 2, "2 USB devices");
    checker.refuses("device add xen:u1 0627:0001:nobody", 3, "0627:0001");
    checker.refuses(&format!("device add xen:u1 {KEYBOARD}"), 5, "keyboard");

    // A controller whose only port is in use, and a USB 1 controller, which does not support a
    // high-speed stick.
    scene.vusb_ok("controller add xen:u1 --ports 1 --name one");
    scene.vusb_ok(&format!("device add xen:u1 {TABLET} --controller one"));
    scene.vusb_ok("controller add xen:u1 --usbversion 1 --name slow");
    let checker = Refusals { scene: &scene, before: scene.store() };
    checker.refuses(&format!("device add xen:u1 {STICK} --controller one"), 6, "one");
    checker.refuses(&format!("device add xen:u1 {STICK} --controller slow"), 6, "USB 2");
    checker.refuses("controller remove xen:u1 one", 4, "together with them");
    scene.vusb_ok("controller remove xen:u1 one --force");
    scene.vusb_ok("controller remove xen:u1 slow");

    // Without a backend, the message contains the command that starts it.
    scene.dom0("kill $(pidof vusb-backend); while pidof vusb-backend; do sleep 0.1; done");
    let checker = Refusals { scene: &scene, before: scene.store() };
    checker.refuses("controller add xen:u1", 7, "systemctl start vusb-backend");
    scene.start_backend();

    // A crashed guest that is preserved: it never connects.
    let dead = scene.host.new_guest("dead").config("on_crash = 'preserve'").start().unwrap();
    let crash = "(sleep 1; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &";
    dead.sh(crash, TIMEOUT).unwrap();
    scene.wait_in_dom0("xl list dead | grep -q -- '---.c'");
    let (output, code) = scene.vusb("controller add xen:dead --timeout 3");
    assert_eq!(code, 8, "{output}");
    assert!(!scene.host.xenstore().unwrap().contains("/vusb/"), "nodes are left behind");
    dead.destroy().unwrap();

    // No xenstored.
    scene.dom0("mv /run/xenstored/socket /run/xenstored/away; mv /dev/xen/xenbus /dev/xen/away");
    let (output, code) = scene.vusb("controller add xen:u1");
    assert_eq!(code, 7, "{output}");
    assert!(output.contains("xenstore"), "{output}");
}
