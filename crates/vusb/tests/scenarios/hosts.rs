//! Host devices: which may be attached, and which domain holds them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

use serde_json::json;
use vusb::drivers::Process;
use vusb::model::remedy::Remedy;
use vusb::model::spec::DeviceSpec;
use vusb::{Advice, DeviceList, Error, ExitCode};

use crate::sandbox::{Sandbox, Vusb, at, texts};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox
}

#[test]
fn a_device_that_is_not_plugged_in_is_not_found() {
    let sandbox = sandbox();
    for selector in ["0781:5590", "001.020"] {
        let error = sandbox.add("web", selector).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::NotFound, "{error}");
        assert_eq!(error.advice(), [Advice::PlugIn]);
        assert!(!sandbox.at("web.sim").exists());
    }
}

#[test]
fn an_ambiguous_selector_lists_the_matches_and_better_selectors() {
    let sandbox = sandbox();
    sandbox.plug(5, "0781:5581", "A2");
    let error = sandbox.add("web", "0781:5581").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert!(error.to_string().contains("`0781:5581:A1` or `0781:5581:A2`"), "{error}");
    assert_eq!(at(&sandbox.add("web", "0781:5581:A2").unwrap()), "hci0:1");
}

#[test]
fn a_second_identical_device_is_free() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.plug(5, "0781:5581", "A2");
    // web holds the device in port 4, whatever its selector matches now.
    assert_eq!(sandbox.add("mail", "1-4").unwrap_err().exit_code(), ExitCode::Busy);
    sandbox.add("mail", "1-5").unwrap();
}

#[test]
fn protected_devices_need_force_and_hubs_are_always_refused() {
    let sandbox = sandbox();
    sandbox.keyboard(4);
    let error = sandbox.add("web", "1-4").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy);
    assert!(error.to_string().contains("only keyboard"), "{error}");
    sandbox
        .forced()
        .device_add(&sandbox.guest("web"), &DeviceSpec::new("1-4".parse().unwrap()))
        .unwrap();

    sandbox.plug(6, "05e3:0610", "");
    sandbox.class(6, "09");
    for vusb in [sandbox.vusb(), sandbox.forced()] {
        let hub = DeviceSpec::new("05e3:0610".parse().unwrap());
        let error = vusb.device_add(&sandbox.guest("web"), &hub).unwrap_err();
        assert!(matches!(error, Error::HostHub { .. }), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Policy);
    }
}

/// A udev rule runs when the kernel has announced a device and not configured it yet.
#[test]
fn a_device_that_is_not_configured_yet_is_protected_like_any_other() {
    let sandbox = sandbox();
    sandbox.unconfigured(4, [3, 1, 1]);
    let view = &sandbox.vusb().host_list().unwrap().devices[0];
    assert!(view.protection.iter().any(|it| it.contains("only keyboard")), "{view:?}");
    let error = sandbox.add("web", "1-4").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy, "{error}");
    assert!(error.to_string().contains("only keyboard"), "{error}");
    let spec = sandbox.spec("web", "[[device]]\nhost = \"1-4\"\n");
    let error = sandbox.vusb().qemu_args(&spec).unwrap_err();
    assert!(error.to_string().contains("only keyboard"), "{error}");

    sandbox.unconfigured(4, [9, 0, 0]);
    let hub = sandbox.add("web", "1-4").unwrap_err();
    assert!(matches!(hub, Error::HostHub { .. }), "{hub}");
    // One that stays in that state can be attached.
    sandbox.unconfigured(4, [8, 6, 80]);
    assert_eq!(at(&sandbox.add("web", "1-4").unwrap()), "hci0:1");
}

/// The program `name` uses the device in port `1-{port}`.
pub(crate) fn used_by(sandbox: &Sandbox, port: u8, pid: u32, name: &str) {
    let usb = format!("machine/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}");
    let interface = sandbox.at(&format!("{usb}/1-{port}:1.0"));
    fs::create_dir_all(&interface).unwrap();
    for attribute in ["Number", "Class", "SubClass", "Protocol"] {
        fs::write(interface.join(format!("bInterface{attribute}")), "00\n").unwrap();
    }
    symlink("../../usbfs", interface.join("driver")).unwrap();
    let process = sandbox.at(&format!("machine/proc/{pid}"));
    fs::create_dir_all(process.join("fd")).unwrap();
    fs::write(process.join("comm"), format!("{name}\n")).unwrap();
    let node = format!("/dev/bus/usb/001/{:03}", 10 + port);
    symlink(node, process.join("fd/7")).unwrap();
}

#[test]
fn a_device_that_another_program_uses_needs_force() {
    let sandbox = sandbox();
    used_by(&sandbox, 4, 4711, "qemu-system-x86");
    let error = sandbox.add("web", "1-4").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    let sentence = "is in use by qemu-system-x86 (pid 4711)";
    assert!(error.to_string().ends_with(sentence), "{error}");
    assert!(error.to_string().contains("1-4 ("), "the error names the device: {error}");
    assert_eq!(error.remedies(), [Remedy::Force]);
    let view = &sandbox.vusb().host_list().unwrap().devices[0];
    assert_eq!(view.used_by.as_deref(), Some("qemu-system-x86 (pid 4711)"));
    assert_eq!(view.processes[0].pid, 4711);
    let spec = DeviceSpec::new("1-4".parse().unwrap());
    sandbox.forced().device_add(&sandbox.guest("web"), &spec).unwrap();
}

/// A QEMU of this machine with this command line.
fn qemu(sandbox: &Sandbox, pid: u32, arguments: &str) {
    let process = sandbox.at(&format!("machine/proc/{pid}"));
    fs::create_dir_all(&process).unwrap();
    let line = format!("qemu-system-x86_64 {arguments}").replace(' ', "\0") + "\0";
    fs::write(process.join("cmdline"), line).unwrap();
    owned_by(sandbox, pid, 0);
}

/// Makes the process that of the user.
fn owned_by(sandbox: &Sandbox, pid: u32, uid: u32) {
    let status = sandbox.at(&format!("machine/proc/{pid}/status"));
    let ids = format!("{uid}\t{uid}\t{uid}\t{uid}");
    fs::write(status, format!("Name:\tkvm\nUid:\t{ids}\nGid:\t{ids}\nGroups:\t\n")).unwrap();
}

