//! Applying specs, once and repeatedly.

use serde_json::json;
use vusb::model::remedy::Remedy;
use vusb::{Advice, Error, Options};

use crate::sandbox::{Sandbox, model, steps, texts};

/// Two tablets on a USB 1 controller, and a media player, which needs another controller.
const TABLETS_AND_PLAYER: &str = "[[controller]]\nusbversion = 1\n\
                                  [[device]]\nkind = \"tablet\"\n\
                                  [[device]]\nkind = \"tablet\"\n\
                                  [[device]]\nkind = \"mtp\"\ndir = \".\"";

#[test]
fn applying_twice_is_applying_once() {
    let sandbox = Sandbox::new();
    let spec = sandbox.spec("web", TABLETS_AND_PLAYER);
    let planned = sandbox.vusb().plan(&spec).unwrap();
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert_eq!(steps(&planned), steps(&outcome));
    assert_eq!(outcome.steps.len(), 5, "{:?}", steps(&outcome));
    assert_eq!(outcome.added_controllers.len(), 1, "for the media player, which needs high speed");
    let again = sandbox.vusb().apply(&spec).unwrap();
    assert!(again.already && again.added_controllers.is_empty(), "{:?}", steps(&again));
    assert_eq!(sandbox.record("web")["name"], "web");
}

#[test]
fn what_the_spec_no_longer_has_is_removed_and_the_rest_stays() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", TABLETS_AND_PLAYER)).unwrap();
    sandbox.add("web", "ccid").unwrap();
    let less = TABLETS_AND_PLAYER.replacen("[[device]]\nkind = \"tablet\"\n", "", 1)
        + "\n[[device]]\nkind = \"hub\"";
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", &less)).unwrap();
    assert_eq!(steps(&outcome), ["unplug tablet1 (tablet) from 0:2", "plug hub0 (hub) into 0:2"]);
    assert_eq!(
        texts(&outcome.notes),
        [
            "removed tablet1 (hci0:2): the spec no longer has it",
            "kept: added by hand and not in the spec: ccid0"
        ]
    );
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", "")).unwrap();
    assert_eq!(outcome.steps.len(), 4);
    assert_eq!(sandbox.shows("web"), "hci1[2 ccid0 attached]");
}

#[test]
fn a_controller_with_another_model_in_the_spec_is_replaced() {
    let sandbox = Sandbox::new();
    let version = |it: u8| {
        format!("[[controller]]\nname = \"usb\"\nusbversion = {it}\n[[device]]\nkind = \"tablet\"")
    };
    sandbox.vusb().apply(&sandbox.spec("web", &version(1))).unwrap();
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", &version(3))).unwrap();
    assert_eq!(outcome.steps.len(), 4, "{:?}", steps(&outcome));
    assert!(sandbox.vusb().apply(&sandbox.spec("web", &version(3))).unwrap().already);
}

#[test]
fn items_of_other_tools_are_not_touched_and_are_reported() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    sandbox.set("web", "foreign", json!(["hci0", "tablet0"]));
    std::fs::remove_dir_all(sandbox.at("state")).unwrap();
    // The other tool's controller has a free port for the spec's mouse. Its tablet is not in the
    // spec.
    let spec = sandbox.spec("web", "[[device]]\nkind = \"mouse\"");
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert_eq!(texts(&outcome.notes), ["not touched: created by another tool: hci0, tablet0"]);
    assert_eq!(steps(&outcome), ["plug mouse0 (mouse) into 0:2"]);
    assert!(sandbox.vusb().apply(&spec).unwrap().already);
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", "")).unwrap();
    assert_eq!(steps(&outcome), ["unplug mouse0 (mouse) from 0:2"]);
}

