//! Records as a whole: naming, forgetting, suspending, and taking them to another machine.

use serde_json::json;
use vusb::drivers::Process;
use vusb::{Error, ExitCode, Options};

use crate::sandbox::{Sandbox, Vusb, texts};

/// The library with dry runs, and force if `force` is set.
fn dry(sandbox: &Sandbox, force: bool) -> Vusb {
    let vusb = sandbox.vusb();
    vusb.with_options(Options { dry_run: true, force, ..vusb.options.clone() })
}

#[test]
fn a_domain_is_renamed_once_and_a_dry_run_renames_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let rename = |vusb: &Vusb, name: &str| {
        vusb.context.domain_rename(&guest, &name.parse().unwrap(), &vusb.options).unwrap()
    };
    let planned = rename(&dry(&sandbox, false), "shop");
    assert!(planned.dry_run && !planned.already && planned.notes.is_empty(), "{planned:?}");
    assert_eq!(sandbox.record("web")["name"], json!(null));
    let renamed = rename(&vusb, "shop");
    assert!(!renamed.already && !renamed.dry_run);
    assert_eq!(texts(&renamed.notes), [format!("{guest} is now named shop")]);
    let change = sandbox.record("web")["change"].clone();
    let again = rename(&vusb, "shop");
    assert!(again.already && again.notes.is_empty(), "{again:?}");
    assert_eq!(sandbox.record("web")["change"], change, "nothing was written");
    let renamed = rename(&vusb, "mail");
    assert_eq!(texts(&renamed.notes), [format!("renamed {guest} from shop to mail")]);
    assert_eq!(vusb.domain("mail").unwrap(), guest);
    assert_eq!(vusb.domain("shop").unwrap_err().exit_code(), ExitCode::NotFound);
}

#[test]
fn forgetting_a_domain_names_what_it_still_has() {
    let sandbox = Sandbox::new();
    for device in ["tablet", "keyboard"] {
        sandbox.add("web", device).unwrap();
    }
    // The guest is restarted, and has what its command line has, and what is added again.
    sandbox.restart("web");
    sandbox.add("web", "mouse").unwrap();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let forget = |vusb: &Vusb| vusb.context.domain_forget(&guest, &vusb.options);
    let error = forget(&vusb).unwrap_err();
    assert!(matches!(error, Error::StillRuns { why: None, .. }), "{error}");
    let planned = forget(&dry(&sandbox, true)).unwrap();
    assert!(planned.dry_run);
    assert_eq!(sandbox.records().len(), 1);
    let forgotten = forget(&sandbox.forced()).unwrap();
    assert!(!forgotten.dry_run);
    assert_eq!(texts(&forgotten.notes), texts(&planned.notes));
    let [note] = &texts(&forgotten.notes)[..] else { panic!("{:?}", forgotten.notes) };
    assert!(note.contains("hci0, mouse0"), "{note}");
    assert!(!note.contains("tablet0") && !note.contains("keyboard0"), "{note}");
    assert_eq!(sandbox.records().len(), 0);
    assert_eq!(forget(&vusb).unwrap_err().exit_code(), ExitCode::NotFound);
}

#[test]
fn a_domain_is_suspended_only_once() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.add("web", "tablet").unwrap();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let suspend = || vusb.context.suspend(&guest, &vusb.options).unwrap();
    let resume = || vusb.context.resume(&guest, &vusb.options).unwrap();
    assert!(resume().already, "it is not suspended");
    assert!(!suspend().already, "also without host devices");
    assert!(suspend().already);
    assert_eq!(sandbox.record("web")["suspended"], true);
    resume();
    assert_eq!(sandbox.record("web").get("suspended"), None);
    sandbox.add("web", "1-4").unwrap();
    assert_eq!(suspend().steps.len(), 1);
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 host0 suspended]");
    // The rest is restored, and the host device stays out.
    sandbox.restart("web");
    let outcome = vusb.restore(&guest).unwrap();
    let expected = "the domain is suspended, and these devices stay out: host0";
    assert_eq!(texts(&outcome.notes), [expected]);
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 host0 suspended]");
    assert_eq!(resume().steps.len(), 1);
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 host0 attached]");
    // From now on, both are restored.
    sandbox.restart("web");
    assert_eq!(vusb.restore(&guest).unwrap().notes, []);
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 host0 attached]");
}