/// Any user can start a process with any name and arguments.
#[test]
fn a_command_line_counts_only_if_its_user_could_have_the_device() {
    let own = rustix::process::geteuid().as_raw();
    let stranger = own + 4711;
    for absent in [false, true] {
        let sandbox = sandbox();
        let node = sandbox.at("machine/dev/bus/usb/001/014");
        fs::create_dir_all(node.parent().unwrap()).unwrap();
        fs::write(&node, "").unwrap();
        let mode = |mode| fs::set_permissions(&node, fs::Permissions::from_mode(mode)).unwrap();
        if absent {
            sandbox.unplug(4);
        }
        qemu(&sandbox, 99, "-device usb-host,vendorid=0x0781");
        fs::create_dir_all(sandbox.at("machine/etc")).unwrap();
        let spec = sandbox.spec("web", "[[device]]\nhost = \"0781:5581\"\n");
        let is_held = |uid: u32| {
            owned_by(&sandbox, 99, uid);
            let error = sandbox.dry().apply(&spec).err();
            let view = sandbox.vusb().host_list().unwrap();
            let user = view.devices.first().and_then(|it| it.used_by.clone());
            assert_eq!(user.is_some(), error.is_some() && !absent, "{uid} {user:?} {error:?}");
            error.is_some_and(|it| it.to_string().contains("whose command line names"))
        };
        mode(0o664);
        assert!(is_held(0) && is_held(own), "absent: {absent}");
        assert!(!is_held(stranger), "absent: {absent}");
        let accounts = format!("libvirt-qemu:x:{stranger}:1::/:/bin/false\n");
        fs::write(sandbox.at("machine/etc/passwd"), accounts).unwrap();
        assert!(is_held(stranger), "absent: {absent}");
        fs::write(sandbox.at("machine/etc/passwd"), "").unwrap();
        mode(0o666);
        assert_eq!(is_held(stranger), !absent);
    }
}

/// The device was detached after the start of the guest.
#[test]
fn a_guest_whose_process_does_not_have_the_device_open_does_not_hold_it() {
    let sandbox = sandbox();
    qemu(&sandbox, 99, "-name post -device usb-host,hostbus=1,hostport=4");
    let used_by = || sandbox.vusb().host_list().unwrap().devices[0].used_by.clone();
    assert!(used_by().is_some(), "its open files cannot be read");
    let files = sandbox.at("machine/proc/99/fd");
    fs::create_dir_all(&files).unwrap();
    symlink("/dev/bus/usb/001/014", files.join("7")).unwrap();
    let held = Some("QEMU post (pid 99), whose command line names 1-4".to_owned());
    assert_eq!(used_by(), held);
    assert_eq!(sandbox.add("web", "1-4").unwrap_err().exit_code(), ExitCode::Busy);
    fs::remove_file(files.join("7")).unwrap();
    assert_eq!(used_by(), None);
    assert_eq!(at(&sandbox.add("web", "1-4").unwrap()), "hci0:1");
}

/// QEMU looks for devices every 2 s, so it has not opened one that was plugged in a moment ago.
#[test]
fn a_guest_may_take_a_device_in_the_seconds_after_the_plug_or_its_own_start() {
    let sandbox = sandbox();
    let seconds_since = |plug: u64, start: u64| {
        let power = sandbox.at("machine/sys/bus/usb/devices/1-4/power");
        fs::create_dir_all(&power).unwrap();
        fs::write(power.join("connected_duration"), format!("{}\n", plug * 1000)).unwrap();
        let stat = format!("99 (kvm) S {}{}\n", "0 ".repeat(18), (1000 - start) * 100);
        fs::write(sandbox.at("machine/proc/99/stat"), stat).unwrap();
        fs::write(sandbox.at("machine/proc/uptime"), "1000.00 1.00\n").unwrap();
    };
    fs::create_dir_all(sandbox.at("machine/proc/99/fd")).unwrap();
    for (named, of_port) in [
        ("hostbus=1,hostport=4", true),
        ("vendorid=0x0781,productid=0x5581", true),
        ("hostbus=1,hostaddr=14", false),
    ] {
        qemu(&sandbox, 99, &format!("-name post -device usb-host,{named}"));
        for (plug, start, expected) in
            [(1, 900, of_port), (900, 1, true), (900, 900, false), (6, 6, false)]
        {
            seconds_since(plug, start);
            let error =
                sandbox.dry().apply(&sandbox.spec("web", "[[device]]\nhost = \"1-4\"\n")).err();
            let text = error.as_ref().map(ToString::to_string).unwrap_or_default();
            assert_eq!(error.is_some(), expected, "{named} {plug} {start} {text}");
            let soon = "and which may take it in the next seconds";
            assert_eq!(text.ends_with(soon), expected, "{text}");
        }
    }
    // The guest has taken the device.
    seconds_since(1, 900);
    symlink("/dev/bus/usb/001/014", sandbox.at("machine/proc/99/fd/7")).unwrap();
    let held = sandbox.vusb().host_list().unwrap().devices[0].used_by.clone();
    assert_eq!(held.as_deref(), Some("QEMU post (pid 99), whose command line names 001.014"));
}

#[test]
fn a_guest_whose_command_line_names_a_device_holds_it() {
    let sandbox = sandbox();
    qemu(&sandbox, 99, "-name post -device usb-host,hostbus=1,hostport=4");
    let error = sandbox.add("web", "0781:5581").unwrap_err();
    assert_eq!((error.exit_code(), error.remedies()), (ExitCode::Busy, vec![Remedy::Force]));
    let sentence = "is in use by QEMU post (pid 99), whose command line names 1-4";
    assert!(error.to_string().ends_with(sentence), "{error}");
    let view = &sandbox.vusb().host_list().unwrap().devices[0];
    assert_eq!(view.used_by.as_deref(), Some("QEMU post (pid 99), whose command line names 1-4"));
    assert_eq!(view.processes[0].pid, 99);
    let spec = DeviceSpec::new("1-4".parse().unwrap());
    sandbox.forced().device_add(&sandbox.guest("web"), &spec).unwrap();
    let view = &sandbox.vusb().host_list().unwrap().devices[0];
    assert_eq!(view.used_by, None, "{view:?}");
}

