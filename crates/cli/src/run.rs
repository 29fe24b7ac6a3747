//! From the command line to the library and back: one short function for each command, and no
//! decisions.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;
use vusb::drivers::When;
use vusb::formats::Format;
use vusb::formats::rules::import::{Tool, import};
use vusb::model::device::{HostRef, Kind, KindError};
use vusb::model::rules::DeviceFacts;
use vusb::model::selector::{Selector, SelectorError};
use vusb::rules::{self, Explained, RulesView};
use vusb::view::{API, ArgumentsView, DigestView, DomainView, HostDeviceView};
use vusb::{
    Context, ConversionTarget, Destination, DeviceRef, DomainAddress, Error, ExitCode, GuestConfig,
    Note, Options, Outcome, StartArguments, StartOptions,
};

use vusb_interface as interface;
use vusb_picture::Embedding;

use crate::arguments::{
    Arguments, Command, ControllerCommand, DeviceAdd, DeviceArgument, DeviceCommand, Explain,
    GlobalOptions, HostCommand, RulesCommand, mapping, node,
};
use crate::complete::complete;
use crate::context::{context, has_state_dir};
use crate::failure::Failure;
use crate::manager::Manager;
use crate::overview::Overview;
use crate::report::{self, Verb};
use crate::screen::Screen;
use crate::{interrupt, man, remedy, shell, tables, web};

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// How many single waits a whole command may take. A command has a few dozen steps at most, and
/// most of them wait for nothing.
pub(crate) const WAITS_PER_COMMAND: u32 = 30;

/// The result of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Success,
    /// `plan --exit-code` found changes.
    Changes,
    /// Something could not be restored; the rest was.
    Incomplete(ExitCode),
}

impl From<ExitCode> for Done {
    fn from(kind: ExitCode) -> Done {
        if kind == ExitCode::Done { Done::Success } else { Done::Incomplete(kind) }
    }
}

/// Carries out the command line.
pub(crate) fn run(arguments: Arguments) -> Result<Done> {
    let global = &arguments.global;
    let cli = Cli::new(global, &arguments.command)?;
    // If the daemon does the work, the end of this process cancels the call, and the daemon undoes
    // it.
    if arguments.command.changes_domain() && cli.manager.is_none() {
        interrupt::cancel_on_signal(cli.options.cancel.clone(), !global.json);
    }
    let done = carry_out(&cli, &arguments)?;
    if cli.options.cancel.is_cancelled() && !global.json {
        interrupt::report_too_late();
    }
    Ok(done)
}

fn carry_out(cli: &Cli, arguments: &Arguments) -> Result<Done> {
    let done = match &arguments.command {
        Command::Plan { target, exit_code, prune } => return cli.plan(target, *exit_code, *prune),
        Command::Controller(command) => cli.controller(command),
        Command::Device(command) => cli.device(command),
        Command::Domain(command) => cli.domain_command(command),
        Command::List { domain, svg: true, .. } => cli.list_as_picture(domain.as_deref()),
        Command::List { domain, tree, ascii, .. } => {
            let style = tree.then(|| tables::Lines::new(*ascii));
            cli.list(domain.as_deref(), style)
        }
        Command::Apply { target: Some(target), force, prune, .. } => {
            return cli.apply(target, *force, *prune);
        }
        Command::Apply { target: None, force, .. } => return cli.apply_all(*force),
        Command::Suspend { domain } => cli.suspend(domain),
        Command::Resume { domain, force } => return cli.resume(domain, *force),
        Command::Host(HostCommand::List { backend }) => cli.host_list(backend.as_deref()),
        Command::Rules(RulesCommand::Check { paths }) => cli.rules_check(paths),
        Command::Rules(RulesCommand::List) => cli.rules_list(),
        Command::Rules(RulesCommand::Import { file, tool }) => cli.rules_import(file, *tool),
        Command::Explain(explain) => cli.explain(explain),
        Command::Watch { ascii, .. } if watches_trees(arguments) => {
            cli.watch_trees(tables::Lines::new(*ascii))
        }
        Command::Watch { since, .. } => cli.watch(*since, &arguments.global),
        Command::Web { port, socket, read_only } => {
            let at = match socket {
                Some(path) => web::ListenAt::Socket(path.clone()),
                None => web::ListenAt::Port(port.unwrap_or(0)),
            };
            web::serve(cli, arguments, &at, *read_only)
        }
        Command::Answer { question, domain, remember } => {
            cli.answer(*question, domain, *remember, &arguments.global)
        }
        Command::Models { domain } => cli.models(domain.as_deref()),
        Command::Digest { target, pci } => cli.digest(target, *pci),
        Command::Convert { file, to, nearest, hypervisor, lossy } => {
            let target = ConversionTarget {
                nearest: *nearest,
                hypervisor: *hypervisor,
                ..ConversionTarget::from(cli.format(to)?)
            };
            cli.convert(file, &target, *lossy)
        }
        Command::QemuArgs { spec, spare_slots, strict, force } => {
            let start = StartOptions { spare_slots: *spare_slots, strict: *strict };
            cli.qemu_args(spec, start, *force)
        }
        Command::Completions { shell } => cli.completions(*shell),
        Command::Man { dir } => cli.man(dir),
        Command::Complete { words } => {
            Ok(cli.screen.unescaped(&complete(words, &arguments.global))?)
        }
    };
    done.map(|()| Done::Success)
}

