//! The domains: one for each rule by which libvirt fills in or refuses something.

/// The name of every domain here.
pub(crate) const DOMAIN: &str = "web1";

/// A domain.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    machine: &'static str,
    /// Whether QEMU's command line can be generated from it without anything specific to this
    /// machine.
    pub(crate) starts: bool,
    devices: &'static str,
}

const fn case(name: &'static str, machine: &'static str, devices: &'static str) -> Case {
    Case { name, machine, starts: true, devices }
}

impl Case {
    /// Its XML.
    pub(crate) fn xml(&self) -> String {
        xml("x86_64", self.machine, self.devices)
    }
}

/// A domain's XML.
pub(crate) fn xml(arch: &str, machine: &str, devices: &str) -> String {
    format!(
        "<domain type='qemu'>\n  <name>{DOMAIN}</name>\n  <memory unit='KiB'>65536</memory>\n  \
         <os>\n    <type arch='{arch}' machine='{machine}'>hvm</type>\n  </os>\n  <devices>\n{devices}\n  </devices>\n</domain>\n"
    )
}

/// Machines of every architecture that has its own USB rules in libvirt.
pub(crate) const MACHINES: [(&str, &str); 24] = [
    ("i686", "pc"),
    ("aarch64", "virt"),
    ("aarch64", "raspi3b"),
    ("armv7l", "virt"),
    ("armv7l", "versatilepb"),
    ("armv7l", "realview-eb"),
    ("armv7l", "vexpress-a15"),
    ("ppc64", "pseries"),
    ("ppc64le", "pseries"),
    ("ppc64", "mac99"),
    ("ppc", "mac99"),
    ("ppc", "g3beige"),
    ("ppc", "ppce500"),
    ("s390x", "s390-ccw-virtio"),
    ("mips", "malta"),
    ("mips64el", "malta"),
    ("sparc", "SS-5"),
    ("sparc64", "sun4u"),
    ("alpha", "clipper"),
    ("riscv64", "virt"),
    ("riscv32", "virt"),
    ("loongarch64", "virt"),
    ("sh4", "r2d"),
    ("m68k", "virt"),
];

/// The USB configurations for each machine: none, a controller without a model at index 0 or 1, and
/// devices for which some machines add more.
pub(crate) const GIVEN: [&str; 4] = [
    "",
    "<controller type='usb' index='0'/>",
    "<controller type='usb' index='1'/>",
    "<graphics type='vnc'/><input type='tablet' bus='usb'/>",
];

