//! Opens files that only root may open, on behalf of an unprivileged process.
//!
//! The backend parses data from guests, so it should not run with privileges that are worth
//! stealing. It consists of two processes:
//!
//! ```text
//!   vusb-backend (root)           vusb-backend (user vusb-backend)
//!   opens four kinds of files ◀── "usb 003.014" + a socket for the reply
//!   and does nothing else     ──▶ the open file
//!                                 xenstore, rings, devices: everything that a guest can reach
//! ```
//!
//! Each request carries its own socket for the reply and is served on its own thread: opening a
//! device blocks while the kernel resets it, and that must not delay the device of another guest.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use vusb_model::selector::{BusAddress, Selector};
use vusb_xen::DomId;
use vusb_xen::evtchn::Events;

/// How long a reply may take. Opening a device that is being reset takes long (Linux waits up to 5
/// s for its lock).
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest request, in bytes.
const MAX_REQUEST: usize = 64;
/// The most requests that are served at the same time. Each has a thread and up to three
/// descriptors. A controller that connects and its 31 devices are 32 requests.
const MAX_CONCURRENT: usize = 64;

/// A file that may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The event channels to one domain: `/dev/xen/evtchn`, restricted to it.
    Events(DomId),
    /// The grant tables: `/dev/xen/gntdev`.
    Grants,
    /// xenstore: xenstored's socket, or `/dev/xen/xenbus`.
    Store,
    /// A USB device: `/dev/bus/usb/BBB/DDD`.
    Usb(BusAddress),
}

impl Item {
    fn request(self) -> String {
        match self {
            Item::Events(guest) => format!("events {guest}"),
            Item::Grants => "grants".to_owned(),
            Item::Store => "store".to_owned(),
            Item::Usb(at) => format!("usb {at}"),
        }
    }

    fn parse(text: &str) -> Option<Item> {
        match text {
            "grants" => Some(Item::Grants),
            "store" => Some(Item::Store),
            _ => match text.split_once(' ')? {
                ("events", guest) => guest.parse().ok().map(Item::Events),
                ("usb", address) => match address.parse().ok()? {
                    Selector::Address(at) => Some(Item::Usb(at)),
                    _ => None,
                },
                _ => None,
            },
        }
    }

    fn open(self, xen: &XenFiles) -> io::Result<OwnedFd> {
        let path = match self {
            Item::Events(guest) => return xen.open_events(guest),
            Item::Grants => xen.folder().join("gntdev"),
            Item::Usb(at) => PathBuf::from(format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.address)),
            Item::Store => return xen.open_store(),
        };
        open(&path)
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::CLOEXEC.bits() as i32);
    let opened = options.open(path);
    opened.map(OwnedFd::from).map_err(|error| explain(&path.display().to_string(), &error))
}

/// Where Xen's files are.
#[derive(Clone, Debug, Default)]
pub enum XenFiles {
    /// In `/dev/xen`; xenstored's socket is where [`vusb_xen::store::open`] looks for it.
    #[default]
    System,
    /// For tests: `evtchn` and `gntdev` in this folder, and xenstored's socket as `xenstored`.
    Folder(PathBuf),
}

impl XenFiles {
    fn folder(&self) -> &Path {
        match self {
            XenFiles::System => Path::new("/dev/xen"),
            XenFiles::Folder(folder) => folder,
        }
    }

    /// Opens the event channels to one domain: on this descriptor, the kernel refuses channels to
    /// any other.
    fn open_events(&self, guest: DomId) -> io::Result<OwnedFd> {
        let file = open(&self.folder().join("evtchn"))?;
        // The stand-in of a test is an empty file.
        let XenFiles::System = self else { return Ok(file) };
        let events = Events::from_fd(file).map_err(io::Error::other)?;
        events.restrict(guest).map_err(io::Error::other)?;
        Ok(events.into())
    }

    fn open_store(&self) -> io::Result<OwnedFd> {
        match self {
            XenFiles::System => vusb_xen::store::open().map_err(io::Error::other),
            XenFiles::Folder(folder) => Ok(UnixStream::connect(folder.join("xenstored"))?.into()),
        }
    }
}

