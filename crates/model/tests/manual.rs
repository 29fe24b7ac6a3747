//! A manual of resolving, in examples: a request, and the result or the refusal.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use vusb_model::capabilities::{Capabilities, KINDS, Slots, Support};
use vusb_model::device::{HostRef, Kind};
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::refusal::{Category, Refusal};
use vusb_model::remedy::Remedy;
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};
use vusb_model::speed::Speed;

/// A guest and its hypervisor.
struct Guest {
    hardware: Hardware,
    hypervisor: Capabilities,
}

impl Guest {
    /// A guest without USB, on a hypervisor that supports everything.
    fn anywhere() -> Guest {
        Guest { hardware: Hardware::new(), hypervisor: Capabilities::everything() }
    }

    /// A guest without USB, on QEMU.
    fn on_qemu(running: bool) -> Guest {
        use Model::{Ich9Ehci1, Ich9Uhci1, Ich9Uhci2, Ich9Uhci3, PciOhci, Xenusb1, Xenusb2};
        let mut models: BTreeMap<Model, Support> =
            Model::ALL.into_iter().map(|model| (model, Support::Hot)).collect();
        for model in [PciOhci, Ich9Ehci1, Ich9Uhci1, Ich9Uhci2, Ich9Uhci3] {
            let why = format!("{model} cannot be hotplugged");
            models.insert(model, Support::Cold { why });
        }
        for model in [Xenusb1, Xenusb2] {
            models.insert(
                model,
                Support::Unsupported { why: "QEMU has no paravirtual USB".to_owned() },
            );
        }
        let hypervisor = Capabilities {
            hypervisor: "QEMU 7.2.22 (machine pc)".to_owned(),
            default_type: ControllerType::Emulated,
            running,
            models,
            kinds: KINDS.into_iter().map(|kind| (kind, Support::Hot)).collect(),
            slots: None,
            guest: vusb_model::guest::Guest::default(),
        };
        Guest { hardware: Hardware::new(), hypervisor }
    }

    /// A Xen PV guest without USB.
    fn on_xen() -> Guest {
        let default_type = ControllerType::Pv;
        let hypervisor = Capabilities { default_type, ..Capabilities::everything() };
        Guest { hardware: Hardware::new(), hypervisor }
    }

    fn request(&mut self, spec: &Spec) -> Result<Resolved, Refusal> {
        let resolved = resolve(&self.hardware, spec, &self.hypervisor)?;
        self.hardware = resolved.hardware.clone();
        Ok(resolved)
    }

    /// Requests a controller and describes the result.
    fn controller(&mut self, spec: ControllerSpec) -> Result<String, Refusal> {
        let resolved = self.request(&Spec { controllers: vec![spec], ..Spec::default() })?;
        let controller = resolved.hardware.controller(resolved.controllers[0].address).unwrap();
        Ok(controller.describe())
    }

    /// Requests a device. The result is its location, with any controllers that were added, and
    /// whether the device already existed.
    fn device(&mut self, spec: DeviceSpec) -> Result<String, Refusal> {
        let resolved = self.request(&Spec { devices: vec![spec], ..Spec::default() })?;
        let placed = resolved.devices[0];
        let mut result = resolved.hardware.location(placed.address);
        for index in resolved.added {
            let added = resolved.hardware.controller(index).unwrap();
            result += &format!(", with {} added", added.describe());
        }
        Ok(result + if placed.existing { ", already" } else { "" })
    }
}

fn model(model: Model) -> ControllerSpec {
    ControllerSpec { model: Some(model), ..ControllerSpec::default() }
}

fn version(version: UsbVersion) -> ControllerSpec {
    ControllerSpec { usbversion: Some(version), ..ControllerSpec::default() }
}

