//! Reads a file, and replaces it as a whole.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

use vusb_formats::raw_bytes;
use vusb_host::safe_file::{self, OpenError};

use super::edit_lock::{self, EditLock};
use super::pmxcfs;
use crate::driver::Error;
use crate::text::{self, TextError};

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    text::read(path).map_err(|error| match error {
        TextError::Missing => {
            let what = path.display().to_string();
            Error::Missing { what, why: error.to_string().into() }
        }
        TextError::Io(error) => failed("reading", path, &error),
        error => Error::Text {
            message: format!("cannot read {}: {error}", path.display()),
            category: None,
            remedies: Vec::new(),
        },
    })
}

/// Replaces the file's text `before` by `after`. In the file system of a Proxmox VE cluster, its
/// rules are followed ([`pmxcfs`]). Elsewhere the owner, the mode and the extended attributes
/// (which include access control lists and labels) are kept, and a symbolic link is followed. After
/// a power failure the file is either the old one or the new one. Other hard links to it keep the
/// old text. The lock stays with the name.
///
/// # Errors
/// The file is not writable, no longer contains `before` or is another file because another program
/// has changed it, or cannot be replaced: it is then unchanged. Or it was replaced, but its folder
/// cannot be written to the disk.
pub(super) fn replace(
    path: &Path,
    lock: &mut EditLock,
    before: &str,
    after: &str,
) -> Result<(), Error> {
    let failed_at = |doing: &'static str| move |error: io::Error| failed(doing, path, &error);
    let real = fs::canonicalize(path).map_err(failed_at("resolving"))?;
    if pmxcfs::contains(&real) {
        return pmxcfs::replace(&real, lock, before, after);
    }
    let folder = real.parent().unwrap_or_else(|| Path::new("/"));
    // A rename does not need write access to the file itself, but the owner of a read-only file
    // does not want it replaced.
    let old = safe_file::regular(&real, true).map_err(|error| match error {
        OpenError::Io(error) => failed_at("opening for writing")(error),
        error => failed_at("opening for writing")(io::Error::other(error)),
    })?;
    let name = edit_lock::prefix_of_new(&real).unwrap_or_else(|| ".vusb-".to_owned());
    let mut new = tempfile::Builder::new().prefix(&name).tempfile_in(folder).map_err(|error| {
        let what = format!("creating the new file in the folder of {}", path.display());
        Error::Failed { what, why: error.to_string().into() }
    })?;
    // Only a text in another encoding has bytes that must be restored.
    let before_limit = u64::try_from(before.len()).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes_before = Vec::new();
    (&old).take(before_limit).read_to_end(&mut bytes_before).map_err(failed_at("reading"))?;
    let utf8 = bytes_before == before.as_bytes();
    let bytes = if utf8 { after.as_bytes().to_vec() } else { raw_bytes::encode(after) };
    new.write_all(&bytes).map_err(failed_at("writing the new file for"))?;
    keep_access(&old, new.as_file()).map_err(|error| {
        let what = format!("copying owner and permissions of {} to the new file", path.display());
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; retry as its owner or as root",
            _ => "",
        };
        Error::Failed { what, why: format!("{error}{hint}").into() }
    })?;
    new.as_file().sync_all().map_err(failed_at("writing the new file for"))?;
    let lock_of_new = lock.of_new(new.as_file()).map_err(failed_at("locking the new file for"))?;
    check_unchanged(&real, lock, before)?;
    new.persist(&real).map_err(|error| failed("replacing", path, &error.error))?;
    *lock = lock_of_new;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed_at("writing"))
}

/// Checks that the locked file still has its name and its text. If another program has replaced it,
/// the lock no longer keeps other edits away.
pub(super) fn check_unchanged(real: &Path, lock: &EditLock, before: &str) -> Result<(), Error> {
    let is_locked = lock.is_at(real).map_err(|error| failed("checking the lock of", real, &error));
    if is_locked? && read(real)? == before {
        return Ok(());
    }
    let why = "another program has changed it since it was read; nothing was written; check the file and retry";
    Err(Error::Failed { what: format!("editing {}", real.display()), why: why.into() })
}

/// Gives a new file the owner, the mode and the extended attributes of the old one.
fn keep_access(old: &File, new: &File) -> io::Result<()> {
    let (before, now) = (old.metadata()?, new.metadata()?);
    if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
        fchown(new, Some(before.uid()), Some(before.gid()))?;
    }
    for name in attributes(old)? {
        let value = read_attribute(|buffer| fgetxattr(old, &*name, buffer))?;
        match fsetxattr(new, &*name, &value, XattrFlags::empty()) {
            // The system sets labels and the like on new files itself. An access control list must
            // not be lost.
            Err(Errno::PERM | Errno::ACCESS) if !name.to_bytes().starts_with(b"system.") => {}
            result => result?,
        }
    }
    // After the owner, because changing that clears the set-user-ID and set-group-ID bits.
    new.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))
}

