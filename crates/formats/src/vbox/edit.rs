//! Edits to a machine's settings.

use std::collections::{BTreeMap, BTreeSet};

use vusb_model::address::{Address, Index};
use vusb_model::device::{Input, Kind};
use vusb_model::hardware::{Controller, Device};
use vusb_model::models::{Model, UsbVersion};
use vusb_model::remedy::{Reason, Remedy};

use super::filter;
use super::settings::{self, DeviceKey, Form, Machine, all, child, parse};
use crate::config::{CONTROLLER_STEMS, Edit, Inexpressible, refuse_chosen_name};
use crate::xml::element::Element;
use crate::xml::splicing::TreeEdits;
use crate::xml::{Node, elements, excerpt};

pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    if edits.is_empty() {
        return Ok(text.to_owned());
    }
    let unreadable = |_| inexpressible("an edit of this text", "it cannot be read");
    let document = parse(text).map_err(unreadable)?;
    let machine = Machine::read(document.root_element()).map_err(unreadable)?;
    if machine.saved_state().is_some() {
        let what = "an edit of a machine with a saved state";
        let why = "the saved state contains its hardware: start the machine and shut it down, or \
                   discard the state (VBoxManage discardstate)";
        return Err(inexpressible(what, why));
    }
    let mut editor = Editor::new(text, &machine);
    for edit in edits {
        editor.apply(edit)?;
    }
    let (text, wanted) = editor.finish()?;
    check(&text, &wanted)?;
    Ok(text)
}

fn inexpressible(what: impl Into<String>, why: impl Into<Reason>) -> Inexpressible {
    Inexpressible { what: what.into(), why: why.into() }
}

/// How many controllers and devices the edited text should have.
pub(super) struct Wanted {
    controllers: usize,
    devices: usize,
}

/// Checks that the edited text has exactly what was requested.
///
/// # Errors
/// The edits would enable something that had no effect before.
fn check(text: &str, wanted: &Wanted) -> Result<(), Inexpressible> {
    let unreadable = |_| inexpressible("this edit", "the result could not be read");
    let document = parse(text).map_err(unreadable)?;
    let machine = Machine::read(document.root_element()).map_err(unreadable)?;
    let (controllers, devices) = (machine.controllers.len(), machine.devices.len());
    if controllers == wanted.controllers && devices <= wanted.devices {
        return Ok(());
    }
    let why = "it would enable filters or input devices that have no effect now, because the \
               machine has no USB controller; remove them first";
    Err(inexpressible("this edit", why))
}

/// A file that is being edited.
pub(super) struct Editor<'t, 'd> {
    machine: &'t Machine<'d>,
    tree: TreeEdits<'t>,
    /// The controllers that the text should have.
    controllers: BTreeMap<Index, Model>,
    removed: BTreeSet<usize>,
    new_controllers: Vec<Model>,
    devices: BTreeSet<DeviceKey>,
    new_filters: Vec<Element>,
    /// New values of the attributes of `<HID>`; an empty one is VirtualBox's default.
    input: BTreeMap<&'static str, &'static str>,
}

impl<'t, 'd> Editor<'t, 'd> {
    pub(super) fn new(text: &'t str, machine: &'t Machine<'d>) -> Editor<'t, 'd> {
        Editor {
            machine,
            tree: TreeEdits::new(text),
            controllers: Index::all().zip(machine.controllers.iter().map(|it| it.model)).collect(),
            removed: BTreeSet::new(),
            new_controllers: Vec::new(),
            devices: machine.devices.iter().map(|device| device.key).collect(),
            new_filters: Vec::new(),
            input: BTreeMap::new(),
        }
    }

