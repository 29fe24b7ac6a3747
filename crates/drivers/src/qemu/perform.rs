//! Taking one step on a running QEMU.
//!
//! ```text
//! plug:    back end made ──▶ device_add ──▶ done
//!              │ it was there, left by a command that was cut off: removed and made again
//!              └─ device_add refused: the back end is removed again
//! unplug:  device_del ──▶ DEVICE_DELETED, or no longer there ──▶ our own back end removed ──▶ done
//! remove a controller: the same, but the guest has to let go of the PCI device, and may not
//! ```

use std::time::Duration;

use serde_json::{Value, json};
use vusb_model::address::Address;
use vusb_model::hardware::{Controller, Device};
use vusb_qmp::{CommandError, Deadline, ErrorClass, Event};

use super::Qemu;
use super::arguments::{self, Backend, Properties};
use super::assemble::Handle;
use super::names::own_device;
use super::scan::peripheral;
use crate::driver::Error;

/// How long to wait for an event before the first look at what is there, and between the last ones: short against what a
/// guest takes to let go of a PCI device (0.1 s to some seconds), long against what a look costs (0.1 ms).
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_millis(320);

/// How a removal ended.
enum Gone {
    Yes,
    /// The guest said no.
    Refused,
    /// Nothing was heard in time.
    Silent,
}

impl Qemu {
    pub(super) fn add_controller(&mut self, controller: &Controller) -> Result<(), Error> {
        let what = || format!("adding controller {} ({})", controller.name, controller.model);
        let Some(mut properties) = arguments::controller(controller) else {
            let why = "it has no such controller".to_owned();
            return Err(Error::NotImplemented { what: what(), by: self.who(), why });
        };
        let place = match &controller.pci {
            Some(pci) => self.places.iter().position(|place| place.bus == pci.bus),
            None => self.places.iter().position(|place| place.free > 0),
        };
        let place = place.and_then(|number| self.places.get_mut(number));
        if let (None, Some(place)) = (&controller.pci, place.as_deref()) {
            properties.insert("bus".to_owned(), place.bus.clone().into());
        }
        let id = properties.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let added = self.session.execute("device_add", Value::Object(properties))?;
        added.map_err(|error| self.refused(what(), &error))?;
        let bus = controller.pci.as_ref().map(|pci| pci.bus.as_str());
        let mut places = self
            .places
            .iter_mut()
            .filter(|place| bus.is_none_or(|bus| bus == place.bus) && place.free > 0);
        if let Some(place) = places.next() {
            place.free -= 1;
        }
        let handle = Handle { path: peripheral(&id), bus: format!("{id}.0"), id };
        self.view.controllers.insert(controller.index, handle);
        Ok(())
    }

    pub(super) fn remove_controller(&mut self, controller: &Controller) -> Result<(), Error> {
        let what = removing(controller);
        let Some(handle) = self.view.controllers.get(&controller.index).cloned() else {
            return Ok(());
        };
        can_let_go(controller, &self.guest_state()?)?;
        match self.delete(&handle, &what, Self::wait_gone)? {
            Gone::Yes => {
                self.view.controllers.remove(&controller.index);
                Ok(())
            }
            Gone::Refused => Err(Error::Failed { what, why: "the guest refused to let go of it".to_owned() }),
            Gone::Silent => Err(Error::TimedOut {
                what,
                limit: self.session.limit(),
                why: "the guest has not let go of the PCI device: it may not be up yet, or its system may not support removal. It may still do so; \
                      look again with `vusb list`, or try with a longer --timeout"
                    .to_owned(),
            }),
        }
    }

    pub(super) fn plug(&mut self, at: Address, device: &Device) -> Result<(), Error> {
        let what = || format!("plugging in {} ({})", device.name, device.kind);
        let Some(bus) = self.view.controllers.get(&at.bus).map(|handle| handle.bus.clone()) else {
            return Err(Error::Missing {
                what: format!("controller {}", at.bus),
                why: "it has gone".to_owned(),
            });
        };
        let backend = arguments::backend(device);
        if let Some(backend) = &backend {
            self.make_backend(backend)
                .and_then(|made| made.map_err(|error| self.refused(what(), &error)))?;
        }
        let properties = arguments::device(device, &bus, at.port);
        let id = properties.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let added = self.session.execute("device_add", Value::Object(properties))?;
        if let Err(error) = added {
            if let Some(backend) = &backend {
                self.remove_backend(backend);
            }
            return Err(self.refused(what(), &error));
        }
        let handle = Handle { path: peripheral(&id), bus: String::new(), id };
        self.view.devices.insert(at, handle);
        Ok(())
    }

    pub(super) fn unplug(&mut self, at: Address, device: &Device) -> Result<(), Error> {
        let what = format!("unplugging {} ({})", device.name, device.kind);
        let Some(handle) = self.view.devices.get(&at).cloned() else { return Ok(()) };
        match self.delete(&handle, &what, Self::wait_deleted)? {
            Gone::Yes => {}
            Gone::Refused => {
                return Err(Error::Failed {
                    what,
                    why: "the guest refused to let go of it".to_owned(),
                });
            }
            Gone::Silent => {
                let why =
                    "QEMU has not said that it is gone; look again with `vusb list`".to_owned();
                return Err(Error::TimedOut { what, limit: self.session.limit(), why });
            }
        }
        self.view.devices.remove(&at);
        // What another tool made behind its device is that tool's to remove.
        if own_device(&handle.id).is_some()
            && let Some(backend) = arguments::left_behind(device)
        {
            self.remove_backend(&backend);
        }
        Ok(())
    }

