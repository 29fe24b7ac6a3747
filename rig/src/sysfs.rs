//! A guest's USB and PCI devices, parsed from the output of `usb-tree` and `pci-tree`
//! (`guest/*.sh`).

/// A USB device or root hub in the guest's `/sys/bus/usb/devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestUsbDevice {
    /// `1-1.2`: bus 1, port 1, port 2; `usb1` for the root hub of bus 1.
    pub path: String,
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// Mbit/s as the kernel prints it: `1.5`, `12`, `480`, `5000`.
    pub speed: String,
    /// The bus's number in the guest.
    pub bus: u16,
    /// The device's address on that bus.
    pub address: u16,
    /// bDeviceClass; 9 is a hub.
    pub class: u8,
    /// The manufacturer's name, as the device reports it; may be empty.
    pub manufacturer: String,
    /// The product's name, as the device reports it; may be empty.
    pub name: String,
    /// The serial number, as the device reports it; may be empty.
    pub serial: String,
    /// The drivers of its interfaces, in order: `usb-storage`, `usbhid`, `hub`.
    pub drivers: Vec<String>,
    /// Its directory: `/sys/devices/pci0000:00/0000:00:04.0/usb1/1-1`.
    pub sysfs: String,
}

impl GuestUsbDevice {
    /// The PCI address of its controller, like `0000:00:04.0`.
    pub fn controller(&self) -> Option<&str> {
        let (before, _) = self.sysfs.split_once("/usb")?;
        before.rsplit('/').next()
    }

    /// Whether it is the root hub of a controller.
    pub fn is_root_hub(&self) -> bool {
        self.path.starts_with("usb")
    }

    fn set(&mut self, key: &str, value: &str) {
        let hex = || u16::from_str_radix(value, 16).unwrap_or_default();
        match key {
            "idVendor" => self.vendor = hex(),
            "idProduct" => self.product = hex(),
            "bDeviceClass" => self.class = u8::from_str_radix(value, 16).unwrap_or_default(),
            "busnum" => self.bus = value.parse().unwrap_or_default(),
            "devnum" => self.address = value.parse().unwrap_or_default(),
            "speed" => self.speed = value.to_owned(),
            "manufacturer" => self.manufacturer = value.to_owned(),
            "product" => self.name = value.to_owned(),
            "serial" => self.serial = value.to_owned(),
            "driver" => self.drivers.push(value.to_owned()),
            "at" => self.sysfs = value.to_owned(),
            _ => {}
        }
    }
}

/// A PCI device of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPciDevice {
    /// `0000:00:1d.7`
    pub address: String,
    /// Vendor, like 0x8086.
    pub vendor: u16,
    /// Device, like 0x293a.
    pub device: u16,
    /// Class, subclass and interface, like 0x0c0320 for EHCI.
    pub class: u32,
    /// The driver that is bound to it.
    pub driver: Option<String>,
}

/// Parses the output of `usb-tree`. Malformed lines are skipped.
pub(crate) fn parse_usb(text: &str) -> Vec<GuestUsbDevice> {
    let mut devices: Vec<GuestUsbDevice> = Vec::new();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        if key == "device" {
            devices.push(GuestUsbDevice { path: value.to_owned(), ..Default::default() });
        } else if let Some(device) = devices.last_mut() {
            device.set(key, value);
        }
    }
    devices
}

/// Parses the output of `pci-tree`. Malformed lines are skipped.
pub(crate) fn parse_pci(text: &str) -> Vec<GuestPciDevice> {
    text.lines().filter_map(parse_pci_line).collect()
}

fn parse_pci_line(line: &str) -> Option<GuestPciDevice> {
    let mut words = line.split_whitespace();
    let address = words.next()?.to_owned();
    let mut hex = || u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (vendor, device, class) = (hex()?, hex()?, hex()?);
    let driver = words.next().filter(|name| *name != "-").map(str::to_owned);
    let (vendor, device) = (u16::try_from(vendor).ok()?, u16::try_from(device).ok()?);
    Some(GuestPciDevice { address, vendor, device, class, driver })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stick_behind_a_controller() {
        let text = "device usb1\nidVendor 1d6b\ndevice 1-1\nidVendor 46f4\nidProduct 0001\nspeed 480\n\
            product QEMU USB HARDDRIVE\nat /sys/devices/pci0000:00/0000:00:04.0/usb1/1-1\n\
            driver usb-storage\n";
        let devices = parse_usb(text);
        let [hub, stick] = devices.as_slice() else { panic!("{devices:?}") };
        assert!(hub.is_root_hub() && !stick.is_root_hub());
        assert_eq!((stick.vendor, stick.product), (0x46f4, 1));
        assert_eq!(stick.name, "QEMU USB HARDDRIVE");
        assert_eq!(stick.controller(), Some("0000:00:04.0"));
        assert_eq!(stick.drivers, ["usb-storage"]);
    }

    #[test]
    fn a_pci_device_with_and_without_a_driver() {
        let devices = parse_pci(
            "0000:00:04.0 0x1b36 0x000d 0x0c0330 xhci_hcd\n0000:00:00.0 0x8086 0x1237 0x060000 -\n?\n",
        );
        assert_eq!(devices.len(), 2);
        assert_eq!(devices[0].class, 0x0c_0330);
        assert_eq!(devices[0].driver.as_deref(), Some("xhci_hcd"));
        assert_eq!(devices[1].driver, None);
    }
}
