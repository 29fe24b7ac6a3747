//! What a VMX file says of USB, with the keys that say it.
//!
//! ```text
//!  usb.present ─▶ controllers ◀─ usb:N.parent, usb:N.port ─ entries: mice, hubs     keyboard.vusb.enable ─▶ a keyboard
//!  usb.autoConnect.deviceN ─▶ devices of the host, on no port that is said
//! ```

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU8;
use std::ops::Range;

use vusb_model::address::PortPath;
use vusb_model::borders;
use vusb_model::device::{HostRef, Hub, Input, Kind};
use vusb_model::models::Model;

use super::HUB_PORTS;
use super::dictionary::{Dictionary, Entry, shown};
use super::pattern::{self, Pattern};
use crate::error::Problem;

/// The controllers that VMware has, in the order of their indexes: one of each at the most.
pub(super) const CONTROLLERS: [Model; 3] = [Model::Piix4Uhci, Model::Ehci, Model::QemuXhci];

/// The key of a virtual keyboard on USB.
pub(super) const KEYBOARD: &str = "keyboard.vusb.enable";

/// What the keys of the host's devices begin with; a number follows.
pub(super) const AUTO_CONNECT: &str = "usb.autoConnect.device";

/// The first of the numbers that VMware gives to the USB 2 halves of its xHCI's ports. Those before are the USB 3 halves: it counts
/// four logical ports of each ("Add a USB Controller to a Virtual Machine" in VMware's manual); its own files have mice and hubs
/// on 4 to 7, and a Linux guest finds that hub 7 on port 4 of its USB 2 bus.
const XHCI_USB2: u8 = 4;

/// What VMware's keys for a controller begin with: `usb`, `ehci`, `usb_xhci`.
pub(super) fn stem(model: Model) -> &'static str {
    borders::names(model).vmware.unwrap_or_default()
}

/// The key that says that there is a controller.
pub(super) fn present(model: Model) -> String {
    format!("{}.present", stem(model))
}

/// The keys that say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// `usb:1.present` and all else that begins with `usb:1.`.
    Item(Model, u16),
    /// `keyboard.vusb.enable`.
    Keyboard,
    /// `usb.autoConnect.device1`.
    AutoConnect(u16),
}

/// A device that is said.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) said: Said,
    pub(super) kind: Kind,
    /// The port, where one is said.
    pub(super) port: Option<PortPath>,
    pub(super) remarks: Vec<String>,
    /// The line that says that it is there.
    pub(super) line: Range<usize>,
    /// What says what it is.
    pub(super) what: Range<usize>,
    /// What says its port.
    pub(super) port_span: Option<Range<usize>>,
}

/// All that is said of USB.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The controllers with the line that says that each is there, and its value.
    pub(super) controllers: Vec<(Model, Range<usize>, Range<usize>)>,
    pub(super) devices: Vec<Device>,
    /// Items that have no place in the model, and the ports that they hold.
    pub(super) held: Vec<(Model, u16, PortPath)>,
    pub(super) warnings: Vec<Problem>,
}

impl Found {
    pub(super) fn new(dictionary: &Dictionary<'_>) -> Result<Found, Problem> {
        let mut found = Found::default();
        found.read_controllers(dictionary)?;
        found.read_items(dictionary)?;
        found.read_keyboard(dictionary)?;
        found.read_auto_connect(dictionary);
        Ok(found)
    }

    pub(super) fn has(&self, model: Model) -> bool {
        self.controllers.iter().any(|(there, ..)| *there == model)
    }

    fn read_controllers(&mut self, dictionary: &Dictionary<'_>) -> Result<(), Problem> {
        for model in CONTROLLERS {
            let Some(entry) = dictionary.flag(&present(model))? else { continue };
            if model == Model::Ehci && !self.has(Model::Piix4Uhci) {
                self.warnings.push(
                    Problem::new(entry.line.clone(), "VMware has its EHCI beside its UHCI alone: without `usb.present` there is neither")
                        .help("say usb.present = \"TRUE\" too, or take this line out"),
                );
                continue;
            }
            self.controllers.push((model, entry.line.clone(), entry.value_span.clone()));
        }
        Ok(())
    }

    fn read_items(&mut self, dictionary: &Dictionary<'_>) -> Result<(), Problem> {
        let items = Items::new(dictionary);
        for (model, number) in items.0.keys() {
            let present = format!("{}:{number}.present", stem(*model));
            if let Some(there) = dictionary.flag(&present)? {
                self.read_item(dictionary, &items, (*model, *number), there);
            }
        }
        Ok(())
    }

