//! Many replugs, kills at any moment, and storms of real notifications. `cargo xtask endure` runs
//! these, and prints the figures of docs/reliability.md and docs/vusbd.md.

use std::time::{Duration, Instant};

use serde_json::json;
use vusb_rig::nested::INNER_QMP;

use crate::machine::{Machine, WAIT_LIMIT};

/// The file name of the stick in sysfs, in the port that [`Machine::plug_stick`] names.
const STICK: &str = "2-1";

/// What a process uses: file descriptors, threads, private memory in KiB, and processor time in
/// hundredths of a second.
#[derive(Clone, Copy, Debug)]
struct Usage {
    descriptors: u64,
    threads: u64,
    memory: u64,
    ticks: u64,
}

impl Machine {
    /// A machine whose guest has the stick.
    fn with_stick() -> Machine {
        let machine = Machine::new();
        machine.plug_stick("1");
        machine.wait_until("[ -b /dev/sda ]");
        machine.sh(&format!("vusb device add qemu:{INNER_QMP} 46f4:0001:4C530001 --name stick"));
        machine.wait_until_guest_reads('a');
        machine
    }

    fn usage(&self) -> Usage {
        let text = self.sh("cd /proc/$(cat /run/vusbd.pid); ls fd | wc -l; ls task | wc -l; \
             sed -n 's/^RssAnon:[^0-9]*\\([0-9]*\\).*/\\1/p' status; cut -d' ' -f14,15 stat");
        let numbers: Vec<u64> = text.split_whitespace().map(|it| it.parse().unwrap()).collect();
        let [descriptors, threads, memory, user, system] = numbers[..] else { panic!("{text}") };
        Usage { descriptors, threads, memory, ticks: user + system }
    }

    /// The usage, once nothing is under way.
    fn at_rest(&self) -> Usage {
        let end = Instant::now() + WAIT_LIMIT;
        let mut last = self.usage();
        while Instant::now() < end {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.usage();
            if (now.ticks, now.threads) == (last.ticks, last.threads) {
                return now;
            }
            last = now;
        }
        last
    }

    /// How often the daemon has attached the stick since it was started.
    fn attachments(&self) -> usize {
        let count = self.sh("grep -c ' plug stick' /tmp/vusbd.log || true");
        count.trim().parse().unwrap()
    }

    fn replug(&self) {
        let next = self.attachments() + 1;
        self.outer.unplug("stick").unwrap();
        self.wait_until(&format!("! ls -d /sys/bus/usb/devices/{STICK}"));
        self.plug_stick("1");
        self.wait_until(&format!("[ $(grep -c ' plug stick' /tmp/vusbd.log) -ge {next} ]"));
    }

    /// Checks that QEMU has exactly one host device.
    #[track_caller]
    fn assert_attached_once(&self) {
        let tree = self.sh("rig-qmp /run/inner-spare.qmp human-monitor-command \
             '{\"command-line\": \"info qtree\"}'");
        assert_eq!(tree.matches("dev: usb-host").count(), 1, "{tree}\n{}", self.log());
        assert_eq!(self.attached(), 1, "{}", self.log());
    }
}

/// A generator of pseudo-random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Seconds from the last line of `events` before `until` that contains all words, to `until`.
fn since(events: &[(f64, &str)], until: f64, words: &[&str]) -> Option<f64> {
    let has = |line: &str| words.iter().all(|it| line.contains(it));
    let found = events.iter().filter(|(at, line)| *at <= until && has(line));
    found.map(|(at, _)| until - at).next_back()
}

/// Lines of `udevadm monitor`: `KERNEL[77.123456] bind     /devices/... (usb)`.
fn monitored(text: &str) -> Vec<(f64, &str)> {
    let one = |line| {
        let (_, rest) = str::split_once(line, '[')?;
        let (time, _) = rest.split_once(']')?;
        Some((time.parse().ok()?, line))
    };
    text.lines().filter_map(one).collect()
}

fn print_times(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let milliseconds = |tenths: usize| times[(times.len() - 1) * tenths / 10] * 1000.0;
    println!(
        "{what}: median {:.0} ms, 90th percentile {:.0} ms, {:.0} to {:.0} ms ({} times)",
        milliseconds(5),
        milliseconds(9),
        milliseconds(0),
        milliseconds(10),
        times.len()
    );
}

/// How long it takes until a device that is plugged in again is attached, and how much of that is
/// the kernel's part: until it has bound its driver to the device. QEMU takes the device before
/// that is reported: it takes the interface from the kernel's driver.
fn times(machine: &Machine) {
    let attached = machine.sh("grep ' plug stick' /tmp/vusbd.log");
    let events = machine.sh("cat /tmp/monitor.log");
    let events = monitored(&events);
    let device = format!("/{STICK} (usb)");
    let interface = format!("/{STICK}:1.0 (usb)");
    let (mut kernel, mut udev, mut taken, mut beyond) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for line in attached.lines() {
        let at: f64 = line.split(' ').next().unwrap().parse().unwrap();
        let event = |source: &str, action: &str| since(&events, at, &[source, action, &device]);
        let (Some(add), Some(bind)) = (event("KERNEL", " add "), event("KERNEL", " bind ")) else {
            continue;
        };
        // A plug before the monitor was started has no event of its own.
        if add < bind || add > 60.0 {
            continue;
        }
        kernel.push(add - bind);
        beyond.push(bind);
        let unbound = since(&events, at, &["KERNEL", " unbind ", &interface]);
        taken.extend(unbound.filter(|it| *it < bind).map(|it| bind - it));
        udev.extend(event("UDEV", " bind "));
    }
    print_times("from the kernel's `add` to its `bind`", kernel);
    print_times("from the kernel's `bind` until QEMU has taken it", taken);
    print_times("from the kernel's `bind` until vusbd has verified it", beyond);
    print_times("from udev's `bind` until attached", udev);
}