/// Whether `watch` shows trees: on a terminal or with `--tree`, unless JSON is requested.
fn watches_trees(arguments: &Arguments) -> bool {
    arguments.command.watches_trees() && !arguments.global.json
}

/// The result of a plan: `Changes` only if the exit code is to report changes.
fn after_plan(exit_code: bool, plan: &Outcome) -> Done {
    match Done::from(plan.exit_code()) {
        Done::Success if exit_code && !plan.steps.is_empty() => Done::Changes,
        done => done,
    }
}

fn prune_needs_spec() -> Failure {
    Failure::Usage("--prune is for a spec, not for a domain".to_owned())
}

/// The failure for a text that is not a device, in the form of clap's errors.
fn not_a_device(text: &str, error: &KindError) -> Failure {
    Failure::Usage(format!(
        "invalid value '{text}' for '<DEVICE>': {error}\n\nFor more information, try '--help'.\n"
    ))
}

/// One run of the command.
pub(crate) struct Cli {
    pub(crate) context: Context,
    pub(crate) options: Options,
    pub(crate) screen: Screen,
    /// The daemon, if it carries out the command.
    pub(crate) manager: Option<Manager>,
}

/// A completion script as JSON.
#[derive(Serialize)]
struct ScriptView {
    api: u32,
    shell: String,
    script: String,
}

/// A picture as JSON.
#[derive(Serialize)]
struct PictureView {
    api: u32,
    svg: String,
}

/// The location that a device got by an answer, as JSON.
#[derive(Serialize)]
struct AnsweredView {
    api: u32,
    at: String,
}

/// The rules of another tool as JSON.
#[derive(Serialize)]
struct ImportedView<'a> {
    api: u32,
    text: &'a str,
    lost: &'a [String],
}

/// The folder of the manual pages as JSON.
#[derive(Serialize)]
struct FolderView<'a> {
    api: u32,
    folder: &'a Path,
}

impl Cli {
    pub(crate) fn new(global: &GlobalOptions, command: &Command) -> Result<Cli> {
        let deadline = global.timeout.saturating_mul(WAITS_PER_COMMAND);
        let options = Options {
            wait: global.timeout,
            deadline: Instant::now().checked_add(deadline),
            dry_run: global.dry_run,
            when: match (global.live_only, global.next_start) {
                (true, _) => When::Now,
                (false, true) => When::Next,
                (false, false) => When::NowAndNext,
            },
            ..Options::default()
        };
        let (host_root, from) = (global.host_root.as_deref(), global.from.as_deref());
        let context = context(global.state_dir.clone(), host_root, from);
        let context = match &global.claims_dir {
            Some(claims) => context.with_claims_in(claims),
            None => context,
        };
        let context = match global.rules.as_slice() {
            [] => context,
            folders => context.with_rules_in(folders.to_vec()),
        };
        let screen = Screen { json: global.json, quiet: global.quiet, verbose: global.verbose > 0 };
        let manager = match (command.method(), &global.daemon) {
            (Some(_), Some(socket)) => Some(Manager::connect(socket)?),
            // The options may select other records or another machine than the daemon's.
            (Some(method), None) if !global.direct && !selects_state(global) => {
                Manager::find(Path::new(interface::SOCKET), method)?
            }
            _ => None,
        };
        Ok(Cli { context, options, screen, manager })
    }

