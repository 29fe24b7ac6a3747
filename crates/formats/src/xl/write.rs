//! Generates a whole configuration.

use vusb_model::guest::{Guest, Virtualization};
use vusb_model::hardware::Hardware;

use super::edit::{dev_entry, new_ctrl_entry, quoted};
use crate::config::Generated;
use crate::libxl::express::{BootPlan, plan};

/// The number of KiB in a MiB, the unit of `memory`.
const MIB: u64 = 1024;

/// Generates the guest, as far as it is known, and its USB.
pub(super) fn write(guest: &Guest, hardware: &Hardware) -> Generated {
    let plan = plan(guest, hardware);
    let mut text = String::new();
    let mut line = |key: &str, value: String| text += &format!("{key} = {value}\n");
    let string = |text: &str| quoted(text, '"');
    line("name", string(guest.name.as_deref().unwrap_or("guest")));
    if let Some(uuid) = &guest.uuid {
        line("uuid", string(uuid));
    }
    line(
        "type",
        string(match guest.virtualization {
            Virtualization::Hvm => "hvm",
            Virtualization::Pv => "pv",
            Virtualization::Pvh => "pvh",
        }),
    );
    if let Some(memory) = guest.memory_kib {
        line("memory", memory.div_ceil(MIB).to_string());
    }
    if let Some(vcpus) = guest.vcpus {
        line("vcpus", vcpus.to_string());
    }
    if let Some(BootPlan { version, devices, redirected }) = &plan.boot {
        match version {
            None => line("usb", "1".to_owned()),
            Some(version) => line("usbversion", version.to_string()),
        }
        if !devices.is_empty() {
            line("usbdevice", list(devices));
        }
        if *redirected > 0 {
            line("spice", "1".to_owned());
            line("spiceusbredirection", redirected.to_string());
        }
    }
    if !plan.ctrls.is_empty() {
        let entries: Vec<String> = plan.ctrls.into_iter().map(new_ctrl_entry).collect();
        line("usbctrl", list(&entries));
    }
    if !plan.devs.is_empty() {
        let entries: Vec<String> = plan.devs.into_iter().map(dev_entry).collect();
        line("usbdev", list(&entries));
    }
    Generated { text, lost: plan.lost }
}

/// A list: on one line if it has one entry, otherwise with each entry on its own line.
fn list(entries: &[String]) -> String {
    if let [one] = entries {
        return format!("[ {} ]", quoted(one, '\''));
    }
    let lines: Vec<String> =
        entries.iter().map(|it| format!("    {},\n", quoted(it, '\''))).collect();
    format!("[\n{}]", lines.concat())
}
