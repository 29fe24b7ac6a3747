//! libxl's structures for a guest's USB, from whichever text they were read:
//! `libxl_device_usbctrl`, `libxl_device_usbdev` and the USB part of `libxl_domain_build_info`.

use std::ops::Range;

use vusb_model::guest::Guest;

use crate::config::{Field, ItemSource};
use crate::error::Problem;

/// A value and its position in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// Everything that a configuration contains about USB.
#[derive(Debug, Default)]
pub(crate) struct Usb {
    pub(crate) guest: Guest,
    pub(crate) ctrls: Vec<Ctrl>,
    pub(crate) devs: Vec<Dev>,
    pub(crate) boot: BootUsb,
    pub(crate) warnings: Vec<Problem>,
    /// Whether the text has a device without an address, which is not in `devs`.
    pub(crate) incomplete: bool,
}

/// The type of a controller: `libxl_usbctrl_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CtrlType {
    /// libxl decides.
    #[default]
    Auto,
    /// Paravirtual, served by the backend domain's kernel.
    Pv,
    /// Emulated by QEMU.
    Devicemodel,
    /// Paravirtual, served by QEMU.
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

    /// The type of this name. Like libxl, this ignores case.
    pub(crate) fn of_name(text: &str) -> Option<CtrlType> {
        CtrlType::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(text))
    }
}

/// A controller. A version or port count of 0 leaves the choice to libxl.
#[derive(Debug, Default)]
pub(crate) struct Ctrl {
    pub(crate) ctrl_type: CtrlType,
    /// Its number, if given. The default is the previous controller's number plus one.
    pub(crate) devid: Option<i64>,
    pub(crate) version: i64,
    pub(crate) ports: i64,
    /// The backend domain, unless that is domain 0.
    pub(crate) backend: Option<String>,
    pub(crate) source: ItemSource,
}

/// A host device.
#[derive(Debug)]
pub(crate) struct Dev {
    /// Whether `type=hostdev` is given.
    pub(crate) has_type: bool,
    pub(crate) hostbus: u8,
    pub(crate) hostaddr: u8,
    /// Why bus or address are probably not what the user meant.
    pub(crate) doubt: Option<String>,
    /// The controller's number; -1 if not given.
    pub(crate) ctrl: i64,
    /// The port; 0 if not given.
    pub(crate) port: i64,
    pub(crate) source: ItemSource,
}

impl Default for Dev {
    fn default() -> Self {
        let source = ItemSource::default();
        Dev { has_type: false, hostbus: 0, hostaddr: 0, doubt: None, ctrl: -1, port: 0, source }
    }
}

/// QEMU's boot controller (`-usb`, or the one that `usbversion` selects) and its devices. Only
/// HVM guests have one.
#[derive(Debug, Default)]
pub(crate) struct BootUsb {
    pub(crate) usb: Option<Spanned<bool>>,
    pub(crate) usbversion: Option<Spanned<i64>>,
    pub(crate) redirection: Option<Spanned<i64>>,
    pub(crate) spice: bool,
    /// `usbdevice` as a string.
    pub(crate) device: Option<Spanned<String>>,
    /// `usbdevice` as a list. libxl treats an empty list differently from no list.
    pub(crate) list: Option<Spanned<Vec<Spanned<String>>>>,
}

impl BootUsb {
    /// All values of `usbdevice`, in order.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Spanned<String>> {
        let list = self.list.iter().flat_map(|list| &list.value);
        self.device.iter().chain(list)
    }

    /// Whether QEMU is started with `-usb`.
    pub(crate) fn is_usb(&self) -> bool {
        self.usb.as_ref().is_some_and(|usb| usb.value) || self.devices().next().is_some()
    }

    /// The version, if given and not 0.
    pub(crate) fn version(&self) -> Option<&Spanned<i64>> {
        self.usbversion.as_ref().filter(|version| version.value != 0)
    }

    /// The number of redirected devices, if SPICE is enabled.
    pub(crate) fn redirected(&self) -> Option<&Spanned<i64>> {
        self.redirection.as_ref().filter(|count| self.spice && count.value != 0)
    }
}

/// The span of a field, or of the whole item if the field is not given.
pub(crate) fn span_of(source: &ItemSource, field: Field) -> Range<usize> {
    source.fields.get(&field).unwrap_or(&source.span).clone()
}
