//! Whether the PCI addresses that controllers are to have can be had.
//!
//! A controller that was recorded comes back at the address that the guest knows it by. After a restart on another machine, or with
//! more devices, that address may be somebody else's or its bus gone; that is found out here, before anything is touched.

use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, PciAddress};

use super::scan::PciBus;
use crate::driver::Error;

/// Goes through the steps in their order: what one removes, the next may take.
pub(super) fn check(buses: &[PciBus], steps: &[Step], by: &str) -> Result<(), Error> {
    let mut buses = buses.to_vec();
    for step in steps {
        match step {
            Step::RemoveController(controller) => {
                if let Some((bus, pci)) = place(&mut buses, controller) {
                    bus.taken.retain(|(slot, _)| *slot != pci.slot);
                }
            }
            Step::AddController(controller) => add(&mut buses, controller, by)?,
            Step::Plug(..) | Step::Unplug(..) => {}
        }
    }
    Ok(())
}

fn place<'b, 'c>(
    buses: &'b mut [PciBus],
    controller: &'c Controller,
) -> Option<(&'b mut PciBus, &'c PciAddress)> {
    let pci = controller.pci.as_ref()?;
    let bus = buses.iter_mut().find(|bus| bus.name == pci.bus)?;
    Some((bus, pci))
}

fn add(buses: &mut [PciBus], controller: &Controller, by: &str) -> Result<(), Error> {
    let Some(pci) = &controller.pci else { return Ok(()) };
    let name = &controller.name;
    let what =
        || format!("adding controller {name} ({}) at its PCI address {pci}", controller.model);
    let again = format!(
        "`vusb controller remove {name} --force` and add it again, at an address that is free"
    );
    let Some((bus, _)) = place(buses, controller) else {
        let why = format!(
            "this machine has no PCI bus {}; start the guest on a machine that has, or {again}",
            pci.bus
        );
        return Err(Error::Failed { what: what(), why });
    };
    if let Some(holder) = bus.holder(pci.slot) {
        let why = format!("{holder} is there; start the guest with that slot free, or {again}");
        return Err(Error::Failed { what: what(), why });
    }
    if !bus.hot {
        let why = format!(
            "bus {} takes no hot plug; start the guest with the controller, or {again}",
            pci.bus
        );
        return Err(Error::NotImplemented { what: what(), by: by.to_owned(), why });
    }
    bus.taken.push((pci.slot, name.to_string()));
    Ok(())
}