pub(crate) const ACCEPTED: &[Case] = &[
    case("nothing on i440fx", "pc", ""),
    case("nothing on q35", "q35", ""),
    case("nothing on isapc", "isapc", "<memballoon model='none'/>"),
    case("a controller without a model", "pc", "<controller type='usb' index='0'/>"),
    case("a controller without a model on q35", "q35", "<controller type='usb'/>"),
    case("no USB", "pc", "<controller type='usb' model='none'/>"),
    case("no controller at index 0", "pc", "<controller type='usb' index='3' model='ehci'/>"),
    case("controllers out of order", "pc", "
        <controller type='usb' index='2' model='nec-xhci'/>
        <controller type='usb' index='0' model='piix3-uhci'/>
        <controller type='usb' index='1' model='ehci'/>"),
    case("controllers without an index", "pc", "
        <controller type='usb' model='piix3-uhci'/>
        <controller type='usb' model='qemu-xhci'/>
        <controller type='usb' index='1' model='ehci'/>"),
    case("a group in any order", "pc", "
        <controller type='usb' index='0' model='ich9-uhci3'/>
        <controller type='usb' index='0' model='ich9-ehci1'/>
        <controller type='usb' index='0' model='ich9-uhci1'/>
        <controller type='usb' index='0' model='ich9-uhci2'/>"),
    case("two groups without indexes", "q35", "
        <controller type='usb' model='ich9-ehci1'/>
        <controller type='usb' model='ich9-uhci1'/>
        <controller type='usb' model='ich9-uhci2'/>
        <controller type='usb' model='ich9-uhci3'/>
        <controller type='usb' model='ich9-ehci1'/>
        <controller type='usb' model='ich9-uhci1'/>
        <controller type='usb' model='ich9-uhci2'/>
        <controller type='usb' model='ich9-uhci3'/>
        <input type='tablet' bus='usb'/>
        <input type='mouse' bus='usb'><address type='usb' bus='1'/></input>"),
    case("a part of a group", "pc", "
        <controller type='usb' index='0' model='ich9-ehci1'/>
        <controller type='usb' index='0' model='ich9-uhci2'><master startport='2'/></controller>
        <input type='tablet' bus='usb'><address type='usb' bus='0' port='3'/></input>"),
    case("an xHCI with 8 ports", "q35", "
        <controller type='usb' index='0' model='qemu-xhci' ports='8'/>
        <input type='tablet' bus='usb'/><input type='keyboard' bus='usb'/>"),
    case("sixteen inputs on two ports", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/>
        <input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/>
        <input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/>
        <input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><input type='tablet' bus='usb'/>"),
    case("as many devices as ports", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'/><input type='mouse' bus='usb'/>"),
    case("one more device than ports", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'/><input type='mouse' bus='usb'/><input type='keyboard' bus='usb'/>"),
    case("one more device than ports, one of them with a port", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'/><input type='mouse' bus='usb'><address type='usb' bus='0' port='1'/></input>
        <input type='keyboard' bus='usb'/>"),
    case("hubs in hubs", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <hub type='usb'><address type='usb' bus='0' port='1'/></hub>
        <hub type='usb'><address type='usb' bus='0' port='1.2'/></hub>
        <hub type='usb'><address type='usb' bus='0' port='1.2.3'/></hub>
        <input type='tablet' bus='usb'><address type='usb' bus='0' port='1.2.3.4'/></input>
        <input type='mouse' bus='usb'/>"),
    case("hubs without ports", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <hub type='usb'/><hub type='usb'/>
        <input type='tablet' bus='usb'/><input type='mouse' bus='usb'/><input type='keyboard' bus='usb'/>"),
    case("a bus and no port", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <controller type='usb' index='1' model='ehci'/>
        <controller type='usb' index='2' model='nec-xhci'/>
        <input type='tablet' bus='usb'><address type='usb' bus='2'/></input>
        <input type='mouse' bus='usb'/>"),
    // Except usb-net: libvirt 9 looks for a PCI slot for it.
    case("devices of all kinds, in their own order", "q35", "
        <controller type='usb' index='0' model='qemu-xhci' ports='15'/>
        <redirdev bus='usb' type='tcp'><source mode='connect' host='localhost' service='4000'/></redirdev>
        <hub type='usb'/>
        <input type='tablet' bus='usb'/>
        <serial type='pty'><target type='usb-serial' port='0'><model name='usb-serial'/></target></serial>
        <sound model='usb'/>
        <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/tmp/stick.img'/><target dev='sda' bus='usb'/></disk>
        <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/tmp/second.img'/><target dev='sdb' bus='usb' removable='on'/></disk>"),
    case("a sound card with the only audio back end", "q35", "
        <controller type='usb' index='0' model='qemu-xhci'/>
        <sound model='usb'/>
        <audio id='3' type='none'/>"),
    case("a sound card and a VNC display", "q35", "
        <controller type='usb' index='0' model='qemu-xhci'/>
        <sound model='usb'/>
        <graphics type='vnc'/>"),
    case("several smart card readers", "q35", "
        <controller type='usb' index='0' model='qemu-xhci'/>
        <controller type='ccid' index='0'/>
        <controller type='ccid' index='1'/>
        <controller type='ccid'/>"),
    Case { starts: false, ..case("host devices", "q35", "
        <controller type='usb' index='0' model='qemu-xhci'/>
        <hostdev mode='subsystem' type='usb'><source startupPolicy='optional'><vendor id='0x0781'/><product id='0x5581'/></source></hostdev>
        <hostdev mode='subsystem' type='usb'><source><address bus='3' device='14'/></source></hostdev>
        <input type='tablet' bus='usb'/>") },
    case("inputs on other buses count in the names", "pc", "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='mouse' bus='ps2'/>
        <input type='tablet' bus='usb'/>
        <input type='keyboard' bus='virtio'/>
        <input type='keyboard' bus='usb'/>"),
    case("redirection with a filter", "q35", "
        <controller type='usb' index='0' model='qemu-xhci'/>
        <redirdev bus='usb' type='tcp'><source mode='connect' host='localhost' service='4000'/><boot order='1'/></redirdev>
        <redirfilter><usbdev class='0x08' vendor='0x1234' product='0xBEEF' version='2.56' allow='yes'/><usbdev allow='no'/></redirfilter>"),
    case("two controllers in one PCI slot", "pc", "
        <controller type='usb' index='0' model='qemu-xhci'><address type='pci' slot='5' function='0'/></controller>
        <controller type='usb' index='1' model='nec-xhci'><address type='pci' slot='5' function='1'/></controller>"),
    case("a controller with another device in its PCI slot", "pc", "
        <controller type='usb' index='0' model='qemu-xhci'><address type='pci' slot='5' function='0' multifunction='on'/></controller>
        <controller type='scsi' index='0' model='virtio-scsi'><address type='pci' slot='5' function='3'/></controller>"),
    // libvirt adds a controller at index 0, and can then no longer read its own XML.
    Case { starts: false, ..case("the model none at index 1", "pc", "<controller type='usb' index='1' model='none'/>") },
    case("a disk boots first", "pc", "
        <disk type='file' device='disk'><source file='/tmp/b.img'/><target dev='sdb' bus='usb'/></disk>
        <disk type='file' device='disk'><source file='/tmp/a.img'/><target dev='sda' bus='usb'/></disk>"),
    case("a disk on another bus boots first", "pc", "
        <disk type='file' device='disk'><source file='/tmp/a.img'/><target dev='hda' bus='ide'/></disk>
        <disk type='file' device='disk'><source file='/tmp/b.img'/><target dev='sda' bus='usb'/></disk>"),
    case("a disk on another bus boots by its position", "pc", "
        <disk type='file' device='disk'><source file='/tmp/a.img'/><target dev='hda' bus='ide'/><boot order='2'/></disk>
        <disk type='file' device='disk'><source file='/tmp/b.img'/><target dev='sda' bus='usb'/></disk>"),
];

pub(crate) const REFUSED: &[Case] = &[
    case("an unknown model", "pc", "<controller type='usb' index='0' model='uhci'/>"),
    case(
        "a port that the controller lacks",
        "pc",
        "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'><address type='usb' bus='0' port='3'/></input>",
    ),
    case(
        "a bus without a controller",
        "pc",
        "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'><address type='usb' bus='7' port='1'/></input>",
    ),
    case(
        "two devices on one port",
        "pc",
        "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>
        <input type='mouse' bus='usb'><address type='usb' bus='0' port='1'/></input>",
    ),
    case(
        "two controllers with one index",
        "pc",
        "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <controller type='usb' index='0' model='ehci'/>
        <input type='tablet' bus='usb'/>",
    ),
    case(
        "a device in a guest without USB",
        "pc",
        "
        <controller type='usb' model='none'/>
        <input type='tablet' bus='usb'/>",
    ),
    case(
        "the model none beside another controller",
        "pc",
        "
        <controller type='usb' model='none'/>
        <controller type='usb' model='ehci'/>",
    ),
    case(
        "a companion alone",
        "pc",
        "
        <controller type='usb' index='0' model='piix3-uhci'><master startport='0'/></controller>",
    ),
    case(
        "a port behind a missing hub",
        "pc",
        "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'><address type='usb' bus='0' port='1.1'/></input>",
    ),
    case(
        "a port path of five numbers",
        "pc",
        "
        <controller type='usb' index='0' model='piix3-uhci'/>
        <input type='tablet' bus='usb'><address type='usb' bus='0' port='1.1.1.1.1'/></input>",
    ),
    case(
        "an xHCI with 16 ports",
        "q35",
        "<controller type='usb' index='0' model='qemu-xhci' ports='16'/>",
    ),
    case("USB on isapc", "isapc", "<controller type='usb' index='0' model='piix3-uhci'/>"),
    case(
        "two controllers with one PCI address",
        "pc",
        "
        <controller type='usb' index='0' model='qemu-xhci'><address type='pci' slot='5'/></controller>
        <controller type='usb' index='1' model='nec-xhci'><address type='pci' slot='5'/></controller>",
    ),
    case(
        "a controller with the PCI address of another device",
        "pc",
        "
        <controller type='scsi' index='0' model='virtio-scsi'><address type='pci' slot='5'/></controller>
        <controller type='usb' index='0' model='qemu-xhci'><address type='pci' slot='5'/></controller>",
    ),
    case(
        "two disks with one name",
        "pc",
        "
        <disk type='file' device='disk'><source file='/tmp/a.img'/><target dev='sda' bus='usb'/></disk>
        <disk type='file' device='disk'><source file='/tmp/b.img'/><target dev='sda' bus='sata'/></disk>",
    ),
    case(
        "one alias for two devices",
        "pc",
        "
        <controller type='scsi' index='0' model='virtio-scsi'><alias name='ua-x'/></controller>
        <input type='tablet' bus='usb'><alias name='ua-x'/></input>",
    ),
];
