//! The QEMUs that run on this machine, by their command lines.
//!
//! ```text
//!  /proc/PID/cmdline ──split──▶ arguments ──▶ name, monitors, who started it ──▶ RunningGuest
//! ```
//!
//! No connection is made. Paths are looked up in the mount namespace of this process: a QEMU in a
//! container may have its monitor at a path that does not exist here, and is then listed without an
//! address.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use vusb_formats::{PassedThrough, may_pass_through, passed_through};
use vusb_host::user_ids;

use super::peer::process;
use crate::scheme::{GuestOwner, RunningGuest};
use crate::text;

/// How much of a command line is read, in bytes. A long one has a few hundred arguments of 100
/// bytes. The kernel allows 128 KiB for a single argument (`MAX_ARG_STRLEN` in
/// `include/uapi/linux/binfmts.h`).
const MAX_COMMAND_LINE: u64 = 1 << 20;

/// How much of a file of `-readconfig` is read, in bytes. Proxmox VE's for q35 has 2 KiB.
const MAX_CONFIG_FILE: u64 = 64 << 10;

/// How many monitors of a command line are read. libvirt and Proxmox VE have one or two.
const MAX_MONITORS: usize = 16;

/// How much of the `status` of a process is read, in bytes. The user IDs are before the list of
/// groups, which can be long.
const MAX_STATUS: u64 = 4 << 10;

/// How much of the list of accounts is read, in bytes.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// The permission bit of a program that runs as its owner (`inode(7)`).
const SET_USER_ID: u32 = 0o4000;

/// The login user of a process that no user's login has started: `AUDIT_UID_UNSET` (Linux,
/// `include/uapi/linux/audit.h`).
const NO_LOGIN: &str = "4294967295";

/// The accounts that packages create to run guests (libvirt's build option `qemu_user`): the first
/// on Debian, Ubuntu and Arch, the second on Fedora, RHEL, SUSE and Gentoo.
const GUEST_ACCOUNTS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// The id of the character device of libvirt's own monitor (`qemuBuildMonitorCommandLine` in
/// `src/qemu/qemu_command.c`). libvirt stays connected to it.
const LIBVIRT_MONITOR: &str = "charmonitor";

/// The folder of Proxmox VE's monitors (`PVE::QemuServer::Helpers`).
pub(crate) const PROXMOX_FOLDER: &str = "/var/run/qemu-server";

/// The parent of the folders that Incus has for its running guests: `/run/incus/PROJECT_NAME`, with
/// the monitor `qemu.monitor`.
pub(super) const INCUS_FOLDER: &str = "/run/incus/";

/// Every QEMU below `root`, by process ID. Processes that cannot be read are skipped. The devices
/// of the machine that a command line names are only read for guests that `needs_devices` selects.
pub(crate) fn all(root: &Path, needs_devices: impl Fn(&RunningGuest) -> bool) -> Vec<RunningGuest> {
    matching(root, |_| true, needs_devices)
}

/// Every QEMU below `root` whose command line names devices of the machine.
pub(crate) fn with_host_devices(root: &Path) -> Vec<RunningGuest> {
    let mut guests = matching(root, may_pass_through, |_| true);
    guests.retain(|it| !it.host_devices.is_empty() || !it.disks.is_empty());
    guests
}

/// Every QEMU below `root` whose command line is `wanted`. The others are not parsed.
fn matching(
    root: &Path,
    wanted: impl Fn(&str) -> bool,
    needs_devices: impl Fn(&RunningGuest) -> bool,
) -> Vec<RunningGuest> {
    let Ok(entries) = fs::read_dir(root.join("proc")) else { return Vec::new() };
    let mut pids: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid > 0)
        .collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(|pid| guest(root, pid, &wanted, &needs_devices)).collect()
}

