//! Conversion to another format, in which the guest has the same hardware or the nearest that the
//! format can express; and the arguments that start a guest.
//!
//! ```text
//!   config ─▶ hardware ─▶ new text ─▶ parsed again ─▶ hardware: the same digest?
//!                            └─▶ what it cannot express     └─▶ what it expresses differently
//! ```
//!
//! The new text is not trusted: it is parsed and resolved by the rules of its own tool.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use vusb_drivers::configfile;
use vusb_drivers::{Start, StartOptions};
use vusb_formats::Format;
use vusb_formats::config::Inexpressible;
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::diff;
use vusb_model::digest::digest;
use vusb_model::guest::{Guest, Hypervisor};
use vusb_model::hardware::Hardware;
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::selector::Selector;

use crate::apply::{absent, resolve_as_written, resolve_start};
use crate::availability::{self, Obstacle};
use crate::call::Call;
use crate::error::Error;
use crate::guest_config::GuestConfig;
use crate::host_devices::HostDevices;
use crate::nearest;
use crate::note::{self, Note};
use crate::speeds;
use crate::view::API;

/// The arguments with which a hypervisor starts a guest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartArguments {
    /// The arguments, unquoted.
    pub arguments: Vec<String>,
    /// Warnings about the config, the host devices that were left out, the devices that run more
    /// slowly than they could, and what is not free although the caller insists.
    pub notes: Vec<Note>,
}

/// A configuration in another format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Converted {
    /// The version of the JSON layout.
    pub api: u32,
    /// The name of the format.
    pub format: String,
    /// The text.
    pub text: String,
    /// What it does not express, each a sentence.
    pub lost: Vec<String>,
    /// What the guest sees differently, each a sentence: the nearest hardware replaced what the
    /// format cannot express.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What the caller can do about what is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
    /// Warnings about the original text, and what is not free at the moment.
    #[serde(with = "note::with_text")]
    pub notes: Vec<Note>,
}

impl Converted {
    /// The text, if it expresses everything.
    ///
    /// # Errors
    /// [`Error::Lossy`] otherwise.
    pub fn lossless(self) -> Result<String, Error> {
        if self.lost.is_empty() {
            return Ok(self.text);
        }
        let mut remedies = self.remedies;
        remedies.push(Remedy::AcceptLoss);
        Err(Error::Lossy { to: self.format, lost: self.lost, remedies })
    }
}

/// What a configuration is converted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionTarget {
    /// The format.
    pub format: Format,
    /// The hypervisor that the guest moves to. With `None` it keeps its own; with `nearest`, it
    /// moves to the format's first hypervisor if the format does not have its own.
    pub hypervisor: Option<Hypervisor>,
    /// Whether the nearest hardware replaces what the format cannot express. Refused for more than
    /// 1000 controllers and devices.
    pub nearest: bool,
}

impl From<Format> for ConversionTarget {
    /// The same hardware on the same hypervisor.
    fn from(format: Format) -> ConversionTarget {
        ConversionTarget { format, hypervisor: None, nearest: false }
    }
}

impl ConversionTarget {
    /// The guest on its new hypervisor.
    fn guest(&self, guest: &Guest) -> Result<Guest, Error> {
        let known = self.format.hypervisors();
        let is_known = |it: &Hypervisor| known.contains(it);
        let to = match self.hypervisor {
            Some(to) if !is_known(&to) => {
                let all: Vec<String> = known.iter().map(ToString::to_string).collect();
                let problem = format!(
                    "the format {} is for {}, not for {to}",
                    self.format,
                    all.join(" and ")
                );
                return Err(Error::Usage { problem, advice: None, remedies: Vec::new() });
            }
            Some(to) => to,
            None if self.nearest && !is_known(&guest.hypervisor) => {
                known.first().copied().unwrap_or(guest.hypervisor)
            }
            None => guest.hypervisor,
        };
        Ok(nearest::moved(guest, to))
    }
}

