//! Claims across users and state directories: the records do not know each other.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use serde_json::{Value, json};
use vusb::drivers::Process;
use vusb::model::remedy::Remedy;
use vusb::model::spec::DeviceSpec;
use vusb::{Context, Error, ExitCode, Host, Outcome, Registry, StateDir};

use crate::killed::Another;
use crate::sandbox::{Sandbox, Vusb, library, steps, texts};

/// A sandbox with a stick in port 4.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.file("a.img", "");
    sandbox
}

/// The library with another state directory for the same machine.
pub(crate) fn elsewhere(sandbox: &Sandbox) -> Vusb {
    let host = Host::new(sandbox.at("machine"));
    let registry = Registry::builtin(host.clone().into());
    let state = StateDir::new(sandbox.at("elsewhere"));
    Vusb {
        context: Context::new(state, host, registry),
        ..library(sandbox.path(), Duration::from_secs(5))
    }
}

fn add(vusb: &Vusb, sandbox: &Sandbox, guest: &str, device: &str) -> Result<Outcome, Error> {
    vusb.device_add(&sandbox.guest(guest), &DeviceSpec::new(device.parse().unwrap()))
}

fn claims(sandbox: &Sandbox) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(sandbox.at("machine/run/vusb/claims")) else {
        return Vec::new();
    };
    entries.map(|it| it.unwrap().path()).collect()
}

fn claim(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A process that a simulated guest runs in.
struct Guest(Child);

impl Guest {
    fn start(sandbox: &Sandbox, name: &str) -> Guest {
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::with_id(child.id() as i32).unwrap();
        sandbox.set(name, "process", json!(process));
        Guest(child)
    }

    fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_device_is_claimed_for_all_state_directories() {
    let sandbox = sandbox();
    let other = elsewhere(&sandbox);
    for (device, name) in [("0781:5581", "host0"), ("storage:a.img", "storage0")] {
        sandbox.add("web", device).unwrap();
        let error = add(&other, &sandbox, "mail", device).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Busy);
        let web = sandbox.guest("web").to_string();
        assert!(error.to_string().contains(&format!("is held by {web} (as {name} at hci0:1")));
        let remedy =
            Remedy::RemoveDevice { domain: web, device: name.parse().unwrap(), forget: false };
        assert_eq!(error.remedies(), [remedy]);
        assert_eq!(claims(&sandbox).len(), 1);
        sandbox.remove("web", name).unwrap();
        assert_eq!(claims(&sandbox), Vec::<PathBuf>::new());
        add(&other, &sandbox, "mail", device).unwrap();
        let mail = sandbox.guest("mail");
        other.device_remove(&mail, &name.parse().unwrap()).unwrap();
    }
}

#[test]
fn a_dry_run_looks_at_claims_and_makes_none() {
    let sandbox = sandbox();
    let add_dry = || {
        sandbox.dry().device_add(&sandbox.guest("mail"), &DeviceSpec::new("1-4".parse().unwrap()))
    };
    add_dry().unwrap();
    assert_eq!(claims(&sandbox), Vec::<PathBuf>::new());
    add(&elsewhere(&sandbox), &sandbox, "web", "1-4").unwrap();
    assert!(matches!(add_dry(), Err(Error::Claimed { .. })));
}

#[test]
fn the_list_of_host_devices_shows_the_holder_of_another_state_directory() {
    let sandbox = sandbox();
    add(&elsewhere(&sandbox), &sandbox, "web", "1-4").unwrap();
    let view = sandbox.vusb().host_list().unwrap();
    let holder = view.devices[0].holder.as_ref().unwrap();
    assert_eq!((holder.name.as_str(), holder.at.as_str()), ("host0", "hci0:1"));
}

#[test]
fn a_device_that_is_not_plugged_in_is_claimed_for_all_state_directories() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.unplug(4);
    let other = elsewhere(&sandbox);
    for host in ["0781:5581", "0781:5581:A1", "1-4"] {
        let spec = sandbox.spec("mail", &format!("[[device]]\nhost = \"{host}\""));
        let error = other.apply(&spec).unwrap_err();
        assert!(matches!(error, Error::Claimed { .. }), "{error}");
    }
}

