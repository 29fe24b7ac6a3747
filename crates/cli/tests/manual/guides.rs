//! Runs every command on the pages for users of other tools, exactly as written.
//!
//! ```text
//!   docs/coming-from-*.md ──▶ vusb …  ──▶ xen:web1, qemu:… are simulated, files are examples
//!                                         ──▶ outcome as on the page
//!                         ──▶ lines written by hand, and what vusb writes ──▶ the same guest
//!                         ──▶ virsh …, xl …, systemctl … ──▶ run for real elsewhere: ELSEWHERE
//! ```
//!
//! The pages define what is run: a command that is changed there is tested in its new form.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vusb_rig::guide::{Command, Guide, Part};

use crate::environment::{Environment, Ran};

/// The pages.
const FROM_VIRSH: &str = "coming-from-virsh.md";
const FROM_XL: &str = "coming-from-xl.md";
const FROM_QM: &str = "coming-from-qm.md";
const FROM_VBOXMANAGE: &str = "coming-from-vboxmanage.md";
const FROM_INCUS: &str = "coming-from-incus.md";
const FROM_QVM_USB: &str = "coming-from-qvm-usb.md";

/// The simulated domains, and what simulates them. A Xen HVM guest is simulated like a QEMU
/// guest that also takes pv controllers.
const SIMULATED: [(&str, &str); 3] =
    [("xen:web1", "sim:web1.sim"), ("xen:win1", "sim:win1.sim"), ("qemu:/run/web1.qmp", "sim:S")];

/// Commands that are not run here: how they start or what they contain, why, and where they are run
/// for real.
const ELSEWHERE: [(&str, &str); 11] = [
    (" pve:", "needs a Proxmox VE node: crates/drivers/tests/pve, with a stand-in"),
    ("qm ", "another program: a stand-in in crates/drivers/tests/pve/running.rs"),
    (" libvirt:", "needs a libvirtd: tests/libvirt/live.rs"),
    ("VBoxManage ", "another program, which no test runs: the page says so"),
    ("incus ", "another program, which no test runs: the page says so"),
    ("qvm-usb ", "another program, which no test runs: the page says so"),
    ("virsh ", "another program: tests/libvirt/guide.rs and tests/libvirt/live.rs"),
    ("xl ", "another program: crates/backend/tests/xen/guide.rs"),
    ("--backend usbvm", "needs another domain: crates/backend/tests/xen/driver_domain.rs"),
    ("cargo xtask dist", "cargo xtask dist-test builds the packages"),
    ("apt install ", "cargo xtask dist-test installs them"),
];

/// The programs whose commands are extracted.
const PROGRAMS: [&str; 9] =
    ["vusb", "virsh", "xl", "qm", "VBoxManage", "incus", "qvm-usb", "cargo", "apt"];

const PV_CFG: &str = "\
# web1: the shop's web server.
name = \"web1\"
type = \"pv\"
kernel = \"/boot/vmlinuz\"    # Debian's
memory = 1024
vif = [ 'bridge=br0' ]
";

const HVM_CFG: &str = "\
# win1: the till.
name = 'win1'
type = 'hvm'
memory = 2048
spice = 1
";

const XML: &str = "\
<domain type='kvm'>
  <name>web1</name>
  <!-- the shop's web server -->
  <memory unit='KiB'>1048576</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <devices>
    <controller type='usb' index='0' model='qemu-xhci' ports='15'/>
  </devices>
</domain>
";

const VMX: &str = "\
# the shop's web server
.encoding = \"UTF-8\"
displayName = \"web1\"
guestOS = \"debian11-64\"
memsize = \"1024\"
usb_xhci.present = \"TRUE\"
usb.autoConnect.device0 = \"0x0781:0x5581\"
";

const CONF: &str = "\
boot: order=scsi0
cores: 2
memory: 1024
name: web1
ostype: l26
scsi0: local-lvm:vm-100-disk-0,size=8G
";

/// libxl's output for a guest with a stick.
const JSON: &str = r#"[ { "domid": 5, "config": {
    "c_info": { "type": "pv", "name": "web1" },
    "b_info": { "max_memkb": 1048576, "type.pv": {} },
    "usbctrls": [ { "type": "qusb", "devid": 0, "version": 2, "ports": 8 } ],
    "usbdevs": [ { "ctrl": 0, "port": 1, "type.hostdev": { "hostbus": 1, "hostaddr": 4 } } ]
} } ]
"#;

