//! Watches folders of QMP sockets for QEMUs that start and end, without holding a monitor.
//!
//! ```text
//!  inotify: a new socket ──▶ connect, SO_PEERCRED, close ──▶ is it a QEMU? ──▶ pidfd
//!  inotify: unlinked, or the pidfd is readable ──▶ ended
//! ```
//!
//! The connection is closed at once: no greeting is read, and no command is sent. While another
//! client holds the monitor, the connection waits in QEMU's queue and is dropped when its turn
//! comes. That queue is short, so each socket file is connected to only once.
//!
//! Whether a socket is a monitor cannot be determined without a session. A folder must therefore
//! contain no other QEMU sockets, such as those of serial lines and guest agents. In the default
//! folders only names that end in `.qmp` count.
//!
//! A socket that another program bound and passed to QEMU (libvirt does) has that program's
//! credentials, and is ignored.
//!
//! A process in another PID namespace has no PID here, and a process that `/proc` hides has no
//! name. Both count as a QEMU. The end of the former is noticed only when its socket is unlinked,
//! or when it refuses a connection: all such sockets are connected to again after any change in the
//! folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::peer::{connected, process};
use super::scheme::QemuScheme;
use super::sockets::{Answer, Sockets, Stamp};
use crate::driver::Error;
use crate::identity::GuestIdentity;
use crate::scheme::{GuestWatch, Scheme as _, WatchOptions};
use crate::watch::{self, Change, Folders, Guests, Poller, Source, Watch};

/// The folders that are watched by default.
const DEFAULT_FOLDERS: [&str; 2] = ["/run", "/run/qemu"];

/// The suffix of a monitor's name in these folders, where other programs have sockets too.
const DEFAULT_SUFFIX: &str = ".qmp";

/// The token of inotify. The tokens of processes start at 1.
const INOTIFY: u64 = 0;

/// What is known about a process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Process {
    Qemu(GuestIdentity),
    Other,
    /// It cannot be examined.
    Hidden,
}

/// Watches the folders of `options`.
///
/// # Errors
/// A folder cannot be watched.
pub(super) fn watch(options: &WatchOptions) -> Result<Box<dyn GuestWatch>, Error> {
    let (folders, suffix) = if options.folders.is_empty() {
        (DEFAULT_FOLDERS.map(PathBuf::from).into(), Some(DEFAULT_SUFFIX))
    } else {
        (options.folders.clone(), None)
    };
    let mut watch = start(&folders, suffix, examine)?;
    if !options.further.is_empty() {
        watch.set_further_folders(&options.further)?;
    }
    Ok(Box::new(watch))
}

/// Watches for monitors whose names end in `.qmp`, in one folder.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch_folder(folder: PathBuf) -> Result<impl GuestWatch, Error> {
    start(&[folder], Some(DEFAULT_SUFFIX), examine)
}

fn start(
    folders: &[PathBuf],
    suffix: Option<&'static str>,
    examine: fn(Pid) -> Process,
) -> Result<Watch<QemuSource>, Error> {
    let poller = Poller::new().map_err(|errno| watch::failed("guests", errno))?;
    let folders = Folders::new(folders.iter().map(|path| watch::absolute(path)))
        .map_err(|(folder, errno)| watch::folder_failed(&folder, errno))?;
    poller.add(&folders, INOTIFY).map_err(|errno| watch::failed("guests", errno))?;
    let source = QemuSource {
        own: folders.numbers().len(),
        folders,
        suffix,
        examine,
        sockets: Sockets::default(),
        processes: Processes::default(),
    };
    Watch::new(source, poller)
}

struct QemuSource {
    folders: Folders,
    /// How many of the folders were named when the watch was started. Further ones come after them.
    own: usize,
    /// The suffix of a monitor's name in the folders that were named at the start.
    suffix: Option<&'static str>,
    examine: fn(Pid) -> Process,
    sockets: Sockets,
    processes: Processes,
}

