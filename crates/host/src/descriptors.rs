//! The descriptors of a device, as the kernel read them from it.
//!
//! The `descriptors` attribute of a device in sysfs is its device descriptor followed by each configuration in full:
//!
//! ```text
//! device (18 bytes)
//! └─ configuration ── wTotalLength covers everything below it
//!    └─ interface, one for each alternate setting
//!       └─ endpoint
//!          └─ SuperSpeed endpoint companion
//! ```
//!
//! with descriptors of classes and vendors in between, which are stepped over. Source: USB 2.0 specification, section 9.6
//! (layout and offsets), and USB 3.2, section 9.6.7 (the companion).
//!
//! The bytes come from a device that may be hostile. The parser never panics, reads each byte a bounded number of times,
//! and refuses what contradicts itself: nothing may be concluded from half a truth.

pub mod high_speed;

use thiserror::Error;
use vusb_model::selector::UsbId;

pub use high_speed::as_high_speed;

/// The longest `descriptors` attribute in bytes: the kernel gives it room for a device descriptor and one configuration
/// of the largest size (Linux, `drivers/usb/core/sysfs.c`: `18 + 65535`).
pub const MAX_BYTES: usize = 18 + 65535;

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const COMPANION: u8 = 0x30;

/// Everything that a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Vendor and product.
    pub id: UsbId,
    /// `bDeviceClass`; 0 if each interface has its own.
    pub class: u8,
    /// Every configuration, in the order of the device.
    pub configurations: Vec<Configuration>,
}

impl Descriptors {
    /// The configuration whose `bConfigurationValue` this is.
    pub fn configuration(&self, value: u8) -> Option<&Configuration> {
        self.configurations.iter().find(|configuration| configuration.value == value)
    }
}

/// One way to run a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `bConfigurationValue`: the number that chooses it.
    pub value: u8,
    /// Every alternate setting of every interface, in the order of the device.
    pub settings: Vec<Setting>,
}

/// One alternate setting of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `bInterfaceNumber`.
    pub interface: u8,
    /// `bAlternateSetting`.
    pub alternate: u8,
    /// `bInterfaceClass`.
    pub class: u8,
    /// `bInterfaceSubClass`.
    pub subclass: u8,
    /// `bInterfaceProtocol`.
    pub protocol: u8,
    /// Its endpoints, without endpoint 0.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `bEndpointAddress`: number in bits 0..3, bit 7 set for IN.
    pub address: u8,
    /// How it moves data.
    pub transfer: Transfer,
    /// `wMaxPacketSize` as it stands: bytes in bits 0..10, high-bandwidth multiplier in bits 11 and 12.
    pub max_packet: u16,
    /// `MaxStreams` of the SuperSpeed companion: 2 to the power of this many streams, 0 for none (bulk only).
    pub streams: u8,
}

/// How an endpoint moves data: bits 0 and 1 of `bmAttributes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Requests and answers.
    Control,
    /// At a constant rate, with losses.
    Isochronous,
    /// When the bus is free.
    Bulk,
    /// Small and in time.
    Interrupt,
}

impl Transfer {
    const fn of(attributes: u8) -> Transfer {
        match attributes & 3 {
            0 => Transfer::Control,
            1 => Transfer::Isochronous,
            2 => Transfer::Bulk,
            _ => Transfer::Interrupt,
        }
    }
}

/// Descriptors that contradict themselves or end too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the device's descriptors are malformed at byte {offset}: {what}; it can be used at its own speed only"
)]
pub struct DescriptorError {
    /// Where, in bytes from the start.
    pub offset: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Reads the content of a `descriptors` attribute.
///
/// # Errors
/// If a length is impossible, something is missing, a descriptor stands where it cannot, or a count does not agree with
/// what follows.
pub fn parse(bytes: &[u8]) -> Result<Descriptors, DescriptorError> {
    let mut walk = Walk { rest: bytes, offset: 0 };
    let device = walk.next()?.ok_or(DescriptorError { offset: 0, what: "there are none" })?;
    if device.kind != DEVICE || device.bytes.len() != 18 {
        return Err(device.error("a device descriptor of 18 bytes comes first"));
    }
    let mut configurations = Vec::new();
    while let Some(mut inner) = walk.configuration()? {
        configurations.push(configuration(&mut inner)?);
    }
    if configurations.len() != usize::from(device.byte(17)?) {
        return Err(device.error("it has another number of configurations than it says"));
    }
    Ok(Descriptors {
        id: UsbId { vendor: device.word(8)?, product: device.word(10)? },
        class: device.byte(4)?,
        configurations,
    })
}

/// One descriptor, its two bytes of header included.
struct Item<'a> {
    offset: usize,
    kind: u8,
    bytes: &'a [u8],
}

impl Item<'_> {
    const fn error(&self, what: &'static str) -> DescriptorError {
        DescriptorError { offset: self.offset, what }
    }

    fn byte(&self, at: usize) -> Result<u8, DescriptorError> {
        let byte = self.bytes.get(at).copied();
        byte.ok_or_else(|| self.error("a descriptor is shorter than its kind"))
    }

    fn word(&self, at: usize) -> Result<u16, DescriptorError> {
        Ok(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1)?]))
    }
}

