//! Failures, and their messages: what happened, why, and what to do.

use insta::assert_snapshot;

use crate::environment::Environment;

#[test]
fn an_unknown_domain() {
    let env = Environment::new();
    assert_snapshot!(env.run("list web1").snapshot(), @"
    ---- stderr
    error: there is no domain web1: no domain is known by name
    hint: name a domain as qemu:SOCKET, sim:FILE, libvirt:NAME, pve:VMID, xen:NAME, FILE, or by its own name or the name in a spec that was applied
    hint: see what is there with `vusb list`
    ---- exit 3
    ");
}

#[test]
fn a_missing_file() {
    let env = Environment::new();
    for domain in ["guest.toml", "guest.xml", "guest.cfg", "guest.vmx"] {
        env.vusb(["list", domain]).fails(3).says("there is no such file");
    }
    env.run("list qemu:").fails(2).says("hint: write qemu:SOCKET");
}

#[test]
fn a_qemu_that_does_not_listen() {
    let env = Environment::new();
    env.run("list qemu:missing.qmp").fails(7);
    env.run("device add qemu:missing.qmp tablet").fails(7);
    env.write("web1.toml", "driver = \"qemu:missing.qmp\"\n");
    env.run("plan web1.toml").fails(7);
    env.run("apply web1.toml").fails(7);
    let _listener = std::os::unix::net::UnixListener::bind(env.path("silent.qmp")).unwrap();
    // It accepts the connection and sends nothing.
    env.run("list qemu:silent.qmp --timeout 0.2").fails(8);
}

#[test]
fn a_failed_step_is_reported_with_what_was_undone() {
    let env = Environment::new();
    env.write("S", r#"{"sim": 1, "faults": [{"step": "plug", "fault": "fail"}]}"#);
    let ran = env.run("device add sim:S tablet");
    ran.fails(1).says("undone: add controller hci0");
    assert_snapshot!(ran.snapshot(), @"
    ---- stderr
    error: could not plug tablet0 (tablet) into 0:1: it was told to fail; undone: add controller hci0 (qemu-xhci, 15 ports, index 0)
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
    assert_eq!(error["failed"]["step"]["text"], "plug tablet0 (tablet) into 0:1");
    let controller = "add controller hci0 (qemu-xhci, 15 ports, index 0)";
    assert_eq!(error["failed"]["undone"][0]["text"], controller);
    assert_eq!(error["failed"]["undone"].as_array().unwrap().len(), 1);
    assert_eq!(error["failed"]["not_undone"], serde_json::json!([]));
}

#[test]
fn a_failed_undo_is_reported() {
    let env = Environment::new();
    let faults =
        r#"[{"step": "plug", "fault": "fail"}, {"step": "remove", "nth": 0, "fault": "fail"}]"#;
    env.write("S", &format!(r#"{{"sim": 1, "faults": {faults}}}"#));
    let ran = env.run("device add sim:S tablet");
    ran.fails(1).says("could not be undone").says("hint: check what the domain has now");
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
        .says("is damaged")
        .says("hint: repair or delete the file");
    env.run("list sim:S").fails(1);
    assert_eq!(env.everything(), before);
    let all = env.run("list");
    assert_eq!(all.code, 0);
    assert!(all.stdout.contains("cannot be"), "{all:?}");
}

#[test]
fn a_mistake_in_a_spec_is_shown_with_its_position() {
    let env = Environment::new();
    env.write("web1.toml", "domain = \"web1\"\n[[controller]]\nusbversion = 4\n");
    assert_snapshot!(env.run("plan web1.toml").snapshot(), @"
    ---- stderr
    error: `usbversion` must be 1 or 2 or 3
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
fn a_mistake_in_a_spec_has_hints() {
    let env = Environment::new();
    for (text, hint) in [
        ("[[controller]]\nmodel = \"usb-ehci\"\n", "hint: see the models with `vusb models`"),
        ("[[device]]\nhost = \"781:5581\"\n", "hint: see what there is with `vusb host list`"),
    ] {
        env.write("web1.toml", text);
        env.run("plan web1.toml").fails(2).says(hint);
        env.run("list web1.toml").fails(2).says(hint);
    }
}

#[test]
fn a_spec_is_not_a_running_domain() {
    let env = Environment::new();
    env.write("web1.toml", "domain = \"web1\"\n");
    env.run("apply web1.toml").fails(2).says("the spec has no driver");
    env.write("empty.toml", "");
    env.run("apply empty.toml").fails(2).says("add the line driver");
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

/// What is read from the state folder decides what happens to a guest, so no other user may write
/// to it.
#[test]
fn a_state_folder_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    std::fs::set_permissions(env.state(), std::fs::Permissions::from_mode(0o777)).unwrap();
    for line in ["list", "list sim:S", "controller add sim:S"] {
        env.run(line).fails(1).says("is not safe to use: other users may write to it");
    }
    std::fs::set_permissions(env.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(env.run("list sim:S").code, 0);
}
