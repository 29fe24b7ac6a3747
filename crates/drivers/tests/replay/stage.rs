//! Runs a scenario with the real driver, on a QEMU that is real or a transcript. What the driver
//! observes, decides and returns is written to a report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use vusb_drivers::qemu::Qemu;
use vusb_drivers::{Driver, Error, Observed};
use vusb_model::address::Address;
use vusb_model::capabilities::{Capabilities, Support};
use vusb_model::device::Kind;
use vusb_model::diff::{Step, diff};
use vusb_model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb_model::models::RootPorts;
use vusb_model::refusal::Refusal;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};
use vusb_rig::BareQemu;

/// Long enough for any machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The name of the scenario's folder in transcripts.
pub(crate) const FOLDER: &str = "/vusb-test";

/// A scenario in progress.
pub(crate) struct Stage<'a> {
    socket: &'a Path,
    /// The QEMU, if it is a real one.
    real: Option<&'a BareQemu>,
    folder: String,
    driver: Qemu,
    pub(crate) report: String,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(socket: &'a Path, real: Option<&'a BareQemu>, folder: String) -> Stage<'a> {
        Stage { socket, real, folder, driver: Qemu::at(socket, LIMIT), report: String::new() }
    }

    fn write_line(&mut self, text: impl std::fmt::Display) {
        writeln!(self.report, "{text}").unwrap();
    }

    /// A file in the scenario's folder.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Continues with a new driver, whose waits have this limit.
    pub(crate) fn reconnect(&mut self, limit: Duration) {
        self.write_line(format_args!("\n## a new driver, limit {limit:?}"));
        self.driver = Qemu::at(self.socket, limit);
    }

    /// Sends a command to the QEMU, as another tool would.
    pub(crate) fn other_tool(&mut self, command: &str, arguments: Value) {
        self.write_line(format_args!("\n## another tool: {command} {arguments}"));
        if let Some(qemu) = self.real {
            qemu.qmp(command, arguments).unwrap();
        }
    }

    /// Does something to the QEMU if it is a real one.
    pub(crate) fn with_real(&mut self, what: &str, act: impl FnOnce(&BareQemu)) {
        self.write_line(format_args!("\n## {what}"));
        if let Some(qemu) = self.real {
            act(qemu);
        }
    }

    /// What is observed without a record.
    pub(crate) fn observe(&mut self) -> Observed {
        self.observe_with(&Hardware::new())
    }

    pub(crate) fn observe_with(&mut self, recorded: &Hardware) -> Observed {
        let known = if recorded.controllers().len() == 0 { "" } else { ", recorded" };
        self.write_line(format_args!("\n## observe{known}"));
        for line in lines(recorded).into_iter().filter(|_| !known.is_empty()) {
            self.write_line(format_args!("recorded: {line}"));
        }
        let observed = self.driver.observe(recorded).unwrap();
        let text = describe(&observed);
        self.report.push_str(&text);
        observed
    }

    /// An observation that fails.
    pub(crate) fn fail_to_observe(&mut self) -> Error {
        self.write_line("\n## observe");
        let error = self.driver.observe(&Hardware::new()).unwrap_err();
        self.error(&error);
        error
    }

    pub(crate) fn capabilities(&mut self, needed: Option<&Spec>) -> Capabilities {
        self.write_line("\n## capabilities");
        let capabilities = self.driver.capabilities(needed).unwrap();
        let text = describe_capabilities(&capabilities);
        self.report.push_str(&text);
        capabilities
    }

    pub(crate) fn check(&mut self, steps: &[Step]) -> Result<(), Error> {
        self.write_line("\n## check");
        for step in steps {
            self.write_line(describe_step(step));
        }
        let checked = self.driver.check(steps);
        self.outcome(&checked);
        checked
    }

    pub(crate) fn perform(&mut self, step: &Step) -> Result<(), Error> {
        self.write_line(format_args!("\n## {}", describe_step(step)));
        let done = self.driver.perform(step);
        self.outcome(&done);
        done
    }

    /// Checks all steps and takes them.
    pub(crate) fn take(&mut self, steps: &[Step]) {
        self.check(steps).unwrap();
        for step in steps {
            self.perform(step).unwrap_or_else(|error| panic!("{step}: {error}"));
        }
    }

    /// Resolves a spec on the existing hardware, and takes all steps.
    pub(crate) fn apply(&mut self, spec: &Spec) -> Result<Hardware, Refusal> {
        let base = self.observe().hardware;
        let capabilities = self.capabilities(None);
        let wanted = match resolve(&base, spec, &capabilities) {
            Ok(resolved) => resolved.hardware,
            Err(refusal) => {
                self.write_line(format_args!(
                    "refused: {:?}",
                    Refusal::from(refusal.clone()).category()
                ));
                return Err(refusal.into());
            }
        };
        self.take(&diff(&base, &wanted));
        Ok(wanted)
    }

    fn outcome(&mut self, outcome: &Result<(), Error>) {
        match outcome {
            Ok(()) => self.write_line("done"),
            Err(error) => self.error(error),
        }
    }

    /// The parts of an error, independent of its `Display` text.
    fn error(&mut self, error: &Error) {
        let text = match error {
            Error::Unreachable { why, midway, .. } => {
                format!("unreachable{}: {why}", if *midway { ", midway" } else { "" })
            }
            Error::TimedOut { what, why, .. } => format!("timed out: {what}: {why}"),
            Error::NotImplemented { what, by, why } => {
                format!("not implemented by {by}: {what}: {why}")
            }
            Error::Missing { what, why } => format!("missing: {what}: {why}"),
            Error::Failed { what, why } => format!("failed: {what}: {why}"),
            other => other.to_string(),
        };
        let (socket, folder) = (self.socket.display().to_string(), self.folder.clone());
        self.write_line(text.replace(&socket, "SOCKET").replace(&folder, FOLDER));
        for remedy in error.remedies() {
            self.write_line(format_args!("remedy: {}", serde_json::to_string(remedy).unwrap()));
        }
    }

    /// The report, with the scenario's folder under its stable name.
    pub(crate) fn report(&self) -> String {
        let own = self.report.replace(&self.folder, FOLDER);
        own.trim_start().to_owned()
    }
}