/// `tablet`, `tablet on hci0`, `tablet on hci0:2`, `tablet named pen` or a combination.
fn device(text: &str) -> DeviceSpec {
    let (text, name) = text.split_once(" named ").map_or((text, None), |(a, b)| (a, Some(b)));
    let (kind, location) = text.split_once(" on ").map_or((text, None), |(a, b)| (a, Some(b)));
    let mut spec = DeviceSpec::new(kind.parse().unwrap());
    let (controller, port) = match location.map(|location| location.split_once(':').ok_or(location))
    {
        None => (None, None),
        Some(Err(controller)) => (Some(controller), None),
        Some(Ok((controller, port))) => (Some(controller), Some(port)),
    };
    spec.controller = controller.map(|controller| controller.parse().unwrap());
    spec.port = port.map(|port| port.parse().unwrap());
    spec.name = name.map(|name| name.parse().unwrap());
    spec
}

fn refused(refusal: &Refusal, category: Category, message: &str) {
    assert_eq!(refusal.to_string(), message);
    assert_eq!(refusal.category(), category);
}

/// A device for a guest without USB: a controller is added for it, and the result names it.
#[test]
fn a_device_for_a_guest_without_usb_gets_a_new_controller() {
    let mut guest = Guest::anywhere();
    assert_eq!(
        guest.device(device("0781:5581")).unwrap(),
        "hci0:1, with hci0, a qemu-xhci with 15 ports at index 0 added"
    );
    // The next device uses it.
    assert_eq!(guest.device(device("storage:stick.img")).unwrap(), "hci0:2");
}

/// A mouse is full speed, and an EHCI without companions supports only high speed. It is refused
/// before the guest sees any change.
#[test]
fn a_mouse_is_refused_on_an_ehci_without_companions() {
    let mut guest = Guest::anywhere();
    guest.controller(model(Model::Ehci)).unwrap();
    refused(
        &guest.device(device("mouse on hci0")).unwrap_err(),
        Category::NoRoom,
        "a mouse is full speed, and hci0 (ehci) supports high speed only; a UHCI, an OHCI, an ICH9 group or an xHCI \
         supports it",
    );
    let version = |usbversion| Remedy::UseVersion { usbversion };
    assert_eq!(
        guest.device(device("mouse on hci0")).unwrap_err().remedies(),
        [Remedy::OmitController, version(UsbVersion::V1), version(UsbVersion::V3)]
    );
    // The first remedy works:
    assert_eq!(
        guest.device(device("mouse")).unwrap(),
        "hci1:1, with hci1, a qemu-xhci with 15 ports at index 1 added"
    );
}

/// USB version 2 means the whole ICH9 group, with companions for slow devices such as a mouse.
#[test]
fn usbversion_2_supports_a_mouse() {
    let mut guest = Guest::on_qemu(false);
    assert_eq!(
        guest.controller(version(UsbVersion::V2)).unwrap(),
        "hci0, an ich9-ehci1 and companions with 6 ports at index 0"
    );
    assert_eq!(guest.device(device("mouse on hci0")).unwrap(), "hci0:1");
}

/// A group has several functions in one slot, so it cannot be hotplugged. It is not silently
/// replaced by an EHCI alone.
#[test]
fn usbversion_2_is_refused_on_a_running_guest() {
    let mut guest = Guest::on_qemu(true);
    let refusal = guest.controller(version(UsbVersion::V2)).unwrap_err();
    refused(
        &refusal,
        Category::NotImplemented,
        "a USB 2 controller (ich9-ehci1): not implemented by QEMU 7.2.22 (machine pc): ich9-ehci1 cannot be hotplugged",
    );
    let (model, usbversion) = (Model::Ich9Ehci1, Some(UsbVersion::V2));
    assert_eq!(
        refusal.remedies(),
        [
            Remedy::UseModel { model: Model::Ehci, ports: None },
            Remedy::StartWith { model, usbversion }
        ]
    );
    assert_eq!(guest.hardware, Hardware::new());
    assert_eq!(
        guest.controller(self::model(Model::Ehci)).unwrap(),
        "hci0, an ehci with 6 ports at index 0"
    );
}

