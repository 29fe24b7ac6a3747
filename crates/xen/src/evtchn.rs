//! Event channels: how domains notify each other.
//!
//! ```text
//!   armed ──the other side notifies──▶ fired: returned once by `pending`, then masked
//!     ▲                                  │
//!     └───────────── unmask ─────────────┘
//! ```
//!
//! Work that arrives between `pending` and [`Events::unmask`] does not fire the port again: unmask
//! before looking for work, or look once more after unmasking. Closing the descriptor unbinds all
//! its ports.

mod calls;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};

use crate::abi::evtchn as abi;
use crate::device::open_device;
use crate::{DeviceError, DomId};

/// The local port of an event channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(u32);

impl Port {
    /// The port's number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many ports one read returns. Further ports are read by the next one.
const PORTS_PER_READ: usize = 64;

/// Ports that fired, at most 64. Each is masked until [`Events::unmask`].
#[derive(Debug, Clone)]
pub struct Fired {
    ports: [u32; PORTS_PER_READ],
    range: std::ops::Range<usize>,
}

impl Iterator for Fired {
    type Item = Port;

    fn next(&mut self) -> Option<Port> {
        let at = self.range.next()?;
        self.ports.get(at).copied().map(Port)
    }
}

/// `/dev/xen/evtchn`. Readable while ports have fired. Threads may share it.
#[derive(Debug)]
pub struct Events {
    fd: OwnedFd,
}

impl Events {
    /// Opens the device.
    ///
    /// # Errors
    /// It does not exist, or this process is not permitted to open it.
    pub fn open() -> Result<Self, DeviceError> {
        open_device("/dev/xen/evtchn", "xen-evtchn").map(|fd| Self { fd })
    }

    /// Uses a descriptor that another process opened. It is set to non-blocking.
    ///
    /// # Errors
    /// It cannot be set to non-blocking.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, DeviceError> {
        fcntl_getfl(&fd)
            .and_then(|flags| fcntl_setfl(&fd, flags | OFlags::NONBLOCK))
            .map_err(DeviceError::refused("setting /dev/xen/evtchn to non-blocking"))?;
        Ok(Self { fd })
    }

    /// Binds a port that another domain has created for this one. It fires once immediately.
    ///
    /// # Errors
    /// The domain has no such port, or created it for another domain.
    pub fn bind_interdomain(&self, domain: DomId, port: u32) -> Result<Port, DeviceError> {
        let what = "binding to another domain's event channel";
        let bind = abi::BindInterdomain { remote_domain: domain.get().into(), remote_port: port };
        let bound = calls::bind_interdomain(self.fd.as_fd(), bind);
        bound.map_err(DeviceError::refused(what)).and_then(|port| local(port, what))
    }

    /// Creates a port that `domain` may bind.
    ///
    /// # Errors
    /// All ports are in use.
    pub fn bind_unbound(&self, domain: DomId) -> Result<Port, DeviceError> {
        let what = "creating an event channel";
        let bind = abi::BindUnbound { remote_domain: domain.get().into() };
        let bound = calls::bind_unbound(self.fd.as_fd(), bind);
        bound.map_err(DeviceError::refused(what)).and_then(|port| local(port, what))
    }

    /// Unbinds a port. It no longer fires, but [`Events::pending`] may still return an earlier
    /// event.
    ///
    /// # Errors
    /// It was not bound here.
    pub fn unbind(&self, port: Port) -> Result<(), DeviceError> {
        calls::unbind(self.fd.as_fd(), port.0)
            .map_err(DeviceError::refused("unbinding an event channel"))
    }

    /// Notifies the other side. Succeeds if that side is gone.
    ///
    /// # Errors
    /// The port was not bound here.
    pub fn notify(&self, port: Port) -> Result<(), DeviceError> {
        calls::notify(self.fd.as_fd(), port.0)
            .map_err(DeviceError::refused("notifying another domain"))
    }

    /// The ports that fired since they were last unmasked. Never waits.
    ///
    /// # Errors
    /// [`DeviceError::Overflowed`]: some were lost; look for work on all ports, and unmask all of
    /// them.
    pub fn pending(&self) -> Result<Fired, DeviceError> {
        let mut bytes = [0; PORTS_PER_READ * 4];
        let count = loop {
            match read(&self.fd, &mut bytes) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                // The kernel's buffer overflowed; it reports that until it is reset.
                Err(Errno::FBIG) => {
                    calls::reset(self.fd.as_fd()).map_err(DeviceError::refused(
                        "resetting the buffer of event channels that fired",
                    ))?;
                    return Err(DeviceError::Overflowed);
                }
                Err(other) => {
                    return Err(DeviceError::refused("reading which event channels fired")(other));
                }
            }
        };
        let mut ports = [0; PORTS_PER_READ];
        let numbers = bytes.chunks_exact(4).filter_map(|number| number.first_chunk());
        for (port, number) in ports.iter_mut().zip(numbers) {
            *port = u32::from_ne_bytes(*number);
        }
        Ok(Fired { ports, range: 0..count / 4 })
    }

    /// Re-arms a port that fired.
    ///
    /// # Errors
    /// The kernel is out of memory.
    pub fn unmask(&self, port: Port) -> Result<(), DeviceError> {
        loop {
            match write(&self.fd, &port.0.to_ne_bytes()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(other) => {
                    return Err(DeviceError::refused("unmasking an event channel")(other));
                }
            }
        }
    }

    /// Restricts this descriptor to event channels of one domain. This is permanent.
    ///
    /// # Errors
    /// The descriptor is already restricted.
    pub fn restrict(&self, domain: DomId) -> Result<(), DeviceError> {
        calls::restrict(self.fd.as_fd(), domain.get())
            .map_err(DeviceError::refused("restricting event channels to one domain"))
    }
}

impl From<Events> for OwnedFd {
    fn from(events: Events) -> OwnedFd {
        events.fd
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn local(port: i32, what: &'static str) -> Result<Port, DeviceError> {
    u32::try_from(port).map(Port).map_err(|_| DeviceError::ImpossibleResult { what })
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn the_kernels_port_numbers_are_decoded() {
        let (reader, writer) = pipe().unwrap();
        let events = Events::from_fd(reader).unwrap();
        assert_eq!(events.pending().unwrap().count(), 0, "it does not wait");
        for port in [3_u32, 70_000] {
            write(&writer, &port.to_ne_bytes()).unwrap();
        }
        assert_eq!(events.pending().unwrap().map(Port::get).collect::<Vec<_>>(), [3, 70_000]);
    }
}
