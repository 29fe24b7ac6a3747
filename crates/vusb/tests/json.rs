//! Compares `docs/json.md` with the types that vusb prints as JSON.
//!
//! ```text
//!   a value of each type, with every field and every variant ──▶ JSON ──▶ the same keys as on the page
//!                                                                  └────▶ an equal value
//! ```
//!
//! The values are written field by field, so a new field does not compile until it is here, and
//! does not pass until it is on the page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::num::NonZeroU8;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vusb::model::address::{Address, Index, PortPath};
use vusb::model::device::{Kind, Net, NetBackend};
use vusb::model::diff::Step;
use vusb::model::hardware::{Controller, Device, Hardware, PciAddress};
use vusb::model::models::{Companion, ControllerType, Model, RootPorts, UsbVersion};
use vusb::model::naming::{LibxlName, NamesView};
use vusb::model::profile::Profile;
use vusb::model::remedy::Remedy;
use vusb::model::rules::{
    Beaten, Considered, Effect, Key, Mismatch, Permission, PortRank, ProtectionKind, Rank,
    Unmatched, Verdict,
};
use vusb::model::selector::{BusAddress, Selector, UsbId};
use vusb::model::speed::{Speed, SpeedSet};
use vusb::rules::{EffectView, EffectsView, ExplainView, PastView, RuleView, RulesView};
use vusb::view::{
    API, AllView, AppliedAllView, AppliedState, AppliedView, ArgumentsView, AvailabilityView, Can,
    CompanionView, ControllerState, ControllerView, CountersView, Creator, DamagedView, DeviceView,
    DigestView, DomainState, DomainView, DomainsView, ErrorView, ExportView, FailedView,
    ForeignDeviceView, ForeignView, GivableView, GuestModelsView, HolderView, HostDeviceView,
    HostView, ModelView, ModelsView, NotUndoneView, PlannedController, PortsView, ProcessView,
    RecordedView, RunningView, State, UnreachableView,
};
use vusb::{
    Advice, Chosen, Converted, DescribedStep, DeviceOutcome, ExitCode, NotRestored, Note, Outcome,
    Plan, Recovery, StepView, WhyAdded, WhyRemoved,
};

use vusb_rig::json_page::{JsonPage, paths};

fn parse<T: FromStr>(text: &str) -> T
where
    T::Err: Debug,
{
    text.parse().unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// A value as JSON, after a check that it can be read back.
#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> Value {
    let sent = serde_json::to_string(value).unwrap();
    let back: T = serde_json::from_str(&sent).unwrap_or_else(|error| panic!("{error}: {sent}"));
    assert_eq!(&back, value, "{sent}");
    // Equality of some types ignores fields.
    assert_eq!(serde_json::to_string(&back).unwrap(), sent);
    serde_json::from_str(&sent).unwrap()
}

/// Compares the keys of values with a section of the page, in both directions.
#[track_caller]
fn has_keys(anchor: &str, values: &[Value]) {
    let page = JsonPage::read().unwrap();
    let found: BTreeSet<String> = values.iter().flat_map(paths).collect();
    let documented = page.paths(anchor);
    let missing: Vec<_> = found.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&found).collect();
    assert!(missing.is_empty(), "docs/json.md#{anchor} lacks {missing:?}");
    assert!(stale.is_empty(), "docs/json.md#{anchor} has keys that do not exist: {stale:?}");
}

/// Compares the variants of a tagged type with a section of the page: their words and their keys.
#[track_caller]
fn has_variants<T: DeserializeOwned>(anchor: &str, tag: &str, values: &[Value], common: &[&str]) {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for value in values {
        let keys = value.as_object().unwrap().keys().map(String::as_str);
        let keys = keys.filter(|key| *key != tag && !common.contains(key)).map(text);
        found.entry(value[tag].as_str().unwrap().to_owned()).or_default().extend(keys);
    }
    let page = JsonPage::read().unwrap();
    assert_eq!(page.variants(anchor), found, "docs/json.md#{anchor}");
    let all = words::<T>(&json!({ tag: "?" }));
    assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), all, "a variant has no value here");
}

