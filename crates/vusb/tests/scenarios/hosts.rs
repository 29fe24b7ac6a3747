//! Giving devices of this machine: which are given, which are not, and who has them.

use serde_json::json;
use vusb::model::spec::DeviceSpec;
use vusb::{Error, ExitCode};

use crate::house::{House, at};

fn house() -> House {
    let house = House::new();
    house.plug(4, "0781:5581", "A1");
    house
}

#[test]
fn a_device_that_is_not_plugged_in_is_not_found() {
    let house = house();
    let error = house.add("web", "0781:5590").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().contains("plug it in"), "{error}");
    assert!(!house.at("web.sim").exists());
}

#[test]
fn two_that_match_are_listed_and_a_better_selector_is_asked_for() {
    let house = house();
    house.plug(5, "0781:5581", "A2");
    let error = house.add("web", "0781:5581").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert!(error.to_string().contains("`0781:5581:A1` or `0781:5581:A2`"), "{error}");
    assert_eq!(at(&house.add("web", "0781:5581:A2").unwrap()), "hci0:1");
}

#[test]
fn a_second_of_its_kind_that_comes_later_is_free() {
    let house = house();
    house.add("web", "0781:5581").unwrap();
    house.plug(5, "0781:5581", "A2");
    // web has the one in port 4, whatever its selector matches by now.
    assert_eq!(house.add("mail", "1-4").unwrap_err().exit_code(), ExitCode::Busy);
    house.add("mail", "1-5").unwrap();
}

#[test]
fn what_this_machine_needs_is_given_by_force_alone_and_a_hub_never() {
    let house = house();
    house.keyboard(4);
    let error = house.add("web", "1-4").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy);
    assert!(error.to_string().contains("only keyboard"), "{error}");
    house
        .forced()
        .device_add(&house.guest("web"), &DeviceSpec::new("1-4".parse().unwrap()))
        .unwrap();

    house.plug(6, "05e3:0610", "");
    house.class(6, "09");
    for vusb in [house.vusb(), house.forced()] {
        let hub = DeviceSpec::new("05e3:0610".parse().unwrap());
        let error = vusb.device_add(&house.guest("web"), &hub).unwrap_err();
        assert!(matches!(error, Error::HostHub { .. }), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Policy);
    }
}

#[test]
fn one_device_is_one_domains_by_whatever_name() {
    let house = house();
    house.add("web", "0781:5581").unwrap();
    for name in ["0781:5581", "0781:5581:A1", "1-4", "001.014", "pci-0000:00:14.0-usb-0:4"] {
        let error = house.add("mail", name).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Busy, "{name}");
        let Error::Claimed { free, .. } = &error else { panic!("{error}") };
        assert_eq!(*free, format!("vusb device remove {} host0", house.guest("web")));
        // In the domain that has it, it is the same device.
        let again = house.add("web", name).unwrap();
        assert!(again.already && at(&again) == "hci0:1", "{name}");
    }
    let view = house.vusb().host_list().unwrap();
    let holder = view.devices[0].holder.as_ref().unwrap();
    assert_eq!((holder.name.as_str(), holder.at.as_str()), ("host0", "hci0:1"));
    house.remove("web", "0781:5581").unwrap();
    house.add("mail", "1-4").unwrap();
}

#[test]
fn an_address_is_kept_as_something_that_lasts() {
    let house = house();
    house.add("web", "001.014").unwrap();
    let device = house.record("web")["hardware"][0]["devices"][0].clone();
    assert_eq!(device["selector"], "pci-0000:00:14.0-usb-0:4");
    assert_eq!(house.record("web")["places"]["host0"], "pci-0000:00:14.0-usb-0:4");
    assert_eq!(house.sim("web")["given"]["host0"], json!({"bus": 1, "address": 14}));
}

#[test]
fn the_claim_of_a_domain_that_is_gone_holds_until_it_is_forced() {
    let house = house();
    house.add("web", "0781:5581").unwrap();
    house.set("web", "unreachable", json!("it was shut down"));
    let error = house.add("mail", "0781:5581").unwrap_err();
    let text = format!("{error}; {}", error.hints().join("; "));
    assert!(
        text.contains("which cannot be reached (") && text.contains("it was shut down"),
        "{text}"
    );
    assert!(text.contains("host0 --force`"), "{text}");

    let (web, host0) = (house.guest("web"), "host0".parse().unwrap());
    let all = house.vusb().list_all().unwrap();
    assert_eq!(all.unreachable[0].holds, ["0781:5581"]);
    let outcome = house.forced().device_remove(&web, &host0).unwrap();
    assert!(outcome.steps.is_empty() && outcome.notes[0].contains("only the record"));
    house.add("mail", "0781:5581").unwrap();
}

