//! Watches folders for files of simulated hypervisors that appear and are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::file;
use super::scheme::SimScheme;
use crate::driver::Error;
use crate::scheme::{GuestWatch, Scheme as _, WatchOptions};
use crate::watch::{self, Change, Folders, Guests, Poller, Source, Watch};

/// The token of inotify.
const INOTIFY: u64 = 0;

/// Watches the folders of `options`.
///
/// # Errors
/// A folder cannot be watched.
pub(super) fn watch(options: &WatchOptions) -> Result<Box<dyn GuestWatch>, Error> {
    let poller = Poller::new().map_err(|errno| watch::failed("guests", errno))?;
    let folders = Folders::new(options.folders.iter().map(|path| watch::absolute(path)))
        .map_err(|(folder, errno)| watch::folder_failed(&folder, errno))?;
    poller.add(&folders, INOTIFY).map_err(|errno| watch::failed("guests", errno))?;
    let own = folders.numbers().len();
    let mut source = SimSource { folders, own, guests: Guests::default() };
    source.set_further_folders(&options.further)?;
    Ok(Box::new(Watch::new(source, poller)?))
}

struct SimSource {
    folders: Folders,
    /// How many of the folders were named when the watch was started. Further ones come after them.
    own: usize,
    guests: Guests,
}

impl Source for SimSource {
    fn scan(&mut self, _: &Poller) -> Result<(), Error> {
        let mut now = BTreeMap::new();
        for folder in self.folders.numbers() {
            for name in watch::names(self.folders.path(folder)) {
                let Some(operand) = self.operand(folder, &name) else { continue };
                let path = Path::new(&operand);
                if is_guest(path) || (self.guests.contains(&operand) && path.is_file()) {
                    now.insert(operand, None);
                }
            }
        }
        self.guests.replace(now);
        Ok(())
    }

    fn react(&mut self, ready: &[u64], poller: &Poller) -> Result<(), Error> {
        if ready.is_empty() {
            return Ok(());
        }
        let changes = self.folders.read().map_err(|errno| watch::failed("folders", errno))?;
        let mut is_stale = false;
        for change in changes {
            match change {
                Change::Entry { folder, name, removed } => {
                    let Some(operand) = self.operand(folder, &name) else { continue };
                    if removed {
                        self.guests.ended(&operand);
                    } else if is_guest(Path::new(&operand)) {
                        self.guests.started(&operand, None);
                    }
                }
                Change::Folder(_) => is_stale = true,
                Change::Overflow => {
                    self.guests.lost();
                    is_stale = true;
                }
            }
        }
        if is_stale { self.scan(poller) } else { Ok(()) }
    }

    fn next_wake(&self) -> Option<Instant> {
        None
    }

    fn guests(&mut self) -> &mut Guests {
        &mut self.guests
    }

    fn set_further_folders(&mut self, folders: &[PathBuf]) -> Result<(), Error> {
        let folders = folders.iter().map(|path| watch::absolute(path));
        let watched = self.folders.replace_from(self.own, folders);
        let real: BTreeSet<&Path> =
            self.folders.numbers().map(|it| self.folders.real_path(it)).collect();
        self.guests.retain(|it| Path::new(it).parent().is_some_and(|it| real.contains(it)));
        watched.map_err(|(folder, errno)| watch::folder_failed(&folder, errno))
    }
}

impl SimSource {
    /// The canonical operand of an entry; `None` for a file that the simulation itself makes beside
    /// a guest's.
    fn operand(&self, folder: usize, name: &OsStr) -> Option<String> {
        let name = name.to_str()?;
        if name.starts_with('.') || name.ends_with(".lock") {
            return None;
        }
        SimScheme.parse(name, self.folders.real_path(folder)).ok()
    }
}

