//! What VirtualBox's settings leave open: the rules of `vusb-1`, with VirtualBox's ports.
//!
//! VirtualBox's files contain no ports and do not say which controller a device is on. VirtualBox
//! chooses a free port that supports the speed of the device, in an order that is not documented,
//! so these rules are ours. One of them differs from `vusb-1`:
//!
//! * **Ports**: a pci-ohci and an ehci have 12 ports, and a qemu-xhci has 8 USB 2 and 6 USB 3
//!   ports, unless requested otherwise ([`Model::virtualbox_ports`]). A requested number must be
//!   one that the model can have in QEMU, or VirtualBox's.

use super::controllers::Context;
use super::{Refused, Resolved, vusb_1};
use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::models::Model;
use crate::spec::Spec;

pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    let context = Context::new(capabilities).with_own_ports(Model::virtualbox_ports);
    vusb_1::resolve_with(base, spec, context)
}
