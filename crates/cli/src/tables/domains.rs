//! Domains as trees: below each controller are its devices, hubs before the devices behind them.
//!
//! ```text
//! web1 (qemu:/run/web1.qmp)
//! LOCATION  NAME    TYPE      WHAT       PORTS  STATE
//! 0         hci0    emulated  qemu-xhci  2/15   present
//!   1       stick   host      0781:5581         attached
//!   2       hub0    hub                         attached
//!     2.1   mouse0  mouse                       attached
//! ```

use vusb::model::address::PortPath;
use vusb::model::device::Kind;
use vusb::model::hardware::{Controller, Hardware};
use vusb::model::list::few;
use vusb::view::{
    AllView, ControllerView, Creator, DeviceView, DomainState, DomainView, DomainsView,
    ForeignView, RecordedView, RunningView, UnreachableView,
};

use super::layout::table;

const HEADER: [&str; 6] = ["LOCATION", "NAME", "TYPE", "WHAT", "PORTS", "STATE"];

/// One line of a tree.
type Line = [String; 6];

/// All domains, one after another, then those that could not be listed, then other guests.
pub(crate) fn all(view: &AllView) -> String {
    let shown = view.domains.iter().map(domain);
    let others = view.unreachable.iter().map(unreachable);
    let unrecorded = (!view.unrecorded.is_empty()).then(|| unrecorded(&view.unrecorded));
    shown.chain(others).chain(unrecorded).collect::<Vec<_>>().join("\n\n")
}

/// The guests that have no record, in a table.
pub(super) fn unrecorded(guests: &[RunningView]) -> String {
    let line = |guest: &RunningView| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let address = guest.address.clone().unwrap_or_else(|| "(no address)".to_owned());
        [
            address,
            text(&guest.name),
            format!("{} {}", guest.hypervisor, guest.id),
            text(&guest.manager),
        ]
    };
    let header = ["ADDRESS", "NAME", "RUNS AS", "STARTED BY"];
    let lines = guests.iter().map(line);
    if guests.iter().all(|guest| guest.host_devices.is_empty()) {
        return format!("Other running guests:\n{}", table(header, lines));
    }
    let [address, name, process, manager] = header;
    let header = [address, name, process, manager, "HOST DEVICES"];
    let lines = lines.zip(guests).map(|([address, name, process, manager], guest)| {
        [address, name, process, manager, few(&guest.host_devices)]
    });
    format!("Other running guests:\n{}", table(header, lines))
}

/// One domain with its controllers and devices.
pub(crate) fn domain(view: &DomainView) -> String {
    if view.controllers.is_empty() && view.foreign.is_empty() {
        return format!("{}: no USB", title(view));
    }
    let foreign = view.foreign.iter().flat_map(foreign_lines);
    format!("{}\n{}", title(view), table(HEADER, tree(&view.controllers).chain(foreign)))
}

/// The recorded domains, and the records that cannot be read.
pub(crate) fn recorded(view: &DomainsView) -> String {
    let line = |it: &RecordedView| {
        let name = if it.domain == it.address { "-" } else { &it.domain };
        let suspended = if it.suspended { ", suspended" } else { "" };
        [
            name.to_owned(),
            it.address.clone(),
            format!("{}{suspended}", it.state),
            it.profile.to_string(),
            it.controllers.to_string(),
            it.devices.to_string(),
            it.claims.join(", "),
        ]
    };
    let header = ["NAME", "ADDRESS", "STATE", "PROFILE", "CONTROLLERS", "DEVICES", "CLAIMS"];
    let domains = table(header, view.domains.iter().map(line));
    let damaged = view.damaged.iter().map(|it| {
        let text = format!("{} cannot be read: {}; repair or delete it", it.path.display(), it.why);
        crate::safe::line(&text).into_owned()
    });
    std::iter::once(domains).chain(damaged).collect::<Vec<_>>().join("\n")
}

fn tree(controllers: &[ControllerView]) -> impl Iterator<Item = Line> {
    controllers.iter().flat_map(|it| {
        let devices = it.devices.iter().map(device_line);
        std::iter::once(controller_line(it)).chain(devices)
    })
}

pub(super) fn title(view: &DomainView) -> String {
    let mut text = if view.domain == view.address {
        view.domain.clone()
    } else {
        format!("{} ({})", view.domain, view.address)
    };
    if view.state == DomainState::Gone {
        text += ", gone";
    }
    if view.state == DomainState::Off {
        text += ", off";
    }
    if view.suspended {
        text += ", suspended";
    }
    crate::safe::line(&text).into_owned()
}

