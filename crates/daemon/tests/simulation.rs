//! A simulated machine: devices that come and go, guests that start and end, people who attach and
//! detach, rules that change, work that fails, and a clock that only the test advances.
//!
//! After some hundred random steps, the faults end and everything that is due is done. Then each
//! device must be where the simplest reading of records and rules says. The library and the
//! hypervisors are [`World`]: what is attached, what is recorded, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vusb::model::rules::{
    Action, DeviceFacts, Domain, Effect, InterfacePattern, Match, Recorded, Rule, RuleSet, Targets,
    decide,
};
use vusb::model::selector::{BusAddress, UsbId};
use vusb::{Assigned, AssignedDomain, Assignment};
use vusb_daemon::reconcile::{Part, Plug, Plugged, Reconciler, Task, Work};

/// How many random steps are taken in all. In a debug build, a step takes about 30 µs.
const STEPS: u64 = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };

/// How many steps are taken before everything comes to rest.
const STEPS_PER_ROUND: u64 = 250;

const PORTS: u8 = 5;

/// For how many domains work may begin at a time: fewer than there are.
const LIMIT: usize = 2;

const DOMAINS: [&str; 3] = ["sim:a", "sim:b", "sim:c"];
const IDS: [u16; 3] = [0x5581, 0x0001, 0xc31c];

/// A generator of pseudo-random numbers (xorshift64*), so that a run can be repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let count = u64::try_from(all.len()).unwrap();
        (count > 0).then(|| all[usize::try_from(self.next(count)).unwrap()].clone())
    }
}

/// An entry of a record: the device is recognized by its port and product.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: String,
    port: u8,
    product: u16,
    by_rule: bool,
}

#[derive(Clone, Debug)]
struct Device {
    plug: Plug,
    product: u16,
}

/// The real state of the simulated machine.
#[derive(Default)]
struct World {
    plugs: u16,
    names: u32,
    devices: BTreeMap<u8, Device>,
    running: BTreeSet<String>,
    records: BTreeMap<String, Vec<Entry>>,
    attached: BTreeMap<Plug, String>,
    /// Detached by hand.
    held: BTreeSet<(String, Plug)>,
    rules: RuleSet,
}

impl World {
    fn facts(product: u16, port: u8) -> DeviceFacts {
        let class = if product == 0xc31c { 3 } else { 8 };
        DeviceFacts {
            id: Some(UsbId { vendor: 0x0781, product }),
            port: Some(format!("1-{port}").parse().unwrap()),
            interfaces: Some(vec![InterfacePattern::exact(class, 1, 1)]),
            text: Some(String::new()),
            ..DeviceFacts::default()
        }
    }

    fn plugged(&self) -> Vec<Plugged> {
        let one = |(port, device): (&u8, &Device)| Plugged {
            plug: device.plug,
            port: format!("1-{port}").parse().unwrap(),
            facts: World::facts(device.product, *port),
        };
        self.devices.iter().map(one).collect()
    }

    fn device_of(&self, entry: &Entry) -> Option<Plug> {
        let device = self.devices.get(&entry.port)?;
        (device.product == entry.product).then_some(device.plug)
    }

    fn assigned(&self) -> Vec<AssignedDomain> {
        let one = |(address, entries): (&String, &Vec<Entry>)| AssignedDomain {
            address: address.clone(),
            name: address.replace("sim:", ""),
            others: Vec::new(),
            devices: entries
                .iter()
                .map(|entry| Assignment {
                    device: entry.name.parse().unwrap(),
                    what: self.device_of(entry).map_or(Assigned::Absent, |plug| {
                        Assigned::Present { bus: plug.bus, address: plug.address }
                    }),
                    by_rule: entry.by_rule,
                    required: false,
                    identity: None,
                })
                .collect(),
        };
        self.records.iter().map(one).collect()
    }

    fn has(&self, domain: &str, plug: Plug) -> bool {
        let entries = self.records.get(domain).map(Vec::as_slice).unwrap_or_default();
        entries.iter().any(|it| self.device_of(it) == Some(plug))
    }

    fn unplug(&mut self, port: u8) {
        if let Some(device) = self.devices.remove(&port) {
            self.attached.remove(&device.plug);
            self.held.retain(|(_, plug)| *plug != device.plug);
        }
    }