/// A walk from descriptor to descriptor.
struct Walk<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Walk<'a> {
    /// The next `length` bytes, which the walk then has behind it.
    fn take(&mut self, length: usize) -> Result<&'a [u8], DescriptorError> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(DescriptorError {
            offset: self.offset,
            what: "a descriptor ends behind the last byte",
        })?;
        self.rest = tail;
        self.offset += length;
        Ok(head)
    }

    fn next(&mut self) -> Result<Option<Item<'a>>, DescriptorError> {
        let offset = self.offset;
        let (length, kind) = match *self.rest {
            [] => return Ok(None),
            [length, kind, ..] if length >= 2 => (length, kind),
            _ => {
                let what = "a descriptor is at least two bytes long";
                return Err(DescriptorError { offset, what });
            }
        };
        let bytes = self.take(usize::from(length))?;
        Ok(Some(Item { offset, kind, bytes }))
    }

    /// A walk through the next configuration alone, which starts with the configuration's own descriptor.
    fn configuration(&mut self) -> Result<Option<Walk<'a>>, DescriptorError> {
        let mut ahead = Walk { rest: self.rest, offset: self.offset };
        let Some(first) = ahead.next()? else {
            return Ok(None);
        };
        if first.kind != CONFIGURATION {
            return Err(first.error("a configuration should stand here"));
        }
        let total = usize::from(first.word(2)?);
        if total < first.bytes.len() {
            return Err(first.error("a configuration is shorter than its own descriptor"));
        }
        let offset = self.offset;
        Ok(Some(Walk { rest: self.take(total)?, offset }))
    }
}

fn configuration(walk: &mut Walk<'_>) -> Result<Configuration, DescriptorError> {
    let missing =
        DescriptorError { offset: walk.offset, what: "a configuration should stand here" };
    let head = walk.next()?.ok_or(missing)?;
    let mut settings: Vec<Announced> = Vec::new();
    while let Some(item) = walk.next()? {
        match item.kind {
            INTERFACE => settings.push(setting(&item)?),
            ENDPOINT => {
                let here = settings.last_mut();
                let here = here.ok_or_else(|| item.error("an endpoint outside an interface"))?;
                here.setting.endpoints.push(endpoint(&item)?);
            }
            COMPANION => companion(&item, settings.last_mut())?,
            DEVICE | CONFIGURATION => {
                return Err(item.error("a device or configuration inside a configuration"));
            }
            _ => {}
        }
    }
    check(&head, &settings)?;
    Ok(Configuration {
        value: head.byte(5)?,
        settings: settings.into_iter().map(|it| it.setting).collect(),
    })
}

/// A setting, and how many endpoints it promised.
struct Announced {
    setting: Setting,
    endpoints: u8,
    offset: usize,
}

fn setting(item: &Item<'_>) -> Result<Announced, DescriptorError> {
    // Its last byte is asked for first: a short one is refused though no byte of the rest is missing.
    item.byte(8)?;
    Ok(Announced {
        setting: Setting {
            interface: item.byte(2)?,
            alternate: item.byte(3)?,
            class: item.byte(5)?,
            subclass: item.byte(6)?,
            protocol: item.byte(7)?,
            endpoints: Vec::new(),
        },
        endpoints: item.byte(4)?,
        offset: item.offset,
    })
}

fn endpoint(item: &Item<'_>) -> Result<Endpoint, DescriptorError> {
    item.byte(6)?;
    let address = item.byte(2)?;
    if address & 0x0f == 0 {
        return Err(item.error("endpoint 0 has no descriptor of its own"));
    }
    Ok(Endpoint {
        address,
        transfer: Transfer::of(item.byte(3)?),
        max_packet: item.word(4)?,
        streams: 0,
    })
}

/// Adds what a companion says to the endpoint before it. Only bulk endpoints have streams; bits 0..4 of `bmAttributes`
/// say how many.
fn companion(item: &Item<'_>, setting: Option<&mut Announced>) -> Result<(), DescriptorError> {
    item.byte(5)?;
    let attributes = item.byte(3)?;
    let endpoint = setting.and_then(|here| here.setting.endpoints.last_mut());
    let endpoint = endpoint.ok_or_else(|| item.error("a companion without an endpoint"))?;
    if endpoint.transfer == Transfer::Bulk {
        endpoint.streams = attributes & 0x1f;
    }
    Ok(())
}

/// Whether the counts agree with what followed.
fn check(head: &Item<'_>, settings: &[Announced]) -> Result<(), DescriptorError> {
    head.byte(8)?;
    let mut seen = [false; 256];
    let mut interfaces = 0;
    for it in settings {
        if it.setting.endpoints.len() != usize::from(it.endpoints) {
            return Err(DescriptorError {
                offset: it.offset,
                what: "an interface has another number of endpoints than it says",
            });
        }
        if let Some(seen) = seen.get_mut(usize::from(it.setting.interface)) {
            interfaces += u16::from(!*seen);
            *seen = true;
        }
    }
    if interfaces != u16::from(head.byte(4)?) {
        return Err(head.error("a configuration has another number of interfaces than it says"));
    }
    Ok(())
}
