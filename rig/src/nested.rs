//! Real host passthrough with nested virtualisation: a machine L1 with its own USB devices, and a
//! guest L2 inside of it.
//!
//! ```text
//!   this machine
//!   ├─ test ─────────────────────────────┐ sh(), plug(), unplug(), inner().sh()
//!   └─ QEMU: L1, Linux with USB devices  │
//!        ├─ the program under test       │ /bin/NAME, connects to /run/inner.qmp
//!        ├─ /dev/bus/usb/001/002         │
//!        └─ QEMU: L2, Linux              │ sees the device through usb-host
//!             ttyS0, ttyS1 ── L1's ttyS3, ttyS2 ── this machine
//! ```
//!
//! A device that is plugged with the monitor of L1's QEMU is a real hotplug for L1's kernel, with
//! uevents, sysfs and device nodes. L2's serial ports are connected to this machine through those
//! of L1, so L2 has a [`Shell`] like any other guest.
//!
//! All of this is software emulation inside of software emulation, and L2's kernel takes about a
//! minute to boot. So both are booted once, saved with QEMU's migration and kept in the cache. A
//! test restores them in a few seconds. The differences between tests are added afterwards: USB
//! devices are plugged, and files are copied from a virtio disk.

use crate::bare_qemu::BareQemu;
use crate::bundle::{self, Files, QEMU_IN_GUEST, UDEVD_IN_GUEST};
use crate::cache::Cache;
use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::guest::{Guest, Line, QUICK};
use crate::image::{Image, MODULES, add_files};
use crate::kernel::Kernel;
use crate::packages;
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
/// A second QMP socket, for tests.
pub const INNER_SPARE_QMP: &str = "/run/inner-spare.qmp";
/// Arguments for an L2 that has an xHCI controller `hci0` from the start. Adding one later takes
/// L2's kernel 20 s, because two emulators have to translate the code; a device takes 2 s.
pub const INNER_XHCI: &str = "-device qemu-xhci,id=hci0";
/// The modules that L2 loads: as few as possible for a stick, a mouse and a serial adapter on xHCI.
pub const INNER_MODULES: &[&str] =
    &["usb-storage delay_use=0", "sd_mod", "usbhid", "hid-generic", "xhci-pci"];

/// The modules that L1 loads in addition to a guest's usual ones: for the disk with the files.
const NESTED_HOST_MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// The QEMU that L1 runs. Always the installed one and not `VUSB_QEMU`, because L1 has the files at
/// the paths of this machine.
const INNER_QEMU: &str = "qemu-system-x86_64";
/// The bus of L1 for hotplugged devices.
const BUS: &str = "outer.0";
/// How long the removal of a device from L1 may take.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);
/// How long L1 may take to start a QEMU.
const INNER_START_LIMIT: Duration = Duration::from_secs(120);
/// How long a boot may take: L1 needs 3 s, L2 60 s, a busy machine several times that.
const BOOT_LIMIT: Duration = Duration::from_secs(900);
/// How long unpacking the files in L1 may take.
const FILES_LIMIT: Duration = Duration::from_secs(60);
/// The size of the disk with the files. The same for every run, because it is part of the saved
/// state.
const DISK_BYTES: u64 = 1 << 30;
/// The offset of the files on the disk in MiB. L1's kernel has cached the beginning since it
/// detected the disk.
const DISK_SKIP_MIB: u64 = 1;

/// The configuration of L1.
#[derive(Debug, Clone, Default)]
pub struct NestedHostBuilder {
    files: Files,
    binaries: Vec<PathBuf>,
    drives: Vec<(String, PathBuf)>,
    devices: Vec<Value>,
    inner: Option<(String, String)>,
}

