//! Cancelled requests. The request and its unlink are answered once each, in every state of the
//! request.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::urb::Status;

use super::world::{World, set_configuration, vendor_read};

#[test]
fn a_waiting_request_is_answered_before_its_unlink() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096]);
    assert_eq!(world.replies_after_round(), []);
    let waiting = world.read(1, 13);
    assert_eq!(world.replies_after_round(), []);
    let unlink = world.unlink(waiting);
    assert_eq!(
        world.replies_after_round(),
        [(waiting, Status::IoError, 0), (unlink, Status::Ok, 0)]
    );
    device.complete_in(0, &[1; 4096]);
    assert_eq!(world.replies_after_round(), [(ids[0], Status::Ok, 4096)]);
    assert_eq!(device.submitted(), 1);
}

#[test]
fn a_submitted_request_is_cancelled() {
    let (mut world, device) = World::with_device();
    let in_flight = world.interrupt_read(1);
    assert_eq!(world.replies_after_round(), []);
    let unlink = world.unlink(in_flight);
    assert_eq!(
        world.replies_after_round(),
        [(unlink, Status::Ok, 0), (in_flight, Status::IoError, 0)]
    );
    assert_eq!(device.queued(), []);
}

#[test]
fn data_that_was_read_before_the_cancellation_is_delivered() {
    let (mut world, device) = World::with_device();
    let read = world.read(1, 4096);
    assert_eq!(world.replies_after_round(), []);
    device.set_moved(512);
    let unlink = world.unlink(read);
    assert_eq!(
        world.replies_after_round(),
        [(unlink, Status::Ok, 0), (read, Status::IoError, 512)]
    );
}

#[test]
fn the_rest_of_a_train_continues_when_one_request_is_cancelled() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.replies_after_round(), []);
    let unlink = world.unlink(ids[1]);
    assert_eq!(
        world.replies_after_round(),
        [(unlink, Status::Ok, 0), (ids[1], Status::IoError, 0)]
    );
    assert_eq!(device.queued(), [(0x81, 8192)], "resubmitted without the cancelled request");
    device.complete_in(0, &[[5; 4096], [6; 4096]].concat());
    assert_eq!(
        world.replies_after_round(),
        [(ids[0], Status::Ok, 4096), (ids[2], Status::Ok, 4096)]
    );
    assert_eq!([world.data(ids[0])[0], world.data(ids[2])[0]], [5, 6]);
}

#[test]
fn a_train_that_is_cancelled_in_the_middle_delivers_its_data() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.replies_after_round(), []);
    device.set_moved(4096 + 100);
    let unlink = world.unlink(ids[2]);
    let replies = [
        (unlink, Status::Ok, 0),
        (ids[0], Status::Ok, 4096),
        (ids[1], Status::Ok, 100),
        (ids[2], Status::IoError, 0),
    ];
    assert_eq!(world.replies_after_round(), replies);
    assert_eq!(device.queued(), []);
}

#[test]
fn a_whole_train_can_be_cancelled() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.replies_after_round(), []);
    let unlinks: Vec<u16> = ids.iter().rev().map(|id| world.unlink(*id)).collect();
    let mut replies = world.replies_after_round();
    replies.sort_unstable_by_key(|it| it.0);
    let mut all: Vec<_> = ids.iter().map(|id| (*id, Status::IoError, 0)).collect();
    all.extend(unlinks.iter().map(|id| (*id, Status::Ok, 0)));
    assert_eq!(replies, all);
    assert_eq!((device.queued(), device.submitted()), (vec![], 1));
}

#[test]
fn writes_remain_in_order_when_one_is_cancelled() {
    let (mut world, device) = World::with_device();
    let first = [world.write(1, &[1; 512]), world.write(1, &[2; 512])];
    assert_eq!(world.replies_after_round(), []);
    let later = world.write(1, &[3; 512]);
    assert_eq!(world.replies_after_round(), []);
    let unlink = world.unlink(first[0]);
    assert_eq!(
        world.replies_after_round(),
        [(unlink, Status::Ok, 0), (first[0], Status::IoError, 0)]
    );
    assert_eq!(device.urb(0).buffer.data(), [[2; 512], [3; 512]].concat());
    device.complete_out(0, Usb::Ok, 1024);
    assert_eq!(
        world.replies_after_round(),
        [(first[1], Status::Ok, 512), (later, Status::Ok, 512)]
    );
}

#[test]
fn an_unlink_of_an_answered_request_succeeds() {
    let (mut world, device) = World::with_device();
    let read = world.read(1, 512);
    world.run_round();
    device.complete_in(0, &[9; 512]);
    world.run_round();
    // The response is in the ring, but the guest has not read it.
    let unlink = world.unlink(read);
    assert_eq!(world.replies_after_round(), [(read, Status::Ok, 512), (unlink, Status::Ok, 0)]);
}

#[test]
fn a_completed_request_that_was_not_reaped_succeeds() {
    let (mut world, device) = World::with_device();
    let read = world.read(1, 512);
    assert_eq!(world.replies_after_round(), []);
    device.complete_in(0, &[9; 512]);
    let unlink = world.unlink(read);
    assert_eq!(world.replies_after_round(), [(unlink, Status::Ok, 0), (read, Status::Ok, 512)]);
}

#[test]
fn a_control_request_is_cancelled_while_waiting_or_in_flight() {
    let (mut world, device) = World::with_device();
    let ids = [world.control(1, 1, vendor_read(8)), world.control(1, 1, vendor_read(8))];
    assert_eq!(world.replies_after_round(), []);
    let unlinks = [world.unlink(ids[1]), world.unlink(ids[0])];
    let replies = [
        (ids[1], Status::IoError, 0),
        (unlinks[0], Status::Ok, 0),
        (unlinks[1], Status::Ok, 0),
        (ids[0], Status::IoError, 0),
    ];
    assert_eq!(world.replies_after_round(), replies);
    assert_eq!(device.submitted(), 1);
}

#[test]
fn a_request_in_a_job_is_answered_when_the_job_ends() {
    let (mut world, _device) = World::with_device();
    let id = world.control(1, 1, set_configuration(1));
    assert_eq!(world.replies_after_round(), []);
    let unlink = world.unlink(id);
    assert_eq!(world.replies_after_round(), [(unlink, Status::Ok, 0)]);
    assert_eq!(world.replies_after_jobs(), [(id, Status::Ok, 0)]);
}

#[test]
fn a_device_is_not_touched_while_a_job_works_on_it() {
    let (mut world, device) = World::with_device();
    let in_flight = world.interrupt_read(1);
    assert_eq!(world.replies_after_round(), []);
    let job = world.control(1, 1, set_configuration(1));
    let waiting = world.read(1, 512);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(world.jobs(), ["configure 1"]);
    let unlink = world.unlink(in_flight);
    assert_eq!(world.replies_after_round(), [(unlink, Status::Ok, 0)]);
    assert_eq!(device.queued(), [(0x83, 8)]);
    let replies = [(job, Status::Ok, 0), (in_flight, Status::IoError, 0)];
    assert_eq!(world.replies_after_jobs(), replies);
    device.complete_in(0, &[1; 512]);
    assert_eq!(world.replies_after_round(), [(waiting, Status::Ok, 512)]);
}
