//! Event channels: how domains wake each other.
//!
//! ```text
//!   armed ──the other side notifies──▶ fired: told once by `pending`, silent from then on
//!     ▲                                  │
//!     └───────────── unmask ─────────────┘
//! ```
//!
//! Work that comes between `pending` and [`Events::unmask`] is not told again: unmask first and look for work then, or look
//! once more after unmasking. Closing the descriptor unbinds all its ports.

mod calls;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};

use crate::abi::evtchn as abi;
use crate::device::open_device;
use crate::{DeviceError, DomId};

/// Number of an event channel's end in this domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(u32);

impl Port {
    /// Its number.
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

/// How many ports are read at once. What more there are is read the next time.
const AT_ONCE: usize = 64;

/// Ports that fired, at most 64. Each is silent until it is unmasked.
#[derive(Debug, Clone)]
pub struct Fired {
    ports: [u32; AT_ONCE],
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
    /// It is not there, or this process may not.
    pub fn open() -> Result<Self, DeviceError> {
        open_device("/dev/xen/evtchn", "xen-evtchn").map(|fd| Self { fd })
    }

    /// From a descriptor that another process opened. It is set to non-blocking.
    ///
    /// # Errors
    /// It cannot be set so.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, DeviceError> {
        fcntl_getfl(&fd)
            .and_then(|flags| fcntl_setfl(&fd, flags | OFlags::NONBLOCK))
            .map_err(DeviceError::refused("setting /dev/xen/evtchn to non-blocking"))?;
        Ok(Self { fd })
    }

    /// Binds a port that another domain has made for us. It fires once at the beginning.
    ///
    /// # Errors
    /// The domain has no such port, or made it for another.
    pub fn bind_interdomain(&self, domain: DomId, port: u32) -> Result<Port, DeviceError> {
        let what = "binding to another domain's event channel";
        let bind = abi::BindInterdomain { remote_domain: domain.get().into(), remote_port: port };
        let bound = calls::bind_interdomain(self.fd.as_fd(), bind);
        bound.map_err(DeviceError::refused(what)).and_then(|port| local(port, what))
    }

    /// Makes a port that this domain may bind.
    ///
    /// # Errors
    /// There are no more ports.
    pub fn bind_unbound(&self, domain: DomId) -> Result<Port, DeviceError> {
        let what = "making an event channel";
        let bind = abi::BindUnbound { remote_domain: domain.get().into() };
        let bound = calls::bind_unbound(self.fd.as_fd(), bind);
        bound.map_err(DeviceError::refused(what)).and_then(|port| local(port, what))
    }

    /// Lets a port go. It fires no more, but what fired already can still be told.
    ///
    /// # Errors
    /// It was not bound here.
    pub fn unbind(&self, port: Port) -> Result<(), DeviceError> {
        calls::unbind(self.fd.as_fd(), port.0)
            .map_err(DeviceError::refused("unbinding an event channel"))
    }

    /// Wakes the other side. It is fine if that is gone.
    ///
    /// # Errors
    /// The port was not bound here.
    pub fn notify(&self, port: Port) -> Result<(), DeviceError> {
        calls::notify(self.fd.as_fd(), port.0)
            .map_err(DeviceError::refused("notifying another domain"))
    }

    /// Ports that fired since they were last unmasked. Never waits.
    ///
    /// # Errors
    /// [`DeviceError::Overflowed`]: some were lost; look for work at all of them, and unmask them all.
    pub fn pending(&self) -> Result<Fired, DeviceError> {
        let mut bytes = [0; AT_ONCE * 4];
        let count = loop {
            match read(&self.fd, &mut bytes) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                // The kernel's buffer was full; it says so until it is told to begin anew.
                Err(Errno::FBIG) => {
                    calls::reset(self.fd.as_fd())
                        .map_err(DeviceError::refused("forgetting what event channels fired"))?;
                    return Err(DeviceError::Overflowed);
                }
                Err(other) => {
                    return Err(DeviceError::refused("reading which event channels fired")(other));
                }
            }
        };
        let mut ports = [0; AT_ONCE];
        for (port, number) in ports.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *port = u32::from_ne_bytes(*number);
        }
        Ok(Fired { ports, range: 0..count / 4 })
    }

    /// Lets a port that fired fire again.
    ///
    /// # Errors
    /// The kernel has no memory.
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

    /// From now on this descriptor can only bind to one domain. That cannot be undone, nor done twice.
    ///
    /// # Errors
    /// It was done already.
    pub fn restrict(&self, domain: DomId) -> Result<(), DeviceError> {
        calls::restrict(self.fd.as_fd(), domain.get())
            .map_err(DeviceError::refused("restricting event channels to one domain"))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn local(port: i32, what: &'static str) -> Result<Port, DeviceError> {
    u32::try_from(port).map(Port).map_err(|_| DeviceError::Nonsense { what })
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn ports_are_read_as_they_were_written() {
        let (reader, writer) = pipe().unwrap();
        let events = Events::from_fd(reader).unwrap();
        assert_eq!(events.pending().unwrap().count(), 0, "and does not wait");
        for port in [3_u32, 70_000] {
            write(&writer, &port.to_ne_bytes()).unwrap();
        }
        assert_eq!(events.pending().unwrap().map(Port::get).collect::<Vec<_>>(), [3, 70_000]);
    }
}
