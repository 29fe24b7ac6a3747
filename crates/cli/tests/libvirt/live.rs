//! `libvirt:NAME` with a real libvirtd: 9.0 of Debian 12 and 11.3 of Debian 13.
//!
//! ```text
//!   vusb device add … ──▶ libvirtd ──▶ QEMU, its processors stopped
//!                            └──▶ virsh dumpxml, in both places: as expected
//! ```
//!
//! The daemons are those of a session of an unprivileged user, so `libvirt:web1` on the page for
//! users of virsh stands for a longer address here.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;
use vusb_rig::Libvirt;
use vusb_rig::guide::Guide;
use vusb_rig::libvirt::SUITES;

/// The domain of the tests. Its controller is not vusb's.
const XML: &str = "<domain type='qemu'><name>web1</name><memory unit='MiB'>64</memory>\
    <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
    <controller type='usb' index='0' model='qemu-xhci' ports='15'/>\
    <memballoon model='none'/></devices></domain>";

/// A daemon with the running domain `web1`, and the folder of vusb's records.
struct Scene {
    libvirt: Libvirt,
    records: TempDir,
}

/// What vusb has printed and how it has ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(it: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: it.status.code().unwrap(), out: text(it.stdout), err: text(it.stderr) }
    }
}

impl Scene {
    fn new(suite: &str) -> Scene {
        let scene =
            Scene { libvirt: Libvirt::of(suite).unwrap(), records: TempDir::new().unwrap() };
        eprintln!("libvirt {}", scene.libvirt.version().unwrap());
        scene.libvirt.define(XML).unwrap();
        scene.libvirt.start_domain("web1").unwrap();
        scene
    }

    fn address(&self, name: &str) -> String {
        Scene::at(&self.libvirt.socket(), name)
    }

    fn at(socket: &Path, name: &str) -> String {
        format!("libvirt:qemu:///session/{name}?socket={}", socket.display())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vusb"));
        command.current_dir(&self.records).arg("--state-dir").arg(self.records.path().join("r"));
        command.arg("--claims-dir").arg(self.records.path().join("claims"));
        command.env("XDG_RUNTIME_DIR", self.libvirt.home().join("run"));
        command
    }

    /// Runs vusb. `web1` in the words is the domain.
    fn vusb(&self, line: &str) -> Ran {
        self.vusb_on(&self.address("web1"), line)
    }

