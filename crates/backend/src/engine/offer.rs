//! What a guest is shown of a device.
//!
//! PVUSB ends at high speed: a SuperSpeed device is offered as a high-speed one, with the descriptors that it would have. And it has no way to
//! carry a device's wish to wake a sleeping host: with the attribute left in, Linux would put a keyboard to sleep and never hear of it again.

use thiserror::Error;
use vusb_host::descriptors::{self, Descriptors, Transfer};
use vusb_model::speed::Speed as Native;
use vusb_usbif::Speed;

use super::job::Chosen;

/// Length of a device descriptor in bytes (USB 2.0, table 9-8).
const DEVICE: usize = 18;
/// `wTotalLength` of a configuration descriptor begins here (USB 2.0, table 9-10); so do `bmAttributes`.
const TOTAL_LENGTH: usize = 2;
const ATTRIBUTES: usize = 7;
/// Bit 5 of `bmAttributes`: the device can wake the host.
const REMOTE_WAKEUP: u8 = 1 << 5;
/// Bits of `wMaxPacketSize` that are the size (USB 2.0, table 9-13).
const PACKET_SIZE: u16 = 0x7ff;

/// What a guest is shown of a device.
#[derive(Clone, Debug)]
pub struct Offer {
    speed: Speed,
    slowed: bool,
    device: Vec<u8>,
    configurations: Vec<Vec<u8>>,
    parsed: Descriptors,
    active: u8,
}

/// Why a device cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CannotOffer {
    /// The controller is one of USB 1.
    #[error(
        "it is a high-speed device and the controller is one of USB 1; plug it into one of USB 2"
    )]
    TooFast,
    /// It cannot be run slower.
    #[error(
        "it is a SuperSpeed device that cannot be run as one of USB 2; PVUSB has no SuperSpeed"
    )]
    OnlySuperSpeed,
    /// The kernel does not know its speed.
    #[error("its speed is not known")]
    NoSpeed,
    /// What it says of itself cannot be read.
    #[error("what it says of itself makes no sense: {0}")]
    Malformed(String),
}

impl Offer {
    /// What to show of a device with these descriptors (as sysfs has them), which runs at `native` speed in configuration `active`, on a
    /// controller of USB `version` (1 or 2).
    ///
    /// # Errors
    /// [`CannotOffer`]: such a controller cannot carry it.
    pub fn new(
        raw: &[u8],
        native: Option<Native>,
        active: u8,
        version: u8,
    ) -> Result<Offer, CannotOffer> {
        let (speed, slowed) = shown(native)?;
        if version < 2 && speed == Speed::High {
            return Err(CannotOffer::TooFast);
        }
        let (device, rest) = raw.split_at_checked(DEVICE).ok_or_else(|| malformed("too short"))?;
        let mut device = device.to_vec();
        let mut configurations = split(rest)?;
        if slowed {
            device = descriptors::as_high_speed(&device).ok_or(CannotOffer::OnlySuperSpeed)?;
            configurations = configurations
                .iter()
                .map(|it| descriptors::as_high_speed(it).ok_or(CannotOffer::OnlySuperSpeed))
                .collect::<Result<_, _>>()?;
        }
        for configuration in &mut configurations {
            if let Some(attributes) = configuration.get_mut(ATTRIBUTES) {
                *attributes &= !REMOTE_WAKEUP;
            }
        }
        let shown: Vec<u8> =
            device.iter().chain(configurations.iter().flatten()).copied().collect();
        let parsed = descriptors::parse(&shown).map_err(|it| malformed(&it.to_string()))?;
        Ok(Offer { speed, slowed, device, configurations, parsed, active })
    }

    /// The speed that the guest is told.
    pub const fn speed(&self) -> Speed {
        self.speed
    }

    /// Whether the device runs faster than the guest is told.
    pub const fn is_slowed(&self) -> bool {
        self.slowed
    }

    /// The device descriptor.
    pub fn device(&self) -> &[u8] {
        &self.device
    }

    /// The configuration descriptor of this index, with all that belongs to it.
    pub fn configuration(&self, index: u8) -> Option<&[u8]> {
        self.configurations.get(usize::from(index)).map(Vec::as_slice)
    }

    /// The configuration that this number chooses; `None` if there is none.
    pub fn chosen(&self, value: u8) -> Option<Chosen> {
        if value == 0 {
            return Some(Chosen { value, interfaces: Vec::new() });
        }
        let configuration = self.parsed.configuration(value)?;
        let mut numbers: Vec<u8> = configuration.settings.iter().map(|it| it.interface).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Some(Chosen { value, interfaces: numbers })
    }

    /// The configuration that the device was in when it was opened: 0 for none.
    pub fn active(&self) -> Chosen {
        self.chosen(self.active).unwrap_or(Chosen { value: 0, interfaces: Vec::new() })
    }

    /// The packet size in bytes of a bulk endpoint of a configuration, as the guest knows it.
    pub fn bulk_packet(&self, value: u8, endpoint: u8) -> Option<usize> {
        let settings = &self.parsed.configuration(value)?.settings;
        let mut endpoints = settings.iter().flat_map(|it| &it.endpoints);
        let found = endpoints.find(|it| it.address == endpoint && it.transfer == Transfer::Bulk)?;
        Some(usize::from(found.max_packet & PACKET_SIZE)).filter(|size| *size > 0)
    }
}

/// The speed to show, and whether it is a lower one.
fn shown(native: Option<Native>) -> Result<(Speed, bool), CannotOffer> {
    match native {
        Some(Native::Low) => Ok((Speed::Low, false)),
        Some(Native::Full) => Ok((Speed::Full, false)),
        Some(Native::High) => Ok((Speed::High, false)),
        Some(_) => Ok((Speed::High, true)),
        None => Err(CannotOffer::NoSpeed),
    }
}

/// The configurations, which follow one another, each as long as it says.
fn split(mut rest: &[u8]) -> Result<Vec<Vec<u8>>, CannotOffer> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = match rest.get(TOTAL_LENGTH..TOTAL_LENGTH + 2) {
            Some([low, high]) => usize::from(u16::from_le_bytes([*low, *high])),
            _ => return Err(malformed("a configuration is cut off")),
        };
        let (configuration, behind) = rest
            .split_at_checked(length.max(1))
            .ok_or_else(|| malformed("a configuration is cut off"))?;
        all.push(configuration.to_vec());
        rest = behind;
    }
    Ok(all)
}

fn malformed(why: &str) -> CannotOffer {
    CannotOffer::Malformed(why.to_owned())
}
