//! Errors of xenstore, injected into the running program by a simulated xenstored. Each ends the
//! controller that it concerns, or only the function of one node. The other controllers are still
//! served, and what failed works again once xenstored works again.
//!
//! There is no Xen here, so a controller that is advertised (state 2) and connects (the guest's
//! state 4) ends because its rings cannot be mapped. That is far enough to tell whether the backend
//! acts on a controller's nodes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vusb_xen::store::fake::{Outcome, Xenstored};
use vusb_xen::store::wire::Kind;

/// Longer than the longest wait of the backend: its timeout for a reply and its retry delay.
const LIMIT: Duration = Duration::from_secs(40);
/// The guest whose nodes fail, and another one.
const VICTIM: u32 = 5;
const BYSTANDER: u32 = 6;
/// The errors that xenstored may return for a request.
const ERRORS: [&str; 6] = ["ENOSPC", "EIO", "EACCES", "EINVAL", "EBUSY", "E2BIG"];
const ANNOUNCEMENT: &str = "/local/domain/0/data/vusb-backend";

fn backend_folder(guest: u32, devid: u32) -> String {
    format!("/local/domain/0/backend/vusb/{guest}/{devid}")
}

fn frontend_folder(guest: u32, devid: u32) -> String {
    format!("/local/domain/{guest}/device/vusb/{devid}")
}

/// A running vusb-backend with its xenstored.
struct World {
    xenstored: Xenstored,
    files: tempfile::TempDir,
    backend: Child,
    pings: u32,
}

impl World {
    fn new() -> World {
        World::with(|_| {})
    }

