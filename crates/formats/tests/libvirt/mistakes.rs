//! The mistakes that people make in a domain, and what each is answered with: the whole of it.

use insta::assert_snapshot;

use super::{domain, error, read};

fn mistake(element: &str) -> String {
    error(&domain(&format!("    {element}\n")))
}

#[test]
fn an_unknown_model_is_answered_with_the_models_and_the_closest() {
    assert_snapshot!(mistake("<controller type='usb' index='0' model='piix3-usb-uhci'/>"), @r#"
        error: `piix3-usb-uhci` is no controller model of libvirt's: the models are piix3-uhci, piix4-uhci, ehci, ich9-ehci1, ich9-uhci1, ich9-uhci2, ich9-uhci3, vt82c686b-uhci, pci-ohci, qemu-xhci, nec-xhci, qusb1, qusb2, none
         --> web1.xml:8:45
          |
        8 |     <controller type='usb' index='0' model='piix3-usb-uhci'/>
          |                                             ^^^^^^^^^^^^^^ is `piix3-uhci` meant?
          |
          = help: libvirt says: Unknown model type 'piix3-usb-uhci'
    "#);
}

#[test]
fn an_index_is_decimal_and_below_4096() {
    assert_snapshot!(mistake("<controller type='usb' index='4096'/>"), @r#"
        error: `4096` is no controller index: an index is a decimal number from 0 to 4095
         --> web1.xml:8:35
          |
        8 |     <controller type='usb' index='4096'/>
          |                                   ^^^^
    "#);
}

#[test]
fn ports_are_a_number() {
    assert_snapshot!(mistake("<controller type='usb' model='qemu-xhci' ports='0x8'/>"), @r#"
        error: `0x8` is no number of ports
         --> web1.xml:8:53
          |
        8 |     <controller type='usb' model='qemu-xhci' ports='0x8'/>
          |                                                     ^^^
          |
          = help: it is a decimal number: 1 to 15 for qemu-xhci and nec-xhci, 1 to 31 for qusb1 and qusb2; the other models have their own
    "#);
}

#[test]
fn none_stands_alone() {
    assert_snapshot!(mistake("<controller type='usb' model='none'/>\n    <controller type='usb' model='qemu-xhci'/>"), @r#"
        error: USB is disabled in this domain, and here is another USB controller
         --> web1.xml:9:5
          |
        8 |     <controller type='usb' model='none'/>
          |     ------------------------------------- and this one
        9 |     <controller type='usb' model='qemu-xhci'/>
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: take the controller of the model none out, or all others; libvirt says: Can't add another USB controller: USB is disabled for this domain
    "#);
}

#[test]
fn a_companion_says_where_it_starts() {
    assert_snapshot!(mistake("<controller type='usb' model='ich9-uhci1'><master/></controller>"), @r#"
        error: this does not say which ports of its master are the companion's
         --> web1.xml:8:47
          |
        8 |     <controller type='usb' model='ich9-uhci1'><master/></controller>
          |                                               ^^^^^^^^^
          |
          = help: write <master startport='0'/>: how many ports come before its own, 0 for ich9-uhci1, 2 for ich9-uhci2, 4 for ich9-uhci3
    "#);
}

#[test]
fn a_pci_slot_is_five_bits() {
    assert_snapshot!(mistake("<controller type='usb'><address type='pci' slot='0x20'/></controller>"), @r#"
        error: `0x20` is no PCI slot: it is a number from 0 to 0x1f
         --> web1.xml:8:54
          |
        8 |     <controller type='usb'><address type='pci' slot='0x20'/></controller>
          |                                                      ^^^^
    "#);
}

#[test]
fn a_port_of_0() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='0'/></hub>"), @r#"
        error: `0` is no port: a port is one to four decimal numbers with dots between them, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='0'/></hub>
          |                                                       ^
          |
          = help: libvirt reads 0 as if no port were given: leave it out and it chooses one
    "#);
}

#[test]
fn a_port_with_a_space() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='1 2'/></hub>"), @r#"
        error: `1 2` is no port: a port is one to four decimal numbers with dots between them, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='1 2'/></hub>
          |                                                       ^^^
          |
          = help: libvirt reads it as 1.2: write that
    "#);
}

#[test]
fn a_port_with_five_numbers() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='1.1.1.1.1'/></hub>"), @r#"
        error: `1.1.1.1.1` is no port: a port is one to four decimal numbers with dots between them, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='1.1.1.1.1'/></hub>
          |                                                       ^^^^^^^^^
          |
          = help: libvirt takes four numbers at the most, though QEMU takes five. libvirt says: Cannot parse <address> 'port' attribute
    "#);
}

#[test]
fn a_port_in_hexadecimal() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='0x1'/></hub>"), @r#"
        error: `0x1` is no port: a port is one to four decimal numbers with dots between them, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='0x1'/></hub>
          |                                                       ^^^
          |
          = help: ports are decimal, though libvirt's schema allows hexadecimal. libvirt says: Cannot parse <address> 'port' attribute
    "#);
}

#[test]
fn a_bus_in_hexadecimal() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0x1' port='1'/></hub>"), @r#"
        error: `0x1` is no controller index: an index is a decimal number from 0 to 4095
         --> web1.xml:8:46
          |
        8 |     <hub type='usb'><address type='usb' bus='0x1' port='1'/></hub>
          |                                              ^^^
          |
          = help: write 1 if that is meant: libvirt reads these numbers in decimal, whatever its schema allows
    "#);
}

#[test]
fn an_address_of_another_type() {
    assert_snapshot!(mistake("<input type='tablet' bus='usb'><address type='pci' slot='3'/></input>"), @r#"
        error: this is a USB device, and its address is of type `pci`
         --> web1.xml:8:51
          |
        8 |     <input type='tablet' bus='usb'><address type='pci' slot='3'/></input>
          |                                                   ^^^
          |
          = help: a USB device has <address type='usb' bus='0' port='1'/>, or none
    "#);
}

#[test]
fn ids_of_lsusb_lack_what_makes_them_hexadecimal() {
    assert_snapshot!(mistake("<hostdev type='usb'><source><vendor id='046d'/><product id='0x0825'/></source></hostdev>"), @r#"
        error: `046d` is no vendor id: it is a number up to 0xffff
         --> web1.xml:8:45
          |
        8 |     <hostdev type='usb'><source><vendor id='046d'/><product id='0x0825'/></source></hostdev>
          |                                             ^^^^
          |
          = help: hexadecimal has to say so: write 0x046d
    "#);
}

#[test]
fn half_an_id() {
    assert_snapshot!(mistake("<hostdev type='usb'><source><vendor id='0x046d'/></source></hostdev>"), @r#"
        error: this device has no <product id=...>
         --> web1.xml:8:33
          |
        8 |     <hostdev type='usb'><source><vendor id='0x046d'/></source></hostdev>
          |                                 ^^^^^^^^^^^^^^^^^^^^^
          |
          = help: a vendor and a product together name a device; libvirt says: missing product
    "#);
}

#[test]
fn a_device_of_008() {
    assert_snapshot!(mistake("<hostdev type='usb'><source><address bus='1' device='008'/></source></hostdev>"), @r#"
        error: `008` is no device of a host device: it is a number from 1 to 127
         --> web1.xml:8:58
          |
        8 |     <hostdev type='usb'><source><address bus='1' device='008'/></source></hostdev>
          |                                                          ^^^
          |
          = help: a zero in front makes it octal: write 8
    "#);
}

#[test]
fn a_disk_has_a_name_of_letters() {
    assert_snapshot!(mistake("<disk type='file'><source file='/a'/><target dev='disk1' bus='usb'/></disk>"), @r#"
        error: `disk1` is no name of a disk: write sda, sdb and so on
         --> web1.xml:8:55
          |
        8 |     <disk type='file'><source file='/a'/><target dev='disk1' bus='usb'/></disk>
          |                                                       ^^^^^
          |
          = help: libvirt makes the disk's id of it: sda is usb-disk0
    "#);
}

#[test]
fn a_filter_says_yes_or_no() {
    assert_snapshot!(mistake("<redirfilter><usbdev class='0x03'/></redirfilter>"), @r#"
        error: this does not say whether such devices are allowed
         --> web1.xml:8:18
          |
        8 |     <redirfilter><usbdev class='0x03'/></redirfilter>
          |                  ^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: add allow='yes' or allow='no'
    "#);
}

#[test]
fn a_version_has_two_parts() {
    assert_snapshot!(mistake("<redirfilter><usbdev version='2' allow='yes'/></redirfilter>"), @r#"
        error: `2` is no version of a device: it is such as 2.56, or -1 for any
         --> web1.xml:8:35
          |
        8 |     <redirfilter><usbdev version='2' allow='yes'/></redirfilter>
          |                                   ^
    "#);
}

#[test]
fn a_snapshot_is_no_domain() {
    assert_snapshot!(error("<domainsnapshot>\n  <domain type='kvm'/>\n</domainsnapshot>\n"), @r#"
        error: this is a `domainsnapshot`, and a guest is described by a `domain`
         --> web1.xml:1:2
          |
        1 | <domainsnapshot>
          |  ^^^^^^^^^^^^^^
          |
          = help: the <domain> is inside of it: hand that over by itself
    "#);
}

#[test]
fn a_network_is_no_domain() {
    assert_snapshot!(error("<network><name>default</name></network>\n"), @r#"
        error: this is a `network`, and a guest is described by a `domain`
         --> web1.xml:1:2
          |
        1 | <network><name>default</name></network>
          |  ^^^^^^^
          |
          = help: `virsh dumpxml DOMAIN` prints one
    "#);
}

#[test]
fn a_hypervisor_without_usb() {
    assert_snapshot!(error("<domain type='lxc'/>\n"), @r#"
        error: the USB of a domain of type `lxc` is not known here: known are kvm, qemu, hvf, tcg, xen, vmware
         --> web1.xml:1:15
          |
        1 | <domain type='lxc'/>
          |               ^^^
    "#);
}

#[test]
fn no_type_at_all() {
    assert_snapshot!(error("<domain>\n</domain>\n"), @r#"
        error: this domain does not say whose it is
         --> web1.xml:1:2
          |
        1 | <domain>
          |  ^^^^^^
          |
          = help: add a type, which is one of kvm, qemu, hvf, tcg, xen, vmware
    "#);
}

#[test]
fn a_document_type() {
    assert_snapshot!(error("<!DOCTYPE domain [<!ENTITY a 'b'>]>\n<domain type='kvm'/>\n"), @r#"
        error: a domain has no document type
         --> web1.xml:1:1
          |
        1 | <!DOCTYPE domain [<!ENTITY a 'b'>]>
          | ^^^^^^^^^
          |
          = help: take the <!DOCTYPE ...> out; `virsh dumpxml` writes none
    "#);
}

#[test]
fn an_entity_that_nobody_declared() {
    assert_snapshot!(error("<domain type='kvm'><name>&euro;</name></domain>\n"), @r#"
        error: this is no XML: unknown entity reference 'euro'
         --> web1.xml:1:26
          |
        1 | <domain type='kvm'><name>&euro;</name></domain>
          |                          ^
          |
          = help: without a document type there are five entities: &amp; &lt; &gt; &quot; &apos;, and numbers such as &#233;
    "#);
}

#[test]
fn another_encoding() {
    assert_snapshot!(error("<?xml version='1.0' encoding='ISO-8859-1'?>\n<domain type='kvm'/>\n"), @r#"
        error: this text says that it is in ISO-8859-1, and only UTF-8 is read
         --> web1.xml:1:31
          |
        1 | <?xml version='1.0' encoding='ISO-8859-1'?>
          |                               ^^^^^^^^^^
          |
          = help: iconv -f ISO-8859-1 -t UTF-8 turns it into UTF-8; then change the declaration
    "#);
}

#[test]
fn a_tag_that_is_not_closed() {
    assert_snapshot!(error("<domain type='kvm'>\n  <devices>\n</domain>\n"), @r#"
        error: this is no XML: expected 'devices' tag, not 'domain'
         --> web1.xml:3:1
          |
        3 | </domain>
          | ^
    "#);
}

#[test]
fn a_unit_that_is_none() {
    assert_snapshot!(error("<domain type='kvm'>\n  <memory unit='MegaByte'>4</memory>\n</domain>\n"), @r#"
        error: `MegaByte` is no unit of memory
         --> web1.xml:2:3
          |
        2 |   <memory unit='MegaByte'>4</memory>
          |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: the units are b and bytes; KiB, MiB, GiB, TiB, PiB, EiB (or k, M, G, T, P, E) of 1024; KB, MB, GB, TB, PB, EB of 1000
    "#);
}

#[test]
fn every_other_port_that_is_none() {
    for (port, why) in [
        ("1+2", "libvirt reads it as 1.2: write that"),
        ("1.0", "libvirt reads it as 1: write that"),
        ("1.0.2", "libvirt says: port 0 out of range"),
        ("1.", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("1..2", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("-1", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("a", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("256", "no hub has more than 255 ports"),
        ("1.010", "leave out the zeros in front"),
    ] {
        let error = mistake(&format!("<hub type='usb'><address type='usb' port='{port}'/></hub>"));
        assert!(error.contains(why), "{port}: {error}");
        assert!(error.contains("web1.xml:8:47"), "{port}: {error}");
    }
}

#[test]
fn numbers_that_most_likely_mean_another_are_read_and_warned_of() {
    let warnings = |source: &str| {
        let text =
            domain(&format!("    <hostdev type='usb'><source>{source}</source></hostdev>\n"));
        let config = read(&text);
        (config.spec.devices[0].kind.to_string(), config.warnings)
    };
    let (kind, warning) = warnings("<address bus='3' device='014'/>");
    assert_eq!(kind, "host:003.012");
    assert_snapshot!(warning[0], @r#"
        error: `014` is read in octal: this is the device 12
         --> web1.xml:8:58
          |
        8 |     <hostdev type='usb'><source><address bus='3' device='014'/></source></hostdev>
          |                                                          ^^^
          |
          = help: for what lsusb shows as 014 write 14
    "#);
    let (kind, warning) = warnings("<vendor id='0x0781'/><product id='5581'/>");
    assert_eq!(kind, "host:0781:15cd");
    assert_snapshot!(warning[0], @r#"
        error: `5581` is read in decimal: this is the product 15cd
         --> web1.xml:8:67
          |
        8 |     <hostdev type='usb'><source><vendor id='0x0781'/><product id='5581'/></source></hostdev>
          |                                                                   ^^^^
          |
          = help: for the product that lsusb shows as 5581 write 0x5581
    "#);
    // What is the same number either way is nobody's mistake.
    for source in ["<address bus='003' device='14'/>", "<vendor id='0x1'/><product id='2'/>"] {
        assert_eq!(warnings(source).1, [], "{source}");
    }
}

#[test]
fn what_goes_to_qemu_past_libvirt_is_warned_of() {
    let text = domain("    <hub type='usb'/>\n").replace(
        "</devices>\n",
        "</devices>\n  <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n    <qemu:arg value='-device'/>\n    \
         <qemu:arg value='usb-wacom-tablet'/>\n  </qemu:commandline>\n",
    );
    let warnings = read(&text).warnings;
    assert_eq!((warnings.len(), warnings[0].line()), (1, 12));
}

#[test]
fn two_disks_of_one_name() {
    let disk =
        |bus| format!("    <disk><source file='/{bus}'/><target dev='sda' bus='{bus}'/></disk>\n");
    assert_snapshot!(error(&domain(&(disk("sata") + &disk("usb")))), @r#"
        error: there are two disks of the name sda
         --> web1.xml:9:45
          |
        8 |     <disk><source file='/sata'/><target dev='sda' bus='sata'/></disk>
          |                                              --- the other one
        9 |     <disk><source file='/usb'/><target dev='sda' bus='usb'/></disk>
          |                                             ^^^
    "#);
    let readers = mistake("<controller type='ccid' index='0'/><controller type='ccid' index='0'/>");
    assert!(readers.contains("there is another reader with the index 0"), "{readers}");
}

#[test]
fn two_controllers_with_one_index_are_left_to_the_profile() {
    let config = read(&domain(
        "    <controller type='usb' index='1' model='ehci'/>\n    <controller type='usb' index='1' model='nec-xhci'/>\n",
    ));
    let names: Vec<Option<&str>> = config
        .spec
        .controllers
        .iter()
        .map(|one| one.name.as_ref().map(|name| name.as_str()))
        .collect();
    assert_eq!(names, [Some("usb1"), None]);
    assert_eq!(config.spec.controllers[0].index, config.spec.controllers[1].index);
}
