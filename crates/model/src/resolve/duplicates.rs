//! Names, indexes and ports that a spec requests twice. Such a duplicate is a mistake in the spec;
//! merging the two entries would hide it.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use super::{Refused, RequestedItem};
use crate::refusal::Refusal;
use crate::spec::Spec;

/// Refuses the first duplicate.
pub(super) fn check(spec: &Spec) -> Result<(), Refused> {
    check_names(spec)?;
    let controllers = spec.controllers.iter().enumerate();
    let indexes =
        controllers.filter_map(|(number, it)| Some((RequestedItem::Controller(number), it.index?)));
    check_unique("index", indexes)?;
    // The same port requested through the controller's name and through its index is detected when
    // the devices are placed.
    let mut ports = HashSet::new();
    for (number, device) in spec.devices.iter().enumerate() {
        let Some(port) = device.port else { continue };
        if !ports.insert((device.controller.as_ref(), port)) {
            let on = device.controller.as_ref().map(|it| format!(" of {it}")).unwrap_or_default();
            let refusal = Refusal::Duplicate { what: format!("port {port}{on}") };
            return Err(Refused::of(RequestedItem::Device(number), refusal));
        }
    }
    Ok(())
}

/// Refuses the first duplicate name.
pub(super) fn check_names(spec: &Spec) -> Result<(), Refused> {
    let controllers = spec.controllers.iter().enumerate();
    let devices = spec.devices.iter().enumerate();
    let names =
        controllers
            .filter_map(|(number, it)| Some((RequestedItem::Controller(number), it.name.as_ref()?)))
            .chain(devices.filter_map(|(number, it)| {
                Some((RequestedItem::Device(number), it.name.as_ref()?))
            }));
    check_unique("name", names)
}

fn check_unique<T: Eq + Hash + Display>(
    what: &str,
    values: impl IntoIterator<Item = (RequestedItem, T)>,
) -> Result<(), Refused> {
    let mut seen = HashSet::new();
    for (item, value) in values {
        let text = value.to_string();
        if !seen.insert(value) {
            return Err(Refused::of(item, Refusal::Duplicate { what: format!("{what} {text}") }));
        }
    }
    Ok(())
}
