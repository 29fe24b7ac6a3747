//! The guest changes its mind. The request and its unlink are answered once each, whatever the request is at.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::urb::Status;

use super::world::{World, get, set_configuration};

#[test]
fn a_request_that_waits_is_answered_and_then_its_unlink() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096]);
    assert_eq!(world.round(), []);
    let waiting = world.read(1, 13);
    assert_eq!(world.round(), []);
    let unlink = world.unlink(waiting);
    assert_eq!(world.round(), [(waiting, Status::IoError, 0), (unlink, Status::Ok, 0)]);
    device.sends(0, &[1; 4096]);
    assert_eq!(world.round(), [(ids[0], Status::Ok, 4096)]);
    assert_eq!(device.submitted(), 1);
}

#[test]
fn a_request_that_the_device_has_is_taken_from_it() {
    let (mut world, device) = World::with_device();
    let flying = world.listen(1);
    assert_eq!(world.round(), []);
    let unlink = world.unlink(flying);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0), (flying, Status::IoError, 0)]);
    assert_eq!(device.has(), []);
}

#[test]
fn what_was_read_before_it_was_cancelled_is_not_lost() {
    let (mut world, device) = World::with_device();
    let read = world.read(1, 4096);
    assert_eq!(world.round(), []);
    device.moves(512);
    let unlink = world.unlink(read);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0), (read, Status::IoError, 512)]);
}

#[test]
fn one_of_a_train_is_cancelled_and_the_others_go_on() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.round(), []);
    let unlink = world.unlink(ids[1]);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0), (ids[1], Status::IoError, 0)]);
    assert_eq!(device.has(), [(0x81, 8192)], "again, without it");
    device.sends(0, &[[5; 4096], [6; 4096]].concat());
    assert_eq!(world.round(), [(ids[0], Status::Ok, 4096), (ids[2], Status::Ok, 4096)]);
    assert_eq!([world.data(ids[0])[0], world.data(ids[2])[0]], [5, 6]);
}

#[test]
fn a_train_that_is_cancelled_in_the_middle_keeps_what_has_come() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.round(), []);
    device.moves(4096 + 100);
    let unlink = world.unlink(ids[2]);
    let replies = [
        (unlink, Status::Ok, 0),
        (ids[0], Status::Ok, 4096),
        (ids[1], Status::Ok, 100),
        (ids[2], Status::IoError, 0),
    ];
    assert_eq!(world.round(), replies);
    assert_eq!(device.has(), []);
}

#[test]
fn a_whole_train_is_cancelled() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.round(), []);
    let unlinks: Vec<u16> = ids.iter().rev().map(|id| world.unlink(*id)).collect();
    let mut replies = world.round();
    replies.sort_unstable_by_key(|it| it.0);
    let mut all: Vec<_> = ids.iter().map(|id| (*id, Status::IoError, 0)).collect();
    all.extend(unlinks.iter().map(|id| (*id, Status::Ok, 0)));
    assert_eq!(replies, all);
    assert_eq!((device.has(), device.submitted()), (vec![], 1));
}

#[test]
fn writes_stay_in_their_order_when_one_is_cancelled() {
    let (mut world, device) = World::with_device();
    let first = [world.write(1, &[1; 512]), world.write(1, &[2; 512])];
    assert_eq!(world.round(), []);
    let later = world.write(1, &[3; 512]);
    assert_eq!(world.round(), []);
    let unlink = world.unlink(first[0]);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0), (first[0], Status::IoError, 0)]);
    assert_eq!(device.urb(0).buffer.data(), [[2; 512], [3; 512]].concat());
    device.takes(0, Usb::Ok, 1024);
    assert_eq!(world.round(), [(first[1], Status::Ok, 512), (later, Status::Ok, 512)]);
}

#[test]
fn what_is_not_there_any_more_cannot_be_cancelled_and_that_is_fine() {
    let (mut world, device) = World::with_device();
    let read = world.read(1, 512);
    world.settle();
    device.sends(0, &[9; 512]);
    world.settle();
    // Its answer is in the ring, and the guest has not looked.
    let unlink = world.unlink(read);
    assert_eq!(world.round(), [(read, Status::Ok, 512), (unlink, Status::Ok, 0)]);
}

#[test]
fn a_request_that_is_done_and_not_looked_at_yet_is_done() {
    let (mut world, device) = World::with_device();
    let read = world.read(1, 512);
    assert_eq!(world.round(), []);
    device.sends(0, &[9; 512]);
    let unlink = world.unlink(read);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0), (read, Status::Ok, 512)]);
}

#[test]
fn a_control_request_is_cancelled_while_it_waits_or_flies() {
    let (mut world, device) = World::with_device();
    let ids = [world.control(1, 1, get(8)), world.control(1, 1, get(8))];
    assert_eq!(world.round(), []);
    let unlinks = [world.unlink(ids[1]), world.unlink(ids[0])];
    let replies = [
        (ids[1], Status::IoError, 0),
        (unlinks[0], Status::Ok, 0),
        (unlinks[1], Status::Ok, 0),
        (ids[0], Status::IoError, 0),
    ];
    assert_eq!(world.round(), replies);
    assert_eq!(device.submitted(), 1);
}

#[test]
fn what_a_job_is_at_is_answered_when_the_job_ends() {
    let (mut world, _device) = World::with_device();
    let id = world.control(1, 1, set_configuration(1));
    assert_eq!(world.round(), []);
    let unlink = world.unlink(id);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0)]);
    assert_eq!(world.finish(), [(id, Status::Ok, 0)]);
}

#[test]
fn while_a_job_is_at_the_device_it_is_not_touched() {
    let (mut world, device) = World::with_device();
    let flying = world.listen(1);
    assert_eq!(world.round(), []);
    let job = world.control(1, 1, set_configuration(1));
    let waiting = world.read(1, 512);
    assert_eq!(world.round(), []);
    assert_eq!(world.jobs(), ["configure 1"]);
    let unlink = world.unlink(flying);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0)]);
    assert_eq!(device.has(), [(0x83, 8)]);
    let replies = [(job, Status::Ok, 0), (flying, Status::IoError, 0)];
    assert_eq!(world.finish(), replies);
    device.sends(0, &[1; 512]);
    assert_eq!(world.round(), [(waiting, Status::Ok, 512)]);
}
