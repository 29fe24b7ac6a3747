//! Any interleaving of a guest, devices, this machine and the toolstack, with books kept apart from the engine.
//!
//! What must hold whatever happens:
//!
//! * Each request is answered once (`usbif`'s front sees to that), and each is answered in the end.
//! * Nothing is written outside of what a request has granted, behind what the answer says, or after the answer (`memory` sees to that).
//! * Nothing is read behind a read that nothing may follow.
//! * Bytes come out of an endpoint in the order in which they went in: none is lost, none comes twice.
//! * The guest and the backend are woken if and only if they sleep and there is something for them (`world` sees to that).
//! * A device is given back only when nothing of it is unanswered, and all are given back when the controller ends.
//! * Nothing that the engine keeps grows.

mod books;

use proptest::prelude::*;
use vusb_host::usbfs::{Kind as UsbKind, Refused, Status as Usb};
use vusb_usbif::urb::{Direction, Kind, Transfer};

use super::super::Failure;
use super::device::Device;
use super::isochronous::play;
use super::world::{World, at, clear_halt, get, put, set_address, set_configuration, transfer};
use crate::nodes::Want;
use books::Books;

/// How many ports the guest, the toolstack and the devices play with.
const PORTS: u8 = 3;
/// What the guest reads and writes, in bytes.
const LENGTHS: [usize; 7] = [13, 31, 512, 1000, 4096, 8192, 17408];

#[derive(Clone, Debug)]
enum Op {
    Ask(u8, Ask),
    Unlink(usize),
    /// The device in a port finishes the oldest transfer of one endpoint, having moved so many 256ths of it.
    Finish(u8, usize, Usb, usize),
    /// How many bytes of its oldest transfer the device moves before that is discarded.
    Moves(u8, usize),
    KernelCancels(u8),
    Insert(u8),
    Pull(u8),
    PullSlowly(u8),
    KernelEnds,
    Want(u8, bool),
    WantOther(u8),
    Shortage(u8, bool),
    EndJob(usize, Result<(), Failure>),
    Settle,
    Look,
    LookAtPorts,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Address,
    Configuration,
    ClearHalt,
    Get(u16),
    Put(u16),
    Read(usize, bool),
    Write(usize),
    Listen,
    Play,
}

fn ask() -> impl Strategy<Value = Ask> {
    let length = || prop::sample::select(&LENGTHS[..]);
    prop_oneof![
        2 => Just(Ask::Address),
        2 => Just(Ask::Configuration),
        1 => Just(Ask::ClearHalt),
        2 => (0_u16..300).prop_map(Ask::Get),
        1 => (0_u16..300).prop_map(Ask::Put),
        8 => (length(), any::<bool>()).prop_map(|(bytes, train)| Ask::Read(bytes, train)),
        8 => length().prop_map(Ask::Write),
        2 => Just(Ask::Listen),
        1 => Just(Ask::Play),
    ]
}

fn port() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(1), 1 => 2..=PORTS]
}

fn device_op() -> impl Strategy<Value = Op> {
    let ended = prop_oneof![
        6 => Just(Usb::Ok),
        1 => Just(Usb::Stalled),
        1 => Just(Usb::Overflow),
        1 => Just(Usb::Protocol(71)),
        1 => Just(Usb::Gone),
    ];
    let part = prop_oneof![Just(256), 0..=256_usize];
    prop_oneof![
        16 => (port(), any::<usize>(), ended, part).prop_map(|(a, b, c, d)| Op::Finish(a, b, c, d)),
        2 => (port(), 0..9000_usize).prop_map(|(port, bytes)| Op::Moves(port, bytes)),
        1 => port().prop_map(Op::KernelCancels),
        2 => (port(), prop::bool::weighted(0.3)).prop_map(|(port, it)| Op::Shortage(port, it)),
    ]
}

fn host_op() -> impl Strategy<Value = Op> {
    let result = prop_oneof![
        4 => Just(Ok(())),
        1 => Just(Err(Failure::Stalled)),
        1 => Just(Err(Failure::Failed)),
    ];
    prop_oneof![
        8 => (any::<usize>(), result).prop_map(|(which, result)| Op::EndJob(which, result)),
        2 => port().prop_map(Op::Insert),
        1 => port().prop_map(Op::Pull),
        1 => port().prop_map(Op::PullSlowly),
        2 => Just(Op::KernelEnds),
        2 => (port(), prop::bool::weighted(0.7)).prop_map(|(port, it)| Op::Want(port, it)),
        1 => port().prop_map(Op::WantOther),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => (port(), ask()).prop_map(|(port, ask)| Op::Ask(port, ask)),
        8 => any::<usize>().prop_map(Op::Unlink),
        16 => Just(Op::Settle),
        10 => Just(Op::Look),
        3 => Just(Op::LookAtPorts),
        21 => device_op(),
        17 => host_op(),
    ]
}

struct Machine {
    world: World,
    books: Books,
    /// Pulled out, and the kernel has not ended what they had.
    vanished: Vec<Device>,
}

impl Machine {
    /// A guest with two devices that it has configured.
    fn new() -> Machine {
        let (mut world, _) = World::with_device();
        world.device_in(2);
        Machine { world, books: Books::default(), vanished: Vec::new() }
    }

