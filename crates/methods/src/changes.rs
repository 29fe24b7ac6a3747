//! The methods that change a guest, and `Plan`, which shows what `Apply` would change. They use the
//! library, with its locks and claims, as the command `vusb` does.

use serde::Serialize;
use serde_json::{Value, json};
use vusb::model::device::Kind;
use vusb::model::diff::Step;
use vusb::model::models::ControllerType;
use vusb::model::selector::BusId;
use vusb::model::spec::{ControllerRef, ControllerSpec, DeviceSpec};
use vusb::{Destination, DeviceRef, DomainAddress, GuestConfig, Options, Outcome};
use vusb_interface::hints;

use crate::parameters::Parameters;
use crate::{Answer, Call, Caller, Failure};

/// The reply of a change to one item, with the address that was chosen.
fn reply_with_address(outcome: &Outcome) -> Answer {
    let mut reply = reply(outcome, outcome);
    if let Some(reply) = reply.as_object_mut() {
        let at = outcome.chosen.as_ref().map(ToString::to_string);
        reply.insert("at".to_owned(), json!(at));
    }
    Answer::One(reply)
}

/// The reply of a change to one or more items.
fn change_reply(outcome: &Outcome) -> Answer {
    let mut outcome = outcome.clone();
    hints::fill_outcome(&mut outcome);
    Answer::One(reply(&outcome, &outcome))
}

fn reply(outcome: &Outcome, view: &impl Serialize) -> Value {
    let steps: Vec<String> = outcome.steps.iter().map(ToString::to_string).collect();
    let notes: Vec<String> = outcome.notes.iter().map(ToString::to_string).collect();
    json!({ "already": outcome.already, "steps": steps, "notes": notes, "view": view })
}

pub(super) fn add_controller(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let domain = parameters.text("domain")?;
    let controller_type = match parameters.optional("type")?.as_deref() {
        None | Some("auto") => None,
        Some("pv") => Some(ControllerType::Pv),
        Some("emulated") => Some(ControllerType::Emulated),
        Some(_) => return Err(Failure::invalid_parameter("type")),
    };
    let index: Option<u64> = parameters.number("index")?;
    let index = index.map(|it| it.to_string().parse()).transpose();
    let spec = ControllerSpec {
        index: index.map_err(|_| Failure::invalid_parameter("index"))?,
        name: parameters.parsed("name")?,
        controller_type,
        usbversion: parameters.parsed("usbVersion")?,
        model: parameters.parsed("model")?,
        ports: parameters.number_as("ports")?,
        backend: parameters.optional("backend")?,
        ..ControllerSpec::default()
    };
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let domain = call.domain(&domain, &options)?;
    Ok(reply_with_address(&call.context.controller_add(&domain, &spec, &options)?))
}

pub(super) fn remove_controller(
    call: &Call,
    mut parameters: Parameters,
) -> Result<Answer, Failure> {
    let domain = parameters.text("domain")?;
    let controller: ControllerRef = parameters.required_parsed("controller")?;
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let domain = call.domain(&domain, &options)?;
    Ok(change_reply(&call.context.controller_remove(&domain, &controller, &options)?))
}

pub(super) fn add_device(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let kind: Kind = parameters.required_parsed("device")?;
    let spec = DeviceSpec {
        controller: parameters.parsed("controller")?,
        port: parameters.parsed("port")?,
        name: parameters.parsed("name")?,
        ..DeviceSpec::new(kind)
    };
    Ok(reply_with_address(&add(call, parameters, &[spec])?))
}

pub(super) fn add_devices(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let kinds: Vec<Kind> = parameters.required_list("devices")?;
    let controller: Option<ControllerRef> = parameters.parsed("controller")?;
    let spec = |kind| DeviceSpec { controller: controller.clone(), ..DeviceSpec::new(kind) };
    let specs: Vec<DeviceSpec> = kinds.into_iter().map(spec).collect();
    Ok(change_reply(&add(call, parameters, &specs)?))
}

fn add(call: &Call, mut parameters: Parameters, specs: &[DeviceSpec]) -> Result<Outcome, Failure> {
    let domain = parameters.text("domain")?;
    let when_there = parameters.boolean("whenThere")?;
    let required = parameters.boolean("required")?;
    let specs: Vec<DeviceSpec> = specs.iter().map(|it| with_required(it, required)).collect();
    let options = call.options(&parameters.options()?)?;
    let accept_absent = when_there || options.accept_absent;
    let options = Options { accept_absent, ..options };
    parameters.finish()?;
    // A member of the group may only add host devices: other kinds use files and sockets that the
    // daemon may open, but the caller may not.
    let are_host_devices = specs.iter().all(|it| matches!(it.kind, Kind::Host(_)));
    if call.caller == Caller::Group && !are_host_devices {
        return Err(Failure::permission_denied());
    }
    let domain = call.domain(&domain, &options)?;
    Ok(call.context.device_add_all(&domain, &specs, &options)?)
}

