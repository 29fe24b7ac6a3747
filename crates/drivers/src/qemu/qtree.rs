//! Reads QEMU's device tree as `info qtree` prints it.
//!
//! QMP has no answer to the question which port a device is on when nobody said one: the port that QEMU chose is in this
//! text alone (`usb_bus_dev_print` in its `hw/usb/bus.c`). The text has one thing a line, and what belongs to a thing is indented by
//! two more:
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
//! Lines of other forms are passed over, for there are more than are needed and new versions add some. Devices are listed
//! newest first. A host device's own product string is in the text: `details::keep_confirmed` drops the devices behind
//! one that QEMU's object model does not confirm.

use vusb_model::address::PortPath;

/// How deep the tree may be. QEMU's own is about ten deep; bridges behind bridges add two each.
const MAX_DEPTH: usize = 200;

/// A bus and what is on it.
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
    /// Empty if it has none.
    pub(super) id: String,
    pub(super) properties: Vec<(String, String)>,
    /// For a USB device.
    pub(super) usb: Option<Usb>,
    pub(super) buses: Vec<Bus>,
}

/// What the tree says of a USB device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usb {
    /// The port, if it is one that can be written as a path: QEMU's hubs go one deeper than ours.
    pub(super) port: Result<PortPath, String>,
    pub(super) attached: bool,
}

impl Dev {
    /// A property's value, without the quotes around a string.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        let (_, value) = self.properties.iter().find(|(key, _)| key == name)?;
        Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    }

    /// A property that is a number: `2 (0x2)`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.property(name)?.split_whitespace().next()?.parse().ok()
    }

    /// Slot and function of a PCI device, from its `addr = 1d.7`.
    pub(super) fn pci_address(&self) -> Option<(u8, u8)> {
        let (slot, function) = self.property("addr")?.split_once('.')?;
        let slot = u8::from_str_radix(slot, 16).ok().filter(|slot| *slot < 32)?;
        let function = u8::from_str_radix(function, 16).ok().filter(|function| *function < 8)?;
        Some((slot, function))
    }
}

/// A line, by what it says.
enum Line<'a> {
    Bus(&'a str),
    Type(&'a str),
    Dev { driver: &'a str, id: &'a str },
    Property(&'a str, &'a str),
    Usb(Usb),
    Other,
}

/// Something that is open while its indented lines are read.
enum Open {
    Bus(Bus),
    Dev(Dev),
}

/// Reads the tree. `None` if the text has no bus at its top, or is nested deeper than any machine is.
pub(super) fn read(text: &str) -> Option<Bus> {
    let mut open: Vec<(usize, Open)> = Vec::new();
    for line in text.lines() {
        let body = line.trim_start_matches(' ');
        let indent = line.len() - body.len();
        let line = classify(body);
        if let Line::Bus(_) | Line::Dev { .. } = line {
            while open.len() > 1 && open.last().is_some_and(|(depth, _)| *depth >= indent) {
                close(&mut open);
            }
        }
        match (line, open.last_mut()) {
            // Only one bus is at the top.
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
            (Line::Property(key, value), Some((_, Open::Dev(dev)))) => {
                dev.properties.push((key.to_owned(), value.to_owned()));
            }
            (Line::Usb(usb), Some((_, Open::Dev(dev)))) => dev.usb = Some(usb),
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

/// Puts what was opened last into what it belongs to. A thing that cannot belong there is dropped.
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

/// `0.1, port 1, speed 480, name QEMU USB Tablet, attached`, without the first word.
fn usb_line(rest: &str) -> Option<Usb> {
    let (_, rest) = rest.split_once(", port ")?;
    let (port, rest) = rest.split_once(", speed ")?;
    let port = port.parse().map_err(|_| port.chars().take(40).collect());
    Some(Usb { port, attached: rest.ends_with(", attached") })
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
    fn a_tree_as_qemu_prints_it() {
        let root = read(TREE).unwrap();
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

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(( {0,9}(bus: |dev: x, id \"|type |addr 1.1, port |a = )?[a-z0-9.\", ]{0,12})?\n){0,40}") {
            let _ = read(&text);
        }
    }
}
