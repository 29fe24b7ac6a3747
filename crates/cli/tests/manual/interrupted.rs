//! Two commands at once, and commands that are cut short.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::environment::Environment;

/// A guest that hangs at its first plug.
fn hanging(env: &Environment, how: &str) {
    let fault = format!(r#"{{"step": "plug", "fault": "{how}"}}"#);
    env.write("S", &format!(r#"{{"sim": 1, "faults": [{fault}]}}"#));
}

/// Waits until the command is in the middle of its plug: then its controller is there.
fn until_halfway(env: &Environment) {
    let end = Instant::now() + Duration::from_secs(20);
    while !(env.read("S").contains("hci0") && env.read("S").contains("\"seen\": 1")) {
        assert!(Instant::now() < end, "it never came so far: {}", env.read("S"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_second_of_two_waits_and_then_says_who_is_at_work() {
    let env = Environment::new();
    hanging(&env, "hang");
    let first = env.start("device add sim:S tablet");
    until_halfway(&env);
    let pid = first.id().to_string();
    env.run("device add sim:S mouse --timeout 0.2")
        .fails(4)
        .says(&pid)
        .says("hint: wait for that command");
    // One can look meanwhile.
    let ran = env.run("list sim:S");
    assert_eq!(ran.code, 0, "{ran:?}");
    kill(first);
}

#[test]
fn what_a_killed_command_had_begun_the_next_one_finishes() {
    for how in ["hang", "hang-after"] {
        let env = Environment::new();
        hanging(&env, how);
        let first = env.start("device add sim:S tablet --name pen");
        until_halfway(&env);
        kill(first);
        env.run("device add sim:S mouse").prints("hci0:2").says("earlier command");
        let devices = env.json("device list sim:S");
        assert_eq!(devices["devices"][0]["name"], "pen", "{how}");
        assert_eq!(devices["devices"][0]["state"], "attached", "{how}");
    }
}

#[test]
fn many_at_once_each_get_a_port_of_their_own() {
    let env = Environment::new();
    let children: Vec<Child> = (0..6).map(|_| env.start("device add sim:S mouse")).collect();
    let mut places: Vec<String> = children
        .into_iter()
        .map(|child| env.ran(&child.wait_with_output().unwrap()).stdout.trim().to_owned())
        .collect();
    places.sort();
    assert_eq!(places, ["hci0:1", "hci0:2", "hci0:3", "hci0:4", "hci0:5", "hci0:6"]);
}
