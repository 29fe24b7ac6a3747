//! Random sequences of operations by the guest, the devices, the host and the toolstack, checked
//! against an independent model.
//!
//! Invariants:
//!
//! * Each request is answered exactly once. (`vusb_usbif::frontend` checks that none is answered
//!   twice.)
//! * Nothing is written outside the memory that a request has granted, beyond the reported length,
//!   or after the response. (Checked by `memory`.)
//! * While a read with short-not-ok is in flight, no later read of its endpoint is submitted.
//! * The data of an endpoint arrives complete and in order: nothing is lost or duplicated.
//! * The guest and the backend are woken if and only if they sleep and there is work for them.
//!   (Checked by `world`.)
//! * A device is released only after all its requests are answered. When the controller ends, all
//!   devices are released.
//! * The engine's data structures do not grow without bound.

mod reference_model;

use proptest::prelude::*;
use vusb_host::usbfs::{Kind as UsbKind, Status as Usb, SubmitError};
use vusb_usbif::urb::{Direction, Kind, RING_SLOTS, Transfer};

use super::super::Failure;
use super::device::Device;
use super::isochronous::send_iso;
use super::world::{
    World, at, clear_halt, set_address, set_configuration, transfer, vendor_read, vendor_write,
};
use reference_model::Model;
use vusb_xen::usb::RequestedDevice;

/// The highest port that the operations use.
const PORTS: u8 = 3;
/// The lengths that the guest reads and writes, in bytes.
const LENGTHS: [usize; 7] = [13, 31, 512, 1000, 4096, 8192, 17408];

/// An operation. A `u8` is a port. The first `usize` of `Unlink`, `Finish` and `EndJob` selects one
/// of the candidates, modulo their number.
#[derive(Clone, Debug)]
enum Op {
    Send(u8, Request),
    Unlink(usize),
    /// The device in a port completes the oldest transfer of one endpoint, after it has moved this
    /// many 256ths of the data (the last field).
    Finish(u8, usize, Usb, usize),
    /// Sets how many bytes of an endpoint's oldest transfer have been moved when that transfer is
    /// discarded.
    SetMoved(u8, usize),
    KernelCancels(u8),
    PlugIn(u8),
    Unplug(u8),
    UnplugSlowly(u8),
    KernelEndsAll,
    SetDevice(u8, bool),
    SetOtherDevice(u8),
    /// Whether the kernel has no memory for transfers of the device in a port.
    Shortage(u8, bool),
    EndJob(usize, Result<(), Failure>),
    Round,
    ReadReplies,
    ReadEvents,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Address,
    Configuration,
    ClearHalt,
    Get(u16),
    Put(u16),
    /// The length, and whether a short read is an error (`short_not_ok`).
    Read(usize, bool),
    Write(usize),
    InterruptRead,
    Isochronous,
}

fn request() -> impl Strategy<Value = Request> {
    let length = || prop::sample::select(&LENGTHS[..]);
    prop_oneof![
        2 => Just(Request::Address),
        2 => Just(Request::Configuration),
        1 => Just(Request::ClearHalt),
        2 => (0_u16..300).prop_map(Request::Get),
        1 => (0_u16..300).prop_map(Request::Put),
        8 => (length(), any::<bool>())
            .prop_map(|(bytes, short_not_ok)| Request::Read(bytes, short_not_ok)),
        8 => length().prop_map(Request::Write),
        2 => Just(Request::InterruptRead),
        1 => Just(Request::Isochronous),
    ]
}

fn port() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(1), 1 => 2..=PORTS]
}