fn explain(path: &str, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if path.starts_with("/dev/xen") => {
            "; check that this is a Xen domain and that the modules xen-evtchn and xen-gntdev are \
             loaded"
        }
        io::ErrorKind::PermissionDenied => {
            "; run vusb-backend as root (with --user it drops root privileges itself)"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot open {path}: {error}{remedy}"))
}

/// How files are opened.
#[derive(Clone, Debug)]
pub enum Opener {
    /// By this process, with its own privileges.
    Direct(XenFiles),
    /// By the process at the other end of this socket.
    Remote(Arc<OwnedFd>),
}

impl Opener {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The file does not exist or may not be opened, or the other process has ended, serves too
    /// many requests, or does not reply within 15 s.
    pub fn open(&self, item: Item) -> io::Result<OwnedFd> {
        match self {
            Opener::Direct(xen) => item.open(xen),
            Opener::Remote(socket) => open_remotely(socket.as_fd(), item),
        }
    }
}

fn open_remotely(socket: BorrowedFd<'_>, item: Item) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(REPLY_TIMEOUT))?;
    send(socket, item.request().as_bytes(), Some(theirs.as_fd()))?;
    drop(theirs);
    let mut text = [0; 512];
    let (length, file) = receive(ours.as_fd(), &mut text)?;
    file.ok_or_else(|| {
        let error = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
        io::Error::other(if error.is_empty() {
            "the privileged process that opens files has ended".to_owned()
        } else {
            error
        })
    })
}

/// Creates the two ends of the connection for [`serve`] and [`Opener::Remote`].
///
/// # Errors
/// Too many files are open.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Opens the files that the other end requests, until the other end is closed.
pub fn serve(socket: &OwnedFd, xen: &XenFiles) {
    let running = Arc::new(());
    loop {
        let mut text = [0; MAX_REQUEST];
        let Ok((length, reply)) = receive(socket.as_fd(), &mut text) else { return };
        if length == 0 {
            return;
        }
        let request =
            text.get(..length).and_then(|it| std::str::from_utf8(it).ok()).and_then(Item::parse);
        let Some(reply) = reply else { continue };
        let Some(item) = request else {
            let _ = send(reply.as_fd(), b"refused: not a file that may be opened", None);
            continue;
        };
        if Arc::strong_count(&running) > MAX_CONCURRENT {
            let _ = send(reply.as_fd(), b"too many files are being opened; retry", None);
            continue;
        }
        let (xen, running) = (xen.clone(), Arc::clone(&running));
        let open_and_reply = move || {
            let _running = running;
            // The requester may have given up by now; ignore the error.
            let _ = match item.open(&xen) {
                Ok(file) => send(reply.as_fd(), b"ok", Some(file.as_fd())),
                Err(error) => send(reply.as_fd(), error.to_string().as_bytes(), None),
            };
        };
        let _ = std::thread::Builder::new()
            .name("opener".to_owned())
            .stack_size(64 << 10)
            .spawn(open_and_reply);
    }
}

fn send(socket: BorrowedFd<'_>, text: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|it| [it]);
    if let Some(files) = &files {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, text: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok((received.bytes, file))
}

/// Looks up a user in `/etc/passwd`: its user id and its primary group id.
///
/// # Errors
/// There is no such user, or the file cannot be read.
pub fn user(name: &str) -> io::Result<(u32, u32)> {
    let mut text = String::new();
    File::open("/etc/passwd")?.take(1 << 20).read_to_string(&mut text)?;
    find_user(&text, name).ok_or_else(|| {
        let why = format!(
            "there is no user `{name}`; create it with `useradd --system --no-create-home {name}`"
        );
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}

fn find_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_four_kinds_of_files_can_be_requested() {
        for item in [
            Item::Events(DomId::new(7).unwrap()),
            Item::Grants,
            Item::Store,
            Item::Usb(BusAddress { bus: 3, address: 14 }),
        ] {
            assert_eq!(Item::parse(&item.request()), Some(item));
        }
        for text in [
            "",
            "usb",
            "usb ../../etc/shadow",
            "usb 3",
            "/dev/mem",
            "events",
            "events ",
            "events 70000",
            "events 1 2",
        ] {
            assert_eq!(Item::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_reaches_the_requester() {
        let (ours, theirs) = channel().unwrap();
        let server = std::thread::spawn(move || serve(&theirs, &XenFiles::System));
        let opener = Opener::Remote(Arc::new(ours));
        let error = opener.open(Item::Usb(BusAddress { bus: 254, address: 126 })).unwrap_err();
        assert!(error.to_string().starts_with("cannot open /dev/bus/usb/254/126: "), "{error}");
        drop(opener);
        server.join().unwrap();
    }

    /// A connection to a listener whose queue is full blocks.
    #[test]
    fn many_requests_at_once_are_refused_instead_of_starting_more_threads() {
        use rustix::net::{SocketAddrUnix, bind, listen, socket};
        let files = tempfile::tempdir().unwrap();
        let address = SocketAddrUnix::new(files.path().join("xenstored")).unwrap();
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        let _fills_the_queue = UnixStream::connect(files.path().join("xenstored")).unwrap();
        let (ours, theirs) = channel().unwrap();
        let xen = XenFiles::Folder(files.path().to_owned());
        let server = std::thread::spawn(move || serve(&theirs, &xen));
        let request = |_| {
            let (reply, end) = UnixStream::pair().unwrap();
            send(ours.as_fd(), b"store", Some(end.as_fd())).unwrap();
            reply.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
            reply
        };
        let replies: Vec<UnixStream> = (0..MAX_CONCURRENT + 8).map(request).collect();
        for reply in &replies[MAX_CONCURRENT..] {
            let mut text = [0; 512];
            let (length, _) = receive(reply.as_fd(), &mut text).unwrap();
            assert_eq!(&text[..length], b"too many files are being opened; retry");
        }
        drop(ours);
        server.join().unwrap();
    }

    #[test]
    fn a_user_is_looked_up_by_the_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nvusbx:x:1:2::/:\nvusb:x:997:996::/:\n";
        assert_eq!(find_user(passwd, "vusb"), Some((997, 996)));
        assert_eq!(find_user(passwd, "vus"), None);
    }
}
