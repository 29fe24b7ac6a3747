//! A device that can be plugged into a simulated machine: the content of its directory in sysfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::write;

/// A USB device. Its descriptors agree with its interfaces.
#[derive(Clone, Debug)]
pub(crate) struct Gadget {
    pub(crate) vendor: u16,
    pub(crate) product: u16,
    class: u8,
    authorized: bool,
    configured: bool,
    speed: Option<String>,
    serial: Option<Vec<u8>>,
    names: Option<(Vec<u8>, Vec<u8>)>,
    interfaces: Vec<Function>,
    descriptors: Option<Vec<u8>>,
}

/// An interface with one alternate setting.
#[derive(Clone, Debug)]
struct Function {
    triple: (u8, u8, u8),
    driver: Option<String>,
    endpoints: Vec<Vec<u8>>,
}

impl Gadget {
    /// A high-speed device without strings.
    pub(crate) fn new(vendor: u16, product: u16) -> Gadget {
        Gadget {
            vendor,
            product,
            class: 0,
            authorized: true,
            configured: true,
            speed: Some("480".to_owned()),
            serial: None,
            names: None,
            interfaces: Vec::new(),
            descriptors: None,
        }
    }

    /// A stick with two bulk endpoints.
    pub(crate) fn stick() -> Gadget {
        Gadget::new(0x0781, 0x5581)
            .named("SanDisk", "Ultra")
            .interface(8, 6, 0x50, Some("usb-storage"))
            .endpoint(&bulk(0x81))
            .endpoint(&bulk(0x02))
    }

    /// A low-speed keyboard.
    pub(crate) fn keyboard() -> Gadget {
        Gadget::new(0x046d, 0xc31c)
            .named("Logitech", "USB Keyboard")
            .speed(Some("1.5"))
            .interface(3, 1, 1, Some("usbhid"))
            .endpoint(&interrupt(0x81, 8))
    }

    /// A high-speed network adapter.
    pub(crate) fn network() -> Gadget {
        Gadget::new(0x0bda, 0x8153).interface(0xff, 0xff, 0, Some("r8152"))
    }

    /// A Bluetooth adapter.
    pub(crate) fn bluetooth() -> Gadget {
        Gadget::new(0x8087, 0x0aaa).interface(0xe0, 1, 1, Some("btusb"))
    }

    /// A high-speed hub.
    pub(crate) fn hub() -> Gadget {
        Gadget::new(0x05e3, 0x0608)
            .class(9)
            .interface(9, 0, 1, Some("hub"))
            .endpoint(&interrupt(0x81, 1))
    }

    pub(crate) fn class(mut self, class: u8) -> Gadget {
        self.class = class;
        self
    }

    /// The device is plugged in, and this machine has blocked it.
    pub(crate) fn unauthorized(self) -> Gadget {
        Gadget { authorized: false, ..self.unconfigured() }
    }

    /// The kernel has announced the device, and not configured it yet.
    pub(crate) fn unconfigured(self) -> Gadget {
        Gadget { configured: false, ..self }
    }

    pub(crate) fn speed(mut self, speed: Option<&str>) -> Gadget {
        self.speed = speed.map(str::to_owned);
        self
    }

    pub(crate) fn serial(mut self, serial: impl AsRef<[u8]>) -> Gadget {
        self.serial = Some(serial.as_ref().to_vec());
        self
    }

    pub(crate) fn named(
        mut self,
        manufacturer: impl AsRef<[u8]>,
        product: impl AsRef<[u8]>,
    ) -> Gadget {
        self.names = Some((manufacturer.as_ref().to_vec(), product.as_ref().to_vec()));
        self
    }

    pub(crate) fn interface(
        mut self,
        class: u8,
        subclass: u8,
        protocol: u8,
        driver: Option<&str>,
    ) -> Gadget {
        self.interfaces.push(Function {
            triple: (class, subclass, protocol),
            driver: driver.map(str::to_owned),
            endpoints: Vec::new(),
        });
        self
    }

    /// Adds an endpoint to the last interface.
    pub(crate) fn endpoint(mut self, bytes: &[u8]) -> Gadget {
        let interface = self.interfaces.last_mut().unwrap();
        interface.endpoints.push(bytes.to_vec());
        self
    }

    /// Overrides its descriptors.
    pub(crate) fn descriptors(mut self, bytes: Vec<u8>) -> Gadget {
        self.descriptors = Some(bytes);
        self
    }

