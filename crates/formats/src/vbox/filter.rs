//! Filters, by which VirtualBox selects the host devices that it gives to a machine.
//!
//! While the machine runs, VirtualBox takes each device of the host that one of the machine's
//! active filters matches, also when it is plugged in later. All conditions of a filter have to
//! match; one that is missing or empty matches anything.
//!
//! | attribute | meaning | model |
//! |---|---|---|
//! | `active` | VirtualBox ignores an inactive filter | an inactive filter is no device |
//! | `vendorId`, `productId` | hexadecimal numbers up to FFFF, or an expression | a selector, if they are numbers |
//! | `serialNumber` | a text, with the wildcards `*` and `?` | a selector, if it has no wildcard and both ids are given |
//! | `revision`, `manufacturer`, `product` | further conditions, which VirtualBox fills in for a device that is plugged in | a remark |
//! | `port` | the number of the port on whatever hub the device is plugged into | a setting; alone it is no device |
//! | `remote` | `1`, `yes` or `true`: devices of remote desktop clients; missing: both | a filter for remote devices is no device of this host |
//! | `maskedInterfaces` | the interfaces that the guest does not see | a setting |
//!
//! A filter that is no device is kept as it is, with a warning. So is one that matches every
//! device.
//!
//! Sources: `USBDeviceFilter::i_usbFilterFieldFromString` in VirtualBox's
//! `USBDeviceFilterImpl.cpp`, `readUSBDeviceFilters` in `Settings.cpp`, `USBDeviceFiltersImpl.cpp`.

use vusb_model::selector::{Pattern, Selector, UsbId};

use super::settings::{attribute, flag};
use crate::xml::element::Element;
use crate::xml::{Node, excerpt};

/// A filter that selects a device of this host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) selector: Selector,
    /// Further conditions, in words.
    pub(super) remarks: Vec<String>,
    /// What another format loses.
    pub(super) settings: Vec<String>,
}

/// Reads a filter.
///
/// # Errors
/// Why it is no device of the guest.
pub(super) fn read(node: Node<'_>) -> Result<Filter, String> {
    let text = |name: &str| attribute(node, name);
    if text("name").is_none() {
        return Err("it has no name, so VirtualBox ignores it".to_owned());
    }
    if flag(node, "active") != Some(true) {
        return Err("it is not active".to_owned());
    }
    match text("remote").map(|it| it.trim().to_ascii_lowercase()).as_deref() {
        None | Some("" | "0" | "no" | "false") => {}
        Some("1" | "yes" | "true") => {
            return Err("it is for devices of remote desktop clients".to_owned());
        }
        Some(other) => return Err(format!("its `remote` is `{}`", excerpt(other))),
    }
    let (vendor, product) = (id(text("vendorId"))?, id(text("productId"))?);
    let serial = text("serialNumber");
    if let Some(serial) = serial.filter(|serial| serial.contains(['*', '?'])) {
        return Err(format!("its serial number `{}` has a wildcard", excerpt(serial)));
    }
    let property = |name: &str, id: u16| (name.to_owned(), format!("{id:#06x}"));
    let selector = match (vendor, product, serial) {
        (Some(vendor), Some(product), serial) => {
            Selector::Id { id: UsbId { vendor, product }, serial: serial.map(str::to_owned) }
        }
        (None, None, _) => return Err("it has neither a vendorId nor a productId".to_owned()),
        (_, _, Some(_)) => {
            return Err("it has a serial number, but not both vendorId and productId".to_owned());
        }
        (vendor, product, None) => {
            let ids = vendor.map(|id| property("vendorid", id));
            let ids = ids.into_iter().chain(product.map(|id| property("productid", id)));
            let pattern = ids
                .into_iter()
                .try_fold(Pattern::default(), |all, (name, value)| all.with(&name, &value));
            pattern.ok_or("an id of it is 0")?.selector()
        }
    };
    let conditions = ["revision", "manufacturer", "product"];
    let remark = |name| text(name).map(|value| format!("only with {name} {}", excerpt(value)));
    let mut settings = Vec::new();
    settings.extend(text("port").map(|port| format!("the condition of port {}", excerpt(port))));
    let masked = text("maskedInterfaces").filter(|it| it.trim() != "0");
    settings.extend(masked.map(|mask| format!("the masked interfaces {}", excerpt(mask))));
    Ok(Filter { selector, remarks: conditions.into_iter().filter_map(remark).collect(), settings })
}

/// A vendor or product id.
fn id(text: Option<&str>) -> Result<Option<u16>, String> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = if hex { u32::from_str_radix(digits, 16).ok() } else { None };
    match number.map(u16::try_from) {
        Some(Ok(id)) => Ok(Some(id)),
        Some(Err(_)) => Err(format!("its id `{}` is above FFFF", excerpt(text))),
        None => Err(format!("its id `{}` is not a hexadecimal number", excerpt(text))),
    }
}

/// The filter for a selector, as VirtualBox writes it.
///
/// # Errors
/// Why VirtualBox has no filter for it.
pub(super) fn write(selector: &Selector) -> Result<Element, &'static str> {
    let named =
        |name: String| Element::new("DeviceFilter").with("name", name).with("active", "true");
    let filter = match selector {
        Selector::Id { id, serial } => {
            let filter = named(selector.to_string())
                .with("vendorId", format!("{:04X}", id.vendor))
                .with("productId", format!("{:04X}", id.product));
            match serial.as_deref() {
                None => filter,
                Some("") => return Err("VirtualBox ignores an empty serial number; leave it out"),
                Some(serial) if serial.contains(['*', '?']) => {
                    return Err(
                        "in VirtualBox, * and ? in a serial number are wildcards; leave it out",
                    );
                }
                Some(serial) => filter.with("serialNumber", serial),
            }
        }
        Selector::Pattern(pattern) => {
            let text = pattern.to_string();
            let mut filter = named(text.clone());
            for part in text.split(',') {
                filter = match part.split_once("=0x") {
                    Some(("vendorid", id)) => filter.with("vendorId", id.to_ascii_uppercase()),
                    Some(("productid", id)) => filter.with("productId", id.to_ascii_uppercase()),
                    _ => return Err(PLACE),
                };
            }
            filter
        }
        Selector::Port(_) | Selector::Path(_) | Selector::Address(_) => return Err(PLACE),
    };
    // Without it, the filter also matches devices of remote desktop clients.
    let filter = filter.with("remote", "0");
    if filter.is_expressible() { Ok(filter) } else { Err("XML has no control characters") }
}

/// Why a filter cannot select by a place.
const PLACE: &str = "VirtualBox matches neither the bus nor the chain of ports, but only the number \
                     of the port on its hub; select the device by vendor and product";
