//! Parses QEMU's device tree, as `info qtree` prints it.
//!
//! If QEMU chose the port of a device, only this text contains it (`usb_bus_dev_print` in QEMU's
//! `hw/usb/bus.c`); QMP has no query for it. Each line is a bus, a device or a property. Whatever
//! belongs to a bus or device is indented by two more spaces:
//!
//! ```text
//! bus: main-system-bus
//!   type System
//!   dev: i440FX-pcihost, id ""
//!     bus: pci.0
//!       type PCI
//!       dev: qemu-xhci, id "usb"
//!         addr = 04.0
//!         bus: usb.0
//!           type usb-bus
//!           dev: usb-tablet, id "input0"
//!             usb_version = 2 (0x2)
//!             addr 0.1, port 1, speed 480, name QEMU USB Tablet, attached
//! ```
//!
//! Lines of other forms are ignored: QEMU prints more than is needed here, and new versions add
//! more. The newest device is listed first.
//!
//! The text contains the product strings of host devices. QEMU prints a line break in one as it is,
//! so the rest of the string can imitate lines, and hide the devices after it. Two rules limit
//! that:
//!
//! * A product string has at most [`MAX_PRODUCT`] bytes, and the line of an attached device ends in
//!   `, attached`. Therefore the end of its string is known, whatever it contains.
//! * QEMU prints the string last among what belongs to a device, so nothing after it describes the
//!   device.
//!
//! If the device is not attached, the end of its string is not known. Therefore
//! [`confirm`](super::confirm) compares the tree with QEMU's object model.

use vusb_model::address::PortPath;

/// The maximum depth of the tree. Real ones are about ten levels deep; each bridge behind a bridge
/// adds two.
const MAX_DEPTH: usize = 200;

/// The maximum length of a product string, in bytes: `product_desc` in QEMU's `USBDevice`
/// (`include/hw/usb.h`) has 32 with the final zero.
pub(super) const MAX_PRODUCT: usize = 31;

/// What ends the line of a USB device that is attached.
const ATTACHED: &str = ", attached";

/// A bus, with the devices on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bus {
    pub(super) name: String,
    /// `PCI`, `PCIE`, `usb-bus`, ...
    pub(super) kind: String,
    pub(super) devices: Vec<Dev>,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dev {
    pub(super) driver: String,
    /// Empty if the device has none.
    pub(super) id: String,
    pub(super) properties: Vec<(String, String)>,
    /// Only for a USB device.
    pub(super) usb: Option<Usb>,
    pub(super) buses: Vec<Bus>,
}

/// The state of a USB device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usb {
    /// The port path, or its text if it has more levels than a [`PortPath`] can have: QEMU's limit
    /// is one level higher.
    pub(super) port: Result<PortPath, String>,
    pub(super) attached: bool,
}

impl Dev {
    /// The value of a property. A string is without its quotes.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        let (_, value) = self.properties.iter().find(|(key, _)| key == name)?;
        Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    }

    /// The value of a numeric property, which is printed as `2 (0x2)`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.property(name)?.split_whitespace().next()?.parse().ok()
    }

    /// Slot and function of a PCI device, from its property `addr = 1d.7`.
    pub(super) fn pci_address(&self) -> Option<(u8, u8)> {
        let (slot, function) = self.property("addr")?.split_once('.')?;
        let slot = u8::from_str_radix(slot, 16).ok().filter(|slot| *slot < 32)?;
        let function = u8::from_str_radix(function, 16).ok().filter(|function| *function < 8)?;
        Some((slot, function))
    }
}

