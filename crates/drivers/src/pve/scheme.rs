//! The address scheme `pve:VMID`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vusb_formats::pve::{self, MappedDevice};
use vusb_host::Host;
use vusb_model::selector::Selector;

use super::{Guest, Paths};
use crate::driver::{Driver, Error};
use crate::limits::Limits;
use crate::qemu::{PROXMOX_FOLDER, running_qemus, watch_folder};
use crate::scheme::{
    AddressError, ConfiguredGuest, GuestEvent, GuestOwner, GuestWatch, OpenOptions, RunningGuest,
    Scheme, WatchOptions,
};
use crate::text;

/// The numbers that Proxmox VE guests can have (`pve-vmid` in `PVE/JSONSchema.pm`).
const VMIDS: std::ops::RangeInclusive<u32> = 100..=999_999_999;

/// The Proxmox VE guests on this node.
#[derive(Clone, Debug)]
pub struct PveScheme {
    root: PathBuf,
}

impl PveScheme {
    /// The guests of the node whose files are below `root`.
    pub fn new(root: &Path) -> PveScheme {
        PveScheme { root: root.to_owned() }
    }

    /// The device that a mapping of the cluster has on this node.
    ///
    /// # Errors
    /// It has none, or the mappings or the name of the node cannot be read.
    fn mapped_device(&self, id: &str) -> Result<MappedDevice, String> {
        let path = self.root.join("etc/pve/mapping/usb.cfg");
        let mappings = match text::read(&path) {
            Ok(text) => text,
            Err(text::TextError::Missing) => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let local = self.root.join("etc/pve/local");
        let link = std::fs::read_link(&local).map_err(|error| {
            format!("the name of this node is unknown: {}: {error}", local.display())
        })?;
        let node = link.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        pve::mapped_device(&mappings, id, node).map_err(|error| error.to_string())
    }

    fn paths(&self, operand: &str) -> Result<Paths, AddressError> {
        let vmid = vmid(operand).ok_or_else(|| AddressError {
            problem: format!("`{}` is not the number of a guest", operand.escape_debug()),
            expected: "pve:VMID, such as pve:100; `qm list` shows the numbers".to_owned(),
        })?;
        Ok(Paths { root: self.root.clone(), vmid })
    }
}

/// A number without a leading zero.
fn vmid(text: &str) -> Option<u32> {
    let vmid: u32 = text.parse().ok().filter(|vmid| VMIDS.contains(vmid))?;
    (vmid.to_string() == text).then_some(vmid)
}

/// The guest whose monitor has this path.
fn vmid_of_monitor(path: &str) -> Option<&str> {
    let name = path.strip_prefix(PROXMOX_FOLDER)?.strip_prefix('/')?;
    name.strip_suffix(".qmp").filter(|name| vmid(name).is_some())
}

impl Scheme for PveScheme {
    fn name(&self) -> &'static str {
        "pve"
    }