/// 16 ports are the default, clamped to what the model can have. A requested number is not clamped
/// but checked.
#[test]
fn default_numbers_of_ports_are_clamped_and_requested_ones_are_checked() {
    let mut guest = Guest::anywhere();
    let mut request = |model, ports| {
        guest.controller(ControllerSpec { model: Some(model), ports, ..ControllerSpec::default() })
    };
    assert_eq!(request(Model::NecXhci, None).unwrap(), "hci0, a nec-xhci with 15 ports at index 0");
    assert_eq!(request(Model::Xenusb2, None).unwrap(), "pv0, a xenusb2 with 16 ports at index 1");
    assert_eq!(
        request(Model::NecXhci, Some(4)).unwrap(),
        "hci1, a nec-xhci with 4 ports at index 2"
    );
    refused(
        &request(Model::Piix3Uhci, Some(3)).unwrap_err(),
        Category::Usage,
        "piix3-uhci cannot have 3 ports: it has exactly 2",
    );
    refused(
        &request(Model::NecXhci, Some(16)).unwrap_err(),
        Category::Usage,
        "nec-xhci cannot have 16 ports: it has 1 to 15",
    );
}

/// A request that a hypervisor does not support is refused by name, with an alternative.
#[test]
fn pv_is_refused_on_qemu() {
    let mut guest = Guest::on_qemu(true);
    let pv =
        ControllerSpec { controller_type: Some(ControllerType::Pv), ..ControllerSpec::default() };
    let refusal = guest.controller(pv).unwrap_err();
    refused(
        &refusal,
        Category::NotImplemented,
        "a pv controller (xenusb2): not implemented by QEMU 7.2.22 (machine pc): QEMU has no paravirtual USB",
    );
    let emulated = Remedy::UseType { controller_type: ControllerType::Emulated };
    assert_eq!(refusal.remedies(), [emulated]);
}

/// xenusb3 is an agreed name for a protocol that does not exist.
#[test]
fn xenusb3_is_known_and_refused() {
    assert_eq!("xenusb3".parse(), Ok(Model::Xenusb3));
    refused(
        &Guest::on_xen().controller(version(UsbVersion::V3)).unwrap_err(),
        Category::NotImplemented,
        "a xenusb3 controller: not implemented by any hypervisor: the PVUSB protocol (usbif.h) has no version 3; \
         xenusb2 carries SuperSpeed devices as high-speed ones",
    );
}

/// On Xen a controller's ring carries only 16 requests, so each of the first eight devices gets its
/// own controller.
#[test]
fn the_first_pv_devices_do_not_share_controllers() {
    let mut guest = Guest::on_xen();
    let mut locations = (1..=10).map(|port| guest.device(device(&format!("1-{port}"))).unwrap());
    assert_eq!(
        locations.next().unwrap(),
        "pv0:1, with pv0, a xenusb2 with 16 ports at index 0 added"
    );
    assert_eq!(
        locations.nth(6).unwrap(),
        "pv7:1, with pv7, a xenusb2 with 16 ports at index 7 added"
    );
    assert_eq!(locations.next().unwrap(), "pv0:2");
    assert_eq!(locations.next().unwrap(), "pv0:3");
}

/// A requested controller is not replaced by another, even if it is full.
#[test]
fn a_requested_controller_that_is_full_is_not_replaced() {
    let mut guest = Guest::anywhere();
    guest.controller(version(UsbVersion::V1)).unwrap();
    guest.device(device("tablet on hci0")).unwrap();
    guest.device(device("keyboard on hci0")).unwrap();
    refused(
        &guest.device(device("mouse on hci0")).unwrap_err(),
        Category::NoRoom,
        "hci0 (piix3-uhci) is full: all of its 2 ports are in use; remove a device, plug in a hub in place of one, or \
         leave the controller out: one is chosen or added",
    );
    // A hub in place of a device provides more ports.
    let tablet = guest.hardware.devices().next().unwrap().0;
    guest.hardware.unplug(tablet);
    assert_eq!(guest.device(device("hub on hci0")).unwrap(), "hci0:1");
    assert_eq!(guest.device(device("mouse on hci0")).unwrap(), "hci0:1.1");
}

