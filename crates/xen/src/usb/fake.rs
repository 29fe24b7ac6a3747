//! A simulated Xen machine, **for tests** of this and other crates (feature `fake`): a xenstored,
//! vusb-backends, and the PVUSB drivers of guests.
//!
//! One thread plays all backends and drivers. It reacts to the nodes as they do, unless its
//! [`Behaviour`] is changed. Like the real backend, it writes to a node only while its controller
//! exists.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{
    BackendKind, ControllerId, ExportedDevice, Key, LAYOUT_VERSION, MAX_PORTS, announcement,
    backend_root, domain, domain_name, domain_type, exported_device,
};
use crate::State;
use crate::domain::DomId;
use crate::store::fake::Xenstored;
use crate::store::{Error, Nodes, Store};

/// The interval at which the simulation looks at the tree.
const INTERVAL: Duration = Duration::from_millis(2);

/// What backends and guests do.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Whether backends run. A stopped one neither answers a ping nor touches a controller.
    pub backend_runs: bool,
    /// Whether backends accept new controllers.
    pub accepts: bool,
    /// Whether backends connect after the guest has.
    pub backend_connects: bool,
    /// If set, backends drop each controller at once, with this reason; empty for none.
    pub drops: Option<String>,
    /// The status that each port with a device reaches; empty for none.
    pub port_status: String,
    /// Whether backends return devices to their drivers.
    pub returns_devices: bool,
    /// Whether guests connect to new controllers.
    pub guest_connects: bool,
    /// Whether guests release controllers that are being removed.
    pub guest_releases: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            backend_runs: true,
            accepts: true,
            backend_connects: true,
            drops: None,
            port_status: "configured".to_owned(),
            returns_devices: true,
            guest_connects: true,
            guest_releases: true,
        }
    }
}

/// A simulated machine. It runs until it is dropped.
#[derive(Debug)]
pub struct Machine {
    xenstored: Arc<Xenstored>,
    behaviour: Arc<Mutex<Behaviour>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    /// Starts a machine with domain 0, in which a vusb-backend runs.
    #[must_use]
    pub fn start() -> Self {
        let xenstored = Arc::new(Xenstored::start());
        let behaviour = Arc::new(Mutex::new(Behaviour::default()));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (xenstored, behaviour, ended) =
                (Arc::clone(&xenstored), Arc::clone(&behaviour), Arc::clone(&ended));
            move || {
                let mut store = xenstored.client();
                while !ended.load(Ordering::Relaxed) {
                    let behaviour = lock(&behaviour).clone();
                    if react(&xenstored, &mut store, &behaviour).is_err() {
                        // A test may close all connections.
                        store = xenstored.client();
                    }
                    std::thread::sleep(INTERVAL);
                }
            }
        });
        xenstored.write(&domain_name(DomId::ZERO), "Domain-0");
        let machine = Self { xenstored, behaviour, ended, thread: Some(thread) };
        machine.announce_backend(DomId::ZERO);
        machine
    }

    /// Its xenstored.
    #[must_use]
    pub fn xenstored(&self) -> &Xenstored {
        &self.xenstored
    }

    /// How backends and guests behave from now on.
    pub fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        lock(&self.behaviour)
    }

    /// Creates a guest with the nodes that libxl makes; `kind` is libxl's type, such as `pv`.
    pub fn add_guest(&self, id: DomId, name: &str, kind: &str) {
        self.xenstored.write(&domain_name(id), name);
        self.xenstored.write(&format!("{}/device/suspend/event-channel", domain(id)), "");
        self.xenstored.write(&domain_type(id), kind);
        self.xenstored.write(&format!("/libxl/{id}/device/console/0/type"), "xenconsoled");
        self.xenstored.write(&format!("/local/domain/0/backend/console/{id}/0/state"), "1");
    }

    /// Deletes the nodes of a guest, as libxl does, except those in backend domains other than 0.
    pub fn destroy_guest(&self, id: DomId) {
        for path in [
            domain(id),
            format!("/libxl/{id}"),
            format!("/local/domain/0/backend/console/{id}"),
            format!("{}/{id}", backend_root(DomId::ZERO)),
        ] {
            self.xenstored.remove(&path);
        }
    }

    /// Announces a vusb-backend in a domain.
    pub fn announce_backend(&self, id: DomId) {
        self.xenstored.write(&announcement(id).node(Key::Version), LAYOUT_VERSION);
    }

    /// Lists a device as exported by the vusb-backend of a domain.
    pub fn export(&self, backend: DomId, device: &ExportedDevice) {
        let folder = exported_device(backend, &device.bus_id);
        for (key, value) in device.entries() {
            self.xenstored.write(&folder.node(key), &value);
        }
    }

    /// All nodes, without those that each ping changes.
    #[must_use]
    pub fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = self.xenstored.tree();
        tree.retain(|path, _| !path.ends_with("/ping") && !path.ends_with("/pong"));
        tree
    }

    /// The value of one node.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<String> {
        self.xenstored.tree().remove(path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(behaviour: &Mutex<Behaviour>) -> MutexGuard<'_, Behaviour> {
    // A test that panics while it holds the lock has failed already.
    behaviour.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One reaction of all backends and guests to the current tree.
fn react(xenstored: &Xenstored, store: &mut Store, behaviour: &Behaviour) -> Result<(), Error> {
    let tree = xenstored.tree();
    for (path, value) in &tree {
        let ping = path.strip_suffix("/data/vusb-backend/ping");
        if let Some(domain) = ping.filter(|_| behaviour.backend_runs) {
            let pong = format!("{domain}/data/vusb-backend/pong");
            if tree.get(&pong) != Some(value) {
                store.write(&pong, value)?;
            }
        }
        if let Some(backend) = backend_of(path) {
            if let Some(id) = ControllerId::from_backend_path(backend, path) {
                if *path == id.backend(backend, BackendKind::Vusb).node(Key::State) {
                    Controller { tree: &tree, store, id, backend }.react(behaviour)?;
                }
            }
        }
    }
    Ok(())
}

/// The domain in a path below `/local/domain`.
fn backend_of(path: &str) -> Option<DomId> {
    path.strip_prefix("/local/domain/")?.split('/').next()?.parse().ok()
}

/// One controller, as it is in `tree`.
struct Controller<'a> {
    tree: &'a BTreeMap<String, String>,
    store: &'a mut Store,
    id: ControllerId,
    backend: DomId,
}

