//! How this machine's Xen is reached, and what can be asked of it without a guest.

use std::path::PathBuf;
use std::time::Duration;

use vusb_host::Host;
use vusb_xen::DomId;

use super::xenstore::Xenstore;
use super::{backend, domain};
use crate::driver::Error;
use crate::scheme::BackendDevice;

/// How Xen is reached.
#[derive(Clone, Debug)]
pub struct XenAccess {
    /// The socket of xenstored; `None` is its standard path.
    pub xenstored: Option<PathBuf>,
    /// The folder of the device models' QMP sockets.
    pub qmp: PathBuf,
    /// The machine whose USB devices domain 0 has.
    pub host: Host,
}

impl XenAccess {
    /// Where libxl's device models listen (`libxl__run_dir_path` of `libxl_qmp.c`). The folder is
    /// chosen when Xen is built; all distributions use this one.
    pub const QMP: &'static str = "/var/run/xen";

    /// This machine's Xen.
    pub fn system(host: Host) -> XenAccess {
        XenAccess { xenstored: None, qmp: XenAccess::QMP.into(), host }
    }

    pub(super) fn open(&self, limit: Duration) -> Result<Xenstore, Error> {
        Xenstore::open(self.xenstored.as_deref(), limit)
    }

    /// The QMP socket that libxl creates for a guest's device model (`libxl_dm.c`).
    pub(super) fn qmp_socket(&self, guest: DomId) -> PathBuf {
        self.qmp.join(format!("qmp-libxl-{guest}"))
    }

    /// The name of the domain with this id; `None` if it has no name.
    ///
    /// # Errors
    /// There is no such domain, or xenstore cannot be reached.
    pub fn name_of(&self, id: &str, limit: Duration) -> Result<Option<String>, Error> {
        let mut store = self.open(limit)?;
        let id = domain::find_id(&mut store, id)?;
        domain::name(&mut store, id)
    }

    /// The backend domain with this name or id, as it is recorded: by its name, which outlives a
    /// restart, or by its id if it has no name. `None` is domain 0.
    ///
    /// # Errors
    /// As [`XenAccess::name_of`].
    pub fn backend(&self, name_or_id: &str, limit: Duration) -> Result<Option<String>, Error> {
        recorded_backend(&mut self.open(limit)?, name_or_id)
    }

    /// Whether a vusb-backend answers in domain 0. `None` if no xenstored runs.
    ///
    /// # Errors
    /// xenstored runs but cannot be used.
    pub fn pv_served(&self, limit: Duration) -> Result<Option<bool>, Error> {
        let store = Xenstore::open_if_running(self.xenstored.as_deref(), limit)?;
        store.map(|mut store| backend::is_running(&mut store, DomId::ZERO, limit)).transpose()
    }

    /// The devices that the vusb-backend of a domain exports.
    ///
    /// # Errors
    /// There is no such domain, or no vusb-backend answers there.
    pub fn backend_devices(
        &self,
        backend: &str,
        limit: Duration,
    ) -> Result<Vec<BackendDevice>, Error> {
        let mut store = self.open(limit)?;
        let id = domain::find_id(&mut store, backend)?;
        backend::devices(&mut store, id, limit)
    }
}

/// See [`XenAccess::backend`]. Domain 0 may have no name.
pub(super) fn recorded_backend(
    store: &mut Xenstore,
    name_or_id: &str,
) -> Result<Option<String>, Error> {
    if domain::parse_id(name_or_id) == Some(DomId::ZERO) {
        return Ok(None);
    }
    let id = domain::find_id(store, name_or_id)?;
    if id == DomId::ZERO {
        return Ok(None);
    }
    Ok(Some(domain::name(store, id)?.unwrap_or_else(|| id.to_string())))
}

/// Whether a text is a domain's id rather than its name.
pub fn is_domain_id(text: &str) -> bool {
    domain::parse_id(text).is_some()
}
