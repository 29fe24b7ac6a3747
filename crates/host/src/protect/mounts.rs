//! Mounted filesystems, and swap.
//!
//! A disk can be mounted in one mount namespace only: a container's, or that of a hardened service.
//! So this module reads the `mountinfo` of this process, of process 1, and of one process in each
//! other namespace; on kernels without mountinfo, it reads `/proc/mounts`. It does not see a
//! namespace without a process. Source: proc_pid_mountinfo(5):
//!
//! ```text
//! 36 35 8:17 / /media/stick rw,noatime shared:1 - vfat /dev/sdb1 rw
//!       │      │                                       └ source
//!       │      └ mount point, with spaces as \040
//!       └ device number: an anonymous one (0:45) for btrfs
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::process::{self, Process};
use crate::sysfs;
use crate::text::printable;

/// The maximum length of one of these files in bytes: some hundred thousand mounts.
const MAX_FILE: usize = 32 << 20;

/// The maximum length in bytes of all different lists of other namespaces together. A process can
/// have thousands of namespaces with 100,000 mounts each (`/proc/sys/fs/mount-max`).
const MAX_ELSEWHERE: usize = 64 << 20;

/// The maximum length of a printed mount point in characters.
const MAX_MOUNTPOINT: usize = 1024;

/// One mounted filesystem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The device number, such as `8:17`. `None` if the mount is from `/proc/mounts`.
    pub(crate) number: Option<String>,
    /// What is mounted, such as `/dev/sdb1`.
    pub(crate) source: String,
    /// Where it is mounted, safe to print.
    pub(crate) mountpoint: String,
    /// A process that sees the mount, if neither this process nor process 1 does.
    pub(crate) seen_by: Option<Process>,
}

/// The mounts or the swap cannot be determined, because this file is unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnreadableFile(pub(crate) &'static str);

/// All mounts of block devices: first those that are visible to this process or to process 1, then
/// those of other namespaces.
///
/// Some lists of other users' processes are hidden from all but root, so only lists that are too
/// long count as unreadable there: otherwise no user but root could be given a disk.
pub(crate) fn mounts(root: &Path) -> Result<Vec<Mount>, UnreadableFile> {
    let unreadable = UnreadableFile("/proc/self/mountinfo");
    let own = match read_whole(root, "proc/self/mountinfo") {
        Ok(own) => own,
        Err(ErrorKind::InvalidData) => return Err(unreadable),
        Err(_) => {
            let bytes = read_whole(root, "proc/mounts").map_err(|_| unreadable)?;
            return Ok(lines(&bytes).filter_map(proc_mounts).collect());
        }
    };
    let of_init = match read_whole(root, "proc/1/mountinfo") {
        Err(ErrorKind::InvalidData) => return Err(UnreadableFile("/proc/1/mountinfo")),
        list => list.unwrap_or_default(),
    };
    let here = lines(&of_init).chain(lines(&own));
    let mut mounts: Vec<Mount> = here.filter_map(mountinfo).collect();
    mounts.extend(elsewhere(root, [own, of_init])?);
    Ok(mounts)
}

/// The mounts that only processes in other namespaces see. `known` are the lists that were already
/// read.
fn elsewhere(root: &Path, known: [Vec<u8>; 2]) -> Result<Vec<Mount>, UnreadableFile> {
    let mut mounts = Vec::new();
    let mut views: BTreeSet<View> =
        ["proc/self", "proc/1"].into_iter().filter_map(|it| view(&root.join(it))).collect();
    // Only root can read which namespace a process of another user is in. Processes in one
    // namespace have equal lists.
    let mut known = HashSet::from(known);
    let mut left = MAX_ELSEWHERE;
    for pid in process::all(root) {
        let view = view(&process::dir(root, pid));
        if view.is_some_and(|view| !views.insert(view)) {
            continue;
        }
        let bytes = match read_whole(root, &format!("proc/{pid}/mountinfo")) {
            Ok(bytes) if known.contains(&bytes) => continue,
            Ok(bytes) if bytes.len() <= left => bytes,
            Ok(_) | Err(ErrorKind::InvalidData) => {
                return Err(UnreadableFile("/proc/PID/mountinfo"));
            }
            Err(_) => continue,
        };
        left -= bytes.len();
        let mut all: Vec<Mount> = lines(&bytes).filter_map(mountinfo).collect();
        if !all.is_empty() {
            let process = process::by_pid(root, pid);
            all.iter_mut().for_each(|mount| mount.seen_by = Some(process.clone()));
            mounts.extend(all);
        }
        known.insert(bytes);
    }
    Ok(mounts)
}

/// A mount namespace and the root directory in it: processes that share both see the same mounts.
type View = (PathBuf, PathBuf);

/// What the process with this directory sees; `None` if that is hidden from this process.
fn view(process: &Path) -> Option<View> {
    let namespace = fs::read_link(process.join("ns/mnt")).ok()?;
    Some((namespace, fs::read_link(process.join("root")).ok()?))
}

