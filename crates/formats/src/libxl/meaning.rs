//! From libxl's structures to a spec, and the refusals of libxl that need no more than the text.
//!
//! The controller that QEMU is started with comes first in the spec, with what is on it; then those of the list in its order.

use std::num::NonZeroU8;
use std::ops::Range;

use vusb_model::address::{Index, PortPath};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{Chardev, HostRef, Input, Kind, Other, Redir};
use vusb_model::guest::Virtualization;
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::models::{ControllerType, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::resolve::libxl::{QEMUS_OWN, qemus_own};
use vusb_model::resolve::resolve;
use vusb_model::selector::{BusAddress, Selector, UsbId};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use super::usb::{Ctrl, CtrlType, Dev, Own, Said, Usb, at};
use crate::config::{Config, Field, Place};
use crate::error::{FormatError, Problem};

/// The highest address that a device can have on a bus (USB 2.0, section 9.4.6).
const MAX_USB_ADDRESS: u8 = 127;
/// The most devices that are redirected over SPICE (`libxl_dm.c`).
const MAX_REDIRECTED: i64 = 4;

/// The most warnings that are given: each is shown with its place, and who has more has another problem.
const MOST_WARNINGS: usize = 32;

/// The configuration that a text says.
///
/// # Errors
/// libxl refuses it.
pub(crate) fn config(usb: Usb, text: &str, origin: &str) -> Result<Config, FormatError> {
    let Meaning { mut config, warnings } =
        Meaning::of(usb).map_err(|problem| problem.in_text(text, origin))?;
    let shown = warnings.into_iter().take(MOST_WARNINGS);
    config.warnings = shown.map(|it| it.warning().in_text(text, origin)).collect();
    Ok(config)
}

/// The controllers that libxl adds by itself for the devices of a text, by index. None if it cannot have them all.
pub(crate) fn implied(usb: Usb) -> Vec<Controller> {
    let Ok(Meaning { config, .. }) = Meaning::of(usb) else { return Vec::new() };
    let capabilities = Capabilities { guest: config.guest, ..Capabilities::everything() };
    let Ok(resolved) = resolve(&Hardware::new(), &config.spec, &capabilities) else {
        return Vec::new();
    };
    let added = |it: &&Controller| resolved.added.contains(&it.index);
    resolved.hardware.controllers().filter(added).map(Controller::bare).collect()
}

/// In a line, why libxl refuses what a text says.
pub(crate) fn refused(usb: Usb, text: &str) -> Option<String> {
    Meaning::of(usb).err().map(|problem| in_a_line(problem, text))
}

/// A problem in a line: where, and what.
pub(crate) fn in_a_line(problem: Problem, text: &str) -> String {
    let error = problem.in_text(text, "");
    let shown = error.to_string();
    let what = shown.lines().next().unwrap_or_default().trim_start_matches("error: ");
    format!("line {}: {what}", error.line())
}

/// What was made of a text so far.
#[derive(Default)]
struct Meaning {
    config: Config,
    warnings: Vec<Problem>,
}

impl Meaning {
    fn of(usb: Usb) -> Result<Meaning, Problem> {
        let Usb { guest, ctrls, devs, own, warnings } = usb;
        let is = guest.virtualization;
        let spec = Spec { profile: Profile::Libxl, ..Spec::default() };
        let config = Config { guest, spec, ..Config::default() };
        let mut meaning = Meaning { config, warnings };
        if is == Virtualization::Hvm {
            meaning.own(&own)?;
            meaning.without_controller(&ctrls, &devs);
        } else {
            meaning.passed_over(&own);
        }
        let mut next = 0;
        for ctrl in ctrls {
            let index = ctrl.devid.unwrap_or(next);
            meaning.controller(controller(&ctrl, index, is)?, ctrl.place);
            next = index.saturating_add(1);
        }
        for dev in devs {
            if !dev.typed {
                meaning.warn(
                    &dev.place.span,
                    "without type=hostdev this works when the guest starts, and is lost when it is saved or restarts",
                    "add type=hostdev: without it libxl's record has neither bus nor address",
                );
            }
            meaning.device(device(&dev)?, dev.place);
        }
        Ok(meaning)
    }

    fn controller(&mut self, asked: ControllerSpec, place: Place) {
        self.config.spec.controllers.push(asked);
        self.config.controllers.push(place);
    }

    fn device(&mut self, asked: DeviceSpec, place: Place) {
        self.config.spec.devices.push(asked);
        self.config.devices.push(place);
    }

    fn warn(&mut self, span: &Range<usize>, what: &str, help: &str) {
        self.warnings.push(Problem::new(span.clone(), what).help(help));
    }

    /// The controller that QEMU is started with, and what is on it.
    fn own(&mut self, own: &Own) -> Result<(), Problem> {
        let in_vain = |count: &&Said<i64>| count.value > 0 && !own.spice;
        if let Some(count) = own.redirection.as_ref().filter(in_vain) {
            self.warn(
                &count.span,
                "nothing is redirected, for the guest has no SPICE",
                "add spice=1; xl says: spice disabled, disabling usbredirection",
            );
        }
        exclusive(own)?;
        if own.is_usb() { self.own_of_usb(own) } else { self.own_of_version(own) }
    }

    /// The controller of `usb`, with what `usbdevice` names.
    fn own_of_usb(&mut self, own: &Own) -> Result<(), Problem> {
        let said = own.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span);
        let text = own.device.as_ref().map(|device| &device.span);
        let list = own.list.as_ref().map(|list| &list.span);
        if let Some(span) = said.or(text).or(list) {
            self.controller(qemus_own(None), place(Field::Model, span));
        }
        for said in own.devices() {
            self.device(on_own(usbdevice(said)?), place(Field::What, &said.span));
        }
        Ok(())
    }

    /// The controller of `usbversion`, with what is redirected.
    fn own_of_version(&mut self, own: &Own) -> Result<(), Problem> {
        let redirected = own.redirected();
        let version = match own.version() {
            Some(said) => Some((version(said)?, &said.span)),
            None => redirected.map(|count| (UsbVersion::V2, &count.span)),
        };
        if let Some((version, span)) = version {
            self.controller(qemus_own(Some(version)), place(Field::Model, span));
        }
        let Some(Said { value, span }) = redirected else { return Ok(()) };
        if !(1..=MAX_REDIRECTED).contains(value) {
            let what = format!("{value} devices cannot be redirected: it is 0 to {MAX_REDIRECTED}");
            return Err(Problem::new(span.clone(), what)
                .help("xl says: usbredirection parameter is invalid, it must be between 1 and 4"));
        }
        for _ in 0..*value {
            let kind = Kind::Redir(Redir { chardev: Chardev::Spicevmc });
            self.device(on_own(kind), place(Field::What, span));
        }
        Ok(())
    }

    /// Host devices of an HVM guest that is given no controller for them.
    fn without_controller(&mut self, ctrls: &[Ctrl], devs: &[Dev]) {
        let lonely = devs.iter().find(|dev| dev.ctrl == -1).filter(|_| ctrls.is_empty());
        if let Some(dev) = lonely {
            self.warn(
                &dev.place.span,
                "no controller is in the list, and for an HVM guest libxl does not really make one: the guest fails to start",
                "say one: usbctrl = [ 'type=devicemodel,version=2' ]; QEMU says: Bus 'xenusb-0.0' not found",
            );
        }
    }

    /// Keys that are for HVM guests, in one that is none.
    fn passed_over(&mut self, own: &Own) {
        let spans = [
            own.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span),
            own.version().map(|version| &version.span),
            own.redirected().map(|count| &count.span),
            own.device.as_ref().map(|device| &device.span),
            own.list.as_ref().map(|list| &list.span),
        ];
        for span in spans.into_iter().flatten() {
            self.warn(
                span,
                "xl passes this over: it is for HVM guests, and this one is PV or PVH",
                "a controller of usbctrl serves every guest",
            );
        }
    }
}

