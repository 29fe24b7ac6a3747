//! `<redirdev>`, devices redirected over the network, and `<redirfilter>`, which restricts them.

use vusb_model::device::{Kind, Redir};

use super::{UsbDevice, bootindex, stream};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::numbers::base_zero;
use crate::libvirt::xml::{Attr, Node, all, attr};

pub(super) fn read<'d>(
    node: Node<'d>,
    number: usize,
    filter: Option<&str>,
) -> Result<Option<UsbDevice<'d>>, Problem> {
    if node.attribute("bus").is_some_and(|bus| bus != "usb") {
        return Ok(None);
    }
    let alias = format!("redir{number}");
    let device = match stream::chardev(node) {
        Ok(chardev) => UsbDevice::new(Kind::Redir(Redir { chardev }), alias),
        Err(why) => UsbDevice::other("usb-redir", why, alias),
    };
    let filter = filter.map(|filter| Property::Text(filter.to_owned()));
    let device = stream::with_options(device, node);
    let device = device.at(attr(node, "type")).with("filter", filter);
    Ok(Some(device.with("bootindex", bootindex(node)?)))
}

/// Reads the filter in QEMU's form: `0x08:0x1234:-1:0x0200:1|-1:-1:-1:-1:0`. Each rule has class,
/// vendor, product, version and whether the device is allowed; -1 matches any. `None` if there are
/// no rules.
pub(super) fn filter(node: Node<'_>) -> Result<Option<String>, Problem> {
    let rules = all(node, "usbdev").map(rule).collect::<Result<Vec<_>, _>>()?;
    Ok((!rules.is_empty()).then(|| rules.join("|")))
}

fn rule(node: Node<'_>) -> Result<String, Problem> {
    let number = |name: &str, most: u32, width: usize| match attr(node, name) {
        None => Ok("-1".to_owned()),
        Some(text) if text.value == "-1" => Ok("-1".to_owned()),
        Some(text) => base_zero(text.value)
            .map(|(number, _)| number)
            .filter(|number| *number <= most)
            .map(|number| format!("0x{number:0width$X}"))
            .ok_or_else(|| {
                text.problem(format!(
                    "`{}` is not a {name}: write a number up to {most:#x}, or -1 for any",
                    text.excerpt()
                ))
            }),
    };
    let class = number("class", 0xff, 2)?;
    let (vendor, product) = (number("vendor", 0xffff, 4)?, number("product", 0xffff, 4)?);
    let version =
        attr(node, "version").map_or_else(|| Ok("-1".to_owned()), |text| version(&text))?;
    let allow = match attr(node, "allow") {
        Some(text) => super::flag(&text, ["yes", "no"])?,
        None => {
            return Err(Problem::new(
                node.range(),
                "the rule does not specify whether matching devices are allowed",
            )
            .help("add allow='yes' or allow='no'"));
        }
    };
    Ok(format!("{class}:{vendor}:{product}:{version}:{}", u8::from(allow)))
}

/// Reads a device's version as the binary-coded decimal of its descriptor (`bcdDevice`): `2.56` is
/// 0x0256, `2.5` is 0x0250.
fn version(text: &Attr<'_>) -> Result<String, Problem> {
    if text.value == "-1" {
        return Ok("-1".to_owned());
    }
    let digits = |part: &str| {
        (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    match text.value.split_once('.').filter(|(major, minor)| digits(major) && digits(minor)) {
        Some((major, minor)) => Ok(format!("0x{major:0>2}{minor:0<2}")),
        None => Err(text.problem(format!(
            "`{}` is not a device version: write one such as 2.56, or -1 for any",
            text.excerpt()
        ))),
    }
}
