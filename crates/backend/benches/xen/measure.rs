//! What is measured, and how.
//!
//! `rig-measure` times transfers where they are made, in dom0 or in the guest. A backend's processor time is what the kernel has counted for all its threads, to the
//! nanosecond (`schedstat`), while a transfer of known size ran.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vusb_rig::Shell;

use crate::stage::{Device, PATIENCE, SERIAL, STICK, Side, Stage, TABLET};

/// Sizes of transfers in KiB: one of each, and all of them.
const LARGE: (u32, u32) = (64, 16 << 10);
const SMALL: (u32, u32) = (4, 1 << 10);
/// How many bytes go back and forth over the serial line, one by one.
const ECHOES: u32 = 200;
/// How often the tablet is touched, how long it rests then, and how many bytes it reports (its descriptor in QEMU's
/// `hw/usb/dev-hid.c`).
const TOUCHES: u32 = 200;
const REST: Duration = Duration::from_millis(40);
const REPORT: u32 = 6;
/// How often two guests read alone, and together.
const ALTERNATELY: usize = 3;
/// How many controllers a backend has when its memory is looked at again.
const MORE: u64 = 8;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// MB/s.
    Read64K,
    /// MB/s.
    Write64K,
    /// Microseconds for one.
    Read4K,
    /// Microseconds from a report of the tablet until its driver asks for the next one.
    Interrupt,
    /// Likewise, the slowest of ten.
    InterruptNinth,
    /// Microseconds there and back.
    Echo,
    /// Likewise, the slowest of ten.
    EchoNinth,
    /// Milliseconds of the backend's processor time, for each MiB read in pieces of 64 KiB.
    ReadCpu,
    /// Likewise, written.
    WriteCpu,
    /// Milliseconds from the command to the stick's node in the guest.
    Attach,
    /// KiB that are resident, with one controller in use.
    Memory,
    /// KiB for each further controller.
    MemoryMore,
    /// MB/s of two guests that read from a stick each, in pieces of 64 KiB: each alone, added up.
    TwoAlone,
    /// The same, both at once.
    TwoTogether,
}

/// All that was measured, by what and whose.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<(Figure, Side), Vec<f64>>);

impl Figures {
    fn add(&mut self, figure: Figure, side: Side, value: f64) {
        eprintln!("{side:?} {figure:?}: {value:.1}");
        self.0.entry((figure, side)).or_default().push(value);
    }

