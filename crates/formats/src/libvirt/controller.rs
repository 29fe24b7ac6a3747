//! `<controller type='usb'>`.

use vusb_model::models::Model;
use vusb_model::spec::ControllerSpec;

use super::address::{PciBuses, index_of, pci};
use super::names::{closest_model, model, model_names, name_of};
use super::numbers::decimal;
use super::xml::{Attr, Node, attr, child};
use crate::config::{Field, Place};
use crate::error::Problem;

/// Reads a USB controller; `None` for the model `none`, which is no USB at all.
///
/// # Errors
/// Its model, index or numbers are none.
pub(super) fn read(
    node: Node<'_>,
    live: bool,
    buses: &PciBuses,
) -> Result<Option<(ControllerSpec, Place)>, Problem> {
    let mut place = Place { span: node.range(), ..Place::default() };
    let mut note = |field: Field, text: &Attr<'_>| {
        place.fields.insert(field, text.span.clone());
    };
    let mut spec = ControllerSpec::default();
    if let Some(text) = attr(node, "model") {
        note(Field::Model, &text);
        match model(text.value) {
            None => return Err(no_model(&text)),
            Some(None) => return Ok(None),
            Some(model) => spec.model = model,
        }
    }
    if let Some(text) = attr(node, "index") {
        note(Field::Index, &text);
        spec.index = Some(index_of(&text)?);
    }
    if let Some(text) = attr(node, "ports") {
        note(Field::Ports, &text);
        spec.ports = Some(ports(&text)?);
    }
    let master = child(node, "master");
    spec.first_port = master.map(first_port).transpose()?;
    spec.pci = pci(node, buses)?;
    let companion = master.is_some() || spec.model.is_some_and(is_companion);
    if !companion {
        // A companion goes by its master's alias.
        spec.name = name_of(node, live, spec.index.map(|index| automatic_name(index.get())));
    }
    Ok(Some((spec, place)))
}

/// Whether libvirt takes a controller of this model for a companion even where it names no master.
pub(super) const fn is_companion(model: Model) -> bool {
    matches!(model, Model::Ich9Uhci1 | Model::Ich9Uhci2 | Model::Ich9Uhci3)
}

/// libvirt's own alias for the USB controller at `index`.
fn automatic_name(index: u16) -> String {
    if index == 0 { "usb".to_owned() } else { format!("usb{index}") }
}

fn no_model(text: &Attr<'_>) -> Problem {
    let what = format!(
        "`{}` is no controller model of libvirt's: the models are {}",
        text.short(),
        model_names()
    );
    let sentence = format!("libvirt says: Unknown model type '{}'", text.short());
    let problem = text.refuse(what);
    match closest_model(text.value) {
        Some(model) => problem.label(format!("is `{model}` meant?")).help(sentence),
        None => problem.help(sentence),
    }
}

fn ports(text: &Attr<'_>) -> Result<u8, Problem> {
    decimal(text.value).ok_or_else(|| {
        text.refuse(format!("`{}` is no number of ports", text.short()))
            .help("it is a decimal number: 1 to 15 for qemu-xhci and nec-xhci, 1 to 31 for qusb1 and qusb2; the other models have their own")
    })
}

/// How many ports of its master come before a companion's: libvirt reads it in decimal.
fn first_port(master: Node<'_>) -> Result<u8, Problem> {
    let Some(text) = attr(master, "startport") else {
        return Err(Problem::new(master.range(), "this does not say which ports of its master are the companion's")
            .help("write <master startport='0'/>: how many ports come before its own, 0 for ich9-uhci1, 2 for ich9-uhci2, 4 for ich9-uhci3"));
    };
    decimal(text.value).ok_or_else(|| {
        text.refuse(format!(
            "`{}` is no start port: it is a decimal number, 0, 2 or 4 in a whole group",
            text.short()
        ))
    })
}
