//! The static `vusb` in a tarball, for any Linux.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::build::{Build, STATIC_TARGET};
use super::stage::copy;
use crate::cargo::{Result, run};

/// Writes `vusb-VERSION-TARGET.tar.gz` to `out`. It has the same layout as `/usr/local`, and
/// contains the files that are below `root` for Debian.
pub(super) fn write(build: &Build, root: &Path, out: &Path) -> Result<()> {
    let name = format!("vusb-{}-{STATIC_TARGET}", env!("CARGO_PKG_VERSION"));
    let folder = build.programs_dir().join("tarball");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let top = folder.join(&name);
    let program = top.join("bin/vusb");
    copy(&build.static_program(), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    run(Command::new("cp").arg("-R").arg(root.join("usr/share")).arg(&top))?;
    let doc = top.join("share/doc/vusb");
    fs::remove_file(doc.join("changelog.Debian.gz"))?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&build.source.join(licence), &doc.join(licence))?;
    }
    copy(
        &build.source.join("packaging/systemd/vusb.tmpfile"),
        &top.join("lib/tmpfiles.d/vusb.conf"),
    )?;
    let archive = std::path::absolute(out)?.join(format!("{name}.tar"));
    println!("+ tar --create {}.gz", archive.display());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--format=ustar", "--owner=0", "--group=0"]);
    tar.args(["--numeric-owner", "--mode=u+w,go-w,a+rX", &format!("--mtime=@{}", build.epoch)]);
    tar.arg("--file").arg(&archive).arg("--directory").arg(&folder).arg(&name);
    run(&mut tar)?;
    super::gzip(&archive)
}
