//! `vusb plan`, `vusb apply`, `--dry-run`, `vusb digest`.

use insta::assert_snapshot;

use crate::environment::{Environment, Ran};

const WEB1: &str = r#"
domain = "web1"
driver = "sim:S"

[[controller]]
usbversion = 3

[[device]]
kind = "storage"
file = "stick.img"
port = "2"

[[device]]
kind = "tablet"
"#;

fn web1() -> Environment {
    let env = Environment::new();
    env.image("stick.img");
    env.write("web1.toml", WEB1);
    env
}

/// The steps that a command with `-v` says it took.
fn told(ran: &Ran) -> Vec<&str> {
    let verbs = ["add controller", "remove controller", "plug", "unplug"];
    ran.stderr.lines().filter(|line| verbs.iter().any(|verb| line.starts_with(verb))).collect()
}

#[test]
fn a_plan_is_what_is_then_done() {
    let env = web1();
    let before = env.everything();
    let plan = env.run("plan web1.toml");
    let dry = env.run("apply web1.toml --dry-run");
    assert_eq!(env.everything(), before, "nothing is changed by either");
    assert_snapshot!(plan.snapshot(), @"
    add controller hci0 (nec-xhci, 15 ports, index 0)
    plug tablet0 (tablet) into 0:1
    plug storage0 (storage:stick.img) into 0:2
    ");
    assert_eq!(plan.stdout, dry.stdout);
    let applied = env.run("apply web1.toml -v");
    assert_eq!(told(&applied), plan.stdout.lines().collect::<Vec<_>>());
    assert_snapshot!(env.run("list web1").snapshot(), @"
    web1 (sim:S)
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  nec-xhci  2/15  present
      1  tablet0  tablet  attached
      2  storage0  storage  stick.img  attached
    ");
}

#[test]
fn applying_again_changes_nothing() {
    let env = web1();
    env.run("apply web1.toml").prints("").says("3 steps taken");
    let before = env.everything();
    env.run("apply web1.toml").prints("").says("web1 is already so");
    env.run("plan web1.toml").prints("").says("nothing to do");
    env.run("apply web1").prints("").says("already so");
    assert_eq!(env.everything(), before);
}

#[test]
fn what_the_spec_no_longer_has_goes() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:S\"\n[[controller]]\nusbversion = 3\n",
    );
    assert_snapshot!(env.run("plan web1.toml").snapshot(), @"
    unplug storage0 (storage:stick.img) from 0:2
    unplug tablet0 (tablet) from 0:1
    ");
    env.run("apply web1.toml").prints("").says("2 steps taken");
}

#[test]
fn a_dry_run_of_each_change_changes_nothing() {
    let env = web1();
    env.run("device add sim:S mouse --name pen").prints("hci0:1");
    let before = env.everything();
    for (line, steps) in [
        ("controller add sim:S --usbversion 1", 1),
        ("controller add sim:S --name hci0", 0),
        ("controller remove sim:S hci0 --force", 2),
        ("device add sim:S storage:stick.img", 1),
        ("device add sim:S mouse --name pen", 0),
        ("device remove sim:S pen", 1),
        ("apply web1.toml", 5),
        ("plan web1.toml", 5),
    ] {
        let dry = env.run(&format!("{line} --dry-run"));
        assert_eq!((dry.code, dry.stdout.lines().count()), (0, steps), "{line}: {dry:?}");
        assert_eq!(env.everything(), before, "{line}");
    }
}

#[test]
fn a_dry_run_of_what_cannot_be_fails_just_so() {
    let env = Environment::new();
    for line in [
        "controller add sim:S --usbversion 2",
        "controller add sim:S --type pv",
        "device add sim:S storage:nowhere.img",
        "device remove sim:S pen",
    ] {
        let dry = env.run(&format!("{line} --dry-run"));
        let real = env.run(line);
        assert_eq!((dry.code, &dry.stderr), (real.code, &real.stderr), "{line}");
    }
    assert!(env.path("S").metadata().is_err(), "nothing was made");
}

#[test]
fn a_spec_without_a_driver_is_for_a_guest_that_is_yet_to_be_started() {
    let env = Environment::new();
    env.write(
        "fresh.toml",
        "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"mouse\"\nname = \"rat\"\n",
    );
    assert_snapshot!(env.run("plan fresh.toml").snapshot(), @"
    PLACE  NAME  TYPE      WHAT                     PORTS
    0      hci0  emulated  ich9-ehci1 + companions  1/6
      1    rat   mouse
    ---- stderr
    the spec names no running guest: this is what one gets that is started with it
    ");
}

#[test]
fn the_digest_of_a_guest_is_that_of_its_spec() {
    let env = web1();
    let spec = env.run("digest web1.toml");
    env.run("apply web1.toml").prints("");
    let guest = env.run("digest web1");
    assert_eq!((spec.stdout.len(), spec.code), (65, 0), "{spec:?}");
    assert_eq!(spec.stdout, guest.stdout);
    // Where the controller sits is the hypervisor's to say.
    assert_ne!(env.run("digest web1 --pci").stdout, guest.stdout);
    env.run("device add web1 mouse").prints("hci0:3");
    assert_ne!(env.run("digest web1").stdout, guest.stdout);
}

#[test]
fn what_is_planned_for_a_start_is_what_a_start_gets() {
    let env = Environment::new();
    // A slow keyboard of this machine: it does not go into the EHCI, so another controller comes.
    env.plug("1-1", &[("idVendor", "046d"), ("idProduct", "c31c"), ("speed", "1.5")]);
    let text =
        "[[controller]]\nmodel = \"ehci\"\n[[device]]\nhost = \"046d:c31c\"\nname = \"keys\"\n";
    env.write("fresh.toml", text);
    assert_snapshot!(env.run("plan fresh.toml").snapshot(), @"
    PLACE  NAME  TYPE      WHAT       PORTS
    0      hci0  emulated  ehci       0/6
    1      hci1  emulated  qemu-xhci  1/15
      1    keys  host      046d:c31c
    ---- stderr
    the spec names no running guest: this is what one gets that is started with it
    ");
    let arguments = env.run("qemu-args fresh.toml").stdout;
    assert!(arguments.contains("\"bus\":\"vusb-1x15-hci1.0\""), "{arguments}");
    assert_eq!(env.run("digest fresh.toml").stdout, env.run("digest fresh.toml --pci").stdout);
    let plan = env.json("plan fresh.toml");
    assert_eq!(plan.get("fresh"), Some(&true.into()));
    assert_eq!(plan.get("domain"), None);
}

#[test]
fn a_plan_for_a_start_names_files_as_the_arguments_do() {
    let env = Environment::new();
    env.image("a.img");
    env.write("fresh.toml", "[[device]]\nkind = \"storage\"\nfile = \"a.img\"\n");
    // As they come out, for this test's folder is what it is about.
    let raw = |command: &str| {
        let out = env.command([command, "fresh.toml", "--json"]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let file = env.path("a.img").canonicalize().unwrap().display().to_string();
    assert!(raw("plan").contains(&format!("\"{file}\"")), "{}", raw("plan"));
    assert!(raw("qemu-args").contains(&file), "{}", raw("qemu-args"));
}

#[test]
fn a_spec_without_a_driver_finds_its_domain_by_name() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    env.write("named.toml", &WEB1.replace("driver = \"sim:S\"\n", ""));
    env.run("plan named.toml").prints("").says("web1 is already so");
    env.write("other.toml", "domain = \"web2\"\n[[device]]\nkind = \"tablet\"\n");
    env.run("plan other.toml").says("the spec names no running guest");
    assert_eq!(env.json("plan other.toml").get("domain"), Some(&"web2".into()));
}

#[test]
fn the_digest_is_of_what_the_guest_has_and_not_of_what_it_should_have() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    std::fs::remove_file(env.path("S")).unwrap();
    env.write("empty.toml", "");
    let empty = env.run("digest empty.toml").stdout;
    assert_eq!(env.run("digest web1").stdout, empty);
    assert_eq!(env.run("digest web1 --pci").stdout, empty);
}
