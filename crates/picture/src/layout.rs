//! Where everything is, and how it is drawn.

use std::collections::BTreeMap;

use vusb::model::address::PortPath;
use vusb::model::device::Kind;
use vusb::model::rules::Effect;
use vusb::model::selector::BusId;
use vusb::rules::EffectView;
use vusb::view::{ControllerView, Creator, DeviceView, HostDeviceView, RunningView, State};

use crate::guest_positions::{Preference, place};
use crate::guests::{self, Guest, HEADER, ROW, Row, STRIP};
use crate::paint::{Area, Canvas, HEAD, MONO, NAME, SMALL, SMALL_END, TITLE};
use crate::state::{self, Look};
use crate::text::width;
use crate::{Embedding, Topology};

/// The width of a picture in pixels.
pub(crate) const WIDTH: i32 = 1160;

const MARGIN: i32 = 24;
/// Where the boxes begin, below the title and the headings.
const TOP: i32 = 84;
const GAP: i32 = 18;
const PADDING: i32 = 14;
const HOST_X: i32 = MARGIN;
const HOST_WIDTH: i32 = 548;
const GUEST_X: i32 = 700;
const GUEST_WIDTH: i32 = WIDTH - MARGIN - GUEST_X;
/// The height of the heading of a bus.
const BUS: i32 = 34;
/// How far a device behind a hub is moved to the right.
const INDENT: i32 = 16;
/// The deepest level that is indented: USB allows five hubs in a row.
const MAX_DEPTH: i32 = 5;
/// The column of states and rules in the box of a bus.
const HOST_STATE: i32 = 232;
/// The column of states in the box of a guest.
const GUEST_STATE: i32 = 116;
/// The most lines that are drawn from one device to the guests that may get it.
const MAX_CANDIDATES: usize = 4;
const LEGEND_ROW: i32 = 22;

/// A bus of this machine.
#[derive(Debug)]
struct Bus {
    number: u16,
    y: i32,
    /// The numbers of its devices in the list of this machine's devices.
    devices: Vec<usize>,
}