impl NestedHostBuilder {
    /// Adds a program of this machine to L1's `/bin`, with its shared libraries.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binaries.push(path.to_path_buf());
        self
    }

    /// Adds a file of this machine.
    pub fn file(mut self, in_l1: &str, here: &Path) -> Self {
        self.files.insert(in_l1.to_owned(), here.to_path_buf());
        self
    }

    /// Adds a USB device: the argument of [`NestedHost::plug`].
    pub fn usb(mut self, device: Value) -> Self {
        self.devices.push(device);
        self
    }

    /// Adds a disk image for a `usb-storage` of L1: `{"driver": "usb-storage", "drive": ID}`.
    pub fn drive(mut self, id: &str, image: &Path) -> Self {
        self.drives.push((id.to_owned(), image.to_path_buf()));
        self
    }

    /// Includes a running L2 with this machine, `pc` or `q35`, and these additional arguments of
    /// QEMU.
    pub fn inner(mut self, machine: &str, args: &str) -> Self {
        self.inner = Some((machine.to_owned(), args.to_owned()));
        self
    }

    /// Starts L1, and L2 after [`NestedHostBuilder::inner`], and waits until both have booted: do
    /// not call [`Shell::wait_booted`]. Then plugs the devices, which L1's kernel detects a moment
    /// later. The first start with the same [`NestedHostBuilder::inner`] boots both; later ones
    /// restore the saved state.
    ///
    /// # Errors
    /// As [`crate::GuestBuilder::start`]; [`Error::Unusable`] if a binary has no file name.
    pub fn start(self) -> Result<NestedHost> {
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
        outer.finish_restore(self.inner.is_some())?;
        for device in self.devices {
            outer.plug(device)?;
        }
        Ok(outer)
    }

    /// Writes the disk with binaries and files.
    fn write_disk(&self, path: &Path) -> Result<()> {
        let mut files = self.files.clone();
        for binary in &self.binaries {
            let name = binary
                .file_name()
                .ok_or_else(|| Error::Unusable(format!("{} has no file name", binary.display())))?;
            let inside = format!("/bin/{}", name.to_string_lossy());
            files.extend(bundle::program(&inside, binary)?);
        }
        let mut disk = empty_disk(path)?;
        disk.seek(SeekFrom::Start(DISK_SKIP_MIB << 20)).map_err(Error::io("write", path))?;
        let mut archive = Archive::new(BufWriter::new(disk));
        add_files(&mut archive, &files, path)?;
        archive.finish().map(drop).map_err(Error::io("write", path))
    }
}

/// File names in the run's directory and in the cache.
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

/// The components of every L1.
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
            .modules(MODULES.iter().chain(&NESTED_HOST_MODULES).copied())
            .files(bundle::qemu(&Qemu::at(INNER_QEMU))?)
            .files(bundle::udevd(&cache)?)
            .file("inner/vmlinux", &kernel.image)
            .file("inner/image.cpio", &inner)
            .build(&cache, &kernel)?;
        Ok(Self { cache, kernel, image, qemu })
    }

    /// A hash of everything that the saved state depends on.
    fn key(&self, inner: Option<&(String, String)>) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {} ", inner, self.qemu.version()?));
        hash.update(format!("{} {}", self.image.display(), self.qemu.program().display()));
        hash.update(format!("{:?}{QUICK}", Self::arguments()));
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The arguments of L1's QEMU that the guest can see. The xHCI controller has the maximum
    /// number of USB 2 and USB 3 ports.
    fn arguments() -> [&'static str; 10] {
        [
            "-device",
            "qemu-xhci,id=outer,p2=15,p3=15",
            "-blockdev",
            "driver=raw,node-name=files,read-only=on,file.driver=file,file.filename=files.img",
            "-device",
            "virtio-blk-pci,drive=files",
            // By default, the serial ports 3 and 4 of a PC share their interrupts with 1 and 2.
            "-device",
            "isa-serial,index=2,irq=5,chardev=inner",
            "-device",
            "isa-serial,index=3,irq=7,chardev=inner-console",
        ]
    }

    /// Starts QEMU in a directory that contains the disk.
    fn launch(&self, dir: RunDir, args: Vec<String>) -> Result<NestedHost> {
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
        Ok(NestedHost { guest, inner })
    }

    /// Boots L1, and L2 if requested, and saves both to a new directory.
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

/// A running L1, controlled through its [`Shell`]. Killed on drop, with L2.
#[derive(Debug)]
pub struct NestedHost {
    guest: Guest,
    inner: Shell,
}

impl NestedHost {
    /// The default configuration.
    pub fn builder() -> NestedHostBuilder {
        NestedHostBuilder::default()
    }

    /// L1's QEMU.
    pub fn qemu(&self) -> &BareQemu {
        self.guest.qemu()
    }

    /// Plugs a USB device into L1, with the properties for QEMU's `device_add`, including an `id`.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's message.
    pub fn plug(&self, mut device: Value) -> Result<()> {
        if let Some(object) = device.as_object_mut() {
            object.entry("bus").or_insert(json!(BUS));
        }
        self.qemu().qmp("device_add", device).map(drop)
    }

    /// Unplugs a USB device from L1 and waits until QEMU reports its removal.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's message, [`Error::Timeout`].
    pub fn unplug(&self, id: &str) -> Result<()> {
        self.qemu().qmp("device_del", json!({ "id": id }))?;
        let gone = |data: &Value| data.get("device").and_then(Value::as_str) == Some(id);
        self.qemu().wait_event("DEVICE_DELETED", gone, UNPLUG_LIMIT).map(drop)
    }

    /// After a restore: waits for the agents, sets the clock, unpacks the files.
    fn finish_restore(&self, inner: bool) -> Result<()> {
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

    /// Starts L2's QEMU in L1 with additional arguments, and returns when its monitors are ready.
    /// With `-S`, its kernel does not run. QEMU's messages are in `/tmp/inner.log` in L1.
    ///
    /// # Errors
    /// [`Error::InGuest`] with QEMU's message if it ends immediately.
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

impl Deref for NestedHost {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.guest
    }
}
