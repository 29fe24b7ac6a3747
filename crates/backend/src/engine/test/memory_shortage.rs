//! The kernel refuses a transfer: temporarily, because memory or a limit is used up, or for good.

use vusb_host::usbfs::{Status as Usb, SubmitError};
use vusb_usbif::urb::Status;

use super::world::{World, vendor_read};

#[test]
fn a_transfer_waits_until_there_is_memory() {
    let (mut world, device) = World::with_device();
    device.set_refusal(Some(SubmitError::NoMemory));
    let ids = world.train(1, &[4096, 4096]);
    let control = world.control(1, 1, vendor_read(8));
    for _ in 0..3 {
        assert!(world.run_round().retry, "no event would wake the backend");
    }
    assert_eq!(world.replies(), []);
    device.set_refusal(None);
    while world.run_round().retry {}
    assert_eq!(device.queued()[0], (0, 16));
    let total: usize = device.queued().iter().skip(1).map(|it| it.1).sum();
    assert_eq!(total, 8192, "in one transfer or in two");
    device.complete_in(0, &[0; 8]);
    device.complete_in(0, &[7; 8192]);
    let replies =
        [(control, Status::Ok, 8), (ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 4096)];
    assert_eq!(world.replies_after_round(), replies);
}

#[test]
fn a_long_shortage_makes_transfers_smaller_but_does_not_reorder_them() {
    let (mut world, device) = World::with_device();
    device.set_refusal(Some(SubmitError::TooMany(256)));
    let ids: Vec<u16> = (0..4).map(|at| world.write(1, &[at; 4096])).collect();
    for _ in 0..40 {
        assert!(world.run_round().retry);
    }
    device.set_refusal(None);
    let mut replies = Vec::new();
    for at in 0..4 {
        assert!(!world.run_round().retry);
        assert_eq!(device.urb(0).buffer.data()[0], at);
        let bytes = device.queued()[0].1;
        device.complete_out(0, Usb::Ok, bytes);
        replies.extend(world.replies_after_round());
    }
    assert_eq!(replies, [0, 1, 2, 3].map(|at| (ids[at], Status::Ok, 4096)));
}

#[test]
fn after_a_shortage_transfers_grow_again() {
    let (mut world, device) = World::with_device();
    device.set_refusal(Some(SubmitError::NoMemory));
    let first = world.write(1, &[1; 512]);
    (0..100).for_each(|_| assert!(world.run_round().retry));
    device.set_refusal(None);
    world.run_round();
    device.complete_out(0, Usb::Ok, 512);
    assert_eq!(world.replies_after_round(), [(first, Status::Ok, 512)]);
    for _ in 0..20 {
        world.write(1, &[1; 4096]);
        world.run_round();
        device.complete_out(0, Usb::Ok, 4096);
        assert_eq!(world.replies_after_round().len(), 1);
    }
    for _ in 0..16 {
        world.write(1, &[2; 4096]);
    }
    world.run_round();
    assert_eq!(device.queued(), [(0x02, 65536)]);
}

#[test]
fn requests_that_wait_for_memory_can_be_cancelled() {
    let (mut world, device) = World::with_device();
    device.set_refusal(Some(SubmitError::NoMemory));
    let ids = world.train(1, &[4096, 4096]);
    assert_eq!(world.replies_after_round(), []);
    let unlink = world.unlink(ids[0]);
    assert_eq!(
        world.replies_after_round(),
        [(ids[0], Status::IoError, 0), (unlink, Status::Ok, 0)]
    );
    world.unplug(1);
    assert_eq!(world.replies_after_jobs(), [(ids[1], Status::NoDevice, 0)]);
    assert!(!world.run_round().retry);
}

#[test]
fn a_transfer_that_the_kernel_rejects_is_answered() {
    let (mut world, device) = World::with_device();
    for why in [
        SubmitError::NoEndpoint,
        SubmitError::Busy,
        SubmitError::Other(22),
        SubmitError::NotConfigured,
    ] {
        device.set_refusal(Some(why));
        let ids =
            [world.read(1, 512), world.control(1, 1, vendor_read(8)), world.interrupt_read(1)];
        let mut replies = world.replies_after_round();
        replies.sort_unstable_by_key(|it| it.0);
        let mut expected = ids.map(|id| (id, Status::Invalid, 0));
        expected.sort_unstable_by_key(|it| it.0);
        assert_eq!(replies, expected, "{why:?}");
    }
    device.set_refusal(None);
    let train = world.train(1, &[512]);
    assert_eq!(world.replies_after_round(), []);
    device.complete_in(0, &[1; 512]);
    assert_eq!(world.replies_after_round(), [(train[0], Status::Ok, 512)]);
}
