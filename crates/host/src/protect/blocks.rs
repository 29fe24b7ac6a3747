//! The block devices of this machine, and which of them are on top of which.
//!
//! A filesystem is rarely on the disk itself:
//!
//! ```text
//! sdb ─ partition ─▶ sdb1 ─ holder ─▶ dm-0 (LVM, LUKS), md0, bcache0, drbd0 ─ partition ─▶ ...
//!                     │
//!                     ├─ loop device, or write-back of zram, with this backing file
//!                     ├─ other members of a btrfs or bcachefs
//!                     └─ imported ZFS pool, bcache's cache, Xen guest: not block devices here
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::protection::DiskHolder;
use crate::sysfs::{self, Reader};
use crate::text::printable;

/// The longest path in bytes (`PATH_MAX`, `<linux/limits.h>`).
const MAX_PATH: usize = 4096;

/// The longest entry of udev's database that is read, in bytes.
const MAX_UDEV: usize = 64 << 10;

/// A disk, a partition, or a block device on top of others.
pub(crate) struct Block {
    /// Its directory in sysfs.
    pub(crate) dir: PathBuf,
    /// Its device number, such as `8:17`.
    pub(crate) number: Option<String>,
    /// Its nodes: `/dev/sdb1`, `/dev/mapper/vg-root`.
    pub(crate) files: Vec<String>,
    /// The block devices directly on top of it, and for a disk, its partitions.
    pub(crate) above: BTreeSet<String>,
    /// The filesystem over several disks that it is part of: its kind, and all members.
    pub(crate) shared: Option<(&'static str, BTreeSet<String>)>,
    /// Users of it that are not block devices.
    pub(crate) users: BTreeSet<DiskHolder>,
}

/// All block devices.
pub(crate) struct Blocks {
    by_name: BTreeMap<String, Block>,
    files: Reader,
    /// Whether no block device is missing.
    is_complete: bool,
}

impl Blocks {
    pub(crate) fn read(root: &Path) -> Blocks {
        let files = Reader::new(root);
        let all = list(&files);
        let is_complete = files.unreadable().is_none();
        let block = |(name, dir): &(String, PathBuf)| (name.clone(), block(&files, name, dir));
        let by_name = all.iter().map(block).collect();
        let mut blocks = Blocks { by_name, files, is_complete };
        for (name, dir) in &all {
            let is_partition = |other: &&(String, PathBuf)| other.1.parent() == Some(dir);
            for (partition, _) in all.iter().filter(is_partition) {
                blocks.put_above(name, partition);
            }
        }
        for (name, dir) in &all {
            let file = backing_file(&blocks.files, dir);
            if let Some(below) = file.and_then(|file| blocks.by_file(&file)) {
                blocks.put_above(&below, name);
            }
        }
        for (kind, members) in filesystems(&blocks.files) {
            for member in &members {
                if let Some(block) = blocks.by_name.get_mut(member) {
                    block.shared = Some((kind, members.clone()));
                }
            }
        }
        blocks.add_users();
        blocks
    }

    /// The file because of which users of block devices may be missing, if any.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.files.unreadable()
    }

