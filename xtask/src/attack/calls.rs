//! Lists the system calls of a command, and injects a fault at one of them. Both use strace, which
//! can make a call fail, or deliver a signal when a call begins.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::cargo::Result;

/// One system call of a command's main thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its name.
    pub(super) name: String,
    /// Which call of this name it is, from 1 on.
    pub(super) nth: usize,
    /// The files that it names, by path or by descriptor.
    pub(super) files: BTreeSet<String>,
}

/// What happens at a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault<'a> {
    /// The process is killed as the call begins.
    Kill,
    /// The call fails with this error.
    Fails(&'static str),
    /// This call fails with this error, and so do all later calls of the same name that access one
    /// of these files. Only calls that access these files are counted.
    KeepsFailing(&'static str, &'a BTreeSet<String>),
}

/// Installs strace if it is missing.
pub(super) fn ensure_strace() -> Result<()> {
    Ok(vusb_rig::packages::ensure_all(&["strace"])?)
}

/// Runs the command and returns the system calls of its main thread, in order.
pub(super) fn of(command: &Command, folder: &Path) -> Result<Vec<Call>> {
    let log = folder.join("strace.log");
    // With -y, descriptors are shown with the paths of their files.
    let output = strace(command, &["-y", "-o", &log.display().to_string()]).output()?;
    let text = fs::read_to_string(&log)?;
    let calls = parse(&text);
    if calls.is_empty() {
        return Err(format!("strace shows no calls: {}", stderr(&output)).into());
    }
    Ok(calls)
}

/// Runs the command with a fault at one call.
pub(super) fn run_with(command: &Command, call: &Call, fault: Fault) -> Result<Output> {
    let Call { name, nth, .. } = call;
    let (what, files) = match fault {
        Fault::Kill => (format!("signal=KILL:when={nth}"), None),
        Fault::Fails(error) => (format!("error={error}:when={nth}"), None),
        Fault::KeepsFailing(error, files) => (format!("error={error}:when={nth}+"), Some(files)),
    };
    let inject = format!("inject={name}:{what}");
    let mut options = vec!["-o", "/dev/null", "-e", &inject];
    options.extend(files.into_iter().flatten().flat_map(|file| ["-P", file]));
    Ok(strace(command, &options).output()?)
}

pub(super) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// The command under strace. All of its threads are followed.
fn strace(command: &Command, options: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(options).arg(command.get_program()).args(command.get_args());
    strace.env_clear().stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        strace.envs(value.map(|value| (name, value)));
    }
    // Only to find strace: the command does not use it.
    strace.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    strace
}

/// The calls of the first process in a log of strace. Each line begins with the process.
fn parse(log: &str) -> Vec<Call> {
    let process = log.split_whitespace().next().unwrap_or_default();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some(rest) = line.strip_prefix(process) else { continue };
        let Some((name, arguments)) = rest.trim_start().split_once('(') else { continue };
        // Not `<... read resumed>`, `+++ exited`, `--- SIGCHLD`, and not the start itself.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name == "execve" || name.is_empty() || !name.bytes().all(is_name) {
            continue;
        }
        let nth = seen.entry(name).or_default();
        *nth += 1;
        // `"/path"` is an argument, and `3</path>` a descriptor.
        let files = arguments.split(['"', '<', '>']).filter(|part| part.starts_with('/'));
        let files = files.map(str::to_owned).collect();
        calls.push(Call { name: name.to_owned(), nth: *nth, files });
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_the_main_thread_are_counted_by_name() {
        let log = "12 execve(\"/bin/vusb\", ...) = 0\n\
                   12 read(3, \"(\", 1) = 1\n\
                   13 read(4, <unfinished ...>\n\
                   12 openat(AT_FDCWD, \"/a\") = 3</a>\n\
                   12 read(3,  <unfinished ...>\n\
                   12 <... read resumed>\"\", 1) = 0\n\
                   12 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
                   12 +++ exited with 0 +++\n";
        let calls = parse(log);
        assert_eq!(calls[1].files, ["/a".to_owned()].into());
        let calls: Vec<_> = calls.into_iter().map(|it| (it.name, it.nth)).collect();
        let expected = [("read", 1), ("openat", 1), ("read", 2)];
        assert_eq!(calls, expected.map(|(name, nth)| (name.to_owned(), nth)));
    }
}
