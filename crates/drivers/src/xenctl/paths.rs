//! Where things are in xenstore. The only place that writes its paths (Xen's `docs/misc/xenstore-paths.pandoc`, and
//! `docs/xenstore.md` of this repository for what is vusb's own).

use vusb_xen::DomId;

/// libxl's name for the kind of a controller that a guest sees.
const FRONTEND_KIND: &str = "vusb";

/// A domain's own folder.
pub(super) fn domain(id: DomId) -> String {
    format!("/local/domain/{id}")
}

/// libxl's folder for the controllers of a guest: neither the guest nor a backend can write there.
pub(super) fn controllers(guest: DomId) -> String {
    format!("/libxl/{guest}/device/{FRONTEND_KIND}")
}

/// libxl's copy of one controller.
pub(super) fn copy(guest: DomId, devid: u16) -> String {
    format!("{}/{devid}", controllers(guest))
}

/// The guest's folder of a controller.
pub(super) fn frontend(guest: DomId, devid: u16) -> String {
    format!("{}/device/{FRONTEND_KIND}/{devid}", domain(guest))
}

/// The backend's folder of a controller; `kind` is `vusb` or `qusb`.
pub(super) fn backend(backend: DomId, kind: &str, guest: DomId, devid: u16) -> String {
    format!("{}/backend/{kind}/{guest}/{devid}", domain(backend))
}

/// Where a vusb-backend says that it is there: in the one folder that every domain may write to (`libxl_create.c`).
pub(super) fn presence(backend: DomId) -> String {
    format!("{}/data/vusb-backend", domain(backend))
}

/// The domain in the path of a backend's folder, and its kind.
pub(super) fn parse_backend(path: &str) -> Option<(DomId, &str)> {
    let mut parts = path.strip_prefix("/local/domain/")?.split('/');
    let domain = parts.next()?.parse().ok()?;
    (parts.next()? == "backend").then_some(())?;
    Some((domain, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_read_from_its_path() {
        let (guest, usbvm) = (DomId::new(5).unwrap(), DomId::new(3).unwrap());
        let path = backend(usbvm, "vusb", guest, 0);
        assert_eq!(path, "/local/domain/3/backend/vusb/5/0");
        assert_eq!(parse_backend(&path), Some((usbvm, "vusb")));
        for path in ["", "/local/domain/x/backend/vusb/5/0", "/local/domain/3/device/vusb/0"] {
            assert_eq!(parse_backend(path), None, "{path}");
        }
    }
}
