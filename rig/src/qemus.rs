//! Other versions of QEMU, side by side with the installed one: a spec has to give the same
//! hardware on all of them.
//!
//! The QEMU of another release of Debian is downloaded with everything that it depends on, down to
//! the C library, and unpacked into the cache; nothing is installed. It is started through its own
//! loader, and so runs on an older machine too. libvirt comes with the newest one: see [`crate::libvirt`]. `apt-get` is given lists and a state of its own, so
//! that this machine's lists stay as they are; Debian's signatures are checked as always.

use crate::cache::Cache;
use crate::command::run;
use crate::error::{Error, Result};
use crate::process::Qemu;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where Debian's packages come from, as in Debian's own `sources.list`.
const MIRROR: &str = "http://deb.debian.org/debian";
/// The key that signs them, part of package debian-archive-keyring, which every Debian has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The releases to choose from, the newest first: QEMU 10.0 and 7.2.
pub const SUITES: [&str; 2] = ["trixie", "bookworm"];

/// The QEMU of a release of Debian, one of [`SUITES`].
///
/// # Errors
/// [`Error::Command`] if `apt-get` cannot fetch it, [`Error::Unusable`] if it does not run here.
pub fn of_debian(suite: &str) -> Result<Qemu> {
    Ok(Qemu::at(release(suite)?.join("qemu-system-x86_64")))
}

/// What is fetched of each release.
const QEMU: &str = "qemu-system-x86";

/// The release whose libvirt is fetched too: 11.3, whose rules the profile has.
pub(crate) const LIBVIRTS: &str = "trixie";

/// What is fetched of [`LIBVIRTS`] beside: libvirt, with what holds its XML against its schema, which is a script of shell; and the QEMUs of
/// other architectures, for libvirt to ask. Not every release has all of them.
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

/// The folder that has these packages of a release, unpacked to `root`, with everything that they depend on.
pub(crate) fn release(suite: &str) -> Result<PathBuf> {
    let packages = packages_of(suite);
    let digest: [u8; 32] = Sha256::digest(packages.join(" ")).into();
    let key: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Cache::open()?.entry(&format!("debian-{suite}-{key}"), |half| fetch(suite, &packages, half))
}

/// What is fetched of a release.
fn packages_of(suite: &str) -> Vec<&'static str> {
    let libvirt = if suite == LIBVIRTS { &LIBVIRT[..] } else { &[] };
    [&[QEMU], libvirt].concat()
}

/// A QEMU of another version than the installed one.
///
/// # Errors
/// As [`of_debian`]; [`Error::Unusable`] if all of them have the installed one's version.
pub fn second() -> Result<Qemu> {
    let installed = major(&Qemu::installed().version()?);
    for suite in SUITES {
        let other = of_debian(suite)?;
        if major(&other.version()?) != installed {
            return Ok(other);
        }
    }
    Err(Error::Unusable(format!("none of {SUITES:?} has another QEMU than {installed}")))
}

/// `10` of `10.0.13`.
fn major(version: &str) -> String {
    version.split('.').next().unwrap_or_default().to_owned()
}

fn fetch(suite: &str, packages: &[&str], dir: &Path) -> Result<()> {
    let (root, apt) = (dir.join("root"), dir.join("apt"));
    for path in [&root, &apt.join("state/lists/partial"), &apt.join("cache/archives/partial")] {
        fs::create_dir_all(path).map_err(Error::io("make the folder", path))?;
    }
    let source = format!("deb [signed-by={KEYRING}] {MIRROR} {suite} main\n");
    write(&apt.join("sources.list"), &source)?;
    // An empty list of installed packages: apt then fetches all that QEMU depends on.
    write(&apt.join("status"), "")?;
    eprintln!("vusb-rig: downloading QEMU of {suite} (kept in the cache, not installed)");
    apt_get(&apt, &["update"])?;
    let only_download = ["install", "-y", "--download-only", "--no-install-recommends"];
    apt_get(&apt, &[&only_download[..], packages].concat())?;
    for package in archives(&apt.join("cache/archives"))? {
        run("dpkg-deb", &["-x".as_ref(), package.as_os_str(), root.as_os_str()])?;
    }
    fs::remove_dir_all(&apt).map_err(Error::io("remove", &apt))?;
    let loader = loader(&root)?;
    fs::copy(&loader, root.join("usr/bin/loader")).map_err(Error::io("copy", &loader))?;
    let bundle = root.join("usr/bin/qemu-bundle");
    std::os::unix::fs::symlink("../..", &bundle).map_err(Error::io("link", &bundle))?;
    let program = dir.join("qemu-system-x86_64");
    write(&program, STARTER)?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, executable).map_err(Error::io("change", &program))?;
    Qemu::at(&program).version().map(drop)
}

/// Starts QEMU with its own loader and libraries.
///
/// QEMU looks for plug-ins and firmware in `qemu-bundle` beside the running program, if that is
/// there, and otherwise where they are installed on this machine: those are another version's, and
/// QEMU aborts over them. The running program is the loader: hence its copy in QEMU's own folder.
const STARTER: &str = r#"#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
exec "$root/usr/bin/loader" --library-path "$libraries" \
    --argv0 qemu-system-x86_64 "$root/usr/bin/qemu-system-x86_64" "$@"
"#;

/// The loader: Debian 12 has it under `/lib`, Debian 13 under `/usr/lib`.
fn loader(root: &Path) -> Result<PathBuf> {
    let folders = ["lib", "usr/lib"].map(|lib| root.join(lib).join("x86_64-linux-gnu"));
    let mut places = folders.iter().map(|folder| folder.join("ld-linux-x86-64.so.2"));
    places.find(|path| path.is_file()).ok_or_else(|| {
        Error::Unusable(format!("no loader where Debian 12 or 13 has it in {}", root.display()))
    })
}

/// `apt-get` with sources, lists and downloads of its own.
fn apt_get(apt: &Path, args: &[&str]) -> Result<()> {
    let settings = [
        ("Dir::Etc::sourcelist", apt.join("sources.list")),
        ("Dir::Etc::sourceparts", PathBuf::from("/dev/null")),
        ("Dir::Etc::preferencesparts", PathBuf::from("/dev/null")),
        ("Dir::State", apt.join("state")),
        ("Dir::State::status", apt.join("status")),
        ("Dir::Cache", apt.join("cache")),
        // Some machines clean the archives after each download.
        ("Dir::Etc::parts", PathBuf::from("/dev/null")),
        ("Debug::NoLocking", PathBuf::from("true")),
    ];
    let mut all = vec!["-q".to_owned()];
    for (name, value) in settings {
        all.extend(["-o".to_owned(), format!("{name}={}", value.display())]);
    }
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    run("apt-get", &all).map(drop)
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    let paths = entries.filter_map(std::result::Result::ok).map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|kind| kind == "deb")).collect())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io("write", path))
}
