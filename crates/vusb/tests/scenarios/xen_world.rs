//! A Xen in this process: a xenstored, guests in it, and one thread that does what a vusb-backend and each guest's driver do, as
//! `docs/xenstore.md` has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use vusb::model::spec::{ControllerSpec, DeviceSpec};
use vusb::{DomainId, Error, ExitCode, Outcome, Settings, Vusb};
use vusb_xen::store::fake::Xenstored;

use crate::house::{House, library};

/// How the backends and guests behave.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    /// Whether the vusb-backends answer.
    pub(crate) alive: bool,
    /// Whether guests have a driver that connects.
    pub(crate) connects: bool,
    /// Whether guests let go of a controller.
    pub(crate) lets_go: bool,
    /// What becomes of each device, at last.
    pub(crate) status: String,
    /// Whether a device is given back.
    pub(crate) gives_back: bool,
    /// Why the backend drops each controller at once, if it does.
    pub(crate) drops: Option<String>,
}

pub(crate) struct World {
    pub(crate) house: House,
    pub(crate) store: Arc<Xenstored>,
    manners: Arc<Mutex<Manners>>,
    thread: Option<JoinHandle<()>>,
    end: Arc<Mutex<bool>>,
}

impl World {
    /// Domain 0 with a vusb-backend, and the PV guest web1 with the id 5.
    pub(crate) fn new() -> World {
        let store = Arc::new(Xenstored::start());
        let manners = Manners {
            alive: true,
            connects: true,
            lets_go: true,
            status: "configured".to_owned(),
            gives_back: true,
            drops: None,
        };
        let manners = Arc::new(Mutex::new(manners));
        let end = Arc::new(Mutex::new(false));
        let (their_store, their_manners, their_end) = (store.clone(), manners.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            while !*their_end.lock().unwrap() {
                let manners = their_manners.lock().unwrap().clone();
                turn(&their_store, &manners);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let world = World { house: House::new(), store, manners, thread: Some(thread), end };
        world.store.write("/local/domain/0/name", "Domain-0");
        world.guest(5, "web1", "pv");
        world.backend(0);
        world
    }

    /// A guest, with the nodes that libxl makes.
    pub(crate) fn guest(&self, id: u16, name: &str, kind: &str) {
        let own = format!("/local/domain/{id}");
        self.store.write(&format!("{own}/name"), name);
        self.store.write(&format!("{own}/device/suspend/event-channel"), "");
        self.store.write(&format!("/libxl/{id}/type"), kind);
        self.store.write(&format!("/libxl/{id}/device/console/0/type"), "xenconsoled");
        self.store.write(&format!("/local/domain/0/backend/console/{id}/0/state"), "1");
    }

    /// A vusb-backend in a domain.
    pub(crate) fn backend(&self, id: u16) {
        self.store.write(&format!("/local/domain/{id}/data/vusb-backend/version"), "1");
    }

    /// A device that the vusb-backend of a domain could lend.
    pub(crate) fn lends(&self, id: u16, bus_id: &str, ids: &str, address: &str) {
        let folder =
            format!("/local/domain/{id}/data/vusb-backend/device/{}", bus_id.replace('.', "_"));
        for (key, value) in [
            ("id", ids),
            ("address", address),
            ("speed", "high"),
            ("speeds", "high full"),
            ("class", "08"),
            ("product", "A stick"),
        ] {
            self.store.write(&format!("{folder}/{key}"), value);
        }
    }

    /// The domain ends: libxl deletes all that is its.
    pub(crate) fn destroy(&self, id: u16) {
        for path in [
            format!("/local/domain/{id}"),
            format!("/libxl/{id}"),
            format!("/local/domain/0/backend/console/{id}"),
            format!("/local/domain/0/backend/vusb/{id}"),
        ] {
            self.store.remove(&path);
        }
    }

    pub(crate) fn manners(&self) -> MutexGuard<'_, Manners> {
        self.manners.lock().unwrap()
    }

    pub(crate) fn vusb(&self) -> Vusb {
        self.patient(Duration::from_secs(5), false)
    }

    /// One who waits 300 ms for each thing.
    pub(crate) fn hasty(&self) -> Vusb {
        self.patient(Duration::from_millis(300), false)
    }

    pub(crate) fn patient(&self, timeout: Duration, force: bool) -> Vusb {
        let vusb = library(self.house.path(), timeout);
        let settings = Settings {
            xenstored: Some(self.store.socket().to_owned()),
            xen_qmp: self.house.path().to_owned(),
            force,
            ..vusb.settings().clone()
        };
        vusb.with_settings(settings)
    }

    pub(crate) fn web1(&self) -> DomainId {
        self.vusb().domain("xen:web1").unwrap()
    }

    pub(crate) fn add(&self, device: &str) -> Result<Outcome, Error> {
        self.vusb().device_add(&self.web1(), &DeviceSpec::new(device.parse().unwrap()))
    }

    pub(crate) fn controller(&self, spec: &ControllerSpec) -> Result<Outcome, Error> {
        self.vusb().controller_add(&self.web1(), spec)
    }

    /// What xenstore has, without what comes and goes with each question to a backend.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = self.store.tree();
        tree.retain(|path, _| !path.ends_with("/ping") && !path.ends_with("/pong"));
        tree
    }

