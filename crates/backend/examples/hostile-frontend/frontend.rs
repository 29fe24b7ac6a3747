//! The connection to a backend: nodes in the store, two shared pages, an event channel.
//!
//! ```text
//!   begin: state 1 ─▶ backend 2 ─▶ make pages ─▶ say where: refs, state 4 ─▶ backend 4
//!   leave: state 5 ─▶ state 6  ─▶ backend 6
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;
use vusb_usbif::front::{ConnectRing, NotSent, UrbRing, Violation};
use vusb_usbif::urb::SegmentError;
use vusb_usbif::{Notify, Page, Port, Speed};
use vusb_xen::evtchn::{self, Events};
use vusb_xen::gntalloc::{Allocator, Shared};
use vusb_xen::store::{self, Nodes, Store};
use vusb_xen::{DeviceError, DomId, State};

/// How long the other side may take for anything: both may be emulated on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at what has no event.
const TICK: Duration = Duration::from_millis(5);

/// Why this program could not do what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("give it one of: well FILE, list, NAME [COUNT]")]
    Usage,
    #[error("there is no attack `{0}`; `list` names them")]
    NoAttack(String),
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("{0}")]
    Device(#[from] DeviceError),
    #[error("the backend broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    NotSent(#[from] NotSent),
    #[error("{0}")]
    Segment(#[from] SegmentError),
    #[error("waiting for {0} took too long")]
    TooLong(&'static str),
    #[error("the device does not answer as one should: {0}")]
    Unexpected(String),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// A page that the backend may use.
#[derive(Debug)]
pub(crate) struct GuestPage(pub(crate) Shared);

impl Page for GuestPage {
    fn load(&self, word: usize) -> u32 {
        self.0.load(word)
    }

    fn store(&self, word: usize, value: u32) {
        self.0.store(word, value);
    }

    fn fence(&self) {
        self.0.fence();
    }
}

/// Where a controller's nodes are.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) store: Store,
    /// Our folder.
    pub(crate) ours: String,
    /// The backend's.
    pub(crate) theirs: String,
    pub(crate) backend: DomId,
}

impl Place {
    /// Waits until the toolstack has given this domain a controller.
    pub(crate) fn find() -> Result<Place, Failure> {
        let mut store = Store::connect(PATIENCE)?;
        let us = store.own_domain()?;
        let root = format!("/local/domain/{us}/device/vusb");
        let (ours, theirs, backend) = until("a controller", || {
            let Some(index) = store.list(&root)?.pop() else { return Ok(None) };
            let ours = format!("{root}/{index}");
            let theirs = store.read(&format!("{ours}/backend"))?;
            let id = store.read(&format!("{ours}/backend-id"))?.and_then(|it| it.parse().ok());
            Ok(theirs.zip(id).map(|(theirs, id)| (ours, theirs, id)))
        })?;
        Ok(Place { store, ours, theirs, backend })
    }

    /// Our state.
    pub(crate) fn say(&mut self, state: State) -> Result<(), Failure> {
        Ok(self.store.write(&format!("{}/state", self.ours), &state.to_string())?)
    }

    /// The backend's state.
    pub(crate) fn state(&mut self) -> Result<State, Failure> {
        let text = self.store.read(&format!("{}/state", self.theirs))?;
        Ok(text.and_then(|it| it.parse().ok()).unwrap_or(State::Unknown))
    }

    /// Waits until the backend has come to one of these states.
    pub(crate) fn await_state(
        &mut self,
        what: &'static str,
        states: &[State],
    ) -> Result<State, Failure> {
        until(what, || {
            let state = self.state()?;
            Ok(states.contains(&state).then_some(state))
        })
    }

    /// Comes (back) to the beginning, and waits until the backend waits for us.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        self.say(State::Initialising)?;
        self.await_state("the backend to wait for us", &[State::InitWait]).map(drop)
    }

    /// Lets go of the controller, and waits until the backend has given everything back.
    pub(crate) fn leave(&mut self) -> Result<(), Failure> {
        self.say(State::Closing)?;
        self.say(State::Closed)?;
        self.await_state("the backend to close", &[State::Closed, State::Unknown]).map(drop)
    }

    /// Why the backend has dropped the controller, if it has.
    pub(crate) fn dropped(&mut self) -> Result<Option<String>, Failure> {
        if !matches!(self.state()?, State::Closing | State::Closed | State::InitWait) {
            return Ok(None);
        }
        let why = self.store.read(&format!("{}/error", self.theirs))?;
        Ok(Some(why.unwrap_or_else(|| "it does not say why".to_owned())))
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(
    what: &'static str,
    mut ask: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        std::thread::sleep(TICK);
    }
    Err(Failure::TooLong(what))
}

/// Both ends of a controller.
#[derive(Debug)]
pub(crate) struct Frontend {
    pub(crate) place: Place,
    pub(crate) allocator: Allocator,
    pub(crate) events: Events,
    pub(crate) channel: evtchn::Port,
    pub(crate) urbs: UrbRing<Arc<GuestPage>>,
    pub(crate) connects: ConnectRing<Arc<GuestPage>>,
    /// Where the rings are: for [`Frontend::announce`].
    pub(crate) grefs: [u32; 2],
}

impl Frontend {
    /// Comes to the beginning and makes pages and channel. The backend is not told of them yet.
    pub(crate) fn prepare() -> Result<Frontend, Failure> {
        let mut place = Place::find()?;
        place.begin()?;
        let allocator = Allocator::open()?;
        let urbs = GuestPage(allocator.allocate(place.backend, true)?);
        let connects = GuestPage(allocator.allocate(place.backend, true)?);
        let grefs = [urbs.0.gref().0, connects.0.gref().0];
        let events = Events::open()?;
        let channel = events.bind_unbound(place.backend)?;
        let (urbs, connects) = (UrbRing::new(Arc::new(urbs)), ConnectRing::new(Arc::new(connects)));
        Ok(Frontend { place, allocator, events, channel, urbs, connects, grefs })
    }

    /// Says where the rings are, and that we are connected.
    pub(crate) fn announce(&mut self) -> Result<(), Failure> {
        let [urbs, connects] = self.grefs.map(|it| it.to_string());
        self.announce_as(&urbs, &connects, &self.channel.to_string())
    }

    /// The same with any words.
    pub(crate) fn announce_as(
        &mut self,
        urbs: &str,
        connects: &str,
        channel: &str,
    ) -> Result<(), Failure> {
        let Place { store, ours, .. } = &mut self.place;
        store.transaction(|tx| {
            tx.write(&format!("{ours}/urb-ring-ref"), urbs)?;
            tx.write(&format!("{ours}/conn-ring-ref"), connects)?;
            tx.write(&format!("{ours}/event-channel"), channel)
        })?;
        self.place.say(State::Connected)
    }

    /// Connects as a good frontend does.
    pub(crate) fn connect() -> Result<Frontend, Failure> {
        let mut front = Frontend::prepare()?;
        let _ = front.connects.fill();
        front.announce()?;
        front.place.await_state("the backend to connect", &[State::Connected])?;
        Ok(front)
    }

    /// Waits until a device is plugged in.
    pub(crate) fn plugged(&mut self) -> Result<(Port, Speed), Failure> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            while let Some(event) = self.connects.take()? {
                let notify = self.connects.push();
                self.ring(notify)?;
                if event.speed != Speed::None {
                    return Ok((event.port, event.speed));
                }
            }
            if !self.connects.rest() {
                self.sleep()?;
            }
        }
        Err(Failure::TooLong("a device"))
    }

    /// Wakes the backend, if it is due.
    pub(crate) fn ring(&self, notify: Notify) -> Result<(), Failure> {
        if notify.is_due() {
            self.events.notify(self.channel)?;
        }
        Ok(())
    }

    /// Sleeps until the backend rings, at most a second.
    pub(crate) fn sleep(&self) -> Result<(), Failure> {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        // Interrupted or not, whoever calls this looks again.
        let _ = poll(&mut [PollFd::new(&self.events, PollFlags::IN)], Some(&second));
        for port in self.events.pending()? {
            self.events.unmask(port)?;
        }
        Ok(())
    }

    /// A page of data, which the backend may write to or only read.
    pub(crate) fn page(&self, writable: bool) -> Result<Shared, Failure> {
        Ok(self.allocator.allocate(self.place.backend, writable)?)
    }
}
