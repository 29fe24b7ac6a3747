//! Claims on host devices and images: one file for each, for all users and state directories.
//!
//! ```text
//!   /run/vusb/claims/
//!     usb-pci-0000_00_14.0-usb-0_4-1a2b3c4d5e6f            a domain has the device
//!     file-2049_4711_1764524800000000000-1a2b3c4d5e6f      a domain has the image
//!     file-2049_4711_1764524800000000000-1a2b3c4d5e6f.1    another one reads it too
//! ```
//!
//! A claim names the domain, the process that the guest runs in, and the start time of that
//! process. When the process has ended, the claim is stale, and the next one takes its place. A
//! guest without a process of its own keeps its claims until they are released.
//!
//! The folder is locked while claims are checked and made, so that what was checked still holds
//! when the claim is made. A claim is written under another name and then linked to its own name,
//! which fails if that name exists. So no claim is ever half written, and of two domains that claim
//! a free resource only one succeeds, even where the lock does not work. A stale claim is replaced.
//! The order of the steps, and what a kill between them leaves:
//!
//! ```text
//!   lock the folder ─▶ look for rivals ─▶ save the intent ─▶ make the claims ─▶ unlock ─▶ steps
//!                                                    └─ killed: recovery makes them, or goes back
//!   ... steps done ─▶ release what is no longer attached ─▶ save the record
//!                                                    └─ killed: the guest has lost the device
//! ```
//!
//! All users can write to the folder. It is sticky, so a claim can only be removed by root, by the
//! user who made it, and by the owner of the folder. A stale claim of another user stays, and the
//! new one gets the next number. A reader stops when more than [`MAX_GAP`] numbers are missing, so
//! the time of a lookup does not depend on what else is in the folder. Therefore a claim is marked
//! as released instead of deleted while there are claims with higher numbers.
//!
//! An earlier version named a claim beside the first one by a hash: `NAME.9f8e7d6c5b4a`. The folder
//! is searched for such claims only if the first claim lacks the mark `numbered`. Each claim is
//! written with the mark as soon as all claims beside it have numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};
use serde::{Deserialize, Serialize};
use vusb_drivers::{GuestIdentity, Process};
use vusb_host::HostDevice;
use vusb_model::device::HostRef;
use vusb_model::name::Name;
use vusb_model::selector::UsbId;

use crate::call::Call;
use crate::error::Error;
use crate::host_identity::{HostIdentity, ObservedDevice};
use crate::index::short_hash;
use crate::lock::Lock;
use crate::own_files;

/// The version of the layout of a claim.
const LAYOUT: u32 = 1;

/// The maximum size of a claim: 64 KiB, many times what is written.
const MAX_BYTES: u64 = 64 << 10;

/// How many numbers may be missing among the claims on a resource: a person may have deleted some.
const MAX_GAP: usize = 2;

/// The folder of all users, below the root of the machine. `/usr/lib/tmpfiles.d/vusb.conf` makes it
/// at each boot.
const MACHINE_WIDE: &str = "run/vusb/claims";

/// The prefix of the name of a file that is not a claim yet.
const UNFINISHED: &str = ".new-";

/// The length of the hash that ends the name of a second claim of an earlier version, in digits.
const HASH_DIGITS: usize = 12;

/// The end of the key of a device on the USB 3 bus of an xHCI: its two buses have the same paths.
pub(crate) const USB_3: &str = "@usb3";

/// Something that can be claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Resource {
    /// The name of its file.
    name: String,
    /// Whether others may share it: readers of an image, or two partitions of a disk.
    shared: bool,
    /// For a host device, its ids and serial number.
    device: Option<(UsbId, Option<String>)>,
}

impl Resource {
    /// The resource that `key` identifies among those of its `sort`.
    pub(crate) fn new(sort: &str, key: &str, shared: bool) -> Resource {
        let plain =
            |it: char| if it.is_ascii_alphanumeric() || "-.".contains(it) { it } else { '_' };
        let readable: String = key.chars().map(plain).take(60).collect();
        let name = format!("{sort}-{readable}-{}", short_hash(key, 6));
        Resource { name, shared, device: None }
    }

    /// The same resource, which is this host device.
    pub(crate) fn with_device(self, device: &HostDevice) -> Resource {
        Resource { device: Some((device.id, device.serial.clone())), ..self }
    }

    /// Whether both are the same resource, and at least one of them is not shared.
    pub(crate) fn excludes(&self, other: &Resource) -> bool {
        self.name == other.name && !(self.shared && other.shared)
    }

