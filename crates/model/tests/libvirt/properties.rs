//! What holds for all specs, on all machines.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;
use vusb_model::address::{Address, Index, PortPath};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::Kind;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::profile::Profile;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use crate::case::kind;

/// Architectures and machines, one or more of each row of the table.
const MACHINES: [(&str, &str); 10] = [
    ("x86_64", "pc"),
    ("x86_64", "pc-i440fx-7.2"),
    ("x86_64", "q35"),
    ("x86_64", "isapc"),
    ("aarch64", "virt"),
    ("armv7l", "versatilepb"),
    ("ppc64", "pseries"),
    ("s390x", "s390-ccw-virtio"),
    ("sparc64", "sun4u"),
    ("loongarch64", "virt"),
];

fn guest() -> impl Strategy<Value = Guest> {
    (select(MACHINES.to_vec()), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |((arch, machine), graphics, xen)| Guest {
            arch: Some(arch.to_owned()),
            machine: Some(machine.to_owned()),
            graphics,
            hypervisor: if xen { Hypervisor::Xen } else { Hypervisor::Qemu },
            virtualization: Virtualization::Hvm,
            ..Guest::default()
        },
    )
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    guest().prop_map(|guest| Capabilities { guest, ..Capabilities::everything() })
}

fn index(most: u16) -> impl Strategy<Value = Index> {
    (0..=most).prop_map(|index| Index::new(index).unwrap())
}

fn controller() -> impl Strategy<Value = ControllerSpec> {
    (weighted(0.8, select(Model::ALL.to_vec())), of(index(5)), weighted(0.2, 0u8..=15)).prop_map(
        |(model, index, ports)| ControllerSpec {
            ports: ports.filter(|_| model.is_some_and(Model::is_xhci)),
            model,
            index,
            ..ControllerSpec::default()
        },
    )
}

/// An ICH9 EHCI and some of its companions.
fn group() -> impl Strategy<Value = Vec<ControllerSpec>> {
    let companions = vec![Model::Ich9Uhci1, Model::Ich9Uhci2, Model::Ich9Uhci3];
    (of(index(5)), proptest::sample::subsequence(companions, 0..=3)).prop_map(
        |(index, companions)| {
            let all = std::iter::once(Model::Ich9Ehci1).chain(companions);
            all.map(|model| ControllerSpec {
                model: Some(model),
                index,
                ..ControllerSpec::default()
            })
            .collect()
        },
    )
}

fn controllers() -> impl Strategy<Value = Vec<ControllerSpec>> {
    let one = prop_oneof![2 => controller().prop_map(|it| vec![it]), 1 => group()];
    vec(one, 0..4).prop_map(|all| all.concat())
}

const KINDS: [&str; 10] = [
    "mouse",
    "tablet",
    "keyboard",
    "hub",
    "hub",
    "redir:spicevmc",
    "serial:null",
    "audio",
    "ccid",
    "other:usb-wacom-tablet",
];

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        8 => select(KINDS.to_vec()).prop_map(kind),
        1 => (1u16..200).prop_map(|number| kind(&format!("host:1234:{number:04x}"))),
        1 => (0u16..200).prop_map(|number| kind(&format!("storage:/tmp/{number}.img"))),
    ]
}

fn port() -> impl Strategy<Value = PortPath> {
    vec(1u8..=3, 1..=4).prop_map(|numbers| path(&numbers))
}

fn path(numbers: &[u8]) -> PortPath {
    numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(".").parse().unwrap()
}

fn device() -> impl Strategy<Value = DeviceSpec> {
    let place = prop_oneof![
        8 => Just((None, None)),
        1 => index(2).prop_map(|bus| (Some(ControllerRef::Index(bus)), None)),
        1 => (index(2), port()).prop_map(|(bus, port)| (Some(ControllerRef::Index(bus)), Some(port))),
    ];
    (any_kind(), place).prop_map(|(kind, (controller, port))| DeviceSpec {
        controller,
        port,
        ..DeviceSpec::new(kind)
    })
}

fn spec(controllers: Vec<ControllerSpec>, devices: Vec<DeviceSpec>) -> Spec {
    Spec { profile: Profile::Libvirt, controllers, devices, ..Spec::default() }
}

fn any_spec() -> impl Strategy<Value = Spec> {
    (controllers(), vec(device(), 0..40))
        .prop_map(|(controllers, devices)| spec(controllers, devices))
}

