//! `cargo xtask demo`: the main job, on a real guest, in front of the user.
//!
//! Every command is printed before it runs, and everything below it is what it printed. Nothing is compared with what was
//! expected but the checksum, which the guest works out from what it reads.

pub(crate) mod xen;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use vusb_rig::Guest;

use crate::cargo::{Result, build_vusb};

/// What a guest may take to boot, and to answer, on a machine without KVM that is busy with other things.
const BOOT: Duration = Duration::from_secs(180);
const ANSWER: Duration = Duration::from_secs(60);

/// The size of the stick: large enough to be seen, small enough to be read at once.
const STICK_BYTES: usize = 4 << 20;

/// Shows what the guest's kernel says of its USB devices.
const SHOW: &str = "cd /sys/bus/usb/devices; for d in [0-9]*-[0-9]* usb*; do [ -e $d/idVendor ] && \
                    echo \"$d: $(cat $d/idVendor):$(cat $d/idProduct) $(cat $d/speed) Mbit/s, $(cat $d/product)\"; done; true";

/// Runs the demonstration.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    title("Set-up: QEMU, a Debian kernel and busybox, if they are not here yet");
    vusb_rig::packages::ensure()?;
    let stage = Stage::new(build_vusb()?)?;

    title("A stick with 4 MiB of known content");
    let sum = stage.make_stick()?;
    println!("{sum}  stick.img");

    title("A real guest, without any USB");
    println!(
        "$ qemu-system-x86_64 -machine pc -nodefaults -kernel vmlinuz -initrd initrd ... -qmp unix:web1.qmp,server=on,wait=off"
    );
    let guest = Guest::builder().start()?;
    guest.wait_booted(BOOT)?;
    std::os::unix::fs::symlink(guest.qmp_socket(), stage.path("web1.qmp"))?;
    stage.vusb("list qemu:web1.qmp")?;
    in_guest(&guest, SHOW)?;

    title("Give it a controller, a stick, a hub, and a tablet behind the hub");
    stage.vusb("controller add qemu:web1.qmp")?;
    stage.vusb("device add qemu:web1.qmp storage:stick.img --name stick")?;
    stage.vusb("device add qemu:web1.qmp hub --name hub")?;
    stage.vusb("device add qemu:web1.qmp tablet --name tablet --controller hci0 --port 2.1")?;
    stage.vusb("list qemu:web1.qmp")?;

    title("What the guest's own kernel says");
    guest.wait_until("[ -b /dev/sda ] && grep -q Tablet /sys/bus/usb/devices/*/product", ANSWER)?;
    in_guest(&guest, SHOW)?;
    let read = in_guest(&guest, "sha256sum /dev/sda")?;
    if !read.starts_with(&sum) {
        return Err("the guest read something else than what is in stick.img".into());
    }
    println!("The same as stick.img.");

    title("Take it all away again");
    stage.vusb("device remove qemu:web1.qmp tablet")?;
    stage.vusb("device remove qemu:web1.qmp hub")?;
    stage.vusb("device remove qemu:web1.qmp stick")?;
    stage.vusb("controller remove qemu:web1.qmp hci0 --timeout 60")?;
    stage.vusb("list qemu:web1.qmp")?;
    guest.wait_until("! ls -d /sys/bus/usb/devices/usb*", ANSWER)?;
    in_guest(&guest, SHOW)?;
    println!("\nDone in {} s.", start.elapsed().as_secs());
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text} ==");
}

/// Runs a shell command in the guest, printed before and with its output after.
fn in_guest(guest: &Guest, command: &str) -> Result<String> {
    println!("guest# {command}");
    let text = guest.sh(command, ANSWER)?.ok()?;
    print!("{text}");
    if text.trim().is_empty() {
        println!("(nothing)");
    }
    Ok(text)
}

/// The folder that the commands run in.
struct Stage {
    vusb: PathBuf,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(vusb: PathBuf) -> Result<Stage> {
        Ok(Stage { vusb, folder: tempfile::tempdir()? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the stick's content and returns its checksum.
    fn make_stick(&self) -> Result<String> {
        let line = b"vusb gives a guest the USB hardware that was asked for.\n";
        let content: Vec<u8> = line.iter().copied().cycle().take(STICK_BYTES).collect();
        std::fs::write(self.path("stick.img"), &content)?;
        Ok(Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Runs `vusb` with these words, printed before.
    fn vusb(&self, words: &str) -> Result<()> {
        println!("$ vusb {words}");
        std::io::stdout().flush()?;
        let state: &Path = &self.path("state");
        let status = Command::new(&self.vusb)
            .args(words.split(' '))
            .current_dir(self.folder.path())
            .env("VUSB_STATE_DIR", state)
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("vusb {words} failed: {status}").into()) }
    }
}
