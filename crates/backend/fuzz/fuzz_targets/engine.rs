//! The whole engine, with a guest, devices and a toolstack that are controlled by the input.
//!
//! The first byte of the input determines whether the guest follows the protocol. If it does, each
//! request must be answered exactly once. If it does not, it changes both rings while they are
//! read. In all cases the engine must not panic or loop forever, must not touch a device while a
//! job works on it, must not submit more transfers to a device than the ring has slots, and must
//! release every device in the end.
//!
//! ```text
//! cd crates/backend && RUSTC_BOOTSTRAP=1 cargo fuzz run engine -- -max_total_time=300 -max_len=4096
//! ```

#![no_main]

mod device;
mod input;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vusb_backend::counters::Counters;
use vusb_backend::engine::{Engine, Failure, Fault, GuestView, Job, Opened, Outcome, Work};
use vusb_model::speed::Speed;
use vusb_usbif::frontend::{ConnectRing, UrbRing, encode_submit};
use vusb_usbif::urb::{
    Direction, Isochronous, Kind, RequestWords, Segment, Segments, Setup, Transfer,
};
use vusb_usbif::{PAGE_WORDS, Page as _, Port};
use vusb_xen::usb::RequestedDevice;

use device::Device;
use input::{ChangingPage, FuzzedMemory, Input, NONE, READ_ONLY};

const PORTS: u8 = 3;

/// Descriptors of a high-speed device: bulk 0x81 and 0x02, interrupt 0x83, isochronous 0x84 and
/// 0x05.
const DESCRIPTORS: [u8; 71] = [
    18, 1, 0, 2, 0, 0, 0, 64, 0x81, 7, 0x81, 0x55, 0, 1, 1, 2, 3, 1, //
    9, 2, 53, 0, 1, 1, 0, 0xa0, 50, //
    9, 4, 0, 0, 5, 8, 6, 80, 0, //
    7, 5, 0x81, 2, 0, 2, 0, //
    7, 5, 0x02, 2, 0, 2, 0, //
    7, 5, 0x83, 3, 8, 0, 4, //
    7, 5, 0x84, 1, 0, 4, 1, //
    7, 5, 0x05, 1, 0, 4, 1,
];

struct World {
    input: Input,
    engine: Engine<ChangingPage, FuzzedMemory, Device>,
    pages: [ChangingPage; 2],
    urbs: UrbRing<ChangingPage>,
    connects: ConnectRing<ChangingPage>,
    /// The last device of each port.
    devices: Vec<Device>,
    jobs: Vec<Job<Device>>,
    /// The guest breaks the protocol.
    malicious: bool,
    sent: usize,
    answered: usize,
}

impl World {
    fn new(input: &Input) -> World {
        let pages = [ChangingPage::new(input), ChangingPage::new(input)];
        let urbs = UrbRing::new(pages[0].clone());
        let mut connects = ConnectRing::new(pages[1].clone());
        let _ = connects.fill();
        let memory = FuzzedMemory(input.clone());
        let [a, b] = pages.clone();
        World {
            input: input.clone(),
            engine: Engine::new(a, b, PORTS, memory, Arc::new(Counters::default())),
            pages,
            urbs,
            connects,
            devices: (0..=PORTS).map(|_| Device::default()).collect(),
            jobs: Vec::new(),
            malicious: input.byte() & 1 != 0,
            sent: 0,
            answered: 0,
        }
    }

    fn port(&self) -> Port {
        Port::new(self.input.byte() % PORTS + 1).unwrap()
    }

    fn step(&mut self) -> Result<(), Fault> {
        match self.input.byte() % 16 {
            0..=3 => self.submit(),
            4 => self.unlink(),
            5 if self.malicious => self.push_corrupted(),
            6 if self.malicious => self.scribble(),
            5 | 6 => self.enumerate(),
            7 => self.read_rings(),
            8..=9 => return self.round(),
            10 => self.device().finish(&self.input),
            11 => self.device().change(&self.input),
            12 => {
                let bus_id = self.input.pick(&["1-1", "1-2"]).parse().unwrap();
                let requested = RequestedDevice { bus_id, identity: None };
                let requested = Some(requested).filter(|_| self.input.byte() & 3 != 0);
                self.engine.set_device(self.port(), requested);
            }
            13 => self.device().end_if_gone(),
            14 => self.engine.devices_changed(|_| true),
            _ => self.end_job(),
        }
        Ok(())
    }

