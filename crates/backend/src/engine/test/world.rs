//! A guest, the engine that serves it, and whoever runs the engine: step by step, as a test wants.

mod ask;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vusb_model::speed::Speed as Native;
use vusb_usbif::front::{Answered, ConnectRing, UrbRing};
use vusb_usbif::urb::{Direction, Kind, Segments, Status, Transfer};
use vusb_usbif::{MemoryPage, Notify, Page as _, Port, Speed};

use super::super::{Engine, Failure, Fault, Job, Offer, Opened, Outcome, Settled, Work};
use super::device::{Device, Streams};
use super::memory::GuestMemory;
use super::sheets;
use crate::counters::Counters;
use crate::nodes::{PortStatus, Want};

pub(super) use ask::{
    clear_halt, descriptor, get, put, set_address, set_configuration, set_interface,
};

type Shared = Arc<MemoryPage>;
/// Word of a ring's head in which the backend counts its answers.
const RSP_PROD: usize = 2;

pub(super) struct World {
    pub(super) engine: Engine<Shared, GuestMemory, Device>,
    pub(super) urbs: UrbRing<Shared>,
    pub(super) connects: ConnectRing<Shared>,
    pub(super) memory: GuestMemory,
    /// What is plugged into this machine, by the port that it is meant for.
    host: BTreeMap<u8, (Device, Vec<u8>, Native)>,
    streams: BTreeMap<u8, Streams>,
    /// Jobs that have begun and not ended.
    pub(super) jobs: Vec<Job<Device>>,
    asked: HashMap<u16, Option<Transfer>>,
    /// What the memory of the last requests held when they were answered, by their numbers.
    data: HashMap<u16, Vec<u8>>,
    /// Who sleeps until woken: the guest's two rings, the backend.
    urbs_sleep: bool,
    connects_sleep: bool,
    backend_sleeps: bool,
}

