//! Reading a file, and replacing it as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use vusb_formats::spec::MAX_BYTES;

use crate::driver::Error;

/// `O_NONBLOCK` of `asm-generic/fcntl.h`: a pipe in the file's place does not keep one waiting for its other end.
const NONBLOCK: i32 = 0o4000;

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let bytes = bytes(path)?;
    String::from_utf8(bytes)
        .map_err(|error| text(path, &format!("it is no text in UTF-8: {error}")))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| failed("reading", path, &error);
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path).map_err(
        |error| match error.kind() {
            io::ErrorKind::NotFound => missing(path),
            _ => failed(error),
        },
    )?;
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

/// Puts `after` in the place of `before`: owner and mode stay, a symbolic link is followed, and the file is the old one or the new
/// one whenever the power fails. Other names of it (hard links) keep the old text.
///
/// # Errors
/// It is not `before` any more, for somebody else has changed it; or the system does not let it be replaced. It is as it was then.
pub(super) fn replace(path: &Path, before: &str, after: &str) -> Result<(), Error> {
    let tell = |doing: &'static str| move |error: io::Error| failed(doing, path, &error);
    let real = fs::canonicalize(path).map_err(tell("following"))?;
    let folder = real.parent().unwrap_or_else(|| Path::new("/"));
    let old = File::open(&real).and_then(|file| file.metadata()).map_err(tell("reading"))?;
    let mut new = tempfile::Builder::new()
        .prefix(".vusb-")
        .tempfile_in(folder)
        .map_err(tell("writing beside"))?;
    new.write_all(after.as_bytes()).map_err(tell("writing beside"))?;
    let file = new.as_file();
    let now = file.metadata().map_err(tell("writing beside"))?;
    if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid())).map_err(tell("keeping the owner of"))?;
    }
    // After the owner, whose change takes some bits away.
    let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
    file.set_permissions(mode).map_err(tell("keeping the mode of"))?;
    file.sync_all().map_err(tell("writing beside"))?;
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