    /// The name of its file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Who claims something, and where the domain has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The version of the layout.
    vusb: u32,
    /// What is claimed, in words.
    pub(crate) what: String,
    /// The domain's address.
    pub(crate) domain: String,
    /// The domain's name, or its address if it has none.
    pub(crate) display_name: String,
    /// The device's name there.
    pub(crate) device: Name,
    /// The device's location there.
    pub(crate) at: String,
    /// The guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guest: Option<GuestIdentity>,
    /// The process that the guest runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<GuestProcess>,
    /// Whether others may share it.
    #[serde(default)]
    shared: bool,
    /// For a host device, the place of its port, and what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<ObservedDevice>,
    /// Other ids that it may return with.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    also: BTreeSet<UsbId>,
    /// Whether it was released. It is not deleted while there are claims with higher numbers.
    #[serde(default)]
    released: bool,
    /// Whether all claims beside it have numbers. Those of an earlier version may have hashes.
    #[serde(default)]
    numbered: bool,
    /// The user who made it. Not stored: it is the owner of the file.
    #[serde(skip)]
    pub(crate) uid: u32,
}

/// The process that a guest runs in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct GuestProcess {
    #[serde(flatten)]
    process: Process,
    /// The PID namespace that its process ID belongs to: `pid:[4026531836]`.
    #[serde(default)]
    namespace: String,
}

impl GuestProcess {
    /// Whether it is certain that the process has ended. A process of another PID namespace cannot
    /// be found, so it counts as alive.
    fn has_ended(&self) -> bool {
        self.namespace == pid_namespace() && self.process.has_ended()
    }
}

fn pid_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// A domain that makes claims.
#[derive(Clone, Debug)]
pub(crate) struct Claimant {
    /// Its address.
    pub(crate) domain: String,
    /// Its name, or its address if it has none.
    pub(crate) display_name: String,
    /// The guest that runs now.
    pub(crate) guest: Option<GuestIdentity>,
}

impl Claimant {
    /// A claim of this domain.
    pub(crate) fn claim(
        &self,
        what: String,
        device: Name,
        at: String,
        identity: Option<&HostIdentity>,
    ) -> Claim {
        let process = self.guest.as_ref().and_then(GuestIdentity::process);
        Claim {
            vusb: LAYOUT,
            what,
            domain: self.domain.clone(),
            display_name: self.display_name.clone(),
            device,
            at,
            guest: self.guest.clone(),
            process: process.map(|process| GuestProcess { process, namespace: pid_namespace() }),
            shared: false,
            place: identity.map(|it| it.place.clone()),
            seen: identity.and_then(|it| it.seen.clone()),
            also: identity.map(|it| it.also.clone()).unwrap_or_default(),
            released: false,
            numbered: true,
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Whether a claim is this domain's, however the domain is addressed.
    fn owns(&self, claim: &Claim) -> bool {
        claim.domain == self.domain || (claim.guest.is_some() && claim.guest == self.guest)
    }
}

impl Claim {
    /// Whether its guest may still have the device.
    pub(crate) fn holds(&self) -> bool {
        !self.released && !self.process.as_ref().is_some_and(GuestProcess::has_ended)
    }

    /// The process ID of its guest.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|it| it.process.pid)
    }

    /// Whether it is a claim on the resource, and not on a host device that was in the same port
    /// before.
    fn is_about(&self, resource: &Resource) -> bool {
        match (&self.seen, &resource.device) {
            (Some(seen), Some((id, serial))) => {
                (seen.id == *id && seen.serial == *serial) || self.also.contains(id)
            }
            _ => true,
        }
    }

    /// Whether `wanted`, which is not plugged in, may be the host device of the claim, which is in
    /// the file `name`. The devices of a backend domain are not those of this machine, although
    /// they may be alike: only the name of the file tells.
    fn may_be(&self, name: &str, wanted: &HostRef) -> bool {
        let Some(place) = self.place.clone() else { return false };
        let is_here = ["", USB_3].iter().any(|bus| {
            let resource = Resource::new("usb", &format!("{place}{bus}"), false);
            let number = name.strip_prefix(&resource.name);
            number.is_some_and(|it| it.is_empty() || it.starts_with('.'))
        });
        let (seen, also) = (self.seen.clone(), self.also.clone());
        is_here && HostIdentity { place, seen, also }.may_be(wanted)
    }
}

/// The folder of the claims.
#[derive(Clone, Debug)]
pub(crate) struct ClaimFiles {
    folder: PathBuf,
    /// Whether only this user's claims are in it.
    private: bool,
}

impl Call<'_> {
    /// The claims.
    pub(crate) fn claim_files(&self) -> ClaimFiles {
        let (host, state) = (self.context.host(), self.context.state());
        let of_machine = || ClaimFiles::of_machine(host.root(), state.path());
        self.context.claims().map_or_else(of_machine, ClaimFiles::at)
    }
}

