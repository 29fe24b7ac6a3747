//! The USB devices of this machine, as a table.

use vusb::view::{HostDeviceView, HostView};

use super::layout::table;

/// The devices, one per line; with `paths`, their reboot-proof port paths too.
pub(crate) fn host(view: &HostView, paths: bool) -> String {
    let header = ["BUSID", "AT", "ID", "SPEED", "WHAT", "HOLDER", "PROTECTED"];
    let rows = view.devices.iter().map(cells);
    if !paths {
        return table(header, rows);
    }
    let [busid, at, id, speed, what, holder, protected] = header;
    let with_path = view.devices.iter().zip(rows).map(|(device, cells)| {
        let [busid, at, id, speed, what, holder, protected] = cells;
        let path = device.path.clone().unwrap_or_else(dash);
        [busid, at, id, speed, path, what, holder, protected]
    });
    table([busid, at, id, speed, "PATH", what, holder, protected], with_path)
}

fn dash() -> String {
    "-".to_owned()
}

fn cells(device: &HostDeviceView) -> [String; 7] {
    let names = [&device.vendor, &device.product].into_iter().flatten();
    let mut what = names.cloned().collect::<Vec<_>>().join(" ");
    if let Some(serial) = &device.serial {
        what = format!("{what} [{serial}]").trim_start().to_owned();
    }
    let holder = device.holder.as_ref().map(|it| format!("{} ({}, {})", it.domain, it.name, it.at));
    let holder = holder.or_else(|| device.used_by.clone());
    [
        device.busid.to_string(),
        device.at.to_string(),
        device.id.to_string(),
        device.speed.map_or_else(dash, |speed| speed.to_string()),
        if what.is_empty() { dash() } else { what },
        holder.unwrap_or_else(dash),
        if device.protection.is_empty() { dash() } else { device.protection.join("; ") },
    ]
}
