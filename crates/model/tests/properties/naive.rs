//! The simplest implementation of rules 7 and 8 of `vusb-1`: each device searches all ports of all
//! controllers.

use vusb_model::address::{Address, Index, PortPath};
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Device, Hardware};
use vusb_model::models::{ControllerType, Model, RootPorts};

use crate::ports::{fits, port_speeds, root_ports, speeds};

/// Places a device that requests neither controller nor port, and adds a controller if there is no
/// suitable free port.
pub(crate) fn place(
    hardware: &mut Hardware,
    kind: &Kind,
    default: ControllerType,
    added: &mut Vec<Index>,
) -> Address {
    let at = find(hardware, kind, default).unwrap_or_else(|| {
        let index = Index::all().find(|index| hardware.controller(*index).is_none()).unwrap();
        let model = match default {
            ControllerType::Emulated => Model::QemuXhci,
            ControllerType::Pv => Model::Xenusb2,
        };
        let ports = if default == ControllerType::Pv { 16 } else { 15 };
        let ports = RootPorts::uniform(model, ports.try_into().unwrap());
        let name = format!("added{index}").parse().unwrap();
        let controller = Controller::new(index, name, model, ports);
        let port = lowest(&controller, kind).unwrap();
        hardware.add_controller(controller).unwrap();
        added.push(index);
        Address { bus: index, port }
    });
    let name = format!("placed{}", hardware.devices().count()).parse().unwrap();
    hardware.plug(at, Device { name, kind: kind.clone() }).unwrap();
    at
}

/// Rule 7, without adding a controller.
fn find(hardware: &Hardware, kind: &Kind, default: ControllerType) -> Option<Address> {
    let is_pv = |c: &&Controller| c.model.controller_type() == ControllerType::Pv;
    let is_shared = |c: &&Controller| is_pv(c) && c.devices().len() > 0;
    let pv = hardware.controllers().filter(is_pv).count();
    let may_share = default != ControllerType::Pv || pv >= 8;
    for shared in [false, true] {
        if shared && !may_share {
            continue;
        }
        for speeds in preferred_speeds(kind) {
            for controller in hardware.controllers().filter(|c| is_shared(c) == shared) {
                let fitting = |port: &PortPath| fits(&port_speeds(controller, *port), &speeds);
                if let Some(port) = free(controller).find(fitting) {
                    return Some(Address { bus: controller.index, port });
                }
            }
        }
    }
    None
}

/// Rule 8: the port on one controller.
fn lowest(controller: &Controller, kind: &Kind) -> Option<PortPath> {
    preferred_speeds(kind).into_iter().find_map(|speeds| {
        free(controller).find(|port| fits(&port_speeds(controller, *port), &speeds))
    })
}

/// The speeds to search ports for: first the native one, then all. A device of unknown speed fits
/// any port.
fn preferred_speeds(kind: &Kind) -> [String; 2] {
    let all = speeds(kind);
    let first = if all.starts_with("lf") { all.clone() } else { all[..1].to_owned() };
    [first, all]
}

/// The free ports: the controller's own, then those of its hubs, depth first, as if each hub had
/// eight.
fn free(controller: &Controller) -> impl Iterator<Item = PortPath> {
    let own = (1..=root_ports(controller)).map(|port| port.to_string());
    let hubs = controller
        .devices()
        .filter(|(port, device)| matches!(device.kind, Kind::Hub(_)) && port.numbers().count() < 4);
    let behind = hubs.flat_map(|(hub, _)| (1..=8).map(move |port| format!("{hub}.{port}")));
    let all: Vec<PortPath> = own.chain(behind).map(|text| text.parse().unwrap()).collect();
    all.into_iter().filter(|port| controller.devices().all(|(used, _)| used != *port))
}
