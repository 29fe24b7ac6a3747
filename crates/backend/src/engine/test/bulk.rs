//! Bulk and interrupt transfers: requests are merged where that is allowed, and every byte ends up
//! in the right place.

use vusb_host::usbfs::Status as Usb;
use vusb_usbif::urb::{Direction, Kind, Status, Transfer};

use super::world::{World, clear_halt, transfer};

/// Test data with a period of 251 bytes. 251 is prime, so data that is shifted by packets or pages
/// differs.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|position| (position % 251) as u8).collect()
}

#[test]
fn a_train_of_reads_is_one_transfer() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 65536, 512]);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 70144)]);
    let sent = pattern(70144);
    device.complete_in(0, &sent);
    let whole =
        [(ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 65536), (ids[2], Status::Ok, 512)];
    assert_eq!(world.replies_after_round(), whole);
    let received: Vec<u8> = ids.iter().flat_map(|id| world.data(*id).to_vec()).collect();
    assert!(received == sent);
}

#[test]
fn a_short_read_ends_a_train_and_nothing_is_lost() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    let status = world.read(1, 13);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 12288)], "the status is not read with the data");
    device.complete_in(0, &pattern(6000));
    let short = [(ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 1904), (ids[2], Status::Ok, 0)];
    assert_eq!(world.replies_after_round(), short);
    assert_eq!(world.data(ids[1])[..1904], pattern(6000)[4096..]);
    assert_eq!(
        world.data(ids[1])[1904..],
        [0xee; 2192],
        "nothing is written after the received data"
    );
    assert_eq!(device.queued(), [(0x81, 13)]);
    device.complete_in(0, b"USBS.........");
    assert_eq!(world.replies_after_round(), [(status, Status::Ok, 13)]);
}

#[test]
fn a_short_read_also_ends_the_part_of_its_train_that_is_not_submitted() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[65536; 6]);
    let status = world.read(1, 13);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 4 * 65536)], "the maximum for one transfer");
    device.complete_in(0, &pattern(100));
    let answers: Vec<_> =
        ids.iter().zip([100, 0, 0, 0, 0, 0]).map(|(id, n)| (*id, Status::Ok, n)).collect();
    assert_eq!(world.replies_after_round(), answers);
    assert_eq!(device.queued(), [(0x81, 13)]);
    device.complete_in(0, b"USBS.........");
    assert_eq!(world.replies_after_round(), [(status, Status::Ok, 13)]);
    // The next train is read.
    world.train(1, &[4096]);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 4096)]);
}

#[test]
fn a_stall_fails_the_request_that_it_hits_and_the_rest_of_its_train() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096, 4096]);
    assert_eq!(world.replies_after_round(), []);
    device.complete_in_with(0, Usb::Stalled, &pattern(4100));
    let stalled =
        [(ids[0], Status::Ok, 4096), (ids[1], Status::Stall, 4), (ids[2], Status::Stall, 0)];
    assert_eq!(world.replies_after_round(), stalled);
    let id = world.control(1, 1, clear_halt(0x81));
    assert_eq!(world.replies_after_jobs(), [(id, Status::Ok, 0)]);
    let id = world.read(1, 13);
    assert_eq!(world.replies_after_round(), []);
    device.complete_in(0, &[1; 13]);
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 13)]);
}

#[test]
fn a_babble_at_the_end_of_a_train_fails_its_last_request() {
    let (mut world, device) = World::with_device();
    let ids = world.train(1, &[4096, 4096]);
    assert_eq!(world.replies_after_round(), []);
    device.complete_in_with(0, Usb::Overflow, &pattern(8192));
    assert_eq!(
        world.replies_after_round(),
        [(ids[0], Status::Ok, 4096), (ids[1], Status::Babble, 4096)]
    );
}

#[test]
fn each_error_is_translated_for_the_guest() {
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
        assert_eq!(world.replies_after_round(), []);
        device.complete_in_with(0, usb, &[7; 3]);
        assert_eq!(world.replies_after_round(), [(id, status, 3)], "{usb:?}");
    }
}

#[test]
fn a_stream_is_read_as_it_arrives() {
    let (mut world, device) = World::with_device();
    let ids: Vec<u16> = (0..3).map(|_| world.read(1, 2048)).collect();
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 2048); 3], "all of them wait for data");
    for (number, id) in ids.into_iter().enumerate() {
        device.complete_in(0, &[number as u8; 60]);
        assert_eq!(world.replies_after_round(), [(id, Status::Ok, 60)]);
        assert_eq!(world.data(id)[..61], [&[number as u8; 60][..], &[0xee]].concat());
    }
}