    /// The options, with `--force` if it is given.
    pub(crate) fn forced(&self, force: bool) -> Options {
        Options { force, ..self.options.clone() }
    }

    pub(crate) fn domain(&self, text: &str) -> Result<DomainAddress> {
        Ok(self.context.domain(text, &self.options)?)
    }

    fn controller(&self, command: &ControllerCommand) -> Result {
        match command {
            ControllerCommand::Add(add) => {
                let added = self.add_controller(&add.domain, &add.spec())?;
                Ok(report::outcome(self.screen, Verb::Add, &added)?)
            }
            ControllerCommand::Remove { domain, controller, force } => {
                let removed = self.remove_controller(domain, controller, &self.forced(*force))?;
                Ok(report::outcome(self.screen, Verb::Remove, &removed)?)
            }
            ControllerCommand::List { domain } => {
                let view = self.view(domain)?;
                let text = tables::controllers(&view);
                self.show(&view.into_controllers(), || text)
            }
        }
    }

    fn device(&self, command: &DeviceCommand) -> Result {
        match command {
            DeviceCommand::Add(add) => self.device_add(add),
            DeviceCommand::Remove { domain, devices, force } => {
                self.device_remove(domain, devices, *force)
            }
            DeviceCommand::Move(it) => {
                self.check_order("move", &it.domain, &it.device)?;
                let device = self.device_ref(&it.device)?;
                let to = Destination { controller: it.controller.clone(), port: it.port };
                let moved = self.move_device(&it.domain, &device, &to, &self.forced(it.force))?;
                Ok(report::outcome(self.screen, Verb::Move, &moved)?)
            }
            DeviceCommand::List { domain } => {
                let view = self.view(domain)?;
                let text = tables::devices(&view);
                self.show(&view.into_devices(), || text)
            }
        }
    }

    fn device_add(&self, add: &DeviceAdd) -> Result {
        if add.devices.len() > 1 && (add.name.is_some() || add.port.is_some()) {
            let text = "--name and --port are for one device, and there are several";
            return Err(Failure::Usage(text.to_owned()));
        }
        let mut specs = Vec::new();
        for text in &add.devices {
            self.check_order("add", &add.domain, text)?;
            let device = match text.parse().map_err(|error| not_a_device(text, &error))? {
                DeviceArgument::Kind(kind) => kind,
                DeviceArgument::Node(node) => {
                    Kind::Host(HostRef::new(self.context.device_of_node(&node)?))
                }
                DeviceArgument::Named(name) => {
                    Kind::Host(HostRef::new(self.context.device_of_name(&name)?))
                }
            };
            specs.push(add.spec(device));
        }
        let options = Options { accept_absent: add.when_there, ..self.forced(add.force) };
        let added = self.add_devices(&add.domain, &specs, &options)?;
        Ok(report::outcome(self.screen, Verb::Add, &added)?)
    }

    fn device_remove(&self, domain: &str, devices: &[String], force: bool) -> Result {
        let mut requested = Vec::new();
        for text in devices {
            self.check_order("remove", domain, text)?;
            requested.push(self.device_ref(text)?);
        }
        let removed = self.remove_devices(domain, &requested, &self.forced(force))?;
        Ok(report::outcome(self.screen, Verb::Remove, &removed)?)
    }

    fn device_ref(&self, text: &str) -> Result<DeviceRef> {
        match (node(text), mapping(text)) {
            (Some(node), _) => Ok(DeviceRef::Host(self.context.device_of_node(&node)?)),
            (_, Some(name)) => Ok(DeviceRef::Host(self.context.device_of_name(&name)?)),
            (None, None) => Ok(text.parse()?),
        }
    }

