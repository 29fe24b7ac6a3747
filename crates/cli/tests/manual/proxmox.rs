//! Guests of Proxmox VE, on a folder tree like that of a node.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::environment::Environment;

const GUEST: &str = "cores: 1\nmemory: 64\nname: web1\nostype: l26\n";

/// A node named pve1 with guest 100, which does not run.
fn node() -> (Environment, PathBuf) {
    let env = Environment::new();
    let at = |path: &str| env.machine().join(path);
    let node = at("etc/pve/nodes/pve1/qemu-server");
    for folder in [&node, &at("etc/pve/mapping"), &at("run/lock/qemu-server"), &at("var")] {
        fs::create_dir_all(folder).unwrap();
    }
    symlink("nodes/pve1", at("etc/pve/local")).unwrap();
    symlink("local/qemu-server", at("etc/pve/qemu-server")).unwrap();
    symlink("../run", at("var/run")).unwrap();
    symlink("../run/lock", at("var/lock")).unwrap();
    let config = node.join("100.conf");
    fs::write(&config, GUEST).unwrap();
    (env, config)
}

#[test]
fn a_mapping_of_the_cluster_names_a_device() {
    let (env, config) = node();
    let mapping = "zigbee\n\tmap id=0781:5581,node=pve1,path=1-4\nother\n\tmap id=10c4:ea60,node=pve1,path=1-4\n\
                   far\n\tmap id=0781:5581,node=pve2\n";
    env.run("device add pve:100 mapping:zigbee").fails(3).says("no mapping of this name");
    fs::write(env.machine().join("etc/pve/mapping/usb.cfg"), mapping).unwrap();
    env.plug_stick("1-4");
    env.run("device add pve:100 mapping:other").fails(3).says("the device there is 0781:5581");
    env.run("device add pve:100 mapping:far").fails(3).says("no device on this node");
    env.run("device add pve:100 mapping:zigbee").prints("xhci:1");
    assert_eq!(fs::read_to_string(&config).unwrap(), format!("{GUEST}usb0: host=1-4\n"));
    env.run("device remove pve:100 mapping:zigbee").says("removed xhci:1 (usb0)");
    assert_eq!(fs::read_to_string(&config).unwrap(), GUEST);
    // A mapping names a device for any other domain of this machine too.
    env.run("device add sim:S host:mapping:zigbee").prints("hci0:1");
    let elsewhere = Environment::new();
    elsewhere.run("device add sim:S mapping:zigbee").fails(3).says("no hypervisor of this machine");
}

/// Without a quorum, no file of the cluster permits writing.
#[test]
fn without_a_quorum_nothing_is_touched() {
    let (env, config) = node();
    let mode = |mode| fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o440);
    let no_quorum = "the Proxmox VE cluster has no quorum";
    env.run("device add pve:100 redir:spicevmc").fails(7).says(no_quorum).says("pvecm status");
    env.run("device add pve:100 redir:spicevmc --dry-run").fails(7).says(no_quorum);
    assert_eq!(env.run("list pve:100").code, 0, "reading needs none");
    assert_eq!(fs::read_to_string(&config).unwrap(), GUEST);
    mode(0o640);
    env.run("device add pve:100 redir:spicevmc").prints("xhci:1");
    let files = fs::read_dir(config.parent().unwrap()).unwrap().count();
    assert_eq!(files, 1, "nothing is left beside it");
}

#[test]
fn what_a_guest_can_be_given_and_when() {
    let (env, _config) = node();
    let lines = |domain: &str| {
        let ran = env.run(&format!("models {domain}"));
        assert_eq!(ran.code, 0, "{ran:?}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        ran.stdout.lines().map(words).collect::<Vec<String>>()
    };
    let has = |domain: &str, line: &str| {
        let all = lines(domain);
        assert!(all.iter().any(|it| it.starts_with(line)), "{line}: {all:#?}");
    };
    has("pve:100", "CONTROLLER NOW NEXT START WHY NOT");
    has("pve:100", "host no yes -");
    has("pve:100", "redir no yes -");
    has("pve:100", "storage no no the Proxmox VE configuration has no key for it");
    has("pve:100", "qemu-xhci no no the Proxmox VE configuration has no key for it");
    env.run("controller add sim:S").prints("hci0");
    has("sim:S", "qemu-xhci yes yes -");
    has("sim:S", "tablet yes yes -");
    let value = env.json("models sim:S");
    assert_eq!((&value["running"], &value["devices"][2]["name"]), (&true.into(), &"tablet".into()));
    env.run("models nothing").fails(3);
}