/// The guest of a process; `None` if it is not a QEMU, has ended, or is not `wanted`.
fn guest(
    root: &Path,
    pid: i32,
    wanted: impl Fn(&str) -> bool,
    needs_devices: impl Fn(&RunningGuest) -> bool,
) -> Option<RunningGuest> {
    let folder = root.join("proc").join(pid.to_string());
    let bytes = read(&folder.join("cmdline"), MAX_COMMAND_LINE)?;
    let text = String::from_utf8_lossy(&bytes);
    if !wanted(&text) {
        return None;
    }
    let command = CommandLine::parse(&bytes)?;
    let working = fs::read_link(folder.join("cwd")).ok();
    let is_socket = |socket: &PathBuf| {
        let below = socket.strip_prefix("/").unwrap_or(socket);
        fs::metadata(root.join(below)).is_ok_and(|it| it.file_type().is_socket())
    };
    let monitors = command.monitors.iter().filter_map(|path| absolute(path, working.as_deref()));
    let operand = monitors.into_iter().find(is_socket);
    let mut guest = RunningGuest {
        operand: operand.and_then(|path| path.into_os_string().into_string().ok()),
        name: command.name,
        manager: command.manager,
        // `process` reads the `/proc` of this machine.
        identity: if root == Path::new("/") { process(pid) } else { None },
        uuid: command.uuid,
        process: pid.unsigned_abs(),
        host_devices: Vec::new(),
        disks: Vec::new(),
        owner: owner(root, &folder),
    };
    if needs_devices(&guest) {
        let passed = devices(root, &text, working.as_deref(), &guest);
        guest.host_devices = passed.host_devices;
        guest.disks = passed.disks.into_iter().map(PathBuf::from).collect();
    }
    Some(guest)
}

/// The devices of the machine that a command line names. If it is too long to be read as a whole,
/// the part that was read counts only for a process of the system, which may really have the
/// devices. For any other process, the result is empty: no real guest has such a command line.
fn devices(root: &Path, text: &str, working: Option<&Path>, guest: &RunningGuest) -> PassedThrough {
    let passed = passed_through(text, &|file| {
        let path = absolute(Path::new(file), working)?;
        config_file(&root.join(path.strip_prefix("/").unwrap_or(&path)))
    });
    if !passed.is_cut {
        return passed;
    }
    let is_system = guest.owner == GuestOwner::System;
    tracing::debug!(pid = guest.process, is_system, "the command line was not read completely");
    if is_system { passed } else { PassedThrough::default() }
}

/// The owner of the process with this folder in `/proc`, from its `status`. The owner of the folder
/// does not tell: it is root if the process cannot be traced (`PR_SET_DUMPABLE(2const)`).
fn owner(root: &Path, folder: &Path) -> GuestOwner {
    let status = read(&folder.join("status"), MAX_STATUS).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    match user_ids(&status) {
        Some([uid, others @ ..]) if others == [uid; 3] => {
            if uid == 0 {
                owner_of_root(folder)
            } else if is_guest_account(root, uid) {
                GuestOwner::System
            } else {
                GuestOwner::User(uid)
            }
        }
        _ => GuestOwner::Unknown,
    }
}

/// The owner of a process whose user IDs are all root's. A program with the set-user-ID bit does
/// not count as the system's: while `sudo` asks for a password, all its user IDs are root's, but
/// its user chose its name and arguments. If the program file cannot be examined, the login user
/// decides (`proc_pid_loginuid(5)`); services have none.
fn owner_of_root(folder: &Path) -> GuestOwner {
    let login = || String::from_utf8(read(&folder.join("loginuid"), 16)?).ok();
    let is_system = match fs::metadata(folder.join("exe")) {
        Ok(program) => program.mode() & SET_USER_ID == 0,
        Err(_) => login().is_none_or(|uid| [NO_LOGIN, "0"].contains(&uid.trim())),
    };
    if is_system { GuestOwner::System } else { GuestOwner::Unknown }
}

/// Whether the user is an account that packages create to run guests (`passwd(5)`).
fn is_guest_account(root: &Path, uid: u32) -> bool {
    let accounts = read(&root.join("etc/passwd"), MAX_ACCOUNTS).unwrap_or_default();
    String::from_utf8_lossy(&accounts).lines().any(|line| {
        let mut fields = line.split(':');
        let is_listed = fields.next().is_some_and(|name| GUEST_ACCOUNTS.contains(&name));
        is_listed && fields.nth(1) == Some(uid.to_string().as_str())
    })
}

