//! What each element means: a manual page of the format.

use vusb_formats::config::{AUDIO_DRIVER, AUDIO_NUMBER, Field, Property};
use vusb_model::device::{
    Audio, Chardev, HostRef, Hub, ImageFormat, Input, Kind, Mac, Media, Mtp, Net, NetBackend,
    Other, Redir, Serial, Storage,
};
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::PciAddress;
use vusb_model::models::{Model, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::selector::BusAddress;
use vusb_model::spec::{ControllerRef, ControllerSpec};

use super::{domain, read};

const V2: Input = Input { usbversion: UsbVersion::V2 };

/// A device's kind, name, QEMU properties and remarks.
type Read = (Kind, Option<String>, Vec<(&'static str, Property)>, Vec<String>);

/// The device of a domain that has only this one.
fn device(element: &str) -> Read {
    let config = read(&domain(element));
    assert_eq!(config.spec.devices.len(), 1, "{element}");
    let (spec, source) = (&config.spec.devices[0], &config.devices[0]);
    let name = spec.name.as_ref().map(ToString::to_string);
    (spec.kind.clone(), name, source.properties.clone(), source.remarks.clone())
}

fn kind(element: &str) -> Kind {
    device(element).0
}

fn host(selector: &str) -> Kind {
    Kind::Host(HostRef::new(selector.parse().unwrap()))
}

fn name_of(element: &str) -> String {
    device(element).1.unwrap()
}

fn text(text: &str) -> Property {
    Property::Text(text.to_owned())
}

#[test]
fn the_dump_of_a_running_domain() {
    let dump = include_str!("../fixtures/running.xml");
    let config = read(dump);
    assert_eq!(
        config.guest,
        Guest {
            name: Some("web1".to_owned()),
            uuid: Some("e2c0f1a2-5b6c-4f6f-9c0b-8f3a4a1f0001".to_owned()),
            hypervisor: Hypervisor::Qemu,
            virtualization: Virtualization::Hvm,
            arch: Some("x86_64".to_owned()),
            machine: Some("pc-q35-9.2".to_owned()),
            graphics: true,
            memory_kib: Some(2_097_152),
            vcpus: Some(2),
            os: None,
        }
    );
    assert_eq!(config.spec.profile, Profile::Libvirt);
    assert_eq!(config.spec.domain, Some("web1".parse().unwrap()));
    assert!(!config.spec.disabled && config.warnings.is_empty());
    assert_eq!(
        config.spec.controllers,
        [ControllerSpec {
            index: "0".parse().ok(),
            name: "usb".parse().ok(),
            model: Some(Model::QemuXhci),
            ports: Some(15),
            pci: Some(PciAddress { bus: "pci.2".to_owned(), slot: 0, function: 0 }),
            ..ControllerSpec::default()
        }]
    );
    let [tablet, stick] = config.spec.devices.as_slice() else { panic!("{:?}", config.spec) };
    assert_eq!(tablet.kind, Kind::Tablet(V2));
    assert_eq!(tablet.name, "input0".parse().ok());
    assert_eq!(tablet.controller, "0".parse().ok().map(ControllerRef::Index));
    assert_eq!(tablet.port, "1".parse().ok());
    // QEMU's id, although this is now the first host device.
    assert_eq!(stick.name, "hostdev4".parse().ok());
    assert_eq!(stick.kind, host("0781:5581"));
    assert_eq!(stick.port, "2.1".parse().ok());
    let Kind::Host(stick) = &stick.kind else { panic!() };
    assert_eq!(stick.bus_address, Some(BusAddress { bus: 3, address: 14 }));
    assert_eq!(config.devices[1].remarks, ["libvirt uses it only at 003.014"]);
}

#[test]
fn the_type_decides_the_hypervisor() {
    let guest = |text: &str| read(text).guest;
    for (kind, hypervisor) in [
        ("qemu", Hypervisor::Qemu),
        ("hvf", Hypervisor::Qemu),
        ("tcg", Hypervisor::Qemu),
        ("xen", Hypervisor::Xen),
        ("vmware", Hypervisor::Vmware),
        ("vbox", Hypervisor::VirtualBox),
    ] {
        assert_eq!(guest(&format!("<domain type='{kind}'/>")).hypervisor, hypervisor);
    }
    for (os, virtualization) in [
        ("<os><type>hvm</type></os>", Virtualization::Hvm),
        ("<os><type>linux</type></os>", Virtualization::Pv),
        ("<os><type>xen</type></os>", Virtualization::Pv),
        ("<os><type>xenpvh</type></os>", Virtualization::Pvh),
        ("<bootloader>/usr/bin/pygrub</bootloader>", Virtualization::Pv),
        ("", Virtualization::Hvm),
    ] {
        let text = format!("<domain type='xen'>{os}</domain>");
        assert_eq!(guest(&text).virtualization, virtualization, "{os}");
    }
}

#[test]
fn memory_has_libvirts_units() {
    for (memory, kib) in [
        ("<memory>4096</memory>", 4096),
        ("<memory unit='KiB'>4096</memory>", 4096),
        ("<memory unit='k'>4096</memory>", 4096),
        ("<memory unit='MiB'>\n 64 </memory>", 65_536),
        ("<memory unit='G'>2</memory>", 2_097_152),
        ("<memory unit='GiB'>2<!-- enough --></memory>", 2_097_152),
        ("<memory unit='bytes'>1025</memory>", 2),
        ("<memory unit='KB'>1024</memory>", 1000),
        ("<memory unit='TB'>1</memory>", 976_562_500),
    ] {
        let text = format!("<domain type='kvm'>{memory}</domain>");
        assert_eq!(read(&text).guest.memory_kib, Some(kib), "{memory}");
    }
}

#[test]
fn every_model_has_a_name() {
    for (name, model) in [
        ("piix3-uhci", Model::Piix3Uhci),
        ("piix4-uhci", Model::Piix4Uhci),
        ("ehci", Model::Ehci),
        ("ich9-ehci1", Model::Ich9Ehci1),
        ("ich9-uhci1", Model::Ich9Uhci1),
        ("ich9-uhci2", Model::Ich9Uhci2),
        ("ich9-uhci3", Model::Ich9Uhci3),
        ("vt82c686b-uhci", Model::Vt82c686bUhci),
        ("pci-ohci", Model::PciOhci),
        ("nec-xhci", Model::NecXhci),
        ("qemu-xhci", Model::QemuXhci),
        ("qusb1", Model::Xenusb1),
        ("qusb2", Model::Xenusb2),
    ] {
        let config = read(&domain(&format!("<controller type='usb' model='{name}'/>\n")));
        assert_eq!(config.spec.controllers[0].model, Some(model));
    }
}

#[test]
fn an_ich9_group_is_four_controllers_with_one_index() {
    let config = read(&domain(
        "\
    <controller type='usb' index='1' model='ich9-ehci1'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x7'/>
    </controller>
    <controller type='usb' index='1' model='ich9-uhci1'>
      <master startport='0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0' multifunction='on'/>
    </controller>
    <controller type='usb' index='1' model='ich9-uhci3'>
      <master startport='4'/>
    </controller>
    <controller type='usb' index='1' model='ich9-uhci2'/>
",
    ));
    let pci = |function| Some(PciAddress { bus: "pci.0".to_owned(), slot: 5, function });
    let one = |model, first_port, pci| ControllerSpec {
        index: "1".parse().ok(),
        model: Some(model),
        first_port,
        pci,
        ..ControllerSpec::default()
    };
    let master = one(Model::Ich9Ehci1, None, pci(7));
    assert_eq!(
        config.spec.controllers,
        [
            ControllerSpec { name: "usb1".parse().ok(), ..master },
            one(Model::Ich9Uhci1, Some(0), pci(0)),
            one(Model::Ich9Uhci3, Some(4), None),
            // What libvirt fills in stays open here.
            one(Model::Ich9Uhci2, None, None),
        ]
    );
}

#[test]
fn what_the_text_leaves_open_stays_open() {
    let config = read(&domain("    <controller type='usb'/>\n    <hub type='usb'/>\n"));
    assert_eq!(config.spec.controllers, [ControllerSpec::default()]);
    assert_eq!((&config.spec.devices[0].controller, config.spec.devices[0].port), (&None, None));
}

#[test]
fn the_model_none_turns_usb_off() {
    let config = read(&domain("    <controller type='usb' index='0' model='none'/>\n"));
    assert!(config.spec.disabled && config.spec.controllers.is_empty());
}

#[test]
fn a_bus_without_a_port_leaves_the_port_open() {
    let config = read(&domain("<hub type='usb'><address type='usb' bus='2'/></hub>\n"));
    let hub = &config.spec.devices[0];
    assert_eq!(hub.controller, "2".parse().ok().map(ControllerRef::Index));
    assert_eq!(hub.port, None);
    // The default bus is 0.
    let config = read(&domain("<hub type='usb'><address type='usb' port='1'/></hub>\n"));
    assert_eq!(config.spec.devices[0].controller, "0".parse().ok().map(ControllerRef::Index));
}

#[test]
fn pci_buses_have_qemus_names() {
    let bus = |machine: &str, rest: &str, number: &str| {
        let machine = match machine {
            "virt" => "arch='aarch64' machine='virt-9.0'",
            "q35" => "arch='x86_64' machine='q35'",
            _ => "arch='x86_64' machine='pc-i440fx-7.2'",
        };
        let config = read(&format!(
            "<domain type='kvm'><os><type {machine}>hvm</type></os><devices>{rest}<controller type='usb' \
             model='nec-xhci'><address type='pci' bus='{number}' slot='3'/></controller></devices></domain>"
        ));
        config.spec.controllers[0].pci.clone().unwrap().to_string()
    };
    assert_eq!(bus("pc", "", "0x00"), "pci.0/03.0");
    assert_eq!(bus("q35", "", "0"), "pcie.0/03.0");
    assert_eq!(bus("virt", "", "0"), "pcie.0/03.0");
    assert_eq!(bus("virt", "", "0x0a"), "pci.10/03.0");
    let root = "<controller type='pci' index='0' model='pcie-root'/>";
    assert_eq!(bus("pc", root, "0"), "pcie.0/03.0");
    let own = "<controller type='pci' index='4' model='pcie-root-port'><alias name='ua-rp4'/></controller>";
    assert_eq!(bus("q35", own, "4"), "ua-rp4/03.0");
}

#[test]
fn a_pci_address_of_zeros_is_ignored() {
    let config = read(&domain(
        "<controller type='usb'><address type='pci' domain='0x0000' bus='0x00' slot='0x00' function='0x0'/></controller>\n",
    ));
    assert_eq!(config.spec.controllers[0].pci, None);
}

#[test]
fn host_devices_have_the_selector_of_their_source() {
    let source = |source: &str| {
        kind(&format!("<hostdev mode='subsystem' type='usb'><source>{source}</source></hostdev>\n"))
    };
    let ids = "<vendor id='0x0781'/><product id='0x5581'/>";
    assert_eq!(source(ids), host("0781:5581"));
    assert_eq!(source("<vendor id='1921'/><product id='0'/>"), host("0781:0000"));
    assert_eq!(source("<address bus='3' device='14'/>"), host("003.014"));
    assert_eq!(source("<address bus='0x03' device='0x0e'/>"), host("003.014"));
    assert_eq!(source(&format!("{ids}<address bus='3' device='14'/>")), host("0781:5581"));
    assert_eq!(source("<address bus='1' port='4.2'/>"), host("1-4.2"));
    assert_eq!(source(""), Kind::Other(Other { driver: "usb-host".to_owned() }));
    let bare = kind("<hostdev mode='subsystem' type='usb'/>\n");
    assert_eq!(bare, Kind::Other(Other { driver: "usb-host".to_owned() }));
}

#[test]
fn two_devices_with_the_same_ids_are_selected_by_address() {
    let one = |device| {
        format!(
            "<hostdev type='usb'><source><vendor id='0x0781'/><product id='0x5581'/><address bus='3' device='{device}'/></source></hostdev>\n"
        )
    };
    let config = read(&domain(&(one(4) + &one(5))));
    assert_eq!(config.spec.devices[0].kind, host("003.004"));
    assert_eq!(config.spec.devices[1].kind, host("003.005"));
    assert_eq!(config.devices[1].remarks, ["only if it is 0781:5581"]);
}

#[test]
fn the_other_properties_of_a_host_device() {
    let (_, _, properties, remarks) = device(
        "\
<hostdev mode='subsystem' type='usb' managed='no'>
  <source startupPolicy='optional' guestReset='uninitialized' missing='yes'>
    <vendor id='0x0781'/><product id='0x5581'/>
  </source>
  <boot order='2'/>
</hostdev>
",
    );
    assert_eq!(
        properties,
        [
            ("bootindex", Property::Number(2)),
            ("guest-reset", Property::Flag(true)),
            ("guest-resets-all", Property::Flag(false)),
        ]
    );
    assert_eq!(remarks, ["startupPolicy optional", "missing when the guest was started"]);
    let resets = |word| {
        let text = format!(
            "<hostdev type='usb'><source guestReset='{word}'><address bus='1' device='2'/></source></hostdev>\n"
        );
        device(&text).2
    };
    assert_eq!(resets("off"), [("guest-reset", Property::Flag(false))]);
    assert_eq!(
        resets("on"),
        [("guest-reset", Property::Flag(true)), ("guest-resets-all", Property::Flag(true))]
    );
}

#[test]
fn redirected_devices_and_their_filter() {
    let redir = |kind: &str, rest: &str| {
        kind_of_redir(&format!("<redirdev bus='usb' type='{kind}'>{rest}</redirdev>\n"))
    };
    let tcp = |server| Chardev::Tcp { host: "localhost".to_owned(), port: 4000, server };
    assert_eq!(redir("spicevmc", ""), Some(Chardev::Spicevmc));
    assert_eq!(
        redir(
            "tcp",
            "<source mode='connect' host='localhost' service='4000'/><protocol type='raw'/>"
        ),
        Some(tcp(false))
    );
    assert_eq!(
        redir("tcp", "<source mode='bind' host='localhost' service='4000'/>"),
        Some(tcp(true))
    );
    assert_eq!(
        redir("unix", "<source mode='bind' path='/run/usb'/>"),
        Some(Chardev::Unix { path: "/run/usb".to_owned(), server: true })
    );
    for (kind, rest) in [
        ("tcp", "<source host='localhost' service='4000'/><protocol type='telnet'/>"),
        ("tcp", "<source host='localhost' service='http'/>"),
        ("tcp", "<source host='localhost' service='4000' tls='yes'/>"),
        ("dbus", "<source channel='org.qemu.usbredir'/>"),
        ("unix", ""),
    ] {
        assert_eq!(redir(kind, rest), None, "{kind} {rest}");
    }
    let (_, name, properties, _) = device(
        "\
<redirdev bus='usb' type='spicevmc'><boot order='1'/></redirdev>
<redirfilter>
  <usbdev class='0x08' vendor='0x1234' product='0xbeef' version='2.56' allow='yes'/>
  <usbdev class='8' version='1.5' allow='yes'/>
  <usbdev vendor='-1' version='10.03' allow='no'/>
</redirfilter>
",
    );
    assert_eq!(name.as_deref(), Some("redir0"));
    let filter = "0x08:0x1234:0xBEEF:0x0256:1|0x08:-1:-1:0x0150:1|-1:-1:-1:0x1003:0";
    assert_eq!(properties, [("filter", text(filter)), ("bootindex", Property::Number(1))]);
}

/// The character device of a redirected device, or `None` if the model cannot represent it.
fn kind_of_redir(element: &str) -> Option<Chardev> {
    match kind(element) {
        Kind::Redir(Redir { chardev }) => Some(chardev),
        Kind::Other(other) if other.driver == "usb-redir" => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn disks_and_cd_drives() {
    let (kind, name, properties, remarks) = device(
        "\
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2' cache='none'/>
  <source file='/var/lib/a &amp; b.qcow2'/>
  <target dev='sdc' bus='usb' removable='on'/>
  <serial>X1</serial>
  <boot order='3'/>
</disk>
",
    );
    let storage = |file: &str, format, readonly| Storage { readonly, ..Storage::new(file, format) };
    let labelled = Storage {
        serial: Some("X1".parse().unwrap()),
        removable: true,
        ..storage("/var/lib/a & b.qcow2", ImageFormat::Qcow2, false)
    };
    assert_eq!(kind, Kind::Storage(labelled));
    assert_eq!(name.as_deref(), Some("usb-disk2"));
    let cache = ("blockdev.cache", Property::Text("none".to_owned()));
    assert_eq!(properties, [("bootindex", Property::Number(3)), cache]);
    assert!(remarks.is_empty());
    let disk = |attributes: &str, rest: &str| {
        device(&format!("<disk {attributes}>{rest}<target dev='sda' bus='usb'/></disk>\n"))
    };
    assert_eq!(
        disk("type='block' device='disk'", "<source dev='/dev/sdb'/><readonly/>").0,
        Kind::Storage(storage("/dev/sdb", ImageFormat::Raw, true))
    );
    let iso = storage("/a.iso", ImageFormat::Raw, true);
    for model in ["", " model='usb-storage'"] {
        let (kind, _, properties, remarks) = disk(
            &format!("type='file' device='cdrom'{model}"),
            "<driver type='raw'/><source file='/a.iso'/>",
        );
        assert_eq!(kind, Kind::Storage(iso.clone()));
        assert_eq!(properties, []);
        assert_eq!(remarks, ["a CD drive, which QEMU presents as a disk"]);
    }
    let (kind, _, _, remarks) =
        disk("type='file' device='cdrom' model='usb-bot'", "<source file='/a.iso'/>");
    assert_eq!(kind, Kind::Storage(iso.with_media(Media::Cdrom)));
    assert_eq!(remarks, [""; 0]);
    for (attributes, rest, why) in [
        ("type='network'", "<source protocol='nbd' name='a'/>", "its content has the type network"),
        ("type='volume'", "<source pool='a' volume='b'/>", "its content has the type volume"),
        ("type='file' device='cdrom'", "", "it is an empty CD drive"),
        ("type='file'", "", "it is empty"),
        (
            "type='file'",
            "<source file='/a'/><serial>a,b</serial>",
            "`a,b` is not a serial number: it must have 1 to 126 printable ASCII characters, and neither `,` nor `\"`",
        ),
        ("type='file'", "<driver type='vmdk'/><source file='/a'/>", "its format is vmdk"),
        (
            "type='file'",
            "<source file='/a'><encryption format='luks'/></source>",
            "it is encrypted",
        ),
    ] {
        let (kind, name, _, remarks) = disk(attributes, rest);
        assert_eq!(kind, Kind::Other(Other { driver: "usb-storage".to_owned() }));
        assert_eq!((name.as_deref(), remarks[0].as_str()), (Some("usb-disk0"), why));
    }
}

#[test]
fn disks_come_first_in_the_order_of_their_names() {
    let disk =
        |dev| format!("<disk><source file='/{dev}'/><target dev='{dev}' bus='usb'/></disk>\n");
    let config = read(&domain(
        &("<hub type='usb'/>\n".to_owned() + &disk("sdaa") + &disk("sdb") + &disk("sda")),
    ));
    let names: Vec<String> = config
        .spec
        .devices
        .iter()
        .map(|device| device.name.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(names, ["usb-disk0", "usb-disk1", "usb-disk26", "hub0"]);
}

#[test]
fn inputs_without_a_bus_are_where_libvirt_puts_them() {
    assert_eq!(kind("<input type='tablet'/>\n"), Kind::Tablet(V2));
    assert_eq!(kind("<input type='mouse' bus='usb'/>\n"), Kind::Mouse(V2));
    assert_eq!(kind("<input type='keyboard' bus='usb'/>\n"), Kind::Keyboard(V2));
    let inputs = "<input type='mouse'/><input type='keyboard'/><input type='tablet' bus='virtio'/><input type='passthrough' bus='virtio'/>\n";
    assert!(read(&domain(inputs)).spec.devices.is_empty());
    let arm = domain(inputs).replace("x86_64", "aarch64");
    assert_eq!(read(&arm).spec.devices.len(), 2);
    // Inputs on other buses count, too.
    let text = domain("<input type='mouse'/><input type='tablet' bus='usb'/>\n");
    assert_eq!(read(&text).spec.devices[0].name, "input1".parse().ok());
}

#[test]
fn the_other_kinds() {
    let (kind, name, ..) = device(
        "<serial type='pty'><target port='0'/></serial><serial type='file'><source path='/log'/><target type='usb-serial'/></serial>\n",
    );
    assert_eq!(kind, Kind::Serial(Serial { chardev: Chardev::File("/log".to_owned()) }));
    assert_eq!(name.as_deref(), Some("serial1"));

    let (kind, name, ..) = device("<hub type='usb'/>\n");
    assert_eq!((kind, name.as_deref()), (Kind::Hub(Hub { ports: 8 }), Some("hub0")));

    let (kind, name, properties, _) = device(
        "<sound model='ich9'/><sound model='usb' multichannel='yes'><audio id='2'/></sound>\n",
    );
    assert_eq!(kind, Kind::Audio(Audio { audiodev: Some("audio2".to_owned()) }));
    assert_eq!(name.as_deref(), Some("sound1"));
    assert_eq!(properties, [("multi", Property::Flag(true))]);

    let (kind, name, properties, _) = device(
        "<filesystem type='mount' accessmode='passthrough'><driver type='mtp'/><source dir='/srv'/><target dir='pictures'/><readonly/></filesystem>\n",
    );
    assert_eq!(kind, Kind::Mtp(Mtp { dir: "/srv".to_owned(), writable: false }));
    assert_eq!(name.as_deref(), Some("fs0"));
    assert_eq!(properties, [("desc", text("pictures"))]);

    let card = "<mac address='52:54:00:12:34:56'/><model type='usb-net'/>";
    let (kind, name, ..) = device(&format!("<interface type='user'>{card}</interface>\n"));
    let mac = Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    assert_eq!(kind, Kind::Net(Net { backend: NetBackend::User, mac }));
    assert_eq!(name.as_deref(), Some("net0"));
    let (kind, ..) = device(&format!("<interface type='network'>{card}</interface>\n"));
    assert_eq!(kind, Kind::Net(Net { backend: NetBackend::Existing("hostnet0".to_owned()), mac }));
}

/// The back end of a sound card: its number and its driver, and what `qemu-args` refuses.
#[test]
fn a_sound_card_gets_the_back_end_that_libvirt_gives_it() {
    let back_end = |elements: &str| {
        let config = read(&domain(elements));
        let of = |wanted: &str| {
            let all = &config.devices[0].properties;
            all.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone())
        };
        let first = config.unsupported.first().map(|it| it.brief().to_owned());
        let refused = first.map(|it| it.split_once("does not support ").unwrap().1.to_owned());
        (of(AUDIO_NUMBER), of(AUDIO_DRIVER), refused)
    };
    let card = "<sound model='usb'/>";
    let display = |kind: &str| format!("{card}<graphics type='{kind}'/>");
    // libvirt adds one, of a type that fits the display.
    assert_eq!(back_end(card), (None, Some(text("none")), None));
    assert_eq!(back_end(&display("vnc")), (None, Some(text("none")), None));
    assert_eq!(back_end(&display("spice")), (None, Some(text("spice")), None));
    let several = format!("{}<graphics type='spice'/>", display("vnc"));
    for unknown in [&display("sdl"), &display("dbus"), &several] {
        let (number, driver, refused) = back_end(unknown);
        assert_eq!((number, driver), (None, None));
        let wanted = "the automatic audio back end for these displays of sound0";
        assert_eq!(refused.as_deref(), Some(wanted));
    }
    // The first one, whatever its id.
    let alsa = format!("{}<audio id='3' type='alsa'/><audio id='1' type='oss'/>", display("spice"));
    assert_eq!(back_end(&alsa), (Some(Property::Number(3)), Some(text("alsa")), None));
    // libvirt does not start these.
    for (elements, what) in [
        (
            "<sound model='usb'><audio id='2'/></sound><audio id='1' type='none'/>".to_owned(),
            "missing audio back end 2",
        ),
        ("<sound model='usb'><audio id='2'/></sound>".to_owned(), "missing audio back end 2"),
    ] {
        let refused = back_end(&elements).2;
        assert_eq!(refused, Some(format!("the {what} of sound0")));
    }
}

#[test]
fn readers_without_an_index_get_the_lowest_that_no_other_names() {
    let text =
        "<controller type='ccid'/><controller type='ccid' index='0'/><controller type='ccid'/>";
    let config = read(&domain(text));
    let names = config.spec.devices.iter().map(|it| it.name.as_ref().unwrap().to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["ccid1", "ccid0", "ccid2"]);
}

#[test]
fn a_smart_card_implies_its_reader() {
    let (kind, name, _, remarks) = device("<smartcard mode='host'/>\n");
    assert_eq!((kind, name.as_deref()), (Kind::Ccid, Some("ccid0")));
    assert_eq!(remarks, ["added by libvirt for the smart card"]);
    // A reader with an element is not added again.
    let text = "<smartcard mode='host'><address type='ccid' controller='1' slot='0'/></smartcard><controller type='ccid' index='1'/>\n";
    assert_eq!(name_of(text), "ccid1");
}

#[test]
fn names_come_from_user_aliases_or_from_libvirt() {
    let hub = |alias: &str| name_of(&format!("<hub type='usb'><alias name='{alias}'/></hub>\n"));
    assert_eq!(hub("ua-stick"), "stick");
    // The prefix is kept if the rest is not a valid name.
    assert_eq!(hub("ua-04c2decd"), "ua-04c2decd");
    // It is also kept if the rest looks like an automatic alias.
    assert_eq!(hub("ua-input0"), "ua-input0");
    // libvirt drops other aliases of a domain that does not run.
    assert_eq!(hub("hub7"), "hub0");
}

#[test]
fn devices_with_user_aliases_are_counted_as_libvirt_does() {
    let host = |alias: &str| {
        format!(
            "<hostdev type='usb'><source><address bus='1' device='2'/></source>{alias}</hostdev>\n"
        )
    };
    let text = domain(&format!(
        "<interface type='hostdev'/>{}{}{}",
        host(""),
        host("<alias name='ua-cam'/>"),
        host("")
    ));
    let config = read(&text);
    let names: Vec<&str> =
        config.spec.devices.iter().map(|device| device.name.as_ref().unwrap().as_str()).collect();
    assert_eq!(names, ["hostdev1", "cam", "hostdev2"]);
    // Every hub counts, even one with a user alias.
    let text = domain("<hub type='usb'><alias name='ua-a'/></hub><hub type='usb'/>\n");
    assert_eq!(read(&text).spec.devices[1].name, "hub1".parse().ok());
}

#[test]
fn positions_of_values() {
    let text = domain(
        "<controller type='usb' index='1' model='qemu-xhci' ports = \"4\"/><hub type='usb'><address type='usb' bus='1' port='1.2'/></hub>\n",
    );
    let config = read(&text);
    let value = |source: &vusb_formats::config::ItemSource, field| {
        text[source.fields[&field].clone()].to_owned()
    };
    let controller = &config.controllers[0];
    assert_eq!(value(controller, Field::Index), "1");
    assert_eq!(value(controller, Field::Model), "qemu-xhci");
    assert_eq!(value(controller, Field::Ports), "4");
    let hub = &config.devices[0];
    assert_eq!(value(hub, Field::Controller), "1");
    assert_eq!(value(hub, Field::Port), "1.2");
    assert_eq!(value(hub, Field::What), "usb");
    assert_eq!(
        &text[hub.span.clone()],
        "<hub type='usb'><address type='usb' bus='1' port='1.2'/></hub>"
    );
}

#[test]
fn xml_in_all_its_forms() {
    let plain = domain("    <hub type='usb'/>\n");
    let wanted = read(&plain).spec;
    for text in [
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{plain}"),
        format!("<?xml version='1.0' encoding='UTF-8'?>\n<!-- a -->\n{plain}<!-- b -->"),
        plain.replace('\n', ""),
        plain.replace("'usb'", "\"&#117;s&#x62;\""),
        plain.replace("web1", "<![CDATA[web1]]>"),
        plain.replace("web1", "we<!-- x -->b1"),
        plain.replace(
            "<hub type='usb'/>",
            "<!-- <hub type='usb'/> --><hub\n\ttype = 'usb' ></hub >",
        ),
        plain.replace("<devices>", "<devices/><devices>"),
    ] {
        assert_eq!(read(&text).spec, wanted, "{text}");
    }
}

/// `virDomainInputDefPostParse`.
#[test]
fn inputs_without_a_bus_are_on_the_bus_of_the_machine() {
    let inputs = "<input type='tablet'/><input type='mouse'/>";
    let count = |arch: &str, os: &str| {
        let text = domain(inputs).replace("x86_64", arch).replace("hvm", os);
        read(&text).spec.devices.len()
    };
    assert_eq!(count("x86_64", "hvm"), 1);
    assert_eq!(count("aarch64", "hvm"), 2);
    // virtio, and Xen's own.
    assert_eq!(count("s390x", "hvm"), 0);
    assert_eq!(count("x86_64", "xen"), 0);
}

#[test]
fn settings_of_a_disk_and_of_its_cache_are_properties() {
    let (.., properties, _) = device(
        "<disk type='file' device='disk'>
          <driver name='qemu' type='raw' cache='directsync' discard='unmap'/>
          <source file='/a.img'/><target dev='sda' bus='usb'/><boot order='1'/><shareable/>
          <blockio logical_block_size='512' physical_block_size='4096'/>
        </disk>",
    );
    let text = |text: &str| Property::Text(text.to_owned());
    let expected = [
        ("bootindex", Property::Number(1)),
        ("blockdev.cache", text("directsync")),
        ("blockdev.discard", text("unmap")),
        ("logical_block_size", Property::Number(512)),
        ("physical_block_size", Property::Number(4096)),
        ("share-rw", Property::Flag(true)),
    ];
    assert_eq!(properties, expected);
}

#[test]
fn options_of_a_character_device_are_properties() {
    let (.., properties, _) = device(
        "<redirdev bus='usb' type='tcp'>
          <source mode='connect' host='localhost' service='1'><reconnect enabled='yes' timeout='5'/></source>
          <log file='/a,b.log' append='on'/>
        </redirdev>",
    );
    let text = |text: &str| Property::Text(text.to_owned());
    let expected = [
        ("chardev.reconnect", text("5")),
        ("chardev.logfile", text("/a,b.log")),
        ("chardev.logappend", text("on")),
    ];
    assert_eq!(properties, expected);
}

/// A guest that is started without libvirt would lack these settings.
#[test]
fn unsupported_settings_are_named() {
    let disk = |inside: &str| {
        format!("<disk type='file'><source file='/a'/><target dev='sda' bus='usb'/>{inside}</disk>")
    };
    for (element, what) in [
        ("<smartcard mode='host'/>".to_owned(), "the smart card"),
        (disk("<iotune/>"), "the limits of its throughput of usb-disk0"),
        (disk("<transient/>"), "the transient content of usb-disk0"),
        (disk("<driver name='qemu' copy_on_read='on'/>"), "the copy on read of usb-disk0"),
    ] {
        let config = read(&domain(&element));
        let first = config.unsupported[0].to_string();
        assert!(first.contains(&format!("vusb does not support {what}")), "{first}");
    }
    let text = domain("<controller type='usb' index='0' model='qemu-xhci'/>").replace(
        "</domain>",
        "<q:override xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:device alias='usb'/></q:override></domain>",
    );
    let first = read(&text).unsupported[0].to_string();
    assert!(first.contains("the changed properties of usb"), "{first}");
}
