//! The rules of the profiles, enforced by examples: each file in `golden/` is a spec with its
//! result.
//!
//! | file | content |
//! |---|---|
//! | `NAME.toml` | the spec. Its head, written by hand, has the rule that the spec shows (`#`), the circumstances (`#!`), and the expected result in short (`#=`) |
//! | `NAME.json` | the whole result: hypervisor, digest and hardware |
//! | `NAME.refused` | if the spec is refused, instead of `NAME.json`: category, hypervisor and text of the refusal |
//! | `FROZEN` | a SHA-256 of the frozen part of each of them |
//!
//! A profile never changes, and neither do these files: new ones may be added, none may be altered.
//! Two things cannot change a profile and are not frozen: the comments of a spec (lines that begin
//! with `# `; circumstances and expected results are frozen), and the text of a refusal, which is
//! all of a `.refused` file but its first line. `docs/decisions/0016-comments-are-not-frozen.md`
//! has the reasons.
//!
//! Circumstances:
//!
//! * `#! hypervisor: QEMU`, `Xen`, `VMware` or `VirtualBox`: whose guest it is. Every case has
//!   this.
//! * `#! caps: NAME`: see [`capabilities`]; the default is `everything`.
//! * `#! base: NAME`: the guest already has the result of that other file.
//! * `#! host: SELECTOR SPEEDS`: a host device that is plugged in.
//!
//! With `VUSB_GOLDEN_NEW=1` in the environment, the test writes the result of a new spec. Compare
//! the result with the rules.
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
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::models::{ControllerType, Model};
use vusb_model::profile::Profile;
use vusb_model::refusal::{Category, Refusal};
use vusb_model::resolve::{Placed, Resolved, resolve};
use vusb_model::spec::Spec;
use vusb_model::speed::{Speed, SpeedSet};

/// Every hypervisor.
const HYPERVISORS: [Hypervisor; 4] =
    [Hypervisor::Qemu, Hypervisor::Xen, Hypervisor::Vmware, Hypervisor::VirtualBox];

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

    /// The values of a circumstance.
    fn circumstances<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let line = self.text.lines().filter_map(|line| line.strip_prefix("#! "));
        line.filter_map(move |line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    /// The expected result, in short.
    fn expected(&self) -> String {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("#= "));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn spec(&self) -> Spec {
        let file = read(&self.text, &self.name).unwrap_or_else(|error| panic!("{error}"));
        let mut spec = file.spec;
        for plugged in self.circumstances("host") {
            let (selector, speeds) = plugged.split_once(' ').unwrap();
            let speeds: Vec<Speed> = speeds.split(' ').map(speed).collect();
            for device in &mut spec.devices {
                let Kind::Host(host) = &mut device.kind else { continue };
                if host.selector.to_string() == selector {
                    host.speeds = Some(SpeedSet::of(&speeds));
                }
            }
        }
        spec
    }

    /// The hypervisor of the guest.
    fn hypervisor(&self) -> Hypervisor {
        let mut names = self.circumstances("hypervisor");
        let name = names.next().unwrap_or_else(|| panic!("{} has no hypervisor", self.name));
        HYPERVISORS.into_iter().find(|hypervisor| hypervisor.to_string() == name).expect(name)
    }

    fn resolve(&self) -> Result<Resolved, Refusal> {
        self.resolve_on(self.hypervisor())
    }

    fn resolve_on(&self, hypervisor: Hypervisor) -> Result<Resolved, Refusal> {
        let base = self.circumstances("base").next();
        let base = base.map(|name| Golden::named(name).resolve_on(hypervisor).unwrap());
        let base = base.map(|resolved| resolved.hardware).unwrap_or_default();
        let mut capabilities =
            capabilities(self.circumstances("caps").next().unwrap_or("everything"));
        capabilities.guest.hypervisor = hypervisor;
        Ok(resolve(&base, &self.spec(), &capabilities)?)
    }
}

fn speed(word: &str) -> Speed {
    Speed::ALL.into_iter().find(|speed| speed.to_string() == word).expect(word)
}

