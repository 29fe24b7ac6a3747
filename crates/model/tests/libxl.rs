//! The profile `libxl` by example: the hardware that `xl create` would give the guest for the same
//! request.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use vusb_model::address::Index;
use vusb_model::capabilities::Capabilities;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::refusal::{Category, Refusal};
use vusb_model::resolve::libxl::{BOOT_BUS, boot_controller, sentence};
use vusb_model::resolve::{Refused, RequestedItem, Resolved, resolve};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

fn capabilities(virtualization: Virtualization) -> Capabilities {
    let guest = Guest { hypervisor: Hypervisor::Xen, virtualization, ..Guest::default() };
    Capabilities { guest, ..Capabilities::everything() }
}

fn spec(controllers: &[ControllerSpec], devices: &[DeviceSpec]) -> Spec {
    let (controllers, devices) = (controllers.to_vec(), devices.to_vec());
    Spec { profile: Profile::Libxl, controllers, devices, ..Spec::default() }
}

fn on(base: &Hardware, guest: Virtualization, spec: Spec) -> Result<Resolved, Refused> {
    resolve(base, &spec, &capabilities(guest))
}

fn hvm(controllers: &[ControllerSpec], devices: &[DeviceSpec]) -> Result<Resolved, Refused> {
    on(&Hardware::new(), Virtualization::Hvm, spec(controllers, devices))
}

/// `KIND`, `KIND@INDEX` or `KIND@INDEX:PORT`.
fn device(text: &str) -> DeviceSpec {
    let (kind, location) = text.split_once('@').unwrap_or((text, ""));
    let (controller, port) = location.split_once(':').unwrap_or((location, ""));
    let controller = (!controller.is_empty()).then(|| controller.parse().unwrap());
    let port = (!port.is_empty()).then(|| port.parse().unwrap());
    DeviceSpec { controller, port, ..DeviceSpec::new(kind.parse().unwrap()) }
}

fn controller(
    kind: Option<ControllerType>,
    version: Option<u8>,
    ports: Option<u8>,
) -> ControllerSpec {
    let usbversion = version.map(|version| UsbVersion::try_from(version).unwrap());
    ControllerSpec { controller_type: kind, usbversion, ports, ..ControllerSpec::default() }
}

/// One line for each controller and each device, including hubs.
fn lines(hardware: &Hardware) -> Vec<String> {
    let controllers = hardware
        .controllers()
        .map(|it| format!("{} {} {} {}", it.index, it.name, it.model, it.ports.count()));
    let devices = hardware.devices().map(|(at, it)| format!("{at} {} {}", it.name, it.kind));
    controllers.chain(devices).collect()
}

const PV: Option<ControllerType> = Some(ControllerType::Pv);
const EMULATED: Option<ControllerType> = Some(ControllerType::Emulated);

/// `usbctrl = [ "", .. ]`: the tables of types, versions and ports.
#[test]
fn default_controllers_depend_on_the_guest() {
    let open = [controller(None, None, None)];
    for (guest, expected) in [
        (Virtualization::Hvm, "0 hci0 ehci 6"),
        (Virtualization::Pv, "0 pv0 xenusb2 8"),
        (Virtualization::Pvh, "0 pv0 xenusb2 8"),
    ] {
        let resolved = on(&Hardware::new(), guest, spec(&open, &[])).unwrap();
        assert_eq!(lines(&resolved.hardware), [expected]);
    }
    let explicit = [
        controller(EMULATED, Some(1), None),
        controller(EMULATED, Some(2), None),
        controller(EMULATED, Some(3), None),
        controller(EMULATED, Some(3), Some(15)),
        controller(PV, None, None),
        controller(PV, Some(1), Some(31)),
        controller(None, Some(3), Some(4)),
    ];
    assert_eq!(
        lines(&hvm(&explicit, &[]).unwrap().hardware),
        [
            "0 hci0 piix3-uhci 2",
            "1 hci1 ehci 6",
            "2 hci2 nec-xhci 8",
            "3 hci3 nec-xhci 15",
            "4 pv0 xenusb2 8",
            "5 pv1 xenusb1 31",
            "6 hci4 nec-xhci 4",
        ]
    );
}

/// A controller that is added later gets the number after the highest, not the lowest free number.
#[test]
fn the_next_index_is_one_more_than_the_highest() {
    let at = |index| ControllerSpec { index: Index::new(index), ..ControllerSpec::default() };
    let first = hvm(&[at(0), at(5)], &[]).unwrap().hardware;
    let then = spec(&[controller(None, None, None)], &[]);
    let second = on(&first, Virtualization::Hvm, then).unwrap();
    assert_eq!(second.controllers[0].address.get(), 6);
}

