//! The disks of a USB device, and how this machine uses them.
//!
//! Each disk and partition is looked up in the mounts and in the list of swap, and so is everything
//! on top of it ([`blocks`](super::blocks)). If a block device on top is used neither for a mount
//! nor for swap, such as an opened LUKS volume, that device itself is reported as the use. If one
//! of these files is unreadable, every disk may be in use; the mounts of other users' processes are
//! an exception ([`mounts`](super::mounts)).
//!
//! The kernel knows of uses that sysfs and proc do not show: a mount, swap, an array or a pool
//! opens the disk exclusively. [`exclusive_use`] asks whether the disk is open in this way. A
//! program that merely has the disk open, such as `dd`, is not detected.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::blocks::{self, Block, Blocks};
use super::mounts::{self, Mount, UnreadableFile};
use crate::process::OpenNodes;
use crate::protection::{DiskHolder, Protection};
use crate::text::printable;

/// How many times exclusive access is requested, and the time between the attempts: `mdadm` and
/// other tools that identify a new disk have exclusive access for a moment.
const ATTEMPTS: u32 = 4;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

/// The block devices of this machine and their use.
pub(crate) struct Disks {
    root: PathBuf,
    blocks: Blocks,
    /// Read when they are first needed: there can be many, and most USB devices have no disk.
    mounts: OnceCell<Result<Vec<Mount>, UnreadableFile>>,
    swaps: OnceCell<Result<Vec<String>, UnreadableFile>>,
}

impl Disks {
    pub(crate) fn read(root: &Path) -> Disks {
        Disks {
            root: root.to_owned(),
            blocks: Blocks::read(root),
            mounts: OnceCell::new(),
            swaps: OnceCell::new(),
        }
    }

    fn mounts(&self) -> Result<&Vec<Mount>, UnreadableFile> {
        self.mounts.get_or_init(|| mounts::mounts(&self.root)).as_ref().map_err(|it| *it)
    }

    fn swaps(&self) -> Result<&Vec<String>, UnreadableFile> {
        self.swaps.get_or_init(|| mounts::swaps(&self.root)).as_ref().map_err(|it| *it)
    }

    /// Why the disks of the USB device with the directory `dir` are protected.
    pub(crate) fn of_device(&self, dir: &Path) -> Vec<Protection> {
        let own = self.below(dir);
        match self.blocks.unreadable_list() {
            Some(file) if own.is_empty() => {
                vec![Protection::UnknownDisk { device: None, file: file.to_owned() }]
            }
            _ => self.protection(&own),
        }
    }

    /// Why a disk or partition is protected, given the number of its node: `8:17`.
    pub(crate) fn of_node(&self, number: &str) -> Vec<Protection> {
        let name = self.blocks.by_number(number);
        let Some(block) = name.and_then(|name| self.blocks.get(name)) else {
            let unknown = self.blocks.unreadable().map(str::to_owned);
            return unknown.map(|file| Protection::UnknownStorage { file }).into_iter().collect();
        };
        let own = self.below(&block.dir);
        let mut reasons = self.protection(&own);
        // A partition is in use if its whole disk is: as a member of an array, for example.
        if let Some(disk) = block.dir.parent() {
            let partitions = self.below(disk);
            let disk = self.blocks.names(|block| block.dir == disk);
            reasons.extend(disk.iter().flat_map(|disk| self.uses(disk, &partitions)));
        }
        if reasons.is_empty() { exclusive_use_of(&self.root, &self.blocks, own) } else { reasons }
    }

    /// Why an image file is protected: this machine itself uses it.
    pub(crate) fn of_file(&self, file: &Path) -> Vec<Protection> {
        let loops = self.blocks.backed_by(file).into_iter().map(Protection::HeldFile);
        let swap = self.swaps().is_ok_and(|swaps| {
            swaps.iter().any(|it| it.as_bytes() == file.as_os_str().as_encoded_bytes())
        });
        let mut reasons: Vec<_> = loops.chain(swap.then_some(Protection::SwapFile)).collect();
        let unreadable = self.swaps().err().map(|UnreadableFile(file)| file);
        if let Some(file) = unreadable.or(self.blocks.unreadable()) {
            reasons.push(Protection::UnknownStorage { file: file.to_owned() });
        }
        reasons
    }

    /// The disks and partitions in a directory of sysfs.
    fn below(&self, dir: &Path) -> BTreeSet<&str> {
        self.blocks.names(|block| block.dir.starts_with(dir))
    }

    /// Every use of these disks and partitions.
    fn protection(&self, own: &BTreeSet<&str>) -> Vec<Protection> {
        if own.is_empty() {
            return Vec::new();
        }
        let mut reasons: BTreeSet<Protection> =
            own.iter().flat_map(|name| self.uses(name, own)).collect();
        reasons.extend(own.first().zip(self.unreadable_file()).map(|(name, file)| {
            let device = Some((*name).to_owned());
            Protection::UnknownDisk { device, file: file.to_owned() }
        }));
        reasons.into_iter().collect()
    }

