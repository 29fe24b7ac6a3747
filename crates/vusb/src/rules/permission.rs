//! Whether the rules let a person give a device to a domain.

use vusb_host::{Host, HostDevice};
use vusb_model::rules::{Domain, Recorded, RuleSet, Verdict, decide};

use super::facts::facts;
use crate::error::Error;

/// Checks that the rules of files let a person give the device to the domain. The protections that
/// are built in are checked elsewhere, with more precise reasons. `recorded` tells whether a person
/// or a spec gave the device to the domain before.
///
/// # Errors
/// A rule denies it, or none permits it and the files deny what no rule matches. `force` overrides
/// all rules but final ones.
pub(crate) fn check(
    host: &Host,
    rules: &RuleSet,
    device: &HostDevice,
    domain: &Domain,
    recorded: bool,
    force: bool,
) -> Result<(), Error> {
    let mut facts = facts(host, device);
    facts.protected.clear();
    if recorded {
        facts.recorded.push(Recorded { domain: domain.name.clone() });
    }
    let decision = decide(&facts, rules, std::slice::from_ref(domain));
    let Some(permission) = decision.permission(&domain.name) else { return Ok(()) };
    let is_forced = force && !permission.is_final;
    if permission.verdict == Verdict::Allowed || is_forced {
        return Ok(());
    }
    let rule = decision.trace.iter().find(|it| it.rule == permission.rule);
    let file = rule.and_then(|it| Some(format!("{}:{}", it.file.as_ref()?, it.line?)));
    Err(Error::DeniedByRule {
        device: format!("{} ({})", device.bus_id, device.describe()),
        port: device.bus_id.clone(),
        domain: domain.name.clone(),
        rule: permission.rule.clone(),
        file,
        is_final: permission.is_final,
    })
}
