//! Host devices that running guests are given by their command lines, or by the configurations of
//! the tools that manage them, whoever started the guests.
//!
//! Some tools, such as libvirt, know what each of their guests has now. Such a guest holds what its
//! configuration names. If part of the configuration cannot be read, its command line counts too.
//! For all other guests, there is only the command line. A hypervisor takes a device that its
//! command line names as soon as the device is plugged in, so the guest counts as the holder even
//! before that. A guest that is known only by its command line does not count if it has a record,
//! because the record says more. The guest that the device is for never counts.
//!
//! A guest that is known only by its command line holds a device if all of this is true:
//!
//! ```text
//!   the guest runs ─▶ it has no record ─▶ it is another guest
//!     ─▶ one of its selectors matches, or one of its disks is part of the device
//!     ─▶ it has not taken another device for that selector
//!     ─▶ its process belongs to the system, the caller, or a user who may open the device
//!     ─▶ it has the device open, or may take it in the next seconds,
//!        or its open files are hidden, or the device is not plugged in
//! ```
//!
//! It may take the device in the next seconds if the device was just plugged in or the guest has
//! just started: see [`TAKEN_WITHIN`]. A paused guest takes a device when it continues; whether it
//! is paused cannot be seen from outside.
//!
//! Any user can start a process with any name and arguments, so a command line counts only if its
//! user may open the device. A device that is not plugged in has no node with permissions to check.
//! For such a device, the command lines of other users do not count.
//!
//! A command line still names a device that was detached since the guest's start. If the device is
//! plugged in, the open files of the process show whether the guest has it. If it is not, there is
//! no way to know. So this evidence is weaker than a claim: `force` overrides it.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vusb_drivers::{ConfiguredGuest, GuestIdentity, GuestOwner, RunningGuest};
use vusb_host::{Host, HostDevice};
use vusb_model::selector::{BusAddress, BusId, Selector, Traits};

use crate::call::Call;
use crate::host_devices::HostDevices;
use crate::record::Records;
use crate::view::ProcessView;

/// How long after a plug a guest may take a device, and how long after its own start. QEMU looks
/// for new devices every 2 s (`usb_host_auto_check` in its `hw/usb/host-libusb.c`); the rest allows
/// for a busy machine.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// The guests whose configurations or command lines name host devices.
#[derive(Clone, Debug)]
pub(crate) struct CommandLines {
    guests: Vec<Candidate>,
    records: Records,
}

/// A guest that may hold a device, with its hypervisor's name.
#[derive(Clone, Debug)]
struct Candidate {
    guest: RunningGuest,
    hypervisor: &'static str,
    /// Its disks that are part of a USB device. A disk with several names is listed once.
    usb_disks: Vec<(PathBuf, BusId)>,
    /// Its address, if its tool's configuration names the devices.
    configured: Option<String>,
}

/// How long a tool that manages guests may take to report what they have. A libvirt with a hundred
/// domains takes a tenth of a second.
const TOOL_TIMEOUT: Duration = Duration::from_secs(3);

/// A guest whose configuration or command line names a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandLineHolder {
    /// The process of the guest, if it is known.
    pub(crate) process: Option<ProcessView>,
    /// Who it is, and why it holds the device, for people.
    pub(crate) text: String,
}

impl CommandLines {
    /// Reads the configurations and the command lines of the guests that run now.
    pub(crate) fn read(call: &Call<'_>) -> CommandLines {
        let host = call.context.host();
        let candidate = |guest: RunningGuest, hypervisor, configured| {
            let usb_disks = usb_disks(host, &guest.disks);
            Candidate { guest, hypervisor, usb_disks, configured }
        };
        let limit = call.limits.next_wait().min(TOOL_TIMEOUT);
        let asked = call.ask_schemes(|scheme| {
            let configured = scheme.named_by_configurations(host.root(), limit);
            let configured = configured.unwrap_or_else(|error| {
                tracing::warn!(scheme = scheme.name(), %error, "cannot read what the guests have");
                Vec::new()
            });
            (configured, scheme.named_by_command_lines(host.root()))
        });
        // A configuration that could be read completely says more than the command line of the same
        // guest.
        let (mut guests, mut by_command_line) = (Vec::new(), Vec::new());
        let mut known = BTreeSet::new();
        for (scheme, (configured, lines)) in asked {
            for ConfiguredGuest { guest, is_complete } in configured {
                if is_complete && guest.process != 0 {
                    known.insert(guest.process);
                }
                let address = guest.operand.as_deref().map(|it| scheme.address(it));
                guests.push(candidate(guest, scheme.title(), address));
            }
            by_command_line.extend(lines.into_iter().map(|it| candidate(it, scheme.title(), None)));
        }
        by_command_line.retain(|it| !known.contains(&it.guest.process));
        guests.extend(by_command_line);
        CommandLines { guests, records: call.records() }
    }

