//! `--help`, completions, manual pages.

use crate::environment::Environment;

/// Every command that there is.
const COMMANDS: [&str; 20] = [
    "",
    "controller",
    "controller add",
    "controller remove",
    "controller list",
    "device",
    "device add",
    "device remove",
    "device list",
    "list",
    "plan",
    "apply",
    "host",
    "host list",
    "models",
    "digest",
    "convert",
    "qemu-args",
    "completions",
    "man",
];

#[test]
fn every_help_can_be_read() {
    let env = Environment::new();
    for command in COMMANDS {
        let ran = env.run(&format!("{command} --help"));
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
        assert!(ran.stdout.contains("Usage: vusb"), "{command}: {ran:?}");
        assert!(command == "man" || ran.stdout.contains("Examples:"), "{command} has no examples");
        assert!(!ran.stdout.contains("host-root"), "{command} shows what is for tests alone");
        let below = ran.stdout.split_once("--verbose").map_or("", |(_, below)| below);
        // What is laid out by hand fits on the narrowest of terminals; all else is made to fit.
        for line in below.lines().filter(|line| line.starts_with("  ")) {
            assert!(line.chars().count() <= 80, "{command}: too wide: {line}");
        }
    }
}

#[test]
fn the_help_says_what_a_script_needs() {
    let env = Environment::new();
    let top = env.run("--help").stdout;
    for part in ["Exit codes:", "qemu:SOCKET", "sim:FILE", "--json", "--dry-run", "VUSB_STATE_DIR"]
    {
        assert!(top.contains(part), "{part} is not in: {top}");
    }
    for code in 0..=9 {
        assert!(top.contains(&format!(" {code}  ")), "exit code {code}");
    }
    let device = env.run("device add --help").stdout;
    for part in
        ["0781:5581", "1-4.2", "003.014", "storage:FILE", "tablet", "hub", "serial:", "redir:"]
    {
        assert!(device.contains(part), "{part} is not in: {device}");
    }
}

#[test]
fn the_examples_are_commands_that_there_are() {
    let env = Environment::new();
    for command in COMMANDS {
        let help = env.run(&format!("{command} --help")).stdout;
        let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
        let lines = examples.lines().map(str::trim).filter(|line| line.starts_with("vusb "));
        for line in lines {
            // What follows two blanks or a bar is words for people, and none of these is to be done here.
            let line = line.split("   ").next().unwrap().split(" | ").next().unwrap();
            let line = line.split(" > ").next().unwrap();
            let words = line.split_whitespace().skip(1).chain(["--help"]);
            let ran = env.vusb(words);
            assert_eq!(ran.code, 0, "{line}: {ran:?}");
        }
    }
}

#[test]
fn a_command_line_that_makes_no_sense() {
    let env = Environment::new();
    for line in [
        "",
        "frobnicate",
        "controller",
        "controller add",
        "device add sim:S",
        "list a b",
        "models --quiet -v",
    ] {
        let ran = env.run(line);
        assert_eq!(ran.code, 2, "{line}: {ran:?}");
        assert_eq!(ran.stdout, "", "{line}");
    }
    for time in ["0", "-1", "ten", "inf"] {
        env.vusb(["list", "--timeout", time]).fails(2).says("a time is a number of seconds");
    }
}

#[test]
fn completions_for_each_shell() {
    let env = Environment::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = env.run(&format!("completions {shell}"));
        assert!(ran.stdout.contains("qemu-args"), "{shell}");
        ran.quietly();
    }
}

#[test]
fn manual_pages() {
    let env = Environment::new();
    env.run("man .").prints("").quietly();
    let page = env.read("vusb-device-add.1");
    assert!(page.contains("storage:FILE"), "{page}");
}
