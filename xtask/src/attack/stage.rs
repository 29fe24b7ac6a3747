//! A QEMU that runs without a guest, and a sandbox with records and images: where a command is
//! attacked.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use vusb_rig::BareQemu;

use super::Context;
use super::calls::stderr;
use super::sandbox::{STATE, Sandbox};
use crate::cargo::Result;

/// The domain, as commands name it.
pub(super) const DOMAIN: &str = "qemu:g.qmp";

/// A QEMU with an xHCI controller and slots for two more, and a sandbox.
pub(super) struct Stage {
    qemu: BareQemu,
    sandbox: Sandbox,
}

/// The machine. Its firmware never switches a slot on, so QEMU removes a controller there without
/// waiting for a guest.
const MACHINE: [&str; 13] = [
    "-machine",
    "q35",
    "-nodefaults",
    "-global",
    "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    "-audiodev",
    "none,id=silent",
    "-device",
    "qemu-xhci,id=hci,p2=15",
    "-device",
    "pcie-root-port,id=slot0,chassis=1",
    "-device",
    "pcie-root-port,id=slot1,chassis=2",
];

impl Stage {
    pub(super) fn new(context: &Context) -> Result<Stage> {
        let stage =
            Stage { qemu: BareQemu::start(MACHINE)?, sandbox: Sandbox::new(&context.vusb)? };
        // vusb does not remove a controller while the machine is stopped.
        stage.qemu.qmp("cont", json!({}))?;
        std::os::unix::fs::symlink(stage.qemu.qmp_socket(), stage.path("g.qmp"))?;
        for image in ["a.img", "b.img"] {
            fs::write(stage.path(image), [0; 4096])?;
        }
        Ok(stage)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    /// The command with these arguments, separated by blanks.
    pub(super) fn command(&self, words: &str) -> Command {
        let mut command = self.sandbox.with(Command::new(self.sandbox.vusb()), STATE, words);
        command.env_clear().stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, words: &str) -> Result<Output> {
        Ok(self.command(words).output()?)
    }

    /// Runs a command that has to succeed.
    pub(super) fn must(&self, words: &str) -> Result<()> {
        let output = self.run(words)?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("`vusb {words}` failed: {}", stderr(&output)).into())
    }

    /// What vusb lists as attached, by name: devices, and controllers of vusb.
    pub(super) fn listed(&self) -> Result<BTreeSet<String>> {
        let words = format!("list {DOMAIN} --json");
        let output = self.run(&words)?;
        let list: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("`vusb {words}`: {error}: {}", stderr(&output)))?;
        let controllers = list.get("controllers").and_then(Value::as_array);
        let controllers = controllers.ok_or_else(|| format!("`vusb {words}`: {list}"))?;
        let mut names = BTreeSet::new();
        for it in controllers {
            if it["origin"] == "vusb" && it["state"] == "present" {
                names.extend(it["name"].as_str().map(|name| format!("{CONTROLLER}{name}")));
            }
            let devices = it["devices"].as_array().into_iter().flatten();
            let attached = devices.filter(|it| it["state"] == "attached");
            names.extend(attached.filter_map(|it| it["name"].as_str().map(str::to_owned)));
        }
        Ok(names)
    }

    /// What QEMU has of vusb, by name: devices and controllers.
    pub(super) fn items(&self) -> Result<BTreeSet<String>> {
        let list = self.qemu.qmp("qom-list", json!({"path": "/machine/peripheral"}))?;
        let ids = strings(&list, "name");
        Ok(ids.iter().filter_map(|it| it.strip_prefix("vusb-").map(item)).collect())
    }

    /// The back ends of vusb in QEMU whose device does not exist: `block node vusb-a`.
    pub(super) fn leftovers(&self) -> Result<Vec<String>> {
        let items = self.items()?;
        let nodes = strings(&self.qemu.qmp("query-named-block-nodes", json!({}))?, "node-name");
        let chardevs = strings(&self.qemu.qmp("query-chardev", json!({}))?, "label");
        let info = json!({"command-line": "info network"});
        let info = self.qemu.qmp("human-monitor-command", info)?;
        let info = info.as_str().unwrap_or_default();
        // ` \ vusb-net0: index=0,type=user,net=10.0.2.0`
        let netdevs = info.split_whitespace().filter_map(|it| it.strip_suffix(':'));
        let netdevs: Vec<String> = netdevs.map(str::to_owned).collect();
        let all = [("block node", nodes), ("chardev", chardevs), ("netdev", netdevs)];
        let all = all.iter().flat_map(|(what, ids)| ids.iter().map(move |id| (what, id)));
        let is_left = |id: &str| id.strip_prefix("vusb-").is_some_and(|name| !items.contains(name));
        Ok(all.filter(|(_, id)| is_left(id)).map(|(what, id)| format!("{what} {id}")).collect())
    }

    /// Checks that vusb lists exactly what QEMU has, and that no back end is left.
    pub(super) fn check(&self) -> Result<()> {
        let (listed, items) = (self.listed()?, self.items()?);
        if listed != items {
            return Err(format!("vusb lists {listed:?}, and QEMU has {items:?}").into());
        }
        let left = self.leftovers()?;
        if left.is_empty() { Ok(()) } else { Err(format!("left in QEMU: {left:?}").into()) }
    }

    /// Removes all items and records. An error if that is impossible, because then the QEMU is not
    /// as it was.
    pub(super) fn reset(&self) -> Result<()> {
        let (controllers, devices): (Vec<String>, Vec<String>) =
            self.listed()?.into_iter().partition(|it| it.starts_with(CONTROLLER));
        for name in devices {
            self.must(&format!("device remove {DOMAIN} {name}"))?;
        }
        for name in controllers.iter().filter_map(|it| it.strip_prefix(CONTROLLER)) {
            self.must(&format!("controller remove {DOMAIN} {name}"))?;
        }
        for folder in [STATE, "machine/run"] {
            let path = self.path(folder);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        let (left, items) = (self.leftovers()?, self.items()?);
        if left.is_empty() && items.is_empty() {
            return Ok(());
        }
        Err(format!("QEMU still has {left:?} and {items:?}").into())
    }
}

/// The prefix of the name of a controller in a list of items.
const CONTROLLER: &str = "controller ";

/// The item with the id `vusb-ID` in QEMU. That of a controller is `INDEXxPORTS-NAME`.
fn item(id: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let controller = id.split_once('-').and_then(|(numbers, name)| {
        let (index, ports) = numbers.split_once('x')?;
        (is_number(index) && is_number(ports)).then_some(name)
    });
    controller.map_or_else(|| id.to_owned(), |name| format!("{CONTROLLER}{name}"))
}

fn strings(list: &Value, key: &str) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|it| it.get(key)?.as_str().map(str::to_owned)).collect()
}
