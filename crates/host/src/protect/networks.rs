//! Which network cards this machine has.

use std::path::{Path, PathBuf};

use super::Protection;
use crate::sysfs;
use crate::text::printable;

/// `type` of a CAN bus, which carries no network: `ARPHRD_CAN` (Linux, `include/uapi/linux/if_arp.h`).
const CAN: u16 = 280;

/// The network cards: interfaces with a device behind them. Loopback, bridges, bonds and tunnels have none.
pub(crate) struct Networks {
    cards: Vec<(String, PathBuf)>,
}

impl Networks {
    pub(crate) fn read(root: &Path) -> Networks {
        let mut cards = sysfs::class(&root.join("sys/class/net"));
        cards.retain(|(_, dir)| is_card(dir));
        Networks { cards }
    }

    /// Whether the USB device in `dir` is the only way to the network.
    pub(crate) fn protection(&self, dir: &Path) -> Option<Protection> {
        let (name, _) = self.cards.first()?;
        let all_here = self.cards.iter().all(|(_, card)| card.starts_with(dir));
        all_here.then(|| Protection::OnlyNetworkCard { interface: printable(name.as_bytes(), 255) })
    }
}

fn is_card(dir: &Path) -> bool {
    let kind = sysfs::decimal(dir, "type");
    let device = dir.join("device");
    // The near end of a guest's interface has a device too, but leads to the guest and nowhere else.
    let to_guest = sysfs::link_name(&device, "subsystem").as_deref() == Some("xen-backend");
    kind != Some(CAN) && device.exists() && !to_guest
}
