//! Jobs: operations that may block, and therefore run on their own threads.
//!
//! The kernel locks a device while it configures or resets it, and other calls for the device wait
//! for that lock. So the engine does not touch a device while a job works on it. The guest's other
//! devices, and other guests, are not affected.

use std::fmt;

use vusb_usbif::Port;

use super::guest_view::GuestView;
use super::usb::Usb;
use vusb_xen::usb::RequestedDevice;

/// An operation to run on another thread, for one port.
pub struct Job<U: Usb> {
    /// The port.
    pub port: Port,
    /// The operation.
    pub work: Work<U>,
}

/// The operation of a job.
pub enum Work<U: Usb> {
    /// Find the device and open it.
    Open(RequestedDevice),
    /// Change from the first configuration to the second: if they differ, release the interfaces of
    /// the first and select the second; then claim the interfaces of the second. If the second is
    /// 0, only release the interfaces of the first.
    Configure(U::Handle, Configuration, Configuration),
    /// Select an alternate setting of an interface.
    SetInterface(U::Handle, u8, u8),
    /// Clear the halt of an endpoint.
    ClearHalt(U::Handle, u8),
    /// Reset the device, and claim the interfaces of this configuration again.
    Reset(U::Handle, Configuration),
    /// Return the device from the first configuration to the second, and then to the host's
    /// drivers.
    Release(U, Configuration, Configuration),
}

/// A configuration of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `bConfigurationValue`; 0 for none.
    pub value: u8,
    /// The numbers of its interfaces.
    pub interfaces: Vec<u8>,
}

/// How a job ended.
pub enum Outcome<U> {
    /// The device is open.
    Opened(Box<Opened<U>>),
    /// The device is not plugged in.
    Absent,
    /// The device cannot be exported. The reason, in one sentence.
    Refused(String),
    /// The result of an operation on an open device.
    Done(Result<(), Failure>),
    /// The device was returned to the host's drivers.
    Released,
}

/// An open device.
pub struct Opened<U> {
    /// The device.
    pub usb: U,
    /// The guest's view of it.
    pub view: GuestView,
}

/// Why an operation on a device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device refused it.
    Stalled,
    /// The device was unplugged.
    Gone,
    /// Any other error.
    Failed,
}

impl<U: Usb> fmt::Debug for Work<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Open(requested) => write!(f, "open {requested:?}"),
            Work::Configure(_, _, to) => write!(f, "configure {}", to.value),
            Work::SetInterface(_, interface, alternate) => {
                write!(f, "set interface {interface} to {alternate}")
            }
            Work::ClearHalt(_, endpoint) => write!(f, "clear halt of {endpoint:#04x}"),
            Work::Reset(..) => f.write_str("reset"),
            Work::Release(..) => f.write_str("release"),
        }
    }
}
