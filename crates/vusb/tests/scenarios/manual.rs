//! Adding, removing and listing, when all goes well and when the request is at fault.

use std::fs;

use serde_json::json;
use vusb::model::spec::DeviceSpec;
use vusb::{Error, ExitCode};

use crate::house::{House, at, model, steps};

#[test]
fn a_device_gets_a_controller_if_there_is_none() {
    let house = House::new();
    let outcome = house.add("web", "tablet").unwrap();
    assert_eq!(at(&outcome), "hci0:1");
    assert_eq!(outcome.added_controllers.len(), 1);
    assert_eq!(
        steps(&outcome),
        ["add controller hci0 (qemu-xhci, 15 ports, index 0)", "plug tablet0 (tablet) into 0:1"]
    );
    assert_eq!(at(&house.add("web", "mouse").unwrap()), "hci0:2");
    assert_eq!(house.shows("web"), "hci0[1 tablet0 attached; 2 mouse0 attached]");
    assert_eq!(house.record("web")["managed"], json!(["hci0", "mouse0", "tablet0"]));
}

#[test]
fn doing_again_what_is_so_succeeds_and_says_so() {
    let house = House::new();
    house.file("stick.img", "");
    let first = house.add("web", "storage:stick.img").unwrap();
    assert!(!first.already);
    let again = house.add("web", "storage:./stick.img").unwrap();
    assert!(again.already && again.steps.is_empty());
    assert_eq!(at(&again), at(&first));

    let guest = house.guest("web");
    let named = |name: &str| vusb::model::spec::ControllerSpec {
        name: Some(name.parse().unwrap()),
        ..model("nec-xhci")
    };
    assert!(!house.vusb().controller_add(&guest, &named("fast")).unwrap().already);
    let again = house.vusb().controller_add(&guest, &named("fast")).unwrap();
    assert!(again.already && at(&again) == "fast");
}

#[test]
fn a_device_is_removed_by_name_by_port_and_by_selector() {
    let house = House::new();
    house.plug(4, "0781:5581", "A1");
    for (device, names) in
        [("tablet", ["tablet0", "hci0:1", "0:1"]), ("0781:5581", ["host0", "0781:5581", "1-4"])]
    {
        for name in names {
            house.add("web", device).unwrap();
            let outcome = house.remove("web", name).unwrap();
            assert_eq!(at(&outcome), "hci0:1", "{name}");
            assert_eq!(house.shows("web"), "hci0[]");
        }
    }
    let error = house.remove("web", "stick").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().ends_with("has no device stick: it has none"), "{error}");
}

#[test]
fn a_controller_with_devices_is_removed_by_force_alone() {
    let house = House::new();
    for device in ["hub", "tablet"] {
        house.add("web", device).unwrap();
    }
    let (guest, hci0) = (house.guest("web"), "hci0".parse().unwrap());
    let error = house.vusb().controller_remove(&guest, &hci0).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    let outcome = house.forced().controller_remove(&guest, &hci0).unwrap();
    assert_eq!(outcome.steps.len(), 3);
    assert_eq!(house.shows("web"), "");
    let error = house.vusb().controller_remove(&guest, &hci0).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
}

#[test]
fn a_hub_with_devices_behind_it_is_removed_by_force_alone() {
    let house = House::new();
    house.add("web", "hub").unwrap();
    let mut mouse = DeviceSpec::new("mouse".parse().unwrap());
    mouse.port = "1.1".parse().ok();
    house.vusb().device_add(&house.guest("web"), &mouse).unwrap();
    let error = house.remove("web", "hub0").unwrap_err();
    assert!(matches!(&error, Error::HubInUse { devices, .. } if devices == "mouse0"), "{error}");
    house.forced().device_remove(&house.guest("web"), &"hub0".parse().unwrap()).unwrap();
    assert_eq!(house.shows("web"), "hci0[]");
}

