//! A guest of Xen: made with `xl`, with the rig's image and its shell.

use super::emulator::{a_triple_fault, lost_a_guest};
use super::host::{BOOT_LIMIT, TOOL_LIMIT, XenHost, in_bin};
use super::image::{self, GUEST_IMAGE, GUEST_KERNEL, GUEST_KERNEL_HVM};
use super::modules;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::parcel::Files;
use crate::shell::Shell;
use std::ops::Deref;
use std::path::Path;

/// Parameters of the guest's kernel that only save time; its agent has the console.
const QUICK: &str = "console=hvc0 quiet panic=-1 mitigations=off nokaslr cryptomgr.notests audit=0 \
                     apparmor=0 random.trust_cpu=on rcupdate.rcu_expedited=1 rig_agent=/dev/hvc0";

/// The kinds of Xen's guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestKind {
    /// Paravirtual: runs on any processor.
    Pv,
    /// Hardware-assisted without emulated devices. Needs [`super::XenHostBuilder::hardware_guests`].
    Pvh,
    /// Hardware-assisted with a device model. Needs [`super::XenHostBuilder::hardware_guests`]. Takes minutes
    /// to boot: better have it from the start, with [`super::XenHostBuilder::ready_guest_of`].
    Hvm,
}

impl GuestKind {
    /// As `xl.cfg` has it.
    fn word(self) -> &'static str {
        match self {
            Self::Pv => "pv",
            Self::Pvh => "pvh",
            Self::Hvm => "hvm",
        }
    }
}

/// How a guest is to be.
#[derive(Debug, Clone)]
pub struct XenGuestBuilder {
    host: XenHost,
    name: String,
    kind: GuestKind,
    memory_mib: u32,
    config: Vec<String>,
    modules: Vec<&'static str>,
    files: Files,
}

impl XenGuestBuilder {
    pub(super) fn new(host: &XenHost, name: &str) -> Self {
        Self {
            host: host.clone(),
            name: name.to_owned(),
            kind: GuestKind::Pv,
            memory_mib: 192,
            config: Vec::new(),
            modules: modules::GUEST.to_vec(),
            files: Files::new(),
        }
    }

    /// The kind; [`GuestKind::Pv`] unless said.
    pub fn kind(mut self, kind: GuestKind) -> Self {
        self.kind = kind;
        self
    }

