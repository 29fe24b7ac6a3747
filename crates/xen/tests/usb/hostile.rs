//! Values that no correct peer writes: they are refused or skipped, and never stop the reader.

use proptest::prelude::*;
use vusb_xen::usb::{
    ControllerConfig, ControllerId, Counters, ExportedDevice, Key, LAYOUT, LibxlController,
    PortLabel, PortStatus, RequestedDevice, Rings, Service,
};
use vusb_xen::{DomId, State};

use crate::{Nodes, folder, infallible, reader};

fn id() -> ControllerId {
    ControllerId { guest: DomId::new(5).unwrap(), devid: 0 }
}

fn config(entries: &[(Key, &str)]) -> Result<ControllerConfig, String> {
    let mut nodes = folder([(Key::UsbVer, "2".to_owned()), (Key::NumPorts, "4".to_owned())]);
    nodes.extend(entries.iter().map(|(key, value)| (*key, (*value).to_owned())));
    infallible(ControllerConfig::parse(reader(&nodes))).map_err(|bad| bad.to_string())
}

#[test]
fn numbers_are_strict_decimal() {
    assert_eq!(config(&[(Key::NumPorts, "31")]).unwrap().ports, 31);
    assert_eq!(config(&[(Key::NumPorts, "1")]).unwrap().ports, 1);
    for text in ["", "0", "32", "010", "+3", "3 ", "0x3", "-1", "257", "99999999999"] {
        assert_eq!(
            config(&[(Key::NumPorts, text)]).unwrap_err(),
            format!("`num-ports` is `{text}`: it must be 1 to 31")
        );
    }
    assert_eq!(config(&[(Key::UsbVer, "1")]).unwrap().usb_version, 1);
    for text in ["", "0", "3", "02", "2.0"] {
        assert_eq!(
            config(&[(Key::UsbVer, text), (Key::NumPorts, "nonsense")]).unwrap_err(),
            format!("`usb-ver` is `{text}`: it must be 1 or 2")
        );
    }
    let rings = [(Key::UrbRingRef, "8"), (Key::ConnRingRef, "9"), (Key::EventChannel, "10")];
    let rings = rings.map(|(key, value)| (key, value.to_owned()));
    assert!(infallible(Rings::parse(reader(&folder(rings.clone())))).is_some());
    for (key, _) in &rings {
        for text in ["", "08", "-1", "8 ", "4294967296"] {
            let mut nodes = folder(rings.clone());
            nodes.insert(*key, text.to_owned());
            assert_eq!(infallible(Rings::parse(reader(&nodes))), None, "{key} {text:?}");
        }
        let mut nodes = folder(rings.clone());
        nodes.remove(key);
        assert_eq!(infallible(Rings::parse(reader(&nodes))), None, "{key}");
    }
}

#[test]
fn a_malformed_port_does_not_affect_the_others() {
    let config = config(&[
        (Key::Port(1), "../../etc"),
        (Key::Port(2), "1-4"),
        (Key::Device(2), "a stick"),
        (Key::Port(3), "1-4.2"),
        (Key::Device(3), "0781:5581:AB:CD"),
        (Key::Port(4), ""),
        (Key::Device(4), "0781:5581"),
        (Key::Port(5), "1-5"),
    ])
    .unwrap();
    assert_eq!(config.requested.keys().collect::<Vec<_>>(), [&3]);
    assert_eq!(config.requested[&3].identity.as_ref().unwrap().to_string(), "0781:5581:AB:CD");
    assert_eq!(
        config.invalid.into_iter().collect::<Vec<_>>(),
        [
            (1, "`../../etc` is not a bus id; write it as sysfs does: 1-4.2".to_owned()),
            (
                2,
                "`a stick` does not identify a device; write VENDOR:PRODUCT or VENDOR:PRODUCT:SERIAL"
                    .to_owned()
            ),
        ]
    );
}

#[test]
fn an_identity_is_an_id_and_a_serial_number() {
    for text in ["", "781:5581", "0781:5581:", "1-4", "003.014", "0781:558g"] {
        assert!(RequestedDevice::parse("1-4", Some(text)).is_err(), "{text:?}");
    }
    assert_eq!(RequestedDevice::parse("1-4", None).unwrap().identity, None);
}

#[test]
fn a_status_is_a_known_word() {
    for text in ["", "configured2", "Configured", " offered", "attached"] {
        assert_eq!(PortStatus::parse(text), None, "{text:?}");
    }
    assert_eq!(PortStatus::parse("offered at high speed"), Some(PortStatus::Offered));
    assert_eq!(PortStatus::parse("refused"), Some(PortStatus::Refused(String::new())));
}

#[test]
fn counters_of_another_version_are_read() {
    let text = "requests=7 bytes-in=512 bytes-out=31 errors=0 in-flight=1";
    let older = Counters::parse(text).unwrap();
    assert_eq!((older.requests, older.bytes_in, older.in_flight, older.wakeups), (7, 512, 1, 0));
    let newer = format!("delay=3us {text}  wakeups=9");
    assert_eq!(Counters::parse(&newer), Some(Counters { wakeups: 9, ..older }));
    for bad in ["", "requests=7", &text.replace("errors=0", "errors=-1"), &text.replace('=', ":")] {
        assert_eq!(Counters::parse(bad), None, "{bad:?}");
    }
    // The name of one counter may end like another's.
    let bytes = format!("all-errors=5 {text}");
    assert_eq!(Counters::parse(&bytes).unwrap().errors, 0);
}