/// A classified line.
enum Line<'a> {
    Bus(&'a str),
    Type(&'a str),
    Dev { driver: &'a str, id: &'a str },
    Property(&'a str, &'a str),
    Usb(Usb),
    Other,
}

/// A bus or device whose indented lines are being read.
enum Open {
    Bus(Bus),
    Dev(Dev),
}

/// Whether the product strings of this driver's devices come from outside QEMU.
pub(super) fn has_untrusted_product(driver: &str) -> bool {
    matches!(driver, "usb-host" | "usb-redir")
}

/// Parses the tree. `None` if the text does not begin with a bus, or is nested more deeply than
/// [`MAX_DEPTH`].
pub(super) fn parse(text: &str) -> Option<Bus> {
    // QEMU's monitor puts a carriage return before each line feed, those in a product string
    // included (`monitor_puts`). Without them, the lengths of strings are right.
    let text = text.replace("\r\n", "\n");
    let mut open: Vec<(usize, Open)> = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let untrusted = open.last().is_some_and(|(_, open)| expects_untrusted_product(open));
        let (line, after) = split_line(rest, untrusted);
        rest = after;
        let body = line.trim_start_matches(' ');
        let indent = line.len() - body.len();
        let line = classify(body);
        if let Line::Bus(_) | Line::Dev { .. } = line {
            while open.len() > 1 && open.last().is_some_and(|(depth, _)| *depth >= indent) {
                close(&mut open);
            }
        }
        match (line, open.last_mut()) {
            // There is only one bus at the top.
            (Line::Bus(name), top) if top.is_none() || indent > 0 => {
                open.push((indent, Open::Bus(Bus { name: name.to_owned(), ..Bus::default() })));
            }
            (Line::Dev { driver, id }, Some(_)) if indent > 0 => {
                let dev = Dev { driver: driver.to_owned(), id: id.to_owned(), ..Dev::default() };
                open.push((indent, Open::Dev(dev)));
            }
            (Line::Type(kind), Some((_, Open::Bus(bus)))) if bus.kind.is_empty() => {
                kind.clone_into(&mut bus.kind);
            }
            (Line::Property(key, value), Some((_, Open::Dev(dev)))) if dev.usb.is_none() => {
                dev.properties.push((key.to_owned(), value.to_owned()));
            }
            (Line::Usb(usb), Some((_, Open::Dev(dev)))) if dev.usb.is_none() => {
                dev.usb = Some(usb);
            }
            _ => {}
        }
        if open.len() > MAX_DEPTH {
            return None;
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    match open.pop() {
        Some((_, Open::Bus(bus))) => Some(bus),
        _ => None,
    }
}

/// Whether the next USB line ends in a product string from outside QEMU.
fn expects_untrusted_product(open: &Open) -> bool {
    matches!(open, Open::Dev(dev) if dev.usb.is_none() && has_untrusted_product(&dev.driver))
}

/// The first line of the text, and what follows it. If its product string is `untrusted`, the line
/// may contain line breaks.
fn split_line(text: &str, untrusted: bool) -> (&str, &str) {
    let end = text.find('\n').unwrap_or(text.len());
    let end = if untrusted { attached_end(text, end).unwrap_or(end) } else { end };
    let (line, after) = text.split_at_checked(end).unwrap_or((text, ""));
    (line, after.strip_prefix('\n').unwrap_or(after))
}

/// The end of the line of an attached device whose product string begins in the first `length`
/// bytes of the text. `None` if it is not the line of a USB device, or not of an attached one.
///
/// It is the last `, attached` that is near enough to follow the string. That of the next device is
/// too far away, because the text before it is longer than the longest string.
fn attached_end(text: &str, length: usize) -> Option<usize> {
    const NAME: &str = ", name ";
    let first = text.get(..length)?;
    usb_line(first.trim_start_matches(' ').strip_prefix("addr ")?)?;
    let product = first.find(NAME)? + NAME.len();
    let ends = |at: &usize| {
        text.get(*at..).is_some_and(|rest| {
            rest.strip_prefix(ATTACHED)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('\n'))
        })
    };
    let at = (product..=product + MAX_PRODUCT).rev().find(ends)?;
    Some(at + ATTACHED.len())
}

/// Closes the innermost bus or device and adds it to its parent. A bus on a bus or a device on a
/// device is dropped.
fn close(open: &mut Vec<(usize, Open)>) {
    let Some((_, done)) = open.pop() else { return };
    match (done, open.last_mut().map(|(_, parent)| parent)) {
        (Open::Bus(bus), Some(Open::Dev(dev))) => dev.buses.push(bus),
        (Open::Dev(dev), Some(Open::Bus(bus))) => bus.devices.push(dev),
        _ => {}
    }
}

fn classify(body: &str) -> Line<'_> {
    if let Some(name) = body.strip_prefix("bus: ") {
        return Line::Bus(name);
    }
    if let Some(rest) = body.strip_prefix("dev: ") {
        let id = rest
            .split_once(", id \"")
            .and_then(|(driver, id)| Some((driver, id.strip_suffix('"')?)));
        return id.map_or(Line::Other, |(driver, id)| Line::Dev { driver, id });
    }
    if let Some(usb) = body.strip_prefix("addr ").and_then(usb_line) {
        return Line::Usb(usb);
    }
    if let Some((key, value)) = body.split_once(" = ") {
        return Line::Property(key, value);
    }
    body.strip_prefix("type ").map_or(Line::Other, Line::Type)
}

