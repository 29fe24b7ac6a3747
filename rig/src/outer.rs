//! Host passthrough for real: a machine L1 with USB devices of its own, and a guest L2 inside it.
//!
//! ```text
//!   this machine
//!   ├─ test ─────────────────────────────┐ sh(), plug(), unplug(), inner().sh()
//!   └─ QEMU: L1, Linux with USB devices  │
//!        ├─ the program under test       │ /bin/NAME, talks to /run/inner.qmp
//!        ├─ /dev/bus/usb/001/002         │
//!        └─ QEMU: L2, Linux              │ sees the device through usb-host
//!             ttyS0, ttyS1 ── L1's ttyS3, ttyS2 ── this machine
//! ```
//!
//! A device plugged with the monitor of L1's QEMU is a real plug for L1's kernel: uevents, sysfs,
//! device nodes. L2's serial ports lead through those of L1 to this machine, so that L2 has a
//! [`Shell`] like any other guest.
//!
//! All of it is software emulation within software emulation: L2's kernel takes about a minute to
//! boot. Hence both are booted once, saved with QEMU's migration and kept in the cache; a test
//! starts from there in a few seconds. What differs between tests is added afterwards: USB devices
//! are plugged, files come over a virtio disk.

use crate::bare::BareQemu;
use crate::cache::Cache;
use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::guest::{Guest, Line, QUICK};
use crate::image::{Image, MODULES, add_files};
use crate::kernel::Kernel;
use crate::packages;
use crate::parcel::{self, Files, QEMU_IN_GUEST, UDEVD_IN_GUEST};
use crate::process::{Qemu, RunDir};
use crate::shell::Shell;
use crate::snapshot;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The QMP socket of L2's QEMU in L1, for the program under test.
pub const INNER_QMP: &str = "/run/inner.qmp";
/// A second one, for tests.
pub const INNER_SPARE_QMP: &str = "/run/inner-spare.qmp";
/// Arguments for an L2 that has an xHCI controller from the start, `hci0`. Adding one later takes
/// L2's kernel 20 s, all of it code that two emulators have not seen yet; a device takes 2 s.
pub const INNER_XHCI: &str = "-device qemu-xhci,id=hci0";
/// What L2 loads: as little as sees a stick, a mouse and a serial adapter on xHCI.
pub const INNER_MODULES: &[&str] =
    &["usb-storage delay_use=0", "sd_mod", "usbhid", "hid-generic", "xhci-pci"];

/// What L1 loads besides a guest's usual modules: the disk that brings files.
const OUTER_MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// The QEMU that L1 runs: always the installed one, whatever `VUSB_QEMU` says, for L1 has its files
/// where this machine has them.
const INNER_QEMU: &str = "qemu-system-x86_64";
/// The bus of L1 into which its devices are plugged.
const BUS: &str = "outer.0";
/// How long a device may take to leave L1.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);
/// How long L1 may take to start a QEMU.
const INNER_START_LIMIT: Duration = Duration::from_secs(120);
/// How long a boot may take: L1 needs 3 s, L2 60 s, a busy machine several times that.
const BOOT_LIMIT: Duration = Duration::from_secs(900);
/// How long unpacking the files in L1 may take.
const FILES_LIMIT: Duration = Duration::from_secs(60);
/// Size of the disk that brings files. The same for every run, for it is part of the saved state.
const DISK_BYTES: u64 = 1 << 30;
/// Where the files begin on it, in MiB: L1's kernel read the beginning when it saw the disk.
const DISK_SKIP_MIB: u64 = 1;

/// How L1 is to be.
#[derive(Debug, Clone, Default)]
pub struct OuterBuilder {
    files: Files,
    binaries: Vec<PathBuf>,
    drives: Vec<(String, PathBuf)>,
    devices: Vec<Value>,
    inner: Option<(String, String)>,
}

