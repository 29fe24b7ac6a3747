//! From the command line to the library and back: one short function a command, and no decisions.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde::Serialize;
use vusb::model::name::Name;
use vusb::view::{API, ControllerView, DeviceView, DomainView};
use vusb::{
    ArgumentOptions, DomainId, Error, Format, Host, Outcome, Settings, StateDir, Vusb, Wanted,
};

use crate::arguments::{
    Arguments, Command, ControllerCommand, DeviceCommand, Everywhere, HostCommand,
};
use crate::failure::Failure;
use crate::report::{self, PlanView, Verb};
use crate::screen::Screen;
use crate::{shell, tables};

type Result<T = ()> = std::result::Result<T, Failure>;

/// The folder of the records, if the environment names one.
const STATE_DIR: &str = "VUSB_STATE_DIR";

/// The socket of xenstored, if the environment names one: libxenstore's own variable (`xs_daemon_socket` of `xs.c`).
const XENSTORED_PATH: &str = "XENSTORED_PATH";

/// The path in a variable, if there is one.
fn environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments) -> Result {
    let everywhere = &arguments.everywhere;
    let cli = Cli { screen: screen(everywhere), everywhere };
    match &arguments.command {
        Command::Controller(command) => cli.controller(command),
        Command::Device(command) => cli.device(command),
        Command::List { domain } => cli.list(domain.as_deref()),
        Command::Plan { spec } => cli.plan(spec),
        Command::Apply { target, force } => cli.apply(target, *force),
        Command::Host(HostCommand::List { backend }) => cli.host_list(backend.as_deref()),
        Command::Models => cli.models(),
        Command::Digest { target, pci } => cli.digest(target, *pci),
        Command::Convert { file, to, from, lossy } => cli.convert(file, *to, *from, *lossy),
        Command::QemuArgs { spec, spare_slots } => cli.qemu_args(spec, *spare_slots),
        Command::Completions { shell } => cli.completions(*shell),
        Command::Man { dir } => cli.man(dir),
    }
}

/// How the command line wants its output.
fn screen(everywhere: &Everywhere) -> Screen {
    Screen { json: everywhere.json, quiet: everywhere.quiet, verbose: everywhere.verbose > 0 }
}

/// One call of the command.
struct Cli<'a> {
    screen: Screen,
    everywhere: &'a Everywhere,
}

#[derive(Serialize)]
struct ControllersView<'a> {
    api: u32,
    domain: &'a str,
    address: &'a str,
    controllers: Vec<serde_json::Value>,
}

#[derive(Serialize)]
struct DevicesView<'a> {
    api: u32,
    domain: &'a str,
    address: &'a str,
    devices: Vec<PlacedDevice<'a>>,
}

/// A device with the controller that it is on.
#[derive(Serialize)]
struct PlacedDevice<'a> {
    at: String,
    bus: vusb::model::address::Index,
    controller: &'a Name,
    #[serde(flatten)]
    device: &'a DeviceView,
}

#[derive(Serialize)]
struct DigestView {
    api: u32,
    digest: String,
    pci: bool,
}

#[derive(Serialize)]
struct ArgumentsView {
    api: u32,
    arguments: Vec<String>,
}

#[derive(Serialize)]
struct ConvertedView<'a> {
    api: u32,
    format: &'static str,
    text: &'a str,
    lost: &'a [String],
}

#[derive(Serialize)]
struct ScriptView {
    api: u32,
    shell: String,
    script: String,
}

#[derive(Serialize)]
struct FolderView<'a> {
    api: u32,
    folder: &'a Path,
}

