//! How SuperSpeed devices look to a guest with a USB 2 controller.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use proptest::prelude::*;
use vusb_host::descriptors::{Transfer, as_high_speed, parse};

/// A configuration with these descriptors in it.
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

/// A stick that speaks bulk-only transport, and UAS in setting 1.
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
    let shown = configuration(
        250,
        &[&interface(0, 2, 0x50), &endpoint(0x81, 2, 512, 0), &endpoint(0x02, 2, 512, 0)],
    );
    assert_eq!(as_high_speed(&uas_stick()), Some(shown));
}

#[test]
fn a_stick_that_has_only_streams_is_not_shown() {
    let only = configuration(
        10,
        &[&interface(0, 1, 0x62), &endpoint(0x81, 2, 1024, 0), &companion(15, 5)],
    );
    assert_eq!(as_high_speed(&only), None);
}

#[test]
fn what_stands_before_the_next_interfaces_stays() {
    let association = [8, 0x0b, 1, 2, 2, 2, 1, 0];
    let raw = [&uas_stick()[9..], &association, &interface(0, 0, 1)].concat();
    let shown = as_high_speed(&configuration(1, &[&raw])).unwrap();
    assert!(shown.ends_with(&[&association[..], &interface(0, 0, 1)].concat()));
    assert_eq!(shown.len(), 9 + 9 + 7 + 7 + 8 + 9);
}

#[test]
fn a_device_is_usb_2_with_packets_of_64() {
    for version in [[0x10, 2], [0, 3], [0x20, 3], [0xff, 0xff]] {
        let raw = [18, 1, version[0], version[1], 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 1, 2, 3, 1];
        let shown = [18, 1, 0, 2, 0, 0, 0, 64, 1, 2, 3, 4, 5, 6, 1, 2, 3, 1];
        assert_eq!(as_high_speed(&raw), Some(shown.to_vec()));
        assert_eq!(as_high_speed(&raw[..17]), None);
        assert_eq!(as_high_speed(&[&[10], &raw[1..]].concat()), None, "it says it is shorter");
        assert_eq!(as_high_speed(&shown), Some(shown.to_vec()));
    }
}

#[test]
fn power_is_counted_in_smaller_units_and_has_a_limit() {
    for (raw, shown) in [(0, 0), (1, 4), (62, 248), (63, 250), (255, 250)] {
        let configuration =
            configuration(raw, &[&interface(0, 1, 0), &endpoint(0x81, 3, 8, 4), &companion(0, 0)]);
        assert_eq!(as_high_speed(&configuration).unwrap()[8], shown);
    }
}

/// wMaxPacketSize at high speed of an endpoint with a companion.
fn shown(kind: u8, packet: u16, burst: u8, attributes: u8) -> Option<u16> {
    let raw =
        [&interface(0, 1, 0)[..], &endpoint(0x81, kind, packet, 4), &companion(burst, attributes)];
    let shown = as_high_speed(&configuration(1, &raw))?;
    Some(u16::from_le_bytes([shown[22], shown[23]]))
}

#[test]
fn interrupt_bursts_become_high_bandwidth_or_do_not_fit() {
    assert_eq!(shown(3, 16, 0, 0), Some(16));
    assert_eq!(shown(3, 1024, 0, 0), Some(1024));
    assert_eq!(shown(3, 1024, 1, 0), Some(1024 | 1 << 11));
    assert_eq!(shown(3, 1024, 2, 0), Some(1024 | 2 << 11));
    assert_eq!(shown(3, 1024, 3, 0), None);
    assert_eq!(shown(3, 512, 1, 0), None);
    assert_eq!(shown(3, 1025, 0, 0), None);
}

#[test]
fn isochronous_bursts_become_high_bandwidth_or_do_not_fit() {
    assert_eq!(shown(1, 1024, 0, 0), Some(1024));
    assert_eq!(shown(1, 1024, 0, 2), Some(1024 | 2 << 11));
    assert_eq!(shown(1, 1024, 1, 1), None);
    assert_eq!(shown(1, 1024, 15, 2), None);
    assert_eq!(shown(1, 1024, 0, 0x80), None);
}

#[test]
fn bulk_and_control_have_one_packet_size_each() {
    assert_eq!(shown(2, 1024, 15, 0), Some(512));
    assert_eq!(shown(2, 512, 0, 0), Some(512));
    assert_eq!(shown(2, 64, 0, 0), None);
    assert_eq!(shown(0, 512, 0, 0), Some(64));
}

#[test]
fn what_contradicts_itself_is_not_shown() {
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

/// Descriptors that may well be sound.
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

fn holds(raw: &[u8]) -> Result<(), TestCaseError> {
    let Some(shown) = as_high_speed(raw) else { return Ok(()) };
    prop_assert!(shown.len() <= raw.len());
    let again = as_high_speed(&shown);
    prop_assert_eq!(again.as_deref(), Some(&shown[..]));
    if shown[1] == 2 {
        prop_assert_eq!(usize::from(u16::from_le_bytes([shown[2], shown[3]])), shown.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_shown_is_high_speed_and_whole(power: u8, inner in inner()) {
        let raw = configuration(power, &[&inner]);
        holds(&raw)?;
        if let Some(shown) = as_high_speed(&raw) {
            let device = [18, 1, 0, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            if let Ok(parsed) = parse(&[&device[..], &shown].concat()) {
                for endpoint in parsed.configurations[0].settings.iter().flat_map(|it| &it.endpoints) {
                    prop_assert_eq!(endpoint.streams, 0);
                    prop_assert!(endpoint.max_packet & 0x7ff <= 1024);
                    prop_assert!(endpoint.transfer != Transfer::Bulk || endpoint.max_packet == 512);
                }
            }
        }
    }

    #[test]
    fn nothing_makes_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
        holds(&raw)?;
        let length = u16::try_from(raw.len() + 9).unwrap().to_le_bytes();
        holds(&[&[9, kind, length[0], length[1], 1, 1, 0, 0, 1], &raw[..]].concat())?;
    }
}