    fn plug(&mut self, port: u8, product: u16) {
        self.unplug(port);
        self.plugs += 1;
        let address = u8::try_from(self.plugs % 127).unwrap() + 1;
        let plug = BusAddress { bus: self.plugs / 127 + 1, address };
        self.devices.insert(port, Device { plug, product });
    }

    fn stop(&mut self, domain: &str) {
        self.running.remove(domain);
        self.attached.retain(|_, it| it != domain);
        self.held.retain(|(it, _)| it != domain);
    }

    fn record(&mut self, domain: &str, plug: Plug, by_rule: bool) {
        let (port, device) = self.devices.iter().find(|(_, it)| it.plug == plug).unwrap();
        let (port, product) = (*port, device.product);
        self.names += 1;
        let entries = self.records.entry(domain.to_owned()).or_default();
        match entries.iter_mut().find(|it| it.port == port && it.product == product) {
            Some(entry) => entry.by_rule &= by_rule,
            None => {
                entries.push(Entry { name: format!("d{}", self.names), port, product, by_rule });
            }
        }
    }

    /// What the library does for a piece of work. `Err`: it is refused.
    fn carry_out(&mut self, work: &Work) -> Result<(), ()> {
        let Part::Device(plug) = work.part else { return Ok(()) };
        let is_there = self.devices.values().any(|it| it.plug == plug);
        let other = self.attached.get(&plug).is_some_and(|it| *it != work.domain);
        if !is_there || !self.running.contains(&work.domain) || other {
            return Err(());
        }
        match &work.task {
            Task::Restore { .. } if !self.has(&work.domain, plug) => return Err(()),
            Task::Restore { .. } => {}
            Task::Attach { .. } => self.record(&work.domain, plug, true),
        }
        self.attached.insert(plug, work.domain.clone());
        Ok(())
    }

    /// `vusb device add`, which refuses what is attached elsewhere.
    fn add_by_hand(&mut self, domain: &str, plug: Plug) {
        let other = self.attached.get(&plug).is_some_and(|it| it != domain);
        if self.running.contains(domain) && !other {
            self.record(domain, plug, false);
            self.attached.insert(plug, domain.to_owned());
            self.held.remove(&(domain.to_owned(), plug));
        }
    }

    /// `vusb device remove`.
    fn remove_by_hand(&mut self, domain: &str, plug: Plug) {
        let device = self.devices.iter().find(|(_, it)| it.plug == plug);
        let (port, product) = device.map(|(port, it)| (*port, it.product)).unwrap();
        if let Some(entries) = self.records.get_mut(domain) {
            entries.retain(|it| it.port != port || it.product != product);
        }
        self.attached.remove(&plug);
        self.held.insert((domain.to_owned(), plug));
    }

    /// The domain that should have a device, by the simplest reading of rules and records.
    fn wanted(&self, port: u8, device: &Device) -> Option<String> {
        let by_hand = |(_, entries): &(&String, &Vec<Entry>)| {
            entries.iter().any(|it| !it.by_rule && self.device_of(it) == Some(device.plug))
        };
        let recorded = self.records.iter().filter(by_hand);
        let recorded = recorded.map(|(it, _)| Recorded { domain: it.clone() }).collect();
        let facts = DeviceFacts { recorded, ..World::facts(device.product, port) };
        let domains =
            DOMAINS.map(|it| Domain { name: it.to_owned(), address: Some(it.replace("sim:", "")) });
        match decide(&facts, &self.rules, &domains).effect {
            Effect::Attach { domain, .. } => Some(domain),
            _ => None,
        }
    }
}

fn rules(number: u64) -> RuleSet {
    let rule = |name: &str, matches: Match, action: Action, is_final: bool| Rule {
        is_final,
        ..Rule::new(name.parse().unwrap(), matches, action)
    };
    let id = |text: &str| Match { id: vec![text.parse().unwrap()], ..Match::default() };
    let port = |text: &str| Match { port: vec![text.parse().unwrap()], ..Match::default() };
    let has = |text: &str| Match { has: vec![text.parse().unwrap()], ..Match::default() };
    let attach = |domain: &str| Action::Attach(domain.to_owned());
    let all = [
        rule("sticks", id("0781:5581"), attach("sim:a"), false),
        rule("port", port("1-3"), attach("b"), false),
        rule("keyboards", has("keyboard"), Action::Deny(Targets::any()), true),
        rule("others", has("storage"), attach("sim:c"), false),
        rule("ask", Match::default(), Action::Ask(Targets::any()), false),
    ];
    let chosen = all.into_iter().enumerate().filter(|(at, _)| number & (1 << at) != 0);
    RuleSet { rules: chosen.map(|(_, it)| it).collect(), ..RuleSet::default() }
}