impl Cli<'_> {
    /// The library, set up as the command line says.
    fn vusb(&self, force: bool) -> Vusb {
        let state = self.everywhere.state_dir.clone().or_else(|| environment(STATE_DIR));
        let settings = Settings {
            timeout: self.everywhere.timeout,
            dry_run: self.everywhere.dry_run,
            force,
            xenstored: environment(XENSTORED_PATH),
            ..Settings::default()
        };
        Vusb::new(state.map_or_else(StateDir::default, StateDir::new), self.host())
            .with_settings(settings)
    }

    /// The machine whose USB devices are meant.
    fn host(&self) -> Host {
        self.everywhere.host_root.as_ref().map_or_else(Host::system, Host::new)
    }

    fn controller(&self, command: &ControllerCommand) -> Result {
        match command {
            ControllerCommand::Add(add) => {
                let vusb = self.vusb(false);
                let outcome = vusb.controller_add(&vusb.domain(&add.domain)?, &add.spec())?;
                self.report(Verb::Add, &outcome)
            }
            ControllerCommand::Remove { domain, controller, force } => {
                let vusb = self.vusb(*force);
                let outcome = vusb.controller_remove(&vusb.domain(domain)?, controller)?;
                self.report(Verb::Remove, &outcome)
            }
            ControllerCommand::List { domain } => self.controller_list(domain),
        }
    }

    fn device(&self, command: &DeviceCommand) -> Result {
        match command {
            DeviceCommand::Add(add) => {
                let vusb = self.vusb(add.force);
                let outcome = vusb.device_add(&vusb.domain(&add.domain)?, &add.spec())?;
                self.report(Verb::Add, &outcome)
            }
            DeviceCommand::Remove { domain, device, force } => {
                let device = device.parse()?;
                let vusb = self.vusb(*force);
                let outcome = vusb.device_remove(&vusb.domain(domain)?, &device)?;
                self.report(Verb::Remove, &outcome)
            }
            DeviceCommand::List { domain } => self.device_list(domain),
        }
    }

    fn report(&self, verb: Verb, outcome: &Outcome) -> Result {
        Ok(report::outcome(self.screen, verb, outcome)?)
    }

    /// A domain as it is, with its notes told.
    fn view(&self, domain: &str) -> Result<DomainView> {
        let vusb = self.vusb(false);
        let view = vusb.list(&vusb.domain(domain)?)?;
        self.notes(&view.notes);
        Ok(view)
    }

    fn notes(&self, notes: &[String]) {
        for note in notes {
            self.screen.note(note);
        }
    }

    /// The result as JSON or as text, whichever is wanted.
    fn show(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result {
        let shown =
            if self.screen.json { self.screen.json(json) } else { self.screen.result(&text()) };
        Ok(shown?)
    }

    fn controller_list(&self, domain: &str) -> Result {
        let view = self.view(domain)?;
        let controllers =
            view.controllers.iter().map(without_devices).collect::<io::Result<_>>()?;
        let json =
            ControllersView { api: API, domain: &view.domain, address: &view.address, controllers };
        self.show(&json, || tables::controllers(&view))
    }

    fn device_list(&self, domain: &str) -> Result {
        let view = self.view(domain)?;
        let devices = view.controllers.iter().flat_map(|controller| {
            controller.devices.iter().map(move |device| PlacedDevice {
                at: format!("{}:{}", controller.name, device.port),
                bus: controller.index,
                controller: &controller.name,
                device,
            })
        });
        let devices = devices.collect();
        let json = DevicesView { api: API, domain: &view.domain, address: &view.address, devices };
        self.show(&json, || tables::devices(&view))
    }

    fn list(&self, domain: Option<&str>) -> Result {
        if let Some(domain) = domain {
            let view = self.view(domain)?;
            return self.show(&view, || tables::domain(&view));
        }
        let view = self.vusb(false).list_all()?;
        for domain in &view.domains {
            for note in &domain.notes {
                self.screen.note(&format!("{}: {note}", domain.domain));
            }
        }
        if view.domains.is_empty() && view.unreachable.is_empty() {
            self.screen.note("no domain has a record yet; `vusb list DOMAIN` shows any domain");
        }
        self.show(&view, || tables::all(&view))
    }

    fn plan(&self, spec: &Path) -> Result {
        let wanted = Wanted::read(spec)?;
        let vusb = self.vusb(false);
        let fresh = is_for_a_start(&vusb, &wanted)?;
        let outcome = if fresh { vusb.plan_start(&wanted)? } else { vusb.plan(&wanted)? };
        if self.screen.json {
            return Ok(self.screen.json(&PlanView::new(&outcome, fresh))?);
        }
        if !fresh {
            return self.report(Verb::Apply, &outcome);
        }
        self.notes(&outcome.notes);
        self.screen.note(match wanted.format {
            Format::Vusb => {
                "the spec names no running guest: this is what one gets that is started with it"
            }
            _ => "this is what a guest gets that is started with it",
        });
        Ok(self.screen.result(&tables::planned(&outcome.hardware))?)
    }

    fn apply(&self, target: &str, force: bool) -> Result {
        let vusb = self.vusb(force);
        let outcome = match vusb.domain(target)? {
            DomainId::File(path, _) => vusb.apply(&Wanted::read(&path)?)?,
            domain => vusb.apply_recorded(&domain)?,
        };
        self.report(Verb::Apply, &outcome)
    }

    fn host_list(&self, backend: Option<&str>) -> Result {
        let vusb = self.vusb(false);
        let view = match backend {
            None => vusb.host_list()?,
            Some(backend) => vusb.host_list_of(backend)?,
        };
        self.notes(&view.notes);
        self.show(&view, || tables::host(&view, self.screen.verbose))
    }

    fn models(&self) -> Result {
        let view = self.vusb(false).models();
        self.show(&view, || tables::models(&view))
    }

    fn digest(&self, target: &str, pci: bool) -> Result {
        let vusb = self.vusb(false);
        let domain = vusb.domain(target)?;
        let digest = if pci { vusb.digest_with_pci(&domain)? } else { vusb.digest(&domain)? };
        let digest = digest.to_string();
        self.show(&DigestView { api: API, digest: digest.clone(), pci }, || digest)
    }

    fn convert(&self, file: &Path, to: Format, from: Option<Format>, lossy: bool) -> Result {
        let wanted = match from {
            Some(from) => Wanted::read_as(file, from)?,
            None => Wanted::read(file)?,
        };
        let converted = self.vusb(false).convert(&wanted, to)?;
        if !lossy && !converted.lost.is_empty() {
            return Err(Error::Lossy { to, lost: converted.lost }.into());
        }
        self.notes(&converted.notes);
        for lost in &converted.lost {
            self.screen.note(&format!("lost: {lost}"));
        }
        if self.screen.json {
            let (text, lost) = (&converted.text, &converted.lost);
            return Ok(self.screen.json(&ConvertedView {
                api: API,
                format: to.name(),
                text,
                lost,
            })?);
        }
        // As it is: a changed character would be another configuration.
        Ok(self.screen.exactly(&converted.text)?)
    }

    fn qemu_args(&self, spec: &Path, spare_slots: u8) -> Result {
        let options = ArgumentOptions { spare_slots };
        let arguments = self.vusb(false).qemu_args(&Wanted::read(spec)?, &options)?;
        if self.screen.json {
            return Ok(self.screen.json(&ArgumentsView { api: API, arguments })?);
        }
        if arguments.iter().any(|argument| argument.contains(char::is_control)) {
            let what = "an argument has a control character in it, which no shell should be given";
            let hint = "use --json, or mend the path in the spec that has it";
            return Err(Error::Usage { what: what.to_owned(), hint: Some(hint.to_owned()) }.into());
        }
        // As it is: a changed character would be another file.
        Ok(self.screen.exactly(&shell::quoted(&arguments))?)
    }

    fn completions(&self, shell: clap_complete::Shell) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "vusb", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        if self.screen.json {
            let view = ScriptView { api: API, shell: shell.to_string(), script };
            return Ok(self.screen.json(&view)?);
        }
        Ok(self.screen.exactly(&script)?)
    }

    fn man(&self, dir: &Path) -> Result {
        clap_mangen::generate_to(Arguments::command(), dir)?;
        self.show(&FolderView { api: API, folder: dir }, String::new)
    }
}

/// Whether the file is for a guest that is yet to be started: it is another tool's, or says no address, and no domain is known by its name.
fn is_for_a_start(vusb: &Vusb, wanted: &Wanted) -> Result<bool> {
    if wanted.format != Format::Vusb {
        return Ok(true);
    }
    match (wanted.driver(), &wanted.spec().domain) {
        (Some(_), _) => Ok(false),
        (None, None) => Ok(true),
        (None, Some(name)) => match vusb.domain(name.as_str()) {
            Ok(_) => Ok(false),
            Err(Error::NoSuchDomain { several: false, .. }) => Ok(true),
            Err(error) => Err(error.into()),
        },
    }
}

/// A controller without what is on it.
fn without_devices(controller: &ControllerView) -> io::Result<serde_json::Value> {
    let mut value = serde_json::to_value(controller).map_err(io::Error::other)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("devices");
    }
    Ok(value)
}
