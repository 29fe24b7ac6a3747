//! Many replugs, a kill at any moment, storms of events, and many guests and devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::machine::{Machine, WAIT_LIMIT};

const STICK: &str = "host:0781:5581";

/// What a process uses.
#[derive(Clone, Copy, Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
    /// Private memory, in KiB.
    memory: u64,
    /// Processor time.
    time: Duration,
}

fn usage(machine: &Machine) -> Usage {
    let pid = machine.daemon.as_ref().unwrap().id();
    let count = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|it| it.strip_prefix("RssAnon:")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // proc_pid_stat(5): utime and stime are the fields 14 and 15; the name before may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Usage {
        descriptors: count("fd"),
        threads: count("task"),
        memory: memory.trim().trim_end_matches(" kB").parse().unwrap(),
        time: Duration::from_millis(ticks * 10),
    }
}

/// The usage once no work is under way.
fn at_rest(machine: &Machine) -> Usage {
    let end = Instant::now() + WAIT_LIMIT;
    let mut last = usage(machine);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(300));
        let now = usage(machine);
        if now.threads == last.threads && now.time == last.time {
            return now;
        }
        last = now;
    }
    last
}

fn replug(machine: &mut Machine) {
    machine.unplug("1-4");
    machine.request_scan();
    machine.wait_until("web1", &[]);
    machine.plug_stick("1-4");
    machine.request_scan();
    machine.wait_until("web1", &[STICK]);
}

fn replugs(count: usize) {
    let mut machine = Machine::new();
    machine.plug_stick("1-4");
    machine.boot("web1");
    machine.add("web1", STICK);
    machine.start();
    for _ in 0..10 {
        replug(&mut machine);
    }
    let before = at_rest(&machine);
    for _ in 0..count {
        replug(&mut machine);
    }
    let after = at_rest(&machine);
    println!("{count} replugs: {before:?} ─▶ {after:?}");
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.threads, before.threads);
    // The last thousand events are kept, of some 300 bytes each.
    assert!(after.memory <= before.memory + 1024, "{before:?} {after:?}");
}

#[test]
fn replugs_leak_nothing() {
    replugs(20);
}

#[test]
#[ignore = "takes a minute; run by cargo xtask test"]
fn two_hundred_replugs_leak_nothing() {
    replugs(200);
}

/// What the daemon has written so far: records, intents, claims, and what the guest has.
fn written(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for folder in ["state", "guests", "machine/run/vusb/claims"] {
        for entry in fs::read_dir(machine.at(folder)).into_iter().flatten().flatten() {
            // A file may be replaced or removed in the meantime.
            all.insert(entry.path(), fs::read(entry.path()).unwrap_or_default());
        }
    }
    all
}

/// Waits until the daemon has written something this many times, or has attached the device.
fn wait_for_writes(machine: &Machine, count: usize) {
    let end = Instant::now() + WAIT_LIMIT;
    let mut last = written(machine);
    let mut seen = 0;
    while seen < count && machine.attached("web1") != [STICK] {
        assert!(Instant::now() < end, "{seen} of {count} writes");
        let now = written(machine);
        seen += usize::from(now != last);
        last = now;
    }
}

/// Kills the daemon after a plug, after one more write each time, so that each step is hit.
/// Afterwards the device must be attached exactly once.
fn kills(count: usize) {
    let mut machine = Machine::new();
    machine.plug_stick("1-4");
    machine.boot("web1");
    machine.add("web1", STICK);
    machine.start();
    for number in 0..count {
        machine.unplug("1-4");
        machine.request_scan();
        machine.wait_until("web1", &[]);
        machine.plug_stick("1-4");
        machine.request_scan();
        wait_for_writes(&machine, number);
        machine.kill();
        machine.start();
        machine.wait_until("web1", &[STICK]);
    }
}

#[test]
fn a_daemon_that_is_killed_continues() {
    kills(8);
}

#[test]
#[ignore = "takes a minute; run by cargo xtask test"]
fn a_daemon_that_is_killed_at_any_moment_continues() {
    // How far the daemon is between two writes differs from round to round.
    for _ in 0..10 {
        kills(16);
    }
}

