//! Where the folders are (Xen's `docs/misc/xenstore-paths.pandoc`, and `docs/xenstore.md` for
//! vusb's own).

use std::fmt;

use vusb_model::selector::BusId;

use super::key::Folder;
use crate::DomId;
use crate::domain::strict_decimal;

/// libxl's name for the kind of device that a guest sees.
const FRONTEND_KIND: &str = "vusb";

/// Parent of all domains' own folders.
pub const DOMAINS: &str = "/local/domain";

/// A domain's own folder.
pub fn domain(id: DomId) -> String {
    format!("{DOMAINS}/{id}")
}

/// The node with a domain's name.
pub fn domain_name(id: DomId) -> String {
    format!("{DOMAINS}/{id}/name")
}

/// The node with the path of the domain's `/vm` folder, `/vm/UUID` (`libxl__domain_make` of
/// `libxl_create.c`).
pub fn domain_vm(id: DomId) -> String {
    format!("{DOMAINS}/{id}/vm")
}

/// The node with libxl's word for a guest's type: `pv`, `pvh` or `hvm`.
pub fn domain_type(id: DomId) -> String {
    format!("/libxl/{id}/type")
}

/// Parent of libxl's entries for the controllers of a guest. Neither the guest nor a backend can
/// write there.
pub fn libxl_controllers(guest: DomId) -> String {
    format!("/libxl/{guest}/device/{FRONTEND_KIND}")
}

/// Parent of the folders of all guests that a vusb-backend serves.
pub fn backend_root(backend: DomId) -> String {
    format!("{DOMAINS}/{backend}/backend/{}", BackendKind::Vusb.word())
}

/// Where a vusb-backend announces itself: below `data`, the only folder of a domain that every
/// other domain may write to (`libxl_create.c`).
pub fn announcement(backend: DomId) -> Folder {
    Folder::new(format!("{DOMAINS}/{backend}/data/vusb-backend"))
}

/// Parent of the folders of all devices that a vusb-backend exports.
pub fn exported_devices(backend: DomId) -> String {
    format!("{}/device", announcement(backend))
}

/// The folder of one exported device.
pub fn exported_device(backend: DomId, bus_id: &BusId) -> Folder {
    Folder::new(format!("{}/{}", exported_devices(backend), bus_id_folder(bus_id)))
}

/// A bus id as a folder's name. No path may contain a dot (Xen's `docs/misc/xenstore.txt`): an
/// underscore replaces it, as in libxl.
fn bus_id_folder(bus_id: &BusId) -> String {
    bus_id.to_string().replace('.', "_")
}

/// The bus id that a folder of an exported device is named after; `None` for any other name.
pub fn parse_bus_id_folder(name: &str) -> Option<BusId> {
    if name.contains('.') {
        return None;
    }
    name.replace('_', ".").parse().ok()
}

/// A controller of a guest, by libxl's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerId {
    /// The guest.
    pub guest: DomId,
    /// libxl's number: unique among the guest's controllers of all types.
    pub devid: u32,
}

impl fmt::Display for ControllerId {
    /// For logs: `domain 5, controller 0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}, controller {}", self.guest, self.devid)
    }
}

impl ControllerId {
    /// libxl's folder of the controller.
    pub fn libxl(self) -> Folder {
        Folder::new(format!("{}/{}", libxl_controllers(self.guest), self.devid))
    }

    /// The guest's folder of the controller.
    pub fn frontend(self) -> Folder {
        Folder::new(format!("{DOMAINS}/{}/device/{FRONTEND_KIND}/{}", self.guest, self.devid))
    }

    /// The folder of the controller in the domain that serves it.
    pub fn backend(self, backend: DomId, kind: BackendKind) -> Folder {
        Folder::new(format!(
            "{DOMAINS}/{backend}/backend/{}/{}/{}",
            kind.word(),
            self.guest,
            self.devid
        ))
    }

    /// The controller whose folder, or a node in it, has this path below [`backend_root`].
    pub fn from_backend_path(backend: DomId, path: &str) -> Option<ControllerId> {
        let rest = path.strip_prefix(&backend_root(backend))?.strip_prefix('/')?;
        let mut names = rest.split('/');
        ControllerId::from_names(names.next()?, names.next()?)
    }

    /// The controller whose folder consists of these two names.
    pub fn from_names(guest: &str, devid: &str) -> Option<ControllerId> {
        Some(ControllerId { guest: guest.parse().ok()?, devid: strict_decimal(devid)? })
    }
}

/// Who serves a paravirtual controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendKind {
    /// A vusb-backend, or Linux's `xen-usbback`.
    Vusb,
    /// A QEMU.
    Qusb,
}

impl BackendKind {
    /// The kind's folder below `backend`.
    pub const fn word(self) -> &'static str {
        match self {
            BackendKind::Vusb => "vusb",
            BackendKind::Qusb => "qusb",
        }
    }
}

/// A paravirtual controller and the domain that serves it: this determines all its folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ControllerPaths {
    /// The controller.
    pub id: ControllerId,
    /// The domain whose USB devices it carries.
    pub backend: DomId,
    /// Who serves it there.
    pub kind: BackendKind,
}

impl ControllerPaths {
    /// libxl's folder.
    pub fn libxl(&self) -> Folder {
        self.id.libxl()
    }

    /// The guest's folder.
    pub fn frontend(&self) -> Folder {
        self.id.frontend()
    }

    /// The backend's folder.
    pub fn backend(&self) -> Folder {
        self.id.backend(self.backend, self.kind)
    }

    /// Reads the `backend` node of a controller. `None` if it is not the path that libxl gives this
    /// controller: vusb must not write to any other.
    pub fn parse(id: ControllerId, backend_path: &str) -> Option<ControllerPaths> {
        let mut names = backend_path.strip_prefix(DOMAINS)?.strip_prefix('/')?.split('/');
        let backend = names.next()?.parse().ok()?;
        if names.next()? != "backend" {
            return None;
        }
        let kind = match names.next()? {
            "vusb" => BackendKind::Vusb,
            "qusb" => BackendKind::Qusb,
            _ => return None,
        };
        let paths = ControllerPaths { id, backend, kind };
        (paths.backend().as_str() == backend_path).then_some(paths)
    }
}
