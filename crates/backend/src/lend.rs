//! Work on devices that takes time: finding and opening them, configuring them, giving them back. It runs on threads of its own.

use std::time::Duration;

use tracing::{debug, warn};
use vusb_host::usbfs::{CallError, Handle, UsbFs};
use vusb_host::{Host, HostDevice};

use crate::engine::{Chosen, Failure, Offer, Opened, Outcome, Work};
use crate::nodes::{Identity, Want};
use crate::opener::{Item, Opener};

/// How often a node that cannot be opened yet is tried again, and how long after: on a machine where a program makes the nodes or gives them
/// their permissions, that happens after the kernel has told of the device.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Finds devices and opens them.
#[derive(Clone, Debug)]
pub struct Lender {
    /// This machine.
    pub host: Host,
    /// Opens what may be opened.
    pub opener: Opener,
    /// The version of USB of the controller, 1 or 2.
    pub version: u8,
}

/// Why a device was not opened.
enum Trouble {
    /// It is not plugged in.
    Absent,
    /// Perhaps in a moment.
    Later(String),
    /// It is not lent.
    Refused(String),
}

impl Lender {
    /// Does one job to its end.
    pub fn run(&self, job: Work<UsbFs>) -> Outcome<UsbFs> {
        match job {
            Work::Open(want) => self.open(&want),
            Work::Configure(handle, from, to) => Outcome::Done(configure(&handle, &from, &to)),
            Work::SetInterface(handle, interface, alternate) => {
                Outcome::Done(handle.set_interface(interface, alternate).map_err(|it| failure(&it)))
            }
            Work::ClearHalt(handle, endpoint) => {
                Outcome::Done(handle.clear_halt(endpoint).map_err(|it| failure(&it)))
            }
            Work::Reset(handle, taken) => Outcome::Done(reset(&handle, &taken)),
            Work::GiveBack(usb, from, original) => {
                give_back(&usb, &from, &original);
                Outcome::GaveBack
            }
        }
    }

    fn open(&self, want: &Want) -> Outcome<UsbFs> {
        let mut attempt = 1;
        loop {
            match self.try_open(want) {
                Err(Trouble::Later(_)) if attempt < ATTEMPTS => std::thread::sleep(PAUSE),
                Err(Trouble::Later(why) | Trouble::Refused(why)) => return Outcome::Refused(why),
                Err(Trouble::Absent) => return Outcome::Absent,
                Ok(opened) => return Outcome::Opened(Box::new(opened)),
            }
            attempt += 1;
        }
    }

    fn try_open(&self, want: &Want) -> Result<Opened<UsbFs>, Trouble> {
        let devices = self.host.devices().map_err(|it| Trouble::Refused(it.to_string()))?;
        let device = devices.iter().find(|it| it.bus_id == want.bus_id).ok_or(Trouble::Absent)?;
        may_be_lent(device, want.identity.as_ref())?;
        let raw = self.host.raw_descriptors(device).ok_or(Trouble::Absent)?;
        let file =
            self.opener.open(Item::Usb(device.at)).map_err(|it| Trouble::Later(it.to_string()))?;
        let usb = UsbFs::from_fd(file).map_err(|it| Trouble::Later(it.to_string()))?;
        // Between looking and opening it may have been replaced by another, which has another address.
        let again = self.host.raw_descriptors(device).ok_or(Trouble::Absent)?;
        if again != raw {
            return Err(Trouble::Later("it changes while it is opened".to_owned()));
        }
        let active = device.configuration.unwrap_or(0);
        let offer = Offer::new(&raw, device.speed, active, self.version);
        let offer = offer.map_err(|it| Trouble::Refused(it.to_string()))?;
        Ok(Opened { usb, offer })
    }
}

/// Whether this device is the one that is meant, and one that can be carried at all. Whether it should be lent is the toolstack's to judge.
fn may_be_lent(device: &HostDevice, identity: Option<&Identity>) -> Result<(), Trouble> {
    if let Some(identity) = identity {
        let same = device.id == identity.id;
        let same =
            same && identity.serial.as_ref().is_none_or(|it| device.serial.as_ref() == Some(it));
        // Something else sits where it was.
        same.then_some(()).ok_or(Trouble::Absent)?;
    }
    if device.is_hub {
        return Err(Trouble::Refused(
            "it is a hub: PVUSB carries no hubs; lend the devices behind it".to_owned(),
        ));
    }
    Ok(())
}

fn configure(handle: &Handle, from: &Chosen, to: &Chosen) -> Result<(), Failure> {
    if to.value == 0 {
        let mut release = from.interfaces.iter().map(|it| handle.release(*it));
        return release.try_for_each(|it| it.map_err(|it| failure(&it)));
    }
    if from.value != to.value {
        // The kernel chooses another configuration only while nobody has an interface of this one.
        for interface in &from.interfaces {
            handle.disconnect_claim(*interface).map_err(|it| failure(&it))?;
            handle.release(*interface).map_err(|it| failure(&it))?;
        }
        handle.set_configuration(to.value).map_err(|it| failure(&it))?;
    }
    take(handle, to)
}

fn take(handle: &Handle, chosen: &Chosen) -> Result<(), Failure> {
    chosen
        .interfaces
        .iter()
        .try_for_each(|it| handle.disconnect_claim(*it).map_err(|it| failure(&it)))
}

/// The kernel takes the interfaces away while it resets a device, and gives them to their drivers.
fn reset(handle: &Handle, taken: &Chosen) -> Result<(), Failure> {
    handle.reset().map_err(|it| failure(&it))?;
    take(handle, taken)
}

fn give_back(usb: &UsbFs, from: &Chosen, original: &Chosen) {
    if from.value != original.value && original.value > 0 {
        for interface in &from.interfaces {
            let _ = usb.release(*interface);
        }
        if let Err(error) = usb.set_configuration(original.value) {
            debug!("a device stays in the configuration that the guest chose: {error}");
        }
    }
    let interfaces = if original.value > 0 { original } else { from };
    for interface in &interfaces.interfaces {
        match usb.connect(*interface) {
            Ok(_) | Err(CallError::Gone { .. }) => {}
            Err(error) => {
                warn!("interface {interface} of a device stays without a driver: {error}");
            }
        }
    }
}

fn failure(error: &CallError) -> Failure {
    debug!("{error}");
    match error {
        CallError::Gone { .. } => Failure::Gone,
        CallError::Stalled { .. } => Failure::Stalled,
        _ => Failure::Failed,
    }
}

/// Gives all interfaces of a device that no driver has to their drivers: what a backend that was killed had taken is left like that.
pub fn adopt(lender: &Lender, want: &Want) {
    let Ok(opened) = lender.try_open(want) else { return };
    let active = opened.offer.active();
    for interface in active.interfaces {
        if matches!(opened.usb.driver(interface), Ok(None)) {
            let _ = opened.usb.connect(interface);
        }
    }
}
