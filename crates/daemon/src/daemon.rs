//! The daemon: threads that wait for events, and the loop that reacts to them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use thiserror::Error;
use tracing::{debug, error, info, warn};
use vusb::drivers::watch::{Change, Folders};
use vusb::model::rules::RuleName;
use vusb::rules::LoadedRules;
use vusb::{AssignedDomain, Assignments, Cancel, Context, Options};
use vusb_host::uevent::{Event as UeventKind, UeventError, Uevents};
use vusb_methods::Failure;

use crate::api;
use crate::atomic_file;
use crate::events::Event;
use crate::guest_watches::GuestWatches;
use crate::held;
use crate::machine::{self, Snapshot};
use crate::question_command::QuestionCommand;
use crate::reconcile::{Note, Part, Plug, Reconciler, STATES, Work};
use crate::scan_times::{SCAN_PAUSE, ScanTimes};
use crate::shared::{Message, Shared};
use crate::slots::Slots;
use crate::udev_rules;
use crate::worker::{self, WorkResult};

/// How long changes of the records are collected. After devices were read, the records are read at
/// once: they show which domains the new devices belong to.
const RECORDS_PAUSE: Duration = Duration::from_millis(50);

/// How long a new device may wait until udev has processed it. Afterwards the device is used as it
/// is.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait after an error before reading again.
pub(crate) const READ_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long changes of the metrics are collected before their file is written again.
const METRICS_PAUSE: Duration = Duration::from_secs(5);

/// A socket for other programs.
#[derive(Debug)]
pub enum Listen {
    /// A socket that is to be created.
    At(PathBuf),
    /// A socket that systemd has created and passed to this process.
    Passed(UnixListener),
}

/// What the daemon works with.
#[derive(Debug)]
pub struct Settings {
    /// The records, the machine, the drivers and the folders of the rules.
    pub context: Context,
    /// Whether the devices are a simulated tree: the kernel does not report its changes, so it is
    /// read again on SIGHUP.
    pub simulated: bool,
    /// Further folders with the sockets or files of guests, by scheme.
    pub guests: Vec<(String, PathBuf)>,
    /// The socket for other programs.
    pub listen: Option<Listen>,
    /// The file for the metrics of a monitoring system.
    pub metrics: Option<PathBuf>,
    /// The program that is started for each question.
    pub question_command: Option<PathBuf>,
    /// Where the log goes.
    pub log: vusb_log::Output,
}