/// The hardware of a domain, one line for each controller and device: `0 hci0 qemu-xhci 8/4`, `0:1
/// tablet0 tablet`.
pub(crate) fn lines(hardware: &Hardware) -> Vec<String> {
    let mut lines = Vec::new();
    for controller in hardware.controllers() {
        let companions = if controller.companions.is_empty() { "" } else { " group" };
        let Controller { index, name, model, ports, .. } = controller;
        lines.push(format!("{index} {name} {model} {}/{}{companions}", ports.usb2(), ports.usb3()));
        for (port, device) in controller.devices() {
            lines.push(format!("{index}:{port} {} {}", device.name, device.kind));
        }
    }
    lines
}

/// Fails unless the hardware is exactly this.
pub(crate) fn expect(hardware: &Hardware, expected: &[&str]) {
    assert_eq!(lines(hardware), expected);
}

/// The PCI address of each controller.
pub(crate) fn pci(hardware: &Hardware) -> Vec<String> {
    let line = |controller: &Controller| {
        let pci = controller.pci.as_ref();
        format!("{} {}", controller.name, pci.map_or("nowhere".to_owned(), PciAddress::to_string))
    };
    hardware.controllers().map(line).collect()
}

/// The states of devices: `2:1 absent`.
pub(crate) fn states(observed: &Observed) -> Vec<String> {
    observed.states.iter().map(|(at, state)| format!("{at} {state}")).collect()
}

/// A step, independent of its `Display` text.
fn describe_step(step: &Step) -> String {
    match step {
        Step::AddController(controller) => format!("add controller {}", controller.name),
        Step::RemoveController(controller) => format!("remove controller {}", controller.name),
        Step::Plug(at, device) => format!("plug {} into {at}", device.name),
        Step::Unplug(at, device) => format!("unplug {} from {at}", device.name),
    }
}