/// The world, the daemon's view of it, and what is on its way between the two.
struct Simulation {
    random: Random,
    world: World,
    daemon: Reconciler,
    now: Duration,
    /// Work under way, by domain.
    under_way: BTreeMap<String, Work>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        Simulation {
            random: Random(seed | 1),
            world: World::default(),
            daemon: Reconciler::default(),
            now: Duration::ZERO,
            under_way: BTreeMap::new(),
        }
    }

    /// Delivers events, possibly several at once or one of them again.
    fn deliver(&mut self) {
        self.daemon.set_devices(self.world.plugged());
        self.daemon.set_records(self.world.assigned());
        self.daemon.set_guests(&self.world.running);
        let name = |it: &str| (it.to_owned(), it.replace("sim:", ""));
        self.daemon.set_names(DOMAINS.into_iter().map(name).collect());
        self.daemon.set_rules(self.world.rules.clone());
    }

    /// As after the end of a guest: the watch reports the end and the start one by one, however
    /// late, so a restart is never overlooked.
    fn stop(&mut self, domain: &str) {
        self.world.stop(domain);
        self.daemon.guest_ended(domain);
    }

    fn begin(&mut self) {
        let busy: BTreeSet<String> = self.under_way.keys().cloned().collect();
        for work in self.daemon.begin(self.now, &busy, LIMIT) {
            let before = self.under_way.insert(work.domain.clone(), work.clone());
            assert_eq!(before, None, "two pieces of work for one domain at a time");
        }
    }

    fn finish(&mut self, domain: &str, fault: bool) {
        let Some(work) = self.under_way.remove(domain) else { return };
        let succeeded = !fault && self.world.carry_out(&work).is_ok();
        self.daemon.finished(&work, succeeded, self.now);
        // The library reports which domain has the device.
        if let (false, false, Part::Device(plug)) = (fault, succeeded, work.part) {
            if let Some(holder) = self.world.attached.get(&plug).filter(|it| **it != work.domain) {
                self.daemon.found_attached(plug, holder);
            }
        }
        // The record is read after the result, and devices before it.
        self.deliver();
    }

    fn step(&mut self) {
        let port = u8::try_from(self.random.next(u64::from(PORTS))).unwrap() + 1;
        let domain = self.random.pick(&DOMAINS).unwrap();
        let plugs: Vec<Plug> = self.world.devices.values().map(|it| it.plug).collect();
        let plug = self.random.pick(&plugs);
        match self.random.next(16) {
            0 | 1 => {
                let product = self.random.pick(&IDS).unwrap();
                self.world.plug(port, product);
            }
            2 => {
                self.world.unplug(port);
            }
            3 | 4 => {
                self.world.running.insert(domain.to_owned());
            }
            5 => self.stop(domain),
            6 => {
                if let Some(plug) = plug {
                    self.world.add_by_hand(domain, plug);
                    self.deliver();
                }
            }
            7 => {
                let attached: Vec<(Plug, String)> =
                    self.world.attached.iter().map(|(plug, it)| (*plug, it.clone())).collect();
                if let Some((plug, domain)) = self.random.pick(&attached) {
                    self.world.remove_by_hand(&domain, plug);
                    self.deliver();
                }
            }
            8 if self.random.next(4) == 0 => {
                let number = self.random.next(32);
                self.world.rules = rules(number);
            }
            9 | 10 => self.deliver(),
            11 => self.now += Duration::from_millis(self.random.next(20_000)),
            12 | 13 => self.begin(),
            _ => {
                let fault = self.random.next(3) == 0;
                self.finish(domain, fault);
            }
        }
    }

    /// Delivers events, ends the faults, and carries out everything that is due.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            self.deliver();
            self.begin();
            if let Some(domain) = self.under_way.keys().next().cloned() {
                self.finish(&domain, false);
                continue;
            }
            match self.daemon.next_wake(&BTreeSet::new()) {
                Some(at) => self.now = self.now.max(at),
                None => return,
            }
        }
        panic!("there is always something to do: {:?} {:?}", self.daemon, self.world.attached);
    }

    /// Checks that each device is where it should be.
    fn check(&self, before: &BTreeMap<Plug, String>) {
        for (port, device) in &self.world.devices {
            let is = self.world.attached.get(&device.plug);
            let was = before.get(&device.plug);
            let wanted = self.world.wanted(*port, device).filter(|domain| {
                let held = self.world.held.contains(&(domain.clone(), device.plug));
                self.world.running.contains(domain) && !held
            });
            // What is attached stays where it is.
            let expected = was.cloned().or(wanted);
            assert_eq!(is, expected.as_ref(), "1-{port}: {device:?}, {:?}", self.world.records);
        }
    }
}

