//! The table of controller models: what each is and what can be had here, and what it is called everywhere.
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

use vusb::view::{Can, LibxlView, ModelView, ModelsView};

use super::table;
use crate::safe;

/// The models as two tables, with the hypervisors of this machine in between.
pub(crate) fn models(view: &ModelsView) -> String {
    let header = ["NAME", "TYPE", "USB", "PORTS", "SPEEDS", "QEMU", "XEN"];
    let here = table(header, view.models.iter().map(here));
    let header = ["NAME", "QEMU", "LIBXL", "LIBVIRT", "VMWARE", "VIRTUALBOX"];
    let names = table(header, view.models.iter().map(names));
    let (qemu, xen) = (safe::line(&view.here.qemu.what), safe::line(&view.here.xen.what));
    format!("{here}\n\nQEMU: {qemu}\nXen: {xen}\n\n{names}")
}

fn here(model: &ModelView) -> [String; 7] {
    let ports = match (model.ports.least, model.ports.most) {
        (least, most) if least == most => most.to_string(),
        (least, most) => format!("{least}-{most}"),
    };
    let speeds: Vec<String> = model.speeds.iter().map(|speed| speed.to_string()).collect();
    let can = |can: Option<Can>| can.map_or("-", Can::word).to_owned();
    [
        model.name.to_owned(),
        model.controller_type.to_string(),
        model.usbversion.to_string(),
        ports,
        speeds.join(","),
        can(model.here.qemu),
        can(model.here.xen),
    ]
}

fn names(model: &ModelView) -> [String; 6] {
    let text = |name: Option<&str>| name.unwrap_or("-").to_owned();
    let names = &model.names;
    let libxl = names.libxl.map(|LibxlView { kind, version }| format!("{kind} {version}"));
    [
        model.name.to_owned(),
        text(names.qemu),
        text(libxl.as_deref()),
        text(names.libvirt),
        text(names.vmware.as_deref()),
        text(names.virtualbox),
    ]
}