#[test]
fn a_guest_that_was_started_with_the_spec_already_matches() {
    let sandbox = Sandbox::new();
    let text = "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"tablet\"\n[[device]]\nkind = \"storage\"\nfile = \"a.img\"";
    sandbox.file("a.img", "");
    let spec = sandbox.spec("web", text);
    // The ICH9 group can only be added while the guest does not run. Afterwards, the items count as
    // created by the command line.
    sandbox.set("web", "running", json!(false));
    sandbox.vusb().apply(&spec).unwrap();
    sandbox.set("web", "running", json!(true));
    sandbox.set("web", "foreign", json!(["hci0", "tablet0", "storage0"]));
    std::fs::remove_dir_all(sandbox.at("state")).unwrap();

    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
    let arguments = sandbox.vusb().qemu_args(&spec).unwrap();
    assert!(arguments.iter().any(|it| it.contains("ich9-usb-ehci1")), "{arguments:?}");
    // An item of another tool is not taken over, even if a spec requested it.
    let less = sandbox.spec("web", "[[controller]]\nusbversion = 2\n[[device]]\nkind = \"tablet\"");
    let outcome = sandbox.vusb().apply(&less).unwrap();
    assert_eq!((outcome.steps.len(), outcome.notes.len()), (0, 1), "{:?}", outcome.notes);
}

#[test]
fn what_another_tool_creates_after_a_restart_is_not_managed() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    // The guest restarts, and its command line creates the same items at the same addresses, with
    // the same names.
    sandbox.set("web", "foreign", json!(["hci0", "tablet0"]));
    let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
    let controller = &view.controllers[0];
    assert_eq!((json!(controller.origin), controller.devices.len()), (json!("other"), 1));
    assert_eq!(json!(controller.devices[0].origin), "other");
    let empty = sandbox.spec("web", "");
    assert!(sandbox.vusb().plan(&empty).unwrap().already);
    assert!(sandbox.vusb().apply(&empty).unwrap().already);
    let record = sandbox.record("web");
    assert_eq!((&record["managed"], &record["added"]), (&json!([]), &json!(null)));
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached]");
}

#[test]
fn a_new_item_with_the_name_of_an_old_one_inherits_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    assert_eq!(sandbox.record("web")["added"], json!(["hci0"]));
    let other = Sandbox::new();
    other.vusb().controller_add(&other.guest("web"), &model("piix3-uhci")).unwrap();
    sandbox.set("web", "hardware", other.sim("web")["hardware"].clone());
    sandbox.set("web", "foreign", json!(["hci0"]));
    sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[] hci1[1 tablet0 attached]");
    let record = sandbox.record("web");
    assert_eq!(record["managed"], json!(["hci1", "tablet0"]));
    assert_eq!(record["added"], json!(["hci1"]), "the new hci0 is not marked");
}

#[test]
fn a_spec_restores_what_a_restart_removed() {
    let sandbox = Sandbox::new();
    let spec = sandbox.spec("web", TABLETS_AND_PLAYER);
    sandbox.vusb().apply(&spec).unwrap();
    let before = sandbox.sim("web")["hardware"].clone();
    sandbox.restart("web");
    assert_eq!(sandbox.vusb().apply(&spec).unwrap().steps.len(), 5);
    assert_eq!(sandbox.sim("web")["hardware"], before);
}

#[test]
fn a_spec_without_an_address_is_not_for_a_running_guest() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", TABLETS_AND_PLAYER)).unwrap();
    let web = sandbox.guest("web").to_string();
    let with_name = format!("domain = \"web\"\n{TABLETS_AND_PLAYER}");
    for (text, domain) in [(with_name, Some(web)), (TABLETS_AND_PLAYER.to_owned(), None)] {
        let file = sandbox.file("short.toml", &text);
        let error = sandbox.vusb().apply(&sandbox.vusb().read(&file).unwrap()).unwrap_err();
        assert!(error.to_string().contains("no driver"), "{error}");
        assert_eq!(error.advice(), [Advice::AddDriver { domain }]);
    }
    let error = sandbox.vusb().read(&sandbox.file("bad.toml", "usb = 4")).unwrap_err();
    assert!(error.to_string().contains("bad.toml:1:1"), "{error}");
}

#[test]
fn controllers_are_matched_by_their_hardware() {
    let sandbox = Sandbox::new();
    for name in ["piix3-uhci", "nec-xhci"] {
        sandbox.vusb().controller_add(&sandbox.guest("web"), &model(name)).unwrap();
    }
    let spec = sandbox.spec("web", "[[controller]]\nusbversion = 3");
    assert!(sandbox.vusb().apply(&spec).unwrap().already, "the other one was added by hand");
    let prune = Options { prune: true, ..sandbox.vusb().options.clone() };
    let outcome = sandbox.vusb().with_options(prune).apply(&spec).unwrap();
    assert_eq!(steps(&outcome), ["remove controller hci0 (piix3-uhci, 2 ports, index 0)"]);
    assert!(sandbox.vusb().apply(&spec).unwrap().already);
    let options = Options { dry_run: true, ..sandbox.vusb().options.clone() };
    assert!(sandbox.vusb().with_options(options).apply(&spec).unwrap().already);
}

