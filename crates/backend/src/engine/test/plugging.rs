//! Devices come and go, at the worst of times and as often as anyone likes.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::Speed;
use vusb_usbif::urb::Status;

use super::super::Outcome;
use super::device::Device;
use super::world::{Reply, World, at, get, set_interface};
use crate::nodes::PortStatus;

/// Something of everything: a train, its follower, a stream of writes, an interrupt, two control requests.
fn busy(world: &mut World) -> Vec<u16> {
    let mut ids = world.train(1, &[4096, 4096]);
    ids.push(world.read(1, 13));
    ids.push(world.write(1, &[1; 31]));
    ids.push(world.write(1, &[1; 512]));
    ids.push(world.listen(1));
    ids.push(world.control(1, 1, get(8)));
    ids.push(world.control(1, 1, set_interface(0, 1)));
    assert_eq!(world.round(), []);
    ids
}

#[track_caller]
fn all_without_device(mut replies: Vec<Reply>, ids: &[u16]) {
    replies.sort_unstable_by_key(|it| it.0);
    let expected: Vec<Reply> = ids.iter().map(|id| (*id, Status::NoDevice, 0)).collect();
    assert_eq!(replies, expected);
}

#[test]
fn a_device_that_is_pulled_out_leaves_no_request_without_an_answer() {
    let (mut world, device) = World::with_device();
    let ids = busy(&mut world);
    world.pull(1);
    all_without_device(world.finish(), &ids);
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(world.notices(), [(1, Some(PortStatus::Absent))]);
    assert_eq!((device.has(), world.memory.granted()), (vec![], 0));
}

/// Between the two the kernel says that the device is gone, and has nothing to reap.
#[test]
fn a_kernel_that_is_slow_to_end_transfers_is_waited_for() {
    let (mut world, device) = World::with_device();
    let ids = busy(&mut world);
    world.pull_slowly(1);
    assert!(world.settle().again, "nothing else would wake us");
    assert!(world.settle().again);
    assert_eq!(world.jobs(), [] as [&str; 0]);
    device.kernel_ends_all();
    world.settle();
    all_without_device(world.finish(), &ids);
    assert_eq!(world.notices(), [(1, Some(PortStatus::Absent))]);
    assert!(world.engine.is_empty());
}

/// The guest's next request finds out, before anyone has looked at what the kernel has ended.
#[test]
fn a_request_finds_out_that_the_device_is_gone() {
    let (mut world, device) = World::with_device();
    let flying = world.listen(1);
    assert_eq!(world.round(), []);
    let write = world.write(1, &[1; 31]);
    world.engine.ring().unwrap();
    device.unplug();
    world.engine.settle().unwrap();
    world.pull(1);
    all_without_device(world.finish(), &[flying, write]);
    assert_eq!(world.notices(), [(1, Some(PortStatus::Absent))]);
}

#[test]
fn what_arrived_before_it_was_pulled_out_is_good() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[512, 512]);
    assert_eq!(world.round(), []);
    device.fails(0, Usb::Gone, &[3; 600]);
    world.pull(1);
    assert_eq!(world.finish(), [(ids[0], Status::Ok, 512), (ids[1], Status::NoDevice, 88)]);
}

#[test]
fn a_device_that_is_plugged_in_again_comes_back() {
    let (mut world, _device) = World::with_device();
    world.pull(1);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::None)]);
    world.insert(1);
    world.engine.plugged(|_| true);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
    world.enumerate(1);
}

#[test]
fn a_device_that_is_taken_away_leaves_no_request_without_an_answer() {
    let (mut world, device) = World::with_device();
    let ids = busy(&mut world);
    world.want(1, false);
    all_without_device(world.finish(), &ids);
    assert_eq!(world.events(), [(1, Speed::None)]);
    assert_eq!(world.notices(), [(1, None)]);
    assert_eq!(device.has(), []);
    assert!(world.engine.is_empty());
}

#[test]
fn the_end_of_the_controller_gives_everything_back() {
    let (mut world, _device) = World::with_device();
    world.device_in(2);
    let mut ids = busy(&mut world);
    ids.extend(world.train(2, &[512]));
    world.want(3, true);
    world.settle();
    world.insert(4);
    world.want(4, true);
    world.engine.want_none();
    assert!(!world.engine.is_empty());
    all_without_device(world.finish(), &ids);
    assert!(world.engine.is_empty());
    assert!(world.engine.watched(at(1)).is_none());
}

