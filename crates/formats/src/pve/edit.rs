//! Edits to a configuration: lines of `usbN` and `tablet`.

use std::collections::BTreeMap;

use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::Model;
use vusb_model::resolve::pve_1;

use super::document::{Document, Entry, Section, words};
use super::settings::Settings;
use super::usb::host_value;
use crate::config::{Edit, Inexpressible};
use crate::splice::{Splices, newline};

/// The reason why other hardware cannot be written.
const ONLY_USB: &str = "the Proxmox VE configuration only has host devices and redirections over SPICE; add it \
                        while the guest runs, or by hand as QEMU arguments in `args`";

/// The new value of each changed key; `None` removes the key.
type Changes = BTreeMap<String, Option<String>>;

pub(super) fn edit(text: &str, edits: &[Edit<'_>]) -> Result<String, Inexpressible> {
    let document = Document::read(text);
    let settings = Settings::read(&document);
    let mut hardware = Hardware::new();
    super::set_hardware(&settings, &mut hardware, &mut Vec::new());
    let items = Items {
        controllers: hardware.controllers().collect(),
        devices: hardware.devices().map(|(_, device)| device).collect(),
    };
    let mut editor = Editor { document: &document, settings: &settings, changes: Changes::new() };
    for edit in edits {
        editor.apply(edit, &items)?;
    }
    Ok(write_changes(&document, &editor.changes))
}

fn inexpressible(what: impl Into<String>, why: &str) -> Inexpressible {
    Inexpressible { what: what.into(), why: why.into() }
}

/// The items of the text, in the order in which edits name them.
struct Items<'h> {
    controllers: Vec<&'h Controller>,
    devices: Vec<&'h Device>,
}

struct Editor<'a> {
    document: &'a Document<'a>,
    settings: &'a Settings,
    changes: Changes,
}

impl Editor<'_> {
    fn apply(&mut self, edit: &Edit<'_>, items: &Items<'_>) -> Result<(), Inexpressible> {
        let device = |number: usize| {
            let found = items.devices.get(number).copied();
            found.ok_or_else(|| inexpressible("this edit", "the text does not contain the item"))
        };
        match edit {
            Edit::AddController(controller) => add_controller(controller),
            Edit::AddDevice(at, device) => self.add_device(*at, device),
            Edit::RemoveController(number) => match items.controllers.get(*number) {
                // It is removed with its last device.
                Some(it) if it.name.as_str() == pve_1::CONTROLLER => Ok(()),
                it => {
                    let name = it.map(|it| it.name.to_string()).unwrap_or_default();
                    let why = "Proxmox VE gives it to the guest, or it is in `args`; edit the file by hand";
                    Err(inexpressible(format!("removing {name}"), why))
                }
            },
            Edit::RemoveDevice(number) => self.remove_device(device(*number)?),
            // The text leaves nothing open.
            Edit::PinController(..) => Ok(()),
            Edit::PinDevice(number, at) => self.move_device(device(*number)?, *at),
            Edit::NoUsb => {
                let why = "Proxmox VE gives a USB controller to every guest";
                Err(inexpressible("a guest without USB", why))
            }
        }
    }

    fn add_device(&mut self, at: Address, device: &Device) -> Result<(), Inexpressible> {
        let what = || format!("{} ({})", device.name, device.kind);
        if let Kind::Tablet(_) = device.kind {
            if !self.settings.has_tablet {
                self.changes.insert("tablet".to_owned(), Some("1".to_owned()));
                return Ok(());
            }
        }
        let Some(value) = host_value(&device.kind) else {
            let why = match &device.kind {
                Kind::Host(_) => {
                    "Proxmox VE names a host device by vendor and product (0781:5581) or by bus and port (1-4.2) only"
                }
                _ => ONLY_USB,
            };
            return Err(inexpressible(what(), why));
        };
        if !self.settings.is_new {
            let why = "Proxmox VE leaves the ports of this guest's devices to QEMU: its machine is older than 7.1, or its \
                       ostype is not l26, win8 or newer; use `qm set VMID -usbN host=DEVICE`";
            return Err(inexpressible(what(), why));
        }
        let key = key_of(at).ok_or_else(|| {
            inexpressible(
                what(),
                "only ports 1 to 14 of xhci are for devices: they are usb0 to usb13",
            )
        })?;
        self.changes.insert(key, Some(value));
        Ok(())
    }

    fn remove_device(&mut self, device: &Device) -> Result<(), Inexpressible> {
        let name = device.name.as_str();
        if name == "tablet" && self.settings.has_tablet {
            self.changes.insert(name.to_owned(), Some("0".to_owned()));
            return Ok(());
        }
        if self.place_number(name).is_some() {
            self.changes.insert(name.to_owned(), None);
            return Ok(());
        }
        let why = "Proxmox VE gives it to the guest, or it is in `args`; edit the file by hand";
        Err(inexpressible(format!("removing {name}"), why))
    }

    /// Moves a line to another place, with all of its options.
    fn move_device(&mut self, device: &Device, to: Address) -> Result<(), Inexpressible> {
        let name = device.name.as_str();
        let value =
            self.place_number(name).and_then(|_| self.document.get(name)).map(|it| it.value);
        let (Some(value), Some(key)) = (value, key_of(to)) else {
            return Err(inexpressible(format!("the port of {name}"), ONLY_USB));
        };
        if key != name {
            self.changes.entry(name.to_owned()).or_insert(None);
            self.changes.insert(key, Some(value.to_owned()));
        }
        Ok(())
    }

    fn place_number(&self, name: &str) -> Option<u8> {
        pve_1::place_of(name).filter(|place| self.settings.devices.contains_key(place))
    }
}

