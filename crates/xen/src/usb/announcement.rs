//! What a vusb-backend announces: that it runs, and which devices it exports.

use vusb_model::selector::{BusAddress, BusId, Selector, UsbId};
use vusb_model::speed::{Speed, SpeedSet};

use super::key::{Entry, Key};

/// The version of the announcement's layout: the value of the `version` node.
pub const LAYOUT_VERSION: &str = "1";

/// The longest ping that a backend answers, in bytes.
pub const MAX_PING_BYTES: usize = 64;

/// A USB device of a backend's domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedDevice {
    /// The port of that domain's host that it is plugged into.
    pub bus_id: BusId,
    /// Its bus and address there, which change with every plug.
    pub address: BusAddress,
    /// Vendor and product.
    pub id: UsbId,
    /// Serial number.
    pub serial: Option<String>,
    /// The speed that it runs at; `None` if that domain's kernel does not know.
    pub speed: Option<Speed>,
    /// The speeds that it can be offered at.
    pub speeds: SpeedSet,
    /// Device class, or that of the first interface if the device has none.
    pub class: u8,
    /// Manufacturer string.
    pub manufacturer: Option<String>,
    /// Product string.
    pub product: Option<String>,
    /// Why it should not be passed through, as a sentence; `None` if it may be.
    pub protection: Option<String>,
}

impl ExportedDevice {
    /// Its nodes.
    pub fn entries(&self) -> Vec<Entry> {
        let speeds: Vec<String> = self.speeds.iter().map(|it| it.to_string()).collect();
        let mut entries = vec![
            (Key::Id, self.id.to_string()),
            (Key::Address, self.address.to_string()),
            (Key::Class, format!("{:02x}", self.class)),
            (Key::Speeds, speeds.join(" ")),
        ];
        let optional = [
            (Key::Serial, self.serial.clone()),
            (Key::Speed, self.speed.map(|it| it.to_string())),
            (Key::Manufacturer, self.manufacturer.clone()),
            (Key::Product, self.product.clone()),
            (Key::Protection, self.protection.clone()),
        ];
        entries.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value?))));
        entries
    }

    /// Reads the nodes of the device whose folder is named after `bus_id`. `None` if it has
    /// disappeared in the meantime, or its id or address is malformed. An empty text counts as
    /// absent.
    ///
    /// # Errors
    /// The errors of `read`.
    pub fn parse<E>(
        bus_id: BusId,
        mut read: impl FnMut(Key) -> Result<Option<String>, E>,
    ) -> Result<Option<ExportedDevice>, E> {
        let Some(Selector::Id { id, serial: None }) = selector(read(Key::Id)?) else {
            return Ok(None);
        };
        let Some(Selector::Address(address)) = selector(read(Key::Address)?) else {
            return Ok(None);
        };
        let speeds = read(Key::Speeds)?.unwrap_or_default();
        let speeds: Vec<Speed> = speeds.split(' ').filter_map(speed).collect();
        let class = read(Key::Class)?.and_then(|it| u8::from_str_radix(&it, 16).ok());
        let mut text = |key| Ok(read(key)?.filter(|it| !it.is_empty()));
        Ok(Some(ExportedDevice {
            bus_id,
            address,
            id,
            serial: text(Key::Serial)?,
            speed: text(Key::Speed)?.as_deref().and_then(speed),
            speeds: SpeedSet::of(&speeds),
            class: class.unwrap_or(0),
            manufacturer: text(Key::Manufacturer)?,
            product: text(Key::Product)?,
            protection: text(Key::Protection)?,
        }))
    }
}

fn selector(text: Option<String>) -> Option<Selector> {
    text?.parse().ok()
}

fn speed(word: &str) -> Option<Speed> {
    Speed::ALL.into_iter().find(|speed| speed.to_string() == word)
}
