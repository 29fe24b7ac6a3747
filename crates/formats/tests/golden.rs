//! The rules of the profiles, held by examples: each file in `golden/` is a spec, with what it must come to.
//!
//! | file | what it holds |
//! |---|---|
//! | `NAME.toml` | the spec. Its head says which rule it shows (`#`), under what circumstances (`#!`), and in short what must come out (`#=`), written by hand |
//! | `NAME.json` | the whole of what comes out: digest and hardware |
//! | `NAME.refused` | or the category of the refusal, and its sentence |
//! | `FROZEN` | a SHA-256 of each of them |
//!
//! A profile never changes, and so these files never do: a new one may be added, none may be altered. A refusal's
//! sentence is the exception: its wording is no part of the profile, so of a `.refused` file the first line is frozen.
//!
//! Circumstances: `#! caps: NAME` (see [`capabilities`]; `everything` if not said), `#! base: NAME` (what the guest has
//! already is what that other file came to), `#! host: SELECTOR SPEEDS` (a host device that is plugged in).
//!
//! With `VUSB_GOLDEN_NEW=1` in the environment the output of a new spec is written; then compare it with the rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use vusb_formats::spec::read;
use vusb_model::address::{Address, Index};
use vusb_model::capabilities::{Capabilities, KINDS, Slots, Support};
use vusb_model::device::Kind;
use vusb_model::digest::digest;
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::models::{ControllerType, Model};
use vusb_model::refusal::{Category, Refusal};
use vusb_model::resolve::{Resolved, Settled, resolve};
use vusb_model::spec::Spec;
use vusb_model::speed::{Speed, SpeedSet};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn path(name: &str, extension: &str) -> PathBuf {
    folder().join(format!("{name}.{extension}"))
}

/// A golden spec, by its file's name.
struct Golden {
    name: String,
    text: String,
}

impl Golden {
    fn all() -> Vec<Golden> {
        let names = fs::read_dir(folder()).unwrap().filter_map(|entry| {
            let file = entry.unwrap().file_name().into_string().unwrap();
            file.strip_suffix(".toml").map(str::to_owned)
        });
        let names: BTreeSet<String> = names.collect();
        names.iter().map(|name| Golden::named(name)).collect()
    }

    fn named(name: &str) -> Golden {
        let file = path(name, "toml");
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Golden { name: name.to_owned(), text }
    }

