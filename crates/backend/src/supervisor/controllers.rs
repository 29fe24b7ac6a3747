//! The supervisor's actions on one controller: evaluates its nodes in xenstore, starts and stops
//! its thread, and writes its state, port status, counters and errors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use vusb_usbif::Port;
use vusb_xen::State;
use vusb_xen::store::{self, Nodes};
use vusb_xen::usb::{BackendKind, ControllerConfig, ControllerId, Key, PortStatus};

use super::{Error, Supervisor};
use crate::controller::{Command, Controller, Report, Start};
use crate::device_jobs::{self, JobRunner};
use crate::nodes;
use crate::penalty::Penalty;
use crate::phase::{self, Action, BackendNodes, Phase, XenbusView};

/// A guest that released its controller may reconnect after this time: each connection costs a
/// thread and some lines in the log.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);
/// How many times a change of a controller's nodes is attempted. The guest cannot write to them, so
/// conflicts are rare; while they last, the other controllers wait.
const ATTEMPTS: u32 = 16;
/// The longest text that is written to a node, in bytes. xenstored's limit for a value is 2,048 by
/// default (`quota_max_entry_size`), and for a whole message 4,096.
const MAX_TEXT: usize = 1024;

/// A controller that has nodes in xenstore.
#[derive(Debug)]
pub(super) struct ControllerEntry {
    pub(super) phase: Phase,
    /// Which of this controller's threads is the current one. Reports of earlier ones are ignored.
    pub(super) generation: u64,
    pub(super) thread: Option<Controller>,
    /// Whether the guest's state is watched.
    watched: bool,
    config: Option<ControllerConfig>,
    /// The port status that was reported, and should be in xenstore.
    status: BTreeMap<Port, PortStatus>,
    /// Ports whose status could not be written.
    missing_status: BTreeSet<Port>,
    stats: String,
    penalty: Penalty,
    /// Why the controller was ended, until its nodes say that it is closed.
    failure: Option<String>,
    /// The guest may not connect again before this time, and nodes that failed are not accessed.
    pub(super) not_before: Instant,
}

impl ControllerEntry {
    fn new() -> ControllerEntry {
        ControllerEntry {
            phase: Phase::Idle,
            generation: 0,
            thread: None,
            watched: false,
            config: None,
            status: BTreeMap::new(),
            missing_status: BTreeSet::new(),
            stats: String::new(),
            penalty: Penalty::default(),
            failure: None,
            not_before: Instant::now(),
        }
    }

    /// Whether it may be evaluated now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let waits = self.phase == Phase::Idle || self.failure.is_some();
        !waits || self.not_before <= now
    }

    /// Whether it has counters or a status to write.
    pub(super) fn has_periodic_work(&self) -> bool {
        self.thread.is_some() || !self.missing_status.is_empty()
    }

    /// Counts a failure, and sets how long the controller has to wait.
    fn penalize(&mut self) {
        let now = Instant::now();
        self.not_before = now + self.penalty.add(now);
    }
}

impl Supervisor {
    /// Ends a controller whose nodes cannot be read or written. The nodes are tried again later,
    /// and the guest can then connect again. Only the loss of the connection is an error.
    pub(super) fn contain(
        &mut self,
        id: ControllerId,
        result: Result<(), store::Error>,
    ) -> Result<(), Error> {
        let Err(failure) = result else { return Ok(()) };
        if failure.is_connection_lost() {
            return Err(failure.into());
        }
        let why = failure.to_string();
        let entry = self.controllers.entry(id).or_insert_with(ControllerEntry::new);
        entry.penalize();
        if entry.failure.as_ref() != Some(&why) {
            error!("{id}: ended: {why}");
            entry.failure = Some(why.clone());
        }
        match &entry.thread {
            Some(thread) => {
                entry.phase = Phase::Stopping;
                thread.send(Command::Stop);
            }
            None => entry.phase = Phase::Idle,
        }
        self.dirty.insert(id);
        match self.close_with_error(id, &why) {
            Err(lost) if lost.is_connection_lost() => Err(lost.into()),
            // The next evaluation tries again.
            _ => Ok(()),
        }
    }