    /// Checks that the domain comes before the device. The reverse order is a common mistake,
    /// because other tools have the device first.
    fn check_order(&self, verb: &str, domain: &str, device: &str) -> Result {
        let is_address =
            |text| matches!(self.context.registry().parse(text, Path::new(".")), Ok(Some(_)));
        let is_device = |text: &str| text.parse::<DeviceArgument>().is_ok();
        // The path of a node in /dev looks like the path of a monitor's socket.
        let swapped = if is_address(device) && !is_device(device) {
            !is_address(domain)
        } else {
            is_device(domain) && !self.is_domain(domain) && self.is_domain(device)
        };
        if !swapped {
            return Ok(());
        }
        let words = ["vusb", "device", verb, device, domain].map(str::to_owned);
        let line = shell::quoted(&words).replace(" \\\n", " ");
        Err(Failure::Argument {
            problem: format!("`{device}` is a domain, and the domain comes first"),
            hint: format!("write `{line}`"),
        })
    }

    /// Prints the notes of a domain, and returns its hardware.
    fn view(&self, domain: &str) -> Result<DomainView> {
        let view = self.describe(domain)?;
        self.notes(&view.notes);
        Ok(view)
    }

    fn notes(&self, notes: &[Note]) {
        for note in notes {
            self.screen.note(&remedy::note(note));
        }
    }

