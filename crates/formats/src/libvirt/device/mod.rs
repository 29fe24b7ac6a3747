//! The devices of a domain that are on USB.
//!
//! | element | is on USB when | kind | id |
//! |---|---|---|---|
//! | `disk` | `<target bus='usb'>` | storage | `usb-diskN`, N by its target |
//! | `interface` | `<model type='usb-net'>` | net | `netN` |
//! | `sound` | `model='usb'` | audio | `soundN` |
//! | `hostdev` | `type='usb'` | host | `hostdevN` |
//! | `controller` | `type='ccid'`, or a `smartcard` needs it | ccid | `ccidN`, N its index |
//! | `serial` | `<target type='usb-serial'>` | serial | `serialN` |
//! | `input` | `bus='usb'`, or no bus where USB is the default | tablet, mouse, keyboard | `inputN` |
//! | `filesystem` | `<driver type='mtp'>` | mtp | `fsN` |
//! | `hub` | `type='usb'` | hub | `hubN` |
//! | `redirdev` | `bus='usb'` | redir | `redirN` |
//!
//! N counts the preceding elements of the same name, on any bus, as `qemuAssignDeviceAliases` does.
//! A device that the model has no kind for becomes [`Kind::Other`] with the name of QEMU's driver.
//! It occupies its port and is kept, but cannot be recreated.

mod audio;
mod disk;
mod hostdev;
mod other;
mod redir;
mod stream;

use std::ops::Range;

use vusb_model::device::{Kind, Other};

use super::names::has_user_alias;
use super::xml::{Attr, Node, all, attr, child, elements, is};
use crate::config::{AUDIO_DRIVER, Property};
use crate::error::Problem;

pub(super) use hostdev::DuplicateIds;

/// A device on USB, without its address.
pub(super) struct UsbDevice<'d> {
    pub(super) kind: Kind,
    /// The position of the value that identifies the device.
    pub(super) what: Option<Range<usize>>,
    pub(super) properties: Vec<(&'static str, Property)>,
    pub(super) remarks: Vec<String>,
    /// Settings that the model does not have, in words.
    pub(super) settings: Vec<String>,
    /// Whether libvirt does not start the domain without it.
    pub(super) required_at_start: bool,
    pub(super) warnings: Vec<Problem>,
    /// The parts that vusb does not support when it starts the guest itself, in words.
    pub(super) unsupported: Vec<(Node<'d>, String)>,
    /// The alias that libvirt assigns to it.
    pub(super) alias: String,
}

impl<'d> UsbDevice<'d> {
    fn new(kind: Kind, alias: String) -> UsbDevice<'d> {
        UsbDevice {
            kind,
            what: None,
            properties: Vec::new(),
            remarks: Vec::new(),
            settings: Vec::new(),
            required_at_start: false,
            warnings: Vec::new(),
            unsupported: Vec::new(),
            alias,
        }
    }

    /// A device that the model has no kind for: the name of QEMU's driver, and the reason.
    fn other(driver: &str, why: String, alias: String) -> UsbDevice<'d> {
        let mut device = UsbDevice::new(Kind::Other(Other { driver: driver.to_owned() }), alias);
        device.remarks.push(why);
        device
    }

    /// Sets the position of the value that identifies the device.
    fn at(mut self, what: Option<Attr<'_>>) -> UsbDevice<'d> {
        self.what = what.map(|what| what.span);
        self
    }

    /// Adds a property of QEMU's `-device`, if there is a value.
    fn with(mut self, key: &'static str, value: Option<Property>) -> UsbDevice<'d> {
        self.settings.extend(value.as_ref().and_then(|value| setting(key, value)));
        self.properties.extend(value.map(|value| (key, value)));
        self
    }
}

/// The setting of the XML that results in a property of QEMU, in words. `None` if another property
/// also results from this setting, or if the caller adds the setting itself, because it only does
/// so if the value differs from QEMU's default.
fn setting(key: &str, value: &Property) -> Option<String> {
    let word = |yes: bool| if yes { "yes" } else { "no" };
    Some(match (key, value) {
        ("bootindex", Property::Number(order)) => format!("boot order {order}"),
        ("guest-reset", Property::Flag(false)) => "guestReset off".to_owned(),
        ("guest-resets-all", Property::Flag(true)) => "guestReset on".to_owned(),
        ("guest-resets-all", Property::Flag(false)) => "guestReset uninitialized".to_owned(),
        ("filter", _) => "redirfilter".to_owned(),
        ("share-rw", Property::Flag(true)) => "shareable".to_owned(),
        ("logical_block_size" | "physical_block_size", Property::Number(size)) => {
            format!("{} {size}", key.replace('_', " "))
        }
        (_, Property::Text(word)) if key.contains('.') && key != AUDIO_DRIVER => {
            format!("{} {word}", key.rsplit('.').next().unwrap_or_default())
        }
        ("multi", Property::Flag(multi)) => format!("multichannel {}", word(*multi)),
        _ => return None,
    })
}

/// The bus of inputs without the attribute `bus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputBus {
    /// PS/2 for mice and keyboards, USB for tablets.
    Ps2OrUsb,
    /// USB.
    Usb,
    /// Neither of them: virtio or Xen's.
    Other,
}

/// Reads the devices of a domain in order. Names and checks depend on the preceding devices.
pub(super) struct DeviceReader<'d> {
    /// The bus of inputs without the attribute `bus`.
    input_bus: InputBus,
    duplicates: DuplicateIds,
    /// The redirection filter of all `redirdev`, in QEMU's form.
    filter: Option<String>,
    /// The indexes of the smart card readers so far.
    readers: other::Readers,
    /// The smart cards, each with the index of its reader.
    cards: Vec<(u32, Node<'d>)>,
    /// The audio back ends.
    audios: audio::Backends<'d>,
    hostdevs: usize,
    nets: usize,
    filesystems: usize,
    inputs: usize,
    sounds: usize,
    serials: usize,
    hubs: usize,
    redirs: usize,
}

