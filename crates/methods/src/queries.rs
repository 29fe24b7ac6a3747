//! The methods that change nothing.

use serde::Serialize;
use serde_json::{Value, json};
use vusb::model::device::Kind;
use vusb::model::rules::{Considered, Domain, Effect, Verdict};
use vusb::model::selector::Selector;
use vusb::rules::{EffectsView, ExplainView, Explained, RuleView, RulesView};
use vusb::view::{AllView, DomainView, HostDeviceView};

use crate::parameters::{CallOptions, Parameters};
use crate::{Answer, Call, Failure, without_null};

pub(super) fn list_domains(call: &Call, parameters: &Parameters) -> Result<Answer, Failure> {
    parameters.finish()?;
    let domains = call.context.named_domains(&call.options(&CallOptions::default())?)?;
    let one = |it: &Domain| json!({ "domain": without_null(json!({ "name": it.name, "address": it.address })) });
    Ok(Answer::Several(domains.iter().map(one).collect()))
}

pub(super) fn describe(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let domain = parameters.optional("domain")?;
    let options = parameters.options()?;
    parameters.finish()?;
    let (context, options) = (&call.context, call.options(&options)?);
    match domain {
        Some(text) => {
            let view = context.list(&call.domain(&text, &options)?, &options)?;
            described(&[&view], &view)
        }
        None => {
            let view: AllView = context.list_all(&options)?;
            described(&view.domains.iter().collect::<Vec<_>>(), &view)
        }
    }
}

fn described(domains: &[&DomainView], view: &impl Serialize) -> Result<Answer, Failure> {
    let domains: Vec<Value> = domains.iter().map(|it| hardware(it)).collect();
    Ok(Answer::One(json!({ "domains": domains, "view": view })))
}

fn hardware(view: &DomainView) -> Value {
    let controllers = view.controllers.iter().map(|it| {
        json!({
            "index": it.index,
            "name": it.name,
            "model": it.model,
            "ports": it.ports,
            "state": it.state.to_string(),
        })
    });
    let devices = view.controllers.iter().flat_map(|controller| {
        controller.devices.iter().map(|it| {
            json!({
                "name": it.name,
                "at": format!("{}:{}", controller.name, it.port),
                "device": it.kind.to_string(),
                "state": it.state.to_string(),
                "required": matches!(&it.kind, Kind::Host(host) if host.required),
            })
        })
    });
    json!({
        "name": view.domain,
        "address": view.address,
        "state": view.state.to_string(),
        "controllers": controllers.collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
    })
}

pub(super) fn describe_host(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let options = parameters.options()?;
    parameters.finish()?;
    let view = call.context.host_list(None, &call.options(&options)?)?;
    let devices: Vec<Value> = view.devices.iter().map(device).collect();
    Ok(Answer::One(json!({ "devices": devices, "view": view })))
}

pub(super) fn list_devices(call: &Call, parameters: &Parameters) -> Result<Answer, Failure> {
    parameters.finish()?;
    let view = call.context.host_list(None, &call.options(&CallOptions::default())?)?;
    let one = |it: &HostDeviceView| json!({ "device": device(it) });
    Ok(Answer::Several(view.devices.iter().map(one).collect()))
}

fn device(it: &HostDeviceView) -> Value {
    without_null(json!({
        "port": it.busid,
        "address": it.at.to_string(),
        "id": it.id,
        "serial": it.serial,
        "vendor": it.vendor,
        "product": it.product,
        "path": it.path,
        "domain": it.holder.as_ref().map(|it| &it.domain),
        "name": it.holder.as_ref().map(|it| &it.name),
        "usedBy": it.used_by,
        "protected": it.protection,
    }))
}

pub(super) fn list_rules(call: &Call, parameters: &Parameters) -> Result<Answer, Failure> {
    parameters.finish()?;
    let view = RulesView::from(&call.context.rules()?);
    let one = |it: &RuleView| {
        let mut rule = serde_json::to_value(it).unwrap_or(Value::Null);
        // In the interface, this key is always present.
        if let Some(rule) = rule.as_object_mut() {
            rule.insert("final".to_owned(), it.is_final.into());
        }
        json!({ "rule": rule })
    };
    Ok(Answer::Several(view.rules.iter().map(one).collect()))
}

pub(super) fn check_rules(mut parameters: Parameters) -> Result<Answer, Failure> {
    let text = parameters.text("text")?;
    parameters.finish()?;
    let warnings = vusb::rules::check_text(&text, "text")?;
    Ok(Answer::One(json!({ "warnings": warnings })))
}

pub(super) fn explain(call: &Call, mut parameters: Parameters) -> Result<ExplainView, Failure> {
    let device: Selector = parameters.required_parsed("device")?;
    let domain = parameters.optional("domain")?;
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let explained = Explained::Device(device);
    Ok(call.context.explain(&explained, domain.as_deref(), &options)?)
}

pub(super) fn describe_effects(
    call: &Call,
    mut parameters: Parameters,
) -> Result<EffectsView, Failure> {
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    Ok(call.context.effects(&options)?)
}

pub(super) fn explanation(view: &ExplainView) -> Value {
    let (effect, domains) = match &view.effect {
        Effect::Nothing => ("nothing", Vec::new()),
        Effect::Attach { domain, .. } => ("attach", vec![domain.clone()]),
        Effect::Ask { domains, .. } => ("ask", domains.clone()),
        Effect::Conflict { domains, .. } => ("conflict", domains.clone()),
        Effect::Denied { domains, .. } => ("denied", domains.clone()),
    };
    let permissions = view.permissions.iter().map(|it| {
        let verdict = if it.verdict == Verdict::Allowed { "allowed" } else { "denied" };
        json!({ "domain": it.domain, "verdict": verdict, "rule": it.rule })
    });
    json!({
        "about": view.about,
        "effect": effect,
        "domains": domains,
        "permissions": permissions.collect::<Vec<_>>(),
        "trace": view.trace.iter().map(considered).collect::<Vec<_>>(),
        "state": view.state,
        "history": view.history,
        "view": view,
    })
}

fn considered(it: &Considered) -> Value {
    let mut beaten_by: Vec<&str> = it.beaten.iter().map(|it| it.by.as_str()).collect();
    beaten_by.dedup();
    without_null(json!({
        "rule": it.rule,
        "file": it.file,
        "line": it.line,
        "action": it.action,
        "mismatch": it.mismatch.as_ref().map(ToString::to_string),
        "rank": it.rank.map(|rank| rank.to_string()),
        "decides": it.decides,
        "beatenBy": beaten_by,
    }))
}
