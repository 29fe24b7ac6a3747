//! Reads and writes: put together where that is right, and taken apart again without a byte at the wrong place.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::urb::{Direction, Kind, Status, Transfer};

use super::world::{World, clear_halt, transfer};

/// Bytes of which no two near each other are alike.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_train_of_reads_is_one_transfer_of_the_device() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 65536, 512]);
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x81, 70144)]);
    let sent = pattern(70144);
    device.sends(0, &sent);
    let whole =
        [(ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 65536), (ids[2], Status::Ok, 512)];
    assert_eq!(world.round(), whole);
    let got: Vec<u8> = ids.iter().flat_map(|id| world.data(*id).to_vec()).collect();
    assert!(got == sent);
}

#[test]
fn a_short_read_ends_a_train_and_nothing_is_lost() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    let status = world.read(1, 13);
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x81, 12288)], "the status is not read with the data");
    device.sends(0, &pattern(6000));
    let short = [(ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 1904), (ids[2], Status::Ok, 0)];
    assert_eq!(world.round(), short);
    assert_eq!(world.data(ids[1])[..1904], pattern(6000)[4096..]);
    assert_eq!(world.data(ids[1])[1904..], [0xee; 2192], "no byte more");
    assert_eq!(device.has(), [(0x81, 13)]);
    device.sends(0, b"USBS.........");
    assert_eq!(world.round(), [(status, Status::Ok, 13)]);
}

#[test]
fn a_stall_in_the_middle_of_a_train_belongs_to_the_request_that_it_happened_in() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.round(), []);
    device.fails(0, Usb::Stalled, &pattern(4100));
    let stalled =
        [(ids[0], Status::Ok, 4096), (ids[1], Status::Stall, 4), (ids[2], Status::Stall, 0)];
    assert_eq!(world.round(), stalled);
    let id = world.control(1, 1, clear_halt(0x81));
    assert_eq!(world.finish(), [(id, Status::Ok, 0)]);
    let id = world.read(1, 13);
    assert_eq!(world.round(), []);
    device.sends(0, &[1; 13]);
    assert_eq!(world.round(), [(id, Status::Ok, 13)]);
}

#[test]
fn a_train_that_babbles_at_its_end_does_not_end_well() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096]);
    assert_eq!(world.round(), []);
    device.fails(0, Usb::Overflow, &pattern(8192));
    assert_eq!(world.round(), [(ids[0], Status::Ok, 4096), (ids[1], Status::Babble, 4096)]);
}

#[test]
fn each_error_is_one_that_the_guests_drivers_know() {
    let (mut world, device) = World::with_device();
    for (usb, status) in [
        (Usb::Stalled, Status::Stall),
        (Usb::Overflow, Status::Babble),
        (Usb::ShortRead, Status::Ok),
        (Usb::Protocol(71), Status::IoError),
        (Usb::Other(5), Status::IoError),
        (Usb::Gone, Status::NoDevice),
    ] {
        let id = world.read(1, 512);
        assert_eq!(world.round(), []);
        device.fails(0, usb, &[7; 3]);
        assert_eq!(world.round(), [(id, status, 3)], "{usb:?}");
    }
}

#[test]
fn a_stream_is_read_as_it_comes() {
    let (mut world, device) = World::with_device();
    let ids: Vec<u16> = (0..3).map(|_| world.read(1, 2048)).collect();
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x81, 2048); 3], "all of them wait for data");
    for (number, id) in ids.into_iter().enumerate() {
        device.sends(0, &[number as u8; 60]);
        assert_eq!(world.round(), [(id, Status::Ok, 60)]);
        assert_eq!(world.data(id)[..61], [&[number as u8; 60][..], &[0xee]].concat());
    }
}

#[test]
fn writes_in_the_ring_together_are_one_transfer() {
    let (mut world, device) = World::with_device();
    let command = world.write(1, &[0x55; 31]);
    let data = pattern(8192);
    let ids = [world.write(1, &data[..4096]), world.write(1, &data[4096..])];
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x02, 31), (0x02, 8192)], "the command ends inside a packet");
    assert!(device.urb(1).buffer.data() == data);
    device.takes(0, Usb::Ok, 31);
    device.takes(0, Usb::Ok, 8192);
    let all = [(command, Status::Ok, 31), (ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 4096)];
    assert_eq!(world.round(), all);
}

