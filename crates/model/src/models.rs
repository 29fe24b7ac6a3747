//! The table of controller models: what each is called, how many ports it has, what it takes.
//!
//! The names are libvirt's, which took them from real hardware where there is any. What a hypervisor calls a model is
//! in the table of [`borders`](crate::borders), and is used at that hypervisor's border alone.
//!
//! Port counts: UHCI 2 (UHCI 1.1, section 2.1.7, and QEMU's `NB_PORTS`), OHCI 3 (QEMU's `pci-ohci` default), EHCI 6 (QEMU's
//! `NB_PORTS` in `hcd-ehci.h`), xHCI 1 to 15 (`XHCI_MAXPORTS_2` and `_3` in QEMU's `hcd-xhci.h`), PVUSB 1 to 31
//! (`USBIF_MAX_PORTNR` in Xen's `usbif.h`).

use std::fmt;
use std::num::NonZeroU8;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::speed::{Speed, SpeedSet};

/// Whether a guest sees real hardware or a paravirtual device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControllerType {
    /// Hardware that exists, emulated.
    Emulated,
    /// A paravirtual device (Xen's PVUSB).
    Pv,
}

impl fmt::Display for ControllerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ControllerType::Emulated => "emulated",
            ControllerType::Pv => "pv",
        })
    }
}

/// The generation of USB that a controller belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum UsbVersion {
    /// USB 1.1: low and full speed.
    V1,
    /// USB 2.0: up to high speed.
    V2,
    /// USB 3: up to SuperSpeed.
    V3,
}

/// A number that is no USB version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no USB version: it is 1, 2 or 3")]
pub struct UsbVersionError(String);

impl TryFrom<u8> for UsbVersion {
    type Error = UsbVersionError;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(UsbVersion::V1),
            2 => Ok(UsbVersion::V2),
            3 => Ok(UsbVersion::V3),
            other => Err(UsbVersionError(other.to_string())),
        }
    }
}

impl From<UsbVersion> for u8 {
    fn from(version: UsbVersion) -> u8 {
        match version {
            UsbVersion::V1 => 1,
            UsbVersion::V2 => 2,
            UsbVersion::V3 => 3,
        }
    }
}

impl FromStr for UsbVersion {
    type Err = UsbVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1" => Ok(UsbVersion::V1),
            "2" => Ok(UsbVersion::V2),
            "3" => Ok(UsbVersion::V3),
            other => Err(UsbVersionError(other.chars().take(20).collect())),
        }
    }
}

impl fmt::Display for UsbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u8::from(*self))
    }
}

/// A controller model. Write it as [`Model::name`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Model {
    /// The UHCI of Intel's PIIX3.
    Piix3Uhci,
    /// The UHCI of Intel's PIIX4.
    Piix4Uhci,
    /// The UHCI of VIA's VT82C686B.
    Vt82c686bUhci,
    /// An OHCI on PCI.
    PciOhci,
    /// An EHCI alone: it takes nothing below high speed.
    Ehci,
    /// The first EHCI of Intel's ICH9, with its companions where it has any.
    Ich9Ehci1,
    /// The first UHCI of ICH9 standing alone, not as a companion.
    Ich9Uhci1,
    /// The second UHCI of ICH9 standing alone.
    Ich9Uhci2,
    /// The third UHCI of ICH9 standing alone.
    Ich9Uhci3,
    /// NEC's xHCI.
    NecXhci,
    /// QEMU's own xHCI.
    QemuXhci,
    /// Xen's PVUSB, USB 1.1.
    Xenusb1,
    /// Xen's PVUSB, USB 2.0.
    Xenusb2,
    /// Xen's PVUSB, USB 3: agreed as a name, and in no protocol.
    Xenusb3,
}

/// What the table says of a model.
struct Row {
    name: &'static str,
    /// Other names that mean this model.
    aliases: &'static [&'static str],
    kind: ControllerType,
    version: UsbVersion,
    ports: RangeInclusive<u8>,
    takes: SpeedSet,
}

const SLOW: SpeedSet = SpeedSet::of(&[Speed::Low, Speed::Full]);

impl Model {
    /// Every model, in the table's order.
    pub const ALL: [Model; 14] = [
        Model::Piix3Uhci,
        Model::Piix4Uhci,
        Model::Vt82c686bUhci,
        Model::PciOhci,
        Model::Ehci,
        Model::Ich9Ehci1,
        Model::Ich9Uhci1,
        Model::Ich9Uhci2,
        Model::Ich9Uhci3,
        Model::NecXhci,
        Model::QemuXhci,
        Model::Xenusb1,
        Model::Xenusb2,
        Model::Xenusb3,
    ];

