//! Steps that fail, and what is left afterwards.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use vusb::model::remedy::Remedy;
use vusb::model::spec::DeviceSpec;
use vusb::view::{DomainState, ErrorView};
use vusb::{Advice, Error, ExitCode, Options};

use crate::sandbox::{Sandbox, steps, texts};

/// Applies a spec that adds a controller and two devices, with this fault at the last device.
fn apply_with_fault(fault: &str) -> (Sandbox, Result<vusb::Outcome, Error>) {
    let sandbox = Sandbox::new();
    sandbox.add("web", "ccid").unwrap();
    sandbox.faults("web", &[("plug mouse", fault)]);
    let text = "[[controller]]\nname = \"hci0\"\n[[controller]]\nmodel = \"nec-xhci\"\nname = \"fast\"\n\
                [[device]]\nkind = \"ccid\"\n[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"mouse\"";
    let result = sandbox.vusb().apply(&sandbox.spec("web", text));
    (sandbox, result)
}

#[test]
fn steps_before_a_failed_one_are_undone() {
    for (fault, code) in [
        ("fail", ExitCode::Failed),
        ("timeout", ExitCode::TimedOut),
        ("unreachable", ExitCode::Unreachable),
    ] {
        let (sandbox, result) = apply_with_fault(fault);
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), code, "{fault}");
        let Error::Failed { step, undone, not_undone, .. } = &error else { panic!("{error}") };
        assert!(step.to_string().starts_with("plug mouse0"), "{step}");
        assert_eq!((undone.len(), not_undone.len()), (2, 0));
        assert!(error.to_string().contains("undone: plug tablet0"), "{error}");
        assert_eq!(sandbox.shows("web"), "hci0[1 ccid0 attached]");
        let record = sandbox.record("web");
        assert_eq!(record["hardware"], sandbox.sim("web")["hardware"]);
        assert_eq!(record["pending"], json!(null));
    }
}

#[test]
fn a_step_that_took_effect_after_a_time_out_is_kept() {
    let (sandbox, result) = apply_with_fault("happens-anyway");
    let outcome = result.unwrap();
    assert_eq!(outcome.steps.len(), 3);
    assert!(
        texts(&outcome.notes).iter().any(|it| it.contains("but it took effect")),
        "{:?}",
        outcome.notes
    );
    assert_eq!(sandbox.record("web")["hardware"], sandbox.sim("web")["hardware"]);
    assert!(sandbox.shows("web").contains("mouse0 attached"));
}

#[test]
fn a_step_that_cannot_be_undone_is_reported_recorded_and_managed() {
    let sandbox = Sandbox::new();
    let text = "[[device]]\nkind = \"serial\"\nchardev = \"pty\"\ncontroller = \"new\"\n[[controller]]\nname = \"new\"\n\
                [[device]]\nkind = \"keyboard\"\ncontroller = \"new\"";
    // An empty spec creates the file of the guest, so that faults can be set.
    let error = sandbox.vusb().apply(&sandbox.spec("other", "")).and_then(|_| {
        sandbox.faults("other", &[("plug keyboard", "fail"), ("unplug serial", "fail")]);
        sandbox.vusb().apply(&sandbox.spec("other", text))
    });
    let error = error.unwrap_err();
    let Error::Failed { undone, not_undone, .. } = &error else { panic!("{error}") };
    assert!(undone.is_empty());
    let left: Vec<String> = not_undone.iter().map(ToString::to_string).collect();
    assert!(left[0].starts_with("plug serial0") && left[0].contains("told to fail"), "{left:?}");
    assert!(left[1].starts_with("add controller new") && left[1].contains("not tried"), "{left:?}");
    assert!(error.remedies().contains(&Remedy::ListDomain));

    let record = sandbox.record("other");
    assert_eq!(record["hardware"], sandbox.sim("other")["hardware"]);
    assert_eq!(
        (&record["managed"], &record["pending"]),
        (&json!(["new", "serial0"]), &json!(null))
    );
    sandbox.remove("other", "serial0").unwrap();
}