/// Why the daemon cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// The folder of the records cannot be created or watched.
    #[error("cannot watch the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel's notifications are not available.
    #[error(transparent)]
    Uevents(#[from] UeventError),
    /// The socket for other programs cannot be created.
    #[error("cannot listen at {}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The guests of a scheme cannot be watched.
    #[error("cannot watch for guests: {0}")]
    Guests(#[from] vusb::Error),
}

/// The state of the loop.
struct Daemon {
    settings: Settings,
    /// What the threads of the interface use too: the context with the rules in force.
    shared: Arc<Shared>,
    reconciler: Reconciler,
    sender: Sender<Message>,
    begun: Instant,
    cancel: Cancel,
    slots: Slots,
    /// The guests that run, by the source that reports them.
    running: BTreeMap<usize, BTreeSet<String>>,
    watches: GuestWatches,
    /// The devices when they were last read.
    snapshot: Snapshot,
    scans: ScanTimes,
    /// When a device that is not known yet may have been plugged in.
    devices_changed: Option<Instant>,
    /// When each device was plugged in and each guest was started, as far as is known.
    plugged: BTreeMap<Plug, Instant>,
    started: BTreeMap<String, Instant>,
    /// When the metrics file is to be written; `None` if nothing has changed.
    metrics_at: Option<Instant>,
    held: BTreeSet<(String, Plug)>,
    question_command: Option<QuestionCommand>,
    /// The rules for udev that were last written, or whose writing failed.
    udev_rules: String,
    /// The callers that wait for the rules to be read again; `None` if no reload is pending.
    reload: Option<Vec<Sender<Result<LoadedRules, Failure>>>>,
    /// Whether the pending reload was requested by a signal: systemd then waits for its end.
    reload_by_signal: bool,
    /// Why records cannot be read: the problems that were already logged.
    unreadable: BTreeSet<String>,
    /// When the records are to be read; `None` if nothing has changed.
    records_at: Option<Instant>,
    records_read: Option<Instant>,
    guests_changed: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// A source of events cannot be watched, the socket cannot be created, or a thread cannot be
/// started.
pub fn run(settings: Settings) -> Result<(), StartError> {
    let (sender, receiver) = channel();
    handle_signals(sender.clone())?;
    watch_folders(settings.context.state().path(), settings.context.host().root(), sender.clone())?;
    if !settings.simulated {
        watch_devices(sender.clone())?;
    }
    let shared = Arc::new(Shared::new(settings.context.clone(), sender.clone(), settings.log));
    let mut daemon = Daemon {
        shared: Arc::clone(&shared),
        settings,
        reconciler: Reconciler::default(),
        watches: GuestWatches::new(sender.clone()),
        sender,
        begun: Instant::now(),
        cancel: Cancel::default(),
        slots: Slots::default(),
        running: BTreeMap::new(),
        snapshot: Snapshot::default(),
        scans: ScanTimes::default(),
        devices_changed: None,
        plugged: BTreeMap::new(),
        started: BTreeMap::new(),
        metrics_at: None,
        held: BTreeSet::new(),
        question_command: None,
        udev_rules: String::new(),
        reload: None,
        reload_by_signal: false,
        unreadable: BTreeSet::new(),
        records_at: Some(Instant::now()),
        records_read: None,
        guests_changed: true,
    };
    daemon.question_command = daemon.settings.question_command.take().map(QuestionCommand::new);
    daemon.held = held::load(daemon.settings.context.state().path(), daemon.root());
    daemon.reconciler.set_held_before(daemon.held.clone());
    daemon.load_rules(&[]);
    daemon.watch_guests()?;
    let listener = match daemon.settings.listen.take() {
        Some(Listen::At(path)) => {
            Some(api::bind(&path).map_err(|source| StartError::Listen { path, source })?)
        }
        Some(Listen::Passed(listener)) => Some(listener),
        None => None,
    };
    if let Some(listener) = listener {
        api::serve_all(listener, shared).map_err(StartError::Thread)?;
    }
    daemon.scans.request(Instant::now());
    daemon.serve(&receiver);
    Ok(())
}

impl Daemon {
    fn serve(&mut self, receiver: &Receiver<Message>) {
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let mut is_ready = false;
        loop {
            self.pass();
            if !is_ready {
                notify(&[NotifyState::Ready]);
                info!("ready");
                is_ready = true;
            }
            let wait = [self.next_wake(), watchdog].into_iter().flatten().min();
            let first = match wait {
                Some(limit) => receiver.recv_timeout(limit),
                None => receiver.recv().map_err(RecvTimeoutError::from),
            };
            if watchdog.is_some() {
                notify(&[NotifyState::Watchdog]);
            }
            for message in first.into_iter().chain(receiver.try_iter()) {
                if matches!(message, Message::Stop) {
                    return self.stop(receiver);
                }
                self.handle(message);
                self.metrics_at.get_or_insert_with(|| Instant::now() + METRICS_PAUSE);
            }
        }
    }

    /// Ends the work that is under way: the library undoes what is not complete.
    fn stop(&mut self, receiver: &Receiver<Message>) {
        notify(&[NotifyState::Stopping]);
        self.cancel.cancel();
        while !self.slots.busy().is_empty() {
            match receiver.recv() {
                Ok(Message::Finished { work, .. }) => self.slots.end(&work.domain),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Devices => self.scan_soon(),
            Message::Processed(plug) => {
                if self.snapshot.read_again(self.settings.context.host(), plug) {
                    self.use_snapshot();
                }
            }
            Message::Records => self.read_records_soon(),
            Message::Reload { reply } => {
                // A caller gets the result as its reply. After a signal, systemd is notified. The
                // message has the time, so that systemd does not attribute it to an earlier reload.
                let waits = reply.is_some();
                match NotifyState::monotonic_usec_now() {
                    _ if waits => {}
                    Ok(now) => notify(&[NotifyState::Reloading, now]),
                    Err(error) => warn!("cannot read the time: {error}"),
                }
                self.reload_by_signal |= !waits;
                self.reload.get_or_insert_default().extend(reply);
                self.scan_soon();
            }
            Message::Started { source, domain } => {
                self.event("guest-started", &domain, "the guest has started");
                self.reconciler.guest_started(&domain);
                self.started.insert(domain.clone(), Instant::now());
                self.running.entry(source).or_default().insert(domain);
                self.guests_changed = true;
                self.read_records_soon();
            }
            Message::Ended { source, domain } => {
                self.running.entry(source).or_default().remove(&domain);
                self.event("guest-ended", &domain, "the guest has ended");
                self.reconciler.guest_ended(&domain);
                self.started.remove(&domain);
                self.guests_changed = true;
            }
            Message::Running { source, domains } => {
                self.running.insert(source, domains);
                let all: BTreeSet<String> = self.running.values().flatten().cloned().collect();
                self.reconciler.set_guests(&all);
                self.started.retain(|it, _| all.contains(it));
                for domain in all {
                    self.started.entry(domain).or_insert_with(Instant::now);
                }
                self.guests_changed = true;
                self.read_records_soon();
            }
            Message::Finished { work, result } => {
                self.slots.end(&work.domain);
                self.reconciler.finished(&work, result.succeeded, self.begun.elapsed());
                if let (Part::Device(plug), Some(holder)) = (work.part, &result.holder) {
                    self.reconciler.found_attached(plug, holder);
                }
                self.count(&work, &result);
                self.read_records_soon();
            }
            Message::LiftHolds { domain, dry_run, reply } => {
                // A device may have been detached just before, and not be known as held yet.
                self.read_records();
                let ports = self.reconciler.held_ports(domain.as_deref());
                if !dry_run {
                    self.reconciler.resume(domain.as_deref());
                }
                // The caller may have disconnected.
                let _ = reply.send(ports);
            }
            Message::Stop => {}
        }
    }

    /// Updates what has changed, and begins the work that is due.
    fn pass(&mut self) {
        let begun = Instant::now();
        let scans = self.scans.begin(begun);
        self.update(scans);
        if scans {
            self.scans.finished(begun, Instant::now());
        }
    }

    fn update(&mut self, scans: bool) {
        if scans {
            // The rules are read with the devices: a storm of requests costs no more than one of
            // events.
            if let Some(waiting) = self.reload.take() {
                self.load_rules(&waiting);
                if std::mem::take(&mut self.reload_by_signal) {
                    notify(&[NotifyState::Ready]);
                }
            }
            self.scan();
        }
        if self.records_at.is_some_and(|at| at <= Instant::now()) {
            self.read_records();
        }
        if std::mem::take(&mut self.guests_changed) {
            self.shared.set_guests(self.running.values().flatten().cloned().collect());
            self.read_names();
        }
        let now = self.begun.elapsed();
        for work in self.reconciler.begin(now, self.slots.busy(), self.slots.free(now)) {
            self.begin(work);
        }
        // This is stored before it is reported: the report promises that the device stays detached.
        self.save_held();
        for note in self.reconciler.take_notes() {
            if let Note::Denied { rules, .. } = &note {
                rules.iter().for_each(|it| self.shared.metrics.add_denied(it.as_str()));
            }
            let event = report(&note);
            let number = self.shared.events.add(event.clone());
            if let (Note::Question { .. }, Some(command)) = (&note, &self.question_command) {
                command.run(number, &event);
            }
        }
        let states = self.reconciler.states();
        let mut counts: BTreeMap<&'static str, usize> = STATES.map(|it| (it, 0)).into();
        states.values().for_each(|it| *counts.entry(*it).or_default() += 1);
        self.shared.metrics.set_devices(&counts);
        self.shared.set_states(states);
        self.shared.metrics.set_guests(self.reconciler.guests());
        self.shared.metrics.set_required_absent(self.reconciler.required_absent());
        if self.metrics_at.is_some_and(|at| at <= Instant::now()) {
            self.metrics_at = None;
            self.write_metrics();
        }
    }

    fn root(&self) -> &Path {
        self.settings.context.host().root()
    }

    /// Counts the result of work that is about a device, unless the guest had the device already.
    fn count(&self, work: &Work, result: &WorkResult) {
        let Part::Device(plug) = work.part else { return };
        if result.succeeded && !result.changed {
            return;
        }
        let both = [self.plugged.get(&plug), self.started.get(&work.domain)];
        let since = both.into_iter().flatten().max();
        self.shared.metrics.add_attempt(result.succeeded, since.map(Instant::elapsed));
    }

    /// Stores which devices stay detached, for the next start of the daemon.
    fn save_held(&mut self) {
        let held = self.reconciler.held();
        if held == self.held {
            return;
        }
        match held::save(self.settings.context.state().path(), self.root(), &held) {
            Ok(()) => self.held = held,
            Err(error) => warn!("cannot store which devices were detached by hand: {error}"),
        }
    }

    /// Keeps other programs away from the devices of guests.
    fn update_udev_rules(&mut self, records: &[AssignedDomain]) {
        let text = udev_rules::text(records);
        if text == self.udev_rules {
            return;
        }
        if let Err(error) = udev_rules::write(self.root(), &text) {
            warn!("cannot write rules for udev: {error}");
        }
        // After a failure, the rules are not written again until they change.
        self.udev_rules = text;
    }

    fn write_metrics(&self) {
        let Some(path) = &self.settings.metrics else { return };
        let text = self.shared.metrics.text();
        if let Err(error) = atomic_file::replace(path, &text) {
            warn!("cannot write {}: {error}", path.display());
        }
    }

    fn event(&self, event: &str, domain: &str, text: &str) {
        let domain = Some(domain.to_owned());
        self.shared.events.add(Event { domain, ..Event::new(event, text) });
    }

    /// How long the loop may sleep if nothing happens.
    fn next_wake(&self) -> Option<Duration> {
        let scan = self.scans.due().map(|at| at.saturating_duration_since(Instant::now()));
        let now = self.begun.elapsed();
        let work = self.reconciler.next_wake(self.slots.busy());
        let work = work.map(|due| self.slots.earliest(due, now).saturating_sub(now));
        let records = self.records_at.map(|at| at.saturating_duration_since(Instant::now()));
        let metrics = self.metrics_at.filter(|_| self.settings.metrics.is_some());
        let metrics = metrics.map(|at| at.saturating_duration_since(Instant::now()));
        [scan, records, work, metrics].into_iter().flatten().min()
    }

    fn scan_soon(&mut self) {
        let now = Instant::now();
        self.devices_changed.get_or_insert(now);
        self.scans.request(now);
    }

    fn scan(&mut self) {
        let now = Instant::now();
        // Each device has its own time: a device must not be used early because udev never
        // processes another one.
        let has_waited =
            |plug| self.plugged.get(&plug).is_some_and(|since| now - *since >= SETTLE_LIMIT);
        match Snapshot::read(self.settings.context.host(), has_waited) {
            Ok(snapshot) => {
                let since = self.devices_changed.take().unwrap_or(now);
                let known: BTreeSet<Plug> =
                    snapshot.devices.iter().map(|it| it.bus_address).collect();
                self.plugged.retain(|it, _| known.contains(it));
                for plug in known {
                    self.plugged.entry(plug).or_insert(since);
                }
                let settling = snapshot.settling.iter().filter_map(|it| self.plugged.get(it));
                if let Some(first) = settling.min() {
                    self.scans.request(*first + SETTLE_LIMIT);
                }
                self.snapshot = snapshot;
                self.use_snapshot();
            }
            Err(error) => {
                error!("{error}");
                self.scans.request(now + READ_RETRY_PAUSE);
            }
        }
    }

    /// Decides for the devices that are ready now. The records show which domains new devices
    /// belong to.
    fn use_snapshot(&mut self) {
        self.reconciler.set_devices(self.snapshot.ready.clone());
        self.records_at = Some(Instant::now());
    }

    fn read_records_soon(&mut self) {
        let earliest = self.records_read.map_or_else(Instant::now, |last| last + RECORDS_PAUSE);
        self.records_at = Some(self.records_at.map_or(earliest, |at| at.min(earliest)));
    }

    fn read_records(&mut self) {
        self.records_at = None;
        match self.settings.context.assignments(&self.snapshot.devices, &Options::default()) {
            Ok(Assignments { domains, unreadable }) => {
                let unreadable = unreadable.iter().map(ToString::to_string).collect();
                for problem in BTreeSet::difference(&unreadable, &self.unreadable) {
                    warn!("the devices of a guest are left as they are: {problem}");
                }
                self.unreadable = unreadable;
                self.update_udev_rules(&domains);
                self.reconciler.set_records(domains);
            }
            Err(error) => error!("{error}"),
        }
        self.records_read = Some(Instant::now());
        // A new record may be of a guest in a folder that is not watched yet.
        self.update_watches();
    }

    fn update_watches(&mut self) {
        if let Err(error) = self.watch_guests() {
            warn!("{error}");
        }
    }

    /// Reads the names of the domains that have a record or run.
    fn read_names(&mut self) {
        let names = self.settings.context.named_domains(&Options::default());
        let names = names.unwrap_or_else(|error| {
            error!("{error}");
            Vec::new()
        });
        let names = names.into_iter().filter_map(|it| Some((it.address?, it.name)));
        self.reconciler.set_names(names.collect());
    }

    /// Reads the rules, and tells the callers that wait. If the rules have a mistake, the old ones
    /// stay in force.
    fn load_rules(&mut self, waiting: &[Sender<Result<LoadedRules, Failure>>]) {
        // A caller may have disconnected.
        let tell = |result: Result<LoadedRules, Failure>| {
            waiting.iter().for_each(|it| drop(it.send(result.clone())));
        };
        match self.settings.context.rules() {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    warn!("{warning}");
                }
                let (rules, files) = (loaded.set.rules.len(), loaded.files.len());
                let text = format!("{rules} rules loaded from {files} files");
                self.shared.events.add(Event::new("rules-loaded", text.clone()));
                notify(&[NotifyState::Status(&text)]);
                self.reconciler.set_rules(loaded.set.clone());
                self.shared.metrics.set_rules(rules);
                let context = self.settings.context.clone().with_loaded_rules(loaded.clone());
                self.shared.set_context(context);
                tell(Ok(loaded));
            }
            Err(mistakes) => {
                let status = "the rule files have a mistake, and are not used: see the log";
                notify(&[NotifyState::Status(status)]);
                let text = format!("the rules are not changed: {mistakes}");
                self.shared.events.add(Event::new("rules-rejected", text));
                tell(Err(mistakes.into()));
            }
        }
    }

    fn begin(&mut self, work: Work) {
        self.slots.begin(&work.domain, self.begun.elapsed());
        let options = Options { cancel: self.cancel.clone(), ..Options::default() };
        let (shared, sender) = (Arc::clone(&self.shared), self.sender.clone());
        // The worker uses the devices that the work was decided for. Reading all of them again
        // would take far longer than the work itself.
        let devices = Arc::clone(&self.snapshot.devices);
        let again = work.clone();
        let run = move || {
            let result = worker::carry_out(&shared, devices, &work, &options);
            let _ = sender.send(Message::Finished { work, result });
        };
        if let Err(error) = spawn("worker", run) {
            error!("{error}");
            let _ =
                self.sender.send(Message::Finished { work: again, result: WorkResult::default() });
        }
    }

    /// Watches the folders of guests: those of the schemes, of the settings, and of the records.
    fn watch_guests(&mut self) -> Result<(), StartError> {
        let recorded = self.reconciler.recorded_domains().map(str::to_owned).collect();
        let (context, further) = (&self.settings.context, &self.settings.guests);
        self.watches.update(context, further, &recorded)
    }
}

/// Converts a note into an event.
fn report(note: &Note) -> Event {
    let rules = |all: &[RuleName]| Some(all.iter().map(ToString::to_string).collect());
    match note {
        Note::Question { plug, port, domains, rules: asking, conflict } => {
            let why =
                if *conflict { "rules of equal rank contradict each other" } else { "a rule asks" };
            Event {
                address: Some(plug.to_string()),
                port: Some(port.to_string()),
                domains: Some(domains.clone()),
                rules: rules(asking),
                ..Event::new("question", format!("who gets the device at {port}? {why}"))
            }
        }
        Note::Denied { plug, port, rules: denying } => Event {
            address: Some(plug.to_string()),
            port: Some(port.to_string()),
            rules: rules(denying),
            ..Event::new("denied", format!("the device at {port} is denied"))
        },
        Note::Held { domain, plug, port } => Event {
            domain: Some(domain.clone()),
            address: Some(plug.to_string()),
            port: Some(port.to_string()),
            ..Event::new(
                "held",
                "detached by hand: the device stays detached until it is plugged in again",
            )
        },
        Note::RequiredAbsent { domain, device } => Event {
            domain: Some(domain.clone()),
            ..Event::new(
                "required-absent",
                format!("{device} is required and not plugged in: the guest runs without it"),
            )
        },
        Note::Failing { domain, part } => Event {
            domain: Some(domain.clone()),
            address: match part {
                Part::Device(plug) => Some(plug.to_string()),
                Part::Emulated => None,
            },
            ..Event::new("failing", "failed several times in a row; it is retried less often")
        },
    }
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(StartError::Thread)
}

/// Notifies systemd, if it started this process.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot notify systemd: {error}");
    }
}