    /// The guest whose configuration names a device that is plugged in; not the guest `own`.
    pub(crate) fn configured(
        &self,
        device: &HostDevice,
        all: &[HostDevice],
        own: Option<&GuestIdentity>,
    ) -> Option<CommandLineHolder> {
        let mut others = self.others(own).filter(|it| it.configured.is_some());
        others.find_map(|it| Some(it.holder(&it.configured_name(device, all)?)))
    }

    /// The guest whose configuration or command line names a device that is plugged in; not the
    /// guest `own`.
    pub(crate) fn holder(
        &self,
        device: &HostDevice,
        all: &[HostDevice],
        own: Option<&GuestIdentity>,
        host_devices: &HostDevices<'_>,
    ) -> Option<CommandLineHolder> {
        if let Some(holder) = self.configured(device, all, own) {
            return Some(holder);
        }
        let host = host_devices.host();
        let node = device.node();
        let is_new = LazyCell::new(|| host.connected_for(device).is_some_and(is_short));
        let found = self.others(own).filter(|it| it.configured.is_none()).filter_map(|it| {
            let names = |selector: &&Selector| {
                device.matches(selector) && !it.has_another(selector, device, all)
            };
            let named = it.guest.host_devices.iter().filter(names);
            let held =
                held_by_selector(named, || *is_new, |is_new| it.holding(host, &node, is_new));
            let by_selector = held.map(|(selector, how)| it.selector_text(selector) + how.text());
            let mut disks = it.usb_disks.iter().filter(|(_, of)| *of == device.bus_id);
            let by_disk = || {
                disks.find_map(|(node, _)| {
                    Some(node.display().to_string() + it.holding(host, node, false)?.text())
                })
            };
            Some((it, by_selector.or_else(by_disk)?))
        });
        self.first_without_record(found)
    }

    /// The guest whose configuration or command line may name the same absent device as `selector`
    /// does; not the guest `own`.
    pub(crate) fn holder_of_absent(
        &self,
        selector: &Selector,
        own: Option<&GuestIdentity>,
    ) -> Option<CommandLineHolder> {
        let others = self.others(own).filter(|it| it.is_trusted());
        let found = others.filter_map(|it| {
            let named = it.guest.host_devices.iter().find(|it| may_be_same(it, selector))?;
            Some((it, it.selector_text(named)))
        });
        self.first_without_record(found)
    }

    /// The first of these guests that has no record or is known by its configuration. `found`
    /// yields only guests that hold the device, so only their records are looked up.
    fn first_without_record<'a>(
        &self,
        mut found: impl Iterator<Item = (&'a Candidate, String)>,
    ) -> Option<CommandLineHolder> {
        let configured: BTreeSet<u32> = (self.guests.iter())
            .filter(|it| it.configured.is_some())
            .map(|it| it.guest.process)
            .collect();
        let has_record = |it: &Candidate| {
            // The record of a configured guest may lack what its tool has attached.
            it.configured.is_none()
                && !configured.contains(&it.guest.process)
                && identities(&it.guest).iter().any(|it| self.records.address_of(it).is_some())
        };
        let (guest, names) = found.find(|(guest, _)| !has_record(guest))?;
        Some(guest.holder(&names))
    }

    fn others(&self, own: Option<&GuestIdentity>) -> impl Iterator<Item = &Candidate> {
        let is_own = move |it: &&Candidate| {
            let pid =
                own.and_then(GuestIdentity::process).map(|process| process.pid.unsigned_abs());
            (pid == Some(it.guest.process) && it.guest.process != 0)
                || own.is_some_and(|own| identities(&it.guest).contains(own))
        };
        self.guests.iter().filter(move |it| !is_own(it))
    }
}

impl Candidate {
    fn holder(&self, names: &str) -> CommandLineHolder {
        let Candidate { guest, hypervisor, .. } = self;
        let pid = Some(guest.process).filter(|it| *it != 0);
        let process = pid.map(|pid| ProcessView { pid, name: (*hypervisor).to_owned() });
        if let Some(address) = &self.configured {
            let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            let text = format!("{address}{pid}, whose configuration names {names}");
            return CommandLineHolder { process, text };
        }
        let name = guest.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let manager = guest.manager.map(|it| format!(", started by {it}")).unwrap_or_default();
        CommandLineHolder {
            process,
            text: format!(
                "{hypervisor}{name} (pid {}{manager}), whose command line names {names}",
                guest.process
            ),
        }
    }

