//! Why a process may not open a file, judged by owner and mode of the file; and whether the user of
//! a process may open a node of this machine.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::process;

/// The bit of the capability to bypass file permissions (Linux, `include/uapi/linux/capability.h`).
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

/// The longest access control list that is read, in bytes: more than 500 entries.
const MAX_ACL: usize = 4 << 10;

/// The extended attribute of an access control list.
const ACL: &str = "system.posix_acl_access";

/// The tags of entries in an access control list (Linux, `include/uapi/linux/posix_acl.h`).
const ACL_OWNER: u16 = 0x01;
const ACL_USER: u16 = 0x02;
const ACL_OWNING_GROUP: u16 = 0x04;
const ACL_GROUP: u16 = 0x08;
const ACL_MASK: u16 = 0x10;
const ACL_OTHERS: u16 = 0x20;

/// Why a process may not open a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Owner and mode of the file, or of a folder above it, do not allow it.
    Mode {
        /// The user that the process runs as.
        uid: u32,
        /// The file or folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its group.
        group: u32,
        /// Its permissions: the low twelve bits.
        mode: u32,
    },
    /// The process has its own root, and the file does not exist there.
    Hidden {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Mode { uid, path, owner, group, mode } => write!(
                f,
                "it runs as user {uid}, which may not open {} (owner {owner}, group {group}, mode {mode:04o})",
                path.display()
            ),
            Denied::Hidden { path } => {
                write!(f, "it runs in a container of its own, without {}", path.display())
            }
        }
    }
}

/// The user and groups of a process when it opens files, and whether it bypasses permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Credentials {
    uid: u32,
    groups: Vec<u32>,
    overrides: bool,
}

impl Credentials {
    /// The credentials that apply when the process opens a file, from its `/proc/PID/status`
    /// (`proc_pid_status(5)`).
    fn parse(status: &str) -> Option<Credentials> {
        let capabilities = u64::from_str_radix(value(status, "CapEff")?, 16).ok()?;
        let ([.., uid], [.., gid]) = (process::user_ids(status)?, process::group_ids(status)?);
        let overrides = capabilities & CAP_DAC_OVERRIDE != 0;
        Some(Credentials { uid, groups: with_others(status, gid), overrides })
    }

    /// The user and groups that started the process. They are not changed by a set-user-ID program
    /// or by a user namespace. Capabilities are ignored: in its own user namespace, a process has
    /// all of them.
    fn of_user(status: &str) -> Option<Credentials> {
        let ([uid, ..], [gid, ..]) = (process::user_ids(status)?, process::group_ids(status)?);
        Some(Credentials { uid, groups: with_others(status, gid), overrides: false })
    }

    /// Whether the access control list in `list`, an attribute of a file, allows all of `wanted`
    /// (`acl(5)`, "access check algorithm"). The attribute has a version, and for each entry a tag,
    /// permissions and a number (Linux, `include/uapi/linux/posix_acl_xattr.h`).
    fn may_by_list(&self, owner: u32, group: u32, list: &[u8], wanted: u32) -> bool {
        let entries = list.get(4..).unwrap_or_default().chunks_exact(8).filter_map(|it| {
            let short = |at: usize| Some(u16::from_le_bytes(it.get(at..at + 2)?.try_into().ok()?));
            let id = u32::from_le_bytes(it.get(4..8)?.try_into().ok()?);
            Some((short(0)?, u32::from(short(2)?), id))
        });
        let entries: Vec<(u16, u32, u32)> = entries.collect();
        let of = |tag: u16| entries.iter().filter(move |it| it.0 == tag);
        let mask = of(ACL_MASK).next().map_or(READ | WRITE | SEARCH, |it| it.1);
        let allows = |permissions: u32| permissions & wanted == wanted;
        if owner == self.uid {
            return of(ACL_OWNER).any(|it| allows(it.1));
        }
        if let Some(own) = of(ACL_USER).find(|it| it.2 == self.uid) {
            return allows(own.1 & mask);
        }
        let of_group = of(ACL_OWNING_GROUP).filter(|_| self.groups.contains(&group));
        let named = of(ACL_GROUP).filter(|it| self.groups.contains(&it.2));
        let mut groups = of_group.chain(named).peekable();
        if groups.peek().is_some() {
            return groups.any(|it| allows(it.1 & mask));
        }
        of(ACL_OTHERS).any(|it| allows(it.1))
    }

    /// Whether owner, group and mode, or a capability, allow all of `wanted`.
    fn may(&self, owner: u32, group: u32, mode: u32, wanted: u32) -> bool {
        let class = if owner == self.uid {
            mode >> 6
        } else if self.groups.contains(&group) {
            mode >> 3
        } else {
            mode
        };
        self.overrides || class & wanted == wanted
    }
}

