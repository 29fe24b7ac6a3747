//! Changes to a text, whichever of the two formats it is in: what libxl has words for, and where they go.
//!
//! ```text
//!   edits ──▶ Editor: is it sayable, and by which entry ──▶ Text: the entry in xl.cfg, or in JSON
//! ```
//!
//! Entries are known by their place in the spec that was read first; the editor keeps track of where each is by now.

use std::collections::HashSet;

use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::guest::Virtualization;
use vusb_model::hardware::{Controller, Device};
use vusb_model::models::UsbVersion;
use vusb_model::name::Name;
use vusb_model::resolve::libxl::{QEMUS_OWN, qemus_own};

use super::meaning;
use super::say::{self, CtrlWords, DevWords, unsayable};
use super::usb::Usb;
use crate::config::{Edit, Unsayable};

/// A number that stands by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// Whether QEMU is started with `-usb`.
    Usb,
    /// The version of the controller that QEMU is started with.
    Usbversion,
    /// How many devices are redirected.
    Redirection,
}

/// A text that can be changed entry by entry. Numbers of entries count from 0.
pub(crate) trait Text {
    /// Whether each controller says its own number; else its place in the list is its number.
    const NUMBERED: bool;

    /// What it says now.
    ///
    /// # Errors
    /// In a line, why it cannot be read or libxl refuses it.
    fn usb(&self) -> Result<Usb, String>;
    /// One controller more, at the end of the list.
    fn add_ctrl(&mut self, number: u16, words: CtrlWords);
    /// All that a controller is.
    fn set_ctrl(&mut self, entry: usize, words: CtrlWords);
    /// One controller less.
    fn remove_ctrl(&mut self, entry: usize);
    /// One host device more, at the end of the list.
    fn add_dev(&mut self, words: DevWords);
    /// Where a host device is.
    fn set_dev(&mut self, entry: usize, ctrl: u16, port: u8);
    /// One host device less.
    fn remove_dev(&mut self, entry: usize);
    /// One `usbdevice` more, after the others.
    fn add_usbdevice(&mut self, word: &str);
    /// One `usbdevice` less.
    fn remove_usbdevice(&mut self, entry: usize);
    /// A number; `None` is as if it were not said.
    fn set(&mut self, number: Number, value: Option<i64>);
}

/// Makes all changes.
///
/// # Errors
/// The format cannot say one of them, or the text is none that libxl takes. It is of no use then.
pub(crate) fn edit<T: Text>(text: &mut T, edits: &[Edit<'_>]) -> Result<(), Unsayable> {
    let usb =
        text.usb().map_err(|error| unsayable("a change of a text that cannot be read", error))?;
    let mut editor = Editor::new(text, &usb);
    editor.check_removals(edits, &usb)?;
    edits.iter().try_for_each(|edit| editor.one(edit))?;
    editor.keep_own();
    let wanted = (editor.on_own.len(), editor.ctrls.len(), editor.devs.len());
    let after = text.usb().map_err(|error| {
        unsayable("this change", format!("what it would come to is none that libxl takes: {error}"))
    })?;
    // A text that is put together in parts, `usbdevice = 'tab'` and `usbdevice += 'let'`, has no one place to change.
    if (on_own(&after), after.ctrls.len(), after.devs.len()) != wanted {
        return Err(unsayable(
            "this change, in this text",
            "what it concerns is put together from several assignments; write it as one",
        ));
    }
    Ok(())
}

/// How many devices are on the controller that QEMU is started with, but for hubs.
fn on_own(usb: &Usb) -> usize {
    let own = &usb.own;
    let redirected = || own.redirected().map_or(0, |it| usize::try_from(it.value).unwrap_or(0));
    match (usb.guest.virtualization, own.is_usb()) {
        (Virtualization::Hvm, true) => own.devices().count(),
        (Virtualization::Hvm, false) => redirected(),
        _ => 0,
    }
}

/// An entry: the place in the spec that was read, or `None` for one that has come since.
type Entry = Option<usize>;

struct Editor<'t, T> {
    text: &'t mut T,
    guest: Virtualization,
    /// How many controllers and devices of the spec are QEMU's own: they come first.
    own: (usize, usize),
    has_own: bool,
    /// The version of the controller that QEMU is started with; `None` for that of `usb=1`.
    version: Option<UsbVersion>,
    /// What is on it.
    on_own: Vec<Entry>,
    redirected: bool,
    spice: bool,
    ctrls: Vec<Entry>,
    /// The number of each.
    numbers: Vec<u16>,
    devs: Vec<Entry>,
}