/// The guest takes the device as soon as it is plugged in.
#[test]
fn a_guest_whose_command_line_names_an_absent_device_holds_it() {
    let sandbox = sandbox();
    sandbox.unplug(4);
    qemu(&sandbox, 99, "-device usb-host,vendorid=0x0781,productid=0x5581");
    let spec = sandbox.spec("web", "[[device]]\nhost = \"0781:5581:A1\"\n");
    for vusb in [sandbox.vusb(), sandbox.dry()] {
        let error = vusb.apply(&spec).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Busy, "{error}");
        let sentence = "whose command line names 0781:5581: it takes any match";
        assert!(error.to_string().ends_with(sentence), "{error}");
    }
    sandbox.forced().apply(&spec).unwrap();
    sandbox.vusb().apply(&sandbox.spec("mail", "[[device]]\nhost = \"0781:5590\"\n")).unwrap();
}

#[test]
fn a_command_line_that_takes_any_match_holds_one_device() {
    let sandbox = sandbox();
    sandbox.plug(5, "0781:5581", "A2");
    qemu(&sandbox, 99, "-device usb-host,vendorid=0x0781,productid=0x5581");
    for port in ["1-4", "1-5"] {
        let error = sandbox.add("web", port).unwrap_err();
        assert!(error.to_string().contains("takes any match"), "{error}");
    }
    // It has the one in port 4.
    used_by(&sandbox, 4, 99, "qemu-system-x86");
    assert_eq!(sandbox.add("web", "1-4").unwrap_err().exit_code(), ExitCode::Busy);
    assert_eq!(at(&sandbox.add("web", "1-5").unwrap()), "hci0:1");
}

#[test]
fn the_command_line_of_the_guest_itself_is_no_obstacle() {
    let sandbox = sandbox();
    // This process stands for the QEMU of the guest.
    let pid = std::process::id();
    qemu(&sandbox, pid, "-device usb-host,hostbus=1,hostport=4 -device usb-host,vendorid=0x0781");
    let process = Process::with_id(i32::try_from(pid).unwrap()).unwrap();
    sandbox.set("web", "process", json!(process));
    assert_eq!(sandbox.add("mail", "1-4").unwrap_err().exit_code(), ExitCode::Busy);
    assert_eq!(at(&sandbox.add("web", "1-4").unwrap()), "hci0:1");
}

#[test]
fn a_device_that_the_guest_itself_uses_is_not_refused() {
    let sandbox = sandbox();
    sandbox.add("web", "1-4").unwrap();
    used_by(&sandbox, 4, 4711, "qemu-system-x86");
    assert!(sandbox.add("web", "1-4").unwrap().already);
    // For another guest, the record says more than the kernel.
    let error = sandbox.add("mail", "1-4").unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
}

#[test]
fn a_device_that_the_process_of_the_guest_uses_is_not_refused() {
    let sandbox = sandbox();
    let own = std::process::id();
    used_by(&sandbox, 4, own, "qemu-system-x86");
    assert!(matches!(sandbox.add("web", "1-4").unwrap_err(), Error::InUse { .. }));
    sandbox.add("web", "mouse").unwrap();
    let text = fs::read_to_string(sandbox.at("web.sim")).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state["process"] = json!(Process::with_id(own.try_into().unwrap()).unwrap());
    sandbox.file("web.sim", &state.to_string());
    sandbox.add("web", "1-4").unwrap();
}

#[test]
fn an_image_that_this_machine_uses_itself_needs_force() {
    let sandbox = sandbox();
    let image = sandbox.file("stick.img", "").canonicalize().unwrap();
    let device = format!("storage:{}", image.display());
    sandbox.file("machine/proc/swaps", &format!("Filename\n{} file 1 0 -2\n", image.display()));
    let error = sandbox.add("web", &device).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Policy);
    let sentence = "is protected: it is used as swap: run swapoff first";
    assert_eq!(error.to_string(), format!("{} {sentence}", image.display()));
    assert_eq!(error.remedies(), [Remedy::Force]);
    // An image that is only read needs no force.
    sandbox.add("web", &format!("{device},readonly")).unwrap();
    let spec = DeviceSpec::new(device.parse().unwrap());
    sandbox.forced().device_add(&sandbox.guest("mail"), &spec).unwrap_err();
    sandbox.remove("web", "hci0:1").unwrap();
    sandbox.forced().device_add(&sandbox.guest("mail"), &spec).unwrap();
}

#[test]
fn a_device_belongs_to_one_domain_whatever_selector_is_used() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    for name in ["0781:5581", "0781:5581:A1", "1-4", "001.014", "pci-0000:00:14.0-usb-0:4"] {
        let error = sandbox.add("mail", name).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Busy, "{name}");
        let domain = sandbox.guest("web").to_string();
        let device = "host0".parse().unwrap();
        assert_eq!(error.remedies(), [Remedy::RemoveDevice { domain, device, forget: false }]);
        // The domain that holds it recognizes it under each selector.
        let again = sandbox.add("web", name).unwrap();
        assert!(again.already && at(&again) == "hci0:1", "{name}");
    }
    let view = sandbox.vusb().host_list().unwrap();
    let holder = view.devices[0].holder.as_ref().unwrap();
    assert_eq!((holder.name.as_str(), holder.at.as_str()), ("host0", "hci0:1"));
    sandbox.remove("web", "0781:5581").unwrap();
    sandbox.add("mail", "1-4").unwrap();
}

#[test]
fn an_address_is_stored_as_a_durable_selector() {
    let sandbox = sandbox();
    let outcome = sandbox.add("web", "001.014").unwrap();
    assert!(texts(&outcome.notes).iter().all(|it| !it.contains("is written as")), "{outcome:?}");
    let device = sandbox.record("web")["hardware"][0]["devices"][0].clone();
    assert_eq!(device["selector"], "pci-0000:00:14.0-usb-0:4");
    assert_eq!(sandbox.record("web")["places"]["host0"], "pci-0000:00:14.0-usb-0:4");
    assert_eq!(sandbox.sim("web")["given"]["host0"], json!({"bus": 1, "address": 14}));
}