#[test]
fn a_device_that_is_unplugged_is_absent_and_can_be_taken_out() {
    let house = house();
    house.add("web", "0781:5581").unwrap();
    house.unplug(4);
    assert_eq!(house.shows("web"), "hci0[1 host0 absent]");
    assert!(house.add("web", "0781:5581").unwrap().already);
    house.add("web", "tablet").unwrap();
    house.remove("web", "0781:5581").unwrap();
    assert_eq!(house.shows("web"), "hci0[2 tablet0 attached]");
}

#[test]
fn a_spec_with_an_absent_device_does_the_rest_and_keeps_its_port() {
    let house = house();
    let text = "[[device]]\nhost = \"0781:5590\"\nname = \"stick\"\n[[device]]\nkind = \"tablet\"";
    let spec = house.spec("web", text);
    let outcome = house.vusb().apply(&spec).unwrap();
    assert!(outcome.notes[0].contains("stick (0781:5590) is not plugged into this machine"));
    assert_eq!(house.shows("web"), "hci0[1 stick absent; 2 tablet0 attached]");
    assert!(house.vusb().apply(&spec).unwrap().already);
    assert!(house.vusb().apply_recorded(&house.guest("web")).unwrap().already);

    house.plug(7, "0781:5590", "B");
    let outcome = house.vusb().apply(&spec).unwrap();
    assert_eq!(outcome.steps.len(), 1);
    assert_eq!(house.shows("web"), "hci0[1 stick attached; 2 tablet0 attached]");
}

#[test]
fn a_file_is_written_by_one_domain_and_read_by_many() {
    let house = house();
    let image = house.file("a.img", "");
    std::fs::hard_link(&image, house.at("b.img")).unwrap();
    house.add("web", "storage:a.img,readonly").unwrap();
    house.add("mail", "storage:b.img,readonly").unwrap();
    let error = house.add("ftp", "storage:a.img").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    house.remove("web", "storage0").unwrap();
    assert_eq!(house.add("ftp", "storage:a.img").unwrap_err().exit_code(), ExitCode::Busy);
    house.remove("mail", "storage0").unwrap();
    house.add("ftp", "storage:a.img").unwrap();
    assert_eq!(
        house.add("mail", "storage:b.img,readonly").unwrap_err().exit_code(),
        ExitCode::Busy
    );
}

#[test]
fn a_spec_leaves_a_device_alone_that_was_unplugged_after_it_was_given() {
    let house = house();
    let spec = house.spec("web", "[[device]]\nhost = \"0781:5581\"");
    house.vusb().apply(&spec).unwrap();
    house.unplug(4);
    let again = house.vusb().apply(&spec).unwrap();
    assert!(again.already && again.notes.is_empty(), "{again:?}");
    assert_eq!(house.shows("web"), "hci0[1 host0 absent]");
}

#[test]
fn what_the_hypervisor_says_is_absent_is_shown_so() {
    let house = house();
    house.add("web", "redir:tcp:127.0.0.1:4000").unwrap();
    house.set("web", "absent", json!(["redir0"]));
    assert_eq!(house.shows("web"), "hci0[1 redir0 absent]");
}

#[test]
fn what_was_pulled_out_and_plugged_in_again_is_not_attached() {
    let house = House::new();
    house.plug(4, "0781:5581", "A1");
    house.add("web", "0781:5581").unwrap();
    assert_eq!(house.shows("web"), "hci0[1 host0 attached]");
    // The hypervisor holds on to what was plugged in then.
    house.set("web", "given", json!({"host0": {"bus": 1, "address": 99}}));
    assert_eq!(house.shows("web"), "hci0[1 host0 absent]");
    let view = house.vusb().list(&house.guest("web")).unwrap();
    assert!(view.notes[0].contains("vusb apply sim:"), "{:?}", view.notes);
    house.vusb().apply_recorded(&house.guest("web")).unwrap();
    assert_eq!(house.shows("web"), "hci0[1 host0 attached]");
}
