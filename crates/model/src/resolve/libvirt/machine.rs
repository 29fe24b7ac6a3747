//! What libvirt knows about a QEMU machine: its default controller, and the model of a controller
//! that requests none.
//!
//! Sources: libvirt 11.3, `qemu/qemu_postparse.c` (defaults), `qemu/qemu_domain.c` (which names
//! belong to which machine).

use crate::capabilities::{Capabilities, Support};
use crate::guest::Guest;
use crate::models::Model;

/// A guest's machine, by architecture (libvirt's `virArch`) and name (QEMU's).
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine<'a> {
    arch: &'a str,
    name: &'a str,
}

/// The model of a controller that requests none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DefaultModel {
    /// This model.
    Model(Model),
    /// libvirt's model `none`: there is no controller.
    NoController,
    /// QEMU has none of the possible models, or libvirt leaves the model open (s390).
    Unknown,
}

impl<'a> Machine<'a> {
    pub(super) fn of(guest: &'a Guest) -> Machine<'a> {
        Machine { arch: guest.arch(), name: guest.machine.as_deref().unwrap_or_default() }
    }

    /// For a sentence: `a pc-q35-7.2 machine (x86_64)`.
    pub(super) fn describe(self) -> String {
        let name = if self.name.is_empty() { "default" } else { self.name };
        format!("a {name} machine ({})", self.arch)
    }

    fn is_x86(self) -> bool {
        matches!(self.arch, "x86_64" | "i686" | "i386")
    }

    pub(super) fn is_q35(self) -> bool {
        self.is_x86() && (self.name == "q35" || self.name.starts_with("pc-q35"))
    }

    /// A machine without a name is QEMU's default, an i440fx.
    pub(super) fn is_i440fx(self) -> bool {
        let prefixes = ["pc-0.", "pc-1.", "pc-i440", "rhel"];
        self.is_x86()
            && (matches!(self.name, "" | "pc")
                || prefixes.iter().any(|prefix| self.name.starts_with(prefix)))
    }

    fn is_s390(self) -> bool {
        matches!(self.arch, "s390" | "s390x")
    }

    /// Whether its default keyboard and mouse are on USB: rule 8.
    pub(super) fn has_usb_keyboard(self) -> bool {
        matches!(self.arch, "ppc64" | "ppc64le")
    }

    /// Whether it can have a controller at all. libvirt knows no PCI bus on the other machines and
    /// refuses any controller there.
    pub(super) fn has_pci(self) -> bool {
        !(self.is_x86() && self.name == "isapc" || matches!(self.arch, "sparc" | "m68k"))
    }

    /// Rule 4: the model of its default controller. `Some(None)` leaves the model to rule 5; `None`
    /// means that there is no default controller.
    pub(super) fn default_controller(self, capabilities: &Capabilities) -> Option<Option<Model>> {
        match self.arch {
            _ if !self.has_pci() => None,
            _ if self.is_q35() => {
                first([Model::QemuXhci, Model::NecXhci, Model::Ich9Ehci1], capabilities).map(Some)
            }
            _ if self.is_x86() => Some(None),
            "aarch64" | "armv6l" | "armv7l" | "armv7b"
                if self.name == "versatilepb" || self.name.starts_with("realview") =>
            {
                Some(Some(Model::PciOhci))
            }
            "alpha" | "ppc" | "ppcemb" | "ppc64" | "ppc64le" | "sh4" | "sh4eb" | "sparc64" => {
                Some(None)
            }
            arch if arch.starts_with("mips") => Some(None),
            _ => None,
        }
    }

    /// Rule 5: the model of a controller that requests none. `addressed` is whether it requests a
    /// PCI address.
    pub(super) fn default_model(
        self,
        addressed: bool,
        capabilities: &Capabilities,
    ) -> DefaultModel {
        use Model::{NecXhci, PciOhci, Piix3Uhci, QemuXhci};
        let common: &[Model] = if self.is_x86() { &[Piix3Uhci] } else { &[Piix3Uhci, PciOhci] };
        let common = || first(common.iter().copied(), capabilities);
        let model = match self.arch {
            // With an address libvirt leaves the model open and fails only when the guest starts.
            _ if self.is_s390() && !addressed => return DefaultModel::NoController,
            _ if self.is_s390() => None,
            "ppc64" | "ppc64le" => first([QemuXhci, NecXhci, PciOhci], capabilities),
            "aarch64" => first([QemuXhci, NecXhci], capabilities).or_else(common),
            "loongarch64" => first([QemuXhci], capabilities).or_else(common),
            _ => common(),
        };
        model.map_or(DefaultModel::Unknown, DefaultModel::Model)
    }
}

/// The first of `models` that the QEMU binary has.
fn first(models: impl IntoIterator<Item = Model>, capabilities: &Capabilities) -> Option<Model> {
    models.into_iter().find(|model| {
        let support = capabilities.models.get(model);
        support.is_some_and(|support| !matches!(support, Support::Unsupported { .. }))
    })
}
