//! Sound and pictures: packets, each with a place of its own in the guest's memory and a result of its own.

use vusb_host::usbfs::{Kind as UsbKind, Status as Usb};
use vusb_usbif::urb::{Direction, Isochronous, Kind, Segments, Status, Transfer};

use super::device::Device;
use super::world::{World, transfer};

/// A table of packets: where each begins and how long it is. The results are not zero, so that it shows when they are not written.
fn table(packets: &[(u32, u32)]) -> Vec<u8> {
    let packet = |it: &(u32, u32)| [it.0, it.1, 0xaaaa_aaaa, 0xbbbb_bbbb].map(u32::to_le_bytes);
    packets.iter().flat_map(packet).flatten().collect()
}

/// Sends a transfer of packets with the table at `offset` in its page, and gives it to the device.
pub(super) fn play(
    world: &mut World,
    port: u8,
    endpoint: u8,
    data: Segments,
    packets: &[(u32, u32)],
    offset: u16,
) -> (u16, Segments) {
    let bytes = table(packets);
    let descriptors = world.memory.buffer(Direction::In, offset, bytes.len());
    world.memory.put(&descriptors, &bytes);
    let iso =
        Isochronous { interval: 1, start_frame: 0, packets: packets.len() as u16, descriptors };
    let id = world.send(&transfer(port, endpoint, Kind::Isochronous(iso), data));
    (id, descriptors)
}

/// The results in a table: bytes moved, and status.
fn results(world: &World, table: &Segments) -> Vec<(u32, i32)> {
    let bytes = world.memory.get(table);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    (0..bytes.len()).step_by(16).map(|at| (word(at + 8), word(at + 12).cast_signed())).collect()
}

fn lengths(device: &Device) -> Vec<u32> {
    let urb = device.urb(0);
    let UsbKind::Iso(packets) = &urb.kind else { panic!("not isochronous") };
    packets.iter().map(|it| it.length).collect()
}

#[test]
fn packets_are_read_each_to_its_place_across_pages_and_gaps() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 4000, 1000);
    let (id, table) = play(&mut world, 1, 0x84, data, &[(0, 200), (300, 100), (900, 100)], 4080);
    world.settle();
    assert_eq!(lengths(&device), [200, 100, 100]);
    assert_eq!(device.has(), [(0x84, 400)], "without the gaps");
    assert!(device.urb(0).flags.iso_asap);
    device.plays(0, Usb::Ok, &[(200, Usb::Ok), (60, Usb::Ok), (100, Usb::Ok)]);
    world.settle();
    assert_eq!(results(&world, &table), [(200, 0), (60, 0), (100, 0)]);
    assert_eq!(world.replies(), [(id, Status::Ok, 360)]);
    let mut expected = vec![0xee; 1000];
    expected[..200].fill(0);
    expected[300..360].fill(1);
    expected[900..].fill(2);
    assert!(world.data(id) == expected);
}

#[test]
fn the_guests_part_of_the_table_is_left_alone() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 0, 8);
    let (_, table) = play(&mut world, 1, 0x84, data, &[(4, 4), (0, 4)], 4088);
    world.settle();
    device.plays(0, Usb::Ok, &[(1, Usb::Ok), (2, Usb::Ok)]);
    world.settle();
    let words = world.memory.get(&table);
    assert_eq!((words[0], words[4], words[16], words[20]), (4, 4, 0, 4));
    assert_eq!(results(&world, &table), [(1, 0), (2, 0)]);
}

#[test]
fn packets_are_written_without_the_gaps() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::Out, 4094, 12);
    world.memory.put(&data, b"abcdefghijkl");
    let (id, _) = play(&mut world, 1, 0x05, data, &[(8, 4), (0, 3)], 0);
    world.settle();
    assert_eq!(device.urb(0).buffer.data(), b"ijklabc");
    device.plays(0, Usb::Ok, &[(4, Usb::Ok), (3, Usb::Ok)]);
    assert_eq!(world.round(), [(id, Status::Ok, 7)]);
}

#[test]
fn a_packet_that_fails_does_not_spoil_the_others() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 0, 300);
    let (id, table) = play(&mut world, 1, 0x84, data, &[(0, 100), (100, 100), (200, 100)], 0);
    world.settle();
    // EXDEV (18): done in part.
    let results_of_device = [(100, Usb::Ok), (0, Usb::Protocol(71)), (50, Usb::Overflow)];
    device.plays(0, Usb::Other(18), &results_of_device);
    world.settle();
    assert_eq!(results(&world, &table), [(100, 0), (0, -71), (50, -75)]);
    assert_eq!(world.replies(), [(id, Status::Ok, 150)]);
}

