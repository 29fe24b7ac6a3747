//! A case: a guest's spec and the expected result.
//!
//! ```text
//! # What it shows, and the libvirt test that it is taken from, if any.
//! guest x86_64 pc                 architecture and machine; also: graphics, xen-hvm, xen-pv
//! lacks piix3-uhci                models that its QEMU does not have
//! running                         the guest is running
//! no usb                          libvirt's model `none`
//! base NAME                       on top of the result of that case
//! controller model=nec-xhci ports=8 index=1 first-port=2 pci=pci.0/04.7 name=x usbversion=3
//! device mouse on=0 port=1.2 name=x
//! = 1 usb1 nec-xhci 8             a controller: index, name, model, ports, companions, PCI address
//! = 1:1 input0 mouse              a device
//! = already usb1 1:1              items that the base has
//! = added usb1 1:1                items that were not requested
//! = refused not found device 0    or the category of the refusal, and the part of the spec that causes it
//! = says No free USB ports        with libvirt's message
//! ```
//!
//! Mice, keyboards and tablets have `usbversion` 2, QEMU's default.

use std::fs;
use std::path::{Path, PathBuf};

use vusb_model::capabilities::{Capabilities, Support};
use vusb_model::device::{Input, Kind, Other};
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, PciAddress};
use vusb_model::models::UsbVersion;
use vusb_model::profile::Profile;
use vusb_model::refusal::Category;
use vusb_model::resolve::{Refused, RequestedItem, Resolved, resolve};
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libvirt/cases")
}

/// A case. Its name is that of its file.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) spec: Spec,
    pub(crate) capabilities: Capabilities,
    pub(crate) expected: Vec<String>,
    base: Option<String>,
}

impl Case {
    pub(crate) fn all() -> Vec<Case> {
        let names = fs::read_dir(folder()).unwrap().filter_map(|entry| {
            let file = entry.unwrap().file_name().into_string().unwrap();
            file.strip_suffix(".case").map(str::to_owned)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.iter().map(|name| Case::named(name)).collect()
    }

    pub(crate) fn named(name: &str) -> Case {
        let file = folder().join(format!("{name}.case"));
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Case::read(name, &text)
    }

    pub(crate) fn read(name: &str, text: &str) -> Case {
        let mut case = Case {
            name: name.to_owned(),
            spec: Spec { profile: Profile::Libvirt, ..Spec::default() },
            capabilities: Capabilities::everything(),
            expected: Vec::new(),
            base: None,
        };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            case.take(word, rest);
        }
        case
    }

    fn take(&mut self, word: &str, rest: &str) {
        match word {
            "guest" => self.capabilities.guest = guest(rest),
            "lacks" => {
                for model in rest.split(' ') {
                    let why = "it was not built in".to_owned();
                    self.capabilities
                        .models
                        .insert(model.parse().unwrap(), Support::Unsupported { why });
                }
            }
            "running" => self.capabilities.running = true,
            "no" => self.spec.disabled = true,
            "base" => self.base = Some(rest.to_owned()),
            "controller" => self.spec.controllers.push(controller(rest)),
            "device" => self.spec.devices.push(device(rest)),
            "=" => self.expected.push(rest.to_owned()),
            other => panic!("{}: unknown word `{other}`", self.name),
        }
    }

    pub(crate) fn resolve(&self) -> Result<Resolved, Refused> {
        let base = self.base.as_ref().map(|name| Case::named(name).resolve().unwrap().hardware);
        resolve(&base.unwrap_or_default(), &self.spec, &self.capabilities)
    }
}

fn guest(text: &str) -> Guest {
    let mut words = text.split(' ');
    let (arch, machine) = (words.next().unwrap(), words.next().unwrap());
    let mut guest = Guest {
        arch: Some(arch.to_owned()),
        machine: Some(machine.to_owned()),
        ..Guest::default()
    };
    for word in words {
        match word {
            "graphics" => guest.graphics = true,
            "xen-hvm" => guest.hypervisor = Hypervisor::Xen,
            "xen-pv" => {
                guest.hypervisor = Hypervisor::Xen;
                guest.virtualization = Virtualization::Pv;
            }
            other => panic!("unknown word `{other}`"),
        }
    }
    guest
}

/// `key=value` pairs.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(' ').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').expect(pair))
}

