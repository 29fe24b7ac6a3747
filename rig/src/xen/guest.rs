//! A Xen guest, created with `xl`, with the rig's image and a shell.

use super::emulator::{has_triple_fault, is_guest_lost};
use super::host::{BOOT_LIMIT, HARDWARE_BOOT_LIMIT, TOOL_LIMIT, XenHost, in_bin};
use super::image::{self, GUEST_IMAGE, GUEST_KERNEL, GUEST_KERNEL_HVM};
use super::modules;
use crate::bundle::Files;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::shell::Shell;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// Parameters of the guest's kernel that save time. The agent uses the console.
const QUICK: &str = "console=hvc0 quiet panic=-1 mitigations=off nokaslr cryptomgr.notests audit=0 \
                     apparmor=0 random.trust_cpu=on rcupdate.rcu_expedited=1 rig_agent=/dev/hvc0";

/// The kinds of Xen's guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestKind {
    /// Paravirtual. Runs on any processor.
    Pv,
    /// Hardware-assisted without emulated devices. Requires
    /// [`super::XenHostBuilder::hardware_guests`].
    Pvh,
    /// Hardware-assisted with a device model. Requires [`super::XenHostBuilder::hardware_guests`].
    /// Takes minutes to boot, so include it in the saved state with
    /// [`super::XenHostBuilder::ready_guest_of`].
    Hvm,
}

impl GuestKind {
    /// The value of `type` in `xl.cfg`.
    fn name(self) -> &'static str {
        match self {
            Self::Pv => "pv",
            Self::Pvh => "pvh",
            Self::Hvm => "hvm",
        }
    }
}

/// The configuration of a guest.
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

    /// The kind, by default [`GuestKind::Pv`].
    pub fn kind(mut self, kind: GuestKind) -> Self {
        self.kind = kind;
        self
    }

    /// Memory in MiB, by default 192.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Adds a line to the configuration, see `xl.cfg(5)`.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Loads these modules instead of [`modules::GUEST`].
    pub fn modules(mut self, modules: &[&'static str]) -> Self {
        self.modules = modules.to_vec();
        self
    }

    /// Adds a file of this machine.
    pub fn file(mut self, inside: &str, here: &Path) -> Self {
        self.files.insert(inside.to_owned(), here.to_path_buf());
        self
    }

    /// Adds files of this machine.
    pub fn files(mut self, files: Files) -> Self {
        self.files.extend(files);
        self
    }

    /// Adds a program of this machine to `/bin`, with its shared libraries.
    ///
    /// # Errors
    /// [`Error::Unusable`] if it has no file name; as [`crate::bundle::program`].
    pub fn binary(mut self, path: &Path) -> Result<Self> {
        self.files.extend(in_bin(path)?);
        Ok(self)
    }

    /// Creates the guest and waits until its shell responds. If it does not start, prints dom0's
    /// logs.
    ///
    /// # Errors
    /// [`Error::InGuest`] with the message of `xl`, [`Error::Timeout`] with dom0's console,
    /// [`Error::LostGuest`], [`Error::Unusable`] if all lines are in use.
    pub fn start(self) -> Result<XenGuest> {
        let host = self.host.clone();
        self.create().inspect_err(|_| {
            eprintln!("vusb-rig: a guest did not start; the logs of dom0:");
            eprintln!("{}", host.diagnosis().unwrap_or_else(|error| error.to_string()));
        })
    }

    fn create(self) -> Result<XenGuest> {
        let mut image = self.image()?;
        if self.kind == GuestKind::Hvm {
            // The device model passes the image to the guest byte by byte.
            self.host.sh(&format!("gzip -1 -c {image} >{image}.gz"), TOOL_LIMIT)?.ok()?;
            image.push_str(".gz");
        }
        let text = self.text(&image);
        let Self { host, name, kind, .. } = self;
        let path = format!("/guest/{name}.cfg");
        host.sh(&format!("cat >{path} <<'END'\n{text}END\n"), TOOL_LIMIT)?.ok()?;
        let limit = if kind == GuestKind::Pv { BOOT_LIMIT } else { HARDWARE_BOOT_LIMIT };
        XenGuest::create(host, name, &path, limit)
    }

    /// The guest's image in dom0. Copied there if it is not the default one.
    fn image(&self) -> Result<String> {
        if self.files.is_empty() && self.modules == modules::GUEST {
            return Ok(GUEST_IMAGE.to_owned());
        }
        let image = image::guest(&self.modules, self.files.clone());
        let here = image.build(&Cache::open()?, self.host.kernel())?;
        let there = format!("/guest/{}.cpio", self.name);
        self.host.copy_in(&Files::from([(there.clone(), here)]))?;
        Ok(there)
    }

    fn text(&self, image: &str) -> String {
        let Self { name, memory_mib, .. } = self;
        let kind = self.kind.name();
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

/// A running guest, controlled through its [`Shell`].
#[derive(Debug)]
pub struct XenGuest {
    host: XenHost,
    name: String,
    shell: Shell,
    /// The virtio port of its line.
    line: u32,
}

impl XenGuest {
    /// The guest of the saved state. It was started first, so it uses the first line.
    pub(super) fn running(host: &XenHost, name: &str) -> Result<Self> {
        let (line, shell) = host.take_line()?;
        let guest = Self { host: host.clone(), name: name.to_owned(), shell, line };
        guest.id()?;
        guest.sh("true", TOOL_LIMIT)?.ok()?;
        Ok(guest)
    }

    /// Creates a guest from a configuration file in dom0, and waits at most `limit` until its shell
    /// responds.
    pub(super) fn create(host: XenHost, name: String, path: &str, limit: Duration) -> Result<Self> {
        let (line, shell) = host.take_line()?;
        // setsid, because the relay must not be in the session of the command that starts it.
        let create = format!(
            "xl create -q {path} && \
             {{ setsid xen-relay {name} {line} </dev/null >/tmp/relay.{line} 2>&1 & }}"
        );
        host.sh(&create, BOOT_LIMIT)?.ok()?;
        let shell = shell.lost_if(has_triple_fault);
        shell.wait_booted(limit)?;
        let shell = shell.lost_if(is_guest_lost);
        Ok(XenGuest { host, name, shell, line })
    }

    /// Its name in `xl`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its domain ID.
    ///
    /// # Errors
    /// [`Error::InGuest`] if it no longer exists.
    pub fn id(&self) -> Result<u32> {
        let output = self.host.xl(&format!("domid {}", self.name))?;
        let unexpected = |_| Error::Unusable(format!("unexpected output of xl domid: {output:?}"));
        output.trim().parse().map_err(unexpected)
    }

    /// The output of its kernel and its agent on its console so far.
    ///
    /// # Errors
    /// As [`Shell::sh`].
    pub fn console_log(&self) -> Result<String> {
        let log = format!("cat /var/log/xen/console/guest-{}.log", self.name);
        self.host.sh(&log, TOOL_LIMIT)?.ok()
    }

    /// Destroys it: `xl destroy`.
    ///
    /// # Errors
    /// [`Error::InGuest`] with the message of `xl`.
    pub fn destroy(self) -> Result<()> {
        let Self { host, name, shell, line } = self;
        drop(shell);
        host.sh(&format!("xl destroy {name}"), TOOL_LIMIT)?.ok()?;
        // The relay ends with the console; a moment later its line is free.
        let ended = format!("[ ! -e /run/relay.{line} ]");
        host.wait_until(&ended, TOOL_LIMIT)?;
        host.release_line(line);
        Ok(())
    }
}

impl Deref for XenGuest {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}
