//! The ports and speeds of the design's table of models, implemented independently of the library,
//! and a check of hardware against them.

use std::collections::HashSet;

use vusb_model::address::PortPath;
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Hardware};

/// The speeds that a port supports or a device runs at: any of the letters `l`, `f`, `h` and `s`.
pub(crate) type Letters = String;

/// The speeds of a device, its native speed first; `lfhs` if they are unknown.
pub(crate) fn speeds(kind: &Kind) -> Letters {
    let text = kind.to_string();
    let fast = text.ends_with(":usbversion=2");
    match kind.name() {
        "storage" => "shf".to_owned(),
        "mtp" => "hf".to_owned(),
        "tablet" | "mouse" | "keyboard" => (if fast { "hf" } else { "f" }).to_owned(),
        "hub" | "serial" | "audio" | "net" | "ccid" => "f".to_owned(),
        "host" => {
            let Kind::Host(host) = kind else { unreachable!() };
            let known =
                host.speeds.into_iter().flat_map(|speeds| speeds.iter().collect::<Vec<_>>());
            // They are sorted slowest first; the native speed is the fastest.
            let letters: Vec<String> =
                known.map(|speed| speed.to_string()[..1].to_owned()).collect();
            if letters.is_empty() { "lfhs".to_owned() } else { letters.into_iter().rev().collect() }
        }
        _ => "lfhs".to_owned(),
    }
}

/// The number of the controller's own ports.
pub(crate) fn root_ports(controller: &Controller) -> u8 {
    controller.ports.usb2().max(controller.ports.usb3())
}

/// The speeds that the controller's own port supports; empty if it does not exist.
pub(crate) fn root_port_speeds(controller: &Controller, port: u8) -> Letters {
    if port == 0 || port > root_ports(controller) {
        return String::new();
    }
    let ports = controller.ports;
    let letters = match controller.model.name() {
        "nec-xhci" | "qemu-xhci" => {
            let usb2 = if port <= ports.usb2() { "lfh" } else { "" };
            let usb3 = if port <= ports.usb3() { "s" } else { "" };
            return format!("{usb2}{usb3}");
        }
        "ehci" | "ich9-ehci1" => {
            let serves = |first: u8| port == first + 1 || port == first + 2;
            let slow = controller.companions.iter().any(|companion| serves(companion.first_port));
            if slow { "lfh" } else { "h" }
        }
        "xenusb2" => "lfhs",
        _ => "lf",
    };
    letters.to_owned()
}

/// The speeds that a port of the controller or of a hub supports; empty if it does not exist.
pub(crate) fn port_speeds(controller: &Controller, port: PortPath) -> Letters {
    let numbers: Vec<u8> = port.numbers().collect();
    let (last, hub) = numbers.split_last().unwrap();
    if hub.is_empty() {
        return root_port_speeds(controller, *last);
    }
    let hub: Vec<String> = hub.iter().map(u8::to_string).collect();
    let hub: PortPath = hub.join(".").parse().unwrap();
    let device = controller.devices().find(|(port, _)| *port == hub);
    match device.map(|(_, device)| &device.kind) {
        Some(Kind::Hub(hub)) if *last <= hub.ports => "lf".to_owned(),
        _ => String::new(),
    }
}

/// Whether two sets of speeds have a speed in common.
pub(crate) fn fits(a: &str, b: &str) -> bool {
    a.chars().any(|letter| b.contains(letter))
}

fn ports_of(model: &str) -> std::ops::RangeInclusive<u8> {
    match model {
        "pci-ohci" => 3..=3,
        "ehci" | "ich9-ehci1" => 6..=6,
        "nec-xhci" | "qemu-xhci" => 1..=15,
        "xenusb1" | "xenusb2" | "xenusb3" => 1..=31,
        _ => 2..=2,
    }
}

/// Checks that the hardware is sound; the error says what is not.
pub(crate) fn check(hardware: &Hardware) -> Result<(), String> {
    let mut names = HashSet::new();
    let mut indexes = HashSet::new();
    for controller in hardware.controllers() {
        let name = &controller.name;
        if !names.insert(name.to_string()) || !indexes.insert(controller.index) {
            return Err(format!("the name or index of {name} is not unique"));
        }
        if !ports_of(controller.model.name()).contains(&root_ports(controller)) {
            return Err(format!("{name} cannot have {:?}", controller.ports));
        }
        let served: Vec<u8> = controller
            .companions
            .iter()
            .flat_map(|companion| [companion.first_port + 1, companion.first_port + 2])
            .collect();
        let distinct = served.iter().collect::<HashSet<_>>().len() == served.len();
        if !distinct || served.iter().any(|port| *port > root_ports(controller)) {
            return Err(format!("companions of {name} serve {served:?}"));
        }
        check_devices(controller, &mut names)?;
    }
    Ok(())
}

fn check_devices(controller: &Controller, names: &mut HashSet<String>) -> Result<(), String> {
    let mut used = HashSet::new();
    for (port, device) in controller.devices() {
        let description =
            format!("{} ({}) at {}:{port}", device.name, device.kind, controller.name);
        if !used.insert(port) || !names.insert(device.name.to_string()) {
            return Err(format!("{description}: port or name is not unique"));
        }
        let supported = port_speeds(controller, port);
        if !fits(&supported, &speeds(&device.kind)) {
            return Err(format!("{description}: the port supports `{supported}`"));
        }
        match &device.kind {
            Kind::Hub(hub) if !(1..=8).contains(&hub.ports) => {
                return Err(format!("{description}: a hub has 1 to 8 ports"));
            }
            _ => {}
        }
    }
    Ok(())
}
