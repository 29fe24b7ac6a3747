//! `<sound model='usb'>` and its back end.
//!
//! | `<audio>` of the card | `<audio>` of the domain | back end in libvirt 11.3 |
//! |---|---|---|
//! | `id='2'` | with this id | that one; QEMU knows it as `audio2` |
//! | `id='2'` | others | none: libvirt does not start the domain |
//! | none | one or several | the first one |
//! | none | none | libvirt adds one with the id 1: of the type `none` without a display or for VNC, and `spice` for SPICE; with SDL it does not start the domain |
//!
//! Sources: libvirt, `virDomainDefFindAudioByID`, `qemuDomainDefAddDefaultAudioBackend`. Settings
//! in its `qemu.conf` can change the last row, and are not read.

use vusb_model::device::{Audio, Kind};

use super::{UsbDevice, flag};
use crate::config::{AUDIO_DRIVER, AUDIO_NUMBER, Property};
use crate::error::Problem;
use crate::libvirt::numbers::decimal;
use crate::libvirt::xml::{Node, all, attr, child, elements};

/// The audio back ends of a domain.
pub(super) struct Backends<'d> {
    /// Each with its id.
    defined: Vec<(u32, Node<'d>)>,
    /// The types of the displays.
    displays: Vec<&'d str>,
}

/// The back end of a sound card.
enum Backend<'d> {
    Defined(u32, Node<'d>),
    /// libvirt adds it. Its type.
    Added(&'static str),
    /// libvirt finds none, or which one it adds is not known: the reason.
    Unknown(String),
}

impl<'d> Backends<'d> {
    pub(super) fn of(domain: Node<'d>) -> Backends<'d> {
        let devices = |name| all(domain, "devices").flat_map(move |devices| all(devices, name));
        let defined = devices("audio").filter_map(|it| Some((decimal(it.attribute("id")?)?, it)));
        let displays = devices("graphics").filter_map(|it| it.attribute("type"));
        Backends { defined: defined.collect(), displays: displays.collect() }
    }

    /// The back end of a card that names this one.
    fn of_card(&self, id: Option<u32>) -> Backend<'d> {
        let named = |id| self.defined.iter().find(|(it, _)| *it == id);
        match (id, self.defined.as_slice()) {
            (Some(id), defined) => match named(id) {
                Some((id, node)) => Backend::Defined(*id, node.to_owned()),
                None if defined.is_empty() && id == 1 => self.added(),
                None => Backend::Unknown(format!("missing audio back end {id}")),
            },
            (None, []) => self.added(),
            (None, [(id, node), ..]) => Backend::Defined(*id, *node),
        }
    }

    /// The back end that libvirt adds to a domain without one.
    fn added(&self) -> Backend<'d> {
        let of_display = |display: &&str| match *display {
            "spice" => Some("spice"),
            "vnc" => Some("none"),
            _ => None,
        };
        let mut types: Vec<Option<&str>> = self.displays.iter().map(of_display).collect();
        types.dedup();
        match types.as_slice() {
            [] => Backend::Added("none"),
            [Some(one)] => Backend::Added(one),
            _ => Backend::Unknown("automatic audio back end for these displays".to_owned()),
        }
    }
}

/// `<sound>`.
pub(super) fn sound<'d>(
    node: Node<'d>,
    number: usize,
    backends: &Backends<'d>,
) -> Result<Option<UsbDevice<'d>>, Problem> {
    let model = attr(node, "model").filter(|model| model.value == "usb");
    let Some(model) = model else {
        return Ok(None);
    };
    let id = child(node, "audio").and_then(|audio| audio.attribute("id")).and_then(decimal::<u32>);
    let audiodev = id.map(|id| format!("audio{id}"));
    let multi = attr(node, "multichannel").map(|text| flag(&text, ["yes", "no"])).transpose()?;
    let device = UsbDevice::new(Kind::Audio(Audio { audiodev }), format!("sound{number}"));
    let mut device = device.at(Some(model)).with("multi", multi.map(Property::Flag));
    let driver = |name: &str| Some(Property::Text(name.to_owned()));
    match backends.of_card(id) {
        Backend::Defined(own, definition) => {
            if id.is_none() {
                device = device.with(AUDIO_NUMBER, Some(Property::Number(own.into())));
            }
            device = device.with(
                AUDIO_DRIVER,
                match definition.attribute("type") {
                    Some("pulseaudio") => driver("pa"),
                    kind => kind.and_then(driver),
                },
            );
            if has_settings(definition) {
                let what = "settings of its audio back end".to_owned();
                device.unsupported.push((definition, what));
            }
        }
        Backend::Added(name) => device = device.with(AUDIO_DRIVER, driver(name)),
        Backend::Unknown(why) => device.unsupported.push((node, why)),
    }
    Ok(Some(device))
}

/// Whether an audio back end has settings besides its id and its type.
fn has_settings(definition: Node<'_>) -> bool {
    elements(definition).next().is_some()
        || definition.attributes().any(|it| !["id", "type"].contains(&it.name()))
}
