//! Reading a configuration.

use vusb_formats::config::Field;
use vusb_model::digest::digest;
use vusb_model::guest::{Hypervisor, Virtualization};
use vusb_model::profile::Profile;

use crate::support::{hardware, lines, read, resolved, warnings};

#[test]
fn a_guest_with_a_controller_and_a_stick() {
    let text = r#"
# A web server.
name = "web1"
uuid = '9c1ed4f0-22a4-4c1e-a56e-61b8b3f3c2d4'
type = "hvm"
memory = 2048
vcpus = 2
disk = [ 'phy:/dev/vg/web1,hda,w' ]
usbctrl = [ 'type=devicemodel,version=3,ports=8' ]
usbdev = [ 'type=hostdev,hostbus=3,hostaddr=14,controller=0,port=2' ]
"#;
    let config = read(text);
    let guest = &config.guest;
    assert_eq!(guest.name.as_deref(), Some("web1"));
    assert_eq!(guest.uuid.as_deref(), Some("9c1ed4f0-22a4-4c1e-a56e-61b8b3f3c2d4"));
    assert_eq!((guest.hypervisor, guest.virtualization), (Hypervisor::Xen, Virtualization::Hvm));
    assert_eq!((guest.memory_kib, guest.vcpus), (Some(2048 * 1024), Some(2)));
    assert_eq!((&guest.arch, config.spec.profile), (&None, Profile::Libxl));
    assert_eq!(config.warnings, []);
    assert_eq!(lines(&hardware(text)), ["0 hci0 nec-xhci 8", "0:2 host0 host:003.014"]);

    let source = &config.devices[0];
    assert_eq!(&text[source.fields[&Field::Port].clone()], "port=2");
    assert_eq!(&text[source.fields[&Field::Controller].clone()], "controller=0");
    assert_eq!(&text[source.fields[&Field::What].clone()], "hostbus=3,hostaddr=14");
    assert_eq!(&text[config.controllers[0].fields[&Field::Ports].clone()], "ports=8");
}

#[test]
fn the_type_of_the_guest_follows_from_type_or_builder() {
    for (text, is) in [
        ("", Virtualization::Pv),
        ("type='hvm'", Virtualization::Hvm),
        ("type='pvh'", Virtualization::Pvh),
        ("type='pv'", Virtualization::Pv),
        ("builder='hvm'", Virtualization::Hvm),
        ("builder='generic'", Virtualization::Pv),
        ("builder='hvm'\ntype='hvm'", Virtualization::Hvm),
        // xl accepts abbreviations.
        ("type='h'", Virtualization::Hvm),
        ("kernel='/boot/vmlinuz'", Virtualization::Pv),
    ] {
        assert_eq!(read(text).guest.virtualization, is, "{text}");
    }
}

#[test]
fn default_controllers() {
    let all = "usbctrl = [ '', 'type=auto', 'version=1', 'type=pv,ports=31' ]";
    assert_eq!(
        lines(&hardware(all)),
        ["0 pv0 xenusb2 8", "1 pv1 xenusb2 8", "2 pv2 xenusb1 8", "3 pv3 xenusb2 31"]
    );
    assert_eq!(
        lines(&hardware("type='hvm'\nusbctrl = [ '', 'version=1', 'version=3', 'type=Qusb' ]")),
        ["0 hci0 ehci 6", "1 hci1 piix3-uhci 2", "2 hci2 nec-xhci 8", "3 pv0 xenusb2 8"]
    );
    let kernel = &read("usbctrl = ['type=pv']").controllers[0].remarks;
    assert!(kernel[0].contains("kernel"), "{kernel:?}");
}

