//! `vusb rules`, `vusb explain`, and what rules forbid.

use std::fs;
use std::os::unix::fs::symlink;

use crate::environment::Environment;

/// The example of `docs/rules.md`.
fn example() -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md"));
    let page = page.unwrap();
    let (_, text) = page.split_once("```toml\n").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    text.to_owned()
}

fn with_rules(text: &str) -> Environment {
    let env = Environment::new();
    write_rules(&env, "etc", "10.toml", text);
    env
}

fn write_rules(env: &Environment, place: &str, name: &str, text: &str) {
    let folder = env.machine().join(place).join("vusb/rules.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

/// Plugs in a device with one interface.
fn plug(env: &Environment, port: &str, id: &str, interface: [&str; 3]) {
    let (vendor, product) = id.split_once(':').unwrap();
    env.plug(port, &[("idVendor", vendor), ("idProduct", product)]);
    let folder = env.machine().join("sys/bus/usb/devices").join(port).join(format!("{port}:1.0"));
    fs::create_dir_all(&folder).unwrap();
    let [class, subclass, protocol] = interface;
    for (name, value) in [
        ("bInterfaceNumber", "00"),
        ("bInterfaceClass", class),
        ("bInterfaceSubClass", subclass),
        ("bInterfaceProtocol", protocol),
    ] {
        fs::write(folder.join(name), value).unwrap();
    }
}

/// The printer goes to work because of its class, the dongle to licence because of its port,
/// keyboards to no guest; the rest is asked about.
#[test]
fn the_example_of_the_docs_explains_each_decision() {
    let example = example();
    assert!(example.lines().count() <= 20, "{example}");
    let env = with_rules(&example);
    plug(&env, "1-1", "03f0:0c17", ["07", "01", "02"]);
    plug(&env, "1-4.2", "0529:0001", ["ff", "00", "00"]);
    plug(&env, "1-5", "0781:5581", ["08", "06", "50"]);
    plug(&env, "1-6", "046d:c31c", ["03", "01", "01"]);
    env.run("rules check").prints("no mistake in 4 rules from 1 files");
    for (port, effect) in [
        ("1-1", "attach to work: rule `printers`"),
        ("1-4.2", "attach to licence: rule `licence dongle`"),
        ("1-5", "ask who gets it, gui or work: rule `all else`"),
        ("1-6", "not given to gui or work: rule `keyboards`"),
    ] {
        let ran = env.run(&format!("explain {port}"));
        let line = ran.stdout.lines().nth(1).unwrap();
        assert!(line.starts_with(effect), "{port}: {ran:?}");
        assert!(line.contains("10.toml:"), "the rule's file and line: {ran:?}");
    }
    insta::assert_snapshot!(env.run("explain 1-4.2 work").snapshot(), @r"
    0529:0001 Aladdin Knowledge Systems HASP copy protection dongle at 1-4.2 [ff:00:00]
    attach to licence: rule `licence dongle` ($TMP/machine/etc/vusb/rules.d/10.toml:6)

    DOMAIN  BY HAND  RULE
    work  yes  all else

    RULE  ACTION  RESULT  WHERE
    licence dongle  attach licence  not about this domain: ports below  $TMP/machine/etc/vusb/rules.d/10.toml:6
    all else  ask work, gui  decides: any device  $TMP/machine/etc/vusb/rules.d/10.toml:11
    unmatched  allow *  beaten by all else: any device  -
    builtin:hub  deny * (final)  no, protected: wanted hub, seen none  -
    builtin:only-keyboard  deny * (built in)  no, protected: wanted only-keyboard, seen none  -
    builtin:only-network  deny * (built in)  no, protected: wanted only-network, seen none  -
    builtin:unauthorized  deny * (built in)  no, protected: wanted unauthorized, seen none  -
    builtin:used-disk  deny * (built in)  no, protected: wanted used-disk, seen none  -
    keyboards  deny * (final)  no, has: wanted keyboard, seen ff:00:00  $TMP/machine/etc/vusb/rules.d/10.toml:15
    printers  attach work  no, has: wanted printer, seen ff:00:00  $TMP/machine/etc/vusb/rules.d/10.toml:1
    ");
}

/// `--force` overrides each rule that is not final. Of the built-in rules, only that for hubs is
/// final.
#[test]
fn an_explanation_says_what_force_overrides() {
    let env = with_rules(
        "[[rule]]\nname = \"no sticks\"\nhas = \"storage\"\ndeny = \"*\"\n\
         [[rule]]\nname = \"no printers\"\nhas = \"printer\"\ndeny = \"*\"\nfinal = true\n",
    );
    plug(&env, "1-1", "046d:c31c", ["03", "01", "01"]);
    plug(&env, "1-2", "05e3:0608", ["09", "00", "01"]);
    plug(&env, "1-3", "0781:5581", ["08", "06", "50"]);
    plug(&env, "1-4", "03f0:0c17", ["07", "01", "02"]);
    for (port, rule, action, is_final) in [
        ("1-1", "builtin:only-keyboard", "deny * (built in)", false),
        ("1-2", "builtin:hub", "deny * (final)", true),
        ("1-3", "no sticks", "deny *", false),
        ("1-4", "no printers", "deny * (final)", true),
    ] {
        let ran = env.run(&format!("explain {port} web1"));
        let by_hand = if is_final { "no" } else { "with --force" };
        let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&format!("web1 {by_hand} {rule}")), "{ran:?}");
        assert!(words.contains(&format!("{rule} {action} decides")), "{ran:?}");
        let value = env.json(&format!("explain {port} web1"));
        let permission = &value["permissions"][0];
        assert_eq!(permission["verdict"], "denied", "{port}");
        assert_eq!(permission["final"].as_bool().unwrap_or(false), is_final, "{port}");
        assert_eq!(value["trace"][0]["final"].as_bool().unwrap_or(false), is_final, "{port}");
        // `--force` does what the explanation says.
        let code = if is_final { 5 } else { 0 };
        assert_eq!(env.run(&format!("device add sim:w{port} {port} --force")).code, code, "{port}");
    }
}

#[test]
fn a_device_that_is_not_there_is_explained_too() {
    let env = with_rules(&example());
    let ran = env.run("explain --id 03f0:0c17 --has printer work");
    assert!(ran.stdout.contains("attach to work: rule `printers`"), "{ran:?}");
    let ran = env.run("explain 03f0:0c17");
    assert!(ran.stdout.starts_with("03f0:0c17 (not plugged in)\nask who gets it"), "{ran:?}");
    assert!(ran.stdout.contains("no, has: wanted printer, seen unknown"), "{ran:?}");
    let value = env.json("explain --id 03f0:0c17 --has printer");
    assert_eq!(value["effect"]["do"], "attach");
    assert_eq!(value["effect"]["domain"], "work");
    env.run("explain").fails(2).says("name a device");
    env.run("explain --id 0781").fails(2).says("`0781` is not a value of --id");
    env.run("explain 1-4 work --has hid").fails(2).says("the only argument is the domain");
}

#[test]
fn a_denied_device_is_not_given_by_hand() {
    let env = with_rules(
        "[[rule]]\nname = \"no sticks\"\nhas = \"storage\"\ndeny = \"sim:*/S\"\n\
         [[rule]]\nname = \"no keyboards\"\nhas = \"keyboard\"\ndeny = \"*\"\nfinal = true\n",
    );
    plug(&env, "1-5", "0781:5581", ["08", "06", "50"]);
    plug(&env, "1-6", "046d:c31c", ["03", "01", "01"]);
    let ran = env.run("device add sim:S 0781:5581");
    ran.fails(5).says("the rule `no sticks` denies it");
    ran.says("hint: see why with `vusb explain 1-5 sim:S`");
    ran.says("hint: if you are sure, repeat it with --force");
    env.run("device add sim:T 0781:5581").prints("hci0:1");
    env.run("device remove sim:T 0781:5581").prints("");
    env.run("device add sim:S 0781:5581 --force").prints("hci0:1");
    // A device that was given stays with its domain: its record counts as a rule of its own.
    env.run("device add sim:S 0781:5581").prints("hci0:1");
    env.run("device add sim:S 046d:c31c --force").fails(5).says("`no keyboards`");
}

#[test]
fn files_replace_and_mask_each_other_by_name() {
    let env = Environment::new();
    let rule = |name: &str| format!("[[rule]]\nname = \"{name}\"\nask = \"*\"\n");
    write_rules(&env, "usr/lib", "10-a.toml", &rule("a"));
    write_rules(&env, "usr/lib", "20-b.toml", &rule("b"));
    write_rules(&env, "usr/lib", "30-c.toml", &rule("c"));
    write_rules(&env, "etc", "20-b.toml", &rule("own b"));
    write_rules(&env, "etc", ".hidden.toml", "not toml");
    write_rules(&env, "etc", "notes.txt", "not toml");
    symlink("/dev/null", env.machine().join("etc/vusb/rules.d/30-c.toml")).unwrap();
    let value = env.json("rules list");
    let rules = value["rules"].as_array().unwrap().iter();
    let names: Vec<&str> = rules
        .filter(|it| it.get("file").is_some())
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "own b"]);
    assert_eq!(value["files"].as_array().unwrap().len(), 2);
}