pub(crate) fn convert(
    call: &Call<'_>,
    config: &GuestConfig,
    target: &ConversionTarget,
) -> Result<Converted, Error> {
    let to = &target.format;
    let guest = target.guest(config.guest())?;
    let host_devices = HostDevices::new(call, None);
    let resolved = resolve_as_written(call, config, &host_devices)?;
    let obstacles = availability::obstacles(call, config, &host_devices, &resolved.hardware)?;
    let warnings = config.warnings().map(|message| Note::Other { message });
    let notes = warnings.chain(obstacles.into_iter().map(Obstacle::into_note)).collect();
    let mut converted =
        Converted { api: API, format: to.to_string(), notes, ..Converted::default() };
    if config.is_text_of(to) && guest == *config.guest() {
        config.text().clone_into(&mut converted.text);
        return Ok(converted);
    }
    let (mut hardware, unknown) = without_unknown(&resolved, config);
    let mut written = to.write(&guest, &hardware);
    let is_same = |hardware: &Hardware, text: &str| {
        difference(to, &read_again(&host_devices, to, text, hardware), hardware).is_none()
    };
    if target.nearest && !(written.lost.is_empty() && is_same(&hardware, &written.text)) {
        let nearest = nearest::nearest(call, &hardware, &guest, to, &is_same)?;
        written = to.write(&guest, &nearest.hardware);
        written.lost.extend(nearest.lost);
        hardware = nearest.hardware;
        converted.changes = nearest.changes;
    }
    let settings = lost_settings(&resolved, config, to);
    let lost: Vec<Inexpressible> =
        written.lost.into_iter().chain(unknown).chain(settings).collect();
    for remedy in lost.iter().flat_map(|it| it.why.remedies.iter()) {
        if !converted.remedies.contains(remedy) {
            converted.remedies.push(remedy.clone());
        }
    }
    converted.lost = by_reason(lost);
    let again = read_again(&host_devices, to, &written.text, &hardware);
    if converted.lost.is_empty() {
        converted.lost.extend(difference(to, &again, &hardware));
    }
    if !converted.lost.is_empty() && !target.nearest {
        converted.remedies.push(Remedy::ConvertToNearest);
    }
    converted.lost.extend(lost_host_settings(to, again.ok().as_ref(), &hardware));
    converted.text = written.text;
    Ok(converted)
}

/// The hardware without the devices that the model has no kind for: another tool could not add
/// them. Each is lost for the reason that its config gives.
fn without_unknown(resolved: &Resolved, config: &GuestConfig) -> (Hardware, Vec<Inexpressible>) {
    let mut hardware = resolved.hardware.clone();
    let mut lost = Vec::new();
    for (at, device) in resolved.hardware.devices() {
        let Kind::Other(other) = &device.kind else { continue };
        hardware.unplug(at);
        let sources = resolved.devices.iter().zip(&config.config().devices);
        let mut remarks = sources.filter(|(placed, _)| placed.address == at);
        let remarks = remarks.next().map(|(_, source)| source.remarks.join("; "));
        let why = remarks.filter(|remarks| !remarks.is_empty());
        let why = why.unwrap_or_else(|| "only its type is known".to_owned());
        let what = format!("{} ({})", device.name, other.driver);
        lost.push(Inexpressible { what, why: why.into() });
    }
    (hardware, lost)
}

/// The settings of the config's own tool that the model does not have, so that no other format can
/// express them.
fn lost_settings(resolved: &Resolved, config: &GuestConfig, to: &Format) -> Vec<Inexpressible> {
    let mut lost = Vec::new();
    for (placed, source) in resolved.devices.iter().zip(&config.config().devices) {
        let Some(device) = resolved.hardware.device(placed.address) else { continue };
        lost.extend(source.settings.iter().map(|setting| Inexpressible {
            what: format!("{setting} of {}", device.name),
            why: format!("{to} has no such setting").into(),
        }));
    }
    lost
}

/// One sentence for each reason, with everything that is lost because of it.
fn by_reason(lost: Vec<Inexpressible>) -> Vec<String> {
    let mut reasons: Vec<(Reason, Vec<String>)> = Vec::new();
    for Inexpressible { what, why } in lost {
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, all)) => all.push(what),
            None => reasons.push((why, vec![what])),
        }
    }
    reasons.into_iter().map(|(why, what)| format!("{}: {why}", what.join(", "))).collect()
}

/// The hardware of the new text. `Err` says why it has none.
fn read_again(
    host_devices: &HostDevices<'_>,
    format: &Format,
    text: &str,
    hardware: &Hardware,
) -> Result<Hardware, String> {
    let name = new_text(format);
    let config = format.read(text, &name);
    let config = config.map_err(|error| format!("{name} cannot be parsed: {}", error.brief()))?;
    let capabilities = format.capabilities(&config.guest);
    let again = resolve(&Hardware::new(), &config.spec, &capabilities);
    let again = again.map_err(|refused| format!("{name} is refused: {refused}"))?;
    Ok(with_selectors_of(hardware, again.hardware, host_devices))
}

fn new_text(format: &Format) -> String {
    format!("the new {format} text")
}

/// How the hardware of the new text differs from the original; `None` if the guest cannot tell.
fn difference(
    format: &Format,
    again: &Result<Hardware, String>,
    hardware: &Hardware,
) -> Option<String> {
    let again = match again {
        Ok(again) => again,
        Err(why) => return Some(why.clone()),
    };
    let is_different = digest(again) != digest(hardware);
    let what = is_different.then(|| configfile::difference(again, hardware))?;
    Some(format!("{what}: {} expresses it differently", new_text(format)))
}

