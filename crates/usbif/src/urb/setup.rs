//! Setup packets of control transfers (USB 2.0, section 9.3), and the standard requests that a
//! backend has to recognize.

/// The direction of data, from the guest's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the guest to the device. The guest grants its memory read-only.
    Out,
    /// From the device to the guest.
    In,
}

/// The eight bytes at the start of a control transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Setup {
    /// `bmRequestType`: bit 7 direction (1: IN), bits 5-6 type (0: standard), bits 0-4 recipient
    /// (0 device, 1 interface, 2 endpoint).
    pub request_type: u8,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
    /// `wLength`: bytes of the data stage.
    pub length: u16,
}

/// Standard requests that a backend has to recognize. On usbfs it executes SET_CONFIGURATION,
/// SET_INTERFACE and CLEAR_FEATURE with specific ioctls, so that the kernel's state of the device
/// remains correct. It answers SET_ADDRESS itself, and can answer GET_DESCRIPTOR itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardRequest {
    /// SET_ADDRESS. The address is only meaningful to the guest; it is never sent to the device.
    SetAddress {
        /// 0 to 127 from a correct guest, but any value is possible.
        address: u16,
    },
    /// SET_CONFIGURATION.
    SetConfiguration {
        /// `bConfigurationValue`; 0 removes the configuration. Values above 255 do not exist.
        value: u16,
    },
    /// SET_INTERFACE.
    SetInterface {
        /// `bInterfaceNumber`.
        interface: u16,
        /// `bAlternateSetting`.
        alternate: u16,
    },
    /// CLEAR_FEATURE(ENDPOINT_HALT).
    ClearHalt {
        /// `bEndpointAddress`: bit 7 direction (1: IN), bits 0-3 number.
        endpoint: u16,
    },
    /// GET_DESCRIPTOR of the device.
    GetDescriptor {
        /// 1 device, 2 configuration, 3 string, 6 device qualifier, 15 BOS.
        kind: u8,
        /// The index among descriptors of this kind.
        index: u8,
        /// The language of a string, otherwise 0.
        language: u16,
    },
}

/// `bmRequestType` of the standard requests above.
const TO_DEVICE: u8 = 0x00;
const TO_INTERFACE: u8 = 0x01;
const TO_ENDPOINT: u8 = 0x02;
const FROM_DEVICE: u8 = 0x80;

/// `bRequest` of the standard requests above (USB 2.0, table 9-4), and the feature selector (table
/// 9-6).
const CLEAR_FEATURE: u8 = 1;
const SET_ADDRESS: u8 = 5;
const GET_DESCRIPTOR: u8 = 6;
const SET_CONFIGURATION: u8 = 9;
const SET_INTERFACE: u8 = 11;
const ENDPOINT_HALT: u16 = 0;

impl Setup {
    /// Decodes the eight bytes. Every combination is a setup packet.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [request_type, request, value0, value1, index0, index1, length0, length1] = bytes;
        Self {
            request_type,
            request,
            value: u16::from_le_bytes([value0, value1]),
            index: u16::from_le_bytes([index0, index1]),
            length: u16::from_le_bytes([length0, length1]),
        }
    }

    /// The eight bytes, as they are sent to the device.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let [value0, value1] = self.value.to_le_bytes();
        let [index0, index1] = self.index.to_le_bytes();
        let [length0, length1] = self.length.to_le_bytes();
        [self.request_type, self.request, value0, value1, index0, index1, length0, length1]
    }

    /// The direction of the data stage, if there is one.
    #[must_use]
    pub const fn direction(self) -> Direction {
        if self.request_type & 0x80 == 0 { Direction::Out } else { Direction::In }
    }

    /// The standard request, if it is one that a backend has to recognize.
    #[must_use]
    pub const fn standard(self) -> Option<StandardRequest> {
        Some(match (self.request_type, self.request) {
            (TO_DEVICE, SET_ADDRESS) => StandardRequest::SetAddress { address: self.value },
            (TO_DEVICE, SET_CONFIGURATION) => {
                StandardRequest::SetConfiguration { value: self.value }
            }
            (TO_INTERFACE, SET_INTERFACE) => {
                StandardRequest::SetInterface { interface: self.index, alternate: self.value }
            }
            (TO_ENDPOINT, CLEAR_FEATURE) if self.value == ENDPOINT_HALT => {
                StandardRequest::ClearHalt { endpoint: self.index }
            }
            (FROM_DEVICE, GET_DESCRIPTOR) => {
                let [index, kind] = self.value.to_le_bytes();
                StandardRequest::GetDescriptor { kind, index, language: self.index }
            }
            _ => return None,
        })
    }
}
