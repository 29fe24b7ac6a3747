//! QEMU's names for devices, and the ids that vusb gives to its own objects in QEMU.
//!
//! The driver names of controllers are in [`vusb_model::naming`], with the names that other
//! hypervisors use. All other driver names are only here.

use vusb_model::device::{Kind, Media};
use vusb_model::hardware::Controller;
use vusb_model::models::{CompanionModel, Model};
use vusb_model::naming;

/// QEMU's drivers of controllers that are only observed ([`Model::BUILT_IN`]): `microvm` has the
/// xHCI, `raspi` the DWC2, and Proxmox's q35 guests the second ICH9 group.
const BUILT_IN: [(&str, Model); 7] = [
    ("ich9-usb-ehci2", Model::Ich9Ehci2),
    ("ich9-usb-uhci4", Model::Ich9Uhci4),
    ("ich9-usb-uhci5", Model::Ich9Uhci5),
    ("ich9-usb-uhci6", Model::Ich9Uhci6),
    ("sysbus-xhci", Model::SysbusXhci),
    ("sysbus-ohci", Model::SysbusOhci),
    ("dwc2-usb", Model::Dwc2),
];

/// QEMU's EHCIs that are parts of machines and have its six ports (`hcd-ehci-sysbus.c`); that of
/// `fusbh200` has one.
const PLATFORM_EHCIS: [&str; 6] = [
    "platform-ehci-usb",
    "exynos4210-ehci-usb",
    "aw-h3-ehci-usb",
    "npcm7xx-ehci-usb",
    "tegra2-ehci-usb",
    "ppc4xx-ehci-usb",
];

/// The model of the controllers with this driver. `None` if vusb does not know the driver.
pub(super) fn model_of(driver: &str) -> Option<Model> {
    let built_in = || BUILT_IN.iter().find(|(name, _)| *name == driver).map(|(_, model)| *model);
    let platform = || PLATFORM_EHCIS.contains(&driver).then_some(Model::PlatformEhci);
    naming::from_qemu(driver).or_else(built_in).or_else(platform)
}

/// QEMU's driver for a controller model. `None` if QEMU has none, or if vusb does not add such
/// controllers.
pub const fn controller_driver(model: Model) -> Option<&'static str> {
    naming::names(model).qemu
}

/// Whether a QEMU that was built with this model can add and remove such a controller while the
/// guest runs. Taken from `hotpluggable` in QEMU's `hcd-uhci.c`, `hcd-ehci-pci.c` and
/// `hcd-ohci-pci.c`, and confirmed on version 7.2.
pub const fn hot_pluggable(model: Model) -> bool {
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

/// The companion model that a QEMU driver implements.
pub(super) fn companion_model(driver: &str) -> Option<CompanionModel> {
    let model = model_of(driver)?;
    CompanionModel::ALL.into_iter().find(|companion| companion.model() == model)
}

/// QEMU's driver for a kind of device, by [`Kind::name`].
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

/// QEMU's driver for the USB part of a CD drive. The drive itself is a [`CD_DRIVE`] on its bus. To
/// the guest, its USB part is the same as that of `usb-storage`.
pub(super) const CD_BRIDGE: &str = "usb-bot";

/// QEMU's driver for a CD drive.
pub(super) const CD_DRIVE: &str = "scsi-cd";

/// QEMU's driver for this device.
pub(super) fn driver_of(kind: &Kind) -> &str {
    match kind {
        Kind::Other(other) => &other.driver,
        // QEMU's `usb-storage` only makes disks of nodes that `blockdev-add` added: what it makes
        // is decided by the `media` of a `-drive` (`scsi_bus_legacy_add_drive`).
        Kind::Storage(storage) if storage.media == Media::Cdrom => CD_BRIDGE,
        kind => device_driver(kind.name()).unwrap_or(""),
    }
}

/// The prefix of the ids of vusb's own controllers, devices and back ends: `vusb-0-old`,
/// `vusb-1x15-hci0`, `vusb-stick`.
const PREFIX: &str = vusb_model::device::OBJECT_ID_PREFIX;

/// The id of a controller: its index, its port counts if it is an xHCI (`x15`, or `x8x4` if the
/// numbers of USB 2 and USB 3 ports differ), and its name. The id can be parsed, which saves two
/// queries for the port counts.
pub(super) fn controller_id(controller: &Controller) -> String {
    let (index, name, ports) = (controller.index, &controller.name, controller.ports);
    let ports = match (controller.model.is_xhci(), ports.usb2(), ports.usb3()) {
        (false, ..) => String::new(),
        (true, usb2, usb3) if usb2 == usb3 => format!("x{usb2}"),
        (true, usb2, usb3) => format!("x{usb2}x{usb3}"),
    };
    format!("{PREFIX}{index}{ports}-{name}")
}

/// The id of a device. It cannot be mistaken for a controller's id, because a name begins with a
/// letter.
pub(super) fn device_id(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// A parsed id of one of vusb's own controllers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ControllerId<'a> {
    pub(super) index: u16,
    /// The numbers of USB 2 and USB 3 ports of an xHCI.
    pub(super) port_counts: Option<(u8, u8)>,
    pub(super) name: &'a str,
}

/// Parses the id of a controller that vusb added. `None` if another tool added it.
pub(super) fn parse_controller_id(id: &str) -> Option<ControllerId<'_>> {
    let (head, name) = id.strip_prefix(PREFIX)?.split_once('-')?;
    let mut parts = head.split('x');
    let index = parts.next()?.parse().ok()?;
    let usb2 = parts.next().map(str::parse).transpose().ok()?;
    let usb3 = parts.next().map(str::parse).transpose().ok()?.or(usb2);
    Some(ControllerId { index, port_counts: usb2.zip(usb3), name })
}

