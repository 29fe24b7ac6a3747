//! Adding, removing and listing, with valid and invalid requests.

use std::fs;
use std::path::Path;

use serde_json::json;
use vusb::model::spec::{ControllerSpec, DeviceSpec};
use vusb::{Advice, Error, ExitCode};

use crate::sandbox::{Sandbox, at, model, steps, texts};

#[test]
fn a_device_gets_a_controller_if_there_is_none() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.add("web", "tablet").unwrap();
    assert_eq!(at(&outcome), "hci0:1");
    assert_eq!(outcome.added_controllers.len(), 1);
    assert_eq!(
        steps(&outcome),
        ["add controller hci0 (qemu-xhci, 15 ports, index 0)", "plug tablet0 (tablet) into 0:1"]
    );
    assert_eq!(at(&sandbox.add("web", "mouse").unwrap()), "hci0:2");
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 mouse0 attached]");
    assert_eq!(sandbox.record("web")["managed"], json!(["hci0", "mouse0", "tablet0"]));
}

#[test]
fn repeating_a_request_succeeds_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.file("stick.img", "");
    let first = sandbox.add("web", "storage:stick.img").unwrap();
    assert!(!first.already);
    let again = sandbox.add("web", "storage:./stick.img").unwrap();
    assert!(again.already && again.steps.is_empty());
    assert_eq!(at(&again), at(&first));

    let guest = sandbox.guest("web");
    let named = |name: &str| vusb::model::spec::ControllerSpec {
        name: Some(name.parse().unwrap()),
        ..model("nec-xhci")
    };
    assert!(!sandbox.vusb().controller_add(&guest, &named("fast")).unwrap().already);
    let again = sandbox.vusb().controller_add(&guest, &named("fast")).unwrap();
    assert!(again.already && at(&again) == "fast");
}

#[test]
fn a_device_is_removed_by_name_by_port_and_by_selector() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    for (device, names) in
        [("tablet", ["tablet0", "hci0:1", "0:1"]), ("0781:5581", ["host0", "0781:5581", "1-4"])]
    {
        for name in names {
            sandbox.add("web", device).unwrap();
            let outcome = sandbox.remove("web", name).unwrap();
            assert_eq!(at(&outcome), "hci0:1", "{name}");
            assert_eq!(sandbox.shows("web"), "hci0[]");
        }
    }
    let error = sandbox.remove("web", "stick").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().ends_with("has no device stick: it has none"), "{error}");
}

#[test]
fn removing_a_controller_with_devices_needs_force() {
    let sandbox = Sandbox::new();
    for device in ["hub", "tablet"] {
        sandbox.add("web", device).unwrap();
    }
    let (guest, hci0) = (sandbox.guest("web"), "hci0".parse().unwrap());
    let error = sandbox.vusb().controller_remove(&guest, &hci0).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    let outcome = sandbox.forced().controller_remove(&guest, &hci0).unwrap();
    assert_eq!(outcome.steps.len(), 3);
    assert_eq!(sandbox.shows("web"), "");
    let error = sandbox.vusb().controller_remove(&guest, &hci0).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
}

#[test]
fn removing_a_hub_with_devices_behind_it_needs_force() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "hub").unwrap();
    let mut mouse = DeviceSpec::new("mouse".parse().unwrap());
    mouse.port = "1.1".parse().ok();
    sandbox.vusb().device_add(&sandbox.guest("web"), &mouse).unwrap();
    let error = sandbox.remove("web", "hub0").unwrap_err();
    assert!(matches!(&error, Error::HubInUse { devices, .. } if devices == "mouse0"), "{error}");
    sandbox.forced().device_remove(&sandbox.guest("web"), &"hub0".parse().unwrap()).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[]");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_changed() {
    let sandbox = Sandbox::new();
    let guest = sandbox.guest("web");
    sandbox.vusb().controller_add(&guest, &model("piix3-uhci")).unwrap();
    let onto = |device: &str| DeviceSpec {
        controller: Some("hci0".parse().unwrap()),
        ..DeviceSpec::new(device.parse().unwrap())
    };
    for _ in 0..2 {
        sandbox.vusb().device_add(&guest, &onto("tablet")).unwrap();
    }
    let before = sandbox.bytes();
    let full = sandbox.vusb().device_add(&guest, &onto("tablet")).unwrap_err();
    assert_eq!(full.exit_code(), ExitCode::NoRoom, "{full}");
    let cold = sandbox.vusb().controller_add(&guest, &model("ich9-ehci1")).unwrap_err();
    assert_eq!(cold.exit_code(), ExitCode::NotImplemented, "{cold}");
    let lost = sandbox.add("web", "storage:lost.img").unwrap_err();
    assert_eq!(lost.exit_code(), ExitCode::NotFound, "{lost}");
    let folder = sandbox.add("web", "storage:.").unwrap_err();
    assert_eq!(folder.exit_code(), ExitCode::Usage, "{folder}");
    assert!(sandbox.bytes() == before);
}

