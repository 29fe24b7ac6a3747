//! libvirt's names: of controller models, of devices (aliases, which are QEMU's ids), and of disks.

use vusb_model::models::Model;
use vusb_model::name::Name;
use vusb_model::naming::{self, from_libvirt};

use super::xml::{Node, attr, child};

/// libvirt's models, in the order of `virDomainControllerModelUSB`, except that `qemu-xhci` comes
/// before `nec-xhci`. Of two that fit an invalid name equally well, the first is suggested:
/// `qemu-xhci` for `xhci`.
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

/// The model that turns USB off.
const NONE: &str = "none";

/// libvirt's names of all models, and `none`.
fn all_names() -> impl Iterator<Item = &'static str> {
    MODELS.into_iter().filter_map(model_name).chain([NONE])
}

/// The model with this name: `Some(None)` for `none`, `None` if libvirt has no such model.
pub(super) fn model(name: &str) -> Option<Option<Model>> {
    if name == NONE { Some(None) } else { from_libvirt(name).map(Some) }
}

/// libvirt's name of a model. `None` if libvirt does not have the model (`xenusb3`).
pub(super) const fn model_name(model: Model) -> Option<&'static str> {
    naming::names(model).libvirt
}

/// libvirt's names of all models, and `none`, separated by commas.
pub(super) fn model_names() -> String {
    all_names().collect::<Vec<_>>().join(", ")
}

/// The model that an invalid name probably stands for. The name may be another tool's (QEMU's
/// `piix3-usb-uhci`, vusb's `xenusb2`), a class of controllers (`xhci`), or misspelt.
pub(super) fn closest_model(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let without_usb = text.replace("usb-", "");
    let of_vusb = text.parse::<Model>().ok().and_then(model_name);
    let of_qemu = || all_names().find(|name| *name == without_usb);
    let of_class = || {
        all_names()
            .find(|name| name.len() > text.len() && name.ends_with(text.as_str()))
            .filter(|_| text.len() > 3)
    };
    let misspelt = || {
        let distance = |name: &str| strsim::damerau_levenshtein(name, &without_usb);
        let nearest = all_names().min_by_key(|name| distance(name))?;
        // If more than a third of the letters differ, it is another word.
        (text.len() <= 40 && 3 * distance(nearest) <= nearest.len()).then_some(nearest)
    };
    of_vusb.or_else(of_qemu).or_else(of_class).or_else(misspelt)
}

/// The prefix of user aliases. libvirt assigns all other aliases itself
/// (`virDomainDeviceAliasIsUserAlias`; section "Devices" of formatdomain).
pub(super) const USER: &str = "ua-";

/// The stems of the aliases that libvirt assigns to USB controllers and devices.
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

/// Whether libvirt assigns aliases of this form: `usb`, `input0`.
pub(super) fn is_automatic(alias: &str) -> bool {
    let stem = alias.trim_end_matches(|last: char| last.is_ascii_digit());
    STEMS.contains(&stem) && (alias == "usb" || stem.len() < alias.len())
}

/// The name of a controller or device: from its alias if that counts, otherwise `automatic`. User
/// aliases always count, because libvirt keeps them. Other aliases only count in the description of
/// a running guest (`live`), where they are QEMU's ids.
pub(super) fn name_of(node: Node<'_>, live: bool, automatic: Option<String>) -> Option<Name> {
    let alias = child(node, "alias").and_then(|alias| attr(alias, "name"));
    let from_alias = alias.and_then(|alias| {
        name_of_user_alias(alias.value).or_else(|| alias.value.parse().ok().filter(|_| live))
    });
    from_alias.or_else(|| automatic?.parse().ok())
}

/// The name in a user alias: the part after `ua-`, or all of it if that part is not a name or has
/// the form of an automatic alias.
fn name_of_user_alias(alias: &str) -> Option<Name> {
    let rest = alias.strip_prefix(USER)?;
    rest.parse().ok().filter(|_| !is_automatic(rest)).or_else(|| alias.parse().ok())
}

/// Whether an element has a user alias, so that libvirt does not assign one.
pub(super) fn has_user_alias(node: Node<'_>) -> bool {
    child(node, "alias")
        .and_then(|alias| alias.attribute("name"))
        .is_some_and(|name| name.starts_with(USER))
}

/// How a name is written as an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// As this user alias.
    User(String),
    /// Not at all, because libvirt assigns names of this form.
    Automatic,
    /// It cannot be written: an alias consists of letters, digits, `-` and `_`.
    Impossible,
}

/// How `name` is written as an alias.
pub(super) fn alias_of(name: &Name) -> Alias {
    match name.as_str() {
        text if is_automatic(text) => Alias::Automatic,
        text if text.contains('.') => Alias::Impossible,
        text if name_of_user_alias(text).as_ref() == Some(name) => Alias::User(text.to_owned()),
        text => Alias::User(format!("{USER}{text}")),
    }
}

/// The number of a disk name, counted as in `virDiskNameToIndex`: `sda` is 0, `sdz` 25, `sdaa` 26.
/// libvirt ignores digits at the end; here, `sda1` is not a disk name.
pub(super) fn disk_number(target: &str) -> Option<u32> {
    let prefixes = ["fd", "hd", "vd", "sd", "xvd", "ubd"];
    let letters = prefixes.iter().find_map(|prefix| target.strip_prefix(prefix))?;
    let number = letters.bytes().try_fold(0_u32, |number, letter| {
        let letter = letter.checked_sub(b'a').filter(|letter| *letter < 26)?;
        number.checked_mul(26)?.checked_add(u32::from(letter) + 1)
    });
    number?.checked_sub(1)
}

/// The disk name with this number, the inverse of [`disk_number`].
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
    fn disk_names_and_numbers_are_converted_both_ways() {
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
    fn the_closest_model_is_suggested() {
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
    fn automatic_aliases_are_distinguished_from_user_names() {
        for alias in ["usb", "usb1", "input0", "usb-disk12", "hostdev3"] {
            assert!(is_automatic(alias), "{alias}");
        }
        for alias in ["input", "hci0", "stick", "usb-disk", "tablet0"] {
            assert!(!is_automatic(alias), "{alias}");
        }
    }

    #[test]
    fn names_survive_as_aliases() {
        let alias = |name: &str| alias_of(&name.parse().unwrap());
        assert_eq!(alias("stick"), Alias::User("ua-stick".to_owned()));
        assert_eq!(alias("ua-1"), Alias::User("ua-1".to_owned()));
        assert_eq!(alias("input7"), Alias::Automatic);
        assert_eq!(alias("web.stick"), Alias::Impossible);
        for name in ["stick", "ua-1", "ua-stick", "ua-input7", "ua-ua-stick", "ua-ua-input7"] {
            let Alias::User(alias) = alias(name) else { panic!("{name}") };
            assert_eq!(
                name_of_user_alias(&alias).map(|name| name.to_string()).as_deref(),
                Some(name)
            );
        }
    }
}
