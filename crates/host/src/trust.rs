//! Whether a user other than root and the user of this process can decide what is at a path.
//!
//! ```text
//! / ──▶ srv ──▶ vms ──▶ stick.img
//! └───────┬───────┘
//!  each folder belongs to root or this user, and others may not write to it;
//!  or it is sticky, and the next entry belongs to root or this user
//! ```

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

/// The permission bit with which only the owner of an entry can replace it.
const STICKY: u32 = 0o1000;

/// The permission bits with which the group or others can replace entries.
const WRITABLE: u32 = 0o022;

/// How many links are followed in one path: as many as the kernel follows (`MAXSYMLINKS` in Linux,
/// `include/linux/namei.h`).
const MAX_LINKS: usize = 40;

/// Why another user can replace what is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaceable {
    /// It belongs to the user with this number.
    OfUser(u32),
    /// It is a folder that others may write to.
    Writable,
}

impl fmt::Display for Replaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replaceable::OfUser(user) => write!(f, "belongs to user {user}"),
            Replaceable::Writable => f.write_str("is a folder that other users may write to"),
        }
    }
}

/// Checks that other users can replace at most their own entries in a folder with this owner and
/// mode. Returns whether they can have entries in it.
///
/// # Errors
/// Other users can replace any entry.
pub fn check_folder(owner: u32, mode: u32) -> Result<bool, Replaceable> {
    check_owner(owner)?;
    let is_shared = mode & WRITABLE != 0;
    if is_shared && mode & STICKY == 0 {
        return Err(Replaceable::Writable);
    }
    Ok(is_shared)
}

/// Checks that a file or folder belongs to root or to this user.
///
/// # Errors
/// It belongs to another user.
pub fn check_owner(owner: u32) -> Result<(), Replaceable> {
    if owner == 0 || owner == geteuid().as_raw() {
        return Ok(());
    }
    Err(Replaceable::OfUser(owner))
}

/// An absolute path without symbolic links, like `canonicalize` in [`fs`]. `None` if it does not
/// exist, or if another user could have made one of the links: that user would then have chosen the
/// file that the path leads to.
pub fn without_links(path: &Path) -> Option<PathBuf> {
    let mut done = PathBuf::from("/");
    let mut to_do = VecDeque::from(parts(path)?);
    let (mut links, mut is_trusted) = (0, true);
    while let Some(part) = to_do.pop_front() {
        if part == ".." {
            done.pop();
            continue;
        }
        let folder = fs::symlink_metadata(&done).ok()?;
        let at = done.join(&part);
        let entry = fs::symlink_metadata(&at).ok()?;
        is_trusted &= match check_folder(folder.uid(), folder.mode()) {
            Ok(is_shared) => !is_shared || check_owner(entry.uid()).is_ok(),
            Err(_) => false,
        };
        if !entry.is_symlink() {
            done = at;
            continue;
        }
        links += 1;
        if !is_trusted || links > MAX_LINKS {
            return None;
        }
        let target = fs::read_link(&at).ok()?;
        if target.is_absolute() {
            done = PathBuf::from("/");
        }
        for part in parts(&Path::new("/").join(&target))?.into_iter().rev() {
            to_do.push_front(part);
        }
    }
    Some(done)
}

/// The names in an absolute path, with `..`. `None` if the path is not absolute.
fn parts(path: &Path) -> Option<Vec<OsString>> {
    let mut all = path.components();
    if all.next() != Some(Component::RootDir) {
        return None;
    }
    Some(all.map(|part| part.as_os_str().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A folder of this user with a file `real/a.img` and links to it.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let folder = guard.path().canonicalize().unwrap();
        set_mode(&folder, 0o755);
        fs::create_dir_all(folder.join("real/below")).unwrap();
        fs::write(folder.join("real/a.img"), "").unwrap();
        symlink(folder.join("real"), folder.join("absolute")).unwrap();
        symlink("real/below/../a.img", folder.join("relative")).unwrap();
        symlink("absolute", folder.join("twice")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        (guard, folder)
    }

    #[test]
    fn links_of_this_user_are_resolved_as_the_kernel_resolves_them() {
        let (_guard, folder) = folder();
        for name in [
            "real/a.img",
            "absolute/a.img",
            "relative",
            "twice/a.img",
            "twice/below/../a.img",
            "absolute/../a.img",
            "real",
            ".",
            "loop",
            "missing",
            "real/a.img/x",
        ] {
            let path = folder.join(name);
            assert_eq!(without_links(&path), fs::canonicalize(&path).ok(), "{name}");
        }
        assert_eq!(without_links(Path::new("a.img")), None);
        assert_eq!(without_links(Path::new("/")), Some("/".into()));
    }

    #[test]
    fn a_link_in_a_folder_that_others_may_write_to_is_not_resolved() {
        let (_guard, folder) = folder();
        for (mode, is_safe) in [(0o755, true), (0o775, false), (0o757, false), (0o1777, true)] {
            set_mode(&folder, mode);
            for name in ["absolute/a.img", "relative"] {
                assert_eq!(without_links(&folder.join(name)).is_some(), is_safe, "{mode:o} {name}");
            }
            // A path without links stays as it is, whoever may write to its folders.
            assert!(without_links(&folder.join("real/a.img")).is_some());
        }
        // Below such a folder, no folder is safe.
        symlink("a.img", folder.join("real/link")).unwrap();
        set_mode(&folder, 0o777);
        assert_eq!(without_links(&folder.join("real/link")), None);
    }

    /// Only root can give a file to another user.
    #[test]
    fn a_link_of_another_user_is_not_resolved() {
        if !geteuid().is_root() {
            return;
        }
        let (_guard, folder) = folder();
        let link = folder.join("relative");
        lchown(&link, Some(1001), None).unwrap();
        assert!(without_links(&link).is_some(), "that user could not have created it here");
        set_mode(&folder, 0o1777);
        assert_eq!(without_links(&link), None);
        set_mode(&folder, 0o755);
        chown(&folder, Some(1001), None).unwrap();
        assert_eq!(without_links(&folder.join("absolute/a.img")), None);
    }
}