/// Ports and names are unique.
#[test]
fn ports_and_names_in_use_are_refused() {
    let mut guest = Guest::anywhere();
    guest.controller(version(UsbVersion::V3)).unwrap();
    guest.device(device("tablet on hci0:1 named pen")).unwrap();
    refused(
        &guest.device(device("mouse on hci0:1")).unwrap_err(),
        Category::Busy,
        "port 1 of hci0 is in use by pen (tablet); use another port or remove that device first",
    );
    refused(
        &guest.device(device("mouse named pen")).unwrap_err(),
        Category::Busy,
        "the name pen is taken: it is tablet at hci0:1; choose another name or remove that first",
    );
    refused(
        &guest
            .controller(ControllerSpec {
                name: Some("pen".parse().unwrap()),
                ..ControllerSpec::default()
            })
            .unwrap_err(),
        Category::Busy,
        "the name pen is taken: it is tablet at hci0:1; choose another name or remove that first",
    );
    refused(
        &guest.device(device("mouse on hci7")).unwrap_err(),
        Category::NotFound,
        "there is no controller hci7: the domain has hci0",
    );
    refused(
        &guest.device(device("mouse on hci0:1.1")).unwrap_err(),
        Category::NotFound,
        "there is no hub at port 1 of hci0, so there is no port 1.1; plug a hub in there first",
    );
}

/// A request for an existing item succeeds, reports that, and changes nothing.
#[test]
fn requests_for_existing_items_succeed() {
    let mut guest = Guest::anywhere();
    guest.device(device("storage:stick.img named stick")).unwrap();
    let before = guest.hardware.clone();
    for again in
        ["storage:stick.img", "storage:stick.img on hci0:1", "storage:stick.img on 0 named stick"]
    {
        assert_eq!(guest.device(device(again)).unwrap(), "hci0:1, already");
    }
    let hci0 = ControllerSpec { name: Some("hci0".parse().unwrap()), ..ControllerSpec::default() };
    assert_eq!(guest.controller(hci0).unwrap(), "hci0, a qemu-xhci with 15 ports at index 0");
    assert_eq!(guest.hardware, before);
    // A guest can have two mice, but the same file only once.
    guest.device(device("mouse")).unwrap();
    assert_eq!(guest.device(device("mouse")).unwrap(), "hci0:3");
    refused(
        &guest.device(device("storage:stick.img on hci0:4")).unwrap_err(),
        Category::Busy,
        "storage:stick.img is already plugged in, at hci0:1; remove it there first",
    );
}

/// An EHCI without companions takes no mouse: neither a free port nor a hub would help.
#[test]
fn a_device_is_refused_if_no_port_takes_it() {
    let mut guest = Guest::on_qemu(true);
    let ehci = ControllerSpec { model: Some(Model::Ehci), ..ControllerSpec::default() };
    guest.controller(ehci).unwrap();
    let reason = "all PCI slots are taken".into();
    guest.hypervisor.slots = Some(Slots { free: 0, reason });
    refused(
        &guest.device(device("mouse")).unwrap_err(),
        Category::NoRoom,
        "no free port of hci0 takes the device, and this guest has no slot for another controller; add slots: all PCI slots \
         are taken",
    );
}

