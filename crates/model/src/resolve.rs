//! From a spec to hardware: everything that the spec leaves open is decided.
//!
//! ```text
//!   base hardware ─┐
//!   spec ──────────┼─▶ resolve ─▶ hardware, and what was decided for each requested item
//!   capabilities ──┘        └──▶ or a refusal, with nothing changed
//! ```
//!
//! `base` is what the guest already has and keeps. A request for an item of the base succeeds, and
//! the result marks it as existing. A spec that requests the same item twice is refused. Pure: the
//! same input always gives the same result.
//!
//! Each profile has a module with its rules:
//!
//! | profile | module |
//! |---|---|
//! | `vusb-1` | [`vusb_1`] |
//! | `vmx` | [`vmx`] |
//! | `vbox` | [`vbox`] |
//! | `libxl` | [`libxl`] |
//! | `libvirt` | [`libvirt`] |
//! | `pve-1` | [`pve_1`] |

mod controllers;
mod devices;
mod duplicates;
mod existing;
pub mod libvirt;
pub mod libxl;
mod port_allocator;
pub mod pve_1;
mod refused;
pub mod vbox;
pub mod vmx;
pub mod vusb_1;

pub use refused::{Refused, RequestedItem};

use crate::address::{Address, Index};
use crate::capabilities::{Capabilities, Support};
use crate::hardware::Hardware;
use crate::models::{ControllerType, Model, UsbVersion};
use crate::profile::Profile;
use crate::refusal::Refusal;
use crate::remedy::{Reason, Remedy};
use crate::spec::Spec;

/// A spec with everything decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The guest's hardware: all of the base and all that was requested.
    pub hardware: Hardware,
    /// The index of each controller of the spec, in the order of the spec. A companion has the
    /// index of its EHCI. An entry that the profile does not treat as a controller (libvirt's
    /// controller without a model on s390) has an index at which the hardware has no controller.
    pub controllers: Vec<Placed<Index>>,
    /// The address of each device of the spec, in the order of the spec.
    pub devices: Vec<Placed<Address>>,
    /// The controllers that were not requested but were added because a device needs them.
    pub added: Vec<Index>,
    /// The devices that were not requested but were added by the profile: hubs for more ports, a
    /// machine's default keyboard.
    pub added_devices: Vec<Address>,
}

/// The position of a requested item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The index of a controller, or the address of a device.
    pub address: T,
    /// Whether the base already had it.
    pub existing: bool,
}

/// Decides everything that `spec` leaves open, on top of `base`, by the rules of the spec's
/// profile.
///
/// # Errors
/// The spec contradicts itself or conflicts with the base, there is no free port or index, or
/// `capabilities` lack something.
pub fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    match spec.profile {
        Profile::Vusb1 => vusb_1::resolve(base, spec, capabilities),
        Profile::Vmx => vmx::resolve(base, spec, capabilities),
        Profile::Vbox => vbox::resolve(base, spec, capabilities),
        Profile::Libxl => libxl::resolve(base, spec, capabilities),
        Profile::Libvirt => libvirt::resolve(base, spec, capabilities),
        Profile::Pve1 => pve_1::resolve(base, spec, capabilities),
    }
}

/// The refusal of `what`, because the hypervisor cannot do it.
fn not_implemented(what: String, capabilities: &Capabilities, why: impl Into<Reason>) -> Refusal {
    Refusal::NotImplemented { what, by: capabilities.hypervisor.clone(), why: why.into() }
}

/// Turns the refusal into [`Refusal::NoSlot`] if its cause is a missing slot. In the frozen results
/// of the profiles it is [`Refusal::NotImplemented`], with the reason from the capabilities. `text`
/// turns what was requested into what there is no slot for.
fn without_slot(
    refusal: Refusal,
    capabilities: &Capabilities,
    text: impl FnOnce(String) -> String,
) -> Refusal {
    match (refusal, &capabilities.slots) {
        (Refusal::NotImplemented { what, why, .. }, Some(slots)) if why == slots.reason => {
            Refusal::NoSlot { what: text(what), why }
        }
        (refusal, _) => refusal,
    }
}

/// The maximum number of models that are offered in place of an unsupported one.
const ALTERNATIVES: usize = 3;

/// What to request in place of `model`: other models of the same version, or of any version if
/// there are none. If the model is only unsupported while the guest runs, a cold start is offered
/// too. For a request with neither model nor version (`by_type`), the other type is offered
/// instead.
fn alternatives(
    model: Model,
    version: Option<UsbVersion>,
    by_type: bool,
    capabilities: &Capabilities,
) -> Vec<Remedy> {
    let (other_type, default) = match model.controller_type() {
        ControllerType::Pv => (ControllerType::Emulated, Model::QemuXhci),
        ControllerType::Emulated => (ControllerType::Pv, Model::Xenusb2),
    };
    if by_type && capabilities.check_model(default).is_ok() {
        return vec![Remedy::UseType { controller_type: other_type }];
    }
    let available = |other: &Model| *other != model && capabilities.check_model(*other).is_ok();
    let same_version = |other: &Model| other.usbversion() == model.usbversion();
    let all: Vec<Model> = Model::ALL.into_iter().filter(available).collect();
    let similar: Vec<Model> = all.iter().copied().filter(same_version).collect();
    let offered = if similar.is_empty() { all } else { similar };
    let use_model = |model| Remedy::UseModel { model, ports: None };
    let mut remedies: Vec<Remedy> = offered.into_iter().take(ALTERNATIVES).map(use_model).collect();
    if let Some(Support::Cold { .. }) = capabilities.models.get(&model) {
        remedies.push(Remedy::StartWith { model, usbversion: version });
    }
    remedies
}
