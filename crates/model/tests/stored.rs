//! What hardware is stored as, and what is not read back.
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

/// One of two devices on a port was once dropped without a word.
#[test]
fn two_devices_on_one_port_are_refused() {
    let error = error(
        r#"[{"index":0,"name":"hci0","model":"qemu-xhci","ports":4,"devices":[
            {"port":"1","name":"a","kind":"ccid"},{"port":"1","name":"b","kind":"ccid"}]}]"#,
    );
    assert!(error.contains("port 1 of hci0 is in use by a (ccid)"), "{error}");
}

#[test]
fn a_hub_has_no_hundred_ports() {
    for ports in ["0", "9", "200"] {
        let error = error(&format!(
            r#"[{{"index":0,"name":"hci0","model":"qemu-xhci","ports":4,"devices":[
                {{"port":"1","name":"a","kind":"hub","ports":{ports}}}]}}]"#,
        ));
        assert_eq!(error, format!("a hub cannot have {ports} ports: it has 1 to 8"));
    }
}

/// An xHCI whose ports have one half only comes back as it was.
#[test]
fn halves_are_kept() {
    for halves in [(4, 0), (0, 4), (4, 2), (2, 4), (4, 4)] {
        let controller = ControllerSpec {
            model: Some(Model::NecXhci),
            halves: Some(halves),
            ..ControllerSpec::default()
        };
        let spec = Spec { controllers: vec![controller], ..Spec::default() };
        let made = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap().hardware;
        let json = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<Hardware>(&json).unwrap(), made, "{halves:?}: {json}");
        let again = resolve(&Hardware::new(), &Spec::from(&made), &Capabilities::everything());
        assert_eq!(again.unwrap().hardware, made, "{halves:?}");
    }
}

/// What a model cannot have is refused, and not left out.
#[test]
fn halves_of_what_has_none_are_refused() {
    let controller = ControllerSpec {
        model: Some(Model::Piix3Uhci),
        halves: Some((2, 2)),
        ..ControllerSpec::default()
    };
    let spec = Spec { controllers: vec![controller], ..Spec::default() };
    let refusal = resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap_err();
    assert_eq!(refusal.refusal, Refusal::Halves { model: Model::Piix3Uhci });
}
