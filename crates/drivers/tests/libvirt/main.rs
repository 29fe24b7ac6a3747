//! The driver for libvirt against a daemon that keeps its domain as two texts.
//!
//! The tests with a real libvirtd are in `crates/cli/tests/libvirt/live.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod daemon;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use vusb_drivers::libvirt::LibvirtScheme;
use vusb_drivers::{
    ConfiguredGuest, DeviceState, Driver, Error, GuestEvent, GuestOwner, Limits, Observed,
    OpenOptions, Scheme, WatchOptions, When,
};
use vusb_host::Host;
use vusb_libvirt::{code, protocol::procedure};
use vusb_model::capabilities::Support;
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;
use vusb_model::profile::Profile;
use vusb_model::remedy::Remedy;
use vusb_model::resolve::resolve;
use vusb_model::selector::BusAddress;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

use daemon::{Daemon, Fault, UUID};

const XHCI: &str = "    <controller type='usb' index='0' model='qemu-xhci' ports='8'>\
    <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></controller>\n";

/// The mouse of another tool, as a running guest has it.
const MOUSE: &str = "    <input type='mouse' bus='usb'><alias name='input0'/>\
    <address type='usb' bus='0' port='1'/></input>";

/// A machine without USB devices, or with a stick at 003.014.
fn machine(with_stick: bool) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let list = root.path().join("sys/bus/usb/devices");
    std::fs::create_dir_all(&list).unwrap();
    if with_stick {
        let controller = root.path().join("sys/devices/pci0000:00/0000:00:14.0");
        let device = controller.join("usb3/3-1");
        let pci = root.path().join("sys/bus/pci");
        std::fs::create_dir_all(&device).unwrap();
        std::fs::create_dir_all(&pci).unwrap();
        symlink(pci, controller.join("subsystem")).unwrap();
        for (name, text) in [
            ("idVendor", "0781"),
            ("idProduct", "5581"),
            ("busnum", "3"),
            ("devnum", "14"),
            ("speed", "480"),
            ("bDeviceClass", "00"),
        ] {
            std::fs::write(device.join(name), text).unwrap();
        }
        symlink(device, list.join("3-1")).unwrap();
    }
    let host = Host::new(root.path());
    (root, host)
}

fn open(daemon: &Daemon, when: When, host: &Host) -> Box<dyn Driver> {
    open_with(daemon, when, host, Duration::from_secs(20))
}

/// The driver with this limit for each wait.
fn open_with(daemon: &Daemon, when: When, host: &Host, limit: Duration) -> Box<dyn Driver> {
    let scheme = LibvirtScheme::new(host.clone().into());
    let text = format!("qemu:///session/web1?socket={}", daemon.socket().display());
    let limits = Limits::from(limit);
    let operand = scheme.parse(&text, Path::new("/")).unwrap();
    let options = OpenOptions { limits, force: false, changes: true, when, host };
    scheme.open(&operand, &options).unwrap()
}

fn observe(driver: &mut Box<dyn Driver>) -> Observed {
    driver.observe(&Hardware::new()).unwrap()
}

/// The steps that add what a spec has.
fn steps(driver: &mut Box<dyn Driver>, spec: Spec) -> Vec<Step> {
    let observed = observe(driver);
    let capabilities = driver.capabilities(Some(&spec)).unwrap();
    let resolved = resolve(&observed.hardware, &spec, &capabilities).unwrap();
    vusb_model::diff::diff(&observed.hardware, &resolved.hardware)
}

fn device(driver: &mut Box<dyn Driver>, text: &str, name: &str) -> Step {
    let mut device = DeviceSpec::new(text.parse().unwrap());
    device.name = Some(name.parse().unwrap());
    let spec = Spec { profile: Profile::Libvirt, devices: vec![device], ..Spec::default() };
    steps(driver, spec).remove(0)
}

fn take(driver: &mut Box<dyn Driver>, step: &Step) -> Result<(), Error> {
    driver.check(std::slice::from_ref(step))?;
    driver.perform(step)
}

