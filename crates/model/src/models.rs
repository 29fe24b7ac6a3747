//! The table of controller models: names, numbers of ports, speeds.
//!
//! The names of emulated models are libvirt's, where libvirt has the model: those of real hardware
//! where there is any. A hypervisor's own
//! names are in the table of [`naming`](crate::naming), and are used only where vusb talks to that
//! hypervisor.
//!
//! Port counts: UHCI 2 (UHCI 1.1, section 2.1.7, and QEMU's `NB_PORTS`), OHCI 3 (QEMU's `pci-ohci`
//! default), EHCI 6 (QEMU's `NB_PORTS` in `hcd-ehci.h`), xHCI 1 to 15 (`XHCI_MAXPORTS_2` and `_3`
//! in QEMU's `hcd-xhci.h`), PVUSB 1 to 31 (`USBIF_MAX_PORTNR` in Xen's `usbif.h`). VirtualBox's
//! controllers have other numbers: [`Model::virtualbox_ports`].

use std::fmt;
use std::num::NonZeroU8;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::remedy::Remedy;
use crate::speed::{Speed, SpeedSet};

/// Whether a guest sees emulated hardware or a paravirtual device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControllerType {
    /// Emulated real hardware.
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

/// The USB version of a controller.
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

/// A number that is not a USB version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a USB version: it is 1, 2 or 3")]
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

/// A controller model. Its text form is [`Model::name`].
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
    /// An EHCI without companions: it supports only high speed.
    Ehci,
    /// The first EHCI of Intel's ICH9, with its companions where it has any.
    Ich9Ehci1,
    /// The first UHCI of ICH9 as a standalone controller, not as a companion.
    Ich9Uhci1,
    /// The second UHCI of ICH9 as a standalone controller.
    Ich9Uhci2,
    /// The third UHCI of ICH9 as a standalone controller.
    Ich9Uhci3,
    /// NEC's xHCI.
    NecXhci,
    /// QEMU's own xHCI.
    QemuXhci,
    /// Xen's PVUSB, USB 1.1.
    Xenusb1,
    /// Xen's PVUSB, USB 2.0.
    Xenusb2,
    /// Xen's PVUSB, USB 3: an agreed name without a protocol.
    Xenusb3,
    /// The second EHCI of ICH9, with its companions where it has any.
    Ich9Ehci2,
    /// The fourth UHCI of ICH9 as a standalone controller, not as a companion.
    Ich9Uhci4,
    /// The fifth UHCI of ICH9 as a standalone controller.
    Ich9Uhci5,
    /// The sixth UHCI of ICH9 as a standalone controller.
    Ich9Uhci6,
    /// An xHCI that is part of the machine rather than a PCI device.
    SysbusXhci,
    /// An EHCI that is part of the machine.
    PlatformEhci,
    /// An OHCI that is part of the machine.
    SysbusOhci,
    /// The DWC2 of Arm machines.
    Dwc2,
    /// A controller that is not known here.
    OtherUsb,
}

/// A model's row in the table.
struct Row {
    name: &'static str,
    /// Other names that mean this model.
    aliases: &'static [&'static str],
    controller_type: ControllerType,
    version: UsbVersion,
    ports: RangeInclusive<u8>,
    speeds: SpeedSet,
}

const SLOW: SpeedSet = SpeedSet::of(&[Speed::Low, Speed::Full]);

impl Model {
    /// Every model that can be requested, in the table's order. See [`Model::BUILT_IN`] for the
    /// others.
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

    /// The models that are only observed: parts of machines, and controllers that only other tools
    /// add. They take devices, and cannot be requested.
    pub const BUILT_IN: [Model; 9] = [
        Model::Ich9Ehci2,
        Model::Ich9Uhci4,
        Model::Ich9Uhci5,
        Model::Ich9Uhci6,
        Model::SysbusXhci,
        Model::PlatformEhci,
        Model::SysbusOhci,
        Model::Dwc2,
        Model::OtherUsb,
    ];

    /// Whether it is one of [`Model::BUILT_IN`].
    pub fn is_built_in(self) -> bool {
        Model::BUILT_IN.contains(&self)
    }

