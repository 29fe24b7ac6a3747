//! What libvirt 11.3 fills in, for QEMU and Xen guests: a guest that comes from libvirt sees
//! no change.
//!
//! ```text
//!   controllers as in the XML ─▶ indexes ─▶ groups ─▶ default controller ─▶ models ─▶ PCI
//!   devices as in the XML ─▶ default devices of the machine ─▶ hubs for more ports ─▶ ports
//! ```
//!
//! The steps are the same for both hypervisors. Where they differ, a `Platform` decides: `qemu`
//! or `xen`.
//!
//! # The rules of `libvirt`
//!
//! These rules never change; golden files enforce them. They are the rules for QEMU; those for Xen
//! are in the module `xen`. All numbers are libvirt 11.3's, and the files named are in its `src/`.
//!
//! 1. **Order**: controllers by index; at the same index, an EHCI before its companions; one
//!    without an index stays at its position in the XML (`conf/domain_conf.c`).
//! 2. **Index**: the lowest that is neither in use nor requested. An ICH9 controller joins the
//!    controller just before it if that is an ICH9 one too and no controller of its own model has
//!    that index yet.
//! 3. **Companions**: a controller with a first port, and every ich9-uhci, belongs to the EHCI at
//!    its index. The default first ports of ich9-uhci1, 2 and 3 are 0, 2 and 4. An EHCI has no
//!    other companions, unless a request has `usbversion` 2 and no model: that EHCI gets all three.
//! 4. **A default controller** at index 0, if there is nothing at that index: by machine, see the
//!    table. A default ich9-ehci1 has all of its companions.
//! 5. **No model**: piix3-uhci if QEMU has it, else pci-ohci except on x86. Exceptions: ppc64 gets
//!    qemu-xhci, else nec-xhci, else pci-ohci; aarch64 gets qemu-xhci, else nec-xhci, if QEMU has
//!    one of them; loongarch64 gets qemu-xhci if QEMU has it; s390 gets model `none`, which is not
//!    a controller.
//! 6. **Ports**: 2 for a UHCI, 3 for an OHCI, 6 for an EHCI. An xHCI has 4, or 1 to 15 on request;
//!    one with 0 ports has no bus: nothing can be plugged in, and it is left out.
//! 7. **PCI**: a group is in the slot that any of its members requests, the EHCI at function 7.
//!    piix3-uhci at index 0 of an i440fx is at 1.2. On q35 the first group that requests no slot is
//!    in slot 1d, the second in 1a. All others stay open.
//! 8. **Default devices**: ppc64 with a screen has a keyboard, and a mouse unless it has a tablet.
//! 9. **Hubs** are added if there are more devices (hubs included) than ports (those of hubs
//!    included): for `n` more devices, `(n + 1) / 7` hubs, rounded up. A hub has 8 ports and
//!    occupies one, and one port stays free. It is not checked whether an added hub ends up where
//!    no device fits (too deep, or on another controller than a device requests): libvirt refuses
//!    such a guest, and so do these rules.
//! 10. **Order of devices**: hubs with a port, in the order of the spec, so that a hub precedes the
//!     devices behind it; all others with a port; hubs without a port, the added ones last; all
//!     others. Those that are not hubs are ordered by kind: disks, network cards, sound cards, host
//!     devices, smart card readers, serial adapters, tablets together with mice and keyboards,
//!     media players, redirected devices, unknown ones.
//! 11. **Port**: the lowest free one of the requested controller, or of the lowest index with a
//!     free port; then those of its hubs, depth first, down to the fourth level. A port without a
//!     controller means a port of index 0.
//! 12. **Names**: `usb` for index 0, `usbN` for index N, and if that is taken the first free `usbN`
//!     from 1 on; `hubN`, `inputN`, `hostdevN`, `redirN`, `usb-diskN`, `netN`, `soundN`, `serialN`,
//!     `fsN`, `ccidN`, `otherN` with the lowest free N, in the order of the spec.
//!
//! | machine | default controller |
//! |---|---|
//! | x86: q35 | qemu-xhci, else nec-xhci, else the ICH9 group; none if QEMU has none of them |
//! | x86: isapc; sparc, m68k | none, and none can be added: libvirt knows no PCI bus there |
//! | x86: all others | one without a model |
//! | arm, aarch64: versatilepb, realview* | pci-ohci |
//! | ppc64, ppc64le, ppc, ppcemb, alpha, sh4, sh4eb, sparc64, mips* | one without a model |
//! | all others: aarch64 virt, riscv64, loongarch64, s390x, ... | none |
//!
//! **On top of a base** the base stays as it is and counts as requested: the default controller and
//! hubs are added only where base and spec together lack them. A running guest gets neither:
//! libvirt adds none on hotplug.
//!
//! # Differences from libvirt
//!
//! * libvirt does not check speeds. A port that QEMU would refuse (a full-speed device on an EHCI
//!   without companions) is refused here at once; with libvirt the guest fails to start. The same
//!   applies to what libvirt refuses only at the start: a model that QEMU lacks, a companion
//!   without its EHCI, a number of ports for a controller other than an xHCI, a bus that does not
//!   exist or is full.
//! * Every guest is treated as newly defined. (libvirt gives a ppc64 guest that was defined by an
//!   old version a pci-ohci where rule 5 has an xHCI.)
//! * A number of ports for a controller other than an xHCI is accepted if it is the number that the
//!   controller has.
//! * Companions are ordered by first port, not as in the XML: a guest cannot see their order. All
//!   members of a group are in one PCI slot, and a companion is never added to an EHCI of the base.
//! * A network card without an address gets one as in `vusb-1` (libvirt generates a random one).
//! * Unknown devices of other tools ([`Kind::Other`]) are placed and kept.

