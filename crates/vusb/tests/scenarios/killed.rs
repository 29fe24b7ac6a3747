//! `kill -9` at every moment, and what the next command makes of it.
//!
//! A second process is this test's own binary, told by its environment what to do ([`another_process`]). A simulated step
//! hangs, before or after it is taken; the process is killed there.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb::model::spec::DeviceSpec;
use vusb::{Settings, Wanted};

use crate::house::{House, library, steps};

/// What a process that is to be killed runs: not a test of its own.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn another_process() {
    let Some(folder) = std::env::var_os("VUSB_TEST_HOUSE") else { return };
    let what = std::env::var("VUSB_TEST_DO").unwrap();
    let (verb, argument) = what.split_once(' ').unwrap();
    let folder = Path::new(&folder);
    let vusb = library(folder, Duration::from_secs(5));
    let xenstored = std::env::var_os("VUSB_TEST_XENSTORED").map(Into::into);
    let settings = Settings { xenstored, ..vusb.settings().clone() };
    let vusb = vusb.with_settings(settings);
    let guest = vusb.domain(&std::env::var("VUSB_TEST_DOMAIN").unwrap()).unwrap();
    let result = match verb {
        "apply" => vusb.apply(&Wanted::read(&folder.join(argument)).unwrap()),
        "add" => vusb.device_add(&guest, &DeviceSpec::new(argument.parse().unwrap())),
        "remove" => vusb.device_remove(&guest, &argument.parse().unwrap()),
        other => panic!("{other}"),
    };
    drop(result);
}

/// Another process that does `what` on the guest `web`, until it is killed.
pub(crate) struct Another(Child);

impl Another {
    pub(crate) fn start(house: &House, what: &str) -> Another {
        Another::on(house, "sim:web.sim", what)
    }

    /// The same on another domain.
    pub(crate) fn on(house: &House, domain: &str, what: &str) -> Another {
        Another::with(house, domain, what, Path::new("/nowhere"))
    }

