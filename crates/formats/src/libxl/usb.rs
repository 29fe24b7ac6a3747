//! What libxl's structures say of a guest's USB, from whichever text they were read: `libxl_device_usbctrl`, `libxl_device_usbdev`, and what of
//! `libxl_domain_build_info` is about USB.

use std::ops::Range;

use vusb_model::guest::Guest;

use crate::config::{Field, Place};
use crate::error::Problem;

/// A value, and where it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Usb {
    pub(crate) guest: Guest,
    pub(crate) ctrls: Vec<Ctrl>,
    pub(crate) devs: Vec<Dev>,
    pub(crate) own: Own,
    pub(crate) warnings: Vec<Problem>,
}

/// What sort of controller: `libxl_usbctrl_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CtrlType {
    /// libxl decides.
    #[default]
    Auto,
    /// Paravirtual, by the kernel.
    Pv,
    /// Emulated by QEMU.
    Devicemodel,
    /// Paravirtual, by QEMU.
    Qusb,
}

impl CtrlType {
    pub(crate) const ALL: [CtrlType; 4] =
        [CtrlType::Auto, CtrlType::Pv, CtrlType::Devicemodel, CtrlType::Qusb];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            CtrlType::Auto => "auto",
            CtrlType::Pv => "pv",
            CtrlType::Devicemodel => "devicemodel",
            CtrlType::Qusb => "qusb",
        }
    }

    /// The type that a text names, in capitals or not, as libxl reads it.
    pub(crate) fn of_name(text: &str) -> Option<CtrlType> {
        CtrlType::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text))
    }
}

/// A controller. A number of 0 leaves the choice to libxl.
#[derive(Debug, Default)]
pub(crate) struct Ctrl {
    pub(crate) kind: CtrlType,
    /// Its number, where the text has one; else it is one more than the last.
    pub(crate) devid: Option<i64>,
    pub(crate) version: i64,
    pub(crate) ports: i64,
    /// The domain whose devices it carries, where that is not domain 0.
    pub(crate) backend: Option<String>,
    pub(crate) place: Place,
}

/// A host device.
#[derive(Debug)]
pub(crate) struct Dev {
    /// Whether `type=hostdev` is said.
    pub(crate) typed: bool,
    pub(crate) hostbus: u8,
    pub(crate) hostaddr: u8,
    /// Why bus or address is another number than stands there.
    pub(crate) doubt: Option<String>,
    /// The controller's number; -1 leaves it open.
    pub(crate) ctrl: i64,
    /// The port; 0 leaves it open.
    pub(crate) port: i64,
    pub(crate) place: Place,
}

impl Default for Dev {
    fn default() -> Self {
        let place = Place::default();
        Dev { typed: false, hostbus: 0, hostaddr: 0, doubt: None, ctrl: -1, port: 0, place }
    }
}

/// The controller that QEMU is started with, and what is on it. For an HVM guest alone.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) usb: Option<Said<bool>>,
    pub(crate) usbversion: Option<Said<i64>>,
    pub(crate) redirection: Option<Said<i64>>,
    pub(crate) spice: bool,
    /// `usbdevice` as a text.
    pub(crate) device: Option<Said<String>>,
    /// `usbdevice` as a list. An empty one is something else than none.
    pub(crate) list: Option<Said<Vec<Said<String>>>>,
}

impl Own {
    /// All that `usbdevice` names, in its order.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Said<String>> {
        let list = self.list.iter().flat_map(|list| &list.value);
        self.device.iter().chain(list)
    }

    /// Whether QEMU is started with `-usb`.
    pub(crate) fn is_usb(&self) -> bool {
        self.usb.as_ref().is_some_and(|usb| usb.value) || self.devices().next().is_some()
    }

    /// The version that is said, and not 0.
    pub(crate) fn version(&self) -> Option<&Said<i64>> {
        self.usbversion.as_ref().filter(|version| version.value != 0)
    }

    /// How many redirected devices there are, where SPICE carries them.
    pub(crate) fn redirected(&self) -> Option<&Said<i64>> {
        self.redirection.as_ref().filter(|count| self.spice && count.value != 0)
    }
}

/// Where a value of something is said, or else all of it.
pub(crate) fn at(place: &Place, field: Field) -> Range<usize> {
    place.fields.get(&field).unwrap_or(&place.span).clone()
}
