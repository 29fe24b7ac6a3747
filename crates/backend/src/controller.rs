//! The thread that serves one controller of one guest.
//!
//! ```text
//!               ┌───────────────────── epoll ─────────────────────┐
//!   event channel (guest event)   a device (a transfer is done)   waker (a command, end of a job)
//!               └──────────────────────┬──────────────────────────┘
//!                                      ▼
//!                  Engine ── jobs ──▶ their own threads ── outcome ──▶ waker
//!                     └───── port status, end ──▶ the supervisor, which writes to xenstore
//! ```
//!
//! The thread never waits for another guest, or for one particular device.
//!
//! The messages between the thread and the supervisor are in this file; the event loop is in
//! `connected`.

mod connected;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use thiserror::Error;
use tracing::debug;
use vusb_usbif::Port;
use vusb_xen::DeviceError;
use vusb_xen::grant::Grants;

use crate::counters::Counters;
use crate::device_jobs::JobRunner;
use crate::engine::Fault;
use crate::polling;
use connected::ConnectedController;
use vusb_xen::usb::{ControllerId, PortStatus, RequestedDevice, Rings};

/// Wakes a thread that waits in epoll or poll.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Creates a waker.
    ///
    /// # Errors
    /// Too many files are open.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Wakes the thread.
    pub fn wake(&self) {
        // The write fails only if the counter is at its maximum, and then the thread is awake.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Resets the waker, once the thread is awake.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// The descriptor to wait on: readable after [`Waker::wake`].
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

/// A message to the thread.
#[derive(Debug)]
pub enum Command {
    /// The devices requested for the ports. Ports that are not listed should be empty.
    SetDevices(BTreeMap<u8, RequestedDevice>),
    /// A device was plugged in, unplugged or changed.
    DevicesChanged,
    /// The guest has released the controller, or is gone: release all devices and end.
    Stop,
}

/// A message from the thread.
#[derive(Debug)]
pub enum Report {
    /// The rings are mapped.
    Connected,
    /// The new status of a port; `None` if the port is empty.
    Port(Port, Option<PortStatus>),
    /// The thread has ended. The reason, unless it was asked to end.
    Ended(Option<String>),
}

/// The supervisor's end of the reports.
#[derive(Clone, Debug)]
pub struct Reports {
    /// The supervisor's queue. Each report carries the controller and the generation of its thread.
    pub queue: Sender<(ControllerId, u64, Report)>,
    /// Wakes the supervisor.
    pub waker: Waker,
}

/// What a thread needs to start.
#[derive(Debug)]
pub struct Start {
    /// Which controller.
    pub id: ControllerId,
    /// The generation of the thread: reports of earlier generations are ignored.
    pub generation: u64,
    /// Where the guest's rings are.
    pub rings: Rings,
    /// The number of ports.
    pub ports: u8,
    /// The devices requested for the ports.
    pub devices: BTreeMap<u8, RequestedDevice>,
    /// The grant tables.
    pub grants: Grants,
    /// Finds and opens devices.
    pub jobs: JobRunner,
    /// Whether the thread may poll for requests.
    pub polling: polling::Setting,
    /// Where reports go.
    pub reports: Reports,
}

/// Handle to a controller's thread.
#[derive(Debug)]
pub struct Controller {
    commands: Sender<Command>,
    waker: Waker,
    /// The traffic of the controller.
    pub counters: Arc<Counters>,
}

impl Controller {
    /// Starts the thread.
    ///
    /// # Errors
    /// There are too many threads, or too many files are open.
    pub fn start(start: Start) -> io::Result<Controller> {
        let (commands, inbox) = mpsc::channel();
        let waker = Waker::new()?;
        let counters = Arc::new(Counters::default());
        let thread =
            ControllerThread { inbox, waker: waker.clone(), counters: Arc::clone(&counters) };
        // Linux names a file in /proc after the thread that binds an event channel, so the name
        // must not contain a slash.
        let name = format!("vusb {}.{}", start.id.guest, start.id.devid);
        std::thread::Builder::new().name(name).spawn(move || thread.run(start))?;
        Ok(Controller { commands, waker, counters })
    }

    /// Sends a command to the thread.
    pub fn send(&self, command: Command) {
        // If the thread has ended, its report is already in the supervisor's queue.
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

/// Why a thread ended without being asked to.
#[derive(Debug, Error)]
enum EndReason {
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("the guest's rings cannot be used: {0}")]
    Rings(#[from] DeviceError),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("waiting failed: {0}")]
    Wait(#[from] Errno),
}

struct ControllerThread {
    inbox: Receiver<Command>,
    waker: Waker,
    counters: Arc<Counters>,
}

impl ControllerThread {
    fn run(self, start: Start) {
        let (id, generation, reports) = (start.id, start.generation, start.reports.clone());
        // A bug here must not leave a controller that is unserved and cannot be removed.
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve(start)));
        let why = match served {
            Ok(Ok(())) => None,
            Ok(Err(end)) => Some(end.to_string()),
            Err(_) => {
                Some("internal error in vusb-backend; please report it with its log".to_owned())
            }
        };
        report(&reports, id, generation, Report::Ended(why));
    }

    fn serve(self, start: Start) -> Result<(), EndReason> {
        let mut controller = ConnectedController::connect(&self, start)?;
        let end = controller.serve(&self.inbox);
        if let Err(end) = &end {
            debug!("{}: {end}", controller.id);
        }
        controller.release_devices();
        end
    }
}

fn report(reports: &Reports, id: ControllerId, generation: u64, report: Report) {
    // If the supervisor is gone, the whole process is about to end.
    let _ = reports.queue.send((id, generation, report));
    reports.waker.wake();
}
