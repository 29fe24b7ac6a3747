//! Where the built-in drivers find their hypervisors.

use std::path::PathBuf;

use vusb_host::Host;

/// Where the built-in drivers find their hypervisors.
#[derive(Clone, Debug)]
pub struct Locations {
    /// The machine whose USB devices are attached.
    pub host: Host,
    /// The socket of xenstored; `None` is its standard path.
    pub xenstored: Option<PathBuf>,
    /// The folder of the QMP sockets of Xen's device models; `None` is its standard path.
    pub xen_qmp: Option<PathBuf>,
    /// The user's runtime directory (`/run/user/UID`), for daemons that each user has; `None` if
    /// there are none.
    pub runtime: Option<PathBuf>,
}

impl From<Host> for Locations {
    /// The standard paths.
    fn from(host: Host) -> Locations {
        Locations { host, xenstored: None, xen_qmp: None, runtime: None }
    }
}