    /// Memory in MiB; 192 unless said.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// A further line of the configuration, as in `xl.cfg(5)`.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Loads these modules instead of [`modules::GUEST`].
    pub fn modules(mut self, modules: &[&'static str]) -> Self {
        self.modules = modules.to_vec();
        self
    }

    /// A file of this machine that the guest is to have.
    pub fn file(mut self, inside: &str, here: &Path) -> Self {
        self.files.insert(inside.to_owned(), here.to_path_buf());
        self
    }

    /// Files of this machine that the guest is to have.
    pub fn files(mut self, files: Files) -> Self {
        self.files.extend(files);
        self
    }

    /// A program of this machine that the guest is to have in `/bin`, with its shared libraries.
    ///
    /// # Errors
    /// [`Error::Unusable`] if it has no file name; as [`crate::parcel::program`].
    pub fn binary(mut self, path: &Path) -> Result<Self> {
        self.files.extend(in_bin(path)?);
        Ok(self)
    }

    /// Makes the guest and waits until its shell answers. Where it does not come up, what dom0 has to
    /// say is printed.
    ///
    /// # Errors
    /// [`Error::InGuest`] with the words of `xl`, [`Error::Timeout`] with dom0's console.
    pub fn start(self) -> Result<XenGuest> {
        let host = self.host.clone();
        self.create().inspect_err(|_| {
            eprintln!("vusb-rig: a guest did not start; dom0 says:");
            eprintln!("{}", host.diagnosis().unwrap_or_else(|error| error.to_string()));
        })
    }

    fn create(self) -> Result<XenGuest> {
        let mut image = self.image()?;
        if self.kind == GuestKind::Hvm {
            // The device model hands the guest its image byte by byte.
            self.host.sh(&format!("gzip -1 -c {image} >{image}.gz"), TOOL_LIMIT)?.ok()?;
            image.push_str(".gz");
        }
        let text = self.text(&image);
        let Self { host, name, .. } = self;
        let path = format!("/guest/{name}.cfg");
        host.sh(&format!("cat >{path} <<'END'\n{text}END\n"), TOOL_LIMIT)?.ok()?;
        XenGuest::create(host, name, &path)
    }

    /// The guest's image in dom0; brought there if it is not the usual one.
    fn image(&self) -> Result<String> {
        if self.files.is_empty() && self.modules == modules::GUEST {
            return Ok(GUEST_IMAGE.to_owned());
        }
        let image = image::guest(&self.modules, self.files.clone());
        let here = image.build(&Cache::open()?, self.host.kernel())?;
        let there = format!("/guest/{}.cpio", self.name);
        self.host.put(&Files::from([(there.clone(), here)]))?;
        Ok(there)
    }

    fn text(&self, image: &str) -> String {
        let Self { name, memory_mib, .. } = self;
        let kind = self.kind.word();
        let kernel = if self.kind == GuestKind::Hvm { GUEST_KERNEL_HVM } else { GUEST_KERNEL };
        let mut text = format!(
            "name = '{name}'\ntype = '{kind}'\nmemory = {memory_mib}\nvcpus = 1\n\
             kernel = '{kernel}'\nramdisk = '{image}'\nextra = '{QUICK}'\n\
             on_reboot = 'destroy'\non_crash = 'destroy'\n"
        );
        if self.kind == GuestKind::Hvm {
            text.push_str("vga = 'none'\nvnc = 0\nserial = 'null'\n");
        }
        for line in &self.config {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// A running guest, which one uses through its [`Shell`].
#[derive(Debug)]
pub struct XenGuest {
    host: XenHost,
    name: String,
    shell: Shell,
    line: u32,
}

impl XenGuest {
    /// The guest that came with the saved state: the first one, hence on the first line.
    pub(super) fn running(host: &XenHost, name: &str) -> Result<Self> {
        let (line, shell) = host.take_line()?;
        let guest = Self { host: host.clone(), name: name.to_owned(), shell, line };
        guest.id()?;
        guest.sh("true", TOOL_LIMIT)?.ok()?;
        Ok(guest)
    }

    /// Makes the guest that a file in dom0 describes, and waits until its shell answers.
    pub(super) fn create(host: XenHost, name: String, path: &str) -> Result<Self> {
        let (line, shell) = host.take_line()?;
        // setsid: what stays must not share a session with the command that starts it.
        let create = format!(
            "xl create -q {path} && \
             {{ setsid xen-relay {name} {line} </dev/null >/tmp/relay.{line} 2>&1 & }}"
        );
        host.sh(&create, BOOT_LIMIT)?.ok()?;
        let shell = shell.lost_by(a_triple_fault);
        shell.wait_booted(BOOT_LIMIT)?;
        let shell = shell.lost_by(lost_a_guest);
        Ok(XenGuest { host, name, shell, line })
    }

    /// Its name, as `xl` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    ///
    /// # Errors
    /// [`Error::InGuest`] if it is gone.
    pub fn id(&self) -> Result<u32> {
        let said = self.host.xl(&format!("domid {}", self.name))?;
        said.trim().parse().map_err(|_| Error::Unusable(format!("xl says that its id is {said:?}")))
    }

    /// What its kernel and its agent wrote to its console until now.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn console_log(&self) -> Result<String> {
        let log = format!("cat /var/log/xen/console/guest-{}.log", self.name);
        self.host.sh(&log, TOOL_LIMIT)?.ok()
    }

    /// Ends it at once: `xl destroy`.
    ///
    /// # Errors
    /// [`Error::InGuest`] with the words of `xl`.
    pub fn destroy(self) -> Result<()> {
        let Self { host, name, shell, line } = self;
        drop(shell);
        host.sh(&format!("xl destroy {name}"), TOOL_LIMIT)?.ok()?;
        // The relay ends with the console; a moment later its line is free.
        let ended = format!("[ ! -e /run/relay.{line} ]");
        host.wait_until(&ended, TOOL_LIMIT)?;
        host.give_back_line(line);
        Ok(())
    }
}

impl Deref for XenGuest {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}
