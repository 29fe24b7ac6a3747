//! `<hostdev type='usb'>`: a USB device of the host.
//!
//! | `<source>` has | selector |
//! |---|---|
//! | vendor and product | `0781:5581` |
//! | `<address bus device>` | `003.014` |
//! | both | vendor and product, for an address may be another device's by now; the address where this domain has two that are alike |
//! | `<address bus port>`, which libvirt after 11.3 knows | `1-4.2` |

use std::collections::BTreeMap;

use vusb_model::device::{HostRef, Kind};
use vusb_model::selector::{BusAddress, Selector, UsbId};

use super::{Plug, bootindex};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::numbers::{Base, base_zero};
use crate::libvirt::xml::{Attr, Node, all, attr, child};

/// The devices that a domain has more than one of.
pub(in crate::libvirt) struct Twins(BTreeMap<(u32, u32), usize>);

impl Twins {
    pub(super) fn of(domain: Node<'_>) -> Twins {
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
        Twins(count)
    }

    fn are(&self, id: UsbId) -> bool {
        self.0.get(&(id.vendor.into(), id.product.into())).is_some_and(|count| *count > 1)
    }
}

pub(super) fn read(node: Node<'_>, number: usize, twins: &Twins) -> Result<Option<Plug>, Problem> {
    let subsystem = node.attribute("mode").is_none_or(|mode| mode == "subsystem");
    if !subsystem || node.attribute("type") != Some("usb") {
        return Ok(None);
    }
    let alias = format!("hostdev{number}");
    let source = child(node, "source");
    let mut warnings = Vec::new();
    let said = source.map(|source| selector(source, twins, &mut warnings)).transpose()?.flatten();
    let mut plug = match said {
        Some(Named { host, what, remark }) => {
            let mut plug = Plug::new(Kind::Host(host), alias).at(what);
            plug.remarks.extend(remark);
            plug
        }
        None => Plug::other("usb-host", "it does not say which device it is".to_owned(), alias),
    };
    plug.warnings = warnings;
    plug = plug.with("bootindex", bootindex(node)?);
    if let Some(source) = source {
        plug = resets(source, plug)?;
        plug.remarks.extend(policy(source)?);
    }
    Ok(Some(plug))
}

/// Which device is meant, and where that is said.
struct Named<'d> {
    host: HostRef,
    what: Option<Attr<'d>>,
    remark: Option<String>,
}

fn selector<'d>(
    source: Node<'d>,
    twins: &Twins,
    warnings: &mut Vec<Problem>,
) -> Result<Option<Named<'d>>, Problem> {
    let id = ids(source, warnings)?;
    let Some(address) = child(source, "address") else {
        return Ok(id.map(|(id, what)| {
            let host = HostRef::new(Selector::Id { id, serial: None });
            Named { host, what: Some(what), remark: None }
        }));
    };
    let what = attr(address, "device").or_else(|| attr(address, "port"));
    if address.attribute("device").is_none() && address.attribute("port").is_some() {
        let selector = port_chain(address)?;
        let remark =
            Some("libvirt 11.3 does not know <address port=...> of a host device".to_owned());
        return Ok(Some(Named { host: HostRef::new(selector), what, remark }));
    }
    let at = bus_address(address, warnings)?;
    Ok(Some(match id {
        None => Named { host: HostRef::new(Selector::Address(at)), what, remark: None },
        Some((id, _)) if twins.are(id) => {
            let remark = Some(format!("it has to be {id}, too"));
            Named { host: HostRef::new(Selector::Address(at)), what, remark }
        }
        Some((id, what)) => {
            let moved = source.attribute("autoAddress") == Some("yes");
            let remark = (!moved).then(|| format!("libvirt takes it at {at} alone"));
            let host = HostRef { at: Some(at), ..HostRef::new(Selector::Id { id, serial: None }) };
            Named { host, what: Some(what), remark }
        }
    }))
}

/// Vendor and product, and where the product is said. libvirt wants both or neither.
fn ids<'d>(
    source: Node<'d>,
    warnings: &mut Vec<Problem>,
) -> Result<Option<(UsbId, Attr<'d>)>, Problem> {
    let missing = |there: Node<'_>, name: &str| {
        Err(Problem::new(there.range(), format!("this device has no <{name} id=...>")).help(
            format!("a vendor and a product together name a device; libvirt says: missing {name}"),
        ))
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
        return Err(Problem::new(vendor.range(), "no vendor has the id 0"));
    }
    Ok(Some((UsbId { vendor: vendor_id, product: product_id }, what)))
}

