//! Claims: a host device belongs to at most one domain, and so does an image that is written to.
//!
//! ```text
//!  lock of the domain ─▶ claims locks ─▶ look up rivals
//!                                                │
//!      ┌─ found ─────────────────────────────────┴─ none ─┐
//!      ▼                                                  ▼
//!  unlock ─▶ ask whether its guest has ended ─▶ error   save own intent, claim ─▶ unlock ─▶ steps
//! ```
//!
//! Claims are files that all users share ([`crate::claim_files`]). The records of the same user are
//! checked too: the intent is saved before the claims are made, a device that is not plugged in
//! has no claim, and records of older versions have none. Once the process of its guest has ended,
//! neither a claim nor a record holds anything. The claims of an unreachable domain hold: it may be
//! running.
//!
//! Records are looked up in the index by the identity of the device: by the path of its port, and
//! by every selector that matches it. They are compared by identity ([`crate::host_identity`]). So
//! the time does not depend on the number of records, and a damaged record affects only calls that
//! want its own devices.
//!
//! | wanted | resources | shared |
//! |---|---|---|
//! | a host device | its port and its bus, USB 2 or USB 3 | no |
//! | a host device that is not plugged in | what its selector says, and its other ids | no |
//! | an image | its inode, which all links to it have | if it is only read |
//! | a qcow2 image | also its data file, and its backing files | backing files are: they are only read |
//! | a block device | its device number, which all its nodes have | if it is only read |
//! | a partition | also its disk | yes: other guests may have other partitions |
//! | a disk or partition of a USB device | also that device, as a host device | yes |

use std::collections::BTreeSet;
use std::time::Duration;

use vusb_host::HostDevice;
use vusb_model::address::Address;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::Device;
use vusb_model::refusal::Refusal;
use vusb_model::selector::Selector;
use vusb_model::speed::Speed;

use crate::backend_domain::{BackendDomain, backend_of};
use crate::call::{Call, is_gone};
use crate::claim_files::{Claim, ClaimFiles, Claimant, Resource, USB_3};
use crate::claim_keys::{device_keys, image_keys, selector_key, selectors_of};
use crate::error::Error;
use crate::files;
use crate::host_devices::{HostDevices, Snapshot};
use crate::host_identity::{HostIdentity, port_key, presence};
use crate::image::References;
use crate::inventory::Inventory;
use crate::record::{Record, Records};
use crate::view::HolderView;

/// How long a holder may take to prove that it is alive.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Another domain that holds the requested device or image.
#[derive(Debug)]
pub(crate) struct Rival {
    /// The requested device or image.
    kind: Kind,
    holder: Holder,
}

/// Who holds it.
#[derive(Debug)]
enum Holder {
    /// A domain of the same user.
    Record {
        record: Box<Record>,
        /// The domain's device that is the requested one, and its location in the domain.
        device: Box<Device>,
        location: String,
    },
    /// A domain of any user.
    Claim(Box<Claim>),
}

impl Rival {
    /// The error for the call that wanted the device. `own` is the record of the domain of that
    /// call. The rival's hypervisor is asked whether its guest has ended, so the claims locks must
    /// not be held.
    pub(crate) fn into_error(self, call: &Call<'_>, own: Option<&Record>) -> Error {
        let what = self.kind.to_string();
        let recorded = own.and_then(|own| {
            let mut devices = own.inventory.hardware().devices();
            let (_, device) = devices.find(|(_, device)| device.kind == self.kind)?;
            Some((own.display_name().to_owned(), device.name.clone()))
        });
        let (shown, domain, device, location, by, gone) = match self.holder {
            Holder::Record { record, device, location } => {
                let name = record.display_name().to_owned();
                let gone = why_ended(call, &record);
                (name.clone(), name, device.name, location, String::new(), gone)
            }
            // This user may not know the domain by its name, but can use its address.
            Holder::Claim(claim) => {
                let by = claimed_by(&claim);
                (shown(&claim), claim.domain, claim.device, claim.at, by, None)
            }
        };
        let holder = format!("{shown} (as {device} at {location}{by})");
        Error::Claimed { what, holder, domain, device, gone, recorded }
    }
}

/// Why the guest of a record cannot be reached, if it has ended; or that it does not run.
pub(crate) fn why_ended(call: &Call<'_>, record: &Record) -> Option<String> {
    let call = call.with_wait(PROBE_TIMEOUT);
    // A guest that replies slowly counts as alive: another command may be using it.
    let domain = call.recorded_address(&record.domain)?;
    let probe = || call.open_driver(&domain, false)?.observe(record.inventory.hardware());
    match probe() {
        Ok(observed) => observed.off.then(|| "it does not run".to_owned()),
        Err(error) => is_gone(&domain, &error).then(|| error.to_string()),
    }
}

