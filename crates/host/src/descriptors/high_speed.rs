//! Presenting a SuperSpeed device as a high-speed device to a guest with a USB 2 controller.
//!
//! | descriptor | field | SuperSpeed | high speed |
//! |---|---|---|---|
//! | device | bcdUSB | 0x0210 and above | 0x0200, so that the guest does not request a BOS descriptor |
//! | device | bMaxPacketSize0 | 9 (2 to the power of 9) | 64 |
//! | configuration | wTotalLength | | the length after the changes |
//! | configuration | bMaxPower | in 8 mA, to 900 mA | in 2 mA, to 500 mA |
//! | endpoint, bulk | wMaxPacketSize | 1024 | 512 |
//! | endpoint, control | wMaxPacketSize | 512 | 64 |
//! | endpoint, interrupt or isochronous | wMaxPacketSize | 1024, bursts in the companion | the burst in bits 11 and 12 |
//! | companions | | types 0x30 and 0x31 | removed |
//!
//! Sources: USB 2.0 specification, sections 5.5.3, 5.6.3, 5.7.3, 5.8.3 and 9.6; USB 3.2
//! specification, sections 9.6.1 to 9.6.8. An interval is 2 to the power of bInterval - 1, in units
//! of 125 µs, at both speeds.
//!
//! A setting whose endpoints use bulk streams is left out (a USB attached SCSI disk has one): high
//! speed does not have streams, and the device requires them in this setting. Setting 0 of an
//! interface always exists, so a device that uses streams there cannot be presented.
//!
//! # The wire stays SuperSpeed
//!
//! The device still sends packets of up to 1024 bytes while the guest assumes 512, and only a
//! packet shorter than 1024 ends a transfer. Code that relays the guest's transfers must handle
//! this:
//!
//! * **IN, a multiple of 1024 bytes requested**: nothing to do. A transfer that ends short for the
//!   guest ends short on the wire too.
//! * **IN, any other length requested** (512, or 36 for an INQUIRY): the last packet on the wire
//!   may be longer than the rest of the guest's buffer. If the device sends more than was
//!   requested, the controller reports an overflow (babble; Linux's EOVERFLOW) and the data is
//!   lost. A high-speed device would have stopped after a packet of 512 and kept the rest for the
//!   next transfer. So request the length rounded up to a multiple of 1024 and give the guest as
//!   much as it requested. Keep any surplus as the beginning of the endpoint's next transfer. Drop
//!   it when the endpoint is halted or cleared, the interface is set, or the device is reset.
//! * **IN, a response of an odd multiple of 512 bytes** ends with a packet that is short on the
//!   wire (512 of 1024) but full for the guest. A guest that requested more waits for the empty
//!   packet that a high-speed device would send next. Its transfer ends now, as short, just as that
//!   empty packet would have ended it. There is nothing to do, unless the guest requested exactly
//!   that much and then requests the empty packet: the device does not send one.
//! * **OUT**: the device treats a packet of fewer than 1024 bytes as the end of the transfer. A
//!   guest that splits one transfer into odd multiples of 512 bytes, which is valid at high speed,
//!   ends it early. Join such pieces, or support only devices whose protocol specifies the length
//!   of each transfer (mass storage does, and its drivers send each transfer at once or in pieces
//!   of 4096 bytes).
//! * **OUT, an empty packet at the end**: a guest appends one to a transfer that is a multiple of
//!   512. On an odd multiple the device has already seen the end and would treat the empty packet
//!   as an empty transfer: leave it out.

use super::{COMPANION, CONFIGURATION, Cursor, DEVICE, ENDPOINT, INTERFACE, Item, TransferType};

