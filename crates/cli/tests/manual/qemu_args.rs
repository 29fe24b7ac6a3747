//! `vusb qemu-args`.

use std::process::Command;

use insta::assert_snapshot;

use crate::environment::{Environment, Ran};

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
fn one_option_per_line() {
    let env = spec("stick.img");
    assert_snapshot!(env.run("qemu-args web1.toml").snapshot(), @r#"
    -device '{"driver":"qemu-xhci","id":"vusb-0x15-hci0","p2":15,"p3":15}' \
    -blockdev '{"driver":"raw","file":{"driver":"file","filename":"stick.img"},"node-name":"vusb-storage0","read-only":false}' \
    -device '{"bus":"vusb-0x15-hci0.0","drive":"vusb-storage0","driver":"usb-storage","id":"vusb-storage0","port":"1"}' \
    -device '{"bus":"vusb-0x15-hci0.0","driver":"usb-tablet","id":"vusb-tablet0","port":"2","usb_version":1}'
    "#);
}

#[test]
fn a_shell_passes_the_same_arguments_as_json() {
    let env = spec("it's a $HOME `stick`, of sorts.img");
    let json = env.command(["qemu-args", "web1.toml", "--json"]).output().unwrap().stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let quoted = env.command(["qemu-args", "web1.toml"]).output().unwrap().stdout;
    let quoted = String::from_utf8(quoted).unwrap();
    assert!(quoted.lines().rev().skip(1).all(|line| line.ends_with(" \\")), "{quoted}");
    // The command is that of the help, with a program in place of QEMU that prints its arguments.
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
fn hardware_that_qemu_cannot_have() {
    let env = Environment::new();
    env.write("web1.toml", "[[controller]]\ntype = \"pv\"\n");
    env.run("qemu-args web1.toml").fails(9);
}

#[test]
fn an_absent_host_device_is_left_out() {
    let env = Environment::new();
    env.write("web1.toml", "[[device]]\nhost = \"0781:5581\"\n[[device]]\nkind = \"tablet\"\n");
    let ran = env.run("qemu-args web1.toml");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.stderr,
        "host0 (0781:5581) is not plugged into this machine: its port is kept for it\n"
    );
    assert!(ran.stdout.contains("usb-tablet") && !ran.stdout.contains("usb-host"), "{ran:?}");
    // The tablet has the same port as with the stick.
    env.plug_stick("1-4");
    let with_stick = env.run("qemu-args web1.toml");
    assert!(with_stick.stdout.contains("usb-host"), "{with_stick:?}");
    let tablet =
        |ran: &Ran| ran.stdout.lines().find(|it| it.contains("usb-tablet")).map(port).unwrap();
    assert_eq!(tablet(&ran), tablet(&with_stick));
}

/// The arguments never contain the device's address, which changes with each replug.
#[test]
fn a_host_device_is_named_as_the_spec_names_it_or_by_its_port() {
    let env = Environment::new();
    env.plug_stick("1-4");
    let path = "pci-0000:00:14.0-usb-0:4";
    for (selector, condition) in [
        ("0781:5581", r#""productid":21889,"vendorid":1921"#),
        ("0781:5581:4C53", r#""hostbus":1,"hostport":"4""#),
        ("1-4", r#""hostbus":1,"hostport":"4""#),
        (path, r#""hostbus":1,"hostport":"4""#),
    ] {
        env.write("web1.toml", &format!("[[device]]\nhost = \"{selector}\"\n"));
        let ran = env.run("qemu-args web1.toml");
        assert!(ran.stdout.replace("\n", "").contains(condition), "{selector}: {ran:?}");
        assert!(!ran.stdout.contains("hostaddr"), "{selector}: {ran:?}");
    }
}

/// The value of `port` in an argument.
fn port(argument: &str) -> String {
    argument.split("\"port\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn with_strict_an_absent_host_device_is_an_error() {
    let env = Environment::new();
    env.write("web1.toml", "[[device]]\nhost = \"0781:5581\"\n");
    env.run("qemu-args web1.toml --strict").fails(3).says("it is not plugged into this machine");
    assert_eq!(env.json("qemu-args web1.toml")["notes"][0]["note"], "absent");
}

#[test]
fn libvirts_startup_policy_decides_for_its_host_devices() {
    let env = Environment::new();
    let domain = |policy: &str| {
        format!(
            "<domain type='kvm'><name>web1</name><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
             <controller type='usb' index='0' model='qemu-xhci'/>\
             <hostdev mode='subsystem' type='usb'><source{policy}><vendor id='0x0781'/><product id='0x5581'/></source></hostdev>\
             </devices></domain>"
        )
    };
    env.write("web1.xml", &domain(" startupPolicy='optional'"));
    env.run("qemu-args web1.xml").says("not plugged into this machine");
    for policy in ["", " startupPolicy='mandatory'", " startupPolicy='requisite'"] {
        env.write("web1.xml", &domain(policy));
        env.run("qemu-args web1.xml").fails(3);
    }
}

/// A q35 domain as virt-manager writes it: the controller is behind a root port. A pc domain has a
/// bridge in its place, unless the controller is on the root bus. Each bus comes before the devices
/// on it.
#[test]
fn the_pci_buses_of_libvirts_controllers() {
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
