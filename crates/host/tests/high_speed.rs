//! Presenting SuperSpeed devices to a guest with a USB 2 controller.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use proptest::prelude::*;
use vusb_host::descriptors::{TransferType, as_high_speed, parse};

/// A configuration that contains these descriptors.
fn configuration(power: u8, inner: &[&[u8]]) -> Vec<u8> {
    let inner = inner.concat();
    let total = u16::try_from(9 + inner.len()).unwrap().to_le_bytes();
    let head = [9, 2, total[0], total[1], 1, 1, 0, 0x80, power];
    [&head[..], &inner].concat()
}

const fn interface(alternate: u8, endpoints: u8, protocol: u8) -> [u8; 9] {
    [9, 4, 0, alternate, endpoints, 8, 6, protocol, 0]
}

const fn endpoint(address: u8, kind: u8, packet: u16, interval: u8) -> [u8; 7] {
    let [low, high] = packet.to_le_bytes();
    [7, 5, address, kind, low, high, interval]
}

const fn companion(burst: u8, attributes: u8) -> [u8; 6] {
    [6, 0x30, burst, attributes, 0, 0]
}

const PIPE: [u8; 4] = [4, 0x24, 1, 0];

/// A stick with bulk-only transport in setting 0 and UAS in setting 1.
fn uas_stick() -> Vec<u8> {
    configuration(
        112,
        &[
            &interface(0, 2, 0x50),
            &endpoint(0x81, 2, 1024, 0),
            &companion(15, 0),
            &endpoint(0x02, 2, 1024, 0),
            &companion(15, 0),
            &interface(1, 2, 0x62),
            &endpoint(0x02, 2, 1024, 0),
            &companion(0, 0),
            &PIPE,
            &endpoint(0x81, 2, 1024, 0),
            &companion(15, 5),
            &PIPE,
        ],
    )
}

#[test]
fn a_stick_keeps_bulk_only_transport() {
    let converted = configuration(
        250,
        &[&interface(0, 2, 0x50), &endpoint(0x81, 2, 512, 0), &endpoint(0x02, 2, 512, 0)],
    );
    assert_eq!(as_high_speed(&uas_stick()), Some(converted));
}

#[test]
fn a_stick_that_requires_streams_is_refused() {
    let only = configuration(
        10,
        &[&interface(0, 1, 0x62), &endpoint(0x81, 2, 1024, 0), &companion(15, 5)],
    );
    assert_eq!(as_high_speed(&only), None);
}

#[test]
fn an_interface_association_after_a_dropped_setting_is_kept() {
    let association = [8, 0x0b, 1, 2, 2, 2, 1, 0];
    let raw = [&uas_stick()[9..], &association, &interface(0, 0, 1)].concat();
    let converted = as_high_speed(&configuration(1, &[&raw])).unwrap();
    assert!(converted.ends_with(&[&association[..], &interface(0, 0, 1)].concat()));
    assert_eq!(converted.len(), 9 + 9 + 7 + 7 + 8 + 9);
}

#[test]
fn a_device_becomes_usb_2_with_packets_of_64() {
    for version in [[0x10, 2], [0, 3], [0x20, 3], [0xff, 0xff]] {
        let raw = [18, 1, version[0], version[1], 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 1, 2, 3, 1];
        let converted = [18, 1, 0, 2, 0, 0, 0, 64, 1, 2, 3, 4, 5, 6, 1, 2, 3, 1];
        assert_eq!(as_high_speed(&raw), Some(converted.to_vec()));
        assert_eq!(as_high_speed(&raw[..17]), None);
        assert_eq!(as_high_speed(&[&[10], &raw[1..]].concat()), None, "bLength is too small");
        assert_eq!(as_high_speed(&converted), Some(converted.to_vec()));
    }
}

#[test]
fn power_is_converted_to_smaller_units_and_limited() {
    for (raw, converted) in [(0, 0), (1, 4), (62, 248), (63, 250), (255, 250)] {
        let configuration =
            configuration(raw, &[&interface(0, 1, 0), &endpoint(0x81, 3, 8, 4), &companion(0, 0)]);
        assert_eq!(as_high_speed(&configuration).unwrap()[8], converted);
    }
}

/// wMaxPacketSize at high speed of an endpoint with a companion.
fn converted(kind: u8, packet: u16, burst: u8, attributes: u8) -> Option<u16> {
    let raw =
        [&interface(0, 1, 0)[..], &endpoint(0x81, kind, packet, 4), &companion(burst, attributes)];
    let converted = as_high_speed(&configuration(1, &raw))?;
    Some(u16::from_le_bytes([converted[22], converted[23]]))
}

