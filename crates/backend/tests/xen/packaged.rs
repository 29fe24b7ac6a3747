//! The unit as it is packaged, under Debian's systemd.

use std::path::Path;

use vusb_rig::xen::XenHostBuilder;

use crate::support::{STICK, Scene, disk_of};

/// Where `docs/coming-from-xl.md` puts what is packaged.
const PACKAGED: [(&str, &str); 2] = [
    ("/usr/lib/systemd/system/vusb-backend.service", "vusb-backend.service"),
    ("/usr/lib/sysusers.d/vusb.conf", "sysusers.conf"),
];

/// Another command for the unit, which is confined as its program is: USB devices and guests' grants can be opened, other
/// ways into this machine and the hypervisor cannot, and nothing can be written.
const PROBE: &str = "[Service]\nExecStartPre=/bin/sh -xc '\
    true <>/dev/xen/gntdev && true <>/dev/bus/usb/001/001 && \
    ! true <>/dev/xen/privcmd && ! true <>/dev/vda && ! true <>/dev/input/event0 && \
    ! true >/etc/x && ! true >/sys/bus/usb/drivers_probe && ! unshare --user true'\n";

/// The process number of the part of the backend that this user runs.
fn part(user: &str) -> String {
    format!(
        "$(for p in $(pidof vusb-backend); do [ $(stat -c %u /proc/$p) = {user} ] && echo $p; done)"
    )
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn the_packaged_unit_serves_guests_confined_and_is_started_again() {
    let scene = Scene::without_backend(16, XenHostBuilder::ready_guest);
    let there = scene.sum_of_stick();
    scene.host.start_systemd().unwrap();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd"));
    let files = PACKAGED.map(|(path, file)| (path.to_owned(), folder.join(file)));
    scene.host.put(&files.into()).unwrap();
    scene.dom0("ln /bin/vusb-backend /usr/bin/");
    scene.dom0("systemd-sysusers && systemctl enable --now vusb-backend");
    scene.backend_serves();

    // Both parts are confined, and the one that guests reach may nothing.
    let (server, opener) = (part("$(id -u vusb)"), part("0"));
    for (part, rights) in [(&server, "0000000000000000"), (&opener, "00000000000000e2")] {
        let status = format!("grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/{part}/status");
        let confined = format!("CapEff:\t{rights}\nNoNewPrivs:\t1\nSeccomp:\t2\n");
        assert_eq!(scene.dom0(&status), confined);
    }

    scene.does("controller add xen:u1");
    scene.does(&format!("device add xen:u1 {STICK}"));
    assert_eq!(disk_of(&scene.guest), there);

    // Whichever part is killed, systemd starts both anew, dom0 has the stick, and `apply` gives it to the guest again.
    for (part, starts) in [(&server, 2), (&opener, 3)] {
        scene.dom0(&format!("kill -9 {part}"));
        scene.dom0_until(&format!(
            "[ $(grep -c serving /var/log/vusb-backend.log) = {starts} ] && [ -b /dev/sda ]"
        ));
        scene.guest_until("[ ! -b /dev/sda ] && [ ! -b /dev/sdb ]");
        scene.does("apply xen:u1");
        assert_eq!(disk_of(&scene.guest), there);
    }

    // Stopped, it gives the stick back. Nothing that still had something to give back was killed by systemd.
    scene.dom0("systemctl stop vusb-backend");
    scene.dom0_until("[ -b /dev/sda ]");
    assert_eq!(scene.sum_of_stick(), there);
    assert_eq!(scene.dom0("systemctl show -P Result vusb-backend"), "success\n");
    assert_eq!(scene.dom0("dmesg | grep -e 'Killing process' -e 'probe of' || true"), "");

    // What the unit keeps its programs from, tried.
    let drop_in = "/etc/systemd/system/vusb-backend.service.d";
    scene.dom0(&format!("mkdir {drop_in} && cat >{drop_in}/probe.conf <<'END'\n{PROBE}END"));
    scene.dom0("systemctl daemon-reload && systemctl start vusb-backend");
}
