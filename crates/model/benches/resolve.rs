//! The time to resolve specs. The goal is a million placed devices per second, at a cost per device
//! that does not grow with the size of the hardware.
//!
//! | name | devices | controllers in the spec |
//! |---|---|---|
//! | `1/1`, `100/10`, `10000/700`, `50000/4000` | as in the name; all fit | as in the name, qemu-xhci with 15 ports |
//! | `10000/500` | every tenth is a hub with four ports: half of the others are behind one | 500 |
//! | `10000/added` | all fit | 1; the others are added one by one |
//! | `10000/explicit` | each requests a controller, a port and a name | 700 |
//! | `libvirt/10000/700`, `libvirt/10000/655` | profile libvirt: all fit; or 175 do not, and 26 hubs are added | 700 and 655, nec-xhci with 15 ports |
//! | `1 on 9999` | one more, on top of a guest that has 9999 | none: they are in the base |
//!
//! `bare/..` is the baseline: the same devices plugged into their final ports, without resolving.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::Kind;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::profile::Profile;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

/// The kinds of the devices, in turn. A guest can have any number of each.
const KINDS: [&str; 4] = ["tablet", "keyboard", "mouse:usbversion=2", "audio"];

fn spec(devices: usize, controllers: usize, hubs: bool) -> Spec {
    let kinds = KINDS.map(|text| text.parse::<Kind>().unwrap());
    let hub: Kind = "hub:ports=4".parse().unwrap();
    let devices = (0..devices).zip(kinds.iter().cycle()).map(|(number, kind)| {
        DeviceSpec::new(if hubs && number % 10 == 0 { hub.clone() } else { kind.clone() })
    });
    Spec {
        devices: devices.collect(),
        controllers: vec![ControllerSpec::default(); controllers],
        ..Spec::default()
    }
}

fn from_libvirt(devices: usize, controllers: usize) -> Spec {
    let controller = ControllerSpec {
        model: Some(Model::NecXhci),
        ports: Some(15),
        ..ControllerSpec::default()
    };
    Spec {
        profile: Profile::Libvirt,
        controllers: vec![controller; controllers],
        ..spec(devices, 0, false)
    }
}

fn resolved(base: &Hardware, spec: &Spec, capabilities: &Capabilities) -> Hardware {
    resolve(base, spec, capabilities).unwrap().hardware
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resolve");
    let (empty, all) = (Hardware::new(), Capabilities::everything());
    let explicit = Spec::from(&resolved(&empty, &spec(10_000, 700, false), &all));
    let specs = [
        ("1/1", spec(1, 1, false)),
        ("100/10", spec(100, 10, false)),
        ("10000/700", spec(10_000, 700, false)),
        ("50000/4000", spec(50_000, 4000, false)),
        ("10000/500", spec(10_000, 500, true)),
        ("10000/added", spec(10_000, 1, false)),
        ("10000/explicit", explicit),
    ];
    for (name, spec) in &specs {
        group.throughput(Throughput::Elements(spec.devices.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), spec, |bencher, spec| {
            bencher.iter_with_large_drop(|| resolved(&empty, black_box(spec), &all));
        });
    }
    for controllers in [700, 655] {
        let spec = from_libvirt(10_000, controllers);
        group.throughput(Throughput::Elements(10_000));
        group.bench_function(format!("libvirt/10000/{controllers}"), |bencher| {
            bencher.iter_with_large_drop(|| resolved(&empty, black_box(&spec), &all));
        });
    }
    let base = resolved(&empty, &spec(9_999, 700, false), &all);
    group.throughput(Throughput::Elements(1));
    group.bench_function("1 on 9999", |bencher| {
        let one = spec(1, 0, false);
        bencher.iter_with_large_drop(|| resolved(&base, black_box(&one), &all));
    });
    group.finish();

    let complete = resolved(&empty, &spec(10_000, 700, false), &all);
    let mut group = criterion.benchmark_group("bare");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10000/700", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut hardware = Hardware::new();
            for controller in complete.controllers() {
                hardware.add_controller(controller.without_devices()).unwrap();
            }
            for (at, device) in complete.devices() {
                hardware.plug(at, device.clone()).unwrap();
            }
            hardware
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = benchmark
}
criterion_main!(benches);
