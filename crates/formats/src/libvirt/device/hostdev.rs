//! `<hostdev type='usb'>`: USB devices of the host.
//!
//! | `<source>` has | selector |
//! |---|---|
//! | vendor and product | `0781:5581` |
//! | `<address bus device>` | `003.014` |
//! | both | vendor and product, because the address may now belong to another device; the address if the domain has several with these ids |
//! | `<address bus port>`, which is newer than libvirt 11.3 | `1-4.2` |

use std::collections::BTreeMap;

use vusb_model::device::{HostRef, Kind};
use vusb_model::selector::{BusAddress, Selector, UsbId};

use super::{UsbDevice, bootindex};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::numbers::{Base, base_zero};
use crate::libvirt::xml::{Attr, Node, all, attr, child};

/// The vendor and product ids that several host devices of a domain have.
pub(in crate::libvirt) struct DuplicateIds(BTreeMap<(u32, u32), usize>);

impl DuplicateIds {
    pub(super) fn of(domain: Node<'_>) -> DuplicateIds {
        let mut count = BTreeMap::new();
        for device in all(domain, "devices").flat_map(|devices| all(devices, "hostdev")) {
            let id = |source: Node<'_>, name: &str| {
                base_zero(child(source, name)?.attribute("id")?).map(|(number, _)| number)
            };
            let source = child(device, "source");
            if let Some(ids) =
                source.and_then(|source| id(source, "vendor").zip(id(source, "product")))
            {
                *count.entry(ids).or_insert(0) += 1;
            }
        }
        DuplicateIds(count)
    }

    fn contains(&self, id: UsbId) -> bool {
        self.0.get(&(id.vendor.into(), id.product.into())).is_some_and(|count| *count > 1)
    }
}

pub(super) fn read<'d>(
    node: Node<'d>,
    number: usize,
    duplicates: &DuplicateIds,
) -> Result<Option<UsbDevice<'d>>, Problem> {
    let subsystem = node.attribute("mode").is_none_or(|mode| mode == "subsystem");
    if !subsystem || node.attribute("type") != Some("usb") {
        return Ok(None);
    }
    let alias = format!("hostdev{number}");
    let source = child(node, "source");
    let mut warnings = Vec::new();
    let selected =
        source.map(|source| selector(source, duplicates, &mut warnings)).transpose()?.flatten();
    let mut device = match selected {
        Some(Selected { host, what, remark }) => {
            let mut device = UsbDevice::new(Kind::Host(host), alias).at(what);
            device.remarks.extend(remark);
            device
        }
        None => UsbDevice::other("usb-host", "it does not specify a device".to_owned(), alias),
    };
    device.warnings = warnings;
    device = device.with("bootindex", bootindex(node)?);
    if let Some(source) = source {
        device = resets(source, device)?;
        device.remarks.extend(policy(source)?);
        let policy = source.attribute("startupPolicy");
        device.settings.extend(policy.map(|policy| format!("startupPolicy {policy}")));
        // Mandatory is the default; requisite differs from it only in a migration.
        device.required_at_start = source.attribute("startupPolicy") != Some("optional");
    }
    Ok(Some(device))
}

/// The specified device, and the position of the value that identifies it.
struct Selected<'d> {
    host: HostRef,
    what: Option<Attr<'d>>,
    remark: Option<String>,
}

fn selector<'d>(
    source: Node<'d>,
    duplicates: &DuplicateIds,
    warnings: &mut Vec<Problem>,
) -> Result<Option<Selected<'d>>, Problem> {
    let id = ids(source, warnings)?;
    let Some(address) = child(source, "address") else {
        return Ok(id.map(|(id, what)| {
            let host = HostRef::new(Selector::Id { id, serial: None });
            Selected { host, what: Some(what), remark: None }
        }));
    };
    let what = attr(address, "device").or_else(|| attr(address, "port"));
    if address.attribute("device").is_none() && address.attribute("port").is_some() {
        let selector = port_chain(address)?;
        let remark =
            Some("libvirt 11.3 does not support <address port=...> for host devices".to_owned());
        return Ok(Some(Selected { host: HostRef::new(selector), what, remark }));
    }
    let at = bus_address(address, warnings)?;
    Ok(Some(match id {
        None => Selected { host: HostRef::new(Selector::Address(at)), what, remark: None },
        Some((id, _)) if duplicates.contains(id) => {
            let remark = Some(format!("only if it is {id}"));
            Selected { host: HostRef::new(Selector::Address(at)), what, remark }
        }
        Some((id, what)) => {
            let any_address = source.attribute("autoAddress") == Some("yes");
            let remark = (!any_address).then(|| format!("libvirt uses it only at {at}"));
            let host = HostRef {
                bus_address: Some(at),
                ..HostRef::new(Selector::Id { id, serial: None })
            };
            Selected { host, what: Some(what), remark }
        }
    }))
}

/// Vendor and product, and the position of the product. libvirt requires both or neither.
fn ids<'d>(
    source: Node<'d>,
    warnings: &mut Vec<Problem>,
) -> Result<Option<(UsbId, Attr<'d>)>, Problem> {
    let missing = |present: Node<'_>, name: &str| {
        Err(Problem::new(present.range(), format!("<{name} id=...> is missing")).help(format!(
            "a device is identified by vendor and product together; libvirt says: missing {name}"
        )))
    };
    let (vendor, product) = match (child(source, "vendor"), child(source, "product")) {
        (None, None) => return Ok(None),
        (Some(vendor), None) => return missing(vendor, "product"),
        (None, Some(product)) => return missing(product, "vendor"),
        (Some(vendor), Some(product)) => (vendor, product),
    };
    let (vendor_id, _) = id(vendor, "vendor", warnings)?;
    let (product_id, what) = id(product, "product", warnings)?;
    if vendor_id == 0 {
        return Err(Problem::new(vendor.range(), "the vendor id 0 does not exist"));
    }
    Ok(Some((UsbId { vendor: vendor_id, product: product_id }, what)))
}

