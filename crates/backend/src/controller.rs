//! The thread that serves one controller of one guest.
//!
//! ```text
//!               ┌───────────────────── epoll ─────────────────────┐
//!   event channel (the guest rang)   a device (something is done)   wake (a command, a job's end)
//!               └──────────────────────┬──────────────────────────┘
//!                                      ▼
//!                  Engine ── jobs ──▶ threads of their own ── outcome ──▶ wake
//!                     └───── notices, the end ──▶ the supervisor, which writes to the store
//! ```
//!
//! Nothing that another guest or another device does is waited for here.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use thiserror::Error;
use tracing::{debug, warn};
use vusb_host::usbfs::UsbFs;
use vusb_usbif::Port;
use vusb_xen::DeviceError;
use vusb_xen::evtchn::{self, Events};
use vusb_xen::grant::{GrantRef, Grants};

use crate::counters::Counters;
use crate::engine::{Engine, Failure, Fault, Job, Outcome, Work};
use crate::guest::{GuestMemory, RingPage};
use crate::lend::Lender;
use crate::nodes::{Key, PortStatus, Rings, Want};
use crate::opener::Item;

/// How soon something is tried again for which there is no event: memory was short, or the kernel is about to end the transfers of a device that
/// was unplugged.
const AGAIN: Duration = Duration::from_millis(10);
/// How long devices may take to be given back once the controller is to end. Drivers that take their devices back need a second or two.
const FAREWELL: Duration = Duration::from_secs(20);
/// After so many wake-ups in a row by a guest that asks for nothing, each costs it [`PENALTY`].
const STORM: u32 = 64;
const PENALTY: Duration = Duration::from_millis(1);
/// How often the supervisor is told what has become of ports: a guest can have it change all the time.
const NEWS: Duration = Duration::from_millis(50);
/// A job reads sysfs and calls the kernel: it needs little.
const JOB_STACK: usize = 256 << 10;

/// How much epoll says at once: all devices, the guest, and a wake-up.
const READY: usize = 33;
/// What epoll says, besides the numbers of ports (1 to 31).
const GUEST: u64 = 100;
const WAKE: u64 = 101;

/// Wakes a thread that waits in epoll or poll.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new one.
    ///
    /// # Errors
    /// The system has no more files.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Wakes the thread.
    pub fn wake(&self) {
        // It fails only when it is set as high as can be, and then the thread is awake.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// The thread is awake.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// To wait for.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// This is wanted in the ports, and nothing in those that are not named.
    Want(BTreeMap<u8, Want>),
    /// Something was plugged in.
    Plugged,
    /// The guest has let go, or is gone: give everything back.
    End,
}

/// What the thread tells.
#[derive(Debug)]
pub enum Report {
    /// The rings are mapped.
    Connected,
    /// What has become of a port.
    Port(Port, Option<PortStatus>),
    /// The thread has ended, and why if it was not told to.
    Ended(Option<String>),
}

/// Where reports go: the supervisor's queue.
#[derive(Clone, Debug)]
pub struct Reports {
    /// Its queue. Each report says which controller, and which of its lives.
    pub queue: Sender<(Key, u64, Report)>,
    /// Wakes it.
    pub waker: Waker,
}

/// What a thread needs to begin.
#[derive(Debug)]
pub struct Start {
    /// Which controller.
    pub key: Key,
    /// Which of its lives: reports of an earlier one do not count.
    pub life: u64,
    /// Where the guest's rings are.
    pub rings: Rings,
    /// How many ports.
    pub ports: u8,
    /// What is wanted in them.
    pub wanted: BTreeMap<u8, Want>,
    /// The grant tables.
    pub grants: Grants,
    /// Finds and opens devices.
    pub lender: Lender,
    /// Where reports go.
    pub reports: Reports,
}

/// A running thread.
#[derive(Debug)]
pub struct Controller {
    commands: Sender<Command>,
    waker: Waker,
    /// What it has done.
    pub counters: Arc<Counters>,
}

impl Controller {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no more threads or files.
    pub fn start(start: Start) -> io::Result<Controller> {
        let (commands, inbox) = mpsc::channel();
        let waker = Waker::new()?;
        let counters = Arc::new(Counters::default());
        let thread = Thread { inbox, waker: waker.clone(), counters: Arc::clone(&counters) };
        // Linux names a file in /proc after the thread that binds an event channel: no slash.
        let name = format!("vusb {}.{}", start.key.domain, start.key.index);
        std::thread::Builder::new().name(name).spawn(move || thread.run(start))?;
        Ok(Controller { commands, waker, counters })
    }

