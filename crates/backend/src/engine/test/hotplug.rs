//! Devices that are plugged in and unplugged, or requested and withdrawn, at any time.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::Speed;
use vusb_usbif::urb::Status;

use super::super::Outcome;
use super::device::Device;
use super::world::{Reply, World, at, set_interface, vendor_read};
use vusb_xen::usb::PortStatus;

/// Sends requests of all types but isochronous: a train, a read after it, writes, an interrupt
/// read, two control requests.
fn send_many_types(world: &mut World) -> Vec<u16> {
    let mut ids = world.train(1, &[4096, 4096]);
    ids.push(world.read(1, 13));
    ids.push(world.write(1, &[1; 31]));
    ids.push(world.write(1, &[1; 512]));
    ids.push(world.interrupt_read(1));
    ids.push(world.control(1, 1, vendor_read(8)));
    ids.push(world.control(1, 1, set_interface(0, 1)));
    assert_eq!(world.replies_after_round(), []);
    ids
}

#[track_caller]
fn assert_all_answered_no_device(mut replies: Vec<Reply>, ids: &[u16]) {
    replies.sort_unstable_by_key(|it| it.0);
    let expected: Vec<Reply> = ids.iter().map(|id| (*id, Status::NoDevice, 0)).collect();
    assert_eq!(replies, expected);
}

#[test]
fn all_requests_are_answered_when_a_device_is_unplugged() {
    let (mut world, device) = World::with_device();
    let ids = send_many_types(&mut world);
    world.unplug(1);
    assert_all_answered_no_device(world.replies_after_jobs(), &ids);
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(world.status_changes(), [(1, Some(PortStatus::Absent))]);
    assert_eq!((device.queued(), world.memory.granted()), (vec![], 0));
}

/// Until the kernel has ended the transfers, it reports that the device is gone, but has nothing to
/// reap.
#[test]
fn the_engine_waits_until_the_kernel_has_ended_the_transfers() {
    let (mut world, device) = World::with_device();
    let ids = send_many_types(&mut world);
    world.unplug_slowly(1);
    assert!(world.run_round().retry, "no event would wake the backend");
    assert!(world.run_round().retry);
    assert_eq!(world.jobs(), [] as [&str; 0]);
    device.kernel_ends_all();
    world.run_round();
    assert_all_answered_no_device(world.replies_after_jobs(), &ids);
    assert_eq!(world.status_changes(), [(1, Some(PortStatus::Absent))]);
    assert!(world.engine.is_empty());
}

/// The guest's next request fails before the ended transfers are reaped.
#[test]
fn a_new_request_may_detect_that_the_device_is_gone() {
    let (mut world, device) = World::with_device();
    let in_flight = world.interrupt_read(1);
    assert_eq!(world.replies_after_round(), []);
    let write = world.write(1, &[1; 31]);
    world.engine.take_requests().unwrap();
    device.unplug();
    world.engine.finish_round().unwrap();
    world.unplug(1);
    assert_all_answered_no_device(world.replies_after_jobs(), &[in_flight, write]);
    assert_eq!(world.status_changes(), [(1, Some(PortStatus::Absent))]);
}

#[test]
fn data_that_arrived_before_the_device_was_unplugged_is_delivered() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[512, 512]);
    assert_eq!(world.replies_after_round(), []);
    device.complete_in_with(0, Usb::Gone, &[3; 600]);
    world.unplug(1);
    assert_eq!(
        world.replies_after_jobs(),
        [(ids[0], Status::Ok, 512), (ids[1], Status::NoDevice, 88)]
    );
}

#[test]
fn a_device_that_is_plugged_in_again_is_attached_again() {
    let (mut world, _device) = World::with_device();
    world.unplug(1);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::None)]);
    world.plug_in(1);
    world.engine.devices_changed(|_| true);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
    world.enumerate(1);
}

#[test]
fn all_requests_are_answered_when_a_device_is_withdrawn() {
    let (mut world, device) = World::with_device();
    let ids = send_many_types(&mut world);
    world.request_device(1, false);
    assert_all_answered_no_device(world.replies_after_jobs(), &ids);
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(world.status_changes(), [(1, None)]);
    assert_eq!(device.queued(), []);
    assert!(world.engine.is_empty());
}

#[test]
fn all_devices_are_released_when_the_controller_ends() {
    let (mut world, _device) = World::with_device();
    world.add_configured_device(2);
    let mut ids = send_many_types(&mut world);
    ids.extend(world.train(2, &[512]));
    world.request_device(3, true);
    world.run_round();
    world.plug_in(4);
    world.request_device(4, true);
    world.engine.clear_devices();
    assert!(!world.engine.is_empty());
    assert_all_answered_no_device(world.replies_after_jobs(), &ids);
    assert!(world.engine.is_empty());
    assert!(world.engine.pollable(at(1)).is_none());
}

