//! Default names, which are libvirt's aliases: rule 12 in the parent module.

use std::collections::{BTreeMap, HashSet};

use crate::address::Index;
use crate::device::Kind;
use crate::hardware::Hardware;
use crate::name::Name;
use crate::resolve::controllers::next_name;
use crate::spec::Spec;

/// Allocates default names, but never one that the spec requests for any of its entries.
pub(super) struct Names<'a> {
    requested: HashSet<&'a Name>,
    /// For each prefix, the lowest number that may be free.
    next: BTreeMap<&'static str, u32>,
}

impl<'a> Names<'a> {
    pub(super) fn new(spec: &'a Spec) -> Names<'a> {
        let controllers = spec.controllers.iter().filter_map(|it| it.name.as_ref());
        let devices = spec.devices.iter().filter_map(|it| it.name.as_ref());
        Names { requested: controllers.chain(devices).collect(), next: BTreeMap::new() }
    }

    /// The name of the controller at `index`: `usb` for index 0, otherwise `usbN`. If that is
    /// taken, the first free `usbN` from 1 on.
    pub(super) fn controller(&mut self, hardware: &Hardware, index: Index) -> Name {
        let preferred = match index.get() {
            0 => Name::from_static("usb"),
            number => Name::numbered("usb", u32::from(number)),
        };
        if hardware.named(&preferred).is_none() && !self.requested.contains(&preferred) {
            return preferred;
        }
        next_name(&self.requested, hardware, "usb", self.next.entry("usb").or_insert(1))
    }

    /// Allocates the name of the next device of this kind.
    pub(super) fn device(&mut self, hardware: &Hardware, kind: &Kind) -> Name {
        let prefix = alias_prefix(kind);
        let number = self.next.entry(prefix).or_default();
        let name = next_name(&self.requested, hardware, prefix, number);
        *number += 1;
        name
    }
}

/// The prefix of libvirt's own aliases for a kind of device (`src/qemu/qemu_alias.c`). `other` is
/// vusb's: libvirt has no alias for a device that it does not know.
pub const fn alias_prefix(kind: &Kind) -> &'static str {
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
