//! What long-running programs rely on: threads, limits, cancellation, progress.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use vusb::drivers::Driver;
use vusb::model::spec::DeviceSpec;
use vusb::view::{Can, HostDeviceView};
use vusb::{
    Cancel, Context, DomainAddress, Error, ExitCode, GuestConfig, GuestEvent, Observer, Options,
    Outcome, Progress, WatchOptions,
};

use crate::sandbox::{Sandbox, model, texts};

#[test]
fn everything_can_be_sent_and_shared() {
    fn send<T: Send>() {}
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Context>();
    shared::<Options>();
    shared::<GuestConfig>();
    send::<Outcome>();
    send::<Error>();
    send::<Box<dyn Driver>>();
}

#[test]
fn sixty_four_threads_on_one_domain_all_succeed() {
    let sandbox = Sandbox::new();
    let (context, web) = (sandbox.vusb().context, sandbox.guest("web"));
    let options = Options { wait: Duration::from_secs(60), ..Options::default() };
    std::thread::scope(|scope| {
        let add = |_| {
            scope.spawn(|| {
                let mouse = DeviceSpec::new("mouse".parse().unwrap());
                context.device_add(&web, &mouse, &options).map(|it| it.chosen.unwrap().location)
            })
        };
        let threads: Vec<_> = (0..64).map(add).collect();
        let mut all: Vec<String> =
            threads.into_iter().map(|it| it.join().unwrap().unwrap()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 64, "each has a port of its own");
    });
    let view = sandbox.vusb().list(&web).unwrap();
    assert_eq!(view.into_devices().devices.len(), 64);
}

/// Records the progress. After each step it waits and cancels the call, as configured. When a step
/// begins, it edits a file.
#[derive(Debug, Default)]
struct Watcher {
    events: Mutex<Vec<String>>,
    cancel: Option<Cancel>,
    /// Until when it waits.
    until: Option<Instant>,
    /// The file that it edits.
    edits: Option<PathBuf>,
}

impl Observer for Watcher {
    fn progress(&self, progress: &Progress<'_>) {
        let mut events = self.events.lock().unwrap();
        match progress {
            Progress::StepBegins { step, undo } => {
                events.push(format!("{}begin {step}", if *undo { "undo: " } else { "" }));
                if let Some(path) = &self.edits {
                    let text = fs::read_to_string(path).unwrap();
                    fs::write(path, text + "# edited\n").unwrap();
                }
            }
            Progress::StepEnds { step, undo, error } => {
                let end = if error.is_some() { "fail" } else { "end" };
                events.push(format!("{}{end} {step}", if *undo { "undo: " } else { "" }));
                if !undo {
                    let left = self.until.map(|it| it.saturating_duration_since(Instant::now()));
                    std::thread::sleep(left.unwrap_or_default());
                    self.cancel.iter().for_each(Cancel::cancel);
                }
            }
            _ => {}
        }
    }
}

/// Adds a tablet, which takes two steps, and returns what the watcher was told.
fn watched(
    sandbox: &Sandbox,
    watcher: Watcher,
    options: Options,
) -> (Result<Outcome, Error>, Vec<String>) {
    watched_on(&sandbox.guest("web"), sandbox, watcher, options)
}

fn watched_on(
    domain: &DomainAddress,
    sandbox: &Sandbox,
    watcher: Watcher,
    options: Options,
) -> (Result<Outcome, Error>, Vec<String>) {
    let watcher = Arc::new(watcher);
    let observer: Arc<dyn Observer> = watcher.clone();
    let vusb = sandbox.vusb();
    let cancel = watcher.cancel.clone().unwrap_or_default();
    let vusb = vusb.with_options(Options { observer: Some(observer), cancel, ..options });
    let added = vusb.device_add(domain, &DeviceSpec::new("tablet".parse().unwrap()));
    let events = watcher.events.lock().unwrap().clone();
    (added, events)
}

const CONTROLLER: &str = "add controller hci0 (qemu-xhci, 15 ports, index 0)";
const TABLET: &str = "plug tablet0 (tablet) into 0:1";

#[test]
fn an_observer_sees_every_step_begin_and_end() {
    let sandbox = Sandbox::new();
    let (added, events) = watched(&sandbox, Watcher::default(), sandbox.vusb().options);
    added.unwrap();
    let expected = [
        format!("begin {CONTROLLER}"),
        format!("end {CONTROLLER}"),
        format!("begin {TABLET}"),
        format!("end {TABLET}"),
    ];
    assert_eq!(events, expected);
}

#[test]
fn an_observer_sees_failures_and_undone_steps() {
    let sandbox = Sandbox::new();
    sandbox.faults("web", &[("plug tablet", "fail")]);
    let (added, events) = watched(&sandbox, Watcher::default(), sandbox.vusb().options);
    added.unwrap_err();
    let removal = CONTROLLER.replacen("add", "remove", 1);
    let expected = [
        format!("begin {CONTROLLER}"),
        format!("end {CONTROLLER}"),
        format!("begin {TABLET}"),
        format!("fail {TABLET}"),
        format!("undo: begin {removal}"),
        format!("undo: end {removal}"),
    ];
    assert_eq!(events, expected);
}

