//! `cargo xtask dist`: Debian packages, libvusb, a static `vusb` in a tarball, and checksums.
//!
//! ```text
//!   cargo auditable build ─▶ vusb ─▶ vusb man DIR ─┐
//!                                  packaging/man ──┼─▶ target/dist/package/vusb/usr/share
//!                   crates/cli/completions, docs ──┘                  │
//!                                                                     ├─▶ cargo deb ─▶ *.deb
//!   cargo build ─▶ libvusb.a ─▶ cc -shared ─▶ libvusb.so, vusb.h ─▶ dpkg-deb ─▶ *.deb, include, lib
//!   the same for musl ─▶ a static vusb ───────────────────────────────┴─▶ tar ─▶ *.tar.gz
//! ```
//!
//! The content of a package is defined in two places: `[package.metadata.deb]` of its crate, and a
//! row of [`PACKAGES`]. The packages of libvusb are in [`libvusb`]. The bytes depend only on the
//! sources, the compiler and `SOURCE_DATE_EPOCH`: `cargo xtask dist --twice` verifies it.

mod build;
pub(crate) mod libvusb;
mod notices;
mod reproducible;
mod stage;
mod tarball;
pub(crate) mod test;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::cargo::{Result, run, target};
use crate::tools::Tools;
use build::Build;

/// A Debian package.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: &'static str,
    /// The crate whose `[package.metadata.deb]` describes it.
    pub(crate) krate: &'static str,
    /// The sections and names of its written manual pages in `packaging/man`.
    pages: &'static [&'static str],
    /// Its documentation, relative to the workspace.
    docs: &'static [&'static str],
    /// Whether the program writes manual pages, with `man DIR`, and has completion scripts in
    /// `crates/cli/completions`.
    is_command: bool,
}

/// All packages.
pub(crate) const PACKAGES: [Package; 3] = [
    Package {
        name: "vusb",
        krate: "vusb-cli",
        pages: &["vusb.7", "vusb-rules.5", "vusb-spec.5"],
        docs: &[
            "README.md",
            "docs/json.md",
            "docs/errors.md",
            "docs/rules.md",
            "docs/guest-life.md",
            "docs/pictures.md",
            "docs/coming-from-incus.md",
            "docs/coming-from-qm.md",
            "docs/coming-from-vboxmanage.md",
            "docs/coming-from-qvm-usb.md",
            "docs/coming-from-virsh.md",
            "docs/coming-from-xl.md",
        ],
        is_command: true,
    },
    Package {
        name: "vusb-backend",
        krate: "vusb-backend",
        pages: &["vusb-backend.8"],
        docs: &["docs/xenstore.md"],
        is_command: false,
    },
    Package {
        name: "vusbd",
        krate: "vusb-daemon",
        pages: &["vusbd.8"],
        docs: &["docs/vusbd.md"],
        is_command: false,
    },
];

/// What `cargo xtask dist` builds.
pub(crate) enum Request {
    /// Build everything into this folder.
    Build(PathBuf),
    /// Build everything twice, in two folders, and compare.
    Twice,
}

/// Builds everything.
pub(crate) fn dist(request: &Request) -> Result<()> {
    match request {
        Request::Build(out) => build_into(&Build::of_workspace()?, out),
        Request::Twice => reproducible::run_twice(),
    }
}

/// The folder of the results, by default.
pub(crate) fn default_out() -> PathBuf {
    target().join("dist/out")
}

/// Builds everything into `out`, which contains nothing else afterwards.
fn build_into(build: &Build, out: &Path) -> Result<()> {
    let tools = Tools::ensure()?;
    fs::create_dir_all(out)?;
    remove_results(out)?;
    build.programs(&tools)?;
    let root = stage::stage(build)?;
    for package in &PACKAGES {
        build.deb(&tools, package, None, out)?;
    }
    libvusb::compile(build)?;
    libvusb::write_below(build, out)?;
    libvusb::debs(build, None, out)?;
    build.static_command(&tools)?;
    tarball::write(build, &root, out)?;
    write_checksums(out)?;
    println!("\nBuilt in {}:", out.display());
    for path in files(out)? {
        let size = fs::metadata(&path)?.len();
        println!("  {:>9} KB  {}", size.div_ceil(1024), below(out, &path));
    }
    println!("\nInstall with: apt install {}/*.deb", out.display());
    Ok(())
}

/// The files and folders in the folder, sorted.
fn results(out: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(out)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// The files in the folder and below, with symbolic links, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for path in results(&folder)? {
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// A path relative to the folder.
fn below(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}

/// Removes what an earlier run wrote. Nothing is removed if the folder contains anything else.
fn remove_results(out: &Path) -> Result<()> {
    let all = files(out)?;
    if let Some(other) = all.iter().find(|path| !is_result(&below(out, path))) {
        let other = below(out, other);
        return Err(format!("{} contains {other}; name another folder", out.display()).into());
    }
    all.iter().try_for_each(fs::remove_file)?;
    for folder in ["lib/pkgconfig", "lib", "include"].map(|it| out.join(it)) {
        if folder.exists() {
            fs::remove_dir(folder)?;
        }
    }
    Ok(())
}

/// Whether a file below the folder of the results is one of them.
fn is_result(path: &str) -> bool {
    let of_libvusb = path == "include/vusb.h"
        || path == "lib/pkgconfig/vusb.pc"
        || path.strip_prefix("lib/libvusb.").is_some_and(|end| !end.contains('/'));
    let is_at_top = !path.contains('/');
    of_libvusb
        || (is_at_top && [".deb", ".tar.gz", "SHA256SUMS"].iter().any(|it| path.ends_with(it)))
}

/// Writes `SHA256SUMS`, in the format of `sha256sum --check`.
fn write_checksums(out: &Path) -> Result<()> {
    let mut text = String::new();
    for path in files(out)? {
        let sum = Sha256::digest(fs::read(&path)?);
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{sum}  {}\n", below(out, &path)));
    }
    Ok(fs::write(out.join("SHA256SUMS"), text)?)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Compresses a file as Debian requires it, without its name and time.
fn gzip(path: &Path) -> Result<()> {
    run(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(path))
}
