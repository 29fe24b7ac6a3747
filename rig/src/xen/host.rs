//! The Xen machine: booted once, saved, and then restored for each test.

use super::emulator::is_guest_lost;
use super::guest::{GuestKind, XenGuest, XenGuestBuilder};
use super::lines::{self, Lines};
use super::{image, modules, packages, transfers};
use crate::bare_qemu::{BareQemu, Clock};
use crate::bundle::{self, Files};
use crate::cache::Cache;
use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::guest::Line;
use crate::image::add_files;
use crate::kernel::Kernel;
use crate::process::{Qemu, RunDir};
use crate::shell::Shell;
use crate::snapshot;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek, SeekFrom};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Xen's own parameters: its log on the first serial port, a fixed size of dom0, and no mitigations
/// of processor vulnerabilities, which are slow under emulation.
const XEN: &str = "console=com1 dom0_mem=1280M,max:1280M spec-ctrl=no xpti=no pv-l1tf=no";
/// Parameters of dom0's kernel that save time, as in [`crate::guest`]. Its console is Xen's, and
/// its agent uses the first virtio port.
const DOM0: &str = "console=hvc0 quiet panic=-1 mitigations=off nokaslr cryptomgr.notests audit=0 \
                    apparmor=0 random.trust_cpu=on rcupdate.rcu_expedited=1 rig_agent=/dev/vport0p1";
const MEMORY_MIB: &str = "3072";
/// A processor for a paravirtual dom0.
const CPU: &str = "qemu64";
/// The same with the features that hardware-assisted guests need.
const CPU_SVM: &str = "qemu64,+svm,+npt,+nrip-save";

/// The name of the guest that can be part of the saved state.
pub const READY_GUEST: &str = "u1";

/// The bus of dom0 for hotplugged devices.
const BUS: &str = "outer.0";
const CONSOLE: &str = "console.log";
const STATE: &str = "state";
const DISK: &str = "files.img";
/// The size of the disk with the files. The same for every run, because it is part of the saved
/// state.
const DISK_BYTES: u64 = 1 << 30;
/// The offset of the files on the disk in MiB. dom0's kernel has cached the beginning since it
/// detected the disk.
const DISK_SKIP_MIB: u64 = 1;

/// The maximum number of attempts to boot a machine if QEMU loses its guest.
const BOOT_ATTEMPTS: u32 = 3;
/// How long a boot may take: half a minute on an idle machine, several times that on a busy one.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(900);
/// How long a hardware-assisted guest may take to boot: minutes. One that takes longer has probably
/// stopped, because QEMU's emulated processor has lost it: an HVM guest was seen not to have booted
/// after a quarter of an hour.
pub(super) const HARDWARE_BOOT_LIMIT: Duration = Duration::from_secs(420);
/// How long unpacking files, or one of Xen's tools, may take.
pub(super) const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// How long the removal of a device may take.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);

/// A guest of the saved state: its kind and additional lines of its configuration.
type ReadyGuest = (GuestKind, Vec<String>);

/// The configuration of the Xen machine.
#[derive(Debug, Clone, Default)]
pub struct XenHostBuilder {
    files: Files,
    binaries: Vec<PathBuf>,
    drives: Vec<(String, PathBuf)>,
    devices: Vec<Value>,
    sound: Option<PathBuf>,
    null_drives: Vec<(String, u64)>,
    hardware: bool,
    clock: Clock,
    guest: Option<ReadyGuest>,
}

