//! Processes of this machine, as proc shows them: their names, users and ages, and the files that
//! they have open.
//!
//! A process sees only what it may: the open files of another user's process are hidden from all
//! but root. So if no process is found, one may still have the file open.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sysfs;
use crate::text::printable;

/// The maximum length of a process's name in characters: `TASK_COMM_LEN` less its zero byte (Linux,
/// `include/linux/sched.h`).
const MAX_NAME: usize = 15;

/// How many clock ticks `/proc` counts in a second: `USER_HZ` (Linux,
/// `include/asm-generic/param.h`).
const TICKS_PER_SECOND: u64 = 100;

/// How much of a file of a process is read, in bytes. The longest is `status`, with up to 65536
/// groups (`NGROUPS_MAX` in Linux, `include/uapi/linux/limits.h`) of at most 11 bytes.
const MAX_TEXT: usize = 1 << 20;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number, as this process sees it.
    pub pid: u32,
    /// Its name, at most 15 characters: `qemu-system-x86`. It is safe to print, but the process
    /// chooses it. Empty if it has ended meanwhile.
    pub name: String,
}

impl Process {
    /// The process that has the socket with this inode open, below `root`. `None` if this process
    /// may not see it.
    pub fn with_socket(root: &Path, inode: u32) -> Option<Process> {
        let wanted = format!("socket:[{inode}]");
        let has_it = |pid: &u32| {
            let fds = dir(root, *pid).join("fd");
            let is_it = |name: &String| {
                let target = fs::read_link(fds.join(name));
                target.is_ok_and(|target| target.as_os_str() == wanted.as_str())
            };
            sysfs::names(&fds).iter().any(is_it)
        };
        all(root).into_iter().find(has_it).map(|pid| by_pid(root, pid))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "pid {}", self.pid)
        } else {
            write!(f, "{} (pid {})", self.name, self.pid)
        }
    }
}

/// The numbers of all processes, in ascending order.
pub(crate) fn all(root: &Path) -> Vec<u32> {
    let names = sysfs::names(&root.join("proc"));
    let mut all: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// The directory of a process.
pub(crate) fn dir(root: &Path, pid: u32) -> PathBuf {
    root.join("proc").join(pid.to_string())
}

/// A file of a process, such as `status`. It may contain the name, which need not be UTF-8: the
/// process chooses it, and the kernel cuts it off anywhere.
pub(crate) fn text(root: &Path, pid: u32, file: &str) -> Option<String> {
    let bytes = sysfs::read(&dir(root, pid).join(file), MAX_TEXT).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The process with this number.
pub(crate) fn by_pid(root: &Path, pid: u32) -> Process {
    let name = sysfs::text(&dir(root, pid), "comm", MAX_NAME).unwrap_or_default();
    Process { pid, name }
}

/// The real, effective, saved and filesystem user id in the text of `/proc/PID/status`
/// (`proc_pid_status(5)`). The last one applies when the process opens files.
pub fn user_ids(status: &str) -> Option<[u32; 4]> {
    four_ids(status, "Uid:")
}

/// The real, effective, saved and filesystem group IDs of a process.
pub(crate) fn group_ids(status: &str) -> Option<[u32; 4]> {
    four_ids(status, "Gid:")
}

fn four_ids(status: &str, key: &str) -> Option<[u32; 4]> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let ids: Option<Vec<u32>> = line.split_whitespace().map(|it| it.parse().ok()).collect();
    ids?.try_into().ok()
}

/// How long the process has been running. `None` if it has ended, or `/proc` does not show it.
pub(crate) fn age(root: &Path, pid: u32) -> Option<Duration> {
    // Field 22 of `proc_pid_stat(5)`, counted from the state, which is field 3. The name before it
    // may contain anything.
    let stat = text(root, pid, "stat")?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let start: u64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let uptime = sysfs::word(&root.join("proc"), "uptime")?;
    let (seconds, rest) = uptime.split_ascii_whitespace().next()?.split_once('.')?;
    let (seconds, hundredths): (u64, u64) = (seconds.parse().ok()?, rest.parse().ok()?);
    let ticks = seconds.checked_mul(TICKS_PER_SECOND)?.checked_add(hundredths)?;
    // `start` can exceed `ticks`: the files are read one after the other, and both are rounded.
    Some(Duration::from_millis(ticks.saturating_sub(start).checked_mul(1000 / TICKS_PER_SECOND)?))
}

/// Whether the process has the node at `node` open. `None` if its open files cannot be read. A
/// block device is also found by its number, because it has several names.
pub(crate) fn has_open(root: &Path, pid: u32, node: &Path) -> Option<bool> {
    let node = node.strip_prefix("/").unwrap_or(node);
    let block = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        metadata.file_type().is_block_device().then(|| metadata.rdev())
    };
    let number = block(&root.join(node));
    for entry in fs::read_dir(dir(root, pid).join("fd")).ok()? {
        let path = entry.ok()?.path();
        let target = match fs::read_link(&path) {
            Ok(target) => target,
            // It was closed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        // In another mount namespace the same node can be below another directory.
        if target.ends_with(node) {
            return Some(true);
        }
        // The number of a disk that was unplugged may be that of another one now.
        let is_gone = target.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
        let in_dev = target.starts_with("/dev") && !is_gone;
        if in_dev && number.is_some() && block(&path) == number {
            return Some(true);
        }
    }
    Some(false)
}

/// The files of `/dev` that processes have open, as far as this process may see them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenNodes {
    /// The path of a node, as its process opened it, and the process.
    nodes: Vec<(String, Process)>,
}

