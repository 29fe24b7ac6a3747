//! From a spec to hardware: everything that was left open is decided.
//!
//! ```text
//!   base hardware ─┐
//!   spec ──────────┼─▶ resolve ─▶ hardware, and what was decided for each thing asked
//!   capabilities ──┘        └──▶ or a refusal, and nothing is changed
//! ```
//!
//! `base` is what the guest has already and keeps. Asking for what it has is answered with "already so"; asking for one thing twice
//! is refused. Pure: the same
//! three give the same answer, always and everywhere.
//!
//! # The rules of `vusb-1`
//!
//! These never change; golden files hold them.
//!
//! 1. **Controllers first**, in the order of the spec, those with an index or a name before those without.
//! 2. **Model**: the one that is given; else the one of the given version ([`Model::of_version`]); else `xenusb2` for pv and
//!    `qemu-xhci` for emulated. Type `auto` is what the capabilities say. What contradicts itself is refused.
//! 3. **Ports**: 16 unless said, cut to what the model has: 4 for an xHCI of VMware's, which has no other number. A number that is said must be one that the model can have.
//! 4. An **ICH9 EHCI** brings its three companions unless the spec says which it has.
//! 5. **Index**: the lowest free one. **Name**: `hciN` for emulated and `pvN` for pv, `deviceN` by the word of the kind, N the lowest
//!    that is free.
//! 6. **Devices** in this order: those with a port (hubs before what is behind them), hubs without a port, those with a port
//!    behind such a hub, all others; in the order of the spec within each.
//! 7. **A device without a controller** goes to the lowest index with a free port that takes its native speed; if there is
//!    none, to the lowest with a free port that takes any speed it can run at; if there is none, a controller is added (rule
//!    2 with nothing given). A pv controller with devices on it counts only after that, and where pv is the default a new one
//!    is added before one is shared while there are fewer than 8: a ring carries only 16 requests. What cannot have a device of its
//!    kind does not count, nor for a host device a controller that carries another domain's devices.
//! 8. **A device without a port** gets the lowest free one of the controller that takes its native speed, then that of its
//!    hubs, depth first; then the same for any speed it can run at.
//! 9. **A network card without an address** gets one that is made from the domain's name (or if it has none, how it is reached), and from
//!    the index and port that the card is at.

mod already;
mod controllers;
mod devices;
pub mod libvirt;
pub mod libxl;
mod refused;
mod room;
mod twice;

pub use controllers::VMWARE_XHCI_PORTS;
pub use refused::{Asked, Refused};

use crate::address::{Address, Index};
use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::models::{ControllerType, Model, UsbVersion};
use crate::profile::Profile;
use crate::refusal::Refusal;
use crate::spec::Spec;

/// A spec with everything decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What the guest is to have: all of the base and all that was asked for.
    pub hardware: Hardware,
    /// For each controller of the spec, in its order, which one it is. A companion is where its EHCI is; what is no controller to the
    /// profile (libvirt's model-less one on s390) is where the hardware has none.
    pub controllers: Vec<Settled<Index>>,
    /// For each device of the spec, in its order, where it is.
    pub devices: Vec<Settled<Address>>,
    /// The controllers that nobody asked for and that a device needs.
    pub added: Vec<Index>,
    /// The devices that nobody asked for and that the profile gives: hubs for more ports, a machine's own keyboard.
    pub added_devices: Vec<Address>,
}

/// Where something that was asked for is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled<T> {
    /// Where it is.
    pub at: T,
    /// Whether the base had it already.
    pub already: bool,
}

/// Decides everything that `spec` leaves open, on top of what `base` has. The module's text has the rules.
///
/// # Errors
/// Something cannot be: it contradicts itself, something is in the way, there is no room, or `capabilities` lack it.
pub fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    match spec.profile {
        Profile::Vusb1 => vusb_1(base, spec, capabilities),
        Profile::Libxl => libxl::resolve(base, spec, capabilities),
        Profile::Libvirt => libvirt::resolve(base, spec, capabilities),
    }
}

fn vusb_1(base: &Hardware, spec: &Spec, capabilities: &Capabilities) -> Result<Resolved, Refused> {
    twice::check(spec)?;
    let mut hardware = base.clone();
    hardware.reserve(spec.controllers.len() + spec.devices.len());
    let mut slots = controllers::Slots::new(capabilities);
    let mut free = controllers::Free::new(spec);
    let controllers =
        controllers::settle(base, &mut hardware, &spec.controllers, &mut slots, &mut free)?;
    let mut placing = devices::Placing::new(base, hardware, spec, slots, free);
    let devices = placing.settle()?;
    let (hardware, added) = placing.finish();
    Ok(Resolved { hardware, controllers, devices, added, added_devices: Vec::new() })
}

/// The refusal of what the hypervisor cannot do.
fn not_implemented(
    what: String,
    capabilities: &Capabilities,
    why: String,
    instead: Option<String>,
) -> Refusal {
    Refusal::NotImplemented { what, by: capabilities.hypervisor.clone(), why, instead }
}

/// What could be had in place of a model: others of its version, or of any, that can be had now; and a cold start where that
/// would do. The other type, where only a type was asked for.
fn instead_of(
    model: Model,
    version: Option<UsbVersion>,
    by_type: bool,
    capabilities: &Capabilities,
) -> Option<String> {
    // Who did not name a model wants a type that can be had, not some model.
    let other_type = match model.controller_type() {
        ControllerType::Pv => ControllerType::Emulated,
        ControllerType::Emulated => ControllerType::Pv,
    };
    let default = match other_type {
        ControllerType::Pv => Model::Xenusb2,
        ControllerType::Emulated => Model::QemuXhci,
    };
    if by_type && capabilities.model(default).is_ok() {
        return Some(format!("what can be had: --type {other_type}"));
    }
    let available = |other: &Model| *other != model && capabilities.model(*other).is_ok();
    let same_version = |other: &Model| other.usbversion() == model.usbversion();
    let all: Vec<Model> = Model::ALL.into_iter().filter(available).collect();
    let like: Vec<Model> = all.iter().copied().filter(same_version).collect();
    let offer = if like.is_empty() { all } else { like };
    let mut offers: Vec<String> =
        offer.iter().take(3).map(|other| format!("--model {other}")).collect();
    if let Some(crate::capabilities::Support::Cold { .. }) = capabilities.models.get(&model) {
        let asked = version.map_or_else(
            || format!("model = \"{model}\""),
            |version| format!("usbversion = {version}"),
        );
        offers.push(format!(
            "start the guest with it (`{asked}` in a spec, and `vusb qemu-args SPEC`)"
        ));
    }
    match offers.as_slice() {
        [] => None,
        offers => Some(format!("what can be had: {}", offers.join(", or "))),
    }
}
