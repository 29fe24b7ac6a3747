//! The machine has no memory for a transfer at present.

use vusb_host::usbfs::{Refused, Status as Usb};
use vusb_usbif::urb::Status;

use super::world::{World, get};

#[test]
fn a_transfer_waits_until_there_is_memory() {
    let (mut world, device) = World::with_device();
    device.refuses(Some(Refused::NoMemory));
    let ids = world.train(1, &[4096, 4096]);
    let control = world.control(1, 1, get(8));
    for _ in 0..3 {
        assert!(world.settle().again, "nothing else would wake us");
    }
    assert_eq!(world.replies(), []);
    device.refuses(None);
    while world.settle().again {}
    assert_eq!(device.has()[0], (0, 16));
    let total: usize = device.has().iter().skip(1).map(|it| it.1).sum();
    assert_eq!(total, 8192, "in one piece or in two");
    device.sends(0, &[0; 8]);
    device.sends(0, &[7; 8192]);
    let replies =
        [(control, Status::Ok, 8), (ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 4096)];
    assert_eq!(world.round(), replies);
}

#[test]
fn a_long_shortage_makes_transfers_small_and_does_not_reorder_them() {
    let (mut world, device) = World::with_device();
    device.refuses(Some(Refused::TooMany(256)));
    let ids: Vec<u16> = (0..4).map(|at| world.write(1, &[at; 4096])).collect();
    for _ in 0..40 {
        assert!(world.settle().again);
    }
    device.refuses(None);
    let mut replies = Vec::new();
    for at in 0..4 {
        assert!(!world.settle().again);
        assert_eq!(device.urb(0).buffer.data()[0], at);
        let bytes = device.has()[0].1;
        device.takes(0, Usb::Ok, bytes);
        replies.extend(world.round());
    }
    assert_eq!(replies, [0, 1, 2, 3].map(|at| (ids[at], Status::Ok, 4096)));
}

#[test]
fn after_a_shortage_transfers_grow_again() {
    let (mut world, device) = World::with_device();
    device.refuses(Some(Refused::NoMemory));
    let first = world.write(1, &[1; 512]);
    (0..100).for_each(|_| assert!(world.settle().again));
    device.refuses(None);
    world.settle();
    device.takes(0, Usb::Ok, 512);
    assert_eq!(world.round(), [(first, Status::Ok, 512)]);
    for _ in 0..20 {
        world.write(1, &[1; 4096]);
        world.settle();
        device.takes(0, Usb::Ok, 4096);
        assert_eq!(world.round().len(), 1);
    }
    for _ in 0..16 {
        world.write(1, &[2; 4096]);
    }
    world.settle();
    assert_eq!(device.has(), [(0x02, 65536)]);
}

#[test]
fn what_waits_for_memory_can_be_cancelled_and_unplugged() {
    let (mut world, device) = World::with_device();
    device.refuses(Some(Refused::NoMemory));
    let ids = world.train(1, &[4096, 4096]);
    assert_eq!(world.round(), []);
    let unlink = world.unlink(ids[0]);
    assert_eq!(world.round(), [(ids[0], Status::IoError, 0), (unlink, Status::Ok, 0)]);
    world.pull(1);
    assert_eq!(world.finish(), [(ids[1], Status::NoDevice, 0)]);
    assert!(!world.settle().again);
}

#[test]
fn a_transfer_that_the_kernel_refuses_is_answered() {
    let (mut world, device) = World::with_device();
    for why in [Refused::NoEndpoint, Refused::Busy, Refused::Other(22), Refused::NotConfigured] {
        device.refuses(Some(why));
        let ids = [world.read(1, 512), world.control(1, 1, get(8)), world.listen(1)];
        let mut replies = world.round();
        replies.sort_unstable_by_key(|it| it.0);
        let mut expected = ids.map(|id| (id, Status::Invalid, 0));
        expected.sort_unstable_by_key(|it| it.0);
        assert_eq!(replies, expected, "{why:?}");
    }
    device.refuses(None);
    let train = world.train(1, &[512]);
    assert_eq!(world.round(), []);
    device.sends(0, &[1; 512]);
    assert_eq!(world.round(), [(train[0], Status::Ok, 512)]);
}