/// The spec without what cannot be had.
fn possible(base: &Hardware, asked: Spec, capabilities: &Capabilities) -> Spec {
    let mut done = spec(Vec::new(), Vec::new());
    for controller in asked.controllers {
        done.controllers.push(controller);
        if resolve(base, &done, capabilities).is_err() {
            done.controllers.pop();
        }
    }
    for device in asked.devices {
        done.devices.push(device);
        if resolve(base, &done, capabilities).is_err() {
            done.devices.pop();
        }
    }
    done
}

/// A spec that can be had, and where.
fn some_spec() -> impl Strategy<Value = (Spec, Capabilities)> {
    (any_spec(), capabilities())
        .prop_map(|(spec, all)| (possible(&Hardware::new(), spec, &all), all))
}

fn explicit(hardware: &Hardware) -> Spec {
    Spec { profile: Profile::Libvirt, ..Spec::from(hardware) }
}

/// The generator is worth it: many of its specs have hubs behind hubs, and groups.
#[test]
fn random_specs_are_worth_it() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut devices, mut deep, mut groups, mut hubs) = (0, 0, 0, 0);
    for _ in 0..100 {
        let (spec, all) = some_spec().new_tree(&mut runner).unwrap().current();
        let made = resolve(&Hardware::new(), &spec, &all).unwrap();
        devices += made.hardware.devices().count();
        deep += made.hardware.devices().filter(|(at, _)| at.port.depth() > 2).count();
        groups += made.hardware.controllers().filter(|it| !it.companions.is_empty()).count();
        hubs += made.added_devices.len();
    }
    assert!(devices > 800 && deep > 20, "{devices} devices, {deep} deep");
    assert!(groups > 15 && hubs > 10, "{groups} groups, {hubs} hubs");
}

proptest! {
    /// Whatever is asked: no panic; and what comes out has all of it, and all of the base as it was.
    #[test]
    fn what_is_asked_for_is_there(first in any_spec(), second in any_spec(), all in capabilities()) {
        let mut base = Hardware::new();
        for spec in [possible(&base, first, &all), second] {
            let Ok(made) = resolve(&base, &spec, &all) else { continue };
            for (device, settled) in spec.devices.iter().zip(&made.devices) {
                let there = made.hardware.device(settled.at).map(|it| &it.kind);
                prop_assert_eq!(there, Some(&device.kind));
            }
            for (at, device) in base.devices() {
                prop_assert_eq!(made.hardware.device(at), Some(device));
            }
            for controller in base.controllers() {
                let there = made.hardware.controller(controller.index).map(|it| it.bare());
                prop_assert_eq!(there, Some(controller.bare()));
            }
            let asked: BTreeSet<Address> = made.devices.iter().map(|it| it.at).collect();
            prop_assert_eq!(asked.len(), spec.devices.len());
            let there = base.devices().map(|(at, _)| at);
            let known: BTreeSet<Address> = asked.into_iter().chain(made.added_devices).chain(there).collect();
            prop_assert_eq!(known, made.hardware.devices().map(|(at, _)| at).collect());
            base = made.hardware;
        }
    }

    /// Saying all that is there changes nothing, be it on top of it or anew.
    #[test]
    fn resolving_again_changes_nothing((spec, all) in some_spec()) {
        let made = resolve(&Hardware::new(), &spec, &all).unwrap();
        // What libvirt counts and no guest sees (an xHCI of 0 ports) cannot be said of hardware, and makes libvirt add no other.
        prop_assume!(made.controllers.iter().all(|it| made.hardware.controller(it.at).is_some()));
        let made = made.hardware;
        let on_top = resolve(&made, &explicit(&made), &all).unwrap();
        prop_assert_eq!(&on_top.hardware, &made);
        prop_assert!(on_top.added.is_empty() && on_top.added_devices.is_empty());
        prop_assert!(on_top.controllers.iter().all(|it| it.already));
        prop_assert!(on_top.devices.iter().all(|it| it.already));
        let anew = resolve(&Hardware::new(), &explicit(&made), &all).unwrap();
        prop_assert_eq!(&anew.hardware, &made);
        prop_assert!(anew.devices.iter().all(|it| !it.already));
    }

    /// Rules 9 to 11 in the most obvious way come to the same places.
    #[test]
    fn the_fast_search_is_the_obvious_one(
        buses in vec(select(vec![Model::Piix4Uhci, Model::PciOhci, Model::QemuXhci]), 1..4),
        asked in vec((select(vec!["mouse", "redir:spicevmc", "hub"]), weighted(0.15, index(2)), weighted(0.1, port())), 0..60),
    ) {
        let controllers = buses.iter().map(|model| ControllerSpec { model: Some(*model), ..ControllerSpec::default() });
        let devices = asked.iter().map(|(what, bus, port)| DeviceSpec {
            controller: bus.or(port.and(Some(Index::ZERO))).map(ControllerRef::Index),
            port: *port,
            ..DeviceSpec::new(kind(what))
        });
        let spec = spec(controllers.collect(), devices.collect());
        let fast = resolve(&Hardware::new(), &spec, &Capabilities::everything());
        let fast = fast.ok().map(|made| (made.devices.iter().map(|it| it.at).collect::<Vec<_>>(), made.added_devices));
        let ports = buses.iter().map(|model| match model {
            Model::Piix4Uhci => 2,
            Model::PciOhci => 3,
            _ => 4,
        });
        prop_assert_eq!(fast, Obvious::new(ports.collect()).place(&spec));
    }
}

