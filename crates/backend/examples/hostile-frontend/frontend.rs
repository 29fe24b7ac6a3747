//! The connection to a backend: nodes in xenstore, two shared pages, an event channel.
//!
//! ```text
//!   connect: state 1 ─▶ backend 2 ─▶ create pages ─▶ write references, state 4 ─▶ backend 4
//!   close:   state 5 ─▶ state 6 ─▶ backend 6
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;
use vusb_usbif::frontend::{ConnectRing, NotSent, UrbRing, Violation};
use vusb_usbif::urb::SegmentError;
use vusb_usbif::{Notify, Page, Port, Speed};
use vusb_xen::evtchn::{self, Events};
use vusb_xen::gntalloc::{Allocator, Shared};
use vusb_xen::store::{self, Nodes, Store};
use vusb_xen::{DeviceError, DomId, State};

/// How long the backend may take for any step: both sides may be emulated on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);
/// Polling interval for conditions that cause no event.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why the program failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("usage: hostile-frontend reference FILE | list | NAME [COUNT]")]
    Usage,
    #[error("unknown attack `{0}`; `list` shows all attacks")]
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
    #[error("timed out waiting for {0}")]
    Timeout(&'static str),
    #[error("unexpected response: {0}")]
    Unexpected(String),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// A page that is shared with the backend.
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

/// The xenstore nodes of a controller.
#[derive(Debug)]
pub(crate) struct ControllerNodes {
    pub(crate) store: Store,
    /// The frontend's directory.
    pub(crate) frontend: String,
    /// The backend's directory.
    pub(crate) backend_path: String,
    /// The backend's domain.
    pub(crate) backend: DomId,
}

impl ControllerNodes {
    /// Waits until the toolstack has given this domain a controller.
    pub(crate) fn find() -> Result<ControllerNodes, Failure> {
        let mut store = Store::connect(TIMEOUT)?;
        let us = store.own_domain()?;
        let root = format!("/local/domain/{us}/device/vusb");
        let (frontend, backend_path, backend) = until("a controller", || {
            let Some(index) = store.list(&root)?.pop() else { return Ok(None) };
            let frontend = format!("{root}/{index}");
            let path = store.read(&format!("{frontend}/backend"))?;
            let id = store.read(&format!("{frontend}/backend-id"))?.and_then(|it| it.parse().ok());
            Ok(path.zip(id).map(|(path, id)| (frontend, path, id)))
        })?;
        Ok(ControllerNodes { store, frontend, backend_path, backend })
    }

    /// Writes the frontend's state.
    pub(crate) fn set_state(&mut self, state: State) -> Result<(), Failure> {
        Ok(self.store.write(&format!("{}/state", self.frontend), &state.to_string())?)
    }

    /// Reads the backend's state.
    pub(crate) fn state(&mut self) -> Result<State, Failure> {
        let text = self.store.read(&format!("{}/state", self.backend_path))?;
        Ok(text.and_then(|it| it.parse().ok()).unwrap_or(State::Unknown))
    }

    /// Waits until the backend is in one of these states.
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

    /// Returns to the initial state, and waits until the backend is ready for a connection.
    pub(crate) fn initialise(&mut self) -> Result<(), Failure> {
        self.set_state(State::Initialising)?;
        self.await_state("the backend to accept a connection", &[State::InitWait]).map(drop)
    }

    /// Closes the controller, and waits until the backend has released all devices.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        self.set_state(State::Closing)?;
        self.set_state(State::Closed)?;
        self.await_state("the backend to close", &[State::Closed, State::Unknown]).map(drop)
    }

    /// Why the backend has dropped the controller; `None` if it has not.
    pub(crate) fn drop_reason(&mut self) -> Result<Option<String>, Failure> {
        if !matches!(self.state()?, State::Closing | State::Closed | State::InitWait) {
            return Ok(None);
        }
        let why = self.store.read(&format!("{}/error", self.backend_path))?;
        Ok(Some(why.unwrap_or_else(|| "no reason given".to_owned())))
    }
}

