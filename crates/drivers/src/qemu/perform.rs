//! Performs one step on a running QEMU.
//!
//! ```text
//! plug:    add the back end ──▶ device_add ──▶ done
//!              │ QEMU cannot open the file: pass it if that is safe, and add the device again.
//!              │ In another root directory, it is passed at once
//!              │ it exists, left by an interrupted command: remove it and add it again
//!              └─ device_add is refused: remove the back end
//! CD:      add the back end ──▶ add the USB part, detached ──▶ add the drive ──▶ attach it ──▶ done
//! unplug:  device_del ──▶ DEVICE_DELETED, or the device is gone ──▶ remove own back end and passed
//!          file ──▶ done
//! remove a controller: the same, but the guest has to release the PCI device. It may refuse that,
//!          or not reply
//! ```

use std::num::NonZeroU8;
use std::time::Duration;

use serde_json::{Value, json};
use vusb_host::Host;
use vusb_model::address::{Address, PortPath};
use vusb_model::device::Kind;
use vusb_model::hardware::{Controller, Device};
use vusb_model::remedy::{Reason, Remedy};
use vusb_qmp::{CommandError, Deadline, ErrorClass, Event};

use super::Qemu;
use super::arguments::{self, DeviceBackend, Properties};
use super::assemble::Handle;
use super::names::{device_id, parse_device_id};
use super::passed_files::{self, PassedFile};
use super::refusal::{self, Cause};
use super::run_state::why_not_running;
use super::scan::peripheral;
use crate::driver::Error;

/// The time between two polls of the object model: the shortest one, before the first poll, and the
/// longest one. Both are short compared with the time that a guest needs to release a PCI device
/// (0.1 s to some seconds), and long compared with the cost of a poll (0.1 ms).
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(20);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(320);

/// The outcome of a removal.
#[derive(Debug, PartialEq, Eq)]
enum Removal {
    Done,
    /// The guest refused it.
    Refused,
    /// It was not confirmed in time.
    Unconfirmed,
}

/// Why a device was not added.
enum NotPlugged {
    /// QEMU refused it; and why vusb has not passed its file, if that was tried.
    Refused(CommandError, Option<String>),
    /// QEMU refused it although vusb had passed its file; and QEMU's refusal without the file.
    RefusedOpen(CommandError, Option<String>),
    /// vusb has not passed the file, and QEMU must not open the path.
    NotPassed(Option<String>),
}

impl Qemu {
    pub(super) fn add_controller(&mut self, controller: &Controller) -> Result<(), Error> {
        let what = || format!("adding controller {} ({})", controller.name, controller.model);
        let ports = arguments::other_ports(controller);
        let possible = arguments::controller(controller).filter(|_| ports.is_none());
        let Some(mut properties) = possible else {
            let why = ports.unwrap_or_else(|| "it has no such controller".to_owned());
            return Err(Error::NotImplemented {
                what: what(),
                by: self.description(),
                why: why.into(),
            });
        };
        let position = match &controller.pci {
            Some(pci) => self.hotplug_buses.iter().position(|bus| bus.name == pci.bus),
            None => self.hotplug_buses.iter().position(|bus| bus.free > 0),
        };
        let bus = position.and_then(|position| self.hotplug_buses.get(position));
        if let (None, Some(bus)) = (&controller.pci, bus) {
            properties.insert("bus".to_owned(), bus.name.clone().into());
        }
        let id = properties.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let added = self.session.execute("device_add", Value::Object(properties))?;
        added.map_err(|error| self.refused(what(), &error))?;
        if let Some(bus) = position.and_then(|position| self.hotplug_buses.get_mut(position)) {
            bus.free = bus.free.saturating_sub(1);
        }
        let handle = Handle { qom_path: peripheral(&id), bus: format!("{id}.0"), id };
        self.view.controllers.insert(controller.index, handle);
        Ok(())
    }