/// The search, as libvirt does it: a tree of ports in which each place is looked at again each time.
struct Obvious {
    ports: Vec<u8>,
    hubs: BTreeSet<(u16, Vec<u8>)>,
    used: BTreeSet<(u16, Vec<u8>)>,
}

impl Obvious {
    fn new(ports: Vec<u8>) -> Obvious {
        Obvious { ports, hubs: BTreeSet::new(), used: BTreeSet::new() }
    }

    /// Where the devices and the added hubs are. `None` if it cannot be.
    fn place(mut self, spec: &Spec) -> Option<(Vec<Address>, Vec<Address>)> {
        let is_hub = |device: &DeviceSpec| matches!(device.kind, Kind::Hub(_));
        let is_redir = |device: &DeviceSpec| matches!(device.kind, Kind::Redir(_));
        let hubs = spec.devices.iter().filter(|device| is_hub(device)).count();
        let available =
            self.ports.iter().map(|ports| usize::from(*ports)).sum::<usize>() + 8 * hubs;
        let mut devices = spec.devices.clone();
        if let Some(lacking) = devices.len().checked_sub(available).filter(|lacking| *lacking > 0) {
            let more = (lacking + 1).div_ceil(7);
            devices.extend((0..more).map(|_| DeviceSpec::new(kind("hub"))));
        }
        let mut order: Vec<usize> = (0..devices.len()).collect();
        // Hubs with a port, others with a port, hubs, others; redirected ones after mice.
        order.sort_by_key(|number| {
            let device = &devices[*number];
            (device.port.is_none(), !is_hub(device), is_redir(device))
        });
        let mut places = vec![None; devices.len()];
        for number in order {
            let device = &devices[number];
            let bus = match &device.controller {
                Some(ControllerRef::Index(index)) => Some(index.get()),
                _ => None,
            };
            let at = match device.port {
                Some(port) => self.said(bus.unwrap_or(0), &port.numbers().collect::<Vec<_>>())?,
                None => self.found(bus)?,
            };
            if !self.used.insert(at.clone()) {
                return None;
            }
            if is_hub(device) {
                self.hubs.insert(at.clone());
            }
            places[number] = Some(Address { bus: Index::new(at.0)?, port: path(&at.1) });
        }
        let mut places: Vec<Address> = places.into_iter().flatten().collect();
        let added = places.split_off(spec.devices.len());
        Some((places, added))
    }

    /// A port that is said, if it exists.
    fn said(&self, bus: u16, port: &[u8]) -> Option<(u16, Vec<u8>)> {
        let ports = *self.ports.get(usize::from(bus))?;
        for depth in 0..port.len() {
            let there = if depth == 0 { ports } else { 8 };
            let behind = depth == 0 || self.hubs.contains(&(bus, port[..depth].to_vec()));
            if port[depth] > there || !behind {
                return None;
            }
        }
        Some((bus, port.to_vec()))
    }

    /// The first free port of a bus, or of all.
    fn found(&self, bus: Option<u16>) -> Option<(u16, Vec<u8>)> {
        let all = 0..u16::try_from(self.ports.len()).unwrap();
        all.filter(|other| bus.is_none_or(|bus| bus == *other))
            .find_map(|bus| Some((bus, self.below(bus, &[], self.ports[usize::from(bus)])?)))
    }

    /// The first free port of a controller or hub, and then of the hubs on it.
    fn below(&self, bus: u16, hub: &[u8], ports: u8) -> Option<Vec<u8>> {
        let at = |port: u8| [hub, &[port]].concat();
        if hub.len() == 4 {
            return None;
        }
        let free = (1..=ports).map(at).find(|port| !self.used.contains(&(bus, port.clone())));
        free.or_else(|| {
            let hubs = (1..=ports).map(at).filter(|port| self.hubs.contains(&(bus, port.clone())));
            hubs.into_iter().find_map(|hub| self.below(bus, &hub, 8))
        })
    }
}
