//! The descriptors of a device, as the kernel has read them.
//!
//! The `descriptors` attribute of a device in sysfs is its device descriptor followed by each
//! complete configuration:
//!
//! ```text
//! device (18 bytes)
//! └─ configuration ── wTotalLength covers everything below it
//!    └─ interface, one for each alternate setting
//!       └─ endpoint
//!          └─ SuperSpeed endpoint companion
//! ```
//!
//! Class-specific and vendor-specific descriptors in between are skipped. Source: USB 2.0
//! specification, section 9.6 (layout and offsets), and USB 3.2, section 9.6.7 (the companion).
//!
//! The device may be hostile. The parser never panics and reads each byte a bounded number of
//! times. It rejects descriptors that are inconsistent, because a part of them would be misleading.

pub mod high_speed;

use thiserror::Error;
use vusb_model::selector::UsbId;

pub use high_speed::as_high_speed;

/// The longest `descriptors` attribute in bytes: a device descriptor and one configuration of the
/// maximum size (Linux, `drivers/usb/core/sysfs.c`: `18 + 65535`).
pub const MAX_BYTES: usize = 18 + 65535;

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const COMPANION: u8 = 0x30;

/// All descriptors of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Vendor and product.
    pub id: UsbId,
    /// `bDeviceClass`; 0 if each interface has its own.
    pub class: u8,
    /// Every configuration, in the device's order.
    pub configurations: Vec<Configuration>,
}

impl Descriptors {
    /// The configuration with this `bConfigurationValue`.
    pub fn configuration(&self, value: u8) -> Option<&Configuration> {
        self.configurations.iter().find(|configuration| configuration.value == value)
    }
}

/// One configuration of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `bConfigurationValue`: the number that selects it.
    pub value: u8,
    /// Every alternate setting of every interface, in the device's order.
    pub settings: Vec<AlternateSetting>,
}

/// One alternate setting of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlternateSetting {
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
    /// Its transfer type.
    pub transfer: TransferType,
    /// `wMaxPacketSize` unchanged: bytes in bits 0..10, high-bandwidth multiplier in bits 11 and
    /// 12.
    pub max_packet: u16,
    /// `MaxStreams` of the SuperSpeed companion: the binary logarithm of the number of bulk
    /// streams, 0 for no streams. Bulk endpoints only.
    pub streams: u8,
}

/// The transfer type of an endpoint: bits 0 and 1 of `bmAttributes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferType {
    /// Requests with responses.
    Control,
    /// Constant rate, without retries.
    Isochronous,
    /// Whenever the bus has bandwidth left.
    Bulk,
    /// Small transfers with bounded latency.
    Interrupt,
}

impl TransferType {
    const fn from_attributes(attributes: u8) -> TransferType {
        match attributes & 3 {
            0 => TransferType::Control,
            1 => TransferType::Isochronous,
            2 => TransferType::Bulk,
            _ => TransferType::Interrupt,
        }
    }
}

/// Descriptors that are inconsistent or truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "malformed descriptors at byte {offset}: {what}; the device can only be used at its own speed"
)]
pub struct DescriptorError {
    /// The position of the error, in bytes from the start.
    pub offset: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Parses the content of a `descriptors` attribute.
///
/// # Errors
/// If a length is impossible, something is missing, a descriptor is out of place, or a count does
/// not match the descriptors that follow.
pub fn parse(bytes: &[u8]) -> Result<Descriptors, DescriptorError> {
    let mut cursor = Cursor { rest: bytes, offset: 0 };
    let device = cursor.next()?.ok_or(DescriptorError { offset: 0, what: "no descriptors" })?;
    if device.kind != DEVICE || device.bytes.len() != 18 {
        return Err(device.error("expected a device descriptor of 18 bytes"));
    }
    let mut configurations = Vec::new();
    while let Some(mut inner) = cursor.configuration()? {
        configurations.push(configuration(&mut inner)?);
    }
    if configurations.len() != usize::from(device.byte(17)?) {
        return Err(device.error("bNumConfigurations does not match the number of configurations"));
    }
    Ok(Descriptors {
        id: UsbId { vendor: device.word(8)?, product: device.word(10)? },
        class: device.byte(4)?,
        configurations,
    })
}

/// The first setting of each interface that a `descriptors` attribute declares: of the
/// configuration with this `bConfigurationValue`, or of every configuration. Without endpoints.
///
/// Unlike [`parse`], this accepts inconsistent descriptors and stops at the first one with an
/// impossible length. It is used for protection, where some of the interfaces are better than none.
pub fn declared_interfaces(bytes: &[u8], configuration: Option<u8>) -> Vec<AlternateSetting> {
    let mut cursor = Cursor { rest: bytes, offset: 0 };
    let mut settings: Vec<AlternateSetting> = Vec::new();
    let mut is_wanted = true;
    while let Ok(Some(item)) = cursor.next() {
        match item.kind {
            CONFIGURATION => {
                is_wanted = configuration.is_none_or(|it| item.byte(5) == Ok(it));
            }
            INTERFACE if is_wanted => {
                let Ok(PendingSetting { setting, .. }) = setting(&item) else { continue };
                if setting.alternate == 0 && !settings.contains(&setting) {
                    settings.push(setting);
                }
            }
            _ => {}
        }
    }
    settings
}

/// One descriptor, including its two bytes of header.
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
        byte.ok_or_else(|| self.error("descriptor too short for its type"))
    }

    fn word(&self, at: usize) -> Result<u16, DescriptorError> {
        Ok(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1)?]))
    }
}

