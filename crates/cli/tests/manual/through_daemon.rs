//! The same commands, carried out by the daemon and by the command itself: the output and the exit
//! codes are the same, JSON included.

use std::time::{Duration, Instant};

use vusb::{Context, Host, StateDir};
use vusb_daemon::daemon::{Listen, Settings, run};

use crate::environment::{Environment, Ran};

/// Starts the daemon, in this process, with the machine and the records of the environment.
fn daemon(env: &Environment) {
    let context =
        Context::with_builtin_drivers(StateDir::new(env.state()), Host::new(env.machine()));
    let socket = env.path("socket");
    let settings = Settings {
        context,
        simulated: true,
        guests: Vec::new(),
        listen: Some(Listen::At(socket.clone())),
        metrics: None,
        question_command: None,
        log: vusb_log::Output::StandardError,
    };
    std::thread::spawn(move || run(settings).unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < end, "the daemon does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn prepared() -> Environment {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.plug("1-5", &[("idVendor", "1d6b"), ("idProduct", "0002"), ("bDeviceClass", "09")]);
    env.image("stick.img");
    env.write(
        "spec.toml",
        "domain = \"web1\"\ndriver = \"sim:web1\"\n[[controller]]\nusbversion = 3\n\
         [[device]]\nkind = \"storage\"\nfile = \"stick.img\"\n",
    );
    env.write("bad.toml", "domain = \"web1\"\ndriver = \"sim:web1\"\n[[controller]]\nports = 99\n");
    env.write("guest.cfg", "name = \"guest\"\nusb = 1\n");
    env
}

const COMMANDS: &[&str] = &[
    "controller add sim:a",
    "controller add sim:a --usbversion 2 --name second --ports 4",
    "controller add sim:a --model nec-xhci --ports 99",
    "controller add nowhere",
    "controller list sim:a",
    "device add sim:a tablet",
    "device add sim:a tablet --controller hci0 --port 9 --name pointer",
    "device add sim:a 0781:5581",
    "device add sim:a 0781:5581",
    "device add sim:b 0781:5581",
    "device add sim:a 1-5",
    "device add sim:a 1234:5678",
    "device add sim:a 1234:5678 --when-there --required",
    "device add sim:a mouse keyboard",
    "device add sim:a storage:stick.img,readonly",
    "device add sim:a storage:absent.img",
    "device add sim:a keyboard --dry-run",
    "device add tablet sim:a",
    "device list sim:a",
    "list sim:a",
    "list sim:a --tree",
    "list",
    "list guest.cfg",
    "device add guest.cfg tablet",
    "host list",
    "explain 1-4",
    "explain 1-4 sim:a",
    "explain --id 0781:5581",
    "device move sim:a pointer --port 5",
    "device remove sim:a pointer",
    "device remove sim:a pointer",
    "device remove sim:a 0781:5581",
    "device remove sim:a mouse0 keyboard0",
    "controller remove sim:a hci0",
    "controller remove sim:a second --force",
    "controller remove sim:a second",
    "plan spec.toml",
    "plan spec.toml --exit-code",
    "apply spec.toml",
    "apply spec.toml",
    "apply bad.toml",
    "apply web1",
    "suspend web1",
    "suspend web1",
    "resume web1",
    "apply sim:a --force",
    "list web1",
    "domain list",
    "digest web1",
    "list nowhere",
];

/// Runs a command line with further options, which are separated by blanks.
fn output(env: &Environment, line: &str, options: &str) -> Ran {
    env.vusb(line.split(' ').chain(options.split(' ').filter(|it| !it.is_empty())))
}

/// Removes what only the daemon knows from an explanation: the state of the device, and its
/// history.
fn without_daemon(text: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(text) else {
        let is_its = |line: &str| line.starts_with("vusbd ") || line.starts_with("20");
        let lines = text.split_inclusive('\n').filter(|line| !is_its(line));
        return lines.collect();
    };
    let object = value.as_object_mut().unwrap();
    object.remove("state");
    object.remove("history");
    format!("{value}\n")
}

#[test]
fn the_daemon_does_what_the_command_does() {
    for json in ["", "--json"] {
        let (direct, through) = (prepared(), prepared());
        daemon(&through);
        for line in COMMANDS {
            let mut expected = output(&direct, line, json);
            let mut found = output(&through, line, &format!("--daemon socket {json}"));
            if line.starts_with("explain") {
                expected.stdout = without_daemon(&expected.stdout);
                found.stdout = without_daemon(&found.stdout);
            }
            assert_eq!(
                (found.code, &found.stdout, &found.stderr),
                (expected.code, &expected.stdout, &expected.stderr),
                "vusb {line} {json}"
            );
        }
    }
}

/// The daemon and commands that run at the same time use the same locks and claims.
#[test]
fn the_daemon_and_the_command_do_not_conflict() {
    let env = prepared();
    daemon(&env);
    let lines: Vec<String> = (0..16)
        .map(|number| {
            let how = if number % 2 == 0 { "--daemon socket" } else { "--direct" };
            format!("device add sim:a tablet --name t{number} {how}")
        })
        .collect();
    let running: Vec<_> = lines.iter().map(|line| env.start(line)).collect();
    for (line, child) in lines.iter().zip(running) {
        let ran = env.ran(&child.wait_with_output().unwrap());
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
    }
    let view = env.json("device list sim:a --direct");
    let mut names: Vec<&str> =
        view["devices"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 16, "{names:?}");
    // A device is only given to one domain.
    let lines = ["device add sim:a 1-4 --daemon socket", "device add sim:b 1-4 --direct"];
    let running: Vec<_> = lines.iter().map(|line| env.start(line)).collect();
    let codes: Vec<i32> =
        running.into_iter().map(|child| env.ran(&child.wait_with_output().unwrap()).code).collect();
    assert!(codes == [0, 4] || codes == [4, 0], "{codes:?}");
}

/// A device that was detached by hand comes back with `vusb resume`, although the guest is not
/// suspended.
#[test]
fn resume_says_that_it_has_lifted_a_hold() {
    let env = prepared();
    daemon(&env);
    env.run("device add sim:a 1-4 --daemon socket").prints("hci0:1");
    // The daemon has seen that the guest runs and has the device.
    let end = Instant::now() + Duration::from_secs(20);
    while env.json("explain 1-4 --daemon socket")["state"] != "attached" {
        assert!(Instant::now() < end, "the daemon does not know the guest");
        std::thread::yield_now();
    }
    env.run("device remove sim:a 1-4 --daemon socket").says("removed");
    let held = "the hold on what was detached by hand: 1-4";
    let dry = env.run("resume sim:a --dry-run --daemon socket");
    assert_eq!(dry.stderr, format!("sim:a: would lift {held}\n"), "{dry:?}");
    let ran = env.run("resume sim:a --daemon socket");
    assert_eq!(ran.stderr, format!("sim:a: lifted {held}\nsim:a: resumed\n"), "{ran:?}");
    let again = env.run("resume sim:a --daemon socket");
    assert_eq!(again.stderr, "sim:a is not suspended\n", "{again:?}");
}

#[test]
fn a_daemon_that_does_not_answer_is_an_error_that_names_direct() {
    let env = prepared();
    let listener = std::os::unix::net::UnixListener::bind(env.path("socket")).unwrap();
    std::thread::spawn(move || {
        // The listener accepts and closes, like a daemon that is killed during the call.
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    let ran = env.run("device add sim:a tablet --daemon socket");
    ran.fails(1).says("vusbd at socket").says("repeat it with --direct");
    assert!(!env.path("a").exists(), "nothing was done a second time");
    env.run("device add sim:a tablet --daemon elsewhere").fails(7).says("cannot reach vusbd");
    env.run("watch --direct").fails(2).says("only vusbd can do this");
}