    pub(super) fn remove_controller(&mut self, controller: &Controller) -> Result<(), Error> {
        let what = removing(controller);
        let Some(handle) = self.view.controllers.get(&controller.index).cloned() else {
            return Ok(());
        };
        require_running(controller, &self.guest_state()?)?;
        match self.request_removal(&handle, &what, Self::wait_for_removal)? {
            Removal::Done => {
                self.view.controllers.remove(&controller.index);
                Ok(())
            }
            Removal::Refused => {
                Err(Error::Failed { what, why: "the guest refused to release it".into() })
            }
            Removal::Unconfirmed => {
                let why = Reason::from(
                    "the guest has not released the PCI device: it may still be booting, or its system may not \
                     support hot unplug. It may still release it",
                );
                let why = why.remedy(Remedy::ListDomain).remedy(Remedy::MoreTime);
                Err(Error::TimedOut { what, limit: self.session.single_wait(), why })
            }
        }
    }

    pub(super) fn plug(&mut self, at: Address, device: &Device) -> Result<(), Error> {
        let what = || format!("plugging in {} ({})", device.name, device.kind);
        let Some(bus) = self.view.controllers.get(&at.bus).map(|handle| handle.bus.clone()) else {
            return Err(Error::Missing {
                what: format!("controller {}", at.bus),
                why: "it was removed in the meantime".into(),
            });
        };
        if arguments::drive(device).is_some() {
            self.remove_unfinished(device)?;
        }
        let to = (bus.as_str(), at.port);
        let opened = refusal::opened(&device.kind).is_some();
        let added = if opened && passed_files::is_in_other_root(&self.session) {
            self.plug_in_other_root(device, to)?
        } else {
            self.plug_by_path(device, to)?
        };
        let id = match added {
            Ok(id) => id,
            Err(refused) => {
                self.take_back_file(&device_id(device.name.as_str()))?;
                return Err(self.not_plugged(what(), device, refused));
            }
        };
        let handle = Handle { qom_path: peripheral(&id), bus: String::new(), id };
        self.view.devices.insert(at, handle);
        Ok(())
    }

    /// Adds a device whose file QEMU opens. If QEMU cannot, vusb passes it.
    fn plug_by_path(
        &mut self,
        device: &Device,
        to: (&str, PortPath),
    ) -> Result<Result<String, NotPlugged>, Error> {
        let first = match self.try_plug(device, to, None)? {
            Ok(id) => return Ok(Ok(id)),
            Err(error) => error,
        };
        if !passed_files::may_be_passed(&first.desc) {
            return Ok(Err(NotPlugged::Refused(first, None)));
        }
        let file = match passed_files::pass(&mut self.session, &mut self.passed, device)? {
            Ok(file) => file,
            Err(why) => return Ok(Err(NotPlugged::Refused(first, why))),
        };
        let second = match self.try_plug(device, to, Some(&file))? {
            Ok(id) => return Ok(Ok(id)),
            Err(error) => error,
        };
        Ok(Err(match passed_files::is_node_unsupported(&second.desc) {
            true => NotPlugged::Refused(first, Some(second.desc)),
            false => NotPlugged::RefusedOpen(second, Some(first.desc)),
        }))
    }

    /// Adds a device to a QEMU in another root directory. The path of its image is not used: it may
    /// be another file there. A host device has the same address everywhere.
    fn plug_in_other_root(
        &mut self,
        device: &Device,
        to: (&str, PortPath),
    ) -> Result<Result<String, NotPlugged>, Error> {
        let why = match passed_files::pass(&mut self.session, &mut self.passed, device)? {
            Ok(file) => match self.try_plug(device, to, Some(&file))? {
                Ok(id) => return Ok(Ok(id)),
                Err(error) if passed_files::is_node_unsupported(&error.desc) => Some(error.desc),
                Err(error) => return Ok(Err(NotPlugged::RefusedOpen(error, None))),
            },
            Err(why) => why,
        };
        if !matches!(device.kind, Kind::Host(_)) {
            return Ok(Err(NotPlugged::NotPassed(why)));
        }
        self.take_back_file(&device_id(device.name.as_str()))?;
        let added = self.try_plug(device, to, None)?;
        Ok(added.map_err(|error| NotPlugged::Refused(error, why)))
    }

    /// The driver's error for a device that was not added.
    fn not_plugged(&mut self, what: String, device: &Device, not_plugged: NotPlugged) -> Error {
        match not_plugged {
            NotPlugged::Refused(error, why) => self.refused_device(what, device, &error, why),
            // QEMU had the open file, so its permissions are not the cause.
            NotPlugged::RefusedOpen(error, first) => {
                let desc = match first {
                    Some(first) => format!("{first}; with the file opened by vusb: {}", error.desc),
                    None => error.desc,
                };
                self.refused(what, &CommandError { desc, ..error })
            }
            NotPlugged::NotPassed(why) => {
                let mut text = "QEMU has another root directory, where this path may be another \
                                file, and vusb has not passed the file"
                    .to_owned();
                text.extend(why.map(|why| format!(": {why}")));
                Error::Failed { what, why: text.into() }
            }
        }
    }