    fn title(&self) -> &'static str {
        "Proxmox VE"
    }

    fn syntax(&self) -> &'static str {
        "pve:VMID"
    }

    fn parse(&self, operand: &str, _: &Path) -> Result<String, AddressError> {
        self.paths(operand).map(|it| it.vmid.to_string())
    }

    fn canonical(&self, operand: &str, _: &Limits) -> Result<String, Error> {
        Ok(operand.to_owned())
    }

    fn open(&self, operand: &str, options: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error> {
        let paths = self.paths(operand).map_err(|error| Error::Missing {
            what: format!("pve:{operand}"),
            why: error.to_string().into(),
        })?;
        let (limits, host) = (options.limits.clone(), options.host.clone());
        Ok(Box::new(Guest::new(paths, limits, host, options.changes)))
    }

    /// A guest that does not run still exists.
    fn is_gone(&self, _: &str, error: &Error) -> bool {
        matches!(error, Error::Missing { .. })
    }

    fn running(&self, root: &Path, _: Duration) -> Result<Vec<RunningGuest>, Error> {
        let vmid_of =
            |guest: &RunningGuest| Some(vmid_of_monitor(guest.operand.as_deref()?)?.to_owned());
        let guests = running_qemus(root, |guest| vmid_of(guest).is_some());
        let guests = guests.into_iter().filter_map(|guest| {
            let vmid = vmid_of(&guest)?;
            Some(RunningGuest { operand: Some(vmid), manager: Some(self.title()), ..guest })
        });
        Ok(guests.collect())
    }

    /// `mapping:ID`, a mapping of the cluster. As Proxmox VE does at the start of a guest, the
    /// device at the port of a mapping is compared with its vendor and product.
    fn named_host_device(&self, text: &str, host: &Host) -> Option<Result<Selector, Error>> {
        let id = text.strip_prefix("mapping:")?;
        if !self.root.join("etc/pve").is_dir() {
            return None;
        }
        let missing = |why: String| Error::Missing { what: text.to_owned(), why: why.into() };
        Some(self.mapped_device(id).map_err(missing).and_then(|device| {
            let selector = device.selector();
            let all = host.devices().unwrap_or_default();
            match all.iter().find(|it| device.port.is_some() && it.matches(&selector)) {
                Some(found) if found.id != device.id => Err(missing(format!(
                    "the mapping is for {} at {selector}, and the device there is {}; change the mapping, or plug in \
                     its device",
                    device.id, found.id
                ))),
                _ => Ok(selector),
            }
        }))
    }

    /// What the running guests have at the places of Proxmox VE. `qm` adds devices to running
    /// guests, so their command lines do not have all.
    fn named_by_configurations(
        &self,
        root: &Path,
        limit: Duration,
    ) -> Result<Vec<ConfiguredGuest>, Error> {
        if !self.root.join("etc/pve").is_dir() {
            return Ok(Vec::new());
        }
        let with_devices = |guest: RunningGuest| {
            // Proxmox VE starts all guests as root.
            if guest.owner != GuestOwner::System {
                return None;
            }
            let paths = self.paths(guest.operand.as_deref()?).ok()?;
            let facts = pve::facts(&text::read(&paths.config()).ok()?);
            let name = facts.name.or(guest.name);
            let mut host_devices = facts.passed.host_devices;
            let mapped = facts.mappings.iter().filter_map(|it| self.mapped_device(it).ok());
            let mapped: Vec<MappedDevice> = mapped.collect();
            let is_complete = mapped.len() == facts.mappings.len() && !facts.has_unknown;
            host_devices.extend(mapped.iter().map(MappedDevice::selector));
            // Disks are named by storage. The command line has their paths.
            let guest = RunningGuest { name, host_devices, ..guest };
            Some(ConfiguredGuest { guest, is_complete })
        };
        Ok(self.running(root, limit)?.into_iter().filter_map(with_devices).collect())
    }

    /// Watches the folder for Proxmox VE's monitors, which may not exist yet. `None` on a machine
    /// without Proxmox VE, or if `options` name folders.
    fn watch(&self, options: &WatchOptions) -> Result<Option<Box<dyn GuestWatch>>, Error> {
        let folder = self.root.join("var/run/qemu-server");
        let is_node = folder.is_dir() || self.root.join("usr/sbin/qm").exists();
        if !options.folders.is_empty() || !is_node {
            return Ok(None);
        }
        Ok(Some(Box::new(PveWatch(Box::new(watch_folder(folder)?)))))
    }
}

/// Reports Proxmox VE guests by the monitors that appear and disappear.
struct PveWatch(Box<dyn GuestWatch>);

/// The guest that the monitor at a path belongs to.
fn guest(path: &str) -> Option<String> {
    let name = Path::new(path).file_stem()?.to_str()?;
    vmid(name).map(|it| it.to_string())
}

impl AsFd for PveWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl GuestWatch for PveWatch {
    fn running(&mut self) -> Result<Vec<String>, Error> {
        let mut guests: Vec<String> =
            self.0.running()?.iter().filter_map(|path| guest(path)).collect();
        guests.sort_unstable();
        Ok(guests)
    }

    fn wait(&mut self, limit: Duration) -> Result<Vec<GuestEvent>, Error> {
        let events = self.0.wait(limit)?.into_iter().filter_map(|event| match event {
            GuestEvent::Started(path) => guest(&path).map(GuestEvent::Started),
            GuestEvent::Ended(path) => guest(&path).map(GuestEvent::Ended),
            GuestEvent::Rescan => Some(GuestEvent::Rescan),
        });
        Ok(events.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operand_is_the_number_of_a_guest() {
        let scheme = PveScheme::new(Path::new("/"));
        let parse = |text: &str| scheme.parse(text, Path::new("/"));
        assert_eq!(parse("100").as_deref(), Ok("100"));
        assert_eq!(parse("999999999").as_deref(), Ok("999999999"));
        for text in ["", "99", "0100", "+100", "1000000000", "web1", "100 ", "../100"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("qm list"), "{text}: {error}");
        }
        assert_eq!(vmid_of_monitor("/var/run/qemu-server/100.qmp"), Some("100"));
        for path in ["/run/100.qmp", "/var/run/qemu-server/100.qga", "/var/run/qemu-server/a.qmp"] {
            assert_eq!(vmid_of_monitor(path), None, "{path}");
        }
    }
}
