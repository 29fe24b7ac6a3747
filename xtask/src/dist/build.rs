//! Running cargo so that the same sources give the same bytes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PACKAGES, Package};
use crate::cargo::{Result, run, target, workspace};
use crate::tools::Tools;

/// The profile in `Cargo.toml`.
pub(super) const PROFILE: &str = "dist";

/// The target of the static program. musl's, because a static glibc still loads shared libraries
/// for users and host names.
#[cfg(target_arch = "x86_64")]
pub(super) const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";
/// As above.
#[cfg(target_arch = "aarch64")]
pub(super) const STATIC_TARGET: &str = "aarch64-unknown-linux-musl";

/// One build: where the sources are and where the results go.
pub(super) struct Build {
    /// The workspace.
    pub(super) source: PathBuf,
    /// The target directory.
    pub(super) target: PathBuf,
    /// The time of the sources, in seconds since 1970.
    pub(super) epoch: u64,
}

impl Build {
    /// A build of this workspace.
    pub(super) fn of_workspace() -> Result<Build> {
        Ok(Build {
            source: workspace().canonicalize()?,
            target: absolute(&target())?,
            epoch: epoch()?,
        })
    }

    /// The folder of the programs.
    pub(super) fn programs_dir(&self) -> PathBuf {
        self.target.join(PROFILE)
    }

    /// The folder of a package's other files.
    pub(super) fn stage_dir(&self, package: &str) -> PathBuf {
        self.programs_dir().join("package").join(package)
    }

    /// Builds the programs of all packages.
    pub(super) fn programs(&self, tools: &Tools) -> Result<()> {
        let crates: Vec<&str> = PACKAGES.iter().flat_map(|it| ["--package", it.krate]).collect();
        self.auditable_build(tools, &crates)?;
        // Cargo does not strip a program whose package has options of its own in the profile, as
        // vusb-backend has.
        for package in &PACKAGES {
            let program = self.programs_dir().join(package.name);
            run(Command::new("strip").arg("--strip-all").arg(program))?;
        }
        Ok(())
    }

    /// Builds the static `vusb`: [`Build::static_program`].
    pub(super) fn static_command(&self, tools: &Tools) -> Result<()> {
        ensure_static_target()?;
        self.auditable_build(tools, &["--package", "vusb-cli", "--target", STATIC_TARGET])
    }

    /// The path of the static `vusb`.
    pub(super) fn static_program(&self) -> PathBuf {
        self.target.join(STATIC_TARGET).join(PROFILE).join("vusb")
    }

    /// Writes a package to `out`, with another version if one is given.
    pub(crate) fn deb(
        &self,
        tools: &Tools,
        package: &Package,
        version: Option<&str>,
        out: &Path,
    ) -> Result<()> {
        let mut command = self.command(&tools.cargo_deb);
        command.args(["deb", "--quiet", "--no-build", "--locked", "--profile", PROFILE]);
        command.args(["--package", package.krate, "--output"]).arg(absolute(out)?);
        if let Some(version) = version {
            command.args(["--deb-version", version]);
        }
        println!("+ cargo deb --no-build --package {}", package.krate);
        run(&mut command)
    }

    fn auditable_build(&self, tools: &Tools, args: &[&str]) -> Result<()> {
        println!("+ cargo auditable build --profile {PROFILE} {}", args.join(" "));
        let mut command = self.command(&tools.cargo_auditable);
        command.args(["auditable", "build", "--locked", "--profile", PROFILE]).args(args);
        run(&mut command)
    }

    /// A command whose results do not depend on where the sources are and when it runs.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.source);
        command.env("CARGO_TARGET_DIR", &self.target);
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        command.env("CARGO_ENCODED_RUSTFLAGS", self.rustflags());
        command.env("TZ", "UTC").env_remove("RUSTFLAGS");
        command
    }

    /// Compiler flags that replace this machine's paths by the same names on every machine. Panic
    /// messages in a program contain such paths.
    fn rustflags(&self) -> OsString {
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
        let paths = [
            (Some(self.source.clone()), "/usr/src/vusb"),
            (Some(self.target.clone()), "/usr/src/vusb/target"),
            (cargo_home.or_else(home), "/usr/src/cargo"),
        ];
        let mut flags = OsString::new();
        for (path, name) in paths {
            let Some(path) = path else { continue };
            if !flags.is_empty() {
                flags.push("\x1f");
            }
            flags.push("--remap-path-prefix=");
            flags.push(path);
            flags.push(format!("={name}"));
        }
        flags
    }
}

/// The time of the sources: `SOURCE_DATE_EPOCH`, otherwise that of the last commit.
fn epoch() -> Result<u64> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch
            .parse()
            .map_err(|_| format!("SOURCE_DATE_EPOCH is not a number: {epoch}"))?);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(workspace());
    let time = vusb_rig::command::finish(git).map_err(|error| {
        format!("set SOURCE_DATE_EPOCH: the time of the last commit is unknown: {error}")
    })?;
    Ok(time.trim().parse()?)
}

/// Adds the target of the static program to the toolchain, if it is missing.
fn ensure_static_target() -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", STATIC_TARGET]);
    let folder = vusb_rig::command::finish(command)?;
    if fs::read_dir(folder.trim()).is_ok_and(|mut files| files.next().is_some()) {
        return Ok(());
    }
    println!("+ rustup target add {STATIC_TARGET}");
    run(Command::new("rustup").args(["target", "add", STATIC_TARGET])).map_err(|error| {
        format!("the static vusb needs Rust's standard library for {STATIC_TARGET}: {error}").into()
    })
}

/// A file of this workspace.
pub(super) fn workspace_file(path: &str) -> PathBuf {
    workspace().join(path)
}

/// The path, absolute. The folder does not have to exist.
fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
