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
/// has something that high speed cannot carry (see the [module](self)).
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
    let _ = (COMPANION, CONFIGURATION, DEVICE, ENDPOINT, INTERFACE);
    let _: Option<(Item<'_>, Transfer, Walk<'_>)> = None;
    let _ = raw;
    None
}
