//! The vusb-backend of a domain: whether it runs, and which devices it exports.
//!
//! ```text
//!  vusb:  ping = TOKEN ─▶ xenstore ─▶ vusb-backend:  pong = TOKEN
//! ```
//!
//! A backend that was killed leaves its nodes behind; one that answers a ping is running.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vusb_host::HostDevice;
use vusb_host::text::{self, MAX_DEVICE_STRING};
use vusb_xen::DomId;
use vusb_xen::usb::{self, ExportedDevice, Folder, Key, LAYOUT_VERSION};

use super::domain;
use super::printable::printable;
use super::xenstore::Xenstore;
use crate::driver::Error;
use crate::scheme::BackendDevice;

/// How long to wait for the answer to a ping. A running backend answers within milliseconds, and
/// within a second if its domain is busy.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The most devices that are read: 127 on each of 64 buses, more than any machine has.
const MAX_DEVICES: usize = 127 * 64;

/// The device class of hubs (USB class code 9, base class "Hub").
const HUB_CLASS: u8 = 9;

/// Makes sure that a vusb-backend answers in that domain.
///
/// # Errors
/// [`Error::Unreachable`], with what to do.
pub(super) fn require(store: &mut Xenstore, backend: DomId, limit: Duration) -> Result<(), Error> {
    let name = domain::display_name(store, backend)?;
    let unreachable = |why: String| Error::Unreachable {
        domain: format!("the backend in {name}"),
        why: why.into(),
        midway: false,
    };
    let not_running = |why: &str| {
        unreachable(format!(
            "no vusb-backend answers in {name}: {why}; start it with `systemctl start vusb-backend` (or run `vusb-backend`) there"
        ))
    };
    let folder = usb::announcement(backend);
    let Some(version) = store.read(&folder.node(Key::Version))? else {
        return Err(not_running("none is announced in xenstore"));
    };
    if version != LAYOUT_VERSION {
        return Err(unreachable(format!(
            "its xenstore layout is version {}, but this vusb supports version {LAYOUT_VERSION}; install the same release of both",
            printable(&version)
        )));
    }
    if answers(store, &folder, limit)? {
        Ok(())
    } else {
        Err(not_running("one is announced in xenstore but does not answer"))
    }
}

/// Whether a vusb-backend answers in that domain.
pub(super) fn is_running(
    store: &mut Xenstore,
    backend: DomId,
    limit: Duration,
) -> Result<bool, Error> {
    let folder = usb::announcement(backend);
    Ok(store.read(&folder.node(Key::Version))?.is_some() && answers(store, &folder, limit)?)
}

fn answers(store: &mut Xenstore, folder: &Folder, limit: Duration) -> Result<bool, Error> {
    // A new token for each ping, so that an old answer is not taken for a new one.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let token = format!("{}-{}", std::process::id(), now.as_nanos());
    let (ping, pong) = (folder.node(Key::Ping), folder.node(Key::Pong));
    store.write(&ping, &token)?;
    let answer = store.wait(&[&pong], limit.min(PING_TIMEOUT), |store| {
        // Another vusb may ping at the same time: an answer to either shows that the backend runs.
        let (asked, answered) = (store.read(&ping)?, store.read(&pong)?);
        let own = answered.as_deref() == Some(&token);
        let others = asked.as_deref() != Some(&token) && answered.is_some() && asked == answered;
        Ok((own || others).then_some(()))
    })?;
    Ok(answer.is_some())
}

/// The devices that the vusb-backend of a domain exports, by bus id.
///
/// # Errors
/// [`Error::Unreachable`] if no vusb-backend answers.
pub(super) fn devices(
    store: &mut Xenstore,
    backend: DomId,
    limit: Duration,
) -> Result<Vec<BackendDevice>, Error> {
    require(store, backend, limit)?;
    let names = store.list(&usb::exported_devices(backend))?;
    let bus_ids = names.iter().filter_map(|name| usb::parse_bus_id_folder(name));
    let mut all = Vec::new();
    for bus_id in bus_ids.take(MAX_DEVICES) {
        let folder = usb::exported_device(backend, &bus_id);
        let device = ExportedDevice::parse(bus_id, |key| store.read(&folder.node(key)))?;
        all.extend(device.map(BackendDevice::from));
    }
    all.sort_by(|a: &BackendDevice, b| a.device.bus_id.cmp(&b.device.bus_id));
    Ok(all)
}

impl From<ExportedDevice> for BackendDevice {
    /// Makes the texts of the other domain printable.
    fn from(device: ExportedDevice) -> BackendDevice {
        let text = |text: Option<String>| {
            text.map(|it| text::printable(it.as_bytes(), MAX_DEVICE_STRING))
                .filter(|it| !it.is_empty())
        };
        BackendDevice {
            device: HostDevice {
                bus_id: device.bus_id,
                bus_address: device.address,
                id: device.id,
                serial: text(device.serial),
                manufacturer: text(device.manufacturer),
                product: text(device.product),
                speed: device.speed,
                speeds: device.speeds,
                class: device.class,
                configuration: None,
                interfaces: Vec::new(),
                path: None,
                protection: Vec::new(),
                used_by: None,
                // The other domain says so in `protection`.
                is_authorized: true,
                is_hub: device.class == HUB_CLASS,
            },
            protection: device.protection.map(|it| printable(&it)),
        }
    }
}