#[test]
fn a_device_that_is_not_there_is_looked_for_when_something_is_plugged_in() {
    let mut world = World::new();
    world.want(1, true);
    world.end_jobs();
    assert_eq!((world.notices(), world.events()), (vec![(1, Some(PortStatus::Absent))], vec![]));
    world.want(1, true);
    assert_eq!(world.jobs(), [] as [&str; 0], "it was looked for already");
    world.insert(1);
    world.engine.plugged(|_| false);
    assert_eq!(world.jobs(), [] as [&str; 0]);
    world.engine.plugged(|_| true);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
}

/// The kernel tells of a device while a job, which began a moment before, does not find it yet.
#[test]
fn a_device_that_is_plugged_in_while_it_is_looked_for_is_looked_for_again() {
    let mut world = World::new();
    world.want(1, true);
    let job = world.jobs.remove(0);
    world.engine.plugged(|_| true);
    world.insert(1);
    world.engine.ended(job.port, Outcome::Absent);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
    assert_eq!(world.notices(), [(1, Some(PortStatus::Offered))], "it was not absent for anyone");
}

#[test]
fn a_device_that_is_not_lent_is_told_to_the_toolstack_and_not_to_the_guest() {
    let mut world = World::new();
    world.want(1, true);
    let job = world.jobs.remove(0);
    world.engine.ended(job.port, Outcome::Refused("it is a hub".to_owned()));
    assert_eq!(world.round(), []);
    let refused = PortStatus::Refused("it is a hub".to_owned());
    assert_eq!((world.notices(), world.events()), (vec![(1, Some(refused))], vec![]));
    assert!(world.engine.is_empty());
    world.want(1, false);
    assert_eq!(world.notices(), [(1, None)]);
}

#[test]
fn what_is_not_wanted_any_more_while_it_is_opened_is_given_back() {
    let mut world = World::new();
    world.insert(1);
    world.want(1, true);
    world.want(1, false);
    assert_eq!(world.jobs().len(), 1);
    world.end_jobs();
    assert!(world.engine.is_empty());
    assert_eq!(world.events().last().copied().unwrap_or((1, Speed::None)), (1, Speed::None));
    assert_eq!(world.notices().pop(), Some((1, None)));
}

#[test]
fn what_is_wanted_again_while_it_is_given_back_comes_again() {
    let (mut world, _device) = World::with_device();
    world.want(1, false);
    world.settle();
    assert_eq!(world.jobs(), ["give back"]);
    world.want(1, true);
    assert_eq!(world.jobs().len(), 1, "first things first");
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::None), (1, Speed::High)]);
    world.enumerate(1);
}

#[test]
fn another_device_in_the_same_port_is_told_as_another() {
    let (mut world, _device) = World::with_device();
    let other = crate::nodes::Want { bus_id: "2-2".parse().unwrap(), identity: None };
    world.engine.want(at(1), Some(other));
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::None), (1, Speed::High)]);
    world.enumerate(1);
}

fn replug(world: &mut World) -> Device {
    world.pull(1);
    world.end_jobs();
    let device = world.insert(1);
    world.engine.plugged(|_| true);
    world.end_jobs();
    device
}

#[test]
fn a_loose_contact_does_not_wear_the_controller_out() {
    let (mut world, _device) = World::with_device();
    for round in 0..5000 {
        replug(&mut world);
        // The guest is slow: it has room for 512 events.
        if round % 100 == 0 {
            assert_eq!(world.events().last(), Some(&(1, Speed::High)));
        }
        world.notices();
    }
    world.events();
    world.enumerate(1);
    assert_eq!(world.engine.tell.len(), 0);
    assert_eq!((world.engine.ids.len(), world.memory.granted()), (0, 0));
}

#[test]
fn a_guest_that_does_not_look_is_told_how_things_are_when_it_does() {
    let (mut world, _device) = World::with_device();
    for _ in 0..5000 {
        replug(&mut world);
    }
    assert!(world.engine.tell.len() <= 2, "what has changed twice is not told");
    assert_eq!(world.events().len(), 512, "the ring holds no more");
    world.settle();
    world.events();
    world.settle();
    assert_eq!(world.engine.tell.len(), 0);
    world.pull(1);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::None)], "it was told that there is one");
}
