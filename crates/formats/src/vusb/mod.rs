//! This project's spec as the configuration of a guest: [`crate::spec`], with edits that lose
//! nothing.
//!
//! ```text
//!   domain = "web1"        ◀─ top-level keys: never edited
//!   # the front port       ◀─ a comment before a table is kept when the table is removed
//!   [[device]]             ◀─┐ a table: from its header to the line of its last value
//!   host = "0781:5581"     ◀─┘
//! ```
//!
//! A new table is added after the last one of its kind, with a blank line before it. It specifies
//! everything that was decided, so that no later edit moves the item. Inline tables
//! (`device = [{ … }]`) can be read, but not edited.

mod format;

use std::ops::Range;

use vusb_model::address::Address;
use vusb_model::guest::Guest;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{Companion, Model};
use vusb_model::profile::Profile;
use vusb_model::remedy::Reason;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use crate::config::{Config, Edit, Generated, Inexpressible, ItemSource};
use crate::error::FormatError;
use crate::spec::{self, SpecFile};
use crate::splice::{Splices, line_end, line_start, newline};

pub use format::VusbSpec;

fn read(text: &str, origin: &str) -> Result<Config, FormatError> {
    let parsed = spec::parse_with_sources(text).map_err(|problem| problem.in_text(text, origin))?;
    let spec::ParsedSpec { file, controllers, devices } = parsed;
    let name = file.spec.domain.as_ref().map(ToString::to_string);
    let guest = Guest { name, ..Guest::default() };
    let SpecFile { spec, driver } = file;
    Ok(Config { guest, spec, driver, controllers, devices, ..Config::default() })
}

fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    let domain = guest.name.as_ref().and_then(|name| name.parse().ok());
    // The ports of VirtualBox's controllers can only be requested with its profile.
    let qemu = hardware.controllers().all(|it| it.model.is_qemu_ports(it.ports));
    let spec = Spec {
        profile: if qemu { Profile::default() } else { Profile::Vbox },
        domain,
        controllers: hardware.controllers().map(controller_spec).collect(),
        devices: hardware.devices().map(|(at, device)| device_spec(at, device)).collect(),
        ..Spec::default()
    };
    Generated { text: spec::write(&SpecFile { spec, driver: None }), lost: Vec::new() }
}

/// A controller with everything that was decided, without the values that follow from its model.
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

fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    let config = read(text, "").map_err(|error| inexpressible("the edit", error.to_string()))?;
    let mut editing = Editor { text, config: &config, splices: Splices::default() };
    for edit in edits {
        editing.apply(edit)?;
    }
    Ok(editing.splices.apply(text))
}

fn inexpressible(what: &str, why: impl Into<Reason>) -> Inexpressible {
    Inexpressible { what: what.to_owned(), why: why.into() }
}

struct Editor<'a> {
    text: &'a str,
    config: &'a Config,
    splices: Splices,
}