    /// Reads the state of a controller, and takes the action that [`phase`] decides on.
    pub(super) fn evaluate(&mut self, id: ControllerId) -> Result<(), store::Error> {
        let folder = id.backend(self.resources.us, BackendKind::Vusb);
        let store = &mut self.resources.store;
        let online = nodes::text(store, &folder.node(Key::Online))?;
        let state = nodes::state(store, &folder)?;
        let backend =
            online.zip(state).map(|(online, state)| BackendNodes { online: online == "1", state });
        if backend.is_some() {
            self.add_controller(id)?;
        }
        let view = XenbusView {
            backend,
            frontend: nodes::state(&mut self.resources.store, &id.frontend())?,
        };
        let phase = self.controllers.get(&id).map_or(Phase::Idle, |it| it.phase);
        let action = phase::next(phase, view);
        self.act(id, action)?;
        let Some(entry) = self.controllers.get_mut(&id) else { return Ok(()) };
        if entry.phase != Phase::Stopping {
            entry.failure = None;
        }
        if entry.phase == Phase::Running && action == Action::Nothing {
            self.update_devices(id)?;
        }
        Ok(())
    }

    /// Adds a controller, unless it is known, and watches its guest's state.
    fn add_controller(&mut self, id: ControllerId) -> Result<(), store::Error> {
        let entry = self.controllers.entry(id).or_insert_with(ControllerEntry::new);
        if entry.watched {
            return Ok(());
        }
        let token = format!("{}/{}", id.guest, id.devid);
        nodes::watch(&mut self.resources.store, &id.frontend().node(Key::State), &token)?;
        entry.watched = true;
        Ok(())
    }

    fn act(&mut self, id: ControllerId, action: Action) -> Result<(), store::Error> {
        match action {
            Action::Nothing => Ok(()),
            Action::AlreadyAdvertised => {
                self.set_phase(id, Phase::Waiting);
                // The guest may have changed its state before the watch was set up.
                self.dirty.insert(id);
                Ok(())
            }
            Action::Advertise => self.advertise(id),
            Action::Connect => self.connect(id),
            Action::Stop => {
                self.set_phase(id, Phase::Stopping);
                if let Some(thread) = self.controllers.get(&id).and_then(|it| it.thread.as_ref()) {
                    thread.send(Command::Stop);
                }
                Ok(())
            }
            Action::CloseStale => self.close_stale(id),
            Action::WriteClosed => {
                self.set_phase(id, Phase::Idle);
                self.put(id, Key::State, Some(&State::Closed.to_string()))
            }
            Action::Forget => self.remove_controller(id),
        }
    }

    fn set_phase(&mut self, id: ControllerId, phase: Phase) {
        if let Some(entry) = self.controllers.get_mut(&id) {
            entry.phase = phase;
        }
    }

    /// Reads the configuration of the controller. `None` if it cannot be served; the reason is then
    /// in xenstore.
    fn read_config(&mut self, id: ControllerId) -> Result<Option<ControllerConfig>, store::Error> {
        match nodes::config(
            &mut self.resources.store,
            &id.backend(self.resources.us, BackendKind::Vusb),
        )? {
            Ok(config) => Ok(Some(config)),
            Err(bad) => {
                warn!("{id}: {bad}");
                self.put(id, Key::Error, Some(&bad.to_string()))?;
                Ok(None)
            }
        }
    }

    fn advertise(&mut self, id: ControllerId) -> Result<(), store::Error> {
        if self.read_config(id)?.is_none() {
            return Ok(());
        }
        self.set_phase(id, Phase::Waiting);
        self.put(id, Key::Error, None)?;
        self.put(id, Key::State, Some(&State::InitWait.to_string()))?;
        self.dirty.insert(id);
        Ok(())
    }

    fn connect(&mut self, id: ControllerId) -> Result<(), store::Error> {
        let Some(config) = self.read_config(id)? else { return Ok(()) };
        let frontend = id.frontend();
        let Some(rings) = nodes::rings(&mut self.resources.store, &frontend)? else {
            return self.drop_controller(
                id,
                "the guest is connected, but has published no usable ring references",
            );
        };
        self.last_generation += 1;
        let start = Start {
            id,
            generation: self.last_generation,
            rings,
            ports: config.ports,
            devices: config.requested.clone(),
            grants: self.resources.grants.clone(),
            jobs: JobRunner { version: config.usb_version, ..self.resources.jobs.clone() },
            polling: self.resources.polling,
            reports: self.reports.clone(),
        };
        let thread = match Controller::start(start) {
            Ok(thread) => thread,
            Err(error) => {
                return self.drop_controller(id, &format!("cannot start a thread: {error}"));
            }
        };
        let generation = self.last_generation;
        if let Some(entry) = self.controllers.get_mut(&id) {
            entry.phase = Phase::Running;
            entry.generation = generation;
            entry.thread = Some(thread);
        }
        self.set_config(id, config)
    }

