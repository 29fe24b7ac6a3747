//! One backend and two guests: the honest one with a stick and Linux's driver, the hostile one with a stick and no driver.

use std::time::Instant;

use serde_json::json;
use vusb_rig::xen::XenGuest;

use crate::support::{PATIENCE, STICK, Scene, program, sum};

/// After so many drops a new controller is made: the backend lets the old one wait longer each time.
const STRIKES: usize = 3;
/// The socket that the hostile guest's stick is plugged into.
const SOCKET: &str = "7";
/// What the honest guest does: it reads the beginning of its stick again and again, and writes each sum down.
const READ_ON: &str = "echo 'while sleep 0.1; do echo 3 >/proc/sys/vm/drop_caches; head -c 262144 /dev/sda | sha256sum; done' >/tmp/read; \
                       (setsid sh /tmp/read </dev/null >/tmp/sums 2>&1 &)";

/// What the backend has in use, besides what it has for the honest guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toll {
    pub(super) files: u64,
    pub(super) threads: u64,
    pub(super) grants: u64,
    pub(super) channels: u64,
    pub(super) memory_kib: u64,
}

/// What came of an attack.
pub(super) struct Report {
    pub(super) said: String,
    /// How often the honest guest has read its whole stick meanwhile.
    pub(super) honest_reads: usize,
    pub(super) seconds: f32,
    /// By how many lines the log has grown, without what is only for finding faults.
    pub(super) lines: usize,
}

/// The machine.
pub(super) struct Field {
    scene: Scene,
    hostile: XenGuest,
    /// The hostile guest's number, and the bus id of its stick.
    domain: u32,
    bus_id: String,
    /// The controller's index; each new one has a new one.
    index: u32,
    pid: String,
    /// What the honest guest has to read.
    sum: String,
    /// What the hostile guest may read in the end: the first 64 KiB.
    head: String,
    _folder: tempfile::TempDir,
}

impl Field {
    pub(super) fn new() -> Field {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("second.img");
        let data: Vec<u8> = (0_u32..1 << 18).flat_map(|n| (n ^ n << 9).to_le_bytes()).collect();
        std::fs::write(&image, data).unwrap();
        let scene = Scene::with(1, |machine| machine.ready_guest().drive("second", &image));
        let sum = sum(&scene.dom0("head -c 262144 /dev/sda | sha256sum")).to_owned();
        assert_eq!(scene.vusb(&format!("device add xen:u1 {STICK}")).1, 0);
        scene.guest_until("[ -b /dev/sda ]");
        scene.in_guest(READ_ON);

        let stick =
            json!({ "driver": "usb-storage", "id": "second", "drive": "second", "port": SOCKET });
        scene.host.plug(stick).unwrap();
        scene.host.wait_until("[ -b /dev/sd? ]", PATIENCE).unwrap();
        let head = scene.dom0("head -c 65536 /dev/sd? | sha256sum");
        let bus_id = scene.dom0(&format!("cd /sys/bus/usb/devices; ls -d *-{SOCKET}"));
        let frontend = program("examples/hostile-frontend");
        let hostile = scene.host.new_guest("ill").modules(&["xen-evtchn", "xen-gntalloc"]);
        let hostile = hostile.binary(&frontend).unwrap().start().unwrap();
        Field {
            domain: hostile.id().unwrap(),
            bus_id: bus_id.trim().to_owned(),
            index: 0,
            pid: scene.dom0("pidof vusb-backend"),
            head: crate::support::sum(&head).to_owned(),
            scene,
            hostile,
            sum,
            _folder: folder,
        }
    }

