//! Which processes hold a lock on a file.
//!
//! ```text
//!   /proc/PID/fdinfo/FD:  lock:  1: OFDLCK ADVISORY  READ -1 fe:00:10133507 100 101
//!   /proc/locks:                 1: POSIX  ADVISORY  WRITE 5889 fe:00:5376338 0 EOF
//! ```
//!
//! `/proc/locks` names no process for locks of open file descriptions, which QEMU uses. Their
//! holders are found by the files that they have open, as far as this process may see them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::process::{self, Process};
use crate::sysfs;

/// The holder and the file of a line in the kernel's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lock {
    /// `None` for a lock of an open file description.
    pid: Option<u32>,
    inode: u64,
}

impl Lock {
    /// Parses the part of a line after its number. A line of a waiting process has an arrow (`->`).
    fn parse(text: &str) -> Option<Lock> {
        let mut words = text.split_whitespace();
        let kind = words.next()?;
        if !matches!(kind, "POSIX" | "FLOCK" | "OFDLCK") {
            return None;
        }
        let pid = words.nth(2)?.parse().ok();
        let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
        Some(Lock { pid, inode })
    }

    fn of_line(line: &str) -> Option<Lock> {
        Lock::parse(line.split_once(": ")?.1)
    }
}

/// The processes that hold a lock on the file, except this one, in ascending order.
pub(crate) fn holders(root: &Path, path: &Path) -> Vec<Process> {
    let Ok(file) = fs::metadata(path) else { return Vec::new() };
    let mut pids: Vec<u32> = process::all(root);
    pids.retain(|pid| *pid != std::process::id() && has_lock(root, *pid, (file.dev(), file.ino())));
    let known = fs::read_to_string(root.join("proc/locks")).unwrap_or_default();
    let locks = known.lines().filter_map(Lock::of_line);
    let of_file = locks.filter(|lock| lock.inode == file.ino()).filter_map(|lock| lock.pid);
    // The device in the line is not always that of the file (btrfs), so a lock is found by the
    // inode alone. That is only relied on for processes whose open files are hidden from this
    // process: `has_lock` has checked the others.
    pids.extend(of_file.filter(|pid| fs::read_dir(process::dir(root, *pid).join("fd")).is_err()));
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().map(|pid| process::by_pid(root, pid)).collect()
}

/// Whether the process has a file open that has this device and inode, and holds a lock on it.
fn has_lock(root: &Path, pid: u32, (device, inode): (u64, u64)) -> bool {
    let dir = process::dir(root, pid);
    let holds = |fd: &String| {
        let info = fs::read_to_string(dir.join("fdinfo").join(fd)).unwrap_or_default();
        let locks = info.lines().filter_map(|line| Lock::of_line(line.strip_prefix("lock:")?));
        // The metadata is only read if the inode matches: reading it may block on the server of a
        // network filesystem.
        let mut locks = locks.filter(|lock| lock.inode == inode);
        locks.next().is_some()
            && fs::metadata(dir.join("fd").join(fd))
                .is_ok_and(|file| (file.dev(), file.ino()) == (device, inode))
    };
    sysfs::names(&dir.join("fdinfo")).iter().any(holds)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lines_of_the_kernel_are_parsed() {
        let lock = |pid, inode| Some(Lock { pid, inode });
        for (line, expected) in [
            ("1: OFDLCK ADVISORY  READ -1 fe:00:10133507 100 101", lock(None, 10_133_507)),
            ("2: POSIX  ADVISORY  WRITE 5889 fe:00:7 0 EOF", lock(Some(5889), 7)),
            ("3: FLOCK  ADVISORY  WRITE 20164 fe:00:8 0 EOF", lock(Some(20_164), 8)),
            ("3: -> FLOCK  ADVISORY  WRITE 20165 fe:00:8 0 EOF", None),
            ("4: LEASE  ACTIVE    READ 9 fe:00:8 0 EOF", None),
            ("5: POSIX  ADVISORY", None),
            ("", None),
        ] {
            assert_eq!(Lock::of_line(line), expected, "{line}");
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let image = root.join("a.img");
        fs::write(&image, "").unwrap();
        let inode = fs::metadata(&image).unwrap().ino();
        let line =
            |kind: &str, pid: &str| format!("1: {kind} ADVISORY  WRITE {pid} fe:00:{inode} 0 EOF");
        let process = |pid: &str, name: &str, info: &str| {
            let dir = root.join("proc").join(pid);
            fs::create_dir_all(dir.join("fdinfo")).unwrap();
            fs::create_dir_all(dir.join("fd")).unwrap();
            fs::write(dir.join("comm"), name).unwrap();
            fs::write(dir.join("fdinfo/3"), info).unwrap();
            symlink(&image, dir.join("fd/3")).unwrap();
        };
        process("70", "qemu-system-x86\n", &format!("pos:\t0\nlock:\t{}\n", line("OFDLCK", "-1")));
        // It has the file open, and waits for the lock.
        process("71", "other\n", "pos:\t0\n");
        // Its open files cannot be seen.
        fs::create_dir_all(root.join("proc/72")).unwrap();
        fs::write(root.join("proc/72/comm"), "hidden\n").unwrap();
        fs::write(root.join("proc/locks"), line("POSIX", "72")).unwrap();
        let found: Vec<String> = holders(root, &image).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["qemu-system-x86 (pid 70)", "hidden (pid 72)"]);
        fs::write(root.join("b.img"), "").unwrap();
        assert_eq!(holders(root, &root.join("b.img")), []);
        assert_eq!(holders(root, &root.join("none")), []);
    }
}
