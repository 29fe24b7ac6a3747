//! Domains as trees: controllers, and below each what is plugged in, hubs before what is behind them.
//!
//! ```text
//! web1 (qemu:/run/web1.qmp)
//! PLACE  NAME      TYPE      WHAT               PORTS  STATE
//! 0      hci0      emulated  qemu-xhci          2/15   present
//!   1    stick     host      0781:5581                 attached
//!   2    hub0      hub                                 attached
//!     2.1  mouse0  mouse                               attached
//! ```

use vusb::model::address::PortPath;
use vusb::model::device::Kind;
use vusb::model::hardware::{Controller, Hardware};
use vusb::view::{
    AllView, ControllerView, DeviceView, DomainView, ForeignView, Origin, UnreachableView,
};

use super::table;

const HEADER: [&str; 6] = ["PLACE", "NAME", "TYPE", "WHAT", "PORTS", "STATE"];

/// One line of a tree.
type Line = [String; 6];

/// All domains, one after the other, and those that cannot be shown.
pub(crate) fn all(view: &AllView) -> String {
    let shown = view.domains.iter().map(domain);
    let others = view.unreachable.iter().map(unreachable);
    shown.chain(others).collect::<Vec<_>>().join("\n\n")
}

/// One domain, with all that it has.
pub(crate) fn domain(view: &DomainView) -> String {
    if view.controllers.is_empty() && view.foreign.is_empty() {
        return format!("{}: no USB", title(view));
    }
    let foreign = view.foreign.iter().flat_map(foreign_lines);
    format!("{}\n{}", title(view), table(HEADER, tree(&view.controllers).chain(foreign)))
}

fn tree(controllers: &[ControllerView]) -> impl Iterator<Item = Line> {
    controllers.iter().flat_map(|it| {
        let devices = it.devices.iter().map(device_line);
        std::iter::once(controller_line(it)).chain(devices)
    })
}

fn title(view: &DomainView) -> String {
    let text = if view.domain == view.address {
        view.domain.clone()
    } else {
        format!("{} ({})", view.domain, view.address)
    };
    crate::safe::line(&text).into_owned()
}

fn unreachable(view: &UnreachableView) -> String {
    let line = |text: String| crate::safe::line(&text).into_owned();
    let mut text = line(format!("{}: cannot be shown: {}", view.domain, view.why));
    if !view.holds.is_empty() {
        text += &format!("\n{}", line(format!("it holds {} all the same", view.holds.join(", "))));
    }
    if !view.controllers.is_empty() {
        text += &format!("\non record of it is:\n{}", table(HEADER, tree(&view.controllers)));
    }
    text
}

/// How many of a controller's own ports have something in them.
fn used(ports: impl Iterator<Item = PortPath>) -> usize {
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
        of(&it.state.to_string(), it.origin),
    ]
}

fn with_companions(model: &str, any: bool) -> String {
    if any { format!("{model} + companions") } else { model.to_owned() }
}

/// The model, and whose devices it carries.
fn on_backend(model: String, backend: Option<&str>) -> String {
    backend.map_or_else(|| model.clone(), |backend| format!("{model} of {backend}"))
}

fn device_line(it: &DeviceView) -> Line {
    [
        indented(it.port),
        it.name.to_string(),
        it.kind.word().to_owned(),
        detail(&it.kind),
        String::new(),
        of(&it.state.to_string(), it.origin),
    ]
}

fn indented(port: PortPath) -> String {
    format!("{:width$}{port}", "", width = 2 * port.depth())
}

/// What a kind is beyond its word: `stick.img,readonly`.
fn detail(kind: &Kind) -> String {
    let text = kind.to_string();
    let rest = text.strip_prefix(kind.word()).and_then(|rest| rest.strip_prefix(':'));
    rest.unwrap_or_default().to_owned()
}

/// The state, and that it is another's where it is.
fn of(state: &str, origin: Origin) -> String {
    match origin {
        Origin::Vusb => state.to_owned(),
        Origin::Other => format!("{state}, not vusb's"),
    }
}

fn foreign_lines(it: &ForeignView) -> impl Iterator<Item = Line> {
    let line = |place: String, name: &str, what: &str| {
        let state = "present, left alone".to_owned();
        [place, name.to_owned(), "foreign".to_owned(), what.to_owned(), String::new(), state]
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
                it.kind.word().to_owned(),
                detail(&it.kind),
                of(&it.state.to_string(), it.origin),
            ]
        })
    });
    table(["PLACE", "NAME", "KIND", "WHAT", "STATE"], lines)
}

/// Hardware that is only planned.
pub(crate) fn planned(hardware: &Hardware) -> String {
    let lines = hardware.controllers().flat_map(|controller| {
        let devices = controller.devices().map(|(port, device)| {
            let kind = &device.kind;
            [
                indented(port),
                device.name.to_string(),
                kind.word().to_owned(),
                detail(kind),
                String::new(),
            ]
        });
        std::iter::once(planned_controller(controller)).chain(devices)
    });
    table(["PLACE", "NAME", "TYPE", "WHAT", "PORTS"], lines)
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