#[test]
fn mistakes_are_shown_in_their_lines() {
    let env = with_rules("[[rule]]\nname = \"a\"\nvendor = \"0529\"\nask = \"*\"\n");
    write_rules(&env, "etc", "20.toml", "[[rule]]\nname = \"b\"\n");
    let ran = env.run("rules check");
    ran.fails(2).says("10.toml:3:1").says("20.toml:1:1");
    // The rule that would have denied it may be in the file with the mistake.
    plug(&env, "1-5", "0781:5581", ["08", "06", "50"]);
    env.run("device add sim:S 0781:5581").fails(2).says("10.toml:3:1");
    env.run("device add sim:S tablet").prints("hci0:1");
    env.run("device add sim:S 0781:5581 --force").prints("hci0:2");
}

#[test]
fn rules_that_contradict_each_other_or_never_decide() {
    let env = with_rules("[[rule]]\nname = \"a\"\nhas = \"storage\"\nattach = \"web1\"\n");
    let other =
        env.write("other.toml", "[[rule]]\nname = \"b\"\nhas = \"08\"\nattach = \"web2\"\n");
    let own = env.machine().join("etc/vusb/rules.d/10.toml");
    env.run("rules check").prints("no mistake in 1 rules from 1 files");
    let both = [own.to_str().unwrap(), other.to_str().unwrap()];
    // `storage` and `08` are the same devices, but not the same text.
    env.vusb(["rules", "check", both[0], both[1]]).prints("no mistake in 2 rules from 2 files");
    fs::write(&other, "[[rule]]\nname = \"b\"\nhas = \"storage\"\nattach = \"web2\"\n").unwrap();
    env.vusb(["rules", "check", both[0], both[1]]).fails(2).says("match the same devices");
    fs::write(&other, "[[rule]]\nname = \"b\"\ndeny = \"*\"\nfinal = true\n").unwrap();
    let ran = env.vusb(["rules", "check", both[0], both[1]]);
    ran.says("warning: `a` never decides: `b` always does");
    assert_eq!(ran.code, 0, "{ran:?}");
    env.run("rules check missing.toml").fails(3);
}

