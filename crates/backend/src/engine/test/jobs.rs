//! Jobs that take long, fail, or end after the device was unplugged or its request was withdrawn.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::Speed;
use vusb_usbif::urb::{Direction, Kind, Status};

use super::super::Failure;
use super::world::{World, set_address, set_configuration, set_interface, transfer, vendor_read};
use vusb_xen::usb::PortStatus;

#[test]
fn a_failed_job_is_an_error_of_its_request_only() {
    let (mut world, _device) = World::with_device();
    for (failure, status) in [(Failure::Stalled, Status::Stall), (Failure::Failed, Status::IoError)]
    {
        let id = world.control(1, 1, set_interface(0, 1));
        assert_eq!(world.replies_after_round(), []);
        world.end_job(0, Err(failure));
        assert_eq!(world.replies_after_round(), [(id, status, 0)]);
    }
    let id = world.control(1, 1, set_interface(0, 0));
    assert_eq!(world.replies_after_jobs(), [(id, Status::Ok, 0)]);
}

#[test]
fn a_failed_reset_does_not_change_the_address() {
    let (mut world, _device) = World::with_device();
    let id = world.control(1, 0, set_address(3));
    assert_eq!(world.replies_after_round(), []);
    world.end_job(0, Err(Failure::Failed));
    assert_eq!(world.replies_after_round(), [(id, Status::IoError, 0)]);
    let id = world.control(1, 3, set_configuration(1));
    assert_eq!(world.replies_after_round(), [(id, Status::NoDevice, 0)], "no device has address 3");
}

#[test]
fn requests_wait_for_a_job_and_continue_in_order() {
    let (mut world, device) = World::with_device();
    let job = world.control(1, 1, set_interface(0, 1));
    let after = world.control(1, 1, vendor_read(8));
    let write = world.write(1, &[1; 31]);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.submitted(), 0);
    assert_eq!(world.replies_after_jobs(), [(job, Status::Ok, 0)]);
    assert_eq!(device.queued(), [(0, 16), (0x02, 31)]);
    device.complete_in(0, &[0; 8]);
    device.complete_out(0, Usb::Ok, 31);
    assert_eq!(world.replies_after_round(), [(after, Status::Ok, 8), (write, Status::Ok, 31)]);
}

#[test]
fn a_device_that_is_unplugged_during_a_job_is_detached_when_the_job_ends() {
    let (mut world, device) = World::with_device();
    let in_flight = [world.read(1, 512), world.interrupt_read(1)];
    assert_eq!(world.replies_after_round(), []);
    let job = world.control(1, 1, set_configuration(1));
    let waiting = world.read(1, 512);
    assert_eq!(world.replies_after_round(), []);
    world.unplug(1);
    assert_eq!(world.replies_after_round(), []);
    world.end_job(0, Err(Failure::Gone));
    let mut replies = world.replies_after_jobs();
    replies.sort_unstable_by_key(|it| it.0);
    let ids = [in_flight[0], in_flight[1], job, waiting];
    assert_eq!(replies, ids.map(|id| (id, Status::NoDevice, 0)));
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(device.queued(), []);
    assert_eq!(world.status_changes(), [(1, Some(PortStatus::Absent))]);
}

#[test]
fn a_device_whose_request_is_withdrawn_is_released_after_the_job() {
    let (mut world, device) = World::with_device();
    let in_flight = world.interrupt_read(1);
    assert_eq!(world.replies_after_round(), []);
    let job = world.control(1, 1, set_interface(0, 1));
    assert_eq!(world.replies_after_round(), []);
    world.request_device(1, false);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(device.queued(), [(0x83, 8)], "the job is not disturbed");
    let late = world.read(1, 512);
    assert_eq!(world.replies_after_round(), [(late, Status::NoDevice, 0)]);
    world.end_job(0, Ok(()));
    assert_eq!(world.jobs(), [] as [&str; 0]);
    assert_eq!(
        world.replies_after_jobs(),
        [(job, Status::Ok, 0), (in_flight, Status::NoDevice, 0)]
    );
    assert!(world.engine.is_empty());
}

