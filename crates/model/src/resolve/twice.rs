//! What a spec must not say twice: a name, an index, a port. Two such entries are a slip of whoever wrote them; one of the two
//! would silently be taken for the other.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use crate::refusal::Refusal;
use crate::spec::Spec;

/// Finds the first thing that is said twice.
pub(super) fn check(spec: &Spec) -> Result<(), Refusal> {
    let controllers = spec.controllers.iter().filter_map(|it| it.name.as_ref());
    let devices = spec.devices.iter().filter_map(|it| it.name.as_ref());
    once("name", controllers.chain(devices))?;
    once("index", spec.controllers.iter().filter_map(|it| it.index))?;
    // A controller that is named here by its name and there by its index is seen through when the devices are placed.
    let mut ports = HashSet::new();
    for device in &spec.devices {
        let Some(port) = device.port else { continue };
        if !ports.insert((device.controller.as_ref(), port)) {
            let on = device.controller.as_ref().map(|it| format!(" of {it}")).unwrap_or_default();
            return Err(Refusal::Twice { what: format!("port {port}{on}") });
        }
    }
    Ok(())
}

fn once<T: Eq + Hash + Display>(
    what: &str,
    said: impl IntoIterator<Item = T>,
) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for it in said {
        let text = it.to_string();
        if !seen.insert(it) {
            return Err(Refusal::Twice { what: format!("{what} {text}") });
        }
    }
    Ok(())
}