#[test]
fn a_protection_is_lifted_by_a_rule_file() {
    let env = Environment::new();
    env.plug("1-4", &[("idVendor", "1209"), ("idProduct", "0001"), ("authorized", "0")]);
    env.run("device add sim:S 1-4").fails(5).says("has not authorized it");
    write_rules(&env, "etc", "10.toml", "[builtin]\nunauthorized = false\n");
    env.run("device add sim:S 1-4").prints("hci0:1");
}

/// A rule applies to a running guest, and to one that is started with a file.
#[test]
fn what_device_add_refuses_is_refused_at_the_start_too() {
    let env = with_rules(
        "[[rule]]\nname = \"no sticks\"\nhas = \"storage\"\ndeny = \"web1\"\n\
         [[rule]]\nname = \"no keyboards\"\nhas = \"keyboard\"\ndeny = \"*\"\nfinal = true\n",
    );
    plug(&env, "1-5", "0781:5581", ["08", "06", "50"]);
    plug(&env, "1-6", "046d:c31c", ["03", "01", "01"]);
    env.plug("1-7", &[("idVendor", "1209"), ("idProduct", "0001"), ("authorized", "0")]);
    let spec = |name: &str, id: &str| {
        let text = format!("domain = \"{name}\"\n[[device]]\nhost = \"{id}\"\n");
        env.write("web1.toml", &text);
    };
    spec("web1", "0781:5581");
    env.run("qemu-args web1.toml").fails(5).says("the rule `no sticks` denies it");
    env.run("qemu-args web1.toml --force").says("the rule `no sticks` denies it");
    env.run("convert web1.toml --to libvirt").says("the rule `no sticks` denies it");
    spec("web2", "0781:5581");
    assert_eq!(env.run("qemu-args web1.toml").stderr, "");
    // It is also protected, as the only keyboard. That alone could be overridden.
    spec("web2", "046d:c31c");
    env.run("qemu-args web1.toml --force").fails(5).says("the rule `no keyboards` denies it");
    // A rule file can lift a protection.
    spec("web2", "1209:0001");
    env.run("qemu-args web1.toml").fails(5).says("has not authorized it");
    write_rules(&env, "etc", "20.toml", "[builtin]\nunauthorized = false\n");
    assert_eq!(env.run("qemu-args web1.toml").stderr, "");
    // A rule file with a mistake may be the one that denies the device.
    write_rules(&env, "etc", "30.toml", "mistake");
    env.run("qemu-args web1.toml").fails(2).says("30.toml");
    env.run("convert web1.toml --to libvirt").says("30.toml");
}

#[test]
fn an_image_is_checked_before_the_start_too() {
    let env = Environment::new();
    env.write("web1.toml", "[[device]]\nkind = \"storage\"\nfile = \"sub/a.img\"\n");
    // A missing image may exist on the machine where the guest is started.
    assert_eq!(env.run("qemu-args web1.toml").stderr, "");
    fs::create_dir(env.path("sub")).unwrap();
    fs::write(env.path("sub/a.img"), b"QFI\xfb\0\0\0\x03").unwrap();
    env.run("qemu-args web1.toml").fails(5).says("qcow2");
    fs::remove_file(env.path("sub/a.img")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(env.path("sub/a.img")).status();
    assert!(fifo.unwrap().success());
    env.run("qemu-args web1.toml").fails(2).says("a special file");
}
