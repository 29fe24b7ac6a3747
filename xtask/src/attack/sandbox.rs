//! The folder in which commands under attack run. Its simulated machine has no USB devices, no
//! disks in use and no claims.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::limited_command::{self, Finished};
use crate::cargo::Result;

/// The usual folder of the records.
pub(super) const STATE: &str = "state";

/// The folder, with the command that runs in it.
pub(super) struct Sandbox {
    folder: tempfile::TempDir,
    vusb: PathBuf,
}

impl Sandbox {
    pub(super) fn new(vusb: &Path) -> Result<Sandbox> {
        let sandbox = Sandbox { folder: tempfile::tempdir()?, vusb: vusb.to_owned() };
        for folder in ["sys/bus/usb/devices", "sys/devices", "proc/self"] {
            fs::create_dir_all(sandbox.path("machine").join(folder))?;
        }
        for file in ["self/mountinfo", "swaps"] {
            fs::write(sandbox.path("machine/proc").join(file), "")?;
        }
        Ok(sandbox)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn vusb(&self) -> &Path {
        &self.vusb
    }

    /// Adds the arguments of a command, separated by blanks, with its records in the folder
    /// `state`.
    pub(super) fn with(&self, mut command: Command, state: &str, words: &str) -> Command {
        command.arg("--host-root").arg(self.path("machine"));
        command.arg("--state-dir").arg(self.path(state));
        command.args(words.split(' ')).current_dir(self.folder.path());
        command
    }

    /// Runs a command with limits on its memory and its time.
    pub(super) fn run(&self, state: &str, words: &str, limit: Duration) -> Result<Finished> {
        limited_command::run(
            &mut self.with(limited_command::command(&self.vusb), state, words),
            limit,
        )
    }
}
