//! This project's spec as a guest's configuration: [`crate::spec`], with edits that lose nothing.
//!
//! ```text
//!   domain = "web1"        ◀─ keys of the file: never touched
//!   # the front port       ◀─ a comment before a table stays when the table goes
//!   [[device]]             ◀─┐ a table: from its header to the line of its last value
//!   host = "0781:5581"     ◀─┘
//! ```
//!
//! A new table goes behind the last of its sort, with a blank line before it; it says all that was decided, so that no later edit
//! moves it. Tables that are written inline (`device = [{ … }]`) are read, and not edited.

use std::ops::Range;

use vusb_model::address::Address;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Companion, Model};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use crate::config::{Config, Edit, Place, Unsayable, Written};
use crate::error::FormatError;
use crate::spec::{self, SpecFile};
use crate::splice::{Splices, line_end, line_start, newline};

pub(crate) fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let said = spec::parse_with_places(text).map_err(|problem| problem.in_text(text, origin))?;
    let spec::Said { file, controllers, devices } = said;
    let name = file.spec.domain.as_ref().map(ToString::to_string);
    let guest = Guest { name, ..Guest::default() };
    let SpecFile { spec, driver } = file;
    Ok(Config { guest, spec, driver, controllers, devices, warnings: Vec::new() })
}

pub(crate) fn write(guest: &Guest, hardware: &Hardware) -> Written {
    let domain = guest.name.as_ref().and_then(|name| name.parse().ok());
    let spec = Spec {
        domain,
        controllers: hardware.controllers().map(controller_spec).collect(),
        devices: hardware.devices().map(|(at, device)| device_spec(at, device)).collect(),
        ..Spec::default()
    };
    Written { text: spec::write(&SpecFile { spec, driver: None }), lost: Vec::new() }
}

/// A controller with all that was decided, and no more: what its model says is left to the model.
fn controller_spec(controller: &Controller) -> ControllerSpec {
    let usual: &[Companion] = match controller.model {
        Model::Ich9Ehci1 => &Companion::GROUP,
        _ => &[],
    };
    let companions = (controller.companions != usual).then(|| controller.companions.clone());
    let all = ControllerSpec::from(controller);
    ControllerSpec { controller_type: None, usbversion: None, companions, ..all }
}

fn device_spec(at: Address, device: &Device) -> DeviceSpec {
    DeviceSpec {
        name: Some(device.name.clone()),
        kind: device.kind.clone(),
        controller: Some(ControllerRef::Index(at.bus)),
        port: Some(at.port),
    }
}

pub(crate) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Unsayable> {
    let config = read(text, "").map_err(|error| cannot("the edit", error.to_string()))?;
    let mut editing = Editing { text, config: &config, splices: Splices::default() };
    for edit in edits {
        editing.one(edit)?;
    }
    Ok(editing.splices.apply(text))
}

fn cannot(what: &str, why: impl Into<String>) -> Unsayable {
    Unsayable { what: what.to_owned(), why: why.into() }
}

struct Editing<'a> {
    text: &'a str,
    config: &'a Config,
    splices: Splices,
}