/// Without a free slot, the refusal says why one is needed, and how the guest gets more.
#[test]
fn a_device_is_refused_if_no_slot_is_free() {
    let mut guest = Guest::on_qemu(true);
    let reason = "all PCI slots are taken; start the guest with another pcie-root-port".into();
    guest.hypervisor.slots = Some(Slots { free: 0, reason });
    refused(
        &guest.device(device("mouse")).unwrap_err(),
        Category::NoRoom,
        "the guest has no USB controller, and no slot for one: all PCI slots are taken; start the guest with another \
         pcie-root-port",
    );
    let slots = std::mem::take(&mut guest.hypervisor.slots);
    let ports = Some(1);
    guest.controller(ControllerSpec { ports, ..ControllerSpec::default() }).unwrap();
    guest.device(device("mouse")).unwrap();
    guest.hypervisor.slots = slots;
    refused(
        &guest.device(device("mouse")).unwrap_err(),
        Category::NoRoom,
        "the only port of hci0 is in use, and this guest has no slot for another controller; remove a device, plug in a \
         hub in place of one, or add slots: all PCI slots are taken; start the guest with another pcie-root-port",
    );
    // A controller that is requested by itself. The frozen results have this text.
    let spec = Spec { controllers: vec![ControllerSpec::default()], ..Spec::default() };
    let refusal = resolve(&Hardware::new(), &spec, &guest.hypervisor).unwrap_err();
    assert_eq!(refusal.category(), Category::NotImplemented);
    let refusal = refusal.report_missing_slot(&guest.hypervisor);
    assert_eq!(refusal.category(), Category::NoRoom);
    assert_eq!(
        refusal.to_string(),
        "adding a qemu-xhci: the guest has no free slot: all PCI slots are taken; start the guest with another pcie-root-port"
    );
}

/// Nothing that does not support the device is recommended: an EHCI has no SuperSpeed.
#[test]
fn advice_for_a_superspeed_only_device_names_no_ehci() {
    let mut guest = Guest::on_qemu(true);
    guest.controller(model(Model::Ehci)).unwrap();
    let mut host = HostRef::new("0781:5581".parse().unwrap());
    host.speeds = Some(Speed::Super.into());
    let spec = DeviceSpec {
        controller: Some("hci0".parse().unwrap()),
        ..DeviceSpec::new(Kind::Host(host))
    };
    let refusal = guest.device(spec).unwrap_err();
    assert!(refusal.to_string().ends_with("; an xHCI supports it"), "{refusal}");
    assert!(!format!("{:?}", refusal.remedies()).contains("Ehci"), "{refusal:?}");
}

/// Only items that the guest had before the request count as existing, never other items of the
/// same request.
#[test]
fn the_same_item_cannot_be_requested_twice() {
    let everything = Capabilities::everything();
    let device = |text: &str, name: Option<&str>, port: Option<&str>| DeviceSpec {
        name: name.map(|name| name.parse().unwrap()),
        controller: port.map(|port| port.split_once(':').unwrap().0.parse().unwrap()),
        port: port.map(|port| port.split_once(':').unwrap().1.parse().unwrap()),
        ..DeviceSpec::new(text.parse().unwrap())
    };
    let hci = |name: Option<&str>, index: Option<&str>| ControllerSpec {
        name: name.map(|name| name.parse().unwrap()),
        index: index.map(|index| index.parse().unwrap()),
        ..ControllerSpec::default()
    };
    let front = hci(Some("front"), Some("0"));
    let stick = device("storage:a.img", None, None);
    let cases = [
        (vec![], vec![device("mouse", Some("a"), None); 2], Category::Usage),
        (vec![front.clone()], vec![device("mouse", None, Some("0:1")); 2], Category::Usage),
        (vec![hci(None, Some("0")); 2], vec![], Category::Usage),
        (vec![hci(Some("front"), None), hci(Some("front"), Some("1"))], vec![], Category::Usage),
        (vec![], vec![stick.clone(), stick.clone()], Category::Busy),
        (vec![], vec![stick, device("storage:a.img", Some("b"), None)], Category::Busy),
        (vec![], vec![device("host:0781:5581", None, None); 2], Category::Busy),
        // The same port, through the controller's index and through its name.
        (
            vec![front],
            vec![device("mouse", None, Some("0:1")), device("mouse", None, Some("front:1"))],
            Category::Usage,
        ),
    ];
    for (controllers, devices, category) in cases {
        let twice = Spec { controllers, devices, ..Spec::default() };
        let refusal = resolve(&Hardware::new(), &twice, &everything).unwrap_err();
        assert_eq!(refusal.category(), category, "{refusal}");
        // The result is the same if the guest already has the item.
        let once = Spec {
            controllers: twice.controllers.iter().take(1).cloned().collect(),
            devices: twice.devices.iter().take(1).cloned().collect(),
            ..Spec::default()
        };
        let base = resolve(&Hardware::new(), &once, &everything).unwrap().hardware;
        let again = resolve(&base, &twice, &everything).unwrap_err();
        assert_eq!(again.category(), category, "{again}");
    }
}