#[test]
#[ignore = "takes long; run by cargo xtask endure"]
fn real_replugs_leak_nothing() {
    let machine = Machine::with_stick();
    machine.sh("ln -sf /usr/lib/systemd/systemd-udevd /tmp/udevadm; \
         /tmp/udevadm monitor --kernel --udev --subsystem-match=usb >/tmp/monitor.log 2>&1 &");
    machine.wait_until("grep -q KERNEL /tmp/monitor.log");
    for _ in 0..10 {
        machine.replug();
    }
    let (before, begun) = (machine.at_rest(), Instant::now());
    for number in 1..=200 {
        machine.replug();
        if number % 50 == 0 {
            machine.wait_until_guest_reads('a');
            println!("{number} replugs after {:.0?}: {:?}", begun.elapsed(), machine.usage());
        }
    }
    machine.assert_attached_once();
    let after = machine.at_rest();
    println!("200 replugs: {before:?} ─▶ {after:?}");
    times(&machine);
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    // The last thousand events are kept, of some 300 bytes each.
    assert!(after.memory <= before.memory + 1024, "{before:?} {after:?}");
}

#[test]
#[ignore = "takes long; run by cargo xtask endure"]
fn real_devices_come_back_after_a_kill_at_any_moment() {
    let machine = Machine::with_stick();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut at_kill = [0, 0];
    let begun = Instant::now();
    for number in 1..=160 {
        machine.outer.unplug("stick").unwrap();
        machine.wait_until(&format!("! ls -d /sys/bus/usb/devices/{STICK}"));
        machine.plug_stick("1");
        std::thread::sleep(Duration::from_millis(random.below(2500)));
        machine.kill_daemon();
        // Right after the kill, the command understands the state that is left.
        let attached = machine.attached();
        at_kill[attached] += 1;
        machine.start_daemon();
        machine.wait_for_attached(1);
        machine.assert_attached_once();
        if number % 20 == 0 {
            println!(
                "{number} kills after {:.0?}: {} before the device was attached, {} after",
                begun.elapsed(),
                at_kill[0],
                at_kill[1]
            );
        }
    }
    machine.wait_until_guest_reads('a');
}

/// Notifications of real devices: the kernel sends one for each write into a file `uevent`.
const STORM: &str = "\
end=$(($(date +%s) + 10)); count=0
while [ $(date +%s) -lt $end ]; do
  for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    for device in /sys/bus/usb/devices/*; do echo change >$device/uevent; count=$((count + 1)); done
  done
done
echo $count";

#[test]
#[ignore = "takes long; run by cargo xtask endure"]
fn a_storm_of_real_notifications_ends_well() {
    let machine = Machine::with_stick();
    machine.outer.plug(json!({ "driver": "usb-hub", "id": "hub", "port": "4" })).unwrap();
    for number in 1..=3 {
        let port = format!("4.{number}");
        let id = format!("desk{number}");
        machine.outer.plug(json!({ "driver": "usb-tablet", "id": id, "port": port })).unwrap();
    }
    machine.wait_for_attached(4);
    // udev is stopped: it would have to handle each notification, on an emulated processor.
    machine.sh("kill $(pidof systemd-udevd); rm -f /run/udev/control");
    let before = machine.at_rest();
    let sent = machine.sh(STORM);
    let after = machine.usage();
    machine.wait_for_attached(4);
    println!(
        "{} notifications in 10 s: {} ms of processor time of vusbd",
        sent.trim(),
        (after.ticks - before.ticks) * 10
    );
    assert!(after.ticks - before.ticks < 500, "{before:?} {after:?}");

    // The socket overflows while the daemon is stopped. Meanwhile the stick is plugged in
    // again, and none of its own notifications gets through.
    let pid = "$(cat /run/vusbd.pid)";
    machine.sh(&format!("kill -STOP {pid}"));
    let sent = machine.sh(&STORM.replace("+ 10", "+ 3"));
    let next = machine.attachments() + 1;
    machine.outer.unplug("stick").unwrap();
    machine.wait_until(&format!("! ls -d /sys/bus/usb/devices/{STICK}"));
    machine.plug_stick("1");
    machine.wait_until(&format!("ls /sys/bus/usb/devices/{STICK}:1.0/driver"));
    let lost = "awk '$2 == 15 && $9 > 0 { lost += $9 } END { print lost + 0 }' /proc/net/netlink";
    let lost: u64 = machine.sh(lost).trim().parse().unwrap();
    println!("{} notifications while the daemon was stopped: {lost} lost", sent.trim());
    assert!(lost > 0);
    machine.sh(&format!("kill -CONT {pid}"));
    machine.wait_until(&format!("[ $(grep -c ' plug stick' /tmp/vusbd.log) -ge {next} ]"));
    machine.wait_for_attached(4);
    machine.wait_until_guest_reads('a');
    let rest = machine.at_rest();
    assert_eq!((rest.descriptors, rest.threads), (before.descriptors, before.threads));
}
