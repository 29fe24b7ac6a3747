//! What cannot be done: the sentence, the exit code, and nothing left behind.

use serde_json::json;

use crate::support::{PATIENCE, STICK, Scene};

/// Where they are plugged in.
const KEYBOARD: &str = "1-4";
const TABLET: &str = "1-5";

struct Refusals<'a> {
    scene: &'a Scene,
    before: Vec<String>,
}

impl Refusals<'_> {
    fn refuses(&self, arguments: &str, code: i32, words: &str) {
        let (said, ended) = self.scene.vusb(arguments);
        assert_eq!(ended, code, "vusb {arguments}: {said}");
        assert!(said.contains(words), "vusb {arguments}: {said}");
        assert_eq!(self.scene.store(), self.before, "vusb {arguments}");
    }
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn what_cannot_be_done_is_said_and_leaves_nothing_behind() {
    let scene = Scene::new(1);
    let plug = |device| scene.host.plug(device).unwrap();
    plug(json!({ "driver": "usb-hub", "id": "hub", "port": "3" }));
    plug(json!({ "driver": "usb-kbd", "id": "kbd", "port": "4" }));
    plug(json!({ "driver": "usb-tablet", "id": "tablet", "port": "5" }));
    let has = |id: &str| format!("grep -q {id} /sys/bus/usb/devices/*/idProduct");
    scene.dom0_until(&format!("{} && [ $(ls /dev/input/event* | wc -l) -ge 2 ]", has("55aa")));

    // The keyboard is the only one once the machine's own is gone.
    scene.dom0("echo i8042 >/sys/bus/platform/drivers/i8042/unbind");

    let no = Refusals { scene: &scene, before: scene.store() };
    no.refuses("controller add xen:nobody", 3, "nobody");
    no.refuses("controller add xen:77", 3, "77");
    no.refuses("controller add xen:u1 --backend nobody", 3, "nobody");
    no.refuses("controller add xen:u1 --backend u1", 7, "no vusb-backend answers");
    no.refuses("device add xen:u1 1234:5678", 3, "1234:5678");
    no.refuses("device add xen:u1 tablet", 9, "PVUSB");
    no.refuses("controller add xen:u1 --usbversion 3 --type pv", 9, "xenusb3");
    no.refuses("controller add xen:u1 --ports 32", 2, "31");
    no.refuses("device add xen:u1 0409:55aa", 5, "hub");
    // QEMU's keyboard and its tablet have one vendor and product.
    no.refuses("device add xen:u1 0627:0001", 2, "2 devices");
    no.refuses("device add xen:u1 0627:0001:nobody", 3, "0627:0001");
    no.refuses(&format!("device add xen:u1 {KEYBOARD}"), 5, "keyboard");

    // A controller with one port, which is taken; and one of USB 1, which takes no fast stick.
    scene.does("controller add xen:u1 --ports 1 --name one");
    scene.does(&format!("device add xen:u1 {TABLET} --controller one"));
    scene.does("controller add xen:u1 --usbversion 1 --name slow");
    let no = Refusals { scene: &scene, before: scene.store() };
    no.refuses(&format!("device add xen:u1 {STICK} --controller one"), 6, "one");
    no.refuses(&format!("device add xen:u1 {STICK} --controller slow"), 6, "USB 2");
    no.refuses("controller remove xen:u1 one", 4, "by force");
    scene.does("controller remove xen:u1 one --force");
    scene.does("controller remove xen:u1 slow");

    // No backend, and how to start it.
    scene.dom0("kill $(pidof vusb-backend); while pidof vusb-backend; do sleep 0.1; done");
    let no = Refusals { scene: &scene, before: scene.store() };
    no.refuses("controller add xen:u1", 7, "systemctl start vusb-backend");
    scene.start_backend();

    // A guest that is dead and kept: it lets nobody in.
    let dead = scene.host.new_guest("dead").config("on_crash = 'preserve'").start().unwrap();
    let crash = "(sleep 1; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &";
    dead.sh(crash, PATIENCE).unwrap();
    scene.dom0_until("xl list dead | grep -q -- '---.c'");
    let (said, code) = scene.vusb("controller add xen:dead --timeout 3");
    assert_eq!(code, 8, "{said}");
    assert!(!scene.host.xenstore().unwrap().contains("/vusb/"), "nothing is left");
    dead.destroy().unwrap();

    // No xenstored.
    scene.dom0("mv /run/xenstored/socket /run/xenstored/away; mv /dev/xen/xenbus /dev/xen/away");
    let (said, code) = scene.vusb("controller add xen:u1");
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("xenstore"), "{said}");
}