#[test]
fn the_claim_of_a_guest_that_ended_holds_until_it_is_forced() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.set("web", "unreachable", json!("it was shut down"));
    let error = sandbox.add("mail", "0781:5581").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("which is unreachable (") && text.contains("it was shut down"), "{text}");
    assert!(
        matches!(&error.remedies()[..], [Remedy::RemoveDevice { forget: true, .. }]),
        "{error:?}"
    );

    let (web, host0) = (sandbox.guest("web"), "host0".parse().unwrap());
    let all = sandbox.vusb().list_all().unwrap();
    assert_eq!(all.unreachable[0].holds, ["0781:5581"]);
    let outcome = sandbox.forced().device_remove(&web, &host0).unwrap();
    assert!(
        outcome.steps.is_empty() && texts(&outcome.notes).join("; ").contains("only the record")
    );
    sandbox.add("mail", "0781:5581").unwrap();
}

#[test]
fn an_unplugged_device_is_absent_and_can_be_removed() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.unplug(4);
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 absent]");
    assert!(sandbox.add("web", "0781:5581").unwrap().already);
    sandbox.add("web", "tablet").unwrap();
    sandbox.remove("web", "0781:5581").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[2 tablet0 attached]");
}

#[test]
fn a_spec_with_an_absent_device_applies_the_rest_and_keeps_its_port() {
    let sandbox = sandbox();
    let text = "[[device]]\nhost = \"0781:5590\"\nname = \"stick\"\n[[device]]\nkind = \"tablet\"";
    let spec = sandbox.spec("web", text);
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert!(
        texts(&outcome.notes)
            .join("; ")
            .contains("stick (0781:5590) is not plugged into this machine")
    );
    assert_eq!(sandbox.shows("web"), "hci0[1 stick absent; 2 tablet0 attached]");
    assert!(sandbox.vusb().apply(&spec).unwrap().already);
    assert!(sandbox.vusb().restore(&sandbox.guest("web")).unwrap().already);

    sandbox.plug(7, "0781:5590", "B");
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert_eq!(outcome.steps.len(), 1);
    assert_eq!(sandbox.shows("web"), "hci0[1 stick attached; 2 tablet0 attached]");
}

#[test]
fn an_image_has_one_writer_or_many_readers() {
    let sandbox = sandbox();
    let image = sandbox.file("a.img", "");
    std::fs::hard_link(&image, sandbox.at("b.img")).unwrap();
    sandbox.add("web", "storage:a.img,readonly").unwrap();
    sandbox.add("mail", "storage:b.img,readonly").unwrap();
    let error = sandbox.add("ftp", "storage:a.img").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Busy);
    sandbox.remove("web", "storage0").unwrap();
    assert_eq!(sandbox.add("ftp", "storage:a.img").unwrap_err().exit_code(), ExitCode::Busy);
    sandbox.remove("mail", "storage0").unwrap();
    sandbox.add("ftp", "storage:a.img").unwrap();
    assert_eq!(
        sandbox.add("mail", "storage:b.img,readonly").unwrap_err().exit_code(),
        ExitCode::Busy
    );
}

#[test]
fn a_spec_keeps_a_device_that_was_unplugged_after_it_was_attached() {
    let sandbox = sandbox();
    let spec = sandbox.spec("web", "[[device]]\nhost = \"0781:5581\"");
    sandbox.vusb().apply(&spec).unwrap();
    sandbox.unplug(4);
    let again = sandbox.vusb().apply(&spec).unwrap();
    assert!(again.already && again.notes.is_empty(), "{again:?}");
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 absent]");
}

#[test]
fn a_device_that_the_hypervisor_reports_as_absent_is_listed_as_absent() {
    let sandbox = sandbox();
    sandbox.add("web", "redir:tcp:127.0.0.1:4000").unwrap();
    sandbox.set("web", "absent", json!(["redir0"]));
    assert_eq!(sandbox.shows("web"), "hci0[1 redir0 absent]");
}

#[test]
fn a_replugged_device_is_not_attached() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.add("web", "0781:5581").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached]");
    // The hypervisor still holds the old connection.
    sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 99}}));
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 absent]");
    let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
    let domain = sandbox.guest("web").to_string();
    assert_eq!(view.notes[0].remedies(), [Remedy::Restore { domain }]);
    // This machine has not authorized it since: `vusb apply` is not advised, because it would
    // refuse.
    sandbox.authorize(4, false);
    let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
    assert_eq!(view.notes[0].remedies(), []);
    let note = view.notes[0].to_string();
    assert!(note.starts_with("host0 is not restored: ") && note.contains("authorized"), "{note}");
    sandbox.authorize(4, true);
    sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached]");
}

#[test]
fn the_second_of_two_identical_devices_is_another_device() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.plug(5, "0781:5581", "A2");
    let second = sandbox.add("web", "0781:5581:A2").unwrap();
    assert!(!second.already && at(&second) == "hci0:2");
    for selector in ["1-5", "0781:5581:A2", "001.015"] {
        let again = sandbox.add("web", selector).unwrap();
        assert!(again.already && at(&again) == "hci0:2", "{selector}");
    }
    assert_eq!(sandbox.add("mail", "1-5").unwrap_err().exit_code(), ExitCode::Busy);
    // Both have these ids, however they were given.
    let error = sandbox.remove("web", "0781:5581").unwrap_err();
    assert!(error.to_string().contains("host0 (hci0:1), host1 (hci0:2)"), "{error}");
    // Also if only one of them is plugged in now.
    sandbox.unplug(4);
    let error = sandbox.remove("web", "0781:5581").unwrap_err();
    assert!(matches!(error, Error::AmbiguousDevice { .. }), "{error}");
    sandbox.remove("web", "1-5").unwrap();
    sandbox.remove("web", "0781:5581").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[]");
}

