//! The table `[[device]]`.
//!
//! There are three ways to specify what the device is: `host` selects a device of this
//! machine, `kind` is an emulated device with keys of its own, and `device` is the short form of
//! either.

use std::collections::BTreeSet;

use toml::de::DeValue;
use vusb_model::address::{Index, PortPath};
use vusb_model::device::{
    Audio, Chardev, HUB_PORTS, HostRef, Hub, ImageFormat, Input, Kind, Media, Mtp, Net, Other,
    Redir, Serial, Storage,
};
use vusb_model::models::UsbVersion;
use vusb_model::selector::{SelectorError, UsbId, UsbIdError};
use vusb_model::spec::{ControllerRef, DeviceSpec};

use super::controller::usbversion;
use crate::error::Problem;
use crate::fields::{Field, Fields, short};

/// The keys of each kind.
const KINDS: [(&str, &[&str]); 13] = [
    ("host", &["host", "also", "required"]),
    ("storage", &["file", "format", "readonly", "media", "serial", "removable"]),
    ("tablet", &["usbversion"]),
    ("mouse", &["usbversion"]),
    ("keyboard", &["usbversion"]),
    ("hub", &["ports"]),
    ("serial", &["chardev"]),
    ("audio", &["audiodev"]),
    ("net", &["backend", "mac"]),
    ("mtp", &["dir", "writable"]),
    ("ccid", &[]),
    ("redir", &["chardev"]),
    ("other", &["driver"]),
];

/// The keys of every device.
const COMMON_KEYS: [&str; 3] = ["controller", "port", "name"];

const KIND_HELP: &str = "add host = \"0781:5581\" for a device of this machine, kind = \"storage\" (for example) for an emulated device, or the \
                         short form device = \"storage:stick.img\"";

pub(super) fn read(mut fields: Fields<'_>) -> Result<DeviceSpec, Problem> {
    let name = fields.parse("name")?;
    let controller = fields.take("controller").map(|field| controller(&field)).transpose()?;
    let port = fields.take("port").map(|field| port(&field)).transpose()?;
    let (kind, short_form) = kind(&mut fields)?;
    reject_remaining(fields, kind.name(), short_form)?;
    Ok(DeviceSpec { name, kind, controller, port })
}

/// A controller, by name or by index.
fn controller(field: &Field<'_>) -> Result<ControllerRef, Problem> {
    if matches!(field.value(), DeValue::Integer(_)) {
        let index = field.integer(0..=i64::from(Index::MAX.get()))?;
        return Ok(ControllerRef::Index(Index::new(index).unwrap_or(Index::MAX)));
    }
    let text = field
        .value()
        .as_str()
        .ok_or_else(|| field.wrong_type("the name or the index of a controller"))?;
    text.parse().map_err(|_| {
        field.refuse(format!(
            "`{}` is not a controller: use a name such as hci0, or an index from 0 to 4095",
            short(text)
        ))
    })
}

/// A port as a string. A controller's own port can also be a number.
fn port(field: &Field<'_>) -> Result<PortPath, Problem> {
    match field.value() {
        DeValue::Integer(integer) if integer.radix() == 10 => {
            integer.as_str().parse().map_err(|error| field.refuse(format!("{error}")))
        }
        DeValue::Float(float) => Err(field
            .wrong_type("a string in quotes for a port behind a hub")
            .help(format!("write port = \"{}\"", short(float.as_str())))),
        _ => field.parse(),
    }
}

/// What the device is, and whether it is in the short form.
fn kind(fields: &mut Fields<'_>) -> Result<(Kind, bool), Problem> {
    let (device, kind, host) = (fields.take("device"), fields.take("kind"), fields.take("host"));
    let duplicate = |one: &Field<'_>, two: &Field<'_>| {
        let [first, second] =
            if one.key_span().start < two.key_span().start { [one, two] } else { [two, one] };
        Problem::new(second.key_span(), "this device is defined twice")
            .label("the second time")
            .other(first.key_span(), "the first time")
            .help("remove one of the two; two devices are two [[device]] tables")
    };
    match (device, kind, host) {
        (Some(device), None, None) => Ok((device.parse()?, true)),
        (Some(device), Some(other), _) | (Some(device), None, Some(other)) => {
            Err(duplicate(&device, &other))
        }
        (None, Some(kind), Some(host)) if kind.as_text()? != "host" => Err(duplicate(&kind, &host)),
        (None, _, Some(host)) => {
            let also = fields.take("also").map(|field| ids(&field)).transpose()?;
            let also = also.unwrap_or_default();
            let required = fields.boolean("required")?;
            let selector = host.parse_or(SelectorError::remedies)?;
            Ok((Kind::Host(HostRef { also, required, ..HostRef::new(selector) }), false))
        }
        (None, Some(kind), None) => of_kind(&kind, fields).map(|kind| (kind, false)),
        (None, None, None) => {
            Err(Problem::new(fields.span(), "this device does not define what it is")
                .help(KIND_HELP))
        }
    }
}