/// The steps of a file are one edit: all of them begin before it, and end after it.
#[test]
fn an_observer_sees_the_steps_of_a_config_file() {
    let sandbox = Sandbox::new();
    let path = sandbox.file("web.toml", "domain = \"web\"\n");
    let file = sandbox.vusb().domain(path.to_str().unwrap()).unwrap();
    let options = sandbox.vusb().options;
    let events = |end: &str| {
        let step = |word: &str, step: &str| format!("{word} {step}");
        [step("begin", CONTROLLER), step("begin", TABLET), step(end, CONTROLLER), step(end, TABLET)]
    };

    // The file is not replaced if another program has changed it since it was read.
    let editor = Watcher { edits: Some(path.clone()), ..Watcher::default() };
    let (failed, seen) = watched_on(&file, &sandbox, editor, options.clone());
    failed.unwrap_err();
    assert_eq!(seen, events("fail"));
    assert!(!fs::read_to_string(&path).unwrap().contains("tablet"));

    let (added, seen) = watched_on(&file, &sandbox, Watcher::default(), options.clone());
    added.unwrap();
    assert_eq!(seen, events("end"));
    assert!(fs::read_to_string(&path).unwrap().contains("tablet"));

    // Nothing begins in a dry run.
    let dry = Options { dry_run: true, ..options };
    let (planned, seen) = watched_on(&file, &sandbox, Watcher::default(), dry);
    assert_eq!(planned.unwrap().steps.len(), 1);
    assert_eq!(seen, [""; 0]);
}

#[test]
fn a_cancelled_call_finishes_its_step_and_undoes_the_earlier_ones() {
    let sandbox = Sandbox::new();
    let watcher = Watcher { cancel: Some(Cancel::default()), ..Watcher::default() };
    let (added, _) = watched(&sandbox, watcher, sandbox.vusb().options);
    let error = added.unwrap_err();
    let Error::Failed { cause, undone, .. } = &error else { panic!("{error}") };
    assert!(matches!(**cause, Error::Cancelled), "{error}");
    assert_eq!(undone.len(), 1);
    assert_eq!(sandbox.shows("web"), "");
    // The next call does not continue what was cancelled.
    let outcome = sandbox.add("web", "mouse").unwrap();
    assert_eq!(sandbox.shows("web"), "hci0[1 mouse0 attached]");
    assert!(!texts(&outcome.notes).join("; ").contains("interrupted"), "{:?}", outcome.notes);
}

#[test]
fn a_deadline_bounds_the_whole_call_but_not_the_undo() {
    let sandbox = Sandbox::new();
    // The first step has to end before the deadline, also on a busy machine.
    let deadline = Some(Instant::now() + Duration::from_secs(2));
    let watcher = Watcher { until: deadline, ..Watcher::default() };
    let options = Options { deadline, ..sandbox.vusb().options };
    let (added, events) = watched(&sandbox, watcher, options);
    let error = added.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::TimedOut, "{error}");
    let Error::Failed { cause, undone, not_undone, .. } = &error else { panic!("{error}") };
    assert!(matches!(**cause, Error::DeadlineExceeded), "{error}");
    assert_eq!((undone.len(), not_undone.len()), (1, 0));
    assert!(events.last().unwrap().starts_with("undo: end remove"), "{events:?}");
    assert_eq!(sandbox.shows("web"), "");
}

#[test]
fn a_spec_can_be_a_text_or_a_value() {
    let sandbox = Sandbox::new();
    let vusb = sandbox.vusb();
    let format = vusb.context.registry().formats().named("vusb").unwrap();
    let text = "domain = \"web\"\ndriver = \"sim:web.sim\"\n[[device]]\nkind = \"tablet\"";
    let config = GuestConfig::parse(text, format.clone(), sandbox.path(), "a text").unwrap();
    assert_eq!(vusb.apply(&config).unwrap().steps.len(), 2);
    let driver = Some("sim:web.sim".to_owned());
    let config = GuestConfig::from_spec(config.spec().clone(), driver, format, sandbox.path());
    assert!(vusb.apply(&config).unwrap().already);
    let format = config.format().clone();
    let error = GuestConfig::parse("usb = 4", format, sandbox.path(), "a text").unwrap_err();
    assert!(error.to_string().contains("a text:1:1"), "{error}");
}

#[test]
fn a_damaged_record_affects_only_its_own_domain() {
    let sandbox = Sandbox::new();
    sandbox.file("a.img", "");
    sandbox.file("b.img", "");
    sandbox.add("web", "storage:a.img").unwrap();
    fs::write(sandbox.records().remove(0), "{").unwrap();
    sandbox.add("mail", "storage:b.img").unwrap();
    // A device that the damaged record claims is not attached to another domain.
    let error = sandbox.add("mail", "storage:a.img").unwrap_err();
    assert!(matches!(error, Error::Record { .. }), "{error}");
}

