//! What each hypervisor and its tools call the controller models: the one table of these names, read in both directions.
//!
//! | border | its name is |
//! |---|---|
//! | QEMU | the driver of `-device` and `device_add` |
//! | libxl | `type` of a `usbctrl`; its `version` is the model's own. libxl's `auto` and `qusb` are choices of who serves, and no models |
//! | libvirt | `model` of `<controller type='usb'>` |
//! | VMware | what a VMX file's `.present` key says it with: `usb` for `usb.present` |
//! | VirtualBox | the type of a USB controller: `VBoxManage modifyvm --usb-ohci`, `--usb-ehci`, `--usb-xhci` |
//!
//! Sources: QEMU's `hw/usb` (the `TYPE_` names); `libxl_usb.c` of Xen 4.17 (`libxl__device_usbctrl_add`: version 1 is `piix3-usb-uhci`, 2
//! `usb-ehci`, 3 `nec-usb-xhci`); libvirt's `virDomainControllerModelUSBTypeFromString`; VMware's and VirtualBox's manuals, and
//! VirtualBox's `USBControllerType`.
//!
//! VMware's and VirtualBox's controllers are none of QEMU's. Each is given the model that is most like it: the one that speaks the same
//! interface with as many ports, and of several the one whose drivers a guest is likeliest to have. VMware's UHCI has two ports, and
//! was Intel's PIIX4 before it got a number of its own (8086:7112, now 15ad:0774). VirtualBox's OHCI is a plain one (106b:003f), its EHCI
//! has no companions. Their xHCIs are nobody's real hardware with its quirks, and so is qemu-xhci.

use crate::models::{Model, UsbVersion};

/// The names of one model. `None` where a hypervisor does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
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

/// libxl's type of the controllers that its device model emulates.
pub const LIBXL_EMULATED: &str = "devicemodel";

/// libxl's type of the controllers that a kernel, or a vusb-backend in its place, serves by the PVUSB protocol.
pub const LIBXL_PV: &str = "pv";

/// What the model is called at each border.
#[rustfmt::skip]
pub const fn names(model: Model) -> Names {
    const fn row(
        qemu: Option<&'static str>, libxl: Option<&'static str>, libvirt: Option<&'static str>, vmware: Option<&'static str>,
        virtualbox: Option<&'static str>,
    ) -> Names {
        Names { qemu, libxl, libvirt, vmware, virtualbox }
    }
    const DM: Option<&str> = Some(LIBXL_EMULATED);
    const PV: Option<&str> = Some(LIBXL_PV);
    match model {
        //                       QEMU                        libxl libvirt                 VMware           VirtualBox
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
    }
}

/// The model that is QEMU's device `name`.
pub fn of_qemu(name: &str) -> Option<Model> {
    find(|model| names(model).qemu == Some(name))
}

/// The model that libxl makes for this type and version.
pub fn of_libxl(name: &str, version: UsbVersion) -> Option<Model> {
    find(|model| names(model).libxl == Some(name) && model.usbversion() == version)
}

/// The model that libvirt calls `name`.
pub fn of_libvirt(name: &str) -> Option<Model> {
    find(|model| names(model).libvirt == Some(name))
}

/// The model that VMware says with the key `name`, in whichever case it is written.
pub fn of_vmware(name: &str) -> Option<Model> {
    find(|model| names(model).vmware.is_some_and(|key| key.eq_ignore_ascii_case(name)))
}

/// The model that is VirtualBox's type `name`, in whichever case it is written: its tools say `xHCI`, its files `XHCI`.
pub fn of_virtualbox(name: &str) -> Option<Model> {
    find(|model| names(model).virtualbox.is_some_and(|word| word.eq_ignore_ascii_case(name)))
}

fn find(is_it: impl Fn(Model) -> bool) -> Option<Model> {
    Model::ALL.into_iter().find(|model| is_it(*model))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that two models had would read back as the first of them.
    #[test]
    fn every_name_reads_back_as_its_model() {
        for model in Model::ALL {
            let names = names(model);
            let version = model.usbversion();
            let back = [
                names.qemu.map(of_qemu),
                names.libxl.map(|name| of_libxl(name, version)),
                names.libvirt.map(of_libvirt),
                names.vmware.map(of_vmware),
                names.virtualbox.map(of_virtualbox),
            ];
            for read in back.into_iter().flatten() {
                assert_eq!(read, Some(model));
            }
        }
    }

    #[test]
    fn names_of_the_manuals() {
        assert_eq!(of_qemu("ich9-usb-ehci1"), Some(Model::Ich9Ehci1));
        assert_eq!(of_libxl("devicemodel", UsbVersion::V1), Some(Model::Piix3Uhci));
        assert_eq!(of_libxl("devicemodel", UsbVersion::V2), Some(Model::Ehci));
        assert_eq!(of_libxl("devicemodel", UsbVersion::V3), Some(Model::NecXhci));
        assert_eq!(of_libxl("pv", UsbVersion::V2), Some(Model::Xenusb2));
        assert_eq!(of_libxl("pv", UsbVersion::V3), None);
        assert_eq!(of_libvirt("qusb1"), Some(Model::Xenusb1));
        assert_eq!(of_vmware("USB_XHCI"), Some(Model::QemuXhci));
        assert_eq!(of_virtualbox("XHCI"), Some(Model::QemuXhci));
        assert_eq!(of_qemu("piix3-uhci"), None);
    }

    /// libvirt's names are the canonical ones, but for those that this project calls after their inventor.
    #[test]
    fn what_libvirt_calls_a_model_reads_as_that_model() {
        for model in Model::ALL {
            if let Some(name) = names(model).libvirt {
                assert_eq!(name.parse(), Ok(model));
            }
        }
    }
}
