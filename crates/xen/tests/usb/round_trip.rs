//! What one side writes, the other side reads back unchanged.

use proptest::prelude::*;
use vusb_model::address::Index;
use vusb_model::name::Name;
use vusb_model::selector::{BusAddress, BusId, Selector, UsbId};
use vusb_model::speed::{Speed, SpeedSet};
use vusb_xen::usb::{
    BackendKind, ControllerConfig, ControllerId, ControllerPaths, Counters, DeviceIdentity,
    EmulatedController, ExportedDevice, Key, LibxlController, MAX_PORTS, NewController, PortLabel,
    PortStatus, RequestedDevice, Rings, Service,
};
use vusb_xen::{DomId, State};

use crate::{folder, infallible, reader};

fn domain() -> impl Strategy<Value = DomId> {
    (0..=DomId::MAX.get()).prop_map(|id| DomId::new(id).unwrap())
}

fn id() -> impl Strategy<Value = ControllerId> {
    (domain(), any::<u32>()).prop_map(|(guest, devid)| ControllerId { guest, devid })
}

fn paths() -> impl Strategy<Value = ControllerPaths> {
    let kind = prop_oneof![Just(BackendKind::Vusb), Just(BackendKind::Qusb)];
    (id(), domain(), kind).prop_map(|(id, backend, kind)| ControllerPaths { id, backend, kind })
}

fn index() -> impl Strategy<Value = Index> {
    (0..=Index::MAX.get()).prop_map(|it| Index::new(it).unwrap())
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9]{0,20}".prop_map(|it| it.parse().unwrap())
}

fn bus_id() -> impl Strategy<Value = BusId> {
    (1_u16..999, prop::collection::vec(1_u8.., 1..7)).prop_map(|(bus, chain)| {
        let chain: Vec<String> = chain.iter().map(u8::to_string).collect();
        format!("{bus}-{}", chain.join(".")).parse().unwrap()
    })
}

fn usb_id() -> impl Strategy<Value = UsbId> {
    any::<(u16, u16)>().prop_map(|(vendor, product)| UsbId { vendor, product })
}

fn identity() -> impl Strategy<Value = DeviceIdentity> {
    let serial = prop::option::of("[A-Za-z0-9:.-]{1,40}");
    (usb_id(), serial).prop_map(|(id, serial)| DeviceIdentity { id, serial })
}

fn requested() -> impl Strategy<Value = RequestedDevice> {
    (bus_id(), prop::option::of(identity()))
        .prop_map(|(bus_id, identity)| RequestedDevice { bus_id, identity })
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        identity().prop_map(|it| Selector::Id { id: it.id, serial: it.serial }),
        bus_id().prop_map(Selector::Port),
    ]
}

fn status() -> impl Strategy<Value = PortStatus> {
    prop_oneof![
        Just(PortStatus::Absent),
        Just(PortStatus::Offered),
        Just(PortStatus::Addressed),
        Just(PortStatus::Configured),
        ".{0,60}".prop_map(PortStatus::Refused),
    ]
}

