//! Edits to a domain's text that keep every other byte.
//!
//! ```text
//!   text ──read──▶ positions of the elements
//!   edits ───────▶ splices: (position, new text) ──apply──▶ text
//! ```
//!
//! **A new element** is inserted after the last one of its group and the comments that follow that
//! on its line, or where libvirt would write it. If its neighbours have lines of their own, it gets
//! one too, with their indentation and quotes. Otherwise it directly follows its neighbour.
//!
//! **A removed element** is removed with its line if nothing else is on that line. Comments and
//! other elements stay. As a result, adding an element and removing it again restores the original
//! text.

use std::collections::BTreeSet;

use vusb_model::address::Address;
use vusb_model::device::{Chardev, Kind};
use vusb_model::guest::Hypervisor;
use vusb_model::hardware::{Controller, Device, PciAddress};
use vusb_model::models::{CompanionModel, ControllerType};
use vusb_model::name::Name;
use vusb_model::spec::ControllerSpec;

use super::address::usb_address_element;
use super::all_devices;
use super::console;
use super::device::card_readers;
use super::domain::{DeclaredBy, Domain, Entry};
use super::element::Element;
use super::express::{self, Numbers};
use super::names::{Alias, alias_of, disk_number, model_name};
use super::write::rank;
use super::xml::{self, Node, all, child, elements, is};
use crate::config::{Edit, Inexpressible};
use crate::xml::splicing::TreeEdits;

/// Applies changes. See [`ConfigFormat::edit`](crate::ConfigFormat::edit).
pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    let unreadable = |problem: crate::error::Problem| Inexpressible {
        what: "the edit".to_owned(),
        why: format!("the text cannot be read:\n{}", problem.in_text(text, "the domain")).into(),
    };
    let document = xml::parse(text).map_err(unreadable)?;
    let domain = Domain::read(document.root_element()).map_err(unreadable)?;
    let mut editor = Editor::new(text, &domain);
    editor.numbers.keep(edits.iter().filter_map(|edit| match edit {
        Edit::AddDevice(_, device) => Some(*device),
        _ => None,
    }));
    for edit in edits {
        editor.edit(edit)?;
    }
    editor.remove_console();
    editor.insert_all();
    Ok(editor.tree.finish())
}

/// The edits so far.
struct Editor<'t, 'd> {
    domain: &'t Domain<'d>,
    tree: TreeEdits<'t>,
    /// Elements to add to `<devices>`.
    new: Vec<Element>,
    /// The numbers of the disk names and of the smart card readers in use.
    numbers: Numbers,
    /// The controllers to remove.
    removed_controllers: BTreeSet<usize>,
    /// How many `<serial>` elements are removed.
    removed_serials: usize,
}

impl<'t, 'd> Editor<'t, 'd> {
    fn new(text: &'t str, domain: &'t Domain<'d>) -> Editor<'t, 'd> {
        let devices = || all(domain.root, "devices").flat_map(elements);
        let disks = devices().filter(|node| is(*node, "disk"));
        let disks = disks.filter_map(|node| disk_number(child(node, "target")?.attribute("dev")?));
        let mut editor = Editor {
            domain,
            tree: TreeEdits::new(text),
            new: Vec::new(),
            numbers: Numbers::default(),
            removed_controllers: BTreeSet::new(),
            removed_serials: 0,
        };
        disks.for_each(|disk| {
            editor.numbers.disks.insert(disk);
        });
        for reader in card_readers(domain.root) {
            editor.numbers.readers.insert(reader);
        }
        editor
    }

    fn edit(&mut self, edit: &Edit<'_>) -> Result<(), Inexpressible> {
        match edit {
            Edit::AddController(controller) => self.add_controller(controller),
            Edit::AddDevice(address, device) => self.add_device(*address, device),
            Edit::RemoveController(number) => self.remove_controller(*number),
            Edit::RemoveDevice(number) => self.remove_device(*number),
            Edit::PinController(number, controller) => self.pin_controller(*number, controller),
            Edit::PinDevice(number, address) => self.pin_device(*number, *address),
            Edit::NoUsb => self.no_usb(),
        }
    }

    /// Whether the guest is a Xen guest. Its device model has a UHCI for mice and tablets, with a
    /// hub where QEMU needs one. libvirt's driver for Xen accepts neither as an element.
    fn is_xen(&self) -> bool {
        self.domain.guest.hypervisor == Hypervisor::Xen
    }

    fn add_controller(&mut self, controller: &Controller) -> Result<(), Inexpressible> {
        if self.is_xen() && controller.model.controller_type() == ControllerType::Emulated {
            self.enable_usb();
            return Ok(());
        }
        if let Some(lost) =
            express::controller_losses(controller, &self.domain.buses).into_iter().next()
        {
            return Err(lost);
        }
        self.check_alias(&controller.name)?;
        self.new.extend(express::controller(controller, &self.domain.buses)?);
        self.enable_usb();
        Ok(())
    }

