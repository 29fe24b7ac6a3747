//! Isochronous transfers: each packet has its own position in the guest's memory and its own
//! result.

use vusb_host::usbfs::{Kind as UsbKind, Status as Usb};
use vusb_usbif::urb::{Direction, Isochronous, Kind, Segments, Status, Transfer};

use super::device::Device;
use super::world::{World, transfer};

/// A packet table with these offsets and lengths. The results are not zero, so that a missing
/// result is noticed.
fn table(packets: &[(u32, u32)]) -> Vec<u8> {
    let packet = |it: &(u32, u32)| [it.0, it.1, 0xaaaa_aaaa, 0xbbbb_bbbb].map(u32::to_le_bytes);
    packets.iter().flat_map(packet).flatten().collect()
}

/// Sends a transfer of packets, with the table at `offset` in its page.
pub(super) fn send_iso(
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

/// The results in a table: bytes transferred, and status.
fn results(world: &World, table: &Segments) -> Vec<(u32, i32)> {
    let bytes = world.memory.get(table);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    (0..bytes.len()).step_by(16).map(|at| (word(at + 8), word(at + 12) as i32)).collect()
}

fn lengths(device: &Device) -> Vec<u32> {
    let urb = device.urb(0);
    let UsbKind::Iso(packets) = &urb.kind else { panic!("not isochronous") };
    packets.iter().map(|it| it.length).collect()
}

#[test]
fn packets_are_read_to_their_positions_across_pages_and_gaps() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 4000, 1000);
    let (id, table) =
        send_iso(&mut world, 1, 0x84, data, &[(0, 200), (300, 100), (900, 100)], 4080);
    world.run_round();
    assert_eq!(lengths(&device), [200, 100, 100]);
    assert_eq!(device.queued(), [(0x84, 400)], "without the gaps");
    assert!(device.urb(0).flags.iso_asap);
    device.complete_iso(0, Usb::Ok, &[(200, Usb::Ok), (60, Usb::Ok), (100, Usb::Ok)]);
    world.run_round();
    assert_eq!(results(&world, &table), [(200, 0), (60, 0), (100, 0)]);
    assert_eq!(world.replies(), [(id, Status::Ok, 360)]);
    let mut expected = vec![0xee; 1000];
    expected[..200].fill(0);
    expected[300..360].fill(1);
    expected[900..].fill(2);
    assert!(world.data(id) == expected);
}

#[test]
fn the_guests_part_of_the_table_is_not_changed() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 0, 8);
    let (_, table) = send_iso(&mut world, 1, 0x84, data, &[(4, 4), (0, 4)], 4088);
    world.run_round();
    device.complete_iso(0, Usb::Ok, &[(1, Usb::Ok), (2, Usb::Ok)]);
    world.run_round();
    let words = world.memory.get(&table);
    assert_eq!((words[0], words[4], words[16], words[20]), (4, 4, 0, 4));
    assert_eq!(results(&world, &table), [(1, 0), (2, 0)]);
}

#[test]
fn packets_are_written_without_the_gaps() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::Out, 4094, 12);
    world.memory.put(&data, b"abcdefghijkl");
    let (id, _) = send_iso(&mut world, 1, 0x05, data, &[(8, 4), (0, 3)], 0);
    world.run_round();
    assert_eq!(device.urb(0).buffer.data(), b"ijklabc");
    device.complete_iso(0, Usb::Ok, &[(4, Usb::Ok), (3, Usb::Ok)]);
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 7)]);
}

#[test]
fn a_failed_packet_does_not_affect_the_others() {
    let (mut world, device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 0, 300);
    let (id, table) = send_iso(&mut world, 1, 0x84, data, &[(0, 100), (100, 100), (200, 100)], 0);
    world.run_round();
    // EXDEV (18): partially completed.
    let results_of_device = [(100, Usb::Ok), (0, Usb::Protocol(71)), (50, Usb::Overflow)];
    device.complete_iso(0, Usb::Other(18), &results_of_device);
    world.run_round();
    assert_eq!(results(&world, &table), [(100, 0), (0, -71), (50, -75)]);
    assert_eq!(world.replies(), [(id, Status::Ok, 150)]);
}

