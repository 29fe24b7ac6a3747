//! Images of storage devices: what their format is, and which other files they use.
//!
//! The format of an image is never taken from its content: see [`ImageFormat`]. The content can
//! only be a reason to refuse the image: a raw image that begins or ends like another format, or a
//! qcow2 image that refers to a file elsewhere. A qcow2 image may have a backing file that is read,
//! and a data file that is written to. An image from an untrusted source could name any file of
//! this machine.
//!
//! ```text
//!   disk.qcow2 ─backing─▶ base.qcow2 ─backing─▶ base.img (raw: the end)
//!       └─data─▶ disk.raw     └─data─▶ …
//! ```

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use vusb_host::image::{self as header, Qcow2};
use vusb_host::safe_file::{self, OpenError};
use vusb_host::text::printable;
use vusb_model::device::{ImageFormat, Storage};

use crate::error::Error;

/// The longest chain of backing files that is followed.
const MAX_CHAIN: usize = 64;

/// The longest name of a file in a message, in bytes.
const MAX_SHOWN: usize = 255;

/// The file name extensions of formats that vusb does not support. Those from `.gz` on are of
/// compressed images and archives, which have to be unpacked first.
const UNSUPPORTED_EXTENSIONS: [&str; 15] = [
    ".vmdk", ".vdi", ".vhd", ".vhdx", ".qed", ".qcow", ".hdd", ".dmg", ".gz", ".xz", ".bz2",
    ".zst", ".zip", ".7z", ".ova",
];

/// A file that an image uses besides itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referenced {
    /// The file.
    pub(crate) path: PathBuf,
    /// Whether the guest's data is written to it.
    pub(crate) written: bool,
}

/// The files that an image uses besides itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// The files that are named by a path, the nearest first. They need not exist.
    pub(crate) files: Vec<Referenced>,
    /// Why other files are unknown, each with the image that refers to them.
    unknown: Vec<String>,
}

impl References {
    /// The files that `storage` uses besides its image. Empty if the image cannot be read: the
    /// hypervisor reports the error.
    pub(crate) fn of(storage: &Storage) -> References {
        let mut all = References::default();
        if storage.format == ImageFormat::Qcow2 {
            all.follow(Path::new(&storage.file), !storage.readonly);
        }
        all
    }

    /// Adds what the qcow2 image refers to, and what its backing files refer to.
    fn follow(&mut self, image: &Path, written: bool) {
        let (mut image, mut written) = (image.to_owned(), written);
        for _ in 0..MAX_CHAIN {
            let qcow2 = match read_header(&image) {
                Ok(Some(qcow2)) => qcow2,
                Ok(None) => return,
                Err(why) => return self.unknown.push(format!("{}: {why}", image.display())),
            };
            if let Some(name) = &qcow2.data_file {
                self.add(&image, name, written);
            }
            let Some(backing) = qcow2.backing else { return };
            let Some(path) = self.add(&image, &backing.name, false) else { return };
            let format =
                backing.format.as_deref().map_or_else(|| detected_format(&path), supported_format);
            match format {
                Some("qcow2") => (image, written) = (path, false),
                Some("raw") => return,
                _ => {
                    let why = "what a file of its format refers to is not known";
                    return self.unknown.push(format!("{}: {why}", path.display()));
                }
            }
        }
        self.unknown.push(format!("{}: its chain of backing files is too long", image.display()));
    }

    /// Adds a file that `image` names. `None` if it is not a path.
    fn add(&mut self, image: &Path, name: &[u8], written: bool) -> Option<PathBuf> {
        let Some(path) = referenced_path(image, name) else {
            let shown = printable(name, MAX_SHOWN);
            self.unknown.push(format!("{}: it refers to {shown}", image.display()));
            return None;
        };
        self.files.push(Referenced { path: path.clone(), written });
        Some(path)
    }

    /// For a message: the files that are not in the folder of the image, and why others are
    /// unknown.
    fn elsewhere(&self, image: &Path) -> Vec<String> {
        let folder = resolved(image).parent().map(Path::to_owned);
        let beside = |it: &&Referenced| resolved(&it.path).parent().map(Path::to_owned) == folder;
        let files = self.files.iter().filter(|it| !beside(it)).map(|it| {
            let use_of_it = if it.written { "written to" } else { "read" };
            let name = printable(it.path.as_os_str().as_bytes(), MAX_SHOWN);
            format!("{name}, which would be {use_of_it}")
        });
        files.chain(self.unknown.iter().cloned()).collect()
    }
}