    /// What its head says after `#!`, by key.
    fn said<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let line = self.text.lines().filter_map(|line| line.strip_prefix("#! "));
        line.filter_map(move |line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    /// What must come out, in short.
    fn expected(&self) -> String {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("#= "));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn spec(&self) -> Spec {
        let file = read(&self.text, &self.name).unwrap_or_else(|error| panic!("{error}"));
        let mut spec = file.spec;
        for plugged in self.said("host") {
            let (selector, speeds) = plugged.split_once(' ').unwrap();
            let speeds: Vec<Speed> = speeds.split(' ').map(speed).collect();
            for device in &mut spec.devices {
                if let Kind::Host(host) = &mut device.kind
                    && host.selector.to_string() == selector
                {
                    host.speeds = Some(SpeedSet::of(&speeds));
                }
            }
        }
        spec
    }

    fn resolve(&self) -> Result<Resolved, Refusal> {
        let base = self.said("base").next().map(|name| Golden::named(name).resolve().unwrap());
        let base = base.map(|resolved| resolved.hardware).unwrap_or_default();
        let capabilities = capabilities(self.said("caps").next().unwrap_or("everything"));
        Ok(resolve(&base, &self.spec(), &capabilities)?)
    }
}

fn speed(word: &str) -> Speed {
    Speed::ALL.into_iter().find(|speed| speed.to_string() == word).expect(word)
}

/// The circumstances that a spec is resolved under.
fn capabilities(name: &str) -> Capabilities {
    match name {
        "everything" => Capabilities::everything(),
        "pv" => Capabilities { default_type: ControllerType::Pv, ..Capabilities::everything() },
        "xen-pv" => {
            let virtualization = vusb_model::guest::Virtualization::Pv;
            let guest = vusb_model::guest::Guest { virtualization, ..Default::default() };
            Capabilities { guest, ..Capabilities::everything() }
        }
        "qemu-running" => qemu(true),
        "qemu-stopped" => qemu(false),
        "qemu-one-slot" => {
            let remedy =
                "no PCI slot is free; start the guest with more pcie-root-ports".to_owned();
            Capabilities { slots: Some(Slots { free: 1, remedy }), ..qemu(true) }
        }
        other => panic!("there are no capabilities called {other}"),
    }
}

/// A QEMU as the table of models has it, without smart card readers.
fn qemu(running: bool) -> Capabilities {
    let support = |model: Model| match model {
        Model::Ich9Ehci1
        | Model::Ich9Uhci1
        | Model::Ich9Uhci2
        | Model::Ich9Uhci3
        | Model::PciOhci => {
            Support::Cold { why: "it cannot be added to a guest that runs".to_owned() }
        }
        Model::Xenusb1 | Model::Xenusb2 | Model::Xenusb3 => {
            Support::No { why: "QEMU has no paravirtual USB".to_owned() }
        }
        _ => Support::Hot,
    };
    Capabilities {
        hypervisor: "QEMU (machine pc)".to_owned(),
        default_type: ControllerType::Emulated,
        running,
        models: Model::ALL.into_iter().map(|model| (model, support(model))).collect(),
        kinds: KINDS
            .into_iter()
            .filter(|kind| *kind != "ccid")
            .map(|kind| (kind, Support::Hot))
            .collect(),
        slots: None,
        guest: vusb_model::guest::Guest::default(),
    }
}

/// What comes out, in short: a line a controller, a line a device, and what was there already or added.
fn short(resolved: &Resolved) -> String {
    let hardware = &resolved.hardware;
    let mut lines = Vec::new();
    for controller in hardware.controllers() {
        lines.push(short_controller(controller));
        let index = controller.index;
        lines.extend(
            controller
                .devices()
                .map(|(port, device)| format!("{index}:{port} {} {}", device.name, device.kind)),
        );
    }
    let already = already(resolved);
    if !already.is_empty() {
        lines.push(format!("already {}", already.join(" ")));
    }
    if !resolved.added.is_empty() {
        lines.push(format!("added {}", names(hardware, &resolved.added).join(" ")));
    }
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
}

fn short_controller(controller: &Controller) -> String {
    let ports = controller.ports;
    let mut line = format!("{} {} {} ", controller.index, controller.name, controller.model);
    if ports.are_plain(controller.model) {
        write!(line, "{}", ports.count()).unwrap();
    } else {
        write!(line, "{}+{}", ports.usb2(), ports.usb3()).unwrap();
    }
    for companion in &controller.companions {
        let model = companion.model.model().name().trim_start_matches("ich9-");
        write!(line, " {model}@{}", companion.first_port).unwrap();
    }
    if let Some(backend) = &controller.backend {
        write!(line, " backend {backend}").unwrap();
    }
    if let Some(pci) = &controller.pci {
        write!(line, " pci {pci}").unwrap();
    }
    line
}

fn names(hardware: &Hardware, indexes: &[Index]) -> Vec<String> {
    indexes.iter().map(|index| hardware.controller(*index).unwrap().name.to_string()).collect()
}

/// The controllers and then the devices of the spec that were there already.
fn already(resolved: &Resolved) -> Vec<String> {
    let controllers: Vec<Index> = resolved
        .controllers
        .iter()
        .filter(|settled| settled.already)
        .map(|settled| settled.at)
        .collect();
    let devices = resolved.devices.iter().filter(|settled: &&Settled<Address>| settled.already);
    let devices = devices.map(|settled| settled.at.to_string());
    names(&resolved.hardware, &controllers).into_iter().chain(devices).collect()
}

/// What comes out, in full.
fn full(resolved: &Resolved) -> String {
    let value: Value = json!({
        "digest": digest(&resolved.hardware).to_string(),
        "already": already(resolved),
        "added": names(&resolved.hardware, &resolved.added),
        "hardware": resolved.hardware,
    });
    format!("{}\n", serde_json::to_string_pretty(&value).unwrap())
}

const fn category(category: Category) -> &'static str {
    match category {
        Category::Usage => "usage",
        Category::NotFound => "not found",
        Category::Busy => "busy",
        Category::NoRoom => "no room",
        Category::NotImplemented => "not implemented",
    }
}