    fn step(&mut self, op: &Op) {
        let world = &mut self.world;
        match *op {
            Op::Ask(port, ask) => self.ask(port, ask),
            Op::Unlink(which) => self.unlink(which),
            Op::Finish(port, which, status, part) => self.finish(port, which, status, part),
            Op::Moves(port, bytes) => self.with(port, |it| it.moves(bytes)),
            Op::KernelCancels(port) => self.with(port, Device::kernel_cancels_all),
            Op::Insert(port) if world.device(port).is_none() => {
                world.insert(port);
                world.engine.plugged(|_| true);
            }
            Op::Insert(_) => {}
            Op::Pull(port) => world.pull(port),
            Op::PullSlowly(port) => {
                self.vanished.extend(world.device(port));
                world.pull_slowly(port);
            }
            Op::KernelEnds => self.vanished.drain(..).for_each(|it| it.kernel_ends_all()),
            Op::Want(port, wanted) => world.want(port, wanted),
            Op::WantOther(port) => {
                let want = Want { bus_id: "2-7".parse().unwrap(), identity: None };
                world.engine.want(at(port), Some(want));
            }
            Op::Shortage(port, short) => {
                self.with(port, |it| it.refuses(short.then_some(Refused::NoMemory)));
            }
            Op::EndJob(which, result) if !world.jobs.is_empty() => {
                world.end_job(which % world.jobs.len(), result);
            }
            Op::EndJob(..) => {}
            Op::Settle => self.settle(),
            Op::Look => self.books.look(world),
            Op::LookAtPorts => drop(world.events()),
        }
    }

    fn with(&self, port: u8, what: impl FnOnce(&Device)) {
        if let Some(device) = self.world.device(port) {
            what(&device);
        }
    }

    fn settle(&mut self) {
        self.world.settle();
        self.world.notices();
        self.books.check(&self.world);
    }

    /// The guest sends a request, if there is room in the ring.
    fn ask(&mut self, port: u8, ask: Ask) {
        if self.world.urbs.in_flight() == 16 {
            return;
        }
        let (world, number) = (&mut self.world, self.books.number());
        let (id, endpoint) = match ask {
            Ask::Address => (world.control(port, 0, set_address(port.into())), None),
            Ask::Configuration => (world.control(port, port, set_configuration(1)), None),
            Ask::ClearHalt => (world.control(port, port, clear_halt(0x81)), None),
            Ask::Get(bytes) => (world.control(port, port, get(bytes)), Some(0x80)),
            Ask::Put(bytes) => {
                let data = world.memory.buffer(Direction::Out, 9, bytes.into());
                world.memory.put(&data, &books::payload(number, bytes.into()));
                (world.control_with(port, port, put(bytes), data), Some(0))
            }
            Ask::Read(bytes, short_not_ok) => {
                let data = world.memory.buffer(Direction::In, 0, bytes);
                let read = transfer(port, 0x81, Kind::Bulk, data);
                (world.send(&Transfer { short_not_ok, ..read }), Some(0x81))
            }
            Ask::Write(bytes) => (world.write(port, &books::payload(number, bytes)), Some(0x02)),
            Ask::Listen => (world.listen(port), Some(0x83)),
            Ask::Play => {
                let data = world.memory.buffer(Direction::In, 4000, 200);
                (play(world, port, 0x84, data, &[(100, 100), (0, 50)], 4090).0, None)
            }
        };
        self.books.asked(id, port, endpoint);
    }

    fn unlink(&mut self, which: usize) {
        let targets = self.books.transfers();
        if self.world.urbs.in_flight() < 16 && !targets.is_empty() {
            let id = self.world.unlink(targets[which % targets.len()]);
            self.books.unlinked(id);
        }
    }

    fn finish(&mut self, port: u8, which: usize, status: Usb, part: usize) {
        let Some(device) = self.world.device(port) else { return };
        let heads = device.heads();
        let Some(at) = heads.get(which.checked_rem(heads.len()).unwrap_or(0)).copied() else {
            return;
        };
        let (room, is_in, kind) = {
            let urb = device.urb(at);
            let head = if urb.kind == UsbKind::Control { 8 } else { 0 };
            (urb.buffer.len() - head, urb.is_in(), urb.kind.clone())
        };
        if let UsbKind::Iso(packets) = kind {
            let results: Vec<_> = packets.iter().map(|it| (it.length / 2, status)).collect();
            return device.plays(at, Usb::Ok, &results);
        }
        // A write that went well was taken whole.
        let part = if status == Usb::Ok && !is_in { 256 } else { part };
        device.runs(at, status, room * part / 256);
    }

    /// All goes well for a while: then nothing is left without an answer.
    fn go_on(&mut self) {
        for _ in 0..40 {
            self.step(&Op::KernelEnds);
            (0..self.world.jobs.len()).for_each(|_| self.world.end_job(0, Ok(())));
            for port in 1..=PORTS {
                self.step(&Op::Shortage(port, false));
                (0..5).for_each(|which| self.finish(port, which, Usb::Ok, 256));
            }
            self.settle();
            self.books.look(&mut self.world);
        }
        assert!(self.books.is_empty(), "something waits for nothing");
    }

    /// The controller ends. Nothing helps but what must: jobs end, and the kernel ends what unplugged devices had.
    fn end(mut self) {
        self.world.engine.want_none();
        for _ in 0..8 {
            self.step(&Op::KernelEnds);
            (0..self.world.jobs.len()).for_each(|_| self.world.end_job(0, Ok(())));
            self.settle();
            self.books.look(&mut self.world);
        }
        assert!(self.world.engine.is_empty());
        self.books.close(&self.world, PORTS);
    }
}

proptest! {
    #[test]
    fn whatever_happens_in_whatever_order(
        ops in prop::collection::vec(op(), 1..150),
        in_peace in any::<bool>(),
    ) {
        let mut machine = Machine::new();
        for op in &ops {
            machine.step(op);
        }
        if in_peace {
            machine.go_on();
        }
        machine.end();
    }
}
