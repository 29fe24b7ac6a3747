//! The USB settings of a VMX file, with the keys that define them.
//!
//! ```text
//!  usb.present ─▶ controllers ◀─ usb:N.parent, usb:N.port ─ items: mice, hubs
//!  usb.autoConnect.deviceN ─▶ host devices, which have no port
//!  keyboard.vusb.enable ─▶ a keyboard
//! ```

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU8;
use std::ops::Range;

use vusb_model::address::PortPath;
use vusb_model::device::{HostRef, Hub, Input, Kind};
use vusb_model::models::Model;
use vusb_model::naming;

use super::dictionary::{Dictionary, Entry, short};
use super::pattern::{self, Pattern};
use crate::error::Problem;

/// VMware's controllers, in the order of their indexes. A guest has at most one of each.
pub(super) const CONTROLLERS: [Model; 3] = [Model::Piix4Uhci, Model::Ehci, Model::QemuXhci];

/// The number of ports of VMware's hub.
pub(super) const HUB_PORTS: u8 = 7;

/// The key of the virtual USB keyboard.
pub(super) const KEYBOARD: &str = "keyboard.vusb.enable";

/// The prefix of the keys for host devices; a number follows.
pub(super) const AUTO_CONNECT: &str = "usb.autoConnect.device";

/// The number of the first USB 2 port of an xHCI. VMware numbers four USB 3 ports before it, and
/// counts logical ports ("Add a USB Controller to a Virtual Machine" in VMware's manual). Its own
/// files have mice and hubs on 4 to 7, and a Linux guest sees the hub of number 7 on port 4 of its
/// USB 2 bus.
const XHCI_USB2: u8 = 4;

/// The prefix of the keys for a controller: `usb`, `ehci`, `usb_xhci`.
pub(super) fn stem(model: Model) -> &'static str {
    naming::names(model).vmware.unwrap_or_default()
}

/// The key that enables a controller.
pub(super) fn present(model: Model) -> String {
    format!("{}.present", stem(model))
}

/// The keys that define a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DeviceKey {
    /// `usb:1.present` and all other keys that start with `usb:1.`.
    Item(Model, u16),
    /// `keyboard.vusb.enable`.
    Keyboard,
    /// `usb.autoConnect.device1`.
    AutoConnect(u16),
}

/// A device in the file.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) key: DeviceKey,
    pub(super) kind: Kind,
    /// The port, if specified.
    pub(super) port: Option<PortPath>,
    pub(super) remarks: Vec<String>,
    /// The line that enables it.
    pub(super) line: Range<usize>,
    /// The span that defines its kind.
    pub(super) what: Range<usize>,
    /// The span of its port.
    pub(super) port_span: Option<Range<usize>>,
}

/// All USB settings of a file.
#[derive(Debug, Default)]
pub(super) struct UsbSettings {
    /// The controllers, with the line that enables each and the span of its value.
    pub(super) controllers: Vec<(Model, Range<usize>, Range<usize>)>,
    pub(super) devices: Vec<Device>,
    /// Items that the model has no equivalent of, and the ports that they use.
    pub(super) unmodelled: Vec<(Model, u16, PortPath)>,
    pub(super) warnings: Vec<Problem>,
}

impl UsbSettings {
    pub(super) fn read(dictionary: &Dictionary<'_>) -> Result<UsbSettings, Problem> {
        let mut found = UsbSettings::default();
        found.read_controllers(dictionary)?;
        found.read_items(dictionary)?;
        found.read_keyboard(dictionary)?;
        found.read_auto_connect(dictionary);
        Ok(found)
    }

    pub(super) fn has(&self, model: Model) -> bool {
        self.controllers.iter().any(|(other, ..)| *other == model)
    }

    fn read_controllers(&mut self, dictionary: &Dictionary<'_>) -> Result<(), Problem> {
        for model in CONTROLLERS {
            let Some(entry) = dictionary.flag(&present(model))? else { continue };
            if model == Model::Ehci && !self.has(Model::Piix4Uhci) {
                self.warnings.push(
                    Problem::new(entry.line.clone(), "VMware's EHCI only exists together with its UHCI: without `usb.present` there is neither")
                        .help("set usb.present = \"TRUE\" too, or remove this line"),
                );
                continue;
            }
            self.controllers.push((model, entry.line.clone(), entry.value_span.clone()));
        }
        Ok(())
    }

