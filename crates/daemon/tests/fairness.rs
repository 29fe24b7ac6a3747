//! How long nine working devices or guests have to wait while a tenth one fails or does not reply.
//! Time is simulated, so the results are exact and do not depend on the machine.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vusb::model::rules::{DeviceFacts, Recorded};
use vusb::model::selector::BusAddress;
use vusb::{Assigned, AssignedDomain, Assignment};
use vusb_daemon::reconcile::{Part, Plugged, Reconciler, Work};
use vusb_daemon::slots::Slots;

/// How long the library takes for a piece of work. QEMU takes a tenth of this for a `device_add`.
const WORK: Duration = Duration::from_millis(40);

/// The time in which the nine have to be served.
const LIMIT: Duration = Duration::from_secs(1);

/// How much time is simulated.
const END: Duration = Duration::from_secs(30);

/// What a guest does with a device.
#[derive(Clone, Copy, PartialEq)]
enum Reply {
    Works,
    Refuses,
    /// The call ends after the limit of the library, without a result.
    None,
}

fn plug(number: u8) -> BusAddress {
    BusAddress { bus: 1, address: number }
}

fn plugged(plug: BusAddress) -> Plugged {
    Plugged {
        plug,
        port: format!("1-{}", plug.address).parse().unwrap(),
        facts: DeviceFacts { recorded: Vec::<Recorded>::new(), ..DeviceFacts::default() },
    }
}

/// A record of devices that were given to the domain by hand.
fn record(domain: &str, devices: impl IntoIterator<Item = u8>) -> AssignedDomain {
    let one = |number: u8| Assignment {
        device: format!("d{number}").parse().unwrap(),
        what: Assigned::Present { bus: 1, address: number },
        required: false,
        by_rule: false,
        identity: None,
    };
    AssignedDomain {
        address: domain.to_owned(),
        name: domain.replace("sim:", ""),
        devices: devices.into_iter().map(one).collect(),
        others: Vec::new(),
    }
}

/// When each device is attached. All guests start at time 0.
fn attachment_times(
    records: Vec<AssignedDomain>,
    reply: impl Fn(&Work) -> Reply,
) -> BTreeMap<u8, Duration> {
    let mut daemon = Reconciler::default();
    let devices = records.iter().flat_map(|it| &it.devices);
    let devices = devices.filter_map(|it| it.what.bus_address());
    daemon.set_devices(devices.map(plugged).collect());
    let running: BTreeSet<String> = records.iter().map(|it| it.address.clone()).collect();
    daemon.set_records(records);
    daemon.set_guests(&running);
    let (mut slots, mut now) = (Slots::default(), Duration::ZERO);
    let mut under_way: Vec<(Duration, Work, bool)> = Vec::new();
    let mut attached = BTreeMap::new();
    while now < END {
        for work in daemon.begin(now, slots.busy(), slots.free(now)) {
            slots.begin(&work.domain, now);
            let (time, succeeds) = match reply(&work) {
                Reply::Works => (WORK, true),
                Reply::Refuses => (WORK, false),
                Reply::None => (vusb::Options::DEFAULT_WAIT, false),
            };
            under_way.push((now + time, work, succeeds));
        }
        let due = daemon.next_wake(slots.busy()).map(|due| slots.earliest(due, now));
        let ends = under_way.iter().map(|(end, ..)| *end);
        let Some(next) = ends.chain(due).min() else { break };
        now = now.max(next);
        let (ended, left) = under_way.into_iter().partition(|(end, ..)| *end <= now);
        under_way = left;
        let ended: Vec<(Duration, Work, bool)> = ended;
        for (_, work, succeeds) in ended {
            slots.end(&work.domain);
            daemon.finished(&work, succeeds, now);
            if let (Part::Device(it), true) = (work.part, succeeds) {
                attached.insert(it.address, now);
            }
        }
    }
    attached
}

/// Devices 2 to 10 are attached in time, and device 1 is not.
fn assert_nine_are_served(attached: &BTreeMap<u8, Duration>) {
    assert_eq!(attached.keys().copied().collect::<Vec<_>>(), (2..=10).collect::<Vec<_>>());
    let last = attached.values().max().unwrap();
    println!("the last of nine after {last:?}");
    assert!(*last < LIMIT, "{attached:?}");
}