/// The request, marked as required if `required` is true and it is for a host device.
fn with_required(spec: &DeviceSpec, required: bool) -> DeviceSpec {
    let mut spec = spec.clone();
    if let Kind::Host(host) = &mut spec.kind {
        host.required |= required;
    }
    spec
}

pub(super) fn remove_device(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let device: DeviceRef = parameters.required_parsed("device")?;
    remove(call, parameters, &[device])
}

pub(super) fn remove_devices(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let devices: Vec<DeviceRef> = parameters.required_list("devices")?;
    remove(call, parameters, &devices)
}

fn remove(
    call: &Call,
    mut parameters: Parameters,
    devices: &[DeviceRef],
) -> Result<Answer, Failure> {
    let domain = parameters.text("domain")?;
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let (context, domain) = (&call.context, call.domain(&domain, &options)?);
    if call.caller == Caller::Group {
        let trial = Options { dry_run: true, ..options.clone() };
        let outcome = context.device_remove_all(&domain, devices, &trial)?;
        let is_host =
            |step: &Step| matches!(step, Step::Unplug(_, it) if matches!(it.kind, Kind::Host(_)));
        if !outcome.steps.iter().all(is_host) {
            return Err(Failure::permission_denied());
        }
    }
    Ok(change_reply(&context.device_remove_all(&domain, devices, &options)?))
}

pub(super) fn move_device(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let domain = parameters.text("domain")?;
    let device: DeviceRef = parameters.required_parsed("device")?;
    let to = Destination {
        controller: parameters.parsed("controller")?,
        port: parameters.parsed("port")?,
    };
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let domain = call.domain(&domain, &options)?;
    Ok(reply_with_address(&call.context.device_move(&domain, &device, &to, &options)?))
}

pub(super) fn plan(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let spec = parameters.text("spec")?;
    let origin = parameters.optional("origin")?;
    let prune = parameters.boolean("prune")?;
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let options = Options { dry_run: true, prune, ..options };
    apply_spec(call, spec, origin, &options)
}

pub(super) fn apply(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let spec = parameters.optional("spec")?;
    let origin = parameters.optional("origin")?;
    let domain = parameters.optional("domain")?;
    let prune = parameters.boolean("prune")?;
    let options = Options { prune, ..call.options(&parameters.options()?)? };
    parameters.finish()?;
    match (spec, domain) {
        (Some(spec), None) => apply_spec(call, spec, origin, &options),
        (None, Some(_)) if prune => Err(Failure::invalid_parameter("prune")),
        (None, Some(domain)) => {
            let domain = call.domain(&domain, &options)?;
            Ok(change_reply(&call.context.restore(&domain, &options)?))
        }
        _ => Err(Failure::invalid_parameter("spec")),
    }
}

fn apply_spec(
    call: &Call,
    spec: String,
    origin: Option<String>,
    options: &Options,
) -> Result<Answer, Failure> {
    let context = &call.context;
    let format = context.registry().formats().named("vusb");
    let format = format.ok_or_else(|| Failure::invalid_parameter("spec"))?;
    let folder = options.folder.clone().unwrap_or_else(|| "/".into());
    let origin = origin.unwrap_or_else(|| "the spec".to_owned());
    let config = GuestConfig::parse(spec, format, folder, origin)?;
    let plan = context.apply(&config, options)?;
    Ok(Answer::One(reply(&plan, &plan)))
}

pub(super) fn suspend(call: &Call, mut parameters: Parameters) -> Result<Answer, Failure> {
    let domain = parameters.text("domain")?;
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let domain = call.domain(&domain, &options)?;
    Ok(change_reply(&call.context.suspend(&domain, &options)?))
}

pub(super) fn resume(
    call: &Call,
    mut parameters: Parameters,
    lift_holds: impl FnOnce(&DomainAddress, bool) -> Vec<BusId>,
) -> Result<Answer, Failure> {
    let domain = parameters.text("domain")?;
    let options = call.options(&parameters.options()?)?;
    parameters.finish()?;
    let domain = call.domain(&domain, &options)?;
    let resumed = call.context.resume(&domain, &options)?;
    Ok(change_reply(&resumed.with_lifted_holds(lift_holds(&domain, options.dry_run))))
}
