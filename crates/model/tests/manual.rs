//! A manual of resolving, in stories: what one asks for, and what one gets or is told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use vusb_model::capabilities::{Capabilities, KINDS, Slots, Support};
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::refusal::{Category, Refusal};
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

/// A guest, and the hypervisor that it is on.
struct Guest {
    hardware: Hardware,
    hypervisor: Capabilities,
}

impl Guest {
    /// A guest without USB, where everything can be had.
    fn anywhere() -> Guest {
        Guest { hardware: Hardware::new(), hypervisor: Capabilities::everything() }
    }

    /// A guest without USB, on a QEMU.
    fn on_qemu(running: bool) -> Guest {
        use Model::{Ich9Ehci1, Ich9Uhci1, Ich9Uhci2, Ich9Uhci3, PciOhci, Xenusb1, Xenusb2};
        let mut models: BTreeMap<Model, Support> =
            Model::ALL.into_iter().map(|model| (model, Support::Hot)).collect();
        for model in [PciOhci, Ich9Ehci1, Ich9Uhci1, Ich9Uhci2, Ich9Uhci3] {
            let why = format!("{model} cannot be plugged into a guest that runs");
            models.insert(model, Support::Cold { why });
        }
        for model in [Xenusb1, Xenusb2] {
            models.insert(model, Support::No { why: "QEMU has no paravirtual USB".to_owned() });
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

    fn ask(&mut self, spec: &Spec) -> Result<Resolved, Refusal> {
        let resolved = resolve(&self.hardware, spec, &self.hypervisor)?;
        self.hardware = resolved.hardware.clone();
        Ok(resolved)
    }

    /// Asks for a controller. The answer is what it is, in a few words.
    fn controller(&mut self, spec: ControllerSpec) -> Result<String, Refusal> {
        let resolved = self.ask(&Spec { controllers: vec![spec], ..Spec::default() })?;
        let there = resolved.hardware.controller(resolved.controllers[0].at).unwrap();
        Ok(there.describe())
    }

    /// Asks for a device. The answer is where it is, and what had to be added or was there already.
    fn device(&mut self, spec: DeviceSpec) -> Result<String, Refusal> {
        let resolved = self.ask(&Spec { devices: vec![spec], ..Spec::default() })?;
        let settled = resolved.devices[0];
        let mut answer = resolved.hardware.place(settled.at);
        for index in resolved.added {
            let added = resolved.hardware.controller(index).unwrap();
            answer += &format!(", with {} added", added.describe());
        }
        Ok(answer + if settled.already { ", already" } else { "" })
    }
}

fn model(model: Model) -> ControllerSpec {
    ControllerSpec { model: Some(model), ..ControllerSpec::default() }
}

fn version(version: UsbVersion) -> ControllerSpec {
    ControllerSpec { usbversion: Some(version), ..ControllerSpec::default() }
}

/// `tablet`, `tablet on hci0`, `tablet on hci0:2`, `tablet called pen`, or all of it.
fn device(text: &str) -> DeviceSpec {
    let (text, name) = text.split_once(" called ").map_or((text, None), |(a, b)| (a, Some(b)));
    let (kind, place) = text.split_once(" on ").map_or((text, None), |(a, b)| (a, Some(b)));
    let mut spec = DeviceSpec::new(kind.parse().unwrap());
    let (controller, port) = match place.map(|place| place.split_once(':').ok_or(place)) {
        None => (None, None),
        Some(Err(controller)) => (Some(controller), None),
        Some(Ok((controller, port))) => (Some(controller), Some(port)),
    };
    spec.controller = controller.map(|controller| controller.parse().unwrap());
    spec.port = port.map(|port| port.parse().unwrap());
    spec.name = name.map(|name| name.parse().unwrap());
    spec
}

fn refused(refusal: &Refusal, category: Category, sentence: &str) {
    assert_eq!(refusal.to_string(), sentence);
    assert_eq!(refusal.category(), category);
}

/// A stick for a guest that has no USB at all: a controller comes with it, and the answer names it.
#[test]
fn a_stick_for_a_guest_without_usb() {
    let mut guest = Guest::anywhere();
    assert_eq!(
        guest.device(device("0781:5581")).unwrap(),
        "hci0:1, with hci0, a qemu-xhci with 15 ports at index 0 added"
    );
    // The next one finds it.
    assert_eq!(guest.device(device("storage:stick.img")).unwrap(), "hci0:2");
}

/// A mouse is full speed, and an EHCI without companions takes high speed alone. Nobody has to find out in the guest.
#[test]
fn a_mouse_does_not_go_into_a_bare_ehci() {
    let mut guest = Guest::anywhere();
    guest.controller(model(Model::Ehci)).unwrap();
    refused(
        &guest.device(device("mouse on hci0")).unwrap_err(),
        Category::NoRoom,
        "a mouse is full speed, and hci0 (ehci) takes high speed only; a UHCI, an OHCI, an ICH9 group or an xHCI \
         (`--usbversion 1` or `3`) would take it: leave the controller out and one is added",
    );
    // As it says:
    assert_eq!(
        guest.device(device("mouse")).unwrap(),
        "hci1:1, with hci1, a qemu-xhci with 15 ports at index 1 added"
    );
}

/// USB 2 is the whole ICH9 group, with companions for slow devices, so that the mouse fits.
#[test]
fn usbversion_2_takes_a_mouse() {
    let mut guest = Guest::on_qemu(false);
    assert_eq!(
        guest.controller(version(UsbVersion::V2)).unwrap(),
        "hci0, an ich9-ehci1 and companions with 6 ports at index 0"
    );
    assert_eq!(guest.device(device("mouse on hci0")).unwrap(), "hci0:1");
}

/// A group has functions on one slot, which a running guest cannot be given. Nothing less is added behind one's back.
#[test]
fn usbversion_2_on_a_guest_that_runs() {
    let mut guest = Guest::on_qemu(true);
    refused(
        &guest.controller(version(UsbVersion::V2)).unwrap_err(),
        Category::NotImplemented,
        "a USB 2 controller (ich9-ehci1): not implemented by QEMU 7.2.22 (machine pc): ich9-ehci1 cannot be plugged \
         into a guest that runs; what can be had: --model ehci, or start the guest with it (`usbversion = 2` in a \
         spec, and `vusb qemu-args SPEC`)",
    );
    assert_eq!(guest.hardware, Hardware::new());
    assert_eq!(
        guest.controller(model(Model::Ehci)).unwrap(),
        "hci0, an ehci with 6 ports at index 0"
    );
}

/// 16 ports are the default, cut to what the model has. A number that somebody says is not cut, but checked.
#[test]
fn how_many_ports() {
    let mut guest = Guest::anywhere();
    let mut ask = |model, ports| {
        guest.controller(ControllerSpec { model: Some(model), ports, ..ControllerSpec::default() })
    };
    assert_eq!(ask(Model::NecXhci, None).unwrap(), "hci0, a nec-xhci with 15 ports at index 0");
    assert_eq!(ask(Model::Xenusb2, None).unwrap(), "pv0, a xenusb2 with 16 ports at index 1");
    assert_eq!(ask(Model::NecXhci, Some(4)).unwrap(), "hci1, a nec-xhci with 4 ports at index 2");
    refused(
        &ask(Model::Piix3Uhci, Some(3)).unwrap_err(),
        Category::Usage,
        "piix3-uhci cannot have 3 ports: it has exactly 2",
    );
    refused(
        &ask(Model::NecXhci, Some(16)).unwrap_err(),
        Category::Usage,
        "nec-xhci cannot have 16 ports: it has 1 to 15",
    );
}

/// What a hypervisor cannot do is refused by name, with what it can do.
#[test]
fn pv_on_qemu() {
    let mut guest = Guest::on_qemu(true);
    let pv =
        ControllerSpec { controller_type: Some(ControllerType::Pv), ..ControllerSpec::default() };
    refused(
        &guest.controller(pv).unwrap_err(),
        Category::NotImplemented,
        "a pv controller (xenusb2): not implemented by QEMU 7.2.22 (machine pc): QEMU has no paravirtual USB; what \
         can be had: --type emulated",
    );
}

/// xenusb3 is a name that was agreed on and a protocol that nobody wrote.
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

/// On Xen a controller's ring carries only 16 requests, so that the first eight devices have one each.
#[test]
fn pv_devices_have_controllers_of_their_own() {
    let mut guest = Guest::on_xen();
    let mut places = (1..=10).map(|port| guest.device(device(&format!("1-{port}"))).unwrap());
    assert_eq!(places.next().unwrap(), "pv0:1, with pv0, a xenusb2 with 16 ports at index 0 added");
    assert_eq!(places.nth(6).unwrap(), "pv7:1, with pv7, a xenusb2 with 16 ports at index 7 added");
    assert_eq!(places.next().unwrap(), "pv0:2");
    assert_eq!(places.next().unwrap(), "pv0:3");
}

/// A controller that is named is the one, and if it is full, it is full.
#[test]
fn a_full_controller() {
    let mut guest = Guest::anywhere();
    guest.controller(version(UsbVersion::V1)).unwrap();
    guest.device(device("tablet on hci0")).unwrap();
    guest.device(device("keyboard on hci0")).unwrap();
    refused(
        &guest.device(device("mouse on hci0")).unwrap_err(),
        Category::NoRoom,
        "hci0 (piix3-uhci) is full: all of its 2 ports are in use; remove a device, plug in a hub in place of one, or \
         leave the controller out and one is found or added",
    );
    // A hub in place of one, and there is room behind it.
    let tablet = guest.hardware.devices().next().unwrap().0;
    guest.hardware.unplug(tablet);
    assert_eq!(guest.device(device("hub on hci0")).unwrap(), "hci0:1");
    assert_eq!(guest.device(device("mouse on hci0")).unwrap(), "hci0:1.1");
}

/// Ports and names are used once.
#[test]
fn something_is_in_the_way() {
    let mut guest = Guest::anywhere();
    guest.controller(version(UsbVersion::V3)).unwrap();
    guest.device(device("tablet on hci0:1 called pen")).unwrap();
    refused(
        &guest.device(device("mouse on hci0:1")).unwrap_err(),
        Category::Busy,
        "port 1 of hci0 is in use by pen (tablet); take another port or remove that first",
    );
    refused(
        &guest.device(device("mouse called pen")).unwrap_err(),
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

/// Asking for what is so is answered with that, and with no change.
#[test]
fn already_so() {
    let mut guest = Guest::anywhere();
    guest.device(device("storage:stick.img called stick")).unwrap();
    let before = guest.hardware.clone();
    for again in
        ["storage:stick.img", "storage:stick.img on hci0:1", "storage:stick.img on 0 called stick"]
    {
        assert_eq!(guest.device(device(again)).unwrap(), "hci0:1, already");
    }
    let hci0 = ControllerSpec { name: Some("hci0".parse().unwrap()), ..ControllerSpec::default() };
    assert_eq!(guest.controller(hci0).unwrap(), "hci0, a qemu-xhci with 15 ports at index 0");
    assert_eq!(guest.hardware, before);
    // Two mice are two mice; one file is one file.
    guest.device(device("mouse")).unwrap();
    assert_eq!(guest.device(device("mouse")).unwrap(), "hci0:3");
    refused(
        &guest.device(device("storage:stick.img on hci0:4")).unwrap_err(),
        Category::Busy,
        "storage:stick.img is plugged in already, at hci0:1; remove it there first",
    );
}

/// A guest that has no room for another card is told what would give it some.
#[test]
fn no_slot_is_free() {
    let mut guest = Guest::on_qemu(true);
    let remedy = "all PCI slots are taken; start the guest with another pcie-root-port".to_owned();
    guest.hypervisor.slots = Some(Slots { free: 0, remedy });
    refused(
        &guest.device(device("mouse")).unwrap_err(),
        Category::NotImplemented,
        "adding a qemu-xhci: not implemented by QEMU 7.2.22 (machine pc): all PCI slots are taken; start the guest \
         with another pcie-root-port",
    );
}

/// "Already so" is said of what the guest had before, never of what the same request asks for.
#[test]
fn one_thing_cannot_be_asked_for_twice() {
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
        // By name and by index it is one port.
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
        // Neither if the guest has it: what is refused once is refused again.
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

/// Two domains on one network must not have cards of one address, be they named or not.
#[test]
fn a_network_card_is_known_by_its_domain() {
    let address = |domain: Option<&str>, address: Option<&str>| {
        let spec = Spec {
            domain: domain.map(|name| name.parse().unwrap()),
            address: address.map(str::to_owned),
            devices: vec![DeviceSpec::new("net".parse().unwrap())],
            ..Spec::default()
        };
        let made = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap();
        made.hardware.devices().next().unwrap().1.kind.to_string()
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
fn a_refused_type_has_its_article() {
    let models = BTreeMap::from([(Model::Xenusb2, Support::Hot)]);
    let xen = Capabilities { models, ..Capabilities::everything() };
    let emulated = ControllerSpec {
        controller_type: Some(ControllerType::Emulated),
        ..ControllerSpec::default()
    };
    let spec = Spec { controllers: vec![emulated], ..Spec::default() };
    let refusal = resolve(&Hardware::new(), &spec, &xen).unwrap_err().to_string();
    assert!(refusal.starts_with("an emulated controller (qemu-xhci): "), "{refusal}");
    assert!(refusal.ends_with("what can be had: --type pv"), "{refusal}");
}

#[test]
fn what_a_protocol_does_not_carry_goes_to_an_emulated_controller() {
    let mut hvm = Guest { hypervisor: Capabilities::everything(), ..Guest::on_xen() };
    let why = "PVUSB makes none up".to_owned();
    hvm.hypervisor.kinds.insert("tablet", Support::Emulated { why });
    let pv = ControllerSpec { controller_type: Some(ControllerType::Pv), ..Default::default() };
    hvm.controller(pv.clone()).unwrap();
    let tablet = DeviceSpec::new("tablet".parse().unwrap());
    let answer = hvm.device(tablet.clone()).unwrap();
    assert!(answer.starts_with("hci0:1, with hci0"), "{answer}");
    let on = DeviceSpec { controller: "pv0".parse().ok(), ..tablet };
    let refusal = hvm.device(on).unwrap_err();
    assert_eq!(refusal.category(), vusb_model::refusal::Category::NotImplemented);
    assert!(refusal.to_string().contains("on pv0 (xenusb2): not implemented"), "{refusal}");
}

#[test]
fn a_device_of_this_machine_does_not_go_where_another_machines_are() {
    let mut guest = Guest::on_xen();
    guest
        .controller(ControllerSpec { backend: Some("usbvm".to_owned()), ..Default::default() })
        .unwrap();
    let host = DeviceSpec::new("0781:5581".parse().unwrap());
    let answer = guest.device(host.clone()).unwrap();
    assert!(answer.starts_with("pv1:1, with pv1"), "{answer}");
    let on =
        DeviceSpec { controller: "pv0".parse().ok(), ..DeviceSpec::new("1-4".parse().unwrap()) };
    assert_eq!(guest.device(on).unwrap(), "pv0:1");
}