    fn device(&self) -> &Device {
        &self.devices[usize::from(self.port().number())]
    }

    /// A round, as the controller's thread runs it.
    fn round(&mut self) -> Result<(), Fault> {
        self.set_changing(self.malicious);
        let result = self.engine.take_requests().and_then(|()| self.devices_and_jobs());
        let _ = self.engine.rearm();
        self.set_changing(false);
        result
    }

    /// A round after the controller was asked to stop: the guest's requests are no longer read.
    fn last_round(&mut self) -> Result<(), Fault> {
        self.set_changing(self.malicious);
        let result = self.devices_and_jobs();
        self.set_changing(false);
        result
    }

    fn set_changing(&self, changing: bool) {
        self.pages.iter().for_each(|it| it.set_changing(changing));
    }

    fn devices_and_jobs(&mut self) -> Result<(), Fault> {
        for port in self.engine.ports() {
            if self.engine.pollable(port).is_some() {
                self.engine.reap(port)?;
            }
        }
        self.engine.park();
        let _ = self.engine.awaits_train();
        let _ = self.engine.finish_round()?;
        assert!(self.engine.take_status_changes().len() <= 1000);
        for job in self.engine.take_jobs() {
            if let Some(device) = device_of(&job.work) {
                device.lock(true);
            }
            assert!(self.jobs.iter().all(|it| it.port != job.port), "two jobs for one port");
            self.jobs.push(job);
        }
        Ok(())
    }

    fn end_job(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let Job { port, work } = self.jobs.remove(usize::from(self.input.byte()) % self.jobs.len());
        let device = device_of(&work);
        device.iter().for_each(|it| it.lock(false));
        let outcome = match work {
            Work::Open(_) => match self.input.byte() {
                0..=15 => Outcome::Absent,
                16..=31 => Outcome::Refused("no".to_owned()),
                _ => {
                    let usb = Device::default();
                    self.devices[usize::from(port.number())] = usb.clone();
                    let view = GuestView::new(&DESCRIPTORS, Some(Speed::High), 1, 2).unwrap();
                    Outcome::Opened(Box::new(Opened { usb, view }))
                }
            },
            Work::Release(..) => Outcome::Released,
            _ if device.is_some_and(|it| it.is_gone()) => Outcome::Done(Err(Failure::Gone)),
            _ => Outcome::Done(match self.input.byte() {
                0..=15 => Err(Failure::Stalled),
                16..=31 => Err(Failure::Failed),
                _ => Ok(()),
            }),
        };
        self.engine.job_ended(port, outcome);
    }

    fn submit(&mut self) {
        let transfer = self.transfer();
        self.send(&transfer);
    }

    fn send(&mut self, transfer: &Transfer) {
        self.sent += usize::from(self.urbs.submit(transfer).is_ok());
    }

    /// The guest sets the port's number as the device's address, or configures the device.
    fn enumerate(&mut self) {
        let port = self.port();
        let first = self.input.byte() & 1 == 0;
        let (request, value) = if first { (5, port.number().into()) } else { (9, 1) };
        let setup = Setup { request, value, ..Setup::default() };
        self.send(&Transfer {
            port,
            address: if first { 0 } else { port.number() },
            endpoint: 0,
            direction: Direction::Out,
            kind: Kind::Control(setup),
            short_not_ok: false,
            data: Segments::NONE,
        });
    }

    fn transfer(&self) -> Transfer {
        let input = &self.input;
        let port = self.port();
        let address = if input.byte() < 0xf0 { port.number() } else { 0 };
        let endpoint = input.pick(&[0x81, 0x81, 0x02, 0x02, 0x83, 0x84, 0x05, 0]);
        let direction = if endpoint & 0x80 == 0 { Direction::Out } else { Direction::In };
        let mut data = self.segments(direction);
        let kind = match endpoint {
            0 => Kind::Control(self.setup(data.len_bytes())),
            0x83 => Kind::Interrupt { interval: 4 },
            0x84 | 0x05 => Kind::Isochronous(self.isochronous(&mut data)),
            _ => Kind::Bulk,
        };
        let direction = if let Kind::Control(setup) = kind { setup.direction() } else { direction };
        let (endpoint, short_not_ok) = (endpoint & 0xf, input.byte() & 1 != 0);
        Transfer { port, address, endpoint, direction, kind, short_not_ok, data }
    }

