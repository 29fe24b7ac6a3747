//! Names as libvirt gives its aliases: rule 12.

use std::collections::{BTreeMap, HashSet};

use crate::address::Index;
use crate::device::Kind;
use crate::hardware::Hardware;
use crate::name::Name;
use crate::resolve::controllers::next_name;
use crate::spec::Spec;

/// The names that are still to be had. What the spec claims for one of its entries is not free for another.
pub(super) struct Names<'a> {
    claimed: HashSet<&'a Name>,
    next: BTreeMap<&'static str, u32>,
}

impl<'a> Names<'a> {
    pub(super) fn new(spec: &'a Spec) -> Names<'a> {
        let controllers = spec.controllers.iter().filter_map(|spec| spec.name.as_ref());
        let devices = spec.devices.iter().filter_map(|spec| spec.name.as_ref());
        Names { claimed: controllers.chain(devices).collect(), next: BTreeMap::new() }
    }

    /// The name of the controller at `index`: `usb`, `usb1`. If something else has that, the first `usbN` that is free.
    pub(super) fn controller(&mut self, hardware: &Hardware, index: Index) -> Name {
        let wanted = match index.get() {
            0 => Name::word("usb"),
            number => Name::numbered("usb", u32::from(number)),
        };
        if hardware.named(&wanted).is_none() && !self.claimed.contains(&wanted) {
            return wanted;
        }
        next_name(&self.claimed, hardware, "usb", self.next.entry("usb").or_insert(1))
    }

    /// The name of the next device of this kind.
    pub(super) fn device(&mut self, hardware: &Hardware, kind: &Kind) -> Name {
        let stem = stem(kind);
        let number = self.next.entry(stem).or_default();
        let name = next_name(&self.claimed, hardware, stem, number);
        *number += 1;
        name
    }
}

/// What libvirt's own aliases of a kind begin with (`src/qemu/qemu_alias.c`).
pub const fn stem(kind: &Kind) -> &'static str {
    match kind {
        Kind::Host(_) => "hostdev",
        Kind::Storage(_) => "usb-disk",
        Kind::Tablet(_) | Kind::Mouse(_) | Kind::Keyboard(_) => "input",
        Kind::Hub(_) => "hub",
        Kind::Serial(_) => "serial",
        Kind::Audio(_) => "sound",
        Kind::Net(_) => "net",
        Kind::Mtp(_) => "fs",
        Kind::Ccid => "ccid",
        Kind::Redir(_) => "redir",
        Kind::Other(_) => "other",
    }
}
