//! A guest's view of a device: the speed and descriptors that it is shown.
//!
//! PVUSB has no speed above high speed. A SuperSpeed device is exported as a high-speed device,
//! with the descriptors of one. PVUSB cannot carry remote wake-up signals either, so the attribute
//! is removed: otherwise Linux would suspend an idle keyboard, and no key press could wake it.

use thiserror::Error;
use vusb_host::descriptors::{self, Descriptors, TransferType};
use vusb_model::speed::Speed as Native;
use vusb_usbif::Speed;
use vusb_usbif::urb::Direction;

use super::job::Configuration;

/// Length of a device descriptor in bytes (USB 2.0, table 9-8).
const DEVICE_LENGTH: usize = 18;
/// Offsets of `wTotalLength` and `bmAttributes` in a configuration descriptor (USB 2.0, table
/// 9-10).
const TOTAL_LENGTH: usize = 2;
const ATTRIBUTES: usize = 7;
/// Bit 5 of `bmAttributes`: the device can wake the host.
const REMOTE_WAKEUP: u8 = 1 << 5;
/// `bInterfaceClass` of mass storage and `bInterfaceProtocol` of its bulk-only transport (USB Mass
/// Storage Class Specification Overview 1.4, sections 3 and 4).
const MASS_STORAGE: u8 = 8;
const BULK_ONLY: u8 = 0x50;
/// The bits of `wMaxPacketSize` that hold the size (USB 2.0, table 9-13).
const PACKET_SIZE_MASK: u16 = 0x7ff;

/// The speed and descriptors that a guest sees of a device.
#[derive(Clone, Debug)]
pub struct GuestView {
    speed: Speed,
    downgraded: bool,
    device: Vec<u8>,
    configurations: Vec<Vec<u8>>,
    parsed: Descriptors,
    active: u8,
}

/// Why a device cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExportError {
    /// The controller is a USB 1 controller.
    #[error("a high-speed device needs a USB 2 controller, and this is a USB 1 controller")]
    TooFast,
    /// The device cannot run at a lower speed.
    #[error(
        "the device supports SuperSpeed only, and PVUSB supports speeds up to high speed (USB 2)"
    )]
    SuperSpeedOnly,
    /// The kernel does not know its speed.
    #[error("the speed of the device is unknown")]
    UnknownSpeed,
    /// Its descriptors cannot be parsed.
    #[error("the device has invalid descriptors: {0}")]
    Malformed(String),
}

impl GuestView {
    /// The view of a device with these descriptors (in the format of sysfs), which runs at `native`
    /// speed in configuration `active`, on a controller of USB `version` 1 or 2.
    ///
    /// # Errors
    /// [`ExportError`]: the device cannot be exported on such a controller.
    pub fn new(
        raw: &[u8],
        native: Option<Native>,
        active: u8,
        version: u8,
    ) -> Result<GuestView, ExportError> {
        let (speed, downgraded) = guest_speed(native)?;
        if version < 2 && speed == Speed::High {
            return Err(ExportError::TooFast);
        }
        let (device, rest) =
            raw.split_at_checked(DEVICE_LENGTH).ok_or_else(|| malformed("too short"))?;
        let mut device = device.to_vec();
        let mut configurations = split_configurations(rest)?;
        if downgraded {
            device = descriptors::as_high_speed(&device).ok_or(ExportError::SuperSpeedOnly)?;
            configurations = configurations
                .iter()
                .map(|it| descriptors::as_high_speed(it).ok_or(ExportError::SuperSpeedOnly))
                .collect::<Result<_, _>>()?;
        }
        for configuration in &mut configurations {
            if let Some(attributes) = configuration.get_mut(ATTRIBUTES) {
                *attributes &= !REMOTE_WAKEUP;
            }
        }
        let descriptors: Vec<u8> =
            device.iter().chain(configurations.iter().flatten()).copied().collect();
        let parsed = descriptors::parse(&descriptors).map_err(|it| malformed(&it.to_string()))?;
        Ok(GuestView { speed, downgraded, device, configurations, parsed, active })
    }

    /// The speed that the guest sees.
    pub const fn speed(&self) -> Speed {
        self.speed
    }

