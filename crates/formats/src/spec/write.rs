//! A spec as text: what [`read`](super::read) reads back as the same.

use std::fmt::Display;

use vusb_model::device::{Hub, ImageFormat, Input, Kind, NetBackend};
use vusb_model::models::{Companion, UsbVersion};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec};

use super::SpecFile;

/// Writes a spec. The profile is always said, so that the text means the same for ever; what is left open stays open.
pub fn write(file: &SpecFile) -> String {
    let mut out = Text(String::new());
    let spec = &file.spec;
    out.text("profile", spec.profile);
    out.maybe("domain", spec.domain.as_ref());
    out.maybe("driver", file.driver.as_ref());
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

/// One controller, as its table in a spec.
pub(crate) fn controller_text(spec: &ControllerSpec) -> String {
    let mut out = Text(String::from("[[controller]]\n"));
    write_controller(&mut out, spec);
    out.0
}

/// One device, as its table in a spec.
pub(crate) fn device_text(spec: &DeviceSpec) -> String {
    let mut out = Text(String::from("[[device]]\n"));
    write_device(&mut out, spec);
    out.0
}

/// TOML that grows line by line.
struct Text(String);

impl Text {
    fn table(&mut self, name: &str) {
        self.0 += &format!("\n[[{name}]]\n");
    }

    /// A value that is TOML as it stands: a number, true or false.
    fn plain(&mut self, key: &str, value: impl Display) {
        self.0 += &format!("{key} = {value}\n");
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.plain(key, quoted(value));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) {
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

/// A text in quotes on one line, with what TOML wants escaped: a spec whose lines end otherwise than in `\n` could not have a text of several
/// lines that stays as it is.
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
    out.maybe("name", spec.name.as_ref());
    out.maybe("type", spec.controller_type);
    if let Some(version) = spec.usbversion {
        out.plain("usbversion", version);
    }
    out.maybe("model", spec.model);
    if let Some(ports) = spec.ports {
        out.plain("ports", ports);
    }
    if let Some((usb2, usb3)) = spec.halves {
        out.plain("usb2ports", usb2);
        out.plain("usb3ports", usb3);
    }
    match spec.companions.as_deref() {
        None => {}
        Some([]) => out.text("companions", "none"),
        Some(companions) => out.plain("companions", list(companions)),
    }
    out.maybe("backend", spec.backend.as_ref());
    out.maybe("pci", spec.pci.as_ref());
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
    out.maybe("port", spec.port);
    out.maybe("name", spec.name.as_ref());
}

fn write_kind(out: &mut Text, kind: &Kind) {
    if let Kind::Host(host) = kind {
        return out.text("host", &host.selector);
    }
    out.text("kind", kind.word());
    match kind {
        Kind::Host(_) | Kind::Ccid => {}
        Kind::Storage(storage) => {
            out.text("file", &storage.file);
            if storage.format != ImageFormat::of_name(&storage.file) {
                out.text("format", storage.format);
            }
            out.flag("readonly", storage.readonly);
        }
        Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
            write_input(out, *input);
        }
        Kind::Hub(hub) if *hub == Hub::default() => {}
        Kind::Hub(hub) => out.plain("ports", hub.ports),
        Kind::Serial(serial) => out.text("chardev", &serial.chardev),
        Kind::Redir(redir) => out.text("chardev", &redir.chardev),
        Kind::Audio(audio) => out.maybe("audiodev", audio.audiodev.as_ref()),
        Kind::Net(net) => {
            if net.backend != NetBackend::User {
                out.text("backend", &net.backend);
            }
            out.maybe("mac", net.mac);
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