/// A device that returns at a speed that its port does not support is refused before any step.
#[test]
fn a_device_that_returns_too_fast_for_its_port_is_refused() {
    let sandbox = sandbox();
    sandbox.speed(4, "12");
    let spec =
        "[[controller]]\nmodel = \"piix3-uhci\"\n[[device]]\nhost = \"0781:5581\"\nname = \"lic\"";
    sandbox.vusb().apply(&sandbox.spec("web", spec)).unwrap();
    sandbox.restart("web");
    sandbox.speed(4, "480");
    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(outcome.exit_code(), ExitCode::NoRoom, "{outcome:?}");
    assert_eq!(sandbox.shows("web"), "hci0[1 lic missing]");
    sandbox.speed(4, "12");
    sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 lic attached]");
}

#[test]
fn a_device_with_the_same_ids_at_another_port_is_another_device() {
    let sandbox = sandbox();
    let spec = sandbox.spec("web", "[[device]]\nhost = \"0781:5581\"\nname = \"lic\"");
    sandbox.vusb().apply(&spec).unwrap();
    sandbox.unplug(4);
    sandbox.plug(5, "0781:5581", "A2");
    let expected = "lic (0781:5581:A1) is not plugged in at its port; 0781:5581:A2 at 1-5 was not given to the domain";
    assert_eq!(texts(&sandbox.vusb().list(&sandbox.guest("web")).unwrap().notes), [expected]);
    assert_eq!(sandbox.shows("web"), "hci0[1 lic absent]");
    for outcome in [sandbox.vusb().apply(&spec), sandbox.vusb().restore(&sandbox.guest("web"))] {
        let outcome = outcome.unwrap();
        assert!(outcome.already && outcome.steps.is_empty(), "{outcome:?}");
    }
    sandbox.restart("web");
    let outcome = sandbox.vusb().apply(&spec).unwrap();
    assert_eq!(texts(&outcome.notes), [expected]);
    assert_eq!(sandbox.shows("web"), "hci0[1 lic absent]");
    assert_eq!(sandbox.sim("web")["hardware"][0]["devices"], json!([]));
    // A person may give it by the same ids: it is a second device.
    let second = sandbox.add("web", "0781:5581").unwrap();
    assert!(!second.already && at(&second) == "hci0:2");
    // Its ids are the selector of the first one.
    let selector = &sandbox.record("web")["hardware"][0]["devices"][1]["selector"];
    assert_eq!(selector, "pci-0000:00:14.0-usb-0:5");
    sandbox.plug(4, "0781:5581", "A1");
    assert!(!sandbox.vusb().restore(&sandbox.guest("web")).unwrap().already);
    assert_eq!(sandbox.shows("web"), "hci0[1 lic attached; 2 host0 attached]");
}

#[test]
fn a_device_that_returns_with_another_id_is_taken_only_if_the_record_allows_it() {
    let sandbox = sandbox();
    sandbox.add("web", "1-4").unwrap();
    sandbox.unplug(4);
    sandbox.plug(4, "0483:df11", "");
    sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 99}}));
    let expected =
        "host0 (0781:5581:A1) is not plugged in: another device, 0483:df11, is in its port 1-4";
    let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
    assert_eq!(texts(&view.notes), [expected]);
    let restored = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert!(restored.already);
    assert_eq!(texts(&restored.notes), [expected]);
    let error = sandbox.add("web", "0483:df11").unwrap_err();
    assert!(matches!(error, Error::OtherDevice { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Busy);

    let text = "[[device]]\nhost = \"1-4\"\nname = \"host0\"\nalso = [\"0483:df11\"]";
    let outcome = sandbox.vusb().apply(&sandbox.spec("web", text)).unwrap();
    assert_eq!((outcome.steps.len(), texts(&outcome.notes)), (2, Vec::new()));
    assert_eq!(sandbox.record("web")["also"]["host0"], json!(["0483:df11"]));
    assert_eq!(sandbox.sim("web")["given"]["host0"], json!({"bus": 1, "address": 14}));
    // Without it, the record no longer allows it.
    sandbox.vusb().apply(&sandbox.spec("web", "[[device]]\nhost = \"1-4\"")).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 absent]");
}

#[test]
fn a_device_given_by_its_serial_number_is_followed_to_another_port() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581:A1").unwrap();
    sandbox.unplug(4);
    sandbox.plug(5, "0781:5581", "A1");
    sandbox.add("mail", "1-5").unwrap_err();
    let outcome = sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    let [from, to] = [4, 5].map(|port| format!("pci-0000:00:14.0-usb-0:{port}"));
    let expected =
        format!("host0 has the same serial number and is at another port: {to} instead of {from}");
    assert_eq!(texts(&outcome.notes), [expected]);
    assert_eq!(sandbox.record("web")["places"]["host0"], to);
    sandbox.plug(4, "0781:5581", "A3");
    sandbox.add("mail", "1-4").unwrap();
}

#[test]
fn a_device_is_found_by_bus_and_address_after_it_was_unplugged() {
    let sandbox = sandbox();
    for given in ["001.014", "0781:5581"] {
        for removed in ["001.014", "1-4", "0781:5581:A1", "pci-0000:00:14.0-usb-0:4"] {
            sandbox.plug(4, "0781:5581", "A1");
            sandbox.add("web", given).unwrap();
            sandbox.unplug(4);
            assert!(sandbox.add("web", removed).unwrap().already);
            sandbox.remove("web", removed).unwrap();
            assert_eq!(sandbox.shows("web"), "hci0[]");
        }
    }
    // The address may be that of another device by now.
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 15}}));
    sandbox.unplug(4);
    sandbox.plug(5, "046d:c52b", "");
    assert_eq!(sandbox.remove("web", "001.014").unwrap_err().exit_code(), ExitCode::NotFound);
}

#[test]
fn a_second_spec_for_an_absent_device_is_refused() {
    let sandbox = sandbox();
    sandbox.add("web", "1-4").unwrap();
    sandbox.unplug(4);
    for host in ["0781:5581", "1-4", "0781:5581:A1"] {
        let spec = sandbox.spec("mail", &format!("[[device]]\nhost = \"{host}\""));
        for vusb in [sandbox.vusb(), sandbox.dry()] {
            let error = vusb.apply(&spec).unwrap_err();
            assert!(matches!(error, Error::Claimed { .. }), "{error}");
        }
    }
    // A device that was never there is known by its selector alone.
    for (guest, expected) in [("mail", true), ("web", false)] {
        let spec = sandbox.spec(guest, "[[device]]\nhost = \"0781:5590\"");
        assert_eq!(sandbox.vusb().apply(&spec).is_ok(), expected, "{guest}");
    }
}