impl XenHostBuilder {
    /// Adds a program of this machine to dom0's `/bin`, with its shared libraries.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binaries.push(path.to_path_buf());
        self
    }

    /// Adds a file of this machine to dom0.
    pub fn file(mut self, in_dom0: &str, here: &Path) -> Self {
        self.files.insert(in_dom0.to_owned(), here.to_path_buf());
        self
    }

    /// Adds a USB device to dom0: the argument of [`XenHost::plug`].
    pub fn usb(mut self, device: Value) -> Self {
        self.devices.push(device);
        self
    }

    /// Adds a disk image for a `usb-storage`: `{"driver": "usb-storage", "drive": ID}`.
    pub fn drive(mut self, id: &str, image: &Path) -> Self {
        self.drives.push((id.to_owned(), image.to_path_buf()));
        self
    }

    /// Adds a disk of this many bytes that contains zeros, forgets what is written, and takes no
    /// time, for a `usb-storage`.
    pub fn null_drive(mut self, id: &str, bytes: u64) -> Self {
        self.null_drives.push((id.to_owned(), bytes));
        self
    }

    /// Makes the machine's clock count executed instructions, one per nanosecond, so that measured
    /// times do not depend on what else this machine does. Idle time is skipped. Caches and
    /// everything outside of the machine take no time. Twice as slow to emulate, and one of this
    /// machine's processors is busy all the time.
    pub fn virtual_clock(mut self) -> Self {
        self.clock = Clock::Instructions;
        self
    }

    /// Records the output of a sound card of dom0, `{"driver": "usb-audio", "audiodev": "sound"}`,
    /// to this file as WAV: 48,000 samples per second, 16 bits, two channels.
    pub fn sound(mut self, file: &Path) -> Self {
        self.sound = Some(file.to_path_buf());
        self
    }

    /// Enables the processor features that PVH and HVM guests need.
    pub fn hardware_guests(mut self) -> Self {
        self.hardware = true;
        self
    }

    /// Includes the running PV guest [`READY_GUEST`] without USB: see [`XenHost::ready_guest`].
    pub fn ready_guest(self) -> Self {
        self.ready_guest_of(GuestKind::Pv, &[])
    }

    /// Includes the running guest [`READY_GUEST`] of this kind, with these additional lines of
    /// `xl.cfg(5)`. It is part of the saved state: its boot takes minutes the first time, and
    /// seconds afterwards.
    pub fn ready_guest_of(mut self, kind: GuestKind, config: &[&str]) -> Self {
        self.hardware |= kind != GuestKind::Pv;
        self.guest = Some((kind, config.iter().map(|line| (*line).to_owned()).collect()));
        self
    }

    /// Starts the machine, waits until dom0 responds and Xen's services are running, and plugs the
    /// devices, which dom0's kernel detects a moment later. The first start boots the machine;
    /// later ones restore the saved state.
    ///
    /// # Errors
    /// As [`crate::GuestBuilder::start`]; [`Error::Unusable`] if a binary has no file name.
    pub fn start(self) -> Result<XenHost> {
        let parts = Parts::gather(self.hardware, self.clock, self.guest.clone())?;
        let saved = parts
            .cache
            .entry(&format!("xen-{}", parts.key()?), |half| parts.boot_and_save(half))?;
        let dir = RunDir::new()?;
        let console = saved.join(CONSOLE);
        fs::copy(&console, dir.join(CONSOLE)).map_err(Error::io("copy", &console))?;
        snapshot::link(&dir, &saved.join(STATE))?;
        let mut args = snapshot::incoming().to_vec();
        for (id, image) in &self.drives {
            let node = format!("driver=raw,node-name={id},file.driver=file,file.filename=");
            args.extend(["-blockdev".to_owned(), format!("{node}{}", image.display())]);
        }
        for (id, bytes) in &self.null_drives {
            let node = format!("driver=null-co,node-name={id},read-zeroes=on,size={bytes}");
            args.extend(["-blockdev".to_owned(), node]);
        }
        if let Some(file) = &self.sound {
            let format = "out.frequency=48000,out.format=s16,out.channels=2";
            args.push("-audiodev".to_owned());
            args.push(format!("wav,id=sound,{format},path={}", file.display()));
        }
        let host = parts.launch(dir, args)?;
        snapshot::resume(&host.machine.qemu)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        host.sh(&format!("date -s @{now}"), BOOT_LIMIT)?.ok()?;
        if matches!(self.guest, Some((kind, _)) if kind != GuestKind::Pv) {
            host.xl(&format!("unpause {READY_GUEST}"))?;
        }
        let mut files = self.files;
        for binary in &self.binaries {
            files.extend(in_bin(binary)?);
        }
        host.copy_in(&files)?;
        for device in self.devices {
            host.plug(device)?;
        }
        Ok(host)
    }
}

/// A program at `/bin/NAME`, with its libraries.
pub(super) fn in_bin(binary: &Path) -> Result<Files> {
    let no_program = || Error::Unusable(format!("{} has no file name", binary.display()));
    let name = binary.file_name().ok_or_else(no_program)?;
    bundle::program(&format!("/bin/{}", name.to_string_lossy()), binary)
}

/// The components of every Xen machine.
struct Parts {
    cache: Cache,
    xen: PathBuf,
    kernel: Kernel,
    image: PathBuf,
    qemu: Qemu,
    cpu: &'static str,
    clock: Clock,
    guest: Option<ReadyGuest>,
}

