//! Config files of other tools: what they add by themselves, and what is not free.

use vusb::model::device::Kind;
use vusb::model::selector::Selector;
use vusb::model::spec::DeviceSpec;
use vusb::{Error, GuestConfig, Note};

use crate::sandbox::{Sandbox, texts};

/// A libvirt file with these devices and these QEMU arguments.
fn libvirt(sandbox: &Sandbox, devices: &str, arguments: &[&str]) -> GuestConfig {
    let argument = |it: &&str| format!("<qemu:arg value='{it}'/>");
    let arguments: String = arguments.iter().map(argument).collect();
    let text = format!(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>\
         <memory>65536</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>\
         <devices>{devices}</devices><qemu:commandline>{arguments}</qemu:commandline></domain>"
    );
    sandbox.vusb().read(&sandbox.file("g.xml", &text)).unwrap()
}

const XHCI: &str = "<controller type='usb' index='0' model='qemu-xhci'/>";

/// An element for the host device that this source selects.
fn hostdev(source: &str) -> String {
    format!("<hostdev mode='subsystem' type='usb'><source>{source}</source></hostdev>")
}

/// No element of the file describes such a device, but the guest has it.
#[test]
fn a_host_device_that_qemu_gets_as_an_argument_is_looked_up_as_well() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let source = "usb-host,vendorid=0x0781,productid=0x5581,id=stick";
    let config = libvirt(&sandbox, XHCI, &["-device", source]);
    let outcome = sandbox.vusb().plan_start(&config).unwrap();
    let (_, stick) = outcome.hardware.devices().next().unwrap();
    let Kind::Host(host) = &stick.kind else { panic!("{stick:?}") };
    assert_eq!(host.bus_address.unwrap().to_string(), "001.014");
    let absent = |notes: &[Note]| notes.iter().any(|it| matches!(it, Note::Absent { .. }));
    assert!(!absent(&outcome.notes), "{:?}", texts(&outcome.notes));
    sandbox.unplug(4);
    let outcome = sandbox.vusb().plan_start(&config).unwrap();
    assert!(absent(&outcome.notes), "{:?}", texts(&outcome.notes));
}

/// libvirt does not know what is plugged in when it assigns addresses.
#[test]
fn the_speed_of_a_device_does_not_decide_where_another_tool_places_it() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let uhci = "<controller type='usb' index='0' model='piix3-uhci'/>";
    let stick = hostdev("<vendor id='0x0781'/><product id='0x5581'/>");
    let config = libvirt(&sandbox, &format!("{uhci}{stick}"), &[]);
    let outcome = sandbox.vusb().plan_start(&config).unwrap();
    let (at, _) = outcome.hardware.devices().next().unwrap();
    assert_eq!(at.to_string(), "0:1");
    // vusb's own rules do not put a fast device on a slow controller.
    let text =
        "[[controller]]\nmodel = \"piix3-uhci\"\n[[device]]\nhost = \"0781:5581\"\ncontroller = 0";
    let own = sandbox.vusb().read(&sandbox.file("own.toml", text)).unwrap();
    sandbox.vusb().plan_start(&own).unwrap_err();
}

/// libvirt has no selector for a port.
#[test]
fn a_device_keeps_the_selector_that_the_file_of_another_tool_has_for_it() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let stick = hostdev("<address bus='1' device='14'/>");
    let config = libvirt(&sandbox, &format!("{XHCI}{stick}"), &[]);
    let outcome = sandbox.vusb().plan_start(&config).unwrap();
    let (_, stick) = outcome.hardware.devices().next().unwrap();
    let Kind::Host(host) = &stick.kind else { panic!("{stick:?}") };
    assert!(matches!(host.selector, Selector::Address(_)), "{}", host.selector);
}

#[test]
fn an_image_that_qemu_gets_as_an_argument_is_free_for_one_guest_only() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    let drive = ["-drive", "file=a.img,if=none,id=d,format=raw", "-device", "usb-storage,drive=d"];
    let config = libvirt(&sandbox, XHCI, &drive);
    let start = || sandbox.vusb().qemu_args(&config);
    start().unwrap();
    sandbox.add("web", "storage:a.img").unwrap();
    let error = start().unwrap_err();
    assert!(matches!(error, Error::Claimed { .. }), "{error}");
}

#[test]
fn a_guest_is_not_started_with_a_media_player_whose_path_is_a_file() {
    let sandbox = Sandbox::new();
    let image = sandbox.file("a.img", "");
    let text = format!("[[device]]\nkind = \"mtp\"\ndir = \"{}\"", image.display());
    let error = sandbox.vusb().qemu_args(&sandbox.spec("web", &text)).unwrap_err();
    assert!(matches!(error, Error::WrongFile { .. }), "{error}");
    // A folder that does not exist may be on the machine where the guest is started.
    sandbox
        .vusb()
        .qemu_args(&sandbox.spec("web", "[[device]]\nkind = \"mtp\"\ndir = \"no\""))
        .unwrap();
}