#[test]
fn an_exported_record_lacks_what_is_valid_on_one_machine_only() {
    let sandbox = Sandbox::new();
    for (port, serial) in [(4, "A1"), (5, "B1")] {
        sandbox.plug(port, "0781:5581", serial);
    }
    sandbox.set("web", "identity", json!("guest 1"));
    for device in ["1-4", "1-5"] {
        sandbox.add("web", device).unwrap();
    }
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let exported = vusb.context.domain_export(&guest, &vusb.options).unwrap();
    let record = json!(exported.record);
    for key in ["base", "identity", "index", "claims", "pending"] {
        assert_eq!(record.get(key), None, "{key}");
    }
    assert_eq!(record["change"], 0);

    // There, the first stick is in the same port, and the second one in another.
    let other = Sandbox::new();
    other.plug(4, "0781:5581", "A1");
    other.plug(6, "0781:5581", "B1");
    let file = other.file("web.json", &serde_json::to_string(&exported).unwrap());
    let there = other.guest("web");
    let import = |vusb: &Vusb| vusb.context.domain_import(&file, Some(&there), &vusb.options);
    let planned = import(&dry(&other, false)).unwrap();
    assert!(planned.dry_run);
    assert_eq!(other.records().len(), 0);
    let imported = import(&other.vusb()).unwrap();
    assert!(!imported.dry_run);
    let expected = "host1 is selected as 0781:5581:B1 on this machine: 1-5 is a port of the machine that it comes from";
    assert_eq!(texts(&imported.notes), [expected]);
    let record = other.record("web");
    assert_eq!(record["places"], json!({"host0": "pci-0000:00:14.0-usb-0:4"}));
    let error = import(&other.vusb()).unwrap_err();
    assert!(matches!(error, Error::RecordExists { .. }), "{error}");
    import(&other.forced()).unwrap();
    other.vusb().restore(&there).unwrap();
    assert_eq!(other.shows("web"), "hci0[1 host0 attached; 2 host1 attached]");
}

#[test]
fn a_dry_run_on_a_new_domain_creates_no_folder() {
    let sandbox = Sandbox::new();
    let (vusb, guest) = (dry(&sandbox, false), sandbox.guest("web"));
    let name = "shop".parse().unwrap();
    assert!(vusb.context.domain_rename(&guest, &name, &vusb.options).unwrap().dry_run);
    assert!(!sandbox.at("state").exists());
}

/// Two records have one name only if someone has edited them.
#[test]
fn a_name_of_several_domains_names_none_of_them() {
    let sandbox = Sandbox::new();
    for guest in ["web", "mail", "ftp"] {
        sandbox.vusb().apply(&sandbox.spec(guest, "")).unwrap();
    }
    let unknown = sandbox.vusb().domain("shop").unwrap_err().to_string();
    assert!(unknown.starts_with("there is no domain shop: the known domains are "), "{unknown}");
    for guest in ["web", "mail", "ftp"] {
        assert!(unknown.contains(&format!("{guest} ({})", sandbox.guest(guest))), "{unknown}");
    }
    for path in sandbox.records() {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"name\": \"web\"", "\"name\": \"mail\"")).unwrap();
    }
    // Older versions had no index of names.
    std::fs::remove_dir_all(sandbox.at("state/index-1")).unwrap();
    let error = sandbox.vusb().domain("mail").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    let text = error.to_string();
    assert!(text.starts_with("several domains are named mail: "), "{text}");
    assert!(text.contains("/web.sim") && text.contains("/mail.sim"), "{text}");
    assert!(!text.contains("/ftp.sim"), "{text}");
    assert_eq!(sandbox.vusb().domain("ftp").unwrap(), sandbox.guest("ftp"));
}