/// Host devices go, in the order of the list, to the lowest free port of the first controller that
/// has one, whatever its speed.
#[test]
fn host_devices_fill_the_first_controller() {
    let controllers = [controller(EMULATED, Some(1), None), controller(EMULATED, Some(3), None)];
    let devices = ["1-1", "1-2@1", "1-3", "1-4", "1-5@1:7"].map(device);
    assert_eq!(
        lines(&hvm(&controllers, &devices).unwrap().hardware)[2..],
        [
            "0:1 host0 host:1-1",
            "0:2 host2 host:1-3",
            "1:1 host1 host:1-2",
            "1:2 host3 host:1-4",
            "1:7 host4 host:1-5",
        ]
    );
}

#[test]
fn a_controller_of_type_auto_is_added_when_all_are_full() {
    let nine: Vec<DeviceSpec> = (1..=9).map(|n| device(&format!("1-{n}"))).collect();
    let resolved = on(&Hardware::new(), Virtualization::Pv, spec(&[], &nine)).unwrap();
    let lines = lines(&resolved.hardware);
    assert_eq!(lines[..3], ["0 pv0 xenusb2 8", "1 pv1 xenusb2 8", "0:1 host0 host:1-1"]);
    assert_eq!(lines[10], "1:1 host8 host:1-9");
    assert_eq!(resolved.added.len(), 2);
}

/// A controller of another backend domain is skipped, and a request for it is refused.
#[test]
fn controllers_of_another_backend_domain_take_no_devices() {
    let backend = |name: &str| ControllerSpec {
        backend: Some(name.to_owned()),
        ..controller(PV, None, None)
    };
    let both = [backend("usbvm"), controller(PV, None, None)];
    let resolved = hvm(&both, &[device("1-1")]).unwrap();
    assert_eq!(resolved.devices[0].address.to_string(), "1:1");
    let error = hvm(&both, &[device("1-1@0")]).unwrap_err().to_string();
    assert!(error.contains("Don't support adding USB device from non-Dom0 backend"), "{error}");
}

/// `usb=1`, `usbdevice=[..]`: the UHCI that QEMU is started with has two ports, and QEMU plugs a
/// hub into the last free one.
#[test]
fn tablets_go_to_the_boot_controller() {
    let controllers = [boot_controller(None), controller(None, None, None)];
    let devices = ["tablet", "1-1", "mouse:usbversion=2", "keyboard"].map(device);
    let resolved = hvm(&controllers, &devices).unwrap();
    assert_eq!(
        lines(&resolved.hardware),
        [
            "0 hci1 ehci 6",
            "4095 hci0 piix3-uhci 2",
            "0:1 host0 host:1-1",
            "4095:1 tablet0 tablet:usbversion=2",
            "4095:2 hub0 hub",
            "4095:2.1 mouse0 mouse:usbversion=2",
            "4095:2.2 keyboard0 keyboard:usbversion=2",
        ]
    );
    assert_eq!(resolved.added_devices.len(), 1);
    let pci = resolved.hardware.controller(BOOT_BUS).unwrap().pci.as_ref().unwrap();
    assert_eq!(pci.to_string(), "pci.0/01.2");
}

/// One device at the first port, then seven behind each hub, because the next hub takes the eighth
/// port. A path has at most four ports.
#[test]
fn hubs_are_nested_on_the_boot_controller() {
    let mice = |count| vec![device("mouse"); count];
    let resolved = hvm(&[], &mice(22)).unwrap();
    let ports: Vec<String> =
        resolved.devices.iter().map(|placed| placed.address.port.to_string()).collect();
    assert_eq!(ports[..3], ["1", "2.1", "2.2"]);
    assert_eq!(ports[7..9], ["2.7", "2.8.1"]);
    assert_eq!(ports[15..17], ["2.8.8.1", "2.8.8.2"]);
    assert_eq!(resolved.added, [BOOT_BUS]);
    assert_eq!(resolved.added_devices.len(), 3);
}

