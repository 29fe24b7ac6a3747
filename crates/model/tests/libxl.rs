//! The profile `libxl`, by example: what `xl create` would have made of the same request.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use vusb_model::address::Index;
use vusb_model::capabilities::Capabilities;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::refusal::{Category, Refusal};
use vusb_model::resolve::libxl::{QEMUS_OWN, qemus_own, sentence};
use vusb_model::resolve::{Asked, Refused, Resolved, resolve};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

fn of(virtualization: Virtualization) -> Capabilities {
    let guest = Guest { hypervisor: Hypervisor::Xen, virtualization, ..Guest::default() };
    Capabilities { guest, ..Capabilities::everything() }
}

fn spec(controllers: &[ControllerSpec], devices: &[DeviceSpec]) -> Spec {
    let (controllers, devices) = (controllers.to_vec(), devices.to_vec());
    Spec { profile: Profile::Libxl, controllers, devices, ..Spec::default() }
}

fn on(base: &Hardware, guest: Virtualization, asked: Spec) -> Result<Resolved, Refused> {
    resolve(base, &asked, &of(guest))
}

fn hvm(controllers: &[ControllerSpec], devices: &[DeviceSpec]) -> Result<Resolved, Refused> {
    on(&Hardware::new(), Virtualization::Hvm, spec(controllers, devices))
}

