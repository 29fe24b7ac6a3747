//! QEMUs whose host devices have product strings that imitate and hide devices in `info qtree`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use vusb_drivers::qemu::Qemu;
use vusb_drivers::qemu::fuzzing::{HostileGuest, hostile};
use vusb_drivers::{Driver, Error};
use vusb_model::hardware::Hardware;

/// A QEMU that answers commands as `answer` does, or refuses them. Every `device_del` is confirmed.
/// Returns the driver for it.
fn qemu(
    answer: impl Fn(&str, &Value) -> Option<Value> + Send + 'static,
) -> (Qemu, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("qmp");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut out = stream.try_clone().unwrap();
        let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""});
        writeln!(out, "{}", json!({"QMP": {"version": version, "capabilities": []}})).unwrap();
        for line in BufReader::new(stream).lines() {
            let command: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let (name, arguments) = (command["execute"].as_str().unwrap(), &command["arguments"]);
            let answer = match name {
                "qmp_capabilities" | "device_del" => Some(json!({})),
                name => answer(name, arguments),
            };
            let refusal = json!({"class": "DeviceNotFound", "desc": "not found"});
            let mut reply = match answer {
                Some(answer) => json!({"return": answer}),
                None => json!({"error": refusal}),
            };
            reply["id"] = command["id"].clone();
            let deleted =
                json!({"event": "DEVICE_DELETED", "data": {"device": arguments["id"], "path": ""}});
            let deleted = if name == "device_del" { format!("{deleted}\n") } else { String::new() };
            let _ = write!(out, "{reply}\n{deleted}");
        }
    });
    (Qemu::at(&socket, Duration::from_secs(30)), dir)
}

// The form of a device, as `HostileGuest::from_bytes` reads it.
const NAMED: u8 = 4;
const ATTACHED: u8 = 16;
const KEYBOARD: [u8; 1] = [2 | NAMED];

/// A host device with this product string, as `HostileGuest::from_bytes` reads it.
fn host(form: u8, product: &str) -> Vec<u8> {
    assert!(product.len() <= 31, "{product:?}");
    let mut bytes = vec![form, u8::try_from(product.len()).unwrap()];
    bytes.extend(product.bytes());
    bytes
}

/// A keyboard `d1`, and a newer host device `d2` on the same bus.
fn keyboard_and(host: &[u8]) -> HostileGuest {
    HostileGuest::from_bytes(&[&KEYBOARD, host].concat())
}

/// A string that ends the bus, and begins another one that takes the devices after it.
const HIDING: &str = "x\n    bus: aaaaaaaaaaaaaaaaaaaa";

/// While the host device is attached, its string hides nothing, and what is behind it can be
/// removed.
#[test]
fn an_attached_host_device_hides_nothing() {
    let guest = keyboard_and(&host(NAMED | ATTACHED, HIDING));
    let (mut driver, _dir) = qemu(move |command, arguments| guest.answer(command, arguments));
    let hardware = driver.observe(&Hardware::new()).unwrap().hardware;
    let devices: Vec<String> =
        hardware.devices().map(|(at, device)| format!("{at} {}", device.name)).collect();
    assert_eq!(devices, ["0:1 d1", "0:2 d2"]);
    let mut without = Hardware::new();
    for controller in hardware.controllers() {
        without.add_controller(controller.without_devices()).unwrap();
    }
    for step in vusb_model::diff::diff(&hardware, &without) {
        driver.perform(&step).unwrap();
    }
}

/// A string whose end is not known hides a device that the object model has. The error names the
/// device, with a record and without one.
#[test]
fn a_hidden_device_is_an_error_that_names_it() {
    let attached = keyboard_and(&host(NAMED | ATTACHED, HIDING));
    let (mut driver, _dir) = qemu(move |command, arguments| attached.answer(command, arguments));
    let recorded = driver.observe(&Hardware::new()).unwrap().hardware;
    for recorded in [Hardware::new(), recorded] {
        let guest = keyboard_and(&host(NAMED, HIDING));
        let (mut driver, _dir) = qemu(move |command, arguments| guest.answer(command, arguments));
        let error = driver.observe(&recorded).unwrap_err();
        assert!(matches!(error, Error::Confused { .. }), "{error}");
        assert!(error.to_string().contains("about vusb-d1 (usb-kbd)"), "{error}");
    }
}

/// What is recorded is only gone if the object model agrees, even if the tree has no host device.
#[test]
fn a_recorded_device_is_not_gone_because_the_tree_lacks_it() {
    let guest = || HostileGuest::from_bytes(&KEYBOARD);
    let (mut driver, _dir) = qemu(move |command, arguments| guest().answer(command, arguments));
    let recorded = driver.observe(&Hardware::new()).unwrap().hardware;
    assert_eq!(recorded.devices().count(), 1);
    let (mut driver, _dir) = qemu(move |command, arguments| match command {
        "human-monitor-command" => Some(HostileGuest::from_bytes(&[]).tree().into()),
        command => guest().answer(command, arguments),
    });
    let error = driver.observe(&recorded).unwrap_err();
    assert!(error.to_string().contains("about vusb-d1 (usb-kbd)"), "{error}");
    // Without the object it is gone.
    let (mut driver, _dir) =
        qemu(move |command, arguments| HostileGuest::from_bytes(&[]).answer(command, arguments));
    assert_eq!(driver.observe(&recorded).unwrap().hardware.devices().count(), 0);
}

/// Without answers from the object model, nothing is confirmed.
#[test]
fn a_tree_that_cannot_be_confirmed_is_an_error() {
    let guest = keyboard_and(&host(NAMED | ATTACHED, "Stick"));
    let (mut driver, _dir) = qemu(move |command, arguments| match command {
        "qom-list-types" => None,
        command => guest.answer(command, arguments),
    });
    let error = driver.observe(&Hardware::new()).unwrap_err();
    assert!(
        error.to_string().contains("cannot be confirmed, because it answered: not found"),
        "{error}"
    );
}

/// Parts of product strings that imitate lines.
fn product() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("\n".to_owned()),
        Just("\n".to_owned()),
        (0usize..12).prop_map(|spaces| " ".repeat(spaces)),
        Just("dev: a, id \"\"".to_owned()),
        Just("dev: usb-kbd, id \"vusb-d1\"".to_owned()),
        Just("dev: usb-host, id \"\"".to_owned()),
        Just("bus: b".to_owned()),
        Just("bus: x.0".to_owned()),
        Just("type usb-bus".to_owned()),
        Just("type PCI".to_owned()),
        Just("addr , port 9, speed 1".to_owned()),
        Just("addr = 9.0".to_owned()),
        Just(", attached".to_owned()),
        Just("\r".to_owned()),
        "[ -~]{0,6}",
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| {
        let text = parts.concat();
        text.chars().take(31).collect()
    })
}

fn device() -> impl Strategy<Value = Vec<u8>> {
    let host = (0u8..32, product()).prop_map(|(form, product)| host(form & !2, &product));
    prop_oneof![host, (0u8..32).prop_map(|form| vec![form | 2])]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// With several hostile devices, either every device is found at its port, or the contradiction
    /// is reported.
    #[test]
    fn hostile_strings_neither_hide_nor_move_devices(devices in prop::collection::vec(device(), 0..8)) {
        prop_assert_eq!(hostile(&devices.concat()), Ok(()));
    }

    #[test]
    fn hostile_bytes_neither_hide_nor_move_devices(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(hostile(&bytes), Ok(()));
    }
}