fn value<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// A group of the process, with its supplementary groups.
fn with_others(status: &str, group: u32) -> Vec<u32> {
    let others = value(status, "Groups").unwrap_or_default().split_whitespace();
    others.filter_map(|it| it.parse().ok()).chain([group]).collect()
}

/// Why the process `pid` may not open `path`, which is absolute. `None` if it may, or if that is
/// unknown: the process has ended, or an access control list decides.
pub(crate) fn denied(root: &Path, pid: u32, path: &Path, write: bool) -> Option<Denied> {
    let dir = process::dir(root, pid);
    let who = Credentials::parse(&process::text(root, pid, "status")?)?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    // The root of the process; this process's own root if that may not be read.
    let own = dir.join("root");
    let top = if fs::read_dir(&own).is_ok() { own } else { root.to_owned() };
    let full = top.join(relative);
    if fs::symlink_metadata(&full).is_err() && fs::symlink_metadata(root.join(relative)).is_ok() {
        return Some(Denied::Hidden { path: path.to_owned() });
    }
    // From the root down, because a folder that may not be searched hides everything below it.
    let mut above: Vec<&Path> = relative.ancestors().collect();
    above.reverse();
    let wanted = READ | if write { WRITE } else { 0 };
    above.into_iter().find_map(|part| {
        let full = top.join(part);
        let metadata = fs::metadata(&full).ok()?;
        let wanted = if part == relative { wanted } else { SEARCH };
        let allowed = who.may(metadata.uid(), metadata.gid(), metadata.mode(), wanted);
        (!allowed && !has_acl(&full))
            .then(|| by_mode(who.uid, &Path::new("/").join(part), &metadata))
    })
}

/// Whether the user that started the process `pid` may open the node `path` of this machine for
/// reading and writing, by the node's owner, mode and access control list. False if that is
/// unknown. What the process itself sees at this path does not matter: it may have created that.
pub(crate) fn user_may_open(root: &Path, pid: u32, path: &Path) -> bool {
    let status = process::text(root, pid, "status");
    let Some(who) = status.as_deref().and_then(Credentials::of_user) else { return false };
    let path = root.join(path.strip_prefix("/").unwrap_or(path));
    let Ok(metadata) = fs::metadata(&path) else { return false };
    let (owner, group, wanted) = (metadata.uid(), metadata.gid(), READ | WRITE);
    let mut list = [0_u8; MAX_ACL];
    match rustix::fs::getxattr(&path, ACL, &mut list) {
        Ok(length) if length > 0 => {
            who.may_by_list(owner, group, list.get(..length).unwrap_or_default(), wanted)
        }
        // The list is longer than the buffer.
        Err(error) if error == rustix::io::Errno::RANGE => false,
        _ => who.may(owner, group, metadata.mode(), wanted),
    }
}

fn by_mode(uid: u32, path: &Path, metadata: &Metadata) -> Denied {
    Denied::Mode {
        uid,
        path: path.to_owned(),
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o7777,
    }
}

