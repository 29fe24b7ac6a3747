//! libvirt's names: of controller models, and of devices (its aliases, which are QEMU's ids).

use vusb_model::borders::{self, of_libvirt};
use vusb_model::models::Model;
use vusb_model::name::Name;

use super::xml::{Node, attr, child};

/// libvirt's models, in its order (`virDomainControllerModelUSB`): of two that are as likely meant it is the first.
const MODELS: [Model; 13] = [
    Model::Piix3Uhci,
    Model::Piix4Uhci,
    Model::Ehci,
    Model::Ich9Ehci1,
    Model::Ich9Uhci1,
    Model::Ich9Uhci2,
    Model::Ich9Uhci3,
    Model::Vt82c686bUhci,
    Model::PciOhci,
    Model::QemuXhci,
    Model::NecXhci,
    Model::Xenusb1,
    Model::Xenusb2,
];

/// What it calls no USB at all.
const NONE: &str = "none";

fn names() -> impl Iterator<Item = &'static str> {
    MODELS.into_iter().filter_map(model_name).chain([NONE])
}

/// The model that libvirt calls so; `Some(None)` for `none`, `None` if libvirt knows no such model.
pub(super) fn model(name: &str) -> Option<Option<Model>> {
    if name == NONE { Some(None) } else { of_libvirt(name).map(Some) }
}

/// What libvirt calls a model; `None` for what it does not know: `xenusb3`.
pub(super) const fn model_name(model: Model) -> Option<&'static str> {
    borders::names(model).libvirt
}

/// All of libvirt's names of models.
pub(super) fn model_names() -> String {
    names().collect::<Vec<_>>().join(", ")
}

/// The model that someone who wrote this most likely means: by another's name for it (QEMU's `piix3-usb-uhci`, `xenusb2`), by its
/// kind alone (`xhci`), or misspelt.
pub(super) fn closest_model(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let plain = text.replace("usb-", "");
    let ours = text.parse::<Model>().ok().and_then(model_name);
    let same = || names().find(|name| *name == plain);
    let kind = || {
        names()
            .find(|name| name.len() > text.len() && name.ends_with(text.as_str()))
            .filter(|_| text.len() > 3)
    };
    let near = || {
        let distance = |name: &str| strsim::damerau_levenshtein(name, &plain);
        let nearest = names().min_by_key(|name| distance(name))?;
        // A third of it may be wrong: more is another word.
        (text.len() <= 40 && 3 * distance(nearest) <= nearest.len()).then_some(nearest)
    };
    ours.or_else(same).or_else(kind).or_else(near)
}

/// What a user's own alias begins with; all others are libvirt's to give (`isValidAlias`, section "Devices" of formatdomain).
const USER: &str = "ua-";

/// What libvirt's own aliases of USB controllers and devices begin with.
const STEMS: [&str; 12] = [
    "usb",
    "hostdev",
    "redir",
    "usb-disk",
    "input",
    "hub",
    "serial",
    "smartcard",
    "sound",
    "net",
    "fs",
    "ccid",
];

/// Whether it is an alias that libvirt gives by itself: `usb`, `input0`.
pub(super) fn is_automatic(alias: &str) -> bool {
    let stem = alias.trim_end_matches(|last: char| last.is_ascii_digit());
    STEMS.contains(&stem) && (alias == "usb" || stem.len() < alias.len())
}

/// The name that a controller or device has: from its alias, where libvirt would keep it, or the `automatic` one. It keeps a user's
/// own aliases; others only in the description of a guest that runs (`live`), where they are QEMU's ids.
pub(super) fn name_of(node: Node<'_>, live: bool, automatic: Option<String>) -> Option<Name> {
    let alias = child(node, "alias").and_then(|alias| attr(alias, "name"));
    let kept = alias.and_then(|alias| {
        own_name(alias.value).or_else(|| alias.value.parse().ok().filter(|_| live))
    });
    kept.or_else(|| automatic?.parse().ok())
}

/// The name in a user's own alias: what is behind `ua-`, or all of it where that is no name, or one that libvirt gives by itself.
fn own_name(alias: &str) -> Option<Name> {
    let own = alias.strip_prefix(USER)?;
    own.parse().ok().filter(|_| !is_automatic(own)).or_else(|| alias.parse().ok())
}

