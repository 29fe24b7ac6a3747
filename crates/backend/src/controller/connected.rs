//! A connected controller: the event loop that drives its [`Engine`].

use std::collections::BTreeMap;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use tracing::{debug, warn};
use vusb_host::usbfs::UsbFs;
use vusb_usbif::{Notify, Port};
use vusb_xen::evtchn::{self, Events};
use vusb_xen::grant::GrantRef;

use super::{Command, ControllerThread, EndReason, Report, Reports, Start, Waker, report};
use crate::counters::Counters;
use crate::device_jobs::JobRunner;
use crate::engine::{Engine, Failure, Job, Outcome, RoundEnd, Work};
use crate::guest::{GuestMemory, RingPage};
use crate::opener::Item;
use crate::polling::{Budget, Turn};
use vusb_xen::usb::{ControllerId, PortStatus, RequestedDevice};

/// How soon to retry when no event will announce success: memory was short, or the kernel is about
/// to end the transfers of an unplugged device.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// How long releasing all devices may take when the controller ends. Binding the host's drivers
/// takes a second or two.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(20);
/// If a guest sends more than this many events in a row without a request, each further one costs
/// it [`IDLE_WAKEUP_DELAY`]. This bounds the processor time that an event flood can consume.
const IDLE_WAKEUP_LIMIT: u32 = 64;
const IDLE_WAKEUP_DELAY: Duration = Duration::from_millis(1);
/// The shortest interval between two reports of port status. A guest can make the status of a port
/// change all the time.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// How many times the ring is read between two readings of the clock. Reading the clock is a system
/// call in some dom0s, and a request that is found before the first one saves it. This many
/// readings of the ring take a few microseconds, mostly in the processor's pause instruction.
const READS_PER_CLOCK_CHECK: u32 = 32;
/// After this many rounds without a wait, the devices are checked anyway. Otherwise a guest that
/// always has a request could keep an unplugged device at its port.
const MAX_ROUNDS_WITHOUT_WAIT: u32 = 64;
/// Stack size of a job in bytes. A job only reads sysfs and calls the kernel, so it needs little.
const JOB_STACK: usize = 256 << 10;

/// The most events that epoll can return at once: 31 devices, the guest and the waker.
const MAX_READY: usize = 33;
/// The epoll data of the event channel and of the waker. Devices use their port number (1 to 31).
const GUEST: u64 = 100;
const WAKE: u64 = 101;

/// The port of a job, and how the job ended.
type EndedJob = (Port, Outcome<UsbFs>);
type XenEngine = Engine<RingPage, GuestMemory, UsbFs>;

/// A connected controller.
pub(super) struct ConnectedController {
    pub(super) id: ControllerId,
    generation: u64,
    engine: XenEngine,
    events: Events,
    channel: evtchn::Port,
    epoll: OwnedFd,
    /// The devices that epoll watches, by port. These are duplicates of the devices' descriptors,
    /// because a descriptor has to be removed from epoll before its device is closed, and the
    /// engine may already have handed the device to a job.
    watched: BTreeMap<Port, OwnedFd>,
    /// The ports in `watched`, in the form of [`Engine::pollable_mask`].
    watched_mask: u32,
    jobs: JobRunner,
    outcomes: (Sender<EndedJob>, Receiver<EndedJob>),
    waker: Waker,
    reports: Reports,
    counters: Arc<Counters>,
    closing: bool,
    /// Port status that has not been reported to the supervisor yet.
    pending_statuses: BTreeMap<Port, Option<PortStatus>>,
    /// The next report may not be sent before this time.
    next_report: Instant,
    /// Whether the guest has sent an event. The kernel masked the channel when it arrived, and it
    /// has to be unmasked here.
    channel_masked: bool,
    /// How many requests the guest had made when its last event was handled.
    requests_at_last_event: u64,
    /// How many events in a row came without a request.
    idle_wakeups: u32,
    budget: Budget,
    /// How many processors this process may use.
    processors: usize,
    /// Buffer for the events of epoll, kept to avoid an allocation per wake-up.
    ready: Vec<epoll::Event>,
}