#[test]
fn a_record_without_identities_is_read() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    let path = sandbox.records().remove(0);
    let mut record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(record["seen"]["host0"]["serial"], "A1");
    record.as_object_mut().unwrap().remove("seen");
    std::fs::write(&path, record.to_string()).unwrap();
    sandbox.plug(5, "0781:5581", "A2");
    assert_eq!(sandbox.add("mail", "1-4").unwrap_err().exit_code(), ExitCode::Busy);
    sandbox.add("mail", "1-5").unwrap();
    assert!(sandbox.add("web", "0781:5581").unwrap().already);
    sandbox.restart("web");
    sandbox.vusb().restore(&sandbox.guest("web")).unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached]");
    assert_eq!(sandbox.record("web")["seen"]["host0"]["serial"], "A1");
}

#[test]
fn a_device_that_the_guest_has_can_be_moved_to_another_port() {
    let sandbox = sandbox();
    sandbox.add("web", "1-4").unwrap();
    // The hypervisor has it open.
    used_by(&sandbox, 4, 4711, "qemu-system-x86");
    let outcome = sandbox.vusb().device_move(&sandbox.guest("web"), &"host0".parse().unwrap(), "3");
    assert_eq!(at(&outcome.unwrap()), "hci0:3");
    assert_eq!(sandbox.shows("web"), "hci0[3 host0 attached]");
}

#[test]
fn a_damaged_record_is_named_once_in_the_list_of_host_devices() {
    let sandbox = sandbox();
    sandbox.plug(5, "0951:1666", "B1");
    for device in ["1-4", "1-5"] {
        sandbox.add("web", device).unwrap();
    }
    let holders =
        sandbox.vusb().host_list().unwrap().devices.into_iter().map(|it| it.holder.unwrap());
    let holders: Vec<String> = holders.map(|it| format!("{} {}", it.name, it.at)).collect();
    assert_eq!(holders, ["host0 hci0:1", "host1 hci0:2"]);
    // Without claims, the records give the same answer.
    fs::remove_dir_all(sandbox.at("machine/run")).unwrap();
    let holders =
        sandbox.vusb().host_list().unwrap().devices.into_iter().map(|it| it.holder.unwrap());
    let holders: Vec<String> = holders.map(|it| format!("{} {}", it.name, it.at)).collect();
    assert_eq!(holders, ["host0 hci0:1", "host1 hci0:2"]);
    let path = sandbox.records().remove(0);
    fs::write(&path, "{").unwrap();
    let view = sandbox.vusb().host_list().unwrap();
    assert_eq!(view.devices.len(), 2);
    let [note] = &texts(&view.notes)[..] else { panic!("{:?}", view.notes) };
    assert!(note.contains(path.to_str().unwrap()), "{note}");
}

/// A device in the port of one that was given concerns that port alone.
#[test]
fn another_device_in_a_port_does_not_keep_other_ports_from_being_used() {
    let sandbox = sandbox();
    sandbox.add("web", "1-4").unwrap();
    sandbox.unplug(4);
    sandbox.plug(4, "0483:df11", "");
    sandbox.plug(5, "0951:1666", "B1");
    assert!(matches!(sandbox.add("web", "1-4").unwrap_err(), Error::OtherDevice { .. }));
    assert_eq!(at(&sandbox.add("web", "1-5").unwrap()), "hci0:2");
}

#[test]
fn a_dry_run_does_not_forget_a_device_of_a_guest_that_ended() {
    let sandbox = sandbox();
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.set("web", "unreachable", json!("it was shut down"));
    let forced = sandbox.forced();
    let dry = forced.with_options(vusb::Options { dry_run: true, ..forced.options.clone() });
    let host0 = "host0".parse().unwrap();
    let outcome = dry.device_remove(&sandbox.guest("web"), &host0).unwrap();
    assert!(outcome.dry_run);
    assert!(sandbox.record("web").to_string().contains("host0"));
    let outcome = forced.device_remove(&sandbox.guest("web"), &host0).unwrap();
    assert!(!outcome.dry_run);
    assert!(!sandbox.record("web").to_string().contains("host0"));
}

/// The stick in port 4 is in the guest, and another tool has given it.
fn given_by_another_tool(sandbox: &Sandbox) {
    sandbox.add("web", "1-4").unwrap();
    sandbox.set("web", "foreign", json!(["hci0", "host0"]));
    fs::remove_dir_all(sandbox.at("state")).unwrap();
    fs::remove_dir_all(sandbox.at("machine/run")).unwrap();
}

#[test]
fn a_replugged_device_of_another_tool_is_left_to_that_tool() {
    let sandbox = sandbox();
    given_by_another_tool(&sandbox);
    let notes = || texts(&sandbox.vusb().list(&sandbox.guest("web")).unwrap().notes);
    assert_eq!(notes(), [""; 0]);
    let there =
        "host0 (0781:5581) is plugged into this machine at 1-4, and the guest does not have it";
    sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 99}}));
    let expected = format!("{there}: another tool gave it as 001.099, and it is 001.014 now");
    assert_eq!(notes(), [expected]);
    assert!(sandbox.vusb().restore(&sandbox.guest("web")).unwrap().already);
    sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 14}}));
    sandbox.set("web", "absent", json!(["host0"]));
    let expected = format!("{there}; check that its hypervisor may open /dev/bus/usb/001/014");
    assert_eq!(notes(), [expected]);
}

/// The guest runs in this process, as a user who may not open the stick.
fn may_not_open(sandbox: &Sandbox) {
    let own = std::process::id();
    let process = sandbox.at(&format!("machine/proc/{own}"));
    fs::create_dir_all(&process).unwrap();
    let ids = "107\t107\t107\t107";
    let status = format!("Uid:\t{ids}\nGid:\t{ids}\nGroups:\t\nCapEff:\t0000000000000000\n");
    fs::write(process.join("status"), status).unwrap();
    fs::create_dir_all(sandbox.at("machine/dev/bus/usb/001")).unwrap();
    let node = sandbox.file("machine/dev/bus/usb/001/014", "");
    fs::set_permissions(node, fs::Permissions::from_mode(0o600)).unwrap();
    let process = Process::with_id(own.try_into().unwrap()).unwrap();
    sandbox.set("web", "process", json!(process));
    sandbox.set("web", "absent", json!(["host0"]));
}