impl OpenNodes {
    /// Reads the open files of all processes. Only their names are read: asking for more could
    /// block on the server of a network filesystem.
    pub(crate) fn read(root: &Path) -> OpenNodes {
        let mut nodes = Vec::new();
        for pid in all(root) {
            let fds = dir(root, pid).join("fd");
            let open = |name: String| {
                let target = fs::read_link(fds.join(name)).ok()?;
                Some(printable(target.as_os_str().as_encoded_bytes(), 255))
            };
            let mut paths: Vec<String> = sysfs::names(&fds).into_iter().filter_map(open).collect();
            paths.retain(|path| path.starts_with('/') && path.contains("/dev/"));
            if paths.is_empty() {
                continue;
            }
            paths.sort();
            paths.dedup();
            let process = by_pid(root, pid);
            nodes.extend(paths.into_iter().map(|path| (path, process.clone())));
        }
        OpenNodes { nodes }
    }

    /// The processes that have the node `node` open: `/dev/sdb1`. In another mount namespace the
    /// same node can be below another directory.
    pub(crate) fn openers(&self, node: &str) -> Vec<Process> {
        let is_open = |path: &str| path.ends_with(node);
        let open = self.nodes.iter().filter(|(path, _)| is_open(path));
        let mut processes: Vec<Process> = open.map(|(_, process)| process.clone()).collect();
        processes.dedup();
        processes
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_age_of_a_process_is_the_time_since_its_start() {
        let machine = tempfile::tempdir().unwrap();
        let root = machine.path();
        fs::create_dir_all(root.join("proc/7")).unwrap();
        let zeros = "0 ".repeat(18);
        let age = |uptime: &str, stat: &str| {
            fs::write(root.join("proc/uptime"), uptime).unwrap();
            fs::write(root.join("proc/7/stat"), stat).unwrap();
            age(root, 7)
        };
        let stat = format!("7 (a) S (b) S {zeros}12300 1 2\n");
        assert_eq!(age("125.50 99.00\n", &stat), Some(Duration::from_millis(2500)));
        assert_eq!(age("122.99 99.00\n", &stat), Some(Duration::ZERO));
        for (uptime, stat) in [("", &*stat), ("125 1\n", &stat), ("125.50 99.00\n", "7 (a) S 1")] {
            assert_eq!(age(uptime, stat), None, "{uptime:?} {stat:?}");
        }
        // A name that the kernel has cut off within a character.
        fs::write(root.join("proc/uptime"), "125.50 99.00\n").unwrap();
        let cut = [b"7 (qemu-system-\xc3".as_slice(), stat.as_bytes()].concat();
        fs::write(root.join("proc/7/stat"), cut).unwrap();
        assert_eq!(super::age(root, 7), Some(Duration::from_millis(2500)));
        assert_eq!(super::age(root, 8), None);
        // The files of a real kernel.
        let own = super::age(Path::new("/"), std::process::id()).unwrap();
        assert!(own < Duration::from_secs(24 * 60 * 60), "{own:?}");
    }

    #[test]
    fn a_process_has_a_node_open_wherever_it_sees_it() {
        let machine = tempfile::tempdir().unwrap();
        let root = machine.path();
        let node = Path::new("/dev/bus/usb/001/004");
        assert_eq!(has_open(root, 7, node), None);
        let files = root.join("proc/7/fd");
        fs::create_dir_all(&files).unwrap();
        assert_eq!(has_open(root, 7, node), Some(false));
        for (number, other) in
            ["/dev/bus/usb/001/014", "/dev/bus/usb/001/004 (deleted)", "socket:[4]"]
                .iter()
                .enumerate()
        {
            symlink(other, files.join(number.to_string())).unwrap();
        }
        assert_eq!(has_open(root, 7, node), Some(false));
        symlink("/container/dev/bus/usb/001/004", files.join("9")).unwrap();
        assert_eq!(has_open(root, 7, node), Some(true));
        // A file that is not a link cannot be read as one.
        fs::create_dir_all(root.join("proc/8/fd")).unwrap();
        fs::write(root.join("proc/8/fd/0"), "").unwrap();
        assert_eq!(has_open(root, 8, node), None);
    }
}