/// By the time the guest is started, the device may be plugged in, and the other domain may be
/// gone.
#[test]
fn a_conversion_accepts_a_device_that_is_not_plugged_in() {
    let sandbox = Sandbox::new();
    let text = "[[device]]\nhost = \"0781:5590\"";
    sandbox.vusb().apply(&sandbox.spec("mail", text)).unwrap();
    let (vusb, config) = (sandbox.vusb(), sandbox.spec("web", text));
    let format = vusb.context.registry().formats().named("libvirt").unwrap();
    let converted = vusb.context.convert(&config, &format.clone().into(), &vusb.options).unwrap();
    assert_eq!(texts(&converted.notes), [""; 0]);
    sandbox.plug(4, "0781:5590", "");
    let converted = vusb.context.convert(&config, &format.clone().into(), &vusb.options).unwrap();
    assert!(matches!(converted.notes[..], [Note::NotFree { .. }]), "{:?}", converted.notes);
}

/// xl knows a host device only by its bus and its address, and these do not last.
#[test]
fn a_device_is_written_as_the_file_can_name_it_and_another_selector_is_noted() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.file("g.cfg", "name = \"g\"\ntype = \"pv\"\n");
    sandbox.file("own.toml", "");
    for (file, requested, expected) in [
        ("g.cfg", "0781:5581", "001.014"),
        ("own.toml", "001.014", "pci-0000:00:14.0-usb-0:4"),
        ("own.toml", "0781:5581", "0781:5581"),
    ] {
        let vusb = sandbox.vusb();
        let domain = vusb.domain(file).unwrap();
        let stick = DeviceSpec::new(requested.parse().unwrap());
        let outcome = vusb.device_add(&domain, &stick).unwrap();
        let other = outcome.notes.iter().find_map(|it| match it {
            Note::OtherSelector { given, written } => {
                Some((given.to_string(), written.to_string()))
            }
            _ => None,
        });
        let noted = (requested != expected).then(|| (requested.to_owned(), expected.to_owned()));
        assert_eq!(other, noted, "{file}");
        let hardware = vusb.hardware(&domain).unwrap();
        let (_, device) = hardware.devices().next().unwrap();
        let Kind::Host(host) = &device.kind else { panic!("{device:?}") };
        assert_eq!(host.selector.to_string(), expected, "{file}");
        vusb.device_remove(&domain, &expected.parse().unwrap()).unwrap();
    }
}

/// The device only has to be there when the guest is started.
#[test]
fn a_file_may_get_a_device_that_is_not_plugged_in() {
    let sandbox = Sandbox::new();
    libvirt(&sandbox, XHCI, &[]);
    sandbox.file("own.toml", "");
    for name in ["g.xml", "own.toml"] {
        let file = sandbox.vusb().domain(name).unwrap();
        let absent = DeviceSpec::new("0781:5590".parse().unwrap());
        assert!(!sandbox.vusb().device_add(&file, &absent).unwrap().already);
        assert!(sandbox.vusb().device_add(&file, &absent).unwrap().already, "{name}");
    }
}

/// A rule may name a domain by its address.
#[test]
fn a_rule_about_an_address_holds_for_a_config_with_that_address() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let deny = |domain: &str| {
        let rule = format!("[[rule]]\nname = \"no\"\nid = \"0781:5581\"\ndeny = \"{domain}\"\n");
        crate::rules::write_rules(&sandbox, &rule);
    };
    let config = sandbox.spec("web", "[[device]]\nhost = \"0781:5581\"");
    deny(sandbox.guest("mail").as_str());
    sandbox.vusb().qemu_args(&config).unwrap();
    deny(sandbox.guest("web").as_str());
    let error = sandbox.vusb().qemu_args(&config).unwrap_err();
    assert!(matches!(error, Error::DeniedByRule { .. }), "{error}");
}

/// A file takes nothing from a running guest, and is its own record.
#[test]
fn a_file_may_get_what_a_running_guest_has_and_no_record_is_made_of_it() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    sandbox.add("web", "0781:5581").unwrap();
    sandbox.file("own.toml", "");
    let file = sandbox.vusb().domain("own.toml").unwrap();
    let stick = DeviceSpec::new("0781:5581".parse().unwrap());
    sandbox.vusb().device_add(&file, &stick).unwrap();
    assert_eq!(sandbox.records().len(), 1, "that of web");
}
