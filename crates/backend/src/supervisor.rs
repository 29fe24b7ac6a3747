//! The thread that talks to the store: it sees controllers come and go, starts and ends their threads, and writes down what they tell.
//!
//! ```text
//!   xenstore: watches ─┐                          ┌─▶ xenstore: states, status of ports, counters, devices
//!   kernel: uevents ───┼─▶ one loop, never long ──┤
//!   threads: reports ──┘                          └─▶ threads: what is wanted, the end
//! ```
//!
//! What to do about a controller is decided in [`phase`], from what the store says now. A watch only says that it is time to look.
//! Whatever a guest or a toolstack does in the store, however fast, is looked at once for each time around the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;
use tracing::{error, info, warn};
use vusb_host::uevent::{UeventError, Uevents};
use vusb_usbif::Port;
use vusb_xen::grant::Grants;
use vusb_xen::store::{self, Nodes, Store, WatchEvent};
use vusb_xen::{DomId, State};

use crate::controller::{Command, Controller, Report, Reports, Start, Waker};
use crate::lend::{self, Lender};
use crate::lister::Lister;
use crate::nodes::{self, Key, Plan, PortStatus};
use crate::phase::{self, Action, Backend, Phase, Sight};
use crate::publish::Published;

/// How often counters are written, while they change.
const STATS: Duration = Duration::from_secs(1);
/// How long after something was plugged in the list of devices is made: by then the kernel has found drivers for its interfaces.
const SETTLE: Duration = Duration::from_millis(200);
/// How long whoever pings waits for a list of devices that is new.
const PONG: Duration = Duration::from_secs(1);
/// A guest that breaks the protocol may come back after this time, and after twice as long each time that it does so again, at most for
/// [`LONGEST`].
const PENALTY: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A guest that has let go may come back after this time: each time costs a thread, and some lines in the log.
const PAUSE: Duration = Duration::from_millis(100);
/// How long ending in good order may take: what [`crate::controller`] gives each controller, and some.
const FAREWELL: Duration = Duration::from_secs(25);

