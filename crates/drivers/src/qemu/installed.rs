//! The QEMU that is installed, asked what it has: one is started without a machine, answers, and is ended again.
//!
//! ```text
//!  qemu-system-ARCH -machine none ──▶ greeting: its version
//!      qom-list-types ───────────────▶ the devices that it was built with
//!      info qdm ─────────────────────▶ those of them that nobody can add: `no-user`
//! ```
//!
//! There is no guest, and nothing of a guest's is opened. What does not answer in time is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vusb_model::capabilities::Support;
use vusb_model::models::Model;
use vusb_qmp::codec::{Decoder, encode};
use vusb_qmp::{Deadline, Greeting, Message};

use super::offers::{Offers, type_names};

/// The folders that programs are in, below a machine's root. RHEL has its QEMU in the third, NixOS its programs in the last.
const FOLDERS: [&str; 4] = ["usr/local/bin", "usr/bin", "usr/libexec", "run/current-system/sw/bin"];

/// The options of a QEMU that only answers: no machine, no screen, no configuration files.
const ARGUMENTS: [&str; 9] = [
    "-machine",
    "none",
    "-S",
    "-display",
    "none",
    "-nodefaults",
    "-no-user-config",
    "-qmp",
    "stdio",
];

/// The most that is read of what it says, in bytes: the answers of version 7.2 take 60 kB.
const MOST: usize = 4 << 20;

/// The numbers of the questions.
const TYPES: u64 = 1;
const DEVICES: u64 = 2;

/// An installed QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// `QEMU 7.2.22`.
    pub version: String,
    /// What it can do with each model.
    pub models: BTreeMap<Model, Support>,
}

/// The program of the QEMU for this machine's own architecture, on the machine whose root is `root`. `None` if it has none.
pub fn find(root: &Path) -> Option<PathBuf> {
    let names = [format!("qemu-system-{}", std::env::consts::ARCH), "qemu-kvm".to_owned()];
    let programs = names.iter().flat_map(|name| FOLDERS.map(|folder| root.join(folder).join(name)));
    programs.into_iter().find(|program| program.is_file())
}

/// Asks the QEMU `program` what it has, for `limit` at the longest.
///
/// # Errors
/// It cannot be started, or does not answer as a QEMU does: why.
pub fn ask(program: &Path, limit: Duration) -> Result<Installed, String> {
    let deadline = Deadline::after(limit);
    let mut running = Running::start(program).map_err(|error| error.to_string())?;
    let Answers { greeting, types, devices } = Answers::read(&running.speak(), deadline)?;
    let hidden = not_for_users(devices.as_str().unwrap_or_default());
    let drivers: Vec<String> =
        type_names(&types).into_iter().filter(|name| !hidden.contains(name.as_str())).collect();
    let offers = Offers::of(&drivers);
    let version = greeting.version;
    Ok(Installed {
        version: format!("QEMU {}.{}.{}", version.major, version.minor, version.micro),
        models: Model::ALL.map(|model| (model, offers.model(model))).into(),
    })
}

/// A QEMU that is ended when it is no longer needed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself cannot be ended, and is waited for all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(program: &Path) -> std::io::Result<Running> {
        let mut command = Command::new(program);
        command.args(ARGUMENTS).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map(Running)
    }

    /// Asks all questions, and has what comes back sent, piece by piece. The questions fit into a pipe, so that this does not wait.
    fn speak(&mut self) -> Receiver<Vec<u8>> {
        let questions = [
            encode(0, "qmp_capabilities", &Value::Null),
            encode(
                TYPES,
                "qom-list-types",
                &json!({"implements": "pci-device", "abstract": false}),
            ),
            encode(DEVICES, "human-monitor-command", &json!({"command-line": "info qdm"})),
        ];
        // Whether it was still there to read them is seen by its answers.
        let _ = self.0.stdin.as_mut().map(|stdin| stdin.write_all(&questions.concat()));
        // Reading a pipe cannot be bounded in time; waiting for a thread that reads can. It ends with the pipe, and that with QEMU.
        let (sender, receiver) = sync_channel(1);
        if let Some(mut stdout) = self.0.stdout.take() {
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                    let piece = buffer.get(..length).unwrap_or_default().to_vec();
                    if sender.send(piece).is_err() {
                        break;
                    }
                }
            });
        }
        receiver
    }
}

/// What QEMU said.
struct Answers {
    greeting: Greeting,
    types: Value,
    devices: Value,
}

