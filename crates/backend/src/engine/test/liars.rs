//! Guests that break the rules. What is merely more than can be done is answered; a lie ends the guest's own controller, and nothing else.

use std::cell::Cell;
use std::sync::Arc;

use vusb_host::usbfs::Status as Usb;
use vusb_model::speed::Speed as Native;
use vusb_usbif::front::encode_submit;
use vusb_usbif::urb::{
    Direction, Invalid, Kind, RequestWords, Segment, SegmentError, Segments, Status, Transfer,
};
use vusb_usbif::{Broken, MemoryPage, Page};

use super::super::{Engine, Fault, Offer, Opened, Outcome};
use super::device::Device;
use super::memory::GuestMemory;
use super::sheets;
use super::world::{World, at, put, transfer};
use crate::counters::Counters;
use crate::nodes::Want;

const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;

/// A bulk read of 512 bytes as words, for a guest to make worse.
fn words(id: u16) -> RequestWords {
    let data = Segments::new(&[Segment { gref: 1, offset: 0, length: 512 }]).unwrap();
    let mut words = RequestWords([0; 37]);
    encode_submit(&mut words, id, &transfer(1, 0x81, Kind::Bulk, data));
    words
}

/// The controller ends and the device is given back, whatever the guest does.
#[track_caller]
fn ends(world: &mut World, expected: &Fault) {
    assert_eq!(world.try_settle().unwrap_err(), *expected);
    goes_home(world);
}

/// The end of a controller, as its thread does it: errors do not matter any more.
#[track_caller]
fn goes_home(world: &mut World) {
    world.engine.want_none();
    for _ in 0..10 {
        for port in world.engine.ports() {
            let _ = world.engine.device(port);
        }
        // The thread comes to its jobs only if a round went well.
        if world.engine.settle().is_ok() {
            world.jobs.extend(world.engine.take_jobs());
        }
        (0..world.jobs.len()).for_each(|_| world.end_job(0, Ok(())));
    }
    assert!(world.engine.is_empty(), "the device was not given back");
}

#[test]
fn a_number_that_is_in_use() {
    let (mut world, _device) = World::with_device();
    let _ = world.urbs.push_raw(&words(7));
    let _ = world.urbs.push_raw(&words(7));
    ends(&mut world, &Fault::Duplicate(7));
}

#[test]
fn a_request_to_port_0() {
    let (mut world, _device) = World::with_device();
    let mut words = words(7);
    words.0[1] &= !0x1f;
    let _ = world.urbs.push_raw(&words);
    ends(&mut world, &Fault::Nonsense(Invalid::PortZero));
}

#[test]
fn a_request_to_a_port_that_the_controller_does_not_have() {
    let (mut world, _device) = World::with_device();
    for port in [5, 31] {
        let nowhere = transfer(1, 0x81, Kind::Bulk, Segments::NONE);
        let id = world.send(&Transfer { port: at(port), ..nowhere });
        assert_eq!(world.round(), [(id, Status::NoDevice, 0)]);
    }
}

#[test]
fn seventeen_segments() {
    let (mut world, _device) = World::with_device();
    let mut words = words(7);
    words.0[0] = 17 << 16 | 7;
    let _ = world.urbs.push_raw(&words);
    let why = Invalid::TooManySegments { data: 17, descriptors: 0 };
    ends(&mut world, &Fault::Nonsense(why));
}

#[test]
fn a_segment_over_the_end_of_its_page() {
    let (mut world, _device) = World::with_device();
    let mut words = words(7);
    words.0[6] = 4096 << 16 | 1;
    let _ = world.urbs.push_raw(&words);
    let why = SegmentError::OverEnd { index: 0, offset: 1, length: 4096 };
    ends(&mut world, &Fault::Nonsense(Invalid::Segment(why)));
}

#[test]
fn a_write_from_memory_that_was_not_lent() {
    let (mut world, device) = World::with_device();
    let data = Segments::new(&[Segment { gref: 4711, offset: 0, length: 31 }]).unwrap();
    world.send(&transfer(1, 0x02, Kind::Bulk, data));
    let fault = world.try_settle().unwrap_err();
    assert!(matches!(fault, Fault::Memory(_)), "{fault}");
    assert_eq!(device.submitted(), 0);
    goes_home(&mut world);
}