impl OuterBuilder {
    /// A program of this machine that L1 is to have in `/bin`, with its shared libraries.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binaries.push(path.to_path_buf());
        self
    }

    /// A file of this machine that L1 is to have.
    pub fn file(mut self, in_l1: &str, here: &Path) -> Self {
        self.files.insert(in_l1.to_owned(), here.to_path_buf());
        self
    }

    /// A USB device that L1 has: what [`Outer::plug`] takes.
    pub fn usb(mut self, device: Value) -> Self {
        self.devices.push(device);
        self
    }

    /// A disk image that a `usb-storage` of L1 can use: `{"driver": "usb-storage", "drive": ID}`.
    pub fn drive(mut self, id: &str, image: &Path) -> Self {
        self.drives.push((id.to_owned(), image.to_path_buf()));
        self
    }

    /// L2 is to run already: its machine, `pc` or `q35`, and further arguments of its QEMU.
    pub fn inner(mut self, machine: &str, args: &str) -> Self {
        self.inner = Some((machine.to_owned(), args.to_owned()));
        self
    }

    /// Starts L1 and waits until it runs (there is no [`Shell::wait_booted`] to be called), with L2 if [`OuterBuilder::inner`] was called, and the
    /// devices are plugged (which L1's kernel notices a moment later). The first start with the
    /// same [`OuterBuilder::inner`] boots both; later ones take the saved state.
    ///
    /// # Errors
    /// As [`crate::GuestBuilder::start`]; [`Error::Unusable`] if a binary has no file name.
    pub fn start(self) -> Result<Outer> {
        packages::ensure()?;
        let parts = Parts::gather()?;
        let name = format!("l1-{}", parts.key(self.inner.as_ref())?);
        let saved =
            parts.cache.entry(&name, |half| parts.boot_and_save(self.inner.as_ref(), half))?;
        let dir = RunDir::new()?;
        for console in [CONSOLE, INNER_CONSOLE] {
            let (from, to) = (saved.join(console), dir.join(console));
            fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
        }
        snapshot::link(&dir, &saved.join(STATE))?;
        self.write_disk(&dir.join(DISK))?;
        let mut args = snapshot::incoming().to_vec();
        for (id, image) in &self.drives {
            let node = format!("driver=raw,node-name={id},file.driver=file,file.filename=");
            args.extend(["-blockdev".to_owned(), format!("{node}{}", image.display())]);
        }
        let outer = parts.launch(dir, args)?;
        snapshot::resume(outer.qemu())?;
        outer.take_over(self.inner.is_some())?;
        for device in self.devices {
            outer.plug(device)?;
        }
        Ok(outer)
    }

    /// Writes the disk that brings binaries and files.
    fn write_disk(&self, path: &Path) -> Result<()> {
        let mut files = self.files.clone();
        for binary in &self.binaries {
            let name = binary
                .file_name()
                .ok_or_else(|| Error::Unusable(format!("{} is no program", binary.display())))?;
            let inside = format!("/bin/{}", name.to_string_lossy());
            files.extend(parcel::program(&inside, binary)?);
        }
        let mut disk = empty_disk(path)?;
        disk.seek(SeekFrom::Start(DISK_SKIP_MIB << 20)).map_err(Error::io("write", path))?;
        let mut archive = Archive::new(BufWriter::new(disk));
        add_files(&mut archive, &files, path)?;
        archive.finish().map(drop).map_err(Error::io("write", path))
    }
}

/// Names in the run's folder and in the cache.
const CONSOLE: &str = "console.log";
const INNER_CONSOLE: &str = "inner-console.log";
const STATE: &str = "state";
const DISK: &str = "files.img";

/// A sparse file of the disk's size.
fn empty_disk(path: &Path) -> Result<File> {
    let disk = File::create(path).map_err(Error::io("create", path))?;
    disk.set_len(DISK_BYTES).map_err(Error::io("write", path))?;
    Ok(disk)
}

/// What every L1 is made of.
struct Parts {
    cache: Cache,
    kernel: Kernel,
    image: PathBuf,
    qemu: Qemu,
}

impl Parts {
    fn gather() -> Result<Self> {
        let cache = Cache::open()?;
        let kernel = Kernel::fetch(&cache)?;
        let qemu = Qemu::installed();
        let inner = Image::default().modules(INNER_MODULES.iter().copied());
        let inner = inner.build(&cache, &kernel)?;
        let image = Image::default()
            .modules(MODULES.iter().chain(&OUTER_MODULES).copied())
            .files(parcel::qemu(&Qemu::at(INNER_QEMU))?)
            .files(parcel::udevd(&cache)?)
            .file("inner/vmlinux", &kernel.image)
            .file("inner/image.cpio", &inner)
            .build(&cache, &kernel)?;
        Ok(Self { cache, kernel, image, qemu })
    }

    /// A name for the state: changes whenever something does that it depends on.
    fn key(&self, inner: Option<&(String, String)>) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {} ", inner, self.qemu.version()?));
        hash.update(format!("{} {}", self.image.display(), self.qemu.program().display()));
        hash.update(format!("{:?}{QUICK}", Self::arguments()));
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Arguments of L1's QEMU that the guest can see. Both halves of the xHCI controller have all
    /// the ports that they can have.
    fn arguments() -> [&'static str; 10] {
        [
            "-device",
            "qemu-xhci,id=outer,p2=15,p3=15",
            "-blockdev",
            "driver=raw,node-name=files,read-only=on,file.driver=file,file.filename=files.img",
            "-device",
            "virtio-blk-pci,drive=files",
            // Ports 3 and 4 of a PC share their interrupts with 1 and 2 unless told otherwise.
            "-device",
            "isa-serial,index=2,irq=5,chardev=inner",
            "-device",
            "isa-serial,index=3,irq=7,chardev=inner-console",
        ]
    }

    /// Starts QEMU in a folder in which the disk is.
    fn launch(&self, dir: RunDir, args: Vec<String>) -> Result<Outer> {
        let console = dir.join(INNER_CONSOLE);
        let line = Line::listen(dir.join("inner.sock"))?;
        let file = format!("file,id=inner-console,append=on,path={}", console.display());
        let guest = Guest::builder()
            .machine("q35")
            .memory_mib(1024)
            .processors(2)
            .qemu(&self.qemu)
            .args(["-chardev", &line.chardev("inner"), "-chardev", &file])
            .args(Self::arguments())
            .args(args);
        let guest = guest.launch(&self.kernel, &self.image, dir)?;
        let inner = Shell::new(line.accept()?, console, Arc::clone(guest.shared_qemu()));
        Ok(Outer { guest, inner })
    }

