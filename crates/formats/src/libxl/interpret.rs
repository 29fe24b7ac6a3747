//! Converts libxl's structures to a spec, and rejects what libxl rejects on the text alone.
//!
//! QEMU's boot controller comes first in the spec, followed by its devices; then come the
//! controllers of the list, in order.

use std::num::NonZeroU8;
use std::ops::Range;

use vusb_model::address::{Index, PortPath};
use vusb_model::capabilities::Capabilities;
use vusb_model::device::{Chardev, HostRef, Input, Kind, Other, Redir};
use vusb_model::guest::Virtualization;
use vusb_model::hardware::{Controller, Hardware};
use vusb_model::models::{ControllerType, UsbVersion};
use vusb_model::profile::Profile;
use vusb_model::resolve::libxl::{BOOT_BUS, boot_controller};
use vusb_model::resolve::resolve;
use vusb_model::selector::{BusAddress, Selector, UsbId};
use vusb_model::spec::{ControllerRef, ControllerSpec, DeviceSpec, Spec};

use super::structs::{BootUsb, Ctrl, CtrlType, Dev, Spanned, Usb, span_of};
use crate::config::{Config, Field, ItemSource};
use crate::error::{FormatError, Problem};

/// The highest address that a device can have on a bus (USB 2.0, section 9.4.6).
const MAX_USB_ADDRESS: u8 = 127;
/// The maximum number of devices redirected over SPICE (`libxl_dm.c`).
const MAX_REDIRECTED: i64 = 4;

/// The maximum number of warnings. Each one is rendered with an excerpt of the text, so an absurd
/// file would produce an absurd amount of output.
const MAX_WARNINGS: usize = 32;

/// Converts what was read from `text` to a configuration.
///
/// # Errors
/// libxl rejects it.
pub(crate) fn interpret(usb: Usb, text: &str, origin: &str) -> Result<Config, FormatError> {
    let Interpreter { mut config, warnings } =
        Interpreter::run(usb).map_err(|problem| problem.in_text(text, origin))?;
    let shown = warnings.into_iter().take(MAX_WARNINGS);
    config.warnings = shown.map(|it| it.warning().in_text(text, origin)).collect();
    Ok(config)
}

/// The controllers that libxl adds by itself for the devices of a text, by index. Empty if the
/// devices do not all fit.
pub(crate) fn implied_controllers(usb: Usb) -> Vec<Controller> {
    let Ok(Interpreter { config, .. }) = Interpreter::run(usb) else { return Vec::new() };
    let capabilities = Capabilities { guest: config.guest, ..Capabilities::everything() };
    let Ok(resolved) = resolve(&Hardware::new(), &config.spec, &capabilities) else {
        return Vec::new();
    };
    let added = |it: &&Controller| resolved.added.contains(&it.index);
    resolved.hardware.controllers().filter(added).map(Controller::without_devices).collect()
}

/// Why libxl rejects a configuration, in one line. `None` if it accepts it.
pub(crate) fn refusal(usb: Usb, text: &str) -> Option<String> {
    Interpreter::run(usb).err().map(|problem| one_line(problem, text))
}

/// A problem with its line number, in one line.
pub(crate) fn one_line(problem: Problem, text: &str) -> String {
    let error = problem.in_text(text, "");
    let shown = error.to_string();
    let what = shown.lines().next().unwrap_or_default().trim_start_matches("error: ");
    format!("line {}: {what}", error.line())
}

/// The configuration under construction.
#[derive(Default)]
struct Interpreter {
    config: Config,
    warnings: Vec<Problem>,
}

