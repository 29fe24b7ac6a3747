//! A SuperSpeed device, described as the high-speed device that a guest with a USB 2 controller is to believe in.
//!
//! | descriptor | field | SuperSpeed | high speed |
//! |---|---|---|---|
//! | device | bcdUSB | 0x0210 and above | 0x0200, so that nobody asks for a BOS descriptor |
//! | device | bMaxPacketSize0 | 9 (2 to the power of 9) | 64 |
//! | configuration | wTotalLength | | what is left |
//! | configuration | bMaxPower | in 8 mA, to 900 mA | in 2 mA, to 500 mA |
//! | endpoint, bulk | wMaxPacketSize | 1024 | 512 |
//! | endpoint, control | wMaxPacketSize | 512 | 64 |
//! | endpoint, interrupt or isochronous | wMaxPacketSize | 1024, bursts in the companion | the burst in bits 11 and 12 |
//! | companions | | types 0x30 and 0x31 | none |
//!
//! Sources: USB 2.0 specification, sections 5.5.3, 5.6.3, 5.7.3, 5.8.3 and 9.6; USB 3.2 specification, sections 9.6.1 to 9.6.8. An interval
//! is 2 to the power of bInterval - 1, in units of 125 µs, at both speeds.
//!
//! A setting whose endpoints use bulk streams (a USB attached SCSI disk has one) is left out: at high speed there are none, and the
//! device would not understand a guest that goes without. It must not be setting 0 of its interface, which is always there.
//!
//! # What stays SuperSpeed
//!
//! The wire. The device still sends packets of up to 1024 bytes where the guest believes in 512, and only a packet that is shorter than
//! 1024 ends its transfer. This is what it means for whoever carries the guest's transfers:
//!
//! * **IN, the guest asks for a multiple of 1024**: nothing to do. What ends short for the guest ends short on the wire.
//! * **IN, the guest asks for anything else** (512, or 36 for an INQUIRY): the last packet on the wire may be longer than what is left of
//!   the guest's buffer. If the device has more to send than was asked for, the controller reports an overflow (babble; Linux's EOVERFLOW)
//!   and the data is lost, where a high-speed device would have stopped after a packet of 512 and kept the rest for the next transfer. So ask
//!   the device for the length rounded up to a multiple of 1024, and hand the guest as much as it asked for. If more came, keep the rest and
//!   begin the endpoint's next transfer with it; drop it when the endpoint is halted or cleared, the interface set, or the device
//!   reset.
//! * **IN, an answer of an odd multiple of 512 bytes** ends in a packet that is short on the wire (512 of 1024) and full for the guest. A
//!   guest that asked for more waits for the empty packet that a high-speed device would send next. Its transfer ends now, as short, which is
//!   what that empty packet would have told it; there is nothing to do, unless the guest asked for exactly that much and then asks for the
//!   empty packet: that one the device will not send.
//! * **OUT**: the device takes a packet of fewer than 1024 bytes as the end. A guest that sends one transfer in pieces of odd multiples
//!   of 512 bytes, which at high speed is one transfer, ends it early. Join such pieces, or keep to devices whose protocol says how long
//!   each transfer is (mass storage does, and its drivers send each transfer in one piece or in pieces of 4096 bytes).
//! * **OUT, an empty packet at the end**: a guest adds one to a transfer that is a multiple of 512. On an odd multiple the device has seen
//!   the end already, and takes the empty packet for an empty transfer: leave it out there.

use super::{COMPANION, CONFIGURATION, DEVICE, ENDPOINT, INTERFACE, Item, Transfer, Walk};

/// What a SuperSpeed device says of itself, as a high-speed device would say it: a whole device descriptor, or a whole configuration with
/// all that belongs to it (`wTotalLength` bytes), as GET_DESCRIPTOR gives them. `None` if it is neither, contradicts itself, or
/// has something that high speed cannot carry (see the [module](self)). A BOS descriptor is neither: refuse it to the guest.
///
/// The answer to a guest that asks for fewer bytes is the beginning of this one: cut it afterwards, and never before. What is described
/// as high speed already comes back as it is.
///
/// ```
/// use vusb_host::descriptors::as_high_speed;
///
/// let device = [18, 1, 0x20, 3, 0, 0, 0, 9, 0x81, 7, 0x81, 0x55, 0, 1, 1, 2, 3, 1];
/// let shown = [18, 1, 0x00, 2, 0, 0, 0, 64, 0x81, 7, 0x81, 0x55, 0, 1, 1, 2, 3, 1];
/// assert_eq!(as_high_speed(&device), Some(shown.to_vec()));
/// ```
pub fn as_high_speed(raw: &[u8]) -> Option<Vec<u8>> {
    let mut walk = Walk { rest: raw, offset: 0 };
    let head = walk.next().ok()??;
    match head.kind {
        DEVICE if raw.len() == 18 && head.bytes.len() == 18 => device(&head),
        CONFIGURATION => configuration(&head, walk, raw.len()),
        _ => None,
    }
}

/// The largest bcdUSB without a BOS descriptor: USB 2.0.
const USB_2: u16 = 0x0200;

/// An interface association, which stands before the interfaces that it is about (USB 3.2, section 9.6.4).
const ASSOCIATION: u8 = 0x0b;

/// The companion of a fast isochronous endpoint (USB 3.2, section 9.6.8).
const ISOCHRONOUS_COMPANION: u8 = 0x31;