    /// Reads the item that the line `there` says is there.
    fn read_item(
        &mut self,
        dictionary: &Dictionary<'_>,
        items: &Items,
        (model, number): (Model, u16),
        there: &Entry<'_>,
    ) {
        let name = format!("{}:{number}", stem(model));
        let property = |word: &str| dictionary.get(&format!("{name}.{word}"));
        if !self.has(model) {
            let what = format!("{name} is on a controller that is not there");
            let help = format!("say {} = \"TRUE\" to have it", present(model));
            self.warnings.push(Problem::new(there.line.clone(), what).help(help));
            return;
        }
        let port = items.path(model, number).unwrap_or_else(|(span, why)| {
            let what = format!("{name}: {why}; it gets any port that is free");
            self.warnings.push(Problem::new(span, what));
            None
        });
        let device_type = property("devicetype");
        let speed = property("speed").and_then(|entry| faster(entry.value.trim()));
        let word = device_type.map(|entry| entry.value.trim().to_ascii_lowercase());
        let (kind, remark) = match word.as_deref() {
            Some("hid" | "mouse") => (Kind::Mouse(Input::default()), None),
            Some("hub") => {
                let remark = speed.map(|speed| format!("VMware makes it a {speed} hub"));
                (Kind::Hub(Hub { ports: HUB_PORTS }), remark)
            }
            other => {
                let why = other.map_or_else(
                    || "does not say what it is".to_owned(),
                    |word| {
                        format!("is a {} of VMware's, which no other hypervisor has", shown(word))
                    },
                );
                let what = format!("{name} {why}; it is left as it is");
                self.warnings.push(Problem::new(there.line.clone(), what));
                self.held.extend(port.map(|port| (model, number, port)));
                return;
            }
        };
        self.devices.push(Device {
            said: Said::Item(model, number),
            kind,
            port,
            remarks: Vec::from_iter(remark),
            line: there.line.clone(),
            what: device_type.unwrap_or(there).value_span.clone(),
            port_span: property("port").map(|entry| entry.value_span.clone()),
        });
    }

    fn read_keyboard(&mut self, dictionary: &Dictionary<'_>) -> Result<(), Problem> {
        let Some(entry) = dictionary.flag(KEYBOARD)? else { return Ok(()) };
        if self.on_no_controller(entry) {
            return Ok(());
        }
        self.devices.push(portless(Said::Keyboard, Kind::Keyboard(Input::default()), entry));
        Ok(())
    }

    fn read_auto_connect(&mut self, dictionary: &Dictionary<'_>) {
        let entries = dictionary.entries().iter();
        let numbered: BTreeMap<u16, &Entry<'_>> =
            entries.filter_map(|entry| Some((auto_connect(entry.key)?, entry))).collect();
        let mut already = HashSet::new();
        for (number, entry) in numbered {
            let no_device = |why: String| {
                entry.refuse(format!(
                    "this names no USB device of the host: {why}; it is left as it is"
                ))
            };
            let read = |text: String| pattern::read(&text).map_err(no_device);
            match entry.unescaped().and_then(read) {
                Err(problem) => self.warnings.push(problem),
                Ok(None) => {}
                Ok(Some(_)) if self.on_no_controller(entry) => {}
                Ok(Some(pattern)) if !already.insert(pattern.selector.clone()) => {
                    let what = "this device is named before; it is connected once";
                    self.warnings.push(entry.refuse(what));
                }
                Ok(Some(Pattern { selector, remarks })) => {
                    let kind = Kind::Host(HostRef::new(selector));
                    let device = portless(Said::AutoConnect(number), kind, entry);
                    self.devices.push(Device { remarks, ..device });
                }
            }
        }
    }

    /// Whether there is nothing to connect a device to, which is then said.
    fn on_no_controller(&mut self, entry: &Entry<'_>) -> bool {
        if !self.controllers.is_empty() {
            return false;
        }
        let what = "the guest has no USB controller, so that VMware connects nothing";
        let help = "say usb.present = \"TRUE\" or usb_xhci.present = \"TRUE\" to have one";
        self.warnings.push(Problem::new(entry.line.clone(), what).help(help));
        true
    }
}

fn portless(said: Said, kind: Kind, entry: &Entry<'_>) -> Device {
    let (line, what) = (entry.line.clone(), entry.value_span.clone());
    Device { said, kind, port: None, remarks: Vec::new(), line, what, port_span: None }
}

