//! Edits to a VMX text.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{Hub, Input, Kind};
use vusb_model::hardware::{Controller, Device};
use vusb_model::models::{Model, UsbVersion};
use vusb_model::naming;
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::resolve::vmx::XHCI_PORTS;
use vusb_model::selector::Selector;

use super::dictionary::Dictionary;
use super::document::Document;
use super::pattern;
use super::usb::{self, AUTO_CONNECT, DeviceKey, HUB_PORTS, KEYBOARD, UsbSettings, present, stem};
use crate::config::{CONTROLLER_STEMS, Edit, Inexpressible, refuse_chosen_name};

pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    let unreadable = |_| inexpressible("an edit of this text", "it cannot be read");
    let dictionary = Dictionary::read(text).map_err(unreadable)?;
    let settings = UsbSettings::read(&dictionary).map_err(unreadable)?;
    let mut editor = Editor::new(Document::new(text, dictionary), &settings);
    for edit in edits {
        editor.apply(edit, &settings)?;
    }
    editor.finish()
}

fn inexpressible(what: impl Into<String>, why: impl Into<Reason>) -> Inexpressible {
    Inexpressible { what: what.into(), why: why.into() }
}

/// A text that is being edited, and what it contains after the edits so far.
pub(super) struct Editor<'a> {
    document: Document<'a>,
    controllers: BTreeMap<Index, Model>,
    items: BTreeMap<(Model, u16), Item>,
    /// The keys of the devices that the text should have.
    devices: BTreeSet<DeviceKey>,
    /// The lowest number that the next host device may get. Lower ones are in use, or were.
    next_auto_connect: u16,
    /// The numbers of host devices that this edit has removed. Their lines are still in the
    /// dictionary.
    freed_auto_connects: BTreeSet<u16>,
}

/// The item `usb:N`, `ehci:N` or `usb_xhci:N`.
struct Item {
    port: Option<PortPath>,
    hub: bool,
}