#[test]
fn several_transfers_are_in_flight_at_once() {
    let (mut world, device) = World::with_device();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let data = world.memory.buffer(Direction::In, 0, 64);
        ids.push(send_iso(&mut world, 1, 0x84, data, &[(0, 64)], 0).0);
    }
    world.run_round();
    assert_eq!(device.queued(), [(0x84, 64); 3]);
    for id in ids {
        device.complete_iso(0, Usb::Ok, &[(64, Usb::Ok)]);
        assert_eq!(world.replies_after_round(), [(id, Status::Ok, 64)]);
    }
}

#[test]
fn an_invalid_table_does_not_reach_the_device() {
    let (mut world, device) = World::with_device();
    for packets in [&[(0, 101)][..], &[(u32::MAX, 1)], &[(0, u32::MAX)], &[(0, 60), (0, 60)]] {
        let data = world.memory.buffer(Direction::In, 0, 100);
        let (id, _) = send_iso(&mut world, 1, 0x84, data, packets, 0);
        assert_eq!(world.replies_after_round(), [(id, Status::Invalid, 0)], "{packets:?}");
    }
    assert_eq!(device.submitted(), 0);
}

#[test]
fn a_transfer_has_at_most_128_packets() {
    let (mut world, device) = World::with_device();
    let packets: Vec<(u32, u32)> = (0..129).map(|it| (it * 8, 8)).collect();
    let data = world.memory.buffer(Direction::In, 0, 1032);
    let (id, _) = send_iso(&mut world, 1, 0x84, data, &packets[..128], 64);
    assert_eq!(world.replies_after_round(), []);
    device.complete_iso(0, Usb::Ok, &[(8, Usb::Ok); 128]);
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 1024)]);
    let data = world.memory.buffer(Direction::In, 0, 1032);
    let (id, _) = send_iso(&mut world, 1, 0x84, data, &packets, 64);
    assert_eq!(world.replies_after_round(), [(id, Status::Invalid, 0)]);
}

#[test]
fn a_transfer_without_packets_completes_immediately() {
    let (mut world, device) = World::with_device();
    let (id, _) = send_iso(&mut world, 1, 0x84, Segments::NONE, &[], 0);
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 0)]);
    assert_eq!(device.submitted(), 0);
}

#[test]
fn a_cancelled_transfer_is_answered() {
    let (mut world, _device) = World::with_device();
    let data = world.memory.buffer(Direction::In, 0, 64);
    let (id, _) = send_iso(&mut world, 1, 0x84, data, &[(0, 64)], 0);
    world.run_round();
    let unlink = world.unlink(id);
    assert_eq!(world.replies_after_round(), [(unlink, Status::Ok, 0), (id, Status::IoError, 0)]);
}

/// A guest may use one endpoint alternately as bulk and isochronous. All requests are answered.
#[test]
fn an_endpoint_used_with_two_types_is_harmless() {
    let (mut world, device) = World::with_device();
    let train = world.train(1, &[512]);
    let data = world.memory.buffer(Direction::In, 0, 512);
    let (id, _) = send_iso(&mut world, 1, 0x81, data, &[(0, 512)], 0);
    let last = world.train(1, &[512])[0];
    let mut answered = Vec::new();
    for _ in 0..4 {
        world.run_round();
        while !device.queued().is_empty() {
            device.complete_out(0, Usb::Other(22), 0);
        }
        answered.extend(world.replies_after_round().into_iter().map(|it| it.0));
    }
    answered.sort_unstable();
    assert_eq!(answered, [train[0], id, last]);
}

#[test]
fn an_isochronous_request_with_short_not_ok_blocks_nothing() {
    let (mut world, device) = World::with_device();
    for packets in [&[(0, 512)][..], &[(0, 513)]] {
        let data = world.memory.buffer(Direction::In, 0, 512);
        let descriptors = world.memory.buffer(Direction::In, 0, 16);
        world.memory.put(&descriptors, &table(packets));
        let iso = Isochronous { interval: 1, start_frame: 0, packets: 1, descriptors };
        let iso = transfer(1, 0x81, Kind::Isochronous(iso), data);
        world.send(&Transfer { short_not_ok: true, ..iso });
        world.run_round();
        if !device.queued().is_empty() {
            device.complete_iso(0, Usb::Ok, &[(512, Usb::Ok)]);
        }
        assert_eq!(world.replies_after_round().len(), 1);
        let read = world.read(1, 512);
        assert_eq!(world.replies_after_round(), []);
        assert_eq!(device.queued(), [(0x81, 512)]);
        device.complete_in(0, &[1; 512]);
        assert_eq!(world.replies_after_round(), [(read, Status::Ok, 512)]);
    }
}
