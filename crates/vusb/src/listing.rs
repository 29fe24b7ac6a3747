//! What is there: of one domain, of all, and of this machine.

use std::collections::BTreeSet;

use vusb_drivers::{DeviceState, Foreign};
use vusb_model::address::{Address, Index};
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Device};
use vusb_model::name::Name;

use crate::claims;
use crate::connect;
use crate::domain::DomainId;
use crate::error::Error;
use crate::hosts::Present;
use crate::record::{Record, Records};
use crate::session::{Session, remembered};
use crate::view::{
    API, AllView, CompanionView, ControllerState, ControllerView, CountersView, DeviceView,
    DomainView, ForeignDeviceView, ForeignView, HostDeviceView, HostView, Origin, State,
    UnreachableView,
};
use crate::vusb::Vusb;

pub(crate) fn list(vusb: &Vusb, domain: &DomainId) -> Result<DomainView, Error> {
    let session = match Session::look(vusb, domain) {
        Err(busy @ Error::Busy { .. }) => return remembered_of(vusb, domain, busy),
        other => other?,
    };
    let mut notes = session.notes();
    let stale = session.stale();
    let again = stale.iter().filter_map(|at| session.base.device(*at)).map(|it| {
        let domain = session.record.called();
        format!(
            "{} was pulled out and plugged in again since it was given: `vusb apply {domain}` gives it anew",
            it.name
        )
    });
    notes.extend(again);
    notes.extend(session.observed.notes.iter().cloned());
    notes.extend(broken(&session));
    Ok(DomainView {
        api: API,
        domain: session.record.called().to_owned(),
        address: domain.to_string(),
        profile: session.record.profile,
        controllers: session
            .base
            .controllers()
            .map(|it| controller(it, &Seen { session: &session, stale: &stale }))
            .collect(),
        foreign: session.observed.foreign.iter().map(foreign).collect(),
        notes,
    })
}

/// What is to be said of controllers that carry nothing any more.
fn broken(session: &Session<'_>) -> Vec<String> {
    let ours = session.broken();
    let called = session.record.called();
    let say = |(index, why): (&Index, &String)| {
        let name = &session.base.controller(*index)?.name;
        Some(if ours.contains(index) {
            format!("{name} carries nothing any more: {why}; `vusb apply {called}` makes it anew")
        } else {
            format!("{name} carries nothing any more: {why}; another tool made it")
        })
    };
    session.observed.broken.iter().filter_map(say).collect()
}

/// What is on record of a domain that another command is at work on, which alone has the hypervisor's ear.
fn remembered_of(vusb: &Vusb, domain: &DomainId, busy: Error) -> Result<DomainView, Error> {
    let Some(record) = Records::new(&vusb.state).read(domain)? else { return Err(busy) };
    Ok(DomainView {
        api: API,
        domain: record.called().to_owned(),
        address: domain.to_string(),
        profile: record.profile,
        controllers: recorded(&record, State::Unknown, ControllerState::Unknown),
        foreign: Vec::new(),
        notes: vec![format!("{busy}: this is what is on record")],
    })
}

/// What is on record of a domain, all of it in the same state.
fn recorded(record: &Record, state: State, controllers: ControllerState) -> Vec<ControllerView> {
    let mut managed = record.managed.clone();
    managed.extend(record.pending.iter().flat_map(|it| it.managed.clone()));
    let from = FromRecord { managed, state, controllers };
    remembered(record).controllers().map(|it| controller(it, &from)).collect()
}

/// How things are, one by one.
trait Look {
    fn origin(&self, name: &Name) -> Origin;
    fn of_controller(&self, controller: &Controller) -> ControllerState;
    fn of_device(&self, address: Address, device: &Device) -> State;
    fn counters(&self, index: Index) -> Option<CountersView>;
}

/// As they were observed.
struct Seen<'a> {
    session: &'a Session<'a>,
    stale: &'a BTreeSet<Address>,
}

impl Look for Seen<'_> {
    fn origin(&self, name: &Name) -> Origin {
        origin(&self.session.managed, name)
    }

    fn of_controller(&self, controller: &Controller) -> ControllerState {
        if self.session.missing.controllers.contains(&controller.index) {
            ControllerState::Missing
        } else if self.session.observed.broken.contains_key(&controller.index) {
            ControllerState::Broken
        } else {
            ControllerState::Present
        }
    }

    fn of_device(&self, address: Address, device: &Device) -> State {
        if self.stale.contains(&address) {
            return State::Absent;
        }
        state(self.session, address, device)
    }

    fn counters(&self, index: Index) -> Option<CountersView> {
        self.session.observed.counters.get(&index).map(CountersView::from)
    }
}

/// As they are recorded.
struct FromRecord {
    managed: BTreeSet<Name>,
    state: State,
    controllers: ControllerState,
}

