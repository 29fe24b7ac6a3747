//! Enumeration of a device by the guest.

use vusb_model::speed::Speed as Native;
use vusb_usbif::Speed;
use vusb_usbif::urb::{Kind, Segments, Setup, Status, Transfer};

use super::descriptors;
use super::world::{
    World, clear_halt, descriptor, set_address, set_configuration, set_interface, transfer,
    vendor_read, vendor_write,
};
use vusb_xen::usb::PortStatus;

/// A guest with a device in port 1 that it has not enumerated yet.
fn plugged() -> (World, super::device::Device) {
    let mut world = World::new();
    let device = world.plug_in(1);
    world.request_device(1, true);
    world.end_jobs();
    assert_eq!(world.events(), [(1, Speed::High)]);
    (world, device)
}

#[test]
fn descriptors_are_answered_without_the_device() {
    let (mut world, device) = plugged();
    let descriptors = descriptors::high_speed();
    let id = world.control(1, 0, descriptor(1, 64));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 18)]);
    assert_eq!(world.data(id)[..18], descriptors[..18]);
    assert_eq!(world.data(id)[18..], [0xee; 46], "nothing else is written");

    let id = world.control(1, 0, set_address(5));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 0)]);
    let id = world.control(1, 5, descriptor(2, 9));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 9)]);
    assert_eq!(world.data(id)[..4], descriptors[18..22]);
    assert_eq!(world.data(id)[7], 0x80, "remote wake-up is removed");
    assert_eq!(device.submitted(), 0);
}

#[test]
fn configuring_is_a_job_and_the_toolstack_sees_the_progress() {
    let (mut world, device) = plugged();
    assert_eq!(world.status_changes(), [(1, Some(PortStatus::Offered))]);
    let id = world.control(1, 0, set_address(1));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 0)]);
    assert_eq!(world.status_changes(), [(1, Some(PortStatus::Addressed))]);

    let id = world.control(1, 1, set_configuration(1));
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(world.jobs(), ["configure 1"]);
    assert_eq!(world.status_changes(), []);
    assert_eq!(world.replies_after_jobs(), [(id, Status::Ok, 0)]);
    assert_eq!(world.status_changes(), [(1, Some(PortStatus::Configured))]);
    assert_eq!(device.submitted(), 0);
}

#[test]
fn alternate_settings_and_clearing_halts_are_jobs() {
    let (mut world, device) = World::with_device();
    for (setup, job) in
        [(set_interface(0, 1), "set interface 0 to 1"), (clear_halt(0x81), "clear halt of 0x81")]
    {
        let id = world.control(1, 1, setup);
        assert_eq!(world.replies_after_round(), []);
        assert_eq!(world.jobs(), [job]);
        assert_eq!(world.replies_after_jobs(), [(id, Status::Ok, 0)]);
    }
    assert_eq!(device.submitted(), 0);
}

#[test]
fn a_request_with_an_invalid_number_is_stalled() {
    let (mut world, device) = World::with_device();
    let refused = [
        set_configuration(9),
        set_configuration(257),
        set_interface(256, 0),
        set_interface(0, 256),
        clear_halt(0x181),
        // SET_FEATURE(TEST_MODE) would take the device off the bus until it is unplugged.
        Setup { request: 3, value: 2, index: 0x100, ..Setup::default() },
    ];
    for setup in refused {
        let id = world.control(1, 1, setup);
        assert_eq!(world.replies_after_round(), [(id, Status::Stall, 0)], "{setup:?}");
    }
    assert_eq!((world.jobs().len(), device.submitted()), (0, 0));
}

#[test]
fn other_requests_go_to_the_device() {
    let (mut world, device) = World::with_device();
    let id = world.control(1, 1, vendor_read(64));
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0, 72)]);
    assert_eq!(device.urb(0).buffer.data()[..8], vendor_read(64).to_bytes());
    device.complete_in(0, b"hello");
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 5)]);
    assert_eq!(world.data(id)[..6], *b"hello\xee");

    let data = world.memory.buffer(vusb_usbif::urb::Direction::Out, 4090, 16);
    world.memory.put(&data, b"across two pages");
    let id = world.control_with(1, 1, vendor_write(16), data);
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.urb(0).buffer.data()[8..], *b"across two pages");
    device.complete_out(0, vusb_host::usbfs::Status::Ok, 16);
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 16)]);
}

