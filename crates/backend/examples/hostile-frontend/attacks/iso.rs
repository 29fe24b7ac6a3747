//! Isochronous requests whose packet tables are invalid, or change while they are read.
//!
//! A stick has no isochronous endpoint. The backend still reads and checks the tables before the
//! kernel rejects the transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use vusb_usbif::urb::{Direction, Isochronous, Kind, RequestWords};
use vusb_xen::gntalloc::Shared;

use crate::frontend::Failure;
use crate::raw::{Random, Raw, encode, piece, readdress};

/// A request for 2 KiB in this many packets, which `table` describes.
fn request(raw: &Raw, table: &Shared, packets: u16, address: u8) -> RequestWords {
    let descriptors = piece(table, 0, packets.saturating_mul(16).min(2048));
    let iso = Isochronous { interval: 1, start_frame: 0, packets, descriptors };
    let data = piece(&raw.page, 2048, 2048);
    let mut words = encode(60, &raw.transfer(Kind::Isochronous(iso), 1, Direction::In, data));
    readdress(&mut words, address);
    words
}

fn write(table: &Shared, packet: usize, offset: u32, length: u32) {
    table.store(packet * 4, offset);
    table.store(packet * 4 + 1, length);
}

/// Packets outside the data, across its end, overlapping, and so long that the sum of their lengths
/// wraps around.
pub(crate) fn invalid_packets() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let table = raw.front.page(true)?;
    let tables = [
        [(u32::MAX, 1), (0, 1)],
        [(0, u32::MAX), (0, 1)],
        [(u32::MAX, u32::MAX), (1, 1)],
        [(2047, 2), (0, 0)],
        [(0, 2048), (0, 2048)],
        [(0, 0x8000_0000), (0, 0x8000_0000)],
        [(2048, 0), (2048, 0)],
    ];
    for table_entries in tables {
        for (packet, (offset, length)) in table_entries.into_iter().enumerate() {
            write(&table, packet, offset, length);
        }
        let words = request(&raw, &table, 2, address);
        raw.request(&words)?;
    }
    raw.verdict()
}

/// This many packets, with a table for at most 127.
pub(crate) fn packets(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let table = raw.front.page(true)?;
    let mut words = request(&raw, &table, 127, address);
    words.0[4] = words.0[4] & !0xffff | count & 0xffff;
    raw.send(&words)?;
    raw.verdict()
}

/// Another thread changes the table as fast as it can while requests are read.
pub(crate) fn change(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let table = Arc::new(raw.front.page(true)?);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(0x150);
            while !stop.load(Relaxed) {
                let value = [0, 1, 16, 2048, u32::MAX][random.below(5) as usize];
                table.store(random.below(512) as usize, value);
            }
        });
        let words = request(&raw, &table, 16, address);
        let result = (0..count).try_for_each(|_| raw.send_all(std::iter::once(words)).map(drop));
        stop.store(true, Relaxed);
        result
    })?;
    raw.verdict()
}
