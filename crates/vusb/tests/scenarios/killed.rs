//! `kill -9` at every moment, and how the next command recovers.
//!
//! The killed process is this test's own binary, controlled by its environment
//! ([`another_process`]). A simulated step hangs before or after it is taken, and the process is
//! killed there.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb::Registry;
use vusb::drivers::Locations;
use vusb::model::spec::DeviceSpec;

use crate::sandbox::{Sandbox, library_with, steps, texts};

/// The body of the process that is killed: not a test of its own.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn another_process() {
    let Some(folder) = std::env::var_os("VUSB_TEST_HOUSE") else { return };
    let what = std::env::var("VUSB_TEST_DO").unwrap();
    let (verb, argument) = what.split_once(' ').unwrap();
    let folder = Path::new(&folder);
    let vusb = library_with(folder, Duration::from_secs(5), |host| {
        let xenstored = std::env::var_os("VUSB_TEST_XENSTORED").map(Into::into);
        Registry::builtin(Locations { xenstored, ..host.into() })
    });
    let guest = vusb.domain(&std::env::var("VUSB_TEST_DOMAIN").unwrap()).unwrap();
    let result = match verb {
        "apply" => vusb.apply(&vusb.read(&folder.join(argument)).unwrap()),
        "add" => vusb.device_add(&guest, &DeviceSpec::new(argument.parse().unwrap())),
        "remove" => vusb.device_remove(&guest, &argument.parse().unwrap()),
        "move" => {
            let (device, port) = argument.split_once(' ').unwrap();
            vusb.device_move(&guest, &device.parse().unwrap(), port)
        }
        other => panic!("{other}"),
    };
    drop(result);
}

/// Another process that does `what` on the guest `web`, until it is killed.
pub(crate) struct Another(Child);

impl Another {
    pub(crate) fn start(sandbox: &Sandbox, what: &str) -> Another {
        Another::on(sandbox, "sim:web.sim", what)
    }

    /// As [`Another::start`], on another domain.
    pub(crate) fn on(sandbox: &Sandbox, domain: &str, what: &str) -> Another {
        Another::with(sandbox, domain, what, Path::new("/nowhere"))
    }