/// The content of a file of `-readconfig`. Any user can name a file there, so only a regular file
/// is read, even if the path is replaced in the meantime: opening a pipe could block forever.
fn config_file(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    text::open(path).ok()?.take(MAX_CONFIG_FILE).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// The name of a guest, from the `-name` of its QEMU: the process `pid` of this machine.
pub(super) fn name_of(pid: i32) -> Option<String> {
    let path = Path::new("/proc").join(pid.to_string()).join("cmdline");
    CommandLine::parse(&read(&path, MAX_COMMAND_LINE)?)?.name
}

fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The absolute form of a path of a process with this working directory. `None` if the path is
/// relative and the directory is unknown.
fn absolute(path: &Path, working: Option<&Path>) -> Option<PathBuf> {
    let path = if path.is_absolute() { path.to_owned() } else { working?.join(path) };
    Some(path.components().filter(|it| *it != Component::CurDir).collect())
}

/// What a QEMU's command line says about its guest.
#[derive(Debug, PartialEq, Eq)]
struct CommandLine {
    name: Option<String>,
    /// The Unix sockets of QMP monitors that accept clients: those of `-qmp`, then those of
    /// `-qmp-pretty`, then those of `-mon`.
    monitors: Vec<PathBuf>,
    manager: Option<&'static str>,
    uuid: Option<String>,
}

impl CommandLine {
    /// Parses the arguments of a process, each of which ends in a zero byte. `None` if the program
    /// is not a QEMU with a guest of its own: Xen's device models belong to a Xen guest.
    fn parse(bytes: &[u8]) -> Option<CommandLine> {
        let text = String::from_utf8_lossy(bytes);
        let arguments = after_qemu(text.split('\0'))?;
        let options: Vec<(&str, &str)> = options(arguments).collect();
        let values = |option: &'static str| {
            options.iter().filter(move |(name, _)| *name == option).map(|(_, value)| *value)
        };
        if values("xen-domid").next().is_some() {
            return None;
        }
        let mut sockets: HashMap<String, PathBuf> = HashMap::new();
        for (id, path) in values("chardev").filter_map(chardev) {
            sockets.entry(id).or_insert(path);
        }
        let from_mon =
            values("mon").filter_map(|value| sockets.get(&control_monitor(value)?).cloned());
        let from_qmp = ["qmp", "qmp-pretty"].into_iter().flat_map(values).filter_map(unix_server);
        let monitors: Vec<PathBuf> = from_qmp.chain(from_mon).take(MAX_MONITORS).collect();
        let is_libvirt = values("mon").chain(values("chardev")).any(|value| {
            parameters(value, "chardev").iter().any(|(key, value)| {
                matches!(key.as_str(), "id" | "chardev") && value == LIBVIRT_MONITOR
            })
        });
        let is_proxmox = sockets.values().any(|path| path.starts_with(PROXMOX_FOLDER));
        // Incus defines its monitor in a file of `-readconfig`.
        let mut files = values("readconfig").chain(values("pidfile"));
        let is_incus = files.any(|path| path.starts_with(INCUS_FOLDER));
        let manager = match (is_libvirt, is_proxmox, is_incus) {
            (true, _, _) => Some("libvirt"),
            (_, true, _) => Some("Proxmox VE"),
            (_, _, true) => Some("Incus"),
            _ => None,
        };
        let name = values("name").next_back().and_then(guest_name);
        // Proxmox VE passes the UUID in the SMBIOS structure of the system, which has type 1.
        let smbios = values("smbios").map(|value| parameters(value, "type"));
        let system = smbios.filter(|it| find(it, "type") == Some("1"));
        let in_smbios = system.filter_map(|it| find(&it, "uuid").map(str::to_owned)).next_back();
        let uuid = values("uuid").next_back().map(str::to_owned).or(in_smbios);
        let uuid = uuid.map(|it| it.to_ascii_lowercase());
        Some(CommandLine { name, monitors, manager, uuid })
    }
}