/// The words of all variants of a type: serde lists them when it reads an invalid one.
fn words<T: DeserializeOwned>(wrong: &Value) -> BTreeSet<String> {
    let error = serde_json::from_value::<T>(wrong.clone()).err().map(|it| it.to_string());
    let (_, list) = error.as_deref().unwrap().split_once("expected ").unwrap();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn address(bus: u16, port: &str) -> Address {
    Address { bus: Index::new(bus).unwrap(), port: parse(port) }
}

fn pci() -> PciAddress {
    PciAddress { bus: text("pci.0"), slot: 4, function: 7 }
}

/// A device of each kind, with every field.
fn kinds() -> Vec<Kind> {
    let mut host: Kind = parse("host:0781:5581");
    if let Kind::Host(host) = &mut host {
        host.speeds = Some(SpeedSet::of(&[Speed::Full, Speed::High]));
        host.also.insert(parse("0483:df11"));
        host.required = true;
    }
    let net = Net { backend: NetBackend::User, mac: Some(parse("52:54:00:00:00:01")) };
    let plain = [
        "storage:a.img,readonly",
        "storage:a.iso,media=cdrom,serial=S",
        "storage:a,removable=on",
        "tablet",
        "mouse",
        "keyboard",
        "hub",
        "serial:pty",
    ];
    let others = ["audio:snd0", "mtp:/srv", "ccid", "redir:spicevmc"];
    let other: Kind = serde_json::from_value(json!({"kind": "other", "driver": "u2f"})).unwrap();
    plain.into_iter().chain(others).map(parse).chain([host, Kind::Net(net), other]).collect()
}

/// A controller with a device of each kind, and one for each optional field.
fn hardware() -> Hardware {
    let mut hardware = Hardware::new();
    let ports = NonZeroU8::new(15).unwrap();
    let devices = RootPorts::uniform(Model::QemuXhci, ports);
    let all = Controller::new(Index::ZERO, parse("hci0"), Model::QemuXhci, devices);
    hardware.add_controller(all).unwrap();
    for (number, kind) in (1..).zip(kinds()) {
        let name = parse(&format!("{}{number}", kind.name()));
        hardware.plug(address(0, &number.to_string()), Device { name, kind }).unwrap();
    }
    let ports = RootPorts::uniform(Model::Ich9Ehci1, NonZeroU8::new(6).unwrap());
    let index = |number| Index::new(number).unwrap();
    let mut group = Controller::new(index(1), parse("hci1"), Model::Ich9Ehci1, ports);
    group.companions = Companion::GROUP.to_vec();
    group.pci = Some(pci());
    let ports = RootPorts::xhci(4, 2).unwrap();
    let uneven = Controller::new(index(2), parse("hci2"), Model::NecXhci, ports);
    let ports = RootPorts::uniform(Model::Xenusb2, NonZeroU8::new(8).unwrap());
    let mut pv = Controller::new(index(3), parse("pv0"), Model::Xenusb2, ports);
    pv.backend = Some(text("usbvm"));
    for controller in [group, uneven, pv] {
        hardware.add_controller(controller).unwrap();
    }
    hardware
}

/// A step of each kind, with every controller and device of [`hardware`].
fn steps() -> Vec<Step> {
    let hardware = hardware();
    let controllers = hardware.controllers().map(Controller::without_devices);
    let controllers =
        controllers.flat_map(|it| [Step::AddController(it.clone()), Step::RemoveController(it)]);
    let devices = hardware
        .devices()
        .flat_map(|(at, it)| [Step::Plug(at, it.clone()), Step::Unplug(at, it.clone())]);
    controllers.chain(devices).collect()
}

fn described() -> Vec<DescribedStep> {
    steps().iter().map(DescribedStep::from).collect()
}

/// A note of each kind.
fn notes() -> Vec<Note> {
    let name = || parse("stick");
    let why = || text("the guest was restarted");
    let step = || StepView::from(&steps()[0]);
    let controller_type = ControllerType::Pv;
    let reasons = [
        WhyAdded::NoController,
        WhyAdded::NoneOfType { controller_type },
        WhyAdded::NoneFits { controller_type },
        WhyAdded::NoneStays,
    ];
    let added = reasons.map(|reason| Note::ControllerAdded {
        name: parse("hci0"),
        model: Model::QemuXhci,
        ports: 15,
        reason,
        dry_run: true,
    });
    let rest = [
        Note::OtherMachine { name: name(), from: parse("1-4.2"), to: parse("0781:5581:A1") },
        Note::Absent { name: name(), selector: parse("1-4.2") },
        Note::NotFree { name: name(), why: why() },
        Note::Terminal { name: name(), path: text("/dev/pts/3") },
        Note::OtherDevice {
            name: name(),
            given: text("0781:5581:A1"),
            found: text("0781:5581:A2"),
            port: parse("1-4"),
            in_its_port: true,
        },
        Note::OtherDevice {
            name: name(),
            given: text("0781:5581"),
            found: text("0781:5581:A2"),
            port: parse("1-5"),
            in_its_port: false,
        },
        Note::OtherPort {
            name: name(),
            from: text("pci-0000:00:14.0-usb-0:4"),
            to: text("pci-0000:00:14.0-usb-0:5"),
        },
        Note::PrivateClaims { path: "/run/user/1000/vusb/claims".into() },
        Note::NotTouched { names: vec![name()] },
        Note::Removed {
            name: name(),
            at: text("hci0:1"),
            reason: WhyRemoved::NotInSpec,
            dry_run: false,
        },
        Note::Removed {
            name: name(),
            at: text("hci0"),
            reason: WhyRemoved::NotNeeded,
            dry_run: true,
        },
        Note::Removed {
            name: name(),
            at: text("hci0:1"),
            reason: WhyRemoved::Pruned,
            dry_run: false,
        },
        Note::KeptByHand { names: vec![name()] },
        Note::NotRestored { name: name(), why: why() },
        Note::OtherSelector { given: parse("1-4.2"), written: parse("001.004") },
        Note::Restored { names: vec![name()], dry_run: false },
        Note::AlreadyGone { name: name() },
        Note::OnlyRecordChanged { why: why() },
        Note::Replugged { name: name(), domain: text("web1") },
        Note::Disconnected { name: name(), why: why(), restored_by: Some(text("web1")) },
        Note::Disconnected { name: name(), why: why(), restored_by: None },
        Note::FromRecord { why: why() },
        Note::RecordUnreadable { why: why() },
        Note::TakenOver { name: name() },
        Note::Forgotten { name: name(), why: why() },
        Note::Moved { from: parse("hci0"), to: parse("hci1"), index: Index::ZERO },
        Note::InterruptedStep { step: step(), undo: false, why: why() },
        Note::Other { message: why() },
    ];
    added
        .into_iter()
        .chain(notes_about_interruptions())
        .chain(notes_about_domains())
        .chain(rest)
        .chain(notes_about_devices())
        .collect()
}

/// Notes about changes that were interrupted.
fn notes_about_interruptions() -> Vec<Note> {
    let why = || text("the guest was restarted");
    let steps: Vec<StepView> = steps().iter().map(StepView::from).collect();
    let recoveries = [
        Recovery::Open,
        Recovery::OpenUndo,
        Recovery::Finished,
        Recovery::Recorded,
        Recovery::Undone,
        Recovery::NotInEffect,
        Recovery::GuestRestarted,
        Recovery::GuestChanged,
    ];
    let interrupted = recoveries.map(|outcome| Note::Interrupted { outcome, steps: steps.clone() });
    let interrupted_steps = steps.iter().map(|step| Note::InterruptedStep {
        step: step.clone(),
        undo: true,
        why: why(),
    });
    let took_effect =
        steps.iter().map(|step| Note::TookEffect { step: step.clone(), error: why() });
    interrupted.into_iter().chain(interrupted_steps).chain(took_effect).collect()
}

/// Notes about domains and their names.
fn notes_about_domains() -> Vec<Note> {
    let name = || parse("stick");
    let why = || text("the guest was restarted");
    vec![
        Note::NameShared { name: name(), other: text("qemu:/run/b"), domain: text("qemu:/run/a") },
        Note::Renamed { domain: text("qemu:/run/a"), from: Some(parse("a")), to: parse("b") },
        Note::Renamed { domain: text("qemu:/run/a"), from: None, to: parse("b") },
        Note::Gone { domain: text("web1"), why: why() },
        Note::StillThere { names: vec![name()], seen: true },
        Note::StillThere { names: vec![name()], seen: false },
        Note::Suspended { names: vec![name()] },
    ]
}

/// Notes about single devices.
fn notes_about_devices() -> [Note; 4] {
    [
        Note::CannotOpen {
            name: parse("stick"),
            node: "/dev/bus/usb/001/004".into(),
            why: text("it runs as user 107, which may not open it"),
        },
        Note::AlsoUses { name: parse("disk"), files: vec!["/images/base.img".into()] },
        Note::Slower {
            name: parse("stick"),
            speed: Speed::Full,
            native: Speed::Super,
            faster: vec![parse("hci1")],
        },
        Note::NotTaken {
            name: parse("stick"),
            found: parse("0781:5581"),
            port: parse("1-4.2"),
            at: BusAddress { bus: 1, address: 4 },
            given: Some(text("001.003")),
        },
    ]
}

/// A remedy of each kind, with every field.
fn remedies() -> Vec<Remedy> {
    let (domain, model, usbversion) = (text("web1"), Model::NecXhci, UsbVersion::V3);
    vec![
        Remedy::Force,
        Remedy::MoreTime,
        Remedy::ListDomain,
        Remedy::ListHost { backend: Some(text("usbvm")) },
        Remedy::ListHost { backend: None },
        Remedy::ListModels,
        Remedy::Restore { domain: domain.clone() },
        Remedy::RestoreLater,
        Remedy::Explain { device: parse("1-4"), domain: text("web1") },
        Remedy::UseModel { model, ports: Some(4) },
        Remedy::UseType { controller_type: ControllerType::Emulated },
        Remedy::UseVersion { usbversion },
        Remedy::StartWith { model, usbversion: Some(usbversion) },
        Remedy::StartWithSpareSlots,
        Remedy::NextStart,
        Remedy::NameController,
        Remedy::OmitController,
        Remedy::ReplaceController { controller: parse("hci0") },
        Remedy::RemoveDevice { domain, device: parse("stick"), forget: true },
        Remedy::ListDomains,
        Remedy::RenameDomain { domain: text("qemu:/run/old.qmp") },
        Remedy::ForgetDomain { domain: text("qemu:/run/old.qmp") },
        Remedy::Prune,
        Remedy::ConvertToNearest,
        Remedy::AcceptLoss,
        Remedy::ConvertToSpec,
    ]
}

/// Advice of each kind, with every field.
fn advice() -> Vec<Advice> {
    vec![
        Advice::Write { form: text("001.004 (bus and address)") },
        Advice::NameDomain { addresses: vec![text("sim:FILE")] },
        Advice::NameGuest,
        Advice::NameGuestOfRecord,
        Advice::NameRecordedDomain,
        Advice::NameDevice,
        Advice::NameDeviceUniquely,
        Advice::NameDevicesOnce,
        Advice::NameDeviceForLater,
        Advice::NameExportedRecord,
        Advice::ChooseAnotherName,
        Advice::ChooseNameOfNoFile,
        Advice::AddDriver { domain: Some(text("sim:/web.sim")) },
        Advice::AddDriver { domain: None },
        Advice::CorrectSpec,
        Advice::PlugIn,
        Advice::UseStorage { path: "/dev/sda".into() },
        Advice::AttachDevicesBehindHub,
        Advice::RemoveDevicesBehindHub,
        Advice::MoveHubNearer,
        Advice::RemoveFirst { device: parse("stick") },
        Advice::ReplaceDevice { device: parse("stick"), found: text("0781:5581:A2") },
        Advice::EndUse,
        Advice::WaitForProcess,
        Advice::CheckDomain,
        Advice::RemoveCause,
        Advice::DistrustHeader { format: text("qcow2") },
        Advice::ConvertToRaw,
        Advice::CheckImage,
        Advice::DeleteClaim,
        Advice::UseSafeFolder,
        Advice::RepairRecord,
        Advice::RegisterBackendDriver,
    ]
}

fn outcome(chosen: Option<Chosen>) -> Outcome {
    Outcome {
        api: API,
        domain: text("web1"),
        already: false,
        dry_run: true,
        devices: chosen
            .iter()
            .cloned()
            .map(|chosen| DeviceOutcome { chosen, already: true })
            .collect(),
        chosen,
        added_controllers: vec![parse("hci0")],
        steps: steps(),
        not_restored: described()
            .into_iter()
            .map(|step| NotRestored {
                name: parse("stick"),
                at: text("hci0:1"),
                error: error(step),
            })
            .collect(),
        lifted_holds: vec![parse("1-4.2")],
        notes: notes(),
        hardware: hardware(),
    }
}

/// An error after this step.
fn error(step: DescribedStep) -> ErrorView {
    let why = || text("the guest ended");
    let not_undone = described().into_iter().map(|step| NotUndoneView { step, why: why() });
    let failed = FailedView {
        step,
        unknown: true,
        undone: described(),
        not_undone: not_undone.collect(),
        unrecorded: Some(text("the disk is full")),
    };
    let kind = ExitCode::Busy;
    ErrorView {
        code: kind.code(),
        kind,
        message: text("stick is held by web2"),
        hints: vec![text("free it")],
        advice: advice(),
        remedies: remedies(),
        failed: Some(failed),
        in_effect: described(),
    }
}

fn chosen() -> Chosen {
    let address = address(0, "1");
    Chosen {
        name: parse("stick"),
        location: text("hci0:1"),
        bus: address.bus,
        port: Some(address.port),
    }
}

fn controller() -> ControllerView {
    let device = |(port, kind): (usize, Kind)| DeviceView {
        port: parse::<PortPath>(&port.to_string()),
        name: parse("stick"),
        kind,
        state: State::Attached,
        origin: Creator::Vusb,
        terminal: Some(text("/dev/pts/3")),
    };
    ControllerView {
        index: Index::ZERO,
        name: parse("hci0"),
        controller_type: ControllerType::Emulated,
        model: Model::Ich9Ehci1,
        usbversion: UsbVersion::V2,
        ports: 6,
        companions: Companion::GROUP.iter().map(CompanionView::from).collect(),
        backend: Some(text("usbvm")),
        pci: Some(pci()),
        origin: Creator::Other,
        state: ControllerState::Present,
        counters: Some(CountersView {
            requests: u64::MAX,
            bytes_in: 2,
            bytes_out: 3,
            errors: 4,
            in_flight: 5,
        }),
        devices: (1..).zip(kinds()).map(device).collect(),
    }
}

fn domain() -> DomainView {
    let device = ForeignDeviceView { port: text("1"), driver: text("usb-braille") };
    let foreign =
        ForeignView { driver: text("sysbus-ohci"), id: text("usb"), devices: vec![device] };
    DomainView {
        api: API,
        domain: text("web1"),
        address: text("qemu:/run/web1.qmp"),
        state: DomainState::Running,
        suspended: true,
        profile: Profile::Vusb1,
        controllers: vec![controller()],
        foreign: vec![foreign],
        notes: notes(),
    }
}

#[test]
fn a_change() {
    let values = [
        round_trip(&outcome(Some(chosen()))),
        round_trip(&outcome(Some(Chosen { port: None, ..chosen() }))),
        round_trip(&outcome(None)),
        round_trip(&Outcome { domain: String::new(), ..outcome(None) }),
    ];
    has_keys("a-change", &values);
}

#[test]
fn a_plan() {
    let planned = |chosen| Plan {
        outcome: outcome(chosen),
        fresh: true,
        controllers: hardware().controllers().map(PlannedController::from).collect(),
    };
    let value = round_trip(&planned(Some(chosen())));
    has_keys("vusb-plan", &[value, round_trip(&planned(None))]);
}

#[test]
fn a_domain_and_its_parts_in_the_other_lists() {
    has_keys("a-domain", &[round_trip(&domain())]);
    let mut controllers = domain().into_controllers();
    assert!(controllers.controllers.iter().all(|it| it.devices.is_empty()));
    // The page describes the devices of a controller once.
    controllers.controllers = vec![controller()];
    has_keys("vusb-controller-list", &[round_trip(&controllers)]);
    has_keys("vusb-device-list", &[round_trip(&domain().into_devices())]);
}

#[test]
fn all_domains() {
    let unreachable = UnreachableView {
        domain: text("web2"),
        why: text("connection refused"),
        holds: vec![text("0781:5581")],
        controllers: vec![controller()],
    };
    let running = RunningView {
        address: Some(text("qemu:/run/web1.qmp")),
        name: Some(text("web1")),
        hypervisor: text("QEMU"),
        id: 4711,
        manager: Some(text("libvirt")),
        host_devices: vec![parse("0781:5581")],
    };
    let all = AllView {
        api: API,
        domains: vec![domain()],
        unreachable: vec![unreachable],
        unrecorded: vec![running],
    };
    has_keys("vusb-list", &[round_trip(&all)]);
}

#[test]
fn recorded_domains() {
    let recorded = |why| RecordedView {
        domain: text("web1"),
        address: text("qemu:/run/web1.qmp"),
        state: DomainState::Gone,
        why,
        suspended: false,
        profile: Profile::Vusb1,
        controllers: 1,
        devices: 2,
        claims: vec![text("host:0781:5581")],
    };
    let damaged = DamagedView { path: "/var/lib/vusb/a.json".into(), why: text("not JSON") };
    let view = DomainsView {
        api: API,
        domains: vec![recorded(None), recorded(Some(text("connection refused")))],
        damaged: vec![damaged],
    };
    has_keys("vusb-domain-list", &[round_trip(&view)]);
    let export = ExportView { api: API, record: serde_json::Map::new() };
    has_keys("vusb-domain-export", &[round_trip(&export)]);
}

#[test]
fn all_restored() {
    let applied = |outcome, error| AppliedView {
        domain: text("web1"),
        address: text("qemu:/run/web1.qmp"),
        state: AppliedState::Incomplete,
        outcome,
        error,
    };
    let all = AppliedAllView {
        api: API,
        dry_run: false,
        domains: described()
            .into_iter()
            .map(|step| applied(Some(outcome(Some(chosen()))), Some(error(step))))
            .collect(),
    };
    assert_eq!(all.exit_code(), ExitCode::Busy);
    has_keys("vusb-apply---all", &[round_trip(&all)]);
}

fn host_device() -> HostDeviceView {
    HostDeviceView {
        busid: parse("1-4.2"),
        at: BusAddress { bus: 1, address: 4 },
        id: UsbId { vendor: 0x0781, product: 0x5581 },
        serial: Some(text("4C53")),
        vendor: Some(text("SanDisk")),
        product: Some(text("Ultra")),
        speed: Some(Speed::High),
        path: Some(text("pci-0000:00:14.0-usb-0:4.2")),
        used_by: Some(text("qemu-system-x86 (pid 4711)")),
        processes: vec![ProcessView { pid: 4711, name: text("qemu-system-x86") }],
        hub: false,
        authorized: true,
        protection: vec![text("it is mounted")],
        holder: Some(HolderView { domain: text("web1"), name: parse("stick"), at: text("hci0:1") }),
    }
}

#[test]
fn host_devices() {
    let devices = vec![host_device()];
    let host = HostView { api: API, backend: Some(text("usbvm")), devices, notes: notes() };
    has_keys("vusb-host-list", &[round_trip(&host)]);
}

#[test]
fn rules() {
    let keys = ["id", "port", "has", "only", "text", "removable", "protected"];
    let rule = RuleView {
        name: text("licence dongle"),
        file: Some(text("/etc/vusb/rules.d/10.toml")),
        line: Some(3),
        matches: keys.map(|key| (text(key), vec![text("value")])).into(),
        action: text("attach"),
        domains: vec![text("web1")],
        at: Some(text("hci0:3")),
        max: Some(1),
        is_final: true,
    };
    let rules = RulesView {
        api: API,
        rules: vec![rule],
        files: vec![text("/etc/vusb/rules.d/10.toml")],
        lifted: vec![ProtectionKind::OnlyNetwork],
        unmatched: Unmatched::Deny,
        warnings: vec![text("`a` never decides")],
    };
    has_keys("vusb-rules-list", &[round_trip(&rules)]);
}

/// Each effect, and the verdict of a rule with every field.
#[test]
fn explanations() {
    let (domains, rules) = (vec![text("web1")], vec![parse("a")]);
    let attach = Effect::Attach {
        domain: text("web1"),
        rule: parse("a"),
        at: Some(parse("hci0:3")),
        max: Some(1),
    };
    let effects = [
        attach,
        Effect::Nothing,
        Effect::Ask { domains: domains.clone(), rules: rules.clone() },
        Effect::Conflict { domains: domains.clone(), rules: rules.clone() },
        Effect::Denied { domains: domains.clone(), rules },
    ];
    let considered = |port| Considered {
        rule: parse("a"),
        file: Some(text("10.toml")),
        line: Some(3),
        action: text("attach web1"),
        is_final: true,
        mismatch: Some(Mismatch { key: Key::Has, wanted: text("08"), seen: None }),
        rank: Some(Rank { port, ..Rank::default() }),
        effect: true,
        decides: domains.clone(),
        beaten: vec![Beaten { domain: text("web1"), by: parse("b") }],
    };
    let view = |effect| ExplainView {
        api: API,
        device: Some(host_device()),
        about: text("0781:5581"),
        domain: Some(text("web1")),
        effect,
        permissions: vec![Permission {
            domain: text("web1"),
            verdict: Verdict::Denied,
            rule: parse("a"),
            is_final: true,
        }],
        trace: vec![considered(PortRank::Exact), considered(PortRank::Subtree(2))],
        state: Some(text("attached")),
        history: vec![PastView {
            number: 7,
            time: text("2026-11-30T18:00:00Z"),
            event: text("attached"),
            domain: Some(text("sim:/web1")),
            text: text("plug stick"),
        }],
    };
    has_keys("vusb-explain", &effects.clone().map(|effect| round_trip(&view(effect))));
    let device = |effect| EffectView {
        busid: parse("1-4.2"),
        at: BusAddress { bus: 3, address: 14 },
        effect,
        state: Some(text("asking")),
        question: Some(7),
    };
    let devices = effects.map(device).to_vec();
    has_keys("effects", &[round_trip(&EffectsView { api: API, devices })]);
}

#[test]
fn models() {
    let scheme = || text("SCHEME");
    let model = ModelView {
        name: text("xenusb2"),
        aliases: vec![text("qusb2")],
        controller_type: ControllerType::Pv,
        usbversion: UsbVersion::V2,
        ports: PortsView { least: 1, most: 31 },
        speeds: SpeedSet::ALL,
        hypervisors: BTreeMap::from([
            (scheme(), "usb-ehci".into()),
            (text("hot"), Value::Null),
            (text("SCHEME_hot"), true.into()),
        ]),
        names: NamesView {
            qemu: Some(text("usb-ehci")),
            libxl: Some(LibxlName { kind: text("pv"), version: UsbVersion::V2 }),
            libvirt: None,
            vmware: Some(text("ehci.present")),
            virtualbox: None,
        },
        here: BTreeMap::from([(scheme(), Some(Can::Hot)), (text("xen"), None)]),
    };
    let available = AvailabilityView { title: text("QEMU"), there: true, what: text("QEMU 7.2") };
    let all =
        ModelsView { api: API, here: BTreeMap::from([(scheme(), available)]), models: vec![model] };
    let mut value = round_trip(&all);
    // The page has a placeholder for the schemes.
    value["models"][0]["here"].as_object_mut().unwrap().remove("xen");
    has_keys("vusb-models", &[value]);
}

#[test]
fn what_a_guest_can_be_given() {
    let given = |name: &str, why: Option<&str>| GivableView {
        name: text(name),
        live: why.is_none(),
        next_start: true,
        why: why.map(text),
    };
    let view = GuestModelsView {
        api: API,
        domain: text("web1"),
        address: text("libvirt:web1"),
        running: true,
        controllers: vec![given("qemu-xhci", Some("no hot plug"))],
        devices: vec![given("tablet", None), given("hub", Some("no hot plug"))],
    };
    has_keys("vusb-models-domain", &[round_trip(&view)]);
}

#[test]
fn small_objects() {
    let digest = DigestView { api: API, digest: text("00ff"), pci: true };
    has_keys("vusb-digest", &[round_trip(&digest)]);
    let arguments = ArgumentsView { api: API, arguments: vec![text("-device")], notes: notes() };
    has_keys("vusb-qemu-args", &[round_trip(&arguments)]);
    let converted = Converted {
        api: API,
        format: text("xl"),
        text: text("name = 'web1'"),
        lost: vec![text("a hub")],
        changes: vec![text("hci0: another model")],
        remedies: remedies(),
        notes: notes(),
    };
    has_keys("vusb-convert", &[round_trip(&converted)]);
}

#[test]
fn errors() {
    let one = |step| json!({"api": API, "error": round_trip(&error(step))});
    let all: Vec<Value> = described().into_iter().map(one).collect();
    has_keys("an-error", &all);
}

#[test]
fn notes_steps_remedies_and_kinds() {
    let all = serde_json::to_value(outcome(None)).unwrap();
    let notes = all["notes"].as_array().unwrap();
    has_variants::<Note>("a-note", "note", notes, &["text"]);
    assert!(notes.iter().all(|it| it["text"].as_str().is_some_and(|it| it.len() > 10)));
    let steps = all["steps"].as_array().unwrap();
    has_variants::<StepView>("a-step", "do", steps, &["text"]);
    let remedies: Vec<Value> = remedies().iter().map(round_trip).collect();
    has_variants::<Remedy>("a-remedy", "do", &remedies, &[]);
    let advice: Vec<Value> = advice().iter().map(round_trip).collect();
    has_variants::<Advice>("advice", "do", &advice, &[]);
    let kinds: Vec<Value> = kinds().iter().map(round_trip).collect();
    has_variants::<Kind>("the-kind-of-a-device", "kind", &kinds, &[]);
}

#[test]
fn words_of_the_other_types() {
    let page = JsonPage::read().unwrap();
    let wrong = json!("?");
    let all = [
        words::<State>(&wrong),
        words::<ControllerState>(&wrong),
        words::<DomainState>(&wrong),
        words::<AppliedState>(&wrong),
        words::<WhyRemoved>(&wrong),
        words::<Creator>(&wrong),
        words::<Recovery>(&wrong),
        words::<ExitCode>(&wrong),
        words::<WhyAdded>(&wrong),
        words::<Can>(&wrong),
        words::<Speed>(&wrong),
        words::<Profile>(&wrong),
        words::<ControllerType>(&wrong),
    ];
    for word in all.iter().flatten() {
        let nested = ["reason.", ""].map(|before| format!("{before}{word}"));
        assert!(nested.iter().any(|it| page.has_word(it)), "docs/json.md lacks `{word}`");
    }
}

#[test]
fn selectors_and_addresses_are_read_back() {
    for selector in ["0781:5581", "0781:5581:4C53", "1-4.2", "001.004", "pci-0000:00:14.0-usb-0:4"]
    {
        round_trip(&parse::<Selector>(selector));
    }
    round_trip(&address(4095, "1.2.3.4"));
}
