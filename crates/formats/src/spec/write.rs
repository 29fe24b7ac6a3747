//! Writes a spec as a text from which [`read`](super::read) returns the same spec, except what the
//! text has no key for: [`Spec::address`] and [`Spec::disabled`], and the first port of a companion
//! that is listed as a controller.
//!
//! [`Spec::address`]: vusb_model::spec::Spec::address
//! [`Spec::disabled`]: vusb_model::spec::Spec::disabled

use std::fmt::Display;

use vusb_model::device::{Hub, ImageFormat, Input, Kind, NetBackend};
use vusb_model::models::{Companion, UsbVersion};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec};

use super::SpecFile;

/// Writes a spec. It always contains the profile, so that its meaning never changes; what is left
/// open stays open.
pub fn write(file: &SpecFile) -> String {
    let mut out = Text(String::new());
    let spec = &file.spec;
    out.text("profile", spec.profile);
    out.optional_text("domain", spec.domain.as_ref());
    out.optional_text("driver", file.driver.as_ref());
    for controller in &spec.controllers {
        out.table("controller");
        write_controller(&mut out, controller);
    }
    for device in &spec.devices {
        out.table("device");
        write_device(&mut out, device);
    }
    out.0
}

/// The table of one controller.
pub(crate) fn controller_text(spec: &ControllerSpec) -> String {
    let mut out = Text(String::from("[[controller]]\n"));
    write_controller(&mut out, spec);
    out.0
}

/// The table of one device.
pub(crate) fn device_text(spec: &DeviceSpec) -> String {
    let mut out = Text(String::from("[[device]]\n"));
    write_device(&mut out, spec);
    out.0
}

/// TOML text under construction.
struct Text(String);

impl Text {
    fn table(&mut self, name: &str) {
        self.0 += &format!("\n[[{name}]]\n");
    }

    /// A value that needs no quotes: a number, true or false.
    fn plain(&mut self, key: &str, value: impl Display) {
        self.0 += &format!("{key} = {value}\n");
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.plain(key, quoted(value));
    }

    fn optional_text(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// `key = true`, or nothing.
    fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.plain(key, value);
        }
    }
}

/// A quoted and escaped string on one line. A multi-line string would not keep its line endings in
/// a spec whose lines do not end in `\n`.
fn quoted(value: impl Display) -> String {
    let text = toml::Value::String(value.to_string()).to_string();
    if !text.contains(['\n', '\r']) {
        return text;
    }
    let escaped = value.to_string().chars().fold(String::new(), |mut escaped, it| {
        match it {
            '"' | '\\' => escaped.extend(['\\', it]),
            it if it.is_control() => escaped += &format!("\\u{:04x}", u32::from(it)),
            it => escaped.push(it),
        }
        escaped
    });
    format!("\"{escaped}\"")
}

fn write_controller(out: &mut Text, spec: &ControllerSpec) {
    if let Some(index) = spec.index {
        out.plain("index", index);
    }
    out.optional_text("name", spec.name.as_ref());
    out.optional_text("type", spec.controller_type);
    if let Some(version) = spec.usbversion {
        out.plain("usbversion", version);
    }
    out.optional_text("model", spec.model);
    if let Some(ports) = spec.ports {
        out.plain("ports", ports);
    }
    if let Some((usb2, usb3)) = spec.separate_ports {
        out.plain("usb2ports", usb2);
        out.plain("usb3ports", usb3);
    }
    match spec.companions.as_deref() {
        None => {}
        Some([]) => out.text("companions", "none"),
        Some(companions) => out.plain("companions", list(companions)),
    }
    out.optional_text("backend", spec.backend.as_ref());
    out.optional_text("pci", spec.pci.as_ref());
}

fn list(companions: &[Companion]) -> String {
    let one = |companion: &Companion| {
        let model = companion.model.model();
        format!("{{ model = \"{model}\", first_port = {} }}", companion.first_port)
    };
    format!("[{}]", companions.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn write_device(out: &mut Text, spec: &DeviceSpec) {
    write_kind(out, &spec.kind);
    match &spec.controller {
        None => {}
        Some(ControllerRef::Index(index)) => out.plain("controller", index),
        Some(ControllerRef::Name(name)) => out.text("controller", name),
    }
    out.optional_text("port", spec.port);
    out.optional_text("name", spec.name.as_ref());
}

fn write_kind(out: &mut Text, kind: &Kind) {
    if let Kind::Host(host) = kind {
        out.text("host", &host.selector);
        if !host.also.is_empty() {
            let ids: Vec<String> = host.also.iter().map(quoted).collect();
            out.plain("also", format!("[{}]", ids.join(", ")));
        }
        out.flag("required", host.required);
        return;
    }
    out.text("kind", kind.name());
    match kind {
        Kind::Host(_) | Kind::Ccid => {}
        Kind::Storage(storage) => {
            out.text("file", &storage.file);
            if storage.format != ImageFormat::from_file_name(&storage.file) {
                out.text("format", storage.format);
            }
            if !storage.media.is_disk() {
                out.text("media", storage.media);
            }
            out.optional_text("serial", storage.serial.as_ref());
            out.flag("removable", storage.removable);
            // A CD drive is always read-only.
            out.flag("readonly", storage.readonly && storage.media.is_disk());
        }
        Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
            write_input(out, *input);
        }
        Kind::Hub(hub) if *hub == Hub::default() => {}
        Kind::Hub(hub) => out.plain("ports", hub.ports),
        Kind::Serial(serial) => out.text("chardev", &serial.chardev),
        Kind::Redir(redir) => out.text("chardev", &redir.chardev),
        Kind::Audio(audio) => out.optional_text("audiodev", audio.audiodev.as_ref()),
        Kind::Net(net) => {
            if net.backend != NetBackend::User {
                out.text("backend", &net.backend);
            }
            out.optional_text("mac", net.mac);
        }
        Kind::Mtp(mtp) => {
            out.text("dir", &mtp.dir);
            out.flag("writable", mtp.writable);
        }
        Kind::Other(other) => out.text("driver", &other.driver),
    }
}

fn write_input(out: &mut Text, input: Input) {
    if input.usbversion != UsbVersion::V1 {
        out.plain("usbversion", input.usbversion);
    }
}