    /// Prints the result, as JSON or as text.
    pub(crate) fn show(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result {
        let shown =
            if self.screen.json { self.screen.json(json) } else { self.screen.result(&text()) };
        Ok(shown?)
    }

    /// Lists a domain or all of them: as trees if `lines` is given.
    fn list(&self, domain: Option<&str>, lines: Option<tables::Lines>) -> Result {
        if let Some(domain) = domain {
            let view = self.view(domain)?;
            return self.show(&view, || match lines {
                Some(lines) => tables::tree(&view, &self.plugged_in(), lines),
                None => tables::domain(&view),
            });
        }
        let view = self.describe_all()?;
        for domain in &view.domains {
            for note in &domain.notes {
                self.screen.note(&format!("{}: {}", domain.domain, remedy::note(note)));
            }
        }
        if view.domains.is_empty() && view.unreachable.is_empty() {
            self.screen.note("no domain has a record yet; `vusb list DOMAIN` shows any domain");
        }
        self.show(&view, || match lines {
            Some(lines) => tables::trees(&view, &self.plugged_in(), lines),
            None => tables::all(&view),
        })
    }

    /// Draws this machine with one domain or with all of them.
    fn list_as_picture(&self, domain: Option<&str>) -> Result {
        let overview = Overview::now(self, domain)?;
        let svg = overview.picture(Embedding::Document);
        if self.screen.json {
            return Ok(self.screen.json(&PictureView { api: API, svg })?);
        }
        // The strings in it are escaped.
        Ok(self.screen.unescaped(&svg)?)
    }

    /// The devices of this machine, as far as they can be listed.
    pub(crate) fn plugged_in(&self) -> Vec<HostDeviceView> {
        self.host_view(None).map(|it| it.devices).unwrap_or_default()
    }

    /// Prints what `apply` would do. With `exit_code`, the exit code reports whether there are
    /// changes.
    fn plan(&self, target: &str, exit_code: bool, prune: bool) -> Result<Done> {
        if self.domain(target).is_ok_and(|it| it.has_record()) {
            return self.plan_of_domain(target, exit_code, prune);
        }
        let spec = Path::new(target);
        let config = self.context.read_config(spec)?;
        // Other tools' files, and specs without a driver, describe a guest that is yet to be
        // started.
        let for_start = !config.format().names_running_domain() || config.driver().is_none();
        let options = Options { dry_run: true, prune, ..self.options.clone() };
        let plan = if for_start {
            self.context.plan_start(&config, &options)?
        } else {
            self.apply_spec(spec, &config, &options)?
        };
        let done = after_plan(exit_code && !for_start, &plan);
        if self.screen.json {
            self.screen.json(&plan)?;
            return Ok(done);
        }
        if !for_start {
            report::outcome(self.screen, Verb::Apply, &plan)?;
            return Ok(done);
        }
        self.notes(&plan.notes);
        self.screen.note(if config.format().names_running_domain() {
            "the spec has no driver: this is the hardware of a guest that is started with it"
        } else {
            "this is the hardware of a guest that is started with it"
        });
        self.screen.result(&tables::planned(&plan.hardware))?;
        Ok(done)
    }

    /// Shows what `apply` would restore for a domain.
    fn plan_of_domain(&self, domain: &str, exit_code: bool, prune: bool) -> Result<Done> {
        if prune {
            return Err(prune_needs_spec());
        }
        let options = Options { dry_run: true, ..self.options.clone() };
        let plan = match self.restore_by_daemon(domain, &options)? {
            Some(plan) => plan,
            None => self.context.restore(&self.domain(domain)?, &options)?,
        };
        report::outcome(self.screen, Verb::Apply, &plan)?;
        Ok(after_plan(exit_code, &plan))
    }

    fn apply(&self, target: &str, force: bool, prune: bool) -> Result<Done> {
        let options = Options { prune, ..self.forced(force) };
        if !prune {
            if let Some(restored) = self.restore_by_daemon(target, &options)? {
                return self.report_restored(&restored);
            }
        }
        let domain = self.domain(target)?;
        if domain.has_record() {
            if prune {
                return Err(prune_needs_spec());
            }
            return self.report_restored(&self.context.restore(&domain, &options)?);
        }
        let path = Path::new(domain.operand());
        let config = self.context.read_config(path)?;
        let applied = self.apply_spec(path, &config, &options)?;
        report::outcome(self.screen, Verb::Apply, &applied)?;
        Ok(Done::from(applied.exit_code()))
    }

    /// Prints what was restored. The exit code reports whether something could not be restored.
    fn report_restored(&self, restored: &Outcome) -> Result<Done> {
        report::outcome(self.screen, Verb::Apply, restored)?;
        Ok(Done::from(restored.exit_code()))
    }

    fn apply_all(&self, force: bool) -> Result<Done> {
        let view = self.context.restore_all(&self.forced(force))?;
        report::all(self.screen, &view)?;
        Ok(Done::from(view.exit_code()))
    }

    fn suspend(&self, domain: &str) -> Result {
        let suspended = self.suspend_domain(domain)?;
        Ok(report::outcome(self.screen, Verb::Suspend, &suspended)?)
    }

    fn resume(&self, domain: &str, force: bool) -> Result<Done> {
        let resumed = self.resume_domain(domain, &self.forced(force))?;
        report::outcome(self.screen, Verb::Resume, &resumed)?;
        Ok(Done::from(resumed.exit_code()))
    }

    fn host_list(&self, backend: Option<&str>) -> Result {
        let view = self.host_view(backend)?;
        self.notes(&view.notes);
        self.show(&view, || tables::host(&view, self.screen.verbose))
    }

    fn rules_check(&self, paths: &[PathBuf]) -> Result {
        if let Some(path) = paths.iter().find(|it| !it.exists()) {
            return Err(Error::NoSuchFile { path: path.clone() }.into());
        }
        let loaded = match paths {
            [] => self.context.rules()?,
            paths => rules::load(paths)?,
        };
        let view = RulesView::from(&loaded);
        self.warnings(&view);
        let (rules, files) = (loaded.set.rules.len(), loaded.files.len());
        self.show(&view, || format!("no mistake in {rules} rules from {files} files"))
    }

    fn rules_list(&self) -> Result {
        let view = RulesView::from(&self.context.rules()?);
        self.warnings(&view);
        self.show(&view, || tables::rules(&view))
    }

    fn rules_import(&self, file: &Path, tool: Option<Tool>) -> Result {
        let origin = file.display().to_string();
        let text = rules::text_of(file)?;
        let tool = tool.or_else(|| Tool::recognize(&text)).ok_or_else(|| Failure::Argument {
            problem: format!("{origin}: cannot tell which tool this file is from"),
            hint: "name the tool with --of".to_owned(),
        })?;
        let imported = import(&text, &origin, tool).map_err(|error| Error::Spec {
            origin,
            message: error.to_string(),
            remedies: Vec::new(),
        })?;
        for lost in &imported.lost {
            self.screen.note(&format!("not expressed: {lost}"));
        }
        let view = ImportedView { api: API, text: &imported.text, lost: &imported.lost };
        self.show(&view, || imported.text.clone())
    }

    fn warnings(&self, view: &RulesView) {
        for warning in &view.warnings {
            self.screen.notes(warning);
        }
    }

    fn explain(&self, explain: &Explain) -> Result {
        let (explained, domain) = match (&explain.device, explain.is_described()) {
            (None, false) => {
                let text = "name a device, or describe one with --id, --port, --has or --text";
                return Err(Failure::Usage(text.to_owned()));
            }
            (Some(device), false) => {
                let selector = match (node(device), mapping(device)) {
                    (Some(node), _) => self.context.device_of_node(&node)?,
                    (_, Some(name)) => self.context.device_of_name(&name)?,
                    (None, None) => device
                        .parse()
                        .map_err(|error: SelectorError| Failure::Usage(error.to_string()))?,
                };
                (Explained::Device(selector), explain.domain.as_deref())
            }
            (_, true) if explain.domain.is_some() => {
                let text = "the device is described by options, so the only argument is the domain";
                return Err(Failure::Usage(text.to_owned()));
            }
            (domain, true) => {
                (Explained::Imagined(Box::new(described_device(explain)?)), domain.as_deref())
            }
        };
        let view = self.explain_device(&explained, domain)?;
        self.show(&view, || tables::explained(&view))
    }

    fn watch(&self, since: Option<u64>, global: &GlobalOptions) -> Result {
        let manager = required_daemon(global).map_err(|mut failure| {
            if let Failure::Daemon { error, .. } = &mut failure {
                let hint =
                    "`vusb watch` on a terminal, or with --tree, shows all guests without it";
                error.hints.push(hint.to_owned());
            }
            failure
        })?;
        manager.watch(since, |event| self.show(event, || tables::event(event)))
    }

    fn answer(
        &self,
        question: u64,
        domain: &str,
        remember: bool,
        global: &GlobalOptions,
    ) -> Result {
        if self.options.dry_run {
            let text = "vusbd carries out an answer at once, so --dry-run is not possible";
            return Err(Failure::Usage(text.to_owned()));
        }
        let at = required_daemon(global)?.answer(question, domain, remember)?;
        let at = at.unwrap_or_default();
        self.show(&AnsweredView { api: API, at: at.clone() }, || at)
    }

    fn models(&self, domain: Option<&str>) -> Result {
        let Some(domain) = domain else {
            let view = self.context.models(&self.options);
            return self.show(&view, || tables::models(&view));
        };
        let view = self.context.models_of(&self.domain(domain)?, &self.options)?;
        self.show(&view, || tables::models_of(&view))
    }

    fn digest(&self, target: &str, pci: bool) -> Result {
        let digest = self.context.digest(&self.domain(target)?, pci, &self.options)?;
        let digest = digest.to_string();
        self.show(&DigestView { api: API, digest: digest.clone(), pci }, || digest)
    }

    fn format(&self, name: &str) -> Result<Format> {
        let formats = self.context.registry().formats();
        formats.named(name).ok_or_else(|| Failure::Usage(format!("no format {name}")))
    }

    fn convert(&self, file: &str, target: &ConversionTarget, lossy: bool) -> Result {
        let config = self.config(file)?;
        let converted = self.context.convert(&config, target, &self.options)?;
        if !lossy && !converted.lost.is_empty() {
            return Ok(self.screen.unescaped(&converted.lossless()?)?);
        }
        self.notes(&converted.notes);
        for change in &converted.changes {
            self.screen.note(&format!("change: {change}"));
        }
        for lost in &converted.lost {
            self.screen.note(&format!("lost: {lost}"));
        }
        if self.screen.json {
            return Ok(self.screen.json(&converted)?);
        }
        // Not escaped, because that would change the configuration.
        Ok(self.screen.unescaped(&converted.text)?)
    }

    /// The configuration in a file, or that of a domain.
    fn config(&self, target: &str) -> Result<GuestConfig> {
        // The socket of a monitor is an address. It may be written without its scheme.
        let found = std::fs::metadata(target);
        if found.is_ok_and(|it| !it.file_type().is_socket()) {
            let address = self.context.registry().parse(target, Path::new("."));
            let is_domain = matches!(address, Ok(Some(it)) if it.scheme.has_records());
            if !is_domain {
                return Ok(self.context.read_config(Path::new(target))?);
            }
        }
        Ok(self.context.config_of(&self.domain(target)?, &self.options)?)
    }

    fn qemu_args(&self, target: &str, start: StartOptions, force: bool) -> Result {
        let config = self.config(target)?;
        let options = self.forced(force);
        let started = self.context.start_arguments(None, &config, &start, &options)?;
        let StartArguments { arguments, notes } = started;
        if self.screen.json {
            return Ok(self.screen.json(&ArgumentsView { api: API, arguments, notes })?);
        }
        self.notes(&notes);
        if arguments.iter().any(|argument| argument.contains(char::is_control)) {
            return Err(Failure::ControlCharacter);
        }
        // Not escaped, because that would change the arguments.
        Ok(self.screen.unescaped(&shell::quoted(&arguments))?)
    }

    fn completions(&self, shell: Shell) -> Result {
        let script = match shell {
            Shell::Bash => include_str!("../completions/vusb.bash").to_owned(),
            Shell::Zsh => include_str!("../completions/vusb.zsh").to_owned(),
            Shell::Fish => include_str!("../completions/vusb.fish").to_owned(),
            // Without the names of domains and devices.
            _ => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Arguments::command(), "vusb", &mut script);
                String::from_utf8_lossy(&script).into_owned()
            }
        };
        if self.screen.json {
            let view = ScriptView { api: API, shell: shell.to_string(), script };
            return Ok(self.screen.json(&view)?);
        }
        Ok(self.screen.unescaped(&script)?)
    }

    fn man(&self, dir: &Path) -> Result {
        man::write_pages(dir)?;
        self.show(&FolderView { api: API, folder: dir }, String::new)
    }
}

