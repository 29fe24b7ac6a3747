//! `vusb list` and `vusb models`.

use std::os::unix::net::UnixListener;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};
use vusb_xen::store::fake::Xenstored;

use crate::environment::{Environment, Ran};

#[test]
fn nothing_is_recorded_yet() {
    let env = Environment::new();
    assert_snapshot!(env.run("list").snapshot(), @"
    ---- stderr
    no domain has a record yet; `vusb list DOMAIN` shows any domain
    ");
}

#[test]
fn a_domain_is_a_tree() {
    let env = Environment::new();
    env.image("stick.img");
    env.run("controller add sim:S --model ehci --name fast").prints("fast");
    env.run("controller add sim:S").prints("hci0");
    env.run("device add sim:S hub --controller hci0").prints("hci0:1");
    env.run("device add sim:S mouse --controller hci0 --port 1.3").prints("hci0:1.3");
    env.run("device add sim:S storage:stick.img,readonly --controller fast --name stick")
        .prints("fast:1");
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  fast  emulated  ehci  1/6  present
      1  stick  storage  stick.img,readonly  attached
    1  hci0  emulated  qemu-xhci  1/15  present
      1  hub0  hub  attached
        1.3  mouse0  mouse  attached
    ");
}

#[test]
fn the_path_of_a_socket_is_an_address() {
    let env = Environment::new();
    let _silent = UnixListener::bind(env.path("web1.qmp")).unwrap();
    env.run("list ./web1.qmp --timeout 0.1").fails(8).says("qemu:web1.qmp");
    // A plain file name is an address too if no domain has that name.
    env.run("list web1.qmp --timeout 0.1").fails(8).says("qemu:web1.qmp");
    for command in ["apply", "digest", "device list", "qemu-args", "convert --to vusb"] {
        let ran = env.run(&format!("{command} ./web1.qmp --timeout 0.1"));
        ran.fails(8).says("qemu:web1.qmp");
    }
    env.run("list web2.qmp").fails(3);
    env.run("list ./web2.qmp").fails(3);
}

/// Writes the command line of a process of this machine.
fn process(env: &Environment, pid: u32, command: &str) {
    let folder = env.machine().join(format!("proc/{pid}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cmdline"), command.replace(' ', "\0")).unwrap();
    owned_by(env, pid, 0);
}

/// Makes the process that of a user.
fn owned_by(env: &Environment, pid: u32, uid: u32) {
    let status = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
    std::fs::write(env.machine().join(format!("proc/{pid}/status")), status).unwrap();
}

/// The command line of a Proxmox VE guest.
const KVM: &str = "/usr/bin/kvm -id 100 -name web1 -chardev socket,id=qmp,path=/var/run/qemu-server/100.qmp,\
    server=on,wait=off -mon chardev=qmp,mode=control -smbios type=1,uuid=6ccd0a6a-2b7b-4c1a-8a3e-000000000100";

/// A Proxmox VE node with a stick at 1-4, and the monitor of its guest 100.
fn proxmox_node() -> (Environment, UnixListener) {
    let env = Environment::new();
    env.plug_stick("1-4");
    for folder in ["etc/pve/qemu-server", "etc/pve/mapping", "var/run/qemu-server"] {
        std::fs::create_dir_all(env.machine().join(folder)).unwrap();
    }
    let monitor = env.machine().join("var/run/qemu-server/100.qmp");
    let listens = UnixListener::bind(monitor).unwrap();
    (env, listens)
}

/// Writes the configuration of the guest 100.
fn configure(env: &Environment, usb: &str) {
    let text = format!("cores: 1\nname: web1\nostype: l26\n{usb}");
    std::fs::write(env.machine().join("etc/pve/qemu-server/100.conf"), text).unwrap();
}

/// `qm` adds devices to running guests and removes them, and their command lines stay as they were.
#[test]
fn a_proxmox_guest_holds_what_its_configuration_names() {
    let (env, _monitor) = proxmox_node();
    process(&env, 30, KVM);
    let config = |usb: &str| configure(&env, usb);
    config("usb0: host=1-4\n");
    let list = env.json("list");
    let guests = list["unrecorded"].as_array().unwrap();
    assert_eq!(guests.len(), 1, "{list}");
    assert_eq!(
        (&guests[0]["address"], &guests[0]["manager"]),
        (&"pve:100".into(), &"Proxmox VE".into())
    );
    let held = "is in use by pve:100 (pid 30), whose configuration names 1-4";
    env.run("device add sim:S 1-4").fails(4).says(held).says("--force");
    env.run("host list").stdout.contains("pve:100 (pid 30)").then_some(()).unwrap();
    config("args: -device usb-host,hostbus=1,hostport=4\n");
    env.run("device add sim:S 1-4").fails(4).says(held);
    config("");
    process(&env, 30, &format!("{KVM} -device usb-host,hostbus=1,hostport=4"));
    env.run("device add sim:S 1-4").prints("hci0:1");
}

/// Any user can start a process with the command line of a guest.
#[test]
fn a_process_of_another_user_is_not_a_proxmox_guest() {
    let (env, _monitor) = proxmox_node();
    configure(&env, "usb0: host=1-4\n");
    process(&env, 30, KVM);
    owned_by(&env, 30, 1000);
    env.run("device add sim:S 1-4").prints("hci0:1");
    env.run("device remove sim:S 1-4").says("removed hci0:1");
    process(&env, 40, KVM);
    env.run("device add sim:S 1-4").fails(4).says("is in use by pve:100 (pid 40)");
}

/// What cannot be read in the configuration may be what the command line names.
#[test]
fn a_proxmox_guest_with_an_unknown_entry_also_holds_what_its_command_line_names() {
    let (env, _monitor) = proxmox_node();
    process(&env, 30, &format!("{KVM} -device usb-host,hostbus=1,hostport=4"));
    for entry in ["usb0: mapping=zigbee\n", "usb0: host=1-4,later=1\n"] {
        configure(&env, entry);
        let refused = "QEMU web1 (pid 30, started by Proxmox VE), whose command line names 1-4";
        env.run("device add sim:S 1-4").fails(4).says(refused);
        configure(&env, &format!("{entry}usb1: host=1-4\n"));
        let refused = "pve:100 (pid 30), whose configuration names 1-4";
        env.run("device add sim:S 1-4").fails(4).says(refused);
    }
    std::os::unix::fs::symlink("nodes/pve1", env.machine().join("etc/pve/local")).unwrap();
    let mapping = "zigbee\n\tmap id=10c4:ea60,node=pve1\n";
    std::fs::write(env.machine().join("etc/pve/mapping/usb.cfg"), mapping).unwrap();
    configure(&env, "usb0: mapping=zigbee\n");
    env.run("device add sim:S 1-4").prints("hci0:1");
}

/// QEMU takes what its command line names, whoever started it.
#[test]
fn a_guest_without_a_record_holds_what_its_command_line_names() {
    let env = Environment::new();
    env.plug_stick("1-4");
    process(&env, 30, "kvm -name web1 -device usb-host,hostbus=1,hostport=4");
    let line = |ran: &Ran, word: &str| ran.stdout.lines().any(|it| it.contains(word));
    let list = env.run("list");
    assert!(line(&list, "HOST DEVICES") && line(&list, "1-4"), "{list:?}");
    let host = env.run("host list");
    assert!(line(&host, "QEMU web1 (pid 30), whose command line names 1-4"), "{host:?}");
    let refused = "1-4 (0781:5581 SanDisk Ultra) is in use by QEMU web1 (pid 30), whose command line names 1-4";
    env.run("device add sim:S 1-4").fails(4).says(refused).says("--force");
    let value = env.json("list");
    assert_eq!(value["unrecorded"][0]["host_devices"][0], "1-4");
    assert_eq!(env.json("host list")["devices"][0]["processes"][0]["pid"], 30);
    env.write("web2.toml", "[[device]]\nhost = \"0781:5581\"\n");
    env.run("qemu-args web2.toml").fails(4).says("whose command line names 1-4");
    env.run("convert web2.toml --to libvirt").says("whose command line names 1-4");
    env.run("device add sim:S 1-4 --force").prints("hci0:1");
    env.run("device remove sim:S 1-4").says("removed hci0:1");
    // QEMU's open files show that the device was detached after the start.
    std::fs::create_dir_all(env.machine().join("proc/30/fd")).unwrap();
    let host = env.run("host list");
    assert!(!line(&host, "command line"), "{host:?}");
    assert_eq!(env.run("qemu-args web2.toml").code, 0);
    env.run("device add sim:S 1-4").prints("hci0:1");
}

#[test]
fn guests_that_run_are_listed_without_a_record() {
    let env = Environment::new();
    let qemu = "/usr/bin/qemu-system-x86_64";
    process(&env, 30, &format!("{qemu} -name web1 -qmp unix:/run/web1.qmp,server=on,wait=off"));
    process(
        &env,
        31,
        &format!("{qemu} -name guest=\u{1b}mail -mon chardev=charmonitor,mode=control"),
    );
    process(&env, 32, "/usr/bin/vim");
    std::fs::create_dir_all(env.machine().join("run")).unwrap();
    let _socket = UnixListener::bind(env.machine().join("run/web1.qmp")).unwrap();
    assert_snapshot!(env.run("list").snapshot(), @r"
    Other running guests:
    ADDRESS             NAME        RUNS AS  STARTED BY
    qemu:/run/web1.qmp  web1        QEMU 30
    (no address)        \u{1b}mail  QEMU 31  libvirt
    ---- stderr
    no domain has a record yet; `vusb list DOMAIN` shows any domain
    ");
    let all = env.json("list");
    assert_eq!(
        all["unrecorded"][0],
        json!({
            "address": "qemu:/run/web1.qmp", "name": "web1", "hypervisor": "QEMU", "id": 30,
        })
    );
    // Commands accept its name too. (The socket is only in the simulated machine.)
    env.run("list web1").fails(7).says("qemu:/run/web1.qmp");
    env.run("list web2").fails(3).says("web1 (qemu:/run/web1.qmp)");
}

#[test]
fn all_domains_and_one_that_is_gone() {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.run("device add sim:A tablet").prints("hci0:1");
    env.run("device add sim:B 0781:5581").prints("hci0:1");
    env.write("B", r#"{"sim": 1, "unreachable": "the cable was cut"}"#);
    assert_snapshot!(env.run("list").snapshot(), @"
    sim:A
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  present
      1  tablet0  tablet  attached

    sim:B: cannot be listed: cannot reach sim:B: the cable was cut
    it still holds 0781:5581
    its record has:
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  missing
      1  host0  host  0781:5581  missing
    ");
}

#[test]
fn items_lost_in_a_restart_are_missing() {
    let env = Environment::new();
    env.run("device add sim:S tablet").prints("hci0:1");
    std::fs::remove_file(env.path("S")).unwrap();
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  missing
      1  tablet0  tablet  missing
    ");
    env.run("apply sim:S").prints("").says("2 steps taken");
    env.run("apply sim:S").prints("").says("nothing to do");
}

#[test]
fn items_of_other_tools_are_marked() {
    let env = Environment::new();
    env.write(
        "S",
        r#"{"sim": 1, "foreign": ["hci0", "tablet0"], "hardware": [{"index": 0, "name": "hci0", "model": "nec-xhci",
            "ports": 4, "devices": [{"port": "1", "name": "tablet0", "kind": "tablet", "usbversion": 1}]}]}"#,
    );
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  nec-xhci  1/4  present, not vusb's
      1  tablet0  tablet  attached, not vusb's
    ");
}

/// `vusb models` on a machine whose xenstored is at `socket`.
fn models(env: &Environment, socket: &Path, json: bool) -> Ran {
    let mut command = env.command(["models"].into_iter().chain(json.then_some("--json")));
    command.env("XENSTORED_PATH", socket);
    env.ran(&command.output().unwrap())
}

/// Without any hypervisor there is no support to query, and the names are the same.
#[test]
fn the_models() {
    let env = Environment::new();
    assert_snapshot!(models(&env, &env.path("no-socket"), false).snapshot(), @"
    NAME            TYPE      USB  PORTS  SPEEDS               QEMU  XEN
    piix3-uhci      emulated  1    2      low,full             -     -
    piix4-uhci      emulated  1    2      low,full             -     -
    vt82c686b-uhci  emulated  1    2      low,full             -     -
    pci-ohci        emulated  1    3      low,full             -     -
    ehci            emulated  2    6      high                 -     -
    ich9-ehci1      emulated  2    6      low,full,high        -     -
    ich9-uhci1      emulated  1    2      low,full             -     -
    ich9-uhci2      emulated  1    2      low,full             -     -
    ich9-uhci3      emulated  1    2      low,full             -     -
    nec-xhci        emulated  3    1-15   low,full,high,super  -     -
    qemu-xhci       emulated  3    1-15   low,full,high,super  -     -
    xenusb1         pv        1    1-31   low,full             -     -
    xenusb2         pv        2    1-31   low,full,high,super  -     -
    xenusb3         pv        3    1-31   low,full,high,super  -     -

    QEMU: not installed
    Xen: not running

    NAME            QEMU                LIBXL          LIBVIRT         VMWARE            VIRTUALBOX
    piix3-uhci      piix3-usb-uhci      devicemodel 1  piix3-uhci      -                 -
    piix4-uhci      piix4-usb-uhci      -              piix4-uhci      usb.present       -
    vt82c686b-uhci  vt82c686b-usb-uhci  -              vt82c686b-uhci  -                 -
    pci-ohci        pci-ohci            -              pci-ohci        -                 OHCI
    ehci            usb-ehci            devicemodel 2  ehci            ehci.present      EHCI
    ich9-ehci1      ich9-usb-ehci1      -              ich9-ehci1      -                 -
    ich9-uhci1      ich9-usb-uhci1      -              ich9-uhci1      -                 -
    ich9-uhci2      ich9-usb-uhci2      -              ich9-uhci2      -                 -
    ich9-uhci3      ich9-usb-uhci3      -              ich9-uhci3      -                 -
    nec-xhci        nec-usb-xhci        devicemodel 3  nec-xhci        -                 -
    qemu-xhci       qemu-xhci           -              qemu-xhci       usb_xhci.present  xHCI
    xenusb1         -                   pv 1           qusb1           -                 -
    xenusb2         -                   pv 2           qusb2           -                 -
    xenusb3         -                   -              -               -                 -
    ");
}

/// Installed hypervisors are queried: here a program that answers like a QEMU with few models, and
/// a xenstored without a vusb-backend.
#[test]
fn the_models_on_a_machine_with_hypervisors() {
    let (env, xenstored) = (Environment::new(), Xenstored::start());
    env.qemu(
        r#"cat <<'END'
{"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 0}, "package": ""}, "capabilities": []}}
{"return": {}, "id": 0}
{"return": [{"name": "qemu-xhci"}, {"name": "ich9-usb-ehci1"}, {"name": "piix4-usb-uhci"}], "id": 1}
{"return": "name \"piix4-usb-uhci\", bus PCI, no-user\r\n", "id": 2}
END
exec sleep 60"#,
    );
    let all = models(&env, xenstored.socket(), true);
    let view: Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!(view["here"]["qemu"]["there"], true);
    let what = view["here"]["qemu"]["what"].as_str().unwrap();
    assert!(what.starts_with("QEMU 9.1.0, ") && what.ends_with("/usr/bin/qemu-kvm"), "{what}");
    assert_eq!(
        view["here"]["xen"]["what"],
        "xenstored answers, no vusb-backend answers in domain 0"
    );
    let here = |name: &str| {
        let model = view["models"].as_array().unwrap().iter().find(|it| it["name"] == name);
        model.unwrap()["here"].clone()
    };
    assert_eq!(here("qemu-xhci"), json!({"qemu": "hot", "xen": "hot"}));
    assert_eq!(here("ich9-ehci1"), json!({"qemu": "cold", "xen": "cold"}));
    assert_eq!(here("piix4-uhci"), json!({"qemu": "no", "xen": "hot"}));
    assert_eq!(here("pci-ohci"), json!({"qemu": "no", "xen": "no"}));
    assert_eq!(here("xenusb2"), json!({"qemu": "no", "xen": "no"}));
}

/// A QEMU that exits without an answer is no failure.
#[test]
fn the_models_on_a_machine_with_a_broken_qemu() {
    let env = Environment::new();
    env.qemu("exit 1");
    let ran = models(&env, &env.path("no-socket"), true);
    let view: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &view["here"]["qemu"]["there"]), (0, &json!(false)));
    let what = view["here"]["qemu"]["what"].as_str().unwrap();
    assert!(
        what.ends_with("/usr/bin/qemu-kvm cannot be asked: it exited without answering"),
        "{what}"
    );
    assert_eq!(view["models"][0]["here"], json!({"qemu": null, "xen": null}));
}

/// Every name of a model, for programs.
#[test]
fn the_names_of_a_model() {
    let env = Environment::new();
    let ran = models(&env, &env.path("no-socket"), true);
    let view: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        view["models"][4],
        json!({
            "name": "ehci", "type": "emulated", "usbversion": 2, "ports": {"least": 6, "most": 6}, "speeds": ["high"],
            "qemu": "usb-ehci", "hot": true, "xen": "device model, version 2", "xen_hot": true,
            "names": {
                "qemu": "usb-ehci", "libxl": {"type": "devicemodel", "version": 2}, "libvirt": "ehci",
                "vmware": "ehci.present", "virtualbox": "EHCI",
            },
            "here": {"qemu": null, "xen": null},
        })
    );
}

/// Each of the forty hypervisors takes a second to answer; one after another, they would take forty
/// seconds.
#[test]
fn hypervisors_are_queried_concurrently() {
    let env = Environment::new();
    for number in 0..40 {
        let name = format!("S{number}");
        env.run(&format!("controller add sim:{name}")).prints("hci0");
        let mut guest: serde_json::Value = serde_json::from_str(&env.read(&name)).unwrap();
        guest["faults"] = serde_json::json!([{"step": "observe", "nth": 0, "fault": "slow"}]);
        env.write(&name, &guest.to_string());
    }
    let begin = std::time::Instant::now();
    let all = env.json("list");
    assert_eq!(all["domains"].as_array().unwrap().len(), 40);
    assert!((1..20).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}