    /// Checks that no device other than a USB device has the alias that this name is written as.
    /// Otherwise libvirt would refuse the whole file.
    fn check_alias(&self, name: &Name) -> Result<(), Inexpressible> {
        let Alias::User(alias) = alias_of(name) else { return Ok(()) };
        let controllers = self.domain.controllers.iter().map(|it| it.declared_by);
        let devices = self.domain.devices.iter().map(|it| it.declared_by);
        let usb = controllers.chain(devices).filter_map(DeclaredBy::element);
        let usb = usb.map(|node| node.range().start).collect();
        if !all_devices::has_alias(self.domain.root, &alias, &usb) {
            return Ok(());
        }
        Err(Inexpressible {
            what: format!("the name {name}"),
            why: format!("another device of the domain has the alias {alias}; use another name")
                .into(),
        })
    }

    /// Checks that the domain has a SPICE display if the device has a SPICE channel. QEMU does not
    /// start without the display.
    fn check_spice(&self, device: &Device) -> Result<(), Inexpressible> {
        let chardev = match &device.kind {
            Kind::Redir(redir) => &redir.chardev,
            Kind::Serial(serial) => &serial.chardev,
            _ => return Ok(()),
        };
        let spice =
            |node: &Node<'_>| is(*node, "graphics") && node.attribute("type") == Some("spice");
        let mut devices = all(self.domain.root, "devices").flat_map(elements);
        if *chardev != Chardev::Spicevmc || devices.any(|node| spice(&node)) {
            return Ok(());
        }
        Err(Inexpressible {
            what: format!("the SPICE channel of {}", device.name),
            why: "the domain has no SPICE display: add <graphics type='spice' autoport='yes'/>"
                .into(),
        })
    }

    /// Writes out the serial port that libvirt adds for the console, before the first `<serial>`
    /// takes its place.
    fn keep_console(&mut self) -> Result<(), Inexpressible> {
        let is_first =
            console::serials(self.domain) == 0 && self.new.iter().all(|it| it.name != "serial");
        if let Some(console) = console::serial_console(self.domain).filter(|_| is_first) {
            self.new.push(console::port_of(console)?);
        }
        Ok(())
    }

    /// Removes the elements that disable the domain's USB.
    fn enable_usb(&mut self) {
        for node in &self.domain.disabled {
            self.tree.remove(*node);
        }
    }

    fn add_device(&mut self, address: Address, device: &Device) -> Result<(), Inexpressible> {
        if self.is_xen() {
            if let Some(element) = express::pointer(device) {
                self.new.push(element);
                return Ok(());
            }
            if matches!(device.kind, Kind::Hub(_)) {
                return Ok(());
            }
        }
        self.check_alias(&device.name)?;
        self.check_spice(device)?;
        if let Kind::Serial(_) = device.kind {
            self.keep_console()?;
        }
        let free = self.numbers.take(device);
        let (element, lost) = express::device(address, device, free)?;
        if let Some(lost) = lost.into_iter().next() {
            return Err(lost);
        }
        self.new.push(element);
        Ok(())
    }

    fn remove_controller(&mut self, number: usize) -> Result<(), Inexpressible> {
        let entry = entry(&self.domain.controllers, number)?;
        if let Some(node) = entry.declared_by.element() {
            self.tree.remove(node);
        }
        self.removed_controllers.insert(number);
        Ok(())
    }

    fn remove_device(&mut self, number: usize) -> Result<(), Inexpressible> {
        match entry(&self.domain.devices, number)?.declared_by {
            DeclaredBy::Element(node) => {
                self.tree.remove(node);
                self.removed_serials += usize::from(is(node, "serial"));
                Ok(())
            }
            DeclaredBy::SmartCard(index) => Err(Inexpressible {
                what: format!("removing the reader ccid{index}"),
                why: "libvirt adds it for the smart card: remove the <smartcard>".into(),
            }),
        }
    }

    /// Removes the console together with the last `<serial>`. Otherwise libvirt would add another
    /// serial port for the console.
    fn remove_console(&mut self) {
        let none_left = self.removed_serials > 0
            && self.removed_serials == console::serials(self.domain)
            && self.new.iter().all(|it| it.name != "serial");
        if let Some(console) = console::serial_console(self.domain).filter(|_| none_left) {
            self.tree.remove(console);
        }
    }

    fn pin_device(&mut self, number: usize, address: Address) -> Result<(), Inexpressible> {
        if let Some(name) = &entry(&self.domain.devices, number)?.spec.name {
            express::check_bus(address.bus, name)?;
        }
        let node = match entry(&self.domain.devices, number)?.declared_by {
            DeclaredBy::Element(node) => node,
            DeclaredBy::SmartCard(index) => {
                let reader = Element::new("controller").with("type", "ccid").with("index", index);
                self.new.push(reader.and([express::usb_address(address.bus, address.port)]));
                return Ok(());
            }
        };
        let wanted = [("bus", address.bus.to_string()), ("port", address.port.to_string())];
        match usb_address_element(node) {
            Some(element) => self.tree.set_attributes(element, &wanted),
            None => self.tree.append(node, &[express::usb_address(address.bus, address.port)]),
        }
        Ok(())
    }

