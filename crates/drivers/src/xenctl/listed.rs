//! libxl's list of the emulated controllers: so that `xl usb-list` shows what vusb added through the device model.
//!
//! libxl knows three sorts: version 1 (piix3-uhci), 2 (ehci) and 3 (nec-xhci). Others are listed under the nearest. QEMU alone says
//! what there really is; what is written here is for people, and for libxl not to give a number twice.

use vusb_model::address::{Address, Index};
use vusb_model::hardware::Controller;
use vusb_model::selector::BusId;
use vusb_xen::DomId;

use super::controller::remove_clean;
use super::entry::{self, Entry, Sort};
use super::paths;
use super::tree::Tree;
use crate::driver::Error;

/// The lowest of libxl's numbers that is free, or `index` if that is.
pub(super) fn number(entries: &[Entry], index: Index) -> u16 {
    let free = |devid: &u16| !entries.iter().any(|entry| entry.devid == *devid);
    let own = Some(index.get()).filter(free);
    own.or_else(|| (0..=u16::MAX).find(free)).unwrap_or_default()
}

/// Lists a controller that was added.
pub(super) fn add(tree: &mut Tree, guest: DomId, controller: &Controller) -> Result<(), Error> {
    let devid = number(&entry::read_all(tree, guest)?, controller.index);
    let copy = paths::copy(guest, devid);
    let version = controller.model.usbversion().to_string();
    let ports = controller.ports.count();
    tree.change(|edit| {
        edit.write(&format!("{copy}/type"), "devicemodel")?;
        edit.write(&format!("{copy}/usb-ver"), &version)?;
        edit.write(&format!("{copy}/num-ports"), &ports.to_string())?;
        edit.write(&format!("{copy}/port"), "")?;
        for port in 1..=ports {
            edit.write(&format!("{copy}/port/{port}"), "")?;
        }
        if devid != controller.index.get() {
            edit.write(&format!("{copy}/index"), &controller.index.to_string())?;
        }
        Ok(())
    })
}

/// Where an emulated controller is listed, if it is.
fn folder(tree: &mut Tree, guest: DomId, index: Index) -> Result<Option<String>, Error> {
    let entries = entry::read_all(tree, guest)?;
    let its = |it: &&Entry| it.sort == Sort::DeviceModel && it.wants() == Some(index);
    Ok(entries.iter().find(its).map(|it| paths::copy(guest, it.devid)))
}

/// Takes a controller from the list.
pub(super) fn remove(tree: &mut Tree, guest: DomId, index: Index) -> Result<(), Error> {
    let Some(folder) = folder(tree, guest, index)? else { return Ok(()) };
    tree.change(|edit| remove_clean(edit, &folder))
}

/// Says which device of the host is in a port; `None` is none. Behind a hub there is nothing that libxl could say.
pub(super) fn set_port(
    tree: &mut Tree,
    guest: DomId,
    at: Address,
    device: Option<&BusId>,
) -> Result<(), Error> {
    if at.port.parent().is_some() {
        return Ok(());
    }
    let Some(folder) = folder(tree, guest, at.bus)? else { return Ok(()) };
    let node = format!("{folder}/port/{}", at.port);
    tree.change(|edit| match edit.read(&node)? {
        Some(_) => edit.write(&node, &device.map(BusId::to_string).unwrap_or_default()),
        None => Ok(()),
    })
}
