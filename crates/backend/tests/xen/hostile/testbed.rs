//! One backend and two guests: an honest one with a stick and Linux's driver, and a hostile one
//! with a stick and no driver.

use std::time::Instant;

use serde_json::json;
use vusb_rig::xen::XenGuest;

use crate::support::{STICK, Scene, TIMEOUT, checksum, program};

/// After this many drops the controller is recreated, because the backend makes the guest wait
/// longer after each one.
const MAX_DROPS: usize = 3;
/// The host port that the hostile guest's stick is plugged into.
const HOSTILE_PORT: &str = "7";
/// The honest guest reads the beginning of its stick again and again, and records each checksum.
const READ_REPEATEDLY: &str = "echo 'while sleep 0.1; do echo 3 >/proc/sys/vm/drop_caches; head -c 262144 /dev/sda | sha256sum; done' >/tmp/read; \
                       (setsid sh /tmp/read </dev/null >/tmp/sums 2>&1 &)";

/// The resources that the backend uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResourceUsage {
    pub(super) files: u64,
    pub(super) threads: u64,
    pub(super) grants: u64,
    pub(super) channels: u64,
    pub(super) memory_kib: u64,
}

/// The result of an attack.
pub(super) struct Report {
    pub(super) output: String,
    /// How many times the honest guest has read the beginning of its stick during the attack.
    pub(super) honest_reads: usize,
    pub(super) seconds: f32,
    /// How many lines were logged during the attack, without debug messages.
    pub(super) lines: usize,
}

/// The machine.
pub(super) struct Testbed {
    scene: Scene,
    hostile: XenGuest,
    /// The hostile guest's domain id, and the bus id of its stick.
    domain: u32,
    bus_id: String,
    /// The controller's index. Each new controller gets a new index.
    index: u32,
    pid: String,
    /// The checksum of the first 256 KiB of the honest guest's stick, which it reads repeatedly.
    checksum: String,
    /// The checksum of the first 64 KiB of the hostile guest's stick, which it reads in the end.
    head: String,
    _folder: tempfile::TempDir,
}

impl Testbed {
    pub(super) fn new() -> Testbed {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("second.img");
        let data: Vec<u8> = (0_u32..1 << 18).flat_map(|n| (n ^ n << 9).to_le_bytes()).collect();
        std::fs::write(&image, data).unwrap();
        let scene = Scene::with(1, |machine| machine.ready_guest().drive("second", &image));
        let sum = checksum(&scene.dom0("head -c 262144 /dev/sda | sha256sum")).to_owned();
        assert_eq!(scene.vusb(&format!("device add xen:u1 {STICK}")).1, 0);
        scene.wait_in_guest("[ -b /dev/sda ]");
        scene.in_guest(READ_REPEATEDLY);

        let stick = json!({ "driver": "usb-storage", "id": "second", "drive": "second", "port": HOSTILE_PORT });
        scene.host.plug(stick).unwrap();
        scene.host.wait_until("[ -b /dev/sd? ]", TIMEOUT).unwrap();
        let head = scene.dom0("head -c 65536 /dev/sd? | sha256sum");
        let bus_id = scene.dom0(&format!("cd /sys/bus/usb/devices; ls -d *-{HOSTILE_PORT}"));
        let frontend = program("examples/hostile-frontend");
        let hostile = scene.host.new_guest("ill").modules(&["xen-evtchn", "xen-gntalloc"]);
        let hostile = hostile.binary(&frontend).unwrap().start().unwrap();
        Testbed {
            domain: hostile.id().unwrap(),
            bus_id: bus_id.trim().to_owned(),
            index: 0,
            pid: scene.dom0("pidof vusb-backend"),
            head: crate::support::checksum(&head).to_owned(),
            scene,
            hostile,
            checksum: sum,
            _folder: folder,
        }
    }

    /// Creates a controller with a stick for the hostile guest, as described in `docs/xenstore.md`.
    /// Not with `vusb`, which would wait until the stick is configured.
    pub(super) fn create_controller(&mut self) {
        self.index += 1;
        let (domain, index, bus_id) = (self.domain, self.index, &self.bus_id);
        self.scene.dom0(&format!(
            "set -e\n\
             F=/local/domain/{domain}/device/vusb/{index} B=/local/domain/0/backend/vusb/{domain}/{index}\n\
             xenstore-write $B ''; xenstore-chmod $B n0 r{domain}\n\
             xenstore-write $B/frontend $F $B/frontend-id {domain} $B/online 1 $B/type pv $B/usb-ver 2 \
                $B/num-ports 2 $B/port '' $B/port/1 {bus_id} $B/port/2 ''\n\
             xenstore-write $F ''; xenstore-chmod $F n{domain} r0\n\
             xenstore-write $F/backend $B $F/backend-id 0 $F/state 1\n\
             xenstore-write $B/state 1"
        ));
    }

    /// Removes the controller, whatever its state.
    pub(super) fn remove_controller(&self) {
        let (domain, index) = (self.domain, self.index);
        self.scene.dom0(&format!(
            "xenstore-rm /local/domain/{domain}/device/vusb; xenstore-rm /local/domain/0/backend/vusb/{domain}"
        ));
        let gone =
            format!("grep -q 'domain {domain}, controller {index}: gone' /var/log/backend.log");
        self.scene.host.wait_until(&gone, TIMEOUT).unwrap();
    }

