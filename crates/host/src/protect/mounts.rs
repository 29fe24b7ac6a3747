//! What is mounted, and what is swapped to.
//!
//! `/proc/self/mountinfo` and `/proc/1/mountinfo` together, because this process may live in a mount namespace of its own
//! (a container, a hardened service); `/proc/mounts` where there is no mountinfo. Source: proc_pid_mountinfo(5):
//!
//! ```text
//! 36 35 8:17 / /media/stick rw,noatime shared:1 - vfat /dev/sdb1 rw
//!       │      │                                       └ source
//!       │      └ mount point, with blanks as \040
//!       └ device number: a number that stands for nothing (0:45) for btrfs
//! ```

use std::io::ErrorKind;
use std::path::Path;

use crate::sysfs;
use crate::text::printable;

/// The most that is read of one of these files, in bytes: some hundred thousand mounts.
const LIMIT: usize = 32 << 20;

/// How much of a mount point is shown, in characters.
const SHOWN: usize = 1024;

/// One mounted filesystem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The device number, such as `8:17`.
    pub(crate) number: Option<String>,
    /// What was mounted, such as `/dev/sdb1`.
    pub(crate) source: String,
    /// Where, safe to show.
    pub(crate) mountpoint: String,
}

/// The file that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown(pub(crate) &'static str);

/// All that is mounted, as far as it can be seen.
pub(crate) fn mounts(root: &Path) -> Result<Vec<Mount>, Unknown> {
    let of_this = whole(root, "proc/self/mountinfo");
    // Only root may read the first process's; without it there is still one's own.
    let of_first = whole(root, "proc/1/mountinfo").unwrap_or_default();
    match of_this {
        Ok(bytes) => {
            let lines = |bytes: &[u8]| lines(bytes).filter_map(mountinfo).collect::<Vec<_>>();
            let mut mounts = lines(&of_first);
            mounts.extend(lines(&bytes));
            Ok(mounts)
        }
        Err(_) => {
            let bytes = whole(root, "proc/mounts").map_err(|_| Unknown("/proc/self/mountinfo"))?;
            Ok(lines(&bytes).filter_map(plain).collect())
        }
    }
}

/// The devices and files that are swapped to. A kernel without swap has no such list.
pub(crate) fn swaps(root: &Path) -> Result<Vec<String>, Unknown> {
    match whole(root, "proc/swaps") {
        // The first line is a heading.
        Ok(bytes) => {
            Ok(lines(&bytes).skip(1).filter_map(|line| Some(name(fields(line).next()?))).collect())
        }
        Err(ErrorKind::NotFound) if root.join("proc/self").exists() => Ok(Vec::new()),
        Err(_) => Err(Unknown("/proc/swaps")),
    }
}

/// A whole file. One that is longer than the limit counts as unreadable: half of the mounts would be a wrong answer.
fn whole(root: &Path, file: &str) -> Result<Vec<u8>, ErrorKind> {
    let bytes = sysfs::read(&root.join(file), LIMIT).map_err(|error| error.kind())?;
    if bytes.len() < LIMIT { Ok(bytes) } else { Err(ErrorKind::InvalidData) }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    line.split(blank).filter(|field| !field.is_empty())
}

fn mountinfo(line: &[u8]) -> Option<Mount> {
    // Exactly one blank is between two fields, and a field may be empty.
    let mut fields = line.split(|byte| *byte == b' ');
    let number = fields.nth(2)?;
    let mountpoint = fields.nth(1)?;
    // A few optional fields end with a dash of their own; type and source follow.
    let source = fields.skip_while(|field| *field != b"-").nth(2)?;
    Some(Mount { number: Some(name(number)), source: name(source), mountpoint: shown(mountpoint) })
}

fn plain(line: &[u8]) -> Option<Mount> {
    let mut fields = fields(line);
    Some(Mount { number: None, source: name(fields.next()?), mountpoint: shown(fields.next()?) })
}

fn name(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn shown(field: &[u8]) -> String {
    printable(&unescape(field), SHOWN)
}

/// Undoes the kernel's escapes: a backslash and three octal digits for a blank, a tab, a line end and a backslash.
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
        let line = b"36 35 0:45 / /x rw - tmpfs  /dev/sdb1";
        assert_eq!(mountinfo(line), Some(mount(Some("0:45"), "", "/x")));
    }

    #[test]
    fn a_mount_point_called_dash_is_not_the_separator() {
        let line = b"36 35 8:17 / - rw - vfat /dev/sdb1 rw";
        assert_eq!(mountinfo(line), Some(mount(Some("8:17"), "/dev/sdb1", "-")));
    }

    #[test]
    fn mount_points_are_safe_to_show() {
        let line = b"/dev/sdb1 /media/\x1b[2J\\012x vfat rw 0 0";
        assert_eq!(plain(line), Some(mount(None, "/dev/sdb1", "/media/?[2J?x")));
    }

    #[test]
    fn broken_lines_are_no_mounts() {
        for line in ["", "36", "36 35 8:17 / /x rw - vfat", "36 35 8:17 / /x rw"] {
            assert_eq!(mountinfo(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn escapes_end_where_they_should() {
        assert_eq!(unescape(br"a\040b\134\011"), b"a b\\\t");
        assert_eq!(unescape(br"\04 \9 \"), br"\04 \9 \");
        assert_eq!(unescape(br"\777\377"), b"\\777\xff");
    }
}
