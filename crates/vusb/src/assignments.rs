//! The devices that records assign to domains, for programs that reattach them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::selector::{BusAddress, UsbId};

use crate::call::Call;
use crate::device_list::DeviceList;
use crate::error::Error;
use crate::host_devices::HostDevices;
use crate::host_identity::presence;
use crate::inventory::{Key, Origin};
use crate::record::Record;

/// What all records assign.
#[derive(Debug, Default)]
pub struct Assignments {
    /// The domains, by address.
    pub domains: Vec<AssignedDomain>,
    /// Why other records cannot be read.
    pub unreadable: Vec<Error>,
}

/// A domain with a record, and the devices that it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedDomain {
    /// Its address.
    pub address: String,
    /// Its name, or its address if it has none.
    pub name: String,
    /// Its devices that vusb manages.
    pub devices: Vec<Assignment>,
    /// Its other host devices, as far as they are plugged in: those of other tools, and those that
    /// vusb has attached through another tool, which manages them from then on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Assigned>,
}

/// A device that a domain was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its name in the domain.
    pub device: Name,
    /// What it is.
    pub what: Assigned,
    /// Whether a rule attached it, and not a person.
    pub by_rule: bool,
    /// Whether its absence is a failure.
    #[serde(default)]
    pub required: bool,
    /// Which host device it is, whether or not it is plugged in; `None` for other devices, for a
    /// host device that has not been plugged in since it was given, and in a record of an older
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<AssignedIdentity>,
}

/// Which host device a domain was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedIdentity {
    /// The reboot-proof path of its port, or the bus and the chain of ports.
    pub place: String,
    /// Vendor and product: those that it had when it was given, and those that it may return with.
    pub ids: Vec<UsbId>,
}

/// What a domain was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assigned {
    /// An emulated device, or one of a backend domain.
    Other,
    /// A host device that is not plugged in now, or of which it is unknown which one it is.
    Absent,
    /// A host device that is plugged in now, with this bus and address.
    Present {
        /// The bus.
        bus: u16,
        /// The address.
        address: u8,
    },
}

impl Assigned {
    /// The bus and address, if it is a host device that is plugged in.
    pub const fn bus_address(&self) -> Option<BusAddress> {
        match self {
            Assigned::Present { bus, address } => Some(BusAddress { bus: *bus, address: *address }),
            Assigned::Other | Assigned::Absent => None,
        }
    }
}

/// What all records assign. No hypervisor is asked.
pub(crate) fn assignments(call: &Call<'_>, devices: &DeviceList) -> Result<Assignments, Error> {
    let (mut all, mut unreadable) = (BTreeMap::new(), Vec::new());
    for record in call.records().all()? {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                unreadable.push(error);
                continue;
            }
        };
        let domain = call.recorded_address(&record.domain);
        let host_devices = HostDevices::new(call, domain.as_ref());
        all.insert(record.domain.clone(), assigned_domain(&record, &host_devices, devices));
    }
    Ok(Assignments { domains: all.into_values().collect(), unreadable })
}

fn assigned_domain(
    record: &Record,
    host_devices: &HostDevices<'_>,
    plugged: &DeviceList,
) -> AssignedDomain {
    let all = &record.inventory;
    let hardware: &Hardware = all.hardware();
    let what = |at: Address, device: &Device| match &device.kind {
        Kind::Host(host) if host_devices.backend(hardware, at).is_none() => {
            let found = presence(all.identity(at), host, plugged).ok();
            let found = found.and_then(crate::host_identity::Presence::device);
            found.map_or(Assigned::Absent, |it| Assigned::Present {
                bus: it.bus_address.bus,
                address: it.bus_address.address,
            })
        }
        _ => Assigned::Other,
    };
    let (managed, others): (Vec<_>, Vec<_>) =
        hardware.devices().partition(|(at, _)| all.is_managed(Key::Device(*at)));
    let others = others.into_iter().map(|(at, device)| what(at, device));
    let others = others.filter(|it| it.bus_address().is_some()).collect();
    let devices = managed.into_iter().map(|(at, device)| {
        let what = what(at, device);
        let by_rule = all.facts(Key::Device(at)).origin == Origin::OnDemand;
        let identity = all.identity(at).filter(|_| what != Assigned::Other);
        let identity = identity.and_then(|it| {
            let ids = it.seen.iter().map(|it| it.id).chain(it.also.iter().copied());
            it.seen.as_ref()?;
            Some(AssignedIdentity { place: it.place.clone(), ids: ids.collect() })
        });
        let required = all.facts(Key::Device(at)).required;
        Assignment { device: device.name.clone(), what, by_rule, required, identity }
    });
    AssignedDomain {
        address: record.domain.clone(),
        name: record.display_name().to_owned(),
        devices: devices.collect(),
        others,
    }
}
