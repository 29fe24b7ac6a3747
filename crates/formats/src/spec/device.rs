//! The table `[[device]]`.
//!
//! What the device is, is said in one of three ways: `host` names a device of this machine, `kind` one that the hypervisor
//! makes up, with keys of its own, and `device` is the command line's short form of either.

use toml::de::DeValue;
use vusb_model::address::{Index, PortPath};
use vusb_model::device::{
    Audio, Chardev, HUB_PORTS, HostRef, Hub, ImageFormat, Input, Kind, Mtp, Net, Other, Redir,
    Serial, Storage,
};
use vusb_model::models::UsbVersion;
use vusb_model::spec::{ControllerRef, DeviceSpec};

use super::controller::usbversion;
use super::fields::{Field, Fields, short};
use crate::error::Problem;

/// The keys of each kind.
const KINDS: [(&str, &[&str]); 13] = [
    ("host", &["host"]),
    ("storage", &["file", "format", "readonly"]),
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
const PLACE: [&str; 3] = ["controller", "port", "name"];

const WHAT_IT_IS: &str = "say what it is: host = \"0781:5581\" for a device of this machine, kind = \"storage\" and the like for one that is \
                          made up, or device = \"storage:stick.img\" as on the command line";

pub(super) fn read(mut fields: Fields<'_>) -> Result<DeviceSpec, Problem> {
    let name = fields.parse("name")?;
    let controller = fields.take("controller").map(|field| controller(&field)).transpose()?;
    let port = fields.take("port").map(|field| port(&field)).transpose()?;
    let (kind, short_form) = what(&mut fields)?;
    finish(fields, kind.word(), short_form)?;
    Ok(DeviceSpec { name, kind, controller, port })
}

/// A controller by name or by index.
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
            "`{}` is no controller: it is a name such as hci0, or an index from 0 to 4095",
            short(text)
        ))
    })
}

/// A port as a text or, where it is a controller's own, as a number.
fn port(field: &Field<'_>) -> Result<PortPath, Problem> {
    match field.value() {
        DeValue::Integer(integer) if integer.radix() == 10 => {
            integer.as_str().parse().map_err(|error| field.refuse(format!("{error}")))
        }
        DeValue::Float(float) => Err(field
            .wrong_type("a text in quotes when it goes through a hub")
            .help(format!("write port = \"{}\"", short(float.as_str())))),
        _ => field.parse(),
    }
}

/// What the device is, and whether that was said in the short form.
fn what(fields: &mut Fields<'_>) -> Result<(Kind, bool), Problem> {
    let (device, kind, host) = (fields.take("device"), fields.take("kind"), fields.take("host"));
    let twice = |one: &Field<'_>, two: &Field<'_>| {
        let [first, second] =
            if one.key_span().start < two.key_span().start { [one, two] } else { [two, one] };
        Problem::new(second.key_span(), "this device says twice what it is")
            .label("and here again")
            .other(first.key_span(), "here")
            .help("take one of the two out; two devices are two [[device]] tables")
    };
    match (device, kind, host) {
        (Some(device), None, None) => Ok((device.parse()?, true)),
        (Some(device), Some(other), _) | (Some(device), None, Some(other)) => {
            Err(twice(&device, &other))
        }
        (None, Some(kind), Some(host)) if kind.as_text()? != "host" => Err(twice(&kind, &host)),
        (None, _, Some(host)) => Ok((Kind::Host(HostRef::new(host.parse()?)), false)),
        (None, Some(kind), None) => of_kind(&kind, fields).map(|kind| (kind, false)),
        (None, None, None) => {
            Err(Problem::new(fields.span(), "this device does not say what it is").help(WHAT_IT_IS))
        }
    }
}

/// A device of the kind that `kind` names, with the keys of that kind.
fn of_kind(kind: &Field<'_>, fields: &mut Fields<'_>) -> Result<Kind, Problem> {
    let word = kind.as_text()?;
    let missing = |key: &str, example: &str| {
        Problem::new(
            kind.span(),
            format!("a device of kind {word} has a `{key}`, and this one has none"),
        )
        .help(format!("add {example}"))
    };
    Ok(match word {
        "host" => {
            return Err(missing(
                "host",
                "host = \"0781:5581\"; `vusb host list` shows what there is",
            ));
        }
        "storage" => {
            let file =
                fields.text("file")?.ok_or_else(|| missing("file", "file = \"stick.img\""))?;
            let format = fields.take("format").map(|field| image_format(&field)).transpose()?;
            let format = format.unwrap_or_else(|| ImageFormat::of_name(&file));
            Kind::Storage(Storage { file, format, readonly: fields.boolean("readonly")? })
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
                .refuse(format!("`{}` is no kind of device", short(other)))
                .help(known_kinds()));
        }
    })
}

/// The kinds that can be asked for.
fn known_kinds() -> String {
    let words: Vec<&str> =
        KINDS.iter().map(|(word, _)| *word).filter(|word| *word != "other").collect();
    format!("the kinds are {}", words.join(", "))
}

fn image_format(field: &Field<'_>) -> Result<ImageFormat, Problem> {
    match field.as_text()? {
        "raw" => Ok(ImageFormat::Raw),
        "qcow2" => Ok(ImageFormat::Qcow2),
        _ => Err(field.refuse("`format` is \"raw\" or \"qcow2\"").help(
            "without the key it is qcow2 for a file whose name ends in .qcow2, and raw for every other",
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

/// The model knows what an id is, and reads it after the word.
fn audio(field: &Field<'_>) -> Result<Kind, Problem> {
    let id = field.as_text()?;
    format!("audio:{id}").parse().map_err(|_| {
        field.refuse(
            "`audiodev` is the id of an audio back end: letters, digits, `-`, `_`, `.` and `#`",
        )
    })
}

/// Whatever is left of the table is no key of such a device.
fn finish(fields: Fields<'_>, word: &'static str, short_form: bool) -> Result<(), Problem> {
    let Some(field) = fields.first_left() else {
        return Ok(());
    };
    let key = field.key();
    let owners: Vec<&str> =
        KINDS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(word, _)| *word).collect();
    let problem = |what: String| Err(Problem::new(field.key_span(), what));
    if short_form && !owners.is_empty() {
        let what = format!("`{key}` cannot be said next to `device`, which says all of it");
        return problem(what)
            .map_err(|problem| problem.help("write `kind` and its keys in place of `device`"));
    }
    let own = KINDS.iter().find(|(known, _)| *known == word).map_or(&[][..], |(_, keys)| keys);
    if !owners.is_empty() {
        let what = format!(
            "`{key}` is a key of kind {}, and this device is of kind {word}",
            owners.join(" or ")
        );
        let help = format!("the keys of kind {word} are {}", [own, &PLACE].concat().join(", "));
        return problem(what).map_err(|problem| problem.help(help));
    }
    let ways: &[&str] = if short_form {
        &["device"]
    } else if word == "host" {
        &[]
    } else {
        &["kind"]
    };
    let keys = [ways, own, &PLACE].concat();
    fields.finish(&format!("a device of kind {word}"), &keys)
}