    /// What its configuration calls a device that is plugged in. `None` if it does not name it.
    fn configured_name(&self, device: &HostDevice, all: &[HostDevice]) -> Option<String> {
        let mut selectors = self.guest.host_devices.iter();
        let named = selectors.find(|it| device.matches(it) && !self.has_another(it, device, all));
        let disk = || self.usb_disks.iter().find(|(_, of)| *of == device.bus_id);
        named.map(ToString::to_string).or_else(|| Some(disk()?.0.display().to_string()))
    }

    /// Whether its command line counts for any device: its process belongs to the system or to the
    /// caller.
    fn is_trusted(&self) -> bool {
        match self.guest.owner {
            GuestOwner::System => true,
            GuestOwner::User(uid) => uid == rustix::process::geteuid().as_raw(),
            GuestOwner::Unknown => false,
        }
    }

    /// How the guest holds the device with this existing node; `None` if it does not. Its command
    /// line has to be trusted, or its user has to be allowed to open the node. The guest holds the
    /// device now if its process has the node open or hides its open files. It may take the device
    /// soon if the process is young or the device `is_new`: plugged in so recently that the guest
    /// may not have noticed it yet.
    fn holding(&self, host: &Host, node: &Path, is_new: bool) -> Option<Holding> {
        let pid = self.guest.process;
        let is_user = matches!(self.guest.owner, GuestOwner::User(_));
        let counts = self.is_trusted() || (is_user && host.user_may_open(pid, node));
        if !counts {
            return None;
        }
        match host.has_open(pid, node) {
            Some(false) if is_new || host.process_age(pid).is_some_and(is_short) => {
                Some(Holding::Soon)
            }
            Some(false) => None,
            Some(true) | None => Some(Holding::Now),
        }
    }

    /// The selector as text. If several devices may match, the text says that any of them is taken.
    fn selector_text(&self, selector: &Selector) -> String {
        match selector.may_match_several() {
            true => format!("{selector}: it takes any match"),
            false => selector.to_string(),
        }
    }

    /// Whether the guest uses another device that the selector matches. Each selector takes one
    /// device, so this device is free.
    fn has_another(&self, selector: &Selector, device: &HostDevice, all: &[HostDevice]) -> bool {
        let uses = |it: &HostDevice| {
            let processes = it.used_by.as_ref().map_or(&[][..], |it| it.processes());
            processes.iter().any(|it| it.pid == self.guest.process)
        };
        let mut others = all.iter().filter(|it| it.bus_id != device.bus_id && it.matches(selector));
        !uses(device) && others.any(uses)
    }
}

/// The selector by which a guest holds a device, and how it holds it. `named` are the selectors
/// that match the device, `is_new` tells whether the device was just plugged in, and `holding` is
/// [`Candidate::holding`]. A user can write thousands of selectors into a command line, so `is_new`
/// and `holding` are called at most once, and only if a selector matches.
fn held_by_selector<'a>(
    mut named: impl Iterator<Item = &'a Selector>,
    is_new: impl FnOnce() -> bool,
    holding: impl FnOnce(bool) -> Option<Holding>,
) -> Option<(&'a Selector, Holding)> {
    let first = named.next()?;
    // An address is valid for one plug, so it does not name a device that is plugged in later.
    let is_lasting = |it: &&Selector| !matches!(it, Selector::Address(_));
    let lasting = Some(first).filter(is_lasting).or_else(|| named.find(is_lasting));
    match holding(lasting.is_some() && is_new())? {
        Holding::Now => Some((first, Holding::Now)),
        Holding::Soon => Some((lasting.unwrap_or(first), Holding::Soon)),
    }
}

/// How a guest holds a device that its command line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// It has the device open, as far as that can be seen.
    Now,
    /// It may open the device soon.
    Soon,
}

impl Holding {
    /// What a message adds to the name of the device.
    const fn text(&self) -> &'static str {
        match self {
            Holding::Now => "",
            Holding::Soon => ", and which may take it in the next seconds",
        }
    }
}

/// Whether the time since the plug, or since the guest's own start, is so short that the guest may
/// still be about to take the device.
fn is_short(time: Duration) -> bool {
    time < TAKEN_WITHIN
}

/// The identities that a record of this guest may have: that of its process, or its UUID where its
/// manager identifies guests by that.
fn identities(guest: &RunningGuest) -> Vec<GuestIdentity> {
    let by_manager = guest.manager.zip(guest.uuid.as_ref());
    let by_manager = by_manager.map(|(manager, uuid)| GuestIdentity::new(manager, uuid));
    guest.identity.iter().cloned().chain(by_manager).collect()
}

