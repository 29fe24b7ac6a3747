//! Making a guest what a spec says, again and again.

use serde_json::json;
use vusb::Settings;

use crate::house::{House, model, steps};

const TWO: &str = "[[controller]]\nusbversion = 1\n[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"tablet\"\n\
                   [[device]]\nkind = \"mtp\"\ndir = \".\"";

#[test]
fn applying_twice_is_applying_once() {
    let house = House::new();
    let spec = house.spec("web", TWO);
    let planned = house.vusb().plan(&spec).unwrap();
    let outcome = house.vusb().apply(&spec).unwrap();
    assert_eq!(steps(&planned), steps(&outcome));
    assert_eq!(outcome.steps.len(), 5, "{:?}", steps(&outcome));
    assert_eq!(outcome.added_controllers.len(), 1, "for the player runs at high speed");
    let again = house.vusb().apply(&spec).unwrap();
    assert!(again.already && again.added_controllers.is_empty(), "{:?}", steps(&again));
    assert_eq!(house.record("web")["name"], "web");
}

#[test]
fn what_the_spec_has_no_more_goes_and_the_rest_is_not_touched() {
    let house = House::new();
    house.vusb().apply(&house.spec("web", TWO)).unwrap();
    house.add("web", "ccid").unwrap();
    let less =
        TWO.replacen("[[device]]\nkind = \"tablet\"\n", "", 1) + "\n[[device]]\nkind = \"hub\"";
    let outcome = house.vusb().apply(&house.spec("web", &less)).unwrap();
    assert_eq!(
        steps(&outcome),
        [
            "unplug tablet1 (tablet) from 0:2",
            "unplug ccid0 (ccid) from 1:2",
            "plug hub0 (hub) into 0:2"
        ]
    );
    let outcome = house.vusb().apply(&house.spec("web", "")).unwrap();
    assert_eq!(outcome.steps.len(), 5);
    assert_eq!(house.shows("web"), "");
}

#[test]
fn a_controller_that_is_asked_for_otherwise_is_replaced() {
    let house = House::new();
    let version = |it: u8| {
        format!("[[controller]]\nname = \"usb\"\nusbversion = {it}\n[[device]]\nkind = \"tablet\"")
    };
    house.vusb().apply(&house.spec("web", &version(1))).unwrap();
    let outcome = house.vusb().apply(&house.spec("web", &version(3))).unwrap();
    assert_eq!(outcome.steps.len(), 4, "{:?}", steps(&outcome));
    assert!(house.vusb().apply(&house.spec("web", &version(3))).unwrap().already);
}

#[test]
fn what_another_tool_made_is_left_alone_and_named() {
    let house = House::new();
    house.add("web", "tablet").unwrap();
    house.set("web", "foreign", json!(["hci0", "tablet0"]));
    std::fs::remove_dir_all(house.at("state")).unwrap();
    // The guest's own controller has room, so the spec's tablet goes onto it; it is not the tablet that is there.
    let spec = house.spec("web", "[[device]]\nkind = \"mouse\"");
    let outcome = house.vusb().apply(&spec).unwrap();
    assert_eq!(outcome.notes, ["left alone, for another tool made it: hci0, tablet0"]);
    assert_eq!(steps(&outcome), ["plug mouse0 (mouse) into 0:2"]);
    assert!(house.vusb().apply(&spec).unwrap().already);
    let outcome = house.vusb().apply(&house.spec("web", "")).unwrap();
    assert_eq!(steps(&outcome), ["unplug mouse0 (mouse) from 0:2"]);
}