#[test]
fn after_a_lost_connection_nothing_is_touched_and_the_next_command_continues() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "ccid").unwrap();
    // The command observes when it starts, and again after the time-out.
    sandbox.set(
        "web",
        "faults",
        json!([{"step": "plug mouse", "fault": "timeout"},
               {"step": "observe", "nth": 2, "fault": "unreachable"}]),
    );
    let error = sandbox.add("web", "mouse").unwrap_err();
    assert!(matches!(&error, Error::Failed { undone, .. } if undone.is_empty()), "{error}");
    assert_eq!(sandbox.record("web")["pending"]["back"], json!(true));

    let outcome = sandbox.add("web", "tablet").unwrap();
    assert_eq!(steps(&outcome), ["plug tablet0 (tablet) into 0:2"]);
    assert!(texts(&outcome.notes)[0].contains("none of it is in effect"), "{:?}", outcome.notes);
    assert_eq!(sandbox.shows("web"), "hci0[1 ccid0 attached; 2 tablet0 attached]");
}

#[test]
fn an_unreachable_domain_is_an_error_that_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    sandbox.set("web", "unreachable", json!("it was shut down"));
    let before = sandbox.bytes();
    for error in [
        sandbox.add("web", "mouse").unwrap_err(),
        sandbox.remove("web", "tablet0").unwrap_err(),
        sandbox.vusb().restore(&sandbox.guest("web")).unwrap_err(),
    ] {
        assert_eq!(error.exit_code(), ExitCode::Unreachable, "{error}");
    }
    // The list of this domain, and that of all domains, show what is recorded.
    let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
    assert_eq!((view.state, view.controllers.len()), (DomainState::Gone, 1));
    assert_eq!(view.controllers[0].devices[0].terminal, None);
    let all = sandbox.vusb().list_all().unwrap();
    let view = json!(all.unreachable[0]);
    assert_eq!(view["controllers"][0]["devices"][0]["name"], "tablet0");
    assert_eq!(view["controllers"][0]["devices"][0]["state"], "missing");
    // A lock file contains its last holder, so it may change.
    let without_locks = |all: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        all.into_iter().filter(|(path, _)| path.extension().is_none_or(|it| it != "lock")).collect()
    };
    assert!(without_locks(sandbox.bytes()) == without_locks(before));
}

#[test]
fn a_failed_removal_restores_what_was_removed_before() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    for device in ["tablet", "0781:5581", "mouse"] {
        sandbox.add("web", device).unwrap();
    }
    let before = sandbox.sim("web")["hardware"].clone();
    sandbox.faults("web", &[("remove controller", "fail")]);
    let error = sandbox
        .forced()
        .controller_remove(&sandbox.guest("web"), &"hci0".parse().unwrap())
        .unwrap_err();
    assert!(matches!(&error, Error::Failed { undone, .. } if undone.len() == 3), "{error}");
    assert_eq!(sandbox.sim("web")["hardware"], before);
    assert_eq!(sandbox.record("web")["hardware"], before);
    assert_eq!(sandbox.sim("web")["given"]["host0"], json!({"bus": 1, "address": 14}));
}

/// Runs a slow `device add tablet` in another thread, and returns its error. Once the device is
/// plugged in, the record can no longer be written, as on a full disk: a folder has the name of the
/// file for its new text. Then `when_plugged_in` is called, with the options of the command.
fn on_a_full_disk(sandbox: &Sandbox, when_plugged_in: impl FnOnce(&Options)) -> Error {
    sandbox.faults("web", &[("plug tablet", "slow")]);
    let vusb = sandbox.vusb();
    let (options, guest) = (vusb.options.clone(), sandbox.guest("web"));
    let adding = std::thread::spawn(move || {
        vusb.device_add(&guest, &DeviceSpec::new("tablet".parse().unwrap()))
    });
    let end = Instant::now() + Duration::from_secs(20);
    while !sandbox.sim("web")["hardware"].to_string().contains("tablet0") {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::create_dir(sandbox.state_file("new")).unwrap();
    when_plugged_in(&options);
    let error = adding.join().unwrap().unwrap_err();
    fs::remove_dir(sandbox.state_file("new")).unwrap();
    error
}

#[test]
fn a_change_that_cannot_be_recorded_is_reported_as_in_effect() {
    let sandbox = Sandbox::new();
    let error = on_a_full_disk(&sandbox, |_| ());
    let message = error.to_string();
    let begin = "controller hci0 is added, tablet0 is plugged in, but that could not be recorded: cannot write ";
    assert!(message.starts_with(begin), "{message}");
    assert_eq!(error.advice(), [Advice::RemoveCause]);
    let view = serde_json::to_value(ErrorView::from(&error)).unwrap();
    assert_eq!(view["in_effect"][1]["do"], "plug", "{view}");

    let outcome = sandbox.add("web", "mouse").unwrap();
    let noted = texts(&outcome.notes).join("; ");
    assert!(noted.contains("interrupted after its last step"), "{noted}");
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 mouse0 attached]");
}