#[test]
fn a_write_that_fails_says_how_far_it_came() {
    let (mut world, device) = World::with_device();
    let ids = [world.write(1, &[1; 4096]), world.write(1, &[2; 4096]), world.write(1, &[3; 512])];
    assert_eq!(world.round(), []);
    device.takes(0, Usb::Stalled, 4096 + 512);
    let failed =
        [(ids[0], Status::Ok, 4096), (ids[1], Status::Stall, 512), (ids[2], Status::Stall, 0)];
    assert_eq!(world.round(), failed);
}

#[test]
fn an_empty_packet_is_written_by_itself() {
    let (mut world, device) = World::with_device();
    let ids = [world.write(1, &[1; 512]), world.write(1, &[]), world.write(1, &[2; 512])];
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x02, 512), (0x02, 0), (0x02, 512)]);
    [512, 0, 512].into_iter().for_each(|bytes| device.takes(0, Usb::Ok, bytes));
    let whole = [(ids[0], Status::Ok, 512), (ids[1], Status::Ok, 0), (ids[2], Status::Ok, 512)];
    assert_eq!(world.round(), whole);
}

#[test]
fn data_may_lie_anywhere_in_the_guests_pages() {
    let (mut world, device) = World::with_device();
    let sent = pattern(4096);
    for (offset, lengths) in
        [(4095_u16, vec![1_u16, 4095]), (7, vec![9, 0, 87, 4000]), (0, vec![256; 16])]
    {
        let total: u16 = lengths.iter().sum();
        let data = world.memory.lend(Direction::In, offset, &lengths);
        let id = world.send(&transfer(1, 0x81, Kind::Bulk, data));
        assert_eq!(world.round(), []);
        device.sends(0, &sent[..total.into()]);
        assert_eq!(world.round(), [(id, Status::Ok, total.into())]);
        assert!(world.data(id) == &sent[..total.into()]);
    }
}

#[test]
fn sixty_four_kib_are_not_zero() {
    let (mut world, device) = World::with_device();
    let id = world.read(1, 65536);
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x81, 65536)]);
    device.sends(0, &pattern(65536));
    assert_eq!(world.round(), [(id, Status::Ok, 65536)]);
    assert!(world.data(id) == pattern(65536));
}

#[test]
fn a_keyboard_is_listened_to_all_the_time() {
    let (mut world, device) = World::with_device();
    let ids = [world.listen(1), world.listen(1)];
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x83, 8); 2]);
    device.sends(0, &[0, 0, 4, 0, 0, 0, 0, 0]);
    assert_eq!(world.round(), [(ids[0], Status::Ok, 8)]);
    assert_eq!(world.data(ids[0])[2], 4);
    device.sends(0, &[0; 8]);
    assert_eq!(world.round(), [(ids[1], Status::Ok, 8)]);
}

#[test]
fn two_devices_do_not_wait_for_each_other() {
    let (mut world, first) = World::with_device();
    let second = world.device_in(2);
    let slow = world.train(1, &[4096]);
    let fast = world.train(2, &[512]);
    assert_eq!(world.round(), []);
    second.sends(0, &[2; 512]);
    assert_eq!(world.round(), [(fast[0], Status::Ok, 512)]);
    let wrong = transfer(1, 0x81, Kind::Bulk, world.memory.buffer(Direction::In, 0, 8));
    let id = world.send(&Transfer { address: 2, ..wrong });
    assert_eq!(world.round(), [(id, Status::NoDevice, 0)], "address 2 is in another port");
    first.sends(0, &[1; 4096]);
    assert_eq!(world.round(), [(slow[0], Status::Ok, 4096)]);
    assert_eq!(world.memory.granted(), 0);
}

#[test]
fn the_toolstack_sees_what_a_controller_has_done() {
    let (mut world, device) = World::with_device();
    world.read(1, 512);
    world.write(1, &[1; 31]);
    world.listen(1);
    assert_eq!(world.round(), []);
    assert_eq!(device.has(), [(0x02, 31), (0x81, 512), (0x83, 8)]);
    device.fails(1, Usb::Stalled, &[1; 5]);
    device.takes(0, Usb::Ok, 31);
    assert_eq!(world.round().len(), 2);
    let done = "requests=5 bytes-in=5 bytes-out=31 errors=1 in-flight=1 wakeups=0";
    assert_eq!(world.engine.counters.to_string(), done);
}