#[test]
fn a_raw_image_with_a_qcow2_header_is_refused() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.at("disk.img"), b"QFI\xfb more").unwrap();
    let error = sandbox.add("web", "storage:disk.img").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy);
    // A guest may have written the header, so the advice must not be to believe it.
    let distrust = Advice::DistrustHeader { format: "qcow".to_owned() };
    assert_eq!(error.advice(), [distrust, Advice::ConvertToRaw]);
    sandbox.add("web", "storage:disk.img,format=qcow2").unwrap();
    let raw = DeviceSpec::new("storage:disk.img".parse().unwrap());
    sandbox.forced().device_add(&sandbox.guest("other"), &raw).unwrap_err();
    sandbox.remove("web", "storage0").unwrap();
    sandbox.forced().device_add(&sandbox.guest("other"), &raw).unwrap();
}

#[test]
fn after_a_restart_items_are_missing_keep_their_addresses_and_are_restored() {
    let sandbox = Sandbox::new();
    for device in ["tablet", "hub"] {
        sandbox.add("web", device).unwrap();
    }
    let pci = sandbox.record("web")["hardware"][0]["pci"].clone();
    assert_eq!(pci["bus"], "pci.0", "reported by the hypervisor");
    sandbox.restart("web");
    assert_eq!(sandbox.shows("web"), "hci0 missing[1 tablet0 missing; 2 hub0 missing]");

    // The ports of missing devices stay taken. A new device restores only what it needs.
    let outcome = sandbox.add("web", "mouse").unwrap();
    assert_eq!(at(&outcome), "hci0:3");
    assert_eq!(
        texts(&outcome.notes),
        ["restored what the device needs and the guest lacked: hci0"]
    );
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 missing; 2 hub0 missing; 3 mouse0 attached]");

    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(outcome.steps.len(), 2);
    assert_eq!(
        sandbox.shows("web"),
        "hci0[1 tablet0 attached; 2 hub0 attached; 3 mouse0 attached]"
    );
    assert_eq!(sandbox.record("web")["hardware"][0]["pci"], pci, "frozen");
    assert!(sandbox.vusb().restore(&sandbox.guest("web")).unwrap().already);
}

#[test]
fn a_missing_item_can_be_forgotten_or_requested_again() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    for device in ["tablet", "storage:a.img"] {
        sandbox.add("web", device).unwrap();
    }
    sandbox.restart("web");
    let again = sandbox.add("web", "storage:a.img").unwrap();
    assert_eq!((again.already, at(&again)), (false, "hci0:2".to_owned()));
    let gone = sandbox.remove("web", "tablet0").unwrap();
    assert!(gone.already && gone.steps.is_empty());
    assert_eq!(texts(&gone.notes), ["tablet0 was already gone"]);
    assert_eq!(sandbox.shows("web"), "hci0[2 storage0 attached]");
}

#[test]
fn a_dry_run_reports_the_steps_and_takes_none() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    let guest = sandbox.guest("web");
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    let nothing = sandbox.bytes();
    let planned = sandbox.dry().device_add(&guest, &stick).unwrap();
    assert!(planned.dry_run);
    assert!(sandbox.bytes() == nothing, "not even a folder");
    let done = sandbox.vusb().device_add(&guest, &stick).unwrap();
    assert_eq!(steps(&planned), steps(&done));
    assert_eq!((at(&planned), planned.hardware.devices().count()), (at(&done), 1));

    let before = sandbox.bytes();
    sandbox.dry().device_remove(&guest, &"storage0".parse().unwrap()).unwrap();
    sandbox.dry().controller_add(&guest, &model("nec-xhci")).unwrap();
    sandbox.dry().restore(&guest).unwrap();
    sandbox.vusb().list(&guest).unwrap();
    sandbox.vusb().plan(&sandbox.spec("web", "[[device]]\nkind = \"mouse\"")).unwrap();
    let without_spec: Vec<_> =
        sandbox.bytes().into_iter().filter(|(path, _)| !path.ends_with("web.toml")).collect();
    assert!(without_spec == before);
}

