//! Why a device, a disk or an image file is protected.

use std::fmt;

use thiserror::Error;
use vusb_model::list::few;
use vusb_model::rules::ProtectionKind;

use crate::process::Process;

/// Why a device, a disk or an image file is protected from being given away. Names come from the
/// kernel and are safe to print.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Protection {
    /// It is a hub. The devices behind it would go with it, and no hypervisor passes hubs through.
    #[error("it is a hub: give the devices behind it instead")]
    Hub,
    /// This machine has blocked it: `authorized` in sysfs is 0.
    #[error(
        "this machine has not authorized it (USBGuard, or `authorized` in sysfs): allow it there first"
    )]
    Unauthorized,
    /// A filesystem on it is mounted.
    #[error("the disk {device} is mounted on {mountpoint}: unmount it first")]
    MountedDisk {
        /// The disk or partition, as the kernel names it: `sdb1`.
        device: String,
        /// Where the filesystem is mounted.
        mountpoint: String,
    },
    /// A filesystem on it is mounted in another mount namespace, such as a container's.
    #[error(
        "the disk {device} is mounted on {mountpoint} in the mount namespace of {process}: unmount \
         it there first"
    )]
    MountedElsewhere {
        /// The disk or partition, as the kernel names it: `sdb1`.
        device: String,
        /// Where the filesystem is mounted there.
        mountpoint: String,
        /// A process in that namespace.
        process: Process,
    },
    /// This machine swaps to it.
    #[error("the disk {device} is used as swap: run swapoff first")]
    SwapDisk {
        /// The disk or partition, as the kernel names it: `sdb2`.
        device: String,
    },
    /// Something else in the kernel uses it.
    #[error("the disk {device} is used by {holder}")]
    HeldDisk {
        /// The disk or partition, as the kernel names it: `sdb1`.
        device: String,
        /// What uses it.
        holder: DiskHolder,
    },
    /// The kernel refuses exclusive access to it, so something uses it that is not listed anywhere.
    #[error(
        "the disk {device} is in use: the kernel refuses exclusive access{}{}",
        content.as_ref().map(|it| format!(" (it contains {it})")).unwrap_or_default(),
        opened_by(openers)
    )]
    BusyDisk {
        /// The disk or partition, as the kernel names it: `sdb1`.
        device: String,
        /// What it contains, as udev names it: `zfs_member`.
        content: Option<String>,
        /// Processes that have it open, as far as this process may see them.
        openers: Vec<Process>,
    },
    /// Whether a disk of it is in use is unknown.
    #[error(
        "cannot determine whether {}: {file} is unreadable",
        unknown_use("the", "disk", device.as_deref())
    )]
    UnknownDisk {
        /// The disk, as the kernel names it. `None` if it is unknown which disks there are.
        device: Option<String>,
        /// The file that could not be read.
        file: String,
    },
    /// An image file is in use on this machine itself.
    #[error("it is used by {0}")]
    HeldFile(DiskHolder),
    /// An image file is used as swap.
    #[error("it is used as swap: run swapoff first")]
    SwapFile,
    /// Whether this machine itself uses an image file, or the disk behind a node, is unknown.
    #[error("cannot determine whether this machine uses it: {file} is unreadable")]
    UnknownStorage {
        /// The file that could not be read.
        file: String,
    },
    /// This machine reaches other networks through it.
    #[error(
        "the default route goes through its network card {interface}{}",
        via.as_ref().map(|it| format!(" (by {it})")).unwrap_or_default()
    )]
    DefaultRoute {
        /// The network interface, as the kernel names it: `enx00e04c680001`.
        interface: String,
        /// The interface that has the route, if that is one on top of the card: `br0`.
        via: Option<String>,
    },
    /// Another network interface is on top of it.
    #[error("its network card {interface} is {role} {upper}: take it out first")]
    UsedNetworkCard {
        /// The network interface, as the kernel names it: `enx00e04c680001`.
        interface: String,
        /// How it is used.
        role: NetworkRole,
        /// The interface on top: `br0`.
        upper: String,
    },
    /// It is this machine's only network card.
    #[error("it is the only network card of this machine ({interface})")]
    OnlyNetworkCard {
        /// The network interface, as the kernel names it: `enx00e04c680001`.
        interface: String,
    },
    /// Whether a network card of it is in use is unknown.
    #[error(
        "cannot determine whether {}: {file} is unreadable",
        unknown_use("its", "network card", interface.as_deref())
    )]
    UnknownNetworkCard {
        /// The network interface, as the kernel names it. `None` if it is unknown which ones there
        /// are.
        interface: Option<String>,
        /// The file that could not be read.
        file: String,
    },
    /// It is the only keyboard.
    #[error("it is the only keyboard of this machine")]
    OnlyKeyboard,
    /// It is a Bluetooth adapter, and the only keyboard is connected by Bluetooth.
    #[error("the only keyboard of this machine ({keyboard}) is connected by Bluetooth")]
    BluetoothKeyboard {
        /// The keyboard's name. It comes from the keyboard.
        keyboard: String,
    },
    /// Whether it is the only keyboard, or its adapter, is unknown.
    #[error("cannot determine whether this machine needs it as a keyboard: {file} is unreadable")]
    UnknownKeyboard {
        /// The file that could not be read.
        file: String,
    },
}

