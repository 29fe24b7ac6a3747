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
//! | `input` | `bus='usb'`, or nothing says otherwise | tablet, mouse, keyboard | `inputN` |
//! | `filesystem` | `<driver type='mtp'>` | mtp | `fsN` |
//! | `hub` | `type='usb'` | hub | `hubN` |
//! | `redirdev` | `bus='usb'` | redir | `redirN` |
//!
//! N counts what is before it, of its element and on whatever bus, as `qemuAssignDeviceAliases` does. What there is no kind for
//! becomes [`Kind::Other`] by QEMU's name for it: it is placed and kept, and never made anew.

mod disk;
mod hostdev;
mod other;
mod redir;
mod stream;

use std::collections::BTreeMap;
use std::ops::Range;

use vusb_model::device::{Kind, Other};

use super::names::has_own_alias;
use super::numbers::Taken;
use super::xml::{Attr, Node, all, attr, child};
use crate::config::Property;
use crate::error::Problem;

pub(super) use hostdev::Twins;

/// A device that was found, without its place.
pub(super) struct Plug {
    pub(super) kind: Kind,
    /// Where it is said what it is.
    pub(super) what: Option<Range<usize>>,
    pub(super) properties: Vec<(&'static str, Property)>,
    pub(super) remarks: Vec<String>,
    pub(super) warnings: Vec<Problem>,
    /// What libvirt calls it, where it says nothing else.
    pub(super) alias: String,
}

impl Plug {
    fn new(kind: Kind, alias: String) -> Plug {
        Plug {
            kind,
            what: None,
            properties: Vec::new(),
            remarks: Vec::new(),
            warnings: Vec::new(),
            alias,
        }
    }

    /// A device that there is no kind for: QEMU's driver, and why.
    fn other(driver: &str, why: String, alias: String) -> Plug {
        let mut plug = Plug::new(Kind::Other(Other { driver: driver.to_owned() }), alias);
        plug.remarks.push(why);
        plug
    }

    fn at(mut self, what: Option<Attr<'_>>) -> Plug {
        self.what = what.map(|what| what.span);
        self
    }

    fn with(mut self, key: &'static str, value: Option<Property>) -> Plug {
        self.properties.extend(value.map(|value| (key, value)));
        self
    }
}

/// What has to be known to read a device, and what was counted so far.
pub(super) struct Reading<'d> {
    /// Whether mice and keyboards that name no bus are PS/2.
    ps2: bool,
    twins: Twins,
    /// The redirection filter of all `redirdev`, as QEMU takes it.
    filter: Option<String>,
    /// The disks' names, and where each is.
    targets: BTreeMap<&'d str, Range<usize>>,
    /// The smart card readers, by index.
    readers: Taken,
    /// The smart cards, with the readers that they are in.
    cards: Vec<(u32, Node<'d>)>,
    hostdevs: usize,
    nets: usize,
    filesystems: usize,
    inputs: usize,
    sounds: usize,
    serials: usize,
    hubs: usize,
    redirs: usize,
}

impl<'d> Reading<'d> {
    /// Begins to read the devices of `domain`.
    ///
    /// # Errors
    /// Its redirection filter is none.
    pub(super) fn new(domain: Node<'d>, ps2: bool) -> Result<Reading<'d>, Problem> {
        let devices = || all(domain, "devices");
        let filter = devices().find_map(|devices| child(devices, "redirfilter"));
        // Network cards that are host devices have the first numbers.
        let cards = devices().flat_map(|devices| all(devices, "interface"));
        let passed =
            cards.filter(|card| card.attribute("type") == Some("hostdev") && !has_own_alias(*card));
        Ok(Reading {
            ps2,
            twins: Twins::of(domain),
            filter: filter.map(redir::filter).transpose()?.flatten(),
            targets: BTreeMap::new(),
            readers: Taken::default(),
            cards: Vec::new(),
            hostdevs: passed.count(),
            nets: 0,
            filesystems: 0,
            inputs: 0,
            sounds: 0,
            serials: 0,
            hubs: 0,
            redirs: 0,
        })
    }

    /// Reads one element of `<devices>`; `None` if it is not on USB.
    ///
    /// # Errors
    /// It is on USB and is said wrongly.
    pub(super) fn device(&mut self, node: Node<'d>) -> Result<Option<Plug>, Problem> {
        if node.tag_name().namespace().is_some() {
            return Ok(None);
        }
        match node.tag_name().name() {
            "disk" => disk::read(node, &mut self.targets),
            "interface" => {
                let number =
                    numbered(node, &mut self.nets, node.attribute("type") != Some("hostdev"));
                other::net(node, number)
            }
            "sound" => other::sound(node, next(&mut self.sounds)),
            "hostdev" => {
                let number = numbered(node, &mut self.hostdevs, true);
                hostdev::read(node, number, &self.twins)
            }
            "controller" => other::ccid(node, &mut self.readers),
            "smartcard" => {
                self.cards.push((other::reader_of(node), node));
                Ok(None)
            }
            "serial" => Ok(stream::serial(node, next(&mut self.serials))),
            "input" => other::input(node, next(&mut self.inputs), self.ps2),
            "filesystem" => {
                let number = numbered(node, &mut self.filesystems, true);
                other::mtp(node, number)
            }
            "hub" => other::hub(node, next(&mut self.hubs)),
            "redirdev" => redir::read(node, next(&mut self.redirs), self.filter.as_deref()),
            _ => Ok(None),
        }
    }

    /// The readers that nothing says and that a smart card is in: libvirt adds them. Each with its index and a card in it.
    pub(super) fn readers_of_cards(&mut self) -> Vec<(u32, Node<'d>, Plug)> {
        let mut added = Vec::new();
        for (index, card) in std::mem::take(&mut self.cards) {
            if self.readers.take(index) {
                let mut plug = Plug::new(Kind::Ccid, format!("ccid{index}"));
                plug.remarks.push("libvirt adds it for the smart card".to_owned());
                added.push((index, card, plug));
            }
        }
        added
    }
}

/// The number of this one of its element.
const fn next(count: &mut usize) -> usize {
    let number = *count;
    *count += 1;
    number
}

/// The number of this one among those whose alias libvirt gives and which are `counted` here.
fn numbered(node: Node<'_>, count: &mut usize, counted: bool) -> usize {
    if counted && !has_own_alias(node) { next(count) } else { *count }
}

/// `<boot order='N'/>`, as QEMU's `bootindex`.
fn bootindex(node: Node<'_>) -> Result<Option<Property>, Problem> {
    let Some(order) = child(node, "boot").and_then(|boot| attr(boot, "order")) else {
        return Ok(None);
    };
    match super::numbers::decimal::<u32>(order.value).filter(|order| *order > 0) {
        Some(number) => Ok(Some(Property::Number(number.into()))),
        None => Err(order.refuse(format!(
            "`{}` is no place in the boot order: it is a number from 1 on",
            order.short()
        ))),
    }
}

/// `on` and `off`, `yes` and `no`.
fn flag(text: &Attr<'_>, words: [&str; 2]) -> Result<bool, Problem> {
    let [on, off] = words;
    match text.value {
        word if word == on => Ok(true),
        word if word == off => Ok(false),
        _ => Err(text.refuse(format!("`{}` is neither `{on}` nor `{off}`", text.short()))),
    }
}