    fn apply(&mut self, edit: &Edit<'_>) -> Result<(), Inexpressible> {
        let missing = || inexpressible("this edit", "the text does not contain the item");
        match edit {
            Edit::AddController(controller) => {
                refuse_chosen_name(&controller.name, &CONTROLLER_STEMS, "VirtualBox")?;
                self.add_controller(controller)
            }
            Edit::AddDevice(at, device) => {
                refuse_chosen_name(&device.name, &[device.kind.name()], "VirtualBox")?;
                self.check_default_port(*at, &device.kind)?;
                self.add_device(*at, device).map(drop)
            }
            Edit::RemoveController(number) => {
                self.machine.controllers.get(*number).ok_or_else(missing)?;
                self.remove_controller(*number);
                Ok(())
            }
            Edit::RemoveDevice(number) => {
                let device = self.machine.devices.get(*number).ok_or_else(missing)?;
                self.remove_device(device.key);
                Ok(())
            }
            // The element of a controller already specifies everything about it.
            Edit::PinController(_, controller) => self.check_expressible(controller).map(drop),
            Edit::PinDevice(number, at) => {
                let device = self.machine.devices.get(*number).ok_or_else(missing)?;
                Err(port_inexpressible(&device.kind, *at))
            }
            Edit::NoUsb => {
                (0..self.machine.controllers.len()).for_each(|it| self.remove_controller(it));
                self.new_controllers.clear();
                self.controllers.clear();
                Ok(())
            }
        }
    }

    pub(super) fn add_controller(&mut self, controller: &Controller) -> Result<(), Inexpressible> {
        let model = self.check_expressible(controller)?;
        if self.controllers.values().any(|it| *it == model) {
            let what = format!("a second {model} ({})", controller.name);
            return Err(inexpressible(what, "VirtualBox has at most one controller of each type"));
        }
        self.controllers.insert(controller.index, model);
        self.new_controllers.push(model);
        Ok(())
    }

    fn remove_controller(&mut self, number: usize) {
        self.removed.insert(number);
        if let Some(controller) = self.machine.controllers.get(number) {
            self.controllers.retain(|_, model| *model != controller.model);
        }
    }