/// A device on the controller that QEMU is started with.
fn on_own(kind: Kind) -> DeviceSpec {
    DeviceSpec { controller: Some(ControllerRef::Index(QEMUS_OWN)), ..DeviceSpec::new(kind) }
}

fn place(field: Field, span: &Range<usize>) -> Place {
    let fields = [(field, span.clone())].into();
    Place { span: span.clone(), fields, ..Place::default() }
}

/// What cannot be said together.
fn exclusive(own: &Own) -> Result<(), Problem> {
    if let (Some(device), Some(list)) = (&own.device, &own.list)
        && !list.value.is_empty()
    {
        return Err(Problem::new(
            list.span.clone(),
            "USB devices are said as a text and as a list",
        )
        .other(device.span.clone(), "here as a text")
        .help("put them all into the list; xl says: Both usbdevice and usbdevice_list set"));
    }
    let new = own.version().or(own.redirected());
    let usb = own.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span);
    let device = own.device.as_ref().map(|device| &device.span);
    let list = own.list.as_ref().map(|list| &list.span);
    match (new, usb.or(device).or(list)) {
        (Some(new), Some(old)) => {
            let what = "`usbversion` and `spiceusbredirection` exclude `usb` and `usbdevice`";
            Err(Problem::new(new.span.clone(), what)
                .other(old.clone(), "QEMU's own controller is asked for here")
                .help(
                    "keep one of the two, and take the other out, an empty list too; a controller of usbctrl goes with both; xl says: \
                     usbversion and/or usbredirection cannot be enabled with usb and/or usbdevice parameters.",
                ))
        }
        _ => Ok(()),
    }
}