#[test]
fn a_running_guest_is_observed_with_its_stored_configuration() {
    let next = "    <input type='tablet' bus='usb'><alias name='ua-vusb-pen'/>\
                <address type='usb' bus='0' port='4'/></input>";
    let hub = "<controller type='usb' index='1' model='ehci'/>";
    let live = format!("{XHCI}{MOUSE}");
    let daemon = Daemon::new(Some(&live), Some(&format!("{XHCI}{next}{hub}")));
    let (_root, host) = machine(false);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let observed = observe(&mut driver);
    let names: Vec<String> =
        observed.hardware.devices().map(|(at, it)| format!("{} {at}", it.name)).collect();
    assert_eq!(names, ["input0 0:1", "pen 0:4"]);
    let states: Vec<_> = observed.states.iter().map(|(at, it)| (at.to_string(), *it)).collect();
    assert_eq!(states, [("0:4".to_owned(), DeviceState::Configured)]);
    assert_eq!(observed.ours.iter().map(|it| it.as_str()).collect::<Vec<_>>(), ["pen"]);
    assert_eq!(observed.configured.iter().map(|it| it.to_string()).collect::<Vec<_>>(), ["1"]);
    assert!(observed.notes[0].contains("only the running guest has input0"), "{observed:?}");
    assert!(!observed.off);
    assert_eq!(driver.identity().unwrap().to_string(), format!("libvirt/{UUID}"));
    assert_eq!(driver.guest_name().as_deref(), Some("web1"));
    let all = driver.capabilities(None).unwrap();
    assert!(all.check_kind("tablet").is_ok() && all.check_kind("hub").is_err());
    assert!(all.models.values().all(|it| !matches!(it, Support::Hot)));
}

#[test]
fn a_device_is_attached_to_both_configurations_and_detached_again() {
    let daemon = Daemon::new(Some(&format!("{XHCI}{MOUSE}")), Some(&format!("{XHCI}{MOUSE}")));
    let before = (daemon.live(), daemon.stored());
    let (_root, host) = machine(false);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let step = device(&mut driver, "tablet", "pen");
    take(&mut driver, &step).unwrap();
    for text in [daemon.live(), daemon.stored()] {
        assert!(text.contains("<alias name='ua-vusb-pen'/>"), "{text}");
        assert!(text.contains("<address type='usb' bus='0' port='2'/>"), "{text}");
    }
    let observed = observe(&mut driver);
    assert!(observed.ours.contains(&"pen".parse().unwrap()) && observed.states.is_empty());
    take(&mut driver, &step.undo()).unwrap();
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(plain(&daemon.live()), plain(&before.0));
    assert_eq!(plain(&daemon.stored()), plain(&before.1));
}

#[test]
fn a_change_can_be_for_one_of_the_two_configurations() {
    let (_root, host) = machine(false);
    for (when, live, stored) in [(When::Now, true, false), (When::Next, false, true)] {
        let daemon = Daemon::new(Some(XHCI), Some(XHCI));
        let mut driver = open(&daemon, when, &host);
        let step = device(&mut driver, "mouse", "m");
        take(&mut driver, &step).unwrap();
        assert_eq!(daemon.live().contains("ua-vusb-m"), live);
        assert_eq!(daemon.stored().contains("ua-vusb-m"), stored);
        observe(&mut driver);
        take(&mut driver, &step.undo()).unwrap();
        assert!(!daemon.live().contains("ua-vusb-m") && !daemon.stored().contains("ua-vusb-m"));
    }
}

#[test]
fn a_transient_guest_and_one_that_is_off_have_one_configuration() {
    let (_root, host) = machine(false);
    let transient = Daemon::new(Some(XHCI), None);
    let mut driver = open(&transient, When::NowAndNext, &host);
    let step = device(&mut driver, "mouse", "m");
    take(&mut driver, &step).unwrap();
    assert!(transient.live().contains("ua-vusb-m"));
    let mut driver = open(&transient, When::Next, &host);
    let step = device(&mut driver, "mouse", "n");
    let error = take(&mut driver, &step).unwrap_err();
    assert!(error.to_string().contains("transient"), "{error}");

    let off = Daemon::new(None, Some(XHCI));
    let mut driver = open(&off, When::NowAndNext, &host);
    assert!(observe(&mut driver).off);
    let step = device(&mut driver, "mouse", "m");
    take(&mut driver, &step).unwrap();
    assert!(off.stored().contains("ua-vusb-m"));
    assert_eq!(observe(&mut driver).states.len(), 1);
    let mut driver = open(&off, When::Now, &host);
    let step = device(&mut driver, "mouse", "n");
    let error = take(&mut driver, &step).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { midway: false, .. }), "{error}");
}

