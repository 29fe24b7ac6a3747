//! The daemon's decisions: what is to be done, given what is known. It uses no clock, socket or
//! file.
//!
//! ```text
//!   devices, guests, records, rules ──▶ Reconciler ──▶ work: one at a time for each domain
//!                         results ─────▶    │
//!                                           └─────────▶ when to ask again, if nothing happens before
//! ```
//!
//! Level-triggered: an input replaces what was known, and a pass compares what is wanted with what
//! was done. So it does not matter how often an event comes, or whether some are lost, as long as
//! the last state arrives.
//!
//! ```text
//!   wanted and new ──▶ due ──▶ running ──┬─▶ done      until the device or the guest comes again
//!                       ▲                └─▶ failed
//!                       └── 0.2 s, 0.4 s … 60 s ┘          (and up to a quarter more)
//! ```
//!
//! A device that is plugged in again has another address, and is a new device here. Its failures
//! are forgotten, and it no longer counts as detached by hand.
//!
//! Time is a [`Duration`] since any fixed moment, so that tests need no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vusb::AssignedDomain;
use vusb::model::rules::{At, DeviceFacts, Domain, Effect, Recorded, RuleName, RuleSet, effect};
use vusb::model::selector::{BusAddress, BusId};

/// The first wait after a failure. It doubles with each further failure.
pub const FIRST_RETRY_WAIT: Duration = Duration::from_millis(200);

/// The longest wait after a failure. Up to a quarter of each wait is added to it.
pub const MAX_RETRY_WAIT: Duration = Duration::from_secs(60);

/// After this many failures in a row, a device counts as failing.
pub const FAILING_AFTER: u32 = 3;

/// The states of a device. `held` means that it was detached by hand.
pub const STATES: [&str; 7] =
    ["attached", "attaching", "failing", "held", "asking", "denied", "unused"];

/// One time that a device is plugged in. The kernel gives it another address each time.
pub type Plug = BusAddress;

/// A device that is plugged in and ready to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// Identifies the device while it is plugged in.
    pub plug: Plug,
    /// Its port.
    pub port: BusId,
    /// What rules can match, except for the records.
    pub facts: DeviceFacts,
}

/// A part of a domain. Each part is brought to its wanted state on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The controllers, and the devices that are not devices of this machine.
    Emulated,
    /// A device of this machine.
    Device(Plug),
}

/// Something to be done with a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The domain's address.
    pub domain: String,
    /// What it is about.
    pub part: Part,
    /// What to do.
    pub task: Task,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Restore these devices of the record, and the controllers.
    Restore {
        /// Their names in the domain.
        devices: BTreeSet<String>,
    },
    /// Attach a device because a rule says so.
    Attach {
        /// The device.
        plug: Plug,
        /// The rule.
        rule: RuleName,
        /// Where it goes in the guest.
        at: Option<At>,
    },
}

/// The progress of a piece of work that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// To be done at this time.
    Due { at: Duration, failures: u32 },
    /// Under way.
    Running { failures: u32 },
    /// Done.
    Done,
}

/// A piece of work that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    task: Task,
    progress: Progress,
}

/// An entry for the log: what happened to a device, to a guest or to a worker's task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A device needs an answer: which of these domains gets it.
    Question {
        /// The device.
        plug: Plug,
        /// Its port.
        port: BusId,
        /// The domains.
        domains: Vec<String>,
        /// The rules.
        rules: Vec<RuleName>,
        /// Whether rules of equal rank contradict each other.
        conflict: bool,
    },
    /// A rule or a record attaches a device, or a rule asks about it, but other rules deny it.
    Denied {
        /// The device.
        plug: Plug,
        /// Its port.
        port: BusId,
        /// The rules that deny it.
        rules: Vec<RuleName>,
    },
    /// A person has detached a device: it stays detached until it is plugged in again, or the guest
    /// is started again.
    Held {
        /// The domain's address.
        domain: String,
        /// The device.
        plug: Plug,
        /// Its port.
        port: BusId,
    },
    /// A guest runs without a device that it requires: the device is not plugged in.
    RequiredAbsent {
        /// The domain's address.
        domain: String,
        /// The name of the device in the domain.
        device: String,
    },
    /// A piece of work has failed several times in a row. It is still retried.
    Failing {
        /// The domain's address.
        domain: String,
        /// What it is about.
        part: Part,
    },
}

