//! Every path, spelled out: none may ever change.

use vusb_model::selector::BusId;
use vusb_xen::DomId;
use vusb_xen::usb::{self, BackendKind, ControllerId, ControllerPaths, Key};

fn domain(id: u16) -> DomId {
    DomId::new(id).unwrap()
}

#[test]
fn folders_are_where_libxl_creates_them() {
    let id = ControllerId { guest: domain(5), devid: 2 };
    let paths = ControllerPaths { id, backend: domain(3), kind: BackendKind::Vusb };
    assert_eq!(paths.libxl().as_str(), "/libxl/5/device/vusb/2");
    assert_eq!(paths.frontend().as_str(), "/local/domain/5/device/vusb/2");
    assert_eq!(paths.backend().as_str(), "/local/domain/3/backend/vusb/5/2");
    let qusb = ControllerPaths { kind: BackendKind::Qusb, ..paths };
    assert_eq!(qusb.backend().as_str(), "/local/domain/3/backend/qusb/5/2");
    assert_eq!(qusb.frontend(), paths.frontend());
    assert_eq!(usb::libxl_controllers(domain(5)), "/libxl/5/device/vusb");
    assert_eq!(usb::backend_root(domain(3)), "/local/domain/3/backend/vusb");
    assert_eq!(usb::domain(domain(5)), "/local/domain/5");
    assert_eq!(usb::domain_name(domain(5)), "/local/domain/5/name");
    assert_eq!(usb::domain_type(domain(5)), "/libxl/5/type");
    assert_eq!(usb::domain_vm(domain(5)), "/local/domain/5/vm");
    assert_eq!(id.to_string(), "domain 5, controller 2");
}

#[test]
fn the_announcement_is_below_data() {
    let backend = domain(3);
    assert_eq!(usb::announcement(backend).as_str(), "/local/domain/3/data/vusb-backend");
    assert_eq!(
        usb::announcement(backend).node(Key::Ping),
        "/local/domain/3/data/vusb-backend/ping"
    );
    let bus_id: BusId = "1-4.2.1".parse().unwrap();
    assert_eq!(
        usb::exported_device(backend, &bus_id).node(Key::Id),
        "/local/domain/3/data/vusb-backend/device/1-4_2_1/id"
    );
    assert_eq!(usb::exported_devices(backend), "/local/domain/3/data/vusb-backend/device");
    assert_eq!(usb::parse_bus_id_folder("1-4_2_1"), Some(bus_id));
    for name in ["", "1-4.2", "1_4", "usb1", "0-1", "1-4_", ".."] {
        assert_eq!(usb::parse_bus_id_folder(name), None, "{name:?}");
    }
}

#[test]
fn keys_of_ports_contain_the_port() {
    for (key, text) in [
        (Key::Ports, "port"),
        (Key::Port(31), "port/31"),
        (Key::Devices, "device"),
        (Key::Device(7), "device/7"),
        (Key::DeviceName(7), "device/7/name"),
        (Key::DeviceSelector(7), "device/7/selector"),
        (Key::Statuses, "status"),
        (Key::Status(1), "status/1"),
    ] {
        assert_eq!(key.to_string(), text);
    }
    assert_eq!(Key::DeviceName(7).pattern(), "device/P/name");
}

#[test]
fn only_a_controllers_own_path_names_it() {
    let us = DomId::ZERO;
    for path in [
        "/local/domain/0/backend/vusb",
        "/local/domain/0/backend/vusb/5",
        "/local/domain/0/backend/vusb/05/2",
        "/local/domain/0/backend/vusb/5/02",
        "/local/domain/0/backend/vusb/x/2",
        "/local/domain/0/backend/vusb/5/",
        "/local/domain/0/backend/vusbx/5/2",
        "/local/domain/1/backend/vusb/5/2",
    ] {
        assert_eq!(ControllerId::from_backend_path(us, path), None, "{path}");
    }
}
