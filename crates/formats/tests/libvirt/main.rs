//! Reading, editing and writing libvirt's domain XML.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod bounds;
mod edits;
mod manual;
mod mistakes;
mod properties;
mod schema;
mod writing;

use vusb_formats::config::Config;
use vusb_formats::{ConfigFormat as _, Libvirt};

/// A QEMU domain with the machine i440fx and these elements in `<devices>`.
fn domain(devices: &str) -> String {
    format!(
        "<domain type='kvm'>
  <name>web1</name>
  <memory unit='KiB'>1048576</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
  </os>
  <devices>
{devices}  </devices>
</domain>
"
    )
}

fn read(text: &str) -> Config {
    Libvirt.read(text, "web1.xml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn error(text: &str) -> String {
    Libvirt.read(text, "web1.xml").unwrap_err().to_string()
}
