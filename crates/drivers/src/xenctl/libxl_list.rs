//! libxl's list of emulated controllers: `xl usb-list` shows those that vusb adds through the
//! device model.
//!
//! libxl knows three models: version 1 (piix3-uhci), 2 (ehci) and 3 (nec-xhci). Others are listed
//! as the nearest of these. The list is for people, and keeps libxl from using a number twice. Only
//! QEMU knows what the guest really has.

use vusb_model::address::{Address, Index};
use vusb_model::hardware::Controller;
use vusb_model::models::UsbVersion;
use vusb_model::selector::BusId;
use vusb_xen::DomId;
use vusb_xen::usb::{ControllerId, EmulatedController, Folder, Key, Service};

use super::entry::{self, ControllerEntry};
use super::xenstore::Xenstore;
use crate::driver::Error;

/// The number for a new controller: `index` if that is free, else the lowest free one.
pub(super) fn allocate_devid(entries: &[ControllerEntry], index: Index) -> u32 {
    let is_free = |devid: &u32| !entries.iter().any(|entry| entry.id.devid == *devid);
    let preferred = Some(u32::from(index.get())).filter(is_free);
    preferred.or_else(|| (0..=u32::MAX).find(is_free)).unwrap_or_default()
}

/// The USB version in libxl's numbers.
pub(super) const fn version_number(version: UsbVersion) -> u8 {
    match version {
        UsbVersion::V1 => 1,
        UsbVersion::V2 => 2,
        UsbVersion::V3 => 3,
    }
}

/// Adds a controller to the list.
pub(super) fn add(
    store: &mut Xenstore,
    guest: DomId,
    controller: &Controller,
) -> Result<(), Error> {
    let devid = allocate_devid(&entry::read_all(store, guest)?, controller.index);
    let new = EmulatedController {
        id: ControllerId { guest, devid },
        usb_version: version_number(controller.model.usbversion()),
        ports: controller.ports.count(),
        index: controller.index,
    };
    store.change(|edit| edit.write_all(&new.id.libxl(), &new.libxl_entries()))
}

/// Where an emulated controller is listed, if it is.
fn find(store: &mut Xenstore, guest: DomId, index: Index) -> Result<Option<Folder>, Error> {
    let entries = entry::read_all(store, guest)?;
    let matches = |it: &&ControllerEntry| {
        it.service == Service::DeviceModel && it.preferred_index() == Some(index)
    };
    Ok(entries.iter().find(matches).map(|it| it.id.libxl()))
}

/// Removes a controller from the list.
pub(super) fn remove(store: &mut Xenstore, guest: DomId, index: Index) -> Result<(), Error> {
    let Some(folder) = find(store, guest, index)? else { return Ok(()) };
    store.change(|edit| edit.remove_with_empty_parents(folder.as_str()))
}

/// Lists the host device in a port; `None` empties the port. libxl has no nodes for the ports of a
/// hub.
pub(super) fn set_port(
    store: &mut Xenstore,
    guest: DomId,
    at: Address,
    device: Option<&BusId>,
) -> Result<(), Error> {
    if at.port.parent().is_some() {
        return Ok(());
    }
    let Some(folder) = find(store, guest, at.bus)? else { return Ok(()) };
    let node = folder.node(Key::Port(at.port.root_port()));
    store.change(|edit| match edit.read(&node)? {
        Some(_) => edit.write(&node, &device.map(BusId::to_string).unwrap_or_default()),
        None => Ok(()),
    })
}
