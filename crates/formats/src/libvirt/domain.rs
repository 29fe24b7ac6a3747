//! A domain, read: its guest, its USB controllers and devices, and the element that says each of them.

use std::collections::BTreeSet;

use vusb_model::address::Index;
use vusb_model::guest::{Guest, Virtualization};
use vusb_model::profile::Profile;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use super::address::{PciBuses, usb};
use super::device::{Plug, Reading};
use super::names::{disk_number, name_of};
use super::xml::{Node, all, child, elements, is};
use super::{controller, guest};
use crate::config::{Config, Field, Place};
use crate::error::Problem;

/// How many warnings are given: each shows a place, and a text of 16 MiB has room for many.
const MAX_WARNINGS: usize = 32;

/// What a domain says.
pub(super) struct Domain<'d> {
    /// The element `domain`.
    pub(super) root: Node<'d>,
    pub(super) guest: Guest,
    pub(super) buses: PciBuses,
    /// The controllers of the model `none`.
    pub(super) disabled: Vec<Node<'d>>,
    pub(super) controllers: Vec<Found<'d, ControllerSpec>>,
    /// The indexes of the controllers that have a name.
    indexes: BTreeSet<Index>,
    pub(super) devices: Vec<Found<'d, DeviceSpec>>,
    pub(super) warnings: Vec<Problem>,
}

/// A controller or a device, and the element that says it.
pub(super) struct Found<'d, T> {
    pub(super) said: Said<'d>,
    pub(super) spec: T,
    pub(super) place: Place,
}

/// What says that something is there.
#[derive(Clone, Copy)]
pub(super) enum Said<'d> {
    /// Its own element.
    By(Node<'d>),
    /// Nothing but a smart card: libvirt adds the reader with this index for it.
    ForCard(u32),
}

impl<'d> Domain<'d> {
    /// Reads the domain whose element is the document's root.
    ///
    /// # Errors
    /// It is no domain, or says something wrongly; the first mistake.
    pub(super) fn read(root: Node<'d>) -> Result<Domain<'d>, Problem> {
        let root = guest::root(root)?;
        let guest = guest::read(root)?;
        // Only what runs has an id.
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
        };
        let mut reading = Reading::new(root, inputs_default_to_ps2(&domain.guest))?;
        for node in all(root, "devices").flat_map(elements) {
            if is(node, "controller") && node.attribute("type") == Some("usb") {
                domain.controller(node, live)?;
            } else if let Some(plug) = reading.device(node)? {
                domain.device(Said::By(node), node, plug, live)?;
            }
        }
        for (index, card, plug) in reading.readers_of_cards() {
            domain.device(Said::ForCard(index), card, plug, live)?;
        }
        sort_disks(&mut domain.devices);
        domain.warn_of_commandline();
        Ok(domain)
    }

    fn controller(&mut self, node: Node<'d>, live: bool) -> Result<(), Problem> {
        let read = controller::read(node, live, &self.buses)?;
        let another = match &read {
            None => self.disabled.first().copied().or_else(|| self.first_controller()),
            Some(_) => self.disabled.first().copied(),
        };
        if let Some(another) = another {
            return Err(Problem::new(node.range(), "USB is disabled in this domain, and here is another USB controller")
                .other(another.range(), "and this one")
                .help("take the controller of the model none out, or all others; libvirt says: Can't add another USB controller: USB is disabled for this domain"));
        }
        match read {
            None => self.disabled.push(node),
            Some((mut spec, place)) => {
                // Two at one index would be called the same; what is wrong with them is the index, which is not for here to say.
                if let Some(index) = spec.index.filter(|_| spec.name.is_some())
                    && !self.indexes.insert(index)
                {
                    spec.name = None;
                }
                self.controllers.push(Found { said: Said::By(node), spec, place });
            }
        }
        Ok(())
    }

