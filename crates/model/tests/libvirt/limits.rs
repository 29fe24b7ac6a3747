//! The profile `libvirt` at the limits of its rules: the last port, the deepest hub, one item more
//! or less, and guests whose hypervisor lacks something.

use vusb_model::capabilities::Support;
use vusb_model::remedy::Remedy;
use vusb_model::spec::ControllerSpec;

use crate::case::{Case, lines};

/// The result of a spec, given as the lines of a case.
fn result(text: &[&str]) -> Vec<String> {
    lines(&Case::read("limits", &text.join("\n")).resolve())
}

/// The complete message of a refusal.
fn refusal(text: &[&str]) -> String {
    Case::read("limits", &text.join("\n")).resolve().unwrap_err().to_string()
}

/// libvirt adds its default keyboard and mouse when a guest is defined, not when a device is added
/// to one that runs.
#[test]
fn a_running_guest_gets_no_default_devices() {
    let running = ["guest ppc64 pseries graphics", "running", "controller index=0", "device hub"];
    assert_eq!(result(&running), ["0 usb qemu-xhci 4", "0:1 hub0 hub"]);
    assert_eq!(
        result(&["guest ppc64 pseries graphics", "no usb", "running"]),
        result(&["guest ppc64 pseries graphics", "no usb"]),
    );
}

/// A hub that takes one port and has eight is enough for eight mice on two ports.
#[test]
fn only_as_many_hubs_are_added_as_are_needed() {
    let mut spec = vec!["guest x86_64 pc"];
    spec.extend(["device mouse"; 8]);
    let hubs = |result: &[String]| result.iter().filter(|line| line.contains(" hub")).count();
    assert_eq!(hubs(&result(&spec)), 1);
    spec.push("device mouse");
    assert_eq!(hubs(&result(&spec)), 2);
}

#[test]
fn a_kind_that_the_hypervisor_lacks_is_refused() {
    let mut case = Case::read("limits", "guest x86_64 pc\ndevice mouse");
    let why = "it was built without".to_owned();
    case.capabilities.kinds.insert("mouse", Support::Unsupported { why });
    assert_eq!(
        case.resolve().unwrap_err().refusal.to_string(),
        "a device of kind mouse: not implemented by any hypervisor: it was built without"
    );
}

/// The same mistake has another message for a guest that already has a controller.
#[test]
fn a_companion_without_its_ehci_is_refused_beside_another_controller() {
    let message = refusal(&[
        "guest x86_64 pc",
        "base input-usbmouse-addr",
        "controller index=2 model=ich9-uhci2",
    ]);
    assert!(message.ends_with("(libvirt says: masterbus not found)"), "{message}");
}

/// Only a hub at the port of another hub has the message about hubs.
#[test]
fn a_hub_on_the_port_of_a_mouse_is_refused() {
    let spec = ["guest x86_64 pc", "base input-usbmouse-addr", "device hub on=0 port=2"];
    let message = refusal(&spec);
    assert!(message.ends_with("(libvirt says: Duplicate USB address bus 0 port 2)"), "{message}");
}

/// The last port exists, so a path through it lacks a hub.
#[test]
fn a_port_behind_a_missing_hub_at_the_last_port_is_refused() {
    let message = refusal(&["guest x86_64 pc", "device mouse on=0 port=2.1"]);
    assert!(
        message.ends_with("there is no hub at port 2 in USB address bus: 0 port: 2.1)"),
        "{message}"
    );
}

/// libvirt does not look for a port of another speed, so leaving out the controller does not help,
/// but another controller does.
#[test]
fn leaving_out_the_controller_is_no_remedy_for_a_wrong_speed() {
    let text = "guest x86_64 pc\ncontroller index=0 model=ehci\ndevice mouse:usbversion=1 on=0";
    let remedies = Case::read("limits", text).resolve().unwrap_err().remedies();
    assert!(!remedies.is_empty());
    assert!(!remedies.contains(&Remedy::OmitController), "{remedies:?}");
}

/// The rules for Xen.
mod xen {
    use super::*;

    #[test]
    fn a_model_that_the_hypervisor_lacks_is_refused() {
        let spec = ["guest x86_64 xenpv xen-pv", "lacks xenusb2", "controller", "device host:1-1"];
        assert_eq!(result(&spec), ["refused not implemented controller 0"]);
    }

    /// The spec of a whole guest has the device model's UHCI with its PCI address.
    #[test]
    fn a_pci_address_is_kept() {
        let spec = ["guest x86_64 xenfv xen-hvm", "controller model=piix3-uhci pci=pci.0/01.2"];
        assert_eq!(result(&spec), ["0 usb piix3-uhci 2 pci pci.0/01.2"]);
    }

    #[test]
    fn a_host_device_gets_the_requested_controller() {
        let two = ["guest x86_64 xenpv xen-pv", "controller", "controller"];
        let on = [&two[..], &["device host:1-1 on=1"]].concat();
        assert_eq!(result(&on).last().unwrap(), "1:1 hostdev0 host:1-1");
        // A port without a controller is on the first one.
        let port = [&two[..], &["device host:1-1 port=3"]].concat();
        assert_eq!(result(&port)[1], "0:3 hostdev0 host:1-1");
    }

    /// Host devices are devices of domain 0.
    #[test]
    fn a_host_device_is_not_put_on_a_controller_of_another_backend_domain() {
        let mut case = Case::read("limits", "guest x86_64 xenpv xen-pv\ndevice host:1-1");
        case.spec.controllers = vec![
            ControllerSpec { backend: Some("usbvm".to_owned()), ..ControllerSpec::default() },
            ControllerSpec::default(),
        ];
        assert_eq!(lines(&case.resolve())[2], "1:1 hostdev0 host:1-1");
    }

    /// The device model's UHCI takes no host devices, even if it is the only controller.
    #[test]
    fn a_host_device_is_not_put_on_the_device_models_controller() {
        let spec = ["guest x86_64 xenfv xen-hvm", "base xen-tablets", "device host:1-1"];
        let result = result(&spec);
        assert!(result.contains(&"1 usb1 xenusb2 8".to_owned()), "{result:?}");
        assert!(result.contains(&"1:1 hostdev0 host:1-1".to_owned()), "{result:?}");
    }

    /// QEMU only adds a hub for a device that requests no port.
    #[test]
    fn a_tablet_can_request_the_last_port() {
        let spec =
            ["guest x86_64 xenfv xen-hvm", "device tablet port=1", "device mouse on=0 port=2"];
        assert_eq!(
            result(&spec),
            ["0 usb piix3-uhci 2", "0:1 input0 tablet", "0:2 input1 mouse", "added usb"]
        );
    }

    /// A hub at the fourth level would have no usable port, so the last port there gets the device
    /// itself.
    #[test]
    fn hubs_are_nested_three_deep() {
        let mut spec = vec!["guest x86_64 xenfv xen-hvm"];
        spec.extend(["device tablet"; 23]);
        let result = result(&spec);
        assert!(result.contains(&"0:2.8.8.8 input22 tablet".to_owned()), "{result:?}");
        assert!(result.contains(&"added usb 0:2 0:2.8 0:2.8.8".to_owned()), "{result:?}");
    }

    /// Only an HVM guest has a device model. Without one, every input device has the same reason.
    #[test]
    fn the_refusal_says_why_a_pv_guest_has_no_input_devices() {
        for kind in ["mouse", "tablet", "keyboard"] {
            let message =
                refusal(&["guest x86_64 xenpv xen-pv", "controller", &format!("device {kind}")]);
            let why = "a guest without a device model has no emulated devices";
            assert!(message.ends_with(why), "{message}");
        }
    }
}
