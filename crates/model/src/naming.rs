//! The names of the controller models in each hypervisor and its tools: one table, read in both
//! directions.
//!
//! | hypervisor or tool | its name is |
//! |---|---|
//! | QEMU | the driver of `-device` and `device_add` |
//! | libxl | `type` of a `usbctrl`; its `version` is the model's own. libxl's `auto` and `qusb` are choices of the back end, not models |
//! | libvirt | `model` of `<controller type='usb'>` |
//! | VMware | the prefix of the `.present` key in a VMX file: `usb` for `usb.present` |
//! | VirtualBox | the type of a USB controller: `VBoxManage modifyvm --usb-ohci`, `--usb-ehci`, `--usb-xhci` |
//!
//! Sources: QEMU's `hw/usb` (the `TYPE_` names); `libxl_usb.c` of Xen 4.17
//! (`libxl__device_usbctrl_add`: version 1 is `piix3-usb-uhci`, 2 `usb-ehci`, 3 `nec-usb-xhci`);
//! libvirt's `virDomainControllerModelUSBTypeFromString`; VMware's and VirtualBox's manuals, and
//! VirtualBox's `USBControllerType`.
//!
//! VMware's and VirtualBox's controllers are not those of QEMU. Each is mapped to the most similar
//! model: the one with the same interface and number of ports or, if there are several, the one
//! whose drivers a guest is most likely to have. VMware's UHCI has two ports, and was Intel's PIIX4
//! before it got an id of its own (8086:7112, now 15ad:0774). VirtualBox's OHCI is a generic one
//! (106b:003f), its EHCI has no companions. Their xHCIs do not imitate real hardware and its
//! quirks, and neither does qemu-xhci.

use serde::{Deserialize, Serialize};

use crate::models::{Model, UsbVersion};

/// The names of one model. `None` where a hypervisor or tool does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelNames {
    /// QEMU's device.
    pub qemu: Option<&'static str>,
    /// libxl's type of controller.
    pub libxl: Option<&'static str>,
    /// libvirt's model.
    pub libvirt: Option<&'static str>,
    /// VMware's key, without `.present`.
    pub vmware: Option<&'static str>,
    /// VirtualBox's type of controller.
    pub virtualbox: Option<&'static str>,
}

/// The names of one model as they are shown to users. `None` where a tool does not have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesView {
    /// QEMU's device.
    pub qemu: Option<String>,
    /// In an xl configuration.
    pub libxl: Option<LibxlName>,
    /// libvirt's model.
    pub libvirt: Option<String>,
    /// VMware's key: `usb.present`.
    pub vmware: Option<String>,
    /// VirtualBox's controller type.
    pub virtualbox: Option<String>,
}

/// libxl's type and version of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibxlName {
    /// `devicemodel` or `pv`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1, 2 or 3.
    pub version: UsbVersion,
}

impl NamesView {
    /// The names of a model.
    pub fn of(model: Model) -> NamesView {
        let ModelNames { qemu, libxl, libvirt, vmware, virtualbox } = names(model);
        let owned = |name: Option<&str>| name.map(str::to_owned);
        let version = model.usbversion();
        NamesView {
            qemu: owned(qemu),
            libxl: libxl.map(|kind| LibxlName { kind: kind.to_owned(), version }),
            libvirt: owned(libvirt),
            vmware: vmware.map(|key| format!("{key}.present")),
            virtualbox: owned(virtualbox),
        }
    }
}

/// libxl's type of the controllers that its device model emulates.
pub const LIBXL_EMULATED: &str = "devicemodel";

/// libxl's type of the controllers that a kernel or vusb-backend serves over the PVUSB protocol.
pub const LIBXL_PV: &str = "pv";