/// The processes whose end is waited for.
#[derive(Debug, Default)]
struct Processes {
    last_token: u64,
    /// By token, with the operand of the socket.
    by_token: BTreeMap<u64, (String, OwnedFd)>,
}

impl Processes {
    /// Waits for the end of the process that listens on this socket, instead of that of an earlier
    /// one.
    fn insert(&mut self, operand: &str, pidfd: OwnedFd, poller: &Poller) -> Result<(), Errno> {
        self.remove(operand);
        self.last_token += 1;
        poller.add(&pidfd, self.last_token)?;
        self.by_token.insert(self.last_token, (operand.to_owned(), pidfd));
        Ok(())
    }

    fn contains(&self, operand: &str) -> bool {
        self.by_token.values().any(|(it, _)| it == operand)
    }

    fn remove(&mut self, operand: &str) {
        self.by_token.retain(|_, (it, _)| it != operand);
    }
}

impl Source for QemuSource {
    fn scan(&mut self, poller: &Poller) -> Result<(), Error> {
        let mut present = BTreeSet::new();
        for folder in self.folders.numbers() {
            let path = self.folders.path(folder).to_owned();
            for name in watch::names(&path) {
                let Some(operand) = self.operand(folder, &name) else { continue };
                if self.examine_file(&operand, false, poller)? {
                    present.insert(operand);
                }
            }
        }
        self.sockets.retain(&present);
        self.forget_processes();
        Ok(())
    }

    fn react(&mut self, ready: &[u64], poller: &Poller) -> Result<(), Error> {
        for token in ready {
            if let Some((operand, _)) = self.processes.by_token.remove(token) {
                self.sockets.process_ended(&operand);
            }
        }
        if ready.contains(&INOTIFY) {
            let changes = self.folders.read().map_err(|errno| watch::failed("folders", errno))?;
            self.changed(changes, poller)?;
        }
        for operand in self.sockets.due(Instant::now()) {
            self.examine_file(&operand, false, poller)?;
        }
        self.forget_processes();
        Ok(())
    }

    fn next_wake(&self) -> Option<Instant> {
        self.sockets.next_due()
    }

    fn guests(&mut self) -> &mut Guests {
        &mut self.sockets.guests
    }

    fn set_further_folders(&mut self, folders: &[PathBuf]) -> Result<(), Error> {
        let folders = folders.iter().map(|path| watch::absolute(path));
        let watched = self.folders.replace_from(self.own, folders);
        let mut sockets = std::mem::take(&mut self.sockets);
        sockets.forget_unless(|operand| self.is_watched(operand));
        self.sockets = sockets;
        self.forget_processes();
        watched.map_err(|(folder, errno)| watch::folder_failed(&folder, errno))
    }
}

impl QemuSource {
    fn changed(&mut self, changes: Vec<Change>, poller: &Poller) -> Result<(), Error> {
        let mut is_stale = false;
        let mut changed = BTreeSet::new();
        for change in changes {
            match change {
                Change::Entry { folder, name, removed } => {
                    changed.insert(folder);
                    let Some(operand) = self.operand(folder, &name) else { continue };
                    if removed {
                        self.sockets.removed(&operand);
                        self.processes.remove(&operand);
                    } else {
                        self.examine_file(&operand, false, poller)?;
                    }
                }
                Change::Folder(_) => is_stale = true,
                Change::Overflow => {
                    self.sockets.guests.lost();
                    is_stale = true;
                }
            }
        }
        if is_stale {
            self.scan(poller)?;
        }
        self.probe_unidentified(&changed, poller)
    }

