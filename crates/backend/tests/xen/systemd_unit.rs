//! The packaged unit, under Debian's systemd.

use std::path::Path;

use vusb_rig::xen::XenHostBuilder;

use crate::support::{STICK, Scene, disk_checksum};

/// The packaged files, and their paths after installation.
const PACKAGED: [(&str, &str); 2] = [
    ("/usr/lib/systemd/system/vusb-backend.service", "vusb-backend.service"),
    ("/usr/lib/sysusers.d/vusb-backend.conf", "vusb-backend.sysusers"),
];

/// An additional command for the unit, which runs with the same restrictions as the backend: it can
/// open USB devices and grants, but no other device or hypervisor interface, and cannot write
/// files.
const PROBE: &str = "[Service]\nExecStartPre=/bin/sh -xc '\
    true <>/dev/xen/gntdev && true <>/dev/bus/usb/001/001 && \
    ! true <>/dev/xen/privcmd && ! true <>/dev/vda && ! true <>/dev/input/event0 && \
    ! true >/etc/x && ! true >/sys/bus/usb/drivers_probe && ! unshare --user true'\n";

/// A shell expression for the pid of the backend's process that runs as this user.
fn part(user: &str) -> String {
    format!(
        "$(for p in $(pidof vusb-backend); do [ $(stat -c %u /proc/$p) = {user} ] && echo $p; done)"
    )
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn the_packaged_unit_serves_guests_with_restrictions_and_is_restarted() {
    let scene = Scene::without_backend(16, XenHostBuilder::ready_guest);
    let stick_in_dom0 = scene.stick_checksum();
    scene.host.start_systemd().unwrap();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd"));
    let files = PACKAGED.map(|(path, file)| (path.to_owned(), folder.join(file)));
    scene.host.copy_in(&files.into()).unwrap();
    scene.dom0("ln /bin/vusb-backend /usr/bin/");
    scene.dom0("systemd-sysusers && systemctl enable --now vusb-backend");
    scene.wait_for_backend();

    // Both processes are restricted, and the one that guests can reach has no capabilities.
    let (server, opener) = (part("$(id -u vusb-backend)"), part("0"));
    for (part, rights) in [(&server, "0000000000000000"), (&opener, "00000000000000e2")] {
        let status = format!("grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/{part}/status");
        let confined = format!("CapEff:\t{rights}\nNoNewPrivs:\t1\nSeccomp:\t2\n");
        assert_eq!(scene.dom0(&status), confined);
    }

    scene.vusb_ok("controller add xen:u1");
    scene.vusb_ok(&format!("device add xen:u1 {STICK}"));
    assert_eq!(disk_checksum(&scene.guest), stick_in_dom0);

    // If either process is killed, systemd restarts both, dom0 gets the stick back, and `apply`
    // attaches it to the guest again.
    for (part, starts) in [(&server, 2), (&opener, 3)] {
        scene.dom0(&format!("kill -9 {part}"));
        scene.wait_in_dom0(&format!(
            "[ $(grep -c serving /var/log/vusb-backend.log) = {starts} ] && [ -b /dev/sda ]"
        ));
        scene.wait_in_guest("[ ! -b /dev/sda ] && [ ! -b /dev/sdb ]");
        scene.vusb_ok("apply xen:u1");
        assert_eq!(disk_checksum(&scene.guest), stick_in_dom0);
    }

    // When it is stopped, it returns the stick to dom0. systemd does not kill it before it is done.
    scene.dom0("systemctl stop vusb-backend");
    scene.wait_in_dom0("[ -b /dev/sda ]");
    assert_eq!(scene.stick_checksum(), stick_in_dom0);
    assert_eq!(scene.dom0("systemctl show -P Result vusb-backend"), "success\n");
    assert_eq!(scene.dom0("dmesg | grep -e 'Killing process' -e 'probe of' || true"), "");

    // Check the restrictions of the unit.
    let drop_in = "/etc/systemd/system/vusb-backend.service.d";
    scene.dom0(&format!("mkdir {drop_in} && cat >{drop_in}/probe.conf <<'END'\n{PROBE}END"));
    scene.dom0("systemctl daemon-reload && systemctl start vusb-backend");
}