    /// Adds a device and its back end, with its file if that was passed. If QEMU refuses, what was
    /// added is removed again, except the passed file. Returns the device's id.
    fn try_plug(
        &mut self,
        device: &Device,
        (bus, port): (&str, PortPath),
        passed: Option<&PassedFile>,
    ) -> Result<Result<String, CommandError>, Error> {
        let mut backend = arguments::backend(device);
        let mut properties = arguments::device(device, bus, port);
        if let Some(file) = passed {
            backend.iter_mut().for_each(|backend| file.use_in_backend(backend));
            file.use_in_device(&mut properties);
        }
        if let Some(backend) = &backend {
            if let Err(error) = self.add_backend(backend)? {
                return Ok(Err(error));
            }
        }
        let id = properties.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut added = self.session.execute("device_add", Value::Object(properties))?;
        if let (Ok(_), Some(drive)) = (&added, arguments::drive(device)) {
            added = self.add_drive(&id, drive)?;
        }
        match (added, &backend) {
            (Ok(_), _) => Ok(Ok(id)),
            (Err(error), Some(backend)) => {
                self.remove_own_backend(device, backend);
                Ok(Err(error))
            }
            (Err(error), None) => Ok(Err(error)),
        }
    }

    /// Adds the drive to the USB part `id`, which is attached only then: until it has a drive, a
    /// guest could not use it. If QEMU refuses the drive, the USB part is removed.
    fn add_drive(
        &mut self,
        id: &str,
        drive: Properties,
    ) -> Result<Result<Value, CommandError>, Error> {
        let attach = json!({"path": peripheral(id), "property": "attached", "value": true});
        let commands = [("device_add", Value::Object(drive)), ("qom-set", attach)];
        let answers = self.session.pipeline(&commands)?;
        let added = answers.into_iter().collect::<Result<Vec<Value>, CommandError>>();
        let Err(error) = added else { return Ok(Ok(Value::Null)) };
        self.remove_part(id)?;
        Ok(Err(error))
    }

    /// Removes what an interrupted command left of a device that takes several commands. The guest
    /// does not see it.
    fn remove_unfinished(&mut self, device: &Device) -> Result<(), Error> {
        let properties = arguments::device(device, "", PortPath::root(NonZeroU8::MIN));
        let id = properties.get("id").and_then(Value::as_str).unwrap_or_default();
        let attached = json!({"path": peripheral(id), "property": "attached"});
        match self.session.execute("qom-get", attached)? {
            Ok(Value::Bool(false)) => self.remove_part(id),
            _ => Ok(()),
        }
    }

    /// Removes a device that the guest does not see.
    fn remove_part(&mut self, id: &str) -> Result<(), Error> {
        let handle = Handle { qom_path: peripheral(id), bus: String::new(), id: id.to_owned() };
        let what = format!("removing {id}");
        self.request_removal(&handle, &what, Self::wait_for_event).map(drop)
    }

    pub(super) fn unplug(&mut self, at: Address, device: &Device) -> Result<(), Error> {
        let what = format!("unplugging {} ({})", device.name, device.kind);
        let Some(handle) = self.view.devices.get(&at).cloned() else { return Ok(()) };
        match self.request_removal(&handle, &what, Self::wait_for_event)? {
            Removal::Done => {}
            Removal::Refused => {
                return Err(Error::Failed { what, why: "the guest refused to release it".into() });
            }
            Removal::Unconfirmed => {
                let why = Reason::from("QEMU has not confirmed the removal")
                    .remedy(Remedy::ListDomain)
                    .remedy(Remedy::MoreTime);
                return Err(Error::TimedOut { what, limit: self.session.single_wait(), why });
            }
        }
        self.view.devices.remove(&at);
        // The back end of another tool's device is left to that tool.
        if parse_device_id(&handle.id).is_some() {
            if let Some(backend) = arguments::backend_to_remove(device) {
                self.remove_own_backend(device, &backend);
            }
        }
        self.take_back_file(&handle.id)
    }