#[test]
fn interrupt_bursts_become_high_bandwidth_or_are_refused() {
    assert_eq!(converted(3, 16, 0, 0), Some(16));
    assert_eq!(converted(3, 1024, 0, 0), Some(1024));
    assert_eq!(converted(3, 1024, 1, 0), Some(1024 | 1 << 11));
    assert_eq!(converted(3, 1024, 2, 0), Some(1024 | 2 << 11));
    assert_eq!(converted(3, 1024, 3, 0), None);
    assert_eq!(converted(3, 512, 1, 0), None);
    assert_eq!(converted(3, 1025, 0, 0), None);
}

#[test]
fn isochronous_bursts_become_high_bandwidth_or_are_refused() {
    assert_eq!(converted(1, 1024, 0, 0), Some(1024));
    assert_eq!(converted(1, 1024, 0, 2), Some(1024 | 2 << 11));
    assert_eq!(converted(1, 1024, 1, 1), None);
    assert_eq!(converted(1, 1024, 15, 2), None);
    assert_eq!(converted(1, 1024, 0, 0x80), None);
}

#[test]
fn bulk_and_control_endpoints_have_one_packet_size_each() {
    assert_eq!(converted(2, 1024, 15, 0), Some(512));
    assert_eq!(converted(2, 512, 0, 0), Some(512));
    assert_eq!(converted(2, 64, 0, 0), None);
    assert_eq!(converted(0, 512, 0, 0), Some(64));
}

#[test]
fn inconsistent_descriptors_are_refused() {
    let good = uas_stick();
    for length in 0..good.len() {
        assert_eq!(as_high_speed(&good[..length]), None, "cut at {length}");
    }
    for bad in [
        &[&companion(0, 0)[..]][..],
        &[&endpoint(1, 2, 1024, 0)],
        &[&interface(0, 0, 0), &companion(0, 0)],
        &[&interface(0, 1, 0), &endpoint(1, 2, 1024, 0), &companion(0, 0), &companion(0, 0)],
        &[&interface(0, 0, 0), &[9, 2, 9, 0, 0, 1, 0, 0, 0]],
    ] {
        assert_eq!(as_high_speed(&configuration(1, bad)), None);
    }
}

/// Descriptors that are valid in many cases.
fn inner() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        (0u8..3).prop_map(|alternate| interface(alternate, 0, 0).to_vec()),
        (any::<u8>(), 0u8..4, prop_oneof![Just(64u16), Just(512), Just(1024), any::<u16>()])
            .prop_map(|(address, kind, packet)| endpoint(address, kind, packet, 1).to_vec()),
        (0u8..16, 0u8..4).prop_map(|(burst, attributes)| companion(burst, attributes).to_vec()),
        Just(PIPE.to_vec()),
        Just(vec![8, 0x0b, 0, 1, 0, 0, 0, 0]),
    ];
    proptest::collection::vec(one, 0..12).prop_map(|all| all.concat())
}

fn check(raw: &[u8]) -> Result<(), TestCaseError> {
    let Some(converted) = as_high_speed(raw) else { return Ok(()) };
    prop_assert!(converted.len() <= raw.len());
    let again = as_high_speed(&converted);
    prop_assert_eq!(again.as_deref(), Some(&converted[..]));
    if converted[1] == 2 {
        prop_assert_eq!(
            usize::from(u16::from_le_bytes([converted[2], converted[3]])),
            converted.len()
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_result_is_high_speed_and_complete(power: u8, inner in inner()) {
        let raw = configuration(power, &[&inner]);
        check(&raw)?;
        if let Some(converted) = as_high_speed(&raw) {
            let device = [18, 1, 0, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            if let Ok(parsed) = parse(&[&device[..], &converted].concat()) {
                for endpoint in parsed.configurations[0].settings.iter().flat_map(|it| &it.endpoints) {
                    prop_assert_eq!(endpoint.streams, 0);
                    prop_assert!(endpoint.max_packet & 0x7ff <= 1024);
                    prop_assert!(endpoint.transfer != TransferType::Bulk || endpoint.max_packet == 512);
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
        check(&raw)?;
        let length = u16::try_from(raw.len() + 9).unwrap().to_le_bytes();
        check(&[&[9, kind, length[0], length[1], 1, 1, 0, 0, 1], &raw[..]].concat())?;
    }
}
