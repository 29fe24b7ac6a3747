//! Watching real QEMUs for their start and end, while another client holds the monitor.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs
)]

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vusb_drivers::qemu::QemuScheme;
use vusb_drivers::{GuestEvent, GuestWatch, Scheme as _, WatchOptions};
use vusb_qmp::{Client, Deadline};
use vusb_rig::BareQemu;

const LONG: Duration = Duration::from_secs(20);

fn watched(folder: &Path) -> Box<dyn GuestWatch> {
    let options = WatchOptions { folders: vec![folder.to_owned()], ..WatchOptions::default() };
    QemuScheme.watch(&options).unwrap().unwrap()
}

fn ask(client: &mut Client) {
    let status = client.execute("query-status", json!({}), Deadline::after(LONG)).unwrap();
    assert!(status["status"].is_string(), "{status}");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_qemu_starts_and_is_killed_while_another_client_holds_its_monitor() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("web.qmp");
    let operand = QemuScheme.parse(socket.to_str().unwrap(), Path::new("/")).unwrap();
    let mut early = watched(folder.path());
    assert_eq!(early.running().unwrap(), [""; 0]);

    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let qemu =
        BareQemu::start(["-machine", "pc", "-nodefaults", "-qmp", monitor.as_str()]).unwrap();
    let mut client = Client::connect(&socket, Deadline::after(LONG)).unwrap();
    ask(&mut client);
    assert_eq!(early.wait(LONG).unwrap(), [GuestEvent::Started(operand.clone())]);
    ask(&mut client);
    let mut late = watched(folder.path());
    assert_eq!(late.running().unwrap(), [operand.clone()]);
    ask(&mut client);

    // The connections of the watches, which still wait in QEMU's queue, do not block the next
    // client.
    drop(client);
    let mut client = Client::connect(&socket, Deadline::after(LONG)).unwrap();
    ask(&mut client);
    for watch in [&mut early, &mut late] {
        assert_eq!(watch.wait(Duration::from_millis(100)).unwrap(), []);
    }
    ask(&mut client);

    qemu.kill();
    for watch in [&mut early, &mut late] {
        assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Ended(operand.clone())]);
        assert_eq!(watch.running().unwrap(), [""; 0]);
    }
    assert!(socket.exists(), "QEMU did not remove it");
}

#[test]
#[ignore = "needs QEMU; run by cargo xtask test"]
fn a_qemu_that_quits_has_ended_and_can_start_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("web.qmp");
    let operand = QemuScheme.parse(socket.to_str().unwrap(), Path::new("/")).unwrap();
    let mut watch = watched(folder.path());
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    for _ in 0..2 {
        let arguments = ["-machine", "pc", "-nodefaults", "-qmp", monitor.as_str()];
        let _qemu = BareQemu::start(arguments).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Started(operand.clone())]);
        let mut client = Client::connect(&socket, Deadline::after(LONG)).unwrap();
        client.execute("quit", json!({}), Deadline::after(LONG)).unwrap();
        assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Ended(operand.clone())]);
    }
}
