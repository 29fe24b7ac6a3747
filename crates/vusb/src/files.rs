//! Files and folders that are given to a guest: found, made absolute, and checked.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use vusb_model::device::{Chardev, ImageFormat, Kind, Redir, Serial, Storage};

use crate::error::Error;

/// How every qcow2 image begins: `QFI` and 0xfb (QEMU's `docs/interop/qcow2.txt`, header, bytes 0 to 3).
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// The kind with its paths made absolute; the file of a storage device and the folder of an mtp one without symbolic links
/// where they exist, so that one file has one name.
pub(crate) fn absolute(kind: &Kind, folder: &Path) -> Kind {
    let stream = |chardev: &Chardev| match chardev {
        Chardev::File(path) => Chardev::File(join(folder, path)),
        Chardev::Unix { path, server } => {
            Chardev::Unix { path: join(folder, path), server: *server }
        }
        other => other.clone(),
    };
    match kind {
        Kind::Storage(it) => Kind::Storage(Storage { file: real(folder, &it.file), ..it.clone() }),
        Kind::Mtp(it) => {
            let mut it = it.clone();
            it.dir = real(folder, &it.dir);
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

fn real(folder: &Path, path: &str) -> String {
    let path = join(folder, path);
    let real = fs::canonicalize(&path).ok();
    real.and_then(|real| real.to_str().map(str::to_owned)).unwrap_or(path)
}

/// Whether what the kind shows is there and is what it should be.
///
/// # Errors
/// The file or folder is not there, cannot be read or is something else; or, without `force`, a raw image is a qcow2.
pub(crate) fn check(kind: &Kind, force: bool) -> Result<(), Error> {
    match kind {
        Kind::Storage(storage) => check_image(storage, force),
        Kind::Mtp(mtp) => {
            let path = Path::new(&mtp.dir);
            let wrong = Error::WrongFile {
                path: path.to_owned(),
                is: "no folder",
                wanted: "a folder to show as a media player",
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
    use std::os::unix::fs::FileTypeExt;
    let path = Path::new(&storage.file);
    let kind = metadata(path)?.file_type();
    // Looked at before it is opened: to open a pipe would wait for its other end.
    if !kind.is_file() && !kind.is_block_device() {
        let is = if kind.is_dir() { "a folder" } else { "no disk" };
        let wanted = "a file or a block device";
        return Err(Error::WrongFile { path: path.to_owned(), is, wanted });
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(|error| failed(path, error))?;
    file.take(4).read_to_end(&mut start).map_err(|error| failed(path, error))?;
    if storage.format == ImageFormat::Raw && start == QCOW2_MAGIC && !force {
        return Err(Error::LooksLikeQcow2 { path: path.to_owned() });
    }
    Ok(())
}

/// Whether two paths are the same file, by name or by being links to it.
pub(crate) fn same(a: &str, b: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &str| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    a == b || id(a).is_some_and(|id_a| id(b) == Some(id_a))
}
