//! Jobs that take long, fail, or find that the device is gone or not wanted any more.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::Speed;
use vusb_usbif::urb::{Direction, Kind, Status};

use super::super::Failure;
use super::world::{World, get, set_address, set_configuration, set_interface, transfer};
use crate::nodes::PortStatus;

#[test]
fn a_job_that_fails_is_an_answer_and_not_the_end() {
    let (mut world, _device) = World::with_device();
    for (failure, status) in [(Failure::Stalled, Status::Stall), (Failure::Failed, Status::IoError)]
    {
        let id = world.control(1, 1, set_interface(0, 1));
        assert_eq!(world.round(), []);
        world.end_job(0, Err(failure));
        assert_eq!(world.round(), [(id, status, 0)]);
    }
    let id = world.control(1, 1, set_interface(0, 0));
    assert_eq!(world.finish(), [(id, Status::Ok, 0)]);
}

#[test]
fn a_reset_that_fails_leaves_the_device_where_it_was() {
    let (mut world, _device) = World::with_device();
    let id = world.control(1, 0, set_address(3));
    assert_eq!(world.round(), []);
    world.end_job(0, Err(Failure::Failed));
    assert_eq!(world.round(), [(id, Status::IoError, 0)]);
    let id = world.control(1, 3, set_configuration(1));
    assert_eq!(world.round(), [(id, Status::NoDevice, 0)], "address 3 is nobody's");
}

#[test]
fn requests_wait_for_a_job_and_go_on_in_order() {
    let (mut world, device) = World::with_device();
    let job = world.control(1, 1, set_interface(0, 1));
    let after = world.control(1, 1, get(8));
    let write = world.write(1, &[1; 31]);
    assert_eq!(world.round(), []);
    assert_eq!(device.submitted(), 0);
    assert_eq!(world.finish(), [(job, Status::Ok, 0)]);
    assert_eq!(device.has(), [(0, 16), (0x02, 31)]);
    device.sends(0, &[0; 8]);
    device.takes(0, Usb::Ok, 31);
    assert_eq!(world.round(), [(after, Status::Ok, 8), (write, Status::Ok, 31)]);
}

#[test]
fn a_device_that_is_pulled_out_during_a_job_is_gone_once_the_job_says_so() {
    let (mut world, device) = World::with_device();
    let flying = [world.read(1, 512), world.listen(1)];
    assert_eq!(world.round(), []);
    let job = world.control(1, 1, set_configuration(1));
    let waiting = world.read(1, 512);
    assert_eq!(world.round(), []);
    world.pull(1);
    assert_eq!(world.round(), []);
    world.end_job(0, Err(Failure::Gone));
    let mut replies = world.finish();
    replies.sort_unstable_by_key(|it| it.0);
    let ids = [flying[0], flying[1], job, waiting];
    assert_eq!(replies, ids.map(|id| (id, Status::NoDevice, 0)));
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(device.has(), []);
    assert_eq!(world.notices(), [(1, Some(PortStatus::Absent))]);
}

#[test]
fn a_device_that_is_not_wanted_any_more_is_given_back_after_the_job() {
    let (mut world, device) = World::with_device();
    let flying = world.listen(1);
    assert_eq!(world.round(), []);
    let job = world.control(1, 1, set_interface(0, 1));
    assert_eq!(world.round(), []);
    world.want(1, false);
    assert_eq!(world.round(), []);
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(device.has(), [(0x83, 8)], "the job is not disturbed");
    let late = world.read(1, 512);
    assert_eq!(world.round(), [(late, Status::NoDevice, 0)]);
    world.end_job(0, Ok(()));
    assert_eq!(world.jobs(), [] as [&str; 0]);
    assert_eq!(world.finish(), [(job, Status::Ok, 0), (flying, Status::NoDevice, 0)]);
    assert!(world.engine.is_empty());
}

