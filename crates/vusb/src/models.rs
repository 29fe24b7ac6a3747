//! The controller models: their properties, their names in each tool, and what this machine's
//! hypervisors can do with them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vusb_drivers::{Availability, Survey};
use vusb_model::capabilities::{Capabilities, KINDS, Support};
use vusb_model::models::Model;
use vusb_model::naming::NamesView;
use vusb_model::speed::SpeedSet;

use crate::address::DomainAddress;
use crate::call::Call;
use crate::error::Error;
use crate::session::Open;
use crate::view::api::API;
use crate::view::models::{
    AvailabilityView, Can, GivableView, GuestModelsView, ModelView, ModelsView, PortsView,
};

/// The limit for asking each hypervisor of this machine. QEMU 7.2 takes a tenth of a second.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(3);

/// The models, and what this machine's hypervisors can do with each. A hypervisor that does not
/// reply is not an error.
pub(crate) fn models(call: &Call<'_>) -> ModelsView {
    let limit = call.limits.next_wait().min(SURVEY_TIMEOUT);
    let root = call.context.host().root();
    let schemes = || call.context.registry().schemes();
    let surveys: BTreeMap<&'static str, (&'static str, Survey)> = call
        .ask_schemes(|scheme| scheme.survey(root, limit))
        .into_iter()
        .filter_map(|(scheme, survey)| Some((scheme.name(), (scheme.title(), survey?))))
        .collect();
    let here = surveys
        .iter()
        .map(|(scheme, (title, survey))| ((*scheme).to_owned(), available(title, survey)));
    let view = |model| {
        let can = |survey: &Survey| survey.models.get(&model).map(Can::from);
        let here = surveys.iter().map(|(scheme, (_, survey))| ((*scheme).to_owned(), can(survey)));
        let mut hypervisors = BTreeMap::new();
        for scheme in schemes() {
            let Some(facts) = scheme.model_facts(model) else { continue };
            hypervisors.insert(scheme.name().to_owned(), facts.name.into());
            hypervisors.insert(scheme.hot_key(), facts.hot.into());
        }
        model_view(model, hypervisors, here.collect())
    };
    ModelsView {
        api: API,
        here: here.collect(),
        models: Model::ALL.into_iter().map(view).collect(),
    }
}

fn available(title: &str, survey: &Survey) -> AvailabilityView {
    let there = matches!(survey.availability, Availability::Available(_));
    AvailabilityView { title: title.to_owned(), there, what: survey.availability.to_string() }
}

fn model_view(
    model: Model,
    hypervisors: BTreeMap<String, Value>,
    here: BTreeMap<String, Option<Can>>,
) -> ModelView {
    let range = model.port_range();
    // By default, the EHCI of an ICH9 comes with its companions.
    let companions = match model {
        Model::Ich9Ehci1 => Model::Ich9Uhci1.speeds(),
        _ => SpeedSet::NONE,
    };
    ModelView {
        name: model.name().to_owned(),
        aliases: model.aliases().iter().map(|it| (*it).to_owned()).collect(),
        controller_type: model.controller_type(),
        usbversion: model.usbversion(),
        ports: PortsView { least: *range.start(), most: *range.end() },
        speeds: model.speeds().union(companions),
        hypervisors,
        names: NamesView::of(model),
        here,
    }
}

/// What the domain can be given, now and at its next start.
///
/// # Errors
/// The domain cannot be observed.
pub(crate) fn of_guest(call: &Call<'_>, domain: &DomainAddress) -> Result<GuestModelsView, Error> {
    let mut open = Open::look(call, domain)?;
    let capabilities = open.capabilities()?;
    let running = !open.is_file() && !open.observed.off;
    let Capabilities { models, kinds, .. } = &capabilities;
    let models = Model::ALL.into_iter().map(|it| (it.name(), models.get(&it)));
    let kinds = KINDS.into_iter().map(|it| (it, kinds.get(it)));
    let view = |(name, support)| givable(name, support, running);
    Ok(GuestModelsView {
        api: API,
        domain: open.record.display_name().to_owned(),
        address: domain.to_string(),
        running,
        controllers: models.map(view).collect(),
        devices: kinds.map(view).collect(),
    })
}

fn givable(name: &str, support: Option<&Support>, running: bool) -> GivableView {
    let (hot, cold, why) = match support {
        Some(Support::Hot | Support::EmulatedOnly { .. }) => (true, true, None),
        Some(Support::Cold { why }) => (false, true, Some(why.clone())),
        Some(Support::Unsupported { why }) => (false, false, Some(why.clone())),
        None => (false, false, Some("this hypervisor does not have it".to_owned())),
    };
    let why = why.filter(|_| running || !cold);
    GivableView { name: name.to_owned(), live: hot && running, next_start: cold, why }
}
