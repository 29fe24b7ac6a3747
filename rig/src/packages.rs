//! The Debian packages that the rig needs on this machine. Only missing ones are installed, and
//! their names are printed first. The guest's kernel is not installed: see [`crate::kernel`].

use crate::command::{as_root, finish, run, run_in};
use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The packages: the emulator and its firmware, the guest's userland, tools to unpack the kernel's
/// image and its modules, tools for disk images.
pub const PACKAGES: [&str; 7] = [
    "qemu-system-x86",
    "qemu-system-data",
    "seabios",
    "busybox-static",
    "xz-utils",
    "kmod",
    "qemu-utils",
];

/// Installs those of [`PACKAGES`] that are missing.
///
/// # Errors
/// [`crate::Error::Command`] if `apt-get` fails.
pub fn ensure() -> Result<()> {
    ensure_all(&PACKAGES)
}

/// Installs those of the named packages that are missing.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_all(packages: &[&'static str]) -> Result<()> {
    // Serialises the threads of this process, so that the second one finds everything installed.
    // Processes are serialized by dpkg's own lock.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let missing = || packages.iter().copied().filter(|it| !is_installed(it)).collect::<Vec<_>>();
    // Twice, because installing packages can remove those that were installed from another release.
    for _ in 0..2 {
        let missing = missing();
        if missing.is_empty() {
            return Ok(());
        }
        eprintln!("vusb-rig: installing {}", missing.join(" "));
        install(&missing).or_else(|_| update_lists().and_then(|()| install(&missing)))?;
    }
    Ok(())
}

/// Whether a package is installed, according to dpkg.
fn is_installed(package: &str) -> bool {
    run("dpkg-query", &["-W", "-f=${db:Status-Status}", package])
        .is_ok_and(|status| status == "installed")
}

/// Updates the package lists: `apt-get update`.
///
/// # Errors
/// [`crate::Error::Command`] if `apt-get` fails.
pub fn update_lists() -> Result<()> {
    finish(apt_get(&["update"])).map(drop)
}

/// Downloads a package into a directory and unpacks it there, without installing it. Returns the
/// directory that corresponds to `/`.
///
/// # Errors
/// [`crate::Error::Command`] if `apt-get` or `dpkg-deb` fails, [`Error::Io`].
pub fn unpack(package: &str, dir: &Path) -> Result<PathBuf> {
    eprintln!("vusb-rig: downloading {package} (kept in the cache, not installed)");
    let download = || run_in(dir, "apt-get", &["-q", "download", package]);
    // Outdated lists contain versions that the mirror no longer has.
    download().or_else(|_| update_lists().and_then(|()| download()))?;
    let root = dir.join("root");
    for entry in fs::read_dir(dir).map_err(Error::io("read the folder", dir))? {
        let path = entry.map_err(Error::io("read the folder", dir))?.path();
        if path.extension().is_some_and(|kind| kind == "deb") {
            run("dpkg-deb", &["-x".as_ref(), path.as_os_str(), root.as_os_str()])?;
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(root)
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = apt_get(&["install", "-y", "--no-install-recommends"]);
    command.args(packages);
    finish(command).map(drop)
}

/// `apt-get`, quiet and non-interactive, through sudo if this process is not root.
fn apt_get(args: &[&str]) -> Command {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    // How long to wait for another apt, in seconds.
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    command.args(args);
    command
}
