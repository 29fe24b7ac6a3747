//! The rules of `vusb-1`.
//!
//! These rules never change; golden files enforce them.
//!
//! 1. **Controllers first**, in the order of the spec, those with an index or a name before those
//!    without.
//! 2. **Model**: the requested one; else the one for the requested version
//!    ([`Model::for_version`]); else `xenusb2` for pv and `qemu-xhci` for emulated. Type `auto` is
//!    the default type of the capabilities. A contradiction is refused.
//! 3. **Ports**: 16 unless requested otherwise, clamped to what the model can have. A requested
//!    number must be one that the model can have.
//! 4. An **ICH9 EHCI** has its three companions unless the spec lists them.
//! 5. **Index**: the lowest free one. **Name**: `hciN` for an emulated controller, `pvN` for a pv
//!    one, and the kind followed by N for a device. N is the lowest free number.
//! 6. **Devices** in this order: those with a port (hubs before the devices behind them), hubs
//!    without a port, those with a port behind such a hub, all others; in the order of the spec
//!    within each group.
//! 7. **A device without a controller** goes to the lowest index with a free port that supports its
//!    native speed; if there is none, to the lowest with a free port that supports any speed it can
//!    run at; if there is none, a controller is added (rule 2 with nothing requested). A pv
//!    controller with devices on it comes last. Where pv is the default and there are fewer than 8
//!    pv controllers, one is added rather than shared: a ring carries only 16 requests. A
//!    controller that cannot have a device of this kind is not a candidate. For a host device, a
//!    controller of another backend domain is not a candidate either.
//! 8. **A device without a port** gets the lowest free one of the controller that supports its
//!    native speed, then that of the controller's hubs, depth first; then the same for any speed it
//!    can run at.
//! 9. **A network card without an address** gets one that is derived from the domain's name (or,
//!    without a name, from how the domain is reached) and from the index and port of the card.
//!
//! [`Model::for_version`]: crate::models::Model::for_version

use super::controllers::{self, Context, FreeNames};
use super::devices::Placement;
use super::{Refused, Resolved, duplicates};
use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::spec::Spec;

pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    resolve_with(base, spec, Context::new(capabilities))
}

/// With the default number of ports and the reserved controller of `context`.
pub(super) fn resolve_with(
    base: &Hardware,
    spec: &Spec,
    mut context: Context<'_>,
) -> Result<Resolved, Refused> {
    duplicates::check(spec)?;
    let mut hardware = base.clone();
    hardware.reserve(spec.controllers.len() + spec.devices.len());
    let mut names = FreeNames::new(spec);
    let controllers =
        controllers::place(base, &mut hardware, &spec.controllers, &mut context, &mut names)?;
    let mut placement = Placement::new(base, hardware, spec, context, names);
    let devices = placement.place_all()?;
    let (hardware, added) = placement.finish();
    Ok(Resolved { hardware, controllers, devices, added, added_devices: Vec::new() })
}
