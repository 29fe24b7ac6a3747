//! A guest of Xen: made with `xl`, with the rig's image and its shell.

use super::host::{BOOT_LIMIT, TOOL_LIMIT, XenHost, in_bin};
use super::image::{self, GUEST_IMAGE, GUEST_KERNEL};
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
    /// Hardware-assisted with a device model. Needs [`super::XenHostBuilder::hardware_guests`].
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
pub struct XenGuestBuilder<'a> {
    host: &'a XenHost,
    name: String,
    kind: GuestKind,
    memory_mib: u32,
    config: Vec<String>,
    modules: Vec<&'static str>,
    files: Files,
}

impl<'a> XenGuestBuilder<'a> {
    pub(super) fn new(host: &'a XenHost, name: &str) -> Self {
        Self {
            host,
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

    /// A program of this machine that the guest is to have in `/bin`, with its shared libraries.
    ///
    /// # Errors
    /// [`Error::Unusable`] if it has no file name; as [`crate::parcel::program`].
    pub fn binary(mut self, path: &Path) -> Result<Self> {
        self.files.extend(in_bin(path)?);
        Ok(self)
    }

    /// Makes the guest and waits until its shell answers.
    ///
    /// # Errors
    /// [`Error::InGuest`] with the words of `xl`, [`Error::Timeout`] with dom0's console.
    pub fn start(self) -> Result<XenGuest<'a>> {
        let image = self.image()?;
        let config = format!("/guest/{}.cfg", self.name);
        let text = self.text(&image);
        let host = self.host;
        let (line, shell) = host.take_line()?;
        let create = format!(
            "cat >{config} <<'END'\n{text}END\nxl create -q {config} && \
             {{ xen-relay {} {line} >/tmp/relay.{line} 2>&1 & }}",
            self.name
        );
        host.sh(&create, BOOT_LIMIT)?.ok()?;
        shell.wait_booted(BOOT_LIMIT)?;
        Ok(XenGuest { host, name: self.name, shell })
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
        let mut text = format!(
            "name = '{name}'\ntype = '{kind}'\nmemory = {memory_mib}\nvcpus = 1\n\
             kernel = '{GUEST_KERNEL}'\nramdisk = '{image}'\nextra = '{QUICK}'\n\
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
pub struct XenGuest<'a> {
    host: &'a XenHost,
    name: String,
    shell: Shell,
}

impl XenGuest<'_> {
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

    /// Ends it at once: `xl destroy`.
    ///
    /// # Errors
    /// [`Error::InGuest`] with the words of `xl`.
    pub fn destroy(self) -> Result<()> {
        self.host.sh(&format!("xl destroy {}", self.name), TOOL_LIMIT)?.ok().map(drop)
    }
}

impl Deref for XenGuest<'_> {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}
