//! A guest that does not run, edited through its configuration file.
//!
//! ```text
//!   observe      file ──read──▶ text ──parse──▶ config ──resolve──▶ hardware
//!                                                         the format's profile
//!
//!   perform_all  hardware + steps = wanted
//!                text + edits ──▶ new text ──parse, resolve──▶ as wanted? ──yes──▶ replace file
//!                        ▲                                          │ no
//!                        └─────── specify more of what exists ◀─────┘
//! ```
//!
//! All steps are one edit, so that the file is either the old one or the new one. It is locked
//! against other edits by vusb. It is not replaced if another program has changed it since it was
//! read.
//!
//! An edit can have side effects, because the format's tool fills what the text leaves open: a new
//! device may move others. So the new text is parsed and resolved before it is written. If the
//! result differs from what is wanted, the edit is repeated with more of the existing hardware
//! written out (`parsed.rs`): first what the tool adds by itself, then the addresses of what would
//! move, and then those of everything. The rest of the text stays as it is.

mod compare;
mod edit_lock;
mod file;
mod parsed;
pub(crate) mod pmxcfs;
mod scheme;
mod tool_processes;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use vusb_formats::config::{Edit, Inexpressible};
use vusb_formats::{Format, HostNaming};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{HostRef, Kind};
use vusb_model::diff::Step;
use vusb_model::hardware::Hardware;
use vusb_model::name::Name;
use vusb_model::profile::Profile;
use vusb_model::resolve::resolve;
use vusb_model::selector::Selector;
use vusb_model::spec::Spec;

pub use self::compare::difference;
use self::compare::equivalent;
use self::edit_lock::EditLock;
use self::parsed::{Explicit, Parsed};
pub use self::scheme::Files;
pub(crate) use self::scheme::lookup;
use crate::driver::{AllAtOnce, DeviceState, Driver, Error, Observed};
use crate::limits::Limits;

/// Looks up a host device that a file names. `None` if it is not plugged in, or if several match.
pub type HostLookup = Box<dyn Fn(&Selector) -> Option<HostRef> + Send>;

/// The driver for a configuration file.
pub struct ConfigFile {
    path: PathBuf,
    format: Format,
    lookup: HostLookup,
    limits: Limits,
    /// The root of the file system that has `/proc`.
    root: PathBuf,
    /// Whether the file will be edited, and stays locked from the first observation on.
    is_edited: bool,
    lock: Option<EditLock>,
    /// The file as [`Driver::observe`] read it last.
    parsed: Option<Parsed>,
    /// The steps that [`Driver::check`] was given last, and the new text that it found for them.
    checked: Option<(Vec<Step>, String)>,
}

impl ConfigFile {
    /// The configuration at `path`. `lookup` gives the speeds of host devices, which decide where
    /// the profiles for which [`Profile::is_own`] is true place them. The others do not depend on
    /// what is plugged in.
    pub fn at(path: &Path, format: Format, lookup: HostLookup, limits: Limits) -> ConfigFile {
        ConfigFile {
            path: path.to_owned(),
            format,
            lookup,
            limits,
            root: PathBuf::from("/"),
            is_edited: false,
            lock: None,
            parsed: None,
            checked: None,
        }
    }

    /// The same driver, but from the first observation until it is dropped, no other vusb process
    /// can edit the file, whatever its user or state folder is.
    #[must_use]
    pub fn for_edits(self) -> ConfigFile {
        ConfigFile { is_edited: true, ..self }
    }

    /// Checks that no process of the format's tool would overwrite an edit.
    fn check_processes(&self) -> Result<(), Error> {
        let Some(tool) = self.format.processes(&self.parsed()?.text) else { return Ok(()) };
        let owner = fs::metadata(&self.path).map(|it| it.uid());
        let owner = owner.map_err(|error| file::failed("reading", &self.path, &error))?;
        match tool_processes::holder(&self.root, owner, &tool) {
            None => Ok(()),
            Some(holder) => {
                let why = tool_processes::refusal(&holder, &tool).into();
                Err(Error::Busy { domain: self.origin(), why })
            }
        }
    }