/// Two domains on one network must not have cards with the same address, with or without a name.
#[test]
fn a_network_cards_address_depends_on_its_domain() {
    let address = |domain: Option<&str>, address: Option<&str>| {
        let spec = Spec {
            domain: domain.map(|name| name.parse().unwrap()),
            address: address.map(str::to_owned),
            devices: vec![DeviceSpec::new("net".parse().unwrap())],
            ..Spec::default()
        };
        let resolved = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap();
        resolved.hardware.devices().next().unwrap().1.kind.to_string()
    };
    let all = [
        address(None, None),
        address(Some("a"), None),
        address(Some("b"), None),
        address(None, Some("a")),
        address(None, Some("qemu:/run/1.sock")),
        address(None, Some("qemu:/run/2.sock")),
    ];
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    assert_eq!(address(Some("a"), Some("qemu:/run/1.sock")), address(Some("a"), None));
}

#[test]
fn a_refused_type_has_the_right_article() {
    let models = BTreeMap::from([(Model::Xenusb2, Support::Hot)]);
    let xen = Capabilities { models, ..Capabilities::everything() };
    let emulated = ControllerSpec {
        controller_type: Some(ControllerType::Emulated),
        ..ControllerSpec::default()
    };
    let spec = Spec { controllers: vec![emulated], ..Spec::default() };
    let refusal = resolve(&Hardware::new(), &spec, &xen).unwrap_err().to_string();
    assert!(refusal.starts_with("an emulated controller (qemu-xhci): "), "{refusal}");
    assert!(refusal.ends_with("it does not have this"), "{refusal}");
}

#[test]
fn devices_that_pvusb_does_not_carry_go_to_an_emulated_controller() {
    let mut hvm = Guest { hypervisor: Capabilities::everything(), ..Guest::on_xen() };
    let why = "PVUSB has no emulated devices".to_owned();
    hvm.hypervisor.kinds.insert("tablet", Support::EmulatedOnly { why });
    let pv = ControllerSpec { controller_type: Some(ControllerType::Pv), ..Default::default() };
    hvm.controller(pv.clone()).unwrap();
    let tablet = DeviceSpec::new("tablet".parse().unwrap());
    let result = hvm.device(tablet.clone()).unwrap();
    assert!(result.starts_with("hci0:1, with hci0"), "{result}");
    let on = DeviceSpec { controller: "pv0".parse().ok(), ..tablet };
    let refusal = hvm.device(on).unwrap_err();
    assert_eq!(refusal.category(), Category::NotImplemented);
    assert_eq!(refusal.remedies(), [Remedy::OmitController]);
    assert!(refusal.to_string().contains("on pv0 (xenusb2): not implemented"), "{refusal}");
}