    /// Connects again to the guests in these folders whose end could otherwise go unnoticed.
    fn probe_unidentified(
        &mut self,
        folders: &BTreeSet<usize>,
        poller: &Poller,
    ) -> Result<(), Error> {
        let is_changed = |operand: &str| {
            let folder = Path::new(operand).parent();
            folders.iter().any(|it| folder == Some(self.folders.real_path(*it)))
        };
        let is_waited_for = |operand: &str| self.processes.contains(operand);
        let unidentified = self.sockets.guests.unidentified();
        let unidentified = unidentified.filter(|it| is_changed(it) && !is_waited_for(it));
        let unidentified: Vec<String> = unidentified.map(str::to_owned).collect();
        for operand in unidentified {
            self.examine_file(&operand, true, poller)?;
        }
        Ok(())
    }

    /// The canonical operand of an entry; `None` if it cannot be a monitor's.
    fn operand(&self, folder: usize, name: &OsStr) -> Option<String> {
        let name = name.to_str()?;
        if !self.may_be_monitor(folder, name) {
            return None;
        }
        QemuScheme.parse(name, self.folders.real_path(folder)).ok()
    }

    fn may_be_monitor(&self, folder: usize, name: &str) -> bool {
        folder >= self.own || self.suffix.is_none_or(|suffix| name.ends_with(suffix))
    }

    /// Whether a socket is in a folder that is watched.
    fn is_watched(&self, operand: &str) -> bool {
        let path = Path::new(operand);
        let (folder, name) = (path.parent(), path.file_name().and_then(OsStr::to_str));
        let has = |number: usize| {
            folder == Some(self.folders.real_path(number))
                && name.is_some_and(|name| self.may_be_monitor(number, name))
        };
        self.folders.numbers().any(has)
    }

    /// Examines a file, and connects to it if that may show a change, or if `again` is set. Returns
    /// whether it is a socket.
    fn examine_file(&mut self, operand: &str, again: bool, poller: &Poller) -> Result<bool, Error> {
        let metadata = match fs::symlink_metadata(operand) {
            Ok(metadata) if metadata.file_type().is_socket() => metadata,
            _ => {
                self.sockets.removed(operand);
                return Ok(false);
            }
        };
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let stamp = Stamp { device: metadata.dev(), inode: metadata.ino(), changed };
        let now = Instant::now();
        if again || self.sockets.wants_probe(operand, stamp, now) {
            let (answer, pidfd) = self.probe(operand)?;
            if let Some(pidfd) = pidfd {
                let inserted = self.processes.insert(operand, pidfd, poller);
                inserted.map_err(|errno| watch::failed(operand, errno))?;
            }
            self.sockets.answered(operand, stamp, answer, now);
        }
        Ok(true)
    }

    /// Connects to a socket, and closes the connection. A guest's end can be waited for with the
    /// returned descriptor.
    fn probe(&self, operand: &str) -> Result<(Answer, Option<OwnedFd>), Error> {
        let socket = match connected(operand) {
            Ok(socket) => socket,
            Err(Errno::CONNREFUSED | Errno::NOENT) => return Ok((Answer::NotListening, None)),
            Err(Errno::AGAIN | Errno::INTR) => return Ok((Answer::Busy, None)),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)) => {
                return Err(watch::failed(operand, errno));
            }
            // Not permitted, or not a stream socket.
            Err(_) => return Ok((Answer::Ignored, None)),
        };
        // Fails for a process of another PID namespace, whose PID would be 0.
        let Ok(peer) = socket_peercred(&socket) else { return Ok((Answer::Guest(None), None)) };
        drop(socket);
        // Opened before the process is examined, so that both are about the same process.
        let pidfd = match pidfd_open(peer.pid, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            // It has ended, and passed the socket on to another process.
            Err(Errno::SRCH) => return Ok((Answer::Ignored, None)),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                return Err(watch::failed(operand, errno));
            }
            // Linux before 5.3, or forbidden.
            Err(_) => None,
        };
        let answer = match (self.examine)(peer.pid) {
            Process::Other => Answer::Ignored,
            _ if pidfd.as_ref().is_some_and(has_ended) => Answer::NotListening,
            // Without a descriptor, its end is noticed like that of a process in another PID
            // namespace.
            Process::Qemu(identity) => Answer::Guest(pidfd.is_some().then_some(identity)),
            Process::Hidden => Answer::Guest(None),
        };
        let pidfd = pidfd.filter(|_| matches!(answer, Answer::Guest(_)));
        Ok((answer, pidfd))
    }

    /// Closes the descriptors of processes whose sockets are no longer guests.
    fn forget_processes(&mut self) {
        let guests = &self.sockets.guests;
        self.processes.by_token.retain(|_, (operand, _)| guests.contains(operand));
    }
}

