//! Opening what only root may open, for a process that is not root.
//!
//! The backend parses what guests send, so it should own nothing worth stealing. It is two processes:
//!
//! ```text
//!   vusb-backend (root)           vusb-backend (user vusb)
//!   opens four sorts of files ◀── "usb 003 014" + a socket for the answer
//!   and nothing else          ──▶ the open file
//!                                 xenstore, rings, devices: everything that a guest can reach
//! ```
//!
//! Each request brings a socket of its own for the answer and is served by a thread of its own, for opening a device
//! waits while the kernel resets it, and that must not keep another guest's device waiting.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use vusb_model::selector::{BusAddress, Selector};

/// How long an answer may take: a device that is being reset opens late (Linux waits up to 5 s for its lock).
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest request, in bytes.
const REQUEST: usize = 64;

/// Something that may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The event channels: `/dev/xen/evtchn`.
    Events,
    /// The grant tables: `/dev/xen/gntdev`.
    Grants,
    /// The store: xenstored's socket, or `/dev/xen/xenbus`.
    Store,
    /// A USB device: `/dev/bus/usb/BBB/DDD`.
    Usb(BusAddress),
}

impl Item {
    fn request(self) -> String {
        match self {
            Item::Events => "events".to_owned(),
            Item::Grants => "grants".to_owned(),
            Item::Store => "store".to_owned(),
            Item::Usb(at) => format!("usb {at}"),
        }
    }

    fn parse(text: &str) -> Option<Item> {
        match text {
            "events" => Some(Item::Events),
            "grants" => Some(Item::Grants),
            "store" => Some(Item::Store),
            _ => match text.strip_prefix("usb ")?.parse().ok()? {
                Selector::Address(at) => Some(Item::Usb(at)),
                _ => None,
            },
        }
    }

    fn open(self) -> io::Result<OwnedFd> {
        let path = match self {
            Item::Events => PathBuf::from("/dev/xen/evtchn"),
            Item::Grants => PathBuf::from("/dev/xen/gntdev"),
            Item::Usb(at) => PathBuf::from(format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.address)),
            Item::Store => return vusb_xen::store::open().map_err(io::Error::other),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlags::CLOEXEC.bits().cast_signed());
        options
            .open(&path)
            .map(OwnedFd::from)
            .map_err(|error| explain(&path.display().to_string(), &error))
    }
}

fn explain(path: &str, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound if path.starts_with("/dev/xen") => {
            "; is this a Xen domain, and are the modules xen-evtchn and xen-gntdev loaded?"
        }
        io::ErrorKind::PermissionDenied => {
            "; run vusb-backend as root (with --user it gives root up by itself)"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("{path}: {error}{remedy}"))
}

/// Opens what may be opened.
#[derive(Clone, Debug)]
pub enum Opener {
    /// In this process, with this process's rights.
    Here,
    /// Through the process at the other end.
    Through(Arc<OwnedFd>),
}

impl Opener {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, may not be opened, or the other process has ended or does not answer within 15 s.
    pub fn open(&self, item: Item) -> io::Result<OwnedFd> {
        match self {
            Opener::Here => item.open(),
            Opener::Through(socket) => ask(socket.as_fd(), item),
        }
    }
}

fn ask(socket: BorrowedFd<'_>, item: Item) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    send(socket, item.request().as_bytes(), Some(theirs.as_fd()))?;
    drop(theirs);
    let mut words = [0; 512];
    let (length, file) = receive(ours.as_fd(), &mut words)?;
    file.ok_or_else(|| {
        let said = String::from_utf8_lossy(words.get(..length).unwrap_or_default()).into_owned();
        io::Error::other(if said.is_empty() {
            "the process that opens devices has ended".to_owned()
        } else {
            said
        })
    })
}

/// The two ends for [`serve`] and [`Opener::Through`].
///
/// # Errors
/// The system has no more files.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Opens what the other end asks for, until it ends.
pub fn serve(socket: &OwnedFd) {
    loop {
        let mut words = [0; REQUEST];
        let Ok((length, answer)) = receive(socket.as_fd(), &mut words) else { return };
        if length == 0 {
            return;
        }
        let request =
            words.get(..length).and_then(|it| std::str::from_utf8(it).ok()).and_then(Item::parse);
        let Some(answer) = answer else { continue };
        let Some(item) = request else {
            let _ = send(answer.as_fd(), b"this is not opened for anybody", None);
            continue;
        };
        let reply = move || {
            // The other side may have given up: then there is nobody to tell.
            let _ = match item.open() {
                Ok(file) => send(answer.as_fd(), b"ok", Some(file.as_fd())),
                Err(error) => send(answer.as_fd(), error.to_string().as_bytes(), None),
            };
        };
        let _ =
            std::thread::Builder::new().name("opener".to_owned()).stack_size(64 << 10).spawn(reply);
    }
}

fn send(socket: BorrowedFd<'_>, words: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|it| [it]);
    if let Some(files) = &files {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    sendmsg(socket, &[IoSlice::new(words)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, words: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(socket, &mut [IoSliceMut::new(words)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok((got.bytes, file))
}

/// Where `/etc/passwd` says that a user's numbers are: user and group.
///
/// # Errors
/// There is no such user, or the file cannot be read.
pub fn user(name: &str) -> io::Result<(u32, u32)> {
    let mut text = String::new();
    File::open("/etc/passwd")?.take(1 << 20).read_to_string(&mut text)?;
    find_user(&text, name).ok_or_else(|| {
        let why = format!(
            "there is no user `{name}`; make one with `useradd --system --no-create-home {name}`"
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
    fn only_four_sorts_of_files_can_be_named() {
        for item in
            [Item::Events, Item::Grants, Item::Store, Item::Usb(BusAddress { bus: 3, address: 14 })]
        {
            assert_eq!(Item::parse(&item.request()), Some(item));
        }
        for text in ["", "usb", "usb ../../etc/shadow", "usb 3", "/dev/mem", "events "] {
            assert_eq!(Item::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_opened_is_said_by_the_one_who_asked() {
        let (ours, theirs) = channel().unwrap();
        let server = std::thread::spawn(move || serve(&theirs));
        let opener = Opener::Through(Arc::new(ours));
        let error = opener.open(Item::Usb(BusAddress { bus: 254, address: 126 })).unwrap_err();
        assert!(error.to_string().starts_with("/dev/bus/usb/254/126: "), "{error}");
        drop(opener);
        server.join().unwrap();
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nvusbx:x:1:2::/:\nvusb:x:997:996::/:\n";
        assert_eq!(find_user(passwd, "vusb"), Some((997, 996)));
        assert_eq!(find_user(passwd, "vus"), None);
    }
}
