//! Folders whose entries are watched with inotify, including folders that do not exist yet.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// How many events are read at once. The others remain readable.
const MAX_EVENTS: usize = 4096;

/// How many times the search for a missing folder is repeated when a parent appears in the
/// meantime.
const MAX_ATTEMPTS: usize = 8;

/// The events that a folder is watched for. Its parent is watched for the same events, because an
/// inotify descriptor has only one mask for each inode.
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// An entry was removed.
const REMOVED: ReadFlags = ReadFlags::DELETE.union(ReadFlags::MOVED_FROM);

/// The folder itself was removed, moved or unmounted.
const FOLDER: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::IGNORED)
    .union(ReadFlags::UNMOUNT);

/// Watched folders. Each is known by its number: its position in the list that they were made from.
///
/// A folder that does not exist is waited for in its nearest existing parent. The parent of an
/// existing folder is watched too: the kernel reports the removal of a folder only when it is no
/// longer in use, and a process that listens on a socket in the folder keeps it in use. If a folder
/// above the parent is renamed, this is not noticed.
#[derive(Debug)]
pub struct Folders {
    inotify: OwnedFd,
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The path without symbolic links when the folder was last seen: it may be gone when the
    /// removal of its entries is reported.
    real: PathBuf,
    /// The kernel's number of the watch on the folder; `None` if it does not exist.
    watch: Option<i32>,
    /// The kernel's number of the watch on its nearest existing parent; `None` if that may not be
    /// watched.
    parent: Option<i32>,
}

/// What happened in the folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An entry was created, changed, or replaced; or removed.
    Entry {
        /// The folder's number.
        folder: usize,
        /// The entry's name.
        name: OsString,
        /// Whether it was removed.
        removed: bool,
    },
    /// The folder appeared, was replaced or removed.
    Folder(usize),
    /// The kernel dropped events: anything may have changed.
    Overflow,
}

