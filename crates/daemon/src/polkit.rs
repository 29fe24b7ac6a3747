//! polkit, for callers who are not in the group. polkit may ask them for a password.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use tracing::debug;
use vusb_interface::Access;

/// The action that polkit decides about; `None` if polkit is not asked.
const fn action(access: Access) -> Option<&'static str> {
    match access {
        Access::Group => Some("io.github.vusb.view"),
        Access::GroupForHostDevices => Some("io.github.vusb.attach"),
        Access::Anyone | Access::Superuser => None,
    }
}

/// Whether polkit lets the process at the other end of a socket do what a member of the group may.
/// `false` without polkit. `interactive`: whether polkit may ask the user.
pub(crate) fn authorizes(
    socket: impl AsFd,
    root: &Path,
    access: Access,
    interactive: bool,
) -> bool {
    let Some(action) = action(access) else { return false };
    let pkcheck = root.join("usr/bin/pkcheck");
    if !pkcheck.is_file() {
        return false;
    }
    let Ok(peer) = rustix::net::sockopt::socket_peercred(socket) else { return false };
    let pid = peer.pid.as_raw_nonzero();
    let Some(start) = start_time(pid.get()) else { return false };
    // pkcheck(1): the start time and the user distinguish it from a later process with this ID.
    let process = format!("{pid},{start},{}", peer.uid.as_raw());
    let mut command = Command::new(pkcheck);
    command.args(["--action-id", action, "--process", &process]);
    command.args(interactive.then_some("--allow-user-interaction"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            debug!("pkcheck: {error}");
            false
        }
    }
}

/// When a process was started: proc_pid_stat(5), field 22. The name before may have spaces.
fn start_time(pid: i32) -> Option<u64> {
    // The name need not be UTF-8.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
