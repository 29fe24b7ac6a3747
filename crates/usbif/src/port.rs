//! Ports of a virtual controller, and what can be plugged into them.

use std::fmt;

use thiserror::Error;

/// A port of a virtual controller, numbered from 1 like the guest's root hub ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(u8);

impl Port {
    /// The first port.
    pub const MIN: Self = Self(1);
    /// The last port that the five bits of a pipe can express (`XENUSB_PIPE_PORT_MASK`).
    pub const MAX: Self = Self(31);

    /// The port with this number.
    ///
    /// # Errors
    /// [`BadPort`] unless the number is 1 to 31.
    pub const fn new(number: u8) -> Result<Self, BadPort> {
        if number < Self::MIN.0 || number > Self::MAX.0 {
            return Err(BadPort { number });
        }
        Ok(Self(number))
    }

    /// The number, 1 to 31.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that is not a port number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("port {number} does not exist: a virtual USB controller has ports 1 to 31")]
pub struct BadPort {
    /// The number.
    pub number: u8,
}

/// What is plugged into a port, as the guest sees it. usbif has no SuperSpeed: such a device is
/// exported as a high-speed device or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Speed {
    /// Nothing (`XENUSB_SPEED_NONE`).
    None = 0,
    /// A device of 1.5 Mbit/s (`XENUSB_SPEED_LOW`).
    Low = 1,
    /// A device of 12 Mbit/s (`XENUSB_SPEED_FULL`).
    Full = 2,
    /// A device of 480 Mbit/s (`XENUSB_SPEED_HIGH`).
    High = 3,
}

impl Speed {
    /// The number on the wire.
    #[must_use]
    pub const fn wire(self) -> u8 {
        self as u8
    }

    /// The speed for a number on the wire.
    ///
    /// # Errors
    /// [`BadSpeed`] for a number above 3.
    pub const fn from_wire(number: u8) -> Result<Self, BadSpeed> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Low),
            2 => Ok(Self::Full),
            3 => Ok(Self::High),
            _ => Err(BadSpeed { number }),
        }
    }
}

/// A number that is not a speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unknown speed {number}: usbif has 0 (nothing), 1 (low), 2 (full) and 3 (high)")]
pub struct BadSpeed {
    /// The number.
    pub number: u8,
}