#[test]
fn a_damaged_record_is_named_and_never_overwritten() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    let path = sandbox.records().remove(0);
    fs::write(&path, "{ \"vusb\": 1, ").unwrap();
    let sim = sandbox.sim("web");
    for error in [
        sandbox.add("web", "mouse").unwrap_err(),
        sandbox.remove("web", "tablet0").unwrap_err(),
        sandbox.vusb().list(&sandbox.guest("web")).unwrap_err(),
    ] {
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(error.advice(), [Advice::RepairRecord]);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ \"vusb\": 1, ");
    assert_eq!(sandbox.sim("web"), sim);
    let all = sandbox.vusb().list_all().unwrap();
    assert_eq!((all.domains.len(), all.unreachable.len()), (0, 1));
    let error = sandbox.vusb().domain("web").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_list_shows_controllers_with_their_devices() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.set("web", "foreign", json!(["hci0"]));
    // Items that vusb recorded as managed stay managed, so the record is removed.
    fs::remove_file(sandbox.records().remove(0)).unwrap();
    let view = serde_json::to_value(sandbox.vusb().list(&sandbox.guest("web")).unwrap()).unwrap();
    let address = sandbox.guest("web").to_string();
    assert_eq!(
        view,
        json!({
            "api": 1, "domain": address, "address": address, "state": "running",
            "suspended": false, "profile": "vusb-1",
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
    let sandbox = Sandbox::new();
    let vusb = sandbox.vusb();
    for (text, code) in
        [("web", ExitCode::NotFound), ("xen:", ExitCode::Usage), ("sim:", ExitCode::Usage)]
    {
        assert_eq!(vusb.domain(text).unwrap_err().exit_code(), code, "{text}");
    }
    vusb.apply(&sandbox.spec("web", "")).unwrap();
    assert_eq!(vusb.domain("web").unwrap(), sandbox.guest("web"));
    let error = vusb.domain("wob").unwrap_err();
    assert!(error.to_string().contains("web (sim:/"), "{error}");
    let spec = vusb.domain("web.toml").unwrap();
    assert!(vusb.list(&spec).unwrap().controllers.is_empty(), "the file takes precedence");
    assert_eq!(vusb.digest(&spec).unwrap(), vusb.digest(&sandbox.guest("web")).unwrap());
}

#[test]
fn a_controller_that_is_requested_by_hand_stays_when_no_device_needs_it() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let named =
        |name: &str| ControllerSpec { name: name.parse().ok(), ..ControllerSpec::default() };
    sandbox.add("web", "tablet").unwrap();
    assert!(vusb.controller_add(&guest, &named("hci0")).unwrap().already);
    sandbox.remove("web", "tablet0").unwrap();
    let nothing = sandbox.spec("web", "");
    let outcome = vusb.apply(&nothing).unwrap();
    assert_eq!(texts(&outcome.notes), ["kept: added by hand and not in the spec: hci0"]);
    // A controller of a spec still belongs to the spec after it is requested by hand.
    vusb.apply(&sandbox.spec("web", "[[controller]]\nname = \"usb\"")).unwrap();
    assert!(vusb.controller_add(&guest, &named("usb")).unwrap().already);
    vusb.apply(&nothing).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[]");
}

#[test]
fn a_removed_controller_is_named_even_if_it_was_already_gone() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let hci0 = "hci0".parse().unwrap();
    for is_there in [true, false] {
        vusb.controller_add(&guest, &model("nec-xhci")).unwrap();
        if !is_there {
            sandbox.restart("web");
        }
        let outcome = vusb.controller_remove(&guest, &hci0).unwrap();
        assert_eq!((outcome.already, at(&outcome).as_str()), (!is_there, "hci0"));
        assert_eq!(outcome.steps.is_empty(), !is_there);
        let notes: &[&str] = if is_there { &[] } else { &["hci0 was already gone"] };
        assert_eq!(texts(&outcome.notes), notes);
        assert_eq!(sandbox.shows("web"), "");
    }
}

#[test]
fn a_missing_controller_keeps_its_pci_address_beside_others() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    for name in ["nec-xhci", "qemu-xhci"] {
        vusb.controller_add(&guest, &model(name)).unwrap();
    }
    let before = sandbox.record("web")["hardware"].clone();
    sandbox.restart("web");
    let mut mouse = DeviceSpec::new("mouse".parse().unwrap());
    mouse.controller = Some("hci1".parse().unwrap());
    vusb.device_add(&guest, &mouse).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0 missing[] hci1[1 mouse0 attached]");
    for number in 0..2 {
        assert_eq!(sandbox.record("web")["hardware"][number]["pci"], before[number]["pci"]);
    }
}

