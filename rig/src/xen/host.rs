//! The Xen machine: booted once, saved, and started from there.

use super::emulator::lost_a_guest;
use super::guest::{GuestKind, XenGuest, XenGuestBuilder};
use super::lines::{self, Lines};
use super::{image, modules, packages, transfers};
use crate::bare::BareQemu;
use crate::cache::Cache;
use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::guest::Line;
use crate::image::add_files;
use crate::kernel::Kernel;
use crate::parcel::{self, Files};
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

/// Xen's own parameters: its log on the first serial port, a fixed size of dom0, and no defence
/// against attacks by processor, which costs an emulated one dearly.
const XEN: &str = "console=com1 dom0_mem=1280M,max:1280M spec-ctrl=no xpti=no pv-l1tf=no";
/// Parameters of dom0's kernel that only save time, as in [`crate::guest`]; its console is Xen's,
/// its agent is on the first virtio port.
const DOM0: &str = "console=hvc0 quiet panic=-1 mitigations=off nokaslr cryptomgr.notests audit=0 \
                    apparmor=0 random.trust_cpu=on rcupdate.rcu_expedited=1 rig_agent=/dev/vport0p1";
const MEMORY_MIB: &str = "3072";
/// A processor that a paravirtual dom0 runs on.
const CPU: &str = "qemu64";
/// The same with what hardware-assisted guests need.
const CPU_SVM: &str = "qemu64,+svm,+npt,+nrip-save";

/// The name of the guest that can be there from the start.
pub const READY_GUEST: &str = "u1";

/// The bus into which dom0's devices are plugged.
const BUS: &str = "outer.0";
const CONSOLE: &str = "console.log";
const STATE: &str = "state";
const DISK: &str = "files.img";
/// Size of the disk that brings files. The same for every run, for it is part of the saved state.
const DISK_BYTES: u64 = 1 << 30;
/// Where files begin on it, in MiB: dom0's kernel read the beginning when it saw the disk.
const DISK_SKIP_MIB: u64 = 1;

/// How often a machine is booted at most before a guest of it that QEMU loses is an error.
const BOOTS: u32 = 3;
/// How long a boot may take: it takes half a minute, on a busy machine several times that.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(900);
/// How long unpacking files, or a tool of Xen's, may take.
pub(super) const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// How long a device may take to leave.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);

/// A guest of the saved state: its kind and further lines of its configuration.
type Ready = (GuestKind, Vec<String>);

/// How the Xen machine is to be.
#[derive(Debug, Clone, Default)]
pub struct XenHostBuilder {
    files: Files,
    binaries: Vec<PathBuf>,
    drives: Vec<(String, PathBuf)>,
    devices: Vec<Value>,
    sound: Option<PathBuf>,
    hardware: bool,
    guest: Option<Ready>,
}