/// The state of the machine as far as it is known, and what is to be done.
#[derive(Clone, Debug, Default)]
pub struct Reconciler {
    devices: BTreeMap<Plug, Plugged>,
    records: BTreeMap<String, AssignedDomain>,
    /// The guests that run, with a number that differs for each start.
    guests: BTreeMap<String, u64>,
    starts: u64,
    /// The names of guests, by address, that other tools gave them.
    names: BTreeMap<String, String>,
    rules: RuleSet,
    jobs: BTreeMap<(String, Part), Job>,
    /// The devices that are attached as far as is known, with their domains.
    attached: BTreeMap<Plug, String>,
    held: BTreeSet<(String, Plug)>,
    /// The devices that were detached by hand before the daemon started, with domains whose guests
    /// are not known to run yet.
    held_before: BTreeSet<(String, Plug)>,
    /// The effect of the rules on each device, with the domains that a person gave the device to.
    /// Kept until the device, the rules or the domains change.
    effects: BTreeMap<Plug, (Vec<Recorded>, Effect)>,
    /// The domains for which `effects` was computed.
    domains: Vec<Domain>,
    /// The devices that guests require and that are not plugged in, with the domains.
    absent: BTreeSet<(String, String)>,
    /// What was last noted about each device.
    noted: BTreeMap<Plug, Note>,
    notes: Vec<Note>,
    /// Whether an input has changed since the last pass.
    changed: bool,
}

impl Reconciler {
    /// The devices that are plugged in now.
    pub fn set_devices(&mut self, devices: Vec<Plugged>) {
        let devices: BTreeMap<Plug, Plugged> =
            devices.into_iter().map(|it| (it.plug, it)).collect();
        if devices == self.devices {
            return;
        }
        self.effects.retain(|plug, _| self.devices.get(plug) == devices.get(plug));
        (self.devices, self.changed) = (devices, true);
        self.held.retain(|(_, plug)| self.devices.contains_key(plug));
        self.held_before.retain(|(_, plug)| self.devices.contains_key(plug));
        self.attached.retain(|plug, _| self.devices.contains_key(plug));
        self.noted.retain(|plug, _| self.devices.contains_key(plug));
    }

    /// The records of all domains now. They have to be read after the devices, and after the work
    /// whose end was reported to [`finished`](Reconciler::finished).
    pub fn set_records(&mut self, records: Vec<AssignedDomain>) {
        let records: BTreeMap<String, AssignedDomain> =
            records.into_iter().map(|it| (it.address.clone(), it)).collect();
        self.changed |= records != self.records;
        let before = std::mem::replace(&mut self.records, records);
        let has = |domain: &String, plug: Plug| {
            self.records.get(domain).is_some_and(|record| lists(record, plug))
        };
        // Only a person takes a device from a record while the device and the guest are there.
        let attached = self.attached.iter().map(|(plug, domain)| (domain.clone(), *plug));
        let running = before.values().filter(|it| self.guests.contains_key(&it.address));
        let recorded = running.flat_map(|record| {
            let plugs = record.devices.iter().filter_map(|it| it.what.bus_address());
            plugs.map(|plug| (record.address.clone(), plug))
        });
        let had: BTreeSet<(String, Plug)> = attached.chain(recorded).collect();
        let taken = had.into_iter().filter(|(domain, plug)| !has(domain, *plug));
        let taken: Vec<(String, Plug)> = taken.collect();
        // A device that a person gives back to the domain is no longer held.
        self.held.retain(|(domain, plug)| !has(domain, *plug));
        for (domain, plug) in taken {
            self.attached.retain(|it, of| *it != plug || *of != domain);
            // If a rule attaches the device again, that is new work.
            self.jobs.remove(&(domain.clone(), Part::Device(plug)));
            let Some(device) = self.devices.get(&plug) else { continue };
            self.changed = true;
            let port = device.port.clone();
            self.notes.push(Note::Held { domain: domain.clone(), plug, port });
            self.held.insert((domain, plug));
        }
    }

