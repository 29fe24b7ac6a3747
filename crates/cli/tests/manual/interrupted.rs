//! Concurrent commands, and interrupted ones.

use std::io::BufRead as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::environment::Environment;

/// Gives the simulated guest this fault when a device is plugged in.
fn with_plug_fault(env: &Environment, fault: &str) {
    let fault = format!(r#"{{"step": "plug", "fault": "{fault}"}}"#);
    env.write("S", &format!(r#"{{"sim": 1, "faults": [{fault}]}}"#));
}

/// Waits until the command is in the middle of its plug, when its controller already exists.
fn wait_until_halfway(env: &Environment) {
    let end = Instant::now() + Duration::from_secs(20);
    while !(env.read("S").contains("hci0") && env.read("S").contains("\"seen\": 1")) {
        assert!(Instant::now() < end, "the command did not get this far: {}", env.read("S"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_second_of_two_waits_and_then_names_the_first() {
    let env = Environment::new();
    with_plug_fault(&env, "hang");
    let first = env.start("device add sim:S tablet");
    wait_until_halfway(&env);
    let pid = first.id().to_string();
    env.run("device add sim:S mouse --timeout 0.2")
        .fails(4)
        .says(&pid)
        .says("hint: wait for that process");
    // Listing works meanwhile.
    let ran = env.run("list sim:S");
    assert_eq!(ran.code, 0, "{ran:?}");
    kill(first);
}

#[test]
fn the_next_command_finishes_the_work_of_a_killed_one() {
    for how in ["hang", "hang-after"] {
        let env = Environment::new();
        with_plug_fault(&env, how);
        let first = env.start("device add sim:S tablet --name pen");
        wait_until_halfway(&env);
        kill(first);
        env.run("device add sim:S mouse").prints("hci0:2").says("interrupted");
        let devices = env.json("device list sim:S");
        assert_eq!(devices["devices"][0]["name"], "pen", "{how}");
        assert_eq!(devices["devices"][0]["state"], "attached", "{how}");
    }
}

fn interrupt(child: &Child) {
    let pid = Pid::from_child(child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
}

/// Waits until the process has a handler for SIGINT, which would otherwise end it.
fn wait_until_it_handles_interrupts(child: &Child) {
    let end = Instant::now() + Duration::from_secs(20);
    let handles = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        // Bit 0 is signal 1 (proc_pid_status(5)).
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (Signal::INT.as_raw() - 1) & 1 == 1
    };
    while !handles() {
        assert!(Instant::now() < end, "the command never handled SIGINT");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ctrl_c_finishes_the_step_and_undoes_everything() {
    let env = Environment::new();
    with_plug_fault(&env, "slow");
    let first = env.start("device add sim:S tablet");
    wait_until_halfway(&env);
    interrupt(&first);
    let ran = env.ran(&first.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    let stderr = "vusb: interrupted: undoing what was done, after the step under way (interrupt \
                  again to stop at once)\n\
                  error: cancelled; undone: plug tablet0 (tablet) into 0:1, add controller hci0 (qemu-xhci, 15 ports, index 0)\n";
    assert_eq!(ran.stderr, stderr);
    env.run("list sim:S").prints("sim:S: no USB");
    // The next command does not continue what was cancelled.
    let next = env.run("device add sim:S mouse");
    let added = "added controller hci0 (qemu-xhci, 15 ports): the guest had none\n";
    assert_eq!((next.stdout.as_str(), next.stderr.as_str()), ("hci0:1\n", added));
}

#[test]
fn ctrl_c_after_the_last_step_undoes_nothing_and_says_so() {
    let env = Environment::new();
    // The second observation follows the last step.
    env.write("S", r#"{"sim": 1, "faults": [{"step": "observe", "fault": "slow", "nth": 2}]}"#);
    let first = env.start("device add sim:S tablet");
    let end = Instant::now() + Duration::from_secs(20);
    while !env.read("S").contains("\"seen\": 2") {
        assert!(Instant::now() < end, "the command did not get this far: {}", env.read("S"));
        std::thread::sleep(Duration::from_millis(5));
    }
    interrupt(&first);
    let ran = env.ran(&first.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hci0:1\n"), "{ran:?}");
    assert!(ran.stderr.ends_with("before the interrupt: nothing is undone\n"), "{ran:?}");
    env.run("device remove sim:S tablet0").says("removed hci0:1");
}

#[test]
fn ctrl_c_ends_a_command_that_waits() {
    let env = Environment::new();
    with_plug_fault(&env, "hang");
    let first = env.start("device add sim:S tablet");
    wait_until_halfway(&env);
    let second = env.start("device add sim:S mouse --timeout 60 --json");
    wait_until_it_handles_interrupts(&second);
    let begin = Instant::now();
    interrupt(&second);
    let ran = env.ran(&second.wait_with_output().unwrap());
    assert!(begin.elapsed() < Duration::from_secs(30), "{ran:?}");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stdout.contains("cancelled"), "{ran:?}");
    kill(first);
}

/// The command waits for a monitor that does not reply. No change has begun, so nothing has to be
/// undone.
#[test]
fn ctrl_c_ends_a_command_that_waits_for_a_hypervisor() {
    let env = Environment::new();
    let _silent = std::os::unix::net::UnixListener::bind(env.path("g.qmp")).unwrap();
    let waiting = env.start("device add qemu:g.qmp tablet --timeout 60");
    wait_until_it_handles_interrupts(&waiting);
    let begin = Instant::now();
    interrupt(&waiting);
    let output = waiting.wait_with_output().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(30), "{output:?}");
    // The status is that of a process without a handler, so the shell sees the interrupt.
    assert_eq!(output.status.signal(), Some(Signal::INT.as_raw()), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "vusb: interrupted: no change was under way\n");
}

#[test]
fn a_second_ctrl_c_ends_the_command_at_once() {
    let env = Environment::new();
    with_plug_fault(&env, "hang");
    let mut first = env.start("device add sim:S tablet");
    wait_until_halfway(&env);
    interrupt(&first);
    let mut notice = String::new();
    let stderr = first.stderr.take().unwrap();
    std::io::BufReader::new(stderr).read_line(&mut notice).unwrap();
    assert!(notice.contains("interrupted"), "{notice}");
    interrupt(&first);
    assert_eq!(first.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    // The next command does not continue the cancelled change, but undoes it.
    let next = env.run("device add sim:S mouse");
    next.says("undid an interrupted change: add controller hci0").prints("hci0:1");
    let devices = env.json("device list sim:S");
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1, "{devices}");
}

#[test]
fn a_kill_after_ctrl_c_does_not_continue_what_was_cancelled() {
    let env = Environment::new();
    with_plug_fault(&env, "hang-after");
    let mut first = env.start("device add sim:S tablet");
    wait_until_halfway(&env);
    interrupt(&first);
    let mut notice = String::new();
    let stderr = first.stderr.take().unwrap();
    std::io::BufReader::new(stderr).read_line(&mut notice).unwrap();
    kill(first);
    // The next command does what the note says.
    env.run("list sim:S").says("the next command undoes what is left of it");
    env.run("device add sim:S mouse").prints("hci0:1").says("undid an interrupted change");
    let notes = env.json("list sim:S")["notes"].clone();
    assert_eq!(notes, serde_json::json!([]));
}

#[test]
fn concurrent_commands_each_get_a_port() {
    let env = Environment::new();
    let children: Vec<Child> = (0..6).map(|_| env.start("device add sim:S mouse")).collect();
    let mut places: Vec<String> = children
        .into_iter()
        .map(|child| env.ran(&child.wait_with_output().unwrap()).stdout.trim().to_owned())
        .collect();
    places.sort();
    assert_eq!(places, ["hci0:1", "hci0:2", "hci0:3", "hci0:4", "hci0:5", "hci0:6"]);
}
