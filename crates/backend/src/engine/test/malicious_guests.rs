//! Guests that break the protocol. A violation ends the guest's own controller, and nothing else. A
//! request that is valid but exceeds a limit is answered with an error.

use std::cell::Cell;
use std::sync::Arc;

use vusb_host::usbfs::Status as Usb;
use vusb_model::speed::Speed as Native;
use vusb_usbif::frontend::encode_submit;
use vusb_usbif::urb::{
    Direction, Invalid, Kind, RequestWords, Segment, SegmentError, Segments, Status, Transfer,
};
use vusb_usbif::{Broken, MemoryPage, Page};

use super::super::{Engine, Fault, GuestView, Opened, Outcome};
use super::descriptors;
use super::device::Device;
use super::memory::GuestMemory;
use super::world::{World, at, transfer, vendor_write};
use crate::counters::Counters;
use vusb_xen::usb::RequestedDevice;

const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;

/// The words of a bulk read of 512 bytes, which a test corrupts.
fn words(id: u16) -> RequestWords {
    let data = Segments::new(&[Segment { gref: 1, offset: 0, length: 512 }]).unwrap();
    let mut words = RequestWords([0; 37]);
    encode_submit(&mut words, id, &transfer(1, 0x81, Kind::Bulk, data));
    words
}

/// Checks that the controller ends with this fault, and that the device is released.
#[track_caller]
fn assert_ends_with(world: &mut World, expected: &Fault) {
    assert_eq!(world.try_round().unwrap_err(), *expected);
    assert_releases_device(world);
}

/// Ends a controller as its thread does, and checks that the device is released. Errors no longer
/// matter.
#[track_caller]
fn assert_releases_device(world: &mut World) {
    world.engine.clear_devices();
    for _ in 0..10 {
        for port in world.engine.ports() {
            let _ = world.engine.reap(port);
        }
        // The thread starts jobs only after a round without error.
        if world.engine.finish_round().is_ok() {
            world.jobs.extend(world.engine.take_jobs());
        }
        (0..world.jobs.len()).for_each(|_| world.end_job(0, Ok(())));
    }
    assert!(world.engine.is_empty(), "the device was not released");
}

#[test]
fn a_request_id_that_is_in_use_ends_the_controller() {
    let (mut world, _device) = World::with_device();
    let _ = world.urbs.push_raw(&words(7));
    let _ = world.urbs.push_raw(&words(7));
    assert_ends_with(&mut world, &Fault::DuplicateId(7));
}

#[test]
fn a_request_to_port_0_ends_the_controller() {
    let (mut world, _device) = World::with_device();
    let mut words = words(7);
    words.0[1] &= !0x1f;
    let _ = world.urbs.push_raw(&words);
    assert_ends_with(&mut world, &Fault::InvalidRequest(Invalid::PortZero));
}

#[test]
fn a_request_to_a_port_that_does_not_exist_is_answered() {
    let (mut world, _device) = World::with_device();
    for port in [5, 31] {
        let nowhere = transfer(1, 0x81, Kind::Bulk, Segments::NONE);
        let id = world.send(&Transfer { port: at(port), ..nowhere });
        assert_eq!(world.replies_after_round(), [(id, Status::NoDevice, 0)]);
    }
}

#[test]
fn seventeen_segments_end_the_controller() {
    let (mut world, _device) = World::with_device();
    let mut words = words(7);
    words.0[0] = 17 << 16 | 7;
    let _ = world.urbs.push_raw(&words);
    let why = Invalid::TooManySegments { data: 17, descriptors: 0 };
    assert_ends_with(&mut world, &Fault::InvalidRequest(why));
}

#[test]
fn a_segment_beyond_the_end_of_its_page_ends_the_controller() {
    let (mut world, _device) = World::with_device();
    let mut words = words(7);
    words.0[6] = 4096 << 16 | 1;
    let _ = world.urbs.push_raw(&words);
    let why = SegmentError::OverEnd { index: 0, offset: 1, length: 4096 };
    assert_ends_with(&mut world, &Fault::InvalidRequest(Invalid::Segment(why)));
}

#[test]
fn a_write_from_memory_that_is_not_granted_ends_the_controller() {
    let (mut world, device) = World::with_device();
    let data = Segments::new(&[Segment { gref: 4711, offset: 0, length: 31 }]).unwrap();
    world.send(&transfer(1, 0x02, Kind::Bulk, data));
    let fault = world.try_round().unwrap_err();
    assert!(matches!(fault, Fault::Memory(_)), "{fault}");
    assert_eq!(device.submitted(), 0);
    assert_releases_device(&mut world);
}