/// Iterates over consecutive descriptors.
struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Consumes the next `length` bytes.
    fn take(&mut self, length: usize) -> Result<&'a [u8], DescriptorError> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(DescriptorError {
            offset: self.offset,
            what: "descriptor extends past the end",
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
                let what = "descriptor shorter than two bytes";
                return Err(DescriptorError { offset, what });
            }
        };
        let bytes = self.take(usize::from(length))?;
        Ok(Some(Item { offset, kind, bytes }))
    }

    /// A cursor over the next configuration alone, starting with the configuration descriptor
    /// itself.
    fn configuration(&mut self) -> Result<Option<Cursor<'a>>, DescriptorError> {
        let mut ahead = Cursor { rest: self.rest, offset: self.offset };
        let Some(first) = ahead.next()? else {
            return Ok(None);
        };
        if first.kind != CONFIGURATION {
            return Err(first.error("expected a configuration descriptor"));
        }
        let total = usize::from(first.word(2)?);
        if total < first.bytes.len() {
            return Err(first.error("wTotalLength is smaller than the configuration descriptor"));
        }
        let offset = self.offset;
        Ok(Some(Cursor { rest: self.take(total)?, offset }))
    }
}

fn configuration(cursor: &mut Cursor<'_>) -> Result<Configuration, DescriptorError> {
    let missing =
        DescriptorError { offset: cursor.offset, what: "expected a configuration descriptor" };
    let head = cursor.next()?.ok_or(missing)?;
    let mut settings: Vec<PendingSetting> = Vec::new();
    while let Some(item) = cursor.next()? {
        match item.kind {
            INTERFACE => settings.push(setting(&item)?),
            ENDPOINT => {
                let here = settings.last_mut();
                let here =
                    here.ok_or_else(|| item.error("endpoint descriptor outside of an interface"))?;
                here.setting.endpoints.push(endpoint(&item)?);
            }
            COMPANION => companion(&item, settings.last_mut())?,
            DEVICE | CONFIGURATION => {
                return Err(
                    item.error("device or configuration descriptor inside of a configuration")
                );
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

/// A setting being parsed, with the number of endpoints that its descriptor declares.
struct PendingSetting {
    setting: AlternateSetting,
    declared_endpoints: u8,
    offset: usize,
}

fn setting(item: &Item<'_>) -> Result<PendingSetting, DescriptorError> {
    // Reject a descriptor without its last byte, although that byte is not used.
    item.byte(8)?;
    Ok(PendingSetting {
        setting: AlternateSetting {
            interface: item.byte(2)?,
            alternate: item.byte(3)?,
            class: item.byte(5)?,
            subclass: item.byte(6)?,
            protocol: item.byte(7)?,
            endpoints: Vec::new(),
        },
        declared_endpoints: item.byte(4)?,
        offset: item.offset,
    })
}

fn endpoint(item: &Item<'_>) -> Result<Endpoint, DescriptorError> {
    item.byte(6)?;
    let address = item.byte(2)?;
    if address & 0x0f == 0 {
        return Err(item.error("endpoint 0 must not have a descriptor"));
    }
    Ok(Endpoint {
        address,
        transfer: TransferType::from_attributes(item.byte(3)?),
        max_packet: item.word(4)?,
        streams: 0,
    })
}

/// Applies a companion to the endpoint before it. Only bulk endpoints have streams; bits 0..4 of
/// `bmAttributes` contain `MaxStreams`.
fn companion(item: &Item<'_>, setting: Option<&mut PendingSetting>) -> Result<(), DescriptorError> {
    item.byte(5)?;
    let attributes = item.byte(3)?;
    let endpoint = setting.and_then(|here| here.setting.endpoints.last_mut());
    let endpoint = endpoint.ok_or_else(|| item.error("endpoint companion without an endpoint"))?;
    if endpoint.transfer == TransferType::Bulk {
        endpoint.streams = attributes & 0x1f;
    }
    Ok(())
}

/// Checks the declared counts of endpoints and interfaces.
fn check(head: &Item<'_>, settings: &[PendingSetting]) -> Result<(), DescriptorError> {
    head.byte(8)?;
    let mut seen = [false; 256];
    let mut interfaces = 0;
    for it in settings {
        if it.setting.endpoints.len() != usize::from(it.declared_endpoints) {
            return Err(DescriptorError {
                offset: it.offset,
                what: "bNumEndpoints does not match the number of endpoints",
            });
        }
        if let Some(seen) = seen.get_mut(usize::from(it.setting.interface)) {
            interfaces += u16::from(!*seen);
            *seen = true;
        }
    }
    if interfaces != u16::from(head.byte(4)?) {
        return Err(head.error("bNumInterfaces does not match the number of interfaces"));
    }
    Ok(())
}
