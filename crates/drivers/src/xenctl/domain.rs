//! Which domain is meant, and what sort of guest it is.

use vusb_xen::DomId;

use super::paths;
use super::tree::Tree;
use crate::driver::Error;

/// What sort of guest a domain is, as libxl has it in `/libxl/ID/type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Paravirtual throughout: no device model, so no emulated controllers.
    Pv,
    /// Paravirtual devices in hardware virtualization: no device model either.
    Pvh,
    /// A whole machine, with a QEMU for a device model.
    Hvm,
}

impl Guest {
    /// As people write it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Guest::Pv => "PV",
            Guest::Pvh => "PVH",
            Guest::Hvm => "HVM",
        }
    }
}

/// A domain that is there.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) id: DomId,
    pub(super) guest: Guest,
}

/// The number that a text means, if it is one: xl takes digits for a number too.
pub(super) fn number(text: &str) -> Option<DomId> {
    text.parse().ok()
}

/// The domain's name; `None` if it has none.
pub(super) fn name(tree: &mut Tree, id: DomId) -> Result<Option<String>, Error> {
    let name = tree.read(&format!("{}/name", paths::domain(id)))?;
    Ok(name.filter(|name| !name.is_empty()))
}

/// Every domain with its name, by number.
fn all(tree: &mut Tree) -> Result<Vec<(DomId, Option<String>)>, Error> {
    let mut ids: Vec<DomId> =
        tree.list("/local/domain")?.iter().filter_map(|it| it.parse().ok()).collect();
    ids.sort_unstable();
    ids.into_iter().map(|id| Ok((id, name(tree, id)?))).collect()
}

/// The number of the domain that `asked` names.
///
/// # Errors
/// [`Error::Missing`], with those that there are.
pub(super) fn find_id(tree: &mut Tree, asked: &str) -> Result<DomId, Error> {
    let all = all(tree)?;
    let found = match number(asked) {
        Some(id) => all.iter().find(|(it, _)| *it == id),
        // While a guest reboots, both may have the name: the newer one is meant.
        None => all.iter().rev().find(|(_, name)| name.as_deref() == Some(asked)),
    };
    found.map(|(id, _)| *id).ok_or_else(|| {
        let known = all.iter().filter(|(id, _)| *id != DomId::ZERO).map(|(id, name)| match name {
            Some(name) => format!("{name} (id {id})"),
            None => id.to_string(),
        });
        let known: Vec<String> = known.collect();
        let why = if known.is_empty() {
            "no guest runs; start it, and see `xl list`".to_owned()
        } else {
            format!("the guests that run are {}", known.join(", "))
        };
        let shown: String = asked.chars().take(80).collect();
        Error::Missing { what: format!("the domain {}", shown.escape_debug()), why }
    })
}

/// The guest that `asked` names, and its sort.
///
/// # Errors
/// [`Error::Missing`] if there is none, [`Error::NotImplemented`] if it is no guest of libxl's.
pub(super) fn find(tree: &mut Tree, asked: &str) -> Result<Domain, Error> {
    let id = find_id(tree, asked)?;
    let kind = tree.read(&format!("/libxl/{id}/type"))?;
    let guest = match kind.as_deref() {
        Some("pv") => Guest::Pv,
        Some("pvh") => Guest::Pvh,
        Some("hvm") => Guest::Hvm,
        _ => return Err(no_guest(asked, id, kind.as_deref())),
    };
    Ok(Domain { id, guest })
}

fn no_guest(asked: &str, id: DomId, kind: Option<&str>) -> Error {
    let what = format!("USB for the domain {asked} (id {id})");
    let why = match (id == DomId::ZERO, kind) {
        (true, _) => "domain 0 is this machine, and has its USB devices already".to_owned(),
        (_, Some(kind)) => {
            format!(
                "libxl says that it is of type `{}`, and pv, pvh and hvm are known",
                kind.escape_debug()
            )
        }
        (_, None) => "libxl does not know it, or it is being destroyed; see `xl list`".to_owned(),
    };
    Error::NotImplemented { what, by: "Xen".to_owned(), why }
}
