//! The speeds at which a device can be presented, and the descriptors that determine them.

use proptest::prelude::*;
use vusb_host::descriptors::{TransferType, parse};
use vusb_model::speed::SpeedSet;

use crate::support::gadget::{
    bulk, configuration, device, endpoint, interrupt, isochronous, setting, super_bulk,
};
use crate::support::{Gadget, Machine};

const STORAGE: (u8, u8, u8) = (8, 6, 0x50);
const UAS: (u8, u8, u8) = (8, 6, 0x62);
const VENDOR: (u8, u8, u8) = (0xff, 0, 0);

/// The speeds, as text, of a device that runs at `speed` and has these settings.
fn speeds(speed: &str, settings: &[Vec<u8>]) -> String {
    speeds_with(speed, &[configuration(1, 1, settings)])
}

fn speeds_with(speed: &str, configurations: &[Vec<u8>]) -> String {
    let machine = Machine::new();
    let bytes = device(0x1234, 0x5678, configurations);
    parse(&bytes).unwrap();
    let gadget = Gadget::new(0x1234, 0x5678).speed(Some(speed)).descriptors(bytes);
    machine.plug("1-1", &gadget);
    machine.device("1-1").speeds.to_string()
}

#[test]
fn low_and_full_speed_devices_keep_their_speed() {
    let mouse = [setting(0, 0, (3, 1, 2), &[interrupt(0x81, 8)])];
    assert_eq!(speeds("1.5", &mouse), "low");
    assert_eq!(speeds("12", &mouse), "full");
}

#[test]
fn a_high_speed_device_can_be_presented_at_full_speed() {
    let stick = [setting(0, 0, STORAGE, &[bulk(0x81), bulk(0x02)])];
    assert_eq!(speeds("480", &stick), "full and high");
}

#[test]
fn a_super_speed_device_can_be_presented_at_slower_speeds() {
    let stick = [setting(0, 0, STORAGE, &[super_bulk(0x81, 0), super_bulk(0x02, 0)])];
    assert_eq!(speeds("5000", &stick), "full, high and super");
    assert_eq!(speeds("20000", &stick), "full, high and super");
}

#[test]
fn isochronous_endpoints_allow_only_the_native_speed() {
    // A camera: the setting with the endpoint is not the first one.
    let camera = [setting(0, 0, (14, 2, 0), &[]), setting(0, 1, (14, 2, 0), &[isochronous(0x81)])];
    assert_eq!(speeds("5000", &camera), "super");
    assert_eq!(speeds("480", &camera), "high");
    assert_eq!(speeds("12", &camera), "full");
}

#[test]
fn large_interrupt_packets_need_a_fast_bus() {
    let with = |size| [setting(0, 0, VENDOR, &[interrupt(0x81, size)])];
    assert_eq!(speeds("480", &with(64)), "full and high");
    assert_eq!(speeds("480", &with(65)), "high");
    assert_eq!(speeds("5000", &with(64)), "full, high and super");
    assert_eq!(speeds("5000", &with(65)), "high and super");
    assert_eq!(speeds("5000", &with(1024)), "high and super");
    assert_eq!(speeds("5000", &with(1025)), "super");
}

#[test]
fn streams_need_super_speed() {
    let streaming = |class| {
        [setting(0, 0, class, &[super_bulk(0x81, 0)]), setting(0, 1, class, &[super_bulk(0x81, 4)])]
    };
    assert_eq!(speeds("5000", &streaming(VENDOR)), "super");
    // A SCSI disk works without them.
    assert_eq!(speeds("5000", &streaming(UAS)), "full, high and super");
}

#[test]
fn a_scsi_disk_is_an_exception_only_for_its_own_interface() {
    let settings =
        [setting(0, 0, UAS, &[super_bulk(0x81, 4)]), setting(1, 0, VENDOR, &[super_bulk(0x82, 4)])];
    assert_eq!(speeds_with("5000", &[configuration(1, 2, &settings)]), "super");
}