/// The name of a hub's speed where it is above full. VMware's numbers are a bit for each speed: 1 low, 2 full, 4 high.
fn faster(speed: &str) -> Option<&'static str> {
    match speed {
        "4" => Some("high-speed"),
        "8" => Some("SuperSpeed"),
        _ => None,
    }
}

/// The number of `usb.autoConnect.deviceN`.
pub(super) fn auto_connect(key: &str) -> Option<u16> {
    let (head, number) = key.split_at_checked(AUTO_CONNECT.len())?;
    if head.eq_ignore_ascii_case(AUTO_CONNECT) { number_of(number) } else { None }
}

/// What a key such as `usb:1.port` is about: the controller and the number of the item.
pub(super) fn item(key: &str) -> Option<(Model, u16)> {
    let (stem, rest) = key.split_once(':')?;
    let (number, _) = rest.split_once('.')?;
    Some((borders::of_vmware(stem)?, number_of(number)?))
}

/// A number as VMware writes it: digits without leading zeros.
fn number_of(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|it| it.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// What VMware calls a port of the model's controller, or of a hub.
pub(super) fn to_vmware(model: Model, port: PortPath) -> u8 {
    let base = if model.is_xhci() && port.parent().is_none() { XHCI_USB2 } else { 0 };
    base.saturating_add(port.port()).saturating_sub(1)
}

/// The items of all controllers: where each says that it is.
struct Items(BTreeMap<(Model, u16), Where>);

/// Where an item says that it is.
#[derive(Clone, Default)]
struct Where {
    /// What it is.
    hub: bool,
    /// The port's number, and where it is said.
    port: Option<(String, Range<usize>)>,
    /// The hub that it is behind, and where it is said.
    parent: Option<(String, Range<usize>)>,
}

impl Items {
    fn new(dictionary: &Dictionary<'_>) -> Items {
        let mut items: BTreeMap<(Model, u16), Where> = BTreeMap::new();
        for entry in dictionary.entries() {
            let Some(key) = item(entry.key).filter(|(model, _)| CONTROLLERS.contains(model)) else {
                continue;
            };
            let place = items.entry(key).or_default();
            let value = entry.value.trim();
            let said = || Some((value.to_owned(), entry.value_span.clone()));
            let property =
                entry.key.split_once('.').map(|(_, property)| property.to_ascii_lowercase());
            match property.as_deref() {
                Some("devicetype") => place.hub = value.eq_ignore_ascii_case("hub"),
                Some("port") => place.port = said(),
                Some("parent") => place.parent = said(),
                _ => {}
            }
        }
        Items(items)
    }

    /// The port path that an item says. `None` if it says no port.
    ///
    /// # Errors
    /// It says what cannot be: where, and why.
    fn path(&self, model: Model, number: u16) -> Result<Option<PortPath>, (Range<usize>, String)> {
        // From the item up to the controller; a chain that is longer than any path, or a circle, ends with an error.
        let mut chain = Vec::new();
        let mut at = number;
        loop {
            let Some(place) = self.0.get(&(model, at)) else { return Ok(None) };
            let Some((port, span)) = &place.port else { return Ok(None) };
            let port =
                port.parse::<u8>().ok().and_then(|it| it.checked_add(1)).and_then(NonZeroU8::new);
            let port = port
                .ok_or_else(|| (span.clone(), "its port is no number from 0 to 254".to_owned()))?;
            chain.push(port);
            let Some((parent, span)) = place.parent.as_ref().filter(|(parent, _)| parent != "-1")
            else {
                break;
            };
            let hub =
                number_of(parent).filter(|hub| self.0.get(&(model, *hub)).is_some_and(|it| it.hub));
            at = hub
                .ok_or_else(|| (span.clone(), format!("its parent {} is no hub", shown(parent))))?;
            if chain.len() == PortPath::MAX_DEPTH {
                return Err((span.clone(), "it is more than three hubs deep".to_owned()));
            }
        }
        let mut ports = chain.into_iter().rev();
        let root = ports.next().map(|port| PortPath::root(from_vmware(model, port)));
        Ok(ports.fold(root, |path, port| path?.child(port)))
    }
}

/// The controller's port that VMware calls one less than `port`.
fn from_vmware(model: Model, port: NonZeroU8) -> NonZeroU8 {
    let usb2 = if model.is_xhci() {
        port.get().checked_sub(XHCI_USB2).and_then(NonZeroU8::new)
    } else {
        None
    };
    usb2.unwrap_or(port)
}
