//! `cargo xtask dist-test`: tests the packages in Debian root file systems (trees).
//!
//! ```text
//!   the packages, and the same programs as an older version
//!        │
//!        ├─▶ lintian
//!        ├─▶ the static vusb in a folder that contains nothing else
//!        └─▶ a tree of Debian 12, a tree of Debian 13: packaging/debian/tests/in-tree.sh
//! ```
//!
//! mmdebstrap creates each tree once, and the rig's cache keeps it as an archive. Each test unpacks
//! one. It needs root, for `chroot`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vusb_rig::cache::Cache;
use vusb_rig::command::as_root;

use super::build::Build;
use super::{PACKAGES, Tools, build_into, default_out, libvusb, name, results, stage};
use crate::cargo::{Result, run};

/// Debian 12 and 13.
const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// The packages that the checks need in a tree in addition to the minimal system.
const CONTENT: &str = "systemd,man-db,bash-completion,zsh,fish,mandoc,gcc,libc6-dev,pkgconf";

/// The version that the packages are upgraded from.
const OLDER: &str = "0.0.1-1";

/// The packages that this machine needs.
const TOOLS: [&str; 3] = ["mmdebstrap", "lintian", "binutils"];

/// Builds the packages and tests them.
pub(crate) fn run_all() -> Result<()> {
    vusb_rig::packages::ensure_all(&TOOLS)?;
    let build = Build::of_workspace()?;
    let out = default_out();
    build_into(&build, &out)?;
    let older = build.target.join("dist/older");
    fs::create_dir_all(&older)?;
    let tools = Tools::ensure()?;
    for package in &PACKAGES {
        build.deb(&tools, package, Some(OLDER), &older)?;
    }
    libvusb::debs(&build, Some(OLDER), &older)?;
    let debs = debs(&out)?;
    println!("+ lintian {}", debs.iter().map(|it| name(it)).collect::<Vec<_>>().join(" "));
    run(Command::new("lintian")
        .args(["--fail-on", "error", "--tag-display-limit", "0"])
        .args(&debs))?;
    dependencies_are_embedded(&build)?;
    static_program_runs_alone(&build)?;
    for suite in SUITES {
        in_tree(suite, &older, &out)?;
    }
    Ok(())
}

fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut debs = results(folder)?;
    debs.retain(|path| path.extension() == Some(OsStr::new("deb")));
    Ok(debs)
}

/// Each program has the section that lists its dependencies, for `cargo audit bin`.
fn dependencies_are_embedded(build: &Build) -> Result<()> {
    let programs = PACKAGES.iter().map(|it| build.programs_dir().join(it.name));
    for program in programs.chain([build.static_program()]) {
        let mut readelf = Command::new("readelf");
        readelf.args(["--wide", "--sections"]).arg(&program);
        if !vusb_rig::command::finish(readelf)?.contains(".dep-v0") {
            return Err(format!("{} lacks the list of its dependencies", program.display()).into());
        }
    }
    Ok(())
}

/// The static program runs in a folder without any other file.
fn static_program_runs_alone(build: &Build) -> Result<()> {
    let folder = build.target.join("dist/alone");
    stage::copy(&build.static_program(), &folder.join("vusb"))?;
    run(Command::new("chmod").arg("755").arg(folder.join("vusb")))?;
    let add = ["device", "add", "sim:/guest", "storage:/vusb", "--state-dir", "/state"];
    for words in
        [&["--version"][..], &["models"], &add, &["list", "sim:/guest", "--state-dir", "/state"]]
    {
        println!("+ chroot {} /vusb {}", folder.display(), words.join(" "));
        run(as_root("chroot").arg(&folder).arg("/vusb").args(words))?;
    }
    run(as_root("rm").arg("-rf").arg(&folder))
}

/// Runs the script in an unpacked tree.
fn in_tree(suite: &str, older: &Path, newer: &Path) -> Result<()> {
    let archive = Cache::open()?.entry(&format!("tree-{suite}-2.tar"), |half| {
        println!("+ mmdebstrap {suite}");
        let mut command = as_root("mmdebstrap");
        command.args(["--quiet", "--format=tar", "--variant=minbase", "--include", CONTENT, suite]);
        command.arg(half).arg("http://deb.debian.org/debian");
        vusb_rig::command::finish(command).map(drop)
    })?;
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join(suite);
    fs::create_dir(&tree)?;
    run(as_root("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(&tree))?;
    let script = super::build::workspace_file("packaging/debian/tests/in-tree.sh");
    let copies = folder.path().join("debs");
    for (from, to) in [(older, "old"), (newer, "new")] {
        for deb in debs(from)? {
            stage::copy(&deb, &copies.join(to).join(name(&deb)))?;
        }
    }
    stage::copy(&script, &copies.join("in-tree.sh"))?;
    run(as_root("cp").arg("-R").arg(&copies).arg(&tree))?;
    println!("+ in a tree of {suite}: packaging/debian/tests/in-tree.sh");
    let mut inside = as_root("unshare");
    inside.arg("--mount").arg("--pid").arg("--fork");
    inside.arg(format!("--mount-proc={}", tree.join("proc").display()));
    inside.arg("chroot").arg(&tree);
    inside.args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]);
    inside.args(["/bin/bash", "/debs/in-tree.sh", "/debs/old", "/debs/new"]);
    let passed = run(&mut inside);
    run(as_root("rm").args(["-rf", "--one-file-system"]).arg(&tree))?;
    passed
}