    /// Gives the hostile guest a controller with its stick, as `docs/xenstore.md` says. `vusb` would wait until the stick is configured.
    pub(super) fn make_controller(&mut self) {
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

    /// Takes it away, whatever state it is in.
    pub(super) fn remove_controller(&self) {
        let (domain, index) = (self.domain, self.index);
        self.scene.dom0(&format!(
            "xenstore-rm /local/domain/{domain}/device/vusb; xenstore-rm /local/domain/0/backend/vusb/{domain}"
        ));
        let gone =
            format!("grep -q 'domain {domain}, controller {index}: gone' /var/log/backend.log");
        self.scene.host.wait_until(&gone, PATIENCE).unwrap();
    }

    /// A new controller, if there is none or the guest has been dropped too often.
    pub(super) fn forgive(&mut self) {
        let strikes = self.drops();
        let name = format!("controller {}:", self.index);
        let strikes = strikes.iter().filter(|it| it.contains(&name)).count();
        let there = format!("xenstore-exists /local/domain/{}/device/vusb", self.domain);
        if strikes >= STRIKES {
            self.remove_controller();
        }
        if self.scene.host.sh(&there, PATIENCE).unwrap().code != 0 {
            self.make_controller();
        }
    }

    /// All that the log says of controllers that were dropped.
    pub(super) fn drops(&self) -> Vec<String> {
        let domain = self.domain;
        let said = self
            .scene
            .dom0(&format!("grep 'domain {domain}, .*: dropped: ' /var/log/backend.log || true"));
        said.lines().map(str::to_owned).collect()
    }

    /// Has the hostile guest make one attack.
    pub(super) fn attack(&self, attack: &str) -> Report {
        let start = Instant::now();
        let (before, lines) = (self.honest_reads(), self.log_lines());
        let command = format!("hostile-frontend {attack} 2>&1");
        let said = self.hostile.sh(&command, PATIENCE).unwrap().text;
        let honest_reads = self.honest_reads() - before;
        let seconds = start.elapsed().as_secs_f32();
        Report { said, honest_reads, seconds, lines: self.log_lines() - lines }
    }

    fn log_lines(&self) -> usize {
        self.scene.dom0("grep -cv DEBUG /var/log/backend.log").trim().parse().unwrap()
    }

    fn honest_reads(&self) -> usize {
        self.scene.in_guest("wc -l </tmp/sums").trim().parse().unwrap()
    }

    /// The backend is the same, and the honest guest reads on and reads what is there.
    pub(super) fn all_is_well(&self) -> Result<(), String> {
        let pid = self.scene.host.sh("pidof vusb-backend", PATIENCE).unwrap().text;
        let log = "tail -n 20 /var/log/backend.log";
        assert_eq!(pid, self.pid, "it has ended: {}", self.scene.dom0(log));
        let reads = self.honest_reads();
        self.scene.guest_until(&format!("[ $(wc -l </tmp/sums) -ge {} ]", reads + 2));
        let sums = self.scene.in_guest("sort -u /tmp/sums");
        if sums.lines().count() != 1 || sum(&sums) != self.sum {
            return Err(format!("the honest guest has read {sums:?}"));
        }
        let warnings = self.scene.dom0("dmesg -c | grep -A 4 'cut here' || true");
        warnings.is_empty().then_some(()).ok_or_else(|| format!("dom0's kernel says {warnings}"))
    }

    /// What the backend has in use, once it has given back what it can.
    pub(super) fn toll(&self) -> Toll {
        // Of both of its processes.
        let count = format!(
            "all() {{ for p in {}; do \"$@\" /proc/$p/$FILE; done; }}\n\
             FILE=fd all ls | wc -l; FILE=task all ls | wc -l; FILE=maps all cat | grep -c gntdev\n\
             /usr/lib/xen-4.17/bin/lsevtchn 0 | grep -c Interdomain\n\
             FILE=status all cat | awk '/^VmRSS/ {{n += $2}} END {{print n}}'",
            self.pid.trim()
        );
        let said = self.scene.dom0(&count);
        let numbers: Vec<u64> = said.lines().map(|it| it.trim().parse().unwrap()).collect();
        let [files, threads, grants, channels, memory_kib] = numbers[..] else { panic!("{said}") };
        Toll { files, threads, grants, channels, memory_kib }
    }

    /// The store, without what changes by itself.
    pub(super) fn store(&self) -> Vec<String> {
        let changes = |line: &String| line.contains("/stats") || line.contains("/memory/");
        self.scene.store().into_iter().filter(|line| !changes(line)).collect()
    }

    /// The guest that meant ill has become a good one: it gets its stick in the usual way, reads it, and lets it go when it is asked to.
    pub(super) fn behaves_well(&self) {
        let well = "(setsid hostile-frontend well /tmp/head </dev/null >/tmp/well 2>&1 &)";
        self.hostile.sh(well, PATIENCE).unwrap().ok().unwrap();
        let (said, code) = self.scene.vusb(&format!("device add xen:ill {}", self.bus_id));
        assert_eq!(code, 0, "{said}");
        let told = self.hostile.wait_until("[ -s /tmp/well ] && cat /tmp/well", PATIENCE).unwrap();
        assert!(told.starts_with("read 65536 bytes"), "{told}");
        let read = self.hostile.sh("sha256sum /tmp/head", PATIENCE).unwrap().text;
        assert_eq!(sum(&read), self.head);
        // Without force: it has to go along.
        for remove in [
            format!("device remove xen:ill {}", self.bus_id),
            "controller remove xen:ill pv0".to_owned(),
        ] {
            let (said, code) = self.scene.vusb(&remove);
            assert_eq!(code, 0, "{said}");
        }
        self.hostile.wait_until("grep 'left in good order' /tmp/well", PATIENCE).unwrap();
        self.scene.host.wait_until("[ -b /dev/sd? ]", PATIENCE).unwrap();
        self.all_is_well().unwrap();
    }
}