/// The names of a model.
#[rustfmt::skip]
pub const fn names(model: Model) -> ModelNames {
    const fn row(
        qemu: Option<&'static str>, libxl: Option<&'static str>, libvirt: Option<&'static str>, vmware: Option<&'static str>,
        virtualbox: Option<&'static str>,
    ) -> ModelNames {
        ModelNames { qemu, libxl, libvirt, vmware, virtualbox }
    }
    const DM: Option<&str> = Some(LIBXL_EMULATED);
    const PV: Option<&str> = Some(LIBXL_PV);
    match model {
        //                       QEMU                        libxl libvirt                 VMware
        //                       VirtualBox
        Model::Piix3Uhci     => row(Some("piix3-usb-uhci"),     DM,   Some("piix3-uhci"),     None,             None),
        Model::Piix4Uhci     => row(Some("piix4-usb-uhci"),     None, Some("piix4-uhci"),     Some("usb"),      None),
        Model::Vt82c686bUhci => row(Some("vt82c686b-usb-uhci"), None, Some("vt82c686b-uhci"), None,             None),
        Model::PciOhci       => row(Some("pci-ohci"),           None, Some("pci-ohci"),       None,             Some("OHCI")),
        Model::Ehci          => row(Some("usb-ehci"),           DM,   Some("ehci"),           Some("ehci"),     Some("EHCI")),
        Model::Ich9Ehci1     => row(Some("ich9-usb-ehci1"),     None, Some("ich9-ehci1"),     None,             None),
        Model::Ich9Uhci1     => row(Some("ich9-usb-uhci1"),     None, Some("ich9-uhci1"),     None,             None),
        Model::Ich9Uhci2     => row(Some("ich9-usb-uhci2"),     None, Some("ich9-uhci2"),     None,             None),
        Model::Ich9Uhci3     => row(Some("ich9-usb-uhci3"),     None, Some("ich9-uhci3"),     None,             None),
        Model::NecXhci       => row(Some("nec-usb-xhci"),       DM,   Some("nec-xhci"),       None,             None),
        Model::QemuXhci      => row(Some("qemu-xhci"),          None, Some("qemu-xhci"),      Some("usb_xhci"), Some("xHCI")),
        Model::Xenusb1       => row(None,                       PV,   Some("qusb1"),          None,             None),
        Model::Xenusb2       => row(None,                       PV,   Some("qusb2"),          None,             None),
        Model::Xenusb3       => row(None,                       None, None,                   None,             None),
        // No tool adds them by a name that is known here.
        Model::Ich9Ehci2 | Model::Ich9Uhci4 | Model::Ich9Uhci5 | Model::Ich9Uhci6 | Model::SysbusXhci
        | Model::PlatformEhci | Model::SysbusOhci | Model::Dwc2 | Model::OtherUsb => row(None, None, None, None, None),
    }
}

/// The model of QEMU's device `name`.
pub fn from_qemu(name: &str) -> Option<Model> {
    find(|model| names(model).qemu == Some(name))
}

/// The model of libxl's controllers with this type and version.
pub fn from_libxl(name: &str, version: UsbVersion) -> Option<Model> {
    find(|model| names(model).libxl == Some(name) && model.usbversion() == version)
}

/// The model with libvirt's name `name`.
pub fn from_libvirt(name: &str) -> Option<Model> {
    find(|model| names(model).libvirt == Some(name))
}

/// The model with the VMX key `name`. Case is ignored.
pub fn from_vmware(name: &str) -> Option<Model> {
    find(|model| names(model).vmware.is_some_and(|key| key.eq_ignore_ascii_case(name)))
}

/// The model of VirtualBox's type `name`. Case is ignored: its tools write `xHCI`, its files
/// `XHCI`.
pub fn from_virtualbox(name: &str) -> Option<Model> {
    find(|model| names(model).virtualbox.is_some_and(|word| word.eq_ignore_ascii_case(name)))
}

fn find(matches: impl Fn(Model) -> bool) -> Option<Model> {
    Model::ALL.into_iter().find(|model| matches(*model))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If two models shared a name, it would read back as the first of them.
    #[test]
    fn every_name_reads_back_as_its_model() {
        for model in Model::ALL {
            let names = names(model);
            let version = model.usbversion();
            let back = [
                names.qemu.map(from_qemu),
                names.libxl.map(|name| from_libxl(name, version)),
                names.libvirt.map(from_libvirt),
                names.vmware.map(from_vmware),
                names.virtualbox.map(from_virtualbox),
            ];
            for read in back.into_iter().flatten() {
                assert_eq!(read, Some(model));
            }
        }
    }

    #[test]
    fn names_from_the_manuals() {
        assert_eq!(from_qemu("ich9-usb-ehci1"), Some(Model::Ich9Ehci1));
        assert_eq!(from_libxl("devicemodel", UsbVersion::V1), Some(Model::Piix3Uhci));
        assert_eq!(from_libxl("devicemodel", UsbVersion::V2), Some(Model::Ehci));
        assert_eq!(from_libxl("devicemodel", UsbVersion::V3), Some(Model::NecXhci));
        assert_eq!(from_libxl("pv", UsbVersion::V2), Some(Model::Xenusb2));
        assert_eq!(from_libxl("pv", UsbVersion::V3), None);
        assert_eq!(from_libvirt("qusb1"), Some(Model::Xenusb1));
        assert_eq!(from_vmware("USB_XHCI"), Some(Model::QemuXhci));
        assert_eq!(from_virtualbox("XHCI"), Some(Model::QemuXhci));
        assert_eq!(from_qemu("piix3-uhci"), None);
    }

    /// libvirt's names are the canonical ones, except those of paravirtual models.
    #[test]
    fn libvirts_names_parse_as_models() {
        for model in Model::ALL {
            if let Some(name) = names(model).libvirt {
                assert_eq!(name.parse(), Ok(model));
            }
        }
    }
}
