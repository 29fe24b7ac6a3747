//! From a domain's address to the driver that works on it.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use vusb_drivers::configfile::{ConfigFile, Known};
use vusb_drivers::qemu::Qemu;
use vusb_drivers::sim::Sim;
use vusb_drivers::xenctl::{self, Reach, Xen};
use vusb_drivers::{Driver, Error as DriverError};
use vusb_host::select;

use crate::domain::DomainId;
use crate::error::Error;
use crate::record::Record;
use crate::vusb::Vusb;

/// The driver of a domain. `limit` is for each thing that is waited for.
pub(crate) fn driver(
    vusb: &Vusb,
    domain: &DomainId,
    limit: Duration,
) -> Result<Box<dyn Driver>, DriverError> {
    match domain {
        DomainId::Sim(file) => Ok(Box::new(Sim::open(file)?)),
        DomainId::Qemu(socket) => Ok(Box::new(Qemu::at(socket, limit))),
        DomainId::Xen(name) => {
            Ok(Box::new(Xen::at(name, &reach(vusb), limit, vusb.settings.force)))
        }
        DomainId::File(file, format) => Ok(Box::new(ConfigFile::at(file, *format, known(vusb)))),
    }
}

/// What is known of the host devices that a file names. One that is not plugged in, or that several match, is not known. The host is
/// looked at when the first of them is asked for.
fn known(vusb: &Vusb) -> Known {
    let (host, devices) = (vusb.host.clone(), OnceCell::new());
    Box::new(move |selector| {
        let devices = devices.get_or_init(|| host.devices().unwrap_or_default());
        let device = select(devices, selector).ok()?;
        Some(device.reference(selector.clone()))
    })
}

/// Where Xen is reached.
pub(crate) fn reach(vusb: &Vusb) -> Reach {
    Reach {
        xenstored: vusb.settings.xenstored.clone(),
        qmp: vusb.settings.xen_qmp.clone(),
        host: vusb.host.clone(),
    }
}

/// The address that a domain is recorded under: a guest of Xen that was named by its number by its name, which it keeps when it is
/// restarted.
pub(crate) fn canonical(vusb: &Vusb, domain: DomainId) -> Result<DomainId, Error> {
    match domain {
        DomainId::Xen(id) if xenctl::is_number(&id) => {
            let name = reach(vusb).name_of(&id, vusb.settings.timeout)?;
            Ok(DomainId::Xen(name.unwrap_or(id)))
        }
        other => Ok(other),
    }
}

/// Whether `error`, which an attempt to talk to the domain ended with, comes of nobody being there. A hypervisor that is silent
/// is there: it may be stopped, or talking to somebody else, and its guest has what it has.
pub(crate) fn is_gone(domain: &DomainId, error: &DriverError) -> bool {
    let unreachable = matches!(error, DriverError::Unreachable { .. });
    // xenstore says which guests there are; where it cannot be asked, nobody knows.
    if let DomainId::Xen(_) = domain {
        return matches!(error, DriverError::Missing { .. });
    }
    unreachable
        && match domain {
            DomainId::Qemu(socket) => nobody_listens(socket),
            DomainId::Sim(_) => true,
            DomainId::Xen(_) | DomainId::File(..) => false,
        }
}

/// Whether there is no socket, or one whose program has ended. What cannot be found out is taken to be alive.
fn nobody_listens(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let (Ok(socket), Ok(address)) = (socket, SocketAddrUnix::new(path)) else { return false };
    matches!(connect(&socket, &address), Err(Errno::NOENT | Errno::CONNREFUSED))
}

/// The address that a record is of.
pub(crate) fn address(record: &Record) -> Option<DomainId> {
    DomainId::parse(&record.domain, Path::new("/")).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn who_is_silent_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.qmp");
        let unreachable = || DriverError::Unreachable {
            domain: String::new(),
            why: String::new(),
            midway: false,
        };
        let gone = |error: DriverError| is_gone(&DomainId::Qemu(path.clone()), &error);
        assert!(gone(unreachable()), "no socket");
        let silent = UnixListener::bind(&path).unwrap();
        assert!(!gone(unreachable()), "somebody listens");
        drop(silent);
        assert!(gone(unreachable()), "the socket was left behind");
        let (what, limit, why) = (String::new(), Duration::ZERO, String::new());
        assert!(!gone(DriverError::TimedOut { what, limit, why }));
    }
}
