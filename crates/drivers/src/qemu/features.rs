//! Which controllers and devices this QEMU was built with, and which machine it runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vusb_model::capabilities::Support;
use vusb_model::models::Model;
use vusb_model::remedy::{Reason, Remedy};

use super::names::{self, hot_pluggable};
use super::scan::Pci;
use super::session::Session;
use crate::driver::Error;

/// The maximum number of drivers that are queried by name. For more, the lists of all USB and PCI
/// drivers are cheaper: a query by name costs QEMU 0.2 ms, and the two lists together cost 0.7 ms
/// (measured with version 7.2).
const MAX_QUERIES_BY_NAME: usize = 3;

/// The features that were queried so far. A driver that was not queried is assumed to be available:
/// if it is not, QEMU refuses the step.
#[derive(Clone, Debug, Default)]
pub(super) struct Features {
    /// Whether QEMU has a driver, by the driver's name.
    drivers: BTreeMap<String, bool>,
    /// The machine type, for instance `pc-i440fx-7.2`. Empty until it is queried.
    pub(super) machine: String,
    pub(super) pci: Pci,
}

impl Features {
    /// The features of a QEMU that has these controller drivers and no others.
    pub(super) fn of_drivers(drivers: &[String]) -> Features {
        let known = Model::ALL.into_iter().filter_map(names::controller_driver);
        let has = known.map(|driver| (driver.to_owned(), drivers.iter().any(|it| it == driver)));
        Features { drivers: has.collect(), ..Features::default() }
    }

    /// Queries the machine type, unless it is known already. It is only used in messages.
    pub(super) fn query_machine(&mut self, session: &mut Session) -> Result<(), Error> {
        if self.machine.is_empty() {
            let arguments = json!({"path": "/machine", "property": "type"});
            let answer = session.execute("qom-get", arguments)?.unwrap_or_default();
            answer
                .as_str()
                .unwrap_or("unknown")
                .trim_end_matches("-machine")
                .clone_into(&mut self.machine);
        }
        Ok(())
    }

    /// Queries which of these models and kinds QEMU has, as far as that is not known already.
    pub(super) fn query_drivers(
        &mut self,
        session: &mut Session,
        models: &[Model],
        kinds: &[&str],
    ) -> Result<(), Error> {
        let controllers = models.iter().filter_map(|model| names::controller_driver(*model));
        let devices = kinds.iter().filter_map(|kind| names::device_driver(kind));
        let mut unknown: Vec<&str> = controllers
            .chain(devices)
            .filter(|driver| !self.drivers.contains_key(*driver))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let query =
            |parent: &str| ("qom-list-types", json!({"implements": parent, "abstract": false}));
        let queries = match unknown.as_slice() {
            few if few.len() <= MAX_QUERIES_BY_NAME => {
                few.iter().map(|driver| query(driver)).collect()
            }
            _ => vec![query("usb-device"), query("pci-device")],
        };
        let answers = session.pipeline(&queries)?;
        let available: Vec<String> =
            answers.into_iter().flatten().flat_map(|list| type_names(&list)).collect();
        self.drivers.extend(unknown.into_iter().map(|driver| {
            (driver.to_owned(), available.iter().any(|available| available == driver))
        }));
        Ok(())
    }

    fn lacks(&self, driver: &str) -> bool {
        self.drivers.get(driver) == Some(&false)
    }

    /// Whether QEMU supports the model.
    pub(super) fn model(&self, model: Model) -> Support {
        if model.is_built_in() {
            let why = format!("a {model} can only be part of the machine or of its command line");
            return Support::Unsupported { why };
        }
        let Some(driver) = names::controller_driver(model) else {
            let why = "it has no paravirtual USB controller outside Xen".to_owned();
            return Support::Unsupported { why };
        };
        if self.lacks(driver) {
            return Support::Unsupported { why: format!("this QEMU was built without {driver}") };
        }
        if hot_pluggable(model) {
            return Support::Hot;
        }
        let what = if model == Model::PciOhci { "OHCI" } else { "the ICH9 group" };
        Support::Cold {
            why: format!("QEMU cannot hot add {what}: it marks {driver} as not hot pluggable"),
        }
    }

    /// Whether QEMU supports the kind of device.
    pub(super) fn kind(&self, kind: &str) -> Support {
        match names::device_driver(kind) {
            Some(driver) if !self.lacks(driver) => Support::Hot,
            Some(driver) => {
                Support::Unsupported { why: format!("this QEMU was built without {driver}") }
            }
            None => Support::Unsupported { why: "QEMU has no such device".to_owned() },
        }
    }