#[test]
fn a_device_that_the_hypervisor_may_not_open_is_reported_once_with_the_reason() {
    for is_foreign in [false, true] {
        let sandbox = sandbox();
        if is_foreign {
            given_by_another_tool(&sandbox);
        } else {
            sandbox.add("web", "1-4").unwrap();
        }
        may_not_open(&sandbox);
        let view = sandbox.vusb().list(&sandbox.guest("web")).unwrap();
        let [note] = &texts(&view.notes)[..] else { panic!("{is_foreign}: {:?}", view.notes) };
        let begin = "host0 is plugged in at /dev/bus/usb/001/014, and the guest does not have it, because its hypervisor cannot open it: \
                     it runs as user 107, which may not open /dev/bus/usb/001/014";
        assert!(note.starts_with(begin), "{note}");
    }
}

#[test]
fn a_device_of_another_tool_is_the_one_that_it_was_given() {
    let sandbox = sandbox();
    sandbox.plug(5, "0781:5581", "A2");
    sandbox.add("web", "0781:5581:A2").unwrap();
    // The other tool's guest shows the ids alone, and the address that was given.
    let hardware = sandbox.sim("web")["hardware"].to_string().replace("0781:5581:A2", "0781:5581");
    sandbox.set("web", "hardware", serde_json::from_str(&hardware).unwrap());
    sandbox.set("web", "foreign", json!(["hci0", "host0"]));
    fs::remove_dir_all(sandbox.at("state")).unwrap();
    sandbox.add("web", "tablet").unwrap();
    assert_eq!(sandbox.record("web")["places"]["host0"], "pci-0000:00:14.0-usb-0:5");
}

#[test]
fn the_other_ids_of_a_device_are_recorded_with_it() {
    let sandbox = sandbox();
    let text = "[[device]]\nhost = \"1-4\"\nalso = [\"0483:df11\"]";
    sandbox.vusb().apply(&sandbox.spec("web", text)).unwrap();
    assert_eq!(sandbox.record("web")["also"]["host0"], json!(["0483:df11"]));
    sandbox.unplug(4);
    sandbox.plug(4, "0483:df11", "");
    sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 99}}));
    assert_eq!(sandbox.vusb().restore(&sandbox.guest("web")).unwrap().steps.len(), 2);
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached]");
}

/// The device is in its firmware loader when the spec is applied, and returns as what the spec
/// names.
#[test]
fn a_device_that_is_first_seen_in_its_other_mode_is_attached_in_both() {
    let sandbox = Sandbox::new();
    let text = "[[device]]\nhost = \"0483:5740\"\nalso = [\"0483:df11\"]";
    let spec = sandbox.spec("web", text);
    sandbox.plug(4, "0483:df11", "");
    assert_eq!(sandbox.vusb().apply(&spec).unwrap().steps.len(), 2);
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached]");
    assert!(sandbox.vusb().apply(&spec).unwrap().already);
    for (id, serial) in [("0483:5740", "7"), ("0483:df11", ""), ("0483:5740", "7")] {
        sandbox.unplug(4);
        sandbox.plug(4, id, serial);
        // Another guest and another user are told who has it.
        assert_eq!(sandbox.add("mail", "1-4").unwrap_err().exit_code(), ExitCode::Busy, "{id}");
        assert!(sandbox.vusb().host_list().unwrap().devices[0].holder.is_some(), "{id}");
        sandbox.set("web", "given", json!({"host0": {"bus": 1, "address": 99}}));
        assert_eq!(sandbox.vusb().restore(&sandbox.guest("web")).unwrap().steps.len(), 2, "{id}");
        assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached]", "{id}");
    }
    assert!(sandbox.vusb().apply(&spec).unwrap().already);
    sandbox.remove("web", "1-4").unwrap();
    sandbox.add("mail", "1-4").unwrap();
    // Before it was ever seen, it is promised to one domain.
    sandbox.unplug(4);
    sandbox.remove("mail", "host0").unwrap();
    sandbox.vusb().apply(&spec).unwrap();
    sandbox.plug(4, "0483:df11", "");
    assert_eq!(sandbox.add("mail", "1-4").unwrap_err().exit_code(), ExitCode::Busy);
    assert_eq!(sandbox.vusb().restore(&sandbox.guest("web")).unwrap().steps.len(), 1);
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached]");
}

/// The hypervisor shows the other ids too, so a lost record does not lose them.
#[test]
fn the_other_ids_of_a_device_are_recorded_again_after_the_record_was_lost() {
    let sandbox = sandbox();
    let text = "[[device]]\nhost = \"1-4\"\nalso = [\"0483:df11\"]";
    sandbox.vusb().apply(&sandbox.spec("web", text)).unwrap();
    fs::remove_dir_all(sandbox.at("state")).unwrap();
    fs::remove_dir_all(sandbox.at("machine/run")).unwrap();
    sandbox.add("web", "tablet").unwrap();
    assert_eq!(sandbox.record("web")["also"]["host0"], json!(["0483:df11"]));
}

/// First with an image, then with a host device.
#[test]
fn a_guest_is_not_started_with_what_is_not_free() {
    let sandbox = sandbox();
    let image = sandbox.file("a.img", "").canonicalize().unwrap();
    let text = "[[device]]\nkind = \"storage\"\nfile = \"a.img\"";
    let (own, other) = (sandbox.spec("web", text), sandbox.spec("mail", text));
    let start = |config: &vusb::GuestConfig| sandbox.vusb().qemu_args(config);
    start(&own).unwrap();
    sandbox.add("web", "storage:a.img").unwrap();
    let error = start(&other).unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
    start(&own).unwrap();
    sandbox.remove("web", "storage0").unwrap();
    fs::create_dir_all(sandbox.at("machine/proc")).unwrap();
    sandbox.file("machine/proc/swaps", &format!("Filename\n{} file 1 0 -2\n", image.display()));
    let error = start(&other).unwrap_err();
    assert!(matches!(error, Error::Protected { .. }), "{error}");
    // The same with a host device; one that is not plugged in is left out.
    let text = "[[device]]\nhost = \"0781:5581\"";
    let (own, other) = (sandbox.spec("web", text), sandbox.spec("mail", text));
    sandbox.add("web", "1-4").unwrap();
    assert!(matches!(start(&other).unwrap_err(), Error::Claimed { .. }));
    start(&own).unwrap();
    sandbox.remove("web", "host0").unwrap();
    sandbox.keyboard(4);
    assert!(matches!(start(&other).unwrap_err(), Error::Protected { .. }));
    sandbox.unplug(4);
    let arguments = start(&other).unwrap();
    assert!(!arguments.iter().any(|it| it.contains("usb-host")), "{arguments:?}");
}

