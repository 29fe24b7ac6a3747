//! What QEMU calls things. Its names of controllers are in the table of all such names, [`vusb_model::borders`]; all others are here
//! and nowhere else.

pub(super) use vusb_model::borders::of_qemu as model_of;

use vusb_model::borders;
use vusb_model::device::Kind;
use vusb_model::hardware::Controller;
use vusb_model::models::{CompanionModel, Model};

/// QEMU's name for a controller model; `None` for those that it does not have.
pub const fn controller_driver(model: Model) -> Option<&'static str> {
    borders::names(model).qemu
}

/// Whether QEMU can add and remove a controller of this model while the guest runs, where it has it: what its source marks so
/// (`hotpluggable` in `hcd-uhci.c`, `hcd-ehci-pci.c` and `hcd-ohci-pci.c`), and what was seen of version 7.2.
pub const fn hot(model: Model) -> bool {
    matches!(
        model,
        Model::Piix3Uhci
            | Model::Piix4Uhci
            | Model::Vt82c686bUhci
            | Model::Ehci
            | Model::NecXhci
            | Model::QemuXhci
    )
}

/// The companion that QEMU's name means.
pub(super) fn companion_of(driver: &str) -> Option<CompanionModel> {
    [CompanionModel::Ich9Uhci1, CompanionModel::Ich9Uhci2, CompanionModel::Ich9Uhci3]
        .into_iter()
        .find(|companion| controller_driver(companion.model()) == Some(driver))
}

/// QEMU's name for a kind of device, by [`Kind::word`].
pub(super) fn device_driver(word: &str) -> Option<&'static str> {
    Some(match word {
        "host" => "usb-host",
        "storage" => "usb-storage",
        "tablet" => "usb-tablet",
        "mouse" => "usb-mouse",
        "keyboard" => "usb-kbd",
        "hub" => "usb-hub",
        "serial" => "usb-serial",
        "audio" => "usb-audio",
        "net" => "usb-net",
        "mtp" => "usb-mtp",
        "ccid" => "usb-ccid",
        "redir" => "usb-redir",
        _ => return None,
    })
}

/// QEMU's name for this device.
pub(super) fn driver_of(kind: &Kind) -> &str {
    match kind {
        Kind::Other(other) => &other.driver,
        kind => device_driver(kind.word()).unwrap_or(""),
    }
}

/// What QEMU's ids for vusb's own controllers, devices and back ends begin with: `vusb-0-old`, `vusb-1x15-hci0`, `vusb-stick`.
const OURS: &str = vusb_model::device::OWN_ID;

/// The id of a controller: its index, for an xHCI its numbers of ports (`x15`, or `x8x4` where its USB 2 and USB 3 ports are not
/// equally many), and its name. All of it can be read back, so that QEMU need not be asked for what it takes two more
/// questions to learn.
pub(super) fn controller_id(controller: &Controller) -> String {
    let (index, name, ports) = (controller.index, &controller.name, controller.ports);
    let ports = match (controller.model.is_xhci(), ports.usb2(), ports.usb3()) {
        (false, ..) => String::new(),
        (true, usb2, usb3) if usb2 == usb3 => format!("x{usb2}"),
        (true, usb2, usb3) => format!("x{usb2}x{usb3}"),
    };
    format!("{OURS}{index}{ports}-{name}")
}

/// The id of a device. A name begins with a letter, so that this is never a controller's id.
pub(super) fn device_id(name: &str) -> String {
    format!("{OURS}{name}")
}

/// What the id of one of vusb's own controllers says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnController<'a> {
    pub(super) index: u16,
    /// For an xHCI, its numbers of USB 2 and USB 3 ports.
    pub(super) halves: Option<(u8, u8)>,
    pub(super) name: &'a str,
}

/// Reads the id of a controller that vusb made.
pub(super) fn own_controller(id: &str) -> Option<OwnController<'_>> {
    let (head, name) = id.strip_prefix(OURS)?.split_once('-')?;
    let mut parts = head.split('x');
    let index = parts.next()?.parse().ok()?;
    let usb2 = parts.next().map(str::parse).transpose().ok()?;
    let usb3 = parts.next().map(str::parse).transpose().ok()?.or(usb2);
    Some(OwnController { index, halves: usb2.zip(usb3), name })
}

/// The name of the device that vusb gave this id.
pub(super) fn own_device(id: &str) -> Option<&str> {
    id.strip_prefix(OURS)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use vusb_model::address::Index;
    use vusb_model::models::RootPorts;
    use vusb_model::name::Name;

    use super::*;

    #[test]
    fn ids_read_back() {
        let index = Index::new(4).unwrap();
        let name: Name = "hci-a".parse().unwrap();
        for (model, ports, id, halves) in [
            (
                Model::Ehci,
                RootPorts::of(Model::Ehci, NonZeroU8::new(6).unwrap()),
                "vusb-4-hci-a",
                None,
            ),
            (Model::NecXhci, RootPorts::xhci(15, 15).unwrap(), "vusb-4x15-hci-a", Some((15, 15))),
            (Model::QemuXhci, RootPorts::xhci(8, 4).unwrap(), "vusb-4x8x4-hci-a", Some((8, 4))),
        ] {
            assert_eq!(controller_id(&Controller::new(index, name.clone(), model, ports)), id);
            assert_eq!(own_controller(id), Some(OwnController { index: 4, halves, name: "hci-a" }));
        }
        assert_eq!(own_controller(&device_id("a-b")), None);
        assert_eq!(own_device(&device_id("stick")), Some("stick"));
        assert_eq!(own_controller("usb1"), None);
    }

    #[test]
    fn each_driver_is_one_model() {
        let companion = companion_of("ich9-usb-uhci2");
        assert_eq!(companion, Some(CompanionModel::Ich9Uhci2));
        assert_eq!(companion_of("ich9-usb-ehci1"), None);
        for (driver, model) in [("usb-ehci", Model::Ehci), ("nec-usb-xhci", Model::NecXhci)] {
            assert_eq!((model_of(driver), controller_driver(model)), (Some(model), Some(driver)));
        }
    }
}
