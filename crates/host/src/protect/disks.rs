//! Which disks hang on a USB device, and what this machine does with them.
//!
//! A filesystem seldom lies on the disk itself. From each disk and partition of the device, the search goes on to whatever
//! is built on top of it:
//!
//! ```text
//! sdb ─ partition ─▶ sdb1 ─ holder ─▶ dm-0 (LVM, LUKS, RAID, bcache) ─ partition ─▶ ...
//!                     │
//!                     ├─ loop device that is set up on it
//!                     └─ other members of a mounted btrfs
//! ```
//!
//! What shows neither in sysfs nor among the mounts stays unseen: a ZFS pool, and a program that has the disk itself open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Protection;
use super::mounts::{self, Mount, Unknown};
use crate::sysfs;

/// The block devices of this machine and their use.
pub(crate) struct Disks {
    blocks: BTreeMap<String, Block>,
    mounts: Result<Vec<Mount>, Unknown>,
    swaps: Result<Vec<String>, Unknown>,
}

/// A disk, a partition, or what is built of them.
struct Block {
    /// Its folder in sysfs.
    dir: PathBuf,
    /// Its device number, such as `8:17`.
    number: Option<String>,
    /// The files that name it: `/dev/sdb1`, `/dev/mapper/vg-root`.
    files: Vec<String>,
    /// The block devices that stand on it.
    above: BTreeSet<String>,
}

impl Disks {
    pub(crate) fn read(root: &Path) -> Disks {
        Disks { blocks: blocks(root), mounts: mounts::mounts(root), swaps: mounts::swaps(root) }
    }

    /// Why the disks beneath the USB device in `dir` are not to be given away.
    pub(crate) fn protection(&self, dir: &Path) -> Vec<Protection> {
        let own: Vec<(&String, &Block)> =
            self.blocks.iter().filter(|(_, block)| block.dir.starts_with(dir)).collect();
        let names: BTreeSet<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
        let mut reasons = BTreeSet::new();
        for name in &names {
            for block in self.standing_on(name, &names) {
                reasons.extend(self.mounted(name, block));
                reasons.extend(self.swapped(name, block));
            }
        }
        let unknown = self.unknown();
        reasons.extend(own.first().zip(unknown).map(|((name, _), Unknown(file))| {
            let device = (*name).clone();
            Protection::UnknownDisk { device, file }
        }));
        reasons.into_iter().collect()
    }

    /// `name` and all that stands on it. The device's `own` disks are each looked at for themselves, and a filesystem on a
    /// partition is not one on the disk.
    fn standing_on<'a>(&'a self, name: &'a str, own: &BTreeSet<&str>) -> Vec<&'a Block> {
        let mut seen = BTreeSet::from([name]);
        let mut open = vec![name];
        let mut found = Vec::new();
        while let Some(name) = open.pop() {
            let Some(block) = self.blocks.get(name) else {
                continue;
            };
            found.push(block);
            let above = block.above.iter().map(String::as_str);
            open.extend(above.filter(|next| !own.contains(next) && seen.insert(next)));
        }
        found
    }

    /// The first mount of `block`, which stands on the disk `device`.
    fn mounted(&self, device: &str, block: &Block) -> Option<Protection> {
        let here = |mount: &&Mount| {
            (mount.number.is_some() && mount.number == block.number)
                || block.files.contains(&mount.source)
        };
        let mount = self.mounts.as_ref().ok()?.iter().find(here)?;
        Some(Protection::MountedDisk {
            device: device.to_owned(),
            mountpoint: mount.mountpoint.clone(),
        })
    }

    fn swapped(&self, device: &str, block: &Block) -> Option<Protection> {
        let swaps = self.swaps.as_ref().ok()?;
        let device = device.to_owned();
        let here = swaps.iter().any(|file| block.files.contains(file));
        here.then_some(Protection::SwapDisk { device })
    }

    /// What could not be read.
    fn unknown(&self) -> Option<Unknown> {
        let of_mounts = self.mounts.as_ref().err();
        of_mounts.or(self.swaps.as_ref().err()).copied()
    }
}

/// All block devices, with what stands on each.
fn blocks(root: &Path) -> BTreeMap<String, Block> {
    let found = all(root);
    let mut blocks: BTreeMap<String, Block> =
        found.iter().map(|(name, dir)| (name.clone(), block(name, dir))).collect();
    for (name, dir) in &found {
        let partitions = found
            .iter()
            .filter(|(_, other)| other.parent() == Some(dir))
            .map(|(name, _)| name.clone());
        stand(&mut blocks, name, partitions);
    }
    for (name, dir) in &found {
        if let Some(below) = loop_backing(&blocks, dir) {
            stand(&mut blocks, &below, [name.clone()]);
        }
    }
    for members in btrfs(root) {
        for member in &members {
            stand(&mut blocks, member, members.iter().cloned());
        }
    }
    blocks
}

fn stand(
    blocks: &mut BTreeMap<String, Block>,
    below: &str,
    above: impl IntoIterator<Item = String>,
) {
    if let Some(block) = blocks.get_mut(below) {
        block.above.extend(above);
    }
}

/// The names and folders of all disks and partitions.
fn all(root: &Path) -> Vec<(String, PathBuf)> {
    let found = sysfs::class(&root.join("sys/class/block"));
    if !found.is_empty() {
        return found;
    }
    // Kernels without the class list whole disks only; partitions are folders in them.
    let mut found = sysfs::class(&root.join("sys/block"));
    for (disk, dir) in found.clone() {
        let partitions = sysfs::names(&dir)
            .into_iter()
            .filter(|name| name.starts_with(&disk))
            .map(|name| (name.clone(), dir.join(name)));
        found.extend(partitions);
    }
    found
}

fn block(name: &str, dir: &Path) -> Block {
    let mapped = sysfs::word(dir, "dm/name").map(|name| format!("/dev/mapper/{name}"));
    // A slash in a name of the kernel's is written as an exclamation mark in sysfs.
    let mut files = vec![format!("/dev/{}", name.replace('!', "/"))];
    files.extend(mapped);
    Block {
        dir: dir.to_owned(),
        number: sysfs::word(dir, "dev"),
        files,
        above: sysfs::names(&dir.join("holders")).into_iter().collect(),
    }
}

/// The block device that the loop device in `dir` is set up on, if it is one.
fn loop_backing(blocks: &BTreeMap<String, Block>, dir: &Path) -> Option<String> {
    let file = sysfs::word(dir, "loop/backing_file")?;
    let below = blocks.iter().find(|(_, it)| it.files.contains(&file))?;
    Some(below.0.clone())
}

/// The members of each btrfs that is mounted: `mount` names one of them only.
fn btrfs(root: &Path) -> Vec<Vec<String>> {
    let dir = root.join("sys/fs/btrfs");
    sysfs::names(&dir).into_iter().map(|id| sysfs::names(&dir.join(id).join("devices"))).collect()
}
