//! Completion in a shell, with the names of real domains, controllers, devices and ports.

use std::fs::File;
use std::process::Command;

use insta::assert_snapshot;
use rustix::fs::{FlockOperation, flock};

use crate::environment::Environment;

/// What the last of these words can be completed to, without descriptions.
fn values(env: &Environment, words: &[&str]) -> Vec<String> {
    let ran = env.vusb([&["__complete", "--"], words].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    ran.stdout.lines().filter_map(|line| Some(line.split_once('\t')?.0.to_owned())).collect()
}

/// A domain `web1` with two controllers and two devices, and a machine with a stick and a hub.
fn scene() -> Environment {
    let env = Environment::new();
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:S\"\n[[controller]]\n[[controller]]\nusbversion = 3\nports = 4\n\
         [[device]]\nkind = \"tablet\"\nname = \"pen\"\ncontroller = 1\nport = \"2\"\n\
         [[device]]\nkind = \"hub\"\ncontroller = 0\nport = \"1\"\n",
    );
    assert_eq!(env.run("apply web1.toml").code, 0);
    env.plug_stick("1-4");
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0101"), ("bDeviceClass", "09")]);
    env
}

#[test]
fn each_argument_is_completed_with_what_exists() {
    let env = scene();
    let ran = env.vusb(["__complete", "--", "device", "remove", "web1", ""]);
    assert_snapshot!(ran.stdout, @"
    hub0\thub at hci0:1
    pen\ttablet at hci1:2
    ");
    let ran = env.vusb(["__complete", "--", "controller", "remove", "web1", ""]);
    assert_snapshot!(ran.stdout, @"
    hci0\thci0, a qemu-xhci with 15 ports at index 0
    hci1\thci1, a nec-xhci with 4 ports at index 1
    ");
    let ran = env.vusb(["__complete", "--", "device", "add", "web1", "tablet", "--port", ""]);
    assert_snapshot!(ran.stdout, @"");
    let ran = env.vusb(["__complete", "--", "device", "add", "web1", ""]);
    assert_snapshot!(ran.stdout, @"
    1-4\t0781:5581 SanDisk Ultra
    storage:\ta stick with the content of a file
    tablet\tabsolute pointer
    mouse\trelative pointer
    keyboard\tkeyboard
    hub\t8 ports
    serial:\tserial adapter
    audio\tsound card
    net\tnetwork card
    mtp:\ta folder, as a media player
    ccid\tsmart card reader
    redir:\ta device that arrives over the network
    ");
}

#[test]
fn words_are_completed_from_their_beginning() {
    let env = scene();
    for (words, expected) in [
        (&["li"][..], &["list"][..]),
        (&["device", ""], &["add", "remove", "move", "list", "help"]),
        (&["list", "we"], &["web1", "web1.toml"]),
        (&["device", "remove", "web1", "p"], &["pen"]),
        (&["device", "detach", "web1", "p"], &["pen"]),
        (&["device", "remove", "nobody", ""], &[]),
        (
            &["device", "add", "web1", "mouse", "--controller=hci"],
            &["--controller=hci0", "--controller=hci1"],
        ),
        (
            &["device", "add", "web1", "mouse", "--controller", "hci1", "--port", ""],
            &["1", "3", "4"],
        ),
        (&["controller", "add", "web1", "--model", "nec"], &["nec-xhci"]),
        (&["controller", "add", "web1", "--usb"], &["--usbversion"]),
        (&["apply", "web1.t"], &["web1.toml"]),
        (&["device", "add", "web1", "storage:web"], &["storage:web1.toml"]),
    ] {
        assert_eq!(values(&env, words), expected, "{words:?}");
    }
}

#[test]
fn completion_does_not_wait_for_a_lock() {
    let env = scene();
    let mut locks = Vec::new();
    for entry in std::fs::read_dir(env.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "lock") {
            let file = File::options().read(true).write(true).open(path).unwrap();
            flock(&file, FlockOperation::LockExclusive).unwrap();
            locks.push(file);
        }
    }
    assert!(!locks.is_empty());
    env.run("device add web1 mouse --timeout 0.1").fails(4);
    assert_eq!(values(&env, &["device", "remove", "web1", "p"]), ["pen"]);
}

#[test]
fn a_device_string_cannot_add_candidates() {
    let env = Environment::new();
    let product = "x\ty\u{1b}[2J";
    env.plug("1-1", &[("idVendor", "1209"), ("idProduct", "0001"), ("product", product)]);
    let ran = env.vusb(["__complete", "--", "device", "add", "sim:S", "1-"]);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
    assert_eq!(ran.stdout.matches('\t').count(), 1, "{ran:?}");
}

/// What bash inserts for the last word of the line. bash splits words at colons and
/// equals signs.
fn in_bash(env: &Environment, line: &str, words: &str) -> String {
    let script = format!(
        "vusb() {{ {} --host-root {} \"$@\"; }}; compopt() {{ echo \"compopt $*\"; }}; \
         source {}/completions/vusb.bash; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; \
         COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _vusb; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_vusb"),
        env.machine().display(),
        env!("CARGO_MANIFEST_DIR"),
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).current_dir(env.path(""));
    env.ran(&bash.env("VUSB_STATE_DIR", env.state()).output().unwrap()).stdout
}

#[test]
fn bash_replaces_what_follows_the_last_colon() {
    let env = scene();
    env.run("device add sim:T tablet --name pencil").prints("hci0:1");
    assert_eq!(in_bash(&env, "vusb device remove web1 p", "vusb device remove web1 p"), "pen\n");
    // The address of the domain is one word, and so is the unfinished one.
    let address = format!("sim:{}", env.path("T").canonicalize().unwrap().display());
    let words = address.replacen(':', " : ", 1);
    let line = format!("vusb device remove {address} pe");
    assert_eq!(in_bash(&env, &line, &format!("vusb device remove {words} pe")), "pencil\n");
    assert_eq!(
        in_bash(&env, "vusb device add web1 storage:web", "vusb device add web1 storage : web"),
        "web1.toml\n"
    );
    assert_eq!(
        in_bash(
            &env,
            "vusb device add web1 mouse --controller=hci1",
            "vusb device add web1 mouse --controller = hci1"
        ),
        "hci1\n"
    );
    // The word has to continue, so bash inserts no blank.
    assert_eq!(
        in_bash(&env, "vusb device add web1 stor", "vusb device add web1 stor"),
        "compopt -o nospace\nstorage:\n"
    );
}