/// What `/proc` shows of a process.
fn examine(pid: Pid) -> Process {
    let pid = pid.as_raw_nonzero().get();
    match (process(pid), fs::read(format!("/proc/{pid}/stat"))) {
        (Some(identity), _) => Process::Qemu(identity),
        (None, Ok(_)) => Process::Other,
        (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => Process::Hidden,
        (None, Err(error)) => {
            tracing::debug!(pid, %error, "cannot examine the process");
            Process::Hidden
        }
    }
}

/// Whether the process of a pidfd has ended.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

    use super::*;
    use crate::scheme::GuestEvent;

    const NO_WAIT: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(20);

    /// Tells the helper test which socket to listen on.
    const VARIABLE: &str = "VUSB_TEST_LISTEN";

    /// Takes every process for a QEMU.
    fn any(pid: Pid) -> Process {
        Process::Qemu(GuestIdentity::new("test", pid))
    }

    fn hidden(_: Pid) -> Process {
        Process::Hidden
    }

    fn watched(folder: &Path, examine: fn(Pid) -> Process) -> Watch<QemuSource> {
        start(&[folder.to_owned()], None, examine).unwrap()
    }

    fn operand(path: &Path) -> String {
        QemuScheme.parse(path.to_str().unwrap(), Path::new("/")).unwrap()
    }

    fn started(path: &Path) -> GuestEvent {
        GuestEvent::Started(operand(path))
    }

    fn ended(path: &Path) -> GuestEvent {
        GuestEvent::Ended(operand(path))
    }

    /// A process that listens on a socket until it is killed.
    struct Listener(Child);

    impl Listener {
        fn start(path: &Path) -> Listener {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "qemu::watch::tests::helper_that_listens"])
                .env(VARIABLE, path)
                .stdout(Stdio::null())
                .spawn();
            Listener(child.unwrap())
        }
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// Waits until another process listens on the socket. A new inode may have the old number, but
    /// not the old time.
    fn wait_for_another(path: &Path, old: &fs::Metadata) {
        let is_old =
            |it: fs::Metadata| (it.ino(), it.ctime_nsec()) == (old.ino(), old.ctime_nsec());
        let end = Instant::now() + LONG;
        while fs::metadata(path).map_or(true, is_old) || UnixStream::connect(path).is_err() {
            assert!(Instant::now() < end, "no other process listens on {}", path.display());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Not a test: the process of [`Listener`].
    #[test]
    fn helper_that_listens() {
        let Some(path) = std::env::var_os(VARIABLE) else { return };
        let _ = fs::remove_file(&path);
        let _listener = UnixListener::bind(path).unwrap();
        thread::sleep(Duration::from_secs(120));
    }

    #[test]
    fn a_process_that_is_not_qemu_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let _first = UnixListener::bind(dir.path().join("a")).unwrap();
        let mut watch = watched(dir.path(), examine);
        let _second = UnixListener::bind(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(watch.wait(Duration::from_millis(100)).unwrap(), []);
        assert_eq!(watch.running().unwrap(), [""; 0]);
    }

    #[test]
    fn a_process_that_is_killed_has_ended_though_its_socket_remains() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let mut watch = watched(dir.path(), any);
        for _ in 0..2 {
            let listener = Listener::start(&path);
            assert_eq!(watch.wait(LONG).unwrap(), [started(&path)]);
            assert_eq!(watch.running().unwrap(), [operand(&path)]);
            drop(listener);
            assert_eq!(watch.wait(LONG).unwrap(), [ended(&path)]);
            assert!(path.exists());
            assert_eq!(watch.running().unwrap(), [""; 0]);
        }
    }

    #[test]
    fn a_restart_between_two_calls_is_an_end_and_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let first = Listener::start(&path);
        let mut watch = watched(dir.path(), any);
        if watch.running().unwrap().is_empty() {
            assert_eq!(watch.wait(LONG).unwrap(), [started(&path)]);
        }
        drop(first);
        let old = fs::metadata(&path).unwrap();
        let _second = Listener::start(&path);
        wait_for_another(&path, &old);
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [ended(&path), started(&path)]);
    }

    #[test]
    fn a_guest_whose_socket_is_unlinked_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut watch = watched(dir.path(), any);
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [started(&path)]);
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), [ended(&path)]);
    }

    #[test]
    fn a_socket_is_connected_to_once_and_nothing_is_sent() {
        for examine in [any, hidden] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("web.qmp");
            let listener = UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            let mut watch = watched(dir.path(), examine);
            for name in ["a", "b"] {
                fs::write(dir.path().join(name), "").unwrap();
                watch.wait(NO_WAIT).unwrap();
                watch.running().unwrap();
            }
            let (stream, _) = listener.accept().unwrap();
            assert_eq!(rustix::io::read(&stream, &mut [0; 16]).unwrap(), 0);
            assert!(listener.accept().is_err());
        }
    }

    /// The end of a process does not end the guest whose process has taken over its socket.
    #[test]
    fn the_former_process_of_a_socket_is_no_longer_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let mut watch = watched(dir.path(), any);
        let first = Listener::start(&path);
        assert_eq!(watch.wait(LONG).unwrap(), [started(&path)]);
        let old = fs::metadata(&path).unwrap();
        let _second = Listener::start(&path);
        wait_for_another(&path, &old);
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [ended(&path), started(&path)]);
        drop(first);
        assert_eq!(watch.wait(Duration::from_millis(100)).unwrap(), []);
        assert_eq!(watch.running().unwrap(), [operand(&path)]);
    }

    #[test]
    fn a_socket_that_does_not_listen_yet_is_retried() {
        // The parent of the folder is watched too: it must not be a folder that other tests use.
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("web.qmp");
        let mut watch = watched(&folder, any);
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        assert_eq!(watch.wait(Duration::from_millis(30)).unwrap(), []);
        listen(&listener, 1).unwrap();
        // No inotify event: the descriptor becomes readable because a retry is due.
        let mut events = Vec::new();
        while events.is_empty() {
            let fd = PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN);
            let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
            assert_eq!(poll(&mut [fd], Some(&limit)).unwrap(), 1);
            events = watch.wait(NO_WAIT).unwrap();
        }
        assert_eq!(events, [started(&path)]);
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_reported_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 1).unwrap();
        let queued = [(); 2].map(|()| connected(path.to_str().unwrap()).unwrap());
        assert_eq!(connected(path.to_str().unwrap()).unwrap_err(), Errno::AGAIN);
        let mut watch = watched(dir.path(), any);
        assert_eq!(watch.wait(Duration::from_millis(50)).unwrap(), []);
        for _ in &queued {
            rustix::net::accept(&listener).unwrap();
        }
        assert_eq!(watch.wait(LONG).unwrap(), [started(&path)]);
    }

    #[test]
    fn the_end_of_a_hidden_process_is_noticed_by_another_change_at_the_latest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let mut watch = watched(dir.path(), hidden);
        assert_eq!(watch.wait(LONG).unwrap(), [started(&path)]);
        // As in another PID namespace: there is no descriptor for its end.
        watch.source.processes = Processes::default();
        fs::write(dir.path().join("x"), "").unwrap();
        assert_eq!(watch.wait(NO_WAIT).unwrap(), []);
        watch.source.processes = Processes::default();
        drop(listener);
        assert_eq!(watch.wait(NO_WAIT).unwrap(), []);
        // A process that another test starts has a copy of the socket for a moment. In that time,
        // the watch would find this process again and wait for its end.
        let end = std::time::Instant::now() + LONG;
        let mut events = Vec::new();
        while events.is_empty() && std::time::Instant::now() < end {
            watch.source.processes = Processes::default();
            fs::write(dir.path().join("y"), "").unwrap();
            events = watch.wait(Duration::from_millis(20)).unwrap();
        }
        assert_eq!(events, [ended(&path)]);
    }

    #[test]
    fn the_end_of_a_process_that_proc_hides_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let mut watch = watched(dir.path(), hidden);
        let listener = Listener::start(&path);
        assert_eq!(watch.wait(LONG).unwrap(), [started(&path)]);
        drop(listener);
        assert_eq!(watch.wait(LONG).unwrap(), [ended(&path)]);
    }

    #[test]
    fn operands_are_canonical_and_a_folder_may_appear_later() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::os::unix::fs::symlink("real", &link).unwrap();
        let mut watch = start(&[link.join("qemu")], Some(".qmp"), any).unwrap();
        assert_eq!(watch.running().unwrap(), [""; 0]);
        fs::create_dir_all(real.join("qemu")).unwrap();
        let _other = UnixListener::bind(real.join("qemu/serial")).unwrap();
        let path = real.join("qemu/web.qmp");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), [started(&path)]);
        fs::remove_dir_all(&real).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), [ended(&path)]);
    }

    #[test]
    fn a_guest_in_a_folder_that_is_no_longer_watched_does_not_count_as_ended() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        for folder in [&a, &b] {
            fs::create_dir(folder).unwrap();
        }
        // In a further folder, the name of a monitor may end in anything.
        let (in_a, in_b) = (a.join("web.qmp"), b.join("web"));
        let _listeners =
            [&in_a, &in_b, &a.join("serial")].map(|it| UnixListener::bind(it).unwrap());
        let mut watch = start(std::slice::from_ref(&a), Some(".qmp"), any).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), [started(&in_a)]);
        watch.set_further_folders(&[b.clone(), a.clone()]).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), [started(&in_b), started(&a.join("serial"))]);
        watch.set_further_folders(&[]).unwrap();
        assert_eq!(watch.wait(NO_WAIT).unwrap(), []);
        assert_eq!(watch.running().unwrap(), [operand(&in_a)]);
        assert_eq!(watch.source.processes.by_token.len(), 1);
    }

    #[test]
    fn an_overflow_is_a_rescan() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let mut watch = watched(dir.path(), any);
        let _listener = UnixListener::bind(&path).unwrap();
        watch.source.changed(vec![Change::Overflow], &watch.poller).unwrap();
        assert_eq!(watch.wait(NO_WAIT).unwrap(), [GuestEvent::Rescan]);
        assert_eq!(watch.running().unwrap(), [operand(&path)]);
    }

    #[test]
    fn the_kernels_own_overflow_is_a_rescan() {
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        if limit > 100_000 {
            return;
        }
        // In memory where possible, because of the number of folders.
        let in_memory = tempfile::tempdir_in("/dev/shm");
        let dir = in_memory.unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let path = dir.path().join("web.qmp");
        let mut watch = watched(dir.path(), any);
        // Consecutive equal events are queued once, so each name is different.
        for number in 0..=limit / 2 {
            let file = dir.path().join(number.to_string());
            fs::create_dir(&file).unwrap();
            fs::remove_dir(&file).unwrap();
        }
        let _listener = UnixListener::bind(&path).unwrap();
        let mut events = watch.wait(LONG).unwrap();
        assert_eq!(events.pop(), Some(GuestEvent::Rescan));
        assert_eq!(watch.running().unwrap(), [operand(&path)]);
    }
}