impl<'a> Editor<'a> {
    pub(super) fn new(document: Document<'a>, settings: &UsbSettings) -> Editor<'a> {
        let models = settings.controllers.iter().map(|(model, ..)| *model);
        // A number is in use if any key contains it, even if the item is not enabled or not known.
        let keys = document.dictionary().entries().iter().filter_map(|entry| usb::item(entry.key));
        let mut items: BTreeMap<(Model, u16), Item> =
            keys.map(|key| (key, Item { port: None, hub: false })).collect();
        for device in &settings.devices {
            if let DeviceKey::Item(model, number) = device.key {
                let hub = device.kind.hub_ports() > 0;
                items.insert((model, number), Item { port: device.port, hub });
            }
        }
        for (model, number, port) in &settings.unmodelled {
            items.insert((*model, *number), Item { port: Some(*port), hub: false });
        }
        Editor {
            controllers: Index::all().zip(models).collect(),
            items,
            devices: settings.devices.iter().map(|device| device.key).collect(),
            next_auto_connect: 0,
            freed_auto_connects: BTreeSet::new(),
            document,
        }
    }

    fn apply(&mut self, edit: &Edit<'_>, settings: &UsbSettings) -> Result<(), Inexpressible> {
        let missing = || inexpressible("this edit", "the text does not contain the item");
        match edit {
            Edit::AddController(controller) => {
                refuse_chosen_name(&controller.name, &CONTROLLER_STEMS, "VMware")?;
                self.add_controller(controller)
            }
            Edit::AddDevice(at, device) => {
                refuse_chosen_name(&device.name, &[device.kind.name()], "VMware")?;
                self.check_default_port(*at, &device.kind)?;
                self.add_device(*at, device).map(drop)
            }
            Edit::RemoveController(number) => {
                let (model, ..) = settings.controllers.get(*number).ok_or_else(missing)?;
                self.remove_controller(*model);
                Ok(())
            }
            Edit::RemoveDevice(number) => {
                let device = settings.devices.get(*number).ok_or_else(missing)?;
                self.remove_device(device.key);
                Ok(())
            }
            // The key that enables a controller already specifies everything about it.
            Edit::PinController(_, controller) => check_expressible(controller).map(drop),
            Edit::PinDevice(number, at) => {
                let device = settings.devices.get(*number).ok_or_else(missing)?;
                match device.key {
                    DeviceKey::Item(model, number)
                        if self.controllers.get(&at.bus) == Some(&model) =>
                    {
                        self.set_position(model, number, at.port)
                    }
                    _ => Err(port_inexpressible(&device.kind, at.port)),
                }
            }
            Edit::NoUsb => {
                for model in self.controllers.values().copied().collect::<Vec<_>>() {
                    self.remove_controller(model);
                }
                Ok(())
            }
        }
    }

    /// The edited text. It has the requested controllers and devices and no others.
    ///
    /// # Errors
    /// The text would have an EHCI without a UHCI or could not be read, or the edits would enable
    /// something that had no effect before.
    pub(super) fn finish(self) -> Result<String, Inexpressible> {
        let has = |model| self.controllers.values().any(|it| *it == model);
        if has(Model::Ehci) && !has(Model::Piix4Uhci) {
            return Err(ehci_without_uhci());
        }
        let text = self.document.finish();
        let reread = Dictionary::read(&text).and_then(|dictionary| UsbSettings::read(&dictionary));
        let settings =
            reread.map_err(|_| inexpressible("this edit", "the result could not be read"))?;
        let controllers = settings.controllers.iter().filter(|(model, ..)| !has(*model));
        let devices = settings.devices.iter().filter(|device| !self.devices.contains(&device.key));
        let lines = controllers.map(|(_, line, _)| line).chain(devices.map(|device| &device.line));
        let lines: Vec<&str> = lines.filter_map(|line| text.get(line.clone())).take(3).collect();
        if lines.is_empty() {
            return Ok(text);
        }
        let why = format!(
            "it would enable something that has no effect now: {}; remove that first",
            lines.join(", ")
        );
        Err(inexpressible("this edit", why))
    }

    pub(super) fn add_controller(&mut self, controller: &Controller) -> Result<(), Inexpressible> {
        let model = check_expressible(controller)?;
        if self.controllers.values().any(|it| *it == model) {
            let what = format!("a second {model} ({})", controller.name);
            return Err(inexpressible(what, "VMware has at most one controller of each type"));
        }
        self.controllers.insert(controller.index, model);
        self.document.set_flag(&present(model), true);
        Ok(())
    }

    fn remove_controller(&mut self, model: Model) {
        self.controllers.retain(|_, it| *it != model);
        self.document.set_flag(&present(model), false);
    }

    /// Adds a device, and returns its keys.
    pub(super) fn add_device(
        &mut self,
        at: Address,
        device: &Device,
    ) -> Result<DeviceKey, Inexpressible> {
        let cannot = |why: &str| inexpressible(format!("{} ({})", device.kind, device.name), why);
        let Some(model) = self.controllers.get(&at.bus).copied() else {
            return Err(cannot("VMX cannot express its controller"));
        };
        match &device.kind {
            Kind::Host(host) => self.add_auto_connect(&host.selector).map_err(cannot),
            Kind::Keyboard(input) if is_usb1(*input) => {
                if !self.devices.insert(DeviceKey::Keyboard) {
                    return Err(cannot("VMware has only one USB keyboard"));
                }
                self.document.set_flag(KEYBOARD, true);
                Ok(DeviceKey::Keyboard)
            }
            Kind::Mouse(input) if is_usb1(*input) => self.add_item(model, at.port, false),
            Kind::Hub(Hub { ports: HUB_PORTS }) => self.add_item(model, at.port, true),
            Kind::Hub(_) => Err(cannot("VMware's hubs have 7 ports (hub:ports=7)")),
            Kind::Mouse(_) | Kind::Keyboard(_) => {
                Err(cannot("VMware's mice and keyboards are full-speed devices"))
            }
            Kind::Tablet(_) => Err(cannot("VMware's USB pointing device is a mouse; use that")),
            _ => Err(cannot(
                "VMware has no such device: its USB devices are mice, keyboards, hubs and host devices",
            )),
        }
    }

    fn add_auto_connect(&mut self, selector: &Selector) -> Result<DeviceKey, &'static str> {
        let pattern = pattern::write(selector)?;
        let unused = |number: &u16| {
            // VMware empties the line of a free number. An unknown pattern is in use.
            let key = format!("{AUTO_CONNECT}{number}").to_ascii_lowercase();
            let empty = self
                .document
                .dictionary()
                .get(&key)
                .is_none_or(|entry| entry.value.trim().is_empty());
            let free = empty || self.freed_auto_connects.contains(number);
            free && !self.devices.contains(&DeviceKey::AutoConnect(*number))
        };
        let number =
            (self.next_auto_connect..u16::MAX).find(unused).ok_or("no number is free for it")?;
        self.document.set(&format!("{AUTO_CONNECT}{number}"), &pattern);
        self.devices.insert(DeviceKey::AutoConnect(number));
        self.next_auto_connect = number + 1;
        Ok(DeviceKey::AutoConnect(number))
    }

