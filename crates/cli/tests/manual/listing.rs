//! `vusb list` and `vusb models`.

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
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  fast  emulated  ehci  1/6  present
      1  stick  storage  stick.img,readonly  attached
    1  hci0  emulated  qemu-xhci  1/15  present
      1  hub0  hub  attached
        1.3  mouse0  mouse  attached
    ");
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
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  present
      1  tablet0  tablet  attached

    sim:B: cannot be shown: sim:B cannot be reached: the cable was cut
    it holds 0781:5581 all the same
    on record of it is:
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  missing
      1  host0  host  0781:5581  missing
    ");
}

#[test]
fn what_a_restart_took_away_is_missing() {
    let env = Environment::new();
    env.run("device add sim:S tablet").prints("hci0:1");
    std::fs::remove_file(env.path("S")).unwrap();
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  missing
      1  tablet0  tablet  missing
    ");
    env.run("apply sim:S").prints("").says("2 steps taken");
    env.run("apply sim:S").prints("").says("is already so");
}

#[test]
fn what_others_made_is_marked() {
    let env = Environment::new();
    env.write(
        "S",
        r#"{"sim": 1, "foreign": ["hci0", "tablet0"], "hardware": [{"index": 0, "name": "hci0", "model": "nec-xhci",
            "ports": 4, "devices": [{"port": "1", "name": "tablet0", "kind": "tablet", "usbversion": 1}]}]}"#,
    );
    assert_snapshot!(env.run("list sim:S").snapshot(), @"
    sim:S
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
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

/// Without any hypervisor there is nobody to ask, and the names are the same.
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

/// What is installed is asked: here a program that answers as a QEMU does which has little, and a xenstored without a vusb-backend.
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

/// A QEMU that does not answer is no reason to fail, nor to wait.
#[test]
fn the_models_on_a_machine_with_a_broken_qemu() {
    let env = Environment::new();
    env.qemu("exit 1");
    let ran = models(&env, &env.path("no-socket"), true);
    let view: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &view["here"]["qemu"]["there"]), (0, &json!(false)));
    let what = view["here"]["qemu"]["what"].as_str().unwrap();
    assert!(
        what.ends_with("/usr/bin/qemu-kvm cannot be asked: it ended without an answer"),
        "{what}"
    );
    assert_eq!(view["models"][0]["here"], json!({"qemu": null, "xen": null}));
}

/// Every name that there is, for programs.
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
