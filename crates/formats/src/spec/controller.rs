//! The table `[[controller]]`.

use toml::de::DeValue;
use vusb_model::address::Index;
use vusb_model::hardware::PciAddress;
use vusb_model::models::{Companion, CompanionModel, ControllerType, ModelError, UsbVersion};
use vusb_model::spec::ControllerSpec;

use crate::error::Problem;
use crate::fields::{Field, Fields};

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

/// The maximum number of ports of any model: PVUSB's 31.
const MAX_PORTS: i64 = 31;
/// The maximum number of ports of an xHCI.
const MAX_XHCI_PORTS: i64 = 15;

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
        model: fields
            .take("model")
            .map(|field| field.parse_or(ModelError::remedies))
            .transpose()?,
        ports: fields.integer("ports", 1..=MAX_PORTS)?,
        separate_ports: halves(&mut fields)?,
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
        _ => Err(field.refuse("`type` must be \"auto\", \"pv\" or \"emulated\"")),
    }
}

/// A version, one of `allowed`.
pub(super) fn usbversion(field: &Field<'_>, allowed: &[UsbVersion]) -> Result<UsbVersion, Problem> {
    let number = field.integer::<u8>(0..=255).or_else(|problem| match field.value() {
        DeValue::Integer(_) => Ok(0),
        _ => Err(problem),
    })?;
    let version = UsbVersion::try_from(number).ok().filter(|version| allowed.contains(version));
    version.ok_or_else(|| {
        let words: Vec<String> = allowed.iter().map(UsbVersion::to_string).collect();
        field.refuse(format!("`usbversion` must be {}", words.join(" or ")))
    })
}

/// The numbers of separate USB 2 and USB 3 ports of an xHCI; `None` if neither is given.
fn halves(fields: &mut Fields<'_>) -> Result<Option<(u8, u8)>, Problem> {
    let (usb2, usb3) = (fields.take("usb2ports"), fields.take("usb3ports"));
    match (&usb2, &usb3) {
        (None, None) => Ok(None),
        (Some(usb2), Some(usb3)) => {
            let range = 0..=MAX_XHCI_PORTS;
            let halves = (usb2.integer(range.clone())?, usb3.integer(range)?);
            if halves == (0, 0) {
                return Err(usb3
                    .refuse("this controller would have no ports")
                    .other(usb2.span(), "and none here"));
            }
            Ok(Some(halves))
        }
        (Some(one), None) | (None, Some(one)) => {
            let what = "`usb2ports` and `usb3ports` go together";
            let help = "give both, or give `ports`: each of these takes USB 2 and USB 3";
            Err(Problem::new(one.key_span(), what).help(help))
        }
    }
}

/// `"none"`, or a list of companions.
fn companions(field: &Field<'_>) -> Result<Vec<Companion>, Problem> {
    match field.value() {
        DeValue::String(text) if text == "none" => Ok(Vec::new()),
        DeValue::Array(_) => field.tables()?.into_iter().map(companion).collect(),
        _ => Err(field.refuse("`companions` must be \"none\" or a list of companions").help(
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
    let name = model.as_text()?;
    let known = CompanionModel::ALL.into_iter().find(|companion| companion.model().name() == name);
    let Some(model) = known else {
        return Err(model.refuse("a companion must be ich9-uhci1, ich9-uhci2 or ich9-uhci3"));
    };
    let field = fields.take("first_port");
    let field = field.ok_or_else(|| missing("first_port", fields.span()))?;
    // The rules check that the ports exist. A number that does not even fit is reported here.
    let first_port = field.integer(0..=255).map_err(|problem| match field.value() {
        DeValue::Integer(_) => field.refuse(
            "`first_port` must be a number from 0 to 4: an EHCI has 6 ports, and 2 of them are the companion's",
        ),
        _ => problem,
    })?;
    fields.finish("a companion", &["model", "first_port"])?;
    Ok(Companion { model, first_port })
}

/// A domain, by name or by id.
fn backend(field: &Field<'_>) -> Result<String, Problem> {
    match field.value() {
        DeValue::String(name) if !name.is_empty() => Ok(name.as_ref().to_owned()),
        // Xen's domain ids stop before the first reserved one (DOMID_FIRST_RESERVED in xen.h).
        DeValue::Integer(_) => field.integer::<u16>(0..=0x7fef).map(|id| id.to_string()),
        _ => Err(field.wrong_type("the name or the id of a domain")),
    }
}

/// `BUS/SLOT.FUNCTION`, slot and function in hexadecimal, as [`PciAddress`] is displayed.
fn pci(field: &Field<'_>) -> Result<PciAddress, Problem> {
    let hex = |text: &str, digits: usize, max: u8| {
        let strict = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u8::from_str_radix(text, 16).ok().filter(|number| strict && *number <= max)
    };
    let read = |text: &str| {
        let (bus, address) = text.rsplit_once('/')?;
        let (slot, function) = address.split_once('.')?;
        let bus = Some(bus).filter(|bus| !bus.is_empty())?.to_owned();
        Some(PciAddress { bus, slot: hex(slot, 2, 31)?, function: hex(function, 1, 7)? })
    };
    read(field.as_text()?).ok_or_else(|| {
        field.refuse(
            "`pci` must be a bus, a slot from 00 to 1f and a function from 0 to 7, such as \"pci.0/04.0\"",
        )
    })
}