/// A picture with all positions.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    devices: &'a [HostDeviceView],
    effects: BTreeMap<&'a BusId, &'a EffectView>,
    buses: Vec<Bus>,
    /// The middle of each device's row.
    middles: Vec<i32>,
    guests: Vec<Guest<'a>>,
    /// The top of each guest.
    tops: Vec<i32>,
    /// The state of each device of this machine in the guest that has it.
    connected: BTreeMap<usize, State>,
    legend_y: i32,
    pub(crate) height: i32,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(topology: Topology<'a>) -> Layout<'a> {
        let devices = topology.host.devices.as_slice();
        let (buses, middles, host_end) = buses(devices);
        let guests = guests::all(topology.domains, devices);
        let mut connected = BTreeMap::new();
        for guest in &guests {
            for (_, row) in &guest.rows {
                if let Row::Device { device, host: Some(host), .. } = row {
                    connected.insert(*host, device.state);
                }
            }
        }
        let preferences: Vec<Preference> = guests
            .iter()
            .map(|it| Preference { top: preferred_top(it, &middles), height: it.height })
            .collect();
        let tops = place(&preferences, TOP, GAP);
        let ends = guests.iter().zip(&tops).map(|(it, top)| top + it.height);
        // An empty column has one row, with a sentence.
        let guests_end = ends.max().unwrap_or(TOP + ROW);
        let effects = topology.effects.map(|it| it.devices.as_slice()).unwrap_or_default();
        let legend_y = host_end.max(guests_end) + GAP + 6;
        let mut layout = Layout {
            devices,
            effects: effects.iter().map(|it| (&it.busid, it)).collect(),
            buses,
            middles,
            guests,
            tops,
            connected,
            legend_y,
            height: 0,
        };
        let rows = i32::try_from(layout.legend().len().div_ceil(LEGEND_COLUMNS)).unwrap_or(0);
        layout.height = legend_y + rows * LEGEND_ROW + GAP;
        layout
    }

    /// The picture in one sentence.
    pub(crate) fn summary(&self) -> String {
        let devices = self.devices.iter().filter(|it| !it.hub).count();
        let attached = self.connected.values().filter(|it| **it == State::Attached).count();
        let asking = (0..self.devices.len()).filter(|it| self.look(*it) == Some(Look::Asking));
        let guests = self.guests.iter().filter(|it| it.domain.is_some()).count();
        let plural = |count: usize, word: &str| {
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        };
        let mut text = format!(
            "{}, {attached} attached to {}",
            plural(devices, "device"),
            plural(guests, "guest")
        );
        match asking.count() {
            0 => {}
            1 => text += "; 1 waits for an answer",
            count => text += &format!("; {count} wait for an answer"),
        }
        text
    }

    fn effect(&self, device: usize) -> Option<&'a EffectView> {
        let device = self.devices.get(device)?;
        self.effects.get(&device.busid).copied()
    }

    fn look(&self, device: usize) -> Option<Look> {
        let state = self.connected.get(&device).copied();
        state::of_host(self.devices.get(device)?, self.effect(device), state)
    }

    /// The states that occur.
    fn legend(&self) -> Vec<Look> {
        let here = (0..self.devices.len()).filter_map(|it| self.look(it));
        let there = self.guests.iter().flat_map(|it| &it.rows).filter_map(|(_, row)| match row {
            Row::Device { device, .. } => Some(Look::from(device.state)),
            Row::Controller(controller) => state::of_controller(controller.state),
            _ => None,
        });
        let all: Vec<Look> = here.chain(there).collect();
        Look::ALL.into_iter().filter(|it| all.contains(it)).collect()
    }

    pub(crate) fn draw(&self, canvas: &mut Canvas, embedding: Embedding) {
        let half = WIDTH / 2;
        let area = |x, y, width, height| Area { x, y, width, height };
        canvas.text(area(MARGIN, 16, half, 28), TITLE, "USB of this machine and its guests");
        let right = area(half + MARGIN, 16, half - 2 * MARGIN, 28);
        canvas.text(right, SMALL_END, &self.summary());
        canvas.text(area(HOST_X, 56, HOST_WIDTH, 20), SMALL, "Ports of this machine, and rules");
        canvas.text(area(GUEST_X, 56, GUEST_WIDTH, 20), SMALL, "Guests, controllers and ports");
        self.lines(canvas, embedding);
        if self.buses.is_empty() {
            let at = area(HOST_X, TOP, HOST_WIDTH, ROW);
            canvas.text(at, SMALL, "No USB device is plugged in.");
        }
        for bus in &self.buses {
            self.bus(canvas, embedding, bus);
        }
        if self.guests.is_empty() {
            let at = area(GUEST_X, TOP, GUEST_WIDTH, ROW);
            canvas.text(at, SMALL, "No guest has been given anything yet.");
        }
        for (guest, top) in self.guests.iter().zip(&self.tops) {
            self.guest(canvas, embedding, guest, *top);
        }
        self.ends(canvas);
        self.draw_legend(canvas);
    }

    /// For each device of this machine that a guest has: its number, and the position and the
    /// description of its row in the guest.
    fn connections(&self) -> impl Iterator<Item = (usize, i32, &'a DeviceView)> + '_ {
        self.guests.iter().zip(&self.tops).flat_map(|(guest, top)| {
            guest.rows.iter().filter_map(move |(y, row)| match row {
                Row::Device { device, host: Some(host), .. } => {
                    Some((*host, top + y + ROW / 2, *device))
                }
                _ => None,
            })
        })
    }

    fn lines(&self, canvas: &mut Canvas, embedding: Embedding) {
        let from = HOST_X + HOST_WIDTH;
        for (number, device) in self.devices.iter().enumerate() {
            let candidates = match self.effect(number).map(|it| &it.effect) {
                Some(Effect::Attach { domain, .. }) => std::slice::from_ref(domain),
                Some(Effect::Ask { domains, .. } | Effect::Conflict { domains, .. }) => domains,
                _ => continue,
            };
            if device.holder.is_some() || self.connected.contains_key(&number) {
                continue;
            }
            let (Some(y), Some(look)) = (self.middles.get(number), self.look(number)) else {
                continue;
            };
            for candidate in candidates.iter().take(MAX_CANDIDATES) {
                let found = self.guests.iter().zip(&self.tops).find(|(it, _)| {
                    it.domain == Some(candidate.as_str())
                        || (it.domain.is_some() && it.detail == candidate)
                });
                if let Some((_, top)) = found {
                    canvas.line("wish", look, (from, *y), (GUEST_X, top + HEADER / 2));
                }
            }
        }
        for (host, to, device) in self.connections() {
            let Some(y) = self.middles.get(host) else { continue };
            let busid = self.devices.get(host).map(|it| it.busid.to_string()).unwrap_or_default();
            if embedding == Embedding::Page {
                canvas.open("connection", &[("data-of", &busid)]);
            }
            canvas.line("line", device.state.into(), (from, *y), (GUEST_X, to));
            if embedding == Embedding::Page {
                canvas.close();
            }
        }
    }

    /// The ends of the lines, above the boxes.
    fn ends(&self, canvas: &mut Canvas) {
        for (host, to, device) in self.connections() {
            let Some(y) = self.middles.get(host) else { continue };
            canvas.dot(device.state.into(), HOST_X + HOST_WIDTH, *y);
            canvas.dot(device.state.into(), GUEST_X, to);
        }
    }

    fn bus(&self, canvas: &mut Canvas, embedding: Embedding, bus: &Bus) {
        let count = i32::try_from(bus.devices.len()).unwrap_or(0);
        let height = BUS + count * ROW;
        let frame = Area { x: HOST_X, y: bus.y, width: HOST_WIDTH, height };
        canvas.rectangle("card", frame, 8);
        let head = Area { x: HOST_X + PADDING, y: bus.y, width: HOST_WIDTH / 2, height: BUS };
        canvas.text(head, HEAD, &format!("Bus {}", bus.number));
        for number in &bus.devices {
            let (Some(device), Some(middle)) =
                (self.devices.get(*number), self.middles.get(*number))
            else {
                continue;
            };
            canvas.across("rule", HOST_X, middle - ROW / 2, HOST_WIDTH);
            self.host_device(canvas, embedding, *number, device, *middle);
        }
    }

    fn host_device(
        &self,
        canvas: &mut Canvas,
        embedding: Embedding,
        number: usize,
        it: &HostDeviceView,
        middle: i32,
    ) {
        let busid = it.busid.to_string();
        let names: Vec<&str> =
            [&it.vendor, &it.product].into_iter().flatten().map(String::as_str).collect();
        let product = it.product.as_deref().or(it.vendor.as_deref());
        let chosen = embedding == Embedding::Page && !it.hub;
        if chosen {
            let label = format!("{busid} {}", names.join(" "));
            let (at, question) =
                (it.at.to_string(), self.effect(number).and_then(|it| it.question));
            let question = question.map(|it| it.to_string()).unwrap_or_default();
            canvas.open(
                "device",
                &[
                    ("tabindex", "0"),
                    ("role", "button"),
                    ("aria-label", &label),
                    ("data-busid", &busid),
                    ("data-at", &at),
                    ("data-question", &question),
                ],
            );
            let y = middle - ROW / 2;
            canvas.rectangle("hit", Area { x: HOST_X, y, width: HOST_WIDTH, height: ROW }, 0);
        }
        let hubs = it.busid.chain().len().saturating_sub(1);
        let left = HOST_X + PADDING + indent(hubs);
        if let Some(parent) = self.hub(&it.busid) {
            canvas.branch(left - INDENT + 5, parent + 10, middle, INDENT - 8);
        }
        let (above, below) = (middle - 16, middle + 1);
        let line = |x: i32, y: i32, width: i32| Area { x, y, width, height: 17 };
        let port = (width(&busid, 11, true) + 4).min(110);
        canvas.text(line(left, above, port), MONO, &busid);
        let text = left + port.max(44) + 6;
        let room = HOST_X + HOST_WIDTH - HOST_STATE - 8 - text;
        canvas.text(line(text, above, room), NAME, product.unwrap_or("unnamed"));
        let mut detail = vec![it.id.to_string()];
        detail.extend(it.product.as_ref().and(it.vendor.clone()));
        detail.extend(it.speed.map(|speed| format!("{speed} speed")));
        detail.extend(it.serial.as_ref().map(|it| format!("serial {it}")));
        canvas.text(line(text, below, room), SMALL, &detail.join(" · "));
        let states = HOST_X + HOST_WIDTH - HOST_STATE;
        if let Some(look) = self.look(number) {
            canvas.glyph(look, states + 6, middle - 7);
            let room = HOST_STATE - 18 - PADDING;
            let word = match &it.holder {
                Some(by) => format!("{} of {}", by.at, by.domain),
                _ => look.word().to_owned(),
            };
            let at = line(states + 18, above, room);
            canvas.coloured_text(at, SMALL, look.colour(), &word);
            canvas.text(line(states + 18, below, room), SMALL, &self.why(number, it, look));
        }
        if chosen {
            canvas.close();
        }
    }

    /// The rule that applies to a device, or why the device cannot be attached.
    fn why(&self, number: usize, it: &HostDeviceView, look: Look) -> String {
        let rule = self.effect(number).map(|it| state::rule(&it.effect)).unwrap_or_default();
        match look {
            Look::Protected => it.protection.join("; "),
            Look::Busy => it.used_by.clone().unwrap_or_default(),
            Look::Attached | Look::Free if rule.is_empty() => String::new(),
            // The first line of the row already names the guest and the port.
            look if rule.is_empty() && it.holder.is_some() => look.word().to_owned(),
            _ if rule.is_empty() => String::new(),
            _ => rule,
        }
    }

    /// The middle of the row of the hub that a port is behind.
    fn hub(&self, busid: &BusId) -> Option<i32> {
        let (_, hub) = busid.chain().split_last().filter(|(_, hub)| !hub.is_empty())?;
        let is_hub = |it: &HostDeviceView| it.busid.bus() == busid.bus() && it.busid.chain() == hub;
        let number = self.devices.iter().position(is_hub)?;
        self.middles.get(number).copied()
    }

    fn guest(&self, canvas: &mut Canvas, embedding: Embedding, it: &Guest<'_>, top: i32) {
        let frame = Area { x: GUEST_X, y: top, width: GUEST_WIDTH, height: it.height };
        canvas.rectangle("card", frame, 8);
        let left = GUEST_X + PADDING;
        let room = GUEST_WIDTH - 2 * PADDING;
        let state_x = GUEST_X + GUEST_WIDTH - GUEST_STATE;
        let chosen = it.domain.filter(|_| embedding == Embedding::Page);
        if let Some(domain) = chosen {
            let attributes = [
                ("tabindex", "0"),
                ("role", "button"),
                ("aria-label", domain),
                ("data-domain", domain),
            ];
            canvas.open("guest", &attributes);
            let hit = Area { x: GUEST_X, y: top, width: GUEST_WIDTH, height: HEADER };
            canvas.rectangle("hit", hit, 8);
        }
        let title_y = top + if it.detail.is_empty() { 14 } else { 6 };
        let title = Area { x: left, y: title_y, width: room - GUEST_STATE, height: 20 };
        canvas.text(title, HEAD, it.title);
        if !it.state.is_empty() {
            canvas.glyph(it.look, state_x + 6, title_y + 11);
            let at =
                Area { x: state_x + 18, y: title_y + 2, width: GUEST_STATE - 18 - 8, height: 17 };
            canvas.coloured_text(at, SMALL, it.look.colour(), it.state);
        }
        let detail = Area { x: left, y: top + 26, width: room, height: 17 };
        canvas.text(detail, SMALL, it.detail);
        if chosen.is_some() {
            canvas.close();
        }
        let mut hubs: Vec<(PortPath, i32)> = Vec::new();
        for (y, row) in &it.rows {
            let y = top + y;
            match row {
                Row::Controller(controller) => {
                    hubs.clear();
                    strip(canvas, y, &controller.name.to_string(), &about(controller));
                    ports(canvas, controller, y);
                }
                Row::Device { controller, device, host } => {
                    let here = host.and_then(|it| self.devices.get(it));
                    let hub = device.port.parent();
                    let hub = hubs.iter().find(|(port, _)| Some(*port) == hub).map(|it| it.1);
                    hubs.push((device.port, y + ROW / 2));
                    let domain = it.domain.unwrap_or_default();
                    let chosen = embedding == Embedding::Page;
                    if chosen {
                        open_place(canvas, domain, controller, device, here);
                        let hit = Area { x: GUEST_X, y, width: GUEST_WIDTH, height: ROW };
                        canvas.rectangle("hit", hit, 0);
                    }
                    device_row(canvas, device, here, y, hub);
                    if chosen {
                        canvas.close();
                    }
                }
                Row::Foreign(foreign) => {
                    let name = if foreign.id.is_empty() { "controller" } else { &foreign.id };
                    strip(canvas, y, name, &foreign.driver);
                }
                Row::ForeignDevice(it) => two_lines(canvas, y, &it.port, &it.driver, "not vusb's"),
                Row::Other(it) => other_guest(canvas, y, it),
                Row::Nothing => two_lines(canvas, y, "", "no USB", ""),
            }
        }
    }

    fn draw_legend(&self, canvas: &mut Canvas) {
        let column = (WIDTH - 2 * MARGIN) / i32::try_from(LEGEND_COLUMNS).unwrap_or(1);
        let (mut x, mut y) = (MARGIN, self.legend_y);
        for (number, look) in self.legend().into_iter().enumerate() {
            if number > 0 && number % LEGEND_COLUMNS == 0 {
                (x, y) = (MARGIN, y + LEGEND_ROW);
            }
            canvas.glyph(look, x + 6, y + LEGEND_ROW / 2);
            let at = Area { x: x + 18, y, width: column - 22, height: LEGEND_ROW };
            canvas.text(at, SMALL, look.word());
            x += column;
        }
    }
}

