//! Output: results go to standard output, messages to standard error.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::environment::Environment;

#[test]
fn quiet_prints_only_results_and_errors() {
    let env = Environment::new();
    env.run("device add sim:S tablet --name pen -q").prints("hci0:1").quietly();
    env.run("device add sim:S tablet --name pen -q").prints("hci0:1").quietly();
    env.run("device add sim:S mouse --port 1 -q").fails(4);
}

#[test]
fn verbose_prints_the_steps_of_the_dry_run() {
    let env = Environment::new();
    let dry = env.run("device add sim:S tablet --dry-run");
    assert_eq!(dry.stdout.lines().count(), 2, "{dry:?}");
    let ran = env.run("device add sim:S tablet -v");
    ran.prints("hci0:1");
    for line in dry.stdout.lines() {
        assert!(ran.stderr.lines().any(|printed| printed == line), "{line} is not in {ran:?}");
    }
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let env = Environment::new();
    let mut child = env.command(["models"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut child = env.command(["completions", "zsh"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let env = Environment::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = env.command(["models"]).stdout(full).output().unwrap();
    let ran = env.ran(&output);
    ran.fails(1).says("cannot write the result");
}

#[test]
fn a_help_that_cannot_be_written_is_a_failure() {
    let env = Environment::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = env.command(["--help"]).stdout(full).output().unwrap();
    env.ran(&output).fails(1).says("cannot write the result");
}

#[test]
fn without_a_command_the_help_is_printed_and_no_error() {
    let env = Environment::new();
    for line in ["device", "controller", "host"] {
        let ran = env.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(!ran.stderr.contains("error:") && ran.stderr.contains("Usage:"), "{ran:?}");
    }
}

#[test]
fn the_reason_for_an_added_controller_is_correct() {
    let env = Environment::new();
    env.run("controller add sim:S --model ehci").prints("hci0");
    env.run("device add sim:S tablet")
        .prints("hci1:1")
        .says("no other emulated one takes the device");
}

#[test]
fn apply_accepts_force() {
    let env = Environment::new();
    env.write("a.toml", "domain = \"a\"\ndriver = \"sim:S\"\n");
    env.write("b.toml", "domain = \"b\"\ndriver = \"sim:S\"\n");
    env.run("apply a.toml").prints("");
    env.run("apply b.toml").fails(4).says("is named a, and the spec is for b").says("--force");
    env.run("apply b.toml --force").prints("").says("from a to b");
}

#[test]
fn the_state_folder_can_be_chosen() {
    let env = Environment::new();
    env.run("controller add sim:S --state-dir here").prints("hci0");
    assert!(env.path("here").is_dir());
    assert!(!env.state().exists());
}
