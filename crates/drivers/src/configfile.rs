//! A guest that does not run, by its configuration: a file of libvirt's, of xl's, of VMware's, or a spec.
//!
//! ```text
//!   file ──read──▶ text ──▶ Config ──resolve by the format's own profile──▶ hardware            observe
//!   steps ──▶ wanted = hardware with the steps
//!         ──▶ edits ──▶ new text ──read and resolve again──▶ the hardware that is wanted?        perform_all
//!                ▲                                              │ no: say where things are that the
//!                └───────── pins ◀──────────────────────────────┘     text leaves open, and try again
//!         ──▶ the file is replaced, if it is still the one that was read
//! ```
//!
//! All steps are one edit: the file is the old one or the new one, never between. A text is never trusted to mean what it was meant to:
//! what the tool would make of the new text is found out before it is written. A new device may move others that the text leaves
//! open; those are pinned where they were, and nothing else of the text changes.

mod file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vusb_formats::config::{Config, Edit, Unsayable};
use vusb_formats::{Format, FormatError};
use vusb_model::address::{Address, Index, PortPath};
use vusb_model::capabilities::{Capabilities, Support};
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model};
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::selector::Selector;
use vusb_model::spec::Spec;

use crate::driver::{DeviceState, Driver, Error, Observed};

/// What is known of a host device that a file names.
pub type Known = Box<dyn Fn(&Selector) -> Option<HostRef>>;

/// A configuration, by its file.
pub struct ConfigFile {
    path: PathBuf,
    format: Format,
    known: Known,
    seen: Option<Seen>,
    /// The text that was found last for what was read, and the steps that it takes.
    found: Option<(Vec<Step>, String)>,
}

/// What was read.
struct Seen {
    text: String,
    config: Config,
    resolved: Resolved,
}

impl ConfigFile {
    /// The configuration at `path`. `known` says what is known of a host device: its speeds, by which this project's own profile
    /// places it. What other tools make of a file does not depend on what is plugged in.
    pub fn at(path: &Path, format: Format, known: Known) -> ConfigFile {
        ConfigFile { path: path.to_owned(), format, known, seen: None, found: None }
    }

    fn origin(&self) -> String {
        self.path.display().to_string()
    }

    /// What the format's own tool makes of a text.
    fn understand(&self, text: String) -> Result<Seen, Error> {
        let config = self.format.read(&text, &self.origin()).map_err(|it| unreadable(&it))?;
        let spec = if config.spec.profile == Profile::Vusb1 {
            with_what_is_known(config.spec.clone(), &self.known)
        } else {
            config.spec.clone()
        };
        let capabilities = capabilities(self.format, &config.guest);
        let resolved = resolve(&Hardware::new(), &spec, &capabilities).map_err(|refused| {
            let shown = config.show(&refused, &text, &self.origin());
            let message = shown.map_or_else(
                || format!("{}: {refused}", self.path.display()),
                |shown| shown.to_string(),
            );
            Error::Text { message, category: Some(refused.category()) }
        })?;
        Ok(Seen { text, config, resolved })
    }

    fn seen(&self) -> Result<&Seen, Error> {
        self.seen.as_ref().ok_or_else(|| Error::Confused {
            domain: self.origin(),
            why: "it was not read yet".to_owned(),
        })
    }

    /// The new text that says the hardware with these steps taken. A hub that is there because of what was behind it alone goes with the
    /// last of that, if the format has no words to keep it by.
    fn rewritten(&self, steps: &[Step]) -> Result<String, Error> {
        let seen = self.seen()?;
        let mut wanted = seen.resolved.hardware.clone();
        for step in steps {
            step.apply(&mut wanted).map_err(|refusal| self.failed(refusal.to_string()))?;
        }
        self.saying(steps, &wanted).or_else(|error| {
            let bare = seen.without_idle_hubs(&wanted);
            if same(&bare, &wanted, self.format) {
                return Err(error);
            }
            self.saying(steps, &bare).map_err(|_| error)
        })
    }

