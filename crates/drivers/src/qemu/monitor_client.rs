//! The program that is connected to a monitor. QEMU serves one client per socket, and the others
//! wait.
//!
//! ```text
//!  sock_diag(7): every connected Unix socket ──▶ the one that QEMU accepted on this path
//!                                                  └─ the inode of its peer ──▶ /proc/PID/fd ──▶ Process
//! ```
//!
//! A connection that QEMU has not accepted yet has no inode. So a QEMU that is stopped can be told
//! from one that serves another program.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{major, minor};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use vusb_host::Process;

/// The timeout for each part of the list. The kernel normally sends it at once.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest part of the list in bytes: `NLMSG_GOODSIZE` is at most 8 KiB, and dumps use up to
/// 32 KiB (Linux, `net/netlink/af_netlink.c`).
const MAX_PART: usize = 32 << 10;

// Linux, include/uapi/linux/netlink.h, sock_diag.h and unix_diag.h.
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_UNIX: u8 = 1;
/// `1 << TCP_ESTABLISHED`.
const ESTABLISHED: u32 = 1 << 1;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_VFS: u32 = 2;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_VFS: u16 = 1;
const UNIX_DIAG_PEER: u16 = 2;
/// `sizeof(struct nlmsghdr)`, and also `sizeof(struct unix_diag_msg)`. A message of the list begins
/// with these two.
const HEADER: usize = 16;

/// Who is connected to a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MonitorClient {
    /// No program is connected.
    NoProgram,
    /// A program; `None` if this process may not see which one.
    Program(Option<Process>),
}

/// Who is connected to the socket at `path`.
///
/// # Errors
/// The socket does not exist, or the kernel does not list its clients.
pub(super) fn connected_to(path: &Path) -> io::Result<MonitorClient> {
    let file = std::fs::metadata(path)?;
    let wanted = MonitorSocket {
        path: path.as_os_str().as_encoded_bytes(),
        // The kernel's own form: 12 bits of major number before 20 bits of minor number.
        device: (major(file.dev()) << 20) | minor(file.dev()),
        // The kernel only reports the lower half of an inode's number.
        inode: (file.ino() & u64::from(u32::MAX)) as u32,
    };
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&netlink, Timeout::Recv, Some(RECEIVE_TIMEOUT))?;
    send(&netlink, &request(), SendFlags::empty())?;
    let mut buffer = vec![0; MAX_PART];
    loop {
        let (length, _) = recv(&netlink, buffer.as_mut_slice(), RecvFlags::empty())?;
        match search(buffer.get(..length).unwrap_or_default(), &wanted)? {
            Part::Found(peer) => {
                return Ok(MonitorClient::Program(Process::with_socket(Path::new("/"), peer)));
            }
            Part::More => {}
            Part::End => return Ok(MonitorClient::NoProgram),
        }
    }
}

/// What identifies the monitor's socket in the list.
struct MonitorSocket<'a> {
    path: &'a [u8],
    device: u32,
    inode: u32,
}

/// The request for all connected Unix sockets.
fn request() -> Vec<u8> {
    let mut body = vec![AF_UNIX, 0, 0, 0];
    let show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER;
    // States, no particular inode, what to show, no particular cookie.
    for word in [ESTABLISHED, 0, show, 0, 0] {
        body.extend(word.to_ne_bytes());
    }
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number and port.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The result of searching a part of the list.
enum Part {
    /// The inode of the peer.
    Found(u32),
    /// The socket is not in this part, and another one follows.
    More,
    /// The socket is not in this part, which is the last one.
    End,
}

/// Looks for the accepted socket in a part of the list.
fn search(mut bytes: &[u8], wanted: &MonitorSocket<'_>) -> io::Result<Part> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let message = bytes.get(HEADER..length).unwrap_or_default();
        match kind {
            NLMSG_DONE => return Ok(Part::End),
            NLMSG_ERROR => return Err(io::ErrorKind::Unsupported.into()),
            SOCK_DIAG_BY_FAMILY => {
                if let Some(peer) = accepted_peer(message, wanted) {
                    return Ok(Part::Found(peer));
                }
            }
            _ => {}
        }
        bytes = bytes.get(aligned(length.max(HEADER))..).unwrap_or_default();
    }
    Ok(Part::More)
}

/// The inode of the peer, if the message is about an accepted socket of this path.
fn accepted_peer(message: &[u8], wanted: &MonitorSocket<'_>) -> Option<u32> {
    let is_accepted = u32_at(message, 4)? != 0;
    let (mut is_wanted, mut peer) = (false, None);
    let mut attributes = message.get(HEADER..)?;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length).max(4);
        let value = attributes.get(4..length)?;
        match kind {
            UNIX_DIAG_NAME => is_wanted |= value.strip_suffix(&[0]).unwrap_or(value) == wanted.path,
            UNIX_DIAG_VFS => {
                is_wanted |= u32_at(value, 0) == Some(wanted.inode)
                    && u32_at(value, 4) == Some(wanted.device);
            }
            UNIX_DIAG_PEER => peer = u32_at(value, 0).filter(|inode| *inode != 0),
            _ => {}
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
    peer.filter(|_| is_wanted && is_accepted)
}

/// A length rounded up to four bytes, as netlink pads its messages and attributes.
const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn the_program_that_is_served_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(connected_to(&path).unwrap(), MonitorClient::NoProgram);
        let _waiting = UnixStream::connect(&path).unwrap();
        assert_eq!(connected_to(&path).unwrap(), MonitorClient::NoProgram, "not accepted yet");
        let _served = listener.accept().unwrap();
        let MonitorClient::Program(Some(process)) = connected_to(&path).unwrap() else {
            panic!("this process is connected");
        };
        assert_eq!(process.pid, std::process::id());
    }

    #[test]
    fn a_truncated_list_is_not_misread() {
        let wanted = MonitorSocket { path: b"/a", device: 1, inode: 2 };
        let mut message = [0; 64];
        message[0] = 64;
        message[4] = SOCK_DIAG_BY_FAMILY.to_ne_bytes()[0];
        message[5] = SOCK_DIAG_BY_FAMILY.to_ne_bytes()[1];
        for length in 0..message.len() {
            assert!(matches!(search(&message[..length], &wanted), Ok(Part::More)));
        }
    }
}