#[test]
fn every_configuration_counts() {
    let quiet = configuration(1, 1, &[setting(0, 0, VENDOR, &[bulk(0x81)])]);
    let camera = configuration(2, 1, &[setting(0, 0, VENDOR, &[isochronous(0x81)])]);
    assert_eq!(speeds_with("480", std::slice::from_ref(&quiet)), "full and high");
    assert_eq!(speeds_with("480", &[quiet, camera]), "high");
}

#[test]
fn invalid_descriptors_allow_only_the_native_speed() {
    let good = Gadget::stick().to_bytes();
    let mut truncated = good.clone();
    truncated.pop();
    let mut other_vendor = good.clone();
    other_vendor[8] ^= 1;
    for bytes in [Vec::new(), truncated, other_vendor, vec![0; 70_000]] {
        let machine = Machine::new();
        machine.plug("1-1", &Gadget::stick().descriptors(bytes));
        assert_eq!(machine.device("1-1").speeds.to_string(), "high");
    }
}

#[test]
fn descriptors_are_parsed() {
    let mut bytes = device(
        0x0781,
        0x5581,
        &[configuration(
            3,
            2,
            &[
                setting(0, 0, UAS, &[super_bulk(0x81, 4), super_bulk(0x02, 0)]),
                // Class-specific descriptors are skipped.
                vec![5, 0x24, 1, 2, 3],
                setting(
                    4,
                    0,
                    (3, 1, 1),
                    &[interrupt(0x83, 8), vec![6, 0x30, 0, 7, 0, 0], vec![2, 0xff]],
                ),
            ],
        )],
    );
    // `setting` counts each of the three descriptors as an endpoint. Only the first one is.
    let hid = bytes.windows(4).position(|it| it == [9, 4, 4, 0]).unwrap();
    bytes[hid + 4] = 1;
    let read = parse(&bytes).unwrap();
    assert_eq!(read.id.to_string(), "0781:5581");
    let configuration = read.configuration(3).unwrap();
    assert!(read.configuration(1).is_none());
    let [disk, keys] = configuration.settings.as_slice() else {
        panic!("{configuration:?}");
    };
    assert_eq!((disk.interface, disk.class, disk.protocol), (0, 8, 0x62));
    assert_eq!(disk.endpoints[0].streams, 4);
    assert_eq!(disk.endpoints[1].streams, 0);
    assert_eq!((keys.interface, keys.subclass), (4, 1));
    assert_eq!(keys.endpoints[0].address, 0x83);
    assert_eq!(keys.endpoints[0].transfer, TransferType::Interrupt);
    assert_eq!(keys.endpoints[0].max_packet, 8);
    // Only bulk endpoints have streams: other companions use these bits differently.
    assert_eq!(keys.endpoints[0].streams, 0);
}

#[test]
fn malformed_descriptors_are_rejected_with_a_position() {
    let one = |settings: &[Vec<u8>]| device(1, 2, &[configuration(1, 1, settings)]);
    let cases: [(&str, Vec<u8>, usize); 20] = [
        ("no descriptors", Vec::new(), 0),
        ("shorter than two bytes", vec![1], 0),
        ("shorter than two bytes", vec![1, 1, 1], 0),
        ("expected a device descriptor", configuration(1, 0, &[]), 0),
        ("bNumConfigurations", device(1, 2, &[]).into_iter().take(17).chain([1]).collect(), 0),
        ("expected a configuration", [device(1, 2, &[]), bulk(0x81)].concat(), 18),
        ("smaller than the configuration", device(1, 2, &[vec![9, 2, 8, 0, 0, 1, 0, 0, 0]]), 18),
        ("past the end", device(1, 2, &[vec![9, 2, 200, 0, 0, 1, 0, 0, 0]]), 18),
        ("outside of an interface", one(&[bulk(0x81)]), 27),
        (
            "companion without an endpoint",
            one(&[setting(0, 0, VENDOR, &[]), vec![6, 0x30, 0, 0, 0, 0]]),
            36,
        ),
        ("bNumEndpoints", one(&[setting(0, 0, VENDOR, &[]), bulk(0x81)]), 27),
        ("bNumInterfaces", one(&[]), 18),
        ("too short for its type", one(&[vec![8, 4, 0, 0, 0, 8, 6, 80]]), 27),
        ("too short for its type", one(&[setting(0, 0, VENDOR, &[vec![6, 5, 0x81, 2, 0, 2]])]), 36),
        (
            "too short for its type",
            one(&[setting(0, 0, VENDOR, &[bulk(0x81)]), vec![5, 0x30, 0, 0, 0]]),
            43,
        ),
        ("expected a device descriptor", [vec![19, 1], vec![0; 17]].concat(), 0),
        ("too short for its type", device(1, 2, &[vec![8, 2, 8, 0, 0, 1, 0, 0]]), 18),
        ("inside of a configuration", one(&[device(1, 2, &[])]), 27),
        ("inside of a configuration", one(&[configuration(2, 0, &[])]), 27),
        ("endpoint 0", one(&[setting(0, 0, VENDOR, &[endpoint(0x80, 2, 64)])]), 36),
    ];
    for (message, bytes, offset) in cases {
        let error = parse(&bytes).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
        assert_eq!(error.offset, offset, "{error}");
    }
}

