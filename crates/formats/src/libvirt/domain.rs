//! A parsed domain: its guest, and its USB controllers and devices with the elements that define
//! them.

use std::collections::BTreeSet;

use vusb_model::address::Index;
use vusb_model::guest::{Guest, Virtualization};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use super::address::{PciBuses, read_usb};
use super::all_devices::{self, PciFunctions};
use super::device::{DeviceReader, InputBus, UsbDevice};
use super::names::{USER, disk_number, name_of};
use super::xml::{Node, all, child, elements, excerpt, is};
use super::{controller, guest};
use crate::config::{Config, Field, ItemSource, MULTIFUNCTION, Property, UNSUPPORTED_ADVICE};
use crate::error::Problem;

/// The highest number of warnings. Each quotes a line, and a text can cause many.
const MAX_WARNINGS: usize = 32;

/// A parsed domain.
pub(super) struct Domain<'d> {
    /// The element `domain`.
    pub(super) root: Node<'d>,
    pub(super) guest: Guest,
    pub(super) buses: PciBuses,
    /// The controllers of the model `none`.
    pub(super) disabled: Vec<Node<'d>>,
    pub(super) controllers: Vec<Entry<'d, ControllerSpec>>,
    /// The indexes of the controllers that have a name.
    indexes: BTreeSet<Index>,
    pub(super) devices: Vec<Entry<'d, DeviceSpec>>,
    pub(super) warnings: Vec<Problem>,
    /// What vusb does not support when it starts the guest itself.
    pub(super) unsupported: Vec<Problem>,
}

/// A controller or a device.
pub(super) struct Entry<'d, T> {
    pub(super) declared_by: DeclaredBy<'d>,
    pub(super) spec: T,
    pub(super) source: ItemSource,
}

/// Why a domain has a controller or a device.
#[derive(Clone, Copy)]
pub(super) enum DeclaredBy<'d> {
    /// It has its own element.
    Element(Node<'d>),
    /// A smart card needs it: libvirt adds the reader with this index.
    SmartCard(u32),
}

impl<'d> Domain<'d> {
    /// Reads the domain whose element is the document's root.
    ///
    /// # Errors
    /// It is not a domain, or something in it is invalid. The error is the first mistake.
    pub(super) fn read(root: Node<'d>) -> Result<Domain<'d>, Problem> {
        let root = guest::root(root)?;
        let guest = guest::read(root)?;
        // Only running domains have an id.
        let live = root.attribute("id").is_some();
        let mut domain = Domain {
            root,
            buses: PciBuses::of(root, &guest),
            guest,
            disabled: Vec::new(),
            controllers: Vec::new(),
            indexes: BTreeSet::new(),
            devices: Vec::new(),
            warnings: Vec::new(),
            unsupported: Vec::new(),
        };
        let mut reader = DeviceReader::new(root, default_input_bus(&domain.guest))?;
        all_devices::check_names(root)?;
        let functions = PciFunctions::of(root)?;
        let boot_order = all_devices::boot_order(root);
        for node in all(root, "devices").flat_map(elements) {
            if is(node, "controller") && node.attribute("type") == Some("usb") {
                domain.controller(node, live, &functions)?;
            } else if let Some(mut device) = reader.read(node)? {
                let position = boot_order.get(&node.range().start);
                device.properties.extend(position.map(|it| ("bootindex", Property::Number(*it))));
                domain.device(DeclaredBy::Element(node), node, device, live)?;
            }
        }
        for card in reader.cards() {
            domain.add_unsupported(card, "the smart card");
        }
        for (index, card, device) in reader.implied_card_readers() {
            domain.device(DeclaredBy::SmartCard(index), card, device, live)?;
        }
        sort_disks(&mut domain.devices);
        domain.find_overrides();
        domain.warn_about_commandline();
        Ok(domain)
    }

    fn controller(
        &mut self,
        node: Node<'d>,
        live: bool,
        functions: &PciFunctions,
    ) -> Result<(), Problem> {
        let read = controller::read(node, live, &self.buses)?;
        let conflict = match &read {
            None => self.disabled.first().copied().or_else(|| self.first_controller()),
            Some(_) => self.disabled.first().copied(),
        };
        if let Some(conflict) = conflict {
            let what = "a controller of the model `none` excludes other USB controllers";
            return Err(Problem::new(node.range(), what)
                .other(conflict.range(), "the other one")
                .help("remove the controller of the model none, or all others; libvirt says: Can't add another USB controller: USB is disabled for this domain"));
        }
        match read {
            None => self.disabled.push(node),
            Some((mut spec, mut source)) => {
                if functions.is_multifunction(node) {
                    source.properties.push((MULTIFUNCTION, Property::Flag(true)));
                }
                // Two controllers with one index would get the same name. The profile reports the
                // index, which is the actual mistake.
                let named = spec.index.filter(|_| spec.name.is_some());
                if named.is_some_and(|index| !self.indexes.insert(index)) {
                    spec.name = None;
                }
                self.controllers.push(Entry {
                    declared_by: DeclaredBy::Element(node),
                    spec,
                    source,
                });
            }
        }
        Ok(())
    }

    fn first_controller(&self) -> Option<Node<'d>> {
        self.controllers.iter().find_map(|entry| entry.declared_by.element())
    }