    /// Stores a configuration, and reports the ports whose nodes are invalid.
    fn set_config(
        &mut self,
        id: ControllerId,
        config: ControllerConfig,
    ) -> Result<(), store::Error> {
        let invalid = config.invalid.clone();
        if let Some(entry) = self.controllers.get_mut(&id) {
            entry.config = Some(config);
        }
        for (port, why) in invalid {
            if let Ok(port) = Port::new(port) {
                self.write_status(id, port, Some(PortStatus::Refused(why)))?;
            }
        }
        Ok(())
    }

    /// Passes a change of the requested devices on to the thread.
    fn update_devices(&mut self, id: ControllerId) -> Result<(), store::Error> {
        let Ok(config) = nodes::config(
            &mut self.resources.store,
            &id.backend(self.resources.us, BackendKind::Vusb),
        )?
        else {
            return Ok(());
        };
        let Some(entry) = self.controllers.get_mut(&id) else { return Ok(()) };
        let Some(old) = entry.config.clone().filter(|old| *old != config) else { return Ok(()) };
        if let Some(thread) = &entry.thread {
            thread.send(Command::SetDevices(config.requested.clone()));
        }
        // The thread never heard of a port whose nodes were invalid, so it does not report that the
        // port is empty now.
        let emptied = old
            .invalid
            .keys()
            .filter(|it| !config.invalid.contains_key(it) && !config.requested.contains_key(it));
        for port in emptied {
            if let Ok(port) = Port::new(*port) {
                self.write_status(id, port, None)?;
            }
        }
        self.set_config(id, config)
    }

    /// Closes a controller that a killed backend left behind. Its devices have no drivers, and its
    /// ring cannot be resumed: it is unknown which requests were answered.
    fn close_stale(&mut self, id: ControllerId) -> Result<(), store::Error> {
        // This process served it, but could not write that it ended.
        if let Some(failure) = self.controllers.get(&id).and_then(|it| it.failure.clone()) {
            return self.close_with_error(id, &failure);
        }
        let why = "the backend was restarted while the guest was connected";
        warn!("{id}: {why}");
        if let Some(config) = self.read_config(id)? {
            let jobs = JobRunner { version: config.usb_version, ..self.resources.jobs.clone() };
            let reconnect = move || {
                config
                    .requested
                    .values()
                    .for_each(|requested| device_jobs::reconnect_drivers(&jobs, requested));
            };
            let spawned = std::thread::Builder::new().name("reconnect".to_owned()).spawn(reconnect);
            if let Err(error) = spawned {
                warn!("{id}: its devices stay without drivers: cannot start a thread: {error}");
            }
        }
        for port in 1..=Port::MAX.number() {
            self.put(id, Key::Status(port), None)?;
        }
        self.close_with_error(id, why)
    }

    /// Writes why the controller is unusable, and asks the guest to release it.
    pub(super) fn close_with_error(
        &mut self,
        id: ControllerId,
        why: &str,
    ) -> Result<(), store::Error> {
        self.put(id, Key::Error, Some(why))?;
        self.put(id, Key::State, Some(&State::Closing.to_string()))
    }

    /// Closes a controller because the guest broke the protocol, or because it cannot be served.
    fn drop_controller(&mut self, id: ControllerId, why: &str) -> Result<(), store::Error> {
        error!("{id}: dropped: {why}");
        if let Some(entry) = self.controllers.get_mut(&id) {
            entry.phase = Phase::Idle;
            entry.penalize();
        }
        self.close_with_error(id, why)?;
        self.dirty.insert(id);
        Ok(())
    }

    fn remove_controller(&mut self, id: ControllerId) -> Result<(), store::Error> {
        if self.controllers.remove(&id).is_some() {
            let token = format!("{}/{}", id.guest, id.devid);
            match self.resources.store.unwatch(&id.frontend().node(Key::State), &token) {
                Err(error) if error.is_connection_lost() => return Err(error),
                Err(error) if !matches!(error, store::Error::NotFound { .. }) => {
                    warn!("{id}: its watch stays: {error}");
                }
                _ => {}
            }
            info!("{id}: gone");
        }
        Ok(())
    }

    /// Handles a report of a controller's thread, unless the thread has been replaced since.
    pub(super) fn handle_report(
        &mut self,
        id: ControllerId,
        generation: u64,
        report: Report,
    ) -> Result<(), store::Error> {
        if self.controllers.get(&id).is_none_or(|it| it.generation != generation) {
            return Ok(());
        }
        match report {
            Report::Connected => {
                info!("{id}: connected");
                self.put(id, Key::State, Some(&State::Connected.to_string()))?;
            }
            Report::Port(port, status) => self.write_status(id, port, status)?,
            Report::Ended(why) => self.thread_ended(id, why)?,
        }
        Ok(())
    }

