//! `<controller type='usb'>`.

use vusb_model::models::Model;
use vusb_model::spec::ControllerSpec;

use super::address::{PciBuses, index_of, read_pci};
use super::names::{closest_model, model, model_names, name_of};
use super::numbers::decimal;
use super::xml::{Attr, Node, attr, child};
use crate::config::{Field, ItemSource};
use crate::error::Problem;

/// Reads a USB controller. `None` for the model `none`, which turns USB off.
///
/// # Errors
/// A value is invalid.
pub(super) fn read(
    node: Node<'_>,
    live: bool,
    buses: &PciBuses,
) -> Result<Option<(ControllerSpec, ItemSource)>, Problem> {
    let mut source = ItemSource { span: node.range(), ..ItemSource::default() };
    let mut note = |field: Field, text: &Attr<'_>| {
        source.fields.insert(field, text.span.clone());
    };
    let mut spec = ControllerSpec::default();
    if let Some(text) = attr(node, "model") {
        note(Field::Model, &text);
        match model(text.value) {
            None => return Err(unknown_model(&text)),
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
    spec.pci = read_pci(node, buses)?;
    let companion = master.is_some() || spec.model.is_some_and(is_companion);
    if !companion {
        // A companion has the alias of its master.
        spec.name = name_of(node, live, spec.index.map(|index| automatic_name(index.get())));
    }
    Ok(Some((spec, source)))
}

/// Whether libvirt treats a controller of this model as a companion even if it names no master.
pub(super) const fn is_companion(model: Model) -> bool {
    matches!(model, Model::Ich9Uhci1 | Model::Ich9Uhci2 | Model::Ich9Uhci3)
}

/// The alias that libvirt gives to the USB controller at `index`.
fn automatic_name(index: u16) -> String {
    if index == 0 { "usb".to_owned() } else { format!("usb{index}") }
}

fn unknown_model(text: &Attr<'_>) -> Problem {
    let what = format!(
        "`{}` is not a libvirt USB controller model; the models are {}",
        text.excerpt(),
        model_names()
    );
    let sentence = format!("libvirt says: Unknown model type '{}'", text.excerpt());
    let problem = text.problem(what);
    match closest_model(text.value) {
        Some(model) => problem.label(format!("did you mean `{model}`?")).help(sentence),
        None => problem.help(sentence),
    }
}

fn ports(text: &Attr<'_>) -> Result<u8, Problem> {
    decimal(text.value).ok_or_else(|| {
        text.problem(format!("`{}` is not a number of ports", text.excerpt()))
            .help("write a decimal number: 1 to 15 for qemu-xhci and nec-xhci, 1 to 31 for qusb1 and qusb2; other models have a fixed number")
    })
}

/// How many of the master's ports come before those of a companion. libvirt reads the number as
/// decimal.
fn first_port(master: Node<'_>) -> Result<u8, Problem> {
    let Some(text) = attr(master, "startport") else {
        return Err(Problem::new(master.range(), "the start port of this companion is missing")
            .help("write <master startport='N'/>, where N is 0 for ich9-uhci1, 2 for ich9-uhci2 and 4 for ich9-uhci3"));
    };
    decimal(text.value).ok_or_else(|| {
        text.problem(format!(
            "`{}` is not a start port: write a decimal number, which is 0, 2 or 4 in a whole group",
            text.excerpt()
        ))
    })
}