#[test]
fn writes_that_are_in_the_ring_together_are_one_transfer() {
    let (mut world, device) = World::with_device();
    let command = world.write(1, &[0x55; 31]);
    let data = pattern(8192);
    let ids = [world.write(1, &data[..4096]), world.write(1, &data[4096..])];
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(
        device.queued(),
        [(0x02, 31), (0x02, 8192)],
        "the command ends in a short packet, so no data is merged with it"
    );
    assert!(device.urb(1).buffer.data() == data);
    device.complete_out(0, Usb::Ok, 31);
    device.complete_out(0, Usb::Ok, 8192);
    let all = [(command, Status::Ok, 31), (ids[0], Status::Ok, 4096), (ids[1], Status::Ok, 4096)];
    assert_eq!(world.replies_after_round(), all);
}

#[test]
fn a_failed_write_reports_how_much_was_written() {
    let (mut world, device) = World::with_device();
    let ids = [world.write(1, &[1; 4096]), world.write(1, &[2; 4096]), world.write(1, &[3; 512])];
    assert_eq!(world.replies_after_round(), []);
    device.complete_out(0, Usb::Stalled, 4096 + 512);
    let failed =
        [(ids[0], Status::Ok, 4096), (ids[1], Status::Stall, 512), (ids[2], Status::Stall, 0)];
    assert_eq!(world.replies_after_round(), failed);
}

#[test]
fn an_empty_packet_is_a_separate_transfer() {
    let (mut world, device) = World::with_device();
    let ids = [world.write(1, &[1; 512]), world.write(1, &[]), world.write(1, &[2; 512])];
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x02, 512), (0x02, 0), (0x02, 512)]);
    [512, 0, 512].into_iter().for_each(|bytes| device.complete_out(0, Usb::Ok, bytes));
    let whole = [(ids[0], Status::Ok, 512), (ids[1], Status::Ok, 0), (ids[2], Status::Ok, 512)];
    assert_eq!(world.replies_after_round(), whole);
}

#[test]
fn data_may_be_anywhere_in_the_guests_pages() {
    let (mut world, device) = World::with_device();
    let sent = pattern(4096);
    for (offset, lengths) in
        [(4095_u16, vec![1_u16, 4095]), (7, vec![9, 0, 87, 4000]), (0, vec![256; 16])]
    {
        let total: u16 = lengths.iter().sum();
        let data = world.memory.grant(Direction::In, offset, &lengths);
        let id = world.send(&transfer(1, 0x81, Kind::Bulk, data));
        assert_eq!(world.replies_after_round(), []);
        device.complete_in(0, &sent[..total.into()]);
        assert_eq!(world.replies_after_round(), [(id, Status::Ok, total.into())]);
        assert!(world.data(id) == &sent[..total.into()]);
    }
}

#[test]
fn a_transfer_of_64_kib_is_not_mistaken_for_an_empty_one() {
    let (mut world, device) = World::with_device();
    let id = world.read(1, 65536);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x81, 65536)]);
    device.complete_in(0, &pattern(65536));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 65536)]);
    assert!(world.data(id) == pattern(65536));
}

#[test]
fn all_waiting_interrupt_reads_are_submitted() {
    let (mut world, device) = World::with_device();
    let ids = [world.interrupt_read(1), world.interrupt_read(1)];
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x83, 8); 2]);
    device.complete_in(0, &[0, 0, 4, 0, 0, 0, 0, 0]);
    assert_eq!(world.replies_after_round(), [(ids[0], Status::Ok, 8)]);
    assert_eq!(world.data(ids[0])[2], 4);
    device.complete_in(0, &[0; 8]);
    assert_eq!(world.replies_after_round(), [(ids[1], Status::Ok, 8)]);
}

#[test]
fn two_devices_do_not_wait_for_each_other() {
    let (mut world, first) = World::with_device();
    let second = world.add_configured_device(2);
    let slow = world.train(1, &[4096]);
    let fast = world.train(2, &[512]);
    assert_eq!(world.replies_after_round(), []);
    second.complete_in(0, &[2; 512]);
    assert_eq!(world.replies_after_round(), [(fast[0], Status::Ok, 512)]);
    let wrong = transfer(1, 0x81, Kind::Bulk, world.memory.buffer(Direction::In, 0, 8));
    let id = world.send(&Transfer { address: 2, ..wrong });
    assert_eq!(
        world.replies_after_round(),
        [(id, Status::NoDevice, 0)],
        "address 2 belongs to another port"
    );
    first.complete_in(0, &[1; 4096]);
    assert_eq!(world.replies_after_round(), [(slow[0], Status::Ok, 4096)]);
    assert_eq!(world.memory.granted(), 0);
}

#[test]
fn the_counters_show_what_a_controller_has_done() {
    let (mut world, device) = World::with_device();
    world.read(1, 512);
    world.write(1, &[1; 31]);
    world.interrupt_read(1);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0x02, 31), (0x81, 512), (0x83, 8)]);
    device.complete_in_with(1, Usb::Stalled, &[1; 5]);
    device.complete_out(0, Usb::Ok, 31);
    assert_eq!(world.replies_after_round().len(), 2);
    // Two of the five requests have configured the device.
    let done = "requests=5 bytes-in=5 bytes-out=31 errors=1 in-flight=1 wakeups=0";
    assert_eq!(world.engine.counters.to_string(), done);
}