impl Interpreter {
    fn run(usb: Usb) -> Result<Interpreter, Problem> {
        let Usb { guest, ctrls, devs, boot, warnings, .. } = usb;
        let virtualization = guest.virtualization;
        let spec = Spec { profile: Profile::Libxl, ..Spec::default() };
        let config = Config { guest, spec, ..Config::default() };
        let mut interpreter = Interpreter { config, warnings };
        if virtualization == Virtualization::Hvm {
            interpreter.boot(&boot)?;
            interpreter.warn_missing_controller(&ctrls, &devs);
        } else {
            interpreter.warn_ignored_keys(&boot);
        }
        let mut next = 0;
        for ctrl in ctrls {
            let index = ctrl.devid.unwrap_or(next);
            interpreter.controller(controller(&ctrl, index, virtualization)?, ctrl.source);
            next = index.saturating_add(1);
        }
        for dev in devs {
            if !dev.has_type {
                interpreter.warn(
                    &dev.source.span,
                    "without type=hostdev the device is attached when the guest starts, and lost when the guest is saved or restarts",
                    "add type=hostdev: without it libxl records neither bus nor address",
                );
            }
            interpreter.device(device(&dev)?, dev.source);
        }
        Ok(interpreter)
    }

    fn controller(&mut self, requested: ControllerSpec, source: ItemSource) {
        self.config.spec.controllers.push(requested);
        self.config.controllers.push(source);
    }

    fn device(&mut self, requested: DeviceSpec, source: ItemSource) {
        self.config.spec.devices.push(requested);
        self.config.devices.push(source);
    }

    fn warn(&mut self, span: &Range<usize>, what: &str, help: &str) {
        self.warnings.push(Problem::new(span.clone(), what).help(help));
    }

    /// Adds QEMU's boot controller and its devices.
    fn boot(&mut self, boot: &BootUsb) -> Result<(), Problem> {
        let unused = |count: &&Spanned<i64>| count.value > 0 && !boot.spice;
        if let Some(count) = boot.redirection.as_ref().filter(unused) {
            self.warn(
                &count.span,
                "nothing is redirected because the guest has no SPICE",
                "add spice=1; xl says: spice disabled, disabling usbredirection",
            );
        }
        check_exclusive(boot)?;
        if boot.is_usb() { self.boot_of_usb(boot) } else { self.boot_of_version(boot) }
    }

    /// Adds the controller of `usb`, with the devices of `usbdevice`.
    fn boot_of_usb(&mut self, boot: &BootUsb) -> Result<(), Problem> {
        let usb = boot.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span);
        let text = boot.device.as_ref().map(|device| &device.span);
        let list = boot.list.as_ref().map(|list| &list.span);
        if let Some(span) = usb.or(text).or(list) {
            self.controller(boot_controller(None), source(Field::Model, span));
        }
        for value in boot.devices() {
            self.device(on_boot(usbdevice_kind(value)?), source(Field::What, &value.span));
        }
        Ok(())
    }

    /// Adds the controller of `usbversion`, with the redirected devices.
    fn boot_of_version(&mut self, boot: &BootUsb) -> Result<(), Problem> {
        let redirected = boot.redirected();
        let version = match boot.version() {
            Some(value) => Some((version(value)?, &value.span)),
            None => redirected.map(|count| (UsbVersion::V2, &count.span)),
        };
        if let Some((version, span)) = version {
            self.controller(boot_controller(Some(version)), source(Field::Model, span));
        }
        let Some(Spanned { value, span }) = redirected else { return Ok(()) };
        if !(1..=MAX_REDIRECTED).contains(value) {
            let what =
                format!("cannot redirect {value} devices: the range is 0 to {MAX_REDIRECTED}");
            return Err(Problem::new(span.clone(), what)
                .help("xl says: usbredirection parameter is invalid, it must be between 1 and 4"));
        }
        for _ in 0..*value {
            let kind = Kind::Redir(Redir { chardev: Chardev::Spicevmc });
            self.device(on_boot(kind), source(Field::What, span));
        }
        Ok(())
    }

    /// Warns about host devices of an HVM guest that has no controller for them.
    fn warn_missing_controller(&mut self, ctrls: &[Ctrl], devs: &[Dev]) {
        let stranded = devs.iter().find(|dev| dev.ctrl == -1).filter(|_| ctrls.is_empty());
        if let Some(dev) = stranded {
            self.warn(
                &dev.source.span,
                "there is no controller in the list, and libxl's default controller does not work in an HVM guest: the guest fails to start",
                "add one: usbctrl = [ 'type=devicemodel,version=2' ]; QEMU says: Bus 'xenusb-0.0' not found",
            );
        }
    }

    /// Warns about keys that only apply to HVM guests, in a guest of another type.
    fn warn_ignored_keys(&mut self, boot: &BootUsb) {
        let spans = [
            boot.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span),
            boot.version().map(|version| &version.span),
            boot.redirected().map(|count| &count.span),
            boot.device.as_ref().map(|device| &device.span),
            boot.list.as_ref().map(|list| &list.span),
        ];
        for span in spans.into_iter().flatten() {
            self.warn(
                span,
                "xl ignores this: it applies to HVM guests, and this one is PV or PVH",
                "controllers in usbctrl work for every type of guest",
            );
        }
    }
}