impl XenHostBuilder {
    /// A program of this machine that dom0 is to have in `/bin`, with its shared libraries.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binaries.push(path.to_path_buf());
        self
    }

    /// A file of this machine that dom0 is to have.
    pub fn file(mut self, in_dom0: &str, here: &Path) -> Self {
        self.files.insert(in_dom0.to_owned(), here.to_path_buf());
        self
    }

    /// A USB device that dom0 has: what [`XenHost::plug`] takes.
    pub fn usb(mut self, device: Value) -> Self {
        self.devices.push(device);
        self
    }

    /// A disk image that a `usb-storage` can use: `{"driver": "usb-storage", "drive": ID}`.
    pub fn drive(mut self, id: &str, image: &Path) -> Self {
        self.drives.push((id.to_owned(), image.to_path_buf()));
        self
    }

    /// A sound card of dom0's can be heard: `{"driver": "usb-audio", "audiodev": "sound"}`. What it plays is written to this
    /// file, as WAV: 48,000 samples a second, 16 bits, two channels.
    pub fn sound(mut self, file: &Path) -> Self {
        self.sound = Some(file.to_path_buf());
        self
    }

    /// The processor is to have what PVH and HVM guests need.
    pub fn hardware_guests(mut self) -> Self {
        self.hardware = true;
        self
    }

    /// The PV guest [`READY_GUEST`] is to run already, without any USB: see [`XenHost::ready_guest`].
    pub fn ready_guest(self) -> Self {
        self.ready_guest_of(GuestKind::Pv, &[])
    }

    /// The guest [`READY_GUEST`] is to run already, of this kind and with these further lines of `xl.cfg(5)`.
    /// It is part of the saved state: what takes minutes the first time is there in seconds later.
    pub fn ready_guest_of(mut self, kind: GuestKind, config: &[&str]) -> Self {
        self.hardware |= kind != GuestKind::Pv;
        self.guest = Some((kind, config.iter().map(|line| (*line).to_owned()).collect()));
        self
    }

    /// Starts the machine and waits until dom0 answers, with Xen's services running, and the devices
    /// are plugged (which dom0's kernel notices a moment later). The first start boots; later ones
    /// take the saved state.
    ///
    /// # Errors
    /// As [`crate::GuestBuilder::start`]; [`Error::Unusable`] if a binary has no file name.
    pub fn start(self) -> Result<XenHost> {
        let parts = Parts::gather(self.hardware, self.guest.clone())?;
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
        host.put(&files)?;
        for device in self.devices {
            host.plug(device)?;
        }
        Ok(host)
    }
}

/// A program at `/bin/NAME`, with its libraries.
pub(super) fn in_bin(binary: &Path) -> Result<Files> {
    let no_program = || Error::Unusable(format!("{} is no program", binary.display()));
    let name = binary.file_name().ok_or_else(no_program)?;
    parcel::program(&format!("/bin/{}", name.to_string_lossy()), binary)
}

/// What every Xen machine is made of.
struct Parts {
    cache: Cache,
    xen: PathBuf,
    kernel: Kernel,
    image: PathBuf,
    qemu: Qemu,
    cpu: &'static str,
    guest: Option<Ready>,
}

impl Parts {
    fn gather(hardware: bool, guest: Option<Ready>) -> Result<Self> {
        packages::ensure()?;
        let cache = Cache::open()?;
        let xen = packages::hypervisor(&cache)?;
        let kernel = modules::kernel(&cache)?;
        let image = image::dom0(&cache, &kernel)?;
        let cpu = if hardware { CPU_SVM } else { CPU };
        Ok(Self { cache, xen, kernel, image, qemu: Qemu::installed(), cpu, guest })
    }

    /// A name for the state: changes whenever something does that it depends on.
    fn key(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{} {:?}", self.qemu.version()?, self.qemu));
        hash.update(format!("{} {}", self.image.display(), self.xen.display()));
        hash.update(format!("{:?} {XEN} {DOM0} {:?} 2", self.arguments(), self.guest));
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The machine that Xen sees, but for the lines.
    fn arguments(&self) -> Vec<String> {
        let disk = "driver=raw,node-name=files,read-only=on,file.driver=file,file.filename=";
        let words = ["-machine", "q35", "-cpu", self.cpu, "-m", MEMORY_MIB, "-smp", "2"];
        let devices = [
            "-no-reboot",
            "-nodefaults",
            "-device",
            "qemu-xhci,id=outer,p2=15,p3=15",
            // The first virtio device: its ports are vport0p1 and so on.
            "-device",
            "virtio-serial-pci,id=lines,max_ports=16",
            "-blockdev",
            &format!("{disk}{DISK}"),
            "-device",
            "virtio-blk-pci,drive=files",
        ];
        words.iter().chain(&devices).map(|word| (*word).to_owned()).collect()
    }

    /// Starts QEMU in a folder.
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
        for number in 1..lines::FIRST + lines::COUNT {
            let id = format!("line{number}");
            let line = Line::listen(dir.join(&format!("{id}.sock")))?;
            args.extend(["-chardev".to_owned(), line.chardev(&id), "-device".to_owned()]);
            args.push(format!("virtserialport,chardev={id},name={id},nr={number}"));
            sockets.push(line);
        }
        args.extend(more);
        let args = args.into_iter().map(OsString::from).collect();
        let qemu = Arc::new(BareQemu::launch(&self.qemu, args, dir)?);
        let mut streams = sockets.into_iter().map(Line::accept);
        let none = || Error::Unusable("a Xen machine without lines".to_owned());
        let agent = streams.next().ok_or_else(none)??;
        let shell = Shell::new(agent, console.clone(), Arc::clone(&qemu)).lost_by(lost_a_guest);
        let lines = streams.collect::<Result<Vec<_>>>()?;
        let kernel = self.kernel.clone();
        let (disk, lines) = (Mutex::new(DISK_SKIP_MIB), Lines::new(lines));
        let machine = Machine { shell, qemu, console, kernel, disk, lines };
        Ok(XenHost { machine: Arc::new(machine) })
    }