    fn first_controller(&self) -> Option<Node<'d>> {
        self.controllers.iter().find_map(|found| found.said.element())
    }

    fn device(
        &mut self,
        said: Said<'d>,
        node: Node<'d>,
        plug: Plug,
        live: bool,
    ) -> Result<(), Problem> {
        let mut place = Place {
            span: node.range(),
            properties: plug.properties,
            remarks: plug.remarks,
            ..Place::default()
        };
        if let Some(what) = plug.what {
            place.fields.insert(Field::What, what);
        }
        let mut spec = DeviceSpec::new(plug.kind);
        match said {
            Said::By(node) => {
                let plugged = usb(node)?;
                spec.controller = plugged.bus.map(ControllerRef::Index);
                spec.port = plugged.port;
                place.fields.extend(plugged.fields);
                spec.name = name_of(node, live, Some(plug.alias));
            }
            Said::ForCard(_) => spec.name = plug.alias.parse().ok(),
        }
        let room = MAX_WARNINGS.saturating_sub(self.warnings.len());
        self.warnings.extend(plug.warnings.into_iter().take(room));
        self.devices.push(Found { said, spec, place });
        Ok(())
    }

    /// What is handed to QEMU past libvirt is not seen here.
    fn warn_of_commandline(&mut self) {
        let arguments = elements(self.root)
            .filter(|node| {
                node.tag_name().name() == "commandline" && node.tag_name().namespace().is_some()
            })
            .flat_map(elements);
        let usb =
            |node: &Node<'_>| node.attribute("value").is_some_and(|value| value.contains("usb"));
        if let Some(node) = arguments.into_iter().find(usb) {
            self.warnings.push(
                Problem::new(
                    node.range(),
                    "this is handed to QEMU past libvirt, and what it adds is not seen here",
                )
                .help("say it as an element of <devices>, or see to its port yourself"),
            );
        }
    }

    /// What is read from it, without the warnings, which need the text.
    pub(super) fn into_config(self) -> Config {
        let guest = self.guest;
        let domain = guest.name.as_deref().and_then(|name| name.parse().ok());
        // What libvirt takes for a name may be none here; it tells this domain from others all the same.
        let address =
            if domain.is_some() { None } else { guest.name.clone().or_else(|| guest.uuid.clone()) };
        let (specs, controllers) = self.controllers.into_iter().map(Found::split).unzip();
        let (device_specs, devices) = self.devices.into_iter().map(Found::split).unzip();
        let spec = Spec {
            profile: Profile::Libvirt,
            domain,
            address,
            disabled: !self.disabled.is_empty(),
            controllers: specs,
            devices: device_specs,
        };
        Config { guest, spec, controllers, devices, ..Config::default() }
    }
}

/// Whether mice and keyboards that name no bus are PS/2: on x86 with a whole machine around it.
fn inputs_default_to_ps2(guest: &Guest) -> bool {
    let x86 = matches!(guest.arch(), "x86_64" | "i686");
    x86 && guest.virtualization == Virtualization::Hvm
}

impl<'d> Said<'d> {
    /// The element of its own.
    pub(super) fn element(self) -> Option<Node<'d>> {
        match self {
            Said::By(node) => Some(node),
            Said::ForCard(_) => None,
        }
    }
}

impl<T> Found<'_, T> {
    fn split(self) -> (T, Place) {
        (self.spec, self.place)
    }
}

/// libvirt keeps the disks of a bus in the order of their names (`virDomainDiskInsert`) and gives them the first ports, in that order. All
/// else stays in the order of the text.
fn sort_disks(devices: &mut [Found<'_, DeviceSpec>]) {
    let number = |found: &Found<'_, DeviceSpec>| {
        let node = found.said.element().filter(|node| is(*node, "disk"))?;
        disk_number(child(node, "target")?.attribute("dev")?)
    };
    devices.sort_by_cached_key(|found| number(found).map_or((1, 0), |number| (0, number)));
}
