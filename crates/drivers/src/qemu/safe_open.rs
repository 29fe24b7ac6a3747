//! Opens a file only if no other user decides which file that is.
//!
//! ```text
//! / ──▶ srv ──▶ vms ──▶ stick.img      each opened in the folder before it, never through a link
//! └───────┬───────┘         └ a file or block device
//!  no other user can replace an entry (`vusb_host::trust`)
//! ```
//!
//! vusb often runs as root, and QEMU as the user who owns the folder of an image. That user could
//! replace the image by a link to a file that only root may read, and QEMU would receive it open.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fcntl_setfl, fstat, openat, statat};
use rustix::io::Errno;
use vusb_host::trust;

/// The major number of the nodes in `/dev/bus/usb` (`USB_DEVICE_MAJOR` in the kernel's
/// `drivers/usb/core/usb.c`).
const USB_DEVICE_MAJOR: u32 = 189;

/// Why a file was not opened, as a clause in which "it" is vusb.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotOpened(String);

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn failed(path: &Path, error: Errno) -> NotOpened {
    NotOpened(format!("it cannot open {} either: {error}", path.display()))
}

/// Opens a regular file or a block device for reading, and with `write` for writing too.
///
/// # Errors
/// It cannot be opened; it is something else; or another user could replace it, or a folder on its
/// path. A link on the path is refused too: its target was not checked.
pub(super) fn image(path: &Path, write: bool) -> Result<OwnedFd, NotOpened> {
    let folder_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return Err(NotOpened(format!("{} is not an absolute path", path.display())));
    }
    let mut at = Path::new("/").to_owned();
    let mut folder = openat(CWD, "/", folder_flags, Mode::empty()).map_err(|it| failed(&at, it))?;
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(NotOpened(format!("{} is not a canonical path", path.display())));
        };
        let found = fstat(&folder).map_err(|error| failed(&at, error))?;
        let is_shared = check_folder(&at, &found)?;
        at.push(name);
        let entry =
            statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|it| failed(&at, it))?;
        if FileType::from_raw_mode(entry.st_mode) == FileType::Symlink {
            return Err(NotOpened(format!("{} is a symbolic link", at.display())));
        }
        if parts.peek().is_none() {
            check_image(&at, &entry, is_shared)?;
            return open_image(&folder, name.as_ref(), &at, (write, is_shared));
        }
        folder =
            openat(&folder, name, folder_flags, Mode::empty()).map_err(|it| failed(&at, it))?;
        let found = fstat(&folder).map_err(|error| failed(&at, error))?;
        check_entry(&at, &found, is_shared)?;
    }
    Err(NotOpened(format!("{} is a folder", path.display())))
}

/// Opens the last entry of a path. It is checked again, because it may have been replaced.
fn open_image(
    folder: impl AsFd,
    name: &Path,
    at: &Path,
    (write, is_shared): (bool, bool),
) -> Result<OwnedFd, NotOpened> {
    let file = open_at(folder, name, write).map_err(|error| failed(at, error))?;
    check_image(at, &fstat(&file).map_err(|error| failed(at, error))?, is_shared)?;
    make_blocking(&file, at)?;
    Ok(file)
}

/// Opens the node of a USB device for reading and writing.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(super) fn usb_node(path: &Path) -> Result<OwnedFd, NotOpened> {
    let file = open_at(CWD, path, true).map_err(|error| failed(path, error))?;
    let found = fstat(&file).map_err(|error| failed(path, error))?;
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    if !is_device || rustix::fs::major(found.st_rdev) != USB_DEVICE_MAJOR {
        return Err(NotOpened(format!("{} is not a USB device", path.display())));
    }
    make_blocking(&file, path)?;
    Ok(file)
}

/// Opens a file without following a link or waiting for the other end of a FIFO.
fn open_at(folder: impl AsFd, name: &Path, write: bool) -> Result<OwnedFd, Errno> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(folder, name, access | flags, Mode::empty())
}

/// Clears `O_NONBLOCK`, so that QEMU receives the file as if it had opened it itself.
fn make_blocking(file: &OwnedFd, at: &Path) -> Result<(), NotOpened> {
    fcntl_setfl(file, OFlags::empty()).map_err(|error| failed(at, error))
}

/// Checks that other users can replace at most their own entries in the folder. Returns whether
/// they can have entries in it.
fn check_folder(at: &Path, folder: &Stat) -> Result<bool, NotOpened> {
    trust::check_folder(folder.st_uid, folder.st_mode).map_err(|why| replaceable(at, why))
}

/// Checks the owner of an entry, if other users can have entries in its folder.
fn check_entry(at: &Path, entry: &Stat, is_shared: bool) -> Result<(), NotOpened> {
    if !is_shared {
        return Ok(());
    }
    trust::check_owner(entry.st_uid).map_err(|why| replaceable(at, why))
}

fn replaceable(at: &Path, why: impl fmt::Display) -> NotOpened {
    NotOpened(format!("{} {why}, so another user could replace the image", at.display()))
}