/// A hundred requests for each time that the devices are read, up to 2,000 per second, while
/// devices are plugged in and unplugged.
fn storm(duration: Duration) {
    let mut machine = Machine::new();
    machine.sticks_belong_to("web1");
    machine.boot("web1");
    machine.start();
    let before = at_rest(&machine);
    let begun = Instant::now();
    let mut sent = 0_u32;
    while begun.elapsed() < duration {
        if sent % 400 == 0 {
            machine.plug_stick("1-4");
        }
        if sent % 400 == 200 {
            machine.unplug("1-4");
        }
        machine.request_scan();
        sent += 1;
        if sent % 100 == 0 {
            machine.wait_for_log("rules loaded");
        }
    }
    let used = usage(&machine).time - before.time;
    println!("{sent} requests in {:?}: {used:?} of processor time", begun.elapsed());
    if sent % 400 == 0 || sent % 400 > 200 {
        machine.plug_stick("1-4");
    }
    machine.request_scan();
    machine.wait_until("web1", &["host:pci-0000:00:14.0-usb-0:4"]);
    // At most half of a processor, even in a debug build.
    assert!(used < duration / 2, "{used:?}");
    let after = at_rest(&machine);
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
}

#[test]
fn a_storm_of_events_ends_well() {
    storm(Duration::from_secs(2));
}

#[test]
#[ignore = "takes ten seconds; run by cargo xtask test"]
fn a_long_storm_of_events_ends_well() {
    storm(Duration::from_secs(10));
}

#[test]
fn nine_devices_are_attached_beside_one_that_fails() {
    let mut machine = Machine::new();
    for port in 1..=10 {
        machine.plug(&format!("1-{port}"), &format!("0781:00{port:02}"), ["08", "06", "50"]);
    }
    machine.boot("web1");
    for port in 1..=10 {
        machine.add("web1", &format!("host:0781:00{port:02}"));
    }
    machine.power_off("web1");
    machine.start();
    let refused = r#"{"sim":1,"faults":[{"step":"plug host0 ","nth":0,"fault":"fail"}]}"#;
    let begun = Instant::now();
    fs::write(machine.at("guests/web1"), refused).unwrap();
    let good: Vec<String> = (2..=10).map(|port| format!("host:0781:00{port:02}")).collect();
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    machine.wait_until("web1", &good);
    println!("nine devices after {:?}", begun.elapsed());
}

/// 100 guests and 1,000 devices. Each guest was given one of them.
#[test]
#[ignore = "takes a minute; run by cargo xtask test"]
fn a_hundred_guests_and_a_thousand_devices_take_little_memory() {
    let mut machine = Machine::new();
    for number in 0..1000_u32 {
        // Hubs with up to nine ports, below each other.
        let (root, port) = (number / 81 + 1, number % 81);
        let port = format!("1-{root}.{}.{}", port / 9 + 1, port % 9 + 1);
        machine.plug(&port, &format!("0781:{number:04x}"), ["08", "06", "50"]);
    }
    for number in 0..100 {
        let guest = format!("web{number}");
        machine.boot(&guest);
        machine.add(&guest, &format!("host:0781:{number:04x}"));
        machine.power_off(&guest);
    }
    machine.start();
    let begun = Instant::now();
    for number in 0..100 {
        machine.boot(&format!("web{number}"));
    }
    // This does not ask the library, which reads all devices for each guest.
    for number in 0..100 {
        let (guest, device) = (format!("web{number}"), format!("0781:{number:04x}"));
        let file = machine.at("guests").join(&guest);
        while !fs::read_to_string(&file).unwrap().contains(&device) {
            assert!(begun.elapsed() < WAIT_LIMIT * 5, "{guest}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let took = begun.elapsed();
    assert_eq!(machine.attached("web99"), ["host:0781:0063"]);
    let all = at_rest(&machine);
    println!("all attached after {took:?}: {all:?}");
    assert!(all.memory < 10 << 10, "{all:?}");
    // Nothing is polled.
    std::thread::sleep(Duration::from_secs(3));
    let idle = usage(&machine);
    assert!(idle.time <= all.time + Duration::from_millis(10), "{all:?} {idle:?}");
    machine.signal(Signal::TERM);
}
