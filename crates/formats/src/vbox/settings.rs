//! The USB settings of a machine, with their elements.

use std::collections::HashSet;
use std::ops::Range;

use roxmltree::Document;
use vusb_model::device::{HostRef, Input, Kind};
use vusb_model::models::Model;
use vusb_model::naming;

use super::filter::{self, Filter};
use crate::error::Problem;
use crate::xml::{self, Dialect, Node, attr, elements, excerpt};

/// The namespace of VirtualBox's elements since version 1.6 of VirtualBox.
const NAMESPACE: &str = "http://www.virtualbox.org/";

const VIRTUALBOX: Dialect = Dialect {
    text: "VirtualBox's settings",
    subject: "machine",
    writer: "VirtualBox",
    second: ("<VirtualBox", "keep one of them: VirtualBox has a file for each machine"),
};

/// The settings versions that are supported: 1.12 to 1.22.
const VERSIONS: std::ops::RangeInclusive<u32> = 12..=22;

/// The first settings version whose files have `<USB>`.
pub(super) const USB_ELEMENT: u32 = 14;

/// The first settings version with an xHCI.
pub(super) const XHCI: u32 = 15;

/// Parses a text.
///
/// # Errors
/// It is not well-formed, or exceeds a limit.
pub(super) fn parse(text: &str) -> Result<Document<'_>, Problem> {
    xml::parse(text, &VIRTUALBOX)
}

/// Whether a node is VirtualBox's element with this name. New elements get no prefix, so one with a
/// prefix is not known.
fn is(node: Node<'_>, name: &str) -> bool {
    let tag = node.tag_name();
    let plain = || {
        let text = node.document().input_text().get(node.range().start + 1..);
        text.is_some_and(|text| text.starts_with(name))
    };
    node.is_element() && tag.name() == name && tag.namespace() == Some(NAMESPACE) && plain()
}

/// The first child element with this name.
pub(super) fn child<'d>(node: Node<'d>, name: &'static str) -> Option<Node<'d>> {
    all(node, name).next()
}

/// The child elements with this name.
pub(super) fn all<'d>(node: Node<'d>, name: &'static str) -> impl Iterator<Item = Node<'d>> {
    node.children().filter(move |child| is(*child, name))
}

/// An attribute that is not empty.
pub(super) fn attribute<'d>(node: Node<'d>, name: &str) -> Option<&'d str> {
    node.attribute(name).filter(|value| !value.is_empty())
}

/// A flag, as VirtualBox reads it (`getAttributeValue` in its `xml.cpp`).
pub(super) fn flag(node: Node<'_>, name: &str) -> Option<bool> {
    match node.attribute(name)? {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// How a file specifies its controllers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'d> {
    /// `<USB>` with `<Controllers>` and `<DeviceFilters>`, if there is one.
    Elements(Option<Node<'d>>),
    /// `<USBController enabled="" enabledEhci="">` with the filters in it, if there is one.
    Flags(Option<Node<'d>>),
}

/// What defines a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DeviceKey {
    /// `Pointing` of `<HID>`.
    Pointing,
    /// `Keyboard` of `<HID>`.
    Keyboard,
    /// The filter with this number in the file.
    Filter(usize),
}

/// A controller in the file.
#[derive(Debug)]
pub(super) struct Controller<'d> {
    pub(super) model: Model,
    /// Its element. `None` if an attribute of `<USBController>` enables it.
    pub(super) element: Option<Node<'d>>,
    pub(super) span: Range<usize>,
}

/// A device in the file.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) key: DeviceKey,
    pub(super) kind: Kind,
    pub(super) remarks: Vec<String>,
    pub(super) settings: Vec<String>,
    pub(super) span: Range<usize>,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine<'d> {
    /// The minor number of the settings version: 19 for `1.19-linux`.
    pub(super) version: u32,
    /// `<Machine>`.
    pub(super) node: Node<'d>,
    /// Its own `<Hardware>`.
    pub(super) hardware: Node<'d>,
    pub(super) form: Form<'d>,
    pub(super) controllers: Vec<Controller<'d>>,
    pub(super) devices: Vec<Device>,
    /// All filters, also those that are no devices.
    pub(super) filters: Vec<Node<'d>>,
    pub(super) warnings: Vec<Problem>,
}