    #[rustfmt::skip]
    const fn row(self) -> Row {
        use ControllerType::{Emulated, Pv};
        use UsbVersion::{V1, V2, V3};
        const HIGH: SpeedSet = SpeedSet::of(&[Speed::High]);
        const fn row(
            name: &'static str, aliases: &'static [&'static str], kind: ControllerType,
            version: UsbVersion, ports: RangeInclusive<u8>, takes: SpeedSet,
        ) -> Row {
            Row { name, aliases, kind, version, ports, takes }
        }
        match self {
            Model::Piix3Uhci     => row("piix3-uhci",     &[], Emulated, V1, 2..=2, SLOW),
            Model::Piix4Uhci     => row("piix4-uhci",     &[], Emulated, V1, 2..=2, SLOW),
            Model::Vt82c686bUhci => row("vt82c686b-uhci", &[], Emulated, V1, 2..=2, SLOW),
            Model::PciOhci       => row("pci-ohci",       &[], Emulated, V1, 3..=3, SLOW),
            Model::Ehci          => row("ehci",           &[], Emulated, V2, 6..=6, HIGH),
            Model::Ich9Ehci1     => row("ich9-ehci1",     &[], Emulated, V2, 6..=6, HIGH),
            Model::Ich9Uhci1     => row("ich9-uhci1",     &[], Emulated, V1, 2..=2, SLOW),
            Model::Ich9Uhci2     => row("ich9-uhci2",     &[], Emulated, V1, 2..=2, SLOW),
            Model::Ich9Uhci3     => row("ich9-uhci3",     &[], Emulated, V1, 2..=2, SLOW),
            Model::NecXhci       => row("nec-xhci",       &[], Emulated, V3, 1..=15, SpeedSet::ALL),
            Model::QemuXhci      => row("qemu-xhci",      &[], Emulated, V3, 1..=15, SpeedSet::ALL),
            Model::Xenusb1       => row("xenusb1", &["qusb1"], Pv,       V1, 1..=31, SLOW),
            // A SuperSpeed device is offered as a high-speed one.
            Model::Xenusb2       => row("xenusb2", &["qusb2"], Pv,       V2, 1..=31, SpeedSet::ALL),
            Model::Xenusb3       => row("xenusb3",        &[], Pv,       V3, 1..=31, SpeedSet::ALL),
        }
    }

    /// The canonical name: `piix3-uhci`, `qemu-xhci`, `xenusb2`.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Other names that are read as this model (libvirt's `qusb1` and `qusb2`).
    pub const fn aliases(self) -> &'static [&'static str] {
        self.row().aliases
    }

    /// Emulated or paravirtual.
    pub const fn controller_type(self) -> ControllerType {
        self.row().kind
    }

    /// The generation of USB.
    pub const fn usbversion(self) -> UsbVersion {
        self.row().version
    }

    /// How many ports a controller of this model can have.
    pub const fn port_range(self) -> RangeInclusive<u8> {
        self.row().ports
    }

    /// The speeds that the controller itself takes, without companions.
    pub const fn takes(self) -> SpeedSet {
        self.row().takes
    }

    /// Whether it is an xHCI, whose USB 2 and USB 3 ports are counted apart.
    pub const fn is_xhci(self) -> bool {
        matches!(self, Model::NecXhci | Model::QemuXhci)
    }