/// A device on QEMU's boot controller.
fn on_boot(kind: Kind) -> DeviceSpec {
    DeviceSpec { controller: Some(ControllerRef::Index(BOOT_BUS)), ..DeviceSpec::new(kind) }
}

fn source(field: Field, span: &Range<usize>) -> ItemSource {
    let fields = [(field, span.clone())].into();
    ItemSource { span: span.clone(), fields, ..ItemSource::default() }
}

/// Rejects keys that exclude each other.
fn check_exclusive(boot: &BootUsb) -> Result<(), Problem> {
    let list = boot.list.as_ref().filter(|list| !list.value.is_empty());
    if let (Some(device), Some(list)) = (&boot.device, list) {
        return Err(Problem::new(
            list.span.clone(),
            "USB devices are given both as a string and as a list",
        )
        .other(device.span.clone(), "the string")
        .help("move all of them to the list; xl says: Both usbdevice and usbdevice_list set"));
    }
    let new = boot.version().or(boot.redirected());
    let usb = boot.usb.as_ref().filter(|usb| usb.value).map(|usb| &usb.span);
    let device = boot.device.as_ref().map(|device| &device.span);
    let list = boot.list.as_ref().map(|list| &list.span);
    match (new, usb.or(device).or(list)) {
        (Some(new), Some(old)) => {
            let what = "`usbversion` and `spiceusbredirection` exclude `usb` and `usbdevice`";
            Err(Problem::new(new.span.clone(), what)
            .other(old.clone(), "this requests the controller of `usb`")
                .help(
                    "keep one of the two and remove the other, even an empty list; controllers in usbctrl can be combined with both; xl says: \
                     usbversion and/or usbredirection cannot be enabled with usb and/or usbdevice parameters.",
                ))
        }
        _ => Ok(()),
    }
}

fn version(value: &Spanned<i64>) -> Result<UsbVersion, Problem> {
    let version = u8::try_from(value.value).ok().and_then(|it| UsbVersion::try_from(it).ok());
    version.ok_or_else(|| {
        let what =
            format!("there is no USB version {}: use 1, 2 or 3, or 0 for the default", value.value);
        Problem::new(value.span.clone(), what)
            .help("xl says: usbversion parameter is invalid, must be between 1 and 3")
    })
}