    fn vusb_on(&self, address: &str, line: &str) -> Ran {
        let words = line.split_whitespace().map(|it| if it == "web1" { address } else { it });
        let ran: Ran = self.command().args(words).output().unwrap().into();
        eprintln!("vusb {line}: {ran:?}");
        ran
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let ran = self.vusb(line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        ran.out.trim_end().to_owned()
    }

    fn live(&self) -> String {
        self.libvirt.run(&["dumpxml", "web1"]).unwrap()
    }

    fn stored(&self) -> String {
        self.libvirt.dump_xml("web1").unwrap()
    }

    /// The names and states of the devices that vusb lists.
    fn listed(&self) -> Vec<(String, String)> {
        let view: Value = serde_json::from_str(&self.ok("list web1 --json")).unwrap();
        let controllers = view["controllers"].as_array().unwrap();
        let devices = controllers.iter().flat_map(|it| it["devices"].as_array().unwrap());
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        devices.map(|it| (text(&it["name"]), text(&it["state"]))).collect()
    }

    #[track_caller]
    fn assert_lists(&self, expected: &[(&str, &str)]) {
        let listed = self.listed();
        let listed: Vec<_> = listed.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(listed, expected);
    }
}

/// The devices that can be attached to a running guest, each with its element.
const HOT: [(&str, &str); 7] = [
    ("tablet", "<input type='tablet' bus='usb'>"),
    ("mouse", "<input type='mouse' bus='usb'>"),
    ("keyboard", "<input type='keyboard' bus='usb'>"),
    // This file exists in the tree of the daemon and on this machine.
    ("storage:/etc/passwd,readonly", "<source file='/etc/passwd'"),
    ("serial:null", "<target type='usb-serial'"),
    ("redir:unix:/mnt/redir.sock,server", "<redirdev bus='usb' type='unix'>"),
    ("net", "<model type='usb-net'/>"),
];

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn each_kind_is_attached_and_detached_in_both_places() {
    for suite in SUITES {
        let scene = Scene::new(suite);
        for (kind, element) in HOT {
            let at = scene.ok(&format!("device add web1 {kind} --name it --controller 0 --port 7"));
            assert_eq!(at, "usb:7", "{kind}");
            for xml in [scene.live(), scene.stored()] {
                assert!(xml.contains(element), "{kind}: {xml}");
                assert!(xml.contains("<alias name='ua-vusb-it'/>"), "{kind}: {xml}");
                assert!(xml.contains("<address type='usb' bus='0' port='7'/>"), "{kind}: {xml}");
            }
            scene.assert_lists(&[("it", "attached")]);
            scene.ok("device remove web1 it");
            for xml in [scene.live(), scene.stored()] {
                assert!(!xml.contains("ua-vusb-it"), "{kind}: {xml}");
            }
            scene.assert_lists(&[]);
        }
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn what_libvirt_does_not_hot_plug_is_refused_and_written_for_the_next_start() {
    for suite in SUITES {
        let scene = Scene::new(suite);
        let before = (scene.live(), scene.stored());
        for line in ["device add web1 hub", "device add web1 ccid", "controller add web1"] {
            let ran = scene.vusb(line);
            assert_eq!(ran.code, 9, "{ran:?}");
            assert!(ran.err.contains("--next-start"), "{ran:?}");
        }
        assert_eq!((scene.live(), scene.stored()), before);
        let added = scene.ok("controller add web1 --model nec-xhci --ports 8 --next-start");
        scene.ok("device add web1 hub --name h --next-start");
        scene.ok(&format!("device add web1 tablet --name t --controller {added} --next-start"));
        scene.assert_lists(&[("h", "configured"), ("t", "configured")]);
        assert_eq!(scene.live(), before.0);
        let ran = scene.vusb(&format!("device add web1 mouse --controller {added}"));
        assert_eq!(ran.code, 9, "{ran:?}");
        scene.libvirt.run(&["destroy", "web1"]).unwrap();
        let view: Value = serde_json::from_str(&scene.ok("list web1 --json")).unwrap();
        assert_eq!(view["state"], "off");
        scene.libvirt.start_domain("web1").unwrap();
        scene.assert_lists(&[("h", "attached"), ("t", "attached")]);
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn devices_survive_restarts_of_the_guest_and_of_the_daemon() {
    for suite in SUITES {
        let scene = Scene::new(suite);
        scene.ok("device add web1 tablet --name t --controller 0 --port 3");
        scene.ok("device add web1 mouse --name m --live-only");
        let ran = scene.vusb("list web1");
        assert!(ran.err.contains("only the running guest has m"), "{ran:?}");
        scene.libvirt.kill_daemon().unwrap();
        let ran = scene.vusb("list web1");
        assert_eq!(ran.code, 7, "{ran:?}");
        assert!(ran.err.contains("libvirt-sock"), "{ran:?}");
        scene.libvirt.start_daemon().unwrap();
        scene.assert_lists(&[("m", "attached"), ("t", "attached")]);
        scene.libvirt.run(&["destroy", "web1"]).unwrap();
        scene.libvirt.start_domain("web1").unwrap();
        scene.assert_lists(&[("m", "missing"), ("t", "attached")]);
        // A device that a person gave and the restart removed is restored, as on any hypervisor.
        scene.ok("apply web1");
        scene.assert_lists(&[("m", "attached"), ("t", "attached")]);
    }
}

/// Relays connections until a client has called the procedure with this number. The daemon still
/// executes the call. Then `kill` is called, and the client never gets the reply.
fn relay_until(listener: UnixListener, real: &Path, number: u32, kill: impl FnOnce()) {
    loop {
        let (mut client, _) = listener.accept().unwrap();
        let mut daemon = UnixStream::connect(real).unwrap();
        let replies = thread::spawn({
            let (mut from, mut to) = (daemon.try_clone().unwrap(), client.try_clone().unwrap());
            move || {
                let mut bytes = [0; 65536];
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    if bytes.get(12..16) == Some(&number.to_be_bytes()[..]) {
                        break;
                    }
                    to.write_all(&bytes[..count]).unwrap();
                }
            }
        });
        let mut bytes = [0; 65536];
        let mut called = false;
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            daemon.write_all(&bytes[..count]).unwrap();
            called = bytes.get(12..16) == Some(&number.to_be_bytes()[..]);
            if called {
                break;
            }
        }
        if called {
            // The thread ends when the daemon has replied.
            replies.join().unwrap();
            drop(listener);
            return kill();
        }
        let _ = daemon.shutdown(std::net::Shutdown::Both);
        replies.join().unwrap();
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn a_daemon_that_is_killed_in_the_middle_of_a_change() {
    for suite in SUITES {
        let scene = Scene::new(suite);
        let socket: PathBuf = scene.records.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let through = Scene::at(&socket, "web1");
        thread::scope(|scope| {
            let scene = &scene;
            let relay = scope.spawn(move || {
                // Procedure 160 is REMOTE_PROC_DOMAIN_ATTACH_DEVICE_FLAGS.
                relay_until(listener, &scene.libvirt.socket(), 160, || {
                    scene.libvirt.kill_daemon().unwrap();
                });
            });
            let line = "device add web1 tablet --name t --controller 0 --port 3 --timeout 60";
            let ran = scene.vusb_on(&through, line);
            relay.join().unwrap();
            assert_eq!(ran.code, 7, "{ran:?}");
        });
        std::fs::remove_file(&socket).unwrap();
        scene.libvirt.start_daemon().unwrap();
        assert!(scene.live().contains("ua-vusb-t'"), "the step had been taken");
        // The same address leads to the daemon again. The next command undoes the change.
        std::os::unix::fs::symlink(scene.libvirt.socket(), &socket).unwrap();
        let ran = scene.vusb_on(&through, "device add web1 mouse --name m");
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.err.contains("undid an interrupted change"), "{ran:?}");
        for xml in [scene.live(), scene.stored()] {
            assert!(!xml.contains("ua-vusb-t'") && xml.contains("ua-vusb-m'"), "{xml}");
        }
        scene.libvirt.run(&["destroy", "web1"]).unwrap();
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn a_second_client_works_at_the_same_time() {
    for suite in SUITES {
        let scene = Scene::new(suite);
        scene.libvirt.write_file("mouse.xml", "<input type='mouse' bus='usb'/>").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5 {
                    let words = ["attach-device", "web1", "mouse.xml", "--live", "--config"];
                    scene.libvirt.run(&words).unwrap();
                }
            });
            for number in 0..5 {
                // The port is busy if virsh took it in the meantime.
                let line = format!("device add web1 tablet --name t{number}");
                while scene.vusb(&line).code == 4 {}
            }
        });
        let listed = scene.listed();
        assert_eq!(listed.len(), 10, "{listed:?}");
        assert!(listed.iter().all(|(_, state)| state == "attached"), "{listed:?}");
        assert_eq!(listed.iter().filter(|(name, _)| name.starts_with('t')).count(), 5);
        for xml in [scene.live(), scene.stored()] {
            assert_eq!(xml.matches("bus='usb'>").count(), 10, "{xml}");
        }
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn all_domains_are_listed_with_who_manages_them() {
    let scene = Scene::new(SUITES[0]);
    // This machine may have other domains.
    let name = format!("only-here-{}", std::process::id());
    scene.libvirt.define(&XML.replace("web1", &name)).unwrap();
    scene.libvirt.start_domain(&name).unwrap();
    let ran: Ran = scene.command().args(["list", "--json"]).output().unwrap().into();
    let view: Value = serde_json::from_str(&ran.out).unwrap();
    let all = view["unrecorded"].as_array().unwrap();
    let here: Vec<_> = all.iter().filter(|it| it["name"] == *name).collect();
    // The domain is listed once, although its QEMU process is found too.
    assert_eq!(here.len(), 1, "{view}");
    assert_eq!(here[0]["address"], format!("libvirt:qemu:///session/{name}"));
    assert_eq!(here[0]["manager"], "libvirt");
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn both_sides_of_the_page_have_the_same_result() {
    for suite in SUITES {
        let scene = Scene::new(suite);
        let other = XML.replace("web1", "other");
        scene.libvirt.define(&other).unwrap();
        scene.libvirt.start_domain("other").unwrap();
        let guide = Guide::read("coming-from-virsh.md").unwrap();
        let mut rows = 0;
        for part in guide.below("libvirt domains") {
            let [left, right] = part.cells.as_slice() else { continue };
            let element = left.code.iter().find(|(code, _)| code.starts_with('<'));
            for command in left.commands("virsh") {
                let words: Vec<&str> = command.text.split_whitespace().skip(1).collect();
                if let (Some((element, _)), Some(file)) =
                    (element, words.iter().find(|it| it.ends_with(".xml")))
                {
                    // Two guests cannot listen at one path.
                    let element = element.replace("/mnt/redir", "/mnt/redir2");
                    scene.libvirt.write_file(file, &element).unwrap();
                }
                let words: Vec<&str> =
                    words.iter().map(|it| if *it == "web1" { "other" } else { *it }).collect();
                scene.libvirt.run(&words).unwrap();
            }
            for command in right.commands("vusb") {
                let line = command.text.replace("libvirt:web1", "web1");
                scene.ok(line.trim_start_matches("vusb "));
            }
            let list = |address: &str| {
                let ran = scene.vusb_on(address, "list web1 --json");
                let mut view: Value = serde_json::from_str(&ran.out).unwrap();
                let mut all = Vec::new();
                for controller in view["controllers"].as_array_mut().unwrap() {
                    let model = controller["model"].to_string();
                    for device in controller["devices"].as_array().unwrap() {
                        let it = ["port", "kind", "state"].map(|key| device[key].to_string());
                        all.push((model.clone(), it));
                    }
                    all.push((model, Default::default()));
                }
                all
            };
            let ours = list(&scene.address("web1"));
            assert_eq!(ours, list(&scene.address("other")), "line {} of the page", part.line);
            rows += 1;
        }
        assert!(rows > 4, "{rows} rows");
    }
}

#[test]
#[ignore = "takes minutes; by hand"]
fn five_hundred_times_attached_and_detached() {
    for suite in SUITES {
        let scene = Scene::new(suite);
        let before = (scene.live(), scene.stored());
        for _ in 0..500 {
            scene.ok("device add web1 tablet --name t --controller 0 --port 3");
            scene.ok("device remove web1 t");
        }
        assert_eq!((scene.live(), scene.stored()), before);
        scene.assert_lists(&[]);
    }
}
