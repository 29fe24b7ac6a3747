//! The complete messages for the most frequent mistakes, and for those that libvirt reports only
//! when the guest starts.

use vusb_model::refusal::Refusal;

use crate::case::Case;

/// The refusal of a spec, given as the lines of a case.
fn refusal(lines: &[&str]) -> String {
    match Case::read("manual", &lines.join("\n")).resolve() {
        Ok(_) => "not refused".to_owned(),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn two_devices_on_one_port_are_refused() {
    let refusal = refusal(&["device hub on=0 port=1", "device mouse on=0 port=1"]);
    assert_eq!(
        refusal,
        "port 1 of usb is in use by hub0 (hub); use another port or remove that device first \
         (libvirt says: Duplicate USB address bus 0 port 1)"
    );
}

#[test]
fn two_controllers_with_one_index_are_refused() {
    let refusal =
        refusal(&["controller index=0 model=nec-xhci", "controller index=0 model=qemu-xhci"]);
    assert_eq!(
        refusal,
        "index 0 is requested twice; leave one of the two out or change it \
         (libvirt says: Duplicate USB controllers with index 0)"
    );
}

#[test]
fn a_device_on_a_missing_controller_is_refused() {
    let on_port = refusal(&["device mouse on=3 port=1"]);
    assert_eq!(
        on_port,
        "there is no controller 3: the domain has usb (libvirt says: Missing USB bus 3)"
    );
    let anywhere = refusal(&["device mouse on=3"]);
    assert_eq!(
        anywhere,
        "there is no controller 3: the domain has usb (libvirt says: USB bus 3 requested but no controller with that index is present)"
    );
}

#[test]
fn a_port_out_of_range_is_refused() {
    let refusal = refusal(&["device mouse on=0 port=3"]);
    assert_eq!(
        refusal,
        "there is no port 3 on usb: it has ports 1 to 2 (libvirt says: requested USB port 3 not present on USB bus 0)"
    );
}

#[test]
fn a_port_behind_a_missing_hub_is_refused() {
    let refusal = refusal(&["device mouse on=0 port=1.2"]);
    assert_eq!(
        refusal,
        "there is no hub at port 1 of usb, so there is no port 1.2; plug a hub in there first \
         (libvirt says: there is no hub at port 1 in USB address bus: 0 port: 1.2)"
    );
}

#[test]
fn a_companion_without_its_ehci_is_refused() {
    let refusal = refusal(&["controller index=2 model=ich9-uhci2"]);
    assert_eq!(
        refusal,
        "ich9-uhci2 serves slow devices on the ports of an EHCI, and there is none at index 2; add an ich9-ehci1 at index 2, or leave \
         the companion out (libvirt says: No master USB controller specified)"
    );
}

#[test]
fn a_controller_without_a_model_and_a_default_is_refused() {
    let refusal = refusal(&["guest x86_64 pc-q35-7.2", "lacks piix3-uhci", "controller index=0"]);
    assert_eq!(
        refusal,
        "a controller without a model: not implemented by any hypervisor: a pc-q35-7.2 machine (x86_64) has no default USB controller; \
         specify a model (libvirt says: no model provided for USB controller)"
    );
}

#[test]
fn a_device_is_refused_while_usb_is_disabled() {
    let refusal = refusal(&["no usb", "device tablet"]);
    assert_eq!(
        refusal,
        "a tablet device cannot be added: a controller of model none disables the guest's USB; leave one of the two out \
         (libvirt says: Can't add USB input device. USB bus is disabled)"
    );
}

#[test]
fn a_device_without_a_controller_is_refused_if_there_is_no_default() {
    let refusal = refusal(&["guest riscv64 virt", "device tablet"]);
    assert_eq!(
        refusal,
        "a tablet device needs a USB controller, and the guest has none: a virt machine (riscv64) gets none by default; add one \
         (libvirt says: USB is disabled for this domain, but USB devices are present in the domain XML)"
    );
}

#[test]
fn a_device_is_refused_if_all_ports_are_in_use() {
    let refusal = refusal(&[
        "controller index=0 model=piix3-uhci",
        "running",
        "device mouse",
        "device mouse",
        "device mouse",
    ]);
    assert_eq!(
        refusal,
        "there is no free port: all 2 ports of the domain's controllers and hubs are in use; add a controller, or remove a device \
         (libvirt says: No free USB ports)"
    );
}

#[test]
fn a_device_is_refused_if_its_controller_is_full() {
    let refusal = refusal(&[
        "controller index=0 model=piix3-uhci",
        "controller index=1 model=nec-xhci ports=1",
        "device mouse on=1",
        "device mouse on=1",
    ]);
    assert_eq!(
        refusal,
        "there is no free port: all 1 ports of usb1 and its hubs are in use; add a controller, or remove a device \
         (libvirt says: No free USB ports)"
    );
}

#[test]
fn the_boards_uhci_is_refused_at_another_pci_address() {
    let refusal = refusal(&["guest x86_64 pc", "controller index=0 pci=pci.0/04.0"]);
    assert_eq!(
        refusal,
        "piix3-uhci at index 0 cannot be at PCI address pci.0/04.0: it is part of the board, at pci.0/01.2; leave the address out \
         (libvirt says: PIIX3 USB controller at index 0 must have PCI address 0:0:1.2)"
    );
}

#[test]
fn a_speed_that_libvirt_does_not_check_is_refused() {
    let refusal = refusal(&["controller index=0 model=ehci", "device serial:null"]);
    assert_eq!(
        refusal,
        "a serial is full speed, and usb (ehci) supports high speed only; a UHCI, an OHCI, an ICH9 group or an xHCI supports it \
         (libvirt does not check speeds: QEMU would refuse to start; an EHCI needs companions for slow devices)"
    );
}

/// libvirt's message is only a note: the refusal and its category are the model's.
#[test]
fn libvirts_message_does_not_change_the_refusal() {
    let case = Case::read("manual", "device mouse on=0 port=3");
    let refused = case.resolve().unwrap_err();
    assert!(refused.note.is_some());
    assert!(matches!(refused.refusal, Refusal::NoSuchPort { ports: 2, .. }));
    assert_eq!(refused.category(), refused.refusal.category());
}
