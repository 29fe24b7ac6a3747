//! Two commands at the same moment.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;
use vusb::model::spec::DeviceSpec;
use vusb::{Error, ExitCode};

use crate::house::{House, library};
use crate::killed::Another;

#[test]
fn a_second_command_waits_and_then_says_who_is_at_work() {
    let house = House::new();
    house.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&house, "add tablet");
    another.hangs(&house, 1);
    let start = Instant::now();
    let impatient = library(house.path(), Duration::from_millis(200));
    let tablet = DeviceSpec::new("mouse".parse().unwrap());
    let error = impatient.device_add(&house.guest("web"), &tablet).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(error.exit_code(), ExitCode::Busy);
    assert!(matches!(error, Error::Busy { pid, .. } if pid == Some(another.id())), "{error}");
    // To look, nobody waits.
    impatient.list(&house.guest("web")).unwrap();
    another.kill();
    house.add("web", "mouse").unwrap();
}

#[test]
fn while_a_command_has_the_hypervisors_ear_a_look_shows_what_is_on_record() {
    let house = House::new();
    house.add("web", "ccid").unwrap();
    house.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&house, "add tablet");
    another.hangs(&house, 2);
    house.set(
        "web",
        "faults",
        json!([{"step": "observe", "fault": "timeout", "nth": 0},
               {"step": "plug", "fault": "hang", "nth": 1, "seen": 1}]),
    );
    let view = house.vusb().list(&house.guest("web")).unwrap();
    assert!(view.notes[0].contains(&format!("process {}", another.id())), "{:?}", view.notes);
    let controller = &view.controllers[0];
    assert_eq!(
        (json!(controller.state), json!(controller.origin)),
        (json!("unknown"), json!("vusb"))
    );
    let names: Vec<&str> = controller.devices.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        (names, json!(controller.devices[0].state)),
        (vec!["ccid0", "tablet0"], json!("unknown"))
    );
    // What depends on what the guest has is not answered from memory.
    let error = house.vusb().digest(&house.guest("web")).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    another.kill();
    let error = house.vusb().list(&house.guest("web")).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut);
}

#[test]
fn commands_on_one_domain_take_turns() {
    let house = House::new();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| house.add("web", "tablet").unwrap());
        }
    });
    assert_eq!(house.sim("web")["hardware"][0]["devices"].as_array().unwrap().len(), 6);
    assert_eq!(house.record("web")["hardware"], house.sim("web")["hardware"]);
}

#[test]
fn of_two_domains_at_once_one_gets_the_device() {
    let house = House::new();
    house.plug(4, "0781:5581", "A1");
    house.file("a.img", "");
    for device in ["0781:5581", "storage:a.img"] {
        for _ in 0..10 {
            let start = Barrier::new(2);
            let results = std::thread::scope(|scope| {
                let [a, b] = ["web", "mail"].map(|name| {
                    let (house, start) = (&house, &start);
                    scope.spawn(move || {
                        start.wait();
                        house.add(name, device)
                    })
                });
                [a.join().unwrap(), b.join().unwrap()]
            });
            let won = results.iter().filter(|it| it.is_ok()).count();
            assert_eq!(won, 1, "{results:?}");
            let lost = results.iter().find_map(|it| it.as_ref().err()).unwrap();
            assert!(matches!(lost, Error::Claimed { .. }), "{lost}");
            let winner = if results[0].is_ok() { "web" } else { "mail" };
            let name = if device.starts_with("storage") { "storage0" } else { "host0" };
            house.remove(winner, name).unwrap();
        }
    }
}

#[test]
fn what_a_killed_command_had_begun_to_give_is_claimed() {
    let house = House::new();
    house.plug(4, "0781:5581", "A1");
    house.faults("web", &[("plug host", "hang")]);
    let another = Another::start(&house, "add 0781:5581");
    another.hangs(&house, 1);
    another.kill();
    let error = house.add("mail", "1-4").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    let Error::Claimed { gone, .. } = &error else { panic!("{error}") };
    assert_eq!(*gone, None);
    assert_eq!(house.record("web")["pending"]["back"], json!(false));
}