impl ConnectedController {
    /// Maps the rings, binds the event channel, and reports that the controller is connected.
    pub(super) fn connect(
        thread: &ControllerThread,
        start: Start,
    ) -> Result<ConnectedController, EndReason> {
        let domain = start.id.guest;
        let events = Events::from_fd(start.jobs.opener.open(Item::Events(start.id.guest))?)?;
        let urbs = RingPage(start.grants.map_page(domain, GrantRef(start.rings.urbs))?);
        let connects = RingPage(start.grants.map_page(domain, GrantRef(start.rings.connects))?);
        let channel = events.bind_interdomain(domain, start.rings.events)?;
        let memory = GuestMemory::new(start.grants, domain);
        let mut engine =
            Engine::new(urbs, connects, start.ports, memory, Arc::clone(&thread.counters));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &events, EventData::new_u64(GUEST), EventFlags::IN)?;
        epoll::add(&epoll, thread.waker.fd(), EventData::new_u64(WAKE), EventFlags::IN)?;
        set_devices(&mut engine, start.devices);
        report(&start.reports, start.id, start.generation, Report::Connected);
        Ok(ConnectedController {
            id: start.id,
            generation: start.generation,
            engine,
            events,
            channel,
            epoll,
            watched: BTreeMap::new(),
            watched_mask: 0,
            jobs: start.jobs,
            outcomes: mpsc::channel(),
            waker: thread.waker.clone(),
            reports: start.reports,
            counters: Arc::clone(&thread.counters),
            closing: false,
            pending_statuses: BTreeMap::new(),
            next_report: Instant::now(),
            channel_masked: false,
            requests_at_last_event: 0,
            idle_wakeups: 0,
            budget: Budget::new(start.polling),
            processors: std::thread::available_parallelism().map_or(1, NonZero::get),
            ready: Vec::with_capacity(MAX_READY),
        })
    }

    /// Serves the guest until a command asks to stop. Fails if the guest breaks the protocol or a
    /// system call fails.
    pub(super) fn serve(&mut self, inbox: &Receiver<Command>) -> Result<(), EndReason> {
        let mut rounds_without_wait = 0;
        loop {
            while let Ok(command) = inbox.try_recv() {
                match command {
                    Command::SetDevices(devices) => set_devices(&mut self.engine, devices),
                    Command::DevicesChanged => self.engine.devices_changed(|_| true),
                    Command::Stop => return Ok(()),
                }
            }
            // The thread is awake, so it needs no events.
            self.engine.park();
            self.engine.take_requests()?;
            self.gather_train()?;
            let RoundEnd { retry, drained, .. } = self.round()?;
            let limit = self.report_statuses();
            rounds_without_wait += 1;
            if rounds_without_wait == MAX_ROUNDS_WITHOUT_WAIT {
                rounds_without_wait = 0;
                self.wait(Some(Duration::ZERO))?;
                continue;
            }
            if drained && !retry && self.poll() {
                continue;
            }
            // These system calls come this late so that the devices are already busy meanwhile.
            self.unmask_channel()?;
            // Events are requested last, so that the guest sends none while there is work to do.
            if !self.engine.rearm() {
                rounds_without_wait = 0;
                self.wait(retry.then_some(RETRY_INTERVAL).into_iter().chain(limit).min())?;
            }
        }
    }

    /// Waits for the rest of a train of requests, if the requests in hand are its beginning. The
    /// budget limits this too: a guest can announce trains that never come.
    fn gather_train(&mut self) -> Result<(), EndReason> {
        if !self.engine.awaits_train() {
            return Ok(());
        }
        let Some(_turn) = Turn::take(self.processors) else { return Ok(()) };
        let Some(limit) = self.budget.next_train() else { return Ok(()) };
        // The guest may need these responses to continue.
        let notify = self.engine.publish();
        self.notify(notify)?;
        let mut watch = Stopwatch::default();
        while self.engine.awaits_train() {
            if !self.spin(&mut watch, limit) {
                break;
            }
            self.engine.take_requests()?;
        }
        let complete = !self.engine.awaits_train();
        self.budget.train_ended(watch.time().min(limit), complete);
        Ok(())
    }

    /// Polls the ring for the guest's next request, as long as the budget permits. Returns whether
    /// there is one.
    fn poll(&mut self) -> bool {
        let Some(_turn) = Turn::take(self.processors) else { return false };
        let Some(limit) = self.budget.next_poll() else { return false };
        let mut watch = Stopwatch::default();
        let found = self.spin(&mut watch, limit);
        self.budget.poll_ended(watch.time().min(limit), found);
        found
    }

    /// Reads the ring until it has a request, or the stopwatch reaches the limit. Returns whether
    /// it has one.
    fn spin(&self, watch: &mut Stopwatch, limit: Duration) -> bool {
        loop {
            for _ in 0..READS_PER_CLOCK_CHECK {
                if self.engine.has_request() {
                    return true;
                }
                std::hint::spin_loop();
            }
            watch.start();
            if watch.time() >= limit {
                return false;
            }
        }
    }

    fn notify(&self, notify: Notify) -> Result<(), EndReason> {
        if notify.is_due() && !self.closing {
            self.events.notify(self.channel)?;
        }
        Ok(())
    }

    /// Ends a round of the engine: passes it the outcomes of jobs, notifies the guest if that is
    /// due, and starts new jobs.
    fn round(&mut self) -> Result<RoundEnd, EndReason> {
        while let Ok((port, outcome)) = self.outcomes.1.try_recv() {
            self.engine.job_ended(port, outcome);
        }
        let round = self.engine.finish_round()?;
        self.notify(round.notify)?;
        let changes = self.engine.take_status_changes().into_iter();
        self.pending_statuses.extend(changes.map(|change| (change.port, change.status)));
        let jobs = self.engine.take_jobs();
        self.update_watches()?;
        jobs.into_iter().for_each(|job| self.start_job(job));
        Ok(round)
    }

    /// Reports new port status to the supervisor. If it is too early for the next report, returns
    /// how long to wait.
    fn report_statuses(&mut self) -> Option<Duration> {
        if self.pending_statuses.is_empty() {
            return None;
        }
        let now = Instant::now();
        if now < self.next_report {
            return Some(self.next_report - now);
        }
        self.next_report = now + STATUS_INTERVAL;
        for (port, status) in std::mem::take(&mut self.pending_statuses) {
            report(&self.reports, self.id, self.generation, Report::Port(port, status));
        }
        None
    }

    /// Makes epoll watch exactly the devices that may be polled.
    fn update_watches(&mut self) -> Result<(), EndReason> {
        let pollable = self.engine.pollable_mask();
        if pollable == self.watched_mask {
            return Ok(());
        }
        for port in self.engine.ports() {
            match (self.engine.pollable(port), self.watched.contains_key(&port)) {
                (Some(usb), false) => {
                    let copy = rustix::io::fcntl_dupfd_cloexec(usb, 0)?;
                    epoll::add(
                        &self.epoll,
                        &copy,
                        EventData::new_u64(port.number().into()),
                        EventFlags::OUT,
                    )?;
                    self.watched.insert(port, copy);
                }
                (None, true) => {
                    if let Some(copy) = self.watched.remove(&port) {
                        epoll::delete(&self.epoll, &copy)?;
                    }
                }
                _ => {}
            }
        }
        self.watched_mask = pollable;
        Ok(())
    }

    /// Starts a job on its own thread.
    fn start_job(&mut self, Job { port, work }: Job<UsbFs>) {
        debug!("{}, port {port}: {work:?}", self.id);
        let outcome = outcome_if_not_started(&work);
        let (jobs, outcomes, waker) =
            (self.jobs.clone(), self.outcomes.0.clone(), self.waker.clone());
        let job = move || {
            let _ = outcomes.send((port, jobs.run(work)));
            waker.wake();
        };
        if let Err(error) =
            std::thread::Builder::new().name("job".to_owned()).stack_size(JOB_STACK).spawn(job)
        {
            warn!("{}, port {port}: cannot start a thread: {error}", self.id);
            let _ = self.outcomes.0.send((port, outcome));
            self.waker.wake();
        }
    }

    /// Waits for an event, and reaps the completed transfers of the devices.
    fn wait(&mut self, limit: Option<Duration>) -> Result<(), EndReason> {
        let limit = limit.and_then(|it| Timespec::try_from(it).ok());
        self.ready.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.ready);
        match epoll::wait(&self.epoll, spare, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.counters.wakeup();
        for at in 0..self.ready.len() {
            let Some(event) = self.ready.get(at).copied() else { break };
            match event.data.u64() {
                GUEST => self.channel_masked = true,
                WAKE => self.waker.clear(),
                number => {
                    self.idle_wakeups = 0;
                    if let Some(port) = u8::try_from(number).ok().and_then(|it| Port::new(it).ok())
                    {
                        self.engine.reap(port)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Unmasks the event channel. The channel is masked from the moment the guest sends an event
    /// until this call. No request is missed: requests that arrive in between are seen by
    /// [`Engine::rearm`], which is called after this, and an event that is sent in between is
    /// delivered as soon as the channel is unmasked.
    fn unmask_channel(&mut self) -> Result<(), EndReason> {
        if !std::mem::take(&mut self.channel_masked) {
            return Ok(());
        }
        let requests = self.counters.requests();
        self.idle_wakeups =
            if requests == self.requests_at_last_event { self.idle_wakeups + 1 } else { 0 };
        self.requests_at_last_event = requests;
        if self.idle_wakeups > IDLE_WAKEUP_LIMIT {
            std::thread::sleep(IDLE_WAKEUP_DELAY);
        }
        for channel in self.events.pending()? {
            self.events.unmask(channel)?;
        }
        Ok(())
    }

    /// Returns all devices to the host's drivers. The guest's memory is no longer accessed.
    pub(super) fn release_devices(&mut self) {
        self.closing = true;
        self.engine.memory_mut().revoke();
        let _ = self.events.unbind(self.channel);
        let _ = epoll::delete(&self.epoll, &self.events);
        self.engine.clear_devices();
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        while !self.engine.is_empty() && Instant::now() < deadline {
            // Errors no longer matter: nothing is waiting for responses.
            let retry = self.round().map_or(true, |it| it.retry);
            self.report_statuses();
            if self.engine.is_empty() {
                break;
            }
            let limit = if retry {
                RETRY_INTERVAL
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            if self.wait(Some(limit)).is_err() {
                std::thread::sleep(RETRY_INTERVAL);
            }
        }
        let _ = self.round();
        self.next_report = Instant::now();
        self.report_statuses();
        if !self.engine.is_empty() {
            warn!(
                "{}: a device was not released within {} s; it may stay without the host's drivers",
                self.id,
                RELEASE_TIMEOUT.as_secs()
            );
        }
    }
}

/// Measures how long the thread has been polling, without the first [`READS_PER_CLOCK_CHECK`]
/// readings of the ring.
#[derive(Default)]
struct Stopwatch(Option<Instant>);

impl Stopwatch {
    fn start(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    fn time(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |begin| begin.elapsed())
    }
}

fn set_devices(engine: &mut XenEngine, mut devices: BTreeMap<u8, RequestedDevice>) {
    for port in engine.ports() {
        engine.set_device(port, devices.remove(&port.number()));
    }
}

/// The outcome of a job that could not be started.
fn outcome_if_not_started(work: &Work<UsbFs>) -> Outcome<UsbFs> {
    match work {
        Work::Open(_) => Outcome::Refused("the backend cannot start a thread for it".to_owned()),
        Work::Release(..) => Outcome::Released,
        _ => Outcome::Done(Err(Failure::Failed)),
    }
}
