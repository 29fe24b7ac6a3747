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
use std::ops::Range;

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
use super::element::{Element, Style, escaped};
use super::express::{self, Numbers};
use super::names::{Alias, alias_of, disk_number, model_name};
use super::write::rank;
use super::xml::{self, Node, all, attr, child, elements, is};
use crate::config::{Edit, Inexpressible};
use crate::splice::{Splices, line_start};

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
    Ok(editor.splices.apply(text))
}

/// The edits so far.
struct Editor<'t, 'd> {
    text: &'t str,
    domain: &'t Domain<'d>,
    splices: Splices,
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
            text,
            domain,
            splices: Splices::default(),
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
            self.splices.remove(removal_span(self.text, node.range()));
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
            self.splices.remove(removal_span(self.text, node.range()));
        }
        self.removed_controllers.insert(number);
        Ok(())
    }

    fn remove_device(&mut self, number: usize) -> Result<(), Inexpressible> {
        match entry(&self.domain.devices, number)?.declared_by {
            DeclaredBy::Element(node) => {
                self.splices.remove(removal_span(self.text, node.range()));
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
            self.splices.remove(removal_span(self.text, console.range()));
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
            Some(element) => self.set_attributes(element, &wanted),
            None => self.append(node, &[express::usb_address(address.bus, address.port)]),
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
        self.set_attributes(node, &wanted);
        let mut children = Vec::new();
        if let Some((_, first_port)) = companion {
            match child(node, "master") {
                Some(master) => {
                    self.set_attributes(master, &[("startport", first_port.to_string())]);
                }
                None => children.push(Element::new("master").with("startport", first_port)),
            }
        }
        if child(node, "address").is_none() {
            children
                .extend(express::pci(pci_of(companion, controller).as_ref(), &self.domain.buses));
        }
        self.append(node, &children);
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

    /// Sets attributes of an element. New ones are added after the last attribute.
    fn set_attributes(&mut self, node: Node<'_>, wanted: &[(&str, String)]) {
        let quote = quote_of(self.text, node);
        let mut more = String::new();
        for (name, value) in wanted {
            match attr(node, name) {
                Some(old) if old.value == value => {}
                Some(old) => {
                    self.splices.replace(old.span, escaped(value, Some(quote)));
                }
                None => {
                    let value = escaped(value, Some(quote));
                    more.push_str(&format!(" {name}={quote}{value}{quote}"));
                }
            }
        }
        if more.is_empty() {
            return;
        }
        let last = node.attributes().map(|attribute| attribute.range().end).max();
        let at = last.unwrap_or(node.range().start + 1 + node.tag_name().name().len());
        self.splices.insert(at, more);
    }

    /// Adds the new elements to `<devices>`.
    fn insert_all(&mut self) {
        let mut new = std::mem::take(&mut self.new);
        if new.is_empty() {
            return;
        }
        new.sort_by_key(|element| rank(element.name));
        let Some(devices) = all(self.domain.root, "devices").last() else {
            return self.append(self.domain.root, &[Element::new("devices").and(new)]);
        };
        if xml::is_self_closing(devices) {
            return self.append(devices, &new);
        }
        let existing: Vec<Node<'_>> = elements(devices).collect();
        for group in new.chunk_by(|a, b| a.group() == b.group()) {
            if let Some(first) = group.first() {
                self.insert_after(devices, neighbour(&existing, first), group);
            }
        }
    }

    /// Adds elements at the end of `parent`.
    fn append(&mut self, parent: Node<'_>, new: &[Element]) {
        if new.is_empty() {
            return;
        }
        if !xml::is_self_closing(parent) {
            return self.insert_after(parent, elements(parent).last(), new);
        }
        // <devices/> becomes <devices>...</devices>.
        let tag = xml::tag(parent);
        let indent = indent_of(self.text, tag.start);
        let style = style(self.text, parent, indent.is_some());
        let outer = indent.unwrap_or_default();
        let inner = indent.map_or_else(String::new, |outer| format!("{outer}{}", style.unit));
        let line = |element: &Element| {
            format!("{}{inner}{}", style.newline, element.render(&style, &inner))
        };
        let lines: String = new.iter().map(line).collect();
        let text = format!(">{lines}{}{outer}</{}>", style.newline, name_in(self.text, parent));
        let slash = tag.end.saturating_sub(2);
        let opening = self.text.get(tag.start..slash).unwrap_or_default();
        let start = tag.start + opening.trim_end().len();
        self.splices.replace(start..tag.end, text);
    }

    /// Adds elements to `parent`, after its child `after` or as the first.
    fn insert_after(&mut self, parent: Node<'_>, after: Option<Node<'_>>, new: &[Element]) {
        let from = after.map_or(xml::tag(parent).end, |after| after.range().end);
        let line_end = end_of_line(self.text, from);
        let style = style(self.text, after.unwrap_or(parent), line_end.is_some());
        let (at, text) = match line_end {
            Some(at) => {
                let indent = self.indent_in(parent, after, &style);
                let line = |element: &Element| {
                    format!("{indent}{}{}", element.render(&style, &indent), style.newline)
                };
                (at, new.iter().map(line).collect::<String>())
            }
            None => (from, new.iter().map(|element| element.render(&style, "")).collect()),
        };
        self.splices.insert(at, text);
    }

    /// The indentation of the elements in `parent`: that of the preceding one, of any other, or one
    /// level more than `parent`.
    fn indent_in(&self, parent: Node<'_>, after: Option<Node<'_>>, style: &Style) -> String {
        let existing = after.into_iter().chain(elements(parent));
        let existing =
            existing.into_iter().find_map(|node| indent_of(self.text, node.range().start));
        existing.map(str::to_owned).unwrap_or_else(|| {
            let line = line_start(self.text, parent.range().start);
            let rest = self.text.get(line..).unwrap_or_default();
            let outer = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            format!("{}{}", rest.get(..outer).unwrap_or_default(), style.unit)
        })
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

/// The name of an element as written, with its namespace prefix.
fn name_in<'t>(text: &'t str, node: Node<'_>) -> &'t str {
    let rest = text.get(node.range().start + 1..).unwrap_or_default();
    rest.split(|end: char| end.is_whitespace() || end == '/' || end == '>')
        .next()
        .unwrap_or_default()
}

/// The span to delete with an element: its lines, if nothing else is on them.
fn removal_span(text: &str, element: Range<usize>) -> Range<usize> {
    let start = line_start(text, element.start);
    let after = text.get(element.end..).unwrap_or_default();
    let rest = after.trim_start_matches([' ', '\t']);
    let line_end = ["\r\n", "\n"].into_iter().find(|end| rest.starts_with(end));
    match line_end {
        Some(end) if indent_of(text, element.start).is_some() => {
            start..element.end + (after.len() - rest.len()) + end.len()
        }
        _ => element,
    }
}

/// The text before `at` on its line, if it consists of spaces and tabs.
fn indent_of(text: &str, at: usize) -> Option<&str> {
    let before = text.get(line_start(text, at)..at)?;
    before.bytes().all(|byte| byte == b' ' || byte == b'\t').then_some(before)
}

/// The start of the next line, if only spaces and comments precede it. A comment belongs to the
/// element before it.
fn end_of_line(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = text.get(at..)?;
        let line = rest.trim_start_matches([' ', '\t']);
        at += rest.len() - line.len();
        if let Some(end) = ["\r\n", "\n"].into_iter().find(|end| line.starts_with(end)) {
            return Some(at + end.len());
        }
        if !line.starts_with("<!--") {
            return None;
        }
        let inside = line.get("<!--".len()..)?;
        at += "<!--".len() + inside.find("-->")? + "-->".len();
    }
}

/// The style around an element. `lines` is whether new elements get lines of their own.
fn style(text: &str, near: Node<'_>, lines: bool) -> Style {
    let newline = if lines { newline_at(text, near.range().end) } else { "" };
    Style { quote: quote_of(text, near), unit: unit_of(text, near), newline }
}

/// The first line ending after `at`, or else the first one of the text.
fn newline_at(text: &str, at: usize) -> &'static str {
    let after = text.get(at..).unwrap_or_default();
    let newline = after.find('\n').map(|found| at + found).or_else(|| text.find('\n'));
    match newline {
        Some(newline) if text.get(..newline).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// The quote of the attributes near an element: of its first, or of one of its ancestors.
fn quote_of(text: &str, near: Node<'_>) -> char {
    let first = near.ancestors().find_map(|node| node.attributes().next());
    let value = first.and_then(|attribute| text.get(attribute.range()));
    value.and_then(|value| value.chars().next_back()).filter(|quote| *quote == '"').unwrap_or('\'')
}

/// One level of indentation near an element: the difference between an element and its parent.
fn unit_of(text: &str, near: Node<'_>) -> String {
    let step = |node: Node<'_>| {
        let outer = indent_of(text, node.parent_element()?.range().start)?;
        let inner = indent_of(text, node.range().start)?;
        inner.strip_prefix(outer).filter(|step| !step.is_empty()).map(str::to_owned)
    };
    let inside = elements(near).find_map(step);
    inside.or_else(|| near.ancestors().find_map(step)).unwrap_or_else(|| "  ".to_owned())
}