#[test]
fn an_absent_device_is_looked_for_again_when_something_is_plugged_in() {
    let mut world = World::new();
    world.request_device(1, true);
    world.end_jobs();
    assert_eq!(
        (world.status_changes(), world.events()),
        (vec![(1, Some(PortStatus::Absent))], vec![])
    );
    world.request_device(1, true);
    assert_eq!(world.jobs(), [] as [&str; 0], "the same request is not tried twice");
    world.plug_in(1);
    world.engine.devices_changed(|_| false);
    assert_eq!(world.jobs(), [] as [&str; 0]);
    world.engine.devices_changed(|_| true);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
}

/// The kernel announces a device while a job, which started shortly before, does not find it.
#[test]
fn a_device_that_is_plugged_in_during_the_search_is_found() {
    let mut world = World::new();
    world.request_device(1, true);
    let job = world.jobs.remove(0);
    world.engine.devices_changed(|_| true);
    world.plug_in(1);
    world.engine.job_ended(job.port, Outcome::Absent);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
    assert_eq!(
        world.status_changes(),
        [(1, Some(PortStatus::Offered))],
        "it was never reported as absent"
    );
}

#[test]
fn a_refused_device_is_reported_to_the_toolstack_and_not_to_the_guest() {
    let mut world = World::new();
    world.request_device(1, true);
    let job = world.jobs.remove(0);
    world.engine.job_ended(job.port, Outcome::Refused("it is a hub".to_owned()));
    assert_eq!(world.replies_after_round(), []);
    let refused = PortStatus::Refused("it is a hub".to_owned());
    assert_eq!((world.status_changes(), world.events()), (vec![(1, Some(refused))], vec![]));
    assert!(world.engine.is_empty());
    world.request_device(1, false);
    assert_eq!(world.status_changes(), [(1, None)]);
}

#[test]
fn a_device_that_is_withdrawn_while_it_is_opened_is_released() {
    let mut world = World::new();
    world.plug_in(1);
    world.request_device(1, true);
    world.request_device(1, false);
    assert_eq!(world.jobs().len(), 1);
    world.end_jobs();
    assert!(world.engine.is_empty());
    assert_eq!(world.events().last().copied().unwrap_or((1, Speed::None)), (1, Speed::None));
    assert_eq!(world.status_changes().pop(), Some((1, None)));
}

#[test]
fn a_device_that_is_requested_again_while_it_is_released_is_attached_again() {
    let (mut world, _device) = World::with_device();
    world.request_device(1, false);
    world.run_round();
    assert_eq!(world.jobs(), ["release"]);
    world.request_device(1, true);
    assert_eq!(world.jobs().len(), 1, "one job per port");
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::None), (1, Speed::High)]);
    world.enumerate(1);
}

#[test]
fn a_replaced_device_is_announced_as_unplugged_and_plugged_in() {
    let (mut world, _device) = World::with_device();
    let other = vusb_xen::usb::RequestedDevice { bus_id: "2-2".parse().unwrap(), identity: None };
    world.engine.set_device(at(1), Some(other));
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::None), (1, Speed::High)]);
    world.enumerate(1);
}

fn replug(world: &mut World) -> Device {
    world.unplug(1);
    world.end_jobs();
    let device = world.plug_in(1);
    world.engine.devices_changed(|_| true);
    world.end_jobs();
    device
}

#[test]
fn a_loose_contact_does_not_exhaust_the_controller() {
    let (mut world, _device) = World::with_device();
    for round in 0..5000 {
        replug(&mut world);
        // The guest reads events rarely: its ring holds 512.
        if round % 100 == 0 {
            assert_eq!(world.events().last(), Some(&(1, Speed::High)));
        }
        world.status_changes();
    }
    world.events();
    world.enumerate(1);
    assert_eq!(world.engine.port_events.len(), 0);
    assert_eq!((world.engine.unanswered.len(), world.memory.granted()), (0, 0));
}

#[test]
fn a_guest_that_did_not_read_events_learns_the_current_state() {
    let (mut world, _device) = World::with_device();
    for _ in 0..5000 {
        replug(&mut world);
    }
    assert!(world.engine.port_events.len() <= 2, "events that cancel each other out are dropped");
    assert_eq!(world.events().len(), 512, "the ring is full");
    world.run_round();
    world.events();
    world.run_round();
    assert_eq!(world.engine.port_events.len(), 0);
    world.unplug(1);
    world.end_jobs();
    assert_eq!(
        world.events(),
        [(1, Speed::None)],
        "the guest believed that a device was plugged in"
    );
}
