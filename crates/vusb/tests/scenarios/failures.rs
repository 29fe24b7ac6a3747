//! Steps that fail, and what is left then.

use serde_json::json;
use vusb::{Error, ExitCode};

use crate::house::{House, steps};

/// A guest with a controller, a spec that adds another and plugs three devices in, and the fault at the last of those.
fn unlucky(fault: &str) -> (House, Result<vusb::Outcome, Error>) {
    let house = House::new();
    house.add("web", "ccid").unwrap();
    house.faults("web", &[("plug mouse", fault)]);
    let text = "[[controller]]\nname = \"hci0\"\n[[controller]]\nmodel = \"nec-xhci\"\nname = \"fast\"\n\
                [[device]]\nkind = \"ccid\"\n[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"mouse\"";
    let result = house.vusb().apply(&house.spec("web", text));
    (house, result)
}

#[test]
fn what_was_done_before_a_step_failed_is_taken_back() {
    for (fault, code) in [
        ("fail", ExitCode::Failed),
        ("timeout", ExitCode::TimedOut),
        ("unreachable", ExitCode::Unreachable),
    ] {
        let (house, result) = unlucky(fault);
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), code, "{fault}");
        let Error::Failed { step, undone, not_undone, .. } = &error else { panic!("{error}") };
        assert!(step.to_string().starts_with("plug mouse0"), "{step}");
        assert_eq!((undone.len(), not_undone.len()), (2, 0));
        assert!(error.to_string().contains("taken back: plug tablet0"), "{error}");
        assert_eq!(house.shows("web"), "hci0[1 ccid0 attached]");
        let record = house.record("web");
        assert_eq!(record["hardware"], house.sim("web")["hardware"]);
        assert_eq!(record["pending"], json!(null));
    }
}

#[test]
fn a_step_that_was_taken_in_spite_of_a_time_out_is_found_and_kept() {
    let (house, result) = unlucky("happens-anyway");
    let outcome = result.unwrap();
    assert_eq!(outcome.steps.len(), 3);
    assert!(outcome.notes.iter().any(|it| it.contains("but it is done")), "{:?}", outcome.notes);
    assert_eq!(house.record("web")["hardware"], house.sim("web")["hardware"]);
    assert!(house.shows("web").contains("mouse0 attached"));
}

#[test]
fn what_cannot_be_taken_back_is_said_recorded_and_ours() {
    let (house, _) = unlucky("happens-anyway");
    house.faults("web", &[("plug keyboard", "fail"), ("unplug serial", "fail")]);
    let text = "[[device]]\nkind = \"serial\"\nchardev = \"pty\"\ncontroller = \"new\"\n[[controller]]\nname = \"new\"\n\
                [[device]]\nkind = \"keyboard\"\ncontroller = \"new\"";
    let error = house.vusb().apply(&house.spec("other", "")).and_then(|_| {
        house.faults("other", &[("plug keyboard", "fail"), ("unplug serial", "fail")]);
        house.vusb().apply(&house.spec("other", text))
    });
    let error = error.unwrap_err();
    let Error::Failed { undone, not_undone, .. } = &error else { panic!("{error}") };
    assert!(undone.is_empty());
    let left: Vec<String> = not_undone.iter().map(ToString::to_string).collect();
    assert!(left[0].starts_with("plug serial0") && left[0].contains("told to fail"), "{left:?}");
    assert!(left[1].starts_with("add controller new") && left[1].contains("not tried"), "{left:?}");
    assert!(error.hints().iter().any(|it| it.contains("vusb list")));

    let record = house.record("other");
    assert_eq!(record["hardware"], house.sim("other")["hardware"]);
    assert_eq!(
        (&record["managed"], &record["pending"]),
        (&json!(["new", "serial0"]), &json!(null))
    );
    house.remove("other", "serial0").unwrap();
}

#[test]
fn when_nobody_answers_any_more_nothing_is_touched_and_the_next_command_goes_on() {
    let house = House::new();
    // The fourth look is the one after the time-out: one at each `list`, and one when the command begins.
    house.add("web", "ccid").unwrap();
    house.set(
        "web",
        "faults",
        json!([{"step": "plug mouse", "fault": "timeout"},
               {"step": "observe", "nth": 2, "fault": "unreachable"}]),
    );
    let error = house.add("web", "mouse").unwrap_err();
    assert!(matches!(&error, Error::Failed { undone, .. } if undone.is_empty()), "{error}");
    assert_eq!(house.record("web")["pending"]["back"], json!(true));

    let outcome = house.add("web", "tablet").unwrap();
    assert_eq!(steps(&outcome), ["plug tablet0 (tablet) into 0:2"]);
    assert!(outcome.notes[0].contains("none of it is in effect"), "{:?}", outcome.notes);
    assert_eq!(house.shows("web"), "hci0[1 ccid0 attached; 2 tablet0 attached]");
}

#[test]
fn a_domain_that_cannot_be_reached_is_an_error_that_changes_nothing() {
    let house = House::new();
    house.add("web", "tablet").unwrap();
    house.set("web", "unreachable", json!("it was shut down"));
    let before = house.bytes();
    for error in [
        house.add("web", "mouse").unwrap_err(),
        house.remove("web", "tablet0").unwrap_err(),
        house.vusb().list(&house.guest("web")).unwrap_err(),
    ] {
        assert_eq!(error.exit_code(), ExitCode::Unreachable, "{error}");
    }
    // Among all domains, it is shown as it is recorded.
    let all = house.vusb().list_all().unwrap();
    let view = json!(all.unreachable[0]);
    assert_eq!(view["controllers"][0]["devices"][0]["name"], "tablet0");
    assert_eq!(view["controllers"][0]["devices"][0]["state"], "missing");
    // A lock file says who had it last, and so may change.
    let without_locks = |all: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        all.into_iter().filter(|(path, _)| path.extension().is_none_or(|it| it != "lock")).collect()
    };
    assert!(without_locks(house.bytes()) == without_locks(before));
}

#[test]
fn a_step_that_fails_while_things_are_removed_puts_them_back() {
    let house = House::new();
    house.plug(4, "0781:5581", "A1");
    for device in ["tablet", "0781:5581", "mouse"] {
        house.add("web", device).unwrap();
    }
    let before = house.sim("web")["hardware"].clone();
    house.faults("web", &[("remove controller", "fail")]);
    let error = house
        .forced()
        .controller_remove(&house.guest("web"), &"hci0".parse().unwrap())
        .unwrap_err();
    assert!(matches!(&error, Error::Failed { undone, .. } if undone.len() == 3), "{error}");
    assert_eq!(house.sim("web")["hardware"], before);
    assert_eq!(house.record("web")["hardware"], before);
    assert_eq!(house.sim("web")["given"]["host0"], json!({"bus": 1, "address": 14}));
}
