//! What the guest lacks although it is there: host devices that were plugged in again or that its
//! hypervisor has not taken, and controllers that are disconnected.

use std::collections::BTreeSet;

use vusb_drivers::{DeviceState, GuestIdentity};
use vusb_host::HostDevice;
use vusb_model::address::{Address, Index};
use vusb_model::device::Kind;

use super::Open;
use crate::inventory::{Inventory, Key};
use crate::note::Note;

impl<'a> Open<'a> {
    /// The host devices that vusb manages, that are plugged in, and that the guest does not have:
    /// they were unplugged and plugged in again since, so that the hypervisor still has the old
    /// connection, or the hypervisor has not taken them. They can be attached again. Those on a
    /// disconnected controller are recreated with it. `all` has the identities of the devices that
    /// were given.
    pub(crate) fn stale(&self, all: &Inventory) -> BTreeSet<Address> {
        let lost = self.lost(all).map(|(at, _)| at);
        lost.filter(|at| all.is_managed(Key::Device(*at))).collect()
    }

    /// A note for each host device of another tool that is plugged in and that the guest does not
    /// have. Only that tool can recreate it.
    pub(crate) fn not_taken(&self) -> Vec<Note> {
        let all = self.inventory();
        let others = self.lost(all).filter(|(at, _)| !all.is_managed(Key::Device(*at)));
        let note = |(at, here): (Address, HostDevice)| {
            let given = self.observed.given.get(&at).copied();
            Some(Note::NotTaken {
                name: all.hardware().device(at)?.name.clone(),
                found: here.id,
                port: here.bus_id,
                at: here.bus_address,
                given: given.filter(|it| *it != here.bus_address).map(|it| it.to_string()),
            })
        };
        others.filter_map(note).collect()
    }

    /// A note for each host device that is plugged in, and that the guest does not have because its
    /// hypervisor may not open it.
    pub(crate) fn cannot_open(&self) -> Vec<Note> {
        let process = self.guest.as_ref().and_then(GuestIdentity::process);
        let Some(pid) = process.and_then(|it| u32::try_from(it.pid).ok()) else {
            return Vec::new();
        };
        let all = self.inventory();
        let absent = self
            .lost(all)
            .filter(|(at, _)| self.observed.states.get(at) == Some(&DeviceState::Absent));
        let note = |(at, here): (Address, HostDevice)| {
            let node = here.node();
            let denied = self.host_devices.host().denied(pid, &node, true)?;
            let name = all.hardware().device(at)?.name.clone();
            Some(Note::CannotOpen { name, node, why: denied.to_string() })
        };
        absent.filter_map(note).collect()
    }

    /// The host devices that are plugged in and that the guest does not have, or has as they were
    /// before they were plugged in again.
    fn lost<'b>(
        &'b self,
        all: &'b Inventory,
    ) -> impl Iterator<Item = (Address, HostDevice)> + use<'b, 'a> {
        self.observed.hardware.devices().filter_map(|(at, device)| {
            if !matches!(device.kind, Kind::Host(_)) || self.observed.broken.contains_key(&at.bus) {
                return None;
            }
            let here = self.host_devices.present(all, at)?;
            let is_absent = self.observed.states.get(&at) == Some(&DeviceState::Absent);
            let was_replugged =
                self.observed.given.get(&at).is_some_and(|given| *given != here.bus_address);
            (is_absent || was_replugged).then_some((at, here))
        })
    }

    /// The disconnected controllers that vusb manages: they are recreated with their devices.
    pub(crate) fn disconnected(&self) -> BTreeSet<Index> {
        let is_ours = |index: &&Index| self.inventory().is_managed(Key::Controller(**index));
        self.observed.broken.keys().filter(is_ours).copied().collect()
    }
}