/// The domain of a claim, by its name and its address.
fn shown(claim: &Claim) -> String {
    let Claim { domain, display_name, .. } = claim;
    if domain == display_name { domain.clone() } else { format!("{display_name}, {domain}") }
}

/// For an error: the process of a claim, and its user if that is not the caller.
fn claimed_by(claim: &Claim) -> String {
    let pid = claim.pid().map(|pid| format!(", pid {pid}")).unwrap_or_default();
    if claim.uid == rustix::process::geteuid().as_raw() {
        return pid;
    }
    format!("{pid}, claimed by user {}", claim.uid)
}

/// Where rivals are looked for, and for which domain.
pub(crate) struct RivalSearch<'a> {
    pub(crate) records: &'a Records,
    pub(crate) files: &'a ClaimFiles,
    pub(crate) own: &'a Claimant,
}

/// The first rival for something that is wanted; `None` if all of it is free.
///
/// # Errors
/// The index, the record or the claim of a domain that may be a rival, or the devices of the
/// machine cannot be read.
pub(crate) fn find_rival(
    search: &RivalSearch<'_>,
    host_devices: &HostDevices<'_>,
    all: &[ClaimRequest<'_>],
) -> Result<Option<Rival>, Error> {
    for wanted in all {
        for key in wanted.keys() {
            for (domain, record) in search.records.with_key(&key)? {
                if domain == search.own.domain {
                    continue;
                }
                if let Some(rival) = wanted.rival(record?, host_devices)? {
                    return Ok(Some(rival));
                }
            }
        }
        if let Some(claim) = wanted.claim(search)? {
            let holder = Holder::Claim(Box::new(claim));
            return Ok(Some(Rival { kind: wanted.kind.clone(), holder }));
        }
    }
    Ok(None)
}

/// Checks that `target`, the hardware of the domain after the change, does not have a device or
/// image twice, under whatever name. Claims do not ensure that: they keep other domains away, not
/// the domain itself.
///
/// # Errors
/// `target` has something twice.
pub(crate) fn check_distinct(
    host_devices: &HostDevices<'_>,
    all: &[ClaimRequest<'_>],
    target: &Inventory,
) -> Result<(), Error> {
    if all.is_empty() {
        return Ok(());
    }
    for (at, device) in target.hardware().devices() {
        if !matches!(device.kind, Kind::Host(_) | Kind::Storage(_)) {
            continue;
        }
        let other = ClaimRequest::existing(target, at, &device.kind, host_devices);
        for wanted in all.iter().filter(|it| it.address != at) {
            if wanted.excludes(&other) {
                let location = target.hardware().location(at);
                let device = format!("{} (as {})", wanted.kind, device.name);
                return Err(Refusal::AlreadyPlugged { device, location }.into());
            }
        }
    }
    Ok(())
}

/// A requested device or image.
pub(crate) struct ClaimRequest<'a> {
    pub(crate) address: Address,
    kind: &'a Kind,
    /// For a host device, the machine that it is plugged into.
    backend: BackendDomain,
    /// The host device, if it is plugged in.
    device: Option<HostDevice>,
    /// What is to be claimed.
    pub(crate) resources: BTreeSet<Resource>,
}

impl<'a> ClaimRequest<'a> {
    /// The host devices and images that the steps plug in, and those that are `absent` and to be
    /// kept. `target` has all of them.
    ///
    /// # Errors
    /// The devices of the machine cannot be read; or it is unknown which host device was given, and
    /// its selector matches several.
    pub(crate) fn all(
        host_devices: &HostDevices<'_>,
        steps: &'a [Step],
        absent: &[Address],
        target: &'a Inventory,
    ) -> Result<Vec<ClaimRequest<'a>>, Error> {
        let plugged = steps.iter().filter_map(plugged);
        let absent = absent.iter().filter_map(|at| Some((*at, target.hardware().device(*at)?)));
        let all = plugged.chain(absent);
        let all = all.filter(|(_, it)| matches!(it.kind, Kind::Host(_) | Kind::Storage(_)));
        all.map(|(at, it)| ClaimRequest::new(target, at, &it.kind, host_devices)).collect()
    }

    fn new(
        target: &Inventory,
        address: Address,
        kind: &'a Kind,
        host_devices: &HostDevices<'_>,
    ) -> Result<ClaimRequest<'a>, Error> {
        let device = match kind {
            Kind::Host(_) => host_devices.presence(target, address)?.device(),
            _ => None,
        };
        Ok(ClaimRequest::of(target, address, kind, device, host_devices))
    }

    /// The host device or image that a domain has at `address` of `all`. A host device that may be
    /// one of several counts as not plugged in.
    pub(crate) fn existing(
        all: &Inventory,
        address: Address,
        kind: &'a Kind,
        host_devices: &HostDevices<'_>,
    ) -> ClaimRequest<'a> {
        let device = match kind {
            Kind::Host(_) => host_devices.present(all, address),
            _ => None,
        };
        ClaimRequest::of(all, address, kind, device, host_devices)
    }

    fn of(
        target: &Inventory,
        address: Address,
        kind: &'a Kind,
        device: Option<HostDevice>,
        host_devices: &HostDevices<'_>,
    ) -> ClaimRequest<'a> {
        let backend = host_devices.backend(target.hardware(), address);
        let resources = match (kind, &device) {
            (Kind::Host(_), Some(device)) => {
                BTreeSet::from([usb_resource(&backend, device, false)])
            }
            (Kind::Host(host), None) => {
                selectors_of(host).iter().map(|it| selector_resource(&backend, it)).collect()
            }
            (Kind::Storage(storage), _) => {
                let mut all = file_resources(&storage.file, storage.readonly, host_devices);
                for it in References::of(storage).files {
                    let path = it.path.to_string_lossy();
                    all.extend(file_resources(&path, !it.written, host_devices));
                }
                all
            }
            _ => BTreeSet::new(),
        };
        ClaimRequest { address, kind, backend, device, resources }
    }

    /// The keys under which a rival's record is indexed. Empty if it is neither a host device nor
    /// an image.
    fn keys(&self) -> BTreeSet<String> {
        match (self.kind, &self.device) {
            (Kind::Storage(storage), _) => image_keys(&storage.file),
            (Kind::Host(_), Some(device)) => device_keys(&self.backend, device),
            (Kind::Host(host), None) => {
                selectors_of(host).iter().map(|it| selector_key(&self.backend, it)).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Whether the two requests exclude each other.
    fn excludes(&self, other: &ClaimRequest<'_>) -> bool {
        self.resources.iter().any(|it| other.resources.iter().any(|other| it.excludes(other)))
    }

    /// The claim of another domain that excludes this request.
    fn claim(&self, search: &RivalSearch<'_>) -> Result<Option<Claim>, Error> {
        if let (Kind::Host(host), None, None) = (self.kind, &self.device, &self.backend) {
            let rival = search.files.rival_by_selector(search.own, host)?;
            if rival.is_some() {
                return Ok(rival);
            }
        }
        // A domain may have been promised the device before it was plugged in.
        let promised = self.device.iter().flat_map(|it| HostIdentity::of(it).selectors());
        let promised = promised.map(|it| selector_resource(&self.backend, &it));
        for resource in self.resources.iter().cloned().chain(promised) {
            if let Some(claim) = search.files.rival(search.own, &resource)? {
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// The rival, if `record` has the same host device or image.
    fn rival(
        &self,
        record: Record,
        host_devices: &HostDevices<'_>,
    ) -> Result<Option<Rival>, Error> {
        if record.has_ended() {
            return Ok(None);
        }
        let backends = host_devices.has_backends(&record.domain);
        let mut found = None;
        for all in record.inventories() {
            for (address, device) in all.hardware().devices() {
                if self.is_same(all, address, device, backends, host_devices)? {
                    found = Some((device.clone(), all.hardware().location(address)));
                }
            }
        }
        let kind = self.kind.clone();
        Ok(found.map(|(device, location)| {
            let (record, device) = (Box::new(record), Box::new(device));
            Rival { kind, holder: Holder::Record { record, device, location } }
        }))
    }

    fn is_same(
        &self,
        theirs: &Inventory,
        address: Address,
        device: &Device,
        backends: bool,
        host_devices: &HostDevices<'_>,
    ) -> Result<bool, Error> {
        match (self.kind, &device.kind) {
            (Kind::Storage(a), Kind::Storage(b)) => {
                Ok(!(a.readonly && b.readonly) && files::same(&a.file, &b.file))
            }
            (Kind::Host(host), Kind::Host(other)) => {
                if backend_of(theirs.hardware(), address, backends) != self.backend {
                    return Ok(false);
                }
                let snapshot = host_devices.snapshot(&self.backend)?;
                Ok(match &self.device {
                    Some(found) => holds(theirs, address, found, &snapshot),
                    None => {
                        let identity = theirs.identity(address);
                        other.selector == host.selector
                            || identity.map_or_else(
                                || share_a_mode(host, other),
                                |identity| identity.may_be(host),
                            )
                    }
                })
            }
            _ => Ok(false),
        }
    }
}

/// Whether two devices, neither of which was ever seen, may be one device: what one may return with
/// is what the other may return with. Their claims exclude each other for the same reason.
fn share_a_mode(one: &HostRef, other: &HostRef) -> bool {
    let others = selectors_of(other);
    selectors_of(one).iter().any(|it| others.contains(it))
}

const fn plugged(step: &Step) -> Option<(Address, &Device)> {
    match step {
        Step::Plug(at, device) => Some((*at, device)),
        _ => None,
    }
}

/// A USB device.
fn usb_resource(backend: &BackendDomain, device: &HostDevice, shared: bool) -> Resource {
    let bus = if device.speed == Some(Speed::Super) { USB_3 } else { "" };
    let key = format!("{}{}{bus}", of_backend(backend), port_key(device));
    Resource::new("usb", &key, shared).with_device(device)
}

/// A USB device that is not plugged in. It is unknown which one that will be, so only what the
/// selector says can be claimed.
fn selector_resource(backend: &BackendDomain, selector: &Selector) -> Resource {
    Resource::new("selector", &format!("{}{selector}", of_backend(backend)), false)
}

/// The part of a key that distinguishes the devices of a backend domain from those of this machine.
fn of_backend(backend: &BackendDomain) -> String {
    backend.as_ref().map(|it| format!("{it}/")).unwrap_or_default()
}

/// The resources of a file or block device with the content of a disk: that file or device, and
/// what it is part of.
fn file_resources(
    path: &str,
    readonly: bool,
    host_devices: &HostDevices<'_>,
) -> BTreeSet<Resource> {
    let Some(file) = files::FileIdentity::of(path) else { return BTreeSet::new() };
    let Some((major, minor)) = file.block_device() else {
        return BTreeSet::from([Resource::new("file", &file.to_string(), readonly)]);
    };
    let mut all = BTreeSet::from([Resource::new("block", &file.to_string(), readonly)]);
    let host = host_devices.host();
    let disk = host.disk_of_partition(major, minor);
    all.extend(
        disk.map(|(major, minor)| Resource::new("block", &format!("{major}:{minor}"), true)),
    );
    let usb = host.usb_device_of_block(major, minor).and_then(|bus_id| {
        let snapshot = host_devices.snapshot(&None).ok()?;
        let device = snapshot.devices.iter().find(|it| it.bus_id == bus_id)?;
        Some(usb_resource(&None, device, true))
    });
    all.extend(usb);
    all
}

/// Whether the device at `address` is the plugged-in `device`. If it is unknown which device was
/// given, every device that the selector matches counts.
fn holds(all: &Inventory, address: Address, device: &HostDevice, snapshot: &Snapshot) -> bool {
    let Some(host) = all.host_ref(address) else { return false };
    match presence(all.identity(address), host, &snapshot.devices) {
        Ok(found) => found.device().is_some_and(|it| it.bus_id == device.bus_id),
        Err(_) => device.matches(&host.selector),
    }
}

/// The domain that holds a device of `backend`.
///
/// # Errors
/// The index, or the record or the claim of a domain that may hold it, cannot be read.
pub(crate) fn holder(
    records: &Records,
    files: &ClaimFiles,
    host_devices: &HostDevices<'_>,
    device: &HostDevice,
    backend: &BackendDomain,
    snapshot: &Snapshot,
) -> Result<Option<HolderView>, Error> {
    for key in device_keys(backend, device) {
        for (_, record) in records.with_key(&key)? {
            let record = record?;
            if record.has_ended() {
                continue;
            }
            let backends = host_devices.has_backends(&record.domain);
            for all in record.inventories() {
                let is_its = |(at, _): &(Address, &Device)| {
                    backend_of(all.hardware(), *at, backends) == *backend
                        && holds(all, *at, device, snapshot)
                };
                if let Some((at, it)) = all.hardware().devices().find(is_its) {
                    return Ok(Some(HolderView {
                        domain: record.display_name().to_owned(),
                        name: it.name.clone(),
                        at: all.hardware().location(at),
                    }));
                }
            }
        }
    }
    let claim = files.holder(&usb_resource(backend, device, false))?;
    let view = |it: Claim| HolderView { domain: it.display_name, name: it.device, at: it.at };
    Ok(claim.map(view))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::context::Context;
    use crate::options::Options;
    use crate::state::StateDir;

    /// A machine with a stick in port 4 that is the disk 240:16 with the partition 240:17.
    fn machine(root: &Path) {
        let usb = root.join("sys/devices/pci0000:00/0000:00:14.0/usb1/1-4");
        let disk = usb.join("1-4:1.0/host6/target6:0:0/6:0:0:0/block/sdx");
        fs::create_dir_all(disk.join("sdx1")).unwrap();
        fs::create_dir_all(root.join("sys/bus/usb/devices")).unwrap();
        fs::create_dir_all(root.join("sys/dev/block")).unwrap();
        for (file, text) in [
            ("busnum", "1"),
            ("devnum", "14"),
            ("idVendor", "0781"),
            ("idProduct", "5581"),
            ("speed", "480"),
        ] {
            fs::write(usb.join(file), text).unwrap();
        }
        fs::write(disk.join("dev"), "240:16\n").unwrap();
        fs::write(disk.join("sdx1/partition"), "1\n").unwrap();
        symlink(&usb, root.join("sys/bus/usb/devices/1-4")).unwrap();
        symlink(&disk, root.join("sys/dev/block/240:16")).unwrap();
        symlink(disk.join("sdx1"), root.join("sys/dev/block/240:17")).unwrap();
    }

    /// A block device node, which only root can make.
    fn node(path: &Path, minor: u32) -> bool {
        let mut mknod = Command::new("mknod");
        mknod.arg(path).args(["b", "240", &minor.to_string()]).stderr(Stdio::null());
        mknod.status().is_ok_and(|it| it.success())
    }

    #[test]
    fn two_absent_devices_are_compared_in_all_their_modes() {
        let host = |selector: &str, also: &str| {
            let mut host = HostRef::new(selector.parse().unwrap());
            host.also.extend(also.parse::<vusb_model::selector::UsbId>().ok());
            host
        };
        let board = host("0483:5740", "0483:df11");
        assert!(share_a_mode(&board, &host("0483:5740", "")));
        assert!(share_a_mode(&board, &host("0483:df11", "")));
        assert!(share_a_mode(&host("0483:df11", ""), &board));
        assert!(share_a_mode(&board, &host("0483:0001", "0483:df11")));
        assert!(!share_a_mode(&board, &host("0483:0001", "")));
    }

    #[test]
    fn a_stick_is_claimed_by_its_nodes_and_partitions() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let host = vusb_host::Host::new(dir.path());
        assert_eq!(host.usb_device_of_block(240, 17).unwrap().to_string(), "1-4");
        assert_eq!(host.disk_of_partition(240, 17), Some((240, 16)));
        assert_eq!(host.disk_of_partition(240, 16), None);
        assert_eq!(host.usb_device_of_block(8, 0), None);

        let context = Context::with_builtin_drivers(StateDir::new(dir.path().join("state")), host);
        let options = Options::default();
        let call = Call::new(&context, &options);
        let host_devices = HostDevices::new(&call, None);
        let [disk, again, part] =
            [("disk", 16), ("again", 16), ("part", 17)].map(|(name, minor)| {
                let path = dir.path().join(name);
                node(&path, minor).then(|| {
                    let kind = format!("storage:{}", path.display()).parse().unwrap();
                    let Kind::Storage(storage) = kind else { panic!("a disk") };
                    file_resources(&storage.file, storage.readonly, &host_devices)
                })
            });
        let (Some(disk), Some(again), Some(part)) = (disk, again, part) else { return };
        let stick = &host_devices.snapshot(&None).unwrap().devices[0];
        assert!(disk.contains(&usb_resource(&None, stick, true)), "{disk:?}");
        assert!(part.contains(&usb_resource(&None, stick, true)), "{part:?}");
        assert!(part.contains(&Resource::new("block", "240:16", true)), "{part:?}");
        assert!(disk.contains(&Resource::new("block", "240:16", false)), "{disk:?}");
        assert_eq!(disk, again);

        // While a guest has the stick, no guest gets its disk. Two guests can have two of its
        // partitions.
        let excludes = |a: &Resource, all: &BTreeSet<Resource>| all.iter().any(|b| a.excludes(b));
        assert!(excludes(&usb_resource(&None, stick, false), &disk));
        assert!(disk.iter().any(|it| excludes(it, &again)));
        assert!(!excludes(&usb_resource(&None, stick, true), &part));
    }
}