mod controllers;
mod devices;
mod machine;
mod messages;
mod names;
mod pci;
mod qemu;
mod xen;

pub use names::alias_prefix;

use super::controllers::{Context, Decided};
use super::{Refused, Resolved, duplicates};
use crate::address::Index;
use crate::capabilities::Capabilities;
use crate::device::Kind;
use crate::guest::Hypervisor;
use crate::hardware::{Controller, Hardware, PciAddress};
use crate::models::Model;
use crate::spec::{ControllerSpec, DeviceSpec, Spec};

/// What libvirt's driver for one hypervisor decides.
trait Platform {
    /// The default controllers of a guest that is not running. `indexes` are the indexes of the
    /// spec's controllers.
    fn default_controllers(
        &self,
        base: &Hardware,
        spec: &Spec,
        indexes: &[Index],
    ) -> Vec<ControllerSpec>;

    /// Model, ports and companions of a controller that is not a companion itself. `None` if
    /// libvirt does not treat the entry as a controller.
    fn decide(&self, spec: &ControllerSpec) -> Result<Option<Decided>, Refused>;

    /// Checks that the guest can have a controller of this model.
    fn check_available(&self, spec: &ControllerSpec, model: Model) -> Result<(), Refused>;

    /// The PCI address of a new controller, if it is known. `requested` is the address that the
    /// spec requests for it or its group.
    fn pci_address(
        &mut self,
        controller: &Controller,
        requested: Option<PciAddress>,
    ) -> Result<Option<PciAddress>, Refused>;

    /// The default devices of a guest that is not running. `has` tells whether the guest has a
    /// device whose kind satisfies a predicate.
    fn default_devices(&self, has: &dyn Fn(fn(&Kind) -> bool) -> bool) -> Vec<Kind>;

    /// Whether hubs are added if there are too few ports.
    fn adds_hubs(&self) -> bool;

    /// Checks that a guest without a controller can have a device of this kind.
    fn check_without_controller(&self, kind: &Kind) -> Result<(), Refused>;

    /// The controller for a device that the guest does not have yet; `None` leaves the choice to
    /// rule 11. `bus` is the controller that the device requests.
    fn controller_for(
        &mut self,
        device: &DeviceSpec,
        bus: Option<Index>,
        placement: &mut devices::Placement<'_, '_, '_>,
    ) -> Result<Option<Index>, Refused>;
}

/// Resolves a spec by the rules of this profile, for the hypervisor of the guest.
pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    match capabilities.guest.hypervisor {
        Hypervisor::Xen => resolve_on(&mut xen::Xen { capabilities }, base, spec, capabilities),
        Hypervisor::Qemu | Hypervisor::Vmware | Hypervisor::VirtualBox => {
            let mut qemu = qemu::Qemu::new(capabilities, base, spec);
            resolve_on(&mut qemu, base, spec, capabilities)
        }
    }
}

fn resolve_on(
    platform: &mut dyn Platform,
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    let mut hardware = base.clone();
    hardware.reserve(spec.controllers.len() + spec.devices.len());
    let mut context = Context::new(capabilities);
    let mut names = names::Names::new(spec);
    // Names are checked after the indexes: two controllers at one index also share a default name,
    // and the mistake to report is the index.
    let controllers =
        controllers::place(base, &mut hardware, spec, platform, &mut context, &mut names)?;
    duplicates::check_names(spec)?;
    let devices = devices::place(base, &mut hardware, spec, platform, &mut context, &mut names)?;
    Ok(Resolved {
        hardware,
        controllers: controllers.placed,
        devices: devices.placed,
        added: controllers.added.into_iter().chain(devices.controllers).collect(),
        added_devices: devices.added,
    })
}
