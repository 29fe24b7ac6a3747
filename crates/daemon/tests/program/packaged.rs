//! The packaged units, under the systemd of Debian 13 and 12: started by the socket, reloaded,
//! restarted, upgraded and killed, while guests keep their devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb_rig::container::{Container, SHARED};

use crate::machine::{Machine, WAIT_LIMIT};

/// The packaged files, and where the package installs them.
const PACKAGED: [(&str, &str); 7] = [
    ("/usr/lib/systemd/system/vusbd.service", "systemd/vusbd.service"),
    ("/usr/lib/systemd/system/vusbd.socket", "systemd/vusbd.socket"),
    ("/usr/lib/sysusers.d/vusbd.conf", "systemd/vusbd.sysusers"),
    ("/usr/lib/tmpfiles.d/vusb.conf", "systemd/vusb.tmpfile"),
    ("/usr/lib/systemd/catalog/vusb.catalog", "systemd/vusb.catalog"),
    ("/usr/share/polkit-1/actions/io.github.vusb.policy", "polkit/io.github.vusb.policy"),
    ("/usr/lib/udev/rules.d/72-vusb-guests.rules", "udev/72-vusb-guests.rules"),
];

const SOCKET: &str = "/run/vusb/io.github.vusb.Manager";

const PROGRAM: &str = "/usr/bin/vusbd";

/// A container with the packaged service, whose devices and guests are those of `machine`.
struct Installed {
    container: Container,
    machine: Machine,
}

impl Installed {
    fn new() -> Installed {
        Installed::in_release("trixie", &[])
    }

    fn in_release(suite: &str, further: &[&str]) -> Installed {
        let machine = Machine::new();
        let container = Container::boot_release(suite, further, &machine.at("")).unwrap();
        let packaging = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging"));
        let mut files: BTreeMap<String, PathBuf> = PACKAGED
            .iter()
            .map(|(path, file)| ((*path).to_owned(), packaging.join(file)))
            .collect();
        files.insert(PROGRAM.to_owned(), env!("CARGO_BIN_EXE_vusbd").into());
        // The devices and guests are simulated. Everything else is as packaged.
        let drop_in = machine.at("simulated.conf");
        let start = format!(
            "[Service]\nExecStart=\nExecStart={PROGRAM} --host-root {SHARED}/machine \
             --guests sim:{SHARED}/guests --rules /etc/vusb/rules.d --claims-dir /run/vusb/claims\n"
        );
        fs::write(&drop_in, start).unwrap();
        let path = "/etc/systemd/system/vusbd.service.d/simulated.conf";
        files.insert(path.to_owned(), drop_in);
        container.copy_in(&files).unwrap();
        let installed = Installed { container, machine };
        // This is what the maintainer scripts and the triggers of systemd do.
        installed.sh("systemd-sysusers && systemd-tmpfiles --create vusb.conf && \
             journalctl --update-catalog && mkdir -p /etc/vusb/rules.d && \
             systemctl daemon-reload && systemctl enable --now vusbd.socket");
        installed
    }

    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.container.sh(script).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    fn log(&self) -> String {
        self.container.sh("journalctl -o short-precise -n 60").unwrap_or_default()
    }

