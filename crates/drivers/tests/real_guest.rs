//! The QEMU driver on a running guest: the guest's own kernel detects the controllers that are
//! added, and releases those that are removed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::time::Duration;

use vusb_drivers::Driver;
use vusb_drivers::qemu::{ArgumentOptions, Qemu, arguments};
use vusb_model::diff::diff;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, Spec};
use vusb_rig::Guest;

const BOOT: Duration = Duration::from_secs(180);
/// How long a guest may take to detect or release a device, on a busy machine without KVM.
const SHORT: Duration = Duration::from_secs(60);

/// Every model that each version of QEMU can hot add, and the kernel's driver for it.
const MODELS: [(&str, &str); 5] = [
    ("piix3-uhci", "uhci_hcd"),
    ("piix4-uhci", "uhci_hcd"),
    ("ehci", "ehci-pci"),
    ("nec-xhci", "xhci_hcd"),
    ("qemu-xhci", "xhci_hcd"),
];

fn all_models() -> Spec {
    let controller = |(model, _): (&str, _)| ControllerSpec {
        model: Some(model.parse().unwrap()),
        ..Default::default()
    };
    Spec { controllers: MODELS.map(controller).to_vec(), ..Spec::default() }
}

/// Adds a controller of each model to a guest, and removes them again.
fn add_and_remove_all(machine: &str, spare_slots: u8) {
    let slots = arguments(&Hardware::new(), &ArgumentOptions { spare_slots }).unwrap();
    let guest = Guest::builder().machine(machine).args(slots).start().unwrap();
    guest.wait_booted(BOOT).unwrap();
    let mut driver = Qemu::at(guest.qmp_socket(), SHORT);
    let before = driver.observe(&Hardware::new()).unwrap().hardware;
    let all =
        resolve(&before, &all_models(), &driver.capabilities(None).unwrap()).unwrap().hardware;
    for step in diff(&before, &all) {
        driver.perform(&step).unwrap();
    }
    // Each is bound to its driver: two UHCIs, an EHCI, and two xHCIs with two buses each.
    guest.wait_until("[ $(ls -d /sys/bus/usb/devices/usb* | wc -l) = 7 ]", SHORT).unwrap();
    let mut drivers: Vec<String> =
        guest.pci_tree().unwrap().into_iter().filter_map(|device| device.driver).collect();
    drivers.retain(|driver| MODELS.iter().any(|(_, known)| known == driver));
    drivers.sort();
    assert_eq!(drivers, ["ehci-pci", "uhci_hcd", "uhci_hcd", "xhci_hcd", "xhci_hcd"]);

    for step in diff(&driver.observe(&all).unwrap().hardware, &before) {
        driver.perform(&step).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
    guest.wait_until("! ls -d /sys/bus/usb/devices/usb*", SHORT).unwrap();
    assert_eq!(driver.observe(&all).unwrap().hardware, before);
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn controllers_are_added_and_removed_on_i440fx() {
    add_and_remove_all("pc", 0);
}

#[test]
#[ignore = "boots a guest; run by cargo xtask test"]
fn controllers_are_added_and_removed_on_q35() {
    add_and_remove_all("q35", 5);
}