/// Why the backend ends.
#[derive(Debug, Error)]
pub enum Trouble {
    /// xenstore is gone.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The kernel's messages cannot be had.
    #[error(transparent)]
    Uevents(#[from] UeventError),
    /// Waiting failed.
    #[error("waiting failed: {0}")]
    Wait(#[from] Errno),
    /// The system has no more files or threads.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What the supervisor works with.
#[derive(Debug)]
pub struct Means {
    /// The connection to xenstore.
    pub store: Store,
    /// This domain.
    pub us: DomId,
    /// The grant tables.
    pub grants: Grants,
    /// Finds and opens devices.
    pub lender: Lender,
    /// Readable when the process is to end.
    pub stop: UnixStream,
    /// The process that opens devices; ends with it.
    pub opener: Option<OwnedFd>,
}

/// A controller.
#[derive(Debug)]
struct Known {
    phase: Phase,
    life: u64,
    thread: Option<Controller>,
    plan: Option<Plan>,
    /// What was written of its ports.
    status: BTreeMap<Port, PortStatus>,
    stats: String,
    /// It broke the protocol so often.
    strikes: u32,
    not_before: Instant,
}

/// The supervisor.
#[derive(Debug)]
pub struct Supervisor {
    means: Means,
    uevents: Uevents,
    published: Published,
    lister: Lister,
    /// A ping that is answered when this look for devices has ended, or at this time.
    pinged: Option<(u64, Instant)>,
    known: BTreeMap<Key, Known>,
    reports: Reports,
    inbox: Receiver<(Key, u64, Report)>,
    /// Controllers to look at.
    dirty: BTreeSet<Key>,
    /// When to make the list of devices.
    list_at: Option<Instant>,
    stats_at: Instant,
    lives: u64,
}

impl Supervisor {
    /// Begins to listen, and says that a backend is there.
    ///
    /// # Errors
    /// The store cannot be used, or the system has no more files.
    pub fn new(mut means: Means) -> Result<Supervisor, Trouble> {
        let uevents = Uevents::listen()?;
        let (queue, inbox) = mpsc::channel();
        let reports = Reports { queue, waker: Waker::new()? };
        let published = Published::begin(&mut means.store, means.us)?;
        let mut lister = Lister::start(means.lender.host.clone(), reports.waker.clone())?;
        lister.ask();
        means.store.watch(&published.ping(), "ping")?;
        means.store.watch(&nodes::root(means.us), "controllers")?;
        Ok(Supervisor {
            means,
            uevents,
            published,
            lister,
            pinged: None,
            known: BTreeMap::new(),
            reports,
            inbox,
            dirty: BTreeSet::new(),
            list_at: None,
            stats_at: Instant::now() + STATS,
            lives: 0,
        })
    }

    /// Serves until the process is told to end.
    ///
    /// # Errors
    /// xenstore is gone: nothing can be done without it.
    pub fn run(mut self) -> Result<(), Trouble> {
        info!("serving from domain {}", self.means.us);
        while !self.turn()? {}
        self.farewell()
    }

    /// One time around. Whether to end.
    fn turn(&mut self) -> Result<bool, Trouble> {
        while let Some(event) = self.means.store.take_event()? {
            self.watched(&event)?;
        }
        self.plugged()?;
        while let Ok((key, life, report)) = self.inbox.try_recv() {
            self.reported(key, life, report)?;
        }
        let now = Instant::now();
        let due: Vec<Key> =
            self.dirty.iter().copied().filter(|key| self.is_due(*key, now)).collect();
        for key in due {
            self.dirty.remove(&key);
            self.look(key)?;
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            self.lister.ask();
        }
        self.listed(now)?;
        if self.stats_at <= now {
            self.stats_at = now + STATS;
            self.write_stats()?;
        }
        self.wait()
    }

    fn is_due(&self, key: Key, now: Instant) -> bool {
        self.known
            .get(&key)
            .is_none_or(|known| known.phase != Phase::Idle || known.not_before <= now)
    }

    /// Waits until something happens. Whether to end.
    fn wait(&mut self) -> Result<bool, Trouble> {
        // Events that came with a reply do not make the descriptor readable again.
        if let Some(event) = self.means.store.take_event()? {
            self.watched(&event)?;
            return Ok(false);
        }
        let busy = self.known.values().any(|it| it.thread.is_some());
        let waiting = self.dirty.iter().filter_map(|key| Some(self.known.get(key)?.not_before));
        let pinged = self.pinged.map(|(_, by)| by);
        let next =
            waiting.chain(self.list_at).chain(pinged).chain(busy.then_some(self.stats_at)).min();
        let limit = next.map(|it| it.saturating_duration_since(Instant::now()));
        let limit = limit.and_then(|it| Timespec::try_from(it).ok());
        let mut all = vec![
            PollFd::new(&self.means.stop, PollFlags::IN),
            PollFd::new(&self.means.store, PollFlags::IN),
            PollFd::new(&self.uevents, PollFlags::IN),
            PollFd::new(self.reports.waker.fd(), PollFlags::IN),
        ];
        all.extend(
            self.means
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

    fn watched(&mut self, event: &WatchEvent) -> Result<(), Trouble> {
        if event.token == "ping" {
            // Whoever pings is about to read the list.
            self.pinged = Some((self.lister.ask(), Instant::now() + PONG));
        } else if let Some((domain, index)) = event.token.split_once('/') {
            self.dirty.extend(Key::parse(domain, index));
        } else if let Some(key) = Key::of_path(self.means.us, &event.path) {
            self.dirty.insert(key);
        } else {
            self.scan()?;
        }
        Ok(())
    }

    /// Publishes the devices that were found, and answers whoever has asked for them.
    fn listed(&mut self, now: Instant) -> Result<(), Trouble> {
        let mut seen = 0;
        if let Some((number, devices)) = self.lister.take() {
            self.published.update(&mut self.means.store, &devices)?;
            seen = number;
        }
        if self.pinged.is_some_and(|(number, by)| number <= seen || by <= now) {
            self.pinged = None;
            self.published.answer(&mut self.means.store)?;
        }
        Ok(())
    }

    /// Looks for all controllers.
    fn scan(&mut self) -> Result<(), Trouble> {
        let root = nodes::root(self.means.us);
        for domain in self.means.store.list(&root)? {
            for index in self.means.store.list(&format!("{root}/{domain}"))? {
                self.dirty.extend(Key::parse(&domain, &index));
            }
        }
        self.dirty.extend(self.known.keys());
        Ok(())
    }

    fn plugged(&mut self) -> Result<(), Trouble> {
        let mut any = false;
        while self.uevents.next()?.is_some() {
            any = true;
        }
        if any {
            self.list_at = Some(Instant::now() + SETTLE);
            self.known
                .values()
                .filter_map(|it| it.thread.as_ref())
                .for_each(|it| it.tell(Command::Plugged));
        }
        Ok(())
    }

    /// Looks at a controller, and does what is to be done.
    fn look(&mut self, key: Key) -> Result<(), Trouble> {
        let folder = key.folder(self.means.us);
        let store = &mut self.means.store;
        let online = nodes::text(store, &format!("{folder}/online"))?;
        let state = nodes::state(store, &folder)?;
        let backend =
            online.zip(state).map(|(online, state)| Backend { online: online == "1", state });
        if backend.is_some() && !self.known.contains_key(&key) {
            self.meet(key)?;
        }
        let sight =
            Sight { backend, frontend: nodes::state(&mut self.means.store, &key.frontend())? };
        let phase = self.known.get(&key).map_or(Phase::Idle, |it| it.phase);
        let action = phase::next(phase, sight);
        self.act(key, action)?;
        let running = self.known.get(&key).is_some_and(|it| it.phase == Phase::Running);
        if running && action == Action::Nothing {
            self.update_wanted(key)?;
        }
        Ok(())
    }

    fn meet(&mut self, key: Key) -> Result<(), Trouble> {
        let token = format!("{}/{}", key.domain, key.index);
        self.means.store.watch(&format!("{}/state", key.frontend()), &token)?;
        let known = Known {
            phase: Phase::Idle,
            life: 0,
            thread: None,
            plan: None,
            status: BTreeMap::new(),
            stats: String::new(),
            strikes: 0,
            not_before: Instant::now(),
        };
        self.known.insert(key, known);
        Ok(())
    }

    fn act(&mut self, key: Key, action: Action) -> Result<(), Trouble> {
        match action {
            Action::Nothing => Ok(()),
            Action::Wait => {
                self.set_phase(key, Phase::Waiting);
                // The guest may have gone on while nobody looked.
                self.dirty.insert(key);
                Ok(())
            }
            Action::Offer => self.offer(key),
            Action::Connect => self.connect(key),
            Action::Stop => {
                self.set_phase(key, Phase::Ending);
                if let Some(thread) = self.known.get(&key).and_then(|it| it.thread.as_ref()) {
                    thread.tell(Command::End);
                }
                Ok(())
            }
            Action::CloseStale => self.close_stale(key),
            Action::Closed => {
                self.set_phase(key, Phase::Idle);
                self.put(key, "state", Some(&State::Closed.to_string()))
            }
            Action::Forget => self.forget(key),
        }
    }

    fn set_phase(&mut self, key: Key, phase: Phase) {
        if let Some(known) = self.known.get_mut(&key) {
            known.phase = phase;
        }
    }

    /// Reads what the controller is to be. `None`: it cannot be served, which the store is told.
    fn read_plan(&mut self, key: Key) -> Result<Option<Plan>, Trouble> {
        match nodes::plan(&mut self.means.store, &key.folder(self.means.us))? {
            Ok(plan) => Ok(Some(plan)),
            Err(bad) => {
                warn!("{key}: {bad}");
                self.put(key, "error", Some(&bad.to_string()))?;
                Ok(None)
            }
        }
    }

    fn offer(&mut self, key: Key) -> Result<(), Trouble> {
        if self.read_plan(key)?.is_none() {
            return Ok(());
        }
        self.set_phase(key, Phase::Waiting);
        self.put(key, "error", None)?;
        self.put(key, "state", Some(&State::InitWait.to_string()))?;
        self.dirty.insert(key);
        Ok(())
    }

    fn connect(&mut self, key: Key) -> Result<(), Trouble> {
        let Some(plan) = self.read_plan(key)? else { return Ok(()) };
        let frontend = key.frontend();
        let Some(rings) = nodes::rings(&mut self.means.store, &frontend)? else {
            return self.drop_controller(
                key,
                "the guest says that it is connected, but not where its rings are",
            );
        };
        self.lives += 1;
        let start = Start {
            key,
            life: self.lives,
            rings,
            ports: plan.ports,
            wanted: plan.wanted.clone(),
            grants: self.means.grants.clone(),
            lender: Lender { version: plan.version, ..self.means.lender.clone() },
            reports: self.reports.clone(),
        };
        let thread = match Controller::start(start) {
            Ok(thread) => thread,
            Err(error) => return self.drop_controller(key, &format!("no thread for it: {error}")),
        };
        let life = self.lives;
        if let Some(known) = self.known.get_mut(&key) {
            known.phase = Phase::Running;
            known.life = life;
            known.thread = Some(thread);
        }
        self.set_plan(key, plan)
    }

    /// Keeps a plan, and tells the store of ports that cannot be read.
    fn set_plan(&mut self, key: Key, plan: Plan) -> Result<(), Trouble> {
        let unreadable = plan.unreadable.clone();
        if let Some(known) = self.known.get_mut(&key) {
            known.plan = Some(plan);
        }
        for (port, why) in unreadable {
            if let Ok(port) = Port::new(port) {
                self.write_status(key, port, Some(PortStatus::Refused(why)))?;
            }
        }
        Ok(())
    }

    fn update_wanted(&mut self, key: Key) -> Result<(), Trouble> {
        let Ok(plan) = nodes::plan(&mut self.means.store, &key.folder(self.means.us))? else {
            return Ok(());
        };
        let Some(known) = self.known.get_mut(&key) else { return Ok(()) };
        let Some(old) = known.plan.clone().filter(|old| *old != plan) else { return Ok(()) };
        if let Some(thread) = &known.thread {
            thread.tell(Command::Want(plan.wanted.clone()));
        }
        // A port that could not be read and is empty now has no thread that would say so.
        let mended = old
            .unreadable
            .keys()
            .filter(|it| !plan.unreadable.contains_key(it) && !plan.wanted.contains_key(it));
        for port in mended {
            if let Ok(port) = Port::new(*port) {
                self.write_status(key, port, None)?;
            }
        }
        self.set_plan(key, plan)
    }

    /// What a backend that was killed left behind: its devices have no drivers, and its ring cannot be taken over.
    fn close_stale(&mut self, key: Key) -> Result<(), Trouble> {
        let why = "its backend was started anew while the guest was connected; `vusb apply` makes it again";
        warn!("{key}: {why}");
        if let Some(plan) = self.read_plan(key)? {
            let lender = Lender { version: plan.version, ..self.means.lender.clone() };
            let give_back =
                move || plan.wanted.values().for_each(|want| lend::adopt(&lender, want));
            std::thread::Builder::new().name("adopt".to_owned()).spawn(give_back)?;
        }
        for port in 1..=Port::MAX.number() {
            self.put(key, &format!("status/{port}"), None)?;
        }
        self.put(key, "error", Some(why))?;
        self.put(key, "state", Some(&State::Closing.to_string()))
    }

    /// The guest did what no guest may.
    fn drop_controller(&mut self, key: Key, why: &str) -> Result<(), Trouble> {
        error!("{key}: dropped: {why}");
        if let Some(known) = self.known.get_mut(&key) {
            known.phase = Phase::Idle;
            let pause = PENALTY.saturating_mul(1 << known.strikes.min(16)).min(LONGEST);
            known.strikes = known.strikes.saturating_add(1);
            known.not_before = Instant::now() + pause;
        }
        self.put(key, "error", Some(why))?;
        self.put(key, "state", Some(&State::Closing.to_string()))?;
        self.dirty.insert(key);
        Ok(())
    }

    fn forget(&mut self, key: Key) -> Result<(), Trouble> {
        if self.known.remove(&key).is_some() {
            let token = format!("{}/{}", key.domain, key.index);
            match self.means.store.unwatch(&format!("{}/state", key.frontend()), &token) {
                Ok(()) | Err(store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            info!("{key}: gone");
        }
        Ok(())
    }

    fn reported(&mut self, key: Key, life: u64, report: Report) -> Result<(), Trouble> {
        if self.known.get(&key).is_none_or(|it| it.life != life) {
            return Ok(());
        }
        match report {
            Report::Connected => {
                info!("{key}: connected");
                self.put(key, "state", Some(&State::Connected.to_string()))?;
            }
            Report::Port(port, status) => self.write_status(key, port, status)?,
            Report::Ended(why) => self.ended(key, why)?,
        }
        Ok(())
    }

    /// A thread has ended: it was told to, or the guest broke the protocol, or let go in the middle of things.
    fn ended(&mut self, key: Key, why: Option<String>) -> Result<(), Trouble> {
        let Some(known) = self.known.get_mut(&key) else { return Ok(()) };
        known.thread = None;
        known.plan = None;
        known.status.clear();
        known.not_before = Instant::now() + PAUSE;
        let told = known.phase == Phase::Ending;
        known.phase = Phase::Idle;
        let frontend = nodes::state(&mut self.means.store, &key.frontend())?;
        let connected = matches!(frontend, Some(State::Initialised | State::Connected));
        match why {
            // A guest that is on its way out takes its memory back before it says so.
            Some(why) if !told && connected => return self.drop_controller(key, &why),
            _ => info!("{key}: closed"),
        }
        self.put(key, "stats", None)?;
        self.put(key, "state", Some(&phase::after_end(frontend).to_string()))?;
        self.dirty.insert(key);
        Ok(())
    }

    fn write_status(
        &mut self,
        key: Key,
        port: Port,
        status: Option<PortStatus>,
    ) -> Result<(), Trouble> {
        let Some(known) = self.known.get_mut(&key) else { return Ok(()) };
        let changed = match &status {
            Some(status) => known.status.insert(port, status.clone()).as_ref() != Some(status),
            None => {
                known.status.remove(&port);
                true
            }
        };
        if !changed {
            return Ok(());
        }
        let status = status.map(|it| it.to_string());
        info!("{key}, port {port}: {}", status.as_deref().unwrap_or("empty"));
        self.put(key, &format!("status/{port}"), status.as_deref())
    }

    fn write_stats(&mut self) -> Result<(), Trouble> {
        let mut news = Vec::new();
        for (key, known) in &mut self.known {
            let Some(thread) = &known.thread else { continue };
            let text = thread.counters.to_string();
            if text != known.stats {
                known.stats.clone_from(&text);
                news.push((*key, text));
            }
        }
        news.into_iter().try_for_each(|(key, text)| self.put(key, "stats", Some(&text)))
    }

    /// Writes or removes a node of a controller, unless the controller is gone: writing would make half of it again.
    fn put(&mut self, key: Key, name: &str, value: Option<&str>) -> Result<(), Trouble> {
        let folder = key.folder(self.means.us);
        self.means.store.transaction(|tx| {
            if !tx.exists(&format!("{folder}/frontend"))? {
                return Ok(());
            }
            match value {
                Some(value) => tx.write(&format!("{folder}/{name}"), value),
                None => tx.remove(&format!("{folder}/{name}")),
            }
        })?;
        Ok(())
    }

    /// Ends in good order: closes all controllers and gives all devices back.
    fn farewell(mut self) -> Result<(), Trouble> {
        info!("ending");
        for known in self.known.values().filter_map(|it| it.thread.as_ref()) {
            known.tell(Command::End);
        }
        let until = Instant::now() + FAREWELL;
        while self.known.values().any(|it| it.thread.is_some()) && Instant::now() < until {
            let Ok((key, life, report)) =
                self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()))
            else {
                break;
            };
            let ended = matches!(report, Report::Ended(_));
            if !ended {
                self.reported(key, life, report)?;
            } else if let Some(known) = self.known.get_mut(&key).filter(|it| it.life == life) {
                known.thread = None;
                known.phase = Phase::Idle;
                self.put(
                    key,
                    "error",
                    Some("its backend has ended; start it, and `vusb apply` makes it again"),
                )?;
                self.put(key, "state", Some(&State::Closing.to_string()))?;
            }
        }
        self.published.end(&mut self.means.store)?;
        Ok(())
    }
}