/// With another state directory, the image was given to the same guest by another address.
#[test]
fn a_guest_is_started_with_what_it_holds_by_another_address() {
    let sandbox = sandbox();
    sandbox.file("a.img", "");
    for guest in ["web", "alias"] {
        sandbox.set(guest, "identity", json!("guest 1"));
    }
    let stick = DeviceSpec::new("storage:a.img".parse().unwrap());
    crate::claims::elsewhere(&sandbox).device_add(&sandbox.guest("alias"), &stick).unwrap();
    sandbox.add("web", "tablet").unwrap();
    let spec = sandbox.spec("web", "[[device]]\nkind = \"storage\"\nfile = \"a.img\"");
    sandbox.vusb().qemu_args(&spec).unwrap();
    let spec = sandbox.spec("mail", "[[device]]\nkind = \"storage\"\nfile = \"a.img\"");
    assert!(matches!(sandbox.vusb().qemu_args(&spec).unwrap_err(), Error::Claimed { .. }));
}

/// The device already is in the guest, so nothing was done that could be undone.
#[test]
fn a_device_of_another_tool_is_not_taken_over_by_a_request() {
    for by_rule in [false, true] {
        let sandbox = sandbox();
        given_by_another_tool(&sandbox);
        let vusb = sandbox.vusb();
        let vusb = vusb.with_options(vusb::Options { by_rule, ..vusb.options.clone() });
        let spec = DeviceSpec::new("1-4".parse().unwrap());
        assert!(vusb.device_add(&sandbox.guest("web"), &spec).unwrap().already);
        let view = vusb.list(&sandbox.guest("web")).unwrap();
        assert_eq!(json!(view.controllers[0].devices[0].origin), "other", "{by_rule}");
    }
}

/// Another tool has given the device before vusb was used, and the device is not plugged in.
#[test]
fn an_absent_device_that_the_guest_has_is_already_there() {
    let sandbox = sandbox();
    given_by_another_tool(&sandbox);
    sandbox.unplug(4);
    let outcome = sandbox.add("web", "1-4").unwrap();
    assert!(outcome.already && outcome.steps.is_empty(), "{outcome:?}");
}

#[test]
fn a_replugged_device_is_attached_again_when_it_is_requested_again() {
    let sandbox = sandbox();
    sandbox.plug(5, "0951:1666", "B1");
    for device in ["1-4", "1-5"] {
        sandbox.add("web", device).unwrap();
    }
    let old = json!({"host0": {"bus": 1, "address": 99}, "host1": {"bus": 1, "address": 98}});
    sandbox.set("web", "given", old);
    let outcome = sandbox.add("web", "1-4").unwrap();
    assert_eq!((outcome.already, outcome.steps.len()), (false, 2));
    // Only the one that was requested.
    assert_eq!(sandbox.shows("web"), "hci0[1 host0 attached; 2 host1 absent]");
    assert!(sandbox.add("web", "1-4").unwrap().already);
}

#[test]
fn a_device_that_may_be_absent_is_attached_if_it_is_there() {
    let sandbox = sandbox();
    let vusb = sandbox.vusb();
    let vusb = vusb.with_options(vusb::Options { accept_absent: true, ..vusb.options.clone() });
    let add = |device: &str| {
        let spec = DeviceSpec::new(device.parse().unwrap());
        vusb.device_add(&sandbox.guest("web"), &spec).unwrap()
    };
    for device in ["tablet", "1-4", "0781:5590"] {
        assert!(!add(device).already, "{device}");
    }
    assert_eq!(sandbox.shows("web"), "hci0[1 tablet0 attached; 2 host0 attached; 3 host1 absent]");
    sandbox.unplug(4);
    for device in ["1-4", "0781:5590"] {
        assert!(add(device).already, "{device}");
    }
    // A device that is not plugged in has no address.
    let spec = DeviceSpec::new("001.020".parse().unwrap());
    let error = vusb.device_add(&sandbox.guest("web"), &spec).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
}

/// Devices that were read before a call do not decide what may be attached: the device is read
/// again.
#[test]
fn a_device_that_has_changed_since_the_devices_were_read_is_not_attached() {
    let sandbox = Sandbox::new();
    let guest = sandbox.guest("web1");
    sandbox.plug(4, "0781:5581", "A1");
    let mut vusb = sandbox.vusb();
    let read = || Arc::new(DeviceList::from(sandbox.vusb().context.host().devices().unwrap()));
    vusb.context = vusb.context.clone().with_known_devices(read());
    let stick = || DeviceSpec::new("host:0781:5581".parse().unwrap());
    let add = |vusb: &Vusb| vusb.device_add(&guest, &stick());

    // The machine shows it as a hub now.
    sandbox.class(4, "09");
    assert!(matches!(add(&vusb), Err(Error::HostHub { .. })));
    sandbox.class(4, "00");
    // It has gone, and another one is plugged in.
    sandbox.unplug(4);
    assert_eq!(add(&vusb).unwrap_err().exit_code(), ExitCode::NotFound);
    sandbox.plug(4, "0781:5581", "A2");
    assert_eq!(add(&vusb).unwrap_err().exit_code(), ExitCode::NotFound);
    assert_eq!(sandbox.shows("web1"), "");

    vusb.context = vusb.context.clone().with_known_devices(read());
    assert_eq!(at(&add(&vusb).unwrap()), "hci0:1");
}