/// Converts a descriptor of a SuperSpeed device to that of a high-speed device.
///
/// `raw` is a complete device descriptor, or a complete configuration (`wTotalLength` bytes), as
/// GET_DESCRIPTOR returns them. The result is `None` if it is neither, is inconsistent, or contains
/// something that high speed does not support (see the [module](self)). A BOS descriptor is
/// neither: refuse the guest's request for it.
///
/// If the guest requests fewer bytes, truncate the result, never the input. A descriptor that
/// already is a high-speed one is returned unchanged, except that bcdUSB is at most 0x0200.
///
/// ```
/// use vusb_host::descriptors::as_high_speed;
///
/// let super_speed = [18, 1, 0x20, 3, 0, 0, 0, 9, 0x81, 7, 0x81, 0x55, 0, 1, 1, 2, 3, 1];
/// let high_speed = [18, 1, 0x00, 2, 0, 0, 0, 64, 0x81, 7, 0x81, 0x55, 0, 1, 1, 2, 3, 1];
/// assert_eq!(as_high_speed(&super_speed), Some(high_speed.to_vec()));
/// ```
pub fn as_high_speed(raw: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor { rest: raw, offset: 0 };
    let head = cursor.next().ok()??;
    match head.kind {
        DEVICE if raw.len() == 18 && head.bytes.len() == 18 => device(&head),
        CONFIGURATION => configuration(&head, cursor, raw.len()),
        _ => None,
    }
}

/// The largest bcdUSB without a BOS descriptor: USB 2.0.
const USB_2: u16 = 0x0200;

/// An interface association, which precedes the interfaces that it groups (USB 3.2, section 9.6.4).
const ASSOCIATION: u8 = 0x0b;

/// The companion of a SuperSpeedPlus isochronous endpoint (USB 3.2, section 9.6.8).
const ISOCHRONOUS_COMPANION: u8 = 0x31;

fn device(item: &Item<'_>) -> Option<Vec<u8>> {
    let version = item.word(2).ok()?.min(USB_2).to_le_bytes();
    let packet = match item.byte(7).ok()? {
        9 | 64 => 64,
        _ => return None,
    };
    let mut converted = item.bytes.to_vec();
    put(&mut converted, 2, &version)?;
    put(&mut converted, 7, &[packet])?;
    Some(converted)
}

fn configuration(head: &Item<'_>, mut cursor: Cursor<'_>, length: usize) -> Option<Vec<u8>> {
    if usize::from(head.word(2).ok()?) != length || head.bytes.len() < 9 {
        return None;
    }
    let mut converted = Converted::new(head.bytes);
    while let Some(item) = cursor.next().ok()? {
        converted.add(&item)?;
    }
    converted.end_setting()?;
    let mut bytes = converted.bytes;
    let total = u16::try_from(bytes.len()).ok()?.to_le_bytes();
    put(&mut bytes, 2, &total)?;
    if converted.is_super_speed {
        // From units of 8 mA to units of 2 mA, at most 250 of them (USB 2.0, section 9.6.3).
        let power = head.byte(8).ok()?.saturating_mul(4).min(250);
        put(&mut bytes, 8, &[power])?;
    }
    Some(bytes)
}

/// The part of the configuration that has been converted.
struct Converted {
    bytes: Vec<u8>,
    /// Whether a companion was found: only configurations of SuperSpeed devices have them.
    is_super_speed: bool,
    setting: Option<Setting>,
}

/// The setting that is being converted.
struct Setting {
    /// Its offset in the converted bytes.
    start: usize,
    alternate: u8,
    streams: bool,
    endpoint: Option<Endpoint>,
}

/// The last endpoint that was converted.
#[derive(Clone, Copy)]
struct Endpoint {
    /// Its offset in the converted bytes.
    start: usize,
    transfer: TransferType,
    max_packet: u16,
    has_companion: bool,
}

impl Converted {
    fn new(head: &[u8]) -> Converted {
        Converted { bytes: head.to_vec(), is_super_speed: false, setting: None }
    }

    /// Adds the next descriptor. `None` if it is out of place, or high speed does not support it.
    fn add(&mut self, item: &Item<'_>) -> Option<()> {
        match item.kind {
            DEVICE | CONFIGURATION => return None,
            COMPANION => return self.companion(item),
            ISOCHRONOUS_COMPANION => return self.setting.as_ref()?.endpoint.map(drop),
            ASSOCIATION => self.end_setting()?,
            INTERFACE => self.begin_setting(item)?,
            ENDPOINT => return self.endpoint(item),
            _ => {}
        }
        self.bytes.extend_from_slice(item.bytes);
        Some(())
    }