#[test]
fn two_domains_cannot_have_one_name() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", "")).unwrap();
    let text = "domain = \"web\"\ndriver = \"sim:mail.sim\"";
    let spec = sandbox.vusb().read(&sandbox.file("mail.toml", text)).unwrap();
    let error = sandbox.vusb().apply(&spec).unwrap_err();
    let domain = sandbox.guest("web").to_string();
    assert!(
        matches!(&error, Error::NameInUse { gone: false, domain: it, .. } if *it == domain),
        "{error}"
    );
    assert_eq!(error.remedies(), [Remedy::RenameDomain { domain }]);
    assert_eq!(sandbox.vusb().domain("web").unwrap(), sandbox.guest("web"));
}

/// The name is checked before the first step, not only when the change is recorded.
#[test]
fn a_change_with_the_name_of_another_domain_takes_no_step() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", "")).unwrap();
    let text = "domain = \"web\"\ndriver = \"sim:mail.sim\"\n[[device]]\nkind = \"tablet\"";
    let spec = sandbox.vusb().read(&sandbox.file("mail.toml", text)).unwrap();
    let error = sandbox.vusb().apply(&spec).unwrap_err();
    assert!(matches!(error, Error::NameInUse { .. }), "{error}");
    assert_eq!(sandbox.sim("mail")["hardware"], json!([]));
}

#[test]
fn a_name_is_free_if_the_change_that_gives_it_is_undone() {
    let sandbox = Sandbox::new();
    sandbox.faults("web", &[("plug", "fail")]);
    let text = "[[device]]\nkind = \"tablet\"";
    let error = sandbox.vusb().apply(&sandbox.spec("web", text)).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    let text = "domain = \"web\"\ndriver = \"sim:mail.sim\"\n[[device]]\nkind = \"mouse\"";
    let spec = sandbox.vusb().read(&sandbox.file("mail.toml", text)).unwrap();
    sandbox.vusb().apply(&spec).unwrap();
}

#[test]
fn planning_a_start_needs_no_guest() {
    let sandbox = Sandbox::new();
    let text = "[[device]]\nhost = \"0781:5581\"\n[[device]]\nkind = \"tablet\"";
    let spec = sandbox.vusb().read(&sandbox.file("new.toml", text)).unwrap();
    let outcome = sandbox.vusb().plan_start(&spec).unwrap();
    assert_eq!((outcome.steps.len(), outcome.added_controllers.len()), (3, 1));
    assert!(outcome.dry_run && outcome.fresh);
    assert_eq!((outcome.controllers[0].usb2ports, outcome.controllers[0].usb3ports), (None, None));
    assert!(
        texts(&outcome.notes).join("; ").contains("0781:5581) is not plugged in"),
        "{:?}",
        outcome.notes
    );
    let hardware = sandbox.vusb().hardware(&sandbox.vusb().domain("new.toml").unwrap()).unwrap();
    assert_eq!(hardware, outcome.hardware);
}

#[test]
fn a_spec_for_another_domain_is_refused_and_renames_only_with_force() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", TABLETS_AND_PLAYER)).unwrap();
    let text = "domain = \"mail\"\ndriver = \"sim:web.sim\"\n[[device]]\nkind = \"mouse\"";
    let spec = sandbox.vusb().read(&sandbox.file("mail.toml", text)).unwrap();
    for error in [sandbox.vusb().plan(&spec).unwrap_err(), sandbox.vusb().apply(&spec).unwrap_err()]
    {
        assert_eq!(error.exit_code(), vusb::ExitCode::Busy, "{error}");
        assert!(error.to_string().ends_with("is named web, and the spec is for mail"), "{error}");
    }
    sandbox.faults("web", &[("plug mouse", "fail")]);
    sandbox.forced().apply(&spec).unwrap_err();
    assert_eq!(sandbox.record("web")["name"], "web", "a failed apply renames nothing");
    let outcome = sandbox.forced().apply(&spec).unwrap();
    assert!(texts(&outcome.notes).join("; ").contains("from web to mail"), "{:?}", outcome.notes);
    assert_eq!(
        (sandbox.record("web")["name"].clone(), outcome.domain),
        (json!("mail"), "mail".to_owned())
    );
}