/// The capabilities with this name in a circumstance.
fn capabilities(name: &str) -> Capabilities {
    match name {
        "everything" => Capabilities::everything(),
        "pv" => Capabilities { default_type: ControllerType::Pv, ..Capabilities::everything() },
        "xen-pv" => {
            let virtualization = Virtualization::Pv;
            let guest = Guest { virtualization, ..Default::default() };
            Capabilities { guest, ..Capabilities::everything() }
        }
        "emulated-kinds" => {
            let emulated_only =
                || Support::EmulatedOnly { why: "a pv controller carries host devices".to_owned() };
            let support = |kind| if kind == "host" { Support::Hot } else { emulated_only() };
            let kinds = KINDS.into_iter().map(|kind| (kind, support(kind))).collect();
            Capabilities { kinds, ..Capabilities::everything() }
        }
        "qemu-running" => qemu(true),
        "qemu-stopped" => qemu(false),
        "qemu-one-slot" => {
            let reason = "no PCI slot is free; start the guest with more pcie-root-ports".into();
            Capabilities { slots: Some(Slots { free: 1, reason }), ..qemu(true) }
        }
        other => panic!("there are no capabilities named {other}"),
    }
}

/// QEMU as in the table of models, without smart card readers.
fn qemu(running: bool) -> Capabilities {
    let support = |model: Model| match model {
        Model::Ich9Ehci1
        | Model::Ich9Uhci1
        | Model::Ich9Uhci2
        | Model::Ich9Uhci3
        | Model::PciOhci => Support::Cold { why: "it cannot be hotplugged".to_owned() },
        Model::Xenusb1 | Model::Xenusb2 | Model::Xenusb3 => {
            Support::Unsupported { why: "QEMU has no paravirtual USB".to_owned() }
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
        guest: Guest::default(),
    }
}

/// The result in short: a line for each controller and device, and what existed already or was
/// added.
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
    let existing = existing(resolved);
    if !existing.is_empty() {
        lines.push(format!("already {}", existing.join(" ")));
    }
    if !resolved.added.is_empty() {
        lines.push(format!("added {}", names(hardware, &resolved.added).join(" ")));
    }
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
}