    /// As [`Another::on`], with the xenstored that listens on this socket.
    pub(crate) fn with(sandbox: &Sandbox, domain: &str, what: &str, xenstored: &Path) -> Another {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::another_process", "--ignored", "--quiet"]);
        command.env("VUSB_TEST_HOUSE", sandbox.path()).env("VUSB_TEST_DO", what);
        command.env("VUSB_TEST_DOMAIN", domain).env("VUSB_TEST_XENSTORED", xenstored);
        Another(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it hangs, which is when the guest has this many items.
    pub(crate) fn hangs(&self, sandbox: &Sandbox, items: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let sim = sandbox.sim("web");
            let faults = sim["faults"].as_array().unwrap();
            let hangs =
                |it: &Value| it["seen"] == 1 && it["fault"].as_str().unwrap().starts_with("hang");
            if faults.iter().any(hangs) && count(&sim["hardware"]) == items {
                return;
            }
            assert!(Instant::now() < end, "it does not hang: {sim}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The number of controllers and devices.
fn count(hardware: &Value) -> usize {
    let controllers = hardware.as_array().unwrap();
    let devices = controllers.iter().map(|it| it["devices"].as_array().unwrap().len());
    controllers.len() + devices.sum::<usize>()
}

/// The record has what the guest has, and no back end exists without its device.
fn assert_consistent(sandbox: &Sandbox) {
    let (record, sim) = (sandbox.record("web"), sandbox.sim("web"));
    assert_eq!(record["hardware"], sim["hardware"]);
    assert_eq!(record["pending"], json!(null));
    let text = sim["hardware"].to_string();
    for backend in sim["backends"].as_array().into_iter().flatten() {
        assert!(text.contains(&format!("\"name\":{backend}")), "{backend} is left: {sim}");
    }
}

const SPEC: &str = "[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"mouse\"";

/// The steps of [`SPEC`], each with how many items there are before it.
const STEPS: [(&str, usize); 3] = [("add controller", 0), ("plug tablet", 1), ("plug mouse", 2)];

#[test]
fn the_next_command_finishes_an_interrupted_one() {
    for (step, before) in STEPS {
        for (fault, items) in [("hang", before), ("hang-after", before + 1)] {
            let sandbox = Sandbox::new();
            sandbox.spec("web", SPEC);
            sandbox.faults("web", &[(step, fault)]);
            let another = Another::start(&sandbox, "apply web.toml");
            another.hangs(&sandbox, items);
            another.kill();

            // A list shows what exists, and that a change is under way.
            let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
            let shown: usize = view.controllers.iter().map(|it| 1 + it.devices.len()).sum();
            assert_eq!(shown, items, "{step} {fault}: {view:?}");
            assert!(texts(&view.notes)[0].contains("a change is under way"), "{:?}", view.notes);

            let outcome = sandbox.add("web", "ccid").unwrap();
            assert_eq!(steps(&outcome), ["plug ccid0 (ccid) into 0:3"], "{step} {fault}");
            let expected =
                if items == 3 { "interrupted after its last step" } else { "finished an" };
            assert!(
                texts(&outcome.notes).join("; ").contains(expected),
                "{step} {fault}: {:?}",
                outcome.notes
            );
            assert_eq!(
                sandbox.shows("web"),
                "hci0[1 tablet0 attached; 2 mouse0 attached; 3 ccid0 attached]"
            );
            assert_consistent(&sandbox);
        }
    }
}

#[test]
fn a_domain_that_was_renamed_in_between_keeps_its_new_name() {
    let sandbox = Sandbox::new();
    sandbox.spec("web", SPEC);
    sandbox.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&sandbox, "apply web.toml");
    another.hangs(&sandbox, 1);
    another.kill();

    let guest = sandbox.guest("web");
    let vusb = sandbox.vusb();
    vusb.context.domain_rename(&guest, &"new".parse().unwrap(), &vusb.options).unwrap();
    sandbox.add("web", "ccid").unwrap();
    assert_eq!(sandbox.record("web")["name"], "new");
    assert_consistent(&sandbox);
}

#[test]
fn repeating_the_interrupted_command_finds_it_done() {
    let sandbox = Sandbox::new();
    let spec = sandbox.spec("web", SPEC);
    sandbox.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&sandbox, "apply web.toml");
    another.hangs(&sandbox, 1);
    another.kill();

    let before = sandbox.bytes();
    let planned = sandbox.vusb().plan(&spec).unwrap();
    assert!(sandbox.bytes() == before);
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert!(outcome.already && planned.already);
    assert_eq!(outcome.notes, planned.notes, "a dry run recovers in the same way");
    assert_consistent(&sandbox);
}

#[test]
fn an_interrupted_removal_is_finished() {
    for (fault, items) in [("hang", 3), ("hang-after", 2)] {
        let sandbox = Sandbox::new();
        sandbox.vusb().apply(&sandbox.spec("web", SPEC)).unwrap();
        sandbox.faults("web", &[("unplug tablet", fault)]);
        let another = Another::start(&sandbox, "remove tablet0");
        another.hangs(&sandbox, items);
        another.kill();
        let error = sandbox.remove("web", "tablet0").unwrap_err();
        assert!(error.to_string().contains("has no device tablet0"), "{fault}: {error}");
        assert_eq!(sandbox.shows("web"), "hci0[2 mouse0 attached]");
        assert_consistent(&sandbox);
    }
}

#[test]
fn an_interrupted_move_is_finished() {
    let steps =
        [("unplug hub", 3, 2), ("unplug mouse", 4, 3), ("plug hub", 2, 3), ("plug mouse", 3, 4)];
    for (step, before, after) in steps {
        for (fault, items) in [("hang", before), ("hang-after", after)] {
            let sandbox = Sandbox::new();
            sandbox.vusb().apply(&sandbox.spec("web", SPEC)).unwrap();
            sandbox.remove("web", "tablet0").unwrap();
            sandbox.add("web", "hub").unwrap();
            let guest = sandbox.guest("web");
            let mouse = "mouse0".parse().unwrap();
            sandbox.vusb().device_move(&guest, &mouse, "1.4").unwrap();
            sandbox.add("web", "keyboard").unwrap();
            assert_eq!(
                sandbox.shows("web"),
                "hci0[1 hub0 attached; 1.4 mouse0 attached; 2 keyboard0 attached]"
            );
            sandbox.faults("web", &[(step, fault)]);
            let another = Another::start(&sandbox, "move hub0 7");
            another.hangs(&sandbox, items);
            another.kill();
            sandbox.add("web", "ccid").unwrap();
            assert_eq!(
                sandbox.shows("web"),
                "hci0[1 ccid0 attached; 2 keyboard0 attached; 7 hub0 attached; 7.4 mouse0 attached]",
                "{step} {fault}"
            );
            assert_consistent(&sandbox);
        }
    }
}

#[test]
fn a_move_that_cannot_be_finished_is_undone() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", SPEC)).unwrap();
    sandbox.faults("web", &[("unplug mouse", "hang-after"), ("plug mouse", "fail")]);
    let another = Another::start(&sandbox, "move mouse0 9");
    another.hangs(&sandbox, 2);
    another.kill();
    sandbox.add("web", "ccid").unwrap();
    assert_eq!(
        sandbox.shows("web"),
        "hci0[1 tablet0 attached; 2 mouse0 attached; 3 ccid0 attached]"
    );
    assert_consistent(&sandbox);
}

#[test]
fn a_change_that_cannot_be_finished_is_undone() {
    let sandbox = Sandbox::new();
    sandbox.spec("web", SPEC);
    sandbox.faults("web", &[("plug tablet", "hang-after"), ("plug mouse", "fail")]);
    let another = Another::start(&sandbox, "apply web.toml");
    another.hangs(&sandbox, 2);
    another.kill();
    let outcome = sandbox.add("web", "ccid").unwrap();
    assert!(texts(&outcome.notes).join("; ").contains("cannot be finished: could not plug mouse0"));
    assert!(
        texts(&outcome.notes).join("; ").contains("undid an interrupted change"),
        "{:?}",
        outcome.notes
    );
    assert_eq!(sandbox.shows("web"), "hci0[1 ccid0 attached]");
    assert_consistent(&sandbox);
}

#[test]
fn an_interrupted_undo_is_finished() {
    for (step, fault, items) in [
        ("unplug tablet", "hang", 2),
        ("unplug tablet", "hang-after", 1),
        ("remove controller", "hang", 1),
        ("remove controller", "hang-after", 0),
    ] {
        let sandbox = Sandbox::new();
        sandbox.spec("web", SPEC);
        sandbox.faults("web", &[("plug mouse", "fail"), (step, fault)]);
        let another = Another::start(&sandbox, "apply web.toml");
        another.hangs(&sandbox, items);
        another.kill();
        assert_eq!(sandbox.record("web")["pending"]["back"], json!(true));
        let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
        let notes = texts(&view.notes).join("; ");
        assert!(notes.contains("the next command undoes what is left of it"), "{notes}");
        assert!(!notes.contains("finishes"), "{notes}");
        // Going forward would succeed now, but it had failed before.
        let error = sandbox.remove("web", "tablet0").unwrap_err();
        assert!(error.to_string().ends_with("has no device tablet0: it has none"), "{error}");
        assert_eq!(sandbox.shows("web"), "", "{step} {fault}");
        assert_consistent(&sandbox);
    }
}

#[test]
fn a_kill_before_the_record_is_saved_leaves_the_intent() {
    let sandbox = Sandbox::new();
    sandbox.spec("web", SPEC);
    // The second observation follows the last step.
    sandbox.set("web", "faults", json!([{"step": "observe", "fault": "hang", "nth": 2}]));
    let another = Another::start(&sandbox, "apply web.toml");
    let end = Instant::now() + Duration::from_secs(20);
    while sandbox.sim("web")["faults"][0]["seen"] != 2 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    another.kill();
    assert_eq!(sandbox.record("web")["hardware"], json!([]));
    assert!(sandbox.vusb().restore(&sandbox.guest("web")).unwrap().already);
    assert_consistent(&sandbox);
}

#[test]
fn changes_by_another_tool_in_between_are_accepted() {
    let sandbox = Sandbox::new();
    sandbox.spec("web", SPEC);
    sandbox.faults("web", &[("plug mouse", "hang")]);
    let another = Another::start(&sandbox, "apply web.toml");
    another.hangs(&sandbox, 2);
    another.kill();
    // Another tool plugs a keyboard into the port that the mouse was for.
    let mut hardware = sandbox.sim("web")["hardware"].clone();
    let devices = hardware[0]["devices"].as_array_mut().unwrap();
    devices.push(json!({"port": "2", "name": "kbd", "kind": "keyboard", "usbversion": 1}));
    sandbox.set("web", "hardware", hardware);
    let outcome = sandbox.add("web", "ccid").unwrap();
    assert!(
        texts(&outcome.notes).join("; ").contains("its present hardware is recorded"),
        "{:?}",
        outcome.notes
    );
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 kbd attached; 3 ccid0 attached]");
    assert_consistent(&sandbox);
}

/// The spec was not applied, so an item that a person added before still counts as added by hand.
#[test]
fn what_was_added_by_hand_still_counts_as_such_after_an_interrupted_spec_is_given_up() {
    let sandbox = Sandbox::new();
    sandbox.spec("web", SPEC);
    sandbox.add("web", "tablet").unwrap();
    sandbox.faults("web", &[("plug mouse", "hang")]);
    let another = Another::start(&sandbox, "apply web.toml");
    another.hangs(&sandbox, 2);
    another.kill();
    let mut hardware = sandbox.sim("web")["hardware"].clone();
    let devices = hardware[0]["devices"].as_array_mut().unwrap();
    devices.push(json!({"port": "2", "name": "kbd", "kind": "keyboard", "usbversion": 1}));
    sandbox.set("web", "hardware", hardware);
    sandbox.add("web", "ccid").unwrap();
    assert_eq!(sandbox.record("web").get("specified"), None);
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", "")).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
}

/// The record that is saved before the first change of a domain says nothing of that change.
#[test]
fn a_first_change_with_an_unreadable_intent_is_ignored() {
    let sandbox = Sandbox::new();
    sandbox.spec("web", SPEC);
    sandbox.faults("web", &[("plug mouse", "hang")]);
    let another = Another::start(&sandbox, "apply web.toml");
    another.hangs(&sandbox, 2);
    another.kill();
    std::fs::write(sandbox.state_file("intent"), "{").unwrap();
    sandbox.restart("web");
    sandbox.faults("web", &[]);
    assert_eq!(sandbox.shows("web"), "");
    let outcome = sandbox.add("web", "ccid").unwrap();
    let notes = texts(&outcome.notes).join("; ");
    assert!(!notes.contains("interrupted"), "{notes}");
    assert_eq!(sandbox.shows("web"), "hci0[1 ccid0 attached]");
}

/// A change that is done or given up leaves nothing beside the record.
#[test]
fn no_intent_is_left_when_a_change_has_ended() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    assert!(!sandbox.state_file("intent").exists());
    sandbox.faults("web", &[("plug mouse", "fail")]);
    sandbox.add("web", "mouse").unwrap_err();
    for extension in ["intent", "cancelled"] {
        assert!(!sandbox.state_file(extension).exists(), "{extension}");
    }
}

