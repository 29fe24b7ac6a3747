//! The program `qm` of Proxmox VE.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use vusb_model::remedy::{Reason, Remedy};

use super::Paths;
use crate::driver::Error;
use crate::limits::Limits;

/// How often to check whether `qm` has ended. `qm` takes about a second just to start, so this adds
/// little.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How much of standard error is kept, in bytes.
const MAX_OUTPUT: u64 = 4096;

/// How long to wait for the end of the output after `qm` has ended: a process that `qm` started
/// may keep the pipe open.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);

/// Runs `qm set VMID` with these arguments. Returns what it wrote to standard error, as one line.
///
/// # Errors
/// `qm` cannot be run, fails, or does not end within the limit. It may have made the change even
/// so.
pub(super) fn set(paths: &Paths, arguments: &[String], limits: &Limits) -> Result<String, Error> {
    let what = || format!("qm set {} {}", paths.vmid, arguments.join(" "));
    let failed = |why: String| Error::Failed { what: what(), why: why.into() };
    let mut command = Command::new(paths.qm());
    command.arg("set").arg(paths.vmid.to_string()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (sender, output) = std::sync::mpsc::channel();
    if let Some(mut pipe) = child.stderr.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
            // The receiver may be gone; ignore the error.
            let _ = sender.send(one_line(&bytes));
            // A closed pipe would kill `qm` in the middle of a change.
            let _ = io::copy(&mut pipe, &mut io::sink());
        });
    }
    let limit = limits.next_wait();
    let Some(status) = wait(&mut child, limit).map_err(|error| failed(error.to_string()))? else {
        // `qm` is not killed: it may hold the guest's lock, and its worker would continue anyway. A
        // thread waits for it, because otherwise it would be a zombie until this program ends.
        thread::spawn(move || child.wait());
        let why = Reason::from("qm is still running, and may still make the change");
        let why = why.remedy(Remedy::ListDomain).remedy(Remedy::MoreTime);
        return Err(Error::TimedOut { what: what(), limit, why });
    };
    let text = output.recv_timeout(OUTPUT_WAIT).unwrap_or_default();
    if status.success() {
        return Ok(text);
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown exit status".to_owned(),
    };
    Err(failed(if text.is_empty() { how } else { format!("{how}: {text}") }))
}

/// Waits for the end of a process. `None` if it has not ended within `limit`.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now().checked_add(limit);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Joins the lines of `qm`'s output into one without control characters, so that it can be shown on
/// a terminal.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ").chars().filter(|it| !it.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than the pipe and [`MAX_OUTPUT`] hold: nothing may keep `qm` from finishing its change.
    #[test]
    fn a_program_that_writes_a_lot_is_not_interrupted() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { root: root.path().to_owned(), vmid: 100 };
        // Another process writes the program: if this one did, a child of another test could hold
        // it open, and it could not be executed.
        let install = "mkdir -p usr/sbin; cat > usr/sbin/qm; chmod +x usr/sbin/qm";
        let mut shell = Command::new("sh");
        shell.args(["-c", install]).current_dir(root.path()).stdin(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let program = "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' a >&2 && exit 3";
        io::Write::write_all(&mut shell.stdin.take().unwrap(), program.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        let limits = Limits::from(Duration::from_secs(60));
        let error = set(&paths, &[], &limits).unwrap_err().to_string();
        assert!(error.contains("exit code 3: aaaa"), "{error}");
        assert!(error.len() < 2 * MAX_OUTPUT as usize, "{} bytes", error.len());
    }
}
