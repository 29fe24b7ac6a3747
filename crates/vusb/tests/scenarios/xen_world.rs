//! A simulated Xen machine whose USB devices are those of a [`Sandbox`].

use std::time::Duration;

use vusb::drivers::Locations;
use vusb::model::selector::Selector;
use vusb::model::spec::{ControllerSpec, DeviceSpec};
use vusb::model::speed::{Speed, SpeedSet};
use vusb::{DomainAddress, Error, ExitCode, Options, Outcome, Registry};
use vusb_xen::DomId;
use vusb_xen::store::fake::Xenstored;
use vusb_xen::usb::ExportedDevice;
use vusb_xen::usb::fake::{Behaviour, Machine};

use crate::sandbox::{Sandbox, Vusb, library_with};

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) machine: Machine,
}

pub(crate) fn id(number: u16) -> DomId {
    DomId::new(number).unwrap()
}

impl World {
    /// Domain 0 with a vusb-backend, and the PV guest web1 (id 5).
    pub(crate) fn new() -> World {
        let world = World { sandbox: Sandbox::new(), machine: Machine::start() };
        world.machine.add_guest(id(5), "web1", "pv");
        world
    }

    /// The backend domain usbvm (id 3), with a vusb-backend.
    pub(crate) fn add_usbvm(&self) {
        self.machine.add_guest(id(3), "usbvm", "pv");
        self.machine.announce_backend(id(3));
    }

    /// A device that usbvm exports.
    pub(crate) fn export(&self, bus_id: &str, usb_id: &str, address: &str) {
        self.export_with(bus_id, usb_id, address, |_| ());
    }

    /// A device that usbvm exports, with the reason why it should not be attached.
    pub(crate) fn export_protected(&self, bus_id: &str, usb_id: &str, address: &str, why: &str) {
        self.export_with(bus_id, usb_id, address, |it| it.protection = Some(why.to_owned()));
    }

    /// A device that usbvm exports, with a change.
    pub(crate) fn export_with(
        &self,
        bus_id: &str,
        usb_id: &str,
        address: &str,
        change: impl FnOnce(&mut ExportedDevice),
    ) {
        let Ok(Selector::Id { id: usb_id, .. }) = usb_id.parse() else { panic!("{usb_id}") };
        let Ok(Selector::Address(address)) = address.parse() else { panic!("{address}") };
        let mut device = ExportedDevice {
            bus_id: bus_id.parse().unwrap(),
            address,
            id: usb_id,
            serial: None,
            speed: Some(Speed::High),
            speeds: SpeedSet::of(&[Speed::Full, Speed::High]),
            class: 8,
            manufacturer: None,
            product: Some("A stick".to_owned()),
            protection: None,
        };
        change(&mut device);
        self.machine.export(id(3), &device);
    }

    /// Changes how backends and guests behave.
    pub(crate) fn behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.machine.behaviour());
    }

    pub(crate) fn xenstored(&self) -> &Xenstored {
        self.machine.xenstored()
    }

    pub(crate) fn vusb(&self) -> Vusb {
        self.with_limit(Duration::from_secs(5), false)
    }

    /// The library with waits of at most 300 ms, for conditions that are never met.
    pub(crate) fn impatient(&self) -> Vusb {
        self.with_limit(Duration::from_millis(300), false)
    }

    pub(crate) fn with_limit(&self, limit: Duration, force: bool) -> Vusb {
        let vusb = library_with(self.sandbox.path(), limit, |host| {
            Registry::builtin(Locations {
                xenstored: Some(self.xenstored().socket().to_owned()),
                xen_qmp: Some(self.sandbox.path().to_owned()),
                ..host.into()
            })
        });
        vusb.with_options(Options { force, ..vusb.options.clone() })
    }

    pub(crate) fn web1(&self) -> DomainAddress {
        self.vusb().domain("xen:web1").unwrap()
    }

    pub(crate) fn add(&self, device: &str) -> Result<Outcome, Error> {
        self.vusb().device_add(&self.web1(), &DeviceSpec::new(device.parse().unwrap()))
    }

    pub(crate) fn controller(&self, spec: &ControllerSpec) -> Result<Outcome, Error> {
        self.vusb().controller_add(&self.web1(), spec)
    }

    pub(crate) fn tree(&self) -> std::collections::BTreeMap<String, String> {
        self.machine.tree()
    }

    pub(crate) fn node(&self, path: &str) -> Option<String> {
        self.machine.node(path)
    }

    /// The guest's USB in a few words: `pv0 present[1 host0 attached]`.
    pub(crate) fn shows(&self) -> String {
        let view = self.vusb().list(&self.web1()).unwrap();
        let controllers = view.controllers.iter().map(|controller| {
            let devices = controller.devices.iter();
            let devices = devices.map(|it| format!("{} {} {}", it.port, it.name, it.state));
            let devices = devices.collect::<Vec<_>>().join("; ");
            format!("{} {}[{devices}]", controller.name, controller.state)
        });
        controllers.collect::<Vec<_>>().join(" ")
    }
}

/// The exit code of a command with this result.
pub(crate) fn code(result: Result<Outcome, Error>) -> ExitCode {
    result.map_or_else(|error| error.exit_code(), |_| ExitCode::Done)
}
