//! The measurements.
//!
//! `rig-measure` times transfers where they are made, in dom0 or in the guest. A backend's
//! processor time is the time that the kernel accounts to all its threads (`schedstat`, in
//! nanoseconds) during a transfer of known size.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vusb_rig::Shell;

use crate::stage::{Device, SERIAL, STICK, Side, Stage, TABLET, TIMEOUT};

/// Sizes in KiB: of one transfer, and of all transfers together.
const LARGE: (u32, u32) = (64, 16 << 10);
const SMALL: (u32, u32) = (4, 1 << 10);
/// How many single bytes are sent over the serial line and back.
const ECHOES: u32 = 200;
/// How many times the tablet is touched, the pause between two touches, and the length of its
/// report in bytes (from its descriptor in QEMU's `hw/usb/dev-hid.c`).
const TOUCHES: u32 = 200;
const TOUCH_PAUSE: Duration = Duration::from_millis(40);
const REPORT: u32 = 6;
/// How many times two guests read, each time first alone and then together.
const TWO_GUEST_ROUNDS: usize = 3;
/// How many controllers are added for the measurement of memory.
const ADDED_CONTROLLERS: u64 = 8;

/// A measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// MB/s.
    Read64K,
    /// MB/s.
    Write64K,
    /// Microseconds per read.
    Read4K,
    /// Microseconds from a report of the tablet until its driver requests the next one; median.
    Interrupt,
    /// The same, 90th percentile.
    InterruptP90,
    /// Microseconds for a round trip of one byte; median.
    Echo,
    /// The same, 90th percentile.
    EchoP90,
    /// Milliseconds of the backend's processor time per MiB read in pieces of 64 KiB.
    ReadCpu,
    /// Milliseconds of the backend's processor time per MiB written in pieces of 64 KiB.
    WriteCpu,
    /// Milliseconds from the command until the stick's device node exists in the guest.
    Attach,
    /// Resident memory in KiB, with one controller in use.
    Memory,
    /// Resident memory in KiB per further controller.
    MemoryMore,
    /// MB/s of two guests, each reading its own stick in pieces of 64 KiB: the sum of both alone.
    TwoAlone,
    /// The same, both at the same time.
    TwoTogether,
}

/// All measured values, by quantity and side.
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

/// Measures dom0 itself.
pub(crate) fn dom0(stage: &Stage, all: &mut Figures) {
    stick(stage, Side::Dom0, all);
    tablet(stage, Side::Dom0, all);
    serial(stage, Side::Dom0, all);
}

/// Measures a backend.
pub(crate) fn guest(stage: &Stage, side: Side, all: &mut Figures) {
    with(stage, side, STICK, all, stick);
    with(stage, side, TABLET, all, tablet);
    // Not with qusb: no byte comes back, and the program in the guest cannot even be killed.
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
    // Only for the stick: the other devices do not work with both backends, and their drivers take
    // different times to start.
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
    // The driver requests reports only while a process reads them.
    let command = format!("setsid cat {} </dev/null >/dev/null 2>&1 & echo $!", TABLET.node);
    let reader = stage.shell(side).sh(&command, TIMEOUT).unwrap().ok().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let touch = |at: u32| {
        let event = json!({ "type": "abs", "data": { "axis": "x", "value": at } });
        stage.host.qemu().qmp("input-send-event", json!({ "events": [event] })).unwrap();
        std::thread::sleep(TOUCH_PAUSE);
    };
    let mut times = stage.host.turnarounds(REPORT, || (0..TOUCHES).for_each(touch)).unwrap();
    assert!(times.len() > TOUCHES as usize / 2, "{} of {TOUCHES} reports were taken", times.len());
    times.sort_unstable();
    let micros = |tenths: usize| times[times.len() * tenths / 10].as_secs_f64() * 1e6;
    all.add(Figure::Interrupt, side, micros(5));
    all.add(Figure::InterruptP90, side, micros(9));
    if side == Side::Dom0 {
        stage.dom0(&format!("kill {}", reader.trim()));
    }
}

fn serial(stage: &Stage, side: Side, all: &mut Figures) {
    let command = format!("{{ stty raw -echo && rig-measure echo {ECHOES}; }} <>{}", SERIAL.node);
    let output = stage.shell(side).sh(&command, TIMEOUT).unwrap().ok().unwrap();
    let mut words = output.split_whitespace().map(|it| it.parse::<f64>().unwrap());
    all.add(Figure::Echo, side, words.next().unwrap());
    all.add(Figure::EchoP90, side, words.next().unwrap());
}

/// Transfers `total` KiB in pieces of `size` KiB. Returns how many seconds it took.
fn copy(shell: &Shell, word: &str, (size, total): (u32, u32)) -> f64 {
    let (node, bytes, count) = (STICK.node, size << 10, total / size);
    let output = shell.sh(&format!("rig-measure {word} {node} {bytes} {count}"), TIMEOUT);
    output.unwrap().ok().unwrap().trim().parse::<f64>().unwrap() / 1e6
}

/// The processor time of a process with all its threads, in seconds.
fn processor(stage: &Stage, process: &str) -> f64 {
    let output = stage.dom0(&format!("cat /proc/{process}/task/*/schedstat"));
    let spent = output.lines().filter_map(|line| line.split(' ').next()?.parse::<f64>().ok());
    spent.sum::<f64>() / 1e9
}

/// The resident memory of a process in KiB. Not `VmRSS`, which may be off by up to 64 pages per
/// thread (`TASK_RSS_EVENTS_THRESH` in Linux's `mm/memory.c`).
fn resident(stage: &Stage, process: &str) -> f64 {
    stage
        .dom0(&format!("awk '/^Rss/ {{print $2}}' /proc/{process}/smaps_rollup"))
        .trim()
        .parse()
        .unwrap()
}

/// Measures the memory of one more controller in vusb-backend. (Not in `qusb`, which has one
/// process per guest.)
pub(crate) fn memory(stage: &Stage, all: &mut Figures) {
    let process = stage.process(Side::Vusb).unwrap();
    let before = resident(stage, &process);
    for number in 0..ADDED_CONTROLLERS {
        stage.dom0(&format!("vusb controller add xen:u1 --name more{number}"));
    }
    let connected = format!(
        "[ $(xenstore-ls -f /local/domain/0/backend/vusb/$(xl domid u1) | grep -c 'state = \"4\"') = {} ]",
        ADDED_CONTROLLERS + 1
    );
    stage.host.wait_until(&connected, TIMEOUT).unwrap();
    let each = (resident(stage, &process) - before) / ADDED_CONTROLLERS as f64;
    all.add(Figure::MemoryMore, Side::Vusb, each);
}

/// Measures two guests that read at the same time, compared with each of them alone.
pub(crate) fn two_guests(stage: &Stage, all: &mut Figures) {
    let second = stage.start_second_guest();
    let megabytes = f64::from(LARGE.1) / 1024.0 * 1.048_576;
    let speed = |shell: &Shell| megabytes / copy(shell, "read", LARGE);
    for _ in 0..TWO_GUEST_ROUNDS {
        let alone = speed(&stage.guest) + speed(&second);
        let together = std::thread::scope(|scope| {
            let other = scope.spawn(|| speed(&second));
            speed(&stage.guest) + other.join().unwrap()
        });
        all.add(Figure::TwoAlone, Side::Vusb, alone);
        all.add(Figure::TwoTogether, Side::Vusb, together);
    }
}