/// A device of the kind `kind`, with the keys of that kind.
fn of_kind(kind: &Field<'_>, fields: &mut Fields<'_>) -> Result<Kind, Problem> {
    let word = kind.as_text()?;
    let missing = |key: &str, example: &str| {
        Problem::new(kind.span(), format!("a device of kind {word} needs a `{key}`"))
            .help(format!("add {example}"))
    };
    Ok(match word {
        "host" => {
            return Err(missing("host", "host = \"0781:5581\""));
        }
        "storage" => {
            let file =
                fields.text("file")?.ok_or_else(|| missing("file", "file = \"stick.img\""))?;
            Kind::Storage(storage(file, fields)?)
        }
        "tablet" => Kind::Tablet(input(fields)?),
        "mouse" => Kind::Mouse(input(fields)?),
        "keyboard" => Kind::Keyboard(input(fields)?),
        "hub" => {
            let ports = fields.integer("ports", 1..=i64::from(HUB_PORTS))?;
            Kind::Hub(ports.map_or_else(Hub::default, |ports| Hub { ports }))
        }
        "serial" => {
            let chardev = fields.parse::<Chardev>("chardev")?;
            Kind::Serial(Serial {
                chardev: chardev.ok_or_else(|| missing("chardev", "chardev = \"pty\""))?,
            })
        }
        "redir" => {
            let chardev = fields.parse::<Chardev>("chardev")?;
            let example = "chardev = \"tcp:HOST:PORT\"";
            Kind::Redir(Redir { chardev: chardev.ok_or_else(|| missing("chardev", example))? })
        }
        "audio" => {
            fields.take("audiodev").map_or(Ok(Kind::Audio(Audio::default())), |id| audio(&id))?
        }
        "net" => {
            let backend = fields.parse("backend")?.unwrap_or_default();
            Kind::Net(Net { backend, mac: fields.parse("mac")? })
        }
        "mtp" => {
            let dir = fields.text("dir")?.ok_or_else(|| missing("dir", "dir = \"/srv/photos\""))?;
            Kind::Mtp(Mtp { dir, writable: fields.boolean("writable")? })
        }
        "ccid" => Kind::Ccid,
        "other" => {
            let driver =
                fields.text("driver")?.ok_or_else(|| missing("driver", "driver = \"usb-bot\""))?;
            Kind::Other(Other { driver })
        }
        other => {
            return Err(kind
                .refuse(format!("`{}` is not a kind of device", short(other)))
                .help(known_kinds()));
        }
    })
}

/// A disk or a CD drive with the content `file`.
fn storage(file: String, fields: &mut Fields<'_>) -> Result<Storage, Problem> {
    let format = fields.take("format").map(|field| image_format(&field)).transpose()?;
    let format = format.unwrap_or_else(|| ImageFormat::from_file_name(&file));
    let readonly = fields.boolean("readonly")?;
    let media = fields.parse::<Media>("media")?.unwrap_or_default();
    let serial = fields.parse("serial")?;
    let removable = fields.boolean("removable")?;
    let storage = Storage { readonly, serial, removable, ..Storage::new(file, format) };
    Ok(storage.with_media(media))
}

/// A list of vendor and product ids.
fn ids(field: &Field<'_>) -> Result<BTreeSet<UsbId>, Problem> {
    let example = || field.wrong_type("a list of ids").help("write also = [\"0483:df11\"]");
    let DeValue::Array(list) = field.value() else { return Err(example()) };
    let id = |entry: &toml::Spanned<DeValue<'_>>| {
        let text = entry.get_ref().as_str().ok_or_else(example)?;
        text.parse().map_err(|error: UsbIdError| Problem::new(entry.span(), error.to_string()))
    };
    list.iter().map(id).collect()
}

/// The kinds that can be requested.
fn known_kinds() -> String {
    let words: Vec<&str> =
        KINDS.iter().map(|(word, _)| *word).filter(|word| *word != "other").collect();
    format!("the kinds are {}", words.join(", "))
}

fn image_format(field: &Field<'_>) -> Result<ImageFormat, Problem> {
    match field.as_text()? {
        "raw" => Ok(ImageFormat::Raw),
        "qcow2" => Ok(ImageFormat::Qcow2),
        _ => Err(field.refuse("`format` must be \"raw\" or \"qcow2\"").help(
            "the default is qcow2 for a file whose name ends in .qcow2, and raw for any other",
        )),
    }
}

fn input(fields: &mut Fields<'_>) -> Result<Input, Problem> {
    let version = fields
        .take("usbversion")
        .map(|field| usbversion(&field, &[UsbVersion::V1, UsbVersion::V2]))
        .transpose()?;
    Ok(version.map_or_else(Input::default, |usbversion| Input { usbversion }))
}

/// A sound card with this id of its back end. The id is checked by the parser of the short form.
fn audio(field: &Field<'_>) -> Result<Kind, Problem> {
    let id = field.as_text()?;
    format!("audio:{id}").parse().map_err(|_| {
        field.refuse(
            "`audiodev` must be the id of an audio back end: letters, digits, `-`, `_`, `.` and `#`",
        )
    })
}

/// Rejects the remaining keys, which a device of this kind does not have.
fn reject_remaining(
    fields: Fields<'_>,
    word: &'static str,
    short_form: bool,
) -> Result<(), Problem> {
    let Some(field) = fields.first_remaining() else {
        return Ok(());
    };
    let key = field.key();
    let owners: Vec<&str> =
        KINDS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(word, _)| *word).collect();
    let problem = |what: String| Err(Problem::new(field.key_span(), what));
    if short_form && !owners.is_empty() {
        let what = format!("`{key}` cannot be combined with `device`, which defines everything");
        return problem(what)
            .map_err(|problem| problem.help("use `kind` and its keys instead of `device`"));
    }
    let own = KINDS.iter().find(|(known, _)| *known == word).map_or(&[][..], |(_, keys)| keys);
    if !owners.is_empty() {
        let what = format!(
            "`{key}` is a key of kind {}, and this device is of kind {word}",
            owners.join(" or ")
        );
        let help =
            format!("the keys of kind {word} are {}", [own, &COMMON_KEYS].concat().join(", "));
        return problem(what).map_err(|problem| problem.help(help));
    }
    let definition: &[&str] = if short_form {
        &["device"]
    } else if word == "host" {
        &[]
    } else {
        &["kind"]
    };
    let keys = [definition, own, &COMMON_KEYS].concat();
    fields.finish(&format!("a device of kind {word}"), &keys)
}
