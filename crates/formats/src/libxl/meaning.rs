//! From libxl's structures to a spec, and the refusals of libxl that need no more than the text.
//!
//! The controller that QEMU is started with comes first in the spec, with what is on it; then those of the list in its order.

use std::num::NonZeroU8;
use std::ops::Range;

use vusb_model::address::{Index, PortPath};
use vusb_model::device::{Chardev, HostRef, Input, Kind, Other, Redir};
use vusb_model::guest::Virtualization;
use vusb_model::models::{ControllerType, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::resolve::libxl::{QEMUS_OWN, qemus_own};
use vusb_model::selector::{BusAddress, Selector, UsbId};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use super::usb::{Ctrl, CtrlType, Dev, Own, Said, Usb, at};
use crate::config::{Config, Field, Place};
use crate::error::{FormatError, Problem};

/// The highest address that a device can have on a bus (USB 2.0, section 9.4.6).
const MAX_USB_ADDRESS: u8 = 127;
/// The most devices that are redirected over SPICE (`libxl_dm.c`).
const MAX_REDIRECTED: i64 = 4;

/// The configuration that a text says.
///
/// # Errors
/// libxl refuses it.
pub(crate) fn config(usb: Usb, text: &str, origin: &str) -> Result<Config, FormatError> {
    meaning(usb)
        .map(|(mut config, warnings)| {
            config.warnings = warnings
                .into_iter()
                .map(|warning| warning.warning().in_text(text, origin))
                .collect();
            config
        })
        .map_err(|problem| problem.in_text(text, origin))
}

fn meaning(usb: Usb) -> Result<(Config, Vec<Problem>), Problem> {
    let Usb { guest, ctrls, devs, own, mut warnings } = usb;
    let guest_is = guest.virtualization;
    let mut config = Config { guest, ..Config::default() };
    let mut spec = Spec { profile: Profile::Libxl, ..Spec::default() };
    if guest_is == Virtualization::Hvm {
        qemus(&own, &mut spec, &mut config, &mut warnings)?;
    } else {
        passed_over(&own, &mut warnings);
    }
    if let Some(lonely) = devs.iter().find(|dev| dev.ctrl == -1)
        && ctrls.is_empty()
        && guest_is == Virtualization::Hvm
    {
        let what = "no controller is in the list, and for an HVM guest libxl does not really make one: the guest fails to start";
        warnings.push(Problem::new(lonely.place.span.clone(), what).help(
            "say one: usbctrl = [ 'type=devicemodel,version=2' ]; QEMU says: Bus 'xenusb-0.0' not found",
        ));
    }
    let mut next = 0;
    for ctrl in ctrls {
        let index = ctrl.devid.unwrap_or(next);
        spec.controllers.push(controller(&ctrl, index, guest_is)?);
        next = index + 1;
        config.controllers.push(ctrl.place);
    }
    for dev in devs {
        if !dev.typed {
            let what = "without type=hostdev this works when the guest starts, and is lost when it is saved or restarts";
            warnings.push(
                Problem::new(dev.place.span.clone(), what).help(
                    "add type=hostdev: without it libxl's record has neither bus nor address",
                ),
            );
        }
        spec.devices.push(device(&dev)?);
        config.devices.push(dev.place);
    }
    config.spec = spec;
    Ok((config, warnings))
}

/// The controller that QEMU is started with, and what is on it.
fn qemus(
    own: &Own,
    spec: &mut Spec,
    config: &mut Config,
    warnings: &mut Vec<Problem>,
) -> Result<(), Problem> {
    if let Some(count) = own.redirection.as_ref().filter(|count| count.value > 0 && !own.spice) {
        let what = "nothing is redirected, for the guest has no SPICE";
        warnings.push(
            Problem::new(count.span.clone(), what)
                .help("add spice=1; xl says: spice disabled, disabling usbredirection"),
        );
    }
    exclusive(own)?;
    let controller =
        |spec: &mut Spec, config: &mut Config, asked: ControllerSpec, span: &Range<usize>| {
            spec.controllers.push(asked);
            config.controllers.push(place(Field::Model, span));
        };
    let device = |spec: &mut Spec, config: &mut Config, kind: Kind, span: &Range<usize>| {
        let controller = Some(ControllerRef::Index(QEMUS_OWN));
        spec.devices.push(DeviceSpec { controller, ..DeviceSpec::new(kind) });
        config.devices.push(place(Field::What, span));
    };
    if own.is_usb() {
        let on = own.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span);
        let implied =
            own.device.as_ref().map(|it| &it.span).or(own.list.as_ref().map(|it| &it.span));
        if let Some(span) = on.or(implied) {
            controller(spec, config, qemus_own(None), span);
        }
        for said in own.devices() {
            device(spec, config, usbdevice(said)?, &said.span);
        }
        return Ok(());
    }
    let redirected = own.redirected();
    let version = match own.version() {
        Some(said) => Some((version(said)?, &said.span)),
        None => redirected.map(|count| (UsbVersion::V2, &count.span)),
    };
    if let Some((version, span)) = version {
        controller(spec, config, qemus_own(Some(version)), span);
    }
    if let Some(count) = redirected {
        if !(1..=MAX_REDIRECTED).contains(&count.value) {
            let what = format!(
                "{} devices cannot be redirected: it is 0 to {MAX_REDIRECTED}",
                count.value
            );
            return Err(Problem::new(count.span.clone(), what)
                .help("xl says: usbredirection parameter is invalid, it must be between 1 and 4"));
        }
        for _ in 0..count.value {
            device(spec, config, Kind::Redir(Redir { chardev: Chardev::Spicevmc }), &count.span);
        }
    }
    Ok(())
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

/// Keys that are for HVM guests, in one that is none.
fn passed_over(own: &Own, warnings: &mut Vec<Problem>) {
    let spans = [
        own.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span),
        own.version().map(|version| &version.span),
        own.redirected().map(|count| &count.span),
        own.device.as_ref().map(|device| &device.span),
        own.list.as_ref().map(|list| &list.span),
    ];
    for span in spans.into_iter().flatten() {
        let what = "xl passes this over: it is for HVM guests, and this one is PV or PVH";
        warnings.push(
            Problem::new(span.clone(), what).help("a controller of usbctrl serves every guest"),
        );
    }
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
