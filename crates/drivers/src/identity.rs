//! The identity of a guest, and of the process that it runs in.

use std::fmt;
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// The length of a boot ID: a UUID as text.
const BOOT_ID_LENGTH: usize = 36;

/// Which guest it is, whatever address was used. Compared as a whole; stable for as long as the
/// guest runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GuestIdentity(String);

impl GuestIdentity {
    /// An identity of `scheme`: `value` is unique among its guests.
    pub fn new(scheme: &str, value: impl fmt::Display) -> GuestIdentity {
        GuestIdentity(format!("{scheme}/{value}"))
    }

    /// The identity of a guest that runs in a process of its own, and ends with it.
    pub fn of_process(scheme: &str, process: &Process) -> GuestIdentity {
        let Process { boot, pid, start } = process;
        GuestIdentity::new(scheme, format_args!("{boot}/{pid}/{start}"))
    }

    /// The process that the guest runs in. `None` if it has none of its own, or it is unknown.
    pub fn process(&self) -> Option<Process> {
        let mut parts = self.0.split('/').skip(1);
        let boot = parts.next().filter(|boot| boot.len() == BOOT_ID_LENGTH)?.to_owned();
        let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Process { boot, pid, start })
    }
}

impl fmt::Display for GuestIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A process of this machine. Process IDs are reused; the start time tells two of them apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The boot of the machine: `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The process ID, as this process sees it.
    pub pid: i32,
    /// The start time after the boot, in clock ticks: field 22 of `proc_pid_stat(5)`.
    pub start: u64,
}

/// The state of a process in `/proc/PID/stat`.
struct Stat {
    /// `R`, `S`, ... `Z` is a zombie, `X` is dead.
    state: char,
    threads: u32,
    start: u64,
}

impl Process {
    /// The process that has this ID now. `None` if there is none, or `/proc` does not show it.
    pub fn with_id(pid: i32) -> Option<Process> {
        let start = stat(pid)?.start;
        Some(Process { boot: boot()?, pid, start })
    }

    /// Whether the process has certainly ended. A process that cannot be examined is taken to be
    /// alive.
    pub fn has_ended(&self) -> bool {
        if boot().is_some_and(|boot| boot != self.boot) {
            return true;
        }
        let Some(pid) = Pid::from_raw(self.pid) else { return true };
        // A signal is tried before /proc is read, because /proc may hide the processes of other
        // users (`hidepid`).
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        stat(self.pid).is_some_and(|now| now.start != self.start || now.is_dead())
    }
}

impl Stat {
    /// A zombie has closed its files. A main thread that has ended may leave others running.
    const fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

fn boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned()).filter(|boot| boot.len() == BOOT_ID_LENGTH)
}

fn stat(pid: i32) -> Option<Stat> {
    // The name in it need not be UTF-8.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat))
}

/// `PID (COMM) STATE ...`; COMM may contain anything, even parentheses.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(") ")?;
    // The rest begins with field 3.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let threads = fields.nth(16)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, threads, start })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_part_of_the_identity_of_its_guest() {
        let own = Process::with_id(std::process::id() as i32).unwrap();
        assert_eq!(GuestIdentity::of_process("qemu", &own).process(), Some(own));
        for text in ["xen/0f0f", "qemu/a/1/2", "qemu", "sim/b/c"] {
            assert_eq!(GuestIdentity(text.to_owned()).process(), None, "{text}");
        }
    }

    #[test]
    fn a_process_has_ended_once_it_is_a_zombie() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::with_id(child.id() as i32).unwrap();
        assert!(!process.has_ended());
        let reused = Process { start: process.start + 1, ..process.clone() };
        let rebooted = Process { boot: "0".repeat(36), ..process.clone() };
        assert!(reused.has_ended() && rebooted.has_ended());
        child.kill().unwrap();
        while !process.has_ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.has_ended());
        assert_eq!(Process::with_id(0), None);
    }

    #[test]
    fn a_command_name_may_contain_anything() {
        let stat = parse_stat(
            "7 (a) S (b) Z 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0 18446744073709551615",
        );
        let Stat { state, threads, start } = stat.unwrap();
        assert_eq!((state, threads, start), ('Z', 3, 4711));
        assert!(parse_stat("7 (cat) R 1").is_none());
    }
}
