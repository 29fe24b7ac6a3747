//! A simulated guest, the engine that serves it, and the caller of the engine. Tests control every
//! step.

mod requests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vusb_model::speed::Speed as Native;
use vusb_usbif::frontend::{Answered, ConnectRing, UrbRing};
use vusb_usbif::urb::{Direction, Kind, Segments, Status, Transfer};
use vusb_usbif::{MemoryPage, Notify, Page as _, Port, Speed};

use super::super::{Engine, Failure, Fault, GuestView, Job, Opened, Outcome, RoundEnd, Work};
use super::descriptors;
use super::device::{Device, Streams};
use super::memory::GuestMemory;
use crate::counters::Counters;
use vusb_xen::usb::{PortStatus, RequestedDevice};

pub(super) use requests::{
    clear_halt, descriptor, set_address, set_configuration, set_interface, vendor_read,
    vendor_write,
};

type Shared = Arc<MemoryPage>;
/// Word of a ring's header that counts the backend's responses.
const RSP_PROD: usize = 2;

pub(super) struct World {
    pub(super) engine: Engine<Shared, GuestMemory, Device>,
    pub(super) urbs: UrbRing<Shared>,
    pub(super) connects: ConnectRing<Shared>,
    pub(super) memory: GuestMemory,
    /// The devices that are plugged into this machine, by the port for which they can be requested.
    host: BTreeMap<u8, (Device, Vec<u8>, Native)>,
    streams: BTreeMap<u8, Streams>,
    /// Jobs that have started and not ended.
    pub(super) jobs: Vec<Job<Device>>,
    /// Unanswered requests by id; `None` for an unlink.
    requests: HashMap<u16, Option<Transfer>>,
    /// The contents of the memory of answered requests, by id.
    data: HashMap<u16, Vec<u8>>,
    /// Whether the guest sleeps until it is woken for a response.
    urbs_sleep: bool,
    /// Whether the guest sleeps until it is woken for a connection event.
    connects_sleep: bool,
    /// Whether the backend sleeps until it is woken for a request.
    backend_sleeps: bool,
}

/// A request's id, its status, and the number of bytes transferred.
pub(super) type Reply = (u16, Status, u32);

impl World {
    /// A guest that has just connected to a controller with four ports.
    pub(super) fn new() -> World {
        let pages = [Arc::new(MemoryPage::new()), Arc::new(MemoryPage::new())];
        let [a, b] = pages.clone();
        let memory = GuestMemory::default();
        let urbs = UrbRing::new(a);
        let mut connects = ConnectRing::new(b);
        let _ = connects.fill();
        let [a, b] = pages;
        let engine = Engine::new(a, b, 4, memory.clone(), Arc::new(Counters::default()));
        World {
            engine,
            urbs,
            connects,
            memory,
            host: BTreeMap::new(),
            streams: BTreeMap::new(),
            jobs: Vec::new(),
            requests: HashMap::new(),
            data: HashMap::new(),
            urbs_sleep: true,
            connects_sleep: true,
            backend_sleeps: true,
        }
    }

    /// A guest with a high-speed device in port 1, which it has configured at address 1.
    pub(super) fn with_device() -> (World, Device) {
        let mut world = World::new();
        let device = world.add_configured_device(1);
        (world, device)
    }

    /// Plugs in a high-speed device for a port. The guest configures it, with the port's number as
    /// its address.
    pub(super) fn add_configured_device(&mut self, port: u8) -> Device {
        let device = self.plug_in(port);
        self.request_device(port, true);
        self.end_jobs();
        assert_eq!(self.events(), [(port, Speed::High)]);
        self.enumerate(port);
        device
    }

    /// The guest sets the address of the device in a port to the port's number, and selects
    /// configuration 1.
    pub(super) fn enumerate(&mut self, port: u8) {
        let id = self.control(port, 0, set_address(port.into()));
        assert_eq!(self.replies_after_jobs(), [(id, Status::Ok, 0)]);
        let id = self.control(port, port, set_configuration(1));
        assert_eq!(self.replies_after_jobs(), [(id, Status::Ok, 0)]);
        self.status_changes();
    }

    // ---- the host and its toolstack

    /// Plugs a high-speed device into the host.
    pub(super) fn plug_in(&mut self, port: u8) -> Device {
        self.plug_in_with(port, descriptors::high_speed(), Native::High)
    }

