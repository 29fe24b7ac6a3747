//! An isolated environment for each test: a folder, a state folder, a machine, and no environment
//! variables.
//!
//! ```text
//! let env = Environment::new();
//! env.vusb(["controller", "add", "sim:S"]).prints("hci0");      standard output, and exit code 0
//! env.vusb(["controller", "list", "sim:S"]).snapshot()          all output, without the folder's name
//! ```

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Environment {
    root: TempDir,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Environment {
    pub(crate) fn new() -> Environment {
        let root = TempDir::new().unwrap();
        for folder in
            ["work", "machine/sys/bus/usb/devices", "machine/sys/devices", "machine/proc/self"]
        {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("machine/proc/self/mountinfo"), "").unwrap();
        fs::write(root.path().join("machine/proc/swaps"), "").unwrap();
        Environment { root }
    }

    /// A path in the folder that commands run in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("work").join(name)
    }

    /// The root of the simulated machine.
    pub(crate) fn machine(&self) -> PathBuf {
        self.root.path().join("machine")
    }

    /// The folder of the records.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A shell script in place of QEMU. Another process writes it: a file cannot be executed while
    /// a child of this process still has it open for writing.
    pub(crate) fn qemu(&self, script: &str) {
        let program = self.root.path().join("machine/usr/bin/qemu-kvm");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        let source = self.write("qemu-kvm.sh", &format!("#!/bin/sh\n{script}\n"));
        let installed =
            Command::new("install").args(["-m", "755"]).args([source, program]).status();
        assert!(installed.unwrap().success());
    }

    /// The file of the record of `sim:NAME`.
    pub(crate) fn record(&self, name: &str) -> PathBuf {
        let entries = fs::read_dir(self.state()).unwrap().map(|it| it.unwrap().path());
        let begin = format!("sim-{name}-");
        let is_its = |path: &PathBuf| {
            let file = path.file_name().unwrap().to_str().unwrap();
            file.starts_with(&begin) && file.ends_with(".json")
        };
        entries.into_iter().find(is_its).unwrap()
    }

    /// Creates the image of a stick.
    pub(crate) fn image(&self, name: &str) {
        self.write(name, &"\0".repeat(4096));
    }

    /// The command, ready to be run.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vusb"));
        command
            .current_dir(self.root.path().join("work"))
            .env_clear()
            .env("VUSB_STATE_DIR", self.state())
            .stdin(Stdio::null())
            .arg("--host-root")
            .arg(self.root.path().join("machine"))
            .args(arguments);
        command
    }

    /// Runs the command.
    pub(crate) fn vusb<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.ran(&self.command(arguments).output().unwrap())
    }

    /// Runs a command line: words separated by blanks.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.vusb(line.split_whitespace())
    }

    /// Runs a command line with `--json`, and parses its output.
    pub(crate) fn json(&self, line: &str) -> Value {
        let ran = self.vusb(line.split_whitespace().chain(["--json"]));
        assert_eq!(ran.stdout.lines().count(), 1, "one line of JSON, and nothing else: {ran:?}");
        let value: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(value.get("api"), Some(&1.into()), "{ran:?}");
        let code = value.pointer("/error/code").and_then(Value::as_i64).unwrap_or(0);
        assert_eq!(code, i64::from(ran.code), "{ran:?}");
        assert_eq!(ran.stderr, "", "nothing goes to standard error");
        value
    }

    /// Starts a command line without waiting for it.
    pub(crate) fn start(&self, line: &str) -> Child {
        let mut command = self.command(line.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn ran(&self, output: &Output) -> Ran {
        let text = |bytes: &[u8]| self.normalized(std::str::from_utf8(bytes).unwrap());
        Ran {
            code: output.status.code().unwrap(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// The text without the name of this test's folder. The width of a column depends on the length
    /// of that name, so padding is normalized too.
    fn normalized(&self, text: &str) -> String {
        let real = self.root.path().canonicalize().unwrap();
        let roots = [real.to_str().unwrap(), self.root.path().to_str().unwrap()];
        if !roots.iter().any(|root| text.contains(root)) {
            return text.to_owned();
        }
        let named = roots.iter().fold(text.to_owned(), |text, root| text.replace(root, "$TMP"));
        let narrow = |line: &str| {
            let words = line.trim_start();
            let indent = line.get(..line.len() - words.len()).unwrap();
            let cells: Vec<&str> =
                words.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
            format!("{indent}{}\n", cells.join("  "))
        };
        named.replace("$TMP/work/", "").lines().map(narrow).collect()
    }

    /// Every file in the working folder and the state folder, with its content. Locks are left out,
    /// since they name their last holder.
    pub(crate) fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(&self.path(""), &mut files);
        collect(&self.state(), &mut files);
        files.retain(|(path, _)| path.extension().is_none_or(|it| it != "lock"));
        files.sort();
        files
    }

    /// Plugs a device with these sysfs attributes into this test's machine.
    pub(crate) fn plug(&self, bus_id: &str, attributes: &[(&str, &str)]) {
        let machine = self.root.path().join("machine");
        let (bus, _) = bus_id.split_once('-').unwrap();
        let dir = machine.join(format!("sys/devices/pci0000:00/0000:00:14.0/usb{bus}/{bus_id}"));
        fs::create_dir_all(&dir).unwrap();
        let list = machine.join("sys/bus/usb/devices");
        let pci = machine.join("sys/devices/pci0000:00/0000:00:14.0/subsystem");
        if !pci.exists() {
            fs::create_dir_all(machine.join("sys/bus/pci")).unwrap();
            symlink(machine.join("sys/bus/pci"), pci).unwrap();
        }
        let address = (fs::read_dir(&list).unwrap().count() + 2).to_string();
        let usual = [
            ("busnum", bus),
            ("devnum", address.as_str()),
            ("bDeviceClass", "00"),
            ("speed", "480"),
        ];
        for (name, value) in usual.iter().chain(attributes) {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
        symlink(&dir, list.join(bus_id)).unwrap();
    }

    /// Unplugs a device.
    pub(crate) fn unplug(&self, bus_id: &str) {
        fs::remove_file(self.root.path().join("machine/sys/bus/usb/devices").join(bus_id)).unwrap();
    }

    /// Plugs in a common stick.
    pub(crate) fn plug_stick(&self, bus_id: &str) {
        self.plug(
            bus_id,
            &[
                ("idVendor", "0781"),
                ("idProduct", "5581"),
                ("manufacturer", "SanDisk"),
                ("product", "Ultra"),
                ("serial", "4C53"),
            ],
        );
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}

impl Ran {
    /// Asserts success, with this on standard output.
    #[track_caller]
    pub(crate) fn prints(&self, stdout: &str) -> &Ran {
        assert_eq!((self.code, self.stdout.trim_end()), (0, stdout), "{self:?}");
        self
    }

    /// Asserts success, with nothing on standard error.
    #[track_caller]
    pub(crate) fn quietly(&self) -> &Ran {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self
    }

    /// Asserts that standard error contains this.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> &Ran {
        assert!(self.stderr.contains(part), "`{part}` is not in: {self:?}");
        self
    }

    /// Asserts this exit code, an empty standard output, and an error on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> &Ran {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        self
    }

    /// All output and the exit code.
    pub(crate) fn snapshot(&self) -> String {
        let mut text = self.stdout.clone();
        if !self.stderr.is_empty() {
            text = format!("{text}---- stderr\n{}", self.stderr);
        }
        if self.code != 0 {
            text = format!("{text}---- exit {}\n", self.code);
        }
        text
    }
}