    /// Why the guest has no free PCI slot for another controller, and what to do about it.
    pub(super) fn no_slot_reason(&self) -> Reason {
        const BRIDGE: &str = "a bridge (`-device pci-bridge,id=bridge0,chassis_nr=100`)";
        // Only on `pc` does this property of `PIIX4_PM` decide whether hot plug works.
        let is_pc = ["pc-i440fx", "pc-0", "pc-1"].iter().any(|pc| self.machine.starts_with(pc));
        match self.pci {
            Pci::Absent if self.machine == "microvm" => {
                "the machine has no PCI bus; start the guest with one (`-machine microvm,pcie=on`)".into()
            }
            Pci::Absent => "the machine has no PCI bus".into(),
            Pci::Conventional { hotplug: true } => {
                format!("all slots of its PCI bus are in use; start the guest with {BRIDGE}").into()
            }
            Pci::Conventional { hotplug: false } if is_pc => format!(
                "hot plug on its PCI root bus is switched off; start the guest without \
                 `-global PIIX4_PM.acpi-root-pci-hotplug=off`, or with {BRIDGE}"
            )
            .into(),
            Pci::Conventional { hotplug: false } => {
                format!("no PCI slot that supports hot plug is free; start the guest with {BRIDGE}").into()
            }
            Pci::Express => Reason::from(
                "no PCI slot that supports hot plug is free; start the guest with `-device pcie-root-port,id=slot0,chassis=100` (one \
                 for each controller that will be added)",
            )
            .remedy(Remedy::StartWithSpareSlots),
        }
    }
}

/// The names in a `qom-list-types` answer.
pub(super) fn type_names(answer: &Value) -> Vec<String> {
    let entries = answer.as_array().into_iter().flatten();
    entries.filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn support_depends_on_the_driver_and_on_its_hot_plug_flag() {
        let drivers = ["qemu-xhci", "pci-ohci", "ich9-usb-ehci1"].map(str::to_owned);
        let features = Features::of_drivers(&drivers);
        assert_eq!(features.model(Model::QemuXhci), Support::Hot);
        let why = |support: Support| match support {
            Support::Cold { why } => format!("cold: {why}"),
            Support::Unsupported { why } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(features.model(Model::NecXhci)), "this QEMU was built without nec-usb-xhci");
        assert!(why(features.model(Model::Xenusb1)).contains("no paravirtual USB controller"));
        assert!(why(features.model(Model::PciOhci)).starts_with("cold: QEMU cannot hot add OHCI"));
        assert!(
            why(features.model(Model::Ich9Ehci1)).starts_with("cold: QEMU cannot hot add the ICH9")
        );
        // Devices were not queried.
        assert_eq!(features.kind("mouse"), Support::Hot);
        assert_eq!(why(features.kind("camera")), "QEMU has no such device");
        let lacking = Features { drivers: [("usb-mouse".to_owned(), false)].into(), ..features };
        assert_eq!(why(lacking.kind("mouse")), "this QEMU was built without usb-mouse");
    }

    #[test]
    fn the_advice_depends_on_the_machine() {
        let mut features = Features::default();
        let mut advice = |machine: &str, pci: Pci| {
            machine.clone_into(&mut features.machine);
            features.pci = pci;
            let reason = features.no_slot_reason();
            let spare = reason.remedies.contains(&Remedy::StartWithSpareSlots);
            assert_eq!(spare, pci == Pci::Express, "{machine}");
            reason.text
        };
        assert_eq!(advice("raspi3b", Pci::Absent), "the machine has no PCI bus");
        assert!(advice("microvm", Pci::Absent).contains("-machine microvm,pcie=on"));
        let full = advice("pc-i440fx-7.2", Pci::Conventional { hotplug: true });
        assert!(
            full.starts_with("all slots of its PCI bus are in use; start the guest with a bridge")
        );
        let off = advice("pc-i440fx-7.2", Pci::Conventional { hotplug: false });
        assert!(off.contains("without `-global PIIX4_PM.acpi-root-pci-hotplug=off`"), "{off}");
        let other = advice("malta", Pci::Conventional { hotplug: false });
        assert!(!other.contains("PIIX4"), "{other}");
        for machine in ["pc-q35-7.2", "virt-7.2"] {
            let express = advice(machine, Pci::Express);
            assert!(express.contains("-device pcie-root-port"), "{express}");
            assert!(!express.contains("-machine"), "{express}");
        }
    }
}
