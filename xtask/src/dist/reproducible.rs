//! Whether two builds of the same sources give the same bytes.
//!
//! The second build is in another folder, with another target directory, and has nothing of the
//! first one.

use std::fs;
use std::process::Command;

use super::build::Build;
use super::{below, build_into, files, stage};
use crate::cargo::{Result, target, workspace};

/// Builds everything twice and compares the results.
pub(super) fn run_twice() -> Result<()> {
    let folder = target().join("dist-twice");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let here = Build::of_workspace()?;
    let copy = folder.join("elsewhere/sources");
    // The files that git tracks, with changes that are not committed.
    let tracked = Command::new("git").args(["ls-files", "-z"]).current_dir(workspace()).output()?;
    fs::create_dir_all(&copy)?;
    for file in String::from_utf8(tracked.stdout)?.split_terminator('\0') {
        let from = workspace().join(file);
        if from.is_file() {
            stage::copy(&from, &copy.join(file))?;
        }
    }
    let there = Build { source: copy, target: folder.join("another-target"), epoch: here.epoch };
    let (first, second) = (folder.join("first"), folder.join("second"));
    build_into(&here, &first)?;
    build_into(&there, &second)?;
    let mut different = Vec::new();
    for path in files(&first)? {
        let other = fs::read(second.join(below(&first, &path))).unwrap_or_default();
        let same = fs::read(&path)? == other;
        println!("{} {}", if same { "same bytes:" } else { "DIFFERENT: " }, below(&first, &path));
        if !same {
            different.push(below(&first, &path));
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(format!(
        "two builds differ in {}; compare them in {}",
        different.join(", "),
        folder.display()
    )
    .into())
}