impl<'d> DeviceReader<'d> {
    /// A reader for the devices of `domain`.
    ///
    /// # Errors
    /// The redirection filter is invalid.
    pub(super) fn new(domain: Node<'d>, input_bus: InputBus) -> Result<DeviceReader<'d>, Problem> {
        let devices = || all(domain, "devices");
        let filter = devices().find_map(|devices| child(devices, "redirfilter"));
        // Network cards that are host devices get the first numbers.
        let network_cards = devices().flat_map(|devices| all(devices, "interface"));
        let passed_through = network_cards
            .filter(|card| card.attribute("type") == Some("hostdev") && !has_user_alias(*card));
        Ok(DeviceReader {
            input_bus,
            duplicates: DuplicateIds::of(domain),
            filter: filter.map(redir::filter).transpose()?.flatten(),
            readers: other::Readers::of(devices().flat_map(elements)),
            cards: Vec::new(),
            audios: audio::Backends::of(domain),
            hostdevs: passed_through.count(),
            nets: 0,
            filesystems: 0,
            inputs: 0,
            sounds: 0,
            serials: 0,
            hubs: 0,
            redirs: 0,
        })
    }

    /// Reads one element of `<devices>`. `None` if it is not a USB device.
    ///
    /// # Errors
    /// It is an invalid USB device.
    pub(super) fn read(&mut self, node: Node<'d>) -> Result<Option<UsbDevice<'d>>, Problem> {
        if node.tag_name().namespace().is_some() {
            return Ok(None);
        }
        match node.tag_name().name() {
            "disk" => disk::read(node),
            "interface" => {
                let number =
                    numbered(node, &mut self.nets, node.attribute("type") != Some("hostdev"));
                other::net(node, number)
            }
            "sound" => audio::sound(node, next(&mut self.sounds), &self.audios),
            "hostdev" => {
                let number = numbered(node, &mut self.hostdevs, true);
                hostdev::read(node, number, &self.duplicates)
            }
            "controller" => other::ccid(node, &mut self.readers),
            "smartcard" => {
                self.cards.push((other::reader_of(node), node));
                Ok(None)
            }
            "serial" => Ok(stream::serial(node, next(&mut self.serials))),
            "input" => other::input(node, next(&mut self.inputs), self.input_bus),
            "filesystem" => {
                let number = numbered(node, &mut self.filesystems, true);
                other::mtp(node, number)
            }
            "hub" => other::hub(node, next(&mut self.hubs)),
            "redirdev" => redir::read(node, next(&mut self.redirs), self.filter.as_deref()),
            _ => Ok(None),
        }
    }

    /// The smart cards so far.
    pub(super) fn cards(&self) -> Vec<Node<'d>> {
        self.cards.iter().map(|(_, card)| *card).collect()
    }

    /// The readers without an element, which libvirt adds because a smart card is in them: the
    /// index, a card in it, and the reader.
    pub(super) fn implied_card_readers(&mut self) -> Vec<(u32, Node<'d>, UsbDevice<'d>)> {
        let mut added = Vec::new();
        for (index, card) in std::mem::take(&mut self.cards) {
            if self.readers.insert(index) {
                let mut device = UsbDevice::new(Kind::Ccid, format!("ccid{index}"));
                device.remarks.push("added by libvirt for the smart card".to_owned());
                added.push((index, card, device));
            }
        }
        added
    }
}

/// The indexes of the smart card readers of a domain, including those that libvirt adds for its
/// cards.
pub(super) fn card_readers(domain: Node<'_>) -> Vec<u32> {
    let devices = || all(domain, "devices").flat_map(elements);
    let mut readers = other::Readers::of(devices());
    let controllers = devices().filter(|it| is(*it, "controller"));
    let named = controllers.filter_map(|it| other::ccid(it, &mut readers).ok()?);
    let numbers: Vec<u32> =
        named.filter_map(|it| it.alias.strip_prefix("ccid")?.parse().ok()).collect();
    let cards = devices().filter(|it| is(*it, "smartcard")).map(other::reader_of);
    numbers.into_iter().chain(cards).collect()
}

/// Returns the next number of a count.
const fn next(count: &mut usize) -> usize {
    let number = *count;
    *count += 1;
    number
}

/// The number of an element. An element only increases the count if it is `counted` and libvirt
/// assigns its alias.
fn numbered(node: Node<'_>, count: &mut usize, counted: bool) -> usize {
    if counted && !has_user_alias(node) { next(count) } else { *count }
}

/// `<boot order='N'/>`, as QEMU's `bootindex`.
fn bootindex(node: Node<'_>) -> Result<Option<Property>, Problem> {
    let Some(order) = child(node, "boot").and_then(|boot| attr(boot, "order")) else {
        return Ok(None);
    };
    match super::numbers::decimal::<u32>(order.value).filter(|order| *order > 0) {
        Some(number) => Ok(Some(Property::Number(number.into()))),
        None => Err(order.problem(format!(
            "`{}` is not a position in the boot order: write a number from 1",
            order.excerpt()
        ))),
    }
}

/// Reads a pair of words such as `on` and `off`, or `yes` and `no`.
fn flag(text: &Attr<'_>, words: [&str; 2]) -> Result<bool, Problem> {
    let [on, off] = words;
    match text.value {
        word if word == on => Ok(true),
        word if word == off => Ok(false),
        _ => Err(text.problem(format!("`{}` is neither `{on}` nor `{off}`", text.excerpt()))),
    }
}
