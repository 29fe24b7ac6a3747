//! Where a Xen guest gets a controller of each model from.

use std::fmt;

use vusb_model::capabilities::Support;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::naming;

use crate::qemu;

/// Where a controller comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerSource {
    /// libxl's device model, by this version.
    DeviceModel(UsbVersion),
    /// The device model, only when the guest boots: `usbversion = 2` of xl's older keys.
    AtBoot,
    /// The device model, over its monitor: libxl has no name for it.
    Monitor,
    /// A PVUSB backend.
    Pvusb,
}

impl fmt::Display for ControllerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControllerSource::DeviceModel(version) => write!(f, "device model, version {version}"),
            ControllerSource::AtBoot => f.write_str("at boot"),
            ControllerSource::Monitor => f.write_str("through QMP"),
            ControllerSource::Pvusb => f.write_str("PVUSB"),
        }
    }
}

/// Where a guest gets a controller of the model from; `None` if it cannot have one. Emulated
/// controllers need a hardware-assisted guest.
pub fn controller_source(model: Model) -> Option<ControllerSource> {
    match (naming::names(model).libxl, model) {
        (Some(naming::LIBXL_PV), _) => Some(ControllerSource::Pvusb),
        (Some(_), _) => Some(ControllerSource::DeviceModel(model.usbversion())),
        (None, Model::Ich9Ehci1) => Some(ControllerSource::AtBoot),
        (None, Model::Piix4Uhci | Model::QemuXhci) => Some(ControllerSource::Monitor),
        (None, _) => None,
    }
}

/// Why there is no controller of protocol version 3.
pub(super) const NO_VERSION_3: &str = "the PVUSB protocol (usbif.h) has no version 3";

/// What Xen can do with the model. `served` is whether a vusb-backend answers in domain 0.
pub(crate) fn support(model: Model, served: bool) -> Support {
    let no = |why: &str| Support::Unsupported { why: why.to_owned() };
    match controller_source(model) {
        None if model.controller_type() == ControllerType::Pv => no(NO_VERSION_3),
        None => no("libxl's device model does not offer it"),
        Some(ControllerSource::Pvusb) if served => Support::Hot,
        Some(ControllerSource::Pvusb) => {
            no("no vusb-backend answers in domain 0; start it with `systemctl start vusb-backend`")
        }
        Some(_) if qemu::hot_pluggable(model) => Support::Hot,
        Some(_) => Support::Cold { why: "it can only be added when the guest starts".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_has_its_source() {
        assert_eq!(
            controller_source(Model::Ehci),
            Some(ControllerSource::DeviceModel(UsbVersion::V2))
        );
        assert_eq!(controller_source(Model::Ich9Ehci1), Some(ControllerSource::AtBoot));
        assert_eq!(controller_source(Model::QemuXhci), Some(ControllerSource::Monitor));
        assert_eq!(controller_source(Model::Piix4Uhci), Some(ControllerSource::Monitor));
        assert_eq!(controller_source(Model::Xenusb3), None);
        assert_eq!(controller_source(Model::PciOhci), None);
    }

    #[test]
    fn support_depends_on_the_source_and_the_backend() {
        assert_eq!(support(Model::Xenusb2, true), Support::Hot);
        let why = |support| match support {
            Support::Unsupported { why } | Support::Cold { why } => why,
            other => panic!("{other:?}"),
        };
        assert!(why(support(Model::Xenusb2, false)).contains("no vusb-backend answers"));
        assert!(matches!(support(Model::Ich9Ehci1, true), Support::Cold { .. }));
        assert!(why(support(Model::PciOhci, true)).contains("does not offer it"));
        assert_eq!(why(support(Model::Xenusb3, true)), NO_VERSION_3);
        assert_eq!(support(Model::NecXhci, false), Support::Hot);
    }
}
