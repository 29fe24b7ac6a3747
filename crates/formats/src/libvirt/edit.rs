//! Changes to a domain's text that leave all else in it as it was, to the byte.
//!
//! ```text
//!   text ──read──▶ where each element is
//!   changes ──────▶ splices: (place, what comes there instead) ──apply, by place──▶ text
//! ```
//!
//! **A new element** goes behind the last one of its sort, with all that is on that line behind it, or where libvirt would write it. It
//! gets a line of its own, indented and quoted as its neighbours are, if they have lines of their own; and stands behind its
//! neighbour if they do not.
//!
//! **An element that goes** takes its line with it if it has one of its own, and nothing else: no comment, no other element.
//! Both together: what was added and is removed again leaves the text as it was.

use std::collections::BTreeSet;
use std::ops::Range;

use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Device, PciAddress};
use vusb_model::models::CompanionModel;

use super::address::usb_address_of;
use super::domain::{Domain, Found, Said};
use super::element::{self, Element, Free, Style, escaped};
use super::names::{disk_number, model_name};
use super::numbers::{Taken, decimal};
use super::write::rank;
use super::xml::{self, Node, all, attr, child, elements, is};
use crate::config::{Edit, Unsayable};
use crate::splice::{Splices, line_start};

/// The text with these changes. See [`Format::edit`](crate::Format::edit).
pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Unsayable> {
    let unreadable = |problem: crate::error::Problem| Unsayable {
        what: "a change".to_owned(),
        why: format!("the text cannot be read as it is:\n{}", problem.in_text(text, "the domain")),
    };
    let document = xml::parse(text).map_err(unreadable)?;
    let domain = Domain::read(document.root_element()).map_err(unreadable)?;
    let mut editing = Editing::new(text, &domain);
    for edit in edits {
        editing.edit(edit)?;
    }
    editing.insert_all();
    Ok(editing.splices.apply(text))
}

/// An edit under way.
struct Editing<'t, 'd> {
    text: &'t str,
    domain: &'t Domain<'d>,
    splices: Splices,
    /// The elements that are to be added to `<devices>`.
    new: Vec<Element>,
    /// The disks' names that are taken, as numbers.
    disks: Taken,
    /// The smart card readers' indexes that are taken.
    readers: Taken,
    /// The controllers that go.
    removed: BTreeSet<usize>,
}

impl<'t, 'd> Editing<'t, 'd> {
    fn new(text: &'t str, domain: &'t Domain<'d>) -> Editing<'t, 'd> {
        let devices = || all(domain.root, "devices").flat_map(elements);
        let disks = devices().filter(|node| is(*node, "disk"));
        let disks = disks.filter_map(|node| disk_number(child(node, "target")?.attribute("dev")?));
        let readers = domain.devices.iter().filter_map(|found| {
            let name = found.spec.name.as_ref().filter(|_| found.spec.kind == Kind::Ccid);
            let index = found.said.element().and_then(|node| decimal(node.attribute("index")?));
            index.or_else(|| decimal(name?.as_str().strip_prefix("ccid")?))
        });
        let mut editing = Editing {
            text,
            domain,
            splices: Splices::default(),
            new: Vec::new(),
            disks: Taken::default(),
            readers: Taken::default(),
            removed: BTreeSet::new(),
        };
        disks.for_each(|disk| {
            editing.disks.take(disk);
        });
        readers.for_each(|reader| {
            editing.readers.take(reader);
        });
        editing
    }