    #[rustfmt::skip]
    const fn row(self) -> Row {
        use ControllerType::{Emulated, Pv};
        use UsbVersion::{V1, V2, V3};
        const HIGH: SpeedSet = SpeedSet::of(&[Speed::High]);
        const USB2: SpeedSet = SpeedSet::of(&[Speed::Low, Speed::Full, Speed::High]);
        const fn row(
            name: &'static str, aliases: &'static [&'static str], controller_type: ControllerType,
            version: UsbVersion, ports: RangeInclusive<u8>, speeds: SpeedSet,
        ) -> Row {
            Row { name, aliases, controller_type, version, ports, speeds }
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
            // A SuperSpeed device runs as a high-speed one.
            Model::Xenusb2       => row("xenusb2", &["qusb2"], Pv,       V2, 1..=31, SpeedSet::ALL),
            Model::Xenusb3       => row("xenusb3",        &[], Pv,       V3, 1..=31, SpeedSet::ALL),
            Model::Ich9Ehci2     => row("ich9-ehci2",     &[], Emulated, V2, 6..=6, HIGH),
            Model::Ich9Uhci4     => row("ich9-uhci4",     &[], Emulated, V1, 2..=2, SLOW),
            Model::Ich9Uhci5     => row("ich9-uhci5",     &[], Emulated, V1, 2..=2, SLOW),
            Model::Ich9Uhci6     => row("ich9-uhci6",     &[], Emulated, V1, 2..=2, SLOW),
            Model::SysbusXhci    => row("sysbus-xhci",    &[], Emulated, V3, 1..=15, SpeedSet::ALL),
            Model::PlatformEhci  => row("platform-ehci",  &[], Emulated, V2, 6..=6, HIGH),
            Model::SysbusOhci    => row("sysbus-ohci",    &[], Emulated, V1, 1..=15, SLOW),
            Model::Dwc2          => row("dwc2",           &[], Emulated, V2, 1..=1, USB2),
            Model::OtherUsb      => row("other-usb",      &[], Emulated, V2, 1..=31, SpeedSet::ALL),
        }
    }

    /// The canonical name: `piix3-uhci`, `qemu-xhci`, `xenusb2`.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Other names for this model (libvirt's `qusb1` and `qusb2`).
    pub const fn aliases(self) -> &'static [&'static str] {
        self.row().aliases
    }

    /// Emulated or paravirtual.
    pub const fn controller_type(self) -> ControllerType {
        self.row().controller_type
    }

    /// The USB version.
    pub const fn usbversion(self) -> UsbVersion {
        self.row().version
    }

    /// The numbers of ports that a controller of this model can have.
    pub const fn port_range(self) -> RangeInclusive<u8> {
        self.row().ports
    }

    /// The ports of VirtualBox's controller of this model, which cannot be changed. `None` if
    /// VirtualBox does not have the model.
    ///
    /// Sources: VirtualBox's `OHCI_NDP_DEFAULT` (`DevOHCI.cpp`), `EHCI_NDP_DEFAULT`
    /// (`DevEHCI.cpp`), `XHCI_NDP_20_DEFAULT` and `XHCI_NDP_30_DEFAULT` (`DevXHCI.cpp`). The
    /// specifications allow 15 ports of an OHCI and an EHCI. OS X does not take an xHCI with more
    /// than 15 ports of both kinds together.
    pub const fn virtualbox_ports(self) -> Option<RootPorts> {
        match self {
            Model::PciOhci | Model::Ehci => Some(RootPorts { usb2: 12, usb3: 0 }),
            Model::QemuXhci => Some(RootPorts { usb2: 8, usb3: 6 }),
            _ => None,
        }
    }

    /// Whether QEMU's controller of this model can have these ports.
    pub fn is_qemu_ports(self, ports: RootPorts) -> bool {
        self.port_range().contains(&ports.count())
    }

    /// The speeds that the controller itself supports, without companions.
    pub const fn speeds(self) -> SpeedSet {
        self.row().speeds
    }

    /// Whether it is an xHCI, which has separate USB 2 and USB 3 ports.
    pub const fn is_xhci(self) -> bool {
        matches!(self, Model::NecXhci | Model::QemuXhci | Model::SysbusXhci)
    }

