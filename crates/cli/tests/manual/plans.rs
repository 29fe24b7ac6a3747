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

/// The steps that a command with `-v` reports.
fn steps(ran: &Ran) -> Vec<&str> {
    let verbs = ["add controller", "remove controller", "plug", "unplug"];
    ran.stderr.lines().filter(|line| verbs.iter().any(|verb| line.starts_with(verb))).collect()
}

#[test]
fn apply_does_what_the_plan_shows() {
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
    assert_eq!(steps(&applied), plan.stdout.lines().collect::<Vec<_>>());
    assert_snapshot!(env.run("list web1").snapshot(), @"
    web1 (sim:S)
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
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
    env.run("apply web1.toml").prints("").says("web1: nothing to do");
    env.run("plan web1.toml").prints("").says("nothing to do");
    env.run("apply web1").prints("").says("nothing to do");
    assert_eq!(env.everything(), before);
}

#[test]
fn items_that_the_spec_no_longer_has_are_removed() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:S\"\n[[controller]]\nusbversion = 3\n",
    );
    assert_snapshot!(env.run("plan web1.toml").snapshot(), @"
    unplug storage0 (storage:stick.img) from 0:2
    unplug tablet0 (tablet) from 0:1
    ---- stderr
    would remove tablet0 (hci0:1): the spec no longer has it
    would remove storage0 (hci0:2): the spec no longer has it
    ");
    assert_snapshot!(env.run("apply web1.toml").snapshot(), @"
    ---- stderr
    removed tablet0 (hci0:1): the spec no longer has it
    removed storage0 (hci0:2): the spec no longer has it
    web1: 2 steps taken
    ");
}

#[test]
fn what_was_added_by_hand_is_kept_and_reported_and_removed_with_prune() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    env.run("device add web1 mouse --name pen").prints("hci0:3");
    env.run("controller add web1 --usbversion 1 --name slow").prints("slow");
    let kept = "kept: added by hand and not in the spec: slow, pen; remove them with --prune";
    env.run("apply web1.toml").prints("").says(kept).says("web1: nothing to do");
    env.write("less.toml", "domain = \"web1\"\ndriver = \"sim:S\"\n");
    assert_snapshot!(env.run("apply less.toml").snapshot(), @"
    ---- stderr
    removed tablet0 (hci0:1): the spec no longer has it
    removed storage0 (hci0:2): the spec no longer has it
    kept: added by hand and not in the spec: slow, pen; remove them with --prune
    web1: 2 steps taken
    ");
    assert_eq!(env.run("plan less.toml --prune").stdout.lines().count(), 3);
    env.run("apply less.toml --prune")
        .prints("")
        .says("removed pen (hci0:3): it was added by hand");
    env.run("list web1").prints("web1 (sim:S): no USB");
    env.run("apply web1 --prune").fails(2).says("--prune is for a spec");
}

#[test]
fn what_was_added_by_hand_and_is_in_the_spec_belongs_to_the_spec() {
    let env = web1();
    env.run("device add sim:S tablet").prints("hci0:1");
    env.run("apply web1.toml").prints("");
    env.write("less.toml", "domain = \"web1\"\ndriver = \"sim:S\"\n");
    env.run("apply less.toml").says("removed tablet0");
}

#[test]
fn items_in_an_old_record_count_as_added_by_hand() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    let record = env.record("S");
    let text = std::fs::read_to_string(&record).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(old.as_object_mut().unwrap().remove("specified").is_some(), "{text}");
    std::fs::write(&record, old.to_string()).unwrap();
    env.write("less.toml", "domain = \"web1\"\ndriver = \"sim:S\"\n");
    env.run("apply less.toml").says("kept: added by hand and not in the spec: hci0");
    // A spec that has them takes them over.
    env.run("apply web1.toml").prints("").says("nothing to do");
    env.run("apply less.toml").says("removed hci0: the spec no longer has it");
}

#[test]
fn a_dry_run_changes_nothing() {
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
        ("apply web1.toml", 3),
        ("plan web1.toml", 3),
        ("plan web1.toml --prune", 5),
    ] {
        let dry = env.run(&format!("{line} --dry-run"));
        assert_eq!((dry.code, dry.stdout.lines().count()), (0, steps), "{line}: {dry:?}");
        assert_eq!(env.everything(), before, "{line}");
    }
}

/// Text and JSON show the same first step, for a running guest and for a file.
#[test]
fn a_dry_run_shows_the_plan_of_each_command() {
    let env = web1();
    env.plug_stick("1-4");
    env.run("device add sim:S mouse --name pen").prints("hci0:1");
    env.write("guest.toml", "[[device]]\nkind = \"mouse\"\nname = \"pen\"\n");
    let before = env.everything();
    for (line, first) in [
        ("device add DOMAIN 0781:5581 --name stick", "plug stick (host:0781:5581) into 0:2"),
        ("device remove DOMAIN pen", "unplug pen (mouse) from 0:1"),
        (
            "controller add DOMAIN --usbversion 1",
            "add controller hci1 (piix3-uhci, 2 ports, index 1)",
        ),
        ("controller remove DOMAIN hci0 --force", "unplug pen (mouse) from 0:1"),
        ("apply web1.toml", "add controller hci1 (nec-xhci, 15 ports, index 1)"),
    ] {
        for domain in ["sim:S", "guest.toml"] {
            let line = format!("{} --dry-run", line.replace("DOMAIN", domain));
            assert_eq!(env.run(&line).stdout.lines().next(), Some(first), "{line}");
            let plan = env.json(&line);
            assert_eq!(plan["steps"][0]["text"], first, "{line}");
            assert_eq!(plan["dry_run"], true, "{line}");
        }
    }
    assert_eq!(env.everything(), before);
}

