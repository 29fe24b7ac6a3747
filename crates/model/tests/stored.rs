//! Hardware as it is stored, and stored hardware that is refused.
#![allow(clippy::unwrap_used)]

use vusb_model::capabilities::Capabilities;
use vusb_model::hardware::Hardware;
use vusb_model::models::Model;
use vusb_model::refusal::Refusal;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, Spec};

fn error(json: &str) -> String {
    serde_json::from_str::<Hardware>(json).unwrap_err().to_string()
}

/// Regression test: one of two devices on a port was silently dropped.
#[test]
fn two_devices_on_one_port_are_refused() {
    let error = error(
        r#"[{"index":0,"name":"hci0","model":"qemu-xhci","ports":4,"devices":[
            {"port":"1","name":"a","kind":"ccid"},{"port":"1","name":"b","kind":"ccid"}]}]"#,
    );
    assert!(error.contains("port 1 of hci0 is in use by a (ccid)"), "{error}");
}

#[test]
fn a_hub_has_at_most_eight_ports() {
    for ports in ["0", "9", "200"] {
        let error = error(&format!(
            r#"[{{"index":0,"name":"hci0","model":"qemu-xhci","ports":4,"devices":[
                {{"port":"1","name":"a","kind":"hub","ports":{ports}}}]}}]"#,
        ));
        assert_eq!(error, format!("a hub cannot have {ports} ports: it has 1 to 8"));
    }
}

/// An xHCI with different numbers of USB 2 and USB 3 ports reads back unchanged.
#[test]
fn separate_ports_are_kept() {
    for ports in [(4, 0), (0, 4), (4, 2), (2, 4), (4, 4)] {
        let controller = ControllerSpec {
            model: Some(Model::NecXhci),
            separate_ports: Some(ports),
            ..ControllerSpec::default()
        };
        let spec = Spec { controllers: vec![controller], ..Spec::default() };
        let capabilities = Capabilities::everything();
        let hardware = resolve(&Hardware::new(), &spec, &capabilities).unwrap().hardware;
        let json = serde_json::to_string(&hardware).unwrap();
        assert_eq!(serde_json::from_str::<Hardware>(&json).unwrap(), hardware, "{ports:?}: {json}");
        let again = resolve(&Hardware::new(), &Spec::from(&hardware), &capabilities);
        assert_eq!(again.unwrap().hardware, hardware, "{ports:?}");
    }
}

/// The separate numbers are not silently ignored.
#[test]
fn separate_ports_are_refused_for_a_uhci() {
    let controller = ControllerSpec {
        model: Some(Model::Piix3Uhci),
        separate_ports: Some((2, 2)),
        ..ControllerSpec::default()
    };
    let spec = Spec { controllers: vec![controller], ..Spec::default() };
    let refusal = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap_err();
    assert_eq!(refusal.refusal, Refusal::SeparatePorts { model: Model::Piix3Uhci });
}