#[test]
fn a_claim_and_a_record_hold_nothing_once_the_process_has_ended() {
    let sandbox = sandbox();
    let web = Guest::start(&sandbox, "web");
    sandbox.add("web", "0781:5581").unwrap();
    let process = claim(&claims(&sandbox)[0])["process"].clone();
    assert_eq!(process["pid"], json!(web.0.id()));
    assert!(process["start"].as_u64() > Some(0));
    for other in [sandbox.vusb(), elsewhere(&sandbox)] {
        let error = add(&other, &sandbox, "mail", "1-4").unwrap_err();
        assert!(matches!(error, Error::Claimed { gone: None, .. }), "{error}");
    }
    web.end();
    let mail = Guest::start(&sandbox, "mail");
    sandbox.add("mail", "1-4").unwrap();
    assert_eq!(claims(&sandbox).len(), 1);

    // Two records name it now: the error names both domains, and how to settle it.
    let web = Guest::start(&sandbox, "web");
    sandbox.restart("web");
    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(outcome.exit_code(), ExitCode::Busy);
    assert_eq!(steps(&outcome), ["add controller hci0 (qemu-xhci, 15 ports, index 0)"]);
    let error = outcome.not_restored[0].error.clone();
    let [web_address, mail_address] = ["web", "mail"].map(|it| sandbox.guest(it).to_string());
    let text = &error.message;
    assert!(text.contains(&format!("is held by {mail_address} (as host0 at hci0:1")), "{text}");
    assert!(text.contains(&format!("is recorded for {web_address} (as host0) too")), "{text}");
    let remedy =
        |domain| Remedy::RemoveDevice { domain, device: "host0".parse().unwrap(), forget: false };
    assert_eq!(error.remedies, [remedy(mail_address), remedy(web_address)]);
    // Either of the two remedies settles it.
    sandbox.remove("web", "host0").unwrap();
    assert_eq!(claims(&sandbox).len(), 1);
    assert_eq!(sandbox.shows("mail"), "hci0[1 host0 attached]");
    web.end();
    mail.end();
}

#[test]
fn a_restarted_guest_claims_its_devices_again() {
    let sandbox = sandbox();
    let web = Guest::start(&sandbox, "web");
    sandbox.add("web", "0781:5581").unwrap();
    web.end();
    let web = Guest::start(&sandbox, "web");
    sandbox.restart("web");
    sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(claim(&claims(&sandbox)[0])["process"]["pid"], json!(web.0.id()));
    assert_eq!(claims(&sandbox).len(), 1);
    add(&elsewhere(&sandbox), &sandbox, "mail", "1-4").unwrap_err();
    web.end();
}

/// A sandbox whose command to give the stick to `web` was killed between its intent and its claim.
fn killed_before_its_claim() -> Sandbox {
    let sandbox = sandbox();
    sandbox.faults("web", &[("plug host", "hang")]);
    let another = Another::start(&sandbox, "add 0781:5581");
    another.hangs(&sandbox, 1);
    another.kill();
    sandbox.faults("web", &[]);
    fs::remove_file(&claims(&sandbox)[0]).unwrap();
    sandbox
}

#[test]
fn a_command_that_was_killed_before_it_made_its_claims_makes_them_when_it_is_finished() {
    let sandbox = killed_before_its_claim();
    sandbox
        .dry()
        .device_add(&sandbox.guest("web"), &DeviceSpec::new("tablet".parse().unwrap()))
        .unwrap();
    let vusb = sandbox.vusb();
    let exported = vusb.context.domain_export(&sandbox.guest("web"), &vusb.options).unwrap();
    assert_eq!(exported.record.get("base"), None, "an exported change counts as finished");
    assert_eq!(claims(&sandbox), Vec::<PathBuf>::new(), "a dry run makes none");
    sandbox.add("web", "tablet").unwrap();
    assert_eq!(claims(&sandbox).len(), 1);
    add(&elsewhere(&sandbox), &sandbox, "mail", "1-4").unwrap_err();
}

#[test]
fn a_change_is_undone_if_its_device_was_claimed_meanwhile() {
    let sandbox = killed_before_its_claim();
    add(&elsewhere(&sandbox), &sandbox, "mail", "1-4").unwrap();
    let outcome = sandbox.add("web", "tablet").unwrap();
    let notes = texts(&outcome.notes).join("; ");
    assert!(notes.contains("is held by"), "{notes}");
    assert!(!notes.contains("none of it is in effect"), "its controller was: {notes}");
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached]");
    assert_eq!(claims(&sandbox).len(), 1);
}

#[test]
fn a_failed_step_releases_its_claim() {
    let sandbox = sandbox();
    sandbox.faults("web", &[("plug host", "fail")]);
    sandbox.add("web", "0781:5581").unwrap_err();
    assert_eq!(claims(&sandbox), Vec::<PathBuf>::new());
    add(&elsewhere(&sandbox), &sandbox, "mail", "1-4").unwrap();
}