    /// The new text that says what is `wanted`: the first that does, of those that say more and more of what is there already.
    fn saying(&self, steps: &[Step], wanted: &Hardware) -> Result<String, Error> {
        let seen = self.seen()?;
        let asked = seen.edits(steps);
        let mut tried = self.edited(seen, &asked);
        for more in More::ALL {
            let found = match &tried {
                Ok(after) if same(&after.resolved.hardware, wanted, self.format) => break,
                Ok(after) => after.resolved.hardware.clone(),
                Err(_) => Hardware::new(),
            };
            let edits: Vec<Edit<'_>> =
                asked.iter().cloned().chain(seen.more(more, &found, wanted)).collect();
            // What cannot be understood is only told if nothing can.
            tried = self.edited(seen, &edits).or(tried);
        }
        let after = tried?;
        if same(&after.resolved.hardware, wanted, self.format) {
            return Ok(after.text);
        }
        Err(self.unsayable(&seen.unsaid_removal(steps, &after.resolved.hardware).unwrap_or_else(|| {
            let what = difference(&after.resolved.hardware, wanted);
            let why = "the format has no words for it that its own tool would understand so; nothing was changed";
            Unsayable { what, why: why.to_owned() }
        })))
    }

    fn edited(&self, seen: &Seen, edits: &[Edit<'_>]) -> Result<Seen, Error> {
        let text = self.format.edit(&seen.text, edits).map_err(|it| self.unsayable(&it))?;
        self.understand(text)
    }

    fn unsayable(&self, it: &Unsayable) -> Error {
        let by = format!("the format {}", self.format);
        Error::NotImplemented { what: it.what.clone(), by, why: it.why.clone() }
    }

    fn failed(&self, why: String) -> Error {
        Error::Failed { what: format!("editing {}", self.path.display()), why }
    }
}

impl Driver for ConfigFile {
    fn observe(&mut self, _recorded: &Hardware) -> Result<Observed, Error> {
        let seen = self.understand(file::read(&self.path)?)?;
        let hardware = seen.resolved.hardware.clone();
        let controllers = hardware.controllers().map(|it| it.name.clone());
        let devices = hardware.devices().map(|(_, it)| it.name.clone());
        let observed = Observed {
            ours: controllers.chain(devices).collect::<BTreeSet<Name>>(),
            states: hardware.devices().map(|(at, _)| (at, DeviceState::Configured)).collect(),
            notes: seen.notes(),
            hardware,
            ..Observed::default()
        };
        (self.seen, self.found) = (Some(seen), None);
        Ok(observed)
    }

    fn capabilities(&mut self, _needed: Option<&Spec>) -> Result<Capabilities, Error> {
        Ok(capabilities(self.format, &self.seen()?.config.guest))
    }

    /// Finds the new text, and does not write it.
    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        self.found = Some((steps.to_vec(), self.rewritten(steps)?));
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        self.write(std::slice::from_ref(step))
    }

    fn perform_all(&mut self, steps: &[Step]) -> Option<Result<(), Error>> {
        Some(self.write(steps))
    }

    fn profile(&self) -> Option<Profile> {
        self.seen.as_ref().map(|seen| seen.config.spec.profile)
    }

    fn called(&self) -> Option<String> {
        self.seen.as_ref()?.config.guest.name.clone()
    }
}

impl ConfigFile {
    fn write(&mut self, steps: &[Step]) -> Result<(), Error> {
        let new = match self.found.take() {
            Some((found, text)) if found == steps => text,
            _ => self.rewritten(steps)?,
        };
        file::replace(&self.path, &self.seen()?.text, &new)
    }
}

/// What can be said, beyond the steps, of what is there already: each says what the one before it says, and more.
#[derive(Clone, Copy)]
enum More {
    /// The controllers and hubs that the text leaves to its tool.
    Unsaid,
    /// Where those things are that would move otherwise.
    Moved,
    /// Where everything is.
    Everything,
    /// That there is to be nothing, where nothing is wanted.
    Nothing,
}

impl More {
    const ALL: [More; 4] = [More::Unsaid, More::Moved, More::Everything, More::Nothing];
}

