//! From one format to another, so that the guest sees the same.
//!
//! ```text
//!   file ─▶ hardware ─▶ new text ─▶ read again ─▶ hardware: the same digest?
//!                          └─▶ what it does not say          └─▶ what it says otherwise
//! ```
//!
//! The target is never trusted to say what it should: its text is read back with the eyes of its own tool.

use vusb_drivers::configfile;
use vusb_drivers::qemu::{ArgumentOptions, Details, arguments, arguments_as_libvirt};
use vusb_formats::config::{Unsayable, Written};
use vusb_formats::{Format, libvirt};
use vusb_model::digest::digest;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::{Resolved, resolve};

use crate::apply::at_start;
use crate::error::Error;
use crate::vusb::Vusb;
use crate::wanted::Wanted;

/// A configuration in another format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The text.
    pub text: String,
    /// What it does not say, each a sentence.
    pub lost: Vec<String>,
    /// What a person should know of the text that it was made of, each a sentence.
    pub notes: Vec<String>,
}

pub(crate) fn convert(vusb: &Vusb, wanted: &Wanted, to: Format) -> Result<Converted, Error> {
    let resolved = at_start(vusb, wanted)?;
    let Written { text, lost } = to.write(wanted.guest(), &resolved.hardware);
    let mut lost = told(lost);
    if lost.is_empty()
        && let Some(other) = differs(to, &text, &resolved.hardware)
    {
        lost.push(other);
    }
    Ok(Converted { text, lost, notes: wanted.warnings().collect() })
}

/// A sentence for each reason, with all that is lost for it.
fn told(lost: Vec<Unsayable>) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for Unsayable { what, why } in lost {
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, all)) => all.push(what),
            None => reasons.push((why, vec![what])),
        }
    }
    reasons.into_iter().map(|(why, what)| format!("{}: {why}", what.join(", "))).collect()
}

/// What a text makes of hardware that is not as it should be.
fn differs(format: Format, text: &str, hardware: &Hardware) -> Option<String> {
    let name = format!("the new {format} text");
    let config = match format.read(text, &name) {
        Ok(config) => config,
        Err(error) => return Some(format!("{name} cannot be read back: {}", error.brief())),
    };
    let capabilities = configfile::capabilities(format, &config.guest);
    let again = match resolve(&Hardware::new(), &config.spec, &capabilities) {
        Ok(resolved) => resolved.hardware,
        Err(refused) => return Some(format!("{name} cannot be: {refused}")),
    };
    (digest(&again) != digest(hardware)).then(|| {
        let what = configfile::difference(&again, hardware);
        format!("{what}: {name} says it otherwise")
    })
}

/// The arguments that start a QEMU with what the file says: a libvirt domain's as libvirt writes them.
pub(crate) fn qemu_args(
    vusb: &Vusb,
    wanted: &Wanted,
    options: &ArgumentOptions,
) -> Result<Vec<String>, Error> {
    let resolved = at_start(vusb, wanted)?;
    if wanted.format != Format::Libvirt {
        return Ok(arguments(&resolved.hardware, options)?);
    }
    let order: Vec<_> = resolved.devices.iter().map(|settled| settled.at).collect();
    let order = [order, resolved.added_devices.clone()].concat();
    let (details, root) = (details(wanted, &resolved), libvirt::root_bus(wanted.guest()));
    let all = arguments_as_libvirt(&resolved.hardware, &order, &details, root)?;
    let spare = arguments(&Hardware::new(), options)?;
    Ok([spare, all].concat())
}

/// What the file says of each device beyond the model.
fn details(wanted: &Wanted, resolved: &Resolved) -> Details {
    let places = wanted.config().devices.iter().zip(&resolved.devices);
    let named = places.filter_map(|(place, settled)| {
        let device = resolved.hardware.device(settled.at)?;
        Some((device.name.clone(), place.properties.clone()))
    });
    named.collect()
}