    /// Waits until a shell command succeeds.
    #[track_caller]
    fn wait_for(&self, script: &str) -> String {
        let end = Instant::now() + WAIT_LIMIT;
        loop {
            match self.container.sh(script) {
                Ok(output) => return output,
                Err(error) if Instant::now() > end => panic!("{error}\n{}", self.log()),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// A call by varlinkctl.
    #[track_caller]
    fn call(&self, method: &str, parameters: &Value) -> Value {
        let call = format!(
            "varlinkctl call --json=short {SOCKET} io.github.vusb.Manager.{method} '{parameters}'"
        );
        serde_json::from_str(&self.sh(&call)).unwrap()
    }

    fn guest(&self, name: &str) -> String {
        format!("sim:{SHARED}/guests/{name}")
    }

    /// What a guest has, and when that was last changed.
    fn seen_by(&self, guest: &str) -> (String, std::time::SystemTime) {
        let path = self.machine.at("guests").join(guest);
        (fs::read_to_string(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap())
    }

    fn write_rules(&self, text: &str) {
        fs::write(self.machine.at("new.toml"), text).unwrap();
        self.sh(&format!("cp {SHARED}/new.toml /etc/vusb/rules.d/10.toml"));
    }

    fn pid(&self) -> String {
        self.sh("systemctl show -P MainPID vusbd")
    }

    /// Waits until this number of devices is in this state.
    #[track_caller]
    fn wait_for_state(&self, state: &str, count: u32) {
        let line = format!("vusb_devices{{state=\"{state}\"}} {count}");
        let end = Instant::now() + WAIT_LIMIT;
        loop {
            let metrics = self.call("Metrics", &json!({}));
            let text = metrics["text"].as_str().unwrap();
            if text.lines().any(|it| it == line) {
                return;
            }
            assert!(Instant::now() < end, "{line}: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
#[ignore = "boots systemd in a container, as root; run by cargo xtask test"]
fn devices_stay_attached_or_held_over_restarts_of_the_service() {
    let mut it = Installed::new();
    it.machine.plug("1-4", "0781:5581", ["08", "06", "50"]);
    it.machine.plug("1-5", "0529:0001", ["ff", "00", "00"]);
    it.machine.boot("web1");
    let web1 = it.guest("web1");

    // A call starts the service.
    assert_eq!(it.sh("systemctl is-active vusbd.service || true"), "inactive\n");
    let added = it.call("AddDevice", &json!({ "domain": web1, "device": "0781:5581" }));
    assert_eq!(added["at"], "hci0:1", "{added}");
    assert_eq!(it.sh("systemctl is-active vusbd.service"), "active\n");
    let confined = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' \
                    /proc/$(systemctl show -P MainPID vusbd)/status";
    let expected = "CapEff:\t0000000000080002\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(it.sh(confined), expected);

    // A device that was given and detached by hand.
    let rule = format!("[[rule]]\nname = \"dongle\"\nid = \"0529:0001\"\nattach = \"{web1}\"\n");
    it.call("AddDevice", &json!({ "domain": web1, "device": "0529:0001" }));
    it.write_rules(&rule);
    it.sh("systemctl reload vusbd");
    it.call("RemoveDevice", &json!({ "domain": web1, "device": "0529:0001" }));
    it.wait_for_state("held", 1);
    it.wait_for_state("attached", 1);

    // A rule file with a mistake: the reload fails, and the old rules stay in force. The service
    // continues, in the same process.
    it.write_rules("[[rule]]\nname = \"dongle\"\nid = \"0529:0001\"\natach = \"web1\"\n");
    let process = it.pid();
    let refused = it.container.sh("systemctl reload vusbd").unwrap_err().to_string();
    assert!(refused.contains("Job for vusbd.service failed"), "{refused}");
    assert_eq!(it.sh("systemctl is-active vusbd"), "active\n");
    assert_eq!(it.pid(), process);
    it.wait_for("journalctl -u vusbd -t vusbd | grep 'the rules are not changed: those'");
    let list = format!("varlinkctl call --more {SOCKET} io.github.vusb.Manager.ListRules '{{}}'");
    it.wait_for("systemctl show -P StatusText vusbd | grep -q 'the rule files have a mistake'");
    assert!(it.sh(&list).contains("dongle"));
    let log = it.wait_for("journalctl -x -u vusbd VUSB_ACTION=rules-rejected | grep .");
    assert!(log.contains("10.toml:1") && log.contains("attach, ask, allow"), "{log}");
    // This text is from the catalog.
    assert!(log.contains("vusb rules check"), "{log}");
    it.write_rules(&rule);
    it.sh("systemctl reload vusbd");
    it.wait_for("systemctl show -P StatusText vusbd | grep -q '^1 rule'");

    // A restart, the restart at an upgrade (both units, with a replaced program), a restart of the
    // socket, and a kill.
    let before = it.seen_by("web1");
    let upgrade = format!(
        "cp {PROGRAM} {PROGRAM}.new && mv {PROGRAM}.new {PROGRAM} && systemctl daemon-reload && \
         systemctl restart vusbd.service vusbd.socket"
    );
    let kill = "kill -9 $(systemctl show -P MainPID vusbd)";
    for change in ["systemctl restart vusbd", &upgrade, "systemctl restart vusbd.socket", kill] {
        let pid = it.pid();
        it.sh(change);
        it.wait_for(&format!(
            "systemctl is-active vusbd.service && \
             [ $(systemctl show -P MainPID vusbd) != {} ]",
            pid.trim()
        ));
        it.wait_for_state("held", 1);
        it.wait_for_state("attached", 1);
        assert_eq!(it.seen_by("web1"), before, "{change}: the guest has noticed something");
    }
    assert_eq!(it.sh("systemctl show -P NRestarts vusbd"), "1\n");

    // The daemon still works: a device that is plugged in again comes back.
    it.machine.unplug("1-4");
    it.sh("systemctl reload vusbd");
    it.wait_for_state("attached", 0);
    it.machine.plug("1-4", "0781:5581", ["08", "06", "50"]);
    it.sh("systemctl reload vusbd");
    it.wait_for_state("attached", 1);
    assert_ne!(it.seen_by("web1"), before);
}

#[test]
#[ignore = "boots systemd in a container, as root; run by cargo xtask test"]
fn the_group_of_the_package_may_call_the_service() {
    let mut it = Installed::new();
    it.machine.plug("1-4", "0781:5581", ["08", "06", "50"]);
    it.machine.boot("web1");
    it.wait_for_state("unused", 1);
    // The service reads users and groups below the root of the simulated machine.
    fs::create_dir_all(it.machine.at("machine/etc")).unwrap();
    let etc = format!("{SHARED}/machine/etc");
    it.sh(&format!("cp /etc/passwd {etc}/"));
    it.sh(&format!(
        "while read -r line; do case $line in vusb:*) echo \"${{line}}alice\" ;; *) echo \"$line\" ;; \
         esac; done </etc/group >{etc}/group"
    ));
    assert!(it.sh(&format!("cat {etc}/group")).contains(":alice"));
    let parameters = json!({ "domain": it.guest("web1"), "device": "0781:5581" });
    let script =
        format!("varlinkctl call {SOCKET} io.github.vusb.Manager.AddDevice '{parameters}'");
    fs::write(it.machine.at("call"), script).unwrap();
    let call = |user: &str| {
        it.container.sh(&format!("su -s /usr/bin/sh {user} -c \"$(cat {SHARED}/call)\""))
    };
    let refused = call("bob").unwrap_err().to_string();
    assert!(refused.contains("PermissionDenied"), "{refused}");
    let added = call("alice").unwrap();
    assert!(added.contains("hci0:1"), "{added}");
}

/// The systemd of Debian 12 does not know `Type=notify-reload`, but it also reports the failure.
#[test]
#[ignore = "boots systemd in a container, as root; run by cargo xtask test"]
fn a_reload_of_wrong_rules_fails_in_debian_12() {
    let it = Installed::in_release("bookworm", &[]);
    it.write_rules("[[rule]]\nname = \"sticks\"\nhas = \"storage\"\ndeny = \"*\"\n");
    it.sh("systemctl start vusbd && systemctl reload vusbd");
    it.wait_for("systemctl show -P StatusText vusbd | grep -q '^1 rule'");
    let process = it.pid();
    it.write_rules("[[rule]]\nname = \"sticks\"\n");
    let refused = it.container.sh("systemctl reload vusbd").unwrap_err().to_string();
    assert!(refused.contains("Job for vusbd.service failed"), "{refused}");
    assert_eq!(it.sh("systemctl is-active vusbd"), "active\n");
    assert_eq!(it.pid(), process);
    it.write_rules("");
    it.sh("systemctl reload vusbd");
    it.wait_for("systemctl show -P StatusText vusbd | grep -q '^0 rules'");
}

/// The real polkit decides about a user who is not in the group.
#[test]
#[ignore = "boots systemd in a container, as root; run by cargo xtask test"]
fn polkit_decides_about_a_user_in_no_group() {
    let mut it = Installed::in_release("trixie", &["polkitd", "dbus"]);
    it.machine.plug("1-4", "0781:5581", ["08", "06", "50"]);
    it.machine.boot("web1");
    // The few devices of the container cannot be mounted once more.
    let drop_ins = "/etc/systemd/system/polkit.service.d";
    // This is what the maintainer scripts of these packages do. The service looks for pkcheck below
    // the root of the simulated machine.
    it.sh(&format!(
        "systemd-sysusers && systemd-tmpfiles --create && systemctl restart dbus && \
         mkdir -p /etc/polkit-1/rules.d {SHARED}/machine/usr/bin {drop_ins} && \
         printf '[Service]\\nPrivateDevices=no\\n' >{drop_ins}/devices.conf && \
         systemctl daemon-reload && \
         ln -s /usr/bin/pkcheck {SHARED}/machine/usr/bin/pkcheck && systemctl restart polkit"
    ));
    // polkit has read the file with the actions.
    let action = it.sh("pkaction --verbose --action-id io.github.vusb.attach");
    for line in ["Give USB devices of this machine", "implicit active:   auth_admin_keep"] {
        assert!(action.contains(line), "{action}");
    }
    let device = json!({ "domain": it.guest("web1"), "device": "0781:5581" });
    let call = |user: &str, method: &str, parameters: &Value| {
        let script =
            format!("varlinkctl call {SOCKET} io.github.vusb.Manager.{method} '{parameters}'");
        fs::write(it.machine.at("call"), script).unwrap();
        it.container.sh(&format!("su -s /usr/bin/sh {user} -c \"$(cat {SHARED}/call)\""))
    };
    // By default, polkit asks for an administrator's password. No agent runs that could ask for it.
    for method in ["AddDevice", "Metrics"] {
        let parameters = if method == "Metrics" { &json!({}) } else { &device };
        let refused = call("bob", method, parameters).unwrap_err().to_string();
        assert!(refused.contains("PermissionDenied"), "{refused}");
    }
    let rule = "polkit.addRule(function(action, subject) {\n\
                if (action.id == 'io.github.vusb.attach' && subject.user == 'bob')\n\
                return polkit.Result.YES;\n});\n";
    fs::write(it.machine.at("50.rules"), rule).unwrap();
    it.sh(&format!("cp {SHARED}/50.rules /etc/polkit-1/rules.d/ && systemctl restart polkit"));
    let added = call("bob", "AddDevice", &device).unwrap();
    assert!(added.contains("hci0:1"), "{added}");
    // The rule allows only this action, and only for this user. polkit is not asked about what only
    // root may do.
    for (user, method) in [("bob", "Metrics"), ("alice", "AddDevice"), ("bob", "AddController")] {
        let parameters = match method {
            "AddDevice" => device.clone(),
            "AddController" => json!({ "domain": it.guest("web1") }),
            _ => json!({}),
        };
        let refused = call(user, method, &parameters).unwrap_err().to_string();
        assert!(refused.contains("PermissionDenied"), "{user} {method}: {refused}");
    }
}
