//! The pages for people who come from another tool: every command on them, as it stands there.
//!
//! ```text
//!   docs/coming-from-*.md ──▶ vusb …  ──▶ xen:web1, qemu:… are simulated, files are examples ──▶ ends as the page says
//!                         ──▶ what one would write by hand, and what vusb writes ──▶ the same guest
//!                         ──▶ virsh …, xl …, systemctl … ──▶ run for real elsewhere: ELSEWHERE
//! ```
//!
//! The pages decide what is run: a command that is changed there is tested as it is then.

use serde_json::Value;
use vusb_rig::guide::{Command, Guide, Part};

use crate::environment::{Environment, Ran};

/// The pages.
const FROM_VIRSH: &str = "coming-from-virsh.md";
const FROM_XL: &str = "coming-from-xl.md";

/// What is simulated, and as what. An HVM guest of Xen's can have what a QEMU can.
const SIMULATED: [(&str, &str); 3] =
    [("xen:web1", "sim:web1.sim"), ("xen:win1", "sim:win1.sim"), ("qemu:/run/web1.qmp", "sim:S")];

/// What is not run here: how it begins or what is in it, why, and where it is run for real.
const ELSEWHERE: [(&str, &str); 7] = [
    ("virsh ", "another program: tests/libvirt/guide.rs runs those for files"),
    ("xl ", "another program: crates/backend/tests/xen/guide.rs"),
    ("--backend usbvm", "needs another domain: crates/backend/tests/xen/driver_domain.rs"),
    ("cargo build", "cargo xtask test builds it"),
    ("install ", "crates/backend/tests/xen/packaged.rs puts the files there"),
    ("systemd-sysusers ", "crates/backend/tests/xen/packaged.rs"),
    ("systemctl ", "crates/backend/tests/xen/packaged.rs"),
];

/// The programs whose commands are looked for.
const PROGRAMS: [&str; 7] =
    ["vusb", "virsh", "xl", "cargo", "install", "systemd-sysusers", "systemctl"];

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

/// What libxl says of a guest with a stick.
const JSON: &str = r#"[ { "domid": 5, "config": {
    "c_info": { "type": "pv", "name": "web1" },
    "b_info": { "max_memkb": 1048576, "type.pv": {} },
    "usbctrls": [ { "type": "qusb", "devid": 0, "version": 2, "ports": 8 } ],
    "usbdevs": [ { "ctrl": 0, "port": 1, "type.hostdev": { "hostbus": 1, "hostaddr": 4 } } ]
} } ]
"#;

/// The machine, the guests and the files that the pages speak of.
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
        ("web1.json", JSON),
    ] {
        env.write(name, text);
    }
    env
}

/// What of [`ELSEWHERE`] a command is.
fn elsewhere(text: &str) -> Option<&'static str> {
    let is = |part: &str| text.starts_with(part) || part.starts_with("--") && text.contains(part);
    ELSEWHERE.iter().map(|(part, _)| *part).find(|part| is(part))
}

/// Runs a command of a page. What it writes into a file is there afterwards.
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

/// What is not as the page says.
fn wrong(env: &Environment, part: &Part) -> Vec<String> {
    let commands = part.commands("vusb").into_iter().filter(|it| elsewhere(&it.text).is_none());
    commands
        .filter_map(|command| {
            let ran = run(env, &command);
            let prints = command.prints.as_ref().is_none_or(|it| it == ran.stdout.trim_end());
            let as_said = ran.code == command.code && prints;
            (!as_said).then(|| format!("line {}: {command:?}: {ran:?}", part.line))
        })
        .collect()
}

#[track_caller]
fn holds(page: &str) {
    let env = world();
    let guide = Guide::read(page).unwrap();
    let wrong = guide.parts.iter().flat_map(|part| match by_hand(part).as_slice() {
        [] => wrong(&env, part),
        // Such a row begins with a file that has no USB.
        _ => wrong(&world(), part),
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{page}:\n{}", wrong.join("\n"));
}

#[test]
fn every_command_for_those_who_come_from_virsh() {
    holds(FROM_VIRSH);
}

#[test]
fn every_command_for_those_who_come_from_xl() {
    holds(FROM_XL);
}

/// Nothing on the pages is passed over without a word.
#[test]
fn what_is_not_run_here_is_run_elsewhere() {
    let mut used = Vec::new();
    for page in [FROM_VIRSH, FROM_XL] {
        let guide = Guide::read(page).unwrap();
        for part in &guide.parts {
            let known = PROGRAMS.iter().flat_map(|program| part.commands(program));
            let known: Vec<String> = known.map(|it| it.text).collect();
            let lines = part.cells.iter().flat_map(|cell| &cell.code).filter(|_| part.is_line);
            for (line, _) in lines {
                assert!(known.contains(line), "{page}: nobody knows the program of `{line}`");
            }
            for command in known.iter().filter(|it| !it.starts_with("vusb ")) {
                assert!(elsewhere(command).is_some(), "{page}: nobody runs `{command}`");
            }
            used.extend(known.iter().filter_map(|it| elsewhere(it)));
        }
    }
    for (part, why) in ELSEWHERE {
        assert!(used.contains(&part), "`{part}` is on no page ({why})");
    }
}

/// The lines that a row would have one write into a file.
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
fn what_vusb_writes_into_an_xl_cfg_is_what_one_would_write_by_hand() {
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
        assert_eq!(wrong(&env, row), [""; 0]);
        assert!(env.read(file).starts_with(&before), "what was there stays");
        assert_ne!(env.read(file), before);
        let (ours, theirs) = (hardware(&env, file), hardware(&env, "by-hand.cfg"));
        assert_eq!(ours, theirs, "line {}", row.line);
        let digest = |file: &str| env.run(&format!("digest {file}")).stdout;
        assert_eq!(digest(file), digest("by-hand.cfg"), "line {}", row.line);
    }
}

/// "The file is as it was."
#[test]
fn a_file_is_as_it_was_when_all_is_taken_out_again() {
    let guide = Guide::read(FROM_XL).unwrap();
    let env = world();
    for part in guide.below("Guests that do not run").filter(|part| part.cells.len() == 1) {
        assert_eq!(wrong(&env, part), [""; 0]);
    }
    assert_eq!(env.read("web1.cfg"), PV_CFG);
}