#[test]
fn a_missing_file_does_not_keep_the_rest_from_being_restored() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    for device in ["tablet", "storage:a.img", "mouse"] {
        sandbox.add("web", device).unwrap();
    }
    sandbox.restart("web");
    std::fs::remove_file(sandbox.at("a.img")).unwrap();
    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert!(
        texts(&outcome.notes)[0].starts_with("storage0 is not restored: "),
        "{:?}",
        outcome.notes
    );
    assert_eq!(
        sandbox.shows("web"),
        "hci0[1 tablet0 attached; 2 storage0 missing; 3 mouse0 attached]"
    );
}

/// Gives a guest the hardware of this spec, as if another tool had created it.
fn create_with_another_tool(sandbox: &Sandbox, guest: &str, text: &str) {
    sandbox.vusb().apply(&sandbox.spec(guest, text)).unwrap();
    let view = sandbox.vusb().list(&sandbox.guest(guest)).unwrap();
    let controllers = view.controllers.iter();
    let names = controllers.flat_map(|it| {
        std::iter::once(it.name.to_string()).chain(it.devices.iter().map(|it| it.name.to_string()))
    });
    sandbox.set(guest, "foreign", names.collect());
    std::fs::remove_dir_all(sandbox.at("state")).unwrap();
}

const MOUSE_AND_TABLET: &str = "[[controller]]\nusbversion = 1\n[[controller]]\nusbversion = 3\n\
                                [[device]]\nkind = \"mouse\"\ncontroller = 1\nport = \"1\"\n\
                                [[device]]\nkind = \"tablet\"\ncontroller = 1\nport = \"2\"";

/// An equal item of another tool may be for another purpose.
#[test]
fn items_of_other_tools_are_matched_only_where_a_start_would_put_them_or_by_name() {
    let sandbox = Sandbox::new();
    create_with_another_tool(&sandbox, "web", MOUSE_AND_TABLET);
    // A guest that is started with these specs has the controller at index 0, and the tablet in
    // port 1.
    let spec = sandbox.spec("web", "[[controller]]\nusbversion = 3");
    let outcome = sandbox.vusb().plan(&spec).unwrap();
    assert_eq!(steps(&outcome), ["add controller hci2 (nec-xhci, 15 ports, index 2)"]);
    let tablet = "[[device]]\nkind = \"tablet\"\ncontroller = 1";
    let outcome = sandbox.vusb().plan(&sandbox.spec("web", tablet)).unwrap();
    assert_eq!(steps(&outcome), ["plug tablet1 (tablet) into 1:3"]);
    // An item that the spec names is matched.
    let named = format!("{tablet}\nname = \"tablet0\"");
    assert!(sandbox.vusb().plan(&sandbox.spec("web", &named)).unwrap().already);
}

#[test]
fn items_of_the_spec_are_matched_before_those_that_were_added_by_hand() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let text = "[[controller]]\nmodel = \"nec-xhci\"\nindex = 1\n\
                [[device]]\nkind = \"tablet\"\ncontroller = 1\nport = \"2\"";
    vusb.apply(&sandbox.spec("web", text)).unwrap();
    vusb.controller_add(&guest, &model("nec-xhci")).unwrap();
    let by_hand = |port: &str| {
        let mut tablet = vusb::model::spec::DeviceSpec::new("tablet".parse().unwrap());
        (tablet.controller, tablet.port) = ("1".parse().ok(), port.parse().ok());
        vusb.device_add(&guest, &tablet).unwrap();
    };
    by_hand("1");
    let before = sandbox.shows("web");
    assert_eq!(before, "hci1[] hci0[1 tablet1 attached; 2 tablet0 attached]");
    // The same spec without the index and the port.
    let text = "[[controller]]\nmodel = \"nec-xhci\"\n[[device]]\nkind = \"tablet\"";
    let outcome = vusb.apply(&sandbox.spec("web", text)).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
    assert_eq!(sandbox.shows("web"), before);
}

