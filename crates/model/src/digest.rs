//! A hash of what the guest can see, without names and indexes. The guest cannot distinguish
//! hardware with equal digests.
//!
//! The hash is of a text with one line for each controller and device, in an order that does not
//! depend on indexes:
//!
//! ```text
//! vusb digest 1
//! controller qemu-xhci 15 15
//! device 1 storage rw
//! device 2 hub 8
//! device 2.1 mouse 1
//! ```
//!
//! A spec cannot know the PCI addresses: the hypervisor chooses them when the guest starts for the
//! first time. So there are two digests: [`digest`] covers the USB hardware, and
//! [`digest_with_pci`] also covers the PCI addresses of the controllers.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::device::{Kind, NetBackend, Storage};
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

/// The digest of the USB hardware and of the known PCI addresses of its controllers.
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
        text += &format!("device {port} {}\n", visible_part(&device.kind));
    }
    text
}

/// What the guest can see of a device. It cannot see the back end: a file, a folder, a socket.
fn visible_part(kind: &Kind) -> String {
    match kind {
        Kind::Host(host) => match &host.selector {
            Selector::Id { id, .. } => format!("host {id}"),
            other => format!("host {other}"),
        },
        Kind::Storage(storage) => visible_storage(storage),
        Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
            format!("{} {}", kind.name(), input.usbversion)
        }
        Kind::Hub(hub) => format!("hub {}", hub.ports),
        Kind::Net(net) => {
            // A card without a back end has no carrier.
            let carrier = if net.backend == NetBackend::None { "down" } else { "up" };
            net.mac.map_or_else(|| format!("net {carrier}"), |mac| format!("net {carrier} {mac}"))
        }
        Kind::Mtp(mtp) => format!("mtp {}", if mtp.writable { "rw" } else { "ro" }),
        Kind::Other(other) => format!("other {}", other.driver),
        Kind::Serial(_) | Kind::Audio(_) | Kind::Ccid | Kind::Redir(_) => kind.name().to_owned(),
    }
}

/// Properties that have their default value are left out, so a property that is added later does
/// not change the digests of existing devices.
fn visible_storage(storage: &Storage) -> String {
    let mut text = format!("storage {}", if storage.readonly { "ro" } else { "rw" });
    if !storage.media.is_disk() {
        text += &format!(" {}", storage.media);
    }
    if storage.removable {
        text += " removable";
    }
    if let Some(serial) = &storage.serial {
        // Last, because it may contain spaces.
        text += &format!(" serial {serial}");
    }
    text
}