/// The settings of host devices that the new text lacks. The guest does not see them, but vusb acts
/// on them.
fn lost_host_settings(
    format: &Format,
    again: Option<&Hardware>,
    hardware: &Hardware,
) -> Vec<String> {
    let mut lost = Vec::new();
    for (at, device) in hardware.devices() {
        let Kind::Host(host) = &device.kind else { continue };
        let new = match again.and_then(|it| it.device(at)).map(|it| &it.kind) {
            Some(Kind::Host(new)) => Some(new),
            _ => None,
        };
        let mut settings = Vec::new();
        if !host.also.is_empty() && new.map(|it| &it.also) != Some(&host.also) {
            settings.push("the ids in `also`");
        }
        if host.required && !new.is_some_and(|it| it.required) {
            settings.push("`required`");
        }
        let lost_one =
            |it| format!("{it} of {}: the format {format} has no such setting", device.name);
        lost.extend(settings.into_iter().map(lost_one));
    }
    lost
}

/// `again`, with the selectors of `hardware` for the same devices: another format may select a
/// device by its address although it was selected by its ids.
fn with_selectors_of(
    hardware: &Hardware,
    again: Hardware,
    host_devices: &HostDevices<'_>,
) -> Hardware {
    let device = |selector: &Selector| host_devices.find(selector, &None).ok().flatten();
    let mut renamed = again.clone();
    for (at, new) in again.devices() {
        let old = hardware.device(at).map(|it| &it.kind);
        let (Kind::Host(new_host), Some(Kind::Host(old))) = (&new.kind, old) else { continue };
        let (Some(new_device), Some(old_device)) =
            (device(&new_host.selector), device(&old.selector))
        else {
            continue;
        };
        if new_device.bus_id == old_device.bus_id {
            let mut new = new.clone();
            new.kind = Kind::Host(HostRef { selector: old.selector.clone(), ..new_host.clone() });
            renamed.unplug(at);
            // The port has just become free.
            let _ = renamed.plug(at, new);
        }
    }
    renamed
}

/// The arguments with which a hypervisor starts a guest with this config. A host device that is not
/// plugged in is left out, and its port stays free: one absent device must not cost the guest all
/// of its USB. With [`StartOptions::strict`], or if the config's own tool requires the device, it
/// is not left out.
pub(crate) fn start_arguments(
    call: &Call<'_>,
    scheme: Option<&str>,
    config: &GuestConfig,
    options: &StartOptions,
) -> Result<StartArguments, Error> {
    let schemes = call.context.registry().schemes();
    let schemes = schemes.filter(|it| scheme.is_none_or(|scheme| it.name() == scheme));
    let host_devices = HostDevices::new(call, None);
    let mut resolved = resolve_start(call, config, &host_devices)?;
    let absent = if options.strict { Vec::new() } else { leave_out_absent(&mut resolved, config) };
    let warnings = config.warnings().map(|message| Note::Other { message });
    let slower = speeds::notes(&resolved.hardware, &diff(&Hardware::new(), &resolved.hardware));
    let mut notes: Vec<Note> = warnings.chain(absent).chain(slower).collect();
    for obstacle in availability::obstacles(call, config, &host_devices, &resolved.hardware)? {
        notes.push(obstacle.overridden(call)?);
    }
    config.check_supported(&resolved)?;
    let style = config.format().argument_style();
    let start = Start { resolved: &resolved, config: config.config(), style };
    let arguments = schemes.into_iter().find_map(|it| it.start_arguments(&start, options));
    let missing = || Error::NoStartArguments { scheme: scheme.map(str::to_owned) };
    let arguments = arguments.ok_or_else(missing)??;
    Ok(StartArguments { arguments, notes })
}

/// Removes the host devices that are not plugged in, except those that the file's own tool requires
/// for a start.
fn leave_out_absent(resolved: &mut Resolved, config: &GuestConfig) -> Vec<Note> {
    let required: BTreeSet<Address> = (resolved.devices.iter())
        .zip(&config.config().devices)
        .filter(|(_, source)| source.required_at_start)
        .map(|(placed, _)| placed.address)
        .collect();
    let optional = resolved.hardware.devices().filter(|(at, _)| !required.contains(at));
    let absent: Vec<(Address, Note)> =
        optional.filter_map(|(at, device)| Some((at, absent(device)?))).collect();
    let leave_out = |(at, note): (Address, Note)| {
        resolved.hardware.unplug(at);
        note
    };
    absent.into_iter().map(leave_out).collect()
}
