//! The thread that talks to xenstore. It sees controllers appear and disappear, starts and stops
//! their threads, and publishes what the threads report.
//!
//! ```text
//!   xenstore: watches ─┐                            ┌─▶ xenstore: states, port status, counters,
//!   kernel: uevents ───┼─▶ one loop, never blocks ──┤              list of devices
//!   threads: reports ──┘   for long                 └─▶ threads: requested devices, stop
//! ```
//!
//! [`phase`](crate::phase) decides what to do about a controller, from the current contents of
//! xenstore. A watch event is only a reason to read xenstore again. A controller is evaluated at
//! most once per iteration of the loop, however fast a guest or a toolstack writes to xenstore.
//!
//! An error of xenstore about a node (a quota, a conflict, an unreadable value) ends the controller
//! that the node belongs to, or only the function that the node has: a port status, a counter, the
//! list of devices. What failed is retried later. Of the errors of xenstore, only the loss of
//! the connection ends the process.
//!
//! The loop is in this file; its actions on one controller are in `controllers`.

mod controllers;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;
use tracing::{info, warn};
use vusb_host::uevent::{UeventError, Uevents};
use vusb_xen::DomId;
use vusb_xen::grant::Grants;
use vusb_xen::store::{self, Nodes, Store, WatchEvent};
use vusb_xen::usb::{self, ControllerId};

use crate::announcement::Announcement;
use crate::controller::{Command, Report, Reports, Waker};
use crate::device_jobs::JobRunner;
use crate::lister::Lister;
use crate::nodes;
use crate::phase::Phase;
use crate::polling;
use controllers::ControllerEntry;

/// The interval at which counters are written while they change.
const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// Delay between a plug event and the next enumeration of devices. By then the kernel has bound
/// drivers to the interfaces of a new device.
const DRIVER_BIND_DELAY: Duration = Duration::from_millis(200);
/// How long the answer to a ping waits for a fresh list of devices.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a clean shutdown may take: a little more than what [`crate::controller`] allows each
/// controller.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