    /// Removes the file of the device with this id from QEMU.
    fn take_back_file(&mut self, id: &str) -> Result<(), Error> {
        passed_files::take_back(&mut self.session, &mut self.passed, id)
    }

    /// Requests the removal of a device or controller and waits for its outcome.
    fn request_removal(
        &mut self,
        handle: &Handle,
        what: &str,
        wait: fn(&mut Qemu, &Handle) -> Result<Removal, Error>,
    ) -> Result<Removal, Error> {
        let target = handle.target().to_owned();
        if target.is_empty() {
            let why = "it has no id, and was not found in QEMU's object model".to_owned();
            return Err(Error::Failed { what: what.to_owned(), why: why.into() });
        }
        self.session.discard_events();
        match self.session.execute("device_del", json!({"id": target}))? {
            Ok(_) => {}
            Err(error) if error.class == ErrorClass::DeviceNotFound => return Ok(Removal::Done),
            // An earlier request is pending in the guest.
            Err(error) if error.desc.contains("already in the process of unplug") => {}
            Err(error) => return Err(self.refused(what.to_owned(), &error)),
        }
        wait(self, handle)
    }

    /// Waits for the event with the outcome of a device's removal. Until then, the device still
    /// uses its back end. On a shared monitor, events can be lost, so QEMU is polled too.
    fn wait_for_event(&mut self, handle: &Handle) -> Result<Removal, Error> {
        if self.session.is_shared() {
            return self.wait_for_removal(handle);
        }
        let limit = self.session.limit();
        Ok(self
            .session
            .wait_event(limit, |event| outcome(event, handle))?
            .unwrap_or(Removal::Unconfirmed))
    }

    /// Waits for the event with the outcome of a removal, or until the object is gone from QEMU's
    /// object model.
    ///
    /// For a controller, the event alone is not enough: QEMU sends DEVICE_DELETED when the last
    /// reference to a device is dropped. The two objects of an xHCI refer to each other (the `host`
    /// link in QEMU's `hcd-xhci-pci.c`), so for an xHCI it is never sent. Observed with version
    /// 7.2.
    fn wait_for_removal(&mut self, handle: &Handle) -> Result<Removal, Error> {
        let deadline = Deadline::after(self.session.limit());
        let mut interval = MIN_POLL_INTERVAL;
        loop {
            if let Some(removal) = self
                .session
                .wait_event(interval.min(deadline.remaining()), |event| outcome(event, handle))?
            {
                return Ok(removal);
            }
            let polled = self
                .session
                .execute("qom-get", json!({"path": handle.qom_path, "property": "type"}))?;
            if polled.is_err_and(|error| error.class == ErrorClass::DeviceNotFound) {
                return Ok(Removal::Done);
            }
            if deadline.is_over() {
                return Ok(Removal::Unconfirmed);
            }
            interval = (interval * 2).min(MAX_POLL_INTERVAL);
        }
    }

    /// The guest's run state, as [`why_not_running`] knows it.
    pub(super) fn guest_state(&mut self) -> Result<String, Error> {
        let answer = self.session.execute("query-status", json!({}))?.unwrap_or_default();
        Ok(answer.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned())
    }

    /// Adds the back end of a device. An existing one with the same name was left by an interrupted
    /// command and is replaced. If QEMU refuses to remove it, it is in use: the first refusal is
    /// returned.
    fn add_backend(&mut self, backend: &DeviceBackend) -> Result<Result<(), CommandError>, Error> {
        let (command, arguments) = match backend {
            DeviceBackend::Block(node) => ("blockdev-add", Value::Object(node.clone())),
            DeviceBackend::Chardev(id, data) => ("chardev-add", json!({"id": id, "backend": data})),
            DeviceBackend::Netdev(netdev) => ("netdev_add", Value::Object(netdev.clone())),
        };
        let first = self.session.execute(command, arguments.clone())?;
        let Err(error) = first else { return Ok(Ok(())) };
        if self.try_to_remove(backend)?.is_err() {
            return Ok(Err(error));
        }
        Ok(self.session.execute(command, arguments)?.map(drop))
    }