    /// The model for a USB version, as agreed between libxl and libvirt: {1, 2, 3} are {piix3-uhci,
    /// ich9-ehci1, nec-xhci} emulated and {xenusb1, xenusb2, xenusb3} paravirtual.
    pub const fn for_version(controller_type: ControllerType, version: UsbVersion) -> Model {
        match (controller_type, version) {
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

/// Text that is not a model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a controller model: the models are {known}", known = known_models())]
pub struct ModelError(String);

impl ModelError {
    /// What the caller can do about it.
    pub fn remedies(&self) -> Vec<Remedy> {
        vec![Remedy::ListModels]
    }
}

fn known_models() -> String {
    Model::ALL.map(Model::name).join(", ")
}

impl FromStr for Model {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Model::ALL
            .into_iter()
            .chain(Model::BUILT_IN)
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

/// A UHCI of the ICH9 as a companion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompanionModel {
    /// `ich9-uhci1`.
    Ich9Uhci1,
    /// `ich9-uhci2`.
    Ich9Uhci2,
    /// `ich9-uhci3`.
    Ich9Uhci3,
    /// `ich9-uhci4`.
    Ich9Uhci4,
    /// `ich9-uhci5`.
    Ich9Uhci5,
    /// `ich9-uhci6`.
    Ich9Uhci6,
}

impl CompanionModel {
    /// Every companion.
    pub const ALL: [CompanionModel; 6] = [
        CompanionModel::Ich9Uhci1,
        CompanionModel::Ich9Uhci2,
        CompanionModel::Ich9Uhci3,
        CompanionModel::Ich9Uhci4,
        CompanionModel::Ich9Uhci5,
        CompanionModel::Ich9Uhci6,
    ];

    /// The model of the same hardware as a standalone controller.
    pub const fn model(self) -> Model {
        match self {
            CompanionModel::Ich9Uhci1 => Model::Ich9Uhci1,
            CompanionModel::Ich9Uhci2 => Model::Ich9Uhci2,
            CompanionModel::Ich9Uhci3 => Model::Ich9Uhci3,
            CompanionModel::Ich9Uhci4 => Model::Ich9Uhci4,
            CompanionModel::Ich9Uhci5 => Model::Ich9Uhci5,
            CompanionModel::Ich9Uhci6 => Model::Ich9Uhci6,
        }
    }

    /// Its PCI function in the group's slot: 0, 1 and 2; the EHCI is function 7 (ICH9 datasheet,
    /// section 5.1.8, D29:F0-F2 and F7; D26 has the second group).
    pub const fn function(self) -> u8 {
        match self {
            CompanionModel::Ich9Uhci1 | CompanionModel::Ich9Uhci4 => 0,
            CompanionModel::Ich9Uhci2 | CompanionModel::Ich9Uhci5 => 1,
            CompanionModel::Ich9Uhci3 | CompanionModel::Ich9Uhci6 => 2,
        }
    }
}

/// QEMU's default numbers of USB 2 and of USB 3 ports of an xHCI (`hw/usb/hcd-xhci-pci.c`). libvirt
/// relies on them (`conf/domain_addr.c`), and libxl does not set them.
pub const QEMU_XHCI_PORTS: u8 = 4;

/// The PCI function of the EHCI in an ICH9 group.
pub const ICH9_EHCI_FUNCTION: u8 = 7;

/// A UHCI that serves slow devices on two ports of an EHCI. It has no bus of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// Its model.
    pub model: CompanionModel,
    /// The number of the EHCI's ports before its own two: 0, 2 or 4 in a whole group.
    pub first_port: u8,
}

impl Companion {
    /// The number of ports that a companion serves.
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

/// The ports of a controller. All models but xHCI have one kind of port. An xHCI has USB 2 and USB
/// 3 ports, which share their numbers: port N is both if both numbers of ports reach N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPorts {
    usb2: u8,
    usb3: u8,
}

impl RootPorts {
    /// `ports` ports; those of an xHCI are USB 2 and USB 3 ports at the same time.
    pub const fn uniform(model: Model, ports: NonZeroU8) -> RootPorts {
        RootPorts { usb2: ports.get(), usb3: if model.is_xhci() { ports.get() } else { 0 } }
    }

    /// The ports of an xHCI with separate numbers, as another tool may have configured it. `None`
    /// if it would have no port.
    pub fn xhci(usb2: u8, usb3: u8) -> Option<RootPorts> {
        (usb2 > 0 || usb3 > 0).then_some(RootPorts { usb2, usb3 })
    }

    /// The number of ports.
    pub fn count(self) -> u8 {
        self.usb2.max(self.usb3)
    }

    /// The number of USB 2 ports, which support low, full and high speed.
    pub const fn usb2(self) -> u8 {
        self.usb2
    }

    /// The number of USB 3 ports, which support SuperSpeed. 0 for all models but xHCI.
    pub const fn usb3(self) -> u8 {
        self.usb3
    }

    /// Whether the number of ports alone describes them: for an xHCI, that there are as many USB 2
    /// as USB 3 ports.
    pub fn are_uniform(self, model: Model) -> bool {
        NonZeroU8::new(self.count()).is_some_and(|ports| self == RootPorts::uniform(model, ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_read_back() {
        for model in Model::ALL.into_iter().chain(Model::BUILT_IN) {
            assert_eq!(model.name().parse(), Ok(model));
            for alias in model.aliases() {
                assert_eq!(alias.parse(), Ok(model));
            }
        }
        let error = "piix3-usb-uhci".parse::<Model>().unwrap_err().to_string();
        assert!(error.contains("piix3-uhci, piix4-uhci"), "{error}");
        // Those that cannot be requested are not listed.
        assert!(!error.contains("dwc2"), "{error}");
    }

    #[test]
    fn version_and_model_agree_both_ways() {
        for controller_type in [ControllerType::Emulated, ControllerType::Pv] {
            for version in [UsbVersion::V1, UsbVersion::V2, UsbVersion::V3] {
                let model = Model::for_version(controller_type, version);
                let found = (model.controller_type(), model.usbversion());
                assert_eq!(found, (controller_type, version));
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