#[test]
fn a_damaged_record_is_listed_by_its_file() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    let path = sandbox.records().remove(0);
    fs::write(&path, "{").unwrap();
    let (vusb, path) = (sandbox.vusb(), path.to_str().unwrap());
    let all = vusb.list_all().unwrap();
    assert_eq!(all.unreachable[0].domain, path);
    let all = vusb.context.restore_all(&vusb.options).unwrap();
    assert_eq!((all.domains[0].domain.as_str(), all.domains[0].address.as_str()), (path, path));
    assert_eq!(json!(all.domains[0].state), "failed");
}

/// Such a record may hold devices: it is listed with the reason why it cannot be read, and nothing
/// waits for a pipe.
#[test]
fn a_record_that_is_no_regular_file_is_damaged() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    let path = sandbox.records().remove(0);
    let away = sandbox.at("away");
    fs::rename(&path, &away).unwrap();
    let mkfifo = || {
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
    };
    let symlink = |target: &Path| std::os::unix::fs::symlink(target, &path).unwrap();
    let kinds: [(&dyn Fn(), &str); 4] = [
        (&|| fs::create_dir(&path).unwrap(), "it is not a regular file"),
        (&mkfifo, "it is not a regular file"),
        (&|| symlink(&away), "it is a symbolic link"),
        (&|| symlink(Path::new("/nowhere")), "it is a symbolic link"),
    ];
    for (make, why) in kinds {
        make();
        let vusb = sandbox.vusb();
        let domains = vusb.context.domains(&vusb.options).unwrap();
        assert_eq!(domains.damaged.len(), 1, "{why}: {domains:?}");
        assert_eq!((&domains.damaged[0].path, domains.damaged[0].why.as_str()), (&path, why));
        let all = vusb.list_all().unwrap();
        assert_eq!(all.unreachable[0].domain, path.to_str().unwrap(), "{why}");
        let error = sandbox.add("web", "mouse").unwrap_err();
        assert!(matches!(error, Error::Record { .. }), "{error}");
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    }
}

/// A move onto a controller that is missing restores the controller.
#[test]
fn a_device_is_moved_onto_a_controller_that_is_restored_for_it() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    for name in ["qemu-xhci", "nec-xhci"] {
        vusb.controller_add(&guest, &model(name)).unwrap();
    }
    sandbox.add("web", "tablet").unwrap();
    sandbox.restart("web");
    sandbox.add("web", "mouse").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 missing; 2 mouse0 attached] hci1 missing[]");
    let moved = |device: &str| {
        let to = vusb::Destination { controller: "hci1".parse().ok(), port: None };
        vusb.context.device_move(&guest, &device.parse().unwrap(), &to, &vusb.options).unwrap()
    };
    // A missing device is moved without restoring the controller.
    assert_eq!(moved("tablet0").steps.len(), 0);
    assert_eq!(sandbox.shows("web"), "hci0[2 mouse0 attached] hci1 missing[1 tablet0 missing]");
    assert_eq!(moved("mouse0").steps.len(), 3);
    assert_eq!(sandbox.shows("web"), "hci0[] hci1[1 tablet0 missing; 2 mouse0 attached]");
}

#[test]
fn only_an_image_with_other_files_is_noted() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    sandbox.add("web", "tablet").unwrap();
    let outcome = sandbox.add("web", "storage:a.img").unwrap();
    assert_eq!(outcome.notes, []);
}

#[test]
fn several_devices_are_already_there_only_if_all_of_them_are() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let add = |names: &[&str]| {
        let spec = |name: &&str| DeviceSpec::new(format!("storage:{name}").parse().unwrap());
        let specs: Vec<DeviceSpec> = names.iter().map(spec).collect();
        vusb.context.device_add_all(&guest, &specs, &vusb.options).unwrap()
    };
    for name in ["a.img", "b.img", "c.img"] {
        sandbox.file(name, "");
    }
    let each = |outcome: &vusb::Outcome| -> Vec<bool> {
        outcome.devices.iter().map(|it| it.already).collect()
    };
    let first = add(&["a.img", "b.img"]);
    assert_eq!((first.already, each(&first)), (false, vec![false, false]));
    let more = add(&["b.img", "c.img"]);
    assert_eq!((more.already, each(&more)), (false, vec![true, false]));
    let again = add(&["a.img", "c.img"]);
    assert_eq!((again.already, each(&again)), (true, vec![true, true]));
}