impl<'d> Machine<'d> {
    /// Reads the machine in a file.
    ///
    /// # Errors
    /// It is not a machine, its settings version is not supported, or VirtualBox would not open it.
    pub(super) fn read(root: Node<'d>) -> Result<Machine<'d>, Problem> {
        let version = version(root)?;
        let node = machine(root)?;
        let hardware = child(node, "Hardware")
            .filter(|it| child(*it, "Memory").is_some())
            .ok_or_else(|| at(node, "the machine has no <Hardware> with <Memory>"))?;
        let form = form(hardware, version)?;
        let mut machine = Machine {
            version,
            node,
            hardware,
            form,
            controllers: Vec::new(),
            devices: Vec::new(),
            filters: Vec::new(),
            warnings: Vec::new(),
        };
        machine.read_controllers()?;
        machine.read_input_devices();
        machine.read_filters();
        machine.read_unmodelled();
        Ok(machine)
    }

    pub(super) fn has(&self, model: Model) -> bool {
        self.controllers.iter().any(|it| it.model == model)
    }

    /// The reason why the file must not be edited, if the machine has a saved state.
    pub(super) fn saved_state(&self) -> Option<Problem> {
        let state = attr(self.node, "stateFile").filter(|it| !it.value.is_empty())?;
        let what = "the machine has a saved state, which contains its hardware: the file must not \
                    be edited";
        let help =
            "start the machine and shut it down, or discard the state (VBoxManage discardstate)";
        Some(Problem::new(state.span, what).help(help))
    }

    fn read_controllers(&mut self) -> Result<(), Problem> {
        match self.form {
            Form::Flags(None) | Form::Elements(None) => {}
            Form::Flags(Some(node)) => {
                let ohci = flag(node, "enabled").unwrap_or(false);
                // VirtualBox reads both into one variable, so a missing one is like the other.
                let ehci = flag(node, "enabledEhci").unwrap_or(ohci);
                let models = [(Model::PciOhci, ohci), (Model::Ehci, ehci)];
                let span = xml::tag(node);
                for (model, _) in models.into_iter().filter(|(_, enabled)| *enabled) {
                    self.controllers.push(Controller { model, element: None, span: span.clone() });
                }
            }
            Form::Elements(Some(usb)) => {
                for node in all(usb, "Controllers").flat_map(|it| all(it, "Controller")) {
                    self.read_controller(node)?;
                }
            }
        }
        Ok(())
    }

    fn read_controller(&mut self, node: Node<'d>) -> Result<(), Problem> {
        let kind = node.attribute("type").unwrap_or_default();
        // VirtualBox writes and reads them in capitals.
        let model = naming::from_virtualbox(kind).filter(|_| kind == kind.to_ascii_uppercase());
        let Some(model) = model else {
            let what = format!("`{}` is not a type of USB controller", excerpt(kind));
            return Err(at(node, what).help("VirtualBox has OHCI, EHCI and XHCI"));
        };
        if self.has(model) {
            let what =
                format!("a second {kind}: a machine has at most one controller of each type");
            return Err(at(node, what).help("remove one of them"));
        }
        self.controllers.push(Controller { model, element: Some(node), span: node.range() });
        Ok(())
    }

    fn read_input_devices(&mut self) {
        let Some(node) = child(self.hardware, "HID") else { return };
        let (pointing, keyboard) = (node.attribute("Pointing"), node.attribute("Keyboard"));
        let input = Input::default();
        let touch = "the touch screen beside the tablet".to_owned();
        let pointing = match pointing {
            Some("USBTablet") => Some((Kind::Tablet(input), None)),
            Some("USBMouse") => Some((Kind::Mouse(input), None)),
            Some("USBMultiTouch" | "USBMTScreenPlusPad") => {
                Some((Kind::Tablet(input), Some(touch)))
            }
            _ => None,
        };
        let keyboard = (keyboard == Some("USBKeyboard")).then_some((Kind::Keyboard(input), None));
        let found = [
            (DeviceKey::Pointing, "Pointing", pointing),
            (DeviceKey::Keyboard, "Keyboard", keyboard),
        ];
        for (key, name, device) in found {
            let (Some((kind, setting)), Some(it)) = (device, attr(node, name)) else { continue };
            if self.warn_without_controller(it.span.clone()) {
                continue;
            }
            let settings = Vec::from_iter(setting);
            let span = it.span;
            self.devices.push(Device { key, kind, remarks: Vec::new(), settings, span });
        }
    }

    fn read_filters(&mut self) {
        self.filters = match self.form {
            Form::Elements(None) | Form::Flags(None) => Vec::new(),
            Form::Flags(Some(node)) => all(node, "DeviceFilter").collect(),
            Form::Elements(Some(usb)) => {
                all(usb, "DeviceFilters").flat_map(|it| all(it, "DeviceFilter")).collect()
            }
        };
        let mut selected = HashSet::new();
        for (number, node) in self.filters.clone().into_iter().enumerate() {
            let name = excerpt(node.attribute("name").unwrap_or_default());
            match filter::read(node) {
                Err(why) => {
                    let what = format!(
                        "the filter `{name}` is not a device of the guest: {why}; it is left unchanged"
                    );
                    self.warnings.push(at(node, what));
                }
                Ok(_) if self.warn_without_controller(node.range()) => {}
                Ok(Filter { selector, .. }) if !selected.insert(selector.clone()) => {
                    let what = "this device is selected by an earlier filter; it is attached once";
                    self.warnings.push(at(node, what));
                }
                Ok(Filter { selector, remarks, settings }) => self.devices.push(Device {
                    key: DeviceKey::Filter(number),
                    kind: Kind::Host(HostRef::new(selector)),
                    remarks,
                    settings,
                    span: node.range(),
                }),
            }
        }
    }

    /// Warns about USB devices that no other hypervisor has.
    fn read_unmodelled(&mut self) {
        let emulated = child(self.hardware, "EmulatedUSB").into_iter().flat_map(elements);
        let enabled = emulated.filter(|it| flag(*it, "enabled") == Some(true));
        // VirtualBox reads them in either place.
        let both = [self.node, self.hardware].into_iter();
        let disks = both.flat_map(|it| all(it, "StorageControllers"));
        let disks = disks.flat_map(|it| all(it, "StorageController"));
        let disks = disks.filter(|it| it.attribute("type") == Some("USB"));
        let cards = child(self.hardware, "Network").into_iter().flat_map(|it| all(it, "Adapter"));
        let cards = cards.filter(|it| it.attribute("type") == Some("usbnet"));
        let cards = cards.filter(|it| flag(*it, "enabled") == Some(true));
        for node in enabled.chain(disks).chain(cards).collect::<Vec<_>>() {
            let what = format!(
                "this {} is a USB device of VirtualBox that vusb does not know; it is left unchanged, and its port is not counted",
                node.tag_name().name()
            );
            self.warnings.push(Problem::new(xml::tag(node), what));
        }
    }

    /// Whether there is no controller to attach a device to. Warns if so.
    fn warn_without_controller(&mut self, span: Range<usize>) -> bool {
        if !self.controllers.is_empty() {
            return false;
        }
        let what = "the machine has no USB controller, so VirtualBox does not attach this";
        self.warnings.push(Problem::new(span, what));
        true
    }
}

fn at(node: Node<'_>, what: impl Into<String>) -> Problem {
    Problem::new(xml::tag(node), what)
}

/// The minor number of the settings version.
fn version(root: Node<'_>) -> Result<u32, Problem> {
    if !is(root, "VirtualBox") {
        let what = format!(
            "the root element is `{}`; VirtualBox's is `VirtualBox` in {NAMESPACE}",
            excerpt(root.tag_name().name())
        );
        return Err(at(root, what));
    }
    let Some(version) = attr(root, "version") else {
        return Err(at(root, "the attribute `version` is missing"));
    };
    let number = version.value.split('-').next().unwrap_or_default();
    let parts = number.split_once('.');
    let digits = |text: &str| {
        let all = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        if all { text.parse::<u32>().ok() } else { None }
    };
    let parts = parts.and_then(|(major, minor)| Some((digits(major)?, digits(minor)?)));
    let range = format!("1.{} to 1.{}", VERSIONS.start(), VERSIONS.end());
    match parts {
        Some((1, minor)) if VERSIONS.contains(&minor) => Ok(minor),
        Some((0..=1, minor)) if minor < *VERSIONS.start() => {
            let what = format!(
                "settings version {number} is from before VirtualBox 4.1; supported are {range}"
            );
            Err(version.problem(what).help("open the machine in a newer VirtualBox, and save it"))
        }
        Some(_) => {
            let what =
                format!("settings version {number} is newer than this vusb; supported are {range}");
            Err(version.problem(what).help("use VBoxManage modifyvm and VBoxManage usbfilter"))
        }
        None => {
            let what = format!("`{}` is not a settings version", version.excerpt());
            Err(version.problem(what).help("VirtualBox writes 1.19-linux, for example"))
        }
    }
}

/// `<Machine>`.
fn machine(root: Node<'_>) -> Result<Node<'_>, Problem> {
    if let Some(node) = child(root, "Machine") {
        return Ok(node);
    }
    if let Some(node) = child(root, "MachineEncrypted") {
        let help = "use VBoxManage modifyvm and VBoxManage usbfilter with the password";
        return Err(at(node, "the machine is encrypted").help(help));
    }
    if let Some(node) = child(root, "Global") {
        let what = "these are the settings of VirtualBox itself, and not of a machine";
        return Err(at(node, what).help("a machine has a .vbox file in its own folder"));
    }
    Err(at(root, "there is no <Machine>"))
}

/// How the hardware specifies its controllers.
fn form(hardware: Node<'_>, version: u32) -> Result<Form<'_>, Problem> {
    let usb = child(hardware, "USB");
    // Later versions ignore it.
    let old = child(hardware, "USBController").filter(|_| version <= USB_ELEMENT);
    match (usb, old) {
        (Some(_), Some(old)) => {
            Err(at(old, "the hardware has both <USB> and <USBController>")
                .help("remove one of them"))
        }
        (None, None) if version < USB_ELEMENT => Ok(Form::Flags(None)),
        (None, Some(old)) => Ok(Form::Flags(Some(old))),
        (usb, None) => Ok(Form::Elements(usb)),
    }
}