/// Whether an element has an alias of its user's own, so that libvirt gives it none.
pub(super) fn has_own_alias(node: Node<'_>) -> bool {
    child(node, "alias")
        .and_then(|alias| alias.attribute("name"))
        .is_some_and(|name| name.starts_with(USER))
}

/// How a name is said as an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// As this one.
    Own(String),
    /// Not at all: libvirt gives such names by itself.
    Automatic,
    /// It cannot be: an alias is letters, digits, `-` and `_`.
    Impossible,
}

/// How `name` is said as an alias.
pub(super) fn alias_of(name: &Name) -> Alias {
    match name.as_str() {
        text if is_automatic(text) => Alias::Automatic,
        text if text.contains('.') => Alias::Impossible,
        text if own_name(text).as_ref() == Some(name) => Alias::Own(text.to_owned()),
        text => Alias::Own(format!("{USER}{text}")),
    }
}

/// The number of a disk's name, as `virDiskNameToIndex` counts: `sda` is 0, `sdz` 25, `sdaa` 26.
pub(super) fn disk_number(target: &str) -> Option<u32> {
    let prefixes = ["fd", "hd", "vd", "sd", "xvd", "ubd"];
    let letters = prefixes.iter().find_map(|prefix| target.strip_prefix(prefix))?;
    let number = letters.bytes().try_fold(0_u32, |number, letter| {
        let letter = letter.checked_sub(b'a').filter(|letter| *letter < 26)?;
        number.checked_mul(26)?.checked_add(u32::from(letter) + 1)
    });
    number?.checked_sub(1)
}

/// The disk's name with this number: the other way round.
pub(super) fn disk_name(number: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = Some(number);
    while let Some(number) = rest {
        letters.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)));
        rest = (number / 26).checked_sub(1);
    }
    format!("sd{}", letters.iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_counted_in_letters() {
        for (name, number) in [
            ("sda", 0),
            ("sdb", 1),
            ("sdz", 25),
            ("sdaa", 26),
            ("sdaz", 51),
            ("sdba", 52),
            ("sdzz", 701),
            ("sdaaa", 702),
        ] {
            assert_eq!(disk_number(name), Some(number));
            assert_eq!(disk_name(number), name);
        }
        for name in ["sd", "sd1", "sda1", "a", "", "sdA", "sdaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(disk_number(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_is_most_likely_meant() {
        for (text, model) in [
            ("piix3-usb-uhci", Some("piix3-uhci")),
            ("ich9-usb-ehci1", Some("ich9-ehci1")),
            ("usb-ehci", Some("ehci")),
            ("nec-usb-xhci", Some("nec-xhci")),
            ("xhci", Some("qemu-xhci")),
            ("uhci", Some("piix3-uhci")),
            ("xenusb2", Some("qusb2")),
            ("xenusb3", None),
            ("ich9-echi1", Some("ich9-ehci1")),
            ("QEMU-XHCI", Some("qemu-xhci")),
            ("virtio", None),
            ("", None),
        ] {
            assert_eq!(closest_model(text), model, "{text}");
        }
    }

    #[test]
    fn libvirts_own_aliases() {
        for alias in ["usb", "usb1", "input0", "usb-disk12", "hostdev3"] {
            assert!(is_automatic(alias), "{alias}");
        }
        for alias in ["input", "hci0", "stick", "usb-disk", "tablet0"] {
            assert!(!is_automatic(alias), "{alias}");
        }
    }

    #[test]
    fn names_as_aliases() {
        let alias = |name: &str| alias_of(&name.parse().unwrap());
        assert_eq!(alias("stick"), Alias::Own("ua-stick".to_owned()));
        assert_eq!(alias("ua-1"), Alias::Own("ua-1".to_owned()));
        assert_eq!(alias("input7"), Alias::Automatic);
        assert_eq!(alias("web.stick"), Alias::Impossible);
        for name in ["stick", "ua-1", "ua-stick", "ua-input7", "ua-ua-stick", "ua-ua-input7"] {
            let Alias::Own(alias) = alias(name) else { panic!("{name}") };
            assert_eq!(own_name(&alias).map(|name| name.to_string()).as_deref(), Some(name));
        }
    }
}
