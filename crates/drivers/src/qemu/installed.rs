//! Probes the installed QEMU: starts it without a machine, queries its features, and kills it.
//!
//! ```text
//!  qemu-system-ARCH -machine none ──▶ greeting: its version
//!      qom-list-types ───────────────▶ the devices that it was built with
//!      info qdm ─────────────────────▶ those of them that cannot be added: `no-user`
//! ```
//!
//! There is no guest, and no file of a guest is opened. A program that does not answer in time is
//! killed.

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

use super::features::{Features, type_names};

/// The directories with programs, below a machine's root. RHEL has its QEMU in the third, NixOS has
/// its programs in the last.
const PROGRAM_DIRS: [&str; 4] =
    ["usr/local/bin", "usr/bin", "usr/libexec", "run/current-system/sw/bin"];

/// The options of a QEMU that only answers queries: no machine, no display, no configuration files.
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

/// The maximum length of its output, in bytes: the answers of version 7.2 take 60 kB.
const MAX_OUTPUT: usize = 4 << 20;

/// The ids of the queries.
const TYPES: u64 = 1;
const DEVICES: u64 = 2;

/// An installed QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// `QEMU 7.2.22`.
    pub version: String,
    /// Whether it supports each model.
    pub models: BTreeMap<Model, Support>,
}

/// Finds the QEMU for this machine's architecture below the root directory `root`. `None` if none
/// is installed.
pub fn find(root: &Path) -> Option<PathBuf> {
    let names = [format!("qemu-system-{}", std::env::consts::ARCH), "qemu-kvm".to_owned()];
    let programs = names.iter().flat_map(|name| PROGRAM_DIRS.map(|dir| root.join(dir).join(name)));
    programs.into_iter().find(|program| program.is_file())
}

/// Probes the QEMU `program`. It has to answer within `limit`.
///
/// # Errors
/// The program cannot be started, does not answer in time, or does not answer as a QEMU does. The
/// error says which.
pub fn probe(program: &Path, limit: Duration) -> Result<Installed, String> {
    let deadline = Deadline::after(limit);
    let mut process = Process::start(program).map_err(|error| error.to_string())?;
    let Answers { greeting, types, devices } = Answers::read(&process.send_queries(), deadline)?;
    let excluded = not_user_creatable(devices.as_str().unwrap_or_default());
    let drivers: Vec<String> =
        type_names(&types).into_iter().filter(|name| !excluded.contains(name.as_str())).collect();
    let features = Features::of_drivers(&drivers);
    let version = greeting.version;
    Ok(Installed {
        version: format!("QEMU {}.{}.{}", version.major, version.minor, version.micro),
        models: Model::ALL.map(|model| (model, features.model(model))).into(),
    })
}

/// A QEMU that is killed on drop.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has exited cannot be killed, but still has to be waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(program: &Path) -> std::io::Result<Process> {
        let mut command = Command::new(program);
        command.args(ARGUMENTS).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map(Process)
    }

    /// Sends all queries, and returns a channel with the output. The queries fit into a pipe, so
    /// this does not block.
    fn send_queries(&mut self) -> Receiver<Vec<u8>> {
        let queries = [
            encode(0, "qmp_capabilities", &Value::Null),
            encode(
                TYPES,
                "qom-list-types",
                &json!({"implements": "pci-device", "abstract": false}),
            ),
            encode(DEVICES, "human-monitor-command", &json!({"command-line": "info qdm"})),
        ];
        // Ignore the error: if QEMU has already exited, its answers will be missing.
        let _ = self.0.stdin.as_mut().map(|stdin| stdin.write_all(&queries.concat()));
        // A read from a pipe has no timeout, but a receive from a channel has one, so a thread does
        // the reading. It ends when QEMU closes the pipe.
        let (sender, receiver) = sync_channel(1);
        if let Some(mut stdout) = self.0.stdout.take() {
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                    let chunk = buffer.get(..length).unwrap_or_default().to_vec();
                    if sender.send(chunk).is_err() {
                        break;
                    }
                }
            });
        }
        receiver
    }
}

/// The answers to all queries.
struct Answers {
    greeting: Greeting,
    types: Value,
    devices: Value,
}