fn short_controller(controller: &Controller) -> String {
    let ports = controller.ports;
    let mut line = format!("{} {} {} ", controller.index, controller.name, controller.model);
    if ports.are_uniform(controller.model) {
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

/// The controllers and then the devices of the spec that existed already.
fn existing(resolved: &Resolved) -> Vec<String> {
    let controllers: Vec<Index> = resolved
        .controllers
        .iter()
        .filter(|placed| placed.existing)
        .map(|placed| placed.address)
        .collect();
    let devices = resolved.devices.iter().filter(|placed: &&Placed<Address>| placed.existing);
    let devices = devices.map(|placed| placed.address.to_string());
    names(&resolved.hardware, &controllers).into_iter().chain(devices).collect()
}

/// The result in full.
fn full(resolved: &Resolved, hypervisor: Hypervisor) -> String {
    let value: Value = json!({
        "digest": digest(&resolved.hardware).to_string(),
        "already": existing(resolved),
        "added": names(&resolved.hardware, &resolved.added),
        "hardware": resolved.hardware,
        "hypervisor": hypervisor.to_string(),
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
fn every_golden_spec_has_the_result_in_its_files() {
    let mut wrong = String::new();
    for golden in Golden::all() {
        let hypervisor = golden.hypervisor();
        let (short, extension, full) = match golden.resolve() {
            Ok(resolved) => (short(&resolved), "json", full(&resolved, hypervisor)),
            Err(refusal) => {
                let category = category(refusal.category());
                let full = format!("{category} on {hypervisor}\n{refusal}\n");
                (format!("refused {category}"), "refused", full)
            }
        };
        let name = &golden.name;
        if short != golden.expected() {
            writeln!(
                wrong,
                "{name}: its head expects\n{}\nand the result is\n{short}\n",
                golden.expected()
            )
            .unwrap();
            continue;
        }
        let file = path(name, extension);
        match fs::read_to_string(&file) {
            Ok(stored) if stored == full => {}
            Ok(stored) => writeln!(wrong, "{name}.{extension} contains\n{stored}\nand the result is\n{full}").unwrap(),
            Err(_) if std::env::var("VUSB_GOLDEN_NEW").is_ok_and(|new| new == "1") => {
                fs::write(&file, full).unwrap();
            }
            Err(_) => writeln!(
                wrong,
                "{name}.{extension} is missing; run with VUSB_GOLDEN_NEW=1 to write it, then compare it with the rules"
            )
            .unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A program may keep a spec as JSON. What this machine knows about a host device (its address) is
/// not a part of the JSON.
#[test]
fn every_golden_spec_survives_as_json() {
    for golden in Golden::all() {
        let spec = golden.spec();
        let json = serde_json::to_string(&spec).unwrap();
        let back: Spec = serde_json::from_str(&json).unwrap();
        assert_eq!(back, spec, "{}: {json}", golden.name);
        // Values that are left open have no key.
        assert!(!json.contains("null"), "{}: {json}", golden.name);
    }
    assert_eq!(serde_json::to_string(&Spec::default()).unwrap(), r#"{"profile":"vusb-1"}"#);
    assert!(serde_json::from_str::<Spec>(r#"{"controller":[]}"#).is_err(), "an unknown key");
}

/// The frozen part of a file: all of it except comments, but only the first line of a refusal.
fn frozen_part(file: &str, content: &str) -> String {
    match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("refused") => content.lines().next().unwrap_or_default().to_owned(),
        Some("toml") => content.split_inclusive('\n').filter(|line| !is_comment(line)).collect(),
        _ => content.to_owned(),
    }
}

/// Whether the line of a spec is for readers only. Lines with `#!` and `#=` are not.
fn is_comment(line: &str) -> bool {
    line.starts_with("# ") || line.trim_end() == "#"
}

#[test]
fn only_comments_and_the_text_of_a_refusal_are_not_frozen() {
    let spec = "# Rule 1.\n#! hypervisor: QEMU\n#\n#= nothing\n\nname = \"a # b\"\n";
    let frozen = "#! hypervisor: QEMU\n#= nothing\n\nname = \"a # b\"\n";
    assert_eq!(frozen_part("a.toml", spec), frozen);
    assert_eq!(frozen_part("a.refused", "busy on QEMU\n# text\n"), "busy on QEMU");
    assert_eq!(frozen_part("a.json", "# {}\n"), "# {}\n");
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
    let mut unlisted = String::new();
    let files = fs::read_dir(folder()).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file != "FROZEN").collect::<BTreeSet<_>>() {
        let content = fs::read_to_string(folder().join(&file)).unwrap();
        let hash = format!("{:x}", Sha256::digest(frozen_part(&file, &content)));
        match frozen.remove(file.as_str()) {
            Some(expected) if expected == hash => {}
            Some(_) => writeln!(
                wrong,
                "{file} was altered. A profile never changes: guests that were made with it would change under their \
                 users. A new idea is a new profile, with golden files of its own: restore this one."
            )
            .unwrap(),
            None => writeln!(unlisted, "{hash}  {file}").unwrap(),
        }
    }
    for file in frozen.keys() {
        writeln!(
            wrong,
            "{file} is missing. A profile never changes, and neither do its golden files: restore this one."
        )
        .unwrap();
    }
    if !unlisted.is_empty() {
        writeln!(
            wrong,
            "These files are new. Once they are correct, append to FROZEN:\n{unlisted}"
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The golden files are complete: each model that can be requested, each kind, each category of
/// refusal, each profile with golden files here, each hypervisor.
#[test]
fn golden_files_cover_models_kinds_refusals_and_profiles() {
    let (mut models, mut kinds, mut refusals) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut profiles, mut hypervisors) = (BTreeSet::new(), BTreeSet::new());
    let all = Golden::all();
    assert!(all.len() >= 45, "{}", all.len());
    for golden in all {
        profiles.insert(golden.spec().profile);
        hypervisors.insert(golden.hypervisor());
        match golden.resolve() {
            Ok(resolved) => {
                models.extend(resolved.hardware.controllers().map(|controller| controller.model));
                kinds.extend(resolved.hardware.devices().map(|(_, device)| device.kind.name()));
            }
            Err(refusal) => {
                refusals.insert(category(refusal.category()));
            }
        }
    }
    let requestable = Model::ALL.into_iter().filter(|model| *model != Model::Xenusb3);
    assert_eq!(models, requestable.collect());
    assert_eq!(kinds, BTreeSet::from(KINDS));
    assert_eq!(
        refusals,
        BTreeSet::from(["usage", "not found", "busy", "no room", "not implemented"])
    );
    // The cases of libvirt are in `crates/model/tests/libvirt/cases`.
    let with_golden_files = Profile::ALL.into_iter().filter(|profile| *profile != Profile::Libvirt);
    assert_eq!(profiles, with_golden_files.collect());
    assert_eq!(hypervisors, BTreeSet::from(HYPERVISORS));
}

/// The rules of `vusb-1`, `vmx` and `vbox` do not depend on the hypervisor, but only on what it can
/// do.
#[test]
fn own_profiles_do_not_depend_on_the_hypervisor() {
    for golden in Golden::all().into_iter().filter(|golden| golden.spec().profile.is_own()) {
        let result = golden.resolve();
        for hypervisor in HYPERVISORS {
            assert_eq!(golden.resolve_on(hypervisor), result, "{} on {hypervisor}", golden.name);
        }
    }
}
