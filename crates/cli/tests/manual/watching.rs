//! `vusb watch` on a terminal, and `vusb list --svg`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::environment::Environment;

const LIMIT: Duration = Duration::from_secs(60);

/// A terminal in which a command runs.
struct Terminal {
    ours: File,
    theirs: File,
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn run(env: &Environment, words: &str) -> Terminal {
        Terminal::run_by(env, &[], words)
    }

    /// Runs `vusb` through the command `by`, which gets it as its last arguments.
    fn run_by(env: &Environment, by: &[&str], words: &str) -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(name).unwrap();
        resize(&theirs, 80, 24);
        let vusb = env.command(words.split_whitespace());
        // The terminal controls a session, so that Ctrl-C sends a signal.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).args(by).arg(vusb.get_program()).args(vusb.get_args());
        command.current_dir(vusb.get_current_dir().unwrap()).env_clear();
        command.envs(vusb.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("PATH", "/usr/bin:/bin");
        let end = || Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let ours = File::from(ours);
        let (mut reader, shown) = (ours.try_clone().unwrap(), Arc::new(Mutex::new(String::new())));
        let kept = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..count).unwrap());
                kept.lock().unwrap().push_str(&text);
            }
        });
        Terminal { ours, theirs, child, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, what: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        while !what(&self.shown()) {
            assert!(Instant::now() < end, "{:?}", self.shown());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Presses keys, and asserts that the command ends and leaves the terminal as it was.
    #[track_caller]
    fn ends_with(mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "the command does not end: {:?}", self.shown());
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}: {:?}", self.shown());
        self.wait_for(|it| it.contains("\x1b[?25h\x1b[?1049l"));
        let mode = tcgetattr(&self.theirs).unwrap();
        assert!(mode.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
    }
}

fn resize(terminal: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

/// The last drawing.
fn last(shown: &str) -> &str {
    shown.rsplit("\x1b[H").next().unwrap()
}

#[test]
fn trees_are_drawn_again_after_each_change() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    let terminal = Terminal::run(&env, "watch");
    terminal.wait_for(|it| last(it).contains("hci0") && last(it).contains("q: end"));
    env.run("device add sim:S tablet").prints("hci0:1");
    // The new line is bold. The controller's line has changed too.
    terminal.wait_for(|it| last(it).contains("\x1b[1m+ ") && last(it).contains("tablet0"));
    env.run("device remove sim:S tablet0");
    terminal.wait_for(|it| last(it).contains("\x1b[2;9m- ") && last(it).contains("tablet0"));
    assert_eq!(last(&terminal.shown()).matches("\r\n").count(), 23);
    resize(&terminal.theirs, 40, 8);
    terminal
        .wait_for(|it| last(it).matches("\r\n").count() == 7 && last(it).contains("more below"));
    terminal.ends_with("q");
}

#[test]
fn ctrl_c_restores_the_terminal() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    let terminal = Terminal::run(&env, "watch");
    terminal.wait_for(|it| last(it).contains("hci0"));
    terminal.ends_with("\x03");
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    let shell = ["sh", "-mc", "\"$@\"; echo at the prompt; read -r line; fg", "sh"];
    let mut terminal = Terminal::run_by(&env, &shell, "watch");
    terminal.wait_for(|it| last(it).contains("hci0"));
    terminal.ours.write_all(b"\x1a").unwrap();
    terminal.wait_for(|it| it.contains("at the prompt"));
    let modes = || tcgetattr(&terminal.theirs).unwrap().local_modes;
    assert!(modes().contains(LocalModes::ICANON | LocalModes::ECHO));
    let before = terminal.shown();
    let (drawn, prompt) = before.split_once("at the prompt").unwrap();
    assert!(drawn.contains("\x1b[?25h\x1b[?1049l"), "{drawn:?}");
    assert!(!prompt.contains("\x1b[?1049h"), "{prompt:?}");
    terminal.ours.write_all(b"\n").unwrap();
    terminal.wait_for(|it| it.matches("\x1b[?1049h").count() >= 2 && last(it).contains("hci0"));
    assert!(!modes().contains(LocalModes::ICANON));
    terminal.ends_with("q");
}

#[test]
fn ctrl_z_without_a_shell_changes_nothing() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    let mut terminal = Terminal::run(&env, "watch");
    terminal.wait_for(|it| last(it).contains("hci0"));
    terminal.ours.write_all(b"\x1a").unwrap();
    terminal.wait_for(|it| it.matches("\x1b[?1049h").count() >= 2 && last(it).contains("hci0"));
    terminal.ends_with("q");
}

#[test]
fn without_a_terminal_each_change_is_printed() {
    let env = Environment::new();
    env.run("controller add sim:S").prints("hci0");
    let mut child = env.start("watch --tree --ascii");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |word: &str| lines.any(|it| it.unwrap().contains(word));
    assert!(until("`- 0"));
    env.run("device add sim:S mouse").prints("hci0:1");
    assert!(until("mouse0"));
    drop(lines);
    // The reader closes the pipe.
    assert!(child.wait().unwrap().success());
    env.run("watch --daemon nowhere").fails(7).says("vusbd").says("--tree");
}

#[test]
fn a_picture_of_the_machine() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:S 0781:5581 --name stick").prints("hci0:1");
    let svg = env.run("list --svg").stdout;
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<&str> = document.descendants().filter_map(|it| it.text()).collect();
    for text in ["1-4", "Ultra", "stick", "hci0"] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    assert_eq!(env.run("list sim:S --svg").stdout, svg);
    assert!(env.json("list --svg")["svg"].as_str().unwrap().starts_with("<svg "));
    env.run("list --svg --tree").fails(2);
}