/// The devices and files that are used as swap. A kernel without swap does not have this list.
pub(crate) fn swaps(root: &Path) -> Result<Vec<String>, UnreadableFile> {
    match read_whole(root, "proc/swaps") {
        // The first line is a header.
        Ok(bytes) => {
            Ok(lines(&bytes).skip(1).filter_map(|line| Some(name(fields(line).next()?))).collect())
        }
        // Where proc only shows processes (`subset=pid`), other lists are missing too. A simulated
        // machine may have no proc at all.
        Err(ErrorKind::NotFound)
            if root.join("proc/filesystems").exists() || !root.join("proc").exists() =>
        {
            Ok(Vec::new())
        }
        Err(_) => Err(UnreadableFile("/proc/swaps")),
    }
}

fn read_whole(root: &Path, file: &str) -> Result<Vec<u8>, ErrorKind> {
    sysfs::read_whole(&root.join(file), MAX_FILE).map_err(|error| error.kind())
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_separator = |byte: &u8| *byte == b' ' || *byte == b'\t';
    line.split(is_separator).filter(|field| !field.is_empty())
}

fn mountinfo(line: &[u8]) -> Option<Mount> {
    // Fields are separated by exactly one space, and may be empty.
    let mut fields = line.split(|byte| *byte == b' ');
    let number = fields.nth(2)?;
    let mountpoint = fields.nth(1)?;
    // A field with a dash ends the optional fields; type and source follow.
    let source = fields.skip_while(|field| *field != b"-").nth(2)?;
    // Most mounts are not of a block device. Mounts of btrfs are, but have an anonymous number.
    let of_device = !number.starts_with(b"0:") || source.starts_with(b"/");
    of_device.then(|| Mount {
        number: Some(name(number)),
        source: name(source),
        mountpoint: safe(mountpoint),
        seen_by: None,
    })
}

fn proc_mounts(line: &[u8]) -> Option<Mount> {
    let mut fields = fields(line);
    let (source, mountpoint) = (name(fields.next()?), safe(fields.next()?));
    Some(Mount { number: None, source, mountpoint, seen_by: None })
}

fn name(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn safe(field: &[u8]) -> String {
    printable(&unescape(field), MAX_MOUNTPOINT)
}

/// Undoes the kernel's escapes: a backslash and three octal digits for a space, tab, newline or
/// backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let escape = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                Some((((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), after))
            }
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(number: Option<&str>, source: &str, mountpoint: &str) -> Mount {
        Mount {
            number: number.map(str::to_owned),
            source: source.to_owned(),
            mountpoint: mountpoint.to_owned(),
            seen_by: None,
        }
    }

    #[test]
    fn mountinfo_with_and_without_optional_fields() {
        for optional in ["", "shared:1 ", "shared:1 master:2 propagate_from:3 "] {
            let line = format!(r"36 35 8:17 / /media/my\040stick rw {optional}- vfat /dev/sdb1 rw");
            assert_eq!(
                mountinfo(line.as_bytes()),
                Some(mount(Some("8:17"), "/dev/sdb1", "/media/my stick"))
            );
        }
    }

    #[test]
    fn an_empty_source_is_not_the_next_field() {
        let line = b"36 35 8:17 / /x rw - vfat  /dev/sdb1";
        assert_eq!(mountinfo(line), Some(mount(Some("8:17"), "", "/x")));
    }

    #[test]
    fn only_mounts_of_block_devices_are_kept() {
        let line = b"36 35 0:45 / /x rw - btrfs /dev/sdb1 rw";
        assert_eq!(mountinfo(line), Some(mount(Some("0:45"), "/dev/sdb1", "/x")));
        assert_eq!(mountinfo(b"36 35 0:45 / /x rw - tmpfs  /dev/sdb1"), None);
        assert_eq!(mountinfo(b"36 35 0:45 / /x rw - zfs tank/data rw"), None);
    }

    #[test]
    fn a_mount_point_named_dash_is_not_the_separator() {
        let line = b"36 35 8:17 / - rw - vfat /dev/sdb1 rw";
        assert_eq!(mountinfo(line), Some(mount(Some("8:17"), "/dev/sdb1", "-")));
    }

    #[test]
    fn mount_points_are_safe_to_print() {
        let line = b"/dev/sdb1 /media/\x1b[2J\\012x vfat rw 0 0";
        assert_eq!(proc_mounts(line), Some(mount(None, "/dev/sdb1", "/media/?[2J?x")));
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for line in ["", "36", "36 35 8:17 / /x rw - vfat", "36 35 8:17 / /x rw"] {
            assert_eq!(mountinfo(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn escapes_have_three_octal_digits() {
        assert_eq!(unescape(br"a\040b\134\011"), b"a b\\\t");
        assert_eq!(unescape(br"\04 \9 \"), br"\04 \9 \");
        assert_eq!(unescape(br"\777\377"), b"\\777\xff");
    }
}