fn device_op() -> impl Strategy<Value = Op> {
    let status = prop_oneof![
        6 => Just(Usb::Ok),
        1 => Just(Usb::Stalled),
        1 => Just(Usb::Overflow),
        1 => Just(Usb::Protocol(71)),
        1 => Just(Usb::Gone),
    ];
    let moved = prop_oneof![Just(256), 0..=256_usize];
    prop_oneof![
        16 => (port(), any::<usize>(), status, moved)
            .prop_map(|(port, which, status, moved)| Op::Finish(port, which, status, moved)),
        2 => (port(), 0..9000_usize).prop_map(|(port, bytes)| Op::SetMoved(port, bytes)),
        1 => port().prop_map(Op::KernelCancels),
        2 => (port(), prop::bool::weighted(0.3))
            .prop_map(|(port, short)| Op::Shortage(port, short)),
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
        2 => port().prop_map(Op::PlugIn),
        1 => port().prop_map(Op::Unplug),
        1 => port().prop_map(Op::UnplugSlowly),
        2 => Just(Op::KernelEndsAll),
        2 => (port(), prop::bool::weighted(0.7))
            .prop_map(|(port, requested)| Op::SetDevice(port, requested)),
        1 => port().prop_map(Op::SetOtherDevice),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => (port(), request()).prop_map(|(port, request)| Op::Send(port, request)),
        8 => any::<usize>().prop_map(Op::Unlink),
        16 => Just(Op::Round),
        10 => Just(Op::ReadReplies),
        3 => Just(Op::ReadEvents),
        21 => device_op(),
        17 => host_op(),
    ]
}

struct Runner {
    world: World,
    model: Model,
    /// Devices that were unplugged, but whose transfers the kernel has not ended yet.
    unplugged: Vec<Device>,
}

impl Runner {
    /// A guest with two devices that it has configured.
    fn new() -> Runner {
        let (mut world, _) = World::with_device();
        world.add_configured_device(2);
        Runner { world, model: Model::default(), unplugged: Vec::new() }
    }

    fn step(&mut self, op: &Op) {
        let world = &mut self.world;
        match *op {
            Op::Send(port, request) => self.send(port, request),
            Op::Unlink(which) => self.unlink(which),
            Op::Finish(port, which, status, moved) => self.finish(port, which, status, moved),
            Op::SetMoved(port, bytes) => self.with_device(port, |it| it.set_moved(bytes)),
            Op::KernelCancels(port) => self.with_device(port, Device::kernel_cancels_all),
            Op::PlugIn(port) if world.device(port).is_none() => {
                world.plug_in(port);
                world.engine.devices_changed(|_| true);
            }
            Op::PlugIn(_) => {}
            Op::Unplug(port) => world.unplug(port),
            Op::UnplugSlowly(port) => {
                self.unplugged.extend(world.device(port));
                world.unplug_slowly(port);
            }
            Op::KernelEndsAll => self.unplugged.drain(..).for_each(|it| it.kernel_ends_all()),
            Op::SetDevice(port, requested) => world.request_device(port, requested),
            Op::SetOtherDevice(port) => {
                let device = RequestedDevice { bus_id: "2-7".parse().unwrap(), identity: None };
                world.engine.set_device(at(port), Some(device));
            }
            Op::Shortage(port, short) => {
                self.with_device(port, |it| it.set_refusal(short.then_some(SubmitError::NoMemory)));
            }
            Op::EndJob(which, result) if !world.jobs.is_empty() => {
                world.end_job(which % world.jobs.len(), result);
            }
            Op::EndJob(..) => {}
            Op::Round => self.run_round(),
            Op::ReadReplies => self.model.read_replies(world),
            Op::ReadEvents => drop(world.events()),
        }
    }

    fn with_device(&self, port: u8, action: impl FnOnce(&Device)) {
        if let Some(device) = self.world.device(port) {
            action(&device);
        }
    }

    fn run_round(&mut self) {
        self.world.run_round();
        self.world.status_changes();
        self.model.check(&self.world);
    }