#[test]
fn every_golden_spec_comes_to_what_its_files_say() {
    let mut wrong = String::new();
    for golden in Golden::all() {
        let (short, extension, full) = match golden.resolve() {
            Ok(resolved) => (short(&resolved), "json", full(&resolved)),
            Err(refusal) => {
                let category = category(refusal.category());
                (format!("refused {category}"), "refused", format!("{category}\n{refusal}\n"))
            }
        };
        let name = &golden.name;
        if short != golden.expected() {
            writeln!(
                wrong,
                "{name}: its head expects\n{}\nand it comes to\n{short}\n",
                golden.expected()
            )
            .unwrap();
            continue;
        }
        let file = path(name, extension);
        match fs::read_to_string(&file) {
            Ok(there) if there == full => {}
            Ok(there) => writeln!(wrong, "{name}.{extension} says\n{there}\nand it comes to\n{full}").unwrap(),
            Err(_) if std::env::var("VUSB_GOLDEN_NEW").is_ok_and(|new| new == "1") => {
                fs::write(&file, full).unwrap();
            }
            Err(_) => writeln!(
                wrong,
                "{name}.{extension} is missing; VUSB_GOLDEN_NEW=1 writes it, and then compare it with the rules"
            )
            .unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What is frozen of a file: all of it, but of a refusal only the category.
fn frozen_part<'a>(file: &str, content: &'a str) -> &'a str {
    if file.ends_with(".refused") { content.lines().next().unwrap_or_default() } else { content }
}

#[test]
fn golden_files_are_frozen() {
    let list = fs::read_to_string(folder().join("FROZEN")).unwrap_or_default();
    let mut frozen: BTreeMap<&str, &str> = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once("  ").expect(line))
        .map(|(hash, file)| (file, hash))
        .collect();
    let mut wrong = String::new();
    let mut missing = String::new();
    let files = fs::read_dir(folder()).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file != "FROZEN").collect::<BTreeSet<_>>() {
        let content = fs::read_to_string(folder().join(&file)).unwrap();
        let hash = format!("{:x}", Sha256::digest(frozen_part(&file, &content)));
        match frozen.remove(file.as_str()) {
            Some(there) if there == hash => {}
            Some(_) => writeln!(
                wrong,
                "{file} was altered. A profile never changes: guests that were made with it would change under their \
                 users. A new idea is a new profile, with golden files of its own; put this one back as it was."
            )
            .unwrap(),
            None => writeln!(missing, "{hash}  {file}").unwrap(),
        }
    }
    for file in frozen.keys() {
        writeln!(
            wrong,
            "{file} is gone. A profile never changes, nor do its examples; put it back."
        )
        .unwrap();
    }
    if !missing.is_empty() {
        writeln!(wrong, "These are new. Once they are right, append to FROZEN:\n{missing}")
            .unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The examples leave nothing out: each model, each kind, each category of refusal.
#[test]
fn golden_files_cover_the_tables() {
    let (mut models, mut kinds, mut refusals) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let all = Golden::all();
    assert!(all.len() >= 45, "{}", all.len());
    for golden in all {
        match golden.resolve() {
            Ok(resolved) => {
                models.extend(resolved.hardware.controllers().map(|controller| controller.model));
                kinds.extend(resolved.hardware.devices().map(|(_, device)| device.kind.word()));
            }
            Err(refusal) => {
                refusals.insert(category(refusal.category()));
            }
        }
    }
    let askable = Model::ALL.into_iter().filter(|model| *model != Model::Xenusb3);
    assert_eq!(models, askable.collect());
    assert_eq!(kinds, BTreeSet::from(KINDS));
    assert_eq!(
        refusals,
        BTreeSet::from(["usage", "not found", "busy", "no room", "not implemented"])
    );
}