#[test]
fn what_was_cancelled_on_a_full_disk_is_not_continued() {
    let sandbox = Sandbox::new();
    let error = on_a_full_disk(&sandbox, |options| options.cancel.cancel());
    let message = error.to_string();
    assert!(message.starts_with("cancelled; undone: plug tablet0"), "{message}");
    assert!(message.contains("; that could not be recorded: cannot write "), "{message}");
    sandbox.add("web", "mouse").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 mouse0 attached]");
}

/// The command may be killed before it has undone the steps.
#[test]
fn a_cancellation_is_saved_at_once() {
    let sandbox = Sandbox::new();
    sandbox.faults("web", &[("plug tablet", "slow")]);
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let cancel = vusb.options.cancel.clone();
    let adding = std::thread::spawn(move || {
        vusb.device_add(&guest, &DeviceSpec::new("tablet".parse().unwrap()))
    });
    let end = Instant::now() + Duration::from_secs(20);
    while !sandbox.sim("web")["hardware"].to_string().contains("tablet0") {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(2));
    }
    // The step takes another second.
    cancel.cancel();
    assert!(sandbox.state_file("cancelled").exists());
    adding.join().unwrap().unwrap_err();
    assert!(!sandbox.state_file("cancelled").exists());
}

#[test]
fn a_step_whose_effect_is_unknown_is_reported_as_such() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "ccid").unwrap();
    sandbox.set(
        "web",
        "faults",
        json!([{"step": "plug mouse", "fault": "timeout"},
               {"step": "observe", "nth": 2, "fault": "unreachable"}]),
    );
    let message = sandbox.add("web", "mouse").unwrap_err().to_string();
    assert!(message.contains("; it is unknown whether that step is in effect"), "{message}");
}

/// A spec with one stick, whose image is this file.
fn stick(sandbox: &Sandbox, image: &str) -> vusb::GuestConfig {
    let text =
        "[[controller]]\nname = \"hci0\"\n[[device]]\nkind = \"storage\"\nname = \"s\"\nfile = ";
    sandbox.spec("web", &format!("{text}\"{image}\"\n"))
}

#[test]
fn a_device_is_replaced_only_if_it_could_be_restored() {
    let sandbox = Sandbox::new();
    let old = sandbox.file("a.img", "");
    sandbox.file("b.img", "");
    sandbox.vusb().apply(&stick(&sandbox, "a.img")).unwrap();
    fs::remove_file(&old).unwrap();
    let before = sandbox.sim("web");
    let error = sandbox.vusb().apply(&stick(&sandbox, "b.img")).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy, "{error}");
    assert!(error.to_string().starts_with("s is to be replaced"), "{error}");
    assert_eq!(sandbox.sim("web"), before);
    // Without a replacement, the device is only removed: nothing has to be restored.
    let nothing = sandbox.spec("web", "[[controller]]\nname = \"hci0\"");
    assert_eq!(sandbox.dry().apply(&nothing).unwrap().steps.len(), 1);
    assert_eq!(sandbox.forced().apply(&stick(&sandbox, "b.img")).unwrap().steps.len(), 2);
}

#[test]
fn a_failed_replacement_restores_the_device_with_its_back_end() {
    let sandbox = Sandbox::new();
    for image in ["a.img", "b.img"] {
        sandbox.file(image, "");
    }
    sandbox.vusb().apply(&stick(&sandbox, "a.img")).unwrap();
    let before = sandbox.sim("web");
    sandbox.set("web", "faults", json!([{"step": "plug s", "fault": "fail"}]));
    let error = sandbox.vusb().apply(&stick(&sandbox, "b.img")).unwrap_err();
    assert!(matches!(&error, Error::Failed { undone, .. } if undone.len() == 1), "{error}");
    for field in ["hardware", "backends"] {
        assert_eq!(sandbox.sim("web")[field], before[field]);
    }
}