    fn begin_setting(&mut self, item: &Item<'_>) -> Option<()> {
        self.end_setting()?;
        let alternate = item.byte(3).ok()?;
        let start = self.bytes.len();
        self.setting = Some(Setting { start, alternate, streams: false, endpoint: None });
        Some(())
    }

    /// Ends the current setting, and drops it if it uses streams. `None` if it cannot be dropped.
    fn end_setting(&mut self) -> Option<()> {
        match self.setting.take() {
            Some(Setting { streams: true, alternate: 0, .. }) => None,
            Some(Setting { streams: true, start, .. }) => {
                self.bytes.truncate(start);
                Some(())
            }
            _ => Some(()),
        }
    }

    fn endpoint(&mut self, item: &Item<'_>) -> Option<()> {
        let transfer = TransferType::from_attributes(item.byte(3).ok()?);
        let max_packet = item.word(4).ok()?;
        let start = self.bytes.len();
        let endpoint = Endpoint { start, transfer, max_packet, has_companion: false };
        self.setting.as_mut()?.endpoint = Some(endpoint);
        self.bytes.extend_from_slice(item.bytes);
        let converted = match transfer {
            TransferType::Control => reduced(max_packet, 512, 64)?,
            TransferType::Bulk => reduced(max_packet, 1024, 512)?,
            // Valid only if it is already a high-speed value. A companion, if there is one,
            // overrides it.
            TransferType::Interrupt | TransferType::Isochronous => {
                let packets = (max_packet >> 11) + 1;
                high_bandwidth(max_packet & 0x7ff, packets.into())?
            }
        };
        put(&mut self.bytes, start + 4, &converted.to_le_bytes())
    }

    /// Applies the companion of the last endpoint: bursts and streams.
    fn companion(&mut self, item: &Item<'_>) -> Option<()> {
        let burst = u32::from(item.byte(2).ok()?) + 1;
        let attributes = item.byte(3).ok()?;
        let setting = self.setting.as_mut()?;
        let endpoint = setting.endpoint.as_mut().filter(|it| !it.has_companion)?;
        endpoint.has_companion = true;
        self.is_super_speed = true;
        let packets = match endpoint.transfer {
            TransferType::Control => return Some(()),
            TransferType::Bulk => {
                setting.streams |= attributes & 0x1f != 0;
                return Some(());
            }
            TransferType::Interrupt => burst,
            // Bit 7: the packet count is in a SuperSpeedPlus companion, and exceeds what high speed
            // supports.
            TransferType::Isochronous if attributes & 0x80 != 0 => return None,
            TransferType::Isochronous => burst * (u32::from(attributes & 3) + 1),
        };
        let converted = high_bandwidth(endpoint.max_packet, packets)?;
        let at = endpoint.start + 4;
        put(&mut self.bytes, at, &converted.to_le_bytes())
    }
}

/// `high_speed`, if `max_packet` is valid at one of the two speeds.
fn reduced(max_packet: u16, super_speed: u16, high_speed: u16) -> Option<u16> {
    [super_speed, high_speed].contains(&max_packet).then_some(high_speed)
}

/// wMaxPacketSize at high speed of an endpoint with this number of packets of this size per
/// interval; `None` if high speed does not allow it (USB 2.0, table 9-14).
fn high_bandwidth(size: u16, packets: u32) -> Option<u16> {
    let (min_size, additional) = match packets {
        1 => (0, 0),
        2 => (513, 1),
        3 => (683, 2),
        _ => return None,
    };
    (min_size..=1024).contains(&size).then_some(size | additional << 11)
}

/// Overwrites the bytes at `at`.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + new.len())?.copy_from_slice(new);
    Some(())
}
