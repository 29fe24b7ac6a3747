//! Edits in either of the two formats: what libxl can express, and which entries express it.
//!
//! ```text
//!   edits ──▶ Editor: is it expressible, in which entry ──▶ EditableText: the entry in xl.cfg or JSON
//! ```
//!
//! An edit refers to an item by its position in the spec that was read first. The editor tracks the
//! position of each item after the edits so far.

use std::collections::HashSet;

use vusb_model::address::Address;
use vusb_model::device::Kind;
use vusb_model::guest::Virtualization;
use vusb_model::hardware::{Controller, Device};
use vusb_model::models::UsbVersion;
use vusb_model::resolve::libxl::{BOOT_BUS, boot_controller};

use super::express::{self, CtrlEntry, DevEntry, inexpressible};
use super::interpret;
use super::structs::Usb;
use crate::config::{CONTROLLER_STEMS, Edit, Inexpressible, refuse_chosen_name};

/// A key whose value is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumericKey {
    /// Whether QEMU is started with `-usb`.
    Usb,
    /// The version of QEMU's boot controller.
    Usbversion,
    /// How many devices are redirected.
    Redirection,
}

/// A text that can be edited entry by entry. Entry numbers count from 0.
pub(crate) trait EditableText {
    /// Whether each controller contains its number. Otherwise its number is its position in the
    /// list.
    const NUMBERED: bool;

    /// Parses the text as it is now.
    ///
    /// # Errors
    /// One line: why it cannot be read, or why libxl rejects it.
    fn usb(&self) -> Result<Usb, String>;
    /// Appends a controller to the list.
    fn add_ctrl(&mut self, number: u16, entry: CtrlEntry);
    /// Sets all values of a controller.
    fn set_ctrl(&mut self, position: usize, entry: CtrlEntry);
    /// Removes a controller.
    fn remove_ctrl(&mut self, entry: usize);
    /// Appends a host device to the list.
    fn add_dev(&mut self, entry: DevEntry);
    /// Sets the controller and the port of a host device.
    fn set_dev(&mut self, entry: usize, ctrl: u16, port: u8);
    /// Removes a host device.
    fn remove_dev(&mut self, entry: usize);
    /// Appends a value to `usbdevice`.
    fn add_usbdevice(&mut self, word: &str);
    /// Removes a value of `usbdevice`.
    fn remove_usbdevice(&mut self, entry: usize);
    /// Sets a number; `None` removes it.
    fn set(&mut self, number: NumericKey, value: Option<i64>);
}

/// Applies all edits.
///
/// # Errors
/// The format cannot express one of them, or libxl would reject the result. The text is then
/// unusable.
pub(crate) fn edit<T: EditableText>(text: &mut T, edits: &[Edit<'_>]) -> Result<(), Inexpressible> {
    let usb = text
        .usb()
        .map_err(|error| inexpressible("an edit of a text that cannot be read", error))?;
    if usb.incomplete {
        return Err(inexpressible(
            "an edit of this text",
            "one of its devices has no address, so its port is not known to be free; add type.hostdev with hostbus and hostaddr, or remove the entry",
        ));
    }
    let mut editor = Editor::new(text, &usb);
    editor.check_removals(edits, &usb)?;
    edits.iter().try_for_each(|edit| editor.apply(edit))?;
    editor.keep_boot_controller();
    let expected = (editor.on_boot.len(), editor.ctrls.len(), editor.devs.len());
    let after = text.usb().map_err(|error| {
        inexpressible("this edit", format!("libxl would reject the result: {error}"))
    })?;
    // A string that is concatenated from parts (`usbdevice = 'tab'`, `usbdevice += 'let'`) cannot
    // be edited in one place.
    if (on_boot(&after), after.ctrls.len(), after.devs.len()) != expected {
        return Err(inexpressible(
            "this edit of this text",
            "the value is concatenated from several assignments; write it as one",
        ));
    }
    Ok(())
}

/// The number of devices on QEMU's boot controller, without hubs.
fn on_boot(usb: &Usb) -> usize {
    let boot = &usb.boot;
    let redirected = || boot.redirected().map_or(0, |it| usize::try_from(it.value).unwrap_or(0));
    match (usb.guest.virtualization, boot.is_usb()) {
        (Virtualization::Hvm, true) => boot.devices().count(),
        (Virtualization::Hvm, false) => redirected(),
        _ => 0,
    }
}

/// An entry: its position in the spec that was read, or `None` if it was added since.
type Entry = Option<usize>;

struct Editor<'t, T> {
    text: &'t mut T,
    guest: Virtualization,
    /// How many controllers of the spec are QEMU's boot controller (0 or 1), and how many devices
    /// are on it: they come first in the spec.
    boot: (usize, usize),
    has_boot_controller: bool,
    /// The version of QEMU's boot controller; `None` for that of `usb=1`, and if there is none.
    version: Option<UsbVersion>,
    /// The devices on QEMU's boot controller.
    on_boot: Vec<Entry>,
    redirected: bool,
    spice: bool,
    ctrls: Vec<Entry>,
    /// The number of each controller.
    numbers: Vec<u16>,
    devs: Vec<Entry>,
}

