//! What libxl of Xen 4.17 fills in.

use super::{Refused, Resolved};
use crate::capabilities::Capabilities;
use crate::hardware::Hardware;
use crate::spec::Spec;

pub(super) fn resolve(
    base: &Hardware,
    spec: &Spec,
    capabilities: &Capabilities,
) -> Result<Resolved, Refused> {
    let spec = Spec { profile: crate::profile::Profile::Vusb1, ..spec.clone() };
    super::resolve(base, &spec, capabilities)
}
