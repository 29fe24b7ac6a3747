//! The nearest hardware that a format can express, for a guest that moves to another hypervisor.
//!
//! Each controller becomes the first of its candidates that the format takes, with as many of its
//! devices as possible. Each device keeps its port if it can. What a format takes is not known
//! here: a candidate is written and read again, and has to be the same hardware.
//!
//! ```text
//!   controller ─▶ itself, its model without what is special, then other models by distance
//!   device     ─▶ its port, its controller, any controller, a controller that is added for it
//! ```
//!
//! The result lists every difference that the guest sees. A device that the format cannot express
//! at all is part of what the conversion loses. A hub that it cannot express is a difference and
//! not a loss: the devices behind the hub are placed without it.

use std::cell::OnceCell;
use std::num::NonZeroU8;

use vusb_formats::Format;
use vusb_formats::config::Inexpressible;
use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::{HUB_PORTS, Hub, Input, Kind};
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware, article};
use vusb_model::models::{Companion, ControllerType, Model, UsbVersion};
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use crate::call::Call;
use crate::error::Error;
use crate::moving::below;

/// Hardware that a format can express, instead of the original.
#[derive(Debug)]
pub(crate) struct Nearest {
    pub(crate) hardware: Hardware,
    /// What the guest sees differently, a sentence each.
    pub(crate) changes: Vec<String>,
    /// The devices that are not part of it.
    pub(crate) lost: Vec<Inexpressible>,
}

/// `guest` on another hypervisor. There it is an HVM guest. It keeps neither its machine type nor
/// its `os`: both belong to the hypervisor that it leaves.
pub(crate) fn moved(guest: &Guest, to: Hypervisor) -> Guest {
    if guest.hypervisor == to {
        return guest.clone();
    }
    Guest {
        hypervisor: to,
        virtualization: Virtualization::Hvm,
        machine: None,
        os: None,
        ..guest.clone()
    }
}

/// The most controllers and devices together for which the nearest hardware is searched. Each of
/// them has dozens of candidates, and each candidate is written and read again with all that was
/// accepted before it.
const MAX_ITEMS: usize = 1000;

/// The nearest hardware that `format` can express for a guest. `is_same` compares hardware with
/// what was read again.
///
/// # Errors
/// The hardware has too many controllers and devices, or the call was cancelled, or its deadline
/// has passed.
pub(crate) fn nearest(
    call: &Call<'_>,
    hardware: &Hardware,
    guest: &Guest,
    format: &Format,
    is_same: &dyn Fn(&Hardware, &str) -> bool,
) -> Result<Nearest, Error> {
    let items = hardware.controllers().len() + hardware.devices().count();
    if items > MAX_ITEMS {
        let problem = format!(
            "the guest has {items} controllers and devices, and the nearest hardware is only searched for up to \
             {MAX_ITEMS}: remove some, or convert the guest as it is"
        );
        return Err(Error::Usage { problem, advice: None, remedies: Vec::new() });
    }
    let spec = Spec { profile: format.profile(), ..Spec::default() };
    let mut search = Search {
        call,
        guest,
        format,
        is_same,
        accepted: Accepted::from(spec),
        controllers: Vec::new(),
        devices: Vec::new(),
    };
    let mut waiting = Vec::new();
    for controller in hardware.controllers() {
        waiting.extend(search.add(controller, hardware)?);
    }
    let mut lost = Vec::new();
    let mut hubs = Vec::new();
    for original in waiting {
        match search.place_anywhere(&original)? {
            None => {}
            // The devices behind the hub are placed without it.
            Some(_) if matches!(original.device.kind, Kind::Hub(_)) => hubs.push(original),
            Some(why) => lost.push(why),
        }
    }
    Ok(search.finish(hardware, &hubs, lost))
}

/// A device of the original hardware.
#[derive(Clone)]
struct Original {
    at: Address,
    device: Device,
}

/// What has been accepted so far, with its hardware once that was needed.
#[derive(Clone)]
struct Accepted {
    spec: Spec,
    resolved: OnceCell<Option<Resolved>>,
}

impl From<Spec> for Accepted {
    fn from(spec: Spec) -> Accepted {
        Accepted { spec, resolved: OnceCell::new() }
    }
}