    /// Boots L1, and L2 if it is wanted, and saves both to a new folder.
    fn boot_and_save(&self, inner: Option<&(String, String)>, half: &Path) -> Result<()> {
        fs::create_dir(half).map_err(Error::io("make the folder", half))?;
        let dir = RunDir::new()?;
        snapshot::link(&dir, &half.join(STATE))?;
        empty_disk(&dir.join(DISK))?;
        let outer = self.launch(dir, Vec::new())?;
        outer.wait_booted(BOOT_LIMIT)?;
        outer.sh(&format!("mkdir -p /run/udev && {UDEVD_IN_GUEST} --daemon"), BOOT_LIMIT)?.ok()?;
        if let Some((machine, args)) = inner {
            eprintln!("vusb-rig: booting a {machine} guest inside a guest; this takes a minute");
            outer.start_inner(machine, args)?;
            outer.inner.wait_booted(BOOT_LIMIT)?;
        }
        snapshot::save(outer.qemu())?;
        for console in [CONSOLE, INNER_CONSOLE] {
            let from = outer.qemu().dir().join(console);
            fs::copy(&from, half.join(console)).map_err(Error::io("copy", &from))?;
        }
        Ok(())
    }
}

/// A running L1, which one uses through its [`Shell`]; killed on drop, with L2.
#[derive(Debug)]
pub struct Outer {
    guest: Guest,
    inner: Shell,
}

impl Outer {
    /// Describes an L1.
    pub fn builder() -> OuterBuilder {
        OuterBuilder::default()
    }

    /// The QEMU under L1.
    pub fn qemu(&self) -> &BareQemu {
        self.guest.qemu()
    }

    /// Plugs a USB device into L1: the properties of QEMU's `device_add`, with an `id`.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's words.
    pub fn plug(&self, mut device: Value) -> Result<()> {
        if let Some(object) = device.as_object_mut() {
            object.entry("bus").or_insert(json!(BUS));
        }
        self.qemu().qmp("device_add", device).map(drop)
    }

    /// Pulls a USB device out of L1 and waits until QEMU says that it is gone.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's words, [`Error::Timeout`].
    pub fn unplug(&self, id: &str) -> Result<()> {
        self.qemu().qmp("device_del", json!({ "id": id }))?;
        let gone = |data: &Value| data.get("device").and_then(Value::as_str) == Some(id);
        self.qemu().wait_event("DEVICE_DELETED", gone, UNPLUG_LIMIT).map(drop)
    }

    /// After a restore: waits for the agents, sets the clock, unpacks the files.
    fn take_over(&self, inner: bool) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let command = format!(
            "date -s @{now} && blockdev --flushbufs /dev/vda && cd / && \
             dd if=/dev/vda bs=1M skip={DISK_SKIP_MIB} 2>/dev/null | cpio -idu"
        );
        self.sh(&command, FILES_LIMIT)?.ok()?;
        if inner {
            self.inner.sh("true", FILES_LIMIT)?.ok()?;
        }
        Ok(())
    }

    /// Starts L2's QEMU in L1, with further arguments of QEMU; returns when its monitors are there.
    /// With `-S` among them its kernel does not run. What it says is in `/tmp/inner.log` in L1.
    ///
    /// # Errors
    /// [`Error::InGuest`] with QEMU's words if it ends at once.
    pub fn start_inner(&self, machine: &str, args: &str) -> Result<()> {
        let command = format!(
            "rm -f {INNER_QMP} {INNER_SPARE_QMP}\n\
             {QEMU_IN_GUEST} -machine {machine} -accel tcg,thread=single -cpu qemu64 -m 192 \
             -nodefaults -display none -no-reboot -kernel /inner/vmlinux \
             -initrd /inner/image.cpio -append '{QUICK}' \
             -serial /dev/ttyS3 -serial /dev/ttyS2 \
             -qmp unix:{INNER_QMP},server=on,wait=off \
             -qmp unix:{INNER_SPARE_QMP},server=on,wait=off {args} >/tmp/inner.log 2>&1 &\n\
             echo $! >/run/inner.pid\n\
             until [ -S {INNER_SPARE_QMP} ]; do\n\
             kill -0 $! || {{ cat /tmp/inner.log; exit 1; }}\n\
             sleep 0.1\n\
             done"
        );
        self.sh(&command, INNER_START_LIMIT)?.ok().map(drop)
    }

    /// Kills L2's QEMU.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn kill_inner(&self) -> Result<()> {
        let kill = "kill -9 $(cat /run/inner.pid); while kill -0 $(cat /run/inner.pid) 2>/dev/null; \
                    do sleep 0.1; done";
        self.sh(kill, INNER_START_LIMIT).map(drop)
    }

    /// The shell in L2.
    pub fn inner(&self) -> &Shell {
        &self.inner
    }
}

impl Deref for Outer {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.guest
    }
}