    /// Asks for the removal of a thing and waits for its end.
    fn delete(
        &mut self,
        handle: &Handle,
        what: &str,
        wait: fn(&mut Qemu, &Handle) -> Result<Gone, Error>,
    ) -> Result<Gone, Error> {
        let target = handle.target().to_owned();
        if target.is_empty() {
            let why = "QEMU has no id for it, and no place that could be found".to_owned();
            return Err(Error::Failed { what: what.to_owned(), why });
        }
        self.session.forget_events();
        match self.session.execute("device_del", json!({"id": target}))? {
            Ok(_) => {}
            Err(error) if error.class == ErrorClass::DeviceNotFound => return Ok(Gone::Yes),
            // Somebody asked before, and the guest has not answered yet.
            Err(error) if error.desc.contains("already in the process of unplug") => {}
            Err(error) => return Err(self.refused(what.to_owned(), &error)),
        }
        wait(self, handle)
    }

    /// Waits for the event that says how the removal of a device ended. Before it comes, the device still holds on to what is
    /// behind it.
    fn wait_deleted(&mut self, handle: &Handle) -> Result<Gone, Error> {
        let limit = self.session.limit();
        Ok(self.session.wait_event(limit, |event| ended(event, handle))?.unwrap_or(Gone::Silent))
    }

    /// Waits for the event that says how the removal of a controller ended, or for the controller to be gone from QEMU's object
    /// model.
    ///
    /// The event alone will not do here: QEMU sends DEVICE_DELETED when the last reference to a device goes, and the two halves of
    /// an xHCI refer to each other (the `host` link in its `hcd-xhci-pci.c`), so that for an xHCI it is never sent. Seen with
    /// version 7.2.
    fn wait_gone(&mut self, handle: &Handle) -> Result<Gone, Error> {
        let deadline = Deadline::after(self.session.limit());
        let mut pause = FIRST_LOOK;
        loop {
            if let Some(gone) = self
                .session
                .wait_event(pause.min(deadline.remaining()), |event| ended(event, handle))?
            {
                return Ok(gone);
            }
            let looked = self
                .session
                .execute("qom-get", json!({"path": handle.path, "property": "type"}))?;
            if looked.is_err_and(|error| error.class == ErrorClass::DeviceNotFound) {
                return Ok(Gone::Yes);
            }
            if deadline.is_over() {
                return Ok(Gone::Silent);
            }
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// `running`, `paused`, `prelaunch`, ...
    pub(super) fn guest_state(&mut self) -> Result<String, Error> {
        let answer = self.session.execute("query-status", json!({}))?.unwrap_or_default();
        Ok(answer.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned())
    }

    /// Makes what is behind a device. One of that name that is there already was left by a command that was cut off, unless
    /// something uses it.
    fn make_backend(&mut self, backend: &Backend) -> Result<Result<(), CommandError>, Error> {
        let (command, arguments) = match backend {
            Backend::Block(node) => ("blockdev-add", Value::Object(node.clone())),
            Backend::Chardev(id, data) => ("chardev-add", json!({"id": id, "backend": data})),
            Backend::Netdev(netdev) => ("netdev_add", Value::Object(netdev.clone())),
        };
        let first = self.session.execute(command, arguments.clone())?;
        let Err(error) = first else { return Ok(Ok(())) };
        let (delete, target) = removal(backend);
        if self.session.execute(delete, target)?.is_err() {
            return Ok(Err(error));
        }
        Ok(self.session.execute(command, arguments)?.map(drop))
    }

    /// Removes what is behind a device. What cannot be removed is left: the next device of that name finds and removes it.
    fn remove_backend(&mut self, backend: &Backend) {
        let (command, arguments) = removal(backend);
        if let Ok(Err(error)) = self.session.execute(command, arguments) {
            tracing::warn!(%error, "a back end is left behind");
        }
    }

    /// What QEMU's refusal of a command means.
    fn refused(&self, what: String, error: &CommandError) -> Error {
        // Both say that QEMU knows the thing and does not do this with it: `qdev-monitor.c`, `qdev_get_device_class` and
        // `qdev_device_add_from_qdict`.
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
                by: self.who(),
                why: format!("it answers: {}", error.desc),
            };
        }
        Error::Failed { what, why: format!("QEMU answers: {}", error.desc) }
    }
}

fn removing(controller: &Controller) -> String {
    format!("removing controller {} ({})", controller.name, controller.model)
}

/// Whether a guest in this state (`running`, `paused`, ...) can let go of a controller.
pub(super) fn can_let_go(controller: &Controller, state: &str) -> Result<(), Error> {
    if state == "running" {
        return Ok(());
    }
    let why = format!(
        "the guest has to let go of a PCI device, and it is not running (QEMU says `{state}`); let it run and try again"
    );
    Err(Error::Failed { what: removing(controller), why })
}

/// Whether an event says how the removal of a thing ended.
fn ended(event: &Event, handle: &Handle) -> Option<Gone> {
    let is = |key: &str, value: &str| event.data.get(key).and_then(Value::as_str) == Some(value);
    let about = (!handle.id.is_empty() && is("device", &handle.id)) || is("path", &handle.path);
    match event.name.as_str() {
        "DEVICE_DELETED" if about => Some(Gone::Yes),
        "DEVICE_UNPLUG_GUEST_ERROR" if about => Some(Gone::Refused),
        _ => None,
    }
}

/// The command that removes what is behind a device.
fn removal(backend: &Backend) -> (&'static str, Value) {
    let text =
        |properties: &Properties, key: &str| properties.get(key).cloned().unwrap_or_default();
    match backend {
        Backend::Block(node) => ("blockdev-del", json!({"node-name": text(node, "node-name")})),
        Backend::Chardev(id, _) => ("chardev-remove", json!({"id": id})),
        Backend::Netdev(netdev) => ("netdev_del", json!({"id": text(netdev, "id")})),
    }
}