impl<'t, T: Text> Editor<'t, T> {
    fn new(text: &'t mut T, usb: &Usb) -> Editor<'t, T> {
        let own = &usb.own;
        let hvm = usb.guest.virtualization == Virtualization::Hvm;
        let is_usb = hvm && own.is_usb();
        let on_own = on_own(usb);
        let has_own = is_usb || (hvm && own.version().is_some()) || on_own > 0;
        let first = usize::from(has_own);
        let version = own.version().map_or(2, |version| version.value);
        let version = u8::try_from(version).ok().and_then(|version| version.try_into().ok());
        let mut next = 0;
        let numbers = usb.ctrls.iter().map(|ctrl| {
            let number = ctrl.devid.unwrap_or(next);
            next = number.saturating_add(1);
            u16::try_from(number).unwrap_or(u16::MAX)
        });
        Editor {
            text,
            guest: usb.guest.virtualization,
            own: (first, on_own),
            has_own,
            version: version.filter(|_| has_own && !is_usb),
            on_own: (0..on_own).map(Some).collect(),
            redirected: !is_usb && on_own > 0,
            spice: own.spice,
            ctrls: (first..first + usb.ctrls.len()).map(Some).collect(),
            numbers: numbers.collect(),
            devs: (on_own..on_own + usb.devs.len()).map(Some).collect(),
        }
    }

    /// Whether what stays would stay where it is.
    fn check_removals(&self, edits: &[Edit<'_>], usb: &Usb) -> Result<(), Unsayable> {
        let (own_ctrls, own_devices) = self.own;
        let mut ctrls = HashSet::new();
        let mut devices = HashSet::new();
        for edit in edits {
            match edit {
                Edit::RemoveController(number) => _ = ctrls.insert(*number),
                Edit::RemoveDevice(number) => _ = devices.insert(*number),
                _ => {}
            }
        }
        let first_gone = devices.iter().filter(|number| **number < own_devices).min();
        if let Some(gone) = first_gone
            && (*gone..own_devices).any(|number| !devices.contains(&number))
        {
            return Err(unsayable(
                "the ports of the devices after it",
                "QEMU gives its own controller's ports away one after the other: without this device those after it would move; remove those \
                 too, from the last one on, and add them again",
            ));
        }
        for number in &ctrls {
            let Some(entry) = number.checked_sub(own_ctrls) else { continue };
            let last = own_ctrls + usb.ctrls.len();
            if !T::NUMBERED && (*number..last).any(|later| !ctrls.contains(&later)) {
                return Err(unsayable(
                    "the numbers of the controllers after it",
                    "xl numbers controllers by their place in usbctrl: without this one those after it would be others; remove those too, from \
                     the last one on, and add them again",
                ));
            }
            let gone = self.numbers.get(entry).copied().map(i64::from);
            let still_there =
                usb.devs.iter().enumerate().any(|(dev, it)| {
                    Some(it.ctrl) == gone && !devices.contains(&(own_devices + dev))
                });
            if still_there {
                return Err(unsayable(
                    "the devices on it",
                    "they are on no controller then; remove them first",
                ));
            }
        }
        Ok(())
    }

    fn one(&mut self, edit: &Edit<'_>) -> Result<(), Unsayable> {
        match edit {
            Edit::AddController(controller) => self.add_controller(controller),
            Edit::AddDevice(at, device) => self.add_device(*at, device),
            Edit::RemoveController(number) => self.remove_controller(*number),
            Edit::RemoveDevice(number) => self.remove_device(*number),
            Edit::PinController(number, controller) => self.pin_controller(*number, controller),
            Edit::PinDevice(number, at) => self.pin_device(*number, *at),
            // libxl fills in no USB by itself.
            Edit::NoUsb => Ok(()),
        }
    }

    fn add_controller(&mut self, controller: &Controller) -> Result<(), Unsayable> {
        no_name(&controller.name, &["hci", "pv"])?;
        if controller.index == QEMUS_OWN {
            return self.add_own(controller);
        }
        if controller.pci.is_some() {
            return Err(unsayable(
                format!("where {} sits on PCI", controller.name),
                "QEMU chooses the slot; leave the address out",
            ));
        }
        let words = say::ctrl(controller, self.guest)?;
        let number = controller.index.get();
        self.say_implied(number)?;
        let next = u16::try_from(self.ctrls.len()).unwrap_or(u16::MAX);
        if !T::NUMBERED && number != next {
            return Err(unsayable(
                format!("index {number} of {}", controller.name),
                format!("xl numbers controllers by their place in usbctrl, and the next is {next}"),
            ));
        }
        self.text.add_ctrl(number, words);
        self.ctrls.push(None);
        self.numbers.push(number);
        Ok(())
    }

    /// Says the controllers below this number that libxl adds by itself: it would not, once the list has another with room.
    fn say_implied(&mut self, below: u16) -> Result<(), Unsayable> {
        let implied = self.text.usb().map(meaning::implied).unwrap_or_default();
        for controller in implied.iter().filter(|it| it.index.get() < below) {
            let number = controller.index.get();
            self.text.add_ctrl(number, say::ctrl(controller, self.guest)?);
            self.ctrls.push(None);
            self.numbers.push(number);
        }
        Ok(())
    }

    fn add_own(&mut self, controller: &Controller) -> Result<(), Unsayable> {
        let version = say::own(controller, self.guest)?;
        if self.has_own {
            let why = "QEMU is started with one controller at the most, and has one";
            return Err(unsayable(controller.name.as_str(), why));
        }
        // `usbversion=1` is another slot than `usb=1`.
        let elsewhere = controller.pci.is_some() && controller.pci != qemus_own(version).pci;
        if elsewhere {
            let why = "QEMU has it in a slot of its own choice; leave the address out";
            return Err(unsayable(format!("where {} sits on PCI", controller.name), why));
        }
        self.has_own = true;
        self.version = version;
        self.say_own();
        Ok(())
    }

    /// Says the controller that QEMU is started with by itself, so that it stays without any device.
    fn say_own(&mut self) {
        match self.version {
            None => self.text.set(Number::Usb, Some(1)),
            Some(version) => self.text.set(Number::Usbversion, Some(u8::from(version).into())),
        }
    }

    /// A controller that is there because of its devices alone is said when the last of them goes.
    fn keep_own(&mut self) {
        let implied = self.own.1 > 0 && self.on_own.is_empty();
        if self.has_own && implied {
            self.say_own();
        }
    }

    fn add_device(&mut self, at: Address, device: &Device) -> Result<(), Unsayable> {
        no_name(&device.name, &[device.kind.word()])?;
        if at.bus == QEMUS_OWN {
            return self.add_on_own(device);
        }
        let words = say::dev(device, at, at.bus.get())?;
        self.text.add_dev(words);
        self.devs.push(None);
        Ok(())
    }

    fn add_on_own(&mut self, device: &Device) -> Result<(), Unsayable> {
        let what = || format!("{} ({})", device.name, device.kind);
        if let Kind::Hub(_) = device.kind {
            return say::usbdevice(device).map(|_| ());
        }
        if say::is_redirected(&device.kind) {
            if self.version.is_none() {
                return Err(unsayable(
                    what(),
                    "redirected devices need usbversion, which excludes usb and usbdevice",
                ));
            }
            if !self.spice {
                return Err(unsayable(what(), "the guest has no SPICE; add spice=1 first"));
            }
            if self.on_own.len() >= 4 {
                return Err(unsayable(what(), "up to 4 devices are redirected"));
            }
            self.on_own.push(None);
            self.redirected = true;
            self.text.set(Number::Redirection, i64::try_from(self.on_own.len()).ok());
            return Ok(());
        }
        let word = say::usbdevice(device)?.unwrap_or_default();
        if self.version.is_some() {
            return Err(unsayable(
                what(),
                "usbdevice excludes usbversion and spiceusbredirection; take usb=1 in their place",
            ));
        }
        self.text.add_usbdevice(&word);
        self.on_own.push(None);
        Ok(())
    }

    fn remove_controller(&mut self, number: usize) -> Result<(), Unsayable> {
        if number < self.own.0 {
            if !self.on_own.is_empty() {
                return Err(unsayable(
                    "the devices on it",
                    "without the controller they are nowhere; remove them first",
                ));
            }
            self.text.set(Number::Usb, None);
            self.text.set(Number::Usbversion, None);
            self.has_own = false;
            return Ok(());
        }
        let entry = entry_of(&self.ctrls, number)?;
        self.text.remove_ctrl(entry);
        self.ctrls.remove(entry);
        self.numbers.remove(entry);
        Ok(())
    }

    fn remove_device(&mut self, number: usize) -> Result<(), Unsayable> {
        if number >= self.own.1 {
            let entry = entry_of(&self.devs, number)?;
            self.text.remove_dev(entry);
            self.devs.remove(entry);
            return Ok(());
        }
        let entry = entry_of(&self.on_own, number)?;
        self.on_own.remove(entry);
        if self.redirected {
            let left = i64::try_from(self.on_own.len()).ok().filter(|left| *left > 0);
            self.text.set(Number::Redirection, left);
        } else {
            self.text.remove_usbdevice(entry);
        }
        Ok(())
    }

    fn pin_controller(&mut self, number: usize, controller: &Controller) -> Result<(), Unsayable> {
        if number < self.own.0 {
            say::own(controller, self.guest)?;
            self.say_own();
            return Ok(());
        }
        let words = say::ctrl(controller, self.guest)?;
        let entry = entry_of(&self.ctrls, number)?;
        if self.numbers.get(entry).copied() != Some(controller.index.get()) {
            let what = format!("index {} of {}", controller.index, controller.name);
            return Err(unsayable(what, "a controller that is there keeps its number"));
        }
        self.text.set_ctrl(entry, words);
        Ok(())
    }

    fn pin_device(&mut self, number: usize, at: Address) -> Result<(), Unsayable> {
        let Address { bus, port } = at;
        if number < self.own.1 || bus == QEMUS_OWN {
            let why = "QEMU gives the ports of its own controller away one after the other; libxl has no say in it";
            return Err(unsayable(format!("port {port} there"), why));
        }
        if port.depth() > 1 {
            let why = "libxl has no hubs: a port is one number";
            return Err(unsayable(format!("port {port}"), why));
        }
        let entry = entry_of(&self.devs, number)?;
        self.text.set_dev(entry, bus.get(), port.port());
        Ok(())
    }
}

fn entry_of(entries: &[Entry], number: usize) -> Result<usize, Unsayable> {
    let found = entries.iter().position(|entry| *entry == Some(number));
    found.ok_or_else(|| unsayable("a change of what is not there", "it was removed before"))
}

/// libxl has no names: what is given one is given it in vain, unless it is what it would be called anyway.
fn no_name(name: &Name, stems: &[&str]) -> Result<(), Unsayable> {
    let automatic = stems.iter().any(|stem| {
        let number = name.as_str().strip_prefix(stem).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    if automatic {
        return Ok(());
    }
    Err(unsayable(format!("the name {name}"), "libxl has no names; leave it out"))
}