#[test]
fn what_libvirt_does_not_hot_plug_is_refused_before_anything_is_touched() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (_root, host) = machine(false);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let controller = ControllerSpec { model: "ehci".parse().ok(), ..Default::default() };
    let spec = || Spec {
        profile: Profile::Libvirt,
        controllers: vec![controller.clone()],
        ..Spec::default()
    };
    let mut all = steps(&mut driver, spec());
    for text in ["hub", "audio", "ccid", "mtp:/srv"] {
        all.push(device(&mut driver, text, "x"));
    }
    for step in &all {
        let error = take(&mut driver, step).unwrap_err();
        assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
        assert_eq!(error.remedies(), [Remedy::NextStart], "{step}");
    }
    assert!(daemon.state().changes.is_empty());

    let mut driver = open(&daemon, When::Next, &host);
    for step in steps(&mut driver, spec()) {
        take(&mut driver, &step).unwrap();
    }
    let step = device(&mut driver, "hub", "h");
    take(&mut driver, &step).unwrap();
    let stored = daemon.stored();
    assert!(stored.contains("model='ehci'") && stored.contains("<hub type='usb'>"), "{stored}");
    assert!(stored.contains("ua-vusb-h"), "{stored}");
    let observed = observe(&mut driver);
    assert_eq!((observed.configured.len(), observed.states.len()), (1, 1));
    // What only the stored configuration has can be removed from it in any case.
    let mut driver = open(&daemon, When::NowAndNext, &host);
    observe(&mut driver);
    take(&mut driver, &step.undo()).unwrap();
    assert!(!daemon.stored().contains("<hub"));
}

#[test]
fn a_cd_drive_needs_a_libvirt_that_knows_one() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (_root, host) = machine(false);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let step = device(&mut driver, "storage:/a.iso,media=cdrom", "cd");
    let error = take(&mut driver, &step).unwrap_err();
    assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
    daemon.state().version = 11_005_000;
    take(&mut driver, &step).unwrap();
    let live = daemon.live();
    assert!(
        live.contains("device='cdrom' model='usb-bot'") && live.contains("dev='sda'"),
        "{live}"
    );
    let Step::Plug(mut at, disk) = device(&mut driver, "storage:/b.img", "disk") else { panic!() };
    // Two steps without an observation in between.
    driver.perform(&Step::Plug(at, disk.clone())).unwrap();
    at.port = "5".parse().unwrap();
    let file = disk.kind.to_string().replace("/b", "/c").parse().unwrap();
    let other =
        Step::Plug(at, vusb_model::hardware::Device { kind: file, name: "c".parse().unwrap() });
    driver.perform(&other).unwrap();
    let stored = daemon.stored();
    assert!(stored.contains("dev='sdb'") && stored.contains("dev='sdc'"), "{stored}");
    driver.perform(&other.undo()).unwrap();
    assert!(!daemon.stored().contains("dev='sdc'") && !daemon.live().contains("dev='sdc'"));
}

#[test]
fn a_host_device_is_exact_in_the_guest_and_found_again_at_the_next_start() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (_root, host) = machine(true);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let Step::Plug(at, mut stick) = device(&mut driver, "host:3-1", "stick") else { panic!() };
    if let vusb_model::device::Kind::Host(it) = &mut stick.kind {
        it.bus_address = Some(BusAddress { bus: 3, address: 14 });
    }
    let step = Step::Plug(at, stick.clone());
    take(&mut driver, &step).unwrap();
    let (live, stored) = (daemon.live(), daemon.stored());
    for text in [&live, &stored] {
        assert!(text.contains("<vendor id='0x0781'/>") && text.contains("<product id='0x5581'/>"));
    }
    assert!(live.contains("<address bus='3' device='14'/>"), "{live}");
    assert!(!stored.contains("<address bus='3'"), "{stored}");
    // The record knows it by its port.
    let mut recorded = observe(&mut driver).hardware;
    recorded.unplug(at);
    recorded.plug(at, stick.clone()).unwrap();
    let observed = driver.observe(&recorded).unwrap();
    assert_eq!(observed.hardware.device(at).unwrap().kind, stick.kind);
    assert_eq!(observed.given[&at].to_string(), "003.014");
    assert!(observed.notes.is_empty(), "{:?}", observed.notes);
}

