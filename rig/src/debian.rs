//! Packages of any Debian release, unpacked with everything that they depend on, including the C
//! library. Nothing is installed.
//!
//! `apt-get` uses its own lists and state here, so the lists of this machine do not change.
//! Debian's signatures are verified as always.

use crate::command::run;
use crate::error::{Error, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Debian's mirror, as in its own `sources.list`.
const MIRROR: &str = "http://deb.debian.org/debian";
/// The signing keys, part of the package debian-archive-keyring, which every Debian has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks packages of a release and everything that they depend on into a directory; returns the
/// directory that corresponds to `/`.
pub(crate) fn unpack(suite: &str, packages: &[&str], dir: &Path) -> Result<PathBuf> {
    let (root, apt) = (dir.join("root"), dir.join("apt"));
    for path in [&root, &apt.join("state/lists/partial"), &apt.join("cache/archives/partial")] {
        fs::create_dir_all(path).map_err(Error::io("make the folder", path))?;
    }
    let source = format!("deb [signed-by={KEYRING}] {MIRROR} {suite} main\n");
    write(&apt.join("sources.list"), &source)?;
    // An empty list of installed packages, so that apt fetches all dependencies.
    write(&apt.join("status"), "")?;
    let names = packages.join(" ");
    eprintln!("vusb-rig: downloading {names} of {suite} (kept in the cache, not installed)");
    apt_get(&apt, &["update"])?;
    let only_download = ["install", "-y", "--download-only", "--no-install-recommends"];
    apt_get(&apt, &[&only_download[..], packages].concat())?;
    for package in archives(&apt.join("cache/archives"))? {
        run("dpkg-deb", &["-x".as_ref(), package.as_os_str(), root.as_os_str()])?;
    }
    fs::remove_dir_all(&apt).map_err(Error::io("remove", &apt))?;
    Ok(root)
}

/// Copies the dynamic loader of an unpacked release to `usr/bin/ld-linux-x86-64.so.2`. A program
/// that is started through it uses the release's own libraries, and runs on an older machine too.
pub(crate) fn install_loader(root: &Path) -> Result<()> {
    // Debian 12 has it in `/lib`, Debian 13 in `/usr/lib`.
    let folders = ["lib", "usr/lib"].map(|lib| root.join(lib).join("x86_64-linux-gnu"));
    let mut candidates = folders.iter().map(|folder| folder.join("ld-linux-x86-64.so.2"));
    let loader = candidates.find(|path| path.is_file()).ok_or_else(|| {
        Error::Unusable(format!("no loader where Debian 12 or 13 has it in {}", root.display()))
    })?;
    let copy = root.join("usr/bin/ld-linux-x86-64.so.2");
    fs::copy(&loader, &copy).map(drop).map_err(Error::io("copy", &loader))
}

/// Writes an executable script.
pub(crate) fn write_script(path: &Path, text: &str) -> Result<()> {
    write(path, text)?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, executable).map_err(Error::io("change", path))
}

/// `apt-get` with its own sources, lists and downloads.
fn apt_get(apt: &Path, args: &[&str]) -> Result<()> {
    let settings = [
        ("Dir::Etc::sourcelist", apt.join("sources.list")),
        ("Dir::Etc::sourceparts", PathBuf::from("/dev/null")),
        ("Dir::Etc::preferencesparts", PathBuf::from("/dev/null")),
        ("Dir::State", apt.join("state")),
        ("Dir::State::status", apt.join("status")),
        ("Dir::Cache", apt.join("cache")),
        // Some machines are configured to delete the archives after each download.
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