#[test]
fn a_device_that_is_forgotten_is_released() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.set("web", "unreachable", json!("it was shut down"));
    sandbox.forced().device_remove(&sandbox.guest("web"), &"host0".parse().unwrap()).unwrap();
    assert_eq!(claims(&sandbox), Vec::<PathBuf>::new());
}

#[test]
fn a_damaged_claim_is_an_error_that_names_the_file() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    let path = claims(&sandbox).remove(0);
    fs::write(&path, "nothing").unwrap();
    let error = add(&elsewhere(&sandbox), &sandbox, "mail", "1-4").unwrap_err();
    assert!(matches!(&error, Error::Claim { path: it, .. } if *it == path), "{error}");
    assert!(!error.advice().is_empty());
    // Other devices are not affected.
    sandbox.plug(5, "0781:5582", "");
    add(&elsewhere(&sandbox), &sandbox, "mail", "1-5").unwrap();
}

/// The stick that was given was pulled out, and one that differs in its serial number is there.
#[test]
fn a_claim_does_not_hold_for_another_stick_in_the_same_port() {
    let sandbox = sandbox();
    add(&elsewhere(&sandbox), &sandbox, "web", "1-4").unwrap();
    sandbox.unplug(4);
    sandbox.plug(4, "0781:5581", "A2");
    sandbox.add("mail", "1-4").unwrap();
}

#[test]
fn links_to_an_image_are_one_image() {
    let sandbox = sandbox();
    fs::hard_link(sandbox.at("a.img"), sandbox.at("b.img")).unwrap();
    symlink("a.img", sandbox.at("c.img")).unwrap();
    sandbox.add("web", "storage:a.img").unwrap();
    for name in ["a.img", "b.img", "c.img"] {
        let error = add(&elsewhere(&sandbox), &sandbox, "mail", &format!("storage:{name}"));
        assert!(matches!(error, Err(Error::Claimed { .. })), "{name}: {error:?}");
    }
}

/// The owner of a folder can make a link in it to any file. Whoever names the link must not name
/// that file: a QEMU that may not open it would receive it open.
#[test]
fn a_link_that_another_user_could_have_made_is_kept_as_a_link() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.at("shared")).unwrap();
    fs::create_dir(sandbox.at("own")).unwrap();
    for folder in ["shared", "own"] {
        symlink("../a.img", sandbox.at(&format!("{folder}/link.img"))).unwrap();
    }
    fs::set_permissions(sandbox.at("shared"), fs::Permissions::from_mode(0o777)).unwrap();
    sandbox.add("web", "storage:shared/link.img,readonly").unwrap();
    sandbox.add("web", "storage:own/link.img,readonly").unwrap();
    let record = sandbox.record("web").to_string();
    assert!(record.contains("/shared/link.img\"") && !record.contains("/own/link.img"), "{record}");
    assert!(record.contains("/a.img\""), "{record}");
    // The link still names the same image.
    let error = add(&elsewhere(&sandbox), &sandbox, "mail", "storage:a.img").unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
}

/// A claim keeps other guests away. A guest must not get an image twice either.
#[test]
fn a_guest_gets_an_image_once_under_whatever_name() {
    let sandbox = sandbox();
    fs::hard_link(sandbox.at("a.img"), sandbox.at("b.img")).unwrap();
    sandbox.add("web", "storage:a.img").unwrap();
    let error = sandbox.add("web", "storage:b.img").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    assert!(error.to_string().contains("b.img (as storage0) is already plugged in"), "{error}");
    assert!(sandbox.add("web", "storage:b.img,readonly").is_err());
    assert_eq!(sandbox.shows("web"), "hci0[1 storage0 attached]");
    // Two readers share an image. A spec cannot have two writers of it.
    sandbox.remove("web", "storage0").unwrap();
    sandbox.add("web", "storage:a.img,readonly").unwrap();
    sandbox.add("web", "storage:b.img,readonly").unwrap();
    let both = sandbox.spec(
        "mail",
        "[[device]]\nkind = \"storage\"\nfile = \"b.img\"\n\
         [[device]]\nkind = \"storage\"\nfile = \"a.img\"\n",
    );
    sandbox.remove("web", "storage0").unwrap();
    sandbox.remove("web", "storage1").unwrap();
    let error = sandbox.vusb().apply(&both).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy, "{error}");
}