    /// The file because of which block devices may be missing, if any.
    pub(crate) fn unreadable_list(&self) -> Option<&str> {
        self.unreadable().filter(|_| !self.is_complete)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Block> {
        self.by_name.get(name)
    }

    /// The names and blocks that `is_wanted` chooses.
    pub(crate) fn names(&self, is_wanted: impl Fn(&Block) -> bool) -> BTreeSet<&str> {
        let wanted = self.by_name.iter().filter(|(_, it)| is_wanted(it));
        wanted.map(|(name, _)| name.as_str()).collect()
    }

    /// The block device with this number.
    pub(crate) fn by_number(&self, number: &str) -> Option<&str> {
        self.names(|it| it.number.as_deref() == Some(number)).into_iter().next()
    }

    /// The loop devices, and zram devices that write back, with this backing file.
    pub(crate) fn backed_by(&self, file: &Path) -> Vec<DiskHolder> {
        let text = printable(file.as_os_str().as_encoded_bytes(), MAX_PATH);
        let is_backed =
            |block: &Block| backing_file(&self.files, &block.dir).as_deref() == Some(text.as_str());
        self.names(is_backed).into_iter().map(|name| self.holder(name)).collect()
    }

    /// A block device as a user of the disks below it.
    pub(crate) fn holder(&self, name: &str) -> DiskHolder {
        let dir = self.get(name).map(|block| block.dir.as_path()).unwrap_or(Path::new(""));
        let shown = printable(name.as_bytes(), 255);
        if let Some(mapped) = sysfs::word(dir, "dm/name") {
            let mapped = format!("{mapped} ({shown})");
            // `UUID=` of dmsetup: the prefix says which tool made the volume.
            return match sysfs::word(dir, "dm/uuid") {
                Some(id) if id.starts_with("CRYPT-") => DiskHolder::Encrypted(mapped),
                Some(id) if id.starts_with("LVM-") => DiskHolder::Lvm(mapped),
                _ => DiskHolder::DeviceMapper(mapped),
            };
        }
        match name.trim_end_matches(|digit: char| digit.is_ascii_digit()) {
            "loop" => DiskHolder::Loop(shown),
            "zram" => DiskHolder::Zram(shown),
            "bcache" => DiskHolder::Bcache,
            "md" | "md_d" => DiskHolder::Raid(shown),
            _ if dir.join("md").is_dir() => DiskHolder::Raid(shown),
            _ => DiskHolder::Other(shown),
        }
    }

    fn put_above(&mut self, below: &str, above: &str) {
        if let Some(block) = self.by_name.get_mut(below) {
            block.above.insert(above.to_owned());
        }
    }

    /// The block device with the node `file`.
    fn by_file(&self, file: &str) -> Option<String> {
        let root = self.files.root();
        let named = self.names(|it| it.files.iter().any(|own| own == file)).into_iter().next();
        // A node can have any path. Only paths in /dev are looked at: another one may be on a
        // network filesystem whose server does not respond.
        let numbered = || self.by_number(&node_number(&root.join(file.strip_prefix('/')?))?);
        let is_node = file.starts_with("/dev/");
        named.or_else(|| is_node.then(numbered).flatten()).map(str::to_owned)
    }

    /// What udev found on a block device: `ID_FS_TYPE` of its database, such as `zfs_member`.
    pub(crate) fn content(&self, block: &Block) -> Option<String> {
        content(&self.files, block)
    }

    /// Finds the users that are not block devices.
    fn add_users(&mut self) {
        let files = &self.files;
        let pools = zfs_pools(files);
        let guests = xen_guests(files);
        for block in self.by_name.values_mut() {
            let of_guests =
                guests.iter().filter(|(number, _)| block.number.as_ref() == Some(number));
            block.users.extend(of_guests.map(|(_, domain)| DiskHolder::XenGuest(*domain)));
            if files.may_exist(&block.dir.join("bcache")) {
                block.users.insert(DiskHolder::Bcache);
            }
            if !pools.is_empty() {
                let pool = zfs_pool(files, block).filter(|pool| pools.contains(pool));
                block.users.extend(pool.map(DiskHolder::Zfs));
            }
        }
    }
}

/// The number of a block device's node: `8:17`. Other files have none.
pub(crate) fn node_number(path: &Path) -> Option<String> {
    let node = fs::metadata(path).ok().filter(|it| it.file_type().is_block_device())?;
    let (major, minor) = (rustix::fs::major(node.rdev()), rustix::fs::minor(node.rdev()));
    Some(format!("{major}:{minor}"))
}

fn content(files: &Reader, block: &Block) -> Option<String> {
    udev_property(files, block, "ID_FS_TYPE")
}

fn udev_property(files: &Reader, block: &Block, key: &str) -> Option<String> {
    let file = files.root().join("run/udev/data").join(format!("b{}", block.number.as_deref()?));
    let bytes = files.accept(&file, sysfs::read(&file, MAX_UDEV))?;
    let value = |line: &[u8]| {
        let value = line.strip_prefix(b"E:")?.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
        Some(printable(value, 255))
    };
    bytes.split(|byte| *byte == b'\n').find_map(value)
}

/// The names and directories of all disks and partitions.
fn list(files: &Reader) -> Vec<(String, PathBuf)> {
    let all = files.class("sys/class/block");
    if !all.is_empty() {
        return all;
    }
    // Kernels without the class list whole disks only; partitions are subdirectories of those.
    let mut all = files.class("sys/block");
    for (disk, dir) in all.clone() {
        let partitions = files
            .names(&dir)
            .into_iter()
            .filter(|name| name.starts_with(&disk))
            .map(|name| (name.clone(), dir.join(name)));
        all.extend(partitions);
    }
    all
}

fn block(from: &Reader, name: &str, dir: &Path) -> Block {
    let mapped = from.word(dir, "dm/name").map(|name| format!("/dev/mapper/{name}"));
    // sysfs replaces a slash in the kernel's name by an exclamation mark.
    let mut files = vec![format!("/dev/{}", name.replace('!', "/"))];
    files.extend(mapped);
    Block {
        dir: dir.to_owned(),
        number: from.word(dir, "dev"),
        files,
        above: from.names(&dir.join("holders")).into_iter().collect(),
        shared: None,
        users: BTreeSet::new(),
    }
}

/// The file that backs the loop device in `dir`, or to which the zram device in `dir` writes back.
fn backing_file(files: &Reader, dir: &Path) -> Option<String> {
    ["loop/backing_file", "backing_dev"]
        .into_iter()
        .find_map(|attribute| files.text(dir, attribute, MAX_PATH))
        .filter(|file| file.starts_with('/'))
}

/// Each mounted filesystem over several disks: its kind, and its members. The list of mounts names
/// only one of them. Sources: Linux, `fs/btrfs/sysfs.c` and `fs/bcachefs/sysfs.c`.
fn filesystems(files: &Reader) -> Vec<(&'static str, BTreeSet<String>)> {
    let btrfs = files.root().join("sys/fs/btrfs");
    let of_btrfs = files.names(&btrfs).into_iter().map(|id| {
        let members = files.names(&btrfs.join(id).join("devices"));
        ("btrfs", members.into_iter().collect())
    });
    let bcachefs = files.root().join("sys/fs/bcachefs");
    let of_bcachefs = files.names(&bcachefs).into_iter().map(|id| {
        let dir = bcachefs.join(id);
        let members = files.names(&dir).into_iter().filter(|name| name.starts_with("dev-"));
        let members = members.filter_map(|name| files.link_name(&dir.join(name), "block"));
        ("bcachefs", members.collect())
    });
    of_btrfs.chain(of_bcachefs).collect()
}

/// The imported ZFS pools. OpenZFS has a directory of counters for each.
fn zfs_pools(files: &Reader) -> BTreeSet<String> {
    let dir = files.root().join("proc/spl/kstat/zfs");
    files.names(&dir).into_iter().filter(|name| dir.join(name).is_dir()).collect()
}

/// The ZFS pool that a block device belongs to, imported or not. The kernel does not list the
/// members of a pool, but udev has read the pool's name from the disk.
fn zfs_pool(files: &Reader, block: &Block) -> Option<String> {
    let is_member = content(files, block).as_deref() == Some("zfs_member");
    is_member.then(|| udev_property(files, block, "ID_FS_LABEL")).flatten()
}

/// The block devices that Xen guests have as disks, each with the number of the guest's domain.
/// Source: Linux, `drivers/block/xen-blkback/xenbus.c`, `physical_device`.
fn xen_guests(files: &Reader) -> Vec<(String, u16)> {
    let dir = files.root().join("sys/bus/xen-backend/devices");
    let disk = |name: String| {
        let domain = name.strip_prefix("vbd-")?.split('-').next()?.parse().ok()?;
        let number = files.word(&dir.join(&name), "physical_device")?;
        let (major, minor) = number.split_once(':')?;
        let part = |text| u32::from_str_radix(text, 16).ok();
        Some((format!("{}:{}", part(major)?, part(minor)?), domain))
    };
    files.names(&dir).into_iter().filter_map(disk).collect()
}
