//! The network cards of this machine.
//!
//! A card is needed if it is the only one, or if the default route goes through it, directly or by
//! an interface on top of it, or if another interface is on top of it:
//!
//! ```text
//! eth0 ─ master ─▶ bond0 ─ master ─▶ br0 ◀── default route
//! eth1 ─ upper ──▶ macvtap0
//! ```
//!
//! The kernel links each interface to those directly on top of it (`upper_br0`, `master`).
//!
//! If the interfaces or the routes are unreadable, every card that is up may be needed.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::routes;
use crate::protection::{NetworkRole, Protection};
use crate::sysfs::{self, Reader};
use crate::text::printable;

/// `type` of a CAN bus, which is not a network: `ARPHRD_CAN` (Linux,
/// `include/uapi/linux/if_arp.h`).
const CAN: u16 = 280;

/// `IFF_UP` of an interface's `flags` (`<linux/if.h>`).
const UP: u32 = 0x1;

/// The longest name of an interface that is printed, in characters. The kernel's limit is 15
/// (`IFNAMSIZ`, `<linux/if.h>`).
const MAX_NAME: usize = 255;

/// The network interfaces.
pub(crate) struct Networks {
    files: Reader,
    /// Interfaces with hardware. Loopback, bridges, bonds and tunnels have none.
    cards: Vec<(String, PathBuf)>,
    /// Whether no card is missing from the list.
    is_complete: bool,
    /// The interfaces with a default route. Read when they are first needed.
    defaults: OnceCell<BTreeSet<String>>,
}

impl Networks {
    pub(crate) fn read(root: &Path) -> Networks {
        let files = Reader::new(root);
        let mut cards = files.class("sys/class/net");
        let is_complete = files.unreadable().is_none();
        cards.retain(|(_, dir)| is_card(&files, dir));
        Networks { files, cards, is_complete, defaults: OnceCell::new() }
    }

    /// Why the network cards of the USB device with the directory `dir` are protected.
    pub(crate) fn protection(&self, dir: &Path) -> Vec<Protection> {
        let is_here = |card: &&(String, PathBuf)| card.1.starts_with(dir);
        let here: Vec<&(String, PathBuf)> = self.cards.iter().filter(is_here).collect();
        let Some((first, _)) = here.first() else {
            return self.unknown(None).filter(|_| !self.is_complete).into_iter().collect();
        };
        let reasons: Vec<_> =
            here.iter().filter_map(|(name, dir)| self.use_of(name, dir)).collect();
        if reasons.is_empty() && here.len() == self.cards.len() {
            return vec![Protection::OnlyNetworkCard { interface: shown(first) }];
        }
        if reasons.is_empty() {
            let up = here.iter().filter(|(_, dir)| may_be_up(dir));
            return up.filter_map(|(name, _)| self.unknown(Some(name))).collect();
        }
        reasons
    }

    /// The reason to protect a card, or a device that may have one, whose use is unknown. `None` if
    /// everything was readable.
    fn unknown(&self, name: Option<&str>) -> Option<Protection> {
        let file = self.files.unreadable()?.to_owned();
        Some(Protection::UnknownNetworkCard { interface: name.map(shown), file })
    }

    /// How a card is used; `None` if it is not.
    fn use_of(&self, name: &str, dir: &Path) -> Option<Protection> {
        let interface = shown(name);
        let on_top = self.on_top_of(name, dir);
        let routed = [name].into_iter().chain(on_top.iter().map(String::as_str));
        if let Some(routed) = routed.into_iter().find(|name| self.defaults().contains(*name)) {
            let via = (routed != name).then(|| shown(routed));
            return Some(Protection::DefaultRoute { interface, via });
        }
        let upper = shown(on_top.first()?);
        Some(Protection::UsedNetworkCard { interface, role: role(dir), upper })
    }

    fn defaults(&self) -> &BTreeSet<String> {
        self.defaults.get_or_init(|| routes::default_interfaces(&self.files))
    }

    /// The interfaces on top of one, the nearest first.
    fn on_top_of(&self, name: &str, dir: &Path) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut next = 0;
        let mut dir = dir.to_owned();
        loop {
            let new =
                self.directly_on(&dir).into_iter().filter(|it| it != name && !all.contains(it));
            let new: Vec<String> = new.collect();
            all.extend(new);
            let Some(above) = all.get(next) else { return all };
            dir = self.files.root().join("sys/class/net").join(above);
            next += 1;
        }
    }

    /// The interfaces directly on top of the one with this directory; a bridge or bond first.
    fn directly_on(&self, dir: &Path) -> Vec<String> {
        let names = self.files.names(dir);
        let uppers = names.iter().filter_map(|name| name.strip_prefix("upper_")).map(str::to_owned);
        let master = self.files.link_name(dir, "master");
        let others: Vec<String> = uppers.filter(|name| Some(name) != master.as_ref()).collect();
        master.into_iter().chain(others).collect()
    }
}

/// How the interface with this directory is used by the one on top of it.
fn role(dir: &Path) -> NetworkRole {
    match fs::canonicalize(dir.join("master")) {
        Ok(master) if master.join("bridge").is_dir() => NetworkRole::BridgePort,
        Ok(master) if master.join("bonding").is_dir() => NetworkRole::BondMember,
        Ok(_) => NetworkRole::Member,
        Err(_) => NetworkRole::Below,
    }
}

fn shown(interface: &str) -> String {
    printable(interface.as_bytes(), MAX_NAME)
}

fn is_card(files: &Reader, dir: &Path) -> bool {
    let kind = sysfs::decimal(dir, "type");
    let device = dir.join("device");
    // The backend of a guest's interface has a device too, but it only connects to the guest.
    let to_guest = files.link_name(&device, "subsystem").as_deref() == Some("xen-backend");
    kind != Some(CAN) && files.may_exist(&device) && !to_guest
}

/// Whether packets may go through the interface with this directory: it is up, or its state is
/// unreadable.
fn may_be_up(dir: &Path) -> bool {
    let flags = sysfs::word(dir, "flags");
    let number = flags.as_deref().and_then(|it| it.strip_prefix("0x"));
    let number = number.and_then(|it| u32::from_str_radix(it, 16).ok());
    number.is_none_or(|it| it & UP != 0)
}