fn controller(text: &str) -> ControllerSpec {
    let mut spec = ControllerSpec::default();
    for (key, value) in pairs(text) {
        match key {
            "index" => spec.index = Some(value.parse().unwrap()),
            "name" => spec.name = Some(value.parse().unwrap()),
            "model" => spec.model = Some(value.parse().unwrap()),
            "usbversion" => spec.usbversion = Some(value.parse().unwrap()),
            "ports" => spec.ports = Some(value.parse().unwrap()),
            "first-port" => spec.first_port = Some(value.parse().unwrap()),
            "pci" => spec.pci = Some(pci(value)),
            other => panic!("unknown word `{other}`"),
        }
    }
    spec
}

fn pci(text: &str) -> PciAddress {
    let (bus, rest) = text.split_once('/').unwrap();
    let (slot, function) = rest.split_once('.').unwrap();
    PciAddress {
        bus: bus.to_owned(),
        slot: u8::from_str_radix(slot, 16).unwrap(),
        function: function.parse().unwrap(),
    }
}

fn device(text: &str) -> DeviceSpec {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut spec = DeviceSpec::new(kind(word));
    for (key, value) in pairs(rest) {
        match key {
            "on" => spec.controller = Some(value.parse().unwrap()),
            "port" => spec.port = Some(value.parse().unwrap()),
            "name" => spec.name = Some(value.parse().unwrap()),
            other => panic!("unknown word `{other}`"),
        }
    }
    spec
}

pub(crate) fn kind(text: &str) -> Kind {
    let input = Input { usbversion: UsbVersion::V2 };
    match text {
        "mouse" => Kind::Mouse(input),
        "keyboard" => Kind::Keyboard(input),
        "tablet" => Kind::Tablet(input),
        _ => match text.strip_prefix("other:") {
            Some(driver) => Kind::Other(Other { driver: driver.to_owned() }),
            None => text.parse().unwrap(),
        },
    }
}

/// The result, in the lines of a case.
pub(crate) fn lines(outcome: &Result<Resolved, Refused>) -> Vec<String> {
    match outcome {
        Ok(resolved) => resolved_lines(resolved),
        Err(refused) => refused_lines(refused),
    }
}

fn resolved_lines(resolved: &Resolved) -> Vec<String> {
    let hardware = &resolved.hardware;
    let mut lines = Vec::new();
    for controller in hardware.controllers() {
        lines.push(controller_line(controller));
        let index = controller.index;
        lines.extend(controller.devices().map(|(port, device)| {
            let kind = device.kind.to_string();
            let kind = kind.trim_end_matches(":usbversion=2");
            format!("{index}:{port} {} {kind}", device.name)
        }));
    }
    let name = |index| hardware.controller(index).map_or("-".to_owned(), |it| it.name.to_string());
    let controllers =
        resolved.controllers.iter().filter(|it| it.existing).map(|it| name(it.address));
    let devices = resolved.devices.iter().filter(|it| it.existing).map(|it| it.address.to_string());
    lines.extend(list("already", controllers.chain(devices)));
    let controllers = resolved.added.iter().map(|index| name(*index));
    let devices = resolved.added_devices.iter().map(ToString::to_string);
    lines.extend(list("added", controllers.chain(devices)));
    lines
}

fn list(word: &str, items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<String> = items.collect();
    (!items.is_empty()).then(|| format!("{word} {}", items.join(" ")))
}

fn controller_line(controller: &Controller) -> String {
    let ports = controller.ports.count();
    let mut line = format!("{} {} {} {ports}", controller.index, controller.name, controller.model);
    for companion in &controller.companions {
        let model = companion.model.model().name().trim_start_matches("ich9-");
        line += &format!(" {model}@{}", companion.first_port);
    }
    if let Some(pci) = &controller.pci {
        line += &format!(" pci {pci}");
    }
    line
}

fn refused_lines(refused: &Refused) -> Vec<String> {
    let category = match refused.category() {
        Category::Usage => "usage",
        Category::NotFound => "not found",
        Category::Busy => "busy",
        Category::NoRoom => "no room",
        Category::NotImplemented => "not implemented",
    };
    let part = match refused.item {
        Some(RequestedItem::Controller(number)) => format!(" controller {number}"),
        Some(RequestedItem::Device(number)) => format!(" device {number}"),
        None => String::new(),
    };
    let message = refused.note.as_deref().and_then(|note| note.strip_prefix("libvirt says: "));
    let says = message.map(|message| format!("says {message}"));
    std::iter::once(format!("refused {category}{part}")).chain(says).collect()
}