/// How many states are in one row of the legend.
const LEGEND_COLUMNS: usize = 8;

/// The buses, the middle of each device's row, and the bottom of the last bus.
fn buses(devices: &[HostDeviceView]) -> (Vec<Bus>, Vec<i32>, i32) {
    let mut buses: Vec<Bus> = Vec::new();
    let mut middles = Vec::new();
    let mut y = TOP;
    for (number, device) in devices.iter().enumerate() {
        let bus = device.busid.bus();
        if buses.last().is_none_or(|it| it.number != bus) {
            y += if buses.is_empty() { 0 } else { GAP };
            buses.push(Bus { number: bus, y, devices: Vec::new() });
            y += BUS;
        }
        if let Some(bus) = buses.last_mut() {
            bus.devices.push(number);
        }
        middles.push(y + ROW / 2);
        y += ROW;
    }
    (buses, middles, y)
}

/// How far a device behind this many hubs is moved to the right.
fn indent(hubs: usize) -> i32 {
    i32::try_from(hubs).unwrap_or(MAX_DEPTH).min(MAX_DEPTH) * INDENT
}

/// Where the top of a guest should be, so that its devices are beside those of this machine.
fn preferred_top(guest: &Guest<'_>, middles: &[i32]) -> Option<i32> {
    let distances = guest.rows.iter().filter_map(|(y, row)| match row {
        Row::Device { host: Some(host), .. } => Some(middles.get(*host)? - (y + ROW / 2)),
        _ => None,
    });
    let mut distances: Vec<i32> = distances.collect();
    distances.sort_unstable();
    // The median: one device that is far away does not move the guest away from all others.
    distances.get(distances.len() / 2).copied()
}

