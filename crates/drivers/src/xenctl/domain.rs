//! Finds a domain by name or id, and what kind of guest it is.

use vusb_model::list::few;
use vusb_xen::DomId;
use vusb_xen::usb;

use super::printable::printable;
use super::xenstore::Xenstore;
use crate::driver::Error;

/// The longest domain name that an error repeats.
const MAX_SHOWN: usize = 80;

/// What kind of guest a domain is, as libxl records it in `/libxl/ID/type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuestKind {
    /// Fully paravirtual: no device model, so no emulated controllers.
    Pv,
    /// Paravirtual devices with hardware virtualization: no device model either.
    Pvh,
    /// A complete emulated machine, with a QEMU as its device model.
    Hvm,
}

impl GuestKind {
    /// The usual spelling, for messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            GuestKind::Pv => "PV",
            GuestKind::Pvh => "PVH",
            GuestKind::Hvm => "HVM",
        }
    }

    /// libxl's word for it.
    fn parse(text: &str) -> Option<GuestKind> {
        Some(match text {
            "pv" => GuestKind::Pv,
            "pvh" => GuestKind::Pvh,
            "hvm" => GuestKind::Hvm,
            _ => return None,
        })
    }
}

/// A running guest.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) id: DomId,
    pub(super) kind: GuestKind,
}

/// The domain id in a text. Like xl, takes any number for an id rather than a name.
pub(super) fn parse_id(text: &str) -> Option<DomId> {
    text.parse().ok()
}

/// The domain's name; `None` if it has none.
pub(super) fn name(store: &mut Xenstore, id: DomId) -> Result<Option<String>, Error> {
    let name = store.read(&usb::domain_name(id))?;
    Ok(name.filter(|name| !name.is_empty()))
}

/// The domain's UUID; `None` if it has none.
pub(super) fn uuid(store: &mut Xenstore, id: DomId) -> Result<Option<String>, Error> {
    let vm = store.read(&usb::domain_vm(id))?;
    Ok(vm.and_then(|path| path.strip_prefix("/vm/").map(str::to_owned)))
}

/// The domain in messages: `domain usbvm (id 3)`.
pub(super) fn display_name(store: &mut Xenstore, id: DomId) -> Result<String, Error> {
    Ok(match name(store, id)? {
        Some(name) => format!("domain {} (id {id})", printable(&name)),
        None => format!("domain {id}"),
    })
}

/// The kind of guest that a domain is; `None` if libxl does not know the domain.
pub(super) fn kind(store: &mut Xenstore, id: DomId) -> Result<Option<GuestKind>, Error> {
    Ok(store.read(&usb::domain_type(id))?.as_deref().and_then(GuestKind::parse))
}

/// The ids of all domains, in ascending order.
pub(super) fn ids(store: &mut Xenstore) -> Result<Vec<DomId>, Error> {
    let mut ids: Vec<DomId> =
        store.list(usb::DOMAINS)?.iter().filter_map(|it| it.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Every domain with its name, by id.
fn all(store: &mut Xenstore) -> Result<Vec<(DomId, Option<String>)>, Error> {
    ids(store)?.into_iter().map(|id| Ok((id, name(store, id)?))).collect()
}

/// The id of the domain with this name or id.
///
/// # Errors
/// [`Error::Missing`], with the guests that run.
pub(super) fn find_id(store: &mut Xenstore, name_or_id: &str) -> Result<DomId, Error> {
    let all = all(store)?;
    let found = match parse_id(name_or_id) {
        Some(id) => all.iter().find(|(it, _)| *it == id),
        // While a guest reboots, the old and the new domain may both have the name: the newer one
        // is the guest.
        None => all.iter().rev().find(|(_, name)| name.as_deref() == Some(name_or_id)),
    };
    found.map(|(id, _)| *id).ok_or_else(|| {
        let guests = all.iter().filter(|(id, _)| *id != DomId::ZERO).map(|(id, name)| match name {
            Some(name) => format!("{} (id {id})", printable(name)),
            None => id.to_string(),
        });
        let guests: Vec<String> = guests.collect();
        let why = if guests.is_empty() {
            "no guest is running; start it, and check `xl list`".to_owned()
        } else {
            format!("the running guests are {}", few(&guests))
        };
        let shown: String = name_or_id.chars().take(MAX_SHOWN).collect();
        Error::Missing { what: format!("the domain {}", shown.escape_debug()), why: why.into() }
    })
}

/// The guest with this name or id, and its kind.
///
/// # Errors
/// [`Error::Missing`] if there is none, [`Error::NotImplemented`] if it is not a libxl guest.
pub(super) fn find(store: &mut Xenstore, name_or_id: &str) -> Result<Domain, Error> {
    let id = find_id(store, name_or_id)?;
    let kind = store.read(&usb::domain_type(id))?;
    match kind.as_deref().and_then(GuestKind::parse) {
        Some(kind) => Ok(Domain { id, kind }),
        None => Err(not_a_guest(name_or_id, id, kind.as_deref())),
    }
}

fn not_a_guest(name_or_id: &str, id: DomId, kind: Option<&str>) -> Error {
    let what = format!("USB for the domain {name_or_id} (id {id})");
    let why = match (id == DomId::ZERO, kind) {
        (true, _) => "domain 0 is this machine and already has its USB devices".to_owned(),
        (_, Some(kind)) => {
            format!(
                "its type in libxl is `{}`, but only pv, pvh and hvm are supported",
                kind.escape_debug()
            )
        }
        (_, None) => "libxl does not know it, or it is being destroyed; check `xl list`".to_owned(),
    };
    Error::NotImplemented { what, by: "Xen".to_owned(), why: why.into() }
}
