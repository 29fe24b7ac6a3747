//! Folders and files that only vusb writes: records, their index, claims, locks.
//!
//! What is read from them decides which guest is changed, often by root. So a folder is only used
//! if no other user can replace what is in it, and a file in it is never reached through a link.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::Error;

/// Flags for a file of vusb's own: a link is not followed, and a FIFO is not waited for.
const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);

/// The sticky bit: in a folder that has it, only the owner of a file can remove the file.
const STICKY: u32 = 0o1000;

/// Checks that only root and this user can replace this user's files in the folder. A folder that
/// does not exist is safe. The folder may be reached through a link that root or this user made.
///
/// # Errors
/// [`Error::UnsafeFolder`], or the folder cannot be examined.
pub(crate) fn check_folder(path: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("examine", path, error);
    let link = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed)?,
    };
    if link.is_symlink() {
        if let Some(owner) = other_owner(&link) {
            let why = format!("it is a symbolic link of user {owner}");
            return Err(Error::UnsafeFolder { path: path.to_owned(), why });
        }
    }
    check_metadata(path, &fs::metadata(path).map_err(failed)?)
}

/// As [`check_folder`], for a folder that is open.
///
/// # Errors
/// [`Error::UnsafeFolder`].
pub(crate) fn check_metadata(path: &Path, folder: &Metadata) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::UnsafeFolder { path: path.to_owned(), why });
    if !folder.is_dir() {
        return wrong("it is not a folder".to_owned());
    }
    if let Some(owner) = other_owner(folder) {
        return wrong(format!("it belongs to user {owner}, who can replace the files in it"));
    }
    if folder.mode() & 0o022 != 0 && folder.mode() & STICKY == 0 {
        return wrong("other users may write to it, and it is not sticky".to_owned());
    }
    Ok(())
}

/// The owner, unless it is root or this user.
fn other_owner(metadata: &Metadata) -> Option<u32> {
    let owner = metadata.uid();
    (owner != 0 && owner != rustix::process::geteuid().as_raw()).then_some(owner)
}

/// Opens a file; `None` if it does not exist.
///
/// # Errors
/// It cannot be opened, or is a link or anything other than a regular file.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    match open_with(OpenOptions::new().read(true), path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file with these options, which also decide whether it is created.
///
/// # Errors
/// As [`open`]; or it does not exist.
pub(crate) fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(FLAGS.bits() as i32).open(path).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => wrong_type("it is a symbolic link"),
            _ => error,
        }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(wrong_type("it is not a regular file")) }
}

fn wrong_type(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The bytes of an open file, at most `limit`.
///
/// # Errors
/// It cannot be read, or is longer.
pub(crate) fn read(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|length| length <= limit) {
        return Ok(bytes);
    }
    let why = format!("it is larger than {} KiB", limit >> 10);
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_may_write_to_is_not_safe() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        check_folder(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        for (mode, safe) in
            [(0o700, true), (0o755, true), (0o1777, true), (0o770, false), (0o702, false)]
        {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            let checked = check_folder(&folder);
            assert_eq!(checked.is_ok(), safe, "{mode:o}: {checked:?}");
        }
    }

    #[test]
    fn a_folder_or_a_link_of_another_user_is_not_safe() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, link) = (dir.path().join("state"), dir.path().join("link"));
        fs::create_dir(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        check_folder(&link).unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::lchown(&link, Some(65534), None).is_err() {
            return;
        }
        let error = check_folder(&link).unwrap_err().to_string();
        assert!(error.contains("a symbolic link of user 65534"), "{error}");
        check_folder(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
        let error = check_folder(&folder).unwrap_err().to_string();
        assert!(error.contains("it belongs to user 65534"), "{error}");
    }

    #[test]
    fn only_a_regular_file_of_limited_size_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        assert!(open(&file).unwrap().is_none());
        fs::write(&file, [b'x'; 3000]).unwrap();
        let opened = open(&file).unwrap().unwrap();
        assert_eq!(read(&opened, 3000).unwrap().len(), 3000);
        let error = read(&open(&file).unwrap().unwrap(), 2048).unwrap_err().to_string();
        assert_eq!(error, "it is larger than 2 KiB");
        symlink(&file, &link).unwrap();
        assert_eq!(open(&link).unwrap_err().to_string(), "it is a symbolic link");
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [dir.path(), &fifo] {
            assert_eq!(open(path).unwrap_err().to_string(), "it is not a regular file");
        }
    }

    #[test]
    fn a_file_in_place_of_a_folder_or_of_its_parent_is_not_safe() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &file.join("state")] {
            check_folder(path).unwrap_err();
        }
    }
}
