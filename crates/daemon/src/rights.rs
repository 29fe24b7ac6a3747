//! Who may call what.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use vusb_interface::GROUP;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    /// Everything: the superuser, and the user that the daemon runs as.
    All,
    /// Everything that concerns devices of this machine: members of the group `vusb`, and for one
    /// call those whom polkit authorizes.
    Group,
    /// Nothing.
    None,
}

impl Rights {
    /// The rights and the user of the process at the other end of a socket, as the kernel recorded
    /// them when it connected. Users and groups are those of the machine with this root.
    ///
    /// # Errors
    /// The kernel does not know the process.
    pub(crate) fn of_peer(socket: impl AsFd, root: &Path) -> io::Result<(Rights, u32)> {
        let peer = rustix::net::sockopt::socket_peercred(socket)?;
        let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let own = rustix::process::geteuid().as_raw();
        Ok((Rights::of_user(uid, gid, own, &read("etc/passwd"), &read("etc/group")), uid))
    }

    /// The rights of a user, by the texts of `passwd(5)` and `group(5)`. `own` is the user that the
    /// daemon runs as.
    pub(crate) fn of_user(uid: u32, gid: u32, own: u32, users: &str, groups: &str) -> Rights {
        if uid == 0 || uid == own {
            return Rights::All;
        }
        let group = groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, id, members) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (name == GROUP).then(|| Some((id.parse::<u32>().ok()?, members))).flatten()
        });
        let Some((id, members)) = group else { return Rights::None };
        let mut names = users.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            (id.parse() == Ok(uid)).then_some(name)
        });
        let is_member = names.any(|name| members.split(',').any(|it| it == name));
        if id == gid || is_member { Rights::Group } else { Rights::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_the_group_have_rights() {
        let users =
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
        let groups = "users:x:100:bob\nvusb:x:990:carol,alice\n";
        assert_eq!(Rights::of_user(1000, 1000, 500, users, groups), Rights::Group);
        assert_eq!(Rights::of_user(1001, 1001, 500, users, groups), Rights::None);
        // A user whose primary group it is does not appear in the list of members.
        assert_eq!(Rights::of_user(1001, 990, 500, users, groups), Rights::Group);
        assert_eq!(Rights::of_user(1002, 1002, 500, users, groups), Rights::None);
        for groups in ["", "vusb", "vusb:x:", "vusb:x:many:alice", "vusbx:x:990:alice"] {
            assert_eq!(Rights::of_user(1000, 1000, 500, users, groups), Rights::None, "{groups}");
        }
    }
}