fn version(said: &Said<i64>) -> Result<UsbVersion, Problem> {
    let version = u8::try_from(said.value).ok().and_then(|it| UsbVersion::try_from(it).ok());
    version.ok_or_else(|| {
        let what =
            format!("there is no USB version {}: it is 1, 2 or 3, or 0 for none", said.value);
        Problem::new(said.span.clone(), what)
            .help("xl says: usbversion parameter is invalid, must be between 1 and 3")
    })
}

/// What `usbdevice` names. QEMU makes tablets, mice and keyboards USB 2 devices unless told otherwise, and libxl does not tell.
fn usbdevice(said: &Said<String>) -> Result<Kind, Problem> {
    let input = Input { usbversion: UsbVersion::V2 };
    Ok(match said.value.as_str() {
        "" => {
            return Err(Problem::new(said.span.clone(), "this names no device")
                .help("write tablet, mouse, keyboard, or host:VENDOR:PRODUCT"));
        }
        "tablet" => Kind::Tablet(input),
        "mouse" => Kind::Mouse(input),
        "keyboard" => Kind::Keyboard(input),
        other => match other.strip_prefix("host:").and_then(host) {
            Some(selector) => Kind::Host(HostRef::new(selector)),
            None => Kind::Other(Other { driver: other.to_owned() }),
        },
    })
}

/// `VENDOR:PRODUCT` in hexadecimal, or `BUS.ADDRESS` in decimal, as QEMU's `-usbdevice host:` has them. Anything with wildcards is none.
fn host(text: &str) -> Option<Selector> {
    if let Some((vendor, product)) = text.split_once(':') {
        let hex = |text: &str| {
            let good =
                (1..=4).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
            u16::from_str_radix(text, 16).ok().filter(|_| good)
        };
        let id = UsbId { vendor: hex(vendor)?, product: hex(product)? };
        return Some(Selector::Id { id, serial: None });
    }
    text.parse().ok().filter(|selector| matches!(selector, Selector::Address(_)))
}

