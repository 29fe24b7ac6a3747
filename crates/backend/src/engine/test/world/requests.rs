//! Requests of the simulated guest. The methods send a request and return its id.

use vusb_usbif::urb::{Direction, Kind, Segments, Setup, Transfer};

use super::{World, transfer};

impl World {
    /// A control request to the device in a port, at this address, with as much memory as it needs.
    pub(in super::super) fn control(&mut self, port: u8, address: u8, setup: Setup) -> u16 {
        let direction = setup.direction();
        let data = self.memory.buffer(direction, 0, setup.length.into());
        self.control_with(port, address, setup, data)
    }

    /// A control request whose data is in this memory.
    pub(in super::super) fn control_with(
        &mut self,
        port: u8,
        address: u8,
        setup: Setup,
        data: Segments,
    ) -> u16 {
        let direction = setup.direction();
        let transfer = transfer(port, 0, Kind::Control(setup), data);
        self.send(&Transfer { address, direction, ..transfer })
    }

    /// A bulk read of a stream, which may end short.
    pub(in super::super) fn read(&mut self, port: u8, bytes: usize) -> u16 {
        let data = self.memory.buffer(Direction::In, 0, bytes);
        self.send(&transfer(port, 0x81, Kind::Bulk, data))
    }

    /// A train of bulk reads: nothing may be read after a short one.
    pub(in super::super) fn train(&mut self, port: u8, lengths: &[usize]) -> Vec<u16> {
        let mut send = |bytes: &usize| {
            let data = self.memory.buffer(Direction::In, 0, *bytes);
            let transfer = transfer(port, 0x81, Kind::Bulk, data);
            self.send(&Transfer { short_not_ok: true, ..transfer })
        };
        lengths.iter().map(&mut send).collect()
    }

    /// A bulk write.
    pub(in super::super) fn write(&mut self, port: u8, bytes: &[u8]) -> u16 {
        let data = self.memory.buffer(Direction::Out, 0, bytes.len());
        self.memory.put(&data, bytes);
        self.send(&transfer(port, 0x02, Kind::Bulk, data))
    }

    /// An interrupt read.
    pub(in super::super) fn interrupt_read(&mut self, port: u8) -> u16 {
        let data = self.memory.buffer(Direction::In, 100, 8);
        self.send(&transfer(port, 0x83, Kind::Interrupt { interval: 4 }, data))
    }
}

/// `GET_DESCRIPTOR`.
pub(in super::super) fn descriptor(kind: u8, length: u16) -> Setup {
    Setup { request_type: 0x80, request: 6, value: u16::from(kind) << 8, index: 0, length }
}

/// `SET_ADDRESS`.
pub(in super::super) fn set_address(address: u16) -> Setup {
    Setup { request: 5, value: address, ..Setup::default() }
}

/// `SET_CONFIGURATION`.
pub(in super::super) fn set_configuration(value: u16) -> Setup {
    Setup { request: 9, value, ..Setup::default() }
}

/// `SET_INTERFACE`.
pub(in super::super) fn set_interface(interface: u16, alternate: u16) -> Setup {
    Setup { request_type: 1, request: 11, value: alternate, index: interface, length: 0 }
}

/// `CLEAR_FEATURE(ENDPOINT_HALT)`.
pub(in super::super) fn clear_halt(endpoint: u16) -> Setup {
    Setup { request_type: 2, request: 1, value: 0, index: endpoint, length: 0 }
}

/// A vendor request that reads this many bytes.
pub(in super::super) fn vendor_read(length: u16) -> Setup {
    Setup { request_type: 0xc0, request: 1, value: 2, index: 3, length }
}

/// A vendor request that writes this many bytes.
pub(in super::super) fn vendor_write(length: u16) -> Setup {
    Setup { request_type: 0x40, request: 1, value: 2, index: 3, length }
}