    fn device(
        &mut self,
        declared_by: DeclaredBy<'d>,
        node: Node<'d>,
        device: UsbDevice<'d>,
        live: bool,
    ) -> Result<(), Problem> {
        let mut source = ItemSource {
            span: node.range(),
            properties: device.properties,
            remarks: device.remarks,
            settings: device.settings,
            required_at_start: device.required_at_start,
            ..ItemSource::default()
        };
        if let Some(what) = device.what {
            source.fields.insert(Field::What, what);
        }
        for (node, setting) in device.unsupported {
            let what = format!("the {setting} of {}", device.alias);
            self.add_unsupported(node, &what);
        }
        let mut spec = DeviceSpec::new(device.kind);
        match declared_by {
            DeclaredBy::Element(node) => {
                let address = read_usb(node)?;
                spec.controller = address.bus.map(ControllerRef::Index);
                spec.port = address.port;
                source.fields.extend(address.fields);
                spec.name = name_of(node, live, Some(device.alias));
            }
            DeclaredBy::SmartCard(_) => spec.name = device.alias.parse().ok(),
        }
        let remaining = MAX_WARNINGS.saturating_sub(self.warnings.len());
        self.warnings.extend(device.warnings.into_iter().take(remaining));
        self.devices.push(Entry { declared_by, spec, source });
        Ok(())
    }

    /// Adds a part of the text that vusb does not support.
    fn add_unsupported(&mut self, node: Node<'_>, what: &str) {
        if self.unsupported.len() < MAX_WARNINGS {
            let problem = Problem::new(node.range(), format!("vusb does not support {what}"));
            self.unsupported.push(problem.help(UNSUPPORTED_ADVICE));
        }
    }