/// The path without symbolic links. If the file does not exist, those of its folder are resolved.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| {
        let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
        match (folder, path.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => path.to_owned(),
        }
    })
}

/// The path that `image` names, relative to its folder as in QEMU (`path_combine`). `None` if QEMU
/// takes it for something else: it has a colon before the first slash (`path_has_protocol`).
fn referenced_path(image: &Path, name: &[u8]) -> Option<PathBuf> {
    let name = name.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
    let first = name.split(|byte| *byte == b'/').next()?;
    if first.contains(&b':') {
        return None;
    }
    Some(image.parent()?.join(OsStr::from_bytes(name)))
}

fn supported_format(format: &[u8]) -> Option<&'static str> {
    ["raw", "qcow2"].into_iter().find(|it| it.as_bytes() == format)
}

/// The format that QEMU detects if the referring image does not state it.
fn detected_format(path: &Path) -> Option<&'static str> {
    let start = first_bytes(path).unwrap_or_default();
    Some(header::format_of(&start).unwrap_or("raw"))
}

/// The first bytes of a file or block device. Empty for anything else, which is not opened.
fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(path, u64::try_from(header::START).unwrap_or(u64::MAX))
}

fn read_up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    match safe_file::image(path) {
        Ok(file) => file.take(limit).read_to_end(&mut start)?,
        Err(OpenError::WrongType(_)) => 0,
        Err(OpenError::Io(error)) => return Err(error),
    };
    Ok(start)
}

/// The last bytes of a file. Empty for a block device: it is a disk, and not an image of another
/// format.
fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match safe_file::regular(path, false) {
        Ok(file) => file,
        Err(OpenError::WrongType(_)) => return Ok(Vec::new()),
        Err(OpenError::Io(error)) => return Err(error),
    };
    let length = file.seek(SeekFrom::End(0))?;
    let size = u64::try_from(header::END).unwrap_or(u64::MAX);
    file.seek(SeekFrom::Start(length.saturating_sub(size)))?;
    let mut end = Vec::new();
    file.take(size).read_to_end(&mut end)?;
    Ok(end)
}

/// The header of a qcow2 image. `None` if the file cannot be read or is not such an image.
fn read_header(path: &Path) -> Result<Option<Qcow2>, String> {
    let Some(size) = first_bytes(path).ok().and_then(|start| header::first_cluster(&start)) else {
        return Ok(None);
    };
    let cluster = read_up_to(path, size).map_err(|error| error.to_string())?;
    header::parse(&cluster).map(Some).map_err(str::to_owned)
}

/// Checks that the image agrees with the format that it is declared to have.
///
/// # Errors
/// It cannot be read; it is declared raw, but begins, ends or is named like an image of another
/// format; or it refers to a file that is not beside it, or to something unknown.
pub(crate) fn check(storage: &Storage) -> Result<(), Error> {
    let path = Path::new(&storage.file);
    let start = first_bytes(path).map_err(|error| Error::io("read", path, error))?;
    if storage.format == ImageFormat::Raw {
        let by_end = || last_bytes(path).ok().and_then(|end| header::format_at_end(&end));
        let format = header::format_of(&start).or_else(by_end);
        return match (format, unsupported_extension(&storage.file)) {
            (Some(format), _) => Err(Error::ForeignHeader { path: path.to_owned(), format }),
            (None, Some(ending)) => Err(Error::UnknownImage { path: path.to_owned(), ending }),
            (None, None) => Ok(()),
        };
    }
    match References::of(storage).elsewhere(path) {
        refers if refers.is_empty() => Ok(()),
        refers => Err(Error::RefersElsewhere { path: path.to_owned(), refers }),
    }
}

