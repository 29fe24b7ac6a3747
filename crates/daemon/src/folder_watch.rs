//! Waits for changes of the files in a folder.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// A folder that is watched. Files are replaced by renaming, so the folder is watched and not the
/// files.
pub(crate) struct FolderWatch {
    inotify: OwnedFd,
}

impl FolderWatch {
    /// Begins to watch. Changes from now on are reported.
    ///
    /// # Errors
    /// The folder does not exist, or the kernel has no room for another watch.
    pub(crate) fn new(folder: &Path) -> io::Result<FolderWatch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        inotify::add_watch(&inotify, folder, changes)?;
        Ok(FolderWatch { inotify })
    }

    /// Waits until something has changed. The caller reads the whole folder again, so it does not
    /// matter what has changed, and an overflow of the queue counts as a change.
    ///
    /// # Errors
    /// The watch cannot be read.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
