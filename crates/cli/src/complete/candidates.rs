//! The values that an argument can have on this machine now.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vusb::formats::Formats;
use vusb::model::address::PortPath;
use vusb::model::hardware::{Controller, Hardware};
use vusb::{Context, Options, RecordedDomain};

use super::candidate::Candidate;
use super::line::Line;
use crate::arguments::GlobalOptions;
use crate::context::context;

/// How long to wait for a program that lists running guests, xenstored for example. The whole
/// answer has to come before the user notices.
const WAIT: Duration = Duration::from_millis(20);

/// The devices that a hypervisor emulates, as `vusb device add` takes them.
const EMULATED: [(&str, &str); 11] = [
    ("storage:", "a stick with the content of a file"),
    ("tablet", "absolute pointer"),
    ("mouse", "relative pointer"),
    ("keyboard", "keyboard"),
    ("hub", "8 ports"),
    ("serial:", "serial adapter"),
    ("audio", "sound card"),
    ("net", "network card"),
    ("mtp:", "a folder, as a media player"),
    ("ccid", "smart card reader"),
    ("redir:", "a device that arrives over the network"),
];

/// Where candidates come from.
pub(super) struct Sources {
    context: Context,
}

impl Sources {
    /// The records and the machine that the line selects, otherwise those of `global`.
    pub(super) fn new(line: &Line<'_>, global: &GlobalOptions) -> Sources {
        let path = |id: &str| line.value(id).map(PathBuf::from);
        let state_dir = path("state_dir").or_else(|| global.state_dir.clone());
        let host_root = path("host_root").or_else(|| global.host_root.clone());
        Sources { context: context(state_dir, host_root.as_deref(), global.from.as_deref()) }
    }

    /// The values of an argument of a command, by its ID. The caller removes those that do not
    /// begin with `start`.
    pub(super) fn values(&self, line: &Line<'_>, id: &str, start: &str) -> Vec<Candidate> {
        match (line.path(), id) {
            (["qemu-args"], "spec") | (_, "domain" | "target" | "file") => {
                let mut all = self.domains();
                all.extend(configurations(start));
                all
            }
            (_, "spec") => configurations(start),
            (_, "controller") => self.hardware(line).map(|it| controllers(&it)).unwrap_or_default(),
            (["device", "remove" | "move"], "device" | "devices") => {
                self.hardware(line).map(|it| devices(&it)).unwrap_or_default()
            }
            (["device", "add"], "devices") => match start.strip_prefix("storage:") {
                Some(file) => with_prefix("storage:", paths(file, |_| true)),
                None => self.new_devices(),
            },
            (["device", "add" | "move"], "port") => self.free_ports(line),
            (_, "state_dir" | "dir") => paths(start, |_| false),
            _ => Vec::new(),
        }
    }

    fn recorded(&self) -> Vec<RecordedDomain> {
        self.context.recorded().unwrap_or_default()
    }

    /// The recorded domains, and guests that run without a record.
    fn domains(&self) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = Vec::new();
        for domain in self.recorded() {
            let description = if domain.domain == domain.address { "" } else { &domain.address };
            all.push(Candidate::new(&domain.domain, description));
        }
        let options = Options { wait: WAIT, ..Options::default() };
        for guest in self.context.unrecorded(&options).unwrap_or_default() {
            if let Some(address) = guest.address {
                let name = guest.name.map(|name| format!("{name}, ")).unwrap_or_default();
                all.push(Candidate::new(address, format!("{name}running")));
            }
        }
        all
    }

    /// The recorded hardware of the line's domain, which is given by its name or its address.
    fn hardware(&self, line: &Line<'_>) -> Option<Hardware> {
        let text = line.value("domain")?;
        let is_named = |it: &RecordedDomain| it.domain == text || it.address == text;
        let mut recorded = self.recorded();
        if let Some(found) = recorded.iter().position(is_named) {
            return Some(recorded.swap_remove(found).hardware);
        }
        // A relative path, or another form of the address.
        let folder = std::env::current_dir().ok()?;
        let parsed = self.context.registry().parse(text, &folder).ok()??;
        let address = parsed.scheme.address(&parsed.operand);
        recorded.into_iter().find(|it| it.address == address).map(|it| it.hardware)
    }

    /// The devices that can be added: those of this machine, and emulated ones.
    fn new_devices(&self) -> Vec<Candidate> {
        let host = self.context.host().descriptions().unwrap_or_default().into_iter();
        let host = host.map(|(bus_id, what)| Candidate::new(bus_id.to_string(), what));
        let emulated = EMULATED.iter().map(|(kind, what)| Candidate::new(*kind, *what));
        host.chain(emulated).collect()
    }

    /// The free ports of the controller in the line.
    fn free_ports(&self, line: &Line<'_>) -> Vec<Candidate> {
        let Some(hardware) = self.hardware(line) else { return Vec::new() };
        let named = line.value("controller");
        let is_chosen = |it: &&Controller| match named {
            Some(named) => it.name.as_str() == named || it.index.to_string() == named,
            None => hardware.controllers().len() == 1,
        };
        let Some(controller) = hardware.controllers().find(is_chosen) else { return Vec::new() };
        let ports = 1..=controller.ports.count();
        let ports = ports.filter_map(|port| port.to_string().parse::<PortPath>().ok());
        let free = ports.filter(|port| controller.device(*port).is_none());
        free.map(|port| {
            Candidate::new(port.to_string(), format!("free port of {}", controller.name))
        })
        .collect()
    }
}

fn controllers(hardware: &Hardware) -> Vec<Candidate> {
    let all = hardware.controllers();
    all.map(|it| Candidate::new(it.name.as_str(), it.describe())).collect()
}

fn devices(hardware: &Hardware) -> Vec<Candidate> {
    let all = hardware.devices();
    let described = all.map(|(at, device)| {
        let description = format!("{} at {}", device.kind, hardware.location(at));
        Candidate::new(device.name.as_str(), description)
    });
    described.collect()
}

/// The folders and configuration files whose paths begin with `start`.
fn configurations(start: &str) -> Vec<Candidate> {
    let formats = Formats::builtin();
    paths(start, |path| formats.for_path(path).is_some())
}

/// The folders whose paths begin with `start`, and the files among them that are `wanted`.
fn paths(start: &str, wanted: impl Fn(&Path) -> bool) -> Vec<Candidate> {
    let folder = start.rfind('/').and_then(|slash| start.get(..=slash)).unwrap_or_default();
    let entries = fs::read_dir(if folder.is_empty() { "." } else { folder });
    let mut all = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let value = format!("{folder}{name}");
        // Hidden files only if they are asked for.
        if !value.starts_with(start) || (name.starts_with('.') && start == folder) {
            continue;
        }
        if entry.path().is_dir() {
            all.push(Candidate::new(format!("{value}/"), "folder"));
        } else if wanted(&entry.path()) {
            all.push(Candidate::new(value, "file"));
        }
    }
    all.sort_by(|a, b| a.value.cmp(&b.value));
    all
}

fn with_prefix(prefix: &str, mut all: Vec<Candidate>) -> Vec<Candidate> {
    all.iter_mut().for_each(|it| it.value.insert_str(0, prefix));
    all
}
