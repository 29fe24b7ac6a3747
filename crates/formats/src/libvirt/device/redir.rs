//! `<redirdev>`, devices that come over the network, and `<redirfilter>`, which of them may.

use vusb_model::device::{Kind, Redir};

use super::{Plug, bootindex, stream};
use crate::config::Property;
use crate::error::Problem;
use crate::libvirt::numbers::base_zero;
use crate::libvirt::xml::{Attr, Node, all, attr};

pub(super) fn read(
    node: Node<'_>,
    number: usize,
    filter: Option<&str>,
) -> Result<Option<Plug>, Problem> {
    if node.attribute("bus").is_some_and(|bus| bus != "usb") {
        return Ok(None);
    }
    let alias = format!("redir{number}");
    let plug = match stream::chardev(node) {
        Ok(chardev) => Plug::new(Kind::Redir(Redir { chardev }), alias),
        Err(why) => Plug::other("usb-redir", why, alias),
    };
    let filter = filter.map(|filter| Property::Text(filter.to_owned()));
    let plug = plug.at(attr(node, "type")).with("filter", filter);
    Ok(Some(plug.with("bootindex", bootindex(node)?)))
}

/// The filter as QEMU takes it: `0x08:0x1234:-1:0x0200:1|-1:-1:-1:-1:0`, which is class, vendor, product, version and whether
/// they are allowed, -1 for any. A filter without a rule is none.
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
                text.refuse(format!(
                    "`{}` is no {name}: it is a number up to {most:#x}, or -1 for any",
                    text.short()
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
                "this does not say whether such devices are allowed",
            )
            .help("add allow='yes' or allow='no'"));
        }
    };
    Ok(format!("{class}:{vendor}:{product}:{version}:{}", u8::from(allow)))
}

/// A device's version in the binary-coded decimal of its descriptor (`bcdDevice`): `2.56` is 0x0256, and `2.5` 0x0250.
fn version(text: &Attr<'_>) -> Result<String, Problem> {
    if text.value == "-1" {
        return Ok("-1".to_owned());
    }
    let digits = |part: &str| {
        (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    match text.value.split_once('.').filter(|(major, minor)| digits(major) && digits(minor)) {
        Some((major, minor)) => Ok(format!("0x{major:0>2}{minor:0<2}")),
        None => Err(text.refuse(format!(
            "`{}` is no version of a device: it is such as 2.56, or -1 for any",
            text.short()
        ))),
    }
}
