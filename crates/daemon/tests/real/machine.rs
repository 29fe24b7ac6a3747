//! The machine (L1) with the daemon, and the guest (L2) inside.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vusb_rig::NestedHost;
use vusb_rig::nested::{INNER_QMP, INNER_XHCI};

/// How long a condition may take to come true: emulation within emulation is slow.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(180);

/// Devices behind the hub go to the guest. A stick only goes to the guest that it was given to.
const RULES: &str = "\
[[rule]]
name = \"desk\"
port = \"1-4.*\"
attach = \"qemu:/run/inner.qmp\"
";

pub(crate) struct Machine {
    pub(crate) outer: NestedHost,
    _folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let (image, other) = (folder.path().join("stick.img"), folder.path().join("other.img"));
        for (path, byte) in [(&image, b'a'), (&other, b'b')] {
            std::fs::write(path, vec![byte; 1 << 20]).unwrap();
        }
        let rules = folder.path().join("rules.toml");
        std::fs::write(&rules, RULES).unwrap();
        let vusbd = Path::new(env!("CARGO_BIN_EXE_vusbd"));
        let vusb = vusbd.with_file_name("vusb");
        assert!(vusb.exists(), "build it first: cargo build -p vusb-cli");
        let [measure, qmp] = ["rig-measure", "rig-qmp"].map(|it| vusbd.with_file_name(it));
        assert!(measure.exists() && qmp.exists(), "build it first: cargo build -p vusb-rig");
        let outer = NestedHost::builder()
            .binary(vusbd)
            .binary(&vusb)
            .binary(&measure)
            .binary(&qmp)
            .file("/etc/vusb/rules.d/10.toml", &rules)
            .drive("disk", &image)
            .drive("other", &other)
            .inner("pc", INNER_XHCI)
            .start()
            .unwrap();
        let machine = Machine { outer, _folder: folder };
        machine.start_daemon();
        machine
    }

    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.outer.sh(script, WAIT_LIMIT).unwrap();
        assert_eq!(output.code, 0, "{script}: {}\n{}", output.text, self.log());
        output.text
    }

    pub(crate) fn log(&self) -> String {
        let script = "cat /tmp/vusbd.log /tmp/inner.log; ls -l /run; ps | grep qemu";
        self.outer.sh(script, WAIT_LIMIT).map(|it| it.text).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn wait_until(&self, script: &str) {
        if let Err(error) = self.outer.wait_until(script, WAIT_LIMIT) {
            panic!("{error}\n{}", self.log());
        }
    }

    pub(crate) fn start_daemon(&self) {
        self.start_daemon_with("");
    }

    /// Each line of the log begins with its time, on the clock of `udevadm monitor`.
    pub(crate) fn start_daemon_with(&self, options: &str) {
        self.sh(&format!(
            "mkdir -p /run/vusb; rm -f /tmp/pipe; mkfifo /tmp/pipe; \
             rig-measure stamp </tmp/pipe >/tmp/vusbd.log 2>&1 & \
             vusbd --guests qemu:/run --listen /run/vusb/io.github.vusb.Manager \
             --metrics /tmp/metrics {options} >/tmp/pipe 2>&1 & echo $! >/run/vusbd.pid"
        ));
        self.wait_until("grep -q ready /tmp/vusbd.log");
    }

    pub(crate) fn kill_daemon(&self) {
        self.sh("pid=$(cat /run/vusbd.pid); kill -9 $pid; \
             while [ -e /proc/$pid/exe ]; do sleep 0.05; done");
    }

    pub(crate) fn plug_stick(&self, port: &str) {
        self.outer
            .plug(json!({
                "driver": "usb-storage", "id": "stick", "drive": "disk", "port": port,
                "serial": "4C530001"
            }))
            .unwrap();
    }

    /// Waits until the guest has a disk that is filled with this letter.
    #[track_caller]
    pub(crate) fn wait_until_guest_reads(&self, letter: char) {
        let all = format!(
            "for i in /dev/sd?; do [ $(dd if=$i bs=1 count=1 skip=9 2>/dev/null) = {letter} ] && exit; done; exit 1"
        );
        if let Err(error) = self.outer.inner().wait_until(&format!("({all})"), WAIT_LIMIT) {
            panic!("{error}\n{}", self.log());
        }
    }

    /// Each device of the guest with its name, its port and its state.
    pub(crate) fn placed(&self) -> Vec<String> {
        let list = self.sh(&format!("vusb -q list qemu:{INNER_QMP} --json"));
        let list: Value = serde_json::from_str(&list).unwrap();
        let controllers = list["controllers"].as_array().unwrap().iter();
        let devices = controllers.flat_map(|it| it["devices"].as_array().unwrap());
        devices.map(|it| format!("{} {} {}", it["name"], it["port"], it["state"])).collect()
    }

    /// How many devices of the guest are attached, as the command sees it.
    pub(crate) fn attached(&self) -> usize {
        self.placed().iter().filter(|it| it.ends_with("\"attached\"")).count()
    }

    #[track_caller]
    pub(crate) fn wait_for_attached(&self, count: usize) {
        let end = std::time::Instant::now() + WAIT_LIMIT;
        while self.attached() != count {
            assert!(
                std::time::Instant::now() < end,
                "not {count}: {}\n{}",
                self.attached(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