    fn add_item(
        &mut self,
        model: Model,
        port: PortPath,
        hub: bool,
    ) -> Result<DeviceKey, Inexpressible> {
        if self.items.iter().any(|((on, _), item)| *on == model && item.port == Some(port)) {
            let what = format!("a device on port {port}");
            return Err(inexpressible(what, "the port is in use by a device that only VMware has"));
        }
        // VMware gives a device on a root port the number of the port.
        let same_as_port = u16::from(usb::to_vmware(model, port));
        let free = |number: &u16| !self.items.contains_key(&(model, *number));
        let number = std::iter::once(same_as_port).chain(0..=u16::MAX).find(free);
        let number =
            number.ok_or_else(|| inexpressible("another device", "no number is free for it"))?;
        let key = |property: &str| format!("{}:{number}.{property}", stem(model));
        self.document.set_flag(&key("present"), true);
        self.document.set(&key("deviceType"), if hub { "hub" } else { "hid" });
        if hub {
            // A full-speed hub, as VMware writes it.
            self.document.set(&key("speed"), "2");
        }
        self.items.insert((model, number), Item { port: None, hub });
        self.devices.insert(DeviceKey::Item(model, number));
        self.set_position(model, number, port)?;
        Ok(DeviceKey::Item(model, number))
    }

    /// Sets the position of an item.
    fn set_position(
        &mut self,
        model: Model,
        number: u16,
        port: PortPath,
    ) -> Result<(), Inexpressible> {
        let parent = match port.parent() {
            None => "-1".to_owned(),
            Some(path) => {
                let matches = |((on, _), item): &(&(Model, u16), &Item)| {
                    *on == model && item.hub && item.port == Some(path)
                };
                let hub =
                    self.items.iter().find(matches).map(|((_, number), _)| number.to_string());
                hub.ok_or_else(|| {
                    inexpressible(
                        format!("port {port}"),
                        "the text does not specify the port of that hub",
                    )
                })?
            }
        };
        let key = |property: &str| format!("{}:{number}.{property}", stem(model));
        self.document.set(&key("port"), &usb::to_vmware(model, port).to_string());
        self.document.set(&key("parent"), &parent);
        if let Some(item) = self.items.get_mut(&(model, number)) {
            item.port = Some(port);
        }
        Ok(())
    }

    fn remove_device(&mut self, key: DeviceKey) {
        self.devices.remove(&key);
        match key {
            DeviceKey::Item(model, number) => {
                // Do not reuse the number: its lines are marked as removed.
                self.items.insert((model, number), Item { port: None, hub: false });
                self.document.remove(|key| usb::item(key) == Some((model, number)));
            }
            DeviceKey::Keyboard => {
                self.document.set_flag(KEYBOARD, false);
            }
            DeviceKey::AutoConnect(number) => {
                // Empty the line if a higher number exists, as VMware does, so that the numbers
                // have no gap.
                let entries = self.document.dictionary().entries().iter();
                let in_text = entries.filter_map(|entry| usb::auto_connect(entry.key));
                let in_use = self.devices.iter().filter_map(|key| match key {
                    DeviceKey::AutoConnect(number) => Some(*number),
                    _ => None,
                });
                self.freed_auto_connects.insert(number);
                if in_text.chain(in_use).any(|other| other > number) {
                    self.document.set(&format!("{AUTO_CONNECT}{number}"), "");
                } else {
                    self.document.remove(|key| usb::auto_connect(key) == Some(number));
                }
            }
        }
    }