#[test]
fn a_state_is_a_number_from_0_to_8() {
    assert_eq!(State::from_node("4"), State::Connected);
    for text in ["", "9", "04", "4 ", "Connected"] {
        assert_eq!(State::from_node(text), State::Unknown, "{text:?}");
    }
}

#[test]
fn a_backends_path_that_libxl_did_not_write_is_not_followed() {
    let service = |kind: &str, backend: &str| {
        let nodes = folder([(Key::Type, kind.to_owned()), (Key::Backend, backend.to_owned())]);
        infallible(LibxlController::parse(id(), reader(&nodes))).unwrap().service
    };
    for (kind, folder) in [("pv", "vusb"), ("qusb", "qusb")] {
        let good = service(kind, &format!("/local/domain/3/backend/{folder}/5/0"));
        assert!(
            matches!((kind, &good), ("pv", Service::Pv(_)) | ("qusb", Service::Qusb(_))),
            "{kind}: {good:?}"
        );
        for path in [
            "",
            "/local/domain/3/backend/vusb/5/1",
            "/local/domain/3/backend/vusb/6/0",
            "/local/domain/3/backend/vusb/5/0/",
            "/local/domain/3/backend/vusb/5/0/../../../../0",
            "/local/domain/03/backend/vusb/5/0",
            "/local/domain/x/backend/vusb/5/0",
            "/local/domain/3/device/vusb/5/0",
            "/local/domain/3/backend/vbd/5/0",
            "/libxl/3/backend/vusb/5/0",
        ] {
            assert_eq!(service(kind, path), Service::Unknown(kind.to_owned()), "{path}");
        }
    }
    assert_eq!(service("devicemodel", ""), Service::DeviceModel);
    assert_eq!(service("other", ""), Service::Unknown("other".to_owned()));
}

#[test]
fn invalid_values_in_libxls_folder_are_skipped() {
    let mut nodes = folder([(Key::Type, "devicemodel".to_owned())]);
    let read = |nodes: &Nodes| infallible(LibxlController::parse(id(), reader(nodes))).unwrap();
    let bare = read(&nodes);
    assert_eq!((bare.usb_version, bare.ports, bare.index, bare.name), (None, 0, None, None));
    nodes.extend([
        (Key::NumPorts, "200".to_owned()),
        (Key::UsbVer, "2.0".to_owned()),
        (Key::Index, "4096".to_owned()),
        (Key::Name, "-\u{1b}[2J".to_owned()),
    ]);
    let odd = read(&nodes);
    assert_eq!((odd.usb_version, odd.ports, odd.index, odd.name), (None, 31, None, None));
    nodes.remove(&Key::Type);
    assert_eq!(infallible(LibxlController::parse(id(), reader(&nodes))), None);
}

#[test]
fn an_exported_device_has_an_id_and_an_address() {
    let good = [(Key::Id, "0781:5581".to_owned()), (Key::Address, "003.014".to_owned())];
    let read =
        |nodes: &Nodes| infallible(ExportedDevice::parse("1-4".parse().unwrap(), reader(nodes)));
    let mut odd = folder(good.clone());
    odd.extend([
        (Key::Class, "xx".to_owned()),
        (Key::Speed, "warp".to_owned()),
        (Key::Speeds, "warp  high high".to_owned()),
        (Key::Serial, String::new()),
        (Key::Protection, String::new()),
    ]);
    let device = read(&odd).unwrap();
    assert_eq!(
        (device.class, device.speed, device.serial, device.protection),
        (0, None, None, None)
    );
    assert_eq!(device.speeds.iter().map(|it| it.to_string()).collect::<Vec<_>>(), ["high"]);
    for (key, texts) in [
        (Key::Id, ["", "0781", "0781:5581:AB", "1-4"]),
        (Key::Address, ["", "3", "1-4", "0781:5581"]),
    ] {
        for text in texts {
            let mut nodes = folder(good.clone());
            nodes.insert(key, text.to_owned());
            assert_eq!(read(&nodes), None, "{key} {text:?}");
        }
        let mut nodes = folder(good.clone());
        nodes.remove(&key);
        assert_eq!(read(&nodes), None, "{key}");
    }
}

proptest! {
    /// Reading a folder succeeds whatever it contains.
    #[test]
    fn any_text_can_be_read(texts in prop::collection::vec(".{0,20}|[0-9]{1,3}|1-4", 64)) {
        let keys = LAYOUT.iter().flat_map(|it| it.keys).copied();
        let mut nodes = folder(keys.zip(texts.iter().cloned()));
        nodes.entry(Key::Type).or_default();
        let _ = infallible(ControllerConfig::parse(reader(&nodes)));
        let _ = infallible(LibxlController::parse(id(), reader(&nodes)));
        let _ = infallible(ExportedDevice::parse("1-4".parse().unwrap(), reader(&nodes)));
        let _ = infallible(Rings::parse(reader(&nodes)));
        let _ = infallible(PortLabel::parse(1, reader(&nodes)));
        for text in &texts {
            let _ = (PortStatus::parse(text), Counters::parse(text), State::from_node(text));
        }
    }
}
