//! A guest that is not running: vusb edits its config file, and xl starts it.

use crate::support::{STICK, Scene, disk_checksum};

/// 190 lines of comments, as in a file that is maintained by hand.
const COMMENTS: &str = "for n in $(seq 190); do echo \"# What I know of u2, line $n.\"; done";

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn xl_starts_a_guest_from_a_file_that_vusb_edited() {
    let scene = Scene::new(16);
    let stick_in_dom0 = scene.stick_checksum();
    scene.host.new_guest("u2").start().unwrap().destroy().unwrap();
    scene.dom0(&format!(
        "cd /guest && {{ {COMMENTS}; cat u2.cfg; }} >web2.cfg && cp web2.cfg before.cfg"
    ));

    assert_eq!(scene.vusb_ok("controller add /guest/web2.cfg --ports 4"), "pv0");
    assert_eq!(scene.vusb_ok(&format!("device add /guest/web2.cfg {STICK} --port 2")), "pv0:2");
    let changed = scene.dom0("cd /guest; diff before.cfg web2.cfg | grep '^[+-][^+-]'");
    let lines: Vec<&str> = changed.lines().collect();
    assert!(
        matches!(lines.as_slice(), [a, b] if a.starts_with("+usbctrl") && b.starts_with("+usbdev")),
        "{changed}"
    );

    let guest = scene.host.create_from("u2", "/guest/web2.cfg").unwrap();
    let shown = scene.host.xl("usb-list u2").unwrap();
    assert!(shown.contains("qusb") && shown.contains("Port 2: Bus 00"), "{shown}");
    assert_eq!(disk_checksum(&guest), stick_in_dom0);

    // The file may be edited while the guest runs, for its next start.
    let running = scene.list("xen:u2");
    assert_eq!(running["controllers"][0]["ports"], 4, "{running}");
    assert_eq!(running["controllers"][0]["devices"][0]["port"], "2", "{running}");
    scene.vusb_ok("device remove /guest/web2.cfg pv0:2");
    scene.vusb_ok("controller remove /guest/web2.cfg pv0");
    assert_eq!(scene.dom0("cd /guest; cmp before.cfg web2.cfg && echo same").trim(), "same");
    guest.destroy().unwrap();
}