/// A device is replaced if another one gets its port or its name.
#[test]
fn only_a_device_that_is_replaced_must_be_restorable() {
    let sandbox = Sandbox::new();
    let old = sandbox.file("a.img", "");
    sandbox.file("b.img", "");
    sandbox.vusb().apply(&stick(&sandbox, "a.img")).unwrap();
    fs::remove_file(&old).unwrap();
    let plan = |device: &str| {
        let text =
            format!("[[controller]]\nname = \"hci0\"\n[[device]]\ncontroller = \"hci0\"\n{device}");
        sandbox.vusb().plan(&sandbox.spec("web", &text))
    };
    for successor in [
        "kind = \"tablet\"\nport = \"1\"",
        "name = \"s\"\nkind = \"storage\"\nfile = \"b.img\"\nport = \"2\"",
    ] {
        let error = plan(successor).unwrap_err();
        assert!(matches!(error, Error::NotRestorable { .. }), "{successor}: {error}");
    }
    assert_eq!(plan("kind = \"tablet\"\nport = \"2\"").unwrap().steps.len(), 2);
}

#[test]
fn a_missing_device_whose_name_is_taken_gets_another_one() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    // After a restart, the guest has a controller and a tablet of another tool, with the names of
    // the recorded ones. Another sandbox makes this hardware.
    let other = Sandbox::new();
    let text =
        "[[controller]]\nmodel = \"piix3-uhci\"\n[[device]]\nkind = \"tablet\"\nname = \"tablet0\"";
    other.vusb().apply(&other.spec("web", text)).unwrap();
    sandbox.set("web", "hardware", other.sim("web")["hardware"].clone());
    sandbox.set("web", "foreign", json!(["hci0", "tablet0"]));
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached] hci1 missing[1 tablet1 missing]");
    sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached] hci1[1 tablet1 attached]");
}

#[test]
fn a_device_that_cannot_be_attached_again_does_not_keep_others_from_being_restored() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    for device in ["1-4", "tablet"] {
        sandbox.add("web", device).unwrap();
    }
    sandbox.restart("web");
    sandbox.add("web", "mouse").unwrap();
    sandbox.keyboard(4);
    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(outcome.exit_code(), ExitCode::Policy);
    assert_eq!(outcome.not_restored[0].name.as_str(), "host0");
    assert_eq!(
        sandbox.shows("web"),
        "hci0[1 host0 missing; 2 tablet0 attached; 3 mouse0 attached]"
    );
    // The same for a device that was plugged in again: the guest was given it at another address.
    sandbox.forced().restore(&sandbox.guest("web")).unwrap();
    sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 99}}));
    let before = sandbox.sim("web")["given"].clone();
    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!((outcome.exit_code(), outcome.steps.len()), (ExitCode::Policy, 0));
    assert_eq!(sandbox.sim("web")["given"], before);
}

/// A record that is put there meanwhile, perhaps from a backup, is not replaced by an empty one.
#[test]
fn restoring_a_guest_without_a_record_writes_none() {
    let sandbox = Sandbox::new();
    sandbox.restart("web");
    let vusb = sandbox.vusb();
    let restored = vusb.restore(&sandbox.guest("web")).unwrap();
    assert!(restored.already, "{restored:?}");
    assert!(sandbox.records().is_empty());
}

#[test]
fn only_the_devices_that_are_wanted_are_restored() {
    let sandbox = Sandbox::new();
    for device in ["tablet", "mouse"] {
        sandbox.add("web", device).unwrap();
    }
    sandbox.restart("web");
    let (vusb, web) = (sandbox.vusb(), sandbox.guest("web"));
    let wanted = |name: &vusb::model::name::Name| name.as_str() == "mouse0";
    vusb.context.restore_devices(&web, &wanted, &vusb.options).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 missing; 2 mouse0 attached]");
}
