//! The profiles `vusb-1` and `libxl` at the limits of their rules: the last port, the deepest hub,
//! one item more or less, and items that exist already.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use vusb_model::address::Index;
use vusb_model::capabilities::{Capabilities, Slots, Support};
use vusb_model::device::Kind;
use vusb_model::guest::{Guest, Hypervisor, Virtualization};
use vusb_model::hardware::Hardware;
use vusb_model::models::{ControllerType, Model, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::refusal::{Category, Refusal};
use vusb_model::remedy::{Reason, Remedy};
use vusb_model::resolve::libxl::{BOOT_BUS, boot_controller, sentence};
use vusb_model::resolve::{Refused, Resolved, resolve};
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};
use vusb_model::speed::Speed;

fn model(model: Model) -> ControllerSpec {
    ControllerSpec { model: Some(model), ..ControllerSpec::default() }
}

fn named(name: &str, spec: ControllerSpec) -> ControllerSpec {
    ControllerSpec { name: Some(name.parse().unwrap()), ..spec }
}

/// `KIND`, `KIND@CONTROLLER` or `KIND@CONTROLLER:PORT`.
fn device(text: &str) -> DeviceSpec {
    let (kind, location) = text.split_once('@').unwrap_or((text, ""));
    let (controller, port) = location.split_once(':').unwrap_or((location, ""));
    let controller = (!controller.is_empty()).then(|| controller.parse().unwrap());
    let port = (!port.is_empty()).then(|| port.parse().unwrap());
    DeviceSpec { controller, port, ..DeviceSpec::new(kind.parse().unwrap()) }
}

mod vusb_1 {
    use super::*;

    fn request(
        base: &Hardware,
        controllers: &[ControllerSpec],
        devices: &[&str],
        capabilities: &Capabilities,
    ) -> Result<Resolved, Refused> {
        let devices = devices.iter().map(|text| device(text)).collect();
        let spec = Spec { controllers: controllers.to_vec(), devices, ..Spec::default() };
        resolve(base, &spec, capabilities)
    }

    fn guest(controllers: &[ControllerSpec], devices: &[&str]) -> Hardware {
        let everything = Capabilities::everything();
        request(&Hardware::new(), controllers, devices, &everything).unwrap().hardware
    }

    /// Whether an existing controller satisfies this request.
    fn is_satisfied(base: &Hardware, spec: ControllerSpec) -> bool {
        match request(base, &[spec], &[], &Capabilities::everything()) {
            Ok(resolved) => {
                assert!(resolved.controllers[0].existing);
                true
            }
            Err(refused) => {
                assert!(matches!(refused.refusal, Refusal::NameInUse { .. }), "{refused}");
                false
            }
        }
    }

    /// Whatever a request names has to match the existing controller.
    #[test]
    fn an_existing_controller_must_match_everything_that_is_requested() {
        let base = guest(&[model(Model::QemuXhci)], &[]);
        let hci0 = |spec| is_satisfied(&base, named("hci0", spec));
        assert!(hci0(ControllerSpec::default()));
        assert!(hci0(model(Model::QemuXhci)));
        assert!(!hci0(model(Model::NecXhci)));
        let version = |version| ControllerSpec {
            controller_type: Some(ControllerType::Emulated),
            usbversion: Some(version),
            ..ControllerSpec::default()
        };
        assert!(!hci0(version(UsbVersion::V2)));
        let ports = |ports| ControllerSpec { ports: Some(ports), ..ControllerSpec::default() };
        assert!(hci0(ports(15)));
        assert!(!hci0(ports(4)));
        let separate = |usb2, usb3| ControllerSpec {
            separate_ports: Some((usb2, usb3)),
            ..model(Model::QemuXhci)
        };
        assert!(hci0(separate(15, 15)));
        assert!(!hci0(separate(4, 15)));
    }

    /// A request that names no backend domain is satisfied by a controller of any backend domain.
    #[test]
    fn a_controller_of_any_backend_domain_satisfies_a_request_without_one() {
        let of = |backend: &str| ControllerSpec {
            backend: Some(backend.to_owned()),
            ..model(Model::Xenusb2)
        };
        let base = guest(&[of("usbvm")], &[]);
        let pv0 = |spec| is_satisfied(&base, named("pv0", spec));
        assert!(pv0(ControllerSpec::default()) && pv0(model(Model::Xenusb2)) && pv0(of("usbvm")));
        assert!(!pv0(of("other")));
    }