/// The names of a file's extended attributes. Empty if the file system does not support them.
fn attributes(file: &File) -> io::Result<Vec<CString>> {
    let list = match read_attribute(|buffer| flistxattr(file, buffer)) {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        list => list?,
    };
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

/// The longest list of attribute names and the longest value: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`
/// in `linux/limits.h`.
const ATTRIBUTE_MAX: usize = 65_536;

/// The bytes that `read` puts into a buffer.
fn read_attribute(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; ATTRIBUTE_MAX];
    let length = read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

pub(super) fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::Failed { what: format!("{doing} {}", path.display()), why: error.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::time::Duration;

    fn replace(path: &Path, before: &str, after: &str) -> Result<(), Error> {
        let mut lock = EditLock::take(path, &Duration::ZERO.into())?;
        super::replace(path, &mut lock, before, after)
    }

    #[test]
    fn a_link_is_followed_and_the_mode_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.cfg"), dir.path().join("link.cfg"));
        fs::write(&real, "a\r\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.cfg", &link).unwrap();
        replace(&link, "a\r\n", "b\r\n").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "b\r\n");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    /// An access control list in the kernel's form (`linux/posix_acl_xattr.h`): version 2, then
    /// tag, permissions and id of each entry. Besides the owner, the group and others, user 65534
    /// may read, limited by the mask.
    const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xfe\xff\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

    #[test]
    fn access_control_lists_and_attributes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, "before").unwrap();
        let old = File::open(&path).unwrap();
        let (acl, note) = (c"system.posix_acl_access", c"user.note");
        // Not every file system supports them.
        for (name, value) in [(acl, ACL), (note, b"mine")] {
            if let Err(error) = fsetxattr(&old, name, value, XattrFlags::empty()) {
                eprintln!("not tested: {name:?} cannot be set on this file system: {error}");
                return;
            }
        }
        replace(&path, "before", "after").unwrap();
        let new = File::open(&path).unwrap();
        for (name, value) in [(acl, ACL), (note, b"mine")] {
            assert_eq!(read_attribute(|buffer| fgetxattr(&new, name, buffer)).unwrap(), value);
        }
        assert_eq!(new.metadata().unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn bytes_of_another_encoding_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vmx");
        fs::write(&path, b".encoding = \"GBK\"\ndisplayName = \"\xb2\xe2\"\n").unwrap();
        let before = read(&path).unwrap();
        replace(&path, &before, &format!("{before}usb.present = \"TRUE\"\n")).unwrap();
        let expected: &[u8] =
            b".encoding = \"GBK\"\ndisplayName = \"\xb2\xe2\"\nusb.present = \"TRUE\"\n";
        assert_eq!(fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn a_read_only_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        // root may write to it anyway.
        let may = fs::OpenOptions::new().write(true).open(&path).is_ok();
        assert_eq!(replace(&path, "before", "after").is_ok(), may);
        assert_eq!(fs::read_to_string(&path).unwrap(), if may { "after" } else { "before" });
    }

    #[test]
    fn a_change_by_another_program_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, "theirs").unwrap();
        let error = replace(&path, "read before", "ours").unwrap_err().to_string();
        assert!(error.contains("another program has changed it"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// A file with the text `before`, elsewhere and in the file system of a Proxmox VE cluster.
    fn editable() -> [(tempfile::TempDir, PathBuf); 2] {
        ["", "etc/pve/nodes/pve1/qemu-server"].map(|folder| {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            let path = dir.path().join(folder).join("100.conf");
            fs::write(&path, "before").unwrap();
            (dir, path)
        })
    }

    #[test]
    fn a_second_editor_waits_for_the_first_after_a_replacement_too() {
        for (_dir, path) in editable() {
            let other = || EditLock::take(&path, &Duration::ZERO.into());
            let mut lock = other().unwrap();
            for (before, after) in [("before", "one"), ("one", "two")] {
                super::replace(&path, &mut lock, before, after).unwrap();
                let error = other().unwrap_err();
                assert!(matches!(error, Error::TimedOut { .. }), "{}: {error}", path.display());
            }
            drop(lock);
            let mut lock = other().unwrap();
            super::replace(&path, &mut lock, "two", "three").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        }
    }

    #[test]
    fn an_editor_whose_file_was_replaced_writes_nothing() {
        for (dir, path) in editable() {
            let mut lock = EditLock::take(&path, &Duration::ZERO.into()).unwrap();
            let theirs = dir.path().join("theirs");
            fs::write(&theirs, "before").unwrap();
            fs::rename(&theirs, &path).unwrap();
            // The lock of the first editor is on a file without a name.
            let _other = EditLock::take(&path, &Duration::ZERO.into()).unwrap();
            let error = super::replace(&path, &mut lock, "before", "after").unwrap_err();
            assert!(error.to_string().contains("another program has changed it"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        }
    }

    #[test]
    fn reading_a_folder_or_a_missing_file_fails() {
        let dir = tempfile::tempdir().unwrap();
        for (path, message) in [
            (dir.path().to_owned(), "not a regular file"),
            (dir.path().join("none"), "no such file"),
        ] {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