/// The model of a controller, and what is special about it.
fn about(it: &ControllerView) -> String {
    let mut text = format!("{} · USB {}", it.model.name(), it.usbversion);
    if let Some(backend) = &it.backend {
        text += &format!(" · devices of {backend}");
    }
    if let Some(look) = state::of_controller(it.state) {
        text += &format!(" · {}", look.word());
    }
    if i32::from(it.ports) > MAX_PORTS {
        text += &format!(" · {MAX_PORTS} of {} ports shown", it.ports);
    }
    if it.origin == Creator::Other {
        text += " · not vusb's";
    }
    text
}

/// The width of the widest row of ports.
const PORTS_WIDTH: i32 = 16 * PORT_STEP;
/// The width of a port, with the gap after it.
const PORT_STEP: i32 = 6;
/// The same for controllers with many ports.
const NARROW_STEP: i32 = 3;
/// The most ports that are drawn. No controller of vusb has more than 31.
const MAX_PORTS: i32 = PORTS_WIDTH / NARROW_STEP;

fn strip(canvas: &mut Canvas, y: i32, name: &str, about: &str) {
    canvas.rectangle("strip", Area { x: GUEST_X + 1, y, width: GUEST_WIDTH - 2, height: STRIP }, 0);
    let left = GUEST_X + PADDING;
    let name_width = (width(name, 14, false) + 4).clamp(40, 80);
    canvas.text(Area { x: left, y: y + 6, width: name_width, height: 18 }, NAME, name);
    let x = left + name_width + 6;
    let width = GUEST_X + GUEST_WIDTH - PADDING - 4 - x - 102;
    canvas.text(Area { x, y: y + 6, width, height: 18 }, SMALL, about);
}

