//! The page `docs/coming-from-xl.md`, checked on a real Xen.
//!
//! ```text
//!   first table   xl …    ──▶ a guest with QEMU's backend ─┬─▶ xl usb-list: the same after each row
//!                 vusb …  ──▶ a guest without ─────────────┘
//!   of files      by hand ──▶ file ──▶ xl -N create ──▶ JSON ─┬─▶ the same digest
//!                 vusb …  ──▶ file ──▶ xl -N create ──▶ JSON ─┘
//! ```

use vusb_rig::XenGuest;
use vusb_rig::guide::{Guide, Part};

use crate::support::{Scene, TIMEOUT, disk_checksum};

const PAGE: &str = "coming-from-xl.md";

/// The device of the page's examples, as xl and as vusb name it.
const BY_XL: &str = "hostbus=1 hostaddr=4";
const BY_VUSB: &str = "001.004";

/// The files of the page's examples.
const FILES: [(&str, &str); 2] = [
    ("web1.cfg", "name = 'web1'\ntype = 'pv'\nkernel = '/guest/kernel'\nmemory = 64\n"),
    ("win1.cfg", "name = 'win1'\ntype = 'hvm'\nmemory = 64\nspice = 1\n"),
];

/// Prints the bus and device number of the stick.
const STICK_AT: &str = "for d in /sys/bus/usb/devices/*; do \
                        [ \"$(cat $d/idVendor 2>/dev/null)\" = 46f4 ] && cat $d/busnum $d/devnum; done; true";

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn the_commands_of_both_columns_have_the_same_effect() {
    let scene = Scene::new(4);
    let guide = Guide::read(PAGE).unwrap();
    files(&scene, &guide);

    let rows: Vec<&Part> = guide
        .below("Guests that run")
        .filter(|part| part.commands("xl").iter().any(|it| it.text.contains(" web1")))
        .collect();
    assert_eq!(rows.len(), 7);

    // QEMU serves PVUSB only for a guest that had a controller from the start.
    let theirs = scene.host.new_guest("web1").config("usbctrl = ['type=qusb,version=2,ports=4']");
    let theirs = theirs.start().unwrap();
    scene.dom0("xl usbctrl-detach web1 0");
    let by_xl = column(&scene, &theirs, &rows, "xl");
    theirs.destroy().unwrap();
    let by_vusb = column(&scene, &scene.guest, &rows, "vusb");
    for ((row, by_xl), by_vusb) in rows.iter().zip(by_xl).zip(by_vusb) {
        assert_eq!(by_vusb, by_xl, "line {} of the page", row.line);
    }
}

/// Runs one column of the table: what `xl usb-list` shows after each row.
fn column(scene: &Scene, guest: &XenGuest, rows: &[&Part], program: &str) -> Vec<Vec<String>> {
    let stick_in_dom0 = scene.stick_checksum();
    let name = guest.name();
    let run = |row: &&Part| {
        for command in row.commands(program) {
            let at = scene.dom0(STICK_AT);
            let (bus, address) = at.trim().split_once('\n').unwrap();
            let (bus, address): (u8, u8) = (bus.parse().unwrap(), address.parse().unwrap());
            let line = command.text.replace("web1", name);
            let line = line.replace(BY_XL, &format!("hostbus={bus} hostaddr={address}"));
            scene.dom0(&line.replace(BY_VUSB, &format!("{bus:03}.{address:03}")));
            let matches_any = |words: &[&str]| words.iter().any(|it| line.contains(it));
            if matches_any(&["usbctrl-attach", "controller add"]) {
                // Wait until the guest is connected.
                scene.wait_in_dom0(&format!("xl usb-list {name} | grep -q '^0 .* 0 *4 '"));
            } else if matches_any(&["usbdev-attach", "device add"]) {
                assert_eq!(disk_checksum(guest), stick_in_dom0, "{line}");
            } else if matches_any(&["usbdev-detach", "device remove"]) {
                guest.wait_until("! ls /dev/sd? 2>/dev/null", TIMEOUT).unwrap();
                scene.wait_in_dom0("[ -b /dev/sda ]");
            }
        }
        shown(&scene.host.xl(&format!("usb-list {name}")).unwrap())
    };
    rows.iter().map(run).collect()
}

/// The output of `xl usb-list` without the type and the state of a controller, which depend on the
/// backend.
fn shown(text: &str) -> Vec<String> {
    eprintln!("{text}");
    let line = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [number, _, backend, _, version, ports] if !line.starts_with("  Port") => {
            format!("{number} {backend} {version} {ports}")
        }
        words => words.join(" "),
    };
    text.lines().map(line).collect()
}

/// The lines that a user would write into a file and those that vusb writes are equivalent for xl.
fn files(scene: &Scene, guide: &Guide) {
    let mut rows = 0;
    for part in guide.below("Guests that do not run").filter(|it| it.cells.len() == 2) {
        let code = part.cells[0].code.iter().map(|(code, _)| code.as_str());
        let by_hand: Vec<&str> = code.filter(|code| code.contains(" = ")).collect();
        let commands = part.cells[1].commands("vusb");
        let used = |(name, _): &&(&str, &str)| commands.iter().any(|it| it.text.contains(name));
        let (Some((name, text)), false) = (FILES.iter().find(used), by_hand.is_empty()) else {
            continue;
        };
        let by_hand = by_hand.join("\n");
        scene.dom0(&format!(
            "mkdir -p /page && cd /page && cat >{name} <<'END'\n{text}END\n\
             {{ cat {name}; cat <<'END'\n{by_hand}\nEND\n}} >by-hand.cfg"
        ));
        for command in commands {
            scene.dom0(&format!("cd /page && {}", command.text));
        }
        let digests = scene.dom0(&format!(
            "cd /page && for file in {name} by-hand.cfg; do \
             xl -N create -q $file >$file.json && vusb -q digest $file && vusb -q digest $file.json \
             || {{ cat $file $file.json; exit 1; }}; done"
        ));
        let digests: Vec<&str> = digests.lines().collect();
        assert_eq!(digests.len(), 4, "{digests:?}");
        assert!(digests.iter().all(|it| *it == digests[0]), "line {}: {digests:?}", part.line);
        rows += 1;
    }
    assert_eq!(rows, 6);
}