    /// The guest sends a request, if the ring has space.
    fn send(&mut self, port: u8, request: Request) {
        if self.world.urbs.in_flight() == RING_SLOTS {
            return;
        }
        let (world, number) = (&mut self.world, self.model.number());
        let (id, endpoint) = match request {
            Request::Address => (world.control(port, 0, set_address(port.into())), None),
            Request::Configuration => (world.control(port, port, set_configuration(1)), None),
            Request::ClearHalt => (world.control(port, port, clear_halt(0x81)), None),
            Request::Get(bytes) => (world.control(port, port, vendor_read(bytes)), Some(0x80)),
            Request::Put(bytes) => {
                let data = world.memory.buffer(Direction::Out, 9, bytes.into());
                world.memory.put(&data, &reference_model::payload(number, bytes.into()));
                (world.control_with(port, port, vendor_write(bytes), data), Some(0))
            }
            Request::Read(bytes, short_not_ok) => {
                let data = world.memory.buffer(Direction::In, 0, bytes);
                let read = transfer(port, 0x81, Kind::Bulk, data);
                (world.send(&Transfer { short_not_ok, ..read }), Some(0x81))
            }
            Request::Write(bytes) => {
                (world.write(port, &reference_model::payload(number, bytes)), Some(0x02))
            }
            Request::InterruptRead => (world.interrupt_read(port), Some(0x83)),
            Request::Isochronous => {
                let data = world.memory.buffer(Direction::In, 4000, 200);
                (send_iso(world, port, 0x84, data, &[(100, 100), (0, 50)], 4090).0, None)
            }
        };
        self.model.sent(id, port, endpoint);
    }

    /// The guest unlinks one of its unanswered transfers, if the ring has space.
    fn unlink(&mut self, which: usize) {
        let targets = self.model.transfers();
        if self.world.urbs.in_flight() < RING_SLOTS && !targets.is_empty() {
            let id = self.world.unlink(targets[which % targets.len()]);
            self.model.unlink_sent(id);
        }
    }

    fn finish(&mut self, port: u8, which: usize, status: Usb, moved: usize) {
        let Some(device) = self.world.device(port) else { return };
        let oldest = device.oldest_per_endpoint();
        let Some(at) = oldest.get(which.checked_rem(oldest.len()).unwrap_or(0)).copied() else {
            return;
        };
        let (space, is_in, kind) = {
            let urb = device.urb(at);
            let setup = if urb.kind == UsbKind::Control { 8 } else { 0 };
            (urb.buffer.len() - setup, urb.is_in(), urb.kind.clone())
        };
        if let UsbKind::Iso(packets) = kind {
            let results: Vec<_> = packets.iter().map(|it| (it.length / 2, status)).collect();
            return device.complete_iso(at, Usb::Ok, &results);
        }
        // A successful write is always complete.
        let moved = if status == Usb::Ok && !is_in { 256 } else { moved };
        device.complete_from_stream(at, status, space * moved / 256);
    }

    /// Completes jobs and transfers successfully for some rounds. Then all requests must be
    /// answered.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.step(&Op::KernelEndsAll);
            (0..self.world.jobs.len()).for_each(|_| self.world.end_job(0, Ok(())));
            for port in 1..=PORTS {
                self.step(&Op::Shortage(port, false));
                (0..5).for_each(|which| self.finish(port, which, Usb::Ok, 256));
            }
            self.run_round();
            self.model.read_replies(&mut self.world);
        }
        assert!(self.model.is_empty(), "a request is not answered");
    }

    /// Ends the controller. From here on, jobs succeed and the kernel ends the transfers of
    /// unplugged devices, but no other transfer completes by itself.
    fn end(mut self) {
        self.world.engine.clear_devices();
        for _ in 0..8 {
            self.step(&Op::KernelEndsAll);
            (0..self.world.jobs.len()).for_each(|_| self.world.end_job(0, Ok(())));
            self.run_round();
            self.model.read_replies(&mut self.world);
        }
        assert!(self.world.engine.is_empty());
        self.model.check_final_state(&self.world, PORTS);
    }
}

proptest! {
    #[test]
    fn the_invariants_hold_for_any_sequence_of_operations(
        ops in prop::collection::vec(op(), 1..150),
        settle in any::<bool>(),
    ) {
        let mut runner = Runner::new();
        for op in &ops {
            runner.step(op);
        }
        if settle {
            runner.settle();
        }
        runner.end();
    }
}
