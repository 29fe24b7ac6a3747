//! libvirt's own messages for refused requests, so that users can search for them.
//!
//! "At parse" marks messages that libvirt reports when it reads the XML, "at start" those that it
//! reports only when the guest starts.

use std::fmt::Display;
use std::iter::successors;

use crate::address::{Address, PortPath};
use crate::device::Kind;
use crate::hardware::{Controller, Hardware, article};
use crate::refusal::Refusal;
use crate::remedy::Remedy;
use crate::resolve::Refused;

/// Adds libvirt's message to a refusal.
pub(super) trait LibvirtSays {
    /// The same refusal with libvirt's message.
    fn libvirt_says(self, message: impl Display) -> Refused;
}

impl LibvirtSays for Refusal {
    fn libvirt_says(self, message: impl Display) -> Refused {
        Refused::from(self).with_note(format!("libvirt says: {message}"))
    }
}

/// The refusal of a device at a port, with libvirt's message. libvirt has none for a speed, because
/// it does not check speeds.
pub(super) fn at_port(refusal: Refusal, at: Address, kind: &Kind, hardware: &Hardware) -> Refused {
    let Address { bus, port } = at;
    let message = match &refusal {
        Refusal::WrongSpeed { .. } => return wrong_speed(refusal),
        Refusal::NoSuchController { .. } => Some(format!("Missing USB bus {bus}")),
        Refusal::PortInUse { .. } if both_hubs(at, kind, hardware) => {
            Some(format!("Duplicate USB hub on bus {bus} port {port}"))
        }
        Refusal::PortInUse { .. } => Some(format!("Duplicate USB address bus {bus} port {port}")),
        Refusal::NoSuchPort { .. } | Refusal::NoHub { .. } => {
            hardware.controller(bus).and_then(|controller| missing_port(controller, port))
        }
        _ => None,
    };
    match message {
        Some(message) => refusal.libvirt_says(message),
        None => refusal.into(),
    }
}

fn wrong_speed(mut refusal: Refusal) -> Refused {
    if let Refusal::WrongSpeed { alternatives, .. } = &mut refusal {
        // Without a requested controller libvirt takes the lowest free port, whatever its speeds.
        alternatives.retain(|remedy| *remedy != Remedy::OmitController);
    }
    Refused::from(refusal)
        .with_note("libvirt does not check speeds: QEMU would refuse to start; an EHCI needs companions for slow devices")
}

fn both_hubs(at: Address, kind: &Kind, hardware: &Hardware) -> bool {
    let present = hardware.device(at).map_or(0, |device| device.kind.hub_ports());
    present > 0 && kind.hub_ports() > 0
}

/// libvirt's message for the first part of a port path that does not exist.
fn missing_port(controller: &Controller, port: PortPath) -> Option<String> {
    let bus = controller.index;
    let mut steps: Vec<PortPath> = successors(Some(port), |step| step.parent()).collect();
    steps.reverse();
    let hub_at = |at: PortPath| controller.device(at).map_or(0, |device| device.kind.hub_ports());
    steps.into_iter().find_map(|step| {
        let number = step.port();
        let ports = step.parent().map_or(controller.ports.count(), hub_at);
        match (number > ports, step == port) {
            (true, true) => Some(format!("requested USB port {port} not present on USB bus {bus}")),
            (true, false) => {
                Some(format!("port {number} out of range in USB address bus: {bus} port: {port}"))
            }
            (false, false) if hub_at(step) == 0 => Some(format!(
                "there is no hub at port {number} in USB address bus: {bus} port: {port}"
            )),
            (false, _) => None,
        }
    })
}

/// The refusal of a device for a guest whose USB is disabled: at parse for the first four messages,
/// at start for the last.
pub(super) fn disabled(kind: &Kind) -> Refused {
    let message = match kind {
        Kind::Tablet(_) | Kind::Mouse(_) | Kind::Keyboard(_) => {
            "Can't add USB input device. USB bus is disabled"
        }
        Kind::Hub(_) => "Can't add USB hub: USB is disabled for this domain",
        Kind::Host(_) => "Can't add host USB device: USB is disabled in this host",
        Kind::Redir(_) => "cannot add redirected USB device: USB is disabled for this domain",
        _ => NO_CONTROLLER,
    };
    Refusal::UsbDisabled { what: with_article(kind) }.libvirt_says(message)
}

/// The refusal of a device for a guest without a controller: at start. libvirt does not distinguish
/// it from a guest whose USB is disabled.
pub(super) fn no_controller(kind: &Kind, guest: String) -> Refused {
    Refusal::NoController { what: with_article(kind), guest }.libvirt_says(NO_CONTROLLER)
}

const NO_CONTROLLER: &str =
    "USB is disabled for this domain, but USB devices are present in the domain XML";

/// The message when no free port is found: at start.
pub(super) const NO_FREE_PORT: &str = "No free USB ports";

/// The message for a host device that occurs twice: at parse.
pub(super) const DUPLICATE_HOSTDEV: &str = "Hostdev already exists in the domain configuration";

/// `a mouse device`, `an audio device`.
fn with_article(kind: &Kind) -> String {
    format!("{} {} device", article(kind.name()), kind.name())
}
