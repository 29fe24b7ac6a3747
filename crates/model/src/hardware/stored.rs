//! How hardware is stored and sent: a list of controllers, each with its list of devices.

use super::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Controller {
    index: Index,
    name: Name,
    model: Model,
    ports: u8,
    /// Only for an xHCI whose numbers of USB 2 and USB 3 ports differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usb2ports: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usb3ports: Option<u8>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    companions: Vec<Companion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pci: Option<PciAddress>,
    #[serde(default)]
    devices: Vec<Plugged>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plugged {
    port: PortPath,
    #[serde(flatten)]
    device: Device,
}

impl From<Hardware> for Vec<Controller> {
    fn from(hardware: Hardware) -> Self {
        hardware.controllers.into_values().map(Controller::from).collect()
    }
}

impl From<super::Controller> for Controller {
    fn from(controller: super::Controller) -> Self {
        let ports = controller.ports;
        let separate = |count: u8| (!ports.are_uniform(controller.model)).then_some(count);
        Controller {
            index: controller.index,
            name: controller.name,
            model: controller.model,
            ports: ports.count(),
            usb2ports: separate(ports.usb2()),
            usb3ports: separate(ports.usb3()),
            companions: controller.companions,
            backend: controller.backend,
            pci: controller.pci,
            devices: controller
                .devices
                .into_iter()
                .map(|(port, device)| Plugged { port, device })
                .collect(),
        }
    }
}

/// The devices by port. Two devices on one port are refused: neither is dropped silently.
fn by_port(
    controller: &Name,
    devices: Vec<Plugged>,
) -> Result<BTreeMap<PortPath, Device>, Refusal> {
    let mut ports = BTreeMap::new();
    for Plugged { port, device } in devices {
        match ports.entry(port) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(device);
            }
            btree_map::Entry::Occupied(entry) => {
                let existing: &Device = entry.get();
                let by = format!("{} ({})", existing.name, existing.kind);
                return Err(Refusal::PortInUse { controller: controller.clone(), port, by });
            }
        }
    }
    Ok(ports)
}

impl TryFrom<Vec<Controller>> for Hardware {
    type Error = Refusal;

    fn try_from(controllers: Vec<Controller>) -> Result<Self, Self::Error> {
        let mut hardware = Hardware::new();
        for controller in controllers {
            let refuse = || Refusal::PortCount {
                model: controller.model,
                requested: controller.ports,
                supported: controller.model.port_range(),
            };
            let ports = match (controller.usb2ports, controller.usb3ports) {
                (None, None) => NonZeroU8::new(controller.ports)
                    .map(|ports| RootPorts::uniform(controller.model, ports)),
                (usb2, usb3) => RootPorts::xhci(usb2.unwrap_or(0), usb3.unwrap_or(0)),
            };
            let ports =
                ports.filter(|ports| ports.count() == controller.ports).ok_or_else(refuse)?;
            let devices = by_port(&controller.name, controller.devices)?;
            hardware.add_controller(super::Controller {
                companions: controller.companions,
                backend: controller.backend,
                pci: controller.pci,
                devices,
                ..super::Controller::new(controller.index, controller.name, controller.model, ports)
            })?;
        }
        Ok(hardware)
    }
}