/// Proxmox VE adds its own controller by itself.
fn add_controller(controller: &Controller) -> Result<(), Inexpressible> {
    let is_own =
        controller.name.as_str() == pve_1::CONTROLLER && controller.model == Model::QemuXhci;
    if is_own { Ok(()) } else { Err(inexpressible(controller.describe(), ONLY_USB)) }
}

/// The key of the place at an address. `None` if the address has no place.
fn key_of(at: Address) -> Option<String> {
    let place = at.port.port().checked_sub(1).filter(|place| *place < pve_1::PLACES)?;
    at.port.parent().is_none().then(|| format!("usb{place}"))
}

/// The text with the changed keys. A key that is set has one line, in the current section: where it
/// was, or else where `qm` would write it. Pending changes of the key are removed.
fn write_changes(document: &Document<'_>, changes: &Changes) -> String {
    let mut splices = Splices::default();
    let newline = newline(document.text);
    let is_changed = |it: &&Entry<'_>| changes.contains_key(it.key);
    // A key may have many lines; the last one counts.
    let current = document.entries.iter().filter(|it| it.section == Section::Current);
    let last: BTreeMap<&str, &Entry<'_>> = current.map(|it| (it.key, it)).collect();
    let last = |key: &str| last.get(key).copied();
    for entry in document.entries.iter().filter(is_changed) {
        let value = changes.get(entry.key).and_then(Option::as_ref);
        let stays = last(entry.key).is_some_and(|it| it.line == entry.line);
        match value {
            Some(value) if stays => splices.replace(entry.value_span.clone(), value.as_str()),
            _ => splices.remove(entry.line.clone()),
        }
    }
    for (key, value) in changes {
        if let (Some(value), None) = (value, last(key)) {
            let at = position(document, key);
            // The last line may lack its newline.
            let before = document.text.get(..at).unwrap_or_default();
            let lead = if before.is_empty() || before.ends_with('\n') { "" } else { newline };
            splices.insert(at, format!("{lead}{key}: {value}{newline}"));
        }
    }
    write_deletions(document, changes, &mut splices);
    splices.apply(document.text)
}

/// Where a new line belongs: `qm` writes the keys in the order of their bytes.
fn position(document: &Document<'_>, key: &str) -> usize {
    let mut current = document.entries.iter().filter(|it| it.section == Section::Current);
    current.find(|it| it.key > key).map_or(document.end_of_current, |it| it.line.start)
}

/// Removes the changed keys from the lists of keys to delete.
fn write_deletions(document: &Document<'_>, changes: &Changes, splices: &mut Splices) {
    let is_list = |it: &&Entry<'_>| it.section == Section::Pending && it.key == "delete";
    for entry in document.entries.iter().filter(is_list) {
        if !words(entry.value).any(|word| changes.contains_key(word)) {
            continue;
        }
        let parts = entry.value.split([',', ';', ' ', '\t']).filter(|it| !it.is_empty());
        let kept = parts.filter(|it| !changes.contains_key(it.strip_prefix('!').unwrap_or(it)));
        let kept: Vec<&str> = kept.collect();
        if kept.is_empty() {
            splices.remove(entry.line.clone());
        } else {
            splices.replace(entry.value_span.clone(), kept.join(","));
        }
    }
}
