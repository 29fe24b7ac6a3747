//! What a person is told, in full: the mistakes that are made most, and those that libvirt only finds out at start.

use vusb_model::refusal::Refusal;

use crate::case::Case;

/// What is said to a spec, given in the lines of an example.
fn said(lines: &[&str]) -> String {
    match Case::read("manual", &lines.join("\n")).resolve() {
        Ok(_) => "nothing".to_owned(),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn two_devices_on_one_port() {
    let said = said(&["device hub on=0 port=1", "device mouse on=0 port=1"]);
    assert_eq!(
        said,
        "port 1 of usb is in use by hub0 (hub); take another port or remove that first \
         (libvirt says: Duplicate USB address bus 0 port 1)"
    );
}

#[test]
fn two_controllers_with_one_index() {
    let said = said(&["controller index=0 model=nec-xhci", "controller index=0 model=qemu-xhci"]);
    assert_eq!(
        said,
        "index 0 is asked for twice; leave one of the two out, or give it another \
         (libvirt says: Duplicate USB controllers with index 0)"
    );
}

#[test]
fn a_bus_without_a_controller() {
    let on_port = said(&["device mouse on=3 port=1"]);
    assert_eq!(
        on_port,
        "there is no controller 3: the domain has usb (libvirt says: Missing USB bus 3)"
    );
    let anywhere = said(&["device mouse on=3"]);
    assert_eq!(
        anywhere,
        "there is no controller 3: the domain has usb (libvirt says: USB bus 3 requested but no controller with that index is present)"
    );
}

#[test]
fn a_port_out_of_range() {
    let said = said(&["device mouse on=0 port=3"]);
    assert_eq!(
        said,
        "there is no port 3 on usb: it has ports 1 to 2 (libvirt says: requested USB port 3 not present on USB bus 0)"
    );
}

#[test]
fn a_hub_that_is_not_there() {
    let said = said(&["device mouse on=0 port=1.2"]);
    assert_eq!(
        said,
        "there is no hub at port 1 of usb, so there is no port 1.2; plug a hub in there first \
         (libvirt says: there is no hub at port 1 in USB address bus: 0 port: 1.2)"
    );
}

#[test]
fn a_companion_alone() {
    let said = said(&["controller index=2 model=ich9-uhci2"]);
    assert_eq!(
        said,
        "ich9-uhci2 serves slow devices on the ports of an EHCI, and there is none at index 2; add an ich9-ehci1 at index 2, or leave \
         the companion out (libvirt says: No master USB controller specified)"
    );
}

#[test]
fn a_model_that_is_open_and_cannot_be_decided() {
    let said = said(&["guest x86_64 pc-q35-7.2", "lacks piix3-uhci", "controller index=0"]);
    assert_eq!(
        said,
        "a controller without a model: not implemented by any hypervisor: a pc-q35-7.2 machine (x86_64) has no USB controller to take \
         for it; say which model it is to be (libvirt says: no model provided for USB controller)"
    );
}

#[test]
fn no_usb_and_a_device_on_it() {
    let said = said(&["no usb", "device tablet"]);
    assert_eq!(
        said,
        "a tablet device cannot be had: the guest is to have no USB, for it has a controller of model none; leave out one of the two \
         (libvirt says: Can't add USB input device. USB bus is disabled)"
    );
}

#[test]
fn a_machine_without_usb() {
    let said = said(&["guest riscv64 virt", "device tablet"]);
    assert_eq!(
        said,
        "a tablet device needs a USB controller, and the guest has none: a virt machine (riscv64) gets none by itself; add one \
         (libvirt says: USB is disabled for this domain, but USB devices are present in the domain XML)"
    );
}

#[test]
fn all_ports_in_use() {
    let said = said(&[
        "controller index=0 model=piix3-uhci",
        "running",
        "device mouse",
        "device mouse",
        "device mouse",
    ]);
    assert_eq!(
        said,
        "there is no free port: all 2 ports of the domain's controllers and hubs are in use; add a controller, or remove a device \
         (libvirt says: No free USB ports)"
    );
}

#[test]
fn a_controller_in_full_use() {
    let said = said(&[
        "controller index=0 model=piix3-uhci",
        "controller index=1 model=nec-xhci ports=1",
        "device mouse on=1",
        "device mouse on=1",
    ]);
    assert_eq!(
        said,
        "there is no free port: all 1 ports of usb1 and its hubs are in use; add a controller, or remove a device \
         (libvirt says: No free USB ports)"
    );
}

#[test]
fn a_uhci_off_its_board() {
    let said = said(&["guest x86_64 pc", "controller index=0 pci=pci.0/04.0"]);
    assert_eq!(
        said,
        "piix3-uhci at index 0 cannot be at PCI address pci.0/04.0: it is a part of the board, at pci.0/01.2; leave the address out \
         (libvirt says: PIIX3 USB controller at index 0 must have PCI address 0:0:1.2)"
    );
}

#[test]
fn what_libvirt_would_place_and_qemu_not_take() {
    let said = said(&["controller index=0 model=ehci", "device serial:null"]);
    assert_eq!(
        said,
        "a serial is full speed, and usb (ehci) takes high speed only; libvirt would put it there all the same, and QEMU not start; say a \
         port that takes it, or give an EHCI its companions"
    );
}

/// A refusal is the same with libvirt's sentence and without: same category, same plain refusal.
#[test]
fn the_plain_refusal_is_behind_the_sentence() {
    let case = Case::read("manual", "device mouse on=0 port=3");
    let refused = case.resolve().unwrap_err();
    assert!(matches!(refused.refusal, Refusal::AsLibvirt { .. }));
    assert!(matches!(refused.refusal.plain(), Refusal::NoSuchPort { ports: 2, .. }));
    assert_eq!(refused.category(), refused.refusal.plain().category());
}
