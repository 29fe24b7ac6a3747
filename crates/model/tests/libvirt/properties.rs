//! Properties of all specs, on all machines.

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
    let location = prop_oneof![
        8 => Just((None, None)),
        1 => index(2).prop_map(|bus| (Some(ControllerRef::Index(bus)), None)),
        1 => (index(2), port()).prop_map(|(bus, port)| (Some(ControllerRef::Index(bus)), Some(port))),
    ];
    (any_kind(), location).prop_map(|(kind, (controller, port))| DeviceSpec {
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

/// The spec without the items that are refused.
fn accepted(base: &Hardware, all: Spec, capabilities: &Capabilities) -> Spec {
    let mut accepted = spec(Vec::new(), Vec::new());
    for controller in all.controllers {
        accepted.controllers.push(controller);
        if resolve(base, &accepted, capabilities).is_err() {
            accepted.controllers.pop();
        }
    }
    for device in all.devices {
        accepted.devices.push(device);
        if resolve(base, &accepted, capabilities).is_err() {
            accepted.devices.pop();
        }
    }
    accepted
}

/// A spec that is not refused, and the capabilities for it.
fn accepted_spec() -> impl Strategy<Value = (Spec, Capabilities)> {
    (any_spec(), capabilities())
        .prop_map(|(spec, all)| (accepted(&Hardware::new(), spec, &all), all))
}

fn explicit(hardware: &Hardware) -> Spec {
    Spec { profile: Profile::Libvirt, ..Spec::from(hardware) }
}

/// Guards against a generator that tests little: many random specs must have nested hubs and
/// groups.
#[test]
fn random_specs_cover_enough() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut devices, mut deep, mut groups, mut hubs) = (0, 0, 0, 0);
    for _ in 0..100 {
        let (spec, all) = accepted_spec().new_tree(&mut runner).unwrap().current();
        let resolved = resolve(&Hardware::new(), &spec, &all).unwrap();
        let hardware = resolved.hardware;
        devices += hardware.devices().count();
        deep += hardware.devices().filter(|(at, _)| at.port.depth() > 2).count();
        groups += hardware.controllers().filter(|it| !it.companions.is_empty()).count();
        hubs += resolved.added_devices.len();
    }
    assert!(devices > 800 && deep > 20, "{devices} devices, {deep} deep");
    assert!(groups > 15 && hubs > 10, "{groups} groups, {hubs} hubs");
}