impl Seen {
    /// Edits that say more of what is there already. `after` is what would become of it without.
    fn more<'a>(&self, more: More, after: &Hardware, wanted: &'a Hardware) -> Vec<Edit<'a>> {
        let mut edits = self.unsaid(wanted);
        match more {
            More::Unsaid => {}
            More::Moved => edits.extend(self.pins(after, wanted)),
            More::Everything | More::Nothing => edits.extend(self.pins(&Hardware::new(), wanted)),
        }
        let nothing = matches!(more, More::Nothing) && wanted.controllers().len() == 0;
        edits.extend(nothing.then_some(Edit::NoUsb));
        edits
    }

    /// The edits that the steps are, on what the text says. What it does not mention needs none to go: its tool has to leave it out.
    fn edits<'a>(&self, steps: &'a [Step]) -> Vec<Edit<'a>> {
        let mut edits = Vec::new();
        for step in steps {
            match step {
                Step::AddController(it) => edits.push(Edit::AddController(it)),
                Step::Plug(at, device) => edits.push(Edit::AddDevice(*at, device)),
                Step::RemoveController(it) => {
                    edits.extend(self.controllers_at(it.index).map(Edit::RemoveController));
                }
                Step::Unplug(at, _) => {
                    edits.extend(self.device_at(*at).map(Edit::RemoveDevice));
                }
            }
        }
        edits
    }

    /// The first that is to go and is there all the same, in what is `found`, for its tool adds it.
    fn unsaid_removal(&self, steps: &[Step], found: &Hardware) -> Option<Unsayable> {
        steps.iter().find_map(|step| match step {
            Step::Unplug(at, device) if self.device_at(*at).is_none() => {
                found.device(*at).filter(|there| there.kind == device.kind)?;
                let why = "the file does not mention it: its tool adds it by itself, for there are more devices than ports";
                Some(Unsayable { what: format!("taking {} away", device.name), why: why.to_owned() })
            }
            _ => None,
        })
    }

    /// What is `wanted` without the hubs that the text does not mention and that have nothing behind them.
    fn without_idle_hubs(&self, wanted: &Hardware) -> Hardware {
        let mut bare = wanted.clone();
        let unsaid = |(at, device): &(Address, &Device)| {
            device.kind.hub_ports() > 0 && self.device_at(*at).is_none()
        };
        let hubs: Vec<Address> = wanted.devices().filter(unsaid).map(|(at, _)| at).collect();
        // What is behind a hub comes after it.
        for hub in hubs.into_iter().rev() {
            let behind =
                |(at, _): (Address, _)| at.bus == hub.bus && at.port.parent() == Some(hub.port);
            if !bare.devices().any(behind) {
                bare.unplug(hub);
            }
        }
        bare
    }

    /// Which parts of the text the controller at `index` is: one, and one for each companion where the format says those apart.
    fn controllers_at(&self, index: Index) -> impl Iterator<Item = usize> {
        let settled = self.resolved.controllers.iter().enumerate();
        settled.filter(move |(_, it)| it.at == index).map(|(number, _)| number)
    }

    fn device_at(&self, at: Address) -> Option<usize> {
        self.resolved.devices.iter().position(|it| it.at == at)
    }

    /// The controllers and hubs that the text leaves to its tool.
    fn unsaid<'a>(&self, wanted: &'a Hardware) -> Vec<Edit<'a>> {
        let before = &self.resolved.hardware;
        let controllers = wanted.controllers().filter(|it| {
            let there = before.controller(it.index).is_some();
            there && self.controllers_at(it.index).next().is_none()
        });
        let devices = wanted
            .devices()
            .filter(|(at, _)| before.device(*at).is_some() && self.device_at(*at).is_none());
        let devices = devices.map(|(at, device)| Edit::AddDevice(at, device));
        controllers.map(Edit::AddController).chain(devices).collect()
    }

    /// What has to be said of what is there already, so that it stays as it is `wanted` and does not become as it is in `after`.
    fn pins<'a>(&self, after: &Hardware, wanted: &'a Hardware) -> Vec<Edit<'a>> {
        let controllers = wanted
            .controllers()
            .filter(|it| !after.controller(it.index).is_some_and(|after| after.same_hardware(it)));
        let controllers = controllers.flat_map(|it| {
            self.controllers_at(it.index).map(move |number| Edit::PinController(number, it))
        });
        let devices = wanted.devices().filter(|(at, device)| {
            after.device(*at).is_none_or(|after| !is(&after.kind, &device.kind))
        });
        let devices = devices.filter_map(|(at, _)| Some(Edit::PinDevice(self.device_at(at)?, at)));
        controllers.chain(devices).collect()
    }

    fn notes(&self) -> Vec<String> {
        let warnings = self.config.warnings.iter().map(|it| it.brief().to_owned());
        let remarks = self.config.devices.iter().zip(&self.resolved.devices);
        let remarks = remarks.filter(|(place, _)| !place.remarks.is_empty()).filter_map(
            |(place, settled)| {
                let name = &self.resolved.hardware.device(settled.at)?.name;
                Some(format!("{name}: {}", place.remarks.join("; ")))
            },
        );
        warnings.chain(remarks).collect()
    }
}