#[test]
fn two_addresses_of_one_guest_have_one_record() {
    let sandbox = Sandbox::new();
    sandbox.set("web", "identity", "guest 1".into());
    sandbox.set("alias", "identity", "guest 1".into());
    sandbox.add("web", "tablet").unwrap();
    // The file of the other address has no hardware: what is recorded for the guest is missing
    // there.
    assert_eq!(sandbox.shows("alias"), "hci0 missing[1 tablet0 missing]");
    sandbox.vusb().restore(&sandbox.guest("alias")).unwrap();
    assert_eq!(sandbox.shows("alias"), "hci0[1 tablet0 attached]");
    assert_eq!(sandbox.records().len(), 1);
}

#[test]
fn guests_are_watched_by_scheme() {
    let sandbox = Sandbox::new();
    let context = sandbox.vusb().context;
    let folders = WatchOptions { folders: vec![sandbox.at("guests")], ..WatchOptions::default() };
    let mut watch = context.watch("sim", &folders).unwrap();
    assert_eq!(watch.running().unwrap(), [""; 0]);
    fs::create_dir(sandbox.at("guests")).unwrap();
    let path = sandbox.file("guests/web.sim", r#"{"sim": 1}"#);
    let guest = context.domain(&format!("sim:{}", path.display()), &Options::default()).unwrap();
    let started = GuestEvent::Started(guest.operand().to_owned());
    assert_eq!(watch.wait(Duration::from_secs(20)).unwrap(), [started]);

    for (scheme, options) in
        [("sim", WatchOptions::default()), ("file", folders.clone()), ("other", folders)]
    {
        let error = context.watch(scheme, &options).err().unwrap();
        assert!(matches!(error, Error::NotWatchable { .. }), "{error}");
        assert_eq!(error.exit_code(), ExitCode::NotImplemented);
    }
}

#[test]
fn addresses_can_be_sorted_and_used_as_keys() {
    let sandbox = Sandbox::new();
    let [mail, web] = ["mail", "web"].map(|name| sandbox.guest(name));
    assert!(mail < web && mail != web && mail == sandbox.guest("mail"));
    let sorted = BTreeSet::from([web.clone(), mail.clone(), sandbox.guest("web")]);
    assert_eq!(sorted.into_iter().collect::<Vec<_>>(), [mail.clone(), web.clone()]);
    let state = RandomState::new();
    assert_ne!(state.hash_one(&mail), state.hash_one(&web));
    let hashed = HashSet::from([mail.clone(), sandbox.guest("mail")]);
    assert!(hashed.len() == 1 && hashed.contains(&mail) && !hashed.contains(&web));
}

#[test]
fn an_outcome_names_what_was_chosen_by_name_and_by_address() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.add("web", "tablet").unwrap();
    let chosen = outcome.chosen.unwrap();
    let (address, device) = outcome.hardware.devices().next().unwrap();
    assert_eq!((chosen.address(), &chosen.name), (Some(address), &device.name));
    let added = sandbox.vusb().controller_add(&sandbox.guest("web"), &model("nec-xhci")).unwrap();
    let chosen = added.chosen.unwrap();
    assert_eq!((chosen.address(), chosen.location.as_str()), (None, "hci1"));
}

#[test]
fn claims_can_be_in_another_folder() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let vusb = sandbox.vusb();
    let context = vusb.context.clone().with_claims_in(sandbox.at("claims"));
    let spec = DeviceSpec::new("1-4".parse().unwrap());
    context.device_add(&sandbox.guest("web"), &spec, &vusb.options).unwrap();
    assert_eq!(fs::read_dir(sandbox.at("claims")).unwrap().count(), 1);
    assert!(!sandbox.at("machine/run").exists());
}

#[test]
fn what_a_hypervisor_can_do_has_the_same_word_everywhere() {
    for can in [Can::Hot, Can::Cold, Can::No] {
        assert_eq!(json!(can), can.word());
    }
}

#[test]
fn a_device_of_a_list_is_matched_by_its_own_selectors() {
    let sandbox = Sandbox::new();
    sandbox.plug(4, "0781:5581", "A1");
    let view = sandbox.vusb().host_list().unwrap().devices.remove(0);
    let matches = |selector: &str| view.matches(&selector.parse().unwrap());
    for selector in ["0781:5581", "0781:5581:A1", "1-4", "001.014", "pci-0000:00:14.0-usb-0:4"] {
        assert!(matches(selector), "{selector}");
    }
    for selector in ["0781:5582", "0781:5581:A2", "1-5", "001.015", "pci-0000:00:14.0-usb-0:5"] {
        assert!(!matches(selector), "{selector}");
    }
    // Versions before `authorized` listed no other devices.
    let mut old = json!(view);
    old.as_object_mut().unwrap().remove("authorized");
    assert_eq!(serde_json::from_value::<HostDeviceView>(old).unwrap(), view);
}