impl ClaimFiles {
    /// The folder for a machine whose root is `root`. If the machine has no folder for all users,
    /// and this user cannot create one, this is the user's own folder; it is in `state` if the user
    /// has no runtime directory.
    pub(crate) fn of_machine(root: &Path, state: &Path) -> ClaimFiles {
        let shared = ClaimFiles { folder: root.join(MACHINE_WIDE), private: false };
        if shared.folder.is_dir() || can_be_created(&shared.folder) {
            return shared;
        }
        let user = rustix::process::geteuid();
        let runtime = PathBuf::from(format!("/run/user/{}", user.as_raw()));
        let own = if runtime.is_dir() { runtime.join("vusb/claims") } else { state.join("claims") };
        ClaimFiles { folder: own, private: true }
    }

    /// The folder at `path`.
    pub(crate) fn at(path: &Path) -> ClaimFiles {
        ClaimFiles { folder: path.to_owned(), private: false }
    }

    /// Its path, if only this user's claims are in it.
    pub(crate) fn private(&self) -> Option<&Path> {
        self.private.then_some(self.folder.as_path())
    }

    /// Locks the folder, which is created if it does not exist.
    ///
    /// # Errors
    /// It cannot be created or is not safe to use; another process keeps the lock; or the call is
    /// cancelled meanwhile.
    pub(crate) fn lock(&self, call: &Call<'_>) -> Result<Locked<'_>, Error> {
        let failed = |error| Error::io("create the folder", &self.folder, error);
        create(&self.folder, self.private).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true);
        options.custom_flags((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32);
        let folder = options.open(&self.folder);
        let folder = folder.map_err(|error| Error::io("open", &self.folder, error))?;
        let metadata = folder.metadata().map_err(|error| Error::io("read", &self.folder, error))?;
        own_files::check_metadata(&self.folder, &metadata)?;
        let lock = Lock::of_folder(folder, &self.folder, "the lock of all claims", call)?;
        Ok(Locked { files: self, _lock: lock })
    }

    /// The names in the folder. Empty if it does not exist.
    fn names(&self) -> Result<Vec<String>, Error> {
        own_files::check_folder(&self.folder)?;
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", &self.folder, error)),
        };
        Ok(entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect())
    }

    /// The claims on the resource with this name, each with its file, including released and stale
    /// ones.
    fn claims(&self, name: &str) -> Result<Vec<(PathBuf, Claim)>, Error> {
        own_files::check_folder(&self.folder)?;
        let mut claims: Vec<(PathBuf, Claim)> = Vec::new();
        let (mut number, mut missing) = (0, 0);
        while missing <= MAX_GAP {
            let path = self.numbered_path(name, number);
            number += 1;
            match read(&path)? {
                Some(claim) => claims.push((path, claim)),
                None => missing += 1,
            }
        }
        let first = claims.first().filter(|(path, _)| *path == self.numbered_path(name, 0));
        if first.is_some_and(|(_, claim)| !claim.numbered) {
            for beside in self.names()?.iter().filter(|it| of_earlier_version(it) == Some(name)) {
                let path = self.folder.join(beside);
                claims.extend(read(&path)?.map(|claim| (path, claim)));
            }
        }
        Ok(claims)
    }

    /// The file of the claim with this number, from 0, on the resource with this name.
    fn numbered_path(&self, name: &str, number: usize) -> PathBuf {
        match number {
            0 => self.folder.join(name),
            number => self.folder.join(format!("{name}.{number}")),
        }
    }

    /// The claim of another domain that keeps `own` from having the resource.
    ///
    /// # Errors
    /// The folder is not safe to use, or a claim cannot be read.
    pub(crate) fn rival(
        &self,
        own: &Claimant,
        resource: &Resource,
    ) -> Result<Option<Claim>, Error> {
        let claims = self.claims(&resource.name)?.into_iter().map(|(_, claim)| claim);
        let keeps = |claim: &Claim| {
            claim.holds()
                && claim.is_about(resource)
                && !own.owns(claim)
                && (!claim.shared || !resource.shared)
        };
        Ok(claims.into_iter().find(keeps))
    }