    /// The same on a domain of the Xen whose xenstored listens there.
    pub(crate) fn with(house: &House, domain: &str, what: &str, xenstored: &Path) -> Another {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::another_process", "--ignored", "--quiet"]);
        command.env("VUSB_TEST_HOUSE", house.path()).env("VUSB_TEST_DO", what);
        command.env("VUSB_TEST_DOMAIN", domain).env("VUSB_TEST_XENSTORED", xenstored);
        Another(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it hangs: the guest has so many things by then.
    pub(crate) fn hangs(&self, house: &House, things: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let sim = house.sim("web");
            let faults = sim["faults"].as_array().unwrap();
            let hangs =
                |it: &Value| it["seen"] == 1 && it["fault"].as_str().unwrap().starts_with("hang");
            if faults.iter().any(hangs) && count(&sim["hardware"]) == things {
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

/// How many controllers and devices there are.
fn count(hardware: &Value) -> usize {
    let controllers = hardware.as_array().unwrap();
    let devices = controllers.iter().map(|it| it["devices"].as_array().unwrap().len());
    controllers.len() + devices.sum::<usize>()
}

fn agree(house: &House) {
    let record = house.record("web");
    assert_eq!(record["hardware"], house.sim("web")["hardware"]);
    assert_eq!(record["pending"], json!(null));
}

const SPEC: &str = "[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"mouse\"";

/// The steps of [`SPEC`], each with how many things there are before it.
const STEPS: [(&str, usize); 3] = [("add controller", 0), ("plug tablet", 1), ("plug mouse", 2)];

#[test]
fn the_next_command_finishes_what_was_begun() {
    for (step, before) in STEPS {
        for (fault, things) in [("hang", before), ("hang-after", before + 1)] {
            let house = House::new();
            house.spec("web", SPEC);
            house.faults("web", &[(step, fault)]);
            let another = Another::start(&house, "apply web.toml");
            another.hangs(&house, things);
            another.kill();

            // Whoever looks sees what is there, and that something is under way.
            let view = house.vusb().list(&house.guest("web")).unwrap();
            let shown: usize = view.controllers.iter().map(|it| 1 + it.devices.len()).sum();
            assert_eq!(shown, things, "{step} {fault}: {view:?}");
            assert!(view.notes[0].contains("a change is under way"), "{:?}", view.notes);

            let outcome = house.add("web", "ccid").unwrap();
            assert_eq!(steps(&outcome), ["plug ccid0 (ccid) into 0:3"], "{step} {fault}");
            let said = if things == 3 { "cut short after its last step" } else { "finished what" };
            assert!(outcome.notes[0].contains(said), "{step} {fault}: {:?}", outcome.notes);
            assert_eq!(
                house.shows("web"),
                "hci0[1 tablet0 attached; 2 mouse0 attached; 3 ccid0 attached]"
            );
            agree(&house);
        }
    }
}

#[test]
fn the_same_command_once_more_finds_it_so() {
    let house = House::new();
    let spec = house.spec("web", SPEC);
    house.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&house, "apply web.toml");
    another.hangs(&house, 1);
    another.kill();

    let before = house.bytes();
    let planned = house.vusb().plan(&spec).unwrap();
    assert!(house.bytes() == before);
    let outcome = house.vusb().apply(&spec).unwrap();
    assert!(outcome.already && planned.already);
    assert_eq!(outcome.notes, planned.notes, "a dry run sees through it too");
    agree(&house);
}

#[test]
fn a_removal_is_finished_too() {
    for (fault, things) in [("hang", 3), ("hang-after", 2)] {
        let house = House::new();
        house.vusb().apply(&house.spec("web", SPEC)).unwrap();
        house.faults("web", &[("unplug tablet", fault)]);
        let another = Another::start(&house, "remove tablet0");
        another.hangs(&house, things);
        another.kill();
        let error = house.remove("web", "tablet0").unwrap_err();
        assert!(error.to_string().contains("has no device tablet0"), "{fault}: {error}");
        assert_eq!(house.shows("web"), "hci0[2 mouse0 attached]");
        agree(&house);
    }
}

#[test]
fn what_cannot_be_finished_is_taken_back() {
    let house = House::new();
    house.spec("web", SPEC);
    house.faults("web", &[("plug tablet", "hang-after"), ("plug mouse", "fail")]);
    let another = Another::start(&house, "apply web.toml");
    another.hangs(&house, 2);
    another.kill();
    let outcome = house.add("web", "ccid").unwrap();
    assert!(outcome.notes[0].contains("cannot be finished: could not plug mouse0"));
    assert!(outcome.notes[1].contains("took back"), "{:?}", outcome.notes);
    assert_eq!(house.shows("web"), "hci0[1 ccid0 attached]");
    agree(&house);
}

#[test]
fn taking_back_is_finished_as_taking_back() {
    for (step, fault, things) in [
        ("unplug tablet", "hang", 2),
        ("unplug tablet", "hang-after", 1),
        ("remove controller", "hang", 1),
        ("remove controller", "hang-after", 0),
    ] {
        let house = House::new();
        house.spec("web", SPEC);
        house.faults("web", &[("plug mouse", "fail"), (step, fault)]);
        let another = Another::start(&house, "apply web.toml");
        another.hangs(&house, things);
        another.kill();
        assert_eq!(house.record("web")["pending"]["back"], json!(true));
        // Nothing would stand in the way of going forward now; but that had failed.
        let error = house.remove("web", "tablet0").unwrap_err();
        assert!(error.to_string().ends_with("has no device tablet0: it has none"), "{error}");
        assert_eq!(house.shows("web"), "", "{step} {fault}");
        agree(&house);
    }
}

#[test]
fn a_kill_before_the_record_is_saved_leaves_the_intent() {
    let house = House::new();
    house.spec("web", SPEC);
    // The second look is the one after the last step.
    house.set("web", "faults", json!([{"step": "observe", "fault": "hang", "nth": 2}]));
    let another = Another::start(&house, "apply web.toml");
    let end = Instant::now() + Duration::from_secs(20);
    while house.sim("web")["faults"][0]["seen"] != 2 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    another.kill();
    assert_eq!(house.record("web")["hardware"], json!([]));
    assert!(house.vusb().apply_recorded(&house.guest("web")).unwrap().already);
    agree(&house);
}

#[test]
fn what_somebody_else_changed_meanwhile_counts() {
    let house = House::new();
    house.spec("web", SPEC);
    house.faults("web", &[("plug mouse", "hang")]);
    let another = Another::start(&house, "apply web.toml");
    another.hangs(&house, 2);
    another.kill();
    // Another tool plugs a keyboard into the port that the mouse was for.
    let mut hardware = house.sim("web")["hardware"].clone();
    let devices = hardware[0]["devices"].as_array_mut().unwrap();
    devices.push(json!({"port": "2", "name": "kbd", "kind": "keyboard", "usbversion": 1}));
    house.set("web", "hardware", hardware);
    let outcome = house.add("web", "ccid").unwrap();
    assert!(outcome.notes[0].contains("what it has now counts"), "{:?}", outcome.notes);
    assert_eq!(house.shows("web"), "hci0[1 tablet0 attached; 2 kbd attached; 3 ccid0 attached]");
    agree(&house);
}

#[test]
fn a_guest_that_was_restarted_meanwhile_gets_what_it_had_and_no_more() {
    let house = House::new();
    house.add("web", "ccid").unwrap();
    house.faults("web", &[("plug tablet", "hang-after")]);
    let another = Another::start(&house, "add tablet");
    another.hangs(&house, 3);
    another.kill();
    house.restart("web");
    let outcome = house.vusb().apply_recorded(&house.guest("web")).unwrap();
    assert!(outcome.notes[0].contains("started anew"), "{:?}", outcome.notes);
    assert_eq!(house.shows("web"), "hci0[1 ccid0 attached]");
    agree(&house);
}

#[test]
fn a_removal_that_the_guest_died_of_is_done() {
    for kept in [false, true] {
        let house = House::new();
        house.vusb().apply(&house.spec("web", SPEC)).unwrap();
        if kept {
            let fast = crate::house::model("nec-xhci");
            house.vusb().controller_add(&house.guest("web"), &fast).unwrap();
        }
        // Nobody answers in the middle of it, nor any more.
        house.set(
            "web",
            "faults",
            json!([{"step": "unplug mouse", "fault": "unreachable"},
                   {"step": "observe", "fault": "unreachable", "nth": 2}]),
        );
        let hci0 = "hci0".parse().unwrap();
        house.forced().controller_remove(&house.guest("web"), &hci0).unwrap_err();
        assert_eq!(house.record("web")["pending"]["back"], json!(true));
        house.restart("web");
        house.vusb().controller_add(&house.guest("web"), &crate::house::model("ehci")).unwrap();
        let there: Vec<Value> = house.sim("web")["hardware"].as_array().unwrap().clone();
        assert_eq!(there.len(), 1, "nothing but what was asked for: {there:?}");
        let shown = if kept { "hci0[] hci1 missing[]" } else { "hci0[]" };
        assert_eq!(house.shows("web"), shown);
        assert_eq!(house.record("web")["pending"], json!(null));
    }
}