#[test]
fn what_there_is_no_room_for_is_refused_before_anything_is_touched() {
    let house = House::new();
    let guest = house.guest("web");
    house.vusb().controller_add(&guest, &model("piix3-uhci")).unwrap();
    let onto = |device: &str| DeviceSpec {
        controller: Some("hci0".parse().unwrap()),
        ..DeviceSpec::new(device.parse().unwrap())
    };
    for _ in 0..2 {
        house.vusb().device_add(&guest, &onto("tablet")).unwrap();
    }
    let before = house.bytes();
    let full = house.vusb().device_add(&guest, &onto("tablet")).unwrap_err();
    assert_eq!(full.exit_code(), ExitCode::NoRoom, "{full}");
    let cold = house.vusb().controller_add(&guest, &model("ich9-ehci1")).unwrap_err();
    assert_eq!(cold.exit_code(), ExitCode::NotImplemented, "{cold}");
    let lost = house.add("web", "storage:lost.img").unwrap_err();
    assert_eq!(lost.exit_code(), ExitCode::NotFound, "{lost}");
    let folder = house.add("web", "storage:.").unwrap_err();
    assert_eq!(folder.exit_code(), ExitCode::Usage, "{folder}");
    assert!(house.bytes() == before);
}

#[test]
fn a_raw_image_that_is_a_qcow2_is_not_given_unawares() {
    let house = House::new();
    fs::write(house.at("disk.img"), b"QFI\xfb more").unwrap();
    let error = house.add("web", "storage:disk.img").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy);
    assert!(error.hints()[0].contains("format=qcow2"));
    house.add("web", "storage:disk.img,format=qcow2").unwrap();
    let raw = DeviceSpec::new("storage:disk.img".parse().unwrap());
    house.forced().device_add(&house.guest("other"), &raw).unwrap_err();
    house.remove("web", "storage0").unwrap();
    house.forced().device_add(&house.guest("other"), &raw).unwrap();
}

#[test]
fn after_a_restart_things_are_missing_keep_their_places_and_are_put_back() {
    let house = House::new();
    for device in ["tablet", "hub"] {
        house.add("web", device).unwrap();
    }
    let pci = house.record("web")["hardware"][0]["pci"].clone();
    assert_eq!(pci["bus"], "pci.0", "learnt from the hypervisor");
    house.restart("web");
    assert_eq!(house.shows("web"), "hci0 missing[1 tablet0 missing; 2 hub0 missing]");

    // A new device finds the places of the missing ones taken, and brings back only what it needs.
    let outcome = house.add("web", "mouse").unwrap();
    assert_eq!(at(&outcome), "hci0:3");
    assert_eq!(outcome.notes, ["put back what the device needs, and the guest had no more: hci0"]);
    assert_eq!(house.shows("web"), "hci0[1 tablet0 missing; 2 hub0 missing; 3 mouse0 attached]");

    let outcome = house.vusb().apply_recorded(&house.guest("web")).unwrap();
    assert_eq!(outcome.steps.len(), 2);
    assert_eq!(house.shows("web"), "hci0[1 tablet0 attached; 2 hub0 attached; 3 mouse0 attached]");
    assert_eq!(house.record("web")["hardware"][0]["pci"], pci, "frozen");
    assert!(house.vusb().apply_recorded(&house.guest("web")).unwrap().already);
}

