//! Domains drawn as they are connected, for people.
//!
//! ```text
//! web1 (qemu:/run/web1.qmp)
//! PORT         NAME    WHAT                             HOST PORT  STATE
//! ├─ 0         hci0    qemu-xhci, 2 of 15 ports in use             present
//! │  ├─ 1      stick   host 0781:5581 SanDisk Ultra     1-4.2      attached
//! │  └─ 2      hub0    hub                                         attached
//! │     └─ 2.1 mouse0  mouse                                       attached
//! └─ 1         hci1    piix3-uhci, 0 of 2 ports in use             present
//!
//! present   the guest has it
//! attached  the guest sees it
//! ```

use std::collections::BTreeSet;

use vusb::model::address::PortPath;
use vusb::model::device::Kind;
use vusb::view::{
    AllView, ControllerState, ControllerView, Creator, DeviceView, DomainView, ForeignView,
    HostDeviceView, State,
};

use super::domains::{on_backend, title, unrecorded, used, what, with_companions};
use super::layout::table;
use crate::safe;

const HEADER: [&str; 5] = ["PORT", "NAME", "WHAT", "HOST PORT", "STATE"];

/// One line of a tree.
type Line = [String; 5];

/// The characters that a tree is drawn with, each three columns wide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    /// Before an item that others follow.
    branch: &'static str,
    /// Before the last item.
    last: &'static str,
    /// Beside what is below an item that others follow.
    bar: &'static str,
}

impl Lines {
    /// Lines of box-drawing characters, or of ASCII characters.
    pub(crate) const fn new(ascii: bool) -> Lines {
        if ascii {
            Lines { branch: "|- ", last: "`- ", bar: "|  " }
        } else {
            Lines { branch: "├─ ", last: "└─ ", bar: "│  " }
        }
    }

    const fn branch(self, last: bool) -> &'static str {
        if last { self.last } else { self.branch }
    }

    const fn below(self, last: bool) -> &'static str {
        if last { "   " } else { self.bar }
    }
}

/// One domain as a tree, with the states that occur in it.
pub(crate) fn tree(view: &DomainView, plugged: &[HostDeviceView], lines: Lines) -> String {
    let legend = legend(&view.controllers, !view.foreign.is_empty());
    with_legend(vec![domain(view, plugged, lines)], legend)
}

/// All domains as trees, then those that could not be listed, then other guests.
pub(crate) fn trees(view: &AllView, plugged: &[HostDeviceView], lines: Lines) -> String {
    let mut parts: Vec<String> = view.domains.iter().map(|it| domain(it, plugged, lines)).collect();
    for it in &view.unreachable {
        let holds = if it.holds.is_empty() {
            String::new()
        } else {
            format!("\n{}", safe::line(&format!("it still holds {}", it.holds.join(", "))))
        };
        let head = format!("{}: cannot be listed: {}", it.domain, it.why);
        let mut part = format!("{}{holds}", safe::line(&head));
        if !it.controllers.is_empty() {
            let drawn = drawn(&it.domain, &it.controllers, &[], plugged, lines);
            part += &format!("\nits record has:\n{drawn}");
        }
        parts.push(part);
    }
    if !view.unrecorded.is_empty() {
        parts.push(unrecorded(&view.unrecorded));
    }
    let shown = view.domains.iter().map(|it| &it.controllers);
    let recorded = view.unreachable.iter().map(|it| &it.controllers);
    let all: Vec<ControllerView> = shown.chain(recorded).flatten().cloned().collect();
    let foreign = view.domains.iter().any(|it| !it.foreign.is_empty());
    with_legend(parts, legend(&all, foreign))
}

fn with_legend(mut parts: Vec<String>, legend: Option<String>) -> String {
    parts.extend(legend);
    parts.join("\n\n")
}

fn domain(view: &DomainView, plugged: &[HostDeviceView], lines: Lines) -> String {
    if view.controllers.is_empty() && view.foreign.is_empty() {
        return format!("{}: no USB", title(view));
    }
    let drawn = drawn(&view.domain, &view.controllers, &view.foreign, plugged, lines);
    format!("{}\n{drawn}", title(view))
}

fn drawn(
    domain: &str,
    controllers: &[ControllerView],
    foreign: &[ForeignView],
    plugged: &[HostDeviceView],
    lines: Lines,
) -> String {
    let count = controllers.len() + foreign.len();
    let is_last = |number: usize| number + 1 == count;
    let known = controllers.iter().enumerate().flat_map(|(number, it)| {
        let last = is_last(number);
        let devices = it.devices.iter().map(move |device| {
            let prefix = format!("{}{}", lines.below(last), prefix(device.port, it, lines));
            device_line(domain, device, &prefix, plugged)
        });
        std::iter::once(controller_line(it, lines.branch(last))).chain(devices)
    });
    let others = foreign
        .iter()
        .enumerate()
        .flat_map(|(number, it)| foreign_lines(it, is_last(controllers.len() + number), lines));
    let all: Vec<Line> = known.chain(others).collect();
    let is_host = |it: &DeviceView| matches!(it.kind, Kind::Host(_));
    if controllers.iter().flat_map(|it| &it.devices).any(is_host) {
        return table(HEADER, all);
    }
    let without = |[port, name, what, _, state]: Line| [port, name, what, state];
    table(["PORT", "NAME", "WHAT", "STATE"], all.into_iter().map(without))
}

fn controller_line(it: &ControllerView, prefix: &str) -> Line {
    let model = with_companions(it.model.name(), !it.companions.is_empty());
    let used = used(it.devices.iter().map(|device| device.port));
    [
        format!("{prefix}{}", it.index),
        it.name.to_string(),
        format!(
            "{}, {used} of {} ports in use",
            on_backend(model, it.backend.as_deref()),
            it.ports
        ),
        String::new(),
        state(&it.state.to_string(), it.origin),
    ]
}

