//! Other versions of QEMU, in addition to the installed one: a spec has to give the same hardware
//! on all of them.
//!
//! The QEMU of another Debian release is downloaded with all its dependencies, including the C
//! library, and unpacked into the cache. Nothing is installed. It is started through its own
//! loader, so it runs on an older machine too. The tree of the newest one also contains
//! libvirt: see
//! [`crate::libvirt`].

use crate::cache::Cache;
use crate::debian;
use crate::error::{Error, Result};
use crate::process::Qemu;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// The available releases, the newest first: QEMU 10.0 and 7.2.
pub const SUITES: [&str; 2] = ["trixie", "bookworm"];

/// The QEMU of a Debian release, one of [`SUITES`].
///
/// # Errors
/// [`Error::Command`] if `apt-get` cannot download it, [`Error::Unusable`] if it does not run here.
pub fn of_debian(suite: &str) -> Result<Qemu> {
    Ok(Qemu::at(release(suite)?.join("qemu-system-x86_64")))
}

/// A QEMU for this architecture whose version begins with these numbers: the installed one, or that
/// of a Debian release. `None` if neither has it.
///
/// # Errors
/// As [`of_debian`].
pub fn of_version(version: &str, arch: &str) -> Result<Option<Qemu>> {
    let name = format!("qemu-system-{arch}");
    let matches = |qemu: &Qemu| {
        let found = qemu.version();
        found.is_ok_and(|found| {
            found.strip_prefix(version).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let installed = Qemu::at(&name);
    if matches(&installed) {
        return Ok(Some(installed));
    }
    for suite in SUITES {
        let release = release(suite)?;
        if !release.join("root/usr/bin").join(&name).is_file() {
            continue;
        }
        let program = release.join(&name);
        write_starter(&program)?;
        let qemu = Qemu::at(program);
        if matches(&qemu) {
            return Ok(Some(qemu));
        }
    }
    Ok(None)
}

/// The package that is downloaded of each release.
const QEMU: &str = "qemu-system-x86";

/// The release whose libvirt is downloaded too: 11.3, the version that the profile `libvirt`
/// reproduces.
pub(crate) const LIBVIRT_SUITE: &str = "trixie";

/// The additional packages of [`LIBVIRT_SUITE`]: libvirt, the validator of its XML with the
/// programs that its shell script needs, and the QEMUs of other architectures, which libvirt
/// queries. Not every release has all of them.
const LIBVIRT: [&str; 15] = [
    "qemu-system-arm",
    "qemu-system-mips",
    "qemu-system-misc",
    "qemu-system-ppc",
    "qemu-system-riscv",
    "qemu-system-s390x",
    "qemu-system-sparc",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libxml2-utils",
    "coreutils",
    "dash",
    "grep",
    "sed",
];

/// The packages of a release other than [`LIBVIRT_SUITE`] that its libvirt needs.
const OTHER_LIBVIRT: [&str; 6] =
    [QEMU, "libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-qemu", "coreutils", "dash"];

/// The directory with the libvirt of a release and all its dependencies, unpacked to `root`.
pub(crate) fn with_libvirt(suite: &str) -> Result<PathBuf> {
    if suite == LIBVIRT_SUITE {
        return release(suite);
    }
    tree(suite, &OTHER_LIBVIRT)
}

/// The directory with these packages of a release and all their dependencies, unpacked to `root`.
pub(crate) fn release(suite: &str) -> Result<PathBuf> {
    tree(suite, &packages_of(suite))
}

fn tree(suite: &str, packages: &[&str]) -> Result<PathBuf> {
    let digest: [u8; 32] = Sha256::digest(packages.join(" ")).into();
    let key: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Cache::open()?.entry(&format!("debian-{suite}-{key}"), |half| fetch(suite, packages, half))
}

/// The packages that are downloaded of a release.
fn packages_of(suite: &str) -> Vec<&'static str> {
    let libvirt = if suite == LIBVIRT_SUITE { &LIBVIRT[..] } else { &[] };
    [&[QEMU], libvirt].concat()
}

/// A QEMU of a version other than the installed one.
///
/// # Errors
/// As [`of_debian`]; [`Error::Unusable`] if all releases have the installed version.
pub fn second() -> Result<Qemu> {
    let installed = major(&Qemu::installed().version()?);
    for suite in SUITES {
        let other = of_debian(suite)?;
        if major(&other.version()?) != installed {
            return Ok(other);
        }
    }
    Err(Error::Unusable(format!("none of {SUITES:?} has a QEMU other than version {installed}")))
}

/// `10` of `10.0.13`.
fn major(version: &str) -> String {
    version.split('.').next().unwrap_or_default().to_owned()
}

fn fetch(suite: &str, packages: &[&str], dir: &Path) -> Result<()> {
    let root = debian::unpack(suite, packages, dir)?;
    debian::install_loader(&root)?;
    let bundle = root.join("usr/bin/qemu-bundle");
    std::os::unix::fs::symlink("../..", &bundle).map_err(Error::io("link", &bundle))?;
    let program = dir.join("qemu-system-x86_64");
    write_starter(&program)?;
    Qemu::at(&program).version().map(drop)
}

/// Writes a script that starts the QEMU of the same name, unless it exists.
fn write_starter(program: &Path) -> Result<()> {
    if program.is_file() {
        return Ok(());
    }
    debian::write_script(program, STARTER)
}

/// Starts QEMU with its own loader and libraries.
///
/// QEMU looks for plug-ins and firmware in `qemu-bundle` beside the running program, if that
/// exists, and otherwise where this machine has them installed: those are of another version, and
/// QEMU would abort. The running program is the loader, so the loader is copied to QEMU's own
/// directory.
const STARTER: &str = r#"#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
name=$(basename "$0")
exec "$root/usr/bin/ld-linux-x86-64.so.2" --library-path "$libraries" --argv0 "$name" "$root/usr/bin/$name" "$@"
"#;