#[test]
fn what_is_missing_can_be_forgotten_or_asked_for_again() {
    let house = House::new();
    house.file("a.img", "");
    for device in ["tablet", "storage:a.img"] {
        house.add("web", device).unwrap();
    }
    house.restart("web");
    let again = house.add("web", "storage:a.img").unwrap();
    assert_eq!((again.already, at(&again)), (false, "hci0:2".to_owned()));
    let gone = house.remove("web", "tablet0").unwrap();
    assert!(gone.already && gone.steps.is_empty());
    assert_eq!(gone.notes, ["tablet0 was gone already"]);
    assert_eq!(house.shows("web"), "hci0[2 storage0 attached]");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let house = House::new();
    house.file("a.img", "");
    let guest = house.guest("web");
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    let nothing = house.bytes();
    let planned = house.dry().device_add(&guest, &stick).unwrap();
    assert!(planned.dry_run);
    assert!(house.bytes() == nothing, "not even a folder");
    let done = house.vusb().device_add(&guest, &stick).unwrap();
    assert_eq!(steps(&planned), steps(&done));
    assert_eq!((at(&planned), planned.hardware.devices().count()), (at(&done), 1));

    let before = house.bytes();
    house.dry().device_remove(&guest, &"storage0".parse().unwrap()).unwrap();
    house.dry().controller_add(&guest, &model("nec-xhci")).unwrap();
    house.dry().apply_recorded(&guest).unwrap();
    house.vusb().list(&guest).unwrap();
    house.vusb().plan(&house.spec("web", "[[device]]\nkind = \"mouse\"")).unwrap();
    let without_spec: Vec<_> =
        house.bytes().into_iter().filter(|(path, _)| !path.ends_with("web.toml")).collect();
    assert!(without_spec == before);
}

#[test]
fn a_damaged_record_is_named_and_never_overwritten() {
    let house = House::new();
    house.add("web", "tablet").unwrap();
    let path = house.records().remove(0);
    fs::write(&path, "{ \"vusb\": 1, ").unwrap();
    let sim = house.sim("web");
    for error in [
        house.add("web", "mouse").unwrap_err(),
        house.remove("web", "tablet0").unwrap_err(),
        house.vusb().list(&house.guest("web")).unwrap_err(),
    ] {
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.hints()[0].contains("move it away"));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ \"vusb\": 1, ");
    assert_eq!(house.sim("web"), sim);
    let all = house.vusb().list_all().unwrap();
    assert_eq!((all.domains.len(), all.unreachable.len()), (0, 1));
    let error = house.vusb().domain("web").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_list_looks_like_this() {
    let house = House::new();
    house.plug(4, "0781:5581", "A1");
    house.add("web", "0781:5581").unwrap();
    house.set("web", "foreign", json!(["hci0"]));
    // What vusb once recorded as its own stays its own; so look with fresh eyes.
    fs::remove_file(house.records().remove(0)).unwrap();
    let view = serde_json::to_value(house.vusb().list(&house.guest("web")).unwrap()).unwrap();
    let address = house.guest("web").to_string();
    assert_eq!(
        view,
        json!({
            "api": 1, "domain": address, "address": address, "profile": "vusb-1",
            "controllers": [{
                "index": 0, "name": "hci0", "type": "emulated", "model": "qemu-xhci", "usbversion": 3,
                "ports": 15, "pci": {"bus": "pci.0", "slot": 4, "function": 0},
                "origin": "other", "state": "present",
                "devices": [{
                    "port": "1", "name": "host0", "kind": "host", "selector": "0781:5581",
                    "speeds": ["high"], "state": "attached", "origin": "vusb",
                }],
            }],
            "foreign": [], "notes": [],
        })
    );
}

#[test]
fn domains_are_named_by_address_or_by_the_name_in_their_spec() {
    let house = House::new();
    let vusb = house.vusb();
    for (text, code) in
        [("web", ExitCode::NotFound), ("xen:", ExitCode::Usage), ("sim:", ExitCode::Usage)]
    {
        assert_eq!(vusb.domain(text).unwrap_err().exit_code(), code, "{text}");
    }
    vusb.apply(&house.spec("web", "")).unwrap();
    assert_eq!(vusb.domain("web").unwrap(), house.guest("web"));
    let error = vusb.domain("wob").unwrap_err();
    assert!(error.to_string().contains("web (sim:/"), "{error}");
    let spec = vusb.domain("web.toml").unwrap();
    assert!(vusb.list(&spec).unwrap().controllers.is_empty(), "it is the file that is meant");
    assert_eq!(vusb.digest(&spec).unwrap(), vusb.digest(&house.guest("web")).unwrap());
}
