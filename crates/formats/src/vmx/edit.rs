//! Changes to a VMX text.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use vusb_model::address::{Address, Index, PortPath};
use vusb_model::borders;
use vusb_model::device::{Hub, Input, Kind};
use vusb_model::hardware::{Controller, Device};
use vusb_model::models::{Model, UsbVersion};
use vusb_model::selector::Selector;

use super::dictionary::Dictionary;
use super::document::Document;
use super::found::{self, AUTO_CONNECT, Found, KEYBOARD, Said, present, stem};
use super::{HUB_PORTS, XHCI_PORTS, pattern};
use crate::config::{Edit, Unsayable};

pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Unsayable> {
    let unreadable = |_| unsayable("a change to this text".to_owned(), "it cannot be read");
    let dictionary = Dictionary::read(text).map_err(unreadable)?;
    let found = Found::new(&dictionary).map_err(unreadable)?;
    let mut editor = Editor::new(Document::new(text, dictionary), &found);
    for edit in edits {
        editor.apply(edit, &found)?;
    }
    editor.finish()
}

fn unsayable(what: String, why: &str) -> Unsayable {
    Unsayable { what, why: why.to_owned() }
}

/// A text in change, and what it says by now.
pub(super) struct Editor<'a> {
    document: Document<'a>,
    controllers: BTreeMap<Index, Model>,
    items: BTreeMap<(Model, u16), Item>,
    /// By which keys the devices are said that there are to be.
    devices: BTreeSet<Said>,
    /// All numbers of devices of the host below are in use.
    next: u16,
}

/// `usb:N` and all that it says.
struct Item {
    port: Option<PortPath>,
    hub: bool,
}