/// Reads one id. People copy ids from lsusb without the `0x` that libvirt needs.
fn id<'d>(
    node: Node<'d>,
    name: &str,
    warnings: &mut Vec<Problem>,
) -> Result<(u16, Attr<'d>), Problem> {
    let Some(text) = attr(node, "id") else {
        return Err(Problem::new(node.range(), format!("the {name} has no id"))
            .help(format!("write <{name} id='0x0781'/>")));
    };
    let hexadecimal = u16::from_str_radix(text.value, 16).ok().filter(|_| text.value.len() <= 4);
    let read = base_zero(text.value).and_then(|(id, base)| Some((u16::try_from(id).ok()?, base)));
    let Some((id, base)) = read else {
        let problem = text.problem(format!(
            "`{}` is not a {name} id: write a number up to 0xffff",
            text.excerpt()
        ));
        return Err(match hexadecimal {
            Some(_) => problem
                .help(format!("hexadecimal numbers need a prefix: write 0x{}", text.excerpt())),
            None => problem.help(format!("write 0x and what lsusb shows: <{name} id='0x0781'/>")),
        });
    };
    if base != Base::Hexadecimal && hexadecimal != Some(id) {
        let which = if base == Base::Octal { "octal" } else { "decimal" };
        let what = format!("`{}` is read as {which}, which is the {name} {id:04x}", text.excerpt());
        warnings.push(
            text.problem(what)
                .help(format!("if lsusb shows the {name} as {0}, write 0x{0}", text.excerpt())),
        );
    }
    Ok((id, text))
}

/// Reads bus and address. They are the numbers that lsusb shows, without its leading zeros, which
/// would mean octal.
fn bus_address(address: Node<'_>, warnings: &mut Vec<Problem>) -> Result<BusAddress, Problem> {
    let mut part = |name: &str, most: u16| {
        let Some(text) = attr(address, name) else {
            return Err(Problem::new(address.range(), format!("the address has no {name}"))
                .help("write <address bus='3' device='14'/> with the numbers that lsusb shows, without leading zeros"));
        };
        let plain = text.value.trim_start_matches('0');
        let read = base_zero(text.value)
            .and_then(|(number, base)| Some((u16::try_from(number).ok()?, base)));
        let Some((number, base)) = read.filter(|(number, _)| (1..=most).contains(number)) else {
            let problem = text.problem(format!(
                "`{}` is not a {name} number: write a number from 1 to {most}",
                text.excerpt()
            ));
            let octal = text.value.len() > plain.len() && plain.parse::<u16>().is_ok();
            return Err(if octal {
                problem.help(format!("a leading zero means octal: write {plain}"))
            } else {
                problem
            });
        };
        if base == Base::Octal && plain.parse() != Ok(number) {
            let what =
                format!("`{}` is read as octal, which is the {name} {number}", text.excerpt());
            warnings.push(
                text.problem(what)
                    .help(format!("if lsusb shows {}, write {plain}", text.excerpt())),
            );
        }
        Ok(number)
    };
    let bus = part("bus", 999)?;
    let device = part("device", 127)?;
    Ok(BusAddress { bus, address: u8::try_from(device).unwrap_or(u8::MAX) })
}

/// Reads the port where a device is plugged in, in the form of newer libvirt versions.
fn port_chain(address: Node<'_>) -> Result<Selector, Problem> {
    let (bus, port) = (attr(address, "bus"), attr(address, "port"));
    let (Some(bus), Some(port)) = (bus, port) else {
        return Err(Problem::new(address.range(), "the address has no bus"));
    };
    format!("{}-{}", bus.value, port.value).parse().map(Selector::Port).map_err(|_| {
        port.problem(format!(
            "`{}` is not a port of the host's bus {}",
            port.excerpt(),
            bus.excerpt()
        ))
        .help("write one to seven decimal numbers separated by dots, such as the 4.2 in 1-4.2")
    })
}

/// How resets by the guest affect the device (`guestReset`).
fn resets<'d>(source: Node<'_>, device: UsbDevice<'d>) -> Result<UsbDevice<'d>, Problem> {
    let Some(text) = attr(source, "guestReset") else {
        return Ok(device);
    };
    let (reset, all) = match text.value {
        "off" => (false, None),
        "uninitialized" => (true, Some(false)),
        "on" => (true, Some(true)),
        _ => {
            return Err(text.problem(format!(
                "`{}` is not a guestReset: write off, uninitialized or on",
                text.excerpt()
            )));
        }
    };
    Ok(device
        .with("guest-reset", Some(Property::Flag(reset)))
        .with("guest-resets-all", all.map(Property::Flag)))
}

/// What happens if the device is missing at start.
fn policy(source: Node<'_>) -> Result<Vec<String>, Problem> {
    let mut remarks = Vec::new();
    if let Some(text) = attr(source, "startupPolicy") {
        if !["mandatory", "requisite", "optional"].contains(&text.value) {
            return Err(text.problem(format!(
                "`{}` is not a startupPolicy: write mandatory, requisite or optional",
                text.excerpt()
            )));
        }
        remarks.push(format!("startupPolicy {}", text.value));
    }
    if source.attribute("missing") == Some("yes") {
        remarks.push("missing when the guest was started".to_owned());
    }
    Ok(remarks)
}
