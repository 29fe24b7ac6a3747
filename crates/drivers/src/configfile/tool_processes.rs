//! The processes of a format's tool that would overwrite an edit of its file.
//!
//! ```text
//!  /proc/PID/cmdline ──▶ does it run the guest, or is it the tool's service? ──▶ the edit is refused
//! ```
//!
//! Only processes of root and of the file's owner count: any user can start a process with any
//! name. What cannot be seen this way is a guest that another user runs from the same file, one on
//! another machine, one outside of the container that vusb runs in, and any process that `/proc`
//! hides (`hidepid`).

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use vusb_formats::{HeldBy, ToolProcesses};

/// How much of a command line is read, in bytes. VirtualBox's have less than 300.
const MAX_COMMAND_LINE: u64 = 16 << 10;

/// A process, and why it would overwrite an edit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) held_by: HeldBy,
}

/// The first process below `root` that would overwrite the file of `owner`. Processes that cannot
/// be read are skipped.
pub(super) fn holder(root: &Path, owner: u32, tool: &ToolProcesses) -> Option<Holder> {
    let entries = fs::read_dir(root.join("proc")).ok()?;
    let mut found: Vec<Holder> = entries
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let pid = folder.file_name()?.to_str()?.parse().ok()?;
            let held_by = held_by(&folder, owner, tool)?;
            Some(Holder { pid, held_by })
        })
        .collect();
    // The guest is the better reason.
    found.sort_by_key(|it| (it.held_by != HeldBy::Guest, it.pid));
    found.into_iter().next()
}

fn held_by(folder: &Path, owner: u32, tool: &ToolProcesses) -> Option<HeldBy> {
    let mut bytes = Vec::new();
    let file = File::open(folder.join("cmdline")).ok()?;
    file.take(MAX_COMMAND_LINE).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let arguments: Vec<&str> = text.split_terminator('\0').collect();
    let held_by = tool.held_by(&arguments)?;
    let user = fs::metadata(folder).ok()?.uid();
    (user == owner || user == 0 && held_by == HeldBy::Guest).then_some(held_by)
}

/// Why the edit is refused.
pub(super) fn refusal(holder: &Holder, tool: &ToolProcesses) -> String {
    let Holder { pid, held_by } = holder;
    match held_by {
        HeldBy::Guest => format!(
            "process {pid} runs the guest and would overwrite the file; shut the guest down first"
        ),
        HeldBy::Service => format!(
            "{} (process {pid}) has the file in memory and would overwrite it; close all programs of its tool, and retry a few seconds later",
            tool.service
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0b2a46ca-c48e-4706-bf7b-cef2c43ff445";

    fn tool() -> ToolProcesses {
        ToolProcesses {
            runners: &["Runner"],
            guest: vec!["Windows 10".to_owned(), UUID.to_owned()],
            service: "Service",
        }
    }

    /// A folder with these processes, all of this user.
    fn root(processes: &[(u32, &[&str])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (pid, arguments) in processes {
            let folder = root.path().join("proc").join(pid.to_string());
            fs::create_dir_all(&folder).unwrap();
            let text: String = arguments.iter().map(|it| format!("{it}\0")).collect();
            fs::write(folder.join("cmdline"), text).unwrap();
        }
        root
    }

    fn found(processes: &[(u32, &[&str])]) -> Option<(u32, HeldBy)> {
        let root = root(processes);
        let owner = fs::metadata(root.path()).unwrap().uid();
        holder(root.path(), owner, &tool()).map(|it| (it.pid, it.held_by))
    }

    #[test]
    fn the_process_of_the_guest_is_found_by_uuid_and_by_name() {
        let braces = format!("{{{}}}", UUID.to_uppercase());
        let joined = format!("--startvm={UUID}");
        for argument in [UUID, &braces, &joined, "Windows 10"] {
            let process: &[&str] = &["/usr/lib/tool/Runner", "--startvm", argument];
            let found = found(&[(7, &["/bin/sh"]), (12, process)]);
            assert_eq!(found, Some((12, HeldBy::Guest)), "{argument}");
        }
    }

    #[test]
    fn another_guest_and_another_program_do_not_count() {
        let other: &[&str] = &["Runner", "--startvm", "other"];
        let editor: &[&str] = &["vi", UUID];
        assert_eq!(found(&[(1, other), (2, editor), (3, &[])]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn the_service_counts_and_the_guest_is_named_first() {
        let service: &[&str] = &["/usr/lib/tool/Service", "--auto-shutdown"];
        assert_eq!(found(&[(5, service)]), Some((5, HeldBy::Service)));
        let runner: &[&str] = &["Runner", UUID];
        assert_eq!(found(&[(5, service), (6, runner)]), Some((6, HeldBy::Guest)));
    }

    #[test]
    fn processes_of_other_users_do_not_count() {
        let root = root(&[(5, &["Service"]), (6, &["Runner", UUID])]);
        let user = fs::metadata(root.path()).unwrap().uid();
        let other = holder(root.path(), user + 1, &tool()).map(|it| it.held_by);
        // Root may run the guests of others.
        assert_eq!(other, (user == 0).then_some(HeldBy::Guest));
    }
}