/// With `spiceusbredirection=4` alone, libxl uses `usbversion=2`, the whole ICH9 group. The xHCI of
/// `usbversion=3` has four ports.
#[test]
fn redirected_devices_get_the_ich9_group_by_default() {
    let four = vec![device("redir:spicevmc"); 4];
    let hardware = hvm(&[], &four).unwrap().hardware;
    let boot = hardware.controller(BOOT_BUS).unwrap();
    assert_eq!((boot.model, boot.companions.len()), (Model::Ich9Ehci1, 3));
    assert_eq!(boot.pci.as_ref().unwrap().to_string(), "pci.0/1d.7");
    let xhci = hvm(&[boot_controller(Some(UsbVersion::V3))], &four).unwrap();
    let ports = xhci.devices.iter().map(|placed| placed.address.port.to_string());
    assert_eq!(ports.collect::<Vec<_>>(), ["1", "2", "3", "4.1"]);
}

#[test]
fn what_libxl_does_not_support_is_refused() {
    let version = |kind, version| [controller(kind, Some(version), None)];
    let model = |model: &str| {
        [ControllerSpec { model: Some(model.parse().unwrap()), ..ControllerSpec::default() }]
    };
    for (result, message) in [
        (hvm(&version(PV, 3), &[]), "usbif.h) has no version 3"),
        (hvm(&model("qemu-xhci"), &[]), "piix3-uhci, ehci, nec-xhci, xenusb1 and xenusb2"),
        (hvm(&[], &[device("storage:x.img")]), "not implemented by libxl"),
        (hvm(&[], &[device("redir:unix:/run/x")]), "not implemented by libxl"),
        (hvm(&[controller(None, None, None)], &[device("tablet@0")]), "host devices only"),
        (hvm(&[], &[device("tablet"), device("redir:spicevmc")]), "cannot be enabled with usb"),
        (hvm(&[boot_controller(None)], &[device("redir:spicevmc")]), "cannot be enabled with usb"),
        (
            hvm(&[boot_controller(Some(UsbVersion::V2))], &[device("mouse")]),
            "cannot be enabled with usb",
        ),
        (
            on(&Hardware::new(), Virtualization::Pv, spec(&version(EMULATED, 2), &[])),
            "a PV or PVH guest has no emulated machine",
        ),
        (
            on(&Hardware::new(), Virtualization::Pvh, spec(&[], &[device("tablet")])),
            "for HVM guests",
        ),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.category(), Category::NotImplemented, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// Refusals contain libxl's own message, so that users can search for it.
#[test]
fn refusals_have_libxls_own_message() {
    let pv = [controller(PV, None, None)];
    for (spec, message) in [
        (spec(&[controller(PV, None, Some(32))], &[]), "limited to 31"),
        (spec(&[controller(EMULATED, Some(1), Some(4))], &[]), "of version 1 is always 2"),
        (spec(&[controller(EMULATED, None, Some(8))], &[]), "of version 2 is always 6"),
        (spec(&[controller(EMULATED, Some(3), Some(16))], &[]), "limited to 15"),
        (
            spec(&[], &[DeviceSpec { port: "1".parse().ok(), ..device("1-1") }]),
            "must be specified if you specify port",
        ),
        (spec(&pv, &["1-1", "1-2@0:1"].map(device)), "port isn't available"),
    ] {
        let error = on(&Hardware::new(), Virtualization::Hvm, spec).unwrap_err();
        let sentence = sentence(&error.refusal).unwrap();
        assert!(sentence.contains(message), "{error}: {sentence}");
    }
    let three = ["1-1@0", "1-2@0", "1-3@0"].map(device);
    let error = hvm(&[controller(EMULATED, Some(1), None)], &three).unwrap_err();
    assert_eq!(error.item, Some(RequestedItem::Device(2)));
    assert_eq!(sentence(&error.refusal), Some("No available port under specified controller"));
}

/// libxl would put a slow device on an EHCI without companions, and fail only when the guest
/// starts.
#[test]
fn speeds_are_checked() {
    let mut slow = device("1-1@0");
    let vusb_model::device::Kind::Host(host) = &mut slow.kind else { unreachable!() };
    host.speeds = Some(vusb_model::speed::Speed::Low.into());
    let error = hvm(&[controller(None, None, None)], &[slow]).unwrap_err();
    assert!(matches!(error.refusal, Refusal::WrongSpeed { .. }));
    assert!(error.to_string().contains("libxl does not check speeds"), "{error}");
}

/// A port alone is enough if there is only one controller. The devices of the base keep their
/// ports.
#[test]
fn devices_are_added_to_a_base() {
    let base = hvm(&[controller(None, None, None)], &[device("1-1@0:3")]).unwrap().hardware;
    let port = DeviceSpec { port: "2".parse().ok(), ..device("1-2") };
    let more = spec(&[], &[port, device("1-1"), device("1-3")]);
    let resolved = on(&base, Virtualization::Hvm, more).unwrap();
    let placed: Vec<_> =
        resolved.devices.iter().map(|it| (it.address.to_string(), it.existing)).collect();
    assert_eq!(
        placed,
        [("0:2".to_owned(), false), ("0:3".to_owned(), true), ("0:1".to_owned(), false)]
    );
    let by_name =
        ControllerSpec { name: "hci0".parse().ok(), ..controller(EMULATED, Some(2), None) };
    assert!(on(&base, Virtualization::Hvm, spec(&[by_name], &[])).unwrap().controllers[0].existing);
}

#[test]
fn ten_thousand_devices_are_placed_within_seconds() {
    let devices: Vec<DeviceSpec> = (1..=40u16)
        .flat_map(|bus| (1..=250u8).map(move |port| device(&format!("{bus}-{port}"))))
        .collect();
    let start = std::time::Instant::now();
    let resolved = on(&Hardware::new(), Virtualization::Pv, spec(&[], &devices)).unwrap();
    assert_eq!(resolved.hardware.controllers().len(), 1250);
    assert!(start.elapsed().as_secs() < 20, "even without optimization");
}

prop_compose! {
    /// A controller for an HVM guest. libxl may not support it.
    fn any_controller()(
        kind in prop_oneof![Just(None), Just(PV), Just(EMULATED)],
        version in prop::option::of(1u8..=3), ports in prop::option::of(1u8..=31),
    ) -> ControllerSpec {
        controller(kind, version, ports)
    }
}

prop_compose! {
    fn any_device()(
        kind in prop_oneof!["[1-9]-[1-9]", Just("tablet".to_owned()), Just("mouse:usbversion=2".to_owned()), Just("redir:spicevmc".to_owned())],
        controller in prop::option::of(0u16..5), port in prop::option::of(1u8..=8),
    ) -> DeviceSpec {
        let index = controller.map(|index| if index == 4 { BOOT_BUS } else { Index::new(index).unwrap() });
        DeviceSpec {
            controller: index.map(ControllerRef::Index),
            port: port.map(|port| port.to_string().parse().unwrap()),
            ..device(&kind)
        }
    }
}

/// The hardware of all items that are not refused, added one at a time.
fn accepted(controllers: Vec<ControllerSpec>, devices: Vec<DeviceSpec>) -> Hardware {
    let controllers = controllers.into_iter().map(|it| spec(&[it], &[]));
    let items = controllers.chain(devices.into_iter().map(|it| spec(&[], &[it])));
    items.fold(Hardware::new(), |base, item| {
        let resolved = on(&base, Virtualization::Hvm, item);
        resolved.map_or(base, |resolved| resolved.hardware)
    })
}

proptest! {
    /// A spec that leaves nothing open resolves to exactly that hardware, both for an empty guest
    /// and on top of the same hardware.
    #[test]
    fn resolving_again_changes_nothing(
        controllers in prop::collection::vec(any_controller(), 0..6),
        boot in prop::option::of(prop::option::of(1u8..=3)),
        devices in prop::collection::vec(any_device(), 0..30),
    ) {
        let boot = boot.map(|version| boot_controller(version.map(|it| UsbVersion::try_from(it).unwrap())));
        let hardware = accepted(controllers.into_iter().chain(boot).collect(), devices);
        let explicit = Spec { profile: Profile::Libxl, ..Spec::from(&hardware) };
        let again = on(&Hardware::new(), Virtualization::Hvm, explicit.clone()).unwrap();
        prop_assert_eq!(&again.hardware, &hardware);
        let on_top = on(&hardware, Virtualization::Hvm, explicit).unwrap();
        prop_assert_eq!(&on_top.hardware, &hardware);
        prop_assert!(on_top.added.is_empty() && on_top.added_devices.is_empty());
    }

    /// The devices of the base stay at their ports.
    #[test]
    fn the_base_is_kept(
        controllers in prop::collection::vec(any_controller(), 0..6),
        devices in prop::collection::vec(any_device(), 0..20), more in prop::collection::vec(any_device(), 1..4),
    ) {
        let base = accepted(controllers, devices);
        if let Ok(resolved) = on(&base, Virtualization::Hvm, spec(&[], &more)) {
            for (at, device) in base.devices() {
                prop_assert_eq!(resolved.hardware.device(at), Some(device));
            }
            for placed in &resolved.devices {
                prop_assert!(resolved.hardware.device(placed.address).is_some());
            }
        }
    }
}