/// Linux waits for the answer. A guest that does not has its reads put together all the same, or a short one would swallow what comes after it.
#[test]
fn reads_that_were_sent_while_the_device_was_configured_are_a_train() {
    let mut world = World::new();
    let device = world.insert(1);
    world.want(1, true);
    world.end_jobs();
    world.control(1, 0, set_address(1));
    assert_eq!(world.round().len(), 1);
    let job = world.control(1, 1, set_configuration(1));
    assert_eq!(world.round(), []);
    let ids = world.train(1, &[512, 512]);
    assert_eq!(world.round(), []);
    assert_eq!(world.finish(), [(job, Status::Ok, 0)]);
    assert_eq!(device.has(), [(0x81, 1024)]);
    device.sends(0, &[1; 600]);
    assert_eq!(world.round(), [(ids[0], Status::Ok, 512), (ids[1], Status::Ok, 88)]);
}

#[test]
fn reads_are_still_put_together_after_one_was_ended_by_configuring() {
    let (mut world, device) = World::with_device();
    let old = world.train(1, &[4096]);
    assert_eq!(world.round(), []);
    let job = world.control(1, 1, set_configuration(1));
    assert_eq!(world.round(), []);
    // The kernel ends all that the device had.
    device.fails(0, Usb::Gone, &[]);
    assert_eq!(world.finish(), [(job, Status::Ok, 0), (old[0], Status::NoDevice, 0)]);
    world.train(1, &[4096, 4096]);
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x81, 8192)]);
}

/// Choosing the same configuration again ends nothing here.
#[test]
fn nothing_is_read_behind_a_train_though_the_device_was_configured_again() {
    let (mut world, device) = World::with_device();
    let train = world.train(1, &[4096]);
    assert_eq!(world.round(), []);
    let job = world.control(1, 1, set_configuration(1));
    assert_eq!(world.round(), []);
    let after = world.read(1, 13);
    assert_eq!(world.finish(), [(job, Status::Ok, 0)]);
    assert_eq!(device.has(), [(0x81, 4096)]);
    device.sends(0, &[1; 100]);
    assert_eq!(world.round(), [(train[0], Status::Ok, 100)]);
    device.sends(0, &[2; 13]);
    assert_eq!(world.round(), [(after, Status::Ok, 13)]);
}

#[test]
fn what_the_kernel_cancelled_for_a_new_setting_is_done_again_in_its_order() {
    let (mut world, device) = World::with_device();
    let ids = [world.read(1, 512), world.read(1, 1024), world.read(1, 2048)];
    assert_eq!(world.round(), []);
    let job = world.control(1, 1, set_interface(0, 1));
    assert_eq!(world.round(), []);
    device.kernel_cancels_all();
    assert_eq!(world.finish(), [(job, Status::Ok, 0)]);
    assert_eq!(device.has(), [(0x81, 512), (0x81, 1024), (0x81, 2048)]);
    (0..3).for_each(|_| device.sends(0, &[1; 8]));
    assert_eq!(world.round(), ids.map(|id| (id, Status::Ok, 8)));
}

#[test]
fn changing_ones_mind_during_a_job_over_and_over_costs_nothing() {
    let (mut world, device) = World::with_device();
    let flying = world.listen(1);
    assert_eq!(world.round(), []);
    let job = world.control(1, 1, set_interface(0, 1));
    assert_eq!(world.round(), []);
    for _ in 0..1000 {
        let unlink = world.unlink(flying);
        assert_eq!(world.round(), [(unlink, Status::Ok, 0)]);
    }
    let lent = world.engine.slots[0].lent().unwrap();
    assert_eq!(lent.discards.len(), 1);
    assert_eq!(world.finish(), [(job, Status::Ok, 0), (flying, Status::IoError, 0)]);
    assert_eq!(device.has(), []);
}

#[test]
fn a_job_for_one_device_does_not_hold_up_another() {
    let (mut world, _first) = World::with_device();
    let second = world.device_in(2);
    let job = world.control(1, 1, set_interface(0, 1));
    let data = world.memory.buffer(Direction::In, 0, 512);
    let read = world.send(&transfer(2, 0x81, Kind::Bulk, data));
    assert_eq!(world.round(), []);
    second.sends(0, &[2; 512]);
    assert_eq!(world.round(), [(read, Status::Ok, 512)]);
    assert_eq!(world.finish(), [(job, Status::Ok, 0)]);
}