#[test]
fn libvirts_refusal_is_quoted_and_nothing_is_left() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (_root, host) = machine(false);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let step = device(&mut driver, "tablet", "pen");
    let text = "internal error: unable to execute QEMU command 'device_add'";
    daemon.fault(Fault::Refuse(procedure::DOMAIN_ATTACH_DEVICE_FLAGS, code::INTERNAL, text));
    let error = take(&mut driver, &step).unwrap_err();
    assert!(matches!(&error, Error::Failed { .. }), "{error}");
    assert!(error.to_string().ends_with(&format!("libvirt: {text}")), "{error}");
    assert!(observe(&mut driver).hardware.devices().next().is_none());
}

#[test]
fn a_port_that_another_client_took_meanwhile_is_busy() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (_root, host) = machine(false);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let step = device(&mut driver, "tablet", "pen");
    daemon.state().live =
        Some(daemon.live().replace("  </devices>", &format!("{MOUSE}</devices>")));
    let text = "XML error: Duplicate USB address bus 0 port 1";
    daemon.fault(Fault::Refuse(procedure::DOMAIN_ATTACH_DEVICE_FLAGS, code::XML_ERROR, text));
    let error = take(&mut driver, &step).unwrap_err();
    assert!(matches!(&error, Error::Busy { .. }), "{error}");
    assert!(error.to_string().contains("input0 was plugged in at 0:1 meanwhile"), "{error}");
}

#[test]
fn a_guest_that_keeps_its_device_has_it_in_both_configurations() {
    for (fault, is_timeout) in [(Fault::Keep, false), (Fault::Hang, true)] {
        let daemon = Daemon::new(Some(XHCI), Some(XHCI));
        let (_root, host) = machine(false);
        let mut driver = open(&daemon, When::NowAndNext, &host);
        let step = device(&mut driver, "tablet", "pen");
        take(&mut driver, &step).unwrap();
        let mut driver = open_with(&daemon, When::NowAndNext, &host, Duration::from_secs(1));
        observe(&mut driver);
        daemon.fault(fault);
        let error = take(&mut driver, &step.undo()).unwrap_err();
        assert_eq!(matches!(error, Error::TimedOut { .. }), is_timeout, "{error}");
        assert!(observe(&mut driver).states.is_empty());
        assert!(daemon.stored().contains("ua-vusb-pen"));
    }
}

#[test]
fn a_daemon_that_dies_during_a_step_leaves_its_outcome_open() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (_root, host) = machine(false);
    let mut driver = open(&daemon, When::NowAndNext, &host);
    let step = device(&mut driver, "tablet", "pen");
    daemon.fault(Fault::Die(procedure::DOMAIN_ATTACH_DEVICE_FLAGS));
    let error = take(&mut driver, &step).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { midway: true, .. }), "{error}");
    // The next observation finds that the step was taken.
    assert!(observe(&mut driver).ours.contains(&"pen".parse().unwrap()));
}

#[test]
fn a_domain_is_filed_under_its_uuid_and_gone_only_if_libvirt_says_so() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (_root, host) = machine(false);
    let scheme = LibvirtScheme::new(host.clone().into());
    let limits = Limits::from(Duration::from_secs(5));
    let socket = daemon.socket();
    let of = |name: &str| format!("qemu:///session/{name}?socket={}", socket.display());
    assert_eq!(scheme.canonical(&of("web1"), &limits).unwrap(), of(UUID));
    let error = scheme.canonical(&of("web9"), &limits).unwrap_err();
    assert!(matches!(&error, Error::Missing { .. }) && scheme.is_gone("", &error), "{error}");
    // Without a daemon there are no guests, and a domain's state is unknown.
    assert_eq!(scheme.running(Path::new("/"), Duration::from_secs(1)).unwrap(), []);
    let error = scheme.canonical("web1", &limits).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }) && !scheme.is_gone("", &error));
    assert!(error.to_string().contains("libvirt-sock do not exist"), "{error}");
}

