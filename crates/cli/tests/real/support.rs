//! A user at a terminal, with a guest.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use vusb_rig::{Guest, GuestBuilder};

/// How long a guest may take to boot on a busy machine without KVM.
pub(crate) const BOOT: Duration = Duration::from_secs(180);

/// How long a guest may take to find or lose a device on such a machine.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A terminal: a working directory and a state directory.
pub(crate) struct Terminal {
    folder: tempfile::TempDir,
}

/// The result of a command.
#[derive(Debug)]
#[must_use = "check the result of the command"]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its standard output. Asserts that it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out.trim_end().to_owned()
    }

    /// Its standard error. Asserts that it failed with this code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.err
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Terminal {
    pub(crate) fn new() -> Terminal {
        Terminal { folder: tempfile::tempdir().unwrap() }
    }

    /// The command with these arguments, separated by blanks.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vusb"));
        command.args(words.split(' ')).current_dir(self.folder.path()).env_clear();
        command.env("VUSB_STATE_DIR", self.path("state")).stdin(Stdio::null());
        command
    }

    /// Runs it and waits.
    pub(crate) fn vusb(&self, words: &str) -> Ran {
        self.command(words).output().unwrap().into()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns the checksum of its content.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        checksum(content)
    }

    /// Links a guest's monitor to `NAME.qmp` here, so that commands are short.
    pub(crate) fn name(&self, socket: &Path, name: &str) {
        let link = self.path(&format!("{name}.qmp"));
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(socket, link).unwrap();
    }

    /// The domain in `list --json`.
    pub(crate) fn list(&self, domain: &str) -> serde_json::Value {
        serde_json::from_str(&self.vusb(&format!("list {domain} --json")).ok()).unwrap()
    }
}

pub(crate) fn checksum(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A megabyte of data that depends on the seed.
pub(crate) fn noise(seed: u32) -> Vec<u8> {
    (0u32..1 << 18).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Boots a guest and links its monitor to `g.qmp` in the terminal's directory.
pub(crate) fn boot(terminal: &Terminal, builder: GuestBuilder) -> Guest {
    let guest = builder.start().unwrap();
    guest.wait_booted(BOOT).unwrap();
    terminal.name(guest.qmp_socket(), "g");
    guest
}

/// Waits until the guest's kernel sees this many devices, without root hubs, and all that have a
/// driver are bound to it.
pub(crate) fn wait_for(guest: &Guest, count: usize) {
    let condition =
        format!("[ $(ls -d /sys/bus/usb/devices/*-* 2>/dev/null | grep -vc :) = {count} ]");
    guest.wait_until(&condition, WAIT_LIMIT).unwrap();
    let bound = "for i in /sys/bus/usb/devices/*-*:*; do [ ! -e $i ] || [ -e $i/driver ] || grep -qE '^(01|06|0b)$' $i/bInterfaceClass || exit 1; done";
    guest.wait_until(&format!("({bound})"), WAIT_LIMIT).unwrap();
}

/// The devices that the guest's kernel sees, without root hubs: `1-2.1 12 QEMU USB Tablet usbhid`.
pub(crate) fn sees(guest: &Guest) -> Vec<String> {
    let mut lines: Vec<String> = guest
        .usb_tree()
        .unwrap()
        .into_iter()
        .filter(|device| !device.is_root_hub())
        .map(|device| {
            format!("{} {} {} {}", device.path, device.speed, device.name, device.drivers.join("+"))
        })
        .collect();
    lines.sort();
    lines
}
