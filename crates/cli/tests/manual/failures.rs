//! What goes wrong, and what a person is told: what happened, why, and what to do.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn a_domain_that_nobody_knows() {
    let env = Environment::new();
    assert_snapshot!(env.run("list web1").snapshot(), @"
    ---- stderr
    error: there is no domain web1: no domain is known by name yet
    hint: name a domain as qemu:SOCKET or xen:NAME, by its file (.toml, .xml, .cfg, .json, .vmx), or by the name in a spec that was applied; `vusb list` shows those that are known
    ---- exit 3
    ");
}

#[test]
fn a_file_that_is_not_there() {
    let env = Environment::new();
    for domain in ["guest.toml", "guest.xml", "guest.cfg", "guest.vmx"] {
        env.vusb(["list", domain]).fails(3).says("there is no such file");
    }
    env.run("list qemu:").fails(2).says("hint: write qemu:SOCKET");
}

#[test]
fn a_qemu_that_does_not_listen() {
    let env = Environment::new();
    env.run("list qemu:nobody.qmp").fails(7);
    env.run("device add qemu:nobody.qmp tablet").fails(7);
    env.write("web1.toml", "driver = \"qemu:nobody.qmp\"\n");
    env.run("plan web1.toml").fails(7);
    env.run("apply web1.toml").fails(7);
    let _ears = std::os::unix::net::UnixListener::bind(env.path("deaf.qmp")).unwrap();
    // It takes the call and says nothing.
    env.run("list qemu:deaf.qmp --timeout 0.2").fails(8);
}

#[test]
fn a_step_that_fails_is_told_with_what_was_taken_back() {
    let env = Environment::new();
    env.write("S", r#"{"sim": 1, "faults": [{"step": "plug", "fault": "fail"}]}"#);
    let ran = env.run("device add sim:S tablet");
    ran.fails(1).says("taken back: add controller hci0");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: could not plug tablet0 (tablet) into 0:1: it was told to fail; taken back: add controller hci0 (qemu-xhci, 15 ports, index 0)
    ---- exit 1
    ");
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S: no USB
    ");
}

#[test]
fn a_failure_halfway_as_json() {
    let env = Environment::new();
    env.write("S", r#"{"sim": 1, "faults": [{"step": "plug", "fault": "fail"}]}"#);
    let error = &env.json("device add sim:S tablet")["error"];
    assert_eq!(error["kind"], "failed");
    assert_eq!(error["failed"]["step"], "plug tablet0 (tablet) into 0:1");
    let controller = "add controller hci0 (qemu-xhci, 15 ports, index 0)";
    assert_eq!(error["failed"]["undone"], serde_json::json!([controller]));
    assert_eq!(error["failed"]["not_undone"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_taken_back_is_told() {
    let env = Environment::new();
    let faults =
        r#"[{"step": "plug", "fault": "fail"}, {"step": "remove", "nth": 0, "fault": "fail"}]"#;
    env.write("S", &format!(r#"{{"sim": 1, "faults": {faults}}}"#));
    let ran = env.run("device add sim:S tablet");
    ran.fails(1).says("could not be taken back").says("hint: look at what is there now");
}

#[test]
fn a_hypervisor_that_takes_too_long() {
    let env = Environment::new();
    env.write("S", r#"{"sim": 1, "faults": [{"step": "plug", "fault": "timeout"}]}"#);
    env.run("device add sim:S tablet").fails(8);
}

#[test]
fn a_damaged_record_is_never_overwritten() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    let is_record = |path: &&std::path::PathBuf| path.extension().is_some_and(|it| it == "json");
    let files = env.everything();
    let record = files.iter().map(|(path, _)| path).find(is_record).unwrap();
    std::fs::write(record, "{\"vusb\": nonsense").unwrap();
    let before = env.everything();
    env.run("controller add sim:S")
        .fails(1)
        .says("cannot be understood")
        .says("hint: mend the file");
    env.run("list sim:S").fails(1);
    assert_eq!(env.everything(), before);
    let all = env.run("list");
    assert_eq!(all.code, 0);
    assert!(all.stdout.contains("cannot be"), "{all:?}");
}

#[test]
fn a_spec_with_a_mistake_shows_the_place() {
    let env = Environment::new();
    env.write("web1.toml", "domain = \"web1\"\n[[controller]]\nusbversion = 4\n");
    assert_snapshot!(env.run("plan web1.toml").snapshot(), @"
    ---- stderr
    error: `usbversion` is 1 or 2 or 3
     --> web1.toml:3:14
      |
    3 | usbversion = 4
      |              ^
    ---- exit 2
    ");
    env.run("plan nowhere.toml").fails(3);
    env.run("apply nowhere.toml").fails(3);
}

#[test]
fn a_spec_is_no_domain_that_runs() {
    let env = Environment::new();
    env.write("web1.toml", "domain = \"web1\"\n");
    env.run("apply web1.toml").fails(3).says("no domain web1");
    env.write("nobody.toml", "");
    env.run("apply nobody.toml").fails(2).says("hint: add the line driver");
}

#[test]
fn an_error_cannot_move_the_cursor() {
    let env = Environment::new();
    let nasty = "\u{1b}[2J\u{9b}1m\u{202e}\nhint: x";
    for arguments in [
        vec!["list", nasty],
        vec!["device", "add", "sim:S", nasty],
        vec!["device", "remove", "sim:S", nasty],
        vec!["controller", "add", "sim:S", "--name", nasty],
        vec!["controller", "add", nasty],
        vec!["plan", nasty],
        vec![nasty],
    ] {
        let ran = env.vusb(&arguments);
        assert_ne!(ran.code, 0, "{ran:?}");
        assert!(!ran.stderr.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{arguments:?}: {ran:?}");
    }
}