    /// One node.
    pub(crate) fn node(&self, path: &str) -> Option<String> {
        self.store.tree().get(path).cloned()
    }

    /// The guest's USB in a few words: `pv0 present[1 host0 attached]`.
    pub(crate) fn shows(&self) -> String {
        let view = self.vusb().list(&self.web1()).unwrap();
        let controllers = view.controllers.iter().map(|controller| {
            let devices = controller.devices.iter();
            let devices = devices.map(|it| format!("{} {} {}", it.port, it.name, it.state));
            let devices = devices.collect::<Vec<_>>().join("; ");
            format!("{} {}[{devices}]", controller.name, controller.state)
        });
        controllers.collect::<Vec<_>>().join(" ")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        *self.end.lock().unwrap() = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The code that a command would end with.
pub(crate) fn code(result: Result<Outcome, Error>) -> ExitCode {
    result.map_or_else(|error| error.exit_code(), |_| ExitCode::Done)
}

/// One look around by all backends and guests.
fn turn(store: &Xenstored, manners: &Manners) {
    let tree = store.tree();
    for (path, value) in &tree {
        if manners.alive
            && let Some(folder) = path.strip_suffix("/data/vusb-backend/ping")
        {
            let pong = format!("{folder}/data/vusb-backend/pong");
            if tree.get(&pong) != Some(value) {
                store.write(&pong, value);
            }
        }
        if path.contains("/backend/vusb/")
            && let Some(folder) = path.strip_suffix("/state")
        {
            controller(store, &tree, folder, manners);
        }
    }
}

/// Both ends of one controller, by its backend's folder.
fn controller(store: &Xenstored, tree: &BTreeMap<String, String>, folder: &str, manners: &Manners) {
    let read = |path: String| tree.get(&path).map(String::as_str);
    let (Some(backend), Some(frontend)) =
        (read(format!("{folder}/state")), read(format!("{folder}/frontend")))
    else {
        return;
    };
    let guest = read(format!("{frontend}/state"));
    // Nothing is written into folders that the toolstack has just deleted.
    let set = |path: String, value: &str| {
        if store.tree().contains_key(&format!("{folder}/state")) {
            store.write(&path, value);
        }
    };
    match (backend, guest) {
        ("2" | "4", Some("1")) if manners.connects => set(format!("{frontend}/state"), "4"),
        ("5" | "6", Some(state)) if state != "6" && manners.lets_go => {
            set(format!("{frontend}/state"), "6");
        }
        _ => {}
    }
    if !manners.alive {
        return;
    }
    match (backend, guest, &manners.drops) {
        ("1" | "2" | "4", _, Some(why)) => {
            set(format!("{folder}/error"), why);
            set(format!("{folder}/state"), "6");
        }
        ("1", ..) => set(format!("{folder}/state"), "2"),
        ("2", Some("4"), _) => set(format!("{folder}/state"), "4"),
        ("5", Some("6") | None, _) => set(format!("{folder}/state"), "6"),
        ("2" | "4", Some("5" | "6"), _) => set(format!("{folder}/state"), "6"),
        _ => {}
    }
    for port in 1..=31 {
        let there = read(format!("{folder}/port/{port}")).is_some_and(|it| !it.is_empty());
        let status = format!("{folder}/status/{port}");
        match read(status.clone()) {
            None if there && backend == "4" && !manners.status.is_empty() => {
                set(status, &manners.status);
            }
            Some(said) if there && backend == "4" && said != manners.status => {
                set(status, &manners.status);
            }
            Some(_) if !there && manners.gives_back => {
                store.remove(&status);
                // The last one goes with its folder.
                if (1..=31).all(|it| it == port || read(format!("{folder}/status/{it}")).is_none())
                {
                    store.remove(&format!("{folder}/status"));
                }
            }
            _ => {}
        }
    }
}