/// The kind of device that a value of `usbdevice` stands for. QEMU makes tablets, mice and
/// keyboards USB 2 devices by default, and libxl does not override that.
fn usbdevice_kind(value: &Spanned<String>) -> Result<Kind, Problem> {
    let input = Input { usbversion: UsbVersion::V2 };
    Ok(match value.value.as_str() {
        "" => {
            return Err(Problem::new(value.span.clone(), "this names no device")
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

/// `VENDOR:PRODUCT` in hexadecimal or `BUS.ADDRESS` in decimal, as in QEMU's `-usbdevice host:`.
/// `None` for anything else, such as wildcards.
fn host(text: &str) -> Option<Selector> {
    if let Some((vendor, product)) = text.split_once(':') {
        let hex = |text: &str| {
            let valid =
                (1..=4).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
            u16::from_str_radix(text, 16).ok().filter(|_| valid)
        };
        let id = UsbId { vendor: hex(vendor)?, product: hex(product)? };
        return Some(Selector::Id { id, serial: None });
    }
    text.parse().ok().filter(|selector| matches!(selector, Selector::Address(_)))
}

fn controller(ctrl: &Ctrl, index: i64, guest: Virtualization) -> Result<ControllerSpec, Problem> {
    let source = &ctrl.source;
    let problem = |field, what: String| Problem::new(span_of(source, field), what);
    let is_pv = match ctrl.ctrl_type {
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
            let what = format!("a pv controller cannot have version {other}: use 1 or 2");
            return Err(problem(Field::Model, what)
                .help("xl says: USB version for paravirtualized devices must be 1 or 2"));
        }
        (other, false) => {
            let what = format!("there is no USB version {other}: use 1, 2 or 3");
            return Err(problem(Field::Model, what).help("xl says: Illegal USB version"));
        }
    };
    let (allowed, rule) = match (is_pv, version) {
        (true, _) => (1..=31, "is limited to 31"),
        (false, Some(UsbVersion::V1)) => (2..=2, "of version 1 is always 2"),
        (false, Some(UsbVersion::V3)) => (1..=15, "of version 3 is limited to 15"),
        (false, _) => (6..=6, "of version 2 is always 6"),
    };
    let ports = match ctrl.ports {
        0 => None,
        ports => Some(
            u8::try_from(ports).ok().filter(|ports| allowed.contains(ports)).ok_or_else(|| {
                let allowed = match (allowed.start(), allowed.end()) {
                    (one, same) if one == same => format!("exactly {one}"),
                    (least, most) => format!("{least} to {most}"),
                };
                let what = format!("this controller cannot have {ports} ports: it has {allowed}");
                problem(Field::Ports, what)
                    .help(format!("xl says: Number of ports for USB controller {rule}"))
            })?,
        ),
    };
    let index = u16::try_from(index).ok().and_then(Index::new).filter(|index| *index != BOOT_BUS);
    let index = index
        .ok_or_else(|| problem(Field::Index, "a controller's number is 0 to 4094".to_owned()))?;
    let controller_type = match ctrl.ctrl_type {
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
    let problem = |field, what: String| Problem::new(span_of(&dev.source, field), what);
    if dev.hostbus == 0 || !(1..=MAX_USB_ADDRESS).contains(&dev.hostaddr) {
        let what = format!("there is no device at bus {}, address {}", dev.hostbus, dev.hostaddr);
        let problem = problem(Field::What, what);
        let problem = match &dev.doubt {
            Some(doubt) => problem.label(doubt),
            None => problem,
        };
        return Err(problem.help(
            "hostbus is 1 to 255 and hostaddr is 1 to 127, both in decimal without leading zeros, as `lsusb` prints them; xl says: USB device \
             is not assignable.",
        ));
    }
    if dev.port != 0 && dev.ctrl == -1 {
        return Err(problem(Field::Port, "this port needs a controller".to_owned()).help(
            "add controller=0, or another controller's number; xl says: USB controller must be specified if you specify port",
        ));
    }
    let controller = match dev.ctrl {
        -1 => None,
        number => {
            let index = u16::try_from(number).ok().and_then(Index::new);
            Some(index.filter(|index| *index != BOOT_BUS).ok_or_else(|| {
                let what = format!("there is no controller {number}: the numbers are 0 to 4094");
                problem(Field::Controller, what)
            })?)
        }
    };
    let port = match dev.port {
        0 => None,
        number => {
            let port = u8::try_from(number).ok().and_then(NonZeroU8::new);
            Some(port.ok_or_else(|| {
                let what = format!(
                    "there is no port {number}: a controller has up to 31 ports, counted from 1"
                );
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