/// Whether the process `pid` of this machine is a QEMU, according to its command line.
pub(super) fn is_qemu(pid: i32) -> bool {
    let path = Path::new("/proc").join(pid.to_string()).join("cmdline");
    let bytes = read(&path, MAX_COMMAND_LINE).unwrap_or_default();
    after_qemu(String::from_utf8_lossy(&bytes).split('\0')).is_some()
}

/// The arguments that follow QEMU's name. `None` if another program was started. The dynamic loader
/// may come first: a QEMU of another distribution is started as
/// `ld-linux-x86-64.so.2 --library-path DIR qemu-system-x86_64`.
fn after_qemu<'a>(
    mut arguments: impl Iterator<Item = &'a str>,
) -> Option<impl Iterator<Item = &'a str>> {
    let file_name = |word: &'a str| word.rsplit('/').next().unwrap_or(word);
    let is_qemu = |program: &str| {
        program.starts_with("qemu-system-") || program == "qemu-kvm" || program == "kvm"
    };
    let program = file_name(arguments.next()?);
    if is_loader(program) {
        let _ = arguments.by_ref().find(|word| is_qemu(file_name(word)))?;
        return Some(arguments);
    }
    is_qemu(program).then_some(arguments)
}

/// Whether a program is the dynamic loader: `ld.so(8)`, or that of musl.
pub(super) fn is_loader(program: &str) -> bool {
    ["ld-linux", "ld-musl", "ld.so", "ld64.so"].iter().any(|it| program.starts_with(it))
}

/// Options and their values. QEMU takes one dash or two, and an option without a value has an empty
/// one here.
fn options<'a>(
    arguments: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut arguments = arguments.peekable();
    std::iter::from_fn(move || {
        loop {
            let argument = arguments.next()?;
            let Some(name) = argument.strip_prefix('-') else { continue };
            let name = name.strip_prefix('-').unwrap_or(name);
            let value = arguments.next_if(|value| !value.starts_with('-')).unwrap_or_default();
            return Some((name, value));
        }
    })
}

/// The parameters of a value, as QEMU's `opts_parse` in `util/qemu-option.c` splits them:
/// `a=1,b=2`, with `,,` for a comma. The first may be a value only, and then has the key `implied`;
/// another one without `=` is a switch (`server`, `nowait`), with the value `on`.
fn parameters(value: &str, implied: &str) -> Vec<(String, String)> {
    let mut texts = vec![String::new()];
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ',' && letters.next_if_eq(&',').is_none() {
            texts.push(String::new());
        } else if let Some(text) = texts.last_mut() {
            text.push(letter);
        }
    }
    let parameter = |(number, text): (usize, &String)| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None if number == 0 => (implied.to_owned(), text.clone()),
        None => (text.clone(), "on".to_owned()),
    };
    texts.iter().enumerate().map(parameter).collect()
}

fn find<'a>(parameters: &'a [(String, String)], key: &str) -> Option<&'a str> {
    parameters.iter().find(|(it, _)| it == key).map(|(_, value)| value.as_str())
}

/// Whether a socket listens: without `server`, QEMU connects to another program.
fn listens(parameters: &[(String, String)]) -> bool {
    matches!(find(parameters, "server"), Some("on" | "yes" | "true" | "y"))
}

/// The id and path of a character device that listens on a Unix socket.
fn chardev(value: &str) -> Option<(String, PathBuf)> {
    let parameters = parameters(value, "backend");
    let id = find(&parameters, "id")?;
    let path = find(&parameters, "path")?;
    let is_socket = find(&parameters, "backend") == Some("socket");
    (is_socket && listens(&parameters)).then(|| (id.to_owned(), path.into()))
}

/// The character device of a `-mon` that speaks QMP.
fn control_monitor(value: &str) -> Option<String> {
    let parameters = parameters(value, "chardev");
    if find(&parameters, "mode") != Some("control") {
        return None;
    }
    find(&parameters, "chardev").map(str::to_owned)
}

/// The path of `-qmp unix:PATH,server=on`.
fn unix_server(value: &str) -> Option<PathBuf> {
    let parameters = parameters(value.strip_prefix("unix:")?, "path");
    if !listens(&parameters) {
        return None;
    }
    find(&parameters, "path").map(PathBuf::from)
}