impl Editor<'_> {
    fn apply(&mut self, edit: &Edit<'_>) -> Result<(), Inexpressible> {
        let Config { controllers, devices, .. } = self.config;
        match edit {
            Edit::AddController(item) => {
                self.add(controllers, &spec::controller_text(&controller_spec(item)))
            }
            Edit::AddDevice(at, item) => {
                self.add(devices, &spec::device_text(&device_spec(*at, item)))
            }
            Edit::RemoveController(number) => self.remove(table(controllers, *number)?),
            Edit::RemoveDevice(number) => self.remove(table(devices, *number)?),
            Edit::PinController(number, item) => {
                let generated = spec::controller_text(&controller_spec(item));
                self.pin(table(controllers, *number)?, &generated, &["index", "model", "ports"])
            }
            Edit::PinDevice(number, at) => {
                let generated = format!("controller = {}\nport = \"{}\"\n", at.bus, at.port);
                self.pin(table(devices, *number)?, &generated, &["controller", "port"])
            }
            // A spec adds no hardware by default.
            Edit::NoUsb => Ok(()),
        }
    }

    /// Adds a table after the last one of its kind, or at the end of the text.
    fn add(&mut self, tables: &[ItemSource], table: &str) -> Result<(), Inexpressible> {
        if let Some(inline) = tables.iter().find(|item| !self.is_table(item)) {
            return Err(self.inline_table(inline));
        }
        let newline = newline(self.text);
        let at = tables.last().map_or(self.text.len(), |item| line_end(self.text, item.span.end));
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

    /// Removes a table, with the blank line before it.
    fn remove(&mut self, source: &ItemSource) -> Result<(), Inexpressible> {
        let lines = self.lines(source)?;
        let before = self.text.get(..lines.start).unwrap_or_default();
        let blank = ["\r\n", "\n"].into_iter().find(|end| {
            before.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('\n'))
        });
        let start = lines.start - blank.map_or(0, str::len);
        self.splices.remove(start..lines.end);
        Ok(())
    }

    /// Sets these keys of a table to their values in `generated`: in their line, or after the
    /// header.
    fn pin(
        &mut self,
        source: &ItemSource,
        generated: &str,
        keys: &[&str],
    ) -> Result<(), Inexpressible> {
        let lines = self.lines(source)?;
        let body = self.text.get(lines.clone()).unwrap_or_default();
        let header = line_end(self.text, source.span.start);
        for line in generated.lines() {
            let Some(key) = key_of(line).filter(|key| keys.contains(key)) else { continue };
            let mut at = lines.start;
            let existing = body.split_inclusive('\n').find_map(|existing| {
                let span = at..at + existing.len();
                at = span.end;
                (key_of(existing) == Some(key)).then_some(span)
            });
            match existing {
                Some(span) => {
                    let old = self.text.get(span.clone()).unwrap_or_default();
                    let value = line.split_once('=').map_or("", |(_, value)| value.trim());
                    let field =
                        value_of(old).map(|value| span.start + value.start..span.start + value.end);
                    self.splices.replace(field.unwrap_or(span), value);
                }
                None => self.splices.insert(header, format!("{line}{}", newline(self.text))),
            }
        }
        Ok(())
    }

    /// The lines of a table.
    fn lines(&self, source: &ItemSource) -> Result<Range<usize>, Inexpressible> {
        if !self.is_table(source) {
            return Err(self.inline_table(source));
        }
        Ok(line_start(self.text, source.span.start)..line_end(self.text, source.span.end))
    }

    fn is_table(&self, source: &ItemSource) -> bool {
        self.text.get(source.span.start..).is_some_and(|item| item.starts_with("[["))
    }

    fn inline_table(&self, source: &ItemSource) -> Inexpressible {
        let line = self.text.get(..source.span.start).unwrap_or_default().matches('\n').count() + 1;
        let why = format!(
            "line {line} has an inline table, which cannot be edited; write each controller and device as a table of its own, [[controller]] or [[device]]"
        );
        inexpressible("this edit", why)
    }
}

fn table(sources: &[ItemSource], number: usize) -> Result<&ItemSource, Inexpressible> {
    sources.get(number).ok_or_else(|| inexpressible("this edit", "the text does not contain it"))
}

/// The key of a line, if it is `KEY = VALUE`.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!key.is_empty() && key.bytes().all(bare)).then_some(key)
}

/// The span of the value in a line `KEY = VALUE # COMMENT`: a number, or a string in one pair of
/// quotes.
fn value_of(line: &str) -> Option<Range<usize>> {
    let start = line.find('=')? + 1;
    let rest = line.get(start..)?;
    let start = start + rest.len() - rest.trim_start().len();
    let value = line.get(start..)?;
    let length = match value.chars().next()? {
        quote @ ('"' | '\'') => value.get(1..)?.find(quote)? + 2,
        _ => value.find(|char: char| char.is_whitespace() || char == '#').unwrap_or(value.len()),
    };
    Some(start..start + length)
}