/// A qube with an assigned stick.
const QUBES_XML: &str = r#"<qubes><domains><domain id="domain-5" class="AppVM">
  <properties><property name="name">web1</property></properties>
  <devices class="usb">
    <device backend-domain="sys-usb" id="1-4.2" mode="auto-attach" identity="0781:5581:4C530001:u080650"/>
  </devices>
</domain></domains></qubes>
"#;

const VBOX: &str = "\
<?xml version=\"1.0\"?>
<!-- the shop's web server -->
<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\">
  <Machine uuid=\"{2a1b5b0e-3c6f-4c1d-9a55-0d7c7a0c2f11}\" name=\"web1\" OSType=\"Debian_64\">
    <Hardware>
      <Memory RAMSize=\"1024\"/>
    </Hardware>
  </Machine>
</VirtualBox>
";

/// The machine, the guests and the files that the pages mention.
fn world() -> Environment {
    let env = Environment::new();
    let stick = [("idVendor", "0781"), ("idProduct", "5581"), ("serial", "4C530001")];
    env.plug("1-4.2", &[&stick[..], &[("devnum", "4")]].concat());
    env.plug("1-3", &[("idVendor", "04f9"), ("idProduct", "2042"), ("devnum", "5")]);
    env.image("stick.img");
    for (name, text) in [
        ("web1.sim", r#"{ "sim": 1, "type": "pv" }"#),
        ("win1.sim", r#"{ "sim": 1, "models": { "xenusb2": "hot" } }"#),
        ("web1.cfg", PV_CFG),
        ("win1.cfg", HVM_CFG),
        ("web1.xml", XML),
        ("web1.vmx", VMX),
        ("web1.vbox", VBOX),
        ("web1.json", JSON),
        ("100.conf", CONF),
        ("qubes.xml", QUBES_XML),
    ] {
        env.write(name, text);
    }
    env
}

/// The entry of [`ELSEWHERE`] that matches a command.
fn elsewhere(text: &str) -> Option<&'static str> {
    let matches =
        |part: &str| text.starts_with(part) || part.starts_with(['-', ' ']) && text.contains(part);
    ELSEWHERE.iter().map(|(part, _)| *part).find(|part| matches(part))
}

/// Runs a command of a page. If it redirects its output to a file, the file exists afterwards.
fn run(env: &Environment, command: &Command) -> Ran {
    let named = SIMULATED
        .iter()
        .fold(command.text.clone(), |text, (name, simulated)| text.replace(name, simulated));
    let (line, file) = named
        .split_once(" > ")
        .map_or((named.as_str(), None), |(line, file)| (line, Some(file.trim())));
    let ran = env.run(line.trim_start_matches("vusb "));
    if let Some(file) = file {
        env.write(file, &ran.stdout);
    }
    ran
}

/// The commands whose outcome differs from the page.
fn differences(env: &Environment, part: &Part) -> Vec<String> {
    let commands = part.commands("vusb").into_iter().filter(|it| elsewhere(&it.text).is_none());
    commands
        .filter_map(|command| {
            let ran = run(env, &command);
            let prints = command.prints.as_ref().is_none_or(|it| it == ran.stdout.trim_end());
            let as_documented = ran.code == command.code && prints;
            (!as_documented).then(|| format!("line {}: {command:?}: {ran:?}", part.line))
        })
        .collect()
}

#[track_caller]
fn check_page(page: &str) {
    let env = world();
    let guide = Guide::read(page).unwrap();
    let differences = guide.parts.iter().flat_map(|part| match by_hand(part).as_slice() {
        [] => differences(&env, part),
        // Rows with lines for a file start with a file without USB.
        _ => differences(&world(), part),
    });
    let differences: Vec<String> = differences.collect();
    assert!(differences.is_empty(), "{page}:\n{}", differences.join("\n"));
}

#[test]
fn every_command_for_users_of_virsh() {
    check_page(FROM_VIRSH);
}

#[test]
fn every_command_for_users_of_xl() {
    check_page(FROM_XL);
}

#[test]
fn every_command_for_users_of_qm() {
    check_page(FROM_QM);
}

#[test]
fn every_command_for_users_of_vboxmanage() {
    check_page(FROM_VBOXMANAGE);
}

#[test]
fn every_command_for_users_of_incus() {
    check_page(FROM_INCUS);
}

#[test]
fn every_command_for_users_of_qvm_usb() {
    check_page(FROM_QVM_USB);
}

/// Every command on the pages is either run here or listed in [`ELSEWHERE`].
#[test]
fn every_other_command_is_run_elsewhere() {
    let mut used = Vec::new();
    for page in [FROM_VIRSH, FROM_XL, FROM_QM, FROM_VBOXMANAGE, FROM_INCUS, FROM_QVM_USB] {
        let guide = Guide::read(page).unwrap();
        for part in &guide.parts {
            let known = PROGRAMS.iter().flat_map(|program| part.commands(program));
            let known: Vec<String> = known.map(|it| it.text).collect();
            let lines = part.cells.iter().flat_map(|cell| &cell.code).filter(|_| part.is_line);
            for (line, _) in lines {
                assert!(known.contains(line), "{page}: unknown program in `{line}`");
            }
            for command in known.iter().filter(|it| !it.starts_with("vusb ")) {
                assert!(elsewhere(command).is_some(), "{page}: no test runs `{command}`");
            }
            used.extend(known.iter().filter_map(|it| elsewhere(it)));
        }
    }
    for (part, why) in ELSEWHERE {
        assert!(used.contains(&part), "`{part}` is on no page ({why})");
    }
}

/// The lines of a row that users write into a file by hand.
fn by_hand(part: &Part) -> Vec<&str> {
    let code = part.cells.first().map_or(&[][..], |cell| &cell.code);
    code.iter().map(|(code, _)| code.as_str()).filter(|code| code.contains(" = ")).collect()
}

/// The controllers and the devices on them, without names.
fn hardware(env: &Environment, file: &str) -> Vec<Value> {
    fn nameless(all: Option<&Value>) -> Vec<Value> {
        let mut all = all.and_then(Value::as_array).unwrap().clone();
        all.iter_mut().filter_map(Value::as_object_mut).for_each(|it| drop(it.remove("name")));
        all
    }
    let mut controllers = nameless(env.json(&format!("list {file}")).get("controllers"));
    for controller in controllers.iter_mut().filter_map(Value::as_object_mut) {
        let devices = nameless(controller.get("devices"));
        controller.insert("devices".to_owned(), devices.into());
    }
    controllers
}

#[test]
fn vusb_writes_into_an_xl_cfg_what_users_write_by_hand() {
    let guide = Guide::read(FROM_XL).unwrap();
    let rows: Vec<&Part> = guide
        .below("Guests that do not run")
        .filter(|part| part.cells.len() == 2 && !by_hand(part).is_empty())
        .collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let env = world();
        let commands = row.commands("vusb");
        let words = commands.iter().flat_map(|it| it.text.split(' '));
        let file = words.into_iter().find(|it| it.ends_with(".cfg")).unwrap();
        let before = env.read(file);
        env.write("by-hand.cfg", &format!("{before}{}\n", by_hand(row).join("\n")));
        assert_eq!(differences(&env, row), [""; 0]);
        assert!(env.read(file).starts_with(&before), "existing text is kept");
        assert_ne!(env.read(file), before);
        let (ours, theirs) = (hardware(&env, file), hardware(&env, "by-hand.cfg"));
        assert_eq!(ours, theirs, "line {}", row.line);
        let digest = |file: &str| env.run(&format!("digest {file}")).stdout;
        assert_eq!(digest(file), digest("by-hand.cfg"), "line {}", row.line);
    }
}