#[test]
fn a_guest_that_was_started_with_the_spec_has_it_already() {
    let house = House::new();
    let text = "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"storage\"\nfile = \"a.img\"";
    house.file("a.img", "");
    let spec = house.spec("web", text);
    // A guest that does not run can have what one that runs cannot; then it is started, and its command line made it.
    house.set("web", "running", json!(false));
    house.vusb().apply(&spec).unwrap();
    house.set("web", "running", json!(true));
    house.set("web", "foreign", json!(["hci0", "tablet0", "storage0"]));
    std::fs::remove_dir_all(house.at("state")).unwrap();

    let outcome = house.vusb().apply(&spec).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
    let arguments = house.vusb().qemu_args(&spec, &vusb::ArgumentOptions::default()).unwrap();
    assert!(arguments.iter().any(|it| it.contains("ich9-usb-ehci1")), "{arguments:?}");
    // What another tool made stays another tool's, though a spec asked for it once.
    let less = house.spec("web", "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"tablet\"");
    let outcome = house.vusb().apply(&less).unwrap();
    assert_eq!((outcome.steps.len(), outcome.notes.len()), (0, 1), "{:?}", outcome.notes);
}

#[test]
fn what_another_tool_made_after_a_restart_is_not_taken_for_ours() {
    let house = House::new();
    house.add("web", "tablet").unwrap();
    // The guest is started anew, and its command line gives it the same at the same places, under the same names.
    house.set("web", "foreign", json!(["hci0", "tablet0"]));
    let view = house.vusb().list(&house.guest("web")).unwrap();
    let controller = &view.controllers[0];
    assert_eq!((json!(controller.origin), controller.devices.len()), (json!("other"), 1));
    assert_eq!(json!(controller.devices[0].origin), "other");
    let empty = house.spec("web", "");
    assert!(house.vusb().plan(&empty).unwrap().already);
    assert!(house.vusb().apply(&empty).unwrap().already);
    let record = house.record("web");
    assert_eq!((&record["managed"], &record["added"]), (&json!([]), &json!(null)));
    assert_eq!(house.shows("web"), "hci0[1 tablet0 attached]");
}

#[test]
fn a_newcomer_of_the_same_name_inherits_nothing() {
    let house = House::new();
    house.add("web", "tablet").unwrap();
    assert_eq!(house.record("web")["added"], json!(["hci0"]));
    let other = House::new();
    other.vusb().controller_add(&other.guest("web"), &model("piix3-uhci")).unwrap();
    house.set("web", "hardware", other.sim("web")["hardware"].clone());
    house.set("web", "foreign", json!(["hci0"]));
    house.vusb().apply_recorded(&house.guest("web")).unwrap();
    assert_eq!(house.shows("web"), "hci0[] hci1[1 tablet0 attached]");
    let record = house.record("web");
    assert_eq!(record["managed"], json!(["hci1", "tablet0"]));
    assert_eq!(record["added"], json!(["hci1"]), "and what it was goes with what is ours");
}

#[test]
fn a_spec_puts_back_what_a_restart_took_away() {
    let house = House::new();
    let spec = house.spec("web", TWO);
    house.vusb().apply(&spec).unwrap();
    let before = house.sim("web")["hardware"].clone();
    house.restart("web");
    assert_eq!(house.vusb().apply(&spec).unwrap().steps.len(), 5);
    assert_eq!(house.sim("web")["hardware"], before);
}

#[test]
fn a_spec_may_leave_out_where_the_domain_is_once_that_is_known() {
    let house = House::new();
    house.vusb().apply(&house.spec("web", TWO)).unwrap();
    let file = house.file("short.toml", &format!("domain = \"web\"\n{TWO}"));
    let read = || vusb::Wanted::read(&file).unwrap();
    assert!(house.vusb().apply(&read()).unwrap().already);
    house.file("short.toml", TWO);
    let error = house.vusb().apply(&read()).unwrap_err();
    assert!(error.hints()[0].contains("driver = "), "{error}");
    let error = vusb::Wanted::read(&house.file("bad.toml", "usb = 4")).unwrap_err();
    assert!(error.to_string().contains("bad.toml:1:1"), "{error}");
}

