//! What becomes of a control request.
//!
//! Some of the requests of the standard change what the kernel of this machine must know of (the configuration, alternate settings, halts):
//! it does these itself, on another thread, for they wait for the device. The address is the guest's own affair: the device keeps the
//! one that this machine has given it. Descriptors are answered from what the kernel read when the device was plugged in, with what a
//! guest of PVUSB cannot use left out, so that a device cannot change what it is while a guest looks.

use vusb_usbif::urb::{Direction, Setup, StandardRequest, Status};

use super::offer::Offer;

/// `TYPE_DEVICE`, `CONFIGURATION`, `BOS` and `SUPERSPEED_USB` descriptors (USB 3.2, table 9-6).
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
/// What a device that is shown slower than it runs must not tell: `DEVICE_QUALIFIER`, `OTHER_SPEED_CONFIGURATION`, `BOS`.
const SPEEDS: [u8; 3] = [6, 7, 15];
/// `SET_FEATURE` (USB 2.0, table 9-4) and the selector `TEST_MODE` (table 9-6), which takes a device off the bus until it is unplugged.
const SET_FEATURE: u8 = 3;
const TEST_MODE: u16 = 2;
/// `SET_ADDRESS`, `SET_CONFIGURATION`, `SET_INTERFACE` (USB 2.0, table 9-4).
const OURS: [u8; 3] = [5, 9, 11];
/// Bits 5 and 6 of `bmRequestType`: 0 is the standard's own.
const TYPE: u8 = 3 << 5;
/// The highest address (USB 2.0, section 9.4.6).
const LAST_ADDRESS: u16 = 127;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// Answer it: nothing reaches the device.
    Answer(Status, &'a [u8]),
    /// The guest has given the device an address: 1 to 127, or 0 to take it back.
    Address(u8),
    /// Choose a configuration; 0 for none.
    Configure(u8),
    /// Choose an alternate setting of an interface.
    SetInterface(u8, u8),
    /// End the halt of an endpoint.
    ClearHalt(u8),
    /// The device is to answer.
    Forward,
}

/// What to do with a request to the device at an address: 0 while the guest has given it none.
pub(super) fn verdict<'a>(setup: &Setup, address: u8, offer: &'a Offer) -> Verdict<'a> {
    match setup.standard() {
        Some(StandardRequest::GetDescriptor { kind, index, .. }) => {
            descriptor(kind, index, setup.length, offer)
        }
        Some(StandardRequest::SetAddress { address }) if address <= LAST_ADDRESS => {
            Verdict::Address(u8::try_from(address).unwrap_or(0))
        }
        Some(StandardRequest::SetAddress { .. }) => refuse(),
        // USB 2.0, section 9.4: in the default state only the two above are defined.
        _ if address == 0 => Verdict::Answer(Status::Invalid, &[]),
        Some(StandardRequest::SetConfiguration { value }) => byte(value, Verdict::Configure),
        Some(StandardRequest::SetInterface { interface, alternate }) => {
            match (u8::try_from(interface), u8::try_from(alternate)) {
                (Ok(interface), Ok(alternate)) => Verdict::SetInterface(interface, alternate),
                _ => refuse(),
            }
        }
        // Endpoint 0 ends its halt by itself.
        Some(StandardRequest::ClearHalt { endpoint }) if endpoint & 0x7f == 0 => {
            Verdict::Answer(Status::Ok, &[])
        }
        Some(StandardRequest::ClearHalt { endpoint }) => byte(endpoint, Verdict::ClearHalt),
        None if is_disguised(setup) => refuse(),
        None => Verdict::Forward,
    }
}

/// Whether no device knows the request, and one that looks at its number alone would take another address or configuration than this machine has for
/// it, or leave the bus.
fn is_disguised(setup: &Setup) -> bool {
    let test = (setup.request, setup.value) == (SET_FEATURE, TEST_MODE);
    setup.request_type & TYPE == 0 && (test || OURS.contains(&setup.request))
}

fn byte<'a>(number: u16, verdict: impl Fn(u8) -> Verdict<'a>) -> Verdict<'a> {
    u8::try_from(number).map_or_else(|_| refuse(), verdict)
}

/// As a device refuses.
const fn refuse<'a>() -> Verdict<'a> {
    Verdict::Answer(Status::Stall, &[])
}

fn descriptor(kind: u8, index: u8, length: u16, offer: &Offer) -> Verdict<'_> {
    let known = match kind {
        DEVICE if index == 0 => Some(offer.device()),
        CONFIGURATION => offer.configuration(index),
        _ if SPEEDS.contains(&kind) && offer.is_slowed() => None,
        _ => return Verdict::Forward,
    };
    known.map_or_else(refuse, |bytes| {
        Verdict::Answer(Status::Ok, bytes.get(..usize::from(length)).unwrap_or(bytes))
    })
}

/// Whether a request's data goes to the device.
pub(super) fn sends(setup: &Setup) -> bool {
    setup.direction() == Direction::Out && setup.length > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_must_know_of_reaches_no_device_in_disguise() {
        let to = |request_type, request, value| {
            is_disguised(&Setup { request_type, request, value, index: 0, length: 0 })
        };
        for recipient in 1..=31 {
            assert!(to(recipient, 5, 9) && to(0x80 | recipient, 5, 9), "{recipient}");
            assert!(to(recipient, 9, 1) && to(recipient, 3, 2), "{recipient}");
            // Of a class, such as HID's SET_REPORT, or of a vendor.
            assert!(!to(0x20 | recipient, 9, 1) && !to(0x40 | recipient, 5, 9), "{recipient}");
        }
        assert!(to(0, 3, 2) && !to(0, 3, 1), "TEST_MODE, and not DEVICE_REMOTE_WAKEUP");
    }
}
