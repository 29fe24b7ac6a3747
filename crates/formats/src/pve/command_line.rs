//! The arguments that Proxmox VE gives to QEMU, as far as they are about USB.

use std::collections::BTreeSet;

use vusb_model::resolve::pve_1;
use vusb_model::selector::Selector;

use super::document::Document;
use super::settings::{Settings, UsbDevice};
use super::usb::Device;
use crate::qemu_args::{Word, shell_words};

/// The PCI bridges of every guest on i440fx that USB controllers can be on. Later bridges are left
/// out.
const BRIDGES_PC: [&str; 2] = [
    "pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e",
    "pci-bridge,id=pci.2,chassis_nr=2,bus=pci.0,addr=0x1f",
];

/// The part of `pve-q35-4.0.cfg` that is about USB, and the bridges that USB controllers are on.
const Q35: [&str; 13] = [
    "ich9-usb-ehci1,id=ehci,multifunction=on,bus=pcie.0,addr=1d.7",
    "ich9-usb-uhci1,id=uhci-1,multifunction=on,bus=pcie.0,addr=1d.0,masterbus=ehci.0,firstport=0",
    "ich9-usb-uhci2,id=uhci-2,multifunction=on,bus=pcie.0,addr=1d.1,masterbus=ehci.0,firstport=2",
    "ich9-usb-uhci3,id=uhci-3,multifunction=on,bus=pcie.0,addr=1d.2,masterbus=ehci.0,firstport=4",
    "ich9-usb-ehci2,id=ehci-2,multifunction=on,bus=pcie.0,addr=1a.7",
    "ich9-usb-uhci4,id=uhci-4,multifunction=on,bus=pcie.0,addr=1a.0,masterbus=ehci-2.0,firstport=0",
    "ich9-usb-uhci5,id=uhci-5,multifunction=on,bus=pcie.0,addr=1a.1,masterbus=ehci-2.0,firstport=2",
    "ich9-usb-uhci6,id=uhci-6,multifunction=on,bus=pcie.0,addr=1a.2,masterbus=ehci-2.0,firstport=4",
    "i82801b11-bridge,id=pcidmi,bus=pcie.0,addr=1e.0",
    "pci-bridge,id=pci.0,bus=pcidmi,addr=1.0,chassis_nr=1",
    "pci-bridge,id=pci.1,bus=pcidmi,addr=2.0,chassis_nr=2",
    "pci-bridge,id=pci.2,bus=pcidmi,addr=3.0,chassis_nr=3",
    "pci-bridge,id=pci.3,bus=pcidmi,addr=4.0,chassis_nr=4",
];

/// `pve-usb.cfg`: the EHCI of guests whose devices are not all on an xHCI.
const EHCI: [&str; 4] = [
    "ich9-usb-ehci1,id=ehci,addr=1d.7,multifunction=on",
    "ich9-usb-uhci1,id=uhci-1,addr=1d.0,multifunction=on,masterbus=ehci.0,firstport=0",
    "ich9-usb-uhci2,id=uhci-2,addr=1d.1,multifunction=on,masterbus=ehci.0,firstport=2",
    "ich9-usb-uhci3,id=uhci-3,addr=1d.2,multifunction=on,masterbus=ehci.0,firstport=4",
];

/// QEMU's arguments for the USB hardware of this configuration: each `-device` and `-chardev` with
/// its value, without those of `args`. The files that Proxmox VE passes with `-readconfig` are
/// written out. A device that a mapping names has no conditions: only the cluster knows them.
pub fn usb_arguments(text: &str) -> Vec<String> {
    own(&Settings::read(&Document::read(text)))
}

/// The position of Proxmox VE's own words, which are not in the text.
pub(super) const NOWHERE: usize = usize::MAX;

/// All words of the command line. The words of `args` have the position of `args`.
pub(super) fn words(settings: &Settings) -> Vec<Word> {
    let word = |text: String| Word { text, span: NOWHERE..NOWHERE, opaque: false };
    let mut words: Vec<Word> = own(settings).into_iter().map(word).collect();
    if let Some((args, span)) = &settings.args {
        words.extend(shell_words(args).into_iter().map(|it| Word { span: span.clone(), ..it }));
    }
    words
}

fn own(settings: &Settings) -> Vec<String> {
    let mut devices: Vec<String> = Vec::new();
    let mut add = |all: &[&str]| devices.extend(all.iter().map(|it| (*it).to_owned()));
    let is_arm = settings.arch == "aarch64";
    if settings.is_q35 {
        add(&Q35);
    }
    if is_arm {
        add(&["usb-ehci,id=ehci,bus=pcie.0,addr=0x1"]);
    } else if !settings.is_q35 {
        add(&BRIDGES_PC);
        add(&["piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2"]);
    }
    let versions: BTreeSet<bool> = settings.devices.values().map(|it| it.usb3).collect();
    if !settings.is_new && !settings.is_q35 && !is_arm && versions.contains(&false) {
        add(&EHCI);
    }
    if settings.is_new && !versions.is_empty() {
        add(&["qemu-xhci,p2=15,p3=15,id=xhci,bus=pci.1,addr=0x1b"]);
    } else if versions.contains(&true) {
        add(&["nec-usb-xhci,id=xhci,bus=pci.1,addr=0x1b"]);
    }
    let bus = if settings.is_q35 || is_arm { "ehci" } else { "uhci" };
    if settings.has_tablet {
        add(&[&format!("usb-tablet,id=tablet,bus={bus}.0,port=1")]);
    }
    if is_arm {
        add(&["usb-kbd,id=keyboard,bus=ehci.0,port=2"]);
    }
    let option = |value: String| ["-device".to_owned(), value];
    let mut words: Vec<String> = devices.into_iter().flat_map(option).collect();
    for (place, device) in &settings.devices {
        words.extend(device_arguments(*place, device, settings.is_new));
    }
    words
}

fn device_arguments(place: u8, it: &UsbDevice, is_new: bool) -> Vec<String> {
    let port = pve_1::port_of(place).filter(|_| is_new);
    let port = port.map(|port| format!(",port={port}")).unwrap_or_default();
    let condition = match &it.device {
        Device::Spice => {
            let bus = if is_new || it.usb3 { "xhci" } else { "ehci" };
            let chardev = format!("spicevmc,id=usbredirchardev{place},name=usbredir");
            let device = format!(
                "usb-redir,chardev=usbredirchardev{place},id=usbredirdev{place},bus={bus}.0{port}"
            );
            return ["-chardev".to_owned(), chardev, "-device".to_owned(), device].into();
        }
        Device::Host(Selector::Id { id, .. }) => {
            format!(",vendorid={:#06x},productid={:#06x}", id.vendor, id.product)
        }
        Device::Host(Selector::Port(id)) => match id.to_string().split_once('-') {
            Some((bus, port)) => format!(",hostbus={bus},hostport={port}"),
            None => String::new(),
        },
        Device::Host(_) | Device::Mapping(_) => String::new(),
    };
    let bus = if is_new || it.usb3 { format!(",bus=xhci.0{port}") } else { String::new() };
    ["-device".to_owned(), format!("usb-host{bus}{condition},id=usb{place}")].into()
}
