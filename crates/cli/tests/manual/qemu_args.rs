//! `vusb qemu-args`.

use std::process::Command;

use insta::assert_snapshot;

use crate::environment::Environment;

fn spec(file: &str) -> Environment {
    let env = Environment::new();
    env.image(file);
    let device = format!(
        "[[device]]\nkind = \"storage\"\nfile = \"{file}\"\n[[device]]\nkind = \"tablet\"\n"
    );
    env.write("web1.toml", &device);
    env
}

#[test]
fn an_option_a_line() {
    let env = spec("stick.img");
    assert_snapshot!(env.run("qemu-args web1.toml").snapshot(), @r#"
    -device '{"driver":"qemu-xhci","id":"vusb-0x15-hci0","p2":15,"p3":15}' \
    -blockdev '{"driver":"raw","file":{"driver":"file","filename":"stick.img"},"node-name":"vusb-storage0","read-only":false}' \
    -device '{"bus":"vusb-0x15-hci0.0","drive":"vusb-storage0","driver":"usb-storage","id":"vusb-storage0","port":"1"}' \
    -device '{"bus":"vusb-0x15-hci0.0","driver":"usb-tablet","id":"vusb-tablet0","port":"2","usb_version":1}'
    "#);
}

#[test]
fn a_shell_gives_qemu_what_json_says() {
    let env = spec("it's a $HOME `stick`, of sorts.img");
    let json = env.command(["qemu-args", "web1.toml", "--json"]).output().unwrap().stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let quoted = env.command(["qemu-args", "web1.toml"]).output().unwrap().stdout;
    let quoted = String::from_utf8(quoted).unwrap();
    assert!(quoted.lines().rev().skip(1).all(|line| line.ends_with(" \\")), "{quoted}");
    // Just as the help says, with a program that shows its arguments in QEMU's place.
    let script = "eval \"printf '%s\\n' -m 1G $1\"";
    let output = Command::new("sh").args(["-c", script, "sh", quoted.trim_end()]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    let arguments = json["arguments"].as_array().unwrap();
    let expected = ["-m", "1G"].into_iter().chain(arguments.iter().map(|it| it.as_str().unwrap()));
    assert_eq!(words.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn spare_slots_for_later() {
    let env = spec("stick.img");
    let ran = env.run("qemu-args web1.toml --spare-slots 2");
    assert_eq!(ran.stdout.matches("pcie-root-port").count(), 2, "{ran:?}");
    env.run("qemu-args web1.toml --spare-slots 99").fails(2);
}

#[test]
fn what_qemu_cannot_have() {
    let env = Environment::new();
    env.write("web1.toml", "[[controller]]\ntype = \"pv\"\n");
    env.run("qemu-args web1.toml").fails(9);
    env.write("web1.toml", "[[device]]\nhost = \"0781:5581\"\n");
    env.run("qemu-args web1.toml").fails(3);
}

/// As virt-manager writes it for q35: the controller sits behind a root port. Each bus comes before what is on it.
#[test]
fn the_pci_buses_that_libvirts_controllers_are_on() {
    let env = Environment::new();
    let domain = |machine: &str, at: &str| {
        format!(
            "<domain type='kvm'><os><type arch='x86_64' machine='{machine}'>hvm</type></os><devices>
            <controller type='usb' model='qemu-xhci'><address type='pci' {at} function='0x0'/></controller>
            </devices></domain>"
        )
    };
    env.write("web1.xml", &domain("q35", "bus='0x02' slot='0x00'"));
    assert_snapshot!(env.run("qemu-args web1.xml").snapshot(), @r#"
    -device '{"driver":"pcie-root-port","chassis":1,"id":"pci.2"}' \
    -device '{"driver":"qemu-xhci","id":"usb","bus":"pci.2","addr":"0x0"}'
    "#);
    env.write("web1.xml", &domain("pc", "bus='0x01' slot='0x03'"));
    assert_snapshot!(env.run("qemu-args web1.xml").snapshot(), @r#"
    -device '{"driver":"pci-bridge","chassis_nr":1,"id":"pci.1"}' \
    -device '{"driver":"qemu-xhci","id":"usb","bus":"pci.1","addr":"0x3"}'
    "#);
    env.write("web1.xml", &domain("pc", "bus='0x00' slot='0x03'"));
    assert!(!env.run("qemu-args web1.xml").stdout.contains("bridge"));
}