/// The error names the domain to remove the device from. Removing it there frees it, whichever
/// state directory is used.
#[test]
fn a_device_that_is_removed_with_another_state_directory_is_free() {
    let sandbox = sandbox();
    for (device, name) in [("0781:5581", "host0"), ("storage:a.img", "storage0")] {
        add(&elsewhere(&sandbox), &sandbox, "web", device).unwrap();
        assert!(matches!(sandbox.add("mail", device), Err(Error::Claimed { .. })));
        sandbox.remove("web", name).unwrap();
        assert_eq!(claims(&sandbox), Vec::<PathBuf>::new(), "{device}");
        sandbox.add("mail", device).unwrap();
        // The record in the other state directory still has the device, and holds nothing.
        assert!(add(&elsewhere(&sandbox), &sandbox, "web", device).is_err());
        sandbox.remove("mail", name).unwrap();
    }
}

/// A device that another tool gave a guest may be any that its selector matches, so it is not known
/// to be the requested one.
#[test]
fn a_selector_that_several_devices_match_is_not_the_requested_device() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.set("web", "foreign", json!(["hci0", "host0"]));
    for folder in ["state", "machine/run"] {
        fs::remove_dir_all(sandbox.at(folder)).unwrap();
    }
    sandbox.plug(5, "0781:5581", "A2");
    sandbox.add("mail", "1-5").unwrap();
    let error = sandbox.add("web", "1-5").unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
    // The device of the other tool keeps no other device out, and can be removed.
    sandbox.add("web", "storage:a.img").unwrap();
    sandbox.remove("web", "host0").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[2 storage0 attached]");
}

#[test]
fn a_device_that_never_was_plugged_in_is_promised_to_one_domain() {
    let sandbox = sandbox();
    let later = vusb::Options { accept_absent: true, ..vusb::Options::default() };
    let wait = |vusb: Vusb, guest: &str, device: &str| {
        let vusb = Vusb { options: later.clone(), ..vusb };
        add(&vusb, &sandbox, guest, device)
    };
    wait(elsewhere(&sandbox), "web", "1-9").unwrap();
    let error = wait(sandbox.vusb(), "mail", "1-9").unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
    // Also once it is plugged in, however it is named.
    sandbox.plug(9, "2222:3333", "Z");
    for selector in ["1-9", "2222:3333"] {
        let error = sandbox.add("mail", selector).unwrap_err();
        assert!(matches!(error, Error::Claimed { .. }), "{selector}: {error}");
    }
    elsewhere(&sandbox).restore(&sandbox.guest("web")).unwrap();
    assert_eq!(claims(&sandbox).len(), 1, "{:?}", claims(&sandbox));
    add(&elsewhere(&sandbox), &sandbox, "web", "0781:5581").unwrap();
    elsewhere(&sandbox).device_remove(&sandbox.guest("web"), &"host0".parse().unwrap()).unwrap();
    sandbox.add("mail", "2222:3333").unwrap();
}

/// A driver may let another tool make the change, as that of Proxmox VE does. The device is then
/// that tool's, but the guest has it.
#[test]
fn the_claim_on_a_device_that_belongs_to_another_tool_now_stays() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.set("web", "foreign", json!(["hci0", "host0"]));
    sandbox.add("web", "tablet").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached; 2 tablet0 attached]");
    assert_eq!(claims(&sandbox).len(), 1);
    for other in [sandbox.vusb(), elsewhere(&sandbox)] {
        let error = add(&other, &sandbox, "mail", "1-4").unwrap_err();
        assert!(matches!(error, Error::Claimed { .. }), "{error}");
    }
    // The guest no longer has it.
    sandbox.set("web", "hardware", json!([]));
    sandbox.add("web", "mouse").unwrap();
    assert_eq!(claims(&sandbox), Vec::<PathBuf>::new());
}

#[test]
fn one_of_two_competing_state_directories_gets_the_device() {
    let sandbox = sandbox();
    let other = elsewhere(&sandbox);
    for device in ["0781:5581", "storage:a.img"] {
        for _ in 0..10 {
            let start = Barrier::new(2);
            let results = std::thread::scope(|scope| {
                let calls = [(sandbox.vusb(), "web"), (other.clone(), "mail")];
                let [a, b] = calls.map(|(vusb, guest)| {
                    let (sandbox, start) = (&sandbox, &start);
                    scope.spawn(move || {
                        start.wait();
                        add(&vusb, sandbox, guest, device)
                    })
                });
                [a.join().unwrap(), b.join().unwrap()]
            });
            assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1, "{results:?}");
            let lost = results.iter().find_map(|it| it.as_ref().err()).unwrap();
            assert!(matches!(lost, Error::Claimed { .. }), "{lost}");
            let name = if device.starts_with("storage") { "storage0" } else { "host0" };
            let (vusb, guest) =
                if results[0].is_ok() { (sandbox.vusb(), "web") } else { (other.clone(), "mail") };
            vusb.device_remove(&sandbox.guest(guest), &name.parse().unwrap()).unwrap();
        }
    }
}