impl Answers {
    fn read(output: &Receiver<Vec<u8>>, deadline: Deadline) -> Result<Answers, String> {
        let mut decoder = Decoder::new();
        let (mut greeting, mut types, mut devices) = (None, None, None);
        let mut read = 0;
        loop {
            while let Some(message) = decoder.next_message().map_err(|error| error.to_string())? {
                match message {
                    Message::Greeting(received) => greeting = Some(received),
                    Message::Return { id, value } if id == Some(TYPES.into()) => {
                        types = Some(value);
                    }
                    // If QEMU has no human monitor, or its output has another form, no device is
                    // excluded.
                    Message::Return { id, value } if id == Some(DEVICES.into()) => {
                        devices = Some(value);
                    }
                    Message::Error { id, .. } if id == Some(DEVICES.into()) => {
                        devices = Some(Value::Null);
                    }
                    Message::Error { desc, .. } => {
                        return Err(format!("it refused a query: {desc}"));
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
            let chunk = output.recv_timeout(deadline.remaining()).map_err(|error| match error {
                std::sync::mpsc::RecvTimeoutError::Timeout => {
                    "it did not answer in time".to_owned()
                }
                std::sync::mpsc::RecvTimeoutError::Disconnected => {
                    "it exited without answering".to_owned()
                }
            })?;
            read += chunk.len();
            if read > MAX_OUTPUT {
                return Err("its output is longer than that of any QEMU".to_owned());
            }
            decoder.feed(&chunk);
        }
    }
}

/// The devices that cannot be added because they are part of a machine. `info qdm` marks them:
/// `name "vt82c686b-usb-uhci", bus PCI, no-user`.
fn not_user_creatable(listed: &str) -> BTreeSet<&str> {
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

    /// Probes a program that is a shell script. One test at a time: a child that another thread
    /// starts in the meantime inherits the descriptor through which the script is written, and a
    /// file that is open for writing cannot be executed.
    fn probe_script(script: &str, limit: Duration) -> Result<Installed, String> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        probe(&path, limit)
    }

    const ANSWERS: &str = r#"cat <<'END'
{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}
{"return": {}, "id": 0}
{"return": [{"name": "qemu-xhci"}, {"name": "pci-ohci"}, {"name": "vt82c686b-usb-uhci"}], "id": 1}
{"return": "Devices:\r\nname \"qemu-xhci\", bus PCI\r\nname \"vt82c686b-usb-uhci\", bus PCI, no-user\r\n", "id": 2}
END
exec sleep 60"#;

    #[test]
    fn support_follows_from_the_answers() {
        let installed = probe_script(ANSWERS, Duration::from_secs(20)).unwrap();
        assert_eq!(installed.version, "QEMU 7.2.22");
        let support = |model| &installed.models[&model];
        assert_eq!(support(Model::QemuXhci), &Support::Hot);
        assert!(matches!(support(Model::PciOhci), Support::Cold { .. }));
        assert!(matches!(support(Model::Vt82c686bUhci), Support::Unsupported { .. }));
        assert!(matches!(support(Model::NecXhci), Support::Unsupported { .. }));
        assert!(matches!(support(Model::Xenusb2), Support::Unsupported { .. }));
    }

    #[test]
    fn a_silent_program_times_out() {
        let begin = Instant::now();
        let error = probe_script("exec sleep 60", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, "it did not answer in time");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn other_programs_are_refused() {
        for (script, why) in [
            ("exit 1", "it exited without answering"),
            ("echo hello; exec sleep 60", ""),
            (
                r#"echo '{"error": {"class": "GenericError", "desc": "no"}, "id": 1}'"#,
                "it refused a query: no",
            ),
        ] {
            let error = probe_script(script, Duration::from_secs(20)).unwrap_err();
            assert!(error.contains(why), "{script}: {error}");
        }
        assert!(probe(Path::new("/nonexistent/qemu"), Duration::from_secs(1)).is_err());
    }

    /// Without a human monitor, no device is excluded.
    #[test]
    fn the_human_monitor_is_optional() {
        let refusal = r#"{"error": {"class": "GenericError", "desc": "no"}, "id": 2}"#;
        let lines =
            ANSWERS.lines().map(|line| if line.contains("Devices:") { refusal } else { line });
        let script = lines.collect::<Vec<_>>().join("\n");
        let installed = probe_script(&script, Duration::from_secs(20)).unwrap();
        assert_eq!(installed.models[&Model::Vt82c686bUhci], Support::Hot);
    }

    /// Answers to other queries are ignored.
    #[test]
    fn answers_are_matched_by_their_ids() {
        let script = ANSWERS.replace("\"id\": 1", "\"id\": 3");
        let error = probe_script(&script, Duration::from_millis(500)).unwrap_err();
        assert_eq!(error, "it did not answer in time");
        let script = ANSWERS.replace("\"id\": 2", "\"id\": 3");
        let error = probe_script(&script, Duration::from_millis(500)).unwrap_err();
        assert_eq!(error, "it did not answer in time");
    }

    #[test]
    fn the_length_of_the_output_is_limited() {
        let endless = "while :; do printf '%s' '[' ; head -c 60000 /dev/zero | tr '\\0' ' '; printf '%s' ']'; done";
        let error = probe_script(endless, Duration::from_secs(60)).unwrap_err();
        assert_eq!(error, "its output is longer than that of any QEMU");
    }

    /// The process does not outlive the probe.
    #[test]
    fn the_program_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("echo $$ > {}\n{ANSWERS}", pid_file.display());
        probe_script(&script, Duration::from_secs(20)).unwrap();
        let pid = fs::read_to_string(&pid_file).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
    }

    #[test]
    fn devices_of_a_machine_cannot_be_added() {
        let listed =
            "Devices:\r\nname \"a\", bus PCI\r\nname \"b\", bus PCI, no-user\r\nno-user, no-user\n";
        assert_eq!(not_user_creatable(listed).into_iter().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn an_installed_qemu_is_found_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(root.path()), None);
        fs::create_dir_all(root.path().join("usr/libexec")).unwrap();
        fs::write(root.path().join("usr/libexec/qemu-kvm"), "").unwrap();
        assert_eq!(find(root.path()), Some(root.path().join("usr/libexec/qemu-kvm")));
    }
}