#[test]
fn a_guest_that_restarted_in_between_gets_what_it_had_and_no_more() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "ccid").unwrap();
    sandbox.faults("web", &[("plug tablet", "hang-after")]);
    let another = Another::start(&sandbox, "add tablet");
    another.hangs(&sandbox, 3);
    another.kill();
    sandbox.restart("web");
    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert!(
        texts(&outcome.notes).join("; ").contains("the guest was restarted"),
        "{:?}",
        outcome.notes
    );
    assert_eq!(sandbox.shows("web"), "hci0[1 ccid0 attached]");
    assert_consistent(&sandbox);
}

#[test]
fn a_removal_that_ended_the_guest_is_done() {
    for kept in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.vusb().apply(&sandbox.spec("web", SPEC)).unwrap();
        if kept {
            let fast = crate::sandbox::model("nec-xhci");
            sandbox.vusb().controller_add(&sandbox.guest("web"), &fast).unwrap();
        }
        // The connection is lost during the removal and stays lost.
        sandbox.set(
            "web",
            "faults",
            json!([{"step": "unplug mouse", "fault": "unreachable"},
                   {"step": "observe", "fault": "unreachable", "nth": 2}]),
        );
        let hci0 = "hci0".parse().unwrap();
        sandbox.forced().controller_remove(&sandbox.guest("web"), &hci0).unwrap_err();
        assert_eq!(sandbox.record("web")["pending"]["back"], json!(true));
        sandbox.restart("web");
        sandbox
            .vusb()
            .controller_add(&sandbox.guest("web"), &crate::sandbox::model("ehci"))
            .unwrap();
        let found: Vec<Value> = sandbox.sim("web")["hardware"].as_array().unwrap().clone();
        assert_eq!(found.len(), 1, "only what was requested: {found:?}");
        let shown = if kept { "hci0[] hci1 missing[]" } else { "hci0[]" };
        assert_eq!(sandbox.shows("web"), shown);
        assert_eq!(sandbox.record("web")["pending"], json!(null));
    }
}

