//! This machine and its guests at one moment: what pictures and live trees show.

use serde_json::{Value, json};
use vusb::model::rules::Effect;
use vusb::rules::{EffectView, EffectsView};
use vusb::view::{API, AllView, HostView};
use vusb_picture::{Embedding, Topology, draw};

use crate::live::last_known::LastKnown;
use crate::run::{Cli, Result};

/// This machine and its guests.
#[derive(Debug, PartialEq)]
pub(crate) struct Overview {
    pub(crate) host: HostView,
    pub(crate) domains: AllView,
    /// `None` if the rules have a mistake.
    effects: Option<EffectsView>,
}

impl Overview {
    /// Reads the devices, the rules, and one domain or all of them.
    pub(crate) fn now(cli: &Cli, domain: Option<&str>) -> Result<Overview> {
        let domains = match domain {
            None => cli.describe_all()?,
            Some(domain) => AllView {
                api: API,
                domains: vec![cli.describe(domain)?],
                unreachable: Vec::new(),
                unrecorded: Vec::new(),
            },
        };
        Ok(Overview::with(cli, domains))
    }

    /// Reads everything for a live view. Also returns whether a domain may answer later.
    pub(crate) fn live(cli: &Cli, known: &mut LastKnown) -> Result<(Overview, bool)> {
        let (domains, may_answer) = cli.describe_all_live(known)?;
        Ok((Overview::with(cli, domains), may_answer))
    }

    /// These domains, with the devices and the rules.
    fn with(cli: &Cli, domains: AllView) -> Overview {
        // If the devices of this machine cannot be read, the guests are still drawn.
        let host = cli.host_view(None).unwrap_or_else(|failure| {
            cli.screen
                .note(&format!("the devices of this machine are left out: {}", failure.message()));
            HostView { api: API, backend: None, devices: Vec::new(), notes: Vec::new() }
        });
        let effects = cli.effects().map_err(|failure| {
            cli.screen.note(&format!("the rules are left out: {}", failure.message()));
        });
        Overview { host, domains, effects: effects.ok() }
    }

    /// The questions of the daemon: the number, the device, and the domains to choose from.
    pub(crate) fn questions(&self) -> Vec<Value> {
        let question = |it: &EffectView| {
            let (Effect::Ask { domains, .. } | Effect::Conflict { domains, .. }) = &it.effect
            else {
                return None;
            };
            let device = self.host.devices.iter().find(|device| device.at == it.at)?;
            // The question may have been answered a moment ago.
            if device.holder.is_some() {
                return None;
            }
            let names = [&device.vendor, &device.product].into_iter().flatten();
            let what = names.fold(device.busid.to_string(), |text, name| format!("{text} {name}"));
            Some(json!({ "number": it.question?, "what": what, "domains": domains }))
        };
        self.effects.iter().flat_map(|it| &it.devices).filter_map(question).collect()
    }

    /// Draws it as SVG.
    pub(crate) fn picture(&self, embedding: Embedding) -> String {
        let Overview { host, domains, effects } = self;
        draw(Topology { host, domains, effects: effects.as_ref() }, embedding)
    }
}