    fn pin_controller(
        &mut self,
        number: usize,
        controller: &Controller,
    ) -> Result<(), Inexpressible> {
        let entry = entry(&self.domain.controllers, number)?;
        let Some(node) = entry.declared_by.element() else {
            return Ok(());
        };
        let companion = companion(entry, controller);
        let model = companion.map_or(controller.model, |(model, _)| model.model());
        let Some(model) = model_name(model) else {
            return Err(Inexpressible {
                what: controller.describe(),
                why: "libvirt does not have this model".into(),
            });
        };
        let mut wanted = vec![("index", controller.index.to_string()), ("model", model.to_owned())];
        if companion.is_none() {
            wanted.extend(express::ports(controller).map(|ports| ("ports", ports.to_string())));
        }
        self.tree.set_attributes(node, &wanted);
        let mut children = Vec::new();
        if let Some((_, first_port)) = companion {
            match child(node, "master") {
                Some(master) => {
                    self.tree.set_attributes(master, &[("startport", first_port.to_string())]);
                }
                None => children.push(Element::new("master").with("startport", first_port)),
            }
        }
        if child(node, "address").is_none() {
            children
                .extend(express::pci(pci_of(companion, controller).as_ref(), &self.domain.buses));
        }
        self.tree.append(node, &children);
        Ok(())
    }

    fn no_usb(&mut self) -> Result<(), Inexpressible> {
        if self.removed_controllers.len() < self.domain.controllers.len() {
            return Err(Inexpressible {
                what: "turning USB off".to_owned(),
                why: "the domain has USB controllers: remove them first".into(),
            });
        }
        // A Xen guest has no USB by default, and libvirt's Xen driver refuses the model `none`.
        if self.domain.disabled.is_empty() && !self.is_xen() {
            self.new.push(express::no_usb());
        }
        Ok(())
    }

    /// Adds the new elements to `<devices>`.
    fn insert_all(&mut self) {
        let mut new = std::mem::take(&mut self.new);
        if new.is_empty() {
            return;
        }
        new.sort_by_key(|element| rank(element.name));
        let Some(devices) = all(self.domain.root, "devices").last() else {
            return self.tree.append(self.domain.root, &[Element::new("devices").and(new)]);
        };
        if xml::is_self_closing(devices) {
            return self.tree.append(devices, &new);
        }
        let existing: Vec<Node<'_>> = elements(devices).collect();
        for group in new.chunk_by(|a, b| a.group() == b.group()) {
            if let Some(first) = group.first() {
                self.tree.insert_after(devices, neighbour(&existing, first), group);
            }
        }
    }
}

/// The controller or device with this number.
fn entry<'a, 'd, T>(
    all: &'a [Entry<'d, T>],
    number: usize,
) -> Result<&'a Entry<'d, T>, Inexpressible> {
    all.get(number).ok_or_else(|| Inexpressible {
        what: format!("editing item {number}"),
        why: format!("the text has {} of them", all.len()).into(),
    })
}

/// The companion that an element stands for within a group, and its first port. `None` for the
/// group's master.
fn companion(
    entry: &Entry<'_, ControllerSpec>,
    group: &Controller,
) -> Option<(CompanionModel, u8)> {
    let model = entry.spec.model?;
    let first_port = entry.spec.first_port;
    let same = group.companions.iter().filter(|companion| companion.model.model() == model);
    let exact =
        same.clone().find(|companion| first_port.is_none_or(|first| first == companion.first_port));
    let companion = exact.or_else(|| same.into_iter().next())?;
    (model != group.model).then_some((companion.model, companion.first_port))
}

/// The PCI address of the element, if that of the group is known.
fn pci_of(companion: Option<(CompanionModel, u8)>, group: &Controller) -> Option<PciAddress> {
    match companion {
        None => group.pci.clone(),
        Some((model, _)) => express::group_slot(group)
            .map(|pci| PciAddress { function: model.function(), ..pci.clone() }),
    }
}

/// The element after which a new one is inserted: the last one of its group, otherwise of its name,
/// otherwise of the elements that libvirt writes before it.
fn neighbour<'d>(existing: &[Node<'d>], new: &Element) -> Option<Node<'d>> {
    let (name, kind) = new.group();
    let same = |node: &&Node<'_>| is(**node, name);
    let of_kind = |node: &&Node<'_>| kind.is_none_or(|kind| node.attribute("type") == Some(kind));
    let before = |node: &&Node<'_>| {
        let known = rank(node.tag_name().name());
        known.is_some_and(|known| rank(new.name).is_some_and(|new| known <= new))
    };
    let last =
        |of: &dyn Fn(&&Node<'d>) -> bool| existing.iter().rev().find(|node| of(node)).copied();
    last(&|node| same(node) && of_kind(node)).or_else(|| last(&same)).or_else(|| last(&before))
}