#[test]
fn control_requests_are_executed_one_at_a_time() {
    let (mut world, device) = World::with_device();
    let ids = [world.control(1, 1, vendor_read(8)), world.control(1, 1, vendor_read(16))];
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(device.queued(), [(0, 16)]);
    device.complete_in_with(0, vusb_host::usbfs::Status::Stalled, &[]);
    assert_eq!(world.replies_after_round(), [(ids[0], Status::Stall, 0)]);
    assert_eq!(device.queued(), [(0, 24)]);
}

#[test]
fn addresses_above_127_are_refused() {
    let (mut world, _device) = plugged();
    for (from, address, status) in [
        (0, 65535, Status::Stall),
        (0, 128, Status::Stall),
        (0, 127, Status::Ok),
        (127, 0, Status::Ok),
    ] {
        let id = world.control(1, from, set_address(address));
        assert_eq!(world.replies_after_round(), [(id, status, 0)], "{address}");
    }
    let id = world.control(1, 127, vendor_read(8));
    assert_eq!(
        world.replies_after_round(),
        [(id, Status::NoDevice, 0)],
        "no device has this address now"
    );
}

#[test]
fn a_device_without_an_address_answers_only_enumeration_requests() {
    let (mut world, device) = plugged();
    let id = world.control(1, 0, vendor_read(8));
    assert_eq!(world.replies_after_round(), [(id, Status::Invalid, 0)]);
    let id = world.control(1, 0, set_configuration(1));
    assert_eq!(world.replies_after_round(), [(id, Status::Invalid, 0)]);
    let bulk = transfer(1, 0x81, Kind::Bulk, Segments::NONE);
    let id = world.send(&Transfer { address: 0, ..bulk });
    assert_eq!(world.replies_after_round(), [(id, Status::NoDevice, 0)]);
    assert_eq!((world.jobs().len(), device.submitted()), (0, 0));
}

#[test]
fn a_guest_that_resets_its_port_resets_the_device() {
    let (mut world, _device) = World::with_device();
    let id = world.control(1, 0, descriptor(1, 18));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 18)]);
    let id = world.control(1, 0, set_address(9));
    assert_eq!(world.replies_after_round(), []);
    assert_eq!(world.jobs(), ["reset"]);
    assert_eq!(world.replies_after_jobs(), [(id, Status::Ok, 0)]);
    let ids = [world.control(1, 1, descriptor(1, 18)), world.control(1, 9, descriptor(1, 18))];
    assert_eq!(
        world.replies_after_round(),
        [(ids[0], Status::NoDevice, 0), (ids[1], Status::Ok, 18)]
    );
}

#[test]
fn a_super_speed_stick_is_shown_as_a_high_speed_stick() {
    let mut world = World::new();
    world.plug_in_with(2, descriptors::super_speed(), Native::Super);
    world.request_device(2, true);
    world.end_jobs();
    assert_eq!(world.events(), [(2, Speed::High)]);
    let id = world.control(2, 0, descriptor(1, 18));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 18)]);
    assert_eq!(world.data(id)[..8], [18, 1, 0x00, 2, 0, 0, 0, 64]);
    world.enumerate(2);
    let id = world.control(2, 2, descriptor(2, 255));
    assert_eq!(world.replies_after_round(), [(id, Status::Ok, 32)]);
    assert_eq!(world.data(id)[18..25], [7, 5, 0x81, 2, 0x00, 0x02, 0], "packets of 512");
    // Descriptors that would reveal the real speed: BOS, qualifier, other speed.
    for kind in [15, 6, 7] {
        let id = world.control(2, 2, descriptor(kind, 64));
        assert_eq!(world.replies_after_round(), [(id, Status::Stall, 0)]);
    }
}
