//! Mistakes that people make in a domain, with the complete error message for each.

use insta::assert_snapshot;

use super::{domain, error, read};

fn mistake(element: &str) -> String {
    error(&domain(&format!("    {element}\n")))
}

#[test]
fn an_unknown_model_lists_the_models_and_suggests_the_closest() {
    assert_snapshot!(mistake("<controller type='usb' index='0' model='piix3-usb-uhci'/>"), @r#"
        error: `piix3-usb-uhci` is not a libvirt USB controller model; the models are piix3-uhci, piix4-uhci, ehci, ich9-ehci1, ich9-uhci1, ich9-uhci2, ich9-uhci3, vt82c686b-uhci, pci-ohci, qemu-xhci, nec-xhci, qusb1, qusb2, none
         --> web1.xml:8:45
          |
        8 |     <controller type='usb' index='0' model='piix3-usb-uhci'/>
          |                                             ^^^^^^^^^^^^^^ did you mean `piix3-uhci`?
          |
          = help: libvirt says: Unknown model type 'piix3-usb-uhci'
    "#);
}

#[test]
fn an_index_is_decimal_and_below_4096() {
    assert_snapshot!(mistake("<controller type='usb' index='4096'/>"), @r#"
        error: `4096` is not a controller index: an index is a decimal number from 0 to 4095
         --> web1.xml:8:35
          |
        8 |     <controller type='usb' index='4096'/>
          |                                   ^^^^
    "#);
}

#[test]
fn ports_are_a_number() {
    assert_snapshot!(mistake("<controller type='usb' model='qemu-xhci' ports='0x8'/>"), @r#"
        error: `0x8` is not a number of ports
         --> web1.xml:8:53
          |
        8 |     <controller type='usb' model='qemu-xhci' ports='0x8'/>
          |                                                     ^^^
          |
          = help: write a decimal number: 1 to 15 for qemu-xhci and nec-xhci, 1 to 31 for qusb1 and qusb2; other models have a fixed number
    "#);
}

#[test]
fn the_model_none_excludes_other_controllers() {
    assert_snapshot!(mistake("<controller type='usb' model='none'/>\n    <controller type='usb' model='qemu-xhci'/>"), @r#"
        error: a controller of the model `none` excludes other USB controllers
         --> web1.xml:9:5
          |
        8 |     <controller type='usb' model='none'/>
          |     ------------------------------------- the other one
        9 |     <controller type='usb' model='qemu-xhci'/>
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: remove the controller of the model none, or all others; libvirt says: Can't add another USB controller: USB is disabled for this domain
    "#);
}

#[test]
fn a_companion_needs_a_start_port() {
    assert_snapshot!(mistake("<controller type='usb' model='ich9-uhci1'><master/></controller>"), @r#"
        error: the start port of this companion is missing
         --> web1.xml:8:47
          |
        8 |     <controller type='usb' model='ich9-uhci1'><master/></controller>
          |                                               ^^^^^^^^^
          |
          = help: write <master startport='N'/>, where N is 0 for ich9-uhci1, 2 for ich9-uhci2 and 4 for ich9-uhci3
    "#);
}

#[test]
fn a_pci_slot_has_five_bits() {
    assert_snapshot!(mistake("<controller type='usb'><address type='pci' slot='0x20'/></controller>"), @r#"
        error: `0x20` is not a PCI slot: write a number from 0 to 0x1f
         --> web1.xml:8:54
          |
        8 |     <controller type='usb'><address type='pci' slot='0x20'/></controller>
          |                                                      ^^^^
    "#);
}

#[test]
fn a_port_of_0() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='0'/></hub>"), @r#"
        error: `0` is not a port: a port is one to four decimal numbers separated by dots, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='0'/></hub>
          |                                                       ^
          |
          = help: libvirt treats 0 like a missing port; remove it and libvirt chooses one
    "#);
}

#[test]
fn a_port_with_a_space() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='1 2'/></hub>"), @r#"
        error: `1 2` is not a port: a port is one to four decimal numbers separated by dots, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='1 2'/></hub>
          |                                                       ^^^
          |
          = help: write 1.2, which is how libvirt reads it
    "#);
}

#[test]
fn a_port_with_five_numbers() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='1.1.1.1.1'/></hub>"), @r#"
        error: `1.1.1.1.1` is not a port: a port is one to four decimal numbers separated by dots, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='1.1.1.1.1'/></hub>
          |                                                       ^^^^^^^^^
          |
          = help: libvirt accepts at most four numbers, although QEMU accepts five; libvirt says: Cannot parse <address> 'port' attribute
    "#);
}

#[test]
fn a_port_in_hexadecimal() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0' port='0x1'/></hub>"), @r#"
        error: `0x1` is not a port: a port is one to four decimal numbers separated by dots, each 1 to 255, such as 2 or 1.4.3
         --> web1.xml:8:55
          |
        8 |     <hub type='usb'><address type='usb' bus='0' port='0x1'/></hub>
          |                                                       ^^^
          |
          = help: use decimal: libvirt does not accept hexadecimal here, although its schema does; libvirt says: Cannot parse <address> 'port' attribute
    "#);
}

#[test]
fn a_bus_in_hexadecimal() {
    assert_snapshot!(mistake("<hub type='usb'><address type='usb' bus='0x1' port='1'/></hub>"), @r#"
        error: `0x1` is not a controller index: an index is a decimal number from 0 to 4095
         --> web1.xml:8:46
          |
        8 |     <hub type='usb'><address type='usb' bus='0x1' port='1'/></hub>
          |                                              ^^^
          |
          = help: use decimal: 1; libvirt does not accept other bases here, although its schema does
    "#);
}

#[test]
fn an_address_of_another_type() {
    assert_snapshot!(mistake("<input type='tablet' bus='usb'><address type='pci' slot='3'/></input>"), @r#"
        error: the address of a USB device cannot be of type `pci`
         --> web1.xml:8:51
          |
        8 |     <input type='tablet' bus='usb'><address type='pci' slot='3'/></input>
          |                                                   ^^^
          |
          = help: write <address type='usb' bus='0' port='1'/>, or remove it and libvirt chooses one
    "#);
}

#[test]
fn ids_of_lsusb_lack_the_hexadecimal_prefix() {
    assert_snapshot!(mistake("<hostdev type='usb'><source><vendor id='046d'/><product id='0x0825'/></source></hostdev>"), @r#"
        error: `046d` is not a vendor id: write a number up to 0xffff
         --> web1.xml:8:45
          |
        8 |     <hostdev type='usb'><source><vendor id='046d'/><product id='0x0825'/></source></hostdev>
          |                                             ^^^^
          |
          = help: hexadecimal numbers need a prefix: write 0x046d
    "#);
}

#[test]
fn half_an_id() {
    assert_snapshot!(mistake("<hostdev type='usb'><source><vendor id='0x046d'/></source></hostdev>"), @r#"
        error: <product id=...> is missing
         --> web1.xml:8:33
          |
        8 |     <hostdev type='usb'><source><vendor id='0x046d'/></source></hostdev>
          |                                 ^^^^^^^^^^^^^^^^^^^^^
          |
          = help: a device is identified by vendor and product together; libvirt says: missing product
    "#);
}

#[test]
fn a_device_of_008() {
    assert_snapshot!(mistake("<hostdev type='usb'><source><address bus='1' device='008'/></source></hostdev>"), @r#"
        error: `008` is not a device number: write a number from 1 to 127
         --> web1.xml:8:58
          |
        8 |     <hostdev type='usb'><source><address bus='1' device='008'/></source></hostdev>
          |                                                          ^^^
          |
          = help: a leading zero means octal: write 8
    "#);
}

#[test]
fn a_disk_name_ends_in_letters() {
    assert_snapshot!(mistake("<disk type='file'><source file='/a'/><target dev='disk1' bus='usb'/></disk>"), @r#"
        error: `disk1` is not a disk name: write sda, sdb and so on
         --> web1.xml:8:55
          |
        8 |     <disk type='file'><source file='/a'/><target dev='disk1' bus='usb'/></disk>
          |                                                       ^^^^^
          |
          = help: libvirt derives the disk's id from it: sda becomes usb-disk0
    "#);
}

#[test]
fn a_filter_rule_needs_allow() {
    assert_snapshot!(mistake("<redirfilter><usbdev class='0x03'/></redirfilter>"), @r#"
        error: the rule does not specify whether matching devices are allowed
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
        error: `2` is not a device version: write one such as 2.56, or -1 for any
         --> web1.xml:8:35
          |
        8 |     <redirfilter><usbdev version='2' allow='yes'/></redirfilter>
          |                                   ^
    "#);
}

#[test]
fn a_snapshot_is_not_a_domain() {
    assert_snapshot!(error("<domainsnapshot>\n  <domain type='kvm'/>\n</domainsnapshot>\n"), @r#"
        error: the root element is `domainsnapshot`; a guest is described by `domain`
         --> web1.xml:1:2
          |
        1 | <domainsnapshot>
          |  ^^^^^^^^^^^^^^
          |
          = help: copy the <domain> inside it into a separate file
    "#);
}

#[test]
fn a_network_is_not_a_domain() {
    assert_snapshot!(error("<network><name>default</name></network>\n"), @r#"
        error: the root element is `network`; a guest is described by `domain`
         --> web1.xml:1:2
          |
        1 | <network><name>default</name></network>
          |  ^^^^^^^
          |
          = help: `virsh dumpxml DOMAIN` prints one
    "#);
}

#[test]
fn an_unsupported_hypervisor() {
    assert_snapshot!(error("<domain type='lxc'/>\n"), @r#"
        error: domains of type `lxc` are not supported; supported are kvm, qemu, hvf, tcg, xen, vmware, vbox
         --> web1.xml:1:15
          |
        1 | <domain type='lxc'/>
          |               ^^^
    "#);
}

#[test]
fn a_missing_type() {
    assert_snapshot!(error("<domain>\n</domain>\n"), @r#"
        error: the domain has no type
         --> web1.xml:1:2
          |
        1 | <domain>
          |  ^^^^^^
          |
          = help: add a type: one of kvm, qemu, hvf, tcg, xen, vmware, vbox
    "#);
}

#[test]
fn a_document_type() {
    assert_snapshot!(error("<!DOCTYPE domain [<!ENTITY a 'b'>]>\n<domain type='kvm'/>\n"), @r#"
        error: a document type is not allowed in a domain
         --> web1.xml:1:1
          |
        1 | <!DOCTYPE domain [<!ENTITY a 'b'>]>
          | ^^^^^^^^^
          |
          = help: remove the <!DOCTYPE ...>; `virsh dumpxml` does not write one
    "#);
}

#[test]
fn an_undeclared_entity() {
    assert_snapshot!(error("<domain type='kvm'><name>&euro;</name></domain>\n"), @r#"
        error: not well-formed XML: unknown entity reference 'euro'
         --> web1.xml:1:26
          |
        1 | <domain type='kvm'><name>&euro;</name></domain>
          |                          ^
          |
          = help: without a document type the only entities are &amp; &lt; &gt; &quot; &apos; and numbers such as &#233;
    "#);
}

#[test]
fn another_encoding() {
    assert_snapshot!(error("<?xml version='1.0' encoding='ISO-8859-1'?>\n<domain type='kvm'/>\n"), @r#"
        error: the declared encoding is ISO-8859-1; only UTF-8 and ASCII are supported
         --> web1.xml:1:31
          |
        1 | <?xml version='1.0' encoding='ISO-8859-1'?>
          |                               ^^^^^^^^^^
          |
          = help: convert it with iconv -f ISO-8859-1 -t UTF-8, then change the declaration
    "#);
}

#[test]
fn an_unclosed_tag() {
    assert_snapshot!(error("<domain type='kvm'>\n  <devices>\n</domain>\n"), @r#"
        error: not well-formed XML: expected 'devices' tag, not 'domain'
         --> web1.xml:3:1
          |
        3 | </domain>
          | ^
    "#);
}

#[test]
fn an_unknown_unit() {
    assert_snapshot!(error("<domain type='kvm'>\n  <memory unit='MegaByte'>4</memory>\n</domain>\n"), @r#"
        error: `MegaByte` is not a unit of memory
         --> web1.xml:2:3
          |
        2 |   <memory unit='MegaByte'>4</memory>
          |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: the units are b and bytes; KiB, MiB, GiB, TiB, PiB, EiB (or k, M, G, T, P, E) of 1024; KB, MB, GB, TB, PB, EB of 1000
    "#);
}

#[test]
fn every_other_invalid_port() {
    for (port, why) in [
        ("1+2", "write 1.2, which is how libvirt reads it"),
        ("1.0", "write 1, which is how libvirt reads it"),
        ("1.0.2", "libvirt says: port 0 out of range"),
        ("1.", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("1..2", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("-1", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("a", "libvirt says: Cannot parse <address> 'port' attribute"),
        ("256", "a hub has at most 255 ports"),
        ("1.010", "remove the leading zeros"),
    ] {
        let error = mistake(&format!("<hub type='usb'><address type='usb' port='{port}'/></hub>"));
        assert!(error.contains(why), "{port}: {error}");
        assert!(error.contains("web1.xml:8:47"), "{port}: {error}");
    }
}

#[test]
fn numbers_that_probably_mean_another_cause_a_warning() {
    let warnings = |source: &str| {
        let text =
            domain(&format!("    <hostdev type='usb'><source>{source}</source></hostdev>\n"));
        let config = read(&text);
        (config.spec.devices[0].kind.to_string(), config.warnings)
    };
    let (kind, warning) = warnings("<address bus='3' device='014'/>");
    assert_eq!(kind, "host:003.012");
    assert_snapshot!(warning[0], @r#"
        warning: `014` is read as octal, which is the device 12
         --> web1.xml:8:58
          |
        8 |     <hostdev type='usb'><source><address bus='3' device='014'/></source></hostdev>
          |                                                          ^^^
          |
          = help: if lsusb shows 014, write 14
    "#);
    let (kind, warning) = warnings("<vendor id='0x0781'/><product id='5581'/>");
    assert_eq!(kind, "host:0781:15cd");
    assert_snapshot!(warning[0], @r#"
        warning: `5581` is read as decimal, which is the product 15cd
         --> web1.xml:8:67
          |
        8 |     <hostdev type='usb'><source><vendor id='0x0781'/><product id='5581'/></source></hostdev>
          |                                                                   ^^^^
          |
          = help: if lsusb shows the product as 5581, write 0x5581
    "#);
    // A number that is the same in both bases is not a mistake.
    for source in ["<address bus='003' device='14'/>", "<vendor id='0x1'/><product id='2'/>"] {
        assert_eq!(warnings(source).1, [], "{source}");
    }
}

#[test]
fn arguments_that_bypass_libvirt_cause_a_warning() {
    let text = domain("    <hub type='usb'/>\n").replace(
        "</devices>\n",
        "</devices>\n  <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n    <qemu:arg value='-device'/>\n    \
         <qemu:arg value='usb-wacom-tablet'/>\n  </qemu:commandline>\n",
    );
    let warnings = read(&text).warnings;
    assert_eq!((warnings.len(), warnings[0].line()), (1, 12));
}

#[test]
fn two_disks_with_one_name() {
    let disk =
        |bus| format!("    <disk><source file='/{bus}'/><target dev='sda' bus='{bus}'/></disk>\n");
    assert_snapshot!(error(&domain(&(disk("sata") + &disk("usb")))), @r#"
        error: two disks are named sda
         --> web1.xml:9:45
          |
        8 |     <disk><source file='/sata'/><target dev='sda' bus='sata'/></disk>
          |                                              --- the first one
        9 |     <disk><source file='/usb'/><target dev='sda' bus='usb'/></disk>
          |                                             ^^^
          |
          = help: libvirt says: target 'sda' duplicated
    "#);
    let other_way = error(&domain(&(disk("usb") + &disk("sata"))));
    assert!(other_way.contains("two disks are named sda"), "{other_way}");
    let readers = mistake("<controller type='ccid' index='0'/><controller type='ccid' index='0'/>");
    assert!(readers.contains("another reader has the index 0"), "{readers}");
}

#[test]
fn two_devices_with_one_pci_address() {
    let controller = "<controller type='usb' index='1' model='nec-xhci'>\
                      <address type='pci' slot='5' function='0x0'/></controller>";
    let card = "<interface type='user'><address type='pci' bus='0x00' slot='0x05'/></interface>";
    for devices in [format!("{controller}{card}"), format!("{card}{controller}")] {
        let error = mistake(&devices);
        assert!(error.contains("two devices have the PCI address 0000:00:05.0"), "{error}");
    }
    // Other devices may clash: only USB controllers are checked. An address of zeros means none.
    read(&domain(&format!("{card}{card}")));
    let open = "<address type='pci' slot='0'/>";
    let two = ["0", "1"].map(|index| {
        format!("<controller type='usb' index='{index}' model='nec-xhci'>{open}</controller>")
    });
    read(&domain(&two.concat()));
}

#[test]
fn two_devices_with_one_alias() {
    let alias = "<alias name='ua-x'/>";
    let scsi = format!("<controller type='scsi'>{alias}</controller>");
    let error = mistake(&format!("{scsi}<input type='tablet' bus='usb'>{alias}</input>"));
    assert!(error.contains("two devices have the alias ua-x"), "{error}");
    // The first console is the first serial device.
    let serial =
        format!("<serial type='pty'>{alias}</serial><console type='pty'>{alias}</console>");
    read(&domain(&serial));
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

/// `virt-install --print-xml` prints one for the installation and one for afterwards.
#[test]
fn two_documents_are_named() {
    let text = format!("{0}{0}", super::domain(""));
    let message = super::error(&text);
    assert!(message.contains("a second document starts here"), "{message}");
    assert!(message.contains("--> web1.xml:10:1"), "{message}");
}