#[test]
fn no_back_end_is_left() {
    for (step, fault, items) in
        [("unplug", "hang-after", 1), ("plug", "hang", 1), ("unplug", "hang", 2)]
    {
        let sandbox = Sandbox::new();
        sandbox.file("a.img", "");
        let storage = format!("storage:{}", sandbox.path().join("a.img").display());
        let what =
            if step == "plug" { format!("add {storage}") } else { "remove storage0".to_owned() };
        if step == "unplug" {
            sandbox.add("web", &storage).unwrap();
        }
        sandbox.faults("web", &[(step, fault)]);
        let another = Another::start(&sandbox, &what);
        another.hangs(&sandbox, items);
        another.kill();
        assert_eq!(sandbox.sim("web")["backends"], json!(["storage0"]), "{step} {fault}");
        sandbox.add("web", "mouse").unwrap();
        assert_consistent(&sandbox);
    }
}

#[test]
fn a_change_that_cannot_be_continued_leaves_no_back_end() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    let storage = format!("storage:{}", sandbox.path().join("a.img").display());
    // The device is not there yet, and its back end is.
    sandbox.faults("web", &[("plug", "hang")]);
    let another = Another::start(&sandbox, &format!("add {storage}"));
    another.hangs(&sandbox, 1);
    another.kill();
    sandbox.set("web", "faults", json!([{"step": "plug storage0", "fault": "fail"}]));
    let outcome = sandbox.add("web", "mouse").unwrap();
    assert!(texts(&outcome.notes).join("; ").contains("undid"), "{:?}", outcome.notes);
    assert_consistent(&sandbox);
}