impl Answers {
    fn read(said: &Receiver<Vec<u8>>, deadline: Deadline) -> Result<Answers, String> {
        let mut decoder = Decoder::new();
        let (mut greeting, mut types, mut devices) = (None, None, None);
        let mut read = 0;
        loop {
            while let Some(message) = decoder.next_message().map_err(|error| error.to_string())? {
                match message {
                    Message::Greeting(it) => greeting = Some(it),
                    Message::Return { id, value } if id == Some(TYPES.into()) => {
                        types = Some(value);
                    }
                    // Without a human monitor, or with another wording, nothing is hidden.
                    Message::Return { id, value } if id == Some(DEVICES.into()) => {
                        devices = Some(value);
                    }
                    Message::Error { id, .. } if id == Some(DEVICES.into()) => {
                        devices = Some(Value::Null);
                    }
                    Message::Error { desc, .. } => {
                        return Err(format!("it refused a question: {desc}"));
                    }
                    _ => {}
                }
            }
            (greeting, types, devices) = match (greeting, types, devices) {
                (Some(greeting), Some(types), Some(devices)) => {
                    return Ok(Answers { greeting, types, devices });
                }
                incomplete => incomplete,
            };
            let piece = said.recv_timeout(deadline.remaining()).map_err(|error| match error {
                std::sync::mpsc::RecvTimeoutError::Timeout => "it does not answer".to_owned(),
                std::sync::mpsc::RecvTimeoutError::Disconnected => {
                    "it ended without an answer".to_owned()
                }
            })?;
            read += piece.len();
            if read > MOST {
                return Err("it says more than any QEMU has to say".to_owned());
            }
            decoder.feed(&piece);
        }
    }
}

/// The devices that `info qdm` marks as parts of a machine, which nobody can add:
/// `name "vt82c686b-usb-uhci", bus PCI, no-user`.
fn not_for_users(listed: &str) -> BTreeSet<&str> {
    let marked = listed.lines().filter(|line| line.trim_end().ends_with(", no-user"));
    marked.filter_map(|line| line.strip_prefix("name \"")?.split('"').next()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    /// Asks a program that says `script`'s words. One test at a time: a file that another thread's child still has open for writing cannot
    /// be started.
    fn asked(script: &str, limit: Duration) -> Result<Installed, String> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        ask(&path, limit)
    }

    const TALK: &str = r#"cat <<'END'
{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}
{"return": {}, "id": 0}
{"return": [{"name": "qemu-xhci"}, {"name": "pci-ohci"}, {"name": "vt82c686b-usb-uhci"}], "id": 1}
{"return": "Devices:\r\nname \"qemu-xhci\", bus PCI\r\nname \"vt82c686b-usb-uhci\", bus PCI, no-user\r\n", "id": 2}
END
exec sleep 60"#;

    #[test]
    fn it_says_what_it_has() {
        let installed = asked(TALK, Duration::from_secs(20)).unwrap();
        assert_eq!(installed.version, "QEMU 7.2.22");
        let can = |model| &installed.models[&model];
        assert_eq!(can(Model::QemuXhci), &Support::Hot);
        assert!(matches!(can(Model::PciOhci), Support::Cold { .. }));
        assert!(matches!(can(Model::Vt82c686bUhci), Support::No { .. }));
        assert!(matches!(can(Model::NecXhci), Support::No { .. }));
        assert!(matches!(can(Model::Xenusb2), Support::No { .. }));
    }

    #[test]
    fn one_that_is_silent_is_not_waited_for() {
        let begin = Instant::now();
        let error = asked("exec sleep 60", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, "it does not answer");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn what_is_no_qemu() {
        for (script, why) in [
            ("exit 1", "it ended without an answer"),
            ("echo hello; exec sleep 60", ""),
            (
                r#"echo '{"error": {"class": "GenericError", "desc": "no"}, "id": 1}'"#,
                "it refused a question: no",
            ),
        ] {
            let error = asked(script, Duration::from_secs(20)).unwrap_err();
            assert!(error.contains(why), "{script}: {error}");
        }
        assert!(ask(Path::new("/nonexistent/qemu"), Duration::from_secs(1)).is_err());
    }

    #[test]
    fn it_is_looked_for_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(root.path()), None);
        fs::create_dir_all(root.path().join("usr/libexec")).unwrap();
        fs::write(root.path().join("usr/libexec/qemu-kvm"), "").unwrap();
        assert_eq!(find(root.path()), Some(root.path().join("usr/libexec/qemu-kvm")));
    }
}