#[test]
fn a_claim_says_which_process_and_which_user_hold_the_device() {
    let sandbox = sandbox();
    let web = Guest::start(&sandbox, "web");
    add(&elsewhere(&sandbox), &sandbox, "web", "0781:5581").unwrap();
    let pid = web.0.id();
    let text = sandbox.add("mail", "1-4").unwrap_err().to_string();
    assert!(text.ends_with(&format!("(as host0 at hci0:1, pid {pid})")), "{text}");
    // Only root can give a file away.
    if std::os::unix::fs::chown(&claims(&sandbox)[0], Some(65534), None).is_ok() {
        let text = sandbox.add("mail", "1-4").unwrap_err().to_string();
        let expected = format!("(as host0 at hci0:1, pid {pid}, claimed by user 65534)");
        assert!(text.ends_with(&expected), "{text}");
    }
    web.end();
}

/// Another user may not know the name, but can use the address.
#[test]
fn a_claim_names_the_domain_by_its_name_and_its_address() {
    let sandbox = sandbox();
    elsewhere(&sandbox).apply(&sandbox.spec("web", "[[device]]\nhost = \"0781:5581\"")).unwrap();
    let text = sandbox.add("mail", "1-4").unwrap_err().to_string();
    let expected = format!("is held by web, {} (as host0 at hci0:1", sandbox.guest("web"));
    assert!(text.contains(&expected), "{text}");
}

/// After a reboot there are no claims, but the records are there.
#[test]
fn a_record_holds_an_image_even_without_a_claim() {
    let sandbox = sandbox();
    sandbox.add("web", "storage:a.img,readonly").unwrap();
    fs::remove_dir_all(sandbox.at("machine/run")).unwrap();
    let error = sandbox.add("mail", "storage:a.img").unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
    fs::hard_link(sandbox.at("a.img"), sandbox.at("link.img")).unwrap();
    sandbox.add("mail", "storage:link.img").unwrap_err();
    sandbox.add("mail", "storage:a.img,readonly").unwrap();
    // A guest that has ended holds nothing.
    let ftp = Guest::start(&sandbox, "ftp");
    sandbox.file("b.img", "");
    sandbox.add("ftp", "storage:b.img").unwrap();
    fs::remove_dir_all(sandbox.at("machine/run")).unwrap();
    sandbox.add("mail", "storage:b.img").unwrap_err();
    ftp.end();
    sandbox.add("mail", "storage:b.img").unwrap();
}

/// Other versions of vusb on the same machine look for a claim by its name.
#[test]
fn the_two_buses_of_an_xhci_have_two_claims() {
    let sandbox = sandbox();
    let name = |sandbox: &Sandbox| {
        let path = claims(sandbox).remove(0);
        path.file_name().unwrap().to_str().unwrap().to_owned()
    };
    for (speed, begin) in
        [("480", "usb-pci-0000_00_14.0-usb-0_4-"), ("5000", "usb-pci-0000_00_14.0-usb-0_4_usb3-")]
    {
        sandbox.speed(4, speed);
        sandbox.add("web", "1-4").unwrap();
        assert!(name(&sandbox).starts_with(begin), "{}", name(&sandbox));
        sandbox.remove("web", "host0").unwrap();
    }
}

#[test]
fn a_damaged_record_does_not_keep_other_devices_from_being_attached() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    fs::write(sandbox.records().remove(0), "{").unwrap();
    sandbox.plug(5, "0951:1666", "B1");
    for device in ["0951:1666", "0951:1666:B1", "1-5", "pci-0000:00:14.0-usb-0:5", "001.015"] {
        sandbox.add("mail", device).unwrap();
        sandbox.remove("mail", "host0").unwrap();
    }
    for device in ["0781:5581", "1-4"] {
        let error = sandbox.add("mail", device).unwrap_err();
        assert!(matches!(error, Error::Record { .. }), "{error}");
    }
}

/// Records of versions without an index are indexed by the next change.
#[test]
fn a_record_that_is_not_indexed_holds_its_devices() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    fs::remove_dir_all(sandbox.at("state/index-1")).unwrap();
    fs::remove_dir_all(sandbox.at("machine/run")).unwrap();
    let error = sandbox.add("mail", "1-4").unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
}