    /// The names that other tools gave the guests that run, by address. Rules can use them for
    /// guests without a record.
    pub fn set_names(&mut self, names: BTreeMap<String, String>) {
        self.changed |= names != self.names;
        self.names = names;
    }

    /// The addresses of the domains that have a record.
    pub fn recorded_domains(&self) -> impl Iterator<Item = &str> {
        self.records.keys().map(String::as_str)
    }

    /// The rules in force.
    pub fn set_rules(&mut self, rules: RuleSet) {
        if rules != self.rules {
            self.effects.clear();
            self.changed = true;
        }
        self.rules = rules;
    }

    /// A guest has started, or is found running.
    pub fn guest_started(&mut self, domain: &str) {
        self.starts += 1;
        self.changed = true;
        self.guests.insert(domain.to_owned(), self.starts);
        self.forget(domain);
        let mut before = std::mem::take(&mut self.held_before);
        self.held.extend(before.iter().filter(|(it, _)| it == domain).cloned());
        before.retain(|(it, _)| it != domain);
        self.held_before = before;
    }

    /// A guest has ended.
    pub fn guest_ended(&mut self, domain: &str) {
        self.changed = true;
        self.guests.remove(domain);
        self.forget(domain);
    }

    /// The guests that run now. A guest that already ran does not count as started again.
    pub fn set_guests(&mut self, running: &BTreeSet<String>) {
        let ended: Vec<String> =
            self.guests.keys().filter(|it| !running.contains(*it)).cloned().collect();
        ended.iter().for_each(|it| self.guest_ended(it));
        let started = running.iter().filter(|it| !self.guests.contains_key(*it));
        let started: Vec<String> = started.cloned().collect();
        started.iter().for_each(|it| self.guest_started(it));
    }

    /// Devices that were detached by hand may come back: those of one domain, or of all.
    pub fn resume(&mut self, domain: Option<&str>) {
        self.changed = true;
        self.held.retain(|(it, _)| domain.is_some_and(|domain| it != domain));
        self.held_before.retain(|(it, _)| domain.is_some_and(|domain| it != domain));
    }

    /// The ports of the devices that stay detached until [`resume`](Reconciler::resume) is called
    /// for this domain, or for all.
    pub fn held_ports(&self, domain: Option<&str>) -> Vec<BusId> {
        let held = self.held();
        let held = held.iter().filter(|(it, _)| domain.is_none_or(|domain| it == domain));
        let ports = held.filter_map(|(_, plug)| Some(self.devices.get(plug)?.port.clone()));
        ports.collect::<BTreeSet<BusId>>().into_iter().collect()
    }

    /// The devices that stay detached, with their domains: for the next start of the daemon too.
    pub fn held(&self) -> BTreeSet<(String, Plug)> {
        self.held.union(&self.held_before).cloned().collect()
    }

    /// The devices that stayed detached when the daemon ended. To be called before devices and
    /// guests are known. A restart of a guest in the meantime goes unnoticed.
    pub fn set_held_before(&mut self, held: BTreeSet<(String, Plug)>) {
        self.held_before = held;
    }