    /// Creates a new controller if there is none, or if the guest has been dropped too often.
    pub(super) fn ensure_controller(&mut self) {
        let drops = self.drops();
        let name = format!("controller {}:", self.index);
        let drops = drops.iter().filter(|it| it.contains(&name)).count();
        let exists = format!("xenstore-exists /local/domain/{}/device/vusb", self.domain);
        if drops >= MAX_DROPS {
            self.remove_controller();
        }
        if self.scene.host.sh(&exists, TIMEOUT).unwrap().code != 0 {
            self.create_controller();
        }
    }

    /// The log lines about dropped controllers of the hostile guest.
    pub(super) fn drops(&self) -> Vec<String> {
        let domain = self.domain;
        let output = self
            .scene
            .dom0(&format!("grep 'domain {domain}, .*: dropped: ' /var/log/backend.log || true"));
        output.lines().map(str::to_owned).collect()
    }

    /// Runs one attack in the hostile guest.
    pub(super) fn attack(&self, attack: &str) -> Report {
        let start = Instant::now();
        let (before, lines) = (self.honest_reads(), self.log_lines());
        let command = format!("hostile-frontend {attack} 2>&1");
        let output = self.hostile.sh(&command, TIMEOUT).unwrap().text;
        let honest_reads = self.honest_reads() - before;
        let seconds = start.elapsed().as_secs_f32();
        Report { output, honest_reads, seconds, lines: self.log_lines() - lines }
    }

    fn log_lines(&self) -> usize {
        self.scene.dom0("grep -cv DEBUG /var/log/backend.log").trim().parse().unwrap()
    }

    fn honest_reads(&self) -> usize {
        self.scene.in_guest("wc -l </tmp/sums").trim().parse().unwrap()
    }

    /// Checks that the backend is still the same process, and that the honest guest continues to
    /// read correct data.
    pub(super) fn check_honest_guest(&self) -> Result<(), String> {
        let pid = self.scene.host.sh("pidof vusb-backend", TIMEOUT).unwrap().text;
        let log = "tail -n 20 /var/log/backend.log";
        assert_eq!(pid, self.pid, "the backend has ended: {}", self.scene.dom0(log));
        let reads = self.honest_reads();
        self.scene.wait_in_guest(&format!("[ $(wc -l </tmp/sums) -ge {} ]", reads + 2));
        let sums = self.scene.in_guest("sort -u /tmp/sums");
        if sums.lines().count() != 1 || checksum(&sums) != self.checksum {
            return Err(format!("the honest guest read {sums:?}"));
        }
        let warnings = self.scene.dom0("dmesg -c | grep -A 4 'cut here' || true");
        warnings.is_empty().then_some(()).ok_or_else(|| format!("dom0's kernel logged {warnings}"))
    }

    /// Measures the resources that the backend uses.
    pub(super) fn resource_usage(&self) -> ResourceUsage {
        // Of both processes of the backend.
        let count = format!(
            "all() {{ for p in {}; do \"$@\" /proc/$p/$FILE; done; }}\n\
             FILE=fd all ls | wc -l; FILE=task all ls | wc -l; FILE=maps all cat | grep -c gntdev\n\
             /usr/lib/xen-4.17/bin/lsevtchn 0 | grep -c Interdomain\n\
             FILE=status all cat | awk '/^VmRSS/ {{n += $2}} END {{print n}}'",
            self.pid.trim()
        );
        let output = self.scene.dom0(&count);
        let numbers: Vec<u64> = output.lines().map(|it| it.trim().parse().unwrap()).collect();
        let [files, threads, grants, channels, memory_kib] = numbers[..] else {
            panic!("{output}")
        };
        ResourceUsage { files, threads, grants, channels, memory_kib }
    }

    /// The contents of xenstore, without nodes that change by themselves.
    pub(super) fn store(&self) -> Vec<String> {
        let changes = |line: &String| line.contains("/stats") || line.contains("/memory/");
        self.scene.store().into_iter().filter(|line| !changes(line)).collect()
    }

    /// The hostile guest now behaves correctly: it gets its stick in the usual way, reads it, and
    /// releases it on request.
    pub(super) fn becomes_a_correct_frontend(&self) {
        let start =
            "(setsid hostile-frontend reference /tmp/head </dev/null >/tmp/reference.log 2>&1 &)";
        self.hostile.sh(start, TIMEOUT).unwrap().ok().unwrap();
        let (output, code) = self.scene.vusb(&format!("device add xen:ill {}", self.bus_id));
        assert_eq!(code, 0, "{output}");
        let log = self
            .hostile
            .wait_until("[ -s /tmp/reference.log ] && cat /tmp/reference.log", TIMEOUT)
            .unwrap();
        assert!(log.starts_with("read 65536 bytes"), "{log}");
        let read = self.hostile.sh("sha256sum /tmp/head", TIMEOUT).unwrap().text;
        assert_eq!(checksum(&read), self.head);
        // Without --force, so that the guest has to cooperate.
        for remove in [
            format!("device remove xen:ill {}", self.bus_id),
            "controller remove xen:ill pv0".to_owned(),
        ] {
            let (output, code) = self.scene.vusb(&remove);
            assert_eq!(code, 0, "{output}");
        }
        self.hostile.wait_until("grep 'closed cleanly' /tmp/reference.log", TIMEOUT).unwrap();
        self.scene.host.wait_until("[ -b /dev/sd? ]", TIMEOUT).unwrap();
        self.check_honest_guest().unwrap();
    }
}