#[test]
fn a_dry_run_fails_like_the_change_itself() {
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
    assert!(env.path("S").metadata().is_err(), "nothing was created");
}

#[test]
fn a_spec_without_a_driver_is_for_a_guest_that_does_not_run() {
    let env = Environment::new();
    env.write(
        "fresh.toml",
        "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"mouse\"\nname = \"rat\"\n",
    );
    assert_snapshot!(env.run("plan fresh.toml").snapshot(), @"
    LOCATION  NAME  TYPE      WHAT                     PORTS
    0         hci0  emulated  ich9-ehci1 + companions  1/6
      1       rat   mouse
    ---- stderr
    the spec has no driver: this is the hardware of a guest that is started with it
    ");
}

#[test]
fn a_guest_and_its_spec_have_the_same_digest() {
    let env = web1();
    let spec = env.run("digest web1.toml");
    env.run("apply web1.toml").prints("");
    let guest = env.run("digest web1");
    assert_eq!((spec.stdout.len(), spec.code), (65, 0), "{spec:?}");
    assert_eq!(spec.stdout, guest.stdout);
    // The hypervisor chooses the PCI address of the controller.
    assert_ne!(env.run("digest web1 --pci").stdout, guest.stdout);
    env.run("device add web1 mouse").prints("hci0:3");
    assert_ne!(env.run("digest web1").stdout, guest.stdout);
}

#[test]
fn a_start_gets_what_was_planned_for_it() {
    let env = Environment::new();
    // A low-speed keyboard of this machine does not work on the EHCI, so another controller is
    // added.
    env.plug("1-1", &[("idVendor", "046d"), ("idProduct", "c31c"), ("speed", "1.5")]);
    let text =
        "[[controller]]\nmodel = \"ehci\"\n[[device]]\nhost = \"046d:c31c\"\nname = \"keys\"\n";
    env.write("fresh.toml", text);
    assert_snapshot!(env.run("plan fresh.toml").snapshot(), @"
    LOCATION  NAME  TYPE      WHAT       PORTS
    0         hci0  emulated  ehci       0/6
    1         hci1  emulated  qemu-xhci  1/15
      1       keys  host      046d:c31c
    ---- stderr
    the spec has no driver: this is the hardware of a guest that is started with it
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
    // The output is not normalized, because the test is about the name of its folder.
    let raw = |command: &str| {
        let out = env.command([command, "fresh.toml", "--json"]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let file = env.path("a.img").canonicalize().unwrap().display().to_string();
    assert!(raw("plan").contains(&format!("\"{file}\"")), "{}", raw("plan"));
    assert!(raw("qemu-args").contains(&file), "{}", raw("qemu-args"));
}

#[test]
fn a_spec_without_a_driver_never_changes_a_running_guest_of_the_same_name() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    let before = env.read("S");
    env.write("named.toml", "domain = \"web1\"\n[[device]]\nkind = \"tablet\"\n");
    env.run("plan named.toml").says("the spec has no driver");
    env.run("apply named.toml")
        .fails(2)
        .says("the spec has no driver: it is for a guest that is started with it")
        .says("hint: to change the running guest of that name, add the line driver = \"sim:");
    assert_eq!(env.read("S"), before);
    assert_eq!(env.json("plan named.toml").get("domain"), Some(&"web1".into()));
}

#[test]
fn the_exit_code_of_a_plan_tells_whether_there_are_changes() {
    let env = web1();
    assert_eq!(env.run("plan web1.toml").code, 0);
    assert_eq!(env.run("plan web1.toml --exit-code").code, 2);
    assert_eq!(env.run("plan web1.toml --exit-code --json").code, 2);
    env.run("apply web1.toml").prints("");
    assert_eq!(env.run("plan web1.toml --exit-code").code, 0);
    env.write("fresh.toml", "[[device]]\nkind = \"tablet\"\n");
    assert_eq!(env.run("plan fresh.toml --exit-code").code, 0);
}

#[test]
fn the_digest_is_of_what_the_guest_has_now() {
    let env = web1();
    env.run("apply web1.toml").prints("");
    std::fs::remove_file(env.path("S")).unwrap();
    env.write("empty.toml", "");
    let empty = env.run("digest empty.toml").stdout;
    assert_eq!(env.run("digest web1").stdout, empty);
    assert_eq!(env.run("digest web1 --pci").stdout, empty);
}
