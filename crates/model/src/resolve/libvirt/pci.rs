//! Where libvirt puts controllers on PCI, as far as it is the same for every guest: rule 7.
//!
//! ```text
//!   i440fx   00:01.2             piix3-uhci at index 0: a function of the board's own PIIX3
//!   q35      00:1d.0,1,2,7       the first ICH9 group that says no slot: as on the real board
//!            00:1a.0,1,2,7       the second
//! ```
//!
//! The rest libvirt puts into slots that depend on all the other devices of the guest, which are not known here: those stay open
//! until the guest has started once.

use std::collections::HashSet;

use super::machine::Machine;
use crate::address::Index;
use crate::guest::{Guest, Hypervisor};
use crate::hardware::{Controller, Hardware, PciAddress};
use crate::models::{CompanionModel, ICH9_EHCI_FUNCTION, Model};
use crate::refusal::Refusal;
use crate::resolve::{Asked, Refused};
use crate::spec::{ControllerSpec, Spec};

/// QEMU's names of the bus 0 of i440fx and of q35.
const PCI: &str = "pci.0";
const PCIE: &str = "pcie.0";

/// Where q35 has its ICH9 groups: devices 29 and 26 of bus 0 (ICH9 datasheet, section 5.1.8; libvirt's
/// `qemu/qemu_domain_address.c`).
const ICH9_SLOTS: [u8; 2] = [0x1d, 0x1a];

/// The places that are still to be had.
pub(super) struct Places<'a> {
    guest: &'a Guest,
    /// Of bus 0, the slots that a controller of base or spec is in.
    slots: HashSet<u8>,
}

impl<'a> Places<'a> {
    pub(super) fn new(guest: &'a Guest, base: &Hardware, spec: &Spec) -> Places<'a> {
        let there = base.controllers().filter_map(|controller| controller.pci.as_ref());
        let said = spec.controllers.iter().filter_map(|spec| spec.pci.as_ref());
        let slots = there.chain(said).filter(|pci| pci.bus == PCIE).map(|pci| pci.slot).collect();
        Places { guest, slots }
    }

    /// Where a new controller sits, if that is known. `spec` is its own, `companions` are those of its companions.
    pub(super) fn place(
        &mut self,
        controller: &Controller,
        spec: &ControllerSpec,
        asked: Option<Asked>,
        companions: &[(Asked, &ControllerSpec)],
    ) -> Result<Option<PciAddress>, Refused> {
        let of_group = group_slot(spec, companions)?;
        let machine = Machine::of(self.guest);
        let on_qemu = self.guest.hypervisor != Hypervisor::Xen;
        let first = controller.index == Index::ZERO && controller.model == Model::Piix3Uhci;
        if on_qemu && machine.is_i440fx() && first {
            return piix3(controller, of_group)
                .map(Some)
                .map_err(|refusal| Refused { refusal, asked });
        }
        let has_uhci1 =
            controller.companions.iter().any(|it| it.model == CompanionModel::Ich9Uhci1);
        if of_group.is_none() && on_qemu && machine.is_q35() && has_uhci1 {
            let free = ICH9_SLOTS.into_iter().find(|slot| self.slots.insert(*slot));
            return Ok(free.map(|slot| ehci(PCIE.to_owned(), slot)));
        }
        Ok(of_group)
    }
}

/// The address of the EHCI of a group, which is in the slot that any of its members says.
fn group_slot(
    spec: &ControllerSpec,
    companions: &[(Asked, &ControllerSpec)],
) -> Result<Option<PciAddress>, Refused> {
    let mut known = spec.pci.clone();
    for (asked, companion) in companions {
        let Some(said) = &companion.pci else { continue };
        let place = known.get_or_insert_with(|| ehci(said.bus.clone(), said.slot));
        if (&place.bus, place.slot) != (&said.bus, said.slot) {
            let model = companion.model.unwrap_or(Model::Ich9Uhci1);
            let why = "it is in another PCI slot than the rest of its group";
            return Err(Refused::of(*asked, Refusal::Companions { model, why }));
        }
    }
    Ok(known)
}

const fn ehci(bus: String, slot: u8) -> PciAddress {
    PciAddress { bus, slot, function: ICH9_EHCI_FUNCTION }
}

/// The board's own place for its UHCI, if nothing else is said.
fn piix3(controller: &Controller, said: Option<PciAddress>) -> Result<PciAddress, Refusal> {
    let must = PciAddress { bus: PCI.to_owned(), slot: 1, function: 2 };
    match said.filter(|said| *said != must) {
        None => Ok(must),
        Some(said) => {
            let refusal = Refusal::PciPlace {
                model: controller.model,
                index: controller.index.get(),
                asked: said.to_string(),
                why: "it is a part of the board, at pci.0/01.2",
            };
            Err(refusal
                .libvirt_says("PIIX3 USB controller at index 0 must have PCI address 0:0:1.2"))
        }
    }
}