impl Editing<'_> {
    fn one(&mut self, edit: &Edit<'_>) -> Result<(), Unsayable> {
        let Config { controllers, devices, .. } = self.config;
        match edit {
            Edit::AddController(it) => {
                self.add(controllers, &spec::controller_text(&controller_spec(it)))
            }
            Edit::AddDevice(at, it) => self.add(devices, &spec::device_text(&device_spec(*at, it))),
            Edit::RemoveController(number) => self.remove(table(controllers, *number)?),
            Edit::RemoveDevice(number) => self.remove(table(devices, *number)?),
            Edit::PinController(number, it) => {
                let said = spec::controller_text(&controller_spec(it));
                self.pin(table(controllers, *number)?, &said, &["index", "model", "ports"])
            }
            Edit::PinDevice(number, at) => {
                let said = format!("controller = {}\nport = \"{}\"\n", at.bus, at.port);
                self.pin(table(devices, *number)?, &said, &["controller", "port"])
            }
            // Nothing is there that nobody asked for.
            Edit::NoUsb => Ok(()),
        }
    }

    /// Adds a table behind the last of its sort, or at the end of the text.
    fn add(&mut self, tables: &[Place], table: &str) -> Result<(), Unsayable> {
        if let Some(inline) = tables.iter().find(|it| !self.is_table(it)) {
            return Err(self.is_inline(inline));
        }
        let newline = newline(self.text);
        let at = tables.last().map_or(self.text.len(), |it| line_end(self.text, it.span.end));
        let before = self.text.get(..at).unwrap_or_default();
        let mut new = String::new();
        if !before.is_empty() && !before.ends_with('\n') {
            new += newline;
        }
        if !before.is_empty() {
            new += newline;
        }
        new += &table.replace('\n', newline);
        self.splices.insert(at, new);
        Ok(())
    }

    /// Takes a table away, with the blank line before it.
    fn remove(&mut self, place: &Place) -> Result<(), Unsayable> {
        let lines = self.lines(place)?;
        let before = self.text.get(..lines.start).unwrap_or_default();
        let blank = ["\r\n", "\n"].into_iter().find(|end| {
            before.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('\n'))
        });
        let start = lines.start - blank.map_or(0, str::len);
        self.splices.remove(start..lines.end);
        Ok(())
    }

    /// Has a table say these of the lines in `said`, by their keys: in the place of what it says, or behind its header.
    fn pin(&mut self, place: &Place, said: &str, keys: &[&str]) -> Result<(), Unsayable> {
        let lines = self.lines(place)?;
        let body = self.text.get(lines.clone()).unwrap_or_default();
        let header = line_end(self.text, place.span.start);
        for line in said.lines() {
            let Some(key) = key_of(line).filter(|key| keys.contains(key)) else { continue };
            let mut at = lines.start;
            let there = body.split_inclusive('\n').find_map(|there| {
                let span = at..at + there.len();
                at = span.end;
                (key_of(there) == Some(key)).then_some(span)
            });
            match there {
                Some(span) => {
                    let old = self.text.get(span.clone()).unwrap_or_default();
                    let value = line.split_once('=').map_or("", |(_, value)| value.trim());
                    let field = value_of(old).map(|it| span.start + it.start..span.start + it.end);
                    self.splices.replace(field.unwrap_or(span), value);
                }
                None => self.splices.insert(header, format!("{line}{}", newline(self.text))),
            }
        }
        Ok(())
    }

    /// All lines of a table.
    fn lines(&self, place: &Place) -> Result<Range<usize>, Unsayable> {
        if !self.is_table(place) {
            return Err(self.is_inline(place));
        }
        Ok(line_start(self.text, place.span.start)..line_end(self.text, place.span.end))
    }

    fn is_table(&self, place: &Place) -> bool {
        self.text.get(place.span.start..).is_some_and(|it| it.starts_with("[["))
    }

    fn is_inline(&self, place: &Place) -> Unsayable {
        let line = self.text.get(..place.span.start).unwrap_or_default().matches('\n').count() + 1;
        let why = format!(
            "line {line} has it inline, which is not edited: write each controller and device as a table of its own, [[controller]] or [[device]]"
        );
        cannot("this edit", why)
    }
}

fn table(places: &[Place], number: usize) -> Result<&Place, Unsayable> {
    places.get(number).ok_or_else(|| cannot("this edit", "the text does not mention it"))
}

/// The key of a line, if it is `KEY = VALUE`.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let bare = |it: u8| it.is_ascii_alphanumeric() || it == b'_' || it == b'-';
    (!key.is_empty() && key.bytes().all(bare)).then_some(key)
}

/// Where the value is in a line `KEY = VALUE # COMMENT`: a number, or a text in one pair of quotes.
fn value_of(line: &str) -> Option<Range<usize>> {
    let start = line.find('=')? + 1;
    let rest = line.get(start..)?;
    let start = start + rest.len() - rest.trim_start().len();
    let value = line.get(start..)?;
    let length = match value.chars().next()? {
        quote @ ('"' | '\'') => value.get(1..)?.find(quote)? + 2,
        _ => value.find(|it: char| it.is_whitespace() || it == '#').unwrap_or(value.len()),
    };
    Some(start..start + length)
}