    /// Only a missing slot is reported as such. If the guest has free slots, but the hypervisor
    /// lacks the default model, the refusal says so.
    #[test]
    fn a_missing_model_is_not_a_missing_slot() {
        let mut capabilities = Capabilities::everything();
        let slots = |free| Some(Slots { free, reason: Reason::from("no PCI slot is free") });
        capabilities.slots = slots(0);
        let refused = request(&Hardware::new(), &[], &["mouse"], &capabilities).unwrap_err();
        assert!(matches!(refused.refusal, Refusal::NoSlot { .. }), "{refused}");

        capabilities.slots = slots(3);
        let why = "it was not built in".to_owned();
        capabilities.models.insert(Model::QemuXhci, Support::Unsupported { why });
        let refused = request(&Hardware::new(), &[], &["mouse"], &capabilities).unwrap_err();
        assert!(matches!(refused.refusal, Refusal::NotImplemented { .. }), "{refused}");
        assert!(refused.to_string().contains("it was not built in"), "{refused}");
    }

    /// At most five full controllers are named.
    #[test]
    fn full_controllers_are_named_up_to_five() {
        let message = |count: u16| {
            let controllers = vec![model(Model::Piix3Uhci); usize::from(count)];
            let texts: Vec<String> = (0..count)
                .flat_map(|index| [format!("mouse@{index}:1"), format!("mouse@{index}:2")])
                .collect();
            let devices: Vec<&str> = texts.iter().map(String::as_str).collect();
            let base = guest(&controllers, &devices);
            let reason = Reason::from("no PCI slot is free");
            let slots = Some(Slots { free: 0, reason });
            let capabilities = Capabilities { slots, ..Capabilities::everything() };
            request(&base, &[], &["mouse"], &capabilities).unwrap_err().to_string()
        };
        let five = message(5);
        assert!(
            five.starts_with("all 10 ports of hci0, hci1, hci2, hci3, hci4 are in use"),
            "{five}"
        );
        let seven = message(7);
        assert!(
            seven.starts_with("all 14 ports of hci0, hci1, hci2, hci3, hci4 and 2 more are in use"),
            "{seven}"
        );
    }

    /// A stream that only one device can use identifies the device. Any number of devices can
    /// have one of the others.
    #[test]
    fn devices_with_a_stream_that_can_be_shared_are_different_devices() {
        let base = guest(&[], &["serial:null"]);
        let everything = Capabilities::everything();
        let placed = |text| request(&base, &[], &[text], &everything).unwrap().devices[0];
        let second = placed("serial:null");
        assert!(!second.existing);
        assert_eq!(second.address.to_string(), "0:2");
    }

    /// Nothing can be behind a hub at the fourth level. The free ports of other hubs are still
    /// found.
    #[test]
    fn free_ports_are_found_although_the_deepest_hub_has_none() {
        let hubs = ["hub@0:1", "hub@0:2", "hub@0:1.1", "hub@0:1.1.1", "hub@0:1.1.1.1"];
        let base = guest(&[model(Model::Piix3Uhci)], &hubs);
        let mice = ["mouse"; 22];
        let resolved = request(&base, &[], &mice, &Capabilities::everything()).unwrap();
        assert_eq!(resolved.added, []);
        let ports: Vec<String> =
            resolved.devices.iter().map(|placed| placed.address.port.to_string()).collect();
        assert!(!ports.iter().any(|port| port.starts_with("1.1.1.1.")), "{ports:?}");
        assert_eq!(ports[21], "2.1", "{ports:?}");
    }
}

mod libxl {
    use super::*;

    fn on(
        base: &Hardware,
        controllers: &[ControllerSpec],
        devices: &[&str],
    ) -> Result<Resolved, Refused> {
        let guest = Guest {
            hypervisor: Hypervisor::Xen,
            virtualization: Virtualization::Hvm,
            ..Guest::default()
        };
        let capabilities = Capabilities { guest, ..Capabilities::everything() };
        let devices = devices.iter().map(|text| device(text)).collect();
        let controllers = controllers.to_vec();
        let spec = Spec { profile: Profile::Libxl, controllers, devices, ..Spec::default() };
        resolve(base, &spec, &capabilities)
    }

    fn hvm(controllers: &[ControllerSpec], devices: &[&str]) -> Result<Resolved, Refused> {
        on(&Hardware::new(), controllers, devices)
    }

    fn emulated(version: UsbVersion) -> ControllerSpec {
        ControllerSpec {
            controller_type: Some(ControllerType::Emulated),
            usbversion: Some(version),
            ..ControllerSpec::default()
        }
    }

    /// The messages of libxl's source, for the refusals that have one.
    #[test]
    fn refusals_have_libxls_own_message() {
        let at = |index| ControllerSpec { index: Index::new(index), ..ControllerSpec::default() };
        let base = hvm(&[at(0)], &["1-1"]).unwrap().hardware;
        let libxl_message = |refused: Refused| sentence(&refused.refusal);
        let other_version =
            on(&base, &[ControllerSpec { index: Index::new(0), ..emulated(UsbVersion::V3) }], &[]);
        assert_eq!(
            libxl_message(other_version.unwrap_err()),
            Some("device already exists in xenstore")
        );
        let elsewhere = on(&base, &[], &["1-1@0:2"]);
        assert_eq!(
            libxl_message(elsewhere.unwrap_err()),
            Some("USB device already attached to a domain")
        );
        let in_use = on(&base, &[], &["1-2@0:1"]);
        assert_eq!(libxl_message(in_use.unwrap_err()), Some("The controller port isn't available"));
        let three = hvm(&[emulated(UsbVersion::V1)], &["1-1@0", "1-2@0", "1-3@0"]);
        assert_eq!(
            libxl_message(three.unwrap_err()),
            Some("No available port under specified controller")
        );
        assert_eq!(
            libxl_message(hvm(&[at(0), at(1)], &["1-1@:1"]).unwrap_err()),
            Some("USB controller must be specified if you specify port")
        );
    }