/// Whether both are the same to the guest, and in the same order, as far as the format decides on it: names and indexes are nothing that
/// the guest sees.
fn same(found: &Hardware, wanted: &Hardware, format: Format) -> bool {
    let devices = |found: &Controller, wanted: &Controller| {
        let (found, wanted) = (placed(found, format), placed(wanted, format));
        let mut all = found.iter().zip(&wanted);
        found.len() == wanted.len()
            && all.all(|((at, found), (port, wanted))| at == port && is(found, wanted))
    };
    found.controllers().len() == wanted.controllers().len()
        && found.controllers().zip(wanted.controllers()).all(|(found, wanted)| {
            found.model == wanted.model
                && found.ports == wanted.ports
                && found.companions == wanted.companions
                && found.backend == wanted.backend
                && devices(found, wanted)
        })
}

/// What is on a controller, each with its port where the format says it; what has none comes first, in one order.
fn placed(controller: &Controller, format: Format) -> Vec<(Option<PortPath>, &Kind)> {
    let said = |port: PortPath, kind: &Kind| Some(port).filter(|_| format.has_ports_for(kind));
    let devices = controller.devices();
    let mut devices: Vec<_> =
        devices.map(|(port, device)| (said(port, &device.kind), &device.kind)).collect();
    devices.sort_by_cached_key(|(port, kind)| (*port, port.is_none().then(|| kind.to_string())));
    devices
}

/// Whether a device is the one that is wanted. A format that names host devices otherwise than it was asked to (xl by address alone)
/// means the same one if that is where it is plugged in.
fn is(found: &Kind, wanted: &Kind) -> bool {
    match (found, wanted) {
        (Kind::Host(found), Kind::Host(wanted)) => {
            found == wanted
                || matches!((&found.selector, wanted.at), (Selector::Address(at), Some(now)) if *at == now)
        }
        _ => found == wanted,
    }
}

/// What is first found to be otherwise than it is wanted.
pub fn difference(found: &Hardware, wanted: &Hardware) -> String {
    let missing = wanted
        .devices()
        .find(|(at, it)| found.device(*at).is_none_or(|found| !is(&found.kind, &it.kind)));
    if let Some((at, device)) = missing {
        return format!("{} at {}", device.name, wanted.place(at));
    }
    let controller = wanted
        .controllers()
        .find(|it| !found.controller(it.index).is_some_and(|found| found.same_hardware(it)));
    if let Some(controller) = controller {
        return controller.describe();
    }
    let more = found.controllers().find(|it| wanted.controller(it.index).is_none());
    more.map_or_else(
        || "a guest without what was taken away".to_owned(),
        |it| format!("a guest without {}", it.describe()),
    )
}

fn unreadable(error: &FormatError) -> Error {
    Error::Text { message: error.to_string(), category: None }
}

/// The spec with what is known of its host devices.
fn with_what_is_known(mut spec: Spec, known: &Known) -> Spec {
    for device in &mut spec.devices {
        if let Kind::Host(host) = &device.kind
            && let Some(reference) = known(&host.selector)
        {
            device.kind = Kind::Host(reference);
        }
    }
    spec
}

/// What a guest of this format can have. Its own tool is not asked: the file may be for another machine.
pub fn capabilities(format: Format, guest: &Guest) -> Capabilities {
    let emulated = match (guest.hypervisor, guest.virtualization) {
        (Hypervisor::Xen, Virtualization::Pv | Virtualization::Pvh) => {
            Err("a guest of this type has no emulated controllers")
        }
        _ => Ok(()),
    };
    let pv = match (format, guest.hypervisor) {
        (Format::Vusb, _) | (_, Hypervisor::Xen) => Ok(()),
        (_, Hypervisor::Qemu) => Err("QEMU has no paravirtual USB"),
        (_, Hypervisor::Vmware) => Err("VMware has no paravirtual USB"),
    };
    let support = |model: Model| {
        let can = match model.controller_type() {
            ControllerType::Emulated => emulated,
            ControllerType::Pv => pv,
        };
        can.map_or_else(|why| Support::No { why: why.to_owned() }, |()| Support::Hot)
    };
    let default_type = match emulated {
        Ok(()) => ControllerType::Emulated,
        Err(_) => ControllerType::Pv,
    };
    Capabilities {
        hypervisor: who(format, guest).to_owned(),
        default_type,
        running: false,
        models: Model::ALL.into_iter().map(|model| (model, support(model))).collect(),
        guest: guest.clone(),
        ..Capabilities::everything()
    }
}

fn who(format: Format, guest: &Guest) -> &'static str {
    match (format, guest.hypervisor) {
        (Format::Vusb, _) => "any hypervisor",
        (Format::Libvirt, Hypervisor::Xen) => "libvirt on Xen",
        (Format::Libvirt, _) => "libvirt on QEMU",
        (Format::Xl | Format::Json, _) => "xl",
        (Format::Vmx, _) => "VMware",
    }
}
