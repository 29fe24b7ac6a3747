//! The Rust toolchain of a Debian release, which is older than the one on this machine: the minimum
//! supported version is tested with it.

use crate::cache::Cache;
use crate::command::finish;
use crate::debian;
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::process::Command;

/// rustc needs a linker, which its package depends on, and the standard library.
const PACKAGES: [&str; 3] = ["rustc", "cargo", "libstd-rust-dev"];

/// Starts the program with the name of this script, with its own loader and libraries.
///
/// Not `sh`: dash drops environment variables whose names contain a hyphen, such as cargo's
/// `CARGO_BIN_EXE_rig-qmp`.
const SCRIPT: &str = r#"#!/bin/bash
root=$(dirname "$(readlink -f "$0")")/root
name=$(basename "$0")
exec "$root/usr/bin/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" \
    --argv0 "$name" "$root/usr/bin/$name" "$@"
"#;

/// An unpacked toolchain.
#[derive(Debug, Clone)]
pub struct Toolchain {
    dir: PathBuf,
}

impl Toolchain {
    /// The toolchain of a Debian release, `trixie` for example. Downloaded if the cache does not
    /// contain it.
    ///
    /// # Errors
    /// [`Error::Command`] if `apt-get` cannot download it, [`Error::Io`].
    pub fn of_debian(suite: &str) -> Result<Toolchain> {
        let dir = Cache::open()?.entry(&format!("rust-{suite}"), |half| {
            let root = debian::unpack(suite, &PACKAGES, half)?;
            debian::install_loader(&root)?;
            ["rustc", "cargo"]
                .into_iter()
                .try_for_each(|program| debian::write_script(&half.join(program), SCRIPT))
        })?;
        Ok(Toolchain { dir })
    }

    /// The compiler's version, like `1.85.1`.
    ///
    /// # Errors
    /// [`Error::Command`] if it does not run, [`Error::Unusable`] if it prints no version.
    pub fn version(&self) -> Result<String> {
        let mut command = Command::new(self.dir.join("rustc"));
        command.arg("--version");
        let output = finish(command)?;
        let version = output.split(' ').nth(1).map(str::to_owned);
        version.ok_or_else(|| Error::Unusable(format!("unexpected version of rustc: {output}")))
    }

    /// cargo, which runs the compiler of this toolchain.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(self.dir.join("cargo"));
        command.env("RUSTC", self.dir.join("rustc"));
        // Set by `cargo run`, for the toolchain of this machine.
        for name in ["CARGO", "LD_LIBRARY_PATH", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER"] {
            command.env_remove(name);
        }
        command
    }
}
