//! Notices when a file in one of several folders is replaced or removed.
//!
//! A folder that does not exist yet is awaited: its nearest parent that exists is watched until the
//! folder is created.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// The events of a file that is replaced (by renaming another one) or removed. Opening is not
/// watched, because readers open lock files too.
const CHANGES: WatchFlags = WatchFlags::MOVED_TO.union(WatchFlags::DELETE);

/// The events of a folder that appears in its parent.
const APPEARS: WatchFlags = WatchFlags::MOVED_TO.union(WatchFlags::CREATE);

/// Folders whose files are watched.
#[derive(Debug)]
pub(super) struct Folders {
    inotify: OwnedFd,
    wanted: Vec<PathBuf>,
    /// Those of `wanted` that are watched, by the number of the watch. Two paths may name one
    /// folder.
    watched: HashMap<i32, Vec<PathBuf>>,
}

impl Folders {
    /// Begins to watch. Folders that this user may not read are left out.
    ///
    /// # Errors
    /// The user has too many watches.
    pub(super) fn new(wanted: Vec<PathBuf>) -> Result<Folders, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let absolute = |it: PathBuf| std::path::absolute(&it).unwrap_or(it);
        let wanted = wanted.into_iter().map(absolute).collect();
        let mut folders = Folders { inotify, wanted, watched: HashMap::new() };
        folders.watch();
        Ok(folders)
    }

    /// Watches the folders that exist now, and the nearest parents of the others. Returns whether
    /// a folder has appeared.
    fn watch(&mut self) -> bool {
        let mut appeared = false;
        for folder in &self.wanted {
            if self.watched.values().flatten().any(|it| it == folder) {
                continue;
            }
            if let Some(number) = nearest(&self.inotify, folder) {
                self.watched.entry(number).or_default().push(folder.clone());
                appeared = true;
            }
        }
        appeared
    }

    /// Reads all pending notifications. Returns whether a file was replaced or removed, or a folder
    /// has appeared or disappeared.
    pub(super) fn drain(&mut self) -> bool {
        let (mut changed, mut again) = (false, false);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        // The loop ends with EAGAIN.
        while let Ok(event) = events.next() {
            let (number, what) = (event.wd(), event.events());
            again |= what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                (changed, again) = (true, true);
            } else if what.contains(ReadFlags::IGNORED) {
                // The folder was removed, or the parent of a folder that does not exist yet.
                changed |= self.watched.remove(&number).is_some();
                again = true;
            } else if what.intersects(ReadFlags::MOVED_TO | ReadFlags::DELETE) {
                changed |= self.watched.contains_key(&number);
            }
        }
        (again && self.watch()) || changed
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Watches a folder and returns the number of its watch, or watches its nearest parent.
fn nearest(inotify: &OwnedFd, folder: &Path) -> Option<i32> {
    let mut last = None;
    loop {
        // MASK_ADD keeps an existing watch: the folder may already be watched itself or as a
        // parent.
        let watch = |(level, path): (usize, &Path)| {
            let flags = if level == 0 { CHANGES } else { APPEARS };
            let number = inotify::add_watch(inotify, path, flags | WatchFlags::MASK_ADD).ok()?;
            Some((level, number))
        };
        let (level, number) = folder.ancestors().enumerate().find_map(watch)?;
        if level == 0 {
            return Some(number);
        }
        // The next level may have been created before its parent was watched.
        if last == Some((level, number)) {
            return None;
        }
        last = Some((level, number));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_that_is_created_later_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let (wanted, other) = (root.path().join("a/b"), root.path().join("other"));
        let mut folders = Folders::new(vec![wanted.clone(), root.path().to_owned()]).unwrap();
        assert!(!folders.drain());
        fs::write(&other, "").unwrap();
        assert!(!folders.drain(), "a new file is not complete before it is renamed");
        fs::create_dir(root.path().join("a")).unwrap();
        assert!(!folders.drain());
        fs::create_dir(&wanted).unwrap();
        assert!(folders.drain(), "there may be files already");
        fs::rename(&other, wanted.join("record")).unwrap();
        assert!(folders.drain());
        fs::remove_dir_all(root.path().join("a")).unwrap();
        assert!(folders.drain());
        assert!(!folders.drain());
        fs::create_dir_all(&wanted).unwrap();
        assert!(folders.drain(), "both levels before the notification was read");
        fs::write(root.path().join("new"), "").unwrap();
        fs::rename(root.path().join("new"), wanted.join("record")).unwrap();
        assert!(folders.drain());
    }
}
