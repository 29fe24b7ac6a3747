//! What takes time, and so is done on a thread of its own.
//!
//! The kernel holds a lock of the device while it configures or resets it, so the engine leaves a device alone while a job works on it. Other
//! devices of the guest, and other guests, go on.

use std::fmt;

use vusb_usbif::Port;

use super::offer::Offer;
use super::usb::Usb;
use crate::nodes::Want;

/// Something to be done on another thread, for one port.
pub struct Job<U: Usb> {
    /// The port.
    pub port: Port,
    /// What.
    pub work: Work<U>,
}

/// What is to be done.
pub enum Work<U: Usb> {
    /// Find the device and open it.
    Open(Want),
    /// Let go of the interfaces of one configuration and take those of another, and choose that if it is another. 0: take none.
    Configure(U::Handle, Chosen, Chosen),
    /// Choose an alternate setting of an interface.
    SetInterface(U::Handle, u8, u8),
    /// End the halt of an endpoint.
    ClearHalt(U::Handle, u8),
    /// Reset the device, and take the interfaces of this configuration again.
    Reset(U::Handle, Chosen),
    /// Let go of the device, which is in the first configuration, put it back into the second, and give it to its drivers.
    GiveBack(U, Chosen, Chosen),
}

/// A configuration of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its number; 0 for none.
    pub value: u8,
    /// Its interfaces.
    pub interfaces: Vec<u8>,
}

/// How a job ended.
pub enum Outcome<U> {
    /// The device is open.
    Opened(Box<Opened<U>>),
    /// The device is not plugged in.
    Absent,
    /// The device is not lent. Why, in one sentence.
    Refused(String),
    /// Done, or why not.
    Done(Result<(), Failure>),
    /// The device is given back.
    GaveBack,
}

/// An open device.
pub struct Opened<U> {
    /// The device.
    pub usb: U,
    /// What the guest is shown.
    pub offer: Offer,
}

/// Why a device did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It refused.
    Stalled,
    /// It is not there any more.
    Gone,
    /// Anything else.
    Failed,
}

impl<U: Usb> fmt::Debug for Work<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Open(want) => write!(f, "open {want:?}"),
            Work::Configure(_, _, to) => write!(f, "configure {}", to.value),
            Work::SetInterface(_, interface, alternate) => {
                write!(f, "set interface {interface} to {alternate}")
            }
            Work::ClearHalt(_, endpoint) => write!(f, "clear halt of {endpoint:#04x}"),
            Work::Reset(..) => f.write_str("reset"),
            Work::GiveBack(..) => f.write_str("give back"),
        }
    }
}
