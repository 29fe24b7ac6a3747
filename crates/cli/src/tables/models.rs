//! The tables of controller models: their properties and what this machine can do with them, and
//! their names in each tool.
//!
//! ```text
//! NAME       TYPE      USB  PORTS  SPEEDS               QEMU  XEN
//! qemu-xhci  emulated  3    1-15   low,full,high,super  hot   -
//!
//! QEMU: QEMU 7.2.22, /usr/bin/qemu-system-x86_64
//! Xen: not running
//!
//! NAME       QEMU       LIBXL  LIBVIRT    VMWARE            VIRTUALBOX
//! qemu-xhci  qemu-xhci  -      qemu-xhci  usb_xhci.present  xHCI
//! ```

use vusb::model::naming::LibxlName;
use vusb::view::{Can, GivableView, GuestModelsView, ModelView, ModelsView};

use super::layout::{rows, table};
use crate::safe;

/// The models as two tables, with the hypervisors of this machine between them.
pub(crate) fn models(view: &ModelsView) -> String {
    let titles = view.here.values().map(|it| it.title.to_uppercase());
    let header = ["NAME", "TYPE", "USB", "PORTS", "SPEEDS"].map(str::to_owned);
    let header: Vec<String> = header.into_iter().chain(titles).collect();
    let models = rows(header, view.models.iter().map(properties));
    let header = ["NAME", "QEMU", "LIBXL", "LIBVIRT", "VMWARE", "VIRTUALBOX"];
    let names = table(header, view.models.iter().map(names));
    let hypervisors =
        view.here.values().map(|it| format!("{}: {}", it.title, safe::line(&it.what)));
    let hypervisors: Vec<String> = hypervisors.collect();
    format!("{models}\n\n{}\n\n{names}", hypervisors.join("\n"))
}

/// What a domain can be given, as two tables:
///
/// ```text
/// CONTROLLER  NOW  NEXT START  WHY NOT
/// qemu-xhci   no   yes         libvirt does not hot-plug USB controllers
///
/// DEVICE  NOW  NEXT START  WHY NOT
/// tablet  yes  yes         -
/// ```
pub(crate) fn models_of(view: &GuestModelsView) -> String {
    let word = |can: bool| if can { "yes" } else { "no" }.to_owned();
    let line = |it: &GivableView| {
        let why = it.why.clone().unwrap_or_else(|| "-".to_owned());
        [it.name.clone(), word(it.live), word(it.next_start), why]
    };
    let of = |what, all: &[GivableView]| {
        table([what, "NOW", "NEXT START", "WHY NOT"], all.iter().map(line))
    };
    let controllers = of("CONTROLLER", &view.controllers);
    format!("{controllers}\n\n{}", of("DEVICE", &view.devices))
}

fn properties(model: &ModelView) -> Vec<String> {
    let ports = match (model.ports.least, model.ports.most) {
        (least, most) if least == most => most.to_string(),
        (least, most) => format!("{least}-{most}"),
    };
    let speeds: Vec<String> = model.speeds.iter().map(|speed| speed.to_string()).collect();
    let can = |can: &Option<Can>| can.map_or("-", Can::word).to_owned();
    let fixed = [
        model.name.clone(),
        model.controller_type.to_string(),
        model.usbversion.to_string(),
        ports,
        speeds.join(","),
    ];
    fixed.into_iter().chain(model.here.values().map(can)).collect()
}

fn names(model: &ModelView) -> [String; 6] {
    let text = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    let names = &model.names;
    let libxl = names.libxl.as_ref().map(|LibxlName { kind, version }| format!("{kind} {version}"));
    [
        model.name.clone(),
        text(&names.qemu),
        text(&libxl),
        text(&names.libvirt),
        text(&names.vmware),
        text(&names.virtualbox),
    ]
}