fn unreachable(view: &UnreachableView) -> String {
    let line = |text: String| crate::safe::line(&text).into_owned();
    let mut text = line(format!("{}: cannot be listed: {}", view.domain, view.why));
    if !view.holds.is_empty() {
        text += &format!("\n{}", line(format!("it still holds {}", view.holds.join(", "))));
    }
    if !view.controllers.is_empty() {
        text += &format!("\nits record has:\n{}", table(HEADER, tree(&view.controllers)));
    }
    text
}

/// How many of a controller's own ports are in use; ports of hubs do not count.
pub(super) fn used(ports: impl Iterator<Item = PortPath>) -> usize {
    ports.filter(|port| port.parent().is_none()).count()
}

fn controller_line(it: &ControllerView) -> Line {
    [
        it.index.to_string(),
        it.name.to_string(),
        it.controller_type.to_string(),
        on_backend(
            with_companions(it.model.name(), !it.companions.is_empty()),
            it.backend.as_deref(),
        ),
        format!("{}/{}", used(it.devices.iter().map(|device| device.port)), it.ports),
        state_text(&it.state.to_string(), it.origin),
    ]
}

pub(super) fn with_companions(model: &str, any: bool) -> String {
    if any { format!("{model} + companions") } else { model.to_owned() }
}

/// The model, and the backend domain if there is one.
pub(super) fn on_backend(model: String, backend: Option<&str>) -> String {
    backend.map_or_else(|| model.clone(), |backend| format!("{model} of {backend}"))
}

fn device_line(it: &DeviceView) -> Line {
    [
        indented(it.port),
        it.name.to_string(),
        it.kind.name().to_owned(),
        what(it),
        String::new(),
        state_text(&it.state.to_string(), it.origin),
    ]
}

/// The text of a device's kind, with the terminal of a serial adapter.
pub(super) fn what(it: &DeviceView) -> String {
    let detail = detail(&it.kind);
    it.terminal.as_ref().map_or_else(|| detail.clone(), |path| format!("{detail} {path}"))
}

fn indented(port: PortPath) -> String {
    format!("{:width$}{port}", "", width = 2 * port.depth())
}

/// The text of a kind without its word: `stick.img,readonly`.
pub(super) fn detail(kind: &Kind) -> String {
    let text = kind.to_string();
    let rest = text.strip_prefix(kind.name()).and_then(|rest| rest.strip_prefix(':'));
    rest.unwrap_or_default().to_owned()
}

/// The state, marked if vusb does not manage the item.
pub(super) fn state_text(state: &str, origin: Creator) -> String {
    match origin {
        Creator::Vusb => state.to_owned(),
        Creator::Other => format!("{state}, not vusb's"),
    }
}

fn foreign_lines(it: &ForeignView) -> impl Iterator<Item = Line> {
    let line = |location: String, name: &str, what: &str| {
        let state = "present, not vusb's".to_owned();
        [location, name.to_owned(), "foreign".to_owned(), what.to_owned(), String::new(), state]
    };
    let name = if it.id.is_empty() { "-" } else { &it.id };
    let devices = it
        .devices
        .iter()
        .map(move |device| line(format!("  {}", device.port), "-", &device.driver));
    std::iter::once(line("-".to_owned(), name, &it.driver)).chain(devices)
}

/// The controllers of a domain.
pub(crate) fn controllers(view: &DomainView) -> String {
    let header = ["INDEX", "NAME", "TYPE", "MODEL", "PORTS", "STATE"];
    let foreign = view.foreign.iter().flat_map(|it| foreign_lines(it).take(1));
    table(header, view.controllers.iter().map(controller_line).chain(foreign))
}

/// The devices of a domain.
pub(crate) fn devices(view: &DomainView) -> String {
    let lines = view.controllers.iter().flat_map(|controller| {
        controller.devices.iter().map(move |it| {
            [
                format!("{}:{}", controller.name, it.port),
                it.name.to_string(),
                it.kind.name().to_owned(),
                what(it),
                state_text(&it.state.to_string(), it.origin),
            ]
        })
    });
    table(["LOCATION", "NAME", "KIND", "WHAT", "STATE"], lines)
}

/// Planned hardware.
pub(crate) fn planned(hardware: &Hardware) -> String {
    let lines = hardware.controllers().flat_map(|controller| {
        let devices = controller.devices().map(|(port, device)| {
            let kind = &device.kind;
            [
                indented(port),
                device.name.to_string(),
                kind.name().to_owned(),
                detail(kind),
                String::new(),
            ]
        });
        std::iter::once(planned_controller(controller)).chain(devices)
    });
    table(["LOCATION", "NAME", "TYPE", "WHAT", "PORTS"], lines)
}

fn planned_controller(it: &Controller) -> [String; 5] {
    [
        it.index.to_string(),
        it.name.to_string(),
        it.model.controller_type().to_string(),
        with_companions(it.model.name(), !it.companions.is_empty()),
        format!("{}/{}", used(it.devices().map(|(port, _)| port)), it.ports.count()),
    ]
}
