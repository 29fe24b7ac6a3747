//! The address scheme `xen:NAME`.

use std::path::Path;
use std::time::Duration;

use vusb_model::models::Model;
use vusb_xen::DomId;

use super::{
    ControllerSource, Xen, XenAccess, Xenstore, controller_source, domain, is_domain_id, support,
    watch,
};
use crate::driver::{Driver, Error};
use crate::identity::GuestIdentity;
use crate::limits::Limits;
use crate::locations::Locations;
use crate::qemu;
use crate::scheme::{
    AddressError, BackendDevice, BackendDomains, GuestOwner, GuestWatch, OpenOptions, RunningGuest,
    Scheme, WatchOptions,
};
use crate::support::{Availability, ModelFacts, Survey};

/// Xen guests, each by its name.
#[derive(Clone, Debug)]
pub struct XenScheme {
    pub(super) access: XenAccess,
}

/// The suffixes that `xl migrate` adds to a guest's name (`xl_migrate.c`): on the receiving host
/// until the guest runs there, and on the sending host afterwards. No device can be attached to
/// either domain.
const MIGRATING: [&str; 2] = ["--incoming", "--migratedaway"];

impl XenScheme {
    /// The scheme for the xenstored and the QMP sockets at these locations.
    pub fn new(locations: Locations) -> XenScheme {
        let Locations { host, xenstored, xen_qmp, .. } = locations;
        let qmp = xen_qmp.unwrap_or_else(|| XenAccess::QMP.into());
        XenScheme { access: XenAccess { xenstored, qmp, host } }
    }

    /// The operand of a domain; `None` if it is not (yet) a guest that can be addressed.
    pub(super) fn guest_operand(
        &self,
        store: &mut Xenstore,
        id: DomId,
    ) -> Result<Option<String>, Error> {
        let Some(name) = domain::name(store, id)? else { return Ok(None) };
        if domain::kind(store, id)?.is_none() || MIGRATING.iter().any(|it| name.ends_with(it)) {
            return Ok(None);
        }
        Ok(self.parse(&name, Path::new("/")).ok())
    }
}

impl Scheme for XenScheme {
    fn name(&self) -> &'static str {
        "xen"
    }

    fn title(&self) -> &'static str {
        "Xen"
    }

    fn syntax(&self) -> &'static str {
        "xen:NAME"
    }

    fn parse(&self, operand: &str, _: &Path) -> Result<String, AddressError> {
        let expected = "xen:NAME or xen:ID, as `xl list` shows them".to_owned();
        if operand.is_empty() {
            let problem = "`xen:` does not name a domain: the name is missing".to_owned();
            return Err(AddressError { problem, expected });
        }
        if operand.chars().any(char::is_control) || operand.contains('/') {
            let problem = format!("`{}` is not a domain name", operand.escape_debug());
            return Err(AddressError { problem, expected });
        }
        Ok(operand.to_owned())
    }

    /// Replaces a domain id with the domain's name, which stays the same when the guest restarts.
    fn canonical(&self, operand: &str, limits: &Limits) -> Result<String, Error> {
        if !is_domain_id(operand) {
            return Ok(operand.to_owned());
        }
        let name = self.access.name_of(operand, limits.next_wait())?;
        Ok(name.unwrap_or_else(|| operand.to_owned()))
    }

    fn open(&self, operand: &str, options: &OpenOptions<'_>) -> Result<Box<dyn Driver>, Error> {
        Ok(Box::new(Xen::at(operand, &self.access, options.limits.clone(), options.force)))
    }

    /// A guest is gone if xenstore does not have it. While xenstore cannot be reached, no guest
    /// counts as gone.
    fn is_gone(&self, _: &str, error: &Error) -> bool {
        matches!(error, Error::Missing { .. })
    }

    fn backends(&self) -> Option<&dyn BackendDomains> {
        Some(self)
    }

    fn running(&self, _: &Path, limit: Duration) -> Result<Vec<RunningGuest>, Error> {
        let socket = self.access.xenstored.as_deref();
        let Some(mut store) = Xenstore::open_if_running(socket, limit)? else {
            return Ok(Vec::new());
        };
        let mut guests = Vec::new();
        for id in domain::ids(&mut store)? {
            if id == DomId::ZERO {
                continue;
            }
            let Some(operand) = self.guest_operand(&mut store, id)? else { continue };
            guests.push(RunningGuest {
                name: Some(operand.clone()),
                operand: Some(operand),
                manager: None,
                identity: Some(GuestIdentity::new("xen-domain", id)),
                uuid: None,
                process: id.get().into(),
                host_devices: Vec::new(),
                disks: Vec::new(),
                owner: GuestOwner::Unknown,
            });
        }
        Ok(guests)
    }

    fn device_server(&self) -> Option<&'static str> {
        Some("vusb-backend")
    }

    fn survey(&self, _: &Path, limit: Duration) -> Option<Survey> {
        let served = match self.access.pv_served(limit) {
            Ok(Some(served)) => served,
            Ok(None) => {
                let absent = Availability::Absent("not running".to_owned());
                return Some(Survey::without_models(absent));
            }
            Err(error) => {
                let unusable = Availability::Unusable(error.to_string());
                return Some(Survey::without_models(unusable));
            }
        };
        let backend = if served { "a vusb-backend answers" } else { "no vusb-backend answers" };
        let availability =
            Availability::Available(format!("xenstored answers, {backend} in domain 0"));
        let models = Model::ALL.map(|model| (model, support(model, served)));
        Some(Survey { availability, models: models.into() })
    }

    fn model_facts(&self, model: Model) -> Option<ModelFacts> {
        let source = controller_source(model);
        let hot = match source {
            Some(ControllerSource::Pvusb) => Some(true),
            _ => qemu::QemuScheme.model_facts(model)?.hot,
        };
        Some(ModelFacts { name: source.map(|source| source.to_string()), hot })
    }

    /// Watches the guests that libxl knows, by name. During a migration, a guest is listed on the
    /// machine where it runs.
    fn watch(&self, options: &WatchOptions) -> Result<Option<Box<dyn GuestWatch>>, Error> {
        watch::watch(&self.access, options).map(Some)
    }
}

impl BackendDomains for XenScheme {
    fn resolve(&self, requested: &str, limits: &Limits) -> Result<Option<String>, Error> {
        self.access.backend(requested, limits.next_wait())
    }

    fn devices(&self, backend: &str, limits: &Limits) -> Result<Vec<BackendDevice>, Error> {
        self.access.backend_devices(backend, limits.next_wait())
    }
}

#[cfg(test)]
mod tests {
    use vusb_host::Host;

    use super::*;

    #[test]
    fn a_name_is_not_empty_and_has_no_line_break_and_no_slash() {
        let scheme = XenScheme::new(Host::system().into());
        let parse = |text: &str| scheme.parse(text, Path::new("/"));
        assert_eq!(parse("web1").unwrap(), "web1");
        for text in ["", "a\nb", "a/b"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_survey_reports_that_xen_is_not_running() {
        let root = tempfile::tempdir().unwrap();
        let locations = Locations {
            xenstored: Some(root.path().join("no-socket")),
            ..Host::new(root.path()).into()
        };
        let survey = XenScheme::new(locations).survey(root.path(), Duration::from_secs(1)).unwrap();
        assert_eq!(survey.availability, Availability::Absent("not running".to_owned()));
        assert!(survey.models.is_empty());
    }
}