    /// Locks the file, unless this driver has already locked it.
    fn lock(&mut self) -> Result<&mut EditLock, Error> {
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => EditLock::take(&self.path, &self.limits)?,
        };
        Ok(self.lock.insert(lock))
    }

    /// The file's name for messages.
    fn origin(&self) -> String {
        self.path.display().to_string()
    }

    /// The hardware that the format's tool would derive from a text.
    fn parse(&self, text: String) -> Result<Parsed, Error> {
        let config = self.format.read(&text, &self.origin()).map_err(|error| Error::Text {
            message: error.to_string(),
            category: None,
            remedies: error.remedies().to_vec(),
        })?;
        let mut spec = config.spec.clone();
        if spec.profile.is_own() {
            self.look_up_hosts(&mut spec);
        }
        let capabilities = self.format.capabilities(&config.guest);
        let mut resolved = resolve(&Hardware::new(), &spec, &capabilities).map_err(|refused| {
            let shown = config.show(&refused, &text, &self.origin());
            let message = shown.map_or_else(
                || format!("{}: {refused}", self.path.display()),
                |shown| shown.to_string(),
            );
            Error::Text {
                message,
                category: Some(refused.category()),
                remedies: refused.remedies(),
            }
        })?;
        let bypassing = config.complete(&mut resolved.hardware).into_iter().collect();
        Ok(Parsed { text, config, resolved, bypassing })
    }

    /// Completes the host devices that are plugged in.
    fn look_up_hosts(&self, spec: &mut Spec) {
        for device in &mut spec.devices {
            if let Kind::Host(host) = &device.kind {
                if let Some(reference) = (self.lookup)(&host.selector) {
                    device.kind = Kind::Host(reference);
                }
            }
        }
    }

    fn parsed(&self) -> Result<&Parsed, Error> {
        self.parsed.as_ref().ok_or_else(|| Error::Confused {
            domain: self.origin(),
            why: "the file has not been read yet".into(),
        })
    }

    /// The new text after these steps. If the format cannot express a hub with nothing behind it,
    /// the hub is removed together with the last device behind it. The same holds for a controller
    /// that the format's tool only has while it has devices.
    fn edited(&self, steps: &[Step]) -> Result<String, Error> {
        let parsed = self.parsed()?;
        let mut wanted = parsed.resolved.hardware.clone();
        for step in steps {
            step.apply(&mut wanted).map_err(|refusal| self.failed(refusal.to_string()))?;
        }
        if let Some(Ok(text)) =
            parsed.moving_edits(steps).map(|it| self.text_for(steps, it, &wanted))
        {
            return Ok(text);
        }
        let requested = || parsed.edits(steps);
        self.text_for(steps, requested(), &wanted).or_else(|error| {
            let without_idle = parsed.without_idle(&wanted, &self.format);
            if equivalent(&without_idle, &wanted, &self.format) {
                return Err(error);
            }
            self.text_for(steps, requested(), &without_idle).map_err(|_| error)
        })
    }

    /// The text after these steps, which are `requested` as edits, if it results in `wanted`. Each
    /// attempt specifies more of the existing hardware than the one before, and the first that
    /// succeeds is used.
    fn text_for<'a>(
        &self,
        steps: &[Step],
        requested: Vec<Edit<'a>>,
        wanted: &'a Hardware,
    ) -> Result<String, Error> {
        let parsed = self.parsed()?;
        let mut attempt = self.apply(parsed, &requested);
        for explicit in Explicit::ALL {
            let result = match &attempt {
                Ok(new) if equivalent(&new.resolved.hardware, wanted, &self.format) => break,
                Ok(new) => new.resolved.hardware.clone(),
                Err(_) => Hardware::new(),
            };
            let more = parsed.explicit(explicit, &result, wanted);
            let edits: Vec<Edit<'_>> = requested.iter().cloned().chain(more).collect();
            // The error of an earlier attempt is reported only if all attempts fail.
            attempt = self.apply(parsed, &edits).or(attempt);
        }
        let new = attempt?;
        let result = &new.resolved.hardware;
        if equivalent(result, wanted, &self.format) {
            return Ok(new.text);
        }
        let automatic = parsed.automatic_removal(steps, result);
        Err(self.inexpressible(&automatic.unwrap_or_else(|| {
            let what = difference(result, wanted);
            let why =
                "the format cannot express it in a way that its own tool understands; nothing was changed";
            Inexpressible { what, why: why.into() }
        })))
    }

    fn apply(&self, parsed: &Parsed, edits: &[Edit<'_>]) -> Result<Parsed, Error> {
        let text = self.format.edit(&parsed.text, edits);
        self.parse(text.map_err(|error| self.inexpressible(&error))?)
    }

    fn write(&mut self, steps: &[Step]) -> Result<(), Error> {
        let new = match self.checked.take() {
            Some((checked, text)) if checked == steps => text,
            _ => self.edited(steps)?,
        };
        self.check_processes()?;
        let before = self.parsed()?.text.clone();
        let path = self.path.clone();
        file::replace(&path, self.lock()?, &before, &new)
    }

    fn inexpressible(&self, error: &Inexpressible) -> Error {
        let by = format!("the format {}", self.format);
        Error::NotImplemented { what: error.what.clone(), by, why: error.why.clone() }
    }

    fn failed(&self, why: String) -> Error {
        Error::Failed { what: format!("editing {}", self.path.display()), why: why.into() }
    }
}