/// Those nodes that are block devices of a USB device, each with that device. A block device is
/// found by its number in the open files of a process, so one of its names is enough.
fn usb_disks(host: &Host, nodes: &[PathBuf]) -> Vec<(PathBuf, BusId)> {
    let mut known = BTreeSet::new();
    let disk = |node: &PathBuf| {
        let number = block_device(host, node).filter(|it| known.insert(*it))?;
        let device =
            host.usb_device_of_block(rustix::fs::major(number), rustix::fs::minor(number))?;
        Some((node.clone(), device))
    };
    nodes.iter().filter_map(disk).collect()
}

/// The device number of a node below `/dev`; `None` if it is not a block device.
fn block_device(host: &Host, node: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(host.root().join(node.strip_prefix("/").ok()?)).ok()?;
    metadata.file_type().is_block_device().then(|| metadata.rdev())
}

/// Whether both selectors may name the same device, which is not plugged in. `named` is the one of
/// the guest.
fn may_be_same(named: &Selector, wanted: &Selector) -> bool {
    match (named, wanted) {
        // The device gets another address when it is plugged in again.
        (Selector::Address(_), _) | (_, Selector::Address(_)) => false,
        _ if named == wanted => true,
        (_, Selector::Id { id, serial }) => {
            // The port of the wanted device is unknown, so selectors that require a port do not
            // match.
            let Ok(port) = UNUSED_PORT.parse() else { return false };
            let address = BusAddress { bus: 0, address: 0 };
            let serial = serial.as_deref();
            named.matches(&Traits { id: *id, serial, port: &port, address, path: None })
        }
        (Selector::Port(port), Selector::Path(path)) => port.chain_text() == path.chain(),
        (Selector::Pattern(pattern), Selector::Port(port)) => pattern.may_match_port(port),
        _ => false,
    }
}

/// A port that no device is plugged into.
const UNUSED_PORT: &str = "65535-255";

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The process and the device's node are examined at most once, however many selectors match:
    /// this involves reading all open files of the process.
    #[test]
    fn a_guest_is_examined_once_for_a_device() {
        let texts = ["001.004", "1-4", "0781:5581"].repeat(10_000);
        let many: Vec<Selector> = texts.iter().map(|it| it.parse().unwrap()).collect();
        let [address, port] = [0, 1].map(|it| many[it].clone());
        for (named, is_new, process_is_young, is_open, expected) in [
            (&many[..], false, false, false, None),
            (&many[..], true, false, false, Some((&port, Holding::Soon))),
            (&many[..], false, true, false, Some((&port, Holding::Soon))),
            (&many[..], true, false, true, Some((&address, Holding::Now))),
            (&many[..1], true, false, false, None),
            (&many[..1], true, true, false, Some((&address, Holding::Soon))),
            (&many[..0], true, true, true, None),
        ] {
            let (plugs, examined) = (Cell::new(0), Cell::new(0));
            let count = |it: &Cell<i32>| it.set(it.get() + 1);
            let is_new = || {
                count(&plugs);
                is_new
            };
            let holding = |is_new| {
                count(&examined);
                match is_open {
                    true => Some(Holding::Now),
                    false => (is_new || process_is_young).then_some(Holding::Soon),
                }
            };
            assert_eq!(held_by_selector(named.iter(), is_new, holding), expected);
            assert!(plugs.get() <= 1 && examined.get() == i32::from(!named.is_empty()));
        }
    }

    #[test]
    fn absent_devices_are_compared_by_what_their_selectors_have_in_common() {
        for (named, wanted, expected) in [
            ("0781:5581", "0781:5581", true),
            ("0781:5581", "0781:5581:A1", true),
            ("0781:5581", "0781:5590", false),
            ("vendorid=0x0781", "0781:5581", true),
            ("vendorid=0x0782", "0781:5581", false),
            ("hostbus=any", "0781:5581", true),
            ("hostbus=any", "1-4", true),
            ("hostport=4", "1-4", true),
            ("hostport=4,vendorid=0x0781", "1-4", true),
            ("hostport=5", "1-4", false),
            ("hostbus=2,vendorid=0x0781", "1-4", false),
            ("1-4", "1-4", true),
            ("1-4", "1-5", false),
            ("1-4", "0781:5581", false),
            ("1-4", "pci-0000:00:14.0-usb-0:4", true),
            ("1-5", "pci-0000:00:14.0-usb-0:4", false),
            ("001.004", "0781:5581", false),
            ("001.004", "001.004", false),
        ] {
            let [a, b] = [named, wanted].map(|it| it.parse::<Selector>().unwrap());
            assert_eq!(may_be_same(&a, &b), expected, "{named} {wanted}");
        }
    }
}
