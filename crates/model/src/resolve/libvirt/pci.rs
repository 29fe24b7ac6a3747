//! The PCI addresses that libvirt gives to controllers in every guest: rule 7.
//!
//! ```text
//!   i440fx   00:01.2             piix3-uhci at index 0: a function of the board's own PIIX3
//!   q35      00:1d.0,1,2,7       the first ICH9 group that requests no slot: as on the real board
//!            00:1a.0,1,2,7       the second
//! ```
//!
//! The slots of all other controllers depend on the guest's other devices, which are unknown here.
//! They stay open until the guest has started once.

use std::collections::HashSet;

use super::machine::Machine;
use super::messages::LibvirtSays as _;
use crate::address::Index;
use crate::hardware::{Controller, Hardware, PciAddress};
use crate::models::{CompanionModel, ICH9_EHCI_FUNCTION, Model};
use crate::refusal::Refusal;
use crate::resolve::{Refused, RequestedItem};
use crate::spec::{ControllerSpec, Spec};

/// QEMU's names of bus 0 of an i440fx and of a q35.
const PCI: &str = "pci.0";
const PCIE: &str = "pcie.0";

/// The slots of q35's ICH9 groups: devices 29 and 26 of bus 0 (ICH9 datasheet, section 5.1.8;
/// libvirt's `qemu/qemu_domain_address.c`).
const ICH9_SLOTS: [u8; 2] = [0x1d, 0x1a];

/// Allocates the slots of a QEMU guest.
pub(super) struct PciSlots {
    /// The slots of bus 0 that controllers of the base or of the spec occupy.
    used: HashSet<u8>,
}

impl PciSlots {
    pub(super) fn new(base: &Hardware, spec: &Spec) -> PciSlots {
        let present = base.controllers().filter_map(|controller| controller.pci.as_ref());
        let requested = spec.controllers.iter().filter_map(|spec| spec.pci.as_ref());
        let on_bus_0 = present.chain(requested).filter(|pci| pci.bus == PCIE);
        PciSlots { used: on_bus_0.map(|pci| pci.slot).collect() }
    }

    /// The address of a new controller, if it is known.
    pub(super) fn address(
        &mut self,
        machine: Machine<'_>,
        controller: &Controller,
        requested: Option<PciAddress>,
    ) -> Result<Option<PciAddress>, Refused> {
        let is_first = controller.index == Index::ZERO && controller.model == Model::Piix3Uhci;
        if machine.is_i440fx() && is_first {
            return piix3_address(controller, requested).map(Some);
        }
        let is_group = controller.companions.iter().any(|it| it.model == CompanionModel::Ich9Uhci1);
        if requested.is_none() && machine.is_q35() && is_group {
            let free = ICH9_SLOTS.into_iter().find(|slot| self.used.insert(*slot));
            return Ok(free.map(|slot| ehci_address(PCIE.to_owned(), slot)));
        }
        Ok(requested)
    }
}

/// The requested address of the EHCI of a group: in the slot that any member of the group requests.
pub(super) fn group_address(
    spec: &ControllerSpec,
    companions: &[(RequestedItem, &ControllerSpec)],
) -> Result<Option<PciAddress>, Refused> {
    let mut group = spec.pci.clone();
    for (item, companion) in companions {
        let Some(requested) = &companion.pci else { continue };
        let address =
            group.get_or_insert_with(|| ehci_address(requested.bus.clone(), requested.slot));
        if (&address.bus, address.slot) != (&requested.bus, requested.slot) {
            let model = companion.model.unwrap_or(Model::Ich9Uhci1);
            let why = "it is not in the same PCI slot as the rest of its group";
            return Err(Refused::of(*item, Refusal::Companions { model, why }));
        }
    }
    Ok(group)
}

const fn ehci_address(bus: String, slot: u8) -> PciAddress {
    PciAddress { bus, slot, function: ICH9_EHCI_FUNCTION }
}

/// The address of the board's own UHCI, which is fixed.
fn piix3_address(
    controller: &Controller,
    requested: Option<PciAddress>,
) -> Result<PciAddress, Refused> {
    let fixed = PciAddress { bus: PCI.to_owned(), slot: 1, function: 2 };
    match requested.filter(|requested| *requested != fixed) {
        None => Ok(fixed),
        Some(requested) => {
            let refusal = Refusal::PciAddress {
                model: controller.model,
                index: controller.index.get(),
                requested: requested.to_string(),
                why: "it is part of the board, at pci.0/01.2",
            };
            Err(refusal
                .libvirt_says("PIIX3 USB controller at index 0 must have PCI address 0:0:1.2"))
        }
    }
}