    /// Adds each `<qemu:override>` of a USB controller or device as unsupported: libvirt changes
    /// the properties of these items.
    fn find_overrides(&mut self) {
        let is = |node: &Node<'_>, name: &str| {
            node.tag_name().name() == name && node.tag_name().namespace().is_some()
        };
        let overrides = elements(self.root).filter(|node| is(node, "override"));
        let devices: Vec<_> =
            overrides.flat_map(elements).filter(|node| is(node, "device")).collect();
        for node in devices {
            let alias = node.attribute("alias").unwrap_or_default();
            let name = alias.strip_prefix(USER).unwrap_or(alias);
            let named = |it: Option<&Name>| it.is_some_and(|it| it.as_str() == name);
            let usb = self.controllers.iter().any(|it| named(it.spec.name.as_ref()))
                || self.devices.iter().any(|it| named(it.spec.name.as_ref()))
                || name
                    .strip_prefix("usb")
                    .is_some_and(|rest| rest.parse().is_ok_and(|_: u32| true));
            if usb || name == "usb" {
                self.add_unsupported(
                    node,
                    &format!("the changed properties of {}", excerpt(alias)),
                );
            }
        }
    }

    /// The arguments that a domain passes to QEMU after those of libvirt.
    fn commandline(&self) -> Vec<Node<'d>> {
        let is_commandline = |node: &Node<'_>| {
            node.tag_name().name() == "commandline" && node.tag_name().namespace().is_some()
        };
        let arguments = elements(self.root).filter(is_commandline).flat_map(elements);
        arguments.filter(|node| node.tag_name().name() == "arg").collect()
    }

    /// Warns about USB devices in these arguments: libvirt does not know of them.
    fn warn_about_commandline(&mut self) {
        let usb =
            |node: &Node<'_>| node.attribute("value").is_some_and(|value| value.contains("usb"));
        if let Some(node) = self.commandline().into_iter().find(usb) {
            let what = "this argument bypasses libvirt, which keeps no port for it; it is not changed here";
            let help =
                "use an element of <devices> instead: libvirt may give its port to another device";
            self.warnings.push(Problem::new(node.range(), what).help(help));
        }
    }

    /// The configuration, without the warnings, which need the text.
    pub(super) fn into_config(self) -> Config {
        let arguments = self.commandline().into_iter().filter_map(|it| it.attribute("value"));
        let arguments = arguments.map(str::to_owned).collect();
        let guest = self.guest;
        let domain = guest.name.as_deref().and_then(|name| name.parse().ok());
        // A name that is valid for libvirt may be invalid here. It still distinguishes the domain
        // from others.
        let address =
            if domain.is_some() { None } else { guest.name.clone().or_else(|| guest.uuid.clone()) };
        let (specs, controllers) = self.controllers.into_iter().map(Entry::split).unzip();
        let (device_specs, devices) = self.devices.into_iter().map(Entry::split).unzip();
        let spec = Spec {
            profile: Profile::Libvirt,
            domain,
            address,
            disabled: self.disabled.iter().any(|node| is_first(*node)),
            controllers: specs,
            devices: device_specs,
        };
        Config { guest, spec, controllers, devices, arguments, ..Config::default() }
    }
}

/// Whether a controller of the model `none` is at index 0. At any other index it has no effect: the
/// default controller at index 0 is added as in any domain.
fn is_first(none: Node<'_>) -> bool {
    none.attribute("index").is_none_or(|index| index.trim_start_matches('0').is_empty())
}

/// The bus of inputs without the attribute `bus` (`virDomainInputDefPostParse`).
fn default_input_bus(guest: &Guest) -> InputBus {
    match (guest.virtualization, guest.arch()) {
        (Virtualization::Pv | Virtualization::Pvh, _) => InputBus::Other,
        (Virtualization::Hvm, "x86_64" | "i686") => InputBus::Ps2OrUsb,
        // virtio.
        (Virtualization::Hvm, "s390" | "s390x") => InputBus::Other,
        (Virtualization::Hvm, _) => InputBus::Usb,
    }
}

impl<'d> DeclaredBy<'d> {
    /// The element, if any.
    pub(super) fn element(self) -> Option<Node<'d>> {
        match self {
            DeclaredBy::Element(node) => Some(node),
            DeclaredBy::SmartCard(_) => None,
        }
    }
}

impl<T> Entry<'_, T> {
    fn split(self) -> (T, ItemSource) {
        (self.spec, self.source)
    }
}

/// Sorts the disks by their names. libvirt keeps the disks of a bus in that order
/// (`virDomainDiskInsert`) and gives them the first ports. Everything else stays in the order of
/// the text.
fn sort_disks(devices: &mut [Entry<'_, DeviceSpec>]) {
    let number = |entry: &Entry<'_, DeviceSpec>| {
        let node = entry.declared_by.element().filter(|node| is(*node, "disk"))?;
        disk_number(child(node, "target")?.attribute("dev")?)
    };
    devices.sort_by_cached_key(|entry| number(entry).map_or((1, 0), |number| (0, number)));
}