    fn edit(&mut self, edit: &Edit<'_>) -> Result<(), Unsayable> {
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

    fn add_controller(&mut self, controller: &Controller) -> Result<(), Unsayable> {
        if let Some(lost) = element::lost_of(controller, &self.domain.buses).into_iter().next() {
            return Err(lost);
        }
        self.new.extend(element::controller(controller, &self.domain.buses)?);
        // What says that there is no USB is no longer so.
        for node in &self.domain.disabled {
            self.splices.remove(removal(self.text, node.range()));
        }
        Ok(())
    }

    fn add_device(&mut self, address: Address, device: &Device) -> Result<(), Unsayable> {
        let free = self.free_for(device);
        let (element, lost) = element::device(address, device, free)?;
        if let Some(lost) = lost.into_iter().next() {
            return Err(lost);
        }
        match device.kind {
            Kind::Storage(_) => self.disks.take(free.disk),
            Kind::Ccid => self.readers.take(free.reader),
            _ => true,
        };
        self.new.push(element);
        Ok(())
    }

    /// The numbers for a device: those that its name has, if libvirt gave it and they are free; else the first free ones.
    fn free_for(&mut self, device: &Device) -> Free {
        let number = |stem: &str| device.name.as_str().strip_prefix(stem).and_then(decimal);
        Free {
            disk: self.disks.free(number("usb-disk")),
            reader: self.readers.free(number("ccid")),
        }
    }

    fn remove_controller(&mut self, number: usize) -> Result<(), Unsayable> {
        let found = found(&self.domain.controllers, number)?;
        if let Some(node) = found.said.element() {
            self.splices.remove(removal(self.text, node.range()));
        }
        self.removed.insert(number);
        Ok(())
    }

    fn remove_device(&mut self, number: usize) -> Result<(), Unsayable> {
        match found(&self.domain.devices, number)?.said {
            Said::By(node) => {
                self.splices.remove(removal(self.text, node.range()));
                Ok(())
            }
            Said::ForCard(index) => Err(Unsayable {
                what: format!("that the reader ccid{index} goes"),
                why: "libvirt adds it for the smart card: remove the <smartcard>".to_owned(),
            }),
        }
    }

    fn pin_device(&mut self, number: usize, address: Address) -> Result<(), Unsayable> {
        let node = match found(&self.domain.devices, number)?.said {
            Said::By(node) => node,
            Said::ForCard(index) => {
                let reader = Element::new("controller").with("type", "ccid").with("index", index);
                self.new.push(reader.and([element::usb_address(address.bus, address.port)]));
                return Ok(());
            }
        };
        let wanted = [("bus", address.bus.to_string()), ("port", address.port.to_string())];
        match usb_address_of(node) {
            Some(there) => self.set_all(there, &wanted),
            None => self.put_into(node, &[element::usb_address(address.bus, address.port)]),
        }
        Ok(())
    }

    fn pin_controller(&mut self, number: usize, controller: &Controller) -> Result<(), Unsayable> {
        let found = found(&self.domain.controllers, number)?;
        let Some(node) = found.said.element() else {
            return Ok(());
        };
        let companion = companion(found, controller);
        let model = companion.map_or(controller.model, |(model, _)| model.model());
        let Some(model) = model_name(model) else {
            return Err(Unsayable {
                what: controller.describe(),
                why: "libvirt does not know this model".to_owned(),
            });
        };
        let mut wanted = vec![("index", controller.index.to_string()), ("model", model.to_owned())];
        if companion.is_none() {
            wanted.extend(element::ports(controller).map(|ports| ("ports", ports.to_string())));
        }
        self.set_all(node, &wanted);
        let mut inside = Vec::new();
        if let Some((_, first_port)) = companion {
            match child(node, "master") {
                Some(master) => self.set_all(master, &[("startport", first_port.to_string())]),
                None => inside.push(Element::new("master").with("startport", first_port)),
            }
        }
        if child(node, "address").is_none() {
            inside.extend(element::pci(pci_of(companion, controller).as_ref(), &self.domain.buses));
        }
        self.put_into(node, &inside);
        Ok(())
    }

    fn no_usb(&mut self) -> Result<(), Unsayable> {
        if self.removed.len() < self.domain.controllers.len() {
            return Err(Unsayable {
                what: "that there is no USB".to_owned(),
                why: "there are USB controllers: remove them first".to_owned(),
            });
        }
        if self.domain.disabled.is_empty() {
            self.new.push(element::no_usb());
        }
        Ok(())
    }

    /// Gives an element these values: puts them in place of those that are there, or behind the last attribute.
    fn set_all(&mut self, node: Node<'_>, wanted: &[(&str, String)]) {
        let quote = quote_of(self.text, node);
        let mut more = String::new();
        for (name, value) in wanted {
            match attr(node, name) {
                Some(there) if there.value == value => {}
                Some(there) => {
                    self.splices.replace(there.span, escaped(value, Some(quote)));
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

    /// Adds what is new to `<devices>`.
    fn insert_all(&mut self) {
        let mut new = std::mem::take(&mut self.new);
        if new.is_empty() {
            return;
        }
        new.sort_by_key(|element| rank(element.name));
        let Some(devices) = all(self.domain.root, "devices").last() else {
            return self.put_into(self.domain.root, &[Element::new("devices").and(new)]);
        };
        if xml::is_closed(devices) {
            return self.put_into(devices, &new);
        }
        let kinds: Vec<Node<'_>> = elements(devices).collect();
        for group in new.chunk_by(|a, b| a.sort() == b.sort()) {
            if let Some(first) = group.first() {
                self.put_behind(devices, neighbour(&kinds, first), group);
            }
        }
    }

    /// Adds elements to `parent`, behind all others in it.
    fn put_into(&mut self, parent: Node<'_>, new: &[Element]) {
        if new.is_empty() {
            return;
        }
        if !xml::is_closed(parent) {
            return self.put_behind(parent, elements(parent).last(), new);
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

    /// Adds elements to `parent`, behind the element `after` in it, or as the first.
    fn put_behind(&mut self, parent: Node<'_>, after: Option<Node<'_>>, new: &[Element]) {
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

    /// How the elements in `parent` are indented: as the one that comes before, or as any, or one step more than `parent`.
    fn indent_in(&self, parent: Node<'_>, after: Option<Node<'_>>, style: &Style) -> String {
        let known = after.into_iter().chain(elements(parent));
        let known = known.into_iter().find_map(|node| indent_of(self.text, node.range().start));
        known.map(str::to_owned).unwrap_or_else(|| {
            let line = line_start(self.text, parent.range().start);
            let rest = self.text.get(line..).unwrap_or_default();
            let outer = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            format!("{}{}", rest.get(..outer).unwrap_or_default(), style.unit)
        })
    }
}

fn found<'a, 'd, T>(all: &'a [Found<'d, T>], number: usize) -> Result<&'a Found<'d, T>, Unsayable> {
    all.get(number).ok_or_else(|| Unsayable {
        what: format!("a change to number {number}"),
        why: format!("the text has {} of them", all.len()),
    })
}

/// Which companion a controller's element is of the group that it is in, and its first port; `None` if it is the group's master.
fn companion(
    found: &Found<'_, vusb_model::spec::ControllerSpec>,
    group: &Controller,
) -> Option<(CompanionModel, u8)> {
    let model = found.spec.model?;
    let said = found.spec.first_port;
    let same = group.companions.iter().filter(|companion| companion.model.model() == model);
    let exact =
        same.clone().find(|companion| said.is_none_or(|first| first == companion.first_port));
    let companion = exact.or_else(|| same.into_iter().next())?;
    (model != group.model).then_some((companion.model, companion.first_port))
}

/// Where the element is on PCI, if that is known of the group.
fn pci_of(companion: Option<(CompanionModel, u8)>, group: &Controller) -> Option<PciAddress> {
    match companion {
        None => group.pci.clone(),
        Some((model, _)) => element::group_slot(group)
            .map(|pci| PciAddress { function: model.function(), ..pci.clone() }),
    }
}

/// The element that a new one goes behind: the last of its sort (of USB, among controllers), else the last of those that libvirt
/// writes before it.
fn neighbour<'d>(there: &[Node<'d>], new: &Element) -> Option<Node<'d>> {
    let (name, kind) = new.sort();
    let same = |node: &&Node<'_>| is(**node, name);
    let of_kind = |node: &&Node<'_>| kind.is_none_or(|kind| node.attribute("type") == Some(kind));
    let before = |node: &&Node<'_>| {
        let known = rank(node.tag_name().name());
        known.is_some_and(|known| rank(new.name).is_some_and(|new| known <= new))
    };
    let last = |of: &dyn Fn(&&Node<'d>) -> bool| there.iter().rev().find(|node| of(node)).copied();
    last(&|node| same(node) && of_kind(node)).or_else(|| last(&same)).or_else(|| last(&before))
}

/// The name of an element as it is written, with its prefix.
fn name_in<'t>(text: &'t str, node: Node<'_>) -> &'t str {
    let rest = text.get(node.range().start + 1..).unwrap_or_default();
    rest.split(|end: char| end.is_whitespace() || end == '/' || end == '>')
        .next()
        .unwrap_or_default()
}

/// What goes when an element goes: its lines, if nothing else is on them.
fn removal(text: &str, element: Range<usize>) -> Range<usize> {
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

/// What is before `at` on its line, if that is nothing but spaces.
fn indent_of(text: &str, at: usize) -> Option<&str> {
    let before = text.get(line_start(text, at)..at)?;
    before.bytes().all(|byte| byte == b' ' || byte == b'\t').then_some(before)
}

/// Where the next line starts, if nothing but spaces and comments come before it: comments belong to what is before them.
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

/// The style around an element. `lines`: whether what is new gets lines of its own.
fn style(text: &str, near: Node<'_>, lines: bool) -> Style {
    let newline = if lines { newline_at(text, near.range().end) } else { "" };
    Style { quote: quote_of(text, near), unit: unit_of(text, near), newline }
}

/// How lines end behind `at`, or else before it.
fn newline_at(text: &str, at: usize) -> &'static str {
    let behind = text.get(at..).unwrap_or_default();
    let newline = behind.find('\n').map(|found| at + found).or_else(|| text.find('\n'));
    match newline {
        Some(newline) if text.get(..newline).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// The quote of the attributes near an element: of its first, or of one around it.
fn quote_of(text: &str, near: Node<'_>) -> char {
    let first = near.ancestors().find_map(|node| node.attributes().next());
    let value = first.and_then(|attribute| text.get(attribute.range()));
    value.and_then(|value| value.chars().next_back()).filter(|quote| *quote == '"').unwrap_or('\'')
}

/// What one step of indentation is: the difference between an element and the one that it is in, near the place.
fn unit_of(text: &str, near: Node<'_>) -> String {
    let step = |node: Node<'_>| {
        let outer = indent_of(text, node.parent_element()?.range().start)?;
        let inner = indent_of(text, node.range().start)?;
        inner.strip_prefix(outer).filter(|step| !step.is_empty()).map(str::to_owned)
    };
    let inside = elements(near).find_map(step);
    inside.or_else(|| near.ancestors().find_map(step)).unwrap_or_else(|| "  ".to_owned())
}