    /// Refuses a port that a host device or keyboard would not get by default: VMX cannot specify
    /// its port.
    ///
    /// Profile `vmx` gives each device without a port the lowest free one, root ports before ports
    /// of hubs. Which device comes first depends on speeds that the text does not contain. So a
    /// port is accepted if there are enough other devices without a port to take every free port
    /// before it.
    fn check_default_port(&self, at: Address, kind: &Kind) -> Result<(), Inexpressible> {
        if !matches!(kind, Kind::Host(_) | Kind::Keyboard(_)) {
            return Ok(());
        }
        let Some(model) = self.controllers.get(&at.bus).copied() else { return Ok(()) };
        let items = || self.items.iter().filter(|((on, _), _)| *on == model).map(|(_, item)| item);
        let taken: BTreeSet<PortPath> = items().filter_map(|item| item.port).collect();
        let ports = |count: u8| (1..=count).filter_map(NonZeroU8::new);
        let hubs: BTreeSet<PortPath> =
            items().filter(|item| item.hub).filter_map(|item| item.port).collect();
        let behind_hubs = hubs
            .into_iter()
            .flat_map(|hub| ports(HUB_PORTS).filter_map(move |port| hub.child(port)));
        let mut free = ports(root_ports(model))
            .map(PortPath::root)
            .chain(behind_hubs)
            .filter(|port| !taken.contains(port));
        let portless =
            self.devices.iter().filter(|key| !matches!(key, DeviceKey::Item(..))).count();
        match free.position(|port| port == at.port) {
            Some(before) if before <= portless => Ok(()),
            _ => Err(port_inexpressible(kind, at.port)),
        }
    }
}

/// The refusal of an EHCI without a UHCI.
pub(super) fn ehci_without_uhci() -> Inexpressible {
    inexpressible(
        "an EHCI without a UHCI",
        "VMware's EHCI (ehci.present) only exists together with its UHCI (usb.present): add a piix4-uhci, or use a qemu-xhci instead of both",
    )
}

fn port_inexpressible(kind: &Kind, port: PortPath) -> Inexpressible {
    inexpressible(
        format!("port {port} for {kind}"),
        "VMX cannot specify the port of a keyboard or a host device: VMware chooses one, and vusb assumes the lowest free one",
    )
}

const fn is_usb1(input: Input) -> bool {
    matches!(input.usbversion, UsbVersion::V1)
}

/// The number of root ports of VMware's controller of this model.
const fn root_ports(model: Model) -> u8 {
    if model.is_xhci() { XHCI_PORTS } else { *model.port_range().end() }
}

/// The model of the controller. Refuses a model, a number of ports or companions that VMware does
/// not have.
fn check_expressible(controller: &Controller) -> Result<Model, Inexpressible> {
    let (name, model) = (&controller.name, controller.model);
    if naming::names(model).vmware.is_none() {
        let (instead, model, ports) = match model.usbversion() {
            UsbVersion::V1 => ("for USB 1 it has a piix4-uhci", Model::Piix4Uhci, None),
            UsbVersion::V2 => {
                ("for USB 2 it has an ehci together with a piix4-uhci", Model::Ehci, None)
            }
            UsbVersion::V3 => {
                ("for USB 3 it has a qemu-xhci with 4 ports", Model::QemuXhci, Some(XHCI_PORTS))
            }
        };
        let why = Reason::from(format!("VMware has no such controller; {instead}"));
        let why = why.remedy(Remedy::UseModel { model, ports });
        return Err(inexpressible(controller.describe(), why));
    }
    let ports = controller.ports;
    let vmware_ports = root_ports(model);
    if ports.count() != vmware_ports || !ports.are_uniform(model) {
        let what = format!("the {} ports of {name} ({model})", ports.count());
        let why = Reason::from(format!("VMware's has {vmware_ports}, and VMX cannot change that"));
        let why = why.remedy(Remedy::UseModel { model, ports: Some(vmware_ports) });
        return Err(inexpressible(what, why));
    }
    if !controller.companions.is_empty() {
        return Err(inexpressible(
            format!("the companions of {name}"),
            "VMware's EHCI has none: its UHCI serves low-speed and full-speed devices",
        ));
    }
    Ok(model)
}