/// The ports of a controller: a square for each, filled if it is in use.
fn ports(canvas: &mut Canvas, it: &ControllerView, y: i32) {
    let count = i32::from(it.ports);
    let step = if count * PORT_STEP <= PORTS_WIDTH { PORT_STEP } else { NARROW_STEP };
    let size = step - 1;
    let drawn = count.min(MAX_PORTS);
    let first = GUEST_X + GUEST_WIDTH - PADDING - drawn * step;
    for port in 1..=drawn {
        let used = it
            .devices
            .iter()
            .find(|it| it.port.parent().is_none() && i32::from(it.port.port()) == port);
        let colour = used
            .map_or("free-port".to_owned(), |it| format!("{}-fill", Look::from(it.state).colour()));
        let x = first + (port - 1) * step;
        canvas.rectangle(&colour, Area { x, y: y + 11, width: size, height: 8 }, 1);
    }
}

/// Begins the group of a device in a guest. The reader of a page can select the group.
fn open_place(
    canvas: &mut Canvas,
    domain: &str,
    controller: &ControllerView,
    device: &DeviceView,
    here: Option<&HostDeviceView>,
) {
    let at = format!("{}:{}", controller.name, device.port);
    let name = device.name.to_string();
    let label = format!("{name} at {at} of {domain}");
    let busid = here.map(|it| it.busid.to_string()).unwrap_or_default();
    canvas.open(
        "place",
        &[
            ("tabindex", "0"),
            ("role", "button"),
            ("aria-label", label.as_str()),
            ("data-domain", domain),
            ("data-place", &at),
            ("data-name", &name),
            ("data-of", &busid),
        ],
    );
}