    fn read_items(&mut self, dictionary: &Dictionary<'_>) -> Result<(), Problem> {
        let items = Items::new(dictionary);
        let mut ports: BTreeMap<(Model, PortPath), u16> = BTreeMap::new();
        for (model, number) in items.0.keys() {
            let present = format!("{}:{number}.present", stem(*model));
            let Some(enabling) = dictionary.flag(&present)? else { continue };
            // Versions of VMware number the ports of an xHCI differently. A version that upgrades a
            // file leaves the old items in the file.
            let port = items.path(*model, *number).ok().flatten().filter(|_| model.is_xhci());
            let before = port.and_then(|port| ports.insert((*model, port), *number));
            if let (Some(port), Some(before)) = (port, before.filter(|_| self.has(*model))) {
                ports.insert((*model, port), before);
                let name = stem(*model);
                let what = format!(
                    "{name}:{number} is on the port of {name}:{before}; it is left unchanged"
                );
                let help = "VMware uses one of the two: remove the other one";
                self.warnings.push(Problem::new(enabling.line.clone(), what).help(help));
                continue;
            }
            self.read_item(dictionary, &items, (*model, *number), enabling);
        }
        Ok(())
    }

    /// Reads the item that the line `enabling` enables.
    fn read_item(
        &mut self,
        dictionary: &Dictionary<'_>,
        items: &Items,
        (model, number): (Model, u16),
        enabling: &Entry<'_>,
    ) {
        let name = format!("{}:{number}", stem(model));
        let property = |word: &str| dictionary.get(&format!("{name}.{word}"));
        if !self.has(model) {
            let what = format!("{name} is on a controller that does not exist");
            let help = format!("set {} = \"TRUE\" to add it", present(model));
            self.warnings.push(Problem::new(enabling.line.clone(), what).help(help));
            return;
        }
        let port = items.path(model, number).unwrap_or_else(|(span, why)| {
            let what = format!("{name}: {why}; it is placed on any free port");
            self.warnings.push(Problem::new(span, what));
            None
        });
        let device_type = property("devicetype");
        let speed = property("speed").and_then(|entry| speed_above_full(entry.value.trim()));
        let word = device_type.map(|entry| entry.value.trim().to_ascii_lowercase());
        let (kind, remark) = match word.as_deref() {
            Some("hid" | "mouse") => (Kind::Mouse(Input::default()), None),
            Some("hub") => {
                let remark = speed.map(|speed| format!("VMware makes it a {speed} hub"));
                (Kind::Hub(Hub { ports: HUB_PORTS }), remark)
            }
            other => {
                let why = other.map_or_else(
                    || "has no device type".to_owned(),
                    |word| format!("is a VMware {}, which no other hypervisor has", short(word)),
                );
                let what = format!("{name} {why}; it is left unchanged");
                self.warnings.push(Problem::new(enabling.line.clone(), what));
                self.unmodelled.extend(port.map(|port| (model, number, port)));
                return;
            }
        };
        self.devices.push(Device {
            key: DeviceKey::Item(model, number),
            kind,
            port,
            remarks: Vec::from_iter(remark),
            line: enabling.line.clone(),
            what: device_type.unwrap_or(enabling).value_span.clone(),
            port_span: property("port").map(|entry| entry.value_span.clone()),
        });
    }

    fn read_keyboard(&mut self, dictionary: &Dictionary<'_>) -> Result<(), Problem> {
        let Some(entry) = dictionary.flag(KEYBOARD)? else { return Ok(()) };
        if self.warn_without_controller(entry) {
            return Ok(());
        }
        self.devices.push(portless(DeviceKey::Keyboard, Kind::Keyboard(Input::default()), entry));
        Ok(())
    }

    fn read_auto_connect(&mut self, dictionary: &Dictionary<'_>) {
        let entries = dictionary.entries().iter();
        let numbered: BTreeMap<u16, &Entry<'_>> =
            entries.filter_map(|entry| Some((auto_connect(entry.key)?, entry))).collect();
        let mut selected = HashSet::new();
        for (number, entry) in numbered {
            let invalid = |why: String| {
                entry.refuse(format!(
                    "this does not select a USB device of the host: {why}; it is left unchanged"
                ))
            };
            let read = |text: String| pattern::read(&text).map_err(invalid);
            match entry.unescaped().and_then(read) {
                Err(problem) => self.warnings.push(problem),
                Ok(None) => {}
                Ok(Some(_)) if self.warn_without_controller(entry) => {}
                Ok(Some(pattern)) if !selected.insert(pattern.selector.clone()) => {
                    let what =
                        "this device is selected by an earlier line; it is attached only once";
                    self.warnings.push(entry.refuse(what));
                }
                Ok(Some(Pattern { selector, remarks })) => {
                    let kind = Kind::Host(HostRef::new(selector));
                    let device = portless(DeviceKey::AutoConnect(number), kind, entry);
                    self.devices.push(Device { remarks, ..device });
                }
            }
        }
    }

