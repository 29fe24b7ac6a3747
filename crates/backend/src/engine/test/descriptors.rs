//! Descriptors of the simulated devices.

use vusb_host::descriptors;

/// A high-speed device with endpoints of all types: bulk 0x81 and 0x02, interrupt 0x83, isochronous
/// 0x84 and 0x05. It supports remote wake-up.
pub(super) fn high_speed() -> Vec<u8> {
    let endpoints = [
        [7, 5, 0x81, 2, 0x00, 0x02, 0],
        [7, 5, 0x02, 2, 0x00, 0x02, 0],
        [7, 5, 0x83, 3, 8, 0, 4],
        [7, 5, 0x84, 1, 0x00, 0x04, 1],
        [7, 5, 0x05, 1, 0x00, 0x04, 1],
    ];
    device(0x0200, 64, &endpoints.concat(), 5)
}

/// A SuperSpeed stick: bulk 0x81 and 0x02 with packets of 1024 bytes, each with a companion
/// descriptor.
pub(super) fn super_speed() -> Vec<u8> {
    let companion = [6, 0x30, 15, 0, 0, 0];
    let input = [7, 5, 0x81, 2, 0x00, 0x04, 0];
    let output = [7, 5, 0x02, 2, 0x00, 0x04, 0];
    let endpoints = [&input[..], &companion, &output, &companion].concat();
    device(0x0310, 9, &endpoints, 2)
}

/// A mass storage device with configuration 1, which has interface 0 with these endpoints. `packet`
/// is `bMaxPacketSize0`.
fn device(version: u16, packet: u8, endpoints: &[u8], endpoint_count: u8) -> Vec<u8> {
    let [low, high] = version.to_le_bytes();
    let device = [18, 1, low, high, 0, 0, 0, packet, 0x81, 7, 0x81, 0x55, 0, 1, 1, 2, 3, 1];
    let interface = [9, 4, 0, 0, endpoint_count, 8, 6, 80, 0];
    let total = (9 + interface.len() + endpoints.len()) as u8;
    let configuration = [9, 2, total, 0, 1, 1, 0, 0xa0, 50];
    let all = [&device[..], &configuration, &interface, endpoints].concat();
    assert!(descriptors::parse(&all).is_ok());
    all
}
