//! Notes about devices that run more slowly than they could because of their port.

use vusb_model::address::Address;
use vusb_model::diff::Step;
use vusb_model::hardware::{Device, Hardware};
use vusb_model::name::Name;
use vusb_model::speed::Speed;

use crate::note::Note;

/// A note for each device that a step plugs into a port that does not support its native speed.
/// `hardware` is what the guest has after the steps.
pub(crate) fn notes(hardware: &Hardware, steps: &[Step]) -> Vec<Note> {
    let plugged = steps.iter().filter_map(|step| match step {
        Step::Plug(at, device) => slower_note(hardware, *at, device),
        _ => None,
    });
    plugged.collect()
}

fn slower_note(hardware: &Hardware, at: Address, device: &Device) -> Option<Note> {
    let speeds = device.kind.speeds()?;
    let supported = hardware.controller(at.bus)?.port_speeds(at.port).ok()?;
    let speed = supported.intersection(speeds.possible).fastest()?;
    // An input device loses nothing at a lower speed.
    if speed >= speeds.native || (speeds.native <= Speed::High && is_input(device)) {
        return None;
    }
    Some(Note::Slower {
        name: device.name.clone(),
        speed,
        native: speeds.native,
        faster: controllers_for(hardware, speeds.native),
    })
}

fn is_input(device: &Device) -> bool {
    matches!(device.kind.name(), "tablet" | "mouse" | "keyboard")
}

/// The controllers with a free root port that supports this speed.
fn controllers_for(hardware: &Hardware, speed: Speed) -> Vec<Name> {
    let has_port = |controller: &&vusb_model::hardware::Controller| {
        let used: Vec<u8> = controller
            .devices()
            .filter(|(port, _)| port.depth() == 1)
            .map(|(port, _)| port.port())
            .collect();
        (1..=controller.ports.count())
            .any(|port| !used.contains(&port) && controller.root_port_speeds(port).contains(speed))
    };
    hardware.controllers().filter(has_port).map(|controller| controller.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use vusb_model::address::Index;
    use vusb_model::hardware::Controller;
    use vusb_model::models::{Model, RootPorts};

    use super::*;

    fn hardware(models: &[Model]) -> Hardware {
        let mut hardware = Hardware::new();
        for (number, model) in models.iter().enumerate() {
            let number = u16::try_from(number).unwrap();
            let ports = NonZeroU8::new(*model.port_range().end()).unwrap();
            let name = format!("c{number}").parse().unwrap();
            let ports = RootPorts::uniform(*model, ports);
            let controller = Controller::new(Index::new(number).unwrap(), name, *model, ports);
            hardware.add_controller(controller).unwrap();
        }
        hardware
    }

    fn notes_of_plug(hardware: &mut Hardware, port: &str, kind: &str) -> Vec<String> {
        let at = Address { bus: Index::ZERO, port: port.parse().unwrap() };
        let name = format!("d{}", hardware.devices().count());
        let device = Device { name: name.parse().unwrap(), kind: kind.parse().unwrap() };
        hardware.plug(at, device.clone()).unwrap();
        notes(hardware, &[Step::Plug(at, device)]).iter().map(ToString::to_string).collect()
    }

    /// A disk behind a full-speed hub and on a UHCI: what is lost, and what is faster.
    #[test]
    fn a_port_that_slows_a_device_is_noted() {
        let mut one = hardware(&[Model::QemuXhci]);
        assert_eq!(notes_of_plug(&mut one, "1", "hub"), [""; 0]);
        assert_eq!(notes_of_plug(&mut one, "2", "storage:/a.img"), [""; 0]);
        assert_eq!(
            notes_of_plug(&mut one, "1.1", "storage:/b.img"),
            [
                "d2 runs at full speed (12 Mbit/s) on this port, and could run at super speed (5000 Mbit/s): use a free port of c0 for that speed"
            ]
        );
        let mut slow = hardware(&[Model::Piix3Uhci]);
        assert_eq!(
            notes_of_plug(&mut slow, "1", "storage:/a.img"),
            [
                "d0 runs at full speed (12 Mbit/s) on this port, and could run at super speed (5000 Mbit/s): use an xHCI for that speed"
            ]
        );
    }

    #[test]
    fn an_input_device_loses_nothing() {
        let mut slow = hardware(&[Model::Piix3Uhci]);
        assert_eq!(notes_of_plug(&mut slow, "1", "tablet:usbversion=2"), [""; 0]);
    }

    #[test]
    fn a_high_speed_device_loses_something_at_full_speed() {
        let mut slow = hardware(&[Model::Piix3Uhci]);
        let expected = "d0 runs at full speed (12 Mbit/s) on this port, and could run at high speed (480 Mbit/s): use an EHCI or an xHCI for that speed";
        assert_eq!(notes_of_plug(&mut slow, "1", "mtp:/d"), [expected]);
    }

    #[test]
    fn a_controller_without_a_free_port_is_not_suggested() {
        let mut hardware = Hardware::new();
        let ports = RootPorts::uniform(Model::QemuXhci, NonZeroU8::MIN);
        let name = "c0".parse().unwrap();
        let controller = Controller::new(Index::ZERO, name, Model::QemuXhci, ports);
        hardware.add_controller(controller).unwrap();
        assert_eq!(notes_of_plug(&mut hardware, "1", "hub"), [""; 0]);
        let [note] = &notes_of_plug(&mut hardware, "1.2", "storage:/a.img")[..] else { panic!() };
        assert!(note.ends_with("(5000 Mbit/s): use an xHCI for that speed"), "{note}");
    }
}