#[test]
fn nine_devices_of_a_guest_are_served_beside_one_that_it_refuses() {
    let reply = |work: &Work| {
        if work.part == Part::Device(plug(1)) { Reply::Refuses } else { Reply::Works }
    };
    assert_nine_are_served(&attachment_times(vec![record("sim:a", 1..=10)], reply));
}

#[test]
fn nine_guests_are_served_beside_one_that_refuses_its_device() {
    let records = (1..=10).map(|it| record(&format!("sim:{it}"), [it])).collect();
    let reply = |work: &Work| {
        if work.part == Part::Device(plug(1)) { Reply::Refuses } else { Reply::Works }
    };
    assert_nine_are_served(&attachment_times(records, reply));
}

#[test]
fn nine_guests_are_served_beside_one_that_does_not_reply() {
    let records = (1..=10).map(|it| record(&format!("sim:{it}"), [it])).collect();
    let reply = |work: &Work| if work.domain == "sim:1" { Reply::None } else { Reply::Works };
    assert_nine_are_served(&attachment_times(records, reply));
}

/// As many guests do not reply as are worked on at a time. They delay the others once, by the time
/// after which such work no longer counts.
#[test]
fn many_guests_that_do_not_reply_delay_the_others_once() {
    let silent = u8::try_from(vusb_daemon::slots::MAX_WORKERS).unwrap();
    let records = (1..=silent + 9).map(|it| record(&format!("sim:{it:02}"), [it])).collect();
    let reply = |work: &Work| match work.domain.trim_start_matches("sim:").parse::<u8>() {
        Ok(number) if number <= silent => Reply::None,
        _ => Reply::Works,
    };
    let attached = attachment_times(records, reply);
    assert_eq!(attached.len(), 9, "{attached:?}");
    let last = *attached.values().max().unwrap();
    assert!(last < vusb_daemon::slots::LONG_WORK + LIMIT, "{attached:?}");
}

/// The waits double, so that a device that fails is tried only a few times in half a minute.
#[test]
fn a_device_that_fails_is_retried_less_and_less_often() {
    let tries = std::cell::Cell::new(0);
    let reply = |work: &Work| match work.part {
        Part::Device(_) => {
            tries.set(tries.get() + 1);
            Reply::Refuses
        }
        Part::Emulated => Reply::Works,
    };
    assert!(attachment_times(vec![record("sim:a", [1])], reply).is_empty());
    // 0.2 s, 0.4 s … 12.8 s, each up to a quarter longer: within 30 s.
    assert!((7..=8).contains(&tries.get()), "{}", tries.get());
}

/// `qm` and libvirt manage what vusb attaches through them, so the record lists such a device as
/// one of another tool. The guest still has it: no person has detached it.
#[test]
fn a_device_that_another_tool_manages_is_not_held() {
    let (number, domain) = (1, "pve:100".to_owned());
    let present = || Assigned::Present { bus: 1, address: number };
    let mut daemon = Reconciler::default();
    daemon.set_devices(vec![plugged(plug(number))]);
    daemon.set_records(vec![record(&domain, [number])]);
    daemon.guest_started(&domain);
    let is_device = |it: &Work| it.part == Part::Device(plug(number));
    let mut attached = false;
    while let [work] = &daemon.begin(Duration::ZERO, &BTreeSet::new(), 1)[..] {
        attached |= is_device(work);
        daemon.finished(work, true, Duration::ZERO);
    }
    assert!(attached);
    let managed = AssignedDomain { others: vec![present()], ..record(&domain, []) };
    daemon.set_records(vec![managed]);
    assert_eq!(daemon.take_notes(), []);
    assert_eq!(daemon.held(), BTreeSet::new());
    assert_eq!(daemon.states()[&plug(number)], "attached");
    // Now the guest does not have it any more.
    daemon.set_records(vec![record(&domain, [])]);
    assert_eq!(daemon.held(), BTreeSet::from([(domain, plug(number))]));
}