impl Parts {
    fn gather(hardware: bool, clock: Clock, guest: Option<ReadyGuest>) -> Result<Self> {
        packages::ensure()?;
        let cache = Cache::open()?;
        let xen = packages::hypervisor(&cache)?;
        let kernel = modules::kernel(&cache)?;
        let image = image::dom0(&cache, &kernel)?;
        let cpu = if hardware { CPU_SVM } else { CPU };
        Ok(Self { cache, xen, kernel, image, qemu: Qemu::installed(), cpu, clock, guest })
    }

    /// A hash of everything that the saved state depends on.
    fn key(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{} {:?}", self.qemu.version()?, self.qemu));
        hash.update(format!("{} {}", self.image.display(), self.xen.display()));
        hash.update(format!("{:?} {XEN} {DOM0} {:?} 2", self.arguments(), self.guest));
        if self.clock != Clock::default() {
            hash.update(format!("{:?}", self.clock));
        }
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// QEMU's arguments for the machine that Xen runs on, except those for the lines.
    fn arguments(&self) -> Vec<String> {
        let disk = "driver=raw,node-name=files,read-only=on,file.driver=file,file.filename=";
        let words = ["-machine", "q35", "-cpu", self.cpu, "-m", MEMORY_MIB, "-smp", "2"];
        let devices = [
            "-no-reboot",
            "-nodefaults",
            "-device",
            "qemu-xhci,id=outer,p2=15,p3=15",
            // The first virtio device, so that its ports are vport0p1 and so on.
            "-device",
            "virtio-serial-pci,id=lines,max_ports=16",
            "-blockdev",
            &format!("{disk}{DISK}"),
            "-device",
            "virtio-blk-pci,drive=files",
        ];
        words.iter().chain(&devices).map(|word| (*word).to_owned()).collect()
    }

    /// Starts QEMU in a directory.
    fn launch(&self, dir: RunDir, more: Vec<String>) -> Result<XenHost> {
        let console = dir.join(CONSOLE);
        let disk = dir.join(DISK);
        let file = File::create(&disk).map_err(Error::io("create", &disk))?;
        file.set_len(DISK_BYTES).map_err(Error::io("write", &disk))?;
        let mut args = self.arguments();
        args.extend(["-msg", "timestamp=on"].map(str::to_owned));
        args.extend(["-kernel".to_owned(), self.xen.display().to_string()]);
        args.extend(["-append".to_owned(), XEN.to_owned()]);
        let (kernel, image) = (self.kernel.image.display(), self.image.display());
        args.extend(["-initrd".to_owned(), format!("{kernel} {DOM0},{image}")]);
        let log = format!("file,id=console,append=on,path={}", console.display());
        args.extend(["-chardev".to_owned(), log]);
        args.extend(["-serial".to_owned(), "chardev:console".to_owned()]);
        let mut sockets = Vec::new();
        for port in 1..lines::FIRST_PORT + lines::COUNT {
            let id = format!("line{port}");
            let line = Line::listen(dir.join(&format!("{id}.sock")))?;
            args.extend(["-chardev".to_owned(), line.chardev(&id), "-device".to_owned()]);
            args.push(format!("virtserialport,chardev={id},name={id},nr={port}"));
            sockets.push(line);
        }
        args.extend(more);
        let args = args.into_iter().map(OsString::from).collect();
        let qemu = Arc::new(BareQemu::launch(&self.qemu, args, dir, self.clock)?);
        let mut streams = sockets.into_iter().map(Line::accept);
        let none = || Error::Unusable("the Xen machine has no lines".to_owned());
        let agent = streams.next().ok_or_else(none)??;
        let shell = Shell::new(agent, console.clone(), Arc::clone(&qemu)).lost_if(is_guest_lost);
        let lines = streams.collect::<Result<Vec<_>>>()?;
        let kernel = self.kernel.clone();
        let (disk, lines) = (Mutex::new(DISK_SKIP_MIB), Lines::new(lines));
        let machine = Machine { shell, qemu, console, kernel, disk, lines };
        Ok(XenHost { machine: Arc::new(machine) })
    }

    /// Boots Xen and dom0, starts Xen's services, and saves the machine to a new directory.
    fn boot_and_save(&self, half: &Path) -> Result<()> {
        eprintln!("vusb-rig: booting Xen; this takes a minute");
        for _ in 1..BOOT_ATTEMPTS {
            match self.boot_and_save_once(half) {
                Err(error) if self.is_lost(&error) => {
                    eprintln!("vusb-rig: trying again: {error}");
                }
                done => return done,
            }
            fs::remove_dir_all(half).map_err(Error::io("remove", half))?;
        }
        self.boot_and_save_once(half)
    }

    /// Whether QEMU's emulated processor has probably lost the guest. A guest that was lost without
    /// a message simply stops.
    fn is_lost(&self, error: &Error) -> bool {
        match error {
            Error::LostGuest { .. } => true,
            Error::Timeout { .. } => self.has_hardware_guest(),
            _ => false,
        }
    }

    fn has_hardware_guest(&self) -> bool {
        self.guest.as_ref().is_some_and(|(kind, _)| *kind != GuestKind::Pv)
    }

    fn boot_and_save_once(&self, half: &Path) -> Result<()> {
        fs::create_dir(half).map_err(Error::io("create the directory", half))?;
        let dir = RunDir::new()?;
        snapshot::link(&dir, &half.join(STATE))?;
        let host = self.launch(dir, Vec::new())?;
        host.wait_booted(BOOT_LIMIT)?;
        host.sh("xen-services", TOOL_LIMIT)?.ok()?;
        if let Some((kind, config)) = &self.guest {
            let guest = host.new_guest(READY_GUEST).kind(*kind);
            config.iter().fold(guest, |guest, line| guest.config(line)).start()?;
            if self.has_hardware_guest() {
                // QEMU cannot restore a state in which an emulated processor was executing such a
                // guest.
                host.xl(&format!("pause {READY_GUEST}"))?;
            }
        }
        snapshot::save(host.qemu())?;
        let console = &host.machine.console;
        fs::copy(console, half.join(CONSOLE)).map_err(Error::io("copy", console))?;
        Ok(())
    }
}

/// A running Xen machine. dom0 is controlled through its [`Shell`]. Killed with its guests when all
/// clones of this and all [`XenGuest`]s are dropped.
#[derive(Debug, Clone)]
pub struct XenHost {
    machine: Arc<Machine>,
}

#[derive(Debug)]
struct Machine {
    shell: Shell,
    qemu: Arc<BareQemu>,
    console: PathBuf,
    kernel: Kernel,
    /// The offset on the disk for the next files, in MiB.
    disk: Mutex<u64>,
    lines: Lines,
}

impl XenHost {
    /// The default configuration.
    pub fn builder() -> XenHostBuilder {
        XenHostBuilder::default()
    }

