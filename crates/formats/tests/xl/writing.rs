//! Generating a whole configuration, and what it cannot express.

use insta::assert_snapshot;
use vusb_formats::{ConfigFormat as _, LibxlJson, Xl};
use vusb_model::capabilities::Capabilities;
use vusb_model::digest::digest;
use vusb_model::guest::{Guest, Virtualization};
use vusb_model::hardware::Hardware;
use vusb_model::resolve::resolve;
use vusb_model::spec::{ControllerSpec, DeviceSpec, Spec};

use crate::support::hardware;

fn guest(virtualization: Virtualization) -> Guest {
    Guest {
        name: Some("web1".to_owned()),
        virtualization,
        memory_kib: Some(1 << 21),
        vcpus: Some(2),
        ..Guest::default()
    }
}

/// Hardware resolved with this project's own profile.
fn resolved(models: &[&str], devices: &[&str]) -> Hardware {
    let controllers = models.iter().map(|model| ControllerSpec {
        model: Some(model.parse().unwrap()),
        ..ControllerSpec::default()
    });
    let device = |text: &&str| {
        let (kind, controller) = text.split_once('@').unwrap();
        DeviceSpec { controller: controller.parse().ok(), ..DeviceSpec::new(kind.parse().unwrap()) }
    };
    let spec = Spec {
        controllers: controllers.collect(),
        devices: devices.iter().map(device).collect(),
        ..Spec::default()
    };
    resolve(&Hardware::new(), &spec, &Capabilities::everything()).unwrap().hardware
}

fn lost(hardware: &Hardware) -> Vec<String> {
    let written = Xl.write(&guest(Virtualization::Hvm), hardware);
    let json = LibxlJson.write(&guest(Virtualization::Hvm), hardware);
    assert_eq!(written.lost, json.lost);
    written.lost.into_iter().map(|lost| lost.what).collect()
}

#[test]
fn a_whole_file() {
    let hardware = resolved(
        &["piix3-uhci", "nec-xhci", "xenusb2"],
        &["tablet:usbversion=2@0", "003.014@1", "003.015@1", "001.002@2"],
    );
    let written = Xl.write(&guest(Virtualization::Hvm), &hardware);
    assert_eq!(written.lost, []);
    assert_snapshot!(written.text, @r#"
    name = "web1"
    type = "hvm"
    memory = 2048
    vcpus = 2
    usb = 1
    usbdevice = [ 'tablet' ]
    usbctrl = [
        'type=devicemodel,version=3,ports=15',
        'type=qusb,version=2,ports=16',
    ]
    usbdev = [
        'type=hostdev,hostbus=3,hostaddr=14,controller=0,port=1',
        'type=hostdev,hostbus=3,hostaddr=15,controller=0,port=2',
        'type=hostdev,hostbus=1,hostaddr=2,controller=1,port=1',
    ]
    "#);
    assert_eq!(digest(&self::hardware(&written.text)), digest(&hardware));

    let empty = Xl.write(&Guest::default(), &Hardware::new());
    assert_eq!(empty.text, "name = \"guest\"\ntype = \"hvm\"\n");
    let pv = Xl.write(&guest(Virtualization::Pv), &resolved(&["xenusb1"], &[]));
    assert!(pv.text.ends_with("usbctrl = [ 'type=qusb,version=1,ports=16' ]\n"), "{}", pv.text);
}

/// Redirected devices also enable SPICE.
#[test]
fn the_ich9_group() {
    let hardware = resolved(&["ich9-ehci1"], &["redir:spicevmc@0", "redir:spicevmc@0"]);
    let written = Xl.write(&guest(Virtualization::Hvm), &hardware);
    assert!(written.text.ends_with("usbversion = 2\nspice = 1\nspiceusbredirection = 2\n"));
    assert_eq!(written.lost, []);
    assert_eq!(digest(&self::hardware(&written.text)), digest(&hardware));
}

#[test]
fn hardware_that_xl_cannot_express() {
    for (models, devices, expected) in [
        (&["ich9-uhci2"][..], &[][..], &["hci0 (ich9-uhci2)"][..]),
        (&["qemu-xhci"], &["mouse@0"], &["hci0 (qemu-xhci)", "mouse0 (mouse)"]),
        (&["piix3-uhci"], &["mouse@0"], &["mouse0 (mouse)"]),
        (&["nec-xhci"], &["storage:x.img@0"], &["storage0 (storage:x.img)"]),
        (&["nec-xhci"], &["0781:5581@0"], &["host0 (host:0781:5581)"]),
        (&["piix4-uhci", "pci-ohci"], &[], &["hci0 (piix4-uhci)", "hci1 (pci-ohci)"]),
        // The second device is on port 2, where QEMU would put a hub.
        (
            &["piix3-uhci"],
            &["tablet:usbversion=2@0", "mouse:usbversion=2@0"],
            &["port 2 of mouse0", "no hub at port 2 of QEMU's boot controller"],
        ),
    ] {
        assert_eq!(lost(&resolved(models, devices)), expected, "{models:?} {devices:?}");
    }
    let pv = Xl.write(&guest(Virtualization::Pv), &resolved(&["ehci"], &[]));
    assert_eq!(pv.lost.len(), 1);
}