impl<'t, T: EditableText> Editor<'t, T> {
    fn new(text: &'t mut T, usb: &Usb) -> Editor<'t, T> {
        let boot = &usb.boot;
        let hvm = usb.guest.virtualization == Virtualization::Hvm;
        let is_usb = hvm && boot.is_usb();
        let on_boot = on_boot(usb);
        let has_boot_controller = is_usb || (hvm && boot.version().is_some()) || on_boot > 0;
        let first = usize::from(has_boot_controller);
        let version = boot.version().map_or(2, |version| version.value);
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
            boot: (first, on_boot),
            has_boot_controller,
            version: version.filter(|_| has_boot_controller && !is_usb),
            on_boot: (0..on_boot).map(Some).collect(),
            redirected: !is_usb && on_boot > 0,
            spice: boot.spice,
            ctrls: (first..first + usb.ctrls.len()).map(Some).collect(),
            numbers: numbers.collect(),
            devs: (on_boot..on_boot + usb.devs.len()).map(Some).collect(),
        }
    }

    /// Checks that everything that is not removed keeps its position.
    fn check_removals(&self, edits: &[Edit<'_>], usb: &Usb) -> Result<(), Inexpressible> {
        let (boot_ctrls, boot_devices) = self.boot;
        let mut ctrls = HashSet::new();
        let mut devices = HashSet::new();
        for edit in edits {
            match edit {
                Edit::RemoveController(number) => _ = ctrls.insert(*number),
                Edit::RemoveDevice(number) => _ = devices.insert(*number),
                _ => {}
            }
        }
        let first_gone = devices.iter().filter(|number| **number < boot_devices).min();
        let moves = |gone: &usize| (*gone..boot_devices).any(|number| !devices.contains(&number));
        if first_gone.is_some_and(moves) {
            return Err(inexpressible(
                "the ports of the devices after it",
                "QEMU assigns the ports of its boot controller in order: without this device, those after it would move; remove those too, \
                 starting with the last one, and add them again",
            ));
        }
        for number in &ctrls {
            let Some(entry) = number.checked_sub(boot_ctrls) else { continue };
            let last = boot_ctrls + usb.ctrls.len();
            if !T::NUMBERED && (*number..last).any(|later| !ctrls.contains(&later)) {
                return Err(inexpressible(
                    "the numbers of the controllers after it",
                    "xl numbers controllers by their position in usbctrl: without this one, the numbers of those after it would change; remove \
                     those too, starting with the last one, and add them again",
                ));
            }
            let gone = self.numbers.get(entry).copied().map(i64::from);
            let still_there =
                usb.devs.iter().enumerate().any(|(dev, it)| {
                    Some(it.ctrl) == gone && !devices.contains(&(boot_devices + dev))
                });
            if still_there {
                return Err(inexpressible(
                    "the devices on it",
                    "they would have no controller; remove them first",
                ));
            }
        }
        Ok(())
    }

    fn apply(&mut self, edit: &Edit<'_>) -> Result<(), Inexpressible> {
        match edit {
            Edit::AddController(controller) => self.add_controller(controller),
            Edit::AddDevice(at, device) => self.add_device(*at, device),
            Edit::RemoveController(number) => self.remove_controller(*number),
            Edit::RemoveDevice(number) => self.remove_device(*number),
            Edit::PinController(number, controller) => self.pin_controller(*number, controller),
            Edit::PinDevice(number, at) => self.pin_device(*number, *at),
            // libxl adds no USB by default.
            Edit::NoUsb => Ok(()),
        }
    }

    fn add_controller(&mut self, controller: &Controller) -> Result<(), Inexpressible> {
        refuse_chosen_name(&controller.name, &CONTROLLER_STEMS, "libxl")?;
        if controller.index == BOOT_BUS {
            return self.add_boot_controller(controller);
        }
        if controller.pci.is_some() {
            return Err(inexpressible(
                format!("the PCI address of {}", controller.name),
                "QEMU chooses the slot; leave the address out",
            ));
        }
        let entry = express::ctrl_entry(controller, self.guest)?;
        let number = controller.index.get();
        self.add_implied(number)?;
        let next = u16::try_from(self.ctrls.len()).unwrap_or(u16::MAX);
        if !T::NUMBERED && number != next {
            return Err(inexpressible(
                format!("index {number} of {}", controller.name),
                format!(
                    "xl numbers controllers by their position in usbctrl, and the next number is {next}"
                ),
            ));
        }
        self.text.add_ctrl(number, entry);
        self.ctrls.push(None);
        self.numbers.push(number);
        Ok(())
    }

    /// Adds entries for the controllers below this number that libxl adds by itself. It would stop
    /// adding them once the list has another controller with free ports.
    fn add_implied(&mut self, below: u16) -> Result<(), Inexpressible> {
        let implied = self.text.usb().map(interpret::implied_controllers).unwrap_or_default();
        for controller in implied.iter().filter(|it| it.index.get() < below) {
            let number = controller.index.get();
            self.text.add_ctrl(number, express::ctrl_entry(controller, self.guest)?);
            self.ctrls.push(None);
            self.numbers.push(number);
        }
        Ok(())
    }

    fn add_boot_controller(&mut self, controller: &Controller) -> Result<(), Inexpressible> {
        let version = express::boot_version(controller, self.guest)?;
        if self.has_boot_controller {
            let why = "QEMU has at most one boot controller, and there already is one";
            return Err(inexpressible(controller.name.as_str(), why));
        }
        // `usbversion=1` uses another slot than `usb=1`.
        let elsewhere = controller.pci.is_some() && controller.pci != boot_controller(version).pci;
        if elsewhere {
            let why = "QEMU always puts it into another slot; leave the address out";
            return Err(inexpressible(format!("the PCI address of {}", controller.name), why));
        }
        self.has_boot_controller = true;
        self.version = version;
        self.write_boot_controller();
        Ok(())
    }

    /// Writes the key for the boot controller, so that it remains without any device.
    fn write_boot_controller(&mut self) {
        match self.version {
            None => self.text.set(NumericKey::Usb, Some(1)),
            Some(version) => self.text.set(NumericKey::Usbversion, Some(u8::from(version).into())),
        }
    }

    /// Writes the key for the boot controller if the last of its devices was removed: it may only
    /// have existed because of them.
    fn keep_boot_controller(&mut self) {
        let lost_devices = self.boot.1 > 0 && self.on_boot.is_empty();
        if self.has_boot_controller && lost_devices {
            self.write_boot_controller();
        }
    }

    fn add_device(&mut self, at: Address, device: &Device) -> Result<(), Inexpressible> {
        refuse_chosen_name(&device.name, &[device.kind.name()], "libxl")?;
        if at.bus == BOOT_BUS {
            return self.add_boot_device(device);
        }
        let entry = express::dev_entry(device, at, at.bus.get())?;
        self.text.add_dev(entry);
        self.devs.push(None);
        Ok(())
    }

    fn add_boot_device(&mut self, device: &Device) -> Result<(), Inexpressible> {
        let what = || format!("{} ({})", device.name, device.kind);
        if let Kind::Hub(_) = device.kind {
            return express::usbdevice_value(device).map(|_| ());
        }
        if express::is_redirected(&device.kind) {
            if self.version.is_none() {
                return Err(inexpressible(
                    what(),
                    "redirected devices need usbversion, which excludes usb and usbdevice",
                ));
            }
            if !self.spice {
                return Err(inexpressible(what(), "the guest has no SPICE; add spice=1 first"));
            }
            if self.on_boot.len() >= 4 {
                return Err(inexpressible(what(), "at most 4 devices can be redirected"));
            }
            self.on_boot.push(None);
            self.redirected = true;
            self.text.set(NumericKey::Redirection, i64::try_from(self.on_boot.len()).ok());
            return Ok(());
        }
        let word = express::usbdevice_value(device)?.unwrap_or_default();
        if self.version.is_some() {
            return Err(inexpressible(
                what(),
                "usbdevice excludes usbversion and spiceusbredirection; use usb=1 instead of those",
            ));
        }
        self.text.add_usbdevice(&word);
        self.on_boot.push(None);
        Ok(())
    }

    fn remove_controller(&mut self, number: usize) -> Result<(), Inexpressible> {
        if number < self.boot.0 {
            if !self.on_boot.is_empty() {
                return Err(inexpressible(
                    "the devices on it",
                    "they would have no controller; remove them first",
                ));
            }
            self.text.set(NumericKey::Usb, None);
            self.text.set(NumericKey::Usbversion, None);
            self.has_boot_controller = false;
            return Ok(());
        }
        let entry = position_of(&self.ctrls, number)?;
        self.text.remove_ctrl(entry);
        self.ctrls.remove(entry);
        self.numbers.remove(entry);
        Ok(())
    }

    fn remove_device(&mut self, number: usize) -> Result<(), Inexpressible> {
        if number >= self.boot.1 {
            let entry = position_of(&self.devs, number)?;
            self.text.remove_dev(entry);
            self.devs.remove(entry);
            return Ok(());
        }
        let entry = position_of(&self.on_boot, number)?;
        self.on_boot.remove(entry);
        if self.redirected {
            let left = i64::try_from(self.on_boot.len()).ok().filter(|left| *left > 0);
            self.text.set(NumericKey::Redirection, left);
        } else {
            self.text.remove_usbdevice(entry);
        }
        Ok(())
    }

    fn pin_controller(
        &mut self,
        number: usize,
        controller: &Controller,
    ) -> Result<(), Inexpressible> {
        if number < self.boot.0 {
            express::boot_version(controller, self.guest)?;
            self.write_boot_controller();
            return Ok(());
        }
        let entry = express::ctrl_entry(controller, self.guest)?;
        let position = position_of(&self.ctrls, number)?;
        if self.numbers.get(position).copied() != Some(controller.index.get()) {
            let what = format!("index {} of {}", controller.index, controller.name);
            return Err(inexpressible(what, "an existing controller keeps its number"));
        }
        self.text.set_ctrl(position, entry);
        Ok(())
    }

    fn pin_device(&mut self, number: usize, at: Address) -> Result<(), Inexpressible> {
        let Address { bus, port } = at;
        if number < self.boot.1 || bus == BOOT_BUS {
            let why =
                "QEMU assigns the ports of its boot controller in order; libxl cannot change that";
            return Err(inexpressible(format!("port {port} of QEMU's boot controller"), why));
        }
        if port.depth() > 1 {
            let why = "libxl has no hubs: a port is a single number";
            return Err(inexpressible(format!("port {port}"), why));
        }
        let entry = position_of(&self.devs, number)?;
        self.text.set_dev(entry, bus.get(), port.port());
        Ok(())
    }
}

fn position_of(entries: &[Entry], number: usize) -> Result<usize, Inexpressible> {
    let found = entries.iter().position(|entry| *entry == Some(number));
    found.ok_or_else(|| {
        inexpressible("an edit of an item that does not exist", "it was removed before")
    })
}