proptest! {
    /// For any spec: no panic, and the result has everything requested and the unchanged base.
    #[test]
    fn results_contain_the_request_and_the_base(first in any_spec(), second in any_spec(), all in capabilities()) {
        let mut base = Hardware::new();
        for spec in [accepted(&base, first, &all), second] {
            let Ok(resolved) = resolve(&base, &spec, &all) else { continue };
            let hardware = resolved.hardware;
            for (device, placed) in spec.devices.iter().zip(&resolved.devices) {
                let found = hardware.device(placed.address).map(|it| &it.kind);
                prop_assert_eq!(found, Some(&device.kind));
            }
            for (at, device) in base.devices() {
                prop_assert_eq!(hardware.device(at), Some(device));
            }
            for controller in base.controllers() {
                let found = hardware.controller(controller.index).map(|it| it.without_devices());
                prop_assert_eq!(found, Some(controller.without_devices()));
            }
            let requested: BTreeSet<Address> = resolved.devices.iter().map(|it| it.address).collect();
            prop_assert_eq!(requested.len(), spec.devices.len());
            let existing = base.devices().map(|(at, _)| at);
            let expected: BTreeSet<Address> =
                requested.into_iter().chain(resolved.added_devices).chain(existing).collect();
            prop_assert_eq!(expected, hardware.devices().map(|(at, _)| at).collect());
            base = hardware;
        }
    }

    /// A spec of the complete hardware changes nothing, both on top of that hardware and for an
    /// empty guest.
    #[test]
    fn resolving_again_changes_nothing((spec, all) in accepted_spec()) {
        let resolved = resolve(&Hardware::new(), &spec, &all).unwrap();
        let hardware = resolved.hardware;
        // libvirt counts an xHCI of 0 ports as a controller and adds no default one, but the guest
        // does not see it, so the hardware does not contain it.
        prop_assume!(resolved.controllers.iter().all(|it| hardware.controller(it.address).is_some()));
        let on_top = resolve(&hardware, &explicit(&hardware), &all).unwrap();
        prop_assert_eq!(&on_top.hardware, &hardware);
        prop_assert!(on_top.added.is_empty() && on_top.added_devices.is_empty());
        prop_assert!(on_top.controllers.iter().all(|it| it.existing));
        prop_assert!(on_top.devices.iter().all(|it| it.existing));
        let again = resolve(&Hardware::new(), &explicit(&hardware), &all).unwrap();
        prop_assert_eq!(&again.hardware, &hardware);
        prop_assert!(again.devices.iter().all(|it| !it.existing));
    }

    /// The simplest implementation of rules 9 to 11 gives the same addresses.
    #[test]
    fn the_search_matches_the_reference(
        buses in vec(select(vec![Model::Piix4Uhci, Model::PciOhci, Model::QemuXhci]), 1..4),
        requests in vec((select(vec!["mouse", "redir:spicevmc", "hub"]), weighted(0.15, index(2)), weighted(0.1, port())), 0..60),
    ) {
        let controllers = buses.iter().map(|model| ControllerSpec { model: Some(*model), ..ControllerSpec::default() });
        let devices = requests.iter().map(|(name, bus, port)| DeviceSpec {
            controller: bus.or(port.and(Some(Index::ZERO))).map(ControllerRef::Index),
            port: *port,
            ..DeviceSpec::new(kind(name))
        });
        let spec = spec(controllers.collect(), devices.collect());
        let resolved = resolve(&Hardware::new(), &spec, &Capabilities::everything());
        let found = resolved.ok().map(|it| {
            let devices = it.devices.iter().map(|placed| placed.address).collect::<Vec<_>>();
            (devices, it.added_devices)
        });
        let ports = buses.iter().map(|model| match model {
            Model::Piix4Uhci => 2,
            Model::PciOhci => 3,
            _ => 4,
        });
        prop_assert_eq!(found, Reference::new(ports.collect()).place(&spec));
    }
}

/// A reference implementation of the search as libvirt does it: it examines the whole tree of ports
/// for each device.
struct Reference {
    ports: Vec<u8>,
    hubs: BTreeSet<(u16, Vec<u8>)>,
    used: BTreeSet<(u16, Vec<u8>)>,
}

impl Reference {
    fn new(ports: Vec<u8>) -> Reference {
        Reference { ports, hubs: BTreeSet::new(), used: BTreeSet::new() }
    }

    /// The addresses of the devices and of the added hubs. `None` if a device cannot be placed.
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
        // Hubs with a port, others with a port, hubs, others; redirected devices after mice.
        order.sort_by_key(|number| {
            let device = &devices[*number];
            (device.port.is_none(), !is_hub(device), is_redir(device))
        });
        let mut addresses = vec![None; devices.len()];
        for number in order {
            let device = &devices[number];
            let bus = match &device.controller {
                Some(ControllerRef::Index(index)) => Some(index.get()),
                _ => None,
            };
            let at = match device.port {
                Some(port) => {
                    self.requested(bus.unwrap_or(0), &port.numbers().collect::<Vec<_>>())?
                }
                None => self.first_free(bus)?,
            };
            if !self.used.insert(at.clone()) {
                return None;
            }
            if is_hub(device) {
                self.hubs.insert(at.clone());
            }
            addresses[number] = Some(Address { bus: Index::new(at.0)?, port: path(&at.1) });
        }
        let mut addresses: Vec<Address> = addresses.into_iter().flatten().collect();
        let added = addresses.split_off(spec.devices.len());
        Some((addresses, added))
    }

    /// A requested port, if it exists.
    fn requested(&self, bus: u16, port: &[u8]) -> Option<(u16, Vec<u8>)> {
        let ports = *self.ports.get(usize::from(bus))?;
        for depth in 0..port.len() {
            let count = if depth == 0 { ports } else { 8 };
            let exists = depth == 0 || self.hubs.contains(&(bus, port[..depth].to_vec()));
            if port[depth] > count || !exists {
                return None;
            }
        }
        Some((bus, port.to_vec()))
    }

    /// The first free port of a bus, or of all buses.
    fn first_free(&self, bus: Option<u16>) -> Option<(u16, Vec<u8>)> {
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