#[test]
fn removing_a_device_that_another_client_removed_removes_its_back_end() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    let storage = format!("storage:{}", sandbox.path().join("a.img").display());
    sandbox.add("web", &storage).unwrap();
    let mut hardware = sandbox.sim("web")["hardware"].clone();
    hardware[0]["devices"] = json!([]);
    sandbox.set("web", "hardware", hardware);
    sandbox.dry().device_remove(&sandbox.guest("web"), &"storage0".parse().unwrap()).unwrap();
    assert_eq!(sandbox.sim("web")["backends"], json!(["storage0"]));
    assert!(sandbox.remove("web", "storage0").unwrap().already);
    assert_consistent(&sandbox);
}

#[test]
fn a_stale_intent_is_not_replayed() {
    let sandbox = Sandbox::new();
    sandbox.spec("web", SPEC);
    sandbox.faults("web", &[("plug mouse", "hang")]);
    let another = Another::start(&sandbox, "apply web.toml");
    another.hangs(&sandbox, 2);
    another.kill();
    let intent = sandbox.state_file("intent");
    let stale = std::fs::read(&intent).unwrap();
    let undone = sandbox.remove("web", "tablet0").unwrap();
    assert!(texts(&undone.notes).join("; ").contains("finished"), "{:?}", undone.notes);
    sandbox.remove("web", "mouse0").unwrap();

    // As if the intent could not have been deleted, and then as if its record had been.
    std::fs::write(&intent, &stale).unwrap();
    sandbox.add("web", "ccid").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 ccid0 attached]");
    std::fs::write(&intent, &stale).unwrap();
    std::fs::remove_file(sandbox.state_file("json")).unwrap();
    sandbox.add("web", "hub").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 ccid0 attached; 2 hub0 attached]");
}
