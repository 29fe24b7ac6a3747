//! What a spec must not say twice: a name, an index, a port. Two such entries are a slip of whoever wrote them; one of the two
//! would silently be taken for the other.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use super::{Asked, Refused};
use crate::refusal::Refusal;
use crate::spec::Spec;

/// Finds the first thing that is said twice.
pub(super) fn check(spec: &Spec) -> Result<(), Refused> {
    names(spec)?;
    let controllers = spec.controllers.iter().enumerate();
    once("index", controllers.filter_map(|(n, it)| Some((Asked::Controller(n), it.index?))))?;
    // A controller that is named here by its name and there by its index is seen through when the devices are placed.
    let mut ports = HashSet::new();
    for (number, device) in spec.devices.iter().enumerate() {
        let Some(port) = device.port else { continue };
        if !ports.insert((device.controller.as_ref(), port)) {
            let on = device.controller.as_ref().map(|it| format!(" of {it}")).unwrap_or_default();
            let refusal = Refusal::Twice { what: format!("port {port}{on}") };
            return Err(Refused::of(Asked::Device(number), refusal));
        }
    }
    Ok(())
}

/// Finds the first name that is said twice.
pub(super) fn names(spec: &Spec) -> Result<(), Refused> {
    let controllers = spec.controllers.iter().enumerate();
    let devices = spec.devices.iter().enumerate();
    let names = controllers
        .filter_map(|(number, it)| Some((Asked::Controller(number), it.name.as_ref()?)))
        .chain(devices.filter_map(|(number, it)| Some((Asked::Device(number), it.name.as_ref()?))));
    once("name", names)
}

fn once<T: Eq + Hash + Display>(
    what: &str,
    said: impl IntoIterator<Item = (Asked, T)>,
) -> Result<(), Refused> {
    let mut seen = HashSet::new();
    for (asked, it) in said {
        let text = it.to_string();
        if !seen.insert(it) {
            return Err(Refused::of(asked, Refusal::Twice { what: format!("{what} {text}") }));
        }
    }
    Ok(())
}