fn exported() -> impl Strategy<Value = ExportedDevice> {
    let text = || prop::option::of(".{1,40}");
    let speeds = prop::sample::subsequence(Speed::ALL.to_vec(), 0..=4);
    let address = (1_u16..999, 1_u8..=127).prop_map(|(bus, address)| BusAddress { bus, address });
    let speed = prop::option::of(prop::sample::select(Speed::ALL.to_vec()));
    let facts = (bus_id(), address, usb_id(), speed, speeds, any::<u8>());
    (facts, text(), text(), text(), text()).prop_map(
        |(
            (bus_id, address, id, speed, speeds, class),
            serial,
            manufacturer,
            product,
            protection,
        )| {
            ExportedDevice {
                bus_id,
                address,
                id,
                serial,
                speed,
                speeds: SpeedSet::of(&speeds),
                class,
                manufacturer,
                product,
                protection,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_new_controller_is_read_by_the_toolstack_and_the_backend(
        paths in paths(), usb_version in 1_u8..=2, ports in 1..=MAX_PORTS, name in name(), index in index()
    ) {
        let new = NewController { paths: &paths, usb_version, ports, name: &name, index };
        let libxl = folder(new.libxl_entries());
        let read = infallible(LibxlController::parse(paths.id, reader(&libxl))).unwrap();
        prop_assert_eq!(&read.service, &Service::Pv(paths));
        prop_assert_eq!((read.usb_version, read.ports), (Some(usb_version), ports));
        prop_assert_eq!(read.name.as_ref(), Some(&name));
        let differs = paths.id.devid != u32::from(index.get());
        prop_assert_eq!(read.index, differs.then_some(index));

        let backend = folder(new.backend_entries());
        let config = infallible(ControllerConfig::parse(reader(&backend))).unwrap();
        prop_assert_eq!((config.usb_version, config.ports), (usb_version, ports));
        prop_assert!(config.requested.is_empty() && config.invalid.is_empty());
        // libxl's copy and the backend's folder agree.
        for (key, value) in backend.iter().filter(|(key, _)| **key != Key::Frontend) {
            prop_assert_eq!(libxl.get(key), Some(value));
        }
        let frontend = folder(new.frontend_entries());
        prop_assert_eq!(State::from_node(&frontend[&Key::State]), State::Initialising);
        prop_assert_eq!(ControllerPaths::parse(paths.id, &frontend[&Key::Backend]), Some(paths));
        prop_assert_eq!(frontend[&Key::BackendId].parse(), Ok(paths.backend));
    }

    #[test]
    fn an_emulated_controller_is_read_back(
        id in id(), usb_version in 1_u8..=3, ports in 1..=MAX_PORTS, index in index()
    ) {
        let nodes = folder(EmulatedController { id, usb_version, ports, index }.libxl_entries());
        let read = infallible(LibxlController::parse(id, reader(&nodes))).unwrap();
        prop_assert_eq!(read.service, Service::DeviceModel);
        prop_assert_eq!((read.usb_version, read.ports), (Some(usb_version), ports));
        let differs = id.devid != u32::from(index.get());
        prop_assert_eq!((read.name, read.index), (None, differs.then_some(index)));
    }

    #[test]
    fn requested_devices_are_read_by_the_backend(
        devices in prop::collection::btree_map(1..=MAX_PORTS, requested(), 0..6)
    ) {
        let mut nodes = folder([(Key::UsbVer, "2".into()), (Key::NumPorts, MAX_PORTS.to_string())]);
        for (port, device) in &devices {
            nodes.extend(device.entries(*port));
        }
        let config = infallible(ControllerConfig::parse(reader(&nodes))).unwrap();
        prop_assert_eq!(config.requested, devices);
        prop_assert!(config.invalid.is_empty());
    }

    #[test]
    fn a_label_is_read_back(
        port in 1..=MAX_PORTS, device in requested(), name in name(), selector in selector()
    ) {
        let label = PortLabel { name, selector };
        let nodes = folder(label.entries(port, &device));
        let bus_id = device.bus_id.to_string();
        prop_assert_eq!(nodes.get(&Key::Port(port)), Some(&bus_id));
        prop_assert_eq!(infallible(PortLabel::parse(port, reader(&nodes))), Some(label));
    }

    #[test]
    fn a_status_is_read_back(status in status()) {
        prop_assert_eq!(PortStatus::parse(&status.to_string()), Some(status));
    }

    #[test]
    fn an_exported_device_is_read_back(device in exported()) {
        let nodes = folder(device.entries());
        prop_assert_eq!(
            infallible(ExportedDevice::parse(device.bus_id.clone(), reader(&nodes))),
            Some(device)
        );
    }

    #[test]
    fn rings_are_read_back(urbs in any::<u32>(), connects in any::<u32>(), events in any::<u32>()) {
        let rings = Rings { urbs, connects, events };
        let nodes = folder(rings.entries());
        prop_assert_eq!(infallible(Rings::parse(reader(&nodes))), Some(rings));
    }

    #[test]
    fn counters_are_read_back(numbers in any::<[u64; 6]>()) {
        let [requests, bytes_in, bytes_out, errors, in_flight, wakeups] = numbers;
        let counters = Counters { requests, bytes_in, bytes_out, errors, in_flight, wakeups };
        prop_assert_eq!(Counters::parse(&counters.to_string()), Some(counters));
    }

    #[test]
    fn a_backends_folder_leads_back_to_its_controller(paths in paths(), port in 1..=MAX_PORTS) {
        let folder = paths.backend();
        prop_assert_eq!(ControllerPaths::parse(paths.id, folder.as_str()), Some(paths));
        if paths.kind == BackendKind::Vusb {
            for path in [folder.to_string(), folder.node(Key::State), folder.node(Key::Port(port))] {
                prop_assert_eq!(
                    ControllerId::from_backend_path(paths.backend, &path), Some(paths.id), "{}", path
                );
            }
        }
    }
}