    /// Adds a device, and returns its key.
    pub(super) fn add_device(
        &mut self,
        at: Address,
        device: &Device,
    ) -> Result<DeviceKey, Inexpressible> {
        let cannot = |why: &str| inexpressible(format!("{} ({})", device.kind, device.name), why);
        if !self.controllers.contains_key(&at.bus) {
            return Err(cannot("VirtualBox cannot have its controller"));
        }
        match &device.kind {
            Kind::Host(host) => {
                self.new_filters.push(filter::write(&host.selector).map_err(cannot)?);
                let number = self.machine.filters.len() + self.new_filters.len() - 1;
                self.devices.insert(DeviceKey::Filter(number));
                Ok(DeviceKey::Filter(number))
            }
            Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input)
                if !is_plain(*input) =>
            {
                Err(cannot("VirtualBox's mice, tablets and keyboards are USB 1 devices"))
            }
            Kind::Tablet(_) => {
                self.add_input(DeviceKey::Pointing, "USBTablet").map_err(|it| cannot(&it))
            }
            Kind::Mouse(_) => {
                self.add_input(DeviceKey::Pointing, "USBMouse").map_err(|it| cannot(&it))
            }
            Kind::Keyboard(_) => {
                self.add_input(DeviceKey::Keyboard, "USBKeyboard").map_err(|it| cannot(&it))
            }
            _ => Err(cannot(
                "VirtualBox's settings have no such device: its USB devices are a tablet or a mouse, a keyboard, and host devices",
            )),
        }
    }

    fn add_input(&mut self, key: DeviceKey, value: &'static str) -> Result<DeviceKey, String> {
        let (name, default) = input_attribute(key);
        if !self.devices.insert(key) {
            let word = if key == DeviceKey::Keyboard { "keyboard" } else { "pointing device" };
            return Err(format!("VirtualBox has only one {word}"));
        }
        let hid = child(self.machine.hardware, "HID");
        let written = hid.and_then(|it| it.attribute(name)).filter(|it| *it != default);
        if let Some(other) = written.filter(|_| !self.input.contains_key(name)) {
            let other = excerpt(other);
            return Err(format!("the machine has {name}=\"{other}\"; set it to {default} first"));
        }
        self.input.insert(name, value);
        Ok(key)
    }

    fn remove_device(&mut self, key: DeviceKey) {
        self.devices.remove(&key);
        if let DeviceKey::Pointing | DeviceKey::Keyboard = key {
            self.input.insert(input_attribute(key).0, "");
        }
    }

    /// Refuses a port that the settings cannot specify and that the device could not get by
    /// default. The order of the devices depends on speeds that the text does not contain, so any
    /// port is accepted that has at most as many ports before it as there are other devices.
    fn check_default_port(&self, at: Address, kind: &Kind) -> Result<(), Inexpressible> {
        let possible = at.port.parent().is_none()
            && usize::from(at.port.port()) <= self.devices.len().saturating_add(1);
        if possible { Ok(()) } else { Err(port_inexpressible(kind, at)) }
    }

    /// The model of a controller, if VirtualBox has exactly this one.
    fn check_expressible(&self, controller: &Controller) -> Result<Model, Inexpressible> {
        let (name, model, ports) = (&controller.name, controller.model, controller.ports);
        let Some(own) = model.virtualbox_ports() else {
            let (instead, model) = match model.usbversion() {
                UsbVersion::V1 => ("for USB 1 it has a pci-ohci", Model::PciOhci),
                UsbVersion::V2 => ("for USB 2 it has an ehci beside a pci-ohci", Model::Ehci),
                UsbVersion::V3 => ("for USB 3 it has a qemu-xhci", Model::QemuXhci),
            };
            let why = Reason::from(format!("VirtualBox has no such controller; {instead}"));
            let why = why.remedy(Remedy::UseModel { model, ports: None });
            return Err(inexpressible(controller.describe(), why));
        };
        if ports != own {
            let what = format!("the {} ports of {name} ({model})", ports.count());
            let why = match (own.usb2(), own.usb3()) {
                (usb2, 0) => {
                    format!("VirtualBox's has {usb2}, and its settings cannot change that")
                }
                (usb2, usb3) => format!(
                    "VirtualBox's has {usb2} USB 2 and {usb3} USB 3 ports, and its settings cannot change that"
                ),
            };
            let why = Reason::from(why).remedy(Remedy::UseModel { model, ports: None });
            return Err(inexpressible(what, why));
        }
        if !controller.companions.is_empty() {
            let what = format!("the companions of {name}");
            return Err(inexpressible(
                what,
                "VirtualBox's EHCI has none: its OHCI has the slow devices",
            ));
        }
        let version = self.machine.version;
        if model == Model::QemuXhci && (version < settings::XHCI || self.is_old_form()) {
            let what = controller.describe();
            let why = format!(
                "settings version 1.{version} has no xHCI; add one with VirtualBox 5.0 or newer, which writes a newer version"
            );
            return Err(inexpressible(what, why));
        }
        Ok(model)
    }

    const fn is_old_form(&self) -> bool {
        matches!(self.machine.form, Form::Flags(_))
    }

    /// The edited text, and what it should have.
    pub(super) fn finish(mut self) -> Result<(String, Wanted), Inexpressible> {
        self.set_input();
        match self.machine.form {
            Form::Elements(usb) => self.set_elements(usb),
            Form::Flags(node) => self.set_flags(node)?,
        }
        let wanted = Wanted { controllers: self.controllers.len(), devices: self.devices.len() };
        Ok((self.tree.finish(), wanted))
    }

    /// Writes the changes of `<HID>`. VirtualBox leaves out defaults since its version 5.1, and
    /// wrote both attributes before.
    fn set_input(&mut self) {
        if self.input.is_empty() {
            return;
        }
        let values = std::mem::take(&mut self.input);
        let Some(hid) = child(self.machine.hardware, "HID") else {
            let set = INPUTS.iter().filter_map(|(name, _)| Some((*name, *values.get(name)?)));
            let set = set.filter(|(_, value)| !value.is_empty());
            let element = set.fold(Element::new("HID"), |all, (name, value)| all.with(name, value));
            return self.insert_into_hardware(element);
        };
        let is_left = |name: &str| {
            let new = values.get(name).copied();
            new.map_or_else(|| hid.attribute(name).is_some(), |it| !it.is_empty())
        };
        let has_none = INPUTS.iter().all(|(name, _)| !is_left(name));
        if has_none && !INPUTS.iter().all(|(name, _)| self.has_defaults(hid, name)) {
            return self.tree.remove(hid);
        }
        for (name, default) in INPUTS {
            match values.get(name).copied() {
                None => {}
                Some("") if self.has_defaults(hid, name) => {
                    self.tree.set_attributes(hid, &[(name, default.to_owned())]);
                }
                Some("") => self.tree.remove_attribute(hid, name),
                Some(value) => self.tree.set_attributes(hid, &[(name, value.to_owned())]),
            }
        }
    }

    /// Whether an attribute of `<HID>` without a USB device has its default, as the other one has
    /// or may have had. Otherwise it is left out.
    fn has_defaults(&self, hid: Node<'_>, name: &str) -> bool {
        let mut others = INPUTS.iter().filter(|(other, _)| *other != name);
        let is_old = self.machine.version < FIRST_WITHOUT_DEFAULTS;
        others.any(|(other, default)| {
            hid.attribute(*other).is_some_and(|value| is_old || value == *default)
        })
    }

    /// Adds and removes elements in `<USB>`.
    fn set_elements(&mut self, usb: Option<Node<'d>>) {
        let controllers = self.new_controllers.iter().map(|model| {
            let (name, kind) = type_of(*model);
            Element::new("Controller").with("name", name).with("type", kind)
        });
        let controllers: Vec<Element> = controllers.collect();
        let filters = std::mem::take(&mut self.new_filters);
        let removed: Vec<Node<'d>> = self.removed_elements();
        let Some(usb) = usb else {
            let parts = [("Controllers", controllers), ("DeviceFilters", filters)];
            let parts = parts.into_iter().filter(|(_, new)| !new.is_empty());
            let parts: Vec<Element> =
                parts.map(|(name, new)| Element::new(name).and(new)).collect();
            if !parts.is_empty() {
                self.insert_into_hardware(Element::new("USB").and(parts));
            }
            return;
        };
        let empties = |name, new: &[Element]| {
            new.is_empty() && all(usb, name).all(|it| is_emptied(it, &removed))
        };
        let changed = !removed.is_empty();
        let both = empties("Controllers", &controllers) && empties("DeviceFilters", &filters);
        let known =
            |node: Node<'_>| ["Controllers", "DeviceFilters"].contains(&node.tag_name().name());
        if changed && both && is_blank(usb) && elements(usb).all(known) {
            return self.tree.remove(usb);
        }
        self.set_list(usb, "Controllers", controllers, &removed);
        self.set_list(usb, "DeviceFilters", filters, &removed);
    }

    /// Adds elements to a list in `<USB>`, and removes others from it.
    fn set_list(
        &mut self,
        usb: Node<'d>,
        name: &'static str,
        new: Vec<Element>,
        removed: &[Node<'d>],
    ) {
        let lists: Vec<Node<'d>> = all(usb, name).collect();
        for list in &lists {
            let gone = elements(*list).filter(|it| removed.contains(it)).collect::<Vec<_>>();
            if new.is_empty() && !gone.is_empty() && is_emptied(*list, removed) {
                self.tree.remove(*list);
            } else {
                gone.into_iter().for_each(|it| self.tree.remove(it));
            }
        }
        match lists.last() {
            _ if new.is_empty() => {}
            Some(list) => self.tree.append(*list, &new),
            None if name == "Controllers" && !crate::xml::is_self_closing(usb) => {
                self.tree.insert_after(usb, None, &[Element::new(name).and(new)]);
            }
            None => self.tree.append(usb, &[Element::new(name).and(new)]),
        }
    }

    /// Sets the attributes of `<USBController>`, and adds and removes filters in it.
    fn set_flags(&mut self, node: Option<Node<'d>>) -> Result<(), Inexpressible> {
        let removed = self.removed_elements();
        let filters = std::mem::take(&mut self.new_filters);
        let changed = !(self.new_controllers.is_empty() && self.removed.is_empty());
        if !changed && filters.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let complete =
            node.filter(|it| it.has_attribute("enabled") && it.has_attribute("enabledEhci"));
        let Some(node) = complete else {
            let why = "the file has no <USBController> with `enabled` and `enabledEhci`, which VirtualBox writes in this settings version; open the machine in VirtualBox, and save it";
            return Err(inexpressible("this edit", why));
        };
        if changed {
            let flag = |model| self.controllers.values().any(|it| *it == model).to_string();
            let flags = [("enabled", flag(Model::PciOhci)), ("enabledEhci", flag(Model::Ehci))];
            self.tree.set_attributes(node, &flags);
        }
        if filters.is_empty() && !removed.is_empty() && is_emptied(node, &removed) {
            self.tree.empty(node);
        } else {
            removed.into_iter().for_each(|it| self.tree.remove(it));
        }
        self.tree.append(node, &filters);
        Ok(())
    }

    /// The elements of what is removed.
    fn removed_elements(&self) -> Vec<Node<'d>> {
        let numbers =
            self.removed.iter().filter_map(|number| self.machine.controllers.get(*number));
        let controllers = numbers.filter_map(|controller| controller.element);
        let devices = self.machine.devices.iter().map(|device| device.key);
        let filters =
            devices.filter(|key| !self.devices.contains(key)).filter_map(|key| match key {
                DeviceKey::Filter(number) => self.machine.filters.get(number).copied(),
                DeviceKey::Pointing | DeviceKey::Keyboard => None,
            });
        controllers.chain(filters).collect()
    }

    /// Adds an element to the hardware, where VirtualBox writes it.
    fn insert_into_hardware(&mut self, element: Element) {
        let own = rank(element.name);
        let before = elements(self.machine.hardware).filter(|it| rank(it.tag_name().name()) < own);
        self.tree.insert_after(self.machine.hardware, before.last(), &[element]);
    }
}