    /// Tells it something.
    pub fn tell(&self, command: Command) {
        // A thread that has ended has reported it.
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

/// Why a thread ended.
#[derive(Debug, Error)]
enum End {
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("the guest's rings cannot be used: {0}")]
    Rings(#[from] DeviceError),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("waiting failed: {0}")]
    Wait(#[from] Errno),
}

struct Thread {
    inbox: Receiver<Command>,
    waker: Waker,
    counters: Arc<Counters>,
}

impl Thread {
    fn run(self, start: Start) {
        let (key, life, reports) = (start.key, start.life, start.reports.clone());
        // A fault of ours must not leave a controller that nobody serves and nobody can take away.
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve(start)));
        let why = match served {
            Ok(Ok(())) => None,
            Ok(Err(end)) => Some(end.to_string()),
            Err(_) => {
                Some("a fault in vusb-backend, which its log tells of; please report it".to_owned())
            }
        };
        report(&reports, key, life, Report::Ended(why));
    }

    fn serve(self, start: Start) -> Result<(), End> {
        let mut service = Service::connect(&self, start)?;
        let end = service.work(&self.inbox);
        if let Err(end) = &end {
            debug!("{}: {end}", service.key);
        }
        service.farewell();
        end
    }
}

fn report(reports: &Reports, key: Key, life: u64, report: Report) {
    // Without a supervisor the whole process ends.
    let _ = reports.queue.send((key, life, report));
    reports.waker.wake();
}

/// How a job ended, and for which port.
type Ended = (Port, Outcome<UsbFs>);
type XenEngine = Engine<RingPage, GuestMemory, UsbFs>;

/// A connected controller.
struct Service {
    key: Key,
    life: u64,
    engine: XenEngine,
    events: Events,
    channel: evtchn::Port,
    epoll: OwnedFd,
    /// The devices that epoll watches, by port: copies of their descriptors, for epoll must be told before a device is closed.
    watched: BTreeMap<Port, OwnedFd>,
    /// Which ports those are, as [`Engine::touchable`] has them.
    watching: u32,
    lender: Lender,
    outcomes: (Sender<Ended>, Receiver<Ended>),
    waker: Waker,
    reports: Reports,
    counters: Arc<Counters>,
    ending: bool,
    /// What the supervisor was not told yet, and when it may be told next.
    news: BTreeMap<Port, Option<PortStatus>>,
    news_at: Instant,
    /// The guest has rung, and its channel is silent.
    rung: bool,
    /// How many requests there had been when it rang last.
    heard: u64,
    /// Wake-ups by the guest for nothing, in a row.
    idle: u32,
    /// What epoll says; kept for the memory.
    ready: Vec<epoll::Event>,
}

impl Service {
    fn connect(thread: &Thread, start: Start) -> Result<Service, End> {
        let domain = start.key.domain;
        let events = Events::from_fd(start.lender.opener.open(Item::Events)?)?;
        let urbs = RingPage(start.grants.map_page(domain, GrantRef(start.rings.urbs))?);
        let connects = RingPage(start.grants.map_page(domain, GrantRef(start.rings.connects))?);
        let channel = events.bind_interdomain(domain, start.rings.events)?;
        let memory = GuestMemory::new(start.grants, domain);
        let mut engine =
            Engine::new(urbs, connects, start.ports, memory, Arc::clone(&thread.counters));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &events, EventData::new_u64(GUEST), EventFlags::IN)?;
        epoll::add(&epoll, thread.waker.fd(), EventData::new_u64(WAKE), EventFlags::IN)?;
        want_all(&mut engine, start.wanted);
        report(&start.reports, start.key, start.life, Report::Connected);
        Ok(Service {
            key: start.key,
            life: start.life,
            engine,
            events,
            channel,
            epoll,
            watched: BTreeMap::new(),
            watching: 0,
            lender: start.lender,
            outcomes: mpsc::channel(),
            waker: thread.waker.clone(),
            reports: start.reports,
            counters: Arc::clone(&thread.counters),
            ending: false,
            news: BTreeMap::new(),
            news_at: Instant::now(),
            rung: false,
            heard: 0,
            idle: 0,
            ready: Vec::with_capacity(READY),
        })
    }

    /// Serves the guest until it is told to end, or the guest breaks the protocol.
    fn work(&mut self, inbox: &Receiver<Command>) -> Result<(), End> {
        loop {
            while let Ok(command) = inbox.try_recv() {
                match command {
                    Command::Want(wanted) => want_all(&mut self.engine, wanted),
                    Command::Plugged => self.engine.plugged(|_| true),
                    Command::End => return Ok(()),
                }
            }
            self.engine.ring()?;
            let again = self.round()?;
            let limit = self.tell_news();
            // Not before: the device is at work already.
            self.hear_again()?;
            // Asked for last, so that the guest is silent while there is work.
            if !self.engine.rearm() {
                self.wait(again.then_some(AGAIN).into_iter().chain(limit).min())?;
            }
        }
    }

    /// Everything that follows from what has happened.
    fn round(&mut self) -> Result<bool, End> {
        while let Ok((port, outcome)) = self.outcomes.1.try_recv() {
            self.engine.ended(port, outcome);
        }
        let settled = self.engine.settle()?;
        if settled.notify.is_due() && !self.ending {
            self.events.notify(self.channel)?;
        }
        let news = self.engine.take_notices().into_iter();
        self.news.extend(news.map(|notice| (notice.port, notice.status)));
        let jobs = self.engine.take_jobs();
        self.watch()?;
        jobs.into_iter().for_each(|job| self.start(job));
        Ok(settled.again)
    }

