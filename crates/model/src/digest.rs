//! A hash of what the guest can see, without names and indexes. Equal digests mean that the guest cannot tell.
//!
//! What is hashed is a text, one line a controller and one a device, in an order that does not depend on indexes:
//!
//! ```text
//! vusb digest 1
//! controller qemu-xhci 15 15
//! device 1 storage rw
//! device 2 hub 8
//! device 2.1 mouse 1
//! ```
//!
//! PCI addresses are the hypervisor's to choose until a guest has started once, and a spec cannot know them; so there are two
//! digests: [`digest`] is of the USB hardware, and [`digest_with_pci`] also of where the controllers sit.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::device::{Kind, NetBackend};
use crate::hardware::{Controller, Hardware};
use crate::selector::Selector;

/// A digest: 32 bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The digest of the USB hardware.
pub fn digest(hardware: &Hardware) -> Digest {
    hash(&canonical(hardware, false))
}

/// The digest of the USB hardware and of where its controllers sit on PCI, as far as that is known.
pub fn digest_with_pci(hardware: &Hardware) -> Digest {
    hash(&canonical(hardware, true))
}

fn hash(text: &str) -> Digest {
    Digest(Sha256::digest(text.as_bytes()).into())
}

/// The text that is hashed.
fn canonical(hardware: &Hardware, pci: bool) -> String {
    let mut controllers: Vec<String> =
        hardware.controllers().map(|controller| block(controller, pci)).collect();
    controllers.sort_unstable();
    format!("vusb digest 1\n{}", controllers.concat())
}

fn block(controller: &Controller, pci: bool) -> String {
    let ports = controller.ports;
    let mut text = format!("controller {} {} {}", controller.model, ports.usb2(), ports.usb3());
    for companion in &controller.companions {
        text += &format!(" {}@{}", companion.model.model(), companion.first_port);
    }
    if let Some(address) = controller.pci.as_ref().filter(|_| pci) {
        text += &format!(" pci {address}");
    }
    text.push('\n');
    for (port, device) in controller.devices() {
        text += &format!("device {port} {}\n", seen(&device.kind));
    }
    text
}

/// What the guest can see of a device. What is behind it (a file, a folder, a socket) it cannot.
fn seen(kind: &Kind) -> String {
    match kind {
        Kind::Host(host) => match &host.selector {
            Selector::Id { id, .. } => format!("host {id}"),
            other => format!("host {other}"),
        },
        Kind::Storage(storage) => format!("storage {}", if storage.readonly { "ro" } else { "rw" }),
        Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
            format!("{} {}", kind.word(), input.usbversion)
        }
        Kind::Hub(hub) => format!("hub {}", hub.ports),
        Kind::Net(net) => {
            // A card without a back end has no carrier.
            let carrier = if net.backend == NetBackend::None { "down" } else { "up" };
            net.mac.map_or_else(|| format!("net {carrier}"), |mac| format!("net {carrier} {mac}"))
        }
        Kind::Mtp(mtp) => format!("mtp {}", if mtp.writable { "rw" } else { "ro" }),
        Kind::Other(other) => format!("other {}", other.driver),
        Kind::Serial(_) | Kind::Audio(_) | Kind::Ccid | Kind::Redir(_) => kind.word().to_owned(),
    }
}
