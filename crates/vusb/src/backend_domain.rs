//! The machine that a host device is plugged into: this one, or a backend domain.

use vusb_model::address::Address;
use vusb_model::hardware::Hardware;

/// The backend domain that a device is plugged into; `None` is this machine.
pub(crate) type BackendDomain = Option<String>;

/// The machine whose device is at `address`. Without `has_backends`, the hypervisor of the domain
/// has no backend domains, so it is this machine.
pub(crate) fn backend_of(
    hardware: &Hardware,
    address: Address,
    has_backends: bool,
) -> BackendDomain {
    hardware.controller(address.bus)?.backend.clone().filter(|_| has_backends)
}