    /// The claim of another domain on a host device of this machine that may be the `wanted` one.
    /// This is for a device that is not plugged in: the claims on any other are found by its port.
    /// A claim that cannot be read is ignored.
    pub(crate) fn rival_by_selector(
        &self,
        own: &Claimant,
        wanted: &HostRef,
    ) -> Result<Option<Claim>, Error> {
        let names = self.names()?;
        let files = names.iter().filter(|it| it.starts_with("usb-"));
        let mut claims = files.filter_map(|name| {
            let claim = read(&self.folder.join(name)).ok().flatten()?;
            claim.may_be(name, wanted).then_some(claim)
        });
        Ok(claims.find(|it| !own.owns(it) && it.holds()))
    }

    /// What each domain has claimed, in words, by the address of the domain. Claims that cannot be
    /// read, and those that no longer hold, are left out.
    ///
    /// # Errors
    /// The folder cannot be read, or is not safe to use.
    pub(crate) fn by_domain(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for name in self.names()? {
            let claim = read(&self.folder.join(&name)).ok().flatten().filter(Claim::holds);
            if let Some(claim) = claim {
                all.entry(claim.domain).or_default().insert(claim.what);
            }
        }
        Ok(all.into_iter().map(|(domain, what)| (domain, what.into_iter().collect())).collect())
    }

    /// Who has the resource.
    ///
    /// # Errors
    /// The folder is not safe to use, or a claim cannot be read.
    pub(crate) fn holder(&self, resource: &Resource) -> Result<Option<Claim>, Error> {
        let claims = self.claims(&resource.name)?.into_iter().map(|(_, claim)| claim);
        Ok(claims.into_iter().find(|it| it.holds() && it.is_about(resource)))
    }
}

/// The folder of the claims, locked until this is dropped.
pub(crate) struct Locked<'a> {
    files: &'a ClaimFiles,
    _lock: Lock,
}

impl Locked<'_> {
    /// Claims a resource. The claim replaces an earlier one of this domain or a stale one, and
    /// other stale claims are deleted as far as possible.
    ///
    /// # Errors
    /// The claims on the resource cannot be read; or the claim cannot be written or exists,
    /// although the lock is held.
    pub(crate) fn take(
        &self,
        own: &Claimant,
        resource: &Resource,
        claim: &Claim,
    ) -> Result<(), Error> {
        let claims = self.files.claims(&resource.name)?;
        let numbered = are_numbered(&claims);
        let claim = Claim { shared: resource.shared, numbered, ..claim.clone() };
        let (owned, others): (Vec<_>, Vec<_>) = claims.iter().partition(|(_, it)| own.owns(it));
        let stale = others.into_iter().filter(|(_, it)| !it.holds());
        for (path, _) in owned.into_iter().chain(stale) {
            match self.write(path, &claim, fs::rename) {
                // The claim belongs to another user.
                written if is_denied(&written) => {}
                written => {
                    written.map_err(|error| Error::io("write", path, error))?;
                    return self.tidy(own, &resource.name, path);
                }
            }
        }
        let taken = |path: &PathBuf| claims.iter().any(|(it, _)| it == path);
        let mut paths =
            (0..=claims.len()).map(|number| self.files.numbered_path(&resource.name, number));
        let path = paths.find(|it| !taken(it)).unwrap_or_default();
        let written = self.write(&path, &claim, fs::hard_link);
        written.map_err(|error| Error::io("write", &path, error))
    }

    /// Releases this domain's claims on the resource with this name, except for `kept`. Then
    /// deletes claims from the highest number down, up to the first one that holds or belongs to
    /// another user.
    fn tidy(&self, own: &Claimant, name: &str, kept: &Path) -> Result<(), Error> {
        let mut claims = self.files.claims(name)?;
        let numbered = are_numbered(&claims);
        for (path, claim) in &mut claims {
            if own.owns(claim) && path.as_path() != kept && !claim.released {
                (claim.released, claim.numbered) = (true, numbered);
                let written = self.write(path, claim, fs::rename).or_else(allow_denied);
                written.map_err(|error| Error::io("write", path.as_path(), error))?;
            }
        }
        while let Some((path, _)) = claims.pop().filter(|(_, claim)| !claim.holds()) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                removed => removed.map_err(|error| Error::io("delete", &path, error))?,
            }
        }
        Ok(())
    }

    /// Writes a claim to an unfinished file, and gives the file its final name with `publish`: by a
    /// hard link, or by renaming it.
    fn write(
        &self,
        path: &Path,
        claim: &Claim,
        publish: fn(PathBuf, PathBuf) -> io::Result<()>,
    ) -> io::Result<()> {
        let user = rustix::process::geteuid().as_raw();
        // The lock is held, so if the file exists, a killed process left it.
        let new = self.files.folder.join(format!("{UNFINISHED}{user}"));
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        options.custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let mut file = options.open(&new)?;
        // Other users must be able to read it whatever the umask is.
        file.set_permissions(Permissions::from_mode(0o644))?;
        let mut text = serde_json::to_vec_pretty(claim)?;
        text.push(b'\n');
        let written = file.write_all(&text).and_then(|()| publish(new.clone(), path.to_owned()));
        let _ = fs::remove_file(&new);
        written
    }

    /// Gives up what this domain has claimed under these names. Best effort: a claim that is left
    /// ends with its guest.
    pub(crate) fn release(&self, own: &Claimant, names: &BTreeSet<String>) {
        for name in names {
            if let Err(error) = self.release_one(own, name) {
                tracing::warn!(claim = name, %error, "cannot release a claim");
            }
        }
    }

    /// Gives up everything that this domain has claimed, except for the claims with the names in
    /// `kept`. Best effort, as [`Locked::release`].
    ///
    /// # Errors
    /// The folder cannot be read, or is not safe to use.
    pub(crate) fn release_all(&self, own: &Claimant, kept: &BTreeSet<String>) -> Result<(), Error> {
        let names: BTreeSet<String> = self.files.names()?.into_iter().collect();
        let is_own = |name: &&String| {
            let claim = read(&self.files.folder.join(name)).ok().flatten();
            claim.is_some_and(|claim| own.owns(&claim))
        };
        let resource = |name: &String| resource_of(name, &names);
        let owned: BTreeSet<String> = names.iter().filter(is_own).map(resource).collect();
        self.release(own, &owned.difference(kept).cloned().collect());
        Ok(())
    }

    fn release_one(&self, own: &Claimant, name: &str) -> Result<(), Error> {
        self.tidy(own, name, Path::new(""))
    }
}