#[test]
fn the_config_of_a_domain_is_what_it_has_with_its_name() {
    let sandbox = Sandbox::new();
    let text = "[[device]]\nkind = \"tablet\"\ncontroller = \"usb\"\nport = \"3\"\n[[controller]]\nname = \"usb\"";
    sandbox.vusb().apply(&sandbox.spec("web", text)).unwrap();
    let (vusb, guest) = (sandbox.vusb(), sandbox.guest("web"));
    let config = vusb.context.config_of(&guest, &vusb.options).unwrap();
    assert_eq!(config.spec().domain.as_ref().unwrap().as_str(), "web");
    assert_eq!(config.guest().name.as_deref(), Some("web"));
    assert_eq!(config.driver(), Some(guest.as_str()));
    assert_eq!(config.spec().devices.len(), 1);
    assert_eq!(config.config().spec, *config.spec());
    let plan = vusb.plan_start(&config).unwrap();
    assert_eq!(plan.domain, "web");
    assert_eq!(plan.hardware, vusb.hardware(&guest).unwrap());
}

/// Only a guest that cannot be reached may have ended.
#[test]
fn a_guest_whose_hypervisor_replies_nonsense_has_not_ended() {
    let sandbox = Sandbox::new();
    sandbox.add("web", "tablet").unwrap();
    sandbox.file("web.sim", "{");
    let vusb = sandbox.vusb();
    let domains = vusb.context.domains(&vusb.options).unwrap().domains;
    assert_eq!(json!(domains[0].state), "unknown");
    assert!(domains[0].why.is_some());
    let all = vusb.context.restore_all(&vusb.options).unwrap();
    assert_eq!(json!(all.domains[0].state), "failed");
    assert!(all.domains[0].error.is_some());
}

/// The MAC address of a network adapter is derived from the name of the domain, or else from its
/// address.
#[test]
fn a_network_adapter_has_the_same_address_however_it_is_added() {
    let mac = |sandbox: &Sandbox, guest: &str| {
        sandbox.sim(guest)["hardware"][0]["devices"][0]["mac"].as_str().unwrap().to_owned()
    };
    let (by_spec, by_hand) = (Sandbox::new(), Sandbox::new());
    by_spec.vusb().apply(&by_spec.spec("web", "[[device]]\nkind = \"net\"")).unwrap();
    by_hand.vusb().apply(&by_hand.spec("web", "")).unwrap();
    by_hand.add("web", "net").unwrap();
    assert_eq!(mac(&by_spec, "web"), mac(&by_hand, "web"));
    for guest in ["mail", "ftp"] {
        by_hand.add(guest, "net").unwrap();
    }
    assert_ne!(mac(&by_hand, "mail"), mac(&by_hand, "ftp"));
}

/// Without the claims, another guest could get what this one has.
#[test]
fn claims_stay_with_a_guest_that_is_forgotten_until_its_process_ends() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.plug(5, "0781:5590", "B1");
    let mut process = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let of_guest = Process::with_id(i32::try_from(process.id()).unwrap()).unwrap();
    sandbox.set("web", "process", json!(of_guest));
    for device in ["1-4", "1-5"] {
        sandbox.add("web", device).unwrap();
    }
    sandbox.remove("web", "1-5").unwrap();
    let (vusb, guest) = (sandbox.forced(), sandbox.guest("web"));
    vusb.context.domain_forget(&guest, &vusb.options).unwrap();
    let holder = || sandbox.vusb().host_list().unwrap().devices[0].holder.clone();
    assert!(holder().is_some());
    let error = sandbox.add("mail", "1-4").unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
    sandbox.add("mail", "1-5").unwrap();
    // It is still the guest's own.
    sandbox.add("web", "1-4").unwrap();
    vusb.context.domain_forget(&guest, &vusb.options).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(holder(), None);
    sandbox.add("mail", "1-4").unwrap();
}