/// Whether a file is that of a simulated hypervisor. A file that is still being written does not
/// count: inotify reports when the writing ends.
fn is_guest(path: &Path) -> bool {
    path.is_file() && file::read(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use vusb_model::hardware::Hardware;

    use super::*;
    use crate::driver::Driver as _;
    use crate::scheme::GuestEvent;
    use crate::sim::Sim;

    const NO_WAIT: Duration = Duration::ZERO;

    fn watched(folder: &Path) -> Box<dyn GuestWatch> {
        watch(&WatchOptions { folders: vec![folder.to_owned()], ..WatchOptions::default() })
            .unwrap()
    }

    fn operand(path: &Path) -> String {
        SimScheme.parse(path.to_str().unwrap(), Path::new("/")).unwrap()
    }

    #[test]
    fn a_guest_starts_and_ends_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.json"), dir.path().join("b.json"));
        let (in_a, in_b) = (operand(&a), operand(&b));
        fs::write(&a, r#"{"sim":1}"#).unwrap();
        fs::write(dir.path().join("notes.txt"), "not a guest").unwrap();
        fs::write(dir.path().join("a.json.lock"), r#"{"sim":1}"#).unwrap();
        let mut watch = watched(dir.path());
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [GuestEvent::Started(in_a.clone())]);
        fs::write(&b, r#"{"sim":1}"#).unwrap();
        fs::remove_file(&a).unwrap();
        let expected = [GuestEvent::Started(in_b.clone()), GuestEvent::Ended(in_a)];
        assert_eq!(watch.wait(Duration::from_secs(10)).unwrap(), expected);
        assert_eq!(watch.running().unwrap(), [in_b]);
        assert_eq!(watch.wait(NO_WAIT).unwrap(), []);
    }

    #[test]
    fn a_step_replaces_the_file_and_is_not_an_event() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, r#"{"sim":1}"#).unwrap();
        let mut watch = watched(dir.path());
        watch.running().unwrap();
        file::change(&path, |_| Ok(())).unwrap();
        Sim::open(&path).unwrap().observe(&Hardware::new()).unwrap();
        assert_eq!(watch.wait(NO_WAIT).unwrap(), []);
    }

    #[test]
    fn a_restart_is_an_end_and_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, r#"{"sim":1}"#).unwrap();
        let mut watch = watched(dir.path());
        let guest = watch.running().unwrap().remove(0);
        fs::remove_file(&path).unwrap();
        fs::write(&path, r#"{"sim":1}"#).unwrap();
        let expected = [GuestEvent::Ended(guest.clone()), GuestEvent::Started(guest)];
        assert_eq!(watch.wait(NO_WAIT).unwrap(), expected);
    }

    #[test]
    fn a_folder_may_appear_later_and_vanish() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("guests");
        let mut watch = watched(&folder);
        assert_eq!(watch.running().unwrap(), [""; 0]);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.json"), r#"{"sim":1}"#).unwrap();
        let guest = operand(&folder.join("a.json"));
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [GuestEvent::Started(guest.clone())]);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [GuestEvent::Ended(guest)]);
    }

    #[test]
    fn a_guest_in_a_folder_that_is_no_longer_watched_does_not_count_as_ended() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        for folder in [&a, &b] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("web"), r#"{"sim":1}"#).unwrap();
        }
        let (in_a, in_b) = (operand(&a.join("web")), operand(&b.join("web")));
        let mut watch = watched(&a);
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [GuestEvent::Started(in_a.clone())]);
        watch.set_further_folders(std::slice::from_ref(&b)).unwrap();
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [GuestEvent::Started(in_b.clone())]);
        watch.set_further_folders(&[]).unwrap();
        assert_eq!(watch.wait(NO_WAIT).unwrap(), []);
        assert_eq!(watch.running().unwrap(), [in_a]);
        let only_further = WatchOptions { further: vec![b], ..WatchOptions::default() };
        let mut watch = SimScheme.watch(&only_further).unwrap().unwrap();
        assert_eq!(watch.running().unwrap(), [in_b]);
        watch.set_further_folders(&[]).unwrap();
        assert_eq!(watch.running().unwrap(), [""; 0]);
    }

    #[test]
    fn without_a_folder_there_is_no_watch() {
        assert!(SimScheme.watch(&WatchOptions::default()).unwrap().is_none());
    }
}