/// The wait before the retry of something that does not concern one controller: setting a watch,
/// the announcement, a scan.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Why the backend stops.
#[derive(Debug, Error)]
pub enum Error {
    /// The connection to xenstore is lost.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The kernel's uevents cannot be received.
    #[error(transparent)]
    Uevents(#[from] UeventError),
    /// Waiting failed.
    #[error("waiting failed: {0}")]
    Wait(#[from] Errno),
    /// There are too many threads, or too many files are open.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The supervisor's resources.
#[derive(Debug)]
pub struct Resources {
    /// The connection to xenstore.
    pub store: Store,
    /// The id of this domain.
    pub us: DomId,
    /// The grant tables.
    pub grants: Grants,
    /// Finds and opens devices.
    pub jobs: JobRunner,
    /// Whether controllers may poll for requests.
    pub polling: polling::Setting,
    /// Becomes readable when the process should stop.
    pub stop: UnixStream,
    /// The connection to the process that opens files. The backend stops when that process ends.
    pub opener: Option<OwnedFd>,
}

/// The supervisor.
#[derive(Debug)]
pub struct Supervisor {
    resources: Resources,
    uevents: Uevents,
    announcement: Announcement,
    /// Watches that are not set yet: path and token.
    missing_watches: Vec<(String, &'static str)>,
    lister: Lister,
    /// A ping that is waiting for its answer: the number of the enumeration whose result answers
    /// it, and the time at which it is answered in any case.
    pending_ping: Option<(u64, Instant)>,
    controllers: BTreeMap<ControllerId, ControllerEntry>,
    reports: Reports,
    inbox: Receiver<(ControllerId, u64, Report)>,
    /// Controllers to evaluate.
    dirty: BTreeSet<ControllerId>,
    /// When to enumerate the devices.
    list_at: Option<Instant>,
    /// When to retry what failed.
    retry_at: Option<Instant>,
    stats_at: Instant,
    /// The generation of the thread that was started last.
    last_generation: u64,
}

impl Supervisor {
    /// Starts listening, and announces this backend in xenstore.
    ///
    /// # Errors
    /// The connection to xenstore is lost, the kernel's uevents cannot be received, there are too
    /// many threads, or too many files are open.
    pub fn new(resources: Resources) -> Result<Supervisor, Error> {
        let uevents = Uevents::listen()?;
        let (queue, inbox) = mpsc::channel();
        let reports = Reports { queue, waker: Waker::new()? };
        let announcement = Announcement::new(resources.us);
        let missing_watches = vec![
            (announcement.ping_node(), "ping"),
            (usb::backend_root(resources.us), "controllers"),
        ];
        let lister = Lister::start(resources.jobs.host.clone(), reports.waker.clone())?;
        let mut supervisor = Supervisor {
            resources,
            uevents,
            announcement,
            missing_watches,
            lister,
            pending_ping: None,
            controllers: BTreeMap::new(),
            reports,
            inbox,
            dirty: BTreeSet::new(),
            list_at: None,
            retry_at: None,
            stats_at: Instant::now() + STATS_INTERVAL,
            last_generation: 0,
        };
        supervisor.announce()?;
        Ok(supervisor)
    }

    /// Announces this backend, sets the missing watches, and requests the list of devices.
    fn announce(&mut self) -> Result<(), Error> {
        let published = self.announcement.publish(&mut self.resources.store);
        self.retry_later("announce this backend", published)?;
        for (path, token) in std::mem::take(&mut self.missing_watches) {
            let set = nodes::watch(&mut self.resources.store, &path, token);
            if set.is_err() {
                self.missing_watches.push((path, token));
            }
            self.retry_later("set a watch", set)?;
        }
        self.lister.request();
        Ok(())
    }

    /// Logs a failure that does not concern one particular controller, and arranges a retry.
    fn retry_later(&mut self, what: &str, result: Result<(), store::Error>) -> Result<(), Error> {
        match result {
            Err(error) if error.is_connection_lost() => return Err(error.into()),
            Err(error) => {
                warn!("cannot {what}; retrying in {} s: {error}", RETRY_DELAY.as_secs());
                self.retry_at = Some(Instant::now() + RETRY_DELAY);
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// Serves controllers until the process is asked to stop.
    ///
    /// # Errors
    /// The connection to xenstore is lost, the kernel's uevents cannot be received, or waiting
    /// failed: the backend cannot work without them.
    pub fn run(mut self) -> Result<(), Error> {
        info!("serving from domain {}", self.resources.us);
        while !self.run_once()? {}
        self.shut_down()
    }

    /// One iteration of the loop. Returns whether to stop.
    fn run_once(&mut self) -> Result<bool, Error> {
        while let Some(event) = self.resources.store.take_event()? {
            self.handle_watch(&event)?;
        }
        self.handle_uevents()?;
        while let Ok((id, generation, report)) = self.inbox.try_recv() {
            let handled = self.handle_report(id, generation, report);
            self.contain(id, handled)?;
        }
        let now = Instant::now();
        let due: Vec<ControllerId> =
            self.dirty.iter().copied().filter(|id| self.is_due(*id, now)).collect();
        for id in due {
            self.dirty.remove(&id);
            let evaluated = self.evaluate(id);
            self.contain(id, evaluated)?;
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.announce()?;
            self.scan()?;
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            self.lister.request();
        }
        self.publish_devices(now)?;
        if self.stats_at <= now {
            self.stats_at = now + STATS_INTERVAL;
            self.write_stats()?;
            self.write_missing_status()?;
        }
        self.wait()
    }

    fn is_due(&self, id: ControllerId, now: Instant) -> bool {
        self.controllers.get(&id).is_none_or(|entry| entry.is_due(now))
    }

    /// Waits for the next event or deadline. Returns whether to stop.
    fn wait(&mut self) -> Result<bool, Error> {
        // An event that arrived together with a reply is already in the buffer: it does not make
        // the descriptor readable again.
        if let Some(event) = self.resources.store.take_event()? {
            self.handle_watch(&event)?;
            return Ok(false);
        }
        let busy = self.controllers.values().any(ControllerEntry::has_periodic_work);
        let waiting = self.dirty.iter().filter_map(|id| Some(self.controllers.get(id)?.not_before));
        let pending_ping = self.pending_ping.map(|(_, by)| by);
        let next = waiting
            .chain(self.list_at)
            .chain(self.retry_at)
            .chain(pending_ping)
            .chain(busy.then_some(self.stats_at))
            .min();
        let limit = next.map(|it| it.saturating_duration_since(Instant::now()));
        let limit = limit.and_then(|it| Timespec::try_from(it).ok());
        let mut all = vec![
            PollFd::new(&self.resources.stop, PollFlags::IN),
            PollFd::new(&self.resources.store, PollFlags::IN),
            PollFd::new(&self.uevents, PollFlags::IN),
            PollFd::new(self.reports.waker.fd(), PollFlags::IN),
        ];
        all.extend(
            self.resources
                .opener
                .as_ref()
                .map(|it| PollFd::from_borrowed_fd(it.as_fd(), PollFlags::empty())),
        );
        match poll(&mut all, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| all.get(at).is_some_and(|it| !it.revents().is_empty());
        let stop = is_ready(0) || is_ready(4);
        let woken = is_ready(3);
        if woken {
            self.reports.waker.clear();
        }
        Ok(stop)
    }

    fn handle_watch(&mut self, event: &WatchEvent) -> Result<(), Error> {
        if event.token == "ping" {
            // The sender of a ping is about to read the list, so it has to be up to date.
            self.pending_ping = Some((self.lister.request(), Instant::now() + PING_TIMEOUT));
        } else if let Some((domain, index)) = event.token.split_once('/') {
            self.dirty.extend(ControllerId::from_names(domain, index));
        } else if let Some(id) = ControllerId::from_backend_path(self.resources.us, &event.path) {
            self.dirty.insert(id);
        } else {
            self.scan()?;
        }
        Ok(())
    }

    /// Publishes the result of an enumeration, and answers a ping that was waiting for it.
    fn publish_devices(&mut self, now: Instant) -> Result<(), Error> {
        let mut completed = 0;
        if let Some((number, devices)) = self.lister.take() {
            let updated = self.announcement.update(&mut self.resources.store, &devices);
            self.retry_later("announce devices", updated)?;
            completed = number;
        }
        if self.pending_ping.is_some_and(|(number, by)| number <= completed || by <= now) {
            self.pending_ping = None;
            let answered = self.announcement.answer_ping(&mut self.resources.store);
            self.retry_later("answer a ping", answered)?;
        }
        Ok(())
    }

    /// Marks every controller for evaluation.
    fn scan(&mut self) -> Result<(), Error> {
        let root = usb::backend_root(self.resources.us);
        let domains = self.list(&root)?;
        for domain in domains {
            for index in self.list(&format!("{root}/{domain}"))? {
                self.dirty.extend(ControllerId::from_names(&domain, &index));
            }
        }
        self.dirty.extend(self.controllers.keys());
        Ok(())
    }

    /// The children of a node; none if it cannot be read now.
    fn list(&mut self, path: &str) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let read = self.resources.store.list(path).map(|it| names = it);
        self.retry_later("look for controllers", read)?;
        Ok(names)
    }

    /// Detects that devices were plugged in or unplugged.
    fn handle_uevents(&mut self) -> Result<(), Error> {
        let mut any = false;
        while self.uevents.next()?.is_some() {
            any = true;
        }
        if any {
            self.list_at = Some(Instant::now() + DRIVER_BIND_DELAY);
            self.controllers
                .values()
                .filter_map(|it| it.thread.as_ref())
                .for_each(|it| it.send(Command::DevicesChanged));
        }
        Ok(())
    }

    /// Clean shutdown: closes all controllers and returns all devices to their drivers.
    fn shut_down(mut self) -> Result<(), Error> {
        info!("shutting down");
        for entry in self.controllers.values().filter_map(|it| it.thread.as_ref()) {
            entry.send(Command::Stop);
        }
        let until = Instant::now() + SHUTDOWN_TIMEOUT;
        while self.controllers.values().any(|it| it.thread.is_some()) && Instant::now() < until {
            let Ok((id, generation, report)) =
                self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()))
            else {
                break;
            };
            let ended = matches!(report, Report::Ended(_));
            if !ended {
                let handled = self.handle_report(id, generation, report);
                self.contain(id, handled)?;
            } else if let Some(entry) =
                self.controllers.get_mut(&id).filter(|it| it.generation == generation)
            {
                entry.thread = None;
                entry.phase = Phase::Idle;
                let closed = self.close_with_error(id, "the backend was stopped");
                self.contain(id, closed)?;
            }
        }
        match self.announcement.withdraw(&mut self.resources.store) {
            Err(error) if error.is_connection_lost() => return Err(error.into()),
            Err(error) => warn!("cannot withdraw the announcement: {error}"),
            Ok(()) => {}
        }
        Ok(())
    }
}