    /// The median.
    pub(crate) fn get(&self, figure: Figure, side: Side) -> Option<f64> {
        let mut values = self.0.get(&(figure, side))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// dom0 itself.
pub(crate) fn dom0(stage: &Stage, all: &mut Figures) {
    stick(stage, Side::Dom0, all);
    tablet(stage, Side::Dom0, all);
    serial(stage, Side::Dom0, all);
}

/// A backend.
pub(crate) fn guest(stage: &Stage, side: Side, all: &mut Figures) {
    with(stage, side, STICK, all, stick);
    with(stage, side, TABLET, all, tablet);
    // Through qusb no byte came back, and the guest's program could not even be killed any more: there is nothing to measure.
    if side != Side::Qusb {
        with(stage, side, SERIAL, all, serial);
    }
}

fn with(
    stage: &Stage,
    side: Side,
    device: Device,
    all: &mut Figures,
    measure: impl Fn(&Stage, Side, &mut Figures),
) {
    let took = stage.attach(side, device);
    // The others differ: not each goes over both backends, and not each is as quick to be known to a driver.
    if device.node == STICK.node {
        all.add(Figure::Attach, side, took.as_secs_f64() * 1e3);
    }
    measure(stage, side, all);
    stage.detach(side, device);
}

fn stick(stage: &Stage, side: Side, all: &mut Figures) {
    let process = stage.process(side);
    let mut large = |speed, cpu, word| {
        let spent = || process.as_ref().map(|it| processor(stage, it));
        let before = spent();
        let seconds = copy(stage.shell(side), word, LARGE);
        let mib = f64::from(LARGE.1) / 1024.0;
        all.add(speed, side, mib * 1.048_576 / seconds);
        if let Some((before, after)) = before.zip(spent()) {
            all.add(cpu, side, (after - before) / mib * 1e3);
        }
    };
    large(Figure::Read64K, Figure::ReadCpu, "read");
    large(Figure::Write64K, Figure::WriteCpu, "write");
    let seconds = copy(stage.shell(side), "read", SMALL);
    all.add(Figure::Read4K, side, seconds / f64::from(SMALL.1 / SMALL.0) * 1e6);
    if let Some(process) = &process {
        all.add(Figure::Memory, side, resident(stage, process));
    }
}

fn tablet(stage: &Stage, side: Side, all: &mut Figures) {
    // Its driver asks for reports while somebody reads them.
    let command = format!("setsid cat {} </dev/null >/dev/null 2>&1 & echo $!", TABLET.node);
    let reader = stage.shell(side).sh(&command, PATIENCE).unwrap().ok().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let touch = |at: u32| {
        let event = json!({ "type": "abs", "data": { "axis": "x", "value": at } });
        stage.host.qemu().qmp("input-send-event", json!({ "events": [event] })).unwrap();
        std::thread::sleep(REST);
    };
    let mut times = stage.host.turnarounds(REPORT, || (0..TOUCHES).for_each(touch)).unwrap();
    assert!(times.len() > TOUCHES as usize / 2, "{} of {TOUCHES} reports were taken", times.len());
    times.sort_unstable();
    let micros = |tenths: usize| times[times.len() * tenths / 10].as_secs_f64() * 1e6;
    all.add(Figure::Interrupt, side, micros(5));
    all.add(Figure::InterruptNinth, side, micros(9));
    if side == Side::Dom0 {
        stage.dom0(&format!("kill {}", reader.trim()));
    }
}

fn serial(stage: &Stage, side: Side, all: &mut Figures) {
    let command = format!("{{ stty raw -echo && rig-measure echo {ECHOES}; }} <>{}", SERIAL.node);
    let said = stage.shell(side).sh(&command, PATIENCE).unwrap().ok().unwrap();
    let mut words = said.split_whitespace().map(|it| it.parse::<f64>().unwrap());
    all.add(Figure::Echo, side, words.next().unwrap());
    all.add(Figure::EchoNinth, side, words.next().unwrap());
}

/// Moves so many KiB, so many at a time, and says how many seconds it took.
fn copy(shell: &Shell, word: &str, (size, total): (u32, u32)) -> f64 {
    let (node, bytes, count) = (STICK.node, size << 10, total / size);
    let said = shell.sh(&format!("rig-measure {word} {node} {bytes} {count}"), PATIENCE);
    said.unwrap().ok().unwrap().trim().parse::<f64>().unwrap() / 1e6
}

/// Seconds of processor time that a process has had, with all its threads.
fn processor(stage: &Stage, process: &str) -> f64 {
    let said = stage.dom0(&format!("cat /proc/{process}/task/*/schedstat"));
    let spent = said.lines().filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
    spent.sum::<f64>() / 1e9
}

/// KiB of memory that a process has. Counted anew: `VmRSS` lags behind by up to 64 pages a thread
/// (`TASK_RSS_EVENTS_THRESH` in Linux's `mm/memory.c`).
fn resident(stage: &Stage, process: &str) -> f64 {
    stage
        .dom0(&format!("awk '/^Rss/ {{print $2}}' /proc/{process}/smaps_rollup"))
        .trim()
        .parse()
        .unwrap()
}

/// What one more controller costs vusb-backend. (`qusb` has one process a guest, which would not say.)
pub(crate) fn memory(stage: &Stage, all: &mut Figures) {
    let process = stage.process(Side::Vusb).unwrap();
    let before = resident(stage, &process);
    for number in 0..MORE {
        stage.dom0(&format!("vusb controller add xen:u1 --name more{number}"));
    }
    let connected = format!(
        "[ $(xenstore-ls -f /local/domain/0/backend/vusb/$(xl domid u1) | grep -c 'state = \"4\"') = {} ]",
        MORE + 1
    );
    stage.host.wait_until(&connected, PATIENCE).unwrap();
    let each = (resident(stage, &process) - before) / MORE as f64;
    all.add(Figure::MemoryMore, Side::Vusb, each);
}

/// Two guests that read at once, beside each of them alone.
pub(crate) fn together(stage: &Stage, all: &mut Figures) {
    let second = stage.second();
    let megabytes = f64::from(LARGE.1) / 1024.0 * 1.048_576;
    let speed = |shell: &Shell| megabytes / copy(shell, "read", LARGE);
    for _ in 0..ALTERNATELY {
        let alone = speed(&stage.guest) + speed(&second);
        let together = std::thread::scope(|scope| {
            let other = scope.spawn(|| speed(&second));
            speed(&stage.guest) + other.join().unwrap()
        });
        all.add(Figure::TwoAlone, Side::Vusb, alone);
        all.add(Figure::TwoTogether, Side::Vusb, together);
    }
}
