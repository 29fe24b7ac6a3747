//! Decides how a control request is handled.
//!
//! Some standard requests change state that this machine's kernel must know about: the
//! configuration, alternate settings, halts. The kernel carries these out itself, on another
//! thread, because they wait for the device.
//!
//! Only the guest and the backend use the address that the guest chooses: the device keeps the one
//! that this machine gave it.
//!
//! Requests for the device descriptor and the configuration descriptors are answered from what the
//! kernel read when the device was plugged in, without the parts that a PVUSB guest cannot use. So
//! a device cannot change its identity while a guest enumerates it. Other descriptors, such as
//! strings, come from the device.

use vusb_usbif::urb::{Direction, Setup, StandardRequest, Status};

use super::guest_view::GuestView;

/// Descriptor types (USB 3.2, table 9-6): `DEVICE` and `CONFIGURATION`.
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
/// Descriptor types that would reveal the real speed of a downgraded device: `DEVICE_QUALIFIER`,
/// `OTHER_SPEED_CONFIGURATION`, `BOS`.
const OTHER_SPEED: [u8; 3] = [6, 7, 15];
/// `SET_FEATURE` (USB 2.0, table 9-4) and the selector `TEST_MODE` (table 9-6), which takes a
/// device off the bus until it is unplugged.
const SET_FEATURE: u8 = 3;
const TEST_MODE: u16 = 2;
/// Standard requests that are never forwarded: `SET_ADDRESS`, `SET_CONFIGURATION`, `SET_INTERFACE`
/// (USB 2.0, table 9-4).
const NEVER_FORWARDED: [u8; 3] = [5, 9, 11];
/// Bits 5 and 6 of `bmRequestType`: 0 for a standard request.
const TYPE: u8 = 3 << 5;
/// The highest address (USB 2.0, section 9.4.6).
const LAST_ADDRESS: u16 = 127;

/// How a control request is handled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// Answer it here, without the device.
    Answer(Status, &'a [u8]),
    /// Record the address that the guest gave the device: 1 to 127, or 0 for no address.
    Address(u8),
    /// Select a configuration; 0 for none.
    Configure(u8),
    /// Select an alternate setting of an interface.
    SetInterface(u8, u8),
    /// Clear the halt of an endpoint.
    ClearHalt(u8),
    /// Forward it to the device.
    Forward,
}

/// Decides how to handle a request that the guest sent to this address. The address is 0 in the
/// default state: until the guest has given the device another address, and after it has reset the
/// port.
pub(super) fn verdict<'a>(setup: &Setup, address: u8, view: &'a GuestView) -> Verdict<'a> {
    match setup.standard() {
        Some(StandardRequest::GetDescriptor { kind, index, .. }) => {
            descriptor(kind, index, setup.length, view)
        }
        Some(StandardRequest::SetAddress { address }) if address <= LAST_ADDRESS => {
            Verdict::Address(u8::try_from(address).unwrap_or(0))
        }
        Some(StandardRequest::SetAddress { .. }) => stall(),
        // In the default state, USB 2.0 (section 9.4) defines only the two requests above and
        // SET_FEATURE(TEST_MODE), which a guest may not use.
        _ if address == 0 => Verdict::Answer(Status::Invalid, &[]),
        Some(StandardRequest::SetConfiguration { value }) => for_byte(value, Verdict::Configure),
        Some(StandardRequest::SetInterface { interface, alternate }) => {
            match (u8::try_from(interface), u8::try_from(alternate)) {
                (Ok(interface), Ok(alternate)) => Verdict::SetInterface(interface, alternate),
                _ => stall(),
            }
        }
        // A halt of endpoint 0 ends with the next setup packet.
        Some(StandardRequest::ClearHalt { endpoint }) if endpoint & 0x7f == 0 => {
            Verdict::Answer(Status::Ok, &[])
        }
        Some(StandardRequest::ClearHalt { endpoint }) => for_byte(endpoint, Verdict::ClearHalt),
        None if is_unsafe_standard_request(setup) => stall(),
        None => Verdict::Forward,
    }
}

/// Whether a request that [`Setup::standard`] does not recognize must not reach the device: it
/// starts a test mode, or its `bRequest` is one of [`NEVER_FORWARDED`] although its recipient or
/// direction is not that of the standard request. A device that checks only `bRequest` could change
/// its address or configuration without this machine's knowledge, or leave the bus.
fn is_unsafe_standard_request(setup: &Setup) -> bool {
    let is_test_mode = (setup.request, setup.value) == (SET_FEATURE, TEST_MODE);
    setup.request_type & TYPE == 0 && (is_test_mode || NEVER_FORWARDED.contains(&setup.request))
}

/// The verdict for a number that must fit in a byte; a stall if it does not.
fn for_byte<'a>(number: u16, verdict: impl Fn(u8) -> Verdict<'a>) -> Verdict<'a> {
    u8::try_from(number).map_or_else(|_| stall(), verdict)
}

/// Answers with a stall, the way in which a device refuses a request.
const fn stall<'a>() -> Verdict<'a> {
    Verdict::Answer(Status::Stall, &[])
}

fn descriptor(kind: u8, index: u8, length: u16, view: &GuestView) -> Verdict<'_> {
    let known = match kind {
        DEVICE if index == 0 => Some(view.device_descriptor()),
        CONFIGURATION => view.configuration_descriptor(index),
        _ if OTHER_SPEED.contains(&kind) && view.is_downgraded() => None,
        _ => return Verdict::Forward,
    };
    known.map_or_else(stall, |bytes| {
        Verdict::Answer(Status::Ok, bytes.get(..usize::from(length)).unwrap_or(bytes))
    })
}

/// Whether a request carries data to the device.
pub(super) fn has_out_data(setup: &Setup) -> bool {
    setup.direction() == Direction::Out && setup.length > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsafe_standard_request_does_not_reach_a_device() {
        let is_unsafe = |request_type, request, value| {
            is_unsafe_standard_request(&Setup { request_type, request, value, index: 0, length: 0 })
        };
        for recipient in 1..=31 {
            assert!(is_unsafe(recipient, 5, 9), "{recipient}");
            assert!(is_unsafe(0x80 | recipient, 5, 9), "{recipient}");
            assert!(is_unsafe(recipient, 9, 1), "{recipient}");
            assert!(is_unsafe(recipient, 3, 2), "{recipient}");
            // A class request, such as HID's SET_REPORT, and a vendor request.
            assert!(!is_unsafe(0x20 | recipient, 9, 1), "{recipient}");
            assert!(!is_unsafe(0x40 | recipient, 5, 9), "{recipient}");
        }
        assert!(is_unsafe(0, 3, 2), "TEST_MODE");
        assert!(!is_unsafe(0, 3, 1), "DEVICE_REMOTE_WAKEUP");
    }
}