impl Controller<'_> {
    fn backend_node(&self, key: Key) -> String {
        self.id.backend(self.backend, BackendKind::Vusb).node(key)
    }

    fn read(&self, path: &str) -> Option<&str> {
        self.tree.get(path).map(String::as_str)
    }

    fn state(&self, path: &str) -> Option<State> {
        self.read(path).map(State::from_node)
    }

    /// Writes or removes a node, unless the controller has been deleted.
    fn put(&mut self, path: &str, value: Option<&str>) -> Result<(), Error> {
        let exists = self.backend_node(Key::State);
        self.store.transaction(|tx| {
            if !tx.exists(&exists)? {
                return Ok(());
            }
            match value {
                Some(value) => tx.write(path, value),
                None => tx.remove(path),
            }
        })
    }

    fn react(&mut self, behaviour: &Behaviour) -> Result<(), Error> {
        use State::{Closed, Closing, Connected, InitWait, Initialising};
        let backend_state = self.backend_node(Key::State);
        let guest_state = self.id.frontend().node(Key::State);
        let (backend, guest) = (self.state(&backend_state), self.state(&guest_state));
        let next_guest = match (backend, guest) {
            (Some(InitWait | Connected), Some(Initialising)) if behaviour.guest_connects => {
                Some(Connected)
            }
            (Some(Closing | Closed), Some(state))
                if state != Closed && behaviour.guest_releases =>
            {
                Some(Closed)
            }
            _ => None,
        };
        if let Some(next) = next_guest {
            self.put(&guest_state, Some(&next.to_string()))?;
        }
        if !behaviour.backend_runs {
            return Ok(());
        }
        let next_backend = match (backend, guest) {
            (Some(Initialising | InitWait | Connected), _) if behaviour.drops.is_some() => {
                if let Some(why) = behaviour.drops.as_deref().filter(|it| !it.is_empty()) {
                    self.put(&self.backend_node(Key::Error), Some(why))?;
                }
                Some(Closed)
            }
            (Some(Initialising), _) if behaviour.accepts => Some(InitWait),
            (Some(InitWait), Some(Connected)) if behaviour.backend_connects => Some(Connected),
            (Some(Closing), Some(Closed) | None)
            | (Some(InitWait | Connected), Some(Closing | Closed)) => Some(Closed),
            _ => None,
        };
        if let Some(next) = next_backend {
            self.put(&backend_state, Some(&next.to_string()))?;
        }
        for port in 1..=MAX_PORTS {
            self.react_to_port(port, backend == Some(Connected), behaviour)?;
        }
        Ok(())
    }

    fn react_to_port(
        &mut self,
        port: u8,
        connected: bool,
        behaviour: &Behaviour,
    ) -> Result<(), Error> {
        let node = self.backend_node(Key::Status(port));
        let has_device = |it: &Self, port| {
            it.read(&it.backend_node(Key::Port(port))).is_some_and(|it| !it.is_empty())
        };
        let status = self.read(&node);
        if has_device(self, port) {
            let target = behaviour.port_status.as_str();
            if connected && !target.is_empty() && status != Some(target) {
                self.put(&node, Some(target))?;
            }
        } else if status.is_some() && behaviour.returns_devices {
            let others = (1..=MAX_PORTS).filter(|other| *other != port);
            let last = others.map(|other| self.backend_node(Key::Status(other)));
            let last = last.into_iter().all(|other| self.read(&other).is_none());
            // The last status is removed with its parent, so that a test can compare the whole
            // tree.
            self.put(&if last { self.backend_node(Key::Statuses) } else { node }, None)?;
        }
        Ok(())
    }
}