    /// The QEMU that runs Xen.
    pub fn qemu(&self) -> &BareQemu {
        &self.machine.qemu
    }

    /// Plugs a USB device into dom0, with the properties for QEMU's `device_add`, including an
    /// `id`.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's message.
    pub fn plug(&self, mut device: Value) -> Result<()> {
        if let Some(object) = device.as_object_mut() {
            object.entry("bus").or_insert(json!(BUS));
        }
        self.machine.qemu.qmp("device_add", device).map(drop)
    }

    /// Unplugs a USB device from dom0 and waits until QEMU reports its removal.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's message, [`Error::Timeout`].
    pub fn unplug(&self, id: &str) -> Result<()> {
        self.machine.qemu.qmp("device_del", json!({ "id": id }))?;
        let gone = |data: &Value| data.get("device").and_then(Value::as_str) == Some(id);
        self.machine.qemu.wait_event("DEVICE_DELETED", gone, UNPLUG_LIMIT).map(drop)
    }

    /// Measures turnaround times while `during` runs: for each transfer of a USB device with
    /// exactly this number of bytes, the time from its end in the device until the next transfer of
    /// the same endpoint arrives there. For an interrupt endpoint this is the round trip to the
    /// driver, wherever that is.
    ///
    /// # Errors
    /// [`Error::Monitor`], [`Error::Io`].
    pub fn turnarounds(&self, bytes: u32, during: impl FnOnce()) -> Result<Vec<Duration>> {
        let log = self.machine.qemu.log();
        let before = fs::metadata(log).map_err(Error::io("read", log))?.len();
        let trace = |on: bool| {
            let arguments = json!({ "name": transfers::EVENTS, "enable": on });
            self.machine.qemu.qmp("trace-event-set-state", arguments)
        };
        trace(true)?;
        during();
        trace(false)?;
        let mut file = File::open(log).map_err(Error::io("open", log))?;
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(before))
            .and_then(|_| file.read_to_end(&mut text))
            .map_err(Error::io("read", log))?;
        Ok(transfers::turnarounds(&String::from_utf8_lossy(&text), bytes))
    }