fn describe(observed: &Observed) -> String {
    let mut out = String::new();
    for controller in observed.hardware.controllers() {
        let companions: Vec<String> = controller
            .companions
            .iter()
            .map(|companion| format!(" {}@{}", companion.model.model(), companion.first_port))
            .collect();
        let pci = controller.pci.as_ref().map_or("nowhere".to_owned(), PciAddress::to_string);
        let Controller { index, name, model, ports, .. } = controller;
        let (usb2, usb3) = (ports.usb2(), ports.usb3());
        writeln!(out, "{index} {name} {model} {usb2}/{usb3} at {pci}{}", companions.concat())
            .unwrap();
        for (port, device) in controller.devices() {
            writeln!(out, "{index}:{port} {} {}", device.name, device.kind).unwrap();
        }
    }
    for (at, state) in &observed.states {
        writeln!(out, "{at} is {state}").unwrap();
    }
    for (at, given) in &observed.given {
        writeln!(out, "{at} was given as {given}").unwrap();
    }
    for name in &observed.ours {
        writeln!(out, "ours: {name}").unwrap();
    }
    for foreign in &observed.foreign {
        writeln!(out, "not modelled: {} \"{}\"", foreign.driver, foreign.id).unwrap();
        for (port, driver) in &foreign.devices {
            writeln!(out, "  {port} {driver}").unwrap();
        }
    }
    if out.is_empty() { "nothing\n".to_owned() } else { out }
}

fn describe_capabilities(capabilities: &Capabilities) -> String {
    let support = |support: &Support| match support {
        Support::Hot => "hot".to_owned(),
        Support::Cold { why } => format!("cold: {why}"),
        Support::EmulatedOnly { why } => format!("on emulated controllers: {why}"),
        Support::Unsupported { why } => format!("no: {why}"),
    };
    let mut out = format!("{}\n", capabilities.hypervisor);
    for (model, can) in &capabilities.models {
        writeln!(out, "{model} {}", support(can)).unwrap();
    }
    let kinds: BTreeMap<&str, String> =
        capabilities.kinds.iter().map(|(kind, can)| (*kind, support(can))).collect();
    for (kind, can) in kinds {
        writeln!(out, "{kind} {can}").unwrap();
    }
    if let Some(slots) = &capabilities.slots {
        writeln!(out, "free slots: {}\n{}", slots.free, slots.reason).unwrap();
    }
    out
}

/// A spec of controllers and devices, with everything else left open.
pub(crate) fn spec(controllers: &[&str], devices: &[&str]) -> Spec {
    let controller = |model: &&str| ControllerSpec {
        model: Some(model.parse().unwrap()),
        ..ControllerSpec::default()
    };
    Spec {
        controllers: controllers.iter().map(controller).collect(),
        devices: devices.iter().map(|device| DeviceSpec::new(device.parse().unwrap())).collect(),
        ..Spec::default()
    }
}

/// Recorded hardware from lines in the form of [`lines`]. A controller's PCI address may follow as
/// `@pci.0/4`.
pub(crate) fn hardware(lines: &[&str]) -> Hardware {
    let mut hardware = Hardware::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0].contains(':') {
            let kind: Kind = words[2..].join(" ").parse().unwrap();
            hardware
                .plug(address(words[0]), Device { name: words[1].parse().unwrap(), kind })
                .unwrap();
            continue;
        }
        let model = words[2].parse().unwrap();
        let (usb2, usb3) = words[3].split_once('/').unwrap();
        let ports = match usb3 {
            "0" => RootPorts::uniform(model, usb2.parse().unwrap()),
            usb3 => RootPorts::xhci(usb2.parse().unwrap(), usb3.parse().unwrap()).unwrap(),
        };
        let index = words[0].parse().unwrap();
        let mut controller = Controller::new(index, words[1].parse().unwrap(), model, ports);
        controller.pci = words.get(4).map(|at| {
            let (bus, slot) = at.strip_prefix('@').unwrap().split_once('/').unwrap();
            PciAddress { bus: bus.to_owned(), slot: slot.parse().unwrap(), function: 0 }
        });
        hardware.add_controller(controller).unwrap();
    }
    hardware
}

/// `0:1.2`.
pub(crate) fn address(text: &str) -> Address {
    let (bus, port) = text.split_once(':').unwrap();
    Address { bus: bus.parse().unwrap(), port: port.parse().unwrap() }
}

/// The same controllers without devices.
pub(crate) fn without_devices(hardware: &Hardware) -> Hardware {
    let mut bare = Hardware::new();
    for controller in hardware.controllers() {
        bare.add_controller(controller.without_devices()).unwrap();
    }
    bare
}