impl Look for FromRecord {
    fn origin(&self, name: &Name) -> Origin {
        origin(&self.managed, name)
    }

    fn of_controller(&self, _: &Controller) -> ControllerState {
        self.controllers
    }

    fn of_device(&self, _: Address, _: &Device) -> State {
        self.state
    }

    fn counters(&self, _: Index) -> Option<CountersView> {
        None
    }
}

fn controller(it: &Controller, look: &impl Look) -> ControllerView {
    ControllerView {
        index: it.index,
        name: it.name.clone(),
        controller_type: it.model.controller_type(),
        model: it.model,
        usbversion: it.model.usbversion(),
        ports: it.ports.count(),
        companions: it.companions.iter().map(CompanionView::from).collect(),
        backend: it.backend.clone(),
        pci: it.pci.clone(),
        origin: look.origin(&it.name),
        state: look.of_controller(it),
        counters: look.counters(it.index),
        devices: it
            .devices()
            .map(|(port, device)| DeviceView {
                port,
                name: device.name.clone(),
                kind: device.kind.clone(),
                state: look.of_device(Address { bus: it.index, port }, device),
                origin: look.origin(&device.name),
            })
            .collect(),
    }
}

fn origin(managed: &BTreeSet<Name>, name: &Name) -> Origin {
    if managed.contains(name) { Origin::Vusb } else { Origin::Other }
}

fn state(session: &Session<'_>, address: Address, device: &Device) -> State {
    let unplugged = || match &device.kind {
        Kind::Host(host) => {
            let backend = session.present.backend(&session.base, address);
            session.present.is_absent(&host.selector, &backend)
        }
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
        Some(DeviceState::Offered) => State::Offered,
        Some(DeviceState::Configured) | None if unplugged() => State::Absent,
        Some(DeviceState::Configured) => State::Configured,
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
    let failed = |why: String, gone: bool| UnreachableView {
        domain: record.called().to_owned(),
        why,
        holds: holds(record),
        controllers: if gone {
            recorded(record, State::Missing, ControllerState::Missing)
        } else {
            recorded(record, State::Unknown, ControllerState::Unknown)
        },
    };
    let domain = connect::address(record)
        .ok_or_else(|| failed(format!("this build has no driver for {}", record.domain), false))?;
    list(vusb, &domain).map_err(|error| {
        let gone = matches!(&error, Error::Driver(it) if connect::is_gone(&domain, it));
        failed(error.to_string(), gone)
    })
}

fn damaged(error: Error) -> UnreachableView {
    let domain = match &error {
        Error::Record { path, .. } | Error::Io { path, .. } => path.display().to_string(),
        _ => String::new(),
    };
    UnreachableView { domain, why: error.to_string(), holds: Vec::new(), controllers: Vec::new() }
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

pub(crate) fn host_list(vusb: &Vusb, backend: Option<&str>) -> Result<HostView, Error> {
    let of = match backend {
        None => None,
        Some(asked) => connect::reach(vusb).backend(asked, vusb.settings.timeout)?,
    };
    // Any guest of Xen: what is asked for is a backend's list.
    let present = Present::new(vusb, &DomainId::Xen(String::new()));
    let list = present.list(&of)?;
    let mut records = Vec::new();
    let mut notes = Vec::new();
    for record in Records::new(&vusb.state).all()? {
        match record {
            Ok(record) => records.push(record),
            Err(error) => notes.push(format!("what this domain holds is not known: {error}")),
        }
    }
    let view = |it| {
        let holder = claims::holder(&records, it, &list.devices, &of);
        HostDeviceView::new(it, list.protection(it), holder)
    };
    let devices = list.devices.iter().map(view).collect();
    Ok(HostView { api: API, backend: of, devices, notes })
}

/// The domain that has a record and is called `name`.
pub(crate) fn named(vusb: &Vusb, name: &str) -> Result<DomainId, Error> {
    let records = Records::new(&vusb.state).all()?;
    let (known, damaged): (Vec<_>, Vec<_>) = records.into_iter().partition(Result::is_ok);
    let known: Vec<Record> = known.into_iter().flatten().collect();
    let path = |it: Result<Record, Error>| match it {
        Err(Error::Record { path, .. } | Error::Io { path, .. }) => Some(path),
        _ => None,
    };
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
        damaged: damaged.into_iter().filter_map(path).collect(),
    })
}

/// Another domain that is called `name` too.
pub(crate) fn namesake(vusb: &Vusb, domain: &DomainId, name: &Name) -> Option<String> {
    let records = Records::new(&vusb.state).all().ok()?;
    let mut others = records.into_iter().flatten().filter(|it| it.domain != domain.to_string());
    others.find(|it| it.name.as_ref() == Some(name)).map(|it| it.domain)
}
