//! The kernel's notifications of devices being plugged in and unplugged.
//!
//! No udev is needed. To miss nothing, listen first, then list the devices:
//!
//! ```no_run
//! use vusb_host::Host;
//! use vusb_host::uevent::{Event, Uevents};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut uevents = Uevents::listen()?;      // from here on no event is missed
//! let mut devices = Host::system().devices()?; // devices that were plugged in before
//! // ... whenever epoll reports EPOLLIN:
//! while let Some(event) = uevents.next()? {
//!     match event {
//!         Event::Device { action, bus_id } => println!("{bus_id}: {action:?}"),
//!         Event::Rescan => devices = Host::system().devices()?, // events were lost
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An event is only a hint to look at the devices again: by the time it is read, the device may be
//! gone or replaced. The node in `/dev/bus/usb` may not exist yet if a program creates the nodes,
//! and may lack its permissions if udev sets them: the kernel sends `add` earlier. So a caller that
//! opens a device in response to an event must retry for a moment.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use thiserror::Error;
use vusb_model::selector::BusId;

/// The multicast group of the kernel's own messages (2 is udev's).
const KERNEL: u32 = 1;

/// The longest message in bytes. The kernel's messages have a path and up to 2048 bytes of
/// environment (`UEVENT_BUFFER_SIZE` in `<linux/kobject.h>`). A longer message is treated as lost.
const MAX_MESSAGE: usize = 8192;

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A USB device has changed. Root hubs and interfaces are not reported.
    Device {
        /// What happened to it.
        action: Action,
        /// The device.
        bus_id: BusId,
    },
    /// Messages were lost: list the devices again.
    Rescan,
}

/// What happened to a device. Source: Linux, `lib/kobject_uevent.c`, `kobject_actions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was plugged in.
    Add,
    /// It was unplugged.
    Remove,
    /// One of its attributes has changed.
    Change,
    /// It was renamed.
    Move,
    /// It can be used again.
    Online,
    /// It cannot be used for now.
    Offline,
    /// A driver was bound to it.
    Bind,
    /// Its driver was unbound.
    Unbind,
}

impl Action {
    fn from_name(name: &[u8]) -> Option<Action> {
        Some(match name {
            b"add" => Action::Add,
            b"remove" => Action::Remove,
            b"change" => Action::Change,
            b"move" => Action::Move,
            b"online" => Action::Online,
            b"offline" => Action::Offline,
            b"bind" => Action::Bind,
            b"unbind" => Action::Unbind,
            _ => return None,
        })
    }
}

/// A subscription to the kernel's notifications.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
    message: Box<[u8; MAX_MESSAGE]>,
}

/// Why notifications are not available.
#[derive(Debug, Error)]
pub enum UeventError {
    /// The socket could not be created.
    #[error(
        "cannot subscribe to the kernel's device notifications: {0}; AF_NETLINK must be allowed, and the network namespace must be the machine's own"
    )]
    Listen(io::Error),
    /// The socket cannot be read.
    #[error("cannot read the kernel's device notifications: {0}; subscribe again")]
    Read(io::Error),
}

impl Uevents {
    /// Subscribes to notifications from now on.
    ///
    /// # Errors
    /// If the socket cannot be created.
    pub fn listen() -> Result<Uevents, UeventError> {
        let listen = || {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let netlink = AddressFamily::NETLINK;
            let socket = socket_with(netlink, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
            bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
            Ok(socket)
        };
        let socket = listen().map_err(|it: Errno| UeventError::Listen(it.into()))?;
        Ok(Uevents { socket, message: Box::new([0; MAX_MESSAGE]) })
    }

    /// The next event, or `None` if there is none yet. Does not block. Messages that are not about
    /// USB devices are skipped.
    ///
    /// # Errors
    /// If the socket cannot be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "None is not the end: an iterator would stop there"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, UeventError> {
        loop {
            match recvfrom(&self.socket, self.message.as_mut_slice(), RecvFlags::TRUNC) {
                Ok((_, length, sender)) => {
                    let sender = sender.and_then(|it| SocketAddrNetlink::try_from(it).ok());
                    // Privileged programs may send to this group too; only the kernel has the ID 0.
                    if sender.is_none_or(|it| it.pid() != 0) {
                        continue;
                    }
                    let Some(message) = self.message.get(..length) else {
                        return Ok(Some(Event::Rescan));
                    };
                    if let Some(event) = parse(message) {
                        return Ok(Some(event));
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                // The queue was full, and the kernel has dropped messages.
                Err(Errno::NOBUFS) => return Ok(Some(Event::Rescan)),
                Err(errno) => return Err(UeventError::Read(errno.into())),
            }
        }
    }
}

impl AsFd for Uevents {
    /// For epoll: EPOLLIN if there is something to read, EPOLLERR if messages were lost.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Parses a message of the kernel. `None` if it is malformed or not about a USB device.
///
/// A message is `ACTION@DEVPATH` followed by `KEY=VALUE` pairs, each terminated by a zero byte
/// (Linux, `lib/kobject_uevent.c`).
pub fn parse(message: &[u8]) -> Option<Event> {
    let mut lines = message.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let head = lines.next()?;
    let at = head.iter().position(|byte| *byte == b'@')?;
    let (name, path) = (head.get(..at)?, head.get(at + 1..)?);
    let mut fields = Fields::default();
    for line in lines {
        fields.add(line)?;
    }
    let consistent = fields.action == Some(name) && fields.path == Some(path);
    let is_device = fields.subsystem == Some(b"usb") && fields.kind == Some(b"usb_device");
    if !consistent || !is_device || !path.starts_with(b"/devices/") {
        return None;
    }
    let last = path.rsplit(|byte| *byte == b'/').next()?;
    let bus_id = std::str::from_utf8(last).ok()?.parse().ok()?;
    Some(Event::Device { action: Action::from_name(name)?, bus_id })
}

/// The fields of a message that are used here.
#[derive(Default)]
struct Fields<'a> {
    action: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    subsystem: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Adds one `KEY=VALUE`. `None` if it is malformed, or the key is repeated.
    fn add(&mut self, line: &'a [u8]) -> Option<()> {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let field = match line.get(..at)? {
            b"ACTION" => &mut self.action,
            b"DEVPATH" => &mut self.path,
            b"SUBSYSTEM" => &mut self.subsystem,
            b"DEVTYPE" => &mut self.kind,
            _ => return Some(()),
        };
        field.replace(line.get(at + 1..)?).is_none().then_some(())
    }
}