#[test]
fn the_controller_of_the_spec_is_matched_before_an_equal_one_that_was_added_by_hand() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let text = "[[controller]]\nmodel = \"nec-xhci\"\nindex = 1";
    vusb.apply(&sandbox.spec("web", text)).unwrap();
    vusb.controller_add(&guest, &model("nec-xhci")).unwrap();
    let outcome = vusb.apply(&sandbox.spec("web", "[[controller]]\nmodel = \"nec-xhci\"")).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
}

#[test]
fn a_controller_without_a_type_is_of_the_type_that_the_hypervisor_prefers() {
    let sandbox = Sandbox::new();
    sandbox.set("web", "type", json!("pv"));
    sandbox.set("web", "models", json!({"xenusb2": "hot"}));
    let spec = sandbox.spec("web", "[[controller]]");
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert_eq!(sandbox.shows("web"), "pv0[]", "{:?}", steps(&outcome));
    assert!(sandbox.vusb().apply(&spec).unwrap().already);
}

/// The hub may follow the device in the spec.
#[test]
fn a_device_behind_a_hub_keeps_its_name_when_another_is_removed_from_the_spec() {
    let sandbox = Sandbox::new();
    let tablet = |port: &str| format!("[[device]]\nkind = \"tablet\"\nport = \"{port}\"\n");
    let hub = "[[device]]\nkind = \"hub\"\nport = \"1\"\n[[controller]]\nusbversion = 3\n";
    let [first, behind] = [tablet("2"), tablet("1.1")];
    sandbox.vusb().apply(&sandbox.spec("web", &format!("{first}{behind}{hub}"))).unwrap();
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", &format!("{behind}{hub}"))).unwrap();
    assert_eq!(steps(&outcome), ["unplug tablet0 (tablet) from 0:2"]);
}

#[test]
fn a_device_behind_a_hub_stays_there_as_long_as_the_hub_stays() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "hub").unwrap();
    let tablet = "[[device]]\nkind = \"tablet\"";
    let behind = format!("{tablet}\ncontroller = 0\nport = \"1.1\"");
    sandbox.vusb().apply(&sandbox.spec("web", &behind)).unwrap();
    // Without a port in the spec, the device stays where it is.
    assert!(sandbox.vusb().apply(&sandbox.spec("web", tablet)).unwrap().already);
    assert_eq!(sandbox.shows("web"), "hci0[1 hub0 attached; 1.1 tablet0 attached]");

    // When the spec no longer has its hub, the hub is removed and the device moves.
    let sandbox = Sandbox::new();
    sandbox.vusb().controller_add(&sandbox.guest("web"), &model("qemu-xhci")).unwrap();
    let hub = "[[device]]\nkind = \"hub\"\nname = \"hub0\"\n";
    sandbox.vusb().apply(&sandbox.spec("web", &format!("{hub}{behind}"))).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 hub0 attached; 1.1 tablet0 attached]");
    sandbox.vusb().apply(&sandbox.spec("web", tablet)).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached]");
}

#[test]
fn a_device_stays_on_a_controller_that_was_added_by_hand() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    for name in ["qemu-xhci", "nec-xhci"] {
        vusb.controller_add(&guest, &model(name)).unwrap();
    }
    let tablet = "[[device]]\nkind = \"tablet\"";
    let on_second = format!("{tablet}\ncontroller = 1");
    vusb.apply(&sandbox.spec("web", &on_second)).unwrap();
    assert!(vusb.apply(&sandbox.spec("web", tablet)).unwrap().already);
    assert_eq!(sandbox.shows("web"), "hci0[] hci1[1 tablet0 attached]");
}

#[test]
fn a_named_controller_keeps_its_index_when_a_lower_one_becomes_free() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    vusb.controller_add(&guest, &model("nec-xhci")).unwrap();
    let spec = sandbox.spec("web", "[[controller]]\nname = \"own\"");
    vusb.apply(&spec).unwrap();
    vusb.controller_remove(&guest, &"hci0".parse().unwrap()).unwrap();
    let outcome = vusb.apply(&spec).unwrap();
    assert!(outcome.already, "{:?}", steps(&outcome));
    assert_eq!(json!(vusb.list(&guest).unwrap().controllers[0].index), 1);
}