#[test]
fn a_simulated_machine_ends_as_its_records_and_rules_say() {
    simulate(STEPS);
}

#[test]
#[ignore = "takes a minute in a debug build; run by cargo xtask test"]
fn a_million_steps_end_as_records_and_rules_say() {
    simulate(1_000_000);
}

fn simulate(steps: u64) {
    let rounds = steps / STEPS_PER_ROUND;
    for seed in 1..=rounds {
        let mut simulation = Simulation::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..STEPS_PER_ROUND {
            simulation.step();
        }
        // Work under way may attach a device that is no longer wanted there.
        for domain in DOMAINS {
            simulation.finish(domain, false);
        }
        let before = simulation.world.attached.clone();
        simulation.settle();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            simulation.check(&before);
        }));
        assert!(checked.is_ok(), "seed {seed}");
    }
}

/// A device that is refused is tried less and less often, and does not delay the others.
#[test]
fn a_failing_device_does_not_delay_the_others() {
    let mut simulation = Simulation::new(1);
    simulation.world.rules = rules(0b1000);
    simulation.world.running.insert("sim:c".to_owned());
    for port in 1..=PORTS {
        simulation.world.plug(port, 0x5581);
    }
    simulation.deliver();
    let failing = simulation.world.devices[&1].plug;
    let mut tries = Vec::new();
    while simulation.now < Duration::from_secs(300) {
        simulation.begin();
        match simulation.under_way.get("sim:c").cloned() {
            Some(work) => {
                let fails = work.part == Part::Device(failing);
                if fails {
                    tries.push(simulation.now);
                }
                simulation.finish("sim:c", fails);
            }
            None => {
                let next = simulation.daemon.next_wake(&BTreeSet::new()).unwrap();
                simulation.now = simulation.now.max(next);
            }
        }
    }
    assert_eq!(simulation.world.attached.len(), usize::from(PORTS) - 1);
    let waits: Vec<Duration> = tries.windows(2).map(|it| it[1] - it[0]).collect();
    assert!(waits[0] >= Duration::from_millis(200) && waits[0] <= Duration::from_millis(250));
    assert!(waits.iter().all(|it| *it <= Duration::from_secs(75)), "{waits:?}");
    assert!(*waits.last().unwrap() >= Duration::from_secs(60), "{waits:?}");
    // Plugged in again, it is tried at once.
    simulation.world.plug(1, 0x5581);
    simulation.deliver();
    simulation.begin();
    assert!(simulation.under_way.contains_key("sim:c"));
}

#[test]
fn what_a_person_detaches_stays_detached_until_it_is_plugged_in_again() {
    let mut simulation = Simulation::new(1);
    simulation.world.rules = rules(0b0001);
    simulation.world.running.insert("sim:a".to_owned());
    simulation.world.plug(1, 0x5581);
    simulation.settle();
    let plug = simulation.world.devices[&1].plug;
    assert_eq!(simulation.world.attached[&plug], "sim:a");
    simulation.world.remove_by_hand("sim:a", plug);
    simulation.settle();
    assert_eq!(simulation.world.attached.get(&plug), None);
    assert!(simulation.daemon.held().contains(&("sim:a".to_owned(), plug)));
    simulation.daemon.resume(Some("sim:a"));
    simulation.settle();
    assert_eq!(simulation.world.attached[&plug], "sim:a");
    simulation.world.remove_by_hand("sim:a", plug);
    simulation.settle();
    simulation.world.plug(1, 0x5581);
    simulation.settle();
    let plug = simulation.world.devices[&1].plug;
    assert_eq!(simulation.world.attached[&plug], "sim:a");
}
