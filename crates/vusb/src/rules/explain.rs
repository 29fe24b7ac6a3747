//! What the rules mean for a device, and why.

use std::collections::{BTreeMap, BTreeSet};

use vusb_host::{HostDevice, SelectError};
use vusb_model::rules::{DeviceFacts, Domain, Recorded, RuleSet, decide, effect};
use vusb_model::selector::{BusId, Selector};

use super::facts::facts;
use super::view::{EffectView, EffectsView, ExplainView};
use crate::backend_domain::backend_of;
use crate::call::Call;
use crate::error::Error;
use crate::host_devices::HostDevices;
use crate::host_identity::presence;
use crate::inventory::Key;
use crate::record::Record;
use crate::view::{API, HostDeviceView};
use crate::{claims, listing};

/// The device that is explained.
#[derive(Clone, Debug)]
pub enum Explained {
    /// A device of this machine.
    Device(Selector),
    /// A device that need not exist, with what is known of it.
    Imagined(Box<DeviceFacts>),
}

pub(crate) fn explain(
    call: &Call<'_>,
    rules: &RuleSet,
    explained: &Explained,
    domain: Option<&str>,
) -> Result<ExplainView, Error> {
    let records: Vec<Record> = call.records().all()?.into_iter().flatten().collect();
    let host_devices = HostDevices::new(call, None);
    let (facts, device) = match explained {
        Explained::Imagined(facts) => (facts.as_ref().clone(), None),
        Explained::Device(selector) => match host_devices.select(selector, &None) {
            Ok(device) => {
                let facts = with_records(call, &device, &records, &host_devices)?;
                (facts, Some(view(call, &host_devices, &device)?))
            }
            Err(error @ Error::Select(SelectError::Absent { .. })) => {
                (from_selector(selector).ok_or(error)?, None)
            }
            Err(error) => return Err(error),
        },
    };
    let mut known = named_domains(call, &records);
    let named = domain.map(|text| match known.iter().find(|it| it.answers_to(text)) {
        Some(domain) => domain.name.clone(),
        None => {
            known.push(Domain::named(text));
            text.to_owned()
        }
    });
    let mut decision = decide(&facts, rules, &known);
    if let Some(domain) = &named {
        decision.permissions.retain(|it| it.domain == *domain);
        for considered in &mut decision.trace {
            considered.decides.retain(|it| it == domain);
            considered.beaten.retain(|it| it.domain == *domain);
        }
    }
    Ok(ExplainView {
        api: API,
        about: about(&facts, device.as_ref()),
        device,
        domain: named,
        effect: decision.effect,
        permissions: decision.permissions,
        trace: decision.trace,
        state: None,
        history: Vec::new(),
    })
}

/// What the rules mean for each device of this machine. Hubs are left out: they belong to no guest.
pub(crate) fn effects(call: &Call<'_>, rules: &RuleSet) -> Result<EffectsView, Error> {
    let records: Vec<Record> = call.records().all()?.into_iter().flatten().collect();
    let host_devices = HostDevices::new(call, None);
    let mut given = given(&records, &host_devices)?;
    let known = named_domains(call, &records);
    let snapshot = host_devices.snapshot(&None)?;
    let devices = snapshot.devices.iter().filter(|it| !it.is_hub).map(|device| {
        let recorded = given.remove(&device.bus_id).unwrap_or_default();
        let facts = DeviceFacts { recorded, ..facts(call.context.host(), device) };
        EffectView {
            busid: device.bus_id.clone(),
            at: device.bus_address,
            effect: effect(&facts, rules, &known),
            state: None,
            question: None,
        }
    });
    Ok(EffectsView { api: API, devices: devices.collect() })
}

/// What rules can know of a device that is plugged in, with the domains that were given it.
fn with_records(
    call: &Call<'_>,
    device: &HostDevice,
    records: &[Record],
    host_devices: &HostDevices<'_>,
) -> Result<DeviceFacts, Error> {
    let recorded = given(records, host_devices)?.remove(&device.bus_id).unwrap_or_default();
    Ok(DeviceFacts { recorded, ..facts(call.context.host(), device) })
}