    /// The state of each device: one of [`STATES`].
    pub fn states(&self) -> BTreeMap<Plug, &'static str> {
        let of_device = |(key, job): (&(String, Part), &Job)| match (key.1, &job.progress) {
            (Part::Device(plug), Progress::Due { failures, .. }) if *failures >= FAILING_AFTER => {
                Some((plug, "failing"))
            }
            (Part::Device(plug), Progress::Due { .. } | Progress::Running { .. }) => {
                Some((plug, "attaching"))
            }
            _ => None,
        };
        let at_work: BTreeMap<Plug, &str> = self.jobs.iter().filter_map(of_device).collect();
        let held: BTreeSet<Plug> = self.held.iter().map(|(_, plug)| *plug).collect();
        let state_of = |plug: &Plug| {
            let state = match (at_work.get(plug), self.noted.get(plug)) {
                _ if self.attached.contains_key(plug) => "attached",
                (Some(state), _) => state,
                _ if held.contains(plug) => "held",
                (None, Some(Note::Question { .. })) => "asking",
                (None, Some(Note::Denied { .. })) => "denied",
                _ => "unused",
            };
            (*plug, state)
        };
        self.devices.keys().map(state_of).collect()
    }

    /// How many devices are required by guests that run, and not plugged in.
    pub fn required_absent(&self) -> usize {
        self.absent.len()
    }

    /// How many guests run.
    pub fn guests(&self) -> usize {
        self.guests.len()
    }

    /// What happened since the last call, for the log.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Work that is finished. The result has no effect if the guest has ended in the meantime.
    pub fn finished(&mut self, work: &Work, succeeded: bool, now: Duration) {
        let key = (work.domain.clone(), work.part);
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let Progress::Running { failures } = job.progress else { return };
        // The work may be obsolete by now, or the device may be free for another domain.
        self.changed = true;
        if succeeded {
            job.progress = Progress::Done;
            if let Part::Device(plug) = work.part {
                self.attached.insert(plug, work.domain.clone());
            }
            return;
        }
        let failures = failures.saturating_add(1);
        let at = now + retry_after(failures, &key);
        job.progress = Progress::Due { at, failures };
        if failures == FAILING_AFTER {
            self.notes.push(Note::Failing { domain: work.domain.clone(), part: work.part });
        }
    }

    /// Records that a device is attached to this domain, given by its address or name. The daemon
    /// learns it because work for another domain has failed. Its own work may not have reported it,
    /// for instance because the guest was restarted while that work was under way. The device stays
    /// where it is.
    pub fn found_attached(&mut self, plug: Plug, domain: &str) {
        let named = self.records.values().find(|it| it.name == domain);
        let address = named.map_or(domain, |it| it.address.as_str());
        if self.guests.contains_key(address) && self.devices.contains_key(&plug) {
            self.attached.insert(plug, address.to_owned());
            self.changed = true;
        }
    }

    /// The work to begin now, of at most `limit` domains: one for each domain that is not in
    /// `busy`. It counts as under way until [`finished`](Reconciler::finished).
    pub fn begin(&mut self, now: Duration, busy: &BTreeSet<String>, limit: usize) -> Vec<Work> {
        self.pass(now);
        let mut begun: BTreeMap<String, (Duration, Part)> = BTreeMap::new();
        for ((domain, part), job) in &self.jobs {
            let Progress::Due { at, .. } = job.progress else { continue };
            if at > now || busy.contains(domain) {
                continue;
            }
            let first = begun.entry(domain.clone()).or_insert((at, *part));
            *first = (*first).min((at, *part));
        }
        // Work begins in the order in which it is due, so that none of it waits forever.
        let mut begun: Vec<_> = begun.into_iter().map(|(it, (at, part))| (at, it, part)).collect();
        begun.sort();
        begun.truncate(limit);
        let mut work = Vec::new();
        for (_, domain, part) in begun {
            let Some(job) = self.jobs.get_mut(&(domain.clone(), part)) else { continue };
            if let Progress::Due { failures, .. } = job.progress {
                job.progress = Progress::Running { failures };
                work.push(Work { domain, part, task: job.task.clone() });
            }
        }
        work
    }

    /// When [`begin`](Reconciler::begin) has to be called even if nothing happens. `None`: never.
    pub fn next_wake(&self, busy: &BTreeSet<String>) -> Option<Duration> {
        let due = self.jobs.iter().filter_map(|((domain, _), job)| match job.progress {
            Progress::Due { at, .. } if !busy.contains(domain) => Some(at),
            _ => None,
        });
        due.min()
    }

    /// Compares what is wanted with what was done.
    fn pass(&mut self, now: Duration) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.note_required();
        let wanted = self.wanted();
        // Work under way is kept until it has finished, even if it is no longer wanted.
        let keep = |key: &(String, Part), job: &Job| {
            wanted.contains_key(key) || matches!(job.progress, Progress::Running { .. })
        };
        self.jobs.retain(|key, job| keep(key, job));
        for (key, task) in wanted {
            let new =
                || Job { task: task.clone(), progress: Progress::Due { at: now, failures: 0 } };
            let job = self.jobs.entry(key).or_insert_with(new);
            if !matches!(job.progress, Progress::Running { .. }) {
                // The rule or the place may have changed. A device that is attached stays where it
                // is.
                job.task = task;
            }
        }
    }

    /// Notes each required device that a running guest lacks, once until the device is plugged in
    /// or the guest ends.
    fn note_required(&mut self) {
        let running = self.records.values().filter(|it| self.guests.contains_key(&it.address));
        let absent = running.flat_map(|record| {
            let is = |it: &&vusb::Assignment| it.required && it.what == vusb::Assigned::Absent;
            let devices = record.devices.iter().filter(is);
            devices.map(|it| (record.address.clone(), it.device.to_string()))
        });
        let absent: BTreeSet<(String, String)> = absent.collect();
        for (domain, device) in absent.difference(&self.absent).cloned() {
            self.notes.push(Note::RequiredAbsent { domain, device });
        }
        self.absent = absent;
    }

    /// Everything that is wanted, by domain and part.
    fn wanted(&mut self) -> BTreeMap<(String, Part), Task> {
        let mut wanted = BTreeMap::new();
        for record in self.records.values().filter(|it| self.guests.contains_key(&it.address)) {
            let others = record.devices.iter();
            let others = others.filter(|it| it.what == vusb::Assigned::Other);
            // This is wanted even without a device, because the record may have controllers.
            let devices: BTreeSet<String> = others.map(|it| it.device.to_string()).collect();
            let key = (record.address.clone(), Part::Emulated);
            wanted.insert(key, Task::Restore { devices });
        }
        self.update_effects();
        let running = self.being_attached();
        let mut by_rule: BTreeMap<RuleName, u32> = BTreeMap::new();
        for plug in self.in_order() {
            let Some((_, effect)) = self.effects.get(&plug) else { continue };
            let effect = effect.clone();
            self.note(plug, &effect);
            let Effect::Attach { domain, rule, at, max } = effect else { continue };
            let Some(address) = self.address_of(&domain) else { continue };
            let is_held = self.held.contains(&(address.clone(), plug));
            let is_elsewhere = self.attached.get(&plug).is_some_and(|it| *it != address)
                || running.iter().any(|(it, to)| *it == plug && *to != address);
            if is_held || is_elsewhere {
                continue;
            }
            let count = by_rule.entry(rule.clone()).or_default();
            if max.is_some_and(|max| *count >= max) {
                continue;
            }
            *count += 1;
            let task = self.task(&address, plug, rule, at);
            wanted.insert((address, Part::Device(plug)), task);
        }
        wanted
    }

    /// The devices, beginning with those that are attached: `max` counts these first.
    fn in_order(&self) -> Vec<Plug> {
        let mut devices: Vec<&Plugged> = self.devices.values().collect();
        let order = |it: &&Plugged| !self.attached.contains_key(&it.plug);
        devices.sort_by(|a, b| (order(a), &a.port).cmp(&(order(b), &b.port)));
        devices.into_iter().map(|it| it.plug).collect()
    }

    /// Computes the effects of the rules on the devices, where these may have changed. With many
    /// devices and domains, this takes longer than the rest of a pass.
    fn update_effects(&mut self) {
        let domains = self.domains();
        if domains != self.domains {
            self.effects.clear();
            self.domains = domains;
        }
        let mut by_hand = self.given_by_hand();
        for device in self.devices.values() {
            let recorded = by_hand.remove(&device.plug).unwrap_or_default();
            if self.effects.get(&device.plug).is_some_and(|(known, _)| *known == recorded) {
                continue;
            }
            let facts = DeviceFacts { recorded: recorded.clone(), ..device.facts.clone() };
            let effect = effect(&facts, &self.rules, &self.domains);
            self.effects.insert(device.plug, (recorded, effect));
        }
    }

    /// The domains that were given each device by hand.
    fn given_by_hand(&self) -> BTreeMap<Plug, Vec<Recorded>> {
        let mut given: BTreeMap<Plug, Vec<Recorded>> = BTreeMap::new();
        for record in self.records.values() {
            let by_hand = record.devices.iter().filter(|it| !it.by_rule);
            let plugs: BTreeSet<Plug> = by_hand.filter_map(|it| it.what.bus_address()).collect();
            for plug in plugs {
                given.entry(plug).or_default().push(Recorded { domain: record.address.clone() });
            }
        }
        given
    }

    /// The devices that are being attached, with the addresses of their domains.
    fn being_attached(&self) -> Vec<(Plug, String)> {
        let is_running = |(key, job): (&(String, Part), &Job)| match (key.1, &job.progress) {
            (Part::Device(plug), Progress::Running { .. }) => Some((plug, key.0.clone())),
            _ => None,
        };
        self.jobs.iter().filter_map(is_running).collect()
    }

    /// Restores the device if the record has it, and attaches it otherwise.
    fn task(&self, address: &str, plug: Plug, rule: RuleName, at: Option<At>) -> Task {
        let record = self.records.get(address);
        let entry =
            record.and_then(|it| it.devices.iter().find(|it| it.what.bus_address() == Some(plug)));
        match entry {
            Some(entry) => Task::Restore { devices: BTreeSet::from([entry.device.to_string()]) },
            None => Task::Attach { plug, rule, at },
        }
    }

    /// Notes a question or a denial, once until it changes or the device is unplugged.
    fn note(&mut self, plug: Plug, effect: &Effect) {
        if matches!(effect, Effect::Nothing | Effect::Attach { .. }) {
            self.noted.remove(&plug);
            return;
        }
        let Some(port) = self.devices.get(&plug).map(|it| it.port.clone()) else { return };
        let note = match effect.clone() {
            Effect::Ask { domains, rules } => {
                Note::Question { plug, port, domains, rules, conflict: false }
            }
            Effect::Conflict { domains, rules } => {
                Note::Question { plug, port, domains, rules, conflict: true }
            }
            Effect::Denied { rules, .. } => Note::Denied { plug, port, rules },
            Effect::Nothing | Effect::Attach { .. } => return,
        };
        if self.noted.get(&plug) != Some(&note) {
            self.notes.push(note.clone());
            self.noted.insert(plug, note);
        }
    }

    /// The domains that have a record, and the guests that run without one. Addresses are unique,
    /// so they serve as names. A rule may also use the name of a record, or the name that another
    /// tool gave the guest.
    fn domains(&self) -> Vec<Domain> {
        let recorded = self.records.values();
        let recorded =
            recorded.map(|it| Domain { name: it.address.clone(), address: Some(it.name.clone()) });
        let others = self.guests.keys().filter(|it| !self.records.contains_key(*it));
        let others =
            others.map(|it| Domain { name: it.clone(), address: self.names.get(it).cloned() });
        recorded.chain(others).collect()
    }

    /// The address of a domain; `None` if its guest does not run.
    fn address_of(&self, domain: &str) -> Option<String> {
        self.guests.contains_key(domain).then(|| domain.to_owned())
    }

    /// Forgets what was done for a guest, because it has ended or started again.
    fn forget(&mut self, domain: &str) {
        self.jobs.retain(|(it, _), _| it != domain);
        self.attached.retain(|_, it| it != domain);
        self.held.retain(|(it, _)| it != domain);
    }
}

/// Whether the domain has this device according to its record: given by vusb, or attached by
/// another tool. vusb attaches some devices through the tool that manages the guest.
fn lists(record: &AssignedDomain, plug: Plug) -> bool {
    let given = record.devices.iter().map(|it| &it.what);
    given.chain(&record.others).any(|it| it.bus_address() == Some(plug))
}

/// How long to wait after this many failures in a row: doubled each time up to the maximum, and up
/// to a quarter longer, so that devices that failed together are not retried together.
fn retry_after(failures: u32, key: &(String, Part)) -> Duration {
    let doubled = FIRST_RETRY_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let base = doubled.min(MAX_RETRY_WAIT);
    // FNV-1a. The same device waits the same time in each run, so that a test can repeat a run.
    let text = format!("{key:?} {failures}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let quarter = base / 4;
    let part = u32::try_from(hash >> 48).unwrap_or(0);
    (base + quarter * part / 65_536).min(MAX_RETRY_WAIT + MAX_RETRY_WAIT / 4)
}