    /// Boots Xen and dom0, starts Xen's services, and saves the machine to a new folder.
    fn boot_and_save(&self, half: &Path) -> Result<()> {
        eprintln!("vusb-rig: booting Xen; this takes a minute");
        for _ in 1..BOOTS {
            match self.boot_and_save_once(half) {
                Err(error @ Error::LostGuest { .. }) => eprintln!("vusb-rig: once more: {error}"),
                done => return done,
            }
            fs::remove_dir_all(half).map_err(Error::io("remove", half))?;
        }
        self.boot_and_save_once(half)
    }

    fn boot_and_save_once(&self, half: &Path) -> Result<()> {
        fs::create_dir(half).map_err(Error::io("make the folder", half))?;
        let dir = RunDir::new()?;
        snapshot::link(&dir, &half.join(STATE))?;
        let host = self.launch(dir, Vec::new())?;
        host.wait_booted(BOOT_LIMIT)?;
        host.sh("xen-services", TOOL_LIMIT)?.ok()?;
        if let Some((kind, config)) = &self.guest {
            let guest = host.new_guest(READY_GUEST).kind(*kind);
            config.iter().fold(guest, |guest, line| guest.config(line)).start()?;
            if *kind != GuestKind::Pv {
                // QEMU cannot go on from a state in which an emulated processor was inside of such a guest.
                host.xl(&format!("pause {READY_GUEST}"))?;
            }
        }
        snapshot::save(host.qemu())?;
        let console = &host.machine.console;
        fs::copy(console, half.join(CONSOLE)).map_err(Error::io("copy", console))?;
        Ok(())
    }
}

/// A running Xen machine; through its [`Shell`] one uses dom0. Killed, with its guests, when this and
/// its clones and the [`XenGuest`]s are dropped.
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
    /// Where the next files go on the disk, in MiB.
    disk: Mutex<u64>,
    lines: Lines,
}

impl XenHost {
    /// Describes a Xen machine.
    pub fn builder() -> XenHostBuilder {
        XenHostBuilder::default()
    }

    /// The QEMU under Xen.
    pub fn qemu(&self) -> &BareQemu {
        &self.machine.qemu
    }

    /// Plugs a USB device into dom0: the properties of QEMU's `device_add`, with an `id`.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's words.
    pub fn plug(&self, mut device: Value) -> Result<()> {
        if let Some(object) = device.as_object_mut() {
            object.entry("bus").or_insert(json!(BUS));
        }
        self.machine.qemu.qmp("device_add", device).map(drop)
    }

    /// Pulls a USB device out of dom0 and waits until QEMU says that it is gone.
    ///
    /// # Errors
    /// [`Error::Monitor`] with QEMU's words, [`Error::Timeout`].
    pub fn unplug(&self, id: &str) -> Result<()> {
        self.machine.qemu.qmp("device_del", json!({ "id": id }))?;
        let gone = |data: &Value| data.get("device").and_then(Value::as_str) == Some(id);
        self.machine.qemu.wait_event("DEVICE_DELETED", gone, UNPLUG_LIMIT).map(drop)
    }

