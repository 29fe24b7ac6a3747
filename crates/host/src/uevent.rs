//! What is plugged in and out, as the kernel tells it.
//!
//! No udev is needed. To miss nothing, look, listen, and look again:
//!
//! ```no_run
//! use vusb_host::Host;
//! use vusb_host::uevent::{Event, Uevents};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut uevents = Uevents::listen()?;      // from here on nothing is missed
//! let mut devices = Host::system().devices()?; // what was there before
//! // ... whenever epoll says EPOLLIN:
//! while let Some(event) = uevents.next()? {
//!     match event {
//!         Event::Device { action, bus_id } => println!("{bus_id}: {action:?}"),
//!         Event::Rescan => devices = Host::system().devices()?, // some were lost: look again
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An event says only that it is time to look: by the time it is read, the device can be gone again, or another be in its place. The
//! kernel sends `add` before the node below `/dev/bus/usb` is there on a machine where a program makes the nodes, and before it has its
//! permissions where udev gives them: whoever opens a device because of an event tries again for a moment if that fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use thiserror::Error;
use vusb_model::selector::BusId;

/// The multicast group of the kernel's own messages (2 is udev's).
const KERNEL: u32 = 1;

/// The longest message in bytes. The kernel's have a path and up to 2048 bytes of environment (`UEVENT_BUFFER_SIZE` in
/// `<linux/kobject.h>`); what is longer is treated as lost.
const LONGEST: usize = 8192;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something became of a USB device. Root hubs and interfaces are none.
    Device {
        /// What became of it.
        action: Action,
        /// Which it is.
        bus_id: BusId,
    },
    /// Messages were lost: read the list of devices anew.
    Rescan,
}

/// What became of a device. Source: Linux, `lib/kobject_uevent.c`, `kobject_actions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is there.
    Add,
    /// It is gone.
    Remove,
    /// Something about it has changed.
    Change,
    /// It has another name.
    Move,
    /// It can be used again.
    Online,
    /// It cannot be used for now.
    Offline,
    /// A driver has it.
    Bind,
    /// No driver has it any more.
    Unbind,
}

impl Action {
    fn named(name: &[u8]) -> Option<Action> {
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

/// The kernel's messages about devices.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
    message: Box<[u8; LONGEST]>,
}

/// Why there are no messages.
#[derive(Debug, Error)]
pub enum UeventError {
    /// The socket could not be made.
    #[error(
        "the kernel's messages about devices cannot be had: {0}; run where AF_NETLINK is allowed and the network is the machine's own"
    )]
    Listen(io::Error),
    /// The socket cannot be read.
    #[error("the kernel's messages about devices cannot be read: {0}; listen anew")]
    Read(io::Error),
}

impl Uevents {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn listen() -> Result<Uevents, UeventError> {
        let listen = || {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let netlink = AddressFamily::NETLINK;
            let socket = socket_with(netlink, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
            bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
            Ok(socket)
        };
        let socket = listen().map_err(|it: Errno| UeventError::Listen(it.into()))?;
        Ok(Uevents { socket, message: Box::new([0; LONGEST]) })
    }

    /// The next event; `None` if there is none yet. What is about other things than USB devices is passed over.
    ///
    /// # Errors
    /// If the socket cannot be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "an end for now is not the end of an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, UeventError> {
        loop {
            match recvfrom(&self.socket, self.message.as_mut_slice(), RecvFlags::TRUNC) {
                Ok((_, length, sender)) => {
                    let sender = sender.and_then(|it| SocketAddrNetlink::try_from(it).ok());
                    // Any program may send to this group if it is privileged; the kernel alone is number 0.
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
                // The queue was full and the kernel has thrown messages away.
                Err(Errno::NOBUFS) => return Ok(Some(Event::Rescan)),
                Err(errno) => return Err(UeventError::Read(errno.into())),
            }
        }
    }
}

impl AsFd for Uevents {
    /// For epoll: EPOLLIN if there is something to read, EPOLLERR if something was lost.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a message of the kernel says of a USB device; `None` if it is about something else, or is none.
///
/// A message is `ACTION@DEVPATH`, then `KEY=VALUE`, each with a zero at its end (Linux, `lib/kobject_uevent.c`).
pub fn parse(message: &[u8]) -> Option<Event> {
    let mut lines = message.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let head = lines.next()?;
    let at = head.iter().position(|byte| *byte == b'@')?;
    let (name, path) = (head.get(..at)?, head.get(at + 1..)?);
    let mut fields = Fields::default();
    for line in lines {
        fields.take(line)?;
    }
    let agrees = fields.action == Some(name) && fields.path == Some(path);
    let is_device = fields.subsystem == Some(b"usb") && fields.kind == Some(b"usb_device");
    if !agrees || !is_device || !path.starts_with(b"/devices/") {
        return None;
    }
    let last = path.rsplit(|byte| *byte == b'/').next()?;
    let bus_id = std::str::from_utf8(last).ok()?.parse().ok()?;
    Some(Event::Device { action: Action::named(name)?, bus_id })
}

/// What matters of a message.
#[derive(Default)]
struct Fields<'a> {
    action: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    subsystem: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Notes one `KEY=VALUE`. `None` if it is none, or says again what was said before.
    fn take(&mut self, line: &'a [u8]) -> Option<()> {
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