/// Checks the file that was opened or is about to be.
fn check_image(at: &Path, entry: &Stat, is_shared: bool) -> Result<(), NotOpened> {
    check_entry(at, entry, is_shared)?;
    match FileType::from_raw_mode(entry.st_mode) {
        // The kernel may allow any user to make a hard link to a file of root.
        FileType::RegularFile if is_shared && entry.st_nlink > 1 => {
            Err(replaceable(at, "has several hard links, and other users may write to its folder"))
        }
        FileType::RegularFile | FileType::BlockDevice => Ok(()),
        _ => Err(NotOpened(format!("{} is neither a file nor a block device", at.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::path::PathBuf;

    use rustix::process::geteuid;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A folder of this user, without links on its path.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        set_mode(&path, 0o755);
        (folder, path)
    }

    fn why(path: &Path) -> String {
        image(path, false).unwrap_err().to_string()
    }

    #[test]
    fn a_file_of_this_user_is_opened() {
        let (_guard, folder) = folder();
        let path = folder.join("a.img");
        assert!(why(&path).contains("No such file or directory"), "{}", why(&path));
        fs::write(&path, "text").unwrap();
        let file = image(&path, true).unwrap();
        let flags = rustix::fs::fcntl_getfl(&file).unwrap();
        assert!(flags.contains(OFlags::RDWR) && !flags.contains(OFlags::NONBLOCK), "{flags:?}");
        let mut text = String::new();
        fs::File::from(image(&path, false).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        // Others may write to the image itself: it is the same file nevertheless.
        set_mode(&path, 0o666);
        assert!(image(&path, true).is_ok());
    }

    #[test]
    fn a_link_at_the_end_or_in_the_middle_is_refused() {
        let (_guard, folder) = folder();
        fs::create_dir(folder.join("real")).unwrap();
        fs::write(folder.join("real/a.img"), "").unwrap();
        symlink(folder.join("real/a.img"), folder.join("a.img")).unwrap();
        symlink("real", folder.join("link")).unwrap();
        let end = folder.join("a.img");
        assert_eq!(why(&end), format!("{} is a symbolic link", end.display()));
        let middle = folder.join("link");
        assert_eq!(why(&middle.join("a.img")), format!("{} is a symbolic link", middle.display()));
        assert!(image(&folder.join("real/a.img"), true).is_ok());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused_unless_it_is_sticky() {
        let (_guard, folder) = folder();
        let shared = folder.join("shared");
        fs::create_dir_all(shared.join("below")).unwrap();
        for path in ["a.img", "below/a.img"] {
            fs::write(shared.join(path), "").unwrap();
        }
        for (mode, is_safe) in
            [(0o755, true), (0o775, false), (0o757, false), (0o1777, true), (0o1775, true)]
        {
            set_mode(&shared, mode);
            for path in ["a.img", "below/a.img"] {
                let opened = image(&shared.join(path), true);
                assert_eq!(opened.is_ok(), is_safe, "{mode:o} {opened:?}");
                if let Err(why) = opened {
                    let why = why.to_string();
                    let name = format!("{} is a folder that other users", shared.display());
                    assert!(why.starts_with(&name), "{why}");
                }
            }
        }
        // Another user may have made the link in a sticky folder.
        set_mode(&shared, 0o1777);
        fs::hard_link(shared.join("a.img"), folder.join("b.img")).unwrap();
        assert!(why(&shared.join("a.img")).contains("several hard links"));
        assert!(image(&folder.join("b.img"), true).is_ok());
    }

    /// Only root can give a file to another user.
    #[test]
    fn what_belongs_to_another_user_is_refused_where_that_user_can_replace_it() {
        if !geteuid().is_root() {
            return;
        }
        let (_guard, folder) = folder();
        let theirs = folder.join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("a.img"), "").unwrap();
        fs::write(folder.join("b.img"), "").unwrap();
        chown(&theirs, Some(1001), None).unwrap();
        let expected = format!("{} belongs to user 1001, so", theirs.display());
        assert!(why(&theirs.join("a.img")).starts_with(&expected));
        chown(folder.join("b.img"), Some(1001), None).unwrap();
        assert!(image(&folder.join("b.img"), true).is_ok());
        set_mode(&folder, 0o1777);
        assert!(why(&folder.join("b.img")).contains("belongs to user 1001"));
    }

    #[test]
    fn nothing_but_a_file_or_a_block_device_is_opened() {
        let (_guard, folder) = folder();
        let fifo = folder.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [&fifo, &folder, Path::new("/dev/null")] {
            assert!(why(path).ends_with("is neither a file nor a block device"), "{}", why(path));
        }
        assert!(usb_node(&fifo).unwrap_err().to_string().ends_with("is not a USB device"));
        let null = usb_node(Path::new("/dev/null")).unwrap_err().to_string();
        assert_eq!(null, "/dev/null is not a USB device");
        assert_eq!(why(Path::new("a.img")), "a.img is not an absolute path");
        assert_eq!(why(Path::new("/")), "/ is a folder");
        assert!(why(&folder.join("../a.img")).ends_with("is not a canonical path"));
    }
}
