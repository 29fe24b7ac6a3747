//! Two versions of QEMU: on both, the same spec gives the same hardware.

use vusb_rig::{BareQemu, Qemu};

use crate::support::Terminal;

const SPEC: &str = r#"
domain = "both"
driver = "qemu:QMP"
[[controller]]
usbversion = 3
[[controller]]
model = "ehci"
[[controller]]
usbversion = 1
ports = 2
[[device]]
kind = "hub"
[[device]]
kind = "mouse"
[[device]]
kind = "keyboard"
usbversion = 2
[[device]]
kind = "storage"
file = "stick.img"
[[device]]
kind = "net"
[[device]]
kind = "serial"
chardev = "null"
[[device]]
kind = "ccid"
[[device]]
kind = "redir"
chardev = "unix:redir,server"
"#;

#[test]
#[ignore = "needs two QEMUs; run by cargo xtask test"]
fn the_same_spec_is_the_same_hardware_on_both() {
    let both = [Qemu::installed(), vusb_rig::qemus::second().unwrap()];
    assert_ne!(both[0].version().unwrap(), both[1].version().unwrap());
    let mut digests = Vec::new();
    for qemu in both {
        eprintln!("QEMU {}", qemu.version().unwrap());
        let t = Terminal::new();
        t.write("stick.img", &[0; 4096]);
        t.write("hot.toml", SPEC.replace("QMP", "hot.qmp").as_bytes());
        t.write("cold.toml", SPEC.replace("QMP", "cold.qmp").as_bytes());

        // The hardware is added to one QEMU while it runs, and another QEMU starts with it.
        let hot = BareQemu::start_with(&qemu, ["-machine", "pc", "-nodefaults"]).unwrap();
        t.name(hot.qmp_socket(), "hot");
        let _ = t.vusb("apply hot.toml").ok();
        // The first QEMU ends, because it uses the image.
        drop(hot);
        let args: serde_json::Value =
            serde_json::from_str(&t.vusb("qemu-args cold.toml --json").ok()).unwrap();
        let args = crate::cold::words(&args);
        let more = ["-machine", "pc", "-nodefaults"].map(str::to_owned);
        let cold = BareQemu::start_with(&qemu, more.into_iter().chain(args)).unwrap();
        t.name(cold.qmp_socket(), "cold");
        let planned = t.vusb("digest cold.toml").ok();
        assert_eq!(t.vusb("digest qemu:cold.qmp").ok(), planned);
        digests.push(planned);
        drop(cold);

        // Everything can be removed again.
        let hot = BareQemu::start_with(&qemu, ["-machine", "pc", "-nodefaults"]).unwrap();
        t.name(hot.qmp_socket(), "hot");
        let _ = t.vusb("apply hot.toml").ok();
        digests.push(t.vusb("digest qemu:hot.qmp").ok());
        for device in
            ["hub0", "mouse0", "keyboard0", "storage0", "net0", "serial0", "ccid0", "redir0"]
        {
            let _ = t.vusb(&format!("device remove qemu:hot.qmp {device}")).ok();
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}
