//! The time to add and remove a storage device, for which the claims of other domains are checked:
//! on a machine without other records, and on one with many. The number of records should make no
//! difference.
//!
//! | name | records of other domains |
//! |---|---|
//! | `claims/0` | none |
//! | `claims/5000` | 5,000, each with a storage device and an image of its own |
//!
//! Criterion measures the two cases one after the other. The ratio that is printed at the end
//! compares medians of alternating measurements, so that other load affects both.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use vusb::model::spec::DeviceSpec;
use vusb::{Context, DeviceRef, DomainAddress, Host, Options, StateDir};

/// The number of other domains in the second case.
const OTHERS: usize = 5000;

/// The number of measurements for the ratio.
const ROUNDS: usize = 200;

/// A machine in a folder, with one guest that is changed.
struct Machine {
    folder: tempfile::TempDir,
    context: Context,
    options: Options,
    guest: DomainAddress,
    stick: DeviceSpec,
    name: DeviceRef,
}

impl Machine {
    fn new(others: usize) -> Machine {
        // In memory where possible, so that the disk is not measured.
        let memory = tempfile::tempdir_in("/dev/shm");
        let folder = memory.unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let path = folder.path();
        fs::create_dir_all(path.join("sys/bus/usb/devices")).unwrap();
        let state = StateDir::new(path.join("state"));
        let context = Context::with_builtin_drivers(state, Host::new(path));
        let options = Options { folder: Some(path.to_owned()), ..Options::default() };
        let guest = context.domain("sim:guest.sim", &options).unwrap();
        let stick = storage(path, "guest.img");
        let name = "stick".parse().unwrap();
        let machine = Machine { context, options, guest, stick, name, folder };
        for number in 0..others {
            let domain = format!("sim:{number}.sim");
            let domain = machine.context.domain(&domain, &machine.options).unwrap();
            let stick = storage(machine.folder.path(), &format!("{number}.img"));
            machine.context.device_add(&domain, &stick, &machine.options).unwrap();
        }
        // The guest's controller and its record stay.
        machine.add();
        machine.remove();
        machine
    }

    fn add(&self) {
        self.context.device_add(&self.guest, &self.stick, &self.options).unwrap();
    }

    fn remove(&self) {
        self.context.device_remove(&self.guest, &self.name, &self.options).unwrap();
    }
}

/// A stick with an image of its own.
fn storage(folder: &Path, image: &str) -> DeviceSpec {
    fs::write(folder.join(image), [0; 512]).unwrap();
    let mut spec = DeviceSpec::new(format!("storage:{image}").parse().unwrap());
    spec.name = Some("stick".parse().unwrap());
    spec
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let machines = [0, OTHERS].map(|others| (others, Machine::new(others)));
    let mut group = criterion.benchmark_group("claims");
    for (others, machine) in &machines {
        group.bench_with_input(BenchmarkId::from_parameter(others), machine, |bencher, machine| {
            bencher.iter(|| {
                machine.add();
                machine.remove();
            });
        });
    }
    group.finish();
    criterion.final_summary();

    let mut times = [(); 2].map(|()| (Vec::new(), Vec::new()));
    for _ in 0..ROUNDS {
        for ((add, remove), (_, machine)) in times.iter_mut().zip(&machines) {
            add.push(timed(|| machine.add()));
            remove.push(timed(|| machine.remove()));
        }
    }
    let [empty, full] = times.map(|(add, remove)| (median(add), median(remove)));
    let ratio = |full: Duration, empty: Duration| full.as_secs_f64() / empty.as_secs_f64();
    println!("add:    {:?} without other records, {:?} with {OTHERS}", empty.0, full.0);
    println!("remove: {:?} without other records, {:?} with {OTHERS}", empty.1, full.1);
    println!("ratio:  {:.2} (add), {:.2} (remove)", ratio(full.0, empty.0), ratio(full.1, empty.1));
}