    /// Whether there is no controller to attach a device to. Warns if so.
    fn warn_without_controller(&mut self, entry: &Entry<'_>) -> bool {
        if !self.controllers.is_empty() {
            return false;
        }
        let what = "the guest has no USB controller, so VMware does not attach this";
        let help = "set usb.present = \"TRUE\" or usb_xhci.present = \"TRUE\" to add one";
        self.warnings.push(Problem::new(entry.line.clone(), what).help(help));
        true
    }
}

fn portless(key: DeviceKey, kind: Kind, entry: &Entry<'_>) -> Device {
    let (line, what) = (entry.line.clone(), entry.value_span.clone());
    Device { key, kind, port: None, remarks: Vec::new(), line, what, port_span: None }
}

/// The speed of a hub, if it is above full speed. VMware's numbers have a bit for each speed: 1
/// low, 2 full, 4 high, 8 super.
fn speed_above_full(speed: &str) -> Option<&'static str> {
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

/// The controller and the item number of a key such as `usb:1.port`.
pub(super) fn item(key: &str) -> Option<(Model, u16)> {
    let (stem, rest) = key.split_once(':')?;
    let (number, _) = rest.split_once('.')?;
    Some((naming::from_vmware(stem)?, number_of(number)?))
}

/// Parses a number as VMware writes it: digits without leading zeros.
fn number_of(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|it| it.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// VMware's number for a port of the model's controller, or of a hub.
pub(super) fn to_vmware(model: Model, port: PortPath) -> u8 {
    let base = if model.is_xhci() && port.parent().is_none() { XHCI_USB2 } else { 0 };
    base.saturating_add(port.port()).saturating_sub(1)
}

/// The positions of all items, as far as the file specifies them.
struct Items(BTreeMap<(Model, u16), Position>);

/// The position of an item, as the file specifies it.
#[derive(Clone, Default)]
struct Position {
    /// Whether it is a hub.
    hub: bool,
    /// The number of the port, and its span.
    port: Option<(String, Range<usize>)>,
    /// The hub that it is behind, and its span.
    parent: Option<(String, Range<usize>)>,
}

impl Items {
    fn new(dictionary: &Dictionary<'_>) -> Items {
        let mut items: BTreeMap<(Model, u16), Position> = BTreeMap::new();
        for entry in dictionary.entries() {
            let Some(key) = item(entry.key).filter(|(model, _)| CONTROLLERS.contains(model)) else {
                continue;
            };
            let position = items.entry(key).or_default();
            let value = entry.value.trim();
            let spanned = || Some((value.to_owned(), entry.value_span.clone()));
            let property =
                entry.key.split_once('.').map(|(_, property)| property.to_ascii_lowercase());
            match property.as_deref() {
                Some("devicetype") => position.hub = value.eq_ignore_ascii_case("hub"),
                Some("port") => position.port = spanned(),
                Some("parent") => position.parent = spanned(),
                _ => {}
            }
        }
        Items(items)
    }

    /// The port path of an item. `None` if the item, or a hub that it is behind, has no port.
    ///
    /// # Errors
    /// The position is impossible. The error has the responsible span and the reason.
    fn path(&self, model: Model, number: u16) -> Result<Option<PortPath>, (Range<usize>, String)> {
        // Walk from the item up to the controller. A chain that is longer than any path, or a
        // cycle, ends with an error.
        let mut chain = Vec::new();
        let mut at = number;
        loop {
            let Some(position) = self.0.get(&(model, at)) else { return Ok(None) };
            let Some((port, span)) = &position.port else { return Ok(None) };
            let port =
                port.parse::<u8>().ok().and_then(|it| it.checked_add(1)).and_then(NonZeroU8::new);
            let port = port.ok_or_else(|| {
                (span.clone(), "its port is not a number from 0 to 254".to_owned())
            })?;
            chain.push(port);
            let Some((parent, span)) =
                position.parent.as_ref().filter(|(parent, _)| parent != "-1")
            else {
                break;
            };
            let hub =
                number_of(parent).filter(|hub| self.0.get(&(model, *hub)).is_some_and(|it| it.hub));
            at = hub.ok_or_else(|| {
                (span.clone(), format!("its parent {} is not a hub", short(parent)))
            })?;
            if chain.len() == PortPath::MAX_DEPTH {
                return Err((span.clone(), "it is behind more than three hubs".to_owned()));
            }
        }
        let mut ports = chain.into_iter().rev();
        let root = ports.next().map(|port| PortPath::root(from_vmware(model, port)));
        Ok(ports.fold(root, |path, port| path?.child(port)))
    }
}

/// The controller's port that VMware numbers `port` - 1.
fn from_vmware(model: Model, port: NonZeroU8) -> NonZeroU8 {
    let usb2 = if model.is_xhci() {
        port.get().checked_sub(XHCI_USB2).and_then(NonZeroU8::new)
    } else {
        None
    };
    usb2.unwrap_or(port)
}