/// The page says: "the file is as before".
#[test]
fn a_file_is_unchanged_once_everything_is_removed_again() {
    let guide = Guide::read(FROM_XL).unwrap();
    let env = world();
    for part in guide.below("Guests that do not run").filter(|part| part.cells.len() == 1) {
        assert_eq!(differences(&env, part), [""; 0]);
    }
    assert_eq!(env.read("web1.cfg"), PV_CFG);
}

/// Every page: those of the repository's root, and those below `docs`.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["", "docs", "docs/decisions"];
    let entries = folders.into_iter().flat_map(|it| fs::read_dir(root.join(it)).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "md")).collect()
}

#[test]
fn files_that_the_pages_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["crates/", "docs/", "rig/", "xtask/", "packaging/"];
    let mut missing = Vec::new();
    let pages = pages();
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let code = text.split('`').skip(1).step_by(2);
        let named = code.filter(|it| folders.iter().any(|folder| it.starts_with(folder)));
        let named = named.filter(|it| !it.contains(['*', ' ', '<']) && !it.contains("NAME"));
        let named = named.map(|it| root.join(it));
        let links = text.split("](").skip(1).filter_map(|it| it.split([')', '#']).next());
        let links = links.filter(|it| !it.is_empty() && !it.contains("://"));
        let links = links.map(|it| page.parent().unwrap().join(it));
        missing.extend(named.chain(links).filter(|it| !it.exists()).map(|it| (page.clone(), it)));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