fn handle_signals(sender: Sender<Message>) -> Result<(), StartError> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(StartError::Signals)?;
    spawn("signals", move || {
        for signal in signals.forever() {
            let message =
                if signal == SIGHUP { Message::Reload { reply: None } } else { Message::Stop };
            if sender.send(message).is_err() {
                return;
            }
        }
    })
}

/// Watches the folder of the records, and that of udev's results.
fn watch_folders(records: &Path, root: &Path, sender: Sender<Message>) -> Result<(), StartError> {
    let failed = |source| StartError::Folder { path: records.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(records).map_err(failed)?;
    let records_path = std::path::absolute(records).map_err(failed)?;
    let mut folders = Folders::new([records_path]).map_err(|(_, errno)| failed(errno.into()))?;
    let udev = std::path::absolute(root.join(machine::UDEV_DATA)).map_err(failed)?;
    if let Err((path, errno)) = folders.replace_from(1, [udev]) {
        // New devices are then used when they have waited long enough.
        warn!("cannot watch the folder {}: {errno}", path.display());
    }
    spawn("folders", move || {
        loop {
            wait_until_readable(&folders);
            let changes = folders.read().unwrap_or_else(|errno| {
                error!("cannot read which files have changed: {errno}");
                thread::sleep(READ_RETRY_PAUSE);
                vec![Change::Overflow]
            });
            let messages = changes.iter().flat_map(messages);
            if messages.map(|it| sender.send(it)).any(|sent| sent.is_err()) {
                return;
            }
        }
    })
}

/// What a change in the folder of the records (0) or in that of udev's results (1) means.
fn messages(change: &Change) -> Vec<Message> {
    match change {
        Change::Entry { folder: 0, name, .. } if is_record(name) => vec![Message::Records],
        Change::Entry { folder: 1, name, removed: false } => {
            machine::device_of(name).map(Message::Processed).into_iter().collect()
        }
        Change::Entry { .. } => Vec::new(),
        Change::Folder(0) => vec![Message::Records],
        Change::Folder(_) => vec![Message::Devices],
        Change::Overflow => vec![Message::Records, Message::Devices],
    }
}

/// Whether a file is that of a record. Whatever happens to its other files, a record is replaced in
/// the end: reading all records in between would only delay the change.
fn is_record(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "json")
}

fn wait_until_readable(source: &impl AsFd) {
    let mut fds = [PollFd::new(source, PollFlags::IN)];
    // After an error, the source is read, and reports it.
    let _ = poll(&mut fds, None);
}

fn watch_devices(sender: Sender<Message>) -> Result<(), StartError> {
    let mut uevents = Uevents::listen()?;
    spawn("uevents", move || {
        loop {
            wait_until_readable(&uevents);
            // It does not matter which device has changed: all of them are read again.
            let mut changed = false;
            loop {
                match uevents.next() {
                    Ok(Some(event)) => {
                        if event == UeventKind::Rescan {
                            debug!("notifications of the kernel were lost");
                        }
                        changed = true;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        error!("{error}");
                        thread::sleep(READ_RETRY_PAUSE);
                        changed = true;
                        break;
                    }
                }
            }
            if changed && sender.send(Message::Devices).is_err() {
                return;
            }
            if changed {
                // The devices are not read more often anyway. Meanwhile the socket queues
                // notifications, and reports an overflow.
                thread::sleep(SCAN_PAUSE);
            }
        }
    })
}