    /// Whether the device really runs faster than the guest sees.
    pub const fn is_downgraded(&self) -> bool {
        self.downgraded
    }

    /// The device descriptor.
    pub fn device_descriptor(&self) -> &[u8] {
        &self.device
    }

    /// The configuration descriptor with this index, including all descriptors that belong to it.
    pub fn configuration_descriptor(&self, index: u8) -> Option<&[u8]> {
        self.configurations.get(usize::from(index)).map(Vec::as_slice)
    }

    /// The configuration with this `bConfigurationValue`; `None` if the device has none. Value 0 is
    /// the unconfigured state, without interfaces.
    pub fn configuration_by_value(&self, value: u8) -> Option<Configuration> {
        if value == 0 {
            return Some(Configuration { value, interfaces: Vec::new() });
        }
        let configuration = self.parsed.configuration(value)?;
        let mut numbers: Vec<u8> = configuration.settings.iter().map(|it| it.interface).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Some(Configuration { value, interfaces: numbers })
    }

    /// The configuration that was active when the device was opened; configuration 0 if none was.
    pub fn initial_configuration(&self) -> Configuration {
        self.configuration_by_value(self.active)
            .unwrap_or(Configuration { value: 0, interfaces: Vec::new() })
    }

    /// The packet size in bytes of a bulk endpoint, as the guest sees it. `value` is the
    /// `bConfigurationValue`. `None` if the configuration has no such bulk endpoint, or if its
    /// packet size is 0.
    pub fn bulk_packet_size(&self, value: u8, endpoint: u8) -> Option<usize> {
        let settings = &self.parsed.configuration(value)?.settings;
        let mut endpoints = settings.iter().flat_map(|it| &it.endpoints);
        let found =
            endpoints.find(|it| it.address == endpoint && it.transfer == TransferType::Bulk)?;
        Some(usize::from(found.max_packet & PACKET_SIZE_MASK)).filter(|size| *size > 0)
    }

    /// The endpoint that carries the data of a mass storage command in this direction. `value` is
    /// the `bConfigurationValue`, and `commands` the endpoint that the command block was sent to.
    /// `None` unless that is an endpoint of a bulk-only interface.
    pub fn mass_storage_endpoint(
        &self,
        value: u8,
        commands: u8,
        direction: Direction,
    ) -> Option<u8> {
        let mut settings = self.parsed.configuration(value)?.settings.iter();
        let found = settings.find(|it| {
            (it.class, it.protocol) == (MASS_STORAGE, BULK_ONLY)
                && it.endpoints.iter().any(|endpoint| endpoint.address == commands)
        })?;
        if direction == Direction::Out {
            return Some(commands);
        }
        let mut bulk = found.endpoints.iter().filter(|it| it.transfer == TransferType::Bulk);
        bulk.find(|it| it.address & 0x80 != 0).map(|it| it.address)
    }
}

/// The speed to show to the guest, and whether it is lower than the real one.
fn guest_speed(native: Option<Native>) -> Result<(Speed, bool), ExportError> {
    match native {
        Some(Native::Low) => Ok((Speed::Low, false)),
        Some(Native::Full) => Ok((Speed::Full, false)),
        Some(Native::High) => Ok((Speed::High, false)),
        Some(_) => Ok((Speed::High, true)),
        None => Err(ExportError::UnknownSpeed),
    }
}

/// Splits a sequence of configurations. Each contains its own total length.
fn split_configurations(mut rest: &[u8]) -> Result<Vec<Vec<u8>>, ExportError> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = match rest.get(TOTAL_LENGTH..TOTAL_LENGTH + 2) {
            Some([low, high]) => usize::from(u16::from_le_bytes([*low, *high])),
            _ => return Err(malformed("a configuration is truncated")),
        };
        let (configuration, tail) = rest
            .split_at_checked(length.max(1))
            .ok_or_else(|| malformed("a configuration is truncated"))?;
        all.push(configuration.to_vec());
        rest = tail;
    }
    Ok(all)
}

fn malformed(why: &str) -> ExportError {
    ExportError::Malformed(why.to_owned())
}