    pub(super) fn plug_in_with(&mut self, port: u8, descriptors: Vec<u8>, speed: Native) -> Device {
        let device = Device::continuing(self.streams.entry(port).or_default());
        self.host.insert(port, (device.clone(), descriptors, speed));
        device
    }

    /// The data that has passed through the devices in a port.
    pub(super) fn streams(&self, port: u8) -> Streams {
        self.streams.get(&port).cloned().unwrap_or_default()
    }

    /// The plugged-in device that is requested for a port.
    pub(super) fn device(&self, port: u8) -> Option<Device> {
        self.host.get(&port).map(|it| it.0.clone())
    }

    /// Unplugs the device.
    pub(super) fn unplug(&mut self, port: u8) {
        if let Some((device, ..)) = self.host.remove(&port) {
            device.unplug();
        }
    }

    /// Unplugs the device, but the kernel has not ended its transfers yet.
    pub(super) fn unplug_slowly(&mut self, port: u8) {
        if let Some((device, ..)) = self.host.remove(&port) {
            device.unplug_silently();
        }
    }

    /// The toolstack requests a device for a port, or withdraws the request.
    pub(super) fn request_device(&mut self, port: u8, requested: bool) {
        let bus_id = format!("1-{port}").parse().unwrap();
        let device = requested.then_some(RequestedDevice { bus_id, identity: None });
        self.engine.set_device(at(port), device);
        self.begin_jobs();
    }

    /// The changes of port status that the toolstack sees.
    pub(super) fn status_changes(&mut self) -> Vec<(u8, Option<PortStatus>)> {
        let changes = self.engine.take_status_changes();
        changes.into_iter().map(|it| (it.port.number(), it.status)).collect()
    }

    // ---- the caller of the engine

    /// A round, with a guest that follows the protocol.
    pub(super) fn run_round(&mut self) -> RoundEnd {
        self.try_round().unwrap()
    }

    /// A round. Checks that the guest is woken if and only if it sleeps and there is something for
    /// it.
    pub(super) fn try_round(&mut self) -> Result<RoundEnd, Fault> {
        self.engine.park();
        self.engine.take_requests()?;
        for port in self.engine.ports() {
            if self.engine.pollable(port).is_some() {
                self.engine.reap(port)?;
            }
        }
        let before = (self.urbs.page().load(RSP_PROD), self.connects.page().load(RSP_PROD));
        let round = self.engine.finish_round()?;
        let urbs_due = self.urbs_sleep && self.urbs.page().load(RSP_PROD) != before.0;
        let connects_due = self.connects_sleep && self.connects.page().load(RSP_PROD) != before.1;
        assert_eq!(round.notify.is_due(), urbs_due || connects_due);
        self.urbs_sleep &= !urbs_due;
        self.connects_sleep &= !connects_due;
        self.begin_jobs();
        assert!(!self.engine.rearm(), "the engine left a request unread");
        self.backend_sleeps = true;
        Ok(round)
    }

    fn begin_jobs(&mut self) {
        for job in self.engine.take_jobs() {
            if let Some(device) = device_of(&job.work) {
                device.lock(true);
            }
            assert!(self.jobs.iter().all(|it| it.port != job.port), "more than one job for a port");
            self.jobs.push(job);
        }
    }

    /// The jobs that have not ended, in the form of the log.
    pub(super) fn jobs(&self) -> Vec<String> {
        self.jobs.iter().map(|it| format!("{:?}", it.work)).collect()
    }

    /// Ends a job, with this result if the job can fail.
    pub(super) fn end_job(&mut self, which: usize, result: Result<(), Failure>) {
        let Job { port, work } = self.jobs.remove(which);
        let device = device_of(&work).inspect(|it| it.lock(false));
        let gone = device.is_some_and(|it| it.is_gone());
        let outcome = match work {
            Work::Open(_) => match self.host.get(&port.number()) {
                None => Outcome::Absent,
                Some((usb, descriptors, native)) => {
                    let view = GuestView::new(descriptors, Some(*native), 1, 2).unwrap();
                    Outcome::Opened(Box::new(Opened { usb: usb.clone(), view }))
                }
            },
            Work::Release(usb, ..) => {
                usb.configure(false);
                Outcome::Released
            }
            _ if gone => Outcome::Done(Err(Failure::Gone)),
            Work::Configure(usb, _, to) => {
                result.iter().for_each(|()| usb.configure(to.value > 0));
                Outcome::Done(result)
            }
            _ => Outcome::Done(result),
        };
        self.engine.job_ended(port, outcome);
        self.begin_jobs();
    }

