//! Races for one host device: two users, two state folders, two guests.
//!
//! ```text
//!   root,   state a ──▶ device add sim:A ──┐
//!   nobody, state b ──▶ device add sim:B ──┴─▶ one has it; the other is told who
//! ```
//!
//! In some races the device still has the claim of a guest that has ended, and both find it stale.
//!
//! The promises: exactly one command succeeds, the other ends with 4 and names the winner, the
//! winner's guest has the device, and the loser's has not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::limited_command::{self, Finished};
use super::sandbox::Sandbox;
use super::{Context, Figures};
use crate::cargo::Result;

/// The user of the second guest: `nobody`.
const OTHER: u32 = 65534;

/// The host device.
const STICK: &str = "0781:5581";

const LIMIT: Duration = Duration::from_secs(60);

/// Every so many races begin with a stale claim.
const STALE: usize = 4;

/// One side of a race.
#[derive(Clone, Copy)]
struct Side {
    /// The letter of its guest and its state folder.
    letter: char,
    uid: u32,
}

impl Side {
    fn guest(self) -> String {
        format!("sim:{0}/{0}", self.letter)
    }
}

/// A sandbox with a stick, a folder for the claims of all users, and a folder of each side.
struct Stage(Sandbox);

impl Stage {
    fn new(vusb: &Path) -> Result<Stage> {
        let stage = Stage(Sandbox::new(vusb)?);
        fs::set_permissions(stage.path(""), Permissions::from_mode(0o755))?;
        let device = stage.path("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-4");
        let pci = stage.path("machine/sys/bus/pci");
        let claims = stage.path("machine/run/vusb/claims");
        for folder in [&device, &pci, &claims] {
            fs::create_dir_all(folder)?;
        }
        symlink(&pci, stage.path("machine/sys/devices/pci0000:00/0000:00:14.0/subsystem"))?;
        for (file, text) in [
            ("busnum", "1"),
            ("devnum", "4"),
            ("bDeviceClass", "00"),
            ("speed", "480"),
            ("idVendor", "0781"),
            ("idProduct", "5581"),
        ] {
            fs::write(device.join(file), format!("{text}\n"))?;
        }
        symlink(&device, stage.path("machine/sys/bus/usb/devices/1-4"))?;
        // As packaging's tmpfiles.d makes it.
        fs::set_permissions(&claims, Permissions::from_mode(0o1777))?;
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn prepare(&self, side: Side) -> Result<()> {
        let folder = self.path(&side.letter.to_string());
        fs::create_dir(&folder)?;
        Ok(chown(&folder, Some(side.uid), Some(side.uid))?)
    }

    /// Runs the command of a side.
    fn run(&self, side: Side, words: &str) -> Result<Finished> {
        let command = limited_command::command_of(side.uid, self.0.vusb());
        let (state, words) = (format!("{}/state", side.letter), format!("{words} --timeout 30"));
        limited_command::run(&mut self.0.with(command, &state, &words), LIMIT)
    }

    fn must(&self, side: Side, words: &str) -> Result<()> {
        let ran = self.run(side, words)?;
        let failed = || format!("user {}: `vusb {words}` failed: {}", side.uid, ran.stderr);
        if ran.code == Some(0) { Ok(()) } else { Err(failed().into()) }
    }

    /// Gives the device to a guest whose process then ends.
    fn leave_stale_claim(&self, side: Side) -> Result<()> {
        let mut process = Process::start()?;
        let guest = self.path(&format!("{0}/{0}", side.letter));
        let start = process.start_time()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let (boot, pid) = (boot.trim(), process.0.id());
        let owner = format!(r#"{{"boot": "{boot}", "pid": {pid}, "start": {start}}}"#);
        fs::write(&guest, format!(r#"{{"sim": 1, "process": {owner}}}"#))?;
        chown(&guest, Some(side.uid), Some(side.uid))?;
        self.must(side, &format!("device add {} {STICK}", side.guest()))?;
        process.end();
        Ok(())
    }
}

/// A process that a guest could run in.
struct Process(Child);

impl Process {
    fn start() -> Result<Process> {
        Ok(Process(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn()?))
    }

    /// Field 22 of `proc_pid_stat(5)`.
    fn start_time(&self) -> Result<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        Ok(rest.split(' ').nth(19).ok_or("no start time")?.to_owned())
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// One race. Returns the winner.
fn race(stage: &Stage, sides: [Side; 2]) -> Result<Side> {
    let ran = std::thread::scope(|scope| {
        let one = |side: Side| {
            let words = format!("device add {} {STICK}", side.guest());
            scope.spawn(move || stage.run(side, &words).map_err(|it| it.to_string()))
        };
        sides.map(one).map(|it| it.join().map_err(|_| "a thread panicked".to_owned()))
    });
    let [first, second] = ran;
    let (first, second) = (first??, second??);
    if let Some(why) = first.broken().or_else(|| second.broken()) {
        return Err(why.into());
    }
    let [a, b] = sides;
    let (winner, loser, told) = match (first.code, second.code) {
        (Some(0), Some(4)) => (a, b, &second.stderr),
        (Some(4), Some(0)) => (b, a, &first.stderr),
        codes => {
            let (first, second) = (&first.stderr, &second.stderr);
            return Err(format!("exit codes {codes:?}: {first} {second}").into());
        }
    };
    let name = format!("{0}/{0}", winner.letter);
    if !told.contains(&name) {
        return Err(format!("the loser is not told that {name} has it: {told}").into());
    }
    for (side, has) in [(winner, true), (loser, false)] {
        let guest = fs::read_to_string(stage.path(&format!("{0}/{0}", side.letter)));
        if guest.unwrap_or_default().contains(STICK) != has {
            return Err(format!("{} has the device: it should be {has}", side.guest()).into());
        }
    }
    Ok(winner)
}

/// Whether users can be changed here.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut figures = Figures::default();
    if !is_root() {
        figures.row("not run", "needs root, for a second user");
        return Ok(figures);
    }
    // A copy of the command that every user can run.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let vusb = folder.path().join("vusb");
    fs::copy(&context.vusb, &vusb)?;
    let pairs = [
        ("two users", [Side { letter: 'a', uid: 0 }, Side { letter: 'b', uid: OTHER }]),
        (
            "two state folders of one user",
            [Side { letter: 'a', uid: OTHER }, Side { letter: 'b', uid: OTHER }],
        ),
    ];
    for (what, sides) in pairs {
        let (mut races, mut stale, mut first) = (0, 0, 0);
        for number in 0..context.times(500, 10) {
            let stage = Stage::new(&vusb)?;
            let gone = Side { letter: 'c', uid: if number % 2 == 0 { 0 } else { OTHER } };
            sides.iter().chain([&gone]).try_for_each(|it| stage.prepare(*it))?;
            if number % STALE == 0 {
                stage.leave_stale_claim(gone)?;
                stale += 1;
            }
            races += 1;
            match race(&stage, sides) {
                Ok(winner) => first += usize::from(winner.letter == 'a'),
                Err(why) => figures.broken(format!("race {number} of {what}: {why}")),
            }
        }
        figures.row(format!("races of {what}"), races);
        figures.row(format!("of these, for a device with a stale claim ({what})"), stale);
        figures.row(format!("of these, won by the first ({what})"), first);
    }
    Ok(figures)
}