impl<'a> Editor<'a> {
    pub(super) fn new(document: Document<'a>, found: &Found) -> Editor<'a> {
        let models = found.controllers.iter().map(|(model, ..)| *model);
        // Numbers that are in use for whatever reason are not given out again.
        let keys =
            document.dictionary().entries().iter().filter_map(|entry| found::item(entry.key));
        let mut items: BTreeMap<(Model, u16), Item> =
            keys.map(|key| (key, Item { port: None, hub: false })).collect();
        for device in &found.devices {
            if let Said::Item(model, number) = device.said {
                let hub = device.kind.hub_ports() > 0;
                items.insert((model, number), Item { port: device.port, hub });
            }
        }
        for (model, number, port) in &found.held {
            items.insert((*model, *number), Item { port: Some(*port), hub: false });
        }
        Editor {
            controllers: Index::all().zip(models).collect(),
            items,
            devices: found.devices.iter().map(|device| device.said).collect(),
            next: 0,
            document,
        }
    }

    fn apply(&mut self, edit: &Edit<'_>, found: &Found) -> Result<(), Unsayable> {
        let gone = || unsayable("this change".to_owned(), "what it is about is not in the text");
        match edit {
            Edit::AddController(controller) => self.add_controller(controller),
            Edit::AddDevice(at, device) => {
                self.check_chance(*at, &device.kind)?;
                self.add_device(*at, device).map(drop)
            }
            Edit::RemoveController(number) => {
                let (model, ..) = found.controllers.get(*number).ok_or_else(gone)?;
                self.remove_controller(*model);
                Ok(())
            }
            Edit::RemoveDevice(number) => {
                let device = found.devices.get(*number).ok_or_else(gone)?;
                self.remove_device(device.said);
                Ok(())
            }
            // Its key says all that a controller of VMware's is.
            Edit::PinController(_, controller) => sayable(controller).map(drop),
            Edit::PinDevice(number, at) => {
                let device = found.devices.get(*number).ok_or_else(gone)?;
                match device.said {
                    Said::Item(model, number) if self.controllers.get(&at.bus) == Some(&model) => {
                        self.place(model, number, at.port)
                    }
                    _ => Err(no_port(&device.kind, at.port)),
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

    /// The text as it is now: one that says what it was made to say, and nothing more.
    ///
    /// # Errors
    /// VMware has no EHCI alone; or something that the text had said in vain would come with what was added.
    pub(super) fn finish(self) -> Result<String, Unsayable> {
        let has = |model| self.controllers.values().any(|there| *there == model);
        if has(Model::Ehci) && !has(Model::Piix4Uhci) {
            return Err(ehci_alone());
        }
        let text = self.document.finish();
        let again = Dictionary::read(&text).and_then(|dictionary| Found::new(&dictionary));
        let found = again.map_err(|_| {
            unsayable("this change".to_owned(), "the text could not be read any more")
        })?;
        let controllers = found.controllers.iter().filter(|(model, ..)| !has(*model));
        let devices = found.devices.iter().filter(|device| !self.devices.contains(&device.said));
        let lines = controllers.map(|(_, line, _)| line).chain(devices.map(|device| &device.line));
        let lines: Vec<&str> = lines.filter_map(|line| text.get(line.clone())).take(3).collect();
        if lines.is_empty() {
            return Ok(text);
        }
        let why = format!(
            "what the text says in vain so far would come with it: {}; take that out first",
            lines.join(", ")
        );
        Err(unsayable("this change".to_owned(), &why))
    }

    pub(super) fn add_controller(&mut self, controller: &Controller) -> Result<(), Unsayable> {
        let model = sayable(controller)?;
        if self.controllers.values().any(|there| *there == model) {
            let what = format!("a second {model} ({})", controller.name);
            return Err(unsayable(what, "VMware has one controller of each sort at the most"));
        }
        self.controllers.insert(controller.index, model);
        self.document.set_flag(&present(model), true);
        Ok(())
    }

    fn remove_controller(&mut self, model: Model) {
        self.controllers.retain(|_, there| *there != model);
        self.document.set_flag(&present(model), false);
    }

    /// Says the device, and by which keys.
    pub(super) fn add_device(&mut self, at: Address, device: &Device) -> Result<Said, Unsayable> {
        let cannot = |why: &str| unsayable(format!("{} ({})", device.kind, device.name), why);
        let Some(model) = self.controllers.get(&at.bus).copied() else {
            return Err(cannot("its controller is none that VMX can say"));
        };
        match &device.kind {
            Kind::Host(host) => self.connect(&host.selector).map_err(cannot),
            Kind::Keyboard(input) if is_plain(*input) => {
                if !self.devices.insert(Said::Keyboard) {
                    return Err(cannot("VMware has one keyboard on USB"));
                }
                self.document.set_flag(KEYBOARD, true);
                Ok(Said::Keyboard)
            }
            Kind::Mouse(input) if is_plain(*input) => self.add_item(model, at.port, false),
            Kind::Hub(Hub { ports: HUB_PORTS }) => self.add_item(model, at.port, true),
            Kind::Hub(_) => Err(cannot("VMware's hubs have 7 ports (`hub:ports=7`)")),
            Kind::Mouse(_) | Kind::Keyboard(_) => {
                Err(cannot("VMware's mice and keyboards are full-speed devices"))
            }
            Kind::Tablet(_) => Err(cannot("VMware's pointer on USB is a mouse (`mouse`)")),
            _ => Err(cannot(
                "VMware makes no such device: on USB it has mice, keyboards, hubs and devices of the host",
            )),
        }
    }

    fn connect(&mut self, selector: &Selector) -> Result<Said, &'static str> {
        let pattern = pattern::write(selector)?;
        let unused = |number: &u16| {
            // What VMware has emptied is free; what is not understood is not.
            let key = format!("{AUTO_CONNECT}{number}").to_ascii_lowercase();
            let empty = self
                .document
                .dictionary()
                .get(&key)
                .is_none_or(|entry| entry.value.trim().is_empty());
            empty && !self.devices.contains(&Said::AutoConnect(*number))
        };
        let number = (self.next..u16::MAX).find(unused).ok_or("there is no number left for it")?;
        self.document.set(&format!("{AUTO_CONNECT}{number}"), &pattern);
        self.devices.insert(Said::AutoConnect(number));
        self.next = number + 1;
        Ok(Said::AutoConnect(number))
    }

    fn add_item(&mut self, model: Model, port: PortPath, hub: bool) -> Result<Said, Unsayable> {
        if self.items.iter().any(|((on, _), item)| *on == model && item.port == Some(port)) {
            let what = format!("a device on port {port}");
            return Err(unsayable(what, "a device that VMware alone has is there"));
        }
        // VMware gives a device on a controller's own port the port's number.
        let like_port = u16::from(found::to_vmware(model, port));
        let free = |number: &u16| !self.items.contains_key(&(model, *number));
        let number = std::iter::once(like_port).chain(0..=u16::MAX).find(free);
        let number = number.ok_or_else(|| {
            unsayable("one device more".to_owned(), "there is no number left for it")
        })?;
        let key = |property: &str| format!("{}:{number}.{property}", stem(model));
        self.document.set_flag(&key("present"), true);
        self.document.set(&key("deviceType"), if hub { "hub" } else { "hid" });
        if hub {
            // A full-speed hub, as VMware writes it.
            self.document.set(&key("speed"), "2");
        }
        self.items.insert((model, number), Item { port: None, hub });
        self.devices.insert(Said::Item(model, number));
        self.place(model, number, port)?;
        Ok(Said::Item(model, number))
    }

    /// Says where an item is.
    fn place(&mut self, model: Model, number: u16, port: PortPath) -> Result<(), Unsayable> {
        let parent = match port.parent() {
            None => "-1".to_owned(),
            Some(path) => {
                let is_it = |((on, _), item): &(&(Model, u16), &Item)| {
                    *on == model && item.hub && item.port == Some(path)
                };
                let hub = self.items.iter().find(is_it).map(|((_, number), _)| number.to_string());
                hub.ok_or_else(|| {
                    unsayable(format!("port {port}"), "the text does not say where that hub is")
                })?
            }
        };
        let key = |property: &str| format!("{}:{number}.{property}", stem(model));
        self.document.set(&key("port"), &found::to_vmware(model, port).to_string());
        self.document.set(&key("parent"), &parent);
        if let Some(item) = self.items.get_mut(&(model, number)) {
            item.port = Some(port);
        }
        Ok(())
    }

    fn remove_device(&mut self, said: Said) {
        self.devices.remove(&said);
        match said {
            Said::Item(model, number) => {
                // The number is not given out again: its lines are gone.
                self.items.insert((model, number), Item { port: None, hub: false });
                self.document.remove(|key| found::item(key) == Some((model, number)));
            }
            Said::Keyboard => {
                self.document.set_flag(KEYBOARD, false);
            }
            Said::AutoConnect(number) => {
                // VMware itself empties a line rather than leave a gap in the numbers.
                let mut all = self
                    .document
                    .dictionary()
                    .entries()
                    .iter()
                    .filter_map(|entry| found::auto_connect(entry.key));
                if all.any(|other| other > number) {
                    self.document.set(&format!("{AUTO_CONNECT}{number}"), "");
                } else {
                    self.document.remove(|key| found::auto_connect(key) == Some(number));
                }
            }
        }
    }

    /// Refuses a port that cannot be said and that nobody could come to by himself. `vusb-1` gives what has no port the lowest that is free,
    /// hubs last; which of the others come first depends on speeds that a text does not know, but no more come than there are.
    fn check_chance(&self, at: Address, kind: &Kind) -> Result<(), Unsayable> {
        if !matches!(kind, Kind::Host(_) | Kind::Keyboard(_)) {
            return Ok(());
        }
        let Some(model) = self.controllers.get(&at.bus).copied() else { return Ok(()) };
        let items = || self.items.iter().filter(|((on, _), _)| *on == model).map(|(_, item)| item);
        let taken: BTreeSet<PortPath> = items().filter_map(|item| item.port).collect();
        let ports = |most: u8| (1..=most).filter_map(NonZeroU8::new);
        let hubs: BTreeSet<PortPath> =
            items().filter(|item| item.hub).filter_map(|item| item.port).collect();
        let behind = hubs
            .into_iter()
            .flat_map(|hub| ports(HUB_PORTS).filter_map(move |port| hub.child(port)));
        let mut free = ports(root_ports(model))
            .map(PortPath::root)
            .chain(behind)
            .filter(|port| !taken.contains(port));
        let others = self.devices.iter().filter(|said| !matches!(said, Said::Item(..))).count();
        match free.position(|port| port == at.port) {
            Some(before) if before <= others => Ok(()),
            _ => Err(no_port(kind, at.port)),
        }
    }
}

/// The refusal of an EHCI where there is no UHCI.
pub(super) fn ehci_alone() -> Unsayable {
    unsayable(
        "an EHCI without a UHCI".to_owned(),
        "VMware has its EHCI (`ehci.present`) beside its UHCI (`usb.present`) alone: have a piix4-uhci too, or a qemu-xhci in place of both",
    )
}

fn no_port(kind: &Kind, port: PortPath) -> Unsayable {
    unsayable(
        format!("port {port} for {kind}"),
        "VMX has no ports for keyboards and devices of the host: VMware chooses one, and here they get the lowest that is free",
    )
}

const fn is_plain(input: Input) -> bool {
    matches!(input.usbversion, UsbVersion::V1)
}

/// How many ports VMware's controller has.
const fn root_ports(model: Model) -> u8 {
    if model.is_xhci() { XHCI_PORTS } else { *model.port_range().end() }
}

/// Whether VMware has just this controller.
fn sayable(controller: &Controller) -> Result<Model, Unsayable> {
    let (name, model) = (&controller.name, controller.model);
    if borders::names(model).vmware.is_none() {
        let instead = match model.usbversion() {
            UsbVersion::V1 => "for USB 1 there is a piix4-uhci (`--model piix4-uhci`)",
            UsbVersion::V2 => "for USB 2 there is an ehci beside a piix4-uhci (`--model ehci`)",
            UsbVersion::V3 => {
                "for USB 3 there is a qemu-xhci with 4 ports (`--model qemu-xhci --ports 4`)"
            }
        };
        let why = format!("VMware has no such controller; {instead}");
        return Err(unsayable(controller.describe(), &why));
    }
    let ports = controller.ports;
    let most = root_ports(model);
    if ports.count() != most || !ports.are_plain(model) {
        let why = format!(
            "VMware's has {most}, and nothing in VMX changes that (`--model {model} --ports {most}`)"
        );
        return Err(unsayable(format!("the {} ports of {name} ({model})", ports.count()), &why));
    }
    if !controller.companions.is_empty() {
        return Err(unsayable(
            format!("the companions of {name}"),
            "VMware's EHCI has none: slow devices are on its UHCI",
        ));
    }
    Ok(model)
}
