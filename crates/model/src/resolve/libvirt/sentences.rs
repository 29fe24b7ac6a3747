//! libvirt's own sentences for what is refused, for those who search for them.
//!
//! "At parse" are those that libvirt says when it reads the XML, "at start" those that it says only when the guest is to start.

use std::iter::successors;

use crate::address::{Address, PortPath};
use crate::device::Kind;
use crate::hardware::{Controller, Hardware, article};
use crate::refusal::Refusal;

/// The refusal of a device at a port, with the sentence for it. For a speed there is none: libvirt minds no speeds.
pub(super) fn at_port(refusal: Refusal, at: Address, kind: &Kind, hardware: &Hardware) -> Refusal {
    let Address { bus, port } = at;
    if let Refusal::WrongSpeed { device, speed, place, takes, .. } = refusal {
        let remedy = "libvirt would put it there all the same, and QEMU not start; say a port that takes it, \
                      or give an EHCI its companions";
        return Refusal::WrongSpeed { device, speed, place, takes, remedy: remedy.to_owned() };
    }
    let says = match &refusal {
        Refusal::NoSuchController { .. } => format!("Missing USB bus {bus}"),
        Refusal::PortInUse { .. } if both_hubs(at, kind, hardware) => {
            format!("Duplicate USB hub on bus {bus} port {port}")
        }
        Refusal::PortInUse { .. } => format!("Duplicate USB address bus {bus} port {port}"),
        Refusal::NoSuchPort { .. } | Refusal::NoHub { .. } => {
            match hardware.controller(bus).and_then(|controller| missing(controller, port)) {
                Some(says) => says,
                None => return refusal,
            }
        }
        _ => return refusal,
    };
    refusal.libvirt_says(says)
}

fn both_hubs(at: Address, kind: &Kind, hardware: &Hardware) -> bool {
    let there = hardware.device(at).map_or(0, |device| device.kind.hub_ports());
    there > 0 && kind.hub_ports() > 0
}

/// The first step on the way to a port that does not exist, as libvirt says it.
fn missing(controller: &Controller, port: PortPath) -> Option<String> {
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

/// The refusal of a device of this kind where there is to be no USB: at parse for the first four, at start for the others.
pub(super) fn disabled(kind: &Kind) -> Refusal {
    let says = match kind {
        Kind::Tablet(_) | Kind::Mouse(_) | Kind::Keyboard(_) => {
            "Can't add USB input device. USB bus is disabled"
        }
        Kind::Hub(_) => "Can't add USB hub: USB is disabled for this domain",
        Kind::Host(_) => "Can't add host USB device: USB is disabled in this host",
        Kind::Redir(_) => "cannot add redirected USB device: USB is disabled for this domain",
        _ => NO_CONTROLLER,
    };
    Refusal::UsbDisabled { what: with_article(kind) }.libvirt_says(says)
}

/// The refusal of a device for a guest without a controller, which libvirt tells not from one that is to have none: at start.
pub(super) fn no_controller(kind: &Kind, guest: String) -> Refusal {
    Refusal::NoController { what: with_article(kind), guest }.libvirt_says(NO_CONTROLLER)
}

const NO_CONTROLLER: &str =
    "USB is disabled for this domain, but USB devices are present in the domain XML";

/// What libvirt says of a search that found nothing: at start.
pub(super) const NO_FREE_PORT: &str = "No free USB ports";

/// What libvirt says of a host device that is said twice: at parse.
pub(super) const HOSTDEV_TWICE: &str = "Hostdev already exists in the domain configuration";

/// `a mouse`, `an audio`.
fn with_article(kind: &Kind) -> String {
    format!("{} {} device", article(kind.word()), kind.word())
}