    /// Removes the back end of a device that is gone or was refused. If that fails, the outcome of
    /// the step stays the same: the next observation reports what is left, and the next device of
    /// that name replaces it.
    fn remove_own_backend(&mut self, device: &Device, backend: &DeviceBackend) {
        let why = match self.remove_backend(backend) {
            Ok(Ok(())) => return,
            Ok(Err(refusal)) => refusal.desc,
            Err(error) => error.to_string(),
        };
        self.left_behind.push(format!(
            "the back end of {} ({}) is still in QEMU and could not be removed: {why}",
            device.name, device.kind
        ));
    }

    /// Removes a back end, if it exists. QEMU refuses that while it is in use, and a device uses it
    /// until a moment after its removal. So this is retried until the limit of a wait.
    pub(super) fn remove_backend(
        &mut self,
        backend: &DeviceBackend,
    ) -> Result<Result<(), CommandError>, Error> {
        let deadline = Deadline::after(self.session.limit());
        let mut interval = MIN_POLL_INTERVAL;
        loop {
            match self.try_to_remove(backend)? {
                Err(error) if is_in_use(&error) && !deadline.is_over() => {}
                done => return Ok(done),
            }
            let pause = interval.min(deadline.remaining());
            self.session.wait_event(pause, |_| None::<()>)?;
            interval = (interval * 2).min(MAX_POLL_INTERVAL);
        }
    }

    /// Removes a back end, if it exists and is not in use.
    fn try_to_remove(
        &mut self,
        backend: &DeviceBackend,
    ) -> Result<Result<(), CommandError>, Error> {
        let (command, arguments) = removal(backend);
        Ok(match self.session.execute(command, arguments)? {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        })
    }

    /// The driver's error for QEMU's refusal of a device, with the cause if it can be found on this
    /// machine, and why vusb has not passed the file.
    fn refused_device(
        &mut self,
        what: String,
        device: &Device,
        error: &CommandError,
        not_passed: Option<String>,
    ) -> Error {
        let pid = self.session.peer().and_then(|pid| u32::try_from(pid).ok());
        let note = not_passed.map(|why| format!("; vusb has not passed the file: {why}"));
        let note = note.unwrap_or_default();
        let Some(cause) = refusal::cause(&Host::system(), pid, &device.kind, &error.desc) else {
            let desc = format!("{}{note}", error.desc);
            return self.refused(what, &CommandError { desc, ..error.clone() });
        };
        let with = |cause: &str| format!("{}; {cause}{note}", error.desc);
        match cause {
            Cause::Locked(cause) => {
                Error::Locked { what, why: format!("QEMU answered: {}", with(&cause)).into() }
            }
            Cause::Denied(cause) => {
                self.refused(what, &CommandError { desc: with(&cause), ..error.clone() })
            }
        }
    }

    /// The driver's error for QEMU's refusal of a command.
    pub(super) fn refused(&self, what: String, error: &CommandError) -> Error {
        // These mean that QEMU does not support the operation for this device:
        // `qdev_get_device_class` and `qdev_device_add_from_qdict` in its `qdev-monitor.c`.
        let cannot = [
            "expects a pluggable device type",
            "does not support hotplugging",
            "is not a valid device model name",
        ];
        if error.class == ErrorClass::CommandNotFound
            || cannot.iter().any(|text| error.desc.contains(text))
        {
            return Error::NotImplemented {
                what,
                by: self.description(),
                why: format!("it answered: {}", error.desc).into(),
            };
        }
        Error::Failed { what, why: format!("QEMU answered: {}", error.desc).into() }
    }
}

fn removing(controller: &Controller) -> String {
    format!("removing controller {} ({})", controller.name, controller.model)
}

/// Fails unless the guest is running: otherwise it cannot release a controller.
pub(super) fn require_running(controller: &Controller, state: &str) -> Result<(), Error> {
    let Some(why) = why_not_running(state) else { return Ok(()) };
    let why = format!("the guest has to release the PCI device, but {why}");
    Err(Error::Failed { what: removing(controller), why: why.into() })
}

/// The outcome of the removal, if the event is about it.
fn outcome(event: &Event, handle: &Handle) -> Option<Removal> {
    let is = |key: &str, value: &str| event.data.get(key).and_then(Value::as_str) == Some(value);
    let about = (!handle.id.is_empty() && is("device", &handle.id)) || is("path", &handle.qom_path);
    match event.name.as_str() {
        "DEVICE_DELETED" if about => Some(Removal::Done),
        "DEVICE_UNPLUG_GUEST_ERROR" if about => Some(Removal::Refused),
        _ => None,
    }
}

