//! The files of a package besides its programs and units: `usr/share`, as it is installed.
//!
//! `[package.metadata.deb]` of each crate takes them from `target/release/package/NAME`, which
//! `cargo deb` translates to the target directory and the profile of the build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::Build;
use super::{PACKAGES, Package, gzip, notices, results};
use crate::cargo::{Result, run};

/// The completion scripts of a command: the folder, and what a file's name has before and after
/// that of the command.
const COMPLETIONS: [(&str, &str, &str); 3] = [
    ("bash-completion/completions", "", ""),
    ("zsh/vendor-completions", "_", ""),
    ("fish/vendor_completions.d", "", ".fish"),
];

/// Writes the files of all packages, and returns the folder of `vusb`.
pub(super) fn stage(build: &Build) -> Result<PathBuf> {
    for package in &PACKAGES {
        let root = build.stage_dir(package.name);
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let share = root.join("usr/share");
        manual_pages(build, package, &share.join("man"))?;
        if package.is_command {
            completions(build, package, &share)?;
        }
        documentation(build, package, &share.join("doc").join(package.name))?;
    }
    Ok(build.stage_dir("vusb"))
}

/// The written pages, and those that the program writes about its commands.
fn manual_pages(build: &Build, package: &Package, man: &Path) -> Result<()> {
    let written = build.source.join("packaging/man");
    for page in package.pages {
        let (_, section) = page.rsplit_once('.').ok_or("a manual page without a section")?;
        copy(&written.join(page), &man.join(format!("man{section}")).join(page))?;
    }
    if package.is_command {
        let pages = man.join("man1");
        fs::create_dir_all(&pages)?;
        let program = build.programs_dir().join(package.name);
        run(Command::new(program).arg("man").arg(&pages))?;
    }
    for section in results(man)? {
        results(&section)?.iter().try_for_each(|page| gzip(page))?;
    }
    Ok(())
}

fn completions(build: &Build, package: &Package, share: &Path) -> Result<()> {
    let scripts = build.source.join("crates/cli/completions");
    for (folder, before, after) in COMPLETIONS {
        let shell = folder.split(['/', '-']).next().unwrap_or_default();
        let name = format!("{before}{}{after}", package.name);
        copy(&scripts.join(format!("{}.{shell}", package.name)), &share.join(folder).join(name))?;
    }
    Ok(())
}

/// Documents, licences and the two changelogs that Debian requires.
pub(super) fn documentation(build: &Build, package: &Package, doc: &Path) -> Result<()> {
    for document in package.docs {
        let name = Path::new(document).file_name().unwrap_or_default();
        copy(&build.source.join(document), &doc.join(name))?;
    }
    let changelog = doc.join("changelog");
    copy(&build.source.join("CHANGELOG.md"), &changelog)?;
    gzip(&changelog)?;
    let debian = doc.join("changelog.Debian");
    fs::write(&debian, debian_changelog(package.name, build.epoch)?)?;
    gzip(&debian)?;
    let third_party = doc.join("third-party");
    fs::write(&third_party, notices::of(build, package.krate)?)?;
    gzip(&third_party)
}

/// The maintainer of the packages.
pub(super) const MAINTAINER: &str = "The vusb authors <vusb@users.noreply.github.com>";

fn debian_changelog(name: &str, epoch: u64) -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", &format!("--date=@{epoch}")]);
    let date = vusb_rig::command::finish(date)?;
    Ok(format!(
        "{name} ({version}-1) unstable; urgency=medium\n\n  \
         * Version {version}. changelog.gz in this folder lists the changes.\n\n \
         -- {MAINTAINER}  {}\n",
        date.trim()
    ))
}

/// Copies a file, readable by all, and creates its folder.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::read(from).and_then(|content| fs::write(to, content)).map_err(|error| {
        format!("cannot copy {} to {}: {error}", from.display(), to.display()).into()
    })
}