/// Every element of the grammar.
#[test]
fn the_grammar() {
    let text = "a=1;b=0x1f ; c = [ 1, 'two' ,\"three\", [ 'a', [] ], # four\n\n\t]\n\
                usbctrl = [ # none\n  \"\", 'ports=4' , ]  # two\n;;\n\
                usbctrl += [\n'version=1,,  ports=3,' ]\n";
    assert_eq!(lines(&hardware(text)), ["0 pv0 xenusb2 8", "1 pv1 xenusb2 4", "2 pv2 xenusb1 3"]);
    assert_eq!(read("name='a'\nname+=\"b\"").guest.name.as_deref(), Some("ab"));
    assert_eq!(read(r#"name='it\'s "x"'"#).guest.name.as_deref(), Some(r#"it's "x""#));
    assert_eq!(read("memory=0x200").guest.memory_kib, Some(512 * 1024));
    assert_eq!(read("vcpus='4'").guest.vcpus, Some(4));
}

/// The last assignment wins; `+=` appends to the value so far.
#[test]
fn a_key_set_twice() {
    let text = "usbctrl = [ '', '' ]\nusbctrl = [ 'ports=4' ]\nusbctrl += [ 'ports=5' ]\n";
    assert_eq!(lines(&hardware(text)), ["0 pv0 xenusb2 4", "1 pv1 xenusb2 5"]);
    assert_eq!(
        warnings(text),
        ["warning: this has no effect: `usbctrl` is set again, and xl uses the last assignment"]
    );
}

/// A device without a controller is placed on the lowest free port, in the order of the list.
#[test]
fn devices_without_a_controller_or_a_port() {
    let text = "usbctrl = [ 'version=1,ports=2', '' ]\n\
                usbdev = [ 'type=hostdev,hostbus=1,hostaddr=2', 'type=hostdev,hostbus=1,hostaddr=3,controller=1',\n\
                           'type=hostdev,hostbus=1,hostaddr=4', 'type=hostdev,hostbus=1,hostaddr=5' ]";
    assert_eq!(
        lines(&hardware(text))[2..],
        [
            "0:1 host0 host:001.002",
            "0:2 host2 host:001.004",
            "1:1 host1 host:001.003",
            "1:2 host3 host:001.005",
        ]
    );
}

#[test]
fn the_boot_controller() {
    let tablet = "type='hvm'\nusb=1\nusbdevice='tablet'\n";
    assert_eq!(
        lines(&hardware(tablet)),
        ["4095 hci0 piix3-uhci 2", "4095:1 tablet0 tablet:usbversion=2"]
    );
    // `usbdevice` implies `usb=1`.
    let list = "type='hvm'\nusbdevice=['tablet', 'host:46d:c52b', 'host:8.2', 'braille']\n";
    let made = resolved(list);
    assert_eq!(
        lines(&made.hardware),
        [
            "4095 hci0 piix3-uhci 2",
            "4095:1 tablet0 tablet:usbversion=2",
            "4095:2 hub0 hub",
            "4095:2.1 host0 host:046d:c52b",
            "4095:2.2 host1 host:008.002",
            "4095:2.3 other0 other:braille",
        ]
    );
    let alone = "type='hvm'\nusb=1\n";
    assert_eq!(lines(&hardware(alone)), ["4095 hci0 piix3-uhci 2"]);
    assert_eq!(lines(&hardware("type='hvm'\nusb=0\nusbversion=0\n")), [""; 0]);
    for (version, model) in [(1, "piix3-uhci 2"), (2, "ich9-ehci1 6"), (3, "nec-xhci 4")] {
        let text = format!("type='hvm'\nusbversion={version}\n");
        assert_eq!(lines(&hardware(&text)), [format!("4095 hci0 {model}")]);
    }
}

#[test]
fn redirected_devices_are_on_the_boot_controller() {
    let text = "type='hvm'\nspice=1\nspiceusbredirection=2\n";
    assert_eq!(
        lines(&hardware(text)),
        ["4095 hci0 ich9-ehci1 6", "4095:1 redir0 redir:spicevmc", "4095:2 redir1 redir:spicevmc"]
    );
    let text = "type='hvm'\nspiceusbredirection=2\n";
    assert_eq!(lines(&hardware(text)), [""; 0]);
    assert_eq!(warnings(text), ["warning: nothing is redirected because the guest has no SPICE"]);
}

/// A device of `usbdev` never uses QEMU's boot controller.
#[test]
fn devices_of_usbdev_never_use_the_boot_controller() {
    let text = "type='hvm'\nusb=1\nusbdevice='tablet'\nusbctrl=['']\nusbdev=['type=hostdev,hostbus=1,hostaddr=2']\n";
    assert_eq!(
        lines(&hardware(text)),
        [
            "0 hci1 ehci 6",
            "4095 hci0 piix3-uhci 2",
            "0:1 host0 host:001.002",
            "4095:1 tablet0 tablet:usbversion=2",
        ]
    );
}

/// Numbers are parsed as xl parses them, with a warning if that is not the number in the text.
#[test]
fn numbers_as_xl_reads_them() {
    let dev =
        |text: &str| format!("usbctrl=['ports=10']\nusbdev=['type=hostdev,hostbus=1,{text}']\n");
    for (text, device, message) in [
        (
            "hostaddr=010",
            "0:1 host0 host:001.008",
            "xl reads `010` as 8 because a leading zero makes it octal",
        ),
        (
            "hostaddr=014",
            "0:1 host0 host:001.012",
            "xl reads `014` as 12 because a leading zero makes it octal",
        ),
        (
            "hostaddr=258",
            "0:1 host0 host:001.002",
            "xl reads `258` as 2 because it only keeps eight bits",
        ),
        (
            "hostaddr=1f",
            "0:1 host0 host:001.001",
            "xl reads `1f` as 1 and ignores the rest; libvirt writes hexadecimal here, which xl only reads with a leading 0x",
        ),
        ("hostaddr=3x", "0:1 host0 host:001.003", "xl reads `3x` as 3 and ignores the rest"),
        (
            "hostaddr=3,controller=x",
            "0:1 host0 host:001.003",
            "xl reads `x` as 0 because it does not start with a digit",
        ),
        (
            "hostaddr=3,controller=0,port=x",
            "0:1 host0 host:001.003",
            "xl reads `x` as 0 because it does not start with a digit",
        ),
        (
            "hostaddr=3,controller=0,port=2.1",
            "0:2 host0 host:001.003",
            "xl reads `2.1` as 2 and ignores the rest",
        ),
    ] {
        let text = dev(text);
        assert_eq!(lines(&hardware(&text))[1..], [device], "{text}");
        assert_eq!(warnings(&text), [format!("warning: {message}")], "{text}");
    }
    for plain in ["hostaddr=3", "hostaddr=0x10", "hostaddr=003", "hostaddr=3,controller=0,port=010"]
    {
        assert_eq!(warnings(&dev(plain)), [""; 0], "{plain}");
    }
}

#[test]
fn values_that_xl_ignores() {
    for (text, message) in [
        (
            "usbctrl = 'version=2'",
            "xl ignores this: `usbctrl` is a single value and should be a list",
        ),
        (
            "usbctrl = [ [ 'version=2' ], '' ]",
            "xl reads `usbctrl` only up to here: this is a list and not a string",
        ),
        ("usb = 1", "xl ignores this: it applies to HVM guests, and this one is PV or PVH"),
        (
            "usbdevice = 'tablet'",
            "xl ignores this: it applies to HVM guests, and this one is PV or PVH",
        ),
        ("usbversion = 2", "xl ignores this: it applies to HVM guests, and this one is PV or PVH"),
        ("type='hvm'\nusb = 'yes'", "xl ignores this: `usb` is not a number"),
        ("memory = 5\nmemory += 5", "xl ignores this: `memory` is not a number"),
        ("vcpus = [ 2 ]", "xl ignores this: `vcpus` is a list and should be a single value"),
    ] {
        assert_eq!(warnings(text), [format!("warning: {message}")], "{text}");
        assert_eq!(lines(&hardware(text)), [""; 0], "{text}");
    }
    assert_eq!(
        warnings("memory = 0512"),
        ["warning: xl reads `0512` as 330 because a leading zero makes it octal"]
    );
}

#[test]
fn devices_without_a_type_and_without_a_controller() {
    let text = "usbctrl=['']\nusbdev=['hostbus=1,hostaddr=2']\n";
    assert_eq!(
        warnings(text),
        [
            "warning: without type=hostdev the device is attached when the guest starts, and lost when the guest is saved or restarts"
        ]
    );
    let text = "type='hvm'\nusbdev=['type=hostdev,hostbus=1,hostaddr=2']\n";
    assert!(warnings(text)[0].contains("libxl's default controller does not work in an HVM guest"));
    assert_eq!(lines(&hardware(text)), ["0 hci0 ehci 6", "0:1 host0 host:001.002"]);
}

/// The same hardware, written in two ways.
#[test]
fn the_digest_only_depends_on_what_the_guest_sees() {
    let short = "usbdev=['type=hostdev,hostbus=1,hostaddr=2']\n";
    let long = "usbctrl=['type=qusb,version=2,ports=8']\nusbdev=['type=hostdev,hostbus=1,hostaddr=2,controller=0,port=1']\n";
    assert_eq!(digest(&hardware(short)), digest(&hardware(long)));
}

/// Each warning shows an excerpt, and a text could cause thousands of them.
#[test]
fn the_number_of_warnings_is_limited() {
    let entries = "'hostbus=1,hostaddr=010', ".repeat(200);
    let text = format!("usbctrl = [ 'ports=31' ]\nusbdev = [ {entries}]\n");
    assert_eq!(read(&text).warnings.len(), 32);
}