/// The settings version of the first VirtualBox that leaves out defaults (`buildHardwareXML`). It
/// also reads and writes files of older settings versions.
const FIRST_WITHOUT_DEFAULTS: u32 = 16;

/// The attributes of `<HID>`, with their defaults.
const INPUTS: [(&str, &str); 2] = [("Pointing", "PS2Mouse"), ("Keyboard", "PS2Keyboard")];

const fn input_attribute(key: DeviceKey) -> (&'static str, &'static str) {
    match key {
        DeviceKey::Keyboard => INPUTS[1],
        DeviceKey::Pointing | DeviceKey::Filter(_) => INPUTS[0],
    }
}

/// The name and the type that VirtualBox gives to a controller.
const fn type_of(model: Model) -> (&'static str, &'static str) {
    match model {
        Model::PciOhci => ("OHCI", "OHCI"),
        Model::Ehci => ("EHCI", "EHCI"),
        _ => ("xHCI", "XHCI"),
    }
}

/// The position of an element in `<Hardware>` (`buildHardwareXML` in VirtualBox's `Settings.cpp`).
/// All others follow.
fn rank(name: &str) -> usize {
    const ORDER: [&str; 19] = [
        "CPU",
        "Memory",
        "Firmware",
        "HID",
        "HPET",
        "Chipset",
        "Iommu",
        "Paravirt",
        "Boot",
        "Display",
        "VideoCapture",
        "VideoRecording",
        "RemoteDisplay",
        "BIOS",
        "TrustedPlatformModule",
        "DVDDrive",
        "FloppyDrive",
        "USBController",
        "USB",
    ];
    ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len())
}

/// Whether an element has only elements and white space in it.
fn is_blank(node: Node<'_>) -> bool {
    let blank = |it: &Node<'_>| it.is_text() && it.text().is_some_and(|it| it.trim().is_empty());
    node.children().all(|it| it.is_element() || blank(&it))
}

/// Whether nothing is left in an element without the `removed` elements.
fn is_emptied(node: Node<'_>, removed: &[Node<'_>]) -> bool {
    is_blank(node) && elements(node).all(|it| removed.contains(&it))
}

fn port_inexpressible(kind: &Kind, at: Address) -> Inexpressible {
    inexpressible(
        format!("port {} for {kind}", at.port),
        "VirtualBox's settings contain no ports: VirtualBox chooses one, and vusb assumes the lowest free one",
    )
}

const fn is_plain(input: Input) -> bool {
    matches!(input.usbversion, UsbVersion::V1)
}
