//! Opens files at paths that another user may control.
//!
//! Opening can have effects: a watchdog starts, a tape is rewound, a FIFO blocks until it has a
//! writer. A check of the path before that is not enough, because the path may be replaced in the
//! meantime. So the file is found first without being opened, and then opened by its descriptor:
//!
//! ```text
//! path ──O_PATH──▶ descriptor N ──fstat──▶ a file? ──▶ open /proc/self/fd/N
//!        finds it, has no effects          always the same file
//! ```
//!
//! Without `/proc`, nothing is opened: there is no other way to open what a descriptor refers to.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

/// Why a file was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It has another type. It was not opened.
    #[error("it is {}", name_of(*.0))]
    WrongType(FileType),
    /// It cannot be found or opened.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A type of file that is not a regular file, for messages: `a folder`.
pub fn name_of(found: FileType) -> &'static str {
    match found {
        it if it.is_dir() => "a folder",
        it if it.is_fifo() => "a pipe",
        it if it.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Opens a regular file, for reading or for `write` too. Links are followed.
///
/// # Errors
/// See [`OpenError`].
pub fn regular(path: &Path, write: bool) -> Result<File, OpenError> {
    open(path, write, |it| it.is_file())
}

/// Opens the image of a disk for reading: a regular file, or a block device. Links are followed.
///
/// # Errors
/// See [`OpenError`].
pub fn image(path: &Path) -> Result<File, OpenError> {
    open(path, false, |it| it.is_file() || it.is_block_device())
}

fn open(path: &Path, write: bool, is_wanted: impl Fn(FileType) -> bool) -> Result<File, OpenError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let found_type = found.metadata()?.file_type();
    if !is_wanted(found_type) {
        return Err(OpenError::WrongType(found_type));
    }
    // A file may have a lease that its owner does not give up. A block device is opened without
    // `O_NONBLOCK`, with which a drive without a medium would be an empty disk.
    let wait = if found_type.is_file() { OFlags::NONBLOCK } else { OFlags::empty() };
    let flags = (wait | OFlags::NOCTTY).bits() as i32;
    let by_descriptor = format!("/proc/self/fd/{}", found.as_raw_fd());
    let opened = OpenOptions::new().read(true).write(write).custom_flags(flags).open(by_descriptor);
    Ok(opened.map_err(without_proc)?)
}

/// The file has been found, so only `/proc` can be missing.
fn without_proc(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            io::ErrorKind::Unsupported,
            "files can only be opened safely with /proc; mount it",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::CWD;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// A terminal: its other end, and its node.
    fn terminal() -> (OwnedFd, PathBuf) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let node = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        (ours, node.into())
    }

    /// Whether the node of a terminal was open and has been closed. The other end stays hung up.
    fn was_opened(terminal: &OwnedFd) -> bool {
        let mut ends = [PollFd::new(terminal, PollFlags::IN)];
        poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        ends[0].revents().contains(PollFlags::HUP)
    }

    /// Sets a flag, also if the test fails.
    struct OnDrop<'a>(&'a AtomicBool);

    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    fn fifo(path: &Path) {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn only_the_wanted_types_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let [file, pipe, link] = ["file", "pipe", "link"].map(|it| dir.path().join(it));
        fs::write(&file, "text").unwrap();
        fifo(&pipe);
        symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            for mut opened in [regular(path, false).unwrap(), image(path).unwrap()] {
                let mut text = String::new();
                opened.read_to_string(&mut text).unwrap();
                assert_eq!(text, "text");
                assert!(opened.write_all(b"x").is_err());
            }
        }
        regular(&link, true).unwrap().write_all(b"TE").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "TExt");
        let (terminal, node) = terminal();
        for (path, is) in [(dir.path(), "a folder"), (&pipe, "a pipe"), (&node, "a device")] {
            for error in [regular(path, false).unwrap_err(), image(path).unwrap_err()] {
                assert!(matches!(error, OpenError::WrongType(_)), "{error:?}");
                assert_eq!(error.to_string(), format!("it is {is}"));
            }
        }
        assert!(!was_opened(&terminal));
        for missing in [dir.path().join("missing"), file.join("below")] {
            assert!(matches!(regular(&missing, false), Err(OpenError::Io(_))));
        }
        let missing = regular(&dir.path().join("missing"), false).unwrap_err();
        assert!(matches!(missing, OpenError::Io(it) if it.kind() == io::ErrorKind::NotFound));
    }

    /// A file that is replaced by a FIFO or a device after it was found is opened nevertheless.
    #[test]
    fn a_path_that_changes_all_the_time_never_leads_to_a_device() {
        let dir = tempfile::tempdir().unwrap();
        let [file, pipe, link, new] = ["file", "pipe", "link", "new"].map(|it| dir.path().join(it));
        fs::write(&file, "").unwrap();
        fifo(&pipe);
        let (terminal, node) = terminal();
        symlink(&file, &link).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    for target in [&file, &node, &file, &pipe] {
                        symlink(target, &new).unwrap();
                        fs::rename(&new, &link).unwrap();
                    }
                }
            });
            let _stop = OnDrop(&stop);
            let (mut opened, mut refused) = (0, 0);
            while opened < 2000 || refused < 2000 {
                for result in [regular(&link, false), image(&link)] {
                    match result {
                        Ok(file) => {
                            assert!(file.metadata().unwrap().is_file());
                            opened += 1;
                        }
                        Err(OpenError::WrongType(_)) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        assert!(!was_opened(&terminal), "the device was opened");
        // That the test would notice it.
        let flags = OFlags::NOCTTY.bits() as i32;
        drop(OpenOptions::new().read(true).custom_flags(flags).open(&node).unwrap());
        assert!(was_opened(&terminal));
    }

    #[test]
    fn a_missing_proc_is_not_a_missing_file() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert!(without_proc(missing).to_string().contains("/proc"));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(without_proc(denied).kind(), io::ErrorKind::PermissionDenied);
    }
}
