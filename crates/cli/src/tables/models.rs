//! The table of controller models.

use serde::Serialize;
use vusb::model::models::{ControllerType, Model, UsbVersion};
use vusb::model::speed::SpeedSet;
use vusb_drivers::qemu;

use super::table;

/// What is known of a model, as JSON has it.
#[derive(Serialize)]
pub(crate) struct Row {
    name: &'static str,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    aliases: &'static [&'static str],
    #[serde(rename = "type")]
    controller_type: ControllerType,
    usbversion: UsbVersion,
    ports: Ports,
    speeds: SpeedSet,
    /// What QEMU calls it; `null` if it does not have it.
    qemu: Option<&'static str>,
    /// Whether QEMU can add it to a running guest.
    /// `null` where only the QEMU at hand can tell.
    hot: Option<bool>,
    /// How a Xen guest gets it; `null` if it cannot.
    xen: Option<&'static str>,
    /// Whether a Xen guest that runs can be given it: as [`Row::hot`] for what its device model emulates.
    xen_hot: Option<bool>,
}

#[derive(Serialize)]
struct Ports {
    least: u8,
    most: u8,
}

/// Every model.
pub(crate) fn rows() -> Vec<Row> {
    Model::ALL.map(row).into()
}

fn row(model: Model) -> Row {
    let range = model.port_range();
    let group = model == Model::Ich9Ehci1;
    Row {
        name: model.name(),
        aliases: model.aliases(),
        controller_type: model.controller_type(),
        usbversion: model.usbversion(),
        ports: Ports { least: *range.start(), most: *range.end() },
        // As it comes unless it is asked for otherwise: with its companions.
        speeds: model.takes().or(if group { Model::Ich9Uhci1.takes() } else { SpeedSet::NONE }),
        qemu: qemu::controller_driver(model),
        // A part of a south bridge that new QEMUs let nobody add, and old ones did.
        hot: (model != Model::Vt82c686bUhci).then(|| qemu::hot(model)),
        xen: xen(model),
        xen_hot: match model {
            Model::Xenusb1 | Model::Xenusb2 => Some(true),
            Model::Xenusb3 => Some(false),
            Model::Vt82c686bUhci => None,
            emulated => Some(qemu::hot(emulated)),
        },
    }
}

/// How a Xen guest gets it: from libxl's device model by USB version, or from a PVUSB back end.
const fn xen(model: Model) -> Option<&'static str> {
    match model {
        Model::Piix3Uhci => Some("device model, version 1"),
        Model::Ehci => Some("device model, version 2"),
        Model::NecXhci => Some("device model, version 3"),
        Model::Ich9Ehci1 => Some("at boot"),
        Model::Piix4Uhci | Model::QemuXhci => Some("through QMP"),
        Model::Xenusb1 | Model::Xenusb2 => Some("PVUSB"),
        _ => None,
    }
}

/// The models as a table.
pub(crate) fn models() -> String {
    let header = ["NAME", "TYPE", "USB", "PORTS", "SPEEDS", "QEMU", "HOT", "XEN"];
    table(header, rows().iter().map(cells))
}

fn cells(row: &Row) -> [String; 8] {
    let ports = match (row.ports.least, row.ports.most) {
        (least, most) if least == most => most.to_string(),
        (least, most) => format!("{least}-{most}"),
    };
    let speeds: Vec<String> = row.speeds.iter().map(|speed| speed.to_string()).collect();
    let hot = match (row.qemu, row.hot) {
        (None, _) => "-",
        (Some(_), Some(true)) => "yes",
        (Some(_), Some(false)) => "no",
        (Some(_), None) => "ask",
    };
    [
        row.name.to_owned(),
        row.controller_type.to_string(),
        row.usbversion.to_string(),
        ports,
        speeds.join(","),
        row.qemu.unwrap_or("-").to_owned(),
        hot.to_owned(),
        row.xen.unwrap_or("-").to_owned(),
    ]
}