/// The name in `-name web1,process=x` or `-name guest=web1`.
fn guest_name(value: &str) -> Option<String> {
    find(&parameters(value, "guest"), "guest").filter(|it| !it.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_name_of_a_process_is_that_of_its_command_line() {
        use std::io::Read as _;
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};
        let mut qemu = Command::new("sh");
        qemu.arg0("/usr/bin/qemu-system-x86_64");
        qemu.args(["-c", "echo; read line", "-name", "guest=web1"]);
        let mut qemu = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // `spawn` may return before the kernel shows the new command line.
        qemu.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let name = name_of(i32::try_from(qemu.id()).unwrap());
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        assert_eq!(name.as_deref(), Some("web1"));
        assert_eq!(name_of(i32::try_from(std::process::id()).unwrap()), None);
    }

    fn command(line: &str) -> Option<CommandLine> {
        CommandLine::parse(
            (line.split_whitespace().collect::<Vec<_>>().join("\0") + "\0").as_bytes(),
        )
    }

    #[track_caller]
    fn has(line: &str, name: Option<&str>, monitors: &[&str], manager: Option<&'static str>) {
        let monitors = monitors.iter().map(PathBuf::from).collect();
        let expected = CommandLine { name: name.map(str::to_owned), monitors, manager, uuid: None };
        assert_eq!(command(line), Some(expected), "{line}");
    }

    #[test]
    fn monitors_of_each_form_are_found() {
        let qemu = "/usr/bin/qemu-system-x86_64 -S";
        has(
            &format!("{qemu} -qmp unix:/run/a.qmp,server=on,wait=off"),
            None,
            &["/run/a.qmp"],
            None,
        );
        has(&format!("{qemu} --qmp unix:a,,b.qmp,server,nowait"), None, &["a,b.qmp"], None);
        has(
            &format!("{qemu} -qmp-pretty unix:/run/a,server=on -qmp unix:/run/b,server=on"),
            None,
            &["/run/b", "/run/a"],
            None,
        );
        has(
            &format!(
                "{qemu} -mon chardev=m,mode=control -mon h -chardev socket,id=h,path=/h,server=on \
                 -chardev socket,path=/run/m,server=on,wait=off,id=m"
            ),
            None,
            &["/run/m"],
            None,
        );
    }

    #[test]
    fn other_sockets_are_not_monitors_for_clients() {
        let qemu = "qemu-system-aarch64";
        // QEMU connects to a program; TCP; a human monitor; no such character device.
        has(&format!("{qemu} -qmp unix:/run/a.qmp"), None, &[], None);
        has(&format!("{qemu} -qmp tcp:localhost:4444,server=on"), None, &[], None);
        has(&format!("{qemu} -monitor unix:/run/a.hmp,server=on"), None, &[], None);
        has(&format!("{qemu} -mon chardev=x,mode=control"), None, &[], None);
        // A character device that connects, and one that is not a socket.
        let monitor = format!("{qemu} -mon chardev=m,mode=control -chardev");
        has(&format!("{monitor} socket,id=m,path=/run/m"), None, &[], None);
        has(&format!("{monitor} pipe,id=m,path=/run/m,server=on"), None, &[], None);
    }

    #[test]
    fn a_guest_has_the_name_on_its_command_line() {
        has("qemu-kvm -name web1", Some("web1"), &[], None);
        has("qemu-kvm -name web1,process=x,debug-threads=on", Some("web1"), &[], None);
        has("qemu-kvm -name guest=web1,debug-threads=on", Some("web1"), &[], None);
        has("qemu-kvm -name debug-threads=on", None, &[], None);
    }

    #[test]
    fn the_tool_that_started_a_guest_is_recognized() {
        let libvirt = "/usr/bin/qemu-system-x86_64 -name guest=web1,debug-threads=on -chardev \
                       socket,id=charmonitor,fd=24,server=on,wait=off -mon \
                       chardev=charmonitor,id=monitor,mode=control";
        has(libvirt, Some("web1"), &[], Some("libvirt"));
        let proxmox = "/usr/bin/kvm -id 100 -name web1,debug-threads=on -chardev \
                       socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off -mon \
                       chardev=qmp,mode=control";
        has(proxmox, Some("web1"), &["/var/run/qemu-server/100.qmp"], Some("Proxmox VE"));
        let incus = "/opt/incus/bin/qemu-system-x86_64 -S -name web1 -nodefaults -readconfig \
                     /run/incus/shop_web1/qemu.conf -pidfile /run/incus/shop_web1/qemu.pid";
        has(incus, Some("web1"), &[], Some("Incus"));
    }

    #[test]
    fn a_qemu_that_the_dynamic_loader_starts_is_recognized() {
        let loader = "/old/lib64/ld-linux-x86-64.so.2 --library-path /old/lib --argv0 qemu";
        let line = format!("{loader} /old/bin/qemu-system-x86_64 -name w -qmp unix:/q,server=on");
        has(&line, Some("w"), &["/q"], None);
        assert_eq!(command(&format!("{loader} /old/bin/qemu-nbd -name x")), None);
    }

    #[test]
    fn other_programs_are_not_guests() {
        for line in [
            "/usr/bin/qemu-nbd -name x",
            "vim qemu-system-x86_64",
            "kvm-ok",
            "qemu-system-i386 -xen-domid 3 -chardev socket,id=libxl-cmd,path=/x,server=on -mon \
             chardev=libxl-cmd,mode=control",
        ] {
            assert_eq!(command(line), None, "{line}");
        }
        assert_eq!(CommandLine::parse(b""), None);
        assert!(CommandLine::parse(b"kvm\0\xff\0-name\0").is_some());
    }

    #[test]
    fn the_owner_of_a_process_is_a_user_only_if_it_has_no_rights_of_another() {
        let machine = tempfile::tempdir().unwrap();
        let root = machine.path();
        let folder = root.join("proc/7");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        let accounts = "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:108::/:/bin/false\n\
                        qemu2:x:1002:1002::/:/bin/sh\nalice:x:1000:1000:qemu:/home:/bin/sh\n";
        fs::write(root.join("etc/passwd"), accounts).unwrap();
        assert_eq!(owner(root, &folder), GuestOwner::Unknown);
        for (uids, expected) in [
            ("0\t0\t0\t0", GuestOwner::System),
            ("64055\t64055\t64055\t64055", GuestOwner::System),
            ("1000\t1000\t1000\t1000", GuestOwner::User(1000)),
            ("1002\t1002\t1002\t1002", GuestOwner::User(1002)),
            // A setuid program, whose first argument its user chooses.
            ("1000\t0\t0\t0", GuestOwner::Unknown),
            ("0\t0\t1000\t0", GuestOwner::Unknown),
            ("0", GuestOwner::Unknown),
            ("0 0 0 x", GuestOwner::Unknown),
        ] {
            fs::write(folder.join("status"), format!("Name:\tUid:\nUid:\t{uids}\n")).unwrap();
            assert_eq!(owner(root, &folder), expected, "{uids}");
        }
    }

    /// A user chooses the name and the arguments of `sudo`, which runs as root.
    #[test]
    fn a_program_that_runs_as_root_for_its_user_is_not_the_systems() {
        use std::os::unix::fs::PermissionsExt as _;
        let machine = tempfile::tempdir().unwrap();
        let folder = machine.path().join("proc/7");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("status"), "Uid:\t0\t0\t0\t0\n").unwrap();
        let owner = || owner(machine.path(), &folder);
        for (login, expected) in [
            ("4294967295", GuestOwner::System),
            ("0", GuestOwner::System),
            ("1000", GuestOwner::Unknown),
        ] {
            fs::write(folder.join("loginuid"), login).unwrap();
            assert_eq!(owner(), expected, "{login}");
        }
        // If the program file can be examined, it decides: here a QEMU that `sudo` has started.
        let program = folder.join("exe");
        fs::write(&program, "").unwrap();
        assert_eq!(owner(), GuestOwner::System);
        fs::write(folder.join("loginuid"), NO_LOGIN).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(owner(), GuestOwner::Unknown);
    }

    /// A reader that waits for the pipe's other end, or reads an endless device, never returns.
    #[test]
    fn only_a_regular_file_of_limited_size_is_read_as_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let [file, pipe, link] = ["file", "pipe", "link"].map(|it| folder.path().join(it));
        fs::write(&file, "[device]\n").unwrap();
        assert_eq!(config_file(&file).as_deref(), Some("[device]\n"));
        fs::write(&file, " ".repeat(100 << 10)).unwrap();
        assert_eq!(config_file(&file).map(|it| it.len()), Some(64 << 10));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(config_file(path), None, "{}", path.display());
        }
        // The file may be replaced between two checks.
        let stop = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(relaxed) {
                    for target in [&file, &pipe] {
                        let _ = fs::remove_file(&link);
                        let _ = std::os::unix::fs::symlink(target, &link);
                    }
                }
            });
            for _ in 0..2000 {
                let _ = config_file(&link);
            }
            stop.store(true, relaxed);
        });
    }

    /// A user cannot make reading take long, and the limit does not hide a guest of the system.
    #[test]
    fn a_command_line_that_is_too_long_counts_only_for_the_system() {
        let machine = tempfile::tempdir().unwrap();
        let root = machine.path();
        let folder = root.join("proc/7");
        fs::create_dir_all(&folder).unwrap();
        let files = "-readconfig /none ";
        let found = |uid: u32, count: usize| {
            fs::write(folder.join("status"), format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"))
                .unwrap();
            let line = format!("kvm -device usb-host,hostbus=1,hostport=2 {}", files.repeat(count));
            fs::write(folder.join("cmdline"), line.replace(' ', "\0")).unwrap();
            with_host_devices(root).into_iter().map(|it| it.host_devices.len()).sum::<usize>()
        };
        assert_eq!([found(1000, 16), found(1000, 17), found(1000, 20_000)], [1, 0, 0]);
        assert_eq!([found(0, 16), found(0, 17), found(0, 20_000)], [1; 3]);
    }

    #[test]
    fn only_a_few_monitors_are_read() {
        let line = |count| format!("kvm {}", "-qmp unix:/a,server=on ".repeat(count));
        let monitors = |count| command(&line(count)).unwrap().monitors.len();
        assert_eq!([monitors(2), monitors(20_000)], [2, MAX_MONITORS]);
    }

    #[test]
    fn all_guests_of_a_machine_are_listed() {
        let machine = tempfile::tempdir().unwrap();
        let root = machine.path();
        let process = |pid: u32, arguments: &str| {
            let folder = root.join(format!("proc/{pid}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cmdline"), arguments.replace(' ', "\0")).unwrap();
            std::os::unix::fs::symlink("/srv", folder.join("cwd")).unwrap();
        };
        process(20, "qemu-system-x86_64 -qmp unix:./web2.qmp,server=on -readconfig usb.cfg");
        process(3, "qemu-system-x86_64 -name web1 -qmp unix:/gone.qmp,server=on");
        process(4, "bash -c qemu-system-x86_64");
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::create_dir_all(root.join("srv")).unwrap();
        let _listener = UnixListener::bind(root.join("srv/web2.qmp")).unwrap();
        let file = "[device]\ndriver = \"usb-host\"\nhostbus = \"1\"\nhostport = \"4\"\n";
        fs::write(root.join("srv/usb.cfg"), file).unwrap();
        assert!(all(root, |_| false).iter().all(|it| it.host_devices.is_empty()));
        let guests = all(root, |_| true);
        let named: Vec<_> = guests.iter().map(|it| it.host_devices.clone()).collect();
        assert_eq!(named, [vec![], vec!["1-4".parse().unwrap()]]);
        assert_eq!(with_host_devices(root), guests[1..]);
        let guests: Vec<_> = guests
            .iter()
            .map(|it| (it.process, it.name.as_deref(), it.operand.as_deref()))
            .collect();
        assert_eq!(guests, [(3, Some("web1"), None), (20, None, Some("/srv/web2.qmp"))]);
    }
}
