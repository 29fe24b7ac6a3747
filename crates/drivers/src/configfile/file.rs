//! Reading a file, and replacing it as a whole.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{OFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;
use vusb_formats::spec::MAX_BYTES;

use crate::driver::Error;

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let bytes = bytes(path)?;
    String::from_utf8(bytes)
        .map_err(|error| text(path, &format!("it is no text in UTF-8: {error}")))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| failed("reading", path, &error);
    // A pipe in the file's place does not keep one waiting for its other end.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => missing(path),
        _ => failed(error),
    })?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(text(path, "it is no file"));
    }
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_BYTES {
        return Err(text(path, "it is longer than 16 MiB: is it a configuration?"));
    }
    Ok(bytes)
}

/// Puts `after` in the place of `before`: owner, mode and extended attributes (access control lists and labels are such) stay, a
/// symbolic link is followed, and the file is the old one or the new one whenever the power fails. Other names of it (hard links)
/// keep the old text.
///
/// # Errors
/// It may not be written to; it is not `before` any more, for somebody else has changed it; or the system does not let it be replaced. It
/// is as it was then.
pub(super) fn replace(path: &Path, before: &str, after: &str) -> Result<(), Error> {
    let tell = |doing: &'static str| move |error: io::Error| failed(doing, path, &error);
    let real = fs::canonicalize(path).map_err(tell("following"))?;
    let folder = real.parent().unwrap_or_else(|| Path::new("/"));
    // Opened for writing, though that is done beside it: to replace a file that is read-only is not what its owner wants.
    let old = OpenOptions::new().read(true).write(true).open(&real).map_err(tell("changing"))?;
    let mut new =
        tempfile::Builder::new().prefix(".vusb-").tempfile_in(folder).map_err(|error| {
            let what = format!("writing a new file beside {}, to take its place,", path.display());
            Error::Failed { what, why: error.to_string() }
        })?;
    new.write_all(after.as_bytes()).map_err(tell("writing beside"))?;
    keep_access(&old, new.as_file()).map_err(|error| {
        let what = format!("giving the new {} to those who had the old one", path.display());
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; do it as its owner, or as root",
            _ => "",
        };
        Error::Failed { what, why: format!("{error}{hint}") }
    })?;
    new.as_file().sync_all().map_err(tell("writing beside"))?;
    if bytes(&real)? != before.as_bytes() {
        let why = "another program changed it meanwhile; nothing was written: look at it, and do it again";
        return Err(Error::Failed {
            what: format!("editing {}", path.display()),
            why: why.to_owned(),
        });
    }
    new.persist(&real).map_err(|error| failed("replacing", path, &error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(tell("writing"))
}

/// Makes a file everything to everybody that another is.
fn keep_access(old: &File, new: &File) -> io::Result<()> {
    let (was, is) = (old.metadata()?, new.metadata()?);
    if (is.uid(), is.gid()) != (was.uid(), was.gid()) {
        fchown(new, Some(was.uid()), Some(was.gid()))?;
    }
    for name in attributes(old)? {
        let value = whole(|buffer| fgetxattr(old, &*name, buffer))?;
        match fsetxattr(new, &*name, &value, XattrFlags::empty()) {
            // Labels and the like, which the system gives to new files itself. An access control list is not let go.
            Err(Errno::PERM | Errno::ACCESS) if !name.to_bytes().starts_with(b"system.") => {}
            set => set?,
        }
    }
    // After the owner, whose change takes some bits away.
    new.set_permissions(fs::Permissions::from_mode(was.mode() & 0o7777))
}

/// The names of a file's extended attributes: none where the file system has no such thing.
fn attributes(file: &File) -> io::Result<Vec<CString>> {
    let list = match whole(|buffer| flistxattr(file, buffer)) {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        list => list?,
    };
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of `linux/limits.h`: how long all names of attributes, and a value, are at the most.
const ATTRIBUTE_MAX: usize = 65_536;

/// What `read` fills a buffer with.
fn whole(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; ATTRIBUTE_MAX];
    let length = read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn missing(path: &Path) -> Error {
    let why = "there is no such file".to_owned();
    Error::Missing { what: path.display().to_string(), why }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::Failed { what: format!("{doing} {}", path.display()), why: error.to_string() }
}

fn text(path: &Path, why: &str) -> Error {
    Error::Text { message: format!("{} cannot be read: {why}", path.display()), category: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_followed_and_the_mode_stays() {
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

    /// An access control list as the kernel has it (`linux/posix_acl_xattr.h`): version 2, then tag, permissions and id of each: user 65534
    /// may read beside owner, group and others, as far as the mask lets them.
    const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xfe\xff\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

    #[test]
    fn access_control_lists_and_attributes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, "before").unwrap();
        let old = File::open(&path).unwrap();
        let (acl, note) = (c"system.posix_acl_access", c"user.note");
        // Not every file system has them.
        for (name, value) in [(acl, ACL), (note, b"mine")] {
            if let Err(error) = fsetxattr(&old, name, value, XattrFlags::empty()) {
                eprintln!("not tested: {name:?} cannot be set on this file system: {error}");
                return;
            }
        }
        replace(&path, "before", "after").unwrap();
        let new = File::open(&path).unwrap();
        for (name, value) in [(acl, ACL), (note, b"mine")] {
            assert_eq!(whole(|buffer| fgetxattr(&new, name, buffer)).unwrap(), value);
        }
        assert_eq!(new.metadata().unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn what_is_read_only_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        // root may write to it all the same.
        let may = OpenOptions::new().write(true).open(&path).is_ok();
        assert_eq!(replace(&path, "before", "after").is_ok(), may);
        assert_eq!(fs::read_to_string(&path).unwrap(), if may { "after" } else { "before" });
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, "theirs").unwrap();
        let error = replace(&path, "read before", "ours").unwrap_err().to_string();
        assert!(error.contains("another program changed it meanwhile"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        for (path, says) in
            [(dir.path().to_owned(), "no file"), (dir.path().join("none"), "no such file")]
        {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
