//! Files and folders that are attached to a guest: absolute paths, and checks.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::fs::{major, minor};
use vusb_host::safe_file::{self, OpenError};
use vusb_host::trust;
use vusb_model::device::{Chardev, Kind, Redir, Serial, Storage};

use crate::error::Error;
use crate::image;

/// The kind with absolute paths. Symbolic links to the file of a storage device and to the folder
/// of an mtp device are resolved where they exist, so that one file has one name. A path with a
/// link that another user could have made stays as it is: the name is that of whoever attaches the
/// device, and must not become the name of a file that the other user chose.
pub(crate) fn absolute(kind: &Kind, folder: &Path) -> Kind {
    let stream = |chardev: &Chardev| match chardev {
        Chardev::File(path) => Chardev::File(join(folder, path)),
        Chardev::Unix { path, server } => {
            Chardev::Unix { path: join(folder, path), server: *server }
        }
        other => other.clone(),
    };
    match kind {
        Kind::Storage(it) => {
            Kind::Storage(Storage { file: resolved(folder, &it.file), ..it.clone() })
        }
        Kind::Mtp(it) => {
            let mut it = it.clone();
            it.dir = resolved(folder, &it.dir);
            Kind::Mtp(it)
        }
        Kind::Serial(it) => Kind::Serial(Serial { chardev: stream(&it.chardev) }),
        Kind::Redir(it) => Kind::Redir(Redir { chardev: stream(&it.chardev) }),
        other => other.clone(),
    }
}

fn join(folder: &Path, path: &str) -> String {
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined).to_str().unwrap_or(path).to_owned()
}

fn resolved(folder: &Path, path: &str) -> String {
    let path = join(folder, path);
    let real = trust::without_links(Path::new(&path));
    real.and_then(|real| real.to_str().map(str::to_owned)).unwrap_or(path)
}

/// Checks that the file or folder of a device exists and has the right type, and that an image is
/// what it is said to be.
///
/// # Errors
/// It does not exist, has the wrong type or cannot be read; or, without `force`, an image is not
/// what it is said to be, or refers to other files: see [`image::check`].
pub(crate) fn check(kind: &Kind, force: bool) -> Result<(), Error> {
    match kind {
        Kind::Storage(storage) => check_image(storage, force),
        Kind::Mtp(mtp) => {
            let path = Path::new(&mtp.dir);
            let wrong = Error::WrongFile {
                path: path.to_owned(),
                is: "not a folder",
                needed: "a folder to show as a media player",
            };
            if metadata(path)?.is_dir() { Ok(()) } else { Err(wrong) }
        }
        _ => Ok(()),
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, Error> {
    fs::metadata(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoSuchFile { path: path.to_owned() },
        _ => Error::io("read", path, error),
    }
}

fn check_image(storage: &Storage, force: bool) -> Result<(), Error> {
    let path = Path::new(&storage.file);
    safe_file::image(path).map_err(|error| match error {
        OpenError::WrongType(found) => Error::WrongFile {
            path: path.to_owned(),
            is: if found.is_dir() { "a folder" } else { "a special file" },
            needed: "a regular file or a block device",
        },
        OpenError::Io(error) => failed(path, error),
    })?;
    if force { Ok(()) } else { image::check(storage) }
}

/// What all links to a file, or all nodes of a block device, have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileIdentity {
    /// A file, by its file system and its inode there. The inode of a deleted file is used again,
    /// so the identity includes the time when the file was created, in ns since 1970, where the
    /// file system stores that time.
    Inode { device: u64, inode: u64, born: Option<u128> },
    /// A block device, by its device number.
    Block { major: u32, minor: u32 },
}

impl FileIdentity {
    /// The identity of the file at `path`; `None` if it cannot be reached.
    pub(crate) fn of(path: &str) -> Option<FileIdentity> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let metadata = fs::metadata(path).ok()?;
        Some(if metadata.file_type().is_block_device() {
            let number = metadata.rdev();
            FileIdentity::Block { major: major(number), minor: minor(number) }
        } else {
            let born = metadata.created().ok();
            let born = born.and_then(|it| it.duration_since(UNIX_EPOCH).ok());
            let born = born.map(|it| it.as_nanos());
            FileIdentity::Inode { device: metadata.dev(), inode: metadata.ino(), born }
        })
    }

    /// The major and the minor number of a block device.
    pub(crate) const fn block_device(self) -> Option<(u32, u32)> {
        match self {
            FileIdentity::Block { major, minor } => Some((major, minor)),
            FileIdentity::Inode { .. } => None,
        }
    }
}

impl fmt::Display for FileIdentity {
    /// `8:16` for a block device, `2049/4711/1764524800000000000` for a file, or `2049/4711` if it
    /// is unknown when the file was created.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileIdentity::Inode { device, inode, born: None } => write!(f, "{device}/{inode}"),
            FileIdentity::Inode { device, inode, born: Some(born) } => {
                write!(f, "{device}/{inode}/{born}")
            }
            FileIdentity::Block { major, minor } => write!(f, "{major}:{minor}"),
        }
    }
}

/// Whether two paths lead to the same file: the paths are equal, or they are links to one file or
/// nodes of one device.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a == b || FileIdentity::of(a).is_some_and(|id| FileIdentity::of(b) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many file systems use the inode of a deleted file for the next one.
    #[test]
    fn a_new_file_with_the_inode_of_a_deleted_one_is_another_file() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stick.img");
        let create = || {
            fs::write(&path, "").unwrap();
            let metadata = fs::metadata(&path).unwrap();
            (
                metadata.ino(),
                metadata.created().ok(),
                FileIdentity::of(path.to_str().unwrap()).unwrap(),
            )
        };
        let (inode, born, deleted) = create();
        // The clock of a file system ticks every few milliseconds.
        for _ in 0..10_000 {
            fs::remove_file(&path).unwrap();
            let (again, later, new) = create();
            if again == inode && later > born {
                assert_ne!(new, deleted);
                return;
            }
        }
        eprintln!("this file system does not use an inode again, or stores no time of creation");
    }

    #[test]
    fn two_paths_are_the_same_file_by_name_or_by_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for name in ["a", "other"] {
            fs::write(path(name), "").unwrap();
        }
        fs::hard_link(path("a"), path("hard")).unwrap();
        std::os::unix::fs::symlink(path("a"), path("soft")).unwrap();
        for (name, expected) in [("a", true), ("hard", true), ("soft", true), ("other", false)] {
            assert_eq!(same(&path("a"), &path(name)), expected, "{name}");
        }
        assert!(same(&path("gone"), &path("gone")));
        assert!(!same(&path("gone"), &path("lost")));
    }
}