/// Linux waits for the response to SET_CONFIGURATION. A guest that does not wait must still have
/// its reads merged: otherwise a short read would swallow the data after it.
#[test]
fn reads_sent_while_a_job_configures_the_device_are_a_train() {
    let mut world = World::new();
    let device = world.plug_in(1);
    world.request_device(1, true);
    world.end_jobs();
    world.control(1, 0, set_address(1));
    assert_eq!(world.replies_after_round().len(), 1);
    let job = world.control(1, 1, set_configuration(1));
    assert_eq!(world.replies_after_round(), []);
    let ids = world.train(1, &[512, 512]);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(world.replies_after_jobs(), [(job, Status::Ok, 0)]);
    assert_eq!(device.queued(), [(0x81, 1024)]);
    device.complete_in(0, &[1; 600]);
    assert_eq!(world.replies_after_round(), [(ids[0], Status::Ok, 512), (ids[1], Status::Ok, 88)]);
}

#[test]
fn reads_are_still_merged_after_a_configuration_ended_a_train() {
    let (mut world, device) = World::with_device();
    let old = world.train(1, &[4096]);
    assert_eq!(world.replies_after_round(), []);
    let job = world.control(1, 1, set_configuration(1));
    assert_eq!(world.replies_after_round(), []);
    // The kernel ends all transfers of the device.
    device.complete_in_with(0, Usb::Gone, &[]);
    assert_eq!(world.replies_after_jobs(), [(job, Status::Ok, 0), (old[0], Status::NoDevice, 0)]);
    world.train(1, &[4096, 4096]);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 8192)]);
}

/// Selecting the same configuration again does not end transfers.
#[test]
fn nothing_is_read_after_a_train_although_the_device_was_configured_again() {
    let (mut world, device) = World::with_device();
    let train = world.train(1, &[4096]);
    assert_eq!(world.replies_after_round(), []);
    let job = world.control(1, 1, set_configuration(1));
    assert_eq!(world.replies_after_round(), []);
    let after = world.read(1, 13);
    assert_eq!(world.replies_after_jobs(), [(job, Status::Ok, 0)]);
    assert_eq!(device.queued(), [(0x81, 4096)]);
    device.complete_in(0, &[1; 100]);
    assert_eq!(world.replies_after_round(), [(train[0], Status::Ok, 100)]);
    device.complete_in(0, &[2; 13]);
    assert_eq!(world.replies_after_round(), [(after, Status::Ok, 13)]);
}

#[test]
fn transfers_that_the_kernel_cancelled_are_resubmitted_in_order() {
    let (mut world, device) = World::with_device();
    let ids = [world.read(1, 512), world.read(1, 1024), world.read(1, 2048)];
    assert_eq!(world.replies_after_round(), []);
    let job = world.control(1, 1, set_interface(0, 1));
    assert_eq!(world.replies_after_round(), []);
    device.kernel_cancels_all();
    assert_eq!(world.replies_after_jobs(), [(job, Status::Ok, 0)]);
    assert_eq!(device.queued(), [(0x81, 512), (0x81, 1024), (0x81, 2048)]);
    (0..3).for_each(|_| device.complete_in(0, &[1; 8]));
    assert_eq!(world.replies_after_round(), ids.map(|id| (id, Status::Ok, 8)));
}

#[test]
fn repeated_unlinks_during_a_job_do_not_accumulate() {
    let (mut world, device) = World::with_device();
    let in_flight = world.interrupt_read(1);
    assert_eq!(world.replies_after_round(), []);
    let job = world.control(1, 1, set_interface(0, 1));
    assert_eq!(world.replies_after_round(), []);
    for _ in 0..1000 {
        let unlink = world.unlink(in_flight);
        assert_eq!(world.replies_after_round(), [(unlink, Status::Ok, 0)]);
    }
    let exported = world.engine.slots[0].exported().unwrap();
    assert_eq!(exported.deferred_discards.len(), 1);
    assert_eq!(world.replies_after_jobs(), [(job, Status::Ok, 0), (in_flight, Status::IoError, 0)]);
    assert_eq!(device.queued(), []);
}

#[test]
fn a_job_for_one_device_does_not_delay_another() {
    let (mut world, _first) = World::with_device();
    let second = world.add_configured_device(2);
    let job = world.control(1, 1, set_interface(0, 1));
    let data = world.memory.buffer(Direction::In, 0, 512);
    let read = world.send(&transfer(2, 0x81, Kind::Bulk, data));
    assert_eq!(world.replies_after_round(), []);
    second.complete_in(0, &[2; 512]);
    assert_eq!(world.replies_after_round(), [(read, Status::Ok, 512)]);
    assert_eq!(world.replies_after_jobs(), [(job, Status::Ok, 0)]);
}