    /// The content of the attribute `descriptors`.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let functions = self.interfaces.iter().enumerate();
        let settings: Vec<Vec<u8>> = functions
            .map(|(number, it)| setting(u8::try_from(number).unwrap(), 0, it.triple, &it.endpoints))
            .collect();
        let interfaces = u8::try_from(self.interfaces.len()).unwrap();
        device(self.vendor, self.product, &[configuration(1, interfaces, &settings)])
    }

    /// Writes the directory `dir` of the device `name`.
    pub(super) fn write(&self, dir: &Path, name: &str, bus: u16, address: usize) {
        let put = |file: &str, text: String| write(&dir.join(file), format!("{text}\n"));
        put("idVendor", format!("{:04x}", self.vendor));
        put("idProduct", format!("{:04x}", self.product));
        put("bDeviceClass", format!("{:02x}", self.class));
        put("busnum", bus.to_string());
        put("devnum", address.to_string());
        put("bConfigurationValue", if self.configured { "1" } else { "" }.to_owned());
        put("authorized", u8::from(self.authorized).to_string());
        if let Some(speed) = &self.speed {
            put("speed", speed.clone());
        }
        let line = |bytes: &[u8]| [bytes, b"\n"].concat();
        if let Some(serial) = &self.serial {
            write(&dir.join("serial"), line(serial));
        }
        if let Some((manufacturer, product)) = &self.names {
            write(&dir.join("manufacturer"), line(manufacturer));
            write(&dir.join("product"), line(product));
        }
        let descriptors = self.descriptors.clone();
        write(&dir.join("descriptors"), descriptors.unwrap_or_else(|| self.to_bytes()));
        for (number, it) in self.interfaces.iter().enumerate().filter(|_| self.configured) {
            interface(&dir.join(format!("{name}:1.{number}")), number, it);
        }
    }
}

fn interface(dir: &Path, number: usize, it: &Function) {
    fs::create_dir_all(dir).unwrap();
    let (class, subclass, protocol) = it.triple;
    write(&dir.join("bInterfaceNumber"), format!("{number:02x}\n"));
    write(&dir.join("bInterfaceClass"), format!("{class:02x}\n"));
    write(&dir.join("bInterfaceSubClass"), format!("{subclass:02x}\n"));
    write(&dir.join("bInterfaceProtocol"), format!("{protocol:02x}\n"));
    if let Some(driver) = &it.driver {
        let target = Path::new("../../../../../../bus/usb/drivers").join(driver);
        symlink(target, dir.join("driver")).unwrap();
    }
}

/// A device descriptor, followed by the configurations.
pub(crate) fn device(vendor: u16, product: u16, configurations: &[Vec<u8>]) -> Vec<u8> {
    let [vendor_low, vendor_high] = vendor.to_le_bytes();
    let [product_low, product_high] = product.to_le_bytes();
    let count = u8::try_from(configurations.len()).unwrap();
    #[rustfmt::skip]
    let mut bytes = vec![
        18, 1, 0x00, 0x02, 0, 0, 0, 64, vendor_low, vendor_high, product_low, product_high, 0, 1, 1, 2, 3, count,
    ];
    bytes.extend(configurations.concat());
    bytes
}

/// A configuration with the settings of `interfaces` interfaces.
pub(crate) fn configuration(value: u8, interfaces: u8, settings: &[Vec<u8>]) -> Vec<u8> {
    let settings = settings.concat();
    let [low, high] = u16::try_from(9 + settings.len()).unwrap().to_le_bytes();
    let mut bytes = vec![9, 2, low, high, interfaces, value, 0, 0x80, 50];
    bytes.extend(settings);
    bytes
}

/// An alternate setting of an interface.
pub(crate) fn setting(
    number: u8,
    alternate: u8,
    (class, subclass, protocol): (u8, u8, u8),
    endpoints: &[Vec<u8>],
) -> Vec<u8> {
    let count = u8::try_from(endpoints.len()).unwrap();
    #[rustfmt::skip]
    let mut bytes = vec![9, 4, number, alternate, count, class, subclass, protocol, 0];
    bytes.extend(endpoints.concat());
    bytes
}

/// An endpoint. `attributes`: 0 control, 1 isochronous, 2 bulk, 3 interrupt.
pub(crate) fn endpoint(address: u8, attributes: u8, max_packet: u16) -> Vec<u8> {
    let [low, high] = max_packet.to_le_bytes();
    vec![7, 5, address, attributes, low, high, 0]
}

pub(crate) fn bulk(address: u8) -> Vec<u8> {
    endpoint(address, 2, 512)
}

pub(crate) fn interrupt(address: u8, max_packet: u16) -> Vec<u8> {
    endpoint(address, 3, max_packet)
}

pub(crate) fn isochronous(address: u8) -> Vec<u8> {
    endpoint(address, 1, 1024)
}

/// A SuperSpeed bulk endpoint with its companion: 2 to the power of `streams` streams.
pub(crate) fn super_bulk(address: u8, streams: u8) -> Vec<u8> {
    let companion = vec![6, 0x30, 15, streams, 0, 0];
    [endpoint(address, 2, 1024), companion].concat()
}