    /// Ends all jobs, including those that follow from them. A job succeeds unless its device is
    /// unplugged.
    pub(super) fn end_jobs(&mut self) {
        self.run_round();
        while !self.jobs.is_empty() {
            self.end_job(0, Ok(()));
            self.run_round();
        }
    }

    // ---- the guest

    /// The guest reads its connection events.
    pub(super) fn events(&mut self) -> Vec<(u8, Speed)> {
        let mut events = Vec::new();
        while let Some(event) = self.connects.take().unwrap() {
            events.push((event.port.number(), event.speed));
        }
        let _ = self.connects.push();
        assert!(!self.connects.rearm());
        self.connects_sleep = true;
        events
    }

    /// The guest reads the responses, revokes the grants of the answered requests, and sleeps.
    pub(super) fn replies(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Some(answer) = self.urbs.take().unwrap() {
            let request = self.requests.remove(&answer.id).unwrap();
            assert_eq!(request.is_some(), answer.to == Answered::Transfer);
            if let Some(transfer) = request {
                self.data.insert(answer.id, self.memory.get(&transfer.data));
                self.revoke_grants(&transfer);
            }
            replies.push((answer.id, answer.status, answer.actual_length));
        }
        assert!(!self.urbs.rearm());
        self.urbs_sleep = true;
        replies
    }

    fn revoke_grants(&self, transfer: &Transfer) {
        self.memory.revoke(&transfer.data);
        if let Kind::Isochronous(iso) = transfer.kind {
            self.memory.revoke(&iso.descriptors);
        }
    }

    /// Runs rounds until all jobs have ended, and returns the responses.
    pub(super) fn replies_after_jobs(&mut self) -> Vec<Reply> {
        self.end_jobs();
        self.replies()
    }

    /// Runs a round, and returns the responses.
    pub(super) fn replies_after_round(&mut self) -> Vec<Reply> {
        self.run_round();
        self.replies()
    }

    /// The contents of the memory of an answered request.
    pub(super) fn data(&self, id: u16) -> &[u8] {
        &self.data[&id]
    }

    /// Sends a transfer. Checks that the backend is woken if and only if it sleeps.
    pub(super) fn send(&mut self, transfer: &Transfer) -> u16 {
        let pushed = self.urbs.submit(transfer).unwrap();
        self.note_sent(pushed.id, pushed.notify, Some(*transfer));
        pushed.id
    }

    /// Cancels a request. Returns the id of the unlink.
    pub(super) fn unlink(&mut self, target: u16) -> u16 {
        let pushed = self.urbs.unlink(target).unwrap();
        self.note_sent(pushed.id, pushed.notify, None);
        pushed.id
    }

    /// Records a request that was sent.
    fn note_sent(&mut self, id: u16, notify: Notify, what: Option<Transfer>) {
        assert_eq!(notify.is_due(), self.backend_sleeps);
        self.backend_sleeps = false;
        assert!(self.requests.insert(id, what).is_none());
    }
}

/// The device that a job works on.
fn device_of(work: &Work<Device>) -> Option<Device> {
    match work {
        Work::Open(_) => None,
        Work::Release(device, ..)
        | Work::Configure(device, ..)
        | Work::SetInterface(device, ..)
        | Work::ClearHalt(device, _)
        | Work::Reset(device, _) => Some(device.clone()),
    }
}

/// The port with this number.
pub(super) fn at(port: u8) -> Port {
    Port::new(port).unwrap()
}

/// Splits an endpoint address into direction and number.
fn split(endpoint: u8) -> (Direction, u8) {
    (if endpoint & 0x80 == 0 { Direction::Out } else { Direction::In }, endpoint & 0x0f)
}

/// A transfer to the device in a port, whose address is the port's number.
pub(super) fn transfer(port: u8, endpoint: u8, kind: Kind, data: Segments) -> Transfer {
    let (direction, endpoint) = split(endpoint);
    let short_not_ok = false;
    Transfer { port: at(port), address: port, endpoint, direction, kind, short_not_ok, data }
}