/// Whoever attached it: the XML of a running domain says what it has.
#[test]
fn a_running_domain_names_what_it_has_of_this_machine() {
    let hostdev = "    <hostdev mode='subsystem' type='usb'><source><vendor id='0x0781'/><product id='0x5581'/>\
                   <address bus='3' device='14'/></source></hostdev>";
    let daemon = Daemon::new(Some(&format!("{XHCI}{hostdev}")), Some(XHCI));
    let (root, host) = machine(true);
    let scheme = LibvirtScheme::new(host.into());
    let limit = Duration::from_secs(5);
    let named = || scheme.named_by_configurations(root.path(), limit).unwrap();
    assert_eq!(named(), [], "no daemon");
    let folder = root.path().join("run/libvirt");
    std::fs::create_dir_all(&folder).unwrap();
    // A user who is not root is sent to the socket that only serves reading.
    for name in ["virtqemud-sock", "virtqemud-sock-ro"] {
        symlink(daemon.socket(), folder.join(name)).unwrap();
    }
    let holders = named();
    let [ConfiguredGuest { guest: web1, is_complete: true }] = &holders[..] else {
        panic!("{holders:?}")
    };
    assert_eq!((web1.operand.as_deref(), web1.process), (Some("web1"), 0));
    assert_eq!(web1.owner, GuestOwner::System);
    assert_eq!(web1.host_devices, ["003.014".parse().unwrap()]);
    let mut driver = open(&daemon, When::NowAndNext, &Host::new(root.path()));
    observe(&mut driver);
    assert_eq!(driver.identity(), web1.identity, "as a domain that is addressed is known");
    daemon.run(None);
    assert_eq!(named(), [], "it does not run");
}

/// Any user can start a process with the UUID of a domain, and a lower process ID.
#[test]
fn a_process_of_another_user_is_not_taken_for_that_of_a_domain() {
    let daemon = Daemon::new(Some(XHCI), Some(XHCI));
    let (root, host) = machine(false);
    let at = |path: &str| root.path().join(path);
    std::fs::create_dir_all(at("run/libvirt")).unwrap();
    for name in ["virtqemud-sock", "virtqemud-sock-ro"] {
        symlink(daemon.socket(), at("run/libvirt").join(name)).unwrap();
    }
    std::fs::create_dir_all(at("etc")).unwrap();
    let accounts = "libvirt-qemu:x:64055:108::/:/bin/false\n";
    std::fs::write(at("etc/passwd"), accounts).unwrap();
    let process = |pid: u32, uid: u32| {
        let folder = at(&format!("proc/{pid}"));
        std::fs::create_dir_all(&folder).unwrap();
        let line = format!("qemu-system-x86_64 -uuid {UUID} -mon chardev=charmonitor,mode=control");
        std::fs::write(folder.join("cmdline"), line.replace(' ', "\0")).unwrap();
        let status = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
        std::fs::write(folder.join("status"), status).unwrap();
    };
    let scheme = LibvirtScheme::new(host.into());
    let found = || {
        let all = scheme.named_by_configurations(root.path(), Duration::from_secs(20)).unwrap();
        all.iter().map(|it| it.guest.process).collect::<Vec<u32>>()
    };
    process(30, 1000);
    // Not even the caller's own process: the daemon is the system's.
    let own = rustix::process::geteuid().as_raw();
    if own != 0 {
        process(31, own);
    }
    assert_eq!(found(), [0]);
    process(40, 64055);
    assert_eq!(found(), [40]);
}

/// A domain is known by its UUID, and a restart of the daemon does not end a guest.
#[test]
fn domains_that_start_and_end_are_reported() {
    let (root, host) = machine(false);
    let scheme = LibvirtScheme::new(host.into());
    let watch = || scheme.watch(&WatchOptions::default()).unwrap();
    assert!(watch().is_none(), "there is no libvirt");
    let folder = root.path().join("run/libvirt");
    std::fs::create_dir_all(&folder).unwrap();
    let daemon = Daemon::new(None, Some(XHCI));
    symlink(daemon.socket(), folder.join("virtqemud-sock")).unwrap();
    let mut watch = watch().unwrap();
    let long = Duration::from_secs(20);
    assert_eq!(watch.running().unwrap(), [""; 0]);
    let text = daemon.stored();
    daemon.run(Some(text.clone()));
    assert_eq!(watch.wait(long).unwrap(), [GuestEvent::Started(UUID.to_owned())]);
    assert_eq!(watch.running().unwrap(), [UUID]);
    daemon.hang_up();
    // The lost connection is an error once, and what happened meanwhile is unknown.
    watch.wait(long).unwrap_err();
    assert_eq!(watch.wait(long).unwrap(), [GuestEvent::Rescan]);
    assert_eq!(watch.running().unwrap(), [UUID]);
    daemon.run(None);
    assert_eq!(watch.wait(long).unwrap(), [GuestEvent::Ended(UUID.to_owned())]);
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), []);
}