/// The domains that were given each device of this machine by a person or a spec.
fn given(
    records: &[Record],
    host_devices: &HostDevices<'_>,
) -> Result<BTreeMap<BusId, Vec<Recorded>>, Error> {
    let snapshot = host_devices.snapshot(&None)?;
    let mut given: BTreeMap<BusId, Vec<Recorded>> = BTreeMap::new();
    for record in records {
        let all = &record.inventory;
        let has_backends = host_devices.has_backends(&record.domain);
        let device = |(at, host): (_, _)| {
            let found = presence(all.identity(at), host, &snapshot.devices);
            let found = found.ok().and_then(crate::host_identity::Presence::device);
            found.map(|it| it.bus_id.clone())
        };
        let by_hand = |at| all.facts(Key::Device(at)).origin.is_given();
        let is_local = |at| backend_of(all.hardware(), at, has_backends).is_none();
        let items = all.host_refs().filter(|(at, _)| by_hand(*at) && is_local(*at));
        let devices: BTreeSet<BusId> = items.filter_map(device).collect();
        for device in devices {
            let domain = record.display_name().to_owned();
            given.entry(device).or_default().push(Recorded { domain });
        }
    }
    Ok(given)
}

/// What a selector alone says of a device.
fn from_selector(selector: &Selector) -> Option<DeviceFacts> {
    match selector {
        Selector::Id { id, serial } => {
            Some(DeviceFacts { id: Some(*id), serial: serial.clone(), ..DeviceFacts::default() })
        }
        Selector::Port(port) => {
            Some(DeviceFacts { port: Some(port.clone()), ..DeviceFacts::default() })
        }
        Selector::Path(path) => {
            Some(DeviceFacts { path: Some(path.clone()), ..DeviceFacts::default() })
        }
        Selector::Address(_) | Selector::Pattern(_) => None,
    }
}

fn view(
    call: &Call<'_>,
    host_devices: &HostDevices<'_>,
    device: &HostDevice,
) -> Result<HostDeviceView, Error> {
    let snapshot = host_devices.snapshot(&None)?;
    let (records, files) = (call.records(), call.claim_files());
    let holder = claims::holder(&records, &files, host_devices, device, &None, &snapshot);
    // The explanation does not depend on a record that cannot be read.
    Ok(HostDeviceView::new(device, snapshot.protection(device), holder.ok().flatten()))
}

/// What is known of the device, in words.
fn about(facts: &DeviceFacts, device: Option<&HostDeviceView>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let serial = facts.serial.as_ref().map(|it| format!(":{it}")).unwrap_or_default();
    parts.extend(facts.id.map(|id| format!("{id}{serial}")));
    parts.extend(facts.text.clone().filter(|it| !it.is_empty()));
    let port = facts.port.as_ref().map(ToString::to_string);
    let port = port.or_else(|| facts.path.as_ref().map(ToString::to_string));
    parts.extend(port.map(|port| format!("at {port}")));
    if let Some(interfaces) = &facts.interfaces {
        let all: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
        let all = if all.is_empty() { "no interfaces".to_owned() } else { all.join(" ") };
        parts.push(format!("[{all}]"));
    }
    if device.is_none() {
        parts.push("(not plugged in)".to_owned());
    }
    parts.join(" ")
}

/// The domains that have a record, and the guests that run without one, as far as the hypervisors
/// or the context know them. Two with one name are known by their addresses.
pub(crate) fn named_domains(call: &Call<'_>, records: &[Record]) -> Vec<Domain> {
    let recorded = records.iter().map(|record| Domain {
        name: record.display_name().to_owned(),
        address: Some(record.domain.clone()),
    });
    let references: Vec<&Record> = records.iter().collect();
    let running = listing::running_without_record(call, &references).into_iter();
    let running = running.filter_map(|it| {
        let name = it.guest.name.or_else(|| it.address.clone())?;
        Some(Domain { name, address: it.address })
    });
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all: Vec<Domain> = recorded.chain(running).collect();
    for guest in call.context.known_guests() {
        if !all.iter().any(|it| it.address.as_ref() == Some(guest)) {
            all.push(Domain { name: guest.clone(), address: Some(guest.clone()) });
        }
    }
    for domain in &all {
        *counts.entry(domain.name.clone()).or_default() += 1;
    }
    let unique = |domain: Domain| match (&domain.address, counts.get(&domain.name)) {
        (Some(address), Some(2..)) => Domain { name: address.clone(), ..domain.clone() },
        _ => domain,
    };
    all.into_iter().map(unique).collect()
}