impl Driver for ConfigFile {
    fn observe(&mut self, _recorded: &Hardware) -> Result<Observed, Error> {
        if self.is_edited {
            self.lock()?;
        }
        let folder = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let load = |file: &str| file::read(&folder.join(file)).ok();
        let text = self.format.expanded(file::read(&self.path)?, &load);
        let parsed = self.parse(text)?;
        let hardware = parsed.resolved.hardware.clone();
        let controllers = hardware.controllers().map(|controller| controller.name.clone());
        let ours = hardware.devices().filter(|(at, _)| !parsed.bypassing.contains(at));
        let devices = ours.map(|(_, device)| device.name.clone());
        let observed = Observed {
            ours: controllers.chain(devices).collect::<BTreeSet<Name>>(),
            states: hardware.devices().map(|(at, _)| (at, DeviceState::Configured)).collect(),
            notes: parsed.notes(),
            hardware,
            ..Observed::default()
        };
        (self.parsed, self.checked) = (Some(parsed), None);
        Ok(observed)
    }

    fn capabilities(&mut self, _needed: Option<&Spec>) -> Result<Capabilities, Error> {
        Ok(self.format.capabilities(&self.parsed()?.config.guest))
    }

    /// Finds the new text without writing it.
    fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        self.check_processes()?;
        self.checked = Some((steps.to_vec(), self.edited(steps)?));
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Error> {
        self.write(std::slice::from_ref(step))
    }

    fn all_at_once(&mut self) -> Option<&mut dyn AllAtOnce> {
        Some(self)
    }

    fn profile(&self) -> Option<Profile> {
        self.parsed.as_ref().map(|parsed| parsed.config.spec.profile)
    }

    fn host_naming(&self) -> HostNaming {
        self.format.host_naming()
    }

    fn guest_name(&self) -> Option<String> {
        self.parsed.as_ref()?.config.guest.name.clone()
    }
}

impl AllAtOnce for ConfigFile {
    fn perform_all(&mut self, steps: &[Step]) -> Result<(), Error> {
        self.write(steps)
    }
}

#[cfg(test)]
mod tests {
    use vusb_formats::Formats;
    use vusb_model::address::Index;
    use vusb_model::hardware::Controller;
    use vusb_model::models::Model;

    use super::*;

    const MACHINE: &str = "<VirtualBox xmlns='http://www.virtualbox.org/' version='1.19-linux'>\
        <Machine uuid='{0b2a46ca-c48e-4706-bf7b-cef2c43ff445}' name='web1'>\
        <Hardware><Memory RAMSize='64'/></Hardware></Machine></VirtualBox>";

    /// Adds a controller to a machine of VirtualBox, while a process has this command line.
    fn edit_while(command_line: &str) -> (Result<(), Error>, String) {
        let folder = tempfile::tempdir().unwrap();
        let process = folder.path().join("proc/12");
        fs::create_dir_all(&process).unwrap();
        fs::write(process.join("cmdline"), command_line).unwrap();
        let path = folder.path().join("web1.vbox");
        fs::write(&path, MACHINE).unwrap();
        let format = Formats::builtin().named("vbox").unwrap();
        let limits = std::time::Duration::from_secs(5).into();
        let file = ConfigFile::at(&path, format, Box::new(|_| None), limits);
        let mut file = ConfigFile { root: folder.path().to_owned(), ..file.for_edits() };
        file.observe(&Hardware::new()).unwrap();
        let ports = Model::QemuXhci.virtualbox_ports().unwrap();
        let name = "hci0".parse().unwrap();
        let controller = Controller::new(Index::ZERO, name, Model::QemuXhci, ports);
        let step = Step::AddController(controller);
        let checked = file.check(std::slice::from_ref(&step)).and_then(|()| file.perform(&step));
        (checked, fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn a_file_is_not_edited_while_a_process_would_overwrite_it() {
        let (edited, text) = edit_while("/usr/lib/virtualbox/VBoxManage\0list\0vms\0");
        assert!(edited.is_ok() && text.contains("XHCI"), "{edited:?}: {text}");
        for (command_line, why) in [
            ("VBoxHeadless\0--startvm\0web1\0", "process 12 runs the guest"),
            ("VBoxSVC\0--auto-shutdown\0", "VBoxSVC (process 12) has the file in memory"),
        ] {
            let (edited, text) = edit_while(command_line);
            let error = edited.unwrap_err();
            assert!(matches!(error, Error::Busy { .. }), "{error}");
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(text, MACHINE);
        }
    }
}
