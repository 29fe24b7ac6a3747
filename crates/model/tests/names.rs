//! An entry without a name or an index never gets a name or an index that another entry of the same
//! spec requests.
#![allow(clippy::unwrap_used)]

use vusb_model::address::Index;
use vusb_model::capabilities::Capabilities;
use vusb_model::hardware::Hardware;
use vusb_model::resolve::{Resolved, resolve};
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

fn resolved(spec: &Spec) -> Resolved {
    resolve(&Hardware::new(), spec, &Capabilities::everything()).unwrap()
}

fn tablet(name: Option<&str>, port: Option<&str>) -> DeviceSpec {
    DeviceSpec {
        name: name.map(|name| name.parse().unwrap()),
        port: port.map(|port| port.parse().unwrap()),
        ..DeviceSpec::new("tablet".parse().unwrap())
    }
}

fn names(resolved: &Resolved) -> Vec<String> {
    let controllers = resolved.hardware.controllers().map(|controller| controller.name.to_string());
    let devices = resolved.hardware.devices().map(|(_, device)| device.name.to_string());
    controllers.chain(devices).collect()
}

/// The default name of the first tablet would be the name that the second requests. They must not
/// be taken for the same tablet.
#[test]
fn a_device_does_not_take_the_name_of_a_later_one() {
    let devices = vec![tablet(None, None), tablet(Some("tablet0"), None)];
    let resolved = resolved(&Spec { devices, ..Spec::default() });
    assert_eq!(names(&resolved), ["hci0", "tablet1", "tablet0"]);
    assert!(resolved.devices.iter().all(|placed| !placed.existing));
}

#[test]
fn a_controller_does_not_take_the_name_of_a_later_one() {
    let controllers = vec![
        ControllerSpec { index: Index::new(0), ..ControllerSpec::default() },
        ControllerSpec { name: Some("hci0".parse().unwrap()), ..ControllerSpec::default() },
    ];
    let resolved = resolved(&Spec { controllers, ..Spec::default() });
    assert_eq!(names(&resolved), ["hci1", "hci0"]);
}

#[test]
fn a_controller_does_not_take_the_index_of_a_later_one() {
    let controllers = vec![
        ControllerSpec { name: Some("front".parse().unwrap()), ..ControllerSpec::default() },
        ControllerSpec { index: Index::new(0), ..ControllerSpec::default() },
    ];
    let resolved = resolved(&Spec { controllers, ..Spec::default() });
    assert_eq!(names(&resolved), ["hci0", "front"]);
}

/// A device that is deferred until its hub is placed consumes no name before that.
#[test]
fn a_deferred_device_consumes_no_name() {
    let hub = DeviceSpec::new("hub".parse().unwrap());
    let devices = vec![tablet(None, Some("1.1")), hub];
    let controllers = vec![ControllerSpec::default()];
    let resolved = resolved(&Spec { controllers, devices, ..Spec::default() });
    assert_eq!(names(&resolved), ["hci0", "hub0", "tablet0"]);
}