/// Whether options or the environment select records, claims, rules or a machine.
fn selects_state(global: &GlobalOptions) -> bool {
    global.state_dir.is_some()
        || global.host_root.is_some()
        || global.claims_dir.is_some()
        || !global.rules.is_empty()
        || has_state_dir()
}

/// The daemon, for a command that only the daemon can perform.
pub(crate) fn required_daemon(global: &GlobalOptions) -> Result<Manager> {
    if global.direct {
        let text = "only vusbd can do this, so --direct is not possible";
        return Err(Failure::Usage(text.to_owned()));
    }
    Manager::connect(global.daemon.as_deref().unwrap_or(Path::new(interface::SOCKET)))
}

/// The device that the options describe.
fn described_device(explain: &Explain) -> Result<DeviceFacts> {
    let wrong = |option: &str, value: &str| {
        Failure::Usage(format!("`{value}` is not a value of --{option}"))
    };
    let mut facts = DeviceFacts { text: explain.text.clone(), ..DeviceFacts::default() };
    facts.removable = explain.removable;
    if let Some(text) = &explain.id {
        let Ok(Selector::Id { id, serial }) = text.parse() else { return Err(wrong("id", text)) };
        (facts.id, facts.serial) = (Some(id), serial);
    }
    if let Some(text) = &explain.port {
        match text.parse() {
            Ok(Selector::Port(port)) => facts.port = Some(port),
            Ok(Selector::Path(path)) => facts.path = Some(path),
            _ => return Err(wrong("port", text)),
        }
    }
    // A word that stands for several kinds means the first of them.
    let kinds = explain.has.iter().filter_map(|it| it.patterns().first().copied());
    let kinds: Vec<_> = kinds.collect();
    facts.interfaces = (!kinds.is_empty()).then_some(kinds);
    Ok(facts)
}
