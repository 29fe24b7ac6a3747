//! `--help`, completions, manual pages.

use crate::environment::Environment;

/// `command` and every command below it that the help lists, by their words. The empty text is
/// `vusb` itself.
fn commands(env: &Environment, command: &str) -> Vec<String> {
    let help = env.run(&format!("{command} --help")).stdout;
    let list = help.split_once("Commands:\n").map_or("", |(_, list)| list);
    let names = list.lines().take_while(|line| !line.is_empty());
    // A line with a deeper indent continues a description.
    let names = names.filter_map(|line| line.strip_prefix("  ")).filter(|it| !it.starts_with(' '));
    let names = names.filter_map(|line| line.split_whitespace().next());
    let below = names.filter(|name| *name != "help");
    let below = below.flat_map(|name| commands(env, format!("{command} {name}").trim()));
    std::iter::once(command.to_owned()).chain(below).collect()
}

/// Every command. The help does not list the one that only packagers need.
fn all_commands(env: &Environment) -> Vec<String> {
    commands(env, "").into_iter().chain(["man".to_owned()]).collect()
}

#[test]
fn the_commands_are_found() {
    let all = all_commands(&Environment::new());
    for command in ["", "controller add", "domain forget", "rules import", "watch", "web"] {
        assert!(all.iter().any(|it| it == command), "{command} is not in {all:?}");
    }
}

#[test]
fn every_command_has_readable_help() {
    let env = Environment::new();
    for command in all_commands(&env) {
        let ran = env.run(&format!("{command} --help"));
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
        assert!(ran.stdout.contains("Usage: vusb"), "{command}: {ran:?}");
        assert!(command == "man" || ran.stdout.contains("Examples:"), "{command} has no examples");
        for hidden in ["host-root", "claims-dir"] {
            assert!(
                !ran.stdout.contains(hidden),
                "{command} shows an option that is only for tests"
            );
        }
        let below = ran.stdout.split_once("--verbose").map_or("", |(_, below)| below);
        // Lines laid out by hand fit on an 80-column terminal; the rest is wrapped.
        for line in below.lines().filter(|line| line.starts_with("  ")) {
            assert!(line.chars().count() <= 80, "{command}: too wide: {line}");
        }
    }
}

#[test]
fn the_help_contains_what_a_script_needs() {
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
fn the_examples_are_valid_commands() {
    let env = Environment::new();
    for command in all_commands(&env) {
        let help = env.run(&format!("{command} --help")).stdout;
        let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
        let lines = examples.lines().map(str::trim).filter(|line| line.starts_with("vusb "));
        for line in lines {
            // What follows three blanks, a bar or a redirection is not part of the command. None of
            // the commands is executed here.
            let line = line.split("   ").next().unwrap().split(" | ").next().unwrap();
            let line = line.split(" > ").next().unwrap();
            let words = line.split_whitespace().skip(1).chain(["--help"]);
            let ran = env.vusb(words);
            assert_eq!(ran.code, 0, "{line}: {ran:?}");
        }
    }
}

#[test]
fn an_invalid_command_line() {
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
    for shell in ["bash", "zsh", "fish"] {
        let ran = env.run(&format!("completions {shell}"));
        assert!(ran.stdout.contains("__complete"), "{shell}");
        ran.quietly();
    }
    for shell in ["elvish", "powershell"] {
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

#[test]
fn words_of_other_tools_are_understood() {
    let env = Environment::new();
    env.run("device attach sim:S tablet --name pen").prints("hci0:1");
    env.run("device del sim:S pen").says("removed");
    env.run("controller rm sim:S hci0").says("removed");
    env.run("ls sim:S").prints("sim:S: no USB");
}