    /// Runs `xl` in dom0 and returns its output.
    ///
    /// # Errors
    /// [`Error::InGuest`] with its message if it fails.
    pub fn xl(&self, arguments: &str) -> Result<String> {
        self.sh(&format!("xl {arguments}"), TOOL_LIMIT)?.ok()
    }

    /// The content of xenstore in the format of `xenstore-ls -f -p`: a path, its value and its
    /// permissions per line.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn xenstore(&self) -> Result<String> {
        self.sh("xenstore-ls -f -p", TOOL_LIMIT)?.ok()
    }

    /// Information for debugging: Xen's list of guests, the ends of the logs of dom0's kernel, of
    /// xl, of device models and of guests' consoles, and xenstore.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn diagnosis(&self) -> Result<String> {
        let command = "xl list; dmesg | tail -n 40; \
                       for f in /var/log/xen/*.log /var/log/xen/console/*.log; do \
                       echo \"--- $f\"; tail -n 30 $f; done; echo '--- xenstore'; xenstore-ls -f";
        Ok(self.sh(command, TOOL_LIMIT)?.text)
    }

    /// Copies files of this machine to dom0, by their paths there. Uses a disk, and works at any
    /// time.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::InGuest`] if dom0 cannot unpack them.
    pub fn copy_in(&self, files: &Files) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let path = self.machine.qemu.dir().join(DISK);
        let mut next = self.machine.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut disk =
            OpenOptions::new().write(true).open(&path).map_err(Error::io("open", &path))?;
        disk.seek(SeekFrom::Start(*next << 20)).map_err(Error::io("write", &path))?;
        let mut archive = Archive::new(BufWriter::new(disk));
        add_files(&mut archive, files, &path)?;
        let mut disk = archive.finish().map_err(Error::io("write", &path))?;
        let end = disk.stream_position().map_err(Error::io("write", &path))?;
        let (from, to) = (*next, end.div_ceil(1 << 20));
        if to << 20 > DISK_BYTES {
            return Err(Error::Unusable("the files do not fit on the disk to dom0".to_owned()));
        }
        // Bypasses dom0's cache, which may contain old data.
        let count = to - from;
        let command = format!(
            "cd / && dd if=/dev/vda bs=1M skip={from} count={count} iflag=direct 2>/dev/null | \
             cpio -idu 2>&1"
        );
        self.sh(&command, TOOL_LIMIT)?.ok()?;
        *next = to;
        Ok(())
    }

    /// The default configuration of a guest.
    pub fn new_guest(&self, name: &str) -> XenGuestBuilder {
        XenGuestBuilder::new(self, name)
    }

    /// Creates a guest of this kind, with memory in MiB and additional lines of `xl.cfg(5)`, and
    /// waits until its shell responds.
    ///
    /// # Errors
    /// As [`XenGuestBuilder::start`].
    pub fn create_guest(
        &self,
        kind: GuestKind,
        name: &str,
        memory_mib: u32,
        config: &[&str],
    ) -> Result<XenGuest> {
        let guest = self.new_guest(name).kind(kind).memory_mib(memory_mib);
        config.iter().fold(guest, |guest, line| guest.config(line)).start()
    }

    /// Creates a guest from a configuration file in dom0, and waits until its shell responds. The
    /// configuration of an earlier guest is `/guest/NAME.cfg`.
    ///
    /// # Errors
    /// As [`XenGuestBuilder::start`].
    pub fn create_from(&self, name: &str, path: &str) -> Result<XenGuest> {
        XenGuest::create(self.clone(), name.to_owned(), path, BOOT_LIMIT)
    }

    /// The guest of [`XenHostBuilder::ready_guest`]. To be called once.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::InGuest`] if there is no such guest.
    pub fn ready_guest(&self) -> Result<XenGuest> {
        XenGuest::running(self, READY_GUEST)
    }

    pub(super) fn kernel(&self) -> &Kernel {
        &self.machine.kernel
    }

    /// Takes a free line. Returns its virtio port and a shell on it.
    pub(super) fn take_line(&self) -> Result<(u32, Shell)> {
        let Machine { lines, console, qemu, .. } = &*self.machine;
        let (port, stream) = lines.take()?;
        Ok((port, Shell::new(stream, console.clone(), Arc::clone(qemu)).lost_if(is_guest_lost)))
    }

    pub(super) fn release_line(&self, port: u32) {
        self.machine.lines.release(port);
    }
}

impl Deref for XenHost {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.machine.shell
    }
}
