//! Whether two states of a guest's hardware are the same, as far as a format can tell them apart.

use vusb_formats::Format;
use vusb_model::address::PortPath;
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::selector::Selector;

/// Whether a guest sees the same hardware, as far as the format determines it. Names and indexes do
/// not count, because a guest sees neither; the order of the controllers does.
pub(super) fn equivalent(result: &Hardware, wanted: &Hardware, format: &Format) -> bool {
    let devices = |result: &Controller, wanted: &Controller| {
        let (result, wanted) = (by_port(result, format), by_port(wanted, format));
        let mut pairs = result.iter().zip(&wanted);
        result.len() == wanted.len()
            && pairs.all(|((at, result), (port, wanted))| at == port && same_device(result, wanted))
    };
    result.controllers().len() == wanted.controllers().len()
        && result.controllers().zip(wanted.controllers()).all(|(result, wanted)| {
            result.model == wanted.model
                && result.ports == wanted.ports
                && result.companions == wanted.companions
                && result.backend == wanted.backend
                && devices(result, wanted)
        })
}

/// The devices on a controller, with their ports as far as the format specifies them. Devices
/// without a port come first, sorted by their text.
fn by_port<'a>(controller: &'a Controller, format: &Format) -> Vec<(Option<PortPath>, &'a Kind)> {
    let devices = controller.devices().map(|(port, device)| {
        let kind = &device.kind;
        (format.has_ports_for(kind).then_some(port), kind)
    });
    let mut devices: Vec<_> = devices.collect();
    devices.sort_by_cached_key(|(port, kind)| (*port, port.is_none().then(|| kind.to_string())));
    devices
}

/// Whether a device is the wanted one. A host device that the format names only by its address (as
/// xl does) is the same if the wanted one is plugged in there.
pub(super) fn same_device(result: &Kind, wanted: &Kind) -> bool {
    match (result, wanted) {
        (Kind::Host(result), Kind::Host(wanted)) => {
            result == wanted
                || matches!((&result.selector, wanted.bus_address), (Selector::Address(at), Some(now)) if *at == now)
        }
        _ => result == wanted,
    }
}

/// The first difference between the hardware that a text yields and the requested hardware, as a
/// noun phrase for an error message.
pub fn difference(result: &Hardware, wanted: &Hardware) -> String {
    let device = wanted.devices().find(|(at, device)| {
        result.device(*at).is_none_or(|found| !same_device(&found.kind, &device.kind))
    });
    if let Some((at, device)) = device {
        return format!("{} at {}", device.name, wanted.location(at));
    }
    let controller = wanted.controllers().find(|controller| {
        let found = result.controller(controller.index);
        !found.is_some_and(|found| found.same_hardware(controller))
    });
    if let Some(controller) = controller {
        return controller.describe();
    }
    let extra = result.controllers().find(|extra| wanted.controller(extra.index).is_none());
    extra.map_or_else(
        || "a guest without further devices".to_owned(),
        |extra| format!("a guest without {}", extra.describe()),
    )
}
