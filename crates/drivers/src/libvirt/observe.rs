//! A domain's two configurations as one observation.
//!
//! ```text
//!   XML of the running guest ──▶ hardware, attached ─────────┐
//!   stored XML ──▶ what the guest does not have: configured ─┴▶ Observed
//!              └─▶ what differs: notes
//! ```
//!
//! A guest that does not run only has the stored XML. A transient one only has that of the running
//! guest.

use std::collections::{BTreeMap, BTreeSet};

use vusb_libvirt::Domain;
use vusb_model::address::{Address, Index};
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::{Device, Hardware, Item};
use vusb_model::name::Name;

use super::configuration::{Configuration, is_same};
use crate::driver::{DeviceState, Observed};

/// What was last observed.
#[derive(Debug)]
pub(super) struct LastObservation {
    pub(super) domain: Domain,
    /// `None` if it does not run.
    pub(super) live: Option<Configuration>,
    /// `None` if nothing is stored.
    pub(super) stored: Option<Configuration>,
    /// The devices of the stored configuration, including those that the running guest lacks.
    pub(super) in_stored: BTreeSet<Address>,
    /// The devices that the running guest does not have: all of them if it does not run.
    pub(super) not_live: BTreeSet<Address>,
    /// The controllers that the running guest does not have. Empty if it does not run.
    pub(super) controllers_not_live: BTreeSet<Index>,
}

impl LastObservation {
    pub(super) fn new(
        domain: Domain,
        live: Option<Configuration>,
        stored: Option<Configuration>,
        recorded: &Hardware,
    ) -> (LastObservation, Observed) {
        let primary = live.as_ref().or(stored.as_ref());
        let mut merge = Merge {
            hardware: primary.map(|it| it.hardware.clone()).unwrap_or_default(),
            ours: primary.map(|it| it.ours.clone()).unwrap_or_default(),
            ..Merge::default()
        };
        if let (Some(live), Some(stored)) = (&live, &stored) {
            merge.add(live, stored);
        } else if live.is_none() {
            let all = merge.hardware.devices().map(|(at, _)| at);
            merge.not_live = all.collect();
            merge.in_stored = merge.not_live.clone();
        }
        merge.name_hosts_as(recorded);
        let given = merge.hardware.devices().filter_map(|(at, device)| match &device.kind {
            Kind::Host(host) => Some((at, host.bus_address?)),
            _ => None,
        });
        let given = given.filter(|(at, _)| !merge.not_live.contains(at)).collect();
        let states = merge.not_live.iter().map(|at| (*at, DeviceState::Configured)).collect();
        let off = live.is_none();
        let observed = Observed {
            given,
            states,
            off,
            hardware: merge.hardware,
            ours: merge.ours,
            configured: merge.controllers_not_live.clone(),
            notes: merge.notes,
            ..Observed::default()
        };
        let observation = LastObservation {
            domain,
            live,
            stored,
            in_stored: merge.in_stored,
            not_live: merge.not_live,
            controllers_not_live: merge.controllers_not_live,
        };
        (observation, observed)
    }
}

#[derive(Default)]
struct Merge {
    hardware: Hardware,
    ours: BTreeSet<Name>,
    in_stored: BTreeSet<Address>,
    not_live: BTreeSet<Address>,
    controllers_not_live: BTreeSet<Index>,
    notes: Vec<String>,
}

impl Merge {
    /// Adds what only the stored configuration has.
    fn add(&mut self, live: &Configuration, stored: &Configuration) {
        for controller in stored.hardware.controllers() {
            match live.hardware.controller(controller.index) {
                Some(current) if current.same_hardware(controller) => {}
                Some(current) => self.notes.push(format!(
                    "at the next start, {} becomes {}",
                    current.describe(),
                    controller.describe()
                )),
                None => {
                    let mut new = controller.without_devices();
                    new.name = self.free_name(&controller.name);
                    self.copy_ownership(&controller.name, &new.name, stored);
                    if self.hardware.add_controller(new).is_ok() {
                        self.controllers_not_live.insert(controller.index);
                    }
                }
            }
        }
        for (at, device) in stored.hardware.devices() {
            self.add_device(at, device, stored);
        }
        let only_live = live.hardware.devices().filter(|(at, _)| !self.in_stored.contains(at));
        let only_live: Vec<String> = only_live.map(|(_, it)| it.name.to_string()).collect();
        if !only_live.is_empty() {
            let names = only_live.join(", ");
            self.notes
                .push(format!("only the running guest has {names}: gone after the next start"));
        }
    }

    fn add_device(&mut self, at: Address, device: &Device, stored: &Configuration) {
        match self.hardware.device(at) {
            Some(live) if is_same(live, device) => {
                self.in_stored.insert(at);
            }
            Some(live) => self.notes.push(format!(
                "at the next start, {} takes the place of {} at {}",
                device.name,
                live.name,
                self.hardware.location(at)
            )),
            None => {
                let name = self.free_name(&device.name);
                let new = Device { name: name.clone(), ..device.clone() };
                match self.hardware.plug(at, new) {
                    Ok(()) => {
                        self.copy_ownership(&device.name, &name, stored);
                        self.in_stored.insert(at);
                        self.not_live.insert(at);
                    }
                    Err(why) => {
                        self.notes.push(format!(
                            "{}, which is added at the next start, cannot be shown: {why}",
                            device.name
                        ));
                    }
                }
            }
        }
    }

    /// Marks `name` as created by vusb if its item in the stored configuration was.
    fn copy_ownership(&mut self, stored_name: &Name, name: &Name, stored: &Configuration) {
        if stored.ours.contains(stored_name) {
            self.ours.insert(name.clone());
        }
    }

    /// `name`, or a name made from it if another item has it.
    fn free_name(&self, name: &Name) -> Name {
        let numbered = (1..=u32::MAX).map(|it| format!("{name}-next{it}"));
        let all = std::iter::once(name.to_string()).chain(numbered);
        let names = all.filter_map(|it| it.parse::<Name>().ok());
        let mut free = names.filter(|it| self.hardware.named(it).is_none());
        free.next().unwrap_or_else(|| name.clone())
    }

    /// Names the host devices of vusb by their recorded selectors: libvirt only knows vendor and
    /// product, and the address.
    fn name_hosts_as(&mut self, recorded: &Hardware) {
        let mut renamed: BTreeMap<Address, Device> = BTreeMap::new();
        for (at, device) in self.hardware.devices() {
            let Kind::Host(host) = &device.kind else { continue };
            if !self.ours.contains(&device.name) {
                continue;
            }
            let known = match recorded.named(&device.name) {
                Some(Item::Device(at)) => recorded.device(at),
                _ => None,
            };
            let Some(Kind::Host(known)) = known.map(|it| &it.kind) else { continue };
            let host = HostRef { bus_address: host.bus_address, ..known.clone() };
            renamed.insert(at, Device { name: device.name.clone(), kind: Kind::Host(host) });
        }
        for (at, device) in renamed {
            let old = self.hardware.unplug(at);
            if self.hardware.plug(at, device).is_err() {
                // The port supports no speed of the recorded device.
                for (at, device) in old {
                    let _ = self.hardware.plug(at, device);
                }
            }
        }
    }
}