/// The name of the resource that a claim with this file name is on.
fn resource_of(name: &str, all: &BTreeSet<String>) -> String {
    let first = name.rsplit_once('.').filter(|(_, number)| number.parse::<usize>().is_ok());
    let first = first.map(|(first, _)| first).or_else(|| of_earlier_version(name));
    first.filter(|it| all.contains(*it)).unwrap_or(name).to_owned()
}

/// The name of the resource that a claim with this file name is on, if an earlier version made it
/// beside another claim.
fn of_earlier_version(name: &str) -> Option<&str> {
    let (first, hash) = name.rsplit_once('.')?;
    let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|it| it.is_ascii_hexdigit());
    is_hash.then_some(first)
}

/// Whether none of the claims on a resource has a name of an earlier version.
fn are_numbered(claims: &[(PathBuf, Claim)]) -> bool {
    let old_name = |path: &Path| path.file_name()?.to_str().and_then(of_earlier_version).map(drop);
    !claims.iter().any(|(path, _)| old_name(path).is_some())
}

/// Ignores that a claim may not be replaced: it belongs to another user, and stays.
fn allow_denied(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
}

fn is_denied(written: &io::Result<()>) -> bool {
    written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Whether this user may create the folder.
fn can_be_created(folder: &Path) -> bool {
    let existing = folder.ancestors().skip(1).find(|it| it.exists());
    existing.is_some_and(|it| it.is_dir() && access(it, Access::WRITE_OK).is_ok())
}

/// Creates the folder: for all users, or for this user.
fn create(folder: &Path, private: bool) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        // The mode of a new folder is limited by the umask.
        Ok(()) if !private => fs::set_permissions(folder, Permissions::from_mode(0o1777)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// The claim in a file; `None` if the file is gone.
fn read(path: &Path) -> Result<Option<Claim>, Error> {
    let wrong = |why: String| Error::Claim { path: path.to_owned(), why };
    let failed = |error: io::Error| wrong(error.to_string());
    let Some(file) = own_files::open(path).map_err(failed)? else { return Ok(None) };
    let metadata = file.metadata().map_err(failed)?;
    let bytes = own_files::read(&file, MAX_BYTES).map_err(failed)?;
    let claim: Claim = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if claim.vusb != LAYOUT {
        let why = format!("its layout is version {}; this vusb reads version {LAYOUT}", claim.vusb);
        return Err(wrong(why));
    }
    Ok(Some(Claim { uid: metadata.uid(), ..claim }))
}

#[cfg(test)]
mod tests;
