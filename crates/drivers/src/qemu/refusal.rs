//! Why QEMU refused a device, as far as this machine shows it: who has locked an image, and what
//! QEMU's user may not open.

use std::path::{Path, PathBuf};

use vusb_host::Host;
use vusb_model::device::Kind;
use vusb_model::list::few;

/// The cause of a refusal, as a clause that follows QEMU's description of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another process has locked the image. "It" is the image.
    Locked(String),
    /// QEMU's user may not open the file. "It" is QEMU.
    Denied(String),
}

/// The cause of a refusal with the description `desc`. `None` if nothing is known. `pid` is QEMU's
/// process.
pub(super) fn cause(host: &Host, pid: Option<u32>, kind: &Kind, desc: &str) -> Option<Cause> {
    let (path, write) = opened(kind)?;
    // "Failed to get "write" lock", "Failed to get shared "write" lock" (QEMU's `file-posix.c`).
    if desc.contains("Failed to get") && desc.contains("lock") {
        return Some(Cause::Locked(match host.lock_holders(&path).as_slice() {
            [] => "a process that this user may not see has locked it".to_owned(),
            holders => format!("it is locked by {}", few(holders)),
        }));
    }
    if !is_not_opened(desc) {
        return None;
    }
    host.denied(pid?, &path, write).map(|denied| Cause::Denied(denied.to_string()))
}

/// Whether a refusal says that a file could not be opened.
pub(super) fn is_not_opened(desc: &str) -> bool {
    let not_opened = ["ould not open", "ermission denied", "ailed to open"];
    not_opened.iter().any(|part| desc.contains(part))
}

/// The file that QEMU opens for a device, and whether it is opened for writing.
pub(super) fn opened(kind: &Kind) -> Option<(PathBuf, bool)> {
    match kind {
        Kind::Storage(storage) => Some((Path::new(&storage.file).to_owned(), !storage.readonly)),
        Kind::Host(host) => {
            let at = host.bus_address?;
            let node = format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.address);
            Some((node.into(), true))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    /// A machine with a QEMU that runs as another user, and holds a lock on `a.img`.
    #[test]
    fn locks_and_permissions_are_explained() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let image = root.join("a.img");
        fs::write(&image, "").unwrap();
        let file = fs::metadata(&image).unwrap();
        let process = root.join("proc/70");
        fs::create_dir_all(process.join("fdinfo")).unwrap();
        fs::create_dir_all(process.join("fd")).unwrap();
        let user = file.uid() + 1;
        let status = format!("Uid:\t{0} {0} {0} {0}\nGid:\t{0} {0} {0} {0}\nCapEff:\t0\n", user);
        fs::write(process.join("status"), status).unwrap();
        fs::write(process.join("comm"), "qemu-system-x86\n").unwrap();
        let lock = format!("lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:{} 100 101\n", file.ino());
        fs::write(process.join("fdinfo/9"), lock).unwrap();
        symlink(&image, process.join("fd/9")).unwrap();
        let host = Host::new(root);
        let kind: Kind = format!("storage:{}", image.display()).parse().unwrap();
        let locked = "Failed to get \"write\" lock";
        assert_eq!(
            cause(&host, None, &kind, locked).unwrap(),
            Cause::Locked("it is locked by qemu-system-x86 (pid 70)".to_owned())
        );
        fs::remove_file(process.join("fdinfo/9")).unwrap();
        assert_eq!(
            cause(&host, None, &kind, locked).unwrap(),
            Cause::Locked("a process that this user may not see has locked it".to_owned())
        );

        fs::create_dir_all(root.join("dev/bus/usb/001")).unwrap();
        let node = root.join("dev/bus/usb/001/004");
        fs::write(&node, "").unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
        let stick: Kind = "host:001.004".parse().unwrap();
        let Kind::Host(mut stick) = stick else { panic!("a host device") };
        stick.bus_address = Some(vusb_model::selector::BusAddress { bus: 1, address: 4 });
        let stick = Kind::Host(stick);
        let denied = cause(&host, Some(70), &stick, "failed to open host device").unwrap();
        let Cause::Denied(denied) = denied else { panic!("{denied:?}") };
        let expected = format!("it runs as user {user}, which may not open /dev/bus/usb/001/004 (");
        assert!(denied.starts_with(&expected), "{denied}");
        assert_eq!(cause(&host, None, &stick, "failed to open host device"), None);
        assert_eq!(cause(&host, Some(70), &stick, "speed mismatch"), None);
        assert_eq!(cause(&host, Some(70), &"tablet".parse().unwrap(), "Could not open"), None);
    }
}