fn has_acl(path: &Path) -> bool {
    let mut value = [0_u8; 1024];
    match rustix::fs::getxattr(path, ACL, &mut value) {
        Ok(length) => length > 0,
        // The list is longer than the buffer.
        Err(error) => error == rustix::io::Errno::RANGE,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn status(uid: u32, groups: &str, capabilities: &str) -> String {
        format!(
            "Name:\tqemu\nUid:\t0\t{uid}\t{uid}\t{uid}\nGid:\t9\t9\t9\t9\nGroups:\t{groups}\nCapEff:\t{capabilities}\n"
        )
    }

    #[test]
    fn owner_group_and_others_are_told_apart() {
        let who = Credentials::parse(&status(107, "5 6 ", "0000000000000000")).unwrap();
        assert_eq!(who, Credentials { uid: 107, groups: vec![5, 6, 9], overrides: false });
        for (owner, group, mode, allowed) in [
            (107, 0, 0o600, true),
            (0, 0, 0o600, false),
            (0, 6, 0o660, true),
            (0, 9, 0o660, true),
            (0, 7, 0o660, false),
            (0, 7, 0o666, true),
            // The first class that matches decides.
            (107, 6, 0o066, false),
            (0, 6, 0o606, false),
        ] {
            assert_eq!(
                who.may(owner, group, mode, READ | WRITE),
                allowed,
                "{owner} {group} {mode:o}"
            );
        }
        let root = Credentials::parse(&status(0, "", "000001ffffffffff")).unwrap();
        assert!(root.may(5, 5, 0, READ | WRITE));
        assert_eq!(Credentials::parse("Name:\tx\n"), None);
    }

    #[test]
    fn the_first_matching_class_of_an_access_control_list_decides() {
        let list = |entries: &[(u16, u16, u32)]| {
            let mut bytes = 2_u32.to_le_bytes().to_vec();
            for (tag, permissions, id) in entries {
                bytes.extend(tag.to_le_bytes());
                bytes.extend(permissions.to_le_bytes());
                bytes.extend(id.to_le_bytes());
            }
            bytes
        };
        let none = u32::MAX;
        // As udev's tag `uaccess` makes it.
        let seat = list(&[
            (ACL_OWNER, 6, none),
            (ACL_USER, 6, 1000),
            (ACL_OWNING_GROUP, 6, none),
            (ACL_GROUP, 6, 46),
            (ACL_GROUP, 4, 47),
            (ACL_MASK, 6, none),
            (ACL_OTHERS, 4, none),
        ]);
        let may = |uid: u32, groups: &[u32], list: &[u8]| {
            let who = Credentials { uid, groups: groups.to_vec(), overrides: false };
            who.may_by_list(0, 20, list, READ | WRITE)
        };
        for (uid, groups, expected) in [
            (0, &[][..], true),
            (1000, &[], true),
            (1001, &[20], true),
            (1001, &[46], true),
            (1001, &[47], false),
            (1001, &[47, 46], true),
            (1001, &[], false),
        ] {
            assert_eq!(may(uid, groups, &seat), expected, "{uid} {groups:?}");
        }
        let masked = list(&[(ACL_USER, 6, 1000), (ACL_MASK, 4, none), (ACL_OTHERS, 6, none)]);
        assert!(!may(1000, &[], &masked));
        assert!(may(1001, &[], &masked));
        assert!(!may(1001, &[], &masked[..masked.len() - 1]), "cut off");
        assert!(!may(1001, &[], b""));
    }

    /// Users gain no rights by their own namespace or root directory.
    #[test]
    fn a_user_may_open_a_node_by_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let metadata = fs::metadata(root).unwrap();
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let stranger = uid + 1;
        fs::create_dir_all(root.join("proc/7/root")).unwrap();
        let node = root.join("node");
        fs::write(&node, "").unwrap();
        fs::write(root.join("proc/7/root/node"), "").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&root.join("proc/7/root/node"), 0o666);
        let may = |uids: &str, gids: &str, bits: u32| {
            let text = format!("Uid:\t{uids}\nGid:\t{gids}\nGroups:\t\nCapEff:\t1ffffffffff\n");
            fs::write(root.join("proc/7/status"), text).unwrap();
            mode(&node, bits);
            user_may_open(root, 7, Path::new("/node"))
        };
        let of = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
        let other_group = of(gid + 1);
        assert!(may(&of(uid), &other_group, 0o600));
        assert!(!may(&of(stranger), &other_group, 0o664));
        assert!(may(&of(stranger), &other_group, 0o666));
        assert!(may(&of(stranger), &of(gid), 0o660));
        // Programs that are set-user-ID or set-group-ID to the node's user or group.
        assert!(!may(&format!("{stranger} {uid} {uid} {uid}"), &other_group, 0o660));
        assert!(!may(&of(stranger), &format!("{0} {gid} {gid} {gid}", gid + 1), 0o660));
        // A name that the kernel has cut off within a character.
        mode(&node, 0o600);
        let text = format!("Uid:\t{0}\nGid:\t{0}\nGroups:\t\nCapEff:\t0\n", of(uid));
        let text = [b"Name:\tqemu-system-\xc3\n".as_slice(), text.as_bytes()].concat();
        fs::write(root.join("proc/7/status"), text).unwrap();
        assert!(user_may_open(root, 7, Path::new("/node")));
        assert!(!user_may_open(root, 8, Path::new("/node")));
        assert!(!user_may_open(root, 7, Path::new("/none")));
    }

    #[test]
    fn the_first_part_of_the_path_that_denies_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let uid = fs::metadata(root).unwrap().uid();
        let other = uid + 1;
        fs::create_dir_all(root.join("proc/7")).unwrap();
        fs::create_dir_all(root.join("srv/images")).unwrap();
        fs::write(root.join("proc/7/status"), status(other, "", "0")).unwrap();
        let image = root.join("srv/images/a.img");
        fs::write(&image, "").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(root, 0o755);
        mode(&root.join("srv"), 0o755);
        mode(&root.join("srv/images"), 0o711);
        mode(&image, 0o644);
        let path = Path::new("/srv/images/a.img");
        assert_eq!(denied(root, 7, path, false), None);
        let why = denied(root, 7, path, true).unwrap();
        assert!(why.to_string().contains(&format!("user {other}")), "{why}");
        assert!(why.to_string().ends_with("mode 0644)"), "{why}");
        mode(&root.join("srv/images"), 0o700);
        let why = denied(root, 7, path, true).unwrap().to_string();
        assert!(why.contains("may not open /srv/images ("), "{why}");
        // Unknown: there is no such process.
        assert_eq!(denied(root, 8, path, true), None);
        // In its container, the file does not exist.
        fs::create_dir_all(root.join("proc/7/root/srv")).unwrap();
        let hidden = denied(root, 7, path, true).unwrap();
        assert_eq!(hidden, Denied::Hidden { path: path.to_owned() });
    }
}