#[test]
fn controllers_are_found_by_what_they_are() {
    let house = House::new();
    for name in ["piix3-uhci", "nec-xhci"] {
        house.vusb().controller_add(&house.guest("web"), &model(name)).unwrap();
    }
    let spec = house.spec("web", "[[controller]]\nusbversion = 3");
    let outcome = house.vusb().apply(&spec).unwrap();
    assert_eq!(steps(&outcome), ["remove controller hci0 (piix3-uhci, 2 ports, index 0)"]);
    assert!(house.vusb().apply(&spec).unwrap().already);
    let settings = Settings { dry_run: true, ..house.vusb().settings().clone() };
    assert!(house.vusb().with_settings(settings).apply(&spec).unwrap().already);
}

#[test]
fn two_domains_of_one_name_are_told_apart_by_address() {
    let house = House::new();
    house.vusb().apply(&house.spec("web", "")).unwrap();
    let text = "domain = \"web\"\ndriver = \"sim:mail.sim\"";
    let spec = vusb::Wanted::read(&house.file("mail.toml", text)).unwrap();
    let outcome = house.vusb().apply(&spec).unwrap();
    assert!(outcome.notes[0].contains("web.sim is called web too"), "{:?}", outcome.notes);
    let error = house.vusb().domain("web").unwrap_err();
    assert!(error.to_string().starts_with("several domains are called web: web (sim:"), "{error}");
}

#[test]
fn what_a_guest_would_start_with_needs_no_guest() {
    let house = House::new();
    let text = "[[device]]\nhost = \"0781:5581\"\n[[device]]\nkind = \"tablet\"";
    let spec = vusb::Wanted::read(&house.file("new.toml", text)).unwrap();
    let outcome = house.vusb().plan_start(&spec).unwrap();
    assert_eq!((outcome.steps.len(), outcome.added_controllers.len()), (3, 1));
    assert!(outcome.notes[0].contains("0781:5581) is not plugged in"), "{:?}", outcome.notes);
    let hardware = house.vusb().hardware(&house.vusb().domain("new.toml").unwrap()).unwrap();
    assert_eq!(hardware, outcome.hardware);
}

#[test]
fn a_spec_for_another_domain_is_refused_and_renames_by_force_alone() {
    let house = House::new();
    house.vusb().apply(&house.spec("web", TWO)).unwrap();
    let text = "domain = \"mail\"\ndriver = \"sim:web.sim\"\n[[device]]\nkind = \"mouse\"";
    let spec = vusb::Wanted::read(&house.file("mail.toml", text)).unwrap();
    for error in [house.vusb().plan(&spec).unwrap_err(), house.vusb().apply(&spec).unwrap_err()] {
        assert_eq!(error.exit_code(), vusb::ExitCode::Busy, "{error}");
        assert!(error.to_string().ends_with("is web, and the spec is for mail"), "{error}");
    }
    house.faults("web", &[("plug mouse", "fail")]);
    house.forced().apply(&spec).unwrap_err();
    assert_eq!(house.record("web")["name"], "web", "what failed renames nothing");
    let outcome = house.forced().apply(&spec).unwrap();
    assert!(outcome.notes[0].contains("is called mail from now on"), "{:?}", outcome.notes);
    assert_eq!(
        (house.record("web")["name"].clone(), outcome.domain),
        (json!("mail"), "mail".to_owned())
    );
}

#[test]
fn a_file_that_is_gone_does_not_keep_the_rest_away() {
    let house = House::new();
    house.file("a.img", "");
    for device in ["tablet", "storage:a.img", "mouse"] {
        house.add("web", device).unwrap();
    }
    house.restart("web");
    std::fs::remove_file(house.at("a.img")).unwrap();
    let outcome = house.vusb().apply_recorded(&house.guest("web")).unwrap();
    assert!(
        outcome.notes[0].starts_with("storage0 is not put back: there is no"),
        "{:?}",
        outcome.notes
    );
    assert_eq!(
        house.shows("web"),
        "hci0[1 tablet0 attached; 2 storage0 missing; 3 mouse0 attached]"
    );
}
