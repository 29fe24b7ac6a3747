//! The table `[[controller]]`.

use toml::de::DeValue;
use vusb_model::address::Index;
use vusb_model::hardware::PciAddress;
use vusb_model::models::{Companion, CompanionModel, ControllerType, UsbVersion};
use vusb_model::spec::ControllerSpec;

use super::fields::{Field, Fields};
use crate::error::Problem;

const KEYS: [&str; 11] = [
    "name",
    "index",
    "type",
    "usbversion",
    "model",
    "ports",
    "usb2ports",
    "usb3ports",
    "companions",
    "backend",
    "pci",
];

const ALL_VERSIONS: [UsbVersion; 3] = [UsbVersion::V1, UsbVersion::V2, UsbVersion::V3];

/// The most ports that any model has: PVUSB's 31.
const MOST_PORTS: i64 = 31;
/// The most ports that an xHCI has.
const MOST_XHCI_PORTS: i64 = 15;

pub(super) fn read(mut fields: Fields<'_>) -> Result<ControllerSpec, Problem> {
    let index = fields.integer("index", 0..=i64::from(Index::MAX.get()))?;
    let spec = ControllerSpec {
        index: index.and_then(Index::new),
        name: fields.parse("name")?,
        controller_type: fields
            .take("type")
            .map(|field| controller_type(&field))
            .transpose()?
            .flatten(),
        usbversion: fields
            .take("usbversion")
            .map(|field| usbversion(&field, &ALL_VERSIONS))
            .transpose()?,
        model: fields.parse("model")?,
        ports: fields.integer("ports", 1..=MOST_PORTS)?,
        halves: halves(&mut fields)?,
        companions: fields.take("companions").map(|field| companions(&field)).transpose()?,
        first_port: None,
        backend: fields.take("backend").map(|field| backend(&field)).transpose()?,
        pci: fields.take("pci").map(|field| pci(&field)).transpose()?,
    };
    fields.finish("a controller", &KEYS)?;
    Ok(spec)
}

/// `None` is auto.
fn controller_type(field: &Field<'_>) -> Result<Option<ControllerType>, Problem> {
    match field.as_text()? {
        "auto" => Ok(None),
        "pv" => Ok(Some(ControllerType::Pv)),
        "emulated" => Ok(Some(ControllerType::Emulated)),
        _ => Err(field.refuse("`type` is \"auto\", \"pv\" or \"emulated\"")),
    }
}

/// A version, of those in `can`.
pub(super) fn usbversion(field: &Field<'_>, can: &[UsbVersion]) -> Result<UsbVersion, Problem> {
    let number = field.integer::<u8>(0..=255).or_else(|problem| match field.value() {
        DeValue::Integer(_) => Ok(0),
        _ => Err(problem),
    })?;
    let version = UsbVersion::try_from(number).ok().filter(|version| can.contains(version));
    version.ok_or_else(|| {
        let words: Vec<String> = can.iter().map(UsbVersion::to_string).collect();
        field.refuse(format!("`usbversion` is {}", words.join(" or ")))
    })
}

/// Both halves of an xHCI's ports, or neither.
fn halves(fields: &mut Fields<'_>) -> Result<Option<(u8, u8)>, Problem> {
    let (usb2, usb3) = (fields.take("usb2ports"), fields.take("usb3ports"));
    match (&usb2, &usb3) {
        (None, None) => Ok(None),
        (Some(usb2), Some(usb3)) => {
            let range = 0..=MOST_XHCI_PORTS;
            let halves = (usb2.integer(range.clone())?, usb3.integer(range)?);
            if halves == (0, 0) {
                return Err(usb3
                    .refuse("this controller would have no port at all")
                    .other(usb2.span(), "none of these"));
            }
            Ok(Some(halves))
        }
        (Some(one), None) | (None, Some(one)) => {
            let what = "`usb2ports` and `usb3ports` are said together";
            let help = "write both, or `ports` for ports that have both halves";
            Err(Problem::new(one.key_span(), what).help(help))
        }
    }
}

/// `"none"`, or a list of companions.
fn companions(field: &Field<'_>) -> Result<Vec<Companion>, Problem> {
    match field.value() {
        DeValue::String(text) if text == "none" => Ok(Vec::new()),
        DeValue::Array(_) => field.tables()?.into_iter().map(companion).collect(),
        _ => Err(field.refuse("`companions` is \"none\" or a list of companions").help(
            "a list is written [{ model = \"ich9-uhci1\", first_port = 0 }]; without the key an ich9-ehci1 has all three",
        )),
    }
}

fn companion(mut fields: Fields<'_>) -> Result<Companion, Problem> {
    let missing = |key: &str, span| {
        Problem::new(span, format!("this companion has no `{key}`"))
            .help("write { model = \"ich9-uhci1\", first_port = 0 }")
    };
    let model = fields.take("model").ok_or_else(|| missing("model", fields.span()))?;
    let model = match model.as_text()? {
        "ich9-uhci1" => CompanionModel::Ich9Uhci1,
        "ich9-uhci2" => CompanionModel::Ich9Uhci2,
        "ich9-uhci3" => CompanionModel::Ich9Uhci3,
        _ => return Err(model.refuse("a companion is ich9-uhci1, ich9-uhci2 or ich9-uhci3")),
    };
    // The last two ports of the largest controller.
    let first_port = fields.integer("first_port", 0..=MOST_PORTS - 2)?;
    let first_port = first_port.ok_or_else(|| missing("first_port", fields.span()))?;
    fields.finish("a companion", &["model", "first_port"])?;
    Ok(Companion { model, first_port })
}

/// A domain by name or by id.
fn backend(field: &Field<'_>) -> Result<String, Problem> {
    match field.value() {
        DeValue::String(name) if !name.is_empty() => Ok(name.as_ref().to_owned()),
        // Xen's domain ids stop before the first reserved one (DOMID_FIRST_RESERVED in xen.h).
        DeValue::Integer(_) => field.integer::<u16>(0..=0x7fef).map(|id| id.to_string()),
        _ => Err(field.wrong_type("the name or the id of a domain")),
    }
}

/// `BUS/SLOT.FUNCTION`, slot and function in hexadecimal, as the model writes it.
fn pci(field: &Field<'_>) -> Result<PciAddress, Problem> {
    let hex = |text: &str, digits: usize, most: u8| {
        let strict = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u8::from_str_radix(text, 16).ok().filter(|number| strict && *number <= most)
    };
    let read = |text: &str| {
        let (bus, place) = text.rsplit_once('/')?;
        let (slot, function) = place.split_once('.')?;
        let bus = Some(bus).filter(|bus| !bus.is_empty())?.to_owned();
        Some(PciAddress { bus, slot: hex(slot, 2, 31)?, function: hex(function, 1, 7)? })
    };
    read(field.as_text()?).ok_or_else(|| {
        field.refuse(
            "`pci` is a bus, a slot of 00 to 1f and a function of 0 to 7, such as \"pci.0/04.0\"",
        )
    })
}