    fn segments(&self, direction: Direction) -> Segments {
        let input = &self.input;
        let gref = match input.byte() {
            0 => NONE,
            _ if direction == Direction::Out => READ_ONLY,
            _ => 1,
        };
        let count = usize::from(input.byte() % 14);
        let length = input.pick(&[4096, 4096, 512, 13, 0]);
        let segment = Segment { gref, offset: 0, length };
        Segments::new(&vec![segment; count]).unwrap()
    }

    fn setup(&self, room: usize) -> Setup {
        let input = &self.input;
        let (request_type, request) =
            input.pick(&[(0x80, 6), (0, 5), (0, 9), (1, 11), (2, 1), (0xc0, 1), (0x40, 1), (0, 3)]);
        let value = u16::from(input.byte()) << (input.byte() & 8);
        let length = room.min(usize::from(input.byte()) * 17) as u16;
        // Reading requires writable memory.
        let length = if request_type & 0x80 == 0 { length } else { 0 };
        Setup { request_type, request, value, index: u16::from(input.byte()), length }
    }

    fn isochronous(&self, data: &mut Segments) -> Isochronous {
        let packets = u16::from(self.input.byte() & 0x7f) + 1;
        let table = Segment { gref: 1, offset: self.input.byte().into(), length: packets * 16 };
        let descriptors = Segments::new(&[table]).unwrap();
        if data.as_slice().len() > 15 {
            *data = Segments::NONE;
        }
        Isochronous { interval: 1, start_frame: 0, packets, descriptors }
    }

    fn unlink(&mut self) {
        self.sent += usize::from(self.urbs.unlink(u16::from(self.input.byte() & 0xf)).is_ok());
    }

    /// Sends a request with some words replaced.
    fn push_corrupted(&mut self) {
        let mut words = RequestWords([0; 37]);
        encode_submit(&mut words, u16::from(self.input.byte()), &self.transfer());
        for _ in 0..self.input.byte() & 3 {
            words.0[usize::from(self.input.byte()) % 37] = self.input.word();
        }
        let _ = self.urbs.push_raw(&words);
    }

    /// Overwrites a random word of a ring.
    fn scribble(&mut self) {
        let page = &self.pages[usize::from(self.input.byte() & 1)];
        page.store(self.input.word() as usize % PAGE_WORDS, self.input.word());
    }

    /// The guest reads its rings.
    fn read_rings(&mut self) {
        loop {
            match self.urbs.take() {
                Ok(Some(_)) => self.answered += 1,
                Ok(None) => break,
                Err(violation) if !self.malicious => panic!("{violation}"),
                Err(_) => break,
            }
        }
        let _ = self.urbs.rearm();
        while let Ok(Some(_)) = self.connects.take() {}
        let _ = self.connects.push();
    }

    /// The controller ends: jobs end, and the kernel ends the transfers of unplugged devices.
    fn end(mut self, mut faulty: bool) {
        self.engine.clear_devices();
        // The last requests of a guest that follows the protocol are answered too.
        if !faulty && !self.malicious {
            faulty = self.engine.take_requests().is_err();
        }
        for _ in 0..64 {
            self.devices.iter().for_each(Device::end_if_gone);
            faulty |= self.last_round().is_err();
            (0..self.jobs.len()).for_each(|_| self.end_job());
            self.read_rings();
        }
        assert!(self.engine.is_empty(), "a device was not released");
        if !faulty && !self.malicious {
            assert_eq!(self.sent, self.answered);
        }
    }
}

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

fuzz_target!(|bytes: &[u8]| {
    let input = Input::new(bytes);
    let mut world = World::new(&input);
    let mut faulty = false;
    while !faulty && !input.is_empty() {
        faulty = world.step().is_err();
    }
    world.end(faulty);
});