fn device_line(domain: &str, it: &DeviceView, prefix: &str, plugged: &[HostDeviceView]) -> Line {
    let here = it.host_device(domain, plugged);
    let mut text = format!("{} {}", it.kind.name(), what(it)).trim_end().to_owned();
    for name in here.iter().flat_map(|it| [&it.vendor, &it.product]).flatten() {
        text = format!("{text} {name}");
    }
    [
        format!("{prefix}{}", it.port),
        it.name.to_string(),
        text,
        here.map(|it| it.busid.to_string()).unwrap_or_default(),
        state(&it.state.to_string(), it.origin),
    ]
}

fn foreign_lines(it: &ForeignView, last: bool, lines: Lines) -> Vec<Line> {
    let line = |port: String, name: &str, what: &str| {
        let state = state("present", Creator::Other);
        [port, name.to_owned(), what.to_owned(), String::new(), state]
    };
    let name = if it.id.is_empty() { "-" } else { &it.id };
    let mut all = vec![line(format!("{}-", lines.branch(last)), name, &it.driver)];
    for (number, device) in it.devices.iter().enumerate() {
        let branch = lines.branch(number + 1 == it.devices.len());
        let port = format!("{}{branch}{}", lines.below(last), device.port);
        all.push(line(port, "-", &device.driver));
    }
    all
}

/// What is before the port of a device: a line for each hub that it is behind, and its own branch.
fn prefix(port: PortPath, controller: &ControllerView, lines: Lines) -> String {
    let is_last = |port: PortPath| {
        let mut ports = controller.devices.iter().map(|it| it.port);
        !ports.any(|other| other.parent() == port.parent() && other > port)
    };
    let hubs = std::iter::successors(port.parent(), |hub| hub.parent());
    let hubs: Vec<&str> = hubs.map(|hub| lines.below(is_last(hub))).collect();
    let hubs: String = hubs.into_iter().rev().collect();
    format!("{hubs}{}", lines.branch(is_last(port)))
}

/// The state, marked with `*` if vusb does not manage the item.
fn state(state: &str, origin: Creator) -> String {
    match origin {
        Creator::Vusb => state.to_owned(),
        Creator::Other => format!("{state} *"),
    }
}

/// The meaning of each state that occurs, and of the mark.
fn legend(controllers: &[ControllerView], foreign: bool) -> Option<String> {
    let devices = || controllers.iter().flat_map(|it| &it.devices);
    let of_controllers: BTreeSet<&str> =
        controllers.iter().map(|it| controller_meaning(it.state)).collect();
    let of_devices: BTreeSet<&str> = devices().map(|it| device_meaning(it.state)).collect();
    let others = controllers.iter().map(|it| it.origin).chain(devices().map(|it| it.origin));
    let marked = foreign || others.into_iter().any(|it| it == Creator::Other);
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for (word, meaning) in CONTROLLER_STATES.iter().chain(&DEVICE_STATES) {
        let occurs = of_controllers.contains(meaning) || of_devices.contains(meaning);
        if occurs && !lines.iter().any(|(_, known)| known == meaning) {
            lines.push((word, meaning));
        }
    }
    if marked {
        lines.push(("*", "not vusb's: of the hypervisor's command line or of another tool"));
    }
    let width = lines.iter().map(|(word, _)| word.len()).max()?;
    let lines: Vec<String> =
        lines.iter().map(|(word, meaning)| format!("{word:width$}  {meaning}")).collect();
    Some(lines.join("\n"))
}

const PRESENT: &str = "the guest has it";
const BROKEN: &str = "it is disconnected; `vusb apply DOMAIN` recreates it";
const MISSING: &str =
    "it is recorded, but the guest does not have it; `vusb apply DOMAIN` restores it";
const UNKNOWN: &str = "it is recorded, but the guest cannot be asked now";
const ATTACHED: &str = "the guest sees it";
const ABSENT: &str = "it has its port, but the host device is unplugged, or no peer is connected";
const OFFERED: &str = "the guest was notified of it and has not taken it yet";
const CONFIGURED: &str = "the guest does not have it before its next start";

const SUSPENDED: &str = "it was taken out; `vusb resume DOMAIN` puts it back";

const CONTROLLER_STATES: [(&str, &str); 5] = [
    ("present", PRESENT),
    ("broken", BROKEN),
    ("configured", CONFIGURED),
    ("missing", MISSING),
    ("unknown", UNKNOWN),
];

const DEVICE_STATES: [(&str, &str); 7] = [
    ("attached", ATTACHED),
    ("absent", ABSENT),
    ("offered", OFFERED),
    ("configured", CONFIGURED),
    ("missing", MISSING),
    ("suspended", SUSPENDED),
    ("unknown", UNKNOWN),
];

const fn controller_meaning(state: ControllerState) -> &'static str {
    match state {
        ControllerState::Present => PRESENT,
        ControllerState::Missing => MISSING,
        ControllerState::Broken => BROKEN,
        ControllerState::Unknown => UNKNOWN,
        ControllerState::Configured => CONFIGURED,
    }
}

const fn device_meaning(state: State) -> &'static str {
    match state {
        State::Attached => ATTACHED,
        State::Absent => ABSENT,
        State::Offered => OFFERED,
        State::Configured => CONFIGURED,
        State::Missing => MISSING,
        State::Suspended => SUSPENDED,
        State::Unknown => UNKNOWN,
    }
}