#[test]
fn devices_are_matched_by_their_names() {
    let sandbox = Sandbox::new();
    sandbox.vusb().controller_add(&sandbox.guest("web"), &model("qemu-xhci")).unwrap();
    let device = |name: &str, more: &str| {
        format!("[[device]]\nkind = \"tablet\"\nname = \"{name}\"\n{more}")
    };
    let both = format!("{}{}", device("a", ""), device("b", ""));
    sandbox.vusb().apply(&sandbox.spec("web", &both)).unwrap();
    let reversed = format!("{}{}", device("b", ""), device("a", ""));
    assert!(sandbox.vusb().apply(&sandbox.spec("web", &reversed)).unwrap().already);
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", &device("b", ""))).unwrap();
    assert_eq!(steps(&outcome), ["unplug a (tablet) from 0:1"]);
    // Another port or controller in the spec moves the device.
    let moved = sandbox.spec("web", &device("b", "controller = 0\nport = \"5\""));
    sandbox.vusb().apply(&moved).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[5 b attached]");
    sandbox.vusb().controller_add(&sandbox.guest("web"), &model("nec-xhci")).unwrap();
    sandbox.vusb().apply(&sandbox.spec("web", &device("b", "controller = 1"))).unwrap();
    assert!(sandbox.shows("web").ends_with("hci1[1 b attached]"), "{}", sandbox.shows("web"));
}

#[test]
fn a_port_without_a_controller_is_on_the_only_controller_of_the_spec() {
    for own in ["name = \"own\"", "model = \"nec-xhci\"", "index = 7"] {
        let sandbox = Sandbox::new();
        let port = "[[device]]\nkind = \"tablet\"\nport = \"3\"";
        let spec = format!("[[controller]]\n{own}\n{port}");
        sandbox.vusb().controller_add(&sandbox.guest("web"), &model("qemu-xhci")).unwrap();
        sandbox.vusb().controller_add(&sandbox.guest("web"), &model("piix3-uhci")).unwrap();
        sandbox.vusb().apply(&sandbox.spec("web", &spec)).unwrap();
        let shown = sandbox.shows("web");
        assert!(
            shown.starts_with("hci0[] hci1[] ") && shown.ends_with("[3 tablet0 attached]"),
            "{shown}"
        );
        assert!(sandbox.vusb().apply(&sandbox.spec("web", &spec)).unwrap().already, "{own}");
        // With two controllers in the spec, the port is ambiguous.
        let two = format!("[[controller]]\n{own}\n[[controller]]\nname = \"more\"\n{port}");
        let other = Sandbox::new();
        other.vusb().controller_add(&other.guest("web"), &model("qemu-xhci")).unwrap();
        other.vusb().apply(&other.spec("web", &two)).unwrap_err();
    }
}

#[test]
fn a_domain_keeps_the_profile_of_its_spec() {
    let sandbox = Sandbox::new();
    let vusb = sandbox.vusb();
    let spec = sandbox.spec("web", "profile = \"libvirt\"");
    vusb.apply(&spec).unwrap();
    assert_eq!(sandbox.record("web")["profile"], "libvirt");
    // libvirt adds no controller for a device.
    let error = sandbox.add("web", "tablet").unwrap_err();
    assert!(error.to_string().contains("libvirt says: USB is disabled"), "{error}");
    // A controller without a model gets libvirt's default model.
    let any = vusb::model::spec::ControllerSpec::default();
    let mut added = Vec::new();
    for guest in ["web", "mail"] {
        vusb.controller_add(&sandbox.guest(guest), &any).unwrap();
        sandbox.add(guest, "tablet").unwrap();
        added.push(sandbox.sim(guest)["hardware"][0].clone());
    }
    assert_eq!(
        (&added[0]["model"], &added[1]["model"]),
        (&json!("piix3-uhci"), &json!("qemu-xhci"))
    );
    // libvirt's input devices are high-speed devices, as QEMU's are by default.
    let speed = |it: &serde_json::Value| it["devices"][0]["usbversion"].clone();
    assert_ne!(speed(&added[0]), speed(&added[1]));
}

#[test]
fn two_domains_cannot_have_one_name_in_a_dry_run_either() {
    let sandbox = Sandbox::new();
    sandbox.vusb().apply(&sandbox.spec("web", "")).unwrap();
    let text = "domain = \"web\"\ndriver = \"sim:mail.sim\"";
    let spec = sandbox.vusb().read(&sandbox.file("mail.toml", text)).unwrap();
    let error = sandbox.vusb().plan(&spec).unwrap_err();
    assert!(matches!(error, Error::NameInUse { .. }), "{error}");
}
