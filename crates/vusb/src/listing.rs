//! What is there: of one domain, of all, and of this machine.

use vusb_drivers::{DeviceState, Foreign};
use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Device};
use vusb_model::name::Name;

use crate::claims;
use crate::connect;
use crate::domain::DomainId;
use crate::error::Error;
use crate::hosts::Present;
use crate::record::{Record, Records};
use crate::session::Session;
use crate::view::{
    API, AllView, ControllerState, ControllerView, DeviceView, DomainView, ForeignDeviceView,
    ForeignView, HostDeviceView, HostView, Origin, State, UnreachableView,
};
use crate::vusb::Vusb;

pub(crate) fn list(vusb: &Vusb, domain: &DomainId) -> Result<DomainView, Error> {
    let session = Session::look(vusb, domain)?;
    Ok(DomainView {
        api: API,
        domain: session.record.called().to_owned(),
        address: domain.to_string(),
        profile: session.record.profile,
        controllers: session.base.controllers().map(|it| controller(&session, it)).collect(),
        foreign: session.observed.foreign.iter().map(foreign).collect(),
        notes: session.notes(),
    })
}

fn controller(session: &Session<'_>, it: &Controller) -> ControllerView {
    let missing = session.missing.controllers.contains(&it.index);
    ControllerView {
        index: it.index,
        name: it.name.clone(),
        controller_type: it.model.controller_type(),
        model: it.model,
        usbversion: it.model.usbversion(),
        ports: it.ports.count(),
        companions: it.companions.clone(),
        backend: it.backend.clone(),
        pci: it.pci.clone(),
        origin: origin(session, &it.name),
        state: if missing { ControllerState::Missing } else { ControllerState::Present },
        devices: it
            .devices()
            .map(|(port, device)| DeviceView {
                port,
                name: device.name.clone(),
                kind: device.kind.clone(),
                state: state(session, Address { bus: it.index, port }, device),
                origin: origin(session, &device.name),
            })
            .collect(),
    }
}

fn origin(session: &Session<'_>, name: &Name) -> Origin {
    if session.managed.contains(name) { Origin::Vusb } else { Origin::Other }
}

fn state(session: &Session<'_>, address: Address, device: &Device) -> State {
    let unplugged = || match &device.kind {
        Kind::Host(host) => session.present.is_absent(&host.selector),
        _ => false,
    };
    match session.observed.states.get(&address) {
        _ if session.missing.devices.contains(&address) => {
            if unplugged() {
                State::Absent
            } else {
                State::Missing
            }
        }
        Some(DeviceState::Absent) => State::Absent,
        Some(DeviceState::Attached) => State::Attached,
        None if unplugged() => State::Absent,
        None => State::Attached,
    }
}

fn foreign(it: &Foreign) -> ForeignView {
    let device = |(port, driver): &(String, String)| ForeignDeviceView {
        port: port.clone(),
        driver: driver.clone(),
    };
    ForeignView {
        driver: it.driver.clone(),
        id: it.id.clone(),
        devices: it.devices.iter().map(device).collect(),
    }
}

/// How many domains are asked at the same time: one that does not answer holds up no more than a few others.
const AT_ONCE: usize = 16;

pub(crate) fn list_all(vusb: &Vusb) -> Result<AllView, Error> {
    let mut all = AllView { api: API, domains: Vec::new(), unreachable: Vec::new() };
    let mut records = Records::new(&vusb.state).all()?.into_iter().peekable();
    while records.peek().is_some() {
        let some: Vec<_> = records.by_ref().take(AT_ONCE).collect();
        for answer in ask(vusb, some) {
            match answer {
                Ok(domain) => all.domains.push(domain),
                Err(why) => all.unreachable.push(why),
            }
        }
    }
    all.domains.sort_by(|a, b| a.domain.cmp(&b.domain));
    Ok(all)
}

/// Asks these domains, all at the same time.
fn ask(
    vusb: &Vusb,
    records: Vec<Result<Record, Error>>,
) -> Vec<Result<DomainView, UnreachableView>> {
    std::thread::scope(|scope| {
        let one = |record: Result<Record, Error>| {
            scope.spawn(move || shown(vusb, &record.map_err(damaged)?))
        };
        let threads: Vec<_> = records.into_iter().map(one).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

fn shown(vusb: &Vusb, record: &Record) -> Result<DomainView, UnreachableView> {
    let failed = |why: String| UnreachableView {
        domain: record.called().to_owned(),
        why,
        holds: holds(record),
    };
    let domain = connect::address(record)
        .ok_or_else(|| failed(format!("this build has no driver for {}", record.domain)))?;
    list(vusb, &domain).map_err(|error| failed(error.to_string()))
}

fn damaged(error: Error) -> UnreachableView {
    let domain = match &error {
        Error::Record { path, .. } | Error::Io { path, .. } => path.display().to_string(),
        _ => String::new(),
    };
    UnreachableView { domain, why: error.to_string(), holds: Vec::new() }
}

fn holds(record: &Record) -> Vec<String> {
    let host = |device: &Device| match &device.kind {
        Kind::Host(host) => Some(host.selector.to_string()),
        _ => None,
    };
    let devices = record.all_hardware().flat_map(|it| it.devices());
    let mut holds: Vec<String> = devices.filter_map(|(_, it)| host(it)).collect();
    holds.sort();
    holds.dedup();
    holds
}

pub(crate) fn host_list(vusb: &Vusb) -> Result<HostView, Error> {
    let present = Present::new(&vusb.host);
    let devices = present.devices()?;
    let mut records = Vec::new();
    let mut notes = Vec::new();
    for record in Records::new(&vusb.state).all()? {
        match record {
            Ok(record) => records.push(record),
            Err(error) => notes.push(format!("what this domain holds is not known: {error}")),
        }
    }
    let view = |it| HostDeviceView::new(it, claims::holder(&records, it, devices));
    Ok(HostView { api: API, devices: devices.iter().map(view).collect(), notes })
}

/// The domain that has a record and is called `name`.
pub(crate) fn named(vusb: &Vusb, name: &str) -> Result<DomainId, Error> {
    let records = Records::new(&vusb.state).all()?;
    let known: Vec<Record> = records.into_iter().filter_map(Result::ok).collect();
    let is_called = |it: &&Record| it.name.as_ref().is_some_and(|it| it.as_str() == name);
    let matches: Vec<&Record> = known.iter().filter(is_called).collect();
    let several = match matches.as_slice() {
        [only] => {
            if let Some(domain) = connect::address(only) {
                return Ok(domain);
            }
            false
        }
        found => found.len() > 1,
    };
    let all = known.iter().filter(|it| !several || is_called(it));
    let text = |it: &Record| match &it.name {
        Some(name) => format!("{name} ({})", it.domain),
        None => it.domain.clone(),
    };
    Err(Error::NoSuchDomain {
        asked: name.chars().take(80).collect::<String>().escape_debug().to_string(),
        known: all.map(text).collect(),
        several,
    })
}

/// Another domain that is called `name` too.
pub(crate) fn namesake(vusb: &Vusb, domain: &DomainId, name: &Name) -> Option<String> {
    let records = Records::new(&vusb.state).all().ok()?;
    let mut others = records.into_iter().flatten().filter(|it| it.domain != domain.to_string());
    others.find(|it| it.name.as_ref() == Some(name)).map(|it| it.domain)
}
