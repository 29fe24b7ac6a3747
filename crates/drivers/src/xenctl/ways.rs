//! How a guest of Xen comes to a controller of each model.

use std::fmt;

use vusb_model::borders;
use vusb_model::capabilities::Support;
use vusb_model::models::{ControllerType, Model, UsbVersion};

use crate::qemu;

/// A way to a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From libxl's device model, by this version.
    DeviceModel(UsbVersion),
    /// From the device model, when the guest boots: `usbversion = 2` of xl's older words.
    AtBoot,
    /// From the device model, over its monitor: libxl has no word for it.
    Monitor,
    /// From a PVUSB backend.
    Pvusb,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::DeviceModel(version) => write!(f, "device model, version {version}"),
            Way::AtBoot => f.write_str("at boot"),
            Way::Monitor => f.write_str("through QMP"),
            Way::Pvusb => f.write_str("PVUSB"),
        }
    }
}

/// How a guest comes to a controller of the model; `None` if it cannot. What is emulated is for hardware-assisted guests.
pub fn way(model: Model) -> Option<Way> {
    match (borders::names(model).libxl, model) {
        (Some(borders::LIBXL_PV), _) => Some(Way::Pvusb),
        (Some(_), _) => Some(Way::DeviceModel(model.usbversion())),
        (None, Model::Ich9Ehci1) => Some(Way::AtBoot),
        (None, Model::Piix4Uhci | Model::QemuXhci) => Some(Way::Monitor),
        (None, _) => None,
    }
}

/// What Xen can do with the model, where `served` says whether a vusb-backend answers in domain 0.
pub(crate) fn support(model: Model, served: bool) -> Support {
    let no = |why: &str| Support::No { why: why.to_owned() };
    match way(model) {
        None if model.controller_type() == ControllerType::Pv => {
            no("the PVUSB protocol (usbif.h) has no version 3")
        }
        None => no("libxl's device model is not asked for it"),
        Some(Way::Pvusb) if served => Support::Hot,
        Some(Way::Pvusb) => {
            no("no vusb-backend answers in domain 0; start it with `systemctl start vusb-backend`")
        }
        Some(_) if qemu::hot(model) => Support::Hot,
        Some(_) => Support::Cold { why: "it comes with the guest's start alone".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_what() {
        assert_eq!(way(Model::Ehci), Some(Way::DeviceModel(UsbVersion::V2)));
        assert_eq!(way(Model::Xenusb3), None);
        assert_eq!(support(Model::Xenusb2, true), Support::Hot);
        assert!(matches!(support(Model::Xenusb2, false), Support::No { .. }));
        assert!(matches!(support(Model::Ich9Ehci1, true), Support::Cold { .. }));
        assert!(matches!(support(Model::PciOhci, true), Support::No { .. }));
        assert_eq!(support(Model::NecXhci, false), Support::Hot);
    }
}