    /// While this is done: for each transfer of a USB device that brought exactly so many bytes, the time from its
    /// end in the device until the same endpoint's next one came there. For an interrupt endpoint
    /// that is the way to the driver and back, wherever the driver is.
    ///
    /// # Errors
    /// [`Error::Monitor`], [`Error::Io`].
    pub fn turnarounds(&self, bytes: u32, during: impl FnOnce()) -> Result<Vec<Duration>> {
        let log = self.machine.qemu.log();
        let before = fs::metadata(log).map_err(Error::io("read", log))?.len();
        let trace = |on: bool| {
            let what = json!({ "name": transfers::EVENTS, "enable": on });
            self.machine.qemu.qmp("trace-event-set-state", what)
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

    /// Runs `xl` in dom0 and returns what it printed.
    ///
    /// # Errors
    /// [`Error::InGuest`] with its words if it fails.
    pub fn xl(&self, arguments: &str) -> Result<String> {
        self.sh(&format!("xl {arguments}"), TOOL_LIMIT)?.ok()
    }

    /// Everything in the store, as `xenstore-ls -f -p` prints it: a path, its value and its permissions on
    /// each line.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn xenstore(&self) -> Result<String> {
        self.sh("xenstore-ls -f -p", TOOL_LIMIT)?.ok()
    }

    /// What helps after a failure: Xen's list of guests, the ends of the logs of dom0's kernel, of xl, of
    /// device models and of guests' consoles, and the store.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn diagnosis(&self) -> Result<String> {
        let command = "xl list; dmesg | tail -n 40; \
                       for f in /var/log/xen/*.log /var/log/xen/console/*.log; do \
                       echo \"--- $f\"; tail -n 30 $f; done; echo '--- the store'; xenstore-ls -f";
        Ok(self.sh(command, TOOL_LIMIT)?.text)
    }

    /// Brings files of this machine to dom0, by their paths there; at any time, over a disk.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::InGuest`] if dom0 cannot unpack them.
    pub fn put(&self, files: &Files) -> Result<()> {
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
            return Err(Error::Unusable("too many files for the disk that brings them".to_owned()));
        }
        // Not through dom0's cache, which may hold what was there before.
        let count = to - from;
        let command = format!(
            "cd / && dd if=/dev/vda bs=1M skip={from} count={count} iflag=direct 2>/dev/null | \
             cpio -idu 2>&1"
        );
        self.sh(&command, TOOL_LIMIT)?.ok()?;
        *next = to;
        Ok(())
    }

    /// Describes a guest.
    pub fn new_guest(&self, name: &str) -> XenGuestBuilder {
        XenGuestBuilder::new(self, name)
    }

    /// Makes a guest of this kind with so much memory, in MiB, and further lines of `xl.cfg(5)`, and waits
    /// until its shell answers.
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

    /// Makes the guest that a file in dom0 describes: one that was made before has left its own as `/guest/NAME.cfg`. Waits until its
    /// shell answers.
    ///
    /// # Errors
    /// As [`XenGuestBuilder::start`].
    pub fn create_from(&self, name: &str, path: &str) -> Result<XenGuest> {
        XenGuest::create(self.clone(), name.to_owned(), path)
    }

    /// The guest that [`XenHostBuilder::ready_guest`] asked for; to be called once.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::InGuest`] if there is none.
    pub fn ready_guest(&self) -> Result<XenGuest> {
        XenGuest::running(self, READY_GUEST)
    }

    pub(super) fn kernel(&self) -> &Kernel {
        &self.machine.kernel
    }

    /// Takes a line that nobody uses: its number and a shell on it.
    pub(super) fn take_line(&self) -> Result<(u32, Shell)> {
        let Machine { lines, console, qemu, .. } = &*self.machine;
        let (number, stream) = lines.take()?;
        Ok((number, Shell::new(stream, console.clone(), Arc::clone(qemu)).lost_by(lost_a_guest)))
    }

    pub(super) fn give_back_line(&self, number: u32) {
        self.machine.lines.give_back(number);
    }
}

impl Deref for XenHost {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.machine.shell
    }
}