    /// A thread has ended: because it was asked to, because the guest broke the protocol or
    /// released the controller while requests were in flight, or because of an error of this
    /// machine.
    fn thread_ended(&mut self, id: ControllerId, why: Option<String>) -> Result<(), store::Error> {
        let Some(entry) = self.controllers.get_mut(&id) else { return Ok(()) };
        entry.thread = None;
        entry.config = None;
        entry.status.clear();
        entry.not_before = Instant::now() + RECONNECT_DELAY;
        let requested = entry.phase == Phase::Stopping;
        let failure = entry.failure.clone();
        entry.phase = Phase::Idle;
        let frontend = nodes::state(&mut self.resources.store, &id.frontend())?;
        let connected = matches!(frontend, Some(State::Initialised | State::Connected));
        match why {
            // A guest that is closing may revoke its grants before it writes its new state. The
            // resulting error is not a protocol violation.
            Some(why) if !requested && connected => return self.drop_controller(id, &why),
            // Its nodes could not be accessed, so the guest may not have been asked to release it.
            _ if connected && failure.is_some() => {
                self.dirty.insert(id);
                return self.close_with_error(id, &failure.unwrap_or_default());
            }
            _ => info!("{id}: closed"),
        }
        self.put(id, Key::Stats, None)?;
        self.put(id, Key::State, Some(&phase::state_after_stop(frontend).to_string()))?;
        self.dirty.insert(id);
        Ok(())
    }

    fn write_status(
        &mut self,
        id: ControllerId,
        port: Port,
        status: Option<PortStatus>,
    ) -> Result<(), store::Error> {
        let Some(entry) = self.controllers.get_mut(&id) else { return Ok(()) };
        let changed = match &status {
            Some(status) => entry.status.insert(port, status.clone()).as_ref() != Some(status),
            None => {
                entry.status.remove(&port);
                true
            }
        };
        if !changed {
            return Ok(());
        }
        let shown = status.map(|it| it.to_string());
        info!("{id}, port {port}: {}", shown.as_deref().unwrap_or("empty"));
        self.put_status(id, port)
    }

    /// Writes the status of a port. If that fails, it is retried later: the controller goes on.
    fn put_status(&mut self, id: ControllerId, port: Port) -> Result<(), store::Error> {
        let status = self.controllers.get(&id).and_then(|it| it.status.get(&port));
        let status = status.map(ToString::to_string);
        let written = self.put(id, Key::Status(port.number()), status.as_deref());
        let Some(entry) = self.controllers.get_mut(&id) else { return written };
        match written {
            Err(error) if error.is_connection_lost() => return Err(error),
            Err(error) => {
                if entry.missing_status.insert(port) {
                    warn!("{id}, port {port}: the status cannot be written: {error}");
                }
            }
            Ok(()) => drop(entry.missing_status.remove(&port)),
        }
        Ok(())
    }

    /// Writes the status of ports whose status could not be written earlier.
    pub(super) fn write_missing_status(&mut self) -> Result<(), store::Error> {
        let missing = self
            .controllers
            .iter()
            .flat_map(|(id, entry)| entry.missing_status.iter().map(|port| (*id, *port)));
        let missing: Vec<(ControllerId, Port)> = missing.collect();
        missing.into_iter().try_for_each(|(id, port)| self.put_status(id, port))
    }

    /// Writes the counters that have changed.
    pub(super) fn write_stats(&mut self) -> Result<(), store::Error> {
        let mut changed = Vec::new();
        for (id, entry) in &mut self.controllers {
            let Some(thread) = &entry.thread else { continue };
            let text = thread.counters.to_string();
            if text != entry.stats {
                entry.stats.clone_from(&text);
                changed.push((*id, text));
            }
        }
        for (id, text) in changed {
            match self.put(id, Key::Stats, Some(&text)) {
                Err(error) if error.is_connection_lost() => return Err(error),
                Err(error) => debug!("{id}: the counters cannot be written: {error}"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Writes or removes (`None`) a node of a controller, unless the controller has been removed:
    /// writing would then recreate a part of it.
    fn put(&mut self, id: ControllerId, key: Key, value: Option<&str>) -> Result<(), store::Error> {
        let folder = id.backend(self.resources.us, BackendKind::Vusb);
        let value = value.map(|it| cut(it, MAX_TEXT));
        self.resources.store.transaction_with(ATTEMPTS, |tx| {
            if !tx.exists(&folder.node(Key::Frontend))? {
                return Ok(());
            }
            match value {
                Some(value) => tx.write(&folder.node(key), value),
                None => tx.remove(&folder.node(key)),
            }
        })
    }
}

/// The start of a text, of at most that many bytes.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 0), "");
        assert_eq!(cut("", 9), "");
    }
}
