//! The packages that only a Xen machine needs.

use crate::cache::Cache;
use crate::command::finish;
use crate::error::{Error, Result};
use crate::packages;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages: Xen's tools and daemons, the tools of xenstore, the device model of HVM guests
/// (which is also libxl's PVUSB backend), and a compiler for one kernel module.
///
/// Installed rather than unpacked, because of their many shared libraries. They are inactive on a
/// machine that does not run on Xen.
pub const PACKAGES: [&str; 5] =
    ["xen-utils-4.17", "xenstore-utils", "qemu-system-xen", "gcc-12", "make"];

/// The package of the hypervisor. Unpacked and never installed, because installing it would change
/// what this machine boots.
const HYPERVISOR: &str = "xen-hypervisor-4.17-amd64";
const HYPERVISOR_FILE: &str = "root/boot/xen-4.17-amd64.gz";

/// Installs missing packages, including the rig's general ones.
///
/// # Errors
/// [`Error::Command`] if `apt-get` fails.
pub fn ensure() -> Result<()> {
    packages::ensure()?;
    packages::ensure_all(&PACKAGES)
}

/// The hypervisor in a format for QEMU's `-kernel`: a 32-bit ELF program with a multiboot header.
///
/// # Errors
/// As [`packages::unpack`]; [`Error::Unusable`] if the package is not as expected.
pub fn hypervisor(cache: &Cache) -> Result<PathBuf> {
    let dir = cache.entry("xen", |half| {
        fs::create_dir(half).map_err(Error::io("create the directory", half))?;
        packages::unpack(HYPERVISOR, half)?;
        gunzip(&half.join(HYPERVISOR_FILE), &half.join("xen"))
    })?;
    Ok(dir.join("xen"))
}

fn gunzip(from: &Path, to: &Path) -> Result<()> {
    let input = File::open(from).map_err(Error::io("open", from))?;
    let output = File::create(to).map_err(Error::io("create", to))?;
    let mut command = Command::new("gzip");
    command.arg("-dc").stdin(input).stdout(output).stderr(Stdio::null());
    let status = command.status().map_err(Error::io("unpack", from))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Unusable(format!("gzip could not unpack {}: {status}", from.display())))
}

/// Runs a command and ignores its output.
pub(super) fn check(command: Command) -> Result<()> {
    finish(command).map(drop)
}