/// The extension of a file name, if it is that of a format that vusb does not support.
fn unsupported_extension(file: &str) -> Option<&'static str> {
    let file = file.to_ascii_lowercase();
    UNSUPPORTED_EXTENSIONS.into_iter().find(|it| file.ends_with(it))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn storage(path: &Path, format: ImageFormat) -> Storage {
        Storage::new(path.to_str().unwrap(), format)
    }

    fn files(references: &References) -> Vec<(String, bool)> {
        let name = |it: &Path| it.file_name().unwrap().to_str().unwrap().to_owned();
        references.files.iter().map(|it| (name(&it.path), it.written)).collect()
    }

    #[test]
    fn a_chain_beside_the_image_is_followed_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("disk.qcow2", &header::example(Some("mid.qcow2"), None, Some("disk.raw")));
        write("mid.qcow2", &header::example(Some("base.img"), Some("raw"), None));
        // What it refers to is ignored: it is declared raw.
        write("base.img", &header::example(Some("/etc/shadow"), None, None));
        let image = dir.path().join("disk.qcow2");
        let disk = storage(&image, ImageFormat::Qcow2);
        let all = References::of(&disk);
        let expected = [("disk.raw", true), ("mid.qcow2", false), ("base.img", false)];
        assert_eq!(files(&all), expected.map(|(name, written)| (name.to_owned(), written)));
        assert_eq!(all.elsewhere(&image), [""; 0]);
        check(&disk).unwrap();
        let readonly = Storage { readonly: true, ..disk };
        assert!(References::of(&readonly).files.iter().all(|it| !it.written));
    }

    #[test]
    fn a_file_that_is_not_beside_the_image_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.qcow2");
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let refers = |bytes: Vec<u8>| {
            fs::write(&image, bytes).unwrap();
            match check(&storage(&image, ImageFormat::Qcow2)) {
                Err(Error::RefersElsewhere { refers, .. }) => refers.join("; "),
                other => panic!("{other:?}"),
            }
        };
        for (backing, shown) in [
            ("/etc/shadow", "/etc/shadow, which would be read"),
            ("../x", "/../x, which would be read"),
            ("link", "/link, which would be read"),
            ("nbd://host/export", "it refers to nbd://host/export"),
            ("json:{\"driver\":\"file\"}", "it refers to json:{"),
        ] {
            let text = refers(header::example(Some(backing), Some("raw"), None));
            assert!(text.contains(shown), "{text}");
        }
        let data = refers(header::example(None, None, Some("/dev/sda")));
        assert!(data.contains("/dev/sda, which would be written to"), "{data}");
        let format = refers(header::example(Some("disk.qcow2"), Some("vmdk"), None));
        assert!(format.contains("is not known"), "{format}");
        let loop_of_files = refers(header::example(Some("disk.qcow2"), None, None));
        assert!(loop_of_files.contains("too long"), "{loop_of_files}");
    }

    #[test]
    fn an_image_of_another_format_is_not_attached_as_raw() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            check(&storage(&path, ImageFormat::Raw)).err()
        };
        let qcow2 = refused("a.img", b"QFI\xfb\0\0\0\x03");
        assert!(matches!(qcow2, Some(Error::ForeignHeader { format: "qcow2", .. })));
        let vmdk = refused("b.img", b"KDMV");
        assert!(matches!(vmdk, Some(Error::ForeignHeader { format: "VMDK", .. })));
        let mut fixed = vec![7; 4096];
        fixed[4096 - 512..4096 - 504].copy_from_slice(b"conectix");
        fixed[4096 - 500..4096 - 496].copy_from_slice(&[0, 1, 0, 0]);
        let fixed = refused("fixed.img", &fixed);
        assert!(matches!(fixed, Some(Error::ForeignHeader { format: "VHD", .. })), "{fixed:?}");
        let by_name = refused("c.VMDK", b"any");
        assert!(matches!(by_name, Some(Error::UnknownImage { ending: ".vmdk", .. })));
        assert!(refused("d.img", b"any").is_none());
        assert!(refused("e.iso", b"").is_none());
    }

    #[test]
    fn a_backing_file_that_is_missing_is_still_beside_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let [folder, link] = ["images", "link"].map(|it| dir.path().join(it));
        fs::create_dir(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        let image = link.join("disk.qcow2");
        fs::write(&image, header::example(Some("gone.img"), Some("raw"), None)).unwrap();
        check(&storage(&image, ImageFormat::Qcow2)).unwrap();
        let elsewhere = dir.path().join("gone.img");
        let bytes = header::example(Some(elsewhere.to_str().unwrap()), Some("raw"), None);
        fs::write(&image, bytes).unwrap();
        check(&storage(&image, ImageFormat::Qcow2)).unwrap_err();
    }
}
