//! Waiting for the rest of the requests that carry the data of a mass storage command.

use vusb_host::usbfs::Status as Usb;
use vusb_model::speed::Speed as Native;
use vusb_usbif::Speed;
use vusb_usbif::urb::Status;

use super::descriptors;
use super::device::Device;
use super::world::World;

/// A command block that announces this many bytes.
fn command(bytes: u32, reads: bool) -> [u8; 31] {
    let mut block = [0; 31];
    block[..4].copy_from_slice(b"USBC");
    block[8..12].copy_from_slice(&bytes.to_le_bytes());
    block[12] = if reads { 0x80 } else { 0 };
    block
}

/// The guest sends a command block, and the device takes it.
fn send(world: &mut World, device: &Device, block: &[u8]) {
    let id = world.write(1, block);
    assert_eq!(world.replies_after_round(), []);
    device.complete_out(0, Usb::Ok, block.len());
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, block.len() as u32)]);
}

/// Whether the backend waits for more requests than those that were sent.
fn waits(world: &mut World) -> bool {
    world.engine.take_requests().unwrap();
    world.engine.awaits_train()
}

#[test]
fn the_rest_of_a_read_is_awaited() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(16 * 4096, true));
    assert!(!waits(&mut world), "without a request in hand, there is nothing to gather");
    for _ in 0..15 {
        world.train(1, &[4096]);
        assert!(waits(&mut world));
    }
    world.train(1, &[4096]);
    assert!(!waits(&mut world), "it is complete");
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 65536)]);
}

#[test]
fn the_rest_of_a_write_is_awaited() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(3 * 4096, false));
    for _ in 0..2 {
        world.write(1, &[7; 4096]);
        assert!(waits(&mut world));
    }
    world.write(1, &[7; 4096]);
    assert!(!waits(&mut world));
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x02, 3 * 4096)]);
}

#[test]
fn a_train_that_stays_incomplete_is_submitted_as_it_is() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(65536, true));
    world.train(1, &[4096]);
    assert!(waits(&mut world));
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 4096)]);
    assert!(!waits(&mut world), "the endpoint is busy");
}

#[test]
fn nothing_is_awaited_after_the_read_of_the_status() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(65536, true));
    world.read(1, 13);
    assert!(!waits(&mut world));
}

#[test]
fn a_train_that_fills_the_ring_is_awaited_by_halves() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(30 * 4096, true));
    for number in 1..=16 {
        world.train(1, &[4096]);
        assert_eq!(waits(&mut world), number < 8, "the guest stops if its ring is full");
    }
}

#[test]
fn only_mass_storage_is_awaited() {
    let mut world = World::new();
    let mut descriptors = descriptors::high_speed();
    // The class of the interface: vendor specific.
    descriptors[18 + 9 + 5] = 0xff;
    let device = world.plug_in_with(1, descriptors, Native::High);
    world.request_device(1, true);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
    world.enumerate(1);
    send(&mut world, &device, &command(65536, true));
    world.train(1, &[4096]);
    assert!(!waits(&mut world));
}

#[test]
fn the_next_command_ends_the_train_before_it() {
    let (mut world, device) = World::with_device();
    for other in [command(8192, false), command(0, true)] {
        send(&mut world, &device, &command(65536, true));
        send(&mut world, &device, &other);
        world.train(1, &[4096]);
        assert!(!waits(&mut world), "it is not the data of the last command");
        assert_eq!(world.replies_after_round(), []);
        device.complete_in(0, &[0; 4096]);
        assert_eq!(world.replies_after_round().len(), 1);
    }
}

/// The status that the device sends next must not be read as data.
#[test]
fn a_short_read_ends_the_part_of_a_train_that_has_not_arrived() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(30 * 4096, true));
    let first = world.train(1, &[4096; 8]);
    assert_eq!(world.replies_after_round(), []);
    let waiting = world.train(1, &[4096; 4]);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 8 * 4096)]);
    device.complete_in(0, &[7; 5000]);
    let bytes = [4096, 904].into_iter().chain([0; 10]);
    let ids: Vec<u16> = first.into_iter().chain(waiting).collect();
    let answers: Vec<_> = ids.into_iter().zip(bytes).map(|(id, n)| (id, Status::Ok, n)).collect();
    assert_eq!(world.replies_after_round(), answers);

    let later = world.train(1, &[4096; 2]);
    let status = world.read(1, 13);
    assert_eq!(world.replies_after_round(), [(later[0], Status::Ok, 0), (later[1], Status::Ok, 0)]);
    assert_eq!(device.queued(), [(0x81, 13)]);
    device.complete_in(0, b"USBS.........");
    assert_eq!(world.replies_after_round(), [(status, Status::Ok, 13)]);
}

#[test]
fn the_data_of_the_next_command_is_read() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(30 * 4096, true));
    world.train(1, &[4096; 8]);
    assert_eq!(world.replies_after_round(), []);
    device.complete_in(0, &[7; 5000]);
    assert_eq!(world.replies_after_round().len(), 8);
    send(&mut world, &device, &command(4096, true));
    world.train(1, &[4096]);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 4096)]);
}

/// A guest may declare "short-not-ok" for its status read, too.
#[test]
fn what_follows_data_that_was_requested_completely_is_read() {
    let (mut world, device) = World::with_device();
    send(&mut world, &device, &command(4096, true));
    world.train(1, &[4096]);
    assert_eq!(world.replies_after_round(), []);
    world.train(1, &[13]);
    device.complete_in(0, &[7; 36]);
    assert_eq!(world.replies_after_round().len(), 1);
    assert_eq!(device.queued(), [(0x81, 13)]);
}