    /// The model for a USB version, as libxl and libvirt agreed it: {1, 2, 3} are {piix3-uhci, ich9-ehci1, nec-xhci}
    /// emulated and {xenusb1, xenusb2, xenusb3} paravirtual.
    pub const fn of_version(kind: ControllerType, version: UsbVersion) -> Model {
        match (kind, version) {
            (ControllerType::Emulated, UsbVersion::V1) => Model::Piix3Uhci,
            (ControllerType::Emulated, UsbVersion::V2) => Model::Ich9Ehci1,
            (ControllerType::Emulated, UsbVersion::V3) => Model::NecXhci,
            (ControllerType::Pv, UsbVersion::V1) => Model::Xenusb1,
            (ControllerType::Pv, UsbVersion::V2) => Model::Xenusb2,
            (ControllerType::Pv, UsbVersion::V3) => Model::Xenusb3,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no controller model: the models are {known}; `vusb models` says what each is", known = known_models())]
pub struct ModelError(String);

fn known_models() -> String {
    Model::ALL.map(Model::name).join(", ")
}

impl FromStr for Model {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Model::ALL
            .into_iter()
            .find(|model| model.name() == text || model.aliases().contains(&text))
            .ok_or_else(|| ModelError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Model {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Model> for String {
    fn from(model: Model) -> String {
        model.name().to_owned()
    }
}

/// Which UHCI of the ICH9 a companion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompanionModel {
    /// `ich9-uhci1`.
    Ich9Uhci1,
    /// `ich9-uhci2`.
    Ich9Uhci2,
    /// `ich9-uhci3`.
    Ich9Uhci3,
}

impl CompanionModel {
    /// The model of the same hardware standing alone.
    pub const fn model(self) -> Model {
        match self {
            CompanionModel::Ich9Uhci1 => Model::Ich9Uhci1,
            CompanionModel::Ich9Uhci2 => Model::Ich9Uhci2,
            CompanionModel::Ich9Uhci3 => Model::Ich9Uhci3,
        }
    }

    /// The PCI function it has in the group's slot: 0, 1 and 2; the EHCI is function 7 (ICH9 datasheet, section 5.1.8,
    /// D29:F0-F2 and F7).
    pub const fn function(self) -> u8 {
        match self {
            CompanionModel::Ich9Uhci1 => 0,
            CompanionModel::Ich9Uhci2 => 1,
            CompanionModel::Ich9Uhci3 => 2,
        }
    }
}

/// How many ports of each speed QEMU gives an xHCI where nobody says (`hw/usb/hcd-xhci-pci.c`). libvirt counts on it
/// (`conf/domain_addr.c`), and libxl says nothing of them.
pub const QEMU_XHCI_PORTS: u8 = 4;

/// The PCI function of the EHCI in an ICH9 group.
pub const ICH9_EHCI_FUNCTION: u8 = 7;

/// A UHCI that serves slow devices on two ports of an EHCI. It is no bus of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// What it is.
    pub model: CompanionModel,
    /// How many of the EHCI's ports come before its own two: 0, 2 or 4 in a whole group.
    pub first_port: u8,
}

impl Companion {
    /// How many ports a companion serves.
    pub const PORTS: u8 = 2;

    /// The companions of a whole ICH9 group: together they serve all six ports.
    pub const GROUP: [Companion; 3] = [
        Companion { model: CompanionModel::Ich9Uhci1, first_port: 0 },
        Companion { model: CompanionModel::Ich9Uhci2, first_port: 2 },
        Companion { model: CompanionModel::Ich9Uhci3, first_port: 4 },
    ];

    /// Whether it serves the EHCI's port `port`, counted from 1.
    pub const fn serves(self, port: u8) -> bool {
        port > self.first_port && port <= self.first_port.saturating_add(Companion::PORTS)
    }
}

/// The ports of a controller. For all but xHCI there is one kind; an xHCI has USB 2 and USB 3 halves of its ports, and
/// port N has the halves that reach up to N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPorts {
    usb2: u8,
    usb3: u8,
}

impl RootPorts {
    /// `ports` ports, each with every half that the model has.
    pub const fn of(model: Model, ports: NonZeroU8) -> RootPorts {
        RootPorts { usb2: ports.get(), usb3: if model.is_xhci() { ports.get() } else { 0 } }
    }

    /// The ports of an xHCI whose halves differ, as another tool may have made it. `None` if it would have no port.
    pub fn xhci(usb2: u8, usb3: u8) -> Option<RootPorts> {
        (usb2 > 0 || usb3 > 0).then_some(RootPorts { usb2, usb3 })
    }

    /// How many ports there are.
    pub fn count(self) -> u8 {
        self.usb2.max(self.usb3)
    }

    /// How many ports have a USB 2 half: they take low, full and high speed.
    pub const fn usb2(self) -> u8 {
        self.usb2
    }

    /// How many ports have a USB 3 half: they take SuperSpeed. 0 for all but xHCI.
    pub const fn usb3(self) -> u8 {
        self.usb3
    }

    /// Whether these are what their number alone says: for an xHCI, that each port has both halves.
    pub fn are_plain(self, model: Model) -> bool {
        NonZeroU8::new(self.count()).is_some_and(|ports| self == RootPorts::of(model, ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_read_back() {
        for model in Model::ALL {
            assert_eq!(model.name().parse(), Ok(model));
            for alias in model.aliases() {
                assert_eq!(alias.parse(), Ok(model));
            }
        }
        let error = "piix3-usb-uhci".parse::<Model>().unwrap_err().to_string();
        assert!(error.contains("piix3-uhci, piix4-uhci"), "{error}");
    }

    #[test]
    fn version_and_model_agree_both_ways() {
        for kind in [ControllerType::Emulated, ControllerType::Pv] {
            for version in [UsbVersion::V1, UsbVersion::V2, UsbVersion::V3] {
                let model = Model::of_version(kind, version);
                assert_eq!((model.controller_type(), model.usbversion()), (kind, version));
            }
        }
    }

    #[test]
    fn a_group_serves_each_port_once() {
        for port in 1..=6 {
            assert_eq!(
                Companion::GROUP.iter().filter(|companion| companion.serves(port)).count(),
                1,
                "{port}"
            );
        }
        assert!(
            !Companion::GROUP.iter().any(|companion| companion.serves(7) || companion.serves(0))
        );
    }
}