/// Parses the rest of `addr 0.1, port 1, speed 480, name QEMU USB Tablet, attached`, after the
/// first word.
fn usb_line(rest: &str) -> Option<Usb> {
    let (_, rest) = rest.split_once(", port ")?;
    let (port, rest) = rest.split_once(", speed ")?;
    let port = port.parse().map_err(|_| port.chars().take(40).collect());
    Some(Usb { port, attached: rest.ends_with(ATTACHED) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TREE: &str = "\
bus: main-system-bus
  type System
  dev: hpet, id \"\"
    gpio-in \"\" 2
    timers = 3 (0x3)
  dev: i440FX-pcihost, id \"\"
    bus: pci.0
      type PCI
      dev: qemu-xhci, id \"usb\"
        addr = 04.0
        romfile = \"\"
        class USB controller, addr 00:04.0, pci id 1b36:000d (sub 1af4:1100)
        bus: usb.0
          type usb-bus
          dev: usb-kbd, id \"\"
            usb_version = 2 (0x2)
            addr 0.0, port 1.2.3.4.5, speed 12, name QEMU USB Keyboard
          dev: usb-storage, id \"disk\"
            port = \"3\"
            addr 0.1, port 3, speed 5000, name QEMU USB MSD, attached
            bus: disk.0
              type SCSI
              dev: scsi-hd, id \"\"
                drive = \"node0\"
      dev: PIIX3, id \"\"
        addr = 01.0
  dev: kvmvapic, id \"\"
";

    #[test]
    fn a_tree_is_parsed_as_qemu_prints_it() {
        let root = parse(TREE).unwrap();
        assert_eq!((root.name.as_str(), root.kind.as_str()), ("main-system-bus", "System"));
        let drivers: Vec<&str> = root.devices.iter().map(|dev| dev.driver.as_str()).collect();
        assert_eq!(drivers, ["hpet", "i440FX-pcihost", "kvmvapic"]);
        let pci = &root.devices[1].buses[0];
        assert_eq!(pci.devices[0].pci_address(), Some((4, 0)));
        let usb = &pci.devices[0].buses[0];
        assert_eq!((usb.name.as_str(), usb.kind.as_str()), ("usb.0", "usb-bus"));
        let keyboard = &usb.devices[0];
        assert_eq!(keyboard.number("usb_version"), Some(2));
        assert_eq!(keyboard.usb, Some(Usb { port: Err("1.2.3.4.5".to_owned()), attached: false }));
        let storage = &usb.devices[1];
        assert_eq!(storage.property("port"), Some("3"));
        assert_eq!(storage.usb, Some(Usb { port: Ok("3".parse().unwrap()), attached: true }));
        assert_eq!(storage.buses[0].devices[0].property("drive"), Some("node0"));
    }

    /// A misplaced line is ignored, and does not close a bus or device.
    #[test]
    fn misplaced_lines_are_ignored() {
        let text = "\
bus: main-system-bus
  type System
  type other
bus: second
dev: stray, id \"\"
  dev: host, id \"\"
    bus: pci.0
      type PCI
      dev: unfinished
      dev: qemu-xhci, id \"x\"
        addr = 20.0
        addr 0.0, port 1
        name = \"a = b\"
        dev: on-a-device, id \"\"
";
        let root = parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.kind.as_str()), ("main-system-bus", "System"));
        assert_eq!(root.devices.len(), 1);
        let xhci = &root.devices[0].buses[0].devices[0];
        assert_eq!((xhci.driver.as_str(), xhci.id.as_str()), ("qemu-xhci", "x"));
        assert_eq!(xhci.pci_address(), None);
        assert_eq!((&xhci.usb, xhci.property("name")), (&None, Some("a = b")));
        assert_eq!(parse("  dev: x, id \"\"\n"), None);
        assert_eq!(parse(""), None);
    }

    /// A host device with this product string, and an older keyboard.
    fn with_product(product: &str, attached: &str) -> Vec<Dev> {
        let text = format!(
            "\
bus: main-system-bus
  type System
  dev: qemu-xhci, id \"x\"
    bus: x.0
      type usb-bus
      dev: usb-host, id \"stick\"
        hostaddr = 4 (0x4)
        addr 0.1, port 1, speed 480, name {product}{attached}
      dev: usb-kbd, id \"keys\"
        addr 0.2, port 2, speed 12, name QEMU USB Keyboard, attached
"
        );
        // As QEMU's monitor sends it.
        let root = parse(&text.replace('\n', "\r\n")).unwrap();
        root.devices[0].buses[0].devices.clone()
    }

    /// Strings of up to 31 bytes that could end the bus, move the device, or hide the keyboard.
    #[test]
    fn the_product_string_of_an_attached_device_is_not_parsed() {
        for product in [
            "Stick",
            "",
            "x\n  dev: aaaaaaaaaaaaaaa, id \"\"",
            "x\n    bus: b",
            "\n       bus: z\n type usb-bus",
            "\naddr 1, port 9, speed 12, name",
            "x\r\nhostaddr = 9",
            "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
            "x, attached\n  dev: a, id \"\"",
            ", attached\n, attached\n, attach",
        ] {
            assert!(product.len() <= MAX_PRODUCT, "{product:?}");
            let devices = with_product(product, ATTACHED);
            assert_eq!(devices, with_product("Stick", ATTACHED), "{product:?}");
            let ports = devices.iter().map(|dev| dev.usb.clone().unwrap().port.unwrap());
            assert_eq!(ports.map(|port| port.to_string()).collect::<Vec<_>>(), ["1", "2"]);
        }
    }

    /// Lines after the product string do not describe its device.
    #[test]
    fn a_product_string_does_not_describe_its_device() {
        for product in ["\nhostaddr = 9", "\naddr 1, port 9, speed 12, name", "\nhostport = \"2\""]
        {
            assert_eq!(with_product(product, ""), with_product("Stick", ""), "{product:?}");
        }
        // The end of this string is not known: the keyboard seems to be on another bus.
        assert_eq!(with_product("\n    bus: b", "").len(), 1);
    }

    #[test]
    fn a_pci_address_is_in_range() {
        let address = |text: &str| {
            let addr = ("addr".to_owned(), text.to_owned());
            Dev { properties: vec![addr], ..Dev::default() }.pci_address()
        };
        assert_eq!(address("1f.7"), Some((31, 7)));
        assert_eq!(address("00.0"), Some((0, 0)));
        for text in ["20.0", "1f.8", "1f", "-1.0", ""] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn the_depth_has_a_limit() {
        let nested = |levels: usize| {
            let line = |level: usize| {
                let indent = " ".repeat(level * 2);
                if level % 2 == 0 {
                    format!("{indent}bus: b\n")
                } else {
                    format!("{indent}dev: d, id \"\"\n")
                }
            };
            (0..levels).map(line).collect::<String>()
        };
        assert!(parse(&nested(MAX_DEPTH)).is_some());
        assert!(parse(&nested(MAX_DEPTH + 1)).is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(( {0,9}(bus: |dev: x, id \"|type |addr 1.1, port |a = )?[a-z0-9.\", ]{0,12})?\n){0,40}") {
            let _ = parse(&text);
        }
    }
}
