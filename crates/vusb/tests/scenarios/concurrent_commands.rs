//! Two commands at the same time.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;
use vusb::model::spec::DeviceSpec;
use vusb::{Error, ExitCode};

use crate::killed::Another;
use crate::sandbox::{Sandbox, library, texts};

#[test]
fn a_second_command_waits_and_then_names_the_lock_holder() {
    let sandbox = Sandbox::new();
    sandbox.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&sandbox, "add tablet");
    another.hangs(&sandbox, 1);
    let start = Instant::now();
    let impatient = library(sandbox.path(), Duration::from_millis(200));
    let mouse = DeviceSpec::new("mouse".parse().unwrap());
    let error = impatient.device_add(&sandbox.guest("web"), &mouse).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(error.exit_code(), ExitCode::Busy);
    assert!(matches!(error, Error::Busy { pid, .. } if pid == Some(another.id())), "{error}");
    // Listing does not wait.
    impatient.list(&sandbox.guest("web")).unwrap();
    another.kill();
    sandbox.add("web", "mouse").unwrap();
}

#[test]
fn while_the_hypervisor_serves_another_command_a_list_shows_the_record() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "ccid").unwrap();
    sandbox.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&sandbox, "add tablet");
    another.hangs(&sandbox, 2);
    sandbox.set(
        "web",
        "faults",
        json!([{"step": "observe", "fault": "timeout", "nth": 0},
               {"step": "plug", "fault": "hang", "nth": 1, "seen": 1}]),
    );
    let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
    assert!(texts(&view.notes)[0].contains(&format!("pid {}", another.id())), "{:?}", view.notes);
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
    // A digest is not computed from the record: it depends on what the guest has.
    let error = sandbox.vusb().digest(&sandbox.guest("web")).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    another.kill();
    let error = sandbox.vusb().list(&sandbox.guest("web")).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut);
}

/// Only the commands on one domain, and the claims of all, exclude each other.
#[test]
fn a_command_that_hangs_does_not_block_other_domains() {
    let sandbox = Sandbox::new();
    sandbox.faults("web", &[("plug tablet", "hang")]);
    let another = Another::start(&sandbox, "add tablet");
    another.hangs(&sandbox, 1);
    let impatient = library(sandbox.path(), Duration::from_millis(200));
    let mouse = DeviceSpec::new("mouse".parse().unwrap());
    impatient.device_add(&sandbox.guest("mail"), &mouse).unwrap();
    another.kill();
}

#[test]
fn commands_on_one_domain_take_turns() {
    let sandbox = Sandbox::new();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| sandbox.add("web", "tablet").unwrap());
        }
    });
    assert_eq!(sandbox.sim("web")["hardware"][0]["devices"].as_array().unwrap().len(), 6);
    assert_eq!(sandbox.record("web")["hardware"], sandbox.sim("web")["hardware"]);
}

#[test]
fn one_of_two_competing_domains_gets_the_device() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.file("a.img", "");
    for device in ["0781:5581", "storage:a.img"] {
        for _ in 0..10 {
            let start = Barrier::new(2);
            let results = std::thread::scope(|scope| {
                let [a, b] = ["web", "mail"].map(|name| {
                    let (sandbox, start) = (&sandbox, &start);
                    scope.spawn(move || {
                        start.wait();
                        sandbox.add(name, device)
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
            sandbox.remove(winner, name).unwrap();
        }
    }
}

#[test]
fn a_killed_commands_pending_device_is_claimed() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.faults("web", &[("plug host", "hang")]);
    let another = Another::start(&sandbox, "add 0781:5581");
    another.hangs(&sandbox, 1);
    another.kill();
    let error = sandbox.add("mail", "1-4").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    let Error::Claimed { gone, .. } = &error else { panic!("{error}") };
    assert_eq!(*gone, None);
    assert_eq!(sandbox.record("web")["pending"]["back"], json!(false));
}