/// A setting: its class and its endpoints, each with address, attributes and packet size.
type AnySetting = (u8, Vec<(u8, u8, u16)>);

/// Settings of interfaces 0, 1, 2 and so on.
fn any_settings() -> impl Strategy<Value = Vec<AnySetting>> {
    let endpoint = (1u8..16, 0u8..4, any::<u16>());
    let setting = (any::<u8>(), proptest::collection::vec(endpoint, 0..6));
    proptest::collection::vec(setting, 0..6)
}

/// The descriptors of a device with these settings, in one configuration.
fn descriptors_of(settings: &[AnySetting]) -> Vec<u8> {
    let settings: Vec<Vec<u8>> = (0u8..)
        .zip(settings)
        .map(|(number, (class, endpoints))| {
            let endpoints: Vec<Vec<u8>> = endpoints
                .iter()
                .map(|(address, attributes, size)| endpoint(*address, *attributes, *size))
                .collect();
            setting(number, 0, (*class, 0, 0), &endpoints)
        })
        .collect();
    let count = u8::try_from(settings.len()).unwrap();
    device(1, 2, &[configuration(1, count, &settings)])
}

proptest! {
    #[test]
    fn settings_and_endpoints_round_trip(settings in any_settings()) {
        let read = parse(&descriptors_of(&settings)).unwrap();
        let settings_read = &read.configurations[0].settings;
        prop_assert_eq!(settings_read.len(), settings.len());
        for (read, (class, endpoints)) in settings_read.iter().zip(&settings) {
            prop_assert_eq!(read.class, *class);
            let addresses: Vec<u8> = read.endpoints.iter().map(|it| it.address).collect();
            let expected: Vec<u8> = endpoints.iter().map(|it| it.0).collect();
            prop_assert_eq!(addresses, expected);
        }
    }

    #[test]
    fn every_truncation_is_rejected(settings in any_settings(), cut in 1usize..400) {
        let bytes = descriptors_of(&settings);
        let cut = cut.min(bytes.len());
        prop_assert!(parse(&bytes[..bytes.len() - cut]).is_err());
    }

    #[test]
    fn damaged_descriptors_never_allow_more_than_the_native_speed(
        settings in any_settings(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut bytes = descriptors_of(&settings);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = parse(&bytes) {
            for native in vusb_model::speed::Speed::ALL {
                let speeds = vusb_host::speeds::presentable(native, Some(&read));
                prop_assert!(speeds.contains(native));
                prop_assert_eq!(speeds.fastest(), Some(native));
            }
        }
    }

    #[test]
    fn random_bytes_are_parsed_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(read) = parse(&bytes) {
            prop_assert!(bytes.len() >= 18 + 9 * read.configurations.len());
        }
    }

    #[test]
    fn without_descriptors_only_the_native_speed_is_allowed(index in 0usize..4) {
        let native = vusb_model::speed::Speed::ALL[index];
        prop_assert_eq!(vusb_host::speeds::presentable(native, None), SpeedSet::from(native));
    }
}
