//! What this QEMU has: which controllers and devices it was built with, and what machine it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vusb_model::capabilities::Support;
use vusb_model::models::Model;

use super::names::{self, hot};
use super::session::Session;
use crate::driver::Error;

/// Up to so many drivers, each is asked about by name; beyond, for the lists of all. An answer by name takes QEMU 0.2 ms, the two
/// lists 0.7 ms (seen with version 7.2).
const BY_NAME: usize = 3;

/// What is known so far. What was not asked about is taken to be there: QEMU refuses what it does not have.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers {
    /// QEMU's names for devices, and whether it has them.
    drivers: BTreeMap<String, bool>,
    /// `pc-i440fx-7.2`; empty before it was asked.
    pub(super) machine: String,
    pub(super) has_pci: bool,
}

impl Offers {
    /// What a QEMU has that lists these drivers.
    pub(super) fn of(drivers: &[String]) -> Offers {
        let known = Model::ALL.into_iter().filter_map(names::controller_driver);
        let has = known.map(|driver| (driver.to_owned(), drivers.iter().any(|it| it == driver)));
        Offers { drivers: has.collect(), ..Offers::default() }
    }

    /// Finds out which machine this is. Only sentences need it.
    pub(super) fn ask_machine(&mut self, session: &mut Session) -> Result<(), Error> {
        if self.machine.is_empty() {
            let question = json!({"path": "/machine", "property": "type"});
            let answer = session.execute("qom-get", question)?.unwrap_or_default();
            answer
                .as_str()
                .unwrap_or("unknown")
                .trim_end_matches("-machine")
                .clone_into(&mut self.machine);
        }
        Ok(())
    }

    /// Finds out which of these QEMU has, as far as that is not known yet.
    pub(super) fn ask_about(
        &mut self,
        session: &mut Session,
        models: &[Model],
        kinds: &[&str],
    ) -> Result<(), Error> {
        let controllers = models.iter().filter_map(|model| names::controller_driver(*model));
        let devices = kinds.iter().filter_map(|word| names::device_driver(word));
        let mut unknown: Vec<&str> = controllers
            .chain(devices)
            .filter(|driver| !self.drivers.contains_key(*driver))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let question = |of: &str| ("qom-list-types", json!({"implements": of, "abstract": false}));
        let questions = match unknown.as_slice() {
            [] => return Ok(()),
            few if few.len() <= BY_NAME => few.iter().map(|driver| question(driver)).collect(),
            _ => vec![question("usb-device"), question("pci-device")],
        };
        let answers = session.pipeline(&questions)?;
        let all: Vec<String> =
            answers.into_iter().flatten().flat_map(|list| type_names(&list)).collect();
        self.drivers.extend(
            unknown
                .into_iter()
                .map(|driver| (driver.to_owned(), all.iter().any(|has| has == driver))),
        );
        Ok(())
    }

    fn lacks(&self, driver: &str) -> bool {
        self.drivers.get(driver) == Some(&false)
    }

    /// Whether the model can be had.
    pub(super) fn model(&self, model: Model) -> Support {
        let Some(driver) = names::controller_driver(model) else {
            let why = "it has no paravirtual USB controller outside Xen".to_owned();
            return Support::No { why };
        };
        if self.lacks(driver) {
            return Support::No { why: format!("this QEMU was built without {driver}") };
        }
        if hot(model) {
            return Support::Hot;
        }
        let what = if model == Model::PciOhci { "OHCI" } else { "the ICH9 group" };
        Support::Cold {
            why: format!("QEMU cannot hot add {what}: it marks {driver} as not hot pluggable"),
        }
    }

    /// Whether the kind of device can be had.
    pub(super) fn kind(&self, word: &str) -> Support {
        match names::device_driver(word) {
            Some(driver) if !self.lacks(driver) => Support::Hot,
            Some(driver) => Support::No { why: format!("this QEMU was built without {driver}") },
            None => Support::No { why: "QEMU has no such device".to_owned() },
        }
    }

    /// What to tell a person who needs a slot and has none.
    pub(super) fn remedy(&self) -> String {
        if !self.has_pci {
            return "the machine has no PCI bus; start the guest on one that has (`-machine pc` or `q35`)".to_owned();
        }
        "no PCI slot that takes hot plug is free; start the guest with `-device pcie-root-port,id=slot0,chassis=100` (one for each controller \
         to come; `vusb qemu-args --spare-slots N` prints them), or on `-machine pc`, whose root bus takes hot plug"
            .to_owned()
    }
}

/// The names in a `qom-list-types` answer.
pub(super) fn type_names(answer: &Value) -> Vec<String> {
    let entries = answer.as_array().into_iter().flatten();
    entries.filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned())).collect()
}