impl Protection {
    /// The kind of reason, as rules name it.
    pub const fn kind(&self) -> ProtectionKind {
        match self {
            Protection::Hub => ProtectionKind::Hub,
            Protection::Unauthorized => ProtectionKind::Unauthorized,
            Protection::MountedDisk { .. }
            | Protection::MountedElsewhere { .. }
            | Protection::SwapDisk { .. }
            | Protection::HeldDisk { .. }
            | Protection::BusyDisk { .. }
            | Protection::UnknownDisk { .. }
            | Protection::HeldFile(_)
            | Protection::SwapFile
            | Protection::UnknownStorage { .. } => ProtectionKind::UsedDisk,
            Protection::DefaultRoute { .. }
            | Protection::UsedNetworkCard { .. }
            | Protection::OnlyNetworkCard { .. }
            | Protection::UnknownNetworkCard { .. } => ProtectionKind::OnlyNetwork,
            Protection::OnlyKeyboard
            | Protection::BluetoothKeyboard { .. }
            | Protection::UnknownKeyboard { .. } => ProtectionKind::OnlyKeyboard,
        }
    }
}

fn unknown_use(article: &str, kind: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{article} {kind} {name} is in use"),
        None => format!("it has a {kind} in use"),
    }
}

fn opened_by(openers: &[Process]) -> String {
    if openers.is_empty() { String::new() } else { format!("; opened by {}", few(openers)) }
}

/// What uses a disk, inside the kernel. Each has the name that the user knows it by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskHolder {
    /// An encrypted volume (LUKS, or plain dm-crypt): `secret (dm-0)`.
    Encrypted(String),
    /// A logical volume: `vg-root (dm-0)`.
    Lvm(String),
    /// Another device-mapper volume, such as multipath: `mpatha (dm-0)`.
    DeviceMapper(String),
    /// A RAID array: `md0`.
    Raid(String),
    /// A loop device: `loop0`.
    Loop(String),
    /// A zram device that writes back to the disk: `zram0`.
    Zram(String),
    /// A cache or cached device of bcache.
    Bcache,
    /// An imported ZFS pool: `tank`.
    Zfs(String),
    /// A filesystem with several disks that is mounted somewhere: `btrfs`.
    Filesystem(&'static str),
    /// The disk of a Xen guest, by the number of its domain.
    XenGuest(u16),
    /// Another block device on top of it: `drbd0`.
    Other(String),
}

impl fmt::Display for DiskHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskHolder::Encrypted(name) => {
                write!(f, "the encrypted volume {name}: close it first")
            }
            DiskHolder::Lvm(name) => write!(f, "the LVM volume {name}: deactivate it first"),
            DiskHolder::DeviceMapper(name) => {
                write!(f, "the device-mapper volume {name}: remove it first")
            }
            DiskHolder::Raid(name) => write!(f, "the RAID array {name}: stop it first"),
            DiskHolder::Loop(name) => write!(f, "the loop device {name}: detach it first"),
            DiskHolder::Zram(name) => write!(f, "{name}, which writes back to it: reset it first"),
            DiskHolder::Bcache => f.write_str("bcache: stop it first"),
            DiskHolder::Zfs(pool) => write!(f, "the ZFS pool {pool}: export it first"),
            DiskHolder::Filesystem(kind) => {
                write!(f, "a mounted {kind} filesystem: unmount it first")
            }
            DiskHolder::XenGuest(domain) => write!(f, "the Xen guest with the ID {domain}"),
            DiskHolder::Other(name) => write!(f, "the block device {name}"),
        }
    }
}

/// How a network card is used by the interface on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkRole {
    /// A port of a bridge.
    BridgePort,
    /// A member of a bond.
    BondMember,
    /// A member of another group: a team, an Open vSwitch, a VRF.
    Member,
    /// Below an interface such as a VLAN or a macvtap.
    Below,
}

impl fmt::Display for NetworkRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetworkRole::BridgePort => "a port of the bridge",
            NetworkRole::BondMember => "a member of the bond",
            NetworkRole::Member => "a member of",
            NetworkRole::Below => "below",
        })
    }
}
