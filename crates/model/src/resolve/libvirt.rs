//! What libvirt 11.3 fills in, for guests of QEMU and of Xen: a guest that comes from there sees no change.
//!
//! ```text
//!   controllers as the XML has them ─▶ indexes ─▶ groups ─▶ default controller ─▶ models ─▶ PCI
//!   devices as the XML has them ─▶ the machine's own ─▶ hubs for more ports ─▶ ports
//! ```
//!
//! # The rules of `libvirt`
//!
//! These never change; golden files hold them. The numbers are libvirt 11.3's, where a file is named it is one of its `src/`.
//!
//! 1. **Order**: controllers by index; where the index is the same, an EHCI before its companions; one without an index where
//!    it is said (`conf/domain_conf.c`).
//! 2. **Index**: the lowest that nobody has or claims. An ICH9 controller takes that of the controller just before it, if that
//!    is an ICH9 one too and there is none of its own model at that index yet.
//! 3. **Companions**: what has a first port, and each ich9-uhci, belongs to the EHCI at its index. ich9-uhci1, 2 and 3 have
//!    the first ports 0, 2 and 4 unless said. An EHCI has none but those; only who says `usbversion` 2, and no model, gets all.
//! 4. **A default controller** at index 0, if nothing is there: by the machine, see the table. An ich9-ehci1 that is added so
//!    has all of its companions.
//! 5. **A model that is left open**: piix3-uhci if QEMU has it, else pci-ohci outside x86. But ppc64: qemu-xhci, else nec-xhci,
//!    else pci-ohci; aarch64: qemu-xhci, else nec-xhci, if there is one of them; loongarch64: qemu-xhci, if there is; s390:
//!    none, which is no controller.
//! 6. **Ports**: 2 for a UHCI, 3 for an OHCI, 6 for an EHCI, and for an xHCI 4 or as said, 1 to 15. With `ports` 0 an xHCI is
//!    no bus: nothing can be plugged in, and it is left out.
//! 7. **PCI**: a group sits in the slot that any of its members says, the EHCI at function 7. piix3-uhci at index 0 of i440fx
//!    is at 1.2. On q35 the first group that says nothing is in slot 1d, the second in 1a. All else is open.
//! 8. **The machine's own devices**: ppc64 with a screen has a keyboard, and a mouse if there is no tablet.
//! 9. **Hubs** are added if there are more devices (hubs are such) than ports (hubs' ports are such): for `n` more,
//!    `(n + 1) / 7`, rounded up. A hub has 8 ports and takes one; one stays free. That some of them may end up where nothing
//!    fits (too deep, or on another controller than a device insists on) is not looked at: libvirt refuses such a guest, and
//!    so does this.
//! 10. **Turns**: hubs with a port, in the order of the spec, so that a hub comes before what is behind it; all others with a
//!     port; hubs without a port, the added ones last; all others. What is no hub goes by kind: disks, network cards, sound
//!     cards, host devices, smart card readers, serial adapters, tablets with mice and keyboards, media players, redirected
//!     ones, unknown ones.
//! 11. **Port**: the lowest free one of the controller that is named, or of the lowest index that has one; then those of its
//!     hubs, depth first, to the fourth level. A port without a controller is one of index 0.
//! 12. **Names**: `usb` for index 0, `usbN` for index N, and if that is taken the first `usbN` from 1 that is free; `hubN`,
//!     `inputN`, `hostdevN`, `redirN`, `usb-diskN`, `netN`, `soundN`, `serialN`, `fsN`, `ccidN`, `otherN`, N the lowest that
//!     is free, in the order of the spec.
//!
//! | machine | default controller |
//! |---|---|
//! | x86: q35 | qemu-xhci, else nec-xhci, else the ICH9 group; none if QEMU has none of them |
//! | x86: isapc | none, and none can be had: it has no PCI |
//! | x86: all others | one without a model |
//! | arm, aarch64: versatilepb, realview* | pci-ohci |
//! | ppc64, ppc64le, ppc, ppcemb, alpha, sh4, sh4eb, sparc64, mips* | one without a model |
//! | all others: aarch64 virt, riscv64, loongarch64, s390x, ... | none |
//!
//! **On top of a base** the base stays as it is and counts as said: the default controller and hubs are added only where base
//! and spec together lack them. A guest that runs gets neither: libvirt adds none when it plugs something in.
//!
//! # Where it is not libvirt to the letter
//!
//! * libvirt minds no speeds. A place that QEMU would refuse (a full-speed device on an EHCI without companions) is refused
//!   here at once, where libvirt only finds out when the guest starts. So is what libvirt itself refuses no sooner: a model
//!   that QEMU lacks, a companion without its EHCI, a number of ports for what is no xHCI, a bus that is not there or full.
//! * Each guest is as one that is defined anew. (libvirt gives a ppc64 guest that it has known for long a pci-ohci where rule
//!   5 has an xHCI.)
//! * A number of ports for what is no xHCI is refused, but not the number that it has: it changes nothing.
//! * Companions are kept by first port and not in the order of the XML, which no guest can see. All of a group is in one PCI
//!   slot here, and a companion is never added to an EHCI that the base has.
//! * A network card without an address gets one as in `vusb-1` (libvirt takes a random one).
//! * Other tools' unknown devices ([`Kind::Other`](crate::device::Kind::Other)) are placed and kept.
//!
//! Xen's guests have rules of their own: the module `xen` has them.

mod controllers;
mod devices;
mod machine;
mod names;
mod pci;
mod sentences;
mod xen;

pub use names::stem;

use super::controllers::Slots;
use super::{Refused, Resolved, twice};
use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::spec::Spec;

pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    let mut hardware = base.clone();
    hardware.reserve(spec.controllers.len() + spec.devices.len());
    let mut slots = Slots::new(capabilities);
    let mut names = names::Names::new(spec);
    // Of two controllers at one index, whose names come of it, it is the index that is said to be wrong.
    let asked = controllers::settle(base, &mut hardware, spec, &mut slots, &mut names)?;
    twice::names(spec)?;
    let placed = devices::settle(base, &mut hardware, spec, &mut slots, &mut names)?;
    Ok(Resolved {
        hardware,
        controllers: asked.settled,
        devices: placed.settled,
        added: asked.added.into_iter().chain(placed.controllers).collect(),
        added_devices: placed.added,
    })
}
