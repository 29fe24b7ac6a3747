//! Guests as boxes of rows.

use vusb::view::{
    AllView, ControllerView, DeviceView, DomainState, ForeignDeviceView, ForeignView,
    HostDeviceView, RunningView,
};

use crate::state::Look;

pub(crate) const HEADER: i32 = 48;
pub(crate) const STRIP: i32 = 30;
pub(crate) const ROW: i32 = 38;

/// A guest, or the list of those that vusb does not know.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    pub(crate) title: &'a str,
    /// Its address, or why it cannot be listed.
    pub(crate) detail: &'a str,
    pub(crate) state: &'static str,
    pub(crate) look: Look,
    /// Its name in commands. `None` if it is not a domain.
    pub(crate) domain: Option<&'a str>,
    pub(crate) rows: Vec<(i32, Row<'a>)>,
    pub(crate) height: i32,
}

/// A row of a guest.
#[derive(Debug)]
pub(crate) enum Row<'a> {
    Controller(&'a ControllerView),
    Device {
        controller: &'a ControllerView,
        device: &'a DeviceView,
        /// The number of the same device in the list of this machine's devices.
        host: Option<usize>,
    },
    Foreign(&'a ForeignView),
    ForeignDevice(&'a ForeignDeviceView),
    Other(&'a RunningView),
    Nothing,
}

impl Row<'_> {
    const fn height(&self) -> i32 {
        match self {
            Row::Controller(_) | Row::Foreign(_) => STRIP,
            Row::Device { .. } | Row::ForeignDevice(_) | Row::Other(_) | Row::Nothing => ROW,
        }
    }
}

impl<'a> Guest<'a> {
    fn new(title: &'a str, detail: &'a str, domain: Option<&'a str>, rows: Vec<Row<'a>>) -> Self {
        let mut y = HEADER;
        let mut placed = Vec::new();
        for row in rows {
            let height = row.height();
            placed.push((y, row));
            y += height;
        }
        Guest { title, detail, state: "", look: Look::Free, domain, rows: placed, height: y }
    }
}

/// All guests: those that can be listed, those that cannot, and those that vusb does not know.
pub(crate) fn all<'a>(view: &'a AllView, plugged: &[HostDeviceView]) -> Vec<Guest<'a>> {
    let known = view.domains.iter().map(|it| {
        let mut rows = rows(&it.domain, &it.controllers, plugged);
        for foreign in &it.foreign {
            rows.push(Row::Foreign(foreign));
            rows.extend(foreign.devices.iter().map(Row::ForeignDevice));
        }
        if rows.is_empty() {
            rows.push(Row::Nothing);
        }
        let detail = if it.domain == it.address { "" } else { it.address.as_str() };
        let (state, look) = match (it.suspended, it.state) {
            (true, _) => ("suspended", Look::Suspended),
            (_, DomainState::Running) => ("running", Look::Attached),
            (_, DomainState::Gone) => ("gone", Look::Missing),
            (_, DomainState::File) => ("file", Look::Configured),
            (_, DomainState::Off) => ("off", Look::Free),
            (_, DomainState::Unknown) => ("unknown", Look::Unknown),
        };
        Guest { state, look, ..Guest::new(&it.domain, detail, Some(&it.domain), rows) }
    });
    let unreachable = view.unreachable.iter().map(|it| {
        let rows = rows(&it.domain, &it.controllers, plugged);
        let (state, look) = ("not reachable", Look::Unknown);
        Guest { state, look, ..Guest::new(&it.domain, &it.why, Some(&it.domain), rows) }
    });
    let others = (!view.unrecorded.is_empty()).then(|| {
        let rows = view.unrecorded.iter().map(Row::Other).collect();
        let detail = "vusb has given them nothing";
        Guest::new("Other guests that run here", detail, None, rows)
    });
    known.chain(unreachable).chain(others).collect()
}

fn rows<'a>(
    domain: &str,
    controllers: &'a [ControllerView],
    plugged: &[HostDeviceView],
) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for controller in controllers {
        rows.push(Row::Controller(controller));
        for device in &controller.devices {
            let here = device.host_device(domain, plugged);
            let host = here.and_then(|it| plugged.iter().position(|other| other.busid == it.busid));
            rows.push(Row::Device { controller, device, host });
        }
    }
    rows
}