/// Whether QEMU refused to remove a back end because it does not exist: `qmp_blockdev_del`,
/// `qmp_chardev_remove`, `qmp_netdev_del`.
fn is_absent(error: &CommandError) -> bool {
    error.class == ErrorClass::DeviceNotFound
        || error.desc.starts_with("Failed to find node")
        || error.desc.ends_with("not found")
}

/// Whether QEMU refused to remove a back end because something still uses it: `Node 'a' is busy`,
/// `Block device a is in use`, `Chardev 'a' is busy`.
fn is_in_use(error: &CommandError) -> bool {
    ["is in use", "is busy"].iter().any(|text| error.desc.contains(text))
}

/// The command that removes a back end.
fn removal(backend: &DeviceBackend) -> (&'static str, Value) {
    let text =
        |properties: &Properties, key: &str| properties.get(key).cloned().unwrap_or_default();
    match backend {
        DeviceBackend::Block(node) => {
            ("blockdev-del", json!({"node-name": text(node, "node-name")}))
        }
        DeviceBackend::Chardev(id, _) => ("chardev-remove", json!({"id": id})),
        DeviceBackend::Netdev(netdev) => ("netdev_del", json!({"id": text(netdev, "id")})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU names a device by its id if it has one, and always by its path.
    #[test]
    fn an_event_is_about_one_device() {
        let handle = |id: &str| Handle {
            id: id.to_owned(),
            qom_path: "/machine/peripheral/x".to_owned(),
            bus: String::new(),
        };
        let event =
            |name: &str, data: Value| Event { name: name.to_owned(), data, timestamp: None };
        let deleted = |data: Value| event("DEVICE_DELETED", data);
        let by_path = json!({"path": "/machine/peripheral/x"});
        assert_eq!(
            outcome(&deleted(json!({"device": "x", "path": "/other"})), &handle("x")),
            Some(Removal::Done)
        );
        assert_eq!(outcome(&deleted(by_path.clone()), &handle("")), Some(Removal::Done));
        assert_eq!(outcome(&deleted(json!({"device": "", "path": "/other"})), &handle("")), None);
        assert_eq!(outcome(&deleted(json!({"device": "y", "path": "/other"})), &handle("x")), None);
        let refused = event("DEVICE_UNPLUG_GUEST_ERROR", by_path.clone());
        assert_eq!(outcome(&refused, &handle("x")), Some(Removal::Refused));
        let refused = event("DEVICE_UNPLUG_GUEST_ERROR", json!({"path": "/other"}));
        assert_eq!(outcome(&refused, &handle("x")), None);
        assert_eq!(outcome(&event("RESUME", by_path), &handle("x")), None);
    }

    /// The texts of QEMU 7.2 and 10.0.
    #[test]
    fn refusals_to_remove_a_back_end_are_told_apart() {
        let error = |desc: &str| CommandError {
            command: "blockdev-del".to_owned(),
            class: ErrorClass::GenericError,
            desc: desc.to_owned(),
        };
        for desc in ["Failed to find node with node-name='vusb-a'", "Chardev 'vusb-a' not found"] {
            assert!(is_absent(&error(desc)) && !is_in_use(&error(desc)), "{desc}");
        }
        for desc in ["Block device vusb-a is in use", "Chardev 'vusb-a' is busy"] {
            assert!(is_in_use(&error(desc)) && !is_absent(&error(desc)), "{desc}");
        }
    }

    #[test]
    fn each_back_end_has_a_command_that_removes_it() {
        let properties = |value: Value| value.as_object().cloned().unwrap();
        let block =
            DeviceBackend::Block(properties(json!({"node-name": "vusb-a", "driver": "raw"})));
        assert_eq!(removal(&block), ("blockdev-del", json!({"node-name": "vusb-a"})));
        let chardev = DeviceBackend::Chardev("vusb-a".to_owned(), json!({"type": "pty"}));
        assert_eq!(removal(&chardev), ("chardev-remove", json!({"id": "vusb-a"})));
        let netdev = DeviceBackend::Netdev(properties(json!({"id": "vusb-a", "type": "user"})));
        assert_eq!(removal(&netdev), ("netdev_del", json!({"id": "vusb-a"})));
    }
}
