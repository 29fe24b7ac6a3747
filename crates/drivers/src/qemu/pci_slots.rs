//! Checks that controllers can be added at the PCI addresses that are recorded for them.
//!
//! A recorded controller has to come back at the address that the guest knows. If the guest was
//! restarted on another machine or with more devices, the address may be taken or its bus may be
//! missing. This is checked before anything is changed.

use vusb_model::diff::Step;
use vusb_model::hardware::{Controller, PciAddress};
use vusb_model::remedy::{Reason, Remedy};

use super::scan::PciBus;
use crate::driver::Error;

/// Checks the steps in their order: a slot that one step frees is available to the next.
pub(super) fn check(buses: &[PciBus], steps: &[Step], by: &str) -> Result<(), Error> {
    let mut buses = buses.to_vec();
    for step in steps {
        match step {
            Step::RemoveController(controller) => {
                if let Some((bus, pci)) = slot_of(&mut buses, controller) {
                    bus.occupied.retain(|(slot, _)| *slot != pci.slot);
                }
            }
            Step::AddController(controller) => occupy(&mut buses, controller, by)?,
            Step::Plug(..) | Step::Unplug(..) => {}
        }
    }
    Ok(())
}

/// The controller's bus and its address there, if both are known.
fn slot_of<'b, 'c>(
    buses: &'b mut [PciBus],
    controller: &'c Controller,
) -> Option<(&'b mut PciBus, &'c PciAddress)> {
    let pci = controller.pci.as_ref()?;
    let bus = buses.iter_mut().find(|bus| bus.name == pci.bus)?;
    Some((bus, pci))
}

fn occupy(buses: &mut [PciBus], controller: &Controller, by: &str) -> Result<(), Error> {
    let Some(pci) = &controller.pci else { return Ok(()) };
    let name = &controller.name;
    let what =
        || format!("adding controller {name} ({}) at its PCI address {pci}", controller.model);
    let reason = |text: String| {
        Reason::from(text).remedy(Remedy::ReplaceController { controller: name.clone() })
    };
    let Some((bus, _)) = slot_of(buses, controller) else {
        let why = format!("this machine has no PCI bus {}", pci.bus);
        return Err(Error::Failed { what: what(), why: reason(why) });
    };
    if let Some(occupant) = bus.occupant(pci.slot) {
        let why = format!("the slot is taken by {occupant}");
        return Err(Error::Failed { what: what(), why: reason(why) });
    }
    if !bus.hotplug {
        let why = format!(
            "bus {} does not support hot plug; start the guest with the controller",
            pci.bus
        );
        return Err(Error::NotImplemented { what: what(), by: by.to_owned(), why: reason(why) });
    }
    bus.occupied.push((pci.slot, name.to_string()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use vusb_model::models::{Model, RootPorts};

    use super::*;

    fn controller(name: &str, bus: &str, slot: u8) -> Controller {
        let ports = RootPorts::uniform(Model::Ehci, 6.try_into().unwrap());
        let index = "0".parse().unwrap();
        let mut controller = Controller::new(index, name.parse().unwrap(), Model::Ehci, ports);
        controller.pci = Some(PciAddress { bus: bus.to_owned(), slot, function: 0 });
        controller
    }

    fn checked(steps: &[Step]) -> Result<(), String> {
        let bus = |name: &str, hotplug| PciBus {
            name: name.to_owned(),
            hotplug,
            occupied: vec![(3, "balloon".to_owned())],
        };
        let buses = [bus("pcie.0", false), bus("pci.0", true)];
        check(&buses, steps, "QEMU").map_err(|error| {
            let replace = Remedy::ReplaceController { controller: "a".parse().unwrap() };
            assert_eq!(error.remedies(), [replace]);
            error.to_string()
        })
    }

    #[test]
    fn a_slot_has_to_be_free_and_its_bus_has_to_support_hot_plug() {
        let add = |bus: &str, slot| checked(&[Step::AddController(controller("a", bus, slot))]);
        assert_eq!(add("pci.0", 2), Ok(()));
        assert!(add("pci.0", 3).unwrap_err().contains("the slot is taken by balloon"));
        assert!(add("pcie.0", 2).unwrap_err().contains("pcie.0 does not support hot plug"));
        assert!(add("pci.1", 2).unwrap_err().contains("no PCI bus pci.1"));
    }

    #[test]
    fn steps_free_and_occupy_slots() {
        let (add, remove) = (Step::AddController, Step::RemoveController);
        let a = || controller("a", "pci.0", 3);
        assert_eq!(checked(&[remove(controller("b", "pci.0", 3)), add(a())]), Ok(()));
        assert!(checked(&[remove(controller("b", "pci.0", 2)), add(a())]).is_err());
        assert!(checked(&[remove(controller("b", "pcie.0", 3)), add(a())]).is_err());
        let both = [add(controller("c", "pci.0", 5)), add(controller("a", "pci.0", 5))];
        assert!(checked(&both).unwrap_err().contains("the slot is taken by c"));
    }
}
