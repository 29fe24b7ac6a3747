//! The vusb-backend of a domain: whether one is alive there, and which devices it could lend.
//!
//! ```text
//!  vusb:  ping = TOKEN ─▶ xenstore ─▶ vusb-backend:  pong = TOKEN
//! ```
//!
//! A backend that was killed leaves its nodes; one that answers is alive.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vusb_host::HostDevice;
use vusb_host::text::{DEVICE_STRING, printable};
use vusb_model::selector::{BusId, Selector, UsbId};
use vusb_model::speed::{Speed, SpeedSet};
use vusb_xen::DomId;

use super::entry::shown;
use super::tree::Tree;
use super::{domain, paths};
use crate::driver::Error;

/// The layout of `docs/xenstore.md` that is known here.
const LAYOUT: &str = "1";

/// How long an answer may take. A backend that is alive answers within milliseconds; one whose domain is busy, within a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// The most devices that are read: 127 on each of 64 buses, more than any machine has.
const MOST_DEVICES: usize = 127 * 64;

/// The device class of hubs (USB class code 9, base class "Hub").
const HUB_CLASS: u8 = 9;

/// A device that a backend domain could lend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lendable {
    /// What it is. Where it is plugged in is known as a port of that domain, and by no reboot-proof path.
    pub device: HostDevice,
    /// Why it should not be lent, in that domain's words.
    pub protection: Option<String>,
}

/// Makes sure that a vusb-backend answers in that domain.
///
/// # Errors
/// [`Error::Unreachable`] with what to do.
pub(super) fn ensure(tree: &mut Tree, backend: DomId, limit: Duration) -> Result<(), Error> {
    let called = called(tree, backend)?;
    let nobody = |why: &str| Error::Unreachable {
        domain: format!("the backend in {called}"),
        why: format!(
            "no vusb-backend answers in {called}: {why}; start it with `systemctl start vusb-backend` (or run `vusb-backend`) there"
        ),
        midway: false,
    };
    let path = paths::presence(backend);
    let Some(version) = tree.read(&format!("{path}/version"))? else {
        return Err(nobody("none says that it is there"));
    };
    if version != LAYOUT {
        let why = format!(
            "it lays its nodes out by version {} and this vusb knows version {LAYOUT}; bring both to the same version",
            shown(&version)
        );
        return Err(Error::Unreachable {
            domain: format!("the backend in {called}"),
            why,
            midway: false,
        });
    }
    if answers(tree, &path, limit)? { Ok(()) } else { Err(nobody("one was there, and is silent")) }
}

/// Whether a vusb-backend answers in that domain.
pub(super) fn is_alive(tree: &mut Tree, backend: DomId, limit: Duration) -> Result<bool, Error> {
    let path = paths::presence(backend);
    Ok(tree.read(&format!("{path}/version"))?.is_some() && answers(tree, &path, limit)?)
}

fn answers(tree: &mut Tree, path: &str, limit: Duration) -> Result<bool, Error> {
    // Another at each question, so that an old answer is not taken for a new one.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let token = format!("{}-{}", std::process::id(), now.as_nanos());
    let (ping, pong) = (format!("{path}/ping"), format!("{path}/pong"));
    tree.write(&ping, &token)?;
    let answer = tree.wait(&[&pong], limit.min(PATIENCE), |tree| {
        // Another vusb may ask at the same time; whoever's question is answered, somebody is alive.
        let (asked, answered) = (tree.read(&ping)?, tree.read(&pong)?);
        let own = answered.as_deref() == Some(&token);
        let others = asked.as_deref() != Some(&token) && answered.is_some() && asked == answered;
        Ok((own || others).then_some(()))
    })?;
    Ok(answer.is_some())
}

/// How a person knows the domain: `usbvm (id 3)`.
pub(super) fn called(tree: &mut Tree, id: DomId) -> Result<String, Error> {
    Ok(match domain::name(tree, id)? {
        Some(name) => format!("domain {} (id {id})", shown(&name)),
        None => format!("domain {id}"),
    })
}

/// The devices that the vusb-backend of that domain could lend, by bus and port.
///
/// # Errors
/// [`Error::Unreachable`] if there is no vusb-backend.
pub(super) fn lendable(
    tree: &mut Tree,
    backend: DomId,
    limit: Duration,
) -> Result<Vec<Lendable>, Error> {
    ensure(tree, backend, limit)?;
    let path = paths::presence(backend);
    let mut all = Vec::new();
    for name in tree.list(&format!("{path}/device"))?.into_iter().take(MOST_DEVICES) {
        let folder = format!("{path}/device/{name}");
        // A path has no dots (Xen's `docs/misc/xenstore.txt`): a line stands for each, as in libxl.
        if let Ok(bus_id) = name.replace('_', ".").parse::<BusId>() {
            all.extend(device(tree, &folder, bus_id)?);
        }
    }
    all.sort_by(|a: &Lendable, b| a.device.bus_id.cmp(&b.device.bus_id));
    Ok(all)
}

/// One device; `None` if what is said of it makes no sense, or it has gone.
fn device(tree: &mut Tree, folder: &str, bus_id: BusId) -> Result<Option<Lendable>, Error> {
    let mut field = |name: &str| tree.read(&format!("{folder}/{name}"));
    let id = field("id")?.as_deref().and_then(usb_id);
    let at = field("address")?.and_then(|it| it.parse().ok());
    let (Some(id), Some(Selector::Address(at))) = (id, at) else { return Ok(None) };
    let speed = field("speed")?.as_deref().and_then(speed);
    let speeds = field("speeds")?.unwrap_or_default();
    let speeds: Vec<Speed> = speeds.split(' ').filter_map(self::speed).collect();
    let class = field("class")?.and_then(|it| u8::from_str_radix(&it, 16).ok()).unwrap_or(0);
    let text = |text: Option<String>| {
        text.map(|it| printable(it.as_bytes(), DEVICE_STRING)).filter(|it| !it.is_empty())
    };
    let device = HostDevice {
        bus_id,
        at,
        id,
        serial: text(field("serial")?),
        manufacturer: text(field("manufacturer")?),
        product: text(field("product")?),
        speed,
        speeds: SpeedSet::of(&speeds),
        class,
        configuration: None,
        interfaces: Vec::new(),
        path: None,
        protection: Vec::new(),
        is_hub: class == HUB_CLASS,
    };
    let protection = field("protection")?.filter(|it| !it.is_empty()).map(|it| shown(&it));
    Ok(Some(Lendable { device, protection }))
}

fn usb_id(text: &str) -> Option<UsbId> {
    match text.parse().ok()? {
        Selector::Id { id, serial: None } => Some(id),
        _ => None,
    }
}

fn speed(word: &str) -> Option<Speed> {
    Speed::ALL.into_iter().find(|speed| speed.to_string() == word)
}