impl Accepted {
    fn with_controller(&self, controller: ControllerSpec) -> Accepted {
        let mut spec = self.spec.clone();
        spec.controllers.push(controller);
        Accepted::from(spec)
    }
}

struct Search<'a> {
    call: &'a Call<'a>,
    guest: &'a Guest,
    format: &'a Format,
    is_same: &'a dyn Fn(&Hardware, &str) -> bool,
    accepted: Accepted,
    /// The original index of each controller that was accepted. `None` for one that was added for a
    /// device.
    controllers: Vec<Option<Index>>,
    /// The original of each device that was accepted.
    devices: Vec<Original>,
}

impl Search<'_> {
    /// The hardware of a spec, if the format can express all of it.
    fn hardware(&self, spec: &Spec) -> Option<Resolved> {
        let capabilities = self.format.capabilities(self.guest);
        let resolved = resolve(&Hardware::new(), spec, &capabilities).ok()?;
        let is_hub = |at: &Address| {
            let device = resolved.hardware.device(*at);
            matches!(device, Some(Device { kind: Kind::Hub(_), .. }))
        };
        let adds_only_hubs = resolved.added_devices.iter().all(is_hub);
        if !adds_only_hubs || resolved.hardware.controllers().any(has_emulated_on_pv) {
            return None;
        }
        let written = self.format.write(self.guest, &resolved.hardware);
        let is_same = written.lost.is_empty() && (self.is_same)(&resolved.hardware, &written.text);
        is_same.then_some(resolved)
    }

    /// The hardware that has been accepted so far.
    fn resolved(&self) -> Option<&Resolved> {
        let resolved = &self.accepted.resolved;
        resolved.get_or_init(|| self.hardware(&self.accepted.spec)).as_ref()
    }

    fn accept(&mut self, spec: Spec, resolved: Resolved) {
        self.accepted = Accepted { spec, resolved: OnceCell::from(Some(resolved)) };
    }

    /// Adds the best candidate for a controller, with its devices. Returns the devices that have no
    /// place yet.
    fn add(&mut self, controller: &Controller, of: &Hardware) -> Result<Vec<Original>, Error> {
        let devices: Vec<Original> = (controller.devices())
            .map(|(port, device)| Original {
                at: Address { bus: controller.index, port },
                device: device.clone(),
            })
            .collect();
        let before = (self.accepted.clone(), self.controllers.len(), self.devices.len());
        let mut best: Option<(Accepted, Vec<Original>, Vec<Original>)> = None;
        for candidate in candidates(controller, of, self.format.boot_index()) {
            self.call.check()?;
            self.accepted = before.0.with_controller(candidate);
            self.controllers.push(Some(controller.index));
            if let Some(waiting) = self.place_all(&devices)? {
                if best.as_ref().is_none_or(|(.., best)| waiting.len() < best.len()) {
                    best = Some((self.accepted.clone(), self.devices.clone(), waiting));
                }
            }
            self.accepted = before.0.clone();
            self.controllers.truncate(before.1);
            self.devices.truncate(before.2);
            if best.as_ref().is_some_and(|(.., waiting)| waiting.is_empty()) {
                break;
            }
        }
        let Some((accepted, placed, waiting)) = best else { return Ok(devices) };
        self.accepted = accepted;
        self.devices = placed;
        self.controllers.push(Some(controller.index));
        Ok(waiting)
    }

    /// Places the devices of the last controller on it. Returns those that have no place. `None` if
    /// the format does not take the controller.
    fn place_all(&mut self, devices: &[Original]) -> Result<Option<Vec<Original>>, Error> {
        let mut spec = self.accepted.spec.clone();
        let Some(last) = spec.controllers.len().checked_sub(1) else { return Ok(None) };
        // Most of the time, all of them keep their ports. Some controllers exist only with devices.
        let index = spec.controllers.last().and_then(|it| it.index).map(ControllerRef::Index);
        spec.devices.extend(devices.iter().map(|it| DeviceSpec {
            controller: index.clone(),
            port: Some(it.at.port),
            ..DeviceSpec::new(it.device.kind.clone())
        }));
        if let Some(resolved) = self.hardware(&spec).filter(|it| it.added.is_empty()) {
            self.accept(spec, resolved);
            self.devices.extend(devices.iter().cloned());
            return Ok(Some(Vec::new()));
        }
        if self.resolved().is_none() {
            return Ok(None);
        }
        let mut waiting = Vec::new();
        for original in devices {
            let own = self.own_port(original);
            let ports = own.map(|port| Some((last, Some(port)))).into_iter();
            if !self.place(original, ports.chain([Some((last, None))]))? {
                waiting.push(original.clone());
            }
        }
        Ok(Some(waiting))
    }

    /// The port of a device on the controller that replaces its own. A device behind a hub follows
    /// the hub. `None` if that hub has no place yet, or if the device would be too deep.
    fn own_port(&self, original: &Original) -> Option<PortPath> {
        let Some(hub) = original.at.port.parent() else { return Some(original.at.port) };
        let hub = Address { bus: original.at.bus, port: hub };
        let number = self.devices.iter().position(|it| it.at == hub)?;
        let now = self.resolved()?.devices.get(number)?.address;
        below(original.at.port, hub.port, now.port)
    }

    /// Places a device at the first of these places that the format takes, as its own kind or as
    /// the nearest. A place is a controller of the spec and a port. Returns whether there is one.
    fn place(
        &mut self,
        original: &Original,
        places: impl Iterator<Item = Option<(usize, Option<PortPath>)>> + Clone,
    ) -> Result<bool, Error> {
        for kind in kinds(&original.device.kind) {
            for place in places.clone() {
                self.call.check()?;
                let mut spec = self.accepted.spec.clone();
                let request = self.requested(original, place);
                spec.devices.push(DeviceSpec { kind: kind.clone(), ..request });
                let resolved = self.hardware(&spec);
                let resolved = resolved.filter(|it| place.is_none() || it.added.is_empty());
                if let Some(resolved) = resolved {
                    self.accept(spec, resolved);
                    self.devices.push(original.clone());
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn requested(
        &self,
        original: &Original,
        place: Option<(usize, Option<PortPath>)>,
    ) -> DeviceSpec {
        let index = |number: usize| {
            Some(ControllerRef::Index(self.resolved()?.controllers.get(number)?.address))
        };
        DeviceSpec {
            controller: place.and_then(|(number, _)| index(number)),
            port: place.and_then(|(_, port)| port),
            ..DeviceSpec::new(original.device.kind.clone())
        }
    }

    /// Places a device that its own controller did not take on another one, or on one that is added
    /// for it. Returns why there is none.
    fn place_anywhere(&mut self, original: &Original) -> Result<Option<Inexpressible>, Error> {
        let count = self.accepted.spec.controllers.len();
        let there = (0..count).map(|number| Some((number, None)));
        if self.place(original, there.chain([None]))? {
            return Ok(None);
        }
        let before = self.accepted.clone();
        for candidate in added_controllers(self.format.boot_index()) {
            self.accepted = before.with_controller(candidate);
            self.controllers.push(None);
            if self.place(original, [Some((count, None))].into_iter())? {
                return Ok(None);
            }
            self.controllers.pop();
        }
        self.accepted = before;
        Ok(Some(self.why_not(original)))
    }

    /// Why the format cannot express a device: what it says about the device in a controller that
    /// it has.
    fn why_not(&self, original: &Original) -> Inexpressible {
        let Device { name, kind } = &original.device;
        let what = format!("{name} ({kind})");
        let said = self.resolved().and_then(|resolved| {
            let with_device_on = |bus: Index| {
                let mut hardware = resolved.hardware.clone();
                let ports = (1..=u8::MAX).filter_map(NonZeroU8::new).map(PortPath::root);
                let mut places = ports.map(|port| Address { bus, port });
                let plug = |at| hardware.plug(at, original.device.clone()).is_ok();
                places.any(plug).then_some(hardware)
            };
            let mut all = resolved.hardware.controllers().filter_map(|it| with_device_on(it.index));
            let lost = self.format.write(self.guest, &all.next()?).lost;
            lost.into_iter().find(|it| it.what.contains(name.as_str())).map(|it| it.why)
        });
        let why =
            said.unwrap_or_else(|| format!("no controller of {} takes it", self.format).into());
        Inexpressible { what, why }
    }

    fn finish(self, original: &Hardware, hubs: &[Original], lost: Vec<Inexpressible>) -> Nearest {
        let Some(resolved) = self.resolved() else {
            // Nothing was accepted.
            return Nearest { hardware: Hardware::new(), changes: Vec::new(), lost };
        };
        let hardware = resolved.hardware.clone();
        let mut changes = Vec::new();
        for controller in original.controllers() {
            let number = self.controllers.iter().position(|it| *it == Some(controller.index));
            let placed = number.and_then(|number| resolved.controllers.get(number));
            let now = placed.and_then(|it| hardware.controller(it.address));
            changes.extend(controller_change(controller, now));
        }
        for (placed, was) in resolved.controllers.iter().zip(&self.controllers) {
            if was.is_none() {
                changes.extend(
                    hardware
                        .controller(placed.address)
                        .map(|it| format!("the guest will also see {}", controller_text(it))),
                );
            }
        }
        changes.extend(hubs.iter().map(|it| {
            let port = port_text(original, it.at);
            format!(
                "{}: a hub at {port} today, which the guest will not see any more",
                it.device.name
            )
        }));
        let added = resolved.added.iter().filter_map(|index| hardware.controller(*index));
        changes.extend(added.map(|it| format!("the guest will also see {}", controller_text(it))));
        for at in &resolved.added_devices {
            let kind = hardware.device(*at).map(|it| it.kind.name()).unwrap_or_default();
            changes.push(format!(
                "the guest will also see {} {kind} at {}",
                article(kind),
                port_text(&hardware, *at)
            ));
        }
        let index_of = |bus: Index| {
            let number = self.controllers.iter().position(|it| *it == Some(bus))?;
            resolved.controllers.get(number).map(|it| it.address)
        };
        for (placed, was) in resolved.devices.iter().zip(&self.devices) {
            let Some(now) = hardware.device(placed.address) else { continue };
            let stays = index_of(was.at.bus) == Some(placed.address.bus)
                && was.at.port == placed.address.port;
            changes.extend(device_change(original, &hardware, was, (placed.address, now), stays));
        }
        Nearest { hardware, changes, lost }
    }
}

/// What can take the place of a controller of the hardware `of`, the nearest first. `boot_index` is
/// that of the new format.
fn candidates(
    controller: &Controller,
    of: &Hardware,
    boot_index: Option<Index>,
) -> Vec<ControllerSpec> {
    let exact = ControllerSpec::from(controller);
    // An index that counting from 0 does not reach may have a meaning in the original format, and
    // may not be valid in the new one. The guest does not see it.
    let is_counted = usize::from(controller.index.get()) < of.controllers().len();
    let keeps_index = is_counted || exact.index == boot_index;
    let renumbered = ControllerSpec { index: None, ..exact.clone() };
    let mut all: Vec<ControllerSpec> =
        (!keeps_index).then_some(renumbered).into_iter().chain([exact.clone()]).collect();
    let places = [(exact.index.filter(|_| keeps_index), exact.name.clone()), (None, None)];
    let places: Vec<_> = places.into_iter().chain(boot_index.map(|it| (Some(it), None))).collect();
    for model in by_distance(controller.model) {
        let range = model.port_range();
        let ports = controller.ports.count().clamp(*range.start(), *range.end());
        let companions = (model == Model::Ich9Ehci1).then(|| Companion::GROUP.to_vec());
        for ports in [Some(ports), None] {
            for (index, name) in places.clone() {
                let controller_type = Some(model.controller_type());
                let (model, companions) = (Some(model), companions.clone());
                let open = ControllerSpec::default();
                all.push(ControllerSpec {
                    index,
                    name,
                    controller_type,
                    model,
                    ports,
                    companions,
                    ..open
                });
            }
        }
    }
    all
}

/// Controllers that can be added for a device that no other controller takes.
fn added_controllers(boot_index: Option<Index>) -> impl Iterator<Item = ControllerSpec> {
    by_distance(Model::QemuXhci).into_iter().flat_map(move |model| {
        [None].into_iter().chain(boot_index.map(Some)).map(move |index| ControllerSpec {
            index,
            model: Some(model),
            ..ControllerSpec::default()
        })
    })
}

/// All models, the most similar first: the type, then the USB version (a newer one takes all
/// devices of an older one), then the kind of host controller.
fn by_distance(from: Model) -> Vec<Model> {
    let number = |version: UsbVersion| match version {
        UsbVersion::V1 => 1_u8,
        UsbVersion::V2 => 2,
        UsbVersion::V3 => 3,
    };
    let version = number(from.usbversion());
    let mut all = Model::ALL.to_vec();
    all.sort_by_key(|model| {
        let theirs = number(model.usbversion());
        (
            *model != from,
            model.controller_type() != from.controller_type(),
            if theirs >= version { theirs - version } else { 3 + version - theirs },
            model.is_xhci() != from.is_xhci(),
        )
    });
    all
}

/// The kinds that can take the place of a kind, the nearest first. Both pointing devices move a
/// pointer, and a hub is a hub with any number of ports. An input device may have another USB
/// version. All other kinds are irreplaceable.
fn kinds(kind: &Kind) -> Vec<Kind> {
    let versions = [UsbVersion::V1, UsbVersion::V2].map(|usbversion| Input { usbversion });
    let others = match kind {
        Kind::Tablet(_) => [versions.map(Kind::Tablet), versions.map(Kind::Mouse)].concat(),
        Kind::Mouse(_) => [versions.map(Kind::Mouse), versions.map(Kind::Tablet)].concat(),
        Kind::Keyboard(_) => versions.map(Kind::Keyboard).to_vec(),
        Kind::Hub(_) => (1..=HUB_PORTS).rev().map(|ports| Kind::Hub(Hub { ports })).collect(),
        _ => Vec::new(),
    };
    let others = others.into_iter().filter(|it| it != kind);
    [kind.clone()].into_iter().chain(others).collect()
}

/// How the guest sees a controller: `a qemu-xhci with 15 ports`.
fn controller_text(controller: &Controller) -> String {
    let Controller { model, ports, .. } = controller;
    let group = if controller.companions.is_empty() { "" } else { " and its companions" };
    format!("{} {model}{group} with {} ports", article(model.name()), ports.count())
}

fn controller_change(was: &Controller, now: Option<&Controller>) -> Option<String> {
    let name = &was.name;
    let Some(now) = now else {
        return Some(format!(
            "{name}: {}, which the guest will not see any more",
            controller_text(was)
        ));
    };
    if was.same_hardware(now) && (was.pci.is_none() || now.pci.is_some()) {
        return None;
    }
    if controller_text(was) != controller_text(now) {
        return Some(format!(
            "{name}: {} today, {} then",
            controller_text(was),
            controller_text(now)
        ));
    }
    let slot = |it: &Controller| match &it.pci {
        Some(pci) => format!("at PCI address {pci}"),
        None => "at a PCI address that the hypervisor chooses".to_owned(),
    };
    let (was, now) = (slot(was), slot(now));
    (was != now).then(|| format!("{name}: {was} today, {now} then"))
}

/// The change of a device that is at `at` in the new hardware, if it is another device or has
/// another port.
fn device_change(
    old: &Hardware,
    new: &Hardware,
    was: &Original,
    (at, now): (Address, &Device),
    stays: bool,
) -> Option<String> {
    let name = &was.device.name;
    let is_same = was.device.kind == now.kind;
    if is_same && stays {
        return None;
    }
    let what = |kind: &Kind| if is_same { String::new() } else { format!("{kind} ") };
    let (today, then) = (what(&was.device.kind), what(&now.kind));
    let (from, to) = (port_text(old, was.at), port_text(new, at));
    let (from, to) = (format!("{today}at {from}"), format!("{then}at {to}"));
    (from != to).then(|| format!("{name}: {from} today, {to} then"))
}

/// Where the guest sees a device: `port 2 of a qemu-xhci`.
fn port_text(hardware: &Hardware, at: Address) -> String {
    let model = hardware.controller(at.bus).map(|it| it.model.name()).unwrap_or_default();
    format!("port {} of {} {model}", at.port, article(model))
}

/// Whether an emulated device other than a hub is on a paravirtual controller. No protocol carries
/// one.
fn has_emulated_on_pv(controller: &Controller) -> bool {
    let is_emulated = |device: &Device| !matches!(device.kind, Kind::Host(_) | Kind::Hub(_));
    controller.model.controller_type() == ControllerType::Pv
        && controller.devices().any(|(_, device)| is_emulated(device))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use vusb_formats::Formats;
    use vusb_host::Host;
    use vusb_model::device::HostRef;
    use vusb_model::digest::digest;

    use super::*;
    use crate::context::Context;
    use crate::options::Options;
    use crate::state::StateDir;

    const MODELS: [Model; 6] = [
        Model::QemuXhci,
        Model::NecXhci,
        Model::Ehci,
        Model::Piix3Uhci,
        Model::Ich9Ehci1,
        Model::Xenusb2,
    ];
    const KINDS: [&str; 6] = ["tablet", "mouse", "keyboard", "0781:5581", "1209:0001", "hub"];

    /// Some controllers, with devices at the ports that take them.
    fn hardware() -> impl Strategy<Value = Hardware> {
        let devices = proptest::collection::vec((0..3_usize, 0..KINDS.len(), 1..9_u8), 0..6);
        let models = proptest::sample::subsequence(MODELS.to_vec(), 1..=3);
        (models, devices).prop_map(|(models, devices)| {
            let controllers = models.into_iter().map(|model| {
                let companions = (model == Model::Ich9Ehci1).then(|| Companion::GROUP.to_vec());
                ControllerSpec { model: Some(model), companions, ..ControllerSpec::default() }
            });
            let spec = Spec { controllers: controllers.collect(), ..Spec::default() };
            let everything = vusb_model::capabilities::Capabilities::everything();
            let mut hardware = resolve(&Hardware::new(), &spec, &everything).unwrap().hardware;
            for (number, (bus, kind, port)) in devices.into_iter().enumerate() {
                let device = Device {
                    name: format!("device{number}").parse().unwrap(),
                    kind: KINDS[kind].parse().unwrap(),
                };
                let bus = Index::new(u16::try_from(bus).unwrap()).unwrap();
                let port = PortPath::root(NonZeroU8::new(port).unwrap());
                let mut with = hardware.clone();
                // Two of them may be the same device, which no host can give twice.
                let twice =
                    |it: &Device| matches!(it.kind, Kind::Host(_)) && it.kind == device.kind;
                if !with.devices().any(|(_, it)| twice(it))
                    && with.plug(Address { bus, port }, device).is_ok()
                    && !with.controllers().any(has_emulated_on_pv)
                {
                    hardware = with;
                }
            }
            hardware
        })
    }

    fn is_same(format: &Format, hardware: &Hardware, text: &str) -> bool {
        let Ok(config) = format.read(text, "text") else { return false };
        let capabilities = format.capabilities(&config.guest);
        let again = resolve(&Hardware::new(), &config.spec, &capabilities);
        again.is_ok_and(|it| digest(&it.hardware) == digest(hardware))
    }

    /// The context of a machine that has nothing.
    fn context() -> Context {
        let nowhere = std::path::Path::new("/nonexistent");
        Context::with_builtin_drivers(StateDir::new(nowhere), Host::new(nowhere))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_device_arrives_or_is_listed(hardware in hardware(), pv in any::<bool>()) {
            let (context, options) = (context(), Options::default());
            let call = Call::new(&context, &options);
            for format in ["libvirt", "xl", "vmx", "vbox", "vusb"] {
                let format = Formats::builtin().named(format).unwrap();
                let hypervisors = format.hypervisors();
                let to = if pv { hypervisors[hypervisors.len() - 1] } else { hypervisors[0] };
                let guest = moved(&Guest::default(), to);
                let is_same = |hardware: &Hardware, text: &str| is_same(&format, hardware, text);
                let found = nearest(&call, &hardware, &guest, &format, &is_same).unwrap();
                let hosts = |it: &Hardware| -> Vec<HostRef> {
                    let all = it.devices().filter_map(|(_, device)| match &device.kind {
                        Kind::Host(host) => Some(host.clone()),
                        _ => None,
                    });
                    let mut all: Vec<HostRef> = all.collect();
                    all.sort_by_key(|it| it.selector.to_string());
                    all
                };
                let not_hubs = |it: &Hardware| {
                    it.devices().filter(|(_, it)| !matches!(it.kind, Kind::Hub(_))).count()
                };
                prop_assert_eq!(not_hubs(&found.hardware) + found.lost.len(), not_hubs(&hardware), "{}: {:?}", format, found);
                if found.lost.is_empty() {
                    prop_assert_eq!(hosts(&found.hardware), hosts(&hardware));
                }
                // The result needs no further change.
                if found.hardware.controllers().len() > 0 {
                    let written = format.write(&guest, &found.hardware);
                    prop_assert_eq!(&written.lost, &vec![]);
                    prop_assert!(is_same(&found.hardware, &written.text));
                }
            }
        }
    }

    /// Hardware with this many controllers, each with one device.
    fn large(controllers: u16) -> Hardware {
        let mut hardware = Hardware::new();
        let spec = Spec {
            controllers: vec![ControllerSpec { model: Some(Model::Xenusb2), ..Default::default() }],
            devices: vec![DeviceSpec::new("0781:5581".parse().unwrap())],
            ..Spec::default()
        };
        let everything = vusb_model::capabilities::Capabilities::everything();
        let first = resolve(&Hardware::new(), &spec, &everything).unwrap().hardware;
        let first = first.controllers().next().unwrap();
        for number in 0..controllers {
            let mut controller = first.without_devices();
            controller.index = Index::new(number).unwrap();
            controller.name = format!("hci{number}").parse().unwrap();
            hardware.add_controller(controller).unwrap();
            let (port, _) = first.devices().next().unwrap();
            let device = Device {
                name: format!("device{number}").parse().unwrap(),
                kind: format!("0781:{number:04x}").parse().unwrap(),
            };
            hardware.plug(Address { bus: Index::new(number).unwrap(), port }, device).unwrap();
        }
        hardware
    }

    /// Whether the search for this hardware in libvirt's format ends with a result.
    fn search(hardware: &Hardware, options: &Options, tried: &dyn Fn()) -> Result<Nearest, Error> {
        let format = Formats::builtin().named("libvirt").unwrap();
        let guest = moved(&Guest::default(), Hypervisor::Qemu);
        let is_same = |hardware: &Hardware, text: &str| {
            tried();
            is_same(&format, hardware, text)
        };
        let context = context();
        nearest(&Call::new(&context, options), hardware, &guest, &format, &is_same)
    }

    #[test]
    fn a_search_ends_when_it_is_cancelled_or_its_deadline_has_passed() {
        let hardware = large(20);
        let late = Options { deadline: Some(Instant::now()), ..Options::default() };
        let error = search(&hardware, &late, &|| ()).unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded), "{error}");
        // It is cancelled while it tries the first hardware, and tries no other.
        let options = Options::default();
        let count = std::cell::Cell::new(0);
        let cancel = || {
            count.set(count.get() + 1);
            options.cancel.cancel();
        };
        let error = search(&hardware, &options, &cancel).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(count.get(), 1);
        search(&large(3), &Options::default(), &|| ()).unwrap();
    }

    #[test]
    fn no_search_begins_for_absurdly_many_devices() {
        let error = search(&large(501), &Options::default(), &|| unreachable!()).unwrap_err();
        assert!(error.to_string().contains("1002 controllers and devices"), "{error}");
        assert!(error.to_string().contains("up to 1000"), "{error}");
    }

    #[test]
    fn models_of_the_same_type_and_version_are_the_nearest() {
        let near = |model| by_distance(model)[..3].to_vec();
        assert_eq!(near(Model::QemuXhci), [Model::QemuXhci, Model::NecXhci, Model::Ehci]);
        assert_eq!(near(Model::Xenusb2), [Model::Xenusb2, Model::Xenusb3, Model::Xenusb1]);
        assert_eq!(near(Model::Ehci)[..2], [Model::Ehci, Model::Ich9Ehci1]);
    }
}