#[test]
fn a_read_into_memory_that_is_not_lent_any_more_or_only_for_reading() {
    for direction in [Direction::In, Direction::Out] {
        let (mut world, device) = World::with_device();
        let data = world.memory.buffer(direction, 0, 512);
        world.send(&transfer(1, 0x81, Kind::Bulk, data));
        world.settle();
        if direction == Direction::In {
            world.memory.revoke(&data);
        }
        device.sends(0, &[1; 512]);
        let fault = world.try_settle().unwrap_err();
        assert!(matches!(fault, Fault::Memory(_)), "{fault}");
        goes_home(&mut world);
    }
}

#[test]
fn more_requests_than_slots() {
    let (mut world, _device) = World::with_device();
    let now = world.urbs.page().load(REQ_PROD);
    world.urbs.page().store(REQ_PROD, now + 17);
    let broken = Broken::Overrun { announced: now + 17, answered: now, slots: 16 };
    ends(&mut world, &Fault::Broken(broken));
}

#[test]
fn requests_that_are_taken_back() {
    let (mut world, _device) = World::with_device();
    world.listen(1);
    world.settle();
    let now = world.urbs.page().load(REQ_PROD);
    world.urbs.page().store(REQ_PROD, now - 1);
    let broken = Broken::Backwards { announced: now - 1, consumed: now };
    ends(&mut world, &Fault::Broken(broken));
}

/// It is told of nothing any more, and the device is given back all the same.
#[test]
fn a_lie_in_the_connection_ring() {
    let (mut world, _device) = World::with_device();
    world.connects.page().store(REQ_PROD, 9999);
    world.want(1, false);
    assert!(matches!(world.try_settle(), Err(Fault::Broken(_))));
    goes_home(&mut world);
}

#[test]
fn the_backends_own_indexes_overwritten() {
    let (mut world, device) = World::with_device();
    for word in [RSP_PROD, 1] {
        world.urbs.page().store(word, 0xdead_beef);
    }
    let read = words(7);
    let _ = world.urbs.push_raw(&read);
    world.engine.ring().unwrap();
    let _ = world.engine.settle().unwrap();
    assert_eq!(device.has(), [(0x81, 512)], "nothing is believed that we wrote ourselves");
}

#[test]
fn more_than_can_be_done_is_answered() {
    let (mut world, device) = World::with_device();
    let small = world.memory.buffer(Direction::Out, 0, 8);
    let id = world.control_with(1, 1, put(9), small);
    assert_eq!(world.round(), [(id, Status::Invalid, 0)]);
    let most = world.memory.buffer(Direction::Out, 0, 65535);
    let id = world.control_with(1, 1, put(65535), most);
    assert_eq!(world.round(), []);
    device.takes(0, Usb::Ok, 65535);
    assert_eq!(world.round(), [(id, Status::Ok, 65535)]);
}

/// Each time that we look, the guest has just left a request to tell events with, or has just taken it back.
#[derive(Default)]
struct Teasing(MemoryPage, Cell<u32>);

impl Page for Teasing {
    fn load(&self, word: usize) -> u32 {
        if word != REQ_PROD {
            return self.0.load(word);
        }
        self.1.replace(1 - self.1.get())
    }

    fn store(&self, word: usize, value: u32) {
        self.0.store(word, value);
    }

    fn fence(&self) {}
}

#[test]
fn a_guest_that_gives_and_takes_does_not_keep_us_in_one_round_for_ever() {
    let (urbs, connects) = (Teasing::default(), Teasing::default());
    let memory = GuestMemory::default();
    let mut engine = Engine::new(urbs, connects, 1, memory, Arc::new(Counters::default()));
    let want = Want { bus_id: "1-1".parse().unwrap(), identity: None };
    engine.want(at(1), Some(want));
    let offer = Offer::new(&sheets::high_speed(), Some(Native::High), 1, 2).unwrap();
    let opened = Opened { usb: Device::default(), offer };
    engine.ended(at(1), Outcome::Opened(Box::new(opened)));
    for _ in 0..3 {
        assert!(engine.settle().unwrap().again);
    }
}