#[test]
fn a_host_device_does_not_go_to_a_controller_of_another_backend_domain() {
    let mut guest = Guest::on_xen();
    guest
        .controller(ControllerSpec { backend: Some("usbvm".to_owned()), ..Default::default() })
        .unwrap();
    let host = DeviceSpec::new("0781:5581".parse().unwrap());
    let result = guest.device(host.clone()).unwrap();
    assert!(result.starts_with("pv1:1, with pv1"), "{result}");
    let on =
        DeviceSpec { controller: "pv0".parse().ok(), ..DeviceSpec::new("1-4".parse().unwrap()) };
    assert_eq!(guest.device(on).unwrap(), "pv0:1");
}

/// A controller that requests an index gets it, even if it comes after one that takes the next free
/// index.
#[test]
fn requested_indexes_come_first() {
    let mut guest = Guest::anywhere();
    let any = version(UsbVersion::V3);
    let first = ControllerSpec { index: Some("0".parse().unwrap()), ..version(UsbVersion::V3) };
    let named = ControllerSpec { name: Some("hci0".parse().unwrap()), ..version(UsbVersion::V3) };
    let spec = Spec { controllers: vec![any.clone(), first, any, named], ..Spec::default() };
    let resolved = guest.request(&spec).unwrap();
    let indexes: Vec<String> =
        resolved.controllers.iter().map(|placed| placed.address.to_string()).collect();
    assert_eq!(indexes, ["2", "0", "3", "1"]);
}

/// Two entries cannot be one existing controller, once by its name and once by its index.
#[test]
fn a_controller_cannot_be_requested_twice() {
    let name =
        |name: &str| ControllerSpec { name: Some(name.parse().unwrap()), ..model(Model::QemuXhci) };
    let index = ControllerSpec { index: Some("0".parse().unwrap()), ..model(Model::QemuXhci) };
    let mut guest = Guest::anywhere();
    guest.controller(name("fast")).unwrap();
    let twice = Spec { controllers: vec![name("fast"), index], ..Spec::default() };
    let refusal = guest.request(&twice).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Duplicate { what } if what == "controller fast"),
        "{refusal}"
    );
}

/// For a model that is not supported, another one of its version is offered. The other type is only
/// offered if the request was by type.
#[test]
fn other_models_of_the_same_version_are_offered() {
    let mut guest = Guest::on_qemu(true);
    let use_model = |model| Remedy::UseModel { model, ports: None };
    let refusal = guest.controller(model(Model::Xenusb2)).unwrap_err();
    let remedies = refusal.remedies();
    assert_eq!(remedies[0], use_model(Model::Ehci), "{remedies:?}");
    let by_type =
        ControllerSpec { controller_type: Some(ControllerType::Pv), ..ControllerSpec::default() };
    let refusal = guest.controller(by_type).unwrap_err();
    assert_eq!(refusal.remedies(), [Remedy::UseType { controller_type: ControllerType::Emulated }]);
}

/// Separate numbers of USB 2 and USB 3 ports have to agree with the number of ports, which is the
/// larger one.
#[test]
fn separate_numbers_of_ports_agree_with_their_maximum() {
    let request = |ports| {
        let separate_ports = Some((2, 4));
        let spec = ControllerSpec { ports, separate_ports, ..model(Model::QemuXhci) };
        Guest::anywhere().controller(spec)
    };
    assert!(request(None).is_ok());
    assert!(request(Some(4)).is_ok());
    let refusal = request(Some(6)).unwrap_err();
    assert!(matches!(refusal, Refusal::PortCount { requested: 6, .. }), "{refusal}");
}

/// xenusb2 is offered for xenusb3 only where there is a PVUSB backend.
#[test]
fn no_advice_names_what_the_hypervisor_does_not_have() {
    let remedies =
        |mut guest: Guest| guest.controller(model(Model::Xenusb3)).unwrap_err().remedies();
    assert_eq!(remedies(Guest::on_qemu(true)), []);
    let xenusb2 = Remedy::UseModel { model: Model::Xenusb2, ports: None };
    assert_eq!(remedies(Guest::on_xen()), [xenusb2]);
}