/// Polls a condition until it returns a value.
pub(crate) fn until<T>(
    what: &'static str,
    mut ask: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let end = Instant::now() + TIMEOUT;
    while Instant::now() < end {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Err(Failure::Timeout(what))
}

/// The frontend's end of a controller.
#[derive(Debug)]
pub(crate) struct Frontend {
    pub(crate) nodes: ControllerNodes,
    pub(crate) allocator: Allocator,
    pub(crate) events: Events,
    pub(crate) channel: evtchn::Port,
    pub(crate) urbs: UrbRing<Arc<GuestPage>>,
    pub(crate) connects: ConnectRing<Arc<GuestPage>>,
    /// The grant references of the rings, for [`Frontend::announce`].
    pub(crate) grefs: [u32; 2],
}

impl Frontend {
    /// Enters the initial state and creates the pages and the event channel, without announcing
    /// them to the backend.
    pub(crate) fn prepare() -> Result<Frontend, Failure> {
        let mut nodes = ControllerNodes::find()?;
        nodes.initialise()?;
        let allocator = Allocator::open()?;
        let urbs = GuestPage(allocator.allocate(nodes.backend, true)?);
        let connects = GuestPage(allocator.allocate(nodes.backend, true)?);
        let grefs = [urbs.0.gref().0, connects.0.gref().0];
        let events = Events::open()?;
        let channel = events.bind_unbound(nodes.backend)?;
        let (urbs, connects) = (UrbRing::new(Arc::new(urbs)), ConnectRing::new(Arc::new(connects)));
        Ok(Frontend { nodes, allocator, events, channel, urbs, connects, grefs })
    }

    /// Writes the references of the rings and the connected state.
    pub(crate) fn announce(&mut self) -> Result<(), Failure> {
        let [urbs, connects] = self.grefs.map(|it| it.to_string());
        self.announce_as(&urbs, &connects, &self.channel.to_string())
    }

    /// Announces arbitrary references.
    pub(crate) fn announce_as(
        &mut self,
        urbs: &str,
        connects: &str,
        channel: &str,
    ) -> Result<(), Failure> {
        let ControllerNodes { store, frontend, .. } = &mut self.nodes;
        store.transaction(|tx| {
            tx.write(&format!("{frontend}/urb-ring-ref"), urbs)?;
            tx.write(&format!("{frontend}/conn-ring-ref"), connects)?;
            tx.write(&format!("{frontend}/event-channel"), channel)
        })?;
        self.nodes.set_state(State::Connected)
    }

    /// Connects as a correct frontend does.
    pub(crate) fn connect() -> Result<Frontend, Failure> {
        let mut front = Frontend::prepare()?;
        let _ = front.connects.fill();
        front.announce()?;
        front.nodes.await_state("the backend to connect", &[State::Connected])?;
        Ok(front)
    }

    /// Waits until a device is plugged in.
    pub(crate) fn wait_for_device(&mut self) -> Result<(Port, Speed), Failure> {
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            while let Some(event) = self.connects.take()? {
                let notify = self.connects.push();
                self.notify_if_due(notify)?;
                if event.speed != Speed::None {
                    return Ok((event.port, event.speed));
                }
            }
            if !self.connects.rearm() {
                self.sleep()?;
            }
        }
        Err(Failure::Timeout("a device"))
    }

    /// Wakes the backend, if a wake-up is due.
    pub(crate) fn notify_if_due(&self, notify: Notify) -> Result<(), Failure> {
        if notify.is_due() {
            self.events.notify(self.channel)?;
        }
        Ok(())
    }

    /// Sleeps until the backend sends an event, for at most a second.
    pub(crate) fn sleep(&self) -> Result<(), Failure> {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        // Ignore the result: the caller checks its condition again in any case.
        let _ = poll(&mut [PollFd::new(&self.events, PollFlags::IN)], Some(&second));
        for port in self.events.pending()? {
            self.events.unmask(port)?;
        }
        Ok(())
    }

    /// A page for data. The backend may read it, and may write to it if it is `writable`.
    pub(crate) fn page(&self, writable: bool) -> Result<Shared, Failure> {
        Ok(self.allocator.allocate(self.nodes.backend, writable)?)
    }
}