#[test]
fn a_read_into_memory_that_is_revoked_or_read_only_ends_the_controller() {
    for direction in [Direction::In, Direction::Out] {
        let (mut world, device) = World::with_device();
        let data = world.memory.buffer(direction, 0, 512);
        world.send(&transfer(1, 0x81, Kind::Bulk, data));
        world.run_round();
        if direction == Direction::In {
            world.memory.revoke(&data);
        }
        device.complete_in(0, &[1; 512]);
        let fault = world.try_round().unwrap_err();
        assert!(matches!(fault, Fault::Memory(_)), "{fault}");
        assert_releases_device(&mut world);
    }
}

#[test]
fn more_requests_than_slots_end_the_controller() {
    let (mut world, _device) = World::with_device();
    let now = world.urbs.page().load(REQ_PROD);
    world.urbs.page().store(REQ_PROD, now + 17);
    let broken = Broken::Overrun { announced: now + 17, answered: now, slots: 16 };
    assert_ends_with(&mut world, &Fault::Ring(broken));
}

#[test]
fn an_index_that_goes_backwards_ends_the_controller() {
    let (mut world, _device) = World::with_device();
    world.interrupt_read(1);
    world.run_round();
    let now = world.urbs.page().load(REQ_PROD);
    world.urbs.page().store(REQ_PROD, now - 1);
    let broken = Broken::Backwards { announced: now - 1, consumed: now };
    assert_ends_with(&mut world, &Fault::Ring(broken));
}

/// The guest gets no more events, but the device is still released.
#[test]
fn an_impossible_index_in_the_connection_ring_ends_the_controller() {
    let (mut world, _device) = World::with_device();
    world.connects.page().store(REQ_PROD, 9999);
    world.request_device(1, false);
    assert!(matches!(world.try_round(), Err(Fault::Ring(_))));
    assert_releases_device(&mut world);
}

#[test]
fn the_backend_does_not_trust_its_own_indexes_in_the_page() {
    let (mut world, device) = World::with_device();
    for word in [RSP_PROD, 1] {
        world.urbs.page().store(word, 0xdead_beef);
    }
    let read = words(7);
    let _ = world.urbs.push_raw(&read);
    world.engine.take_requests().unwrap();
    let _ = world.engine.finish_round().unwrap();
    assert_eq!(
        device.queued(),
        [(0x81, 512)],
        "the backend's indexes are never read back from the page"
    );
}

#[test]
fn a_request_that_exceeds_a_limit_is_answered() {
    let (mut world, device) = World::with_device();
    let small = world.memory.buffer(Direction::Out, 0, 8);
    let id = world.control_with(1, 1, vendor_write(9), small);
    assert_eq!(world.replies_after_round(), [(id, Status::Invalid, 0)]);
    let most = world.memory.buffer(Direction::Out, 0, 65535);
    let id = world.control_with(1, 1, vendor_write(65535), most);
    assert_eq!(world.replies_after_round(), []);
    device.complete_out(0, Usb::Ok, 65535);
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 65535)]);
}

/// A page whose request index alternates between 0 and 1 at each load. In the connection ring, the
/// guest thereby grants credit for one event, revokes it, and so on.
#[derive(Default)]
struct AlternatingPage(MemoryPage, Cell<u32>);

impl Page for AlternatingPage {
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
fn a_guest_that_grants_and_revokes_credit_cannot_hold_the_engine_in_a_round() {
    let (urbs, connects) = (AlternatingPage::default(), AlternatingPage::default());
    let memory = GuestMemory::default();
    let mut engine = Engine::new(urbs, connects, 1, memory, Arc::new(Counters::default()));
    let requested = RequestedDevice { bus_id: "1-1".parse().unwrap(), identity: None };
    engine.set_device(at(1), Some(requested));
    let view = GuestView::new(&descriptors::high_speed(), Some(Native::High), 1, 2).unwrap();
    let opened = Opened { usb: Device::default(), view };
    engine.job_ended(at(1), Outcome::Opened(Box::new(opened)));
    for _ in 0..3 {
        assert!(engine.finish_round().unwrap().retry);
    }
}
