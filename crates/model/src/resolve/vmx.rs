//! What a VMX file leaves open: the rules of `vusb-1`, with VMware's number of ports.
//!
//! VMware's own rules are not documented, so these are ours. One of them differs from `vusb-1`:
//!
//! * **Ports**: an xHCI has 4 unless requested otherwise, because a VMware guest cannot have any
//!   other number.

use super::controllers::{Context, DEFAULT_PORTS};
use super::{Refused, Resolved, vusb_1};
use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::models::Model;
use crate::spec::Spec;

/// The number of ports of VMware's xHCI: as many USB 2 as USB 3 ports, since hardware version 11.
pub const XHCI_PORTS: u8 = 4;

pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    vusb_1::resolve_with(base, spec, Context::new(capabilities).with_default_ports(default_ports))
}

const fn default_ports(model: Model) -> u8 {
    if model.is_xhci() { XHCI_PORTS } else { DEFAULT_PORTS }
}