/// The name of the device, from its id. `None` if another tool added it.
pub(super) fn parse_device_id(id: &str) -> Option<&str> {
    id.strip_prefix(PREFIX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use vusb_model::address::Index;
    use vusb_model::models::RootPorts;
    use vusb_model::name::Name;

    use super::*;

    #[test]
    fn ids_can_be_parsed() {
        let index = Index::new(4).unwrap();
        let name: Name = "hci-a".parse().unwrap();
        for (model, ports, id, port_counts) in [
            (
                Model::Ehci,
                RootPorts::uniform(Model::Ehci, NonZeroU8::new(6).unwrap()),
                "vusb-4-hci-a",
                None,
            ),
            (Model::NecXhci, RootPorts::xhci(15, 15).unwrap(), "vusb-4x15-hci-a", Some((15, 15))),
            (Model::QemuXhci, RootPorts::xhci(8, 4).unwrap(), "vusb-4x8x4-hci-a", Some((8, 4))),
        ] {
            assert_eq!(controller_id(&Controller::new(index, name.clone(), model, ports)), id);
            assert_eq!(
                parse_controller_id(id),
                Some(ControllerId { index: 4, port_counts, name: "hci-a" })
            );
        }
        assert_eq!(parse_controller_id(&device_id("a-b")), None);
        assert_eq!(parse_device_id(&device_id("stick")), Some("stick"));
        for id in
            ["usb1", "vusb-", "vusb-4", "vusb-x4-a", "vusb-4x-a", "vusb-4x8x-a", "vusb-70000-a"]
        {
            assert_eq!(parse_controller_id(id), None, "{id}");
        }
        assert_eq!(parse_device_id("stick"), None);
    }

    #[test]
    fn each_driver_implements_one_model() {
        let companion = companion_model("ich9-usb-uhci2");
        assert_eq!(companion, Some(CompanionModel::Ich9Uhci2));
        assert_eq!(companion_model("ich9-usb-ehci1"), None);
        assert_eq!(companion_model("ich9-usb-uhci6"), Some(CompanionModel::Ich9Uhci6));
        for (driver, model) in [
            ("sysbus-xhci", Some(Model::SysbusXhci)),
            ("npcm7xx-ehci-usb", Some(Model::PlatformEhci)),
            ("dwc2-usb", Some(Model::Dwc2)),
            ("musb", None),
        ] {
            assert_eq!(model_of(driver), model, "{driver}");
        }
        // None of those can be added.
        assert!(Model::BUILT_IN.into_iter().all(|model| controller_driver(model).is_none()));
        for (driver, model) in [("usb-ehci", Model::Ehci), ("nec-usb-xhci", Model::NecXhci)] {
            assert_eq!((model_of(driver), controller_driver(model)), (Some(model), Some(driver)));
        }
    }

    /// The same models as in QEMU's sources (`hotpluggable`).
    #[test]
    fn only_some_models_can_be_added_to_a_running_guest() {
        let hot: Vec<Model> =
            Model::ALL.into_iter().filter(|model| hot_pluggable(*model)).collect();
        let expected =
            ["piix3-uhci", "piix4-uhci", "vt82c686b-uhci", "ehci", "nec-xhci", "qemu-xhci"];
        assert_eq!(hot, expected.map(|model| model.parse().unwrap()));
    }

    #[test]
    fn every_kind_has_a_driver() {
        let drivers = vusb_model::capabilities::KINDS.map(|kind| device_driver(kind).unwrap());
        let expected = [
            "usb-host",
            "usb-storage",
            "usb-tablet",
            "usb-mouse",
            "usb-kbd",
            "usb-hub",
            "usb-serial",
            "usb-audio",
            "usb-net",
            "usb-mtp",
            "usb-ccid",
            "usb-redir",
        ];
        assert_eq!(drivers, expected);
        assert_eq!(device_driver("wacom"), None);
        let other =
            Kind::Other(vusb_model::device::Other { driver: "usb-wacom-tablet".to_owned() });
        assert_eq!((driver_of(&other), driver_of(&Kind::Ccid)), ("usb-wacom-tablet", "usb-ccid"));
    }
}