    /// Starts the backend after these faults were arranged.
    fn with(faults: impl FnOnce(&Xenstored)) -> World {
        let xenstored = Xenstored::start();
        faults(&xenstored);
        let files = tempfile::tempdir().unwrap();
        let backend = start(&xenstored, files.path());
        World { xenstored, files, backend, pings: 0 }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.files.path().join("log")).unwrap()
    }

    fn node(&self, path: &str) -> Option<String> {
        self.xenstored.tree().get(path).cloned()
    }

    /// Waits until a node has a value.
    fn wait_for(&mut self, path: &str, wanted: impl Fn(Option<&str>) -> bool) {
        let end = Instant::now() + LIMIT;
        while !wanted(self.node(path).as_deref()) {
            assert_eq!(self.backend.try_wait().unwrap(), None, "it ended:\n{}", self.log());
            let now = (self.node(path), self.log());
            assert!(Instant::now() < end, "{path} is {:?}; the log:\n{}", now.0, now.1);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for_state(&mut self, guest: u32, devid: u32, state: &str) {
        self.wait_for(&format!("{}/state", backend_folder(guest, devid)), |it| it == Some(state));
    }

    /// Creates a controller as a toolstack does.
    fn create(&self, guest: u32, devid: u32) {
        let (backend, frontend) = (backend_folder(guest, devid), frontend_folder(guest, devid));
        self.xenstored.write(&format!("{frontend}/backend"), &backend);
        self.xenstored.write(&format!("{frontend}/state"), "1");
        for (key, value) in [
            ("frontend", frontend.as_str()),
            ("online", "1"),
            ("usb-ver", "2"),
            ("num-ports", "2"),
            ("port/1", ""),
            ("port/2", ""),
            ("state", "1"),
        ] {
            self.xenstored.write(&format!("{backend}/{key}"), value);
        }
    }

    /// The guest connects; the backend then closes the controller because it cannot map its rings.
    fn connect(&mut self, guest: u32, devid: u32) {
        let frontend = frontend_folder(guest, devid);
        for (key, value) in
            [("urb-ring-ref", "8"), ("conn-ring-ref", "9"), ("event-channel", "3"), ("state", "4")]
        {
            self.xenstored.write(&format!("{frontend}/{key}"), value);
        }
        self.wait_for_state(guest, devid, "5");
    }

    /// The backend answers a ping.
    fn ping(&mut self) {
        self.pings += 1;
        let ping = self.pings.to_string();
        self.xenstored.write(&format!("{ANNOUNCEMENT}/ping"), &ping);
        self.wait_for(&format!("{ANNOUNCEMENT}/pong"), |it| it == Some(&ping));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.backend.kill();
        let _ = self.backend.wait();
    }
}

fn start(xenstored: &Xenstored, files: &Path) -> Child {
    xenstored.write("/local/domain/0/domid", "0");
    for name in ["gntdev", "evtchn"] {
        std::fs::write(files.join(name), "").unwrap();
    }
    symlink(xenstored.socket(), files.join("xenstored")).unwrap();
    let log = std::fs::File::create(files.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vusb-backend"));
    command.arg("--xen-files").arg(files).arg("--host-root").arg(files);
    command.stdin(Stdio::null()).stderr(log).spawn().unwrap()
}

#[test]
fn a_controller_whose_nodes_fail_is_ended_and_the_others_are_served() {
    let mut world = World::new();
    let (backend, frontend) = (backend_folder(VICTIM, 0), frontend_folder(VICTIM, 0));
    let requests = [
        (Kind::Read, format!("{backend}/state")),
        (Kind::Read, format!("{backend}/online")),
        (Kind::Read, format!("{backend}/usb-ver")),
        (Kind::Read, format!("{backend}/port/1")),
        (Kind::Read, format!("{frontend}/state")),
        (Kind::Write, format!("{backend}/state")),
        (Kind::Watch, frontend.clone()),
    ];
    for (number, (kind, path)) in (0..).zip(requests) {
        let error = ERRORS[number as usize % ERRORS.len()];
        world.xenstored.fail(kind, &path, Outcome::Error(error));
        world.create(VICTIM, 0);
        world.create(BYSTANDER, number);
        world.wait_for_state(BYSTANDER, number, "2");
        world.connect(BYSTANDER, number);
        world.ping();

        world.xenstored.stop_failing();
        world.wait_for_state(VICTIM, 0, "2");
        world.xenstored.remove(&backend);
        world.xenstored.remove(&frontend);
        world.ping();
    }
}

#[test]
fn the_reason_is_in_the_nodes_of_the_controller() {
    let mut world = World::new();
    let backend = backend_folder(VICTIM, 0);
    world.xenstored.fail(Kind::Read, &format!("{backend}/usb-ver"), Outcome::Error("EIO"));
    world.create(VICTIM, 0);
    let reason = format!("xenstore refused {backend}/usb-ver: EIO");
    world.wait_for(&format!("{backend}/error"), |it| it == Some(&reason));
    assert!(
        world.log().contains(&format!("domain 5, controller 0: ended: {reason}")),
        "{}",
        world.log()
    );
}

#[test]
fn only_the_function_of_a_node_is_lost_when_it_cannot_be_written() {
    let mut world = World::new();
    let backend = backend_folder(VICTIM, 0);
    world.xenstored.fail(Kind::Write, &format!("{backend}/status"), Outcome::Error("ENOSPC"));
    world.create(VICTIM, 0);
    world.wait_for_state(VICTIM, 0, "2");
    // A malformed request for a port is reported in its status.
    world.xenstored.write(&format!("{backend}/port/1"), &"9".repeat(3000));
    world.connect(VICTIM, 0);
    let log = world.log();
    assert!(log.contains("port 1: the status cannot be written"), "{log}");
    assert!(
        log.contains("dropped: the guest's rings cannot be used") && !log.contains("ended"),
        "{log}"
    );
}

#[test]
fn values_of_any_length_and_bytes_are_refused_and_quoted_in_part() {
    let mut world = World::new();
    world.create(VICTIM, 0);
    world.wait_for_state(VICTIM, 0, "2");
    for (devid, value) in (1..).zip(["x".repeat(3900), "\u{7f}\n".repeat(1000)]) {
        let bad = backend_folder(VICTIM, devid);
        world.create(VICTIM, devid);
        world.wait_for_state(VICTIM, devid, "2");
        world.xenstored.write(&format!("{bad}/usb-ver"), &value);
        for (key, value) in [("urb-ring-ref", "8"), ("event-channel", "3"), ("state", "4")] {
            world.xenstored.write(&format!("{}/{key}", frontend_folder(VICTIM, devid)), value);
        }
        let is_reason = |it: Option<&str>| {
            it.is_some_and(|it| it.len() < 500 && it.ends_with("it must be 1 or 2"))
        };
        world.wait_for(&format!("{bad}/error"), is_reason);
    }
    world.connect(VICTIM, 0);
}

#[test]
fn the_backend_starts_and_recovers_when_nothing_can_be_written_or_watched() {
    for kind in [Kind::Write, Kind::Watch, Kind::Rm, Kind::Directory, Kind::TransactionStart] {
        let mut world = World::with(|it| it.fail(kind, "", Outcome::Error("ENOSPC")));
        world.create(VICTIM, 0);
        let end = Instant::now() + Duration::from_secs(20);
        while world.xenstored.failed() == 0 {
            assert!(Instant::now() < end, "{kind:?} is never requested: {}", world.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        world.xenstored.stop_failing();
        world.wait_for_state(VICTIM, 0, "2");
        world.wait_for(&format!("{ANNOUNCEMENT}/version"), |it| it.is_some());
        world.ping();
    }
}

#[test]
fn conflicts_of_transactions_end_with_their_cause() {
    let mut world = World::new();
    world.xenstored.cause_conflicts(u32::MAX);
    world.create(VICTIM, 0);
    let end = Instant::now() + LIMIT;
    while !world.log().contains("other clients changed the same nodes") {
        assert!(Instant::now() < end, "{}", world.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    world.ping();
    world.xenstored.cause_conflicts(0);
    world.wait_for_state(VICTIM, 0, "2");
}

#[test]
#[ignore = "waits for timeouts of 10 s; run by cargo xtask test"]
fn a_reply_that_never_arrives_ends_one_controller() {
    let mut world = World::new();
    let backend = backend_folder(VICTIM, 0);
    world.xenstored.fail(Kind::Read, &format!("{backend}/usb-ver"), Outcome::NoReply);
    world.create(VICTIM, 0);
    world.create(BYSTANDER, 0);
    world.wait_for_state(BYSTANDER, 0, "2");
    world.ping();
    world.xenstored.stop_failing();
    world.wait_for_state(VICTIM, 0, "2");
}

#[test]
fn the_loss_of_the_connection_ends_the_backend() {
    let mut world = World::new();
    world.wait_for(&format!("{ANNOUNCEMENT}/version"), |it| it.is_some());
    world.ping();
    world.xenstored.hang_up();
    let end = Instant::now() + LIMIT;
    while world.backend.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "{}", world.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(world.log().contains("xenstored closed the connection"), "{}", world.log());
}
