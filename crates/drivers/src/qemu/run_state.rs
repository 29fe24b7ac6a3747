//! Why a guest does not run at the moment, from the state that `query-status` reports (QEMU,
//! `qapi/run-state.json`).

use vusb_host::text::printable;

use super::MAX_SHOWN;

/// Why a guest in this state does not run, and what to do about it. `None` if it runs.
pub(super) fn why_not_running(state: &str) -> Option<String> {
    let (why, remedy) = match state {
        "running" => return None,
        "paused" => ("it is paused", "resume it and retry"),
        "suspended" => ("its system is asleep", "wake it up and retry"),
        "debug" => ("a debugger has stopped it", "continue it there and retry"),
        // `preconfig` is a state of its own in versions before 6.0.
        "prelaunch" | "preconfig" => ("it has not been started yet", "start it and retry"),
        "inmigrate" => ("it is waiting for an incoming migration", "retry when that is complete"),
        "restore-vm" => ("its saved state is being restored", "retry when that is complete"),
        "save-vm" => ("its state is being saved", "retry when that is complete"),
        "colo" => ("it is stopped for a COLO checkpoint", "retry when that is complete"),
        "finish-migrate" => ("its migration is being completed", "retry where it runs afterwards"),
        "postmigrate" => ("it was migrated or saved", "retry where it runs now, or resume it here"),
        "shutdown" => ("it has shut down", "start it again and retry"),
        "io-error" => {
            ("QEMU stopped it after an I/O error of a disk", "repair the disk, resume it and retry")
        }
        "internal-error" => {
            ("QEMU stopped it after an internal error", "reset it and retry; see QEMU's log")
        }
        "watchdog" => ("its watchdog has stopped it", "reset it and retry"),
        "guest-panicked" => ("its system has crashed", "restart it and retry"),
        other => {
            let state = printable(other.as_bytes(), MAX_SHOWN);
            return Some(format!("it is not running (its state is `{state}`); retry when it runs"));
        }
    };
    Some(format!("{why}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;
    use std::time::Duration;

    use serde_json::{Value, json};
    use vusb_model::diff::Step;
    use vusb_model::hardware::Controller;
    use vusb_model::models::{Model, RootPorts};

    use super::*;
    use crate::driver::{Driver as _, Error};
    use crate::qemu::Qemu;
    use crate::qemu::assemble::Handle;

    /// `RunState` of QEMU 10.0.
    const STATES: [&str; 16] = [
        "debug",
        "inmigrate",
        "internal-error",
        "io-error",
        "paused",
        "postmigrate",
        "prelaunch",
        "finish-migrate",
        "restore-vm",
        "running",
        "save-vm",
        "shutdown",
        "suspended",
        "watchdog",
        "guest-panicked",
        "colo",
    ];

    #[test]
    fn each_state_has_a_reason_of_its_own() {
        let reasons: BTreeSet<_> = STATES.into_iter().filter_map(why_not_running).collect();
        assert_eq!(reasons.len(), STATES.len() - 1);
        assert!(reasons.iter().all(|it| !it.contains("its state is `")), "{reasons:#?}");
        assert_eq!(why_not_running("paused").unwrap(), "it is paused; resume it and retry");
        let unknown = why_not_running(&format!("new\x1b[2J{}", "x".repeat(9999))).unwrap();
        assert!(unknown.starts_with("it is not running (its state is `new?[2Jxxx"), "{unknown}");
        assert!(unknown.len() < 200, "{unknown}");
    }

    /// A guest in this state with a controller of this model that vusb has added.
    fn guest(state: &'static str, model: Model) -> (Qemu, Controller, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let version = json!({"qemu": {"major": 8, "minor": 2, "micro": 0}, "package": ""});
            let greeting = json!({"QMP": {"version": version, "capabilities": []}});
            writeln!(stream, "{greeting}").unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines.map_while(Result::ok) {
                let command: Value = serde_json::from_str(&line).unwrap();
                let answer = json!({"return": {"status": state}, "id": command["id"]});
                let _ = writeln!(stream, "{answer}");
            }
        });
        let mut qemu = Qemu::at(&path, Duration::from_secs(30));
        let ports = RootPorts::uniform(model, 6.try_into().unwrap());
        let controller =
            Controller::new("0".parse().unwrap(), "hci0".parse().unwrap(), model, ports);
        let (id, bus) = ("vusb-0-hci0".to_owned(), "vusb-0-hci0.0".to_owned());
        let handle = Handle { qom_path: format!("/machine/peripheral/{id}"), id, bus };
        qemu.view.controllers.insert(controller.index, handle);
        (qemu, controller, dir)
    }

    #[test]
    fn the_removal_of_a_controller_is_refused_for_the_state_of_its_guest() {
        for (state, expected) in [("paused", "it is paused; resume"), ("inmigrate", "migration")] {
            let (mut qemu, controller, _dir) = guest(state, Model::Ehci);
            let error = qemu.check(&[Step::RemoveController(controller)]).unwrap_err();
            assert!(matches!(error, Error::Failed { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let (mut qemu, controller, _dir) = guest("running", Model::Ehci);
        qemu.check(&[Step::RemoveController(controller)]).unwrap();
    }

    /// Resuming the guest would not help.
    #[test]
    fn a_controller_that_cannot_be_removed_is_refused_for_that_in_every_state() {
        for state in ["running", "paused"] {
            let (mut qemu, controller, _dir) = guest(state, Model::Ich9Ehci1);
            let error = qemu.check(&[Step::RemoveController(controller)]).unwrap_err();
            assert!(matches!(error, Error::NotImplemented { .. }), "{state}: {error}");
            assert!(error.to_string().contains("not hot pluggable"), "{state}: {error}");
        }
    }
}