    /// An xHCI takes every device. Leaving the controller out does not help, because libxl does not
    /// check speeds.
    #[test]
    fn the_remedy_for_a_wrong_speed_is_version_3() {
        let mut keyboard = device("1-1@0");
        if let Kind::Host(host) = &mut keyboard.kind {
            host.speeds = Some(Speed::Low.into());
        }
        let controllers = vec![emulated(UsbVersion::V2)];
        let spec = Spec {
            profile: Profile::Libxl,
            controllers,
            devices: vec![keyboard],
            ..Spec::default()
        };
        let capabilities = Capabilities {
            guest: Guest { hypervisor: Hypervisor::Xen, ..Guest::default() },
            ..Capabilities::everything()
        };
        let refused = resolve(&Hardware::new(), &spec, &capabilities).unwrap_err();
        assert_eq!(refused.remedies(), [Remedy::UseVersion { usbversion: UsbVersion::V3 }]);
    }

    /// The ports of libxl's xHCI are USB 2 and USB 3 ports at the same time.
    #[test]
    fn usb_2_and_usb_3_ports_cannot_differ() {
        let xhci = |usb2, usb3| ControllerSpec {
            separate_ports: Some((usb2, usb3)),
            ports: Some(4),
            ..emulated(UsbVersion::V3)
        };
        let hardware = hvm(&[xhci(4, 4)], &[]).unwrap().hardware;
        let ports = hardware.controller(Index::ZERO).unwrap().ports;
        assert_eq!((ports.usb2(), ports.usb3()), (4, 4));
        let message = hvm(&[xhci(4, 2)], &[]).unwrap_err().to_string();
        assert!(message.contains("whose USB 2 and USB 3 ports differ"), "{message}");
    }

    /// The ICH9 group exists only as the controller that QEMU is started with.
    #[test]
    fn the_ich9_group_has_index_4095() {
        let resolved = hvm(&[model(Model::Ich9Ehci1)], &[]).unwrap();
        assert_eq!(resolved.controllers[0].address, BOOT_BUS);
        assert_eq!(resolved.hardware.controller(BOOT_BUS).unwrap().companions.len(), 3);
        let elsewhere = ControllerSpec { index: Index::new(3), ..model(Model::Ich9Ehci1) };
        let message = hvm(&[elsewhere], &[]).unwrap_err().to_string();
        assert!(message.contains("always has index 4095"), "{message}");
    }

    /// The message names the device that got the port, not one at the same port of another
    /// controller.
    #[test]
    fn the_device_that_got_a_port_first_is_named() {
        let two = [emulated(UsbVersion::V2), emulated(UsbVersion::V2)];
        let message = hvm(&two, &["1-1@1:1", "1-2@0", "1-3@0:1"]).unwrap_err().to_string();
        assert!(message.contains("host:1-2, which requests no port and got this one"), "{message}");
    }

    /// libxl has no key for a hub. QEMU's own hubs have a port.
    #[test]
    fn a_hub_cannot_be_requested() {
        let refused = hvm(&[], &["hub"]).unwrap_err();
        assert_eq!(refused.category(), Category::NotImplemented);
        assert!(refused.to_string().contains("a device of kind hub"), "{refused}");
    }

    /// A device that is added later goes behind the hub that QEMU added for an earlier one.
    #[test]
    fn an_existing_hub_of_the_boot_controller_is_used() {
        let base = hvm(&[], &["tablet", "mouse"]).unwrap().hardware;
        let resolved = on(&base, &[], &["mouse"]).unwrap();
        assert_eq!(resolved.devices[0].address.port.to_string(), "2.2");
        assert_eq!(resolved.added_devices, []);
    }

    /// `usbdevice` and `spiceusbredirection` exclude each other, in one request and in two.
    #[test]
    fn tablets_and_redirected_devices_exclude_each_other() {
        let boot = [boot_controller(Some(UsbVersion::V1))];
        let is_refused = |result: Result<Resolved, Refused>| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains("`usb` and `usbdevice` exclude"), "{message}");
        };
        is_refused(hvm(&boot, &["tablet", "redir:spicevmc"]));
        let base = hvm(&boot, &["tablet"]).unwrap().hardware;
        is_refused(on(&base, &[], &["redir:spicevmc"]));
    }
}