fn controller(ctrl: &Ctrl, index: i64, guest: Virtualization) -> Result<ControllerSpec, Problem> {
    let place = &ctrl.place;
    let problem = |field, what: String| Problem::new(at(place, field), what);
    let is_pv = match ctrl.kind {
        CtrlType::Auto => guest != Virtualization::Hvm,
        CtrlType::Pv | CtrlType::Qusb => true,
        CtrlType::Devicemodel => false,
    };
    let version = match (ctrl.version, is_pv) {
        (0, _) => None,
        (1, _) => Some(UsbVersion::V1),
        (2, _) => Some(UsbVersion::V2),
        (3, false) => Some(UsbVersion::V3),
        (other, true) => {
            let what = format!("a pv controller cannot have version {other}: it is 1 or 2");
            return Err(problem(Field::Model, what)
                .help("xl says: USB version for paravirtualized devices must be 1 or 2"));
        }
        (other, false) => {
            let what = format!("there is no USB version {other}: it is 1, 2 or 3");
            return Err(problem(Field::Model, what).help("xl says: Illegal USB version"));
        }
    };
    let (can, says) = match (is_pv, version) {
        (true, _) => (1..=31, "is limited to 31"),
        (false, Some(UsbVersion::V1)) => (2..=2, "of version 1 is always 2"),
        (false, Some(UsbVersion::V3)) => (1..=15, "of version 3 is limited to 15"),
        (false, _) => (6..=6, "of version 2 is always 6"),
    };
    let ports = match ctrl.ports {
        0 => None,
        ports => {
            Some(u8::try_from(ports).ok().filter(|ports| can.contains(ports)).ok_or_else(|| {
                let allowed = match (can.start(), can.end()) {
                    (one, same) if one == same => format!("exactly {one}"),
                    (least, most) => format!("{least} to {most}"),
                };
                let what = format!("this controller cannot have {ports} ports: it has {allowed}");
                problem(Field::Ports, what)
                    .help(format!("xl says: Number of ports for USB controller {says}"))
            })?)
        }
    };
    let index = u16::try_from(index).ok().and_then(Index::new).filter(|index| *index != QEMUS_OWN);
    let index = index
        .ok_or_else(|| problem(Field::Index, "a controller's number is 0 to 4094".to_owned()))?;
    let controller_type = match ctrl.kind {
        CtrlType::Auto => None,
        _ if is_pv => Some(ControllerType::Pv),
        _ => Some(ControllerType::Emulated),
    };
    Ok(ControllerSpec {
        index: Some(index),
        controller_type,
        usbversion: version,
        ports,
        backend: ctrl.backend.clone(),
        ..ControllerSpec::default()
    })
}

fn device(dev: &Dev) -> Result<DeviceSpec, Problem> {
    let problem = |field, what: String| Problem::new(at(&dev.place, field), what);
    if dev.hostbus == 0 || !(1..=MAX_USB_ADDRESS).contains(&dev.hostaddr) {
        let what = format!("no device is at bus {}, address {}", dev.hostbus, dev.hostaddr);
        let problem = problem(Field::What, what);
        let problem = match &dev.doubt {
            Some(doubt) => problem.label(doubt),
            None => problem,
        };
        return Err(problem.help(
            "hostbus is 1 to 255 and hostaddr 1 to 127, both in decimal without zeros in front, as `lsusb` numbers them; xl says: USB device \
             is not assignable.",
        ));
    }
    if dev.port != 0 && dev.ctrl == -1 {
        return Err(problem(Field::Port, "this port is of no controller".to_owned()).help(
            "add controller=0, or the number of another; xl says: USB controller must be specified if you specify port",
        ));
    }
    let controller = match dev.ctrl {
        -1 => None,
        number => {
            let index = u16::try_from(number).ok().and_then(Index::new);
            Some(index.filter(|index| *index != QEMUS_OWN).ok_or_else(|| {
                let what =
                    format!("there is no controller {number}: they are numbered from 0 to 4094");
                problem(Field::Controller, what)
            })?)
        }
    };
    let port = match dev.port {
        0 => None,
        number => {
            let port = u8::try_from(number).ok().and_then(NonZeroU8::new);
            Some(port.ok_or_else(|| {
                let what =
                    format!("there is no port {number}: a controller has 1 to 31, counted from 1");
                problem(Field::Port, what)
            })?)
        }
    };
    let at = BusAddress { bus: u16::from(dev.hostbus), address: dev.hostaddr };
    Ok(DeviceSpec {
        controller: controller.map(ControllerRef::Index),
        port: port.map(PortPath::root),
        ..DeviceSpec::new(Kind::Host(HostRef::new(Selector::Address(at))))
    })
}