#[test]
fn sound_goes_on_while_more_of_it_is_sent() {
    let (mut world, device) = World::with_device();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let data = world.memory.buffer(Direction::In, 0, 64);
        ids.push(play(&mut world, 1, 0x84, data, &[(0, 64)], 0).0);
    }
    world.settle();
    assert_eq!(device.has(), [(0x84, 64); 3]);
    for id in ids {
        device.plays(0, Usb::Ok, &[(64, Usb::Ok)]);
        assert_eq!(world.round(), [(id, Status::Ok, 64)]);
    }
}

#[test]
fn a_table_that_makes_no_sense_is_answered_and_the_device_not_asked() {
    let (mut world, device) = World::with_device();
    for packets in [&[(0, 101)][..], &[(u32::MAX, 1)], &[(0, u32::MAX)], &[(0, 60), (0, 60)]] {
        let data = world.memory.buffer(Direction::In, 0, 100);
        let (id, _) = play(&mut world, 1, 0x84, data, packets, 0);
        assert_eq!(world.round(), [(id, Status::Invalid, 0)], "{packets:?}");
    }
    assert_eq!(device.submitted(), 0);
}

#[test]
fn as_many_packets_as_the_kernel_takes_and_no_more() {
    let (mut world, device) = World::with_device();
    let packets: Vec<(u32, u32)> = (0..129).map(|it| (it * 8, 8)).collect();
    let data = world.memory.buffer(Direction::In, 0, 1032);
    let (id, _) = play(&mut world, 1, 0x84, data, &packets[..128], 64);
    assert_eq!(world.round(), []);
    device.plays(0, Usb::Ok, &[(8, Usb::Ok); 128]);
    assert_eq!(world.round(), [(id, Status::Ok, 1024)]);
    let data = world.memory.buffer(Direction::In, 0, 1032);
    let (id, _) = play(&mut world, 1, 0x84, data, &packets, 64);
    assert_eq!(world.round(), [(id, Status::Invalid, 0)]);
}

#[test]
fn a_transfer_of_nothing_is_done_at_once() {
    let (mut world, device) = World::with_device();
    let (id, _) = play(&mut world, 1, 0x84, Segments::NONE, &[], 0);
    assert_eq!(world.round(), [(id, Status::Ok, 0)]);
    assert_eq!(device.submitted(), 0);
}

#[test]
fn sound_that_is_cancelled_says_what_has_come() {
    let (mut world, _device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 0, 64);
    let (id, _) = play(&mut world, 1, 0x84, data, &[(0, 64)], 0);
    world.settle();
    let unlink = world.unlink(id);
    assert_eq!(world.round(), [(unlink, Status::Ok, 0), (id, Status::IoError, 0)]);
}

/// A guest may call one endpoint bulk and isochronous in turn. That is its own affair.
#[test]
fn an_endpoint_of_two_kinds_harms_nobody() {
    let (mut world, device) = World::with_device();
    let train = world.train(1, &[512]);
    let data = world.memory.buffer(Direction::In, 0, 512);
    let (id, _) = play(&mut world, 1, 0x81, data, &[(0, 512)], 0);
    let last = world.train(1, &[512])[0];
    let mut answered = Vec::new();
    for _ in 0..4 {
        world.settle();
        while !device.has().is_empty() {
            device.takes(0, Usb::Other(22), 0);
        }
        answered.extend(world.round().into_iter().map(|it| it.0));
    }
    answered.sort_unstable();
    assert_eq!(answered, [train[0], id, last]);
}

#[test]
fn an_isochronous_request_that_says_short_not_ok_holds_nothing_up() {
    let (mut world, device) = World::with_device();
    for packets in [&[(0, 512)][..], &[(0, 513)]] {
        let data = world.memory.buffer(Direction::In, 0, 512);
        let descriptors = world.memory.buffer(Direction::In, 0, 16);
        world.memory.put(&descriptors, &table(packets));
        let iso = Isochronous { interval: 1, start_frame: 0, packets: 1, descriptors };
        let iso = transfer(1, 0x81, Kind::Isochronous(iso), data);
        world.send(&Transfer { short_not_ok: true, ..iso });
        world.settle();
        if !device.has().is_empty() {
            device.plays(0, Usb::Ok, &[(512, Usb::Ok)]);
        }
        assert_eq!(world.round().len(), 1);
        let read = world.read(1, 512);
        assert_eq!(world.round(), []);
        assert_eq!(device.has(), [(0x81, 512)]);
        device.sends(0, &[1; 512]);
        assert_eq!(world.round(), [(read, Status::Ok, 512)]);
    }
}
