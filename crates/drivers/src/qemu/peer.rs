//! The process behind a QMP socket.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::running::{is_loader, is_qemu};
use crate::identity::{GuestIdentity, Process};

/// Connects to a socket without waiting.
pub(super) fn connected(path: &str) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The identity of the QEMU with this process ID: the ID, its start time, and the boot. `None` if
/// the process is not a QEMU. The credentials of a socket can name such a process: the program that
/// created the socket and passed it to QEMU.
pub(super) fn process(pid: i32) -> Option<GuestIdentity> {
    // The process chooses its name, which need not be UTF-8.
    let command = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let command = String::from_utf8_lossy(&command);
    // Proxmox VE starts QEMU as `kvm`.
    let runs_qemu = command.contains("qemu")
        || command.trim_end() == "kvm"
        || (is_loader(&command) && is_qemu(pid));
    let process = Process::with_id(pid).filter(|_| runs_qemu)?;
    Some(GuestIdentity::of_process("qemu", &process))
}

/// Whether a process listens on a socket. If that cannot be determined, the answer is yes.
pub(crate) fn has_listener(path: &str) -> bool {
    !matches!(connected(path), Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::{Qemu, QemuScheme};
    use super::*;
    use crate::driver::Driver as _;
    use crate::scheme::{GuestEvent, Scheme as _, WatchOptions};

    const LONG: Duration = Duration::from_secs(20);

    /// Tells the helper test which socket to serve.
    const VARIABLE: &str = "VUSB_TEST_SERVE";

    /// A process that is called `qemu-system-x86_64` and serves a QMP socket until it is killed.
    struct FakeQemu(Child);

    impl FakeQemu {
        fn start(folder: &Path, socket: &Path) -> FakeQemu {
            let program = folder.join("qemu-system-x86_64");
            symlink(env::current_exe().unwrap(), &program).unwrap();
            let child = Command::new(program)
                .args(["--exact", "qemu::peer::tests::helper_that_serves"])
                .env(VARIABLE, socket)
                .stdout(Stdio::null())
                .spawn();
            FakeQemu(child.unwrap())
        }
    }

    impl Drop for FakeQemu {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// Not a test: the process of [`FakeQemu`]. It answers every command in the same way.
    #[test]
    fn helper_that_serves() {
        let Some(path) = env::var_os(VARIABLE) else { return };
        let listener = UnixListener::bind(path).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let version = json!({"qemu": {"major": 8, "minor": 2, "micro": 0}, "package": ""});
            let greeting = json!({"QMP": {"version": version, "capabilities": []}});
            let _ = writeln!(stream, "{greeting}");
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines.map_while(Result::ok) {
                let request: Value = serde_json::from_str(&line).unwrap();
                let answer = json!({"return": {"status": "running"}, "id": request["id"]});
                let _ = writeln!(stream, "{answer}");
            }
        }
    }

    /// A watch and a connection identify a guest by the same process.
    #[test]
    fn a_guest_is_identified_by_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = folder.path().join("sockets");
        fs::create_dir(&sockets).unwrap();
        let socket = sockets.join("web1.qmp");
        let options = WatchOptions { folders: vec![sockets.clone()], ..WatchOptions::default() };
        let mut watch = QemuScheme.watch(&options).unwrap().unwrap();
        assert_eq!(watch.running().unwrap(), [""; 0]);

        let program = FakeQemu::start(folder.path(), &socket);
        let web1 = socket.to_str().unwrap().to_owned();
        assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Started(web1.clone())]);
        let mut qemu = Qemu::at(&socket, LONG);
        assert_eq!(qemu.identity(), None, "there is no connection yet");
        assert_eq!(qemu.guest_state().unwrap(), "running");
        let pid = i32::try_from(program.0.id()).unwrap();
        assert!(qemu.identity().is_some());
        assert_eq!(qemu.identity(), process(pid));

        drop(program);
        assert_eq!(watch.wait(LONG).unwrap(), [GuestEvent::Ended(web1)]);
        assert_eq!(process(pid), None);
    }

    /// A QEMU is recognized by the name of its program.
    #[test]
    fn a_qemu_has_an_identity() {
        let folder = tempfile::tempdir().unwrap();
        for (name, is_qemu) in [("qemu-system-x86_64", true), ("kvm", true), ("virtlogd", false)] {
            let program = folder.path().join(name);
            symlink("/bin/sleep", &program).unwrap();
            let mut child = Command::new(program).arg("60").spawn().unwrap();
            // Before the program is executed, the process has the name of this thread.
            let comm = format!("/proc/{}/comm", child.id());
            while !name.starts_with(fs::read_to_string(&comm).unwrap().trim_end()) {
                thread::yield_now();
            }
            let identity = process(i32::try_from(child.id()).unwrap());
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(identity.is_some(), is_qemu, "{name}");
        }
    }

    /// The kernel shows the loader's name for such a process.
    #[test]
    fn a_qemu_that_the_dynamic_loader_starts_has_an_identity() {
        let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
        if !loader.exists() {
            eprintln!("this machine has no {}", loader.display());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for (name, is_qemu) in [("qemu-system-x86_64", true), ("virtlogd", false)] {
            let program = folder.path().join(name);
            symlink("/bin/cat", &program).unwrap();
            let mut child = Command::new(loader);
            child.arg(&program).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = child.spawn().unwrap();
            // The echo shows that the loader has been executed.
            child.stdin.as_mut().unwrap().write_all(b".").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let identity = process(i32::try_from(child.id()).unwrap());
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(identity.is_some(), is_qemu, "{name}");
        }
    }

    #[test]
    fn a_process_that_is_not_qemu_has_no_identity() {
        assert_eq!(process(0), None);
        assert_eq!(process(std::process::id() as i32), None);
    }
}
