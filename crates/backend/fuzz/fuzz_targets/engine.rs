//! The whole engine, with a guest, devices and a toolstack that do what the input says.
//!
//! Each input begins with a byte that says whether the guest keeps the rules. One that does finds each request answered once. One that does
//! not changes both rings while they are read. Whatever happens, the engine does not panic or go on for ever, touches no device that a
//! job is at, has no more at a device than the ring holds, and in the end gives every device back.
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
use vusb_backend::engine::{Engine, Failure, Fault, Job, Offer, Opened, Outcome, Work};
use vusb_backend::nodes::Want;
use vusb_model::speed::Speed;
use vusb_usbif::front::{ConnectRing, UrbRing, encode_submit};
use vusb_usbif::urb::{
    Direction, Isochronous, Kind, RequestWords, Segment, Segments, Setup, Transfer,
};
use vusb_usbif::{PAGE_WORDS, Page as _, Port};

use device::Device;
use input::{Input, LooseMemory, NONE, READ_ONLY, WildPage};

const PORTS: u8 = 3;

/// A high-speed device: bulk 0x81 and 0x02, interrupt 0x83, isochronous 0x84 and 0x05.
const SHEET: [u8; 71] = [
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
    engine: Engine<WildPage, LooseMemory, Device>,
    pages: [WildPage; 2],
    urbs: UrbRing<WildPage>,
    connects: ConnectRing<WildPage>,
    /// The last device of each port.
    devices: Vec<Device>,
    jobs: Vec<Job<Device>>,
    /// The guest breaks the rules.
    lies: bool,
    sent: usize,
    answered: usize,
}

impl World {
    fn new(input: &Input) -> World {
        let pages = [WildPage::new(input), WildPage::new(input)];
        let urbs = UrbRing::new(pages[0].clone());
        let mut connects = ConnectRing::new(pages[1].clone());
        let _ = connects.fill();
        let memory = LooseMemory(input.clone());
        let [a, b] = pages.clone();
        World {
            input: input.clone(),
            engine: Engine::new(a, b, PORTS, memory, Arc::new(Counters::default())),
            pages,
            urbs,
            connects,
            devices: (0..=PORTS).map(|_| Device::default()).collect(),
            jobs: Vec::new(),
            lies: input.byte() & 1 != 0,
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
            5 if self.lies => self.push_anything(),
            6 if self.lies => self.scribble(),
            5 | 6 => self.enumerate(),
            7 => self.look(),
            8..=9 => return self.round(),
            10 => self.device().finish(&self.input),
            11 => self.device().change(&self.input),
            12 => {
                let bus_id = self.input.pick(&["1-1", "1-2"]).parse().unwrap();
                let want = Want { bus_id, identity: None };
                let want = Some(want).filter(|_| self.input.byte() & 3 != 0);
                self.engine.want(self.port(), want);
            }
            13 => self.device().end_if_gone(),
            14 => self.engine.plugged(|_| true),
            _ => self.end_job(),
        }
        Ok(())
    }

    fn device(&self) -> &Device {
        &self.devices[usize::from(self.port().number())]
    }

    /// What the thread of a controller does.
    fn round(&mut self) -> Result<(), Fault> {
        self.set_wild(self.lies);
        let result = self.engine.ring().and_then(|()| self.devices_and_jobs());
        let _ = self.engine.rearm();
        self.set_wild(false);
        result
    }

    /// What it does once the controller is to end: the guest's requests do not count any more.
    fn last_round(&mut self) -> Result<(), Fault> {
        self.set_wild(self.lies);
        let result = self.devices_and_jobs();
        self.set_wild(false);
        result
    }

    fn set_wild(&self, wild: bool) {
        self.pages.iter().for_each(|it| it.set_wild(wild));
    }

    fn devices_and_jobs(&mut self) -> Result<(), Fault> {
        for port in self.engine.ports() {
            if self.engine.watched(port).is_some() {
                self.engine.device(port)?;
            }
        }
        let _ = self.engine.settle()?;
        assert!(self.engine.take_notices().len() <= 1000);
        for job in self.engine.take_jobs() {
            if let Some(device) = device_of(&job.work) {
                device.lock(true);
            }
            assert!(self.jobs.iter().all(|it| it.port != job.port), "two jobs at one port");
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
                    let offer = Offer::new(&SHEET, Some(Speed::High), 1, 2).unwrap();
                    Outcome::Opened(Box::new(Opened { usb, offer }))
                }
            },
            Work::GiveBack(..) => Outcome::GaveBack,
            _ if device.is_some_and(|it| it.is_gone()) => Outcome::Done(Err(Failure::Gone)),
            _ => Outcome::Done(match self.input.byte() {
                0..=15 => Err(Failure::Stalled),
                16..=31 => Err(Failure::Failed),
                _ => Ok(()),
            }),
        };
        self.engine.ended(port, outcome);
    }

    fn submit(&mut self) {
        let transfer = self.transfer();
        self.send(&transfer);
    }

    fn send(&mut self, transfer: &Transfer) {
        self.sent += usize::from(self.urbs.submit(transfer).is_ok());
    }

    /// The guest gives a device its port's number as address, or configures it.
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
        // Memory for reading is no memory to read into.
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

    /// A request as above with words of it replaced.
    fn push_anything(&mut self) {
        let mut words = RequestWords([0; 37]);
        encode_submit(&mut words, u16::from(self.input.byte()), &self.transfer());
        for _ in 0..self.input.byte() & 3 {
            words.0[usize::from(self.input.byte()) % 37] = self.input.word();
        }
        let _ = self.urbs.push_raw(&words);
    }

    /// Any word of any ring becomes anything.
    fn scribble(&mut self) {
        let page = &self.pages[usize::from(self.input.byte() & 1)];
        page.store(self.input.word() as usize % PAGE_WORDS, self.input.word());
    }

    /// The guest looks at its rings.
    fn look(&mut self) {
        loop {
            match self.urbs.take() {
                Ok(Some(_)) => self.answered += 1,
                Ok(None) => break,
                Err(violation) if !self.lies => panic!("{violation}"),
                Err(_) => break,
            }
        }
        let _ = self.urbs.rest();
        while let Ok(Some(_)) = self.connects.take() {}
        let _ = self.connects.push();
    }

    /// The controller ends: jobs end, and the kernel ends what devices had that are gone.
    fn end(mut self, mut faulty: bool) {
        self.engine.want_none();
        // What a guest that keeps the rules has asked for at last is answered too.
        if !faulty && !self.lies {
            faulty = self.engine.ring().is_err();
        }
        for _ in 0..64 {
            self.devices.iter().for_each(Device::end_if_gone);
            faulty |= self.last_round().is_err();
            (0..self.jobs.len()).for_each(|_| self.end_job());
            self.look();
        }
        assert!(self.engine.is_empty(), "a device was not given back");
        if !faulty && !self.lies {
            assert_eq!(self.sent, self.answered);
        }
    }
}

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

fuzz_target!(|bytes: &[u8]| {
    let input = Input::new(bytes);
    let mut world = World::new(&input);
    let mut faulty = false;
    while !faulty && !input.is_empty() {
        faulty = world.step().is_err();
    }
    world.end(faulty);
});