/// A request's number, how it ended, and how many bytes were moved.
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
            asked: HashMap::new(),
            data: HashMap::new(),
            urbs_sleep: true,
            connects_sleep: true,
            backend_sleeps: true,
        }
    }

    /// A guest with a high-speed device in port 1 that it has given address 1 and configured.
    pub(super) fn with_device() -> (World, Device) {
        let mut world = World::new();
        let device = world.device_in(1);
        (world, device)
    }

    /// As above, in another port and with its number as the address.
    pub(super) fn device_in(&mut self, port: u8) -> Device {
        let device = self.insert(port);
        self.want(port, true);
        self.end_jobs();
        assert_eq!(self.events(), [(port, Speed::High)]);
        self.enumerate(port);
        device
    }

    /// The guest gives the device in a port the port's number as its address, and configures it.
    pub(super) fn enumerate(&mut self, port: u8) {
        let id = self.control(port, 0, set_address(port.into()));
        assert_eq!(self.finish(), [(id, Status::Ok, 0)]);
        let id = self.control(port, port, set_configuration(1));
        assert_eq!(self.finish(), [(id, Status::Ok, 0)]);
        self.notices();
    }

    // ---- this machine and its toolstack

    /// Plugs a high-speed device into this machine.
    pub(super) fn insert(&mut self, port: u8) -> Device {
        self.insert_other(port, sheets::high_speed(), Native::High)
    }

    pub(super) fn insert_other(&mut self, port: u8, sheet: Vec<u8>, speed: Native) -> Device {
        let device = Device::going_on(self.streams.entry(port).or_default());
        self.host.insert(port, (device.clone(), sheet, speed));
        device
    }

    /// What has gone through the devices in a port.
    pub(super) fn streams(&self, port: u8) -> Streams {
        self.streams.get(&port).cloned().unwrap_or_default()
    }

    /// What is plugged into this machine, and meant for a port.
    pub(super) fn device(&self, port: u8) -> Option<Device> {
        self.host.get(&port).map(|it| it.0.clone())
    }

    /// Pulls it out.
    pub(super) fn pull(&mut self, port: u8) {
        if let Some((device, ..)) = self.host.remove(&port) {
            device.unplug();
        }
    }

    /// As [`World::pull`], with the kernel slow to end what the device had.
    pub(super) fn pull_slowly(&mut self, port: u8) {
        if let Some((device, ..)) = self.host.remove(&port) {
            device.vanish();
        }
    }

    /// The toolstack wants in a port what is meant for it, or nothing.
    pub(super) fn want(&mut self, port: u8, wanted: bool) {
        let bus_id = format!("1-{port}").parse().unwrap();
        let want = wanted.then_some(Want { bus_id, identity: None });
        self.engine.want(at(port), want);
        self.begin_jobs();
    }

    /// What the toolstack is told of ports.
    pub(super) fn notices(&mut self) -> Vec<(u8, Option<PortStatus>)> {
        let notices = self.engine.take_notices();
        notices.into_iter().map(|it| (it.port.number(), it.status)).collect()
    }

    // ---- whoever runs the engine

    /// A round, for a guest that keeps the rules.
    pub(super) fn settle(&mut self) -> Settled {
        self.try_settle().unwrap()
    }

    /// A round. The guest is woken if and only if it sleeps and there is something for it.
    pub(super) fn try_settle(&mut self) -> Result<Settled, Fault> {
        self.engine.ring()?;
        for port in self.engine.ports() {
            if self.engine.watched(port).is_some() {
                self.engine.device(port)?;
            }
        }
        let before = (self.urbs.page().load(RSP_PROD), self.connects.page().load(RSP_PROD));
        let settled = self.engine.settle()?;
        let due = self.urbs_sleep && self.urbs.page().load(RSP_PROD) != before.0;
        let due_too = self.connects_sleep && self.connects.page().load(RSP_PROD) != before.1;
        assert_eq!(settled.notify.is_due(), due || due_too);
        self.urbs_sleep &= !due;
        self.connects_sleep &= !due_too;
        self.begin_jobs();
        assert!(!self.engine.rearm(), "there is something to do and nobody does it");
        self.backend_sleeps = true;
        Ok(settled)
    }

    fn begin_jobs(&mut self) {
        for job in self.engine.take_jobs() {
            if let Some(device) = device_of(&job.work) {
                device.lock(true);
            }
            assert!(self.jobs.iter().all(|it| it.port != job.port), "one job a port");
            self.jobs.push(job);
        }
    }

    /// The jobs that have not ended, as the log has them.
    pub(super) fn jobs(&self) -> Vec<String> {
        self.jobs.iter().map(|it| format!("{:?}", it.work)).collect()
    }

    /// Ends a job; this is how, if it can go wrong.
    pub(super) fn end_job(&mut self, which: usize, result: Result<(), Failure>) {
        let Job { port, work } = self.jobs.remove(which);
        let device = device_of(&work).inspect(|it| it.lock(false));
        let gone = device.is_some_and(|it| it.is_gone());
        let outcome = match work {
            Work::Open(_) => match self.host.get(&port.number()) {
                None => Outcome::Absent,
                Some((usb, sheet, native)) => {
                    let offer = Offer::new(sheet, Some(*native), 1, 2).unwrap();
                    Outcome::Opened(Box::new(Opened { usb: usb.clone(), offer }))
                }
            },
            Work::GiveBack(usb, ..) => {
                usb.configure(false);
                Outcome::GaveBack
            }
            _ if gone => Outcome::Done(Err(Failure::Gone)),
            Work::Configure(usb, _, to) => {
                result.iter().for_each(|()| usb.configure(to.value > 0));
                Outcome::Done(result)
            }
            _ => Outcome::Done(result),
        };
        self.engine.ended(port, outcome);
        self.begin_jobs();
    }

    /// Ends jobs well, and those that follow from them, until there are none.
    pub(super) fn end_jobs(&mut self) {
        self.settle();
        while !self.jobs.is_empty() {
            self.end_job(0, Ok(()));
            self.settle();
        }
    }

    // ---- the guest

    /// What the guest is told of its ports.
    pub(super) fn events(&mut self) -> Vec<(u8, Speed)> {
        let mut events = Vec::new();
        while let Some(event) = self.connects.take().unwrap() {
            events.push((event.port.number(), event.speed));
        }
        let _ = self.connects.push();
        assert!(!self.connects.rest());
        self.connects_sleep = true;
        events
    }

    /// What has been answered. The guest takes back what it granted for that, and sleeps.
    pub(super) fn replies(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Some(answer) = self.urbs.take().unwrap() {
            let asked = self.asked.remove(&answer.id).unwrap();
            assert_eq!(asked.is_some(), answer.to == Answered::Transfer);
            if let Some(transfer) = asked {
                self.data.insert(answer.id, self.memory.get(&transfer.data));
                self.take_back(&transfer);
            }
            replies.push((answer.id, answer.status, answer.actual_length));
        }
        assert!(!self.urbs.rest());
        self.urbs_sleep = true;
        replies
    }

    fn take_back(&self, transfer: &Transfer) {
        self.memory.revoke(&transfer.data);
        if let Kind::Isochronous(iso) = transfer.kind {
            self.memory.revoke(&iso.descriptors);
        }
    }

    /// A round, the end of all jobs, and what has been answered.
    pub(super) fn finish(&mut self) -> Vec<Reply> {
        self.end_jobs();
        self.replies()
    }

    /// A round, and what has been answered.
    pub(super) fn round(&mut self) -> Vec<Reply> {
        self.settle();
        self.replies()
    }

    /// What the memory of an answered request held.
    pub(super) fn data(&self, id: u16) -> &[u8] {
        &self.data[&id]
    }

    /// Sends a transfer. The backend is woken if and only if it sleeps.
    pub(super) fn send(&mut self, transfer: &Transfer) -> u16 {
        let pushed = self.urbs.submit(transfer).unwrap();
        self.pushed(pushed.id, pushed.notify, Some(*transfer));
        pushed.id
    }

    /// Cancels a request; the number of the request that says so.
    pub(super) fn unlink(&mut self, target: u16) -> u16 {
        let pushed = self.urbs.unlink(target).unwrap();
        self.pushed(pushed.id, pushed.notify, None);
        pushed.id
    }

    fn pushed(&mut self, id: u16, notify: Notify, what: Option<Transfer>) {
        assert_eq!(notify.is_due(), self.backend_sleeps);
        self.backend_sleeps = false;
        assert!(self.asked.insert(id, what).is_none());
    }
}

/// The device that a job is at.
fn device_of(work: &Work<Device>) -> Option<Device> {
    match work {
        Work::Open(_) => None,
        Work::GiveBack(device, ..)
        | Work::Configure(device, ..)
        | Work::SetInterface(device, ..)
        | Work::ClearHalt(device, _)
        | Work::Reset(device, _) => Some(device.clone()),
    }
}

/// The port of this number.
pub(super) fn at(port: u8) -> Port {
    Port::new(port).unwrap()
}

/// The last byte of an endpoint's address, as a direction and a number.
fn split(endpoint: u8) -> (Direction, u8) {
    (if endpoint & 0x80 == 0 { Direction::Out } else { Direction::In }, endpoint & 0x0f)
}

/// A transfer to the device in a port, at the address with the port's number.
pub(super) fn transfer(port: u8, endpoint: u8, kind: Kind, data: Segments) -> Transfer {
    let (direction, endpoint) = split(endpoint);
    let short_not_ok = false;
    Transfer { port: at(port), address: port, endpoint, direction, kind, short_not_ok, data }
}
