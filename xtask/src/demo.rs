//! `cargo xtask demo`: vusb's main use on a real guest, step by step.
//!
//! Every command is printed before it runs, followed by its output. The only check is the stick's
//! checksum, which the guest computes from the data that it reads.

mod replug;
pub(crate) mod xen;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use vusb_rig::Guest;

use crate::cargo::{Result, build_vusb};

/// How long a guest may take to boot, and to respond, on a busy machine without KVM.
const BOOT: Duration = Duration::from_secs(180);
const ANSWER: Duration = Duration::from_secs(60);

/// The size of the stick, which is read completely.
const STICK_BYTES: usize = 4 << 20;

/// Lists the USB devices of the guest's kernel.
const LIST_DEVICES: &str = "cd /sys/bus/usb/devices; for d in [0-9]*-[0-9]* usb*; do [ -e $d/idVendor ] && \
                    echo \"$d: $(cat $d/idVendor):$(cat $d/idProduct) $(cat $d/speed) Mbit/s, $(cat $d/product)\"; done; true";

/// The spec of the guest, for `vusb apply`.
const SPEC: &str = "\
domain = \"web1\"
driver = \"qemu:web1.qmp\"
[[controller]]
usbversion = 3
[[device]]
kind = \"storage\"
file = \"stick.img\"
name = \"stick\"
[[device]]
kind = \"tablet\"
";

/// Runs the demonstration.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    title("Set-up: QEMU, a Debian kernel and busybox, if they are missing");
    vusb_rig::packages::ensure()?;
    println!("Building the command vusb. The first time, this takes a few minutes.");
    let stage = Stage::new(build_vusb()?)?;

    title("A stick with 4 MiB of known content");
    let sum = stage.make_stick()?;
    println!("{sum}  stick.img");

    title("A real guest without USB");
    let guest = stage.start_guest()?;
    stage.vusb("list qemu:web1.qmp")?;
    in_guest(&guest, LIST_DEVICES)?;

    title("Attach a controller, a stick, a hub, and a tablet behind the hub");
    stage.vusb("controller add qemu:web1.qmp")?;
    stage.vusb("device add qemu:web1.qmp storage:stick.img --name stick")?;
    stage.vusb("device add qemu:web1.qmp hub --name hub")?;
    stage.vusb("device add qemu:web1.qmp tablet --name tablet --controller hci0 --port 2.1")?;
    stage.vusb("list qemu:web1.qmp")?;

    title("The devices in the guest's kernel");
    wait_for_devices(&guest)?;
    in_guest(&guest, LIST_DEVICES)?;
    check_stick(&guest, &sum)?;

    title("Detach everything");
    stage.vusb("device remove qemu:web1.qmp tablet")?;
    stage.vusb("device remove qemu:web1.qmp hub")?;
    stage.vusb("device remove qemu:web1.qmp stick")?;
    stage.vusb("controller remove qemu:web1.qmp hci0 --timeout 60")?;
    guest.wait_until("! ls -d /sys/bus/usb/devices/usb*", ANSWER)?;
    in_guest(&guest, LIST_DEVICES)?;

    let guest = specs_and_recovery(&stage, guest, &sum)?;
    drop(guest);
    replug::run(&stage)?;
    println!("\nDone in {} s.", start.elapsed().as_secs());
    stage.print_next_steps();
    Ok(())
}

/// A spec is applied; then the guest is restarted, and gets its devices back.
fn specs_and_recovery(stage: &Stage, guest: Guest, sum: &str) -> Result<Guest> {
    title("The same from a file: a spec");
    std::fs::write(stage.path("web1.toml"), SPEC)?;
    println!("$ cat web1.toml\n{SPEC}");
    stage.vusb("plan web1.toml")?;
    stage.vusb("apply web1.toml")?;
    println!("The second time, there is nothing to do:");
    stage.vusb("apply web1.toml")?;
    wait_for_devices(&guest)?;
    check_stick(&guest, sum)?;

    title("Recovery: the guest loses power, and starts again without USB");
    guest.kill();
    drop(guest);
    let guest = stage.start_guest()?;
    stage.vusb("list web1")?;
    stage.vusb("apply web1")?;
    wait_for_devices(&guest)?;
    check_stick(&guest, sum)?;
    Ok(guest)
}

fn wait_for_devices(guest: &Guest) -> Result<()> {
    let there = "[ -b /dev/sda ] && grep -q Tablet /sys/bus/usb/devices/*/product";
    Ok(guest.wait_until(there, ANSWER).map(drop)?)
}

/// Has the guest read the whole stick.
fn check_stick(guest: &Guest, sum: &str) -> Result<()> {
    let read = in_guest(guest, "sha256sum /dev/sda")?;
    if !read.starts_with(sum) {
        return Err("the guest did not read the content of stick.img".into());
    }
    println!("This is the checksum of stick.img.");
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text} ==");
}

/// Prints and runs a shell command in the guest, and prints its output.
fn in_guest(guest: &Guest, command: &str) -> Result<String> {
    println!("guest# {command}");
    let text = guest.sh(command, ANSWER)?.ok()?;
    print!("{text}");
    if text.trim().is_empty() {
        println!("(nothing)");
    }
    Ok(text)
}

/// The working directory of the commands.
struct Stage {
    vusb: PathBuf,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(vusb: PathBuf) -> Result<Stage> {
        Ok(Stage { vusb, folder: tempfile::tempdir()? })
    }

    /// Starts a guest without USB, with its monitor at `web1.qmp`.
    fn start_guest(&self) -> Result<Guest> {
        println!(
            "$ qemu-system-x86_64 -machine pc -nodefaults -kernel vmlinuz -initrd initrd ... -qmp unix:web1.qmp,server=on,wait=off"
        );
        let monitor = format!("unix:{},server=on,wait=off", self.path("web1.qmp").display());
        let guest = Guest::builder().args(["-qmp", monitor.as_str()]).start()?;
        guest.wait_booted(BOOT)?;
        Ok(guest)
    }

    /// Prints where the command is, and what to do with it.
    fn print_next_steps(&self) {
        println!("\nThe command is {}. To try it without a guest:", self.vusb.display());
        for words in [
            "device add sim:toy.json tablet    # a simulated hypervisor in a file",
            "list sim:toy.json",
            "host list                         # the USB devices of this machine",
            "device add --help                 # every kind of device, with examples",
        ] {
            println!("  {} {words}", self.vusb.display());
        }
        println!("`cargo xtask dist` builds Debian packages with manual pages and completion.");
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

    /// Prints and runs a `vusb` command.
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