/// One id, which people copy from lsusb without the `0x` that libvirt needs.
fn id<'d>(
    node: Node<'d>,
    name: &str,
    warnings: &mut Vec<Problem>,
) -> Result<(u16, Attr<'d>), Problem> {
    let Some(text) = attr(node, "id") else {
        return Err(Problem::new(node.range(), format!("this {name} has no id"))
            .help(format!("write <{name} id='0x0781'/>")));
    };
    let hexadecimal = u16::from_str_radix(text.value, 16).ok().filter(|_| text.value.len() <= 4);
    let read = base_zero(text.value).and_then(|(id, base)| Some((u16::try_from(id).ok()?, base)));
    let Some((id, base)) = read else {
        let problem =
            text.refuse(format!("`{}` is no {name} id: it is a number up to 0xffff", text.short()));
        return Err(match hexadecimal {
            Some(_) => problem.help(format!("hexadecimal has to say so: write 0x{}", text.short())),
            None => {
                problem.help(format!("write it as lsusb shows it, after 0x: <{name} id='0x0781'/>"))
            }
        });
    };
    if base != Base::Hexadecimal && hexadecimal != Some(id) {
        let which = if base == Base::Octal { "octal" } else { "decimal" };
        let what = format!("`{}` is read in {which}: this is the {name} {id:04x}", text.short());
        warnings.push(
            text.refuse(what)
                .help(format!("for the {name} that lsusb shows as {0} write 0x{0}", text.short())),
        );
    }
    Ok((id, text))
}

/// Where a device is: bus and address as lsusb shows them, but not written as it writes them.
fn bus_address(address: Node<'_>, warnings: &mut Vec<Problem>) -> Result<BusAddress, Problem> {
    let mut part = |name: &str, most: u16| {
        let Some(text) = attr(address, name) else {
            return Err(Problem::new(address.range(), format!("this address has no {name}"))
                .help("write <address bus='3' device='14'/>, with the numbers that lsusb shows, without zeros in front"));
        };
        let plain = text.value.trim_start_matches('0');
        let read = base_zero(text.value)
            .and_then(|(number, base)| Some((u16::try_from(number).ok()?, base)));
        let Some((number, base)) = read.filter(|(number, _)| (1..=most).contains(number)) else {
            let problem = text.refuse(format!(
                "`{}` is no {name} of a host device: it is a number from 1 to {most}",
                text.short()
            ));
            let octal = text.value.len() > plain.len() && plain.parse::<u16>().is_ok();
            return Err(if octal {
                problem.help(format!("a zero in front makes it octal: write {plain}"))
            } else {
                problem
            });
        };
        if base == Base::Octal && plain.parse() != Ok(number) {
            let what = format!("`{}` is read in octal: this is the {name} {number}", text.short());
            warnings.push(
                text.refuse(what)
                    .help(format!("for what lsusb shows as {} write {plain}", text.short())),
            );
        }
        Ok(number)
    };
    let bus = part("bus", 999)?;
    let device = part("device", 127)?;
    Ok(BusAddress { bus, address: u8::try_from(device).unwrap_or(u8::MAX) })
}

/// Where a device is plugged in, in the words of a libvirt that knows them.
fn port_chain(address: Node<'_>) -> Result<Selector, Problem> {
    let (bus, port) = (attr(address, "bus"), attr(address, "port"));
    let (Some(bus), Some(port)) = (bus, port) else {
        return Err(Problem::new(address.range(), "this address has no bus"));
    };
    format!("{}-{}", bus.value, port.value).parse().map(Selector::Port).map_err(|_| {
        port.refuse(format!("`{}` is no port of the host's bus {}", port.short(), bus.short()))
            .help("it is one to seven decimal numbers with dots between them, as `vusb host list` shows them behind the bus")
    })
}

/// What the guest's resets do to the device (`guestReset`).
fn resets(source: Node<'_>, plug: Plug) -> Result<Plug, Problem> {
    let Some(text) = attr(source, "guestReset") else {
        return Ok(plug);
    };
    let (reset, all) = match text.value {
        "off" => (false, None),
        "uninitialized" => (true, Some(false)),
        "on" => (true, Some(true)),
        _ => {
            return Err(text.refuse(format!(
                "`{}` is no guestReset: it is off, uninitialized or on",
                text.short()
            )));
        }
    };
    Ok(plug
        .with("guest-reset", Some(Property::Flag(reset)))
        .with("guest-resets-all", all.map(Property::Flag)))
}

/// What is to happen when the device is not there.
fn policy(source: Node<'_>) -> Result<Vec<String>, Problem> {
    let mut remarks = Vec::new();
    if let Some(text) = attr(source, "startupPolicy") {
        if !["mandatory", "requisite", "optional"].contains(&text.value) {
            return Err(text.refuse(format!(
                "`{}` is no startupPolicy: it is mandatory, requisite or optional",
                text.short()
            )));
        }
        remarks.push(format!("startupPolicy {}", text.value));
    }
    if source.attribute("missing") == Some("yes") {
        remarks.push("it was missing when the guest was started".to_owned());
    }
    Ok(remarks)
}