impl Folders {
    /// Watches these folders, whose paths are absolute.
    ///
    /// # Errors
    /// The folder whose path is returned cannot be watched, or inotify cannot be used at all.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Result<Folders, (PathBuf, Errno)> {
        let folders: Vec<Folder> = paths.into_iter().map(Folder::new).collect();
        let first = || folders.first().map(|it| it.path.clone()).unwrap_or_default();
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| (first(), errno))?;
        let mut folders = Folders { inotify, folders };
        for number in 0..folders.folders.len() {
            folders.arm(number).map_err(|errno| (folders.path(number).to_owned(), errno))?;
        }
        Ok(folders)
    }

    /// Watches these folders instead of those whose numbers are `first` and above. A folder that is
    /// in both keeps its watch, but may get another number. A watch that no folder needs any more
    /// is removed.
    ///
    /// # Errors
    /// The folder whose path is returned cannot be watched. All others are.
    pub fn replace_from(
        &mut self,
        first: usize,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Result<(), (PathBuf, Errno)> {
        let mut wanted: Vec<PathBuf> = paths.into_iter().collect();
        for number in (first..self.folders.len()).rev() {
            match wanted.iter().position(|it| it == self.path(number)) {
                Some(position) => drop(wanted.swap_remove(position)),
                None => self.remove(number),
            }
        }
        let mut result = Ok(());
        for path in wanted {
            let number = self.folders.len();
            self.folders.push(Folder::new(path.clone()));
            if let Err(errno) = self.arm(number) {
                self.remove(number);
                result = result.and(Err((path, errno)));
            }
        }
        result
    }

    fn remove(&mut self, number: usize) {
        self.set(number, None, None);
        self.folders.remove(number);
    }

    /// The path of a folder.
    pub fn path(&self, number: usize) -> &Path {
        self.folders.get(number).map_or(Path::new(""), |folder| &folder.path)
    }

    /// The path of a folder without symbolic links, even after the folder was removed.
    pub fn real_path(&self, number: usize) -> &Path {
        self.folders.get(number).map_or(Path::new(""), |folder| &folder.real)
    }

    /// The numbers of all folders.
    pub fn numbers(&self) -> std::ops::Range<usize> {
        0..self.folders.len()
    }

    /// What has happened since the last call. Never waits.
    ///
    /// # Errors
    /// inotify cannot be read.
    pub fn read(&mut self) -> Result<Vec<Change>, Errno> {
        let mut events = Vec::new();
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while events.len() < MAX_EVENTS || !reader.is_buffer_empty() {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    events.push((event.wd(), event.events(), name.map(OsStr::to_owned)));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let mut changes = Vec::new();
        for (watch, what, name) in events {
            self.interpret(watch, what, name.as_deref(), &mut changes);
        }
        Ok(changes)
    }

    fn interpret(
        &mut self,
        watch: i32,
        what: ReadFlags,
        name: Option<&OsStr>,
        changes: &mut Vec<Change>,
    ) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            // A folder may have appeared or vanished.
            for number in self.numbers() {
                self.rearm(number);
            }
            changes.push(Change::Overflow);
            return;
        }
        for number in self.numbers() {
            let Some(folder) = self.folders.get_mut(number) else { continue };
            let is_own = folder.watch == Some(watch);
            match name {
                Some(name) if is_own => {
                    let removed = what.intersects(REMOVED);
                    changes.push(Change::Entry { folder: number, name: name.to_owned(), removed });
                }
                _ if is_own && what.intersects(FOLDER) => {
                    if what.contains(ReadFlags::IGNORED) {
                        folder.watch = None;
                    }
                    self.rearm(number);
                    changes.push(Change::Folder(number));
                }
                _ if folder.parent == Some(watch) && folder.may_concern(name) => {
                    if what.contains(ReadFlags::IGNORED) {
                        folder.parent = None;
                    }
                    if self.rearm(number) {
                        changes.push(Change::Folder(number));
                    }
                }
                _ => {}
            }
        }
    }

    /// As [`Folders::arm`]. If the folder cannot be watched, this only logs a warning and returns
    /// false: at the start, it could be watched.
    fn rearm(&mut self, number: usize) -> bool {
        self.arm(number).unwrap_or_else(|errno| {
            tracing::warn!(folder = %self.path(number).display(), %errno, "cannot watch");
            false
        })
    }

    /// Watches a folder and its nearest existing parent. Returns whether the folder appeared, was
    /// replaced or vanished.
    fn arm(&mut self, number: usize) -> Result<bool, Errno> {
        let path = self.path(number).to_owned();
        let before = self.folders.get(number).and_then(|it| it.watch);
        for _ in 0..MAX_ATTEMPTS {
            if let Some(watch) = self.try_watch(&path)? {
                // Watching the parent may not be permitted.
                let parent = path.parent().and_then(|it| self.try_watch(it).ok().flatten());
                self.set(number, Some(watch), parent);
                if let (Some(folder), Ok(real)) =
                    (self.folders.get_mut(number), path.canonicalize())
                {
                    folder.real = real;
                }
                return Ok(before != Some(watch));
            }
            let mut missing = path.as_path();
            for parent in path.ancestors().skip(1) {
                if let Some(watch) = self.try_watch(parent)? {
                    self.set(number, None, Some(watch));
                    break;
                }
                missing = parent;
            }
            // It may have appeared before its parent was watched.
            if !missing.is_dir() {
                break;
            }
        }
        Ok(before.is_some())
    }

    fn try_watch(&self, path: &Path) -> Result<Option<i32>, Errno> {
        match inotify::add_watch(&self.inotify, path, MASK) {
            Ok(watch) => Ok(Some(watch)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Records the watches of a folder, and removes those that no folder needs.
    fn set(&mut self, number: usize, watch: Option<i32>, parent: Option<i32>) {
        let Some(folder) = self.folders.get_mut(number) else { return };
        let before = [folder.watch, folder.parent];
        (folder.watch, folder.parent) = (watch, parent);
        for old in before.into_iter().flatten() {
            let is_used = |it: &Folder| it.watch == Some(old) || it.parent == Some(old);
            if !self.folders.iter().any(is_used) {
                // The watch has ended already if its folder was removed.
                let _ = inotify::remove_watch(&self.inotify, old);
            }
        }
    }
}

impl Folder {
    fn new(path: PathBuf) -> Folder {
        Folder { real: path.clone(), path, watch: None, parent: None }
    }

    /// Whether an event in the parent may be about this folder: about `name`, or the parent itself.
    fn may_concern(&self, name: Option<&OsStr>) -> bool {
        self.watch.is_none() || name.is_none() || name == self.path.file_name()
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd as _;

    use super::*;

    /// How many watches the kernel has.
    fn watches(folders: &Folders) -> usize {
        let info = format!("/proc/self/fdinfo/{}", folders.inotify.as_raw_fd());
        let info = fs::read_to_string(info).unwrap();
        info.lines().filter(|line| line.starts_with("inotify ")).count()
    }

    #[test]
    fn a_folder_that_is_no_longer_wanted_is_no_longer_watched() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        for folder in [&a, &b, &c] {
            fs::create_dir(folder).unwrap();
        }
        let mut folders = watched(&[&a]);
        // The folder and its parent.
        assert_eq!(watches(&folders), 2);
        folders.replace_from(1, [b.clone(), c.clone()]).unwrap();
        assert_eq!(watches(&folders), 4);
        folders.replace_from(1, [c.clone()]).unwrap();
        assert_eq!(watches(&folders), 3);
        fs::write(b.join("x"), "").unwrap();
        assert_eq!(folders.read().unwrap(), []);
        fs::create_dir(c.join("x")).unwrap();
        assert_eq!(folders.read().unwrap(), [entry(1, "x", false)]);
        // A folder that has gone is waited for in its parent.
        fs::remove_dir_all(&c).unwrap();
        folders.read().unwrap();
        assert_eq!(watches(&folders), 2);
        fs::create_dir(&c).unwrap();
        assert_eq!(folders.read().unwrap(), [Change::Folder(1)]);
        folders.replace_from(1, [b.clone()]).unwrap();
        fs::create_dir(b.join("y")).unwrap();
        assert_eq!(folders.read().unwrap(), [entry(1, "y", false)]);
        folders.replace_from(1, []).unwrap();
        assert_eq!(watches(&folders), 2);
    }

    fn entry(folder: usize, name: &str, removed: bool) -> Change {
        Change::Entry { folder, name: name.into(), removed }
    }

    fn watched(paths: &[&Path]) -> Folders {
        Folders::new(paths.iter().map(|path| path.to_path_buf())).unwrap()
    }

    #[test]
    fn entries_are_reported_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut folders = watched(&[dir.path()]);
        assert_eq!(folders.read().unwrap(), []);
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::remove_dir(dir.path().join("b")).unwrap();
        let expected = [("a", false), ("a", true), ("b", false), ("b", true)];
        assert_eq!(
            folders.read().unwrap(),
            expected.map(|(name, removed)| entry(0, name, removed))
        );
    }

    #[test]
    fn a_folder_that_appears_is_picked_up_and_waited_for_again_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (parent, path) = (dir.path().join("run"), dir.path().join("run/qemu"));
        let mut folders = watched(&[&path, dir.path()]);
        for _ in 0..2 {
            fs::create_dir(&parent).unwrap();
            folders.read().unwrap();
            fs::create_dir(&path).unwrap();
            assert_eq!(folders.read().unwrap(), [Change::Folder(0)]);
            fs::write(path.join("x"), "").unwrap();
            assert!(folders.read().unwrap().contains(&entry(0, "x", false)));
            fs::remove_dir_all(&parent).unwrap();
            let changes = folders.read().unwrap();
            assert!(changes.contains(&Change::Folder(0)), "{changes:?}");
            assert!(changes.contains(&entry(1, "run", true)), "{changes:?}");
        }
    }

    #[test]
    fn a_folder_that_appears_with_its_parent_is_picked_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/user/qemu");
        let mut folders = watched(&[&path]);
        fs::create_dir_all(&path).unwrap();
        assert_eq!(folders.read().unwrap(), [Change::Folder(0)]);
    }

    #[test]
    fn a_folder_that_is_replaced_is_watched_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("qemu"), dir.path().join("old"));
        fs::create_dir(&path).unwrap();
        let mut folders = watched(&[&path]);
        fs::rename(&path, &old).unwrap();
        assert!(folders.read().unwrap().contains(&Change::Folder(0)));
        fs::create_dir(&path).unwrap();
        assert_eq!(folders.read().unwrap(), [Change::Folder(0)]);
        fs::write(old.join("x"), "").unwrap();
        assert_eq!(folders.read().unwrap(), []);
        fs::create_dir(path.join("y")).unwrap();
        assert_eq!(folders.read().unwrap(), [entry(0, "y", false)]);
    }

    #[test]
    fn a_folder_that_is_replaced_while_it_is_in_use_is_watched_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu");
        fs::create_dir(&path).unwrap();
        let mut folders = watched(&[&path]);
        let _in_use = std::os::unix::net::UnixListener::bind(path.join("a")).unwrap();
        folders.read().unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(folders.read().unwrap(), [entry(0, "a", true), Change::Folder(0)]);
        fs::create_dir(&path).unwrap();
        assert_eq!(folders.read().unwrap(), [Change::Folder(0)]);
        fs::create_dir(path.join("b")).unwrap();
        assert_eq!(folders.read().unwrap(), [entry(0, "b", false)]);
    }

    #[test]
    fn dropped_events_are_an_overflow() {
        let dir = tempfile::tempdir().unwrap();
        let mut folders = watched(&[dir.path()]);
        let mut changes = Vec::new();
        folders.interpret(-1, ReadFlags::QUEUE_OVERFLOW, None, &mut changes);
        assert_eq!(changes, [Change::Overflow]);
        fs::create_dir(dir.path().join("a")).unwrap();
        assert_eq!(folders.read().unwrap(), [entry(0, "a", false)]);
    }
}
