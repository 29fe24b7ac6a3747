//! The built-in USB controllers of QEMU's machines.

use vusb_model::models::{Companion, Model};

use super::buses::Buses;

/// The built-in USB of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BuiltIn {
    /// Nothing.
    Nothing,
    /// PIIX3's UHCI at 01.2.
    Piix3,
    /// The first ICH9 group at 1d.
    Ich9,
    /// An xHCI that is not on PCI.
    SysbusXhci,
    /// A DWC2. The machines that have it have it without USB options, too.
    Dwc2,
}

/// A machine's built-in USB: first without USB options, then with them. `None` if it is not known.
fn built_in(arch: &str, machine: &str) -> Option<(BuiltIn, BuiltIn)> {
    let is = |name: &str| {
        machine == name || machine.strip_prefix(name).is_some_and(|it| it.starts_with('-'))
    };
    if matches!(arch, "x86_64" | "i386") {
        return Some(match machine {
            "" | "pc" | "xenfv" => (BuiltIn::Nothing, BuiltIn::Piix3),
            "q35" => (BuiltIn::Nothing, BuiltIn::Ich9),
            "microvm" => (BuiltIn::Nothing, BuiltIn::SysbusXhci),
            "isapc" | "none" => (BuiltIn::Nothing, BuiltIn::Nothing),
            _ if is("pc-i440fx") => (BuiltIn::Nothing, BuiltIn::Piix3),
            _ if is("pc-q35") => (BuiltIn::Nothing, BuiltIn::Ich9),
            _ => return None,
        });
    }
    match machine {
        _ if is("virt") || machine == "none" => Some((BuiltIn::Nothing, BuiltIn::Nothing)),
        _ if machine.starts_with("raspi") => Some((BuiltIn::Dwc2, BuiltIn::Dwc2)),
        _ => None,
    }
}

/// Adds the controllers of a machine. `usb` tells whether the options turn USB on. Returns whether
/// the machine is known.
pub(crate) fn add(buses: &mut Buses, arch: &str, machine: &str, usb: bool) -> bool {
    let Some((plain, with_usb)) = built_in(arch, machine) else { return false };
    match if usb { with_usb } else { plain } {
        BuiltIn::Nothing => {}
        BuiltIn::Piix3 => buses.built_in(Model::Piix3Uhci, (2, 0), &[], Some(("pci.0", 1, 2))),
        BuiltIn::Ich9 => {
            let pci = Some(("pcie.0", 0x1d, 7));
            buses.built_in(Model::Ich9Ehci1, (6, 0), &Companion::GROUP, pci);
        }
        BuiltIn::SysbusXhci => buses.built_in(Model::SysbusXhci, (8, 8), &[], None),
        BuiltIn::Dwc2 => buses.built_in(Model::Dwc2, (1, 0), &[], None),
    }
    true
}