/// A guest that vusb does not know.
fn other_guest(canvas: &mut Canvas, y: i32, it: &RunningView) {
    let name = it.name.as_deref().or(it.address.as_deref()).unwrap_or("unnamed");
    let mut detail = vec![format!("{} {}", it.hypervisor, it.id)];
    detail.extend(it.name.as_ref().and(it.address.clone()));
    detail.extend(it.manager.as_ref().map(|it| format!("started by {it}")));
    two_lines(canvas, y, "", name, &detail.join(" · "));
}

fn two_lines(canvas: &mut Canvas, y: i32, port: &str, above: &str, below: &str) {
    canvas.across("rule", GUEST_X, y, GUEST_WIDTH);
    let left = GUEST_X + PADDING;
    let x = if port.is_empty() { left } else { left + 44 };
    let width = GUEST_X + GUEST_WIDTH - PADDING - x;
    canvas.text(Area { x: left, y: y + 3, width: 42, height: 17 }, MONO, port);
    canvas.text(Area { x, y: y + 3, width, height: 17 }, NAME, above);
    canvas.text(Area { x, y: y + 20, width, height: 17 }, SMALL, below);
}

fn device_row(
    canvas: &mut Canvas,
    it: &DeviceView,
    here: Option<&HostDeviceView>,
    y: i32,
    hub: Option<i32>,
) {
    canvas.across("rule", GUEST_X, y, GUEST_WIDTH);
    let middle = y + ROW / 2;
    let left = GUEST_X + PADDING + indent(it.port.depth().saturating_sub(1));
    if let Some(hub) = hub {
        canvas.branch(left - INDENT + 5, hub + 10, middle, INDENT - 8);
    }
    let port = it.port.to_string();
    let port_width = (width(&port, 11, true) + 4).clamp(24, 64);
    let line = |x: i32, y: i32, width: i32| Area { x, y, width, height: 17 };
    canvas.text(line(left, y + 3, port_width), MONO, &port);
    let x = left + port_width + 4;
    let state_x = GUEST_X + GUEST_WIDTH - GUEST_STATE;
    canvas.text(line(x, y + 3, state_x - 6 - x), NAME, &it.name.to_string());
    let what = match (&it.kind, here) {
        (Kind::Host(host), Some(here)) => {
            let names = [&here.vendor, &here.product].into_iter().flatten();
            let names: Vec<&str> = names.map(String::as_str).collect();
            if names.is_empty() { host.selector.to_string() } else { names.join(" ") }
        }
        (Kind::Host(host), None) => format!("host {}", host.selector),
        (kind, _) => kind.to_string().replacen(':', " ", 1),
    };
    let foreign = if it.origin == Creator::Other { " · not vusb's" } else { "" };
    canvas.text(line(x, y + 20, state_x - 6 - x), SMALL, &format!("{what}{foreign}"));
    let look = Look::from(it.state);
    canvas.glyph(look, state_x + 6, y + 12);
    let room = GUEST_STATE - 18 - 8;
    canvas.coloured_text(line(state_x + 18, y + 3, room), SMALL, look.colour(), look.word());
    if let Some(here) = here {
        canvas.text(line(state_x + 18, y + 20, room), MONO, &here.busid.to_string());
    }
}
