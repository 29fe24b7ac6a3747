//! The tools that make packages, built once and kept in the cache of the rig.

use std::path::PathBuf;
use std::process::Command;

use vusb_rig::cache::Cache;

use crate::cargo::Result;

/// `cargo deb`, which writes Debian packages.
const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");
/// `cargo auditable`, which embeds the list of dependencies in a program.
const CARGO_AUDITABLE: (&str, &str) = ("cargo-auditable", "0.7.7");

/// The programs to run.
pub(crate) struct Tools {
    pub(crate) cargo_deb: PathBuf,
    pub(crate) cargo_auditable: PathBuf,
}

impl Tools {
    /// Builds those that the cache does not contain.
    pub(crate) fn ensure() -> Result<Tools> {
        // For the dependencies of the packages: `dpkg-shlibdeps`.
        vusb_rig::packages::ensure_all(&["dpkg-dev"])?;
        Ok(Tools { cargo_deb: install(CARGO_DEB)?, cargo_auditable: install(CARGO_AUDITABLE)? })
    }
}

/// Builds a program from crates.io, unless the cache contains it.
pub(crate) fn install((name, version): (&str, &str)) -> Result<PathBuf> {
    let dir = Cache::open()?.entry(&format!("{name}-{version}"), |half| {
        println!("+ cargo install {name} --version {version}");
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(["install", name, "--locked", "--version", version]);
        // Not optimized: this takes a fraction of the time to build.
        command.args(["--debug", "--root"]).arg(half).env("CARGO_PROFILE_DEV_DEBUG", "0");
        vusb_rig::command::finish(command).map(drop)
    })?;
    Ok(dir.join("bin").join(name))
}
