//! Random specs. Most are accepted, so that the properties are tested on much hardware; some are
//! refused.

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;
use vusb_model::address::{Index, PortPath};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{HostRef, Hub, Kind};
use vusb_model::hardware::Hardware;
use vusb_model::models::{Companion, ControllerType, Model, UsbVersion};
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};
use vusb_model::speed::{Speed, SpeedSet};

/// The emulated devices that a domain can have any number of.
const PLAIN: [&str; 12] = [
    "tablet",
    "mouse",
    "mouse:usbversion=2",
    "keyboard",
    "tablet:usbversion=2",
    "audio",
    "net",
    "net:none",
    "ccid",
    "serial:pty",
    "redir:spicevmc",
    "serial:null",
];

fn kind() -> impl Strategy<Value = Kind> {
    let speeds = select(vec![
        vec![Speed::Low],
        vec![Speed::Full],
        vec![Speed::High],
        vec![Speed::Full, Speed::High],
        vec![Speed::High, Speed::Super],
        vec![Speed::Super],
    ]);
    let host = (0u16..500, of(speeds)).prop_map(|(product, speeds)| {
        let selector = format!("1234:{product:04x}").parse().unwrap();
        Kind::Host(HostRef {
            speeds: speeds.map(|speeds| SpeedSet::of(&speeds)),
            ..HostRef::new(selector)
        })
    });
    prop_oneof![
        6 => select(PLAIN.to_vec()).prop_map(|text| text.parse().unwrap()),
        2 => (0u16..500, any::<bool>()).prop_map(|(number, readonly)| {
            let option = if readonly { ",readonly" } else { "" };
            format!("storage:{number}.img{option}").parse().unwrap()
        }),
        1 => (0u16..500).prop_map(|number| format!("mtp:/srv/{number}").parse().unwrap()),
        2 => host,
        3 => (1u8..=8).prop_map(|ports| Kind::Hub(Hub { ports })),
    ]
}

fn port() -> impl Strategy<Value = PortPath> {
    let first = prop_oneof![4 => 1u8..=3, 1 => 4u8..=15];
    (first, vec(1u8..=3, 0..=3)).prop_map(|(first, rest)| {
        let mut text = first.to_string();
        for port in rest {
            text += &format!(".{port}");
        }
        text.parse().unwrap()
    })
}

fn index(most: u16) -> impl Strategy<Value = Index> {
    (0..=most).prop_map(|index| Index::new(index).unwrap())
}

/// A controller that is accepted on its own.
fn controller() -> impl Strategy<Value = ControllerSpec> {
    let models: Vec<Model> =
        Model::ALL.into_iter().filter(|model| *model != Model::Xenusb3).collect();
    let model = (select(models), weighted(0.4, 0u8..=30)).prop_map(|(model, ports)| {
        let can = model.port_range();
        let count = |ports: u8| can.start() + ports % (can.end() - can.start() + 1);
        ControllerSpec { model: Some(model), ports: ports.map(count), ..ControllerSpec::default() }
    });
    let kinds = [ControllerType::Emulated, ControllerType::Pv];
    let version = (of(select(kinds.to_vec())), of(select(vec![UsbVersion::V1, UsbVersion::V2])))
        .prop_map(|(controller_type, usbversion)| ControllerSpec {
            controller_type,
            usbversion,
            ..ControllerSpec::default()
        });
    let separate =
        (0u8..=15, 0u8..=15).prop_filter("no port", |ports| *ports != (0, 0)).prop_map(|ports| {
            ControllerSpec {
                model: Some(Model::NecXhci),
                separate_ports: Some(ports),
                ..ControllerSpec::default()
            }
        });
    let companions =
        proptest::sample::subsequence(Companion::GROUP.to_vec(), 0..=3).prop_map(|companions| {
            ControllerSpec {
                model: Some(Model::Ich9Ehci1),
                companions: Some(companions),
                ..ControllerSpec::default()
            }
        });
    prop_oneof![4 => model, 2 => version, 1 => separate, 1 => companions]
}

fn device() -> impl Strategy<Value = DeviceSpec> {
    let location = prop_oneof![
        6 => Just((None, None)),
        1 => index(3).prop_map(|bus| (Some(ControllerRef::Index(bus)), None)),
        1 => (index(3), port()).prop_map(|(bus, port)| (Some(ControllerRef::Index(bus)), Some(port))),
    ];
    (kind(), location, weighted(0.1, 0u16..1000)).prop_map(|(kind, (controller, port), name)| {
        let name = name.map(|name| format!("dev{name}").parse().unwrap());
        DeviceSpec { name, controller, port, kind }
    })
}

/// Any spec: some contradict themselves or do not fit.
pub(crate) fn any_spec() -> impl Strategy<Value = Spec> {
    let explicit = (weighted(0.1, index(9)), weighted(0.1, 0u8..9));
    let controller = (controller(), explicit).prop_map(|(spec, (index, name))| ControllerSpec {
        index,
        name: name.map(|name| format!("hci{name}").parse().unwrap()),
        ..spec
    });
    (of("[a-z]{1,4}"), vec(controller, 0..8), vec(device(), 0..40)).prop_map(
        |(domain, controllers, devices)| Spec {
            domain: domain.map(|domain| domain.parse().unwrap()),
            controllers,
            devices,
            ..Spec::default()
        },
    )
}

/// A hypervisor that supports everything, with either default type.
pub(crate) fn capabilities() -> impl Strategy<Value = Capabilities> {
    prop_oneof![Just(ControllerType::Emulated), Just(ControllerType::Pv)]
        .prop_map(|default_type| Capabilities { default_type, ..Capabilities::everything() })
}

/// The spec without the items that are refused.
pub(crate) fn accepted(base: &Hardware, spec: Spec, capabilities: &Capabilities) -> Spec {
    let mut accepted = Spec { controllers: Vec::new(), devices: Vec::new(), ..spec.clone() };
    for controller in spec.controllers {
        accepted.controllers.push(controller);
        if resolve(base, &accepted, capabilities).is_err() {
            accepted.controllers.pop();
        }
    }
    // Bisects the devices that are refused, because trying them one at a time would be slow.
    let mut rest = vec![spec.devices];
    while let Some(mut devices) = rest.pop() {
        let before = accepted.devices.len();
        accepted.devices.extend(devices.iter().cloned());
        if resolve(base, &accepted, capabilities).is_err() {
            accepted.devices.truncate(before);
            if devices.len() > 1 {
                let second = devices.split_off(devices.len() / 2);
                rest.extend([second, devices]);
            }
        }
    }
    accepted
}

/// A spec that is not refused, and the capabilities for it.
pub(crate) fn accepted_spec() -> impl Strategy<Value = (Spec, Capabilities)> {
    (any_spec(), capabilities()).prop_map(|(spec, capabilities)| {
        (accepted(&Hardware::new(), spec, &capabilities), capabilities)
    })
}

/// The hardware of an accepted spec.
pub(crate) fn hardware() -> impl Strategy<Value = Hardware> {
    accepted_spec().prop_map(|(spec, capabilities)| {
        resolve(&Hardware::new(), &spec, &capabilities).unwrap().hardware
    })
}
