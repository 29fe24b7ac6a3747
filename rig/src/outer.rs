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
//! [`Shell`] like any other guest. All of it is software emulation within software emulation: L2
//! is some 10 to 20 times slower than L1.

use crate::bare::BareQemu;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::guest::{Guest, GuestBuilder, Line, QUICK};
use crate::image::Image;
use crate::kernel::Kernel;
use crate::packages;
use crate::parcel::{self, QEMU_IN_GUEST};
use crate::process::{Qemu, RunDir};
use crate::shell::Shell;
use serde_json::{Value, json};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The QMP socket of L2's QEMU in L1, for the program under test.
pub const INNER_QMP: &str = "/run/inner.qmp";
/// A second one, for tests.
pub const INNER_SPARE_QMP: &str = "/run/inner-spare.qmp";
/// What L2 loads: as little as sees a stick, a mouse and a serial adapter on xHCI.
pub const INNER_MODULES: &[&str] =
    &["usb-storage delay_use=0", "sd_mod", "usbhid", "hid-generic", "xhci-pci"];

/// The bus of L1 into which its devices are plugged.
const BUS: &str = "outer.0";
/// How long a device may take to leave L1.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);
/// How long L1 may take to start a QEMU.
const INNER_START_LIMIT: Duration = Duration::from_secs(120);

/// How L1 is to be.
#[derive(Debug, Clone)]
pub struct OuterBuilder {
    guest: GuestBuilder,
    image: Image,
    inner_modules: Vec<String>,
    binaries: Vec<PathBuf>,
}

impl Default for OuterBuilder {
    fn default() -> Self {
        // Both halves of the xHCI controller with all the ports they can have.
        let controller = ["-device", "qemu-xhci,id=outer,p2=15,p3=15"];
        let guest = Guest::builder().machine("q35").memory_mib(1536).processors(2);
        Self {
            guest: guest.args(controller),
            image: Image::default(),
            inner_modules: INNER_MODULES.iter().map(|m| (*m).to_owned()).collect(),
            binaries: Vec::new(),
        }
    }
}

impl OuterBuilder {
    /// A program of this machine that L1 is to have in `/bin`, with its shared libraries.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binaries.push(path.to_path_buf());
        self
    }

    /// A file of this machine that L1 is to have.
    pub fn file(mut self, in_l1: &str, here: &Path) -> Self {
        self.image = self.image.file(in_l1, here);
        self
    }

    /// A USB device that L1 has from the start, as QEMU's `-device` takes it:
    /// `usb-tablet,id=tablet`. It is plugged into the xHCI controller, where it needs no `bus`.
    pub fn usb(mut self, device: &str) -> Self {
        self.guest = self.guest.args(["-device", &format!("{device},bus={BUS}")]);
        self
    }

    /// A disk image that a `usb-storage` of L1 can use: `drive=ID`.
    pub fn drive(mut self, id: &str, image: &Path) -> Self {
        let node = format!("driver=raw,node-name={id},file.driver=file,file.filename=");
        let argument = format!("{node}{}", image.display());
        self.guest = self.guest.args(["-blockdev", &argument]);
        self
    }

    /// Further arguments of L1's QEMU.
    pub fn args<S: Into<std::ffi::OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.guest = self.guest.args(args);
        self
    }

    /// Modules that L2 loads instead of [`INNER_MODULES`].
    pub fn inner_modules<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.inner_modules = names.into_iter().map(Into::into).collect();
        self
    }

    /// Starts L1. L2 is started later, with [`Outer::start_inner`].
    ///
    /// # Errors
    /// As [`GuestBuilder::start`]; [`Error::Unusable`] if a binary has no file name.
    pub fn start(self) -> Result<Outer> {
        packages::ensure()?;
        let cache = Cache::open()?;
        let kernel = Kernel::fetch(&cache)?;
        let inner_image = Image::default().modules(self.inner_modules).build(&cache, &kernel)?;
        let mut image = self
            .image
            .file("inner/vmlinux", &kernel.image)
            .file("inner/image.cpio", &inner_image)
            .files(parcel::qemu(&Qemu::installed())?);
        for binary in &self.binaries {
            let name = binary
                .file_name()
                .ok_or_else(|| Error::Unusable(format!("{} is no program", binary.display())))?;
            let inside = format!("/bin/{}", name.to_string_lossy());
            image = image.files(parcel::program(&inside, binary)?);
        }
        let dir = RunDir::new()?;
        let image = image.write(&kernel, dir.join("image.cpio"))?;
        let console = dir.join("inner-console.log");
        let line = Line::listen(dir.join("inner-agent.sock"))?;
        // Ports 3 and 4 of a PC share their interrupts with 1 and 2 unless told otherwise.
        let guest = self.guest.args([
            "-chardev",
            &line.chardev("inner"),
            "-device",
            "isa-serial,index=2,irq=5,chardev=inner",
            "-chardev",
            &format!("file,id=inner-console,path={}", console.display()),
            "-device",
            "isa-serial,index=3,irq=7,chardev=inner-console",
        ]);
        let guest = guest.launch(&kernel, &image, dir)?;
        let inner = Shell::new(line.accept()?, console, Arc::clone(guest.shared_qemu()));
        Ok(Outer { guest, inner })
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