    /// Tells the supervisor what is new of ports; how long until it may be told, if that is not now.
    fn tell_news(&mut self) -> Option<Duration> {
        if self.news.is_empty() {
            return None;
        }
        let now = Instant::now();
        if now < self.news_at {
            return Some(self.news_at - now);
        }
        self.news_at = now + NEWS;
        for (port, status) in std::mem::take(&mut self.news) {
            report(&self.reports, self.key, self.life, Report::Port(port, status));
        }
        None
    }

    /// Lets epoll watch the devices that may be touched, and no other.
    fn watch(&mut self) -> Result<(), End> {
        let touchable = self.engine.touchable();
        if touchable == self.watching {
            return Ok(());
        }
        for port in self.engine.ports() {
            match (self.engine.watched(port), self.watched.contains_key(&port)) {
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
        self.watching = touchable;
        Ok(())
    }

    fn start(&mut self, Job { port, work }: Job<UsbFs>) {
        debug!("{}, port {port}: {work:?}", self.key);
        let instead = failed(&work);
        let (lender, outcomes, waker) =
            (self.lender.clone(), self.outcomes.0.clone(), self.waker.clone());
        let job = move || {
            let _ = outcomes.send((port, lender.run(work)));
            waker.wake();
        };
        if let Err(error) =
            std::thread::Builder::new().name("job".to_owned()).stack_size(JOB_STACK).spawn(job)
        {
            warn!("{}, port {port}: {error}", self.key);
            let _ = self.outcomes.0.send((port, instead));
            self.waker.wake();
        }
    }

    /// Waits until something has happened, and lets the engine look at the devices that have something.
    fn wait(&mut self, limit: Option<Duration>) -> Result<(), End> {
        let limit = limit.and_then(|it| Timespec::try_from(it).ok());
        self.ready.clear();
        let room = rustix::buffer::spare_capacity(&mut self.ready);
        match epoll::wait(&self.epoll, room, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.counters.wakeup();
        for at in 0..self.ready.len() {
            let Some(event) = self.ready.get(at).copied() else { break };
            match event.data.u64() {
                GUEST => self.rung = true,
                WAKE => self.waker.clear(),
                number => {
                    self.idle = 0;
                    if let Some(port) = u8::try_from(number).ok().and_then(|it| Port::new(it).ok())
                    {
                        self.engine.device(port)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The guest's channel is silent from when it rings until it is unmasked here. Nothing is missed: what it asks for meanwhile is seen by
    /// [`Engine::rearm`], which comes after this, and when it rings meanwhile that comes as soon as it is unmasked.
    fn hear_again(&mut self) -> Result<(), End> {
        if !std::mem::take(&mut self.rung) {
            return Ok(());
        }
        let requests = self.counters.requests();
        self.idle = if requests == self.heard { self.idle + 1 } else { 0 };
        self.heard = requests;
        if self.idle > STORM {
            std::thread::sleep(PENALTY);
        }
        for channel in self.events.pending()? {
            self.events.unmask(channel)?;
        }
        Ok(())
    }

    /// Gives all devices back. The guest's memory is not touched any more.
    fn farewell(&mut self) {
        self.ending = true;
        self.engine.memory_mut().shut();
        let _ = self.events.unbind(self.channel);
        let _ = epoll::delete(&self.epoll, &self.events);
        self.engine.want_none();
        let until = Instant::now() + FAREWELL;
        while !self.engine.is_empty() && Instant::now() < until {
            // Nothing can go wrong any more that would matter: nobody waits for answers.
            let again = self.round().unwrap_or(true);
            self.tell_news();
            if self.engine.is_empty() {
                break;
            }
            let limit = if again { AGAIN } else { until.saturating_duration_since(Instant::now()) };
            if self.wait(Some(limit)).is_err() {
                std::thread::sleep(AGAIN);
            }
        }
        let _ = self.round();
        self.news_at = Instant::now();
        self.tell_news();
        if !self.engine.is_empty() {
            warn!(
                "{}: a device did not come back within {} s and is closed as it is",
                self.key,
                FAREWELL.as_secs()
            );
        }
    }
}

fn want_all(engine: &mut XenEngine, mut wanted: BTreeMap<u8, Want>) {
    for port in engine.ports() {
        engine.want(port, wanted.remove(&port.number()));
    }
}

/// How a job ends that could not begin.
fn failed(work: &Work<UsbFs>) -> Outcome<UsbFs> {
    match work {
        Work::Open(_) => Outcome::Refused("this machine has no more threads".to_owned()),
        Work::GiveBack(..) => Outcome::GaveBack,
        _ => Outcome::Done(Err(Failure::Failed)),
    }
}