fn device(item: &Item<'_>) -> Option<Vec<u8>> {
    let version = item.word(2).ok()?.min(USB_2).to_le_bytes();
    let packet = match item.byte(7).ok()? {
        9 | 64 => 64,
        _ => return None,
    };
    let mut shown = item.bytes.to_vec();
    put(&mut shown, 2, &version)?;
    put(&mut shown, 7, &[packet])?;
    Some(shown)
}

fn configuration(head: &Item<'_>, mut walk: Walk<'_>, length: usize) -> Option<Vec<u8>> {
    if usize::from(head.word(2).ok()?) != length || head.bytes.len() < 9 {
        return None;
    }
    let mut shown = Shown::new(head.bytes);
    while let Some(item) = walk.next().ok()? {
        shown.take(&item)?;
    }
    shown.end_setting()?;
    let mut bytes = shown.bytes;
    let total = u16::try_from(bytes.len()).ok()?.to_le_bytes();
    put(&mut bytes, 2, &total)?;
    if shown.is_super {
        // From units of 8 mA to units of 2 mA, of which there are at most 250 (USB 2.0, section 9.6.3).
        let power = head.byte(8).ok()?.saturating_mul(4).min(250);
        put(&mut bytes, 8, &[power])?;
    }
    Some(bytes)
}

/// The configuration so far, as it is shown.
struct Shown {
    bytes: Vec<u8>,
    /// Whether there was a companion, and with it a SuperSpeed endpoint.
    is_super: bool,
    setting: Option<Setting>,
}

/// The setting that is being read.
struct Setting {
    /// Where it begins.
    from: usize,
    alternate: u8,
    streams: bool,
    endpoint: Option<Endpoint>,
}

/// The endpoint that was read last.
#[derive(Clone, Copy)]
struct Endpoint {
    /// Where it begins.
    from: usize,
    transfer: Transfer,
    max_packet: u16,
    has_companion: bool,
}

impl Shown {
    fn new(head: &[u8]) -> Shown {
        Shown { bytes: head.to_vec(), is_super: false, setting: None }
    }

    /// The next descriptor. `None` if it stands where it cannot, or high speed cannot carry it.
    fn take(&mut self, item: &Item<'_>) -> Option<()> {
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
        let from = self.bytes.len();
        self.setting = Some(Setting { from, alternate, streams: false, endpoint: None });
        Some(())
    }

    /// Leaves the setting out that ends here, if it cannot be shown. `None` if it must be.
    fn end_setting(&mut self) -> Option<()> {
        match self.setting.take() {
            Some(Setting { streams: true, alternate: 0, .. }) => None,
            Some(Setting { streams: true, from, .. }) => {
                self.bytes.truncate(from);
                Some(())
            }
            _ => Some(()),
        }
    }

    fn endpoint(&mut self, item: &Item<'_>) -> Option<()> {
        let transfer = Transfer::of(item.byte(3).ok()?);
        let max_packet = item.word(4).ok()?;
        let from = self.bytes.len();
        let endpoint = Endpoint { from, transfer, max_packet, has_companion: false };
        self.setting.as_mut()?.endpoint = Some(endpoint);
        self.bytes.extend_from_slice(item.bytes);
        let shown = match transfer {
            Transfer::Control => smaller(max_packet, 512, 64)?,
            Transfer::Bulk => smaller(max_packet, 1024, 512)?,
            // As high speed has it: a companion may correct it.
            Transfer::Interrupt | Transfer::Isochronous => {
                let packets = (max_packet >> 11) + 1;
                high_bandwidth(max_packet & 0x7ff, packets.into())?
            }
        };
        put(&mut self.bytes, from + 4, &shown.to_le_bytes())
    }

    /// What goes with the endpoint before it: bursts and streams.
    fn companion(&mut self, item: &Item<'_>) -> Option<()> {
        let burst = u32::from(item.byte(2).ok()?) + 1;
        let attributes = item.byte(3).ok()?;
        let setting = self.setting.as_mut()?;
        let endpoint = setting.endpoint.as_mut().filter(|it| !it.has_companion)?;
        endpoint.has_companion = true;
        self.is_super = true;
        let packets = match endpoint.transfer {
            Transfer::Control => return Some(()),
            Transfer::Bulk => {
                setting.streams |= attributes & 0x1f != 0;
                return Some(());
            }
            Transfer::Interrupt => burst,
            // Bit 7: the number is in another companion, and larger than high speed could carry.
            Transfer::Isochronous if attributes & 0x80 != 0 => return None,
            Transfer::Isochronous => burst * (u32::from(attributes & 3) + 1),
        };
        let shown = high_bandwidth(endpoint.max_packet, packets)?;
        let at = endpoint.from + 4;
        put(&mut self.bytes, at, &shown.to_le_bytes())
    }
}

/// The packet of high speed, for an endpoint that has that of either speed.
fn smaller(max_packet: u16, super_speed: u16, high_speed: u16) -> Option<u16> {
    [super_speed, high_speed].contains(&max_packet).then_some(high_speed)
}

/// wMaxPacketSize at high speed for so many packets of this size in one interval; `None` if there is none (USB 2.0, table 9-14).
fn high_bandwidth(size: u16, packets: u32) -> Option<u16> {
    let (least, more) = match packets {
        1 => (0, 0),
        2 => (513, 1),
        3 => (683, 2),
        _ => return None,
    };
    (least..=1024).contains(&size).then_some(size | more << 11)
}

/// Writes `new` over the bytes at `at`.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + new.len())?.copy_from_slice(new);
    Some(())
}