    /// Every use of one disk or partition. `own` are all disks and partitions of its USB device.
    /// They do not count as users of each other: a filesystem on a partition is not reported for
    /// the whole disk.
    fn uses(&self, device: &str, own: &BTreeSet<&str>) -> BTreeSet<Protection> {
        let Some(block) = self.blocks.get(device) else { return BTreeSet::new() };
        let held = |holder| Protection::HeldDisk { device: device.to_owned(), holder };
        let mut reasons = BTreeSet::from_iter(self.direct(device, block));
        for above in block.above.iter().filter(|it| !own.contains(it.as_str())) {
            let stack = self.stack_on(above, own);
            let of_stack: Vec<_> = stack.iter().flat_map(|it| self.direct(device, it)).collect();
            if of_stack.is_empty() {
                reasons.insert(held(self.blocks.holder(above)));
            }
            reasons.extend(of_stack);
        }
        if let Some((kind, members)) = &block.shared {
            let others = members.iter().filter(|it| *it != device);
            let stacks = others.flat_map(|member| self.stack_on(member, own));
            reasons.extend(stacks.flat_map(|it| self.direct(device, it)));
            if reasons.is_empty() {
                reasons.insert(held(DiskHolder::Filesystem(kind)));
            }
        }
        reasons.extend(block.users.iter().cloned().map(held));
        reasons
    }

    /// `name` and all block devices on top of it, without the device's `own` disks.
    fn stack_on<'a>(&'a self, name: &'a str, own: &BTreeSet<&str>) -> Vec<&'a Block> {
        let mut seen = BTreeSet::from([name]);
        let mut pending = vec![name];
        let mut stack = Vec::new();
        while let Some(name) = pending.pop() {
            let Some(block) = self.blocks.get(name) else {
                continue;
            };
            stack.push(block);
            let members = block.shared.iter().flat_map(|(_, members)| members);
            let above = block.above.iter().chain(members).map(String::as_str);
            pending.extend(above.filter(|next| !own.contains(next) && seen.insert(next)));
        }
        stack
    }

    /// The mount and the swap on `block`, which is the disk `device` itself or on top of it.
    fn direct(&self, device: &str, block: &Block) -> Vec<Protection> {
        self.mounted(device, block).into_iter().chain(self.swapped(device, block)).collect()
    }

    /// The first mount of `block`.
    fn mounted(&self, device: &str, block: &Block) -> Option<Protection> {
        let is_of_block = |mount: &&Mount| {
            (mount.number.is_some() && mount.number == block.number)
                || block.files.contains(&mount.source)
        };
        let mount = self.mounts().ok()?.iter().find(is_of_block)?;
        let (device, mountpoint) = (device.to_owned(), mount.mountpoint.clone());
        Some(match mount.seen_by.clone() {
            None => Protection::MountedDisk { device, mountpoint },
            Some(process) => Protection::MountedElsewhere { device, mountpoint, process },
        })
    }

    fn swapped(&self, device: &str, block: &Block) -> Option<Protection> {
        let swaps = self.swaps().ok()?;
        let device = device.to_owned();
        let is_swap = swaps.iter().any(|file| block.files.contains(file));
        is_swap.then_some(Protection::SwapDisk { device })
    }

    /// The file that could not be read, if any.
    fn unreadable_file(&self) -> Option<&str> {
        let of_proc = self.mounts().err().or(self.swaps().err());
        of_proc.map(|UnreadableFile(file)| file).or_else(|| self.blocks.unreadable())
    }
}

/// The disks and partitions in the directory `dir` of sysfs to which the kernel refuses exclusive
/// access. Those without a node, or whose node this process may not open, are skipped.
///
/// This opens the disks, so a program that requests exclusive access at the same moment is refused.
/// Call it only for a device that is about to be given away.
pub(crate) fn exclusive_use(root: &Path, dir: &Path) -> Vec<Protection> {
    let blocks = Blocks::read(root);
    let own = blocks.names(|block| block.dir.starts_with(dir));
    exclusive_use_of(root, &blocks, own)
}

fn exclusive_use_of(root: &Path, blocks: &Blocks, own: BTreeSet<&str>) -> Vec<Protection> {
    let mut busy: Vec<(&str, &Block)> = own
        .into_iter()
        .filter_map(|name| Some((name, blocks.get(name)?)))
        .filter(|(_, block)| is_refused(root, block))
        .collect();
    // A disk is refused if one of its partitions is.
    let is_below = |dir: &Path, other: &Block| other.dir != dir && other.dir.starts_with(dir);
    let all: Vec<&Block> = busy.iter().map(|(_, block)| *block).collect();
    busy.retain(|(_, block)| !all.iter().any(|other| is_below(&block.dir, other)));
    if busy.is_empty() {
        return Vec::new();
    }
    let open = OpenNodes::read(root);
    let reason = |(name, block): (&str, &Block)| Protection::BusyDisk {
        device: printable(name.as_bytes(), 255),
        content: blocks.content(block),
        openers: block.files.iter().flat_map(|file| open.openers(file)).collect(),
    };
    busy.into_iter().map(reason).collect()
}

/// Whether the kernel refuses exclusive access to a disk or partition.
fn is_refused(root: &Path, block: &Block) -> bool {
    let Some(node) = block.files.first().and_then(|it| it.strip_prefix('/')) else {
        return false;
    };
    let node = root.join(node);
    (0..ATTEMPTS).all(|attempt| {
        if attempt > 0 {
            sleep(BETWEEN_ATTEMPTS);
        }
        // Another kind of file could block, or have side effects.
        let is_node = blocks::node_number(&node).is_some_and(|it| block.number == Some(it));
        is_node && is_busy(&node)
    })
}

/// Opens a block device exclusively for a moment, and returns whether the kernel refuses that. With
/// `O_NONBLOCK`, a drive without a medium does not have to be ready.
fn is_busy(node: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(node, flags, Mode::empty()).err() == Some(Errno::BUSY)
}