/// `KIND` or `KIND@CONTROLLER` or `KIND@CONTROLLER:PORT`, the controller an index.
fn device(text: &str) -> DeviceSpec {
    let (kind, place) = text.split_once('@').unwrap_or((text, ""));
    let (controller, port) = place.split_once(':').unwrap_or((place, ""));
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

/// Each controller and each device in a line, hubs among them.
fn shown(hardware: &Hardware) -> Vec<String> {
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
fn what_a_controller_is_unless_said() {
    let open = [controller(None, None, None)];
    for (guest, made) in [
        (Virtualization::Hvm, "0 hci0 ehci 6"),
        (Virtualization::Pv, "0 pv0 xenusb2 8"),
        (Virtualization::Pvh, "0 pv0 xenusb2 8"),
    ] {
        let resolved = on(&Hardware::new(), guest, spec(&open, &[])).unwrap();
        assert_eq!(shown(&resolved.hardware), [made]);
    }
    let said = [
        controller(EMULATED, Some(1), None),
        controller(EMULATED, Some(2), None),
        controller(EMULATED, Some(3), None),
        controller(EMULATED, Some(3), Some(15)),
        controller(PV, None, None),
        controller(PV, Some(1), Some(31)),
        controller(None, Some(3), Some(4)),
    ];
    assert_eq!(
        shown(&hvm(&said, &[]).unwrap().hardware),
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

/// A controller that comes later has the number after the last, not the lowest that is free.
#[test]
fn the_next_index_is_one_more_than_the_last() {
    let at = |index| ControllerSpec { index: Index::new(index), ..ControllerSpec::default() };
    let first = hvm(&[at(0), at(5)], &[]).unwrap().hardware;
    let then = spec(&[controller(None, None, None)], &[]);
    let second = on(&first, Virtualization::Hvm, then).unwrap();
    assert_eq!(second.controllers[0].at.get(), 6);
}

/// Host devices go in the order of the list to the lowest port of the first controller that has one, whatever its speed.
#[test]
fn host_devices_fill_the_first_controller() {
    let controllers = [controller(EMULATED, Some(1), None), controller(EMULATED, Some(3), None)];
    let devices = ["1-1", "1-2@1", "1-3", "1-4", "1-5@1:7"].map(device);
    assert_eq!(
        shown(&hvm(&controllers, &devices).unwrap().hardware)[2..],
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
fn a_controller_of_type_auto_is_added_when_none_has_room() {
    let nine: Vec<DeviceSpec> = (1..=9).map(|n| device(&format!("1-{n}"))).collect();
    let resolved = on(&Hardware::new(), Virtualization::Pv, spec(&[], &nine)).unwrap();
    let shown = shown(&resolved.hardware);
    assert_eq!(shown[..3], ["0 pv0 xenusb2 8", "1 pv1 xenusb2 8", "0:1 host0 host:1-1"]);
    assert_eq!(shown[10], "1:1 host8 host:1-9");
    assert_eq!(resolved.added.len(), 2);
}

/// Controllers whose devices are another domain's are passed over, and nothing can be put there.
#[test]
fn another_backend_domain() {
    let backend = |name: &str| ControllerSpec {
        backend: Some(name.to_owned()),
        ..controller(PV, None, None)
    };
    let both = [backend("usbvm"), controller(PV, None, None)];
    let resolved = hvm(&both, &[device("1-1")]).unwrap();
    assert_eq!(resolved.devices[0].at.to_string(), "1:1");
    let error = hvm(&both, &[device("1-1@0")]).unwrap_err().to_string();
    assert!(error.contains("Don't support adding USB device from non-Dom0 backend"), "{error}");
}

/// `usb=1`, `usbdevice=[..]`: QEMU's own UHCI has two ports, and QEMU plugs a hub into the last one that is free.
#[test]
fn tablets_go_to_qemus_own_controller() {
    let controllers = [qemus_own(None), controller(None, None, None)];
    let devices = ["tablet", "1-1", "mouse:usbversion=2", "keyboard"].map(device);
    let resolved = hvm(&controllers, &devices).unwrap();
    assert_eq!(
        shown(&resolved.hardware),
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
    let pci = resolved.hardware.controller(QEMUS_OWN).unwrap().pci.as_ref().unwrap();
    assert_eq!(pci.to_string(), "pci.0/01.2");
}

/// One for the first port, then seven behind each hub, for the eighth port takes the next hub. Four hubs deep is where it ends.
#[test]
fn hub_behind_hub_on_qemus_own_controller() {
    let mice = |count| vec![device("mouse"); count];
    let made = hvm(&[], &mice(22)).unwrap();
    let last: Vec<String> =
        made.devices.iter().map(|settled| settled.at.port.to_string()).collect();
    assert_eq!(last[..3], ["1", "2.1", "2.2"]);
    assert_eq!(last[7..9], ["2.7", "2.8.1"]);
    assert_eq!(last[15..17], ["2.8.8.1", "2.8.8.2"]);
    assert_eq!(made.added, [QEMUS_OWN]);
    assert_eq!(made.added_devices.len(), 3);
}

/// `spiceusbredirection=4` alone: libxl takes `usbversion=2`, the whole ICH9 group. The xHCI of `usbversion=3` has four ports.
#[test]
fn redirected_devices() {
    let four = vec![device("redir:spicevmc"); 4];
    let made = hvm(&[], &four).unwrap().hardware;
    let own = made.controller(QEMUS_OWN).unwrap();
    assert_eq!((own.model, own.companions.len()), (Model::Ich9Ehci1, 3));
    assert_eq!(own.pci.as_ref().unwrap().to_string(), "pci.0/1d.7");
    let xhci = hvm(&[qemus_own(Some(UsbVersion::V3))], &four).unwrap();
    let ports = xhci.devices.iter().map(|settled| settled.at.port.to_string());
    assert_eq!(ports.collect::<Vec<_>>(), ["1", "2", "3", "4.1"]);
}

#[test]
fn what_libxl_cannot_do() {
    let v = |kind, version| [controller(kind, Some(version), None)];
    let model = |model: &str| {
        [ControllerSpec { model: Some(model.parse().unwrap()), ..ControllerSpec::default() }]
    };
    for (error, says) in [
        (hvm(&v(PV, 3), &[]), "usbif.h) has no version 3"),
        (hvm(&model("qemu-xhci"), &[]), "piix3-uhci, ehci, nec-xhci, xenusb1 and xenusb2"),
        (hvm(&[], &[device("storage:x.img")]), "not implemented by libxl"),
        (hvm(&[], &[device("redir:unix:/run/x")]), "not implemented by libxl"),
        (hvm(&[controller(None, None, None)], &[device("tablet@0")]), "host devices alone"),
        (hvm(&[], &[device("tablet"), device("redir:spicevmc")]), "cannot be enabled with usb"),
        (hvm(&[qemus_own(None)], &[device("redir:spicevmc")]), "cannot be enabled with usb"),
        (hvm(&[qemus_own(Some(UsbVersion::V2))], &[device("mouse")]), "cannot be enabled with usb"),
        (
            on(&Hardware::new(), Virtualization::Pv, spec(&v(EMULATED, 2), &[])),
            "a PV or PVH guest has no emulated machine",
        ),
        (
            on(&Hardware::new(), Virtualization::Pvh, spec(&[], &[device("tablet")])),
            "for HVM guests",
        ),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.category(), Category::NotImplemented, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// What libxl itself says is there for those who search for it.
#[test]
fn refusals_have_libxls_own_sentence() {
    let three = [controller(PV, None, None)];
    for (asked, says) in [
        (spec(&[controller(PV, None, Some(32))], &[]), "limited to 31"),
        (spec(&[controller(EMULATED, Some(1), Some(4))], &[]), "of version 1 is always 2"),
        (spec(&[controller(EMULATED, None, Some(8))], &[]), "of version 2 is always 6"),
        (spec(&[controller(EMULATED, Some(3), Some(16))], &[]), "limited to 15"),
        (
            spec(&[], &[DeviceSpec { port: "1".parse().ok(), ..device("1-1") }]),
            "must be specified if you specify port",
        ),
        (spec(&three, &["1-1", "1-2@0:1"].map(device)), "port isn't available"),
    ] {
        let error = on(&Hardware::new(), Virtualization::Hvm, asked).unwrap_err();
        let sentence = sentence(&error.refusal).unwrap();
        assert!(sentence.contains(says), "{error}: {sentence}");
    }
    let two = ["1-1@0", "1-2@0", "1-3@0"].map(device);
    let error = hvm(&[controller(EMULATED, Some(1), None)], &two).unwrap_err();
    assert_eq!(error.asked, Some(Asked::Device(2)));
    assert_eq!(sentence(&error.refusal), Some("No available port under specified controller"));
}

/// libxl would put a mouse into a bare EHCI and find out at the start of the guest.
#[test]
fn speed_is_checked() {
    let mut slow = device("1-1@0");
    let vusb_model::device::Kind::Host(host) = &mut slow.kind else { unreachable!() };
    host.speeds = Some(vusb_model::speed::Speed::Low.into());
    let error = hvm(&[controller(None, None, None)], &[slow]).unwrap_err();
    assert!(matches!(error.refusal, Refusal::WrongSpeed { .. }));
    assert!(error.to_string().contains("libxl itself does not compare speeds"), "{error}");
}

/// A port alone is enough where there is one controller; a record's devices stay where they are.
#[test]
fn on_top_of_what_is_there() {
    let base = hvm(&[controller(None, None, None)], &[device("1-1@0:3")]).unwrap().hardware;
    let port = DeviceSpec { port: "2".parse().ok(), ..device("1-2") };
    let more = spec(&[], &[port, device("1-1"), device("1-3")]);
    let resolved = on(&base, Virtualization::Hvm, more).unwrap();
    let at: Vec<_> = resolved.devices.iter().map(|it| (it.at.to_string(), it.already)).collect();
    assert_eq!(
        at,
        [("0:2".to_owned(), false), ("0:3".to_owned(), true), ("0:1".to_owned(), false)]
    );
    let by_name =
        ControllerSpec { name: "hci0".parse().ok(), ..controller(EMULATED, Some(2), None) };
    assert!(on(&base, Virtualization::Hvm, spec(&[by_name], &[])).unwrap().controllers[0].already);
}

#[test]
fn ten_thousand_devices() {
    let devices: Vec<DeviceSpec> = (1..=40u16)
        .flat_map(|bus| (1..=250u8).map(move |port| device(&format!("{bus}-{port}"))))
        .collect();
    let start = std::time::Instant::now();
    let made = on(&Hardware::new(), Virtualization::Pv, spec(&[], &devices)).unwrap();
    assert_eq!(made.hardware.controllers().len(), 1250);
    assert!(start.elapsed().as_secs() < 20, "even without optimization");
}

prop_compose! {
    /// A controller that libxl can have, on an HVM guest.
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
        let index = controller.map(|index| if index == 4 { QEMUS_OWN } else { Index::new(index).unwrap() });
        DeviceSpec {
            controller: index.map(ControllerRef::Index),
            port: port.map(|port| port.to_string().parse().unwrap()),
            ..device(&kind)
        }
    }
}

/// All of the spec that is possible, one after the other on top of what there is.
fn possible(controllers: Vec<ControllerSpec>, devices: Vec<DeviceSpec>) -> Hardware {
    let one = controllers.into_iter().map(|it| spec(&[it], &[]));
    let one = one.chain(devices.into_iter().map(|it| spec(&[], &[it])));
    one.fold(Hardware::new(), |base, asked| {
        let resolved = on(&base, Virtualization::Hvm, asked);
        resolved.map_or(base, |resolved| resolved.hardware)
    })
}

proptest! {
    /// A spec that leaves nothing open comes to what it says, from nothing and on top of it.
    #[test]
    fn resolving_again_changes_nothing(
        controllers in prop::collection::vec(any_controller(), 0..6),
        own in prop::option::of(prop::option::of(1u8..=3)),
        devices in prop::collection::vec(any_device(), 0..30),
    ) {
        let own = own.map(|version| qemus_own(version.map(|it| UsbVersion::try_from(it).unwrap())));
        let made = possible(controllers.into_iter().chain(own).collect(), devices);
        let explicit = Spec { profile: Profile::Libxl, ..Spec::from(&made) };
        let again = on(&Hardware::new(), Virtualization::Hvm, explicit.clone()).unwrap();
        prop_assert_eq!(&again.hardware, &made);
        let on_top = on(&made, Virtualization::Hvm, explicit).unwrap();
        prop_assert_eq!(&on_top.hardware, &made);
        prop_assert!(on_top.added.is_empty() && on_top.added_devices.is_empty());
    }

    /// What was there stays, and where it is.
    #[test]
    fn the_base_is_kept(
        controllers in prop::collection::vec(any_controller(), 0..6),
        devices in prop::collection::vec(any_device(), 0..20), more in prop::collection::vec(any_device(), 1..4),
    ) {
        let base = possible(controllers, devices);
        if let Ok(resolved) = on(&base, Virtualization::Hvm, spec(&[], &more)) {
            for (at, device) in base.devices() {
                prop_assert_eq!(resolved.hardware.device(at), Some(device));
            }
            for settled in &resolved.devices {
                prop_assert!(resolved.hardware.device(settled.at).is_some());
            }
        }
    }
}
